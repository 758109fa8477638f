//! What differs between two snapshots, in plain types.

use serde::Serialize;

use super::{Problem, SnapshotId};
use crate::model::entry::Metadata;

/// Which snapshots are compared.
#[derive(Debug, Clone)]
pub struct DiffRequest {
    /// The older one, as a rule.
    pub before: SnapshotId,
    /// The newer one, as a rule.
    pub after: SnapshotId,
    /// Which file or folder of both (absolute); `/` for everything. It may be missing in one of them.
    pub path: Vec<u8>,
}

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is only in the second snapshot.
    Added,
    /// It is only in the first snapshot.
    Removed,
    /// Other data; of symbolic links another target.
    Content,
    /// The same data, and another owner, mode, modification time or extended attribute.
    Metadata,
    /// It was of another kind.
    Kind,
}

impl Change {
    /// restic's sign for it.
    pub fn modifier(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Content => 'M',
            Self::Metadata => 'U',
            Self::Kind => 'T',
        }
    }
}

/// One entry that differs.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Absolute path in the snapshots.
    pub path: Vec<u8>,
    /// What happened to it.
    pub change: Change,
    /// As it was; none if it was not there.
    pub before: Option<Metadata>,
    /// As it is; none if it is not there.
    pub after: Option<Metadata>,
}

impl Difference {
    /// Whether it is a folder (in the second snapshot, if it is there).
    pub fn is_dir(&self) -> bool {
        self.after.as_ref().or(self.before.as_ref()).is_some_and(Metadata::is_dir)
    }
}

/// Counts of one side, with restic's field names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DiffCount {
    /// Files.
    pub files: u64,
    /// Folders.
    pub dirs: u64,
    /// Everything else.
    pub others: u64,
    /// Data blobs that only this side's differing folders have.
    pub data_blobs: u64,
    /// Trees that only this side has.
    pub tree_blobs: u64,
    /// Bytes of these blobs before compression.
    pub bytes: u64,
}

/// What a comparison found, with restic's field names where it has them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DiffSummary {
    /// Files with other data.
    pub changed_files: u64,
    /// Entries of which only metadata differs.
    pub changed_metadata: u64,
    /// What is only in the second snapshot.
    pub added: DiffCount,
    /// What is only in the first snapshot.
    pub removed: DiffCount,
    /// Trees that were read.
    pub trees_read: u64,
    /// Folders that could not be read and therefore not be compared. At most 1 000 are kept.
    pub problems: Vec<Problem>,
    /// Number of problems in all.
    pub problem_count: u64,
}
