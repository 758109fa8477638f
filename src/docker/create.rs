//! Bodies of the calls that make containers, networks and volumes again, put together from what inspect said of them.
//!
//! Pure: nothing here talks to an Engine. The bodies are raw JSON, so that no field that this program does not know is
//! dropped on the way.

pub mod endpoints;
pub mod fields;
pub mod json;
mod mounts;
pub mod names;
mod network;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

pub use self::endpoints::Connection;
use self::fields::{FIELDS, Feature, Made, Without, unknown_to};
use self::json::{is_empty, object, text, texts};
pub use self::names::{Names, Renames};
pub use self::network::{NetworkBody, is_predefined_network, looks_automatic, network_body};

/// What is stored of something is not what an Engine says of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A part without which nothing can be made is missing or of another type.
    #[error("the stored configuration of {what} has no usable `{field}`")]
    Incomplete {
        /// `container web`, `network front`.
        what: String,
        /// Field of the inspect answer.
        field: &'static str,
    },
}

impl CreateError {
    /// Whether the same call may succeed later: never.
    pub fn is_transient(&self) -> bool {
        false
    }
}

/// What a container is made from.
#[derive(Debug, Clone, Copy)]
pub struct ContainerRequest<'a> {
    /// What inspect said of it.
    pub inspect: &'a Value,
    /// Names behind ids, and new names.
    pub names: &'a Names,
    /// The image, as create is to name it.
    pub image: &'a str,
    /// Old names of volumes that hold nothing and are not to be filled from the image.
    pub empty_volumes: &'a BTreeSet<String>,
    /// API version of the Engine that makes it.
    pub api: (u64, u64),
}

/// How a container is made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerBody {
    /// Its name.
    pub name: String,
    /// Body of `POST /containers/create`.
    pub body: Value,
    /// Networks to join afterwards.
    pub connect: Vec<Connection>,
    /// Networks to leave afterwards.
    pub disconnect: Vec<String>,
    /// What cannot be had on this Engine, one sentence each.
    pub notes: Vec<String>,
    /// What this Engine does not know and without which the container would not be what it was.
    pub lacks: Vec<&'static Feature>,
}

/// Fields that create refuses for a container in another one's network; what there is of them came from the image.
const REFUSED_IN_FOREIGN_NETWORK: &[&str] = &["Hostname", "Domainname", "ExposedPorts", "MacAddress"];
/// The same in `HostConfig`.
const REFUSED_IN_FOREIGN_NETWORK_HOST: &[&str] =
    &["PortBindings", "PublishAllPorts", "Links", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts"];

/// Puts together how a container is made again.
///
/// # Errors
/// The stored configuration has no name, `Config` or `HostConfig`.
pub fn container_body(request: &ContainerRequest<'_>) -> Result<ContainerBody, CreateError> {
    let ContainerRequest { inspect, names, .. } = *request;
    let old_name = text(inspect, "/Name")
        .map(|name| name.trim_start_matches('/'))
        .filter(|name| !name.is_empty())
        .ok_or(CreateError::Incomplete { what: "a container".to_owned(), field: "Name" })?;
    let part = |pointer: &str, field: &'static str| {
        object(inspect, pointer).cloned().ok_or_else(|| CreateError::Incomplete { what: format!("container {old_name}"), field })
    };
    let mut config = part("/Config", "Config")?;
    let mut host = part("/HostConfig", "HostConfig")?;
    let joined = endpoints::join(inspect, names, request.api);

    config_fields(inspect, request.image, &mut config);
    host_fields(inspect, names, &mut host);
    let attached = mounts::attach(inspect, names, request.empty_volumes);
    host.insert("Binds".to_owned(), Value::Array(attached.binds));
    host.insert("Mounts".to_owned(), Value::Array(attached.mounts));
    host.insert("NetworkMode".to_owned(), json!(joined.mode));
    config.remove("MacAddress");
    if let Some(mac) = &joined.container_mac {
        config.insert("MacAddress".to_owned(), json!(mac));
    }
    if joined.mode.starts_with("container:") {
        config.retain(|field, _| !REFUSED_IN_FOREIGN_NETWORK.contains(&field.as_str()));
        host.retain(|field, _| !REFUSED_IN_FOREIGN_NETWORK_HOST.contains(&field.as_str()));
    }

    config.insert("HostConfig".to_owned(), Value::Object(host));
    if !joined.at_create.is_empty() {
        config.insert("NetworkingConfig".to_owned(), json!({ "EndpointsConfig": joined.at_create }));
    }
    let (lacks, lesser): (Vec<_>, Vec<_>) = unknown_to(inspect, request.api).partition(|feature| feature.without == Without::Wrong);
    let mut notes = joined.notes;
    notes.extend(lesser.into_iter().map(|feature| not_on_this_engine(feature, request.api)));
    Ok(ContainerBody {
        name: names.container(old_name),
        body: Value::Object(config),
        connect: joined.connect,
        disconnect: joined.disconnect,
        notes,
        lacks,
    })
}

