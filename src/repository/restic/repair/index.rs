//! The index made anew from the packs, where it is damaged or does not agree with them (design document, section "Indexing").
//!
//! What snapshots need is not looked at.

mod salvage;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use self::salvage::{Broken, Scratch};
use super::{KEPT, confirmed, is_damage};
use crate::model::progress::{Event, Progress};
use crate::repository::backend::FileKind;
use crate::repository::contract::RepositoryError;
use crate::repository::contract::repair::{RepairIndexRequest, RepairIndexSummary};
use crate::repository::restic::file::{IndexFile, IndexPack, damaged_json};
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::lock::Guard;
use crate::repository::restic::pack::{self, PackedBlob};
use crate::repository::restic::reader;
use crate::repository::restic::state::Open;
use crate::repository::restic::writer::{IndexCollector, index_pack, packed_blobs};

/// In the place of a file's number: no index file says truly what is in the pack.
const NOBODY: u32 = u32::MAX;
/// In the place of a file's number: the new index says it.
const DONE: u32 = u32::MAX - 1;
/// In the place of a file's number: the pack itself has said it.
const READ: u32 = u32::MAX - 2;
/// The most threads that read packs.
const THREADS: usize = 8;

/// A pack on disk.
struct OnDisk {
    size: u64,
    /// The number of the index file that says what is in it.
    owner: AtomicU32,
    /// An index file names it, truly or not. One that none names may have been left out for its damage by an earlier repair.
    is_named: AtomicBool,
}

/// What is wrong with one index file.
struct FileState {
    id: Id,
    number: u32,
    supersedes: Vec<Id>,
    is_stale: bool,
}

struct Repair<'a> {
    open: &'a Open,
    request: &'a RepairIndexRequest,
    guard: Guard<'a>,
    progress: &'a dyn Progress,
    packs: HashMap<Id, OnDisk, BuildIdHasher>,
    found: Mutex<Found>,
}

/// What threads find.
#[derive(Default)]
struct Found {
    summary: RepairIndexSummary,
    indexes: IndexCollector,
    broken: Vec<Broken>,
    missing: hashbrown::HashSet<Id, BuildIdHasher>,
    failed: Option<RepositoryError>,
}

impl Found {
    fn problem(&mut self, sentence: String) {
        if self.summary.problems.len() < KEPT {
            self.summary.problems.push(sentence);
        }
    }
}

/// Makes the index agree with the packs. In a dry run nothing is written.
///
/// # Errors
/// Files cannot be listed, read for other reasons than damage, or written; what [`Guard`] says.
pub fn repair(
    open: &Open,
    request: &RepairIndexRequest,
    pack_size: usize,
    guard: Guard<'_>,
    progress: &dyn Progress,
) -> Result<RepairIndexSummary, RepositoryError> {
    guard.check()?;
    // The index may be gone with its folder; without the packs everything would be called lost.
    open.require_folder(FileKind::Pack)?;
    progress.event(Event::Phase("reading the index"));
    // First the index: what others write meanwhile is then a pack that no index names, and not one that is missing.
    let ids = open.list_ids(FileKind::Index)?;
    let on_disk = |(id, size)| (id, OnDisk { size, owner: AtomicU32::new(NOBODY), is_named: AtomicBool::new(false) });
    let packs: HashMap<_, _, _> = open.list_sizes(FileKind::Pack)?.into_iter().map(on_disk).collect();
    let mut found = Found::default();
    found.summary.dry_run = request.dry_run;
    found.summary.packs = packs.len() as u64;
    found.indexes = IndexCollector::new(request.dry_run);
    let repair = Repair { open, request, guard, progress, packs, found: Mutex::new(found) };
    let stale: Vec<FileState> = repair.look(&ids)?.into_iter().filter(|file| file.is_stale).collect();
    repair.read_packs()?;
    repair.save(&ids, pack_size)?;
    repair.emit(&stale)?;
    guard.check()?;
    let mut found = repair.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.indexes.flush(open, guard.lock)?;
    found.summary.indexes_written = found.indexes.count;
    found.summary.indexes_removed = stale.len() as u64;
    found.summary.packs_missing = found.missing.len() as u64;
    found.summary.problems.sort();
    if !request.dry_run {
        guard.confirm()?;
        for file in &stale {
            guard.check()?;
            open.remove(FileKind::Index, &file.id)?;
        }
    }
    Ok(found.summary)
}

