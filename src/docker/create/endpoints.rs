//! The networks of a container that is made again: which one create joins, which ones are joined afterwards, and with what
//! addresses, aliases and links.
//!
//! The networks themselves are made from `create::network_body`.

use serde_json::{Map, Value, json};

use super::json::{flag, is_empty, object, text, texts};
use super::names::Names;

/// API version from which each endpoint has a MAC address of its own; before, the container had one.
pub(super) const MAC_PER_ENDPOINT: (u64, u64) = (1, 44);

/// One network that a container joins after it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    /// Name of the network.
    pub network: String,
    /// `EndpointConfig` of the call.
    pub endpoint: Value,
}

/// How a container comes to its networks.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// `HostConfig.NetworkMode`.
    pub(super) mode: String,
    /// `NetworkingConfig.EndpointsConfig`: at most one network.
    pub(super) at_create: Map<String, Value>,
    /// The MAC address for `Config.MacAddress`, where the API version wants it there.
    pub(super) container_mac: Option<String>,
    /// The others.
    pub(super) connect: Vec<Connection>,
    /// Networks that create joins because of the mode and that the container had left.
    pub(super) disconnect: Vec<String>,
    /// What cannot be had on this API version, one sentence each.
    pub(super) notes: Vec<String>,
}

/// Whether a mode names a network that was made by somebody, not one of the Engine's own.
pub fn is_user_network(mode: &str) -> bool {
    !matches!(mode, "" | "default" | "bridge" | "host" | "none" | "nat") && !mode.starts_with("container:")
}

/// The old name of the network that the mode of `inspect` means; an id in the mode is looked up in its endpoints.
pub fn primary_network(inspect: &Value) -> Option<String> {
    let mode = text(inspect, "/HostConfig/NetworkMode").unwrap_or("default");
    match mode {
        "default" | "bridge" => Some("bridge".to_owned()),
        "host" | "none" | "nat" => Some(mode.to_owned()),
        _ if mode.starts_with("container:") => None,
        _ => {
            let by_id = object(inspect, "/NetworkSettings/Networks")
                .and_then(|networks| networks.iter().find(|(_, endpoint)| text(endpoint, "/NetworkID") == Some(mode)));
            Some(by_id.map_or(mode, |(name, _)| name).to_owned())
        }
    }
}

/// The MAC address that somebody asked for on a network, as far as it can be told.
///
/// On the network of the mode it stands in `Config.MacAddress`. On the others each endpoint has one from API 1.44 on (known
/// by its field `DNSNames`), but a running container also shows the one that the Engine made up there, so it counts as asked
/// for only while the container does not run.
pub fn configured_mac(inspect: &Value, network: &str, endpoint: &Value) -> Option<String> {
    if let Some(mac) = text(inspect, "/Config/MacAddress")
        && primary_network(inspect).as_deref() == Some(network)
    {
        return Some(mac.to_owned());
    }
    let tells = endpoint.get("DNSNames").is_some() && !flag(inspect, "/State/Running");
    if tells { text(endpoint, "/MacAddress").map(str::to_owned) } else { None }
}

/// Addresses that somebody asked for: `IPAMConfig` with what is empty left out; none where nothing is left.
pub fn static_addresses(endpoint: &Value) -> Option<Map<String, Value>> {
    let config = object(endpoint, "/IPAMConfig")?;
    let kept: Map<String, Value> =
        config.iter().filter(|(_, value)| !is_empty(value)).map(|(key, value)| (key.clone(), value.clone())).collect();
    (!kept.is_empty()).then_some(kept)
}

/// The aliases of an endpoint without the container's own short id, which the Engine adds by itself.
pub fn own_aliases<'a>(endpoint: &'a Value, id: &'a str) -> impl Iterator<Item = &'a str> {
    texts(endpoint, "/Aliases").filter(move |alias| !is_short_id(alias, id))
}

/// Whether `word` is the first twelve digits of a container's id.
pub fn is_short_id(word: &str, id: &str) -> bool {
    word.len() == 12 && id.starts_with(word)
}

/// Works out how the container of `inspect` comes to its networks.
pub(super) fn join(inspect: &Value, names: &Names, api: (u64, u64)) -> Joined {
    let old_mode = text(inspect, "/HostConfig/NetworkMode").unwrap_or("default");
    let primary = primary_network(inspect);
    let mode = match &primary {
        Some(network) if is_user_network(old_mode) => names.network(network),
        Some(_) => old_mode.to_owned(),
        None => names.mode(old_mode),
    };
    let mut joined = Joined { mode, ..Joined::default() };
    // Inside another container's network there is nothing to join.
    let (Some(primary), Some(networks)) = (primary, object(inspect, "/NetworkSettings/Networks")) else { return joined };
    for (network, endpoint) in networks {
        let is_primary = *network == primary;
        let body = endpoint_body(inspect, network, endpoint, names, api, &mut joined);
        if !is_primary {
            joined.connect.push(Connection { network: names.network(network), endpoint: body });
        } else if is_user_network(network) || body.as_object().is_some_and(|fields| !fields.is_empty()) {
            joined.at_create.insert(names.network(network), body);
        }
    }
    // A container that has left every network shows none; one that never ran on an old Engine shows its own all the same.
    if !networks.contains_key(&primary) && !networks.is_empty() {
        joined.disconnect.push(names.network(&primary));
    }
    joined
}

fn endpoint_body(inspect: &Value, network: &str, endpoint: &Value, names: &Names, api: (u64, u64), joined: &mut Joined) -> Value {
    let id = text(inspect, "/Id").unwrap_or_default();
    let mut body = Map::new();
    // The Engine's own networks take neither addresses nor aliases nor links.
    if is_user_network(network) {
        if let Some(addresses) = static_addresses(endpoint).filter(|_| names.keeps_addresses(network)) {
            body.insert("IPAMConfig".to_owned(), Value::Object(addresses));
        }
        let aliases: Vec<&str> = own_aliases(endpoint, id).collect();
        if !aliases.is_empty() {
            body.insert("Aliases".to_owned(), json!(aliases));
        }
        let links: Vec<String> = texts(endpoint, "/Links").map(|link| names.link(link)).collect();
        if !links.is_empty() {
            body.insert("Links".to_owned(), json!(links));
        }
    }
    if let Some(options) = object(endpoint, "/DriverOpts").filter(|options| !options.is_empty()) {
        body.insert("DriverOpts".to_owned(), Value::Object(options.clone()));
    }
    if let Some(priority) = endpoint.get("GwPriority").and_then(Value::as_i64).filter(|priority| *priority != 0) {
        body.insert("GwPriority".to_owned(), json!(priority));
    }
    if let Some(mac) = configured_mac(inspect, network, endpoint) {
        if api >= MAC_PER_ENDPOINT {
            body.insert("MacAddress".to_owned(), json!(mac));
        } else if primary_network(inspect).as_deref() == Some(network) {
            joined.container_mac = Some(mac);
        } else {
            joined
                .notes
                .push(format!("MAC address {mac} on network {network} needs an Engine with API 1.44 or later: a generated one is used"));
        }
    }
    Value::Object(body)
}
