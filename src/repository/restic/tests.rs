//! The engine as a whole against a simple model of it: whatever fails and whenever it ends, nothing that a snapshot needs is lost.
//!
//! What a single verb does is tested beside it.

#![expect(clippy::unwrap_used, reason = "tests")]

mod cached;
mod faults;
mod history;
mod parsers;
mod stopped;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use std::{fs, io};

use super::archive::Options;
use super::codec::BlobKind;
use super::facade::{Locking, ResticRepository};
use super::id::Id;
use super::lock::{self, LockTimes};
use super::reader;
use super::state::Open;
use super::state::testing::{by_way_of, over};
use super::writer::INDEX_INTERVAL;
use crate::model::compression::Compression;
use crate::model::entry::{Content, Entry, Kind, Metadata, Source, Step, Timestamp};
use crate::model::progress::Silent;
use crate::platform::control::Control;
use crate::repository::backend::testing::MemoryBackend;
use crate::repository::backend::{Backend, FileKind};
use crate::repository::contract::prune::{MaxUnused, PruneRequest};
use crate::repository::contract::{ReadData, Repository, RepositoryError, SnapshotId, SnapshotRequest};

/// Small, so that a few files make several packs.
const OPTIONS: Options = Options {
    compression: Compression::Auto,
    pack_size: 6000,
    verify: true,
    index_interval: INDEX_INTERVAL,
    in_flight: None,
    held: 16 << 20,
    held_most: usize::MAX,
    scratch: None,
};
const TIMES: LockTimes = LockTimes {
    refresh: Duration::from_mins(5),
    lost: Duration::from_mins(22),
    stale: Duration::from_mins(30),
    settle: Duration::ZERO,
    reread: Duration::from_millis(1),
    retry: Duration::from_millis(1),
    retry_most: Duration::from_millis(1),
    tick: Duration::from_secs(1),
};

/// What is in a folder: contents by path, which may lead through folders.
type Files = BTreeMap<String, Vec<u8>>;

/// Random numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }
}

/// One of so many contents that there are; they do not compress.
fn content(number: usize) -> Vec<u8> {
    let mut dice = Dice::new(number as u64 + 1);
    (0..200 + number * 37 % 3000).map(|_| dice.roll(256) as u8).collect()
}

fn some_files(dice: &mut Dice) -> Files {
    let name = |dice: &mut Dice| format!("{}/{}", ["a", "a/b", "c"][dice.roll(3)], dice.roll(6));
    (0..=dice.roll(6)).map(|_| (name(dice), content(dice.roll(30)))).collect()
}

struct Script(VecDeque<Entry>);

impl Source for Script {
    fn next_step(&mut self) -> io::Result<Step> {
        Ok(self.0.pop_front().map_or(Step::End, Step::Entry))
    }
}

/// A file of this machine with this content, the same one whenever it is asked for: a snapshot after the first one finds it unchanged.
fn on_disk(data: &[u8]) -> PathBuf {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    static WRITING: Mutex<()> = Mutex::new(());
    let path = FOLDER.path().join(Id::of(data).to_string());
    let _one = WRITING.lock();
    if !path.exists() {
        fs::write(&path, data).unwrap();
    }
    path
}

/// As a walk gives it.
fn of_a_disk(path: String, data: &[u8]) -> Entry {
    let source = on_disk(data);
    let stat = fs::metadata(&source).unwrap();
    let time = |secs, nanos: i64| Timestamp { secs, nanos: nanos as u32 };
    let mut metadata = Metadata::virtual_file(data.len() as u64);
    (metadata.inode, metadata.device) = (stat.ino(), stat.dev());
    (metadata.mtime, metadata.ctime) = (time(stat.mtime(), stat.mtime_nsec()), time(stat.ctime(), stat.ctime_nsec()));
    Entry { path: path.into(), metadata, content: Content::File(source) }
}

/// The folder with these files, each folder before what is in it. Some come from a stream, some from a disk.
fn script(files: &Files) -> Box<dyn Source> {
    let mut paths: BTreeMap<String, Option<&Vec<u8>>> = BTreeMap::from([(String::new(), None)]);
    for (path, data) in files {
        for (end, _) in path.match_indices('/') {
            paths.insert(path[..end].to_owned(), None);
        }
        paths.insert(path.clone(), Some(data));
    }
    // In tree order, `a/b` comes before `a-b`.
    let mut sorted: Vec<_> = paths.into_iter().collect();
    sorted.sort_by_key(|(path, _)| path.split('/').map(str::to_owned).collect::<Vec<_>>());
    let entry = |(path, data): (String, Option<&Vec<u8>>)| match data {
        Some(data) if data.len() % 2 == 0 => of_a_disk(path, data),
        Some(data) => {
            Entry { path: path.into(), metadata: Metadata::virtual_file(data.len() as u64), content: Content::Bytes(data.clone()) }
        }
        None => Entry { path: path.into(), metadata: Metadata::virtual_directory(), content: Content::None },
    };
    Box::new(Script(sorted.into_iter().map(entry).collect()))
}

/// A repository in memory, and what must be in it.
struct World {
    memory: Arc<MemoryBackend>,
    open: Open,
    snapshots: BTreeMap<SnapshotId, Files>,
    /// The time of the next snapshot.
    clock: i64,
}

