//! The folder that is restored into: folders, handles on them and names in them, so that nothing outside it is ever touched.
//!
//! Every name is used relative to an open folder and no link is followed: a tree or a folder made by somebody hostile cannot
//! lead a restore astray. What is written is the other parts' business.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::platform::mounts;

/// Handles on folders that are kept open at once.
const OPEN_FOLDERS: usize = 128;

/// How a folder is opened: never through a link.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder of the restored tree. Its handle is opened when it is needed and may be closed at any time.
#[derive(Debug)]
pub(super) struct Folder {
    /// The folder it is in; none for the root of the restore.
    parent: Option<Arc<Folder>>,
    /// Its name there.
    name: Box<[u8]>,
    /// Its path in the snapshot, for messages; empty for the root of the snapshot.
    pub(super) path: Box<[u8]>,
    /// Levels below the root.
    pub(super) depth: usize,
    /// Whether this run made it (or, in a dry run, would make it): then nothing is in it that this run did not put there.
    pub(super) is_new: AtomicBool,
    number: u64,
}

impl Folder {
    /// The path in the snapshot of what is called `name` in this folder.
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        [&self.path, &b"/"[..], name].concat()
    }

    /// Whether nothing stood in this folder before.
    pub(super) fn is_new(&self) -> bool {
        self.is_new.load(Ordering::Relaxed)
    }
}

/// The place of a restore, and the handles on its folders.
#[derive(Debug)]
pub(super) struct Target {
    root: Option<Arc<OwnedFd>>,
    next: AtomicU64,
    /// By the folder's number.
    open: Mutex<HashMap<u64, Arc<OwnedFd>>>,
}

impl Target {
    /// Takes the folder `path` as the place. A link is followed here and only here: this path is the user's own. With `None`
    /// nothing is there yet and nothing is written (a dry run).
    pub(super) fn new(path: Option<&Path>) -> io::Result<Self> {
        let root = path.map(|path| rustix::fs::open(path, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty())).transpose()?;
        Ok(Self { root: root.map(Arc::new), next: AtomicU64::new(1), open: Mutex::default() })
    }

    /// The root folder; `path` is its path in the snapshot.
    pub(super) fn root(path: &[u8], is_new: bool) -> Arc<Folder> {
        Arc::new(Folder { parent: None, name: Box::default(), path: path.into(), depth: 0, is_new: AtomicBool::new(is_new), number: 0 })
    }

