//! Who is started while somebody reads, as the Engine tells it: the only trace of a container that is gone again afterwards.
//!
//! Who of them matters is `watch`'s business.
//!
//! An Engine remembers only its last 256 events, and each health check makes three, so asking afterwards would be too late on any busy
//! host: they are listened to all the time, and each container is looked at while it is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use crate::docker::connect::Engine;
use crate::docker::error::DockerError;
use crate::docker::wire::{Download, encode};
use crate::model::application::{Mount, MountKind};
use crate::platform::clock;

/// What is asked for: containers that are made and started, and the volumes that they get.
const FILTERS: &str = r#"{"type":["container","volume"],"event":["create","start","mount"]}"#;
/// How long an Engine may take to tell what it remembers.
const ANSWER: Duration = Duration::from_secs(10);
/// A connection that ends sooner than this has not been cut for its silence.
const SHORT: Duration = Duration::from_secs(5);
/// How often in a row a connection may end so soon.
const SHORT_ONES: u32 = 3;
/// A quiet Engine has nothing to say for as long as the read takes.
const SILENCE: Duration = Duration::from_hours(24 * 365);

/// Listens from its beginning until it is asked; dropped, it stops.
#[derive(Debug)]
pub(super) struct Ear {
    since: String,
    heard: Arc<Mutex<Heard>>,
    listening: JoinSet<()>,
}

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Containers, by id.
    pub(super) containers: BTreeMap<String, Guest>,
    /// Why something may have been missed.
    pub(super) missed: Option<DockerError>,
}

