//! What restores could not bring back whole, and whether somebody has taken it as it is: then the next backup of it is complete again.
//!
//! Nothing is started on it by bbackup itself, so whoever has started a container has decided.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use super::read::all;
use crate::docker::create::json::text;
use crate::docker::wire::encode;
use crate::docker::{DockerError, Engine, make};
use crate::jobs::error::JobError;
use crate::model::application::Status;
use crate::targets::plan::{is_path, place_of};

/// The volumes and paths of an Engine that a restore could not bring back whole, each with a reason.
pub(in super::super) fn short(state: &Path, engine: &str) -> Result<BTreeMap<String, String>, JobError> {
    let reason = "a restore could not bring back all of it, and nothing that uses it was started since: start that, or restore it again";
    let lost = all(state, engine)?.into_iter().flat_map(|left| left.lost);
    Ok(lost.map(|(one, _)| (one.volume, reason.to_owned())).collect())
}

/// The containers of an Engine, by id, of whose own layers a restore could not bring back all, each with a reason.
pub(in super::super) fn short_layers(state: &Path, engine: &str) -> Result<BTreeMap<String, String>, JobError> {
    let reason = "a restore could not bring back all of it, and the container was not started since: start it, or restore it again";
    let lost = all(state, engine)?.into_iter().flat_map(|left| left.lost_layers);
    Ok(lost.map(|id| (id, reason.to_owned())).collect())
}

/// The time as the Engine has it; none if it does not say.
pub(super) async fn now(engine: &Engine) -> Option<Timestamp> {
    let info = make::get(engine, "/info").await.ok()?;
    text(&info, "/SystemTime")?.parse().ok()
}

/// Whether a container that uses a volume or path runs, or was started after `since`, also if it has ended again: somebody takes it as it is.
pub(super) async fn is_used(engine: &Engine, place: &str, since: Option<Timestamp>) -> Result<bool, DockerError> {
    let overlaps = |source: &str| Path::new(source).starts_with(place) || Path::new(place).starts_with(source);
    let mut names = BTreeSet::from([place.to_owned()]);
    if is_path(place) {
        let all = make::get(engine, "/volumes").await?;
        let has_it = |volume: &&Value| {
            let device = text(volume, "/Options/device").map(place_of);
            device.into_iter().chain(text(volume, "/Mountpoint").map(str::to_owned)).any(|place| overlaps(&place))
        };
        let volumes = all["Volumes"].as_array().into_iter().flatten().filter(has_it);
        names.extend(volumes.filter_map(|volume| text(volume, "/Name")).map(str::to_owned));
    }
    let is_it = |mount: &Value| match text(mount, "/Name").filter(|name| !name.is_empty()) {
        Some(volume) => names.contains(volume),
        None => is_path(place) && text(mount, "/Source").is_some_and(overlaps),
    };
    let containers = make::get(engine, "/containers/json?all=1").await?;
    let uses = |one: &&Value| one["Mounts"].as_array().into_iter().flatten().any(is_it);
    let users: Vec<&Value> = containers.as_array().into_iter().flatten().filter(uses).collect();
    if users.iter().any(|user| text(user, "/State").is_some_and(|state| Status::from_engine(state).is_alive())) {
        return Ok(true);
    }
    let Some(since) = since else { return Ok(false) };
    for id in users.into_iter().filter_map(|user| text(user, "/Id")) {
        match started_at(engine, id).await {
            Ok(Some(at)) if at > since => return Ok(true),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether a container that a restore has made was ever started, or is gone.
pub(super) async fn was_started(engine: &Engine, id: &str) -> Result<bool, DockerError> {
    match started_at(engine, id).await {
        Ok(at) => Ok(at.is_some_and(|at| at > Timestamp::UNIX_EPOCH)),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err(error),
    }
}

/// When a container was started last; long ago if never.
async fn started_at(engine: &Engine, id: &str) -> Result<Option<Timestamp>, DockerError> {
    let inspect = make::get(engine, &format!("/containers/{}/json", encode(id))).await?;
    Ok(text(&inspect, "/State/StartedAt").and_then(|at| at.parse().ok()))
}
