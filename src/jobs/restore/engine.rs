//! Restoring applications to the Engine: the steps that `targets` planned, in their order, each application rolled back if
//! one of its steps fails.
//!
//! How containers, networks and volumes are made is `targets`' business; where their data comes from, the repository's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::files::real;
use super::in_place::{InPlace, Wanted};
use super::{conflict, counter, journal, step, untouched};
use crate::docker::archive::{archive_put, image_load};
use crate::docker::helper::{MOUNT, Owner};
use crate::docker::mountpoint::same_root;
use crate::docker::{Engine, make};
use crate::jobs::backup::{sentence, sweep_helpers};
use crate::jobs::engine::connect;
use crate::jobs::error::JobError;
use crate::jobs::request::{JobContext, RestoreJob};
use crate::jobs::results::{Conflict, RestorePreview, RestoreStep, RestoredApplication};
use crate::model::application::{ApplicationDocument, DOCKER_ROOT, DOCUMENT_NAME};
use crate::model::entry::{Metadata, Sink};
use crate::model::progress::{Event, Progress};
use crate::model::text::printable;
use crate::platform::clock;
use crate::platform::control::Control;
use crate::repository::contract::{Problem, Repository, RepositoryError, RestoreRequest, Snapshot, SnapshotId, TAG_BEFORE_RESTORE};
use crate::targets::plan::{self, Items, PlannedStep, RestoreOptions, Step, StoredApplication};
use crate::targets::steps::{Limits, Steps};
use crate::targets::tar::Missing;
use crate::targets::volume::{HelperTarget, VolumeSink, Writing, writing_mode};

/// How long is waited for one container to be healthy.
const HEALTH_LIMIT: Duration = Duration::from_mins(2);

/// What goes back to the Engine.
pub(super) struct EngineRestore {
    engine: Engine,
    plan: plan::RestorePlan,
    limits: Limits,
    /// The snapshot of each application.
    snapshots: BTreeMap<String, Snapshot>,
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
    let mut by_name = BTreeMap::new();
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
        stored.push(application);
    }
    let mut held_down = BTreeSet::new();
    if !job.dry_run {
        let (notes, warnings) = sweep_helpers(&engine).await;
        preview.notes.extend(notes);
        preview.warnings.extend(warnings);
        let cleaned = journal::clean(&engine, &context.directories.state).await?;
        preview.notes.extend(cleaned.told);
        held_down = cleaned.held_down;
    }
    let selection = &job.selection;
    let options = RestoreOptions {
        items: Items { containers: selection.containers.clone(), volumes: selection.volumes.clone(), networks: selection.networks.clone() },
        renames: job.renames.iter().map(|rename| (rename.from.clone(), rename.to.clone())).collect(),
        as_new: job.as_new,
        no_start: job.no_start,
        in_place: job.in_place,
        save_first: job.save_first,
        held_down,
    };
    let plan = crate::targets::prepare(&engine, &stored, &options).await?;
    preview.steps.extend(plan.steps.iter().map(|planned| shown(&planned.step)));
    preview.conflicts.extend(plan.conflicts.iter().map(worded));
    preview.warnings.extend(plan.notes.iter().cloned());
    preview.notes.extend(plan.asked.iter().cloned());
    let limits = Limits { health: HEALTH_LIMIT, stop: context.config.docker.stop_timeout };
    Ok(EngineRestore { engine, plan, limits, snapshots: by_name })
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

