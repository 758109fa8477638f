//! The n-th call to the storage goes wrong, for every n, in every operation that writes.

use super::*;
use crate::repository::backend::testing::{Call, Fault, FaultyBackend, IntrudedBackend};
use crate::repository::contract::copy::{CopyRequest, CopySummary};
use crate::repository::contract::repair::{RepairIndexRequest, RepairSnapshotsRequest};
use crate::repository::contract::rewrite::{RewriteRequest, RewriteSummary};

const FAULTS: [Fault; 3] = [Fault::Fails, Fault::Ends, Fault::Short];

/// Three snapshots and much that is not used any more, in packs of every sort.
fn world() -> World {
    let mut world = World::new();
    let files = |numbers: &[usize]| -> Files { numbers.iter().map(|number| (format!("d/{number}"), content(*number))).collect() };
    world.back_up(files(&[1, 2, 3, 4]));
    world.back_up(files(&[5, 6, 7]));
    world.back_up(files(&[3, 6, 8, 9]));
    world.back_up(files(&[2, 7, 10, 11, 12]));
    let (second, _) =
        world.snapshots.iter().find(|(_, files)| files.contains_key("d/5")).map(|(id, files)| (id.clone(), files.clone())).unwrap();
    world.forget(&second);
    // Packs that no index names.
    let left_over = world.fork();
    back_up(&left_over.repository(), &files(&[20, 21, 22]), 50).unwrap();
    for name in left_over.memory.names(FileKind::Pack) {
        if !world.memory.names(FileKind::Pack).contains(&name) {
            let data = left_over.memory.read(FileKind::Pack, &name).unwrap();
            world.memory.write(FileKind::Pack, &name, &[&data]).unwrap();
        }
    }
    world
}

impl World {
    fn forget(&mut self, id: &SnapshotId) {
        self.open.remove(FileKind::Snapshot, &id.0.parse().unwrap()).unwrap();
        self.snapshots.remove(id);
    }
}

/// Runs `work` with every fault at every call, each time over a new copy; then `after` looks at it. Gives how many there were.
fn each(
    base: &World,
    work: impl Fn(&ResticRepository) -> Result<(), RepositoryError>,
    mut after: impl FnMut(&mut World, bool, &str),
) -> usize {
    let mut count = 0;
    for fault in FAULTS {
        for at in 0.. {
            let mut world = base.fork();
            let faulty = Arc::new(FaultyBackend::new(world.memory.clone(), fault, at));
            let repository = repository(&world.open, faulty.clone());
            let done = work(&repository);
            drop(repository);
            let when = format!("call {at} {fault:?}: {done:?}");
            if !faulty.has_struck() {
                assert!(done.is_ok(), "{when}");
                break;
            }
            count += 1;
            world.bury();
            after(&mut world, done.is_ok(), &when);
        }
    }
    count
}

#[test]
fn in_a_backup() {
    let base = world();
    let files: Files = (0..14).map(|number| (format!("new/{number}"), content(100 + number))).collect();
    let count = each(
        &base,
        |repository| back_up(repository, &files, 100).map(|_| ()),
        |world, done, when| {
            let snapshots = world.repository().snapshots().unwrap();
            if let Some(new) = snapshots.into_iter().find(|snapshot| !world.snapshots.contains_key(&snapshot.id)) {
                // The snapshot may be there although the lock could not be given back.
                world.snapshots.insert(new.id, files.clone());
            } else {
                assert!(!done, "{when}: it said that it was done");
            }
            world.assert_whole(when);
            prune(&world.repository(), &full_prune()).unwrap();
            world.assert_whole(when);
            world.assert_nothing_unused(when);
        },
    );
    assert!(count > 60, "{count} calls");
}

#[test]
fn in_a_prune() {
    let base = world();
    base.assert_whole("before");
    let count = each(
        &base,
        |repository| prune(repository, &full_prune()),
        |world, _, when| {
            world.assert_whole(when);
            world.back_up(Files::from([("late".to_owned(), content(5)), ("later".to_owned(), content(200))]));
            prune(&world.repository(), &full_prune()).unwrap();
            world.assert_whole(when);
            world.assert_nothing_unused(when);
        },
    );
    assert!(count > 60, "{count} calls");
}

