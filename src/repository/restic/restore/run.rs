//! What all parts of one restore share: request, target, counters, problems, and whether it goes on.
//!
//! No work is done here.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::model::progress::{Event, Progress};
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::repository::contract::{Problem, RepositoryError, RestoreRequest, RestoreSummary};
use crate::repository::restic::state::Indexed;

use super::attributes;
use super::target::Target;

/// Problems that are kept with their words; all are counted.
const KEPT_PROBLEMS: usize = 1000;

/// One restore.
pub(super) struct Run<'a> {
    pub(super) repo: &'a Indexed,
    pub(super) request: &'a RestoreRequest,
    pub(super) control: &'a Control,
    pub(super) progress: &'a dyn Progress,
    pub(super) target: Target,
    pub(super) counters: Counters,
    problems: Mutex<(Vec<Problem>, u64)>,
    /// Problems that cost data.
    lost: AtomicU64,
    /// Files with several names that were there and are reused, by device and inode.
    reused: Mutex<HashSet<(u64, u64)>>,
    /// Why the whole restore ends.
    fatal: Mutex<Option<RepositoryError>>,
    halted: AtomicBool,
}

/// Counters of the summary.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) entries: AtomicU64,
    pub(super) total_bytes: AtomicU64,
    pub(super) files_restored: AtomicU64,
    pub(super) files_unchanged: AtomicU64,
    pub(super) files_deleted: AtomicU64,
    pub(super) bytes_restored: AtomicU64,
}

/// The restore ends; [`Run`] knows why.
#[derive(Debug)]
pub(super) struct Halted;

impl<'a> Run<'a> {
    pub(super) fn new(
        repo: &'a Indexed,
        request: &'a RestoreRequest,
        control: &'a Control,
        progress: &'a dyn Progress,
        target: Target,
    ) -> Self {
        Self {
            repo,
            request,
            control,
            progress,
            target,
            counters: Counters::default(),
            problems: Mutex::default(),
            lost: AtomicU64::new(0),
            reused: Mutex::default(),
            fatal: Mutex::default(),
            halted: AtomicBool::new(false),
        }
    }

    /// Waits while paused; called between any two pieces of work.
    pub(super) fn go_on(&self) -> Result<(), Halted> {
        if self.halted.load(Ordering::Relaxed) {
            return Err(Halted);
        }
        self.control.checkpoint().map_err(|stop| self.halt(stop.into()))
    }

    /// Ends the restore. The first cause is kept.
    pub(super) fn halt(&self, error: RepositoryError) -> Halted {
        self.fatal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.halted.store(true, Ordering::Relaxed);
        Halted
    }

    /// The error of a restore that was halted.
    pub(super) fn why(&self, _: Halted) -> RepositoryError {
        self.fatal.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(RepositoryError::Cancelled)
    }

    /// Keeps a problem that cost an entry or its data; the restore goes on.
    pub(super) fn problem(&self, path: &[u8], message: String) {
        Self::count(&self.lost, 1);
        self.keep(path, message);
    }

    /// Keeps what somebody should know of an entry.
    pub(super) fn keep(&self, path: &[u8], message: String) {
        let path = if path.is_empty() { b"/" } else { path };
        self.progress.event(Event::Problem { path, message: &message });
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.1 += 1;
        if problems.0.len() < KEPT_PROBLEMS {
            problems.0.push(Problem { path: printable(path), message });
        }
    }

    /// Keeps what the system said about one entry. A full or read-only disk concerns all entries and ends the restore: it is
    /// reported once.
    pub(super) fn failed(&self, path: &[u8], action: &str, error: io::Error) {
        if concerns_all(&error) {
            self.halt(RepositoryError::Target { path: self.request.destination.display().to_string(), source: error });
        } else {
            self.problem(path, format!("cannot {action}: {error}"));
        }
    }

    /// What went wrong with the metadata of one entry.
    pub(super) fn failures(&self, path: &[u8], failures: Vec<(&'static str, io::Error)>) {
        for (action, error) in failures {
            // Many file systems have room for few extended attributes of a file; that says nothing about the disk.
            if action == attributes::SET_XATTR || !concerns_all(&error) {
                self.keep(path, format!("cannot {action}: {error}"));
            } else {
                self.failed(path, action, error);
            }
        }
    }

    /// Whether this file with several names may be reused. Only its first taker may: two files of the snapshot must not become one.
    pub(super) fn claim(&self, device: u64, inode: u64) -> bool {
        self.reused.lock().unwrap_or_else(PoisonError::into_inner).insert((device, inode))
    }

    /// Adds to a counter.
    pub(super) fn count(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// What was done, or why it was not.
    pub(super) fn into_summary(self) -> Result<RestoreSummary, RepositoryError> {
        if let Some(error) = self.fatal.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let (problems, problem_count) = self.problems.into_inner().unwrap_or_else(PoisonError::into_inner);
        let counters = self.counters;
        Ok(RestoreSummary {
            entries: counters.entries.into_inner(),
            files_restored: counters.files_restored.into_inner(),
            files_unchanged: counters.files_unchanged.into_inner(),
            files_deleted: counters.files_deleted.into_inner(),
            bytes_restored: counters.bytes_restored.into_inner(),
            total_bytes: counters.total_bytes.into_inner(),
            problems,
            problem_count,
            entries_lost: self.lost.into_inner(),
        })
    }
}

/// A full or read-only disk.
fn concerns_all(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

/// What is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    /// The folder was there.
    Old,
    /// It was made just now.
    New,
    /// A dry run would make it.
    Missing,
}

impl There {
    /// Whether nothing can be in it.
    pub(super) fn is_new(self) -> bool {
        self != Self::Old
    }

    /// The path if something is there.
    pub(super) fn path(self, path: &Path) -> Option<&Path> {
        (self != Self::Missing).then_some(path)
    }
}

/// Makes the destination and the folders above it.
pub(super) fn make_folder(path: &Path, mode: u32, dry_run: bool) -> io::Result<There> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(There::Old),
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) if dry_run => return Ok(There::Missing),
        Err(_) => {}
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        std::fs::create_dir_all(above)?;
    }
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(There::New),
        // Somebody was faster, or `a/..` names a folder that came into being on the way.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(There::Old),
        Err(error) => Err(error),
    }
}
