//! The engine itself, without the command line: what the real restic thinks of it, and repositories that somebody made to do harm.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bbackup::model::compression::Compression;
use bbackup::model::entry::{Content, Entry, Metadata, Source, Step};
use bbackup::model::progress::{Event, Progress};
use bbackup::platform::control::Control;
use bbackup::platform::secret::Secret;
use bbackup::repository::backend::FileKind;
use bbackup::repository::backend::local::LocalBackend;
use bbackup::repository::contract::{
    AddSummary, ReadData, Repository, RestoreRequest, RestoreSummary, SnapshotId, SnapshotRequest, SnapshotSummary,
};
use bbackup::repository::restic::archive::Options;
use bbackup::repository::restic::codec::{BlobKind, Encoder};
use bbackup::repository::restic::facade::{Locking, ResticRepository};
use bbackup::repository::restic::id::Id;
use bbackup::repository::restic::pack::{PackedBlob, encode_header};
use bbackup::repository::restic::state::{Closed, InitOptions, Open};
use bbackup::sources::walk::{Walk, WalkOptions};

use crate::support::home::{Home, PASSWORD, files_below, find_restored};
use crate::support::manifest::Manifest;
use crate::support::mounted::Disk;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::tree;

struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}

fn closed(home: &Home) -> Closed {
    Closed::new(Arc::new(LocalBackend::new(home.repository())))
}

fn password() -> Secret<String> {
    Secret::new(PASSWORD.to_owned())
}

fn init(home: &Home, version: u32) -> Open {
    closed(home).init(&password(), InitOptions { version, ..InitOptions::default() }).unwrap()
}

fn facade(open: Open) -> ResticRepository {
    ResticRepository::new(open, Options::default(), Locking::Retry(Duration::ZERO))
}

fn open(home: &Home) -> ResticRepository {
    facade(closed(home).open(&password()).unwrap())
}

fn request(folder: &Path) -> SnapshotRequest {
    SnapshotRequest {
        time: jiff::Timestamp::now(),
        host: "engine-test".to_owned(),
        paths: vec![folder.to_str().unwrap().to_owned()],
        tags: Vec::new(),
        ignore_parent: false,
        parent: None,
        with_atime: false,
        dry_run: false,
        excludes: Vec::new(),
    }
}

fn back_up(repository: &ResticRepository, folder: &Path) -> (SnapshotId, AddSummary, SnapshotSummary) {
    let mut writer = repository.write_snapshot(request(folder), &Control::new(), Arc::new(Silent)).unwrap();
    let walk = Walk::new(folder, WalkOptions::default()).unwrap();
    let added = writer.add(folder.as_os_str().as_encoded_bytes(), Box::new(walk)).unwrap();
    let (id, summary) = writer.finish(Vec::new()).unwrap();
    (id.unwrap(), added, summary)
}

fn restore(repository: &ResticRepository, snapshot: &SnapshotId, path: &[u8], destination: &Path) -> RestoreSummary {
    let request = RestoreRequest {
        snapshot: snapshot.clone(),
        path: path.to_owned(),
        destination: destination.to_owned(),
        owners: true,
        delete_extra: false,
        include: Vec::new(),
        dry_run: false,
    };
    repository.restore(&request, &Control::new(), Arc::new(Silent)).unwrap()
}

/// A stream of folders with one file each, whose names cannot be compressed; `at_end` is called when all were given.
struct Folders<F> {
    left: u64,
    open: bool,
    at_end: F,
}

impl<F: FnMut() + Send> Source for Folders<F> {
    fn next_step(&mut self) -> io::Result<Step> {
        let entry = |path: String, metadata, content| Ok(Step::Entry(Entry { path: path.into_bytes(), metadata, content }));
        // The root comes first.
        if self.left == u64::MAX {
            self.left = 30_000;
            return entry(String::new(), Metadata::virtual_directory(), Content::None);
        }
        let number = 30_000 - self.left;
        if self.open {
            (self.open, self.left) = (false, self.left - 1);
            let hash = |salt: u64| Id::of(&[number.to_le_bytes(), salt.to_le_bytes()].concat());
            let name = format!("{}{}{}", hash(1), hash(2), hash(3));
            return entry(format!("{number:06}/{name}"), Metadata::virtual_file(1), Content::Stream(Box::new(&b"x"[..])));
        }
        if self.left == 0 {
            (self.at_end)();
            return Ok(Step::End);
        }
        self.open = true;
        entry(format!("{number:06}"), Metadata::virtual_directory(), Content::None)
    }
}

