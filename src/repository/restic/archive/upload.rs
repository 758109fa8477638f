//! Packs on their way to the backend: open ones that workers fill, full ones that a few threads write, and the index files
//! that name them.
//!
//! Order on disk: a pack, then an index that names it. The snapshot comes after both, from `archive`.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};

use super::budget::Budget;
use super::shared::Failure;
use crate::platform::clock;
use crate::platform::control::Control;
use crate::repository::backend::FileKind;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::file::{self, IndexFile};
use crate::repository::restic::id::{Id, RunningId};
use crate::repository::restic::lock::Lock;
use crate::repository::restic::pack::{self, PackedBlob};
use crate::repository::restic::state::Indexed;
use crate::repository::restic::writer::{INDEX_BLOBS, index_pack};

/// Blobs in one pack: far below what a header can hold, and so that reading a header stays cheap.
const PACK_BLOBS: usize = 50_000;

/// How often whoever waits for a slow backend looks whether there is still reason to.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A pack that is being filled.
#[derive(Default)]
pub(super) struct OpenPack {
    /// The sealed blobs one after the other.
    pub(super) buffer: Vec<u8>,
    blobs: Vec<PackedBlob>,
    /// Of the first `hashed` bytes of `buffer`.
    hasher: RunningId,
    hashed: usize,
}

impl OpenPack {
    /// Records the blob that was just appended to `buffer`.
    pub(super) fn push(&mut self, blob: PackedBlob) {
        self.blobs.push(blob);
    }

    /// The id of what may become the next blob. What was appended last is still in the cache and is hashed beside it.
    pub(super) fn id_of_next(&mut self, plain: &[u8]) -> Id {
        let id = self.hasher.update_beside(&self.buffer[self.hashed..], plain);
        self.hashed = self.buffer.len();
        id
    }

    /// Whether nothing waits to be hashed.
    pub(super) fn is_hashed(&self) -> bool {
        self.hashed == self.buffer.len()
    }

    /// Appends everything that `other` holds.
    pub(super) fn absorb(&mut self, other: Self) {
        for blob in other.blobs {
            let offset = self.buffer.len() as u32;
            let start = blob.offset as usize;
            self.buffer.extend_from_slice(&other.buffer[start..start + blob.length as usize]);
            self.push(PackedBlob { offset, ..blob });
        }
    }

    /// Whether it is time to write it.
    pub(super) fn is_full(&self, pack_size: usize) -> bool {
        self.buffer.len() >= pack_size || self.blobs.len() >= PACK_BLOBS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }
}

/// The threads that write packs. The queue is short: workers wait when the backend is slower than they are.
pub(super) struct Uploads {
    /// Workers send full packs; closing it ends the threads.
    queue: Mutex<Option<Sender<OpenPack>>>,
    /// A buffer that was written and can be filled again.
    spare: Receiver<Vec<u8>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    control: Control,
    /// What workers gave up while there was too little room for packs of their own.
    common: Mutex<OpenPack>,
    writer: Arc<PackWriter>,
}

/// The lock under which all is written; none only where nothing is, and in tests.
pub type Held = Option<Arc<Lock>>;

struct PackWriter {
    repository: Arc<Indexed>,
    failure: Arc<Failure>,
    budget: Arc<Budget>,
    lock: Held,
    dry_run: bool,
    index_interval: Duration,
    /// When an index was last written; held while one is.
    index_written: Mutex<Duration>,
}

impl Uploads {
    /// Starts the threads.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn start(
        repository: Arc<Indexed>,
        failure: Arc<Failure>,
        budget: Arc<Budget>,
        control: &Control,
        lock: Held,
        index_interval: Duration,
        dry_run: bool,
    ) -> Result<Self, RepositoryError> {
        let connections = repository.open().backend().connections().clamp(1, 16);
        let (queue, packs) = bounded::<OpenPack>(1);
        let (returns, spare) = bounded(1);
        let index_written = Mutex::new(clock::since_boot());
        let writer = Arc::new(PackWriter { repository, failure, budget, lock, dry_run, index_interval, index_written });
        let mut threads = Vec::with_capacity(connections);
        for number in 0..connections {
            let (writer, packs, returns) = (Arc::clone(&writer), packs.clone(), returns.clone());
            let thread = std::thread::Builder::new().name(format!("upload-{number}")).spawn(move || writer.run(&packs, &returns));
            threads.push(thread.map_err(|error| RepositoryError::Internal(format!("cannot start a thread: {error}")))?);
        }
        let (queue, threads) = (Mutex::new(Some(queue)), Mutex::new(threads));
        Ok(Self { queue, spare, threads, control: control.clone(), common: Mutex::default(), writer })
    }

    /// An empty pack, in a used buffer if there is one.
    pub(super) fn fresh(&self) -> OpenPack {
        let mut buffer = self.spare.try_recv().unwrap_or_default();
        buffer.clear();
        OpenPack { buffer, ..OpenPack::default() }
    }

    /// Hands over a pack to be written; waits while too many are under way.
    ///
    /// # Errors
    /// The run has failed elsewhere, or was cancelled while this waited.
    pub(super) fn send(&self, mut pack: OpenPack) -> Result<(), RepositoryError> {
        let Some(queue) = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return Err(ended()) };
        let bytes = pack.len();
        self.writer.budget.leave(bytes);
        let fails = |error| {
            self.writer.budget.arrive(bytes);
            Err(error)
        };
        loop {
            pack = match queue.send_timeout(pack, LOOK_INTERVAL) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => return fails(ended()),
                Err(SendTimeoutError::Timeout(pack)) => pack,
            };
            if let Err(error) = self.writer.failure.check() {
                return fails(error);
            }
            if self.control.is_cancelled() {
                return fails(RepositoryError::Cancelled);
            }
        }
    }

    /// Puts what a pack holds into the common one, writes that if it is full, and waits for room while packs are on their way.
    pub(super) fn merge(&self, pack: OpenPack, pack_size: usize) -> Result<(), RepositoryError> {
        let full = {
            let mut common = self.common.lock().unwrap_or_else(PoisonError::into_inner);
            common.absorb(pack);
            common.is_full(self.writer.budget.common(pack_size)).then(|| std::mem::replace(&mut *common, self.fresh()))
        };
        if let Some(full) = full {
            self.send(full)?;
        }
        self.writer.budget.wait(&self.writer.failure, &self.control)
    }

    /// The common pack, for who writes what is left.
    pub(super) fn take_common(&self) -> OpenPack {
        std::mem::take(&mut *self.common.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes the snapshot that counts on everything written before.
    ///
    /// # Errors
    /// The lock was lost; it cannot be written.
    pub(super) fn write_snapshot(&self, json: &[u8]) -> Result<Id, RepositoryError> {
        self.writer.write_file(FileKind::Snapshot, json)
    }

    /// Waits until every pack is written, then writes the index of what no index names yet.
    pub(super) fn finish(&self) -> Result<(), RepositoryError> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            if thread.join().is_err() {
                return Err(RepositoryError::Internal("a thread that writes packs panicked".into()));
            }
        }
        self.writer.save_index()
    }
}

