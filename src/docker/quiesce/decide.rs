//! What is done to which container: decided from what is known of it, before anything is done.
//!
//! Pure; the doing is in `quiesce`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::hooks::{ContainerHooks, PlannedHooks};
use super::order::start_order_by;
use crate::docker::journal::{Action, Entry};
use crate::docker::labels::DEFAULT_PRIORITY;
use crate::model::application::{Consistency, Container, DependencyCondition, DependencyReason, Health, MountKind, Status, SwarmService};
use crate::model::hook::HookTime;

/// What is to be kept still, and what must be known for it.
#[derive(Debug, Clone, Default)]
pub struct QuiesceRequest {
    /// The containers to be kept still: those of the application, and all others that write to its volumes.
    pub containers: Vec<Container>,
    /// What single containers ask for by their labels, by name. It beats what their set says.
    pub wishes: BTreeMap<String, Wishes>,
    /// Commands that run in single containers, by name.
    pub hooks: BTreeMap<String, ContainerHooks>,
    /// Every other container on the Engine: one that lives in the network or process space of a container to be stopped
    /// would lose it.
    pub bystanders: Vec<Container>,
    /// Containers that are never touched, by id, and why: the one that bbackup runs in, the proxy it talks through.
    pub protected: BTreeMap<String, String>,
    /// Volumes that live in memory and lose their content when the last container that uses them stops.
    pub volatile_volumes: BTreeSet<String>,
    /// Ids of containers that other living runs keep still: they do not run now, and will as soon as nobody holds them.
    pub held_elsewhere: BTreeSet<String>,
    /// Ids of containers that dead runs have left down, or a restore keeps down: what they did before counts.
    pub left_down: BTreeSet<String>,
    /// Services of a swarm that are to be scaled to 0 where their tasks would be paused instead of stopped, by id; or why one
    /// cannot be.
    pub services: BTreeMap<String, Result<(), String>>,
    /// Names of containers whose own layer is read: they must still be there.
    pub layers_read: BTreeSet<String>,
}

/// What one container asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// How it is kept still.
    pub consistency: Option<Consistency>,
    /// How long it may take to stop.
    pub stop_timeout: Option<Duration>,
    /// A higher one is stopped earlier and started later, as far as dependencies leave that open.
    pub priority: Option<i64>,
}

/// One container, or a service of a swarm, and what is done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it does now.
    pub before: Status,
    /// Whether its health check was good; only then is waited for it.
    pub was_healthy: bool,
    /// What is done.
    pub action: Action,
    /// Why it is something else than was asked for.
    pub note: Option<String>,
    /// Names of containers that must be healthy before this one is started.
    pub needs_healthy: Vec<String>,
    /// Whether the Engine removes it when it ends.
    pub auto_remove: bool,
    /// How long it may take to stop, whatever the configuration says.
    pub stop_timeout: Option<Duration>,
    /// Only of a service.
    pub service: Option<PlannedService>,
}

impl Planned {
    /// Its note as people read it.
    pub fn told(&self) -> Option<String> {
        Some(format!("{}: {}", self.name, self.note.as_ref()?))
    }
}

/// What belongs to a service that is scaled to 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlannedService {
    /// Its tasks on this node; they are paused if the swarm refuses.
    pub tasks: Vec<Planned>,
    /// The volumes and paths that they mount.
    pub mounts: Vec<String>,
}

/// What is done to whom, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuiescePlan {
    /// In the order of stopping: each before what it depends on.
    pub planned: Vec<Planned>,
    /// The hooks of containers that run, in the same order. They run also in those that are not kept still.
    pub hooks: Vec<PlannedHooks>,
    /// Why containers that run are left running, one sentence each.
    pub notes: Vec<String>,
    /// The hooks that cannot be run because their containers do not run, one sentence each: what they write is not renewed.
    pub not_run: Vec<String>,
}

/// Decides what is done. Containers that do not run, and paused ones, are left alone, unless it is another run that keeps them still.
pub fn decide(request: &QuiesceRequest, consistency: Consistency) -> QuiescePlan {
    let mut plan = QuiescePlan::default();
    tell_what_cannot_run(request, &mut plan);
    let running: Vec<&Container> = request.containers.iter().filter(|container| request.runs(container)).collect();
    let mut actions: Vec<(&Container, Action, Option<String>)> = Vec::new();
    let priority = |container: &Container| request.wishes(container).priority.unwrap_or(DEFAULT_PRIORITY);
    for index in start_order_by(&running, priority).into_iter().rev() {
        let container = running[index];
        // What another run keeps still can run no command, and is held as that one does it.
        let held = request.held_elsewhere.contains(&container.id);
        if let Some(hooks) = request.hooks.get(&container.name).filter(|_| container.state.status == Status::Running && !held) {
            plan.hooks.push(PlannedHooks { id: container.id.clone(), name: container.name.clone(), hooks: hooks.clone() });
        }
        let consistency = request.wishes(container).consistency.unwrap_or(consistency);
        if consistency == Consistency::None {
            continue;
        }
        if let Some(reason) = request.protected.get(&container.id) {
            plan.notes.push(format!("{} is left running: {reason}", container.name));
            continue;
        }
        let (action, note) = if consistency == Consistency::Stop { stopping(container, request) } else { (Action::Pause, None) };
        // A container that is about to be restarted has no process to freeze.
        if action == Action::Pause && container.state.status == Status::Restarting && !held {
            plan.notes.push(format!("{} keeps restarting and cannot be paused", container.name));
            continue;
        }
        actions.push((container, action, note));
    }
    while keep_shared_namespaces(&mut actions, request) || keep_services_whole(&mut actions, request) {}
    for (container, action, note) in actions {
        let one = planned(request, container, action, note);
        match container.swarm_service().filter(|_| action == Action::Scale) {
            Some(service) => scale(&mut plan.planned, service, container, one),
            None => plan.planned.push(one),
        }
    }
    plan
}

