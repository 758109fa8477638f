//! Flags of the commands that look: `diff`, `find`, `mount`, `umount`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::Narrow;
use crate::jobs::find::FoundKind;

/// Flags of `diff`.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct Diff {
    /// The older snapshot: an id or its beginning, or `latest`
    #[arg(value_name = "OLDER")]
    pub(in crate::cli) first: String,
    /// The newer one; none: what is named is the newer one, and the one before it of the same kind is the older
    #[arg(value_name = "NEWER")]
    pub(in crate::cli) second: Option<String>,
    /// Only this file or folder
    #[arg(long, short = 'p', value_name = "PATH")]
    pub(in crate::cli) path: Option<PathBuf>,
    /// Also show entries of which only owner, mode, time or attributes changed
    #[arg(long)]
    pub(in crate::cli) metadata: bool,
    #[command(flatten)]
    pub(in crate::cli) narrow: Narrow,
}

/// Flags of `find`.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct Find {
    /// Names or globs: `*.conf`; with `/` about the end of the path, and with `/` first about the whole path: `/srv/**/*.sql`
    #[arg(value_name = "PATTERN")]
    pub(in crate::cli) patterns: Vec<String>,
    /// `A` is `a`
    #[arg(long, short)]
    pub(in crate::cli) ignore_case: bool,
    /// Changed at or after this time
    #[arg(long, short = 'O', visible_alias = "oldest", value_name = "TIME")]
    pub(in crate::cli) newer: Option<String>,
    /// Changed at or before this time
    #[arg(long, short = 'N', visible_alias = "newest", value_name = "TIME")]
    pub(in crate::cli) older: Option<String>,
    /// Files of at least this size
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) larger: Option<String>,
    /// Files of at most this size
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) smaller: Option<String>,
    /// Only of this kind
    #[arg(long = "type", value_name = "KIND")]
    pub(in crate::cli) kind: Option<FindKind>,
    /// Show type, mode, owner, size and time too
    #[arg(long, short)]
    pub(in crate::cli) long: bool,
    /// Only in these snapshots: ids or their beginnings, `latest`, `run:<id of a run>` (can be repeated)
    #[arg(long, short, value_name = "SNAPSHOT")]
    pub(in crate::cli) snapshot: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) narrow: Narrow,
}

/// Words of `--type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum FindKind {
    /// Regular files
    #[value(alias = "f")]
    File,
    /// Folders
    #[value(aliases = ["d", "dir"])]
    Folder,
    /// Symbolic links
    #[value(aliases = ["l", "symlink"])]
    Link,
}

impl From<FindKind> for FoundKind {
    fn from(word: FindKind) -> Self {
        match word {
            FindKind::File => Self::File,
            FindKind::Folder => Self::Folder,
            FindKind::Link => Self::Link,
        }
    }
}

/// Flags of `mount`.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct Mount {
    /// A folder that is there
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) mountpoint: PathBuf,
    /// Only these: ids or their beginnings, `latest`, `run:<id of a run>`
    #[arg(value_name = "SNAPSHOT")]
    pub(in crate::cli) snapshots: Vec<String>,
    /// Let other users look, too, as far as owners and modes let them
    #[arg(long)]
    pub(in crate::cli) allow_other: bool,
    #[command(flatten)]
    pub(in crate::cli) narrow: Narrow,
}

/// Flags of `umount`.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct Umount {
    /// Where it is mounted; none: the only mount there is
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) mountpoint: Option<PathBuf>,
    /// Also while files of it are open
    #[arg(long)]
    pub(in crate::cli) force: bool,
}