/// Takes the steps. What fails costs its own application only.
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
    let mut steps = Steps::new(&restore.engine, restore.limits);
    let mut in_place = InPlace::default();
    let mut results: BTreeMap<&str, RestoredApplication> = BTreeMap::new();
    for (name, snapshot) in &restore.snapshots {
        results.insert(name, untouched(name.clone(), snapshot));
    }
    let run = ulid::Ulid::from_datetime(clock::now().into()).to_string();
    let owner = Owner::of_run(&run);
    let mut journal = journal::Journal::create(&context.directories.state, &run, &restore.engine)?;
    let started = clock::monotonic();
    // Applications whose data is not all there: a program that starts on half of its data may destroy the rest.
    let mut incomplete: BTreeSet<&str> = BTreeSet::new();
    for (number, planned) in restore.plan.steps.iter().enumerate() {
        let Some(result) = results.get_mut(planned.application.as_str()) else { continue };
        if result.failure.is_some() {
            continue;
        }
        if !is_content(&planned.step) && incomplete.contains(planned.application.as_str()) {
            if let Step::StartContainer { name } = &planned.step {
                let name = printable(name.as_bytes());
                result.warnings.push(format!("container {name} is not started, as not all of its application's data could be restored"));
            }
            continue;
        }
        progress.event(Event::Phase(&planned.step.to_string()));
        let saved = match &planned.step {
            Step::FillVolume { name, .. } => in_place.saved(&planned.application, name),
            _ => None,
        };
        let written = journal.before(planned, saved).map_err(|error| sentence(&error));
        let done = match control.checkpoint() {
            _ if written.is_err() => written.map(|()| 0),
            // What was stopped is not left down, and what was replaced not left over.
            _ if is_clean_up(&planned.step) => Ok(clean_up(&mut steps, planned, result).await),
            // Everything is there and runs: that nobody waits any more is no reason to remove it.
            Err(_) if matches!(planned.step, Step::WaitHealthy { .. }) => Ok(0),
            Err(_) => Err("it was cancelled".to_owned()),
            Ok(()) => match &planned.step {
                Step::SaveFirst { containers, volumes, paths } => {
                    let wanted = Wanted { containers, volumes, paths };
                    in_place.save(context, &planned.application, wanted, result, control, progress).await.map(|()| 0)
                }
                step => {
                    if let Step::FillVolume { name, replace: true, .. } = step {
                        in_place.overwriting(&planned.application, name);
                    }
                    take(repository, restore, planned, &mut steps, &owner, result, control, progress).await
                }
            },
        };
        let recorded = match done {
            Ok(lost) if lost > 0 && steps.has_moved(&planned.application) => {
                Err(format!("{} of {} could not be restored", entries(lost), planned.step))
            }
            Ok(lost) => {
                if lost > 0 {
                    incomplete.insert(&planned.application);
                }
                record(&mut journal, &steps, planned, &restore.plan.steps[number + 1..]).await
            }
            Err(reason) => Err(reason),
        };
        match recorded {
            Ok(()) => result.steps.push(shown(&planned.step)),
            Err(reason) => {
                let refill = Refill { repository, owner: &owner, progress };
                roll_back(&mut steps, &mut in_place, restore, &refill, &planned.application, reason, result).await;
                let closed = if result.failure.is_some() { journal.done(&planned.application) } else { Ok(()) };
                if let Err(error) = closed {
                    result.warnings.push(sentence(&error));
                }
            }
        }
        result.duration = started.elapsed();
    }
    journal.close();
    Ok(results.into_values().collect())
}

