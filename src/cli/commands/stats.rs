//! `stats`: numbers about a repository, for each application, and how it grew.

use super::Done;
use super::look::unread;
use crate::cli::arguments::Stats;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::jobs::error::JobError;
use crate::model::size::ByteSize;
use crate::platform::clock;
use crate::repository::contract::RepositoryInfo;
use crate::repository::contract::stats::{GroupStats, RepositoryStats, SnapshotGrowth};

pub(in crate::cli) fn stats(session: &Session, arguments: &Stats) -> Result<Done, JobError> {
    let repository = session.open(&session.repository(None)?)?;
    let (info, stats) = (repository.info(), repository.stats(&session.control)?);
    whole(session, &info, &stats);
    if stats.groups.len() > 1 || stats.groups.iter().any(|group| group.application.is_some()) {
        session.output.listed("");
        groups(session, &stats.groups);
    }
    if arguments.growth {
        session.output.listed("");
        growth(session, &stats.growth);
    }
    let (dedup_ratio, compression_ratio, unused_bytes) = (stats.dedup_ratio(), stats.compression_ratio(), stats.unused_bytes());
    let data = serde_json::json!({
        "repository": info,
        "stats": stats,
        "dedup_ratio": dedup_ratio,
        "compression_ratio": compression_ratio,
        "unused_bytes": unused_bytes,
    });
    Ok(unread(session, &stats.problems, stats.problem_count, "counted", data))
}

fn whole(session: &Session, info: &RepositoryInfo, stats: &RepositoryStats) {
    for (name, value) in [
        ("repository", safe(&info.location)),
        ("id", info.id.clone()),
        ("format", format!("{} version {}", info.engine, info.version)),
        ("snapshots", text::grouped(stats.snapshots)),
        ("files in them", text::grouped(stats.files)),
        ("size of all, restored", ByteSize(stats.restore_bytes).to_string()),
        ("different data", ByteSize(stats.raw_bytes).to_string()),
        ("size on disk", ByteSize(stats.stored_bytes).to_string()),
        ("in no snapshot", ByteSize(stats.unused_bytes()).to_string()),
        ("saved by dedup", format!("{:.1} times", stats.dedup_ratio())),
        ("saved by compression", format!("{:.1} times", stats.compression_ratio())),
        ("blobs", text::grouped(stats.blobs)),
        ("packs", text::grouped(stats.packs)),
    ] {
        session.output.listed(&format!("{name:<24}{value}"));
    }
}

fn groups(session: &Session, groups: &[GroupStats]) {
    let row = |group: &GroupStats| {
        vec![
            safe(&group.host),
            safe(&group.application.clone().unwrap_or_else(|| group.paths.join(" "))),
            text::grouped(group.snapshots),
            text::grouped(group.latest_files),
            ByteSize(group.latest_bytes).to_string(),
            ByteSize(group.restore_bytes).to_string(),
            ByteSize(group.raw_bytes).to_string(),
            ByteSize(group.stored_bytes).to_string(),
            ByteSize(group.own_stored_bytes).to_string(),
        ]
    };
    let headings = ["host", "application or paths", "snapshots", "files", "newest", "all, restored", "different", "stored", "only its own"];
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    for line in text::table(&headings, &rows) {
        session.output.listed(&line);
    }
}

fn growth(session: &Session, growth: &[SnapshotGrowth]) {
    let zone = clock::local_zone();
    let row = |one: &SnapshotGrowth| {
        vec![
            one.id.short().to_owned(),
            text::time(one.time, &zone),
            safe(one.application.as_deref().unwrap_or("-")),
            text::grouped(one.files),
            ByteSize(one.restore_bytes).to_string(),
            ByteSize(one.raw_added).to_string(),
            ByteSize(one.stored_added).to_string(),
            ByteSize(one.stored_total).to_string(),
        ]
    };
    let headings = ["snapshot", "time", "application", "files", "size", "new data", "stored", "stored in all"];
    let rows: Vec<Vec<String>> = growth.iter().map(row).collect();
    for line in text::table(&headings, &rows) {
        session.output.listed(&line);
    }
}
