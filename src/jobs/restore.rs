//! A restore: first the plan with everything that stands in its way, then, if nothing does, its execution.
//!
//! Applications go back to the Engine (`engine`), paths and plain files to the file system (`files`). Which snapshots are
//! meant was decided in `select`.

mod alone;
mod engine;
mod files;
mod fill;
mod in_place;
mod journal;
mod marked;
mod mounted;
mod places;
mod planning;
mod refill;
mod words;
mod work;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::error::JobError;
use super::request::{JobContext, RestoreJob};
use super::results::{Conflict, RestorePreview, RestoreResult, RestoreStep, RestoredApplication};
use crate::docker::Engine;
use crate::docker::journal::Entry;
use crate::model::outcome::RunStatus;
use crate::model::progress::Progress;
use crate::platform::clock;
use crate::platform::control::Control;
use crate::repository::contract::{Repository, RepositoryError, Snapshot, SnapshotId};

/// What restores that were killed had left, and what became of it, one sentence each.
#[derive(Debug, Default)]
pub struct LeftBehind {
    /// What was put back or removed.
    pub done: Vec<String>,
    /// What could not be, and is tried again at the next start.
    pub failed: Vec<String>,
    /// Volumes that are half restored, whose containers stay stopped until they are restored again.
    pub half_restored: Vec<String>,
}

/// Whether there is anything to look after for [`clean_up`].
pub fn is_anything_left(state: &Path) -> bool {
    journal::any(state)
}

/// Puts back what restores that were killed had stopped, renamed and made on this Engine. What is half restored is left to
/// the next restore.
///
/// # Errors
/// A journal cannot be read, or the Engine does not answer.
pub async fn clean_up(engine: &Engine, state: &Path) -> Result<LeftBehind, JobError> {
    let cleaned = journal::clean(engine, state).await?;
    let half_restored = cleaned.half.into_values().map(|half| half.told).collect();
    Ok(LeftBehind { done: cleaned.told, failed: cleaned.failed, half_restored })
}

/// The volumes of an Engine that a restore overwrites, or was interrupted while it did, each with the reason why it is not whole.
///
/// # Errors
/// A journal cannot be read.
pub(super) fn half_restored(state: &Path, engine: &str) -> Result<BTreeMap<String, String>, JobError> {
    journal::half_restored(state, engine)
}

/// The volumes and paths of an Engine that a restore could not bring back whole, each with the reason why what is there is less.
///
/// # Errors
/// A journal cannot be read.
pub(super) fn not_all_restored(state: &Path, engine: &str) -> Result<BTreeMap<String, String>, JobError> {
    journal::short(state, engine)
}

/// The containers of an Engine, by id, of whose own layers a restore could not bring back all, each with the reason why what is there is less.
///
/// # Errors
/// A journal cannot be read.
pub(super) fn not_all_of_layers(state: &Path, engine: &str) -> Result<BTreeMap<String, String>, JobError> {
    journal::short_layers(state, engine)
}

/// Ids of the containers of an Engine that restores which run have given other names.
///
/// # Errors
/// A journal cannot be read.
pub(super) fn set_aside(state: &Path, engine: &str) -> Result<Vec<String>, JobError> {
    journal::set_aside(state, engine)
}

/// What restores write to from now on.
#[derive(Debug)]
pub(super) struct Since(journal::Idle);

impl Since {
    /// From now on.
    ///
    /// # Errors
    /// A journal cannot be read.
    pub(super) fn now(state: &Path) -> Result<Self, JobError> {
        journal::idle(state).map(Self)
    }

    /// The volumes and paths of an Engine that restores have written to since then.
    ///
    /// # Errors
    /// A journal cannot be read.
    pub(super) fn restored(&self, state: &Path, engine: &str) -> Result<BTreeMap<String, String>, JobError> {
        let reason = "a restore wrote to it while it was read";
        Ok(journal::at_since(state, engine, &self.0)?.into_iter().map(|place| (place, reason.to_owned())).collect())
    }
}

/// The containers of an Engine, by id, that restores have stopped and not started again, with what they did before.
///
/// # Errors
/// A journal cannot be read.
pub(super) fn stopped(state: &Path, engine: &str) -> Result<Vec<journal::StoppedBefore>, JobError> {
    journal::stopped(state, engine)
}

/// The restore on an Engine that needs a container stopped which a backup has stopped: it starts it, or replaces it, or has left half of its data.
pub fn keeps_stopped(state: &Path, engine: &str, entry: &Entry) -> Option<String> {
    journal::keeps_stopped(state, engine, &entry.container, &entry.started_at)
}

/// What a restore will do.
pub struct RestorePlan {
    preview: RestorePreview,
    engine: Option<planning::EngineRestore>,
    files: Vec<files::FileRestore>,
    dry_run: bool,
}

