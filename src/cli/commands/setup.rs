//! `init-config`, `config check`, `config show`, `completions`: setting bbackup up.

use std::io;

use clap::CommandFactory as _;

use super::Done;
use crate::cli::arguments::{Arguments, Completions, Global, InitConfig};
use crate::cli::output::Output;
use crate::cli::request::absolute;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::config::{STARTER, show};
use crate::jobs::error::JobError;
use crate::platform::directories::Directories;
use crate::platform::files::{self, Existing};

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
    session.output.result(show::yaml(&session.config).trim_end());
    Done::well(&show::shown(&session.config))
}

pub(in crate::cli) fn completions(arguments: &Completions, output: &Output) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "bbackup", &mut script);
    output.raw(&script);
    Done::with_raw_output()
}
