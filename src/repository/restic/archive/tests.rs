//! What was archived is read back blob by blob, without the verbs that restore and check.

#![expect(clippy::unwrap_used, reason = "tests")]

mod in_flight;
mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::model::entry::{Content, Entry, Kind, Step, Timestamp, Xattr};
use crate::model::progress::{Event, Silent};
use crate::platform::secret::Secret;
use crate::repository::backend::FileKind;
use crate::repository::backend::testing::MemoryBackend;
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::reader::SAVED_DEPTH;
use crate::repository::restic::state::{Closed, InitOptions};

struct Script(VecDeque<io::Result<Step>>);

impl Source for Script {
    fn next_step(&mut self) -> io::Result<Step> {
        self.0.pop_front().unwrap_or(Ok(Step::End))
    }
}

fn script(entries: Vec<Entry>) -> Box<dyn Source> {
    Box::new(Script(entries.into_iter().map(|entry| Ok(Step::Entry(entry))).collect()))
}

fn entry(path: &str, kind: Kind, size: u64, content: Content) -> Entry {
    let mut metadata = if kind == Kind::Directory { Metadata::virtual_directory() } else { Metadata::virtual_file(size) };
    metadata.kind = kind;
    Entry { path: path.into(), metadata, content }
}

fn dir(path: &str) -> Entry {
    entry(path, Kind::Directory, 0, Content::None)
}

fn bytes(path: &str, data: &[u8]) -> Entry {
    entry(path, Kind::File, data.len() as u64, Content::Bytes(data.to_vec()))
}

fn stream(path: &str, data: &[u8]) -> Entry {
    entry(path, Kind::File, data.len() as u64, Content::Stream(Box::new(io::Cursor::new(data.to_vec()))))
}

fn on_disk(path: &str, file: &Path) -> Entry {
    use std::os::unix::fs::MetadataExt;
    let stat = fs::metadata(file).unwrap();
    let mut found = entry(path, Kind::File, stat.len(), Content::File(file.to_owned()));
    found.metadata.mtime = Timestamp { secs: stat.mtime(), nanos: stat.mtime_nsec() as u32 };
    found.metadata.ctime = Timestamp { secs: stat.ctime(), nanos: stat.ctime_nsec() as u32 };
    found.metadata.inode = stat.ino();
    found
}

/// Bytes that neither compress nor repeat.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    out.truncate(length);
    out
}

struct Bench {
    backend: Arc<MemoryBackend>,
    control: Control,
}

impl Bench {
    fn new() -> Self {
        let backend = Arc::new(MemoryBackend::new());
        Closed::new(backend.clone()).init(&password(), InitOptions::default()).unwrap();
        Self { backend, control: Control::new() }
    }

    fn repository(&self) -> Arc<Indexed> {
        Arc::new(Closed::new(self.backend.clone()).open(&password()).unwrap().into_indexed().unwrap())
    }

    /// Each later than the one before.
    fn request() -> SnapshotRequest {
        static SECONDS: AtomicUsize = AtomicUsize::new(0);
        SnapshotRequest {
            time: jiff::Timestamp::from_second(SECONDS.fetch_add(1, Ordering::Relaxed) as i64).unwrap(),
            host: "h".into(),
            paths: vec!["/x".into()],
            tags: Vec::new(),
            excludes: Vec::new(),
            ignore_parent: false,
            parent: None,
            with_atime: false,
            dry_run: false,
        }
    }

    fn start(&self) -> Result<Archive, RepositoryError> {
        self.start_with(Self::request(), Arc::new(Silent))
    }

    fn start_with(&self, request: SnapshotRequest, progress: Arc<dyn Progress>) -> Result<Archive, RepositoryError> {
        Archive::start(
            self.repository(),
            request,
            self.repository().open().snapshots().unwrap(),
            Options::default(),
            &self.control,
            progress,
            None,
        )
    }

    /// Archives one source and gives what the snapshot says.
    fn archive(&self, source: Box<dyn Source>) -> (SnapshotSummary, AddSummary) {
        let mut archive = self.start().unwrap();
        let added = archive.add(b"/x", source).unwrap();
        (Box::new(archive).finish(Vec::new()).unwrap().1, added)
    }

