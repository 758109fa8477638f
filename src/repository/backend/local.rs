//! A repository in a folder of this machine, laid out as restic's local backend does (design document, section "Repository
//! Layout").
//!
//! What is in the files is the engine's business.

#![expect(clippy::disallowed_methods, reason = "the local store is one of the few places that write files")]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Backend, FileKind};
use crate::platform::mounts;

/// A store in a folder.
#[derive(Debug)]
pub struct LocalBackend {
    root: PathBuf,
}

impl LocalBackend {
    /// The folder need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of all files of a kind; of packs, the folder above theirs.
    fn folder(&self, kind: FileKind) -> PathBuf {
        match kind {
            FileKind::Config => self.root.clone(),
            FileKind::Key => self.root.join("keys"),
            FileKind::Lock => self.root.join("locks"),
            FileKind::Snapshot => self.root.join("snapshots"),
            FileKind::Index => self.root.join("index"),
            FileKind::Pack => self.root.join("data"),
        }
    }

    /// # Errors
    /// The name is none of the format: nothing outside of the repository is ever touched.
    fn path(&self, kind: FileKind, name: &str) -> io::Result<PathBuf> {
        match kind {
            FileKind::Config => Ok(self.root.join("config")),
            _ if !is_name(name.as_bytes()) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a repository file")),
            FileKind::Pack => Ok(self.root.join("data").join(&name[..2]).join(name)),
            _ => Ok(self.folder(kind).join(name)),
        }
    }

    /// Permissions of new folders: the group may read if it may read the config.
    fn folder_mode(&self) -> u32 {
        if self.is_shared() { 0o770 } else { 0o700 }
    }

    fn file_mode(&self) -> u32 {
        if self.is_shared() { 0o440 } else { 0o400 }
    }

    fn is_shared(&self) -> bool {
        fs::metadata(self.root.join("config")).is_ok_and(|metadata| metadata.permissions().mode() & 0o040 != 0)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(self.folder_mode()).create(path)
    }

    /// As `make_folder`, durably: what is put into it must not be lost with its name.
    fn make_folder_durably(&self, path: &Path) -> io::Result<()> {
        self.make_folder(path)?;
        path.parent().map_or(Ok(()), sync_folder)
    }

    /// Writes the parts to a new file beside `path`, durably. Gives its name.
    fn write_temporary(&self, path: &Path, parts: &[&[u8]]) -> io::Result<Temporary> {
        // Not our number: in containers that share the folder, every process may have the same one.
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut name = path.as_os_str().to_owned();
        name.push(format!("-tmp-{:016x}", u64::from_ne_bytes(random)));
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name);
        let mut file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(folder) = path.parent() {
                    self.make_folder_durably(folder)?;
                }
                open()
            }
            result => result,
        }?;
        let temporary = Temporary { path: name.into(), kept: false };
        for part in parts {
            file.write_all(part)?;
        }
        // Some network file systems know no permissions; the data counts more.
        if let Err(error) = file.set_permissions(fs::Permissions::from_mode(self.file_mode()))
            && error.kind() != io::ErrorKind::PermissionDenied
            && error.kind() != io::ErrorKind::Unsupported
        {
            return Err(error);
        }
        sync(&file)?;
        Ok(temporary)
    }
}

/// A file that is removed unless it was renamed.
struct Temporary {
    path: PathBuf,
    kept: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// File systems that cannot do it are not the user's fault.
fn sync(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::Unsupported || error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    sync(&File::open(path)?)
}

/// Whether this is 64 lower case hexadecimal digits.
fn is_name(name: &[u8]) -> bool {
    name.len() == 64 && name.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether this is the name of a file that was being written, by us or by restic.
fn is_leftover(name: &[u8]) -> bool {
    name.split_at_checked(64).is_some_and(|(name, rest)| is_name(name) && rest.starts_with(b"-tmp-"))
}

/// Adds the repository files in `folder` to `found`. `prefix` is how their names must begin.
fn list_folder(folder: &Path, prefix: &[u8], found: &mut Vec<(String, u64)>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_name(name.as_bytes()) && name.as_bytes().starts_with(prefix)) else { continue };
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => found.push((name.to_owned(), metadata.len())),
            // Some people keep packs elsewhere behind symbolic links.
            Ok(metadata) if metadata.is_symlink() => found.push((name.to_owned(), fs::metadata(entry.path())?.len())),
            Ok(_) => {}
            // Removed since: a lock that was given back.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Backend for LocalBackend {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn create(&self) -> io::Result<()> {
        let kinds = [FileKind::Key, FileKind::Lock, FileKind::Snapshot, FileKind::Index, FileKind::Pack];
        // Before anything is made, so that nothing is left half made.
        for path in kinds.iter().map(|&kind| self.folder(kind)).chain([self.root.clone()]) {
            if fs::metadata(&path).is_ok_and(|found| !found.is_dir()) {
                let message = format!("{} is there and is no folder", path.display());
                return Err(io::Error::new(io::ErrorKind::NotADirectory, message));
            }
        }
        for kind in kinds {
            self.make_folder(&self.folder(kind))?;
        }
        let data = self.folder(FileKind::Pack);
        for first in 0..=u8::MAX {
            self.make_folder(&data.join(format!("{first:02x}")))?;
        }
        sync_folder(&data)?;
        sync_folder(&self.root)?;
        match self.root.parent() {
            Some(above) if !above.as_os_str().is_empty() => sync_folder(above),
            _ => Ok(()),
        }
    }

