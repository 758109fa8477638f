//! Looks at one file at a time: its metadata, and for a folder what is in it.
//!
//! The order in which files are looked at is the walk's.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::crew::Lead;
use super::listing::{Lister, Names};
use super::{Folder, Root, WalkOptions, open_folder};
use crate::model::entry::{Content, Entry, Xattr};
use crate::platform::mounts;
use crate::sources::metadata::{Owners, XattrReader, XattrsOf, from_stat, identity};

/// A path must be shorter than this to be given to the system in one piece.
const PATH_MAX: usize = 4096;

/// Looks at files, with the buffers for that.
#[derive(Debug)]
pub(super) struct Looker {
    pub(super) lister: Lister,
    options: WalkOptions,
    owners: Arc<Owners>,
    xattrs: XattrReader,
    /// Absolute path of the root without a slash at its end; empty for the root of all.
    root_path: Vec<u8>,
    /// Path of the current entry as the filter sees it; what is behind `base` bytes is the path relative to the root.
    path: Vec<u8>,
    base: usize,
    /// Whether files can be named relative to handles through `/proc`.
    proc_works: bool,
    /// Whether the file before had extended attributes: then most have them, and asking twice for each is in vain.
    xattrs_expected: bool,
    /// Room for the paths by which extended attributes are asked for.
    xattr_path: Vec<u8>,
}

/// What was found at one path.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) entry: Option<Entry>,
    /// The folder, if what is in it is to be given too.
    pub(super) below: Option<Folder>,
    /// What could not be read of the entry, which is given all the same.
    pub(super) unreadable: Vec<io::Error>,
    /// Why the list of what is in the folder is missing or not whole.
    pub(super) listing_failed: Option<io::Error>,
    /// Left out because it is never read.
    pub(super) never_read: bool,
    /// Something is mounted there; whether that is read.
    pub(super) mounted: Option<bool>,
}

impl Looker {
    pub(super) fn new(root_path: &[u8], root: &Root, options: WalkOptions) -> Self {
        let root_path = without_slash(root_path).to_vec();
        let path = options.seen_as.as_deref().map_or(&root_path[..], without_slash).to_vec();
        Self {
            lister: Lister::default(),
            owners: Arc::new(Owners::of_this_machine()),
            xattrs: XattrReader::default(),
            base: path.len() + 1,
            path,
            root_path,
            proc_works: matches!(root, Root::Folder(handle, stat) if reaches(handle, stat)),
            xattrs_expected: false,
            xattr_path: Vec::new(),
            options,
        }
    }

    /// Another one for the same walk, to be used at the same time.
    pub(super) fn twin(&self) -> Self {
        Self {
            lister: Lister::default(),
            options: self.options.clone(),
            owners: Arc::clone(&self.owners),
            xattrs: XattrReader::default(),
            root_path: self.root_path.clone(),
            path: Vec::new(),
            xattr_path: Vec::new(),
            ..*self
        }
    }

    /// The absolute path of the root, empty for the root of all.
    pub(super) fn root_path(&self) -> &[u8] {
        &self.root_path
    }

    /// How many are to be used beside this one, where that was asked for.
    pub(super) fn crew(&self) -> Option<usize> {
        self.options.lookers
    }

    /// The pattern that excludes the root itself.
    pub(super) fn root_excluded_by(&self) -> Option<&str> {
        self.options.filter.as_deref()?.excluding(&self.path)
    }

    /// Makes a name in the folder with a path of this length the current path.
    pub(super) fn step_to(&mut self, folder_length: usize, name: &CStr) {
        self.path.truncate(folder_length);
        self.path.push(b'/');
        self.path.extend_from_slice(name.to_bytes());
    }

    /// The beginning of the current path.
    pub(super) fn path_of(&self, folder_length: usize) -> &[u8] {
        self.path.get(..folder_length).unwrap_or_default()
    }

    /// Makes this path the current one.
    pub(super) fn be_at(&mut self, path: &[u8]) {
        self.path.clear();
        self.path.extend_from_slice(path);
    }

    /// Whether a file at the current path could be opened by nobody but its folder's handle.
    pub(super) fn needs_handle(&self) -> bool {
        self.root_path.len() + 1 + self.relative_path().len() >= PATH_MAX
    }

    /// Makes a folder above the current path the current one.
    pub(super) fn step_back(&mut self, folder_length: usize) {
        self.path.truncate(folder_length);
    }

    /// The current path, relative to the root.
    pub(super) fn relative_path(&self) -> &[u8] {
        self.path.get(self.base..).unwrap_or_default()
    }

