//! What a prune decides and does with packs made by hand, and what it refuses. Random histories and crashes are in
//! `repository/restic/tests`.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::model::progress::Silent;
use crate::platform::control::Control;
use crate::repository::contract::prune::MaxUnused;
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::file::{IndexFile, to_json};
use crate::repository::restic::lock::{Lock, LockTimes};
use crate::repository::restic::reader::testing::{Builder, file};
use crate::repository::restic::writer::index_pack;

const PACK: usize = 4 << 20;

fn everything() -> PruneRequest {
    PruneRequest { max_unused: MaxUnused::Bytes(0), ..PruneRequest::default() }
}

fn prune(builder: &Builder, request: &PruneRequest) -> Result<PruneSummary, RepositoryError> {
    let times = LockTimes { settle: Duration::ZERO, ..LockTimes::default() };
    let control = Control::new();
    let lock = Lock::acquire_with(&builder.open, true, Duration::ZERO, &control, times)?;
    let guard = Guard { lock: Some(&lock), control: &control };
    let repo = builder.open.clone().into_indexed()?;
    let plan = plan(&repo, &repo.snapshots()?, request, PACK, guard, &Silent)?;
    execute(&plan, PACK, guard, &Silent)
}

fn planned(builder: &Builder, request: &PruneRequest) -> PruneSummary {
    let control = Control::new();
    let repo = builder.indexed();
    plan(&repo, &repo.snapshots().unwrap(), request, PACK, Guard { lock: None, control: &control }, &Silent).unwrap().summary()
}

/// Names of all files but locks.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { _ = found.insert(path) }
        }
    }
    found
}

fn packs(builder: &Builder) -> BTreeSet<Id> {
    builder.open.list_ids(FileKind::Pack).unwrap().into_iter().collect()
}