/// Says of the hooks of containers that can run no command why they are not run.
fn tell_what_cannot_run(request: &QuiesceRequest, plan: &mut QuiescePlan) {
    for container in request.containers.iter().filter(|one| !is_leftover(one, &request.containers)) {
        let Some(hooks) = request.hooks.get(&container.name) else { continue };
        let name = &container.name;
        let why = match container.state.status {
            _ if request.held_elsewhere.contains(&container.id) || request.left_down.contains(&container.id) => {
                plan.notes.push(format!("the commands of {name} are not run: another run of bbackup keeps it still"));
                continue;
            }
            Status::Running => continue,
            Status::Paused => "is paused",
            Status::Restarting => "keeps restarting",
            Status::Created => "was never started",
            Status::Removing => "is being removed",
            Status::Exited | Status::Dead => "is stopped",
            Status::Unknown => "does not run",
        };
        for (when, hooks) in [(HookTime::Pre, &hooks.pre), (HookTime::Post, &hooks.post)] {
            plan.not_run.extend(hooks.iter().map(|hook| {
                let when = when.as_str();
                format!(
                    "{when} of container {name} ({}) is not run: the container {why}; what it would write is as old as its last run",
                    hook.asked_by
                )
            }));
        }
    }
}

/// Whether it only has the labels of a service that runs elsewhere: a task that the swarm has replaced, or a command that compose ran once.
fn is_leftover(container: &Container, all: &[Container]) -> bool {
    let is_alive = |one: &Container| matches!(one.state.status, Status::Running | Status::Paused | Status::Restarting);
    let service = container.swarm_service().map(|service| service.id);
    let is_replaced = service.is_some() && all.iter().any(|one| is_alive(one) && one.swarm_service().map(|service| service.id) == service);
    let ran_once = container.labels.get("com.docker.compose.oneoff").is_some_and(|value| value == "True");
    !is_alive(container) && (is_replaced || ran_once)
}

impl QuiesceRequest {
    fn wishes(&self, container: &Container) -> Wishes {
        self.wishes.get(&container.name).copied().unwrap_or_default()
    }

    /// Whether it runs, or would if nobody kept it still.
    pub fn runs(&self, container: &Container) -> bool {
        matches!(container.state.status, Status::Running | Status::Restarting) || self.held_elsewhere.contains(&container.id)
    }
}

/// What is done to a container that is to be stopped, and why that is something else.
fn stopping(container: &Container, request: &QuiesceRequest) -> (Action, Option<String>) {
    let paused = |why: &str| (Action::Pause, Some(format!("paused instead of stopped: {why}")));
    let volatile = container.volume_names().find(|name| request.volatile_volumes.contains(*name));
    let volatile = volatile.map(|volume| format!("volume {volume} lives in memory and would be emptied"));
    if container.auto_remove {
        return paused("stopping removes it and its anonymous volumes (--rm)");
    }
    if container.swarm_task {
        let Some(asked) = container.swarm_service().and_then(|service| request.services.get(service.id)) else {
            return paused("it is a swarm task, which the orchestrator would replace");
        };
        return match asked.clone().err().or(volatile).or_else(|| why_not_removed(container, request)) {
            Some(why) => (Action::Pause, Some(format!("paused instead of its service scaled to 0: {why}"))),
            None => (Action::Scale, None),
        };
    }
    volatile.map_or((Action::Stop, None), |why| paused(&why))
}

/// A service that is scaled to 0 loses its containers; new ones come back.
fn why_not_removed(container: &Container, request: &QuiesceRequest) -> Option<String> {
    let is_anonymous = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(volume) = container.volume_names().find(|name| is_anonymous(name)) {
        return Some(format!("the swarm would remove its anonymous volume {volume}"));
    }
    if request.layers_read.contains(&container.name) {
        return Some("what it wrote outside its mounts is saved, and the swarm would remove it".to_owned());
    }
    let has_post = request.hooks.get(&container.name).is_some_and(|hooks| !hooks.post.is_empty());
    has_post.then(|| "its exec-post is to run in the same container".to_owned())
}

