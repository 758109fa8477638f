//! Removes what restores that died had made, where it is surely theirs.

use super::identity::{identity, is_of_folder};
use crate::docker::create::json::{flag, text};
use crate::docker::wire::encode;
use crate::docker::{DockerError, Engine, make};
use crate::targets::steps::{self, Aside, Kind, Left};
use crate::targets::{container, network, volume};

/// The container that a restore had asked for when it died, if the Engine has made it: it has the name, which was free then, and was never started.
pub(super) async fn just_made(engine: &Engine, application: &str, name: &str, aside: &[Aside]) -> Result<Option<Left>, DockerError> {
    let found = match make::get(engine, &format!("/containers/{}/json", encode(name))).await {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let was_there = |id: &str| aside.iter().any(|aside| aside.id == id);
    let id = steps::never_started(&found, name).filter(|id| !was_there(id));
    Ok(id.map(|id| Left { application: application.to_owned(), kind: Kind::Container, name: name.to_owned(), id: id.to_owned() }))
}

/// Removes a container that was set aside, if its successor is there. Gives whether it was removed.
pub(super) async fn remove_replaced(engine: &Engine, aside: &Aside) -> Result<bool, DockerError> {
    for container in [&aside.name, &aside.id] {
        match make::get(engine, &format!("/containers/{}/json", encode(container))).await {
            Ok(found) if *container == aside.name && text(&found, "/Id") == Some(&aside.id) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    container::remove(engine, &aside.id).await.map(|()| true)
}

/// What became of something that a dead restore has left.
pub(super) enum Found {
    Removed,
    Gone,
    /// Somebody runs it: it is theirs now.
    InUse,
    /// A volume that may be another one by now.
    Unsure,
}

pub(super) async fn remove(engine: &Engine, left: &Left, created: &str, running: bool) -> Result<Found, DockerError> {
    let removed = match left.kind {
        Kind::Container => match make::get(engine, &format!("/containers/{}/json", encode(&left.id))).await {
            Ok(inspect) if flag(&inspect, "/State/Running") && !running => return Ok(Found::InUse),
            Ok(_) => container::remove(engine, &left.id).await,
            Err(error) => Err(error),
        },
        Kind::Network => network::remove(engine, &left.id).await,
        Kind::Volume => match identity(engine, &left.id).await {
            Ok(found) if found == created => volume::remove(engine, &left.id).await,
            // Somebody has made another one of that name.
            Ok(found) if is_of_folder(&found) && is_of_folder(created) => return Ok(Found::Gone),
            Ok(_) => return Ok(Found::Unsure),
            Err(error) => Err(error),
        },
    };
    match removed {
        Ok(()) => Ok(Found::Removed),
        Err(DockerError::NotFound { .. }) => Ok(Found::Gone),
        Err(error) => Err(error),
    }
}
