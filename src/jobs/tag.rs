//! Changing the tags of snapshots, pins among them: what each gets is decided here, the writing is the engine's.

use serde::Serialize;

use super::error::JobError;
use super::select::{Narrowing, Request};
use super::{report, snapshots};
use crate::model::report::Report;
use crate::platform::control::Control;
use crate::repository::contract::{
    Repository, Retagged, Snapshot, TAG_APPLICATION, TAG_BEFORE_RESTORE, TAG_PARTIAL, TAG_PINNED, TAG_REPAIRED, TAG_REWRITTEN, TAG_RUN,
    TAG_SET,
};

/// What happens to the tags of each snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Some go, some come.
    Edit {
        /// Those that come, unless they are there.
        add: Vec<String>,
        /// Those that go.
        remove: Vec<String>,
    },
    /// The user's own are these. Those that bbackup sets itself stay, and so does a pin.
    Set(Vec<String>),
}

impl Change {
    /// The tags of a snapshot after it.
    pub fn apply(&self, tags: &[String]) -> Vec<String> {
        let (mut left, add): (Vec<String>, &[String]) = match self {
            Self::Edit { add, remove } => (tags.iter().filter(|tag| !remove.contains(tag)).cloned().collect(), add),
            Self::Set(new) => (tags.iter().filter(|tag| new.contains(tag) || is_own(tag)).cloned().collect(), new),
        };
        for tag in add {
            if !left.contains(tag) {
                left.push(tag.clone());
            }
        }
        left
    }
}

/// Whether a tag is not one that a user has thought of.
fn is_own(tag: &str) -> bool {
    [TAG_PARTIAL, TAG_PINNED, TAG_BEFORE_RESTORE, TAG_REPAIRED, TAG_REWRITTEN].contains(&tag)
        || [TAG_APPLICATION, TAG_SET, TAG_RUN].iter().any(|prefix| tag.starts_with(prefix))
}

/// What was changed, or in a dry run would be.
#[derive(Debug, Clone, Serialize)]
pub struct TagResult {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Snapshots with other tags than before.
    pub changed_snapshots: u64,
    /// Snapshots that have these tags already.
    pub unchanged_snapshots: u64,
    /// Why the rest has its old tags still, if it went wrong after some had theirs.
    #[serde(skip)]
    pub failure: Option<Report>,
    /// The old and new ids; none in a dry run.
    pub changed: Vec<Retagged>,
    /// The tags that the snapshots had, have or would have, in the order of their times.
    pub snapshots: Vec<TagRow>,
}

/// A snapshot whose tags change.
#[derive(Debug, Clone, Serialize)]
pub struct TagRow {
    /// The snapshot as it was.
    pub snapshot: crate::repository::contract::SnapshotId,
    /// Its tags before.
    pub before: Vec<String>,
    /// Its tags after.
    pub after: Vec<String>,
}

/// Changes the tags of what the words mean; without words, of all that the narrowing leaves.
///
/// # Errors
/// A word means nothing, or too much; or the repository cannot be locked, read or written. Nothing was changed; once
/// something was, what went wrong is in the result.
pub fn run(
    repository: &dyn Repository,
    words: &[String],
    narrowing: &Narrowing,
    latest: &Request<'_>,
    change: &Change,
    dry_run: bool,
    control: &Control,
) -> Result<TagResult, JobError> {
    if !dry_run {
        repository.lock_exclusively(control)?;
    }
    let chosen = choose(repository, words, narrowing, latest)?;
    let rows = chosen.iter().map(|one| TagRow { snapshot: one.id.clone(), before: one.tags.clone(), after: change.apply(&one.tags) });
    let (changing, same): (Vec<TagRow>, Vec<TagRow>) = rows.partition(|row| row.before != row.after);
    let mut changed = Vec::new();
    let mut failure = None;
    if !dry_run {
        let changes: Vec<_> = changing.iter().map(|row| (row.snapshot.clone(), row.after.clone())).collect();
        match repository.retag(&changes, control, &mut changed) {
            Ok(()) => {}
            Err(error) if changed.is_empty() => return Err(error.into()),
            // The new ids must not be lost.
            Err(error) => failure = Some(report::of(&error.into())),
        }
    }
    Ok(TagResult {
        dry_run,
        changed_snapshots: if dry_run { changing.len() } else { changed.len() } as u64,
        failure,
        unchanged_snapshots: same.len() as u64,
        changed,
        snapshots: changing,
    })
}

fn choose(repository: &dyn Repository, words: &[String], narrowing: &Narrowing, latest: &Request<'_>) -> Result<Vec<Snapshot>, JobError> {
    if words.is_empty() {
        return Ok(repository.snapshots()?.into_iter().filter(|snapshot| narrowing.accepts(snapshot)).collect());
    }
    let mut chosen: Vec<Snapshot> = Vec::new();
    for word in words {
        for snapshot in snapshots::choose(repository, word, narrowing, latest)?.snapshots {
            if !chosen.contains(&snapshot) {
                chosen.push(snapshot);
            }
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_tags_survive_and_nothing_comes_twice() {
        let list = |tags: &[&str]| tags.iter().map(|&tag| tag.to_owned()).collect::<Vec<_>>();
        let before = list(&["set:web", "app:shop", "run:01A", "mine", "pinned"]);
        let edit = Change::Edit { add: list(&["mine", "new"]), remove: list(&["pinned", "absent"]) };
        assert_eq!(edit.apply(&before), ["set:web", "app:shop", "run:01A", "mine", "new"]);
        assert_eq!(Change::Set(list(&["a", "b"])).apply(&before), ["set:web", "app:shop", "run:01A", "pinned", "a", "b"]);
        assert_eq!(Change::Set(Vec::new()).apply(&before), ["set:web", "app:shop", "run:01A", "pinned"]);
        assert_eq!(Change::Set(list(&["mine"])).apply(&before), before);
        // Each says what a snapshot is: without `before-restore`, the broken state before a restore would be the latest.
        let kinds = list(&["partial", "pinned", "before-restore", "repaired", "rewrite"]);
        assert_eq!(Change::Set(Vec::new()).apply(&kinds), kinds);
        // Whoever names one means it.
        assert_eq!(
            Change::Edit { add: Vec::new(), remove: list(&["before-restore"]) }.apply(&kinds),
            ["partial", "pinned", "repaired", "rewrite"]
        );
    }
}
