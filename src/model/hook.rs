//! A command that runs inside a container around its backup, and how it went.
//!
//! Who asks for one is read in `config` and `docker/labels`, how it runs is `docker/hooks`' business.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a hook may run unless somebody says otherwise: dumps of large databases are hooks, too.
pub const HOOK_TIMEOUT: Duration = Duration::from_hours(1);

/// A command that runs inside a container.
///
/// Its words may hold a password: `Debug` does not show them, and nothing prints them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The user that runs it, as `docker exec --user` takes it; none: the container's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    /// How long it may run.
    pub timeout: Duration,
    /// Where it was asked for: a label, a key of the configuration.
    pub asked_by: String,
}

impl Hook {
    /// A line for the container's shell.
    pub fn of_line(line: &str, asked_by: impl Into<String>) -> Self {
        Self::of_words(["sh", "-c", line].map(str::to_owned).to_vec(), asked_by)
    }

    /// A program with its arguments; no shell is needed.
    pub fn of_words(command: Vec<String>, asked_by: impl Into<String>) -> Self {
        Self { command, user: None, timeout: HOOK_TIMEOUT, asked_by: asked_by.into() }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("command", &format_args!("({} words)", self.command.len()))
            .field("user", &self.user)
            .field("timeout", &self.timeout)
            .field("asked_by", &self.asked_by)
            .finish()
    }
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookTime {
    /// Before the container is stopped.
    Pre,
    /// After it runs again.
    Post,
}

impl HookTime {
    /// What people call such a hook: `exec-pre`, `exec-post`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pre => "exec-pre",
            Self::Post => "exec-post",
        }
    }
}

/// A command that ran inside a container because of the backup. The command itself is not in it: it may hold a password.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HookRecord {
    /// Name of the container.
    pub container: String,
    /// When it ran.
    pub when: HookTime,
    /// The label or key of the configuration that asked for it.
    pub asked_by: String,
    /// How long it took.
    pub seconds: f64,
    /// How it ended; none if that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<i64>,
    /// The end of what it wrote, without secrets.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub output: String,
    /// Why it counts as failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_words_are_not_shown() {
        let hook = Hook::of_line("mysqldump -pPa55w0rd", "label x");
        assert_eq!(hook.command, ["sh", "-c", "mysqldump -pPa55w0rd"]);
        assert!(!format!("{hook:?}").contains("Pa55w0rd"));
    }
}
