//! Two snapshots compared: folders with the same tree are equal and never read.
//!
//! How differences are shown is the faces' business.

use std::collections::{BTreeMap, btree_map};
use std::ops::ControlFlow;

use super::codec::BlobKind;
use super::id::Id;
use super::index::places::{Places, Seen};
use super::reader::{self, Found, Visitor};
use super::state::Indexed;
use super::tree::{Node, Tree};
use crate::model::entry::Metadata;
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::repository::contract::diff::{Change, DiffCount, DiffSummary, Difference};
use crate::repository::contract::{Problem, RepositoryError, SnapshotId};

/// Problems that are kept with their paths.
const MAX_PROBLEMS: usize = 1000;

/// One of the snapshots.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its id.
    pub snapshot: &'a SnapshotId,
    /// Its root.
    pub tree: Id,
}

/// Compares what two snapshots have at `path` and shows each difference in tree order. A folder that cannot be read is told
/// in the summary; the rest is compared.
///
/// # Errors
/// Neither snapshot has anything at `path`, or a tree on the way to it cannot be read, or the comparison was cancelled.
pub fn diff(
    repo: &Indexed,
    [before, after]: [Side<'_>; 2],
    path: &[u8],
    control: &Control,
    visit: &mut dyn FnMut(Difference) -> ControlFlow<()>,
) -> Result<DiffSummary, RepositoryError> {
    let path = reader::join(reader::components(path));
    let (old, new) = (find(repo, before, &path)?, find(repo, after, &path)?);
    let places = Places::of(repo.index());
    let blobs = [Seen::none_of(&places), Seen::none_of(&places)];
    let mut comparison = Comparison { repo, control, visit, summary: DiffSummary::default(), places, blobs, stopped: false };
    let compared = match (old, new) {
        (Err(error), Err(_)) => return Err(error),
        (Ok(Found::Root(old)), Ok(Found::Root(new))) => comparison.roots(old, new),
        (old, new) => {
            let node = |found: Result<Found, RepositoryError>| match found {
                Ok(Found::Node(node)) => Some(*node),
                _ => None,
            };
            comparison.pairs(path, node(old), node(new))
        }
    };
    match compared {
        Err(RepositoryError::Cancelled) if comparison.stopped => {}
        result => result?,
    }
    Ok(comparison.finish())
}

/// What a snapshot has at a path. That it has nothing is told apart from that it cannot be known.
fn find(repo: &Indexed, side: Side<'_>, path: &[u8]) -> Result<Result<Found, RepositoryError>, RepositoryError> {
    match reader::lookup(repo, side.snapshot, &side.tree, path) {
        Err(error @ (RepositoryError::NoPath { .. } | RepositoryError::WrongKind { .. })) => Ok(Err(error)),
        result => result.map(Ok),
    }
}

const OLD: usize = 0;
const NEW: usize = 1;

struct Comparison<'a> {
    repo: &'a Indexed,
    control: &'a Control,
    visit: &'a mut dyn FnMut(Difference) -> ControlFlow<()>,
    summary: DiffSummary,
    places: Places<'a>,
    /// What the differing folders of each side use.
    blobs: [Seen; 2],
    /// The caller has seen enough.
    stopped: bool,
}

type Pair = (Option<Node>, Option<Node>);

/// A folder that is being compared.
struct Frame {
    /// Its path, without a slash at the end.
    path: Vec<u8>,
    pairs: btree_map::IntoIter<Vec<u8>, Pair>,
}

