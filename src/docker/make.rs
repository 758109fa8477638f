//! Makes containers, networks and volumes, starts what was made, and removes it again.
//!
//! How the bodies are put together is `create`'s business, in which order they are sent that of `targets`.

use std::time::Duration;

use http_body_util::Full;
use hyper::Method;
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::connect::Engine;
use super::create::{ContainerBody, NetworkBody};
use super::error::DockerError;
use super::quiesce::PATIENCE;
use super::wire::encode;
use crate::model::application::RestartPolicy;

/// Longest that a stop may take: far more than anybody gives a container.
const STOP_LIMIT: Duration = Duration::from_hours(1);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
    #[serde(default)]
    warnings: Option<Vec<String>>,
    /// What the answer for a network has instead.
    #[serde(default)]
    warning: String,
}

/// Something that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its id; a volume's name.
    pub id: String,
    /// What the Engine warns of.
    pub warnings: Vec<String>,
}

/// Makes a network.
///
/// # Errors
/// The Engine refuses: a name or subnet that is taken, an option or driver that it does not have.
pub async fn network(engine: &Engine, network: &NetworkBody) -> Result<Made, DockerError> {
    created(&post(engine, "/networks/create", Some(&network.body)).await?)
}

/// Makes a volume, and makes sure that it is a new one: asked for a name that is taken, an Engine says yes and makes nothing.
///
/// # Errors
/// There is one of that name already (409), or the Engine refuses.
pub async fn volume(engine: &Engine, body: &Value) -> Result<Made, DockerError> {
    let name = body["Name"].as_str().unwrap_or_default();
    match get(engine, &format!("/volumes/{}", encode(name))).await {
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
        Ok(_) => {
            let message = format!("a volume {name} exists already");
            return Err(DockerError::Api { call: "POST /volumes/create".to_owned(), status: 409, message });
        }
    }
    post(engine, "/volumes/create", Some(body)).await?;
    Ok(Made { id: name.to_owned(), warnings: Vec::new() })
}

/// Makes a container and joins its further networks. One that cannot join them is removed again.
///
/// # Errors
/// The Engine refuses.
pub async fn container(engine: &Engine, container: &ContainerBody) -> Result<Made, DockerError> {
    let path = format!("/containers/create?name={}", encode(&container.name));
    let made = created(&post(engine, &path, Some(&container.body)).await?)?;
    match join(engine, container, &made.id).await {
        Ok(()) => Ok(made),
        Err(error) => {
            // The first error is the one that helps; a container that stays is found by its name.
            let _ = remove_container(engine, &made.id).await;
            Err(error)
        }
    }
}

async fn join(engine: &Engine, container: &ContainerBody, id: &str) -> Result<(), DockerError> {
    for connection in &container.connect {
        let path = format!("/networks/{}/connect", encode(&connection.network));
        post(engine, &path, Some(&json!({ "Container": id, "EndpointConfig": connection.endpoint }))).await?;
    }
    for network in &container.disconnect {
        let path = format!("/networks/{}/disconnect", encode(network));
        post(engine, &path, Some(&json!({ "Container": id, "Force": false }))).await?;
    }
    Ok(())
}

/// Starts a container; nothing happens to one that runs.
///
/// # Errors
/// The Engine cannot start it: a port that is taken, a program that is not in the image.
pub async fn start(engine: &Engine, container: &str) -> Result<(), DockerError> {
    post(engine, &format!("/containers/{}/start", encode(container)), None).await.map(drop)
}

/// Stops a container, after its own time to stop or after `timeout`; nothing happens to one that does not run.
///
/// # Errors
/// It cannot be stopped.
pub async fn stop(engine: &Engine, container: &str, timeout: Option<Duration>) -> Result<(), DockerError> {
    const CALL: &str = "POST /containers/{id}/stop";
    let timeout = if timeout.is_some() {
        timeout
    } else {
        // Waited for without end, it might end when nobody expects it any more, and stay down.
        let inspect = get(engine, &format!("/containers/{}/json", encode(container))).await?;
        inspect.pointer("/Config/StopTimeout").and_then(Value::as_i64).filter(|seconds| *seconds < 0).map(|_| PATIENCE)
    };
    let seconds = timeout.map_or(String::new(), |timeout| format!("?t={}", timeout.as_secs()));
    let path = format!("/containers/{}/stop{seconds}", encode(container));
    // The answer comes once the container has ended, so the limit on short calls would be the wrong one.
    let call = engine.wire().upload(Method::POST, &path, "application/json", Full::new(Bytes::new()));
    let stopped = tokio::time::timeout(STOP_LIMIT, call).await;
    stopped.unwrap_or_else(|_| Err(DockerError::Timeout { call: CALL.to_owned(), seconds: STOP_LIMIT.as_secs() })).map(drop)
}

