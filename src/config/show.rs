//! A configuration written back for people and programs, with every default filled in and no secret in it.

use serde::Serialize;
use serde::ser::SerializeMap;

use super::password::PasswordSource;
use super::{Config, Scope, duration};

/// The configuration in the words of a configuration file. What could hold a secret is masked.
pub fn shown(config: &Config) -> impl Serialize {
    Shown {
        host: config.host.clone(),
        docker: Docker {
            host: config.docker.host.as_deref().map(without_user),
            timeout: duration::show(config.docker.timeout),
            stop_timeout: config.docker.stop_timeout.map(duration::show),
        },
        repositories: Named(config.repositories.iter().map(|one| (one.name.clone().unwrap_or_default(), repository(one))).collect()),
        sets: Named(config.sets.iter().map(|one| (one.name.clone().unwrap_or_default(), set(one))).collect()),
    }
}

/// The same as YAML.
pub fn yaml(config: &Config) -> String {
    // Plain strings, numbers and lists always can be written.
    serde_yaml::to_string(&shown(config)).unwrap_or_default()
}

fn repository(one: &super::RepositoryConfig) -> Repository {
    let mut password = (None, None, None);
    match &one.password {
        Some(PasswordSource::File(path)) => password.0 = Some(path.display().to_string()),
        // A command may have the password in it.
        Some(PasswordSource::Command(_)) => password.1 = Some("(not shown)".to_owned()),
        Some(PasswordSource::Environment(name)) => password.2 = Some(name.clone()),
        Some(PasswordSource::Known(_)) | None => {}
    }
    Repository {
        engine: "restic",
        location: one.location.display().to_string(),
        password_file: password.0,
        password_command: password.1,
        password_env: password.2,
        compression: one.compression.to_string(),
        pack_size: one.pack_size.to_string(),
        verify_before_write: one.verify_before_write,
    }
}

fn set(one: &super::BackupSet) -> Set {
    let Scope { configs, logs, log_lines, volumes, networks, compose } = one.scope.clone();
    Set {
        description: one.description.clone(),
        enabled: one.enabled,
        containers: one.selection.containers.clone(),
        projects: one.selection.projects.clone(),
        volumes: one.selection.volumes.clone(),
        labels: one.selection.labels.clone(),
        paths: one.selection.paths.iter().map(|path| path.display().to_string()).collect(),
        exclude: one.filter.exclude.clone(),
        exclude_if_present: one.filter.exclude_if_present.clone(),
        one_file_system: one.filter.one_file_system,
        scope: ShownScope { configs, logs, log_lines, volumes, networks, compose },
        consistency: one.consistency.word(),
        repository: one.repository.clone(),
    }
}

/// An address without the `user:password@` that it may have.
fn without_user(address: &str) -> String {
    match address.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            match rest[..end].rfind('@') {
                Some(at) if rest[..at].contains(':') => format!("{scheme}://…{}", &rest[at..]),
                _ => address.to_owned(),
            }
        }
        None => address.to_owned(),
    }
}

#[derive(Serialize)]
struct Shown {
    host: String,
    docker: Docker,
    repositories: Named<Repository>,
    sets: Named<Set>,
}

#[derive(Serialize)]
struct Docker {
    host: Option<String>,
    timeout: String,
    stop_timeout: Option<String>,
}

#[derive(Serialize)]
struct Repository {
    engine: &'static str,
    location: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_env: Option<String>,
    compression: String,
    pack_size: String,
    verify_before_write: bool,
}

#[derive(Serialize)]
struct Set {
    description: String,
    enabled: bool,
    containers: Vec<String>,
    projects: Vec<String>,
    volumes: Vec<String>,
    labels: Vec<String>,
    paths: Vec<String>,
    exclude: Vec<String>,
    exclude_if_present: Vec<String>,
    one_file_system: bool,
    scope: ShownScope,
    consistency: &'static str,
    repository: Option<String>,
}

#[derive(Serialize)]
struct ShownScope {
    configs: bool,
    logs: bool,
    log_lines: u32,
    volumes: bool,
    networks: bool,
    compose: bool,
}

/// A mapping that keeps the order of the file.
struct Named<T>(Vec<(String, T)>);

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
