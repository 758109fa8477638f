//! What is done to which container: decided from what is known of it, before anything is done.
//!
//! Pure; the doing is in `quiesce`.

use std::collections::{BTreeMap, BTreeSet};

use super::order::start_order;
use crate::docker::journal::Action;
use crate::model::application::{Consistency, Container, DependencyCondition, DependencyReason, Health, Status};

/// What is to be kept still, and what must be known for it.
#[derive(Debug, Clone, Default)]
pub struct QuiesceRequest {
    /// The containers to be kept still: those of the application, and all others that write to its volumes.
    pub containers: Vec<Container>,
    /// What single containers ask for by their labels, by name.
    pub overrides: BTreeMap<String, Consistency>,
    /// Every other container on the Engine: one that lives in the network or process space of a container to be stopped
    /// would lose it.
    pub bystanders: Vec<Container>,
    /// Ids of containers that are never touched: the one that bbackup runs in, the proxy it talks through.
    pub protected: BTreeSet<String>,
    /// Volumes that live in memory and lose their content when the last container that uses them stops.
    pub volatile_volumes: BTreeSet<String>,
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
}

/// What is done to whom, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuiescePlan {
    /// In the order of stopping: each before what it depends on.
    pub planned: Vec<Planned>,
    /// Why containers that run are left running, one sentence each.
    pub notes: Vec<String>,
}

/// Decides what is done. Containers that do not run, and paused ones, are left alone.
pub fn decide(request: &QuiesceRequest, consistency: Consistency) -> QuiescePlan {
    let mut plan = QuiescePlan::default();
    let running: Vec<&Container> = request.containers.iter().filter(|container| runs(container)).collect();
    let mut actions: Vec<(&Container, Action, Option<String>)> = Vec::new();
    for index in start_order(&running).into_iter().rev() {
        let container = running[index];
        let consistency = request.overrides.get(&container.name).copied().unwrap_or(consistency);
        if consistency == Consistency::None {
            continue;
        }
        if request.protected.contains(&container.id) {
            plan.notes.push(format!("{} is left running: bbackup itself depends on it", container.name));
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
    plan.planned = actions.into_iter().map(|(container, action, note)| planned(container, action, note)).collect();
    plan
}

fn runs(container: &Container) -> bool {
    matches!(container.state.status, Status::Running | Status::Restarting)
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
        let guests = everybody.filter(|container| runs(container) && !stopped.contains(container.name.as_str()));
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

fn planned(container: &Container, action: Action, note: Option<String>) -> Planned {
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
    }
}
