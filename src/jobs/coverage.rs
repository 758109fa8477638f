//! What of an Engine no enabled backup set saves.
//!
//! Sets are planned as a backup plans them, so that this says nothing else than what a backup does. It only reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::backup::{USUAL_DATA_ROOT, filter_of, never_read_on};
use super::engine::connect;
use super::error::JobError;
use crate::config::{BackupSet, Config, DEFAULT_ENGINE, Selection};
use crate::docker::discover::links::Links;
use crate::docker::mountpoint::same_root;
use crate::docker::{Discovery, Engine, discover};
use crate::model::application::{Application, ItemKind, Volume};
use crate::model::text::printable;
use crate::platform::directories::Directories;
use crate::sources::filter::Case;
use crate::sources::host_path::reaches;
use crate::sources::plan::{PlanError, PlannedItem, plan};
use crate::sources::walk::WalkOptions;
use crate::sources::{Pruned, SourceError};

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
pub async fn coverage(config: &Config, engine: &str, directories: &Directories) -> Result<Coverage, JobError> {
    let connected = connect(&config.docker).await?;
    let (discovery, mut silent) = tokio::join!(discover(&connected), silent(&connected, config, directories));
    let discovery = discovery?;
    let mut warnings = discovery.warnings.clone();
    warnings.extend(silent.iter().map(|path| {
        let path = printable(path.as_bytes());
        format!("{path}: its file system does not answer, so that it cannot be seen what it leads to and what a set saves of it")
    }));
    silent.extend(discovery.links().unknown().iter().cloned());
    let silent = Arc::new(silent);
    let look = Look { seen: same_root(&connected).await, engine: &connected, discovery: &discovery, config, directories, silent };
    let (mut enabled, mut disabled) = (Vec::new(), Vec::new());
    for set in &sets(config, engine) {
        let saved = Saved::of(&look, set, &mut warnings).await?;
        if set.enabled {
            enabled.push(saved);
        } else {
            disabled.push((set.name.clone().unwrap_or_default(), saved));
        }
    }
    // Paths are of this machine; so are the Engine's bind mounts, if it is here.
    let mut paths = Vec::new();
    if engine == DEFAULT_ENGINE && connected.is_local() {
        for set in config.sets.iter().filter(|set| set.enabled && !set.selection.paths.is_empty()) {
            let rules = look.rules(set).await?;
            paths.extend(set.selection.paths.iter().map(|path| (path, rules.clone())));
        }
    }
    let mut protected: BTreeMap<&'static str, usize> = KINDS.iter().map(|(_, kind)| (*kind, 0)).collect();
    let mut unprotected = BTreeSet::new();
    for (kind, name, application) in everything(&discovery) {
        let item = (kind, name.to_owned());
        let by_path = kind == BIND && paths.iter().any(|(path, rules)| rules.give(path, Path::new(name), false));
        if enabled.iter().any(|saved| saved.has(&item)) || by_path {
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

/// What of the paths of sets and of our own lies on a file system that does not answer.
async fn silent(engine: &Engine, config: &Config, directories: &Directories) -> BTreeSet<String> {
    let own = [&directories.state, &directories.cache].into_iter().chain(config.repositories.iter().map(|one| &one.location));
    let named = own.chain(config.sets.iter().flat_map(|set| &set.selection.paths)).filter_map(|path| path.to_str().map(str::to_owned));
    Links::silent(engine, named.collect()).await
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
        // What lives in memory is lost anyway.
        let volumes = application.volumes.iter().filter(|one| !one.is_volatile()).map(move |one| ("volume", one.name.as_str(), name));
        let binds = application.binds.iter().map(move |one| (BIND, one.path.as_str(), name));
        containers.chain(volumes).chain(binds)
    })
}

/// What is looked at, and by what.
struct Look<'a> {
    engine: &'a Engine,
    discovery: &'a Discovery,
    config: &'a Config,
    directories: &'a Directories,
    /// Whether the Engine's files are seen from here.
    seen: bool,
    /// Paths that nobody may touch, as that may take for ever.
    silent: Arc<BTreeSet<String>>,
}

impl Look<'_> {
    /// What a set leaves out of what it chooses.
    async fn rules(&self, set: &BackupSet) -> Result<Rules, JobError> {
        let named = |name: &str| self.config.repositories.iter().find(|one| one.name.as_deref() == Some(name));
        let repository = set.repository.as_deref().and_then(named).or_else(|| self.config.default_repository());
        let own = [self.directories.state.as_path(), self.directories.cache.as_path()];
        let own = own.into_iter().chain(repository.map(|one| one.location.as_path()));
        let own: Vec<&Path> = own.filter(|path| !is_in(&self.silent, path)).collect();
        let data_root = if self.engine.is_local() { self.engine.data_root() } else { Path::new(USUAL_DATA_ROOT) };
        let never_read = never_read_on(&own, self.engine, self.discovery, data_root).await?;
        let walk = WalkOptions {
            one_file_system: set.filter.one_file_system,
            filter: Some(Arc::new(filter_of(set)?)),
            never_read: Arc::new(never_read),
            ..WalkOptions::default()
        };
        Ok(Rules { seen: self.seen, silent: Arc::clone(&self.silent), walk })
    }
}

/// What is left out of what is chosen.
#[derive(Clone)]
struct Rules {
    seen: bool,
    silent: Arc<BTreeSet<String>>,
    walk: WalkOptions,
}

impl Rules {
    fn exclude(&self, path: &str) -> bool {
        self.walk.filter.as_deref().is_some_and(|filter| filter.is_excluded(path.as_bytes()))
    }

