//! Restoring applications to the Engine: the steps that `targets` planned, in their order, each application rolled back if
//! one of its steps fails.
//!
//! How containers, networks and volumes are made is `targets`' business; where their data comes from, the repository's.

use std::sync::Arc;
use std::time::Duration;

use super::fill::Fill;
use super::in_place::{InPlace, Wanted};
use super::journal;
use super::planning::EngineRestore;
use super::work::Work;
use crate::docker::helper::Owner;
use crate::docker::journal::Journals;
use crate::docker::mountpoint::same_root;
use crate::docker::quiesce::GATE_LIMIT;
use crate::jobs::backup::sentence;
use crate::jobs::error::JobError;
use crate::jobs::request::JobContext;
use crate::jobs::results::RestoredApplication;
use crate::model::progress::{Event, Progress};
use crate::model::text::printable;
use crate::platform::clock;
use crate::platform::control::Control;
use crate::repository::contract::Repository;
use crate::targets::plan::{PlannedStep, Step};
use crate::targets::preflight::on_the_way;
use crate::targets::steps::Steps;

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
        let reached = match reached {
            Ok(()) if go_on.is_ok() => still_reachable(restore, planned).await,
            reached => reached,
        };
        if go_on.is_ok() || is_clean_up(&planned.step) {
            progress.event(Event::Phase(&planned.step.to_string()));
        }
        let written = match reached {
            Ok(()) if go_on.is_ok() || is_clean_up(&planned.step) => {
                // Tags and pins change the id, and nothing else.
                let from = restore.snapshots.get(&planned.application).map(|snapshot| snapshot.original.as_ref().unwrap_or(&snapshot.id));
                match &planned.step {
                    Step::StopContainer { .. } => unless_kept_still(context, restore, planned, &mut work.journal).await,
                    _ => work.journal.before(planned, saved.as_deref(), from).await.map_err(|error| sentence(&error)),
                }
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
                let wanted = Wanted { containers, volumes, paths, half: &restore.half_of(volumes) };
                let saved = work.in_place.save(context, &planned.application, wanted, result, control, progress).await;
                for step in restore.plan.steps.iter().filter(|other| other.application == planned.application).map(|other| &other.step) {
                    if let Step::FillPath { path, inside: Some(inside), .. } = step {
                        work.in_place.saved_inside(&planned.application, path, inside);
                    }
                }
                saved.map(|()| 0)
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

/// Writes down that a container is about to be stopped, unless a backup has begun to keep it still since the plan was made: that will start
/// it again. Backups look and write behind the same gate, so one of both sees the other.
async fn unless_kept_still(
    context: &JobContext,
    restore: &EngineRestore,
    planned: &PlannedStep,
    journal: &mut journal::Journal,
) -> Result<(), String> {
    let Some(stopped) = journal.as_it_is(planned).await else { return Ok(()) };
    let journals = Journals::new(&context.directories.state);
    let gate = journals.gate(GATE_LIMIT).await.map_err(|error| sentence(&error))?;
    let held = journals.held_by_others(&gate, None, restore.engine.id()).map_err(|error| sentence(&error))?;
    let name = printable(stopped.name.as_bytes());
    match held.iter().find(|one| one.living && one.entry.container == stopped.id) {
        Some(other) if other.recovering => {
            return Err(format!(
                "another bbackup just brings container {name} back, which a backup that died has left down: try again when it runs"
            ));
        }
        Some(_) => return Err(format!("a backup keeps container {name} still just now: try again when it has ended")),
        None => {}
    }
    journal.stopping(stopped).map_err(|error| sentence(&error))
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

/// Makes sure that nobody has put a link on the way to what is restored alone since the plan was made, before it is saved and before it is written.
async fn still_reachable(restore: &EngineRestore, planned: &PlannedStep) -> Result<(), String> {
    let plan = &restore.plan;
    if plan.roots.is_empty() || !matches!(planned.step, Step::SaveFirst { .. } | Step::FillPath { .. }) || !same_root(&restore.engine).await
    {
        return Ok(());
    }
    let saves = matches!(planned.step, Step::SaveFirst { .. });
    let concerned = plan.steps.iter().filter(|other| saves && other.application == planned.application).chain([planned]);
    for (place, _) in concerned.filter_map(|other| other.step.fills()) {
        let below = plan.roots.get(place).and_then(|root| Some((root, place.strip_prefix(root.as_str())?)));
        if let Some(obstacle) = below.and_then(|(root, below)| on_the_way(root, below)) {
            return Err(format!("{} is not restored: {obstacle}", printable(place.as_bytes())));
        }
    }
    Ok(())
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
