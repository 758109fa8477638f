//! Removing what no snapshot uses: first a plan, then the work, alone in the repository.
//!
//! The order is what makes it safe: nothing that is needed is removed before another copy of it is on disk, verified and named
//! by an index; and no pack goes before the last index that names it. It may be ended at any call: everything that a snapshot
//! needs is there, and the next prune removes what was left. Which snapshots there are is not decided here.

mod choose;
mod repack;
mod rewrite;
mod used;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::choose::{Fate, PackPlan};
use super::file::SnapshotFile;
use super::id::Id;
use super::index::places::{Bits, Places};
use super::lock::Guard;
use super::state::Indexed;
use crate::model::progress::{Event, Progress};
use crate::repository::backend::FileKind;
use crate::repository::contract::RepositoryError;
use crate::repository::contract::prune::{PruneRequest, PruneSummary};

/// What is to be done with each pack.
pub struct Plan<'a> {
    repo: &'a Indexed,
    places: Places<'a>,
    /// The places of blobs that are used from now on: one for each blob that a snapshot uses.
    kept: Bits,
    /// By the numbers of packs in the index.
    packs: Vec<PackPlan>,
    /// Packs that no index names.
    unindexed: Vec<Id>,
    /// Used blobs of which there are several places, by the number of the one that is kept.
    chosen: Vec<usize>,
    summary: PruneSummary,
}

impl std::fmt::Debug for Plan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("summary", &self.summary).finish_non_exhaustive()
    }
}

impl Plan<'_> {
    /// What would be done.
    pub fn summary(&self) -> PruneSummary {
        self.summary
    }

    fn with(&self, fate: Fate) -> impl Iterator<Item = (usize, &PackPlan)> {
        self.packs.iter().enumerate().filter(move |(_, pack)| pack.fate == fate)
    }
}

/// Finds out what is used, and decides what becomes of each pack. Nothing is written. `repo` has its whole index, loaded under
/// the lock of `guard` when the snapshots had been read; `pack_size` is that of new packs.
///
/// # Errors
/// [`RepositoryError::Refused`] if something that a snapshot needs is missing; packs cannot be listed; [`RepositoryError::Cancelled`].
pub fn plan<'a>(
    repo: &'a Indexed,
    snapshots: &[(Id, SnapshotFile)],
    request: &PruneRequest,
    pack_size: usize,
    guard: Guard<'_>,
    progress: &dyn Progress,
) -> Result<Plan<'a>, RepositoryError> {
    guard.check()?;
    progress.event(Event::Phase("finding what snapshots use"));
    let places = Places::of(repo.index());
    let roots = snapshots.iter().map(|(_, snapshot)| snapshot.tree).collect();
    let (kept, blobs_used) = used::mark(repo, &places, roots, &guard)?;
    guard.check()?;
    progress.event(Event::Phase("planning"));
    let mut plan =
        Plan { repo, places, kept, packs: Vec::new(), unindexed: Vec::new(), chosen: Vec::new(), summary: PruneSummary::default() };
    plan.summary.dry_run = request.dry_run;
    plan.summary.snapshots = snapshots.len() as u64;
    plan.summary.blobs_used = blobs_used;
    choose::choose(&mut plan, request, pack_size, guard)?;
    Ok(plan)
}

/// Does what was planned, under the exclusive lock of `guard`.
///
/// # Errors
/// A blob that is to be kept cannot be read, or the storage failed, or [`RepositoryError::LockLost`] or
/// [`RepositoryError::Cancelled`]. Everything that is used is there then; the next prune goes on.
pub fn execute(plan: &Plan<'_>, pack_size: usize, guard: Guard<'_>, progress: &dyn Progress) -> Result<PruneSummary, RepositoryError> {
    if guard.lock.is_none_or(|lock| !lock.is_exclusive()) {
        return Err(RepositoryError::Internal("a prune without the exclusive lock".to_owned()));
    }
    let mut summary = plan.summary;
    summary.dry_run = false;
    guard.confirm()?;
    // What cannot be removed is no reason not to go on: nothing counts on it.
    drop(plan.repo.backend().remove_leftovers());
    // They may name packs that are not there any more: nothing else may go before they do.
    remove_in_order(plan.repo, plan.repo.superseded(), &guard)?;
    if !plan.unindexed.is_empty() {
        progress.event(Event::Phase("removing packs that no index names"));
        remove(plan.repo, FileKind::Pack, &plan.unindexed, &guard)?;
    }
    let repacked = repack::repack(plan, pack_size, &guard, progress)?;
    summary.packs_written = repacked.packs;
    let written = repacked.bytes;
    guard.check()?;
    let indexes = rewrite::write_index(plan, repacked, &guard, progress)?;
    summary.indexes_written = indexes.written as u64;
    summary.indexes_removed = (plan.repo.superseded().len() + indexes.obsolete.len()) as u64;
    // From here on things go, and nobody else may have begun to use them. First the indexes, so that never does one name a pack that is gone.
    guard.confirm()?;
    remove_in_order(plan.repo, &indexes.obsolete, &guard)?;
    let gone: Vec<Id> = plan.with(Fate::Remove).chain(plan.with(Fate::Repack)).map(|(number, _)| plan.places.packs()[number]).collect();
    if !gone.is_empty() {
        progress.event(Event::Phase("removing packs"));
        guard.confirm()?;
        remove(plan.repo, FileKind::Pack, &gone, &guard)?;
    }
    let kept: u64 = plan.with(Fate::Keep).map(|(_, pack)| pack.size).sum();
    summary.bytes_after = kept + written;
    summary.bytes_freed = summary.bytes_before.saturating_sub(summary.bytes_after);
    Ok(summary)
}

/// Removes index files one after the other.
fn remove_in_order(repo: &Indexed, ids: &[Id], guard: &Guard<'_>) -> Result<(), RepositoryError> {
    for id in ids {
        guard.check()?;
        repo.remove(FileKind::Index, id)?;
    }
    Ok(())
}

/// Removes files in any order, as many at once as the backend takes.
fn remove(repo: &Indexed, kind: FileKind, ids: &[Id], guard: &Guard<'_>) -> Result<(), RepositoryError> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<RepositoryError>> = Mutex::default();
    let work = || {
        while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = guard.check().and_then(|()| repo.remove(kind, id)) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                // The others stop as well.
                next.store(ids.len(), Ordering::Relaxed);
                return;
            }
        }
    };
    let threads = repo.backend().connections().clamp(1, 16).min(ids.len());
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
