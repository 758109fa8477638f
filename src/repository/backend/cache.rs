//! A store in front of a slow one that keeps copies of what is read again and again: snapshots, index files and packs with
//! folders. They lie in a folder of this machine, one for each repository, and are never believed: a copy counts only if its
//! SHA-256 is its name.
//!
//! What such files mean is the engine's business, and whether a store is slow enough for a cache is its opener's.

#![expect(clippy::disallowed_methods, reason = "the cache writes its own files, which anybody may remove at any time")]

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
use sha2::{Digest as _, Sha256};

use super::{Backend, FileKind};
use crate::platform::{clock, host};

/// What marks a folder as a cache, which backups leave out (<https://bford.info/cachedir/>).
const TAG: &str =
    "Signature: 8a477f597d28d172789f06886806bc55\n# bbackup's copies of parts of repositories. It may be removed at any time.\n";

/// The cache of a repository that nobody has used for so long goes.
const ABANDONED: Duration = Duration::from_hours(30 * 24);

/// A temporary file that is older than this is nobody's any more.
const LEFT_OVER: Duration = Duration::from_hours(24);

/// The files that are kept, and the names of their folders.
const KINDS: [(FileKind, &str); 3] = [(FileKind::Snapshot, "snapshots"), (FileKind::Index, "index"), (FileKind::Pack, "trees")];

/// Makes names of temporary files differ that this process writes at once.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// How a cache says, at most once, why it keeps nothing.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// Where a cache is and how large it may become.
#[derive(Clone)]
pub struct CacheOptions {
    /// The folder of all caches; that of a repository is below it.
    pub folder: PathBuf,
    /// Bytes that are kept of one repository.
    pub limit: u64,
    /// Told once when nothing can be written there.
    pub notice: Notice,
}

/// A store whose snapshots, index files and folders are read from this machine as far as they have been read before.
pub struct Cache {
    inner: Arc<dyn Backend>,
    folder: PathBuf,
    limit: u64,
    notice: Notice,
    /// Nothing can be written; what is there is still read.
    broken: AtomicBool,
    room: Mutex<Room>,
    /// What is known of the packs that this process has asked for; who reads one for the first time holds its entry, so that
    /// the others wait for it and do not fetch it too.
    packs: Mutex<HashMap<String, Arc<Mutex<Known>>>>,
}

/// How full it is, as far as this process knows.
#[derive(Default)]
struct Room {
    used: u64,
    /// Written since the folder was looked at: others may have written meanwhile.
    added: u64,
}

/// What is known of a pack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    /// This very file was hashed.
    Whole(Stamp),
    /// It cannot be kept, so its parts are read from the store.
    Elsewhere,
}

/// Tells a file from another one in its place, and from itself after a change.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self { device: found.dev(), inode: found.ino(), size: found.size(), changed: (found.ctime(), found.ctime_nsec()) })
    }
}

