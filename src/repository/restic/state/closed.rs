//! A repository of which nothing is known yet: it is made, or opened with a password.

use std::io;
use std::sync::Arc;

use super::super::chunker::Polynomial;
use super::super::crypto::{self, MasterKey, OVERHEAD};
use super::super::file::{ConfigFile, damaged_json, to_json};
use super::super::id::Id;
use super::super::key;
use super::{Open, expected, folder, internal, storage};
use crate::platform::clock;
use crate::platform::secret::Secret;
use crate::repository::backend::{Backend, FileKind};
use crate::repository::contract::RepositoryError;

/// A place where a repository is, or will be.
#[derive(Clone)]
pub struct Closed {
    backend: Arc<dyn Backend>,
}

impl std::fmt::Debug for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Closed").field("location", &self.backend.location()).finish_non_exhaustive()
    }
}

/// What a new repository is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitOptions {
    /// Version of the format: 2, or 1 for programs that know no compression.
    pub version: u32,
    /// Where chunks end; random if none. Repositories that exchange snapshots should share it.
    pub polynomial: Option<Polynomial>,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self { version: 2, polynomial: None }
    }
}

impl Closed {
    /// Nothing is read yet.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    /// Makes a new repository.
    ///
    /// # Errors
    /// [`RepositoryError::Exists`] if there is one; [`RepositoryError::Damaged`] if there is one without its config. Then
    /// nothing was changed. [`RepositoryError::Storage`] if it could not be written; then the same call may be tried again.
    pub fn init(self, password: &Secret<String>, options: InitOptions) -> Result<Open, RepositoryError> {
        let location = self.backend.location();
        if !(1..=2).contains(&options.version) {
            return Err(RepositoryError::UnknownVersion { location, version: options.version });
        }
        self.plan_init()?;
        self.backend.create().map_err(|source| storage("create", location.clone(), source))?;
        for name in self.unused_keys()? {
            self.backend.remove(FileKind::Key, &name).map_err(|source| storage("remove", format!("key {name}"), source))?;
        }
        let polynomial = match options.polynomial {
            Some(polynomial) => polynomial,
            None => Polynomial::random().map_err(internal)?,
        };
        let mut id = [0; 32];
        crypto::random(&mut id).map_err(internal)?;
        let master = MasterKey::generate().map_err(internal)?;
        let config =
            ConfigFile { version: options.version, id: Id(id).to_string(), chunker_polynomial: polynomial, more: serde_json::Map::new() };
        let json = to_json(&config).map_err(|error| RepositoryError::Internal(error.to_string()))?;
        let mut sealed = Vec::with_capacity(json.len() + OVERHEAD);
        master.seal(&json, &mut sealed).map_err(internal)?;

        let (key_id, key_file) = key::create(&master, password, clock::now())?;
        let key_name = key_id.to_string();
        self.backend.write(FileKind::Key, &key_name, &[&key_file]).map_err(|source| storage("write", format!("key {key_id}"), source))?;
        // The config last: until it is there, there is no repository.
        if let Err(source) = self.backend.write(FileKind::Config, "", &[&sealed]) {
            // Without a config the key opens nothing; with somebody else's it would only be in the way.
            drop(self.backend.remove(FileKind::Key, &key_name));
            if source.kind() == io::ErrorKind::AlreadyExists {
                return Err(RepositoryError::Exists { location });
            }
            return Err(storage("write", "config".into(), source));
        }
        // Another one that began at the same time may have taken the key for one that an interrupted `init` left.
        if matches!(self.backend.read(FileKind::Key, &key_name), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            self.backend
                .write(FileKind::Key, &key_name, &[&key_file])
                .map_err(|source| storage("write", format!("key {key_id}"), source))?;
        }
        Ok(Open::new(self.backend, master, config, Some(key_id)))
    }