    fn list(&self, kind: FileKind) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        match kind {
            FileKind::Config => match fs::metadata(self.root.join("config")) {
                Ok(metadata) => found.push((String::new(), metadata.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            },
            FileKind::Pack => {
                for first in 0..=u8::MAX {
                    let first = format!("{first:02x}");
                    list_folder(&self.folder(kind).join(&first), first.as_bytes(), &mut found)?;
                }
            }
            _ => list_folder(&self.folder(kind), b"", &mut found)?,
        }
        Ok(found)
    }

    fn has_folder(&self, kind: FileKind) -> io::Result<bool> {
        match fs::metadata(self.folder(kind)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            result => result.map(|_| true),
        }
    }

    fn read(&self, kind: FileKind, name: &str) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.path(kind, name)?)?;
        let mut data = Vec::new();
        let length = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        data.try_reserve_exact(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        file.read_to_end(&mut data)?;
        Ok(data)
    }

    fn read_at(&self, kind: FileKind, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        File::open(self.path(kind, name)?)?.read_exact_at(buffer, offset)
    }

    fn write(&self, kind: FileKind, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let path = self.path(kind, name)?;
        let mut temporary = self.write_temporary(&path, parts)?;
        if kind == FileKind::Config {
            // A link never replaces; the temporary name goes when we are done.
            match fs::hard_link(&temporary.path, &path) {
                // A file system without links.
                Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {
                    if path.symlink_metadata().is_ok() {
                        return Err(io::ErrorKind::AlreadyExists.into());
                    }
                    fs::rename(&temporary.path, &path)?;
                    temporary.kept = true;
                }
                result => result?,
            }
        } else {
            fs::rename(&temporary.path, &path)?;
            temporary.kept = true;
        }
        drop(temporary);
        path.parent().map_or(Ok(()), sync_folder)
    }

    fn remove(&self, kind: FileKind, name: &str) -> io::Result<()> {
        let path = self.path(kind, name)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            // A loss of power must not bring back what names others after these are gone: snapshots, then indexes, then packs. Nor
            // may it bring back a key whose password somebody knows who must not.
            Ok(()) if matches!(kind, FileKind::Snapshot | FileKind::Index | FileKind::Key) => path.parent().map_or(Ok(()), sync_folder),
            Ok(()) => Ok(()),
        }
    }

    fn remove_leftovers(&self) -> io::Result<u64> {
        let data = self.folder(FileKind::Pack);
        let packs = (0..=u8::MAX).map(|first| data.join(format!("{first:02x}")));
        let mut removed = 0;
        for folder in packs.chain([self.folder(FileKind::Index), self.folder(FileKind::Snapshot)]) {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result?,
            };
            for entry in entries {
                let entry = entry?;
                if is_leftover(entry.file_name().as_encoded_bytes()) && entry.file_type()?.is_file() {
                    fs::remove_file(entry.path())?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn modified(&self, kind: FileKind, name: &str) -> io::Result<Option<SystemTime>> {
        fs::symlink_metadata(self.path(kind, name)?)?.modified().map(Some)
    }

    fn connections(&self) -> usize {
        2
    }

    fn is_local(&self) -> bool {
        !mounts::is_remote(&self.root)
    }
}

#[cfg(test)]
mod tests;
