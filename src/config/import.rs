//! Reads the YAML of the Python program that is called bbackup too, and writes it as a configuration of this one.
//!
//! Every value of the file is accounted for: where it went, or why it was dropped. What this program's own keys mean is
//! `schema`'s and `validate`'s business; what is written here is read again by them before anybody gets it.

mod keys;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::tree::{self, Node, Position, Problem, Value};

/// The name of the set that stands for what was saved without naming a set.
const EVERYTHING: &str = "everything";
/// The one repository that an import makes.
const REPOSITORY: &str = "default";
/// Where it is in a folder that held the other program's backups: they are left as they are.
const FOLDER: &str = "bbackup-repository";
/// Stands between the keys of a path: it is in none.
const BETWEEN: char = '\u{1f}';

/// A configuration in this program's words, and what became of every value of the other's.
#[derive(Debug, Clone, Serialize)]
pub struct Imported {
    /// The new configuration, as YAML.
    pub yaml: String,
    /// Values that were taken over.
    pub mapped: Vec<Mapped>,
    /// Values that were not.
    pub dropped: Vec<Dropped>,
}

/// A value that was taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mapped {
    /// Its key there, with dots.
    pub from: String,
    /// Its key here.
    pub to: String,
}

/// A value that was not taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Its key there, with dots.
    pub key: String,
    /// Why, and what to do about it if something is to be done.
    pub reason: String,
}

/// Translates a file.
///
/// # Errors
/// It is no YAML, or not the other program's.
pub fn import(text: &str) -> Result<Imported, Vec<Problem>> {
    let problem = |at, message: &str| Err(vec![Problem { at, message: message.to_owned() }]);
    let Some(root) = tree::parse(text.trim_start_matches('\u{feff}'))? else {
        return problem(Position::START, "the file is empty");
    };
    let Value::Map(entries) = &root.value else {
        return problem(root.at, "this is no configuration of the Python bbackup: it must be keys with values");
    };
    if !entries.iter().any(|(key, _)| keys::SECTIONS.contains(&key.text.as_str())) {
        return problem(root.at, "this is no configuration of the Python bbackup: it has none of its sections");
    }
    let mut importer = Importer::default();
    for (key, node) in entries {
        importer.section(&key.text, node);
    }
    Ok(importer.finish())
}

/// What has been translated so far.
#[derive(Default)]
struct Importer {
    docker: Map<String, Json>,
    repository: Map<String, Json>,
    sets: Map<String, Json>,
    /// What was one for all there, and is each set's own here.
    retention: Map<String, Json>,
    mapped: Vec<Mapped>,
    dropped: Vec<Dropped>,
}

impl Importer {
    fn map(&mut self, from: &str, to: impl Into<String>) {
        self.mapped.push(Mapped { from: from.to_owned(), to: to.into() });
    }

    fn drop(&mut self, key: &str, reason: impl Into<String>) {
        self.dropped.push(Dropped { key: key.to_owned(), reason: reason.into() });
    }

    fn section(&mut self, name: &str, node: &Node) {
        for (path, leaf) in leaves(node, name) {
            let words: Vec<&str> = path.split(BETWEEN).collect();
            let shown = words.join(".");
            match words.as_slice() {
                // These are taken as a whole below.
                ["backup", "default_scope" | "backup_sets", ..] | ["filesystem" | "remotes", _, ..] => {}
                ["backup", "compression", "enabled"] => match truth(leaf) {
                    Some(truth) => {
                        self.repository.insert("compression".to_owned(), json!(if truth { "auto" } else { "off" }));
                        self.map(&shown, format!("repositories.{REPOSITORY}.compression"));
                    }
                    None => self.drop(&shown, "it is neither true nor false"),
                },
                ["docker", "socket"] => match text(leaf) {
                    Some(socket) => {
                        let host = if socket.contains("://") { socket.to_owned() } else { format!("unix://{socket}") };
                        self.docker.insert("host".to_owned(), json!(host));
                        self.map(&shown, "docker.host");
                    }
                    None => self.drop(&shown, keys::EMPTY),
                },
                ["docker", "timeout"] => match text(leaf).filter(|text| text.parse::<u32>().is_ok_and(|seconds| seconds > 0)) {
                    Some(seconds) => {
                        self.docker.insert("timeout".to_owned(), json!(format!("{seconds}s")));
                        self.map(&shown, "docker.timeout");
                    }
                    None => self.drop(&shown, "it is no number of seconds"),
                },
                ["retention", "daily" | "weekly" | "monthly"] => self.rule(words[1], leaf),
                words => self.drop(&shown, keys::reason(words, text(leaf))),
            }
        }
        match (name, node.find(&["backup_sets"]), node.find(&["default_scope"])) {
            ("backup", sets, scope) => {
                for (name, set) in sets.map(|(_, sets)| named(sets)).unwrap_or_default() {
                    self.set(name, set);
                }
                if let Some((_, scope)) = scope {
                    self.everything(scope);
                }
            }
            ("filesystem", ..) => {
                for (name, set) in named(node) {
                    self.paths(name, set);
                }
            }
            ("remotes", ..) => {
                for (name, remote) in named(node) {
                    self.remote(name, remote);
                }
            }
            _ => {}
        }
    }

