//! One function for each command: gets what it needs from the session, has the job done, shows what came out.
//!
//! How a command ended comes back as [`Done`]; the process's end is `cli`'s.

pub(super) mod backup;
pub(super) mod care;
pub(super) mod copy;
pub(super) mod diff;
pub(super) mod find;
pub(super) mod forget;
pub(super) mod host;
pub(super) mod key;
pub(super) mod look;
pub(super) mod mount;
pub(super) mod prune;
pub(super) mod repair;
pub(super) mod restore;
pub(super) mod rewrite;
pub(super) mod setup;
pub(super) mod stats;
pub(super) mod tag;

use serde::Serialize;
use serde_json::Value;

use crate::jobs::error::JobError;
use crate::model::outcome::RunStatus;
use crate::model::report::{Blame, Report};

/// How a command ended.
#[derive(Debug)]
pub(super) struct Done {
    /// The process's exit code.
    pub(super) code: u8,
    /// The envelope's `data`.
    pub(super) data: Value,
    /// The envelope's `errors`; they have been told to people already.
    pub(super) errors: Vec<Report>,
    /// Whether the envelope is written: not behind data of another kind.
    pub(super) envelope: bool,
}

impl Done {
    /// Everything that was asked for was done.
    pub(super) fn well(data: &impl Serialize) -> Result<Self, JobError> {
        Ok(Self { code: 0, data: to_value(data)?, errors: Vec::new(), envelope: true })
    }

    /// Standard output holds something that is no JSON.
    pub(super) fn with_raw_output() -> Self {
        Self { code: 0, data: Value::Null, errors: Vec::new(), envelope: false }
    }
}

pub(super) fn to_value(data: &impl Serialize) -> Result<Value, JobError> {
    serde_json::to_value(data).map_err(|error| JobError::Internal(format!("the result cannot be written as JSON: {error}")))
}

/// What a run's status means for the process and for the envelope. `interrupted` is whether a signal asked for the end.
pub(super) fn end_of(status: RunStatus, interrupted: bool) -> (u8, Option<Report>) {
    let report = |blame, code, message: String| Some(Report::new(blame, code, message));
    match status {
        RunStatus::Success => (0, None),
        RunStatus::Warnings(count) => {
            let message = if count == 1 { "Done, with 1 warning.".to_owned() } else { format!("Done, with {count} warnings.") };
            (4, report(Blame::Environment, "warnings", message))
        }
        RunStatus::Skipped => (4, report(Blame::User, "skipped", "Nothing was done: everything was skipped.".to_owned())),
        RunStatus::Failed => (1, report(Blame::Environment, "failed", "Not done.".to_owned())),
        RunStatus::Cancelled if interrupted => (INTERRUPTED, report(Blame::User, "interrupted", "Interrupted.".to_owned())),
        RunStatus::Cancelled => (5, report(Blame::User, "cancelled", "Cancelled.".to_owned())),
        RunStatus::Interrupted => (1, report(Blame::Internal, "interrupted", "The run did not come to its end.".to_owned())),
    }
}

/// Exit code after SIGINT, SIGTERM or SIGQUIT.
pub(super) const INTERRUPTED: u8 = 130;
