//! What stands behind the ids in an inspect answer, and under which names things are to come back.
//!
//! Inspect names other containers by id (`container:37d2…`); a container that is made again has another id, so every such
//! reference goes through its name. Where the ids come from is the caller's business.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::json::text;

/// The name of a mounted volume. Engines do not give one for an anonymous volume that was asked for by a bare bind (`/data`);
/// then it is in the path, as far as the driver is `local`.
pub fn volume_name<'a>(name: &'a str, source: &'a str) -> Option<&'a str> {
    if !name.is_empty() {
        return Some(name);
    }
    let (folder, name) = source.strip_suffix("/_data")?.rsplit_once('/')?;
    (folder.ends_with("/volumes") && !name.is_empty()).then_some(name)
}

/// The name of the volume of one entry of `Mounts` in an inspect answer or a list.
pub fn mounted_volume(mount: &Value) -> Option<&str> {
    volume_name(text(mount, "/Name").unwrap_or_default(), text(mount, "/Source").unwrap_or_default())
}

/// Old names to new ones. A name that is not in it stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Renames {
    /// Containers.
    pub containers: BTreeMap<String, String>,
    /// Volumes.
    pub volumes: BTreeMap<String, String>,
    /// Networks.
    pub networks: BTreeMap<String, String>,
    /// Host ports and their protocols (`tcp`, `udp`, `sctp`); none for one that the Engine chooses.
    pub ports: BTreeMap<(u16, String), Option<u16>>,
    /// Networks, by their old names, whose addresses are chosen by the Engine: no container has a fixed one there.
    pub readdressed: BTreeSet<String>,
}

/// Resolves ids and old names to the names under which things are made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Full container ids to the names that the containers had.
    ids: BTreeMap<String, String>,
    /// What is called otherwise from now on.
    renames: Renames,
}

impl Names {
    /// Knows nothing and renames nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with renames.
    #[must_use]
    pub fn with_renames(mut self, renames: Renames) -> Self {
        self.renames = renames;
        self
    }

    /// Learns a container's id and name.
    pub fn learn(&mut self, id: &str, name: &str) {
        self.ids.insert(id.to_owned(), name.trim_start_matches('/').to_owned());
    }

    /// Learns id and name from an inspect answer.
    pub fn learn_inspect(&mut self, inspect: &Value) {
        if let (Some(id), Some(name)) = (text(inspect, "/Id"), text(inspect, "/Name")) {
            self.learn(id, name);
        }
    }

    /// The renames.
    pub fn renames(&self) -> &Renames {
        &self.renames
    }

    /// The renames, to add some.
    pub fn renames_mut(&mut self) -> &mut Renames {
        &mut self.renames
    }

    /// The host port that is asked for in the place of `port` (text, as in a binding; a range stays). Empty for any.
    pub fn host_port(&self, port: &str, protocol: &str) -> String {
        let protocol = if protocol.is_empty() { "tcp" } else { protocol };
        let renamed = port.parse().ok().and_then(|number| self.renames.ports.get(&(number, protocol.to_owned())));
        match renamed {
            Some(Some(number)) => number.to_string(),
            Some(None) => String::new(),
            None => port.to_owned(),
        }
    }

    /// Whether fixed addresses on a network, by its old name, are kept.
    pub fn keeps_addresses(&self, network: &str) -> bool {
        !self.renames.readdressed.contains(network)
    }

    /// The name that a container had, from its id, the beginning of its id (twelve digits at least), or its name.
    pub fn old_container<'a>(&'a self, reference: &'a str) -> Option<&'a str> {
        let reference = reference.trim_start_matches('/');
        if let Some(name) = self.ids.get(reference) {
            return Some(name);
        }
        if let Some(name) = self.ids.values().find(|name| *name == reference) {
            return Some(name);
        }
        if reference.len() < 12 || !reference.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut matching = self.ids.range(reference.to_owned()..).take_while(|(id, _)| id.starts_with(reference));
        match (matching.next(), matching.next()) {
            (Some((_, name)), None) => Some(name),
            _ => None,
        }
    }

