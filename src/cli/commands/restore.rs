//! `restore`: which snapshots, what of them, the preview, and what was done.

use std::sync::Arc;

use super::{Done, end_of, to_value};
use crate::cli::arguments::Restore;
use crate::cli::output::Output;
use crate::cli::progress::Display;
use crate::cli::request;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::config::{Config, DEFAULT_ENGINE};
use crate::jobs::error::JobError;
use crate::jobs::request::RestoreJob;
use crate::jobs::results::{RestorePreview, RestoreResult, RestoredApplication};
use crate::jobs::select::Request;
use crate::jobs::{restore, snapshots};
use crate::model::outcome::RunStatus;
use crate::model::report::{Blame, Report};
use crate::model::size::ByteSize;
use crate::repository::contract::SnapshotId;

pub(in crate::cli) fn run(session: &Session, arguments: &Restore) -> Result<Done, JobError> {
    refuse_another_engine(session, arguments)?;
    let selection = request::restore_selection(arguments)?;
    let renames = request::renames(&arguments.rename)?;
    let narrowing = request::narrowing(&arguments.narrow)?;
    let to = arguments.to.as_deref().map(absolute_target).transpose()?;
    let config = session.repository(None)?;
    let repository = session.open_for(&config, arguments.dry_run)?;
    let items = request::items(&selection);
    let Config { host, machine, .. } = &*session.config;
    let asked = Request { all: arguments.all, host, machine, items: &items };
    let chosen = snapshots::choose(&*repository, &arguments.snapshot, &narrowing, &asked)?;
    for note in &chosen.notes {
        session.output.note(&format!("note: {note}"));
    }
    let job = RestoreJob {
        snapshots: chosen.snapshots,
        warnings: chosen.warnings,
        selection,
        to,
        renames,
        as_new: arguments.as_new,
        in_place: arguments.in_place,
        save_first: session.config.docker.save_before_restore && !arguments.no_save_first,
        no_start: arguments.no_start,
        dry_run: arguments.dry_run,
    };
    let context = session.context(&config, Some(Arc::clone(&repository)));
    let plan = session.run(restore::plan(&context, job, &session.control))?;
    let preview = plan.preview().clone();
    tell_warnings(&session.output, &preview);
    if !preview.conflicts.is_empty() {
        return conflicts(&session.output, &preview);
    }
    if arguments.dry_run {
        tell_preview(&session.output, &preview);
        // As the restore itself would end.
        let (code, error) = end_of(RunStatus::with(preview.warnings.len()), false);
        let data = serde_json::json!({ "dry_run": true, "preview": preview });
        return Ok(Done { code, data, errors: error.into_iter().collect(), envelope: true });
    }
    let result = {
        let display = Display::start(&session.output, "restore");
        session.run(restore::execute(&context, plan, &session.control, display.progress()))?
    };
    messages(&session.output, &result);
    tell(&session.output, &result);
    let (code, error) = end_of(result.status, session.interrupted());
    Ok(Done { code, data: to_value(&result)?, errors: error.into_iter().collect(), envelope: true })
}

/// What a set saves goes back to the set's own Engine, unless somebody says another.
fn refuse_another_engine(session: &Session, arguments: &Restore) -> Result<(), JobError> {
    let set = arguments.narrow.set.as_deref().and_then(|name| session.config.set(name));
    let Some((set, engine)) = set.and_then(|set| Some((set.name.as_deref()?, set.engine.as_deref()?))) else { return Ok(()) };
    if arguments.to.is_some() || session.chosen_engine().is_some() {
        return Ok(());
    }
    let message =
        format!("the set `{}` is of the Docker Engine `{}`, and that is not where this would restore to", safe(set), safe(engine));
    let hint = format!("Add --engine {}, or --engine {DEFAULT_ENGINE} if it is to come to this one.", safe(engine));
    Err(JobError::request("another_engine", message, hint))
}

/// The folder of `--to`, which need not exist yet.
fn absolute_target(path: &std::path::Path) -> Result<std::path::PathBuf, JobError> {
    use std::os::unix::ffi::OsStringExt as _;
    if path.exists() {
        return request::absolute(path);
    }
    Ok(std::ffi::OsString::from_vec(request::in_snapshot(path)?).into())
}

