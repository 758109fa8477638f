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
use crate::repository::contract::Repository;

pub(in crate::cli) fn key(session: &Session, command: &KeyCommand) -> Result<Done, JobError> {
    let config = session.repository(None)?;
    let repository = session.open(&config)?;
    match command {
        KeyCommand::List => list(session, &*repository),
        KeyCommand::Add(new) => {
            let id = repository.add_key(&new_password(session, &config, new)?, &session.control)?;
            session.output.result(&format!("Added the key {}.", short(&id)));
            Done::well(&json!({ "id": id }))
        }
        KeyCommand::Remove(which) => {
            let id = repository.remove_key(&which.id, &session.control)?;
            session.output.result(&format!("Removed the key {}.", short(&id)));
            Done::well(&json!({ "id": id }))
        }
        KeyCommand::Passwd(new) => {
            let id = repository.change_password(&new_password(session, &config, new)?, &session.control)?;
            session.output.result(&format!("The password is changed; its key is {}.", short(&id)));
            if let Some(source) = config.password.as_ref().filter(|source| !matches!(source, PasswordSource::Known(_))) {
                // Else the next backup finds out at night.
                session.output.warning(&format!("The old password came from the {}: put the new one there.", safe(&source.describe())));
            }
            Done::well(&json!({ "id": id }))
        }
    }
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
