//! What all threads of one archive run share: repository, counters, the first failure, and the condition they wait on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::aside::Room;
use super::budget::Budget;
use super::item::Item;
use super::upload::Uploads;
use crate::model::progress::Progress;
use crate::platform::control::Control;
use crate::repository::contract::{RepositoryError, SnapshotSummary};
use crate::repository::restic::chunker::Chunker;
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::state::Indexed;
use crate::repository::restic::tree;

/// Shared by the feeder, the workers and the uploaders.
pub(super) struct Shared {
    pub(super) repository: Arc<Indexed>,
    pub(super) chunker: Arc<Chunker>,
    pub(super) control: Control,
    pub(super) progress: Arc<dyn Progress>,
    pub(super) uploads: Uploads,
    pub(super) budget: Arc<Budget>,
    pub(super) stats: Stats,
    pub(super) trees: tree::Encoder,
    pub(super) doubts: Doubts,
    /// For what a stream holds until its end.
    pub(super) room: Room,
    /// Nothing is written.
    pub(super) dry_run: bool,
    /// Keep access times.
    pub(super) with_atime: bool,
    /// Threads that work beside the feeder.
    pub(super) workers: usize,
    /// Workers that wait for work: a large file is shared out only when there is somebody to share it with.
    pub(super) idle: AtomicUsize,
    pub(super) failure: Arc<Failure>,
    /// It was told that a name of an extended attribute could not be kept as it is.
    pub(super) told_of_attribute: AtomicBool,
}

/// Counters of the whole snapshot, or of one item until it is known to be in the snapshot.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) files_new: AtomicU64,
    pub(super) files_changed: AtomicU64,
    pub(super) files_unmodified: AtomicU64,
    pub(super) dirs_new: AtomicU64,
    pub(super) dirs_changed: AtomicU64,
    pub(super) dirs_unmodified: AtomicU64,
    pub(super) data_blobs: AtomicU64,
    pub(super) tree_blobs: AtomicU64,
    pub(super) data_added: AtomicU64,
    pub(super) data_added_packed: AtomicU64,
    pub(super) total_files: AtomicU64,
    pub(super) total_bytes: AtomicU64,
}

