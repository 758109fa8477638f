//! A backend in memory for tests, with a switch that makes the n-th call that writes fail.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::SystemTime;

use super::{Backend, FileKind};

/// Keeps everything in memory.
#[derive(Default)]
pub(crate) struct MemoryBackend {
    files: Mutex<BTreeMap<(FileKind, String), Vec<u8>>>,
    /// Counts down with every write and removal; the call that brings it below zero fails, and so do all after it.
    /// `i64::MAX` and the like never get there.
    calls_left: AtomicI64,
    /// Calls of `read` and `read_at`.
    pub(crate) reads: AtomicUsize,
}

impl MemoryBackend {
    /// One that never fails.
    pub(crate) fn new() -> Self {
        Self { calls_left: AtomicI64::new(i64::MAX), ..Self::default() }
    }

    /// Lets `count` more writes and removals succeed.
    pub(crate) fn fail_after(&self, count: i64) {
        self.calls_left.store(count, Ordering::SeqCst);
    }

    /// Whether a call has been made to fail.
    pub(crate) fn has_failed(&self) -> bool {
        self.calls_left.load(Ordering::SeqCst) < 0
    }

    /// One of its own that holds the same.
    pub(crate) fn duplicate(&self) -> Self {
        Self { files: Mutex::new(self.files.lock().unwrap().clone()), ..Self::new() }
    }

    /// Changes the bytes of a file, as a bad disk does.
    pub(crate) fn damage(&self, kind: FileKind, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.files.lock().unwrap().get_mut(&(kind, name.to_owned())).unwrap());
    }

    /// Names of all files of a kind.
    pub(crate) fn names(&self, kind: FileKind) -> Vec<String> {
        self.files.lock().unwrap().keys().filter(|(found, _)| *found == kind).map(|(_, name)| name.clone()).collect()
    }

    fn count_call(&self) -> io::Result<()> {
        if self.calls_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "made to fail"));
        }
        Ok(())
    }
}

impl Backend for MemoryBackend {
    fn location(&self) -> String {
        "memory".into()
    }

    fn create(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, kind: FileKind) -> io::Result<Vec<(String, u64)>> {
        let files = self.files.lock().unwrap();
        Ok(files.iter().filter(|((found, _), _)| *found == kind).map(|((_, name), data)| (name.clone(), data.len() as u64)).collect())
    }

    fn read(&self, kind: FileKind, name: &str) -> io::Result<Vec<u8>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.files.lock().unwrap().get(&(kind, name.to_owned())).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read_at(&self, kind: FileKind, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let data = self.read(kind, name)?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let part = start.checked_add(buffer.len()).and_then(|end| data.get(start..end)).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn write(&self, kind: FileKind, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        self.count_call()?;
        self.files.lock().unwrap().insert((kind, name.to_owned()), parts.concat());
        Ok(())
    }

    fn remove(&self, kind: FileKind, name: &str) -> io::Result<()> {
        self.count_call()?;
        self.files.lock().unwrap().remove(&(kind, name.to_owned()));
        Ok(())
    }

    fn connections(&self) -> usize {
        2
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This call fails, the others do not.
    Fails,
    /// The process ends before this call: nothing is done by it and all that follow.
    Ends,
    /// A read gives less than there is. A pack is cut off while it is written, and the process ends. What is written in one
    /// piece (everything else) is not written at all.
    Short,
}

/// Passes calls on until one goes wrong.
pub(crate) struct FaultyBackend {
    inner: std::sync::Arc<MemoryBackend>,
    fault: Fault,
    /// Number of the call that goes wrong.
    at: usize,
    calls: AtomicUsize,
    dead: std::sync::atomic::AtomicBool,
}

impl FaultyBackend {
    /// The call number `at` goes wrong, the first being number 0.
    pub(crate) fn new(inner: std::sync::Arc<MemoryBackend>, fault: Fault, at: usize) -> Self {
        Self { inner, fault, at, calls: AtomicUsize::new(0), dead: false.into() }
    }

    /// Whether there were enough calls for one to go wrong.
    pub(crate) fn has_struck(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.at
    }

    /// True if this is the call.
    fn strikes(&self) -> io::Result<bool> {
        let error = || io::Error::other("made to fail");
        if self.dead.load(Ordering::SeqCst) {
            return Err(error());
        }
        if self.calls.fetch_add(1, Ordering::SeqCst) != self.at {
            return Ok(false);
        }
        match self.fault {
            Fault::Fails => Err(error()),
            Fault::Short => Ok(true),
            Fault::Ends => {
                self.dead.store(true, Ordering::SeqCst);
                Err(error())
            }
        }
    }
}

impl Backend for FaultyBackend {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> io::Result<()> {
        self.inner.create()
    }

    fn modified(&self, kind: FileKind, name: &str) -> io::Result<Option<SystemTime>> {
        if self.strikes()? { Err(io::ErrorKind::UnexpectedEof.into()) } else { self.inner.modified(kind, name) }
    }

    fn list(&self, kind: FileKind) -> io::Result<Vec<(String, u64)>> {
        if self.strikes()? { Err(io::ErrorKind::UnexpectedEof.into()) } else { self.inner.list(kind) }
    }

    fn read(&self, kind: FileKind, name: &str) -> io::Result<Vec<u8>> {
        let short = self.strikes()?;
        let mut data = self.inner.read(kind, name)?;
        if short {
            data.truncate(data.len() / 2);
        }
        Ok(data)
    }

    fn read_at(&self, kind: FileKind, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.strikes()? { Err(io::ErrorKind::UnexpectedEof.into()) } else { self.inner.read_at(kind, name, offset, buffer) }
    }

    fn write(&self, kind: FileKind, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        if !self.strikes()? {
            return self.inner.write(kind, name, parts);
        }
        self.dead.store(true, Ordering::SeqCst);
        if kind == FileKind::Pack {
            let whole = parts.concat();
            self.inner.write(kind, name, &[&whole[..whole.len() / 2]])?;
        }
        Err(io::ErrorKind::WriteZero.into())
    }

    fn remove(&self, kind: FileKind, name: &str) -> io::Result<()> {
        if self.strikes()? { Err(io::ErrorKind::TimedOut.into()) } else { self.inner.remove(kind, name) }
    }

    fn remove_leftovers(&self) -> io::Result<u64> {
        if self.strikes()? { Err(io::ErrorKind::TimedOut.into()) } else { self.inner.remove_leftovers() }
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }

    fn is_local(&self) -> bool {
        self.inner.is_local()
    }
}

/// A call that can be intruded upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Files of a kind were listed.
    Listed(FileKind),
    /// A file of a kind was read, or a part of it.
    Read(FileKind),
    /// A file of a kind is about to be written.
    Writes(FileKind),
    /// A file of a kind was written.
    Wrote(FileKind),
}

/// Does something else at one of the calls, as somebody does who has taken the lock away.
pub(crate) struct IntrudedBackend {
    inner: std::sync::Arc<dyn Backend>,
    at: usize,
    is_meant: fn(Call) -> bool,
    calls: AtomicUsize,
    intrude: Box<dyn Fn() + Send + Sync>,
}

impl IntrudedBackend {
    /// `intrude` is called after the pack number `at` was written, the first being number 0.
    pub(crate) fn new(inner: std::sync::Arc<dyn Backend>, at: usize, intrude: impl Fn() + Send + Sync + 'static) -> Self {
        let is_meant = |call| call == Call::Wrote(FileKind::Pack);
        Self { inner, at, is_meant, calls: AtomicUsize::new(0), intrude: Box::new(intrude) }
    }

