//! The command line as clap reads it: every command, flag and alias with the text of its help.
//!
//! What the words mean together is in `request`; nothing here looks at the configuration or the environment.

pub(super) mod copy;
pub(super) mod forget;
pub(super) mod key;
pub(super) mod look;
pub(super) mod prune;
pub(super) mod repair;
pub(super) mod tag;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use self::copy::{Copy, Rewrite};
use self::forget::Forget;
use self::key::KeyCommand;
use self::look::{Diff, Find, Mount, Umount};
use self::prune::Prune;
use self::repair::Repair;
use self::tag::{Tag, Which};
use crate::config::duration;
use crate::model::application::Consistency;

/// Back up a Docker host and bring it back: encrypted, deduplicated, readable by restic.
#[derive(Debug, Parser)]
#[command(name = "bbackup", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 success, 1 usage or failed, 2 configuration, 3 environment (no Docker, no permission), 4 done with warnings, in part, or nothing done, 10 no such repository, 11 locked, 12 wrong password, 130 interrupted";

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Configuration file [env: BBACKUP_CONFIG]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    /// Repository: a name of the configuration, or a folder
    #[arg(long, visible_alias = "repository", global = true, value_name = "NAME|PATH")]
    pub(super) repo: Option<String>,
    /// Docker Engine: a name of `docker.engines` in the configuration
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) engine: Option<String>,
    /// File with the repository's password
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "password_command")]
    pub(super) password_file: Option<PathBuf>,
    /// Command that writes the repository's password
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(super) password_command: Option<String>,
    /// Keep no copies of the repository's snapshots, index and folders on this machine, and use none
    #[arg(long, global = true)]
    pub(super) no_cache: bool,
    /// Write one JSON object per line to standard output
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Plain output instead of the terminal app (in this version there is only plain output)
    #[arg(long, global = true)]
    pub(super) no_tui: bool,
    /// Say more (can be repeated)
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Say nothing but results, warnings and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Append what is said, with the time, to this file
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) log_file: Option<PathBuf>,
    /// How long to wait for a repository that another process has locked
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration::parse)]
    pub(super) retry_lock: Option<Duration>,
}

/// What is to be done.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Command {
    /// Back up applications and paths
    #[command(visible_alias = "create")]
    Backup(Backup),
    /// Bring applications, items or files back
    #[command(visible_alias = "extract")]
    Restore(Restore),
    /// List snapshots
    #[command(visible_aliases = ["list-backups", "archives"])]
    Snapshots(Snapshots),
    /// List what is in a snapshot
    Ls(Ls),
    /// Write a file of a snapshot, or a tar archive of a folder, to standard output
    Dump(Dump),
    /// Show what changed between two snapshots
    Diff(Diff),
    /// Look for files in snapshots
    Find(Find),
    /// Show snapshots as folders until it is interrupted or unmounted
    Mount(Mount),
    /// Take a mount away
    #[command(visible_alias = "unmount")]
    Umount(Umount),
    /// Make a new repository
    Init(Init),
    /// Look for damage in a repository
    Check(Check),
    /// Give back the room of what no snapshot uses
    #[command(visible_alias = "compact")]
    Prune(Prune),
    /// Put right what is damaged
    #[command(subcommand)]
    Repair(Repair),
    /// Remove snapshots that no rule keeps, or that are named
    Forget(Forget),
    /// Change the tags of snapshots
    Tag(Tag),
    /// Keep snapshots whatever the rules say
    Pin(Which),
    /// Let the rules decide over snapshots again
    Unpin(Which),
    /// Look after the passwords that open a repository
    #[command(subcommand)]
    Key(KeyCommand),
    /// Copy snapshots to another repository
    Copy(Copy),
    /// Write snapshots anew without some of their files
    Rewrite(Rewrite),
    /// Remove stale locks of a repository
    #[command(visible_alias = "break-lock")]
    Unlock(Unlock),
    /// Start containers again that a killed run has left stopped, paused or set aside
    ///
    /// Every command that works with an Engine or a repository does so before its own work, except for dry runs (for a killed restore:
    /// `backup` and `restore`); this one does nothing else. assets/bbackup-recover.service runs it at boot.
    Recover,
    /// Show numbers about a repository
    #[command(visible_alias = "info")]
    Stats(Stats),
    /// List the containers of the Docker Engine
    ListContainers,
    /// List the volumes of the Docker Engine
    ListVolumes,
    /// List the networks of the Docker Engine
    ListNetworks,
    /// List the backup sets of the configuration
    ListBackupSets,
    /// Say which containers, volumes and bind mounts no enabled backup set saves
    Coverage,
    /// Write a configuration file to start from
    InitConfig(InitConfig),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write a completion script for a shell to standard output
    Completions(Completions),
}