    /// The same, and what labels leave out of one item.
    fn and(&self, patterns: &[String]) -> Result<Self, JobError> {
        let mut filter = self.walk.filter.as_deref().cloned().unwrap_or_default();
        for pattern in patterns {
            filter.exclude(pattern.as_bytes(), Case::Sensitive).map_err(SourceError::from)?;
        }
        Ok(Self {
            seen: self.seen,
            silent: Arc::clone(&self.silent),
            walk: WalkOptions { filter: Some(Arc::new(filter)), ..self.walk.clone() },
        })
    }

    /// Whether saving `outer` saves `inner`, a path in it or itself. Another file system is gone into for what was asked for `by_name`.
    fn give(&self, outer: &Path, inner: &Path, by_name: bool) -> bool {
        let is_silent = self.is_silent(outer) || self.is_silent(inner);
        if self.seen && !is_silent {
            return reaches(outer, inner, &self.walk, by_name);
        }
        let between = inner.ancestors().take_while(|path| path.starts_with(outer));
        inner.starts_with(outer)
            && !between.filter_map(Path::to_str).any(|path| self.exclude(path))
            && (is_silent || !matches!(self.walk.never_read.of_path(inner), Pruned::Whole(_)))
    }

    fn is_silent(&self, path: &Path) -> bool {
        is_in(&self.silent, path)
    }

    fn give_volume(&self, stored: &str, volume: &Volume) -> bool {
        let folder = volume.bound_folder().map(Path::new).filter(|folder| !self.is_silent(folder));
        let never = self.walk.never_read.of_volume(Path::new(&volume.mountpoint), folder);
        !self.exclude(stored) && !matches!(never, Pruned::Whole(_))
    }
}

fn is_in(paths: &BTreeSet<String>, path: &Path) -> bool {
    path.to_str().is_some_and(|path| paths.contains(path))
}

/// What a set saves.
#[derive(Default)]
struct Saved {
    /// Kind and name.
    items: BTreeSet<(&'static str, String)>,
    /// Bind mounts in which others may lie.
    binds: BTreeMap<String, Rules>,
}

impl Saved {
    /// Whether something is saved. A bind mount is saved with the one that it lies in, too, unless it is left out of that.
    fn has(&self, item: &(&'static str, String)) -> bool {
        let path = Path::new(&item.1);
        let around = || path.ancestors().skip(1).filter_map(Path::to_str);
        let gives = |outer: &str| self.binds.get(outer).is_some_and(|rules| rules.give(Path::new(outer), path, false));
        self.items.contains(item) || item.0 == BIND && around().any(gives)
    }

    async fn of(look: &Look<'_>, set: &BackupSet, warnings: &mut Vec<String>) -> Result<Self, JobError> {
        let mut saved = Self::default();
        let planned = match plan(look.discovery, set) {
            Ok(planned) => planned,
            // A set that finds nothing saves nothing, which is just what is asked for here.
            Err(error @ PlanError::NoMatch { .. }) => {
                if set.enabled {
                    warnings.push(format!("the backup set `{}` saves nothing: {error}", set.name.as_deref().unwrap_or_default()));
                }
                return Ok(saved);
            }
            Err(error) => return Err(error.into()),
        };
        let rules = look.rules(set).await?;
        for application in &planned.applications {
            for item in &application.items {
                saved.take(&application.application, item, &rules.and(&item.exclude)?);
            }
        }
        Ok(saved)
    }

    /// Takes what of an item a backup reads.
    fn take(&mut self, application: &Application, item: &PlannedItem, rules: &Rules) {
        let Some((_, kind)) = KINDS.iter().find(|(kind, _)| *kind == item.kind) else { return };
        let path = Path::new(&item.name);
        let is_read = match item.kind {
            ItemKind::Volume => application.volume(&item.name).is_none_or(|volume| rules.give_volume(&item.path, volume)),
            ItemKind::Bind => rules.give(path, path, true),
            _ => true,
        };
        if !is_read {
            return;
        }
        self.items.insert((kind, item.name.clone()));
        if item.kind == ItemKind::Bind {
            let inner = item.inner.iter().filter(|inner| rules.give(path, Path::new(inner), true));
            self.items.extend(inner.map(|inner| (BIND, inner.clone())));
            self.binds.insert(item.name.clone(), rules.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::sources::filter::Filter;

    #[test]
    fn what_lies_in_a_bind_mount_that_is_saved_is_saved_with_it_unless_it_is_left_out() {
        let mut filter = Filter::new();
        filter.exclude(b"/srv/data/cache", Case::Sensitive).unwrap();
        let rules =
            Rules { seen: false, silent: Arc::default(), walk: WalkOptions { filter: Some(Arc::new(filter)), ..WalkOptions::default() } };
        let saved = Saved {
            items: [(BIND, "/srv/data".to_owned()), ("volume", "/srv/other".to_owned())].into(),
            binds: [("/srv/data".to_owned(), rules.and(&["*.tmp".to_owned()]).unwrap())].into(),
        };
        for (path, expected) in [
            ("/srv/data", true),
            ("/srv/data/a/b", true),
            ("/srv/database", false),
            ("/srv", false),
            ("/srv/other/x", false),
            ("/srv/data/cache", false),
            ("/srv/data/cache/x", false),
            ("/srv/data/x.tmp", false),
        ] {
            assert_eq!(saved.has(&(BIND, path.to_owned())), expected, "{path}");
        }
    }
}
