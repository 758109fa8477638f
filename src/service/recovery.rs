//! Start-up recovery: containers that a dead run had stopped or paused are brought back before anything else is done.
//!
//! How that is done, and that living runs are left alone, is `docker/quiesce`'s business.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::docker::Engine;
use crate::docker::journal::{Action, Entry, Journals};
use crate::docker::quiesce::{NeededBy, OwedOutcome, RanOwed, RepairOutcome, Repaired, recover};
use crate::jobs::engine::connect;
use crate::jobs::restore;
use crate::model::text::printable;

/// Longest wait for a run that is just writing to its journal.
const GATE_LIMIT: Duration = Duration::from_secs(5);

/// What a start has put right.
#[derive(Debug, Default)]
pub struct Recovered {
    /// What was done, one sentence each.
    pub done: Vec<String>,
    /// What is still down because of bbackup, one sentence each. It is tried again at the next start.
    pub failed: Vec<String>,
    /// Volumes that a restore was overwriting when it was killed, one sentence each.
    pub half_restored: Vec<String>,
    /// Names of containers that are down on Engines that are not configured.
    pub elsewhere: Vec<String>,
}

/// Brings back the containers that dead runs have left on any of these Engines. Where there is no journal it costs one look
/// into a folder.
pub async fn at_start(engines: &[config::Docker], state: &Path) -> Recovered {
    let mut recovered = Recovered::default();
    match Journals::new(state).any() {
        Ok(false) => return recovered,
        Ok(true) => {}
        Err(error) => {
            recovered.failed.push(format!("the journals of stopped containers cannot be read, so some may be down: {error}"));
            return recovered;
        }
    }
    let mut silent = Vec::new();
    let mut asked = Vec::new();
    for docker in engines {
        match connect(docker).await {
            Ok(engine) => {
                repair(&engine, state, &mut recovered).await;
                asked.push(engine.id().to_owned());
            }
            Err(error) => silent.push(error),
        }
    }
    let elsewhere = match Journals::new(state).gate(GATE_LIMIT).await {
        Ok(gate) => Journals::new(state).dead_elsewhere(&gate, &asked).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    // One that does not answer may be the one.
    if silent.is_empty() {
        recovered.elsewhere = elsewhere;
    // Journals of living runs, and of Engines that do answer, are no reason to say anything.
    } else if any_dead(state).await {
        let names: Vec<_> = elsewhere.iter().map(|name| printable(name.as_bytes())).collect();
        let what = if names.is_empty() { "containers".to_owned() } else { names.join(", ") };
        let sentence = |error| format!("a run that died may have left {what} down, and the Docker Engine does not answer: {error}");
        recovered.failed.extend(silent.into_iter().map(sentence));
    }
    recovered
}

/// Puts back what restores that were killed had stopped, renamed and made on these Engines.
pub async fn after_restores(engines: &[config::Docker], state: &Path, recovered: &mut Recovered) {
    if !restore::is_anything_left(state) {
        return;
    }
    for docker in engines {
        let cleaned = match connect(docker).await {
            Ok(engine) => restore::clean_up(&engine, state).await,
            Err(error) => Err(error),
        };
        match cleaned {
            Ok(left) => {
                recovered.done.extend(left.done);
                recovered.failed.extend(left.failed);
                recovered.half_restored.extend(left.half_restored);
            }
            Err(error) => {
                recovered.failed.push(format!("a restore that was killed may have left containers down: {error}"));
            }
        }
    }
}

/// Whether a dead run has left something. Where that cannot be found out, it may have.
async fn any_dead(state: &Path) -> bool {
    let journals = Journals::new(state);
    match journals.gate(GATE_LIMIT).await {
        Ok(gate) => journals.any_dead(&gate).unwrap_or(true),
        Err(_) => true,
    }
}

async fn repair(engine: &Engine, state: &Path, recovered: &mut Recovered) {
    let (folder, id) = (state.to_owned(), engine.id().to_owned());
    let needed_by = NeededBy(Arc::new(move |entry: &Entry| restore::keeps_stopped(&folder, &id, entry)));
    match recover(state, engine, Some(&needed_by)).await {
        Ok(found) => {
            for one in &found.repaired {
                let (failed, sentence) = sentence(one);
                if failed { &mut recovered.failed } else { &mut recovered.done }.push(sentence);
            }
            for one in &found.owed {
                let (failed, sentence) = owed_sentence(one);
                if failed { &mut recovered.failed } else { &mut recovered.done }.push(sentence);
            }
        }
        Err(error) => recovered.failed.push(format!("the journals of stopped containers cannot be read, so some may be down: {error}")),
    }
}

fn sentence(repaired: &Repaired) -> (bool, String) {
    let container = printable(repaired.container.as_bytes());
    let run = printable(repaired.run.as_bytes());
    if repaired.action == Action::Scale {
        return service_sentence(&container, &run, &repaired.outcome);
    }
    match &repaired.outcome {
        RepairOutcome::Restored => (false, format!("container {container}, which run {run} had left down, runs again")),
        RepairOutcome::Ran => (false, format!("container {container}, which run {run} had taken down, runs")),
        // Only one that the Engine removes when it ends (--rm) is never stopped; such a one ends with the machine.
        RepairOutcome::Gone if repaired.action == Action::Pause => {
            let by = "by somebody, or by the Engine when it ended (--rm)";
            (false, format!("container {container}, which run {run} had left paused, was removed: {by}"))
        }
        RepairOutcome::Gone => (false, format!("container {container}, which run {run} had left down, was removed by somebody")),
        RepairOutcome::Rescaled { .. } => {
            (false, format!("container {container}, which run {run} had taken down, was changed by somebody"))
        }
        RepairOutcome::LeftTo { run: other } => {
            (false, format!("container {container} is left to run {}, which holds it", printable(other.as_bytes())))
        }
        RepairOutcome::Failed(cause) => (true, format!("container {container}, which run {run} had left down, cannot be started: {cause}")),
    }
}

fn service_sentence(service: &str, run: &str, outcome: &RepairOutcome) -> (bool, String) {
    let whose = format!("service {service}, which run {run} had scaled to 0,");
    match outcome {
        RepairOutcome::Restored => (false, format!("{whose} has its replicas again")),
        RepairOutcome::Ran => (false, format!("{whose} has its replicas")),
        RepairOutcome::Gone => (false, format!("{whose} was removed by somebody")),
        RepairOutcome::Rescaled { replicas } => (false, format!("{whose} was scaled to {replicas} by somebody, and is left so")),
        RepairOutcome::LeftTo { run: other } => (false, format!("{whose} is left to run {}, which holds it", printable(other.as_bytes()))),
        RepairOutcome::Failed(cause) => (true, format!("{whose} cannot be scaled back: {cause}")),
    }
}

fn owed_sentence(owed: &RanOwed) -> (bool, String) {
    let container = printable(owed.container.as_bytes());
    let run = printable(owed.run.as_bytes());
    let hook = format!("exec-post of container {container}, which run {run} had not come to,");
    match &owed.outcome {
        OwedOutcome::Done => (false, format!("{hook} was run")),
        OwedOutcome::Gone => (false, format!("{hook} was not run: somebody removed the container")),
        OwedOutcome::Failed(error) => (true, format!("{hook} failed: {error}")),
        OwedOutcome::Waits => (false, format!("{hook} is run once the container runs again and bbackup starts")),
    }
}
