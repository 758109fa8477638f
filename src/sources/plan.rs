//! Decides what of a host a backup set saves: from what was discovered and what was chosen to applications with items.
//!
//! Nothing is read here, so a dry run shows exactly this.

use std::collections::BTreeSet;
use std::path::Path;

use super::image;
use crate::config::{BackupSet, Images, Scope};
use crate::docker::Discovery;
use crate::docker::discover::binds::{Belongs, belongs, data_path};
use crate::model::application::{Application, ApplicationKind, Bind, Container, ItemKind, LeftOut, MountKind, Network, Volume};
use crate::model::text::printable;

mod choice;
mod excluded;
mod hooks;

use choice::{Choice, Patterns};
pub use choice::{Miss, PlanError};
use excluded::Excluded;

/// What one set saves of an Engine.
#[derive(Debug)]
pub struct BackupPlan {
    /// The applications, sorted by name. None of them is without items.
    pub applications: Vec<PlannedApplication>,
    /// What somebody should do something about, one sentence each.
    pub warnings: Vec<String>,
    /// What is worth knowing and nobody's fault, one sentence each: what is left out, and what cannot be brought back.
    pub notes: Vec<String>,
}

/// One application and what is saved of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedApplication {
    /// All of the application, whatever is saved of it.
    pub application: Application,
    /// What is saved: networks, configurations, logs, compose files, then volumes.
    pub items: Vec<PlannedItem>,
    /// Whether all of its containers, volumes and networks were chosen, but for what labels or the set leave out.
    pub whole: bool,
    /// What labels or the set leave out.
    pub left_out: LeftOut,
    /// Whether it was chosen as a compose project, and no container of it is there.
    pub deserted: bool,
}

impl PlannedApplication {
    /// The volumes that are saved.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        let saved = |volume: &&Volume| self.items.iter().any(|item| item.kind == ItemKind::Volume && item.name == volume.name);
        self.application.volumes.iter().filter(saved)
    }

    /// The bind mounts that are saved.
    pub fn binds(&self) -> impl Iterator<Item = &Bind> {
        let saved = |bind: &&Bind| self.items.iter().any(|item| item.kind == ItemKind::Bind && item.name == bind.path);
        self.application.binds.iter().filter(saved)
    }

    /// Names of the containers, of whatever application, that can write to the volumes, bind mounts and layers that are saved.
    /// They are what has to be kept from writing.
    pub fn writers(&self) -> BTreeSet<&str> {
        let layers = self.items.iter().filter(|item| item.kind == ItemKind::Layer).map(|item| item.name.as_str());
        let of_volumes = self.volumes().flat_map(Volume::everybody);
        of_volumes
            .chain(self.binds().flat_map(|bind| &bind.users))
            .filter(|user| !user.read_only)
            .map(|user| user.container.as_str())
            .chain(layers)
            .collect()
    }
}

/// One thing that is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedItem {
    /// What it is.
    pub kind: ItemKind,
    /// Name of the container, volume, network or project; path of a bind mount.
    pub name: String,
    /// Absolute path in the snapshot.
    pub path: String,
    /// Patterns of what labels leave out of a volume or bind mount, besides those of the set.
    pub exclude: Vec<String>,
    /// Bind mounts that were chosen too and lie in this one: they are saved with it, or it is not whole.
    pub inner: Vec<String>,
}

