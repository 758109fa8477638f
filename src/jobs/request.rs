//! What a job is asked to do, as faces hand it over: checked words and lists, nothing of flags or screens.
//!
//! What a job answers is in `results`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{BackupSet, Config};
use crate::platform::directories::Directories;
use crate::repository::contract::{Repository, Snapshot};

/// What every job works with.
pub struct JobContext {
    /// The configuration, with what the environment and the command line say filled in.
    pub config: Arc<Config>,
    /// bbackup's own folders.
    pub directories: Directories,
    /// The opened repository. None only in a dry run of a backup whose repository the first real run would make.
    pub repository: Option<Arc<dyn Repository>>,
    /// The folder of a local repository, so that no backup sweeps it up.
    pub repository_path: PathBuf,
}

/// A backup of some sets into one repository, as one run.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// The sets, all of this repository. One without a name was put together on the command line.
    pub sets: Vec<BackupSet>,
    /// Tags of the user's own.
    pub tags: Vec<String>,
    /// Read every file again instead of comparing with a parent snapshot.
    pub full: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Count beside the work what is to come: somebody watches.
    pub estimate: bool,
    /// So many applications at once.
    pub parallel: usize,
    /// A restore is about to overwrite all of it: nothing is left out, whatever labels say, and it is saved in whatever state it is.
    pub before_restore: bool,
}

/// A restore out of some snapshots.
#[derive(Debug, Clone)]
pub struct RestoreJob {
    /// The snapshots, at most one of each application, as `select` chose them.
    pub snapshots: Vec<Snapshot>,
    /// Why they may not be the last state, one sentence each: then the restore ends with warnings.
    pub warnings: Vec<String>,
    /// What of them.
    pub selection: RestoreSelection,
    /// Write plain files below this folder instead of giving them to the Engine or to their own places.
    pub to: Option<PathBuf>,
    /// Other names for what is restored.
    pub renames: Vec<Rename>,
    /// What stands in the way: give everything a free name of its own instead of reporting a conflict.
    pub as_new: bool,
    /// Everything goes to where it was: containers are replaced, volumes and paths overwritten.
    pub in_place: bool,
    /// What is overwritten on the Engine is saved first.
    pub save_first: bool,
    /// Leave the restored containers stopped.
    pub no_start: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Which items of the snapshots are restored. Nothing named means everything in them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreSelection {
    /// Names of containers.
    pub containers: Vec<String>,
    /// Names of volumes.
    pub volumes: Vec<String>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Paths of files and folders: those of host paths, those that bind mounts and compose files of applications have on the host, or any below
    /// `/docker/…`.
    pub paths: Vec<Vec<u8>>,
}

impl RestoreSelection {
    /// Whether nothing was named, which means everything.
    pub fn is_everything(&self) -> bool {
        self.names_no_item() && self.paths.is_empty()
    }

    /// Whether nothing but paths was named.
    pub fn is_of_paths(&self) -> bool {
        self.names_no_item() && !self.paths.is_empty()
    }

    fn names_no_item(&self) -> bool {
        self.containers.is_empty() && self.volumes.is_empty() && self.networks.is_empty()
    }
}

/// A restored container, volume, network or project gets another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// Its name in the snapshot.
    pub from: String,
    /// Its name on the host.
    pub to: String,
}