    /// One rule of the retention. Which sets get it is known at the end.
    fn rule(&mut self, unit: &str, node: &Node) {
        match text(node).map(str::parse::<u32>) {
            Some(Ok(count)) if count > 0 => {
                self.retention.insert(format!("keep_{unit}"), json!(count));
            }
            Some(Ok(_)) => self.drop(&format!("retention.{unit}"), "it keeps none; a rule that is not there keeps none, too"),
            _ => self.drop(&format!("retention.{unit}"), "it is no number"),
        }
    }

    /// Gives every set the retention that was one for all.
    fn retain(&mut self) {
        let retention = std::mem::take(&mut self.retention);
        for rule in retention.keys() {
            let from = format!("retention.{}", rule.trim_start_matches("keep_"));
            if self.sets.is_empty() {
                self.drop(&from, "there is no set that it could be about");
            } else {
                self.map(&from, format!("sets.*.retention.{rule}"));
            }
        }
        if !retention.is_empty() {
            for set in self.sets.values_mut().filter_map(Json::as_object_mut) {
                set.insert("retention".to_owned(), Json::Object(retention.clone()));
            }
        }
    }

    /// A name that a set may have here and that no other set has.
    fn free_name(&mut self, section: &str, name: &str) -> String {
        let free = self.unique(name);
        if free != name {
            self.drop(&format!("{section}.{name}"), format!("its name; the set is called `{free}` here"));
        }
        free
    }