    /// Whether the filter excludes the current path, in a folder with these tags.
    pub(super) fn is_excluded(&self, tags: &[usize], name: &CStr) -> bool {
        let Some(filter) = self.options.filter.as_deref() else { return false };
        tags.iter().any(|tag| filter.tags().get(*tag).is_some_and(|tag| tag.name != name.to_bytes())) || filter.is_excluded(&self.path)
    }

    /// Looks at the current path, which is this name in an open folder.
    pub(super) fn look(&mut self, above: BorrowedFd<'_>, device: u64, name: &CStr, kind: FileType) -> io::Result<Looked> {
        let mut not_opened = None;
        if kind == FileType::Directory {
            match open_folder(above, name) {
                Ok(handle) => return self.look_at_folder(handle, device),
                // It was replaced by something else since the folder was listed.
                Err(Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => not_opened = Some(error),
            }
        }
        let stat = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)?;
        if self.options.never_read.contains(identity(&stat)) {
            return Ok(Looked { never_read: true, ..Looked::default() });
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let error = match not_opened {
                Some(error) => error,
                // The list did not say what it is.
                None => match open_folder(above, name) {
                    Ok(handle) => return self.look_at_folder(handle, device),
                    Err(error) => error,
                },
            };
            let mut looked = self.look_from_outside(Some(above), name, &stat)?;
            looked.listing_failed = Some(error.into());
            return Ok(looked);
        }
        if self.options.one_file_system && stat.st_dev != device {
            return Ok(Looked { mounted: Some(false), ..Looked::default() });
        }
        self.look_from_outside(Some(above), name, &stat)
    }

    /// Looks at a root that is no folder.
    pub(super) fn look_at_root(&mut self, stat: &Stat) -> io::Result<Looked> {
        let name = std::ffi::CString::new(self.root_path.as_slice())?;
        self.look_from_outside(None, &name, stat)
    }

    /// Looks at a folder by its handle and, unless it is on another file system, into it.
    fn look_at_folder(&mut self, handle: OwnedFd, device: u64) -> io::Result<Looked> {
        let stat = rustix::fs::fstat(&handle)?;
        let identity = identity(&stat);
        if self.options.never_read.contains(identity) {
            return Ok(Looked { never_read: true, ..Looked::default() });
        }
        let stays = !self.options.one_file_system || stat.st_dev == device;
        let is_read = stays || self.options.also.contains(&identity);
        // What is not read is told also where it is not mounted: a part of a file system that counts as one of its own.
        let mounted = (mounts::is_mount_point(handle.as_fd()).unwrap_or(!stays) || !is_read).then_some(is_read);
        let looked = self.look_into(handle, &stat, if stays { device } else { stat.st_dev }, is_read)?;
        Ok(Looked { mounted, ..looked })
    }

    /// Looks at a folder by its handle; with `list` it is also listed, and what is in it may be on `device`.
    pub(super) fn look_into(&mut self, handle: OwnedFd, stat: &Stat, device: u64, list: bool) -> io::Result<Looked> {
        let mut looked = Looked::default();
        let mut metadata = from_stat(stat, &self.owners, || Ok(Vec::new()))?;
        metadata.xattrs = self.xattrs.read(XattrsOf::Handle(handle.as_fd()), |error| looked.unreadable.push(error));
        looked.entry = Some(Entry { path: self.relative_path().to_vec(), metadata, content: Content::None });
        if list {
            let (names, failed) = self.lister.list(handle.as_fd());
            looked.listing_failed = failed.map(io::Error::from);
            let tags = self.tags_in(handle.as_fd(), &names);
            let identity = identity(stat);
            looked.below = Some(Folder {
                handle: Some(Arc::new(handle)),
                identity,
                device,
                names: Arc::new(names),
                next: 0,
                path_length: self.path.len(),
                tags: tags.into(),
                lead: Lead::default(),
            });
        }
        Ok(looked)
    }

    /// Looks at something without opening it; without a folder, `name` is its whole path.
    fn look_from_outside(&mut self, above: Option<BorrowedFd<'_>>, name: &CStr, stat: &Stat) -> io::Result<Looked> {
        let mut looked = Looked::default();
        let at = above.unwrap_or(rustix::fs::CWD);
        let link_target = || Ok(rustix::fs::readlinkat(at, name, Vec::new())?.into_bytes());
        let mut metadata = from_stat(stat, &self.owners, link_target)?;
        metadata.xattrs = self.xattrs_of(above, name, |error| looked.unreadable.push(error));
        let content = if metadata.is_file() { self.content(at, name, stat)? } else { Content::None };
        looked.entry = Some(Entry { path: self.relative_path().to_vec(), metadata, content });
        Ok(looked)
    }

