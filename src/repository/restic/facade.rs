//! The engine behind the contract: one opened repository, its lock and its index, each taken when it is first needed.
//!
//! The verbs do the work; here they only get what they need.

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::archive::{Archive, Options};
use super::file::{SnapshotFile, SummaryFile};
use super::id::Id;
use super::lock::{Guard, Lock, LockTimes};
use super::state::{Indexed, Open};
use super::{check, copy, diff, find, footprint, forget, keyring, list, mount, prune, repair, restore, retag, rewrite, stats};
use crate::model::entry::Sink;
use crate::model::progress::{Event, Progress};
use crate::platform::control::Control;
use crate::platform::host;
use crate::platform::secret::Secret;
use crate::repository::contract::copy::{CopyRequest, CopySummary};
use crate::repository::contract::diff::{DiffRequest, DiffSummary, Difference};
use crate::repository::contract::find::{FindRequest, FindSummary};
use crate::repository::contract::mount::{MountEnd, MountRequest};
use crate::repository::contract::prune::{PruneRequest, PruneSummary};
use crate::repository::contract::repair::{RepairIndexRequest, RepairIndexSummary, RepairSnapshotsRequest, RepairSnapshotsSummary};
use crate::repository::contract::rewrite::{RewriteRequest, RewriteSummary};
use crate::repository::contract::stats::RepositoryStats;
use crate::repository::contract::{
    CheckSummary, Forgotten, KeyChange, KeyInfo, Listed, Noticed, ReadData, ReadSummary, Repository, RepositoryError, RepositoryInfo,
    RestoreRequest, RestoreSummary, Retagged, Snapshot, SnapshotId, SnapshotRequest, SnapshotSummary, SnapshotWriter,
};

/// An opened repository in restic's format.
pub struct ResticRepository {
    open: Open,
    options: Options,
    locking: Locking,
    times: LockTimes,
    held: Mutex<Held>,
    noticed: Noticed,
}

/// What was taken so far.
#[derive(Default)]
struct Held {
    /// A shared lock; given back when the repository is dropped, so that nobody prunes between two snapshots of one run.
    lock: Option<Arc<Lock>>,
    /// Loaded under the lock.
    indexed: Option<Arc<Indexed>>,
    /// Some of the index is damaged: what was loaded is good for reading only.
    in_part: bool,
}

