//! The values of labels: what is true and false, numbers, durations, commands. Each that makes no sense is a warning.
//!
//! Which labels there are is not known here.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::duration;
use crate::model::application::SwarmTasks;
use crate::model::hook::{HOOK_TIMEOUT, Hook};
use crate::model::pattern::Pattern;
use crate::model::text::printable;
use crate::platform::process::split_words;

/// The labels of one container and what is wrong with them.
pub(super) struct Reader<'a> {
    /// `container`, `service`.
    kind: &'static str,
    name: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) warnings: Vec<String>,
}

/// The labels of one hook, put together once all are read.
#[derive(Default)]
pub(super) struct HookLabels {
    pub(super) command: Option<Hook>,
    pub(super) user: Option<String>,
    pub(super) timeout: Option<Duration>,
}

impl HookLabels {
    /// The hook; `label` is the name of its command.
    pub(super) fn hook(self, reader: &mut Reader<'_>, label: &str) -> Option<Hook> {
        let Some(mut hook) = self.command else {
            // A command that made no sense was told already.
            if (self.user.is_some() || self.timeout.is_some()) && !reader.labels.contains_key(label) {
                reader.say(&format!("labels {label}.user and {label}.timeout mean nothing without {label}; they are ignored"));
            }
            return None;
        };
        hook.user = self.user;
        // Nought is how other tools say `without a limit`.
        hook.timeout = match self.timeout {
            Some(Duration::ZERO) => Duration::MAX,
            Some(timeout) => timeout,
            None => HOOK_TIMEOUT,
        };
        Some(hook)
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(container: &'a str, labels: &'a BTreeMap<String, String>) -> Self {
        Self::of("container", container, labels)
    }

    pub(super) fn of(kind: &'static str, name: &'a str, labels: &'a BTreeMap<String, String>) -> Self {
        Self { kind, name, labels, warnings: Vec::new() }
    }

    /// A warning about a label.
    pub(super) fn warn(&mut self, label: &str, what: &str) {
        self.say(&format!("label {}: {what}", printable(label.as_bytes())));
    }

    /// A warning about the container or service.
    pub(super) fn say(&mut self, what: &str) {
        self.warnings.push(format!("{} {}: {what}", self.kind, self.name));
    }

    pub(super) fn flag(&mut self, label: &str, value: &str) -> Option<bool> {
        let read = boolean(value);
        if read.is_none() {
            self.warn(label, &format!("`{}` is neither true nor false; the label is ignored", printable(value.trim().as_bytes())));
        }
        read
    }

    pub(super) fn swarm(&mut self, label: &str, value: &str) -> Option<SwarmTasks> {
        let read = SwarmTasks::of_word(&value.trim().to_ascii_lowercase());
        if read.is_none() {
            self.warn(label, &format!("`{}` is neither pause nor scale; the label is ignored", printable(value.trim().as_bytes())));
        }
        read
    }

    pub(super) fn duration(&mut self, label: &str, value: &str) -> Option<Duration> {
        duration::parse(value).map_err(|error| self.warn(label, &format!("{error}; the label is ignored"))).ok()
    }

    pub(super) fn number(&mut self, label: &str, value: &str) -> Option<i64> {
        let read = value.trim().parse().ok();
        if read.is_none() {
            self.warn(label, &format!("`{}` is no whole number; the label is ignored", printable(value.trim().as_bytes())));
        }
        read
    }

    pub(super) fn text(&mut self, label: &str, value: &str) -> Option<String> {
        let text = value.trim();
        if text.is_empty() {
            self.warn(label, "is empty; the label is ignored");
        }
        Some(text.to_owned()).filter(|text| !text.is_empty())
    }

    /// Patterns of files that are left out. One that is malformed leaves nothing out: more is saved then, and that is told.
    pub(super) fn patterns(&mut self, label: &str, value: &str) -> Vec<String> {
        let mut patterns = list(value);
        patterns.retain(|pattern| match Pattern::parse(pattern.as_bytes(), String::new()) {
            Ok(_) => true,
            Err(reason) => {
                let pattern = printable(pattern.as_bytes());
                self.warn(
                    label,
                    &format!("the exclude pattern `{pattern}` is malformed: {reason}; it is ignored, and nothing left out for it"),
                );
                false
            }
        });
        patterns
    }

    /// A command as Dockerfiles write them: a JSON list of words, else a line for the shell.
    pub(super) fn command(&mut self, label: &str, value: &str) -> Option<Hook> {
        let text = self.text(label, value)?;
        let asked_by = format!("label {label}");
        if !text.starts_with('[') {
            return Some(Hook::of_line(&text, asked_by));
        }
        match serde_json::from_str::<Vec<String>>(&text) {
            Ok(words) if words.first().is_some_and(|program| !program.is_empty()) => Some(Hook::of_words(words, asked_by)),
            // The value is not shown: it may hold a password.
            _ => {
                self.warn(label, "is no list of words as in [\"sh\", \"-c\", \"sync\"]; the label is ignored");
                None
            }
        }
    }

    /// A command as other tools split them: into words, without a shell.
    pub(super) fn split_command(&mut self, label: &str, value: &str) -> Option<Hook> {
        let text = self.text(label, value)?;
        match split_words(&text) {
            Ok(words) if !words.is_empty() => Some(Hook::of_words(words, format!("label {label}"))),
            _ => {
                self.warn(label, "has a quote that is not closed; the label is ignored");
                None
            }
        }
    }
}

pub(super) fn boolean(value: &str) -> Option<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

pub(super) fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
