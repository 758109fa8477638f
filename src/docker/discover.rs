//! Finds out what is on an Engine: containers, volumes, networks, and the applications that they form. Only reads.
//!
//! How things become applications is decided in `applications`, what is chosen of them in `sources/plan`.

mod applications;
pub mod binds;
pub mod grounds;
pub mod links;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde::de::DeserializeOwned;

use self::links::Links;
use super::connect::Engine;
use super::error::DockerError;
use super::inspect::{self, ContainerLine, ImageLine, RawNetwork, RawPlatform, RawVolume, RawVolumes};
use super::labels::{HELPER_LABEL, Policy};
use super::wire::{Wire, encode};
use crate::model::application::{Application, Container, EngineIdentity, Image, Network, Volume};

/// Calls that are under way at the same time.
const PARALLEL: usize = 16;

/// What was on an Engine at one moment.
#[derive(Debug)]
pub struct Discovery {
    /// Which Engine.
    pub engine: EngineIdentity,
    /// Everything on it except default networks, sorted by name.
    pub applications: Vec<Application>,
    /// The networks that the Engine makes by itself, sorted by name.
    pub default_networks: Vec<Network>,
    /// What could not be looked at; one sentence each.
    pub warnings: Vec<String>,
    /// By the name of the container, and what is wrong with its labels.
    policies: HashMap<String, (Policy, Vec<String>)>,
    raw_containers: HashMap<String, Bytes>,
    raw_networks: HashMap<String, Bytes>,
    /// By the id of a container or network that is there and cannot be looked at: why.
    unseen: HashMap<String, String>,
    links: Links,
}

impl Discovery {
    /// What these things form, without their inspect JSON.
    #[cfg(test)]
    pub(crate) fn of(engine: EngineIdentity, containers: Vec<Container>, volumes: Vec<Volume>, networks: Vec<Network>) -> Self {
        Self::with_links(engine, containers, volumes, networks, Links::default())
    }

    /// The same, where links lead from one path to another.
    pub(crate) fn with_links(
        engine: EngineIdentity,
        containers: Vec<Container>,
        volumes: Vec<Volume>,
        networks: Vec<Network>,
        links: Links,
    ) -> Self {
        let policy = |container: &Container| (container.name.clone(), Policy::parse(&container.name, &container.labels));
        let policies = containers.iter().map(policy).collect();
        Self {
            engine,
            applications: applications::build(containers, volumes, networks, links.clone()),
            default_networks: Vec::new(),
            warnings: Vec::new(),
            policies,
            raw_containers: HashMap::new(),
            raw_networks: HashMap::new(),
            unseen: HashMap::new(),
            links,
        }
    }

    /// All containers.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.applications.iter().flat_map(|application| &application.containers)
    }

    /// The container of that name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers().find(|container| container.name == name)
    }

    /// All volumes.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.applications.iter().flat_map(|application| &application.volumes)
    }

    /// All networks except the default ones, sorted by name.
    pub fn networks(&self) -> Vec<&Network> {
        // A network that several applications join is with each of them.
        let all = self.applications.iter().flat_map(|application| &application.networks);
        all.map(|network| (&network.name, network)).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// What the labels of the container of that name ask for.
    pub fn policy(&self, container: &str) -> Option<&Policy> {
        self.policies.get(container).map(|(policy, _)| policy)
    }

    /// What is wrong with the labels of the container of that name, one sentence each. Only said of containers that are saved.
    pub fn label_warnings(&self, container: &str) -> &[String] {
        self.policies.get(container).map_or(&[], |(_, warnings)| warnings)
    }

    /// What labels ask for does not count: what is saved before it is overwritten is saved as it is.
    pub fn forget_labels(&mut self) {
        self.policies.clear();
    }

    /// The inspect JSON of a container as it was when it was looked at, byte for byte, by its id.
    pub fn raw_container(&self, id: &str) -> Option<&Bytes> {
        self.raw_containers.get(id)
    }

    /// Why a container or network that is there has no inspect JSON, by its id.
    pub fn unseen(&self, id: &str) -> Option<&str> {
        self.unseen.get(id).map(String::as_str)
    }

    /// A container is not what it seems to be: what it is said to be is not saved.
    pub fn hide(&mut self, id: &str, reason: &str) {
        if self.raw_containers.remove(id).is_some() {
            self.unseen.insert(id.to_owned(), reason.to_owned());
        }
    }

    /// Where links lead from one path to another, as far as that is seen from here.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// The inspect JSON of a network, byte for byte, by its id.
    pub fn raw_network(&self, id: &str) -> Option<&Bytes> {
        self.raw_networks.get(id)
    }
}

