//! Small files of bbackup's own, written whole or not at all: keys, journals, configuration.
//!
//! The files of a repository are `repository/backend`'s, restored ones `repository/restic/restore`'s and `targets`'.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What `write_atomic` does when the file is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// The new content takes its place.
    Replace,
    /// It stays, and the call fails with `AlreadyExists`.
    Keep,
}

/// Writes a file whole or not at all, durably, with exactly these permission bits. The folder must exist.
///
/// # Errors
/// The file is as it was before.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32, existing: Existing) -> io::Result<()> {
    let folder = parent(path);
    let temporary = temporary_beside(path);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match existing {
            Existing::Replace => fs::rename(&temporary, path),
            // A link never replaces: two that write the same new key cannot both believe theirs is the one.
            Existing::Keep => fs::hard_link(&temporary, path).and_then(|()| fs::remove_file(&temporary)),
        }
    })();
    if written.is_err() {
        // The temporary file is of no use to anybody; that it cannot be removed changes nothing about the failure.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_directory(&folder)
}

/// Removes a file, a link or an empty folder below a folder, without following links on the way.
///
/// # Errors
/// It is still there, or there was nothing of that name.
pub fn remove_beneath(folder: &Path, name: &[u8]) -> io::Result<()> {
    use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
    let (above, last) = match name.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&name[..slash], &name[slash + 1..]),
        None => (&b"."[..], name),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(folder, flags, Mode::empty())?;
    let above = rustix::fs::openat2(&root, above, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?;
    let stat = rustix::fs::statat(&above, last, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_folder = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    rustix::fs::unlinkat(&above, last, if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() })?;
    Ok(())
}

/// Appends to a file, which is made with `mode` if it is not there, and makes it durable.
///
/// # Errors
/// Some of the bytes may have been appended.
pub fn append(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = open_to_append(path, mode)?;
    file.write_all(bytes)?;
    file.sync_data()
}

/// Opens a file that grows at its end, and makes it with `mode` if it is not there.
///
/// # Errors
/// It cannot be written, or is a folder.
pub fn open_to_append(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(mode).open(path)
}

/// A new file without a name, which is gone with the last handle on it, whatever becomes of the process. The folder must exist.
///
/// # Errors
/// Nothing can be written there.
pub fn nameless(folder: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        return Ok(file.into());
    }
    // Not every file system can do that.
    let path = temporary_beside(&folder.join("nameless"));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// How much room the disk of a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that users may still fill.
    pub free: u64,
    /// Bytes of all of it.
    pub size: u64,
}

/// How much room the disk of a file has; none where it does not say.
pub fn space(file: &File) -> Option<Space> {
    let found = rustix::fs::fstatvfs(file).ok().filter(|found| found.f_blocks > 0)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Space { free: bytes(found.f_bavail), size: bytes(found.f_blocks) })
}

/// Makes a folder and those above it; the new ones get `mode`, existing ones keep theirs.
///
/// # Errors
/// It is not there.
pub fn create_directories(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Reads a small file that must be text of at most `limit` bytes.
///
/// # Errors
/// It cannot be read, is longer (`FileTooLarge`) or not UTF-8 (`InvalidData`).
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        io::Error::new(io::ErrorKind::InvalidData, format!("not UTF-8 text (byte {place})"))
    })
}

/// Removes a file; that it is gone already is no error.
///
/// # Errors
/// It is still there.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes renames and new names in a folder durable.
///
/// # Errors
/// The names may be lost with the next loss of power.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn temporary_beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    parent(path).join(name)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn replaces_whole_files_and_keeps_what_must_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_atomic(&path, b"one", 0o600, Existing::Keep).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let error = write_atomic(&path, b"two", 0o644, Existing::Keep).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_atomic(&path, b"three", 0o644, Existing::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        append(&path, b"!", 0o600).unwrap();
        assert_eq!(read_text(&path, 100).unwrap(), "three!");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file may stay");
    }

    #[test]
    fn refuses_what_is_no_small_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, b"abc\xff").unwrap();
        assert_eq!(read_text(&path, 100).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read_text(&path, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
