//! What is in a snapshot: entries listed, one file's data, and a whole tree given to a sink.
//!
//! Restoring to files is `restore`'s business, what a sink does with what it takes its own.

mod ahead;

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::ControlFlow;

use super::id::Id;
use super::reader::{self, Found, Visitor};
use super::state::Indexed;
use super::tree::{Node, Tree};
use crate::model::entry::{Metadata, Sink};
use crate::model::progress::{Event, FileOutcome, Progress};
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::repository::contract::{ListSummary, Listed, Problem, RepositoryError, SnapshotId};
use ahead::{Step, Steps};

/// Problems that are kept with their paths.
const MAX_PROBLEMS: usize = 1000;

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
) -> Result<ListSummary, RepositoryError> {
    let path = reader::join(reader::components(path));
    let (metadata, tree) = match reader::lookup(repo, snapshot, tree, &path)? {
        Found::Root(tree) => (Metadata::virtual_directory(), Some(tree)),
        Found::Node(node) => (node.metadata, node.subtree),
    };
    if visit(Listed { path: path.clone(), metadata }).is_break() {
        return Ok(ListSummary::default());
    }
    let Some(tree) = tree else { return Ok(ListSummary::default()) };
    let path = if path == b"/" { Vec::new() } else { path };
    let mut lister = Lister { path, lengths: Vec::new(), recursive, visit, stopped: false, summary: ListSummary::default() };
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
    summary: ListSummary,
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
        self.summary.problem_count += 1;
        if self.summary.problems.len() < MAX_PROBLEMS {
            self.summary.problems.push(Problem { path: printable(&self.path), message: error.to_string() });
        }
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
/// [`RepositoryError::NoPath`], [`RepositoryError::WrongKind`]; its data cannot be read, or [`RepositoryError::Target`].
pub fn dump(repo: &Indexed, snapshot: &SnapshotId, tree: &Id, path: &[u8], out: &mut dyn Write) -> Result<(), RepositoryError> {
    let failed = |source| RepositoryError::Target { path: "the output".to_owned(), source };
    let wrong = |found| RepositoryError::WrongKind { snapshot: snapshot.clone(), path: printable(path), found };
    let node = match reader::lookup(repo, snapshot, tree, path)? {
        Found::Node(node) if node.metadata.is_file() => node,
        Found::Node(node) => return Err(wrong(reader::kind_word(&node.metadata.kind))),
        Found::Root(_) => return Err(wrong("folder")),
    };
    ahead::run(
        repo,
        |steps| steps.file(&node.content),
        |step| match step {
            Step::Data(data) => out.write_all(data).map_err(failed),
            Step::Begin { .. } | Step::End => Ok(()),
        },
    )?;
    out.flush().map_err(failed)
}

/// Gives what is at `path` to `sink` in tree order (paths relative to it, the root first). An entry with a name that no folder
/// can hold is left out and told as a problem.
///
/// # Errors
/// As for [`dump`]; what the sink took before is the caller's to report.
pub fn stream(
    repo: &Indexed,
    snapshot: &SnapshotId,
    tree: &Id,
    path: &[u8],
    sink: &mut dyn Sink,
    control: &Control,
    progress: &dyn Progress,
) -> Result<(), RepositoryError> {
    control.checkpoint()?;
    let root = reader::lookup(repo, snapshot, tree, path)?;
    let base = reader::join(reader::components(path));
    // The file that is being given: its full path and size.
    let mut file: Option<(Vec<u8>, u64)> = None;
    ahead::run(
        repo,
        |steps| produce(repo, root, &base, steps, progress),
        |step| {
            control.checkpoint()?;
            match step {
                Step::Begin { path, metadata, link_to } => {
                    let full = full_path(&base, path);
                    sink.begin(path, metadata, link_to).map_err(|source| target(&full, source))?;
                    if metadata.is_file() {
                        progress.event(Event::FileStarted { path: &full });
                    }
                    file = Some((full, if metadata.is_file() { metadata.size } else { 0 }));
                    Ok(())
                }
                Step::Data(data) => {
                    let at = file.as_ref().map_or(&[][..], |(path, _)| path);
                    sink.data(data).map_err(|source| target(at, source))?;
                    progress.event(Event::Bytes(data.len() as u64));
                    Ok(())
                }
                Step::End => {
                    let (path, size) = file.take().unwrap_or_default();
                    sink.end().map_err(|source| target(&path, source))?;
                    progress.event(Event::FileFinished { path: &path, size, outcome: FileOutcome::New });
                    Ok(())
                }
            }
        },
    )?;
    sink.finish().map_err(|source| target(&base, source))
}

fn target(path: &[u8], source: io::Error) -> RepositoryError {
    RepositoryError::Target { path: printable(path), source }
}

fn full_path(base: &[u8], path: &[u8]) -> Vec<u8> {
    reader::join(reader::components(base).chain(reader::components(path)))
}

/// Walks the snapshot and says step by step what the sink is to get.
fn produce(repo: &Indexed, root: Found, base: &[u8], steps: &Steps<'_>, progress: &dyn Progress) -> Result<(), RepositoryError> {
    let mut streamer = Streamer { path: Vec::new(), lengths: Vec::new(), linked: HashMap::new(), steps, progress, base };
    match root {
        Found::Root(tree) => {
            steps.begin(Vec::new(), Metadata::virtual_directory(), None)?;
            steps.end()?;
            reader::walk(repo, &tree, &mut streamer)
        }
        Found::Node(node) => {
            let subtree = node.subtree;
            streamer.give(Vec::new(), *node)?;
            subtree.map_or(Ok(()), |tree| reader::walk(repo, &tree, &mut streamer))
        }
    }
}

struct Streamer<'a, 's> {
    /// Path of the folder that the walk is in, relative to the root.
    path: Vec<u8>,
    lengths: Vec<usize>,
    /// First paths of files with several names, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    steps: &'a Steps<'s>,
    progress: &'a dyn Progress,
    base: &'a [u8],
}

impl Streamer<'_, '_> {
    fn give(&mut self, path: Vec<u8>, node: Node) -> Result<(), RepositoryError> {
        let mut metadata = node.metadata.clone();
        let mut first = None;
        if node.is_linked() {
            let key = (metadata.device, metadata.inode);
            first = self.linked.get(&key).cloned();
            if first.is_none() {
                self.linked.insert(key, path.clone());
            }
        }
        if metadata.is_file() {
            // A sink is promised exactly this many bytes; the tree's own number need not be true.
            metadata.size = self.steps.size(&node.content)?;
            self.progress.event(Event::Expected { entries: 1, bytes: if first.is_some() { 0 } else { metadata.size } });
        }
        let has_data = metadata.is_file() && first.is_none();
        self.steps.begin(path, metadata, first)?;
        if has_data {
            self.steps.file(&node.content)?;
        }
        self.steps.end()
    }
}

impl Visitor for Streamer<'_, '_> {
    fn entry(&mut self, node: Node) -> Result<bool, RepositoryError> {
        let path = if self.path.is_empty() { node.name.clone() } else { [&self.path, &b"/"[..], &node.name].concat() };
        if let Err(error) = node.check_name() {
            self.progress.event(Event::Problem { path: &full_path(self.base, &path), message: &format!("left out: {error}") });
            return Ok(false);
        }
        let enter = node.subtree.is_some();
        if enter {
            self.lengths.push(self.path.len());
            self.path.clone_from(&path);
        }
        self.give(path, node)?;
        Ok(enter)
    }

    fn entered(&mut self, tree: &Tree) -> Result<(), RepositoryError> {
        for unknown in &tree.unknown {
            let path = full_path(self.base, &[&self.path, &b"/"[..], &unknown.name].concat());
            let message = format!("left out: entries of type `{}` are not known", printable(unknown.kind.as_bytes()));
            self.progress.event(Event::Problem { path: &path, message: &message });
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), RepositoryError> {
        if let Some(length) = self.lengths.pop() {
            self.path.truncate(length);
        }
        Ok(())
    }
}