/// What an operation does with the repository.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// It removes what others may rely on: it must be alone.
    Alone,
    /// It writes: without a lock it cannot be done.
    Write,
    /// It writes, and asks before each write whether the lock is ours: so it may begin before that is sure.
    Add,
    /// It only reads: a repository that cannot be written (another user's, a read-only disk) is read without a lock.
    Read,
    /// The same, and it must know everything: what it makes stands for all that is there.
    ReadAll,
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
        Self { open, options, locking, times: LockTimes::default(), held: Mutex::default(), noticed: Noticed::default() }
    }

    /// The same with other times for locks, which only tests should need.
    #[must_use]
    pub fn with_lock_times(self, times: LockTimes) -> Self {
        Self { times, ..self }
    }

    /// The repository without what was taken of it.
    pub fn open(&self) -> &Open {
        &self.open
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, held: &mut Held, access: Access, control: &Control) -> Result<(), RepositoryError> {
        let alone = access == Access::Alone;
        if access == Access::Look {
            return Ok(());
        }
        if let Some(lock) = held.lock.as_ref().filter(|lock| lock.is_exclusive() || !alone) {
            return if access == Access::Write { lock.check() } else { Ok(()) };
        }
        let retry = match (self.locking, access) {
            (Locking::Retry(retry), _) => retry,
            (Locking::Never, Access::Alone | Access::Write | Access::Add) => {
                return Err(RepositoryError::Internal("a repository opened for a dry run is written to".into()));
            }
            (Locking::Never, _) => return Ok(()),
        };
        // Our own shared one would keep us out.
        held.lock = None;
        match Lock::acquire_with(&self.open, alone, retry, control, self.times) {
            Ok(lock) => {
                if access == Access::Write {
                    lock.check()?;
                }
                held.lock = Some(Arc::new(lock));
                // What was loaded without it may be out of date.
                held.indexed = None;
            }
            Err(RepositoryError::Storage { action: "write", source, .. })
                if matches!(access, Access::Read | Access::ReadAll) && cannot_be_written(&source) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn indexed(&self, access: Access, control: &Control) -> Result<Arc<Indexed>, RepositoryError> {
        let mut held = self.held();
        self.lock(&mut held, access, control)?;
        if let Some(indexed) = held.indexed.as_ref().filter(|_| access == Access::Read || !held.in_part) {
            return Ok(Arc::clone(indexed));
        }
        let loaded = self.open.clone().into_indexed_in_part(control).and_then(|(indexed, mut errors)| match access {
            Access::Read => Ok((indexed, errors)),
            // Whoever writes or removes must know everything.
            _ if errors.is_empty() => Ok((indexed, errors)),
            _ => Err(errors.swap_remove(0)),
        });
        let (indexed, errors) = loaded.map_err(|error| rather_locked(held.lock.as_deref(), error))?;
        if let Some(error) = errors.first() {
            if let Some(Err(locked @ RepositoryError::Locked { .. })) = held.lock.as_deref().map(Lock::check) {
                return Err(locked);
            }
            let more = if errors.len() > 1 { format!(", and {} more", errors.len() - 1) } else { String::new() };
            let what_to_do = if error.is_denied() { "run bbackup as the owner of the repository" } else { "`bbackup repair index`" };
            self.notice(format!("{}{more}; what only that knows is not found ({what_to_do})", error.with_causes()));
        }
        let indexed = Arc::new(indexed);
        (held.indexed, held.in_part) = (Some(Arc::clone(&indexed)), !errors.is_empty());
        Ok(indexed)
    }

    /// Blobs of packs that are not there are stored once more by who writes next; which these are is told.
    fn look_for_packs(&self, indexed: &Indexed) -> Result<(), RepositoryError> {
        // One at a time: the first must have looked before anybody publishes a pack.
        let held = self.held();
        let lost = match indexed.look_for_packs() {
            Ok(compared) => &compared.lost,
            // Who reads nothing of them can go on without.
            Err(error @ RepositoryError::Storage { .. }) => {
                self.notice(format!("{}; which packs are really there is not known to this backup", error.with_causes()));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if !lost.is_empty() {
            // Somebody may be pruning, and the lock not ours.
            if let Some(Err(locked @ RepositoryError::Locked { .. })) = held.lock.as_deref().map(Lock::check) {
                return Err(locked);
            }
            self.notice(format!("{}; what this backup needs of that is stored once more. {LOST_PACKS}", lost_packs(lost)));
        }
        Ok(())
    }

    fn notice(&self, sentence: String) {
        self.noticed.lock().unwrap_or_else(PoisonError::into_inner).insert(sentence);
    }

    /// The snapshots that can be read.
    fn readable(&self) -> Result<Vec<(Id, SnapshotFile)>, RepositoryError> {
        let (mut readable, mut failed) = (Vec::new(), Vec::new());
        for (id, file) in self.open.snapshot_files()? {
            match file {
                Ok(file) => readable.push((id, file)),
                Err(error) => failed.push((id, error)),
            }
        }
        if readable.is_empty() && !failed.is_empty() {
            return Err(failed.swap_remove(0).1);
        }
        for (id, error) in failed {
            let what_to_do = match &error {
                denied if denied.is_denied() => {
                    format!("user {} may not read it: run bbackup as the owner of the repository", host::username())
                }
                RepositoryError::Storage { .. } => "nothing says that it is damaged: try again".to_owned(),
                _ => "`bbackup repair snapshots --forget`".to_owned(),
            };
            self.notice(format!("snapshot {} is passed over: {} ({what_to_do})", id.short(), error.with_causes()));
        }
        Ok(readable)
    }

    /// For the operations that take no control handle.
    fn read(&self) -> Result<Arc<Indexed>, RepositoryError> {
        self.indexed(Access::Read, &Control::new())
    }

    /// Does what may be done by nobody else at the same time, under an exclusive lock; in a dry run under none, and then
    /// nothing may be written.
    fn alone<T>(
        &self,
        dry_run: bool,
        control: &Control,
        work: impl FnOnce(Option<&Lock>) -> Result<T, RepositoryError>,
    ) -> Result<T, RepositoryError> {
        if dry_run {
            self.lock(&mut self.held(), Access::Read, control)?;
            return work(None);
        }
        let Locking::Retry(retry) = self.locking else {
            return Err(RepositoryError::Internal("a repository opened for a dry run is written to".into()));
        };
        self.give_back();
        let lock = Lock::acquire_with(&self.open, true, retry, control, self.times)?;
        work(Some(&lock))
    }

    /// Gives back the shared lock unless something in this process still counts on it: then our own lock keeps us out.
    fn give_back(&self) {
        let mut held = self.held();
        let unused = held.indexed.take_if(|indexed| Arc::strong_count(indexed) == 1).is_some() || held.indexed.is_none();
        if unused {
            held.lock.take_if(|lock| Arc::strong_count(lock) == 1);
        }
    }

    /// Does something under the exclusive lock, which is held from then on.
    fn exclusively<T>(&self, control: &Control, work: impl FnOnce(&Lock) -> Result<T, RepositoryError>) -> Result<T, RepositoryError> {
        let mut held = self.held();
        self.lock(&mut held, Access::Alone, control)?;
        let lock = held.lock.clone();
        drop(held);
        work(lock.as_deref().ok_or_else(|| RepositoryError::Internal("the exclusive lock is not there".into()))?)
    }

    /// Copies snapshots into another repository; in a dry run says what would be copied.
    ///
    /// # Errors
    /// Something cannot be read here or written there. Each snapshot is there whole or not at all, and what was copied is found
    /// by the next copy.
    pub fn copy_to(
        &self,
        target: &Self,
        request: &CopyRequest,
        control: &Control,
        progress: &dyn Progress,
    ) -> Result<CopySummary, RepositoryError> {
        let source = self.indexed(Access::ReadAll, control)?;
        let lock = if request.dry_run {
            None
        } else {
            let mut held = target.held();
            target.lock(&mut held, Access::Write, control)?;
            held.lock.clone()
        };
        // Of its own: what is claimed in it and not stored is nobody else's business.
        let indexed = target.open.clone().into_indexed_under(control)?;
        if lock.is_some() {
            target.open.complete_folders()?;
        }
        let compared = indexed.look_for_packs()?;
        if !compared.lost.is_empty() {
            let (location, lost) = (target.open.location(), lost_packs(&compared.lost));
            self.notice(format!("{location}: {lost}; what these snapshots need of that is copied once more. {LOST_PACKS}"));
        }
        let is_doubtful = !compared.lost.is_empty() || compared.has_others;
        let Options { compression, pack_size, index_interval, .. } = target.options;
        let lock = lock.as_deref();
        let notice = &|sentence| self.notice(sentence);
        let copying =
            copy::Copying { source: &source, target: &indexed, is_doubtful, lock, compression, pack_size, index_interval, control, notice };
        let snapshots = request.snapshots.iter().map(id_of).collect::<Result<Vec<_>, _>>()?;
        let plan = copy::plan(copying, &snapshots, request.named)?;
        copy::execute(copying, &plan, progress)
    }

    fn tree(&self, snapshot: &SnapshotId) -> Result<Id, RepositoryError> {
        Ok(self.open.snapshot(&id_of(snapshot)?)?.tree)
    }

    /// The same; none for one that was listed before it was locked, and is not there any more.
    fn tree_if_there(&self, snapshot: &SnapshotId) -> Result<Option<Id>, RepositoryError> {
        match self.tree(snapshot) {
            Err(RepositoryError::NoSnapshot { .. }) => Ok(None),
            tree => tree.map(Some),
        }
    }

    /// The trees of those that are there. Where they are `named`, all must be.
    fn trees<'a>(&self, all: impl Iterator<Item = &'a SnapshotId>, named: bool) -> Result<Vec<(SnapshotId, Id)>, RepositoryError> {
        let tree = |id: &SnapshotId| if named { self.tree(id).map(Some) } else { self.tree_if_there(id) };
        all.filter_map(|id| tree(id).map(|tree| Some((id.clone(), tree?))).transpose()).collect()
    }
}

/// What to do where packs are lost.
const LOST_PACKS: &str = "`bbackup check` says which snapshots are damaged; then `bbackup repair index` and `bbackup repair snapshots`";

fn lost_packs(lost: &[Id]) -> String {
    let first = lost.first().map(Id::to_string).unwrap_or_default();
    match lost.len() {
        1 => format!("pack {first} is missing or cut off although the index names it"),
        count => format!("{count} packs are missing or cut off although the index names them (the first is {first})"),
    }
}

/// What went wrong while it was not sure yet that the lock is ours may only follow from somebody else's.
fn rather_locked(lock: Option<&Lock>, error: RepositoryError) -> RepositoryError {
    match lock.map(Lock::check) {
        Some(Err(locked @ RepositoryError::Locked { .. })) => locked,
        _ => error,
    }
}

/// Oldest first.
fn in_order(files: Vec<(Id, SnapshotFile)>) -> Vec<Snapshot> {
    let mut snapshots: Vec<Snapshot> = files.into_iter().map(|(id, file)| snapshot(id, file)).collect();
    snapshots.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
    snapshots
}

fn id_of(snapshot: &SnapshotId) -> Result<Id, RepositoryError> {
    snapshot.0.parse().map_err(|_| RepositoryError::NoSnapshot { wanted: snapshot.0.clone() })
}

/// Whether the repository takes nothing new, not even a lock.
fn cannot_be_written(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), ReadOnlyFilesystem | PermissionDenied | StorageFull | QuotaExceeded)
}