#[test]
fn in_the_removal_of_snapshots() {
    let base = world();
    let first = base.snapshots.keys().next().unwrap().clone();
    each(
        &base,
        |repository| {
            let _ = repository.snapshots()?;
            repository.open().remove(FileKind::Snapshot, &first.0.parse().unwrap())?;
            prune(repository, &full_prune())
        },
        |world, done, when| {
            let listed: Vec<SnapshotId> = world.repository().snapshots().unwrap().into_iter().map(|snapshot| snapshot.id).collect();
            assert!(!done || !listed.contains(&first), "{when}");
            world.snapshots.retain(|id, _| *id != first || listed.contains(id));
            world.assert_whole(when);
            prune(&world.repository(), &full_prune()).unwrap();
            world.assert_whole(when);
            world.assert_nothing_unused(when);
        },
    );
}

#[test]
fn in_a_forget() {
    let base = world();
    let goes: Vec<SnapshotId> = base.snapshots.keys().take(2).cloned().collect();
    assert_eq!(base.snapshots.len(), 3);
    let said = std::cell::RefCell::new(Vec::new());
    let forget = |repository: &ResticRepository| {
        said.take();
        let forgotten = repository.forget(&goes, &Control::new())?;
        *said.borrow_mut() = forgotten.removed;
        if forgotten.problems.is_empty() { Ok(()) } else { Err(RepositoryError::Internal(format!("{:?}", forgotten.problems))) }
    };
    let count = each(&base, forget, |world, done, when| {
        let listed: Vec<SnapshotId> = world.repository().snapshots().unwrap().into_iter().map(|snapshot| snapshot.id).collect();
        assert!(!done || goes.iter().all(|id| !listed.contains(id)), "{when}: it said that it was done");
        assert!(said.borrow().iter().all(|id| !listed.contains(id)), "{when}: it said of one that it was removed");
        // What was not to go is not excused: it must still restore.
        world.snapshots.retain(|id, _| !goes.contains(id) || listed.contains(id));
        world.assert_whole(when);
        // Once more, and it is done.
        let left: Vec<SnapshotId> = goes.iter().filter(|id| listed.contains(id)).cloned().collect();
        world.repository().forget(&left, &Control::new()).unwrap();
        world.snapshots.retain(|id, _| !goes.contains(id));
        prune(&world.repository(), &full_prune()).unwrap();
        world.assert_whole(when);
        world.assert_nothing_unused(when);
    });
    assert!(count > 12, "{count} calls");
}

#[test]
fn in_a_repair_of_the_index() {
    let base = world();
    // One index file is gone, one damaged, and a pack that is not used has lost its end.
    let names = base.memory.names(FileKind::Index);
    base.memory.remove(FileKind::Index, &names[0]).unwrap();
    base.memory.damage(FileKind::Index, &names[1], |bytes| bytes[40] ^= 1);
    let repair = |repository: &ResticRepository| {
        repository.repair_index(&RepairIndexRequest::default(), &Control::new(), Arc::new(Silent)).map(|_| ())
    };
    let count = each(&base, repair, |world, _, when| {
        // However it ended: once more, and all is there again.
        repair(&world.repository()).unwrap();
        world.assert_whole(when);
        prune(&world.repository(), &full_prune()).unwrap();
        world.assert_whole(when);
        world.assert_nothing_unused(when);
    });
    assert!(count > 30, "{count} calls");
}

#[test]
fn in_a_repair_of_snapshots() {
    let mut base = world();
    // The contents of one file are lost.
    let lost = Id::of(&content(9));
    let repo = base.open.clone().into_indexed().unwrap();
    let pack = repo.index().lookup(BlobKind::Data, &lost).unwrap().pack;
    base.memory.remove(FileKind::Pack, &pack.to_string()).unwrap();
    base.repository().repair_index(&RepairIndexRequest::default(), &Control::new(), Arc::new(Silent)).unwrap();
    let index = base.open.clone().into_indexed().unwrap();
    let there = |data: &Vec<u8>| index.index().contains(BlobKind::Data, &Id::of(data));
    let whole = |files: &Files| files.values().all(there);
    assert!(!base.snapshots.values().all(whole) && base.snapshots.values().any(whole));
    // What is left of each snapshot, in any order: a damaged one gets another id.
    let left: BTreeSet<Files> = base
        .snapshots
        .values()
        .map(|files| files.iter().map(|(path, data)| (path.clone(), if there(data) { data.clone() } else { Vec::new() })).collect())
        .collect();
    base.snapshots.retain(|_, files| whole(files));
    let request = RepairSnapshotsRequest { forget: true, ..RepairSnapshotsRequest::default() };
    let repair = |repository: &ResticRepository| repository.repair_snapshots(&request, &Control::new(), Arc::new(Silent)).map(|_| ());
    let count = each(&base, repair, |world, _, when| {
        world.assert_restores(when);
        repair(&world.repository()).unwrap();
        let repository = world.repository();
        let found = repository.snapshots().unwrap();
        let contents: Vec<Files> = found.iter().map(|snapshot| read(&repository, &snapshot.id)).collect();
        drop(repository);
        assert_eq!(contents.len(), left.len(), "{when}: {found:?}");
        assert_eq!(contents.iter().cloned().collect::<BTreeSet<_>>(), left, "{when}");
        world.snapshots = found.into_iter().map(|snapshot| snapshot.id).zip(contents).collect();
        world.assert_whole(when);
        prune(&world.repository(), &full_prune()).unwrap();
        world.assert_whole(when);
    });
    assert!(count > 30, "{count} calls");
}

