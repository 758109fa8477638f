//! A whole tree given to a sink, with whatever is lost of it told.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Mutex, PoisonError};

use super::ahead::{self, Begin, Step, Steps};
use crate::model::entry::{Metadata, Sink, Timestamp};
use crate::model::progress::{Event, FileOutcome, Progress};
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::repository::contract::{Problem, ReadSummary, RepositoryError, SnapshotId};
use crate::repository::restic::id::Id;
use crate::repository::restic::reader::{self, Found, Visitor};
use crate::repository::restic::state::Indexed;
use crate::repository::restic::tree::{Node, Tree};

/// No blob of any restic is longer; a place of more cannot be theirs.
const LONGEST_BLOB: u64 = 64 << 20;

/// Gives what is at `path` to `sink` in tree order (paths relative to it, the root first), and tells what of it is lost: folders
/// are empty then; files without any of their data are left out, and those with some have zeros where the rest was, and, where
/// that is known as they begin, the metadata of a file that is not finished. An entry with a name that no folder can hold is left out.
///
/// # Errors
/// There is no such path, what is at it or the storage cannot be read, or the sink takes no more; what it took before is the
/// caller's to report.
pub fn stream(
    repo: &Indexed,
    snapshot: &SnapshotId,
    tree: &Id,
    path: &[u8],
    sink: &mut dyn Sink,
    control: &Control,
    progress: &dyn Progress,
) -> Result<ReadSummary, RepositoryError> {
    control.checkpoint()?;
    let root = reader::lookup(repo, snapshot, tree, path)?;
    let base = reader::join(reader::components(path));
    let losses = Losses { base: &base, progress, summary: Mutex::default() };
    let mut giver = Giver { sink, losses: &losses, progress, open: Open::Nothing, left_out: HashSet::new() };
    ahead::run(
        repo,
        |steps| produce(repo, root, steps, &losses, control),
        |step| {
            control.checkpoint()?;
            giver.take(step)
        },
    )?;
    giver.sink.finish().map_err(|source| target(&base, source))?;
    Ok(losses.summary.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn target(path: &[u8], source: io::Error) -> RepositoryError {
    RepositoryError::Target { path: printable(path), source }
}

/// What is not given, or not whole. Both threads tell.
struct Losses<'a> {
    base: &'a [u8],
    progress: &'a dyn Progress,
    summary: Mutex<ReadSummary>,
}

impl Losses<'_> {
    fn full(&self, path: &[u8]) -> Vec<u8> {
        reader::join(reader::components(self.base).chain(reader::components(path)))
    }

    fn tell(&self, path: &[u8], message: String) {
        let path = self.full(path);
        self.progress.event(Event::Problem { path: &path, message: &message });
        let mut summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        summary.add(Problem { path: printable(&path), message });
    }
}

/// The metadata of a file that is not whole, so that nobody takes it for that.
fn unfinished(metadata: &mut Metadata) {
    metadata.mode = 0o600;
    (metadata.uid, metadata.gid) = (0, 0);
    metadata.mtime = Timestamp::default();
}

fn in_part(error: &RepositoryError) -> String {
    format!("zeros take the place of what is lost: {error}")
}

/// What the sink is in.
enum Open {
    Nothing,
    /// A file that begins with the first of its data, when it is known whether there is any.
    Waiting(Begin),
    /// An entry.
    Entry {
        path: Vec<u8>,
        size: u64,
        damaged: bool,
    },
    /// An entry that the sink does not get.
    LeftOut,
}

/// Gives the sink what the steps say.
struct Giver<'a> {
    sink: &'a mut dyn Sink,
    losses: &'a Losses<'a>,
    progress: &'a dyn Progress,
    open: Open,
    /// Files with several names whose first was left out.
    left_out: HashSet<Vec<u8>>,
}