fn ended() -> RepositoryError {
    RepositoryError::Internal("the threads that write packs have ended".into())
}

impl PackWriter {
    fn run(&self, packs: &Receiver<OpenPack>, returns: &Sender<Vec<u8>>) {
        for pack in packs {
            if self.failure.is_set() {
                continue;
            }
            let bytes = pack.len();
            match self.write(pack) {
                // One is kept: memory for more of them costs more than to ask for it anew.
                Ok(buffer) => drop(returns.try_send(buffer)),
                Err(error) => self.failure.set(error),
            }
            self.budget.arrive(bytes);
            self.failure.notify();
        }
    }

    /// Writes what counts on packs that are there.
    fn write_file(&self, kind: FileKind, json: &[u8]) -> Result<Id, RepositoryError> {
        match &self.lock {
            Some(lock) => lock.write(kind, json),
            None => self.repository.open().write_unpacked(kind, json),
        }
    }

    fn check_lock(&self) -> Result<(), RepositoryError> {
        self.lock.as_ref().map_or(Ok(()), |lock| lock.check())
    }

    fn write(&self, pack: OpenPack) -> Result<Vec<u8>, RepositoryError> {
        let OpenPack { buffer, blobs, mut hasher, hashed } = pack;
        if self.dry_run {
            return Ok(buffer);
        }
        self.check_lock()?;
        let open = self.repository.open();
        let header = pack::encode_header(open.key(), &blobs)?;
        hasher.update(&buffer[hashed..]);
        hasher.update(&header);
        let id = hasher.finish();
        let name = id.to_string();
        pack::write(&**open.backend(), &name, &blobs, &[&buffer, &header]).map_err(|source| RepositoryError::Storage {
            action: "write",
            file: format!("pack {name}"),
            source,
        })?;
        self.repository.index().publish(id, &blobs);
        let due = {
            let mut written = self.index_written.lock().unwrap_or_else(PoisonError::into_inner);
            let due = clock::since_boot().saturating_sub(*written) >= self.index_interval;
            if due {
                *written = clock::since_boot();
            }
            due
        };
        if due {
            self.save_index()?;
        }
        Ok(buffer)
    }

    /// Writes what no index names yet, in files of a bounded size.
    fn save_index(&self) -> Result<(), RepositoryError> {
        if self.dry_run {
            return Ok(());
        }
        let mut unsaved = self.repository.index().take_unsaved();
        let saved = self.save_packs(&mut unsaved);
        // The end of the run tries once more: what no index names was stored in vain.
        self.repository.index().return_unsaved(unsaved);
        saved
    }

    /// Takes from `unsaved` what it has written.
    fn save_packs(&self, unsaved: &mut Vec<(Id, Vec<PackedBlob>)>) -> Result<(), RepositoryError> {
        while !unsaved.is_empty() {
            let mut blobs = 0;
            let fits = |(_, pack): &&(Id, Vec<PackedBlob>)| {
                blobs += pack.len();
                blobs - pack.len() < INDEX_BLOBS
            };
            let packs = unsaved.iter().take_while(fits).count();
            let named = unsaved[..packs].iter().map(|(id, blobs)| index_pack(*id, blobs)).collect();
            let index = IndexFile { supersedes: Vec::new(), packs: named };
            let json = file::to_json(&index).map_err(|error| RepositoryError::Internal(format!("an index cannot be encoded: {error}")))?;
            self.write_file(FileKind::Index, &json)?;
            self.repository.index().saved(&unsaved[..packs]);
            unsaved.drain(..packs);
        }
        Ok(())
    }
}