fn not_on_this_engine(feature: &Feature, api: (u64, u64)) -> String {
    let Feature { what, since, until, .. } = feature;
    match until {
        Some(until) if api > *until => format!("{what}: lost, as no Engine after API {}.{} knows it", until.0, until.1),
        _ => format!("{what}: lost, as it needs an Engine with API {}.{} or later", since.0, since.1),
    }
}

fn config_fields(inspect: &Value, image: &str, config: &mut Map<String, Value>) {
    config.insert("Image".to_owned(), json!(image));
    if hostname_is_made_up(inspect) {
        config.remove("Hostname");
    }
    // The Engine would fill a missing entry point from the image; one that is an empty word takes the image's away, as
    // `--entrypoint ""` did when the container was made first.
    if config.get("Entrypoint").is_none_or(is_empty) {
        config.insert("Entrypoint".to_owned(), json!([""]));
    }
    config.retain(|_, value| !value.is_null());
}

/// Whether nobody asked for the host name that inspect shows: it is the container's short id, or another container's whose
/// network it shares, or that of the Engine's machine.
pub fn hostname_is_made_up(inspect: &Value) -> bool {
    let Some(hostname) = text(inspect, "/Config/Hostname") else { return true };
    let mode = text(inspect, "/HostConfig/NetworkMode").unwrap_or_default();
    let host_name = text(inspect, "/HostConfig/UTSMode") == Some("host");
    is_own_id(inspect, hostname) || mode.starts_with("container:") || host_name
}

fn is_own_id(inspect: &Value, word: &str) -> bool {
    text(inspect, "/Id").is_some_and(|id| endpoints::is_short_id(word, id))
}

fn host_fields(inspect: &Value, names: &Names, host: &mut Map<String, Value>) {
    for field in ["IpcMode", "PidMode", "UTSMode", "UsernsMode", "CgroupnsMode"] {
        if let Some(mode) = host.get(field).and_then(Value::as_str) {
            let mode = names.mode(mode);
            host.insert(field.to_owned(), json!(mode));
        }
    }
    let from: Vec<String> = texts(inspect, "/HostConfig/VolumesFrom").map(|entry| names.volumes_from(entry)).collect();
    let links: Vec<String> = texts(inspect, "/HostConfig/Links").map(|entry| names.link(entry)).collect();
    if let Some(bindings) = host.get_mut("PortBindings").and_then(Value::as_object_mut) {
        for (inner, bindings) in bindings {
            let protocol = inner.split_once('/').map_or("", |(_, protocol)| protocol);
            for binding in bindings.as_array_mut().into_iter().flatten() {
                if let Some(port) = text(binding, "/HostPort").map(|port| names.host_port(port, protocol)) {
                    binding["HostPort"] = json!(port);
                }
            }
        }
    }
    host.insert("VolumesFrom".to_owned(), json!(from));
    host.insert("Links".to_owned(), json!(links));
    let is_dropped =
        |field: &str| FIELDS.iter().any(|one| matches!(one.made, Made::Dropped(_)) && one.path == format!("HostConfig.{field}"));
    host.retain(|field, value| !value.is_null() && !is_dropped(field));
}

/// The body of `POST /volumes/create` from what inspect said of a volume.
///
/// # Errors
/// The stored configuration has no name.
pub fn volume_body(inspect: &Value, names: &Names) -> Result<Value, CreateError> {
    let name = text(inspect, "/Name").ok_or(CreateError::Incomplete { what: "a volume".to_owned(), field: "Name" })?;
    let mut body = Map::new();
    body.insert("Name".to_owned(), json!(names.volume(name)));
    for (from, to) in [("Driver", "Driver"), ("Options", "DriverOpts"), ("Labels", "Labels")] {
        if let Some(value) = inspect.get(from).filter(|value| !is_empty(value)) {
            body.insert(to.to_owned(), value.clone());
        }
    }
    Ok(Value::Object(body))
}