    /// Every file of the latest snapshot with its data, and every other entry with its kind.
    fn contents(&self) -> BTreeMap<String, (Vec<u8>, Metadata)> {
        let repository = self.repository();
        let (_, file) = repository.open().snapshots().unwrap().into_iter().max_by_key(|(_, file)| file.time.instant).unwrap();
        let mut found = BTreeMap::new();
        walk(&repository, file.tree, "", &mut found);
        found
    }

    fn snapshots(&self) -> usize {
        self.backend.names(FileKind::Snapshot).len()
    }
}

fn walk(repository: &Indexed, tree: Id, prefix: &str, found: &mut BTreeMap<String, (Vec<u8>, Metadata)>) {
    let mut json = Vec::new();
    repository.read_blob(BlobKind::Tree, &tree, &mut json).unwrap();
    for node in tree::parse(&json).unwrap().nodes {
        let path = format!("{prefix}/{}", String::from_utf8_lossy(&node.name));
        let mut data = Vec::new();
        for id in &node.content {
            let mut blob = Vec::new();
            repository.read_blob(BlobKind::Data, id, &mut blob).unwrap();
            data.extend_from_slice(&blob);
        }
        found.insert(path.clone(), (data, node.metadata));
        if let Some(tree) = node.subtree {
            walk(repository, tree, &path, found);
        }
    }
}

fn password() -> Secret<String> {
    Secret::new("secret".into())
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let bench = Bench::new();
    let large = noise(30 << 20, 1);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("large"), &large).unwrap();
    fs::write(folder.path().join("small"), b"small").unwrap();
    let link = entry("d/l", Kind::Symlink { target: b"../nowhere".to_vec() }, 0, Content::None);
    let (summary, added) = bench.archive(script(vec![
        dir(""),
        bytes("a", b"alpha"),
        dir("d"),
        on_disk("d/e", &folder.path().join("large")),
        link,
        dir("d/sub"),
        on_disk("d/sub/deep", &folder.path().join("small")),
        on_disk("e", &folder.path().join("large")),
        bytes("empty", b""),
    ]));
    let found = bench.contents();
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        ["/x", "/x/a", "/x/d", "/x/d/e", "/x/d/l", "/x/d/sub", "/x/d/sub/deep", "/x/e", "/x/empty"]
    );
    assert_eq!(found["/x/a"].0, b"alpha");
    assert!(found["/x/d/e"].0 == large && found["/x/e"].0 == large);
    assert_eq!(found["/x/d/sub/deep"].0, b"small");
    assert_eq!(found["/x/d/l"].1.kind, Kind::Symlink { target: b"../nowhere".to_vec() });
    assert_eq!(summary.files_new, 5);
    assert_eq!((added.entries, added.bytes), (9, 2 * (30 << 20) + 10));
    // The file that is there twice was stored once.
    assert!(summary.data_added < 31 << 20, "{}", summary.data_added);
}

#[test]
fn unchanged_files_are_not_read() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        fs::write(folder.path().join(name), noise(700_000, name.len() as u64 + u64::from(name.as_bytes()[0]))).unwrap();
    }
    let source = || script(vec![dir(""), on_disk("one", &folder.path().join("one")), on_disk("two", &folder.path().join("two"))]);
    let (first, _) = bench.archive(source());
    assert_eq!((first.files_new, first.dirs_new), (2, 1));
    let (second, added) = bench.archive(source());
    assert_eq!((second.files_unmodified, second.dirs_unmodified, second.data_blobs, second.tree_blobs), (2, 1, 0, 0));
    assert_eq!(added.bytes_unread, 1_400_000);
    fs::write(folder.path().join("two"), b"other").unwrap();
    let (third, added) = bench.archive(source());
    assert_eq!((third.files_unmodified, third.files_changed, third.dirs_changed), (1, 1, 1));
    assert_eq!(added.bytes_unread, 700_000);
    assert_eq!(bench.contents()["/x/two"].0, b"other");
}

