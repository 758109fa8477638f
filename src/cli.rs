//! The command line: reads what was typed, has it done, and ends the process with the exit code that says how it went.
//!
//! Nothing is decided here that another face (the terminal app, the API) would have to decide again: that is in `jobs`.

#![expect(clippy::disallowed_methods, reason = "the command line reads arguments, environment and working folder")]

mod arguments;
mod commands;
mod environment;
mod interrupts;
mod log;
mod output;
mod progress;
mod request;
mod session;
mod text;
mod time;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

use arguments::key::KeyCommand;
use arguments::repair::Repair;
use arguments::{Arguments, Command, ConfigCommand};
use commands::{
    Done, INTERRUPTED, backup, care, copy, diff, find, forget, host, key, look, mount, prune, repair, restore, rewrite, setup, stats, tag,
};
use environment::Environment;
use interrupts::Interrupts;
use log::Log;
use output::{Output, Verbosity};
use session::Session;

use crate::jobs::error::JobError;
use crate::jobs::report;
use crate::model::report::{Blame, Report};
use crate::model::text::without_passwords;
use crate::platform::memory;
use crate::service::recovery;

/// Commands and flags of the design that this version does not have: they are refused by name.
const LATER: &[&str] = &["list-remote-backups", "verify", "schedule", "scheduler", "tui", "status", "jobs", "health", "doctor"];
const LATER_FLAGS: &[&str] = &["--remote", "-r", "--detach", "--standalone", "--force", "--plain"];

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    memory::give_back_large_buffers();
    let environment = Environment::of_this_process();
    let mut arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error, &environment),
    };
    // An empty variable counts as none, which clap would not say of its own ones.
    arguments.global.config = arguments.global.config.take().or_else(|| environment.config.clone());
    let global = &arguments.global;
    let verbosity = match (global.quiet, global.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, 0) => Verbosity::Normal,
        (false, _) => Verbosity::Verbose,
    };
    let output = Output::new(global.json || environment.json, verbosity, !environment.no_interactive, !environment.no_color);
    if let Err(error) = environment.check() {
        return end(&output, &arguments.command, Err(error), false);
    }
    if let Some(path) = &global.log_file {
        match Log::open(path) {
            Ok(log) => {
                log.begin(arguments.command.name());
                output.log_to(log);
            }
            Err(error) => return end(&output, &arguments.command, Err(error), false),
        }
    }
    let interrupts = match Interrupts::new() {
        Ok(interrupts) => interrupts,
        Err(error) => return end(&output, &arguments.command, Err(error), false),
    };
    let control = interrupts.control().clone();
    // A panic is a defect; it must not look like anything else, and the envelope must be written all the same.
    let done = catch_unwind(AssertUnwindSafe(|| dispatch(&arguments, &environment, &output, interrupts)));
    let done = done.unwrap_or_else(|_| Err(JobError::Internal("bbackup has stopped at a point where it never should".to_owned())));
    end(&output, &arguments.command, done, control.is_cancelled())
}

fn dispatch(arguments: &Arguments, environment: &Environment, output: &Output, interrupts: Interrupts) -> Result<Done, JobError> {
    let global = &arguments.global;
    match &arguments.command {
        Command::InitConfig(flags) => return setup::init_config(global, flags, output),
        Command::Completions(flags) => return Ok(setup::completions(flags, output)),
        // What is imported may lie where a configuration is looked for, and is none yet.
        Command::Config(ConfigCommand::Import(flags)) => return setup::import(flags, output),
        _ => {}
    }
    let session = Session::new(global, environment, output, interrupts)?;
    let mut left_behind = if looks_only(&arguments.command) { Vec::new() } else { put_right(&session, &arguments.command)? };
    let done = command(&session, &arguments.command);
    let noticed = session.noticed();
    for sentence in &noticed {
        output.warning(sentence);
    }
    let mut done = done?;
    if !noticed.is_empty() {
        // It was done, but with what could be read.
        done.code = if done.code == 0 { 4 } else { done.code };
        let report = |sentence: String| Report::new(Blame::Repository, "repository_damaged", sentence);
        done.errors.extend(noticed.into_iter().map(report));
    }
    // What was looked at may not be the last state; that was told already.
    left_behind.extend(session.doubts().into_iter().map(|sentence| Report::new(Blame::User, "not_the_last_state", sentence)));
    if !left_behind.is_empty() {
        // What an earlier run broke is nobody's success, be it that it was put right now: for a while something was down.
        done.code = if done.code == 0 { 4 } else { done.code };
        done.errors.extend(left_behind);
    }
    Ok(done)
}