fn repository(open: &Open, backend: Arc<dyn Backend>) -> ResticRepository {
    ResticRepository::new(by_way_of(open, backend), OPTIONS, Locking::Retry(Duration::ZERO)).with_lock_times(TIMES)
}

fn back_up(repository: &dyn Repository, files: &Files, clock: i64) -> Result<SnapshotId, RepositoryError> {
    let request = SnapshotRequest {
        time: jiff::Timestamp::from_second(1_700_000_000 + clock).unwrap(),
        host: "host".into(),
        paths: vec!["/data".into()],
        tags: Vec::new(),
        excludes: Vec::new(),
        ignore_parent: false,
        parent: None,
        with_atime: false,
        dry_run: false,
    };
    let mut writer = repository.write_snapshot(request, &Control::new(), Arc::new(Silent))?;
    let added = writer.add(b"/data", script(files))?;
    assert_eq!(added.problem_count, 0);
    Ok(writer.finish(Vec::new())?.0.unwrap())
}

fn prune(repository: &dyn Repository, request: &PruneRequest) -> Result<(), RepositoryError> {
    repository.prune(request, &Control::new(), Arc::new(Silent)).map(|_| ())
}

fn full_prune() -> PruneRequest {
    PruneRequest { max_unused: MaxUnused::Bytes(0), ..PruneRequest::default() }
}

impl World {
    fn new() -> Self {
        let memory = Arc::new(MemoryBackend::new());
        Self { open: over(memory.clone(), 2), memory, snapshots: BTreeMap::new(), clock: 0 }
    }

    /// The same again, which may go its own way.
    fn fork(&self) -> Self {
        let memory = Arc::new(self.memory.duplicate());
        Self { open: by_way_of(&self.open, memory.clone()), memory, snapshots: self.snapshots.clone(), clock: self.clock }
    }

    fn repository(&self) -> ResticRepository {
        repository(&self.open, self.memory.clone())
    }

    fn back_up(&mut self, files: Files) {
        self.clock += 1;
        let id = back_up(&self.repository(), &files, self.clock).unwrap();
        self.snapshots.insert(id, files);
    }

    /// What others do when a process has died.
    fn bury(&self) {
        lock::unlock(&self.open, true).unwrap();
    }

    /// Asserts that the snapshots are those of the model, and everything in them is there.
    #[track_caller]
    fn assert_whole(&self, when: &str) {
        let repository = self.repository();
        let summary = repository.check(ReadData::All, &Control::new(), Arc::new(Silent)).unwrap();
        assert_eq!(summary.errors, Vec::<String>::new(), "{when}");
        let listed: BTreeSet<SnapshotId> = repository.snapshots().unwrap().into_iter().map(|snapshot| snapshot.id).collect();
        assert_eq!(listed, self.snapshots.keys().cloned().collect(), "{when}");
        self.assert_restores(when);
    }

    #[track_caller]
    fn assert_restores(&self, when: &str) {
        let repository = self.repository();
        for (id, files) in &self.snapshots {
            assert_eq!(read(&repository, id), *files, "{when}: snapshot {id}");
        }
    }

    /// Asserts that what no snapshot needs is gone: the index has each blob once, and there are no other packs.
    #[track_caller]
    fn assert_nothing_unused(&self, when: &str) {
        let repo = self.open.clone().into_indexed().unwrap();
        let data: BTreeSet<Id> = self.snapshots.values().flat_map(BTreeMap::values).map(|data| Id::of(data)).collect();
        let mut trees = BTreeSet::new();
        let mut waiting: Vec<Id> = self.open.snapshots().unwrap().into_iter().map(|(_, snapshot)| snapshot.tree).collect();
        while let Some(tree) = waiting.pop() {
            if trees.insert(tree) {
                waiting.extend(reader::load_tree(&repo, &tree).unwrap().nodes.iter().filter_map(|node| node.subtree));
            }
        }
        let of =
            |kind: BlobKind| -> Vec<Id> { repo.index().blobs().filter(|(_, blob)| blob.kind == kind).map(|(_, blob)| blob.id).collect() };
        assert_eq!(of(BlobKind::Data), data.into_iter().collect::<Vec<_>>(), "{when}");
        assert_eq!(of(BlobKind::Tree), trees.into_iter().collect::<Vec<_>>(), "{when}");
        let named: BTreeSet<String> = repo.index().packs().map(|pack| pack.id.to_string()).collect();
        assert_eq!(named, self.memory.names(FileKind::Pack).into_iter().collect(), "{when}");
        assert_eq!(self.memory.names(FileKind::Lock), Vec::<String>::new(), "{when}");
    }
}

/// Everything in a snapshot.
#[track_caller]
fn read(repository: &dyn Repository, id: &SnapshotId) -> Files {
    let mut paths = Vec::new();
    let mut visit = |listed: crate::repository::contract::Listed| {
        if listed.metadata.kind == Kind::File {
            paths.push(listed.path);
        }
        ControlFlow::Continue(())
    };
    repository.list(id, b"/data", true, &mut visit).unwrap();
    let name = |path: &[u8]| String::from_utf8(path.strip_prefix(b"/data/").unwrap().to_vec()).unwrap();
    let dump = |path: &Vec<u8>| {
        let mut data = Vec::new();
        repository.dump(id, path, &mut data).unwrap();
        data
    };
    paths.iter().map(|path| (name(path), dump(path))).collect()
}
