//! Archiving: sources in, packs, trees, index and one snapshot out (design document, sections "Trees and Data" and
//! "Backups and Deduplication").
//!
//! One worker per core does the whole chain for a file; `feed` walks the source and compares with the parent snapshot,
//! `upload` writes the packs. How entries are read from disk or Docker is `sources`' business.

mod aside;
mod budget;
mod build;
mod feed;
mod held;
mod item;
mod parent;
mod queues;
mod ranges;
mod read;
mod record;
mod shared;
mod upload;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use jiff::tz::TimeZone;
use serde_json::Map;

use self::aside::Room;
use self::budget::Budget;
use self::feed::Feeder;
use self::item::Item;
use self::queues::Queues;
use self::read::FileJob;
use self::shared::{Doubts, Failure, Shared, Stats};
pub use self::upload::Held;
use self::upload::Uploads;
use self::worker::{Packs, Worker};
use super::chunker::Chunker;
use super::codec::Encoder;
use super::file::{self, SnapshotFile, SummaryFile, Time};
use super::id::Id;
use super::state::Indexed;
use super::tree::{self, Node};
use super::writer::INDEX_INTERVAL;
use crate::model::compression::Compression;
use crate::model::entry::{Metadata, Source};
use crate::model::progress::Progress;
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::platform::{clock, host};
use crate::repository::contract::{AddSummary, RepositoryError, SnapshotId, SnapshotRequest, SnapshotSummary, SnapshotWriter};

/// How data is stored.
#[derive(Debug, Clone)]
pub struct Options {
    /// Compression of new blobs.
    pub compression: Compression,
    /// Size in bytes from which a pack is written; 4 MiB to 128 MiB.
    pub pack_size: usize,
    /// Undo every blob's encoding before it is written, and compare.
    pub verify: bool,
    /// What is stored is named in an index at least this often, so that work that is killed was not in vain.
    pub index_interval: Duration,
    /// Bytes of data in memory at once, in packs and in chunks; by default what cores and packs of this size need.
    pub in_flight: Option<usize>,
    /// Bytes of memory for the folders of a stream, which wait for its end; more goes to `scratch`.
    pub held: usize,
    /// Bytes of memory for them where nothing can be written to `scratch`, or too little would stay free there.
    pub held_most: usize,
    /// An existing folder on a disk for what does not fit into memory: in a file without a name, encrypted with the
    /// repository's key. Without one everything stays in memory, however much it is.
    pub scratch: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compression: Compression::Auto,
            pack_size: 16 << 20,
            verify: true,
            index_interval: INDEX_INTERVAL,
            in_flight: None,
            held: 16 << 20,
            held_most: 1 << 30,
            scratch: None,
        }
    }
}

/// A snapshot being written.
pub struct Archive {
    shared: Arc<Shared>,
    request: SnapshotRequest,
    parent: Option<(Id, SnapshotFile)>,
    zone: TimeZone,
    /// The feeder's own hands, and what seals the folders above the added paths.
    worker: Worker,
    /// Closing it ends the workers.
    files: Option<Sender<FileJob>>,
    threads: Vec<JoinHandle<Packs>>,
    root: Folder,
}

/// A folder above the added paths.
#[derive(Default)]
struct Folder {
    metadata: Option<Metadata>,
    children: BTreeMap<Vec<u8>, Child>,
}

enum Child {
    Folder(Box<Folder>),
    Entry(Box<Node>),
}

