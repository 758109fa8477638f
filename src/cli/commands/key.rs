//! `key list`, `key add`, `key remove`, `key passwd`: the passwords that open a repository.

use serde_json::json;

use super::Done;
use crate::cli::arguments::key::{KeyCommand, NewPassword};
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::config::RepositoryConfig;
use crate::config::password::PasswordSource;
use crate::jobs::error::JobError;
use crate::platform::clock;
use crate::platform::secret::Secret;
use crate::repository::contract::{KeyChange, Repository};

pub(in crate::cli) fn key(session: &Session, command: &KeyCommand) -> Result<Done, JobError> {
    let config = session.repository(None)?;
    let dry_run = match command {
        KeyCommand::List => false,
        KeyCommand::Add(new) | KeyCommand::Passwd(new) => new.dry_run,
        KeyCommand::Remove(which) => which.dry_run,
    };
    let repository = session.open_for(&config, dry_run)?;
    match command {
        KeyCommand::List => list(session, &*repository),
        KeyCommand::Add(new) => {
            let change = repository.add_key(&new_password(session, &config, &new.password)?, new.dry_run, &session.control)?;
            session.output.result(&match &change.added {
                Some(id) => format!("Added the key {}.", short(id)),
                None => "A key would be added.".to_owned(),
            });
            done(&change, new.dry_run)
        }
        KeyCommand::Remove(which) => {
            let change = repository.remove_key(&which.id, which.dry_run, &session.control)?;
            let id = short(change.removed.as_deref().unwrap_or_default());
            session.output.result(&if which.dry_run {
                format!("The key {id} would be removed.")
            } else {
                format!("Removed the key {id}.")
            });
            done(&change, which.dry_run)
        }
        KeyCommand::Passwd(new) => {
            let change = repository.change_password(&new_password(session, &config, &new.password)?, new.dry_run, &session.control)?;
            session.output.result(&match (&change.added, &change.removed) {
                (Some(id), _) => format!("The password is changed; its key is {}.", short(id)),
                (None, Some(old)) => format!("A new key would take the place of {}.", short(old)),
                (None, None) => "A key would be added.".to_owned(),
            });
            let source = config.password.as_ref().filter(|source| !matches!(source, PasswordSource::Known(_)) && !new.dry_run);
            if let Some(source) = source {
                // Else the next backup finds out at night.
                session.output.warning(&format!("The old password came from the {}: put the new one there.", safe(&source.describe())));
            }
            done(&change, new.dry_run)
        }
    }
}

/// `id` is that of the new key, or of the one that goes where none comes.
fn done(change: &KeyChange, dry_run: bool) -> Result<Done, JobError> {
    let id = change.added.as_ref().or(change.removed.as_ref());
    Done::well(&json!({ "dry_run": dry_run, "id": id, "added": change.added, "removed": change.removed }))
}

fn list(session: &Session, repository: &dyn Repository) -> Result<Done, JobError> {
    let keys = repository.keys()?;
    let zone = clock::local_zone();
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            let created = match (&key.created, &key.problem) {
                (Some(time), _) => text::time(*time, &zone),
                (None, problem) => safe(problem.as_deref().unwrap_or("-")),
            };
            let mark = if key.current { "*" } else { " " };
            vec![format!("{mark}{}", short(&key.id)), safe(&key.user_name), safe(&key.host_name), created]
        })
        .collect();
    for line in text::table(&[" id", "user", "host", "created"], &rows) {
        session.output.listed(&line);
    }
    Done::well(&keys)
}

fn new_password(session: &Session, config: &RepositoryConfig, new: &NewPassword) -> Result<Secret<String>, JobError> {
    let file = new.file.clone().map(PasswordSource::File);
    let command = || new.command.clone().map(PasswordSource::Command);
    let variable = || new.env.clone().map(PasswordSource::Environment);
    let source = file.or_else(command).or_else(variable);
    session.new_password(source.as_ref(), &config.location.display().to_string())
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
