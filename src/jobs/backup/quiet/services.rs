//! Which services of a swarm are to be scaled to 0: by their labels, those of their tasks, and the configuration.

use std::collections::{BTreeMap, BTreeSet};

use super::{Host, Run};
use crate::docker::labels::Policy;
use crate::docker::swarm;
use crate::model::application::{Consistency, Container, SwarmTasks};

/// What is known of the services whose tasks are concerned.
#[derive(Debug, Default)]
pub(super) struct Services {
    /// Those that are to be scaled to 0, by id; or why one cannot be.
    pub(super) scaled: BTreeMap<String, Result<(), String>>,
    /// How their own labels want their tasks to be kept still, by id.
    pub(super) consistency: BTreeMap<String, Consistency>,
    /// Names of containers whose own layer is read in this run.
    pub(super) layers_read: BTreeSet<String>,
    pub(super) notes: Vec<String>,
}

/// Asks the swarm about the services of which tasks are among `concerned`. Only reads.
pub(super) async fn ask(run: &Run<'_>, host: &Host, concerned: &[&Container]) -> Services {
    let mut services = Services::default();
    let mut tasks: BTreeMap<&str, &Container> = BTreeMap::new();
    for container in concerned.iter().filter(|container| container.state.status.is_alive()) {
        if let Some(service) = container.swarm_service() {
            tasks.entry(service.id).or_insert(container);
        }
    }
    if tasks.is_empty() {
        return services;
    }
    // Whichever application it is of: a layer is gone for all of them.
    if run.request.sets.iter().any(|set| set.scope.layers) {
        services.layers_read = host.discovery.containers().map(|container| container.name.clone()).collect();
    }
    for (id, task) in tasks {
        // All tasks of a service are made with the same labels.
        let of_task = host.discovery.policy(&task.name).and_then(|policy| policy.swarm);
        let found = swarm::service(&host.engine, id).await;
        let mut wanted = of_task;
        if let Ok(Some(service)) = &found {
            let (policy, warnings) = Policy::of_service(&service.name, &service.labels);
            services.notes.extend(warnings);
            wanted = wanted.or(policy.swarm);
            services.consistency.extend(policy.consistency.map(|consistency| (id.to_owned(), consistency)));
        }
        if wanted.unwrap_or(run.context.config.docker.swarm) == SwarmTasks::Scale {
            let may = match found {
                Ok(Some(service)) => match service.replicas {
                    Some(0) => Err("somebody has scaled it to 0 already".to_owned()),
                    Some(_) => Ok(()),
                    None => Err("it is not replicated: it has one task on each node, or is a job".to_owned()),
                },
                Ok(None) => Err("it was removed".to_owned()),
                Err(error) => Err(swarm::refusal(&error)),
            };
            services.scaled.insert(id.to_owned(), may);
        }
    }
    services
}
