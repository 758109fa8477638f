//! Brings back what runs that have died had stopped.
//!
//! Called at every start of bbackup that knows an Engine, and by the boot unit.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::time::Instant;

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
    let mut dead = journals.dead(&gate, engine.id())?;
    let mut living = living(&journals, &gate, engine, &dead)?;
    let mut gate = Some(gate);
    let mut left: Vec<VecDeque<Pending>> = dead.iter().map(pending).collect();
    let mut started = Vec::new();
    loop {
        for (number, (journal, left)) in dead.iter_mut().zip(&mut left).enumerate() {
            let entries = repair(journal, left, &living, needed_by, engine, &mut recovery).await;
            started.extend(entries.into_iter().map(|(repaired, entry)| Started { journal: number, repaired, entry }));
        }
        // A stop that is still under way may take long, and so may commands; nobody has to wait for them. The journals stay ours: they are
        // locked, and others take them for those of a run that lives.
        drop(gate.take());
        if left.iter().all(VecDeque::is_empty) {
            break;
        }
        tokio::time::sleep(UNSETTLED).await;
        // Whatever is wrong with it from here on, what was left down is started: then what was known last of living runs counts.
        gate = journals.gate(GATE_LIMIT).await.ok();
        living = gate.as_ref().and_then(|gate| self::living(&journals, gate, engine, &dead).ok()).unwrap_or(living);
    }
    if !started.is_empty() {
        tokio::time::sleep(MOMENTS).await;
        let gate = journals.gate(GATE_LIMIT).await.ok();
        living = gate.as_ref().and_then(|gate| self::living(&journals, gate, engine, &dead).ok()).unwrap_or(living);
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

/// What is still to be brought back, and when what was asked for is settled.
struct Pending {
    entry: Entry,
    settled: Instant,
}

fn pending(journal: &Journal) -> VecDeque<Pending> {
    journal.open_entries().map(|entry| Pending { settled: deadline(entry.settled), entry: entry.clone() }).collect()
}

/// What living runs keep still; `ours` are the journals of the dead that we have locked.
fn living(journals: &Journals, gate: &Gate, engine: &Engine, ours: &[Journal]) -> Result<Vec<Entry>, JournalError> {
    let held = journals.held_by_others(gate, ours, engine.id())?;
    Ok(held.into_iter().filter(|holding| holding.living).map(|holding| holding.entry).collect())
}

/// Brings back what is left, up to the first that is not settled: those that depend on each other keep their order. Gives those that were
/// started, with the number of what is said of each.
async fn repair(
    journal: &mut Journal,
    left: &mut VecDeque<Pending>,
    living: &[Entry],
    needed_by: Option<&NeededBy>,
    engine: &Engine,
    recovery: &mut Recovery,
) -> Vec<(usize, Entry)> {
    let mut started = Vec::new();
    while let Some(Pending { entry, settled }) = left.pop_front() {
        let other = living.iter().find(|other| other.container == entry.container).map(|other| other.run.clone());
        let outcome = match other.or_else(|| needed_by.and_then(|needed| (needed.0)(&entry))) {
            Some(run) => Some(RepairOutcome::LeftTo { run }),
            None => bring_back(engine, &entry, settled).await,
        };
        let Some(outcome) = outcome else {
            left.push_front(Pending { entry, settled });
            break;
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

/// None: not yet, as what was asked for is not settled.
async fn bring_back(engine: &Engine, entry: &Entry, settled: Instant) -> Option<RepairOutcome> {
    let mut attempt = 0;
    loop {
        return Some(match undo(engine, entry, settled).await {
            Ok(None) => return None,
            Ok(Some(Undone::Restored | Undone::Revived)) => RepairOutcome::Restored,
            Ok(Some(Undone::Ran)) => RepairOutcome::Ran,
            Ok(Some(Undone::Gone)) => RepairOutcome::Gone,
            Ok(Some(Undone::Rescaled(replicas))) => RepairOutcome::Rescaled { replicas },
            Err(error) => {
                let Some(wait) = BACKOFF.get(attempt) else { return Some(RepairOutcome::Failed(error.into())) };
                attempt += 1;
                tokio::time::sleep(*wait).await;
                continue;
            }
        });
    }
}
