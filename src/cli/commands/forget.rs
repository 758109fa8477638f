//! `forget`: snapshots that no rule keeps, or that are named, are removed; one plan for each repository that is meant.

use super::backup::worst;
use super::{Done, end_of, to_value};
use crate::cli::arguments::forget::{Forget, Rules};
use crate::cli::progress::Display;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::config::{BackupSet, Config};
use crate::jobs::error::JobError;
use crate::jobs::forget::{self, ForgetGroup, ForgetRequest, ForgetResult, Policy, What};
use crate::jobs::report;
use crate::jobs::select::{Narrowing, Request};
use crate::model::outcome::RunStatus;
use crate::model::report::Report;
use crate::model::retention::{Retention, tag_list};
use crate::model::size::ByteSize;
use crate::platform::clock;
use crate::repository::contract::prune::{PruneRequest, PruneSummary};
use crate::repository::contract::{Repository, TAG_APPLICATION, TAG_RUN};

/// What was done in one repository.
#[derive(serde::Serialize)]
struct Outcome {
    #[serde(flatten)]
    forgotten: ForgetResult,
    /// What the prune behind it did.
    prune: Option<PruneSummary>,
    /// Why there was none; the snapshots are gone all the same.
    #[serde(skip)]
    unpruned: Option<Report>,
}

