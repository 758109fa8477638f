//! Commands in containers before they are stopped and after they run again: run, recorded, and owed until they are.
//!
//! How a command runs is `docker/exec`'s business; who asks for one is read in `labels` and `config`.

use std::time::Duration;

use super::Inner;
use super::release::{BACKOFF, ENGINE_LIMIT, ENGINE_WAIT};
use crate::docker::connect::Engine;
use crate::docker::discover::inspect_container;
use crate::docker::error::DockerError;
use crate::docker::exec::{self, Exec, ExecError};
use crate::docker::journal::{OwedHook, Owing};
use crate::model::hook::{Hook, HookRecord, HookTime};
use crate::model::progress::{Event, Progress};
use crate::model::text::printable;
use crate::platform::clock;
use crate::platform::control::Control;

/// How much of what a hook wrote is told, in characters.
const TOLD: usize = 300;
/// The shortest value that is masked: shorter ones would mask half of every text.
const SHORTEST_SECRET: usize = 4;

/// The hooks of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerHooks {
    /// Before it is stopped.
    pub pre: Vec<Hook>,
    /// After it runs again.
    pub post: Vec<Hook>,
}

/// The hooks of one container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedHooks {
    /// Id of the container.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What runs in it.
    pub hooks: ContainerHooks,
}

/// Why a hook counts as failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// It ended with an exit code that is not nought.
    #[error("it ended with exit code {exit_code}{}", if .output.is_empty() { String::new() } else { format!(": {}", .output) })]
    Failed {
        /// Its exit code.
        exit_code: i64,
        /// The end of what it wrote, without secrets.
        output: String,
    },
    /// It could not be run, or not to its end.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The operation was cancelled in between.
    #[error("cancelled")]
    Cancelled,
}

/// Where and when a hook runs.
pub(super) struct Place<'a> {
    pub(super) container: &'a str,
    pub(super) name: &'a str,
    pub(super) when: HookTime,
}

/// Runs a hook. `control` ends the wait for it when the operation is cancelled.
pub(super) async fn run(
    engine: &Engine,
    place: &Place<'_>,
    hook: &Hook,
    control: Option<&Control>,
    progress: &dyn Progress,
) -> (HookRecord, Result<(), HookError>) {
    let started = clock::monotonic();
    progress.event(Event::Phase(&format!("running {} in {}", place.when.as_str(), place.name)));
    let ended = tokio::select! {
        ended = to_end(engine, place.container, hook, control.is_none()) => ended,
        () = cancelled(control) => Err(HookError::Cancelled),
    };
    let mut record = HookRecord {
        container: place.name.to_owned(),
        when: place.when,
        asked_by: hook.asked_by.clone(),
        seconds: started.elapsed().as_secs_f64(),
        exit_code: None,
        output: String::new(),
        failure: None,
    };
    let result = match ended {
        Ok(ended) => {
            let secrets = secrets(engine, place.container, hook).await;
            record.output = told(&ended.output, &secrets);
            record.exit_code = Some(ended.exit_code);
            match ended.exit_code {
                0 => Ok(()),
                exit_code => Err(HookError::Failed { exit_code, output: record.output.clone() }),
            }
        }
        Err(error) => Err(error),
    };
    record.failure = result.as_ref().err().map(|error| match error {
        HookError::Failed { exit_code, .. } => format!("it ended with exit code {exit_code}"),
        error => error.to_string(),
    });
    (record, result)
}

async fn to_end(engine: &Engine, container: &str, hook: &Hook, patient: bool) -> Result<exec::Ended, HookError> {
    let exec = prepare(engine, container, hook, patient).await.map_err(ExecError::from)?;
    Ok(exec.run(engine).await?)
}

/// A command that must run is waited with for an Engine that is just restarting.
async fn prepare(engine: &Engine, container: &str, hook: &Hook, patient: bool) -> Result<Exec, DockerError> {
    let deadline = clock::monotonic() + ENGINE_LIMIT;
    let mut attempt = 0;
    loop {
        match exec::create(engine, container, hook).await {
            Err(error) if patient && error.is_unreachable() && clock::monotonic() < deadline => tokio::time::sleep(ENGINE_WAIT).await,
            Err(error) if patient && error.is_transient() && attempt < BACKOFF.len() => {
                tokio::time::sleep(BACKOFF[attempt]).await;
                attempt += 1;
            }
            other => return other,
        }
    }
}

