//! What tells a volume or path from another one that has its name by now.
//!
//! What follows from that is `dead`'s and `remove`'s business.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::docker::discover::inspect_volume;
use crate::docker::{DockerError, Engine, mountpoint};
use crate::targets::plan::is_path;

/// What tells a volume or path from another one of its name: its folder, where that is seen, else the Engine's word, which for a plain
/// volume of Engine 20.10 is the time of the last change to its folder. Of a path the disk, too, and nothing else of one that is not there;
/// empty where it is not seen.
pub(super) async fn identity(engine: &Engine, place: &str) -> Result<String, DockerError> {
    if is_path(place) {
        let is_seen = place.starts_with('/') && mountpoint::same_root(engine).await;
        return Ok(is_seen.then(|| by_path(Path::new(place))).flatten().unwrap_or_default());
    }
    let volume = inspect_volume(engine.wire(), place).await?;
    let folder = mountpoint::agreed(engine, &volume).await.ok().and_then(|path| std::fs::metadata(path).ok());
    Ok(folder.map_or(volume.created_at, |folder| by_folder(&folder)))
}

fn by_path(path: &Path) -> Option<String> {
    let disk = || path.ancestors().find_map(|above| std::fs::metadata(above).ok()).map(|above| above.dev());
    match std::fs::metadata(path) {
        Ok(found) => Some(format!("{}/{}", found.dev(), by_folder(&found))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(format!("{}/", disk()?)),
        // Nobody can say.
        Err(_) => None,
    }
}

/// Whether both are surely of different things. A path on another disk may be on its own one tomorrow.
pub(super) fn are_different(now: &str, then: &str) -> bool {
    if now.is_empty() || then.is_empty() || now == then {
        return false;
    }
    match (now.split_once('/'), then.split_once('/')) {
        (Some((disk, _)), Some((of_then, made))) => disk == of_then && !made.is_empty(),
        _ => is_of_folder(now) && is_of_folder(then),
    }
}

/// Whether a volume is told by its folder, which no other one has; else by the Engine's word, that of Engine 20.10 the time of the last change
/// to it.
pub(super) fn is_of_folder(identity: &str) -> bool {
    !identity.is_empty() && !identity.contains('T')
}

fn by_folder(folder: &std::fs::Metadata) -> String {
    let made = folder.created().ok().and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
    made.map_or_else(|| folder.ino().to_string(), |made| format!("{}:{}", folder.ino(), made.as_nanos()))
}

/// Whether nothing is in a volume or at a path that was like this; false where that is not seen.
pub(super) async fn is_empty(engine: &Engine, place: &str, then: &str) -> bool {
    let folder = if is_path(place) {
        // What lies on a disk that is not mounted just now is not gone.
        let disk = |identity: &str| identity.split_once('/').map(|(disk, _)| disk.to_owned());
        let now = identity(engine, place).await.unwrap_or_default();
        (disk(&now).is_some() && disk(&now) == disk(then)).then(|| place.into())
    } else {
        match inspect_volume(engine.wire(), place).await {
            Ok(volume) => mountpoint::agreed(engine, &volume).await.ok(),
            Err(_) => None,
        }
    };
    folder.is_some_and(|folder: std::path::PathBuf| match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    })
}