impl Command {
    /// Its name in the JSON envelope.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Backup(_) => "backup",
            Self::Restore(_) => "restore",
            Self::Snapshots(_) => "snapshots",
            Self::Ls(_) => "ls",
            Self::Dump(_) => "dump",
            Self::Diff(_) => "diff",
            Self::Find(_) => "find",
            Self::Copy(_) => "copy",
            Self::Rewrite(_) => "rewrite",
            Self::Mount(_) => "mount",
            Self::Umount(_) => "umount",
            Self::Init(_) => "init",
            Self::Check(_) => "check",
            Self::Prune(_) => "prune",
            Self::Repair(Repair::Index(_)) => "repair index",
            Self::Repair(Repair::Snapshots(_)) => "repair snapshots",
            Self::Forget(_) => "forget",
            Self::Tag(_) => "tag",
            Self::Pin(_) => "pin",
            Self::Unpin(_) => "unpin",
            Self::Key(KeyCommand::List) => "key list",
            Self::Key(KeyCommand::Add(_)) => "key add",
            Self::Key(KeyCommand::Remove(_)) => "key remove",
            Self::Key(KeyCommand::Passwd(_)) => "key passwd",
            Self::Unlock(_) => "unlock",
            Self::Recover => "recover",
            Self::Stats(_) => "stats",
            Self::ListContainers => "list-containers",
            Self::ListVolumes => "list-volumes",
            Self::ListNetworks => "list-networks",
            Self::ListBackupSets => "list-backup-sets",
            Self::InitConfig(_) => "init-config",
            Self::Config(ConfigCommand::Check) => "config check",
            Self::Config(ConfigCommand::Show) => "config show",
            Self::Config(ConfigCommand::Import(_)) => "config import",
            Self::Coverage => "coverage",
            Self::Completions(_) => "completions",
        }
    }
}

/// Flags of `backup`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Backup {
    /// Backup sets of the configuration; none: all that are enabled, and without a configuration everything
    #[arg(value_name = "SET", conflicts_with_all = ["all", "containers", "projects", "volumes", "paths"])]
    pub(super) sets: Vec<String>,
    /// Everything on the Docker Engine
    #[arg(long)]
    pub(super) all: bool,
    /// These containers, with what they mount and their networks (globs; `!` before one takes away)
    #[arg(long, short = 'C', value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub(super) containers: Vec<String>,
    /// These compose projects (globs)
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub(super) projects: Vec<String>,
    /// These volumes (globs)
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub(super) volumes: Vec<String>,
    /// These files and folders of this host
    #[arg(long, short = 'p', value_name = "PATH", num_args = 1.., value_hint = ValueHint::AnyPath)]
    pub(super) paths: Vec<PathBuf>,
    /// No volumes and no logs: only configurations, networks and compose files
    #[arg(long, conflicts_with = "volumes_only")]
    pub(super) config_only: bool,
    /// Only volumes
    #[arg(long)]
    pub(super) volumes_only: bool,
    /// No networks
    #[arg(long)]
    pub(super) no_networks: bool,
    /// No logs
    #[arg(long)]
    pub(super) no_logs: bool,
    /// Accepted and not needed: every backup stores only what is new
    #[arg(long, conflicts_with = "full")]
    pub(super) incremental: bool,
    /// Ignore earlier snapshots: read every file again, and take volumes that have become empty as they are
    #[arg(long)]
    pub(super) full: bool,
    /// So many applications at once; those that share containers, volumes or bind mounts still take turns
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(super) parallel: u8,
    /// Leave out files that match (can be repeated)
    #[arg(long, short = 'e', value_name = "PATTERN")]
    pub(super) exclude: Vec<String>,
    /// Leave out files that match a line of this file (can be repeated)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) exclude_file: Vec<PathBuf>,
    /// Leave out folders that hold such a file (can be repeated)
    #[arg(long, value_name = "NAME[:HEADER]")]
    pub(super) exclude_if_present: Vec<String>,
    /// Do not cross into other file systems
    #[arg(long, short = 'x')]
    pub(super) one_file_system: bool,
    /// Tag the snapshots (can be repeated)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub(super) tag: Vec<String>,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    pub(super) dry_run: bool,
    /// What happens to running containers while their volumes are read
    #[arg(long, value_name = "HOW")]
    pub(super) consistency: Option<ConsistencyArgument>,
}

