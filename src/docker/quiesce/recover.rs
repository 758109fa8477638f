//! Brings back what runs that have died had stopped.
//!
//! Called at every start of bbackup that knows an Engine, and by the boot unit.

use std::path::Path;

use super::GATE_LIMIT;
use super::calls::{Undone, undo};
use super::release::BACKOFF;
use crate::docker::connect::Engine;
use crate::docker::error::DockerError;
use crate::docker::journal::{Action, Entry, Gate, Journal, JournalError, Journals};

/// What a repair found and did.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The containers that a dead run had left, in the order in which they came back.
    pub repaired: Vec<Repaired>,
}

/// One container that a dead run had left stopped or paused.
#[derive(Debug)]
pub struct Repaired {
    /// The run that died.
    pub run: String,
    /// Name of the container.
    pub container: String,
    /// What had been done to it.
    pub action: Action,
    /// How it came back.
    pub outcome: RepairOutcome,
}

/// How a container came back.
#[derive(Debug)]
pub enum RepairOutcome {
    /// It was started or unfrozen.
    Restored,
    /// It ran already.
    Ran,
    /// Somebody had removed it.
    Gone,
    /// A living run holds it as well, and starts it when it ends.
    LeftTo {
        /// That run.
        run: String,
    },
    /// It could not be started; its journal stays, and the next repair tries again.
    Failed(DockerError),
}

/// Brings back every container that a dead run had stopped or paused on this Engine, in dependency order. Containers of
/// living runs are not touched. Costs nothing where there is no journal.
///
/// # Errors
/// The journals cannot be read.
pub async fn recover(state: &Path, engine: &Engine) -> Result<Recovery, JournalError> {
    let journals = Journals::new(state);
    let mut recovery = Recovery::default();
    if !journals.any()? {
        return Ok(recovery);
    }
    let gate = journals.gate(GATE_LIMIT).await?;
    // Those of living runs are known before ours are locked; the gate keeps them as they are.
    let living: Vec<Entry> = journals
        .held_by_others(&gate, None, engine.id())?
        .into_iter()
        .filter(|holding| holding.living)
        .map(|holding| holding.entry)
        .collect();
    for mut journal in journals.dead(&gate, engine.id())? {
        repair(&mut journal, &gate, &living, engine, &mut recovery).await;
    }
    Ok(recovery)
}

async fn repair(journal: &mut Journal, _gate: &Gate, living: &[Entry], engine: &Engine, recovery: &mut Recovery) {
    let entries: Vec<Entry> = journal.open_entries().cloned().collect();
    for entry in entries {
        let outcome = match living.iter().find(|other| other.container == entry.container) {
            Some(other) => RepairOutcome::LeftTo { run: other.run.clone() },
            None => bring_back(engine, &entry).await,
        };
        if !matches!(outcome, RepairOutcome::Failed(_)) {
            // A line that cannot be written costs the next start a look at a container that runs.
            let _ = journal.released(entry.order);
        }
        recovery.repaired.push(Repaired { run: entry.run.clone(), container: entry.name.clone(), action: entry.action, outcome });
    }
}

async fn bring_back(engine: &Engine, entry: &Entry) -> RepairOutcome {
    let mut attempt = 0;
    loop {
        match undo(engine, entry).await {
            Ok(Undone::Restored) => return RepairOutcome::Restored,
            Ok(Undone::Ran) => return RepairOutcome::Ran,
            Ok(Undone::Gone) => return RepairOutcome::Gone,
            Err(error) => {
                let Some(wait) = BACKOFF.get(attempt) else { return RepairOutcome::Failed(error) };
                attempt += 1;
                tokio::time::sleep(*wait).await;
            }
        }
    }
}
