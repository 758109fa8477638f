//! Entries of a tree (files, folders, links, devices) with their metadata, and the traits that give and take them.
//!
//! What a repository stores of an entry is `repository/restic/tree`'s business, how it is read `sources`'.

use std::io::{self, Read};
use std::path::PathBuf;

/// A point in time with nanoseconds, as file systems keep it. Times before 1970 have negative `secs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since the Unix epoch, rounded down.
    pub secs: i64,
    /// Nanoseconds after `secs`, below 1 000 000 000.
    pub nanos: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link; the target is kept byte for byte and never followed.
    Symlink {
        /// The link's text.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// `st_rdev` as Linux encodes it.
        rdev: u64,
    },
    /// A block device.
    BlockDevice {
        /// `st_rdev` as Linux encodes it.
        rdev: u64,
    },
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
}

impl Kind {
    /// The word that restic has for it, in trees and in the JSON of `ls`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "dir",
            Self::Symlink { .. } => "symlink",
            Self::CharDevice { .. } => "chardev",
            Self::BlockDevice { .. } => "dev",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        }
    }
}

/// One extended attribute. POSIX ACLs are the attributes `system.posix_acl_access` and `system.posix_acl_default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Full name with its namespace (`user.comment`).
    pub name: Vec<u8>,
    /// Value, any bytes.
    pub value: Vec<u8>,
}

/// Everything about an entry except its name and its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// `st_mode & 0o7777`: permissions, set-user-id, set-group-id, sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Owner's name on the machine that was read; empty when unknown.
    pub user: String,
    /// Group's name on the machine that was read; empty when unknown.
    pub group: String,
    /// Length of a regular file in bytes; zero for everything else.
    pub size: u64,
    /// Last change of the data.
    pub mtime: Timestamp,
    /// Last read, or `mtime` where access times are not kept.
    pub atime: Timestamp,
    /// Last change of the inode; equal to `mtime` where the source does not know it.
    pub ctime: Timestamp,
    /// Inode number; zero where the source does not know it.
    pub inode: u64,
    /// `st_dev`; zero where the source does not know it.
    pub device: u64,
    /// Number of hard links; entries of one tree with the same `device` and `inode` and `links > 1` are one file.
    pub links: u64,
    /// Extended attributes in the order in which the file system lists them.
    pub xattrs: Vec<Xattr>,
}

impl Metadata {
    /// A folder that no file system holds: mode 0755, root's, all times at the epoch, so that equal trees have equal bytes.
    pub fn virtual_directory() -> Self {
        Self::virtual_entry(Kind::Directory, 0o755, 0)
    }

    /// A file that no file system holds (a document that bbackup itself writes): mode 0600, root's, at the epoch.
    pub fn virtual_file(size: u64) -> Self {
        Self::virtual_entry(Kind::File, 0o600, size)
    }

    fn virtual_entry(kind: Kind, mode: u32, size: u64) -> Self {
        let epoch = Timestamp::default();
        Self {
            kind,
            mode,
            uid: 0,
            gid: 0,
            user: String::new(),
            group: String::new(),
            size,
            mtime: epoch,
            atime: epoch,
            ctime: epoch,
            inode: 0,
            device: 0,
            links: 1,
            xattrs: Vec::new(),
        }
    }

    /// Whether this is a folder.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Whether this is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }
}

/// Where an entry's data comes from.
pub enum Content {
    /// No data: everything but regular files.
    None,
    /// A file on this machine that any worker may open, in any order. Only for these does change detection apply.
    File(PathBuf),
    /// Data in memory.
    Bytes(Vec<u8>),
    /// The body of the current member of a stream. It must be read to its end before the next entry is asked for.
    Stream(Box<dyn Read + Send>),
    /// The same file as an earlier entry of this source, named by its path relative to the source's root.
    HardLink(Vec<u8>),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Bytes(bytes) => f.debug_tuple("Bytes").field(&bytes.len()).finish(),
            Self::Stream(_) => f.write_str("Stream"),
            Self::HardLink(path) => f.debug_tuple("HardLink").field(&String::from_utf8_lossy(path)).finish(),
        }
    }
}

/// One entry of a source.
#[derive(Debug)]
pub struct Entry {
    /// Path relative to the source's root: components joined by `/`, no leading or trailing `/`, never `.` or `..`.
    /// The root itself is the empty path.
    pub path: Vec<u8>,
    /// What is known of it.
    pub metadata: Metadata,
    /// Where its data comes from.
    pub content: Content,
}

/// What a source says when it is asked for its next entry.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "almost every step is an entry, so boxing it would cost an allocation for each")]
pub enum Step {
    /// The next entry in tree order.
    Entry(Entry),
    /// An entry that could not be read; the source goes on behind it and the snapshot is partial.
    Problem(EntryProblem),
    /// The source is complete. Only now is what it gave known to be everything.
    End,
}

/// An entry that could not be read, or not fully: then the entry itself was given before.
#[derive(Debug)]
pub struct EntryProblem {
    /// Path relative to the source's root.
    pub path: Vec<u8>,
    /// Why.
    pub error: io::Error,
}

/// Gives the entries of one tree.
///
/// Order: the root first (the empty path), then depth first, the names of each folder sorted by their bytes, each folder
/// before what is in it.
pub trait Source: Send {
    /// Gives the next step. After [`Step::End`] or an error it is not called again.
    ///
    /// # Errors
    /// The whole source is lost (a stream that ended without its end marker, a mount that vanished): nothing of what it
    /// gave may be kept as complete.
    fn next_step(&mut self) -> io::Result<Step>;
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn next_step(&mut self) -> io::Result<Step> {
        (**self).next_step()
    }
}

/// Takes the entries of one tree, in the order that [`Source`] describes: for each entry `begin`, for a regular file with
/// data any number of `data`, then `end`; after all entries `finish`.
pub trait Sink {
    /// Starts an entry. `link_to` names the earlier entry (path relative to the root) of which this one is a hard link;
    /// then no data follows.
    ///
    /// # Errors
    /// The target cannot take more; nothing further is given.
    fn begin(&mut self, path: &[u8], metadata: &Metadata, link_to: Option<&[u8]>) -> io::Result<()>;

    /// Takes the next bytes of the current file; together exactly `metadata.size` of them.
    ///
    /// # Errors
    /// As for [`begin`](Self::begin).
    fn data(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Ends the current entry.
    ///
    /// # Errors
    /// As for [`begin`](Self::begin).
    fn end(&mut self) -> io::Result<()>;

    /// Ends the tree: everything has been given.
    ///
    /// # Errors
    /// What was given could not be completed.
    fn finish(&mut self) -> io::Result<()>;
}