async fn cancelled(control: Option<&Control>) {
    while !control.is_some_and(Control::is_cancelled) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What must not be told: values of the container's environment that are called secrets, and passwords on the command line.
async fn secrets(engine: &Engine, container: &str, hook: &Hook) -> Vec<String> {
    let mut secrets = passwords_in(&hook.command);
    if let Ok(raw) = inspect_container(engine.wire(), container).await
        && let Ok(inspect) = serde_json::from_slice::<serde_json::Value>(&raw)
    {
        let environment = inspect.pointer("/Config/Env").and_then(serde_json::Value::as_array);
        let variables = environment.into_iter().flatten().filter_map(|variable| variable.as_str()?.split_once('='));
        secrets.extend(variables.filter(|(name, _)| is_secret(name)).map(|(_, value)| value.to_owned()));
    }
    secrets.retain(|secret| secret.len() >= SHORTEST_SECRET);
    // The longest first: one may hold another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["PASS", "PWD", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH"].iter().any(|word| name.contains(word))
}

fn passwords_in(command: &[String]) -> Vec<String> {
    let words = command.iter().flat_map(|word| word.split_whitespace()).map(|word| word.trim_matches(['\'', '"']));
    let password = |word: &str| {
        let value = match word.split_once('=') {
            Some((name, value)) if is_secret(name) => value,
            _ => word.strip_prefix("-p")?,
        };
        Some(value.trim_matches(['\'', '"']).to_owned())
    };
    words.filter_map(password).collect()
}

fn told(output: &str, secrets: &[String]) -> String {
    let masked = secrets.iter().fold(output.to_owned(), |text, secret| text.replace(secret.as_str(), "***"));
    let text = printable(masked.trim().as_bytes());
    let skipped = text.chars().count().saturating_sub(TOLD);
    let end: String = text.chars().skip(skipped).collect();
    if skipped > 0 { format!("…{end}") } else { end }
}

impl Inner {
    /// Runs what is to run before anything is stopped. What is to run afterwards is written down first: from here on it is owed.
    pub(super) async fn before(
        &mut self,
        planned: &PlannedHooks,
        run_id: &str,
        control: &Control,
        progress: &dyn Progress,
    ) -> Result<(), super::QuiesceError> {
        for hook in &planned.hooks.post {
            let gate = self.journals.gate(super::GATE_LIMIT).await?;
            let owing = Owing { container: planned.id.clone(), name: planned.name.clone(), hook: hook.clone() };
            let owed = self.journal(&gate, run_id)?.owe(owing)?;
            self.owed.push(owed);
        }
        for hook in &planned.hooks.pre {
            let place = Place { container: &planned.id, name: &planned.name, when: HookTime::Pre };
            let (record, result) = run(&self.engine, &place, hook, Some(control), progress).await;
            self.hook_records.push(record);
            result.map_err(|error| match error {
                HookError::Cancelled => super::QuiesceError::Cancelled,
                source => super::QuiesceError::Hook { container: planned.name.clone(), source },
            })?;
        }
        Ok(())
    }

    /// Runs what is owed, whatever has happened before. `left` are containers that another run still needs stopped. What cannot be run yet
    /// stays in the journal: the next start runs it once its container is back.
    pub(super) async fn after(&mut self, left: &[String], release: &mut super::Release, progress: &dyn Progress) {
        let mut owed = std::mem::take(&mut self.owed);
        // As containers are started: what others depend on first.
        owed.reverse();
        for OwedHook { container, name, hook, order, .. } in owed {
            let is_down = release.failures.iter().any(|failure| failure.id == container);
            if is_down || left.contains(&container) {
                let why = if is_down {
                    "the container could not be started again"
                } else {
                    "another run of bbackup still needs the container stopped"
                };
                let hook = format!("{} of container {name} ({})", HookTime::Post.as_str(), hook.asked_by);
                release.hook_failures.push(format!("{hook} was not run: {why}; the next start of bbackup after that runs it"));
                continue;
            }
            let place = Place { container: &container, name: &name, when: HookTime::Post };
            let (record, result) = run(&self.engine, &place, &hook, None, progress).await;
            self.hook_records.push(record);
            if let Err(error) = result {
                release.hook_failures.push(failure(&name, &hook, HookTime::Post, &error));
            }
            if let Some(journal) = &mut self.journal {
                // A line that cannot be written costs a second run of the hook after a crash.
                let _ = journal.released(order);
            }
        }
    }
}

/// A hook that failed, as a sentence.
pub(super) fn failure(container: &str, hook: &Hook, when: HookTime, error: &HookError) -> String {
    format!("{} of container {container} ({}) failed: {error}", when.as_str(), hook.asked_by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_told_and_long_output_is_cut() {
        let command = ["mysqldump", "-pPa55w0rd", "--password='quoted one'", "PGPASSWORD=h:unter2", "--plain=x"].map(str::to_owned);
        let found = passwords_in(&command);
        assert_eq!(found[0], "Pa55w0rd");
        assert!(found.contains(&"h:unter2".to_owned()), "{found:?}");
        let shell = passwords_in(&["sh".to_owned(), "-c".to_owned(), "MYSQL_PWD=\"hush-hush\" mysqldump -p'other1' x".to_owned()]);
        assert_eq!(shell, ["hush-hush", "other1"]);
        assert_eq!(told("denied for Pa55w0rd\n", &["Pa55w0rd".to_owned()]), "denied for ***");
        assert!(!told("a\x1b[2Jb", &[]).contains('\x1b'));
        let long = told(&"x".repeat(5000), &[]);
        assert_eq!(long.chars().count(), TOLD + 1);
        assert!(is_secret("POSTGRES_PASSWORD") && is_secret("api_key") && !is_secret("PATH"));
    }
}
