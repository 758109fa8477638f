//! The calls that stop, freeze and bring back one container, and what is seen of it.
//!
//! Raw calls, not bollard's: they also have to work from a guard that is dropped, on a runtime of its own.

use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::Method;
use hyper::body::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use crate::docker::connect::Engine;
use crate::docker::error::DockerError;
use crate::docker::journal::{Action, Entry};
use crate::docker::swarm::{self, Change};
use crate::docker::wire::encode;
use crate::model::application::{Health, Status};
use crate::platform::clock;

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) status: Status,
    pub(super) health: Health,
    pub(super) exit_code: i64,
    pub(super) started_at: String,
    /// How long the Engine lets it take to stop before it kills it.
    pub(super) stop_timeout: Option<Duration>,
    /// Whether it is never killed, however long it takes (`--stop-timeout -1`).
    pub(super) stops_whenever: bool,
    /// Whether the Engine starts it again for as long as it fails.
    pub(super) is_restarted: bool,
}

impl Seen {
    /// Whether it has ended, and not well.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.status, Status::Exited | Status::Dead) && self.exit_code != 0
    }
}

/// How a container came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undone {
    /// It was started or unfrozen.
    Restored,
    /// It had been frozen, ended all the same, and was started.
    Revived,
    /// It ran already.
    Ran,
    /// It is gone.
    Gone,
    /// A service that somebody else has scaled meanwhile; it is left so.
    Rescaled(u64),
}

