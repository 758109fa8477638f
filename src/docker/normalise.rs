//! The one list of what must be equal between a container, network or volume as it was and as it is after a restore.
//!
//! How it is made equal is `create`'s business. Everything in `Config` and `HostConfig` is compared unless the table of
//! fields says otherwise, so that a field that a later Engine adds is compared too. Not compared at all, because no create can bring
//! them back or because they are another's: ids, times, `State` but for whether it runs, process ids, paths of the Engine's
//! own files (`ResolvConfPath`, `HostsPath`, `LogPath`…), `GraphDriver`, `Sandbox*`, `EndpointID`, addresses that nobody
//! asked for, random host ports (`NetworkSettings.Ports`), restart counts, and the short id as host name or alias.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::create::endpoints::{configured_mac, is_user_network, own_aliases, primary_network, static_addresses};
use super::create::fields::{Rule, rule};
use super::create::json::{array, clean_path, flag, is_default, is_empty, object, text, texts};
use super::create::names::mounted_volume;
use super::create::{Names, hostname_is_made_up, looks_automatic};

#[cfg(test)]
mod tests;

/// What was compared, by the field's name. Labels and other fields that were not set are not in it.
pub type Fields = BTreeMap<String, Value>;

/// One field that is not what it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Name of the field.
    pub field: String,
    /// What it was; null where it was not set.
    pub before: Value,
    /// What it is; null where it is not set.
    pub after: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: was {}, is {}", self.field, self.before, self.after)
    }
}

/// Every field in which two things differ.
pub fn differences(before: &Fields, after: &Fields) -> Vec<Difference> {
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| Difference {
            field: name.clone(),
            before: before.get(name).cloned().unwrap_or_default(),
            after: after.get(name).cloned().unwrap_or_default(),
        })
        .collect()
}

/// What must be equal of a container. `names` resolves the ids in it; with renames in it, the result is what the container
/// is to be after the restore.
pub fn container(inspect: &Value, names: &Names) -> Fields {
    let mut fields = Fields::new();
    let mut keep = |name: String, value: Value| {
        if !is_empty(&value) {
            fields.insert(name, value);
        }
    };
    keep("Name".to_owned(), json!(names.container(text(inspect, "/Name").unwrap_or_default())));
    keep("Image".to_owned(), inspect.get("Image").cloned().unwrap_or_default());
    keep("Platform".to_owned(), inspect.get("Platform").cloned().unwrap_or_default());
    keep("State".to_owned(), json!(state(inspect)));
    for part in ["Config", "HostConfig"] {
        for (field, value) in inspect.get(part).and_then(Value::as_object).into_iter().flatten() {
            let name = format!("{part}.{field}");
            let value = compared(rule(&name), value, inspect, names);
            keep(name, value);
        }
    }
    keep("Mounts".to_owned(), Value::Object(mounts(inspect, names)));
    keep("Networks".to_owned(), Value::Object(endpoints(inspect, names)));
    fields
}

/// Whether it runs: the only part of the state that a restore can bring back.
fn state(inspect: &Value) -> &'static str {
    if flag(inspect, "/State/Paused") {
        "paused"
    } else if flag(inspect, "/State/Running") || flag(inspect, "/State/Restarting") {
        "running"
    } else {
        "stopped"
    }
}

fn compared(rule: Rule, value: &Value, inspect: &Value, names: &Names) -> Value {
    match rule {
        Rule::Plain if is_default(value) => Value::Null,
        Rule::Set => sorted(value, str::to_owned),
        Rule::Capabilities => sorted(value, |word| {
            let upper = word.to_ascii_uppercase();
            upper.strip_prefix("CAP_").map_or(upper.clone(), str::to_owned)
        }),
        Rule::Mode => value.as_str().map_or(Value::Null, |mode| json!(names.mode(mode))),
        Rule::NetworkMode => value.as_str().map_or(Value::Null, |mode| network_mode(mode, inspect, names)),
        Rule::VolumesFrom => sorted(value, |entry| names.volumes_from(entry)),
        Rule::Links => sorted(value, |entry| names.link(entry)),
        Rule::Ports => ports(value, names),
        Rule::RestartPolicy => match text(value, "/Name") {
            None | Some("no") => Value::Null,
            Some(name) => json!([name, value.get("MaximumRetryCount").and_then(Value::as_i64).unwrap_or(0)]),
        },
        Rule::Hostname if hostname_is_made_up(inspect) => Value::Null,
        Rule::Plain | Rule::Exact | Rule::Hostname => value.clone(),
        Rule::Image => {
            value.as_str().filter(|name| !name.starts_with("sha256:") && !name.contains('@')).map_or(Value::Null, |name| json!(name))
        }
        Rule::Not(_) => Value::Null,
    }
}

