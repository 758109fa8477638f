//! `repair index`, `repair snapshots`: putting right what can be put right.

use super::{Done, to_value};
use crate::cli::arguments::repair::{RepairIndex, RepairSnapshots};
use crate::cli::progress::Display;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::jobs::error::JobError;
use crate::model::report::{Blame, Report};
use crate::repository::contract::repair::{DamagedSnapshot, RepairIndexRequest, RepairIndexSummary, RepairSnapshotsRequest};

pub(in crate::cli) fn index(session: &Session, arguments: RepairIndex) -> Result<Done, JobError> {
    let RepairIndex { read_all_packs, read_data, dry_run } = arguments;
    let request = RepairIndexRequest { read_all_packs, read_data, dry_run };
    let repository = session.open_for(&session.repository(None)?, dry_run)?;
    let summary = {
        let display = Display::start(&session.output, "repair");
        repository.repair_index(&request, &session.control, display.progress())?
    };
    for problem in &summary.problems {
        session.output.warning(&safe(problem));
    }
    session.output.result(&index_line(&summary));
    if !read_data {
        // Else who has just repaired it takes the data for whole.
        session.output.note("Only lists of contents were compared: a flipped bit within a pack is found by --read-data, and by `bbackup check --read-data`.");
    }
    if summary.blobs_lost + summary.packs_damaged + summary.packs_missing == 0 {
        return Done::well(&summary);
    }
    let message = match summary.blobs_lost {
        0 => "Packs are damaged or missing.".to_owned(),
        blobs => {
            format!("{} of damaged or missing packs {} lost, unless other packs have them too.", text::count(blobs, "blob"), are(blobs))
        }
    };
    let report = Report::new(Blame::Repository, "data_lost", message);
    let report = report.hint(
        "`bbackup check` says what snapshots need of it; a backup of the same data stores it again; then `bbackup repair snapshots`.",
    );
    session.output.error(&report);
    Ok(Done { code: 4, data: to_value(&summary)?, errors: vec![report], envelope: true })
}

fn are(count: u64) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

fn index_line(summary: &RepairIndexSummary) -> String {
    if summary.is_untouched() {
        return format!("The index agrees with {}: nothing to do.", text::count(summary.packs, "pack"));
    }
    let would = if summary.dry_run { "would be " } else { "" };
    let mut parts = Vec::new();
    if summary.packs_read > 0 {
        parts.push(format!("{} looked into", text::count(summary.packs_read, "pack")));
    }
    if summary.blobs_saved > 0 {
        parts.push(format!("{} of damaged packs {would}saved", text::count(summary.blobs_saved, "blob")));
    }
    parts.push(format!("{} {would}replaced by {}", text::count(summary.indexes_removed, "index file"), summary.indexes_written));
    format!("Index of {}: {}.", text::count(summary.packs, "pack"), parts.join(", "))
}

pub(in crate::cli) fn snapshots(session: &Session, arguments: &RepairSnapshots) -> Result<Done, JobError> {
    let RepairSnapshots { snapshots, forget, dry_run } = arguments.clone();
    let request = RepairSnapshotsRequest { snapshots, forget, dry_run };
    let repository = session.open_for(&session.repository(None)?, dry_run)?;
    let summary = {
        let display = Display::start(&session.output, "repair");
        repository.repair_snapshots(&request, &session.control, display.progress())?
    };
    for snapshot in &summary.damaged {
        for problem in &snapshot.lost {
            session.output.warning(&format!("snapshot {}: {}: {}", snapshot.id.short(), safe(&problem.path), safe(&problem.message)));
        }
        if snapshot.lost_count > snapshot.lost.len() as u64 {
            let more = snapshot.lost_count - snapshot.lost.len() as u64;
            session.output.warning(&format!("snapshot {}: and {more} more", snapshot.id.short()));
        }
        session.output.result(&snapshot_line(snapshot, dry_run, forget));
    }
    let looked_at = text::count(summary.snapshots, "snapshot");
    if summary.empty_folder_written {
        let would = if dry_run { "would be" } else { "was" };
        session
            .output
            .result(&format!("The folder without content could not be read; it {would} written once more, and nothing is lost with it."));
    }
    if summary.damaged.is_empty() {
        if !summary.empty_folder_written {
            session.output.result(&format!("Nothing is missing in {looked_at}: nothing to do."));
        }
        return Done::well(&summary);
    }
    let lost = summary.damaged.iter().filter(|snapshot| snapshot.is_lost && !snapshot.removed).count() as u64;
    if lost == 0 || dry_run {
        return Done::well(&summary);
    }
    let message = format!("Of {} nothing is left.", text::count(lost, "snapshot"));
    let report = Report::new(Blame::Repository, "snapshot_lost", message).hint("--forget removes such snapshots.");
    session.output.error(&report);
    Ok(Done { code: 4, data: to_value(&summary)?, errors: vec![report], envelope: true })
}

fn snapshot_line(snapshot: &DamagedSnapshot, dry_run: bool, forget: bool) -> String {
    let id = snapshot.id.short();
    match (&snapshot.repaired, dry_run) {
        _ if snapshot.is_lost && dry_run && forget => format!("{id}: nothing of it is left; it would be removed."),
        _ if snapshot.is_lost && snapshot.removed => format!("{id}: nothing of it was left; removed."),
        _ if snapshot.is_lost => format!("{id}: nothing of it is left."),
        (Some(repaired), _) if snapshot.was_repaired => format!("{id}: repaired before, as {}.", repaired.short()),
        (_, true) if forget => format!("{id}: would be repaired and removed."),
        (_, true) => format!("{id}: would be repaired."),
        (repaired, false) => {
            let repaired = repaired.as_ref().map_or("", |repaired| repaired.short());
            format!("{id}: repaired as {repaired}{}.", if snapshot.removed { ", and removed" } else { "" })
        }
    }
}
