//! Makes the networks of a restore.
//!
//! How they are made, and whether one that is there will do, is decided in `plan`.

use crate::docker::create::NetworkBody;
use crate::docker::make::{self, Made};
use crate::docker::{DockerError, Engine};

/// Makes a network.
///
/// # Errors
/// The Engine refuses.
pub async fn create(engine: &Engine, network: &NetworkBody) -> Result<Made, DockerError> {
    make::network(engine, network).await
}

/// Removes a network that a failed restore has made.
///
/// # Errors
/// It is still there.
pub async fn remove(engine: &Engine, id: &str) -> Result<(), DockerError> {
    make::remove_network(engine, id).await
}
