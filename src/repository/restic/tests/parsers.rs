//! Documents that anybody may have written: index files, snapshots and locks, as they come out of a repository. Arbitrary bytes and
//! valid documents with changes are errors or values, never a panic, and a value is written as it was read.
//!
//! Keys and the config are tested with `key` and `state`, pack headers, trees and tar streams with their own parsers.

use proptest::prelude::*;

use super::super::codec::Encoder;
use super::super::file::{IndexFile, LockFile, SnapshotFile, to_json};
use super::super::index::IndexBuilder;
use super::super::pack::PackedBlob;
use super::super::state::testing::{cases, corpus, documents};
use super::super::writer::{IndexCollector, PackBuilder};
use super::*;
use crate::repository::contract::repair::{RepairSnapshotsRequest, RepairSnapshotsSummary};
use crate::repository::contract::rewrite::RewriteRequest;

fn index(json: &[u8]) {
    let Ok(file) = IndexFile::parse(json) else { return };
    assert_eq!(IndexFile::parse(&to_json(&file).unwrap()).unwrap(), file);
    let builder = IndexBuilder::new();
    if builder.add(&file).is_err() {
        return;
    }
    let index = builder.finish();
    let blobs: Vec<_> = index.blobs().collect();
    assert_eq!(index.packs().map(|pack| pack.blobs as usize).sum::<usize>(), blobs.len());
    for (pack, blob) in blobs {
        let found = index.lookup_all(blob.kind, &blob.id);
        assert!(found.iter().any(|place| (place.pack, place.offset, place.length) == (pack, blob.offset, blob.length)));
    }
}

/// All the way: the document is sealed as by somebody who has the key, and the repository is used.
fn in_a_repository(kind: FileKind, json: &[u8]) {
    let world = World::new();
    world.open.write_unpacked(kind, json).unwrap();
    let repository = world.repository();
    match kind {
        FileKind::Snapshot => {
            let is_one = serde_json::from_slice::<SnapshotFile>(json).is_ok();
            let files = world.open.snapshot_files().unwrap();
            assert!(files.len() == 1 && files[0].1.is_ok() == is_one, "{files:?}");
            let _ = repository.snapshots();
            let checked = repository.check(ReadData::None, &Control::new(), Arc::new(Silent)).unwrap();
            assert!(!checked.errors.is_empty(), "a snapshot whose folder is not there, or none at all");
        }
        FileKind::Index => {
            let checked = repository.check(ReadData::All, &Control::new(), Arc::new(Silent)).unwrap();
            let is_empty = IndexFile::parse(json).is_ok_and(|file| file.packs.is_empty());
            assert_eq!(checked.errors.is_empty(), is_empty, "{:?}", checked.errors);
        }
        _ => {
            if let Ok(file) = serde_json::from_slice::<LockFile>(json) {
                assert_eq!(serde_json::from_slice::<LockFile>(&to_json(&file).unwrap()).unwrap(), file);
            }
            let _ = repository.lock_exclusively(&Control::new());
            drop(repository);
            lock::unlock(&world.open, false).unwrap();
            lock::unlock(&world.open, true).unwrap();
            assert!(world.memory.names(FileKind::Lock).is_empty());
        }
    }
}

