//! Brings back what runs that have died had stopped.
//!
//! Called at every start of bbackup that knows an Engine, and by the boot unit.

use std::collections::BTreeSet;
use std::path::Path;

use super::calls::{UNSETTLED, Undone, deadline, look, undo};
use super::hooks::{self, HookError, Place};
use super::release::{BACKOFF, StartCause};
use super::settle::MOMENTS;
use super::{GATE_LIMIT, NeededBy};
use crate::docker::connect::Engine;
use crate::docker::exec::ExecError;
use crate::docker::journal::{Action, Entry, Gate, Holding, Journal, JournalError, Journals, OwedHook};
use crate::model::application::Status;
use crate::model::hook::HookTime;
use crate::model::progress::Silent;

/// What a repair found and did.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The containers that a dead run had left, in the order in which they came back.
    pub repaired: Vec<Repaired>,
    /// The commands that a dead run still owed, in the order in which they were run.
    pub owed: Vec<RanOwed>,
}

/// A command that a dead run had to run once its containers were back, and did not.
#[derive(Debug)]
pub struct RanOwed {
    /// The run that died.
    pub run: String,
    /// Name of the container.
    pub container: String,
    /// How it went. Whatever it was, the command is not owed any more, except while its container is not back or the Engine does not answer.
    pub outcome: OwedOutcome,
}

/// How a command that was owed ended.
#[derive(Debug)]
pub enum OwedOutcome {
    /// It was run, and well.
    Done,
    /// It failed, or could not be run.
    Failed(HookError),
    /// Its container is gone.
    Gone,
    /// It was not run yet: its container could not be started, or a living run keeps it still. The next repair runs it.
    Waits,
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
    /// A service that somebody has scaled meanwhile: it is left so.
    Rescaled {
        /// To how many tasks.
        replicas: u64,
    },
    /// A living run holds it as well, and starts it when it ends.
    LeftTo {
        /// That run.
        run: String,
    },
    /// It could not be started, or ended at once; its journal stays, and the next repair tries again.
    Failed(StartCause),
}

/// The containers and services on this Engine that runs keep still, or have left so.
///
/// # Errors
/// The journals cannot be read.
pub async fn held(state: &Path, engine: &Engine) -> Result<Vec<Holding>, JournalError> {
    let journals = Journals::new(state);
    if !journals.any()? {
        return Ok(Vec::new());
    }
    let gate = journals.gate(GATE_LIMIT).await?;
    journals.held_by_others(&gate, None, engine.id())
}

/// Those that living runs keep still.
///
/// # Errors
/// The journals cannot be read.
pub async fn held_elsewhere(state: &Path, engine: &Engine) -> Result<Vec<Entry>, JournalError> {
    Ok(held(state, engine).await?.into_iter().filter(|holding| holding.living).map(|holding| holding.entry).collect())
}

/// Brings back every container that a dead run had stopped or paused on this Engine, in dependency order. Containers of
/// living runs, and those that somebody else needs stopped, are not touched. Costs nothing where there is no journal.
///
/// # Errors
/// The journals cannot be read.
pub async fn recover(state: &Path, engine: &Engine, needed_by: Option<&NeededBy>) -> Result<Recovery, JournalError> {
    let journals = Journals::new(state);
    let mut recovery = Recovery::default();
    if !journals.any()? {
        return Ok(recovery);
    }
    let gate = journals.gate(GATE_LIMIT).await?;
    // Those of living runs are known before ours are locked; the gate keeps them as they are.
    let living = living(&journals, &gate, engine)?;
    let mut dead = journals.dead(&gate, engine.id())?;
    let mut started = Vec::new();
    for (number, journal) in dead.iter_mut().enumerate() {
        let entries = repair(journal, &gate, &living, needed_by, engine, &mut recovery).await;
        started.extend(entries.into_iter().map(|(repaired, entry)| Started { journal: number, repaired, entry }));
    }
    // Commands may take long; nobody has to wait for them. The journals stay ours: they are locked.
    drop(gate);
    if !started.is_empty() {
        tokio::time::sleep(MOMENTS).await;
        let gate = journals.gate(GATE_LIMIT).await?;
        let living = self::living(&journals, &gate, engine)?;
        let is_held = |entry: &Entry| {
            living.iter().any(|other| other.container == entry.container) || needed_by.is_some_and(|needed| (needed.0)(entry).is_some())
        };
        see_whether_they_stay(started, &mut dead, is_held, engine, &mut recovery).await;
    }
    for journal in &mut dead {
        run_owed(journal, &living, engine, &mut recovery).await;
    }
    Ok(recovery)
}

/// A container that was started, by the number of its journal and of what is said of it.
struct Started {
    journal: usize,
    repaired: usize,
    entry: Entry,
}

