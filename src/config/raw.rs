//! The shape of a configuration file as serde reads it: everything may be missing, nothing is interpreted yet.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct File {
    pub(super) host: Option<String>,
    pub(super) docker: Option<Docker>,
    pub(super) repositories: Option<BTreeMap<String, Option<Repository>>>,
    pub(super) sets: Option<BTreeMap<String, Option<Set>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Docker {
    pub(super) host: Option<String>,
    pub(super) context: Option<String>,
    pub(super) tls_verify: Option<bool>,
    pub(super) cert_path: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) stop_timeout: Option<String>,
    pub(super) save_before_restore: Option<bool>,
    pub(super) check_streams: Option<bool>,
    pub(super) swarm: Option<String>,
    /// Only of a further Engine.
    pub(super) hostname: Option<String>,
    /// Never of a further Engine.
    pub(super) engines: Option<BTreeMap<String, Option<Docker>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Repository {
    pub(super) location: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) password_command: Option<String>,
    pub(super) password_env: Option<String>,
    pub(super) compression: Option<String>,
    pub(super) pack_size: Option<String>,
    pub(super) verify_before_write: Option<bool>,
    pub(super) cache: Option<String>,
    pub(super) cache_size: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Set {
    pub(super) description: Option<String>,
    pub(super) enabled: Option<bool>,
    pub(super) containers: Option<Vec<String>>,
    pub(super) projects: Option<Vec<String>>,
    pub(super) volumes: Option<Vec<String>>,
    pub(super) labels: Option<Vec<String>>,
    pub(super) paths: Option<Vec<String>>,
    pub(super) exclude: Option<Vec<String>>,
    pub(super) exclude_if_present: Option<Vec<String>>,
    pub(super) one_file_system: Option<bool>,
    pub(super) scope: Option<Scope>,
    pub(super) consistency: Option<String>,
    pub(super) hooks: Option<Hooks>,
    pub(super) repository: Option<String>,
    pub(super) engine: Option<String>,
    pub(super) retention: Option<Retention>,
}

/// Counts and spans are read as text: a count may be a word, and YAML has no spans.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Retention {
    pub(super) keep_last: Option<Scalar>,
    pub(super) keep_hourly: Option<Scalar>,
    pub(super) keep_daily: Option<Scalar>,
    pub(super) keep_weekly: Option<Scalar>,
    pub(super) keep_monthly: Option<Scalar>,
    pub(super) keep_yearly: Option<Scalar>,
    pub(super) keep_within: Option<String>,
    pub(super) keep_within_hourly: Option<String>,
    pub(super) keep_within_daily: Option<String>,
    pub(super) keep_within_weekly: Option<String>,
    pub(super) keep_within_monthly: Option<String>,
    pub(super) keep_within_yearly: Option<String>,
    pub(super) keep_tags: Option<Vec<String>>,
    pub(super) min_keep: Option<u32>,
    pub(super) max_size: Option<Scalar>,
}

/// A number or a word.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    Number(u64),
    Text(String),
}

impl Scalar {
    /// Reads it as what it is meant to be; none if it is not, which the schema has reported.
    pub(super) fn read<T: FromStr>(&self) -> Option<T> {
        match self {
            Self::Number(number) => number.to_string().parse().ok(),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Hooks {
    pub(super) exec_pre: Option<Vec<Hook>>,
    pub(super) exec_post: Option<Vec<Hook>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Hook {
    pub(super) containers: Option<Vec<String>>,
    pub(super) command: Option<Command>,
    pub(super) user: Option<String>,
    pub(super) timeout: Option<String>,
}

/// A line for a shell, or a program with its arguments.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Command {
    Line(String),
    Words(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Scope {
    pub(super) configs: Option<bool>,
    pub(super) logs: Option<bool>,
    pub(super) log_lines: Option<u32>,
    pub(super) volumes: Option<bool>,
    pub(super) binds: Option<bool>,
    pub(super) networks: Option<bool>,
    pub(super) compose: Option<bool>,
    pub(super) images: Option<String>,
    pub(super) layers: Option<bool>,
}
