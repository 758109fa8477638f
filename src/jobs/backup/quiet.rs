//! Keeping an application's containers still while its volumes are read: who it concerns, and what came of it.
//!
//! How it is done, and undone after a crash, is `docker/quiesce`'s business.

mod services;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use self::services::Services;
use super::{Host, Run, Unit, sentence};
use crate::config::SetHook;
use crate::docker::journal::{Action, Entry};
use crate::docker::labels::Policy;
use crate::docker::quiesce::{
    ContainerHooks, Meanwhile, NeededBy, Place, Planned, Quiesce, QuiesceError, QuiesceOptions, QuiescePlan, QuiesceRequest, Release,
    Watch, Wishes, Writer, decide, held_elsewhere, scaled_elsewhere,
};
use crate::jobs::error::JobError;
use crate::jobs::restore::keeps_stopped;
use crate::model::application::{Consistency, Container, ItemKind, QuiesceRecord, Status};
use crate::model::hook::{Hook, HookRecord};
use crate::model::progress::Event;

/// What came of keeping containers still.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// What was done to whom.
    pub(super) records: Vec<QuiesceRecord>,
    /// The commands that ran in containers.
    pub(super) hooks: Vec<HookRecord>,
    /// From the first stop to the last start; none where nothing was stopped.
    pub(super) downtime: Option<Duration>,
    /// Containers that are down because of us: nothing is worse.
    pub(super) not_started: Vec<String>,
    /// What somebody should look at.
    pub(super) warnings: Vec<String>,
    /// What is worth knowing.
    pub(super) notes: Vec<String>,
    /// What was not left alone while it was read, and by whom.
    pub(super) disturbed: Vec<Writer>,
    /// Of what nobody can tell whether it was left alone, and why.
    pub(super) unknown: Option<(Vec<Place>, String)>,
    /// Why the containers could not be kept still.
    pub(super) failure: Option<String>,
    /// Whether that is because our own state folder cannot be used.
    pub(super) unwritable: bool,
}

/// Containers that are kept still, or need not be.
pub(super) struct Hold {
    quiesce: Option<Quiesce>,
    notes: Vec<String>,
    warnings: Vec<String>,
    /// Ids of containers that are known to write meanwhile; none where nobody has to keep still.
    known_writers: Option<BTreeSet<String>>,
    /// To see who writes all the same; none where nobody has to keep still.
    watch: Option<Watch>,
}

