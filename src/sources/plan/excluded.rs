//! What labels of containers leave out of the volumes and bind mounts that they mount.
//!
//! Which volumes labels leave out as a whole is decided in `choice`.

use super::choice::Choice;
use crate::docker::Discovery;
use crate::docker::discover::binds::data_path;
use crate::docker::labels::VolumeExclude;
use crate::model::application::{Bind, Container, Volume};
use crate::model::text::printable;

/// The label that is about all that a container mounts.
const EXCLUDE_LABEL: &str = "bbackup.exclude";

/// Patterns that labels leave out of one item.
#[derive(Debug, Default)]
pub(super) struct Excluded {
    /// Sorted.
    pub(super) patterns: Vec<String>,
    /// Which container's label does it, one sentence each.
    pub(super) notes: Vec<String>,
}

impl Excluded {
    /// What is left out of a volume by the chosen containers that mount it. Nobody speaks for what others chose.
    pub(super) fn of_volume(discovery: &Discovery, choice: &Choice<'_>, volume: &Volume) -> Self {
        let mut excluded = Self::default();
        let label = format!("bbackup.volumes.{}.exclude", volume.name);
        for container in chosen(discovery, choice).filter(|container| container.volume_names().any(|name| name == volume.name)) {
            let Some(policy) = discovery.policy(&container.name) else { continue };
            excluded.take("volume", &volume.name, container, EXCLUDE_LABEL, &policy.exclude);
            if let Some(VolumeExclude::Patterns(patterns)) = policy.volumes.get(&volume.name) {
                excluded.take("volume", &volume.name, container, &label, patterns);
            }
        }
        excluded.sorted()
    }

    /// What is left out of a bind mount by the chosen containers that mount this very path, not one around or within it.
    pub(super) fn of_bind(discovery: &Discovery, choice: &Choice<'_>, bind: &Bind) -> Self {
        let mut excluded = Self::default();
        let mounts = |container: &&Container| container.mounts.iter().filter_map(data_path).any(|path| path == bind.path);
        for container in chosen(discovery, choice).filter(mounts) {
            let Some(policy) = discovery.policy(&container.name) else { continue };
            excluded.take("bind mount", &bind.path, container, EXCLUDE_LABEL, &policy.exclude);
        }
        excluded.sorted()
    }

    fn take(&mut self, kind: &str, name: &str, container: &Container, label: &str, patterns: &[String]) {
        if !patterns.is_empty() {
            let (name, patterns_shown) = (printable(name.as_bytes()), printable(patterns.join(", ").as_bytes()));
            self.notes.push(format!("{kind} {name}: the label {label} of container {} leaves out {patterns_shown}", container.name));
            self.patterns.extend(patterns.iter().cloned());
        }
    }

    fn sorted(mut self) -> Self {
        self.patterns.sort_unstable();
        self.patterns.dedup();
        self
    }
}

fn chosen<'a>(discovery: &'a Discovery, choice: &Choice<'_>) -> impl Iterator<Item = &'a Container> {
    discovery.containers().filter(|container| choice.containers.contains(container.name.as_str()))
}
