//! Blobs on their way: read from the source's packs in order, verified, sealed with the target's key, put into its new packs.
//!
//! Which blobs these are was found out before.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Copying;
use crate::model::progress::{Event, Progress};
use crate::platform::clock;
use crate::repository::backend::FileKind;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::codec::{BlobKind, Decoder, Encoder};
use crate::repository::restic::id::Id;
use crate::repository::restic::index::places::{Bits, NumberedPlace, Places};
use crate::repository::restic::lock::Lock;
use crate::repository::restic::pack::PackedBlob;
use crate::repository::restic::reader;
use crate::repository::restic::writer::{IndexCollector, PackBuilder, PackPair};

/// The most that is read at once, unless one blob is larger.
const WINDOW: u64 = 4 << 20;
/// Bytes between two blobs that are read and thrown away rather than asking the backend once more.
const GAP: u64 = 128 << 10;
/// The most threads: each holds two packs and a window.
const THREADS: usize = 8;

/// Copies blobs. What its threads have begun is kept from snapshot to snapshot, so that packs become full.
pub(super) struct Transfer<'a> {
    copying: Copying<'a>,
    progress: &'a dyn Progress,
    /// The blobs of the source, by numbers.
    places: Places<'a>,
    /// Those that were looked at: what is not in the target was copied, or is being copied.
    seen: Bits,
    rest: Mutex<Rest>,
}

/// What the threads leave to each other.
#[derive(Default)]
struct Rest {
    packs: PackPair,
    indexes: IndexCollector,
    /// When the last index was written, or copying began; time since boot.
    index_written: Duration,
    bytes_stored: u64,
    failed: Option<RepositoryError>,
}

/// A blob by where it stands in the source, in the order in which it is read. There is one for each blob that is to be copied, so
/// it is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    pack: u32,
    offset: u32,
    length: u32,
    /// Of the place in the source's index.
    number: u32,
}

const _: () = assert!(size_of::<Wanted>() == 16, "ten million of them fit beside two indexes");

/// What a thread reuses from blob to blob.
struct Scratch {
    decoder: Decoder,
    encoder: Encoder,
    window: Vec<u8>,
    opened: Vec<u8>,
    again: Vec<u8>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
    packs: PackPair,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(copying: Copying<'a>, progress: &'a dyn Progress) -> Self {
        let rest = Rest { index_written: clock::since_boot(), ..Rest::default() };
        let places = Places::of(copying.source.index());
        let seen = Bits::new(places.len());
        Self { copying, progress, places, seen, rest: Mutex::new(rest) }
    }

    /// Whether a folder was not looked at before. One that is in no index is looked at, and so missed.
    pub(super) fn claim_tree(&self, id: &Id) -> bool {
        let place = self.places.find(BlobKind::Tree, id);
        place.is_empty() || self.seen.set(place.start)
    }

    /// A blob that was not looked at before and is not in the target.
    ///
    /// # Errors
    /// [`RepositoryError::BlobMissing`].
    pub(super) fn want(&self, kind: BlobKind, id: &Id) -> Result<Option<Wanted>, RepositoryError> {
        let place = self.places.find(kind, id);
        if place.is_empty() {
            if self.copying.target.index().contains(kind, id) {
                return Ok(None);
            }
            return Err(RepositoryError::BlobMissing { kind: kind.word(), id: id.to_string() });
        }
        Ok(if self.seen.set(place.start) { self.wanted(kind, id) } else { None })
    }

    /// A blob that is not in the target.
    pub(super) fn wanted(&self, kind: BlobKind, id: &Id) -> Option<Wanted> {
        let place = self.places.find(kind, id);
        if place.is_empty() || self.copying.target.index().contains(kind, id) {
            return None;
        }
        let NumberedPlace { number, pack, blob } = self.places.get(place.start)?;
        Some(Wanted { pack, offset: blob.offset, length: blob.length, number: number as u32 })
    }