/// Whether a container of these is not there any more while it is kept still, and so has given up what it lends.
fn ends(action: Action) -> bool {
    matches!(action, Action::Stop | Action::Scale)
}

/// A container whose network, ipc or process space another one shares must not be stopped while that other one is not:
/// after the start it has a new one, and the other one is left with nothing. Gives whether something was changed.
fn keep_shared_namespaces(actions: &mut [(&Container, Action, Option<String>)], request: &QuiesceRequest) -> bool {
    let stopped: BTreeSet<&str> =
        actions.iter().filter(|(_, action, _)| ends(*action)).map(|(container, ..)| container.name.as_str()).collect();
    let everybody = request.containers.iter().chain(&request.bystanders);
    let guests = everybody.filter(|container| request.runs(container) && !stopped.contains(container.name.as_str()));
    let mut hosts: Vec<(String, String)> = Vec::new();
    for guest in guests {
        let shared = guest.depends_on.iter().filter(|needs| needs.reason == DependencyReason::Namespace);
        hosts.extend(
            shared.filter(|needs| stopped.contains(needs.container.as_str())).map(|needs| (needs.container.clone(), guest.name.clone())),
        );
    }
    for (host, guest) in &hosts {
        for (_, action, note) in actions.iter_mut().filter(|(container, ..)| container.name == *host) {
            *action = Action::Pause;
            *note = Some(format!("paused instead of stopped: {guest} runs in its network or process space"));
        }
    }
    !hosts.is_empty()
}

/// A service is scaled only if every task of it here may end. Gives whether something was changed.
fn keep_services_whole(actions: &mut [(&Container, Action, Option<String>)], request: &QuiesceRequest) -> bool {
    let service = |container: &Container| container.swarm_service().map(|service| service.id.to_owned());
    let scaled: BTreeSet<&str> =
        actions.iter().filter(|(_, action, _)| *action == Action::Scale).map(|(container, ..)| container.id.as_str()).collect();
    let concerned = request.containers.iter().filter(|container| request.runs(container));
    let others = request.bystanders.iter().filter(|container| request.protected.contains_key(&container.id));
    let staying = concerned.chain(others).filter(|container| !scaled.contains(container.id.as_str()));
    let staying: BTreeMap<String, String> = staying.filter_map(|one| Some((service(one)?, one.name.clone()))).collect();
    let mut changed = false;
    for (container, action, note) in actions.iter_mut().filter(|(_, action, _)| *action == Action::Scale) {
        if let Some(other) = service(container).and_then(|service| staying.get(&service)) {
            *action = Action::Pause;
            *note = Some(format!("paused instead of its service scaled to 0: its task {other} must not end"));
            changed = true;
        }
    }
    changed
}

/// Adds a task to its service in the plan.
fn scale(plan: &mut Vec<Planned>, service: SwarmService<'_>, container: &Container, task: Planned) {
    let task = Planned { action: Action::Pause, ..task };
    let mounted = container.mounts.iter().filter_map(|mount| match mount.kind {
        MountKind::Volume => mount.name.clone(),
        _ => Some(mount.source.clone()).filter(|source| !source.is_empty()),
    });
    let there = plan.iter_mut().find(|planned| planned.action == Action::Scale && planned.id == service.id);
    if let Some(there) = there.and_then(|planned| planned.service.as_mut()) {
        there.tasks.push(task);
        there.mounts.extend(mounted);
        there.mounts.sort_unstable();
        there.mounts.dedup();
    } else {
        let whole = PlannedService { tasks: vec![task], mounts: mounted.collect() };
        plan.push(planned_service(service.id, service.name, whole));
    }
}

fn planned_service(id: &str, name: &str, service: PlannedService) -> Planned {
    Planned {
        id: id.to_owned(),
        name: name.to_owned(),
        before: Status::Running,
        was_healthy: false,
        action: Action::Scale,
        note: None,
        needs_healthy: Vec::new(),
        auto_remove: false,
        stop_timeout: None,
        service: Some(service),
    }
}

/// A service that another living run has scaled to 0. Its tasks are not seen, and it has to stay so while we read, too.
pub fn scaled_elsewhere(entry: &Entry) -> Planned {
    let mounts = entry.service.iter().flat_map(|service| service.mounts.clone()).collect();
    planned_service(&entry.container, &entry.name, PlannedService { tasks: Vec::new(), mounts })
}

fn planned(request: &QuiesceRequest, container: &Container, action: Action, note: Option<String>) -> Planned {
    Planned {
        id: container.id.clone(),
        name: container.name.clone(),
        before: container.state.status,
        was_healthy: container.state.health == Health::Healthy,
        action,
        note,
        needs_healthy: container
            .depends_on
            .iter()
            .filter(|needs| needs.condition == DependencyCondition::Healthy)
            .map(|needs| needs.container.clone())
            .collect(),
        auto_remove: container.auto_remove,
        stop_timeout: request.wishes(container).stop_timeout,
        service: None,
    }
}
