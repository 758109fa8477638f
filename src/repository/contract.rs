//! What every repository can do, whichever engine keeps it, in plain types.
//!
//! Nothing here knows a format. Engines implement [`Repository`]; jobs use nothing else.

mod change;
pub mod copy;
pub mod diff;
mod error;
pub mod find;
pub mod mount;
pub mod prune;
mod read;
pub mod repair;
pub mod rewrite;
mod snapshot;
pub mod stats;
mod write;

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use self::diff::{DiffRequest, DiffSummary, Difference};
use self::find::{FindRequest, FindSummary};
use self::mount::{MountEnd, MountRequest};
use self::prune::{PruneRequest, PruneSummary};
use self::repair::{RepairIndexRequest, RepairIndexSummary, RepairSnapshotsRequest, RepairSnapshotsSummary};
use self::rewrite::{RewriteRequest, RewriteSummary};
use self::stats::RepositoryStats;
use crate::model::entry::Sink;
use crate::model::progress::Progress;
use crate::platform::control::Control;
use crate::platform::secret::Secret;

pub use change::{Forgotten, KeyChange, KeyInfo, LockHolder, Retagged, StaleLock, StayingLock};
pub use error::RepositoryError;
pub use read::{CheckSummary, Listed, ReadData, ReadSummary, RestoreRequest, RestoreSummary};
pub use snapshot::{
    Snapshot, SnapshotId, SnapshotSummary, TAG_APPLICATION, TAG_BEFORE_RESTORE, TAG_PARTIAL, TAG_PINNED, TAG_REPAIRED, TAG_REWRITTEN,
    TAG_RUN, TAG_SET,
};
pub use write::{AddSummary, SnapshotRequest, SnapshotWriter};

/// Sentences about what was damaged and could be passed over.
pub type Noticed = Arc<Mutex<BTreeSet<String>>>;

/// An entry that could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Path in the snapshot or on disk, made printable.
    pub path: String,
    /// Cause, for people.
    pub message: String,
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

    /// All snapshots that can be read, oldest first. What is wrong with others is in [`noticed`](Self::noticed).
    ///
    /// # Errors
    /// The list, or not one of the snapshot files could be read.
    fn snapshots(&self) -> Result<Vec<Snapshot>, RepositoryError>;

    /// All snapshots, oldest first: for those who remove some.
    ///
    /// # Errors
    /// The list or one of the snapshot files could not be read.
    fn every_snapshot(&self) -> Result<Vec<Snapshot>, RepositoryError>;

    /// What was damaged and could be passed over, from the opening on until the end: it goes on growing.
    fn noticed(&self) -> Noticed;

    /// Makes sure that the index can be read, and knows all that these snapshots need, before others are removed. Every folder
    /// in them is read.
    ///
    /// # Errors
    /// [`RepositoryError::Damaged`], [`RepositoryError::Refused`].
    fn require_index(&self, snapshots: &[SnapshotId], control: &Control) -> Result<(), RepositoryError>;

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
    /// A folder further down that cannot be read costs only what is in it.
    ///
    /// # Errors
    /// There is no such path, or what is at it cannot be read.
    fn list(
        &self,
        snapshot: &SnapshotId,
        path: &[u8],
        recursive: bool,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<ReadSummary, RepositoryError>;

    /// Writes one file's data to `out`.
    ///
    /// # Errors
    /// There is no such file, or its data cannot be read or written.
    fn dump(&self, snapshot: &SnapshotId, path: &[u8], out: &mut dyn Write) -> Result<(), RepositoryError>;

    /// Gives what is at `path` to `sink` in tree order (paths relative to it, the root first). What is lost or damaged costs only
    /// itself: files without any of their data are left out, in others zeros take the place of what is lost.
    ///
    /// # Errors
    /// There is no such path, what is at it or the storage cannot be read, or the sink takes no more; what it took before is the
    /// caller's to report.
    fn stream(
        &self,
        snapshot: &SnapshotId,
        path: &[u8],
        sink: &mut dyn Sink,
        control: &Control,
        progress: Arc<dyn Progress>,
    ) -> Result<ReadSummary, RepositoryError>;

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

    /// Adds a key for another password; in a dry run only says whether that can be.
    ///
    /// # Errors
    /// There is no new key.
    fn add_key(&self, password: &Secret<String>, dry_run: bool, control: &Control) -> Result<KeyChange, RepositoryError>;

    /// Puts a key for this password in the place of the one that is in use; in a dry run says which one that is.
    ///
    /// # Errors
    /// The password in use still opens it.
    fn change_password(&self, password: &Secret<String>, dry_run: bool, control: &Control) -> Result<KeyChange, RepositoryError>;

    /// Removes the key whose id begins so, unless it is the one in use; in a dry run says which one that is.
    ///
    /// # Errors
    /// It was not removed.
    fn remove_key(&self, wanted: &str, dry_run: bool, control: &Control) -> Result<KeyChange, RepositoryError>;

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
