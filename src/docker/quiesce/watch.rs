//! Who can write to what is being read, although nobody should: looked at before, and once all is read.
//!
//! A container that ran in between and ended again is known by the time of its last start; one that is gone altogether by the
//! events of the Engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::calls::look;
use super::events::{Ear, Guest, RawMount};
use super::release::ENGINE_WAIT;
use crate::docker::connect::Engine;
use crate::docker::discover::Discovery;
use crate::docker::discover::grounds::{Grounds, meet};
use crate::docker::discover::links::Links;
use crate::docker::error::DockerError;
use crate::model::application::{ItemKind, Mount, MountKind, Status};
use crate::platform::clock;

/// How long is waited for an Engine that is gone as a read ends. What was stopped waits meanwhile, and is waited for once more.
const LOOK_LIMIT: Duration = Duration::from_mins(1);

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

/// What happened while it was read.
#[derive(Debug, Default)]
pub struct Meanwhile {
    /// Who could write to what.
    pub writers: Vec<Writer>,
    /// Containers of which nobody can tell any more what they mounted: they may have written.
    pub doubts: Vec<String>,
    /// Where paths of containers that came meanwhile lead is not known, in sentences.
    pub unfollowed: Vec<String>,
    /// Why containers that are gone again may not have been seen.
    pub missed: Option<DockerError>,
}

/// A look at what is read before it is, to be compared with one afterwards.
#[derive(Debug)]
pub struct Watch {
    places: Vec<(Place, BTreeSet<String>)>,
    grounds: Grounds,
    /// When containers that could write and do not run were last started, by id.
    started: BTreeMap<String, String>,
    /// What all containers mount, by id.
    mounts: BTreeMap<String, Vec<Mount>>,
    /// Listens to what happens meanwhile.
    ear: Option<Result<Ear, DockerError>>,
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
    mounts: Option<Vec<RawMount>>,
}

impl Line {
    fn name(&self) -> &str {
        let names = self.names.iter().flatten();
        names.min_by_key(|name| name.len()).map_or(self.id.as_str(), |name| name.trim_start_matches('/'))
    }

    fn mounts(&self) -> Vec<Mount> {
        self.mounts.iter().flatten().map(Mount::from).collect()
    }

    fn runs(&self) -> bool {
        matches!(self.state.as_str(), "running" | "restarting")
    }
}

impl Watch {
    /// Begins to watch `places`, once everybody is still.
    pub async fn begin(engine: &Engine, places: Vec<Place>, discovery: &Discovery) -> Self {
        let grounds = Grounds::of(discovery.volumes()).with_links(discovery.links().clone());
        let lies = |place: Place| {
            let at = match place.kind {
                ItemKind::Volume => grounds.volume(&place.name, ""),
                ItemKind::Bind => grounds.path(&place.name),
                _ => BTreeSet::new(),
            };
            (place, at)
        };
        let places = places.into_iter().map(lies).collect();
        let ear = Some(Ear::open(engine).await);
        let mounts = discovery.containers().map(|container| (container.id.clone(), container.mounts.clone())).collect();
        let mut watch = Self { places, grounds, started: BTreeMap::new(), mounts, ear };
        for container in discovery.containers() {
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

    /// What is watched.
    pub fn places(&self) -> Vec<Place> {
        self.places.iter().map(|(place, _)| place.clone()).collect()
    }

    /// The containers that could write meanwhile: those that run now, except for the `known`, and those that ran in between, also
    /// if they are gone. Paused ones cannot. An Engine that is gone at that moment is waited for, as one that restarts starts containers by
    /// itself; but not one that was waited for in vain before (`is_gone`).
    ///
    /// # Errors
    /// The Engine cannot be asked.
    pub async fn end(mut self, engine: &Engine, known: &BTreeSet<String>, is_gone: bool) -> Result<Meanwhile, DockerError> {
        let mut found = Meanwhile::default();
        let lines = list_patiently(engine, if is_gone { Duration::ZERO } else { LOOK_LIMIT }).await?;
        self.follow_links(engine, lines.iter().flat_map(Line::mounts).collect(), &mut found).await;
        for line in lines.iter().filter(|line| !known.contains(&line.id)) {
            let touched = self.touched(line.name(), &line.mounts());
            if !touched.is_empty() && (line.runs() || self.ran(engine, &line.id).await) {
                found.writers.extend(writers(&line.id, line.name(), touched));
            }
        }
        match self.ear.take() {
            Some(Ok(ear)) => {
                let heard = ear.close(engine).await;
                let mounts = heard.containers.values().filter_map(|guest| guest.mounts.as_ref()).flatten().cloned();
                self.follow_links(engine, mounts.collect(), &mut found).await;
                let is_there = |id: &String| known.contains(id) || lines.iter().any(|line| line.id == *id);
                let gone = heard.containers.into_iter().filter(|(id, guest)| guest.was_started && !is_there(id));
                gone.for_each(|(id, guest)| self.judge(&id, &guest, &mut found));
                found.missed = heard.missed;
            }
            Some(Err(error)) => found.missed = Some(error),
            None => {}
        }
        Ok(found)
    }

    /// Who came meanwhile may reach the same by another path.
    async fn follow_links(&mut self, engine: &Engine, mounts: Vec<Mount>, found: &mut Meanwhile) {
        let links = Links::find(engine, self.grounds.links(), &mounts, []).await;
        found.unfollowed.extend(links.told());
        self.grounds = std::mem::take(&mut self.grounds).with_links(links);
    }

    /// What one that ran and is gone could write to.
    fn judge(&self, id: &str, guest: &Guest, found: &mut Meanwhile) {
        let all = guest.mounts.as_ref().or_else(|| self.mounts.get(id));
        let touched = self.touched(&guest.name, all.unwrap_or(&guest.volumes));
        if all.is_none() && self.places.iter().any(|(place, _)| place.kind == ItemKind::Bind) {
            found.doubts.push(guest.name.clone());
        }
        found.writers.extend(writers(id, &guest.name, touched));
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

fn writers<'a>(id: &'a str, name: &'a str, places: Vec<&'a Place>) -> impl Iterator<Item = Writer> {
    places.into_iter().map(move |place| Writer { id: id.to_owned(), name: name.to_owned(), place: place.clone() })
}

/// The same, also where the Engine comes back only in a while.
async fn list_patiently(engine: &Engine, limit: Duration) -> Result<Vec<Line>, DockerError> {
    let deadline = clock::monotonic() + limit;
    loop {
        match list(engine).await {
            Err(error) if error.is_unreachable() && clock::monotonic() < deadline => tokio::time::sleep(ENGINE_WAIT).await,
            listed => return listed,
        }
    }
}

async fn list(engine: &Engine) -> Result<Vec<Line>, DockerError> {
    let bytes = engine.wire().get_bytes("/containers/json?all=1").await?;
    serde_json::from_slice(&bytes).map_err(|error| DockerError::Malformed { call: "GET /containers/json".to_owned(), source: error.into() })
}
