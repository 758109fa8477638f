//! A container's configuration: the Engine's own inspect JSON as it was when the container was looked at, byte for byte.
//!
//! Making a container of it again is the business of `docker/create` and `targets/container`.

use super::document::Document;
use crate::docker::Discovery;
use crate::model::application::{Application, Container, ItemKind};
use crate::model::outcome::ReadMethod;

/// The configuration of `container` in its state before anything was stopped for the backup; none if `discovery` did not look
/// at it.
pub fn configuration(discovery: &Discovery, application: &Application, container: &Container) -> Option<Document> {
    Some(Document {
        kind: ItemKind::Configuration,
        name: container.name.clone(),
        path: application.inspect_path(&container.name),
        bytes: discovery.raw_container(&container.id)?.to_vec(),
        method: ReadMethod::Api,
        warnings: Vec::new(),
    })
}
