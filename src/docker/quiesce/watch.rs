//! Who can write to volumes and bind mounts right now: asked once they are read, to see whether anybody began to meanwhile.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use crate::docker::connect::Engine;
use crate::docker::error::DockerError;

/// A container that runs and can write to a volume or bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The name of the volume, the path of the bind mount.
    pub place: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    mounts: Option<Vec<LineMount>>,
}

#[derive(Deserialize)]
struct LineMount {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Name", default)]
    name: Option<String>,
    #[serde(rename = "Source", default)]
    source: String,
    #[serde(rename = "RW", default)]
    writable: bool,
}

/// The containers that run now and can write to one of these volumes, or into, or around, one of these bind mounts. Paused
/// ones cannot.
///
/// # Errors
/// The Engine cannot be asked.
pub async fn running_writers(engine: &Engine, volumes: &BTreeSet<&str>, binds: &BTreeSet<&str>) -> Result<Vec<Writer>, DockerError> {
    let bytes = engine.wire().get_bytes("/containers/json").await?;
    let lines: Vec<Line> = serde_json::from_slice(&bytes)
        .map_err(|error| DockerError::Malformed { call: "GET /containers/json".to_owned(), source: error.into() })?;
    let mut writers = Vec::new();
    for line in lines.into_iter().filter(|line| line.state == "running") {
        let names = line.names.unwrap_or_default();
        let name = names.iter().min_by_key(|name| name.len()).map_or(line.id.as_str(), |name| name.trim_start_matches('/'));
        for mount in line.mounts.unwrap_or_default().into_iter().filter(|mount| mount.writable) {
            let volume = mount.name.as_deref().filter(|volume| volumes.contains(volume));
            let source = Path::new(&mount.source);
            let touches = |bind: &&&str| mount.kind == "bind" && (source.starts_with(bind) || Path::new(bind).starts_with(source));
            for place in volume.into_iter().chain(binds.iter().filter(touches).copied()) {
                writers.push(Writer { id: line.id.clone(), name: name.to_owned(), place: place.to_owned() });
            }
        }
    }
    Ok(writers)
}