    fn unique(&self, name: &str) -> String {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let mut clean: String = name.chars().map(|c| if good(c) { c } else { '-' }).take(48).collect();
        if !clean.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            clean.insert_str(0, "set");
        }
        let mut free = clean.clone();
        let mut number = 1;
        while self.sets.contains_key(&free) {
            number += 1;
            free = format!("{clean}-{number}");
        }
        free
    }

    fn everything(&mut self, scope: &Node) {
        let name = self.unique(EVERYTHING);
        let scope = self.scope("backup.default_scope", &name, scope);
        let set = json!({
            "description": "What was saved when no set was named",
            "enabled": false,
            "containers": ["*"],
            "scope": scope,
        });
        self.sets.insert(name, set);
    }

    fn set(&mut self, name: &str, node: &Node) {
        let from = format!("backup.backup_sets.{name}");
        let here = self.free_name("backup.backup_sets", name);
        let mut set = Map::new();
        let Value::Map(entries) = &node.value else { return self.drop(&from, "it chooses no containers") };
        for (key, value) in entries {
            let path = format!("{from}.{}", key.text);
            match (key.text.as_str(), &value.value) {
                ("description", _) => self.description(&path, &here, value, &mut set),
                ("containers", Value::List(nodes)) if !nodes.is_empty() => {
                    // Names there, patterns here.
                    let names: Vec<String> = nodes.iter().filter_map(text).map(escaped).collect();
                    set.insert("containers".to_owned(), json!(names));
                    self.map(&path, format!("sets.{here}.containers"));
                }
                ("scope", Value::Map(_)) => {
                    let scope = self.scope(&path, &here, value);
                    set.insert("scope".to_owned(), scope);
                }
                (_, Value::Null) | ("containers", Value::List(_)) => self.drop(&path, keys::EMPTY),
                _ => self.drop(&path, keys::UNKNOWN),
            }
        }
        if set.contains_key("containers") {
            self.sets.insert(here, Json::Object(set));
        } else {
            self.forget(&here);
            self.drop(&from, "it chooses no containers");
        }
    }

    fn scope(&mut self, from: &str, set: &str, node: &Node) -> Json {
        let mut scope = Map::new();
        let Value::Map(entries) = &node.value else { return Json::Object(scope) };
        for (key, value) in entries {
            let path = format!("{from}.{}", key.text);
            let to: &[&str] = match key.text.as_str() {
                // The other program wrote logs beside configurations, and knew no bind mounts.
                "configs" => &["configs", "logs", "compose"],
                "volumes" => &["volumes", "binds"],
                "networks" => &["networks"],
                "containers" => {
                    self.drop(&path, "which containers is said by `containers`, and what of them by the rest of `scope`");
                    continue;
                }
                "filesystems" => {
                    self.drop(&path, "paths are sets of their own here");
                    continue;
                }
                _ => {
                    self.drop(&path, keys::UNKNOWN);
                    continue;
                }
            };
            match truth(value) {
                Some(truth) => {
                    scope.extend(to.iter().map(|key| ((*key).to_owned(), json!(truth))));
                    let keys: Vec<String> = to.iter().map(|key| format!("sets.{set}.scope.{key}")).collect();
                    self.map(&path, keys.join(", "));
                }
                None => self.drop(&path, "it is neither true nor false"),
            }
        }
        Json::Object(scope)
    }

    fn paths(&mut self, name: &str, node: &Node) {
        let from = format!("filesystem.{name}");
        let here = self.free_name("filesystem", name);
        let (mut set, mut paths, mut excludes) = (Map::new(), Vec::new(), Vec::new());
        let Value::Map(entries) = &node.value else { return self.drop(&from, keys::EMPTY) };
        for (key, value) in entries {
            let path = format!("{from}.{}", key.text);
            match (key.text.as_str(), &value.value) {
                ("description", _) => self.description(&path, &here, value, &mut set),
                ("targets", Value::List(targets)) => {
                    for (index, target) in targets.iter().enumerate() {
                        self.target(&format!("{path}[{index}]"), &here, target, &mut paths, &mut excludes);
                    }
                }
                _ => self.drop(&path, keys::UNKNOWN),
            }
        }
        if paths.is_empty() {
            self.forget(&here);
            return self.drop(&from, "no path of it is left");
        }
        set.insert("paths".to_owned(), json!(paths));
        if !excludes.is_empty() {
            set.insert("exclude".to_owned(), json!(excludes));
        }
        self.sets.insert(here, Json::Object(set));
    }

    fn target(&mut self, from: &str, set: &str, node: &Node, paths: &mut Vec<String>, excludes: &mut Vec<String>) {
        let field = |name: &str| node.find(&[name]).map(|(_, node)| node);
        let enabled = field("enabled").and_then(truth).unwrap_or(true);
        let path = field("path").and_then(text).filter(|path| path.starts_with(['/', '~'])).map(str::to_owned);
        let reason = match (&path, enabled) {
            (None, _) => Some("it has no absolute path"),
            (_, false) => Some("it is not enabled: a path that is not to be saved is left out here"),
            _ => None,
        };
        for (key, value) in node.entries() {
            let key_path = format!("{from}.{key}");
            match (key, reason, &path) {
                (_, Some(reason), _) => self.drop(&key_path, reason),
                ("name", ..) => self.drop(&key_path, "paths have no names"),
                ("enabled", ..) => self.map(&key_path, format!("sets.{set}.paths")),
                ("path", _, Some(path)) => {
                    paths.push(path.clone());
                    self.map(&key_path, format!("sets.{set}.paths"));
                }
                ("excludes", _, Some(path)) => {
                    let Value::List(nodes) = &value.value else {
                        self.drop(&key_path, keys::EMPTY);
                        continue;
                    };
                    excludes.extend(nodes.iter().filter_map(text).map(|pattern| below(path, pattern)));
                    self.map(&key_path, format!("sets.{set}.exclude"));
                }
                _ => self.drop(&key_path, keys::UNKNOWN),
            }
        }
    }

    fn remote(&mut self, name: &str, node: &Node) {
        let from = format!("remotes.{name}");
        let field = |name: &str| node.find(&[name]).and_then(|(_, node)| text(node));
        let enabled = node.find(&["enabled"]).and_then(|(_, node)| truth(node)).unwrap_or(false);
        let kind = field("type").unwrap_or("local");
        let path = field("path").filter(|path| path.starts_with(['/', '~']));
        let taken = self.repository.contains_key("location");
        let reason = match (enabled, kind, path, taken) {
            (false, ..) => "the remote is not enabled",
            (_, "local", Some(_), false) => "",
            (_, "local", Some(_), true) => "a set goes to one repository, and that is another remote already",
            (_, "local", None, _) => "it has no absolute path",
            _ => "repositories that are no folder of this machine are not in this version",
        };
        for (key_path, value) in leaves(node, &from) {
            let key_path = key_path.replace(BETWEEN, ".");
            let key = key_path[from.len()..].trim_start_matches('.').to_owned();
            match (key.as_str(), path) {
                (_, _) if !reason.is_empty() => self.drop(&key_path, reason),
                ("path", Some(path)) => {
                    let location = format!("{}/{FOLDER}", path.trim_end_matches('/'));
                    self.repository.insert("location".to_owned(), json!(location));
                    self.map(&key_path, format!("repositories.{REPOSITORY}.location"));
                }
                ("type" | "enabled", _) => self.map(&key_path, format!("repositories.{REPOSITORY}")),
                (key, _) => self.drop(&key_path, keys::reason(&["remotes", "*", key], text(value))),
            }
        }
    }

    fn description(&mut self, path: &str, here: &str, node: &Node, set: &mut Map<String, Json>) {
        match text(node) {
            Some(text) => {
                set.insert("description".to_owned(), json!(text));
                self.map(path, format!("sets.{here}.description"));
            }
            None => self.drop(path, keys::EMPTY),
        }
    }

    /// What was taken over into a set that is not made after all was not.
    fn forget(&mut self, set: &str) {
        let place = format!("sets.{set}.");
        let (gone, kept) = std::mem::take(&mut self.mapped).into_iter().partition(|mapped: &Mapped| mapped.to.starts_with(&place));
        self.mapped = kept;
        self.dropped
            .extend(gone.into_iter().map(|mapped: Mapped| Dropped { key: mapped.from, reason: "its set is not taken over".to_owned() }));
    }

    fn finish(mut self) -> Imported {
        self.retain();
        let mut config = Map::new();
        if !self.docker.is_empty() {
            config.insert("docker".to_owned(), Json::Object(std::mem::take(&mut self.docker)));
        }
        if self.repository.contains_key("location") {
            config.insert("repositories".to_owned(), json!({ REPOSITORY: std::mem::take(&mut self.repository) }));
        } else if !self.repository.is_empty() {
            let prefix = format!("repositories.{REPOSITORY}");
            let gone: BTreeSet<String> =
                (self.mapped.iter()).filter(|mapped| mapped.to.starts_with(&prefix)).map(|mapped| mapped.from.clone()).collect();
            self.mapped.retain(|mapped| !gone.contains(&mapped.from));
            for key in &gone {
                self.drop(key, "no folder of a repository is named; the default one compresses by itself");
            }
        }
        config.insert("sets".to_owned(), Json::Object(std::mem::take(&mut self.sets)));
        let mut yaml = String::from("# Imported from the configuration of the Python bbackup. `bbackup config show` has every key.\n");
        if config.contains_key("repositories") {
            yaml.push_str("# The repository needs a password: add `password_file` below its `location`, then `bbackup init`.\n");
        }
        if self.mapped.iter().any(|mapped| mapped.from.starts_with("retention.")) {
            yaml.push_str("# Nothing is removed by a backup: `bbackup forget` goes by each set's `retention`.\n");
        }
        // Texts, lists, numbers and booleans always can be written.
        yaml.push_str(&serde_yaml::to_string(&Json::Object(config)).unwrap_or_default());
        Imported { yaml, mapped: self.mapped, dropped: self.dropped }
    }
}

