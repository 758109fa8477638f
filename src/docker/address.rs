//! Where an Engine listens: what people write understood, or refused by name.
//!
//! Connecting is `wire`'s business; which address counts is decided in `connect`.

use std::fmt;
use std::path::PathBuf;

use super::error::DockerError;

/// Where an Engine listens unless somebody says otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// The port of an Engine on plain TCP.
const PLAIN_PORT: u16 = 2375;
/// The port of an Engine behind TLS.
const TLS_PORT: u16 = 2376;

/// Where an Engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket on this machine.
    Unix(PathBuf),
    /// Plain TCP: everybody on the way can read and change everything.
    Tcp(Endpoint),
    /// TCP with TLS.
    Tls(Endpoint),
    /// Another machine's Engine through the `ssh` program and the Docker client over there.
    Ssh(Ssh),
}

/// A name or address, without brackets, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Whom `ssh` is told to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// The user over there; none: what ssh's own configuration says.
    pub user: Option<String>,
    /// Name or address, or an alias of ssh's configuration.
    pub host: String,
    /// The port; none: what ssh's own configuration says.
    pub port: Option<u16>,
    /// The Engine's socket over there; none: what the Docker client over there uses.
    pub socket: Option<String>,
}

impl Address {
    /// Whether a new connection takes so long that one is better used again.
    pub(crate) fn is_costly(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Ssh(_))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(endpoint) | Self::Tls(endpoint) => write!(f, "tcp://{endpoint}"),
            Self::Ssh(Ssh { user, host, port, socket }) => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                f.write_str(&host)?;
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                f.write_str(socket.as_deref().unwrap_or_default())
            }
        }
    }
}

/// Understands an Engine's address. With `tls` TCP means TCP with TLS, and no address the usual one for that.
///
/// # Errors
/// [`DockerError::Address`] for nonsense, [`DockerError::Unsupported`] for what this version does not have.
pub fn parse(host: Option<&str>, tls: bool) -> Result<Address, DockerError> {
    let Some(given) = host.map(str::trim).filter(|host| !host.is_empty()) else {
        // As the Docker client has it.
        return Ok(if tls {
            Address::Tls(Endpoint { host: "localhost".to_owned(), port: TLS_PORT })
        } else {
            Address::Unix(PathBuf::from(DEFAULT_SOCKET))
        });
    };
    let bad = |reason| DockerError::Address { given: without_password(given), reason };
    let unsupported = |way| Err(DockerError::Unsupported { given: given.to_owned(), way });
    let (scheme, rest) = match given.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None if given.starts_with('/') => ("unix", given),
        None => return Err(bad("write unix:///path, tcp://host:port or ssh://user@host")),
    };
    match scheme {
        "unix" if rest.starts_with('/') => Ok(Address::Unix(PathBuf::from(rest))),
        "unix" => Err(bad("the path of a socket must be absolute (unix:///run/docker.sock)")),
        "ssh" => ssh(rest).map(Address::Ssh).map_err(bad),
        "npipe" => unsupported("a named pipe"),
        "fd" => unsupported("a file descriptor"),
        "https" => endpoint(rest, TLS_PORT).map(Address::Tls).map_err(bad),
        "tcp" if tls => endpoint(rest, TLS_PORT).map(Address::Tls).map_err(bad),
        // What says `http` means it; what says that certificates are to be verified means that too.
        "http" if tls => Err(bad("it says http, and TLS is asked for: write https or tcp")),
        "tcp" | "http" => endpoint(rest, PLAIN_PORT).map(Address::Tcp).map_err(bad),
        _ => Err(bad("unknown kind of address")),
    }
}

fn endpoint(text: &str, usual: u16) -> Result<Endpoint, &'static str> {
    let text = text.trim_end_matches('/');
    if text.contains(['/', '@', '?', '#']) {
        return Err("only a host and a port are understood");
    }
    let (host, port) = host_and_port(text)?;
    Ok(Endpoint { host: host.to_owned(), port: port.unwrap_or(usual) })
}

