//! Labels of other backup tools, read in place of our own: those of offen/docker-volume-backup, stack-back and nautical.
//!
//! They never choose anything: they count only for containers that a set or the command line has chosen. What only makes
//! sense inside the other tool (its folders, its rsync) is passed over without a word; what it would do to the container and
//! bbackup does not do is said.

use super::Policy;
use super::read::{self, HookLabels, Reader};
use crate::model::application::{Consistency, SwarmTasks};

/// What the labels of all other tools ask for. Where two tools' labels contradict each other, the first of offen's,
/// stack-back's and nautical's counts, except that whoever wants a stop gets it.
pub(super) fn read(reader: &mut Reader<'_>) -> Policy {
    let found = [offen(reader), stack_back(reader), nautical(reader)];
    let mut wanted: Vec<Consistency> = found.iter().filter_map(|policy| policy.consistency).collect();
    wanted.dedup();
    let stops = wanted.len() > 1;
    if stops {
        reader.say("labels of several backup tools contradict each other about stopping it; it is stopped");
    }
    let mut policy = found.into_iter().fold(Policy::default(), |all, next| {
        let chosen_volumes = if all.chosen_volumes == super::ChosenVolumes::default() { &next } else { &all }.chosen_volumes.clone();
        Policy { chosen_volumes, ..all.or(next) }
    });
    if stops {
        policy.consistency = Some(Consistency::Stop);
    }
    policy
}

/// What offen's label asks for on a service itself: there the service is scaled to 0 and back.
pub(super) fn of_service(reader: &mut Reader<'_>) -> Policy {
    let stops = reader.labels.get("docker-volume-backup.stop-during-backup").filter(|value| !value.trim().is_empty());
    if stops.is_none_or(|value| read::boolean(value) == Some(false)) {
        return Policy::default();
    }
    Policy { consistency: Some(Consistency::Stop), swarm: Some(SwarmTasks::Scale), ..Policy::default() }
}

/// `docker-volume-backup.*`
fn offen(reader: &mut Reader<'_>) -> Policy {
    const PREFIX: &str = "docker-volume-backup.";
    let mut policy = Policy::default();
    let (mut pre, mut post) = (HookLabels::default(), HookLabels::default());
    let (mut old_pre, mut old_post) = (None, None);
    for (label, value) in reader.labels {
        let Some(key) = label.strip_prefix(PREFIX) else { continue };
        match key {
            // The value is `true`, or the name of one of several schedules.
            "stop-during-backup" => match read::boolean(value) {
                Some(false) => policy.consistency = policy.consistency.or(Some(Consistency::None)),
                None if value.trim().is_empty() => reader.warn(label, "is empty; the label is ignored"),
                _ => policy.consistency = Some(Consistency::Stop),
            },
            "stop-during-backup-no-restart" if read::boolean(value) != Some(false) => {
                policy.consistency = Some(Consistency::Stop);
                policy.unsupported.push(format!("label {label}: bbackup starts again what it has stopped"));
            }
            "archive-pre" => pre.command = reader.split_command(label, value),
            "archive-pre.user" => pre.user = reader.text(label, value),
            "archive-post" => post.command = reader.split_command(label, value),
            "archive-post.user" => post.user = reader.text(label, value),
            "exec-pre" => old_pre = reader.split_command(label, value),
            "exec-post" => old_post = reader.split_command(label, value),
            "process-pre" | "process-post" | "copy-pre" | "copy-post" | "prune-pre" | "prune-post" => {
                policy.unsupported.push(format!("label {label}: bbackup has no such step, and the command is not run"));
            }
            // Which of several instances of that tool is meant, and words of its own.
            _ => {}
        }
    }
    pre.command = pre.command.or(old_pre);
    post.command = post.command.or(old_post);
    policy.exec_pre = pre.hook(reader, "docker-volume-backup.archive-pre");
    policy.exec_post = post.hook(reader, "docker-volume-backup.archive-post");
    policy
}

/// `stack-back.*`
fn stack_back(reader: &mut Reader<'_>) -> Policy {
    const PREFIX: &str = "stack-back.";
    let mut policy = Policy::default();
    for (label, value) in reader.labels {
        let Some(key) = label.strip_prefix(PREFIX) else { continue };
        match key {
            "volumes" => policy.chosen_volumes.wanted = reader.flag(label, value),
            "volumes.include" => policy.chosen_volumes.include = read::list(value),
            "volumes.exclude" => policy.chosen_volumes.exclude = read::list(value),
            "volumes.stop-during-backup" => policy.consistency = reader.flag(label, value).map(consistency),
            "mysql" | "mariadb" | "postgres" if reader.flag(label, value) == Some(true) => {
                policy.database = Some(key.to_owned());
                policy.unsupported.push(format!("label {label} is not in this version and is ignored"));
            }
            _ => {}
        }
    }
    policy
}

/// `nautical-backup.*`
fn nautical(reader: &mut Reader<'_>) -> Policy {
    const PREFIX: &str = "nautical-backup.";
    let mut policy = Policy::default();
    let (mut pre, mut post) = (HookLabels::default(), HookLabels::default());
    for (label, value) in reader.labels {
        let Some(key) = label.strip_prefix(PREFIX) else { continue };
        match key {
            "enable" => {
                policy.enable = reader.flag(label, value);
                policy.enable_label = Some(label.clone());
            }
            "stop-before-backup" => policy.consistency = reader.flag(label, value).map(consistency),
            "stop-timeout" => policy.stop_timeout = reader.duration(label, value),
            "lifecycle.before" => pre.command = reader.split_command(label, value),
            "lifecycle.before.timeout" => pre.timeout = reader.duration(label, value),
            "lifecycle.after" => post.command = reader.split_command(label, value),
            "lifecycle.after.timeout" => post.timeout = reader.duration(label, value),
            "exec.before" | "exec.during" | "exec.after" | "curl.before" | "curl.during" | "curl.after" => {
                policy.unsupported.push(format!("label {label}: bbackup runs commands only inside the container, and this one is not run"));
            }
            _ if key.starts_with("group.") && key.ends_with(".priority") => {
                // In several groups: where it is the most urgent.
                policy.priority = policy.priority.max(reader.number(label, value));
            }
            // Folders and rsync of that tool; applications stand for its groups.
            _ => {}
        }
    }
    policy.exec_pre = pre.hook(reader, "nautical-backup.lifecycle.before");
    policy.exec_post = post.hook(reader, "nautical-backup.lifecycle.after");
    policy
}

fn consistency(stop: bool) -> Consistency {
    if stop { Consistency::Stop } else { Consistency::None }
}
