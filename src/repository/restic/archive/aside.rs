//! Where the children of folders wait that do not fit into memory: a file without a name, which holds them compressed and
//! encrypted with the repository's key, as they say what files are called.
//!
//! Which folders go there, and when, is `held`'s business.

use std::fs::File;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::record;
use crate::model::compression::Compression;
use crate::platform::files::{self, Space};
use crate::repository::contract::RepositoryError;
use crate::repository::restic::codec::{BlobKind, Decoder, Encoder};
use crate::repository::restic::state::Indexed;
use crate::repository::restic::tree::Node;

/// Room for a folder that is kept for the next one.
const KEPT: usize = 1 << 20;
/// The least that stays free on the disk: others write there too, maybe the containers that are saved.
const LEAST_FREE: u64 = 64 << 20;
/// The most that has to stay free; between the two it is a twentieth of the disk.
const MOST_FREE: u64 = 1 << 30;

/// How much may be in memory, and where the rest goes.
#[derive(Debug, Clone)]
pub(super) struct Room {
    /// Without a folder everything stays in memory.
    pub(super) folder: Option<PathBuf>,
    /// Bytes that stay in memory.
    pub(super) limit: usize,
    /// Bytes that may stay there where nothing can be put aside.
    pub(super) most: usize,
    /// What is to be written is read back and compared.
    pub(super) verify: bool,
}

/// The file, for those who read it.
struct Store {
    file: File,
    folder: PathBuf,
    repository: Arc<Indexed>,
    reader: Mutex<Reader>,
}

struct Reader {
    decoder: Decoder,
    sealed: Vec<u8>,
    plain: Vec<u8>,
}

/// Where the children of one folder are.
pub(super) struct Aside {
    store: Arc<Store>,
    offset: u64,
    length: u32,
    uncompressed: Option<NonZeroU32>,
}

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aside").field("offset", &self.offset).field("length", &self.length).finish_non_exhaustive()
    }
}

/// The file, for the one who fills it.
pub(super) struct Writer {
    store: Arc<Store>,
    /// What is asked how much is free on the disk.
    space: fn(&File) -> Option<Space>,
    encoder: Encoder,
    end: u64,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

/// Why something could not be put aside.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing can be written there now: what there is stays in memory.
    NoRoom(io::Error),
    /// The run cannot go on.
    Fatal(RepositoryError),
}

impl Writer {
    /// A new file in this folder.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn new(folder: &Path, repository: Arc<Indexed>, verify: bool) -> io::Result<Self> {
        Ok(Self::over(files::nameless(folder)?, folder, repository, verify))
    }

    /// As `new`, over this file.
    pub(super) fn over(file: File, folder: &Path, repository: Arc<Indexed>, verify: bool) -> Self {
        let reader = Mutex::new(Reader { decoder: Decoder::new(), sealed: Vec::new(), plain: Vec::new() });
        let store = Arc::new(Store { file, folder: folder.to_owned(), repository, reader });
        // Whatever the repository's version is: nobody else reads this.
        let encoder = Encoder::new(Compression::Fastest, 2, verify);
        Self { store, space: files::space, encoder, end: 0, plain: Vec::new(), sealed: Vec::new() }
    }

    /// The same on a disk that says this of itself.
    #[cfg(test)]
    pub(super) fn on_a_disk_with(self, space: fn(&File) -> Option<Space>) -> Self {
        Self { space, ..self }
    }

    /// Puts the children of a folder aside.
    ///
    /// # Errors
    /// [`Failure`]; what was put aside before is still there.
    pub(super) fn put(&mut self, children: &[Option<Node>]) -> Result<Aside, Failure> {
        record::write(children, &mut self.plain);
        let key = self.store.repository.open().key();
        let encoded = self.encoder.encode(key, BlobKind::Tree, &self.plain, &mut self.sealed).map_err(Failure::Fatal);
        let written = encoded.and_then(|encoded| {
            let fits = if leaves_enough((self.space)(&self.store.file), self.sealed.len()) { Ok(()) } else { Err(too_little_room()) };
            fits.and_then(|()| self.store.file.write_all_at(&self.sealed, self.end)).map_err(Failure::NoRoom).map(|()| encoded)
        });
        for buffer in [&mut self.plain, &mut self.sealed] {
            buffer.clear();
            buffer.shrink_to(KEPT);
        }
        let encoded = written?;
        let aside = Aside { store: Arc::clone(&self.store), offset: self.end, length: encoded.length, uncompressed: encoded.uncompressed };
        self.end += u64::from(encoded.length);
        Ok(aside)
    }
}

/// Whether enough stays free on a disk that takes so much more.
fn leaves_enough(space: Option<Space>, more: usize) -> bool {
    space.is_none_or(|Space { free, size }| free >= (size / 20).clamp(LEAST_FREE, MOST_FREE).saturating_add(more as u64))
}

fn too_little_room() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "too little would stay free there")
}

impl Aside {
    /// The children as they were put aside.
    ///
    /// # Errors
    /// They cannot be read, or are not what was written.
    pub(super) fn read(&self) -> io::Result<Vec<Option<Node>>> {
        let mut reader = self.store.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let Reader { decoder, sealed, plain } = &mut *reader;
        let read = self.read_with(decoder, sealed, plain);
        for buffer in [sealed, plain] {
            buffer.clear();
            buffer.shrink_to(KEPT);
        }
        read.map_err(|error| {
            let folder = self.store.folder.display();
            io::Error::other(format!(
                "the list of its files was put aside in {folder} for lack of memory and cannot be read again: {error}"
            ))
        })
    }

    fn read_with(&self, decoder: &mut Decoder, sealed: &mut Vec<u8>, plain: &mut Vec<u8>) -> io::Result<Vec<Option<Node>>> {
        sealed.resize(self.length as usize, 0);
        self.store.file.read_exact_at(sealed, self.offset)?;
        let key = self.store.repository.open().key();
        decoder.decode(key, sealed, self.uncompressed, plain).map_err(io::Error::other)?;
        record::read(plain).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