    /// The same at one of other calls.
    pub(crate) fn on(self, is_meant: fn(Call) -> bool) -> Self {
        Self { is_meant, ..self }
    }

    /// Whether there were so many calls.
    pub(crate) fn has_struck(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.at
    }

    fn call(&self, call: Call) {
        if (self.is_meant)(call) && self.calls.fetch_add(1, Ordering::SeqCst) == self.at {
            (self.intrude)();
        }
    }
}

impl Backend for IntrudedBackend {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> io::Result<()> {
        self.inner.create()
    }

    fn list(&self, kind: FileKind) -> io::Result<Vec<(String, u64)>> {
        let listed = self.inner.list(kind);
        self.call(Call::Listed(kind));
        listed
    }

    fn has_folder(&self, kind: FileKind) -> io::Result<bool> {
        self.inner.has_folder(kind)
    }

    fn read(&self, kind: FileKind, name: &str) -> io::Result<Vec<u8>> {
        let read = self.inner.read(kind, name);
        self.call(Call::Read(kind));
        read
    }

    fn read_at(&self, kind: FileKind, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let read = self.inner.read_at(kind, name, offset, buffer);
        self.call(Call::Read(kind));
        read
    }

    fn write(&self, kind: FileKind, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        self.call(Call::Writes(kind));
        self.inner.write(kind, name, parts)?;
        self.call(Call::Wrote(kind));
        Ok(())
    }

    fn remove(&self, kind: FileKind, name: &str) -> io::Result<()> {
        self.inner.remove(kind, name)
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }

    fn is_local(&self) -> bool {
        self.inner.is_local()
    }
}

/// A store that is far away: every call takes its time, and what is asked of it is counted.
pub(crate) struct SlowBackend {
    inner: std::sync::Arc<MemoryBackend>,
    delay: std::time::Duration,
    /// Calls of `read` and `read_at`.
    pub(crate) reads: AtomicUsize,
    /// Bytes that they gave.
    pub(crate) bytes: AtomicUsize,
}

impl SlowBackend {
    pub(crate) fn new(inner: std::sync::Arc<MemoryBackend>, delay: std::time::Duration) -> Self {
        Self { inner, delay, reads: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// Reads and bytes since this was last asked.
    pub(crate) fn take(&self) -> (usize, usize) {
        (self.reads.swap(0, Ordering::SeqCst), self.bytes.swap(0, Ordering::SeqCst))
    }

    fn count(&self, bytes: usize) {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }
}

impl Backend for SlowBackend {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> io::Result<()> {
        self.inner.create()
    }

    fn list(&self, kind: FileKind) -> io::Result<Vec<(String, u64)>> {
        std::thread::sleep(self.delay);
        self.inner.list(kind)
    }

    fn read(&self, kind: FileKind, name: &str) -> io::Result<Vec<u8>> {
        std::thread::sleep(self.delay);
        let data = self.inner.read(kind, name)?;
        self.count(data.len());
        Ok(data)
    }

    fn read_at(&self, kind: FileKind, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::thread::sleep(self.delay);
        self.count(buffer.len());
        self.inner.read_at(kind, name, offset, buffer)
    }

    fn write(&self, kind: FileKind, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        std::thread::sleep(self.delay);
        self.inner.write(kind, name, parts)
    }

    fn remove(&self, kind: FileKind, name: &str) -> io::Result<()> {
        self.inner.remove(kind, name)
    }

    fn modified(&self, kind: FileKind, name: &str) -> io::Result<Option<SystemTime>> {
        self.inner.modified(kind, name)
    }

    fn connections(&self) -> usize {
        4
    }

    fn is_local(&self) -> bool {
        false
    }
}
