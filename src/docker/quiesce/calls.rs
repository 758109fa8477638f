//! The calls that stop, freeze and bring back one container, and what is seen of it.
//!
//! Raw calls, not bollard's: they also have to work from a guard that is dropped, on a runtime of its own.

use std::time::Duration;

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

/// How long the Engine lets a container take to stop unless it or somebody else says otherwise.
pub(super) const ENGINE_STOP_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspect {
    state: State,
    #[serde(default)]
    config: Config,
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

/// Brings one container back, once.
///
/// One that still runs is watched until what was asked for has either happened or never will: a stop whose asker is dead may
/// still be under way in the Engine.
pub(super) async fn undo(engine: &Engine, entry: &Entry) -> Result<Undone, DockerError> {
    let id = &entry.container;
    loop {
        if entry.action == Action::Scale {
            if let Some(undone) = scale_back(engine, entry).await? {
                return Ok(undone);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let Some(seen) = look(engine, id).await? else { return Ok(Undone::Gone) };
        match seen.status {
            Status::Paused if entry.action == Action::Pause => return post(engine, id, "unpause").await.map(|()| Undone::Restored),
            Status::Running | Status::Restarting => {
                if seen.started_at != entry.started_at || clock::now() >= entry.settled {
                    return Ok(Undone::Ran);
                }
            }
            Status::Paused => return Ok(Undone::Ran),
            Status::Removing if clock::now() >= entry.settled => return Ok(Undone::Gone),
            Status::Removing => {}
            Status::Exited | Status::Created | Status::Dead | Status::Unknown => {
                let how = if entry.action == Action::Pause { Undone::Revived } else { Undone::Restored };
                return start(engine, id).await.map(|()| how);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Gives a service its replicas back, unless somebody has given it others. None: not yet.
async fn scale_back(engine: &Engine, entry: &Entry) -> Result<Option<Undone>, DockerError> {
    let Some(before) = &entry.service else { return Ok(Some(Undone::Ran)) };
    let Some(service) = swarm::service(engine, &entry.container).await? else { return Ok(Some(Undone::Gone)) };
    Ok(match service.replicas {
        Some(0) => (swarm::scale(engine, &service, before.replicas).await? == Change::Made).then_some(Undone::Restored),
        // The order to scale it may still be on its way to the Engine.
        Some(_) if service.version == before.version && clock::now() < entry.settled => None,
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
        Action::Scale => Duration::from_secs(5),
    };
    clock::now().checked_add(time).unwrap_or(Timestamp::MAX)
}
