//! What changing the list of snapshots gave: snapshots forgotten, tags changed, keys.

use serde::Serialize;

use super::{Problem, SnapshotId};

/// What became of snapshots that were to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Forgotten {
    /// Those that are gone.
    pub removed: Vec<SnapshotId>,
    /// Those that are still there although they should not be, with the cause.
    pub problems: Vec<Problem>,
    /// Whether it was cancelled before all had their turn.
    pub cancelled: bool,
}

/// A snapshot whose tags were changed, which gives it another id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retagged {
    /// The id that it had.
    #[serde(rename = "old_snapshot_id")]
    pub old: SnapshotId,
    /// The id that it has now.
    #[serde(rename = "new_snapshot_id")]
    pub new: SnapshotId,
}

/// What became of the keys, or in a dry run would.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct KeyChange {
    /// The key that was added; none in a dry run, as it has no id before it is made.
    pub added: Option<String>,
    /// The key that was removed, or would be.
    pub removed: Option<String>,
}

/// A lock that goes, with what it says of its holder unless it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StaleLock {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// Who holds it, or held it.
    pub holder: Option<LockHolder>,
}

/// A lock that stays, as somebody may hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StayingLock {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// Who holds it; none if it cannot be read.
    pub holder: Option<LockHolder>,
    /// From when on it counts for nothing unless it is refreshed; none where the store does not say when it was written.
    pub stale_at: Option<jiff::Timestamp>,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockHolder {
    /// The host.
    pub host: String,
    /// The user.
    pub user: String,
    /// The process.
    pub pid: u64,
    /// When it was taken or last refreshed.
    pub since: jiff::Timestamp,
    /// Whether nobody else may be at work beside it.
    pub exclusive: bool,
}

/// A key: one password that opens the repository. With restic's field names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyInfo {
    /// Whether the repository was opened with it.
    pub current: bool,
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// Who made it.
    pub user_name: String,
    /// Where it was made.
    pub host_name: String,
    /// When it was made; none if it cannot be read.
    pub created: Option<jiff::Timestamp>,
    /// Why it cannot be read, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
