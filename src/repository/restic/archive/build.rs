//! Folders under construction: nodes are filled in by whichever worker finishes them, and a folder is sealed (encoded as a
//! tree and stored) by whoever completes its last child.
//!
//! How a tree is encoded is `tree`'s business, how a blob is stored `worker`'s.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::item::Item;
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
    /// In the order of their names. `None` is a child that could not be read.
    children: Mutex<Vec<Option<Node>>>,
}

impl Dir {
    /// An open folder without children.
    pub(super) fn new(above: Option<(Arc<Self>, usize)>, item: Arc<Item>, before: Option<Id>) -> Arc<Self> {
        let differs = AtomicBool::new(before.is_none());
        Arc::new(Self { above, item, before, differs, pending: AtomicUsize::new(1), children: Mutex::default() })
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
        children.push(Some(node));
        children.len() - 1
    }

    /// Adds a child that somebody will complete with [`Dir::finish_one`].
    pub(super) fn push_pending(&self, node: Node) -> usize {
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.push(node)
    }

    /// Changes a child in its place.
    pub(super) fn update(&self, index: usize, change: impl FnOnce(&mut Option<Node>)) {
        if let Some(child) = self.lock().get_mut(index) {
            change(child);
        }
    }

    /// A copy of a child.
    pub(super) fn child(&self, index: usize) -> Option<Node> {
        self.lock().get(index).cloned().flatten()
    }

    /// Counts one pending thing as done; true if it was the last, and the caller has to seal the folder.
    #[must_use]
    pub(super) fn finish_one(&self) -> bool {
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Takes the children that could be read.
    #[expect(clippy::filter_map_identity, reason = "unlike `flatten` it needs no second list, which is large where the folder is")]
    pub(super) fn take_nodes(&self) -> Vec<Node> {
        std::mem::take(&mut *self.lock()).into_iter().filter_map(std::convert::identity).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Node>>> {
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
