//! Numbers and attributes of what the mount shows, and folders of snapshots kept for a while after they were read.
//!
//! A number follows from where an entry stands (or, for files with several names, from which file it is), so that it is the
//! same after the kernel has forgotten the entry and comes back to it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo};

use super::layout::Virtual;
use crate::model::entry::{Kind, Metadata, Timestamp};
use crate::repository::contract::RepositoryError;
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::reader;
use crate::repository::restic::state::Indexed;
use crate::repository::restic::tree::Node;

/// Entries in folders that are kept.
const MAX_ENTRIES: usize = 300_000;

/// An entry of the mount.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) attr: FileAttr,
    pub(super) what: What,
    /// Number of the snapshot's root: files with several names are one file only within it.
    pub(super) scope: u64,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// A folder above the snapshots.
    Virtual(Arc<Virtual>),
    /// A link in such a folder.
    Link(Vec<u8>),
    /// The root of a snapshot.
    Root(Id),
    /// An entry of a snapshot: the folder that it is in, its place there, and the tree of a folder.
    Node { tree: Id, index: u32, subtree: Option<Id> },
}

impl Inode {
    /// The root of the mount.
    pub(super) fn top(folder: Arc<Virtual>) -> Self {
        Self::folder(INodeNo::ROOT.0, folder)
    }

    pub(super) fn folder(number: u64, folder: Arc<Virtual>) -> Self {
        let metadata =
            Metadata { mode: 0o555, mtime: folder.time, atime: folder.time, ctime: folder.time, ..Metadata::virtual_directory() };
        Self { attr: attributes(number, &metadata), what: What::Virtual(folder), scope: 0 }
    }

    pub(super) fn link(number: u64, target: Vec<u8>, time: Timestamp) -> Self {
        let kind = Kind::Symlink { target: target.clone() };
        let metadata = Metadata { kind, mode: 0o777, mtime: time, atime: time, ctime: time, ..Metadata::virtual_directory() };
        Self { attr: attributes(number, &metadata), what: What::Link(target), scope: 0 }
    }

    pub(super) fn snapshot(number: u64, tree: Id, time: Timestamp) -> Self {
        let metadata = Metadata { mtime: time, atime: time, ctime: time, ..Metadata::virtual_directory() };
        Self { attr: attributes(number, &metadata), what: What::Root(tree), scope: number }
    }

    /// An entry of a folder of a snapshot.
    pub(super) fn node(parent: &Self, tree: Id, index: u32, node: &Node) -> Self {
        let number = if node.is_linked() {
            let parts = [parent.scope, node.metadata.device, node.metadata.inode].map(u64::to_le_bytes).concat();
            number_of(&[b"file", &parts[..]].concat())
        } else {
            child_number(parent.attr.ino.0, &node.name)
        };
        let what = What::Node { tree, index, subtree: node.subtree };
        Self { attr: attributes(number, &node.metadata), what, scope: parent.scope }
    }

    pub(super) fn is_dir(&self) -> bool {
        self.attr.kind == FileType::Directory
    }
}

/// The number of an entry by where it stands.
pub(super) fn child_number(parent: u64, name: &[u8]) -> u64 {
    number_of(&[b"name", &parent.to_le_bytes()[..], name].concat())
}

fn number_of(what: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&Id::of(what).0[..8]);
    // Zero means none, one is the root; and some programs take numbers for signed ones.
    (u64::from_le_bytes(first) >> 1).max(2)
}

fn attributes(number: u64, metadata: &Metadata) -> FileAttr {
    let (kind, size, rdev) = match &metadata.kind {
        Kind::File => (FileType::RegularFile, metadata.size, 0),
        Kind::Directory => (FileType::Directory, 4096, 0),
        Kind::Symlink { target } => (FileType::Symlink, target.len() as u64, 0),
        Kind::CharDevice { rdev } => (FileType::CharDevice, 0, *rdev),
        Kind::BlockDevice { rdev } => (FileType::BlockDevice, 0, *rdev),
        Kind::Fifo => (FileType::NamedPipe, 0, 0),
        Kind::Socket => (FileType::Socket, 0, 0),
    };
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: system_time(metadata.atime),
        mtime: system_time(metadata.mtime),
        ctime: system_time(metadata.ctime),
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm: (metadata.mode & 0o7777) as u16,
        // One says of a folder that nobody has counted those in it.
        nlink: if metadata.is_dir() { 1 } else { u32::try_from(metadata.links).unwrap_or(u32::MAX).max(1) },
        uid: metadata.uid,
        gid: metadata.gid,
        // The upper half of a number is empty on every system that FUSE can show it to.
        rdev: rdev as u32,
        blksize: 128 << 10,
        flags: 0,
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    let epoch = SystemTime::UNIX_EPOCH;
    let seconds = Duration::from_secs(time.secs.unsigned_abs());
    let whole = if time.secs < 0 { epoch.checked_sub(seconds) } else { epoch.checked_add(seconds) };
    whole.and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(epoch)
}

/// The entries that the kernel knows of, with how often it was told of each.
#[derive(Default)]
pub(super) struct Inodes(Mutex<HashMap<u64, (Arc<Inode>, u64)>>);

impl Inodes {
    /// Knows an entry for ever.
    pub(super) fn keep(&self, inode: Inode) {
        locked(&self.0).insert(inode.attr.ino.0, (Arc::new(inode), u64::MAX / 2));
    }

