//! Looks at what is on an Engine and its machine before a restore. Only reads.
//!
//! What of it stands in the way is decided in `plan`.

mod ports;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::docker::create::is_predefined_network;
use crate::docker::create::json::{array, object, text, texts};
use crate::docker::create::names::mounted_volume;
use crate::docker::discover::grounds::Grounds;
use crate::docker::discover::links::Links;
use crate::docker::discover::{discover, inspect_volume};
use crate::docker::ourselves::ourselves;
use crate::docker::wire::encode;
use crate::docker::{DockerError, Engine, make, mountpoint};
use crate::model::application::{Consistency, Container, DependencyReason, EngineIdentity, Mount, RestartPolicy};
use crate::platform::container::clues;
use crate::platform::mounts;

pub use self::ports::{HostPort, Protocol};
pub use self::ways::{Obstacle, on_the_way};

/// The label in which compose names the project of what it makes.
pub(super) const PROJECT_LABEL: &str = "com.docker.compose.project";

/// What is on an Engine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    /// Which Engine.
    pub identity: EngineIdentity,
    /// The API version that is spoken.
    pub api: (u64, u64),
    /// Its containers.
    pub containers: Vec<HostContainer>,
    /// Its volumes.
    pub volumes: BTreeMap<String, HostVolume>,
    /// Where the files of its volumes lie; known only where containers may have to make room.
    pub grounds: Grounds,
    /// What inspect says of its networks, by name.
    pub networks: BTreeMap<String, Value>,
    /// Its images.
    pub images: Vec<HostImage>,
    /// Ports on which programs of this machine listen; none where the Engine's network is not this process's.
    pub listening: Option<Vec<HostPort>>,
    /// The disk where the Engine keeps its data; none where that is not seen from here.
    pub disk: Option<Disk>,
    /// The disks on which the folders lie, or would be made, that were asked for.
    pub disks: BTreeMap<String, Disk>,
    /// Mount points that were asked for and at which nothing is mounted, with what is there instead.
    pub unmounted: BTreeMap<String, PathState>,
    /// Volume drivers it has; empty where it does not say.
    pub volume_drivers: BTreeSet<String>,
    /// Network drivers it has; empty where it does not say.
    pub network_drivers: BTreeSet<String>,
    /// Log drivers it has; empty where it does not say.
    pub log_drivers: BTreeSet<String>,
    /// Runtimes it has; empty where it does not say.
    pub runtimes: BTreeSet<String>,
    /// Paths of its machine that were asked for and are not there; empty where its paths are not those of this machine.
    pub missing_paths: BTreeSet<String>,
    /// Paths that were asked for, or folders that volumes stand for, whose file system does not answer.
    pub silent: BTreeSet<String>,
    /// What is at the paths of bind mounts that were asked for; those that are not here are not seen from here.
    pub binds: BTreeMap<String, PathState>,
    /// What is in the way to paths that were asked for with the folder that they belong to.
    pub obstacles: BTreeMap<String, Obstacle>,
}

/// A file system of the Engine's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// `st_dev` of what is on it.
    pub device: u64,
    /// Bytes free.
    pub free: u64,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathState {
    /// Nothing.
    Missing,
    /// A folder with nothing in it.
    Empty,
    /// A file, or a folder with something in it.
    Holds,
}

/// What a restore wants to know of an Engine beyond its lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Volumes of which it matters whether they are empty.
    pub volumes: BTreeSet<String>,
    /// Paths of its machine of which it matters whether they are there.
    pub paths: BTreeSet<String>,
    /// Paths of bind mounts of which it matters what is there.
    pub binds: BTreeSet<String>,
    /// Volumes and paths in them of which it matters what is there.
    pub inside: BTreeSet<(String, String)>,
    /// Folders and what is below them, of which it matters what is on the way.
    pub below: BTreeSet<(String, String)>,
    /// Folders that volumes stand for, of which it matters on which disk they lie.
    pub folders: BTreeSet<String>,
    /// Mount points that something lay below when it was saved.
    pub mount_points: BTreeSet<String>,
    /// Whether containers that are there may have to make room: it then matters which of them cannot.
    pub in_place: bool,
}