    /// The blob that is meant.
    pub(super) fn blob_of(&self, wanted: &Wanted) -> Option<PackedBlob> {
        self.places.get(wanted.number as usize).map(|place| place.blob)
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies blobs; gives their bytes in packs. They are in no index before [`flush`](Self::flush).
    pub(super) fn copy(&mut self, mut wanted: Vec<Wanted>) -> Result<u64, RepositoryError> {
        wanted.sort_unstable();
        let ranges: Vec<&[Wanted]> = wanted.chunk_by(|before, after| before.pack == after.pack).flat_map(split).collect();
        let before = self.rest().bytes_stored;
        let next = AtomicUsize::new(0);
        let connections = self.copying.source.backend().connections().min(THREADS);
        let threads = reader::cores().max(connections).min(THREADS).min(ranges.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut scratch = self.scratch();
                    let mut done = Ok(());
                    while let Some(range) = ranges.get(next.fetch_add(1, Ordering::Relaxed)) {
                        done = self.range(range, &mut scratch);
                        if done.is_err() {
                            break;
                        }
                    }
                    // What was read before an error need not be read again.
                    if let Err(error) = self.leave(&mut scratch).and(done) {
                        next.store(ranges.len(), Ordering::Relaxed);
                        self.rest().failed.get_or_insert(error);
                    }
                });
            }
        });
        let mut rest = self.rest();
        rest.failed.take().map_or(Ok(rest.bytes_stored - before), Err)
    }

    fn scratch(&self) -> Scratch {
        Scratch {
            decoder: Decoder::new(),
            encoder: Encoder::new(self.copying.compression, self.copying.target.version(), true).under(self.copying.control),
            window: Vec::new(),
            opened: Vec::new(),
            again: Vec::new(),
            plain: Vec::new(),
            sealed: Vec::new(),
            packs: PackPair::default(),
        }
    }

    /// Copies blobs that stand close together in one pack.
    fn range(&self, blobs: &[Wanted], scratch: &mut Scratch) -> Result<(), RepositoryError> {
        self.copying.check()?;
        let (Some(first), Some(last)) = (blobs.first(), blobs.last()) else { return Ok(()) };
        let from = u64::from(first.offset);
        let to = u64::from(last.offset) + u64::from(last.length);
        scratch.window.resize((to - from) as usize, 0);
        let pack = self.places.packs().get(first.pack as usize).map(Id::to_string).unwrap_or_default();
        // What cannot be read here may still stand in another pack.
        let readable = self.copying.source.backend().read_at(FileKind::Pack, &pack, from, &mut scratch.window).is_ok();
        for wanted in blobs {
            let start = (wanted.offset - first.offset) as usize;
            let blob = self.blob_of(wanted).ok_or_else(|| RepositoryError::Internal("a blob of the source is in no place".into()))?;
            self.blob(&blob, readable.then_some(start), scratch)?;
        }
        Ok(())
    }

    fn blob(&self, blob: &PackedBlob, at: Option<usize>, scratch: &mut Scratch) -> Result<(), RepositoryError> {
        let compressed = at.is_some_and(|at| self.open(blob, at, scratch));
        if at.is_none() || scratch.opened.is_empty() {
            self.copying.source.read_blob(blob.kind, &blob.id, &mut scratch.plain)?;
        }
        scratch.sealed.clear();
        let uncompressed = if compressed {
            self.seal(blob, scratch)?;
            blob.uncompressed
        } else {
            let key = self.copying.target.key();
            scratch.encoder.encode(key, blob.kind, &scratch.plain, &mut scratch.sealed)?.uncompressed
        };
        let length = scratch.sealed.len() as u32;
        let packed = PackedBlob { id: blob.id, kind: blob.kind, offset: 0, length, uncompressed };
        let pack = scratch.packs.of(blob.kind);
        pack.push(&packed, &scratch.sealed);
        if pack.is_full(self.copying.pack_size) {
            self.write(scratch.packs.of(blob.kind))?;
        }
        self.progress.event(Event::Bytes(u64::from(blob.plain_length())));
        self.progress.event(Event::Stored { raw: scratch.plain.len() as u64, stored: length.into() });
        self.rest().bytes_stored += u64::from(length);
        Ok(())
    }

    /// Opens a blob that was read and verifies it by its hash; `opened` is empty if it is not what it should be. Says whether it
    /// can stay compressed as it is.
    fn open(&self, blob: &PackedBlob, at: usize, scratch: &mut Scratch) -> bool {
        let Scratch { decoder, window, opened, plain, .. } = scratch;
        opened.clear();
        let Some(sealed) = window.get_mut(at..at + blob.length as usize) else { return false };
        opened.extend_from_slice(sealed);
        let key = self.copying.source.key();
        let whole = decoder.decode(key, sealed, blob.uncompressed, plain).is_ok() && Id::of(plain) == blob.id;
        if !whole {
            opened.clear();
            return false;
        }
        blob.uncompressed.is_some() && self.copying.target.version() >= 2
    }

    /// Encrypts what was compressed before, and looks whether it comes out again.
    fn seal(&self, blob: &PackedBlob, scratch: &mut Scratch) -> Result<(), RepositoryError> {
        let Scratch { opened, again, sealed, .. } = scratch;
        let corrupted = || RepositoryError::Corrupted { what: format!("{} blob", blob.kind.word()) };
        let stored = self.copying.source.key().open(opened).map_err(|_| corrupted())?;
        let key = self.copying.target.key();
        key.seal(stored, sealed).map_err(|error| RepositoryError::Internal(error.to_string()))?;
        again.clear();
        again.extend_from_slice(sealed);
        if key.open(again).is_ok_and(|same| same == stored) { Ok(()) } else { Err(corrupted()) }
    }

    /// Passes on what a thread has begun.
    fn leave(&self, scratch: &mut Scratch) -> Result<(), RepositoryError> {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            let own = std::mem::take(scratch.packs.of(kind));
            let mut full = {
                let mut rest = self.rest();
                let joined = rest.packs.of(kind);
                joined.absorb(&own);
                if !joined.is_full(self.copying.pack_size) {
                    continue;
                }
                std::mem::take(joined)
            };
            self.write(&mut full)?;
        }
        Ok(())
    }

    fn write(&self, pack: &mut PackBuilder) -> Result<(), RepositoryError> {
        self.copying.lock.map_or(Ok(()), Lock::confirm)?;
        let (entry, _) = pack.write(self.copying.target.open())?;
        let open = self.copying.target.open();
        let mut rest = self.rest();
        rest.indexes.add(open, self.copying.lock, entry)?;
        if clock::since_boot().saturating_sub(rest.index_written) >= self.copying.index_interval {
            rest.indexes.flush(open, self.copying.lock)?;
            rest.index_written = clock::since_boot();
        }
        Ok(())
    }

    /// Writes what is begun, and the index of everything that was copied.
    pub(super) fn flush(&mut self) -> Result<(), RepositoryError> {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            let mut begun = std::mem::take(self.rest().packs.of(kind));
            if !begun.is_empty() {
                self.write(&mut begun)?;
            }
        }
        let open = self.copying.target.open();
        self.rest().indexes.flush(open, self.copying.lock)
    }

    /// The same at the end, however the copy went. Without a lock nothing was written.
    pub(super) fn finish(mut self) -> Result<(), RepositoryError> {
        if self.copying.lock.is_none() { Ok(()) } else { self.flush() }
    }
}

/// Splits the blobs of one pack into parts that are worth reading at once.
fn split(blobs: &[Wanted]) -> Vec<&[Wanted]> {
    let mut parts = Vec::new();
    let mut first = 0;
    for number in 1..=blobs.len() {
        let end = |blob: &Wanted| u64::from(blob.offset) + u64::from(blob.length);
        let together = blobs.get(number).is_some_and(|blob| {
            let start = u64::from(blobs[first].offset);
            u64::from(blob.offset).saturating_sub(end(&blobs[number - 1])) <= GAP && end(blob) - start <= WINDOW
        });
        if !together {
            parts.extend(blobs.get(first..number));
            first = number;
        }
    }
    parts
}