impl Repository for ResticRepository {
    fn info(&self) -> RepositoryInfo {
        let config = self.open.config();
        RepositoryInfo { id: config.id.clone(), location: self.open.location(), engine: "restic", version: config.version }
    }

    fn snapshots(&self) -> Result<Vec<Snapshot>, RepositoryError> {
        Ok(in_order(self.readable()?))
    }

    fn every_snapshot(&self) -> Result<Vec<Snapshot>, RepositoryError> {
        Ok(in_order(self.open.snapshots()?))
    }

    fn noticed(&self) -> Noticed {
        Arc::clone(&self.noticed)
    }

    fn require_index(&self, snapshots: &[SnapshotId], control: &Control) -> Result<(), RepositoryError> {
        // A dry run looks without a lock.
        let access = if self.locking == Locking::Never { Access::ReadAll } else { Access::Write };
        let indexed = self.indexed(access, control)?;
        // All at once: one after the other takes long where each read does.
        let files: HashMap<Id, SnapshotFile> = self.open.snapshots()?.into_iter().collect();
        let tree = |id: &SnapshotId| match files.get(&id_of(id)?) {
            Some(file) => Ok(Some(file.tree)),
            None if self.locking == Locking::Never => Ok(None),
            None => Err(RepositoryError::NoSnapshot { wanted: id.0.clone() }),
        };
        let roots = snapshots.iter().filter_map(|id| tree(id).transpose()).collect::<Result<Vec<_>, RepositoryError>>()?;
        indexed.look_for_packs()?;
        forget::require_index(&indexed.uncached(), roots, control)
    }

