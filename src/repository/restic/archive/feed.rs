//! The feeder: takes the entries of a source in tree order, compares them with the parent snapshot, and hands files to the
//! workers.
//!
//! Folders of a stream are sealed only at its end: how they wait for it is `held`'s business.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;

use super::build::{Dir, FileInProgress};
use super::held::{Held, split};
use super::item::Item;
use super::parent::ParentTree;
use super::read::{FileJob, State};
use super::worker::Worker;
use crate::model::entry::{Content, Entry, Metadata, Source, Step};
use crate::model::progress::{Event, FileOutcome};
use crate::model::text::printable;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::reader::{self, SAVED_DEPTH};
use crate::repository::restic::tree::Node;

/// One source on its way into the repository.
pub(super) struct Feeder<'a> {
    /// The feeder's own hands: streams are cut and folders sealed here.
    pub(super) worker: &'a mut Worker,
    pub(super) files: &'a Sender<FileJob>,
    pub(super) item: Arc<Item>,
    /// Holds the root's node.
    cradle: Arc<Dir>,
    /// The folders that are open, the root first.
    open: Vec<Frame>,
    /// Folders of a stream that are sealed at its end.
    held: Held,
    root_seen: bool,
}

struct Frame {
    dir: Arc<Dir>,
    path: Vec<u8>,
    last_name: Vec<u8>,
    parent: ParentTree,
}

impl<'a> Feeder<'a> {
    pub(super) fn new(worker: &'a mut Worker, files: &'a Sender<FileJob>, item: Arc<Item>) -> Self {
        let cradle = Dir::new(None, Arc::clone(&item), None);
        let held = Held::new(worker.shared.room.clone());
        Self { worker, files, item, cradle, open: Vec::new(), held, root_seen: false }
    }

    /// Archives everything that the source gives and returns the root's node. `before` is the same path's node in the parent
    /// snapshot.
    pub(super) fn run(mut self, source: &mut dyn Source, before: Option<Node>) -> Result<Option<Node>, RepositoryError> {
        let fed = self.feed(source, before);
        let item = Arc::clone(&self.item);
        // Also after a failure of the source no worker may be left reading it.
        let settled = self.settle();
        fed?;
        settled?;
        item.control.checkpoint()?;
        self.held.join_links(self.worker, &item)?;
        for dir in self.held.into_dirs() {
            self.worker.release(&dir)?;
        }
        self.worker.release(&self.cradle)?;
        self.worker.shared.failure().wait(|| item.complete.load(Ordering::Acquire) || item.control.is_skipped())?;
        item.control.checkpoint()?;
        Ok(self.cradle.child(0))
    }

    /// Waits until all files that were handed to workers are complete.
    fn settle(&self) -> Result<(), RepositoryError> {
        self.worker.shared.failure().wait(|| self.item.jobs.load(Ordering::Acquire) == 0)
    }

    fn feed(&mut self, source: &mut dyn Source, mut before: Option<Node>) -> Result<(), RepositoryError> {
        loop {
            self.item.control.checkpoint()?;
            self.worker.shared.check()?;
            match source.next_step().map_err(|error| self.lost(error))? {
                Step::Entry(entry) => self.entry(entry, &mut before)?,
                Step::Problem(problem) => self.unreadable(&problem.path, &problem.error),
                Step::End => break,
            }
        }
        while let Some(frame) = self.open.pop() {
            self.close(frame)?;
        }
        Ok(())
    }

    fn unreadable(&self, path: &[u8], error: &io::Error) {
        let path = self.item.full_path(path);
        // It may be about an entry that the parent snapshot has.
        for frame in &self.open {
            frame.dir.note_difference();
        }
        self.item.unreadable(&path, error);
        self.worker.shared.progress.event(Event::Problem { path: &path, message: &error.to_string() });
    }

