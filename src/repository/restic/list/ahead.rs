//! Data in order, read ahead: one thread says what comes next, several read the blobs, the caller's takes everything in order.
//!
//! What the steps mean is `list`'s business.
//!
//! The producer sends each step into a bounded channel to the consumer, and each blob as a task into another one to the
//! readers; a task carries the sending end of a channel of one place, whose receiving end is in the step. Closing: the producer
//! drops its ends when it is done, the readers end when no task is left, and a consumer that fails drops its end, at which the
//! producer and then the readers stop.

use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::model::entry::Metadata;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::id::Id;
use crate::repository::restic::state::Indexed;

/// Bytes of blobs that are read and not yet taken, or being read.
const BUDGET: u64 = 32 << 20;
/// Steps that wait for the consumer.
const STEPS: usize = 1024;
/// Threads that read blobs.
const READERS: usize = 8;

/// What comes next.
pub(super) enum Step<'a> {
    /// An entry begins.
    Begin(Begin),
    /// The next bytes of its data.
    Data(&'a [u8]),
    /// The next so many bytes of its data are lost; without an error this was told already.
    Lost { length: u64, error: Option<RepositoryError> },
    /// The entry ends.
    End,
}

/// What an entry begins with.
pub(super) struct Begin {
    pub(super) path: Vec<u8>,
    pub(super) metadata: Box<Metadata>,
    pub(super) link_to: Option<Vec<u8>>,
}

type Blob = Result<Vec<u8>, RepositoryError>;

enum Sent {
    Begin(Begin),
    Data { blob: Receiver<Blob>, length: u64, reserved: u64 },
    Zeros(u64),
    End,
}

struct Task {
    id: Id,
    reply: Sender<Blob>,
}

/// The producer's end.
pub(super) struct Steps<'a> {
    repo: &'a Indexed,
    sender: Sender<Sent>,
    tasks: Sender<Task>,
    budget: &'a Budget,
}

impl Steps<'_> {
    pub(super) fn begin(&self, path: Vec<u8>, metadata: Metadata, link_to: Option<Vec<u8>>) -> Result<(), RepositoryError> {
        self.send(Sent::Begin(Begin { path, metadata: Box::new(metadata), link_to }))
    }

    pub(super) fn end(&self) -> Result<(), RepositoryError> {
        self.send(Sent::End)
    }

    /// Bytes of a blob. Nothing of one that is in no index.
    pub(super) fn length(&self, id: &Id) -> Option<u64> {
        self.repo.data_place(id).map(|location| u64::from(location.plain_length()))
    }

    /// Bytes of a blob that can be read, which it is.
    pub(super) fn whole_length(&self, id: &Id) -> Option<u64> {
        self.repo.whole_place(id).map(|location| u64::from(location.plain_length()))
    }

    /// Why a blob without a length is lost.
    pub(super) fn lost(&self, id: &Id) -> RepositoryError {
        if self.repo.index().contains(BlobKind::Data, id) {
            let expected = "it whole in a place that an index names".to_owned();
            return RepositoryError::Damaged { file: format!("data blob {id}"), offset: 0, expected };
        }
        RepositoryError::BlobMissing { kind: BlobKind::Data.word(), id: id.to_string() }
    }

    /// Sends the data of these blobs.
    ///
    /// # Errors
    /// One of them is in no index, or nowhere whole where indexes do not agree.
    pub(super) fn blobs(&self, content: &[Id]) -> Result<(), RepositoryError> {
        for id in content {
            let length = self.length(id).ok_or_else(|| self.lost(id))?;
            let reserved = length.min(BUDGET);
            if !self.budget.take(reserved) {
                return Err(RepositoryError::Cancelled);
            }
            let (reply, blob) = bounded(1);
            self.tasks.send(Task { id: *id, reply }).map_err(|_| RepositoryError::Cancelled)?;
            self.send(Sent::Data { blob, length, reserved })?;
        }
        Ok(())
    }

    /// Says that the next so many bytes are lost, which was told.
    pub(super) fn zeros(&self, length: u64) -> Result<(), RepositoryError> {
        self.send(Sent::Zeros(length))
    }

    /// Fails only if the consumer is gone, which then says why.
    fn send(&self, step: Sent) -> Result<(), RepositoryError> {
        self.sender.send(step).map_err(|_| RepositoryError::Cancelled)
    }
}

/// Runs `produce` on a thread of its own and `consume` here, for each step in order. The consumer's error counts before the
/// producer's.
pub(super) fn run(
    repo: &Indexed,
    produce: impl FnOnce(&Steps<'_>) -> Result<(), RepositoryError> + Send,
    mut consume: impl FnMut(Step<'_>) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let budget = Budget::default();
    let (steps_in, steps_out) = bounded(STEPS);
    let (tasks_in, tasks_out) = unbounded::<Task>();
    // Memory of blobs that were taken, for the next ones.
    let (spare_in, spare_out) = unbounded::<Vec<u8>>();
    let readers = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).max(repo.backend().connections()).min(READERS);
    std::thread::scope(|scope| {
        let budget = &budget;
        for _ in 0..readers {
            let (tasks, spare) = (tasks_out.clone(), spare_out.clone());
            scope.spawn(move || {
                for Task { id, reply } in tasks {
                    let mut buffer = spare.try_recv().unwrap_or_default();
                    let blob = repo.read_blob(BlobKind::Data, &id, &mut buffer).map(|()| buffer);
                    // Nobody waits for it if the consumer is gone.
                    drop(reply.send(blob));
                }
            });
        }
        drop(tasks_out);
        let producer = scope.spawn(move || produce(&Steps { repo, sender: steps_in, tasks: tasks_in, budget }));
        let consumed = consume_all(repo, steps_out, budget, &spare_in, &mut consume);
        budget.close();
        let produced = producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        consumed.and(produced)
    })
}

fn consume_all(
    repo: &Indexed,
    steps: Receiver<Sent>,
    budget: &Budget,
    spare: &Sender<Vec<u8>>,
    consume: &mut dyn FnMut(Step<'_>) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let _close = CloseOnDrop(budget);
    for step in steps {
        match step {
            Sent::Begin(begin) => consume(Step::Begin(begin))?,
            Sent::End => consume(Step::End)?,
            Sent::Zeros(length) => consume(Step::Lost { length, error: None })?,
            Sent::Data { blob, length, reserved } => {
                match blob.recv().map_err(|_| RepositoryError::Internal("a thread that reads blobs ended".to_owned()))? {
                    Ok(blob) => {
                        consume(Step::Data(&blob))?;
                        drop(spare.send(blob));
                    }
                    Err(error) if repo.is_lost(&error) => consume(Step::Lost { length, error: Some(error) })?,
                    Err(error) => return Err(error),
                }
                budget.give(reserved);
            }
        }
    }
    Ok(())
}

/// Bytes that may be in memory at once.
#[derive(Default)]
struct Budget {
    /// Bytes taken, and whether nobody gives any more.
    taken: Mutex<(u64, bool)>,
    given: Condvar,
}

impl Budget {
    /// Waits for room. False once the consumer is gone.
    fn take(&self, bytes: u64) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while !taken.1 && taken.0 + bytes > BUDGET {
            taken = self.given.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        taken.0 += bytes;
        !taken.1
    }

    fn give(&self, bytes: u64) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).0 -= bytes;
        self.given.notify_all();
    }

    fn close(&self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.given.notify_all();
    }
}

/// Lets the producer go if the consumer ends by a panic.
struct CloseOnDrop<'a>(&'a Budget);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
