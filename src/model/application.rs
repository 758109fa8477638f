//! What is on a Docker host, in bbackup's words: applications with their containers, volumes and networks; and, in `document`,
//! `application.json`, which every snapshot of an application carries.
//!
//! Where this comes from is `docker/discover`'s business. Environment variables are not here on purpose: they hold secrets
//! and live only in the raw inspect JSON.

mod container;
mod document;
mod storage;

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

pub use self::container::{
    Container, ContainerState, Dependency, DependencyCondition, DependencyReason, Health, Image, RestartPolicy, Status, SwarmService,
};
pub use self::document::{
    ApplicationDocument, Consistency, DOCUMENT_VERSION, DocumentError, InnerMount, ItemKind, ItemRecord, LeftOut, QuiesceRecord, SwarmTasks,
};
pub use self::storage::{Mount, MountKind, Network, Volume, VolumeUser};

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
    /// A stack of swarm services.
    Stack,
    /// A swarm service outside any stack. Its tasks come and go; it stays.
    Service,
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
    /// The pools from which it takes subnets that nobody asked for, where somebody configured them (`default-address-pools`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address_pools: Vec<AddressPool>,
}

/// A range of addresses that an Engine cuts into subnets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPool {
    /// The whole of it (`10.77.0.0/16`).
    #[serde(alias = "Base")]
    pub base: String,
    /// Length of the prefix of each subnet (24).
    #[serde(alias = "Size")]
    pub size: u8,
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
