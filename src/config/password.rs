//! Where a repository's password comes from, and getting it from there.
//!
//! Asking a person for it is `cli`'s.

use std::io;
use std::path::PathBuf;

use crate::platform::process::ProcessError;
use crate::platform::secret::{self, Secret};

/// Where a password comes from.
#[derive(Debug, Clone)]
pub enum PasswordSource {
    /// The content of a file.
    File(PathBuf),
    /// What a command writes.
    Command(String),
    /// The value of an environment variable.
    Environment(String),
    /// It is known already (typed by a person, or just generated).
    Known(Secret<String>),
}

/// Why a source gave no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("cannot read the password file {}", .path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The command gave none.
    #[error("the password command gave no password")]
    Command {
        /// Cause.
        #[source]
        source: ProcessError,
    },
    /// What the command wrote is not text.
    #[error("what the password command wrote is not UTF-8")]
    NotText,
    /// There is no such environment variable.
    #[error("the environment variable {name} with the password is not set")]
    Environment {
        /// Its name.
        name: String,
    },
    /// The password is empty. restic refuses that too, and so it is always a mistake.
    #[error("the password from {origin} is empty")]
    Empty {
        /// Where it came from.
        origin: String,
    },
}

impl PasswordError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Command { source } if source.is_transient())
    }
}

impl PasswordSource {
    /// Where, for people; never the password or the command that tells it.
    pub fn describe(&self) -> String {
        match self {
            Self::File(path) => format!("file {}", path.display()),
            Self::Command(_) => "command".to_owned(),
            Self::Environment(name) => format!("environment variable {name}"),
            Self::Known(_) => "prompt".to_owned(),
        }
    }

    /// Gets the password.
    ///
    /// # Errors
    /// The source has none, or an empty one.
    pub fn resolve(&self) -> Result<Secret<String>, PasswordError> {
        let password = match self {
            Self::File(path) => secret::from_file(path).map_err(|source| PasswordError::File { path: path.clone(), source })?,
            Self::Command(line) => {
                secret::from_command(line).map_err(|source| PasswordError::Command { source })?.ok_or(PasswordError::NotText)?
            }
            Self::Environment(name) => secret::from_environment(name).ok_or_else(|| PasswordError::Environment { name: name.clone() })?,
            Self::Known(password) => password.clone(),
        };
        if password.expose().is_empty() {
            return Err(PasswordError::Empty { origin: self.describe() });
        }
        Ok(password)
    }
}
