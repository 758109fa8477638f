//! What every repository can do, whichever engine keeps it, in plain types.
//!
//! Nothing here knows a format. Engines implement [`Repository`]; jobs use nothing else.

mod change;
pub mod copy;
pub mod diff;
pub mod find;
pub mod mount;
pub mod prune;
pub mod repair;
pub mod rewrite;
pub mod stats;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp as Instant;
use jiff::tz::Offset;
use serde::Serialize;

use self::diff::{DiffRequest, DiffSummary, Difference};
use self::find::{FindRequest, FindSummary};
use self::mount::{MountEnd, MountRequest};
use self::prune::{PruneRequest, PruneSummary};
use self::repair::{RepairIndexRequest, RepairIndexSummary, RepairSnapshotsRequest, RepairSnapshotsSummary};
use self::rewrite::{RewriteRequest, RewriteSummary};
use self::stats::RepositoryStats;
use crate::model::entry::{Metadata, Sink, Source};
use crate::model::progress::Progress;
use crate::platform::control::Control;
use crate::platform::secret::Secret;

pub use change::{Forgotten, KeyInfo, Retagged};

/// Prefix of the tag that names a snapshot's application.
pub const TAG_APPLICATION: &str = "app:";
/// Prefix of the tag that names the backup set.
pub const TAG_SET: &str = "set:";
/// Prefix of the tag that joins the snapshots of one run into a restore point.
pub const TAG_RUN: &str = "run:";
/// Tag of a snapshot in which something is missing: no retention rule counts it and it is no `latest`.
pub const TAG_PARTIAL: &str = "partial";
/// Tag of a snapshot that no retention rule removes. For other programs it is a tag like any other.
pub const TAG_PINNED: &str = "pinned";

/// Tag of a snapshot that took the place of a damaged one.
pub const TAG_REPAIRED: &str = "repaired";
/// Tag of a snapshot that a restore made of what it was about to overwrite: it is `latest` only where this tag is asked for.
pub const TAG_BEFORE_RESTORE: &str = "before-restore";

/// A snapshot's id: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SnapshotId(pub String);

impl SnapshotId {
    /// The first eight digits, as people write it.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One application, or one set of paths, at one time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// When the backup of it began.
    pub time: Instant,
    /// Its maker's offset from UTC, by which retention tells days apart.
    #[serde(skip)]
    pub offset: Offset,
    /// The host it is of.
    pub host: String,
    /// Who made it.
    pub username: String,
    /// The absolute paths in it.
    pub paths: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The snapshot that unchanged files were compared with.
    pub parent: Option<SnapshotId>,
    /// The first of the ids that this snapshot has had (tags and pins change the id).
    pub original: Option<SnapshotId>,
    /// The program that made it (`bbackup 0.1.0`); empty when not recorded.
    pub program: String,
    /// What its backup did; none for snapshots of tools that do not record it.
    pub summary: Option<SnapshotSummary>,
}

impl Snapshot {
    /// The application that its tag names.
    pub fn application(&self) -> Option<&str> {
        self.tagged(TAG_APPLICATION)
    }

    /// The backup set that its tag names.
    pub fn set(&self) -> Option<&str> {
        self.tagged(TAG_SET)
    }

    /// The run that its tag names.
    pub fn run(&self) -> Option<&str> {
        self.tagged(TAG_RUN)
    }

    /// Whether something is missing in it.
    pub fn is_partial(&self) -> bool {
        self.tags.iter().any(|tag| tag == TAG_PARTIAL)
    }

    /// Whether no retention rule removes it.
    pub fn is_pinned(&self) -> bool {
        self.tags.iter().any(|tag| tag == TAG_PINNED)
    }

    /// Whether it is of all that it is of: one of an application of which only some items were asked for names these as its
    /// paths, and is no `latest` of the application.
    pub fn is_whole(&self) -> bool {
        self.application().is_none() || self.paths.iter().all(|path| path.matches('/').count() == 2)
    }

