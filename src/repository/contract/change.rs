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
