//! Entries looked for in many snapshots: a tree that was searched once is not read again.
//!
//! What is looked for is said by the caller's [`Matcher`].

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::id::Id;
use super::reader::{self, Visitor};
use super::state::Indexed;
use super::tree::{Node, Tree};
use crate::model::entry::Metadata;
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::repository::contract::find::{FindSummary, Matcher};
use crate::repository::contract::{Listed, Problem, RepositoryError, SnapshotId};

/// Problems that are kept with their paths.
const MAX_PROBLEMS: usize = 1000;
/// Matches that are remembered so that other snapshots with the same folder need not be searched. Folders without matches are
/// always remembered.
const MAX_REMEMBERED: usize = 500_000;

/// Searches the snapshots one after the other and shows each match. A folder that cannot be read is told in the summary; the
/// rest is searched.
///
/// # Errors
/// The search was cancelled.
pub fn find(
    repo: &Indexed,
    snapshots: &[(SnapshotId, Id)],
    matcher: &dyn Matcher,
    control: &Control,
    visit: &mut dyn FnMut(&SnapshotId, Listed) -> ControlFlow<()>,
) -> Result<FindSummary, RepositoryError> {
    let mut memory = Memory { searched: HashMap::new(), remembered: 0, by_path: matcher.looks_at_folders() };
    let mut summary = FindSummary::default();
    for (snapshot, tree) in snapshots {
        summary.snapshots += 1;
        let before = summary.matches;
        let mut stopped = false;
        let mut show = |listed: Listed| {
            stopped |= visit(snapshot, listed).is_break();
            if stopped { Err(RepositoryError::Cancelled) } else { Ok(()) }
        };
        let mut search =
            Search { matcher, control, memory: &mut memory, summary: &mut summary, show: &mut show, path: Vec::new(), frames: Vec::new() };
        let searched = search.snapshot(repo, *tree);
        summary.snapshots_with_matches += u64::from(summary.matches > before);
        match searched {
            Err(RepositoryError::Cancelled) if stopped => break,
            result => result?,
        }
    }
    Ok(summary)
}

/// A folder that was searched: by its tree, and by its path where that matters.
type Key = (Id, Vec<u8>);

/// What was found in folders that were searched.
struct Memory {
    searched: HashMap<Key, Arc<[Hit]>>,
    remembered: usize,
    by_path: bool,
}

impl Memory {
    fn key(&self, tree: Id, path: &[u8]) -> Key {
        (tree, if self.by_path { path.to_vec() } else { Vec::new() })
    }

    fn known(&self, tree: Id, path: &[u8]) -> Option<Arc<[Hit]>> {
        self.searched.get(&self.key(tree, path)).cloned()
    }

    /// Keeps what was found, unless that is too much. Whoever is known has all folders below known too.
    fn remember(&mut self, tree: Id, path: &[u8], hits: Vec<Hit>) -> bool {
        let fits = self.remembered + hits.len() <= MAX_REMEMBERED;
        if fits {
            self.remembered += hits.len();
            self.searched.insert(self.key(tree, path), hits.into());
        }
        fits
    }
}

/// An entry that matches, or a folder in which something does.
struct Hit {
    name: Vec<u8>,
    /// Of an entry that matches itself.
    metadata: Option<Box<Metadata>>,
    /// Of a folder in which something matches.
    subtree: Option<Id>,
}

struct Search<'a> {
    matcher: &'a dyn Matcher,
    control: &'a Control,
    memory: &'a mut Memory,
    summary: &'a mut FindSummary,
    show: &'a mut dyn FnMut(Listed) -> Result<(), RepositoryError>,
    /// Path of the folder that the walk is in, without a slash at the end.
    path: Vec<u8>,
    frames: Vec<Frame>,
}

/// A folder that is being searched.
struct Frame {
    tree: Id,
    /// Length of the path of the folder above.
    above: usize,
    name: Vec<u8>,
    /// Of a folder that matches itself.
    metadata: Option<Box<Metadata>>,
    hits: Vec<Hit>,
    /// Something below could not be remembered, so this cannot be either.
    forgetful: bool,
}

impl Search<'_> {
    fn snapshot(&mut self, repo: &Indexed, tree: Id) -> Result<(), RepositoryError> {
        if let Some(hits) = self.memory.known(tree, b"") {
            return self.replay(&hits);
        }
        self.frames.push(Frame { tree, above: 0, name: Vec::new(), metadata: None, hits: Vec::new(), forgetful: false });
        reader::walk(repo, &tree, self)
    }

    /// Shows what was found before in a folder that is the same again.
    fn replay(&mut self, hits: &[Hit]) -> Result<(), RepositoryError> {
        for hit in hits {
            self.control.checkpoint()?;
            let length = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(&hit.name);
            if let Some(metadata) = &hit.metadata {
                self.found(metadata)?;
            }
            if let Some(below) = hit.subtree.and_then(|tree| self.memory.known(tree, &self.path)) {
                self.replay(&below)?;
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    fn found(&mut self, metadata: &Metadata) -> Result<(), RepositoryError> {
        self.summary.matches += 1;
        (self.show)(Listed { path: self.path.clone(), metadata: metadata.clone() })
    }

    fn problem(&mut self, error: &RepositoryError) {
        self.summary.problem_count += 1;
        if self.summary.problems.len() < MAX_PROBLEMS {
            let path = if self.path.is_empty() { "/".to_owned() } else { printable(&self.path) };
            self.summary.problems.push(Problem { path, message: error.to_string() });
        }
    }
}

impl Visitor for Search<'_> {
    fn wants(&self, node: &Node) -> bool {
        // Where paths matter it is asked again when the path is known.
        self.memory.by_path || node.subtree.is_none_or(|tree| self.memory.known(tree, b"").is_none())
    }

    fn entry(&mut self, node: Node) -> Result<bool, RepositoryError> {
        self.control.checkpoint()?;
        let length = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(&node.name);
        let metadata = if self.matcher.matches(&self.path, &node.metadata) {
            self.found(&node.metadata)?;
            Some(Box::new(node.metadata))
        } else {
            None
        };
        let Some(tree) = node.subtree else {
            self.path.truncate(length);
            self.hit(Hit { name: node.name, metadata, subtree: None });
            return Ok(false);
        };
        let Some(hits) = self.memory.known(tree, &self.path) else {
            self.frames.push(Frame { tree, above: length, name: node.name, metadata, hits: Vec::new(), forgetful: false });
            return Ok(true);
        };
        self.replay(&hits)?;
        self.path.truncate(length);
        self.hit(Hit { name: node.name, metadata, subtree: (!hits.is_empty()).then_some(tree) });
        Ok(false)
    }

    fn entered(&mut self, _tree: &Tree) -> Result<(), RepositoryError> {
        self.summary.trees_read += 1;
        Ok(())
    }

    fn unreadable(&mut self, error: RepositoryError) -> Result<(), RepositoryError> {
        self.problem(&error);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), RepositoryError> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let subtree = (!frame.hits.is_empty()).then_some(frame.tree);
        let remembered = !frame.forgetful && self.memory.remember(frame.tree, &self.path, frame.hits);
        if let Some(above) = self.frames.last_mut() {
            above.forgetful |= !remembered;
        }
        self.path.truncate(frame.above);
        self.hit(Hit { name: frame.name, metadata: frame.metadata, subtree });
        Ok(())
    }
}

impl Search<'_> {
    fn hit(&mut self, hit: Hit) {
        if let Some(frame) = self.frames.last_mut()
            && (hit.metadata.is_some() || hit.subtree.is_some())
        {
            frame.hits.push(hit);
        }
    }
}