fn tell_warnings(output: &Output, preview: &RestorePreview) {
    for note in &preview.notes {
        output.note(&format!("note: {}", safe(note)));
    }
    for warning in &preview.warnings {
        output.warning(&safe(warning));
    }
}

/// All that stands in the way, at once; nothing was done.
fn conflicts(output: &Output, preview: &RestorePreview) -> Result<Done, JobError> {
    let count = text::count(preview.conflicts.len() as u64, "reason");
    let mut report = Report::new(Blame::User, "conflicts", format!("It cannot be restored so, for {count}; nothing was changed."));
    for conflict in &preview.conflicts {
        // Most messages begin with the item themselves.
        let named = conflict.message.contains(conflict.item.strip_prefix("path ").unwrap_or(&conflict.item));
        let line = if named { conflict.message.clone() } else { format!("{}: {}", conflict.item, conflict.message) };
        report.source.push(safe(&line));
        if !conflict.hint.is_empty() && !report.hints.contains(&conflict.hint) {
            report.hints.push(safe(&conflict.hint));
        }
    }
    output.error(&report);
    Ok(Done { code: report.exit_code(), data: to_value(&serde_json::json!({ "preview": preview }))?, errors: vec![report], envelope: true })
}

fn tell_preview(output: &Output, preview: &RestorePreview) {
    for step in &preview.steps {
        let detail = step.detail.as_deref().map_or_else(String::new, |detail| format!("  ({})", safe(detail)));
        output.result(&format!("{:<18} {}{detail}", safe(&step.action), safe(&step.name)));
    }
    output.note("Dry run: nothing was changed.");
}

fn messages(output: &Output, result: &RestoreResult) {
    for application in &result.applications {
        output.message(&serde_json::json!({
            "message_type": "summary",
            "application": application.application,
            "snapshot_id": application.snapshot,
            "files_restored": application.files_restored,
            "files_skipped": application.files_unchanged,
            "bytes_restored": application.bytes_restored,
            "seconds_elapsed": application.duration.as_secs(),
        }));
    }
}

fn tell(output: &Output, result: &RestoreResult) {
    for application in &result.applications {
        let name = safe(&application.application);
        let saved: Vec<&str> = application.saved_first.iter().map(SnapshotId::short).collect();
        if !saved.is_empty() {
            let kind = if saved.len() == 1 { "snapshot" } else { "snapshots" };
            output.note(&format!("note: {name}: what was there before is in {kind} {}", saved.join(", ")));
        }
        for warning in &application.warnings {
            output.warning(&format!("{name}: {}", safe(warning)));
        }
        if let Some(failure) = &application.failure {
            output.warning(&format!("{name}: {}", safe(failure)));
        }
    }
    for line in lines(result) {
        output.note(&line);
    }
}

fn lines(result: &RestoreResult) -> Vec<String> {
    let mut lines = vec![String::new()];
    let rows: Vec<_> = result.applications.iter().map(row).collect();
    lines.extend(text::table(&["application", "written", "bytes", "as before", "problems", "started", "time", "snapshot"], &rows));
    lines.push(String::new());
    let took = text::duration(result.duration);
    lines.push(match result.status {
        RunStatus::Success => format!("Restored in {took}."),
        RunStatus::Warnings(_) => format!("Restored with warnings in {took}."),
        RunStatus::Skipped => "Nothing was restored: everything was skipped.".to_owned(),
        RunStatus::Failed => format!("Not restored (after {took})."),
        // What failed has said itself what became of what it had written.
        RunStatus::Cancelled | RunStatus::Interrupted if result.applications.iter().any(|one| one.failure.is_some()) => {
            format!("Stopped after {took}.")
        }
        RunStatus::Cancelled | RunStatus::Interrupted => format!("Stopped after {took}: what was restored until then is there."),
    });
    lines
}

fn row(application: &RestoredApplication) -> Vec<String> {
    let started = &application.started;
    vec![
        safe(&application.application),
        text::grouped(application.files_restored),
        ByteSize(application.bytes_restored).to_string(),
        text::grouped(application.files_unchanged),
        match application.problems.len() {
            0 => "-".to_owned(),
            count => text::grouped(count as u64),
        },
        if started.is_empty() { "-".to_owned() } else { safe(&started.join(",")) },
        text::duration(application.duration),
        application.snapshot.short().to_owned(),
    ]
}
