//! Finds an Engine, agrees with it on an API version, and keeps what is true of it for the rest of the run.
//!
//! Reads no environment: `$DOCKER_HOST` and its like are handed in by the caller.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::{ClientVersion, Docker};
use serde::Deserialize;

use super::address::{self, Address};
use super::context;
use super::error::DockerError;
use super::wire::{Timeouts, Tls, Wire, transport};
use crate::model::application::{AddressPool, EngineIdentity};
use crate::platform::container;

/// The lowest API version that is spoken (Engine 20.10).
const LOWEST: (u64, u64) = (1, 41);
const LOWEST_TEXT: &str = "1.41";
/// The highest API version that bollard's models know.
const HIGHEST: (u64, u64) = (1, 53);
const HIGHEST_TEXT: &str = "1.53";
/// bollard insists on a limit of its own; ours are in the transport.
const NO_LIMIT: Duration = Duration::from_hours(87_600);

/// Which Engine, and how patiently. Of what is given the first counts, as for the Docker client: `host`, `context`, the
/// context that is current in `client_folder`, the usual socket of this machine.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// `unix:///run/docker.sock`, a path, `tcp://host:port`, `https://host:port`, `ssh://user@host`.
    pub host: Option<String>,
    /// A context of the Docker client by its name; `default` is none at all.
    pub context: Option<String>,
    /// Whether `tcp` means TCP with TLS (`DOCKER_TLS_VERIFY`). A context says that itself.
    pub tls: bool,
    /// The folder of `ca.pem`, `cert.pem` and `key.pem`; none for `client_folder`. A context has its own.
    pub certificates: Option<PathBuf>,
    /// The Docker client's own folder (`~/.docker`); none where nobody has one.
    pub client_folder: Option<PathBuf>,
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
    #[serde(rename = "Components", default)]
    components: Vec<Component>,
}

/// One of the programs that an Engine is made of.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    #[serde(default)]
    name: String,
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
    #[serde(default)]
    driver_status: Option<Vec<Vec<String>>>,
    #[serde(default)]
    default_address_pools: Option<Vec<AddressPool>>,
}

impl Info {
    fn has_option(&self, name: &str) -> bool {
        self.security_options.iter().flatten().any(|option| option.split(',').any(|part| part.strip_prefix("name=") == Some(name)))
    }

    /// Where ids are mapped, the data folder is called after the ids that root becomes.
    fn user_namespace(&self) -> Option<String> {
        self.has_option("userns").then(|| self.docker_root_dir.rsplit('/').next().unwrap_or_default().to_owned())
    }

    fn has_containerd_images(&self) -> bool {
        self.driver_status.iter().flatten().flatten().any(|word| word.starts_with("io.containerd.snapshotter."))
    }
}

