//! Makes a repository with an index of millions of blobs and a snapshot of millions of files, for `tests/bench/scale`.
//!
//! Trees, index and snapshot are real and written by the engine's own types. The data is not there: its packs are files of
//! the right size without content, so everything works on the repository but reading data.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that measures fails loudly and says what it made")]

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bbackup::model::compression::Compression;
use bbackup::model::entry::{Kind, Metadata, Timestamp};
use bbackup::platform::clock;
use bbackup::platform::secret::Secret;
use bbackup::repository::backend::FileKind;
use bbackup::repository::backend::local::LocalBackend;
use bbackup::repository::restic::codec::{BlobKind, Encoder};
use bbackup::repository::restic::file::{IndexBlob, IndexFile, IndexPack, SnapshotFile, Time, to_json};
use bbackup::repository::restic::id::Id;
use bbackup::repository::restic::pack::{self, PackedBlob};
use bbackup::repository::restic::state::{Closed, InitOptions, Open};
use bbackup::repository::restic::tree::{self, Node};

const PASSWORD: &str = "benchmark";
const FILES_IN_FOLDER: u64 = 1000;
const BLOBS_IN_PACK: u64 = 400;
/// As many blobs as restic and bbackup put into one index file.
const BLOBS_IN_INDEX: usize = 50_000;
const PACK_SIZE: usize = 16 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [folder, blobs, files] = &arguments[..] else {
        println!("usage: scale FOLDER BLOBS FILES (tests/bench/scale calls it)");
        return;
    };
    let (folder, blobs, files) = (PathBuf::from(folder), blobs.parse().unwrap(), files.parse().unwrap());
    let backend = Arc::new(LocalBackend::new(&folder));
    let open = Closed::new(backend).init(&Secret::new(PASSWORD.to_owned()), InitOptions::default()).unwrap();
    let mut maker = Maker { index: Vec::new(), indexed: 0, encoder: Encoder::new(Compression::Fastest, 2, false), open };
    maker.data(&folder, blobs);
    let root = maker.trees(blobs, files);
    maker.save_index();
    maker.snapshot(root);
    println!("made a repository of {blobs} data blobs and a snapshot of {files} files");
}

struct Maker {
    open: Open,
    encoder: Encoder,
    /// Packs that no index file names yet, and the number of their blobs.
    index: Vec<IndexPack>,
    indexed: usize,
}

/// As stored; each is half as long as what it stands for.
fn data_length(number: u64) -> u32 {
    20_000 + (number % 20_011) as u32
}

fn data_id(number: u64) -> Id {
    Id::of(&number.to_le_bytes())
}

impl Maker {
    /// Packs of data that are not there.
    fn data(&mut self, folder: &Path, blobs: u64) {
        for first in (0..blobs).step_by(BLOBS_IN_PACK as usize) {
            let mut offset = 0;
            let mut packed = Vec::new();
            for number in first..blobs.min(first + BLOBS_IN_PACK) {
                let length = data_length(number);
                let uncompressed = NonZeroU32::new(2 * length);
                packed.push(PackedBlob { id: data_id(number), kind: BlobKind::Data, offset, length, uncompressed });
                offset += length;
            }
            let id = Id::of(&(first, "pack").0.to_be_bytes());
            let name = id.to_string();
            let file = folder.join("data").join(&name[..2]).join(&name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::File::create(file).unwrap().set_len(pack::pack_size(&packed)).unwrap();
            self.name(id, &packed);
        }
    }

    /// Folders of files that use the data, and the folder that holds them.
    fn trees(&mut self, blobs: u64, files: u64) -> Id {
        let trees = tree::Encoder::new(jiff::tz::TimeZone::UTC);
        let (mut pack, mut packed, mut json) = (Vec::new(), Vec::new(), Vec::new());
        let (per_file, folders) = (blobs / files.max(1), files.div_ceil(FILES_IN_FOLDER));
        let mut root = Vec::new();
        for folder in 0..=folders {
            let nodes: Vec<Node> = if folder == folders {
                std::mem::take(&mut root)
            } else {
                let numbers = folder * FILES_IN_FOLDER..files.min((folder + 1) * FILES_IN_FOLDER);
                numbers.map(|number| file(number, per_file)).collect()
            };
            json.clear();
            trees.encode(&nodes, &mut json);
            let id = Id::of(&json);
            let offset = pack.len() as u32;
            let encoded = self.encoder.encode(self.open.key(), BlobKind::Tree, &json, &mut pack).unwrap();
            let (length, uncompressed) = (encoded.length, encoded.uncompressed);
            packed.push(PackedBlob { id, kind: BlobKind::Tree, offset, length, uncompressed });
            if pack.len() >= PACK_SIZE || folder == folders {
                let header = pack::encode_header(self.open.key(), &packed).unwrap();
                pack.extend_from_slice(&header);
                let id = Id::of(&pack);
                self.open.backend().write(FileKind::Pack, &id.to_string(), &[&pack]).unwrap();
                self.name(id, &packed);
                pack.clear();
                packed.clear();
            }
            if folder == folders {
                return id;
            }
            root.push(node(format!("folder-{folder:07}"), folder, Kind::Directory, Vec::new(), Some(id)));
        }
        unreachable!("the loop ends with the root")
    }

    fn name(&mut self, id: Id, packed: &[PackedBlob]) {
        let blob = |blob: &PackedBlob| IndexBlob {
            id: blob.id,
            kind: blob.kind,
            offset: blob.offset,
            length: blob.length,
            uncompressed_length: blob.uncompressed,
        };
        self.index.push(IndexPack { id, blobs: packed.iter().map(blob).collect() });
        self.indexed += packed.len();
        if self.indexed >= BLOBS_IN_INDEX {
            self.save_index();
        }
    }

    fn save_index(&mut self) {
        let index = IndexFile { supersedes: Vec::new(), packs: std::mem::take(&mut self.index) };
        self.open.write_unpacked(FileKind::Index, &to_json(&index).unwrap()).unwrap();
        self.indexed = 0;
    }

    fn snapshot(&self, tree: Id) {
        let snapshot = SnapshotFile {
            time: Time::utc(clock::now()),
            parent: None,
            tree,
            paths: vec!["/".into()],
            hostname: "scale".into(),
            username: "root".into(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags: Vec::new(),
            original: None,
            program_version: "bbackup scale".into(),
            summary: None,
            more: serde_json::Map::new(),
        };
        self.open.write_unpacked(FileKind::Snapshot, &to_json(&snapshot).unwrap()).unwrap();
    }
}

fn file(number: u64, blobs: u64) -> Node {
    let blobs = number * blobs..(number + 1) * blobs;
    let size = blobs.clone().map(|blob| u64::from(2 * data_length(blob))).sum();
    let mut node = node(format!("file-{number:09}.dat"), number, Kind::File, blobs.map(data_id).collect(), None);
    node.metadata.size = size;
    node
}

fn node(name: String, number: u64, kind: Kind, content: Vec<Id>, subtree: Option<Id>) -> Node {
    let time = Timestamp { secs: 1_700_000_000 + number as i64, nanos: (number % 1_000_000_000) as u32 };
    let metadata = Metadata {
        kind,
        mode: 0o644,
        user: "root".into(),
        group: "root".into(),
        mtime: time,
        atime: time,
        ctime: time,
        inode: number + 1,
        device: 2049,
        ..Metadata::virtual_file(0)
    };
    Node { name: name.into_bytes(), metadata, content, subtree }
}
