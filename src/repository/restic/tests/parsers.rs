//! Documents that anybody may have written: index files, snapshots and locks, as they come out of a repository. Arbitrary bytes and
//! valid documents with changes are errors or values, never a panic, and a value is written as it was read.
//!
//! Keys and the config are tested with `key` and `state`, pack headers, trees and tar streams with their own parsers.

use proptest::prelude::*;

use super::super::file::{IndexFile, LockFile, SnapshotFile, to_json};
use super::super::index::IndexBuilder;
use super::super::state::testing::{cases, corpus, documents};
use super::*;

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