/// Looks at everything on `engine`. What vanishes meanwhile is not there; what cannot be looked at is a warning.
///
/// # Errors
/// One of the lists could not be had.
pub async fn discover(engine: &Engine) -> Result<Discovery, DockerError> {
    let wire = engine.wire();
    let (mut warnings, mut unseen) = (Vec::new(), HashMap::new());
    let (containers, volumes, networks, images) = tokio::join!(
        list::<Vec<ContainerLine>>(wire, "/containers/json?all=1"),
        list::<RawVolumes>(wire, "/volumes"),
        list::<Vec<RawNetwork>>(wire, "/networks"),
        list::<Vec<ImageLine>>(wire, "/images/json"),
    );
    let (volumes, networks) = (volumes?, networks?);
    warnings.extend(volumes.warnings.into_iter().map(|warning| format!("the Docker Engine says of its volumes: {warning}")));
    let digests: HashMap<String, Vec<String>> = match images {
        Ok(images) => {
            // An image whose name has gone to another one has `<none>@<none>`.
            let digests =
                |image: ImageLine| (image.id, image.repo_digests.into_iter().filter(|digest| !digest.contains("<none>")).collect());
            images.into_iter().map(digests).collect()
        }
        Err(error) => {
            warnings.push(format!("image digests are not recorded: {error}"));
            HashMap::new()
        }
    };
    let containers = containers?.into_iter().filter(|line| !line.labels.contains_key(HELPER_LABEL));
    let (mut containers, raw_containers) = inspect_containers(wire, containers, &digests, &mut warnings, &mut unseen).await;
    platforms(wire, &mut containers, &mut warnings).await;
    let (networks, default_networks, raw_networks) = inspect_networks(wire, networks, &mut warnings, &mut unseen).await;

    let volumes: Vec<Volume> = volumes.volumes.into_iter().map(Volume::from).collect();
    let links = Links::find(engine, &Links::default(), containers.iter().flat_map(|container| &container.mounts), &volumes).await;
    warnings.extend(links.told());
    let mut discovery = Discovery::with_links(engine.identity().clone(), containers, volumes, networks, links);
    discovery.warnings.splice(0..0, warnings);
    Ok(Discovery { default_networks, raw_containers, raw_networks, unseen, ..discovery })
}

async fn list<T: DeserializeOwned>(wire: &Wire, path: &str) -> Result<T, DockerError> {
    let bytes = wire.get_bytes(path).await?;
    serde_json::from_slice(&bytes).map_err(|error| DockerError::Malformed { call: format!("GET {path}"), source: error.into() })
}