    /// The folder `name` in `parent`, whether or not it is there.
    pub(super) fn folder(&self, parent: &Arc<Folder>, name: &[u8], is_new: bool) -> Arc<Folder> {
        Arc::new(Folder {
            parent: Some(Arc::clone(parent)),
            name: name.into(),
            path: parent.path_of(name).into(),
            depth: parent.depth + 1,
            is_new: AtomicBool::new(is_new),
            number: self.next.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// A handle on a folder.
    ///
    /// # Errors
    /// One of the folders on the way is not there, is no folder (`NotADirectory`, also for a link) or may not be entered.
    pub(super) fn open(&self, folder: &Folder) -> io::Result<Arc<OwnedFd>> {
        // Up to the nearest folder that is open, then down again.
        let mut missing = Vec::new();
        let mut at = folder;
        let mut handle = loop {
            if let Some(handle) = self.lock().get(&at.number) {
                break Arc::clone(handle);
            }
            let Some(parent) = &at.parent else {
                break self.root.clone().ok_or(io::ErrorKind::NotFound)?;
            };
            missing.push(at);
            at = parent;
        };
        for folder in missing.into_iter().rev() {
            handle = Arc::new(rustix::fs::openat(&*handle, &folder.name[..], FOLDER, Mode::empty())?);
            let mut open = self.lock();
            if open.len() >= OPEN_FOLDERS {
                open.clear();
            }
            open.insert(folder.number, Arc::clone(&handle));
        }
        Ok(handle)
    }

    /// Forgets the handle on a folder that is done.
    pub(super) fn close(&self, folder: &Folder) {
        self.lock().remove(&folder.number);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<OwnedFd>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what is called `name`, and if `recursive` everything in it. Links are removed, not followed; what is
    /// mounted below is left alone. Returns how many entries were removed. `go_on` is asked between any two.
    ///
    /// # Errors
    /// Something is still there: the first cause; `ResourceBusy` if that is only what is mounted there.
    pub(super) fn remove(folder: BorrowedFd<'_>, name: &[u8], recursive: bool, go_on: &dyn Fn() -> bool) -> io::Result<u64> {
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) => return Ok(1),
            Err(Errno::NOENT) => return Ok(0),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(Errno::BUSY) => return Err(mounted()),
            Err(error) => return Err(error.into()),
        }
        let mut removed = 0;
        if recursive {
            // The folders that are being emptied, from the outermost: a handle, a listing and the name in the one before.
            let mut stack = vec![Emptied::open(folder, name)?];
            while let Some(top) = stack.last_mut() {
                if !go_on() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                if let Some(child) = top.names.pop() {
                    match rustix::fs::unlinkat(&top.handle, &child[..], AtFlags::empty()) {
                        Ok(()) => removed += 1,
                        Err(Errno::NOENT) => {}
                        Err(Errno::ISDIR | Errno::PERM) => match Emptied::open(top.handle.as_fd(), &child) {
                            Ok(below) => stack.push(below),
                            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => top.stays = true,
                            Err(error) => return Err(error),
                        },
                        Err(Errno::BUSY) => top.stays = true,
                        Err(error) => return Err(error.into()),
                    }
                    continue;
                }
                let Some(done) = stack.pop() else { break };
                match stack.last_mut() {
                    Some(above) if done.stays => above.stays = true,
                    Some(above) => {
                        rustix::fs::unlinkat(&above.handle, &done.name[..], AtFlags::REMOVEDIR)?;
                        removed += 1;
                    }
                    None if done.stays => return Err(mounted()),
                    None => {}
                }
            }
        }
        rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?;
        Ok(removed + 1)
    }
}

/// A folder that is being emptied.
struct Emptied {
    name: Vec<u8>,
    handle: OwnedFd,
    names: Vec<Vec<u8>>,
    /// Whether something in it stays, as it is mounted there.
    stays: bool,
}

impl Emptied {
    fn open(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<Self> {
        let handle = rustix::fs::openat(folder, name, FOLDER, Mode::empty())?;
        let is_mounted = match mounts::is_mount_point(handle.as_fd()) {
            Some(is_mounted) => is_mounted,
            None => rustix::fs::fstat(&handle)?.st_dev != rustix::fs::fstat(folder)?.st_dev,
        };
        if is_mounted {
            return Err(mounted());
        }
        let names = names(handle.as_fd())?;
        Ok(Self { name: name.to_vec(), handle, names, stays: false })
    }
}

fn mounted() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "something is mounted there")
}

/// Whether [`Target::remove`] would do it without `recursive`.
///
/// # Errors
/// `DirectoryNotEmpty`, or that nobody can tell.
pub(super) fn expect_removable(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match rustix::fs::openat(folder, name, FOLDER, Mode::empty()) {
        Ok(inner) if !names(inner.as_fd())?.is_empty() => Err(io::ErrorKind::DirectoryNotEmpty.into()),
        Ok(_) | Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The names in a folder, in no order.
pub(super) fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// What is called `name`, not following a link; none if nothing is.
pub(super) fn look(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The type of what was found.
pub(super) fn type_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Splits a user's path into the folder and the name in it.
///
/// # Errors
/// The path has no name at its end (`/`, `..`).
pub(super) fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
    };
    let folder = if folder.as_os_str().as_bytes().is_empty() { Path::new(".") } else { folder };
    Ok((folder, name))
}
