//! A repository on its way from closed to open to indexed, each a type of its own that can do more than the one before
//! (design document, sections "Repository Format" and "Unpacked Data Format").
//!
//! What is done with an opened repository is the business of the verbs (`archive`, `restore`, `check`).

mod closed;
mod folders;

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use jiff::Timestamp;

use super::codec::{BlobKind, Decoder};
use super::crypto::{CryptoError, MasterKey, OVERHEAD};
use super::file::{ConfigFile, IndexFile, SnapshotFile, damaged_json};
use super::id::Id;
use super::index::lost::Compared;
use super::index::{Index, IndexBuilder, Location};
use crate::platform::control::Control;
use crate::repository::backend::{Backend, FileKind};
use crate::repository::contract::RepositoryError;

pub use closed::{Closed, InitOptions};

fn expected(error: CryptoError) -> &'static str {
    match error {
        CryptoError::TooShort => "at least 32 bytes",
        _ => "data that this repository's key authenticates",
    }
}

fn internal(error: CryptoError) -> RepositoryError {
    RepositoryError::Internal(error.to_string())
}

fn storage(action: &'static str, file: String, source: io::Error) -> RepositoryError {
    RepositoryError::Storage { action, file, source }
}

fn folder(kind: FileKind) -> String {
    format!("{} files", kind.word())
}

/// Kind and id of a file, for people.
fn file_name(kind: FileKind, id: &Id) -> String {
    format!("{} {id}", kind.word())
}

fn parse_snapshot(id: &Id, json: &[u8]) -> Result<SnapshotFile, RepositoryError> {
    serde_json::from_slice(json).map_err(|error| damaged_json(file_name(FileKind::Snapshot, id), json, "a snapshot in JSON", &error))
}

/// A file's content, or what is wrong with it.
pub type Read<T> = Result<T, RepositoryError>;

/// An opened repository. Clones are handles on the same one.
#[derive(Clone)]
pub struct Open(Arc<Core>);

struct Core {
    backend: Arc<dyn Backend>,
    key: MasterKey,
    config: ConfigFile,
    /// The key file that the password opened; none in tests without one.
    key_id: Option<Id>,
    /// Decoders that are at rest, for those who read one blob now and then.
    decoders: Mutex<Vec<Decoder>>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("location", &self.location()).finish_non_exhaustive()
    }
}

impl Open {
    fn new(backend: Arc<dyn Backend>, key: MasterKey, config: ConfigFile, key_id: Option<Id>) -> Self {
        Self(Arc::new(Core { backend, key, config, key_id, decoders: Mutex::default() }))
    }

