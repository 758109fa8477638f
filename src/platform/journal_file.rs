//! Files that only grow, that survive a loss of power line by line, and that are locked for as long as their writer lives.
//!
//! What stands in the lines is the business of whoever keeps such a journal (`docker/journal`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::files::sync_directory;

/// How long is waited before a lock is tried again.
const WAIT: Duration = Duration::from_millis(20);

/// A file that this process holds locked. The kernel frees the lock when the process ends, in whatever way.
#[derive(Debug)]
pub struct LockedFile {
    file: File,
    path: PathBuf,
}

impl LockedFile {
    /// Makes a new file of mode 0600. Nobody ever sees it without its lock: it gets its name only once it is locked.
    ///
    /// # Errors
    /// There is such a file already, or the folder cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = folder.join(name);
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&temporary)?;
        let named = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(io::Error::from)
            .and_then(|()| fs::hard_link(&temporary, path));
        // The other name is of no use any more, whether or not the first one came to be.
        let _ = fs::remove_file(&temporary);
        named?;
        sync_directory(folder)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Opens a file and locks it, unless somebody who lives holds it or it is gone: then none.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open_unheld(path: &Path) -> io::Result<Option<Self>> {
        let file = match OpenOptions::new().read(true).append(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Its holder may have removed it between our opening and our locking.
        let ours = file.metadata()?;
        let named = match fs::metadata(path) {
            Ok(named) => named,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let same = (ours.dev(), ours.ino()) == (named.dev(), named.ino());
        Ok(same.then(|| Self { file, path: path.to_owned() }))
    }

    /// Whether somebody who lives holds a file. Whoever asks at the same time does not count.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Locks a file, which is made if it is not there, unless somebody holds it: then none. Such a file is never removed.
    ///
    /// # Errors
    /// It can be neither opened nor made.
    pub fn try_lock(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file, path: path.to_owned() })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The same, waiting for whoever holds it for as long as `limit`.
    ///
    /// # Errors
    /// As for [`try_lock`](Self::try_lock).
    pub async fn lock_within(path: &Path, limit: Duration) -> io::Result<Option<Self>> {
        let start = tokio::time::Instant::now();
        loop {
            let lock = Self::try_lock(path)?;
            if lock.is_some() || start.elapsed() > limit {
                return Ok(lock);
            }
            tokio::time::sleep(WAIT).await;
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends to it and returns once the bytes would survive a loss of power.
    ///
    /// # Errors
    /// Some of the bytes may have been appended.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_data()
    }

    /// Everything in it, at most `limit` bytes.
    ///
    /// # Errors
    /// It cannot be read, or is longer.
    pub fn read(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        self.file.rewind()?;
        read_limited(&self.file, limit)
    }

    /// Gives it another name while the lock is still held.
    ///
    /// # Errors
    /// It has its name still.
    pub fn rename(self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        sync_directory(to.parent().unwrap_or(Path::new(".")))
    }

    /// Removes it while the lock is still held.
    ///
    /// # Errors
    /// It is still there.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        sync_directory(self.path.parent().unwrap_or(Path::new(".")))
    }
}

/// Removes the files of a folder whose names end in `suffix` and that were not changed for that long. One that cannot be removed stays.
pub fn remove_old(folder: &Path, suffix: &str, age: Duration) {
    for path in list(folder, suffix).unwrap_or_default() {
        let changed = fs::metadata(&path).and_then(|found| found.modified()).ok();
        if changed.and_then(|changed| changed.elapsed().ok()).is_some_and(|elapsed| elapsed > age) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Everything in a file that somebody else may hold, at most `limit` bytes; none if it is gone.
///
/// # Errors
/// It cannot be read, or is longer.
pub fn read_unlocked(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    match File::open(path) {
        Ok(file) => read_limited(&file, limit).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The files of a folder whose names end in `suffix`, sorted; none if there is no such folder.
///
/// # Errors
/// The folder cannot be read.
pub fn list(folder: &Path, suffix: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(suffix) && !name.starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_limited(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_one_holds_it_and_it_is_free_after_the_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.journal");
        let mut held = LockedFile::create(&path).unwrap();
        held.append(b"one\n").unwrap();
        assert!(LockedFile::open_unheld(&path).unwrap().is_none());
        assert!(LockedFile::is_held(&path).unwrap());
        assert_eq!(LockedFile::create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read_unlocked(&path, 100).unwrap().unwrap(), b"one\n");
        drop(held);
        let other = File::open(&path).unwrap();
        rustix::fs::flock(&other, FlockOperation::LockShared).unwrap();
        assert!(!LockedFile::is_held(&path).unwrap(), "it is only looked at");
        drop(other);
        let mut found = LockedFile::open_unheld(&path).unwrap().unwrap();
        found.append(b"two\n").unwrap();
        assert_eq!(found.read(100).unwrap(), b"one\ntwo\n");
        assert_eq!(found.read(7).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(list(folder.path(), ".journal").unwrap(), std::slice::from_ref(&path));
        let ended = folder.path().join("run.ended");
        found.rename(&ended).unwrap();
        remove_old(folder.path(), ".ended", Duration::from_mins(1));
        assert!(LockedFile::open_unheld(&path).unwrap().is_none());
        let found = LockedFile::open_unheld(&ended).unwrap().unwrap();
        found.remove().unwrap();
        assert!(LockedFile::open_unheld(&path).unwrap().is_none());
        assert!(list(folder.path(), "").unwrap().is_empty());
    }
}