impl Archive {
    /// Starts the workers. One of the candidates may become the parent. The lock is asked before anything is written.
    ///
    /// # Errors
    /// The parent cannot be found out, or threads cannot be started.
    pub fn start(
        repository: Arc<Indexed>,
        request: SnapshotRequest,
        candidates: Vec<(Id, SnapshotFile)>,
        options: Options,
        control: &Control,
        progress: Arc<dyn Progress>,
        lock: Held,
    ) -> Result<Self, RepositoryError> {
        let parent = parent::choose(candidates, &request);
        let zone = clock::local_zone();
        let failure = Arc::new(Failure::default());
        let workers = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
        let budget = Arc::new(Budget::new(options.in_flight.unwrap_or_else(|| Budget::usual(workers, options.pack_size))));
        let (held, failing) = (Arc::clone(&budget), Arc::clone(&failure));
        let uploads = Uploads::start(Arc::clone(&repository), failing, held, control, lock, options.index_interval, request.dry_run)?;
        let version = repository.open().version();
        let chunker = Arc::new(Chunker::new(repository.open().config().chunker_polynomial));
        let shared = Arc::new(Shared {
            repository,
            chunker,
            control: control.clone(),
            progress,
            uploads,
            budget,
            stats: Stats::default(),
            trees: tree::Encoder::new(zone.clone()),
            doubts: if parent.is_some() { Doubts::default() } else { Doubts::without_parent() },
            room: Room { folder: options.scratch, limit: options.held, most: options.held_most, verify: options.verify },
            dry_run: request.dry_run,
            with_atime: request.with_atime,
            workers,
            idle: std::sync::atomic::AtomicUsize::new(0),
            told_of_attribute: std::sync::atomic::AtomicBool::new(false),
            failure,
        });
        let (share, chunks) = bounded(workers);
        let (returns, spare) = bounded(workers.min(8));
        let (files, jobs) = bounded(64 * workers);
        let queues = Queues { chunks, share, files: jobs, spare, returns };
        let encoder = || Encoder::new(options.compression, version, options.verify).under(control);
        let mut threads = Vec::with_capacity(workers);
        for number in 0..workers {
            let worker = Worker::new(Arc::clone(&shared), queues.clone(), encoder(), options.pack_size);
            let thread = std::thread::Builder::new().name(format!("archive-{number}")).spawn(move || worker.run());
            threads.push(thread.map_err(|error| RepositoryError::Internal(format!("cannot start a thread: {error}")))?);
        }
        let worker = Worker::new(Arc::clone(&shared), queues, encoder(), options.pack_size);
        let root = Folder::default();
        Ok(Self { shared, zone, request, parent, worker, files: Some(files), threads, root })
    }

    fn add_source(&mut self, path: &[u8], mut source: Box<dyn Source>) -> Result<AddSummary, RepositoryError> {
        let Some(files) = self.files.clone() else {
            return Err(RepositoryError::Internal("a snapshot was added to after its end".into()));
        };
        let item = Arc::new(Item::new(path.to_vec(), self.shared.control.begin_item()));
        let unreadable = |folder: &[u8], error: &RepositoryError| self.shared.doubts.begin(&item, folder, error);
        let before = self.parent.as_ref().and_then(|(_, file)| parent::find(&self.shared.repository, file.tree, path, unreadable));
        let root = Feeder::new(&mut self.worker, &files, Arc::clone(&item)).run(&mut *source, before)?;
        if let Some(node) = root {
            self.root.insert(path, node)?;
        }
        self.shared.stats.add(&item.stats);
        Ok(item.summary())
    }

    /// Ends the workers, gathers the packs they left, and waits until everything is stored and named by an index.
    fn drain(&mut self) -> Result<(), RepositoryError> {
        self.files.take();
        for thread in std::mem::take(&mut self.threads) {
            let packs = thread.join().map_err(|_| RepositoryError::Internal("a worker of the backup panicked".into()))?;
            self.worker.absorb(packs)?;
        }
        self.worker.flush()?;
        self.shared.uploads.finish()?;
        self.shared.check()
    }

    fn seal(&mut self, tags: Vec<String>) -> Result<(Option<SnapshotId>, SnapshotSummary), RepositoryError> {
        self.shared.check()?;
        self.shared.control.checkpoint()?;
        let item = Item::new(b"/".to_vec(), self.shared.control.begin_item());
        let root = std::mem::take(&mut self.root);
        let tree = root.store(&mut self.worker, &item)?;
        self.drain()?;
        let summary = self.shared.stats.summary();
        if self.shared.dry_run {
            return Ok((None, summary));
        }
        // The last moment at which a cancelled run leaves no snapshot.
        self.shared.control.checkpoint()?;
        let json = file::to_json(&self.snapshot(tree, tags, &summary))
            .map_err(|error| RepositoryError::Internal(format!("a snapshot cannot be encoded: {error}")))?;
        let id = self.shared.uploads.write_snapshot(&json)?;
        Ok((Some(SnapshotId(id.to_string())), summary))
    }
}

impl Archive {
    fn snapshot(&self, tree: Id, more_tags: Vec<String>, summary: &SnapshotSummary) -> SnapshotFile {
        let request = &self.request;
        let time = |instant| Time::in_zone(instant, &self.zone);
        let mut tags = request.tags.clone();
        tags.extend(more_tags);
        SnapshotFile {
            time: time(request.time),
            parent: self.parent.as_ref().map(|(id, _)| *id),
            tree,
            paths: request.paths.clone(),
            hostname: request.host.clone(),
            username: host::username(),
            uid: host::uid(),
            gid: host::gid(),
            excludes: request.excludes.clone(),
            tags,
            original: None,
            program_version: concat!("bbackup ", env!("CARGO_PKG_VERSION")).to_owned(),
            summary: Some(SummaryFile {
                backup_start: time(request.time),
                backup_end: time(clock::now()),
                files_new: summary.files_new,
                files_changed: summary.files_changed,
                files_unmodified: summary.files_unmodified,
                dirs_new: summary.dirs_new,
                dirs_changed: summary.dirs_changed,
                dirs_unmodified: summary.dirs_unmodified,
                data_blobs: summary.data_blobs,
                tree_blobs: summary.tree_blobs,
                data_added: summary.data_added,
                data_added_packed: summary.data_added_packed,
                total_files_processed: summary.total_files_processed,
                total_bytes_processed: summary.total_bytes_processed,
                more: Map::default(),
            }),
            more: Map::default(),
        }
    }
}

