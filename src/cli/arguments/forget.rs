//! The flags of `forget`.

use clap::Args;

use crate::jobs::forget::GroupBy;
use crate::model::retention::{Count, Span};
use crate::model::size::ByteSize;

/// Flags of `forget`.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct Forget {
    /// Backup sets whose retention is applied; or snapshots: ids or their beginnings, `latest`, `run:<id of a run>`. None:
    /// every enabled set with a retention
    #[arg(value_name = "SET|SNAPSHOT")]
    pub(in crate::cli) words: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) rules: Rules,
    /// Group snapshots by these before the rules are applied to each group: `host`, `paths`, `application`, `tags`
    #[arg(long, short = 'g', value_name = "WHAT,…", value_parser = group_by, default_value = "host,paths,application")]
    pub(in crate::cli) group_by: GroupBy,
    /// Give back the room of what no snapshot uses any more, if snapshots were removed
    #[arg(long)]
    pub(in crate::cli) prune: bool,
    /// Only say what would be done, and why
    #[arg(long, short = 'n')]
    pub(in crate::cli) dry_run: bool,
    /// Also when nothing complete of a group is left; without rules, remove all snapshots that are narrowed to
    #[arg(long)]
    pub(in crate::cli) unsafe_allow_remove_all: bool,
    #[command(flatten)]
    pub(in crate::cli) narrow: NarrowForget,
}

/// The rules. A snapshot stays if one of them keeps it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What is kept, instead of what the configuration says")]
pub(in crate::cli) struct Rules {
    /// The newest N (`unlimited`: all)
    #[arg(long, short = 'l', value_name = "N")]
    pub(in crate::cli) keep_last: Option<Count>,
    /// The newest of each of the last N hours that have a snapshot
    #[arg(long, short = 'H', value_name = "N")]
    pub(in crate::cli) keep_hourly: Option<Count>,
    /// The same with days
    #[arg(long, short = 'd', value_name = "N")]
    pub(in crate::cli) keep_daily: Option<Count>,
    /// The same with weeks
    #[arg(long, short = 'w', value_name = "N")]
    pub(in crate::cli) keep_weekly: Option<Count>,
    /// The same with months
    #[arg(long, short = 'm', value_name = "N")]
    pub(in crate::cli) keep_monthly: Option<Count>,
    /// The same with years
    #[arg(long, short = 'y', value_name = "N")]
    pub(in crate::cli) keep_yearly: Option<Count>,
    /// All that are not older than this before the newest: `1y5m7d2h`
    #[arg(long, value_name = "SPAN")]
    pub(in crate::cli) keep_within: Option<Span>,
    /// Of these, the newest of each hour
    #[arg(long, value_name = "SPAN")]
    pub(in crate::cli) keep_within_hourly: Option<Span>,
    /// Of these, the newest of each day
    #[arg(long, value_name = "SPAN")]
    pub(in crate::cli) keep_within_daily: Option<Span>,
    /// Of these, the newest of each week
    #[arg(long, value_name = "SPAN")]
    pub(in crate::cli) keep_within_weekly: Option<Span>,
    /// Of these, the newest of each month
    #[arg(long, value_name = "SPAN")]
    pub(in crate::cli) keep_within_monthly: Option<Span>,
    /// Of these, the newest of each year
    #[arg(long, value_name = "SPAN")]
    pub(in crate::cli) keep_within_yearly: Option<Span>,
    /// Those with this tag; with all of `a,b` (can be repeated)
    #[arg(long, value_name = "TAG")]
    pub(in crate::cli) keep_tag: Vec<String>,
    /// Never fewer complete ones than this of each group
    #[arg(long, value_name = "N")]
    pub(in crate::cli) min_keep: Option<u32>,
    /// The oldest go until what is kept takes no more than this in the repository
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) max_size: Option<ByteSize>,
}

/// Flags that narrow which snapshots are looked at.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which snapshots")]
pub(in crate::cli) struct NarrowForget {
    /// Only snapshots of this backup set
    #[arg(long, value_name = "SET")]
    pub(in crate::cli) set: Option<String>,
    /// Only snapshots of this host (default: all; for the sets of the configuration this one)
    #[arg(long, value_name = "HOST")]
    pub(in crate::cli) host: Option<String>,
    /// Only snapshots of this application
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) application: Option<String>,
    /// Only snapshots with this tag (can be repeated: with all of them)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub(in crate::cli) tag: Vec<String>,
}

fn group_by(text: &str) -> Result<GroupBy, String> {
    let mut by = GroupBy { host: false, paths: false, tags: false, application: false };
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "host" | "hosts" => by.host = true,
            "path" | "paths" => by.paths = true,
            "tag" | "tags" => by.tags = true,
            "app" | "application" | "applications" => by.application = true,
            _ => return Err("write host, paths, application and tags, with commas between them".to_owned()),
        }
    }
    Ok(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups() {
        let by = |host, paths, tags, application| Ok(GroupBy { host, paths, tags, application });
        assert_eq!(group_by("host,paths,application"), Ok(GroupBy::default()));
        assert_eq!(group_by(""), by(false, false, false, false));
        assert_eq!(group_by("hosts, tag"), by(true, false, true, false));
        assert!(group_by("hots").is_err());
    }
}
