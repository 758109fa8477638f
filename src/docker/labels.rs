//! Reads the labels of containers into a typed policy: bbackup's own, and those of other tools for which it stands in.
//! What cannot be read is a warning that names the label.
//!
//! What a policy changes is decided by whoever plans (`sources/plan`) and quiesces. Which labels other tools have, and what
//! they mean there, is in `aliases`.

mod aliases;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use self::read::{HookLabels, Reader};
use crate::model::application::{Consistency, SwarmTasks};
use crate::model::hook::Hook;

/// The label of helper containers; its value says which run made one (`helper`).
pub const HELPER_LABEL: &str = "bbackup.helper";
const PREFIX: &str = "bbackup.";

/// What the labels of one container ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// `bbackup.enable`: false leaves the container out of everything.
    pub enable: Option<bool>,
    /// `bbackup.set`: the backup sets that it joins.
    pub sets: Vec<String>,
    /// `bbackup.stop` and `bbackup.pause`: how it is kept from writing, whatever its set says.
    pub consistency: Option<Consistency>,
    /// `bbackup.swarm`: what is done to it as a task of a swarm, whatever the configuration says.
    pub swarm: Option<SwarmTasks>,
    /// `bbackup.stop-timeout`: how long it may take to stop, whatever the configuration says.
    pub stop_timeout: Option<Duration>,
    /// `bbackup.priority`: among containers that do not depend on each other, a higher one is stopped earlier and started
    /// later. Without the label it is [`DEFAULT_PRIORITY`].
    pub priority: Option<i64>,
    /// `bbackup.exclude`: patterns of files that are left out of all its volumes.
    pub exclude: Vec<String>,
    /// `bbackup.volumes.<name>.exclude`: what is left out of single volumes.
    pub volumes: BTreeMap<String, VolumeExclude>,
    /// `bbackup.exec-pre`: a command that runs in the container before it is stopped.
    pub exec_pre: Option<Hook>,
    /// `bbackup.exec-post`: a command that runs in the container after it was started again.
    pub exec_post: Option<Hook>,
    /// `bbackup.database`: the kind of database in it.
    pub database: Option<String>,
    /// Which of its volumes another tool's labels choose.
    chosen_volumes: ChosenVolumes,
    /// The label that gave `enable`, where it is not our own.
    enable_label: Option<String>,
    /// Labels that ask for what bbackup does not do, one sentence each.
    unsupported: Vec<String>,
}

/// Priority of a container that does not say any.
pub const DEFAULT_PRIORITY: i64 = 100;

/// What is left out of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeExclude {
    /// Everything (`true`).
    Everything,
    /// Files that match these patterns.
    Patterns(Vec<String>),
}

/// The volumes of a container that labels choose as a whole, by parts of their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct ChosenVolumes {
    /// Whether they are wanted at all; none: nothing is said.
    wanted: Option<bool>,
    /// Only these, if any.
    include: Vec<String>,
    /// Not these.
    exclude: Vec<String>,
}

impl Policy {
    /// Reads the labels of `container`; the second part are the warnings.
    ///
    /// A label of our own beats one of another tool.
    pub fn parse(container: &str, labels: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let mut reader = Reader::new(container, labels);
        let own = Self::own(&mut reader);
        let others = aliases::read(&mut reader);
        let policy = own.or(others);
        (policy, reader.warnings)
    }

    /// Reads the labels of a service of a swarm itself, not of its containers; the second part are the warnings. Only what is said
    /// of scaling it counts.
    pub fn of_service(service: &str, labels: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let mut reader = Reader::of("service", service, labels);
        let mut policy = Self::default();
        if let Some(value) = labels.get("bbackup.swarm") {
            policy.swarm = reader.swarm("bbackup.swarm", value);
        }
        let policy = policy.or(aliases::of_service(&mut reader));
        (policy, reader.warnings)
    }

