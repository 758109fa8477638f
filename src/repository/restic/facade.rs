//! The engine behind the contract: one opened repository, its lock and its index, each taken when it is first needed.
//!
//! The verbs do the work; here they only get what they need.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::archive::{Archive, LockCheck, Options};
use super::file::{SnapshotFile, SummaryFile};
use super::id::Id;
use super::lock::Lock;
use super::state::{Indexed, Open};
use super::{check, list, restore, stats};
use crate::model::entry::Sink;
use crate::model::progress::Progress;
use crate::platform::control::Control;
use crate::repository::contract::{
    CheckSummary, Listed, ReadData, Repository, RepositoryError, RepositoryInfo, RepositoryStats, RestoreRequest, RestoreSummary, Snapshot,
    SnapshotId, SnapshotRequest, SnapshotSummary, SnapshotWriter,
};

/// An opened repository in restic's format.
pub struct ResticRepository {
    open: Open,
    options: Options,
    locking: Locking,
    held: Mutex<Held>,
}

/// What was taken so far.
#[derive(Default)]
struct Held {
    /// A shared lock; given back when the repository is dropped, so that nobody prunes between two snapshots of one run.
    lock: Option<Arc<Lock>>,
    /// Loaded under the lock.
    indexed: Option<Arc<Indexed>>,
}

/// What an operation does with the repository.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// It writes: without a lock it cannot be done.
    Write,
    /// It only reads: a repository that cannot be written (another user's, a read-only disk) is read without a lock.
    Read,
    /// Nothing may be written, not even a lock.
    Look,
}

/// Whether operations lock the repository against others that remove data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// As they need it; a lock that excludes ours is waited for so long.
    Retry(Duration),
    /// Never: only what writes nothing can be done. For dry runs.
    Never,
}

