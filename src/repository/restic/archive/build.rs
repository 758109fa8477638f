//! Folders under construction: nodes are filled in by whichever worker finishes them, and a folder is sealed (encoded as a
//! tree and stored) by whoever completes its last child.
//!
//! How a tree is encoded is `tree`'s business, how a blob is stored `worker`'s.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::aside::Aside;
use super::item::Item;
use crate::model::text::printable;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::id::Id;
use crate::repository::restic::tree::Node;

/// A folder of which not everything is known yet.
#[derive(Debug)]
pub(super) struct Dir {
    /// The folder above and this folder's place in it; none for the cradle that holds an item's root.
    pub(super) above: Option<(Arc<Dir>, usize)>,
    /// The item it belongs to.
    pub(super) item: Arc<Item>,
    /// This folder's tree in the parent snapshot.
    pub(super) before: Option<Id>,
    /// Something in it is not as that tree has it.
    differs: AtomicBool,
    /// Children that are not complete, and one more while children may be added. Who brings it to zero seals the folder.
    pending: AtomicUsize,
    children: Mutex<Children>,
}

/// What a folder holds, in the order of the names. `None` is a child that could not be read.
#[derive(Debug)]
enum Children {
    Here(Vec<Option<Node>>),
    /// On disk, and what is to become of some of them, by their places.
    Aside(Aside, Vec<(usize, Change)>),
}

/// What becomes of a child once more is known.
#[derive(Debug)]
pub(super) enum Change {
    /// It is a folder, which was sealed.
    Sealed(Id),
    /// It is this file, under its own name.
    Same(Arc<Node>),
    /// It is not to be had.
    Lost,
}

impl Change {
    fn apply(self, child: &mut Option<Node>) {
        match (self, child) {
            (Self::Lost, child) => *child = None,
            (Self::Sealed(id), Some(node)) => node.subtree = Some(id),
            (Self::Same(file), Some(node)) => *node = Node { name: std::mem::take(&mut node.name), ..(*file).clone() },
            (_, None) => {}
        }
    }
}

impl Dir {
    /// An open folder without children.
    pub(super) fn new(above: Option<(Arc<Self>, usize)>, item: Arc<Item>, before: Option<Id>) -> Arc<Self> {
        let differs = AtomicBool::new(before.is_none());
        let children = Mutex::new(Children::Here(Vec::new()));
        Arc::new(Self { above, item, before, differs, pending: AtomicUsize::new(1), children })
    }

    /// Notes that something in the folder is not as in the parent snapshot. To be called before the pending thing that it
    /// concerns is counted as done.
    pub(super) fn note_difference(&self) {
        self.differs.store(true, Ordering::Relaxed);
    }

    /// The tree of the parent snapshot, if nothing in the folder differs from it. To be asked when nothing is pending.
    pub(super) fn kept(&self) -> Option<Id> {
        self.before.filter(|_| !self.differs.load(Ordering::Relaxed))
    }

    /// Adds a complete child and returns its place.
    pub(super) fn push(&self, node: Node) -> usize {
        let mut children = self.lock();
        match &mut *children {
            Children::Here(children) => {
                children.push(Some(node));
                children.len() - 1
            }
            Children::Aside(..) => unreachable!("a folder is put aside when it is closed"),
        }
    }

    /// Adds a child that somebody will complete with [`Dir::finish_one`].
    pub(super) fn push_pending(&self, node: Node) -> usize {
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.push(node)
    }

    /// Changes a child in its place, in a folder of which something is pending: none such is put aside.
    pub(super) fn update(&self, index: usize, change: impl FnOnce(&mut Option<Node>)) {
        if let Children::Here(children) = &mut *self.lock()
            && let Some(child) = children.get_mut(index)
        {
            change(child);
        }
    }

    /// Changes a child, wherever it is.
    pub(super) fn change(&self, index: usize, change: Change) {
        match &mut *self.lock() {
            Children::Here(children) => {
                if let Some(child) = children.get_mut(index) {
                    change.apply(child);
                }
            }
            Children::Aside(_, changes) => changes.push((index, change)),
        }
    }

