//! From what a file says to a [`Config`]: defaults filled in, paths made absolute, names resolved; what contradicts itself
//! is a problem with its place.
//!
//! Types and spelling have been checked by `schema` before.

use std::path::{Path, PathBuf};

use super::password::PasswordSource;
use super::tree::{Node, Position, Problem, Value};
use super::{BackupSet, Config, Docker, Filter, RepositoryConfig, Scope, Selection, raw, suggest};
use super::{Compression, Consistency, DOCKER_TIMEOUT, LOG_LINES, PACK_SIZE, duration};
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
    fn names(&self, section: &str) -> Vec<String> {
        match self.tree.find(&[section]) {
            Some((_, Node { value: Value::Map(entries), .. })) => entries.iter().map(|(key, _)| key.text.clone()).collect(),
            _ => Vec::new(),
        }
    }

    fn config(&mut self, file: raw::File) -> Config {
        let mut repositories = file.repositories.unwrap_or_default();
        let mut checked: Vec<RepositoryConfig> = Vec::new();
        for name in self.names("repositories") {
            let repository = repositories.remove(&name).flatten().unwrap_or_default();
            checked.push(self.repository(&name, repository));
        }
        if checked.is_empty() {
            checked.push(embedded_repository(self.around.directories));
        }
        let mut sets = file.sets.unwrap_or_default();
        let names = self.names("sets");
        let sets = names.into_iter().map(|name| self.set(&name, sets.remove(&name).flatten().unwrap_or_default(), &checked)).collect();
        let docker = file.docker.unwrap_or_default();
        Config {
            source: Some(self.around.path.to_owned()),
            host: file.host.unwrap_or_else(|| self.around.hostname.to_owned()),
            docker: Docker {
                host: docker.host,
                tls: false,
                timeout: docker.timeout.and_then(|text| duration::parse(&text).ok()).unwrap_or(DOCKER_TIMEOUT),
                stop_timeout: docker.stop_timeout.and_then(|text| duration::parse(&text).ok()),
            },
            repositories: checked,
            sets,
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
            compression: repository.compression.and_then(|text| text.parse().ok()).unwrap_or(Compression::Auto),
            pack_size: repository.pack_size.and_then(|text| text.parse().ok()).unwrap_or(PACK_SIZE),
            verify_before_write: repository.verify_before_write.unwrap_or(true),
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
        let chooses = |patterns: &[String]| patterns.iter().any(|pattern| !pattern.starts_with('!'));
        let lists = [&selection.containers, &selection.projects, &selection.volumes, &selection.labels];
        if self.around.spelled && !has_paths && !lists.iter().any(|list| chooses(list)) {
            let message = format!(
                "the set `{name}` chooses nothing: give it containers, projects, volumes, labels or paths (`containers: [\"*\"]` for all)"
            );
            self.problem(&here, message);
        }
        self.known_repository(name, set.repository.as_deref(), repositories);
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
                networks: scope.networks.unwrap_or(true),
                compose: scope.compose.unwrap_or(true),
            },
            consistency: match set.consistency.as_deref() {
                Some("pause") => Consistency::Pause,
                Some("none") => Consistency::None,
                _ => Consistency::Stop,
            },
            repository: set.repository,
        }
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
