//! Restoring applications to the Engine: the steps that `targets` planned, in their order, each application rolled back if
//! one of its steps fails.
//!
//! How containers, networks and volumes are made is `targets`' business; where their data comes from, the repository's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::fill::{Fill, Ids};
use super::in_place::{InPlace, Wanted};
use super::journal;
use super::words::{shown, worded};
use super::work::Work;
use crate::docker::Engine;
use crate::docker::helper::Owner;
use crate::docker::quiesce::held_elsewhere;
use crate::jobs::backup::{sentence, sweep_helpers};
use crate::jobs::engine::connect;
use crate::jobs::error::JobError;
use crate::jobs::request::{JobContext, RestoreJob};
use crate::jobs::results::{RestorePreview, RestoredApplication};
use crate::model::application::{ApplicationDocument, DOCKER_ROOT, DOCUMENT_NAME};
use crate::model::progress::{Event, Progress};
use crate::model::text::printable;
use crate::platform::clock;
use crate::platform::control::Control;
use crate::repository::contract::{Repository, RepositoryError, Snapshot, SnapshotId};
use crate::targets::plan::{self, Items, PlannedStep, RestoreOptions, Step, StoredApplication};
use crate::targets::steps::{Limits, Steps};

/// How long is waited for one container to be healthy.
const HEALTH_LIMIT: Duration = Duration::from_mins(2);

/// What goes back to the Engine.
pub(super) struct EngineRestore {
    pub(super) engine: Engine,
    pub(super) plan: plan::RestorePlan,
    pub(super) limits: Limits,
    /// The snapshot of each application.
    pub(super) snapshots: BTreeMap<String, Snapshot>,
    /// Volumes and paths that a restore which died has left half restored.
    pub(super) half: BTreeMap<String, journal::Half>,
    /// By application: the ids of the host that root of a container had where it was saved, if that was not the host's root.
    ids: BTreeMap<String, Ids>,
}

impl EngineRestore {
    /// The snapshot that has what was in a volume or at a path before anybody wrote to it; `saved` is that of now.
    fn saved_before(&self, volume: &str, saved: Option<&SnapshotId>) -> Option<String> {
        match self.half.get(volume) {
            Some(half) => half.saved.clone(),
            None => saved.map(|id| id.short().to_owned()),
        }
    }
}

/// Plans the restore of applications.
pub(super) async fn plan(
    context: &JobContext,
    repository: &dyn Repository,
    snapshots: &[Snapshot],
    job: &RestoreJob,
    preview: &mut RestorePreview,
) -> Result<EngineRestore, JobError> {
    let engine = connect(&context.config.docker).await?;
    let mut stored = Vec::new();
    let (mut by_name, mut ids) = (BTreeMap::new(), BTreeMap::new());
    for snapshot in snapshots {
        let application = tokio::task::block_in_place(|| read(repository, snapshot))?;
        if snapshot.is_partial() {
            let name = &application.document.application.name;
            preview.warnings.push(format!("the snapshot {} of {name} is partial: some of its items were not saved", snapshot.id.short()));
        }
        let name = &application.document.application.name;
        if let Some(other) = by_name.insert(name.clone(), snapshot.clone()) {
            return Err(mixed(name, &other, snapshot));
        }
        ids.extend(Ids::of(application.document.engine.user_namespace.as_deref()).map(|found| (name.clone(), found)));
        stored.push(application);
    }
    let mut cleaned = journal::Cleaned::default();
    if !job.dry_run {
        let (notes, warnings) = sweep_helpers(&engine).await;
        preview.notes.extend(notes);
        preview.warnings.extend(warnings);
        cleaned = journal::clean(&engine, &context.directories.state).await?;
        preview.notes.append(&mut cleaned.told);
        preview.warnings.append(&mut cleaned.failed);
    }
    let selection = &job.selection;
    let options = RestoreOptions {
        items: Items { containers: selection.containers.clone(), volumes: selection.volumes.clone(), networks: selection.networks.clone() },
        renames: job.renames.iter().map(|rename| (rename.from.clone(), rename.to.clone())).collect(),
        as_new: job.as_new,
        no_start: job.no_start,
        in_place: job.in_place,
        save_first: job.save_first,
        held_down: cleaned.held_down,
        half: cleaned.half.keys().cloned().collect(),
        half_filled: cleaned.half.iter().filter(|(_, half)| half.fresh).map(|(place, _)| place.clone()).collect(),
        kept_still: kept_still(context, &engine, job).await?,
    };
    let plan = crate::targets::prepare(&engine, &stored, &options).await?;
    preview.steps.extend(plan.steps.iter().map(|planned| shown(&planned.step)));
    preview.conflicts.extend(plan.conflicts.iter().map(worded));
    preview.warnings.extend(plan.notes.iter().cloned());
    preview.notes.extend(plan.asked.iter().cloned());
    let is_filled = |place: &String| plan.steps.iter().any(|planned| planned.step.fills().is_some_and(|(name, _)| name == place));
    preview.warnings.extend(cleaned.half.iter().filter(|(volume, _)| !is_filled(volume)).map(|(_, half)| half.told.clone()));
    let limits = Limits { health: HEALTH_LIMIT, stop: context.config.docker.stop_timeout };
    Ok(EngineRestore { engine, plan, limits, snapshots: by_name, half: cleaned.half, ids })
}