async fn inspect_containers(
    wire: &Wire,
    lines: impl Iterator<Item = ContainerLine>,
    digests: &HashMap<String, Vec<String>>,
    warnings: &mut Vec<String>,
    unseen: &mut HashMap<String, String>,
) -> (Vec<Container>, HashMap<String, Bytes>) {
    let answers = stream::iter(lines.map(|line| async move {
        let answer = inspect_container(wire, &line.id).await;
        (line, answer)
    }));
    let mut answers: Vec<_> = answers.buffer_unordered(PARALLEL).collect().await;
    answers.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    let mut raw = HashMap::new();
    let mut found = Vec::new();
    for (line, answer) in answers {
        let read = match answer {
            Ok(bytes) => match inspect::container(&bytes, digests) {
                Ok(container) => Ok((container, bytes)),
                Err(error) => Err(error.to_string()),
            },
            Err(error) if error.is_not_found() => continue,
            Err(error) => Err(error.to_string()),
        };
        match read {
            Ok((container, bytes)) => {
                raw.insert(container.container().id.clone(), bytes);
                found.push(container);
            }
            Err(error) => {
                warnings.push(format!("container {} is not looked at: {error}", line.name()));
                // It is there all the same, and what belongs to it must not be taken for whole without it.
                found.extend(inspect::container(line.as_inspect().to_string().as_bytes(), digests));
                unseen.insert(line.id, error);
            }
        }
    }
    (inspect::resolve(found), raw)
}

/// Fills in what the images of containers are made for.
async fn platforms(wire: &Wire, containers: &mut [Container], warnings: &mut Vec<String>) {
    let is_open = |image: &Image| image.present && image.platform.is_empty();
    let open: BTreeSet<String> =
        containers.iter().map(|container| &container.image).filter(|image| is_open(image)).map(|image| image.id.clone()).collect();
    let answers = stream::iter(open.into_iter().map(|id| async move {
        let answer = list::<RawPlatform>(wire, &format!("/images/{}/json", encode(&id))).await;
        (id, answer)
    }));
    let answers: HashMap<String, Result<RawPlatform, DockerError>> = answers.buffer_unordered(PARALLEL).collect().await;
    for image in containers.iter_mut().map(|container| &mut container.image) {
        if let Some(Ok(platform)) = answers.get(&image.id) {
            image.platform = platform.name();
        }
    }
    // One sentence for all: where one is forbidden, all are.
    let failed = answers.into_values().filter_map(Result::err).find(|error| !error.is_not_found());
    warnings.extend(failed.map(|error| format!("what images are made for is not recorded: {error}")));
}

async fn inspect_networks(
    wire: &Wire,
    listed: Vec<RawNetwork>,
    warnings: &mut Vec<String>,
    unseen: &mut HashMap<String, String>,
) -> (Vec<Network>, Vec<Network>, HashMap<String, Bytes>) {
    let (default, own): (Vec<_>, Vec<_>) = listed.into_iter().partition(RawNetwork::is_default);
    let answers = stream::iter(own.into_iter().map(|network| async move {
        let bytes = wire.get_bytes(&format!("/networks/{}", encode(&network.id))).await;
        (network, bytes)
    }));
    let mut networks = Vec::new();
    let mut raw = HashMap::new();
    for (network, bytes) in answers.buffer_unordered(PARALLEL).collect::<Vec<_>>().await {
        match bytes {
            Ok(bytes) => {
                raw.insert(network.id.clone(), bytes);
                networks.push(Network::from(network));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                warnings.push(format!("network {} is not looked at: {error}", network.name));
                unseen.insert(network.id.clone(), error.to_string());
                networks.push(Network::from(network));
            }
        }
    }
    let mut default: Vec<Network> = default.into_iter().map(Network::from).collect();
    default.sort_by(|a, b| a.name.cmp(&b.name));
    (networks, default, raw)
}

/// The inspect JSON of a container, byte for byte.
///
/// # Errors
/// [`DockerError::NotFound`] if it is gone.
pub async fn inspect_container(wire: &Wire, name: &str) -> Result<Bytes, DockerError> {
    wire.get_bytes(&format!("/containers/{}/json", encode(name))).await.map_err(|error| error.about("container", name))
}

/// A volume as it is now; who uses it is left empty.
///
/// # Errors
/// [`DockerError::NotFound`] if it is gone.
pub async fn inspect_volume(wire: &Wire, name: &str) -> Result<Volume, DockerError> {
    let raw: RawVolume = list(wire, &format!("/volumes/{}", encode(name))).await.map_err(|error| error.about("volume", name))?;
    Ok(raw.into())
}
