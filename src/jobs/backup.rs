//! A backup run: each application and each set's paths becomes one snapshot; all of one run share a tag.
//!
//! What is there is found out by `docker` and `sources`, how it is stored is the repository's business. Here is the order of
//! things, and what counts as a success.

mod ahead;
mod application;
mod counting;
mod estimate;
mod paths;
mod quiet;
mod settling;
mod together;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use self::paths::name as name_of_paths;
use self::settling::Pending;
use super::engine::{connect, local_data_root};
use super::error::JobError;
use super::request::{BackupRequest, JobContext};
use super::results::{ApplicationResult, BackupResult};
use crate::config::BackupSet;
use crate::docker::Engine;
use crate::docker::discover::{Discovery, discover};
use crate::docker::helper::sweep;
use crate::docker::mountpoint::same_root;
use crate::docker::ourselves::{ourselves, outside};
use crate::docker::quiesce::{LeftDown, Undisturbed, discover_undisturbed};
use crate::model::outcome::{ItemOutcome, RunStatus};
use crate::model::progress::Progress;
use crate::platform::control::Control;
use crate::platform::{clock, container, files};
use crate::repository::contract::{Repository, RepositoryError, SnapshotRequest, TAG_APPLICATION, TAG_PARTIAL, TAG_RUN, TAG_SET};
use crate::sources::plan::{PlannedApplication, plan};
use crate::sources::{EnginePaths, NeverRead};

/// What is said of swarms, to people and in each snapshot that has tasks.
const NO_SERVICES: &str =
    "of a swarm the tasks are saved, not the services, secrets and configs that they are made of: keep the files of these";

/// The Engine's usual data folder, for runs that do not talk to an Engine.
pub(super) const USUAL_DATA_ROOT: &str = "/var/lib/docker";

/// What all parts of one run share.
struct Run<'a> {
    context: &'a JobContext,
    request: &'a BackupRequest,
    control: &'a Control,
    progress: &'a Arc<dyn Progress>,
    /// The run's ULID.
    id: String,
    never_read: Arc<NeverRead>,
    /// None where only paths are saved.
    host: Option<Host>,
    settling: Pending,
}

/// The Docker host as it was when the run began.
struct Host {
    engine: Engine,
    discovery: Discovery,
    /// What dead runs have left down.
    left_down: LeftDown,
    /// Containers that this very program stands on, by id, and how.
    ourselves: BTreeMap<String, String>,
    /// Volumes that restores overwrite, or were interrupted while they did, and why they are not whole.
    half: BTreeMap<String, String>,
}

/// One application to be saved, with the set that chose it.
struct Unit {
    set: BackupSet,
    planned: PlannedApplication,
}

/// Backs up the sets of the request, one after the other.
///
/// # Errors
/// Nothing could be saved at all. Whatever was saved is in the result, also when other parts failed.
pub async fn run(
    context: &JobContext,
    request: BackupRequest,
    control: &Control,
    progress: Arc<dyn Progress>,
) -> Result<BackupResult, JobError> {
    let started = clock::monotonic();
    let mut outcome = Outcome::default();
    let needs_docker = request.sets.iter().any(|set| set.selection.needs_docker());
    if !request.dry_run {
        // Folders are known by what they are, so they must be there before anything is read.
        let folder = &context.directories.state;
        files::create_directories(folder, 0o700)
            .map_err(|source| JobError::Own { action: format!("make the folder {}", folder.display()), source })?;
        // Nobody needs a cache.
        let _ = files::create_directories(&context.directories.cache, 0o700);
    }
    let host = if needs_docker { look_at_host_if_needed(context, &request, &mut outcome).await? } else { None };
    let never_read = Arc::new(never_read(context, host.as_ref()).await?);
    let run = Run {
        context,
        request: &request,
        control,
        progress: &progress,
        id: ulid::Ulid::from_datetime(clock::now().into()).to_string(),
        never_read,
        host,
        settling: Pending::default(),
    };
    if !request.before_restore {
        outcome.warnings.extend(run.repository().and_then(|repository| ahead::ahead(repository, &context.config)));
    }
    let units = run.units(&mut outcome)?;
    if units.iter().any(|unit| unit.planned.application.containers.iter().any(|container| container.swarm_task)) {
        outcome.notes.push(NO_SERVICES.to_owned());
    }
    let single = outcome.applications.len() + units.len() + request.sets.iter().filter(|set| !set.selection.paths.is_empty()).count() == 1;
    let done = run.save_all(&units, single, &mut outcome).await;
    run.see_whether_they_stay(&mut outcome).await;
    match done {
        Err(error) if outcome.applications.iter().all(|application| application.failures.is_empty()) => return Err(error),
        // Of containers that are down is told in any case.
        Err(error) => outcome.warnings.push(sentence(&error)),
        Ok(()) => {}
    }
    Ok(BackupResult {
        run: run.id.clone(),
        status: outcome.status(control),
        dry_run: request.dry_run,
        applications: outcome.applications,
        warnings: outcome.warnings,
        notes: outcome.notes,
        repository: context.repository.as_ref().map(|repository| repository.info()),
        duration: started.elapsed(),
    })
}

