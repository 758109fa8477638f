//! What containers use: mounts, volumes and networks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
    /// never stopped, and it is not saved.
    pub fn is_volatile(&self) -> bool {
        self.driver == "local" && self.options.get("type").is_some_and(|kind| kind == "tmpfs" || kind == "ramfs")
    }

    /// The folder of the machine that a volume with the option `bind` stands for.
    pub fn bound_folder(&self) -> Option<&str> {
        let option = |name: &str| self.options.get(name).map(String::as_str);
        let binds = option("o")?.split(',').any(|word| matches!(word.trim(), "bind" | "rbind"));
        (self.driver == "local" && binds).then(|| option("device")).flatten().filter(|device| device.starts_with('/')).map(bare)
    }

    /// Whether what is mounted in the folder that it stands for is part of it.
    pub fn binds_all(&self) -> bool {
        self.options.get("o").is_some_and(|words| words.split(',').any(|word| word.trim() == "rbind"))
    }

    /// What else has its files: a folder of the machine, a share, a disk. Not of one in memory.
    pub fn device(&self) -> Option<&str> {
        self.options.get("device").map(|device| bare(device)).filter(|_| self.driver == "local" && !self.is_volatile())
    }

    /// Whether the Engine made up its name (64 hexadecimal digits).
    pub fn is_anonymous(&self) -> bool {
        self.name.len() == 64 && self.name.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

/// A path without the slashes at its end.
fn bare(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => path,
        bare => bare,
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
