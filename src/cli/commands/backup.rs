//! `backup`: one run for each Engine that the chosen sets are of and each repository that they go to.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{Done, end_of, to_value};
use crate::cli::arguments::Backup;
use crate::cli::output::{Output, Verbosity};
use crate::cli::progress::Display;
use crate::cli::request;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::config::{BackupSet, RepositoryConfig};
use crate::jobs::error::JobError;
use crate::jobs::request::BackupRequest;
use crate::jobs::results::{ApplicationResult, BackupResult};
use crate::jobs::{backup, report};
use crate::model::application::{Consistency, QuiesceRecord};
use crate::model::outcome::{ItemOutcome, RunStatus};
use crate::model::report::{Blame, Report};
use crate::model::size::ByteSize;
use crate::repository::contract::{Repository, SnapshotSummary};

/// A summary line of `--json`, with restic's names.
#[derive(Serialize)]
struct Summary<'a> {
    message_type: &'static str,
    dry_run: bool,
    #[serde(flatten)]
    counts: &'a SnapshotSummary,
    total_duration: f64,
    snapshot_id: Option<&'a str>,
    application: &'a str,
    warnings: u64,
    /// Not with what was not stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    downtime_seconds: Option<f64>,
}

/// From where to where: the sets of one place are one run.
#[derive(PartialEq, Eq)]
struct Place {
    repository: Option<String>,
    engine: Option<String>,
}

pub(in crate::cli) fn run(session: &Session, arguments: &Backup) -> Result<Done, JobError> {
    let sets = request::sets(arguments, &session.config, session.chosen_engine())?;
    let tags = request::tags(&arguments.tag)?;
    let mut groups: Vec<(Place, Vec<BackupSet>)> = Vec::new();
    for set in sets {
        let place = Place { repository: set.repository.clone(), engine: set.engine.clone() };
        match groups.iter_mut().find(|(known, _)| *known == place) {
            Some((_, group)) => group.push(set),
            None => groups.push((place, vec![set])),
        }
    }
    let several = groups.iter().map(|(_, sets)| sets.len()).sum::<usize>() > 1;
    let mut runs = Vec::new();
    let mut errors = Vec::new();
    let mut codes = Vec::new();
    let (mut not_saved, mut is_down) = (Vec::new(), false);
    for (place, sets) in groups {
        let request = BackupRequest {
            sets: sets.clone(),
            tags: tags.clone(),
            full: arguments.full,
            dry_run: arguments.dry_run,
            estimate: session.output.has_bars() || session.output.is_json(),
            parallel: usize::from(arguments.parallel),
            before_restore: false,
        };
        match one(session, &place, request) {
            Ok(result) => {
                let (code, error) = end_of(result.status, session.interrupted());
                codes.push(code);
                let down: Vec<Report> = failures(&result).map(still_down).collect();
                is_down |= !down.is_empty();
                // What was saved is saved all the same.
                errors.extend(error.filter(|_| down.is_empty() || result.status != RunStatus::Failed));
                errors.extend(down);
                not_saved.extend(failed_of(&result, &place, &sets));
                runs.push(result);
            }
            // What goes to another repository is not lost because of this one.
            Err(error) if several && !session.interrupted() => {
                let mut report = report::of(&error);
                not_saved.extend(sets.iter().map(|set| NotSaved::of(&name_of(std::slice::from_ref(set)), &place, &report.message)));
                report.message = format!("{}{}: {}", name_of(&sets), place.suffix(), report.message);
                session.output.error(&report);
                codes.push(report.exit_code());
                errors.push(report);
            }
            Err(error) => return Err(error),
        }
        if session.interrupted() {
            break;
        }
    }
    if several {
        // Else the last table looks as if it were of everything.
        for one in &not_saved {
            session.output.note(&format!("Nothing was saved of {}: {}", one.what, one.error));
        }
    }
    let data = serde_json::json!({ "runs": runs, "not_saved": not_saved });
    let code = match worst(&codes) {
        // Of two Engines one is well: that is no excuse for what is down on the other.
        4 if is_down => 1,
        code => code,
    };
    Ok(Done { code, data: to_value(&data)?, errors, envelope: true })
}