#[test]
fn a_large_file_is_cut_alike_by_one_worker_and_by_many() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    let data = [noise(7_000_000, 1), vec![0; 3_000_000], noise(4_100_000, 2), vec![1; 9_000_000], noise(777, 3)].concat();
    fs::write(&path, &data).unwrap();
    bench.archive(script(vec![dir(""), on_disk("large", &path)]));
    let repository = bench.repository();
    let chunker = Chunker::new(repository.open().config().chunker_polynomial);
    let (mut rest, mut expected) = (&data[..], Vec::new());
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at(chunker.cut(rest));
        expected.push(Id::of(chunk));
        rest = later;
    }
    let (_, snapshot) = repository.open().snapshots().unwrap().remove(0);
    let node = parent::find(&repository, snapshot.tree, b"/x/large", |_, error| unreachable!("{error}")).unwrap();
    assert_eq!(node.content, expected);
    assert_eq!(node.metadata.size, data.len() as u64);
    assert!(bench.contents()["/x/large"].0 == data);
}

/// Folders with symbolic links in them: for each folder, what each of four possible links points to.
type Links = [[Option<u8>; 4]; 4];

fn linked(links: &Links) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (folder, links) in ["", "a", "a/c", "b"].into_iter().zip(links) {
        // One folder is there only if something is in it.
        if folder == "b" && links == &[None; 4] {
            continue;
        }
        entries.push(dir(folder));
        for (name, target) in ["1", "2", "3", "4"].into_iter().zip(links) {
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            entries.extend(target.map(|target| entry(&path, Kind::Symlink { target: vec![b'0' + target] }, 0, Content::None)));
        }
    }
    entries
}

/// Whatever changes between two runs, the second stores what it would have stored without the first.
#[test]
fn trees_that_are_kept_are_those_that_would_be_made() {
    let bench = Bench::new();
    // Opened once: a key is derived each time.
    let open = bench.repository().open().clone();
    let tree = |links: &Links, ignore_parent: bool| {
        let request = SnapshotRequest { ignore_parent, ..Bench::request() };
        let indexed = Arc::new(open.clone().into_indexed().unwrap());
        let candidates = indexed.open().snapshots().unwrap();
        let started = Archive::start(indexed, request, candidates, Options::default(), &bench.control, Arc::new(Silent), None);
        let mut archive = started.unwrap();
        archive.add(b"/x", script(linked(links))).unwrap();
        let (id, summary) = Box::new(archive).finish(Vec::new()).unwrap();
        (open.snapshot(&id.unwrap().0.parse().unwrap()).unwrap().tree, summary.dirs_unmodified)
    };
    let config = proptest::prelude::ProptestConfig::with_cases(24);
    proptest::proptest!(config, |(before: Links, changes: Vec<(u8, u8, Option<u8>)>)| {
        let mut links = before.map(|links| links.map(|target| target.map(|target| target % 3)));
        tree(&links, true);
        let (_, kept) = tree(&links, false);
        proptest::prop_assert!(kept >= 3, "{}", kept);
        for (folder, name, target) in changes.into_iter().take(3) {
            links[usize::from(folder % 4)][usize::from(name % 4)] = target.map(|target| target % 3);
        }
        let (with_parent, _) = tree(&links, false);
        proptest::prop_assert_eq!(with_parent, tree(&links, true).0);
    });
}

#[test]
fn hard_links_in_a_stream_are_one_file() {
    let bench = Bench::new();
    let data = noise(3 << 20, 7);
    let link = |path: &str, target: &str| entry(path, Kind::File, data.len() as u64, Content::HardLink(target.into()));
    let lost = link("z", "not-there");
    let (_, added) = bench.archive(script(vec![
        dir(""),
        dir("d"),
        stream("d/first", &data),
        link("d/second", "d/first"),
        stream("e", b"e"),
        link("f", "d/first"),
        lost,
    ]));
    let found = bench.contents();
    let first = &found["/x/d/first"];
    assert_eq!(first.1.links, 3);
    for name in ["/x/d/second", "/x/f"] {
        assert!(found[name].0 == data && found[name].1 == first.1, "{name}");
    }
    assert_eq!(found["/x/e"].1.links, 1);
    assert!(!found.contains_key("/x/z"));
    assert_eq!(added.problem_count, 1);
}

