//! `tag`, `pin`, `unpin`: changing the tags of snapshots.

use super::Done;
use crate::cli::arguments::Narrow;
use crate::cli::arguments::tag::{Tag, Which};
use crate::cli::request;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::jobs::error::JobError;
use crate::jobs::select::Request;
use crate::jobs::tag::{self, Change, TagResult};
use crate::repository::contract::{TAG_APPLICATION, TAG_PINNED};

pub(in crate::cli) fn tag(session: &Session, arguments: &Tag) -> Result<Done, JobError> {
    let change = match &arguments.set {
        // restic's way to say that there are to be none.
        Some(tags) => Change::Set(request::tags(&tags.iter().filter(|tag| !tag.is_empty()).cloned().collect::<Vec<_>>())?),
        None => Change::Edit { add: request::tags(&arguments.add)?, remove: request::tags(&arguments.remove)? },
    };
    run(session, &arguments.which, &change)
}

pub(in crate::cli) fn pin(session: &Session, which: &Which, pinned: bool) -> Result<Done, JobError> {
    let pin = vec![TAG_PINNED.to_owned()];
    let (add, remove) = if pinned { (pin, Vec::new()) } else { (Vec::new(), pin) };
    run(session, which, &Change::Edit { add, remove })
}

fn run(session: &Session, which: &Which, change: &Change) -> Result<Done, JobError> {
    let mut tag = which.tag.clone();
    tag.extend(which.application.iter().map(|name| format!("{TAG_APPLICATION}{name}")));
    let narrowing = request::narrowing(&Narrow { set: None, host: which.host.clone(), tag, before: which.before.clone() })?;
    if which.snapshots.is_empty() && narrowing.is_empty() {
        let message = "it must be said which snapshots are meant";
        return Err(JobError::request("which_snapshots", message, "Name them, or narrow with --host, --application, --tag or --before."));
    }
    let repository = session.open_for(&session.repository(None)?, which.dry_run)?;
    let latest = Request { host: &session.config.host, machine: &session.config.machine, ..Request::default() };
    let result = tag::run(&*repository, &which.snapshots, &narrowing, &latest, change, which.dry_run, &session.control)?;
    tell(session, &result);
    let done = Done::well(&result)?;
    Ok(match result.failure {
        None => done,
        Some(report) => {
            session.output.error(&report);
            Done { code: 4, errors: vec![report], ..done }
        }
    })
}

fn tell(session: &Session, result: &TagResult) {
    let shown = |tags: &[String]| if tags.is_empty() { "-".to_owned() } else { safe(&tags.join(",")) };
    let rows: Vec<Vec<String>> = result
        .snapshots
        .iter()
        .map(|row| {
            let new = result.changed.iter().find(|one| one.old == row.snapshot);
            let new = new.map_or_else(|| "-".to_owned(), |one| one.new.short().to_owned());
            vec![row.snapshot.short().to_owned(), new, shown(&row.before), shown(&row.after)]
        })
        .collect();
    if !rows.is_empty() {
        for line in text::table(&["id", "new id", "tags", "new tags"], &rows) {
            session.output.result(&line);
        }
    }
    let verb = if result.dry_run { "would be changed" } else { "changed" };
    let same = match result.unchanged_snapshots {
        0 => String::new(),
        count => format!("; {} had these tags already", text::count(count, "snapshot")),
    };
    session.output.note(&format!("{} {verb}{same}.", text::count(result.changed_snapshots, "snapshot")));
}
