//! A container's configuration: the Engine's own inspect JSON as it was when the container was looked at, byte for byte.
//!
//! Making a container of it again is the business of `docker/create` and `targets/container`.

use serde_json::{Value, json};

use super::document::Document;
use crate::docker::Discovery;
use crate::model::application::{Application, Container, ItemKind, RestartPolicy};
use crate::model::outcome::ReadMethod;

/// The configuration of `container` in its state before anything was stopped for the backup; none if `discovery` did not look
/// at it. `restart` is the policy that a restore has taken from it for a while.
pub fn configuration(
    discovery: &Discovery,
    application: &Application,
    container: &Container,
    restart: Option<&RestartPolicy>,
) -> Option<Document> {
    let seen = discovery.raw_container(&container.id)?;
    Some(Document {
        kind: ItemKind::Configuration,
        name: container.name.clone(),
        path: application.inspect_path(&container.name),
        bytes: restart.and_then(|policy| with_policy(seen, policy)).unwrap_or_else(|| seen.to_vec()),
        method: ReadMethod::Api,
        warnings: Vec::new(),
        notes: Vec::new(),
    })
}

fn with_policy(inspect: &[u8], policy: &RestartPolicy) -> Option<Vec<u8>> {
    let mut inspect: Value = serde_json::from_slice(inspect).ok()?;
    *inspect.pointer_mut("/HostConfig/RestartPolicy")? = json!({ "Name": policy.name, "MaximumRetryCount": policy.maximum_retries });
    serde_json::to_vec(&inspect).ok()
}