#[test]
fn a_source_that_is_lost_is_not_in_the_snapshot() {
    let bench = Bench::new();
    let short = Entry { content: Content::Stream(Box::new(io::Cursor::new(b"sho".to_vec()))), ..stream("a", b"short") };
    let cut_off =
        Script(VecDeque::from([Ok(Step::Entry(dir(""))), Ok(Step::Entry(bytes("a", b"a"))), Err(io::ErrorKind::UnexpectedEof.into())]));
    let order = script(vec![dir(""), bytes("b", b""), bytes("a", b"")]);
    let twice = script(vec![dir(""), dir("b"), bytes("b/x", b""), bytes("c", b""), bytes("b/y", b"")]);
    let mut archive = bench.start().unwrap();
    for source in [script(vec![dir(""), short]), Box::new(cut_off), order, twice] {
        let lost = archive.add(b"/x/lost", source).unwrap_err();
        assert!(matches!(lost, RepositoryError::Source { .. }), "{lost}");
    }
    archive.add(b"/x/kept", script(vec![dir(""), bytes("k", b"k")])).unwrap();
    archive.add_bytes(b"/x/document.json", b"{}").unwrap();
    let (_, summary) = Box::new(archive).finish(vec!["partial".into()]).unwrap();
    assert_eq!((summary.total_files_processed, summary.total_bytes_processed), (2, 3));
    assert_eq!(bench.contents().into_keys().collect::<Vec<_>>(), ["/x", "/x/document.json", "/x/kept", "/x/kept/k"]);
}

#[test]
fn unreadable_and_vanished_files_are_told_apart() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f"), b"here").unwrap();
    let gone = on_disk("gone", &folder.path().join("f"));
    let gone = Entry { content: Content::File(folder.path().join("gone")), ..gone };
    // A folder in the place of the file, as after a race.
    let other = Entry { content: Content::File(folder.path().to_owned()), ..on_disk("other", &folder.path().join("f")) };
    let (_, added) = bench.archive(script(vec![dir(""), on_disk("f", &folder.path().join("f")), gone, other]));
    assert_eq!((added.problem_count, added.warning_count), (1, 1), "{added:?}");
    assert_eq!(added.problems[0].path, "/x/other");
    assert_eq!(bench.contents().into_keys().collect::<Vec<_>>(), ["/x", "/x/f"]);
}

/// A body of which the first byte does something to the control handle.
struct Trigger(Control, fn(&Control), usize);

impl Read for Trigger {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.1)(&self.0);
        let count = buffer.len().min(self.2);
        self.2 -= count;
        buffer[..count].fill(b'x');
        Ok(count)
    }
}

#[test]
fn a_skipped_item_is_left_out_and_the_others_stay() {
    let bench = Bench::new();
    let mut archive = bench.start().unwrap();
    archive.add(b"/x/before", script(vec![bytes("", b"1")])).unwrap();
    let body = Trigger(bench.control.clone(), Control::skip, 20 << 20);
    let skipped = script(vec![dir(""), entry("f", Kind::File, 20 << 20, Content::Stream(Box::new(body)))]);
    assert!(matches!(archive.add(b"/x/skipped", skipped), Err(RepositoryError::Skipped)));
    archive.add(b"/x/then", script(vec![bytes("", b"2")])).unwrap();
    let (_, summary) = Box::new(archive).finish(Vec::new()).unwrap();
    assert_eq!((summary.total_files_processed, summary.total_bytes_processed), (2, 2));
    assert_eq!(bench.contents().into_keys().collect::<Vec<_>>(), ["/x", "/x/before", "/x/then"]);
}

#[test]
fn a_cancelled_run_leaves_no_snapshot_and_what_it_stored_is_used() {
    let bench = Bench::new();
    let data = noise(40 << 20, 3);
    let mut archive = bench.start().unwrap();
    archive.add(b"/x/data", script(vec![stream("", &data)])).unwrap();
    let body = Trigger(bench.control.clone(), Control::cancel, 20 << 20);
    let cancelled = script(vec![entry("", Kind::File, 20 << 20, Content::Stream(Box::new(body)))]);
    assert!(matches!(archive.add(b"/x/more", cancelled), Err(RepositoryError::Cancelled)));
    assert!(matches!(Box::new(archive).finish(Vec::new()), Err(RepositoryError::Cancelled)));
    assert_eq!(bench.snapshots(), 0);
    let bench = Bench { control: Control::new(), ..bench };
    let (summary, _) = bench.archive(script(vec![stream("", &data)]));
    assert!(summary.data_added < 24 << 20, "full packs of the cancelled run are found again: {}", summary.data_added);
}

