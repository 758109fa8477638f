//! Numbers about a repository, in plain types.

use jiff::Timestamp as Instant;
use serde::Serialize;

use super::{Problem, SnapshotId};

/// Numbers about a repository.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RepositoryStats {
    /// Snapshots.
    pub snapshots: u64,
    /// Distinct blobs in the index.
    pub blobs: u64,
    /// Packs.
    pub packs: u64,
    /// Bytes of all packs.
    pub stored_bytes: u64,
    /// Bytes of all blobs before compression.
    pub raw_bytes: u64,
    /// Bytes that restoring every snapshot would write.
    pub restore_bytes: u64,
    /// Files in all snapshots together.
    pub files: u64,
    /// Bytes before compression of the blobs that snapshots use.
    pub used_raw_bytes: u64,
    /// Bytes of the same blobs in packs.
    pub used_stored_bytes: u64,
    /// Each application, and each set of host paths, by name.
    pub groups: Vec<GroupStats>,
    /// What each snapshot added, oldest first.
    pub growth: Vec<SnapshotGrowth>,
    /// Folders that could not be read, or not wholly, by the snapshot in which they were first met: what is in them is not
    /// counted. At most 1 000 are kept.
    pub problems: Vec<Problem>,
    /// Number of problems in all.
    pub problem_count: u64,
}

impl RepositoryStats {
    /// How many times the snapshots hold what is stored once.
    pub fn dedup_ratio(&self) -> f64 {
        ratio(self.restore_bytes, self.used_raw_bytes)
    }

    /// How much smaller compression made what is stored.
    pub fn compression_ratio(&self) -> f64 {
        ratio(self.used_raw_bytes, self.used_stored_bytes)
    }

    /// Bytes in packs that belong to no snapshot.
    pub fn unused_bytes(&self) -> u64 {
        self.stored_bytes.saturating_sub(self.used_stored_bytes)
    }
}

/// One as long as nothing is stored.
fn ratio(large: u64, small: u64) -> f64 {
    if small == 0 { 1.0 } else { large as f64 / small as f64 }
}

/// Numbers about the snapshots of one application, or of one set of host paths.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GroupStats {
    /// The application; none for host paths.
    pub application: Option<String>,
    /// The host.
    pub host: String,
    /// The paths; empty for an application.
    pub paths: Vec<String>,
    /// Snapshots.
    pub snapshots: u64,
    /// Files in the newest snapshot.
    pub latest_files: u64,
    /// Bytes of the files of the newest snapshot.
    pub latest_bytes: u64,
    /// Bytes that restoring every snapshot would write.
    pub restore_bytes: u64,
    /// Bytes before compression of the blobs that these snapshots use.
    pub raw_bytes: u64,
    /// Bytes of the same blobs in packs.
    pub stored_bytes: u64,
    /// Bytes in packs of the blobs that no other group uses: what would be freed without these snapshots.
    pub own_stored_bytes: u64,
}

/// What one snapshot added to a repository.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotGrowth {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its time.
    pub time: Instant,
    /// Its application, if it is of one.
    pub application: Option<String>,
    /// Files in it.
    pub files: u64,
    /// Bytes of its files.
    pub restore_bytes: u64,
    /// Bytes before compression of the blobs that no older snapshot uses.
    pub raw_added: u64,
    /// Bytes of the same blobs in packs.
    pub stored_added: u64,
    /// Bytes in packs that this and all older snapshots use.
    pub stored_total: u64,
}
