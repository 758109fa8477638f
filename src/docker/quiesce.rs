//! Keeps containers still while they are read, and brings them back: the guard, and the repair after a crash.
//!
//! What is done to whom is decided in `decide`, written down in `journal`; when it is done is the business of `jobs`.

mod before;
mod calls;
mod decide;
mod events;
mod hooks;
mod order;
mod recover;
mod release;
mod services;
mod settle;
#[cfg(test)]
mod tests;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::calls::{ENGINE_STOP_TIMEOUT, Seen, deadline, look, pause, settled_after, stop};
use super::connect::Engine;
use super::error::DockerError;
use super::journal::{Action, Entry, Gate, Intent, Journal, JournalError, Journals, OwedHook};
use crate::model::application::{Health, Status};
use crate::model::hook::HookRecord;
use crate::model::progress::{Event, Progress};
use crate::platform::clock;
use crate::platform::control::Control;

pub use self::before::{LeftDown, Undisturbed, discover_undisturbed};
pub use self::decide::{Planned, PlannedService, QuiescePlan, QuiesceRequest, Wishes, decide, scaled_elsewhere};
pub use self::hooks::{ContainerHooks, HookError, PlannedHooks};
pub use self::order::start_order;
pub use self::recover::{OwedOutcome, RanOwed, Recovery, RepairOutcome, Repaired, held, held_elsewhere, recover};
pub use self::release::{Release, StartCause, StartFailure};
pub use self::settle::Settling;
pub use self::watch::{Meanwhile, Place, Watch, Writer};

/// How long somebody else may hold the gate: the time of a stop that is killed in the end.
pub const GATE_LIMIT: Duration = Duration::from_mins(5);
/// How long a container may take that says that it is never to be killed: whoever waits without end cannot say whether it is down.
pub const PATIENCE: Duration = Duration::from_mins(5);
/// What the Engine may take on top of a container's own time to stop.
const STOP_MARGIN: Duration = Duration::from_mins(1);

/// How patiently.
#[derive(Debug, Clone)]
pub struct QuiesceOptions {
    /// How long a container may take to stop before the Engine kills it; none for its own setting.
    pub stop_timeout: Option<Duration>,
    /// How long is waited, after the start, for all of them together to be healthy.
    pub health_limit: Duration,
    /// Who else needs a container (its id) stopped, and starts it when that is over.
    pub needed_by: Option<NeededBy>,
}

/// Gives the run that needs a container stopped.
#[derive(Clone)]
pub struct NeededBy(pub Arc<Ask>);

/// From what was done to a container to the run.
pub type Ask = dyn Fn(&Entry) -> Option<String> + Send + Sync;

impl std::fmt::Debug for NeededBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NeededBy")
    }
}

impl Default for QuiesceOptions {
    fn default() -> Self {
        Self { stop_timeout: None, health_limit: Duration::from_mins(2), needed_by: None }
    }
}

/// Why containers could not be kept still.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuiesceError {
    /// A container could not be stopped, or refused to.
    #[error("cannot stop container {container}")]
    Stop {
        /// Its name.
        container: String,
        /// Cause.
        #[source]
        source: DockerError,
    },
    /// A container could not be frozen.
    #[error("cannot pause container {container}")]
    Pause {
        /// Its name.
        container: String,
        /// Cause.
        #[source]
        source: DockerError,
    },
    /// The Engine says that it stopped a container, and the container runs.
    #[error("container {container} is {status} after it was told to {action}")]
    StillRunning {
        /// Its name.
        container: String,
        /// What it does.
        status: &'static str,
        /// `stop`, `pause`.
        action: &'static str,
    },
    /// A service could not be scaled to 0, or it is not known whether it was.
    #[error("cannot scale service {service} to 0")]
    Scale {
        /// Its name.
        service: String,
        /// Cause.
        #[source]
        source: DockerError,
    },
    /// A service is changed by somebody else, again and again.
    #[error("cannot scale service {service} to 0: somebody else keeps changing it")]
    Overtaken {
        /// Its name.
        service: String,
    },
    /// Tasks of a service go on after it was scaled to 0.
    #[error(
        "{service} was scaled to 0, and {seconds} seconds later a task of it still runs{}",
        if .node.is_empty() { String::new() } else { format!(" on node {node}") }
    )]
    TasksRun {
        /// Its name.
        service: String,
        /// Where; empty if only here and unknown to the swarm.
        node: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The state of a container cannot be had.
    #[error("cannot see what container {container} does")]
    Look {
        /// Its name.
        container: String,
        /// Cause.
        #[source]
        source: DockerError,
    },
    /// A command that was to run before anything is stopped failed.
    #[error("exec-pre of container {container} failed")]
    Hook {
        /// Its name.
        container: String,
        /// How.
        #[source]
        source: HookError,
    },
    /// What is about to be done cannot be written down, so it is not done.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The operation was cancelled in between.
    #[error("cancelled")]
    Cancelled,
}

