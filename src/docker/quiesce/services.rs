//! Services of a swarm: scaled to 0 while their volumes are read, and scaled back. Their containers are removed and made anew
//! by that, on every node.
//!
//! That a service is scaled at all is decided in `decide`; the calls are in `docker/swarm`.

use std::time::Duration;

use super::calls::{ENGINE_STOP_TIMEOUT, deadline, settled_after};
use super::decide::Planned;
use super::release::Release;
use super::{GATE_LIMIT, Held, Inner, QuiesceError, STOP_MARGIN};
use crate::docker::error::DockerError;
use crate::docker::journal::{Action, Entry, Intent, ScaledService};
use crate::docker::swarm::{self, Change, Service};
use crate::model::application::Status;
use crate::model::progress::{Event, Progress};
use crate::platform::clock;

/// How often somebody else may change a service right when we do.
const ATTEMPTS: u32 = 20;
/// How often is looked whether tasks have ended, or run.
const INTERVAL: Duration = Duration::from_millis(200);

/// What came of one attempt to scale a service to 0.
enum Attempt {
    /// It was asked for, or need not be.
    Asked(Option<Service>),
    /// Somebody else changes the service at the same moment.
    Overtaken,
    /// The swarm, or a proxy, does not let us.
    Refused(DockerError),
}

impl Inner {
    /// Scales a service to 0 and waits until none of its tasks runs. Where that is refused, its tasks here are paused.
    pub(super) async fn quiet_service(&mut self, planned: Planned, run: &str, progress: &dyn Progress) -> Result<(), QuiesceError> {
        let mut attempts = 0;
        let asked = loop {
            match self.try_scale(&planned, run, progress).await? {
                Attempt::Asked(asked) => break asked,
                Attempt::Refused(error) => return self.pause_instead(planned, error, run, progress).await,
                Attempt::Overtaken if attempts < ATTEMPTS => {
                    attempts += 1;
                    tokio::time::sleep(INTERVAL).await;
                }
                Attempt::Overtaken => return Err(QuiesceError::Overtaken { service: planned.name }),
            }
        };
        match asked {
            Some(service) => self.wait_until_down(&service).await,
            None => Ok(()),
        }
    }

    async fn try_scale(&mut self, planned: &Planned, run: &str, progress: &dyn Progress) -> Result<Attempt, QuiesceError> {
        let gate = self.journals.gate(GATE_LIMIT).await?;
        let other = self.journals.held_by_others(&gate, self.journal.as_ref(), self.engine.id())?;
        let other = other.into_iter().map(|holding| holding.entry).find(|entry| entry.container == planned.id);
        let failed = |source| QuiesceError::Scale { service: planned.name.clone(), source };
        let seen = async {
            let Some(service) = swarm::service(&self.engine, &planned.id).await? else { return Ok(None) };
            // Asked before anything is done: without them nobody would know when all have ended.
            Ok(Some((service, swarm::tasks(&self.engine, &planned.id).await?)))
        };
        let (service, tasks) = match seen.await {
            Ok(Some(seen)) => seen,
            Ok(None) => {
                self.notes.push(format!("service {} was removed before it could be scaled to 0", planned.name));
                return Ok(Attempt::Asked(None));
            }
            Err(error) if swarm::is_refusal(&error) => return Ok(Attempt::Refused(error)),
            Err(error) => return Err(failed(error)),
        };
        let now = service.replicas.unwrap_or(0);
        let running = tasks.iter().filter(|task| task.runs()).count() as u64;
        // What another run holds is held as that one does it: it knows what the service had before.
        let before = match other.and_then(|entry| entry.service) {
            Some(before) => ScaledService { version: service.version, ..before },
            // Somebody else has scaled it to 0, and keeps it so.
            None if now == 0 => return Ok(Attempt::Asked(Some(service))),
            None => {
                let mounts = planned.service.as_ref().map_or_else(Vec::new, |whole| whole.mounts.clone());
                ScaledService { replicas: now, running, version: service.version, mounts }
            }
        };
        let intent = Intent {
            container: planned.id.clone(),
            name: planned.name.clone(),
            before: Status::Running,
            action: Action::Scale,
            service: Some(before),
            started_at: String::new(),
            settled: settled_after(Action::Scale, ENGINE_STOP_TIMEOUT),
        };
        let since = clock::monotonic();
        let entry = self.journal(&gate, run)?.hold(intent)?;
        let settled = deadline(entry.settled);
        self.held.push(Held { planned: planned.clone(), entry: entry.clone(), since, still: now == 0, settled });
        drop(gate);
        if now == 0 {
            return Ok(Attempt::Asked(Some(service)));
        }
        progress.event(Event::Phase(&format!("scaling service {} to 0", planned.name)));
        let attempt = match swarm::scale(&self.engine, &service, 0).await {
            Ok(Change::Made) => return Ok(Attempt::Asked(Some(service))),
            Ok(Change::Overtaken) => Attempt::Overtaken,
            Err(error) if swarm::is_refusal(&error) => Attempt::Refused(error),
            // Whether it was done is not known; whoever brings things back looks.
            Err(error) => return Err(failed(error)),
        };
        self.held.pop();
        self.released(&entry);
        Ok(attempt)
    }

