//! What is read: the folders and files of this machine, and tar streams, as entries in tree order.
//!
//! Where the entries go is the repository's business; what a container or volume is, `docker`'s.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::platform::mounts;

pub mod ahead;
pub mod bind;
pub mod compare;
pub mod compose;
pub mod container;
pub mod document;
pub mod filter;
pub mod filtered;
pub mod host_path;
pub mod image;
pub mod layer;
pub mod logs;
pub mod metadata;
pub mod network;
pub mod plan;
pub mod tar;
pub mod volume;
pub mod walk;

/// A file or folder by what it is, not by how it is called: two paths with one identity are one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// Files and folders that are never read, whatever was asked for: our own repository, cache and state, the Engine's data.
///
/// They are known by identity, so that a bind mount or another name does not get around them; in what an Engine gives as a
/// stream, by their paths on its machine.
#[derive(Debug, Clone, Default)]
pub struct NeverRead {
    identities: HashSet<Identity>,
    there: EnginePaths,
}

/// What is never read, by its paths on the Engine's machine.
#[derive(Debug, Clone, Default)]
pub struct EnginePaths {
    /// The Engine's data folder, if it is known.
    pub data_root: Option<PathBuf>,
    /// Our own folders, as far as their paths over there are known.
    pub own: Vec<PathBuf>,
    /// Whether paths of the Engine's machine are paths of this process, so that links in them can be followed.
    pub are_ours: bool,
}

/// What of a stream is never to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pruned {
    /// All of it: what it is or lies in.
    Whole(PathBuf),
    /// What lies below these paths, relative to its root; often nothing.
    Parts(Vec<Vec<u8>>),
}

impl NeverRead {
    /// Looks the paths up, following symbolic links; those that do not exist are left out.
    ///
    /// # Errors
    /// One of them may exist but cannot be looked at: then it could not be recognised either.
    pub fn of<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self, SourceError> {
        let mut found = HashSet::new();
        for path in paths {
            let path = path.as_ref();
            match rustix::fs::stat(path) {
                Ok(stat) => {
                    found.insert(metadata::identity(&stat));
                }
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => return Err(SourceError::Unreadable { path: path.to_owned(), source: error.into() }),
            }
        }
        Ok(Self { identities: found, there: EnginePaths::default() })
    }

    /// The same, and these paths on the Engine's machine.
    #[must_use]
    pub fn with_engine_paths(mut self, there: EnginePaths) -> Self {
        self.there = there;
        self
    }

    /// What is left out of the stream of a file or folder of the Engine's machine.
    pub fn of_path(&self, path: &Path) -> Pruned {
        self.there.pruned(path, self.there.data_root.as_deref())
    }

    /// What is left out of the stream of a volume with this mountpoint, that stands for the folder `device` if it has the option `bind`.
    pub fn of_volume(&self, mountpoint: &Path, device: Option<&Path>) -> Pruned {
        // A volume is part of the data folder, also under its second name.
        let data_root = self.there.data_root.as_deref();
        let is_volume = |path: &Path| {
            let inside = data_root.and_then(|root| path.strip_prefix(root.join("volumes")).ok());
            inside.is_some_and(|inside| inside.components().nth(1).is_some_and(|part| part.as_os_str() == "_data"))
        };
        let mut parts = Vec::new();
        for (path, data_root) in [(Some(mountpoint), None), (device, data_root.filter(|_| !device.is_some_and(is_volume)))] {
            match path.map(|path| self.there.pruned(path, data_root)) {
                Some(Pruned::Whole(above)) => return Pruned::Whole(above),
                Some(Pruned::Parts(more)) => parts.extend(more),
                None => {}
            }
        }
        Pruned::Parts(parts)
    }

    /// The one of them that a path is or lies in. Symbolic links in it must be resolved.
    pub fn above<'p>(&self, real: &'p Path) -> Option<&'p Path> {
        real.ancestors().find(|above| rustix::fs::stat(*above).is_ok_and(|stat| self.contains(metadata::identity(&stat))))
    }

    /// Whether this is one of them.
    pub fn contains(&self, identity: Identity) -> bool {
        !self.identities.is_empty() && self.identities.contains(&identity)
    }
}

impl EnginePaths {
    fn pruned(&self, path: &Path, data_root: Option<&Path>) -> Pruned {
        let real = if self.are_ours { path.canonicalize().ok() } else { None };
        let path = real.as_deref().unwrap_or(path);
        let mut parts = Vec::new();
        for never in data_root.into_iter().chain(self.own.iter().map(PathBuf::as_path)).filter(|never| never.is_absolute()) {
            if path.starts_with(never) {
                return Pruned::Whole(never.to_owned());
            }
            if let Ok(part) = never.strip_prefix(path) {
                parts.push(part.as_os_str().as_encoded_bytes().to_vec());
            }
        }
        Pruned::Parts(parts)
    }
}

/// What a source has given so far: the numbers of an item's proof. The reader holds one end, whoever asked for the source
/// the other; the numbers are final once [`is_complete`](Self::is_complete) says so.
#[derive(Debug, Default)]
pub struct Counts {
    entries: AtomicU64,
    bytes: AtomicU64,
    problems: AtomicU64,
    complete: AtomicBool,
    root: OnceLock<Identity>,
    pruned: Mutex<Vec<Vec<u8>>>,
    mounted: Mutex<Vec<(Vec<u8>, bool)>>,
}

/// Something that is mounted inside of what is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedInside {
    /// Where, on this machine.
    pub path: PathBuf,
    /// Whether what is in it was read too.
    pub is_read: bool,
    /// Whether somebody may want to keep what is in it: not so for `/proc` and its like.
    pub holds_data: bool,
}