/// A container that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostContainer {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The compose project that it is of.
    pub project: Option<String>,
    /// What it does, in the Engine's word.
    pub status: String,
    /// Ports that it holds on the host; only a running one does.
    pub ports: Vec<HostPort>,
    /// Addresses that it has, or will have when it is started, with the network.
    pub addresses: Vec<(String, IpAddr)>,
    /// Volumes that it mounts.
    pub volumes: Vec<String>,
    /// Id of the container whose network it is in.
    pub network_of: Option<String>,
    /// Why it cannot be stopped and put back; known only where that matters.
    pub fixed: Option<String>,
    /// What it mounts; known only where that matters.
    pub mounts: Vec<Mount>,
    /// Names of the containers in whose network, memory or process space it lives; known only where that matters.
    pub guest_of: Vec<String>,
    /// By which policy the Engine starts it again by itself, also after it was stopped; known only where that matters.
    pub restart: Option<RestartPolicy>,
    /// Whether it keeps running though it can reach what is overwritten by another name: bbackup stands on it, or its label wants it so.
    pub left_running: bool,
}

impl HostContainer {
    /// Whether it has processes.
    pub fn is_alive(&self) -> bool {
        matches!(self.status.as_str(), "running" | "paused" | "restarting")
    }
}

/// A volume that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostVolume {
    /// Its driver.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// The compose project that it is of.
    pub project: Option<String>,
    /// Where the Engine has it, on its machine.
    pub mountpoint: String,
    /// Whether there is nothing in it; none where that is not seen from here.
    pub empty: Option<bool>,
}

/// An image that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostImage {
    /// Its id.
    pub id: String,
    /// Its names.
    pub tags: Vec<String>,
    /// Names under which registries have it.
    pub digests: Vec<String>,
}

#[derive(Deserialize)]
struct Infos {
    #[serde(rename = "Plugins", default)]
    plugins: Value,
    #[serde(rename = "Runtimes", default)]
    runtimes: Value,
}

