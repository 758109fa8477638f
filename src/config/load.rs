//! Finds the configuration file and reads it to the end: a [`Config`], or every problem at once.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::tree::{self, Node, Position, Problem, Value};
use super::validate::{self, Surroundings};
use super::{Config, Docker, raw, schema};
use crate::platform::directories::Directories;
use crate::platform::files;

/// No configuration is longer; what is longer is the wrong file.
const SIZE_LIMIT: u64 = 4 << 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file that was asked for is not there.
    #[error("there is no configuration file {}", .path.display())]
    Missing {
        /// Its path.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read the configuration file {}", .path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// It is wrong; every problem is here, in the order of the file.
    #[error("{} has {}", .path.display(), count(.problems.len()))]
    Wrong {
        /// Its path.
        path: PathBuf,
        /// What is wrong, at least one.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// Never: a file does not mend itself.
    pub fn is_transient(&self) -> bool {
        false
    }
}

fn count(problems: usize) -> String {
    if problems == 1 { "1 problem".to_owned() } else { format!("{problems} problems") }
}

/// The configuration file that counts: the one asked for, else the first that is there.
pub fn find(wanted: Option<&Path>, directories: &Directories) -> Option<PathBuf> {
    match wanted {
        Some(path) => Some(path.to_owned()),
        None => directories.config_candidates().into_iter().find(|path| path.is_file()),
    }
}

/// Loads the configuration that counts, or the embedded defaults when there is no file and none was asked for.
/// `hostname` is the default of `host`.
///
/// # Errors
/// The file asked for is missing, or the one found cannot be read or is wrong.
pub fn load(wanted: Option<&Path>, directories: &Directories, hostname: &str) -> Result<Config, ConfigError> {
    let Some(path) = find(wanted, directories) else { return Ok(embedded(directories, hostname)) };
    parse(&read(&path)?, &path, directories, hostname)
}

/// The text of a configuration file.
///
/// # Errors
/// It is missing or cannot be read.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    files::read_text(path, SIZE_LIMIT).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ConfigError::Missing { path: path.to_owned() },
        _ => ConfigError::Unreadable { path: path.to_owned(), source },
    })
}

/// The configuration of a host that has none: everything on the Engine, into a repository in the data folder.
pub fn embedded(directories: &Directories, hostname: &str) -> Config {
    Config {
        source: None,
        host: hostname.to_owned(),
        machine: hostname.to_owned(),
        host_is_given: false,
        docker: Docker::default(),
        engines: Vec::new(),
        repositories: vec![validate::embedded_repository(directories)],
        sets: Vec::new(),
    }
}

/// Reads a configuration from text; `path` is where it is from.
///
/// # Errors
/// It is wrong.
pub fn parse(text: &str, path: &Path, directories: &Directories, hostname: &str) -> Result<Config, ConfigError> {
    let around = Surroundings { path, directories, hostname, spelled: true };
    check(text.trim_start_matches('\u{feff}'), &around).map_err(|mut problems| {
        problems.sort();
        problems.dedup();
        ConfigError::Wrong { path: path.to_owned(), problems }
    })
}

fn check(text: &str, around: &Surroundings<'_>) -> Result<Config, Vec<Problem>> {
    let Some(root) = tree::parse(text)? else {
        return Err(vec![Problem {
            at: Position::START,
            message: "the file is empty: `bbackup init-config` writes one to start from".to_owned(),
        }]);
    };
    let mut problems = schema::check(&root);
    let around = &Surroundings { spelled: problems.is_empty(), ..*around };
    match serde_yaml::from_str::<raw::File>(text) {
        Ok(file) => match validate::validate(file, &root, around) {
            Ok(config) if problems.is_empty() => Ok(config),
            Ok(_) => Err(problems),
            Err(more) => {
                problems.extend(more);
                Err(problems)
            }
        },
        // What the schema has found is the same said better; what it has not found may be wrong, too.
        Err(_) if !problems.is_empty() => {
            let wrong = problems.iter().map(|problem| problem.at).collect();
            if let Some(Ok(file)) = sound_part(&root, &wrong).map(serde_yaml::from_value::<raw::File>)
                && let Err(more) = validate::validate(file, &root, around)
            {
                problems.extend(more);
            }
            Err(problems)
        }
        Err(error) => {
            let tabs = tree::tab_problems(text);
            if !tabs.is_empty() {
                return Err(tabs);
            }
            let at = error.location().map_or(Position::START, |place| Position { line: place.line(), column: place.column() });
            Err(vec![Problem { at, message: format!("this cannot be read: {error}") }])
        }
    }
}

/// A value without the parts in which the schema has found something wrong.
fn sound_part(node: &Node, wrong: &BTreeSet<Position>) -> Option<serde_yaml::Value> {
    use serde_yaml::Value as Yaml;
    // Keys with values begin where their first key does, and a wrong key does not make the others wrong.
    match &node.value {
        Value::Map(entries) => {
            let mut sound = serde_yaml::Mapping::new();
            for (key, value) in entries.iter().filter(|(key, _)| !wrong.contains(&key.at)) {
                if let Some(value) = sound_part(value, wrong) {
                    sound.insert(Yaml::String(key.text.clone()), value);
                }
            }
            Some(Yaml::Mapping(sound))
        }
        _ if wrong.contains(&node.at) => None,
        Value::List(nodes) => Some(Yaml::Sequence(nodes.iter().filter_map(|node| sound_part(node, wrong)).collect())),
        Value::Null => Some(Yaml::Null),
        Value::Scalar { text, quoted: true } => Some(Yaml::String(text.clone())),
        // A word without quotes is what YAML takes it for.
        Value::Scalar { text, quoted: false } => Some(serde_yaml::from_str(text).unwrap_or_else(|_| Yaml::String(text.clone()))),
    }
}
