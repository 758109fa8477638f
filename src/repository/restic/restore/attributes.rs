//! Metadata brought to what the snapshot says: owner, extended attributes, mode, times.
//!
//! Only metadata; each call works on an open file or on a name in an open folder, and follows no link.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::model::entry::{Metadata, Timestamp, Xattr};

/// The part of the metadata that is set after the data.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Timestamp,
    atime: Timestamp,
    xattrs: Box<[Xattr]>,
}

impl From<&Metadata> for Attributes {
    fn from(from: &Metadata) -> Self {
        let xattrs = from.xattrs.clone().into_boxed_slice();
        Self { mode: from.mode & 0o7777, uid: from.uid, gid: from.gid, mtime: from.mtime, atime: from.atime, xattrs }
    }
}

/// Something whose metadata is set.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// An open regular file.
    File(BorrowedFd<'a>),
    /// An open folder.
    Folder(BorrowedFd<'a>),
    /// A symbolic link by its name in a folder.
    Link(BorrowedFd<'a>, &'a [u8]),
    /// A pipe, socket or device by its name in a folder.
    Special(BorrowedFd<'a>, &'a [u8]),
}

/// What is said of an extended attribute that cannot be set.
pub(super) const SET_XATTR: &str = "set an extended attribute";

/// What could not be set, and why.
pub(super) type Failure = (&'static str, io::Error);

impl Attributes {
    /// Sets everything that differs, and returns what could not be set. Without `owners`, owners stay. A file that does not
    /// belong to whom it should gets no set-user-id and set-group-id: it would lend the wrong person's rights.
    pub(super) fn apply(&self, place: Place<'_>, owners: bool) -> Vec<Failure> {
        let mut failures = Vec::new();
        let before = match place.stat() {
            Ok(stat) => stat,
            Err(error) => return vec![("read the metadata", error.into())],
        };
        let mut mode = self.mode;
        let mut mode_differs = before.st_mode & 0o7777 != mode;
        let owner_differs = (before.st_uid, before.st_gid) != (self.uid, self.gid);
        let mut owner_is_wrong = owner_differs;
        if owners && owner_differs {
            // A change of owner clears set-user-id and capabilities, so it comes first.
            mode_differs |= mode & 0o6000 != 0;
            let changed = place.chown(self.uid, self.gid);
            owner_is_wrong = changed.is_err();
            note(&mut failures, "set the owner", changed);
        }
        if owner_is_wrong && matches!(place, Place::File(_)) {
            mode &= if before.st_uid == self.uid { 0o7777 } else { !0o4000 };
            mode &= if before.st_gid == self.gid { 0o7777 } else { !0o2000 };
            mode_differs = before.st_mode & 0o7777 != mode;
        }
        // An access list decides what the group's part of the mode means, so it comes before the mode.
        mode_differs |= self.apply_xattrs(place, &mut failures);
        if mode_differs && !matches!(place, Place::Link(..)) {
            note(&mut failures, "set the mode", place.chmod(mode));
        }
        let mtime_differs = !same_time(self.mtime, before.st_mtime, before.st_mtime_nsec);
        // Where access times were not kept, a file that was only read since is left alone: setting its time would change the
        // inode's, and the next backup would read the file again.
        let atime_differs = self.atime != self.mtime && !same_time(self.atime, before.st_atime, before.st_atime_nsec);
        if mtime_differs || atime_differs {
            let times = Timestamps { last_access: timespec(self.atime), last_modification: timespec(self.mtime) };
            note(&mut failures, "set the times", place.set_times(&times));
        }
        failures
    }

    /// Whether anything was changed.
    fn apply_xattrs(&self, place: Place<'_>, failures: &mut Vec<Failure>) -> bool {
        let existing = match place.list_xattrs() {
            Ok(existing) => existing,
            Err(Errno::OPNOTSUPP | Errno::NOENT) if self.xattrs.is_empty() => return false,
            Err(Errno::OPNOTSUPP) => Vec::new(),
            Err(error) => {
                failures.push(("list the extended attributes", error.into()));
                return false;
            }
        };
        let mut changed = false;
        for name in &existing {
            let wanted = self.xattrs.iter().any(|wanted| wanted.name == name.as_bytes());
            // Labels of the security modules belong to this machine's policy.
            if !wanted && !name.as_bytes().starts_with(b"security.") {
                changed = true;
                note(failures, "remove an extended attribute", place.remove_xattr(name));
            }
        }
        for Xattr { name, value } in &self.xattrs {
            let Ok(c_name) = CString::new(&name[..]) else {
                failures.push((SET_XATTR, io::ErrorKind::InvalidInput.into()));
                continue;
            };
            if existing.contains(&c_name) && place.has_xattr(&c_name, value) {
                continue;
            }
            changed = true;
            note(failures, SET_XATTR, place.set_xattr(&c_name, value));
        }
        changed
    }
}

fn note(failures: &mut Vec<Failure>, action: &'static str, result: Result<(), Errno>) {
    if let Err(error) = result {
        failures.push((action, error.into()));
    }
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec { tv_sec: time.secs, tv_nsec: i64::from(time.nanos) }
}

fn same_time(time: Timestamp, secs: i64, nanos: u64) -> bool {
    time.secs == secs && u64::from(time.nanos) == nanos
}

impl Place<'_> {
    fn stat(self) -> Result<Stat, Errno> {
        match self {
            Self::File(file) | Self::Folder(file) => rustix::fs::fstat(file),
            Self::Link(folder, name) | Self::Special(folder, name) => rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn chown(self, uid: u32, gid: u32) -> Result<(), Errno> {
        // All ones means "leave it" to the kernel, and is nobody's id.
        let (uid, gid) = ((uid != u32::MAX).then(|| Uid::from_raw(uid)), (gid != u32::MAX).then(|| Gid::from_raw(gid)));
        match self {
            Self::File(file) | Self::Folder(file) => rustix::fs::fchown(file, uid, gid),
            Self::Link(folder, name) | Self::Special(folder, name) => {
                rustix::fs::chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    fn chmod(self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::File(file) | Self::Folder(file) => rustix::fs::fchmod(file, mode),
            Self::Link(..) => Ok(()),
            Self::Special(..) => self.through_proc(|path| rustix::fs::chmodat(rustix::fs::CWD, path, mode, AtFlags::empty())),
        }
    }

    fn set_times(self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Self::File(file) | Self::Folder(file) => rustix::fs::futimens(file, times),
            Self::Link(folder, name) | Self::Special(folder, name) => rustix::fs::utimensat(folder, name, times, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn list_xattrs(self) -> Result<Vec<CString>, Errno> {
        let list = |buffer: &mut [u8]| match self {
            Self::File(file) | Self::Folder(file) => rustix::fs::flistxattr(file, buffer),
            Self::Link(..) | Self::Special(..) => self.through_proc(|path| rustix::fs::listxattr(path, &mut *buffer)),
        };
        let mut small = [0; 1024];
        let split = |names: &[u8]| {
            names.split_inclusive(|&byte| byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok()).map(CStr::to_owned).collect()
        };
        match list(&mut small) {
            Ok(length) => Ok(split(&small[..length])),
            Err(Errno::RANGE) => {
                // The kernel's limit of a whole list.
                let mut large = vec![0; 1 << 16];
                let length = list(&mut large)?;
                Ok(split(&large[..length]))
            }
            Err(error) => Err(error),
        }
    }

    fn has_xattr(self, name: &CStr, value: &[u8]) -> bool {
        let mut found = vec![0; value.len() + 1];
        let length = match self {
            Self::File(file) | Self::Folder(file) => rustix::fs::fgetxattr(file, name, &mut found[..]),
            Self::Link(..) | Self::Special(..) => self.through_proc(|path| rustix::fs::getxattr(path, name, &mut found[..])),
        };
        length == Ok(value.len()) && found[..value.len()] == *value
    }

    fn set_xattr(self, name: &CStr, value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::File(file) | Self::Folder(file) => rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()),
            Self::Link(..) | Self::Special(..) => self.through_proc(|path| rustix::fs::setxattr(path, name, value, XattrFlags::empty())),
        }
    }

    fn remove_xattr(self, name: &CStr) -> Result<(), Errno> {
        match self {
            Self::File(file) | Self::Folder(file) => rustix::fs::fremovexattr(file, name),
            Self::Link(..) | Self::Special(..) => self.through_proc(|path| rustix::fs::removexattr(path, name)),
        }
    }

    /// Calls that know neither "this name in that folder" nor "do not follow" get the entry itself, through a handle on it.
    fn through_proc<T>(self, call: impl FnOnce(&str) -> Result<T, Errno>) -> Result<T, Errno> {
        let (Self::Link(folder, name) | Self::Special(folder, name)) = self else { return Err(Errno::INVAL) };
        let entry = rustix::fs::openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        call(&format!("/proc/self/fd/{}", entry.as_fd().as_raw_fd()))
    }
}