/// Keeps still what writes to the volumes of the unit, after its hooks. The inner error says why that was not possible, and
/// how what had been stopped before was brought back.
pub(super) async fn begin(run: &Run<'_>, unit: &Unit) -> Result<Result<Hold, Quiet>, JobError> {
    let Some(host) = &run.host else { return Ok(Ok(Hold::of_nobody(Vec::new()))) };
    let state = &run.context.directories.state;
    // A dry run takes no lock, so it tells of those that others hold as if they did not run.
    let held = if run.request.dry_run { Ok(Vec::new()) } else { held_elsewhere(state, &host.engine).await };
    let held = match held {
        Ok(held) => held,
        Err(error) => return Ok(Err(Quiet { failure: Some(not_still(&error)), unwritable: true, ..Quiet::default() })),
    };
    let (concerned, bystanders) = concerned(host, unit);
    let services = services::ask(run, host, &concerned).await;
    let (request, plan) = plan(host, unit, (concerned, bystanders), held, services);
    if run.request.dry_run {
        return Ok(Ok(Hold { warnings: plan.not_run.clone(), ..Hold::of_nobody(foretold(&plan)) }));
    }
    let known_writers = known_writers(&request, &plan, unit.set.consistency);
    let warnings: Vec<String> = unseen(&plan).chain(plan.not_run.iter().cloned()).collect();
    if plan.planned.is_empty() && plan.hooks.is_empty() {
        let watch = watch(host, unit, known_writers.as_ref()).await;
        return Ok(Ok(Hold { quiesce: None, notes: plan.notes, warnings, known_writers, watch }));
    }
    let foreseen: Vec<String> = plan.notes.iter().cloned().chain(plan.planned.iter().filter_map(Planned::told)).collect();
    let (folder, engine) = (state.clone(), host.engine.id().to_owned());
    let needed_by = NeededBy(Arc::new(move |entry: &Entry| keeps_stopped(&folder, &engine, entry)));
    let stop_timeout = run.context.config.docker.stop_timeout;
    let options = QuiesceOptions { stop_timeout, needed_by: Some(needed_by), ..QuiesceOptions::default() };
    match Quiesce::begin(&host.engine, state, &run.id, plan, options, run.control, &**run.progress).await {
        Ok(quiesce) => {
            let notes = quiesce.notes().to_vec();
            let watch = watch(host, unit, known_writers.as_ref()).await;
            Ok(Ok(Hold { quiesce: Some(quiesce), notes, warnings, known_writers, watch }))
        }
        Err(failed) => {
            let notes = foreseen.into_iter().filter(|note| failed.release.notes.contains(note)).collect();
            let mut quiet = result_of(failed.release, notes);
            quiet.warnings.extend(warnings);
            if matches!(failed.error, QuiesceError::Cancelled) && quiet.not_started.is_empty() {
                return Err(JobError::Cancelled);
            }
            quiet.unwritable = matches!(failed.error, QuiesceError::Journal(_));
            quiet.failure = Some(match &failed.error {
                // What was to be dumped is not, and nothing was tried to keep anybody still.
                error @ QuiesceError::Hook { .. } => format!("it was not read because {}", sentence(error)),
                error => not_still(error),
            });
            Ok(Err(quiet))
        }
    }
}

/// What is missing because another run keeps it from being seen.
fn unseen(plan: &QuiescePlan) -> impl Iterator<Item = String> {
    let without_tasks = plan.planned.iter().filter(|planned| planned.service.as_ref().is_some_and(|service| service.tasks.is_empty()));
    let sentence =
        |name: &str| format!("another run of bbackup has scaled service {name} to 0: its tasks are not seen, and not saved here");
    without_tasks.map(move |planned| sentence(&planned.name))
}

fn not_still(error: &dyn std::error::Error) -> String {
    format!("it was not read because its containers could not be kept still: {}", sentence(error))
}

/// The containers of the unit and those that write to what it saves, and all others.
fn concerned<'a>(host: &'a Host, unit: &Unit) -> (Vec<&'a Container>, Vec<&'a Container>) {
    let writers = unit.planned.writers();
    let own: BTreeSet<&str> = unit.planned.application.containers.iter().map(|container| container.name.as_str()).collect();
    let is_concerned = |container: &&Container| own.contains(container.name.as_str()) || writers.contains(container.name.as_str());
    host.discovery.containers().partition(is_concerned)
}