/// What living runs keep still.
fn living(journals: &Journals, gate: &Gate, engine: &Engine) -> Result<Vec<Entry>, JournalError> {
    let held = journals.held_by_others(gate, None, engine.id())?;
    Ok(held.into_iter().filter(|holding| holding.living).map(|holding| holding.entry).collect())
}

/// Gives those that were started, with the number of what is said of each.
async fn repair(
    journal: &mut Journal,
    _gate: &Gate,
    living: &[Entry],
    needed_by: Option<&NeededBy>,
    engine: &Engine,
    recovery: &mut Recovery,
) -> Vec<(usize, Entry)> {
    let mut started = Vec::new();
    let entries: Vec<Entry> = journal.open_entries().cloned().collect();
    for entry in entries {
        let other = living.iter().find(|other| other.container == entry.container).map(|other| other.run.clone());
        let outcome = match other.or_else(|| needed_by.and_then(|needed| (needed.0)(&entry))) {
            Some(run) => RepairOutcome::LeftTo { run },
            None => bring_back(engine, &entry).await,
        };
        // A line that cannot be written costs the next start a look at a container that runs.
        let _ = match &outcome {
            RepairOutcome::Failed(_) => Ok(()),
            RepairOutcome::Restored if entry.action != Action::Scale => {
                started.push((recovery.repaired.len(), entry.clone()));
                journal.started(entry.order)
            }
            _ => journal.released(entry.order),
        };
        recovery.repaired.push(Repaired { run: entry.run.clone(), container: entry.name.clone(), action: entry.action, outcome });
    }
    started
}

/// Looks at those that were started: one that has failed meanwhile is not back.
async fn see_whether_they_stay(
    started: Vec<Started>,
    dead: &mut [Journal],
    is_held: impl Fn(&Entry) -> bool,
    engine: &Engine,
    recovery: &mut Recovery,
) {
    for Started { journal, repaired, entry } in started {
        let failed = match look(engine, &entry.container).await {
            Ok(Some(seen)) if seen.has_failed() && !is_held(&entry) => StartCause::Ended { exit_code: seen.exit_code },
            Err(error) => error.into(),
            Ok(_) => {
                let _ = dead[journal].released(entry.order);
                continue;
            }
        };
        recovery.repaired[repaired].outcome = RepairOutcome::Failed(failed);
    }
}

/// Runs what is owed where its container is back.
async fn run_owed(journal: &mut Journal, living: &[Entry], engine: &Engine, recovery: &mut Recovery) {
    // What could not be started is still open.
    let down: BTreeSet<String> = journal.open_entries().chain(living).map(|entry| entry.container.clone()).collect();
    let owed: Vec<OwedHook> = journal.open_hooks().cloned().collect();
    for OwedHook { run, container, name, order, hook, .. } in owed {
        if down.contains(&container) {
            recovery.owed.push(RanOwed { run, container: name, outcome: OwedOutcome::Waits });
            continue;
        }
        let place = Place { container: &container, name: &name, when: HookTime::Post };
        // One that is left to a restore is not back either.
        if look(engine, &container).await.is_ok_and(|seen| seen.is_some_and(|seen| seen.status != Status::Running)) {
            recovery.owed.push(RanOwed { run, container: name, outcome: OwedOutcome::Waits });
            continue;
        }
        let outcome = match hooks::run(engine, &place, &hook, None, &Silent).await.1 {
            Ok(()) => OwedOutcome::Done,
            Err(HookError::Exec(ExecError::Engine(error))) if error.is_not_found() => OwedOutcome::Gone,
            Err(error) => OwedOutcome::Failed(error),
        };
        // One that failed is told once and not tried for ever; one that never began is.
        if !matches!(&outcome, OwedOutcome::Failed(HookError::Exec(ExecError::Engine(error))) if error.is_transient()) {
            let _ = journal.released(order);
        }
        recovery.owed.push(RanOwed { run, container: name, outcome });
    }
}

async fn bring_back(engine: &Engine, entry: &Entry) -> RepairOutcome {
    let (mut attempt, settled) = (0, deadline(entry.settled));
    loop {
        match undo(engine, entry, settled).await {
            Ok(Some(Undone::Restored | Undone::Revived)) => return RepairOutcome::Restored,
            Ok(Some(Undone::Ran)) => return RepairOutcome::Ran,
            Ok(Some(Undone::Gone)) => return RepairOutcome::Gone,
            Ok(Some(Undone::Rescaled(replicas))) => return RepairOutcome::Rescaled { replicas },
            Ok(None) => tokio::time::sleep(UNSETTLED).await,
            Err(error) => {
                let Some(wait) = BACKOFF.get(attempt) else { return RepairOutcome::Failed(error.into()) };
                attempt += 1;
                tokio::time::sleep(*wait).await;
            }
        }
    }
}
