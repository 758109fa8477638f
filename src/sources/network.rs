//! A network's configuration: the Engine's own inspect JSON, byte for byte.
//!
//! Making a network of it again is the business of `docker/create` and `targets/network`.

use super::document::Document;
use crate::docker::Discovery;
use crate::model::application::{Application, ItemKind, Network};
use crate::model::outcome::ReadMethod;

/// The configuration of `network`; none if `discovery` did not look at it.
pub fn configuration(discovery: &Discovery, application: &Application, network: &Network) -> Option<Document> {
    Some(Document {
        kind: ItemKind::Network,
        name: network.name.clone(),
        path: application.network_path(&network.name),
        bytes: discovery.raw_network(&network.id)?.to_vec(),
        method: ReadMethod::Api,
        warnings: Vec::new(),
        notes: Vec::new(),
    })
}
