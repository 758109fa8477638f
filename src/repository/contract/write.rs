//! Making a snapshot.

use jiff::Timestamp as Instant;

use super::{Problem, RepositoryError, SnapshotId, SnapshotSummary};
use crate::model::entry::{Metadata, Source};

/// What a snapshot is to be of.
#[derive(Debug, Clone)]
pub struct SnapshotRequest {
    /// Time of the snapshot.
    pub time: Instant,
    /// Host it is of.
    pub host: String,
    /// Absolute paths it holds, sorted.
    pub paths: Vec<String>,
    /// Tags that are known at the start. Grouping tags (`app:`) take part in finding the parent.
    pub tags: Vec<String>,
    /// The patterns that were left out, for the record.
    pub excludes: Vec<String>,
    /// Read every file again instead of comparing with a parent.
    pub ignore_parent: bool,
    /// The parent to compare with instead of the latest of the same host, paths and application.
    pub parent: Option<SnapshotId>,
    /// Keep the access times that the source gives; else `atime` is `mtime`, so that reading a file changes no tree.
    pub with_atime: bool,
    /// Do everything except write: nothing reaches the repository.
    pub dry_run: bool,
}

/// What the archiving of one source gave.
#[derive(Debug, Default)]
pub struct AddSummary {
    /// Entries stored, the root included.
    pub entries: u64,
    /// Bytes of file data in them.
    pub bytes: u64,
    /// New bytes before compression.
    pub bytes_added: u64,
    /// Bytes of unchanged files that were not read.
    pub bytes_unread: u64,
    /// Entries that could not be read and are not in the snapshot: it is partial. At most 1 000 are kept.
    pub problems: Vec<Problem>,
    /// Number of problems in all.
    pub problem_count: u64,
    /// Entries that changed while they were read (they are stored as they were met) or vanished before. At most 1 000.
    pub warnings: Vec<Problem>,
    /// Number of warnings in all.
    pub warning_count: u64,
}

/// A snapshot being written. Dropped without `finish`, it leaves no snapshot; what was stored stays usable by the next run.
pub trait SnapshotWriter: Send {
    /// Archives everything that `source` gives under `path` (absolute, `/docker/shop/volumes/db`), and returns once all its
    /// data has been read and stored. Folders above `path` that nobody described are made up.
    ///
    /// # Errors
    /// [`RepositoryError::Source`] if the source was lost and [`RepositoryError::Skipped`] if the item was skipped: then
    /// nothing of it is in the snapshot and the writer goes on. All other errors end the snapshot.
    fn add(&mut self, path: &[u8], source: Box<dyn Source>) -> Result<AddSummary, RepositoryError>;

    /// Stores one document of bbackup's own.
    ///
    /// # Errors
    /// All end the snapshot.
    fn add_bytes(&mut self, path: &[u8], bytes: &[u8]) -> Result<(), RepositoryError>;

    /// Describes a folder above an added path.
    fn describe_directory(&mut self, path: &[u8], metadata: Metadata);

    /// Waits until everything is stored, writes the index and then the snapshot, and returns its id. `tags` are added to
    /// those of the request. In a dry run the id is `None`.
    ///
    /// # Errors
    /// No snapshot was written.
    fn finish(self: Box<Self>, tags: Vec<String>) -> Result<(Option<SnapshotId>, SnapshotSummary), RepositoryError>;
}