/// Writes down what the step has made, and whether its application is then complete or done.
async fn record(journal: &mut journal::Journal, steps: &Steps, planned: &PlannedStep, later: &[PlannedStep]) -> Result<(), String> {
    let application = &planned.application;
    if is_made(&planned.step)
        && let Some(left) = steps.left(application).last()
    {
        journal.made(left).await.map_err(|error| sentence(&error))?;
    }
    let mut later = later.iter().filter(|later| later.application == *application).map(|later| &later.step).peekable();
    let is_last = later.peek().is_none();
    if is_content(&planned.step) && !later.any(is_content) {
        journal.complete(application).map_err(|error| sentence(&error))?;
    }
    if is_last {
        journal.done(application).map_err(|error| sentence(&error))?;
    }
    Ok(())
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

/// Whether the step ends a restore in place that has succeeded.
fn is_clean_up(step: &Step) -> bool {
    matches!(step, Step::RemoveAside { .. } | Step::StartAgain { .. })
}

/// Everything is in its place: what fails now is a warning.
async fn clean_up(steps: &mut Steps, planned: &PlannedStep, result: &mut RestoredApplication) -> u64 {
    if let Err(error) = steps.take(planned).await {
        result.warnings.push(sentence(&error));
    }
    0
}

/// Whether the step belongs to putting everything in its place, and not to starting it.
fn is_content(step: &Step) -> bool {
    !matches!(step, Step::StartContainer { .. } | Step::WaitHealthy { .. } | Step::PauseContainer { .. }) && !is_clean_up(step)
}

/// Whether the step makes something that was not there.
fn is_made(step: &Step) -> bool {
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
    match &planned.step {
        Step::FillVolume { name, path, replace, .. } => {
            let Some(snapshot) = restore.snapshots.get(&planned.application) else { return Err("its snapshot is not known".to_owned()) };
            let label = format!("volume {}", printable(name.as_bytes()));
            progress.event(Event::ItemStarted { label: &label });
            let fill = Fill {
                repository,
                engine: &restore.engine,
                snapshot: &snapshot.id,
                path,
                name,
                replace: *replace,
                owner,
                control,
                progress,
            };
            let filled = fill.run(result).await;
            progress.event(Event::ItemFinished { label: &label });
            filled
        }
        Step::FillPath { path, from, .. } => {
            let Some(snapshot) = restore.snapshots.get(&planned.application) else { return Err("its snapshot is not known".to_owned()) };
            let label = format!("path {}", printable(path.as_bytes()));
            progress.event(Event::ItemStarted { label: &label });
            let fill = Fill {
                repository,
                engine: &restore.engine,
                snapshot: &snapshot.id,
                path: from,
                name: path,
                replace: false,
                owner,
                control,
                progress,
            };
            let filled = fill.run_path(result).await;
            progress.event(Event::ItemFinished { label: &label });
            filled
        }
        Step::LoadImage { reference, id, from, .. } => {
            let Some(snapshot) = restore.snapshots.get(&planned.application) else { return Err("its snapshot is not known".to_owned()) };
            let fill = Fill {
                repository,
                engine: &restore.engine,
                snapshot: &snapshot.id,
                path: from,
                name: reference,
                owner,
                replace: false,
                control,
                progress,
            };
            fill.load_image(id, result).await.map(|()| 0)
        }
        Step::FillLayer { name, from, .. } => {
            let Some(snapshot) = restore.snapshots.get(&planned.application) else { return Err("its snapshot is not known".to_owned()) };
            let fill = Fill {
                repository,
                engine: &restore.engine,
                snapshot: &snapshot.id,
                path: from,
                name,
                owner,
                replace: false,
                control,
                progress,
            };
            fill.stream(VolumeSink::new(archive_put(&restore.engine, name, "/"), b""), result).map(|()| 0)
        }
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

/// How volumes get back what was in them.
struct Refill<'a> {
    repository: &'a dyn Repository,
    owner: &'a Owner,
    progress: &'a Arc<dyn Progress>,
}

impl Refill<'_> {
    async fn run(&self, engine: &Engine, snapshot: &SnapshotId, path: &str, name: &str) -> Result<(), String> {
        // Not the run's own: what was cancelled is to be as it was all the same.
        let control = Control::new();
        let Self { repository, owner, progress } = *self;
        let fill = Fill { repository, engine, snapshot, path, name, replace: true, owner, control: &control, progress };
        let mut counted = counter(snapshot);
        match fill.run(&mut counted).await? {
            0 => Ok(()),
            lost => Err(format!("{} could not be written", entries(lost))),
        }
    }
}

async fn roll_back(
    steps: &mut Steps,
    in_place: &mut InPlace,
    restore: &EngineRestore,
    refill: &Refill<'_>,
    application: &str,
    reason: String,
    result: &mut RestoredApplication,
) {
    let stays = steps.roll_back(application).await;
    result.started.clear();
    let rest = if stays.is_empty() {
        "everything that was made for it was removed again".to_owned()
    } else {
        let stays: Vec<String> = stays.iter().map(|(left, error)| format!("{} {} ({error})", left.kind.as_str(), left.name)).collect();
        format!("what was made for it was removed again, except {}", stays.join(", "))
    };
    let refill = async |engine: &Engine, snapshot: &SnapshotId, path: &str, name: &str| refill.run(engine, snapshot, path, name).await;
    let back = in_place.put_back(steps, application, &restore.engine, refill).await;
    let back = back.map_or_else(String::new, |back| format!("; {back}"));
    result.failure = Some(format!("{reason}; {rest}{back}"));
}

/// One volume to be filled.
struct Fill<'a> {
    repository: &'a dyn Repository,
    engine: &'a Engine,
    snapshot: &'a SnapshotId,
    /// Where its files are in the snapshot.
    path: &'a str,
    /// Its name on the Engine.
    name: &'a str,
    /// Whether what is in it and not in the snapshot is removed.
    replace: bool,
    owner: &'a Owner,
    control: &'a Control,
    progress: &'a Arc<dyn Progress>,
}

