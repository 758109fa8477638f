//! Snapshots shown as folders, in plain types.

use std::path::PathBuf;

use super::Snapshot;

/// What is mounted where.
#[derive(Debug, Clone)]
pub struct MountRequest {
    /// A folder that is there.
    pub mountpoint: PathBuf,
    /// The snapshots that are shown, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Each was asked for by its name: one that is gone is an error. Else it was forgotten since they were listed, and is passed over.
    pub named: bool,
    /// Other users may look, too, as far as owners and modes let them.
    pub allow_other: bool,
}

/// How a mount ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountEnd {
    /// Somebody unmounted it.
    Unmounted,
    /// It was unmounted because the work was cancelled.
    Cancelled,
    /// The same while files of it were open: it is gone from its folder, and those files cannot be read any more.
    CancelledWhileBusy,
}
