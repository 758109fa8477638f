//! The plan of a restore: every step in its order, and every conflict with what is there, before anything is done.
//!
//! Pure. What is there is looked at by `preflight`; the steps are taken by `network`, `volume` and `container`.

mod binds;
mod build;
mod checks;
mod choose;
mod disks;
mod engines;
mod half;
mod images;
mod in_place;
mod naming;
mod projects;
#[cfg(test)]
mod tests;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::docker::create::{ContainerBody, CreateError, NetworkBody};
use crate::model::application::{ApplicationDocument, DocumentError, ItemKind, ItemRecord, RestartPolicy};
use crate::model::size::ByteSize;
use crate::model::text::printable;
use crate::targets::preflight::Wanted;

pub use self::build::plan;
pub use self::in_place::Target;
pub use self::volumes::place_of;

/// What a plan for these applications will want to know of the Engine.
pub fn wanted(applications: &[StoredApplication], options: &RestoreOptions) -> Wanted {
    let volumes = applications.iter().flat_map(|stored| &stored.document.application.volumes).map(|volume| volume.name.clone());
    // A renamed volume meets whatever has the new name.
    let renamed = options.renames.iter().map(|(_, to)| to.clone());
    Wanted {
        volumes: volumes.chain(renamed).collect(),
        paths: checks::host_paths(applications),
        binds: binds::stored(applications, &options.items).into_iter().chain(disks::folders(applications)).collect(),
        folders: disks::folders(applications),
        below: options
            .items
            .parts
            .iter()
            .filter(|part| part.volume.is_none())
            .filter_map(|part| Some((part.root.clone(), part.below()?)))
            .collect(),
        inside: options.items.parts.iter().filter_map(|part| Some((part.volume.clone()?, part.path.clone()))).collect(),
        mount_points: disks::mount_points(applications),
        in_place: options.in_place,
    }
}

/// One application as its snapshot has it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredApplication {
    /// `application.json`.
    pub document: ApplicationDocument,
    /// What inspect said of its containers, by name.
    pub containers: BTreeMap<String, Value>,
    /// What inspect said of its networks, by name.
    pub networks: BTreeMap<String, Value>,
}

impl StoredApplication {
    /// Reads the documents of a snapshot. `containers` and `networks` are the bytes of the files by the names of what they
    /// describe; those that are not given were not saved.
    ///
    /// # Errors
    /// One of them is not what it should be.
    pub fn parse(
        document: &[u8],
        containers: impl IntoIterator<Item = (String, Vec<u8>)>,
        networks: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Self, PlanError> {
        let read = |kind: &'static str, (name, bytes): (String, Vec<u8>)| match serde_json::from_slice::<Value>(&bytes) {
            Ok(value) if value.is_object() => Ok((name, value)),
            Ok(_) => Err(PlanError::NotAnObject { kind, name: printable(name.as_bytes()) }),
            Err(source) => Err(PlanError::Malformed { kind, name: printable(name.as_bytes()), source }),
        };
        Ok(Self {
            document: ApplicationDocument::from_json(document)?,
            containers: containers.into_iter().map(|file| read("container", file)).collect::<Result<_, _>>()?,
            networks: networks.into_iter().map(|file| read("network", file)).collect::<Result<_, _>>()?,
        })
    }

    /// The volume, bind mount or compose file of which the files at a path of the snapshot are.
    pub fn item_at(&self, path: &str) -> Option<&ItemRecord> {
        let is_it = |item: &&ItemRecord| {
            matches!(item.kind, ItemKind::Volume | ItemKind::Bind | ItemKind::Compose) && Path::new(path).starts_with(&item.path)
        };
        self.document.items.iter().filter(is_it).max_by_key(|item| item.path.len())
    }
}

/// Which items are restored. Nothing named means everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Items {
    /// Names of containers, as they are in the snapshot. What they need comes with them unless it is there.
    pub containers: Vec<String>,
    /// Names of volumes.
    pub volumes: Vec<String>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Files and folders of the machine that are restored alone, none of them in another one.
    pub parts: Vec<Part>,
}

impl Items {
    /// Whether nothing was named.
    pub fn is_everything(&self) -> bool {
        self.containers.is_empty() && self.volumes.is_empty() && self.networks.is_empty() && self.parts.is_empty()
    }
}

/// A bind mount or compose file that is restored alone, or something in it or in a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Name of its application.
    pub application: String,
    /// The volume that it is in.
    pub volume: Option<String>,
    /// Its path on the Engine's machine; in a volume that below its folder (`/conf/app.ini`).
    pub path: String,
    /// The path of the item that it is, or lies in; in a volume nothing.
    pub root: String,
    /// Where its files are in the snapshot.
    pub from: String,
    /// How many bytes of files it has there.
    pub bytes: u64,
}

