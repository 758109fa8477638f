//! The used blobs of packs that are to go, verified and put into new packs as they are: encrypted once, encrypted for good.
//!
//! Which packs these are was planned before.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Plan;
use super::choose::Fate;
use crate::model::compression::Compression;
use crate::model::progress::{Event, Progress};
use crate::repository::backend::FileKind;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::codec::{Decoder, Encoder};
use crate::repository::restic::id::Id;
use crate::repository::restic::index::places::NumberedPlace;
use crate::repository::restic::lock::Guard;
use crate::repository::restic::pack::{self, PackedBlob};
use crate::repository::restic::reader;
use crate::repository::restic::writer::{IndexCollector, PackBuilder, PackPair};

/// The most that is read at once, unless one blob is larger.
const WINDOW: u64 = 4 << 20;
/// Unused bytes between two blobs that are read and thrown away rather than asking the backend once more.
const GAP: u64 = 128 << 10;
/// The most threads: each holds two packs and a window.
const THREADS: usize = 8;

/// What was written.
#[derive(Default)]
pub(super) struct Repacked {
    /// Holds what no index file says yet of the new packs.
    pub(super) indexes: IndexCollector,
    /// New packs.
    pub(super) packs: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Blobs in them.
    pub(super) blobs: u64,
}

/// Writes everything that is kept of packs that go into new packs. These are named by index files now and then, so that a
/// prune that is killed has not worked in vain; the rest is for the caller to name.
///
/// # Errors
/// A blob cannot be read anywhere; the storage failed; what [`Guard`] says. Nothing was removed.
pub(super) fn repack(plan: &Plan<'_>, pack_size: usize, guard: &Guard<'_>, progress: &dyn Progress) -> Result<Repacked, RepositoryError> {
    let tasks: Vec<u32> = plan.with(Fate::Repack).map(|(number, _)| number as u32).collect();
    let rest = Mutex::new(Rest { repacked: Repacked::default(), packs: PackPair::default(), failed: None });
    let shared = Shared { plan, pack_size, guard, progress, tasks: &tasks, next: AtomicUsize::new(0), rest };
    if !tasks.is_empty() {
        progress.event(Event::Phase("writing packs anew"));
        progress.event(Event::Expected { entries: 0, bytes: plan.summary.bytes_repacked });
        let threads = reader::cores().max(plan.repo.backend().connections().min(THREADS)).min(THREADS).min(tasks.len());
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| shared.work()))));
    }
    shared.finish()
}

struct Shared<'a, 'p> {
    plan: &'a Plan<'p>,
    pack_size: usize,
    guard: &'a Guard<'a>,
    progress: &'a dyn Progress,
    tasks: &'a [u32],
    next: AtomicUsize,
    rest: Mutex<Rest>,
}

/// What the threads leave to each other.
struct Rest {
    repacked: Repacked,
    /// Packs that no thread has filled; the last one to come makes one of them.
    packs: PackPair,
    failed: Option<RepositoryError>,
}

/// What a thread reuses from pack to pack.
struct Scratch {
    decoder: Decoder,
    encoder: Encoder,
    window: Vec<u8>,
    opened: Vec<u8>,
    plain: Vec<u8>,
    packs: PackPair,
}

impl Shared<'_, '_> {
    fn scratch(&self) -> Scratch {
        Scratch {
            decoder: Decoder::new(),
            encoder: Encoder::new(Compression::Auto, self.plan.repo.version(), true),
            window: Vec::new(),
            opened: Vec::new(),
            plain: Vec::new(),
            packs: PackPair::default(),
        }
    }

