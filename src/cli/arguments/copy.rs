//! Flags of the commands that make snapshots of snapshots: `copy`, `rewrite`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::Narrow;

/// Flags of `copy`.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct Copy {
    /// Only these: ids or their beginnings, `latest`, `run:<id of a run>`; none: all
    #[arg(value_name = "SNAPSHOT")]
    pub(in crate::cli) snapshots: Vec<String>,
    /// The other repository: a name of the configuration, or a folder
    #[arg(long, value_name = "NAME|PATH", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) to: String,
    /// File with the other repository's password
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "to_password_command")]
    pub(in crate::cli) to_password_file: Option<PathBuf>,
    /// Command that writes the other repository's password
    #[arg(long, value_name = "COMMAND")]
    pub(in crate::cli) to_password_command: Option<String>,
    /// Only say what would be copied
    #[arg(long, short = 'n')]
    pub(in crate::cli) dry_run: bool,
    #[command(flatten)]
    pub(in crate::cli) narrow: Narrow,
}

/// Flags of `rewrite`.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct Rewrite {
    /// Only these: ids or their beginnings, `latest`, `run:<id of a run>`; none: all
    #[arg(value_name = "SNAPSHOT")]
    pub(in crate::cli) snapshots: Vec<String>,
    /// Leave out what matches, as at a backup (can be repeated)
    #[arg(long, short = 'e', value_name = "PATTERN")]
    pub(in crate::cli) exclude: Vec<String>,
    /// Leave out what matches a line of this file (can be repeated)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) exclude_file: Vec<PathBuf>,
    /// Remove the old snapshots once the new ones are there; `prune` then gives back the room
    #[arg(long)]
    pub(in crate::cli) forget: bool,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    pub(in crate::cli) dry_run: bool,
    /// Also where nothing is left of a snapshot
    #[arg(long)]
    pub(in crate::cli) unsafe_allow_remove_all: bool,
    #[command(flatten)]
    pub(in crate::cli) narrow: Narrow,
}
