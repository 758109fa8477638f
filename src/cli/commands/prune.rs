//! `prune`: gives back the room of what no snapshot uses.

use super::Done;
use crate::cli::arguments::prune::Prune;
use crate::cli::progress::Display;
use crate::cli::session::Session;
use crate::cli::text;
use crate::jobs::error::JobError;
use crate::model::size::ByteSize;
use crate::repository::contract::prune::{PruneRequest, PruneSummary};

pub(in crate::cli) fn prune(session: &Session, arguments: &Prune) -> Result<Done, JobError> {
    let request = PruneRequest {
        max_unused: arguments.max_unused,
        max_repack_bytes: arguments.max_repack_size,
        repack_small: arguments.repack_small,
        repack_cacheable_only: arguments.repack_cacheable_only,
        dry_run: arguments.dry_run,
    };
    let repository = session.open_for(&session.repository(None)?, request.dry_run)?;
    let summary = {
        let display = Display::start(&session.output, "prune");
        repository.prune(&request, &session.control, display.progress())?
    };
    for line in lines(&summary) {
        session.output.result(&line);
    }
    Done::well(&summary)
}

/// What it did, for people.
pub(super) fn lines(summary: &PruneSummary) -> Vec<String> {
    let packs = |count: u64| text::count(count, "pack");
    let mut lines = vec![format!(
        "{} in {}: {} used by {}, {} not.",
        ByteSize(summary.bytes_before),
        packs(summary.packs_before),
        ByteSize(summary.bytes_used),
        text::count(summary.snapshots, "snapshot"),
        ByteSize(summary.bytes_unused),
    )];
    let nothing = summary.packs_unused + summary.packs_unindexed + summary.packs_repacked == 0;
    let (would, has) = if summary.dry_run { ("would be ", "about ") } else { ("", "") };
    if !nothing {
        let mut parts = Vec::new();
        if summary.packs_unused + summary.packs_unindexed > 0 {
            parts.push(format!("{} {would}removed", packs(summary.packs_unused + summary.packs_unindexed)));
        }
        if summary.packs_repacked > 0 {
            parts.push(format!("{} ({}) {would}written anew", packs(summary.packs_repacked), ByteSize(summary.bytes_repacked)));
        }
        lines.push(format!("{}.", parts.join(", ")));
    }
    let unused = format!("{} unused stay", ByteSize(summary.bytes_unused_after));
    lines.push(match (nothing, summary.dry_run) {
        (true, false) if summary.indexes_removed > 0 => {
            format!("{} replaced by {}; {unused}.", text::count(summary.indexes_removed, "index file"), summary.indexes_written)
        }
        (true, _) => format!("Nothing to do: {unused}."),
        (false, true) => format!("{has}{} would be freed; {unused}.", ByteSize(summary.bytes_freed)),
        (false, false) => format!("{} freed; {unused}.", ByteSize(summary.bytes_freed)),
    });
    lines.into_iter().map(|line| capital(&line)).collect()
}

fn capital(line: &str) -> String {
    let mut characters = line.chars();
    characters.next().into_iter().flat_map(char::to_uppercase).chain(characters).collect()
}
