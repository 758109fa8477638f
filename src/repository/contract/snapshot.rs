//! What is known of a snapshot, and the tags that mean something.

use std::fmt;

use jiff::Timestamp as Instant;
use jiff::tz::Offset;
use serde::Serialize;

/// Prefix of the tag that names a snapshot's application.
pub const TAG_APPLICATION: &str = "app:";
/// Prefix of the tag that names the backup set.
pub const TAG_SET: &str = "set:";
/// Prefix of the tag that joins the snapshots of one run into a restore point.
pub const TAG_RUN: &str = "run:";
/// Tag of a snapshot in which something is missing: no retention rule counts it and it is no `latest`.
pub const TAG_PARTIAL: &str = "partial";
/// Tag of a snapshot that no retention rule removes. For other programs it is a tag like any other.
pub const TAG_PINNED: &str = "pinned";

/// Tag of a snapshot that took the place of a damaged one.
pub const TAG_REPAIRED: &str = "repaired";
/// Tag of a snapshot that was rewritten and stands beside its old form, as restic has it.
pub const TAG_REWRITTEN: &str = "rewrite";
/// Tag of a snapshot that a restore made of what it was about to overwrite: no retention rule counts it and it is no `latest`,
/// except where this tag is asked for.
pub const TAG_BEFORE_RESTORE: &str = "before-restore";

/// A snapshot's id: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SnapshotId(pub String);

impl SnapshotId {
    /// The first eight digits, as people write it.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One application, or one set of paths, at one time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// When the backup of it began.
    pub time: Instant,
    /// Its maker's offset from UTC, by which retention tells days apart.
    #[serde(skip)]
    pub offset: Offset,
    /// The host it is of.
    pub host: String,
    /// Who made it.
    pub username: String,
    /// The absolute paths in it.
    pub paths: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The snapshot that unchanged files were compared with.
    pub parent: Option<SnapshotId>,
    /// The first of the ids that this snapshot has had (tags and pins change the id).
    pub original: Option<SnapshotId>,
    /// The program that made it (`bbackup 0.1.0`); empty when not recorded.
    pub program: String,
    /// What its backup did; none for snapshots of tools that do not record it.
    pub summary: Option<SnapshotSummary>,
}

impl Snapshot {
    /// The application that its tag names.
    pub fn application(&self) -> Option<&str> {
        self.tagged(TAG_APPLICATION)
    }

    /// The backup set that its tag names.
    pub fn set(&self) -> Option<&str> {
        self.tagged(TAG_SET)
    }

    /// The run that its tag names.
    pub fn run(&self) -> Option<&str> {
        self.tagged(TAG_RUN)
    }

    /// Whether something is missing in it.
    pub fn is_partial(&self) -> bool {
        self.tags.iter().any(|tag| tag == TAG_PARTIAL)
    }

    /// Whether bbackup made it: then everything in it is where it was on the host.
    pub fn is_ours(&self) -> bool {
        self.program.starts_with("bbackup")
    }

    /// Whether a restore made it of what it was about to overwrite, which may be what somebody wanted to be rid of, and none of
    /// `asked`, the tags that are asked for, says that it is meant: then it is no `latest` and counts for no rule.
    pub fn is_aside(&self, asked: &[String]) -> bool {
        let is_it = |tag: &String| tag == TAG_BEFORE_RESTORE;
        self.tags.iter().any(is_it) && !asked.iter().any(is_it)
    }

    /// Whether no retention rule removes it.
    pub fn is_pinned(&self) -> bool {
        self.tags.iter().any(|tag| tag == TAG_PINNED)
    }

    /// Whether it is of all that it is of: one of an application of which only some items were asked for names these as its
    /// paths, and is no `latest` of the application.
    pub fn is_whole(&self) -> bool {
        self.application().is_none() || self.paths.iter().all(|path| path.matches('/').count() == 2)
    }

    fn tagged(&self, prefix: &str) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix(prefix))
    }
}

/// What the backup of a snapshot did, with restic's field names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SnapshotSummary {
    /// Files not in the parent.
    pub files_new: u64,
    /// Files in the parent with other data.
    pub files_changed: u64,
    /// Files as in the parent.
    pub files_unmodified: u64,
    /// Folders not in the parent.
    pub dirs_new: u64,
    /// Folders with another content.
    pub dirs_changed: u64,
    /// Folders as in the parent.
    pub dirs_unmodified: u64,
    /// New data blobs.
    pub data_blobs: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// New bytes before compression.
    pub data_added: u64,
    /// New bytes in the repository.
    pub data_added_packed: u64,
    /// Files in the snapshot.
    pub total_files_processed: u64,
    /// Bytes of all files in the snapshot.
    pub total_bytes_processed: u64,
}
