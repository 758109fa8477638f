//! Whole repositories on a slow store with a cache before it: the second time, next to nothing is asked for; several at once do
//! each other no harm; and what is damaged in the store is found although the cache has it whole.

use std::fs;
use std::path::Path;

use super::*;
use crate::repository::backend::cache::{Cache, CacheOptions};
use crate::repository::backend::testing::SlowBackend;
use crate::repository::contract::RestoreRequest;
use crate::repository::contract::repair::{RepairIndexRequest, RepairSnapshotsRequest};

/// The repository as a process sees it that reaches it slowly and has a cache in `folder`.
fn far(world: &World, folder: &Path, limit: u64) -> (ResticRepository, Arc<SlowBackend>) {
    let slow = Arc::new(SlowBackend::new(world.memory.clone(), Duration::from_millis(1)));
    let options = CacheOptions { folder: folder.to_owned(), limit, notice: Arc::new(|_| {}) };
    let cache = Cache::new(slow.clone(), &world.open.config().id, options).unwrap();
    (repository(&world.open, Arc::new(cache)), slow)
}

fn world() -> World {
    let mut world = World::new();
    let files = |numbers: std::ops::Range<usize>| -> Files {
        numbers.map(|number| (format!("d{}/{number}", number % 9), content(number))).collect()
    };
    for start in 0..5 {
        world.back_up(files(start..start + 40));
    }
    world
}

/// Lists the snapshots and everything in the oldest.
fn look(repository: &ResticRepository) -> usize {
    let snapshots = repository.snapshots().unwrap();
    let mut count = 0;
    let mut visit = |_| {
        count += 1;
        ControlFlow::Continue(())
    };
    repository.list(&snapshots.first().unwrap().id, b"/", true, &mut visit).unwrap();
    count
}

const PLENTY: u64 = 1 << 30;

#[test]
fn the_second_time_nothing_is_asked_for() {
    let (mut world, folder) = (world(), tempfile::tempdir().unwrap());
    let (first, slow) = far(&world, folder.path(), PLENTY);
    let count = look(&first);
    let (reads, bytes) = slow.take();
    assert!(reads > 10 && bytes > 2000, "{reads} reads of {bytes} bytes");
    drop(first);
    let (second, slow) = far(&world, folder.path(), PLENTY);
    assert_eq!(look(&second), count);
    // Reading locks (our own, to be sure of it) is no reading of data.
    let locks_only = slow.take().0;
    assert!(locks_only <= 2, "{locks_only} reads");
    drop(second);
    // A backup of what is there already: only what its maker wrote last is read, which is nothing here.
    let files = world.snapshots.values().max_by_key(|files| files.keys().last().cloned()).unwrap().clone();
    for round in 0..3 {
        let (again, slow) = far(&world, folder.path(), PLENTY);
        world.clock += 1;
        let id = back_up(&again, &files, world.clock).unwrap();
        drop(again);
        world.snapshots.insert(id, files.clone());
        let (reads, _) = slow.take();
        // The snapshot, the index and the folders of the round before, and locks.
        assert!(round == 0 || reads <= 8, "round {round}: {reads} reads");
    }
    world.assert_whole("after backups through a cache");
}