fn ssh(text: &str) -> Result<Ssh, &'static str> {
    if text.contains(['?', '#']) {
        return Err("only a user, a host, a port and the path of a socket are understood");
    }
    let (authority, path) = text.find('/').map_or((text, ""), |at| text.split_at(at));
    let (user, rest) = authority.rsplit_once('@').map_or((None, authority), |(user, rest)| (Some(user), rest));
    if user.is_some_and(|user| user.contains(':')) {
        return Err("a password in an address can be read by everybody: use a key");
    }
    let (host, port) = host_and_port(rest)?;
    // What begins so would be taken for an option of ssh.
    let strange = |text: &str| text.is_empty() || text.starts_with('-') || text.chars().any(|c| c.is_whitespace() || c.is_control());
    if strange(host) {
        return Err("this is no name of a host");
    }
    if user.is_some_and(strange) {
        return Err("this is no name of a user");
    }
    let socket = path.trim_end_matches('/');
    if socket.chars().any(char::is_control) {
        return Err("this is no path of a socket");
    }
    Ok(Ssh { user: user.map(str::to_owned), host: host.to_owned(), port, socket: (!socket.is_empty()).then(|| socket.to_owned()) })
}

fn host_and_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("the bracket is not closed")?;
        (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or("after the bracket comes `:port`")?) })
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address is written in brackets"),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    let port = port.map(|port| port.parse().map_err(|_| "the port is not a number below 65536")).transpose()?;
    Ok((host, port))
}

/// An address without the password that it may have.
fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => match rest[..at].find(':') {
            Some(colon) => format!("{scheme}://{}:…{}", &rest[..colon], &rest[at..]),
            None => address.to_owned(),
        },
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.to_owned(), port }
    }

    #[test]
    fn addresses_are_understood() {
        let unix = |path: &str| Address::Unix(PathBuf::from(path));
        let ssh = |user: Option<&str>, host: &str, port, socket: Option<&str>| {
            Address::Ssh(Ssh { user: user.map(str::to_owned), host: host.to_owned(), port, socket: socket.map(str::to_owned) })
        };
        for (given, tls, expected) in [
            (None, false, unix(DEFAULT_SOCKET)),
            (Some(""), false, unix(DEFAULT_SOCKET)),
            (None, true, Address::Tls(endpoint("localhost", 2376))),
            (Some("unix:///run/d.sock"), true, unix("/run/d.sock")),
            (Some("/run/d.sock"), false, unix("/run/d.sock")),
            (Some("tcp://backup.example:99"), false, Address::Tcp(endpoint("backup.example", 99))),
            (Some("tcp://10.0.0.1"), false, Address::Tcp(endpoint("10.0.0.1", 2375))),
            (Some("tcp://10.0.0.1"), true, Address::Tls(endpoint("10.0.0.1", 2376))),
            (Some("https://h"), false, Address::Tls(endpoint("h", 2376))),
            (Some("http://[::1]:99/"), false, Address::Tcp(endpoint("::1", 99))),
            (Some("ssh://nas"), true, ssh(None, "nas", None, None)),
            (Some("ssh://me@nas:2222/"), false, ssh(Some("me"), "nas", Some(2222), None)),
            (
                Some("ssh://me@[fe80::1]:22/run/user/7/docker.sock"),
                false,
                ssh(Some("me"), "fe80::1", Some(22), Some("/run/user/7/docker.sock")),
            ),
        ] {
            let address = parse(given, tls).unwrap();
            assert_eq!(address, expected, "{given:?}");
            assert_eq!(parse(Some(&address.to_string()), matches!(address, Address::Tls(_))).unwrap(), address, "{address}");
        }
    }

    #[test]
    fn nonsense_is_refused_and_no_password_repeated() {
        for given in [
            "docker.sock",
            "unix://relative",
            "tcp://",
            "tcp://h:x",
            "tcp://h:99999",
            "tcp://::1:5",
            "tcp://h/path",
            "tcp://me@h",
            "ftp://h",
            "tcp://[::1",
            "ssh://",
            "ssh://@h",
            "ssh://-oProxyCommand=x",
            "ssh://-l@h",
            "ssh://a b",
            "ssh://h?x",
        ] {
            assert!(matches!(parse(Some(given), false), Err(DockerError::Address { .. })), "{given}");
        }
        assert!(parse(Some("http://h"), true).is_err());
        let error = parse(Some("ssh://me:hush@h/x"), false).unwrap_err().to_string();
        assert!(error.contains("ssh://me:…@h/x") && !error.contains("hush"), "{error}");
        for (given, way) in [("npipe:////./pipe/x", "a named pipe"), ("fd://3", "a file descriptor")] {
            assert!(matches!(parse(Some(given), false), Err(DockerError::Unsupported { way: found, .. }) if found == way), "{given}");
        }
    }
}
