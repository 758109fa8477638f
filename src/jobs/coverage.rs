//! What of an Engine no enabled backup set saves.
//!
//! Sets are planned as a backup plans them, so that this says nothing else than what a backup does. It only reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::engine::connect;
use super::error::JobError;
use crate::config::{BackupSet, Config, DEFAULT_ENGINE, Selection};
use crate::docker::{Discovery, discover};
use crate::model::application::ItemKind;
use crate::sources::plan::{PlanError, plan};

/// What is protected of one Engine, and what is not.
#[derive(Debug, Clone, Serialize)]
pub struct Coverage {
    /// Name of the Engine in the configuration.
    pub engine: String,
    /// The host's name in its snapshots.
    pub host: String,
    /// How much of each kind is saved by an enabled set.
    pub protected: BTreeMap<&'static str, usize>,
    /// What no enabled set saves, sorted.
    pub unprotected: Vec<Unprotected>,
    /// What could not be looked at, and sets that name what is not there.
    pub warnings: Vec<String>,
}

/// Something that no enabled set saves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unprotected {
    /// `container`, `volume` or `bind mount`.
    pub kind: &'static str,
    /// Its name or path.
    pub name: String,
    /// The application that it belongs to.
    pub application: String,
    /// Sets that would save it and are not enabled.
    pub disabled_sets: Vec<String>,
}

/// Kinds of what can be lost. Networks and logs come with containers; whatever else a container has is in its configuration.
const KINDS: [(ItemKind, &str); 3] = [(ItemKind::Configuration, "container"), (ItemKind::Volume, "volume"), (ItemKind::Bind, BIND)];
const BIND: &str = "bind mount";

/// Looks at the Engine that `config` describes, which is the one that its sets call `engine`.
///
/// # Errors
/// The Engine cannot be reached or used, or a set has a pattern that is none.
pub async fn coverage(config: &Config, engine: &str) -> Result<Coverage, JobError> {
    let discovery = discover(&connect(&config.docker).await?).await?;
    let sets = sets(config, engine);
    let mut warnings = discovery.warnings.clone();
    let mut saved = Saved::default();
    let mut disabled: Vec<(String, Saved)> = Vec::new();
    for set in &sets {
        let mut of_set = Saved::default();
        of_set.take(&discovery, set, &mut warnings)?;
        if set.enabled {
            saved.0.extend(of_set.0);
        } else {
            disabled.push((set.name.clone().unwrap_or_default(), of_set));
        }
    }
    // Paths are of this machine; so are the Engine's bind mounts, if it is here.
    let local = engine == DEFAULT_ENGINE;
    let paths = config.sets.iter().filter(|set| local && set.enabled).flat_map(|set| &set.selection.paths);
    let paths: Vec<_> = paths.collect();
    let mut protected: BTreeMap<&'static str, usize> = KINDS.iter().map(|(_, kind)| (*kind, 0)).collect();
    let mut unprotected = BTreeSet::new();
    for (kind, name, application) in everything(&discovery) {
        let item = (kind, name.to_owned());
        let by_path = kind == BIND && paths.iter().any(|path| Path::new(name).starts_with(path));
        if saved.has(&item) || by_path {
            *protected.entry(kind).or_default() += 1;
            continue;
        }
        let disabled_sets = disabled.iter().filter(|(_, saved)| saved.has(&item)).map(|(name, _)| name.clone()).collect();
        unprotected.insert(Unprotected { kind, name: item.1, application: application.to_owned(), disabled_sets });
    }
    Ok(Coverage {
        engine: engine.to_owned(),
        host: config.host.clone(),
        protected,
        unprotected: unprotected.into_iter().collect(),
        warnings,
    })
}

/// The sets of an Engine; without a configuration `backup` takes everything.
fn sets(config: &Config, engine: &str) -> Vec<BackupSet> {
    if config.source.is_none() {
        return vec![BackupSet { selection: Selection { everything: true, ..Selection::default() }, ..BackupSet::default() }];
    }
    let is_of = |set: &&BackupSet| set.engine.as_deref().unwrap_or(DEFAULT_ENGINE) == engine && set.selection.needs_docker();
    config.sets.iter().filter(is_of).cloned().collect()
}

/// Everything that can be lost: kind, name, application.
fn everything(discovery: &Discovery) -> impl Iterator<Item = (&'static str, &str, &str)> {
    discovery.applications.iter().flat_map(|application| {
        let name = application.name.as_str();
        let containers = application.containers.iter().map(move |one| ("container", one.name.as_str(), name));
        let volumes = application.volumes.iter().map(move |one| ("volume", one.name.as_str(), name));
        let binds = application.binds.iter().map(move |one| (BIND, one.path.as_str(), name));
        containers.chain(volumes).chain(binds)
    })
}

/// What sets save: kind and name.
#[derive(Default)]
struct Saved(BTreeSet<(&'static str, String)>);

impl Saved {
    /// Whether something is saved. A bind mount is saved with the one that it lies in, too.
    fn has(&self, item: &(&'static str, String)) -> bool {
        let around = || Path::new(&item.1).ancestors().skip(1).filter_map(Path::to_str);
        self.0.contains(item) || item.0 == BIND && around().any(|outer| self.0.contains(&(BIND, outer.to_owned())))
    }

    fn take(&mut self, discovery: &Discovery, set: &BackupSet, warnings: &mut Vec<String>) -> Result<(), JobError> {
        let planned = match plan(discovery, set) {
            Ok(planned) => planned,
            // A set that finds nothing saves nothing, which is just what is asked for here.
            Err(error @ PlanError::NoMatch { .. }) => {
                if set.enabled {
                    warnings.push(format!("the backup set `{}` saves nothing: {error}", set.name.as_deref().unwrap_or_default()));
                }
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for application in &planned.applications {
            for item in &application.items {
                let kind = KINDS.iter().find(|(kind, _)| *kind == item.kind);
                self.0.extend(kind.map(|(_, kind)| (*kind, item.name.clone())));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_bind_mount_that_is_saved_is_saved_with_it() {
        let saved = Saved([(BIND, "/srv/data".to_owned()), ("volume", "/srv/other".to_owned())].into());
        for (path, expected) in
            [("/srv/data", true), ("/srv/data/a/b", true), ("/srv/database", false), ("/srv", false), ("/srv/other/x", false)]
        {
            assert_eq!(saved.has(&(BIND, path.to_owned())), expected, "{path}");
        }
    }
}