impl RestorePlan {
    /// Every step and everything that stands in the way, for people.
    pub fn preview(&self) -> &RestorePreview {
        &self.preview
    }
}

/// Finds out what a restore would do. Writes nothing.
///
/// # Errors
/// A snapshot or the Engine cannot be read, or what was asked for makes no sense. What stands in the way is in the plan.
pub async fn plan(context: &JobContext, job: RestoreJob, control: &Control) -> Result<RestorePlan, JobError> {
    control.checkpoint().map_err(RepositoryError::from)?;
    let repository = repository(context)?;
    let mut preview = RestorePreview { warnings: job.warnings.clone(), ..RestorePreview::default() };
    let to_engine = |snapshot: &Snapshot| snapshot.application().is_some() && job.to.is_none();
    let (mut applications, others): (Vec<Snapshot>, Vec<Snapshot>) = job.snapshots.iter().cloned().partition(to_engine);
    let alone = tokio::task::block_in_place(|| alone::chosen(repository, &applications, &others, &job.selection.paths))?;
    if job.selection.is_of_paths() {
        applications.retain(|snapshot| alone.iter().any(|one| one.snapshot == snapshot.id));
    }
    let engine = if applications.is_empty() {
        None
    } else {
        Some(planning::plan(context, repository, &applications, (&job, &alone), &mut preview).await?)
    };
    let files = tokio::task::block_in_place(|| files::plan(context, repository, &others, &job, control, &mut preview))?;
    if preview.steps.is_empty() && preview.conflicts.is_empty() {
        return Err(JobError::request(
            "nothing_to_restore",
            "the snapshot holds nothing of what was asked for",
            "`bbackup ls SNAPSHOT` shows what is in it.",
        ));
    }
    Ok(RestorePlan { preview, engine, files, dry_run: job.dry_run })
}

/// Does what was planned. With conflicts, or in a dry run, nothing is done.
///
/// # Errors
/// Nothing was done. What was done in part is in the result.
pub async fn execute(
    context: &JobContext,
    plan: RestorePlan,
    control: &Control,
    progress: Arc<dyn Progress>,
) -> Result<RestoreResult, JobError> {
    let started = clock::monotonic();
    let repository = repository(context)?;
    let mut applications = Vec::new();
    let idle = plan.dry_run || !plan.preview.conflicts.is_empty();
    if !idle {
        if let Some(engine) = &plan.engine {
            applications.extend(engine::execute(context, repository, engine, control, &progress).await?);
        }
        for one in &plan.files {
            if control.is_cancelled() {
                break;
            }
            applications.push(files::execute(context, repository, one, control, &progress).await);
        }
    }
    let status = match () {
        () if !plan.preview.conflicts.is_empty() => RunStatus::Failed,
        () if control.is_cancelled() => RunStatus::Cancelled,
        () => status(&applications, plan.preview.warnings.len()),
    };
    Ok(RestoreResult {
        status,
        dry_run: plan.dry_run,
        preview: plan.preview,
        applications,
        repository: repository.info(),
        duration: started.elapsed(),
    })
}

fn repository(context: &JobContext) -> Result<&dyn Repository, JobError> {
    context.repository.as_deref().ok_or_else(|| JobError::Internal("a restore without a repository".into()))
}

fn status(applications: &[RestoredApplication], notes: usize) -> RunStatus {
    let failed = applications.iter().filter(|application| application.failure.is_some()).count();
    let warnings: usize = applications.iter().map(|application| application.warnings.len() + application.problems.len()).sum();
    match failed + warnings + notes {
        _ if failed > 0 && failed == applications.len() => RunStatus::Failed,
        0 => RunStatus::Success,
        count => RunStatus::Warnings(count as u64),
    }
}

fn step(action: &str, name: impl Into<String>, detail: Option<String>) -> RestoreStep {
    RestoreStep { action: action.to_owned(), name: name.into(), detail }
}

fn conflict(item: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Conflict {
    Conflict { item: item.into(), message: message.into(), hint: hint.into() }
}

/// An application of which nothing has been restored yet.
fn untouched(application: String, snapshot: &Snapshot) -> RestoredApplication {
    RestoredApplication { application, ..counter(&snapshot.id) }
}

/// What takes counts and warnings.
fn counter(snapshot: &SnapshotId) -> RestoredApplication {
    RestoredApplication {
        application: String::new(),
        snapshot: snapshot.clone(),
        steps: Vec::new(),
        files_restored: 0,
        files_unchanged: 0,
        bytes_restored: 0,
        saved_first: Vec::new(),
        started: Vec::new(),
        warnings: Vec::new(),
        problems: Vec::new(),
        failure: None,
        duration: std::time::Duration::ZERO,
    }
}
