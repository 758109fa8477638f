//! Snapshots of this host that are dated in the future: a clock was wrong, and nobody may know which.

use crate::config::Config;
use crate::jobs::select::is_ahead;
use crate::platform::clock;
use crate::repository::contract::{Repository, Snapshot};

/// What is said of them, every time: until somebody takes them away, or their time has come, their data may be thought of as the last.
pub(super) fn ahead(repository: &dyn Repository, config: &Config) -> Option<String> {
    let now = clock::now();
    let is_own = |one: &Snapshot| one.host == config.host || one.host == config.machine;
    // A repository that cannot be listed is told of by whoever needs the list.
    let mut snapshots = repository.snapshots().unwrap_or_default();
    snapshots.retain(|one| is_own(one) && is_ahead(one, now));
    let newest = snapshots.last()?;
    let what = match snapshots.len() {
        1 => "a snapshot of this host is".to_owned(),
        count => format!("{count} snapshots of this host are"),
    };
    let (id, time) = (newest.id.short(), newest.time.strftime("%Y-%m-%d %H:%M UTC"));
    Some(format!(
        "{what} dated in the future ({id}, {time}): the clock was wrong then, or is wrong now. `latest` passes over such ones; `bbackup forget {id}` takes one away"
    ))
}
