//! What is in a snapshot: entries listed, one file's data, and a whole tree given to a sink.
//!
//! Restoring to files is `restore`'s business, what a sink does with what it takes its own.

mod ahead;
mod stream;

use std::io::Write;
use std::ops::ControlFlow;

use super::id::Id;
use super::reader::{self, Found, Visitor};
use super::state::Indexed;
use super::tree::Node;
use crate::model::entry::Metadata;
use crate::model::text::printable;
use crate::repository::contract::{Listed, Problem, ReadSummary, RepositoryError, SnapshotId};
use ahead::Step;

pub use stream::stream;

/// Lists what is at `path`: the entry itself and, for a folder, what is in it (all levels if `recursive`), in tree order. The
/// root of a snapshot has no metadata, so it is listed as a virtual folder. A folder further down that cannot be read is told in
/// the summary; the rest is listed.
///
/// # Errors
/// There is no such path, or the tree at it cannot be read.
pub fn list(
    repo: &Indexed,
    snapshot: &SnapshotId,
    tree: &Id,
    path: &[u8],
    recursive: bool,
    visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
) -> Result<ReadSummary, RepositoryError> {
    let path = reader::join(reader::components(path));
    let (metadata, tree) = match reader::lookup(repo, snapshot, tree, &path)? {
        Found::Root(tree) => (Metadata::virtual_directory(), Some(tree)),
        Found::Node(node) => (node.metadata, node.subtree),
    };
    if visit(Listed { path: path.clone(), metadata }).is_break() {
        return Ok(ReadSummary::default());
    }
    let Some(tree) = tree else { return Ok(ReadSummary::default()) };
    let path = if path == b"/" { Vec::new() } else { path };
    let mut lister = Lister { path, lengths: Vec::new(), recursive, visit, stopped: false, summary: ReadSummary::default() };
    match reader::walk(repo, &tree, &mut lister) {
        Err(RepositoryError::Cancelled) if lister.stopped => {}
        result => result?,
    }
    Ok(lister.summary)
}

struct Lister<'a> {
    /// Path of the folder that the walk is in, without a slash at the end.
    path: Vec<u8>,
    /// Lengths of the paths of the folders above it.
    lengths: Vec<usize>,
    recursive: bool,
    visit: &'a mut dyn FnMut(Listed) -> ControlFlow<()>,
    /// The caller has seen enough.
    stopped: bool,
    summary: ReadSummary,
}

impl Visitor for Lister<'_> {
    fn wants(&self, _node: &Node) -> bool {
        self.recursive
    }

    fn entry(&mut self, node: Node) -> Result<bool, RepositoryError> {
        let path = [&self.path, &b"/"[..], &node.name].concat();
        let enter = self.recursive && node.subtree.is_some();
        if enter {
            self.lengths.push(self.path.len());
            self.path.clone_from(&path);
        }
        if (self.visit)(Listed { path, metadata: node.metadata }).is_break() {
            self.stopped = true;
            return Err(RepositoryError::Cancelled);
        }
        Ok(enter)
    }

    fn unreadable(&mut self, error: RepositoryError) -> Result<(), RepositoryError> {
        // Of the folder that was asked for, nothing is left to list.
        if self.lengths.is_empty() {
            return Err(error);
        }
        self.summary.add(Problem { path: printable(&self.path), message: error.to_string() });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), RepositoryError> {
        if let Some(length) = self.lengths.pop() {
            self.path.truncate(length);
        }
        Ok(())
    }
}

/// Writes one file's data to `out`.
///
/// # Errors
/// [`RepositoryError::NoPath`], [`RepositoryError::WrongKind`]; its data cannot be read, or is of another size than the snapshot says;
/// [`RepositoryError::Target`].
pub fn dump(repo: &Indexed, snapshot: &SnapshotId, tree: &Id, path: &[u8], out: &mut dyn Write) -> Result<(), RepositoryError> {
    let failed = |source| RepositoryError::Target { path: "the output".to_owned(), source };
    let wrong = |found| RepositoryError::WrongKind { snapshot: snapshot.clone(), path: printable(path), found };
    let node = match reader::lookup(repo, snapshot, tree, path)? {
        Found::Node(node) if node.metadata.is_file() => node,
        Found::Node(node) => return Err(wrong(reader::kind_word(&node.metadata.kind))),
        Found::Root(_) => return Err(wrong("folder")),
    };
    let mut written = 0;
    ahead::run(
        repo,
        |steps| steps.blobs(&node.content),
        |step| match step {
            Step::Data(data) => {
                written += data.len() as u64;
                out.write_all(data).map_err(failed)
            }
            // Half a file must not look like one.
            Step::Lost { error: Some(error), .. } => Err(error),
            Step::Lost { error: None, .. } | Step::Begin(_) | Step::End => Ok(()),
        },
    )?;
    out.flush().map_err(failed)?;
    if written == node.metadata.size {
        return Ok(());
    }
    let expected = format!("{} bytes of data, and there are {written}", node.metadata.size);
    Err(RepositoryError::Damaged { file: format!("the file {}", printable(path)), offset: 0, expected })
}