#[test]
fn a_dry_run_writes_nothing_and_counts_everything() {
    let bench = Bench::new();
    bench.backend.fail_after(0);
    let mut archive = bench.start_with(SnapshotRequest { dry_run: true, ..Bench::request() }, Arc::new(Silent)).unwrap();
    archive.add(b"/x", script(vec![stream("", &noise(40 << 20, 5))])).unwrap();
    let (id, summary) = Box::new(archive).finish(Vec::new()).unwrap();
    assert!(id.is_none());
    assert!(!bench.backend.has_failed());
    assert!(summary.data_added > 40 << 20);
}

#[test]
fn whichever_write_fails_no_snapshot_lacks_anything() {
    let data = noise(36 << 20, 11);
    for calls in 0.. {
        let bench = Bench::new();
        bench.backend.fail_after(calls);
        let done = bench.start().and_then(|mut archive| {
            archive.add(b"/x", script(vec![dir(""), stream("f", &data)]))?;
            Box::new(archive).finish(Vec::new())
        });
        bench.backend.fail_after(i64::MAX);
        if done.is_ok() {
            assert!(calls > 4, "packs, index and snapshot are several writes");
            assert!(bench.contents()["/x/f"].0 == data);
            return;
        }
        assert!(matches!(done, Err(RepositoryError::Storage { .. })), "{done:?}");
        assert_eq!(bench.snapshots(), 0);
        bench.archive(script(vec![dir(""), stream("f", &data)]));
        assert!(bench.contents()["/x/f"].0 == data);
    }
}

#[test]
fn a_snapshot_does_not_count_on_what_an_earlier_one_of_the_run_failed_to_store() {
    use crate::repository::contract::Repository;
    use crate::repository::restic::facade::{Locking, ResticRepository};
    let data = noise(3 << 20, 13);
    // No pack, or a pack and no index.
    for stored in 0..2 {
        let bench = Bench::new();
        let open = Closed::new(bench.backend.clone()).open(&password()).unwrap();
        let repository = ResticRepository::new(open, Options::default(), Locking::Retry(Duration::ZERO));
        let write = || repository.write_snapshot(Bench::request(), &bench.control, Arc::new(Silent)).unwrap();
        let mut given_up = write();
        given_up.add(b"/x", script(vec![dir(""), stream("f", &data)])).unwrap();
        bench.backend.fail_after(stored);
        drop(given_up);
        assert!(bench.backend.has_failed());
        bench.backend.fail_after(i64::MAX);
        let mut next = write();
        next.add(b"/x", script(vec![dir(""), stream("f", &data)])).unwrap();
        next.finish(Vec::new()).unwrap();
        assert!(bench.contents()["/x/f"].0 == data);
    }
}

/// Two snapshots of one file are written at once; the first never comes to its end.
#[test]
fn a_snapshot_does_not_count_on_what_another_is_storing() {
    use crate::repository::contract::{ReadData, Repository};
    use crate::repository::restic::facade::{Locking, ResticRepository};
    let data = noise(3 << 20, 19);
    // Its packs are in memory, or on disk and in no index.
    for pack_size in [16 << 20, 1 << 20] {
        let bench = Bench::new();
        let open = Closed::new(bench.backend.clone()).open(&password()).unwrap();
        let repository = ResticRepository::new(open, Options { pack_size, ..Options::default() }, Locking::Retry(Duration::ZERO));
        let write = || repository.write_snapshot(Bench::request(), &bench.control, Arc::new(Silent)).unwrap();
        let source = || script(vec![dir(""), stream("f", &data)]);
        let (mut first, mut second) = (write(), write());
        first.add(b"/x", source()).unwrap();
        second.add(b"/x", source()).unwrap();
        second.finish(Vec::new()).unwrap();
        bench.backend.fail_after(0);
        drop(first);
        bench.backend.fail_after(i64::MAX);
        assert!(bench.contents()["/x/f"].0 == data);
        let checked = repository.check(ReadData::All, &bench.control, Arc::new(Silent)).unwrap();
        assert_eq!(checked.errors, Vec::<String>::new());
        // What came to its end is not stored again by those who began before it, or after.
        let (mut beside, mut third) = (write(), write());
        third.add(b"/x", script(vec![dir(""), stream("f", &data), stream("g", &noise(900_000, 23))])).unwrap();
        third.finish(Vec::new()).unwrap();
        beside.add(b"/x", script(vec![dir(""), stream("g", &noise(900_000, 23))])).unwrap();
        assert_eq!(beside.finish(Vec::new()).unwrap().1.data_blobs, 0);
        assert!(bench.contents().contains_key("/x/g"));
    }
}

