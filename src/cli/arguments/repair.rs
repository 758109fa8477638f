//! The flags of `repair`.

use clap::{Args, Subcommand};

/// What is repaired.
#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum Repair {
    /// Make the index agree with the packs, and save what is whole in damaged packs
    Index(RepairIndex),
    /// Write snapshots without what is lost in place of damaged ones
    Snapshots(RepairSnapshots),
}

/// Flags of `repair index`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(in crate::cli) struct RepairIndex {
    /// Believe no index file: read the list of contents of every pack
    #[arg(long)]
    pub(in crate::cli) read_all_packs: bool,
    /// Read every pack whole, and leave out what is damaged
    #[arg(long)]
    pub(in crate::cli) read_data: bool,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    pub(in crate::cli) dry_run: bool,
}

/// Flags of `repair snapshots`.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct RepairSnapshots {
    /// Only these snapshots (ids or their beginnings)
    #[arg(value_name = "SNAPSHOT")]
    pub(in crate::cli) snapshots: Vec<String>,
    /// Remove the damaged snapshots afterwards, and those of which nothing is left
    #[arg(long)]
    pub(in crate::cli) forget: bool,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    pub(in crate::cli) dry_run: bool,
}
