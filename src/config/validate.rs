//! From what a file says to a [`Config`]: defaults filled in, paths made absolute, names resolved; what contradicts itself
//! is a problem with its place.
//!
//! Types and spelling have been checked by `schema` before.

use std::path::{Path, PathBuf};

use super::password::PasswordSource;
use super::tree::{Node, Position, Problem, Value};
use super::{
    BackupSet, CACHE_SIZE, CacheUse, Config, DEFAULT_ENGINE, Docker, EngineConfig, Filter, Hooks, Images, RepositoryConfig, Retention,
    Scope, Selection,
};
use super::{Consistency, LOG_LINES, SetHook, SwarmTasks, duration, raw, suggest};
use crate::model::hook::{HOOK_TIMEOUT, Hook};
use crate::model::retention::tag_list;
use crate::platform::directories::Directories;

/// What a file does not say itself.
pub(super) struct Surroundings<'a> {
    /// The file: relative paths in it are relative to its folder.
    pub(super) path: &'a Path,
    pub(super) directories: &'a Directories,
    /// The name of this machine.
    pub(super) hostname: &'a str,
    /// Whether every key is known: else what seems to be missing may only be misspelled.
    pub(super) spelled: bool,
}

pub(super) fn validate(file: raw::File, tree: &Node, around: &Surroundings<'_>) -> Result<Config, Vec<Problem>> {
    let mut validator = Validator { tree, around, problems: Vec::new() };
    let config = validator.config(file);
    if validator.problems.is_empty() { Ok(config) } else { Err(validator.problems) }
}

/// The embedded default repository.
pub(super) fn embedded_repository(directories: &Directories) -> RepositoryConfig {
    RepositoryConfig {
        name: Some("default".to_owned()),
        password: Some(PasswordSource::File(directories.default_key())),
        embedded: true,
        ..RepositoryConfig::at(directories.default_repository())
    }
}

struct Validator<'a> {
    tree: &'a Node,
    around: &'a Surroundings<'a>,
    problems: Vec<Problem>,
}

