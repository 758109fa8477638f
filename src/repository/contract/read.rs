//! Getting data back, and looking whether it is whole.

use std::path::PathBuf;

use serde::Serialize;

use super::{Problem, SnapshotId};
use crate::model::entry::Metadata;

/// One entry of a snapshot as it is listed.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Absolute path in the snapshot (starts with `/`).
    pub path: Vec<u8>,
    /// Its metadata.
    pub metadata: Metadata,
}

/// What of a tree could not be listed or given.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReadSummary {
    /// Folders whose entries could not be read; of what is given, also files that are not whole. At most 1 000 are kept.
    pub problems: Vec<Problem>,
    /// Number of problems in all.
    pub problem_count: u64,
}

impl ReadSummary {
    const MAX_PROBLEMS: usize = 1000;

    /// Adds a problem, and keeps it if there is room.
    pub fn add(&mut self, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < Self::MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

/// What is to be restored to the file system.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// From which snapshot.
    pub snapshot: SnapshotId,
    /// Which file or folder of it (absolute); `/` for everything.
    pub path: Vec<u8>,
    /// Where it goes: what `path` names becomes this very file or folder.
    pub destination: PathBuf,
    /// Restore owners, which takes privileges; without them a warning would be given for every file.
    pub owners: bool,
    /// Remove what stands in `destination` and is not in the snapshot.
    pub delete_extra: bool,
    /// Only these paths relative to `path` (and what is in them); empty for all.
    pub include: Vec<Vec<u8>>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What a restore did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RestoreSummary {
    /// Entries in what was asked for.
    pub entries: u64,
    /// Files written.
    pub files_restored: u64,
    /// Files left alone because their content matched already.
    pub files_unchanged: u64,
    /// Entries removed because the snapshot does not have them.
    pub files_deleted: u64,
    /// Bytes written.
    pub bytes_restored: u64,
    /// Bytes of all files in what was asked for.
    pub total_bytes: u64,
    /// What could not be restored, or not fully. At most 1 000 are kept.
    pub problems: Vec<Problem>,
    /// Number of problems in all.
    pub problem_count: u64,
    /// Those of them that cost data or whole entries, and not only an attribute of one.
    pub entries_lost: u64,
}

/// How much a check reads.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ReadData {
    /// Structure only: every index, tree and pack is there with its right size.
    #[default]
    None,
    /// Every byte.
    All,
    /// Group `n` of `m` of the packs, chosen by the packs' ids: all groups together are everything.
    Group(u32, u32),
    /// About so many per cent of the packs, chosen at random.
    Percent(f64),
    /// About so many bytes of packs, chosen at random.
    Bytes(u64),
}

/// What a check found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckSummary {
    /// Damage: something that a snapshot needs is lost or wrong.
    pub errors: Vec<String>,
    /// Untidiness that loses nothing: unused packs, doubly stored blobs.
    pub hints: Vec<String>,
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Packs known to the index.
    pub packs: u64,
    /// Packs read in full.
    pub packs_read: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Blobs that the snapshots use.
    pub blobs_used: u64,
}
