//! One worker does the whole chain for a blob: hash, claim, compress, seal, append to its own open pack. No hand-over.
//!
//! Where the bytes come from is `read`'s business, what becomes of folders `build`'s.

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{TryRecvError, select};

use super::build::{Change, Dir, FileInProgress};
use super::item::Item;
use super::queues::{ChunkJob, Job, Queues};
use super::read::FileJob;
use super::shared::Shared;
use super::upload::OpenPack;
use crate::model::progress::{Event, FileOutcome};
use crate::repository::contract::RepositoryError;
use crate::repository::restic::codec::{BlobKind, Encoder};
use crate::repository::restic::crypto;
use crate::repository::restic::id::Id;
use crate::repository::restic::pack::PackedBlob;
use crate::repository::restic::tree::{self, Node};

/// Room for a tree that is kept for the next one.
const KEPT_TREE: usize = 1 << 20;

/// The packs that a thread fills. Data goes into one of two, at random, so that the sizes of packs do not tell in which order a file
/// has chunks of which size: that could show which file it is.
#[derive(Default)]
pub(super) struct Packs([OpenPack; 3]);

/// Which of [`Packs`] is for folders. The others are for data.
const TREES: usize = 2;

/// Random bits, drawn many at once.
#[derive(Default)]
struct Lot {
    bits: u64,
    left: u32,
}

impl Lot {
    fn draw(&mut self) -> Result<usize, RepositoryError> {
        if self.left == 0 {
            let mut bytes = [0; 8];
            crypto::random(&mut bytes).map_err(|error| RepositoryError::Internal(error.to_string()))?;
            (self.bits, self.left) = (u64::from_le_bytes(bytes), u64::BITS);
        }
        let bit = self.bits & 1;
        (self.bits, self.left) = (self.bits >> 1, self.left - 1);
        Ok(bit as usize)
    }
}