/// Something of which nothing was saved, in words for people.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct NotSaved {
    /// The set, or what of it; and of which Engine.
    what: String,
    /// Why.
    error: String,
}

impl NotSaved {
    fn of(what: &str, place: &Place, error: &str) -> Self {
        Self { what: format!("{what}{}", place.suffix()), error: safe(error) }
    }
}

impl Place {
    /// Of which Engine it is, at the end of a name.
    fn suffix(&self) -> String {
        self.engine.as_ref().map_or_else(String::new, |engine| format!(" of the Engine `{}`", safe(engine)))
    }
}

/// The sets of one place, for people.
fn name_of(sets: &[BackupSet]) -> String {
    let names: Vec<String> = sets.iter().filter_map(|set| Some(format!("`{}`", safe(set.name.as_deref()?)))).collect();
    format!("{} {}", if names.len() == 1 { "set" } else { "sets" }, names.join(", "))
}

/// What failed as a whole in a run that saved other things.
fn failed_of(result: &BackupResult, place: &Place, sets: &[BackupSet]) -> Vec<NotSaved> {
    let has_failed = |one: &&ApplicationResult| !one.saved && one.items.is_empty() && !one.warnings.is_empty();
    let whose = |name: &str| {
        let by_name = |set: &&BackupSet| backup::name_of_applications(set) == name || backup::name_of_paths(set) == name;
        let set = sets.iter().find(by_name).filter(|set| set.name.is_some());
        set.map_or_else(|| safe(name), |set| name_of(std::slice::from_ref(set)))
    };
    let failed = result.applications.iter().filter(has_failed);
    failed.map(|one| NotSaved::of(&whose(&one.application), place, &one.warnings.join("; "))).collect()
}

/// The exit code of several runs: that of all if they agree, else in part, if any of them did anything.
pub(super) fn worst(codes: &[u8]) -> u8 {
    match codes {
        [] => 0,
        _ if codes.contains(&super::INTERRUPTED) => super::INTERRUPTED,
        [first, rest @ ..] if rest.iter().all(|code| code == first) => *first,
        _ if !codes.iter().any(|code| matches!(code, 0 | 4)) => 1,
        _ => 4,
    }
}

fn one(session: &Session, place: &Place, request: BackupRequest) -> Result<BackupResult, JobError> {
    let config = session.repository(place.repository.as_deref())?;
    let opened = open_or_make(session, place, &config, &request)?;
    let context = session.context_for(place.engine.as_deref(), &config, opened)?;
    let named = (config.name.as_deref() != Some("default") && !config.embedded).then(|| match &config.name {
        Some(name) => name.clone(),
        None => config.location.display().to_string(),
    });
    let named = session.again(named.as_deref());
    let result = {
        let display = Display::start(&session.output, "archival");
        session.run(backup::run(&context, request, &session.control, display.progress()))?
    };
    messages(&session.output, &result);
    tell(&session.output, &result, &named);
    Ok(result)
}

/// Opens the repository. The embedded default one is made when it is not there yet, but not for a request that cannot be
/// tried, and not in a dry run, which then gets none.
fn open_or_make(
    session: &Session,
    place: &Place,
    config: &RepositoryConfig,
    request: &BackupRequest,
) -> Result<Option<Arc<dyn Repository>>, JobError> {
    if session.is_to_be_made(config)? {
        if request.dry_run {
            return Ok(None);
        }
        session.run(backup::check(&session.context_for(place.engine.as_deref(), config, None)?, request))?;
        session.make_unless_another_does(config)?;
    } else if !request.dry_run {
        session.wait_for_maker(config)?;
    }
    session.open_for(config, request.dry_run).map(Some)
}

fn messages(output: &Output, result: &BackupResult) {
    for application in &result.applications {
        output.message(&Summary {
            message_type: "summary",
            dry_run: result.dry_run,
            counts: &application.summary,
            total_duration: application.duration.as_secs_f64(),
            snapshot_id: application.snapshot.as_ref().map(|id| id.0.as_str()),
            application: &application.application,
            warnings: application.warning_count(),
            downtime_seconds: application.downtime.map(|time| time.as_secs_f64()),
        });
    }
}

