//! What is counted and collected while one source is archived.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::shared::Stats;
use crate::model::text::printable;
use crate::platform::control::ItemControl;
use crate::repository::contract::{AddSummary, Problem};

/// Problems kept word for word; more are only counted.
const PROBLEMS_KEPT: usize = 1000;

/// One call of `add`.
#[derive(Debug)]
pub(super) struct Item {
    /// Absolute path in the snapshot.
    pub(super) path: Vec<u8>,
    /// Pause, skip, cancel.
    pub(super) control: ItemControl,
    /// Files and chunks handed to workers and not yet done. The feeder adds, workers take away.
    pub(super) jobs: AtomicUsize,
    /// Set when the root's node is complete.
    pub(super) complete: AtomicBool,
    /// Entries stored.
    pub(super) entries: AtomicU64,
    /// Bytes of file data.
    pub(super) bytes: AtomicU64,
    /// New bytes before compression.
    pub(super) bytes_added: AtomicU64,
    /// Bytes of unchanged files.
    pub(super) bytes_unread: AtomicU64,
    /// Its files and folders.
    pub(super) stats: Stats,
    problems: Mutex<Collected>,
}

#[derive(Debug, Default)]
struct Collected {
    lost: Vec<Problem>,
    lost_count: u64,
    warnings: Vec<Problem>,
    warning_count: u64,
}

impl Item {
    pub(super) fn new(path: Vec<u8>, control: ItemControl) -> Self {
        Self {
            path,
            control,
            jobs: AtomicUsize::new(0),
            complete: AtomicBool::new(false),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            bytes_added: AtomicU64::new(0),
            bytes_unread: AtomicU64::new(0),
            stats: Stats::default(),
            problems: Mutex::default(),
        }
    }

    /// The path in the snapshot of an entry of this item.
    pub(super) fn full_path(&self, relative: &[u8]) -> Vec<u8> {
        if relative.is_empty() {
            return self.path.clone();
        }
        let mut path = self.path.clone();
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(relative);
        path
    }

    /// Records an entry that could not be read. One that is simply gone was deleted meanwhile, which is no loss.
    pub(super) fn unreadable(&self, full_path: &[u8], error: &io::Error) {
        if error.kind() == io::ErrorKind::NotFound {
            self.warn(full_path, "vanished before it was read");
        } else {
            self.lost(full_path, &error.to_string());
        }
    }

    /// Records an entry that is not in the snapshot.
    pub(super) fn lost(&self, full_path: &[u8], message: &str) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.lost_count += 1;
        if problems.lost.len() < PROBLEMS_KEPT {
            problems.lost.push(Problem { path: printable(full_path), message: message.to_owned() });
        }
    }

    /// Records something worth knowing about an entry that is in the snapshot.
    pub(super) fn warn(&self, full_path: &[u8], message: &str) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.warning_count += 1;
        if problems.warnings.len() < PROBLEMS_KEPT {
            problems.warnings.push(Problem { path: printable(full_path), message: message.to_owned() });
        }
    }

    /// What it all came to.
    pub(super) fn summary(&self) -> AddSummary {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        AddSummary {
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            bytes_added: self.bytes_added.load(Ordering::Relaxed),
            bytes_unread: self.bytes_unread.load(Ordering::Relaxed),
            problems: std::mem::take(&mut problems.lost),
            problem_count: problems.lost_count,
            warnings: std::mem::take(&mut problems.warnings),
            warning_count: problems.warning_count,
        }
    }
}
