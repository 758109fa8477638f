//! Finds an Engine, agrees with it on an API version, and keeps what is true of it for the rest of the run.
//!
//! Reads no environment: `$DOCKER_HOST` and its like are handed in by the caller.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::{ClientVersion, Docker};
use serde::Deserialize;

use super::error::DockerError;
use super::wire::{Address, Timeouts, Wire, transport};
use crate::model::application::EngineIdentity;

/// Where an Engine listens unless somebody says otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// The port of an Engine on plain TCP.
const DEFAULT_PORT: u16 = 2375;
/// The lowest API version that is spoken (Engine 20.10).
const LOWEST: (u64, u64) = (1, 41);
const LOWEST_TEXT: &str = "1.41";
/// The highest API version that bollard's models know.
const HIGHEST: (u64, u64) = (1, 53);
const HIGHEST_TEXT: &str = "1.53";
/// bollard insists on a limit of its own; ours are in the transport.
const NO_LIMIT: Duration = Duration::from_hours(87_600);

/// Which Engine, and how patiently.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// `unix:///run/docker.sock`, a path, `tcp://host:port`, `http://host:port`; none for [`DEFAULT_SOCKET`].
    pub host: Option<String>,
    /// Whether the caller was told to use TLS (`DOCKER_TLS_VERIFY`): refused, never ignored.
    pub tls: bool,
    /// How long is waited for what.
    pub timeouts: Timeouts,
}

/// A Docker Engine that answered. Clones share everything.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wire: Wire,
    docker: Docker,
    patient: Docker,
    identity: EngineIdentity,
    api_version: (u64, u64),
    data_root: PathBuf,
    rootless: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versions {
    #[serde(rename = "ApiVersion")]
    highest: String,
    #[serde(rename = "MinAPIVersion", default)]
    lowest: String,
    #[serde(rename = "Version")]
    engine: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    arch: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    docker_root_dir: String,
    #[serde(default)]
    security_options: Option<Vec<String>>,
}

impl Engine {
    /// Connects and agrees on an API version.
    ///
    /// # Errors
    /// Each reason is a variant of its own: see [`DockerError`].
    pub async fn connect(options: &EngineOptions) -> Result<Self, DockerError> {
        let address = parse_address(options.host.as_deref(), options.tls)?;
        let wire = Wire::new(address.clone(), options.timeouts);
        let versions: Versions = decode(&address, &foreign(&address, wire.get_bytes("/version").await)?)?;
        let agreed = negotiate(&address, &versions)?;
        let api_version = format!("{}.{}", agreed.0, agreed.1);
        let wire = wire.with_version(&api_version);
        let info: Info = decode(&address, &wire.get_bytes("/info").await?)?;

        let client_version = ClientVersion { major_version: agreed.0 as usize, minor_version: agreed.1 as usize };
        let docker = |limit: Option<Duration>| {
            let transport = transport(wire.clone(), limit);
            Docker::connect_with_custom_transport(transport, Some("http://localhost"), NO_LIMIT.as_secs(), &client_version)
                .map_err(|error| DockerError::from_bollard("connect", error))
        };
        let rootless = info.security_options.iter().flatten().any(|option| option.split(',').any(|part| part == "name=rootless"));
        Ok(Self(Arc::new(Inner {
            docker: docker(Some(options.timeouts.request))?,
            patient: docker(None)?,
            identity: EngineIdentity {
                id: info.id,
                name: info.name,
                version: versions.engine,
                api_version,
                platform: format!("{}/{}", versions.os, versions.arch),
            },
            api_version: agreed,
            data_root: PathBuf::from(info.docker_root_dir),
            rootless,
            wire,
        })))
    }

    /// Raw calls.
    pub fn wire(&self) -> &Wire {
        &self.0.wire
    }

    /// Typed calls that answer soon; they end with the request limit.
    pub fn docker(&self) -> &Docker {
        &self.0.docker
    }

    /// Typed calls that may take as long as they take: stop, wait, restart. Never ends by itself.
    pub fn patient(&self) -> &Docker {
        &self.0.patient
    }

    /// Which Engine it is.
    pub fn identity(&self) -> &EngineIdentity {
        &self.0.identity
    }

    /// Its own id; the same across restarts.
    pub fn id(&self) -> &str {
        &self.0.identity.id
    }

    /// The API version that is spoken, as (major, minor).
    pub fn api_version(&self) -> (u64, u64) {
        self.0.api_version
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        self.0.wire.address()
    }

    /// The socket, if it is reached by one. Only then can its files be ours, and even then each has to be compared.
    pub fn socket(&self) -> Option<&Path> {
        match self.address() {
            Address::Unix(path) => Some(path),
            Address::Tcp { .. } => None,
        }
    }

    /// Whether it is reached by a Unix socket. TCP is remote, also at localhost.
    pub fn is_local(&self) -> bool {
        self.socket().is_some()
    }

    /// The process that listens at the other end of the socket, as this process's namespace numbers it: the Engine, or
    /// whoever opened the socket for it. None over TCP, and where it lives in a namespace that is not seen from here.
    pub async fn process(&self) -> Option<i32> {
        let stream = tokio::net::UnixStream::connect(self.socket()?).await.ok()?;
        stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0)
    }

    /// Where it keeps its data, on its own machine (`/var/lib/docker`).
    pub fn data_root(&self) -> &Path {
        &self.0.data_root
    }

    /// Whether it runs without root, in a user namespace of its own.
    pub fn is_rootless(&self) -> bool {
        self.0.rootless
    }
}

