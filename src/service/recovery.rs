//! Start-up recovery: containers that a dead run had stopped or paused are brought back before anything else is done.
//!
//! How that is done, and that living runs are left alone, is `docker/quiesce`'s business.

use std::path::Path;
use std::time::Duration;

use crate::config;
use crate::docker::Engine;
use crate::docker::journal::Journals;
use crate::docker::quiesce::{RepairOutcome, Repaired, recover};
use crate::jobs::engine::connect;
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
}

/// Brings back the containers that dead runs have left. Where there is no journal it costs one look into a folder.
pub async fn at_start(docker: &config::Docker, state: &Path) -> Recovered {
    let mut recovered = Recovered::default();
    match Journals::new(state).any() {
        Ok(false) => return recovered,
        Ok(true) => {}
        Err(error) => {
            recovered.failed.push(format!("the journals of stopped containers cannot be read, so some may be down: {error}"));
            return recovered;
        }
    }
    let engine = match connect(docker).await {
        Ok(engine) => engine,
        // Journals of living runs are no reason to say anything.
        Err(_) if !any_dead(state).await => return recovered,
        Err(error) => {
            recovered.failed.push(format!("a run that died may have left containers down, and the Docker Engine does not answer: {error}"));
            return recovered;
        }
    };
    repair(&engine, state, &mut recovered).await;
    recovered
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
    match recover(state, engine).await {
        Ok(found) => {
            for one in &found.repaired {
                let (failed, sentence) = sentence(one);
                if failed { &mut recovered.failed } else { &mut recovered.done }.push(sentence);
            }
        }
        Err(error) => recovered.failed.push(format!("the journals of stopped containers cannot be read, so some may be down: {error}")),
    }
}

fn sentence(repaired: &Repaired) -> (bool, String) {
    let container = printable(repaired.container.as_bytes());
    let run = printable(repaired.run.as_bytes());
    match &repaired.outcome {
        RepairOutcome::Restored => (false, format!("container {container}, which run {run} had left down, runs again")),
        RepairOutcome::Ran => (false, format!("container {container}, which run {run} had taken down, runs")),
        RepairOutcome::Gone => (false, format!("container {container}, which run {run} had left down, was removed by somebody")),
        RepairOutcome::LeftTo { run: other } => {
            (false, format!("container {container} is left to run {}, which holds it", printable(other.as_bytes())))
        }
        RepairOutcome::Failed(error) => (true, format!("container {container}, which run {run} had left down, cannot be started: {error}")),
    }
}
