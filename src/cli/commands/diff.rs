//! `diff`: what changed between two snapshots.

use std::ops::ControlFlow;

use serde::Serialize;

use super::look::{one, unread};
use super::{Done, to_value};
use crate::cli::arguments::look::Diff;
use crate::cli::request;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::jobs::error::JobError;
use crate::model::entry::Metadata;
use crate::model::size::ByteSize;
use crate::model::text::printable;
use crate::platform::clock;
use crate::repository::contract::diff::{Change, DiffCount, DiffRequest, DiffSummary, Difference};
use crate::repository::contract::{Repository, Snapshot, SnapshotId};

/// A line of `diff --json`, with restic's names.
#[derive(Serialize)]
struct Line {
    message_type: &'static str,
    path: String,
    modifier: char,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_after: Option<u64>,
}

/// The end of `diff --json`, with restic's names.
#[derive(Serialize)]
struct Statistics<'a> {
    message_type: &'static str,
    source_snapshot: &'a SnapshotId,
    target_snapshot: &'a SnapshotId,
    #[serde(flatten)]
    summary: &'a DiffSummary,
}

pub(in crate::cli) fn diff(session: &Session, arguments: &Diff) -> Result<Done, JobError> {
    let path = arguments.path.as_ref().map_or_else(|| Ok(b"/".to_vec()), |path| request::in_snapshot(path))?;
    let repository = session.open(&session.repository(None)?)?;
    let choose = |word: &str| one(session, &*repository, word, &arguments.narrow, &[]);
    let (before, after) = if let Some(after) = &arguments.second {
        (choose(&arguments.first)?, choose(after)?)
    } else {
        let after = choose(&arguments.first)?;
        (previous(&*repository, &after)?, after)
    };
    let zone = clock::local_zone();
    let name = |snapshot: &Snapshot| {
        let of = snapshot.application().map_or_else(|| snapshot.paths.join(" "), str::to_owned);
        format!("{} ({} {})", snapshot.id.short(), safe(&of), text::time(snapshot.time, &zone))
    };
    session.output.note(&format!("from {} to {}", name(&before), name(&after)));
    let request = DiffRequest { before: before.id.clone(), after: after.id.clone(), path };
    let summary = repository.diff(&request, &session.control, &mut |difference| {
        if difference.change != Change::Metadata || arguments.metadata {
            if session.output.is_json() {
                session.output.message(&json(&difference));
            } else {
                session.output.listed(&line(&difference));
            }
        }
        ControlFlow::Continue(())
    })?;
    session.output.message(&Statistics {
        message_type: "statistics",
        source_snapshot: &before.id,
        target_snapshot: &after.id,
        summary: &summary,
    });
    session.output.note(&format!("added:   {}", side(&summary.added)));
    session.output.note(&format!("removed: {}", side(&summary.removed)));
    session.output.note(&format!(
        "changed: {}, and only the metadata of {}",
        text::count(summary.changed_files, "file"),
        text::grouped(summary.changed_metadata)
    ));
    let data = to_value(&serde_json::json!({ "before": before, "after": after, "summary": summary }))?;
    Ok(unread(session, &summary.problems, summary.problem_count, "compared", data))
}

/// The newest snapshot of the same host and application, or host and paths, that is older.
fn previous(repository: &dyn Repository, after: &Snapshot) -> Result<Snapshot, JobError> {
    let same = |one: &Snapshot| {
        let alike = match (one.application(), after.application()) {
            (None, None) => one.paths == after.paths,
            (left, right) => left == right,
        };
        alike && one.host == after.host && one.time < after.time && one.id != after.id
    };
    repository.snapshots()?.into_iter().rfind(same).ok_or_else(|| {
        let message = format!("{} is the first snapshot of its kind: there is none before it", after.id.short());
        JobError::request("no_snapshot", message, "Name two snapshots to compare; `bbackup snapshots` lists them.")
    })
}

/// Folders end with a slash, as in restic's output.
fn shown(difference: &Difference, path: String) -> String {
    if difference.is_dir() && path != "/" { path + "/" } else { path }
}

fn size(metadata: Option<&Metadata>) -> Option<u64> {
    metadata.filter(|metadata| metadata.is_file()).map(|metadata| metadata.size)
}

fn json(difference: &Difference) -> Line {
    Line {
        message_type: "change",
        path: shown(difference, String::from_utf8_lossy(&difference.path).into_owned()),
        modifier: difference.change.modifier(),
        size_before: size(difference.before.as_ref()),
        size_after: size(difference.after.as_ref()),
    }
}

fn line(difference: &Difference) -> String {
    let sizes = match (size(difference.before.as_ref()), size(difference.after.as_ref())) {
        (Some(before), Some(after)) if before != after => format!("  ({} → {})", ByteSize(before), ByteSize(after)),
        (Some(one), None) | (None | Some(_), Some(one)) => format!("  ({})", ByteSize(one)),
        (None, None) => String::new(),
    };
    format!("{}    {}{sizes}", difference.change.modifier(), shown(difference, printable(&difference.path)))
}

fn side(count: &DiffCount) -> String {
    let of = |number, one: &str| text::count(number, one);
    format!(
        "{}, {}, {}; {} of data and folders",
        of(count.files, "file"),
        of(count.dirs, "folder"),
        of(count.others, "other"),
        ByteSize(count.bytes)
    )
}
