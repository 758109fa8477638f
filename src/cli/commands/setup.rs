//! `init-config`, `config check|show|import`, `completions`: setting bbackup up.

use std::io;

use clap::CommandFactory as _;

use super::Done;
use crate::cli::arguments::{Arguments, Completions, Global, Import, InitConfig};
use crate::cli::output::Output;
use crate::cli::request::absolute;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::config::import::{self, Imported};
use crate::config::load::{self, ConfigError};
use crate::config::{STARTER, show};
use crate::jobs::error::JobError;
use crate::platform::directories::Directories;
use crate::platform::files::{self, Existing};
use crate::platform::host;

pub(in crate::cli) fn init_config(global: &Global, arguments: &InitConfig, output: &Output) -> Result<Done, JobError> {
    let path = match (&arguments.file, &global.config) {
        (Some(file), _) | (None, Some(file)) => absolute(file)?,
        (None, None) => Directories::of_this_user()?.config.join("config.yaml"),
    };
    let own = |source: io::Error| JobError::Own { action: format!("write {}", path.display()), source };
    if let Some(folder) = path.parent() {
        files::create_directories(folder, 0o755).map_err(own)?;
    }
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    match files::write_atomic(&path, STARTER.as_bytes(), 0o644, existing) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let message = format!("{} is there already; it was left as it is", path.display());
            Err(JobError::request("config_exists", message, "--force replaces it."))
        }
        Err(error) => Err(own(error)),
        Ok(()) => {
            output.result(&format!("Wrote {}", safe(&path.to_string_lossy())));
            Done::well(&serde_json::json!({ "path": path.display().to_string() }))
        }
    }
}

pub(in crate::cli) fn check(session: &Session) -> Result<Done, JobError> {
    let config = &session.config;
    let sets = text::count(config.sets.len() as u64, "backup set");
    let line = match &config.source {
        Some(path) => format!("{} is good: {sets}.", safe(&path.to_string_lossy())),
        None => "There is no configuration file: the defaults are used.".to_owned(),
    };
    session.output.result(&line);
    Done::well(&serde_json::json!({ "path": config.source.as_ref().map(|path| path.display().to_string()), "sets": config.sets.len() }))
}

pub(in crate::cli) fn show(session: &Session) -> Result<Done, JobError> {
    let source = session.config.source.as_ref().map_or_else(|| "the embedded defaults".to_owned(), |path| path.display().to_string());
    session.output.note(&format!("# {source}"));
    session.output.listed(show::yaml(&session.config).trim_end());
    Done::well(&show::shown(&session.config))
}

pub(in crate::cli) fn import(arguments: &Import, output: &Output) -> Result<Done, JobError> {
    let path = absolute(&arguments.file)?;
    let text = load::read(&path)?;
    let imported = import::import(&text).map_err(|problems| ConfigError::Wrong { path: path.clone(), problems })?;
    // What cannot be read again is no configuration; every value of another's file may end up in it.
    load::parse(&imported.yaml, arguments.output.as_deref().unwrap_or(&path), &Directories::of_this_user()?, &host::hostname())?;
    tell_imported(&imported, output);
    let target = arguments.output.as_deref().map(absolute).transpose()?;
    match &target {
        None => output.listed(imported.yaml.trim_end()),
        Some(target) => {
            let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
            match files::write_atomic(target, imported.yaml.as_bytes(), 0o644, existing) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let message = format!("{} is there already; it was left as it is", target.display());
                    return Err(JobError::request("config_exists", message, "--force replaces it."));
                }
                Err(source) => return Err(JobError::Own { action: format!("write {}", target.display()), source }),
                Ok(()) => output.result(&format!("Wrote {}", safe(&target.to_string_lossy()))),
            }
        }
    }
    let written = target.map(|target| target.display().to_string());
    Done::well(&serde_json::json!({ "path": written, "yaml": imported.yaml, "mapped": imported.mapped, "dropped": imported.dropped }))
}

/// What became of every value, for people.
fn tell_imported(imported: &Imported, output: &Output) {
    let rows: Vec<Vec<String>> = imported.mapped.iter().map(|one| vec![safe(&one.from), safe(&one.to)]).collect();
    for line in text::table(&["taken over", "as"], &rows) {
        output.note(&line);
    }
    let rows: Vec<Vec<String>> = imported.dropped.iter().map(|one| vec![safe(&one.key), safe(&one.reason)]).collect();
    if !rows.is_empty() {
        output.note("");
        for line in text::table(&["not taken over", "because"], &rows) {
            output.note(&line);
        }
    }
    output.note("");
}

pub(in crate::cli) fn completions(arguments: &Completions, output: &Output) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "bbackup", &mut script);
    output.raw(&script);
    Done::with_raw_output()
}