/// Whether a command touches neither the Engine nor a repository, or was asked to touch nothing.
fn looks_only(command: &Command) -> bool {
    match command {
        Command::Backup(flags) => flags.dry_run,
        Command::Restore(flags) => flags.dry_run,
        Command::Prune(flags) => flags.dry_run,
        Command::Repair(Repair::Index(flags)) => flags.dry_run,
        Command::Repair(Repair::Snapshots(flags)) => flags.dry_run,
        Command::Forget(flags) => flags.dry_run,
        Command::Tag(flags) => flags.which.dry_run,
        Command::Pin(flags) | Command::Unpin(flags) => flags.dry_run,
        Command::Copy(flags) => flags.dry_run,
        Command::Rewrite(flags) => flags.dry_run,
        Command::Init(flags) => flags.dry_run,
        Command::Key(KeyCommand::Add(flags) | KeyCommand::Passwd(flags)) => flags.dry_run,
        Command::Key(KeyCommand::Remove(flags)) => flags.dry_run,
        Command::Unlock(flags) => flags.dry_run,
        // Looking for what is not protected must not change anything either; `recover` looks after it itself.
        Command::Recover
        | Command::Umount(_)
        | Command::Config(_)
        | Command::ListBackupSets
        | Command::Coverage
        | Command::InitConfig(_)
        | Command::Completions(_) => true,
        _ => false,
    }
}

/// Brings back the containers that a run that died has left down. Returns what was put right, and what cannot be.
fn put_right(session: &Session, command: &Command) -> Result<Vec<Report>, JobError> {
    let state = &session.directories.state;
    let engines = session.engines();
    let mut recovered = session.run_quietly(recovery::at_start(&engines, state))?;
    // What a restore had renamed would be saved under the wrong name. A restore looks after it itself.
    if matches!(command, Command::Backup(_)) {
        session.run_quietly(recovery::after_restores(&engines, state, &mut recovered))?;
    }
    let put_right = |sentence: &String| {
        session.output.warning(sentence);
        Report::new(Blame::Environment, "put_right", sentence.clone())
    };
    let mut left_behind: Vec<Report> = recovered.done.iter().map(put_right).collect();
    left_behind.extend(care::still_down(&session.output, &recovered));
    left_behind.extend(care::elsewhere(&session.output, &recovered));
    Ok(left_behind)
}

fn command(session: &Session, command: &Command) -> Result<Done, JobError> {
    match command {
        Command::Backup(flags) => backup::run(session, flags),
        Command::Restore(flags) => restore::run(session, flags),
        Command::Snapshots(flags) => look::snapshots(session, flags),
        Command::Ls(flags) => look::ls(session, flags),
        Command::Dump(flags) => look::dump(session, flags),
        Command::Recover => care::recover(session),
        Command::Diff(flags) => diff::diff(session, flags),
        Command::Find(flags) => find::find(session, flags),
        Command::Copy(flags) => copy::copy(session, flags),
        Command::Rewrite(flags) => rewrite::rewrite(session, flags),
        Command::Mount(flags) => mount::mount(session, flags),
        Command::Umount(flags) => mount::umount(session, flags),
        Command::Stats(flags) => stats::stats(session, flags),
        Command::Init(flags) => care::init(session, flags),
        Command::Check(flags) => care::check(session, flags),
        Command::Prune(flags) => prune::prune(session, flags),
        Command::Repair(Repair::Index(flags)) => repair::index(session, *flags),
        Command::Repair(Repair::Snapshots(flags)) => repair::snapshots(session, flags),
        Command::Forget(flags) => forget::forget(session, flags),
        Command::Tag(flags) => tag::tag(session, flags),
        Command::Pin(flags) => tag::pin(session, flags, true),
        Command::Unpin(flags) => tag::pin(session, flags, false),
        Command::Key(command) => key::key(session, command),
        Command::Unlock(flags) => care::unlock(session, flags),
        Command::ListContainers => host::containers(session),
        Command::ListVolumes => host::volumes(session),
        Command::ListNetworks => host::networks(session),
        Command::ListBackupSets => host::sets(session),
        Command::Coverage => host::coverage(session),
        Command::Config(ConfigCommand::Check) => setup::check(session),
        Command::Config(ConfigCommand::Show) => setup::show(session),
        Command::InitConfig(_) | Command::Completions(_) | Command::Config(ConfigCommand::Import(_)) => {
            Err(JobError::Internal("a command was passed on twice".to_owned()))
        }
    }
}

