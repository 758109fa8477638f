//! What is kept is kept byte for byte, whoever wrote it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use super::*;
use crate::model::progress::Silent;
use crate::repository::restic::reader::testing::{Builder, file, folder};

fn rewritten(builder: &Builder, exclude: &(dyn Fn(&[u8]) -> bool + Sync), forget: bool) -> Result<RewriteSummary, RepositoryError> {
    let snapshots = builder.open.snapshots().unwrap().into_iter().map(|(id, _)| id).collect();
    rewritten_of(builder, snapshots, exclude, forget)
}

fn rewritten_of(
    builder: &Builder,
    snapshots: Vec<Id>,
    exclude: &(dyn Fn(&[u8]) -> bool + Sync),
    forget: bool,
) -> Result<RewriteSummary, RepositoryError> {
    let control = Control::new();
    let lock = Lock::acquire(&builder.open, forget, Duration::ZERO, &control).unwrap();
    let repo = builder.indexed();
    let rewriting = Rewriting { repo: &repo, lock: Some(&lock), compression: Compression::Auto, pack_size: 1 << 20, control: &control };
    let snapshots = snapshots.into_iter().map(|id| SnapshotId(id.to_string())).collect();
    rewrite(rewriting, &RewriteRequest { snapshots, named: true, exclude, forget, remove_all: false, dry_run: false }, &Silent)
}

fn tree_json(builder: &Builder, id: &Id) -> String {
    let mut out = Vec::new();
    builder.indexed().read_blob(BlobKind::Tree, id, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn fields_and_kinds_that_nobody_knows_survive() {
    let mut builder = Builder::new();
    let inner = builder.blob(
        BlobKind::Tree,
        br#"{"nodes":[{"name":"keep","type":"hologram","depth":3},{"name":"drop","type":"file","size":5,"content":[]}]}
"#,
    );
    let odd = format!(
        r#"{{"nodes":[{{"name":"\\\"subtree\\\":\\\"","type":"file","content":[],"novel":1}},{{"name":"dir","type":"dir","mtime":"2020-01-01T00:00:00+05:45","generic_attributes":{{"x": 1}},"subtree":"{inner}"}}]}}
"#
    );
    let root = builder.blob(BlobKind::Tree, odd.as_bytes());
    builder.pack();
    let old = builder.snapshot(root);
    let summary = rewritten(&builder, &|path| path == b"/dir/drop", true).unwrap();
    assert_eq!((summary.changed, summary.snapshots[0].files, summary.snapshots[0].bytes), (1, 1, 5));
    assert!(summary.snapshots[0].forgotten);
    let (_, file) = builder.open.snapshots().unwrap().remove(0);
    assert_eq!((file.original, &file.tags), (Some(old), &Vec::new()));
    let new_inner = Id::of(b"{\"nodes\":[{\"name\":\"keep\",\"type\":\"hologram\",\"depth\":3}]}\n");
    assert_eq!(tree_json(&builder, &file.tree), odd.replace(&inner.to_string(), &new_inner.to_string()));
    assert!(tree_json(&builder, &new_inner).contains("hologram"));
}

/// Between the rewriting and the forgetting, the new folders are damaged: the old snapshot has the last whole form of them.
#[test]
fn nothing_goes_for_what_cannot_be_read() {
    for bit in [None, Some(20), Some(180)] {
        let mut builder = Builder::new();
        let blob = builder.blob(BlobKind::Data, b"data");
        builder.pack();
        let inner = builder.tree(&[file("drop", &[blob], 4), file("keep", &[blob], 4)]);
        let root = builder.tree(&[folder("dir", inner), file("top", &[blob], 4)]);
        builder.pack();
        let old = builder.snapshot(root);
        let packs = builder.open.list_ids(FileKind::Pack).unwrap();
        rewritten(&builder, &|path| path == b"/dir/drop", false).unwrap();
        let new = builder.open.list_ids(FileKind::Pack).unwrap().into_iter().find(|id| !packs.contains(id)).unwrap();
        let mut bytes = std::fs::read(builder.path(&new)).unwrap();
        std::fs::remove_file(builder.path(&new)).unwrap();
        if let Some(bit) = bit {
            bytes[bit] ^= 1;
            std::fs::write(builder.path(&new), bytes).unwrap();
        }
        let mut all: Vec<Id> = builder.open.snapshots().unwrap().into_iter().map(|(id, _)| id).collect();
        all.sort_unstable_by_key(|id| *id != old);
        let summary = rewritten_of(&builder, all, &|path| path == b"/dir/drop", true).unwrap();
        assert!(summary.snapshots[0].was_there && summary.snapshots[0].forgotten && !summary.snapshots[1].changed);
        let (_, file) = builder.open.snapshots().unwrap().remove(0);
        let repo = builder.indexed();
        let root = reader::load_tree(&repo, &file.tree).unwrap();
        let inner = reader::load_tree(&repo, &root.nodes[0].subtree.unwrap()).unwrap();
        assert_eq!(inner.nodes.iter().map(|node| &node.name[..]).collect::<Vec<_>>(), [b"keep"]);
    }
}

#[test]
fn a_snapshot_with_nothing_to_leave_out_stays() {
    let mut builder = Builder::new();
    let root = builder.blob(BlobKind::Tree, b"{\"nodes\":[]}\n");
    builder.pack();
    let old = builder.snapshot(root);
    let summary = rewritten(&builder, &|_| true, true).unwrap();
    assert_eq!(summary.changed, 0);
    assert_eq!(builder.open.snapshots().unwrap()[0].0, old);
}

#[test]
fn what_cannot_be_kept_whole_is_not_touched() {
    for json in [r#"{"nodes":[{"name":"a","type":"file"}],"more":1}"#, r#"{"nodes":[{"name":"a"}]}"#, "[]"] {
        let mut builder = Builder::new();
        let root = builder.blob(BlobKind::Tree, json.as_bytes());
        builder.pack();
        let old = builder.snapshot(root);
        let error = rewritten(&builder, &|_| true, true).unwrap_err();
        let RepositoryError::Damaged { offset, .. } = error else { unreachable!("{error}") };
        assert_eq!(offset > 9, json.contains(r#"{"name":"a"}"#), "the byte at which the entry is wrong: {offset}");
        assert_eq!(builder.open.snapshots().unwrap()[0].0, old);
    }
}

#[test]
fn nothing_is_written_where_nothing_would_be_left() {
    let mut builder = Builder::new();
    let data = builder.blob(BlobKind::Data, b"data");
    let below = builder.tree(&[file("f", &[data], 4)]);
    let all = [builder.tree(&[folder("d", below), folder("e", below)]), builder.tree(&[file("f", &[data], 4)])];
    builder.pack();
    for tree in all {
        builder.snapshot(tree);
    }
    let files = |kind| builder.open.list_ids(kind).unwrap();
    let before = (files(FileKind::Snapshot), files(FileKind::Pack));
    for exclude in [&(|_: &[u8]| true) as &(dyn Fn(&[u8]) -> bool + Sync), &|path: &[u8]| path.ends_with(b"f"), &|path| path == b"/f"] {
        let refused = rewritten(&builder, exclude, true).unwrap_err();
        assert!(matches!(refused, RepositoryError::WouldEmpty { .. }), "{refused}");
        assert_eq!((files(FileKind::Snapshot), files(FileKind::Pack)), before);
    }
    assert_eq!(rewritten(&builder, &|path| path == b"/d", true).unwrap().changed, 1);
}
