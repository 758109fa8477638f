//! Hooks of a set that would run nowhere: whoever wrote one counts on what it does.
//!
//! Where a hook does run is decided when its containers are known, in `jobs`.

use std::collections::BTreeSet;

use super::choice::{Choice, Miss, closest};
use super::{BackupSet, PlannedApplication};

/// What hooks name that is no container of the set, one sentence each.
pub(super) fn misses(set: &BackupSet, choice: &Choice<'_>, applications: &[PlannedApplication]) -> Vec<String> {
    // Also of applications of which the scope leaves nothing: their hooks have nothing to do, and are no mistake.
    let mut names: BTreeSet<&str> = choice.containers.iter().copied().collect();
    for planned in applications {
        names.extend(planned.application.containers.iter().map(|container| container.name.as_str()));
        names.extend(planned.writers());
    }
    let names: Vec<&str> = names.into_iter().collect();
    let mut sentences = Vec::new();
    for hook in set.hooks.exec_pre.iter().chain(&set.hooks.exec_post) {
        for wanted in hook.unmatched(&names) {
            let miss = Miss { kind: "container", wanted: wanted.to_owned(), closest: closest(wanted, &names) };
            sentences.push(format!("{}: in what the set chooses {miss}: the command is not run for it", hook.hook.asked_by));
        }
    }
    sentences
}