    /// The name that a container gets; what is unknown stays as it is written.
    pub fn container(&self, reference: &str) -> String {
        let name = self.old_container(reference).unwrap_or_else(|| reference.trim_start_matches('/'));
        self.renames.containers.get(name).map_or(name, String::as_str).to_owned()
    }

    /// The name that a volume gets.
    pub fn volume(&self, name: &str) -> String {
        self.renames.volumes.get(name).map_or(name, String::as_str).to_owned()
    }

    /// The name that a network gets.
    pub fn network(&self, name: &str) -> String {
        self.renames.networks.get(name).map_or(name, String::as_str).to_owned()
    }

    /// A network, ipc, pid, uts or user namespace mode with the container that it names, if any, under its new name.
    pub fn mode(&self, mode: &str) -> String {
        match mode.strip_prefix("container:") {
            Some(reference) => format!("container:{}", self.container(reference)),
            None => mode.to_owned(),
        }
    }

    /// An entry of `VolumesFrom` (`name` or `name:ro`).
    pub fn volumes_from(&self, entry: &str) -> String {
        match entry.split_once(':') {
            Some((reference, mode)) => format!("{}:{mode}", self.container(reference)),
            None => self.container(entry),
        }
    }

    /// A link, as inspect gives it on the default bridge (`/target:/self/alias`) or as it was asked for (`target:alias`,
    /// `target`), in the second form.
    pub fn link(&self, entry: &str) -> String {
        let (target, alias) = entry.split_once(':').unwrap_or((entry, entry));
        let alias = alias.rsplit('/').next().unwrap_or(alias);
        format!("{}:{alias}", self.container(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut renames = Renames::default();
        renames.containers.insert("db".into(), "db2".into());
        let mut names = Names::new().with_renames(renames);
        names.learn("37d22dd1478bf462ea984d8061ca2263cfbb94157486b33e7cb6e53742583516", "/leg");
        names.learn("47d22dd1478bf462ea984d8061ca2263cfbb94157486b33e7cb6e53742583516", "/db");
        names
    }

    #[test]
    fn ids_become_names_and_names_are_renamed() {
        let names = names();
        assert_eq!(names.mode("container:37d22dd1478bf462ea984d8061ca2263cfbb94157486b33e7cb6e53742583516"), "container:leg");
        assert_eq!(names.mode("container:47d22dd1478b"), "container:db2");
        assert_eq!(names.mode("bridge"), "bridge");
        assert_eq!(names.volumes_from("db:ro"), "db2:ro");
        assert_eq!(names.volumes_from("stranger"), "stranger");
    }

    #[test]
    fn a_volume_without_a_name_is_known_by_its_path() {
        assert_eq!(volume_name("db", "/x/volumes/other/_data"), Some("db"));
        assert_eq!(volume_name("", "/var/lib/docker/volumes/0123abc/_data"), Some("0123abc"));
        for other in ["", "/_data", "/srv/_data", "/var/lib/docker/volumes/0123abc", "/volumes//_data"] {
            assert_eq!(volume_name("", other), None, "{other}");
        }
    }

    #[test]
    fn links_lose_the_form_that_create_refuses() {
        let names = names();
        assert_eq!(names.link("/db:/web/database"), "db2:database");
        assert_eq!(names.link("db:x"), "db2:x");
        assert_eq!(names.link("leg"), "leg:leg");
    }

    #[test]
    fn an_ambiguous_beginning_of_an_id_is_no_reference() {
        let mut names = names();
        names.learn("37d22dd1478bf462000000000000000000000000000000000000000000000000", "/twin");
        assert_eq!(names.old_container("37d22dd1478b"), None);
        assert_eq!(names.old_container("37d2"), None);
    }
}