    /// Whether an entry lies too deep to be read again. The folders that do are told, and not what is in them.
    fn is_too_deep(&self, entry: &Entry) -> bool {
        let above = reader::components(&self.item.path).count() + reader::components(&entry.path).count();
        if above == SAVED_DEPTH && entry.metadata.is_dir() {
            let message = format!("it lies in {} folders: deeper ones cannot be followed", above - 1);
            self.unreadable(&entry.path, &io::Error::other(message));
        }
        above > SAVED_DEPTH || (above == SAVED_DEPTH && entry.metadata.is_dir())
    }

    fn entry(&mut self, entry: Entry, root_before: &mut Option<Node>) -> Result<(), RepositoryError> {
        if self.is_too_deep(&entry) {
            return Ok(());
        }
        let (folder, name) = split(&entry.path);
        let (dir, before) = if entry.path.is_empty() {
            if std::mem::replace(&mut self.root_seen, true) {
                return Err(self.lost(io::Error::other("the root was given twice")));
            }
            (Arc::clone(&self.cradle), root_before.take())
        } else {
            while self.open.last().is_some_and(|frame| frame.path != folder) {
                if let Some(frame) = self.open.pop() {
                    self.close(frame)?;
                }
            }
            let (shared, item) = (&self.worker.shared, &self.item);
            let Some(frame) = self.open.last_mut() else {
                return Err(self.lost(out_of_order(&entry.path)));
            };
            if name <= frame.last_name.as_slice() {
                return Err(self.lost(out_of_order(&entry.path)));
            }
            frame.last_name = name.to_vec();
            let unreadable = |error: &RepositoryError| shared.doubts.begin(item, &item.full_path(&frame.path), error);
            let before = frame.parent.child(&shared.repository, name, unreadable);
            (Arc::clone(&frame.dir), before)
        };
        self.place(dir, name.to_vec(), entry, before)
    }

