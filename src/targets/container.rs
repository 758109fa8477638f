//! Makes and starts the containers of a restore.
//!
//! How they are made and in which order is decided in `plan`.

use std::time::Duration;

use crate::docker::create::ContainerBody;
use crate::docker::create::json::{flag, text};
use crate::docker::make::{self, Made};
use crate::docker::wire::encode;
use crate::docker::{DockerError, Engine};
use crate::model::application::RestartPolicy;
use crate::model::text::printable;
use crate::platform::clock;

/// Makes a container and joins its networks; it is not started.
///
/// # Errors
/// The Engine refuses; then there is no such container.
pub async fn create(engine: &Engine, container: &ContainerBody) -> Result<Made, DockerError> {
    make::container(engine, container).await
}

/// Starts a container.
///
/// # Errors
/// The Engine cannot start it.
pub async fn start(engine: &Engine, name: &str) -> Result<(), DockerError> {
    make::start(engine, name).await
}

/// Stops a container.
///
/// # Errors
/// It cannot be stopped.
pub async fn stop(engine: &Engine, id: &str, timeout: Option<Duration>) -> Result<(), DockerError> {
    make::stop(engine, id, timeout).await
}

/// Gives a container the policy by which the Engine starts it again by itself.
///
/// # Errors
/// The Engine refuses, or there is no such container.
pub async fn set_restart(engine: &Engine, id: &str, policy: &RestartPolicy) -> Result<(), DockerError> {
    make::set_restart(engine, id, policy).await
}

/// Gives a container another name.
///
/// # Errors
/// The name is taken.
pub async fn rename(engine: &Engine, id: &str, name: &str) -> Result<(), DockerError> {
    make::rename(engine, id, name).await
}

/// Freezes a container.
///
/// # Errors
/// The Engine refuses.
pub async fn pause(engine: &Engine, name: &str) -> Result<(), DockerError> {
    make::pause(engine, name).await
}

/// Removes a container that a failed restore has made.
///
/// # Errors
/// It is still there.
pub async fn remove(engine: &Engine, id: &str) -> Result<(), DockerError> {
    make::remove_container(engine, id).await
}

/// Waits until a container is healthy. Gives the warning if it is not within `limit`, or has ended.
///
/// # Errors
/// The Engine does not say how it is.
pub async fn wait_healthy(engine: &Engine, name: &str, limit: Duration) -> Result<Option<String>, DockerError> {
    let deadline = clock::monotonic() + limit;
    let shown = printable(name.as_bytes());
    loop {
        let inspect = make::get(engine, &format!("/containers/{}/json", encode(name))).await?;
        if text(&inspect, "/State/Health/Status").is_none_or(|health| health == "healthy") && flag(&inspect, "/State/Running") {
            return Ok(None);
        }
        if !flag(&inspect, "/State/Running") && !flag(&inspect, "/State/Restarting") {
            let code = inspect.pointer("/State/ExitCode").and_then(serde_json::Value::as_i64).unwrap_or_default();
            return Ok(Some(format!("container {shown} was started and has ended with exit code {code}")));
        }
        if clock::monotonic() >= deadline {
            return Ok(Some(format!("container {shown} runs and is not healthy after {} seconds", limit.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
