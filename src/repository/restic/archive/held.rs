//! The folders of a stream, which are sealed only at its end: a hard link may name a file of any folder before, whose node must
//! then say so. What does not fit into memory meanwhile is put aside on disk; a few hundred bytes for each folder and each hard
//! link stay.
//!
//! What the file on disk is like is `aside`'s business, how a folder is sealed `worker`'s.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::aside::{Failure, Room, Writer};
use super::build::{Change, Dir};
use super::item::Item;
use super::worker::Worker;
use crate::model::progress::FileOutcome;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::id::Id;
use crate::repository::restic::state::Indexed;
use crate::repository::restic::tree::Node;

/// What waits for the end of one stream.
pub(super) struct Held {
    /// In the order in which they were closed.
    dirs: Vec<Arc<Dir>>,
    /// Their numbers by their paths.
    numbers: HashMap<Box<[u8]>, usize>,
    links: Vec<Link>,
    /// The folders from this number on are in memory.
    here: usize,
    /// About how many bytes of memory these take.
    weight: usize,
    /// From so many on they are to be put aside.
    threshold: usize,
    room: Room,
    writer: Option<Writer>,
    /// Something came that only a stream has.
    is_stream: bool,
}

/// A hard link: its place, and the path that it names.
struct Link {
    dir: Arc<Dir>,
    index: usize,
    target: Box<[u8]>,
}

/// A file that hard links name: its place, and what its node and theirs become.
struct First {
    dir: Arc<Dir>,
    index: usize,
    node: Node,
}

impl Held {
    pub(super) fn new(room: Room) -> Self {
        let threshold = room.limit;
        let (dirs, numbers, links) = (Vec::new(), HashMap::new(), Vec::new());
        Self { dirs, numbers, links, here: 0, weight: 0, threshold, room, writer: None, is_stream: false }
    }

    /// From now on folders have to wait.
    pub(super) fn expect_links(&mut self) {
        self.is_stream = true;
    }

    /// Whether folders have to wait. Only a source that streams can have hard links to earlier entries.
    pub(super) fn expects_links(&self) -> bool {
        self.is_stream
    }

    /// A hard link at this place names the file at `target`.
    pub(super) fn link(&mut self, dir: Arc<Dir>, index: usize, target: Vec<u8>) {
        self.is_stream = true;
        self.links.push(Link { dir, index, target: target.into() });
    }

    /// Takes a folder that was closed.
    pub(super) fn push(&mut self, dir: Arc<Dir>, path: Vec<u8>) {
        self.numbers.insert(path.into(), self.dirs.len());
        self.weight += dir.weight();
        self.dirs.push(dir);
    }

    /// Whether more is in memory than should be.
    pub(super) fn is_too_large(&self) -> bool {
        self.weight > self.threshold
    }

    /// Puts the folders aside that are in memory. All files in them must be complete. What cannot be written stays, and is tried
    /// again when as much more has come.
    ///
    /// # Errors
    /// [`RepositoryError::NoRoomAside`] if too much stays; the machine is faulty.
    pub(super) fn put_aside(&mut self, repository: &Arc<Indexed>) -> Result<(), RepositoryError> {
        let mut failed = None;
        while let (Some(dir), None) = (self.dirs.get(self.here).cloned(), &failed) {
            match self.put(&dir, repository) {
                Ok(()) => self.here += 1,
                Err(Failure::NoRoom(error)) => failed = Some(error),
                Err(Failure::Fatal(error)) => return Err(error),
            }
        }
        self.weight = self.dirs[self.here..].iter().map(|dir| dir.weight()).sum();
        self.threshold = self.weight.saturating_add(self.room.limit);
        match (failed, &self.room.folder) {
            (Some(source), Some(folder)) if self.weight > self.room.most => {
                Err(RepositoryError::NoRoomAside { folder: folder.display().to_string(), most: self.room.most as u64, source })
            }
            _ => Ok(()),
        }
    }

