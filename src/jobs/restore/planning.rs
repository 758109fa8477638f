//! What a restore to the Engine will do: what the snapshots say, what journals say of other runs, and the plan that `targets` makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use super::alone::{self, Alone};
use super::fill::Ids;
use super::journal;
use super::words::{shown, worded};
use crate::docker::Engine;
use crate::docker::journal::Holding;
use crate::docker::quiesce;
use crate::jobs::backup::sweep_helpers;
use crate::jobs::engine::connect;
use crate::jobs::error::JobError;
use crate::jobs::request::{JobContext, RestoreJob};
use crate::jobs::results::RestorePreview;
use crate::model::application::{ApplicationDocument, DOCKER_ROOT, DOCUMENT_NAME};
use crate::model::text::printable;
use crate::repository::contract::{Repository, RepositoryError, Snapshot, SnapshotId};
use crate::targets::plan::{self, Items, RestoreOptions, StoredApplication};
use crate::targets::steps::Limits;

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
    pub(super) ids: BTreeMap<String, Ids>,
}

impl EngineRestore {
    /// The snapshot that has what was in a volume or at a path before anybody wrote to it; `saved` is that of now.
    pub(super) fn saved_before(&self, volume: &str, saved: Option<&SnapshotId>) -> Option<String> {
        match self.half.get(volume) {
            Some(half) => half.saved.clone(),
            None => saved.map(|id| id.short().to_owned()),
        }
    }

    /// Those of some volumes that, or something in which, a restore which died has left half restored.
    pub(super) fn half_of(&self, volumes: &[String]) -> BTreeSet<String> {
        volumes.iter().filter(|volume| self.half.keys().any(|half| self.plan.is_written(half, volume))).cloned().collect()
    }
}

/// Plans the restore of applications.
pub(super) async fn plan(
    context: &JobContext,
    repository: &dyn Repository,
    snapshots: &[Snapshot],
    (job, alone): (&RestoreJob, &[Alone]),
    preview: &mut RestorePreview,
) -> Result<EngineRestore, JobError> {
    let engine = connect(&context.config.docker).await?;
    let selection = &job.selection;
    let mut items = Items {
        containers: selection.containers.clone(),
        volumes: selection.volumes.clone(),
        networks: selection.networks.clone(),
        parts: Vec::new(),
    };
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
        for one in alone.iter().filter(|one| one.snapshot == snapshot.id) {
            tokio::task::block_in_place(|| alone::add(repository, &application, one, &mut items))?;
        }
        let (was, is) = (&application.document.engine, engine.identity());
        if snapshot.host == context.config.host && was.id != is.id {
            // After a new installation that is as it should be; of two Engines under one name nobody may notice it.
            preview.notes.push(format!("{} of {name} was made of another Docker Engine than this one ({})", snapshot.id.short(), was.name));
        }
        ids.extend(Ids::of(application.document.engine.user_namespace.as_deref()).map(|found| (name.clone(), found)));
        stored.push(application);
    }
    alone::unless_beside(&items, job)?;
    let mut cleaned = journal::Cleaned::default();
    if !job.dry_run {
        let (notes, warnings) = sweep_helpers(&engine).await;
        preview.notes.extend(notes);
        preview.warnings.extend(warnings);
        cleaned = journal::clean(&engine, &context.directories.state).await?;
        preview.notes.append(&mut cleaned.told);
        preview.warnings.append(&mut cleaned.failed);
    }
    let held = if job.in_place && !job.dry_run { held(context, &engine).await? } else { Vec::new() };
    let ids_of = |living: bool, recovering: bool| {
        held.iter().filter(move |one| (one.living, one.recovering) == (living, recovering)).map(|one| one.entry.container.clone())
    };
    // What a backup that died has left down, and could not be started, is started some time: not on half of what is overwritten.
    cleaned.held_down.extend(ids_of(false, false));
    let (half_filled, half_of_others) = half_filled(&cleaned.half, &by_name);
    let options = RestoreOptions {
        items,
        renames: job.renames.iter().map(|rename| (rename.from.clone(), rename.to.clone())).collect(),
        as_new: job.as_new,
        no_start: job.no_start,
        in_place: job.in_place,
        save_first: job.save_first,
        held_down: cleaned.held_down,
        // What a restore that runs is at may stay so, too.
        half: journal::half_restored(&context.directories.state, engine.id())?.into_keys().chain(cleaned.half.keys().cloned()).collect(),
        half_filled,
        half_of_others,
        kept_still: ids_of(true, false).collect(),
        brought_back: ids_of(true, true).collect(),
    };
    let plan = crate::targets::prepare(&engine, &stored, &options).await?;
    preview.steps.extend(plan.steps.iter().map(|planned| shown(&planned.step)));
    preview.conflicts.extend(plan.conflicts.iter().map(worded));
    preview.warnings.extend(plan.notes.iter().cloned());
    preview.notes.extend(plan.asked.iter().cloned());
    let is_filled =
        |place: &String| plan.steps.iter().any(|planned| planned.step.fills().is_some_and(|(filled, _)| plan.is_written(place, filled)));
    preview.warnings.extend(cleaned.half.iter().filter(|(volume, _)| !is_filled(volume)).map(|(_, half)| half.told.clone()));
    let limits = Limits { health: HEALTH_LIMIT, stop: context.config.docker.stop_timeout };
    Ok(EngineRestore { engine, plan, limits, snapshots: by_name, half: cleaned.half, ids })
}

/// The containers that backups keep still, be it that they have died.
async fn held(context: &JobContext, engine: &Engine) -> Result<Vec<Holding>, JobError> {
    let unseen =
        |error| JobError::Own { action: "see which containers backups keep still".to_owned(), source: std::io::Error::other(error) };
    quiesce::held(&context.directories.state, engine).await.map_err(unseen)
}

/// The places that were empty and that a restore has filled in part: those that this one goes on with, as it is from the same snapshot, and the others,
/// with the snapshot of which they have a part.
fn half_filled(
    half: &BTreeMap<String, journal::Half>,
    by_name: &BTreeMap<String, Snapshot>,
) -> (BTreeSet<String>, BTreeMap<String, String>) {
    let (mut same, mut others) = (BTreeSet::new(), BTreeMap::new());
    for (place, half) in half.iter().filter(|(_, half)| half.fresh) {
        let now = by_name.get(&half.application).map(|snapshot| &snapshot.original.as_ref().unwrap_or(&snapshot.id).0);
        if half.from.is_some() && half.from.as_ref() == now {
            same.insert(place.clone());
        } else {
            let from = half.from.as_ref().map_or_else(String::new, |id| format!(" {}", SnapshotId(id.clone()).short()));
            others.insert(place.clone(), from);
        }
    }
    (same, others)
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