/// What is done to whom for the unit.
fn plan(
    host: &Host,
    unit: &Unit,
    (concerned, bystanders): (Vec<&Container>, Vec<&Container>),
    held_elsewhere: Vec<Entry>,
    services: Services,
) -> (QuiesceRequest, QuiescePlan) {
    let writers = unit.planned.writers();
    let policy = |container: &Container| host.discovery.policy(&container.name).cloned().unwrap_or_default();
    let wishes = |container: &&Container| {
        let policy = policy(container);
        let of_service = || services.consistency.get(container.swarm_service()?.id).copied();
        let wishes =
            Wishes { consistency: policy.consistency.or_else(of_service), stop_timeout: policy.stop_timeout, priority: policy.priority };
        (container.name.clone(), wishes)
    };
    let hooks = |container: &&Container| Some((container.name.clone(), hooks_of(&container.name, policy(container), unit)?));
    let in_memory = host.discovery.volumes().filter(|volume| volume.is_volatile());
    let request = QuiesceRequest {
        wishes: concerned.iter().map(wishes).collect(),
        hooks: concerned.iter().filter_map(hooks).collect(),
        volatile_volumes: in_memory.map(|volume| volume.name.clone()).collect(),
        protected: host.ourselves.clone(),
        held_elsewhere: held_elsewhere.iter().map(|entry| entry.container.clone()).collect(),
        left_down: host.left_down.ids().cloned().collect(),
        services: services.scaled,
        layers_read: services.layers_read,
        containers: concerned.into_iter().cloned().collect(),
        bystanders: bystanders.into_iter().cloned().collect(),
    };
    let mut plan = decide(&request, unit.set.consistency);
    let writes =
        |container: &Container| writers.contains(container.name.as_str()) && (container.state.status.is_alive() || request.runs(container));
    if !request.containers.iter().any(writes) {
        // Nobody is stopped for what nobody writes to.
        (plan.planned, plan.notes) = (Vec::new(), Vec::new());
    }
    let is_read = |place: &String| unit.planned.items.iter().any(|item| is_mounted(item.kind) && item.name == *place);
    for entry in held_elsewhere.iter().filter(|_| unit.set.consistency != Consistency::None) {
        let reads = entry.service.as_ref().is_some_and(|service| service.mounts.iter().any(is_read));
        if reads && !plan.planned.iter().any(|planned| planned.id == entry.container) {
            plan.planned.push(scaled_elsewhere(entry));
        }
    }
    plan.notes.extend(services.notes);
    (request, plan)
}

/// The hooks of a container: its label beats what the set has for it.
fn hooks_of(container: &str, policy: Policy, unit: &Unit) -> Option<ContainerHooks> {
    let choose = |label: Option<Hook>, of_set: &[SetHook]| match label {
        Some(hook) => vec![hook],
        None => of_set.iter().filter(|hook| hook.applies_to(container)).map(|hook| hook.hook.clone()).collect(),
    };
    let hooks = &unit.set.hooks;
    let hooks = ContainerHooks { pre: choose(policy.exec_pre, &hooks.exec_pre), post: choose(policy.exec_post, &hooks.exec_post) };
    (hooks != ContainerHooks::default()).then_some(hooks)
}

/// Who is left running on purpose. None where nobody at all is asked to keep still.
fn known_writers(request: &QuiesceRequest, plan: &QuiescePlan, consistency: Consistency) -> Option<BTreeSet<String>> {
    if consistency == Consistency::None && plan.planned.is_empty() {
        return None;
    }
    let tasks = plan.planned.iter().filter_map(|planned| planned.service.as_ref()).flat_map(|service| &service.tasks);
    let planned: BTreeSet<&str> = plan.planned.iter().chain(tasks).map(|planned| planned.id.as_str()).collect();
    let wanted = |container: &Container| request.wishes.get(&container.name).and_then(|wishes| wishes.consistency).unwrap_or(consistency);
    // One that is paused does not write, and nobody expects it to.
    let runs = |container: &Container| container.state.status.is_alive() && container.state.status != Status::Paused;
    let left =
        |container: &&Container| !planned.contains(container.id.as_str()) && (runs(container) || wanted(container) == Consistency::None);
    Some(request.containers.iter().filter(left).map(|container| container.id.clone()).collect())
}

/// What a dry run says of it.
fn foretold(plan: &QuiescePlan) -> Vec<String> {
    let names = |action| -> Vec<&str> {
        plan.planned.iter().filter(|planned| planned.action == action).map(|planned| planned.name.as_str()).collect()
    };
    let mut notes = plan.notes.clone();
    for hooks in &plan.hooks {
        for (when, list) in [("exec-pre", &hooks.hooks.pre), ("exec-post", &hooks.hooks.post)] {
            notes.extend(list.iter().map(|hook| format!("would run {when} in {} ({})", hooks.name, hook.asked_by)));
        }
    }
    for (verb, action) in [("stop", Action::Stop), ("pause", Action::Pause), ("scale to 0, and back: service", Action::Scale)] {
        let names = names(action);
        if !names.is_empty() {
            notes.push(format!("would {verb} {}", names.join(", then ")));
        }
    }
    notes.extend(plan.planned.iter().filter_map(Planned::told));
    notes
}