impl QuiesceError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Stop { source, .. } | Self::Pause { source, .. } | Self::Scale { source, .. } | Self::Look { source, .. } => {
                source.is_transient()
            }
            Self::Journal(error) => error.is_transient(),
            Self::StillRunning { .. } | Self::TasksRun { .. } | Self::Overtaken { .. } => true,
            Self::Hook { .. } | Self::Cancelled => false,
        }
    }
}

/// Containers could not be kept still; those that had been stopped before were brought back.
#[derive(Debug)]
pub struct QuiesceFailure {
    /// Why.
    pub error: QuiesceError,
    /// How bringing them back went.
    pub release: Release,
}

/// Containers that are kept still for as long as this lives.
///
/// End it with [`release`](Self::release), also on errors and when cancelled: it tells how it went. Dropped without, it blocks
/// until the containers are back, as well as that can be done.
#[derive(Debug)]
pub struct Quiesce {
    /// None only once it was released.
    inner: Option<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    journals: Journals,
    /// None where nothing had to be done.
    journal: Option<Journal>,
    options: QuiesceOptions,
    held: Vec<Held>,
    /// When we began with the first of them.
    first: Option<Instant>,
    /// Commands that must run once everything is back.
    owed: Vec<OwedHook>,
    hook_records: Vec<HookRecord>,
    notes: Vec<String>,
}

/// One container that is to come back.
#[derive(Debug, Clone)]
struct Held {
    planned: Planned,
    entry: Entry,
    /// When we began with it.
    since: Instant,
    /// Whether it was seen still after we had begun.
    still: bool,
    /// From when on what was done to it is done or will never be.
    settled: Instant,
}

impl Quiesce {
    /// Stops or freezes what the plan says, in its order. Each is written down in the state folder first.
    ///
    /// A container that another living run has stopped is held as well: it is started by whichever of the two ends last.
    ///
    /// # Errors
    /// At the first that cannot be kept still. What was stopped before is back by then, or in the failure's `release`.
    pub async fn begin(
        engine: &Engine,
        state: &Path,
        run: &str,
        plan: QuiescePlan,
        options: QuiesceOptions,
        control: &Control,
        progress: &dyn Progress,
    ) -> Result<Self, Box<QuiesceFailure>> {
        let mut inner = Inner {
            engine: engine.clone(),
            journals: Journals::new(state),
            journal: None,
            options,
            held: Vec::new(),
            first: None,
            owed: Vec::new(),
            hook_records: Vec::new(),
            notes: plan.notes,
        };
        let mut result = Ok(());
        // All of them before anything is stopped: a hook of one container may need another one.
        for hooks in &plan.hooks {
            if result.is_ok() {
                result = inner.before(hooks, run, control, progress).await;
            }
        }
        for planned in plan.planned {
            if result.is_err() {
                break;
            }
            if control.is_cancelled() {
                result = Err(QuiesceError::Cancelled);
            } else {
                result = inner.quiet(planned, run, progress).await;
            }
        }
        let guard = Self { inner: Some(inner) };
        match result {
            Ok(()) => Ok(guard),
            Err(error) => Err(Box::new(QuiesceFailure { error, release: guard.release(progress).await })),
        }
    }

    /// Names of the containers that are kept still, in the order in which they were stopped.
    pub fn held(&self) -> impl Iterator<Item = &str> {
        self.inner.iter().flat_map(|inner| &inner.held).map(|held| held.planned.name.as_str())
    }

    /// Ids of the containers that are kept still.
    pub fn held_ids(&self) -> impl Iterator<Item = &str> {
        self.inner.iter().flat_map(|inner| &inner.held).map(|held| held.planned.id.as_str())
    }

    /// Why containers that run are left running, or are paused and not stopped, one sentence each.
    pub fn notes(&self) -> &[String] {
        self.inner.as_ref().map_or(&[], |inner| &inner.notes)
    }

    /// Brings everything back in dependency order, waits until it is healthy and sees whether it stays.
    pub async fn release(self, progress: &dyn Progress) -> Release {
        let (mut release, settling) = self.start_again(progress).await;
        if let Some(settling) = settling {
            settling.end(&mut release).await;
        }
        release
    }

    /// Brings everything back in dependency order and waits until it is healthy. Whether the rest stays is still to be seen.
    pub async fn start_again(mut self, progress: &dyn Progress) -> (Release, Option<Settling>) {
        // The guard keeps what it holds until each is back: a caller that gives up in the middle leaves the rest to `drop`.
        let (release, started) = match &mut self.inner {
            Some(inner) => inner.release(progress).await,
            None => (Release::default(), Vec::new()),
        };
        let inner = self.inner.take().filter(|_| !started.is_empty());
        (release, inner.map(|inner| Settling { inner, started }))
    }
}