pub(in crate::cli) fn forget(session: &Session, arguments: &Forget) -> Result<Done, JobError> {
    let parts = parts(session, arguments)?;
    let several = parts.len() > 1;
    let (mut outcomes, mut errors, mut codes): (Vec<Outcome>, Vec<Report>, Vec<u8>) = Default::default();
    for (repository, what) in parts {
        match one(session, arguments, repository.as_deref(), what) {
            Ok(outcome) => {
                let (code, error) = end_of(outcome.forgotten.status, session.interrupted());
                codes.push(code);
                errors.extend(error);
                if let Some(report) = &outcome.unpruned {
                    codes.push(report.exit_code());
                    errors.push(report.clone());
                }
                outcomes.push(outcome);
            }
            // What another repository holds has nothing to do with this one.
            Err(error) if several && !session.interrupted() => {
                let report = report::of(&error);
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
    Ok(Done { code: worst(&codes), data: to_value(&serde_json::json!({ "repositories": outcomes }))?, errors, envelope: true })
}

/// What is to be done in which repository (none: the default one).
fn parts(session: &Session, arguments: &Forget) -> Result<Vec<(Option<String>, What)>, JobError> {
    let rules = retention(&arguments.rules);
    let narrowing = narrowing(arguments);
    let is_set = |word: &&String| session.config.set(word).is_some();
    let named_sets: Vec<&String> = arguments.words.iter().filter(is_set).collect();
    if named_sets.len() < arguments.words.len() {
        return snapshots_only(arguments, &named_sets, rules.is_some(), narrowing);
    }
    if arguments.words.is_empty() && (rules.is_some() || arguments.unsafe_allow_remove_all) {
        let retention = match rules {
            Some(rules) => checked(rules)?,
            None if narrowing.is_empty() => {
                let message = "this would remove every snapshot of the repository";
                return Err(JobError::request("no_rules", message, "Narrow it with --set, --host, --application or --tag, or give rules."));
            }
            None => Retention::default(),
        };
        return Ok(vec![(None, What::Policies(vec![Policy { set: None, retention, narrowing, group_by: arguments.group_by }]))]);
    }
    of_sets(session, arguments, &named_sets, rules)
}

fn snapshots_only(
    arguments: &Forget,
    sets: &[&String],
    has_rules: bool,
    narrowing: Narrowing,
) -> Result<Vec<(Option<String>, What)>, JobError> {
    if let Some(set) = sets.first() {
        let other = arguments.words.iter().find(|word| !sets.contains(word)).map_or("", String::as_str);
        let message = format!("`{}` is a backup set and `{}` is none", safe(set), safe(other));
        return Err(JobError::request(
            "sets_and_snapshots",
            message,
            "Forget snapshots by name and by the rules of sets one after the other.",
        ));
    }
    if has_rules {
        let word = arguments.words.first().map_or("", String::as_str);
        let message = format!("`{}` is no backup set of the configuration, and rules do not go with single snapshots", safe(word));
        return Err(JobError::request("rules_and_snapshots", message, "Leave out the rules, or the names."));
    }
    Ok(vec![(None, What::Named { words: arguments.words.clone(), narrowing })])
}

fn of_sets(
    session: &Session,
    arguments: &Forget,
    named: &[&String],
    rules: Option<Retention>,
) -> Result<Vec<(Option<String>, What)>, JobError> {
    let narrowing = narrowing(arguments);
    let rules = rules.map(checked).transpose()?;
    let chosen = |set: &&BackupSet| match named {
        [] => set.enabled && set.retention.is_some(),
        named => named.iter().any(|name| set.name.as_deref() == Some(name.as_str())),
    };
    let mut parts: Vec<(Option<String>, What)> = Vec::new();
    for set in session.config.sets.iter().filter(chosen) {
        let name = set.name.clone().unwrap_or_default();
        let Some(retention) = rules.clone().or_else(|| set.retention.clone()) else {
            let message = format!("the set `{}` has no retention in the configuration", safe(&name));
            return Err(JobError::request("no_rules", message, "Give it a `retention`, or rules here: --keep-last 7."));
        };
        // Another host may have a set of the same name with rules of its own.
        let hosts = match narrowing.hosts.as_slice() {
            [] => {
                let config = session.config_for(set.engine.as_deref().or(session.chosen_engine()))?;
                vec![config.host.clone(), config.machine.clone()]
            }
            given => given.to_vec(),
        };
        let narrowing = Narrowing { set: Some(name.clone()), hosts, ..narrowing.clone() };
        let policy = Policy { set: Some(name), retention, narrowing, group_by: arguments.group_by };
        match parts.iter_mut().find(|(repository, _)| *repository == set.repository) {
            Some((_, What::Policies(policies))) => policies.push(policy),
            _ => parts.push((set.repository.clone(), What::Policies(vec![policy]))),
        }
    }
    if parts.is_empty() {
        let message = "nothing says what is kept: no enabled set of the configuration has a retention";
        return Err(JobError::request("no_rules", message, "Give rules (--keep-daily 7), name snapshots, or give a set a `retention`."));
    }
    Ok(parts)
}

fn narrowing(arguments: &Forget) -> Narrowing {
    let narrow = &arguments.narrow;
    let mut tags = narrow.tag.clone();
    tags.extend(narrow.application.iter().map(|name| format!("{TAG_APPLICATION}{name}")));
    Narrowing { set: narrow.set.clone(), hosts: narrow.host.iter().cloned().collect(), tags, before: None }
}

/// The rules of the command line; none if there are none.
fn retention(keep: &Rules) -> Option<Retention> {
    let rules = Retention {
        keep_last: keep.keep_last.unwrap_or_default(),
        keep_hourly: keep.keep_hourly.unwrap_or_default(),
        keep_daily: keep.keep_daily.unwrap_or_default(),
        keep_weekly: keep.keep_weekly.unwrap_or_default(),
        keep_monthly: keep.keep_monthly.unwrap_or_default(),
        keep_yearly: keep.keep_yearly.unwrap_or_default(),
        keep_within: keep.keep_within.unwrap_or_default(),
        keep_within_hourly: keep.keep_within_hourly.unwrap_or_default(),
        keep_within_daily: keep.keep_within_daily.unwrap_or_default(),
        keep_within_weekly: keep.keep_within_weekly.unwrap_or_default(),
        keep_within_monthly: keep.keep_within_monthly.unwrap_or_default(),
        keep_within_yearly: keep.keep_within_yearly.unwrap_or_default(),
        keep_tags: keep.keep_tag.iter().map(|text| tag_list(text)).collect(),
        min_keep: keep.min_keep.unwrap_or_default(),
        max_size: keep.max_size,
    };
    // `--keep-last 0` is there and says nothing: that is to be told, not to be passed over.
    let is_given = [keep.keep_last, keep.keep_hourly, keep.keep_daily, keep.keep_weekly, keep.keep_monthly, keep.keep_yearly]
        .iter()
        .any(Option::is_some)
        || [
            keep.keep_within,
            keep.keep_within_hourly,
            keep.keep_within_daily,
            keep.keep_within_weekly,
            keep.keep_within_monthly,
            keep.keep_within_yearly,
        ]
        .iter()
        .any(Option::is_some);
    (is_given || rules != Retention::default()).then_some(rules)
}

fn checked(rules: Retention) -> Result<Retention, JobError> {
    if rules.keep_tags.iter().any(Vec::is_empty) {
        return Err(JobError::request("bad_rules", "a --keep-tag names no tag", "Write --keep-tag NAME."));
    }
    rules.check().map_err(|message| JobError::request("bad_rules", format!("these rules cannot be meant: {message}"), ""))?;
    Ok(rules)
}

fn one(session: &Session, arguments: &Forget, repository: Option<&str>, what: What) -> Result<Outcome, JobError> {
    let repository = session.open_for(&session.repository(repository)?, arguments.dry_run)?;
    refuse_ambiguous(&*repository, &what)?;
    let request = ForgetRequest { what, remove_all: arguments.unsafe_allow_remove_all, dry_run: arguments.dry_run };
    let Config { host, machine, .. } = &*session.config;
    let plan = forget::plan(&*repository, &request, &Request { host, machine, ..Request::default() }, &session.control)?;
    tell_plan(session, plan.preview());
    let forgotten = forget::execute(&*repository, plan, &session.control)?;
    for problem in &forgotten.problems {
        session.output.warning(&format!("{}: {}", safe(&problem.path), safe(&problem.message)));
    }
    let count = text::count(forgotten.removed.len() as u64, "snapshot");
    session.output.note(&match (forgotten.dry_run, forgotten.removed.len()) {
        (_, 0) => "No snapshot goes.".to_owned(),
        (true, _) => format!("{count} would be removed."),
        (false, _) if arguments.prune => format!("{count} removed."),
        (false, _) => format!("{count} removed. `bbackup prune` gives back the room of what only they held."),
    });
    let (prune, unpruned) = match prune(session, arguments, &*repository, &forgotten) {
        Ok(prune) => (prune, None),
        Err(error) if session.interrupted() => return Err(error),
        Err(error) => {
            let report = report::of(&error).hint("Removing the snapshots succeeded; it is only the prune that failed.");
            session.output.error(&report);
            (None, Some(report))
        }
    };
    Ok(Outcome { forgotten, prune, unpruned })
}

/// A set whose name is also the beginning of a snapshot's id could be either.
fn refuse_ambiguous(repository: &dyn Repository, what: &What) -> Result<(), JobError> {
    let What::Policies(policies) = what else { return Ok(()) };
    for set in policies.iter().filter_map(|policy| policy.set.as_deref()) {
        if !set.starts_with(TAG_RUN) && set.bytes().all(|byte| byte.is_ascii_hexdigit()) && forget::is_snapshot(repository, set)? {
            let message = format!("`{}` is a backup set and the beginning of a snapshot's id", safe(set));
            return Err(JobError::request("set_or_snapshot", message, "Rename the set, or give rules with --set."));
        }
    }
    Ok(())
}

/// Prunes once something is gone; never after something went wrong.
fn prune(
    session: &Session,
    arguments: &Forget,
    repository: &dyn Repository,
    forgotten: &ForgetResult,
) -> Result<Option<PruneSummary>, JobError> {
    if !arguments.prune || forgotten.removed.is_empty() {
        return Ok(None);
    }
    if forgotten.dry_run {
        session.output.note("What a prune would free is known once the snapshots are gone.");
        return Ok(None);
    }
    if forgotten.status != RunStatus::Success {
        session.output.warning("It is not pruned, as not all went well.");
        return Ok(None);
    }
    let summary = {
        let display = Display::start(&session.output, "prune");
        repository.prune(&PruneRequest::default(), &session.control, display.progress())?
    };
    for line in super::prune::lines(&summary) {
        session.output.result(&line);
    }
    Ok(Some(summary))
}

fn tell_plan(session: &Session, plan: &ForgetResult) {
    for group in &plan.groups {
        for line in lines(group) {
            session.output.result(&line);
        }
    }
    for size in plan.sizes.iter().filter(|size| size.exceeded) {
        session.output.warning(&format!("What has to stay takes {}, which is more than max_size ({}).", size.kept, size.limit));
    }
    for size in plan.sizes.iter().filter(|size| !size.exceeded) {
        session.output.note(&format!("What is kept takes {} of {}.", size.kept, ByteSize(size.limit.0)));
    }
}

fn lines(group: &ForgetGroup) -> Vec<String> {
    let zone = clock::local_zone();
    let mut rows: Vec<(jiff::Timestamp, Vec<String>)> = Vec::new();
    for (word, all) in [("keep", &group.reasons), ("remove", &group.remove_reasons)] {
        for why in all {
            let snapshot = &why.snapshot;
            let reasons = if why.matches.is_empty() { "-".to_owned() } else { safe(&why.matches.join(", ")) };
            let cells = vec![word.to_owned(), snapshot.short_id.clone(), text::time(snapshot.instant, &zone), reasons];
            rows.push((snapshot.instant, cells));
        }
    }
    rows.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, cells)| cells).collect();
    let set = group.set.as_ref().map_or_else(String::new, |set| format!("set {}, ", safe(set)));
    let heading = format!("{set}{}: {} kept, {} removed", safe(&group.key.to_string()), group.keep.len(), group.remove.len());
    let table = text::table(&["", "id", "time", "why"], &rows);
    std::iter::once(heading).chain(table).chain([String::new()]).collect()
}