    fn put(&mut self, dir: &Dir, repository: &Arc<Indexed>) -> Result<(), Failure> {
        let nowhere = || Failure::NoRoom(std::io::ErrorKind::NotFound.into());
        let folder = self.room.folder.as_ref().ok_or_else(nowhere)?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(Writer::new(folder, Arc::clone(repository), self.room.verify).map_err(Failure::NoRoom)?),
        };
        dir.put_aside(|children| writer.put(children))
    }

    /// Gives hard links the content of the file that they name, and all links of one file the same inode. All files must be
    /// complete.
    ///
    /// # Errors
    /// What was put aside cannot be read again.
    pub(super) fn join_links(&mut self, worker: &Worker, item: &Item) -> Result<(), RepositoryError> {
        let mut links = std::mem::take(&mut self.links);
        links.sort_by(|one, two| one.target.cmp(&two.target));
        let groups: Vec<&[Link]> = links.chunk_by(|one, two| one.target == two.target).collect();
        let firsts = self.find(&groups)?;
        // Real inodes are unique on one device. These are unique in this item, whose path makes up the device.
        let device = u64::from_le_bytes(Id::of(&item.path).0.first_chunk().copied().unwrap_or_default()) >> 32 | 1;
        for (number, (links, first)) in groups.iter().zip(firsts).enumerate() {
            let target = links.first().map_or(&[][..], |link| &link.target);
            let Some(First { dir, index, mut node }) = first else {
                for link in *links {
                    item.lost(&item.full_path(target), "a hard link names it, but it was not in the stream");
                    link.dir.change(link.index, Change::Lost);
                }
                continue;
            };
            node.metadata.inode = number as u64 + 1;
            node.metadata.device = device;
            node.metadata.links = links.len() as u64 + 1;
            let node = Arc::new(node);
            for link in *links {
                worker.file_done(item, target, node.metadata.size, FileOutcome::New);
                link.dir.change(link.index, Change::Same(Arc::clone(&node)));
            }
            dir.change(index, Change::Same(node));
        }
        Ok(())
    }

    /// The files that the groups of links name. Each folder is looked at once.
    fn find(&self, groups: &[&[Link]]) -> Result<Vec<Option<First>>, RepositoryError> {
        let links: HashSet<_> = groups.iter().copied().flatten().map(|link| (Arc::as_ptr(&link.dir), link.index)).collect();
        let mut wanted: Vec<(usize, usize, &[u8])> = Vec::with_capacity(groups.len());
        for (group, links) in groups.iter().enumerate() {
            let (folder, name) = links.first().map_or_else(Default::default, |link| split(&link.target));
            wanted.extend(self.numbers.get(folder).map(|number| (*number, group, name)));
        }
        wanted.sort_unstable();
        let mut firsts: Vec<Option<First>> = groups.iter().map(|_| None).collect();
        for of_one in wanted.chunk_by(|one, two| one.0 == two.0) {
            let Some(dir) = of_one.first().and_then(|wanted| self.dirs.get(wanted.0)) else { continue };
            dir.look(|children| {
                let children: Vec<(usize, &Node)> =
                    children.iter().enumerate().filter_map(|(index, child)| Some((index, child.as_ref()?))).collect();
                for &(_, group, name) in of_one {
                    let Ok(found) = children.binary_search_by(|(_, node)| node.name.as_slice().cmp(name)) else { continue };
                    let (index, node) = children[found];
                    // A link must name what is none itself.
                    if node.metadata.is_file() && !links.contains(&(Arc::as_ptr(dir), index)) {
                        firsts[group] = Some(First { dir: Arc::clone(dir), index, node: node.clone() });
                    }
                }
            })?;
        }
        Ok(firsts)
    }

    /// From now on this one is written to.
    #[cfg(test)]
    pub(super) fn replace(&mut self, writer: Writer) {
        self.writer = Some(writer);
    }

    /// How many folders are in memory.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.dirs.len() - self.here
    }

    /// The folders, in the order in which they are to be sealed.
    pub(super) fn into_dirs(self) -> Vec<Arc<Dir>> {
        self.dirs
    }
}

/// The folder of an entry and its name in there.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    }
}