/// The names `default` and `bridge` mean one network, and a network may be named by its id.
fn network_mode(mode: &str, inspect: &Value, names: &Names) -> Value {
    match mode {
        "" | "default" => json!("bridge"),
        _ if is_user_network(mode) => match primary_network(inspect) {
            Some(network) if object(inspect, "/NetworkSettings/Networks").is_some_and(|networks| networks.contains_key(&network)) => {
                json!(names.network(&network))
            }
            _ => json!(names.network(mode)),
        },
        _ => json!(names.mode(mode)),
    }
}

fn sorted(value: &Value, each: impl Fn(&str) -> String) -> Value {
    let mut words: Vec<String> = value.as_array().into_iter().flatten().filter_map(Value::as_str).map(each).collect();
    words.sort();
    json!(words)
}

fn ports(value: &Value, names: &Names) -> Value {
    let mut out = Map::new();
    for (port, bindings) in value.as_object().into_iter().flatten() {
        let protocol = port.split_once('/').map_or("", |(_, protocol)| protocol);
        let mut bindings: Vec<(String, String)> = bindings
            .as_array()
            .into_iter()
            .flatten()
            .map(|binding| {
                let host_port = text(binding, "/HostPort").filter(|port| *port != "0").unwrap_or_default();
                (text(binding, "/HostIp").unwrap_or_default().to_owned(), names.host_port(host_port, protocol))
            })
            .collect();
        bindings.sort();
        if !bindings.is_empty() {
            out.insert(port.clone(), json!(bindings));
        }
    }
    Value::Object(out)
}

/// What is mounted, by its place: an anonymous volume counts the same whether it was made with the container or attached to
/// it by name.
fn mounts(inspect: &Value, names: &Names) -> Map<String, Value> {
    let mut out = BTreeMap::new();
    for mount in array(inspect, "/Mounts") {
        let destination = clean_path(text(mount, "/Destination").unwrap_or_default());
        let kind = text(mount, "/Type").unwrap_or_default();
        let mut fields = Map::new();
        fields.insert("Type".to_owned(), json!(kind));
        match kind {
            "volume" => fields.insert("Name".to_owned(), json!(names.volume(mounted_volume(mount).unwrap_or_default()))),
            // Where its files lie is the Engine's business; which image it is stands below.
            "image" => None,
            _ => fields.insert("Source".to_owned(), mount.get("Source").cloned().unwrap_or_default()),
        };
        for field in ["RW", "Propagation", "Driver"] {
            if let Some(value) = mount.get(field).filter(|value| !is_empty(value)) {
                fields.insert(field.to_owned(), value.clone());
            }
        }
        // Of the options in the mode, `rw` and `ro` are in `RW`; `z` is the default of volumes that have a name; `nocopy`
        // only matters on the day the volume is made.
        let relabel = text(mount, "/Mode").unwrap_or_default().split(',').any(|option| option == "Z");
        if relabel {
            fields.insert("Relabel".to_owned(), json!("Z"));
        }
        out.insert(destination, fields);
    }
    for spec in array(inspect, "/HostConfig/Mounts") {
        let destination = clean_path(text(spec, "/Target").unwrap_or_default());
        let fields = out.entry(destination).or_default();
        if text(spec, "/Type") == Some("image") {
            fields.insert("Image".to_owned(), spec.get("Source").cloned().unwrap_or_default());
        }
        for field in ["ReadOnly", "Consistency", "BindOptions", "TmpfsOptions", "VolumeOptions", "ImageOptions"] {
            let mut options = spec.get(field).cloned().unwrap_or_default();
            if let Some(options) = options.as_object_mut() {
                options.retain(|name, value| !is_default(value) && name != "NoCopy");
            }
            if !is_default(&options) {
                fields.insert(field.to_owned(), options);
            }
        }
    }
    for (destination, options) in object(inspect, "/HostConfig/Tmpfs").into_iter().flatten() {
        out.entry(clean_path(destination)).or_default().insert("Tmpfs".to_owned(), options.clone());
    }
    out.into_iter().map(|(destination, fields)| (destination, Value::Object(fields))).collect()
}