/// Ids of the packs of folders.
fn tree_packs(bench: &Bench) -> std::collections::BTreeSet<Id> {
    bench.repository().index().blobs().filter(|(_, blob)| blob.kind == BlobKind::Tree).map(|(pack, _)| pack).collect()
}

#[test]
fn folders_that_are_damaged_are_stored_again_and_told() {
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("f"), b"content").unwrap();
    let file = |path: &str| on_disk(path, &files.path().join("f"));
    let source = || script(vec![dir(""), dir("a"), file("a/f"), dir("a/sub"), file("a/sub/g"), dir("b"), file("b/h"), dir("empty")]);
    // A bit of the first folder in the pack, of the last, of its header; or nothing is left.
    let damages: [fn(&mut Vec<u8>); 4] =
        [|pack| pack[20] ^= 1, |pack| pack.iter_mut().for_each(|byte| *byte ^= 1), |pack| pack.truncate(100), Vec::clear];
    for (number, damage) in damages.into_iter().enumerate() {
        let bench = Bench::new();
        bench.archive(source());
        for pack in tree_packs(&bench) {
            bench.backend.damage(FileKind::Pack, &pack.to_string(), damage);
        }
        let (_, added) = bench.archive(source());
        assert_eq!(added.problem_count, 0);
        assert!(added.warnings.iter().all(|warning| warning.message.contains("is damaged (")), "{added:?}");
        // Where all are gone, what is above hides the others.
        assert_eq!(added.warning_count, 1, "{number}: {:?}", added.warnings);
        let found = bench.contents();
        assert_eq!(found.len(), 8);
        assert!(["/x/a/f", "/x/a/sub/g", "/x/b/h"].iter().all(|path| found[*path].0 == b"content"));
        let packs = tree_packs(&bench).len();
        let (summary, added) = bench.archive(source());
        assert_eq!((summary.tree_blobs, added.warning_count, tree_packs(&bench).len()), (0, 0, packs), "all is well again");
    }
}

#[test]
fn a_backup_without_parent_counts_on_no_damaged_folder() {
    let source = || script(vec![dir(""), dir("a"), dir("a/sub"), dir("b"), bytes("b/h", b"h")]);
    let bench = Bench::new();
    bench.archive(source());
    for pack in tree_packs(&bench) {
        bench.backend.damage(FileKind::Pack, &pack.to_string(), |pack: &mut Vec<u8>| pack.iter_mut().for_each(|byte| *byte ^= 1));
    }
    let again = || {
        let request = SnapshotRequest { ignore_parent: true, ..Bench::request() };
        let mut archive = bench.start_with(request, Arc::new(Silent)).unwrap();
        let added = archive.add(b"/x", source()).unwrap();
        (Box::new(archive).finish(Vec::new()).unwrap().1.tree_blobs, added)
    };
    let (trees, added) = again();
    assert_eq!((trees, added.warning_count), (5, 1), "{:?}", added.warnings);
    assert!(added.warnings[0].message.contains("is damaged ("), "{:?}", added.warnings);
    assert_eq!(bench.contents().len(), 5);
    let (trees, added) = again();
    assert_eq!((trees, added.warning_count), (0, 0), "all is well again");
}

