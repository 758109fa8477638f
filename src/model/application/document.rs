//! `application.json`: what a snapshot of an application says of itself: its items and how each of them ended, and what was done to
//! its containers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Application, DOCUMENT_NAME, EngineIdentity, Status};
use crate::model::hook::HookRecord;
use crate::model::outcome::ItemOutcome;

/// Version of `application.json` that this program writes. Readers refuse a higher one.
pub const DOCUMENT_VERSION: u32 = 1;

/// What one item of an application is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// A network's configuration.
    Network,
    /// A container's configuration.
    Configuration,
    /// A container's log lines.
    Logs,
    /// A volume's files.
    Volume,
    /// A file or folder of the Engine's machine that containers mount.
    Bind,
    /// An image.
    Image,
    /// What a container wrote into its own layer.
    Layer,
    /// A compose file or environment file.
    Compose,
    /// A dump of a database.
    Database,
    /// A file or folder of the host.
    HostPath,
}

impl ItemKind {
    /// The word for people (`volume`, `container`, `logs`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Configuration => "container",
            Self::Logs => "logs",
            Self::Volume => "volume",
            Self::Bind => "bind mount",
            Self::Image => "image",
            Self::Layer => "layer",
            Self::Compose => "compose files",
            Self::Database => "database",
            Self::HostPath => "path",
        }
    }
}

/// One item of a snapshot and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemRecord {
    /// What it is.
    pub kind: ItemKind,
    /// Name of the container, volume, network or file.
    pub name: String,
    /// Absolute path in the snapshot.
    pub path: String,
    /// How it ended.
    pub outcome: ItemOutcome,
    /// Why a volume was not read directly; none for what was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub helper_reason: Option<String>,
    /// The mount point of the machine that the files of a bind mount, or of a volume that stands for a folder, lay below; none
    /// where that was the root folder.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mounted_at: Option<String>,
    /// What was mounted inside of a volume or bind mount, as far as that is seen from here.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub mounted_inside: Vec<InnerMount>,
}

/// A mount point inside of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InnerMount {
    /// Its path on the machine.
    pub path: String,
    /// Whether what was in it is saved with the item; if not, the item has an empty folder there.
    pub saved: bool,
}

/// What labels or a backup set leave out of an application: it is no part of what is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeftOut {
    /// Names of containers.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub containers: Vec<String>,
    /// Names of volumes.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub volumes: Vec<String>,
}

impl LeftOut {
    fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.volumes.is_empty()
    }
}

/// What happens to running containers while their volumes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// They are stopped: what is read is what a clean end left.
    #[default]
    Stop,
    /// They are frozen: what is read is what a loss of power would leave.
    Pause,
    /// Nothing: files may change while they are read.
    None,
}

impl Consistency {
    /// The word of configuration and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::None => "none",
        }
    }
}

/// What is done to a task of a swarm where any other container would be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwarmTasks {
    /// It is frozen.
    #[default]
    Pause,
    /// Its service is scaled to 0, on all nodes, and back.
    Scale,
}

impl SwarmTasks {
    /// The word of configuration and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Scale => "scale",
        }
    }

    /// What a word of configuration or labels means.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Pause, Self::Scale].into_iter().find(|one| one.word() == word)
    }
}

/// What was done to one container for the time of the read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuiesceRecord {
    /// Name of the container, or of the service that was scaled to 0.
    pub container: String,
    /// Its status before.
    pub before: Status,
    /// What was done.
    pub action: Consistency,
    /// Seconds between the order to stop or freeze it and the moment it ran again.
    pub downtime_seconds: f64,
    /// Why something else was done than was asked for, or why it did not come back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// `application.json`: everything about one application's snapshot that is not a file of its own in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplicationDocument {
    /// Version of this format, [`DOCUMENT_VERSION`].
    pub format_version: u32,
    /// The program that wrote it (`bbackup 0.1.0`).
    pub program: String,
    /// The configured host name.
    pub host: String,
    /// The run, a ULID; the same in the snapshot's `run:` tag.
    pub run: String,
    /// When the application was looked at.
    pub time: Timestamp,
    /// The Engine it is of.
    pub engine: EngineIdentity,
    /// The application with its containers (and their states before), volumes, networks, mounts and images: all of it,
    /// whatever was saved of it.
    pub application: Application,
    /// Whether all of the application was chosen, not only some of its containers or volumes; what is left out for good does
    /// not count.
    pub whole: bool,
    /// What is left out for good.
    #[serde(skip_serializing_if = "LeftOut::is_empty", default)]
    pub left_out: LeftOut,
    /// What is in the snapshot, and how each part ended.
    pub items: Vec<ItemRecord>,
    /// Paths of its bind mounts that did not exist, which is as it should be: what mounts them was never started, and nothing was there when they
    /// were last saved, or `--full` has accepted that it is gone.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gone: Vec<String>,
    /// What was done to its containers.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub quiesced: Vec<QuiesceRecord>,
    /// The commands that ran inside its containers.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub hooks: Vec<HookRecord>,
    /// Seconds during which at least one of its containers did not run because of the backup.
    pub downtime_seconds: f64,
    /// What volumes that were read through the Engine's archive stream lost, one sentence each; empty when none was.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub stream_lost: Vec<String>,
    /// Everything else that somebody should know, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
}

impl ApplicationDocument {
    /// Whether every item is stored whole.
    pub fn is_complete(&self) -> bool {
        self.items.iter().all(|item| item.outcome.is_complete())
    }

    /// The item of that kind and name.
    pub fn item(&self, kind: ItemKind, name: &str) -> Option<&ItemRecord> {
        self.items.iter().find(|item| item.kind == kind && item.name == name)
    }

    /// Whether a volume is left out for good.
    pub fn leaves_out_volume(&self, name: &str) -> bool {
        self.left_out.volumes.iter().any(|left_out| left_out == name)
    }

    /// The document as it is stored.
    ///
    /// # Errors
    /// Never with what this program makes: all keys are strings.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a stored document.
    ///
    /// # Errors
    /// It is not one, or one of a later version.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(DocumentError::Malformed)?;
        if version.format_version > DOCUMENT_VERSION {
            return Err(DocumentError::TooNew { version: version.format_version });
        }
        serde_json::from_slice(bytes).map_err(DocumentError::Malformed)
    }
}

/// An `application.json` that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Written by a later version of bbackup.
    #[error("{DOCUMENT_NAME} has format version {version}, this program knows {DOCUMENT_VERSION}")]
    TooNew {
        /// Version found.
        version: u32,
    },
    /// No JSON, or not this document.
    #[error("{DOCUMENT_NAME} cannot be understood")]
    Malformed(#[source] serde_json::Error),
}

impl DocumentError {
    /// Whether reading it again may help: never.
    pub fn is_transient(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_later_versions_are_refused() {
        let later = br#"{"format_version": 2, "something": "else"}"#;
        assert!(matches!(ApplicationDocument::from_json(later), Err(DocumentError::TooNew { version: 2 })));
        assert!(matches!(ApplicationDocument::from_json(b"{}"), Err(DocumentError::Malformed(_))));
    }
}