impl Fill<'_> {
    /// Fills it, and gives the number of entries that could not be restored.
    async fn run(&self, result: &mut RestoredApplication) -> Result<u64, String> {
        match writing_mode(self.engine, self.name).await.map_err(|error| sentence(&error))? {
            Writing::Direct(folder) => self.write(folder, result),
            Writing::Helper { reason } if self.replace => Err(format!("what is in volume {} cannot be replaced: {reason}", self.name)),
            Writing::Helper { .. } => {
                let target = HelperTarget::open(self.engine, self.name, self.owner).await.map_err(|error| sentence(&error))?;
                self.through(target, target_name(None), result).await
            }
        }
    }

    /// Fills a path of the Engine's machine, and gives the number of entries that could not be restored.
    async fn run_path(&self, result: &mut RestoredApplication) -> Result<u64, String> {
        if same_root(self.engine).await {
            let place = real(Path::new(self.name));
            // Folders above it may be gone too.
            return match self.write(place, result) {
                Err(reason) => Err(format!("{reason}; what was restored to {} stays there", printable(self.name.as_bytes()))),
                filled => filled,
            };
        }
        let mut is_folder = true;
        let looked = self.repository.list(self.snapshot, self.path.as_bytes(), false, &mut |entry| {
            is_folder = entry.metadata.is_dir();
            ControlFlow::Break(())
        });
        looked.map_err(|error| sentence(&error))?;
        // A file is written through the folder that it lies in: mounted itself it could not be replaced.
        let (folder, file) = match self.name.rsplit_once('/') {
            Some((folder, file)) if !is_folder && !folder.is_empty() => (folder, Some(file)),
            _ => (self.name, None),
        };
        let target = HelperTarget::for_folder(self.engine, folder, self.owner).await.map_err(|error| sentence(&error))?;
        self.through(target, target_name(file), result).await
    }

    fn write(&self, destination: PathBuf, result: &mut RestoredApplication) -> Result<u64, String> {
        let request = RestoreRequest {
            snapshot: self.snapshot.clone(),
            path: self.path.as_bytes().to_vec(),
            destination,
            owners: crate::platform::host::uid() == 0,
            delete_extra: self.replace,
            include: Vec::new(),
            dry_run: false,
        };
        let restored = tokio::task::block_in_place(|| self.repository.restore(&request, self.control, Arc::clone(self.progress)));
        let summary = restored.map_err(|error| sentence(&error))?;
        result.files_restored += summary.files_restored;
        result.files_unchanged += summary.files_unchanged;
        result.bytes_restored += summary.bytes_restored;
        result.problems.extend(summary.problems);
        Ok(summary.entries_lost)
    }

    async fn through(&self, target: HelperTarget, top: Vec<u8>, result: &mut RestoredApplication) -> Result<u64, String> {
        let streamed = self.stream(target.sink(&top), result);
        if let Err(error) = target.close().await {
            result.warnings.push(format!("the helper container of {} stays until the next run: {}", self.name, sentence(&error)));
        }
        // A stream brings everything or fails.
        streamed.map(|()| 0)
    }

    /// Has the Engine load an image, and makes sure that it has its name.
    async fn load_image(&self, id: &str, result: &mut RestoredApplication) -> Result<(), String> {
        self.stream(VolumeSink::new(image_load(self.engine), b""), result)?;
        if !id.contains(self.name) {
            // An image that was saved by its id brings no name; an Engine that gives images other ids has the name from the archive.
            match make::tag(self.engine, id, self.name).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(sentence(&error)),
            }
        }
        Ok(())
    }

    fn stream(&self, sink: VolumeSink, result: &mut RestoredApplication) -> Result<(), String> {
        let mut sink = Counted { sink, files: 0, bytes: 0 };
        let streamed = tokio::task::block_in_place(|| {
            self.repository.stream(self.snapshot, self.path.as_bytes(), &mut sink, self.control, Arc::clone(self.progress))
        });
        streamed.map_err(|error| sentence(&error))?;
        result.files_restored += sink.files;
        result.bytes_restored += sink.bytes;
        for left_out in sink.sink.left_out() {
            let path = format!("{}/{}", self.path, printable(&left_out.path));
            result.problems.push(Problem { path, message: missing(&left_out.what) });
        }
        Ok(())
    }
}

/// Where in a helper the root of what is restored goes: to what it mounts, or to a file in that.
fn target_name(file: Option<&str>) -> Vec<u8> {
    match file {
        Some(file) => [MOUNT.as_bytes(), b"/", file.as_bytes()].concat(),
        None => MOUNT.as_bytes().to_vec(),
    }
}

/// What a stream to the Engine cannot hold, for people.
fn missing(what: &Missing) -> String {
    match what {
        Missing::Socket => "a socket cannot be restored through a helper container".to_owned(),
        Missing::Xattr(name) => format!("the extended attribute {} cannot be restored through a helper container", printable(name)),
    }
}

/// Counts what goes by.
struct Counted<S> {
    sink: S,
    files: u64,
    bytes: u64,
}