impl Repair<'_> {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trusts_no_index(&self) -> bool {
        self.request.read_all_packs || self.request.read_data
    }

    /// Reads all index files, to see which of them are true.
    fn look(&self, ids: &[Id]) -> Result<Vec<FileState>, RepositoryError> {
        let number = |id: &Id| ids.binary_search(id).map_or(NOBODY, |number| number as u32);
        let results = self.open.read_all(FileKind::Index, ids, |id, json| {
            let file = parse(id, &json)?;
            let is_stale = self.trusts_no_index() || IndexFile::is_bare(&json);
            let mut state = FileState { id: *id, number: number(id), supersedes: file.supersedes, is_stale };
            for pack in &file.packs {
                state.is_stale |= !self.is_true(pack, state.number);
            }
            Ok(state)
        });
        let mut files = Vec::with_capacity(ids.len());
        for (id, result) in results {
            match result {
                Ok(state) => files.push(state),
                Err(error) if is_damage(&error) => {
                    let mut found = self.found();
                    found.summary.indexes_damaged += 1;
                    found.problem(error.with_causes());
                    files.push(FileState { id, number: number(&id), supersedes: Vec::new(), is_stale: true });
                }
                Err(error) => return Err(error),
            }
        }
        // What they say of packs that are there is said again by others.
        let superseded: Vec<Id> = files.iter().flat_map(|file| file.supersedes.iter().filter(|id| **id != file.id)).copied().collect();
        for file in &mut files {
            file.is_stale |= superseded.contains(&file.id);
        }
        Ok(files)
    }

    /// Whether an index file says of a pack what is there, and no other has before.
    fn is_true(&self, pack: &IndexPack, file: u32) -> bool {
        let Some(known) = self.packs.get(&pack.id) else {
            let mut found = self.found();
            if found.missing.insert(pack.id) {
                found.summary.blobs_lost += pack.blobs.len() as u64;
                found.problem(format!("pack {} is missing: {} blobs are lost with it", pack.id, pack.blobs.len()));
            }
            return false;
        };
        known.is_named.store(true, Ordering::Relaxed);
        let blobs = packed_blobs(pack);
        if pack::pack_size(&blobs) != known.size || !follow_each_other(&blobs) {
            return false;
        }
        self.trusts_no_index() || known.owner.compare_exchange(NOBODY, file, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Finds out from the packs what is in those of which no index file says it.
    fn read_packs(&self) -> Result<(), RepositoryError> {
        let wanted = |known: &OnDisk| known.owner.load(Ordering::Relaxed) == NOBODY;
        let mut tasks: Vec<(&Id, &OnDisk)> = self.packs.iter().filter(|(_, known)| wanted(known)).collect();
        if tasks.is_empty() {
            return Ok(());
        }
        tasks.sort_unstable_by_key(|(id, _)| **id);
        self.progress.event(Event::Phase("reading packs"));
        let bytes = tasks.iter().filter(|(_, known)| self.reads_data_of(known)).map(|(_, known)| known.size).sum();
        self.progress.event(Event::Expected { entries: tasks.len() as u64, bytes });
        let next = AtomicUsize::new(0);
        let work = || {
            let mut scratch = Scratch::default();
            while let Some((id, known)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.read_pack(id, known, &mut scratch) {
                    next.store(tasks.len(), Ordering::Relaxed);
                    self.found().failed.get_or_insert(error);
                }
            }
        };
        let threads = reader::cores().max(self.open.backend().connections()).min(THREADS).min(tasks.len());
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        self.found().failed.take().map_or(Ok(()), Err)
    }

    fn reads_data_of(&self, pack: &OnDisk) -> bool {
        self.request.read_data || !pack.is_named.load(Ordering::Relaxed)
    }

    fn read_pack(&self, id: &Id, known: &OnDisk, scratch: &mut Scratch) -> Result<(), RepositoryError> {
        self.guard.check()?;
        let blobs = match confirmed(|| pack::read_header(&**self.open.backend(), self.open.key(), id, known.size)) {
            Ok(blobs) if pack::pack_size(&blobs) == known.size => blobs,
            Ok(_) => return self.is_broken(id, Vec::new(), "its size is not that of what its header names"),
            Err(error) if is_damage(&error) => return self.is_broken(id, Vec::new(), &error.with_causes()),
            Err(error) => return Err(error),
        };
        if self.reads_data_of(known) {
            for blob in &blobs {
                self.guard.check()?;
                let whole = scratch.is_whole(self.open, id, blob)?;
                self.progress.event(Event::Bytes(u64::from(blob.length)));
                if !whole {
                    return self.is_broken(id, blobs, "data in it is damaged");
                }
            }
        }
        known.owner.store(READ, Ordering::Relaxed);
        let mut found = self.found();
        found.summary.packs_read += 1;
        found.indexes.add(self.open, self.guard.lock, index_pack(*id, &blobs))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it ends the reading of a pack")]
    fn is_broken(&self, id: &Id, blobs: Vec<PackedBlob>, why: &str) -> Result<(), RepositoryError> {
        self.found().broken.push(Broken { id: *id, blobs, why: why.to_owned() });
        Ok(())
    }

    /// Says again what is true in files that go.
    fn emit(&self, files: &[FileState]) -> Result<(), RepositoryError> {
        if files.is_empty() || self.trusts_no_index() {
            return Ok(());
        }
        self.progress.event(Event::Phase("writing the index"));
        for file in files {
            self.guard.check()?;
            let Ok(index) = self.open.read_unpacked(FileKind::Index, &file.id).and_then(|json| parse(&file.id, &json)) else { continue };
            for pack in index.packs {
                let Some(known) = self.packs.get(&pack.id) else { continue };
                let blobs = packed_blobs(&pack);
                let is_true = pack::pack_size(&blobs) == known.size && follow_each_other(&blobs);
                if is_true && known.owner.compare_exchange(file.number, DONE, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    self.found().indexes.add(self.open, self.guard.lock, pack)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether blobs fill a pack from its beginning without gaps, in whatever order they are named.
fn follow_each_other(blobs: &[PackedBlob]) -> bool {
    let mut places: Vec<(u32, u32)> = blobs.iter().map(|blob| (blob.offset, blob.length)).collect();
    places.sort_unstable();
    let mut end = 0;
    places.iter().all(|(offset, length)| std::mem::replace(&mut end, u64::from(*offset) + u64::from(*length)) == u64::from(*offset))
}

fn parse(id: &Id, json: &[u8]) -> Result<IndexFile, RepositoryError> {
    IndexFile::parse(json).map_err(|error| damaged_json(format!("index {id}"), json, "an index in JSON", &error))
}
