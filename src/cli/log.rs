//! The file of `--log-file`: what is said to people, with the time and the process, a line each.
//!
//! Lines are appended whole, so that several processes can share a file and another program can rotate it. What a command lists
//! for its reader (`ls`, `find`) is not in it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::text;
use super::text::safe;
use crate::jobs::error::JobError;
use crate::model::report::{Blame, Report};
use crate::platform::{clock, files, host};

/// An open log file.
pub(super) struct Log {
    path: PathBuf,
    started: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    /// The first failure; nothing is written after it.
    failure: Option<io::Error>,
}

impl Log {
    /// Opens it, and makes it (for its owner only: it names files) if it is not there.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn open(path: &Path) -> Result<Self, JobError> {
        let file = files::open_to_append(path, 0o600)
            .map_err(|source| JobError::Own { action: format!("write the log file {}", path.display()), source })?;
        Ok(Self { path: path.to_owned(), started: clock::monotonic(), inner: Mutex::new(Inner { file, failure: None }) })
    }

    /// Says that a command begins. Its arguments are not written: a password may be among them.
    pub(super) fn begin(&self, command: &str) {
        self.line("info", &format!("bbackup {} {command}: started", env!("CARGO_PKG_VERSION")));
    }

    /// Says how it ended. Returns why something is missing from the file, if it is.
    pub(super) fn end(&self, command: &str, code: u8) -> Option<Report> {
        let took = text::duration(self.started.elapsed());
        self.line("info", &format!("bbackup {command}: ended with exit code {code} after {took}"));
        let failure = self.inner.lock().unwrap_or_else(PoisonError::into_inner).failure.take()?;
        let message = format!("The log file {} could not be written to its end.", safe(&self.path.to_string_lossy()));
        Some(Report::new(Blame::Environment, "log_file", message).caused_by(&failure))
    }

    /// Writes a line. A failure is told at the end: it must not stop the work.
    pub(super) fn line(&self, level: &str, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        let time = clock::now().to_zoned(clock::local_zone()).strftime("%Y-%m-%dT%H:%M:%S%:z");
        let line = format!("{time} [{}] {level}: {}\n", host::pid(), safe(text.trim_end()));
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.failure.is_none() {
            inner.failure = inner.file.write_all(line.as_bytes()).err();
        }
    }
}
