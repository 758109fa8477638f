//! The shape of a configuration file as serde reads it: everything may be missing, nothing is interpreted yet.

use std::collections::BTreeMap;

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
    pub(super) timeout: Option<String>,
    pub(super) stop_timeout: Option<String>,
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
    pub(super) repository: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Scope {
    pub(super) configs: Option<bool>,
    pub(super) logs: Option<bool>,
    pub(super) log_lines: Option<u32>,
    pub(super) volumes: Option<bool>,
    pub(super) networks: Option<bool>,
    pub(super) compose: Option<bool>,
}
