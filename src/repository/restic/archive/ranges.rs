//! Large files in ranges: where many workers are there to be fed, finding the cuts of one file is shared out too.
//!
//! Whether a place may be a cut depends on the 64 bytes before it alone. So ranges of a file are read and scanned apart by
//! whoever is idle; the worker that has the file takes them in order and makes the cuts that a reading from front to back
//! would make. What becomes of the chunks is `read`'s business.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::build::{Dir, FileInProgress};
use super::queues::Job;
use super::read::Failure;
use super::worker::Worker;
use crate::model::progress::Event;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::chunker::{Cuts, WINDOW};

/// Bytes of one range. In tests a few, so that files of every size have many.
pub(super) const RANGE: usize = if cfg!(test) { 300_000 } else { 4 << 20 };
/// One worker finds the cuts for this many without holding them up.
const WORKERS: usize = if cfg!(test) { 0 } else { 3 };
/// Files below this are one worker's.
const LARGE: u64 = if cfg!(test) { 4 << 20 } else { 64 << 20 };

/// A range that another worker scans.
pub(super) struct RangeJob {
    file: Arc<File>,
    number: u64,
    ranges: Arc<Ranges>,
    pub(super) of: Arc<FileInProgress>,
}

/// Ranges of one file that were scanned. Whoever scans puts them in; the worker that has the file takes them.
#[derive(Default)]
struct Ranges {
    scanned: Mutex<HashMap<u64, io::Result<Range>>>,
    added: Condvar,
}

/// A range, read and scanned.
struct Range {
    data: Vec<u8>,
    /// Runs of places in `data` where a chunk may end.
    ends: Vec<(usize, usize)>,
}

impl Worker {
    /// Whether it is worth while to share out the reading of a file of this size.
    pub(super) fn in_ranges(&self, size: u64) -> bool {
        self.shared.workers > WORKERS && size >= LARGE
    }

    /// As `cut`, for a file of which idle workers scan ranges ahead.
    pub(super) fn cut_in_ranges(&mut self, file: File, buffer: &mut Vec<u8>, of: &Arc<FileInProgress>, dir: &Dir) -> Result<u64, Failure> {
        let (file, ranges) = (Arc::new(file), Arc::new(Ranges::default()));
        buffer.clear();
        let mut cuts = Cuts::default();
        let (mut next, mut total) = (0, 0_u64);
        for number in 0.. {
            next = self.share_ranges(&file, &ranges, of, next.max(number), number);
            let range = if next > number { self.wait_for(&ranges, number, dir)? } else { self.scan(&file, number) }?;
            let last = range.data.len() < RANGE;
            cuts.add(total, &range.ends);
            total += range.data.len() as u64;
            self.shared.progress.event(Event::Bytes(range.data.len() as u64));
            buffer.extend_from_slice(&range.data);
            self.queues.give_back(range.data);
            let mut start = 0;
            while let Some(length) = cuts.next_length(buffer.len() - start, last) {
                dir.item.control.checkpoint().map_err(RepositoryError::from)?;
                self.shared.check()?;
                self.share_or_store(&buffer[start..start + length], length, of)?;
                start += length;
            }
            buffer.drain(..start);
            if last {
                break;
            }
        }
        Ok(total)
    }

    /// Hands ranges from `next` on to idle workers, not too far ahead of the `current` one; gives the first that nobody has.
    fn share_ranges(&self, file: &Arc<File>, ranges: &Arc<Ranges>, of: &Arc<FileInProgress>, mut next: u64, current: u64) -> u64 {
        while next < current + self.shared.workers as u64 && self.has_idle() {
            let job = RangeJob { file: Arc::clone(file), number: next, ranges: Arc::clone(ranges), of: Arc::clone(of) };
            of.dir.item.jobs.fetch_add(1, Ordering::Relaxed);
            if self.queues.share.try_send(Job::Range(job)).is_err() {
                self.job_done(&of.dir.item);
                break;
            }
            next += 1;
        }
        next
    }

    /// Takes a range that was handed out. What waits in the queue is done meanwhile: it may be that very range.
    fn wait_for(&mut self, ranges: &Ranges, number: u64, dir: &Dir) -> Result<io::Result<Range>, RepositoryError> {
        loop {
            // After a failure or a skip nobody brings it any more.
            self.shared.check()?;
            dir.item.control.checkpoint()?;
            if let Some(range) = ranges.take(number, Duration::ZERO) {
                return Ok(range);
            }
            if let Ok(job) = self.queues.chunks.try_recv() {
                self.perform(job)?;
            } else if let Some(range) = ranges.take(number, Duration::from_millis(5)) {
                return Ok(range);
            }
        }
    }

    /// Does another worker's range.
    pub(super) fn range(&self, job: &RangeJob) {
        if !self.shared.failure().is_set() && !job.of.dir.item.control.is_skipped() {
            let range = self.scan(&job.file, job.number);
            job.ranges.scanned.lock().unwrap_or_else(PoisonError::into_inner).insert(job.number, range);
            job.ranges.added.notify_all();
        }
    }

    /// Reads a range and finds the places where a chunk may end. It is short at the end of the file.
    fn scan(&self, file: &File, number: u64) -> io::Result<Range> {
        let from = number * RANGE as u64;
        let before = from.min(WINDOW as u64) as usize;
        let mut data = self.queues.buffer(before + RANGE);
        data.resize(before + RANGE, 0);
        let mut filled = 0;
        while filled < data.len() {
            match file.read_at(&mut data[filled..], from - before as u64 + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        data.truncate(filled);
        let mut ends = self.shared.chunker.ends(&data);
        for (first, last) in &mut ends {
            (*first, *last) = (*first - before, *last - before);
        }
        data.drain(..before.min(filled));
        Ok(Range { data, ends })
    }
}

impl Ranges {
    /// Takes a range out once it is there; waits for a while.
    fn take(&self, number: u64, wait: Duration) -> Option<io::Result<Range>> {
        let mut scanned = self.scanned.lock().unwrap_or_else(PoisonError::into_inner);
        if !wait.is_zero() && !scanned.contains_key(&number) {
            scanned = self.added.wait_timeout(scanned, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        scanned.remove(&number)
    }
}