impl Stats {
    /// Counts what an item holds.
    pub(super) fn add(&self, item: &Self) {
        let pairs = [
            (&self.files_new, &item.files_new),
            (&self.files_changed, &item.files_changed),
            (&self.files_unmodified, &item.files_unmodified),
            (&self.dirs_new, &item.dirs_new),
            (&self.dirs_changed, &item.dirs_changed),
            (&self.dirs_unmodified, &item.dirs_unmodified),
            (&self.total_files, &item.total_files),
            (&self.total_bytes, &item.total_bytes),
        ];
        for (sum, part) in pairs {
            sum.fetch_add(part.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    pub(super) fn summary(&self) -> SnapshotSummary {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SnapshotSummary {
            files_new: get(&self.files_new),
            files_changed: get(&self.files_changed),
            files_unmodified: get(&self.files_unmodified),
            dirs_new: get(&self.dirs_new),
            dirs_changed: get(&self.dirs_changed),
            dirs_unmodified: get(&self.dirs_unmodified),
            data_blobs: get(&self.data_blobs),
            tree_blobs: get(&self.tree_blobs),
            data_added: get(&self.data_added),
            data_added_packed: get(&self.data_added_packed),
            total_files_processed: get(&self.total_files),
            total_bytes_processed: get(&self.total_bytes),
        }
    }
}

/// Whether folders that the index names can be taken for being there.
///
/// Usually those of the parent snapshot were just read. Without a parent they were not; and once one of them cannot be, what lies in it
/// may be damaged with it. Then everything is looked at before a snapshot counts on it.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    begun: AtomicBool,
    told: AtomicBool,
    looked_at: Mutex<HashSet<Id, BuildIdHasher>>,
}

impl Doubts {
    /// For a backup that compares with nothing.
    pub(super) fn without_parent() -> Self {
        Self { begun: AtomicBool::new(true), ..Self::default() }
    }

    /// What a folder of the parent snapshot held is lost.
    pub(super) fn begin(&self, item: &Item, path: &[u8], error: &RepositoryError) {
        self.begun.store(true, Ordering::Relaxed);
        self.told.store(true, Ordering::Relaxed);
        let error = error.with_causes();
        let message = format!(
            "what the repository holds of this folder is damaged ({error}): it is stored once more, so that this snapshot is whole; \
             `bbackup check` says which others are not"
        );
        item.warn(path, &message);
    }

    /// Whether a tree that the index names is to be looked at; true once for each. That of a folder without content is read for no
    /// other reason.
    pub(super) fn wants(&self, id: &Id, json: &[u8]) -> bool {
        let is_doubtful = self.begun.load(Ordering::Relaxed) || json == tree::EMPTY;
        is_doubtful && self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).insert(*id)
    }

    /// A folder that the index names cannot be read and is stored again. Where another was told of, that says enough.
    pub(super) fn tell(&self, item: &Item, json: &[u8], error: &RepositoryError) {
        self.begun.store(true, Ordering::Relaxed);
        if self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        let error = error.with_causes();
        let message = if json == tree::EMPTY {
            format!(
                "what the repository holds of empty folders is damaged ({error}): it is stored once more, which makes all snapshots whole \
                 that have one; `bbackup check` says whether others are damaged"
            )
        } else {
            format!(
                "what the repository holds of folders in this is damaged ({error}): they are stored once more, so that this snapshot is whole; \
                 `bbackup check` says which others are not"
            )
        };
        item.warn(&item.path, &message);
    }
}

/// The first fatal error, and the condition on which the feeder waits for the workers.
///
/// Workers signal `changed` when an item's last job or its root is done; everybody signals it on failure.
#[derive(Debug, Default)]
pub(super) struct Failure {
    failed: AtomicBool,
    first: Mutex<Option<RepositoryError>>,
    changed: Condvar,
}

impl Failure {
    /// Records the error unless there was one before, and wakes whoever waits.
    pub(super) fn set(&self, error: RepositoryError) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.failed.swap(true, Ordering::SeqCst) {
            *first = Some(error);
        }
        self.changed.notify_all();
    }

    /// Whether something failed; then all work in hand is dropped.
    pub(super) fn is_set(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// # Errors
    /// The run has failed; the first error is for [`prefer`](Self::prefer) to give.
    pub(super) fn check(&self) -> Result<(), RepositoryError> {
        if self.is_set() { Err(failed_elsewhere()) } else { Ok(()) }
    }

    /// The first error in place of `error`, which only followed from it. Later callers hear that the run has failed.
    pub(super) fn prefer(&self, error: RepositoryError) -> RepositoryError {
        if !self.is_set() {
            return error;
        }
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(error)
    }

    /// Wakes whoever waits in [`Failure::wait`].
    pub(super) fn notify(&self) {
        let _guard = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.notify_all();
    }

    /// Waits until `done`.
    pub(super) fn wait(&self, done: impl Fn() -> bool) -> Result<(), RepositoryError> {
        let mut guard = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.is_set() {
                return Err(failed_elsewhere());
            }
            if done() {
                return Ok(());
            }
            guard = self.changed.wait_timeout(guard, Duration::from_millis(100)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    /// The first fatal error.
    pub(super) fn failure(&self) -> &Failure {
        &self.failure
    }

    /// # Errors
    /// The run has failed; the first error is for [`Failure::prefer`] to give.
    pub(super) fn check(&self) -> Result<(), RepositoryError> {
        self.failure.check()
    }
}

fn failed_elsewhere() -> RepositoryError {
    RepositoryError::Internal("the snapshot has failed before".into())
}
