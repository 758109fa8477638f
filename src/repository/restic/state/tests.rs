//! Tests of making, opening and reading repositories, beside the real restic.
//!
//! Backup and restore are tested with the verbs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::closed::open_config;
use super::testing::{PASSWORD, closed, empty_repository, has_restic, over, password, restic};
use super::*;
use crate::model::compression::Compression;
use crate::platform::secret::Secret;
use crate::repository::backend::testing::{Call, IntrudedBackend, MemoryBackend};
use crate::repository::restic::chunker::Chunker;
use crate::repository::restic::codec::{BlobKind, Encoder};
use crate::repository::restic::crypto;
use crate::repository::restic::file::{IndexBlob, IndexPack, to_json};
use crate::repository::restic::pack::{PackedBlob, encode_header, read_header};
use crate::repository::restic::reader::load_tree;
use crate::repository::restic::reader::testing::Builder;

fn is_damaged<T>(result: Result<T, RepositoryError>, wanted: &str) -> bool {
    match result {
        Err(RepositoryError::Damaged { file, .. }) => file.starts_with(wanted),
        _ => false,
    }
}

#[test]
fn a_new_repository_opens_with_its_password_only() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep/repository");
    assert!(matches!(closed(&root).open(&password()), Err(RepositoryError::Missing { .. })));
    let open = closed(&root).init(&password(), InitOptions::default()).unwrap();
    assert_eq!(open.version(), 2);
    let again = closed(&root).open(&password()).unwrap();
    assert_eq!(again.config(), open.config());
    assert!(again.key() == open.key());
    let wrong = closed(&root).open(&Secret::new("wrong".into()));
    assert!(matches!(wrong, Err(RepositoryError::WrongPassword { .. })), "{wrong:?}");
    let twice = closed(&root).init(&password(), InitOptions::default());
    assert!(matches!(twice, Err(RepositoryError::Exists { .. })), "{twice:?}");
    assert_eq!(fs::read_dir(root.join("data")).unwrap().count(), 256);
    assert_eq!(fs::read_dir(root.join("keys")).unwrap().count(), 1);
    assert_eq!(fs::metadata(root.join("config")).unwrap().permissions().mode() & 0o777, 0o400);
    assert_eq!(fs::metadata(root.join("keys")).unwrap().permissions().mode() & 0o777, 0o700);
    let not_a_folder = folder.path().join("file");
    fs::write(&not_a_folder, "").unwrap();
    assert!(matches!(closed(&not_a_folder).open(&password()), Err(RepositoryError::Missing { .. })));
}

#[test]
fn an_interrupted_init_can_be_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    closed(root).init(&password(), InitOptions::default()).unwrap();
    fs::remove_file(root.join("config")).unwrap();
    closed(root).init(&password(), InitOptions::default()).unwrap();
    assert_eq!(fs::read_dir(root.join("keys")).unwrap().count(), 1, "the key of the first is gone");
    closed(root).open(&password()).unwrap();
    // But where there is data, the keys are all that is left of it.
    fs::remove_file(root.join("config")).unwrap();
    fs::write(root.join("index").join(Id::of(b"x").to_string()), "x").unwrap();
    assert!(is_damaged(closed(root).init(&password(), InitOptions::default()), "config"));
    assert_eq!(fs::read_dir(root.join("keys")).unwrap().count(), 1);
}