    fn tagged(&self, prefix: &str) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix(prefix))
    }
}

/// What the backup of a snapshot did, with restic's field names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SnapshotSummary {
    /// Files not in the parent.
    pub files_new: u64,
    /// Files in the parent with other data.
    pub files_changed: u64,
    /// Files as in the parent.
    pub files_unmodified: u64,
    /// Folders not in the parent.
    pub dirs_new: u64,
    /// Folders with another content.
    pub dirs_changed: u64,
    /// Folders as in the parent.
    pub dirs_unmodified: u64,
    /// New data blobs.
    pub data_blobs: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// New bytes before compression.
    pub data_added: u64,
    /// New bytes in the repository.
    pub data_added_packed: u64,
    /// Files in the snapshot.
    pub total_files_processed: u64,
    /// Bytes of all files in the snapshot.
    pub total_bytes_processed: u64,
}

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

/// An entry that could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Path in the snapshot or on disk, made printable.
    pub path: String,
    /// Cause, for people.
    pub message: String,
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

/// One entry of a snapshot as it is listed.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Absolute path in the snapshot (starts with `/`).
    pub path: Vec<u8>,
    /// Its metadata.
    pub metadata: Metadata,
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

/// Which repository this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepositoryInfo {
    /// Its id, hexadecimal.
    pub id: String,
    /// Where it is, for people, without secrets.
    pub location: String,
    /// Name of the engine: `restic`, `borg`.
    pub engine: &'static str,
    /// Version of the format.
    pub version: u32,
}

/// An opened repository.
pub trait Repository: Send + Sync {
    /// Which repository this is.
    fn info(&self) -> RepositoryInfo;

    /// All snapshots, oldest first.
    ///
    /// # Errors
    /// The list or one of the snapshot files could not be read.
    fn snapshots(&self) -> Result<Vec<Snapshot>, RepositoryError>;

    /// Starts a snapshot under a shared lock that is held until the writer ends.
    ///
    /// # Errors
    /// The repository is locked, or cannot be written.
    fn write_snapshot(
        &self,
        request: SnapshotRequest,
        control: &Control,
        progress: Arc<dyn Progress>,
    ) -> Result<Box<dyn SnapshotWriter + '_>, RepositoryError>;

    /// Lists what is at `path`: the entry itself and, for a folder, what is in it (all levels if `recursive`), in tree order.
    ///
    /// # Errors
    /// There is no such path, or a tree cannot be read.
    fn list(
        &self,
        snapshot: &SnapshotId,
        path: &[u8],
        recursive: bool,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), RepositoryError>;

    /// Writes one file's data to `out`.
    ///
    /// # Errors
    /// There is no such file, or its data cannot be read or written.
    fn dump(&self, snapshot: &SnapshotId, path: &[u8], out: &mut dyn Write) -> Result<(), RepositoryError>;

    /// Gives what is at `path` to `sink` in tree order (paths relative to it, the root first).
    ///
    /// # Errors
    /// As for [`dump`](Self::dump); what the sink took before is the caller's to report.
    fn stream(
        &self,
        snapshot: &SnapshotId,
        path: &[u8],
        sink: &mut dyn Sink,
        control: &Control,
        progress: Arc<dyn Progress>,
    ) -> Result<(), RepositoryError>;

    /// Restores to the file system. Files that cannot be restored are collected, the rest is restored.
    ///
    /// # Errors
    /// Nothing could be restored at all, or the restore was cancelled.
    fn restore(&self, request: &RestoreRequest, control: &Control, progress: Arc<dyn Progress>) -> Result<RestoreSummary, RepositoryError>;

    /// Looks for damage.
    ///
    /// # Errors
    /// The check itself could not be done; damage is in the summary.
    fn check(&self, read_data: ReadData, control: &Control, progress: Arc<dyn Progress>) -> Result<CheckSummary, RepositoryError>;