    /// Where its files are.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.0.backend
    }

    /// The same repository, reached by another way.
    #[must_use]
    pub fn by_way_of(&self, backend: Arc<dyn Backend>) -> Self {
        Self::new(backend, self.key().clone(), self.config().clone(), self.key_id())
    }

    /// The same repository without a cache: what is read is really there.
    #[must_use]
    pub fn uncached(&self) -> Self {
        self.backend().beneath().map_or_else(|| self.clone(), |backend| self.by_way_of(backend))
    }

    /// Where it is, for people.
    pub fn location(&self) -> String {
        self.0.backend.location()
    }

    /// The keys that everything is encrypted with.
    pub fn key(&self) -> &MasterKey {
        &self.0.key
    }

    /// The key file that the password opened.
    pub fn key_id(&self) -> Option<Id> {
        self.0.key_id
    }

    /// Its configuration.
    pub fn config(&self) -> &ConfigFile {
        &self.0.config
    }

    /// Version of its format.
    pub fn version(&self) -> u32 {
        self.0.config.version
    }

    /// Reads a file that is no pack, key or config: verifies that its name is its hash, decrypts and decompresses it.
    ///
    /// # Errors
    /// [`RepositoryError::Storage`] and [`RepositoryError::Damaged`].
    pub fn read_unpacked(&self, kind: FileKind, id: &Id) -> Result<Vec<u8>, RepositoryError> {
        let file = || file_name(kind, id);
        let damaged = |expected: &str| RepositoryError::Damaged { file: file(), offset: 0, expected: expected.into() };
        let mut sealed = self.0.backend.read(kind, &id.to_string()).map_err(|source| storage("read", file(), source))?;
        if Id::of(&sealed) != *id {
            return Err(damaged("content whose SHA-256 is its name"));
        }
        let plain = self.0.key.open(&mut sealed).map_err(|error| damaged(expected(error)))?;
        match plain.split_first() {
            _ if self.version() < 2 => Ok(plain.to_vec()),
            // Written before an upgrade from version 1.
            Some((b'{' | b'[', _)) => Ok(plain.to_vec()),
            Some((2, compressed)) => {
                self.with_decoder(|decoder| decoder.decompress_document(compressed)).map_err(|error| error.in_file(file(), 0))
            }
            _ => Err(damaged("a document in JSON, or one compressed by zstd")),
        }
    }

    /// Compresses, encrypts and writes a document; gives its id.
    ///
    /// # Errors
    /// [`RepositoryError::Storage`], and [`RepositoryError::Corrupted`] if it came out wrong.
    pub fn write_unpacked(&self, kind: FileKind, json: &[u8]) -> Result<Id, RepositoryError> {
        let corrupted = || RepositoryError::Corrupted { what: format!("{} file", kind.word()) };
        let mut plain = Vec::new();
        if self.version() < 2 {
            plain.extend_from_slice(json);
        } else {
            plain.push(2);
            let compressed = zstd::bulk::compress(json, 3).map_err(|error| RepositoryError::Internal(error.to_string()))?;
            plain.extend_from_slice(&compressed);
        }
        let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD);
        self.0.key.seal(&plain, &mut sealed).map_err(internal)?;
        // Read back before anybody relies on it: these files are small, and a wrong one loses much.
        let mut again = sealed.clone();
        let read = self.0.key.open(&mut again).map_err(|_| corrupted())?;
        let same = match read.split_first() {
            Some((2, compressed)) if self.version() >= 2 => {
                self.with_decoder(|decoder| decoder.decompress_document(compressed)).is_ok_and(|document| document == json)
            }
            _ => read == json,
        };
        if !same {
            return Err(corrupted());
        }
        let id = Id::of(&sealed);
        self.0.backend.write(kind, &id.to_string(), &[&sealed]).map_err(|source| storage("write", file_name(kind, &id), source))?;
        Ok(id)
    }

    /// Removes a file. It is no error if it is gone already.
    ///
    /// # Errors
    /// [`RepositoryError::Storage`].
    pub fn remove(&self, kind: FileKind, id: &Id) -> Result<(), RepositoryError> {
        self.0.backend.remove(kind, &id.to_string()).map_err(|source| storage("remove", file_name(kind, id), source))
    }

    /// The ids of all files of a kind, sorted.
    ///
    /// # Errors
    /// [`RepositoryError::Storage`].
    pub fn list_ids(&self, kind: FileKind) -> Result<Vec<Id>, RepositoryError> {
        let mut ids: Vec<Id> = self.list_sizes(kind)?.into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The ids and sizes of all files of a kind, in no order.
    ///
    /// # Errors
    /// [`RepositoryError::Storage`].
    pub fn list_sizes(&self, kind: FileKind) -> Result<Vec<(Id, u64)>, RepositoryError> {
        let names = self.0.backend.list(kind).map_err(|source| storage("list", folder(kind), source))?;
        Ok(names.into_iter().filter_map(|(name, size)| Some((name.parse().ok()?, size))).collect())
    }

    /// When a file was last written, by the clock of the store; none where that is not known, or the file is gone.
    ///
    /// # Errors
    /// [`RepositoryError::Storage`].
    pub fn modified(&self, kind: FileKind, id: &Id) -> Result<Option<Timestamp>, RepositoryError> {
        match self.0.backend.modified(kind, &id.to_string()) {
            Ok(time) => Ok(time.and_then(|time| Timestamp::try_from(time).ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(storage("look at", format!("{} {id}", kind.word()), source)),
        }
    }

    /// All snapshots, in the order of their ids. One that was removed meanwhile is left out.
    ///
    /// # Errors
    /// The first file that cannot be read, by its name.
    pub fn snapshots(&self) -> Result<Vec<(Id, SnapshotFile)>, RepositoryError> {
        let files = self.snapshot_files()?;
        files.into_iter().map(|(id, snapshot)| Ok((id, snapshot?))).collect()
    }

    /// As [`snapshots`](Self::snapshots), with what is wrong beside each.
    ///
    /// # Errors
    /// They cannot be listed; [`RepositoryError::FolderMissing`].
    pub fn snapshot_files(&self) -> Result<Vec<(Id, Read<SnapshotFile>)>, RepositoryError> {
        self.require_folder(FileKind::Snapshot)?;
        let ids = self.list_ids(FileKind::Snapshot)?;
        let mut files = self.read_all(FileKind::Snapshot, &ids, |id, json| parse_snapshot(id, &json));
        if files.iter().any(|(_, result)| matches!(result, Err(error) if is_gone(error))) {
            // One that is still in the list was not removed: it cannot be read, and counts.
            let there = self.list_ids(FileKind::Snapshot)?;
            files.retain(|(id, result)| !matches!(result, Err(error) if is_gone(error)) || there.binary_search(id).is_ok());
        }
        Ok(files)
    }

    /// Reads one snapshot.
    ///
    /// # Errors
    /// [`RepositoryError::NoSnapshot`], [`RepositoryError::Storage`] and [`RepositoryError::Damaged`].
    pub fn snapshot(&self, id: &Id) -> Result<SnapshotFile, RepositoryError> {
        let json = match self.read_unpacked(FileKind::Snapshot, id) {
            Err(error) if is_gone(&error) => return Err(RepositoryError::NoSnapshot { wanted: id.to_string() }),
            result => result?,
        };
        parse_snapshot(id, &json)
    }

    /// Reads the given files on all cores, turns them into what `read` makes of them, and keeps the order.
    pub(super) fn read_all<T: Send>(
        &self,
        kind: FileKind,
        ids: &[Id],
        read: impl Fn(&Id, Vec<u8>) -> Result<T, RepositoryError> + Sync,
    ) -> Vec<(Id, Read<T>)> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::with_capacity(ids.len()));
        let work = || {
            while let Some((number, id)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, ids.get(n)?))) {
                let result = self.read_unpacked(kind, id).and_then(|plain| read(id, plain));
                if matches!(result, Err(RepositoryError::Cancelled)) {
                    next.store(ids.len(), Ordering::Relaxed);
                }
                results.lock().unwrap_or_else(PoisonError::into_inner).push((number, *id, result));
            }
        };
        let workers = thread::available_parallelism().map_or(1, usize::from).max(self.0.backend.connections()).min(ids.len());
        if workers <= 1 {
            work();
        } else {
            thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
        }
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_unstable_by_key(|(number, ..)| *number);
        results.into_iter().map(|(_, id, result)| (id, result)).collect()
    }

    fn with_decoder<T>(&self, work: impl FnOnce(&mut Decoder) -> T) -> T {
        let decoders = || self.0.decoders.lock().unwrap_or_else(PoisonError::into_inner);
        let resting = decoders().pop();
        let mut decoder = resting.unwrap_or_default();
        let result = work(&mut decoder);
        decoders().push(decoder);
        result
    }

    /// Loads the index.
    ///
    /// # Errors
    /// The first index file that cannot be read, by its name.
    pub fn into_indexed(self) -> Result<Indexed, RepositoryError> {
        self.into_indexed_under(&Control::new())
    }

    /// The same, unless it is cancelled.
    ///
    /// # Errors
    /// The same; [`RepositoryError::Cancelled`].
    pub fn into_indexed_under(self, control: &Control) -> Result<Indexed, RepositoryError> {
        let (indexed, mut errors) = self.into_indexed_in_part(control)?;
        if errors.is_empty() { Ok(indexed) } else { Err(errors.swap_remove(0)) }
    }

    /// Loads what can be loaded of the index, and says what could not: blobs of which only that knows are missing.
    ///
    /// # Errors
    /// The index files cannot be listed; [`RepositoryError::FolderMissing`]; [`RepositoryError::Cancelled`].
    pub fn into_indexed_in_part(self, control: &Control) -> Result<(Indexed, Vec<RepositoryError>), RepositoryError> {
        self.require_folder(FileKind::Index)?;
        self.require_folder(FileKind::Pack)?;
        // Who removes index files has written others before; three rounds are more than any such program needs.
        for _ in 0..3 {
            let (index, superseded, errors) = self.load_index(control)?;
            if !errors.iter().any(is_gone) {
                return Ok((Indexed { open: self, index, superseded }, errors));
            }
        }
        let (index, superseded, errors) = self.load_index(control)?;
        Ok((Indexed { open: self, index, superseded }, errors))
    }

    /// The index, the files that it leaves out because others stand for them, and what could not be read.
    fn load_index(&self, control: &Control) -> Result<(Index, Vec<Id>, Vec<RepositoryError>), RepositoryError> {
        let all = self.list_ids(FileKind::Index)?;
        let mut ids = all.clone();
        loop {
            let builder = IndexBuilder::new();
            let results = self.read_all(FileKind::Index, &ids, |id, json| {
                control.checkpoint()?;
                let damaged = |expected: &str| RepositoryError::Damaged {
                    file: file_name(FileKind::Index, id),
                    offset: 0,
                    expected: expected.into(),
                };
                let file = IndexFile::parse(&json)
                    .map_err(|error| damaged_json(file_name(FileKind::Index, id), &json, "an index in JSON", &error))?;
                if let Some(misfit) = file.misfit() {
                    return Err(misfit.damaged(file_name(FileKind::Index, id), &json));
                }
                drop(json);
                builder.add(&file).map_err(damaged)?;
                Ok(file.supersedes)
            });
            control.checkpoint()?;
            let mut errors = Vec::new();
            let mut superseded = Vec::new();
            for (id, result) in results {
                match result {
                    Ok(ids) => superseded.extend(ids.into_iter().filter(|old| *old != id)),
                    Err(error) => errors.push(error),
                }
            }
            // What was replaced may name packs that are gone. It is seldom still there, so the second round is cheap.
            superseded.sort_unstable();
            let count = ids.len();
            ids.retain(|id| superseded.binary_search(id).is_err());
            if ids.len() == count {
                let left_out = all.into_iter().filter(|id| ids.binary_search(id).is_err()).collect();
                return Ok((builder.finish(), left_out, errors));
            }
        }
    }
}