/// Plans what `set` saves. A set without a name was put together on the command line: every name in it must be there.
///
/// # Errors
/// A pattern is malformed; something was named that is not there; nothing at all was chosen.
pub fn plan(discovery: &Discovery, set: &BackupSet) -> Result<BackupPlan, PlanError> {
    let mut patterns = Patterns::parse(&set.selection)?;
    let choice = Choice::make(discovery, &mut patterns, set.name.as_deref());
    let misses = patterns.misses(discovery);
    let mut warnings: Vec<String> = choice.warnings.clone();
    if set.name.is_none() && !misses.is_empty() {
        return Err(PlanError::NoMatch { misses });
    }
    let mut notes = Vec::new();
    let mut left_out = Vec::new();
    let all = discovery.applications.iter();
    let applications: Vec<PlannedApplication> =
        all.filter_map(|application| planned(discovery, application, &choice, &set.scope, &mut left_out)).collect();
    for container in discovery.containers().filter(|container| choice.containers.contains(container.name.as_str())) {
        warnings.extend_from_slice(discovery.label_warnings(&container.name));
        warnings.extend(discovery.policy(&container.name).into_iter().flat_map(|policy| policy.unsupported(&container.name)));
        notes.extend(unsaved(container, &set.scope));
    }
    notes.extend(choice.notes.iter().cloned());
    notes.extend(left_out);
    let (of_engine, to_do) = of_engine(discovery, &applications, &set.scope);
    notes.extend(of_engine);
    warnings.extend(to_do);
    if applications.is_empty() && !misses.is_empty() {
        return Err(PlanError::NoMatch { misses });
    }
    warnings.extend(misses.into_iter().map(|miss| miss.to_string()));
    warnings.extend(hooks::misses(set, &choice, &applications));
    Ok(BackupPlan { applications, warnings, notes })
}

/// What is true of everything on this Engine: notes and warnings.
fn of_engine(discovery: &Discovery, applications: &[PlannedApplication], scope: &Scope) -> (Vec<String>, Vec<String>) {
    let (mut notes, mut warnings) = (Vec::new(), Vec::new());
    let has = |kinds: &[ItemKind]| applications.iter().flat_map(|application| &application.items).any(|item| kinds.contains(&item.kind));
    if let Some(ids) = discovery.engine.user_namespace.as_ref().filter(|_| has(&[ItemKind::Volume, ItemKind::Bind])) {
        notes.push(format!(
            "the Docker Engine maps user ids (userns-remap): files are saved with the owners that they have on the host, where root of a \
             container is {ids}; restore them onto an Engine with the same mapping, or change their owners afterwards"
        ));
    }
    let of_containers = applications.iter().any(|application| !application.application.containers.is_empty());
    if discovery.engine.containerd_images && of_containers && (scope.configs || scope.images == Images::Local) {
        let fact = "the Docker Engine keeps its images with containerd, which gives digests also to those that were only built here";
        match scope.images {
            Images::Local => warnings.push(format!("{fact}: `scope.images: local` does not save these, keep what they are built from")),
            Images::None => notes.push(format!("{fact}: which of them a restore could not pull is not known")),
        }
    }
    (notes, warnings)
}

