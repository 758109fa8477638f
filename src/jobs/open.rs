//! Opens, makes and unlocks the repository that a configuration names.
//!
//! Which one that is, and where its password comes from, the faces decide; what is done in it is other jobs' business.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::error::JobError;
use crate::config::{CacheUse, RepositoryConfig};
use crate::platform::files::{self, Existing};
use crate::platform::secret::{self, Secret};
use crate::repository::backend::cache::{Cache, CacheOptions};
use crate::repository::backend::local::LocalBackend;
use crate::repository::backend::{Backend, FileKind};
use crate::repository::contract::{Repository, RepositoryError, RepositoryInfo, StaleLock, StayingLock};
use crate::repository::restic::archive::Options;
use crate::repository::restic::chunker::Polynomial;
use crate::repository::restic::facade::{Locking, ResticRepository};
use crate::repository::restic::lock;
use crate::repository::restic::state::{Closed, InitOptions, Open};

pub use crate::repository::backend::cache::Notice;

/// Whether there is a repository.
///
/// # Errors
/// It cannot be told.
pub fn is_there(config: &RepositoryConfig) -> Result<bool, RepositoryError> {
    let backend = LocalBackend::new(&config.location);
    match backend.read(FileKind::Config, "") {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(false),
        Err(source) => Err(RepositoryError::Storage { action: "read", file: format!("the config of {}", backend.location()), source }),
    }
}

/// Opens a repository. `retry_lock` is how long its operations wait for a lock of somebody else's; none for a dry run, which
/// takes no lock and writes nothing.
///
/// # Errors
/// There is none, or the password is wrong, or it is damaged.
pub fn open(
    config: &RepositoryConfig,
    password: &Secret<String>,
    retry_lock: Option<Duration>,
    notice: &Notice,
) -> Result<Arc<dyn Repository>, JobError> {
    Ok(restic(config, password, retry_lock, notice)?)
}

/// As [`open`], for work that only two repositories of restic's format can do together.
///
/// # Errors
/// The same.
pub(super) fn restic(
    config: &RepositoryConfig,
    password: &Secret<String>,
    retry_lock: Option<Duration>,
    notice: &Notice,
) -> Result<Arc<ResticRepository>, JobError> {
    let options = Options {
        compression: config.compression.unwrap_or_default(),
        pack_size: usize::try_from(config.pack_size.unwrap_or(crate::config::PACK_SIZE).0).unwrap_or(usize::MAX),
        verify: config.verify_before_write,
        scratch: config.scratch_folder.clone(),
        ..Options::default()
    };
    let locking = retry_lock.map_or(Locking::Never, Locking::Retry);
    let open = cached(closed(config).open(password)?, config, notice);
    Ok(Arc::new(ResticRepository::new(open, options, locking)))
}

/// The repository with a cache before it, if it is to have one.
fn cached(open: Open, config: &RepositoryConfig, notice: &Notice) -> Open {
    let wanted = match config.cache {
        CacheUse::Auto => !open.backend().is_local(),
        CacheUse::Always => true,
        CacheUse::Never => false,
    };
    let Some(folder) = config.cache_folder.clone().filter(|_| wanted) else { return open };
    let options = CacheOptions { folder, limit: config.cache_size.0, notice: Arc::clone(notice) };
    match Cache::new(Arc::clone(open.backend()), &open.config().id, options) {
        Some(cache) => open.by_way_of(Arc::new(cache)),
        None => open,
    }
}

/// Where a repository cuts files: those that share it share data.
#[derive(Debug, Clone, Copy)]
pub struct Chunker(Polynomial);

/// Where this repository cuts files.
///
/// # Errors
/// As for [`open`].
pub fn chunker(config: &RepositoryConfig, password: &Secret<String>) -> Result<Chunker, JobError> {
    let open = closed(config).open(password)?;
    Ok(Chunker(open.config().chunker_polynomial))
}

/// Finds out whether a new repository can be made, as far as that shows without writing anything.
///
/// # Errors
/// There is one already, or something of one.
pub fn plan_init(config: &RepositoryConfig) -> Result<(), JobError> {
    Ok(closed(config).plan_init()?)
}

/// Makes a new repository; without a chunker, with one of its own.
///
/// # Errors
/// There is one already, or it cannot be written.
pub fn init(config: &RepositoryConfig, password: &Secret<String>, chunker: Option<Chunker>) -> Result<RepositoryInfo, JobError> {
    let options = InitOptions { polynomial: chunker.map(|Chunker(polynomial)| polynomial), ..InitOptions::default() };
    let open = closed(config).init(password, options)?;
    Ok(info(&open))
}

/// Removes the locks that dead processes left, or all of them; in a dry run it only finds them. Returns which, and which stay.
///
/// # Errors
/// Not all could be looked at or removed.
pub fn unlock(
    config: &RepositoryConfig,
    password: &Secret<String>,
    remove_all: bool,
    dry_run: bool,
) -> Result<(Vec<StaleLock>, Vec<StayingLock>), JobError> {
    let open = closed(config).open(password)?;
    let removed = if dry_run { lock::plan_unlock(&open, remove_all)? } else { lock::unlock(&open, remove_all)? };
    let mut staying = lock::staying(&open)?;
    staying.retain(|lock| removed.iter().all(|gone| gone.id != lock.id));
    Ok((removed, staying))
}

/// Makes up a password and keeps it in a new file that only its owner can read.
///
/// # Errors
/// There is such a file already, or it cannot be written.
pub fn make_key(path: &Path) -> Result<Secret<String>, JobError> {
    let own = |source| JobError::Own { action: format!("write the new key {}", path.display()), source };
    let password = secret::generate().map_err(own)?;
    if let Some(folder) = path.parent() {
        files::create_directories(folder, 0o700).map_err(own)?;
    }
    files::write_atomic(path, format!("{}\n", password.expose()).as_bytes(), 0o600, Existing::Keep).map_err(own)?;
    Ok(password)
}

fn closed(config: &RepositoryConfig) -> Closed {
    Closed::new(Arc::new(LocalBackend::new(&config.location)))
}

fn info(open: &Open) -> RepositoryInfo {
    RepositoryInfo { id: open.config().id.clone(), location: open.location(), engine: "restic", version: open.version() }
}
