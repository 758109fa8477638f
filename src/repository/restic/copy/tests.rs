//! Whatever fails in the middle: a snapshot is there whole or not at all, and the next copy completes it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::model::progress::Silent;
use crate::repository::backend::testing::MemoryBackend;
use crate::repository::restic::lock::LockTimes;
use crate::repository::restic::reader::testing::{Builder, file, folder};
use crate::repository::restic::state::testing::password;
use crate::repository::restic::state::{Closed, InitOptions, Open};
use crate::repository::restic::writer::INDEX_INTERVAL;

/// Two snapshots that share a folder; several packs' worth at the small pack size below.
fn source() -> Builder {
    let mut builder = Builder::new();
    let blobs: Vec<Id> = (0..40_u32).map(|number| builder.blob(BlobKind::Data, &number.to_le_bytes().repeat(300))).collect();
    let shared = builder.tree(&[file("a", &blobs[..20], 24_000), file("b", &blobs[20..25], 6_000)]);
    let first = builder.tree(&[folder("shared", shared)]);
    let second = builder.tree(&[file("new", &blobs[25..], 18_000), folder("shared", shared)]);
    builder.pack();
    builder.snapshot(first);
    builder.snapshot(second);
    builder
}

fn copy_to(source: &Builder, target: &Open) -> Result<CopySummary, RepositoryError> {
    copy_with(source, target, INDEX_INTERVAL)
}

fn copy_with(source: &Builder, target: &Open, index_interval: Duration) -> Result<CopySummary, RepositoryError> {
    let times = LockTimes { settle: Duration::ZERO, ..LockTimes::default() };
    let control = Control::new();
    let lock = Lock::acquire_with(target, false, Duration::ZERO, &control, times)?;
    let (from, to) = (source.indexed(), target.clone().into_indexed()?);
    let compared = to.look_for_packs()?;
    let is_doubtful = !compared.lost.is_empty() || compared.has_others;
    let copying = Copying {
        source: &from,
        target: &to,
        is_doubtful,
        lock: Some(&lock),
        compression: Compression::Auto,
        pack_size: 500,
        index_interval,
        control: &control,
        notice: &|_| {},
    };
    let ids: Vec<Id> = from.snapshots()?.into_iter().map(|(id, _)| id).collect();
    execute(copying, &plan(copying, &ids, true)?, &Silent)
}

/// Reads everything that the snapshots need; gives how many snapshots there are.
fn read_all(open: &Open) -> usize {
    let repo = open.clone().into_indexed().unwrap();
    let snapshots = repo.snapshots().unwrap();
    let blobs = AtomicUsize::new(0);
    reader::each_tree(&repo, snapshots.iter().map(|(_, file)| file.tree), |_, tree| {
        for id in tree.unwrap().nodes.iter().flat_map(|node| &node.content) {
            repo.read_blob(BlobKind::Data, id, &mut Vec::new()).unwrap();
            blobs.fetch_add(1, Ordering::Relaxed);
        }
        true
    });
    assert!(snapshots.is_empty() || blobs.load(Ordering::Relaxed) >= 25);
    snapshots.len()
}

#[test]
fn every_write_may_fail() {
    let source = source();
    for count in 0.. {
        let memory = Arc::new(MemoryBackend::new());
        let backend = Arc::clone(&memory);
        let target = Closed::new(backend).init(&password(), InitOptions::default()).unwrap();
        memory.fail_after(count);
        let copied = copy_to(&source, &target);
        let failed = memory.has_failed();
        memory.fail_after(i64::MAX);
        read_all(&target);
        crate::repository::restic::lock::unlock(&target, true).unwrap();
        let again = copy_to(&source, &target).unwrap();
        assert_eq!((again.copied + again.were_there, read_all(&target)), (2, 2), "{count}");
        if copied.is_ok() && !failed {
            assert_eq!(again.were_there, 2);
            assert!(count > 6, "{count}");
            break;
        }
    }
}

#[test]
fn a_folder_that_is_there_without_what_is_in_it_is_completed() {
    let source = source();
    // As a copy leaves it that was ended between a pack of folders and a pack of data.
    let from = source.indexed();
    let mut builder = Builder::new();
    for (_, snapshot) in from.snapshots().unwrap() {
        let mut json = Vec::new();
        from.read_blob(BlobKind::Tree, &snapshot.tree, &mut json).unwrap();
        builder.blob(BlobKind::Tree, &json);
    }
    builder.pack();
    assert_eq!(copy_to(&source, &builder.open).unwrap().copied, 2);
    assert_eq!(read_all(&builder.open), 2);
}

#[test]
fn what_the_source_has_lost_since_keeps_nothing_newer_from_being_copied() {
    let mut source = source();
    let target = Closed::new(Arc::new(MemoryBackend::new())).init(&password(), InitOptions::default()).unwrap();
    assert_eq!(copy_to(&source, &target).unwrap().copied, 2);
    for (pack, _) in source.open.list_sizes(FileKind::Pack).unwrap() {
        source.open.backend().remove(FileKind::Pack, &pack.to_string()).unwrap();
        // As a writer leaves it that was killed before it wrote its index: then nobody knows what else is missing.
        target.backend().write(FileKind::Pack, &Id::of(b"in no index").to_string(), &[b"in no index"]).unwrap();
    }
    let blob = source.blob(BlobKind::Data, b"newer");
    let newer = source.tree(&[file("newer", &[blob], 5)]);
    source.pack();
    source.snapshot(newer);
    let again = copy_to(&source, &target).unwrap();
    assert_eq!((again.copied, again.were_there), (1, 2));
}

/// The most index files that a copy which died left before its first snapshot was there.
fn named_at_death(interval: Duration) -> usize {
    let (source, mut most) = (source(), 0);
    for count in 0.. {
        let memory = Arc::new(MemoryBackend::new());
        let target = Closed::new(Arc::clone(&memory) as _).init(&password(), InitOptions::default()).unwrap();
        // As after a kill: from then on nothing is written, not even at the end.
        memory.fail_after(count);
        let copied = copy_with(&source, &target, interval);
        memory.fail_after(i64::MAX);
        if copied.is_ok() {
            break;
        }
        crate::repository::restic::lock::unlock(&target, true).unwrap();
        if memory.names(FileKind::Snapshot).is_empty() {
            let named = memory.names(FileKind::Index).len();
            most = most.max(named);
            let again = copy_to(&source, &target).unwrap();
            assert_eq!((again.copied, read_all(&target)), (2, 2));
            assert!(named < 2 || again.blobs < 35, "{named} index files, and {} blobs were copied again", again.blobs);
        }
    }
    most
}

#[test]
fn a_long_copy_that_dies_has_not_worked_in_vain() {
    assert!(named_at_death(INDEX_INTERVAL) <= 1);
    assert!(named_at_death(Duration::ZERO) >= 2);
}
