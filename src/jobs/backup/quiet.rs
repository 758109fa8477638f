//! Keeping an application's containers still while its volumes are read: who it concerns, and what came of it.
//!
//! How it is done, and undone after a crash, is `docker/quiesce`'s business.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Run, Unit, sentence};
use crate::docker::quiesce::{Quiesce, QuiesceError, QuiesceOptions, QuiesceRequest, Release, decide};
use crate::jobs::error::JobError;
use crate::model::application::{Container, QuiesceRecord};
use crate::model::progress::Event;

/// What came of keeping containers still.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// What was done to whom.
    pub(super) records: Vec<QuiesceRecord>,
    /// From the first stop to the last start; none where nothing was stopped.
    pub(super) downtime: Option<Duration>,
    /// Containers that are down because of us: nothing is worse.
    pub(super) not_started: Vec<String>,
    /// What somebody should look at.
    pub(super) warnings: Vec<String>,
    /// What is worth knowing.
    pub(super) notes: Vec<String>,
    /// Why the containers could not be kept still.
    pub(super) failure: Option<String>,
}

/// Containers that are kept still, or need not be.
pub(super) struct Hold(Option<Quiesce>, Vec<String>);

/// Keeps still what writes to the volumes of the unit. The inner error says why that was not possible, and how what had been
/// stopped before was brought back.
pub(super) async fn begin(run: &Run<'_>, unit: &Unit) -> Result<Result<Hold, Quiet>, JobError> {
    let Some(host) = run.host.as_ref().filter(|_| !run.request.dry_run) else { return Ok(Ok(Hold(None, Vec::new()))) };
    let writers = unit.planned.writers();
    let all: Vec<&Container> = host.discovery.containers().collect();
    if !all.iter().any(|container| writers.contains(container.name.as_str()) && container.state.status.is_alive()) {
        return Ok(Ok(Hold(None, Vec::new())));
    }
    let own: BTreeSet<&str> = unit.planned.application.containers.iter().map(|container| container.name.as_str()).collect();
    let (concerned, bystanders): (Vec<&Container>, Vec<&Container>) =
        all.into_iter().partition(|container| own.contains(container.name.as_str()) || writers.contains(container.name.as_str()));
    let overrides = concerned.iter().filter_map(|container| {
        let wanted = host.discovery.policy(&container.name)?.consistency?;
        Some((container.name.clone(), wanted))
    });
    let request = QuiesceRequest {
        overrides: overrides.collect(),
        containers: concerned.into_iter().cloned().collect(),
        bystanders: bystanders.into_iter().cloned().collect(),
        protected: host.own_container.iter().cloned().collect(),
        volatile_volumes: host
            .discovery
            .volumes()
            .filter(|volume| volume.options.get("type").is_some_and(|kind| kind == "tmpfs"))
            .map(|volume| volume.name.clone())
            .collect(),
    };
    let plan = decide(&request, unit.set.consistency);
    let options = QuiesceOptions { stop_timeout: run.context.config.docker.stop_timeout, ..QuiesceOptions::default() };
    let state = &run.context.directories.state;
    match Quiesce::begin(&host.engine, state, &run.id, plan, options, run.control, &**run.progress).await {
        Ok(quiesce) => {
            let notes = quiesce.notes().to_vec();
            Ok(Ok(Hold(Some(quiesce), notes)))
        }
        Err(failed) => {
            let mut quiet = result_of(failed.release, Vec::new());
            if matches!(failed.error, QuiesceError::Cancelled) && quiet.not_started.is_empty() {
                return Err(JobError::Cancelled);
            }
            quiet.failure = Some(format!("it was not read because its containers could not be kept still: {}", sentence(&failed.error)));
            Ok(Err(quiet))
        }
    }
}

impl Hold {
    /// Starts what was stopped, whatever else has happened.
    pub(super) async fn end(self, run: &Run<'_>) -> Quiet {
        match self.0 {
            Some(quiesce) => {
                run.progress.event(Event::Phase("starting containers again"));
                result_of(quiesce.release(&**run.progress).await, self.1)
            }
            None => Quiet { notes: self.1, ..Quiet::default() },
        }
    }
}

fn result_of(release: Release, notes: Vec<String>) -> Quiet {
    Quiet {
        downtime: (!release.records.is_empty()).then_some(release.downtime),
        records: release.records,
        not_started: release.failures.iter().map(|failure| sentence(failure)).collect(),
        // What was known before is in both: paused instead of stopped, say, is as planned and no warning.
        warnings: release.notes.into_iter().filter(|note| !notes.contains(note)).collect(),
        notes,
        failure: None,
    }
}
