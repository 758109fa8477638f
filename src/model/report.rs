//! An error as people and programs see it: whose fault, what happened, what to do. `jobs/report` makes them.

use serde::Serialize;

use super::text::without_passwords;

/// Whose business an error is; decides the exit code unless the code itself does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// What was asked for cannot be done as asked.
    User,
    /// The configuration file.
    Config,
    /// The machine: no Docker, a missing tool, a missing permission, a full disk.
    Environment,
    /// The repository: missing, locked, damaged, wrong password.
    Repository,
    /// A defect of bbackup itself.
    Internal,
}

/// One error, in the words that every face uses. Passwords of addresses are taken out of what it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whose business it is.
    pub kind: Blame,
    /// Stable name for programs: `wrong_password`, `repository_locked`.
    pub code: &'static str,
    /// One sentence for people.
    pub message: String,
    /// What to do, one sentence each.
    pub hints: Vec<String>,
    /// The chain of causes, outermost first.
    pub source: Vec<String>,
}

impl Report {
    /// A report with neither hints nor causes.
    pub fn new(kind: Blame, code: &'static str, message: impl Into<String>) -> Self {
        let message = without_passwords(&message.into()).into_owned();
        Self { kind, code, message, hints: Vec::new(), source: Vec::new() }
    }

    /// The same with a hint more.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(without_passwords(&hint.into()).into_owned());
        self
    }

    /// The same with the causes of `error`, and `error` itself, as its source.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            self.source.push(without_passwords(&cause.to_string()).into_owned());
            next = cause.source();
        }
        self
    }

    /// The process's exit code (the table in the README).
    pub fn exit_code(&self) -> u8 {
        match (self.kind, self.code) {
            (_, "repository_missing") => 10,
            (_, "repository_locked") => 11,
            (_, "wrong_password") => 12,
            (Blame::Config, _) => 2,
            (Blame::Environment, _) => 3,
            (Blame::User | Blame::Repository | Blame::Internal, _) => 1,
        }
    }
}
