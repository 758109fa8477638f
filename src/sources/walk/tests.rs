#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::model::entry::{Content, Entry, Kind, Timestamp};
use crate::sources::filter::Case;

/// Reads a source to its end.
fn read(walk: &mut Walk) -> (Vec<Entry>, Vec<EntryProblem>) {
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    loop {
        match walk.next_step().unwrap() {
            Step::Entry(entry) => entries.push(entry),
            Step::Problem(problem) => problems.push(problem),
            Step::End => return (entries, problems),
        }
    }
}

fn walk(path: &Path) -> Vec<Entry> {
    let mut walk = Walk::new(path, WalkOptions::default()).unwrap();
    let counts = walk.counts();
    let (entries, problems) = read(&mut walk);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(counts.entries(), entries.len() as u64);
    assert_eq!(counts.bytes(), entries.iter().map(|entry| entry.metadata.size).sum::<u64>());
    assert!(counts.is_complete());
    entries
}

fn paths(entries: &[Entry]) -> Vec<&[u8]> {
    entries.iter().map(|entry| &entry.path[..]).collect()
}

fn texts(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| str::from_utf8(&entry.path).unwrap()).collect()
}

fn write(path: PathBuf, data: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, data).unwrap();
}

#[test]
fn entries_come_in_tree_order() {
    let tree = tempfile::tempdir().unwrap();
    for file in ["a/x", "a.b", "a-b/y", "a/z/deep", "B", "\u{e4}"] {
        write(tree.path().join(file), b"1");
    }
    let entries = walk(tree.path());
    // The names of one folder by their bytes, so that `a` and what is in it stands behind `a-b` and before `a.b` only if
    // the bytes say so: here `a` < `a-b` < `a.b`.
    assert_eq!(texts(&entries), ["", "B", "a", "a/x", "a/z", "a/z/deep", "a-b", "a-b/y", "a.b", "\u{e4}"]);
}
