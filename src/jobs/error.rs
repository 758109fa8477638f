//! Why a job was not done at all. What went wrong with single items or paths is in its result instead.
//!
//! The sentences for people are made in `report`.

use std::io;
use std::path::PathBuf;

use super::select::SelectError;
use crate::config::load::ConfigError;
use crate::config::password::PasswordError;
use crate::docker::DockerError;
use crate::platform::directories::NoHome;
use crate::repository::contract::RepositoryError;
use crate::sources::SourceError;
use crate::sources::plan::PlanError;
use crate::targets::TargetError;

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The Docker Engine.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// What was to be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Where restored things go.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// What was chosen on the Engine.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The document of an application in a snapshot.
    #[error("the description of {application} in snapshot {snapshot} cannot be used")]
    Document {
        /// Name of the application.
        application: String,
        /// Short id of the snapshot.
        snapshot: String,
        /// Cause.
        #[source]
        source: crate::model::application::DocumentError,
    },
    /// bbackup's own files on this machine.
    #[error("cannot {action}")]
    Own {
        /// What was tried, with the path.
        action: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The job was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The password of the repository.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// No password was given, and nobody can be asked.
    #[error("the repository at {location} needs a password, and none was given")]
    NoPassword {
        /// Where.
        location: String,
    },
    /// The embedded default repository is there and its generated password is gone.
    #[error("the key {} of the repository at {location} is missing", .key.display())]
    KeyLost {
        /// Where the repository is.
        location: String,
        /// Where its key should be.
        key: PathBuf,
    },
    /// Which snapshots are meant.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// Where bbackup's own files belong.
    #[error(transparent)]
    Directories(#[from] NoHome),
    /// What was asked for does not make sense on this host; nothing was done.
    #[error("{message}")]
    Request {
        /// Stable name for programs: `unknown_set`.
        code: &'static str,
        /// One sentence.
        message: String,
        /// What to do, one sentence; empty when there is nothing.
        hint: String,
    },
    /// A defect of bbackup.
    #[error("internal error: {0}")]
    Internal(String),
}

impl JobError {
    /// Something that was asked for and does not make sense.
    pub fn request(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Request { code, message: message.into(), hint: hint.into() }
    }

    /// Whether the same job may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Repository(error) => error.is_transient(),
            Self::Docker(error) => error.is_transient(),
            Self::Config(error) => error.is_transient(),
            Self::Password(error) => error.is_transient(),
            Self::Source(error) => error.is_transient(),
            Self::Target(error) => error.is_transient(),
            _ => false,
        }
    }
}