impl Cache {
    /// A cache before `inner`, the store of the repository `id`; none if that is no id of the format, which could lead anywhere.
    pub fn new(inner: Arc<dyn Backend>, id: &str, options: CacheOptions) -> Option<Self> {
        if !is_name(id) {
            return None;
        }
        let CacheOptions { folder: root, limit, notice } = options;
        let all = root.join("repositories");
        let cache =
            Self { inner, folder: all.join(id), limit, notice, broken: false.into(), room: Mutex::default(), packs: Mutex::default() };
        if let Err(error) = cache.prepare(&root) {
            cache.give_up(&error);
        } else {
            remove_abandoned(&all, id);
            cache.make_room(&mut cache.room.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Some(cache)
    }

    fn prepare(&self, root: &Path) -> io::Result<()> {
        for (_, name) in KINDS {
            DirBuilder::new().recursive(true).mode(0o700).create(self.folder.join(name))?;
        }
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(root.join("CACHEDIR.TAG")) {
            Ok(mut file) => file.write_all(TAG.as_bytes())?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // Its time says when the repository was last used.
        touch(&File::open(&self.folder)?)
    }

    /// Nothing more is written: a cache is never a reason to fail.
    fn give_up(&self, error: &io::Error) {
        if !self.broken.swap(true, Ordering::SeqCst) {
            (self.notice)(&format!("the cache in {} cannot be written ({error}); work goes on without it", self.folder.display()));
        }
    }

    /// None for what is not kept.
    fn path(&self, kind: FileKind, name: &str) -> Option<PathBuf> {
        let (_, folder) = KINDS.iter().find(|(kept, _)| *kept == kind)?;
        is_name(name).then(|| self.folder.join(folder).join(name))
    }

    /// Keeps a file that has been read or written. The name's hash is verified whenever the copy is read.
    fn keep(&self, path: &Path, parts: &[&[u8]]) -> bool {
        let size: u64 = parts.iter().map(|part| part.len() as u64).sum();
        // One that would push out most of the others is not worth it.
        if size > self.limit / 4 || self.broken.load(Ordering::SeqCst) {
            return false;
        }
        match self.write_file(path, parts) {
            Ok(()) => {}
            // Somebody has emptied the cache just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
            Err(error) => {
                self.give_up(&error);
                return false;
            }
        }
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        room.used += size;
        room.added += size;
        if room.used > self.limit || room.added > self.limit / 8 {
            self.make_room(&mut room);
        }
        true
    }

    /// Under another name first, so that nobody sees half a file while we live. Nothing is synced: after a loss of power what is
    /// torn is found by its hash.
    fn write_file(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        // Processes in several containers may have one number and one folder; the time tells them apart.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("tmp-{}-{}-{number}", host::pid(), clock::since_boot().as_nanos()));
        let written = (|| {
            let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
            let mut file = match create() {
                // Somebody has emptied the cache.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    path.parent().map_or(Ok(()), |folder| DirBuilder::new().recursive(true).mode(0o700).create(folder))?;
                    create()
                }
                result => result,
            }?;
            parts.iter().try_for_each(|part| file.write_all(part))?;
            fs::rename(&temporary, path)
        })();
        if written.is_err() {
            drop(fs::remove_file(&temporary));
        }
        written
    }

    /// Looks at what is there, and removes what was not used for longest until a tenth of the room is free again.
    fn make_room(&self, room: &mut Room) {
        let now = SystemTime::from(clock::now());
        let mut files = Vec::new();
        for (kept, path, found) in KINDS
            .iter()
            .flat_map(|(_, name)| files_in(&self.folder.join(name)))
            .map(|(path, found)| (true, path, found))
            .chain(files_in(&self.folder).into_iter().map(|(path, found)| (false, path, found)))
        {
            let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if kept {
                files.push((used, found.len(), path));
            } else if now.duration_since(used).is_ok_and(|age| age > LEFT_OVER) {
                drop(fs::remove_file(path));
            }
        }
        *room = Room { used: files.iter().map(|(_, size, _)| size).sum(), added: 0 };
        if room.used <= self.limit {
            return;
        }
        files.sort_unstable();
        for (_, size, path) in files {
            if room.used <= self.limit - self.limit / 10 {
                break;
            }
            if fs::remove_file(path).is_ok() {
                room.used -= size;
            }
        }
    }

    /// Removes the copies of what the store does not have any more.
    fn remove_others(&self, kind: FileKind, there: &[(String, u64)]) {
        let Some((_, folder)) = KINDS.iter().find(|(kept, _)| *kept == kind) else { return };
        let copies = files_in(&self.folder.join(folder));
        if copies.is_empty() {
            return;
        }
        let there: HashSet<&str> = there.iter().map(|(name, _)| name.as_str()).collect();
        for (path, _) in copies {
            if !path.file_name().and_then(|name| name.to_str()).is_some_and(|name| there.contains(name)) {
                drop(fs::remove_file(path));
            }
        }
    }

    /// Fills `buffer` from the copy of a pack, which is fetched if there is none. False if it cannot be kept.
    fn read_copy(&self, path: &Path, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        let entry = {
            let mut packs = self.packs.lock().unwrap_or_else(PoisonError::into_inner);
            match packs.get(name) {
                Some(entry) => Arc::clone(entry),
                None => Arc::clone(packs.entry(name.to_owned()).or_insert_with(|| Arc::new(Mutex::new(Known::Nothing)))),
            }
        };
        let mut known = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == Known::Elsewhere {
            return Ok(false);
        }
        if let Some(file) = open(path) {
            if Stamp::of(&file).is_ok_and(|stamp| *known == Known::Whole(stamp)) {
                drop(known);
                return file.read_exact_at(buffer, offset).map(|()| true);
            }
            // Its time first: that changes the stamp.
            drop(touch(&file));
            if let (Ok(stamp), true) = (Stamp::of(&file), hash(&file).is_ok_and(|found| is_of(&found, name))) {
                *known = Known::Whole(stamp);
                drop(known);
                return file.read_exact_at(buffer, offset).map(|()| true);
            }
            drop(fs::remove_file(path));
        }
        *known = Known::Elsewhere;
        if self.broken.load(Ordering::SeqCst) {
            return Ok(false);
        }
        // A pack that cannot be read as a whole may still have the part that is wanted.
        let Ok(data) = self.inner.read(FileKind::Pack, name) else { return Ok(false) };
        if !is_of(&Sha256::digest(&data), name) {
            return Ok(false);
        }
        if self.keep(path, &[&data]) {
            *known = Known::Nothing;
        }
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let part = start.checked_add(buffer.len()).and_then(|end| data.get(start..end)).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(true)
    }
}

impl Backend for Cache {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> io::Result<()> {
        self.inner.create()
    }

    fn list(&self, kind: FileKind) -> io::Result<Vec<(String, u64)>> {
        let there = self.inner.list(kind)?;
        self.remove_others(kind, &there);
        Ok(there)
    }

    fn has_folder(&self, kind: FileKind) -> io::Result<bool> {
        self.inner.has_folder(kind)
    }

    fn read(&self, kind: FileKind, name: &str) -> io::Result<Vec<u8>> {
        // Whole packs are only read to be checked or repaired: then the store is meant.
        let Some(path) = self.path(kind, name).filter(|_| kind != FileKind::Pack) else { return self.inner.read(kind, name) };
        if let Some(data) = find(&path, name) {
            return Ok(data);
        }
        let data = self.inner.read(kind, name)?;
        if is_of(&Sha256::digest(&data), name) {
            self.keep(&path, &[&data]);
        }
        Ok(data)
    }

    fn read_at(&self, kind: FileKind, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(kind, name, offset, buffer)
    }

    fn read_folder_at(&self, pack: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.path(FileKind::Pack, pack) {
            Some(path) if self.read_copy(&path, pack, offset, buffer)? => Ok(()),
            _ => self.inner.read_folder_at(pack, offset, buffer),
        }
    }

    // Snapshots and index files are kept when they are read: who reads back what was just written means the store.
    fn write(&self, kind: FileKind, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        self.inner.write(kind, name, parts)
    }

    fn write_folders(&self, pack: &str, parts: &[&[u8]]) -> io::Result<()> {
        self.inner.write_folders(pack, parts)?;
        if let Some(path) = self.path(FileKind::Pack, pack) {
            self.keep(&path, parts);
        }
        Ok(())
    }

    fn remove(&self, kind: FileKind, name: &str) -> io::Result<()> {
        if let Some(path) = self.path(kind, name) {
            drop(fs::remove_file(path));
        }
        self.inner.remove(kind, name)
    }

    fn modified(&self, kind: FileKind, name: &str) -> io::Result<Option<SystemTime>> {
        self.inner.modified(kind, name)
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }

    fn is_local(&self) -> bool {
        self.inner.is_local()
    }

    fn beneath(&self) -> Option<Arc<dyn Backend>> {
        Some(Arc::clone(&self.inner))
    }
}

/// The copy of a snapshot or an index file, if there is one and it is whole.
fn find(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut file = open(path)?;
    let mut data = Vec::new();
    if file.read_to_end(&mut data).is_ok() && is_of(&Sha256::digest(&data), name) {
        drop(touch(&file));
        return Some(data);
    }
    drop(fs::remove_file(path));
    None
}

/// A file of the cache; a link is none.
fn open(path: &Path) -> Option<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path).ok()
}

