//! Where every blob is: what the index files say (design document, section "Indexing") and what the running backup adds.
//!
//! Reading and writing index files is done by `state` and the archiver.
//!
//! What was loaded never changes and needs no locks; what a backup adds lies in small maps with a lock each, so that many
//! workers can claim and look up at once. Backups that run at once share what was loaded and what index files name since; what
//! is on its way is each one's own, as it may never arrive.

mod added;
mod loaded;
pub mod lost;
pub mod places;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use hashbrown::HashMap;

use self::added::Added;
use self::loaded::{PARTS, Part, Staged, kind_of, part_of, staged};
use self::lost::Compared;
use super::codec::BlobKind;
use super::crypto::OVERHEAD;
use super::file::IndexFile;
use super::id::{BuildIdHasher, Id};
use super::pack::PackedBlob;

/// Where a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack that holds it.
    pub pack: Id,
    /// Where it begins in the pack.
    pub offset: u32,
    /// Bytes in the pack, encryption included.
    pub length: u32,
    /// Bytes before compression; none if it is not compressed.
    pub uncompressed: Option<NonZeroU32>,
}

impl Location {
    /// Bytes of what the blob holds.
    pub fn plain_length(&self) -> u32 {
        self.uncompressed.map_or(self.length.saturating_sub(OVERHEAD as u32), NonZeroU32::get)
    }
}

/// Where a blob is, with the pack as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    pack: u32,
    offset: u32,
    length: u32,
    /// Zero if the blob is not compressed.
    uncompressed: u32,
}

/// Takes index files in and becomes an [`Index`]. Files may be added from several threads at once.
#[derive(Default)]
pub struct IndexBuilder {
    parts: [Mutex<Vec<Staged>>; PARTS],
    packs: Mutex<(Vec<Id>, HashMap<Id, u32, BuildIdHasher>)>,
}

impl std::fmt::Debug for IndexBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexBuilder").finish_non_exhaustive()
    }
}

impl IndexBuilder {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what a file says. What several files say is kept once; of a blob in several packs every place is kept.
    ///
    /// # Errors
    /// What the file should have said; nothing of it was added.
    pub fn add(&self, file: &IndexFile) -> Result<(), &'static str> {
        if file.misfit().is_some() {
            return Err("blobs that fit a pack");
        }
        let mut records: [Vec<Staged>; PARTS] = Default::default();
        for pack in &file.packs {
            let number = self.number(&pack.id).ok_or("fewer packs")?;
            for blob in &pack.blobs {
                let uncompressed = blob.uncompressed_length.map_or(0, NonZeroU32::get);
                let place = Place { pack: number, offset: blob.offset, length: blob.length, uncompressed };
                records[part_of(blob.kind, &blob.id)].push(staged(&blob.id, place));
            }
        }
        for (part, records) in self.parts.iter().zip(records) {
            let mut part = locked(part);
            loaded::reserve(&mut part, records.len());
            part.extend(records);
        }
        Ok(())
    }

    /// The number of a pack; none if there are too many.
    fn number(&self, pack: &Id) -> Option<u32> {
        let mut packs = locked(&self.packs);
        let (list, numbers) = &mut *packs;
        if let Some(number) = numbers.get(pack) {
            return Some(*number);
        }
        let number = u32::try_from(list.len()).ok().filter(|number| *number < CLAIMED)?;
        list.push(*pack);
        numbers.insert(*pack, number);
        Some(number)
    }

    /// Sorts what was added, on all cores.
    pub fn finish(self) -> Index {
        let parts = self.parts.map(|part| part.into_inner().unwrap_or_else(PoisonError::into_inner));
        let count: usize = parts.iter().map(Vec::len).sum();
        let parts: Vec<Part> = if count < 50_000 {
            // Threads cost more than sorting so few.
            parts.into_iter().enumerate().map(|(number, part)| Part::new(part, number)).collect()
        } else {
            sort_on_all_cores(parts)
        };
        let loaded = parts.iter().map(|part| part.distinct).sum();
        let packs = self.packs.into_inner().unwrap_or_else(PoisonError::into_inner).0;
        Index::over(Arc::new(Saved { parts, loaded, packs: RwLock::new(packs), added: Added::default(), compared: OnceLock::new() }))
    }
}

fn sort_on_all_cores(parts: [Vec<Staged>; PARTS]) -> Vec<Part> {
    let waiting = Mutex::new(parts.into_iter().enumerate());
    let done = Mutex::new(Vec::with_capacity(PARTS));
    let work = || {
        while let Some((number, part)) = { locked(&waiting).next() } {
            let part = Part::new(part, number);
            locked(&done).push((number, part));
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(PARTS);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, part)| part).collect()
}

