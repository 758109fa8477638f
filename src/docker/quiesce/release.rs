//! Brings back what a guard holds: each after what it depends on.
//!
//! The order and the decision what was done are `decide`'s; whether they stay and become healthy is seen in `settle`.

use std::time::{Duration, Instant};

use super::calls::{UNSETTLED, Undone, undo};
use super::settle::Started;
use super::{GATE_LIMIT, Held, Inner, services};
use crate::docker::error::DockerError;
use crate::docker::journal::{Action, Entry, Gate, Holding};
use crate::model::application::{Consistency, QuiesceRecord, Status};
use crate::model::hook::HookRecord;
use crate::model::progress::{Event, Progress};
use crate::platform::clock;

/// Waits before the second, third and fourth attempt to start a container.
pub(super) const BACKOFF: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// How long is waited for an Engine that is gone, as it is while it restarts, and how often it is asked.
pub(super) const ENGINE_LIMIT: Duration = Duration::from_mins(3);
pub(super) const ENGINE_WAIT: Duration = Duration::from_secs(1);

/// How bringing containers back went.
#[derive(Debug, Default)]
pub struct Release {
    /// What was done to each, in the order in which they came back.
    pub records: Vec<QuiesceRecord>,
    /// The containers that did not come back. Nothing is worse than this.
    pub failures: Vec<StartFailure>,
    /// From the first that was stopped to the last that came back.
    pub downtime: Duration,
    /// What somebody should know, one sentence each.
    pub notes: Vec<String>,
    /// The commands that ran in containers, before and after.
    pub hooks: Vec<HookRecord>,
    /// Commands that were to run afterwards and failed, one sentence each.
    pub hook_failures: Vec<String>,
}

/// A container that did not come back. Its entry stays in the journal, so that the next start of bbackup tries again.
#[derive(Debug, thiserror::Error)]
#[error("{what} {container} was {before} before the backup and could not be started again", before = .before.as_str(), what = what(*.action))]
pub struct StartFailure {
    /// Its name.
    pub container: String,
    /// Its id.
    pub id: String,
    /// What it did before.
    pub before: Status,
    /// What was done to it.
    pub action: Action,
    /// Why the last attempt failed.
    #[source]
    pub cause: StartCause,
}

/// Why a container did not come back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartCause {
    /// The Engine refused.
    #[error(transparent)]
    Engine(#[from] DockerError),
    /// It was started and ended again at once, each time.
    #[error("it ended at once with exit code {exit_code}")]
    Ended {
        /// Its exit code.
        exit_code: i64,
    },
}

impl StartFailure {
    /// Whether a later attempt may succeed without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(&self.cause, StartCause::Engine(error) if error.is_transient())
    }
}

/// How one container came back.
enum Back {
    Undone(Undone),
    /// Another living run holds it and will start it.
    LeftTo(String),
}

impl Inner {
    /// Second: those of which is to be seen whether they stay. None where commands are still to run in them: then they were seen to.
    pub(super) async fn release(&mut self, progress: &dyn Progress) -> (Release, Vec<Started>) {
        let mut release = Release { notes: std::mem::take(&mut self.notes), ..Release::default() };
        let first = self.held.first().map(|held| held.since);
        self.first = first;
        let deadline = clock::monotonic() + self.options.health_limit;
        let mut back: Vec<Held> = Vec::new();
        let mut scaled: Vec<(usize, Held)> = Vec::new();
        let mut left: Vec<String> = Vec::new();
        // Taken from the end one by one: whoever gives up waiting for us leaves the rest in the guard.
        while let Some(held) = self.held.last().cloned() {
            self.wait_for_needs(&held, &back, deadline).await;
            let result = self.bring_back(&held, progress).await;
            let now = clock::monotonic();
            self.held.pop();
            release.downtime = first.map_or(Duration::ZERO, |first| now.duration_since(first));
            let mut record = record(&held, now);
            match result {
                Ok(Back::Undone(Undone::Restored)) if held.entry.action == Action::Scale => scaled.push((release.records.len(), held)),
                Ok(Back::Undone(Undone::Restored)) => back.push(held),
                Ok(Back::Undone(Undone::Rescaled(now))) => {
                    let note = format!("somebody else scaled it to {now} while it was being read, and it is left so");
                    release.notes.push(format!("service {}: {note}", held.planned.name));
                    record.note = Some(note);
                }
                Ok(Back::Undone(Undone::Revived)) => {
                    record.note = Some("it ended while it was paused, and was started again".to_owned());
                    release.notes.push(format!("{} ended while it was paused, and was started again", held.planned.name));
                    back.push(held);
                }
                Ok(Back::Undone(Undone::Ran)) if held.still => {
                    record.note = Some("somebody else started it while it was being read".to_owned());
                }
                Ok(Back::Undone(Undone::Ran)) => {}
                Ok(Back::Undone(Undone::Gone)) => record.note = Some("somebody removed it while it was stopped".to_owned()),
                Ok(Back::LeftTo(run)) => {
                    record.note = Some(format!("left to run {run}, which still needs it stopped"));
                    left.push(held.planned.id.clone());
                }
                Err(cause) => {
                    record.note = Some("it could not be started again".to_owned());
                    release.failures.push(failure(&held, cause.into()));
                }
            }
            release.records.push(record);
        }
        if !back.is_empty() || !scaled.is_empty() {
            progress.event(Event::Phase("waiting for health"));
        }
        let mut started = Vec::new();
        let last = clock::monotonic();
        for held in back {
            started.extend(self.settle(held, last, deadline, &mut release).await);
        }
        for (record, held) in &scaled {
            self.settle_service(held, *record, deadline, &mut release).await;
        }
        if !self.owed.is_empty() {
            self.see_whether_they_stay(std::mem::take(&mut started), &mut release).await;
        }
        self.after(&left, &mut release, progress).await;
        release.hooks = std::mem::take(&mut self.hook_records);
        (release, started)
    }

