//! Where the files of a repository are kept: the trait of a store, and the stores.
//!
//! A store knows names, bytes and folders; it knows nothing of what the bytes mean.

pub mod cache;
pub mod local;
#[cfg(test)]
pub(crate) mod testing;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

/// The kinds of files in a repository (restic's design document, section "Repository Layout").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// The one file `config`.
    Config,
    /// `keys/`
    Key,
    /// `locks/`
    Lock,
    /// `snapshots/`
    Snapshot,
    /// `index/`
    Index,
    /// `data/`, spread over 256 folders by the first two digits.
    Pack,
}

impl FileKind {
    /// The word for people and for error messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Key => "key",
            Self::Lock => "lock",
            Self::Snapshot => "snapshot",
            Self::Index => "index",
            Self::Pack => "pack",
        }
    }
}

/// A store for the files of one repository. Names are 64 hexadecimal digits (empty for the config file).
///
/// All calls may come from several threads at once.
pub trait Backend: Send + Sync {
    /// Where it is, for people, without secrets.
    fn location(&self) -> String;

    /// Makes the folders of a new repository.
    ///
    /// # Errors
    /// They cannot be made.
    fn create(&self) -> io::Result<()>;

    /// Names and sizes of all files of one kind, in no order. Left-over temporary files are not listed.
    ///
    /// # Errors
    /// The listing is not complete: nothing of it may be used.
    fn list(&self, kind: FileKind) -> io::Result<Vec<(String, u64)>>;

    /// Whether the folder is there in which files of a kind are; where there are no folders, it always is.
    ///
    /// # Errors
    /// It cannot be found out.
    fn has_folder(&self, _kind: FileKind) -> io::Result<bool> {
        Ok(true)
    }

    /// The whole file.
    ///
    /// # Errors
    /// `NotFound` if there is none, else the cause.
    fn read(&self, kind: FileKind, name: &str) -> io::Result<Vec<u8>>;

    /// Fills `buffer` from `offset` of the file.
    ///
    /// # Errors
    /// `NotFound` if there is none, `UnexpectedEof` if it is too short, else the cause.
    fn read_at(&self, kind: FileKind, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes a new file whole or not at all, durably: when this returns, a loss of power does not take it back. An existing
    /// file of the same name is replaced only by one with the same content (names are hashes); a config is never replaced.
    /// `parts` are written one after the other.
    ///
    /// # Errors
    /// The file is not there.
    fn write(&self, kind: FileKind, name: &str, parts: &[&[u8]]) -> io::Result<()>;

    /// Removes a file; that it is gone already is no error.
    ///
    /// # Errors
    /// It is still there.
    fn remove(&self, kind: FileKind, name: &str) -> io::Result<()>;

    /// Removes what writers that were ended have left of packs, indexes and snapshots, which no listing shows. Only for who holds
    /// the exclusive lock: nobody else may be writing. Gives the number of files.
    ///
    /// # Errors
    /// Something of it is still there.
    fn remove_leftovers(&self) -> io::Result<u64> {
        Ok(0)
    }

    /// When a file was last written, by the clock of the store; none where it does not say.
    ///
    /// # Errors
    /// `NotFound` if there is none, else the cause.
    fn modified(&self, _kind: FileKind, _name: &str) -> io::Result<Option<SystemTime>> {
        Ok(None)
    }

    /// How many requests may usefully be under way at once.
    fn connections(&self) -> usize;

    /// Whether it is read as fast as a disk of this machine, so that copies on one would gain nothing.
    fn is_local(&self) -> bool;

    /// As [`read_at`](Self::read_at) of a pack, for a folder in it: these are read again by the next run, so a cache keeps them.
    ///
    /// # Errors
    /// The same.
    fn read_folder_at(&self, pack: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_at(FileKind::Pack, pack, offset, buffer)
    }

    /// As [`write`](Self::write) of a pack that holds folders only.
    ///
    /// # Errors
    /// The same.
    fn write_folders(&self, pack: &str, parts: &[&[u8]]) -> io::Result<()> {
        self.write(FileKind::Pack, pack, parts)
    }

    /// The store without the cache before it, for who wants to know what is really there; none if there is no cache.
    fn beneath(&self) -> Option<Arc<dyn Backend>> {
        None
    }
}
