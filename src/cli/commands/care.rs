//! `init`, `check`, `unlock`: looking after a repository.

use super::Done;
use crate::cli::arguments::{Check, Unlock};
use crate::cli::progress::Display;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::cli::{commands::to_value, request};
use crate::jobs::error::JobError;
use crate::jobs::open;
use crate::model::report::{Blame, Report};
use crate::model::size::ByteSize;

pub(in crate::cli) fn init(session: &Session) -> Result<Done, JobError> {
    let repository = session.repository(None)?;
    Done::well(&session.make(&repository)?)
}

pub(in crate::cli) fn check(session: &Session, arguments: &Check) -> Result<Done, JobError> {
    let read_data = request::read_data(arguments)?;
    let repository = session.open(&session.repository(None)?)?;
    let summary = {
        let display = Display::start(&session.output, "check");
        repository.check(read_data, &session.control, display.progress())?
    };
    for error in &summary.errors {
        session.output.warning(&safe(error));
    }
    for hint in &summary.hints {
        session.output.note(&format!("note: {}", safe(hint)));
    }
    let read = match summary.packs_read {
        0 => "the data itself was not read (--read-data does)".to_owned(),
        packs => format!(
            "{} of {} read and verified, {}",
            text::grouped(packs),
            text::count(summary.packs, "pack"),
            ByteSize(summary.bytes_read)
        ),
    };
    let looked_at = format!("{}, {}; {read}", text::count(summary.snapshots, "snapshot"), text::count(summary.blobs_used, "blob"));
    let data = to_value(&summary)?;
    if summary.errors.is_empty() {
        session.output.result(&format!("No errors were found: {looked_at}."));
        return Done::well(&summary);
    }
    let message = format!("The repository is damaged: {}.", text::count(summary.errors.len() as u64, "error"));
    let mut report = Report::new(Blame::Repository, "repository_damaged", message);
    session.output.note(&format!("Looked at {looked_at}."));
    session.output.error(&report);
    report.source = summary.errors;
    Ok(Done { code: report.exit_code(), data, errors: vec![report], envelope: true })
}

pub(in crate::cli) fn unlock(session: &Session, arguments: &Unlock) -> Result<Done, JobError> {
    let repository = session.repository(None)?;
    let password = session.password_of_existing(&repository)?;
    let removed = open::unlock(&repository, &password, arguments.remove_all)? as u64;
    session.output.result(&format!("{} removed.", text::count(removed, "lock")));
    Done::well(&serde_json::json!({ "removed": removed }))
}