/// The networks it joins, each with what somebody asked for there.
fn endpoints(inspect: &Value, names: &Names) -> Map<String, Value> {
    let id = text(inspect, "/Id").unwrap_or_default();
    let mut out = BTreeMap::new();
    for (network, endpoint) in object(inspect, "/NetworkSettings/Networks").into_iter().flatten() {
        let mut fields = Map::new();
        if let Some(addresses) = static_addresses(endpoint).filter(|_| names.keeps_addresses(network)) {
            fields.insert("IPAMConfig".to_owned(), Value::Object(addresses));
        }
        let mut aliases: Vec<&str> = own_aliases(endpoint, id).collect();
        aliases.sort_unstable();
        aliases.dedup();
        let mut links: Vec<String> = texts(endpoint, "/Links").map(|link| names.link(link)).collect();
        links.sort();
        if !aliases.is_empty() {
            fields.insert("Aliases".to_owned(), json!(aliases));
        }
        if !links.is_empty() {
            fields.insert("Links".to_owned(), json!(links));
        }
        for field in ["DriverOpts", "GwPriority"] {
            if let Some(value) = endpoint.get(field).filter(|value| !is_default(value)) {
                fields.insert(field.to_owned(), value.clone());
            }
        }
        if let Some(mac) = configured_mac(inspect, network, endpoint) {
            fields.insert("MacAddress".to_owned(), json!(mac));
        }
        out.insert(names.network(network), Value::Object(fields));
    }
    out.into_iter().collect()
}

/// What must be equal of a network: everything but its id, its time and who is on it. Addresses that the Engine may have
/// chosen are compared only if `addresses` says so.
pub fn network(inspect: &Value, names: &Names, addresses: bool) -> Fields {
    let mut fields = Fields::new();
    fields.insert("Name".to_owned(), json!(names.network(text(inspect, "/Name").unwrap_or_default())));
    for field in ["Driver", "Scope", "Internal", "Attachable", "Ingress", "EnableIPv6", "ConfigOnly", "ConfigFrom", "Options", "Labels"] {
        if let Some(value) = inspect.get(field).filter(|value| !is_default(value)) {
            fields.insert(field.to_owned(), value.clone());
        }
    }
    // Without this field (before API 1.48) IPv4 is always on.
    if inspect.get("EnableIPv4").and_then(Value::as_bool) == Some(false) {
        fields.insert("EnableIPv4".to_owned(), json!(false));
    }
    if fields.get("ConfigFrom").is_some_and(|from| text(from, "/Network").is_none()) {
        fields.remove("ConfigFrom");
    }
    // From Engine 28 on these two repeat the fields of the same name.
    if let Some(options) = fields.get_mut("Options").and_then(Value::as_object_mut) {
        options.retain(|name, _| !matches!(name.as_str(), "com.docker.network.enable_ipv4" | "com.docker.network.enable_ipv6"));
        if options.is_empty() {
            fields.remove("Options");
        }
    }
    fields.insert("IPAM.Driver".to_owned(), json!(text(inspect, "/IPAM/Driver").unwrap_or("default")));
    if let Some(options) = object(inspect, "/IPAM/Options").filter(|options| !options.is_empty()) {
        fields.insert("IPAM.Options".to_owned(), Value::Object(options.clone()));
    }
    if addresses || !looks_automatic(inspect, &[]) {
        fields.insert("IPAM.Config".to_owned(), json!(pools(inspect)));
    }
    fields
}

/// The address pools of a network, sorted. A gateway that the Engine filled in (the first address) is left out, since
/// versions differ in whether they show it.
fn pools(inspect: &Value) -> Vec<Value> {
    let mut pools: Vec<Value> = array(inspect, "/IPAM/Config")
        .iter()
        .map(|pool| {
            let mut fields: BTreeMap<&str, Value> = BTreeMap::new();
            for (name, value) in pool.as_object().into_iter().flatten().filter(|(_, value)| !is_empty(value)) {
                fields.insert(name, value.clone());
            }
            if let Some(gateway) = text(pool, "/Gateway") {
                let gateway = gateway.split('/').next().unwrap_or(gateway);
                match text(pool, "/Subnet").and_then(first_address) {
                    Some(first) if gateway.parse() == Ok(first) => fields.remove("Gateway"),
                    _ => fields.insert("Gateway", json!(gateway)),
                };
            }
            json!(fields)
        })
        .collect();
    pools.sort_by_key(Value::to_string);
    pools
}

fn first_address(subnet: &str) -> Option<std::net::IpAddr> {
    match subnet.split('/').next()?.parse().ok()? {
        std::net::IpAddr::V4(address) => Some(std::net::Ipv4Addr::from(u32::from(address).checked_add(1)?).into()),
        std::net::IpAddr::V6(address) => Some(std::net::Ipv6Addr::from(u128::from(address).checked_add(1)?).into()),
    }
}

/// What must be equal of a volume: name, driver, options, labels.
pub fn volume(inspect: &Value, names: &Names) -> Fields {
    let mut fields = Fields::new();
    fields.insert("Name".to_owned(), json!(names.volume(text(inspect, "/Name").unwrap_or_default())));
    for field in ["Driver", "Options", "Labels", "Scope"] {
        if let Some(value) = inspect.get(field).filter(|value| !is_empty(value)) {
            fields.insert(field.to_owned(), value.clone());
        }
    }
    fields
}
