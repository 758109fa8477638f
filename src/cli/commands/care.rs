//! `init`, `check`, `unlock`: looking after a repository; `recover`: after containers.

use super::Done;
use crate::cli::arguments::{Check, Init, Unlock};
use crate::cli::output::Output;
use crate::cli::progress::Display;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::cli::{commands::to_value, request};
use crate::config::password::PasswordSource;
use crate::jobs::error::JobError;
use crate::jobs::open;
use crate::model::report::{Blame, Report};
use crate::model::size::ByteSize;
use crate::platform::clock;
use crate::repository::contract::{LockHolder, ReadData};
use crate::service::recovery::{self, Recovered};

pub(in crate::cli) fn init(session: &Session, arguments: &Init) -> Result<Done, JobError> {
    let repository = session.repository(None)?;
    let chunker = match &arguments.copy_chunker_params_from {
        Some(wanted) => {
            let file = arguments.from_password_file.clone().map(PasswordSource::File);
            let given = file.or_else(|| arguments.from_password_command.clone().map(PasswordSource::Command));
            Some(session.chunker_of(&session.other_repository(wanted, given)?)?)
        }
        None => None,
    };
    if arguments.dry_run {
        let new_key = session.plan_to_make(&repository)?;
        let location = repository.location.display().to_string();
        session.output.result(&format!("A repository would be made at {}.", safe(&location)));
        if let Some(key) = &new_key {
            session.output.result(&format!("A password would be made up and kept in {}.", safe(&key.display().to_string())));
        }
        return Done::well(&serde_json::json!({ "dry_run": true, "location": location, "new_key": new_key }));
    }
    Done::well(&session.make(&repository, chunker)?)
}

pub(in crate::cli) fn check(session: &Session, arguments: &Check) -> Result<Done, JobError> {
    let read_data = request::read_data(arguments)?;
    let is_to_read = read_data != ReadData::None;
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
        0 if is_to_read => format!("none of the {} is in this part", text::count(summary.packs, "pack")),
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
    let dry_run = arguments.dry_run;
    let (locks, staying) = open::unlock(&repository, &password, arguments.remove_all, dry_run)?;
    for lock in &locks {
        session.output.result(&line(&lock.id, lock.holder.as_ref()));
    }
    for lock in &staying {
        let until = lock.stale_at.map_or_else(String::new, |time| format!(" before {}", text::time(time, &clock::local_zone())));
        let line = line(&lock.id, lock.holder.as_ref());
        session.output.result(&format!("{line}: stays, as somebody may hold it; unless it is refreshed, it is not stale{until}"));
    }
    if !staying.is_empty() {
        session.output.note("If nobody is at work in the repository: `bbackup unlock --remove-all`.");
    }
    let count = locks.len() as u64;
    session.output.result(&format!("{} {}.", text::count(count, "lock"), if dry_run { "would be removed" } else { "removed" }));
    Done::well(&serde_json::json!({ "dry_run": dry_run, "removed": if dry_run { 0 } else { count }, "locks": locks, "staying": staying }))
}

fn line(id: &str, holder: Option<&LockHolder>) -> String {
    let id = id.get(..8).unwrap_or(id);
    let Some(holder) = holder else { return format!("{id}  cannot be read") };
    let kind = if holder.exclusive { "exclusive" } else { "shared" };
    let since = text::time(holder.since, &clock::local_zone());
    format!("{id}  {kind}, since {since}, by process {} of {} on {}", holder.pid, safe(&holder.user), safe(&holder.host))
}

pub(in crate::cli) fn recover(session: &Session) -> Result<Done, JobError> {
    let (engines, state) = (session.engines(), &session.directories.state);
    let mut recovered = session.run_quietly(recovery::at_start(&engines, state))?;
    session.run_quietly(recovery::after_restores(&engines, state, &mut recovered))?;
    for sentence in &recovered.done {
        session.output.result(&safe(sentence));
    }
    let mut errors = still_down(&session.output, &recovered);
    let mut code = errors.first().map_or(0, Report::exit_code);
    if let Some(report) = elsewhere(&session.output, &recovered) {
        errors.push(report);
        code = if code == 0 { 4 } else { code };
    }
    if recovered.done.is_empty() && errors.is_empty() {
        session.output.result("Nothing was left down.");
    }
    let data = to_value(
        &serde_json::json!({ "done": recovered.done, "failed": recovered.failed, "half_restored": recovered.half_restored, "elsewhere": recovered.elsewhere }),
    )?;
    Ok(Done { code, data, errors, envelope: true })
}

/// Tells what is down on Engines that nobody asked just now.
pub(in crate::cli) fn elsewhere(output: &Output, recovered: &Recovered) -> Option<Report> {
    if recovered.elsewhere.is_empty() {
        return None;
    }
    let names = recovered.elsewhere.iter().map(|name| safe(name)).collect::<Vec<_>>().join(", ");
    let message = format!("A run that was killed has left containers down on another Docker Engine: {names}.");
    let report = Report::new(Blame::User, "another_engine", message);
    let report = report.hint("Run `bbackup recover` with the address of that Engine (DOCKER_HOST, or docker.host in the configuration).");
    output.error(&report);
    Some(report)
}

/// Tells what is still down because of a run that died.
pub(in crate::cli) fn still_down(output: &Output, recovered: &Recovered) -> Vec<Report> {
    let down = |sentence: &String| {
        let report = Report::new(Blame::Environment, "still_down", sentence.clone());
        report.hint("Start it by hand; bbackup tries again at its next start.")
    };
    let half = |sentence: &String| {
        let report = Report::new(Blame::Environment, "half_restored", sentence.clone());
        report.hint("Until then nothing is started on half of its data.")
    };
    let down: Vec<Report> = recovered.failed.iter().map(down).chain(recovered.half_restored.iter().map(half)).collect();
    for report in &down {
        output.error(report);
    }
    down
}