/// Copies everything from one repository to another.
fn copy(from: &ResticRepository, to: &ResticRepository) -> Result<CopySummary, RepositoryError> {
    let snapshots = from.snapshots()?.into_iter().map(|snapshot| snapshot.id).collect();
    from.copy_to(to, &CopyRequest { snapshots, named: true, dry_run: false }, &Control::new(), &Silent)
}

/// Asserts that what is in the target of a copy is whole and nothing but its own and copies; gives how many copies there are.
fn assert_copies(base: &World, target: &mut World, when: &str) -> usize {
    let repository = target.repository();
    let mut copies = 0;
    for snapshot in repository.snapshots().unwrap() {
        if target.snapshots.contains_key(&snapshot.id) {
            continue;
        }
        let original = &base.snapshots[&snapshot.original.unwrap()];
        assert_eq!(read(&repository, &snapshot.id), *original, "{when}");
        copies += 1;
    }
    let own = target.snapshots.clone();
    target.snapshots =
        repository.snapshots().unwrap().into_iter().map(|snapshot| (snapshot.id.clone(), read(&repository, &snapshot.id))).collect();
    assert!(own.iter().all(|(id, files)| target.snapshots.get(id) == Some(files)), "{when}");
    drop(repository);
    target.assert_whole(when);
    target.snapshots = own;
    copies
}

fn in_a_copy(source_fails: bool) {
    let base = world();
    // The other repository has something of its own, and some of the data.
    let mut other = World::new();
    other.back_up((3..7).map(|number| (format!("own/{number}"), content(number))).collect());
    let mut count = 0;
    for fault in FAULTS {
        for at in 0.. {
            let (from, mut to) = (base.fork(), other.fork());
            let failing = if source_fails { &from } else { &to };
            let faulty = Arc::new(FaultyBackend::new(failing.memory.clone(), fault, at));
            let broken = repository(&failing.open, faulty.clone());
            let done = if source_fails { copy(&broken, &to.repository()) } else { copy(&from.repository(), &broken) };
            // A snapshot that cannot be read is passed over, but not in silence.
            let told = !broken.noticed().lock().unwrap().is_empty();
            drop(broken);
            let when = format!("call {at} {fault:?}: {done:?}");
            if !faulty.has_struck() {
                assert_eq!(done.unwrap().copied, 3, "{when}");
                break;
            }
            count += 1;
            from.bury();
            to.bury();
            from.assert_whole(&when);
            let copies = assert_copies(&base, &mut to, &when);
            assert!(done.is_err() || copies == 3 || told, "{when}: it said that it was done");
            // Once more, and it is done.
            let again = copy(&from.repository(), &to.repository()).unwrap();
            assert_eq!((again.were_there, again.copied), (copies as u64, 3 - copies as u64), "{when}");
            assert_eq!(assert_copies(&base, &mut to, &when), 3, "{when}");
        }
    }
    assert!(count > 60, "{count} calls");
}

#[test]
fn in_the_source_of_a_copy() {
    in_a_copy(true);
}

#[test]
fn in_the_target_of_a_copy() {
    in_a_copy(false);
}