impl Part {
    /// Its path below its item.
    fn below(&self) -> Option<String> {
        self.path.strip_prefix(&self.root).map(str::to_owned)
    }
}

/// How a restore is done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreOptions {
    /// Which items.
    pub items: Items,
    /// Old names (of containers, volumes, networks or compose projects) and new ones; host ports (`8080`, `53/udp`) too.
    pub renames: Vec<(String, String)>,
    /// Give what is in the way a free name, port or address instead of reporting a conflict.
    pub as_new: bool,
    /// Leave the containers stopped.
    pub no_start: bool,
    /// Put things in the place of what is there: containers are replaced, volumes and bind mounts overwritten.
    pub in_place: bool,
    /// Save what is overwritten first.
    pub save_first: bool,
    /// Ids of containers that a restore which died has left stopped: they count as running.
    pub held_down: BTreeSet<String>,
    /// Ids of containers that a backup keeps still just now, and will start.
    pub kept_still: BTreeSet<String>,
    /// Ids of containers that a backup which died has left down, and that are brought back just now.
    pub brought_back: BTreeSet<String>,
    /// Volumes and paths that a restore which died has left half restored: nobody is started on those that stay so.
    pub half: BTreeSet<String>,
    /// Those of them where nothing was before, so that all that is there is from that restore, and that it filled from the same snapshot.
    pub half_filled: BTreeSet<String>,
    /// Those that it filled from another one, with that (` 1234abcd`).
    pub half_of_others: BTreeMap<String, String>,
}

/// Everything that a restore does, in its order, and what stands in its way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestorePlan {
    /// The steps.
    pub steps: Vec<PlannedStep>,
    /// What stands in the way, all of it. With any, nothing is done.
    pub conflicts: Vec<Conflict>,
    /// What will not be quite as it was, one sentence each.
    pub notes: Vec<String>,
    /// What differs because somebody asked for it, one sentence each.
    pub asked: Vec<String>,
    /// The volumes, what they stand for, and the paths that are restored, that each restored container uses.
    #[serde(skip)]
    pub uses: BTreeMap<String, BTreeSet<String>>,
    /// What is overwritten in place, or may be.
    #[serde(skip)]
    pub targets: Vec<Target>,
    /// The folders of volumes that are there and are filled, or something in them.
    #[serde(skip)]
    pub folders: BTreeMap<String, String>,
    /// By the path of what is restored alone: the folder of its item, below which no link is followed.
    #[serde(skip)]
    pub roots: BTreeMap<String, String>,
}

impl RestorePlan {
    /// Whether all of a place is written where another one is filled.
    pub fn is_written(&self, place: &str, filled: &str) -> bool {
        is_in(place, filled) || self.folders.get(filled).is_some_and(|folder| is_in(place, folder))
    }
}

/// One step and the application it is for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedStep {
    /// Name of the application in the snapshot.
    pub application: String,
    /// What is done.
    #[serde(flatten)]
    pub step: Step,
}