/// However many files need a blob, its bytes come over the wire once.
#[test]
fn a_restore_reads_no_byte_twice() {
    let (mut world, folder) = (World::new(), tempfile::tempdir().unwrap());
    // As many as are restored at once in tests, with one content.
    let files: Files = (0..4).map(|number| (format!("{number}"), content(80))).collect();
    world.back_up(files.clone());
    let slow = Arc::new(SlowBackend::new(world.memory.clone(), Duration::ZERO));
    let request = RestoreRequest {
        snapshot: world.snapshots.keys().next().unwrap().clone(),
        path: b"/data".to_vec(),
        destination: folder.path().join("target"),
        owners: false,
        delete_extra: false,
        include: Vec::new(),
        dry_run: false,
    };
    let restored = repository(&world.open, slow.clone()).restore(&request, &Control::new(), Arc::new(Silent)).unwrap();
    assert_eq!(restored.files_restored, 4, "{restored:?}");
    for (path, data) in &files {
        assert_eq!(fs::read(request.destination.join(path)).unwrap(), *data, "{path}");
    }
    let packs: u64 = world.memory.list(FileKind::Pack).unwrap().into_iter().map(|(_, size)| size).sum();
    let others = [FileKind::Index, FileKind::Snapshot].into_iter().flat_map(|kind| world.memory.list(kind).unwrap());
    // And locks, and the folders on the way once more.
    let once = packs + others.map(|(_, size)| size).sum::<u64>() + 2000;
    let (reads, bytes) = slow.take();
    let all: u64 = files.values().map(|data| data.len() as u64).sum();
    assert!(bytes as u64 <= once && all > once, "{bytes} bytes in {reads} reads of {once} for {all} bytes of files");
}

#[test]
fn a_cache_takes_part_in_no_verdict() {
    let (world, folder) = (world(), tempfile::tempdir().unwrap());
    let (repository, _) = far(&world, folder.path(), PLENTY);
    look(&repository);
    let silent = || Arc::new(Silent);
    let check = || repository.check(ReadData::None, &Control::new(), silent()).unwrap().errors;
    assert_eq!(check(), Vec::<String>::new());
    // An index file rots, and the cache has it whole.
    let index = world.memory.names(FileKind::Index)[0].clone();
    world.memory.damage(FileKind::Index, &index, |bytes| bytes[40] ^= 1);
    assert!(!check().is_empty());
    let repaired = repository.repair_index(&RepairIndexRequest::default(), &Control::new(), silent());
    assert!(repaired.is_ok(), "{repaired:?}");
    assert_eq!(check(), Vec::<String>::new());
    // So does a pack of folders: repaired snapshots do not count on it.
    let repo = world.open.clone().into_indexed().unwrap();
    let (pack, blob) = repo.index().blobs().find(|(_, blob)| blob.kind == BlobKind::Tree).unwrap();
    world.memory.damage(FileKind::Pack, &pack.to_string(), |bytes| bytes[blob.offset as usize + 20] ^= 1);
    assert!(!check().is_empty());
    let request = RepairSnapshotsRequest { forget: true, ..RepairSnapshotsRequest::default() };
    let summary = repository.repair_snapshots(&request, &Control::new(), silent()).unwrap();
    assert!(format!("{summary:?}").contains("repaired") || !world.open.snapshots().unwrap().is_empty());
    assert_eq!(check(), Vec::<String>::new(), "{summary:?}");
}

#[test]
fn two_at_once_with_one_small_cache() {
    let (mut world, folder) = (world(), tempfile::tempdir().unwrap());
    // So small that they throw out each other's files all the time.
    let mut readers: Vec<ResticRepository> = (0..3).map(|_| far(&world, folder.path(), 12_000).0).collect();
    let writer = readers.pop().unwrap();
    let files: Files = (50..60).map(|number| (format!("new/{number}"), content(number))).collect();
    let written = std::thread::scope(|scope| {
        for reader in &readers {
            scope.spawn(|| (0..5).for_each(|_| assert!(look(reader) > 10)));
        }
        // Somebody damages copies meanwhile.
        scope.spawn(|| {
            for _ in 0..20 {
                let mut waiting = vec![folder.path().to_owned()];
                while let Some(path) = waiting.pop() {
                    if path.is_dir() {
                        waiting.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
                    } else if let Ok(mut data) = fs::read(&path) {
                        data.truncate(data.len() / 2);
                        let _ = fs::write(&path, data);
                    }
                }
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        (0..3).map(|round| back_up(&writer, &files, 100 + round).unwrap()).collect::<Vec<_>>()
    });
    drop((readers, writer));
    world.snapshots.extend(written.into_iter().map(|id| (id, files.clone())));
    world.assert_whole("after several at once");
}