impl Giver<'_> {
    fn take(&mut self, step: Step<'_>) -> Result<(), RepositoryError> {
        match step {
            Step::Begin(begin) => {
                if begin.link_to.as_ref().is_some_and(|first| self.left_out.contains(first)) {
                    self.losses.tell(&begin.path, "not restored: it is another name of a file whose data is lost".to_owned());
                    self.open = Open::LeftOut;
                } else if begin.metadata.is_file() && begin.metadata.size > 0 && begin.link_to.is_none() {
                    self.open = Open::Waiting(begin);
                } else {
                    self.begin(begin)?;
                }
                Ok(())
            }
            Step::Data(data) => {
                self.begin_waiting(false)?;
                self.data(data)
            }
            Step::Lost { length, error } => self.lost(length, error.as_ref()),
            Step::End => {
                self.begin_waiting(false)?;
                let Open::Entry { path, size, damaged } = std::mem::replace(&mut self.open, Open::Nothing) else { return Ok(()) };
                self.sink.end().map_err(|source| target(&path, source))?;
                if !damaged {
                    self.progress.event(Event::FileFinished { path: &path, size, outcome: FileOutcome::New });
                }
                Ok(())
            }
        }
    }

    fn begin(&mut self, begin: Begin) -> Result<(), RepositoryError> {
        let Begin { path, metadata, link_to } = begin;
        let full = self.losses.full(&path);
        self.sink.begin(&path, &metadata, link_to.as_deref()).map_err(|source| target(&full, source))?;
        if metadata.is_file() {
            self.progress.event(Event::FileStarted { path: &full });
        }
        self.open = Open::Entry { path: full, size: if metadata.is_file() { metadata.size } else { 0 }, damaged: false };
        Ok(())
    }

    fn begin_waiting(&mut self, damaged: bool) -> Result<(), RepositoryError> {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Waiting(mut begin) => {
                if damaged {
                    unfinished(&mut begin.metadata);
                }
                self.begin(begin)
            }
            other => {
                self.open = other;
                Ok(())
            }
        }
    }

    fn data(&mut self, data: &[u8]) -> Result<(), RepositoryError> {
        let at = if let Open::Entry { path, .. } = &self.open { path } else { &Vec::new() };
        self.sink.data(data).map_err(|source| target(at, source))?;
        self.progress.event(Event::Bytes(data.len() as u64));
        Ok(())
    }

    /// Without an error it was told already.
    fn lost(&mut self, length: u64, error: Option<&RepositoryError>) -> Result<(), RepositoryError> {
        const ZEROS: &[u8] = &[0; 64 << 10];
        match (&self.open, error) {
            (Open::Waiting(begin), Some(error)) if begin.metadata.size == length => {
                self.losses.tell(&begin.path, format!("not restored: {error}"));
                self.left_out.insert(begin.path.clone());
                self.open = Open::LeftOut;
                return Ok(());
            }
            (Open::Waiting(Begin { path, .. }), Some(error)) => self.losses.tell(path, in_part(error)),
            (Open::Entry { path, damaged: false, .. }, Some(error)) => {
                self.losses.tell(path.strip_prefix(self.losses.base).unwrap_or(path), in_part(error));
            }
            _ => {}
        }
        self.begin_waiting(true)?;
        if let Open::Entry { damaged, .. } = &mut self.open {
            *damaged = true;
        }
        let mut left = length;
        while left > 0 {
            let zeros = &ZEROS[..left.min(ZEROS.len() as u64) as usize];
            self.data(zeros)?;
            left -= zeros.len() as u64;
        }
        Ok(())
    }
}

/// Walks the snapshot and says step by step what the sink is to get.
fn produce(repo: &Indexed, root: Found, steps: &Steps<'_>, losses: &Losses<'_>, control: &Control) -> Result<(), RepositoryError> {
    let mut streamer = Streamer { repo, path: Vec::new(), lengths: Vec::new(), linked: HashMap::new(), steps, losses, control };
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
    repo: &'a Indexed,
    /// Path of the folder that the walk is in, relative to the root.
    path: Vec<u8>,
    lengths: Vec<usize>,
    /// First paths of files with several names, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    steps: &'a Steps<'s>,
    losses: &'a Losses<'a>,
    control: &'a Control,
}