#[test]
fn unknown_versions_and_damaged_configs() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let open = closed(root).init(&password(), InitOptions::default()).unwrap();
    let write = |json: &str| {
        let mut sealed = Vec::new();
        open.key().seal(json.as_bytes(), &mut sealed).unwrap();
        fs::remove_file(root.join("config")).unwrap();
        fs::write(root.join("config"), sealed).unwrap();
        closed(root).open(&password())
    };
    let id = &open.config().id;
    for version in [0, 3, 77] {
        let result = write(&format!(r#"{{"version":{version},"novel":true}}"#));
        assert!(matches!(result, Err(RepositoryError::UnknownVersion { version: found, .. }) if found == version), "{result:?}");
    }
    // A polynomial that is a product, one that is too small, none, and no JSON at all.
    for polynomial in ["38f1e565e288df", "b", ""] {
        assert!(is_damaged(write(&format!(r#"{{"version":2,"id":"{id}","chunker_polynomial":"{polynomial}"}}"#)), "config"));
    }
    assert!(is_damaged(write(&format!(r#"{{"version":2,"id":"{id}"}}"#)), "config"));
    assert!(is_damaged(write("{"), "config"));
    assert!(write(&format!(r#"{{"version":1,"id":"{id}","chunker_polynomial":"3da3358b4dc173"}}"#)).is_ok());
    fs::write(root.join("config"), "short").unwrap_or_else(|_| {
        fs::remove_file(root.join("config")).unwrap();
        fs::write(root.join("config"), "short").unwrap();
    });
    assert!(is_damaged(closed(root).open(&password()), "config"));
}

#[test]
fn documents_come_back_and_damage_is_told() {
    for version in [1, 2] {
        let (folder, open) = empty_repository(version);
        let json = br#"{"packs":[]}"#.repeat(1000);
        let id = open.write_unpacked(FileKind::Index, &json).unwrap();
        assert_eq!(open.read_unpacked(FileKind::Index, &id).unwrap(), json);
        assert_eq!(open.list_ids(FileKind::Index).unwrap(), [id]);
        let path = folder.path().join("index").join(id.to_string());
        let stored = fs::read(&path).unwrap();
        assert_eq!(stored.len() < json.len(), version == 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
        for damage in [&stored[..stored.len() - 1], &stored[..10], &[], &[&[stored[0] ^ 1], &stored[1..]].concat()] {
            fs::remove_file(&path).unwrap();
            fs::write(&path, damage).unwrap();
            assert!(is_damaged(open.read_unpacked(FileKind::Index, &id), &format!("index {id}")));
            assert!(is_damaged(open.clone().into_indexed(), &format!("index {id}")));
        }
        let (_, errors) = open.clone().into_indexed_in_part(&Control::new()).unwrap();
        assert_eq!(errors.len(), 1);
        open.remove(FileKind::Index, &id).unwrap();
        open.remove(FileKind::Index, &id).unwrap();
        let gone = open.read_unpacked(FileKind::Index, &id);
        assert!(matches!(gone, Err(RepositoryError::Storage { action: "read", .. })), "{gone:?}");
    }
}

/// Writes sealed bytes under their right name.
fn plant(open: &Open, kind: FileKind, plain: &[u8]) -> Id {
    let mut sealed = Vec::new();
    open.key().seal(plain, &mut sealed).unwrap();
    let id = Id::of(&sealed);
    open.backend().write(kind, &id.to_string(), &[&sealed]).unwrap();
    id
}

#[test]
fn documents_of_upgraded_repositories_are_not_compressed() {
    let (_folder, open) = empty_repository(2);
    for plain in [&b"{\"packs\":[]}"[..], b"[]"] {
        let id = plant(&open, FileKind::Index, plain);
        assert_eq!(open.read_unpacked(FileKind::Index, &id).unwrap(), plain);
    }
    for bad in [&b""[..], b"\x01{}", b"\x02", b"\x02{}", b" {}"] {
        let id = plant(&open, FileKind::Lock, bad);
        assert!(is_damaged(open.read_unpacked(FileKind::Lock, &id), "lock"), "{bad:?}");
    }
}

/// Stores a pack with these blobs and gives what an index says of it.
fn store(open: &Open, blobs: &[&[u8]]) -> IndexPack {
    let mut encoder = Encoder::new(Compression::Auto, open.version(), true);
    let (mut pack, mut entries) = (Vec::new(), Vec::new());
    for plain in blobs {
        let offset = pack.len() as u32;
        let encoded = encoder.encode(open.key(), BlobKind::Data, plain, &mut pack).unwrap();
        let (length, uncompressed) = (encoded.length, encoded.uncompressed);
        entries.push(PackedBlob { id: Id::of(plain), kind: BlobKind::Data, offset, length, uncompressed });
    }
    pack.extend(encode_header(open.key(), &entries).unwrap());
    let id = Id::of(&pack);
    open.backend().write(FileKind::Pack, &id.to_string(), &[&pack]).unwrap();
    let blobs = entries.iter().map(|entry| IndexBlob {
        id: entry.id,
        kind: entry.kind,
        offset: entry.offset,
        length: entry.length,
        uncompressed_length: entry.uncompressed,
    });
    IndexPack { id, blobs: blobs.collect() }
}

fn save_index(open: &Open, supersedes: Vec<Id>, packs: Vec<IndexPack>) -> Id {
    open.write_unpacked(FileKind::Index, &to_json(&IndexFile { supersedes, packs }).unwrap()).unwrap()
}

fn pack_path(folder: &Path, id: &Id) -> PathBuf {
    let name = id.to_string();
    folder.join("data").join(&name[..2]).join(name)
}

#[test]
fn blobs_are_read_from_whichever_pack_is_whole() {
    let (folder, open) = empty_repository(2);
    let text = b"a blob that is there twice ".repeat(100);
    let packs = [store(&open, &[&text, b"other"]), store(&open, &[b"before", &text])];
    save_index(&open, Vec::new(), packs.to_vec());
    let indexed = open.into_indexed().unwrap();
    let mut out = Vec::new();
    let id = Id::of(&text);
    indexed.read_blob(BlobKind::Data, &id, &mut out).unwrap();
    assert_eq!(out, text);
    let none = indexed.read_blob(BlobKind::Tree, &id, &mut out);
    assert!(matches!(none, Err(RepositoryError::BlobMissing { kind: "tree", .. })));

    let ruin = |pack: &IndexPack, blob: usize| {
        let path = pack_path(folder.path(), &pack.id);
        let mut data = fs::read(&path).unwrap();
        data[pack.blobs[blob].offset as usize + 20] ^= 4;
        fs::remove_file(&path).unwrap();
        fs::write(&path, data).unwrap();
    };
    ruin(&packs[0], 0);
    indexed.read_blob(BlobKind::Data, &id, &mut out).unwrap();
    assert_eq!(out, text);
    fs::remove_file(pack_path(folder.path(), &packs[1].id)).unwrap();
    assert!(indexed.read_blob(BlobKind::Data, &id, &mut out).is_err());
    indexed.read_blob(BlobKind::Data, &Id::of(b"other"), &mut out).unwrap();
    assert_eq!(out, b"other");
    // Cut off in the middle of the blob.
    fs::OpenOptions::new().write(true).open(pack_path(folder.path(), &packs[0].id)).unwrap().set_len(40).unwrap();
    let cut = indexed.read_blob(BlobKind::Data, &Id::of(b"other"), &mut out);
    assert!(is_damaged(cut, &format!("pack {}", packs[0].id)));
}

#[test]
fn an_authentic_blob_under_a_wrong_name_is_damage() {
    let (_folder, open) = empty_repository(2);
    let mut pack = store(&open, &[b"one", b"two"]);
    let second = pack.blobs[1].id;
    pack.blobs[0].id = second;
    pack.blobs.truncate(1);
    save_index(&open, Vec::new(), vec![pack]);
    let indexed = open.into_indexed().unwrap();
    assert!(is_damaged(indexed.read_blob(BlobKind::Data, &second, &mut Vec::new()), "pack"));
}

#[test]
fn superseded_index_files_do_not_count() {
    let (_folder, open) = empty_repository(2);
    let (one, two) = (store(&open, &[b"one"]), store(&open, &[b"two"]));
    let old = save_index(&open, Vec::new(), vec![one.clone(), two.clone()]);
    save_index(&open, vec![old], vec![two.clone()]);
    let indexed = open.into_indexed().unwrap();
    assert_eq!(indexed.index().lookup(BlobKind::Data, &one.blobs[0].id), None);
    assert!(indexed.index().contains(BlobKind::Data, &two.blobs[0].id));
}

#[test]
fn snapshots_are_read_and_a_damaged_one_is_named() {
    let (folder, open) = empty_repository(2);
    let mut ids = Vec::new();
    for n in 0..20 {
        let json = format!(r#"{{"time":"2024-01-01T00:00:{n:02}Z","tree":"{}","paths":["/{n}"]}}"#, Id::of(b"tree"));
        ids.push((n, open.write_unpacked(FileKind::Snapshot, json.as_bytes()).unwrap()));
    }
    let snapshots = open.snapshots().unwrap();
    assert_eq!(snapshots.len(), 20);
    for (n, id) in &ids {
        let (_, snapshot) = snapshots.iter().find(|(found, _)| found == id).unwrap();
        assert_eq!(snapshot.paths, [format!("/{n}")]);
        assert_eq!(open.snapshot(id).unwrap(), *snapshot);
    }
    assert!(matches!(open.snapshot(&Id::of(b"none")), Err(RepositoryError::NoSnapshot { .. })));
    let bad = ids[7].1;
    let path = folder.path().join("snapshots").join(bad.to_string());
    fs::remove_file(&path).unwrap();
    fs::write(&path, "damaged").unwrap();
    assert!(is_damaged(open.snapshots(), &format!("snapshot {bad}")));
    assert_eq!(open.snapshot_files().unwrap().iter().filter(|(_, result)| result.is_ok()).count(), 19);
    let odd = plant(&open, FileKind::Snapshot, b"{}");
    assert!(is_damaged(open.snapshot(&odd), &format!("snapshot {odd}")));
}

/// Reads everything that restic stored: keys, config, index, pack headers, every blob; and cuts a file as restic did.
#[test]
fn a_repository_of_restic_is_read_to_the_last_blob() {
    if !has_restic() {
        return;
    }
    for version in ["1", "2"] {
        let folder = tempfile::tempdir().unwrap();
        let (root, source) = (folder.path().join("repository"), folder.path().join("source"));
        fs::create_dir_all(source.join("folder")).unwrap();
        let mut noise = vec![0; 9_000_000];
        crypto::random(&mut noise).unwrap();
        fs::write(source.join("noise"), &noise).unwrap();
        fs::write(source.join("folder/text"), "some text\n".repeat(100_000)).unwrap();
        fs::write(source.join("folder/empty"), "").unwrap();
        restic(&root, &["init", "--repository-version", version]);
        restic(&root, &["backup", "--tag", "one", "--host", "somewhere", source.to_str().unwrap()]);

        let indexed = closed(&root).open(&password()).unwrap().into_indexed().unwrap();
        assert_eq!(indexed.version().to_string(), version);
        let snapshots = indexed.snapshots().unwrap();
        assert_eq!(snapshots.len(), 1);
        let (_, snapshot) = &snapshots[0];
        assert_eq!((&*snapshot.hostname, &snapshot.tags[..]), ("somewhere", &["one".to_owned()][..]));
        assert_eq!(snapshot.paths, [source.to_str().unwrap()]);

        let mut out = Vec::new();
        indexed.read_blob(BlobKind::Tree, &snapshot.tree, &mut out).unwrap();
        assert!(out.starts_with(b"{\"nodes\":["));
        let mut blobs = 0;
        for (pack, size) in indexed.list_sizes(FileKind::Pack).unwrap() {
            for blob in read_header(&**indexed.backend(), indexed.key(), &pack, size).unwrap() {
                assert!(
                    indexed.index().lookup_all(blob.kind, &blob.id).iter().any(|place| place.pack == pack && place.offset == blob.offset)
                );
                assert_eq!(blob.uncompressed.is_some(), version == "2");
                indexed.read_blob(blob.kind, &blob.id, &mut out).unwrap();
                assert_eq!(out.len(), blob.plain_length() as usize);
                blobs += 1;
            }
        }
        assert_eq!(blobs, indexed.index().len());
        for summary in indexed.index().packs() {
            assert!(indexed.list_sizes(FileKind::Pack).unwrap().contains(&(summary.id, summary.size)));
        }

        let chunker = Chunker::new(indexed.config().chunker_polynomial);
        let mut rest = &noise[..];
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(chunker.cut(rest));
            assert!(indexed.index().contains(BlobKind::Data, &Id::of(chunk)), "restic cut elsewhere");
            rest = after;
        }
    }
}

/// restic opens what we made, and is content with packs, index and snapshot of ours.
#[test]
fn restic_reads_a_repository_of_ours() {
    if !has_restic() {
        return;
    }
    for version in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let open = closed(folder.path()).init(&password(), InitOptions { version, polynomial: None }).unwrap();
        let mut encoder = Encoder::new(Compression::Auto, version, true);
        let tree = b"{\"nodes\":[]}\n";
        let mut pack = Vec::new();
        let encoded = encoder.encode(open.key(), BlobKind::Tree, tree, &mut pack).unwrap();
        let (length, uncompressed) = (encoded.length, encoded.uncompressed);
        let blob = PackedBlob { id: Id::of(tree), kind: BlobKind::Tree, offset: 0, length, uncompressed };
        pack.extend(encode_header(open.key(), &[blob]).unwrap());
        let pack_id = Id::of(&pack);
        open.backend().write(FileKind::Pack, &pack_id.to_string(), &[&pack[..5], &pack[5..]]).unwrap();
        let blobs = vec![IndexBlob { id: blob.id, kind: blob.kind, offset: 0, length, uncompressed_length: uncompressed }];
        save_index(&open, Vec::new(), vec![IndexPack { id: pack_id, blobs }]);
        let json = format!(r#"{{"time":"2024-01-01T00:00:00Z","tree":"{}","paths":["/x"],"hostname":"ours"}}"#, blob.id);
        open.write_unpacked(FileKind::Snapshot, json.as_bytes()).unwrap();
        restic(folder.path(), &["check", "--read-data"]);
        assert!(restic(folder.path(), &["snapshots", "--json"]).contains("\"ours\""));
        assert!(restic(folder.path(), &["cat", "config"]).contains(&open.config().id));
        assert!(!PASSWORD.is_empty());
    }
}

/// Whatever a config says, it is refused, or is one of a version that is known with a polynomial that cuts.
fn opened(json: &[u8]) -> bool {
    let key = MasterKey::generate().unwrap();
    let mut sealed = Vec::new();
    key.seal(json, &mut sealed).unwrap();
    let opened = open_config(&key, &sealed, "here");
    if let Ok(config) = &opened {
        assert!((1..=2).contains(&config.version) && config.chunker_polynomial.is_usable());
    }
    // Not sealed at all it is no config.
    assert!(open_config(&key, json, "here").is_err());
    opened.is_ok()
}

#[test]
fn the_corpus_of_configs_is_read() {
    assert_eq!(testing::corpus("config").iter().filter(|json| opened(json)).count(), 2);
}

proptest::proptest! {
    #![proptest_config(testing::cases(1000))]

    #[test]
    fn any_config_is_opened_or_refused(json in testing::documents("config")) {
        opened(&json);
    }
}

#[test]
fn loading_the_index_ends_when_it_is_cancelled() {
    let memory = Arc::new(MemoryBackend::new());
    let open = over(memory.clone(), 2);
    for number in 0..200 {
        open.write_unpacked(FileKind::Index, format!("{{\"packs\":[],\"number\":{number}}}").as_bytes()).unwrap();
    }
    let control = Control::new();
    assert!(open.clone().into_indexed_under(&control).is_ok());
    let all = memory.reads.swap(0, Ordering::Relaxed);
    control.cancel();
    assert!(matches!(open.into_indexed_under(&control), Err(RepositoryError::Cancelled)));
    let few = memory.reads.load(Ordering::Relaxed);
    assert!(all >= 200 && few < 100, "{few} of {all} files were read");
}

#[test]
fn where_a_folder_is_no_json_is_told() {
    let mut builder = Builder::new();
    let tree = builder.blob(BlobKind::Tree, b"{\"nodes\":[{\"name\":7}]}\n");
    builder.pack();
    let error = load_tree(&builder.indexed(), &tree).unwrap_err();
    assert!(
        matches!(&error, RepositoryError::Damaged { file, offset, .. } if *file == format!("tree {tree}") && *offset == 18),
        "{error:?}"
    );
}

#[test]
fn where_an_index_file_names_what_fits_no_pack_is_told() {
    let (_folder, open) = empty_repository(2);
    let (pack, good, bad) = (Id::of(b"pack"), Id::of(b"good"), Id::of(b"bad"));
    let blob = |id: Id, length: u32| format!(r#"{{"id":"{id}","type":"data","offset":0,"length":{length}}}"#);
    let json = format!(
        r#"{{"packs":[{{"id":"{good}","blobs":[{}]}},{{"id":"{pack}","blobs":[{},{}]}}]}}"#,
        blob(bad, 99),
        blob(good, 50),
        blob(bad, 31)
    );
    let file = open.write_unpacked(FileKind::Index, json.as_bytes()).unwrap();
    let RepositoryError::Damaged { file: named, offset, expected } = open.into_indexed().unwrap_err() else { panic!("another error") };
    let end = json.rfind(&bad.to_string()).unwrap() as u64 - 1;
    assert_eq!((named, offset), (format!("index {file}"), end));
    assert_eq!(expected, format!("blobs that fit a pack ({bad} of pack {pack} has 31 bytes at 0)"));
}

/// What somebody forgot between the list and the reading is only not there. What is in the list still was not forgotten.
#[test]
fn a_snapshot_that_is_there_and_cannot_be_found_is_not_taken_for_forgotten() {
    let builder = Builder::new();
    let id = builder.snapshot(Id::of(b"tree"));
    let path = builder.folder.path().join("snapshots").join(id.to_string());
    let (listed, read) = (|call: Call| call == Call::Listed(FileKind::Snapshot), |call: Call| call == Call::Read(FileKind::Snapshot));
    for comes_back in [false, true] {
        let aside = builder.folder.path().join("aside");
        let (from, to) = (path.clone(), aside.clone());
        let goes = IntrudedBackend::new(Arc::clone(builder.open.backend()), 0, move || fs::rename(&from, &to).unwrap()).on(listed);
        let (from, to) = (aside.clone(), path.clone());
        let back = move || {
            if comes_back {
                fs::rename(&from, &to).unwrap();
            }
        };
        let open = builder.open.by_way_of(Arc::new(IntrudedBackend::new(Arc::new(goes), 0, back).on(read)));
        match open.snapshots() {
            Ok(snapshots) => assert!(snapshots.is_empty() && !comes_back),
            Err(error) => assert!(comes_back && error.to_string().contains(&id.to_string()), "{error}"),
        }
        if !comes_back {
            fs::rename(&aside, &path).unwrap();
        }
    }
    assert_eq!(builder.open.snapshots().unwrap().len(), 1);
}

#[test]
fn a_folder_that_is_gone_is_none_that_is_empty() {
    let mut builder = Builder::new();
    let root = builder.folder.path().to_owned();
    let is_missing = |result: Result<(), RepositoryError>, name: &str| {
        let told = matches!(&result, Err(RepositoryError::FolderMissing { folder, .. }) if *folder == name);
        assert!(told, "{name}: {result:?}");
    };
    // Nothing was ever in them.
    for name in ["snapshots", "index", "data"] {
        fs::rename(root.join(name), root.join("aside")).unwrap();
        assert!(builder.open.snapshots().unwrap().is_empty());
        builder.indexed();
        fs::rename(root.join("aside"), root.join(name)).unwrap();
    }
    builder.snapshot(Id::of(b"tree"));
    for name in ["index", "data"] {
        fs::rename(root.join(name), root.join("aside")).unwrap();
        is_missing(builder.open.clone().into_indexed().map(drop), name);
        fs::rename(root.join("aside"), root.join(name)).unwrap();
    }
    builder.blob(BlobKind::Data, b"data");
    builder.pack_without_index();
    fs::rename(root.join("snapshots"), root.join("aside")).unwrap();
    is_missing(builder.open.snapshots().map(drop), "snapshots");
    // One that cannot be looked into is no missing one, and a link to nowhere is no folder.
    std::os::unix::fs::symlink(root.join("nowhere"), root.join("snapshots")).unwrap();
    is_missing(builder.open.snapshots().map(drop), "snapshots");
    fs::remove_file(root.join("snapshots")).unwrap();
    fs::write(root.join("snapshots"), "a file").unwrap();
    assert!(matches!(builder.open.snapshots(), Err(RepositoryError::Storage { .. })));
}