impl Engine {
    /// Connects and agrees on an API version.
    ///
    /// # Errors
    /// Each reason is a variant of its own: see [`DockerError`].
    pub async fn connect(options: &EngineOptions) -> Result<Self, DockerError> {
        let Place { address, certificates } = place(options)?;
        let tls = matches!(address, Address::Tls(_)).then(|| Tls::from_folder(certificates.as_deref())).transpose()?;
        let wire = Wire::new(address.clone(), tls, options.timeouts);
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
        let rootless = info.has_option("rootless");
        Ok(Self(Arc::new(Inner {
            docker: docker(Some(options.timeouts.request))?,
            patient: docker(None)?,
            identity: EngineIdentity {
                id: lasting_id(&versions, &info),
                user_namespace: info.user_namespace(),
                containerd_images: info.has_containerd_images(),
                name: info.name,
                version: versions.engine,
                api_version,
                address_pools: info.default_address_pools.unwrap_or_default(),
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
            Address::Tcp(_) | Address::Tls(_) | Address::Ssh(_) => None,
        }
    }

    /// Whether it is reached by a Unix socket. TCP and ssh are remote, also at localhost.
    pub fn is_local(&self) -> bool {
        self.socket().is_some()
    }

    /// The process that listens at the other end of the socket, as this process's namespace numbers it: the Engine, or
    /// whoever opened the socket for it. None over TCP and ssh, and where it lives in a namespace that is not seen from here.
    pub async fn process(&self) -> Option<i32> {
        let stream = tokio::net::UnixStream::connect(self.socket()?).await.ok()?;
        stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0)
    }

    /// Where it keeps its data, on its own machine (`/var/lib/docker`).
    pub fn data_root(&self) -> &Path {
        &self.0.data_root
    }

    /// Where the Engine keeps its data, if there is one on this machine that says so at once. Nobody needs it: so whatever
    /// goes wrong means that there is none.
    pub async fn local_data_root(options: &EngineOptions) -> Option<PathBuf> {
        const LIMIT: Duration = Duration::from_secs(2);
        let place = place(options).ok()?;
        let Address::Unix(_) = place.address else { return None };
        let engine = tokio::time::timeout(LIMIT, Self::connect(options)).await.ok()?.ok()?;
        Some(engine.data_root().to_owned())
    }

    /// What the machine is called that an Engine is on, if its address says that it is another one than this. What cannot
    /// be found is said when somebody connects.
    pub fn machine(options: &EngineOptions) -> Option<String> {
        let host = match place(options).ok()?.address {
            Address::Unix(_) => return None,
            // What is reached from a container is most often a proxy before its own machine's Engine.
            Address::Tcp(_) | Address::Tls(_) if container::is_inside() => return None,
            Address::Tcp(endpoint) | Address::Tls(endpoint) => endpoint.host,
            Address::Ssh(ssh) => ssh.host,
        };
        let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        (!is_here).then_some(host)
    }

    /// Whether it runs without root, in a user namespace of its own.
    pub fn is_rootless(&self) -> bool {
        self.0.rootless
    }
}

/// Where the Engine is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    address: Address,
    /// The folder of the certificates, if TLS is spoken.
    certificates: Option<PathBuf>,
}

fn place(options: &EngineOptions) -> Result<Place, DockerError> {
    let folder = options.client_folder.as_deref();
    let said = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let context = match (said(&options.host), said(&options.context), folder) {
        (None, Some(name), _) => Some(name).filter(|name| name != context::DEFAULT),
        (None, None, Some(folder)) => context::current(folder)?,
        _ => None,
    };
    let Some(name) = context else {
        let address = address::parse(options.host.as_deref(), options.tls)?;
        return Ok(Place { address, certificates: options.certificates.clone().or_else(|| options.client_folder.clone()) });
    };
    let Some(folder) = folder else {
        return Err(DockerError::NoContext { name, known: Vec::new() });
    };
    let found = context::load(folder, &name)?;
    Ok(Place { address: address::parse(Some(&found.host), found.certificates.is_some())?, certificates: found.certificates })
}

/// An answer that no Engine gives to `/version` means that something else is there.
fn foreign<T>(address: &Address, result: Result<T, DockerError>) -> Result<T, DockerError> {
    result.map_err(|error| match error {
        DockerError::Malformed { source, .. } => DockerError::NotAnEngine { address: address.to_string(), source },
        DockerError::Lost { ref source, .. } if source.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) => {
            DockerError::NotAnEngine { address: address.to_string(), source: error.into() }
        }
        // Go's own words, for every server of its.
        DockerError::Api { status: 400, ref message, .. } if message.contains("HTTP request to an HTTPS server") => {
            DockerError::WantsTls { address: address.to_string() }
        }
        DockerError::Api { status: 400..=499, .. } => DockerError::NotAnEngine { address: address.to_string(), source: error.into() },
        other => other,
    })
}

fn decode<'a, T: Deserialize<'a>>(address: &Address, bytes: &'a [u8]) -> Result<T, DockerError> {
    serde_json::from_slice(bytes).map_err(|error| DockerError::NotAnEngine { address: address.to_string(), source: error.into() })
}

/// The Engine's id. Podman makes a new one up for every answer, and journals of stopped containers are found again by it: so
/// there it is what does last.
fn lasting_id(versions: &Versions, info: &Info) -> String {
    if versions.components.iter().any(|component| component.name.starts_with("Podman")) {
        format!("podman:{}:{}", info.name, info.docker_root_dir)
    } else {
        info.id.clone()
    }
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
    fn what_counts_is_what_counts_for_the_docker_client() {
        let folder = tempfile::tempdir().unwrap();
        // What `docker context create nas` makes.
        let meta = folder.path().join("contexts/meta/047de0f543c7e3596bb6dbd0e65f2c30357720a63eca423f08c52fae314f6806");
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(meta.join("meta.json"), r#"{"Name":"nas","Endpoints":{"docker":{"Host":"ssh://nas"}}}"#).unwrap();
        let address = |host: Option<&str>, context: Option<&str>, tls: bool| {
            let (host, context) = (host.map(str::to_owned), context.map(str::to_owned));
            let client_folder = Some(folder.path().to_owned());
            place(&EngineOptions { host, context, tls, client_folder, ..EngineOptions::default() }).map(|place| place.address.to_string())
        };
        let usual = "unix:///var/run/docker.sock";
        assert_eq!(address(None, None, false).unwrap(), usual, "no config.json");
        std::fs::write(folder.path().join("config.json"), r#"{"currentContext":"nas"}"#).unwrap();
        assert_eq!(address(None, None, false).unwrap(), "ssh://nas", "the current one");
        assert_eq!(address(None, Some("default"), false).unwrap(), usual);
        assert_eq!(address(None, Some("nas"), true).unwrap(), "ssh://nas");
        assert_eq!(address(Some("tcp://h"), Some("nas"), true).unwrap(), "tcp://h:2376");
        assert!(matches!(address(None, Some("san"), false), Err(DockerError::NoContext { .. })));
        std::fs::write(folder.path().join("config.json"), r#"{"currentContext":"gone"}"#).unwrap();
        assert!(matches!(address(None, None, false), Err(DockerError::NoContext { .. })), "never another one instead");
    }

    #[test]
    fn podman_is_known_again_though_its_id_changes() {
        let info = |id: &str| Info {
            id: id.to_owned(),
            name: "host".to_owned(),
            docker_root_dir: "/data".to_owned(),
            security_options: None,
            driver_status: None,
            default_address_pools: None,
        };
        let versions = |component: &str| -> Versions {
            serde_json::from_str(&format!(r#"{{"ApiVersion":"1.41","Version":"4.3.1","Components":[{{"Name":"{component}"}}]}}"#)).unwrap()
        };
        let podman = versions("Podman Engine");
        assert_eq!(lasting_id(&podman, &info("a")), lasting_id(&podman, &info("b")));
        assert_eq!(lasting_id(&versions("Engine"), &info("a")), "a");
    }

    #[test]
    fn what_an_engine_says_of_ids_and_images_is_understood() {
        let info = |text: &str| -> Info { serde_json::from_str(text).unwrap() };
        let plain = info(
            r#"{"ID":"a","DockerRootDir":"/var/lib/docker","SecurityOptions":["name=seccomp,profile=builtin"],
            "DriverStatus":[["Backing Filesystem","extfs"],["Supports d_type","true"]]}"#,
        );
        assert_eq!((plain.user_namespace(), plain.has_containerd_images(), plain.has_option("rootless")), (None, false, false));
        let mapped = info(
            r#"{"ID":"a","DockerRootDir":"/var/lib/docker/100000.100000","SecurityOptions":["name=seccomp,profile=builtin","name=userns"],
            "DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]]}"#,
        );
        assert_eq!((mapped.user_namespace().as_deref(), mapped.has_containerd_images()), (Some("100000.100000"), true));
        assert!(info(r#"{"SecurityOptions":["name=rootless"],"DriverStatus":null}"#).has_option("rootless"));
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
            components: Vec::new(),
        };
        assert_eq!(negotiate(&address, &version("1.41", "1.12")).unwrap(), (1, 41));
        assert_eq!(negotiate(&address, &version("1.99", "1.44")).unwrap(), HIGHEST);
        assert!(matches!(negotiate(&address, &version("1.40", "1.12")), Err(DockerError::TooOld { .. })));
        assert!(matches!(negotiate(&address, &version("1.99", "1.60")), Err(DockerError::TooNew { .. })));
        assert!(matches!(negotiate(&address, &version("new", "")), Err(DockerError::NotAnEngine { .. })));
    }
}
