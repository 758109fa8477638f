//! What jobs answer: plain values that every face shows and that programs read as JSON.
//!
//! How they are worded and drawn is the faces' business.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::model::application::QuiesceRecord;
use crate::model::hook::HookRecord;
use crate::model::outcome::{ItemOutcome, RunStatus};
use crate::repository::contract::{Problem, RepositoryInfo, SnapshotId, SnapshotSummary};

/// How one item of an application ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemResult {
    /// `volume shop_db`, `path /srv`.
    pub item: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: ItemOutcome,
}

/// What the backup of one application, or of one set's paths, did.
#[derive(Debug, Clone, Serialize)]
pub struct ApplicationResult {
    /// Its name; for host paths the paths.
    pub application: String,
    /// Its snapshot; none when nothing was saved (a failure, a dry run).
    pub snapshot: Option<SnapshotId>,
    /// Whether a snapshot was written, or would have been if this were no dry run.
    pub saved: bool,
    /// Counts.
    pub summary: SnapshotSummary,
    /// Every item of it.
    pub items: Vec<ItemResult>,
    /// Containers that are down because of this backup. Nothing is worse; each is tried again at the next start of bbackup.
    pub failures: Vec<String>,
    /// Whether nothing of its data was read because our own state folder cannot be used: that is nobody's backup.
    #[serde(skip)]
    pub unwritable: bool,
    /// Sentences that do not belong to one path.
    pub warnings: Vec<String>,
    /// What is worth knowing and nobody's fault.
    pub notes: Vec<String>,
    /// Paths that could not be read, or changed meanwhile. At most 1 000 of each item.
    pub problems: Vec<Problem>,
    /// From its first action to its snapshot.
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub duration: Duration,
    /// For how long something of it was stopped or paused; none when nothing was.
    #[serde(rename = "downtime_seconds", serialize_with = "maybe_seconds")]
    pub downtime: Option<Duration>,
    /// What was stopped or paused, for how long each.
    pub quiesced: Vec<QuiesceRecord>,
    /// The commands that ran inside containers.
    pub hooks: Vec<HookRecord>,
}

impl ApplicationResult {
    /// One of which nothing has been done.
    pub fn new(application: impl Into<String>) -> Self {
        Self {
            application: application.into(),
            snapshot: None,
            saved: false,
            summary: SnapshotSummary::default(),
            items: Vec::new(),
            failures: Vec::new(),
            unwritable: false,
            warnings: Vec::new(),
            notes: Vec::new(),
            problems: Vec::new(),
            duration: Duration::ZERO,
            downtime: None,
            quiesced: Vec::new(),
            hooks: Vec::new(),
        }
    }

    /// One that could not be saved.
    pub fn failed(application: impl Into<String>, reason: String) -> Self {
        Self { warnings: vec![reason], ..Self::new(application) }
    }

    /// What somebody should look at: sentences, paths, and items that are not stored whole.
    pub fn warning_count(&self) -> u64 {
        let incomplete = self.items.iter().filter(|item| !item.outcome.is_complete()).count();
        (self.failures.len() + self.warnings.len() + self.problems.len() + incomplete) as u64
    }
}

/// What a backup did.
#[derive(Debug, Clone, Serialize)]
pub struct BackupResult {
    /// The run's ULID; `run:<it>` names the restore point.
    pub run: String,
    /// How it ended.
    pub status: RunStatus,
    /// Whether nothing was written because only a plan was asked for.
    pub dry_run: bool,
    /// Each application, in the order of work.
    pub applications: Vec<ApplicationResult>,
    /// Sentences about the whole run.
    pub warnings: Vec<String>,
    /// What is worth knowing about the whole run and nobody's fault.
    pub notes: Vec<String>,
    /// Where it is. None only in a dry run before the repository exists.
    pub repository: Option<RepositoryInfo>,
    /// The whole run.
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub duration: Duration,
}

/// One thing that a restore does, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreStep {
    /// `create network`, `fill volume`, `create container`, `start container`, `write path`.
    pub action: String,
    /// Name of what it is done to, on the host.
    pub name: String,
    /// What else there is to know (its name in the snapshot, its size).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One reason why a restore cannot be done as asked. All are reported at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// `container web`, `port 8080/tcp`.
    pub item: String,
    /// One sentence.
    pub message: String,
    /// What to do, one sentence; empty when there is nothing.
    pub hint: String,
}

/// What a restore would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RestorePreview {
    /// Every step in order.
    pub steps: Vec<RestoreStep>,
    /// What stands in the way; with any of these nothing is done.
    pub conflicts: Vec<Conflict>,
    /// What will differ from what was saved.
    pub warnings: Vec<String>,
    /// What was put right before, and other things worth knowing.
    pub notes: Vec<String>,
}

/// What the restore of one application, or of one snapshot's paths, did.
#[derive(Debug, Clone, Serialize)]
pub struct RestoredApplication {
    /// Its name; for host paths the paths.
    pub application: String,
    /// From which snapshot.
    pub snapshot: SnapshotId,
    /// Every step that was done.
    pub steps: Vec<RestoreStep>,
    /// Files written.
    pub files_restored: u64,
    /// Files left alone because they matched already.
    pub files_unchanged: u64,
    /// Bytes written.
    pub bytes_restored: u64,
    /// The snapshots of what was there before and was overwritten: of each application, and of files of the machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub saved_first: Vec<SnapshotId>,
    /// Containers that run again.
    pub started: Vec<String>,
    /// Sentences that do not belong to one path.
    pub warnings: Vec<String>,
    /// Paths that could not be written, or not fully.
    pub problems: Vec<Problem>,
    /// Why it could not be restored to its end; what was done before is in `steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How long it took.
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub duration: Duration,
}

/// What a restore did.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreResult {
    /// How it ended.
    pub status: RunStatus,
    /// Whether nothing was written because only a plan was asked for.
    pub dry_run: bool,
    /// What was planned.
    pub preview: RestorePreview,
    /// Each application, in the order of work.
    pub applications: Vec<RestoredApplication>,
    /// From where.
    pub repository: RepositoryInfo,
    /// The whole run.
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub duration: Duration,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn maybe_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_some(&duration.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}