impl Run<'_> {
    async fn save_all(&self, units: &[Unit], single: bool, outcome: &mut Outcome) -> Result<(), JobError> {
        if self.request.parallel > 1 && units.len() > 1 {
            tokio::task::block_in_place(|| together::back_up(self, units, outcome))?;
        } else {
            for unit in units {
                let name = &unit.planned.application.name;
                if !outcome.is_ended(name) {
                    outcome.take(name, application::back_up(self, unit).await, single)?;
                }
            }
        }
        for set in self.request.sets.iter().filter(|set| !set.selection.paths.is_empty()) {
            let name = paths::name(set);
            if !outcome.is_ended(&name) {
                let done = tokio::task::block_in_place(|| paths::back_up(self, set));
                outcome.take(&name, done.map_err(Unsaved::from), single)?;
            }
        }
        Ok(())
    }
}

/// Finds out whether a request can be tried at all: the Engine answers, and what is named is there. Writes nothing, and needs
/// no repository: so one is not made for a request that is then refused.
///
/// # Errors
/// What [`run`] would say before it saves anything.
pub async fn check(context: &JobContext, request: &BackupRequest) -> Result<(), JobError> {
    // One part that can be tried is enough: what fails does not cost the others.
    let (mut host, mut possible, mut failed) = (None, false, None);
    let mut tried = |done: Result<(), JobError>| match done {
        Ok(()) => possible = true,
        Err(error) => _ = failed.get_or_insert(error),
    };
    if request.sets.iter().any(|set| set.selection.needs_docker()) {
        match look_at_host(context, true, &mut Outcome::default()).await {
            Ok(found) => {
                for set in request.sets.iter().filter(|set| set.selection.needs_docker()) {
                    tried(plan(&found.discovery, set).map(drop).map_err(JobError::from));
                }
                host = Some(found);
            }
            Err(error) => tried(Err(error)),
        }
    }
    let never_read = Arc::new(never_read(context, host.as_ref()).await?);
    for set in request.sets.iter().filter(|set| !set.selection.paths.is_empty()) {
        tried(tokio::task::block_in_place(|| paths::open(context, set, &never_read)).map(drop));
    }
    match failed {
        Some(error) if !possible => Err(error),
        _ => Ok(()),
    }
}

fn has_paths(request: &BackupRequest) -> bool {
    request.sets.iter().any(|set| !set.selection.paths.is_empty())
}