/// Gives a container the policy by which the Engine starts it again by itself.
///
/// # Errors
/// The Engine refuses, or there is no such container.
pub async fn set_restart(engine: &Engine, container: &str, policy: &RestartPolicy) -> Result<(), DockerError> {
    let body = json!({ "RestartPolicy": { "Name": policy.name, "MaximumRetryCount": policy.maximum_retries } });
    post(engine, &format!("/containers/{}/update", encode(container)), Some(&body)).await.map(drop)
}

/// Gives a container another name.
///
/// # Errors
/// The name is taken, or there is no such container.
pub async fn rename(engine: &Engine, container: &str, name: &str) -> Result<(), DockerError> {
    post(engine, &format!("/containers/{}/rename?name={}", encode(container), encode(name)), None).await.map(drop)
}

/// Freezes a running container.
///
/// # Errors
/// The Engine refuses.
pub async fn pause(engine: &Engine, container: &str) -> Result<(), DockerError> {
    post(engine, &format!("/containers/{}/pause", encode(container)), None).await.map(drop)
}

/// Removes a container, also while it runs, and none of its volumes. One that is gone is no error.
///
/// # Errors
/// It is still there.
pub async fn remove_container(engine: &Engine, container: &str) -> Result<(), DockerError> {
    delete(engine, &format!("/containers/{}?force=1", encode(container))).await
}

/// Removes a network. One that is gone is no error.
///
/// # Errors
/// It is still there: containers are on it.
pub async fn remove_network(engine: &Engine, network: &str) -> Result<(), DockerError> {
    delete(engine, &format!("/networks/{}", encode(network))).await
}

/// Removes a volume with everything in it. One that is gone is no error.
///
/// # Errors
/// It is still there: containers use it.
pub async fn remove_volume(engine: &Engine, volume: &str) -> Result<(), DockerError> {
    delete(engine, &format!("/volumes/{}", encode(volume))).await
}

/// Has the Engine pull an image.
///
/// # Errors
/// No registry has it, or none can be reached; the message is the Engine's.
pub async fn pull(engine: &Engine, reference: &str) -> Result<(), DockerError> {
    #[derive(Deserialize)]
    struct Line {
        error: Option<String>,
    }
    const CALL: &str = "POST /images/create";
    // A name without a tag would pull every tag there is.
    let has_tag = reference.contains('@') || reference.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let tag = if has_tag { "" } else { "&tag=latest" };
    let path = format!("/images/create?fromImage={}{tag}", encode(reference));
    let call = engine.wire().upload(Method::POST, &path, "application/json", Full::new(Bytes::new()));
    let limit = engine.wire().timeouts().work;
    let answer = tokio::time::timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(DockerError::Timeout { call: CALL.to_owned(), seconds: limit.as_secs() }))?;
    // Errors come as lines of a 200 answer.
    let error = serde_json::Deserializer::from_slice(&answer).into_iter::<Line>().filter_map(Result::ok).find_map(|line| line.error);
    error.map_or(Ok(()), |message| Err(DockerError::Api { call: CALL.to_owned(), status: 500, message }))
}

/// Gives an image a further name (`postgres:16`).
///
/// # Errors
/// There is no such image.
pub async fn tag(engine: &Engine, image: &str, name: &str) -> Result<(), DockerError> {
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    };
    let path = format!("/images/{}/tag?repo={}&tag={}", encode(image), encode(repository), encode(tag));
    post(engine, &path, None).await.map(drop)
}

/// An answer of the Engine as raw JSON.
///
/// # Errors
/// As for every call; see [`DockerError`].
pub async fn get(engine: &Engine, path: &str) -> Result<Value, DockerError> {
    let bytes = engine.wire().get_bytes(path).await?;
    serde_json::from_slice(&bytes).map_err(|error| DockerError::Malformed { call: format!("GET {path}"), source: error.into() })
}

async fn post(engine: &Engine, path: &str, body: Option<&Value>) -> Result<Bytes, DockerError> {
    engine.wire().call(Method::POST, path, body.map(|body| body.to_string().into_bytes())).await
}

async fn delete(engine: &Engine, path: &str) -> Result<(), DockerError> {
    match engine.wire().call(Method::DELETE, path, None).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

fn created(answer: &[u8]) -> Result<Made, DockerError> {
    let created: Created =
        serde_json::from_slice(answer).map_err(|error| DockerError::Malformed { call: "create".to_owned(), source: error.into() })?;
    let mut warnings = created.warnings.unwrap_or_default();
    warnings.extend((!created.warning.is_empty()).then_some(created.warning));
    Ok(Made { id: created.id, warnings })
}
