//! Reads the metadata of files of this machine: `stat`, owners' names, extended attributes.
//!
//! Which files are read is decided by `walk`; nothing here follows a symbolic link.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::Identity;
use crate::model::entry::{Kind, Metadata, Timestamp, Xattr};

/// Longest list of names and longest value that Linux itself keeps; some file systems keep more.
const USUAL_XATTR_SIZE: usize = 64 * 1024;

/// The names that `/etc/passwd` and `/etc/group` have for owners, read once.
///
/// Only these two files are asked (as a statically linked restic does): directory services may be slow, or gone.
#[derive(Debug, Default)]
pub struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Owners {
    /// Reads the two files; one that cannot be read gives no names, and numbers are always kept beside names.
    pub fn of_this_machine() -> Self {
        let read = |path| std::fs::read(path).unwrap_or_default();
        Self::parse(&read("/etc/passwd"), &read("/etc/group"))
    }

    fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self { users: parse_names(passwd), groups: parse_names(group) }
    }

    /// A user's name, empty when unknown.
    pub fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_default()
    }

    /// A group's name, empty when unknown.
    pub fn group(&self, gid: u32) -> String {
        self.groups.get(&gid).cloned().unwrap_or_default()
    }
}

/// Both files have the name first and the number third; of several lines with one number the first counts.
fn parse_names(text: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next()) else { continue };
        // Lines that begin with + or - are directives of the old NIS.
        if name.is_empty() || matches!(name[0], b'#' | b'+' | b'-') {
            continue;
        }
        let (Ok(name), Some(number)) = (str::from_utf8(name), str::from_utf8(number).ok().and_then(|digits| digits.parse().ok())) else {
            continue;
        };
        names.entry(number).or_insert_with(|| name.to_owned());
    }
    names
}

/// Which file this is.
pub fn identity(stat: &Stat) -> Identity {
    Identity { device: stat.st_dev, inode: stat.st_ino }
}

/// What `stat` says, without extended attributes. `link_target` is asked for symbolic links only.
///
/// # Errors
/// The link's target could not be read, or this is no kind of file that Linux has.
pub fn from_stat(stat: &Stat, owners: &Owners, link_target: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<Metadata> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink { target: link_target()? },
        FileType::CharacterDevice => Kind::CharDevice { rdev: stat.st_rdev },
        FileType::BlockDevice => Kind::BlockDevice { rdev: stat.st_rdev },
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => return Err(io::Error::new(io::ErrorKind::Unsupported, "a kind of file that is not known")),
    };
    let size = if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
    Ok(Metadata {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        user: owners.user(stat.st_uid),
        group: owners.group(stat.st_gid),
        size,
        mtime: Timestamp { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
        atime: Timestamp { secs: stat.st_atime, nanos: stat.st_atime_nsec as u32 },
        ctime: Timestamp { secs: stat.st_ctime, nanos: stat.st_ctime_nsec as u32 },
        inode: stat.st_ino,
        device: stat.st_dev,
        #[cfg_attr(target_arch = "x86_64", expect(clippy::useless_conversion, reason = "other processors have it narrower"))]
        links: u64::from(stat.st_nlink),
        xattrs: Vec::new(),
    })
}

/// A file whose extended attributes are read.
#[derive(Clone, Copy)]
pub enum XattrsOf<'a> {
    /// By its path; a symbolic link is not followed.
    Path(&'a CStr),
    /// By an open handle.
    Handle(BorrowedFd<'a>),
}

impl XattrsOf<'_> {
    fn list(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Path(path) => rustix::fs::llistxattr(path, buffer),
            Self::Handle(handle) => rustix::fs::flistxattr(handle.as_fd(), buffer),
        }
    }

    fn get(self, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Path(path) => rustix::fs::lgetxattr(path, name, buffer),
            Self::Handle(handle) => rustix::fs::fgetxattr(handle.as_fd(), name, buffer),
        }
    }
}

/// Reads extended attributes with buffers that it keeps.
#[derive(Debug)]
pub struct XattrReader {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Default for XattrReader {
    fn default() -> Self {
        Self { names: vec![0; USUAL_XATTR_SIZE], value: vec![0; USUAL_XATTR_SIZE] }
    }
}

impl XattrReader {
    /// Whether a file has no attributes, as far as can be seen.
    pub fn sees_none(&mut self, file: XattrsOf<'_>) -> bool {
        matches!(file.list(&mut self.names), Ok(0) | Err(Errno::NOTSUP))
    }

    /// Reads all attributes that the file shows to us, in the order in which it lists them (restic stores them so); without any, this is one system call and no
    /// allocation. Attributes that cannot be read are given to `unreadable`, the rest is returned.
    pub fn read(&mut self, file: XattrsOf<'_>, mut unreadable: impl FnMut(io::Error)) -> Vec<Xattr> {
        let length = match growing(&mut self.names, |buffer| file.list(buffer)) {
            Ok(0) | Err(Errno::NOTSUP) => return Vec::new(),
            Ok(length) => length,
            Err(error) => {
                unreadable(because("cannot list the extended attributes", error));
                return Vec::new();
            }
        };
        let mut xattrs = Vec::new();
        for name in self.names[..length].split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            match growing(&mut self.value, |buffer| file.get(name, buffer)) {
                Ok(length) => xattrs.push(Xattr { name: name.to_bytes().to_vec(), value: self.value[..length].to_vec() }),
                // Removed since it was listed, or listed by a file system that has no value for it.
                Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(error) => unreadable(because(&format!("cannot read the extended attribute {}", name.to_string_lossy()), error)),
            }
        }
        xattrs
    }
}

/// Calls with a buffer that grows as long as it is too small.
fn growing(buffer: &mut Vec<u8>, mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match call(buffer) {
            Err(Errno::RANGE) if buffer.len() < 64 * USUAL_XATTR_SIZE => buffer.resize(buffer.len() * 2, 0),
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Says what failed in front of the system's own words, which alone do not tell a file from its attribute.
fn because(what: &str, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn the_first_line_of_a_number_gives_its_name() {
        let owners = Owners::parse(
            b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n#x:x:5:5\n+nis:x:6:6\nbroken\nn:x:abc:1\n",
            b"adm:x:4:a,b",
        );
        assert_eq!(owners.user(0), "root");
        assert_eq!((owners.user(5), owners.user(6), owners.user(7)), (String::new(), String::new(), String::new()));
        assert_eq!(owners.group(4), "adm");
    }

    #[test]
    fn attributes_come_through_handles_as_through_paths() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"x").unwrap();
        for (name, value) in [("user.z", &b""[..]), ("user.a", &[0, 255, 7]), ("user.m", &[b'm'; 2000])] {
            rustix::fs::setxattr(&path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
        }
        let mut reader = XattrReader { names: vec![0; 1], value: vec![0; 1] };
        let c_path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let by_path = reader.read(XattrsOf::Path(&c_path), |error| panic!("{error}"));
        let file = std::fs::File::open(&path).unwrap();
        let by_handle = XattrReader::default().read(XattrsOf::Handle(file.as_fd()), |error| panic!("{error}"));
        assert_eq!(by_path, by_handle);
        let mut users: Vec<_> = by_path.iter().filter(|xattr| xattr.name.starts_with(b"user.")).collect();
        users.sort();
        assert_eq!(users.iter().map(|xattr| &xattr.name[..]).collect::<Vec<_>>(), [b"user.a", b"user.m", b"user.z"]);
        assert_eq!(users[0].value, [0, 255, 7]);
        assert_eq!(users[1].value.len(), 2000);
    }
}