    fn work(&self) {
        let mut scratch = self.scratch();
        while let Some(number) = self.tasks.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = self.pack(*number, &mut scratch) {
                self.fail(error);
                return;
            }
        }
        if let Err(error) = self.leave(&mut scratch) {
            self.fail(error);
        }
    }

    fn fail(&self, error: RepositoryError) {
        self.next.store(self.tasks.len(), Ordering::Relaxed);
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).failed.get_or_insert(error);
    }

    /// Passes on what a thread has begun.
    fn leave(&self, scratch: &mut Scratch) -> Result<(), RepositoryError> {
        use crate::repository::restic::codec::BlobKind::{Data, Tree};
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in [Data, Tree] {
            let own = std::mem::take(scratch.packs.of(kind));
            let Rest { packs, repacked, .. } = &mut *rest;
            let joined = packs.of(kind);
            joined.absorb(&own);
            if joined.is_full(self.pack_size) {
                self.write(joined, repacked)?;
            }
        }
        Ok(())
    }

    /// Looks at the copies that are relied on, and writes what the threads have left.
    fn finish(self) -> Result<Repacked, RepositoryError> {
        use crate::repository::restic::codec::BlobKind::{Data, Tree};
        if let Some(error) = self.rest.lock().unwrap_or_else(PoisonError::into_inner).failed.take() {
            return Err(error);
        }
        let mut scratch = self.scratch();
        self.rescue(&mut scratch)?;
        self.leave(&mut scratch)?;
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let Rest { packs, repacked, .. } = &mut *rest;
        for kind in [Data, Tree] {
            if !packs.of(kind).is_empty() {
                self.write(packs.of(kind), repacked)?;
            }
        }
        Ok(std::mem::take(repacked))
    }

    fn write(&self, pack: &mut PackBuilder, repacked: &mut Repacked) -> Result<(), RepositoryError> {
        self.guard.check()?;
        let (entry, size) = pack.write(self.plan.repo.open())?;
        repacked.packs += 1;
        repacked.bytes += size;
        repacked.blobs += entry.blobs.len() as u64;
        repacked.indexes.add(self.plan.repo.open(), self.guard.lock, entry)
    }

    fn pack(&self, number: u32, scratch: &mut Scratch) -> Result<(), RepositoryError> {
        let id = self.plan.places.packs()[number as usize];
        let blobs = self.kept_blobs(number, &id)?;
        let mut rest = &blobs[..];
        let mut passed = 0;
        while let Some(first) = rest.first() {
            self.guard.check()?;
            let (now, later) = rest.split_at(together(rest));
            let from = u64::from(first.offset);
            let to = now.last().map_or(from, |last| u64::from(last.offset) + u64::from(last.length));
            scratch.window.resize((to - from) as usize, 0);
            let read = self.plan.repo.backend().read_at(FileKind::Pack, &id.to_string(), from, &mut scratch.window);
            // A part of a pack that cannot be read may still stand elsewhere.
            let readable = read.is_ok();
            for blob in now {
                self.blob(blob, readable.then_some((blob.offset - first.offset) as usize), scratch)?;
            }
            self.progress.event(Event::Bytes(to - passed));
            passed = to;
            rest = later;
        }
        let size = self.plan.packs[number as usize].size;
        self.progress.event(Event::Bytes(size.saturating_sub(passed)));
        Ok(())
    }

    /// The blobs of a pack that are kept, in the order in which they stand there.
    fn kept_blobs(&self, number: u32, id: &Id) -> Result<Vec<PackedBlob>, RepositoryError> {
        let plan = self.plan;
        let planned = &plan.packs[number as usize];
        let is_kept = |blob: &PackedBlob| {
            let place = plan.places.find_at(blob.kind, &blob.id, number, blob.offset);
            place.is_some_and(|place| plan.kept.get(place) && plan.places.get(place).is_some_and(|place| place.blob == *blob))
        };
        let header = pack::read_header(&**plan.repo.backend(), plan.repo.key(), id, planned.size);
        let mut blobs: Vec<PackedBlob> = header.unwrap_or_default().into_iter().filter(is_kept).collect();
        if blobs.len() != planned.used_blobs as usize {
            // The header does not say what the index does. The index is what restores go by, so it counts; this takes long.
            let kept = |place: &NumberedPlace| place.pack == number && plan.kept.get(place.number);
            blobs = plan.places.iter().filter(kept).map(|place| place.blob).collect();
        }
        if blobs.len() != planned.used_blobs as usize {
            return Err(RepositoryError::Internal(format!("the kept blobs of pack {id} are not those that were planned")));
        }
        blobs.sort_unstable_by_key(|blob| blob.offset);
        Ok(blobs)
    }

    /// Verifies a blob and puts it into a new pack. `at` is where it stands in the window, if that could be read.
    fn blob(&self, blob: &PackedBlob, at: Option<usize>, scratch: &mut Scratch) -> Result<(), RepositoryError> {
        let Scratch { decoder, window, opened, plain, packs, .. } = scratch;
        let sealed = at.and_then(|at| window.get(at..at + blob.length as usize));
        let whole = sealed.filter(|sealed| {
            opened.clear();
            opened.extend_from_slice(sealed);
            decoder.decode(self.plan.repo.key(), opened, blob.uncompressed, plain).is_ok() && Id::of(plain) == blob.id
        });
        match whole {
            Some(sealed) => packs.of(blob.kind).push(blob, sealed),
            None => return self.take_from_elsewhere(blob, scratch),
        }
        self.write_if_full(blob, scratch)
    }

    fn write_if_full(&self, blob: &PackedBlob, scratch: &mut Scratch) -> Result<(), RepositoryError> {
        let pack = scratch.packs.of(blob.kind);
        if pack.is_full(self.pack_size) {
            // The pack is written before the lock is taken; an index file is written under it, which is seldom.
            self.guard.check()?;
            let (entry, size) = pack.write(self.plan.repo.open())?;
            let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
            let repacked = &mut rest.repacked;
            repacked.packs += 1;
            repacked.bytes += size;
            repacked.blobs += entry.blobs.len() as u64;
            repacked.indexes.add(self.plan.repo.open(), self.guard.lock, entry)?;
        }
        Ok(())
    }

    /// Puts a blob whose chosen place is damaged into a new pack, from wherever else it stands.
    fn take_from_elsewhere(&self, blob: &PackedBlob, scratch: &mut Scratch) -> Result<(), RepositoryError> {
        let repo = self.plan.repo;
        repo.read_blob(blob.kind, &blob.id, &mut scratch.plain)?;
        let mut sealed = Vec::new();
        let encoded = scratch.encoder.encode(repo.key(), blob.kind, &scratch.plain, &mut sealed)?;
        let anew = PackedBlob { offset: 0, length: encoded.length, uncompressed: encoded.uncompressed, ..*blob };
        scratch.packs.of(blob.kind).push(&anew, &sealed);
        self.write_if_full(blob, scratch)
    }

    /// Where other copies of a blob go, the one that stays is read: if it is damaged, it must not become the only one.
    fn rescue(&self, scratch: &mut Scratch) -> Result<(), RepositoryError> {
        let plan = self.plan;
        let fate = |place: &NumberedPlace| plan.packs[place.pack as usize].fate;
        for number in &plan.chosen {
            let Some(kept) = plan.places.get(*number).filter(|place| fate(place) == Fate::Keep) else { continue };
            let mut copies = plan.places.find(kept.blob.kind, &kept.blob.id).filter_map(|number| plan.places.get(number));
            if !copies.any(|copy| fate(&copy) != Fate::Keep) {
                continue;
            }
            self.guard.check()?;
            let id = plan.places.packs()[kept.pack as usize].to_string();
            scratch.window.resize(kept.blob.length as usize, 0);
            let read = plan.repo.backend().read_at(FileKind::Pack, &id, u64::from(kept.blob.offset), &mut scratch.window);
            let Scratch { decoder, window, plain, .. } = scratch;
            let whole = read.is_ok()
                && decoder.decode(plan.repo.key(), window, kept.blob.uncompressed, plain).is_ok()
                && Id::of(plain) == kept.blob.id;
            if !whole {
                self.take_from_elsewhere(&kept.blob, scratch)?;
            }
        }
        Ok(())
    }
}

/// How many of the next blobs are read at once.
fn together(blobs: &[PackedBlob]) -> usize {
    let end = |blob: &PackedBlob| u64::from(blob.offset) + u64::from(blob.length);
    let Some(first) = blobs.first() else { return 0 };
    let follows = |pair: &&[PackedBlob]| {
        let next = u64::from(pair[1].offset);
        next >= end(&pair[0]) && next - end(&pair[0]) <= GAP && end(&pair[1]) - u64::from(first.offset) <= WINDOW
    };
    1 + blobs.windows(2).take_while(follows).count()
}
