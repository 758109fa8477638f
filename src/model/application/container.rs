//! A container as it was looked at: its state, image, dependencies and health.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Mount, MountKind};

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
    /// What it is made for (`linux/arm64/v8`); empty where the Engine does not say it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub platform: String,
}

/// The restart policy of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped`, `on-failure`.
    pub name: String,
    /// Limit of `on-failure`; zero for none.
    pub maximum_retries: i64,
}

impl RestartPolicy {
    /// That of a container that only people start.
    pub fn never() -> Self {
        Self { name: "no".to_owned(), maximum_retries: 0 }
    }
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

/// The swarm service of which a container is a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwarmService<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl Container {
    /// The service of which it is a task.
    pub fn swarm_service(&self) -> Option<SwarmService<'_>> {
        let label = |key: &str| self.labels.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let id = label("com.docker.swarm.service.id").filter(|_| self.swarm_task)?;
        Some(SwarmService { id, name: label("com.docker.swarm.service.name").unwrap_or(id) })
    }

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
