//! What is done to which container: decided from what is known of it, before anything is done.
//!
//! Pure; the doing is in `quiesce`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::hooks::{ContainerHooks, PlannedHooks};
use super::order::start_order_by;
use crate::docker::journal::Action;
use crate::docker::labels::DEFAULT_PRIORITY;
use crate::model::application::{Consistency, Container, DependencyCondition, DependencyReason, Health, Status};

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

/// One container and what is done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it does now.
    pub before: Status,
    /// Whether its health check was good, or might become so; only then is waited for it.
    pub has_health: bool,
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
}

/// Decides what is done. Containers that do not run, and paused ones, are left alone, unless it is another run that keeps them still.
pub fn decide(request: &QuiesceRequest, consistency: Consistency) -> QuiescePlan {
    let mut plan = QuiescePlan::default();
    let running: Vec<&Container> = request.containers.iter().filter(|container| request.runs(container)).collect();
    let mut actions: Vec<(&Container, Action, Option<String>)> = Vec::new();
    let priority = |container: &Container| request.wishes(container).priority.unwrap_or(DEFAULT_PRIORITY);
    for index in start_order_by(&running, priority).into_iter().rev() {
        let container = running[index];
        if let Some(hooks) = request.hooks.get(&container.name).filter(|_| container.state.status == Status::Running) {
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
        let (action, note) = match (consistency, why_not_stopped(container, request)) {
            (Consistency::Stop, None) => (Action::Stop, None),
            (Consistency::Stop, Some(reason)) => (Action::Pause, Some(reason)),
            _ => (Action::Pause, None),
        };
        // A container that is about to be restarted has no process to freeze.
        if action == Action::Pause && container.state.status == Status::Restarting {
            plan.notes.push(format!("{} keeps restarting and cannot be paused", container.name));
            continue;
        }
        actions.push((container, action, note));
    }
    keep_shared_namespaces(&mut actions, request);
    plan.planned = actions.into_iter().map(|(container, action, note)| planned(request, container, action, note)).collect();
    plan
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

fn why_not_stopped(container: &Container, request: &QuiesceRequest) -> Option<String> {
    if container.auto_remove {
        return Some("paused instead of stopped: stopping removes it and its anonymous volumes (--rm)".to_owned());
    }
    if container.swarm_task {
        return Some("paused instead of stopped: it is a swarm task, which the orchestrator would replace".to_owned());
    }
    let volatile = container.volume_names().find(|name| request.volatile_volumes.contains(*name));
    if let Some(volume) = volatile {
        return Some(format!("paused instead of stopped: volume {volume} lives in memory and would be emptied"));
    }
    None
}

/// A container whose network, ipc or process space another one shares must not be stopped while that other one is not:
/// after the start it has a new one, and the other one is left with nothing.
fn keep_shared_namespaces(actions: &mut [(&Container, Action, Option<String>)], request: &QuiesceRequest) {
    loop {
        let stopped: BTreeSet<&str> =
            actions.iter().filter(|(_, action, _)| *action == Action::Stop).map(|(container, ..)| container.name.as_str()).collect();
        let everybody = request.containers.iter().chain(&request.bystanders);
        let guests = everybody.filter(|container| request.runs(container) && !stopped.contains(container.name.as_str()));
        let mut hosts: Vec<(String, String)> = Vec::new();
        for guest in guests {
            let shared = guest.depends_on.iter().filter(|needs| needs.reason == DependencyReason::Namespace);
            hosts.extend(
                shared
                    .filter(|needs| stopped.contains(needs.container.as_str()))
                    .map(|needs| (needs.container.clone(), guest.name.clone())),
            );
        }
        if hosts.is_empty() {
            return;
        }
        for (host, guest) in hosts {
            for (_, action, note) in actions.iter_mut().filter(|(container, ..)| container.name == host) {
                *action = Action::Pause;
                *note = Some(format!("paused instead of stopped: {guest} runs in its network or process space"));
            }
        }
    }
}

fn planned(request: &QuiesceRequest, container: &Container, action: Action, note: Option<String>) -> Planned {
    Planned {
        id: container.id.clone(),
        name: container.name.clone(),
        before: container.state.status,
        has_health: matches!(container.state.health, Health::Healthy | Health::Starting),
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
    }
}
