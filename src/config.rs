//! From YAML to a validated [`Config`], with every problem of a file at once, by line and column.
//!
//! It only says what is wanted: what exists on the host is `docker`'s and `sources`' business, what happens `jobs`'.
//! Other floors see the types of this file; how they are made is in the modules below:
//! `tree` (a file with its positions), `schema` (what may stand where), `raw` and `validate` (from text to types),
//! `load` (which file), `password` (where a password comes from).

pub mod compose_file;
pub mod duration;
pub mod import;
pub mod load;
pub mod password;
mod raw;
mod schema;
pub mod show;
pub mod suggest;
pub mod tree;
pub mod validate;

use std::path::PathBuf;
use std::time::Duration;

pub use crate::model::application::{Consistency, SwarmTasks};
pub use crate::model::compression::Compression;
use crate::model::hook::Hook;
pub use crate::model::retention::Retention;
use crate::model::size::ByteSize;
use password::PasswordSource;

/// A whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it is from; none for the embedded defaults.
    pub source: Option<PathBuf>,
    /// The host's name in snapshots of what is on the Engine.
    pub host: String,
    /// The host's name in snapshots of this machine's own folders: another one if the Engine is on another machine.
    pub machine: String,
    /// Whether the file says what the host is called.
    pub host_is_given: bool,
    /// How the Docker Engine is reached.
    pub docker: Docker,
    /// Further Engines in the order of the file.
    pub engines: Vec<EngineConfig>,
    /// Repositories in the order of the file.
    pub repositories: Vec<RepositoryConfig>,
    /// Backup sets in the order of the file.
    pub sets: Vec<BackupSet>,
}

impl Config {
    /// The repository of this name.
    pub fn repository(&self, name: &str) -> Option<&RepositoryConfig> {
        self.repositories.iter().find(|repository| repository.name.as_deref() == Some(name))
    }

    /// The repository that is meant when none is named: the only one, or the one called `default`.
    pub fn default_repository(&self) -> Option<&RepositoryConfig> {
        match self.repositories.as_slice() {
            [only] => Some(only),
            _ => self.repository("default"),
        }
    }

    /// The same for one of the further Engines: it takes the place of the Docker Engine, and its name that of the host. None
    /// or [`DEFAULT_ENGINE`] changes nothing; none comes back if there is no Engine of that name.
    pub fn for_engine(&self, name: Option<&str>) -> Option<Self> {
        let mut config = self.clone();
        if let Some(name) = name.filter(|name| *name != DEFAULT_ENGINE) {
            let engine = self.engines.iter().find(|engine| engine.name == name)?;
            config.docker = engine.docker.clone();
            config.host.clone_from(&engine.hostname);
        }
        Some(config)
    }

    /// The backup set of this name.
    pub fn set(&self, name: &str) -> Option<&BackupSet> {
        self.sets.iter().find(|set| set.name.as_deref() == Some(name))
    }
}

/// How the Docker Engine is reached and how patient we are with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Docker {
    /// `unix:///var/run/docker.sock`; none: the context, else the environment (`cli` fills it in), else the default socket.
    pub host: Option<String>,
    /// A context of the Docker client by its name.
    pub context: Option<String>,
    /// Whether `tcp` means TCP with TLS; none: if there is a `cert_path`, or the environment says so.
    pub tls_verify: Option<bool>,
    /// The folder of `ca.pem`, `cert.pem` and `key.pem`.
    pub cert_path: Option<PathBuf>,
    /// The Docker client's own folder; a file cannot say it.
    pub client_folder: Option<PathBuf>,
    /// How long an answer may take (not the body of an archive, which only may not stall).
    pub timeout: Duration,
    /// How long a container may take to stop before the Engine kills it; none: what the container itself says.
    pub stop_timeout: Option<Duration>,
    /// Whether a restore in place first saves what it overwrites.
    pub save_before_restore: bool,
    /// Whether what is read through a helper is streamed a second time, to compare.
    pub check_streams: bool,
    /// What is done to tasks of a swarm where other containers are stopped.
    pub swarm: SwarmTasks,
}

/// Default of [`Docker::timeout`].
pub const DOCKER_TIMEOUT: Duration = Duration::from_mins(2);

