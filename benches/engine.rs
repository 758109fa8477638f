//! How fast the parts of the engine are on one core: chunker, hash, encryption, the whole way of a blob and back; and a whole
//! backup with all of them.
//!
//! Whole backups beside other tools are measured by `tests/bench/compare`.

#![expect(clippy::unwrap_used, reason = "benches fail loudly")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bbackup::config::RepositoryConfig;
use bbackup::jobs::open;
use bbackup::model::compression::Compression;
use bbackup::model::progress::Silent;
use bbackup::platform::clock;
use bbackup::platform::control::Control;
use bbackup::platform::secret::Secret;
use bbackup::repository::contract::{Repository, SnapshotRequest};
use bbackup::repository::restic::chunker::{Chunker, MAX_SIZE, Polynomial};
use bbackup::repository::restic::codec::{BlobKind, Decoder, Encoder};
use bbackup::repository::restic::crypto::MasterKey;
use bbackup::sources::walk::{Walk, WalkOptions};
use divan::Bencher;
use divan::counter::BytesCount;

fn main() {
    divan::main();
}

const SIZE: usize = 32 * 1024 * 1024;
const BLOB: usize = 1024 * 1024;

/// Bytes that nothing compresses, the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Bytes that compress about as well as a database's pages.
fn rows(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 64);
    let mut number = 1_u64;
    while bytes.len() < length {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(format!("{:09},customer-{:04},shipped,{:016x}\n", number >> 40, number >> 52, number).as_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Finds the cuts of a large file.
#[divan::bench]
fn chunker(bencher: Bencher<'_, '_>) {
    // The polynomial of restic's own design document.
    let chunker = Chunker::new(Polynomial(0x003D_A335_8B4D_C173));
    let data = noise(SIZE);
    bencher.counter(BytesCount::new(SIZE)).bench(|| {
        let mut rest = data.as_slice();
        let mut chunks = 0;
        while !rest.is_empty() {
            rest = &rest[chunker.cut(&rest[..rest.len().min(MAX_SIZE)])..];
            chunks += 1;
        }
        chunks
    });
}

/// Encrypts and authenticates.
#[divan::bench]
fn seal(bencher: Bencher<'_, '_>) {
    let key = MasterKey::generate().unwrap();
    let data = noise(BLOB);
    let mut out = Vec::with_capacity(BLOB + 64);
    bencher.counter(BytesCount::new(BLOB)).bench_local(|| {
        out.clear();
        key.seal(&data, &mut out).unwrap();
    });
}

/// Authenticates and decrypts.
#[divan::bench]
fn open(bencher: Bencher<'_, '_>) {
    let key = MasterKey::generate().unwrap();
    let mut sealed = Vec::new();
    key.seal(&noise(BLOB), &mut sealed).unwrap();
    bencher.counter(BytesCount::new(BLOB)).with_inputs(|| sealed.clone()).bench_refs(|sealed| key.open(sealed).unwrap().len());
}

fn encode(bencher: Bencher<'_, '_>, data: &[u8], verify: bool) {
    let key = MasterKey::generate().unwrap();
    let mut encoder = Encoder::new(Compression::Auto, 2, verify);
    let mut out = Vec::with_capacity(BLOB + 1024);
    bencher.counter(BytesCount::new(data.len())).bench_local(|| {
        out.clear();
        encoder.encode(&key, BlobKind::Data, data, &mut out).unwrap()
    });
}

/// Compresses and encrypts a blob that compresses well.
#[divan::bench(args = [false, true])]
fn encode_rows(bencher: Bencher<'_, '_>, verify: bool) {
    encode(bencher, &rows(BLOB), verify);
}

/// The same for a blob that does not compress.
#[divan::bench(args = [false, true])]
fn encode_noise(bencher: Bencher<'_, '_>, verify: bool) {
    encode(bencher, &noise(BLOB), verify);
}

/// Decrypts and decompresses a blob.
#[divan::bench]
fn decode_rows(bencher: Bencher<'_, '_>) {
    let key = MasterKey::generate().unwrap();
    let mut sealed = Vec::new();
    let encoded = Encoder::new(Compression::Auto, 2, false).encode(&key, BlobKind::Data, &rows(BLOB), &mut sealed).unwrap();
    let mut decoder = Decoder::new();
    let mut out = Vec::with_capacity(BLOB);
    bencher.counter(BytesCount::new(BLOB)).with_inputs(|| sealed.clone()).bench_local_refs(|sealed| {
        out.clear();
        decoder.decode(&key, sealed, encoded.uncompressed, &mut out).unwrap();
    });
}

/// Makes files of every size: a third noise, the rest what compresses. Returns their bytes.
fn corpus(folder: &Path) -> usize {
    let (noise, rows) = (noise(16 << 20), rows(16 << 20));
    let write = |name: String, data: &[u8]| {
        std::fs::write(folder.join(name), data).unwrap();
        data.len()
    };
    let large = write("noise".to_owned(), &noise) + write("rows".to_owned(), &rows);
    let small = (0..1000).map(|number| {
        let (source, size) = (if number % 3 == 0 { &noise } else { &rows }, 500 + number * 31);
        write(format!("small-{number}"), &source[number * 1_001..number * 1_001 + size])
    });
    large + small.sum::<usize>()
}

/// A first backup of files into a new repository of this machine, from the walk to the snapshot on disk.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn whole_archive(bencher: Bencher<'_, '_>) {
    let files = tempfile::tempdir().unwrap();
    let bytes = corpus(files.path());
    let repository = || -> (tempfile::TempDir, Arc<dyn Repository>) {
        let folder = tempfile::tempdir().unwrap();
        let (config, password) = (RepositoryConfig::at(folder.path().join("repository")), Secret::new("benchmark".to_owned()));
        open::init(&config, &password, None).unwrap();
        let opened = open::open(&config, &password, Some(Duration::ZERO), &(Arc::new(|_: &str| {}) as open::Notice)).unwrap();
        (folder, opened)
    };
    let path = files.path();
    bencher.counter(BytesCount::new(bytes)).with_inputs(repository).bench_local_refs(|(_, repository)| {
        let request = SnapshotRequest {
            time: clock::now(),
            host: "bench".to_owned(),
            paths: vec![path.display().to_string()],
            tags: Vec::new(),
            excludes: Vec::new(),
            ignore_parent: false,
            parent: None,
            with_atime: false,
            dry_run: false,
        };
        let mut writer = repository.write_snapshot(request, &Control::new(), Arc::new(Silent)).unwrap();
        let walk = Walk::new(path, WalkOptions::default()).unwrap();
        writer.add(path.as_os_str().as_encoded_bytes(), Box::new(walk)).unwrap();
        writer.finish(Vec::new()).unwrap().1.total_bytes_processed
    });
}
