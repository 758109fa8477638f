//! What repairs are asked for and what they do, in plain types.
//!
//! How damage is found and put right is the engine's business.

use serde::Serialize;

use super::{Problem, SnapshotId};

/// What a repair of the index is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepairIndexRequest {
    /// Believe no index file: read the list of contents of every pack.
    pub read_all_packs: bool,
    /// Read every pack whole, and leave out what is damaged.
    pub read_data: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What a repair of the index has done, or in a dry run would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RepairIndexSummary {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Packs on disk.
    pub packs: u64,
    /// Packs whose contents were found out from the packs themselves.
    pub packs_read: u64,
    /// Packs that an index named and that are not there.
    pub packs_missing: u64,
    /// Damaged packs. What is whole in them was put into new packs; no index names them any more, and a prune removes them.
    pub packs_damaged: u64,
    /// Blobs of damaged packs that were whole.
    pub blobs_saved: u64,
    /// Blobs that are lost with damaged or missing packs, unless another pack has them too.
    pub blobs_lost: u64,
    /// Index files that could not be read.
    pub indexes_damaged: u64,
    /// New index files; in a dry run how many there would be.
    pub indexes_written: u64,
    /// Index files that were replaced.
    pub indexes_removed: u64,
    /// What was wrong, a sentence each. At most 1 000 are kept.
    pub problems: Vec<String>,
}

impl RepairIndexSummary {
    /// Whether everything was as it should be.
    pub fn is_untouched(&self) -> bool {
        self.indexes_written == 0 && self.indexes_removed == 0
    }
}

/// What a repair of snapshots is to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairSnapshotsRequest {
    /// Ids of snapshots, or their beginnings; none for all.
    pub snapshots: Vec<String>,
    /// Remove the damaged snapshots once their repaired successors are there, and those of which nothing is left.
    pub forget: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What a repair of snapshots has done, or in a dry run would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RepairSnapshotsSummary {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Those that are damaged.
    pub damaged: Vec<DamagedSnapshot>,
    /// Whether the folder without content, which all snapshots share, could not be read and was written once more, or in a dry
    /// run would be. Nothing is lost with it.
    pub empty_folder_written: bool,
}

/// A snapshot of which something is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The snapshot without what is lost; none in a dry run and if nothing is left.
    pub repaired: Option<SnapshotId>,
    /// Whether it was repaired by an earlier run already.
    pub was_repaired: bool,
    /// Whether nothing of it is left.
    pub is_lost: bool,
    /// Whether it was removed.
    pub removed: bool,
    /// What is lost, by path. What several snapshots have in common is named with the first; at most 1 000 for each.
    pub lost: Vec<Problem>,
    /// Number of all that is lost and named here.
    pub lost_count: u64,
}
