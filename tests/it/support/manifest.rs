//! Everything that can be said of a tree of files, and the difference between two trees in words.
//!
//! Not compared: access and change times, inode numbers, sizes of folders, and where holes are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// What is known of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// `file`, `folder`, `symlink`, `fifo`, `socket`, `character device`, `block device`.
    pub(crate) kind: &'static str,
    /// Permissions with set-user-id, set-group-id and sticky.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Bytes, for files.
    pub(crate) size: u64,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, i64),
    /// The first path of the tree that is the same file; empty for files with one name in it.
    pub(crate) link_group: Vec<u8>,
    /// Target of a symlink.
    pub(crate) target: Vec<u8>,
    /// Number of a device.
    pub(crate) rdev: u64,
    /// Extended attributes.
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// SHA-256 of a file's data.
    pub(crate) hash: String,
}

/// A tree of files by relative path; the root is the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Every entry.
    pub(crate) lines: BTreeMap<Vec<u8>, Line>,
}

impl Manifest {
    /// Reads a tree.
    #[track_caller]
    pub(crate) fn of(root: &Path) -> Self {
        let mut lines = BTreeMap::new();
        let mut inodes: BTreeMap<(u64, u64), Vec<Vec<u8>>> = BTreeMap::new();
        let mut waiting = vec![(Vec::new(), root.to_owned())];
        while let Some((name, path)) = waiting.pop() {
            let metadata = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let line = read_line(&path, &metadata).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if metadata.is_dir() {
                for entry in fs::read_dir(&path).unwrap() {
                    let entry = entry.unwrap();
                    let child = entry.file_name().into_vec();
                    waiting.push((if name.is_empty() { child } else { [&name[..], b"/", &child].concat() }, entry.path()));
                }
            } else if metadata.nlink() > 1 {
                inodes.entry((metadata.dev(), metadata.ino())).or_default().push(name.clone());
            }
            lines.insert(name, line);
        }
        for names in inodes.into_values().filter(|names| names.len() > 1) {
            let first = names.iter().min().unwrap().clone();
            for name in names {
                lines.get_mut(&name).unwrap().link_group.clone_from(&first);
            }
        }
        Self { lines }
    }

    /// The same without some entries. What a folder's time owes to them stays.
    pub(crate) fn without(mut self, mut unwanted: impl FnMut(&[u8], &Line) -> bool) -> Self {
        self.lines.retain(|name, line| !unwanted(name, line));
        self
    }

    /// What restic 0.14 itself gives back of such a tree: no sockets, no second names of what is not a file, no link targets that are
    /// not UTF-8.
    pub(crate) fn kept_by_restic(self) -> Self {
        let kept = self.without(|_, line| line.kind == "socket" || String::from_utf8_lossy(&line.target).contains('\u{fffd}'));
        kept.map(|line| {
            if line.kind != "file" {
                line.link_group.clear();
            }
        })
    }

    /// The same with every entry changed, to leave out what a way of storing does not keep.
    pub(crate) fn map(mut self, mut change: impl FnMut(&mut Line)) -> Self {
        self.lines.values_mut().for_each(&mut change);
        self
    }

    /// Fails with the difference in words unless both are equal.
    #[track_caller]
    pub(crate) fn assert_equals(&self, other: &Self) {
        let differences = self.differences(other);
        let shown = differences.iter().take(40).fold(String::new(), |text, line| text + "  " + line + "\n");
        assert!(differences.is_empty(), "{} difference(s) (expected → found):\n{shown}", differences.len());
    }

    /// What is different, one line each.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, mine) in &self.lines {
            let shown = show(name);
            match other.lines.get(name) {
                None => found.push(format!("{shown}: {} is missing", mine.kind)),
                Some(theirs) => found.extend(mine.differences(theirs).into_iter().map(|difference| format!("{shown}: {difference}"))),
            }
        }
        let extra = other.lines.iter().filter(|(name, _)| !self.lines.contains_key(*name));
        found.extend(extra.map(|(name, line)| format!("{}: {} that should not be there", show(name), line.kind)));
        found
    }
}

impl Line {
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, mine: String, theirs: String| {
            if mine != theirs {
                found.push(format!("{what} {mine} → {theirs}"));
            }
        };
        compare("kind", self.kind.to_owned(), other.kind.to_owned());
        compare("mode", format!("{:o}", self.mode), format!("{:o}", other.mode));
        compare("owner", format!("{}:{}", self.uid, self.gid), format!("{}:{}", other.uid, other.gid));
        compare("size", self.size.to_string(), other.size.to_string());
        compare("mtime", format!("{}.{:09}", self.mtime.0, self.mtime.1), format!("{}.{:09}", other.mtime.0, other.mtime.1));
        compare("hard link of", show(&self.link_group), show(&other.link_group));
        compare("target", show(&self.target), show(&other.target));
        compare("device", format!("{:#x}", self.rdev), format!("{:#x}", other.rdev));
        compare("xattrs", show_xattrs(&self.xattrs), show_xattrs(&other.xattrs));
        compare("content", self.hash.clone(), other.hash.clone());
        found
    }
}

fn read_line(path: &Path, metadata: &fs::Metadata) -> io::Result<Line> {
    let kind = metadata.file_type();
    let word = if kind.is_dir() {
        "folder"
    } else if kind.is_symlink() {
        "symlink"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_char_device() {
        "character device"
    } else if kind.is_block_device() {
        "block device"
    } else {
        "file"
    };
    let hash = if word == "file" {
        let mut hasher = Sha256::new();
        let mut file = File::open(path)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = io::Read::read(&mut file, &mut buffer)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
        }
        hasher.finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    } else {
        String::new()
    };
    Ok(Line {
        kind: word,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: if word == "file" { metadata.size() } else { 0 },
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        link_group: Vec::new(),
        target: if word == "symlink" { fs::read_link(path)?.into_os_string().into_vec() } else { Vec::new() },
        rdev: if word.ends_with("device") { metadata.rdev() } else { 0 },
        xattrs: read_xattrs(path)?,
        hash,
    })
}

fn read_xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; 64 * 1024];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        value.truncate(length);
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

fn show(name: &[u8]) -> String {
    if name.is_empty() { "(root)".to_owned() } else { name.escape_ascii().to_string() }
}

fn show_xattrs(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> String {
    let shown: Vec<String> = xattrs.iter().map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii())).collect();
    format!("[{}]", shown.join(", "))
}

/// A path from bytes.
pub(crate) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}
