//! Host ports: what a container asks for, and what is taken.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::docker::Engine;
use crate::docker::create::json::text;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// From its word; an empty one means TCP.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "" | "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "sctp" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// The address it is bound to; none for all of both families.
    pub address: Option<IpAddr>,
    /// Its number.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(address) => write!(f, "{address}:")?,
            None => {}
        }
        write!(f, "{}/{}", self.port, self.protocol.as_str())
    }
}

impl HostPort {
    /// Whether both cannot be had at the same time.
    pub fn collides(&self, other: &Self) -> bool {
        let same_address = match (self.address, other.address) {
            (None, _) | (_, None) => true,
            (Some(one), Some(two)) if one.is_ipv4() == two.is_ipv4() => one == two || one.is_unspecified() || two.is_unspecified(),
            // A socket on all IPv6 addresses usually takes the IPv4 ones as well; the Engine's own does not, so it may be had.
            _ => false,
        };
        self.port == other.port && self.protocol == other.protocol && same_address
    }

    /// From a line of the list of containers; none for a port that is not published.
    pub(super) fn from_list(line: &Value) -> Option<Self> {
        let port = u16::try_from(line.get("PublicPort")?.as_u64()?).ok().filter(|port| *port != 0)?;
        Some(Self {
            address: text(line, "/IP").and_then(|ip| ip.parse().ok()),
            port,
            protocol: Protocol::parse(text(line, "/Type").unwrap_or("tcp"))?,
        })
    }

    /// What a container asks for in `HostConfig.PortBindings`. Random ports and ranges, of which the Engine takes any, are
    /// not in it.
    pub fn requested(inspect: &Value) -> Vec<Self> {
        let mut ports = Vec::new();
        for (inner, bindings) in inspect.pointer("/HostConfig/PortBindings").and_then(Value::as_object).into_iter().flatten() {
            let Some(protocol) = Protocol::parse(inner.split_once('/').map_or("", |(_, protocol)| protocol)) else { continue };
            for binding in bindings.as_array().into_iter().flatten() {
                let port = text(binding, "/HostPort").and_then(|port| port.parse().ok()).filter(|port| *port != 0);
                let address = text(binding, "/HostIp").and_then(|ip| ip.parse().ok());
                ports.extend(port.map(|port| Self { address, port, protocol }));
            }
        }
        ports
    }
}

/// The ports on which programs listen, if the Engine's network is the one that this process is in.
pub(super) async fn listening(engine: &Engine) -> Option<Vec<HostPort>> {
    let process = engine.process().await?;
    let theirs = std::fs::read_link(format!("/proc/{process}/ns/net")).ok()?;
    if theirs != std::fs::read_link("/proc/self/ns/net").ok()? {
        return None;
    }
    let mut ports = Vec::new();
    for (file, protocol) in [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)] {
        let table = std::fs::read_to_string(format!("/proc/self/net/{file}")).ok()?;
        ports.extend(table.lines().skip(1).filter_map(|line| socket(line, protocol)));
    }
    Some(ports)
}

/// One line of `/proc/net/tcp` and its like: number, local address, remote address, state.
fn socket(line: &str, protocol: Protocol) -> Option<HostPort> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = fields.next()?;
    let state = fields.nth(1)?;
    // Listening; for UDP bound and not connected.
    if state != (if protocol == Protocol::Tcp { "0A" } else { "07" }) {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |from: usize| Some(u32::from_str_radix(address.get(from..from + 8)?, 16).ok()?.to_ne_bytes());
    let address = if address.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let mut bytes = [0; 16];
        for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
            part.copy_from_slice(&word(index * 8)?);
        }
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    Some(HostPort { address: Some(address), port, protocol })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn port(text: &str) -> HostPort {
        let (address, port) = text.rsplit_once(':').map_or((None, text), |(address, port)| (Some(address.parse().unwrap()), port));
        HostPort { address, port: port.parse().unwrap(), protocol: Protocol::Tcp }
    }

    #[test]
    fn a_port_on_every_address_collides_with_one_on_any() {
        for (one, two, expected) in [
            ("80", "80", true),
            ("80", "81", false),
            ("127.0.0.1:80", "80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", ":::80", false),
        ] {
            assert_eq!(port(one).collides(&port(two)), expected, "{one} {two}");
            assert_eq!(port(two).collides(&port(one)), expected, "{two} {one}");
        }
        let udp = HostPort { protocol: Protocol::Udp, ..port("80") };
        assert!(!udp.collides(&port("80")));
        assert_eq!((udp.to_string().as_str(), port(":::80").to_string().as_str()), ("80/udp", "[::]:80/tcp"));
    }

    #[test]
    fn sockets_are_read_from_the_kernels_tables() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1";
        assert_eq!(socket(line, Protocol::Tcp), Some(port("127.0.0.1:8080")));
        assert_eq!(socket(&line.replace(" 0A ", " 01 "), Protocol::Tcp), None, "a connection");
        let six = "   0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0";
        assert_eq!(socket(six, Protocol::Tcp), Some(port("::1:80")));
        for nonsense in ["", "x", "0: zz:1 0 0A", "0: 01:0050 0 0A", "  sl  local_address rem_address   st"] {
            assert_eq!(socket(nonsense, Protocol::Tcp), None);
        }
    }

    #[test]
    fn only_fixed_ports_are_asked_for() {
        let inspect = serde_json::json!({"HostConfig": {"PortBindings": {
            "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "::1", "HostPort": "8081"}],
            "53/udp": [{"HostIp": "", "HostPort": ""}], "54/udp": [{"HostPort": "0"}], "55/udp": [{"HostPort": "9000-9010"}], "56/tcp": null}}});
        let ports: Vec<String> = HostPort::requested(&inspect).iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["8080/tcp", "[::1]:8081/tcp"]);
    }
}