/// In the place of a pack's number: somebody is about to store this blob.
const CLAIMED: u32 = u32::MAX;

/// What index files on disk say: whoever finds a blob here may count on it.
struct Saved {
    /// What they said when they were loaded, by [`part_of`].
    parts: Vec<Part>,
    /// Distinct blobs in `parts`.
    loaded: usize,
    /// Packs by number. Only appended to, also with those that no index file names yet.
    packs: RwLock<Vec<Id>>,
    /// What backups of this process have written and named since.
    added: Added,
    /// Which packs are not there, once somebody has looked.
    compared: OnceLock<Compared>,
}

/// Where all blobs are. Shared by reference; every method may be called from several threads at once.
pub struct Index {
    saved: Arc<Saved>,
    /// What the running backup claims and stores, and no index file names yet.
    fresh: Added,
    /// Number of blobs in `fresh` that are stored.
    published: AtomicUsize,
    /// Packs that are in no index file yet.
    unsaved: Mutex<Vec<(Id, Vec<PackedBlob>)>>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("blobs", &self.len()).finish_non_exhaustive()
    }
}

/// What the index knows of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackSummary {
    /// The pack.
    pub id: Id,
    /// Bytes that the file must have, if the index names all its blobs.
    pub size: u64,
    /// Blobs in it.
    pub blobs: u32,
    /// Where the last of its blobs ends, in bytes from the start of the file.
    pub end: u64,
}

impl Index {
    /// An index of nothing.
    pub fn empty() -> Self {
        IndexBuilder::new().finish()
    }

    fn over(saved: Arc<Saved>) -> Self {
        Self { saved, fresh: Added::default(), published: AtomicUsize::new(0), unsaved: Mutex::default() }
    }

    /// The same for one more backup. Of what another has claimed or stored it knows only what an index file names: the other
    /// may fail, and then nobody stores the rest.
    #[must_use]
    pub fn for_writer(&self) -> Self {
        Self::over(Arc::clone(&self.saved))
    }