/// A container that was made or started meanwhile.
#[derive(Debug, Default)]
pub(super) struct Guest {
    pub(super) name: String,
    pub(super) was_started: bool,
    /// All that it mounts; none if it was gone before it could be looked at.
    pub(super) mounts: Option<Vec<Mount>>,
    /// The volumes among it, which the Engine tells by itself.
    pub(super) volumes: Vec<Mount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Happening {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    actor: Actor,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Actor {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

/// A mount as lists and descriptions of containers have it.
#[derive(Deserialize)]
pub(super) struct RawMount {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Name", default)]
    name: Option<String>,
    #[serde(rename = "Source", default)]
    source: String,
    #[serde(rename = "RW", default)]
    writable: bool,
}

impl From<&RawMount> for Mount {
    fn from(mount: &RawMount) -> Self {
        Self {
            kind: MountKind::from_engine(&mount.kind),
            name: mount.name.clone(),
            source: mount.source.clone(),
            destination: String::new(),
            read_only: !mount.writable,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    #[serde(default)]
    mounts: Option<Vec<RawMount>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Clock {
    #[serde(default)]
    system_time: String,
}

impl Ear {
    /// Begins to listen, by the Engine's own clock.
    ///
    /// # Errors
    /// The Engine does not tell what time it is.
    pub(super) async fn open(engine: &Engine) -> Result<Self, DockerError> {
        let since = now(engine).await?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let mut listening = JoinSet::new();
        listening.spawn(listen(engine.clone(), since.clone(), Arc::clone(&heard)));
        Ok(Self { since, heard, listening })
    }

    /// What was heard until now.
    pub(super) async fn close(mut self, engine: &Engine) -> Heard {
        self.listening.shutdown().await;
        // What happened a moment ago may still have been on its way. The Engine remembers it.
        if let Err(error) = self.recent(engine).await {
            let mut heard = lock(&self.heard);
            heard.missed.get_or_insert(error);
        }
        std::mem::take(&mut *lock(&self.heard))
    }

    async fn recent(&self, engine: &Engine) -> Result<(), DockerError> {
        let until = now(engine).await?;
        let path = format!("/events?since={}&until={until}&filters={}", self.since, encode(FILTERS));
        let answer = tokio::time::timeout(ANSWER, engine.wire().get_bytes(&path)).await;
        let answer = answer.unwrap_or_else(|_| Err(DockerError::Timeout { call: "GET /events".to_owned(), seconds: ANSWER.as_secs() }))?;
        let mut events = Events::default();
        for happening in events.take(&answer)? {
            note(engine, happening, &self.heard).await;
        }
        Ok(())
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time as the Engine has it, as it wants to be told.
async fn now(engine: &Engine) -> Result<String, DockerError> {
    let call = || "GET /info".to_owned();
    let bytes = engine.wire().get_bytes("/info").await?;
    let clock: Clock = serde_json::from_slice(&bytes).map_err(|error| DockerError::Malformed { call: call(), source: error.into() })?;
    let time: Timestamp =
        clock.system_time.parse().map_err(|error: jiff::Error| DockerError::Malformed { call: call(), source: error.into() })?;
    Ok(format!("{}.{:09}", time.as_second(), time.subsec_nanosecond()))
}

/// Listens until the Engine is gone. A connection that somebody in between cuts, as it was silent for long, is made anew; the Engine
/// remembers what happened meanwhile.
async fn listen(engine: Engine, since: String, heard: Arc<Mutex<Heard>>) {
    let path = format!("/events?since={since}&filters={}", encode(FILTERS));
    let mut short = 0;
    loop {
        let began = clock::monotonic();
        let error = match engine.wire().download_within(&path, ANSWER).await {
            Ok(download) => match follow(&engine, download.with_stall(SILENCE), &heard).await {
                Ok(()) => DockerError::Lost { call: "GET /events".to_owned(), source: "the connection ended".into() },
                Err(error) => error,
            },
            Err(error) => {
                lock(&heard).missed = Some(error);
                return;
            }
        };
        short = if began.elapsed() < SHORT { short + 1 } else { 0 };
        if short > SHORT_ONES {
            lock(&heard).missed = Some(error);
            return;
        }
    }
}

async fn follow(engine: &Engine, mut download: Download, heard: &Mutex<Heard>) -> Result<(), DockerError> {
    let mut events = Events::default();
    while let Some(piece) = download.next().await? {
        for happening in events.take(&piece)? {
            note(engine, happening, heard).await;
        }
    }
    Ok(())
}

/// Takes down what happened, and looks at the container if it is the first time.
async fn note(engine: &Engine, happening: Happening, heard: &Mutex<Heard>) {
    let Actor { id, mut attributes } = happening.actor;
    match (happening.kind.as_str(), happening.action.as_str()) {
        ("container", "create" | "start") => {
            let is_known = {
                let mut heard = lock(heard);
                let guest = heard.containers.entry(id.clone()).or_default();
                guest.name = attributes.remove("name").unwrap_or_else(|| id.clone());
                guest.was_started |= happening.action == "start";
                guest.mounts.is_some()
            };
            if !is_known && let Some(mounts) = mounts(engine, &id).await {
                lock(heard).containers.entry(id).or_default().mounts = Some(mounts);
            }
        }
        ("volume", "mount") => {
            let Some(container) = attributes.remove("container") else { return };
            let read_only = attributes.get("read/write").is_some_and(|word| word == "false");
            let (source, destination) = (String::new(), String::new());
            let mount = Mount { kind: MountKind::Volume, name: Some(id), source, destination, read_only };
            lock(heard).containers.entry(container).or_default().volumes.push(mount);
        }
        _ => {}
    }
}

/// What a container mounts; none if it is gone, or cannot be looked at.
async fn mounts(engine: &Engine, id: &str) -> Option<Vec<Mount>> {
    let bytes = engine.wire().get_bytes(&format!("/containers/{}/json", encode(id))).await.ok()?;
    let described: Described = serde_json::from_slice(&bytes).ok()?;
    Some(described.mounts.iter().flatten().map(Mount::from).collect())
}

/// Takes the Engine's stream apart: one object after the other, cut anywhere.
#[derive(Default)]
struct Events(Vec<u8>);

impl Events {
    fn take(&mut self, piece: &[u8]) -> Result<Vec<Happening>, DockerError> {
        let malformed = |error: serde_json::Error| DockerError::Malformed { call: "GET /events".to_owned(), source: error.into() };
        self.0.extend_from_slice(piece);
        let mut found = Vec::new();
        let mut values = serde_json::Deserializer::from_slice(&self.0).into_iter::<&RawValue>();
        let used = loop {
            match values.next() {
                Some(Ok(value)) => found.push(serde_json::from_str(value.get()).map_err(malformed)?),
                Some(Err(error)) if !error.is_eof() => return Err(malformed(error)),
                _ => break values.byte_offset(),
            }
        };
        self.0.drain(..used);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn events_are_found_however_the_stream_is_cut() {
        let stream = br#"{"Type":"container","Action":"start","Actor":{"ID":"a","Attributes":{"name":"one}"}},"time":1}
{"Type":"volume","Action":"mount","Actor":{"ID":"v","Attributes":{"container":"a","read/write":"false"}}}
{"Type":"daemon"}
"#;
        for cut in 0..=stream.len() {
            let mut events = Events::default();
            let mut found = events.take(&stream[..cut]).unwrap();
            found.extend(events.take(&stream[cut..]).unwrap());
            let words: Vec<_> = found.iter().map(|event| (event.kind.as_str(), event.action.as_str(), event.actor.id.as_str())).collect();
            assert_eq!(words, [("container", "start", "a"), ("volume", "mount", "v"), ("daemon", "", "")], "cut at {cut}");
            assert_eq!(found[0].actor.attributes["name"], "one}");
        }
        assert!(Events::default().take(b"<html>").is_err());
    }
}
