//! What is kept is kept byte for byte, whoever wrote it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use super::*;
use crate::model::progress::Silent;
use crate::repository::restic::reader::testing::Builder;

fn rewritten(builder: &Builder, exclude: &(dyn Fn(&[u8]) -> bool + Sync), forget: bool) -> Result<RewriteSummary, RepositoryError> {
    let control = Control::new();
    let lock = Lock::acquire(&builder.open, forget, Duration::ZERO, &control).unwrap();
    let repo = builder.indexed();
    let rewriting = Rewriting { repo: &repo, lock: Some(&lock), compression: Compression::Auto, pack_size: 1 << 20, control: &control };
    let snapshots = repo.snapshots().unwrap().into_iter().map(|(id, _)| SnapshotId(id.to_string())).collect();
    rewrite(rewriting, &RewriteRequest { snapshots, exclude, forget, dry_run: false }, &Silent)
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
