//! What is on a Docker host, in bbackup's words: applications with their containers, volumes and networks; and, in `document`,
//! `application.json`, which every snapshot of an application carries.
//!
//! Where this comes from is `docker/discover`'s business. Environment variables are not here on purpose: they hold secrets
//! and live only in the raw inspect JSON.

mod document;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

pub use self::document::{ApplicationDocument, Consistency, DOCUMENT_VERSION, DocumentError, ItemKind, ItemRecord, LeftOut, QuiesceRecord};

/// Name of the document in the application's folder.
pub const DOCUMENT_NAME: &str = "application.json";
/// Folder of a snapshot that holds the application's folder.
pub const DOCKER_ROOT: &str = "/docker";

/// What makes an application one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationKind {
    /// A compose project.
    Project,
    /// A container outside any project.
    Container,
    /// A volume that no container uses.
    Volume,
    /// A network that no container joins and no project owns.
    Network,
}

/// The unit that is quiesced, saved and restored together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Name, unique on its Engine: the project's, container's or volume's, with its kind appended where two would collide.
    pub name: String,
    /// What makes it one.
    pub kind: ApplicationKind,
    /// What compose says of the project.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub compose: Option<Compose>,
    /// Its containers, sorted by name.
    pub containers: Vec<Container>,
    /// The volumes that are stored with it, sorted by name.
    pub volumes: Vec<Volume>,
    /// Volumes that its containers use and that are stored with another application, sorted by name.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub shared_volumes: Vec<SharedVolume>,
    /// Files and folders of the Engine's machine that its containers mount and that are stored with it, sorted by path.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub binds: Vec<Bind>,
    /// Files and folders that its containers mount and that are stored with another application, sorted by path.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub shared_binds: Vec<SharedBind>,
    /// The networks it owns or joins, sorted by name, default ones excepted. A network that several applications join is
    /// with each of them, so that each can be restored alone.
    pub networks: Vec<Network>,
}

impl Application {
    /// Its folder in a snapshot.
    pub fn root(&self) -> String {
        format!("{DOCKER_ROOT}/{}", segment(&self.name))
    }

    /// Where its document is in a snapshot.
    pub fn document_path(&self) -> String {
        format!("{}/{DOCUMENT_NAME}", self.root())
    }

    /// Where a container's configuration is in a snapshot.
    pub fn inspect_path(&self, container: &str) -> String {
        format!("{}/containers/{}/inspect.json", self.root(), segment(container))
    }

    /// Where a container's log lines are in a snapshot.
    pub fn logs_path(&self, container: &str) -> String {
        format!("{}/containers/{}/logs.jsonl", self.root(), segment(container))
    }

    /// Where a network's configuration is in a snapshot.
    pub fn network_path(&self, network: &str) -> String {
        format!("{}/networks/{}.json", self.root(), segment(network))
    }

    /// Where a volume's files are in a snapshot.
    pub fn volume_path(&self, volume: &str) -> String {
        format!("{}/volumes/{}", self.root(), segment(volume))
    }

    /// Where a bind mount's files are in a snapshot: below `binds` under the very path that they have on the machine.
    pub fn bind_path(&self, path: &str) -> String {
        format!("{}/binds{path}", self.root())
    }

    /// Where an image is in a snapshot.
    pub fn image_path(&self, image: &str) -> String {
        format!("{}/images/{}", self.root(), segment(image))
    }

    /// Where what a container wrote into its own layer is in a snapshot.
    pub fn layer_path(&self, container: &str) -> String {
        format!("{}/containers/{}/layer", self.root(), segment(container))
    }

    /// Where the compose files are in a snapshot.
    pub fn compose_path(&self) -> String {
        format!("{}/compose", self.root())
    }

    /// The container of that name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The volume of that name that is stored with this application.
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }
}

/// A name as one component of a path in a snapshot. Nearly every name is itself; bytes that a component cannot have, control
/// characters and `%` are percent-encoded, and so are the names `.` and `..`.
pub fn segment(name: &str) -> Cow<'_, str> {
    let bad = |byte: u8| byte.is_ascii_control() || matches!(byte, b'/' | b'%');
    let dots = matches!(name, "." | "..");
    if !dots && !name.is_empty() && !name.bytes().any(bad) {
        return Cow::Borrowed(name);
    }
    if name.is_empty() {
        return Cow::Borrowed("%");
    }
    let mut out = String::with_capacity(name.len() + 8);
    for c in name.chars() {
        match u8::try_from(c) {
            Ok(byte) if byte.is_ascii() && (bad(byte) || dots) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A volume that an application uses and another one stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedVolume {
    /// Name of the volume.
    pub name: String,
    /// Name of the application that stores it.
    pub stored_with: String,
}

/// A file or folder of the Engine's machine that containers mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Its absolute path there, clean.
    pub path: String,
    /// The containers that mount it, something in it or a folder that it lies in, of all applications, sorted by name.
    pub users: Vec<VolumeUser>,
}

/// A bind mount that an application uses and another one stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedBind {
    /// Its path.
    pub path: String,
    /// Name of the application that stores it.
    pub stored_with: String,
}

