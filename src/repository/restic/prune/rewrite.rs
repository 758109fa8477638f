//! The index after a prune: files that name nothing that goes stay, the others are written anew.
//!
//! Index files are read one after the other: only one of them for each thread is in memory.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Plan;
use super::choose::Fate;
use super::repack::Repacked;
use crate::model::progress::{Event, Progress};
use crate::repository::backend::FileKind;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::file::{IndexFile, damaged_json};
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::lock::Guard;
use crate::repository::restic::reader;
use crate::repository::restic::writer::{INDEX_BLOBS, IndexCollector};

/// Index files with fewer blobs are joined, once there are several of them.
const SMALL: u64 = INDEX_BLOBS as u64 / 5;
const SEVERAL: usize = 8;

/// What became of the index.
pub(super) struct Indexes {
    /// Files that were written.
    pub(super) written: usize,
    /// Files that are to be removed, in this order.
    pub(super) obsolete: Vec<Id>,
}

/// What one index file is like.
struct FileState {
    id: Id,
    /// Its number among all.
    number: u32,
    blobs: u64,
    /// It names a pack that goes, or that another file names as well, or has the oldest form.
    is_stale: bool,
    /// It has the oldest form.
    is_bare: bool,
}

/// In the place of a file's number: no file has named the pack yet.
const NOBODY: u32 = u32::MAX;
/// In the place of a file's number: the new index names the pack.
const DONE: u32 = u32::MAX - 1;

/// Writes the new index, and says which files it replaces. Nothing is removed yet.
///
/// # Errors
/// An index file cannot be read or written; what [`Guard`] says.
pub(super) fn write_index(
    plan: &Plan<'_>,
    mut repacked: Repacked,
    guard: &Guard<'_>,
    progress: &dyn Progress,
) -> Result<Indexes, RepositoryError> {
    progress.event(Event::Phase("writing the index"));
    let open = plan.repo.open();
    let known = |id: &Id| !repacked.indexes.written.contains(id) && !plan.repo.superseded().contains(id);
    let ids: Vec<Id> = open.list_ids(FileKind::Index)?.into_iter().filter(known).collect();
    let nothing_goes = repacked.packs == 0 && plan.with(Fate::Remove).next().is_none();
    let index = Rewrite::new(plan, ids);
    let files = index.look(guard)?;
    if nothing_goes && files.len() < SEVERAL && !files.iter().any(|file| file.is_bare) {
        return Ok(Indexes { written: 0, obsolete: Vec::new() });
    }
    let (mut stale, kept): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.is_stale);
    let (small, kept): (Vec<_>, Vec<_>) = kept.into_iter().partition(|file| file.blobs < SMALL);
    index.count(&kept);
    if nothing_goes && stale.is_empty() && small.len() < SEVERAL {
        index.count(&small);
    } else {
        stale.extend(small);
    }
    index.emit(&stale, guard, &mut repacked.indexes)?;
    guard.check()?;
    repacked.indexes.flush(open, guard.lock)?;
    index.verify(&repacked)?;
    let obsolete = stale.into_iter().map(|file| file.id).collect();
    Ok(Indexes { written: repacked.indexes.written.len(), obsolete })
}

struct Rewrite<'a, 'p> {
    plan: &'a Plan<'p>,
    /// All index files that were loaded, sorted.
    ids: Vec<Id>,
    /// Numbers of packs by their ids.
    numbers: hashbrown::HashMap<Id, u32, BuildIdHasher>,
    /// By the numbers of packs: which of the index files names it; of several, whichever came first.
    owners: Vec<AtomicU32>,
    /// Blobs of kept packs that index files name from now on.
    named: AtomicU64,
    /// Whether a pack is named in parts: then blobs are named more than once, and cannot be counted.
    in_parts: AtomicBool,
}

impl<'a, 'p> Rewrite<'a, 'p> {
    fn new(plan: &'a Plan<'p>, ids: Vec<Id>) -> Self {
        let packs = plan.places.packs();
        Self {
            plan,
            ids,
            numbers: packs.iter().enumerate().map(|(number, id)| (*id, number as u32)).collect(),
            owners: packs.iter().map(|_| AtomicU32::new(NOBODY)).collect(),
            named: AtomicU64::new(0),
            in_parts: AtomicBool::new(false),
        }
    }