    async fn pause_instead(
        &mut self,
        planned: Planned,
        error: DockerError,
        run: &str,
        progress: &dyn Progress,
    ) -> Result<(), QuiesceError> {
        let tasks = planned.service.map_or_else(Vec::new, |whole| whole.tasks);
        if tasks.is_empty() {
            return Err(QuiesceError::Scale { service: planned.name, source: error });
        }
        let note = format!("paused instead of its service scaled to 0: {}", swarm::refusal(&error));
        for task in tasks {
            let task = Planned { note: Some(note.clone()), ..task };
            Box::pin(self.quiet(task, run, progress)).await?;
        }
        Ok(())
    }

    /// Waits until no task of a service runs: neither here nor, as far as the swarm knows, on another node.
    async fn wait_until_down(&mut self, service: &Service) -> Result<(), QuiesceError> {
        let limit = service.grace.saturating_add(STOP_MARGIN);
        let deadline = clock::monotonic() + limit;
        let failed = |source| QuiesceError::Scale { service: service.name.clone(), source };
        loop {
            let seen = async {
                let tasks = swarm::tasks(&self.engine, &service.id).await?;
                Ok((tasks, swarm::runs_here(&self.engine, &service.id).await?))
            };
            let (tasks, here) = match seen.await {
                Ok(seen) => seen,
                Err(error) if DockerError::is_transient(&error) && clock::monotonic() < deadline => {
                    tokio::time::sleep(INTERVAL).await;
                    continue;
                }
                Err(error) => return Err(failed(error)),
            };
            let mut left = None;
            let mut lost: Vec<String> = Vec::new();
            for task in tasks.into_iter().filter(swarm::Task::is_alive) {
                // Of a node that is gone nobody ever hears that its tasks have ended.
                if !task.node.is_empty() && (lost.contains(&task.node) || swarm::is_lost(&self.engine, &task.node).await) {
                    lost.push(task.node);
                } else {
                    left = Some(task);
                    break;
                }
            }
            if left.is_none() && !here {
                if let Some(held) = self.held.last_mut().filter(|held| held.planned.id == service.id) {
                    held.still = true;
                }
                lost.dedup();
                self.notes.extend(lost.iter().map(|node| {
                    format!(
                        "service {}: whether its task on node {node} has ended is not known, the swarm has lost that node",
                        service.name
                    )
                }));
                return Ok(());
            }
            if clock::monotonic() >= deadline {
                let node = left.map_or_else(String::new, |task| task.node);
                return Err(QuiesceError::TasksRun { service: service.name.clone(), node, seconds: limit.as_secs() });
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Waits until as many tasks run as did before, and says for how long they did not.
    pub(super) async fn settle_service(&self, held: &Held, record: usize, deadline: std::time::Instant, release: &mut Release) {
        let Some(before) = &held.entry.service else { return };
        let wanted = before.running.min(before.replicas);
        let name = &held.planned.name;
        let found = loop {
            let tasks = swarm::tasks(&self.engine, &held.planned.id).await;
            let running = tasks.as_ref().map_or(0, |tasks| tasks.iter().filter(|task| task.runs()).count() as u64);
            if running >= wanted || clock::monotonic() >= deadline {
                break tasks.map(|tasks| (running, tasks));
            }
            tokio::time::sleep(INTERVAL).await;
        };
        match found {
            Ok((running, tasks)) if running < wanted => {
                let why = tasks.into_iter().map(|task| task.error).rfind(|error| !error.is_empty());
                let why = why.map_or_else(String::new, |why| format!(" ({why})"));
                let limit = self.options.health_limit.as_secs();
                release.notes.push(format!(
                    "service {name} has its {} replicas again, and only {running} of its tasks ran within {limit} seconds{why}",
                    before.replicas
                ));
            }
            Ok(_) => {}
            Err(error) => release.notes.push(format!("cannot see whether the tasks of service {name} run again: {error}")),
        }
        // It was down until its tasks ran, not until the swarm was told to make them.
        if let Some(record) = release.records.get_mut(record) {
            record.downtime_seconds = clock::monotonic().duration_since(held.since).as_secs_f64();
        }
        if let Some(first) = self.first {
            release.downtime = release.downtime.max(clock::monotonic().duration_since(first));
        }
    }
}

/// What is kept of a service that was scaled, as far as nothing else is to be said.
pub(super) fn scaled(entry: &Entry) -> Option<String> {
    let before = entry.service.as_ref()?;
    Some(format!("service scaled from {} to 0 and back", before.replicas))
}
