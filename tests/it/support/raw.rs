//! Two inspect answers compared leaf by leaf, with a list of what may differ that is not bbackup's own: what is in neither list is a defect
//! of one of them.

use std::collections::BTreeMap;

use serde_json::Value;

/// Places that may differ, each with the reason. `*` is one name, `**` any rest.
const MAY_DIFFER: &[(&str, &str)] = &[
    ("Created", "a time"),
    ("Id", "an id"),
    ("RestartCount", "how often it was started anew until now"),
    ("ExecIDs/**", "the health check that was running"),
    ("GraphDriver/**", "the Engine's own files"),
    ("HostnamePath", "the Engine's own files"),
    ("HostsPath", "the Engine's own files"),
    ("LogPath", "the Engine's own files"),
    ("ResolvConfPath", "the Engine's own files"),
    ("MountLabel", "made up by the Engine"),
    ("ProcessLabel", "made up by the Engine"),
    ("ImageManifestDescriptor/**", "of the image"),
    ("State/FinishedAt", "a time"),
    ("State/StartedAt", "a time"),
    ("State/Pid", "a process id"),
    ("State/Health/**", "what was checked until now"),
    // Never started before and after; one that could not be started says why only where it was tried.
    ("State/Error", "what the last try said"),
    ("State/ExitCode", "what the last try said"),
    ("State/Status", "`created` and `exited` are both not running"),
    ("NetworkSettings/SandboxID", "an id"),
    ("NetworkSettings/SandboxKey", "an id"),
    ("NetworkSettings/EndpointID", "an id"),
    ("NetworkSettings/Gateway", "repeats the network's"),
    ("NetworkSettings/IPAddress", "repeats the network's"),
    ("NetworkSettings/MacAddress", "repeats the network's"),
    ("NetworkSettings/Ports/**", "random ports; those that were asked for are in PortBindings"),
    ("NetworkSettings/Networks/*/EndpointID", "an id"),
    ("NetworkSettings/Networks/*/NetworkID", "an id"),
    // Asked for, they are in IPAMConfig.
    ("NetworkSettings/Networks/*/IPAddress", "given out by the Engine"),
    ("NetworkSettings/Networks/*/GlobalIPv6Address", "given out by the Engine"),
    // Asked for, it is checked apart.
    ("NetworkSettings/Networks/*/MacAddress", "given out by the Engine"),
    // The anonymous volumes are there by name now; what is mounted where is in Mounts.
    ("HostConfig/Binds/**", "see below"),
    ("HostConfig/ConsoleSize/**", "the size of the client's terminal"),
    ("Mounts/*/Name", "missing where a bare bind made the volume"),
    ("Mounts/*/Mode", "`z` stands at a volume with a name and means nothing without SELinux"),
];

/// The ids of one set of answers, so that references compare as names.
#[derive(Debug)]
pub(crate) struct Raw {
    ids: BTreeMap<String, String>,
}