    fn write_snapshot(
        &self,
        request: SnapshotRequest,
        control: &Control,
        progress: Arc<dyn Progress>,
    ) -> Result<Box<dyn SnapshotWriter + '_>, RepositoryError> {
        let access = if request.dry_run { Access::Look } else { Access::Add };
        let mut indexed = self.indexed(access, control)?;
        self.look_for_packs(&indexed)?;
        if !request.dry_run {
            self.open.complete_folders()?;
            // Several may write at once, and each may fail: what one has on its way is not there for the others.
            indexed = Arc::new(indexed.for_writer());
        }
        let lock = self.held().lock.clone();
        Ok(Box::new(Archive::start(indexed, request, self.readable()?, self.options.clone(), control, progress, lock)?))
    }

    fn list(
        &self,
        snapshot: &SnapshotId,
        path: &[u8],
        recursive: bool,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<ReadSummary, RepositoryError> {
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
    ) -> Result<ReadSummary, RepositoryError> {
        let indexed = self.indexed(Access::Read, control)?;
        list::stream(&indexed, snapshot, &self.tree(snapshot)?, path, sink, control, &*progress)
    }

    fn restore(&self, request: &RestoreRequest, control: &Control, progress: Arc<dyn Progress>) -> Result<RestoreSummary, RepositoryError> {
        let indexed = self.indexed(Access::Read, control)?;
        // What is there already is not touched before it is sure that nobody removes what is to take its place.
        if !restore::is_empty(&request.destination)
            && let Some(lock) = self.held().lock.as_ref()
        {
            lock.check()?;
        }
        restore::restore(&indexed, &self.tree(&request.snapshot)?, request, control, &*progress)
    }

    fn check(&self, read_data: ReadData, control: &Control, progress: Arc<dyn Progress>) -> Result<CheckSummary, RepositoryError> {
        let mut held = self.held();
        self.lock(&mut held, Access::Read, control)?;
        let lock = held.lock.clone();
        drop(held);
        // First the snapshots: what others write from now on is not looked for in an index that cannot know it. Nothing comes
        // from a cache, and the index is loaded in part if parts are damaged: the damage is what is looked for.
        let open = self.open.uncached();
        let snapshots = open.snapshot_files()?;
        let (indexed, errors) = open.into_indexed_in_part(control)?;
        let checked = check::check(&indexed, &errors, snapshots, read_data, control, &*progress);
        match checked {
            Ok(summary) if summary.errors.is_empty() => Ok(summary),
            // What somebody removes meanwhile must not be taken for damage.
            damaged => match lock.map(|lock| lock.confirm()) {
                Some(Err(error @ (RepositoryError::Locked { .. } | RepositoryError::LockLost { .. }))) => Err(error),
                _ => damaged,
            },
        }
    }

    fn prune(&self, request: &PruneRequest, control: &Control, progress: Arc<dyn Progress>) -> Result<PruneSummary, RepositoryError> {
        self.alone(request.dry_run, control, |lock| {
            let guard = Guard { lock, control };
            // First the snapshots, as in `check`: a dry run has no lock, and others may write more of both.
            let snapshots = self.open.snapshots()?;
            progress.event(Event::Phase("loading the index"));
            let indexed = self.open.clone().into_indexed_under(control)?;
            let plan = prune::plan(&indexed, &snapshots, request, self.options.pack_size, guard, &*progress)?;
            match lock {
                Some(_) => prune::execute(&plan, self.options.pack_size, guard, &*progress),
                None => Ok(plan.summary()),
            }
        })
    }

    fn repair_index(
        &self,
        request: &RepairIndexRequest,
        control: &Control,
        progress: Arc<dyn Progress>,
    ) -> Result<RepairIndexSummary, RepositoryError> {
        self.alone(request.dry_run, control, |lock| {
            repair::index::repair(&self.open.uncached(), request, self.options.pack_size, Guard { lock, control }, &*progress)
        })
    }

    fn repair_snapshots(
        &self,
        request: &RepairSnapshotsRequest,
        control: &Control,
        progress: Arc<dyn Progress>,
    ) -> Result<RepairSnapshotsSummary, RepositoryError> {
        self.alone(request.dry_run, control, |lock| {
            let open = self.open.uncached();
            // First the snapshots, for the same reason.
            let snapshots = open.snapshot_files()?;
            progress.event(Event::Phase("loading the index"));
            let indexed = open.into_indexed_under(control)?;
            repair::snapshots::repair(&indexed, &snapshots, request, self.options.pack_size, Guard { lock, control }, &*progress)
        })
    }

    fn stats(&self, control: &Control) -> Result<RepositoryStats, RepositoryError> {
        // First the lock, so that none of them goes, then the snapshots: the index knows what is in all that were there before it was
        // loaded.
        self.lock(&mut self.held(), Access::Read, control)?;
        let files = self.readable()?;
        let trees: HashMap<String, Id> = files.iter().map(|(id, file)| (id.to_string(), file.tree)).collect();
        let with_tree = |snapshot: Snapshot| trees.get(&snapshot.id.0).map(|tree| (snapshot, *tree));
        let snapshots = in_order(files).into_iter().filter_map(with_tree).collect();
        let indexed = self.indexed(Access::Read, control)?;
        stats::stats(&indexed, snapshots, control)
    }

    fn diff(
        &self,
        request: &DiffRequest,
        control: &Control,
        visit: &mut dyn FnMut(Difference) -> ControlFlow<()>,
    ) -> Result<DiffSummary, RepositoryError> {
        let indexed = self.indexed(Access::Read, control)?;
        let before = diff::Side { snapshot: &request.before, tree: self.tree(&request.before)? };
        let after = diff::Side { snapshot: &request.after, tree: self.tree(&request.after)? };
        diff::diff(&indexed, [before, after], &request.path, control, visit)
    }

    fn find(
        &self,
        request: &FindRequest<'_>,
        control: &Control,
        visit: &mut dyn FnMut(&SnapshotId, Listed) -> ControlFlow<()>,
    ) -> Result<FindSummary, RepositoryError> {
        let indexed = self.indexed(Access::Read, control)?;
        let roots = self.trees(request.snapshots.iter(), request.named)?;
        find::find(&indexed, &roots, request.matcher, control, visit)
    }

    fn rewrite(
        &self,
        request: &RewriteRequest<'_>,
        control: &Control,
        progress: Arc<dyn Progress>,
    ) -> Result<RewriteSummary, RepositoryError> {
        let (compression, pack_size) = (self.options.compression, self.options.pack_size);
        let work = |lock: Option<&Lock>| {
            let repo = self.open.clone().into_indexed_under(control)?;
            rewrite::rewrite(rewrite::Rewriting { repo: &repo, lock, compression, pack_size, control }, request, &*progress)
        };
        if request.forget || request.dry_run {
            return self.alone(request.dry_run, control, work);
        }
        let lock = {
            let mut held = self.held();
            self.lock(&mut held, Access::Write, control)?;
            held.lock.clone()
        };
        work(lock.as_deref())
    }

    fn mount(
        &self,
        request: &MountRequest,
        control: &Control,
        progress: Arc<dyn Progress>,
        mounted: &mut dyn FnMut(),
    ) -> Result<MountEnd, RepositoryError> {
        let indexed = self.indexed(Access::Read, control)?;
        let (there, trees): (Vec<SnapshotId>, Vec<Id>) =
            self.trees(request.snapshots.iter().map(|one| &one.id), request.named)?.into_iter().unzip();
        let mut request = request.clone();
        request.snapshots.retain(|one| there.contains(&one.id));
        let lock = self.held().lock.clone();
        mount::mount(&indexed, &request, &trees, control, progress, lock.as_deref(), mounted)
    }

    fn lock_exclusively(&self, control: &Control) -> Result<(), RepositoryError> {
        if self.locking == Locking::Never { Ok(()) } else { self.exclusively(control, |_| Ok(())) }
    }

    fn forget(&self, snapshots: &[SnapshotId], control: &Control) -> Result<Forgotten, RepositoryError> {
        self.exclusively(control, |lock| forget::forget(&self.open, snapshots, &|| lock.confirm(), control))
    }

    fn retag(&self, changes: &[(SnapshotId, Vec<String>)], control: &Control, done: &mut Vec<Retagged>) -> Result<(), RepositoryError> {
        self.exclusively(control, |lock| retag::retag(&self.open, changes, lock, control, done))
    }

    fn footprints(&self, snapshots: &[SnapshotId], control: &Control) -> Result<Vec<u64>, RepositoryError> {
        let indexed = self.indexed(Access::Read, control)?;
        let roots = snapshots.iter().map(|snapshot| self.tree(snapshot)).collect::<Result<Vec<_>, _>>()?;
        footprint::footprints(&indexed, &roots, control)
    }

    fn keys(&self) -> Result<Vec<KeyInfo>, RepositoryError> {
        keyring::list(&self.open)
    }

    fn add_key(&self, password: &Secret<String>, dry_run: bool, control: &Control) -> Result<KeyChange, RepositoryError> {
        if dry_run {
            return keyring::plan_addition(&self.open).map(|()| KeyChange::default());
        }
        let mut held = self.held();
        self.lock(&mut held, Access::Write, control)?;
        drop(held);
        keyring::add(&self.open, password).map(|id| KeyChange { added: Some(id.to_string()), removed: None })
    }

    fn change_password(&self, password: &Secret<String>, dry_run: bool, control: &Control) -> Result<KeyChange, RepositoryError> {
        let removed = self.open.key_id().map(|id| id.to_string());
        if dry_run {
            return Ok(KeyChange { added: None, removed });
        }
        let new = self.exclusively(control, |_| keyring::change(&self.open, password))?;
        Ok(KeyChange { added: Some(new.to_string()), removed })
    }

    fn remove_key(&self, wanted: &str, dry_run: bool, control: &Control) -> Result<KeyChange, RepositoryError> {
        let removed = if dry_run {
            keyring::plan_removal(&self.open, wanted)?
        } else {
            self.exclusively(control, |_| keyring::remove(&self.open, wanted))?
        };
        Ok(KeyChange { added: None, removed: Some(removed.to_string()) })
    }
}

fn snapshot(id: Id, file: SnapshotFile) -> Snapshot {
    let id_of = |id: Id| SnapshotId(id.to_string());
    Snapshot {
        id: id_of(id),
        time: file.time.instant,
        offset: file.time.offset,
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