    /// Removes data that no snapshot uses, alone in the repository; in a dry run says what would be removed.
    ///
    /// # Errors
    /// [`RepositoryError::Refused`] if not everything that snapshots need is there, [`RepositoryError::Locked`] if anybody
    /// else is at work. After any error everything that a snapshot needs is there, and the next prune does the rest.
    fn prune(&self, request: &PruneRequest, control: &Control, progress: Arc<dyn Progress>) -> Result<PruneSummary, RepositoryError>;

    /// Makes the index agree with the packs, alone in the repository; what is whole in damaged packs is saved.
    ///
    /// # Errors
    /// [`RepositoryError::Locked`]; the storage failed. Nothing that could be read before cannot be read then.
    fn repair_index(
        &self,
        request: &RepairIndexRequest,
        control: &Control,
        progress: Arc<dyn Progress>,
    ) -> Result<RepairIndexSummary, RepositoryError>;

    /// Writes snapshots without what is lost in place of damaged ones, alone in the repository.
    ///
    /// # Errors
    /// [`RepositoryError::Refused`] if the index must be repaired first; [`RepositoryError::Locked`]; the storage failed.
    fn repair_snapshots(
        &self,
        request: &RepairSnapshotsRequest,
        control: &Control,
        progress: Arc<dyn Progress>,
    ) -> Result<RepairSnapshotsSummary, RepositoryError>;

    /// Takes the lock beside which nobody else may hold any, and keeps it as long as this is open: what is read from now on
    /// is what a later call changes. In a dry run nothing is taken.
    ///
    /// # Errors
    /// Somebody else is at work, or the repository cannot be written.
    fn lock_exclusively(&self, control: &Control) -> Result<(), RepositoryError>;

    /// Removes snapshots under the exclusive lock. Their data stays until a prune.
    ///
    /// # Errors
    /// Nothing was removed. Once something was, what went wrong is in the answer.
    fn forget(&self, snapshots: &[SnapshotId], control: &Control) -> Result<Forgotten, RepositoryError>;

    /// Gives snapshots these tags instead of theirs, under the exclusive lock. Each gets a new id. What was done is in
    /// `done`, also after an error.
    ///
    /// # Errors
    /// The first that went wrong; nothing is lost by it.
    fn retag(&self, changes: &[(SnapshotId, Vec<String>)], control: &Control, done: &mut Vec<Retagged>) -> Result<(), RepositoryError>;

    /// For each of these snapshots, the bytes in the repository that it needs and none before it in the list does.
    ///
    /// # Errors
    /// A tree cannot be read.
    fn footprints(&self, snapshots: &[SnapshotId], control: &Control) -> Result<Vec<u64>, RepositoryError>;

    /// The keys that open it.
    ///
    /// # Errors
    /// They cannot be listed.
    fn keys(&self) -> Result<Vec<KeyInfo>, RepositoryError>;

    /// Adds a key for another password; gives its id.
    ///
    /// # Errors
    /// There is no new key.
    fn add_key(&self, password: &Secret<String>, control: &Control) -> Result<String, RepositoryError>;

    /// Puts a key for this password in the place of the one that is in use; gives its id.
    ///
    /// # Errors
    /// The password in use still opens it.
    fn change_password(&self, password: &Secret<String>, control: &Control) -> Result<String, RepositoryError>;

    /// Removes the key whose id begins so, unless it is the one in use; gives its id.
    ///
    /// # Errors
    /// It was not removed.
    fn remove_key(&self, wanted: &str, control: &Control) -> Result<String, RepositoryError>;

    /// Counts.
    ///
    /// # Errors
    /// A tree or snapshot could not be read, or the count was cancelled.
    fn stats(&self, control: &Control) -> Result<RepositoryStats, RepositoryError>;

