//! `find`: entries by name, size, time and kind in many snapshots.

use std::ops::ControlFlow;

use serde::Serialize;

use super::look::{listed_time, long, permissions, several, unread};
use super::{Done, to_value};
use crate::cli::arguments::look::Find;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::cli::time;
use crate::jobs::error::JobError;
use crate::jobs::find::{Criteria, Search};
use crate::model::size::ByteSize;
use crate::model::text::printable;
use crate::platform::clock;
use crate::repository::contract::find::FindRequest;
use crate::repository::contract::{Listed, SnapshotId};

/// A line of `find --json`, with restic's names for what it finds.
#[derive(Serialize)]
struct Match<'a> {
    message_type: &'static str,
    snapshot: &'a SnapshotId,
    path: String,
    permissions: String,
    r#type: &'static str,
    mode: u32,
    mtime: String,
    atime: String,
    ctime: String,
    uid: u32,
    gid: u32,
    user: &'a str,
    group: &'a str,
    inode: u64,
    device_id: u64,
    size: u64,
    links: u64,
}

pub(in crate::cli) fn find(session: &Session, arguments: &Find) -> Result<Done, JobError> {
    let search = Search::new(criteria(arguments)?)?;
    let repository = session.open(&session.repository(None)?)?;
    let mut chosen = several(session, &*repository, &arguments.snapshot, &arguments.narrow)?;
    // The newest first: that is where people look.
    chosen.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.time));
    let ids: Vec<SnapshotId> = chosen.iter().map(|snapshot| snapshot.id.clone()).collect();
    let zone = clock::local_zone();
    let heading = |id: &SnapshotId| {
        let Some(snapshot) = chosen.iter().find(|snapshot| snapshot.id == *id) else { return };
        let of = snapshot.application().map_or_else(|| snapshot.paths.join(" "), str::to_owned);
        session.output.listed(&format!("{} ({} {}):", id.short(), safe(&of), text::time(snapshot.time, &zone)));
    };
    let mut last: Option<SnapshotId> = None;
    let request = FindRequest { snapshots: &ids, named: !arguments.snapshot.is_empty(), matcher: &search };
    let summary = repository.find(&request, &session.control, &mut |snapshot, listed| {
        if session.output.is_json() {
            session.output.message(&json(snapshot, &listed));
        } else {
            if last.as_ref() != Some(snapshot) {
                heading(snapshot);
                last = Some(snapshot.clone());
            }
            session.output.listed(&format!("  {}", if arguments.long { long(&listed) } else { printable(&listed.path) }));
        }
        ControlFlow::Continue(())
    })?;
    let matches = text::count(summary.matches, "match").replace("matchs", "matches");
    let searched = text::count(summary.snapshots, "snapshot");
    session.output.note(&format!("{matches} in {} of {searched}", text::grouped(summary.snapshots_with_matches)));
    let data = to_value(&summary)?;
    Ok(unread(session, &summary.problems, summary.problem_count, "searched", data))
}

fn criteria(arguments: &Find) -> Result<Criteria, JobError> {
    let at = |text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => {
            let time = time::parse(text, clock::now(), &clock::local_zone());
            time.map(Some).map_err(|message| JobError::request("bad_time", message, ""))
        }
    };
    let size = |text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(ByteSize(bytes)) => Ok(Some(bytes)),
            Err(_) => Err(JobError::request(
                "bad_size",
                format!("`{}` is not a size", safe(text)),
                "Write a number of bytes, or for example 20M.",
            )),
        },
    };
    let criteria = Criteria {
        patterns: arguments.patterns.clone(),
        ignore_case: arguments.ignore_case,
        newer: at(&arguments.newer)?,
        older: at(&arguments.older)?,
        larger: size(&arguments.larger)?,
        smaller: size(&arguments.smaller)?,
        kind: arguments.kind.map(Into::into),
    };
    let nothing = criteria.patterns.is_empty()
        && criteria.newer.is_none()
        && criteria.older.is_none()
        && criteria.larger.is_none()
        && criteria.smaller.is_none();
    if nothing {
        return Err(JobError::request("nothing_to_find", "nothing says what to look for", "Give a name, a glob, a size or a time."));
    }
    Ok(criteria)
}

fn json<'a>(snapshot: &'a SnapshotId, listed: &'a Listed) -> Match<'a> {
    let metadata = &listed.metadata;
    Match {
        message_type: "match",
        snapshot,
        path: String::from_utf8_lossy(&listed.path).into_owned(),
        permissions: permissions(metadata),
        r#type: metadata.kind.word(),
        mode: metadata.mode,
        mtime: listed_time(metadata.mtime),
        atime: listed_time(metadata.atime),
        ctime: listed_time(metadata.ctime),
        uid: metadata.uid,
        gid: metadata.gid,
        user: &metadata.user,
        group: &metadata.group,
        inode: metadata.inode,
        device_id: metadata.device,
        size: metadata.size,
        links: metadata.links,
    }
}