    /// Finds out whether a repository can be made here, without writing anything.
    ///
    /// # Errors
    /// [`RepositoryError::Exists`] if there is one; [`RepositoryError::Damaged`] if there is one without its config.
    pub fn plan_init(&self) -> Result<(), RepositoryError> {
        match self.read_config() {
            Ok(_) => return Err(RepositoryError::Exists { location: self.backend.location() }),
            Err(RepositoryError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
        match self.unused_keys() {
            // There is no such folder yet.
            Err(RepositoryError::Storage { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            keys => keys.map(drop),
        }
    }

    /// The keys that an interrupted `init` left: other programs would take them for the repository's own.
    fn unused_keys(&self) -> Result<Vec<String>, RepositoryError> {
        let list = |kind: FileKind| self.backend.list(kind).map_err(|source| storage("list", folder(kind), source));
        let keys = list(FileKind::Key)?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
            if !list(kind)?.is_empty() {
                return Err(RepositoryError::Damaged {
                    file: "config".into(),
                    offset: 0,
                    expected: "a file beside the keys and data".into(),
                });
            }
        }
        Ok(keys.into_iter().map(|(name, _)| name).collect())
    }

    /// Opens the repository with a password.
    ///
    /// # Errors
    /// [`RepositoryError::Missing`], [`RepositoryError::UnknownVersion`], [`RepositoryError::WrongPassword`],
    /// [`RepositoryError::Damaged`] and [`RepositoryError::Storage`].
    pub fn open(self, password: &Secret<String>) -> Result<Open, RepositoryError> {
        self.open_with(password, None)
    }

    /// As [`open`](Self::open); the key whose id begins with `hint` is tried first.
    ///
    /// # Errors
    /// The same.
    pub fn open_with(self, password: &Secret<String>, hint: Option<&str>) -> Result<Open, RepositoryError> {
        let sealed = self.read_config()?;
        let location = self.backend.location();
        if sealed.starts_with(BORG) {
            return Err(RepositoryError::ForeignFormat { location, format: "Borg" });
        }
        let (master, config, key_id) = key::search(&*self.backend, password, hint, |key_id, master| {
            let config = open_config(&master, &sealed, &location)?;
            Ok((master, config, *key_id))
        })?;
        Ok(Open::new(self.backend, master, config, Some(key_id)))
    }

    fn read_config(&self) -> Result<Vec<u8>, RepositoryError> {
        let source = match self.backend.read(FileKind::Config, "") {
            Ok(sealed) => return Ok(sealed),
            Err(source) => source,
        };
        if !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
            return Err(storage("read", "config".into(), source));
        }
        let has_snapshots = self.backend.list(FileKind::Snapshot).is_ok_and(|snapshots| !snapshots.is_empty());
        if has_snapshots {
            return Err(RepositoryError::Damaged { file: "config".into(), offset: 0, expected: "a file beside the snapshots".into() });
        }
        Err(RepositoryError::Missing { location: self.backend.location() })
    }
}

/// How the file `config` of a Borg repository begins.
const BORG: &[u8] = b"[repository]";

/// The one part of a config that every version has.
#[derive(serde::Deserialize)]
struct Version {
    version: u32,
}

pub(super) fn open_config(master: &MasterKey, sealed: &[u8], location: &str) -> Result<ConfigFile, RepositoryError> {
    let damaged = |expected: &str| RepositoryError::Damaged { file: "config".into(), offset: 0, expected: expected.into() };
    let mut sealed = sealed.to_vec();
    let plain = master.open(&mut sealed).map_err(|error| damaged(expected(error)))?;
    // The version first: what else a later one holds is not known.
    let no_json = |error: serde_json::Error| damaged_json("config".into(), plain, "a configuration in JSON", &error);
    let Version { version } = serde_json::from_slice(plain).map_err(no_json)?;
    if !(1..=2).contains(&version) {
        return Err(RepositoryError::UnknownVersion { location: location.into(), version });
    }
    let config: ConfigFile = serde_json::from_slice(plain).map_err(no_json)?;
    if !config.chunker_polynomial.is_usable() {
        return Err(damaged("an irreducible chunker polynomial"));
    }
    Ok(config)
}
