//! A configuration written back for people and programs, with every default filled in and no secret in it.

use serde::Serialize;
use serde::ser::SerializeMap;

use super::password::PasswordSource;
use super::{Config, PACK_SIZE, Scope, duration};
use crate::model::retention::{Count, Span};

/// The configuration in the words of a configuration file. What could hold a secret is masked.
pub fn shown(config: &Config) -> impl Serialize {
    Shown {
        host: config.host.clone(),
        docker: Docker {
            engine: engine(&config.docker),
            engines: Named(config.engines.iter().map(|one| (one.name.clone(), named_engine(one))).collect()),
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
        compression: one.compression.unwrap_or_default().to_string(),
        pack_size: one.pack_size.unwrap_or(PACK_SIZE).exact(),
        verify_before_write: one.verify_before_write,
        cache: one.cache.word(),
        cache_size: one.cache_size.exact(),
    }
}

fn engine(one: &super::Docker) -> Engine {
    Engine {
        host: one.host.as_deref().map(without_user),
        context: one.context.clone(),
        tls_verify: one.tls_verify,
        cert_path: one.cert_path.as_ref().map(|path| path.display().to_string()),
        timeout: duration::show(one.timeout),
        stop_timeout: one.stop_timeout.map(duration::show),
        save_before_restore: one.save_before_restore,
        check_streams: one.check_streams,
        swarm: one.swarm.word(),
    }
}

fn named_engine(one: &super::EngineConfig) -> NamedEngine {
    NamedEngine { hostname: one.hostname.clone(), engine: engine(&one.docker) }
}

fn set(one: &super::BackupSet) -> Set {
    let Scope { configs, logs, log_lines, volumes, binds, networks, compose, images, layers } = one.scope.clone();
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
        scope: ShownScope { configs, logs, log_lines, volumes, binds, networks, compose, images: images.word(), layers },
        consistency: one.consistency.word(),
        hooks: ShownHooks {
            exec_pre: one.hooks.exec_pre.iter().map(hook).collect(),
            exec_post: one.hooks.exec_post.iter().map(hook).collect(),
        },
        repository: one.repository.clone(),
        engine: one.engine.clone().unwrap_or_else(|| super::DEFAULT_ENGINE.to_owned()),
        retention: one.retention.as_ref().map(retention),
    }
}

/// Only the rules that are there.
fn retention(one: &super::Retention) -> Retention {
    let count = |count: Count| (!count.is_zero()).then_some(count);
    let span = |span: Span| (!span.is_zero()).then_some(span);
    Retention {
        keep_last: count(one.keep_last),
        keep_hourly: count(one.keep_hourly),
        keep_daily: count(one.keep_daily),
        keep_weekly: count(one.keep_weekly),
        keep_monthly: count(one.keep_monthly),
        keep_yearly: count(one.keep_yearly),
        keep_within: span(one.keep_within),
        keep_within_hourly: span(one.keep_within_hourly),
        keep_within_daily: span(one.keep_within_daily),
        keep_within_weekly: span(one.keep_within_weekly),
        keep_within_monthly: span(one.keep_within_monthly),
        keep_within_yearly: span(one.keep_within_yearly),
        keep_tags: one.keep_tags.iter().map(|tags| tags.join(",")).collect(),
        min_keep: one.min_keep,
        max_size: one.max_size.map(super::ByteSize::exact),
    }
}

fn hook(one: &super::SetHook) -> ShownHook {
    ShownHook {
        containers: one.containers.clone(),
        command: "(not shown)",
        user: one.hook.user.clone(),
        timeout: duration::show(one.hook.timeout),
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
    #[serde(flatten)]
    engine: Engine,
    engines: Named<NamedEngine>,
}

#[derive(Serialize)]
struct Engine {
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_verify: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cert_path: Option<String>,
    timeout: String,
    stop_timeout: Option<String>,
    save_before_restore: bool,
    check_streams: bool,
    swarm: &'static str,
}

#[derive(Serialize)]
struct NamedEngine {
    hostname: String,
    #[serde(flatten)]
    engine: Engine,
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
    cache: &'static str,
    cache_size: String,
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
    hooks: ShownHooks,
    repository: Option<String>,
    engine: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<Retention>,
}

#[derive(Serialize)]
struct ShownHooks {
    exec_pre: Vec<ShownHook>,
    exec_post: Vec<ShownHook>,
}

#[derive(Serialize)]
struct ShownHook {
    containers: Vec<String>,
    /// Never the command itself: it may have a password in it.
    command: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    timeout: String,
}

#[derive(Serialize)]
struct ShownScope {
    configs: bool,
    logs: bool,
    log_lines: u32,
    volumes: bool,
    binds: bool,
    networks: bool,
    compose: bool,
    images: &'static str,
    layers: bool,
}

#[derive(Serialize)]
struct Retention {
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_last: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_hourly: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_daily: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_weekly: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_monthly: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_yearly: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_within: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_within_hourly: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_within_daily: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_within_weekly: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_within_monthly: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_within_yearly: Option<Span>,
    keep_tags: Vec<String>,
    min_keep: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_size: Option<String>,
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