impl SnapshotWriter for Archive {
    fn add(&mut self, path: &[u8], source: Box<dyn Source>) -> Result<AddSummary, RepositoryError> {
        let added = self.add_source(path, source);
        added.map_err(|error| self.shared.failure().prefer(error))
    }

    fn add_bytes(&mut self, path: &[u8], bytes: &[u8]) -> Result<(), RepositoryError> {
        let item = Item::new(path.to_vec(), self.shared.control.begin_item());
        let content = self.worker.store_data(bytes, &item).map_err(|error| self.shared.failure().prefer(error))?;
        let size = bytes.len() as u64;
        self.worker.file_done(&item, path, size, crate::model::progress::FileOutcome::New);
        self.shared.stats.add(&item.stats);
        self.root.insert(path, Node { name: Vec::new(), metadata: Metadata::virtual_file(size), content, subtree: None })
    }

    fn describe_directory(&mut self, path: &[u8], metadata: Metadata) {
        if let Ok(folder) = self.root.folder(path) {
            folder.metadata = Some(metadata);
        }
    }

    fn finish(mut self: Box<Self>, tags: Vec<String>) -> Result<(Option<SnapshotId>, SnapshotSummary), RepositoryError> {
        let sealed = self.seal(tags);
        sealed.map_err(|error| self.shared.failure().prefer(error))
    }
}

impl Drop for Archive {
    /// What was stored before a cancel or a failure is named by an index, so that the next run finds it.
    fn drop(&mut self) {
        let is_drained = self.files.is_some() && !self.shared.failure().is_set() && self.drain().is_ok();
        if !is_drained {
            self.files.take();
            for thread in std::mem::take(&mut self.threads) {
                drop(thread.join());
            }
            drop(self.shared.uploads.finish());
        }
    }
}

impl Folder {
    /// The folder at `path`, made where it is missing.
    fn folder(&mut self, path: &[u8]) -> Result<&mut Self, RepositoryError> {
        let mut folder = self;
        for name in components(path) {
            let child = folder.children.entry(name.to_vec()).or_insert_with(|| Child::Folder(Box::default()));
            folder = match child {
                Child::Folder(next) => next,
                Child::Entry(_) => return Err(occupied(path)),
            };
        }
        Ok(folder)
    }

    /// Puts a node at `path`.
    fn insert(&mut self, path: &[u8], node: Node) -> Result<(), RepositoryError> {
        let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let name = path[end..].strip_prefix(b"/").unwrap_or(&path[end..]).to_vec();
        if name.is_empty() {
            return self.insert_root(node);
        }
        let folder = self.folder(&path[..end])?;
        if folder.children.contains_key(&name) {
            return Err(occupied(path));
        }
        folder.children.insert(name.clone(), Child::Entry(Box::new(Node { name, ..node })));
        Ok(())
    }

    /// The added path was `/` itself: its tree is the snapshot's.
    fn insert_root(&mut self, node: Node) -> Result<(), RepositoryError> {
        if !self.children.is_empty() {
            return Err(occupied(b"/"));
        }
        self.children.insert(Vec::new(), Child::Entry(Box::new(node)));
        Ok(())
    }

    /// Stores this folder's tree and all below it.
    fn store(self, worker: &mut Worker, item: &Item) -> Result<Id, RepositoryError> {
        let mut nodes = Vec::with_capacity(self.children.len());
        for (name, child) in self.children {
            nodes.push(match child {
                Child::Entry(node) => match node.subtree {
                    Some(tree) if name.is_empty() => return Ok(tree),
                    _ => *node,
                },
                Child::Folder(mut folder) => {
                    let metadata = folder.metadata.take().unwrap_or_else(Metadata::virtual_directory);
                    Node { name, metadata, content: Vec::new(), subtree: Some(folder.store(worker, item)?) }
                }
            });
        }
        worker.store_tree(nodes, item)
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
}

fn occupied(path: &[u8]) -> RepositoryError {
    RepositoryError::Internal(format!("`{}` was added to the snapshot twice", printable(path)))
}

#[cfg(test)]
mod tests;
