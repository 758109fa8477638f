//! Sees whether containers that were started again stay, and become healthy again if they were.
//!
//! Starting them is `release`'s business.

use std::time::{Duration, Instant};

use super::calls::{Seen, look, start};
use super::release::{Release, StartCause, failure};
use super::{GATE_LIMIT, Held, Inner};
use crate::docker::error::DockerError;
use crate::model::application::{Health, Status};
use crate::platform::clock;

/// How long after its start a container is looked at: a program that cannot go on with its data ends within moments.
pub(super) const MOMENTS: Duration = Duration::from_secs(3);

/// A container that was started again, and is to be looked at.
#[derive(Debug)]
pub(super) struct Started {
    held: Held,
    /// When.
    due: Instant,
    /// Whether it has failed already, and was started once more.
    is_second: bool,
}

/// Containers that were started again, and of which is still to be seen whether they stay.
///
/// They are not kept still any more. Dropped without [`end`](Self::end), the next start of bbackup looks at them.
#[derive(Debug)]
pub struct Settling {
    pub(super) inner: Inner,
    pub(super) started: Vec<Started>,
}

impl Settling {
    /// Waits until all of them had some moments to fail. One that has failed is started once more. Adds what came of it.
    pub async fn end(mut self, release: &mut Release) {
        self.inner.see_whether_they_stay(self.started, release).await;
    }
}

impl Inner {
    /// Waits until a container is healthy again if it was. Gives it if it is to be looked at once more; `last` is when the last one was started.
    pub(super) async fn settle(&mut self, held: Held, last: Instant, deadline: Instant, release: &mut Release) -> Option<Started> {
        let name = &held.planned.name;
        let was_healthy = held.planned.was_healthy;
        let seen = if was_healthy { self.wait_for_health(&held, deadline).await } else { look(&self.engine, &held.planned.id).await };
        match seen {
            Ok(Some(seen)) if seen.has_failed() => {
                return self.look_again(Started { held, due: last, is_second: false }, release).await;
            }
            Ok(Some(seen)) if was_healthy && seen.health != Health::Healthy => {
                let limit = self.options.health_limit.as_secs();
                release.notes.push(format!("{name} runs again and was not healthy within {limit} seconds"));
            }
            // What goes on where it was frozen was not started.
            Ok(Some(seen)) if !was_healthy && !seen.is_restarted && seen.started_at != held.entry.started_at => {
                return Some(Started { held, due: last + MOMENTS, is_second: false });
            }
            Ok(_) => {}
            Err(error) => {
                release.notes.push(format!("cannot see whether {name} is healthy: {error}"));
                return None;
            }
        }
        self.released(&held.entry);
        None
    }

    /// Looks at each when it is due, and at those that had to be started once more again. What does not stay is open in the journal.
    pub(super) async fn see_whether_they_stay(&mut self, mut started: Vec<Started>, release: &mut Release) {
        while let Some(due) = started.iter().map(|one| one.due).max() {
            tokio::time::sleep(due.saturating_duration_since(clock::monotonic())).await;
            for one in std::mem::take(&mut started) {
                started.extend(self.look_again(one, release).await);
            }
        }
    }

    async fn look_again(&mut self, one: Started, release: &mut Release) -> Option<Started> {
        let Started { held, is_second, .. } = one;
        let (id, name) = (&held.planned.id, &held.planned.name);
        // Nobody else stops it between this look and the start.
        let gate = self.journals.gate(GATE_LIMIT).await.ok();
        if self.kept_still_by(gate.as_ref(), &held.entry).is_some() {
            self.released(&held.entry);
            return None;
        }
        match look(&self.engine, id).await {
            Ok(Some(seen)) if seen.has_failed() => {
                // Once more: databases that were killed may need a second attempt; then it is somebody's business.
                if !is_second && start(&self.engine, id).await.is_ok() {
                    return Some(Started { held, due: clock::monotonic() + MOMENTS, is_second: true });
                }
                release.failures.push(failure(&held, StartCause::Ended { exit_code: seen.exit_code }));
                return None;
            }
            Ok(Some(seen)) if seen.status == Status::Restarting && held.entry.before == Status::Running => {
                release.notes.push(format!("{name} was started again, fails (exit code {}) and is restarted", seen.exit_code));
            }
            Ok(_) => {}
            Err(error) => {
                release.notes.push(format!("cannot see whether {name}, which was started again, stays: {error}"));
                return None;
            }
        }
        self.released(&held.entry);
        None
    }

    /// Waits until a container is healthy, unhealthy for good, or not running any more.
    pub(super) async fn wait_for_health(&self, held: &Held, deadline: Instant) -> Result<Option<Seen>, DockerError> {
        loop {
            let seen = look(&self.engine, &held.planned.id).await?;
            let waiting =
                seen.as_ref().is_some_and(|seen| seen.status.is_alive() && matches!(seen.health, Health::Starting | Health::Unhealthy));
            if !waiting || clock::monotonic() >= deadline {
                return Ok(seen);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
