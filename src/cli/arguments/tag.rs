//! The flags of `tag`, `pin` and `unpin`.

use clap::{ArgGroup, Args};

/// Flags of `tag`.
#[derive(Debug, Clone, Default, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true).args(["add", "remove", "set"])))]
pub(in crate::cli) struct Tag {
    #[command(flatten)]
    pub(in crate::cli) which: Which,
    /// Tags that are added (can be repeated)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub(in crate::cli) add: Vec<String>,
    /// Tags that are taken away (can be repeated)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub(in crate::cli) remove: Vec<String>,
    /// The only tags of the user's own (can be repeated; `--set ''`: none). Those that bbackup sets itself stay
    #[arg(long, value_name = "TAG", value_delimiter = ',', conflicts_with_all = ["add", "remove"])]
    pub(in crate::cli) set: Option<Vec<String>>,
}

/// Which snapshots are changed, and whether.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct Which {
    /// Ids or their beginnings, `latest`, `run:<id of a run>`; none: all that are narrowed to
    #[arg(value_name = "SNAPSHOT")]
    pub(in crate::cli) snapshots: Vec<String>,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    pub(in crate::cli) dry_run: bool,
    /// Only snapshots of this host
    #[arg(long, value_name = "HOST", help_heading = "Which snapshots")]
    pub(in crate::cli) host: Option<String>,
    /// Only snapshots of this application
    #[arg(long, value_name = "NAME", help_heading = "Which snapshots")]
    pub(in crate::cli) application: Option<String>,
    /// Only snapshots with this tag (can be repeated: with all of them)
    #[arg(long, value_name = "TAG", value_delimiter = ',', help_heading = "Which snapshots")]
    pub(in crate::cli) tag: Vec<String>,
    /// Only snapshots made before this time (`2026-08-20`, `3 days ago`)
    #[arg(long, value_name = "TIME", help_heading = "Which snapshots")]
    pub(in crate::cli) before: Option<String>,
}