impl Default for Docker {
    fn default() -> Self {
        Self {
            host: None,
            context: None,
            tls_verify: None,
            cert_path: None,
            client_folder: None,
            timeout: DOCKER_TIMEOUT,
            stop_timeout: None,
            save_before_restore: true,
            check_streams: false,
            swarm: SwarmTasks::default(),
        }
    }
}

impl Docker {
    /// Whether it says itself where the Engine is.
    pub fn says_where(&self) -> bool {
        self.host.is_some() || self.context.is_some()
    }
}

/// The name by which sets and flags mean the Engine that `docker` itself describes.
pub const DEFAULT_ENGINE: &str = "default";

/// A further Engine. It is a host of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Its name in the configuration.
    pub name: String,
    /// The host's name in its snapshots.
    pub hostname: String,
    /// How it is reached.
    pub docker: Docker,
}

/// The engine that keeps a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// restic's format, written by bbackup itself.
    #[default]
    Restic,
}

/// One repository.
#[derive(Debug, Clone)]
pub struct RepositoryConfig {
    /// Its name in the configuration; none when it was given as a path.
    pub name: Option<String>,
    /// Who keeps it.
    pub engine: Engine,
    /// Its folder, absolute or relative to the working folder.
    pub location: PathBuf,
    /// Where its password comes from; none: to be asked for.
    pub password: Option<PasswordSource>,
    /// How new data is compressed; none: nothing says so.
    pub compression: Option<Compression>,
    /// How large packs grow, 4 MiB to 128 MiB; none: nothing says so.
    pub pack_size: Option<ByteSize>,
    /// Decode again what was compressed and encrypted, and compare, before it is written.
    pub verify_before_write: bool,
    /// Whether copies of what is read again and again are kept on this machine.
    pub cache: CacheUse,
    /// How large they may become.
    pub cache_size: ByteSize,
    /// Where they are; none: there are none.
    pub cache_folder: Option<PathBuf>,
    /// Where a backup puts what does not fit into memory; none: it stays there.
    pub scratch_folder: Option<PathBuf>,
    /// The embedded default repository: the first backup makes it, with a generated password.
    pub embedded: bool,
}

/// Whether a repository's snapshots, index files and folders are also kept on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheUse {
    /// If the repository is on another machine.
    #[default]
    Auto,
    /// Also for a folder of this machine: a slow disk, or a mount that does not look like a remote one.
    Always,
    /// Never.
    Never,
}

impl CacheUse {
    /// Its word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

/// Default of [`RepositoryConfig::cache_size`].
pub const CACHE_SIZE: ByteSize = ByteSize(2 << 30);

/// Default of [`RepositoryConfig::pack_size`], restic's too.
pub const PACK_SIZE: ByteSize = ByteSize(16 << 20);

impl RepositoryConfig {
    /// A repository at a path, with the default of everything else.
    pub fn at(location: impl Into<PathBuf>) -> Self {
        Self {
            name: None,
            engine: Engine::Restic,
            location: location.into(),
            password: None,
            compression: None,
            pack_size: None,
            verify_before_write: true,
            cache: CacheUse::Auto,
            cache_size: CACHE_SIZE,
            cache_folder: None,
            scratch_folder: None,
            embedded: false,
        }
    }
}

/// A choice of applications, items and paths with the policy for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSet {
    /// Its name; none when it was put together on the command line.
    pub name: Option<String>,
    /// For people.
    pub description: String,
    /// Whether `backup` without names takes it.
    pub enabled: bool,
    /// What is chosen.
    pub selection: Selection,
    /// What of the files is left out.
    pub filter: Filter,
    /// Which items of the chosen applications are saved.
    pub scope: Scope,
    /// What happens to running containers while their volumes are read.
    pub consistency: Consistency,
    /// What runs inside containers around the time in which they are kept still.
    pub hooks: Hooks,
    /// Name of its repository; none: the default one.
    pub repository: Option<String>,
    /// Name of its Engine; none: the default one.
    pub engine: Option<String>,
    /// Which of its snapshots `forget` keeps; none: all.
    pub retention: Option<Retention>,
}

/// The commands of a set that run inside containers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// Before containers are stopped.
    pub exec_pre: Vec<SetHook>,
    /// After they run again.
    pub exec_post: Vec<SetHook>,
}

