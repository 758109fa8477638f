//! Damage of every sort, and that a check names it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::model::progress::Silent;
use crate::repository::backend::FileKind;
use crate::repository::restic::reader::testing::{Builder, file, folder};

/// A repository with `/dir/one`, `/dir/two` and `/top`.
struct Scene {
    builder: Builder,
    data: Id,
    trees: Id,
    snapshot: Id,
    one: Id,
    tree: Id,
}

impl Scene {
    fn new() -> Self {
        let mut builder = Builder::new();
        let (one, two) = (builder.blob(BlobKind::Data, b"the first"), builder.blob(BlobKind::Data, b"the second"));
        let data = builder.pack();
        let tree = builder.tree(&[file("one", &[one], 9), file("two", &[two], 10)]);
        let root = builder.tree(&[folder("dir", tree), file("top", &[two], 10)]);
        let trees = builder.pack();
        let snapshot = builder.snapshot(root);
        Self { builder, data, trees, snapshot, one, tree }
    }

    fn check(&self, read_data: ReadData) -> CheckSummary {
        let (repo, errors) = self.builder.open.clone().into_indexed_in_part(&Control::new()).unwrap();
        check(&repo, &errors, repo.snapshot_files().unwrap(), read_data, &Control::new(), &Silent).unwrap()
    }

    fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn file(&self, folder: &str, id: &Id) -> std::path::PathBuf {
        self.builder.folder.path().join(folder).join(id.to_string())
    }
}

/// Asserts that each of these is in one of the sentences.
#[track_caller]
fn assert_names(sentences: &[String], parts: &[&str]) {
    for part in parts {
        assert!(sentences.iter().any(|sentence| sentence.contains(part)), "`{part}` is not in {sentences:#?}");
    }
}

#[test]
fn a_sound_repository_gives_no_sentence() {
    let scene = Scene::new();
    let summary = scene.check(ReadData::All);
    assert_eq!((&summary.errors, &summary.hints), (&Vec::new(), &Vec::new()));
    assert_eq!((summary.snapshots, summary.packs, summary.packs_read, summary.blobs_used), (1, 2, 2, 4));
    assert_eq!(scene.check(ReadData::None).packs_read, 0);
    let repo = scene.builder.indexed();
    let snapshots = || repo.snapshot_files().unwrap();
    let error = check(&repo, &[], snapshots(), ReadData::Group(3, 2), &Control::new(), &Silent).unwrap_err();
    assert!(matches!(error, RepositoryError::Internal(_)));
    let control = Control::new();
    control.cancel();
    assert!(matches!(check(&repo, &[], snapshots(), ReadData::All, &control, &Silent), Err(RepositoryError::Cancelled)));
}

#[test]
fn a_flipped_bit_is_found_by_reading() {
    let scene = Scene::new();
    Scene::change(&scene.builder.path(&scene.data), |bytes| bytes[20] ^= 1);
    assert_eq!(scene.check(ReadData::None).errors, Vec::<String>::new());
    let summary = scene.check(ReadData::All);
    let snapshot = format!("snapshot {}: /dir/one is damaged", scene.snapshot.short());
    assert_names(&summary.errors, &[&format!("pack {}: its content has changed", scene.data), &scene.one.to_string(), &snapshot]);
    assert!(!summary.errors.iter().any(|sentence| sentence.contains("/dir/two") || sentence.contains("/top")));
    assert_eq!(summary.packs_read, 2);
}

#[test]
fn a_part_of_the_packs_is_read() {
    let mut scene = Scene::new();
    for number in 0_u8..38 {
        scene.builder.blob(BlobKind::Data, &vec![number; 1000]);
        scene.builder.pack();
    }
    let all = files(&scene.builder.folder.path().join("data"));
    assert_eq!(all.len(), 40);
    // Every pack says by an error that it was read.
    for pack in &all {
        Scene::change(pack, |bytes| bytes[20] ^= 1);
    }
    let ids: Vec<String> = all.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let read = |part: ReadData| -> Vec<&String> {
        let summary = scene.check(part);
        let named =
            |id: &&String| summary.errors.iter().any(|sentence| sentence.starts_with(&format!("pack {id}: its content has changed")));
        let read: Vec<&String> = ids.iter().filter(named).collect();
        assert_eq!((summary.packs_read, summary.packs), (read.len() as u64, 40), "{part:?}: {:#?}", summary.errors);
        read
    };
    for groups in [1, 2, 7, 41] {
        let mut together: Vec<&String> = (1..=groups).flat_map(|group| read(ReadData::Group(group, groups))).collect();
        together.sort();
        assert!(together.iter().copied().eq(&ids), "{groups} groups: {together:#?}");
    }
    for (percent, packs) in [(0.001, 1), (10.0, 4), (51.0, 21), (100.0, 40)] {
        assert_eq!(read(ReadData::Percent(percent)).len(), packs, "{percent} %");
    }
    let size = |id: &str| fs::metadata(all.iter().find(|path| path.ends_with(id)).unwrap()).unwrap().len();
    let largest = ids.iter().map(|id| size(id)).max().unwrap();
    let whole: u64 = ids.iter().map(|id| size(id)).sum();
    for bytes in [1, whole / 3, whole - 1, whole, u64::MAX] {
        let sum: u64 = read(ReadData::Bytes(bytes)).into_iter().map(|id| size(id)).sum();
        let wanted = bytes.min(whole);
        assert!((wanted..wanted + largest).contains(&sum), "{sum} of {bytes} bytes");
    }
}

/// All files in a folder and those in it, sorted by their names.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    files
}