/// What one thread needs to store blobs: its encoder and its open packs.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) queues: Queues,
    encoder: Encoder,
    packs: Packs,
    /// The one that a blob was put into last: what is in it is hashed beside the next blob, wherever that goes.
    last: usize,
    lot: Lot,
    pack_size: usize,
    /// File data is read into it.
    pub(super) buffer: Vec<u8>,
    json: Vec<u8>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, queues: Queues, encoder: Encoder, pack_size: usize) -> Self {
        Self {
            shared,
            queues,
            encoder,
            packs: Packs::default(),
            last: 0,
            lot: Lot::default(),
            pack_size,
            buffer: Vec::new(),
            json: Vec::new(),
        }
    }

    /// Works until there are no more files, then gives back the packs that did not become full.
    pub(super) fn run(mut self) -> Packs {
        while let Some(work) = self.next() {
            let shared = Arc::clone(&self.shared);
            // A panic must not leave the feeder waiting for ever.
            let done = catch_unwind(AssertUnwindSafe(|| match work {
                Work::Shared(job) => self.perform(job),
                Work::File(job) => self.whole_file(job),
            }));
            match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => shared.failure().set(error),
                Err(_) => shared.failure().set(RepositoryError::Internal("a worker of the backup panicked".into())),
            }
        }
        self.packs
    }

    fn next(&self) -> Option<Work> {
        match self.queues.chunks.try_recv() {
            Ok(job) => return Some(Work::Shared(job)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        self.shared.idle.fetch_add(1, Ordering::Relaxed);
        let work = select! {
            recv(self.queues.chunks) -> job => job.ok().map(Work::Shared),
            recv(self.queues.files) -> file => file.ok().map(Work::File),
        };
        self.shared.idle.fetch_sub(1, Ordering::Relaxed);
        work
    }

    /// Does what another worker has shared.
    pub(super) fn perform(&mut self, job: Job) -> Result<(), RepositoryError> {
        let (item, result) = match job {
            Job::Chunk(job) => (Arc::clone(&job.file.dir.item), self.chunk(job)),
            Job::Range(job) => {
                self.range(&job);
                (Arc::clone(&job.of.dir.item), Ok(()))
            }
        };
        self.job_done(&item);
        result
    }

    fn whole_file(&mut self, job: FileJob) -> Result<(), RepositoryError> {
        let item = Arc::clone(&job.dir.item);
        let result = self.file(job);
        self.job_done(&item);
        result
    }

    /// Whether somebody would take up work at once.
    pub(super) fn has_idle(&self) -> bool {
        self.shared.idle.load(Ordering::Relaxed) > self.queues.share.len()
    }

    /// Whether chunks are to be handed on: somebody waits, or nobody will have a file to go on with. Then some are kept ready, so
    /// that nobody waits for the one who reads while that one stores.
    pub(super) fn wants_chunks(&self) -> bool {
        let is_wanted = self.has_idle() || (self.queues.files.is_empty() && self.queues.share.len() < self.shared.workers);
        is_wanted && !self.shared.budget.is_short()
    }

    /// Counts a job as done and wakes the feeder after the last.
    pub(super) fn job_done(&self, item: &Item) {
        if item.jobs.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.failure().notify();
        }
    }

    /// Stores what another thread has read.
    fn chunk(&mut self, job: ChunkJob) -> Result<(), RepositoryError> {
        let is_dropped = self.shared.failure().is_set() || job.file.dir.item.control.is_skipped();
        let stored = if is_dropped { Ok(()) } else { self.store_chunks(&job.data, job.first, &job.file, job.number) };
        self.shared.budget.release(job.data.len());
        self.queues.give_back(job.data);
        stored
    }

    /// Stores one chunk of a file, or two that follow each other; completes the file if nothing else of it is missing.
    pub(super) fn store_chunks(
        &mut self,
        data: &[u8],
        first: usize,
        file: &Arc<FileInProgress>,
        number: usize,
    ) -> Result<(), RepositoryError> {
        let (one, two) = data.split_at(first);
        // Two at once are hashed in less time, but for where something else is there to be hashed beside each.
        let mut known = (!two.is_empty() && self.packs.0[self.last].is_hashed()).then(|| Id::of_pair(one, two).into_iter());
        for (number, chunk) in (number..).zip([one, two].into_iter().filter(|chunk| !chunk.is_empty())) {
            let id = known.as_mut().and_then(Iterator::next).unwrap_or_else(|| self.packs.0[self.last].id_of_next(chunk));
            if self.store_known(BlobKind::Data, id, chunk)? {
                file.dir.item.bytes_added.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
            file.set(number, id);
            self.finish_chunk(file)?;
        }
        Ok(())
    }

    /// Counts one pending thing of a file as done; the last one writes the content into its node.
    pub(super) fn finish_chunk(&mut self, file: &FileInProgress) -> Result<(), RepositoryError> {
        if file.finish_one() {
            let content = file.take_content();
            file.dir.update(file.index, |child| {
                if let Some(node) = child {
                    node.content = content;
                }
            });
            self.release(&file.dir)?;
        }
        Ok(())
    }

    /// Stores a blob unless the repository has it.
    pub(super) fn store(&mut self, kind: BlobKind, plain: &[u8], item: &Item) -> Result<Id, RepositoryError> {
        let (id, added) = self.store_blob(kind, plain)?;
        if added {
            item.bytes_added.fetch_add(plain.len() as u64, Ordering::Relaxed);
        }
        Ok(id)
    }

    /// Stores what is in memory, cut as a file of this content would be.
    pub(super) fn store_data(&mut self, bytes: &[u8], item: &Item) -> Result<Vec<Id>, RepositoryError> {
        let chunker = Arc::clone(&self.shared.chunker);
        let (mut rest, mut content) = (bytes, Vec::new());
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(chunker.cut(rest));
            content.push(self.store(BlobKind::Data, chunk, item)?);
            rest = later;
        }
        Ok(content)
    }

    /// As `store`, and says whether the blob is new.
    pub(super) fn store_blob(&mut self, kind: BlobKind, plain: &[u8]) -> Result<(Id, bool), RepositoryError> {
        let id = self.packs.0[self.last].id_of_next(plain);
        Ok((id, self.store_known(kind, id, plain)?))
    }

    /// The pack that the next blob goes into.
    fn choose(&mut self, kind: BlobKind) -> Result<usize, RepositoryError> {
        match kind {
            BlobKind::Data => self.lot.draw(),
            BlobKind::Tree => Ok(TREES),
        }
    }

    /// Stores a blob of which the id is known; false if the repository has it.
    fn store_known(&mut self, kind: BlobKind, id: Id, plain: &[u8]) -> Result<bool, RepositoryError> {
        let is_new = self.shared.repository.index().claim(kind, &id);
        if is_new {
            self.put(kind, id, plain)?;
        }
        Ok(is_new)
    }

    /// Stores a tree that the repository has if it cannot be read there, which is seen where there is reason to doubt it.
    fn store_doubtful(&mut self, id: &Id, json: &[u8], item: &Item) -> Result<(), RepositoryError> {
        let repository = &self.shared.repository;
        // What is on its way is no business of this.
        if !self.shared.doubts.wants(id, json) || !repository.index().contains(BlobKind::Tree, id) {
            return Ok(());
        }
        if let Err(error) = repository.read_stored(BlobKind::Tree, id, &mut Vec::new()) {
            if repository.is_lost(&error) {
                self.shared.doubts.tell(item, json, &error);
            }
            self.put(BlobKind::Tree, *id, json)?;
            item.bytes_added.fetch_add(json.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Appends a blob to a pack.
    fn put(&mut self, kind: BlobKind, id: Id, plain: &[u8]) -> Result<(), RepositoryError> {
        let repository = Arc::clone(&self.shared.repository);
        let chosen = self.choose(kind)?;
        let pack = &mut self.packs.0[chosen];
        let offset = pack.len() as u32;
        let encoded = self.encoder.encode(repository.open().key(), kind, plain, &mut pack.buffer)?;
        let (length, uncompressed): (u32, Option<NonZeroU32>) = (encoded.length, encoded.uncompressed);
        pack.push(PackedBlob { id, kind, offset, length, uncompressed });
        self.shared.budget.hold(length as usize);
        let full = pack.is_full(self.pack_size);
        self.last = chosen;
        let stats = &self.shared.stats;
        let blobs = if kind == BlobKind::Data { &stats.data_blobs } else { &stats.tree_blobs };
        blobs.fetch_add(1, Ordering::Relaxed);
        stats.data_added.fetch_add(plain.len() as u64, Ordering::Relaxed);
        stats.data_added_packed.fetch_add(u64::from(length), Ordering::Relaxed);
        self.shared.progress.event(Event::Stored { raw: plain.len() as u64, stored: u64::from(length) });
        if full {
            let fresh = self.shared.uploads.fresh();
            let pack = std::mem::replace(&mut self.packs.0[chosen], fresh);
            self.shared.uploads.send(pack)?;
        } else if self.shared.budget.is_short() {
            self.give_up_a_pack()?;
        }
        Ok(())
    }

    /// Puts the larger of the data packs where those of all workers become one.
    fn give_up_a_pack(&mut self) -> Result<(), RepositoryError> {
        let [one, two, _] = &mut self.packs.0;
        let larger = if one.len() >= two.len() { one } else { two };
        self.shared.uploads.merge(std::mem::take(larger), self.pack_size)
    }

    /// Counts one pending thing of a folder as done. Whoever finishes the last one seals the folder, and so on upwards.
    pub(super) fn release(&mut self, dir: &Arc<Dir>) -> Result<(), RepositoryError> {
        let mut dir = Arc::clone(dir);
        while dir.finish_one() {
            let Some((above, index)) = dir.above.clone() else {
                dir.item.complete.store(true, Ordering::Release);
                self.shared.failure().notify();
                return Ok(());
            };
            if self.shared.failure().is_set() || dir.item.control.is_skipped() {
                return Ok(());
            }
            // What has not changed need not be encoded and hashed to find that out.
            let id = match dir.kept() {
                Some(before) => before,
                None => self.store_tree(dir.take_nodes()?, &dir.item)?,
            };
            if dir.before != Some(id) {
                above.note_difference();
            }
            let stats = &dir.item.stats;
            let counter = match dir.before {
                None => &stats.dirs_new,
                Some(before) if before == id => &stats.dirs_unmodified,
                Some(_) => &stats.dirs_changed,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            above.change(index, Change::Sealed(id));
            dir = above;
        }
        Ok(())
    }

    /// Encodes and stores a tree. The nodes of a large folder need much memory: they are gone before the tree is compressed.
    pub(super) fn store_tree(&mut self, nodes: Vec<Node>, item: &Item) -> Result<Id, RepositoryError> {
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        json.reserve_exact(tree::Encoder::estimate(&nodes));
        self.shared.trees.encode(&nodes, &mut json);
        drop(nodes);
        let id = self.store(BlobKind::Tree, &json, item)?;
        self.store_doubtful(&id, &json, item)?;
        json.clear();
        json.shrink_to(KEPT_TREE);
        self.json = json;
        Ok(id)
    }

    /// Takes over the packs that another worker left.
    pub(super) fn absorb(&mut self, packs: Packs) -> Result<(), RepositoryError> {
        for (own, other) in self.packs.0.iter_mut().zip(packs.0) {
            own.absorb(other);
            if own.is_full(self.pack_size) {
                let fresh = self.shared.uploads.fresh();
                self.shared.uploads.send(std::mem::replace(own, fresh))?;
            }
        }
        Ok(())
    }

    /// Hands over the packs that are not full. What is left of data fits one, or is more than one pack's worth.
    pub(super) fn flush(&mut self) -> Result<(), RepositoryError> {
        let common = self.shared.uploads.take_common();
        let [one, two, _] = &mut self.packs.0;
        if two.len() + common.len() <= self.pack_size {
            two.absorb(common);
        } else if !common.is_empty() {
            self.shared.uploads.send(common)?;
        }
        if one.len() + two.len() <= self.pack_size {
            one.absorb(std::mem::take(two));
        }
        for pack in &mut self.packs.0 {
            if !pack.is_empty() {
                self.shared.uploads.send(std::mem::take(pack))?;
            }
        }
        Ok(())
    }

    /// Counts a file of the item.
    pub(super) fn file_done(&self, item: &Item, path: &[u8], size: u64, outcome: FileOutcome) {
        let stats = &item.stats;
        let counter = match outcome {
            FileOutcome::New => &stats.files_new,
            FileOutcome::Changed => &stats.files_changed,
            FileOutcome::Unchanged => &stats.files_unmodified,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        stats.total_files.fetch_add(1, Ordering::Relaxed);
        stats.total_bytes.fetch_add(size, Ordering::Relaxed);
        item.entries.fetch_add(1, Ordering::Relaxed);
        item.bytes.fetch_add(size, Ordering::Relaxed);
        self.shared.progress.event(Event::FileFinished { path, size, outcome });
    }
}

enum Work {
    Shared(Job),
    File(FileJob),
}
