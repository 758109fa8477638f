//! Snapshots written anew without some of their paths, in plain types.

use serde::Serialize;

use super::SnapshotId;

/// What is left out, and of which snapshots.
pub struct RewriteRequest<'a> {
    /// The snapshots, the oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// Each was asked for by its name: one that is gone is an error. Else it was forgotten since they were listed, and is passed over.
    pub named: bool,
    /// Whether the entry at an absolute path goes, with everything in it.
    pub exclude: &'a (dyn Fn(&[u8]) -> bool + Sync),
    /// Remove the old snapshots once the new ones are there.
    ///
    /// # Warning
    /// Without the old snapshots nothing brings the excluded data back.
    pub forget: bool,
    /// Also where nothing is left of a snapshot.
    pub remove_all: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What became of one snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct RewrittenSnapshot {
    /// The snapshot.
    pub source: SnapshotId,
    /// The one without the excluded paths; none in a dry run unless it is there already, and where nothing was to be excluded.
    pub target: Option<SnapshotId>,
    /// Whether an earlier rewrite has made that one.
    pub was_there: bool,
    /// Whether something in it is excluded.
    pub changed: bool,
    /// Whether the old one was removed.
    pub forgotten: bool,
    /// Files left out.
    pub files: u64,
    /// Folders and other entries left out.
    pub others: u64,
    /// Bytes of the files left out.
    pub bytes: u64,
}

/// What a rewrite did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RewriteSummary {
    /// Each snapshot, the oldest first.
    pub snapshots: Vec<RewrittenSnapshot>,
    /// Snapshots that somebody forgot meanwhile.
    pub gone: Vec<SnapshotId>,
    /// Snapshots with something to leave out that were written anew.
    pub changed: u64,
    /// Snapshots with something to leave out whose new form was there already.
    pub were_there: u64,
}