/// The summary for people.
fn tell(output: &Output, result: &BackupResult, options: &str) {
    for line in warnings(result) {
        output.warning(&line);
    }
    let of_applications =
        result.applications.iter().flat_map(|application| application.notes.iter().map(|note| (&application.application, note)));
    for (name, note) in of_applications {
        output.note(&format!("note: {}: {}", safe(name), safe(note)));
    }
    for note in &result.notes {
        output.note(&format!("note: {}", safe(note)));
    }
    if output.verbosity() == Verbosity::Verbose {
        for line in result.applications.iter().flat_map(|application| application.quiesced.iter().map(down)) {
            output.note(&line);
        }
    }
    for line in lines(result, options) {
        output.note(&line);
    }
    // Last, where it is seen.
    for report in failures(result).map(still_down) {
        output.error(&report);
    }
}

/// For how long a container was down, and why longer or otherwise than planned.
fn down(record: &QuiesceRecord) -> String {
    let verb = if record.action == Consistency::Pause { "paused" } else { "stopped" };
    let took = text::duration(Duration::try_from_secs_f64(record.downtime_seconds).unwrap_or_default());
    let note = record.note.as_ref().map_or_else(String::new, |note| format!(" ({})", safe(note)));
    format!("{} was {verb} for {took}{note}", safe(&record.container))
}

/// Containers that are down because of the backup: the loudest there is.
fn failures(result: &BackupResult) -> impl Iterator<Item = (String, String)> {
    result
        .applications
        .iter()
        .flat_map(|application| application.failures.iter().map(|failure| (safe(&application.application), safe(failure))))
}

fn still_down((name, failure): (String, String)) -> Report {
    let report = Report::new(Blame::Environment, "still_down", format!("{name}: {failure}"));
    report.hint("Start it by hand; bbackup tries again at its next start.")
}

/// Everything that somebody should look at, except for the paths, which were told when they were met.
fn warnings(result: &BackupResult) -> Vec<String> {
    let mut lines: Vec<String> = result.warnings.iter().map(|warning| safe(warning)).collect();
    for application in &result.applications {
        let name = safe(&application.application);
        lines.extend(application.warnings.iter().map(|warning| format!("{name}: {}", safe(warning))));
        for item in &application.items {
            let label = safe(&item.item);
            match &item.outcome {
                ItemOutcome::Complete { .. } => {}
                ItemOutcome::Partial { reasons, .. } => {
                    lines.push(format!("{name}: {label} is not whole: {}", safe(&reasons.join("; "))));
                }
                ItemOutcome::Failed { reason } => lines.push(format!("{name}: {label} is not saved: {}", safe(reason))),
                ItemOutcome::Skipped => lines.push(format!("{name}: {label} was skipped")),
            }
        }
    }
    lines
}

/// `options` are those with which this repository is found again.
fn lines(result: &BackupResult, options: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    if !result.applications.is_empty() {
        lines.extend(text::table(
            &["application", "files", "changed", "size", "new", "stored", "time", "down", "warnings", "snapshot"],
            &result.applications.iter().map(row).collect::<Vec<_>>(),
        ));
        lines.push(String::new());
    }
    let place = match &result.repository {
        Some(info) => format!(" in {}", safe(&info.location)),
        None => String::new(),
    };
    let took = text::duration(result.duration);
    let snapshots = result.applications.iter().filter(|application| application.snapshot.is_some()).count() as u64;
    if result.dry_run {
        lines.push(format!("Dry run: nothing was written{place}. It took {took}."));
        return lines;
    }
    lines.push(match result.status {
        RunStatus::Success => format!("Done in {took}: {}{place}.", text::count(snapshots, "snapshot")),
        RunStatus::Warnings(_) => format!("Done with warnings in {took}: {}{place}.", text::count(snapshots, "snapshot")),
        RunStatus::Skipped => "Nothing was done: everything was skipped.".to_owned(),
        RunStatus::Failed => format!("Failed after {took}: {}{place}.", text::count(snapshots, "snapshot")),
        RunStatus::Cancelled | RunStatus::Interrupted => {
            format!("Stopped after {took}: {}{place}. What was stored is used by the next run.", text::count(snapshots, "snapshot"))
        }
    });
    if snapshots > 0 {
        lines.push(format!("To bring it back:  bbackup restore run:{}{options}", result.run));
        lines.push(format!("To look at it:     bbackup snapshots run:{}{options}", result.run));
    }
    lines
}