/// The longest that a container whose stop was asked for by a run that is dead is waited for.
const LONGEST: Duration = Duration::from_hours(1);
/// How long the Engine lets a container take to stop unless it or somebody else says otherwise.
pub(super) const ENGINE_STOP_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspect {
    state: State,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    host_config: HostConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    #[serde(default)]
    exit_code: i64,
    #[serde(default)]
    started_at: String,
    health: Option<HealthState>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthState {
    #[serde(default)]
    status: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Config {
    stop_timeout: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    restart_policy: Restarts,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Restarts {
    #[serde(default)]
    name: String,
    #[serde(default)]
    maximum_retry_count: i64,
}

impl Restarts {
    fn are_endless(&self) -> bool {
        match self.name.as_str() {
            "always" | "unless-stopped" => true,
            "on-failure" => self.maximum_retry_count == 0,
            _ => false,
        }
    }
}

/// What a container does now; none if there is no such container.
pub(super) async fn look(engine: &Engine, id: &str) -> Result<Option<Seen>, DockerError> {
    let path = format!("/containers/{}/json", encode(id));
    let bytes = match engine.wire().get_bytes(&path).await {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    let malformed =
        |error: serde_json::Error| DockerError::Malformed { call: "GET /containers/{id}/json".to_owned(), source: error.into() };
    let inspect: Inspect = serde_json::from_slice(&bytes).map_err(malformed)?;
    Ok(Some(Seen {
        status: Status::from_engine(&inspect.state.status),
        health: inspect.state.health.map_or(Health::None, |health| Health::from_engine(&health.status)),
        exit_code: inspect.state.exit_code,
        started_at: inspect.state.started_at,
        stop_timeout: inspect.config.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
        stops_whenever: inspect.config.stop_timeout.is_some_and(|seconds| seconds < 0),
        is_restarted: inspect.host_config.restart_policy.are_endless(),
    }))
}

/// Stops a container; it is killed after `timeout`, or after its own time if none is given. `limit` bounds the whole call.
pub(super) async fn stop(engine: &Engine, id: &str, timeout: Option<Duration>, limit: Duration) -> Result<(), DockerError> {
    let seconds = timeout.map_or(String::new(), |timeout| format!("?t={}", timeout.as_secs()));
    let path = format!("/containers/{}/stop{seconds}", encode(id));
    // The answer comes only once the container has ended, so the limit on short calls would be the wrong one.
    let call = engine.wire().upload(Method::POST, &path, "application/json", Full::new(Bytes::new()));
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(DockerError::Timeout { call: "POST /containers/{id}/stop".to_owned(), seconds: limit.as_secs() }))?;
    Ok(())
}

pub(super) async fn pause(engine: &Engine, id: &str) -> Result<(), DockerError> {
    post(engine, id, "pause").await
}

/// Starts a container that is not running; nothing happens to one that is.
pub(super) async fn start(engine: &Engine, id: &str) -> Result<(), DockerError> {
    post(engine, id, "start").await
}

async fn post(engine: &Engine, id: &str, verb: &str) -> Result<(), DockerError> {
    engine.wire().call(Method::POST, &format!("/containers/{}/{verb}", encode(id)), None).await.map(drop)
}

/// How long is waited before a container that is not settled is looked at again.
pub(super) const UNSETTLED: Duration = Duration::from_millis(100);

/// Brings one container back, once. None: not yet, look again in a moment.
///
/// One that still runs is watched until what was asked for has either happened or never will: a stop whose asker is dead may
/// still be under way in the Engine. That is at `settled`, see [`deadline`].
pub(super) async fn undo(engine: &Engine, entry: &Entry, settled: Instant) -> Result<Option<Undone>, DockerError> {
    let id = &entry.container;
    let is_settled = clock::monotonic() >= settled;
    if entry.action == Action::Scale {
        return scale_back(engine, entry, is_settled).await;
    }
    let Some(seen) = look(engine, id).await? else { return Ok(Some(Undone::Gone)) };
    Ok(match seen.status {
        Status::Paused if entry.action == Action::Pause => {
            post(engine, id, "unpause").await?;
            Some(Undone::Restored)
        }
        Status::Running | Status::Restarting => (is_settled || seen.started_at != entry.started_at).then_some(Undone::Ran),
        Status::Paused => Some(Undone::Ran),
        Status::Removing => is_settled.then_some(Undone::Gone),
        Status::Exited | Status::Created | Status::Dead | Status::Unknown => {
            start(engine, id).await?;
            Some(if entry.action == Action::Pause { Undone::Revived } else { Undone::Restored })
        }
    })
}

/// Gives a service its replicas back, unless somebody has given it others. None: not yet.
async fn scale_back(engine: &Engine, entry: &Entry, is_settled: bool) -> Result<Option<Undone>, DockerError> {
    let Some(before) = &entry.service else { return Ok(Some(Undone::Ran)) };
    let Some(service) = swarm::service(engine, &entry.container).await? else { return Ok(Some(Undone::Gone)) };
    Ok(match service.replicas {
        Some(0) => (swarm::scale(engine, &service, before.replicas).await? == Change::Made).then_some(Undone::Restored),
        // The order to scale it may still be on its way to the Engine.
        Some(_) if service.version == before.version && !is_settled => None,
        Some(now) if now == before.replicas => Some(Undone::Ran),
        Some(now) => Some(Undone::Rescaled(now)),
        None => Some(Undone::Ran),
    })
}

/// From when on an action asked for now is done or will never be.
pub(super) fn settled_after(action: Action, stop_timeout: Duration) -> Timestamp {
    let time = match action {
        Action::Stop => stop_timeout.saturating_add(Duration::from_secs(5)),
        Action::Pause => Duration::from_secs(3),
        // An Engine gives a change of a service 20 seconds, whether or not who asked for it is still there.
        Action::Scale => Duration::from_secs(25),
    };
    clock::now().checked_add(time).unwrap_or(Timestamp::MAX)
}

/// When an action of a journal is settled, by a clock that nobody sets. To be asked once: as soon as the action is written down, or a
/// journal of the dead is read.
pub(super) fn deadline(settled: Timestamp) -> Instant {
    clock::monotonic() + within_reason(settled, clock::now())
}

/// How long it is until then. The clock may have been set back since it was written, and nobody waits for hours for what may end any moment.
fn within_reason(settled: Timestamp, now: Timestamp) -> Duration {
    let left = settled.duration_since(now);
    Duration::try_from(left).unwrap_or_default().min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_does_not_make_anybody_wait_for_ever() {
        let now = clock::now();
        let after = |seconds: i64| now.saturating_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        for (seconds, expected) in [(-5, 0), (0, 0), (15, 15), (7 * 24 * 3600, LONGEST.as_secs())] {
            assert_eq!(within_reason(after(seconds), now), Duration::from_secs(expected), "{seconds}");
        }
        assert_eq!(within_reason(Timestamp::MAX, Timestamp::MIN), LONGEST);
    }
}