impl Host {
    /// Looks at everything that a restore could run into.
    ///
    /// # Errors
    /// One of the lists could not be had.
    pub async fn look(engine: &Engine, wanted: &Wanted) -> Result<Self, DockerError> {
        let (containers, all_volumes, networks, images, info) = tokio::join!(
            make::get(engine, "/containers/json?all=1"),
            make::get(engine, "/volumes"),
            make::get(engine, "/networks"),
            make::get(engine, "/images/json"),
            make::get(engine, "/info"),
        );
        let info: Infos = serde_json::from_value(info?).unwrap_or(Infos { plugins: Value::Null, runtimes: Value::Null });
        let mut host = Self {
            identity: engine.identity().clone(),
            api: engine.api_version(),
            containers: containers?.as_array().into_iter().flatten().map(container).collect(),
            volume_drivers: texts(&info.plugins, "/Volume").map(str::to_owned).collect(),
            network_drivers: texts(&info.plugins, "/Network").map(str::to_owned).collect(),
            log_drivers: texts(&info.plugins, "/Log").map(str::to_owned).collect(),
            runtimes: info.runtimes.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect(),
            images: images?.as_array().into_iter().flatten().map(image).collect(),
            ..Self::default()
        };
        for network in networks?.as_array().into_iter().flatten() {
            if let Some(name) = text(network, "/Name") {
                host.networks.insert(name.to_owned(), network.clone());
            }
        }
        // A running container's address is in the list only where it was asked for; the networks know them all.
        for name in host.networks.keys().filter(|name| !is_predefined_network(name)).cloned().collect::<Vec<_>>() {
            let path = format!("/networks/{}", encode(&name));
            match make::get(engine, &path).await {
                Ok(network) => drop(host.networks.insert(name, network)),
                Err(error) if error.is_not_found() => drop(host.networks.remove(&name)),
                Err(error) => return Err(error),
            }
        }
        if wanted.in_place {
            host.find_fixed(engine).await?;
        }
        for volume in array(&all_volumes?, "/Volumes") {
            let Some(name) = text(volume, "/Name") else { continue };
            let option = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
            let driver = text(volume, "/Driver").unwrap_or_default().to_owned();
            let options = object(volume, "/Options").into_iter().flatten().filter_map(option).collect();
            let empty = if wanted.volumes.contains(name) { is_empty(engine, name).await } else { None };
            let mountpoint = text(volume, "/Mountpoint").unwrap_or_default().to_owned();
            // Where a volume's files are seen, what is in it is, too.
            for (_, below) in wanted.inside.iter().filter(|(volume, _)| volume == name && empty.is_some()) {
                let path = format!("{mountpoint}{below}");
                host.obstacles.extend(on_the_way(&mountpoint, below).map(|obstacle| (path.clone(), obstacle)));
                host.binds.extend(path_state(&path).map(|state| (path, state)));
            }
            host.volumes.insert(name.to_owned(), HostVolume { driver, options, project: project(volume), mountpoint, empty });
        }
        host.listening = ports::listening(engine).await;
        if mountpoint::same_root(engine).await {
            let all = [&wanted.paths, &wanted.binds, &wanted.folders, &wanted.mount_points].into_iter().flatten().cloned();
            host.silent = Links::silent(engine, all.collect()).await;
            let answers = |path: &&String| !host.silent.contains(*path);
            let missing =
                |path: &&String| matches!(rustix::fs::stat(path.as_str()), Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR));
            host.missing_paths = wanted.paths.iter().filter(answers).filter(missing).cloned().collect();
            host.binds.extend(wanted.binds.iter().filter(answers).filter_map(|path| Some((path.clone(), path_state(path)?))));
            let below = wanted.below.iter().map(|(folder, below)| (format!("{folder}{below}"), folder, below));
            let below = below.filter(|(path, ..)| answers(&path));
            host.obstacles.extend(below.filter_map(|(path, folder, below)| Some((path, on_the_way(folder, below)?))));
            host.disk = disk(engine.data_root());
            let folders = wanted.binds.iter().chain(&wanted.folders).filter(answers);
            host.disks = folders.filter_map(|path| Some((path.clone(), disk(Path::new(path))?))).collect();
            host.unmounted = unmounted(wanted.mount_points.iter().filter(answers));
        }
        Ok(host)
    }

    /// The containers that run, and what they can write to.
    ///
    /// # Errors
    /// One of the lists could not be had.
    pub async fn running(engine: &Engine) -> Result<Self, DockerError> {
        let containers = make::get(engine, "/containers/json").await?;
        let mut host = Self { containers: containers.as_array().into_iter().flatten().map(container).collect(), ..Self::default() };
        host.find_fixed(engine).await?;
        Ok(host)
    }

    /// Finds out which of the containers that run cannot be stopped and put back, and what they can write to.
    async fn find_fixed(&mut self, engine: &Engine) -> Result<(), DockerError> {
        let discovery = discover(engine).await?;
        let mut ours = ourselves(engine, &discovery, &clues()).await;
        let known: BTreeMap<&str, &Container> = discovery.containers().map(|one| (one.id.as_str(), one)).collect();
        for one in &mut self.containers {
            let why = || known.get(one.id.as_str()).and_then(|container| why_fixed(container)).map(str::to_owned);
            let ours = ours.remove(&one.id);
            let wanted = discovery.policy(&one.name).and_then(|policy| policy.consistency);
            one.left_running = ours.is_some() || wanted == Some(Consistency::None);
            one.fixed = ours.or_else(why).filter(|_| one.is_alive());
            let Some(container) = known.get(one.id.as_str()) else { continue };
            one.mounts = container.mounts.clone();
            one.restart = Some(container.restart_policy.clone()).filter(|policy| matches!(policy.name.as_str(), "always" | "on-failure"));
            let hosts = container.depends_on.iter().filter(|needed| needed.reason == DependencyReason::Namespace);
            one.guest_of = hosts.map(|needed| needed.container.clone()).collect();
        }
        self.grounds = Grounds::of(discovery.volumes()).with_links(discovery.links().clone());
        Ok(())
    }

    /// What is of a compose project: the kind and name of each.
    pub fn of_project(&self, name: &str) -> Vec<(&'static str, &str)> {
        let is_of = |project: Option<&str>| project == Some(name);
        let containers = self.containers.iter().filter(|one| is_of(one.project.as_deref())).map(|one| ("container", one.name.as_str()));
        let volumes = self.volumes.iter().filter(|(_, one)| is_of(one.project.as_deref())).map(|(name, _)| ("volume", name.as_str()));
        let networks = self.networks.iter().filter(|(_, one)| is_of(project(one).as_deref())).map(|(name, _)| ("network", name.as_str()));
        containers.chain(volumes).chain(networks).collect()
    }

    /// The container of that name.
    pub fn container(&self, name: &str) -> Option<&HostContainer> {
        self.containers.iter().find(|container| container.name == name)
    }
}

