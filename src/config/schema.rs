//! What may stand where in a configuration: every key of the design with its type, and whether this version has it.
//!
//! [`check`] compares a file's tree with it and gives all problems at once. What keys mean together (a set that names an
//! unknown repository) is `validate`'s.

use std::collections::HashMap;

use super::tree::{Key as FileKey, Node, Position, Problem, Value};
use super::{Compression, duration, suggest};
use crate::model::pattern::{Pattern, tag_file};
use crate::model::retention::{Count, Span};
use crate::model::size::ByteSize;
use crate::model::text::printable;

/// The type of a value.
enum Kind {
    /// Text.
    Text,
    /// Text that may be empty.
    Description,
    /// `true` or `false`.
    Boolean,
    /// A whole number in this range.
    Number(u64, u64),
    /// A size in this range.
    Size(ByteSize, ByteSize),
    /// A duration.
    Duration,
    /// A whole number, or `unlimited`.
    Count,
    /// A span of the calendar.
    Span,
    /// A compression.
    Compression,
    /// One of these words; the second list is of those that only later versions have.
    Choice(&'static [&'static str], &'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A list of globs of names, each perhaps with a `!` before it.
    Globs,
    /// A list of patterns of what is left out.
    Excludes,
    /// A list of tag files.
    TagFiles,
    /// A line for a shell, or a list of words.
    Command,
    /// Known keys.
    Section(&'static [Key]),
    /// A list of such sections.
    Sections(&'static [Key]),
    /// Names that the user chooses, each with these keys.
    Named(&'static [Key]),
    /// A key of the design whose feature this version does not have.
    Later,
}

/// A key that the design knows.
struct Key {
    name: &'static str,
    kind: Kind,
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

const fn later(name: &'static str) -> Key {
    Key { name, kind: Kind::Later }
}

const ROOT: &[Key] = &[
    key("host", Kind::Text),
    key("docker", Kind::Section(DOCKER)),
    key("repositories", Kind::Named(REPOSITORY)),
    key("sets", Kind::Named(SET)),
    later("remotes"),
    later("schedules"),
    later("bandwidth"),
    later("quota"),
    later("notifications"),
    later("logging"),
    later("ui"),
    later("api"),
];

const DOCKER: &[Key] = &[
    key("host", Kind::Text),
    key("context", Kind::Text),
    key("tls_verify", Kind::Boolean),
    key("cert_path", Kind::Text),
    key("timeout", Kind::Duration),
    key("stop_timeout", Kind::Duration),
    key("save_before_restore", Kind::Boolean),
    key("check_streams", Kind::Boolean),
    key("swarm", Kind::Choice(&["pause", "scale"], &[])),
    key("engines", Kind::Named(ENGINE)),
];

const ENGINE: &[Key] = &[
    key("host", Kind::Text),
    key("context", Kind::Text),
    key("tls_verify", Kind::Boolean),
    key("cert_path", Kind::Text),
    key("hostname", Kind::Text),
    key("timeout", Kind::Duration),
    key("stop_timeout", Kind::Duration),
    key("save_before_restore", Kind::Boolean),
    key("check_streams", Kind::Boolean),
    key("swarm", Kind::Choice(&["pause", "scale"], &[])),
];

const REPOSITORY: &[Key] = &[
    key("engine", Kind::Choice(&["restic"], &["borg"])),
    key("location", Kind::Text),
    key("password_file", Kind::Text),
    key("password_command", Kind::Text),
    key("password_env", Kind::Text),
    key("compression", Kind::Compression),
    key("pack_size", Kind::Size(ByteSize(4 << 20), ByteSize(128 << 20))),
    key("verify_before_write", Kind::Boolean),
    key("cache", Kind::Choice(&["auto", "always", "never"], &[])),
    key("cache_size", Kind::Size(ByteSize(64 << 20), ByteSize(1 << 50))),
    later("encryption"),
    later("connections"),
    later("limit_upload"),
    later("limit_download"),
];

const SET: &[Key] = &[
    key("description", Kind::Description),
    key("enabled", Kind::Boolean),
    key("containers", Kind::Globs),
    key("projects", Kind::Globs),
    key("volumes", Kind::Globs),
    key("labels", Kind::Globs),
    key("paths", Kind::Texts),
    key("exclude", Kind::Excludes),
    key("exclude_if_present", Kind::TagFiles),
    key("one_file_system", Kind::Boolean),
    key("scope", Kind::Section(SCOPE)),
    key("consistency", Kind::Choice(&["stop", "pause", "none"], &[])),
    key("hooks", Kind::Section(HOOKS)),
    key("repository", Kind::Text),
    key("engine", Kind::Text),
    key("retention", Kind::Section(RETENTION)),
    later("databases"),
    later("copy_to"),
    later("suspicion"),
    later("notify"),
];

const HOOKS: &[Key] = &[key("exec_pre", Kind::Sections(HOOK)), key("exec_post", Kind::Sections(HOOK))];

const HOOK: &[Key] =
    &[key("containers", Kind::Globs), key("command", Kind::Command), key("user", Kind::Text), key("timeout", Kind::Duration)];

const SCOPE: &[Key] = &[
    key("configs", Kind::Boolean),
    key("logs", Kind::Boolean),
    key("log_lines", Kind::Number(0, 1_000_000)),
    key("volumes", Kind::Boolean),
    key("binds", Kind::Boolean),
    key("networks", Kind::Boolean),
    key("compose", Kind::Boolean),
    later("databases"),
    key("images", Kind::Choice(&["none", "local"], &[])),
    key("layers", Kind::Boolean),
];

const RETENTION: &[Key] = &[
    key("keep_last", Kind::Count),
    key("keep_hourly", Kind::Count),
    key("keep_daily", Kind::Count),
    key("keep_weekly", Kind::Count),
    key("keep_monthly", Kind::Count),
    key("keep_yearly", Kind::Count),
    key("keep_within", Kind::Span),
    key("keep_within_hourly", Kind::Span),
    key("keep_within_daily", Kind::Span),
    key("keep_within_weekly", Kind::Span),
    key("keep_within_monthly", Kind::Span),
    key("keep_within_yearly", Kind::Span),
    key("keep_tags", Kind::Texts),
    key("min_keep", Kind::Number(0, 1_000_000)),
    key("max_size", Kind::Size(ByteSize(1), ByteSize(u64::MAX))),
];

/// All differences between a file and the schema.
pub(super) fn check(root: &Node) -> Vec<Problem> {
    let mut checker = Checker::default();
    checker.section(root, ROOT, "");
    checker.problems
}

#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn problem(&mut self, at: Position, message: impl Into<String>) {
        self.problems.push(Problem { at, message: message.into() });
    }

    fn entries<'n>(&mut self, node: &'n Node, what: &str) -> &'n [(FileKey, Node)] {
        match &node.value {
            Value::Map(entries) => {
                self.duplicates(entries);
                entries
            }
            // `docker:` with nothing behind it is the same as no `docker:`.
            Value::Null => &[],
            other => {
                self.problem(node.at, format!("{what} must be keys with values, not {}", found(other)));
                &[]
            }
        }
    }