/// Mount points of this machine inside of a folder, and whether each is read.
pub(crate) fn mounted_inside(found: impl IntoIterator<Item = (PathBuf, bool)>) -> Vec<MountedInside> {
    let mut found = found.into_iter().peekable();
    if found.peek().is_none() {
        return Vec::new();
    }
    let without_data = mounts::without_data().unwrap_or_default();
    found.map(|(path, is_read)| MountedInside { holds_data: !without_data.contains(&path), path, is_read }).collect()
}

impl Counts {
    /// Entries given, the root included.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Acquire)
    }

    /// Bytes that the regular files among them had when they were listed; hard links in a stream count nothing.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Entries that could not be read, or not fully, as far as the source itself noticed.
    pub fn problems(&self) -> u64 {
        self.problems.load(Ordering::Acquire)
    }

    /// Whether the source was read to its end: the walk was finished, or the stream's end marker seen.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// The root that was opened; none for a stream.
    pub fn root(&self) -> Option<Identity> {
        self.root.get().copied()
    }

    /// Paths relative to the root that were left out because they are [`NeverRead`].
    pub fn pruned(&self) -> Vec<Vec<u8>> {
        self.pruned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is mounted below the root, which is this folder of this machine, as far as it was met. A part of a file system that counts as one
    /// of its own is given where it was not read.
    pub fn mounted(&self, root: &Path) -> Vec<MountedInside> {
        let found = self.mounted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        mounted_inside(found.into_iter().map(|(path, is_read)| (root.join(OsStr::from_bytes(&path)), is_read)))
    }

    fn add_mounted(&self, path: &[u8], is_read: bool) {
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner).push((path.to_vec(), is_read));
    }

    fn add_entry(&self, bytes: u64) {
        self.entries.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn add_problem(&self) {
        self.problems.fetch_add(1, Ordering::AcqRel);
    }

    fn add_pruned(&self, path: &[u8]) {
        self.pruned.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_vec());
    }

    fn set_root(&self, identity: Identity) {
        // A source has one root, which is set once.
        let _ = self.root.set(identity);
    }

    fn set_complete(&self) {
        self.complete.store(true, Ordering::Release);
    }
}

/// Why a source cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is nothing at the path.
    #[error("{} does not exist", .path.display())]
    Missing {
        /// The path as it was looked for.
        path: PathBuf,
    },
    /// The path cannot be looked at or opened.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// Which path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A folder was needed.
    #[error("{} is not a folder", .path.display())]
    NotAFolder {
        /// Which path.
        path: PathBuf,
    },
    /// The path is one that is never read.
    #[error("{} belongs to bbackup itself or to the Docker Engine and is never backed up as files", .path.display())]
    NeverRead {
        /// Which path.
        path: PathBuf,
    },
    /// The path itself was asked for, but an exclude pattern rules it out.
    #[error("{} is to be backed up, but the exclude pattern `{pattern}` rules it out", .path.display())]
    Excluded {
        /// Which path.
        path: PathBuf,
        /// The pattern as it was written.
        pattern: String,
    },
    /// A path that lies in another one, but would not be reached from it.
    #[error("{} lies in {}, but {reason}: back it up in a run of its own", .inner.display(), .outer.display())]
    Overlap {
        /// The path that would be lost.
        inner: PathBuf,
        /// The path it lies in.
        outer: PathBuf,
        /// What stands between them.
        reason: &'static str,
    },
    /// No path was given.
    #[error("no path to back up was given")]
    NoPath,
    /// An exclude rule is wrong.
    #[error(transparent)]
    Filter(#[from] filter::FilterError),
}

impl SourceError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreadable { source, .. } => matches!(source.kind(), io::ErrorKind::Interrupted | io::ErrorKind::TimedOut),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_never_read_is_found_in_what_contains_it() {
        let root = Path::new("/var/lib/docker");
        let there = EnginePaths { data_root: Some(root.to_owned()), own: vec!["/srv/backup/repository".into()], are_ours: false };
        let never = NeverRead::default().with_engine_paths(there);
        let parts = |list: &[&str]| Pruned::Parts(list.iter().map(|part| part.as_bytes().to_vec()).collect());
        for (path, expected) in [
            ("/srv", parts(&["backup/repository"])),
            ("/srv/backup", parts(&["repository"])),
            ("/srv/back", parts(&[])),
            ("/srv/backup/repository/data", Pruned::Whole("/srv/backup/repository".into())),
            ("/var", parts(&["lib/docker"])),
            ("/", parts(&["var/lib/docker", "srv/backup/repository"])),
            ("/var/lib/docker/volumes", Pruned::Whole(root.into())),
        ] {
            assert_eq!(never.of_path(Path::new(path)), expected, "{path}");
        }
        let of_volume = |device: Option<&str>| never.of_volume(&root.join("volumes/v/_data"), device.map(Path::new));
        assert_eq!(of_volume(None), parts(&[]));
        assert_eq!(of_volume(Some("/srv/backup")), parts(&["repository"]));
        assert_eq!(of_volume(Some("/var/lib")), parts(&["docker"]));
        assert_eq!(of_volume(Some("/var/lib/docker/volumes/other/_data/part")), parts(&[]));
        assert_eq!(of_volume(Some("/var/lib/docker/volumes")), Pruned::Whole(root.into()));

        // Links are followed where the Engine's paths are ours.
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(real.join("real/repository")).unwrap();
        std::os::unix::fs::symlink("real", real.join("link")).unwrap();
        let there = EnginePaths { data_root: None, own: vec![real.join("real/repository")], are_ours: true };
        assert_eq!(NeverRead::default().with_engine_paths(there).of_path(&real.join("link")), parts(&["repository"]));
    }
}