    /// Reads all files once, to see which of them can stay.
    fn look(&self, guard: &Guard<'_>) -> Result<Vec<FileState>, RepositoryError> {
        let results = self.plan.repo.open().read_all(FileKind::Index, &self.ids, |id, json| {
            guard.check()?;
            let file = parse(id, &json)?;
            let number = self.ids.binary_search(id).map_or(NOBODY, |number| number as u32);
            let is_bare = IndexFile::is_bare(&json);
            let mut state = FileState { id: *id, number, blobs: 0, is_stale: is_bare, is_bare };
            for pack in &file.packs {
                state.blobs += pack.blobs.len() as u64;
                let stays = self.keeps(&pack.id).is_some_and(|known| self.is_complete(known, pack.blobs.len()) && self.own(known, number));
                state.is_stale |= !stays;
            }
            Ok(state)
        });
        results.into_iter().map(|(_, state)| state).collect()
    }

    /// Whether this file is the first one to name the pack.
    fn own(&self, pack: usize, number: u32) -> bool {
        self.owners[pack].compare_exchange(NOBODY, number, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The number of a pack if it stays.
    fn keeps(&self, id: &Id) -> Option<usize> {
        let number = *self.numbers.get(id)? as usize;
        self.plan.packs.get(number).filter(|pack| pack.fate == Fate::Keep).map(|_| number)
    }

    /// Whether so many blobs are all that the index has of a pack.
    fn is_complete(&self, pack: usize, blobs: usize) -> bool {
        self.plan.packs[pack].blobs as usize == blobs
    }

    /// Counts what files say that stay as they are.
    fn count(&self, files: &[FileState]) {
        self.named.fetch_add(files.iter().map(|file| file.blobs).sum(), Ordering::Relaxed);
    }

    /// Says again what these files say of packs that stay.
    fn emit(&self, files: &[FileState], guard: &Guard<'_>, into: &mut IndexCollector) -> Result<(), RepositoryError> {
        let open = self.plan.repo.open();
        let next = AtomicUsize::new(0);
        let rest = Mutex::new((std::mem::take(into), None));
        let work = || -> Result<(), RepositoryError> {
            let mut own = IndexCollector::default();
            while let Some(FileState { id, number, .. }) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                guard.check()?;
                let file = parse(id, &open.read_unpacked(FileKind::Index, id)?)?;
                for pack in file.packs.into_iter().filter(|pack| self.is_said_by(&pack.id, pack.blobs.len(), *number)) {
                    self.named.fetch_add(pack.blobs.len() as u64, Ordering::Relaxed);
                    own.add(open, guard.lock, pack)?;
                }
            }
            rest.lock().unwrap_or_else(PoisonError::into_inner).0.absorb(open, guard.lock, own)
        };
        let fail = |error: RepositoryError| {
            next.store(files.len(), Ordering::Relaxed);
            rest.lock().unwrap_or_else(PoisonError::into_inner).1.get_or_insert(error);
        };
        let threads = reader::cores().min(files.len()).max(1);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| work().unwrap_or_else(fail));
            }
        });
        let (collected, failed) = rest.into_inner().unwrap_or_else(PoisonError::into_inner);
        *into = collected;
        failed.map_or(Ok(()), Err)
    }

    /// Whether it is for this file to say what is in a pack: who owns it says it, and what nobody says in full, everybody.
    fn is_said_by(&self, id: &Id, blobs: usize, number: u32) -> bool {
        let Some(pack) = self.keeps(id) else { return false };
        if !self.is_complete(pack, blobs) {
            self.in_parts.store(true, Ordering::Relaxed);
            return true;
        }
        // A file may name a pack twice.
        self.owners[pack].compare_exchange(number, DONE, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The last look before anything is removed: whether the new index names as many blobs as it must.
    fn verify(&self, repacked: &Repacked) -> Result<(), RepositoryError> {
        let plan = self.plan;
        let expected: u64 = plan.with(Fate::Keep).map(|(_, pack)| u64::from(pack.blobs)).sum();
        let moved: u64 = plan.with(Fate::Repack).map(|(_, pack)| u64::from(pack.used_blobs)).sum();
        let named = self.named.load(Ordering::Relaxed);
        let in_parts = self.in_parts.load(Ordering::Relaxed);
        if (named != expected && !(in_parts && named > expected)) || repacked.blobs < moved {
            let found = format!("{named} of {expected} kept and {} of {moved} moved blobs", repacked.blobs);
            return Err(RepositoryError::Internal(format!("the new index names {found}; nothing was removed")));
        }
        Ok(())
    }
}

fn parse(id: &Id, json: &[u8]) -> Result<IndexFile, RepositoryError> {
    IndexFile::parse(json).map_err(|error| damaged_json(format!("index {id}"), json, "an index in JSON", &error))
}