#[test]
fn the_corpus_is_read() {
    for (kind, name) in [(FileKind::Index, "index"), (FileKind::Snapshot, "snapshot"), (FileKind::Lock, "lock")] {
        for json in corpus(name) {
            index(&json);
            in_a_repository(kind, &json);
        }
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn an_index_is_read_or_refused(json in documents("index")) {
        index(&json);
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn a_repository_with_any_index_is_used_or_refused(json in documents("index")) {
        in_a_repository(FileKind::Index, &json);
    }

    #[test]
    fn a_repository_with_any_snapshot_is_used_or_refused(json in documents("snapshot")) {
        in_a_repository(FileKind::Snapshot, &json);
    }

    #[test]
    fn a_repository_with_any_lock_is_used_or_refused(json in documents("lock")) {
        in_a_repository(FileKind::Lock, &json);
    }
}

/// Blobs of a kind, written as by somebody who has the key.
fn store(world: &World, kind: BlobKind, blobs: &[&[u8]]) {
    let mut encoder = Encoder::new(Compression::Auto, 2, true);
    let mut pack = PackBuilder::default();
    for plain in blobs {
        let mut sealed = Vec::new();
        let encoded = encoder.encode(world.open.key(), kind, plain, &mut sealed).unwrap();
        let blob = PackedBlob { id: Id::of(plain), kind, offset: 0, length: encoded.length, uncompressed: encoded.uncompressed };
        pack.push(&blob, &sealed);
    }
    let mut indexes = IndexCollector::default();
    let (entry, _) = pack.write(&world.open).unwrap();
    indexes.add(&world.open, None, entry).unwrap();
    indexes.flush(&world.open, None).unwrap();
}

/// A snapshot with this tree as the folder `/data/d`.
fn with_folder(tree: &[u8]) -> World {
    let world = World::new();
    let data = format!("{{\"nodes\":[{{\"name\":\"d\",\"type\":\"dir\",\"subtree\":\"{}\"}}]}}\n", Id::of(tree));
    let root = format!("{{\"nodes\":[{{\"name\":\"data\",\"type\":\"dir\",\"subtree\":\"{}\"}}]}}\n", Id::of(data.as_bytes()));
    let blobs = [root.as_bytes(), data.as_bytes(), tree];
    store(&world, BlobKind::Tree, &blobs);
    let json = format!("{{\"time\":\"2024-01-01T00:00:00Z\",\"tree\":\"{}\",\"paths\":[\"/data\"]}}", Id::of(root.as_bytes()));
    world.open.write_unpacked(FileKind::Snapshot, json.as_bytes()).unwrap();
    world
}

fn errors(world: &World) -> Vec<String> {
    world.repository().check(ReadData::None, &Control::new(), Arc::new(Silent)).unwrap().errors
}

fn repair(world: &World) -> RepairSnapshotsSummary {
    let request = RepairSnapshotsRequest { forget: true, ..RepairSnapshotsRequest::default() };
    world.repository().repair_snapshots(&request, &Control::new(), Arc::new(Silent)).unwrap()
}

/// What `repair snapshots` rightly lets be, as nothing is lost in it: every entry can be read.
fn is_only_odd(error: &str) -> bool {
    ["is not known", "is no name of an entry", "are not in order"].iter().any(|odd| error.contains(odd))
}

/// What `check` and `prune` refuse, `repair snapshots` puts right: else nothing could be pruned for ever.
fn is_put_right(tree: &[u8]) {
    let world = with_folder(tree);
    let is_sound = |world: &World| {
        let errors = errors(world);
        let pruned = match prune(&world.repository(), &full_prune()) {
            Err(RepositoryError::Refused { problems, .. }) => problems.iter().all(|problem| is_only_odd(problem)),
            result => result.is_ok(),
        };
        errors.iter().all(|error| is_only_odd(error)) && pruned
    };
    if is_sound(&world) {
        assert_eq!(repair(&world).damaged, [], "nothing was lost");
    } else {
        let summary = repair(&world);
        assert_eq!(summary.damaged.len(), 1, "{:?}", errors(&world));
        assert!(summary.damaged[0].lost_count > 0 && summary.damaged[0].removed && !summary.damaged[0].is_lost, "{summary:?}");
        assert!(is_sound(&world), "{:?}", errors(&world));
    }
}

#[test]
fn a_folder_of_the_corpus_is_used_or_put_right() {
    for json in corpus("tree") {
        is_put_right(&json);
    }
    is_put_right(br#"{"nodes":[{"name":"a","type":"file","content":[],"mtime":"no time"},{"name":"b","type":"file","content":[]}]}"#);
    is_put_right(br#"{"nodes":[{"name":"a","type":"file","size":1,"novel":"\ud800"}]}"#);
    is_put_right(br#"{"nodes":[["a","file"]]}"#);
    is_put_right(b"{}");
    is_put_right(b"{\"nodes\":[{\"name\":\"a\",\"type\":\"file\",\"content\":[],\"novel\":[\"\x80\"]}]}");
}

/// Such a tree took the place of a lost folder in `restic repair snapshots` 0.16 to 0.18.
#[test]
fn a_folder_without_a_list_of_entries_is_an_empty_one() {
    let world = with_folder(b"{\"nodes\":null}\n");
    assert_eq!(errors(&world), Vec::<String>::new());
    assert_eq!(repair(&world).damaged, []);
    prune(&world.repository(), &full_prune()).unwrap();
    let repository = world.repository();
    let [snapshot] = &repository.snapshots().unwrap()[..] else { unreachable!() };
    assert_eq!(read(&repository, &snapshot.id), Files::new());
    let mut paths = Vec::new();
    let mut visit = |listed: crate::repository::contract::Listed| {
        paths.push(listed.path);
        ControlFlow::Continue(())
    };
    repository.list(&snapshot.id, b"/data/d", true, &mut visit).unwrap();
    assert_eq!(paths, [b"/data/d"]);
    for (exclude, changed) in [(&b"/data/x"[..], 0), (b"/data/d", 1)] {
        let request = RewriteRequest {
            snapshots: vec![snapshot.id.clone()],
            named: true,
            exclude: &|path| path == exclude,
            forget: false,
            remove_all: true,
            dry_run: false,
        };
        let summary = repository.rewrite(&request, &Control::new(), Arc::new(Silent)).unwrap();
        assert_eq!((summary.changed, summary.snapshots.len()), (changed, 1));
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn a_repository_with_any_folder_is_used_or_put_right(json in documents("tree")) {
        is_put_right(&json);
    }
}
