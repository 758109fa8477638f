//! Helper containers: made from an empty image, mounting one volume (or path) and nothing else, never started, always removed.
//!
//! What goes through their archive streams is the business of `archive`; whether one is needed, that of `sources/volume` and
//! `targets/volume`.

mod owner;

use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Handle;

pub use owner::Owner;

use super::connect::Engine;
use super::discover::inspect_volume;
use super::error::DockerError;
use super::labels::HELPER_LABEL;
use super::wire::encode;
use crate::platform::clock;

/// Where a helper has its volume.
pub const MOUNT: &str = "/volume";
/// The empty image, made on the spot.
const IMAGE: &str = "bbackup-helper";
const TAG: &str = "empty";
/// A tar archive without entries: its two zero blocks.
const EMPTY_TAR: [u8; 1024] = [0; 1024];
/// How long a helper whose owner cannot be looked at (another machine or container) is left alone, in seconds.
const FOREIGN_LIFE: i64 = 7 * 86_400;

/// What a helper may do with its volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Write it.
    Write,
}

/// A helper container. It must be [removed](Self::remove); one that is only dropped is removed in the background, and what
/// even that does not reach is found by [`sweep`].
#[derive(Debug)]
pub struct Helper {
    engine: Engine,
    id: String,
    volume: String,
    runtime: Handle,
    removed: bool,
}

impl Helper {
    /// Makes a helper for `volume`.
    ///
    /// # Errors
    /// [`DockerError::NotFound`] if there is no such volume: it is never made by this.
    pub async fn create(engine: &Engine, volume: &str, access: Access, owner: &Owner) -> Result<Self, DockerError> {
        // An Engine makes a volume that a new container mounts and that does not exist: an empty one in place of a lost one.
        inspect_volume(engine.wire(), volume).await?;
        let mark = owner.to_string();
        let mount = json!({"Mounts": [{
            "Type": "volume",
            "Source": volume,
            "Target": MOUNT,
            "ReadOnly": access == Access::Read,
            // The label marks a volume that was made by this after all, between the look and the mount.
            "VolumeOptions": {"NoCopy": true, "Labels": {HELPER_LABEL: mark}},
        }]});
        let helper = Self::with_mount(engine, volume, mount, &mark).await?;
        let now = inspect_volume(engine.wire(), volume).await?;
        if now.labels.get(HELPER_LABEL) == Some(&mark) {
            helper.remove().await?;
            engine.wire().call(Method::DELETE, &format!("/volumes/{}", encode(volume)), None).await?;
            return Err(DockerError::NotFound { kind: "volume", name: volume.to_owned() });
        }
        Ok(helper)
    }

    /// Makes a helper for a file or folder of the Engine's machine, to be read. One that does not exist is an error. With `alone` nothing
    /// is seen of what is mounted in it, if the Engine [can](can_leave_out_mounts) do that.
    ///
    /// # Errors
    /// The Engine refuses: there is nothing at the path.
    pub async fn for_path(engine: &Engine, path: &str, alone: bool, owner: &Owner) -> Result<Self, DockerError> {
        // Without propagation, so that nothing that is mounted meanwhile shows up.
        let mut mount = json!({"Type": "bind", "Source": path, "Target": MOUNT, "ReadOnly": true});
        if alone {
            mount["BindOptions"] = json!({"NonRecursive": true});
        }
        let mount = json!({"Mounts": [mount]});
        Self::with_mount(engine, path, mount, &owner.to_string()).await
    }

    /// Makes a helper for a folder of the Engine's machine, to be written; one that does not exist is made.
    ///
    /// # Errors
    /// The Engine refuses.
    pub async fn for_folder(engine: &Engine, path: &str, owner: &Owner) -> Result<Self, DockerError> {
        Self::with_mount(engine, path, json!({"Binds": [format!("{path}:{MOUNT}")]}), &owner.to_string()).await
    }

    /// Makes the container; `mount` is the part of its host configuration that says what it mounts.
    async fn with_mount(engine: &Engine, mounted: &str, mut mount: serde_json::Value, mark: &str) -> Result<Self, DockerError> {
        ensure_image(engine).await?;
        mount["NetworkMode"] = json!("none");
        let body = json!({
            "Image": format!("{IMAGE}:{TAG}"),
            "Cmd": ["never-started"],
            "Labels": {HELPER_LABEL: mark},
            "NetworkDisabled": true,
            "HostConfig": mount,
        });
        let call = "POST /containers/create";
        let name = format!("bbackup-helper-{}", ulid::Ulid::generate().to_string().to_lowercase());
        let path = format!("/containers/create?name={name}");
        let bytes = match post(engine, &path, &body).await {
            // Somebody removed the image in between.
            Err(error) if error.is_not_found() => {
                ensure_image(engine).await?;
                post(engine, &path, &body).await?
            }
            other => other?,
        };
        let created: Created =
            serde_json::from_slice(&bytes).map_err(|error| DockerError::Malformed { call: call.to_owned(), source: error.into() })?;
        Ok(Self { engine: engine.clone(), id: created.id, volume: mounted.to_owned(), runtime: Handle::current(), removed: false })
    }

