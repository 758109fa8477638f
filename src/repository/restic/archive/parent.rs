//! The parent snapshot: which one it is, and its trees, loaded only where they are asked for.

use std::iter::Peekable;
use std::vec;

use crate::repository::contract::{RepositoryError, SnapshotRequest, TAG_APPLICATION};
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::file::SnapshotFile;
use crate::repository::restic::id::Id;
use crate::repository::restic::reader;
use crate::repository::restic::state::Indexed;
use crate::repository::restic::tree::{self, Node, Tree};

/// One folder of the parent snapshot, asked for its entries in the order of their names.
pub(super) struct ParentTree {
    /// Not loaded yet.
    id: Option<Id>,
    /// What was not asked for yet.
    nodes: Peekable<vec::IntoIter<Node>>,
    /// Entries were passed over that nobody asked for, or that this program does not know.
    passed: bool,
}

impl ParentTree {
    pub(super) fn new(id: Option<Id>) -> Self {
        Self { id, nodes: Vec::new().into_iter().peekable(), passed: false }
    }

    /// The child of this name, which must come after all names that were asked for before. A tree that cannot be read is told
    /// to `unreadable` and counts as empty: its files are read again, which loses nothing.
    pub(super) fn child(&mut self, repository: &Indexed, name: &[u8], unreadable: impl FnOnce(&RepositoryError)) -> Option<Node> {
        if let Some(id) = self.id.take() {
            match load(repository, &id) {
                Ok(tree) => {
                    self.passed = !tree.unknown.is_empty();
                    self.nodes = tree.nodes.into_iter().peekable();
                }
                Err(error) => {
                    self.passed = true;
                    // While a storage is out of reach for a moment, files are only read again.
                    if repository.is_lost(&error) {
                        unreadable(&error);
                    }
                }
            }
        }
        while self.nodes.next_if(|node| node.name.as_slice() < name).is_some() {
            self.passed = true;
        }
        self.nodes.next_if(|node| node.name == name)
    }

    /// Whether it was loaded and has no entry that was not asked for by its name.
    pub(super) fn was_all_asked_for(&mut self) -> bool {
        self.id.is_none() && !self.passed && self.nodes.peek().is_none()
    }
}

fn load(repository: &Indexed, id: &Id) -> Result<Tree, RepositoryError> {
    let mut json = Vec::new();
    repository.read_blob(BlobKind::Tree, id, &mut json)?;
    tree::parse(&json).map_err(|error| reader::damaged_tree(id, &json, &error))
}

/// The node at an absolute path below `root`. A folder on the way that cannot be read is told to `unreadable` by its path.
pub(super) fn find(repository: &Indexed, root: Id, path: &[u8], unreadable: impl Fn(&[u8], &RepositoryError)) -> Option<Node> {
    let mut tree = ParentTree::new(Some(root));
    let mut found = None;
    let mut above = Vec::new();
    for name in reader::components(path) {
        let node = tree.child(repository, name, |error| unreadable(if above.is_empty() { b"/" } else { &above }, error))?;
        tree = ParentTree::new(node.subtree);
        found = Some(node);
        above = [&above, &b"/"[..], name].concat();
    }
    found
}

/// The snapshot to compare with: the one that was asked for, else the latest of the same host, paths and application.
pub(super) fn choose(snapshots: Vec<(Id, SnapshotFile)>, request: &SnapshotRequest) -> Option<(Id, SnapshotFile)> {
    if request.ignore_parent {
        return None;
    }
    if let Some(wanted) = &request.parent {
        return snapshots.into_iter().find(|(id, _)| id.to_string() == wanted.0);
    }
    let application = |tags: &[String]| tags.iter().find(|tag| tag.starts_with(TAG_APPLICATION)).cloned();
    let wanted = application(&request.tags);
    snapshots
        .into_iter()
        .filter(|(_, file)| file.hostname == request.host && file.paths == request.paths && application(&file.tags) == wanted)
        .max_by_key(|(_, file)| file.time.instant)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::repository::contract::SnapshotId;
    use crate::repository::restic::file::Time;

    fn snapshot(host: &str, paths: &[&str], tags: &[&str], time: i64) -> (Id, SnapshotFile) {
        let strings = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let file = SnapshotFile {
            time: Time::utc(jiff::Timestamp::from_second(time).unwrap()),
            parent: None,
            tree: Id::of(b"tree"),
            paths: strings(paths),
            hostname: host.into(),
            username: String::new(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags: strings(tags),
            original: None,
            program_version: String::new(),
            summary: None,
            more: serde_json::Map::new(),
        };
        (Id::of(format!("{host} {paths:?} {tags:?} {time}").as_bytes()), file)
    }

    #[test]
    fn the_parent_is_the_latest_of_the_same() {
        let shop = format!("{TAG_APPLICATION}shop");
        let other = format!("{TAG_APPLICATION}other");
        let mut request = SnapshotRequest {
            time: jiff::Timestamp::from_second(100).unwrap(),
            host: "here".into(),
            paths: vec!["/a".into(), "/b".into()],
            tags: vec!["nightly".into(), shop.clone()],
            excludes: Vec::new(),
            ignore_parent: false,
            parent: None,
            with_atime: false,
            dry_run: false,
        };
        let right = snapshot("here", &["/a", "/b"], &[&shop], 5);
        let all = vec![
            snapshot("here", &["/a", "/b"], &[&shop, "older"], 4),
            right.clone(),
            // Later, but of something else in one respect each.
            snapshot("there", &["/a", "/b"], &[&shop], 9),
            snapshot("here", &["/a"], &[&shop], 9),
            snapshot("here", &["/b", "/a"], &[&shop], 9),
            snapshot("here", &["/a", "/b"], &[&other], 9),
            snapshot("here", &["/a", "/b"], &["nightly"], 9),
        ];
        let chosen = |request: &SnapshotRequest| choose(all.clone(), request).map(|(id, _)| id);
        assert_eq!(chosen(&request), Some(right.0));
        request.parent = Some(SnapshotId(all[2].0.to_string()));
        assert_eq!(chosen(&request), Some(all[2].0), "as was asked for");
        request.ignore_parent = true;
        assert_eq!(chosen(&request), None);
        (request.parent, request.ignore_parent, request.host) = (None, false, "nowhere".into());
        assert_eq!(chosen(&request), None);
    }
}
