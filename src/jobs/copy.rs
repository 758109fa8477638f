//! Snapshots copied from one repository to another.
//!
//! How blobs go over is the engine's business.

use std::sync::Arc;
use std::time::Duration;

use super::error::JobError;
use super::open;
use crate::config::RepositoryConfig;
use crate::model::progress::Progress;
use crate::platform::control::Control;
use crate::platform::secret::Secret;
use crate::repository::contract::copy::{CopyRequest, CopySummary};
use crate::repository::contract::{Repository, RepositoryInfo};
use crate::repository::restic::facade::ResticRepository;

/// Two opened repositories.
pub struct Pair {
    source: Arc<ResticRepository>,
    target: Arc<ResticRepository>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("source", &self.source.info()).field("target", &self.target.info()).finish()
    }
}

impl Pair {
    /// Opens both. `retry_lock` is as for a single one.
    ///
    /// # Errors
    /// One of them cannot be opened, or they are one and the same.
    pub fn open(
        (source, source_password): (&RepositoryConfig, &Secret<String>),
        (target, target_password): (&RepositoryConfig, &Secret<String>),
        retry_lock: Option<Duration>,
        notice: &open::Notice,
    ) -> Result<Self, JobError> {
        let open = |config, password| open::restic(config, password, retry_lock, notice);
        let pair = Self { source: open(source, source_password)?, target: open(target, target_password)? };
        if pair.source.info().id == pair.target.info().id {
            let message = "both are the same repository, or one is a plain copy of the other";
            return Err(JobError::request("same_repository", message, "Name another one with --to; `bbackup init` makes it."));
        }
        Ok(pair)
    }

    /// What is copied from.
    pub fn source(&self) -> &dyn Repository {
        &*self.source
    }

    /// What is copied to.
    pub fn target(&self) -> RepositoryInfo {
        self.target.info()
    }

    /// Copies.
    ///
    /// # Errors
    /// Something cannot be read or written, or it was cancelled. What was copied is found by the next copy.
    pub fn copy(&self, request: &CopyRequest, control: &Control, progress: Arc<dyn Progress>) -> Result<CopySummary, JobError> {
        Ok(self.source.copy_to(&self.target, request, control, &*progress)?)
    }
}
