//! Which files and folders of which snapshots are lost with blobs that are.
//!
//! What is lost is found out elsewhere.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::model::text::printable;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::file::SnapshotFile;
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::reader::{self, Visitor};
use crate::repository::restic::tree::Node;

use super::{Bad, Check, sentence};

/// Says for each file and folder that needs a lost blob in which snapshot it is: the latest one that has it. Blobs that no
/// snapshot needs are not mentioned.
pub(super) fn name(check: &Check<'_>, snapshots: &[(Id, SnapshotFile)], bad: &Bad) -> Result<(), RepositoryError> {
    let mut latest_first: Vec<_> = snapshots.iter().collect();
    latest_first.sort_by_key(|(_, snapshot)| std::cmp::Reverse(snapshot.time.instant));
    let mut finder = Finder { check, bad, seen: RefCell::default(), path: Vec::new(), lengths: Vec::new(), snapshot: String::new() };
    for (id, snapshot) in latest_first {
        finder.snapshot = id.short();
        finder.path.clear();
        if finder.seen.borrow_mut().insert(snapshot.tree) {
            reader::walk(check.repo, &snapshot.tree, &mut finder)?;
        }
    }
    Ok(())
}

struct Finder<'a> {
    check: &'a Check<'a>,
    bad: &'a Bad,
    /// Trees that were looked at already, in this snapshot or a later one.
    seen: RefCell<HashSet<Id, BuildIdHasher>>,
    path: Vec<u8>,
    lengths: Vec<usize>,
    snapshot: String,
}

impl Visitor for Finder<'_> {
    fn wants(&self, node: &Node) -> bool {
        node.subtree.is_some_and(|tree| !self.seen.borrow().contains(&tree))
    }

    fn entry(&mut self, node: Node) -> Result<bool, RepositoryError> {
        self.check.go_on()?;
        let reason = node.content.iter().find_map(|blob| self.bad.reason(self.check, blob));
        let path = [&self.path, &b"/"[..], &node.name].concat();
        if let Some(reason) = reason {
            self.check.found.error(format!("snapshot {}: {} is damaged: {reason}", self.snapshot, printable(&path)));
        }
        // `wants` was asked before the folders that come first were entered, one of which may have had the same tree.
        let enter = node.subtree.is_some_and(|tree| self.seen.borrow_mut().insert(tree));
        if enter {
            self.lengths.push(self.path.len());
            self.path = path;
        }
        Ok(enter)
    }

    fn unreadable(&mut self, error: RepositoryError) -> Result<(), RepositoryError> {
        let path = if self.path.is_empty() { "/".to_owned() } else { printable(&self.path) };
        // What this user may not read may be whole.
        let lost = if error.is_denied() { "could not be read" } else { "is lost" };
        self.check.found.error(format!("snapshot {}: everything in {path} {lost}: {}", self.snapshot, sentence(&error)));
        Ok(())
    }

    fn leave(&mut self) -> Result<(), RepositoryError> {
        if let Some(length) = self.lengths.pop() {
            self.path.truncate(length);
        }
        Ok(())
    }
}