impl<S: Sink> Sink for Counted<S> {
    fn begin(&mut self, path: &[u8], metadata: &Metadata, link_to: Option<&[u8]>) -> std::io::Result<()> {
        self.files += u64::from(metadata.is_file() && link_to.is_none());
        self.sink.begin(path, metadata, link_to)
    }

    fn data(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.sink.data(bytes)
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.sink.end()
    }

    fn finish(&mut self) -> std::io::Result<()> {
        self.sink.finish()
    }
}

/// A step as people read it.
fn shown(planned: &Step) -> RestoreStep {
    let name = |name: &str| printable(name.as_bytes());
    match planned {
        Step::PullImage { reference, .. } => step("pull image", name(reference), None),
        Step::LoadImage { reference, bytes, .. } => {
            step("load image", name(reference), Some(crate::model::size::ByteSize(*bytes).to_string()))
        }
        Step::FillLayer { name: container, bytes, .. } => {
            step("fill layer", name(container), Some(crate::model::size::ByteSize(*bytes).to_string()))
        }
        Step::UseNetwork { name: network } => step("use network", name(network), Some("it is there and equal".to_owned())),
        Step::CreateNetwork { network } => step("create network", name(&network.name), None),
        Step::UseVolume { name: volume } => step("use volume", name(volume), Some("it is there".to_owned())),
        Step::CreateVolume { name: volume, .. } => step("create volume", name(volume), None),
        Step::FillVolume { name: volume, bytes, replace, .. } => step(
            if *replace { "overwrite volume" } else { "fill volume" },
            name(volume),
            Some(crate::model::size::ByteSize(*bytes).to_string()),
        ),
        Step::FillPath { path, bytes, .. } => step("restore files", name(path), Some(crate::model::size::ByteSize(*bytes).to_string())),
        Step::StopContainer { name: container, .. } => step("stop container", name(container), None),
        Step::SaveFirst { containers, volumes, paths } => {
            let all = containers.iter().chain(volumes).chain(paths).map(|one| name(one)).collect::<Vec<_>>();
            step("save first", all.join(", "), Some(format!("as a snapshot with the tag {TAG_BEFORE_RESTORE}")))
        }
        Step::SetAside { name: container, aside, .. } => step("set aside", name(container), Some(format!("as {}", name(aside)))),
        Step::RemoveAside { name: container, .. } => step("remove container", name(container), Some("it was replaced".to_owned())),
        Step::StartAgain { name: container, .. } => step("start again", name(container), None),
        Step::CreateContainer { container } => step("create container", name(&container.name), None),
        Step::StartContainer { name: container } => step("start container", name(container), None),
        Step::WaitHealthy { name: container } => step("wait until healthy", name(container), None),
        Step::PauseContainer { name: container } => step("pause container", name(container), None),
    }
}

/// A conflict as people read it.
fn worded(found: &plan::Conflict) -> Conflict {
    use plan::Conflict as C;
    const RENAME: &str =
        "Replace it with --in-place, rename it with --rename OLD:NEW, restore under new names with --as-new, or remove what is there.";
    let (item, hint) = match found {
        C::ContainerExists { name, .. } => (format!("container {name}"), RENAME),
        C::VolumeExists { name, .. } => (format!("volume {name}"), RENAME),
        C::NetworkDiffers { name, .. } => (format!("network {name}"), RENAME),
        C::PathExists { path, .. } => (
            format!("path {path}"),
            "Overwrite it with --in-place, use it as it is by naming what to restore (--container), or move it away.",
        ),
        C::SubnetTaken { network, .. } => {
            (format!("network {network}"), "Remove the network that has the addresses, or let the Engine choose others with --as-new.")
        }
        C::AddressTaken { container, .. } => (format!("container {container}"), "Stop what has the address."),
        C::PortTaken { container, .. } => {
            (format!("container {container}"), "Stop what has the port, or give another one with --rename OLD:NEW (8080:18080).")
        }
        C::ImageMissing { image, .. } => (format!("image {image}"), "Build or load the image first."),
        C::Missing { container, .. } => (format!("container {container}"), "Restore what it needs with it."),
        C::Unsupported { what, .. } => (what.clone(), "Install it on the Engine."),
        C::EngineTooOld { what, .. } => (what.clone(), "Restore it to a newer Engine."),
        C::NoSpace { .. } => ("disk".to_owned(), "Make room on the Engine's disk."),
        C::NotSaved { what, .. } => (what.clone(), "Choose another snapshot; `bbackup snapshots` lists them."),
    };
    conflict(printable(item.as_bytes()), found.to_string(), hint)
}
