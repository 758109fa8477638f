//! Ways to hurt: full and read-only file systems, damaged files.
//!
//! Everything mounted here is unmounted when its value is dropped; `tests/run` gives the tests a mount namespace of their own.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something mounted for the time of a test.
#[derive(Debug)]
pub(crate) struct Mount {
    path: PathBuf,
}

impl Mount {
    /// A small file system in memory: the disk that gets full.
    pub(crate) fn small(path: &Path, megabytes: u64) -> Self {
        fs::create_dir_all(path).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]).arg(path));
        Self { path: path.to_owned() }
    }

    /// A file system in memory that holds only so many files and folders, its own root among them, however small they are.
    pub(crate) fn of_few(path: &Path, entries: u64) -> Self {
        fs::create_dir_all(path).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("nr_inodes={entries}"), "tmpfs"]).arg(path));
        Self { path: path.to_owned() }
    }

    /// A second, read-only view over a folder, at the folder's own path: not even root can write there.
    pub(crate) fn read_only(path: &Path) -> Self {
        run(Command::new("mount").arg("--bind").arg(path).arg(path));
        run(Command::new("mount").args(["-o", "remount,ro,bind"]).arg(path));
        Self { path: path.to_owned() }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?} ended with {status}");
}

/// Turns one bit of a file, counted from its beginning, or from its end if negative.
pub(crate) fn flip(path: &Path, offset: i64) {
    let file = writable(path);
    let length = file.metadata().unwrap().len();
    let offset = if offset < 0 { length - offset.unsigned_abs() } else { offset.unsigned_abs() };
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

/// Cuts a file to `length` bytes.
pub(crate) fn truncate(path: &Path, length: u64) {
    writable(path).set_len(length).unwrap();
}

/// Files of a repository are read-only for everyone but root.
fn writable(path: &Path) -> File {
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}