    /// Waits until those that this container needs healthy are, or until the limit.
    async fn wait_for_needs(&self, held: &Held, back: &[Held], deadline: Instant) {
        for needed in back.iter().filter(|other| other.planned.was_healthy && held.planned.needs_healthy.contains(&other.planned.name)) {
            let _ = self.wait_for_health(needed, deadline).await;
        }
    }

    async fn bring_back(&mut self, held: &Held, progress: &dyn Progress) -> Result<Back, DockerError> {
        let (entry, mut attempt, mut told) = (&held.entry, 0, false);
        let engine_deadline = clock::monotonic() + ENGINE_LIMIT;
        loop {
            // Whatever is wrong with the journals, a container that we stopped is started.
            let gate = self.journals.gate(GATE_LIMIT).await.ok();
            if let Some(run) = self.kept_still_by(gate.as_ref(), entry) {
                self.released(entry);
                return Ok(Back::LeftTo(run));
            }
            if !told {
                progress.event(Event::Phase(&format!("{} {}", undoing(entry.action), held.planned.name)));
                told = true;
            }
            match undo(&self.engine, entry, held.settled).await {
                Ok(Some(undone)) => {
                    if matches!(undone, Undone::Restored | Undone::Revived) && entry.action != Action::Scale {
                        self.started(entry);
                    } else {
                        self.released(entry);
                    }
                    return Ok(Back::Undone(undone));
                }
                Ok(None) => {
                    // Others need not wait for it: it is still ours.
                    drop(gate);
                    tokio::time::sleep(UNSETTLED).await;
                }
                Err(error) => {
                    drop(gate);
                    if error.is_unreachable() && clock::monotonic() < engine_deadline {
                        tokio::time::sleep(ENGINE_WAIT).await;
                        continue;
                    }
                    let Some(wait) = BACKOFF.get(attempt) else { return Err(error) };
                    attempt += 1;
                    tokio::time::sleep(*wait).await;
                }
            }
        }
    }

    /// The living run that keeps a container still as well, or needs it still.
    pub(super) fn kept_still_by(&self, gate: Option<&Gate>, entry: &Entry) -> Option<String> {
        let others = gate.and_then(|gate| self.journals.held_by_others(gate, self.journal.as_ref(), self.engine.id()).ok());
        let is_same = |other: &Holding| other.living && other.entry.container == entry.container;
        let other = others.into_iter().flatten().find(is_same).map(|other| other.entry.run);
        other.or_else(|| self.options.needed_by.as_ref().and_then(|needed| (needed.0)(entry)))
    }

    /// A line that cannot be written costs the next start a look at a container that runs.
    fn started(&mut self, entry: &Entry) {
        if let Some(journal) = &mut self.journal {
            let _ = journal.started(entry.order);
        }
    }

    /// A line that cannot be written costs the next start a look at a container that runs.
    pub(super) fn released(&mut self, entry: &Entry) {
        if let Some(journal) = &mut self.journal {
            let _ = journal.released(entry.order);
        }
    }
}

fn record(held: &Held, now: Instant) -> QuiesceRecord {
    QuiesceRecord {
        container: held.planned.name.clone(),
        before: held.entry.before,
        action: match held.entry.action {
            Action::Stop | Action::Scale => Consistency::Stop,
            Action::Pause => Consistency::Pause,
        },
        downtime_seconds: now.duration_since(held.since).as_secs_f64(),
        note: held.planned.note.clone().or_else(|| services::scaled(&held.entry)),
    }
}

/// What is done to a container or service that comes back.
fn undoing(action: Action) -> &'static str {
    match action {
        Action::Stop => "starting",
        Action::Pause => "resuming",
        Action::Scale => "scaling back service",
    }
}

/// What somebody has to look for.
fn what(action: Action) -> &'static str {
    if action == Action::Scale { "service" } else { "container" }
}

pub(super) fn failure(held: &Held, cause: StartCause) -> StartFailure {
    StartFailure {
        container: held.planned.name.clone(),
        id: held.planned.id.clone(),
        before: held.entry.before,
        action: held.entry.action,
        cause,
    }
}