/// Ids of the containers that living backups keep still, where containers have to make room.
async fn kept_still(context: &JobContext, engine: &Engine, job: &RestoreJob) -> Result<BTreeSet<String>, JobError> {
    if !job.in_place || job.dry_run {
        return Ok(BTreeSet::new());
    }
    let unseen =
        |error| JobError::Own { action: "see which containers backups keep still".to_owned(), source: std::io::Error::other(error) };
    let held = held_elsewhere(&context.directories.state, engine).await.map_err(unseen)?;
    Ok(held.into_iter().map(|entry| entry.container).collect())
}

/// An application is never put together from two snapshots: its containers and volumes would not fit each other.
fn mixed(application: &str, one: &Snapshot, other: &Snapshot) -> JobError {
    let name = printable(application.as_bytes());
    let message = format!("what was asked for of {name} is in two snapshots, {} and {}", one.id.short(), other.id.short());
    JobError::request("two_snapshots", message, "Restore from one of them at a time, by its id.")
}

/// Reads what a snapshot says of its application.
fn read(repository: &dyn Repository, snapshot: &Snapshot) -> Result<StoredApplication, JobError> {
    let document = |path: &str| {
        let mut bytes = Vec::new();
        repository.dump(&snapshot.id, path.as_bytes(), &mut bytes).map(|()| bytes)
    };
    let root = folder(repository, snapshot)?;
    let bytes = document(&format!("{root}/{DOCUMENT_NAME}"))?;
    let parsed = ApplicationDocument::from_json(&bytes).map_err(|source| JobError::Document {
        application: snapshot.application().unwrap_or_default().to_owned(),
        snapshot: snapshot.id.short().to_owned(),
        source,
    })?;
    let application = &parsed.application;
    // What was not saved is not there; what follows from that is for the plan to say.
    let present = |path: String| match document(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(RepositoryError::NoPath { .. }) => Ok(None),
        Err(error) => Err(error),
    };
    let mut containers = Vec::new();
    for container in &application.containers {
        containers.extend(present(application.inspect_path(&container.name))?.map(|bytes| (container.name.clone(), bytes)));
    }
    let mut networks = Vec::new();
    for network in &application.networks {
        networks.extend(present(application.network_path(&network.name))?.map(|bytes| (network.name.clone(), bytes)));
    }
    StoredApplication::parse(&bytes, containers, networks).map_err(|error| JobError::Target(error.into()))
}

