//! Regular files being restored: created or reused, written piece by piece from several threads, finished once.
//!
//! Where the pieces come from is `data`'s business.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, Mode, OFlags};

use crate::model::progress::{Event, FileOutcome};
use crate::repository::restic::id::Id;

use super::attributes::{Attributes, Place};
use super::run::Run;
use super::target::Folder;

/// Files of more than one piece that are kept open at once.
const OPEN_FILES: usize = 256;

/// Zeros in a row that become a hole; shorter runs would cost more calls than they save room.
const HOLE: usize = 64 << 10;

/// A regular file that is to be restored.
pub(super) struct FileJob {
    pub(super) folder: Arc<Folder>,
    pub(super) name: Box<[u8]>,
    /// Its size: as the tree says, then the sum of its pieces once they are known.
    pub(super) size: AtomicU64,
    pub(super) content: Box<[Id]>,
    /// How many names the file had; zero unless it had several.
    pub(super) links: u64,
    pub(super) attributes: Attributes,
    /// Pieces that are not yet written.
    pub(super) remaining: AtomicU32,
    /// A piece of it could not be restored; that was reported. The others are written all the same: most of a large file is
    /// better than nothing.
    damaged: AtomicBool,
    /// It cannot be written to.
    broken: AtomicBool,
    state: Mutex<FileState>,
}

#[derive(Default)]
struct FileState {
    handle: Option<Arc<OwnedFd>>,
    /// It is on disk, with its final size.
    exists: bool,
    /// What was on disk is kept where it is right: there, zeros must be written too.
    reused: bool,
    /// Somebody was told that it is being written.
    started: bool,
}