    /// Compares two snapshots and shows each difference in tree order. Folders that cannot be read are told in the summary.
    ///
    /// # Errors
    /// There is no such path in either, or the comparison was cancelled.
    fn diff(
        &self,
        request: &DiffRequest,
        control: &Control,
        visit: &mut dyn FnMut(Difference) -> ControlFlow<()>,
    ) -> Result<DiffSummary, RepositoryError>;

    /// Searches snapshots and shows each match, in tree order. Folders that cannot be read are told in the summary.
    ///
    /// # Errors
    /// A snapshot cannot be read, or the search was cancelled.
    fn find(
        &self,
        request: &FindRequest<'_>,
        control: &Control,
        visit: &mut dyn FnMut(&SnapshotId, Listed) -> ControlFlow<()>,
    ) -> Result<FindSummary, RepositoryError>;

    /// Writes snapshots anew without what is excluded; in a dry run says which snapshots that would be.
    ///
    /// # Errors
    /// A folder cannot be read, or the repository cannot be written. Each snapshot is there before and after, in its old or its
    /// new form.
    fn rewrite(
        &self,
        request: &RewriteRequest<'_>,
        control: &Control,
        progress: Arc<dyn Progress>,
    ) -> Result<RewriteSummary, RepositoryError>;

    /// Shows snapshots as folders and files that can only be read, until they are unmounted or the work is cancelled. `mounted`
    /// is called when they are there. What cannot be read is told to `progress`.
    ///
    /// # Errors
    /// They cannot be mounted, or not be unmounted.
    fn mount(
        &self,
        request: &MountRequest,
        control: &Control,
        progress: Arc<dyn Progress>,
        mounted: &mut dyn FnMut(),
    ) -> Result<MountEnd, RepositoryError>;
}