fn row(application: &ApplicationResult) -> Vec<String> {
    let counts = &application.summary;
    vec![
        safe(&application.application),
        text::grouped(counts.total_files_processed),
        text::grouped(counts.files_new + counts.files_changed),
        ByteSize(counts.total_bytes_processed).to_string(),
        ByteSize(counts.data_added).to_string(),
        ByteSize(counts.data_added_packed).to_string(),
        text::duration(application.duration),
        application.downtime.map_or_else(|| "-".to_owned(), |time: Duration| text::duration(time)),
        match application.warning_count() {
            0 => "-".to_owned(),
            count => text::grouped(count),
        },
        application.snapshot.as_ref().map_or("-", |id| id.short()).to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::jobs::results::ItemResult;
    use crate::repository::contract::{RepositoryInfo, SnapshotId};

    fn result() -> BackupResult {
        let mut application = ApplicationResult::new("shop\x1b");
        application.snapshot = Some(SnapshotId("ab12cd34".repeat(8)));
        application.summary = SnapshotSummary {
            files_new: 3,
            files_changed: 1,
            total_files_processed: 1_203,
            total_bytes_processed: 1_288_490_188,
            data_added: 2_048,
            data_added_packed: 1_024,
            ..SnapshotSummary::default()
        };
        application.items = vec![ItemResult { item: "volume db".to_owned(), outcome: ItemOutcome::Failed { reason: "gone".to_owned() } }];
        application.duration = Duration::from_millis(14_200);
        application.downtime = Some(Duration::from_millis(3_200));
        BackupResult {
            run: "01ARZ".to_owned(),
            status: RunStatus::Warnings(1),
            dry_run: false,
            applications: vec![application],
            warnings: Vec::new(),
            notes: Vec::new(),
            repository: Some(RepositoryInfo { id: "f".repeat(64), location: "/backup".to_owned(), engine: "restic", version: 2 }),
            duration: Duration::from_secs(15),
        }
    }

    #[test]
    fn the_summary_says_what_where_and_how_to_get_it_back() {
        assert_eq!(
            lines(&result(), " --repo main"),
            [
                "",
                "application  files  changed  size     new      stored   time  down   warnings  snapshot",
                "shop\\x1b     1 203  4        1.2 GiB  2.0 KiB  1.0 KiB  14 s  3.2 s  1         ab12cd34",
                "",
                "Done with warnings in 15 s: 1 snapshot in /backup.",
                "To bring it back:  bbackup restore run:01ARZ --repo main",
                "To look at it:     bbackup snapshots run:01ARZ --repo main",
            ]
        );
        assert_eq!(warnings(&result()), ["shop\\x1b: volume db is not saved: gone"]);
    }

    #[test]
    fn the_json_summary_has_restics_names() {
        let result = result();
        let application = &result.applications[0];
        let summary = Summary {
            message_type: "summary",
            dry_run: false,
            counts: &application.summary,
            total_duration: 14.2,
            snapshot_id: application.snapshot.as_ref().map(|id| id.0.as_str()),
            application: &application.application,
            warnings: 1,
            downtime_seconds: Some(3.2),
        };
        let value = serde_json::to_value(&summary).unwrap();
        for name in [
            "message_type",
            "files_new",
            "files_changed",
            "files_unmodified",
            "dirs_new",
            "dirs_changed",
            "dirs_unmodified",
            "data_blobs",
            "tree_blobs",
            "data_added",
            "data_added_packed",
            "total_files_processed",
            "total_bytes_processed",
            "total_duration",
            "snapshot_id",
            "downtime_seconds",
        ] {
            assert!(value.get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn runs_that_end_differently_are_done_in_part() {
        for (codes, code) in
            [(&[0, 0][..], 0), (&[0, 11], 4), (&[11, 11], 11), (&[3, 1], 1), (&[3, 4], 4), (&[4, 0], 4), (&[0, 130], 130), (&[1], 1)]
        {
            assert_eq!(worst(codes), code, "{codes:?}");
        }
    }
}