    /// Id of the container, for [`archive_get`](super::archive::archive_get) and [`archive_put`](super::archive::archive_put).
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Name of its volume, or the path that it mounts.
    pub fn volume(&self) -> &str {
        &self.volume
    }

    /// Removes the container. One that is gone already is no error.
    ///
    /// # Errors
    /// The Engine does not remove it; the next [`sweep`] tries again.
    pub async fn remove(mut self) -> Result<(), DockerError> {
        self.removed = true;
        remove(&self.engine, &self.id).await
    }
}

/// Whether an Engine gives a bind mount without what is mounted in it. Those before 24.0 make the mount for their archive stream recursive all
/// the same (seen with 20.10).
pub fn can_leave_out_mounts(engine: &Engine) -> bool {
    engine.api_version() >= (1, 43)
}

impl Drop for Helper {
    fn drop(&mut self) {
        if !self.removed {
            let (engine, id) = (self.engine.clone(), std::mem::take(&mut self.id));
            // Nobody waits for this: what it cannot do, the next sweep does.
            self.runtime.spawn(async move { remove(&engine, &id).await });
        }
    }
}

/// The answer to a create.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

/// A line of the answer to an import.
#[derive(Deserialize)]
struct ImportLine {
    error: Option<String>,
}

/// A line of the list of helpers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperLine {
    id: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    created: i64,
}

async fn post(engine: &Engine, path: &str, body: &serde_json::Value) -> Result<Bytes, DockerError> {
    engine.wire().call(Method::POST, path, Some(body.to_string().into_bytes())).await
}

async fn remove(engine: &Engine, id: &str) -> Result<(), DockerError> {
    // Never with `v=1`: the volume stays.
    let path = format!("/containers/{}?force=1", encode(id));
    match engine.wire().call(Method::DELETE, &path, None).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        // Another sweep is at it.
        Err(error) if error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the empty image unless it is there.
async fn ensure_image(engine: &Engine) -> Result<(), DockerError> {
    let wire = engine.wire();
    match wire.get_bytes(&format!("/images/{IMAGE}:{TAG}/json")).await {
        Ok(_) => return Ok(()),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    let path = format!("/images/create?fromSrc=-&repo={IMAGE}&tag={TAG}");
    let answer = wire.upload(Method::POST, &path, "application/x-tar", Full::new(Bytes::from_static(&EMPTY_TAR))).await?;
    // Errors come as lines of a 200 answer.
    let lines = serde_json::Deserializer::from_slice(&answer).into_iter::<ImportLine>();
    match lines.filter_map(Result::ok).find_map(|line| line.error) {
        Some(message) => Err(DockerError::Api { call: "POST /images/create".to_owned(), status: 500, message }),
        None => Ok(()),
    }
}

/// What a [`sweep`] did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Ids of helpers of dead runs that were removed.
    pub removed: Vec<String>,
    /// Helpers that could not be removed, one sentence each.
    pub failed: Vec<String>,
}

/// Removes the helpers that dead runs have left, and never one of a run that lives.
///
/// # Errors
/// The containers could not be listed.
pub async fn sweep(engine: &Engine) -> Result<Swept, DockerError> {
    let filters = encode(&json!({"label": [HELPER_LABEL]}).to_string());
    let bytes = engine.wire().get_bytes(&format!("/containers/json?all=1&filters={filters}")).await?;
    let lines: Vec<HelperLine> = serde_json::from_slice(&bytes)
        .map_err(|error| DockerError::Malformed { call: "GET /containers/json".to_owned(), source: error.into() })?;
    let mut swept = Swept::default();
    for line in lines {
        let Some(mark) = line.labels.get(HELPER_LABEL) else { continue };
        let dead = match Owner::parse(mark).and_then(|owner| owner.is_dead()) {
            Some(dead) => dead,
            None => clock::now().as_second() - line.created > FOREIGN_LIFE,
        };
        if dead {
            match remove(engine, &line.id).await {
                Ok(()) => swept.removed.push(line.id),
                Err(error) => swept.failed.push(format!("helper container {} is not removed: {error}", line.id)),
            }
        }
    }
    Ok(swept)
}
