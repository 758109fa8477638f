//! `list-containers`, `list-volumes`, `list-networks`, `list-backup-sets`, `coverage`: what is there to be backed up.

use serde::Serialize;

use super::backup::worst;
use super::{Done, end_of};
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::config::show;
use crate::jobs::engine::{self, Overview};
use crate::jobs::error::JobError;
use crate::jobs::{coverage, report};
use crate::model::outcome::RunStatus;

fn overview(session: &Session) -> Result<Overview, JobError> {
    let overview = session.run(engine::overview(&session.config.docker))?;
    for warning in &overview.warnings {
        session.output.warning(&safe(warning));
    }
    Ok(overview)
}

/// The end of a list: with what could not be looked at it is one in part.
fn told(overview: &Overview, listed: &impl Serialize) -> Result<Done, JobError> {
    let (code, error) = end_of(RunStatus::with(overview.warnings.len()), false);
    Ok(Done { code, errors: error.into_iter().collect(), ..Done::well(listed)? })
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "-".to_owned() } else { safe(&names.join(",")) }
}

fn show(session: &Session, headings: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        session.output.note("There are none.");
        return;
    }
    for line in text::table(headings, rows) {
        session.output.listed(&line);
    }
}

pub(in crate::cli) fn containers(session: &Session) -> Result<Done, JobError> {
    let overview = overview(session)?;
    let row = |one: &engine::ContainerLine| {
        vec![safe(&one.name), safe(&one.application), one.status.to_owned(), safe(&one.image), list(&one.volumes), list(&one.networks)]
    };
    let rows: Vec<_> = overview.containers.iter().map(row).collect();
    show(session, &["container", "application", "status", "image", "volumes", "networks"], &rows);
    told(&overview, &overview.containers)
}

pub(in crate::cli) fn volumes(session: &Session) -> Result<Done, JobError> {
    let overview = overview(session)?;
    let row = |one: &engine::VolumeLine| vec![safe(&one.name), safe(&one.application), safe(&one.driver), list(&one.containers)];
    let rows: Vec<_> = overview.volumes.iter().map(row).collect();
    show(session, &["volume", "application", "driver", "used by"], &rows);
    told(&overview, &overview.volumes)
}

pub(in crate::cli) fn networks(session: &Session) -> Result<Done, JobError> {
    let overview = overview(session)?;
    let row = |one: &engine::NetworkLine| {
        let saved = if one.default { "no: Docker's own" } else { "yes" };
        vec![safe(&one.name), safe(&one.driver), list(&one.subnets), list(&one.containers), saved.to_owned()]
    };
    let rows: Vec<_> = overview.networks.iter().map(row).collect();
    show(session, &["network", "driver", "subnets", "used by", "saved"], &rows);
    told(&overview, &overview.networks)
}

pub(in crate::cli) fn coverage(session: &Session) -> Result<Done, JobError> {
    let engines = session.engine_names();
    let several = engines.len() > 1;
    let (mut all, mut errors, mut codes) = (Vec::new(), Vec::new(), Vec::new());
    for engine in &engines {
        let config = session.config_for(Some(engine))?;
        match session.run(coverage::coverage(&config, engine, &session.directories)) {
            Ok(one) => all.push(one),
            // What is on the others is as well worth knowing as if there were only them.
            Err(error) if several && !session.interrupted() => {
                let mut report = report::of(&error);
                report.message = format!("Engine `{}`: {}", safe(engine), report.message);
                session.output.error(&report);
                codes.push(report.exit_code());
                errors.push(report);
            }
            Err(error) => return Err(error),
        }
    }
    for one in &all {
        for warning in &one.warnings {
            session.output.warning(&safe(warning));
        }
        if several {
            session.output.listed(&format!("Engine {}:", safe(&one.engine)));
        }
        let row = |lost: &coverage::Unprotected| {
            let hint = if lost.disabled_sets.is_empty() { "-".to_owned() } else { list(&lost.disabled_sets) };
            vec![lost.kind.to_owned(), safe(&lost.name), safe(&lost.application), hint]
        };
        let rows: Vec<_> = one.unprotected.iter().map(row).collect();
        if rows.is_empty() {
            session.output.note(match session.config.source {
                Some(_) => "Everything is saved by an enabled backup set.",
                None => "There is no configuration: `bbackup backup` saves everything.",
            });
        } else {
            show(session, &["not saved", "name", "application", "disabled sets"], &rows);
        }
    }
    codes.extend(all.iter().map(|one| if one.unprotected.is_empty() && one.warnings.is_empty() { 0 } else { 4 }));
    Ok(Done { code: worst(&codes), errors, ..Done::well(&serde_json::json!({ "engines": all }))? })
}

pub(in crate::cli) fn sets(session: &Session) -> Result<Done, JobError> {
    let sets = &session.config.sets;
    let row = |set: &crate::config::BackupSet| {
        let selection = &set.selection;
        let mut chooses = Vec::new();
        for (word, patterns) in [
            ("containers", &selection.containers),
            ("projects", &selection.projects),
            ("volumes", &selection.volumes),
            ("labels", &selection.labels),
        ] {
            if !patterns.is_empty() {
                chooses.push(format!("{word} {}", patterns.join(" ")));
            }
        }
        if !selection.paths.is_empty() {
            let paths: Vec<String> = selection.paths.iter().map(|path| path.display().to_string()).collect();
            chooses.push(format!("paths {}", paths.join(" ")));
        }
        vec![
            safe(set.name.as_deref().unwrap_or("-")),
            if set.enabled { "yes" } else { "no" }.to_owned(),
            safe(set.repository.as_deref().unwrap_or("default")),
            set.consistency.word().to_owned(),
            safe(&chooses.join(", ")),
            safe(&set.description),
        ]
    };
    let rows: Vec<_> = sets.iter().map(row).collect();
    show(session, &["set", "enabled", "repository", "consistency", "chooses", "description"], &rows);
    let shown = super::to_value(&show::shown(&session.config))?;
    Done::well(&shown["sets"])
}
