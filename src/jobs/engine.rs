//! The way to the Docker Engine that the configuration names, and what is on it, for lists.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::JobError;
use crate::config::Docker;
use crate::docker::wire::Timeouts;
use crate::docker::{Engine, EngineOptions, discover, make};
use crate::model::progress::{Event, Progress};
use crate::platform::clock;
use crate::platform::control::Control;

/// How often an Engine that is gone is asked.
const PAUSE: Duration = Duration::from_secs(1);

/// Connects to the Engine.
///
/// # Errors
/// It cannot be reached or used.
pub async fn connect(docker: &Docker) -> Result<Engine, JobError> {
    Ok(Engine::connect(&options(docker)).await?)
}

/// Where the Engine keeps its data, if it is on this machine and says so at once.
pub async fn local_data_root(docker: &Docker) -> Option<PathBuf> {
    Engine::local_data_root(&options(docker)).await
}

/// What the machine is called that the Engine is on, if its address says that it is another one than this.
pub fn machine(docker: &Docker) -> Option<String> {
    Engine::machine(&options(docker))
}

/// How the Engine of a configuration is reached.
fn options(docker: &Docker) -> EngineOptions {
    EngineOptions {
        host: docker.host.clone(),
        context: docker.context.clone(),
        tls: docker.tls_verify.unwrap_or(docker.cert_path.is_some()),
        certificates: docker.cert_path.clone(),
        client_folder: docker.client_folder.clone(),
        timeouts: Timeouts { request: docker.timeout, ..Timeouts::default() },
    }
}

/// Waits for an Engine that is gone, as it is while it restarts: containers that were stopped are not left down for that. Gives whether it
/// answers now.
pub(super) async fn until_it_answers(engine: &Engine, control: &Control, progress: &Arc<dyn Progress>, deadline: Instant) -> bool {
    loop {
        match make::get(engine, "/info").await {
            Err(error) if error.is_unreachable() => progress.event(Event::Phase("waiting for the Docker Engine")),
            _ => return true,
        }
        if clock::monotonic() >= deadline || control.is_cancelled() {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What is on an Engine, without anything that could be a secret (environment, labels, options).
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// Containers, running or not, by name.
    pub containers: Vec<ContainerLine>,
    /// Volumes by name.
    pub volumes: Vec<VolumeLine>,
    /// Networks by name, Docker's own three among them.
    pub networks: Vec<NetworkLine>,
    /// What could not be looked at.
    pub warnings: Vec<String>,
}

/// A container in a list.
#[derive(Debug, Clone, Serialize)]
pub struct ContainerLine {
    /// Name.
    pub name: String,
    /// The first twelve digits of its id.
    pub id: String,
    /// Name of its application.
    pub application: String,
    /// Its image as it names it.
    pub image: String,
    /// The Engine's word for what it does.
    pub status: &'static str,
    /// Names of its volumes.
    pub volumes: Vec<String>,
    /// Names of its networks.
    pub networks: Vec<String>,
}

/// A volume in a list.
#[derive(Debug, Clone, Serialize)]
pub struct VolumeLine {
    /// Name.
    pub name: String,
    /// Name of the application that it is stored with.
    pub application: String,
    /// Its driver.
    pub driver: String,
    /// Where the Engine has it.
    pub mountpoint: String,
    /// Names of the containers that mount it.
    pub containers: Vec<String>,
}

/// A network in a list.
#[derive(Debug, Clone, Serialize)]
pub struct NetworkLine {
    /// Name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Its subnets.
    pub subnets: Vec<String>,
    /// Names of the containers that join it.
    pub containers: Vec<String>,
    /// Whether the Engine makes it by itself; such a network is never saved.
    pub default: bool,
}

/// Looks at everything on the Engine.
///
/// # Errors
/// It cannot be reached or used.
pub async fn overview(docker: &Docker) -> Result<Overview, JobError> {
    let discovery = discover(&connect(docker).await?).await?;
    let mut overview = Overview { containers: Vec::new(), volumes: Vec::new(), networks: Vec::new(), warnings: discovery.warnings.clone() };
    for application in &discovery.applications {
        overview.containers.extend(application.containers.iter().map(|container| ContainerLine {
            name: container.name.clone(),
            id: container.short_id().to_owned(),
            application: application.name.clone(),
            image: container.image.reference.clone(),
            status: container.state.status.as_str(),
            volumes: container.volume_names().map(str::to_owned).collect(),
            networks: container.networks.clone(),
        }));
        overview.volumes.extend(application.volumes.iter().map(|volume| VolumeLine {
            name: volume.name.clone(),
            application: application.name.clone(),
            driver: volume.driver.clone(),
            mountpoint: volume.mountpoint.clone(),
            containers: volume.users.iter().map(|user| user.container.clone()).collect(),
        }));
    }
    let own = discovery.networks().into_iter().map(|network| (network, false));
    let networks = own.chain(discovery.default_networks.iter().map(|network| (network, true)));
    overview.networks = networks
        .map(|(network, default)| NetworkLine {
            name: network.name.clone(),
            driver: network.driver.clone(),
            subnets: network.subnets.clone(),
            containers: network.containers.clone(),
            default,
        })
        .collect();
    overview.containers.sort_by(|left, right| left.name.cmp(&right.name));
    overview.volumes.sort_by(|left, right| left.name.cmp(&right.name));
    overview.networks.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(overview)
}