impl Raw {
    /// Learns the ids of all containers that may be referred to.
    pub(crate) fn new<'a>(all: impl Iterator<Item = &'a Value>) -> Self {
        let mut ids = BTreeMap::new();
        for inspect in all {
            let (id, name) = (inspect["Id"].as_str().unwrap(), inspect["Name"].as_str().unwrap());
            ids.insert(id.to_owned(), format!("<{name}>"));
            ids.insert(id[..12].to_owned(), format!("<short {name}>"));
            for (network, endpoint) in inspect["NetworkSettings"]["Networks"].as_object().unwrap() {
                ids.insert(endpoint["NetworkID"].as_str().unwrap().to_owned(), format!("<{network}>"));
            }
        }
        ids.remove("");
        Self { ids }
    }

    /// Every place in which two answers differ and may not.
    pub(crate) fn differences(&self, was: &Value, other: &Self, is: &Value) -> Vec<String> {
        let (before, after) = (self.leaves(was), other.leaves(is));
        let mut found = Vec::new();
        for path in before.keys().chain(after.keys().filter(|path| !before.contains_key(*path))) {
            let (old, new) = (before.get(path), after.get(path));
            let listed = MAY_DIFFER.iter().any(|(pattern, _)| matches(pattern, path));
            if old != new && !listed && !may_become(path, old, new, is) {
                found.push(format!("{path}: was {old:?}, is {new:?}"));
            }
        }
        // A bind that was asked for is still there, and what came is an anonymous volume. A volume that was empty is not filled from the
        // image, which `nocopy` says.
        let binds = |inspect: &Value| -> Vec<String> {
            let binds = inspect["HostConfig"]["Binds"].as_array().into_iter().flatten().map(|bind| bind.as_str().unwrap().to_owned());
            binds
                .map(|bind| [":nocopy", ",nocopy"].iter().fold(bind, |bind, end| bind.strip_suffix(end).unwrap_or(&bind).to_owned()))
                .collect()
        };
        let (old, new) = (binds(was), binds(is));
        found.extend(old.iter().filter(|bind| bind.contains(':') && !new.contains(bind)).map(|bind| format!("the bind {bind} is gone")));
        let anonymous = |bind: &str| bind.split(':').next().is_some_and(|name| name.len() == 64);
        found.extend(new.iter().filter(|bind| !old.contains(bind) && !anonymous(bind)).map(|bind| format!("the bind {bind} is new")));
        found
    }

    fn leaves(&self, inspect: &Value) -> BTreeMap<String, String> {
        let mut leaves = BTreeMap::new();
        self.collect(inspect, String::new(), &mut leaves);
        leaves
    }

    fn collect(&self, value: &Value, path: String, leaves: &mut BTreeMap<String, String>) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        match value {
            // Null, an empty list and an empty object are what nobody set.
            Value::Null => {}
            Value::Object(fields) => {
                for (name, value) in fields {
                    // Names of ports and paths have slashes.
                    self.collect(value, below(&name.replace('/', "%")), leaves);
                }
            }
            Value::Array(items) if path == "Mounts" => {
                for item in items {
                    let destination = item["Destination"].as_str().unwrap().trim_end_matches('/').replace('/', "%");
                    self.collect(item, below(&destination), leaves);
                }
            }
            Value::Array(items) => {
                let mut items: Vec<Value> = items.clone();
                if path.ends_with("/Aliases") {
                    // The Engine adds its short id when it first tries to start it, which a restore does not where the start had failed.
                    let is_own = |name: &str| self.ids.get(name).is_some_and(|known| known.starts_with("<short "));
                    items.retain(|item| !item.as_str().is_some_and(is_own));
                }
                // Sets, which the Engine keeps in any order.
                if path.ends_with("/Aliases") || path.ends_with("/DNSNames") || path.ends_with("Paths") {
                    items.sort_by_key(|item| self.text(item));
                }
                for (index, item) in items.iter().enumerate() {
                    self.collect(item, below(&index.to_string()), leaves);
                }
            }
            leaf => drop(leaves.insert(path, self.text(leaf))),
        }
    }

    fn text(&self, leaf: &Value) -> String {
        let mut text = leaf.as_str().map_or_else(|| leaf.to_string(), str::to_owned);
        // The long ids first: each begins with its short one.
        let mut ids: Vec<_> = self.ids.iter().collect();
        ids.sort_by_key(|(id, _)| std::cmp::Reverse(id.len()));
        for (id, name) in ids {
            text = text.replace(id.as_str(), name);
        }
        text
    }
}

/// What may only become this one thing.
fn may_become(path: &str, old: Option<&String>, new: Option<&String>, is: &Value) -> bool {
    if matches("HostConfig/Mounts/*/Source", path) {
        // An anonymous volume is named.
        return old.is_none() && new.is_some_and(|name| name.len() == 64);
    }
    if matches("HostConfig/Mounts/*/VolumeOptions/NoCopy", path) {
        // A volume that was empty is not filled from the image.
        return old.is_none() && new.is_some_and(|value| value == "true");
    }
    if matches("Mounts/*/Source", path) {
        // A mounted image lies in the Engine's own files; which image it is stands in HostConfig.
        let of_image = |mount: &Value| mount["Type"] == "image" && new.is_some_and(|new| mount["Source"] == **new);
        return is["Mounts"].as_array().is_some_and(|mounts| mounts.iter().any(of_image));
    }
    // In another's network a container gets that one's name whenever it is started.
    let guest = is["HostConfig"]["NetworkMode"].as_str().is_some_and(|mode| mode.starts_with("container:"));
    path == "Config/Hostname" && guest && is["State"]["Running"] == false
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut path = path.split('/');
    for part in pattern.split('/') {
        match (part, path.next()) {
            ("**", _) => return true,
            ("*", Some(_)) => {}
            (part, Some(name)) if part == name => {}
            _ => return false,
        }
    }
    path.next().is_none()
}

#[test]
fn only_what_is_listed_may_differ() {
    assert!(matches("GraphDriver/**", "GraphDriver/Data/MergedDir"));
    assert!(matches("Mounts/*/Mode", "Mounts/%data/Mode"));
    assert!(!matches("Mounts/*/Mode", "Mounts/%data/RW"));
    assert!(!matches("Id", "Ids"));
    let one = serde_json::json!({"Id": "a".repeat(64), "Name": "/x", "NetworkSettings": {"Networks": {}}, "HostConfig": {"Memory": 1}});
    let mut two = one.clone();
    two["Id"] = "b".repeat(64).into();
    let (first, second) = (Raw::new([&one].into_iter()), Raw::new([&two].into_iter()));
    assert!(first.differences(&one, &second, &two).is_empty());
    two["HostConfig"]["Memory"] = 2.into();
    assert_eq!(first.differences(&one, &second, &two).len(), 1);
}