    fn duplicates(&mut self, entries: &[(FileKey, Node)]) {
        let mut first: HashMap<&str, Position> = HashMap::new();
        for (key, _) in entries {
            if let Some(at) = first.get(key.text.as_str()) {
                self.problem(key.at, format!("`{}` stands here a second time; the first is on line {}", key.text, at.line));
            } else {
                first.insert(&key.text, key.at);
            }
        }
    }

    fn section(&mut self, node: &Node, keys: &[Key], path: &str) {
        let what = if path.is_empty() { "a configuration".to_owned() } else { format!("`{path}`") };
        for (key, value) in self.entries(node, &what) {
            let Some(known) = keys.iter().find(|known| known.name == key.text) else {
                let suggestion = suggest::sentence(&key.text, keys.iter().map(|known| known.name));
                let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
                self.problem(key.at, format!("unknown key `{}`{place}{suggestion}", key.text));
                continue;
            };
            let path = if path.is_empty() { key.text.clone() } else { format!("{path}.{}", key.text) };
            match &known.kind {
                Kind::Later => self.problem(key.at, format!("`{path}` is not in this version")),
                kind => self.value(value, kind, &path),
            }
        }
    }

    fn value(&mut self, node: &Node, kind: &Kind, path: &str) {
        match kind {
            Kind::Section(keys) => return self.section(node, keys, path),
            Kind::Sections(keys) => return self.sections(node, keys, path),
            Kind::Named(keys) => return self.named(node, keys, path),
            Kind::Command if matches!(node.value, Value::List(_)) => return self.list(node, path, |_| None),
            Kind::Texts => return self.list(node, path, |_| None),
            Kind::Globs => return self.list(node, path, glob_problem),
            Kind::Excludes => return self.list(node, path, exclude_problem),
            Kind::TagFiles => return self.list(node, path, tag_file_problem),
            _ => {}
        }
        let (text, quoted) = match &node.value {
            Value::Null => return,
            Value::Scalar { text, quoted } => (text.as_str(), *quoted),
            other => return self.problem(node.at, format!("`{path}` must be {}, not {}", wanted(kind), found(other))),
        };
        if let Some(message) = scalar_problem(text, quoted, kind, path) {
            self.problem(node.at, message);
        }
    }

    fn sections(&mut self, node: &Node, keys: &'static [Key], path: &str) {
        match &node.value {
            Value::Null => {}
            Value::List(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    self.section(node, keys, &format!("{path}[{index}]"));
                }
            }
            other => self.problem(node.at, format!("`{path}` must be a list, not {}: write `- …` on lines of their own", found(other))),
        }
    }

    fn named(&mut self, node: &Node, keys: &'static [Key], path: &str) {
        for (key, value) in self.entries(node, &format!("`{path}`")) {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if !key.text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !key.text.chars().all(good) || key.text.len() > 64 {
                let name = printable(key.text.as_bytes());
                let rule = "a name begins with a letter or digit and has only letters, digits, `_`, `-` and `.`, at most 64";
                self.problem(key.at, format!("`{name}` cannot be a name in `{path}`: {rule}"));
            }
            self.section(value, keys, &format!("{path}.{}", key.text));
        }
    }

    fn list(&mut self, node: &Node, path: &str, check: impl Fn(&str) -> Option<String>) {
        let nodes = match &node.value {
            Value::Null => return,
            Value::List(nodes) => nodes,
            other => {
                return self.problem(node.at, format!("`{path}` must be a list, not {}: write `- …` on lines of their own", found(other)));
            }
        };
        for node in nodes {
            match &node.value {
                Value::Scalar { text, quoted } => {
                    let message = scalar_problem(text, *quoted, &Kind::Text, path).or_else(|| check(text));
                    if let Some(message) = message {
                        self.problem(node.at, message);
                    }
                }
                other => self.problem(node.at, format!("`{path}` must be a list of texts, and this is {}", found(other))),
            }
        }
    }
}