#[test]
fn what_waits_for_the_end_of_a_stream_leaves_others_their_room() {
    needs!(Part::Root);
    let home = Home::new();
    let scratch = home.make_folder("scratch");
    let _disk = Disk::in_memory(&scratch);
    let size = |size: &str| {
        let status = std::process::Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&scratch).status().unwrap();
        assert!(status.success());
    };
    let free = |scratch: &Path| {
        let found = rustix::fs::statvfs(scratch).unwrap();
        found.f_bavail * found.f_frsize
    };
    let open = init(&home, 2);
    let archive = |held_most: usize| {
        let left = Arc::new(AtomicU64::new(0));
        let (found, folder) = (Arc::clone(&left), scratch.clone());
        let at_end = move || found.store(free(&folder), Ordering::SeqCst);
        let options = Options { held: 256 << 10, held_most, scratch: Some(scratch.clone()), ..Options::default() };
        let repository = ResticRepository::new(open.clone(), options, Locking::Retry(Duration::ZERO));
        let request = SnapshotRequest { ignore_parent: true, ..request(Path::new("/stream")) };
        let mut writer = repository.write_snapshot(request, &Control::new(), Arc::new(Silent)).unwrap();
        let added = writer.add(b"/stream", Box::new(Folders { left: u64::MAX, open: false, at_end }));
        let written = added.and_then(|_| writer.finish(Vec::new()));
        written.map(|(id, _)| (repository.open().snapshot(&id.unwrap().0.parse().unwrap()).unwrap().tree, left.load(Ordering::SeqCst)))
    };
    let (tree, left) = archive(usize::MAX).unwrap();
    assert!(free(&scratch) - left > 3_000_000, "nothing was put aside");
    // Of a small disk 64 MiB stay free, whatever has to wait for that in memory.
    size("66m");
    let (same, left) = archive(usize::MAX).unwrap();
    assert_eq!(same, tree);
    assert!(left >= 64 << 20 && left < free(&scratch), "{left}");
    let error = archive(2 << 20).unwrap_err();
    assert!(error.to_string().contains("2.0 MiB of memory") && error.to_string().contains(scratch.to_str().unwrap()), "{error}");
    assert_eq!(files_below(&home.repository().join("snapshots")).len(), 2);
}

fn agrees_with_restic(version: u32) {
    let home = Home::new();
    let folder = home.make_folder("tree");
    tree::nasty(&folder);
    let before = Manifest::of(&folder);
    let repository = facade(init(&home, version));
    let (snapshot, added, _) = back_up(&repository, &folder);
    assert_eq!(added.entries as usize, before.lines.len());
    assert!(added.problems.is_empty() && added.warnings.is_empty(), "{:?}", added.problems);
    drop(repository);
    assert!(files_below(&home.repository().join("locks")).is_empty(), "a lock was left behind");

    let restic = Restic::new(&home);
    restic.check();
    restic.restore(&snapshot.0, &home.path("by-restic"));
    let by_restic = Manifest::of(&find_restored(&home.path("by-restic"), &folder));
    before.clone().kept_by_restic().assert_equals(&by_restic.kept_by_restic());

    let repository = open(&home);
    let summary = restore(&repository, &snapshot, folder.as_os_str().as_encoded_bytes(), &home.path("ours"));
    assert!(summary.problems.is_empty(), "{:?}", summary.problems);
    before.assert_equals(&Manifest::of(&home.path("ours")));
    let check = repository.check(ReadData::All, &Control::new(), Arc::new(Silent)).unwrap();
    assert!(check.errors.is_empty(), "{:?}", check.errors);

    let (_, added, summary) = back_up(&repository, &folder);
    assert_eq!((summary.data_blobs, summary.tree_blobs, added.bytes_added), (0, 0, 0), "an unchanged tree added something");
    assert_eq!(added.bytes_unread, added.bytes, "unchanged files were read");
}