fn planned(
    discovery: &Discovery,
    application: &Application,
    choice: &Choice<'_>,
    scope: &Scope,
    notes: &mut Vec<String>,
) -> Option<PlannedApplication> {
    let chosen_container = |container: &Container| choice.containers.contains(container.name.as_str());
    let chosen_volume = |volume: &Volume| choice.volumes.contains(volume.name.as_str());
    let chosen_network = |network: &Network| choice.networks(application).contains(network.name.as_str());
    let item = |kind, name: &str, path: String| PlannedItem { kind, name: name.to_owned(), path, exclude: Vec::new(), inner: Vec::new() };
    let mut items = Vec::new();
    if scope.networks {
        let networks = application.networks.iter().filter(|network| chosen_network(network));
        items.extend(networks.map(|network| item(ItemKind::Network, &network.name, application.network_path(&network.name))));
    }
    let containers: Vec<&Container> = application.containers.iter().filter(|container| chosen_container(container)).collect();
    if scope.configs {
        items.extend(containers.iter().map(|one| item(ItemKind::Configuration, &one.name, application.inspect_path(&one.name))));
    }
    if scope.logs {
        items.extend(containers.iter().map(|one| item(ItemKind::Logs, &one.name, application.logs_path(&one.name))));
    }
    if scope.images == Images::Local {
        items.extend(image::local(&containers).into_iter().map(|(name, _)| item(ItemKind::Image, &name, application.image_path(&name))));
    }
    if scope.compose
        && !containers.is_empty()
        && let Some(compose) = application.compose.as_ref().filter(|compose| !compose.config_files.is_empty())
    {
        items.push(item(ItemKind::Compose, &compose.project, application.compose_path()));
    }
    if scope.volumes {
        let (in_memory, kept): (Vec<&Volume>, Vec<&Volume>) =
            application.volumes.iter().filter(|volume| chosen_volume(volume)).partition(|volume| volume.is_volatile());
        let name = |volume: &Volume| printable(volume.name.as_bytes());
        notes.extend(in_memory.iter().map(|one| format!("volume {} lives in memory: it is not saved, and comes back empty", name(one))));
        for volume in kept {
            let mut item = item(ItemKind::Volume, &volume.name, application.volume_path(&volume.name));
            let excluded = Excluded::of_volume(discovery, choice, volume);
            item.exclude = excluded.patterns;
            notes.extend(excluded.notes);
            items.push(item);
        }
    }
    if scope.layers {
        items.extend(containers.iter().map(|one| item(ItemKind::Layer, &one.name, application.layer_path(&one.name))));
    }
    if scope.binds {
        for (bind, inner) in chosen_binds(application, choice) {
            let mut item = item(ItemKind::Bind, &bind.path, application.bind_path(&bind.path));
            item.inner = inner;
            let excluded = Excluded::of_bind(discovery, choice, bind);
            item.exclude = excluded.patterns;
            notes.extend(excluded.notes);
            items.push(item);
        }
    }
    if items.is_empty() {
        return None;
    }
    let left_out = choice.left_out(application);
    let of_nobody_else =
        |network: &Network| !network.containers.is_empty() && network.containers.iter().all(|name| left_out.containers.contains(name));
    let no_containers = application.kind == ApplicationKind::Project && application.containers.is_empty();
    let is_chosen = choice.is_whole(application);
    // Of a project without containers its volumes are only what it has left.
    let whole = (is_chosen || !no_containers)
        && application.containers.iter().all(|one| chosen_container(one) || left_out.containers.contains(&one.name))
        && application.volumes.iter().all(|one| chosen_volume(one) || left_out.volumes.contains(&one.name))
        && application.networks.iter().all(|one| chosen_network(one) || of_nobody_else(one));
    Some(PlannedApplication { application: application.clone(), items, whole, left_out, deserted: no_containers && is_chosen })
}

/// The bind mounts of an application that chosen containers mount, each with those that lie in it: these are no items of their own.
fn chosen_binds<'a>(application: &'a Application, choice: &Choice<'_>) -> Vec<(&'a Bind, Vec<String>)> {
    let chosen = |bind: &&Bind| choice.binds.contains(bind.path.as_str());
    let mut kept: Vec<(&Bind, Vec<String>)> = Vec::new();
    for bind in application.binds.iter().filter(chosen) {
        match kept.iter_mut().find(|(outer, _)| Path::new(&bind.path).starts_with(&outer.path)) {
            Some((_, inner)) => inner.push(bind.path.clone()),
            None => kept.push((bind, Vec::new())),
        }
    }
    kept
}

/// What of a chosen container is not saved, or could not be brought back.
fn unsaved(container: &Container, scope: &Scope) -> Vec<String> {
    let mut notes = Vec::new();
    for mount in container.mounts.iter().filter(|mount| mount.kind == MountKind::Bind) {
        let reason = match belongs(&mount.source) {
            Belongs::Running => continue,
            Belongs::Machine => ": it is the machine's own",
            Belongs::Data if scope.binds && data_path(mount).is_some() => continue,
            Belongs::Data => "",
        };
        let path = printable(mount.source.as_bytes());
        notes.push(format!("container {}: the bind mount {path} is not saved with it{reason}", container.name));
    }
    for mount in container.mounts.iter().filter(|mount| scope.configs && mount.kind == MountKind::Image) {
        let path = printable(mount.destination.as_bytes());
        notes.push(format!(
            "container {}: the image that it mounts at {path} is not saved, a restore needs it on the Engine",
            container.name
        ));
    }
    let image = printable(container.image.reference.as_bytes());
    if scope.configs && !container.image.present && container.image.digests.is_empty() {
        notes.push(format!(
            "container {}: its image {image} is not on the Engine any more, a restore may find another of that name or none",
            container.name
        ));
    } else if scope.configs && container.image.digests.is_empty() && scope.images == Images::None {
        notes.push(format!("container {}: its image {image} is from no registry, a restore needs it on the Engine", container.name));
    }
    notes
}

#[cfg(test)]
mod tests;