impl Drop for Quiesce {
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take().filter(|inner| !(inner.held.is_empty() && inner.owed.is_empty())) else { return };
        // The runtime that we are dropped on may be ending, and must not be blocked on from within: a thread has its own.
        let rescue = move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(async {
                    let (mut release, started) = inner.release(&crate::model::progress::Silent).await;
                    inner.see_whether_they_stay(started, &mut release).await;
                });
            }
        };
        if let Ok(thread) = std::thread::Builder::new().name("bring containers back".to_owned()).spawn(rescue) {
            // A panic in it leaves the journal, from which the next start repairs.
            let _ = thread.join();
        }
    }
}

impl Inner {
    async fn quiet(&mut self, planned: Planned, run: &str, progress: &dyn Progress) -> Result<(), QuiesceError> {
        if planned.action == Action::Scale {
            return self.quiet_service(planned, run, progress).await;
        }
        let gate = self.journals.gate(GATE_LIMIT).await?;
        let other = self.journals.held_by_others(&gate, self.journal.as_ref(), self.engine.id())?;
        let other = other.into_iter().map(|holding| holding.entry).find(|entry| entry.container == planned.id);
        let name = &planned.name;
        let seen = look(&self.engine, &planned.id).await.map_err(|source| QuiesceError::Look { container: name.clone(), source })?;
        let Some(seen) = seen else {
            self.notes.push(format!("{name} was removed before it could be stopped"));
            return Ok(());
        };
        let runs = matches!(seen.status, Status::Running | Status::Restarting);
        // It may have become healthy since all was looked at, or not be so any more.
        let was_healthy = if runs { seen.health == Health::Healthy } else { planned.was_healthy };
        // What another run holds is held as that one does it: it knows what the container was before.
        let (before, action, settled) = match &other {
            Some(entry) => (entry.before, entry.action, entry.settled),
            None if !runs => return Ok(()),
            None => {
                let own = seen.stop_timeout.unwrap_or(ENGINE_STOP_TIMEOUT);
                (seen.status, planned.action, settled_after(planned.action, self.stop_timeout(&planned, &seen).unwrap_or(own)))
            }
        };
        let intent = Intent {
            container: planned.id.clone(),
            name: name.clone(),
            before,
            action,
            service: None,
            started_at: seen.started_at.clone(),
            settled,
        };
        let since = clock::monotonic();
        let entry = self.journal(&gate, run)?.hold(intent)?;
        let settled = deadline(entry.settled);
        self.held.push(Held { planned: Planned { was_healthy, ..planned.clone() }, entry, since, still: !runs, settled });
        self.notes.extend(planned.told());
        // From here on others see that it is held, so nobody needs to wait until it has stopped.
        drop(gate);
        if runs {
            self.act(&planned, action, &seen, progress).await?;
        }
        Ok(())
    }

    /// How long a container may take to stop, if somebody else than itself says so: its label beats the configuration.
    fn stop_timeout(&self, planned: &Planned, seen: &Seen) -> Option<Duration> {
        planned.stop_timeout.or(self.options.stop_timeout).or(seen.stops_whenever.then_some(PATIENCE))
    }

    /// The journal of this guard, started when it is needed first.
    fn journal(&mut self, gate: &Gate, run: &str) -> Result<&mut Journal, JournalError> {
        match &mut self.journal {
            Some(journal) => Ok(journal),
            empty => Ok(empty.insert(self.journals.start(gate, self.engine.id(), run)?)),
        }
    }

    async fn act(&mut self, planned: &Planned, action: Action, before: &Seen, progress: &dyn Progress) -> Result<(), QuiesceError> {
        let (id, name) = (&planned.id, &planned.name);
        match action {
            Action::Stop => {
                progress.event(Event::Phase(&format!("stopping {name}")));
                let timeout = self.stop_timeout(planned, before);
                let patience = timeout.or(before.stop_timeout).unwrap_or(ENGINE_STOP_TIMEOUT).saturating_add(STOP_MARGIN);
                let stopped = stop(&self.engine, id, timeout, patience).await;
                stopped.map_err(|source| QuiesceError::Stop { container: name.clone(), source })?;
            }
            Action::Pause => {
                progress.event(Event::Phase(&format!("pausing {name}")));
                pause(&self.engine, id).await.map_err(|source| QuiesceError::Pause { container: name.clone(), source })?;
            }
            // Services go another way.
            Action::Scale => return Ok(()),
        }
        let seen = look(&self.engine, id).await.map_err(|source| QuiesceError::Look { container: name.clone(), source })?;
        // One that is gone, or ended instead of being frozen, is still as well.
        let status = seen.map_or(Status::Removing, |seen| seen.status);
        if matches!(status, Status::Running | Status::Restarting) {
            let action = if action == Action::Stop { "stop" } else { "pause" };
            return Err(QuiesceError::StillRunning { container: name.clone(), status: status.as_str(), action });
        }
        if let Some(held) = self.held.last_mut() {
            held.still = true;
        }
        Ok(())
    }
}

/// Where the journals are, for messages.
pub fn journal_folder(state: &Path) -> PathBuf {
    Journals::new(state).folder().to_owned()
}