/// The host, or none where its Engine does not answer and other things can be saved all the same.
async fn look_at_host_if_needed(context: &JobContext, request: &BackupRequest, outcome: &mut Outcome) -> Result<Option<Host>, JobError> {
    match look_at_host(context, request.dry_run, outcome).await {
        Ok(mut host) => {
            if request.before_restore {
                host.discovery.forget_labels();
            } else {
                // Under its other name it is nothing that anybody wants back.
                for id in super::restore::set_aside(&context.directories.state, host.engine.id())? {
                    host.discovery.hide(&id, "a restore replaces it just now");
                }
            }
            Ok(Some(host))
        }
        Err(error) if has_paths(request) => {
            outcome.without_engine(request, &error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn look_at_host(context: &JobContext, dry_run: bool, outcome: &mut Outcome) -> Result<Host, JobError> {
    let engine = connect(&context.config.docker).await?;
    if !dry_run {
        let (notes, warnings) = sweep_helpers(&engine).await;
        outcome.notes.extend(notes);
        outcome.warnings.extend(warnings);
    }
    let (discovery, left_down) = if dry_run {
        // It takes no lock and saves nothing.
        (discover(&engine).await?, LeftDown::default())
    } else {
        let Undisturbed { discovery, left_down, unknown } = discover_undisturbed(&engine, &context.directories.state).await?;
        outcome.warnings.extend(unknown.map(|error| {
            let error = sentence(&error);
            format!("which containers other runs keep still is not known, and what those do is saved as it is now: {error}")
        }));
        (discovery, left_down)
    };
    let ourselves = ourselves(&engine, &discovery, &container::clues()).await;
    let half = super::restore::half_restored(&context.directories.state, engine.id())?;
    // What a restore has stopped is saved, also by itself before it overwrites anything, as what it did.
    let left_down = left_down.and(super::restore::stopped(&context.directories.state, engine.id())?);
    Ok(Host { engine, discovery, left_down, ourselves, half })
}

/// Removes the helper containers that dead runs have left: what was done, and what could not be, in sentences.
pub(super) async fn sweep_helpers(engine: &Engine) -> (Vec<String>, Vec<String>) {
    match sweep(engine).await {
        Ok(swept) => {
            let note = |id: &String| format!("helper container {}, which a dead run had left, was removed", id.get(..12).unwrap_or(id));
            (swept.removed.iter().map(note).collect(), swept.failed)
        }
        Err(error) => (Vec::new(), vec![format!("helper containers of dead runs are not looked for: {}", sentence(&error))]),
    }
}

/// Our own folders and the Engine's are never swept up by a path that contains them.
async fn never_read(context: &JobContext, host: Option<&Host>) -> Result<NeverRead, JobError> {
    let engine = host.map(|host| &host.engine);
    let data_root = match engine {
        Some(engine) if engine.is_local() => Some(engine.data_root().to_owned()),
        Some(_) => None,
        // For paths alone no Engine is needed; but one that is there may have its data below them.
        None => local_data_root(&context.config.docker).await,
    };
    let data_root = data_root.unwrap_or_else(|| USUAL_DATA_ROOT.into());
    let own = our_own(context);
    match host {
        Some(host) => never_read_on(&own, &host.engine, &host.discovery, &data_root).await,
        None => Ok(NeverRead::of(own.into_iter().chain([data_root.as_path()]))?),
    }
}

/// The same where there is an Engine: `own` are our folders.
pub(super) async fn never_read_on(own: &[&Path], engine: &Engine, discovery: &Discovery, data_root: &Path) -> Result<NeverRead, JobError> {
    let never_read = NeverRead::of(own.iter().copied().chain([data_root]))?;
    Ok(never_read.with_engine_paths(engine_paths(own, engine, discovery).await))
}

/// What is never read, by its paths on the Engine's machine: what comes from there as a stream is known by nothing else.
async fn engine_paths(own: &[&Path], engine: &Engine, discovery: &Discovery) -> EnginePaths {
    let are_ours = same_root(engine).await;
    let own = own.iter().filter_map(|path| path.canonicalize().ok());
    let clues = container::clues();
    let own = if are_ours { own.collect() } else { own.flat_map(|path| outside(discovery, &clues, &path)).collect() };
    EnginePaths { data_root: Some(engine.data_root().to_owned()).filter(|root| root.is_absolute()), own, are_ours }
}

fn our_own(context: &JobContext) -> [&Path; 3] {
    [&context.repository_path, &context.directories.state, &context.directories.cache]
}

/// What a set's applications together are called in results.
pub fn name_of_applications(set: &BackupSet) -> String {
    set.name.as_deref().map_or_else(|| "applications".to_owned(), |name| format!("set {name}"))
}

/// A part that was not saved, and the containers that are down all the same.
struct Unsaved {
    error: Box<JobError>,
    down: Vec<String>,
}

impl From<JobError> for Unsaved {
    fn from(error: JobError) -> Self {
        Self { error: Box::new(error), down: Vec::new() }
    }
}

/// What has been done so far.
#[derive(Default)]
struct Outcome {
    applications: Vec<ApplicationResult>,
    warnings: Vec<String>,
    notes: Vec<String>,
    cancelled: bool,
    /// What failed will fail for the parts that come later, too.
    ended: bool,
}

impl Outcome {
    /// Takes how one part ended. One that failed does not keep the others from being saved, and what was done before it is
    /// told in any case.
    fn take(&mut self, name: &str, done: Result<ApplicationResult, Unsaved>, single: bool) -> Result<(), JobError> {
        let Unsaved { error, down } = match done {
            Ok(result) => {
                self.applications.push(result);
                return Ok(());
            }
            Err(unsaved) => unsaved,
        };
        // The parts that come after a cancel are not tried, and that is no failure of theirs.
        let quietly = self.cancelled || matches!(*error, JobError::Cancelled | JobError::Repository(RepositoryError::Cancelled));
        self.cancelled |= quietly;
        if quietly && down.is_empty() {
            return Ok(());
        }
        if !quietly {
            if self.applications.is_empty() && down.is_empty() && (single || ends_everything(&error)) {
                return Err(*error);
            }
            self.ended |= ends_everything(&error);
        }
        self.applications.push(ApplicationResult { failures: down, ..ApplicationResult::failed(name, sentence(&error)) });
        Ok(())
    }

    /// The sets of a host whose Engine does not answer are not saved.
    fn without_engine(&mut self, request: &BackupRequest, error: &JobError) {
        for set in request.sets.iter().filter(|set| set.selection.needs_docker()) {
            let name = name_of_applications(set);
            self.applications.push(ApplicationResult::failed(name, format!("nothing of Docker was saved: {}", sentence(error))));
        }
    }

    /// Whether nothing more is to be tried; this part then is one that was not saved.
    fn is_ended(&mut self, name: &str) -> bool {
        if self.ended {
            let reason = "it was not tried, as what failed before would fail again".to_owned();
            self.applications.push(ApplicationResult::failed(name, reason));
        }
        self.ended
    }

    fn status(&self, control: &Control) -> RunStatus {
        let warnings: u64 = self.applications.iter().map(ApplicationResult::warning_count).sum::<u64>() + self.warnings.len() as u64;
        let saved = self.applications.iter().any(|application| application.saved && !application.unwritable);
        let is_down = self.applications.iter().any(|application| !application.failures.is_empty());
        let skipped = |application: &ApplicationResult| {
            !application.items.is_empty() && application.items.iter().all(|item| matches!(item.outcome, ItemOutcome::Skipped))
        };
        if self.cancelled || control.is_cancelled() {
            RunStatus::Cancelled
        } else if is_down {
            RunStatus::Failed
        } else if !saved {
            if self.applications.iter().all(skipped) { RunStatus::Skipped } else { RunStatus::Failed }
        } else if warnings > 0 {
            RunStatus::Warnings(warnings)
        } else {
            RunStatus::Success
        }
    }
}

/// Whether what failed will fail for all other parts too.
fn ends_everything(error: &JobError) -> bool {
    matches!(error, JobError::Repository(error) if !matches!(error, RepositoryError::Source { .. } | RepositoryError::Skipped))
}

/// An error with its causes in one sentence.
pub(super) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

impl Run<'_> {
    /// The applications that the sets choose.
    fn units(&self, outcome: &mut Outcome) -> Result<Vec<Unit>, JobError> {
        let Some(host) = &self.host else { return Ok(Vec::new()) };
        outcome.warnings.extend(host.discovery.warnings.iter().cloned());
        let (mut units, mut failed) = (Vec::new(), None);
        for set in self.request.sets.iter().filter(|set| set.selection.needs_docker()) {
            let planned = match plan(&host.discovery, set) {
                Ok(planned) => planned,
                // Of several sets the others are saved.
                Err(error) if self.request.sets.len() > 1 => {
                    let name = name_of_applications(set);
                    outcome.applications.push(ApplicationResult::failed(name, sentence(&error)));
                    failed.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            outcome.warnings.extend(planned.warnings);
            outcome.notes.extend(planned.notes);
            units.extend(planned.applications.into_iter().map(|planned| Unit { set: set.clone(), planned }));
        }
        match failed {
            Some(error) if units.is_empty() && !has_paths(self.request) => Err(error.into()),
            _ => Ok(units),
        }
    }

    fn repository(&self) -> Option<&dyn Repository> {
        self.context.repository.as_deref()
    }

    /// What a snapshot of `paths` is to be.
    fn snapshot_request(&self, set: Option<&str>, application: Option<&str>, paths: Vec<String>, excludes: Vec<String>) -> SnapshotRequest {
        let config = &self.context.config;
        let mut tags = Vec::new();
        tags.extend(set.map(|set| format!("{TAG_SET}{set}")));
        tags.extend(application.map(|application| format!("{TAG_APPLICATION}{application}")));
        tags.push(format!("{TAG_RUN}{}", self.id));
        tags.extend(self.request.tags.iter().cloned());
        SnapshotRequest {
            time: clock::now(),
            host: if application.is_some() { config.host.clone() } else { config.machine.clone() },
            paths,
            tags,
            excludes,
            ignore_parent: self.request.full,
            parent: None,
            with_atime: false,
            dry_run: self.request.dry_run,
        }
    }
}

/// The tags that a snapshot gets at its end.
fn closing_tags(complete: bool) -> Vec<String> {
    if complete { Vec::new() } else { vec![TAG_PARTIAL.to_owned()] }
}

/// The filter of a set.
pub(super) fn filter_of(set: &BackupSet) -> Result<crate::sources::filter::Filter, JobError> {
    use crate::platform::environment;
    use crate::sources::filter::{Case, Filter};
    let mut filter = Filter::new();
    let lookup = |name: &str| environment::variable(name);
    for pattern in &set.filter.exclude {
        filter.exclude(pattern.as_bytes(), Case::Sensitive).map_err(crate::sources::SourceError::from)?;
    }
    for file in &set.filter.exclude_files {
        filter.exclude_file(file, Case::Sensitive, &lookup).map_err(crate::sources::SourceError::from)?;
    }
    for tag in &set.filter.exclude_if_present {
        filter.exclude_if_present(tag.as_bytes()).map_err(crate::sources::SourceError::from)?;
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::jobs::results::ItemResult;

    fn result(saved: bool, outcome: ItemOutcome) -> ApplicationResult {
        let items = vec![ItemResult { item: "volume v".to_owned(), outcome }];
        ApplicationResult { saved, items, ..ApplicationResult::new("a") }
    }

    fn failed() -> ItemOutcome {
        ItemOutcome::Failed { reason: "gone".to_owned() }
    }

    fn no_space() -> JobError {
        let source = std::io::ErrorKind::StorageFull.into();
        JobError::Repository(RepositoryError::Storage { action: "write", file: "pack".to_owned(), source })
    }

    fn outcome(applications: Vec<ApplicationResult>) -> Outcome {
        Outcome { applications, ..Outcome::default() }
    }

    #[test]
    fn a_run_that_saved_nothing_is_no_run_with_warnings() {
        let control = Control::new();
        for (applications, expected) in [
            (vec![result(false, failed())], RunStatus::Failed),
            (vec![result(false, ItemOutcome::Skipped)], RunStatus::Skipped),
            (vec![result(false, ItemOutcome::Skipped), result(false, failed())], RunStatus::Failed),
            (vec![result(true, failed())], RunStatus::Warnings(1)),
            (vec![result(false, failed()), result(true, failed())], RunStatus::Warnings(2)),
            (vec![ApplicationResult { saved: true, ..ApplicationResult::new("a") }], RunStatus::Success),
            (vec![ApplicationResult::failed("a", "gone".to_owned())], RunStatus::Failed),
            (vec![ApplicationResult { failures: vec!["web is down".to_owned()], ..result(true, failed()) }], RunStatus::Failed),
            (vec![ApplicationResult { unwritable: true, ..result(true, failed()) }], RunStatus::Failed),
            (vec![ApplicationResult { unwritable: true, ..result(true, failed()) }, result(true, failed())], RunStatus::Warnings(2)),
            (Vec::new(), RunStatus::Skipped),
        ] {
            assert_eq!(outcome(applications.clone()).status(&control), expected, "{applications:?}");
        }
        control.cancel();
        assert_eq!(outcome(vec![result(true, failed())]).status(&control), RunStatus::Cancelled);
    }

    #[test]
    fn an_error_hides_neither_what_was_saved_nor_what_is_down() {
        let mut run = Outcome::default();
        assert!(run.take("a", Err(no_space().into()), false).is_err(), "nothing was done");
        let mut run = outcome(vec![result(true, failed())]);
        run.take("b", Err(no_space().into()), false).unwrap();
        assert!(run.is_ended("c"));
        assert_eq!(run.applications.iter().filter(|application| application.saved).count(), 1);
        assert_eq!(run.applications.len(), 3);
        for error in [no_space(), JobError::Cancelled] {
            let mut run = Outcome::default();
            run.take("a", Err(Unsaved { error: Box::new(error), down: vec!["container web is down".to_owned()] }), true).unwrap();
            assert_eq!(run.applications[0].failures, ["container web is down"]);
        }
    }

    #[test]
    fn what_comes_after_a_cancel_is_no_failure() {
        let mut run = Outcome::default();
        run.take("a", Err(JobError::Cancelled.into()), false).unwrap();
        run.take("b", Err(no_space().into()), false).unwrap();
        assert!(run.applications.is_empty());
        assert_eq!(run.status(&Control::new()), RunStatus::Cancelled);
    }
}
