//! Answers to the kernel. Several threads answer at once; whatever cannot be read is an input/output error for who asked, and a
//! sentence for who mounted.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use fuser::{
    Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};

use super::blobs::Blobs;
use super::inodes::{Folders, Inode, Inodes, What, child_number};
use super::layout::{Entry, Virtual};
use crate::model::entry::{Kind, Xattr};
use crate::model::progress::{Event, Progress};
use crate::repository::contract::RepositoryError;
use crate::repository::restic::id::Id;
use crate::repository::restic::state::Indexed;
use crate::repository::restic::tree::Node;

/// For so long the kernel may believe what it was told: it never changes.
const FOREVER: Duration = Duration::from_hours(24);
/// Threads that read the next blob of files that are read from one end to the other.
const AHEAD: usize = 2;

/// The file system.
pub(super) struct Server {
    repo: Arc<Indexed>,
    /// Whether the kernel judges by owners, modes and ACLs.
    by_owner: bool,
    progress: Arc<dyn Progress>,
    inodes: Inodes,
    folders: Folders,
    blobs: Arc<Blobs>,
    files: Mutex<HashMap<u64, Arc<OpenFile>>>,
    next_file: AtomicU64,
    /// Readers of files send what will be wanted next; its end ends the threads.
    ahead: Sender<Id>,
}

/// A file that somebody reads.
struct OpenFile {
    name: Vec<u8>,
    content: Vec<Id>,
    /// Where each blob begins, and at last where the file ends.
    starts: Vec<u64>,
    /// Where the last piece that was asked for ended.
    read_to: AtomicU64,
}

impl Server {
    pub(super) fn new(repo: Arc<Indexed>, root: Virtual, by_owner: bool, progress: Arc<dyn Progress>) -> Self {
        let inodes = Inodes::default();
        inodes.keep(Inode::top(Arc::new(root)));
        let blobs = Arc::new(Blobs::default());
        let (ahead, wanted) = bounded::<Id>(AHEAD * 4);
        for _ in 0..AHEAD {
            let (repo, blobs, wanted) = (Arc::clone(&repo), Arc::clone(&blobs), wanted.clone());
            // Without these threads it is only slower. What cannot be read is told when it is asked for.
            drop(thread::Builder::new().name("mount-ahead".into()).spawn(move || wanted.iter().for_each(|id| drop(blobs.get(&repo, &id)))));
        }
        let (folders, files, next_file) = (Folders::default(), Mutex::default(), AtomicU64::new(1));
        Self { repo, by_owner, progress, inodes, folders, blobs, files, next_file, ahead }
    }

    fn inode(&self, number: INodeNo) -> Result<Arc<Inode>, Errno> {
        self.inodes.get(number).ok_or(Errno::ESTALE)
    }

    fn lost(&self, name: &[u8], message: &str) -> Errno {
        self.progress.event(Event::Problem { path: name, message });
        Errno::EIO
    }

    fn folder(&self, tree: &Id) -> Result<Arc<super::inodes::Folder>, Errno> {
        let read = self.folders.get(&self.repo, tree);
        read.map_err(|error: RepositoryError| self.lost(b"a folder", &error.to_string()))
    }

    /// Looks at an entry of a snapshot.
    fn with_node<T>(&self, inode: &Inode, look: impl FnOnce(&Node) -> T) -> Result<Option<T>, Errno> {
        let What::Node { tree, index, .. } = &inode.what else { return Ok(None) };
        let folder = self.folder(tree)?;
        Ok(folder.nodes.get(*index as usize).map(look))
    }

