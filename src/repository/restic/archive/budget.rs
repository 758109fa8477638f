//! How many bytes of data may be in memory at once: in packs that are being filled or written, and in chunks that one worker has
//! read for another.
//!
//! Each worker fills packs of its own, so what is held grows with the number of cores and the size of a pack, and with every pack
//! that a slow backend has not taken yet. From two thirds of the budget on, workers put what they hold into one common pack
//! (`Uploads::merge`), which becomes full where theirs would not, and wait for packs that are on their way. The last third is for
//! that common pack while others hold theirs. Buffers into which files are read are not counted: there is one of 9 MiB at the most
//! for each core.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::shared::Failure;
use crate::platform::control::Control;
use crate::repository::contract::RepositoryError;

/// The least, which is also what two cores need to fill packs of the usual size without merging them.
const LEAST: usize = 192 << 20;
/// Where packs are of the usual size. Enough for each core to fill two packs and to have one on its way.
const PER_WORKER: usize = 48 << 20;
/// The most that many cores get.
const MOST: usize = 1536 << 20;
/// Packs that fit in any case, so that they reach their size.
const PACKS: usize = 6;

/// Bytes in flight, and how many may be.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    held: AtomicUsize,
    /// What of it is in packs that wait to be written, or are.
    leaving: AtomicUsize,
    #[cfg(test)]
    peak: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            held: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            #[cfg(test)]
            peak: AtomicUsize::new(0),
        }
    }

    /// The budget in bytes for so many workers and packs of this size.
    pub(super) fn usual(workers: usize, pack_size: usize) -> usize {
        workers.saturating_mul(PER_WORKER).clamp(LEAST, MOST).max(pack_size.saturating_mul(PACKS))
    }

    /// Counts bytes that are held from now on.
    pub(super) fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        #[cfg(test)]
        self.peak.fetch_max(self.held.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Counts bytes that are held no more.
    pub(super) fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts held bytes as on their way to the backend.
    pub(super) fn leave(&self, bytes: usize) {
        self.leaving.fetch_add(bytes, Ordering::Release);
    }

    /// Counts bytes as arrived there.
    pub(super) fn arrive(&self, bytes: usize) {
        self.release(bytes);
        self.leaving.fetch_sub(bytes, Ordering::Release);
    }

    /// Whether so much is held that packs are to be merged, and chunks not to be kept for others.
    pub(super) fn is_short(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.limit / 3 * 2
    }

    /// The size from which the common pack is written.
    pub(super) fn common(&self, pack_size: usize) -> usize {
        pack_size.min(self.limit / 3)
    }

    /// Waits while there is too little room and more can be expected.
    ///
    /// # Errors
    /// The run has failed elsewhere, or was cancelled.
    pub(super) fn wait(&self, failure: &Failure, control: &Control) -> Result<(), RepositoryError> {
        failure.wait(|| !self.is_short() || self.leaving.load(Ordering::Acquire) == 0 || control.is_cancelled())?;
        if control.is_cancelled() { Err(RepositoryError::Cancelled) } else { Ok(()) }
    }

    /// The most that was ever held.
    #[cfg(test)]
    pub(super) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}