    /// Puts one entry into its folder.
    fn place(&mut self, dir: Arc<Dir>, name: Vec<u8>, entry: Entry, before: Option<Node>) -> Result<(), RepositoryError> {
        let Entry { path, mut metadata, content } = entry;
        if !self.worker.shared.with_atime {
            metadata.atime = metadata.mtime;
        }
        self.look_at_attributes(&path, &metadata);
        let is_dir = metadata.is_dir();
        let mut node = Node { name, metadata, content: Vec::new(), subtree: None };
        let has_data = matches!(content, Content::File(_));
        if !before.as_ref().is_some_and(|before| node.is_described_as(before) && (has_data || before.content.is_empty())) {
            dir.note_difference();
        }
        if is_dir {
            self.item.entries.fetch_add(1, Ordering::Relaxed);
            let before = before.and_then(|node| node.subtree);
            let index = dir.push_pending(node);
            let dir = Dir::new(Some((dir, index)), Arc::clone(&self.item), before);
            self.open.push(Frame { dir, path, last_name: Vec::new(), parent: ParentTree::new(before) });
            return Ok(());
        }
        if !matches!(content, Content::None | Content::File(_)) {
            dir.note_difference();
        }
        match content {
            Content::None if node.metadata.is_file() && node.metadata.size > 0 => {
                return Err(self.lost(io::Error::other(format!("`{}` came without its data", printable(&path)))));
            }
            Content::None => {
                self.item.entries.fetch_add(1, Ordering::Relaxed);
                dir.push(node);
            }
            Content::File(source) => self.place_file(dir, node, source, &path, before)?,
            Content::Bytes(bytes) => {
                let size = bytes.len() as u64;
                node.metadata.size = size;
                node.content = self.worker.store_data(&bytes, &self.item)?;
                dir.push(node);
                self.worker.shared.progress.event(Event::Bytes(size));
                self.worker.file_done(&self.item, &self.item.full_path(&path), size, outcome(before.as_ref()));
                // Empty files of a stream come so, and hard links may name them too.
                self.held.expect_links();
            }
            Content::Stream(mut reader) => {
                let full_path = self.item.full_path(&path);
                self.worker.shared.progress.event(Event::FileStarted { path: &full_path });
                let announced = node.metadata.size;
                let index = dir.push_pending(node);
                self.held.expect_links();
                let file = Arc::new(FileInProgress::new(Arc::clone(&dir), index));
                let size = self.worker.stream(&mut *reader, &file, &dir)?.map_err(|error| self.lost(error))?;
                if size != announced {
                    let text = format!("`{}` has {size} bytes instead of {announced}", printable(&full_path));
                    return Err(self.lost(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
                }
                self.worker.finish_chunk(&file)?;
                self.worker.file_done(&self.item, &full_path, size, outcome(before.as_ref()));
            }
            Content::HardLink(target) => {
                let index = dir.push(node);
                self.held.link(dir, index, target);
            }
        }
        Ok(())
    }

    /// The format has no place for names of extended attributes that are not UTF-8. Told once: whoever sets one sets many.
    fn look_at_attributes(&self, path: &[u8], metadata: &Metadata) {
        let odd = metadata.xattrs.iter().find(|xattr| std::str::from_utf8(&xattr.name).is_err());
        if let Some(xattr) = odd.filter(|_| !self.worker.shared.told_of_attribute.swap(true, Ordering::Relaxed)) {
            let message = format!(
                "the extended attribute `{}` has a name that is not UTF-8, which the format cannot hold: it is saved with U+FFFD in its place, here and wherever else",
                printable(&xattr.name)
            );
            self.item.warn(&self.item.full_path(path), &message);
        }
    }

    /// A file of this machine: taken from the parent snapshot if it is unchanged, else handed to the workers.
    fn place_file(&self, dir: Arc<Dir>, mut node: Node, source: PathBuf, path: &[u8], before: Option<Node>) -> Result<(), RepositoryError> {
        let path = self.item.full_path(path);
        let outcome = outcome(before.as_ref());
        if let Some(before) = before.filter(|before| self.is_unchanged(&node, before)) {
            let size = node.metadata.size;
            node.content = before.content;
            dir.push(node);
            self.item.bytes_unread.fetch_add(size, Ordering::Relaxed);
            self.worker.shared.progress.event(Event::Bytes(size));
            self.worker.file_done(&self.item, &path, size, FileOutcome::Unchanged);
            return Ok(());
        }
        let seen = State { size: node.metadata.size, mtime: node.metadata.mtime, ctime: node.metadata.ctime };
        dir.note_difference();
        let identity = (node.metadata.inode != 0).then_some((node.metadata.device, node.metadata.inode));
        let index = dir.push_pending(node);
        self.item.jobs.fetch_add(1, Ordering::Relaxed);
        let job = FileJob { dir, index, source, path, seen, identity, outcome };
        self.files.send(job).map_err(|_| RepositoryError::Internal("the workers of the backup have ended".into()))
    }

    fn close(&mut self, mut frame: Frame) -> Result<(), RepositoryError> {
        if !frame.parent.was_all_asked_for() {
            frame.dir.note_difference();
        }
        if !self.held.expects_links() {
            return self.worker.release(&frame.dir);
        }
        self.held.push(frame.dir, frame.path);
        if self.held.is_too_large() {
            self.settle()?;
            self.held.put_aside(&self.worker.shared.repository)?;
        }
        Ok(())
    }

    /// Whether a file is as the parent snapshot has it, and the repository still has all of its content.
    fn is_unchanged(&self, node: &Node, before: &Node) -> bool {
        let (now, then) = (&node.metadata, &before.metadata);
        let same = then.is_file()
            && now.size == then.size
            && now.mtime == then.mtime
            && now.ctime == then.ctime
            && now.inode == then.inode
            && now.inode != 0;
        let index = self.worker.shared.repository.index();
        same && before.content.iter().all(|id| index.contains(BlobKind::Data, id))
    }

    fn lost(&self, source: io::Error) -> RepositoryError {
        RepositoryError::Source { path: printable(&self.item.path), source }
    }
}

fn outcome(before: Option<&Node>) -> FileOutcome {
    if before.is_some() { FileOutcome::Changed } else { FileOutcome::New }
}

fn out_of_order(path: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`{}` came out of order", printable(path)))
}