/// Understands an Engine's address.
///
/// # Errors
/// [`DockerError::Address`] for nonsense, [`DockerError::Unsupported`] for what this version does not have.
pub fn parse_address(host: Option<&str>, tls: bool) -> Result<Address, DockerError> {
    let Some(given) = host.map(str::trim).filter(|host| !host.is_empty()) else {
        return Ok(Address::Unix(PathBuf::from(DEFAULT_SOCKET)));
    };
    let bad = |reason| Err(DockerError::Address { given: given.to_owned(), reason });
    let unsupported = |way| Err(DockerError::Unsupported { given: given.to_owned(), way });
    let (scheme, rest) = match given.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None if given.starts_with('/') => ("unix", given),
        None => return bad("write unix:///path or tcp://host:port"),
    };
    match scheme {
        "unix" if rest.starts_with('/') => Ok(Address::Unix(PathBuf::from(rest))),
        "unix" => bad("the path of a socket must be absolute (unix:///run/docker.sock)"),
        "ssh" => unsupported("ssh"),
        "https" => unsupported("tls"),
        "npipe" => unsupported("a named pipe"),
        "fd" => unsupported("a file descriptor"),
        "tcp" | "http" if tls => unsupported("tls"),
        "tcp" | "http" => match host_and_port(rest.trim_end_matches('/')) {
            Ok((host, port)) => Ok(Address::Tcp { host, port }),
            Err(reason) => bad(reason),
        },
        _ => bad("unknown kind of address"),
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), &'static str> {
    if text.contains(['/', '@', '?', '#']) {
        return Err("only a host and a port are understood");
    }
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
    let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| "the port is not a number below 65536"))?;
    Ok((host.to_owned(), port))
}

/// An answer that no Engine gives to `/version` means that something else is there.
fn foreign<T>(address: &Address, result: Result<T, DockerError>) -> Result<T, DockerError> {
    result.map_err(|error| match error {
        DockerError::Malformed { source, .. } => DockerError::NotAnEngine { address: address.to_string(), source },
        DockerError::Lost { ref source, .. } if source.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) => {
            DockerError::NotAnEngine { address: address.to_string(), source: error.into() }
        }
        DockerError::Api { status: 400..=499, .. } => DockerError::NotAnEngine { address: address.to_string(), source: error.into() },
        other => other,
    })
}

fn decode<'a, T: Deserialize<'a>>(address: &Address, bytes: &'a [u8]) -> Result<T, DockerError> {
    serde_json::from_slice(bytes).map_err(|error| DockerError::NotAnEngine { address: address.to_string(), source: error.into() })
}

fn negotiate(address: &Address, versions: &Versions) -> Result<(u64, u64), DockerError> {
    let parse = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse::<u64>().ok()?, minor.parse::<u64>().ok()?))
    };
    let highest = parse(&versions.highest).ok_or_else(|| DockerError::NotAnEngine {
        address: address.to_string(),
        source: format!("its API version is `{}`", versions.highest).into(),
    })?;
    if highest < LOWEST {
        return Err(DockerError::TooOld { address: address.to_string(), found: versions.highest.clone(), needed: LOWEST_TEXT });
    }
    if parse(&versions.lowest).is_some_and(|lowest| lowest > HIGHEST) {
        return Err(DockerError::TooNew { address: address.to_string(), found: versions.lowest.clone(), known: HIGHEST_TEXT });
    }
    Ok(highest.min(HIGHEST))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn addresses_are_understood_or_refused_by_name() {
        let unix = |path: &str| Address::Unix(PathBuf::from(path));
        let tcp = |host: &str, port| Address::Tcp { host: host.to_owned(), port };
        for (given, expected) in [
            (None, unix(DEFAULT_SOCKET)),
            (Some(""), unix(DEFAULT_SOCKET)),
            (Some("unix:///run/d.sock"), unix("/run/d.sock")),
            (Some("/run/d.sock"), unix("/run/d.sock")),
            (Some("tcp://backup.example:2375"), tcp("backup.example", 2375)),
            (Some("tcp://10.0.0.1"), tcp("10.0.0.1", 2375)),
            (Some("http://[::1]:99/"), tcp("::1", 99)),
        ] {
            assert_eq!(parse_address(given, false).unwrap(), expected, "{given:?}");
        }
        for (given, tls, way) in [("ssh://root@h", false, "ssh"), ("https://h", false, "tls"), ("tcp://h:2376", true, "tls")] {
            assert!(matches!(parse_address(Some(given), tls), Err(DockerError::Unsupported { way: found, .. }) if found == way), "{given}");
        }
        for given in [
            "docker.sock",
            "unix://relative",
            "tcp://",
            "tcp://h:x",
            "tcp://h:99999",
            "tcp://::1:5",
            "tcp://h/path",
            "ftp://h",
            "tcp://[::1",
        ] {
            assert!(matches!(parse_address(Some(given), false), Err(DockerError::Address { .. })), "{given}");
        }
    }

    #[test]
    fn versions_are_agreed_on_or_refused() {
        let address = Address::Unix(PathBuf::from("/s"));
        let version = |highest: &str, lowest: &str| Versions {
            highest: highest.to_owned(),
            lowest: lowest.to_owned(),
            engine: String::new(),
            os: String::new(),
            arch: String::new(),
        };
        assert_eq!(negotiate(&address, &version("1.41", "1.12")).unwrap(), (1, 41));
        assert_eq!(negotiate(&address, &version("1.99", "1.44")).unwrap(), HIGHEST);
        assert!(matches!(negotiate(&address, &version("1.40", "1.12")), Err(DockerError::TooOld { .. })));
        assert!(matches!(negotiate(&address, &version("1.99", "1.60")), Err(DockerError::TooNew { .. })));
        assert!(matches!(negotiate(&address, &version("new", "")), Err(DockerError::NotAnEngine { .. })));
    }
}