#[test]
fn a_damaged_header_is_found_by_reading() {
    let scene = Scene::new();
    Scene::change(&scene.builder.path(&scene.data), |bytes| {
        let end = bytes.len();
        bytes[end - 10] ^= 1;
    });
    let summary = scene.check(ReadData::All);
    assert_names(&summary.errors, &[&format!("pack {} is damaged", scene.data), "its content has changed"]);
    assert_eq!(summary.errors.len(), 2, "{:?}", summary.errors);
}

#[test]
fn lost_and_short_packs_are_found_without_reading() {
    let scene = Scene::new();
    let path = scene.builder.path(&scene.data);
    Scene::change(&path, |bytes| bytes.truncate(60));
    for read_data in [ReadData::None, ReadData::All] {
        let summary = scene.check(read_data);
        assert_names(&summary.errors, &[&format!("pack {} has 60 bytes", scene.data), "/dir/two is damaged", "/top is damaged"]);
    }
    fs::remove_file(&path).unwrap();
    let summary = scene.check(ReadData::All);
    assert_names(&summary.errors, &[&format!("pack {} is missing: 2 blobs", scene.data), "/dir/one is damaged", "/top is damaged"]);
    fs::remove_file(scene.builder.path(&scene.trees)).unwrap();
    let summary = scene.check(ReadData::None);
    assert_names(&summary.errors, &["everything in / is lost", &scene.trees.to_string()]);
}

#[test]
fn damaged_index_and_snapshot_files_are_named() {
    let scene = Scene::new();
    let index = scene.builder.open.list_ids(FileKind::Index).unwrap();
    for id in &index {
        Scene::change(&scene.file("index", id), |bytes| bytes[5] ^= 1);
    }
    Scene::change(&scene.file("snapshots", &scene.snapshot), |bytes| bytes.truncate(10));
    let summary = scene.check(ReadData::All);
    assert_names(&summary.errors, &[&index[0].to_string(), &index[1].to_string(), &scene.snapshot.short()]);
    assert_names(&summary.hints, &[&format!("pack {}", scene.data), "is in no index"]);
}

#[test]
fn blobs_that_no_index_knows_are_missed() {
    let mut scene = Scene::new();
    let lost = Id::of(b"lost");
    let tree = scene.builder.tree(&[file("lost", &[lost], 4), folder("no tree", lost)]);
    scene.builder.pack();
    let snapshot = scene.builder.snapshot(tree);
    let summary = scene.check(ReadData::None);
    let (file, folder) = (format!("snapshot {}: /lost is damaged: data blob {lost}", snapshot.short()), "everything in /no tree is lost");
    assert_names(&summary.errors, &[&file, folder]);
    assert_eq!(summary.errors.len(), 2, "{:?}", summary.errors);
}

#[test]
fn an_index_that_disagrees_with_its_packs_is_found() {
    let scene = Scene::new();
    let wrong = crate::repository::restic::pack::PackedBlob {
        id: Id::of(b"invented"),
        kind: BlobKind::Data,
        offset: 1_000_000,
        length: 100,
        uncompressed: None,
    };
    scene.builder.index(scene.data, &[wrong]);
    let summary = scene.check(ReadData::All);
    assert_names(&summary.errors, &["outside the pack", "1 blobs of the index are not in its header"]);
}

#[test]
fn a_blob_under_a_wrong_name_is_found_by_reading() {
    let mut scene = Scene::new();
    let wrong = Id::of(b"something else");
    scene.builder.blob_as(BlobKind::Data, b"something", wrong);
    let pack = scene.builder.pack();
    let summary = scene.check(ReadData::All);
    assert_names(&summary.errors, &[&format!("data blob {wrong} at byte 0 of pack {pack} is damaged")]);
    assert_eq!(summary.errors.len(), 1, "{:?}", summary.errors);
}

#[test]
fn untidiness_is_a_hint() {
    let mut scene = Scene::new();
    scene.builder.blob(BlobKind::Data, b"nobody needs this");
    scene.builder.pack();
    scene.builder.blob(BlobKind::Data, b"the first");
    scene.builder.pack();
    scene.builder.blob(BlobKind::Data, b"left over by a killed run");
    let (orphan, _) = scene.builder.pack_without_index();
    let summary = scene.check(ReadData::All);
    assert_eq!(summary.errors, Vec::<String>::new());
    assert_names(&summary.hints, &["1 pack holds", "1 blobs", &format!("pack {orphan}")]);
}

#[test]
fn a_size_that_is_not_that_of_the_pieces_is_damage() {
    let mut scene = Scene::new();
    let root = scene.builder.tree(&[
        file("longer", &[scene.one], 10),
        file("right", &[scene.one], 9),
        file("shorter", &[scene.one, scene.one], 9),
    ]);
    scene.builder.pack();
    scene.builder.snapshot(root);
    let summary = scene.check(ReadData::None);
    assert_names(&summary.errors, &["`longer` is said to have 10 bytes, but its pieces have 9", "`shorter` is said to have 9 bytes"]);
    assert_eq!(summary.errors.len(), 2);
}

#[test]
fn trees_that_no_restore_takes_are_damage() {
    let mut scene = Scene::new();
    let one = scene.one;
    let evil = scene.builder.tree(&[file("z", &[one], 9), file("../up", &[one], 9), file("z", &[one], 9)]);
    let mut broken = folder("broken", evil);
    broken.subtree = None;
    let odd = scene.builder.blob(BlobKind::Tree, br#"{"nodes":[{"name":"odd","type":"irregular","content":null}]}"#);
    let root = scene.builder.tree(&[broken, folder("evil", evil), folder("odd", odd), folder("same", scene.tree)]);
    scene.builder.pack();
    scene.builder.snapshot(root);
    let summary = scene.check(ReadData::None);
    assert_names(&summary.errors, &["`../up`", "not in order", "`broken` has no content", "the type `irregular`"]);
}