impl FileJob {
    pub(super) fn new(folder: Arc<Folder>, name: Vec<u8>, size: u64, links: u64, content: Vec<Id>, attributes: Attributes) -> Self {
        Self {
            folder,
            name: name.into(),
            size: AtomicU64::new(size),
            content: content.into(),
            links,
            attributes,
            remaining: AtomicU32::new(0),
            damaged: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> Vec<u8> {
        self.folder.path_of(&self.name)
    }

    fn lock(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a file that was there and has been brought to its final size.
    pub(super) fn reuse(&self) {
        *self.lock() = FileState { exists: true, reused: true, ..FileState::default() };
    }

    /// Whether a piece of it is known to be lost.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Reports the first thing that went wrong with it.
    pub(super) fn damage(&self, run: &Run<'_>, message: String) {
        if !self.damaged.swap(true, Ordering::Relaxed) {
            run.problem(&self.path(), message);
        }
    }

    fn damage_io(&self, run: &Run<'_>, action: &str, error: io::Error) {
        self.broken.store(true, Ordering::Relaxed);
        if !self.damaged.swap(true, Ordering::Relaxed) {
            run.failed(&self.path(), action, error);
        }
    }

    /// A handle for writing, and whether what was there is reused. The file is made if need be.
    fn open(&self, run: &Run<'_>, files: &OpenFiles<'_>, number: u32) -> io::Result<(Arc<OwnedFd>, bool)> {
        let mut state = self.lock();
        if let Some(handle) = &state.handle {
            return Ok((Arc::clone(handle), state.reused));
        }
        if !state.started {
            state.started = true;
            run.progress.event(Event::FileStarted { path: &self.path() });
        }
        let folder = run.target.open(&self.folder)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = if state.exists {
            rustix::fs::openat(&*folder, &*self.name, flags | OFlags::NONBLOCK, Mode::empty())?
        } else {
            let handle = rustix::fs::openat(&*folder, &*self.name, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)?;
            // A single piece without holes makes the size by itself.
            if self.content.len() > 1 || self.size() >= HOLE as u64 {
                rustix::fs::ftruncate(&handle, self.size())?;
            }
            state.exists = true;
            handle
        };
        let handle = Arc::new(handle);
        let reused = state.reused;
        if self.remaining.load(Ordering::Relaxed) > 1 {
            state.handle = Some(Arc::clone(&handle));
            drop(state);
            files.opened(number);
        }
        Ok((handle, reused))
    }

    /// Writes one piece, and finishes the file if it was the last. `number` is the file's place in the batch.
    pub(super) fn write(&self, run: &Run<'_>, files: &OpenFiles<'_>, number: u32, at: u64, data: &[u8]) {
        let mut last = None;
        if !self.broken.load(Ordering::Relaxed) {
            match self.open(run, files, number).and_then(|(handle, reused)| {
                write_piece(&handle, reused, at, data)?;
                Ok(handle)
            }) {
                Ok(handle) => {
                    Run::count(&run.counters.bytes_restored, data.len() as u64);
                    run.progress.event(Event::Bytes(data.len() as u64));
                    last = Some(handle);
                }
                Err(error) => self.damage_io(run, "write", error),
            }
        }
        self.piece_done(run, last);
    }

    /// Counts one piece as dealt with, well or not.
    pub(super) fn piece_done(&self, run: &Run<'_>, handle: Option<Arc<OwnedFd>>) {
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            let kept = self.lock().handle.take();
            if let Some(handle) = handle.or(kept) {
                self.finish(run, &handle);
            }
        }
    }

    /// Makes a file without data, or finishes one that only had to be cut.
    pub(super) fn finish_without_data(&self, run: &Run<'_>, files: &OpenFiles<'_>, number: u32) {
        match self.open(run, files, number) {
            Ok((handle, _)) => self.finish(run, &handle),
            Err(error) => self.damage_io(run, "write", error),
        }
    }

    /// Everything is written: metadata, and counting. A damaged file keeps the metadata of an unfinished one, so that nobody
    /// takes it for whole.
    fn finish(&self, run: &Run<'_>, handle: &OwnedFd) {
        if self.damaged.load(Ordering::Relaxed) {
            return;
        }
        let path = self.path();
        run.failures(&path, self.attributes.apply(Place::File(handle.as_fd()), run.request.owners));
        Run::count(&run.counters.files_restored, 1);
        let outcome = if self.lock().reused { FileOutcome::Changed } else { FileOutcome::New };
        run.progress.event(Event::FileFinished { path: &path, size: self.size(), outcome });
    }
}

/// Writes data at its place, leaving holes where zeros are.
fn write_piece(file: &OwnedFd, reused: bool, at: u64, data: &[u8]) -> io::Result<()> {
    let mut from = 0;
    while from < data.len() {
        let zeros = zeros_at(&data[from..]);
        if zeros > 0 {
            if reused {
                clear(file, at + from as u64, &data[from..from + zeros])?;
            }
            from += zeros;
            continue;
        }
        let mut to = from;
        while to < data.len() && zeros_at(&data[to..]) == 0 {
            to = data.len().min(to + HOLE);
        }
        write_at(file, at + from as u64, &data[from..to])?;
        from = to;
    }
    Ok(())
}

/// The length of the run of zeros at the beginning, in whole steps; the end of the data counts as one.
fn zeros_at(data: &[u8]) -> usize {
    let mut length = 0;
    for block in data.chunks(HOLE) {
        // Most blocks show in their first bytes that they are not empty.
        if block.iter().take(16).any(|&byte| byte != 0) || !is_zero(block) {
            break;
        }
        length += block.len();
    }
    // A short end after data is written: it would be a hole only on paper.
    if length < HOLE { 0 } else { length }
}

fn is_zero(data: &[u8]) -> bool {
    data.chunks(256).all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

fn clear(file: &OwnedFd, at: u64, zeros: &[u8]) -> io::Result<()> {
    let punched = rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, zeros.len() as u64);
    if punched.is_ok() { Ok(()) } else { write_at(file, at, zeros) }
}

fn write_at(file: &OwnedFd, mut at: u64, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match rustix::io::pwrite(file, data, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                data = &data[written..];
                at += written as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Which files of a batch are open; the longest open is closed when there are too many.
pub(super) struct OpenFiles<'a> {
    files: &'a [FileJob],
    open: Mutex<VecDeque<u32>>,
}

impl<'a> OpenFiles<'a> {
    pub(super) fn new(files: &'a [FileJob]) -> Self {
        Self { files, open: Mutex::default() }
    }

    fn opened(&self, number: u32) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push_back(number);
        let victim = if open.len() > OPEN_FILES { open.pop_front() } else { None };
        drop(open);
        if let Some(file) = victim.and_then(|victim| self.files.get(victim as usize)) {
            let handle = file.lock().handle.take();
            drop(handle);
        }
    }
}