/// A backend that breaks its promise and leaves half an index: nothing is written over it, and a repair puts it right.
#[test]
fn half_an_index_is_repaired() {
    let world = world();
    for name in world.memory.names(FileKind::Index) {
        let world = world.fork();
        world.memory.damage(FileKind::Index, &name, |bytes| bytes.truncate(bytes.len() / 2));
        assert!(matches!(prune(&world.repository(), &full_prune()), Err(RepositoryError::Damaged { .. })));
        world.repository().repair_index(&RepairIndexRequest::default(), &Control::new(), Arc::new(Silent)).unwrap();
        world.assert_whole(&name);
    }
}

/// Leaves some files out of all snapshots.
fn rewrite(repository: &ResticRepository, forget: bool) -> Result<RewriteSummary, RepositoryError> {
    let mut snapshots = repository.snapshots()?;
    snapshots.sort_by_key(|snapshot| snapshot.time);
    let request = RewriteRequest {
        snapshots: snapshots.into_iter().map(|snapshot| snapshot.id).collect(),
        named: true,
        exclude: &|path| is_left_out(path),
        forget,
        remove_all: false,
        dry_run: false,
    };
    repository.rewrite(&request, &Control::new(), Arc::new(Silent))
}

fn is_left_out(path: &[u8]) -> bool {
    path.starts_with(b"/data/d/1")
}

fn without(files: &Files) -> Files {
    files
        .iter()
        .filter(|(path, _)| !is_left_out(format!("/data/{path}").as_bytes()))
        .map(|(path, data)| (path.clone(), data.clone()))
        .collect()
}

#[test]
fn in_a_rewrite() {
    let base = world();
    for forget in [false, true] {
        let count = each(
            &base,
            |repository| rewrite(repository, forget).map(|_| ()),
            |world, done, when| {
                // Each snapshot is there as it was, or in its new form.
                let repository = world.repository();
                for snapshot in repository.snapshots().unwrap() {
                    if let Some(files) = world.snapshots.get(&snapshot.id) {
                        assert_eq!(read(&repository, &snapshot.id), *files, "{when}");
                    } else {
                        let old = snapshot.original.unwrap();
                        assert_eq!(read(&repository, &snapshot.id), without(&base.snapshots[&old]), "{when}");
                        if forget && done {
                            world.snapshots.remove(&old);
                        }
                    }
                }
                drop(repository);
                rewrite(&world.repository(), forget).unwrap();
                let repository = world.repository();
                let left = repository.snapshots().unwrap();
                let changed = base.snapshots.values().filter(|files| without(files) != **files).count();
                assert_eq!(left.len(), base.snapshots.len() + if forget { 0 } else { changed }, "{when}");
                world.snapshots = left
                    .into_iter()
                    .map(|snapshot| {
                        let files = base
                            .snapshots
                            .get(&snapshot.id)
                            .cloned()
                            .unwrap_or_else(|| without(&base.snapshots[&snapshot.original.unwrap()]));
                        (snapshot.id, files)
                    })
                    .collect();
                drop(repository);
                world.assert_whole(when);
                prune(&world.repository(), &full_prune()).unwrap();
                world.assert_whole(when);
                world.assert_nothing_unused(when);
            },
        );
        assert!(count > 30, "{count} calls");
    }
}

/// Something that writes to a repository.
type Work<'a> = &'a dyn Fn(&ResticRepository) -> Result<(), RepositoryError>;

