//! What threads of one archive run hand to each other: files, chunks of files, ranges of files, and used buffers.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::build::FileInProgress;
use super::ranges::RangeJob;
use super::read::FileJob;

/// Room for most pairs of chunks, and for a range of a file. Buffers that were made for more do not lie idle.
const SPARE_BUFFER: usize = 5 << 20;

/// One or two chunks of a file that another thread reads.
pub(super) struct ChunkJob {
    pub(super) data: Vec<u8>,
    /// The length of the first; the second is what follows.
    pub(super) first: usize,
    pub(super) file: Arc<FileInProgress>,
    /// Which chunk of the file the first is.
    pub(super) number: usize,
}

/// Work on a file that another thread has.
pub(super) enum Job {
    /// Store chunks of it.
    Chunk(ChunkJob),
    /// Find where its chunks may end.
    Range(RangeJob),
}

/// Where work comes from and where it can be shared out.
#[derive(Clone)]
pub(super) struct Queues {
    /// Chunks of large files and of streams, and ranges of files. Taken before files, so that what is in memory leaves it first.
    pub(super) chunks: Receiver<Job>,
    pub(super) share: Sender<Job>,
    /// Files; the feeder closes it, which ends the workers.
    pub(super) files: Receiver<FileJob>,
    /// Buffers of chunks that were dealt with.
    pub(super) spare: Receiver<Vec<u8>>,
    pub(super) returns: Sender<Vec<u8>>,
}

impl Queues {
    /// An empty buffer for so many bytes.
    pub(super) fn buffer(&self, bytes: usize) -> Vec<u8> {
        let mut buffer = self.spare.try_recv().unwrap_or_default();
        buffer.clear();
        buffer.reserve_exact(bytes);
        buffer
    }

    /// Keeps a buffer for the next chunk, unless it is a large one or there are enough.
    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        if buffer.capacity() <= SPARE_BUFFER {
            drop(self.returns.try_send(buffer));
        }
    }
}