/// One step of a restore.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Have the Engine pull an image.
    PullImage {
        /// Its name or digest.
        reference: String,
        /// The name that it then gets, so that it is called as it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        tag: Option<String>,
        /// Digests of the same image elsewhere, for when that one is gone.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        others: Vec<String>,
    },
    /// Have the Engine load an image that was saved.
    LoadImage {
        /// Its name.
        reference: String,
        /// Its id, which gets that name.
        id: String,
        /// Where it is in the snapshot.
        from: String,
        /// How many bytes of files it has there.
        bytes: u64,
        /// Whether it gets no name, as another image has it; its container is then made by the id.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        nameless: bool,
    },
    /// Use a network that is there and equal.
    UseNetwork {
        /// Its name.
        name: String,
    },
    /// Make a network.
    CreateNetwork {
        /// How.
        #[serde(serialize_with = "network_name", rename = "name")]
        network: NetworkBody,
    },
    /// Use a volume that is there, as it is.
    UseVolume {
        /// Its name.
        name: String,
    },
    /// Make a volume.
    CreateVolume {
        /// Its name.
        name: String,
        /// Body of the call.
        #[serde(skip)]
        body: Value,
    },
    /// Write a volume's files.
    FillVolume {
        /// Its name on the Engine.
        name: String,
        /// Where its files are in the snapshot.
        path: String,
        /// How many bytes of files were read when it was saved.
        bytes: u64,
        /// Whether what is in it and not in the snapshot is removed.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        replace: bool,
        /// The folder, or whatever else it stands for and that has its files, whatever becomes of the volume.
        #[serde(skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// Whether there may be files, which are overwritten; those that are not in the snapshot stay.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        over: bool,
    },
    /// Write the files of a bind mount, or something else that is restored alone.
    FillPath {
        /// Its path on the Engine's machine.
        path: String,
        /// Where its files are in the snapshot.
        from: String,
        /// How many bytes of files were read when it was saved.
        bytes: u64,
        /// Whether there may be something that is overwritten.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        overwrites: bool,
        /// The volume that it lies in, which is saved as a whole before, and its path below the volume's folder.
        #[serde(skip_serializing_if = "Option::is_none")]
        inside: Option<(String, String)>,
    },
    /// Stop a container that is replaced, or whose volume is overwritten.
    StopContainer {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
        /// Whether it was frozen, and is again when it is put back.
        paused: bool,
        /// The volumes and paths that are overwritten and that it uses, for whatever application.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        volumes: Vec<String>,
        /// The policy by which the Engine would start it again by itself; it has none while it has to stay down.
        #[serde(skip_serializing_if = "Option::is_none")]
        restart: Option<RestartPolicy>,
    },
    /// Save what will be overwritten.
    SaveFirst {
        /// Names of containers.
        containers: Vec<String>,
        /// Names of volumes.
        volumes: Vec<String>,
        /// Paths of the machine.
        paths: Vec<String>,
    },
    /// Give a container that is replaced another name.
    SetAside {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
        /// The other name.
        aside: String,
    },
    /// Remove a container that was replaced.
    RemoveAside {
        /// The name that it was given.
        name: String,
        /// Its id.
        id: String,
    },
    /// Start a container again that was stopped because its volume was overwritten.
    StartAgain {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
        /// Whether it was frozen.
        paused: bool,
    },
    /// Make a container.
    CreateContainer {
        /// How.
        #[serde(serialize_with = "container_name", rename = "name")]
        container: Box<ContainerBody>,
    },
    /// Write what a container had in its own layer, before it is started.
    FillLayer {
        /// Its name.
        name: String,
        /// Where its files are in the snapshot.
        from: String,
        /// How many bytes of files were read when it was saved.
        bytes: u64,
    },
    /// Start a container.
    StartContainer {
        /// Its name.
        name: String,
    },
    /// Wait until a container is healthy; one that does not become so is a warning.
    WaitHealthy {
        /// Its name.
        name: String,
    },
    /// Freeze a container, as it was frozen.
    PauseContainer {
        /// Its name.
        name: String,
    },
}

/// Whether a place, as [`Step::fills`] has it, is a path or what else a volume stands for; names of volumes have no slash.
pub fn is_path(place: &str) -> bool {
    place.contains('/')
}

/// Whether one place is, or lies in, another one.
pub fn is_in(place: &str, other: &str) -> bool {
    place == other || is_path(place) && is_path(other) && Path::new(place).starts_with(other)
}

impl Step {
    /// The place that the step fills, and whether it overwrites what may be there: a volume, or, with a slash, a path or whatever else a
    /// volume stands for.
    pub fn fills(&self) -> Option<(&str, bool)> {
        match self {
            Self::FillVolume { name, device, replace, over, .. } => Some((device.as_ref().unwrap_or(name), *replace || *over)),
            Self::FillPath { path, overwrites, .. } => Some((path, *overwrites)),
            _ => None,
        }
    }
}

fn network_name<S: serde::Serializer>(network: &NetworkBody, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&network.name)
}

