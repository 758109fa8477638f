//! The body of the call that makes a network again, and how sure its addresses are.
//!
//! Which containers join it is `create::endpoints`' business.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value, json};

use super::CreateError;
use super::json::{array, flag, is_empty, object, text};
use super::names::Names;

/// How a network is made.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkBody {
    /// Its name.
    pub name: String,
    /// Body of `POST /networks/create`.
    pub body: Value,
}

/// Networks that every Engine has by itself and that nobody can make.
pub fn is_predefined_network(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none" | "nat" | "ingress" | "docker_gwbridge")
}

/// Fields that create takes as inspect gives them.
const SAME: &[&str] = &["Driver", "Internal", "Attachable", "Ingress", "EnableIPv6", "EnableIPv4", "Options", "Labels"];

/// Puts together how a network is made again. Without `addresses` the Engine chooses them.
///
/// # Errors
/// The stored configuration has no name.
pub fn network_body(inspect: &Value, names: &Names, addresses: bool) -> Result<NetworkBody, CreateError> {
    let old = text(inspect, "/Name").ok_or(CreateError::Incomplete { what: "a network".to_owned(), field: "Name" })?;
    let name = names.network(old);
    let mut body = Map::new();
    body.insert("Name".to_owned(), json!(name));
    // Engines before 24 make a second network of the same name unless they are told not to.
    body.insert("CheckDuplicate".to_owned(), json!(true));
    for field in SAME {
        if let Some(value) = inspect.get(*field).filter(|value| !is_empty(value)) {
            body.insert((*field).to_owned(), value.clone());
        }
    }
    if let Some(scope) = text(inspect, "/Scope").filter(|scope| *scope != "local") {
        body.insert("Scope".to_owned(), json!(scope));
    }
    if let Some(from) = text(inspect, "/ConfigFrom/Network") {
        // Everything else comes from that other network, and saying it again is an error.
        body.insert("ConfigFrom".to_owned(), json!({ "Network": names.network(from) }));
        body.retain(|field, _| !matches!(field.as_str(), "EnableIPv6" | "EnableIPv4" | "Options" | "Labels"));
        return Ok(NetworkBody { name, body: Value::Object(body) });
    }
    if flag(inspect, "/ConfigOnly") {
        body.insert("ConfigOnly".to_owned(), json!(true));
        body.remove("Driver");
    }
    body.insert("IPAM".to_owned(), ipam(inspect, addresses));
    Ok(NetworkBody { name, body: Value::Object(body) })
}

fn ipam(inspect: &Value, addresses: bool) -> Value {
    let mut ipam = Map::new();
    ipam.insert("Driver".to_owned(), json!(text(inspect, "/IPAM/Driver").unwrap_or("default")));
    if let Some(options) = object(inspect, "/IPAM/Options").filter(|options| !options.is_empty()) {
        ipam.insert("Options".to_owned(), Value::Object(options.clone()));
    }
    let pools: Vec<Value> = array(inspect, "/IPAM/Config").iter().filter_map(pool).collect();
    if addresses && !pools.is_empty() {
        ipam.insert("Config".to_owned(), Value::Array(pools));
    }
    Value::Object(ipam)
}

/// One address pool; a gateway with a length of prefix, as older Engines give it for IPv6, loses the length.
fn pool(config: &Value) -> Option<Value> {
    let fields = config.as_object()?;
    let mut out: Map<String, Value> =
        fields.iter().filter(|(_, value)| !is_empty(value)).map(|(key, value)| (key.clone(), value.clone())).collect();
    if let Some(gateway) = text(config, "/Gateway") {
        let address = gateway.split('/').next().unwrap_or(gateway);
        out.insert("Gateway".to_owned(), json!(address));
    }
    out.contains_key("Subnet").then_some(Value::Object(out))
}

/// Whether the addresses of a network may have been chosen by the Engine.
///
/// The Engine does not say it. What it chooses always has a gateway, the first address of the subnet, no range and no
/// reserved addresses, and for IPv4 comes from its pools (172.17.0.0/16 to 172.31.0.0/16, 192.168.0.0/20 and so on).
/// Everything else counts as asked for by somebody; so do the networks of an Engine with pools of its own configuration.
pub fn looks_automatic(inspect: &Value) -> bool {
    let pools = array(inspect, "/IPAM/Config");
    text(inspect, "/IPAM/Driver").unwrap_or("default") == "default"
        && object(inspect, "/IPAM/Options").is_none_or(Map::is_empty)
        && pools.iter().all(pool_looks_automatic)
}

fn pool_looks_automatic(pool: &Value) -> bool {
    let asked = ["IPRange", "AuxiliaryAddresses", "AuxAddress"].iter().any(|field| pool.get(*field).is_some_and(|value| !is_empty(value)));
    let (Some(subnet), Some(gateway)) = (text(pool, "/Subnet"), text(pool, "/Gateway")) else { return false };
    let gateway = gateway.split('/').next().unwrap_or(gateway);
    let Some((network, length)) = subnet.split_once('/') else { return false };
    let (Ok(network), Ok(gateway), Ok(length)) = (network.parse(), gateway.parse(), length.parse::<u8>()) else { return false };
    match (network, gateway) {
        (IpAddr::V4(network), IpAddr::V4(gateway)) => {
            !asked
                && length <= 28
                && network.is_private()
                && u32::from(gateway) == u32::from(network).wrapping_add(1)
                && in_engine_pools(network, length)
        }
        // From Engine 27 on unique local addresses are made up as well: fdXX:XXXX:XXXX:N::/64.
        (IpAddr::V6(network), IpAddr::V6(gateway)) => {
            !asked && length == 64 && network.octets()[0] == 0xfd && u128::from(gateway) == u128::from(network).wrapping_add(1)
        }
        _ => false,
    }
}

/// The pools that an Engine uses unless it is configured otherwise; with others nothing looks automatic, and the addresses
/// are kept.
fn in_engine_pools(network: Ipv4Addr, length: u8) -> bool {
    let [first, second, third, _] = network.octets();
    match (first, second) {
        (172, 17..=31) => length == 16,
        (192, 168) => length == 20 && third % 16 == 0,
        _ => false,
    }
}
