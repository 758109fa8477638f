//! Restoring applications to the Engine: the steps that `targets` planned, in their order, each application rolled back if
//! one of its steps fails.
//!
//! How containers, networks and volumes are made is `targets`' business; where their data comes from, the repository's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::{conflict, journal, step, untouched};
use crate::docker::Engine;
use crate::docker::helper::Owner;
use crate::jobs::backup::{engine_options, sentence, sweep_helpers};
use crate::jobs::error::JobError;
use crate::jobs::request::{JobContext, RestoreJob};
use crate::jobs::results::{Conflict, RestorePreview, RestoreStep, RestoredApplication};
use crate::model::application::{ApplicationDocument, DOCKER_ROOT, DOCUMENT_NAME};
use crate::model::entry::{Metadata, Sink};
use crate::model::progress::{Event, Progress};
use crate::model::text::printable;
use crate::platform::clock;
use crate::platform::control::Control;
use crate::repository::contract::{Problem, Repository, RepositoryError, RestoreRequest, Snapshot, SnapshotId};
use crate::targets::plan::{self, Items, PlannedStep, RestoreOptions, Step, StoredApplication};
use crate::targets::steps::Steps;
use crate::targets::tar::Missing;
use crate::targets::volume::{HelperTarget, Writing, writing_mode};

/// How long is waited for one container to be healthy.
const HEALTH_LIMIT: Duration = Duration::from_mins(2);