impl Streamer<'_, '_> {
    fn give(&mut self, path: Vec<u8>, node: Node) -> Result<(), RepositoryError> {
        let mut metadata = node.metadata.clone();
        let is_file = metadata.is_file();
        if is_file {
            // A sink is promised exactly this many bytes; the tree's own number need not be true.
            let lengths = self.lengths_of(&node);
            match lengths.iter().copied().sum() {
                Some(size) if size != metadata.size => {
                    self.losses.tell(&path, format!("its data has {size} bytes, and {} in the snapshot", metadata.size));
                    unfinished(&mut metadata);
                    metadata.size = size;
                }
                Some(_) => {}
                None => return self.give_part(path, metadata, &node, &lengths),
            }
        } else if metadata.is_dir() && node.subtree.is_none() {
            self.losses.tell(&path, "its content is lost: the entry names no tree".to_owned());
        }
        let mut first = None;
        if node.is_linked() {
            let key = (metadata.device, metadata.inode);
            first = self.linked.get(&key).cloned();
            if first.is_none() {
                self.linked.insert(key, path.clone());
            }
        }
        let has_data = is_file && first.is_none();
        if is_file {
            self.losses.progress.event(Event::Expected { entries: 1, bytes: if has_data { metadata.size } else { 0 } });
        }
        self.steps.begin(path, metadata, first)?;
        if has_data {
            self.steps.blobs(&node.content)?;
        }
        self.steps.end()
    }

    /// Bytes of each blob of a file; nothing of one that is lost. Where they do not make up the file, an index may say of one what is
    /// true of another: then only what can be read counts.
    fn lengths_of(&self, node: &Node) -> Vec<Option<u64>> {
        let lengths: Vec<Option<u64>> = node.content.iter().map(|id| self.steps.length(id)).collect();
        if lengths.iter().copied().sum::<Option<u64>>().is_none_or(|size| size == node.metadata.size) {
            return lengths;
        }
        let whole = |id: &Id| if self.control.is_cancelled() { None } else { self.steps.whole_length(id) };
        node.content.iter().map(whole).collect()
    }

    /// Gives what there is of a file with blobs that are lost: what is before the first one of them, and what is after the last one
    /// at its distance from the end.
    fn give_part(&mut self, path: Vec<u8>, mut metadata: Metadata, node: &Node, lengths: &[Option<u64>]) -> Result<(), RepositoryError> {
        let content = &node.content;
        let front = lengths.iter().take_while(|length| length.is_some()).count();
        let back = lengths.len() - lengths.iter().rev().take_while(|length| length.is_some()).count();
        let length = |part: &[Option<u64>]| part.iter().flatten().sum::<u64>();
        let (before, after) = (length(&lengths[..front]), length(&lengths[back..]));
        let lost = |id: &Id| self.steps.lost(id);
        let error = content.get(front).map_or_else(|| RepositoryError::Internal("a blob came back".to_owned()), lost);
        let gap = metadata.size.checked_sub(before).and_then(|rest| rest.checked_sub(after));
        let gap = gap.filter(|gap| *gap <= LONGEST_BLOB.saturating_mul((back - front) as u64));
        let Some(gap) = gap.filter(|_| before + after > 0) else {
            self.losses.tell(&path, format!("not restored: {error}"));
            return Ok(());
        };
        self.losses.tell(&path, in_part(&error));
        self.losses.progress.event(Event::Expected { entries: 1, bytes: metadata.size });
        unfinished(&mut metadata);
        self.steps.begin(path, metadata, None)?;
        self.steps.blobs(&content[..front])?;
        self.steps.zeros(gap)?;
        self.steps.blobs(&content[back..])?;
        self.steps.end()
    }
}

impl Visitor for Streamer<'_, '_> {
    fn entry(&mut self, node: Node) -> Result<bool, RepositoryError> {
        let path = if self.path.is_empty() { node.name.clone() } else { [&self.path, &b"/"[..], &node.name].concat() };
        if let Err(error) = node.check_name() {
            self.losses.tell(&path, format!("left out: {error}"));
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
            let path = [&self.path, &b"/"[..], &unknown.name].concat();
            self.losses.tell(&path, format!("left out: entries of type `{}` are not known", printable(unknown.kind.as_bytes())));
        }
        Ok(())
    }

    fn unreadable(&mut self, error: RepositoryError) -> Result<(), RepositoryError> {
        // Of the folder that was asked for, nothing is left to give.
        if self.lengths.is_empty() || !self.repo.is_lost(&error) {
            return Err(error);
        }
        self.losses.tell(&self.path, format!("its content is lost: {error}"));
        Ok(())
    }

    fn leave(&mut self) -> Result<(), RepositoryError> {
        if let Some(length) = self.lengths.pop() {
            self.path.truncate(length);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