    fn child(&self, parent: &Inode, name: &[u8]) -> Result<Inode, Errno> {
        match &parent.what {
            What::Virtual(folder) => {
                let entry = folder.entries.get(name).ok_or(Errno::ENOENT)?;
                Ok(virtual_child(parent, name, entry))
            }
            What::Root(tree) | What::Node { subtree: Some(tree), .. } => {
                let folder = self.folder(tree)?;
                let index = folder.find(name).ok_or(Errno::ENOENT)?;
                let node = folder.nodes.get(index as usize).ok_or(Errno::ENOENT)?;
                Ok(Inode::node(parent, *tree, index, node))
            }
            // A folder that could not be read when it was backed up holds nothing.
            _ if parent.is_dir() => Err(Errno::ENOENT),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Gives the entries of a folder, from the one of this number on, until `take` has enough.
    fn list(&self, parent: &Inode, first: usize, take: &mut dyn FnMut(&[u8], Inode) -> bool) -> Result<(), Errno> {
        match &parent.what {
            What::Virtual(folder) => {
                for (name, entry) in folder.entries.iter().skip(first) {
                    if take(name, virtual_child(parent, name, entry)) {
                        break;
                    }
                }
            }
            What::Root(tree) | What::Node { subtree: Some(tree), .. } => {
                let folder = self.folder(tree)?;
                for (index, node) in folder.entries(first) {
                    if take(&node.name, Inode::node(parent, *tree, index, node)) {
                        break;
                    }
                }
            }
            _ if parent.is_dir() => {}
            _ => return Err(Errno::ENOTDIR),
        }
        Ok(())
    }

    fn open_file(&self, inode: &Inode) -> Result<OpenFile, Errno> {
        let opened = self.with_node(inode, |node| {
            let mut starts = Vec::with_capacity(node.content.len() + 1);
            let mut end = 0_u64;
            for id in &node.content {
                starts.push(end);
                let location = self.repo.data_place(id);
                let location = location.ok_or_else(|| self.lost(&node.name, &format!("data blob {id} is in no index")))?;
                end += u64::from(location.plain_length());
            }
            starts.push(end);
            if end != node.metadata.size {
                // Shorter or longer data would come out as something that the file never was.
                return Err(self.lost(&node.name, &format!("its data has {end} bytes and not {}", node.metadata.size)));
            }
            Ok(OpenFile { name: node.name.clone(), content: node.content.clone(), starts, read_to: AtomicU64::new(0) })
        });
        opened?.ok_or(Errno::EIO)?
    }

    fn read_file(&self, file: &OpenFile, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let end = offset.saturating_add(size.into()).min(file.starts.last().copied().unwrap_or(0));
        let mut out = Vec::new();
        if offset >= end {
            return Ok(out);
        }
        out.reserve_exact((end - offset) as usize);
        // The last blob that begins at or before the offset; blobs may be empty.
        let mut number = file.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let mut at = offset;
        while at < end
            && let (Some(id), Some(start)) = (file.content.get(number), file.starts.get(number))
        {
            let blob = self.blobs.get(&self.repo, id).map_err(|message| self.lost(&file.name, &message))?;
            let (from, to) = ((at - start) as usize, (end - start).min(blob.len() as u64) as usize);
            let piece = blob.get(from..to).ok_or(Errno::EIO)?;
            out.extend_from_slice(piece);
            at += piece.len() as u64;
            number += 1;
        }
        let before = file.read_to.swap(end, Ordering::Relaxed);
        // Pieces of one reader come nearly in order, as the kernel asks for several at once.
        if before.abs_diff(offset) < 1 << 20
            && let Some(next) = file.content.get(number)
        {
            // Who is busy already needs no more to do.
            let _ = self.ahead.try_send(*next);
        }
        Ok(out)
    }

    fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>, Errno> {
        Ok(self.with_node(inode, |node| node.metadata.xattrs.clone())?.unwrap_or_default())
    }
}

fn virtual_child(parent: &Inode, name: &[u8], entry: &Entry) -> Inode {
    let number = child_number(parent.attr.ino.0, name);
    match entry {
        Entry::Folder(folder) => Inode::folder(number, Arc::clone(folder)),
        Entry::Snapshot { tree, time } => Inode::snapshot(number, *tree, *time),
        Entry::Link { target, time } => Inode::link(number, target.clone(), *time),
    }
}

/// What a list of entries begins with.
const DOTS: [&str; 2] = [".", ".."];

impl Filesystem for Server {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // None of these is needed; an older kernel is asked more often.
        for wish in [InitFlags::FUSE_DO_READDIRPLUS, InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_CACHE_SYMLINKS] {
            let _ = config.add_capabilities(wish);
        }
        if self.by_owner {
            let _ = config.add_capabilities(InitFlags::FUSE_POSIX_ACL);
        }
        let _ = config.set_max_readahead(1 << 20);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.inode(parent).and_then(|parent| self.child(&parent, name.as_bytes())) {
            Ok(inode) => {
                let attr = inode.attr;
                self.inodes.told(inode);
                reply.entry(&FOREVER, &attr, Generation(0));
            }
            Err(error) => reply.error(error),
        }
    }

    fn forget(&self, _request: &Request, number: INodeNo, times: u64) {
        self.inodes.forget(number, times);
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _file: Option<FileHandle>, reply: ReplyAttr) {
        match self.inode(number) {
            Ok(inode) => reply.attr(&FOREVER, &inode.attr),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        let target = self.inode(number).and_then(|inode| match &inode.what {
            What::Link(target) => Ok(target.clone()),
            _ => self
                .with_node(&inode, |node| match &node.metadata.kind {
                    Kind::Symlink { target } => Some(target.clone()),
                    _ => None,
                })?
                .flatten()
                .ok_or(Errno::EINVAL),
        });
        match target {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.inode(number).and_then(|inode| self.open_file(&inode)) {
            Ok(file) => {
                let handle = self.next_file.fetch_add(1, Ordering::Relaxed);
                self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::new(file));
                reply.opened(FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let file = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(&handle.0).cloned();
        match file.ok_or(Errno::EBADF).and_then(|file| self.read_file(&file, offset, size)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _request: &Request, _number: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        // The kernel does not ask again: nothing is ever written, and a question for each file that is closed takes time.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
        reply.ok();
    }

    fn readdir(&self, _request: &Request, number: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.inode(number).and_then(|parent| {
            for (place, dot) in DOTS.iter().enumerate().skip(offset as usize) {
                if reply.add(parent.attr.ino, place as u64 + 1, parent.attr.kind, dot) {
                    return Ok(());
                }
            }
            let mut place = offset.max(DOTS.len() as u64);
            self.list(&parent, place as usize - DOTS.len(), &mut |name, inode| {
                place += 1;
                reply.add(inode.attr.ino, place, inode.attr.kind, OsStr::from_bytes(name))
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(&self, _request: &Request, number: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let generation = Generation(0);
        let listed = self.inode(number).and_then(|parent| {
            for (place, dot) in DOTS.iter().enumerate().skip(offset as usize) {
                if reply.add(parent.attr.ino, place as u64 + 1, dot, &FOREVER, &parent.attr, generation) {
                    return Ok(());
                }
            }
            let mut place = offset.max(DOTS.len() as u64);
            self.list(&parent, place as usize - DOTS.len(), &mut |name, inode| {
                place += 1;
                let attr: FileAttr = inode.attr;
                let full = reply.add(attr.ino, place, OsStr::from_bytes(name), &FOREVER, &attr, generation);
                if !full {
                    self.inodes.told(inode);
                }
                full
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, 4096, 255, 4096);
    }

    fn getxattr(&self, _request: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let found = self.inode(number).and_then(|inode| self.xattrs(&inode)).and_then(|xattrs| {
            let found = xattrs.into_iter().find(|xattr| xattr.name == name.as_bytes());
            found.map(|xattr| xattr.value).ok_or(Errno::NO_XATTR)
        });
        answer(found, size, reply);
    }

    fn listxattr(&self, _request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.inode(number).and_then(|inode| self.xattrs(&inode));
        answer(names.map(|xattrs| xattrs.into_iter().flat_map(|xattr| [xattr.name, vec![0]].concat()).collect()), size, reply);
    }
}

/// Whoever asks with no room asks how much room is needed.
fn answer(found: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    match found {
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(error) => reply.error(error),
    }
}