/// Whether a file was listed, but is not there any more.
pub(super) fn is_gone(error: &RepositoryError) -> bool {
    matches!(error, RepositoryError::Storage { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// An opened repository that knows where its blobs are.
#[derive(Debug)]
pub struct Indexed {
    open: Open,
    index: Index,
    superseded: Vec<Id>,
}

impl Deref for Indexed {
    type Target = Open;

    fn deref(&self) -> &Open {
        &self.open
    }
}

impl Indexed {
    /// The repository.
    pub fn open(&self) -> &Open {
        &self.open
    }

    /// Where blobs are.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The same for one more backup, which counts on nothing that another has not brought to its end.
    #[must_use]
    pub fn for_writer(&self) -> Self {
        Self { open: self.open.clone(), index: self.index.for_writer(), superseded: self.superseded.clone() }
    }

    /// The same without a cache: what is read is really there.
    #[must_use]
    pub fn uncached(&self) -> Self {
        Self { open: self.open.uncached(), ..self.for_writer() }
    }

    /// Looks which packs are there, once: what is in others counts as not there from then on. What was written before the index was
    /// loaded is listed now.
    ///
    /// # Errors
    /// [`RepositoryError::Storage`].
    pub fn look_for_packs(&self) -> Result<&Compared, RepositoryError> {
        match self.index.compared() {
            Some(compared) => Ok(compared),
            None => Ok(self.index.compare_with(&self.list_sizes(FileKind::Pack)?.into_iter().collect())),
        }
    }

    /// Index files that are still there although others stand for them. What they say is not in the index.
    pub fn superseded(&self) -> &[Id] {
        &self.superseded
    }

    /// Puts a blob into `out` (what was there is gone), verified by its hash. If it is damaged in one pack and another
    /// has it too, that one is read.
    ///
    /// # Errors
    /// [`RepositoryError::BlobMissing`], [`RepositoryError::Storage`] and [`RepositoryError::Damaged`].
    pub fn read_blob(&self, kind: BlobKind, id: &Id, out: &mut Vec<u8>) -> Result<(), RepositoryError> {
        self.read_from(&**self.backend(), kind, id, out)
    }

    /// The same without a cache: what is read is really there.
    ///
    /// # Errors
    /// As for [`read_blob`](Self::read_blob).
    pub fn read_stored(&self, kind: BlobKind, id: &Id, out: &mut Vec<u8>) -> Result<(), RepositoryError> {
        let beneath = self.backend().beneath();
        self.read_from(beneath.as_deref().unwrap_or(&**self.backend()), kind, id, out)
    }

    fn read_from(&self, backend: &dyn Backend, kind: BlobKind, id: &Id, out: &mut Vec<u8>) -> Result<(), RepositoryError> {
        let Some(location) = self.index.lookup(kind, id) else {
            return Err(match self.index.lost_pack(kind, id) {
                Some(pack) => RepositoryError::PackMissing { pack: pack.to_string() },
                None => RepositoryError::BlobMissing { kind: kind.word(), id: id.to_string() },
            });
        };
        let first = self.read_place(backend, (kind, id), &location, out);
        if first.is_ok() {
            return Ok(());
        }
        let others = self.index.lookup_all(kind, id).into_iter().filter(|other| *other != location);
        if others.into_iter().any(|other| self.read_place(backend, (kind, id), &other, out).is_ok()) { Ok(()) } else { first }
    }

    /// Where a data blob is, with its true length: where indexes do not agree on that, they are not believed.
    pub fn data_place(&self, id: &Id) -> Option<Location> {
        if self.index.is_disputed(BlobKind::Data, id) { self.whole_place(id) } else { self.index.lookup(BlobKind::Data, id) }
    }

    /// A place where a data blob can be read whole.
    pub fn whole_place(&self, id: &Id) -> Option<Location> {
        let mut out = Vec::new();
        let mut is_whole = |place: &Location| self.read_place(&**self.backend(), (BlobKind::Data, id), place, &mut out).is_ok();
        self.index.lookup_all(BlobKind::Data, id).into_iter().find(|place| is_whole(place))
    }

    /// Whether what could not be read is lost, rather than the storage out of reach.
    pub fn is_lost(&self, error: &RepositoryError) -> bool {
        match error {
            RepositoryError::Damaged { .. } | RepositoryError::PackMissing { .. } | RepositoryError::BlobMissing { .. } => true,
            // A disk that cannot read what it holds.
            RepositoryError::Storage { .. } => self.backend().is_local(),
            _ => false,
        }
    }

    fn read_place(
        &self,
        backend: &dyn Backend,
        (kind, id): (BlobKind, &Id),
        location: &Location,
        out: &mut Vec<u8>,
    ) -> Result<(), RepositoryError> {
        let file = || file_name(FileKind::Pack, &location.pack);
        let offset = u64::from(location.offset);
        let mut sealed = vec![0; location.length as usize];
        let pack = location.pack.to_string();
        let read = match kind {
            BlobKind::Data => backend.read_at(FileKind::Pack, &pack, offset, &mut sealed),
            BlobKind::Tree => backend.read_folder_at(&pack, offset, &mut sealed),
        };
        match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(RepositoryError::Damaged { file: file(), offset, expected: format!("a blob of {} bytes", location.length) });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RepositoryError::PackMissing { pack: location.pack.to_string() });
            }
            result => result.map_err(|source| storage("read", file(), source))?,
        }
        self.with_decoder(|decoder| decoder.decode(self.key(), &mut sealed, location.uncompressed, out))
            .map_err(|error| error.in_file(file(), offset))?;
        if Id::of(out) != *id {
            return Err(RepositoryError::Damaged { file: file(), offset, expected: format!("the blob {id}") });
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