/// Why a container cannot be stopped and started again, by what it is.
fn why_fixed(container: &Container) -> Option<&'static str> {
    if container.auto_remove {
        Some("it was started with --rm, and stopping it would remove it")
    } else if container.swarm_task {
        Some("it is a swarm task, which its service would replace")
    } else {
        None
    }
}

async fn is_empty(engine: &Engine, name: &str) -> Option<bool> {
    let volume = inspect_volume(engine.wire(), name).await.ok()?;
    let path = mountpoint::agreed(engine, &volume).await.ok()?;
    let first = std::fs::read_dir(path).ok()?.next();
    match first {
        None => Some(true),
        Some(Ok(_)) => Some(false),
        Some(Err(_)) => None,
    }
}

/// The disk on which a path lies, or would be made.
fn disk(path: &Path) -> Option<Disk> {
    let there = path.ancestors().find(|path| path.exists())?;
    let (stat, room) = (rustix::fs::stat(there).ok()?, rustix::fs::statvfs(there).ok()?);
    Some(Disk { device: stat.st_dev, free: room.f_bavail.saturating_mul(room.f_frsize) })
}

/// Those of some mount points at which nothing is mounted.
fn unmounted<'a>(wanted: impl Iterator<Item = &'a String>) -> BTreeMap<String, PathState> {
    let Ok(mounted) = mounts::points() else { return BTreeMap::new() };
    let missing = wanted.filter(|point| !mounted.iter().any(|mounted| mounted == Path::new(point)));
    missing.filter_map(|point| Some((point.clone(), path_state(point)?))).collect()
}

fn path_state(path: &str) -> Option<PathState> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => Some(PathState::Holds),
        Ok(_) => match std::fs::read_dir(path).ok()?.next() {
            None => Some(PathState::Empty),
            Some(Ok(_)) => Some(PathState::Holds),
            Some(Err(_)) => None,
        },
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Some(PathState::Missing),
        Err(_) => None,
    }
}

/// The compose project that the labels of a container, volume or network name.
fn project(described: &Value) -> Option<String> {
    object(described, "/Labels")?.get(PROJECT_LABEL)?.as_str().map(str::to_owned)
}

fn container(line: &Value) -> HostContainer {
    let mut addresses = Vec::new();
    for (network, endpoint) in object(line, "/NetworkSettings/Networks").into_iter().flatten() {
        let fields = ["/IPAMConfig/IPv4Address", "/IPAMConfig/IPv6Address", "/IPAddress", "/GlobalIPv6Address"];
        addresses.extend(fields.iter().filter_map(|field| text(endpoint, field)?.parse().ok()).map(|address| (network.clone(), address)));
    }
    HostContainer {
        id: text(line, "/Id").unwrap_or_default().to_owned(),
        // A container has one name with one slash; names with more are those by which others link to it.
        name: texts(line, "/Names")
            .map(|name| name.trim_start_matches('/'))
            .find(|name| !name.contains('/'))
            .unwrap_or_default()
            .to_owned(),
        project: project(line),
        status: text(line, "/State").unwrap_or_default().to_owned(),
        ports: array(line, "/Ports").iter().filter_map(HostPort::from_list).collect(),
        addresses,
        volumes: array(line, "/Mounts")
            .iter()
            .filter(|mount| text(mount, "/Type") == Some("volume"))
            .filter_map(mounted_volume)
            .map(str::to_owned)
            .collect(),
        network_of: text(line, "/HostConfig/NetworkMode").and_then(|mode| mode.strip_prefix("container:")).map(str::to_owned),
        ..HostContainer::default()
    }
}

fn image(line: &Value) -> HostImage {
    let names = |pointer| texts(line, pointer).filter(|name| !name.contains("<none>")).map(str::to_owned).collect();
    HostImage { id: text(line, "/Id").unwrap_or_default().to_owned(), tags: names("/RepoTags"), digests: names("/RepoDigests") }
}