/// What goes back to the Engine.
pub(super) struct EngineRestore {
    engine: Engine,
    plan: plan::RestorePlan,
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
    let engine = Engine::connect(&engine_options(context)).await?;
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
    if !job.dry_run {
        let (notes, warnings) = sweep_helpers(&engine).await;
        preview.notes.extend(notes);
        preview.warnings.extend(warnings);
        preview.notes.extend(journal::clean(&engine, &context.directories.state).await?);
    }
    let selection = &job.selection;
    let options = RestoreOptions {
        items: Items { containers: selection.containers.clone(), volumes: selection.volumes.clone(), networks: selection.networks.clone() },
        renames: job.renames.iter().map(|rename| (rename.from.clone(), rename.to.clone())).collect(),
        as_new: job.as_new,
        no_start: job.no_start,
    };
    let plan = crate::targets::prepare(&engine, &stored, &options).await?;
    preview.steps.extend(plan.steps.iter().map(|planned| shown(&planned.step)));
    preview.conflicts.extend(plan.conflicts.iter().map(worded));
    preview.warnings.extend(plan.notes.iter().cloned());
    Ok(EngineRestore { engine, plan, snapshots: by_name })
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
    let mut steps = Steps::new(&restore.engine, HEALTH_LIMIT);
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
        let done = match control.checkpoint() {
            // Everything is there and runs: that nobody waits any more is no reason to remove it.
            Err(_) if matches!(planned.step, Step::WaitHealthy { .. }) => Ok(0),
            Err(_) => Err("it was cancelled".to_owned()),
            Ok(()) => take(repository, restore, planned, &mut steps, &owner, result, control, progress).await,
        };
        let recorded = match done {
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
            Err(reason) => roll_back(&mut steps, &planned.application, reason, result).await,
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

/// Whether the step belongs to putting everything in its place, and not to starting it.
fn is_content(step: &Step) -> bool {
    !matches!(step, Step::StartContainer { .. } | Step::WaitHealthy { .. } | Step::PauseContainer { .. })
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
        Step::FillVolume { name, path, .. } => {
            let Some(snapshot) = restore.snapshots.get(&planned.application) else { return Err("its snapshot is not known".to_owned()) };
            let label = format!("volume {}", printable(name.as_bytes()));
            progress.event(Event::ItemStarted { label: &label });
            let fill = Fill { repository, engine: &restore.engine, snapshot: &snapshot.id, path, name, owner, control, progress };
            let filled = fill.run(result).await;
            progress.event(Event::ItemFinished { label: &label });
            filled
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

async fn roll_back(steps: &mut Steps, application: &str, reason: String, result: &mut RestoredApplication) {
    let stays = steps.roll_back(application).await;
    result.started.clear();
    let rest = if stays.is_empty() {
        "everything that was made for it was removed again".to_owned()
    } else {
        let stays: Vec<String> = stays.iter().map(|(left, error)| format!("{} {} ({error})", left.kind.as_str(), left.name)).collect();
        format!("what was made for it was removed again, except {}", stays.join(", "))
    };
    result.failure = Some(format!("{reason}; {rest}"));
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
    owner: &'a Owner,
    control: &'a Control,
    progress: &'a Arc<dyn Progress>,
}

impl Fill<'_> {
    /// Fills it, and gives the number of entries that could not be restored.
    async fn run(&self, result: &mut RestoredApplication) -> Result<u64, String> {
        match writing_mode(self.engine, self.name).await.map_err(|error| sentence(&error))? {
            Writing::Direct(folder) => {
                let request = RestoreRequest {
                    snapshot: self.snapshot.clone(),
                    path: self.path.as_bytes().to_vec(),
                    destination: folder,
                    owners: true,
                    delete_extra: false,
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
            Writing::Helper { .. } => {
                let target = HelperTarget::open(self.engine, self.name, self.owner).await.map_err(|error| sentence(&error))?;
                let streamed = self.stream(&target, result);
                if let Err(error) = target.close().await {
                    result.warnings.push(format!(
                        "the helper container of volume {} stays until the next run: {}",
                        self.name,
                        sentence(&error)
                    ));
                }
                // A stream brings everything or fails.
                streamed.map(|()| 0)
            }
        }
    }

    fn stream(&self, target: &HelperTarget, result: &mut RestoredApplication) -> Result<(), String> {
        let mut sink = Counted { sink: target.sink(), files: 0, bytes: 0 };
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
        Step::UseNetwork { name: network } => step("use network", name(network), Some("it is there and equal".to_owned())),
        Step::CreateNetwork { network } => step("create network", name(&network.name), None),
        Step::UseVolume { name: volume } => step("use volume", name(volume), Some("it is there".to_owned())),
        Step::CreateVolume { name: volume, .. } => step("create volume", name(volume), None),
        Step::FillVolume { name: volume, bytes, .. } => {
            step("fill volume", name(volume), Some(crate::model::size::ByteSize(*bytes).to_string()))
        }
        Step::CreateContainer { container } => step("create container", name(&container.name), None),
        Step::StartContainer { name: container } => step("start container", name(container), None),
        Step::WaitHealthy { name: container } => step("wait until healthy", name(container), None),
        Step::PauseContainer { name: container } => step("pause container", name(container), None),
    }
}

/// A conflict as people read it.
fn worded(found: &plan::Conflict) -> Conflict {
    use plan::Conflict as C;
    const RENAME: &str = "Rename it with --rename OLD:NEW, restore everything under new names with --as-new, or remove what is there.";
    let (item, hint) = match found {
        C::ContainerExists { name, .. } => (format!("container {name}"), RENAME),
        C::VolumeExists { name, .. } => (format!("volume {name}"), RENAME),
        C::NetworkDiffers { name, .. } => (format!("network {name}"), RENAME),
        C::SubnetTaken { network, .. } => (format!("network {network}"), "Remove the network that has the addresses."),
        C::AddressTaken { container, .. } => (format!("container {container}"), "Stop what has the address."),
        C::PortTaken { container, .. } => (format!("container {container}"), "Stop what has the port."),
        C::ImageMissing { image, .. } => (format!("image {image}"), "Build or load the image first."),
        C::Missing { container, .. } => (format!("container {container}"), "Restore what it needs with it."),
        C::Unsupported { what, .. } => (what.clone(), "Install it on the Engine."),
        C::NoSpace { .. } => ("disk".to_owned(), "Make room on the Engine's disk."),
        C::NotSaved { what, .. } => (what.clone(), "Choose another snapshot; `bbackup snapshots` lists them."),
    };
    conflict(printable(item.as_bytes()), found.to_string(), hint)
}