/// The body holds environment variables, so only the name is shown.
fn container_name<S: serde::Serializer>(container: &ContainerBody, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&container.name)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &str| printable(name.as_bytes());
        match self {
            Self::PullImage { reference, .. } => write!(f, "pull image {}", shown(reference)),
            Self::LoadImage { reference, bytes, .. } => write!(f, "load image {} ({})", shown(reference), ByteSize(*bytes)),
            Self::UseNetwork { name } => write!(f, "use network {}, which is there and equal", shown(name)),
            Self::CreateNetwork { network } => write!(f, "create network {}", shown(&network.name)),
            Self::UseVolume { name } => write!(f, "use volume {} as it is", shown(name)),
            Self::CreateVolume { name, .. } => write!(f, "create volume {}", shown(name)),
            Self::FillVolume { name, bytes, .. } => write!(f, "restore the files of volume {} ({})", shown(name), ByteSize(*bytes)),
            Self::FillPath { path, bytes, .. } => write!(f, "restore {} ({})", shown(path), ByteSize(*bytes)),
            Self::StopContainer { name, .. } => write!(f, "stop container {}", shown(name)),
            Self::SaveFirst { .. } => f.write_str("save what will be overwritten"),
            Self::SetAside { name, aside, .. } => write!(f, "rename container {} to {}", shown(name), shown(aside)),
            Self::RemoveAside { name, .. } => write!(f, "remove container {}, which was replaced", shown(name)),
            Self::StartAgain { name, .. } => write!(f, "start container {} again", shown(name)),
            Self::CreateContainer { container } => write!(f, "create container {}", shown(&container.name)),
            Self::FillLayer { name, bytes, .. } => {
                write!(f, "restore what container {} wrote into its own layer ({})", shown(name), ByteSize(*bytes))
            }
            Self::StartContainer { name } => write!(f, "start container {}", shown(name)),
            Self::WaitHealthy { name } => write!(f, "wait until container {} is healthy", shown(name)),
            Self::PauseContainer { name } => write!(f, "pause container {}", shown(name)),
        }
    }
}

/// Something that stands in the way of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "conflict", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Conflict {
    /// A container of that name is there, or two of the restored ones would have it.
    ContainerExists {
        /// The name.
        name: String,
        /// What it does (`running`), or that it is restored twice.
        status: String,
    },
    /// A backup keeps a container still that is replaced, or can write to what is overwritten, and will start it.
    KeptStill {
        /// Its name.
        container: String,
    },
    /// A backup that died has left such a container down, and another start of bbackup just brings it back.
    BroughtBack {
        /// Its name.
        container: String,
    },
    /// A compose project cannot be called so.
    ProjectName {
        /// The new name.
        name: String,
        /// Why: `container web is of such a project already`.
        reason: String,
    },
    /// Two of what is restored would have one name.
    Twice {
        /// Which: `volume db`.
        what: String,
    },
    /// A volume of that name is there.
    VolumeExists {
        /// The name.
        name: String,
        /// What makes it a conflict: `it holds files`, `container web uses it`.
        reason: String,
    },
    /// A volume into which something is to be put back is not there.
    NoVolume {
        /// Its name.
        name: String,
    },
    /// There is something where the files of a bind mount, or of a compose file, go.
    PathExists {
        /// The path.
        path: String,
        /// What makes it a conflict: `it holds files`.
        reason: String,
    },
    /// A network of that name is there and differs.
    NetworkDiffers {
        /// The name.
        name: String,
        /// Names of the fields in which it does.
        fields: Vec<String>,
    },
    /// Addresses that the restored network must have belong to another one.
    SubnetTaken {
        /// The restored network.
        network: String,
        /// Its subnet.
        subnet: String,
        /// The network that is there.
        by: String,
    },
    /// A fixed address is in use.
    AddressTaken {
        /// The restored container.
        container: String,
        /// The network.
        network: String,
        /// The address.
        address: String,
        /// Who has it.
        by: String,
    },
    /// A host port is in use.
    PortTaken {
        /// The restored container.
        container: String,
        /// The port, as `127.0.0.1:8080/tcp`.
        port: String,
        /// Who has it.
        by: String,
    },
    /// The image is not there and cannot be pulled.
    ImageMissing {
        /// The restored container.
        container: String,
        /// Name of the image.
        image: String,
    },
    /// Something that a container needs is neither restored nor there.
    Missing {
        /// The restored container.
        container: String,
        /// What it needs: `volume db`, `network front`, `container vpn`.
        needs: String,
        /// For what, or where it can be had.
        reason: String,
    },
    /// The Engine lacks a plugin or runtime.
    Unsupported {
        /// What needs it: `volume db`, `container web`.
        what: String,
        /// What is lacking.
        lacks: String,
    },
    /// The Engine does not know something that was used.
    EngineTooOld {
        /// What uses it: `container web`, `network front`.
        what: String,
        /// What it is.
        uses: String,
        /// The API version that is needed.
        needs: String,
        /// The API version that is spoken.
        has: String,
    },
    /// A disk is too small.
    NoSpace {
        /// Which: `the Engine's disk`, `the disk of /srv/data`.
        disk: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Nothing is mounted where the files lay, so that they would be written to another disk.
    NotMounted {
        /// The mount point.
        path: String,
        /// What lay below it: `volume db`, `/mnt/disk/app`.
        what: String,
    },
    /// A file system does not answer.
    Silent {
        /// A path on it.
        path: String,
        /// What uses it: `container web`, `volume db`.
        what: String,
    },
    /// Something has no usable configuration in the snapshot.
    NotSaved {
        /// What: `container web`, `volume db`.
        what: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &str| printable(name.as_bytes());
        match self {
            Self::ContainerExists { name, status } => write!(f, "container {} exists already ({})", shown(name), shown(status)),
            Self::KeptStill { container } => {
                write!(f, "a backup keeps container {} still just now, and starts it when it has read what it needs", shown(container))
            }
            Self::BroughtBack { container } => {
                write!(
                    f,
                    "container {}, which a backup that died has left down, is brought back just now by another bbackup",
                    shown(container)
                )
            }
            Self::ProjectName { name, reason } => write!(f, "the compose project cannot be called `{}`: {}", shown(name), shown(reason)),
            Self::Twice { what } => write!(f, "two of what is restored would be {}", shown(what)),
            Self::VolumeExists { name, reason } => write!(f, "volume {} exists already: {}", shown(name), shown(reason)),
            Self::NoVolume { name } => write!(f, "volume {} is not there, so a part of it cannot be put back", shown(name)),
            Self::PathExists { path, reason } => write!(f, "{} cannot be restored: {}", shown(path), shown(reason)),
            Self::NetworkDiffers { name, fields } => {
                write!(f, "network {} exists already and differs in {}", shown(name), shown(&fields.join(", ")))
            }
            Self::SubnetTaken { network, subnet, by } => {
                write!(f, "network {} needs {}, which overlaps with network {}", shown(network), shown(subnet), shown(by))
            }
            Self::AddressTaken { container, network, address, by } => {
                write!(f, "container {} needs {} on network {}, which {} has", shown(container), shown(address), shown(network), shown(by))
            }
            Self::PortTaken { container, port, by } => {
                write!(f, "container {} needs port {}, which {} has", shown(container), shown(port), shown(by))
            }
            Self::ImageMissing { container, image } => {
                write!(
                    f,
                    "container {} needs image {}, which is not on this Engine and came from no registry",
                    shown(container),
                    shown(image)
                )
            }
            Self::Missing { container, needs, reason } => {
                write!(f, "container {} needs {}: {}", shown(container), shown(needs), shown(reason))
            }
            Self::Unsupported { what, lacks } => write!(f, "{} needs {}, which this Engine does not have", shown(what), shown(lacks)),
            Self::NoSpace { disk, needed, free } => {
                let (needed, free) = (ByteSize(*needed), ByteSize(*free));
                write!(f, "what is restored needs {needed} on {}, and only {free} are free", shown(disk))
            }
            Self::NotMounted { path, what } => {
                write!(f, "nothing is mounted at {}, below which {} lay when it was saved", shown(path), shown(what))
            }
            Self::EngineTooOld { what, uses, needs, has } => {
                write!(f, "{} uses {}, which needs an Engine with API {needs}; this one has {has}", shown(what), shown(uses))
            }
            Self::Silent { path, what } => write!(f, "{} needs {}, and the file system there does not answer", shown(what), shown(path)),
            Self::NotSaved { what, reason } => write!(f, "{} is not in the snapshot: {}", shown(what), shown(reason)),
        }
    }
}