impl Hold {
    fn of_nobody(notes: Vec<String>) -> Self {
        Self { quiesce: None, notes, warnings: Vec::new(), known_writers: None, watch: None }
    }

    /// Ids of containers that are known to write meanwhile; none where nobody has to keep still.
    pub(super) fn known_writers(&self) -> Option<&BTreeSet<String>> {
        self.known_writers.as_ref()
    }

    /// Starts what was stopped, whatever else has happened; whether it stays is seen while the run goes on. `is_gone` if the Engine was
    /// waited for in vain.
    pub(super) async fn end(self, run: &Run<'_>, application: &str, is_gone: bool) -> Quiet {
        let watched = self.watch.as_ref().map(Watch::places);
        let disturbed = match (&run.host, self.watch, &self.known_writers) {
            // What was read of a backup that is cancelled is not kept.
            (Some(host), Some(watch), Some(known)) if !run.control.is_cancelled() => watch.end(&host.engine, known, is_gone).await,
            _ => Ok(Meanwhile::default()),
        };
        let mut quiet = match self.quiesce {
            Some(quiesce) => {
                if quiesce.held().next().is_some() {
                    run.progress.event(Event::Phase("starting containers again"));
                }
                let (release, settling) = quiesce.start_again(&**run.progress).await;
                run.settling.add(application, settling);
                result_of(release, self.notes)
            }
            None => Quiet { notes: self.notes, ..Quiet::default() },
        };
        quiet.warnings.extend(self.warnings);
        match disturbed {
            Ok(meanwhile) => quiet.take(meanwhile),
            Err(error) => {
                let reason = format!("whether a container was started while it was read cannot be seen: {}", sentence(&error));
                quiet.unknown = watched.map(|places| (places, reason));
            }
        }
        quiet
    }
}

/// Begins to watch what is read of the unit, where somebody has to keep still.
async fn watch(host: &Host, unit: &Unit, known: Option<&BTreeSet<String>>) -> Option<Watch> {
    known?;
    let is_watched = |kind| is_mounted(kind) || kind == ItemKind::Layer;
    let items = unit.planned.items.iter().filter(|item| is_watched(item.kind));
    let places = items.map(|item| Place { kind: item.kind, name: item.name.clone() }).collect();
    Some(Watch::begin(&host.engine, places, &host.discovery).await)
}

impl Quiet {
    fn take(&mut self, meanwhile: Meanwhile) {
        self.disturbed = meanwhile.writers;
        let doubt = |name: String| {
            format!(
                "container {name} ran while bind mounts were read, and was gone before anybody could see what it mounts: if it wrote to one of them, the copy may be torn"
            )
        };
        self.warnings.extend(meanwhile.doubts.into_iter().map(doubt).chain(meanwhile.unfollowed));
        self.notes.extend(meanwhile.missed.map(|error| {
            format!("whether a container was started and removed again while volumes were read cannot be seen: {}", sentence(&error))
        }));
    }
}

fn is_mounted(kind: ItemKind) -> bool {
    matches!(kind, ItemKind::Volume | ItemKind::Bind)
}

fn result_of(release: Release, notes: Vec<String>) -> Quiet {
    // What was known before is in both: paused instead of stopped, say, is as planned and no warning.
    let unforeseen = release.notes.into_iter().filter(|note| !notes.contains(note));
    Quiet {
        downtime: (!release.records.is_empty()).then_some(release.downtime),
        records: release.records,
        hooks: release.hooks,
        not_started: release.failures.iter().map(|failure| sentence(failure)).collect(),
        warnings: unforeseen.chain(release.hook_failures).collect(),
        notes,
        disturbed: Vec::new(),
        unknown: None,
        failure: None,
        unwritable: false,
    }
}
