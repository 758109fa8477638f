//! Damage of every sort, and what the repairs make of it. That they may end at any call is in `repository/restic/tests`.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::model::progress::Silent;
use crate::platform::control::Control;
use crate::repository::backend::FileKind;
use crate::repository::contract::repair::{RepairIndexRequest, RepairIndexSummary, RepairSnapshotsRequest, RepairSnapshotsSummary};
use crate::repository::contract::{RepositoryError, TAG_PARTIAL, TAG_REPAIRED};
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::file::{IndexFile, SnapshotFile, to_json};
use crate::repository::restic::id::Id;
use crate::repository::restic::lock::Guard;
use crate::repository::restic::pack::PackedBlob;
use crate::repository::restic::reader::load_tree;
use crate::repository::restic::reader::testing::{Builder, file, folder};

const PACK: usize = 4 << 20;

fn index(builder: &Builder, request: RepairIndexRequest) -> RepairIndexSummary {
    let control = Control::new();
    super::index::repair(&builder.open, &request, PACK, Guard { lock: None, control: &control }, &Silent).unwrap()
}

fn snapshots(builder: &Builder, request: &RepairSnapshotsRequest) -> Result<RepairSnapshotsSummary, RepositoryError> {
    let control = Control::new();
    let all = builder.open.snapshot_files().unwrap();
    super::snapshots::repair(&builder.indexed(), &all, request, PACK, Guard { lock: None, control: &control }, &Silent)
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

fn names(builder: &Builder, kind: FileKind) -> BTreeSet<Id> {
    builder.open.list_ids(kind).unwrap().into_iter().collect()
}

/// `/dir/one`, `/dir/two` and `/top`, in one pack of data and one of trees, with an index each.
struct Scene {
    builder: Builder,
    data: Id,
    trees: Id,
    snapshot: Id,
    blobs: [Id; 3],
    tree: Id,
}

fn scene() -> Scene {
    let mut builder = Builder::new();
    let blobs = [b"the first", b"the other", b"the third"].map(|data| builder.blob(BlobKind::Data, data));
    let data = builder.pack();
    let tree = builder.tree(&[file("one", &[blobs[0], blobs[1]], 18), file("two", &[blobs[1]], 9)]);
    let root = builder.tree(&[folder("dir", tree), file("top", &[blobs[2]], 9)]);
    let trees = builder.pack();
    let snapshot = builder.snapshot(root);
    Scene { builder, data, trees, snapshot, blobs, tree }
}

impl Scene {
    /// The blobs of files that can be read.
    fn readable(&self) -> Vec<bool> {
        let repo = self.builder.indexed();
        self.blobs.iter().map(|id| repo.read_blob(BlobKind::Data, id, &mut Vec::new()).is_ok()).collect()
    }

    /// Asserts that the index is there, names what is there, and that another repair has nothing to do.
    #[track_caller]
    fn assert_agrees(&self) {
        let repo = self.builder.indexed();
        let sizes = self.builder.open.list_sizes(FileKind::Pack).unwrap();
        for pack in repo.index().packs() {
            assert!(sizes.contains(&(pack.id, pack.size)), "{pack:?} {sizes:?}");
        }
    }
}

#[test]
fn a_sound_index_is_left_alone() {
    let scene = scene();
    let before = names(&scene.builder, FileKind::Index);
    let summary = index(&scene.builder, RepairIndexRequest::default());
    assert!(summary.is_untouched() && summary.problems.is_empty(), "{summary:?}");
    assert_eq!((summary.packs, names(&scene.builder, FileKind::Index)), (2, before.clone()));
    for request in [
        RepairIndexRequest { read_all_packs: true, ..RepairIndexRequest::default() },
        RepairIndexRequest { read_data: true, ..RepairIndexRequest::default() },
    ] {
        let summary = index(&scene.builder, RepairIndexRequest { dry_run: true, ..request });
        assert_eq!((summary.packs_read, summary.indexes_written, names(&scene.builder, FileKind::Index)), (2, 1, before.clone()));
    }
    let summary = index(&scene.builder, RepairIndexRequest { read_all_packs: true, ..RepairIndexRequest::default() });
    assert_eq!((summary.packs_read, summary.indexes_written, summary.indexes_removed), (2, 1, 2));
    assert_eq!(scene.readable(), [true; 3]);
}

#[test]
fn an_index_of_the_oldest_form_is_written_anew() {
    let scene = scene();
    let files = names(&scene.builder, FileKind::Index);
    for id in &files {
        let index = IndexFile::parse(&scene.builder.open.read_unpacked(FileKind::Index, id).unwrap()).unwrap();
        scene.builder.open.write_unpacked(FileKind::Index, &to_json(&index.packs).unwrap()).unwrap();
        scene.builder.open.remove(FileKind::Index, id).unwrap();
    }
    assert_eq!(scene.readable(), [true; 3]);
    let summary = index(&scene.builder, RepairIndexRequest::default());
    assert_eq!((summary.packs_read, summary.indexes_removed, summary.indexes_written), (0, files.len() as u64, 1));
    assert_eq!(summary.problems, [""; 0]);
    for id in names(&scene.builder, FileKind::Index) {
        assert!(!IndexFile::is_bare(&scene.builder.open.read_unpacked(FileKind::Index, &id).unwrap()));
    }
    assert_eq!(scene.readable(), [true; 3]);
    scene.assert_agrees();
    assert!(index(&scene.builder, RepairIndexRequest::default()).is_untouched());
}

#[test]
fn lost_and_damaged_index_files_are_made_again() {
    for damage in [
        &(|path: &Path| fs::remove_file(path).unwrap()) as &dyn Fn(&Path),
        &|path| change(path, |bytes| bytes[50] ^= 1),
        &|path| change(path, |bytes| bytes.truncate(20)),
        &|path| change(path, Vec::clear),
    ] {
        let scene = scene();
        for id in names(&scene.builder, FileKind::Index) {
            damage(&scene.builder.folder.path().join("index").join(id.to_string()));
        }
        let files = names(&scene.builder, FileKind::Index);
        let foreseen = index(&scene.builder, RepairIndexRequest { dry_run: true, ..RepairIndexRequest::default() });
        assert_eq!((foreseen.packs_read, &names(&scene.builder, FileKind::Index)), (2, &files));
        let summary = index(&scene.builder, RepairIndexRequest::default());
        assert_eq!((summary.packs_read, summary.indexes_damaged, summary.indexes_written), (2, files.len() as u64, 1));
        assert_eq!(scene.readable(), [true; 3]);
        scene.assert_agrees();
        assert!(index(&scene.builder, RepairIndexRequest::default()).is_untouched());
    }
}

#[test]
fn a_missing_pack_is_not_named_any_more() {
    let scene = scene();
    fs::remove_file(scene.builder.path(&scene.data)).unwrap();
    let summary = index(&scene.builder, RepairIndexRequest::default());
    assert_eq!((summary.packs_missing, summary.blobs_lost), (1, 3));
    assert!(summary.problems[0].contains(&format!("pack {} is missing: 3 blobs", scene.data)), "{:?}", summary.problems);
    assert_eq!(scene.readable(), [false; 3]);
    scene.assert_agrees();
}

#[test]
fn what_is_whole_in_a_damaged_pack_is_saved() {
    // Cut off within the second blob: no header any more.
    let cut = scene();
    change(&cut.builder.path(&cut.data), |bytes| bytes.truncate(60));
    let summary = index(&cut.builder, RepairIndexRequest::default());
    assert_eq!((summary.packs_damaged, summary.blobs_saved, summary.blobs_lost), (1, 1, 2), "{summary:?}");
    assert_eq!(cut.readable(), [true, false, false]);
    cut.assert_agrees();

    // A bit in the second blob is found by reading, and only so.
    let flipped = scene();
    change(&flipped.builder.path(&flipped.data), |bytes| bytes[60] ^= 1);
    assert!(index(&flipped.builder, RepairIndexRequest::default()).is_untouched());
    let summary = index(&flipped.builder, RepairIndexRequest { read_data: true, ..RepairIndexRequest::default() });
    assert_eq!((summary.packs_damaged, summary.blobs_saved, summary.blobs_lost), (1, 2, 1));
    assert_eq!(flipped.readable(), [true, false, true]);
    flipped.assert_agrees();

    // A bit in the header: every blob is whole, and the index still knows where they are.
    let header = scene();
    change(&header.builder.path(&header.data), |bytes| {
        let end = bytes.len();
        bytes[end - 20] ^= 1;
    });
    let summary = index(&header.builder, RepairIndexRequest { read_all_packs: true, ..RepairIndexRequest::default() });
    assert_eq!((summary.packs_damaged, summary.blobs_saved, summary.blobs_lost), (1, 3, 0));
    assert_eq!(header.readable(), [true; 3]);

    // Neither header nor index.
    let nobody = scene();
    change(&nobody.builder.path(&nobody.data), Vec::clear);
    for id in names(&nobody.builder, FileKind::Index) {
        fs::remove_file(nobody.builder.folder.path().join("index").join(id.to_string())).unwrap();
    }
    let summary = index(&nobody.builder, RepairIndexRequest::default());
    assert!(summary.problems.iter().any(|problem| problem.contains("nobody knows")), "{:?}", summary.problems);
    nobody.assert_agrees();
}

/// A repair that reads no data must not take in again what one that did has left out.
#[test]
fn what_was_left_out_for_its_damage_stays_out() {
    let scene = scene();
    let whole = fs::read(scene.builder.path(&scene.data)).unwrap();
    change(&scene.builder.path(&scene.data), |bytes| bytes[60] ^= 1);
    let with_data = RepairIndexRequest { read_data: true, ..RepairIndexRequest::default() };
    index(&scene.builder, with_data);
    let packs = names(&scene.builder, FileKind::Pack);
    for request in [RepairIndexRequest::default(), RepairIndexRequest { read_all_packs: true, ..RepairIndexRequest::default() }, with_data]
    {
        let summary = index(&scene.builder, request);
        assert_eq!((summary.packs_damaged, summary.blobs_saved, summary.blobs_lost), (1, 0, 1), "{request:?}: {summary:?}");
        assert_eq!(names(&scene.builder, FileKind::Pack), packs, "nothing is saved twice");
        assert!(!scene.builder.indexed().index().contains(BlobKind::Data, &scene.blobs[1]), "a backup would count on it");
        assert_eq!(scene.readable(), [true, false, true]);
        scene.assert_agrees();
    }
    // A backup stores it again: then nothing is lost.
    let mut builder = scene.builder;
    builder.blob(BlobKind::Data, b"the other");
    builder.pack();
    for request in [RepairIndexRequest::default(), with_data] {
        let summary = index(&builder, request);
        assert_eq!((summary.packs_damaged, summary.blobs_saved, summary.blobs_lost), (0, 0, 0), "{request:?}: {summary:?}");
        assert!(summary.problems.iter().any(|problem| problem.contains("the next prune removes it")), "{:?}", summary.problems);
        assert_eq!(builder.indexed().index().lookup_all(BlobKind::Data, &scene.blobs[1]).len(), 1);
    }
    // What is whole is taken in.
    change(&builder.path(&scene.data), |bytes| bytes.clone_from(&whole));
    assert_eq!(index(&builder, RepairIndexRequest::default()).packs_read, 1);
    assert_eq!(builder.indexed().index().lookup_all(BlobKind::Data, &scene.blobs[1]).len(), 2);
}

/// The other copy may be damaged as well, in a pack that nobody reads.
#[test]
fn what_is_elsewhere_is_read_before_it_is_counted_on() {
    for is_rotten in [true, false] {
        let mut scene = scene();
        scene.builder.blob(BlobKind::Data, b"the first");
        let copy = scene.builder.pack();
        if is_rotten {
            change(&scene.builder.path(&copy), |bytes| bytes[5] ^= 1);
        }
        change(&scene.builder.path(&scene.data), |bytes| bytes.truncate(60));
        let summary = index(&scene.builder, RepairIndexRequest::default());
        assert_eq!((summary.packs_damaged, summary.blobs_saved, summary.blobs_lost), (1, u64::from(is_rotten), 2), "{summary:?}");
        assert!(scene.readable()[0]);
    }
}

#[test]
fn an_index_that_lies_is_replaced() {
    let scene = scene();
    let wrong = PackedBlob { id: scene.blobs[0], kind: BlobKind::Data, offset: 5, length: 100, uncompressed: None };
    scene.builder.index(scene.trees, &[wrong]);
    scene.builder.index(Id::of(b"never there"), &[wrong]);
    let summary = index(&scene.builder, RepairIndexRequest::default());
    assert_eq!((summary.indexes_removed, summary.packs_missing), (2, 1), "{summary:?}");
    assert_eq!(scene.builder.indexed().index().lookup_all(BlobKind::Data, &scene.blobs[0]).len(), 1);
    assert_eq!(scene.readable(), [true; 3]);
    scene.assert_agrees();
    assert!(index(&scene.builder, RepairIndexRequest::default()).is_untouched());
}

fn read_snapshot(builder: &Builder, id: &str) -> SnapshotFile {
    builder.open.snapshot(&id.parse().unwrap()).unwrap()
}

#[test]
fn a_sound_snapshot_is_left_alone() {
    let scene = scene();
    let summary = snapshots(&scene.builder, &RepairSnapshotsRequest { forget: true, ..RepairSnapshotsRequest::default() }).unwrap();
    assert_eq!((summary.snapshots, summary.damaged), (1, Vec::new()));
    assert_eq!(names(&scene.builder, FileKind::Snapshot), [scene.snapshot].into());
}

#[test]
fn a_snapshot_loses_only_what_is_lost() {
    let scene = scene();
    // The second blob: `one` is cut, `two` is emptied, `top` is whole.
    change(&scene.builder.path(&scene.data), |bytes| bytes[60] ^= 1);
    index(&scene.builder, RepairIndexRequest { read_data: true, ..RepairIndexRequest::default() });
    let dry = RepairSnapshotsRequest { dry_run: true, ..RepairSnapshotsRequest::default() };
    let before = names(&scene.builder, FileKind::Pack);
    let foreseen = snapshots(&scene.builder, &dry).unwrap();
    assert_eq!((names(&scene.builder, FileKind::Pack), names(&scene.builder, FileKind::Snapshot).len()), (before, 1));
    assert_eq!(foreseen.damaged[0].repaired, None);

    let summary = snapshots(&scene.builder, &RepairSnapshotsRequest::default()).unwrap();
    let [damaged] = &summary.damaged[..] else { unreachable!("{summary:?}") };
    let paths: Vec<&str> = damaged.lost.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!((paths, damaged.removed, damaged.is_lost), (vec!["/dir/one", "/dir/two"], false, false));
    assert_eq!(foreseen.damaged[0].lost, damaged.lost);
    let repaired = read_snapshot(&scene.builder, &damaged.repaired.as_ref().unwrap().0);
    let old = read_snapshot(&scene.builder, &scene.snapshot.to_string());
    assert_eq!((repaired.original, repaired.time, &repaired.paths), (Some(scene.snapshot), old.time, &old.paths));
    assert_eq!(repaired.tags, [TAG_REPAIRED, TAG_PARTIAL]);
    let repo = scene.builder.indexed();
    let root = load_tree(&repo, &repaired.tree).unwrap();
    let (old_root, old_dir) = (load_tree(&repo, &old.tree).unwrap(), load_tree(&repo, &scene.tree).unwrap());
    assert_eq!(root.nodes[1], old_root.nodes[1]);
    assert_eq!(root.nodes[0].metadata, old_root.nodes[0].metadata);
    let dir = load_tree(&repo, &root.nodes[0].subtree.unwrap()).unwrap();
    assert_eq!((&dir.nodes[0].content[..], dir.nodes[0].metadata.size), (&[scene.blobs[0]][..], 9));
    assert_eq!((&dir.nodes[1].content[..], dir.nodes[1].metadata.size), (&[][..], 0));
    assert_eq!(dir.nodes[1].metadata.mode, old_dir.nodes[1].metadata.mode);

    // Again: it is known to be repaired. The repaired one itself needs nothing.
    let again = snapshots(&scene.builder, &RepairSnapshotsRequest { forget: true, ..RepairSnapshotsRequest::default() }).unwrap();
    assert_eq!(again.damaged.len(), 1);
    assert!(again.damaged[0].was_repaired && again.damaged[0].removed);
    assert_eq!(names(&scene.builder, FileKind::Snapshot).len(), 1);
    assert_eq!(snapshots(&scene.builder, &RepairSnapshotsRequest::default()).unwrap().damaged, []);
}

#[test]
fn a_folder_that_is_lost_becomes_empty() {
    let mut builder = Builder::new();
    let blob = builder.blob(BlobKind::Data, b"data");
    let root = builder.tree(&[folder("dir", Id::of(b"lost")), file("top", &[blob], 4)]);
    builder.pack();
    let first = builder.snapshot(root);
    let summary = snapshots(&builder, &RepairSnapshotsRequest::default()).unwrap();
    let repaired = read_snapshot(&builder, &summary.damaged[0].repaired.as_ref().unwrap().0);
    let repo = builder.indexed();
    let tree = load_tree(&repo, &repaired.tree).unwrap();
    assert_eq!(load_tree(&repo, &tree.nodes[0].subtree.unwrap()).unwrap().nodes, []);
    assert_eq!((&tree.nodes[1].content[..], repaired.original), (&[blob][..], Some(first)));
    assert_eq!(summary.damaged[0].lost[0].path, "/dir");
}

#[test]
fn a_snapshot_of_which_nothing_is_left_goes_only_when_asked() {
    let scene = scene();
    let gone = scene.builder.snapshot(Id::of(b"no tree"));
    let unreadable = *names(&scene.builder, FileKind::Snapshot).iter().find(|id| **id == scene.snapshot).unwrap();
    change(&scene.builder.folder.path().join("snapshots").join(unreadable.to_string()), |bytes| bytes[40] ^= 1);
    let summary = snapshots(&scene.builder, &RepairSnapshotsRequest::default()).unwrap();
    assert!(summary.damaged.len() == 2 && summary.damaged.iter().all(|one| one.is_lost && !one.removed && one.repaired.is_none()));
    assert_eq!(names(&scene.builder, FileKind::Snapshot).len(), 2);
    let only = RepairSnapshotsRequest { snapshots: vec![gone.short()], forget: true, ..RepairSnapshotsRequest::default() };
    assert_eq!(snapshots(&scene.builder, &only).unwrap().damaged.len(), 1);
    assert_eq!(names(&scene.builder, FileKind::Snapshot), [unreadable].into());
    let none = RepairSnapshotsRequest { snapshots: vec!["zz".into()], ..only };
    assert!(matches!(snapshots(&scene.builder, &none), Err(RepositoryError::NoSnapshot { .. })));
}

#[test]
fn a_wrong_size_is_put_right_and_is_no_loss() {
    let mut builder = Builder::new();
    let blob = builder.blob(BlobKind::Data, b"data");
    let root = builder.tree(&[file("top", &[blob], 17)]);
    builder.pack();
    builder.snapshot(root);
    let summary = snapshots(&builder, &RepairSnapshotsRequest::default()).unwrap();
    let repaired = read_snapshot(&builder, &summary.damaged[0].repaired.as_ref().unwrap().0);
    assert_eq!(repaired.tags, [TAG_REPAIRED], "nothing is missing in it");
    assert_eq!(load_tree(&builder.indexed(), &repaired.tree).unwrap().nodes[0].metadata.size, 4);
}

#[test]
fn what_this_version_does_not_know_survives() {
    let mut builder = Builder::new();
    let json = format!(
        r#"{{"nodes":[{{"name":"a\u003cb","type":"file","mode":420,"novel":{{"x":[1]}},"content":["{}"],"size":3}},{{"name":"odd","type":"novel","content":null}}]}}"#,
        Id::of(b"lost")
    );
    let root = builder.blob(BlobKind::Tree, format!("{json}\n").as_bytes());
    builder.pack();
    builder.snapshot(root);
    let summary = snapshots(&builder, &RepairSnapshotsRequest::default()).unwrap();
    let repaired = read_snapshot(&builder, &summary.damaged[0].repaired.as_ref().unwrap().0);
    let mut stored = Vec::new();
    builder.indexed().read_blob(BlobKind::Tree, &repaired.tree, &mut stored).unwrap();
    let expected = r#"{"nodes":[{"name":"a\u003cb","type":"file","mode":420,"novel":{"x":[1]},"content":[]},{"name":"odd","type":"novel","content":null}]}"#;
    assert_eq!(String::from_utf8(stored).unwrap(), format!("{expected}\n"));
}

/// An entry that nobody can read blocks `prune` as much as a lost folder does. What stands beside it stays byte for byte.
#[test]
fn an_entry_that_cannot_be_read_goes_alone() {
    let mut builder = Builder::new();
    let kept = [r#"{"name":"a\u003cb","type":"file","novel":{"x":[1]},"content":null}"#, r#"{"name":"odd","type":"novel"}"#];
    let bad = [
        r#"{"name":"bad","type":"file","mtime":"no time","content":[]}"#,
        r#"{"name":"c","type":"file","size":-1}"#,
        r#"{"type":"file"}"#,
        // It could be read, but what is lost in it cannot be told without what else it says.
        r#"{"name":"deep","type":"dir","subtree":null,"novel":1e999}"#,
    ];
    let json = format!("{{\"nodes\":[{},{},{},{},{},{}]}}\n", kept[0], bad[0], bad[1], kept[1], bad[2], bad[3]);
    let inner = builder.blob(BlobKind::Tree, json.as_bytes());
    let no_tree = builder.blob(BlobKind::Tree, b"{\"entries\":[]}\n");
    let root = builder.tree(&[folder("dir", inner), folder("none", no_tree)]);
    builder.pack();
    builder.snapshot(root);
    let summary = snapshots(&builder, &RepairSnapshotsRequest::default()).unwrap();
    let [damaged] = &summary.damaged[..] else { unreachable!("{summary:?}") };
    let lost: Vec<&str> = damaged.lost.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!((lost, damaged.lost_count), (vec!["/dir/bad", "/dir/c", "/dir/?", "/dir/deep", "/dir/deep", "/none"], 6));
    let at = json.find("no time").unwrap();
    let told = &damaged.lost[0].message;
    let byte: usize = told.split("byte ").nth(1).unwrap().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    assert!(byte.abs_diff(at) <= "no time".len() + 1, "{told}: it is at {at}");
    let repaired = read_snapshot(&builder, &damaged.repaired.as_ref().unwrap().0);
    assert_eq!(repaired.tags, [TAG_REPAIRED, TAG_PARTIAL]);
    let repo = builder.indexed();
    let root = load_tree(&repo, &repaired.tree).unwrap();
    let mut stored = Vec::new();
    repo.read_blob(BlobKind::Tree, &root.nodes[0].subtree.unwrap(), &mut stored).unwrap();
    assert_eq!(String::from_utf8(stored).unwrap(), format!("{{\"nodes\":[{},{}]}}\n", kept[0], kept[1]));
    assert_eq!(load_tree(&repo, &root.nodes[1].subtree.unwrap()).unwrap().nodes, []);
}

/// Each snapshot is told all that it loses, wherever that was found first, and only its own.
#[test]
fn what_is_lost_in_one_snapshot_is_told_of_each() {
    let mut builder = Builder::new();
    let blob = builder.blob(BlobKind::Data, b"data");
    let shared = builder.tree(&[folder("gone", Id::of(b"lost")), file("torn", &[Id::of(b"no"), blob], 8)]);
    let one = builder.tree(&[folder("a", shared), folder("b", shared)]);
    let other = builder.tree(&[folder("there", shared)]);
    let only_size = builder.tree(&[file("sized", &[blob], 17)]);
    let above = builder.tree(&[folder("deep", only_size)]);
    let sound = builder.tree(&[file("sound", &[blob], 4)]);
    builder.pack();
    let expected = [
        (builder.snapshot(one), vec!["/a/gone", "/a/torn", "/b/gone", "/b/torn"], true),
        (builder.snapshot(other), vec!["/there/gone", "/there/torn"], true),
        (builder.snapshot(shared), vec!["/gone", "/torn"], true),
        (builder.snapshot(only_size), vec!["/sized"], false),
        (builder.snapshot(above), vec!["/deep/sized"], false),
    ];
    builder.snapshot(sound);
    let summary = snapshots(&builder, &RepairSnapshotsRequest::default()).unwrap();
    assert_eq!(summary.damaged.len(), expected.len());
    for (id, lost, is_partial) in expected {
        let damaged = summary.damaged.iter().find(|damaged| damaged.id.0 == id.to_string()).unwrap();
        let told: Vec<&str> = damaged.lost.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!((told, damaged.lost_count as usize), (lost.clone(), lost.len()));
        let tags = read_snapshot(&builder, &damaged.repaired.as_ref().unwrap().0).tags;
        assert_eq!(tags.iter().any(|tag| tag == TAG_PARTIAL), is_partial, "{lost:?}: {tags:?}");
    }
}

#[test]
fn snapshots_wait_for_the_index() {
    let scene = scene();
    fs::remove_file(scene.builder.path(&scene.data)).unwrap();
    let error = snapshots(&scene.builder, &RepairSnapshotsRequest::default()).unwrap_err();
    assert!(matches!(&error, RepositoryError::Refused { problems, .. } if problems[0].contains("is missing")), "{error:?}");
}

/// Sizes that are right say nothing of the rest.
#[test]
fn what_only_the_index_calls_lost_is_not_given_up() {
    let lies: [fn(&mut PackedBlob); 3] = [
        |blob| blob.kind = if blob.kind == BlobKind::Tree { BlobKind::Data } else { BlobKind::Tree },
        |blob| blob.uncompressed = blob.uncompressed.map(|length| length.saturating_add(1)),
        |blob| blob.id.0[0] ^= 1,
    ];
    for lie in lies {
        let scene = scene();
        let builder = &scene.builder;
        let indexed = builder.indexed();
        for id in names(builder, FileKind::Index) {
            builder.open.remove(FileKind::Index, &id).unwrap();
        }
        for pack in [scene.data, scene.trees] {
            let mut blobs: Vec<PackedBlob> = indexed.index().blobs().filter(|(other, _)| *other == pack).map(|(_, blob)| blob).collect();
            if pack == scene.trees {
                blobs.iter_mut().for_each(lie);
            }
            builder.index(pack, &blobs);
        }
        let request = RepairSnapshotsRequest { forget: true, ..RepairSnapshotsRequest::default() };
        let error = snapshots(builder, &request).unwrap_err();
        assert!(matches!(&error, RepositoryError::Refused { reason, .. } if reason.contains("--read-all-packs")), "{error:?}");
        assert!(names(builder, FileKind::Snapshot).contains(&scene.snapshot));
        let _ = index(builder, RepairIndexRequest { read_all_packs: true, ..RepairIndexRequest::default() });
        assert!(snapshots(builder, &request).unwrap().damaged.is_empty());
        assert_eq!(scene.readable(), [true; 3]);
    }
}

/// All empty folders of a repository are one tree: lost, it must be made again, and no snapshot may go with it.
#[test]
fn the_empty_folder_is_made_again() {
    let empty = b"{\"nodes\":[]}\n";
    for is_rotten in [false, true] {
        for other_is_lost in [false, true] {
            let mut builder = Builder::new();
            let blob = builder.blob(BlobKind::Data, b"data");
            let other = if other_is_lost { Id::of(b"lost") } else { builder.tree(&[file("in", &[blob], 4)]) };
            let inner = builder.tree(&[folder("empty", Id::of(empty))]);
            let root = builder.tree(&[folder("a", inner), folder("b", Id::of(empty)), folder("other", other)]);
            builder.pack();
            if is_rotten {
                builder.blob(BlobKind::Tree, empty);
                let pack = builder.pack();
                change(&builder.path(&pack), |bytes| bytes[5] ^= 1);
            }
            let old = builder.snapshot(root);
            let request = RepairSnapshotsRequest { forget: true, ..RepairSnapshotsRequest::default() };
            let foreseen = snapshots(&builder, &RepairSnapshotsRequest { dry_run: true, ..request.clone() }).unwrap();
            let summary = snapshots(&builder, &request).unwrap();
            assert!(foreseen.empty_folder_written && summary.empty_folder_written);
            assert_eq!((foreseen.damaged.len(), summary.damaged.len()), (usize::from(other_is_lost), usize::from(other_is_lost)));
            for round in 0..2 {
                let left = names(&builder, FileKind::Snapshot);
                assert_eq!((left.len(), left.contains(&old)), (1, !other_is_lost), "{is_rotten} {round}");
                let repo = builder.indexed();
                let tree = builder.open.snapshot(left.first().unwrap()).unwrap().tree;
                let root = load_tree(&repo, &tree).unwrap();
                for node in &root.nodes {
                    load_tree(&repo, &node.subtree.unwrap()).unwrap();
                }
                let again = snapshots(&builder, &request).unwrap();
                assert!(again.damaged.is_empty() && !again.empty_folder_written, "{again:?}");
            }
        }
    }
}
