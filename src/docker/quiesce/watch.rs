//! Who can write to what is being read, although nobody should: looked at before, and once all is read.
//!
//! A container that ran in between and ended again is known by the time of its last start.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::calls::look;
use crate::docker::connect::Engine;
use crate::docker::discover::grounds::{Grounds, meet};
use crate::docker::error::DockerError;
use crate::model::application::{Application, ItemKind, Mount, MountKind, Status};

/// What is read, and so watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Volume, bind mount or layer.
    pub kind: ItemKind,
    /// The name of the volume, the path of the bind mount, the name of the container whose layer it is.
    pub name: String,
}

/// A container that ran and could write to what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it could write.
    pub place: Place,
}

/// A look at what is read before it is, to be compared with one afterwards.
#[derive(Debug)]
pub struct Watch {
    places: Vec<(Place, BTreeSet<String>)>,
    grounds: Grounds,
    /// When containers that could write and do not run were last started, by id.
    started: BTreeMap<String, String>,
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

impl Line {
    fn name(&self) -> &str {
        let names = self.names.iter().flatten();
        names.min_by_key(|name| name.len()).map_or(self.id.as_str(), |name| name.trim_start_matches('/'))
    }

    fn mounts(&self) -> Vec<Mount> {
        let mount = |mount: &LineMount| Mount {
            kind: MountKind::from_engine(&mount.kind),
            name: mount.name.clone(),
            source: mount.source.clone(),
            destination: String::new(),
            read_only: !mount.writable,
        };
        self.mounts.iter().flatten().map(mount).collect()
    }

    fn runs(&self) -> bool {
        matches!(self.state.as_str(), "running" | "restarting")
    }
}

impl Watch {
    /// Begins to watch `places`, once everybody is still. `applications` are all of the Engine.
    pub async fn begin(engine: &Engine, places: Vec<Place>, applications: &[Application]) -> Self {
        let grounds = Grounds::of(applications.iter().flat_map(|application| &application.volumes));
        let lies = |place: Place| {
            let at = match place.kind {
                ItemKind::Volume => grounds.volume(&place.name, ""),
                ItemKind::Bind => BTreeSet::from([place.name.clone()]),
                _ => BTreeSet::new(),
            };
            (place, at)
        };
        let places = places.into_iter().map(lies).collect();
        let mut watch = Self { places, grounds, started: BTreeMap::new() };
        for container in applications.iter().flat_map(|application| &application.containers) {
            if watch.touched(&container.name, &container.mounts).is_empty() {
                continue;
            }
            // One that cannot be looked at is taken for one that was not there.
            let Ok(seen) = look(engine, &container.id).await else { continue };
            let seen = seen.filter(|seen| !matches!(seen.status, Status::Running | Status::Restarting));
            watch.started.extend(seen.map(|seen| (container.id.clone(), seen.started_at)));
        }
        watch
    }

    /// The containers that could write meanwhile: those that run now, except for the `known`, and those that ran in between. Paused ones
    /// cannot.
    ///
    /// # Errors
    /// The Engine cannot be asked.
    pub async fn end(self, engine: &Engine, known: &BTreeSet<String>) -> Result<Vec<Writer>, DockerError> {
        let mut writers = Vec::new();
        for line in list(engine).await?.into_iter().filter(|line| !known.contains(&line.id)) {
            let touched = self.touched(line.name(), &line.mounts());
            if !touched.is_empty() && (line.runs() || self.ran(engine, &line.id).await) {
                let writer = |place: &Place| Writer { id: line.id.clone(), name: line.name().to_owned(), place: place.clone() };
                writers.extend(touched.into_iter().map(writer));
            }
        }
        Ok(writers)
    }

    /// Whether a container that does not run now did since we began.
    async fn ran(&self, engine: &Engine, id: &str) -> bool {
        let seen = match look(engine, id).await {
            Ok(Some(seen)) => seen,
            Ok(None) => return false,
            // What is not known is not taken for good.
            Err(_) => return true,
        };
        match self.started.get(id) {
            Some(before) => *before != seen.started_at,
            // It ran when we began and nobody asked it to keep still, or it was made since.
            None => !seen.started_at.is_empty() && !seen.started_at.starts_with("0001-"),
        }
    }

    /// The places that a container of that name can write to.
    fn touched(&self, container: &str, mounts: &[Mount]) -> Vec<&Place> {
        let writable = || mounts.iter().filter(|mount| !mount.read_only);
        let mounted: Vec<BTreeSet<String>> = writable().map(|mount| self.grounds.mount(mount)).collect();
        let by_name = |volume: &str| writable().any(|mount| mount.kind == MountKind::Volume && mount.name.as_deref() == Some(volume));
        let touches = |place: &Place, at: &BTreeSet<String>| match place.kind {
            ItemKind::Layer => place.name == container,
            kind => kind == ItemKind::Volume && by_name(&place.name) || mounted.iter().any(|ground| meet(at, ground)),
        };
        self.places.iter().filter(|(place, at)| touches(place, at)).map(|(place, _)| place).collect()
    }
}

async fn list(engine: &Engine) -> Result<Vec<Line>, DockerError> {
    let bytes = engine.wire().get_bytes("/containers/json?all=1").await?;
    serde_json::from_slice(&bytes).map_err(|error| DockerError::Malformed { call: "GET /containers/json".to_owned(), source: error.into() })
}