    fn own(reader: &mut Reader<'_>) -> Self {
        let mut policy = Self::default();
        let (mut stop, mut pause) = (None, None);
        let (mut pre, mut post) = (HookLabels::default(), HookLabels::default());
        for (label, value) in reader.labels {
            let Some(key) = label.strip_prefix(PREFIX) else { continue };
            match key {
                "enable" => policy.enable = reader.flag(label, value),
                "stop" => stop = reader.flag(label, value),
                "pause" => pause = reader.flag(label, value),
                "swarm" => policy.swarm = reader.swarm(label, value),
                "stop-timeout" => policy.stop_timeout = reader.duration(label, value),
                "priority" => policy.priority = reader.number(label, value),
                "set" => policy.sets = read::list(value),
                "exclude" if read::boolean(value).is_some() => {
                    reader.warn(
                        label,
                        "takes patterns of files; to leave out the whole container write bbackup.enable=false; the label is ignored",
                    );
                }
                "exclude" => policy.exclude = reader.patterns(label, value),
                "exec-pre" => pre.command = reader.command(label, value),
                "exec-pre.user" => pre.user = reader.text(label, value),
                "exec-pre.timeout" => pre.timeout = reader.duration(label, value),
                "exec-post" => post.command = reader.command(label, value),
                "exec-post.user" => post.user = reader.text(label, value),
                "exec-post.timeout" => post.timeout = reader.duration(label, value),
                "database" => policy.database = reader.text(label, value),
                // The helper's own mark is no wish.
                "helper" => {}
                _ => match key.strip_prefix("volumes.").and_then(|rest| rest.strip_suffix(".exclude")) {
                    Some(name) if !name.is_empty() => match read::boolean(value) {
                        Some(true) => drop(policy.volumes.insert(name.to_owned(), VolumeExclude::Everything)),
                        Some(false) => {}
                        None => {
                            let patterns = reader.patterns(label, value);
                            policy.volumes.insert(name.to_owned(), VolumeExclude::Patterns(patterns));
                        }
                    },
                    _ => reader.warn(label, "is not known; the label is ignored"),
                },
            }
        }
        policy.exec_pre = pre.hook(reader, "bbackup.exec-pre");
        policy.exec_post = post.hook(reader, "bbackup.exec-post");
        policy.consistency = match (stop, pause) {
            (Some(true), Some(true)) => {
                reader.say("labels bbackup.stop and bbackup.pause are both true; it is stopped");
                Some(Consistency::Stop)
            }
            (Some(true), _) => Some(Consistency::Stop),
            (_, Some(true)) => Some(Consistency::Pause),
            (Some(false), _) => Some(Consistency::None),
            (None, _) => None,
        };
        if policy.database.is_some() {
            policy.unsupported.push("label bbackup.database is not in this version and is ignored".to_owned());
        }
        policy
    }

    /// This policy, and what it does not say from another one.
    fn or(self, other: Self) -> Self {
        Self {
            enable_label: if self.enable.is_some() { self.enable_label } else { other.enable_label },
            enable: self.enable.or(other.enable),
            sets: self.sets,
            consistency: self.consistency.or(other.consistency),
            swarm: self.swarm.or(other.swarm),
            stop_timeout: self.stop_timeout.or(other.stop_timeout),
            priority: self.priority.or(other.priority),
            exclude: self.exclude,
            volumes: self.volumes,
            exec_pre: self.exec_pre.or(other.exec_pre),
            exec_post: self.exec_post.or(other.exec_post),
            database: self.database.or(other.database),
            chosen_volumes: other.chosen_volumes,
            unsupported: self.unsupported.into_iter().chain(other.unsupported).collect(),
        }
    }

    /// The label that says whether the container takes part.
    pub fn enable_label(&self) -> &str {
        self.enable_label.as_deref().unwrap_or("bbackup.enable")
    }

    /// The label by which all of a volume is left out, if one says so.
    pub fn leaves_out(&self, volume: &str) -> Option<String> {
        match self.volumes.get(volume) {
            Some(VolumeExclude::Everything) => Some(format!("bbackup.volumes.{volume}.exclude")),
            _ => None,
        }
    }

    /// The label of another tool that does not want a volume. Others that mount it may still want it.
    pub fn does_not_choose(&self, volume: &str) -> Option<&'static str> {
        let ChosenVolumes { wanted, include, exclude } = &self.chosen_volumes;
        let matches = |parts: &[String]| parts.iter().any(|part| volume.contains(part.as_str()));
        if *wanted == Some(false) {
            Some("stack-back.volumes")
        } else if !include.is_empty() {
            // As there: with a list of what is wanted, the other list does not count.
            (!matches(include)).then_some("stack-back.volumes.include")
        } else {
            matches(exclude).then_some("stack-back.volumes.exclude")
        }
    }

    /// What of it this version does not do, one warning each; only said of containers that are saved.
    pub fn unsupported(&self, container: &str) -> Vec<String> {
        self.unsupported.iter().map(|sentence| format!("container {container}: {sentence}")).collect()
    }
}