impl Node {
    /// The keys and values of a mapping.
    fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        let entries = match &self.value {
            Value::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|(key, node)| (key.text.as_str(), node))
    }
}

/// The values at the ends of all keys. Their keys are joined by [`BETWEEN`].
fn leaves<'n>(node: &'n Node, path: &str) -> Vec<(String, &'n Node)> {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            entries.iter().flat_map(|(key, node)| leaves(node, &format!("{path}{BETWEEN}{}", key.text))).collect()
        }
        _ => vec![(path.to_owned(), node)],
    }
}

fn named(node: &Node) -> Vec<(&str, &Node)> {
    node.entries().collect()
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } if !text.trim().is_empty() => Some(text),
        _ => None,
    }
}

/// What YAML 1.1, which Python reads, takes for a boolean.
fn truth(node: &Node) -> Option<bool> {
    match text(node)?.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// A name as a pattern that matches only it.
fn escaped(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '*' | '?' | '[' | ']' | '{' | '}' => pattern.extend(['[', c, ']']),
            '!' if pattern.is_empty() => pattern.push_str("[!]"),
            '\\' => pattern.push_str("\\\\"),
            c => pattern.push(c),
        }
    }
    pattern
}

/// An exclude of rsync, which is about one folder, as a pattern that is about no other. With a slash at its end it means folders only:
/// what is in them is left out, and a file of that name is not.
fn below(path: &str, pattern: &str) -> String {
    let (path, name) = (path.trim_end_matches('/'), pattern.trim_end_matches('/'));
    let content = if pattern.ends_with('/') && !name.is_empty() { "/*" } else { "" };
    match name.strip_prefix('/') {
        Some(anchored) => format!("{path}/{anchored}{content}"),
        None => format!("{path}/**/{name}{content}"),
    }
}

#[cfg(test)]
mod tests;