impl Validator<'_> {
    fn problem(&mut self, path: &[&str], message: impl Into<String>) {
        self.problems.push(Problem { at: self.tree.position(path), message: message.into() });
    }

    /// The names in a section, in the order of the file.
    fn names(&self, section: &[&str]) -> Vec<String> {
        match self.tree.find(section) {
            Some((_, Node { value: Value::Map(entries), .. })) => entries.iter().map(|(key, _)| key.text.clone()).collect(),
            _ => Vec::new(),
        }
    }

    fn config(&mut self, file: raw::File) -> Config {
        let mut repositories = file.repositories.unwrap_or_default();
        let mut checked: Vec<RepositoryConfig> = Vec::new();
        for name in self.names(&["repositories"]) {
            let repository = repositories.remove(&name).flatten().unwrap_or_default();
            checked.push(self.repository(&name, repository));
        }
        if checked.is_empty() {
            checked.push(embedded_repository(self.around.directories));
        }
        let mut docker = file.docker.unwrap_or_default();
        let mut engines = docker.engines.take().unwrap_or_default();
        let docker = self.docker(&["docker"], docker, &Docker::default());
        let names = self.names(&["docker", "engines"]);
        let engines: Vec<EngineConfig> =
            names.into_iter().map(|name| self.engine(&name, engines.remove(&name).flatten().unwrap_or_default(), &docker)).collect();
        let host_is_given = file.host.is_some();
        let host = file.host.unwrap_or_else(|| self.around.hostname.to_owned());
        self.one_name_each(&host, &engines);
        let mut sets = file.sets.unwrap_or_default();
        let names = self.names(&["sets"]);
        let sets: Vec<BackupSet> =
            names.into_iter().map(|name| self.set(&name, sets.remove(&name).flatten().unwrap_or_default(), &checked)).collect();
        for set in &sets {
            self.known_engine(set, &engines);
        }
        let source = Some(self.around.path.to_owned());
        Config { source, machine: host.clone(), host, host_is_given, docker, engines, repositories: checked, sets }
    }

    /// The way to an Engine; what it does not say of times is as in `usual`.
    fn docker(&mut self, here: &[&str], docker: raw::Docker, usual: &Docker) -> Docker {
        if docker.host.is_some() && docker.context.is_some() {
            self.problem(&[here, &["context"]].concat(), "give either `host` or `context`: a context says itself where its Engine is");
        }
        if docker.context.is_some() && (docker.cert_path.is_some() || docker.tls_verify.is_some()) {
            let key = if docker.cert_path.is_some() { "cert_path" } else { "tls_verify" };
            self.problem(&[here, &[key]].concat(), format!("a context has its own certificates: take `{key}` away, or name the `host`"));
        }
        let time = |text: Option<String>| text.and_then(|text| duration::parse(&text).ok());
        Docker {
            host: docker.host,
            context: docker.context,
            tls_verify: docker.tls_verify,
            cert_path: docker.cert_path.map(|path| self.absolute(&path)),
            client_folder: None,
            timeout: time(docker.timeout).unwrap_or(usual.timeout),
            stop_timeout: time(docker.stop_timeout).or(usual.stop_timeout),
            save_before_restore: docker.save_before_restore.unwrap_or(usual.save_before_restore),
            check_streams: docker.check_streams.unwrap_or(usual.check_streams),
            swarm: docker.swarm.as_deref().and_then(SwarmTasks::of_word).unwrap_or(usual.swarm),
        }
    }

    fn engine(&mut self, name: &str, mut engine: raw::Docker, usual: &Docker) -> EngineConfig {
        let here = ["docker", "engines", name];
        if name == DEFAULT_ENGINE {
            self.problem(&here, format!("`{DEFAULT_ENGINE}` is the Engine that `docker` itself describes: choose another name"));
        }
        let hostname = engine.hostname.take().unwrap_or_else(|| name.to_owned());
        let docker = self.docker(&here, engine, usual);
        if self.around.spelled && !docker.says_where() {
            self.problem(&here, format!("the Engine `{name}` needs a `host` or a `context`"));
        }
        EngineConfig { name: name.to_owned(), hostname, docker }
    }

    /// Two Engines of one name would take each other's snapshots for their own.
    fn one_name_each(&mut self, host: &str, engines: &[EngineConfig]) {
        for (index, engine) in engines.iter().enumerate() {
            let others = std::iter::once(host).chain(engines[..index].iter().map(|other| other.hostname.as_str()));
            if others.into_iter().any(|other| other == engine.hostname) {
                let message = format!("the Engine `{}` needs a `hostname` of its own: `{}` is taken", engine.name, engine.hostname);
                self.problem(&["docker", "engines", &engine.name], message);
            }
        }
    }

    fn known_engine(&mut self, set: &BackupSet, engines: &[EngineConfig]) {
        let (Some(wanted), Some(name)) = (set.engine.as_deref(), set.name.as_deref()) else { return };
        let known = || std::iter::once(DEFAULT_ENGINE).chain(engines.iter().map(|engine| engine.name.as_str()));
        if !known().any(|name| name == wanted) {
            let suggestion = suggest::sentence(wanted, known());
            self.problem(&["sets", name, "engine"], format!("there is no Engine `{wanted}` in `docker.engines`{suggestion}"));
        } else if wanted != DEFAULT_ENGINE && !set.selection.paths.is_empty() {
            let message = "paths are of this machine, not of the Engine's: put them into a set of their own".to_owned();
            self.problem(&["sets", name, "paths"], message);
        }
    }

    fn repository(&mut self, name: &str, repository: raw::Repository) -> RepositoryConfig {
        let here = ["repositories", name];
        let location = match repository.location.as_deref() {
            None => {
                if self.around.spelled {
                    self.problem(&here, format!("the repository `{name}` needs a `location`"));
                }
                PathBuf::new()
            }
            Some(location) => {
                if let Some(path) = local_path(location) {
                    self.absolute(path)
                } else {
                    let message =
                        format!("`{location}` is not a folder of this machine, and other kinds of repositories are not in this version");
                    self.problem(&["repositories", name, "location"], message);
                    PathBuf::new()
                }
            }
        };
        let sources = [
            ("password_file", repository.password_file.map(|path| PasswordSource::File(self.absolute(&path)))),
            ("password_command", repository.password_command.map(PasswordSource::Command)),
            ("password_env", repository.password_env.map(PasswordSource::Environment)),
        ];
        let mut password = None;
        for (key, source) in sources {
            if password.is_some() && source.is_some() {
                self.problem(
                    &["repositories", name, key],
                    "a repository has one password: give only one of password_file, password_command and password_env",
                );
            }
            password = password.or(source);
        }
        RepositoryConfig {
            name: Some(name.to_owned()),
            password,
            // The schema has read these once already.
            compression: repository.compression.and_then(|text| text.parse().ok()),
            pack_size: repository.pack_size.and_then(|text| text.parse().ok()),
            verify_before_write: repository.verify_before_write.unwrap_or(true),
            cache: match repository.cache.as_deref() {
                Some("always") => CacheUse::Always,
                Some("never") => CacheUse::Never,
                _ => CacheUse::Auto,
            },
            cache_size: repository.cache_size.and_then(|text| text.parse().ok()).unwrap_or(CACHE_SIZE),
            ..RepositoryConfig::at(location)
        }
    }

    fn set(&mut self, name: &str, set: raw::Set, repositories: &[RepositoryConfig]) -> BackupSet {
        let here = ["sets", name];
        let has_paths = set.paths.as_ref().is_some_and(|paths| !paths.is_empty());
        let mut paths = Vec::new();
        for (index, path) in set.paths.unwrap_or_default().into_iter().enumerate() {
            let expanded = self.around.directories.expand_home(Path::new(&path));
            if expanded.is_absolute() {
                paths.push(expanded);
            } else {
                let at = self.element(&["sets", name, "paths"], index);
                self.problems
                    .push(Problem { at, message: format!("`{path}` must be an absolute path: a set means the same wherever it is run") });
            }
        }
        let selection = Selection {
            everything: false,
            containers: set.containers.unwrap_or_default(),
            projects: set.projects.unwrap_or_default(),
            volumes: set.volumes.unwrap_or_default(),
            labels: set.labels.unwrap_or_default(),
            paths,
        };
        self.hooks_for_paths(name, &selection, set.hooks.as_ref());
        let chooses = |patterns: &[String]| patterns.iter().any(|pattern| !pattern.starts_with('!'));
        let lists = [&selection.containers, &selection.projects, &selection.volumes, &selection.labels];
        if self.around.spelled && !has_paths && !lists.iter().any(|list| chooses(list)) {
            let message = format!(
                "the set `{name}` chooses nothing: give it containers, projects, volumes, labels or paths (`containers: [\"*\"]` for all)"
            );
            self.problem(&here, message);
        }
        self.known_repository(name, set.repository.as_deref(), repositories);
        let hooks = set.hooks.unwrap_or_default();
        let hooks =
            Hooks { exec_pre: self.hooks(name, "exec_pre", hooks.exec_pre), exec_post: self.hooks(name, "exec_post", hooks.exec_post) };
        let scope = set.scope.unwrap_or_default();
        BackupSet {
            name: Some(name.to_owned()),
            description: set.description.unwrap_or_default(),
            enabled: set.enabled.unwrap_or(true),
            selection,
            filter: Filter {
                exclude: set.exclude.unwrap_or_default(),
                exclude_files: Vec::new(),
                exclude_if_present: set.exclude_if_present.unwrap_or_default(),
                one_file_system: set.one_file_system.unwrap_or(false),
            },
            scope: Scope {
                configs: scope.configs.unwrap_or(true),
                logs: scope.logs.unwrap_or(true),
                log_lines: scope.log_lines.unwrap_or(LOG_LINES),
                volumes: scope.volumes.unwrap_or(true),
                binds: scope.binds.unwrap_or(true),
                networks: scope.networks.unwrap_or(true),
                compose: scope.compose.unwrap_or(true),
                images: if scope.images.as_deref() == Some("local") { Images::Local } else { Images::None },
                layers: scope.layers.unwrap_or(false),
            },
            consistency: match set.consistency.as_deref() {
                Some("pause") => Consistency::Pause,
                Some("none") => Consistency::None,
                _ => Consistency::Stop,
            },
            retention: set.retention.and_then(|retention| self.retention(name, &retention)),
            hooks,
            repository: set.repository,
            engine: set.engine.filter(|engine| engine != DEFAULT_ENGINE),
        }
    }

    /// A section without a value is as if it were not there; one that keeps nothing is a mistake.
    fn retention(&mut self, set: &str, raw: &raw::Retention) -> Option<Retention> {
        let here = ["sets", set, "retention"];
        let is_written = |validator: &Self| matches!(validator.tree.find(&here), Some((_, Node { value: Value::Map(entries), .. })) if !entries.is_empty());
        if !is_written(self) {
            return None;
        }
        // The schema has read all of these once already.
        let count = |value: &Option<raw::Scalar>| value.as_ref().and_then(raw::Scalar::read).unwrap_or_default();
        let span = |value: &Option<String>| value.as_ref().and_then(|text| text.parse().ok()).unwrap_or_default();
        let retention = Retention {
            keep_last: count(&raw.keep_last),
            keep_hourly: count(&raw.keep_hourly),
            keep_daily: count(&raw.keep_daily),
            keep_weekly: count(&raw.keep_weekly),
            keep_monthly: count(&raw.keep_monthly),
            keep_yearly: count(&raw.keep_yearly),
            keep_within: span(&raw.keep_within),
            keep_within_hourly: span(&raw.keep_within_hourly),
            keep_within_daily: span(&raw.keep_within_daily),
            keep_within_weekly: span(&raw.keep_within_weekly),
            keep_within_monthly: span(&raw.keep_within_monthly),
            keep_within_yearly: span(&raw.keep_within_yearly),
            keep_tags: raw.keep_tags.iter().flatten().map(|text| tag_list(text)).collect(),
            min_keep: raw.min_keep.unwrap_or_default(),
            max_size: raw.max_size.as_ref().and_then(raw::Scalar::read),
        };
        for (index, text) in raw.keep_tags.iter().flatten().enumerate() {
            if tag_list(text).is_empty() {
                let at = self.element(&["sets", set, "retention", "keep_tags"], index);
                self.problems.push(Problem { at, message: format!("`{text}` names no tag") });
            }
        }
        if self.around.spelled
            && let Err(message) = retention.check()
        {
            self.problem(&here, format!("the retention of `{set}` cannot be meant: {message}"));
        }
        Some(retention)
    }

    /// A hook runs inside of containers, and a set that chooses only paths looks at none.
    fn hooks_for_paths(&mut self, set: &str, selection: &Selection, hooks: Option<&raw::Hooks>) {
        let has_any = |list: Option<&Vec<raw::Hook>>| list.is_some_and(|list| !list.is_empty());
        let has_hooks = hooks.is_some_and(|hooks| has_any(hooks.exec_pre.as_ref()) || has_any(hooks.exec_post.as_ref()));
        if has_hooks && !selection.paths.is_empty() && !selection.needs_docker() {
            let message = format!(
                "the hooks of `{set}` would never run: they run inside of containers, and the set chooses only paths; choose the containers, too"
            );
            self.problem(&["sets", set, "hooks"], message);
        }
    }

    /// The hooks of one kind. Each must say in which containers it runs: nobody wants a `pg_dump` in all of them.
    fn hooks(&mut self, set: &str, key: &str, hooks: Option<Vec<raw::Hook>>) -> Vec<SetHook> {
        let mut checked = Vec::new();
        for (index, raw) in hooks.unwrap_or_default().into_iter().enumerate() {
            let at = self.element(&["sets", set, "hooks", key], index);
            let mut problem = |message: String| {
                // Else what is missing may only be misspelled.
                if self.around.spelled {
                    self.problems.push(Problem { at, message });
                }
            };
            let asked_by = format!("sets.{set}.hooks.{key}");
            let hook = match raw.command {
                Some(raw::Command::Line(line)) => Hook::of_line(&line, asked_by),
                Some(raw::Command::Words(words)) if !words.is_empty() => Hook::of_words(words, asked_by),
                _ => {
                    problem("a hook needs a `command`: a line for the container's shell, or a list of words".to_owned());
                    continue;
                }
            };
            let containers = raw.containers.unwrap_or_default();
            if !containers.iter().any(|pattern| !pattern.starts_with('!')) {
                problem("a hook needs `containers`: the names of those in which it runs (`[\"*\"]` for all)".to_owned());
                continue;
            }
            let timeout = raw.timeout.and_then(|text| duration::parse(&text).ok()).unwrap_or(HOOK_TIMEOUT);
            checked.push(SetHook { containers, hook: Hook { user: raw.user, timeout, ..hook } });
        }
        checked
    }

    fn known_repository(&mut self, set: &str, wanted: Option<&str>, repositories: &[RepositoryConfig]) {
        let names = || repositories.iter().filter_map(|repository| repository.name.as_deref());
        match wanted {
            Some(wanted) if !names().any(|name| name == wanted) => {
                let suggestion = suggest::sentence(wanted, names());
                self.problem(&["sets", set, "repository"], format!("there is no repository `{wanted}`{suggestion}"));
            }
            None if repositories.len() > 1 && !names().any(|name| name == "default") => {
                let message =
                    format!("the set `{set}` must say which `repository` it goes to: there are several and none is called `default`");
                self.problem(&["sets", set], message);
            }
            _ => {}
        }
    }

    fn element(&self, path: &[&str], index: usize) -> Position {
        match self.tree.find(path) {
            Some((_, Node { value: Value::List(nodes), .. })) if index < nodes.len() => nodes[index].at,
            _ => self.tree.position(path),
        }
    }

    fn absolute(&self, path: &str) -> PathBuf {
        let expanded = self.around.directories.expand_home(Path::new(path));
        let folder = self.around.path.parent().unwrap_or(Path::new(""));
        // Without a working folder a relative path stays relative, and whoever opens it says so.
        std::path::absolute(folder.join(&expanded)).unwrap_or(expanded)
    }
}

/// A location as the path that it is, or none for the address of something else (`sftp:`, `s3:`, `ssh://`, `host:path`).
pub fn local_path(location: &str) -> Option<&str> {
    if let Some(path) = location.strip_prefix("local:") {
        return Some(path);
    }
    let scheme = location.find(':').map(|end| &location[..end]);
    match scheme {
        // A name with a slash before its colon is a path; so is one with a blank.
        Some(scheme)
            if !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.' | b'@' | b'_')) =>
        {
            None
        }
        _ => Some(location),
    }
}