/// What compose's labels say of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Compose {
    /// Name of the project.
    pub project: String,
    /// Folder it was started in, on the Engine's machine or on that of whoever started it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub working_dir: Option<String>,
    /// Its files, in the order in which they override each other.
    pub config_files: Vec<String>,
    /// Files with environment variables that were named on the command line.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub environment_files: Vec<String>,
}

/// What a container was doing when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Made and never started.
    Created,
    /// Running.
    Running,
    /// Running and frozen.
    Paused,
    /// Ended and about to be started again by its restart policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Could not be removed.
    Dead,
    /// A word that this program does not know.
    #[serde(other)]
    Unknown,
}

impl Status {
    /// Reads the Engine's word.
    pub fn from_engine(word: &str) -> Self {
        match word {
            "created" => Self::Created,
            "running" => Self::Running,
            "paused" => Self::Paused,
            "restarting" => Self::Restarting,
            "removing" => Self::Removing,
            "exited" => Self::Exited,
            "dead" => Self::Dead,
            _ => Self::Unknown,
        }
    }

    /// Whether processes of it exist, frozen or not, or are about to.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }

    /// The Engine's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }
}

/// What a health check said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// There is no health check.
    None,
    /// It has not said anything yet.
    Starting,
    /// The last check was good.
    Healthy,
    /// Too many checks in a row were bad.
    Unhealthy,
    /// A word that this program does not know.
    #[serde(other)]
    Unknown,
}

impl Health {
    /// Reads the Engine's word; an empty one means that there is no health check.
    pub fn from_engine(word: &str) -> Self {
        match word {
            "" | "none" => Self::None,
            "starting" => Self::Starting,
            "healthy" => Self::Healthy,
            "unhealthy" => Self::Unhealthy,
            _ => Self::Unknown,
        }
    }
}

/// A container's state when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// What it was doing.
    pub status: Status,
    /// What its health check said.
    pub health: Health,
    /// Exit code of its last run; meaningless while it runs.
    pub exit_code: i64,
    /// When it was last started, as the Engine writes it; empty if never.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub started_at: String,
    /// When it last ended, as the Engine writes it; empty if never.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub finished_at: String,
}

/// The image of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Image {
    /// As the container names it (`postgres:16`).
    pub reference: String,
    /// Its id on this Engine (`sha256:…`).
    pub id: String,
    /// Names under which registries have exactly this image (`postgres@sha256:…`); empty for one that was built here.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub digests: Vec<String>,
    /// Whether the Engine still has it.
    pub present: bool,
}

/// The restart policy of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped`, `on-failure`.
    pub name: String,
    /// Limit of `on-failure`; zero for none.
    pub maximum_retries: i64,
}

/// What a container needs before it can start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Name of the other container.
    pub container: String,
    /// What must be true of it.
    pub condition: DependencyCondition,
    /// Where this is said.
    pub reason: DependencyReason,
    /// Whether this container is to be started again when the other one was (compose's `restart`).
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub restart: bool,
}

/// What must be true of a container before another one starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependencyCondition {
    /// It was started.
    Started,
    /// Its health check is good.
    Healthy,
    /// It ended with exit code zero.
    CompletedSuccessfully,
}

/// Where a dependency is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependencyReason {
    /// Compose's `depends_on`.
    DependsOn,
    /// A link.
    Link,
    /// `volumes_from`.
    VolumesFrom,
    /// A network, ipc or pid mode `container:…`.
    Namespace,
}

/// A container, running or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Id, 64 hexadecimal digits.
    pub id: String,
    /// Name without the leading slash.
    pub name: String,
    /// Compose's name of the service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
    /// Its image.
    pub image: Image,
    /// Its state when it was looked at.
    pub state: ContainerState,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What is mounted in it.
    pub mounts: Vec<Mount>,
    /// Names of the networks it joins, default ones included, sorted.
    pub networks: Vec<String>,
    /// The network mode as it was given (`bridge`, `host`, `container:…`, a network's name).
    pub network_mode: String,
    /// What it needs before it can start.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub depends_on: Vec<Dependency>,
    /// Whether the Engine removes it, and its anonymous volumes, when it ends: it must never be stopped.
    pub auto_remove: bool,
    /// What the Engine does when it ends.
    pub restart_policy: RestartPolicy,
    /// Whether swarm runs it: it must never be stopped, the orchestrator would replace it.
    pub swarm_task: bool,
    /// Whether it has a terminal; then its log has one stream only.
    pub tty: bool,
    /// Name of its log driver.
    pub log_driver: String,
    /// The signal that asks it to stop; none for the Engine's default.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stop_signal: Option<String>,
    /// How long it is given to stop, in seconds; none for the Engine's default.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stop_timeout_secs: Option<i64>,
}