/// Adds what this command can do where there is no Docker.
fn without_docker(report: Report, command: &Command) -> Report {
    match command {
        _ if !matches!(report.code, "no_docker" | "docker_permission") => report,
        Command::Backup(_) => report.hint("`backup --paths` needs no Docker."),
        Command::Restore(_) => report.hint("`restore --to DIR` writes the files into a folder, and needs no Docker."),
        _ => report,
    }
}

/// Tells how it went and ends.
fn end(output: &Output, command: &Command, done: Result<Done, JobError>, cancelled: bool) -> ExitCode {
    let mut done = done.unwrap_or_else(|error| {
        let report = without_docker(report::of(&error), command);
        let code = if cancelled && report.code == "cancelled" { INTERRUPTED } else { report.exit_code() };
        output.error(&report);
        Done { code, data: serde_json::Value::Null, errors: vec![report], envelope: !matches!(command, Command::Dump(_)) }
    });
    if let Some(report) = output.log().and_then(|log| log.end(command.name(), done.code)) {
        output.error(&report);
        done.code = if done.code == 0 { 4 } else { done.code };
        done.errors.push(report);
    }
    if done.envelope {
        output.envelope(command.name(), done.code == 0, &done.data, &done.errors);
    }
    if let Some(error) = output.failure() {
        let report = Report::new(Blame::Environment, "standard_output", "Standard output cannot be written.").caused_by(&error);
        output.error(&report);
        done.code = report.exit_code();
    }
    ExitCode::from(done.code)
}

/// The command of a line that cannot be understood: its first word that is one.
fn command_typed() -> String {
    let commands = Arguments::command();
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    words.iter().find_map(|word| commands.find_subcommand(word)).map(|command| command.get_name().to_owned()).unwrap_or_default()
}

/// What clap has to say: help and version are no errors, everything else is one of usage (1; 2 is for configurations).
fn usage(error: &clap::Error, environment: &Environment) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that went away does not make help a failure.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let json = environment.json || std::env::args_os().any(|argument| argument == "--json");
    let output = Output::new(json, Verbosity::Normal, false, false);
    let word = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    let command = word(ContextKind::InvalidSubcommand).filter(|word| LATER.contains(word)).map(|word| format!("bbackup {word}"));
    let unknown = word(ContextKind::InvalidArg).filter(|_| error.kind() == ErrorKind::UnknownArgument);
    let flag = unknown.filter(|word| LATER_FLAGS.contains(word)).map(str::to_owned);
    let report = if let Some(later) = command.or(flag) {
        let report = Report::new(Blame::User, "not_in_this_version", format!("`{later}` is not in this version."));
        output.error(&report);
        report
    } else {
        let text = error.render().to_string();
        match without_passwords(&text) {
            Cow::Borrowed(_) => _ = error.print(),
            // What clap repeats of the command line has an address with a password in it.
            Cow::Owned(text) => text.lines().for_each(|line| output.plain(line)),
        }
        // Up to the usage: the first line alone may only announce what follows.
        let said: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let said = said.join(" ");
        let report = Report::new(Blame::User, "usage", said.strip_prefix("error: ").unwrap_or(&said));
        match word(ContextKind::SuggestedArg) {
            Some(meant) => report.hint(format!("Did you mean {meant}?")),
            None => report,
        }
    };
    output.envelope(&command_typed(), false, &serde_json::Value::Null, &[report]);
    ExitCode::from(1)
}