/// Somebody takes the lock away while packs are written that no index names yet, and prunes: no index may name them later, as
/// everybody after us would count on them.
#[test]
fn no_index_names_what_was_pruned_when_the_lock_was_gone() {
    let base = world();
    // Something for a repair of snapshots to do, too.
    let broken = base.fork();
    let repo = broken.open.clone().into_indexed().unwrap();
    let pack = repo.index().lookup(BlobKind::Data, &Id::of(&content(9))).unwrap().pack;
    broken.memory.remove(FileKind::Pack, &pack.to_string()).unwrap();
    drop(repo);
    broken.repository().repair_index(&RepairIndexRequest::default(), &Control::new(), Arc::new(Silent)).unwrap();
    let mut source = World::new();
    for start in 0..3 {
        source.back_up((0..12).map(|number| (format!("d/{number}"), content(100 + start * 10 + number))).collect());
    }
    let files: Files = (0..14).map(|number| (format!("new/{number}"), content(100 + number))).collect();
    let works: [(&str, bool, Work<'_>); 5] = [
        ("backup", false, &|repository| back_up(repository, &files, 100).map(|_| ())),
        ("copy", false, &|repository| copy(&source.repository(), repository).map(|_| ())),
        ("rewrite", false, &|repository| rewrite(repository, true).map(|_| ())),
        ("prune", false, &|repository| prune(repository, &full_prune())),
        ("repair", true, &|repository| {
            let request = RepairSnapshotsRequest { forget: true, ..RepairSnapshotsRequest::default() };
            repository.repair_snapshots(&request, &Control::new(), Arc::new(Silent)).map(|_| ())
        }),
    ];
    for (name, on_broken, work) in works {
        let mut struck = 0;
        for at in 0.. {
            let mut world = if on_broken { broken.fork() } else { base.fork() };
            let open = world.open.clone();
            let intrude = move || {
                lock::unlock(&open, true).unwrap();
                // A repository with something lost cannot be pruned; what no index names goes there, too.
                let named: BTreeSet<String> =
                    open.clone().into_indexed().unwrap().index().packs().map(|pack| pack.id.to_string()).collect();
                for pack in open.list_ids(FileKind::Pack).unwrap().into_iter().filter(|pack| !named.contains(&pack.to_string())) {
                    open.remove(FileKind::Pack, &pack).unwrap();
                }
            };
            let intruded = Arc::new(IntrudedBackend::new(world.memory.clone(), at, intrude));
            let repository = repository(&world.open, intruded.clone());
            let done = work(&repository);
            drop(repository);
            if !intruded.has_struck() {
                assert!(done.is_ok(), "{name} {at}: {done:?}");
                break;
            }
            struck += 1;
            let when = format!("{name}, after pack {at}: {done:?}");
            assert!(matches!(done, Err(RepositoryError::LockLost { .. })), "{when}");
            let there = world.memory.names(FileKind::Pack);
            let repo = world.open.clone().into_indexed().unwrap();
            let missing: Vec<Id> = repo.index().packs().map(|pack| pack.id).filter(|pack| !there.contains(&pack.to_string())).collect();
            assert_eq!(missing, [], "{when}");
            drop(repo);
            if !on_broken {
                let kept = world.repository().snapshots().unwrap();
                world.snapshots.retain(|id, _| kept.iter().any(|snapshot| snapshot.id == *id));
                world.assert_restores(&when);
            }
        }
        assert!(struck > 0, "{name} writes packs");
    }
}

type IsMeant = fn(Call) -> bool;

/// Somebody takes the lock away before a snapshot is written, or while what is to be removed is looked at: then no snapshot is
/// written that may count on what is gone, and none goes.
#[test]
fn no_snapshot_comes_or_goes_when_the_lock_was_gone() {
    let base = world();
    let broken = base.fork();
    let pack = broken.open.clone().into_indexed().unwrap().index().lookup(BlobKind::Data, &Id::of(&content(9))).unwrap().pack;
    broken.memory.remove(FileKind::Pack, &pack.to_string()).unwrap();
    broken.repository().repair_index(&RepairIndexRequest::default(), &Control::new(), Arc::new(Silent)).unwrap();
    // Each has its new form beside it already: there is nothing to write any more, only to remove.
    let rewritten = base.fork();
    rewrite(&rewritten.repository(), false).unwrap();
    let mut source = World::new();
    source.back_up((0..12).map(|number| (format!("d/{number}"), content(100 + number))).collect());
    let files: Files = (0..14).map(|number| (format!("new/{number}"), content(100 + number))).collect();
    let writes: IsMeant = |call| call == Call::Writes(FileKind::Snapshot);
    let reads: IsMeant = |call| call == Call::Read(FileKind::Pack);
    let works: [(&str, &World, IsMeant, Work<'_>); 6] = [
        ("backup", &base, writes, &|repository| back_up(repository, &files, 100).map(|_| ())),
        ("copy", &base, writes, &|repository| copy(&source.repository(), repository).map(|_| ())),
        ("rewrite", &base, writes, &|repository| rewrite(repository, true).map(|_| ())),
        ("rewrite", &rewritten, reads, &|repository| rewrite(repository, true).map(|_| ())),
        ("tag", &base, writes, &|repository| {
            let tags = |snapshot: crate::repository::contract::Snapshot| (snapshot.id, vec!["new".to_owned()]);
            let changes: Vec<_> = repository.snapshots()?.into_iter().map(tags).collect();
            repository.retag(&changes, &Control::new(), &mut Vec::new())
        }),
        ("repair", &broken, writes, &|repository| {
            let request = RepairSnapshotsRequest { forget: true, ..RepairSnapshotsRequest::default() };
            repository.repair_snapshots(&request, &Control::new(), Arc::new(Silent)).map(|_| ())
        }),
    ];
    for (name, start, is_meant, work) in works {
        // Only the first: what was done before the lock was gone is done.
        let world = start.fork();
        let open = world.open.clone();
        let intrude = move || assert!(!lock::unlock(&open, true).unwrap().is_empty());
        let intruded = Arc::new(IntrudedBackend::new(world.memory.clone(), 0, intrude).on(is_meant));
        let repository = repository(&world.open, intruded.clone());
        let done = work(&repository);
        drop(repository);
        assert!(intruded.has_struck() && matches!(done, Err(RepositoryError::LockLost { .. })), "{name}: {done:?}");
        assert_eq!(world.memory.names(FileKind::Snapshot), start.memory.names(FileKind::Snapshot), "{name}");
    }
}

/// A whole backup runs between any two looks at what there is: neither a check nor a dry run may take for damage what it does not
/// know yet.
#[test]
fn a_backup_beside_a_look_is_no_damage() {
    let base = world();
    let looks: [(&str, Work<'_>); 4] = [
        ("check", &|repository| {
            let summary = repository.check(ReadData::None, &Control::new(), Arc::new(Silent))?;
            assert_eq!(summary.errors, Vec::<String>::new());
            Ok(())
        }),
        ("prune", &|repository| prune(repository, &PruneRequest { dry_run: true, ..full_prune() })),
        ("repair index", &|repository| {
            let request = RepairIndexRequest { dry_run: true, ..RepairIndexRequest::default() };
            let summary = repository.repair_index(&request, &Control::new(), Arc::new(Silent))?;
            assert_eq!((summary.packs_missing, summary.blobs_lost, summary.packs_damaged), (0, 0, 0), "{summary:?}");
            Ok(())
        }),
        ("repair snapshots", &|repository| {
            let request = RepairSnapshotsRequest { dry_run: true, ..RepairSnapshotsRequest::default() };
            let summary = repository.repair_snapshots(&request, &Control::new(), Arc::new(Silent))?;
            assert_eq!(summary.damaged, []);
            Ok(())
        }),
    ];
    for (name, look) in looks {
        for at in 0.. {
            let world = base.fork();
            let (open, memory) = (world.open.clone(), world.memory.clone());
            let intrude = move || {
                let files = (0..6).map(|number| (format!("new/{number}"), content(200 + number))).collect();
                back_up(&repository(&open, memory.clone()), &files, 100).unwrap();
            };
            let listed = |call| matches!(call, Call::Listed(FileKind::Snapshot | FileKind::Index | FileKind::Pack));
            let intruded = Arc::new(IntrudedBackend::new(world.memory.clone(), at, intrude).on(listed));
            let done = look(&repository(&world.open, intruded.clone()));
            assert!(done.is_ok(), "{name}, after list {at}: {done:?}");
            if !intruded.has_struck() {
                assert!(at > 1, "{name} looks at more than one list");
                break;
            }
        }
    }
}

/// Others have taken the lock of a check away and pruned: what is gone since is no damage.
#[test]
fn what_was_pruned_when_the_lock_was_gone_is_no_damage() {
    let base = world();
    for at in 0..3 {
        let world = base.fork();
        let (open, memory) = (world.open.clone(), world.memory.clone());
        let intrude = move || {
            lock::unlock(&open, true).unwrap();
            let others = repository(&open, memory.clone());
            let all: Vec<SnapshotId> = others.snapshots().unwrap().into_iter().map(|snapshot| snapshot.id).collect();
            others.forget(&all[1..], &Control::new()).unwrap();
            prune(&others, &full_prune()).unwrap();
        };
        let listed = |call| matches!(call, Call::Listed(FileKind::Snapshot | FileKind::Index | FileKind::Pack));
        let intruded = Arc::new(IntrudedBackend::new(world.memory.clone(), at, intrude).on(listed));
        let checked = repository(&world.open, intruded.clone()).check(ReadData::All, &Control::new(), Arc::new(Silent));
        assert!(intruded.has_struck());
        let sound = checked.as_ref().is_ok_and(|summary| summary.errors.is_empty());
        assert!(sound || matches!(checked, Err(RepositoryError::LockLost { .. })), "{at}: {checked:?}");
    }
}