/// What can go wrong with a repository.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// There is nothing at the location, or nothing that is a repository.
    #[error("no repository at {location}")]
    Missing {
        /// Where.
        location: String,
    },
    /// `init` where a repository is already.
    #[error("there is a repository at {location} already")]
    Exists {
        /// Where.
        location: String,
    },
    /// A foreign format, or a version that this program does not know.
    #[error("the repository at {location} has format version {version}, which this program does not know")]
    UnknownVersion {
        /// Where.
        location: String,
        /// Version found.
        version: u32,
    },
    /// No key opens with this password.
    #[error("wrong password, or no key for it, for the repository at {location}")]
    WrongPassword {
        /// Where.
        location: String,
    },
    /// The password opens none of the keys that were tried, and there are more. A key can be named.
    #[error("the password opens none of the first {tried} keys of the repository at {location}, and there are more")]
    TooManyKeys {
        /// Where.
        location: String,
        /// How many keys were tried.
        tried: usize,
    },
    /// Somebody else holds a lock that excludes ours.
    #[error("the repository at {location} is locked by PID {pid} on {host} since {since}")]
    Locked {
        /// Where.
        location: String,
        /// Process that holds the lock.
        pid: u32,
        /// Host of that process.
        host: String,
        /// When the lock was made, for people.
        since: String,
        /// Whether the other lock is exclusive.
        exclusive: bool,
    },
    /// Our own lock could not be refreshed in time, so others may have removed it.
    #[error("the lock on {location} could not be refreshed in time")]
    LockLost {
        /// Where.
        location: String,
    },
    /// A file of the repository is damaged.
    #[error("{file} is damaged at byte {offset}: expected {expected}")]
    Damaged {
        /// Kind and id of the file (`pack 12ab…`).
        file: String,
        /// Offset of the first wrong byte, where known; else zero.
        offset: u64,
        /// What should have been there.
        expected: String,
    },
    /// A blob that is needed is in no index.
    #[error("{kind} blob {id} is in no index")]
    BlobMissing {
        /// `data` or `tree`.
        kind: &'static str,
        /// The blob's id.
        id: String,
    },
    /// Something that must be whole before anything may be removed is not. Nothing was changed.
    #[error("{reason}")]
    Refused {
        /// What is not as it must be.
        reason: String,
        /// What is missing or damaged, one sentence each. At most 100 are kept.
        problems: Vec<String>,
    },
    /// No snapshot of that name.
    #[error("no snapshot matches `{wanted}`")]
    NoSnapshot {
        /// What was asked for.
        wanted: String,
    },
    /// A prefix of several ids.
    #[error("`{wanted}` is the beginning of {} snapshots", .candidates.len())]
    AmbiguousSnapshot {
        /// What was asked for.
        wanted: String,
        /// The ids that begin so.
        candidates: BTreeSet<SnapshotId>,
    },
    /// No key of that name.
    #[error("no key matches `{wanted}`")]
    NoKey {
        /// What was asked for.
        wanted: String,
    },
    /// A prefix of several ids of keys.
    #[error("`{wanted}` is the beginning of {} keys", .candidates.len())]
    AmbiguousKey {
        /// What was asked for.
        wanted: String,
        /// The ids that begin so.
        candidates: Vec<String>,
    },
    /// The key that the repository was opened with, or the only one, is not removed.
    #[error("the key {} is the one in use", .id.get(..8).unwrap_or(.id))]
    KeyInUse {
        /// Its id.
        id: String,
    },
    /// No program would try another key.
    #[error("the repository at {location} has {most} keys already, and no program tries more")]
    KeysFull {
        /// Where.
        location: String,
        /// How many keys are tried.
        most: usize,
    },
    /// No such path in the snapshot.
    #[error("snapshot {} has no `{path}`", .snapshot.short())]
    NoPath {
        /// Which snapshot.
        snapshot: SnapshotId,
        /// Path, made printable.
        path: String,
    },
    /// The path is there, but it is not a file (or not a folder).
    #[error("`{path}` in snapshot {} is a {found}", .snapshot.short())]
    WrongKind {
        /// Which snapshot.
        snapshot: SnapshotId,
        /// Path, made printable.
        path: String,
        /// What it is.
        found: &'static str,
    },
    /// The storage under the repository failed.
    #[error("cannot {action} {file}")]
    Storage {
        /// `read`, `write`, `remove`, `list`.
        action: &'static str,
        /// File or folder, for people.
        file: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A source was lost while it was read.
    #[error("cannot read {path} to its end")]
    Source {
        /// Path in the snapshot, made printable.
        path: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The target of a restore or dump failed.
    #[error("cannot write {path}")]
    Target {
        /// Path, made printable.
        path: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Snapshots cannot be shown as folders.
    #[error("cannot mount at {path}")]
    Mount {
        /// Where.
        path: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The current item was skipped.
    #[error("skipped")]
    Skipped,
    /// The whole operation was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// Verification before writing failed: the memory or processor of this machine corrupts data.
    #[error("data came out wrong when it was read back before writing ({what}): this machine's memory or processor is faulty")]
    Corrupted {
        /// What was being verified.
        what: String,
    },
    /// A worker ended by a panic: a defect of bbackup.
    #[error("internal error: {0}")]
    Internal(String),
}

impl RepositoryError {
    /// The error with its causes on one line.
    pub fn with_causes(&self) -> String {
        let mut sentence = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            sentence = format!("{sentence}: {error}");
            cause = error.source();
        }
        sentence
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Locked { .. } => true,
            Self::Storage { source, .. } | Self::Source { source, .. } => {
                matches!(source.kind(), io::ErrorKind::TimedOut | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionReset)
            }
            _ => false,
        }
    }
}

impl From<crate::platform::control::Stop> for RepositoryError {
    fn from(stop: crate::platform::control::Stop) -> Self {
        match stop {
            crate::platform::control::Stop::Cancelled => Self::Cancelled,
            crate::platform::control::Stop::Skipped => Self::Skipped,
        }
    }
}