/// Words of `--consistency`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ConsistencyArgument {
    /// Stop them: a clean state
    Stop,
    /// Freeze them: as after a loss of power
    Pause,
    /// Nothing: files may change while they are read
    None,
}

impl From<ConsistencyArgument> for Consistency {
    fn from(word: ConsistencyArgument) -> Self {
        match word {
            ConsistencyArgument::Stop => Self::Stop,
            ConsistencyArgument::Pause => Self::Pause,
            ConsistencyArgument::None => Self::None,
        }
    }
}

/// Flags that narrow which snapshots are meant.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which snapshots")]
pub(super) struct Narrow {
    /// Only snapshots of this backup set
    #[arg(long, value_name = "SET")]
    pub(super) set: Option<String>,
    /// Only snapshots of this host
    #[arg(long, value_name = "HOST")]
    pub(super) host: Option<String>,
    /// Only snapshots with this tag (can be repeated: with all of them)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub(super) tag: Vec<String>,
    /// Only snapshots made before this time (`2026-08-20`, `2026-08-20 14:30`, `2026-08-20T14:30:00Z`, or `3 days ago`)
    #[arg(long, value_name = "TIME")]
    pub(super) before: Option<String>,
}

/// Flags of `restore`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Restore {
    /// An id or its beginning, `latest`, or `run:<id of a run>`
    pub(super) snapshot: String,
    /// With `latest`: the newest snapshot of every application of this host
    #[arg(long, conflicts_with_all = ["container", "volume", "network", "path"])]
    pub(super) all: bool,
    /// Only this container (can be repeated)
    #[arg(long, short = 'C', value_name = "NAME")]
    pub(super) container: Vec<String>,
    /// Only this volume (can be repeated)
    #[arg(long, value_name = "NAME")]
    pub(super) volume: Vec<String>,
    /// Only this network (can be repeated)
    #[arg(long, value_name = "NAME")]
    pub(super) network: Vec<String>,
    /// Only this file or folder, by its path on the host (of a bind mount or compose file, or in one) or in the snapshot (can be repeated)
    #[arg(long, short = 'p', value_name = "PATH")]
    pub(super) path: Vec<PathBuf>,
    /// Write plain files below this folder; the Docker Engine is left alone
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["rename", "as_new", "no_start"])]
    pub(super) to: Option<PathBuf>,
    /// Give a container, volume, network or project another name, or a host port another number: 8080:18080 (can be repeated)
    #[arg(long, value_name = "OLD:NEW")]
    pub(super) rename: Vec<String>,
    /// Give everything whose name, host port or subnet is taken a free one
    #[arg(long)]
    pub(super) as_new: bool,
    /// Put applications, volumes and files in the place of what is there now; what is overwritten is saved first
    #[arg(long, conflicts_with_all = ["to", "as_new"])]
    pub(super) in_place: bool,
    /// With --in-place: do not first save what will be overwritten
    #[arg(long, requires = "in_place", conflicts_with_all = ["to", "as_new"])]
    pub(super) no_save_first: bool,
    /// Do not start restored containers
    #[arg(long)]
    pub(super) no_start: bool,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) narrow: Narrow,
}

