//! How a worker reads a file of this machine: small ones whole, large ones in steps whose chunks idle workers may take.
//!
//! A file may change while it is read. Then it is stored as it was met, with a warning.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::build::{Dir, FileInProgress};
use super::queues::{ChunkJob, Job};
use super::worker::Worker;
use crate::model::entry::Timestamp;
use crate::model::progress::{Event, FileOutcome};
use crate::repository::contract::RepositoryError;
use crate::repository::restic::chunker::{MAX_SIZE, MIN_SIZE};
use crate::repository::restic::codec::BlobKind;

/// Bytes read at once from large files: small enough that they are still in the cache when they are hashed.
const STEP: usize = 1 << 20;
/// From this size on the chunks of a file are stored two by two, also when somebody waits for work.
const LONG: u64 = 16 << 20;
/// How often a small file that changes under our eyes is read again.
const ATTEMPTS: usize = 3;

/// A file to be read and stored.
pub(super) struct FileJob {
    /// The folder it is in.
    pub(super) dir: Arc<Dir>,
    /// Its place there.
    pub(super) index: usize,
    /// Where it is on this machine.
    pub(super) source: PathBuf,
    /// Its path in the snapshot.
    pub(super) path: Vec<u8>,
    /// What the walk saw.
    pub(super) seen: State,
    /// Device and inode that the walk saw; none where it does not know them.
    pub(super) identity: Option<(u64, u64)>,
    /// Whether the parent snapshot has a file of this name.
    pub(super) outcome: FileOutcome,
}

/// What tells two states of a file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) size: u64,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
}

/// Why a file is not stored.
pub(super) enum Failure {
    /// It cannot be read; the others can.
    Unreadable(io::Error),
    /// The whole run has failed, or the work was stopped.
    Fatal(RepositoryError),
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        Self::Fatal(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl Worker {
    /// Reads and stores one file.
    pub(super) fn file(&mut self, job: FileJob) -> Result<(), RepositoryError> {
        let item = Arc::clone(&job.dir.item);
        if self.shared.failure().is_set() {
            return Ok(());
        }
        match item.control.checkpoint() {
            Ok(()) => {}
            // The feeder notices too, and drops the item.
            Err(crate::platform::control::Stop::Skipped) => return Ok(()),
            Err(stop) => return Err(stop.into()),
        }
        self.shared.progress.event(Event::FileStarted { path: &job.path });
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = if job.seen.size <= MIN_SIZE as u64 { self.small_file(&job, &mut buffer) } else { self.large_file(&job, &mut buffer) };
        self.buffer = buffer;
        match read {
            Ok(size) => self.file_done(&item, &job.path, size, job.outcome),
            Err(Failure::Fatal(RepositoryError::Skipped)) => {}
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Unreadable(error)) => {
                job.dir.update(job.index, |child| *child = None);
                item.unreadable(&job.path, &error);
                self.shared.progress.event(Event::Problem { path: &job.path, message: &error.to_string() });
                return self.release(&job.dir);
            }
        }
        Ok(())
    }

    /// A file that is one chunk at the most, unless it grows meanwhile.
    fn small_file(&mut self, job: &FileJob, buffer: &mut Vec<u8>) -> Result<u64, Failure> {
        let mut before = job.seen;
        for attempt in 1..=ATTEMPTS {
            let mut file = open(job)?;
            buffer.clear();
            // One byte more than the largest single chunk shows whether it has grown out of this case.
            (&mut file).take(MIN_SIZE as u64 + 1).read_to_end(buffer)?;
            if buffer.len() > MIN_SIZE {
                return self.large_file(job, buffer);
            }
            let after = state(&file)?;
            if after != before && attempt < ATTEMPTS {
                before = after;
                continue;
            }
            if after != before {
                job.dir.item.warn(&job.path, "changed while it was read");
            }
            let content = if buffer.is_empty() { Vec::new() } else { vec![self.store(BlobKind::Data, buffer, &job.dir.item)?] };
            let size = buffer.len() as u64;
            self.shared.progress.event(Event::Bytes(size));
            job.dir.update(job.index, |child| {
                if let Some(node) = child {
                    node.content = content;
                    set_state(node, size, before, self.shared.with_atime);
                }
            });
            self.release(&job.dir)?;
            return Ok(size);
        }
        Err(Failure::Unreadable(io::Error::other("changes faster than it can be read")))
    }

    /// A file of several chunks.
    fn large_file(&mut self, job: &FileJob, buffer: &mut Vec<u8>) -> Result<u64, Failure> {
        let mut file = open(job)?;
        let before = state(&file)?;
        let progress = Arc::new(FileInProgress::new(Arc::clone(&job.dir), job.index));
        let size = if self.in_ranges(before.size) {
            self.cut_in_ranges(file.try_clone()?, buffer, &progress, &job.dir)?
        } else {
            self.cut(&mut file, buffer, &progress, &job.dir)?
        };
        let after = state(&file)?;
        if after != before {
            job.dir.item.warn(&job.path, "changed while it was read");
        }
        job.dir.update(job.index, |child| {
            if let Some(node) = child {
                set_state(node, size, before, self.shared.with_atime);
            }
        });
        self.finish_chunk(&progress)?;
        Ok(size)
    }

    /// Reads to the end and cuts into chunks, which idle workers may take. Returns the number of bytes.
    fn cut(&mut self, reader: &mut dyn Read, buffer: &mut Vec<u8>, file: &Arc<FileInProgress>, dir: &Dir) -> Result<u64, Failure> {
        let chunker = Arc::clone(&self.shared.chunker);
        buffer.resize(MAX_SIZE + STEP, 0);
        // What is not stored yet is from `start` to `end`. It begins with a chunk of `held` bytes that waits for the next one.
        let (mut start, mut held, mut end, mut scanned, mut total, mut eof) = (0, 0, 0, 0, 0_u64, false);
        loop {
            if !eof && end - start - held < MAX_SIZE {
                if end + STEP > buffer.len() {
                    if held > 0 {
                        self.share_or_store(&buffer[start..start + held], held, file)?;
                    }
                    start += std::mem::take(&mut held);
                    buffer.copy_within(start..end, 0);
                    (start, end) = (0, end - start);
                }
                let count = read_step(reader, &mut buffer[end..end + STEP])?;
                end += count;
                total += count as u64;
                eof = count < STEP;
                self.shared.progress.event(Event::Bytes(count as u64));
            }
            let available = &buffer[start + held..end];
            let cut = match chunker.find_cut(available, scanned) {
                Some(cut) => cut,
                None if eof => available.len(),
                None => {
                    scanned = available.len();
                    continue;
                }
            };
            scanned = 0;
            let is_last = eof && start + held + cut == end;
            // Chunks are stored two by two, but a file that is not long is spread over those who are idle.
            if held == 0 && !is_last && (total >= LONG || !self.has_idle()) {
                held = cut;
                continue;
            }
            if held + cut > 0 {
                dir.item.control.checkpoint().map_err(RepositoryError::from)?;
                self.shared.check()?;
                let first = if held > 0 { held } else { cut };
                self.share_or_store(&buffer[start..start + held + cut], first, file)?;
            }
            start += std::mem::take(&mut held) + cut;
            if is_last {
                return Ok(total);
            }
        }
    }

    /// Gives a chunk, or two that follow each other, to whoever has nothing else to do, or stores them here. `first` is the length of the first.
    pub(super) fn share_or_store(&mut self, chunks: &[u8], first: usize, file: &Arc<FileInProgress>) -> Result<(), RepositoryError> {
        let number = file.reserve();
        if chunks.len() > first {
            file.reserve();
        }
        if self.wants_chunks() {
            let item = Arc::clone(&file.dir.item);
            let mut data = self.queues.buffer(chunks.len());
            data.extend_from_slice(chunks);
            item.jobs.fetch_add(1, Ordering::Relaxed);
            let budget = &self.shared.budget;
            budget.hold(chunks.len());
            if self.queues.share.try_send(Job::Chunk(ChunkJob { data, first, file: Arc::clone(file), number })).is_ok() {
                return Ok(());
            }
            budget.release(chunks.len());
            self.job_done(&item);
        }
        self.store_chunks(chunks, first, file, number)
    }

    /// Cuts the body of a member of a stream; the caller completes the file with `finish_chunk`.
    pub(super) fn stream(
        &mut self,
        reader: &mut dyn Read,
        file: &Arc<FileInProgress>,
        dir: &Dir,
    ) -> Result<io::Result<u64>, RepositoryError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let cut = self.cut(reader, &mut buffer, file, dir);
        self.buffer = buffer;
        match cut {
            Ok(size) => Ok(Ok(size)),
            Err(Failure::Unreadable(error)) => Ok(Err(error)),
            Err(Failure::Fatal(error)) => Err(error),
        }
    }
}