/// Says that a file was used now. That it cannot be said in a folder that cannot be written is of no matter.
fn touch(file: &File) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now })?)
}

fn hash(file: &File) -> io::Result<[u8; 32]> {
    let (mut hasher, mut buffer, mut offset) = (Sha256::new(), vec![0; 256 << 10], 0);
    loop {
        match file.read_at(&mut buffer, offset)? {
            0 => return Ok(hasher.finalize().into()),
            length => {
                hasher.update(&buffer[..length]);
                offset += length as u64;
            }
        }
    }
}

fn is_of(hash: &[u8], name: &str) -> bool {
    let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    digits.eq(name.bytes())
}

fn is_name(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// The files in a folder; what cannot be listed holds none.
fn files_in(folder: &Path) -> Vec<(PathBuf, fs::Metadata)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))).filter(|(_, found)| found.is_file()).collect()
}

/// Removes the caches of other repositories that were not used for long.
fn remove_abandoned(all: &Path, own: &str) {
    let now = SystemTime::from(clock::now());
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let used = entry.metadata().ok().filter(fs::Metadata::is_dir).and_then(|found| found.modified().ok());
        if name != own && is_name(&name) && used.and_then(|used| now.duration_since(used).ok()).is_some_and(|age| age > ABANDONED) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests;