    pub(super) fn get(&self, number: INodeNo) -> Option<Arc<Inode>> {
        locked(&self.0).get(&number.0).map(|(inode, _)| Arc::clone(inode))
    }

    /// The kernel is told of an entry.
    pub(super) fn told(&self, inode: Inode) {
        let mut known = locked(&self.0);
        known.entry(inode.attr.ino.0).or_insert_with(|| (Arc::new(inode), 0)).1 += 1;
    }

    /// The kernel has forgotten an entry as often as it says.
    pub(super) fn forget(&self, number: INodeNo, times: u64) {
        let mut known = locked(&self.0);
        if let Some((_, told)) = known.get_mut(&number.0) {
            *told = told.saturating_sub(times);
            if *told == 0 {
                known.remove(&number.0);
            }
        }
    }
}

/// A folder of a snapshot.
pub(super) struct Folder {
    pub(super) nodes: Vec<Node>,
    /// Places in `nodes`, by name.
    by_name: Vec<u32>,
}

impl Folder {
    fn new(mut nodes: Vec<Node>) -> Self {
        // Names that no folder can hold, and second entries of one name.
        nodes.retain(|node| node.check_name().is_ok() && node.name.len() <= 255);
        let mut by_name: Vec<u32> = (0..nodes.len() as u32).collect();
        by_name.sort_by(|left, right| nodes[*left as usize].name.cmp(&nodes[*right as usize].name));
        by_name.dedup_by(|later, first| nodes[*later as usize].name == nodes[*first as usize].name);
        Self { nodes, by_name }
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<u32> {
        let at = self.by_name.binary_search_by(|place| self.nodes[*place as usize].name.as_slice().cmp(name)).ok()?;
        self.by_name.get(at).copied()
    }

    /// The entries in the order of their names, beginning with the one of this number.
    pub(super) fn entries(&self, first: usize) -> impl Iterator<Item = (u32, &Node)> {
        self.by_name.iter().skip(first).filter_map(|place| Some((*place, self.nodes.get(*place as usize)?)))
    }
}

/// Folders that were read not long ago.
#[derive(Default)]
pub(super) struct Folders(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    folders: HashMap<Id, Arc<Folder>, BuildIdHasher>,
    order: VecDeque<Id>,
    entries: usize,
}

impl Folders {
    pub(super) fn get(&self, repo: &Indexed, tree: &Id) -> Result<Arc<Folder>, RepositoryError> {
        if let Some(folder) = locked(&self.0).folders.get(tree) {
            return Ok(Arc::clone(folder));
        }
        let folder = Arc::new(Folder::new(reader::load_tree(repo, tree)?.nodes));
        let mut kept = locked(&self.0);
        if kept.folders.insert(*tree, Arc::clone(&folder)).is_none() {
            kept.order.push_back(*tree);
            kept.entries += folder.nodes.len() + 1;
        }
        while kept.entries > MAX_ENTRIES
            && kept.order.len() > 1
            && let Some(oldest) = kept.order.pop_front()
        {
            let gone = kept.folders.remove(&oldest);
            kept.entries -= gone.map_or(0, |folder| folder.nodes.len() + 1);
        }
        Ok(folder)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::restic::reader::testing::node;

    #[test]
    fn numbers_say_where_an_entry_stands_and_which_file_it_is() {
        let root = Inode::snapshot(child_number(1, b"a"), Id([1; 32]), Timestamp::default());
        let other = Inode::snapshot(child_number(1, b"b"), Id([1; 32]), Timestamp::default());
        let mut file = node("x", Kind::File);
        let number = |parent: &Inode, node: &Node| Inode::node(parent, Id([1; 32]), 0, node).attr.ino.0;
        assert_eq!(number(&root, &file), number(&root, &file));
        assert_ne!(number(&root, &file), number(&root, &node("y", Kind::File)));
        (file.metadata.links, file.metadata.inode) = (2, 7);
        let mut twin = file.clone();
        twin.name = b"y".to_vec();
        assert_eq!(number(&root, &file), number(&root, &twin));
        assert_ne!(number(&root, &file), number(&other, &file), "two snapshots share no files");
    }

    #[test]
    fn what_the_kernel_forgets_is_forgotten() {
        let inodes = Inodes::default();
        let inode = || Inode::snapshot(5, Id([1; 32]), Timestamp::default());
        inodes.told(inode());
        inodes.told(inode());
        inodes.forget(INodeNo(5), 1);
        assert!(inodes.get(INodeNo(5)).is_some());
        inodes.forget(INodeNo(5), 1);
        assert!(inodes.get(INodeNo(5)).is_none());
        inodes.forget(INodeNo(5), 9);
    }

    #[test]
    fn folders_show_only_names_that_a_folder_can_hold() {
        let names = ["b", "..", "a", "", "b", "x/y"];
        let folder = Folder::new(names.iter().map(|name| node(name, Kind::Fifo)).collect());
        let shown: Vec<&[u8]> = folder.entries(0).map(|(_, node)| &node.name[..]).collect();
        assert_eq!(shown, [b"a", b"b"]);
        assert!(folder.find(b"..").is_none() && folder.find(b"a").is_some());
        assert_eq!(folder.entries(1).count(), 1);
    }
}
