//! A backup run: each application and each set's paths becomes one snapshot; all of one run share a tag.
//!
//! What is there is found out by `docker` and `sources`, how it is stored is the repository's business. Here is the order of
//! things, and what counts as a success.

mod application;
mod counting;
mod estimate;
mod paths;
mod quiet;

use std::sync::Arc;

use super::error::JobError;
use super::request::{BackupRequest, JobContext};
use super::results::{ApplicationResult, BackupResult};
use crate::config::BackupSet;
use crate::docker::discover::{Discovery, discover};
use crate::docker::{Engine, EngineOptions};
use crate::model::outcome::RunStatus;
use crate::model::progress::Progress;
use crate::platform::control::Control;
use crate::platform::{clock, container};
use crate::repository::contract::{Repository, RepositoryError, SnapshotRequest, TAG_APPLICATION, TAG_PARTIAL, TAG_RUN, TAG_SET};
use crate::sources::NeverRead;
use crate::sources::plan::{PlannedApplication, plan};

/// The Engine's usual data folder, for runs that do not talk to an Engine.
const USUAL_DATA_ROOT: &str = "/var/lib/docker";

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
}

/// The Docker host as it was when the run began.
struct Host {
    engine: Engine,
    discovery: Discovery,
    /// The id of the container that this very program runs in.
    own_container: Option<String>,
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
    let host = if request.sets.iter().any(|set| set.selection.needs_docker()) { Some(look_at_host(context).await?) } else { None };
    let run = Run {
        context,
        request: &request,
        control,
        progress: &progress,
        id: ulid::Ulid::from_datetime(clock::now().into()).to_string(),
        never_read: Arc::new(never_read(context, host.as_ref().map(|host| &host.engine))?),
        host,
    };
    let mut outcome = Outcome::default();
    let units = run.units(&mut outcome)?;
    let single = units.len() + request.sets.iter().filter(|set| !set.selection.paths.is_empty()).count() == 1;
    for unit in &units {
        let done = application::back_up(&run, unit).await;
        outcome.take(&unit.planned.application.name, done, single)?;
    }
    for set in request.sets.iter().filter(|set| !set.selection.paths.is_empty()) {
        let name = paths::name(set);
        let done = tokio::task::block_in_place(|| paths::back_up(&run, set));
        outcome.take(&name, done, single)?;
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

async fn look_at_host(context: &JobContext) -> Result<Host, JobError> {
    let engine = Engine::connect(&engine_options(context)).await?;
    let discovery = discover(&engine).await?;
    Ok(Host { engine, discovery, own_container: container::own_id() })
}

/// How the Engine of a configuration is reached.
pub(super) fn engine_options(context: &JobContext) -> EngineOptions {
    let docker = &context.config.docker;
    let mut options = EngineOptions { host: docker.host.clone(), ..EngineOptions::default() };
    options.timeouts.request = docker.timeout;
    options
}

/// Our own folders and the Engine's are never swept up by a path that contains them.
fn never_read(context: &JobContext, engine: Option<&Engine>) -> Result<NeverRead, JobError> {
    let directories = &context.directories;
    let data_root = match engine {
        Some(engine) if engine.is_local() => engine.data_root(),
        _ => std::path::Path::new(USUAL_DATA_ROOT),
    };
    Ok(NeverRead::of([context.repository_path.as_path(), &directories.state, &directories.cache, data_root])?)
}

/// What has been done so far.
#[derive(Default)]
struct Outcome {
    applications: Vec<ApplicationResult>,
    warnings: Vec<String>,
    notes: Vec<String>,
    /// Parts that were not saved at all.
    failed: u64,
    cancelled: bool,
}

impl Outcome {
    /// Takes how one part ended. One that failed does not keep the others from being saved.
    fn take(&mut self, name: &str, done: Result<ApplicationResult, JobError>, single: bool) -> Result<(), JobError> {
        match done {
            Ok(result) => self.applications.push(result),
            Err(JobError::Cancelled | JobError::Repository(RepositoryError::Cancelled)) => self.cancelled = true,
            // Cancelled before: the parts that come later are not tried, and that is no failure of theirs.
            Err(_) if self.cancelled => {}
            Err(error) if single || ends_everything(&error) => return Err(error),
            Err(error) => {
                self.failed += 1;
                self.applications.push(ApplicationResult::failed(name, sentence(&error)));
            }
        }
        Ok(())
    }

    fn status(&self, control: &Control) -> RunStatus {
        let warnings: u64 = self.applications.iter().map(ApplicationResult::warning_count).sum::<u64>() + self.warnings.len() as u64;
        let saved = self.applications.iter().any(|application| application.saved);
        if self.cancelled || control.is_cancelled() {
            RunStatus::Cancelled
        } else if self.failed > 0 && !saved {
            RunStatus::Failed
        } else if self.failed + warnings > 0 {
            RunStatus::Warnings(self.failed + warnings)
        } else if self.applications.is_empty() {
            RunStatus::Skipped
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
        let mut units = Vec::new();
        for set in self.request.sets.iter().filter(|set| set.selection.needs_docker()) {
            let planned = plan(&host.discovery, set)?;
            outcome.warnings.extend(planned.warnings);
            outcome.notes.extend(planned.notes);
            units.extend(planned.applications.into_iter().map(|planned| Unit { set: set.clone(), planned }));
        }
        Ok(units)
    }

    fn repository(&self) -> Option<&dyn Repository> {
        self.context.repository.as_deref()
    }

    /// What a snapshot of `paths` is to be.
    fn snapshot_request(&self, set: Option<&str>, application: Option<&str>, paths: Vec<String>, excludes: Vec<String>) -> SnapshotRequest {
        let mut tags = Vec::new();
        tags.extend(set.map(|set| format!("{TAG_SET}{set}")));
        tags.extend(application.map(|application| format!("{TAG_APPLICATION}{application}")));
        tags.push(format!("{TAG_RUN}{}", self.id));
        tags.extend(self.request.tags.iter().cloned());
        SnapshotRequest {
            time: clock::now(),
            host: self.context.config.host.clone(),
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
fn filter_of(set: &BackupSet) -> Result<crate::sources::filter::Filter, JobError> {
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