    /// A copy of a child that is in memory.
    pub(super) fn child(&self, index: usize) -> Option<Node> {
        match &*self.lock() {
            Children::Here(children) => children.get(index).cloned().flatten(),
            Children::Aside(..) => None,
        }
    }

    /// Counts one pending thing as done; true if it was the last, and the caller has to seal the folder.
    #[must_use]
    pub(super) fn finish_one(&self) -> bool {
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// About how many bytes of memory the children take.
    pub(super) fn weight(&self) -> usize {
        let Children::Here(children) = &*self.lock() else { return 0 };
        let of_one = |node: &Node| {
            let meta = &node.metadata;
            let xattrs: usize = meta.xattrs.iter().map(|xattr| 80 + xattr.name.len() + xattr.value.len()).sum();
            32 + node.name.len() + meta.user.len() + meta.group.len() + size_of_val(&node.content[..]) + xattrs
        };
        children.capacity() * size_of::<Option<Node>>() + children.iter().flatten().map(of_one).sum::<usize>()
    }

    /// Takes the children out of memory once `put` has put them elsewhere. Nothing but changes may come after that.
    pub(super) fn put_aside<E>(&self, put: impl FnOnce(&[Option<Node>]) -> Result<Aside, E>) -> Result<(), E> {
        let mut children = self.lock();
        if let Children::Here(here) = &*children {
            *children = Children::Aside(put(here)?, Vec::new());
        }
        Ok(())
    }

    /// Shows the children, of which those that are aside come without what is to become of them.
    ///
    /// # Errors
    /// They cannot be read again.
    pub(super) fn look(&self, look: impl FnOnce(&[Option<Node>])) -> Result<(), RepositoryError> {
        match &*self.lock() {
            Children::Here(children) => look(children),
            Children::Aside(aside, _) => look(&aside.read().map_err(|error| self.lost(error))?),
        }
        Ok(())
    }

    /// Takes the children that could be read.
    ///
    /// # Errors
    /// They are aside and cannot be read again.
    #[expect(clippy::filter_map_identity, reason = "unlike `flatten` it needs no second list, which is large where the folder is")]
    pub(super) fn take_nodes(&self) -> Result<Vec<Node>, RepositoryError> {
        let children = match std::mem::replace(&mut *self.lock(), Children::Here(Vec::new())) {
            Children::Here(children) => children,
            Children::Aside(aside, changes) => {
                let mut children = aside.read().map_err(|error| self.lost(error))?;
                for (index, change) in changes {
                    if let Some(child) = children.get_mut(index) {
                        change.apply(child);
                    }
                }
                children
            }
        };
        Ok(children.into_iter().filter_map(std::convert::identity).collect())
    }

    fn lost(&self, source: io::Error) -> RepositoryError {
        RepositoryError::Source { path: printable(&self.item.path), source }
    }

    fn lock(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of which chunks are under way in several workers.
#[derive(Debug)]
pub(super) struct FileInProgress {
    /// The folder it is in.
    pub(super) dir: Arc<Dir>,
    /// Its place there.
    pub(super) index: usize,
    /// Chunks that are not stored, and one more while chunks may be added.
    pending: AtomicUsize,
    /// Ids of the stored chunks in order.
    chunks: Mutex<Vec<Option<Id>>>,
}

impl FileInProgress {
    /// A file without chunks.
    pub(super) fn new(dir: Arc<Dir>, index: usize) -> Self {
        Self { dir, index, pending: AtomicUsize::new(1), chunks: Mutex::default() }
    }

    /// Makes room for the next chunk and returns its number.
    pub(super) fn reserve(&self) -> usize {
        self.pending.fetch_add(1, Ordering::Relaxed);
        let mut chunks = self.lock();
        chunks.push(None);
        chunks.len() - 1
    }

    /// Records a chunk.
    pub(super) fn set(&self, number: usize, id: Id) {
        if let Some(chunk) = self.lock().get_mut(number) {
            *chunk = Some(id);
        }
    }

    /// Counts one pending thing as done; true if it was the last.
    #[must_use]
    pub(super) fn finish_one(&self) -> bool {
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The content, once everything is stored.
    pub(super) fn take_content(&self) -> Vec<Id> {
        std::mem::take(&mut *self.lock()).into_iter().flatten().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Id>>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