impl ResticRepository {
    /// A repository whose key is known.
    pub fn new(open: Open, options: Options, locking: Locking) -> Self {
        Self { open, options, locking, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, held: &mut Held, access: Access, control: &Control) -> Result<(), RepositoryError> {
        if held.lock.is_some() || access == Access::Look {
            return Ok(());
        }
        let retry = match (self.locking, access) {
            (Locking::Retry(retry), _) => retry,
            (Locking::Never, Access::Write) => {
                return Err(RepositoryError::Internal("a repository opened for a dry run is written to".into()));
            }
            (Locking::Never, _) => return Ok(()),
        };
        match Lock::acquire(&self.open, false, retry, control) {
            Ok(lock) => {
                held.lock = Some(Arc::new(lock));
                // What was loaded without it may be out of date.
                held.indexed = None;
            }
            Err(RepositoryError::Storage { action: "write", source, .. }) if access == Access::Read && is_read_only(&source) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn indexed(&self, access: Access, control: &Control) -> Result<Arc<Indexed>, RepositoryError> {
        let mut held = self.held();
        self.lock(&mut held, access, control)?;
        let usable = |indexed: &&Arc<Indexed>| access != Access::Write || !indexed.index().has_open_claims();
        if let Some(indexed) = held.indexed.as_ref().filter(usable) {
            return Ok(Arc::clone(indexed));
        }
        let indexed = Arc::new(self.open.clone().into_indexed()?);
        held.indexed = Some(Arc::clone(&indexed));
        Ok(indexed)
    }

    /// For the operations that take no control handle.
    fn read(&self) -> Result<Arc<Indexed>, RepositoryError> {
        self.indexed(Access::Read, &Control::new())
    }

    fn tree(&self, snapshot: &SnapshotId) -> Result<Id, RepositoryError> {
        let id: Id = snapshot.0.parse().map_err(|_| RepositoryError::NoSnapshot { wanted: snapshot.0.clone() })?;
        Ok(self.open.snapshot(&id)?.tree)
    }
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

impl Repository for ResticRepository {
    fn info(&self) -> RepositoryInfo {
        let config = self.open.config();
        RepositoryInfo { id: config.id.clone(), location: self.open.location(), engine: "restic", version: config.version }
    }

    fn snapshots(&self) -> Result<Vec<Snapshot>, RepositoryError> {
        let mut snapshots: Vec<Snapshot> = self.open.snapshots()?.into_iter().map(|(id, file)| snapshot(id, file)).collect();
        snapshots.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
        Ok(snapshots)
    }

    fn write_snapshot(
        &self,
        request: SnapshotRequest,
        control: &Control,
        progress: Arc<dyn Progress>,
    ) -> Result<Box<dyn SnapshotWriter + '_>, RepositoryError> {
        let access = if request.dry_run { Access::Look } else { Access::Write };
        let indexed = self.indexed(access, control)?;
        let lock = self.held().lock.clone();
        let check: LockCheck = Box::new(move || lock.as_ref().map_or(Ok(()), |lock| lock.check()));
        Ok(Box::new(Archive::start(indexed, request, self.options, control, progress, check)?))
    }

    fn list(
        &self,
        snapshot: &SnapshotId,
        path: &[u8],
        recursive: bool,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), RepositoryError> {
        list::list(self.read()?.as_ref(), snapshot, &self.tree(snapshot)?, path, recursive, visit)
    }

    fn dump(&self, snapshot: &SnapshotId, path: &[u8], out: &mut dyn Write) -> Result<(), RepositoryError> {
        list::dump(self.read()?.as_ref(), snapshot, &self.tree(snapshot)?, path, out)
    }

    fn stream(
        &self,
        snapshot: &SnapshotId,
        path: &[u8],
        sink: &mut dyn Sink,
        control: &Control,
        progress: Arc<dyn Progress>,
    ) -> Result<(), RepositoryError> {
        let indexed = self.indexed(Access::Read, control)?;
        list::stream(&indexed, snapshot, &self.tree(snapshot)?, path, sink, control, &*progress)
    }

    fn restore(&self, request: &RestoreRequest, control: &Control, progress: Arc<dyn Progress>) -> Result<RestoreSummary, RepositoryError> {
        let indexed = self.indexed(Access::Read, control)?;
        restore::restore(&indexed, &self.tree(&request.snapshot)?, request, control, &*progress)
    }

    fn check(&self, read_data: ReadData, control: &Control, progress: Arc<dyn Progress>) -> Result<CheckSummary, RepositoryError> {
        let mut held = self.held();
        self.lock(&mut held, Access::Read, control)?;
        drop(held);
        // Loaded anew, and in part if parts are damaged: the damage is what is looked for.
        let (indexed, errors) = self.open.clone().into_indexed_in_part()?;
        check::check(&indexed, &errors, read_data, control, &*progress)
    }

    fn stats(&self) -> Result<RepositoryStats, RepositoryError> {
        stats::stats(self.read()?.as_ref())
    }
}

fn snapshot(id: Id, file: SnapshotFile) -> Snapshot {
    let id_of = |id: Id| SnapshotId(id.to_string());
    Snapshot {
        id: id_of(id),
        time: file.time.instant,
        host: file.hostname,
        username: file.username,
        paths: file.paths,
        tags: file.tags,
        parent: file.parent.map(id_of),
        original: file.original.map(id_of),
        program: file.program_version,
        summary: file.summary.as_ref().map(summary),
    }
}

fn summary(file: &SummaryFile) -> SnapshotSummary {
    SnapshotSummary {
        files_new: file.files_new,
        files_changed: file.files_changed,
        files_unmodified: file.files_unmodified,
        dirs_new: file.dirs_new,
        dirs_changed: file.dirs_changed,
        dirs_unmodified: file.dirs_unmodified,
        data_blobs: file.data_blobs,
        tree_blobs: file.tree_blobs,
        data_added: file.data_added,
        data_added_packed: file.data_added_packed,
        total_files_processed: file.total_files_processed,
        total_bytes_processed: file.total_bytes_processed,
    }
}
