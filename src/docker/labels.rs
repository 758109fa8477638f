//! Reads the `bbackup.*` labels of containers into a typed policy; what cannot be read is a warning that names it.
//!
//! What a policy changes is decided by whoever plans (`sources/plan`) and quiesces.

use std::collections::BTreeMap;

use crate::model::application::Consistency;
use crate::model::text::printable;

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
    /// `bbackup.exclude`: patterns of files that are left out of all its volumes.
    pub exclude: Vec<String>,
    /// `bbackup.volumes.<name>.exclude`: what is left out of single volumes.
    pub volumes: BTreeMap<String, VolumeExclude>,
    /// `bbackup.exec-pre`: a command that runs in the container before it is read.
    pub exec_pre: Option<String>,
    /// `bbackup.exec-post`: a command that runs in the container after it was read.
    pub exec_post: Option<String>,
    /// `bbackup.database`: the kind of database in it.
    pub database: Option<String>,
}

/// What is left out of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeExclude {
    /// Everything (`true`).
    Everything,
    /// Files that match these patterns.
    Patterns(Vec<String>),
}

impl Policy {
    /// Reads the labels of `container`; the second part are the warnings.
    pub fn parse(container: &str, labels: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let mut policy = Self::default();
        let mut warnings = Vec::new();
        let (mut stop, mut pause) = (None, None);
        for (label, value) in labels {
            let Some(key) = label.strip_prefix(PREFIX) else { continue };
            let mut warn = |what: &str| {
                warnings.push(format!("container {container}: label {}: {what}", printable(label.as_bytes())));
            };
            let value = value.trim();
            let mut flag = || {
                let read = boolean(value);
                if read.is_none() {
                    warn(&format!("`{}` is neither true nor false; the label is ignored", printable(value.as_bytes())));
                }
                read
            };
            match key {
                "enable" => policy.enable = flag(),
                "stop" => stop = flag(),
                "pause" => pause = flag(),
                "set" => policy.sets = list(value),
                "exclude" if boolean(value).is_some() => {
                    warn("takes patterns of files; to leave out the whole container write bbackup.enable=false; the label is ignored");
                }
                "exclude" => policy.exclude = list(value),
                "exec-pre" => policy.exec_pre = text(value),
                "exec-post" => policy.exec_post = text(value),
                "database" => policy.database = text(value),
                // The helper's own mark is no wish.
                "helper" => {}
                _ => match key.strip_prefix("volumes.").and_then(|rest| rest.strip_suffix(".exclude")) {
                    Some(name) if !name.is_empty() => match boolean(value) {
                        Some(true) => drop(policy.volumes.insert(name.to_owned(), VolumeExclude::Everything)),
                        Some(false) => {}
                        None => drop(policy.volumes.insert(name.to_owned(), VolumeExclude::Patterns(list(value)))),
                    },
                    _ => warn("is not known; the label is ignored"),
                },
            }
        }
        policy.consistency = match (stop, pause) {
            (Some(true), Some(true)) => {
                warnings.push(format!("container {container}: labels bbackup.stop and bbackup.pause are both true; it is stopped"));
                Some(Consistency::Stop)
            }
            (Some(true), _) => Some(Consistency::Stop),
            (_, Some(true)) => Some(Consistency::Pause),
            (Some(false), _) => Some(Consistency::None),
            (None, _) => None,
        };
        (policy, warnings)
    }

    /// What of it this version does not do, one warning each; only said of containers that are saved.
    pub fn unsupported(&self, container: &str) -> Vec<String> {
        let labels = [("exec-pre", &self.exec_pre), ("exec-post", &self.exec_post), ("database", &self.database)];
        labels
            .iter()
            .filter(|(_, value)| value.is_some())
            .map(|(key, _)| format!("container {container}: label {PREFIX}{key} is not in this version and is ignored"))
            .collect()
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(labels: &[(&str, &str)]) -> (Policy, Vec<String>) {
        Policy::parse("web", &labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn good_labels_become_a_policy() {
        let (policy, warnings) = parse(&[
            ("bbackup.enable", "Yes"),
            ("bbackup.set", "nightly, weekly,"),
            ("bbackup.pause", "true"),
            ("bbackup.exclude", "*.tmp,cache/**"),
            ("bbackup.volumes.shop_db.data.exclude", "true"),
            ("bbackup.volumes.logs.exclude", "*.gz"),
            ("bbackup.exec-pre", "sync"),
            ("com.example", "x"),
        ]);
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(policy.enable, Some(true));
        assert_eq!(policy.sets, ["nightly", "weekly"]);
        assert_eq!(policy.consistency, Some(Consistency::Pause));
        assert_eq!(policy.exclude, ["*.tmp", "cache/**"]);
        assert_eq!(policy.volumes["shop_db.data"], VolumeExclude::Everything);
        assert_eq!(policy.volumes["logs"], VolumeExclude::Patterns(vec!["*.gz".to_owned()]));
        assert_eq!(policy.unsupported("web"), ["container web: label bbackup.exec-pre is not in this version and is ignored"]);
    }

    #[test]
    fn bad_labels_are_warnings_that_name_container_and_label() {
        for (key, value) in [
            ("bbackup.enable", "maybe"),
            ("bbackup.stop", ""),
            ("bbackup.exclude", "true"),
            ("bbackup.stpo", "true"),
            ("bbackup.volumes..exclude", "x"),
        ] {
            let (policy, warnings) = parse(&[(key, value)]);
            assert_eq!(policy, Policy::default(), "{key}");
            assert_eq!(warnings.len(), 1, "{key}");
            assert!(warnings[0].starts_with(&format!("container web: label {key}: ")), "{}", warnings[0]);
        }
    }

    #[test]
    fn stop_beats_pause_and_false_means_neither() {
        assert_eq!(parse(&[("bbackup.stop", "false")]).0.consistency, Some(Consistency::None));
        assert_eq!(parse(&[("bbackup.stop", "false"), ("bbackup.pause", "true")]).0.consistency, Some(Consistency::Pause));
        let (policy, warnings) = parse(&[("bbackup.stop", "true"), ("bbackup.pause", "true")]);
        assert_eq!((policy.consistency, warnings.len()), (Some(Consistency::Stop), 1));
    }
}
