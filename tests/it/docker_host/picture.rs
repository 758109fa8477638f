//! Everything that can be said of the host at one time, and what is different at another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bbackup::docker::create::Names;
use bbackup::docker::normalise;
use serde_json::Value;

use super::databases::{self, DATABASES};
use super::host::{Host, is_quiet};
use super::table::NETWORKS;
use crate::docker_roundtrip::as_streamed;
use crate::support::manifest::Manifest;
use crate::support::raw::Raw;

/// What the host is like.
pub(super) struct Picture {
    /// What inspect says, by name.
    pub(super) containers: BTreeMap<String, Value>,
    networks: BTreeMap<String, Value>,
    volumes: BTreeMap<String, Value>,
    /// The files of the volumes that no database writes.
    files: BTreeMap<String, Manifest>,
    /// What containers mount of the machine.
    mounted: BTreeMap<PathBuf, Manifest>,
    /// What the databases that run answer.
    rows: BTreeMap<&'static str, String>,
    /// What images there are, with their ids.
    images: BTreeSet<String>,
}

impl Picture {
    /// Looks at everything. Databases must answer.
    pub(super) fn of(host: &Host<'_>) -> Self {
        let containers = inspect(host, "container", &["ps", "-aq", "--no-trunc"]);
        let volumes = inspect(host, "volume", &["volume", "ls", "-q"]);
        let files = volumes.keys().filter(|name| is_quiet(name)).map(|name| (name.clone(), Manifest::of(&host.files_of(name)))).collect();
        let running = DATABASES.iter().filter(|(name, _)| containers.get(*name).is_some_and(|inspect| status(inspect) == "running"));
        Self {
            networks: inspect(host, "network", &["network", "ls", "-qf", "type=custom"]),
            rows: running.map(|(name, runs)| (*name, databases::rows(&host.stage, name, *runs))).collect(),
            mounted: host.mounted().into_iter().map(|path| (path.clone(), Manifest::of(&path))).collect(),
            images: host
                .all(&["images", "bbackup-test/*", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"])
                .into_iter()
                .collect(),
            containers,
            volumes,
            files,
        }
    }

    /// The health of each container that has one.
    pub(super) fn health(&self) -> BTreeMap<&str, &str> {
        let health = |inspect: &'_ Value| inspect.pointer("/State/Health/Status").and_then(Value::as_str).map(str::to_owned);
        let known = self.containers.iter().filter(|(_, inspect)| health(inspect).is_some());
        known.map(|(name, inspect)| (name.as_str(), inspect["State"]["Health"]["Status"].as_str().unwrap())).collect()
    }

    /// Each container's state. `created` and `exited` are one: a container that has ended comes back as one that was not started;
    /// and so are `restarting` and `running`: it goes from one to the other and back.
    pub(super) fn states(&self) -> BTreeMap<&str, &str> {
        let state = |inspect| match status(inspect) {
            "created" | "exited" => "does not run",
            "restarting" => "running",
            other => other,
        };
        self.containers.iter().map(|(name, inspect)| (name.as_str(), state(inspect))).collect()
    }

    /// Everything in which a later picture differs.
    pub(super) fn differences(&self, after: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, before: String, now: String| {
            if before != now {
                found.push(format!("{what}: was {before}, is {now}"));
            }
        };
        let keys = |map: &BTreeMap<String, Value>| map.keys().cloned().collect::<Vec<_>>().join(" ");
        compare("containers", keys(&self.containers), keys(&after.containers));
        compare("networks", keys(&self.networks), keys(&after.networks));
        compare("volumes", keys(&self.volumes), keys(&after.volumes));
        compare("states", format!("{:?}", self.states()), format!("{:?}", after.states()));
        compare("health", format!("{:?}", self.health()), format!("{:?}", after.health()));
        compare("rows", format!("{:?}", self.rows), format!("{:?}", after.rows));
        compare("images", format!("{:?}", self.images), format!("{:?}", after.images));
        if !found.is_empty() {
            return found;
        }
        found.extend(self.containers_differ(after));
        found.extend(self.networks.iter().flat_map(|(name, was)| leaves_differ("network", name, was, &after.networks[name])));
        found.extend(self.volumes.iter().flat_map(|(name, was)| leaves_differ("volume", name, was, &after.volumes[name])));
        for (name, was) in &self.files {
            // Only this one is read and written through the Engine.
            let kept = |files: &Manifest| if name == "device" { as_streamed(files.clone()) } else { files.clone() };
            found.extend(
                kept(was).differences(&kept(&after.files[name])).into_iter().map(|difference| format!("volume {name}: {difference}")),
            );
        }
        for (path, was) in &self.mounted {
            found.extend(was.differences(&after.mounted[path]).into_iter().map(|difference| format!("{}: {difference}", path.display())));
        }
        found
    }

    fn containers_differ(&self, after: &Self) -> Vec<String> {
        let names = |picture: &Self| {
            let mut names = Names::new();
            picture.containers.values().for_each(|inspect| names.learn_inspect(inspect));
            names
        };
        let (old, new) = (names(self), names(after));
        let (raw_old, raw_new) = (Raw::new(self.containers.values()), Raw::new(after.containers.values()));
        let mut found = Vec::new();
        for (name, was) in &self.containers {
            let is = &after.containers[name];
            let fields = normalise::differences(&normalise::container(was, &old), &normalise::container(is, &new));
            found.extend(fields.into_iter().map(|difference| format!("{name}: {difference}")));
            // It runs for a moment, and is on its network just as long.
            let goes_to_and_fro = |difference: &str| {
                let of_network = difference.starts_with("NetworkSettings/")
                    && ["Gateway:", "IPPrefixLen:"].iter().any(|field| difference.contains(field));
                name == "crashing" && (difference.starts_with("State/Restarting:") || of_network)
            };
            // Newer Engines write them down at the first start, and what had ended is not started.
            let of_the_first_start = |difference: &str| status(is) == "created" && difference.contains("/DNSNames/");
            let passed_over =
                |difference: &str| is_of_automatic_network(difference) || goes_to_and_fro(difference) || of_the_first_start(difference);
            let raw = raw_old.differences(was, &raw_new, is).into_iter().filter(|difference| !passed_over(difference));
            found.extend(raw.map(|difference| format!("{name}, raw: {difference}")));
            // What was asked for is what it has.
            for (network, endpoint) in is["NetworkSettings"]["Networks"].as_object().unwrap() {
                let asked = &endpoint["IPAMConfig"]["IPv4Address"];
                if status(is) == "running" && asked.is_string() && *asked != endpoint["IPAddress"] {
                    found.push(format!("{name}: {asked} was asked for on {network}, it has {}", endpoint["IPAddress"]));
                }
            }
        }
        found
    }
}

/// The state of a container in the Engine's word.
fn status(inspect: &Value) -> &str {
    inspect["State"]["Status"].as_str().unwrap()
}

fn inspect(host: &Host<'_>, kind: &str, list: &[&str]) -> BTreeMap<String, Value> {
    let outcome = host.stage.docker(["inspect", "--type", kind]).args(host.all(list)).run().success();
    let all: Vec<Value> = serde_json::from_slice(&outcome.stdout).unwrap();
    all.into_iter().map(|inspect| (inspect["Name"].as_str().unwrap().trim_start_matches('/').to_owned(), inspect)).collect()
}

/// Whether a difference is about the addresses of a network that the Engine chooses.
fn is_of_automatic_network(difference: &str) -> bool {
    NETWORKS.iter().filter(|(_, _, automatic)| *automatic).any(|(name, _, _)| {
        ["Gateway", "IPPrefixLen"].iter().any(|field| difference.starts_with(&format!("NetworkSettings/Networks/{name}/{field}:")))
    })
}

/// Everything that inspect says of a network or volume must be literally the same, but for ids, times, who is on it, and addresses that the
/// Engine chooses.
fn leaves_differ(kind: &str, name: &str, was: &Value, is: &Value) -> Vec<String> {
    let automatic = NETWORKS.iter().any(|(network, _, automatic)| kind == "network" && *network == name && *automatic);
    let passed_over = |field: &str| ["Id", "Created", "CreatedAt", "Containers"].contains(&field) || (field == "IPAM" && automatic);
    let (was, is) = (was.as_object().unwrap(), is.as_object().unwrap());
    let fields: BTreeSet<&String> = was.keys().chain(is.keys()).filter(|field| !passed_over(field)).collect();
    let differ = fields.into_iter().filter(|field| without_nothing(was.get(*field)) != without_nothing(is.get(*field)));
    differ.map(|field| format!("{kind} {name}: {field} was {:?}, is {:?}", was.get(field), is.get(field))).collect()
}

/// The value without what means that nobody set it: null, and empty objects and lists.
fn without_nothing(value: Option<&Value>) -> Value {
    match value {
        Some(Value::Object(fields)) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), without_nothing(Some(value))));
            let fields: serde_json::Map<_, _> = fields.filter(|(_, value)| !value.is_null()).collect();
            if fields.is_empty() { Value::Null } else { Value::Object(fields) }
        }
        Some(Value::Array(items)) if items.is_empty() => Value::Null,
        Some(Value::Array(items)) => items.iter().map(|item| without_nothing(Some(item))).collect(),
        other => other.cloned().unwrap_or_default(),
    }
}