impl Container {
    /// Names of the volumes that it mounts.
    pub fn volume_names(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().filter_map(|mount| match mount.kind {
            MountKind::Volume => mount.name.as_deref(),
            _ => None,
        })
    }

    /// The first twelve digits of its id, as people know it.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// What kind a mount is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A volume.
    Volume,
    /// A file or folder of the Engine's machine.
    Bind,
    /// Memory.
    Tmpfs,
    /// An image.
    Image,
    /// A cluster volume.
    Cluster,
    /// A Windows named pipe.
    Npipe,
    /// A word that this program does not know.
    #[serde(other)]
    Unknown,
}

impl MountKind {
    /// Reads the Engine's word.
    pub fn from_engine(word: &str) -> Self {
        match word {
            "volume" => Self::Volume,
            "bind" => Self::Bind,
            "tmpfs" => Self::Tmpfs,
            "image" => Self::Image,
            "cluster" => Self::Cluster,
            "npipe" => Self::Npipe,
            _ => Self::Unknown,
        }
    }
}

/// Something mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What kind it is of.
    pub kind: MountKind,
    /// Name of the volume; none for other kinds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Path on the Engine's machine; empty for kinds that have none.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Whether the container cannot write to it.
    pub read_only: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Name.
    pub name: String,
    /// Driver (`local`).
    pub driver: String,
    /// Driver options (`type`, `device`, `o` for the local driver).
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub labels: BTreeMap<String, String>,
    /// Where the Engine has it, on the Engine's machine; empty where the driver does not say.
    pub mountpoint: String,
    /// `local` or `global`.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub scope: String,
    /// When it was made, as the Engine writes it; empty where unknown.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub created_at: String,
    /// The containers that mount it, of all applications, sorted by name.
    pub users: Vec<VolumeUser>,
    /// Those that reach its files in another way, sorted by name: by a bind mount of its folder or of what it stands for, by
    /// another volume that stands for the same.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reached_by: Vec<VolumeUser>,
}

impl Volume {
    /// Whether a container may write to it.
    pub fn has_writers(&self) -> bool {
        self.everybody().any(|user| !user.read_only)
    }

    /// The containers that mount it or reach its files in another way.
    pub fn everybody(&self) -> impl Iterator<Item = &VolumeUser> {
        self.users.iter().chain(&self.reached_by)
    }

    /// Whether it lies in memory, so that it loses everything once no container that uses it runs: its users are paused,
    /// never stopped.
    pub fn is_volatile(&self) -> bool {
        self.options.get("type").is_some_and(|kind| kind == "tmpfs" || kind == "ramfs")
    }

    /// The folder of the machine that a volume with the option `bind` stands for.
    pub fn bound_folder(&self) -> Option<&str> {
        let option = |name: &str| self.options.get(name).map(String::as_str);
        let binds = option("o")?.split(',').any(|word| matches!(word.trim(), "bind" | "rbind"));
        (self.driver == "local" && binds).then(|| option("device")).flatten().filter(|device| device.starts_with('/'))
    }

    /// Whether the Engine made up its name (64 hexadecimal digits).
    pub fn is_anonymous(&self) -> bool {
        self.name.len() == 64 && self.name.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

/// A container that mounts a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeUser {
    /// Name of the container.
    pub container: String,
    /// Name of its application.
    pub application: String,
    /// Whether it cannot write.
    pub read_only: bool,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Driver (`bridge`, `macvlan`, `overlay`).
    pub driver: String,
    /// `local`, `swarm` or `global`.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub scope: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub labels: BTreeMap<String, String>,
    /// Subnets in CIDR form.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub subnets: Vec<String>,
    /// Names of the containers that join it, running or not, sorted.
    pub containers: Vec<String>,
}

/// Which Engine an application was read from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EngineIdentity {
    /// The Engine's own id.
    pub id: String,
    /// Host name of its machine.
    pub name: String,
    /// Version (`20.10.24`).
    pub version: String,
    /// API version that was spoken (`1.41`).
    pub api_version: String,
    /// Operating system and architecture (`linux/amd64`).
    pub platform: String,
    /// The user and group of the host that root of a container is (`100000.100000`), where the Engine maps ids (`userns-remap`): volumes
    /// are saved with the ids of the host. None where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_namespace: Option<String>,
    /// Whether containerd keeps its images: then those that were only built have digests too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub containerd_images: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_component() {
        for (name, expected) in [
            ("shop_db-1.x", "shop_db-1.x"),
            ("grün", "grün"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("...", "..."),
            ("a/../b", "a%2F..%2Fb"),
            ("100%", "100%25"),
            ("a\nb", "a%0Ab"),
            ("", "%"),
        ] {
            assert_eq!(segment(name), expected);
        }
    }

    #[test]
    fn words_of_later_versions_are_unknown_and_not_errors() {
        assert_eq!(serde_json::from_str::<Status>("\"hibernating\"").ok(), Some(Status::Unknown));
        assert_eq!(serde_json::from_str::<MountKind>("\"cloud\"").ok(), Some(MountKind::Unknown));
    }
}
