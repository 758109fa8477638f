//! Everything that bbackup writes: results to standard output, text for people to standard error, or JSON lines; and what goes
//! to a log file.
//!
//! What is said is decided elsewhere; here is only where it goes and in which form.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::Serialize;

use super::log::Log;
use super::text::safe;
use crate::model::report::Report;

/// Version of the JSON that `--json` writes. It grows when a field changes its meaning or goes.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// How much is said to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verbosity {
    /// Results, warnings and errors.
    Quiet,
    /// What happens, too.
    Normal,
    /// Every file that was new or changed, too.
    Verbose,
}

/// Where everything is written. Clones write to the same place.
#[derive(Clone)]
pub(super) struct Output(Arc<Inner>);

struct Inner {
    json: bool,
    verbosity: Verbosity,
    /// Bars may be drawn on standard error.
    bars: bool,
    colour: bool,
    /// The first failure of standard output; nothing is written to it after that.
    failure: Mutex<Option<io::Error>>,
    log: OnceLock<Log>,
}

/// The last line of `--json`.
#[derive(Debug, Serialize)]
struct Envelope<'a> {
    schema_version: u32,
    command: &'a str,
    success: bool,
    data: &'a serde_json::Value,
    errors: &'a [Report],
}

impl Output {
    /// Decides once how this process writes.
    pub(super) fn new(json: bool, verbosity: Verbosity, interactive: bool, colour: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Self(Arc::new(Inner {
            json,
            verbosity,
            bars: terminal && interactive && !json && verbosity > Verbosity::Quiet,
            colour: colour && terminal,
            failure: Mutex::new(None),
            log: OnceLock::new(),
        }))
    }

    /// From now on what is said goes to this file, too.
    pub(super) fn log_to(&self, log: Log) {
        // There is one flag, and it is read once.
        let _ = self.0.log.set(log);
    }

    /// The log file.
    pub(super) fn log(&self) -> Option<&Log> {
        self.0.log.get()
    }

    /// Whether standard output is for programs.
    pub(super) fn is_json(&self) -> bool {
        self.0.json
    }

    /// Whether bars may be drawn.
    pub(super) fn has_bars(&self) -> bool {
        self.0.bars
    }

    /// How much is said.
    pub(super) fn verbosity(&self) -> Verbosity {
        self.0.verbosity
    }

    /// Writes a line that says what was done to standard output; not with `--json`.
    pub(super) fn result(&self, line: &str) {
        self.note_down("info", line);
        self.listed(line);
    }

    /// Writes a line of what was asked for to standard output; not with `--json`.
    pub(super) fn listed(&self, line: &str) {
        if !self.0.json {
            self.write(format!("{line}\n").as_bytes());
        }
    }

    /// Writes bytes to standard output as they are.
    pub(super) fn raw(&self, bytes: &[u8]) {
        self.write(bytes);
    }

    /// Writes one JSON object as a line to standard output; only with `--json`.
    pub(super) fn message(&self, message: &impl Serialize) {
        if !self.0.json {
            return;
        }
        match serde_json::to_vec(message) {
            Ok(mut line) => {
                line.push(b'\n');
                self.write(&line);
            }
            Err(error) => self.fail(io::Error::other(error)),
        }
    }

    /// Tells a person what happens; neither with `--json` nor with `--quiet`.
    pub(super) fn note(&self, text: &str) {
        self.note_down("info", text);
        self.progress(text);
    }

    /// The same, for what is of no use a moment later.
    pub(super) fn progress(&self, text: &str) {
        if !self.0.json && self.0.verbosity > Verbosity::Quiet {
            say("", text);
        }
    }

    /// Writes a line to standard error as it is, but for what would steer the terminal.
    pub(super) fn plain(&self, line: &str) {
        self.tell("error", "", line);
    }

    /// Tells a person what did not go well.
    pub(super) fn warning(&self, text: &str) {
        self.tell("warning", &format!("{}: ", self.paint("warning", "33")), text);
    }

    /// Tells a person why it was not done.
    pub(super) fn error(&self, report: &Report) {
        self.tell("error", &format!("{}: ", self.paint("error", "31")), &report.message);
        for cause in &report.source {
            self.tell("cause", "  ", cause);
        }
        for hint in &report.hints {
            self.tell("hint", &format!("{}: ", self.paint("hint", "36")), hint);
        }
    }

    /// Ends `--json` with its envelope.
    pub(super) fn envelope(&self, command: &str, success: bool, data: &serde_json::Value, errors: &[Report]) {
        self.message(&Envelope { schema_version: SCHEMA_VERSION, command, success, data, errors });
    }

    /// Why standard output could not be written, if so. A reader that went away (`| head`) is no failure.
    pub(super) fn failure(&self) -> Option<io::Error> {
        let failure = self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    }

    /// Writes to the log file only.
    pub(super) fn note_down(&self, level: &str, text: &str) {
        if let Some(log) = self.log() {
            log.line(level, text);
        }
    }

    /// Says something to a person, and to the log file.
    fn tell(&self, level: &str, label: &str, text: &str) {
        self.note_down(level, text);
        say(label, text);
    }

    fn paint(&self, text: &str, colour: &str) -> String {
        if self.0.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn write(&self, bytes: &[u8]) {
        let failed = self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if failed {
            return;
        }
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
            self.fail(error);
        }
    }

    fn fail(&self, error: io::Error) {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// A line for people. Names of files and answers of Engines end up in it by many ways, so whatever the text has in it that
/// would steer a terminal is made harmless here, once more; only `label` is written as it is.
fn say(label: &str, text: &str) {
    // Where nobody can be told, nobody can be told that either.
    let _ = io::stderr().lock().write_all(line(label, text).as_bytes());
}

fn line(label: &str, text: &str) -> String {
    format!("{label}{}\n", safe(text))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model::report::Blame;

    #[test]
    fn no_text_steers_the_terminal() {
        assert_eq!(line("\x1b[31merror\x1b[0m: ", "no /a\x1b[2J\nb.\u{9b}"), "\x1b[31merror\x1b[0m: no /a\\x1b[2J\\nb.\\u{9b}\n");
        assert_eq!(line("", &safe("a\x1bb")), "a\\x1bb\n", "what was made harmless before stays as it is");
    }

    #[test]
    fn the_envelope_has_the_promised_fields() {
        let report = Report::new(Blame::Repository, "wrong_password", "No.").hint("Try another.");
        let data = serde_json::json!({"a": 1});
        let envelope = Envelope { schema_version: SCHEMA_VERSION, command: "ls", success: false, data: &data, errors: &[report] };
        assert_eq!(
            serde_json::to_string(&envelope).unwrap(),
            r#"{"schema_version":1,"command":"ls","success":false,"data":{"a":1},"errors":[{"kind":"repository","code":"wrong_password","message":"No.","hints":["Try another."],"source":[]}]}"#
        );
    }
}