impl Comparison<'_> {
    fn roots(&mut self, old: Id, new: Id) -> Result<(), RepositoryError> {
        self.blobs[OLD].add(&self.places, BlobKind::Tree, &old);
        self.blobs[NEW].add(&self.places, BlobKind::Tree, &new);
        if old == new {
            return Ok(());
        }
        let root = self.open(Vec::new(), &old, &new);
        self.run(root)
    }

    /// Compares one entry that both, or one of them, have at `path`.
    fn pairs(&mut self, path: Vec<u8>, old: Option<Node>, new: Option<Node>) -> Result<(), RepositoryError> {
        let folder = self.pair(path, old, new)?;
        self.run(folder)
    }

    fn run(&mut self, first: Option<Frame>) -> Result<(), RepositoryError> {
        let mut stack: Vec<Frame> = first.into_iter().collect();
        while let Some(frame) = stack.last_mut() {
            let Some((name, (old, new))) = frame.pairs.next() else {
                stack.pop();
                continue;
            };
            let path = [&frame.path, &b"/"[..], &name].concat();
            if let Some(below) = self.pair(path, old, new)? {
                stack.push(below);
            }
        }
        Ok(())
    }

    /// Reads a folder of both sides. None if it cannot be read, which is told.
    fn open(&mut self, path: Vec<u8>, old: &Id, new: &Id) -> Option<Frame> {
        let mut pairs: BTreeMap<Vec<u8>, Pair> = BTreeMap::new();
        for (side, id) in [(OLD, old), (NEW, new)] {
            self.summary.trees_read += 1;
            match reader::load_tree(self.repo, id) {
                Ok(tree) => {
                    for node in tree.nodes {
                        let pair = pairs.entry(node.name.clone()).or_default();
                        if side == OLD { pair.0 = Some(node) } else { pair.1 = Some(node) }
                    }
                }
                Err(error) => {
                    self.problem(&path, &error);
                    return None;
                }
            }
        }
        Some(Frame { path, pairs: pairs.into_iter() })
    }

    /// Compares two entries of one name. Gives the folder to go on with, if both are folders that differ.
    fn pair(&mut self, path: Vec<u8>, old: Option<Node>, new: Option<Node>) -> Result<Option<Frame>, RepositoryError> {
        self.control.checkpoint()?;
        let (old, new) = match (old, new) {
            (None, None) => return Ok(None),
            (Some(old), None) => return self.whole(path, old, OLD).map(|()| None),
            (None, Some(new)) => return self.whole(path, new, NEW).map(|()| None),
            (Some(old), Some(new)) => (old, new),
        };
        let same_kind = std::mem::discriminant(&old.metadata.kind) == std::mem::discriminant(&new.metadata.kind);
        let change = if !same_kind {
            Some(Change::Kind)
        } else if old.content != new.content || old.metadata.kind != new.metadata.kind {
            Some(Change::Content)
        } else if differs(&old.metadata, &new.metadata) {
            Some(Change::Metadata)
        } else {
            None
        };
        match change {
            Some(Change::Content) if new.metadata.is_file() => self.summary.changed_files += 1,
            Some(Change::Metadata) => self.summary.changed_metadata += 1,
            _ => {}
        }
        let trees = (old.subtree, new.subtree);
        self.use_blobs(OLD, &old);
        self.use_blobs(NEW, &new);
        if let Some(change) = change {
            let (before, after) = (Some(old.metadata), Some(new.metadata));
            self.show(Difference { path: path.clone(), change, before, after })?;
        }
        match trees {
            (Some(old), Some(new)) if old != new => Ok(self.open(path, &old, &new)),
            // What a folder held that is none any more, and what one holds that was none.
            (Some(old), None) => self.below(path, &old, OLD).map(|()| None),
            (None, Some(new)) => self.below(path, &new, NEW).map(|()| None),
            _ => Ok(None),
        }
    }

    /// An entry that only one side has, with everything in it.
    fn whole(&mut self, path: Vec<u8>, node: Node, side: usize) -> Result<(), RepositoryError> {
        let subtree = node.subtree;
        self.only(&path, node, side)?;
        subtree.map_or(Ok(()), |tree| self.below(path, &tree, side))
    }

    fn below(&mut self, path: Vec<u8>, tree: &Id, side: usize) -> Result<(), RepositoryError> {
        let repo = self.repo;
        reader::walk(repo, tree, &mut Whole { comparison: self, side, path, lengths: Vec::new() })
    }

    fn only(&mut self, path: &[u8], node: Node, side: usize) -> Result<(), RepositoryError> {
        self.use_blobs(side, &node);
        let count = if side == OLD { &mut self.summary.removed } else { &mut self.summary.added };
        if node.metadata.is_file() {
            count.files += 1;
        } else if node.metadata.is_dir() {
            count.dirs += 1;
        } else {
            count.others += 1;
        }
        let path = path.to_vec();
        self.show(match side {
            OLD => Difference { path, change: Change::Removed, before: Some(node.metadata), after: None },
            _ => Difference { path, change: Change::Added, before: None, after: Some(node.metadata) },
        })
    }

    fn use_blobs(&mut self, side: usize, node: &Node) {
        let blobs = node.content.iter().map(|id| (BlobKind::Data, id)).chain(node.subtree.iter().map(|id| (BlobKind::Tree, id)));
        for (kind, id) in blobs {
            self.blobs[side].add(&self.places, kind, id);
        }
    }

    fn show(&mut self, difference: Difference) -> Result<(), RepositoryError> {
        if (self.visit)(difference).is_break() {
            self.stopped = true;
            return Err(RepositoryError::Cancelled);
        }
        Ok(())
    }

    fn problem(&mut self, path: &[u8], error: &RepositoryError) {
        self.summary.problem_count += 1;
        if self.summary.problems.len() < MAX_PROBLEMS {
            let path = if path.is_empty() { "/".to_owned() } else { printable(path) };
            self.summary.problems.push(Problem { path, message: error.to_string() });
        }
    }

    fn finish(mut self) -> DiffSummary {
        self.summary.removed = self.only_in(OLD, self.summary.removed);
        self.summary.added = self.only_in(NEW, self.summary.added);
        self.summary
    }

    /// Adds the blobs that only one side uses.
    fn only_in(&self, side: usize, mut count: DiffCount) -> DiffCount {
        for (kind, id) in self.blobs[side].and_not(&self.blobs[1 - side], &self.places) {
            match kind {
                BlobKind::Data => count.data_blobs += 1,
                BlobKind::Tree => count.tree_blobs += 1,
            }
            // A blob that is missing is `check`'s business.
            count.bytes += self.repo.index().lookup(kind, &id).map_or(0, |location| u64::from(location.plain_length()));
        }
        count
    }
}