/// Flags of `snapshots`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Snapshots {
    /// Only these: ids or their beginnings, `latest`, `run:<id of a run>`
    #[arg(value_name = "SNAPSHOT")]
    pub(super) snapshots: Vec<String>,
    #[command(flatten)]
    pub(super) narrow: Narrow,
}

/// Flags of `ls`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Ls {
    /// An id or its beginning, or `latest`
    pub(super) snapshot: String,
    /// Files or folders in it; none: everything
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// Only what is in the folder itself, not what is in the folders in it
    #[arg(long)]
    pub(super) no_recursive: bool,
    /// Show type, mode, owner, size and time too
    #[arg(long, short)]
    pub(super) long: bool,
    #[command(flatten)]
    pub(super) narrow: Narrow,
}

/// Flags of `dump`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Dump {
    /// An id or its beginning, or `latest`
    pub(super) snapshot: String,
    /// File in it; with `--tar` or `--zstd` also a folder
    pub(super) path: PathBuf,
    /// Write a tar archive
    #[arg(long)]
    pub(super) tar: bool,
    /// Write a tar archive compressed by zstd (`.tar.zst`)
    #[arg(long)]
    pub(super) zstd: bool,
    #[command(flatten)]
    pub(super) narrow: Narrow,
}

/// Flags of `stats`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Stats {
    /// Show what each snapshot added, too
    #[arg(long)]
    pub(super) growth: bool,
}

/// Flags of `check`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Check {
    /// Read and verify all data
    #[arg(long, conflicts_with = "read_data_subset")]
    pub(super) read_data: bool,
    /// Read and verify a part: `2/5` (the second of five parts), `10%` or `500M` (chosen at random)
    #[arg(long, value_name = "PART")]
    pub(super) read_data_subset: Option<String>,
}

/// Flags of `init`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Init {
    /// Cut files at the same places as this other repository does (a name of the configuration, or a folder), so that copies of its
    /// snapshots share data with backups that are made here
    #[arg(long, value_name = "NAME|PATH", value_hint = ValueHint::DirPath)]
    pub(super) copy_chunker_params_from: Option<String>,
    /// File with that repository's password
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "copy_chunker_params_from", conflicts_with = "from_password_command")]
    pub(super) from_password_file: Option<PathBuf>,
    /// Command that writes that repository's password
    #[arg(long, value_name = "COMMAND", requires = "copy_chunker_params_from")]
    pub(super) from_password_command: Option<String>,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    pub(super) dry_run: bool,
}

/// Flags of `unlock`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Unlock {
    /// Remove all locks, also those of processes that are still at work
    #[arg(long)]
    pub(super) remove_all: bool,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    pub(super) dry_run: bool,
}

/// Flags of `init-config`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct InitConfig {
    /// Where it goes; none: the user's configuration folder
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) file: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    pub(super) force: bool,
}

/// Commands of `config`.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say everything that is wrong with the configuration
    Check,
    /// Show what the configuration means, with every default; never a secret
    Show,
    /// Translate the configuration of the Python bbackup, and say what became of every value of it
    Import(Import),
}

/// Flags of `config import`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Import {
    /// The other program's config.yaml
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) file: PathBuf,
    /// Where the new configuration goes; none: standard output
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) output: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long, requires = "output")]
    pub(super) force: bool,
}

/// Flags of `completions`.
#[derive(Debug, Clone, Args)]
pub(super) struct Completions {
    /// Which shell
    pub(super) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests;