#[test]
fn the_empty_folder_is_looked_at_before_it_is_counted_on() {
    let bench = Bench::new();
    let source = |name: &str| script(vec![dir(""), dir(name)]);
    bench.archive(script(vec![dir("")]));
    let packs = tree_packs(&bench);
    bench.archive(source("a"));
    // The first pack holds the snapshot's root and the folder without content.
    for pack in &packs {
        bench.backend.damage(FileKind::Pack, &pack.to_string(), |pack: &mut Vec<u8>| pack.iter_mut().for_each(|byte| *byte ^= 1));
    }
    let (summary, _) = bench.archive(source("b"));
    assert_eq!(summary.tree_blobs, 3);
    assert_eq!(bench.contents().into_keys().collect::<Vec<_>>(), ["/x", "/x/b"]);
}

#[test]
fn folders_that_nothing_could_follow_are_told_and_the_rest_is_saved() {
    let bench = Bench::new();
    let mut entries = vec![dir("")];
    let mut path = String::new();
    for _ in 0..SAVED_DEPTH + 3 {
        path.push_str(if path.is_empty() { "d" } else { "/d" });
        entries.push(dir(&path));
    }
    entries.push(bytes(&format!("{path}/lost"), b"lost"));
    entries.push(bytes("kept", b"kept"));
    let (_, added) = bench.archive(script(entries));
    assert_eq!(added.problem_count, 1, "{:?}", added.problems);
    assert!(added.problems[0].message.contains("deeper ones"), "{:?}", added.problems);
    // The walk of the tests goes into itself.
    let found = std::thread::scope(|scope| {
        let walker = std::thread::Builder::new().stack_size(64 << 20);
        walker.spawn_scoped(scope, || bench.contents()).unwrap().join().unwrap()
    });
    assert_eq!(found["/x/kept"].0, b"kept");
    // The folder `x` is one of them.
    assert_eq!(found.keys().map(|path| path.split('/').count() - 1).max(), Some(SAVED_DEPTH - 1));
}

#[test]
fn a_large_document_is_cut_like_a_file() {
    let bench = Bench::new();
    let data = noise(20 << 20, 17);
    let mut archive = bench.start().unwrap();
    archive.add_bytes(b"/x/document", &data).unwrap();
    Box::new(archive).finish(Vec::new()).unwrap();
    let (summary, _) = bench.archive(script(vec![dir(""), stream("f", &data), bytes("g", &data)]));
    assert_eq!(summary.data_blobs, 0);
    assert!(bench.contents()["/x/g"].0 == data);
}

#[test]
fn a_dry_run_takes_no_lock_even_to_read() {
    use crate::repository::contract::Repository;
    use crate::repository::restic::facade::{Locking, ResticRepository};
    let bench = Bench::new();
    bench.archive(script(vec![dir("")]));
    bench.backend.fail_after(0);
    let open = Closed::new(bench.backend.clone()).open(&password()).unwrap();
    let repository = ResticRepository::new(open, Options::default(), Locking::Never);
    repository.stats(&Control::new()).unwrap();
    let request = SnapshotRequest { dry_run: true, ..Bench::request() };
    let mut writer = repository.write_snapshot(request, &bench.control, Arc::new(Silent)).unwrap();
    writer.add(b"/x", script(vec![dir(""), bytes("a", b"a")])).unwrap();
    writer.finish(Vec::new()).unwrap();
    assert!(!bench.backend.has_failed());
    assert!(matches!(repository.write_snapshot(Bench::request(), &bench.control, Arc::new(Silent)), Err(RepositoryError::Internal(_))));
}

#[test]
fn events_add_up() {
    #[derive(Default)]
    struct Count(AtomicUsize, AtomicUsize);
    impl Progress for Count {
        fn event(&self, event: Event<'_>) {
            match event {
                Event::Bytes(bytes) => drop(self.0.fetch_add(bytes as usize, Ordering::Relaxed)),
                Event::FileFinished { .. } => drop(self.1.fetch_add(1, Ordering::Relaxed)),
                _ => {}
            }
        }
    }
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f"), noise(5_000_000, 2)).unwrap();
    let file = || on_disk("f", &folder.path().join("f"));
    let count = Arc::new(Count::default());
    for _ in 0..2 {
        let mut archive = bench.start_with(Bench::request(), count.clone()).unwrap();
        archive.add(b"/x", script(vec![dir(""), bytes("a", b"12345"), file(), stream("s", b"123")])).unwrap();
        Box::new(archive).finish(Vec::new()).unwrap();
    }
    assert_eq!((count.0.load(Ordering::Relaxed), count.1.load(Ordering::Relaxed)), (2 * 5_000_008, 6));
}

