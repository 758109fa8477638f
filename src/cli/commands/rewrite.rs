//! `rewrite`: snapshots without some of their files.

use super::Done;
use super::look::{several, tell_gone};
use crate::cli::arguments::copy::Rewrite;
use crate::cli::progress::Display;
use crate::cli::request::absolute;
use crate::cli::session::Session;
use crate::cli::text;
use crate::jobs::error::JobError;
use crate::jobs::rewrite::{self, Excludes};
use crate::model::size::ByteSize;
use crate::repository::contract::rewrite::RewrittenSnapshot;

pub(in crate::cli) fn rewrite(session: &Session, arguments: &Rewrite) -> Result<Done, JobError> {
    let files = arguments.exclude_file.iter().map(|file| absolute(file)).collect::<Result<Vec<_>, _>>()?;
    let excludes = Excludes::new(&arguments.exclude, &files)?;
    let repository = session.open_for(&session.repository(None)?, arguments.dry_run)?;
    let snapshots = several(session, &*repository, &arguments.snapshots, &arguments.narrow)?;
    let ids = (snapshots.iter().map(|snapshot| snapshot.id.clone()).collect(), !arguments.snapshots.is_empty());
    let summary = {
        let display = Display::start(&session.output, "rewrite");
        let how = (arguments.forget, arguments.unsafe_allow_remove_all, arguments.dry_run);
        rewrite::rewrite(&*repository, ids, &excludes, how, &session.control, display.progress())?
    };
    tell_gone(session, &summary.gone);
    for one in summary.snapshots.iter().filter(|one| one.changed) {
        session.output.result(&line(one));
    }
    let of = text::count(summary.snapshots.len() as u64, "snapshot");
    let verb = if arguments.dry_run { "would be written anew" } else { "written anew" };
    let there = if summary.were_there == 0 { String::new() } else { format!("; {} had been before", text::grouped(summary.were_there)) };
    session.output.result(&format!("{} of {of} {verb}{there}.", text::grouped(summary.changed)));
    if summary.snapshots.iter().any(|one| one.forgotten) {
        session.output.note("`bbackup prune` gives back the room.");
    }
    Done::well(&serde_json::json!({ "dry_run": arguments.dry_run, "summary": summary }))
}

fn line(one: &RewrittenSnapshot) -> String {
    let left = format!("without {} ({}) and {}", text::count(one.files, "file"), ByteSize(one.bytes), text::count(one.others, "other"));
    match (&one.target, one.forgotten) {
        (Some(target), false) if one.was_there => format!("{}  was written anew before, as {}, {left}", one.source.short(), target.short()),
        (Some(target), true) => format!("{}  is now {}, {left}", one.source.short(), target.short()),
        (Some(target), false) => format!("{}  stays, and {} is the same {left}", one.source.short(), target.short()),
        (None, _) => format!("{}  would be written anew {left}", one.source.short()),
    }
}
