//! The body of the call that makes a network again, and how sure its addresses are.
//!
//! Which containers join it is `create::endpoints`' business.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::CreateError;
use super::json::{array, flag, is_empty, object, text};
use super::names::Names;
use crate::model::application::AddressPool;

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

/// Whether the addresses of a network may have been chosen by the Engine, which has these pools of its own configuration.
///
/// The Engine does not say it. What it chooses always has a gateway, the first address of the subnet, no range and no
/// reserved addresses, and comes from its pools (for IPv4 172.17.0.0/16 to 172.31.0.0/16, 192.168.0.0/20 and so on). Everything
/// else counts as asked for by somebody.
pub fn looks_automatic(inspect: &Value, own: &[AddressPool]) -> bool {
    let pools = array(inspect, "/IPAM/Config");
    text(inspect, "/IPAM/Driver").unwrap_or("default") == "default"
        && object(inspect, "/IPAM/Options").is_none_or(Map::is_empty)
        && pools.iter().all(|pool| pool_looks_automatic(pool, own))
}

fn pool_looks_automatic(pool: &Value, own: &[AddressPool]) -> bool {
    let asked = ["IPRange", "AuxiliaryAddresses", "AuxAddress"].iter().any(|field| pool.get(*field).is_some_and(|value| !is_empty(value)));
    let (Some(subnet), Some(gateway)) = (text(pool, "/Subnet"), text(pool, "/Gateway")) else { return false };
    let gateway = gateway.split('/').next().unwrap_or(gateway);
    let (Some((network, length)), Ok(gateway)) = (cidr(subnet), gateway.parse::<IpAddr>()) else { return false };
    let is_first = network.is_ipv4() == gateway.is_ipv4() && number(gateway) == number(network).wrapping_add(1);
    !asked && is_first && (in_engine_pools(network, length) || own.iter().any(|pool| cut_from(pool, network, length)))
}

/// Address and length of a prefix.
fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    Some((address.parse().ok()?, length.parse().ok()?))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The pools that an Engine uses unless it is configured otherwise. It may be so only since the network was made.
fn in_engine_pools(network: IpAddr, length: u8) -> bool {
    match network {
        IpAddr::V4(network) => match network.octets() {
            [172, 17..=31, ..] => length == 16,
            [192, 168, third, _] => length == 20 && third % 16 == 0,
            _ => false,
        },
        // From Engine 27 on unique local addresses are made up as well: fdXX:XXXX:XXXX:N::/64.
        IpAddr::V6(network) => length == 64 && network.octets()[0] == 0xfd,
    }
}

/// Whether a subnet is one of those that a pool is cut into.
fn cut_from(pool: &AddressPool, network: IpAddr, length: u8) -> bool {
    let Some((base, outer)) = cidr(&pool.base) else { return false };
    let bits: u8 = if base.is_ipv4() { 32 } else { 128 };
    let Some(rest) = bits.checked_sub(outer) else { return false };
    let above = |address| number(address).checked_shr(rest.into()).unwrap_or(0);
    base.is_ipv4() == network.is_ipv4() && length == pool.size && above(base) == above(network)
}