/// Fills `buffer` unless the end comes before.
fn read_step(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Opens a regular file without following a link at its end, without waiting (a named pipe may have taken its place), and,
/// where that is permitted, without changing its access time.
fn open(job: &FileJob) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = match rustix::fs::open(&job.source, flags | OFlags::NOATIME, Mode::empty()) {
        Err(rustix::io::Errno::PERM) => rustix::fs::open(&job.source, flags, Mode::empty()),
        other => other,
    };
    let file = File::from(opened.map_err(io::Error::from)?);
    let stat = rustix::fs::fstat(&file)?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(io::Error::other("is no longer a regular file"));
    }
    // Another file has taken its place. That is what editors do; but it may as well be a folder on the way that was replaced
    // by a link to somewhere else, and then what is there is not ours to read.
    if job.identity.is_some_and(|seen| seen != (stat.st_dev, stat.st_ino)) && !is_reached_without_links(&job.source, &stat) {
        return Err(io::Error::other("was replaced by another file while the backup ran"));
    }
    Ok(file)
}

/// Whether no component of the path is a symbolic link and it leads to this very file.
fn is_reached_without_links(path: &Path, stat: &rustix::fs::Stat) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        .and_then(|found| rustix::fs::fstat(&found))
        .is_ok_and(|found| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino))
}

fn state(file: &File) -> io::Result<State> {
    let stat = rustix::fs::fstat(file)?;
    let time = |secs: i64, nanos: u64| Timestamp { secs, nanos: nanos as u32 };
    #[expect(clippy::useless_conversion, reason = "the types differ between architectures")]
    Ok(State {
        size: stat.st_size as u64,
        mtime: time(stat.st_mtime.into(), stat.st_mtime_nsec as u64),
        ctime: time(stat.st_ctime.into(), stat.st_ctime_nsec as u64),
    })
}

/// Makes the node say what was read, not what the walk saw. `state` is from before the reading: what changed after it must
/// differ from the node, so that the next run reads the file again.
fn set_state(node: &mut crate::repository::restic::tree::Node, size: u64, state: State, with_atime: bool) {
    node.metadata.size = size;
    node.metadata.mtime = state.mtime;
    node.metadata.ctime = state.ctime;
    if !with_atime {
        node.metadata.atime = state.mtime;
    }
}