fn scalar_problem(text: &str, quoted: bool, kind: &Kind, path: &str) -> Option<String> {
    let wrong = || Some(format!("`{path}` must be {}, not `{}`", wanted(kind), printable(text.as_bytes())));
    match kind {
        Kind::Text | Kind::Command if text.trim().is_empty() => Some(format!("`{path}` must not be empty")),
        Kind::Text | Kind::Command if text.contains('\0') => Some(format!("`{path}` must not have a zero byte in it")),
        Kind::Text | Kind::Command | Kind::Description => match plain_type(text) {
            Some(found) if !quoted => Some(format!("`{path}` must be text, and `{text}` is {found}: put it in quotes")),
            _ => None,
        },
        Kind::Boolean if !quoted && plain_type(text) == Some("a boolean") => None,
        Kind::Number(least, most) => match text.parse::<u64>() {
            Ok(number) if !quoted && (least..=most).contains(&&number) => None,
            _ => wrong(),
        },
        Kind::Size(least, most) => match text.parse::<ByteSize>() {
            Ok(size) if size >= *least && size <= *most => None,
            Ok(_) => wrong(),
            Err(error) => Some(format!("`{path}`: {error}")),
        },
        Kind::Count => text.parse::<Count>().err().map(|error| format!("`{path}`: {error}")),
        Kind::Span => text.parse::<Span>().err().map(|error| format!("`{path}`: {error}")),
        Kind::Duration => duration::parse(text).err().map(|error| format!("`{path}`: {error}")),
        Kind::Compression => text.parse::<Compression>().err().map(|error| format!("`{path}`: {error}")),
        Kind::Choice(now, _) if now.contains(&text) => None,
        Kind::Choice(_, later) if later.contains(&text) => Some(format!("`{path}: {text}` is not in this version")),
        Kind::Choice(now, _) => wrong().map(|message| message + &suggest::sentence(text, now.iter().copied())),
        _ => wrong(),
    }
}

/// What YAML takes a word without quotes for, if not for text.
fn plain_type(text: &str) -> Option<&'static str> {
    match text {
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Some("a boolean"),
        // `inf` and `nan` are numbers to Rust and words to YAML.
        _ if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) && text.parse::<f64>().is_ok() => {
            Some("a number")
        }
        _ => None,
    }
}

fn glob_problem(pattern: &str) -> Option<String> {
    let glob = pattern.strip_prefix('!').unwrap_or(pattern);
    if glob.is_empty() {
        return Some("`!` alone takes nothing away: write a pattern behind it".to_owned());
    }
    globset::Glob::new(glob).err().map(|error| format!("`{pattern}` is no pattern: {}", error.kind()))
}

fn exclude_problem(pattern: &str) -> Option<String> {
    let problem = Pattern::parse(pattern.as_bytes(), String::new()).err();
    problem.map(|reason| format!("the exclude pattern `{}` is malformed: {reason}", printable(pattern.as_bytes())))
}

fn tag_file_problem(tag: &str) -> Option<String> {
    let message = || format!("`{}` does not name a tag file: `NAME` or `NAME:HEADER` is needed", printable(tag.as_bytes()));
    tag_file(tag.as_bytes()).is_none().then(message)
}

fn wanted(kind: &Kind) -> String {
    match kind {
        Kind::Text | Kind::Description => "text".to_owned(),
        Kind::Boolean => "true or false".to_owned(),
        Kind::Number(least, most) => format!("a number from {least} to {most}"),
        Kind::Size(least, most) => format!("a size from {least} to {most}"),
        Kind::Duration => "a duration".to_owned(),
        Kind::Count => "a count".to_owned(),
        Kind::Span => "a span".to_owned(),
        Kind::Compression => "a compression".to_owned(),
        Kind::Choice(now, _) => now.join(" or "),
        Kind::Command => "text or a list of words".to_owned(),
        Kind::Texts | Kind::Globs | Kind::Excludes | Kind::TagFiles | Kind::Sections(_) => "a list".to_owned(),
        Kind::Section(_) | Kind::Named(_) | Kind::Later => "keys with values".to_owned(),
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Scalar { text, quoted } => match plain_type(text) {
            Some(found) if !quoted => found,
            _ => "text",
        },
        Value::List(_) => "a list",
        Value::Map(_) => "keys with values",
    }
}