#[test]
fn names_of_attributes_that_the_format_cannot_hold_are_told_once() {
    let bench = Bench::new();
    let with = |path: &str, name: &[u8]| {
        let mut entry = bytes(path, b"x");
        entry.metadata.xattrs = vec![Xattr { name: name.to_vec(), value: b"v".to_vec() }];
        entry
    };
    let (_, added) = bench.archive(script(vec![dir(""), with("a", "user.ü".as_bytes()), with("b", b"user.\xff"), with("c", b"user.\xfe")]));
    assert_eq!((added.problem_count, added.warning_count), (0, 1), "{added:?}");
    assert_eq!(added.warnings[0].path, "/x/b");
    assert!(added.warnings[0].message.contains("not UTF-8"), "{added:?}");
    let (_, added) = bench.archive(script(vec![dir(""), with("a", "user.ü".as_bytes())]));
    assert_eq!(added.warning_count, 0);
}

/// Ids of the data blobs of each pack, in the order in which they stand in it.
fn packs(bench: &Bench) -> Vec<Vec<Id>> {
    let repository = bench.repository();
    let mut packs: BTreeMap<Id, Vec<(u32, Id)>> = BTreeMap::new();
    for (pack, blob) in repository.index().blobs().filter(|(_, blob)| blob.kind == BlobKind::Data) {
        packs.entry(pack).or_default().push((blob.offset, blob.id));
    }
    let sorted = |mut blobs: Vec<(u32, Id)>| {
        blobs.sort_unstable();
        blobs.into_iter().map(|(_, id)| id).collect()
    };
    packs.into_values().map(sorted).collect()
}

/// The sizes of packs must not tell the sizes of a file's chunks in their order.
#[test]
fn what_follows_in_a_file_need_not_follow_in_a_pack() {
    let bench = Bench::new();
    let files: Vec<Vec<u8>> = (0..80).map(|number| noise(500, 2 * number + 1)).collect();
    let mut entries = vec![dir("")];
    entries.extend(files.iter().enumerate().map(|(number, data)| bytes(&format!("{number:02}"), data)));
    bench.archive(script(entries));
    let order: Vec<Id> = files.iter().map(|data| Id::of(data)).collect();
    let place = |id: &Id| order.iter().position(|other| other == id).unwrap();
    let places: Vec<usize> = packs(&bench).concat().iter().map(place).collect();
    assert_eq!(places.len(), order.len());
    let gaps = places.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert!(gaps > 10, "{places:?}");
}

/// The most index files that a backup which died left.
fn named_at_death(interval: Duration) -> usize {
    let data = noise(12 << 20, 17);
    let mut most = 0;
    for calls in (0..).step_by(3) {
        let bench = Bench::new();
        let start =
            |options| Archive::start(bench.repository(), Bench::request(), Vec::new(), options, &bench.control, Arc::new(Silent), None);
        bench.backend.fail_after(calls);
        let done = start(Options { index_interval: interval, pack_size: 1 << 20, ..Options::default() }).and_then(|mut archive| {
            archive.add(b"/x", script(vec![dir(""), stream("f", &data)]))?;
            Box::new(archive).finish(Vec::new())
        });
        bench.backend.fail_after(i64::MAX);
        if done.is_ok() {
            return most;
        }
        let named = bench.backend.names(FileKind::Index).len();
        let (summary, _) = bench.archive(script(vec![dir(""), stream("f", &data)]));
        let spared = (data.len() as u64).saturating_sub(summary.data_added);
        assert!(spared >= (named as u64) << 19, "{named} index files, {spared} bytes were not stored again");
        most = most.max(named);
    }
    most
}

#[test]
fn a_long_backup_that_dies_has_not_worked_in_vain() {
    assert!(named_at_death(INDEX_INTERVAL) <= 1);
    assert!(named_at_death(Duration::ZERO) >= 2);
}