/// A command of a set, and in which containers it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetHook {
    /// Globs of names of containers; one that begins with `!` takes away again.
    pub containers: Vec<String>,
    /// What runs.
    pub hook: Hook,
}

impl SetHook {
    /// Whether it runs in the container of that name.
    pub fn applies_to(&self, container: &str) -> bool {
        let refused = self.containers.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(|pattern| matches(pattern, container));
        !refused && self.wanted().any(|pattern| matches(pattern, container))
    }

    /// What asks for none of these containers.
    pub fn unmatched(&self, containers: &[&str]) -> impl Iterator<Item = &str> {
        self.wanted().filter(|pattern| !containers.iter().any(|container| matches(pattern, container)))
    }

    fn wanted(&self) -> impl Iterator<Item = &str> {
        self.containers.iter().map(String::as_str).filter(|pattern| !pattern.starts_with('!'))
    }
}

/// Whether a pattern of a hook, which was checked when it was read, means a container.
fn matches(pattern: &str, container: &str) -> bool {
    globset::Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(container))
}

impl Default for BackupSet {
    /// Nothing chosen, everything of it in scope.
    fn default() -> Self {
        Self {
            name: None,
            description: String::new(),
            enabled: true,
            selection: Selection::default(),
            filter: Filter::default(),
            scope: Scope::default(),
            consistency: Consistency::default(),
            hooks: Hooks::default(),
            repository: None,
            engine: None,
            retention: None,
        }
    }
}

/// What is chosen on a host. Containers, projects, volumes and labels are globs; one that begins with `!` takes away again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Everything on the Engine, whatever the lists say, except what their `!` patterns take away.
    pub everything: bool,
    /// Names of containers.
    pub containers: Vec<String>,
    /// Names of compose projects.
    pub projects: Vec<String>,
    /// Names of volumes.
    pub volumes: Vec<String>,
    /// `key` or `key=value` of containers; `value` may be a glob.
    pub labels: Vec<String>,
    /// Paths of this host.
    pub paths: Vec<PathBuf>,
}

impl Selection {
    /// Whether a Docker Engine is needed for it.
    pub fn needs_docker(&self) -> bool {
        self.everything || !(self.containers.is_empty() && self.projects.is_empty() && self.volumes.is_empty() && self.labels.is_empty())
    }

    /// Whether nothing is chosen.
    pub fn is_empty(&self) -> bool {
        !self.needs_docker() && self.paths.is_empty()
    }
}

/// What of the files in volumes and paths is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Patterns as restic's `--exclude`.
    pub exclude: Vec<String>,
    /// Files with such patterns, one a line.
    pub exclude_files: Vec<PathBuf>,
    /// `NAME` or `NAME:header`: a folder that holds such a file is left out, except for that file.
    pub exclude_if_present: Vec<String>,
    /// Stay on the file system that a path is on.
    pub one_file_system: bool,
}

/// Which items of an application are saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The configuration of containers.
    pub configs: bool,
    /// The last lines of their logs.
    pub logs: bool,
    /// How many lines.
    pub log_lines: u32,
    /// Volumes.
    pub volumes: bool,
    /// Files and folders of the host that containers mount, except for what belongs to the machine itself.
    pub binds: bool,
    /// Networks, except Docker's own three.
    pub networks: bool,
    /// Compose files and `.env`.
    pub compose: bool,
    /// Which images.
    pub images: Images,
    /// What containers wrote outside their volumes.
    pub layers: bool,
}

/// Which images of containers are saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Images {
    /// None: a restore pulls them.
    #[default]
    None,
    /// Those that no registry has.
    Local,
}

impl Images {
    /// The word of the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Local => "local",
        }
    }
}

/// Default of [`Scope::log_lines`].
pub const LOG_LINES: u32 = 1_000;

impl Default for Scope {
    fn default() -> Self {
        Self {
            configs: true,
            logs: true,
            log_lines: LOG_LINES,
            volumes: true,
            binds: true,
            networks: true,
            compose: true,
            images: Images::None,
            layers: false,
        }
    }
}

/// The commented file that `init-config` writes.
pub const STARTER: &str = include_str!("config/starter.yaml");

#[cfg(test)]
mod tests;