    /// The extended attributes of the current path; without a folder, `name` is its whole path.
    ///
    /// The system has no call that takes a handle of the folder and a name, so the folder is named by its handle under `/proc`,
    /// which costs twice the time of the plain path. The plain path may lead elsewhere if a folder in it is being replaced by a
    /// link: so nothing is ever taken from there, but when it shows no attributes, as with most files, that is believed.
    fn xattrs_of(&mut self, above: Option<BorrowedFd<'_>>, name: &CStr, unreadable: impl FnMut(io::Error)) -> Vec<Xattr> {
        let Some(above) = above else {
            return self.xattrs.read(XattrsOf::Path(name), unreadable);
        };
        if !self.xattrs_expected || !self.proc_works {
            self.xattr_path.clear();
            append_absolute(&mut self.xattr_path, &self.root_path, self.path.get(self.base..).unwrap_or_default());
            self.xattr_path.push(0);
            let plain = CStr::from_bytes_with_nul(&self.xattr_path).unwrap_or_default();
            if !self.proc_works {
                return self.xattrs.read(XattrsOf::Path(plain), unreadable);
            }
            if self.xattrs.sees_none(XattrsOf::Path(plain)) {
                return Vec::new();
            }
        }
        self.xattr_path.clear();
        // Writing to a vector cannot fail.
        let _ = write!(self.xattr_path, "/proc/self/fd/{}/", above.as_raw_fd());
        self.xattr_path.extend_from_slice(name.to_bytes_with_nul());
        let by_handle = CStr::from_bytes_with_nul(&self.xattr_path).unwrap_or_default();
        let xattrs = self.xattrs.read(XattrsOf::Path(by_handle), unreadable);
        self.xattrs_expected = !xattrs.is_empty();
        xattrs
    }

    /// Where the data of the file at the current path is.
    fn content(&self, at: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<Content> {
        let relative = self.relative_path();
        let mut path = Vec::with_capacity(self.root_path.len() + 1 + relative.len());
        append_absolute(&mut path, &self.root_path, relative);
        if path.len() < PATH_MAX {
            return Ok(Content::File(PathBuf::from(OsStr::from_bytes(&path))));
        }
        // Nobody could open such a path later.
        let file = open_file(at, name)?;
        if identity(&rustix::fs::fstat(&file)?) != identity(stat) {
            return Err(io::Error::other("replaced while its folder was being read"));
        }
        Ok(Content::Stream(Box::new(file)))
    }

    /// The filter's tags that are in a folder.
    fn tags_in(&self, folder: BorrowedFd<'_>, names: &Names) -> Vec<usize> {
        let Some(filter) = self.options.filter.as_deref() else { return Vec::new() };
        let is_there = |tag: &crate::sources::filter::Tag| {
            let name = names.find(&tag.name).and_then(|index| names.get(index));
            name.is_some_and(|(name, _)| tag.header.is_empty() || begins_with(folder, name, &tag.header))
        };
        filter.tags().iter().enumerate().filter(|(_, tag)| is_there(tag)).map(|(index, _)| index).collect()
    }
}

/// Whether a file begins with these bytes. One that cannot be read does not: rather too much is saved than too little.
fn begins_with(folder: BorrowedFd<'_>, name: &CStr, header: &[u8]) -> bool {
    let mut found = Vec::with_capacity(header.len());
    match open_file(folder, name) {
        Ok(file) => file.take(header.len() as u64).read_to_end(&mut found).is_ok() && found == header,
        Err(_) => false,
    }
}

/// Opens a regular file, never through a symbolic link, and never waits for anybody (as a named pipe would).
fn open_file(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("no regular file"));
    }
    Ok(File::from(file))
}

/// Whether a handle can be reached through `/proc`, which some containers do not have.
fn reaches(handle: &OwnedFd, stat: &Stat) -> bool {
    rustix::fs::stat(format!("/proc/self/fd/{}", handle.as_raw_fd())).is_ok_and(|found| identity(&found) == identity(stat))
}

fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

fn append_absolute(path: &mut Vec<u8>, root_path: &[u8], relative: &[u8]) {
    path.extend_from_slice(root_path);
    if !relative.is_empty() || root_path.is_empty() {
        path.push(b'/');
        path.extend_from_slice(relative);
    }
}