/// Whether something differs that a restore brings back. Inode numbers, devices and change times are new on every restored
/// machine, access times by every look.
fn differs(old: &Metadata, new: &Metadata) -> bool {
    let key = |metadata: &Metadata| (metadata.mode, metadata.uid, metadata.gid, metadata.size, metadata.mtime);
    key(old) != key(new) || old.xattrs != new.xattrs
}

/// Shows everything in a folder that only one side has.
struct Whole<'a, 'b> {
    comparison: &'a mut Comparison<'b>,
    side: usize,
    /// Path of the folder that the walk is in.
    path: Vec<u8>,
    lengths: Vec<usize>,
}

impl Visitor for Whole<'_, '_> {
    fn entry(&mut self, node: Node) -> Result<bool, RepositoryError> {
        self.comparison.control.checkpoint()?;
        let length = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(&node.name);
        let enter = node.subtree.is_some();
        let shown = self.comparison.only(&self.path, node, self.side);
        if enter {
            self.lengths.push(length);
        } else {
            self.path.truncate(length);
        }
        shown.map(|()| enter)
    }

    fn entered(&mut self, _tree: &Tree) -> Result<(), RepositoryError> {
        self.comparison.summary.trees_read += 1;
        Ok(())
    }

    fn unreadable(&mut self, error: RepositoryError) -> Result<(), RepositoryError> {
        self.comparison.problem(&self.path, &error);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), RepositoryError> {
        if let Some(length) = self.lengths.pop() {
            self.path.truncate(length);
        }
        Ok(())
    }
}