    /// Number of blobs that are stored. One that two backups store at once may be counted twice.
    pub fn len(&self) -> usize {
        self.saved.loaded + self.saved.added.len() + self.published.load(Ordering::Relaxed)
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a stored blob is; one of the places if there are several.
    pub fn lookup(&self, kind: BlobKind, id: &Id) -> Option<Location> {
        let place = self.loaded(kind, id).next().or_else(|| self.published_place(kind, id))?;
        Some(self.location(place))
    }

    /// Every place of a stored blob: another copy may help where one is damaged.
    pub fn lookup_all(&self, kind: BlobKind, id: &Id) -> Vec<Location> {
        self.loaded(kind, id).chain(self.published_place(kind, id)).map(|place| self.location(place)).collect()
    }

    /// Whether the places of a stored blob say different lengths of it: then an index is wrong.
    pub fn is_disputed(&self, kind: BlobKind, id: &Id) -> bool {
        let places = self.loaded(kind, id).chain(self.published_place(kind, id));
        let mut lengths = places.map(|place| self.location(place).plain_length());
        lengths.next().is_some_and(|first| lengths.any(|other| other != first))
    }

    /// Whether a blob is stored. A claim alone does not count.
    pub fn contains(&self, kind: BlobKind, id: &Id) -> bool {
        self.is_loaded(kind, id) || self.published_place(kind, id).is_some()
    }

    /// Whether the caller is the one who must store this blob. False if it is stored, or if another thread of this backup is
    /// storing it.
    ///
    /// Who got true must store and publish the blob, or end the backup: nobody else will.
    pub fn claim(&self, kind: BlobKind, id: &Id) -> bool {
        let place = Place { pack: CLAIMED, offset: 0, length: 0, uncompressed: 0 };
        !self.is_loaded(kind, id) && self.fresh.add_unless(kind, id, place, || self.saved.added.find(kind, id).is_some())
    }

    /// Makes the blobs of a pack known, once the pack is on disk. They stay unsaved until [`take_unsaved`](Self::take_unsaved).
    pub fn publish(&self, pack: Id, blobs: &[PackedBlob]) {
        let number = {
            let mut packs = self.saved.packs.write().unwrap_or_else(PoisonError::into_inner);
            packs.push(pack);
            packs.len() as u32 - 1
        };
        for blob in blobs {
            let uncompressed = blob.uncompressed.map_or(0, NonZeroU32::get);
            let place = Place { pack: number, offset: blob.offset, length: blob.length, uncompressed };
            if self.fresh.set(blob.kind, &blob.id, place) && !self.is_loaded(blob.kind, &blob.id) {
                self.published.fetch_add(1, Ordering::Relaxed);
            }
        }
        locked(&self.unsaved).push((pack, blobs.to_vec()));
    }

    /// Takes the packs that were published and are in no index file yet, for the caller to write one.
    pub fn take_unsaved(&self) -> Vec<(Id, Vec<PackedBlob>)> {
        std::mem::take(&mut *locked(&self.unsaved))
    }

    /// Gives back packs that were taken and whose index could not be written.
    pub fn return_unsaved(&self, packs: Vec<(Id, Vec<PackedBlob>)>) {
        locked(&self.unsaved).extend(packs);
    }

    /// An index file on disk names these packs: from now on other backups may count on what is in them.
    pub fn saved(&self, packs: &[(Id, Vec<PackedBlob>)]) {
        for blob in packs.iter().flat_map(|(_, blobs)| blobs) {
            // Never in neither: another thread would store it again.
            if let Some(place) = self.fresh.find(blob.kind, &blob.id).filter(|place| place.pack != CLAIMED) {
                let is_loaded = self.is_loaded(blob.kind, &blob.id);
                self.saved.added.set(blob.kind, &blob.id, place);
                if self.fresh.remove(blob.kind, &blob.id) && !is_loaded {
                    self.published.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Number of blobs that [`take_unsaved`](Self::take_unsaved) would give.
    pub fn unsaved_blobs(&self) -> usize {
        locked(&self.unsaved).iter().map(|(_, blobs)| blobs.len()).sum()
    }

    /// Every place of every stored blob with its pack: those that were loaded in the order of their ids, then those that
    /// were published before this call.
    pub fn blobs(&self) -> impl Iterator<Item = (Id, PackedBlob)> + '_ {
        // First those on their way, which may arrive meanwhile.
        let mut published = self.fresh.stored();
        published.extend(self.saved.added.stored());
        let packs = self.saved.packs.read().unwrap_or_else(PoisonError::into_inner).clone();
        let loaded = self.saved.parts.iter().enumerate();
        let loaded = loaded.flat_map(|(number, part)| part.iter().map(move |(id, place)| packed(kind_of(number), id, place)));
        loaded.chain(published).filter_map(move |(pack, blob)| Some((*packs.get(pack as usize)?, blob)))
    }

    /// All packs that hold stored blobs.
    pub fn packs(&self) -> impl Iterator<Item = PackSummary> + use<> {
        let packs = self.saved.packs.read().unwrap_or_else(PoisonError::into_inner).clone();
        let empty = super::pack::pack_size([]);
        let mut summaries: Vec<PackSummary> = packs.into_iter().map(|id| PackSummary { id, size: empty, blobs: 0, end: 0 }).collect();
        let mut count = |pack: u32, blob: &PackedBlob| {
            // Published while this runs: not wanted yet.
            if let Some(summary) = summaries.get_mut(pack as usize) {
                summary.size += super::pack::pack_size([blob]) - empty;
                summary.blobs += 1;
                summary.end = summary.end.max(u64::from(blob.offset) + u64::from(blob.length));
            }
        };
        for (id, place) in self.saved.parts.iter().flat_map(Part::iter) {
            count(place.pack, &packed(BlobKind::Data, id, place).1);
        }
        for (pack, blob) in self.fresh.stored().into_iter().chain(self.saved.added.stored()) {
            count(pack, &blob);
        }
        summaries.into_iter()
    }

    /// What index files say, also of packs that are not there.
    fn named(&self, kind: BlobKind, id: &Id) -> impl Iterator<Item = Place> + use<'_> {
        self.saved.parts[part_of(kind, id)].find(id)
    }

    fn loaded(&self, kind: BlobKind, id: &Id) -> impl Iterator<Item = Place> + use<'_> {
        self.named(kind, id).filter(|place| !self.is_lost(place))
    }

    fn is_loaded(&self, kind: BlobKind, id: &Id) -> bool {
        self.loaded(kind, id).next().is_some()
    }

    fn published_place(&self, kind: BlobKind, id: &Id) -> Option<Place> {
        let fresh = self.fresh.find(kind, id).filter(|place| place.pack != CLAIMED);
        fresh.or_else(|| self.saved.added.find(kind, id))
    }

    fn location(&self, place: Place) -> Location {
        let packs = self.saved.packs.read().unwrap_or_else(PoisonError::into_inner);
        let pack = packs.get(place.pack as usize).copied().unwrap_or(Id([0; 32]));
        Location { pack, offset: place.offset, length: place.length, uncompressed: NonZeroU32::new(place.uncompressed) }
    }
}

fn packed(kind: BlobKind, id: Id, place: Place) -> (u32, PackedBlob) {
    let Place { pack, offset, length, uncompressed } = place;
    (pack, PackedBlob { id, kind, offset, length, uncompressed: NonZeroU32::new(uncompressed) })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is whole after every statement, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