#[test]
fn version_2_is_what_restic_means_by_it() {
    needs!(Part::Root, Part::Restic);
    agrees_with_restic(2);
}

#[test]
fn version_1_is_what_restic_means_by_it() {
    needs!(Part::Root, Part::Restic);
    agrees_with_restic(1);
}

#[test]
fn trees_of_the_newest_restic_are_ours_byte_for_byte() {
    needs!(Part::Root, Part::Restic);
    let home = Home::new();
    let restic = Restic::new(&home);
    if restic.version() < (0, 17) {
        // Older ones write less of a node; data is shared with them all the same (`interop`).
        return;
    }
    let folder = home.make_folder("tree");
    tree::nasty(&folder);
    restic.init(2);
    restic.back_up(&folder);
    let (_, _, summary) = back_up(&open(&home), &folder);
    // The folders above were described by nobody here.
    let above = folder.ancestors().count() as u64 - 1;
    assert_eq!(summary.data_blobs, 0);
    assert!(summary.tree_blobs <= above, "{} trees are not as restic writes them", summary.tree_blobs - above);
}

/// Puts a snapshot of hand-made trees into a repository. `trees` are the JSON of trees, the root's last; `{n}` in one stands for the id
/// of the `n`-th.
fn forge(open: &Open, trees: &[String]) -> SnapshotId {
    let mut encoder = Encoder::new(Compression::Off, 1, false);
    let (mut pack, mut blobs, mut ids) = (Vec::new(), Vec::new(), Vec::<Id>::new());
    for text in trees {
        let text = ids.iter().enumerate().fold(text.clone(), |text, (number, id)| text.replace(&format!("{{{number}}}"), &id.to_string()));
        let offset = pack.len() as u32;
        let encoded = encoder.encode(open.key(), BlobKind::Tree, text.as_bytes(), &mut pack).unwrap();
        let id = Id::of(text.as_bytes());
        blobs.push(PackedBlob { id, kind: BlobKind::Tree, offset, length: encoded.length, uncompressed: encoded.uncompressed });
        ids.push(id);
    }
    pack.extend(encode_header(open.key(), &blobs).unwrap());
    let pack_id = Id::of(&pack);
    open.backend().write(FileKind::Pack, &pack_id.to_string(), &[&pack]).unwrap();
    let entries: Vec<String> = blobs
        .iter()
        .map(|blob| format!(r#"{{"id":"{}","type":"tree","offset":{},"length":{}}}"#, blob.id, blob.offset, blob.length))
        .collect();
    let index = format!(r#"{{"packs":[{{"id":"{pack_id}","blobs":[{}]}}]}}"#, entries.join(","));
    open.write_unpacked(FileKind::Index, index.as_bytes()).unwrap();
    let snapshot = format!(r#"{{"time":"2026-01-02T03:04:05Z","tree":"{}","paths":["/x"],"hostname":"evil"}}"#, ids.last().unwrap());
    SnapshotId(open.write_unpacked(FileKind::Snapshot, snapshot.as_bytes()).unwrap().to_string())
}

fn node(name: &str, rest: &str) -> String {
    let times = r#""mtime":"2026-01-02T03:04:05Z","atime":"2026-01-02T03:04:05Z","ctime":"2026-01-02T03:04:05Z""#;
    format!(r#"{{"name":"{name}","mode":493,{times},"uid":0,"gid":0,{rest}}}"#)
}

fn tree_of(nodes: &[String]) -> String {
    format!("{{\"nodes\":[{}]}}\n", nodes.join(","))
}

/// Restores a forged snapshot and asserts that nothing appeared beside the target. What is written into it may be anything.
fn assert_contained(trees: &[String]) {
    let home = Home::new();
    let open = init(&home, 2);
    let snapshot = forge(&open, trees);
    let repository = facade(open);
    let place = home.make_folder("place");
    let target = place.join("deep/target");
    fs::create_dir_all(&target).unwrap();
    fs::write(place.join("victim"), b"precious").unwrap();
    fs::write(place.join("deep/victim"), b"precious").unwrap();
    let before = Manifest::of(&place).without(|name, _| name.starts_with(b"deep/target"));
    let request = RestoreRequest {
        snapshot,
        path: b"/".to_vec(),
        destination: target.clone(),
        owners: true,
        delete_extra: true,
        include: Vec::new(),
        dry_run: false,
    };
    // An error or problems in the summary are both good answers.
    let answer = repository.restore(&request, &Control::new(), Arc::new(Silent));
    assert!(answer.is_err() || !answer.as_ref().unwrap().problems.is_empty(), "nobody complained: {answer:?}");
    let after = Manifest::of(&place).without(|name, _| name.starts_with(b"deep/target"));
    before.map(|line| line.mtime = (0, 0)).assert_equals(&after.map(|line| line.mtime = (0, 0)));
    let check = repository.check(ReadData::All, &Control::new(), Arc::new(Silent)).unwrap();
    assert!(!check.errors.is_empty(), "check finds nothing wrong with it");
}

#[test]
fn a_name_that_leads_upwards_stays_inside() {
    assert_contained(&[tree_of(&[node("../victim", r#""type":"file","size":0,"content":[]"#)])]);
    assert_contained(&[tree_of(&[node("..", r#""type":"file","size":0,"content":[]"#)])]);
    assert_contained(&[tree_of(&[]), tree_of(&[node("..", r#""type":"dir","subtree":"{0}""#)])]);
    assert_contained(&[tree_of(&[]), tree_of(&[node(".", r#""type":"dir","subtree":"{0}""#)])]);
}

#[test]
fn an_absolute_or_empty_name_stays_inside() {
    assert_contained(&[tree_of(&[node("/tmp/bbackup-was-here", r#""type":"file","size":0,"content":[]"#)])]);
    assert_contained(&[tree_of(&[node("", r#""type":"file","size":0,"content":[]"#)])]);
    assert_contained(&[tree_of(&[node("a/b", r#""type":"file","size":0,"content":[]"#)])]);
    assert_contained(&[tree_of(&[node("nul\\u0000byte", r#""type":"file","size":0,"content":[]"#)])]);
    assert!(!Path::new("/tmp/bbackup-was-here").exists());
}

#[test]
fn a_folder_that_is_also_a_link_leads_nowhere() {
    // The same name twice: first a link out of the target, then a folder with a file in it.
    let inner = tree_of(&[node("victim", r#""type":"file","size":0,"content":[]"#)]);
    let twice = tree_of(&[node("way", r#""type":"symlink","linktarget":"../..""#), node("way", r#""type":"dir","subtree":"{0}""#)]);
    assert_contained(&[inner.clone(), twice]);
    let other = tree_of(&[node("way", r#""type":"dir","subtree":"{0}""#), node("way", r#""type":"symlink","linktarget":"../..""#)]);
    assert_contained(&[inner, other]);
}

#[test]
fn missing_data_is_a_problem_of_its_file_only() {
    let nowhere = "ab".repeat(32);
    assert_contained(&[tree_of(&[node("file", &format!(r#""type":"file","size":10,"content":["{nowhere}"]"#))])]);
    assert_contained(&[tree_of(&[node("folder", &format!(r#""type":"dir","subtree":"{nowhere}""#))])]);
}

#[test]
fn nonsense_for_a_tree_is_said() {
    for text in ["", "{}", "null", "[1,2]", r#"{"nodes":{}}"#, r#"{"nodes":[{"name":5}]}"#, "{\"nodes\":[{}]}"] {
        let home = Home::new();
        let open = init(&home, 2);
        let snapshot = forge(&open, &[text.to_owned()]);
        let repository = facade(open);
        let check = repository.check(ReadData::All, &Control::new(), Arc::new(Silent));
        let found = check.is_err() || !check.as_ref().unwrap().errors.is_empty();
        let listed = repository.list(&snapshot, b"/", true, &mut |_| std::ops::ControlFlow::Continue(()));
        // An empty tree is odd, but there is nothing in it to be wrong.
        assert!(found || listed.is_ok(), "{text}: listing fails and check finds nothing");
    }
}
