//! Snapshots made up for tests, hostile and damaged ones among them.
//!
//! Only compiled for tests; it writes the format by hand, so that nothing stops it from writing nonsense.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use jiff::tz::TimeZone;
use tempfile::TempDir;

use super::*;
use crate::model::compression::Compression;
use crate::model::entry::Metadata;
use crate::repository::backend::FileKind;
use crate::repository::restic::codec::Encoder;
use crate::repository::restic::file::{IndexBlob, IndexFile, IndexPack, SnapshotFile, Time, to_json};
use crate::repository::restic::pack::{PackedBlob, encode_header};
use crate::repository::restic::state::Open;
use crate::repository::restic::state::testing::empty_repository;

/// A repository that is being made. Each call of `pack` writes what was added since the last one.
pub(crate) struct Builder {
    pub(crate) folder: TempDir,
    pub(crate) open: Open,
    encoder: Encoder,
    bytes: Vec<u8>,
    blobs: Vec<PackedBlob>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let (folder, open) = empty_repository(2);
        Self { folder, open, encoder: Encoder::new(Compression::Auto, 2, true), bytes: Vec::new(), blobs: Vec::new() }
    }

    pub(crate) fn blob(&mut self, kind: BlobKind, plain: &[u8]) -> Id {
        let id = Id::of(plain);
        self.blob_as(kind, plain, id);
        id
    }

    /// A blob under an id that need not be its own.
    pub(crate) fn blob_as(&mut self, kind: BlobKind, plain: &[u8], id: Id) {
        let offset = self.bytes.len() as u32;
        let encoded = self.encoder.encode(self.open.key(), kind, plain, &mut self.bytes).unwrap();
        self.blobs.push(PackedBlob { id, kind, offset, length: encoded.length, uncompressed: encoded.uncompressed });
    }

    /// Stores a folder; the nodes are not sorted.
    pub(crate) fn tree(&mut self, nodes: &[Node]) -> Id {
        let mut json = Vec::new();
        tree::Encoder::new(TimeZone::UTC).encode(nodes, &mut json);
        self.blob(BlobKind::Tree, &json)
    }

    /// Writes the pack without naming it in an index.
    pub(crate) fn pack_without_index(&mut self) -> (Id, Vec<PackedBlob>) {
        let blobs = std::mem::take(&mut self.blobs);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.extend(encode_header(self.open.key(), &blobs).unwrap());
        let id = Id::of(&bytes);
        self.open.backend().write(FileKind::Pack, &id.to_string(), &[&bytes]).unwrap();
        (id, blobs)
    }

    /// Writes the pack and an index of it.
    pub(crate) fn pack(&mut self) -> Id {
        let (id, blobs) = self.pack_without_index();
        self.index(id, &blobs);
        id
    }

    pub(crate) fn index(&self, pack: Id, blobs: &[PackedBlob]) {
        let blob = |blob: &PackedBlob| IndexBlob {
            id: blob.id,
            kind: blob.kind,
            offset: blob.offset,
            length: blob.length,
            uncompressed_length: blob.uncompressed,
        };
        let index = IndexFile { packs: vec![IndexPack { id: pack, blobs: blobs.iter().map(blob).collect() }], ..IndexFile::default() };
        self.open.write_unpacked(FileKind::Index, &to_json(&index).unwrap()).unwrap();
    }

    pub(crate) fn snapshot(&self, tree: Id) -> Id {
        let snapshot = SnapshotFile {
            time: Time::utc(jiff::Timestamp::UNIX_EPOCH),
            parent: None,
            tree,
            paths: vec!["/".into()],
            hostname: "host".into(),
            username: "user".into(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags: Vec::new(),
            original: None,
            program_version: String::new(),
            summary: None,
            more: serde_json::Map::new(),
        };
        self.open.write_unpacked(FileKind::Snapshot, &to_json(&snapshot).unwrap()).unwrap()
    }

    /// Where a pack is.
    pub(crate) fn path(&self, pack: &Id) -> PathBuf {
        let name = pack.to_string();
        self.folder.path().join("data").join(&name[..2]).join(&name)
    }

    /// The repository as somebody finds it who opens it now.
    pub(crate) fn indexed(&self) -> Indexed {
        self.open.clone().into_indexed().unwrap()
    }
}

pub(crate) fn node(name: impl AsRef<[u8]>, kind: Kind) -> Node {
    let mut metadata = Metadata::virtual_file(0);
    metadata.kind = kind;
    metadata.mode = 0o755;
    Node { name: name.as_ref().to_vec(), metadata, content: Vec::new(), subtree: None }
}

pub(crate) fn file(name: impl AsRef<[u8]>, content: &[Id], size: u64) -> Node {
    let mut node = node(name, Kind::File);
    node.content = content.to_vec();
    node.metadata.size = size;
    node
}

pub(crate) fn folder(name: impl AsRef<[u8]>, tree: Id) -> Node {
    let mut node = node(name, Kind::Directory);
    node.subtree = Some(tree);
    node
}

pub(crate) fn link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Node {
    node(name, Kind::Symlink { target: target.as_ref().to_vec() })
}