/// The folder of the application in its snapshot.
fn folder(repository: &dyn Repository, snapshot: &Snapshot) -> Result<String, JobError> {
    // The application, or items in its folder.
    let inside = |path: &String| path.strip_prefix(DOCKER_ROOT)?.strip_prefix('/')?.split('/').next().map(str::to_owned);
    if let Some(name) = snapshot.paths.first().and_then(inside) {
        return Ok(format!("{DOCKER_ROOT}/{name}"));
    }
    // A snapshot that another tool rewrote may name other paths.
    let mut found = None;
    repository.list(&snapshot.id, DOCKER_ROOT.as_bytes(), false, &mut |entry| {
        if entry.path != DOCKER_ROOT.as_bytes() {
            found = String::from_utf8(entry.path).ok();
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    found.ok_or_else(|| RepositoryError::NoPath { snapshot: snapshot.id.clone(), path: format!("{DOCKER_ROOT}/…/{DOCUMENT_NAME}") }.into())
}

/// Takes the steps. What fails costs its own application, and those that use its volumes.
///
/// # Errors
/// The journal cannot be written: nothing was done, or what was done is named in it.
pub(super) async fn execute(
    context: &JobContext,
    repository: &dyn Repository,
    restore: &EngineRestore,
    control: &Control,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<RestoredApplication>, JobError> {
    let run = ulid::Ulid::from_datetime(clock::now().into()).to_string();
    let owner = Owner::of_run(&run);
    let journal = journal::Journal::create(&context.directories.state, &run, &restore.engine, &restore.plan.steps).await?;
    let started = clock::monotonic();
    let mut work = Work::new(context, repository, restore, (control, progress), (&owner, journal));
    for (number, planned) in restore.plan.steps.iter().enumerate() {
        let fills = planned.step.fills();
        let saved = fills.and_then(|(place, _)| restore.saved_before(place, work.in_place.saved(&planned.application, place)));
        let Some(result) = work.results.get_mut(planned.application.as_str()) else { continue };
        if result.failure.is_some() {
            continue;
        }
        if !is_content(&planned.step) && work.incomplete.contains(planned.application.as_str()) {
            if let Step::StartContainer { name } = &planned.step {
                let name = printable(name.as_bytes());
                result.warnings.push(format!("container {name} is not started, as not all of its application's data could be restored"));
            }
            continue;
        }
        let go_on = control.checkpoint();
        if go_on.is_ok() && !is_preparing(&planned.step) {
            // What was saved first says how the Engine starts them.
            result.warnings.extend(work.steps.hold_down().await);
        }
        let reached = match fills {
            Some((place, true)) if go_on.is_ok() => not_reached(restore, place).await,
            _ => Ok(()),
        };
        if go_on.is_ok() || is_clean_up(&planned.step) {
            progress.event(Event::Phase(&planned.step.to_string()));
        }
        let written = match reached {
            Ok(()) if go_on.is_ok() || is_clean_up(&planned.step) => {
                work.journal.before(planned, saved.as_deref()).await.map_err(|error| sentence(&error))
            }
            other => other,
        };
        let done = match go_on {
            _ if written.is_err() => written.map(|()| 0),
            // What was stopped is not left down, and what was replaced not left over.
            _ if is_clean_up(&planned.step) => {
                let done = clean_up(&mut work.steps, planned, &work.in_place, result).await;
                work.journal.started(work.steps.take_started());
                Ok(done)
            }
            // Everything is there and runs: that nobody waits any more is no reason to remove it.
            Err(_) if matches!(planned.step, Step::WaitHealthy { .. }) => Ok(0),
            Err(_) => Err("it was cancelled".to_owned()),
            Ok(()) if let Step::SaveFirst { containers, volumes, paths } = &planned.step => {
                let wanted = Wanted { containers, volumes, paths, half: &restore.half };
                work.in_place.save(context, &planned.application, wanted, result, control, progress).await.map(|()| 0)
            }
            Ok(()) => {
                match fills {
                    Some((place, true)) => work.in_place.overwriting(&planned.application, place),
                    Some((place, false)) => drop(work.filled.insert(place)),
                    None => {}
                }
                take(repository, restore, planned, &mut work.steps, &owner, result, control, progress).await
            }
        };
        let recorded = match done {
            Ok(lost) if lost > 0 && work.must_be_whole(planned) => {
                Err(format!("{} of {} could not be restored", entries(lost), planned.step))
            }
            Ok(lost) => {
                work.filled_in(planned, lost);
                work.record(number).await
            }
            Err(reason) => Err(reason),
        };
        match recorded {
            Ok(()) => work.did(planned),
            Err(reason) => work.fails(planned, reason).await,
        }
        if let Some(result) = work.results.get_mut(planned.application.as_str()) {
            result.duration = started.elapsed();
        }
    }
    work.end().await
}

/// Makes sure that nobody was started meanwhile who could write to what is about to be overwritten: images were pulled and content was
/// saved since the plan was made.
async fn not_reached(restore: &EngineRestore, place: &str) -> Result<(), String> {
    match crate::targets::started_since(&restore.engine, &restore.plan, place).await {
        Ok(None) => Ok(()),
        Ok(Some(name)) => {
            let (name, place) = (printable(name.as_bytes()), printable(place.as_bytes()));
            Err(format!("container {name} was started meanwhile and can write to {place}, which was not overwritten"))
        }
        Err(error) => Err(sentence(&error)),
    }
}

pub(super) fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

/// Whether the step comes before anything is changed but that containers are stopped.
fn is_preparing(step: &Step) -> bool {
    matches!(step, Step::PullImage { .. } | Step::LoadImage { .. } | Step::StopContainer { .. } | Step::SaveFirst { .. })
}

/// Whether the step ends a restore in place that has succeeded.
fn is_clean_up(step: &Step) -> bool {
    matches!(step, Step::RemoveAside { .. } | Step::StartAgain { .. })
}

/// Everything is in its place: what fails now is a warning.
async fn clean_up(steps: &mut Steps, planned: &PlannedStep, in_place: &InPlace, result: &mut RestoredApplication) -> u64 {
    // Another application may have left a volume half restored that this container uses.
    if let Step::StartAgain { id, .. } = &planned.step
        && let Some(reason) = steps.why_not_again(id, in_place.half())
    {
        result.warnings.push(reason);
    } else {
        match steps.take(planned).await {
            Ok(told) => result.warnings.extend(told),
            Err(error) => result.warnings.push(sentence(&error)),
        }
    }
    0
}

/// Whether the step belongs to putting everything in its place, and not to starting it.
pub(super) fn is_content(step: &Step) -> bool {
    !matches!(step, Step::StartContainer { .. } | Step::WaitHealthy { .. } | Step::PauseContainer { .. }) && !is_clean_up(step)
}

/// Whether the step makes something that was not there.
pub(super) fn is_made(step: &Step) -> bool {
    matches!(step, Step::CreateNetwork { .. } | Step::CreateVolume { .. } | Step::CreateContainer { .. })
}

/// Takes one step, and gives the number of entries that it could not restore.
#[expect(clippy::too_many_arguments, reason = "everything that one step may need")]
async fn take(
    repository: &dyn Repository,
    restore: &EngineRestore,
    planned: &PlannedStep,
    steps: &mut Steps,
    owner: &Owner,
    result: &mut RestoredApplication,
    control: &Control,
    progress: &Arc<dyn Progress>,
) -> Result<u64, String> {
    let fill = |name, path, replace| {
        let snapshot = &restore.snapshots.get(&planned.application).ok_or_else(|| "its snapshot is not known".to_owned())?.id;
        let (engine, ids) = (&restore.engine, restore.ids.get(&planned.application).copied());
        Ok::<_, String>(Fill { repository, engine, snapshot, path, name, replace, ids, owner, control, progress })
    };
    match &planned.step {
        Step::FillVolume { name, path, replace, .. } => {
            let label = format!("volume {}", printable(name.as_bytes()));
            progress.event(Event::ItemStarted { label: &label });
            let filled = fill(name, path, *replace)?.volume(result).await;
            progress.event(Event::ItemFinished { label: &label });
            filled
        }
        Step::FillPath { path, from, .. } => {
            let label = format!("path {}", printable(path.as_bytes()));
            progress.event(Event::ItemStarted { label: &label });
            let filled = fill(path, from, false)?.host_path(result).await;
            progress.event(Event::ItemFinished { label: &label });
            filled
        }
        Step::LoadImage { reference, id, from, nameless, .. } => {
            fill(reference, from, false)?.image(id, *nameless, result).await.map(|()| 0)
        }
        Step::FillLayer { name, from, .. } => fill(name, from, false)?.layer(result),
        step => {
            let taken = steps.take(planned);
            // What only waits need not be waited for; whatever changes something is seen to its end.
            let taken = match step {
                Step::WaitHealthy { .. } | Step::PullImage { .. } => until_cancelled(taken, control).await,
                _ => Some(taken.await),
            };
            match taken {
                Some(taken) => result.warnings.extend(taken.map_err(|error| sentence(&error))?),
                None if is_content(step) => return Err("it was cancelled".to_owned()),
                None => result.warnings.push(format!("cancelled: {step} was broken off")),
            }
            if let Step::StartContainer { name } = step {
                result.started.push(name.clone());
            }
            Ok(0)
        }
    }
}

/// What the work gives; none if it was cancelled before.
async fn until_cancelled<T>(work: impl Future<Output = T>, control: &Control) -> Option<T> {
    let cancelled = async {
        while !control.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        done = work => Some(done),
        () = cancelled => None,
    }
}