fn indexes(builder: &Builder) -> BTreeSet<Id> {
    builder.open.list_ids(FileKind::Index).unwrap().into_iter().collect()
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Bytes that do not compress, different for every number.
fn noise(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// A snapshot of one folder with these blobs, each a file.
fn snapshot(builder: &mut Builder, blobs: &[Id]) -> Id {
    let nodes: Vec<_> = blobs.iter().enumerate().map(|(number, blob)| file(format!("{number:03}"), &[*blob], 1)).collect();
    let tree = builder.tree(&nodes);
    builder.pack();
    builder.snapshot(tree)
}

/// Everything that the snapshots need can be read, in one place each, and the index says what is there.
#[track_caller]
fn assert_tidy(builder: &Builder, data: &[&[u8]]) {
    let repo = builder.indexed();
    for expected in data {
        let mut found = Vec::new();
        repo.read_blob(BlobKind::Data, &Id::of(expected), &mut found).unwrap();
        assert!(found == *expected);
    }
    let named: BTreeSet<Id> = repo.index().packs().map(|pack| pack.id).collect();
    assert_eq!(named, packs(builder));
    for (id, size) in builder.open.list_sizes(FileKind::Pack).unwrap() {
        assert!(repo.index().packs().any(|pack| pack.id == id && pack.size == size), "pack {id} has {size} bytes");
    }
    let control = Control::new();
    plan(&repo, &repo.snapshots().unwrap(), &everything(), PACK, Guard { lock: None, control: &control }, &Silent).unwrap();
}

#[test]
fn what_is_used_stays_and_the_rest_goes() {
    let mut builder = Builder::new();
    let (one, two) = (noise(1, 3000), noise(2, 5000));
    let (a, b) = (builder.blob(BlobKind::Data, &one), builder.blob(BlobKind::Data, &two));
    let whole = builder.pack();
    let three = noise(3, 4000);
    let c = builder.blob(BlobKind::Data, &three);
    builder.blob(BlobKind::Data, &noise(4, 4000));
    let partly = builder.pack();
    builder.blob(BlobKind::Data, &noise(5, 6000));
    let unused = builder.pack();
    builder.blob(BlobKind::Data, &noise(6, 6000));
    let (orphan, _) = builder.pack_without_index();
    snapshot(&mut builder, &[a, b, c]);

    let before = files(builder.folder.path());
    let foreseen = planned(&builder, &everything());
    assert_eq!(files(builder.folder.path()), before, "a plan changes nothing");
    assert_eq!((foreseen.packs_kept, foreseen.packs_repacked, foreseen.packs_unused, foreseen.packs_unindexed), (2, 1, 1, 1));
    assert_eq!((foreseen.blobs_used, foreseen.blobs_unused, foreseen.blobs_repacked), (4, 2, 1));

    let done = prune(&builder, &everything()).unwrap();
    let left = packs(&builder);
    assert!(left.contains(&whole) && ![partly, unused, orphan].iter().any(|pack| left.contains(pack)));
    assert_tidy(&builder, &[&one, &two, &three]);
    let on_disk: u64 = builder.open.list_sizes(FileKind::Pack).unwrap().iter().map(|(_, size)| size).sum();
    assert_eq!((done.bytes_after, done.packs_written), (on_disk, 1));
    assert_eq!(done.bytes_freed, done.bytes_before - on_disk);
    assert!(done.bytes_after.abs_diff(foreseen.bytes_after) < 100, "{done:?} {foreseen:?}");

    // Once more: nothing to do, and nothing done.
    let before = files(builder.folder.path());
    let again = prune(&builder, &everything()).unwrap();
    assert_eq!((again.bytes_freed, again.packs_repacked, again.indexes_written), (0, 0, 0));
    assert_eq!(files(builder.folder.path()), before);
}

#[test]
fn limits_are_kept() {
    let scene = || {
        let mut builder = Builder::new();
        let mut used = Vec::new();
        for number in 0..4 {
            used.push(builder.blob(BlobKind::Data, &noise(number, 3 << 10)));
            builder.blob(BlobKind::Data, &noise(100 + number, (1 + number as usize) << 10));
            builder.pack();
        }
        snapshot(&mut builder, &used);
        builder
    };
    let repacked = |request: &PruneRequest| {
        let builder = scene();
        let done = prune(&builder, request).unwrap();
        let data: Vec<_> = (0..4).map(|number| noise(number, 3 << 10)).collect();
        assert_tidy(&builder, &data.iter().map(Vec::as_slice).collect::<Vec<_>>());
        (done.packs_repacked, done.bytes_unused_after >> 10)
    };
    let request = PruneRequest::default();
    assert_eq!(repacked(&everything()), (4, 0));
    assert_eq!(repacked(&PruneRequest { max_unused: MaxUnused::Unlimited, ..request }), (0, 10));
    // Of 12 KiB used, 12/88 of it: the largest waste goes first, until little is left.
    assert_eq!(repacked(&PruneRequest { max_unused: MaxUnused::Percent(12.0), ..request }), (3, 1));
    assert_eq!(repacked(&PruneRequest { max_unused: MaxUnused::Bytes(4 << 10), ..request }), (2, 3));
    assert_eq!(repacked(&PruneRequest { max_repack_bytes: Some(8 << 10), ..everything() }), (1, 6));
    assert_eq!(repacked(&PruneRequest { max_repack_bytes: Some(0), ..everything() }), (0, 10));
    assert_eq!(repacked(&PruneRequest { repack_cacheable_only: true, ..everything() }), (0, 10));
}

#[test]
fn small_packs_are_joined_when_there_are_many() {
    let mut builder = Builder::new();
    let mut used = Vec::new();
    for number in 0..12 {
        used.push(builder.blob(BlobKind::Data, &noise(number, 1000)));
        builder.pack();
    }
    snapshot(&mut builder, &used);
    assert_eq!(prune(&builder, &everything()).unwrap().packs_repacked, 0);
    assert_eq!(indexes(&builder).len(), 1, "small index files are joined without being asked for");
    let request = PruneRequest { repack_small: true, ..PruneRequest::default() };
    assert_eq!(prune(&builder, &request).unwrap().packs_repacked, 13);
    assert_eq!(packs(&builder).len(), 2, "data and folders never share a pack");
    assert_tidy(&builder, &(0..12).map(|number| noise(number, 1000)).collect::<Vec<_>>().iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_eq!(prune(&builder, &request).unwrap().packs_repacked, 0, "not again and again");
}

#[test]
fn a_pack_of_data_and_folders_becomes_two() {
    let mut builder = Builder::new();
    let data = noise(1, 1000);
    let blob = builder.blob(BlobKind::Data, &data);
    snapshot(&mut builder, &[blob]);
    assert_eq!(packs(&builder).len(), 1);
    prune(&builder, &PruneRequest::default()).unwrap();
    assert_eq!(packs(&builder).len(), 2);
    assert_tidy(&builder, &[&data]);
}

#[test]
fn of_several_copies_one_stays_and_that_one_is_whole() {
    for damaged in [false, true] {
        let mut builder = Builder::new();
        let (twice, other, third) = (noise(1, 3000), noise(2, 90_000), noise(3, 3000));
        let (a, b) = (builder.blob(BlobKind::Data, &twice), builder.blob(BlobKind::Data, &other));
        let kept = builder.pack();
        builder.blob(BlobKind::Data, &twice);
        let c = builder.blob(BlobKind::Data, &third);
        let goes = builder.pack();
        snapshot(&mut builder, &[a, b, c]);
        if damaged {
            change(&builder.path(&kept), |bytes| bytes[100] ^= 1);
        }
        let done = prune(&builder, &everything()).unwrap();
        assert_eq!((done.blobs_duplicate, done.packs_repacked), (1, 1));
        assert!(packs(&builder).contains(&kept) && !packs(&builder).contains(&goes));
        assert_eq!(builder.indexed().index().lookup_all(BlobKind::Data, &a).len(), if damaged { 2 } else { 1 });
        assert_tidy(&builder, &[&twice, &other, &third]);
    }
}

#[track_caller]
fn assert_refuses(builder: &Builder, part: &str) {
    let before = files(builder.folder.path());
    let error = prune(builder, &everything()).unwrap_err();
    let said = match &error {
        RepositoryError::Refused { problems, .. } => problems.join("\n"),
        error => error.with_causes(),
    };
    assert!(said.contains(part), "{error:?}");
    assert_eq!(files(builder.folder.path()), before, "{error:?}: something was changed");
}

/// `/000` and `/001`, and something unused.
fn small_scene() -> (Builder, Id, Id) {
    let mut builder = Builder::new();
    let (a, b) = (builder.blob(BlobKind::Data, &noise(1, 3000)), builder.blob(BlobKind::Data, &noise(2, 3000)));
    builder.blob(BlobKind::Data, &noise(3, 9000));
    let pack = builder.pack();
    builder.blob(BlobKind::Data, &noise(4, 3000));
    builder.pack_without_index();
    let snapshot = snapshot(&mut builder, &[a, b]);
    (builder, pack, snapshot)
}

#[test]
fn it_refuses_what_is_not_whole() {
    let (builder, pack, _) = small_scene();
    fs::remove_file(builder.path(&pack)).unwrap();
    assert_refuses(&builder, &format!("pack {pack} is missing: 2 of its blobs are used"));

    let (builder, pack, _) = small_scene();
    change(&builder.path(&pack), |bytes| bytes.truncate(9000));
    assert_refuses(&builder, "has 9000 bytes, but");

    let (mut builder, _, _) = small_scene();
    let tree = builder.tree(&[file("lost", &[Id::of(b"lost")], 4)]);
    builder.pack();
    builder.snapshot(tree);
    assert_refuses(&builder, &format!("data blob {} is in no index", Id::of(b"lost")));

    let (builder, _, _) = small_scene();
    builder.snapshot(Id::of(b"no tree"));
    assert_refuses(&builder, &format!("tree blob {} is in no index", Id::of(b"no tree")));

    let (builder, _, snapshot) = small_scene();
    change(&builder.folder.path().join("snapshots").join(snapshot.to_string()), |bytes| bytes[40] ^= 1);
    assert_refuses(&builder, &format!("snapshot {snapshot} is damaged"));

    let (builder, _, _) = small_scene();
    let index = *indexes(&builder).first().unwrap();
    change(&builder.folder.path().join("index").join(index.to_string()), |bytes| bytes[40] ^= 1);
    assert_refuses(&builder, &format!("index {index} is damaged"));

    let (mut builder, _, _) = small_scene();
    let odd = builder.blob(BlobKind::Tree, br#"{"nodes":[{"name":"odd","type":"reflink","content":null}]}"#);
    builder.pack();
    builder.snapshot(odd);
    assert_refuses(&builder, "the type `reflink`");
}

#[test]
fn it_needs_the_repository_for_itself() {
    let (builder, _, _) = small_scene();
    let control = Control::new();
    let times = LockTimes { settle: Duration::ZERO, ..LockTimes::default() };
    let lock = Lock::acquire_with(&builder.open, false, Duration::ZERO, &control, times).unwrap();
    assert!(matches!(prune(&builder, &everything()), Err(RepositoryError::Locked { .. })));
    let repo = builder.indexed();
    let guard = Guard { lock: Some(&lock), control: &control };
    let plan = plan(&repo, &repo.snapshots().unwrap(), &everything(), PACK, guard, &Silent).unwrap();
    let before = files(builder.folder.path());
    assert!(matches!(execute(&plan, PACK, guard, &Silent), Err(RepositoryError::Internal(_))), "a shared lock is not enough");
    assert_eq!(files(builder.folder.path()), before);
    drop(plan);
    drop(lock);
    let control = Control::new();
    control.cancel();
    let lock = Lock::acquire_with(&builder.open, true, Duration::ZERO, &Control::new(), times).unwrap();
    let guard = Guard { lock: Some(&lock), control: &control };
    assert!(matches!(super::plan(&repo, &repo.snapshots().unwrap(), &everything(), PACK, guard, &Silent), Err(RepositoryError::Cancelled)));
}

#[test]
fn a_damaged_blob_is_not_moved_and_not_given_up() {
    let (builder, pack, _) = small_scene();
    change(&builder.path(&pack), |bytes| bytes[100] ^= 1);
    let error = prune(&builder, &everything()).unwrap_err();
    assert!(matches!(&error, RepositoryError::Damaged { file, .. } if *file == format!("pack {pack}")), "{error:?}");
    assert!(packs(&builder).contains(&pack));
    assert_eq!(indexes(&builder).len(), 2);
    let mut other = Vec::new();
    builder.indexed().read_blob(BlobKind::Data, &Id::of(&noise(2, 3000)), &mut other).unwrap();
}

#[test]
fn a_damaged_header_is_no_hindrance() {
    let (builder, pack, _) = small_scene();
    change(&builder.path(&pack), |bytes| {
        let end = bytes.len();
        bytes[end - 20] ^= 1;
    });
    prune(&builder, &everything()).unwrap();
    assert!(!packs(&builder).contains(&pack));
    assert_tidy(&builder, &[&noise(1, 3000), &noise(2, 3000)]);
}

#[test]
fn the_index_of_what_is_gone_and_not_needed_is_tidied() {
    let (mut builder, _, _) = small_scene();
    builder.blob(BlobKind::Data, &noise(7, 3000));
    let gone = builder.pack();
    fs::remove_file(builder.path(&gone)).unwrap();
    prune(&builder, &everything()).unwrap();
    assert_tidy(&builder, &[&noise(1, 3000), &noise(2, 3000)]);
}

#[test]
fn index_files_that_others_stand_for_or_repeat_are_put_right() {
    let mut builder = Builder::new();
    let data = noise(1, 3000);
    let (a, b) = (builder.blob(BlobKind::Data, &data), builder.blob(BlobKind::Data, &noise(2, 3000)));
    let (pack, blobs) = builder.pack_without_index();
    // One file names a pack that is gone, and another stands for it; one names the pack in parts, and two in full.
    let gone = index_pack(Id::of(b"gone"), &blobs);
    let write = |index: &IndexFile| builder.open.write_unpacked(FileKind::Index, &to_json(index).unwrap()).unwrap();
    let old = write(&IndexFile { packs: vec![gone], ..IndexFile::default() });
    let full = index_pack(pack, &blobs);
    write(&IndexFile { packs: vec![index_pack(pack, &blobs[..1])], ..IndexFile::default() });
    write(&IndexFile { packs: vec![full.clone(), full.clone()], supersedes: vec![old] });
    write(&IndexFile { packs: vec![full], ..IndexFile::default() });
    builder.blob(BlobKind::Data, &noise(3, 9000));
    builder.pack();
    snapshot(&mut builder, &[a, b]);
    prune(&builder, &everything()).unwrap();
    assert!(!indexes(&builder).contains(&old));
    assert_eq!(indexes(&builder).len(), 1);
    assert_tidy(&builder, &[&data, &noise(2, 3000)]);
}

#[test]
fn an_index_of_the_oldest_form_is_written_anew() {
    let mut builder = Builder::new();
    let (one, two) = (noise(1, 3000), noise(2, 5000));
    let ids = [builder.blob(BlobKind::Data, &one), builder.blob(BlobKind::Data, &two)];
    let (pack, blobs) = builder.pack_without_index();
    let bare = builder.open.write_unpacked(FileKind::Index, &to_json(&vec![index_pack(pack, &blobs)]).unwrap()).unwrap();
    snapshot(&mut builder, &ids);
    let others = indexes(&builder).len();
    let done = prune(&builder, &everything()).unwrap();
    assert!(!indexes(&builder).contains(&bare));
    assert_eq!((done.packs_unused, done.packs_repacked, done.indexes_removed), (0, 0, others as u64));
    assert_tidy(&builder, &[&one, &two]);
    let again = prune(&builder, &everything()).unwrap();
    assert_eq!((again.indexes_written, again.indexes_removed), (0, 0));
}

#[test]
fn large_index_files_that_name_nothing_that_goes_stay() {
    let mut builder = Builder::new();
    // More blobs than a small index file has.
    let blobs: Vec<Id> = (0..10_100).map(|number: u32| builder.blob(BlobKind::Data, &number.to_le_bytes())).collect();
    builder.pack();
    let large = *indexes(&builder).first().unwrap();
    builder.blob(BlobKind::Data, &noise(1, 9000));
    builder.pack();
    snapshot(&mut builder, &blobs);
    let done = prune(&builder, &everything()).unwrap();
    assert!(indexes(&builder).contains(&large));
    assert_eq!((done.packs_unused, done.indexes_written, done.indexes_removed), (1, 1, 2));
    assert_tidy(&builder, &[]);
}
