//! What can go wrong with a repository.

use std::collections::BTreeSet;
use std::io;

use super::SnapshotId;
use crate::model::size::ByteSize;
use crate::platform::control::Stop;

/// What can go wrong with a repository.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// There is nothing at the location, or nothing that is a repository.
    #[error("no repository at {location}")]
    Missing {
        /// Where.
        location: String,
    },
    /// `init` where a repository is already.
    #[error("there is a repository at {location} already")]
    Exists {
        /// Where.
        location: String,
    },
    /// A foreign format, or a version that this program does not know.
    #[error("the repository at {location} has format version {version}, which this program does not know")]
    UnknownVersion {
        /// Where.
        location: String,
        /// Version found.
        version: u32,
    },
    /// A repository of another program.
    #[error("what is at {location} is a {format} repository")]
    ForeignFormat {
        /// Where.
        location: String,
        /// Whose.
        format: &'static str,
    },
    /// A folder of the repository is gone, although it must have had files in it.
    #[error("the folder `{folder}` of the repository at {location} is missing")]
    FolderMissing {
        /// Where.
        location: String,
        /// Which.
        folder: &'static str,
    },
    /// There is a repository, but no key that any password could open.
    #[error("the repository at {location} has no key")]
    NoKeys {
        /// Where.
        location: String,
    },
    /// No key opens with this password.
    #[error("wrong password, or no key for it, for the repository at {location}")]
    WrongPassword {
        /// Where.
        location: String,
        /// What is wrong with keys that could not be tried, one sentence each: it may be the password of one of these.
        unreadable: Vec<String>,
    },
    /// There are keys, and all are damaged.
    #[error("every key of the repository at {location} is damaged")]
    KeysDamaged {
        /// Where.
        location: String,
        /// What is wrong with each, one sentence each.
        problems: Vec<String>,
    },
    /// The password opens none of the keys that were tried, and there are more. A key can be named.
    #[error("the password opens none of the first {tried} keys of the repository at {location}, and there are more")]
    TooManyKeys {
        /// Where.
        location: String,
        /// How many keys were tried.
        tried: usize,
    },
    /// Somebody else holds a lock that excludes ours.
    #[error("the repository at {location} is locked by PID {pid} on {host} since {since}")]
    Locked {
        /// Where.
        location: String,
        /// Process that holds the lock.
        pid: u32,
        /// Host of that process.
        host: String,
        /// When the lock was made, for people.
        since: String,
        /// Whether the other lock is exclusive.
        exclusive: bool,
    },
    /// Our own lock could not be refreshed in time, so others may have removed it; or somebody did.
    #[error("the lock on {location} was lost: it could not be refreshed in time, or somebody has removed it")]
    LockLost {
        /// Where.
        location: String,
    },
    /// A file of the repository is damaged.
    #[error("{file} is damaged{}: expected {expected}", at(*.offset))]
    Damaged {
        /// Kind and id of the file (`pack 12ab…`).
        file: String,
        /// Offset of the first wrong byte, where known; else zero.
        offset: u64,
        /// What should have been there.
        expected: String,
    },
    /// A pack that the index names is not there.
    #[error("pack {pack} is missing")]
    PackMissing {
        /// Its id.
        pack: String,
    },
    /// A blob that is needed is in no index.
    #[error("{kind} blob {id} is in no index")]
    BlobMissing {
        /// `data` or `tree`.
        kind: &'static str,
        /// The blob's id.
        id: String,
    },
    /// Something that must be whole before anything may be removed is not. Nothing was changed.
    #[error("{reason}")]
    Refused {
        /// What is not as it must be.
        reason: String,
        /// What is missing or damaged, one sentence each. At most 100 are kept.
        problems: Vec<String>,
    },
    /// A rewrite would leave nothing of these snapshots. Nothing was changed.
    #[error("nothing would be left of {}; nothing was changed", emptied(.snapshots))]
    WouldEmpty {
        /// Which.
        snapshots: Vec<SnapshotId>,
    },
    /// No snapshot of that name.
    #[error("no snapshot matches `{wanted}`")]
    NoSnapshot {
        /// What was asked for.
        wanted: String,
    },
    /// A prefix of several ids.
    #[error("`{wanted}` is the beginning of {} snapshots", .candidates.len())]
    AmbiguousSnapshot {
        /// What was asked for.
        wanted: String,
        /// The ids that begin so.
        candidates: BTreeSet<SnapshotId>,
    },
    /// No key of that name.
    #[error("no key matches `{wanted}`")]
    NoKey {
        /// What was asked for.
        wanted: String,
    },
    /// A prefix of several ids of keys.
    #[error("`{wanted}` is the beginning of {} keys", .candidates.len())]
    AmbiguousKey {
        /// What was asked for.
        wanted: String,
        /// The ids that begin so.
        candidates: Vec<String>,
    },
    /// The key that the repository was opened with, or the only one, is not removed.
    #[error("the key {} is the one in use", .id.get(..8).unwrap_or(.id))]
    KeyInUse {
        /// Its id.
        id: String,
    },
    /// No program would try another key.
    #[error("the repository at {location} has {most} keys already, and no program tries more")]
    KeysFull {
        /// Where.
        location: String,
        /// How many keys are tried.
        most: usize,
    },
    /// No such path in the snapshot.
    #[error("snapshot {} has no `{path}`", .snapshot.short())]
    NoPath {
        /// Which snapshot.
        snapshot: SnapshotId,
        /// Path, made printable.
        path: String,
    },
    /// The path is there, but it is not a file (or not a folder).
    #[error("`{path}` in snapshot {} is a {found}", .snapshot.short())]
    WrongKind {
        /// Which snapshot.
        snapshot: SnapshotId,
        /// Path, made printable.
        path: String,
        /// What it is.
        found: &'static str,
    },
    /// The storage under the repository failed.
    #[error("cannot {action} {file}")]
    Storage {
        /// `read`, `write`, `remove`, `list`.
        action: &'static str,
        /// File or folder, for people.
        file: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// What waits for the end of a stream fits neither into memory nor on the disk that is there for it.
    #[error("what a stream of very many files needs until its end takes more than {} of memory, and cannot be put aside in {folder}", ByteSize(*.most))]
    NoRoomAside {
        /// The folder on that disk.
        folder: String,
        /// Bytes that it may take in memory.
        most: u64,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A source was lost while it was read.
    #[error("cannot read {path} to its end")]
    Source {
        /// Path in the snapshot, made printable.
        path: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The target of a restore or dump failed.
    #[error("cannot write {path}")]
    Target {
        /// Path, made printable.
        path: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Snapshots cannot be shown as folders.
    #[error("cannot mount at {path}")]
    Mount {
        /// Where.
        path: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The current item was skipped.
    #[error("skipped")]
    Skipped,
    /// The whole operation was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// Verification before writing failed: the memory or processor of this machine corrupts data.
    #[error("data came out wrong when it was read back before writing ({what}): this machine's memory or processor is faulty")]
    Corrupted {
        /// What was being verified.
        what: String,
    },
    /// A worker ended by a panic: a defect of bbackup.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Where the first wrong byte is, if that is known.
fn at(offset: u64) -> String {
    if offset > 0 { format!(" at byte {offset}") } else { String::new() }
}

fn emptied(snapshots: &[SnapshotId]) -> String {
    let first: Vec<&str> = snapshots.iter().take(3).map(SnapshotId::short).collect();
    let more = if snapshots.len() > 3 { format!(" and {} more", snapshots.len() - 3) } else { String::new() };
    format!("{}{more}", first.join(", "))
}

impl RepositoryError {
    /// The error with its causes on one line.
    pub fn with_causes(&self) -> String {
        let mut sentence = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            sentence = format!("{sentence}: {error}");
            cause = error.source();
        }
        sentence
    }

    /// Whether something of the repository is lost.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::PackMissing { .. } | Self::BlobMissing { .. })
    }

    /// Whether this user may not do it: nothing is known to be damaged.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Storage { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Locked { .. } => true,
            Self::Storage { source, .. } | Self::Source { source, .. } => {
                matches!(source.kind(), io::ErrorKind::TimedOut | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionReset)
            }
            _ => false,
        }
    }
}

impl From<Stop> for RepositoryError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Cancelled => Self::Cancelled,
            Stop::Skipped => Self::Skipped,
        }
    }
}