/// Why a restore cannot even be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// `application.json` cannot be used.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A configuration is not JSON.
    #[error("the stored configuration of {kind} {name} cannot be understood")]
    Malformed {
        /// `container`, `network`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
    /// A configuration is JSON of another kind.
    #[error("the stored configuration of {kind} {name} is not a JSON object")]
    NotAnObject {
        /// `container`, `network`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A configuration lacks what nothing can be made without.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// An item was asked for that no snapshot has.
    #[error("there is no {kind} `{name}` in what is restored")]
    NoSuchItem {
        /// `container`, `volume`, `network`.
        kind: &'static str,
        /// As it was asked for.
        name: String,
        /// Names that are there.
        known: Vec<String>,
    },
    /// A rename of something that is not there.
    #[error("nothing that is restored is called `{name}`, so it cannot be renamed")]
    NothingToRename {
        /// The old name.
        name: String,
    },
    /// A new port that is none.
    #[error("`{port}` is no port that `{from}` can become: a port is a number from 1 to 65535, of the same protocol")]
    BadPort {
        /// The old port.
        from: String,
        /// The new one.
        port: String,
    },
    /// A new name that no Engine takes.
    #[error(
        "`{name}` cannot be the name of a container, volume or network: letters, digits, `_`, `.` and `-` can, the first a letter or digit"
    )]
    BadName {
        /// The new name.
        name: String,
    },
}

impl PlanError {
    /// Whether the same call may succeed later: never.
    pub fn is_transient(&self) -> bool {
        false
    }
}
