//! Which containers bbackup itself stands on: the one that it runs in, and the proxy through which it reaches the Engine.
//! They are never stopped or paused.
//!
//! What the kernel tells is read in `platform/container`; what follows from it for a backup is decided in `quiesce`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::address::{Address, Endpoint};
use super::connect::Engine;
use super::discover::Discovery;
use crate::model::application::{Container, MountKind, Volume};
use crate::platform::container::{Clues, id_of_process};

const OURS: &str = "bbackup runs in it";
const PROXY: &str = "bbackup reaches the Docker Engine through it";

/// The ids of the containers that must go on running, and why.
pub async fn ourselves(engine: &Engine, discovery: &Discovery, clues: &Clues) -> BTreeMap<String, String> {
    let own = own_container(discovery, clues);
    let way = match engine.address() {
        Address::Tcp(Endpoint { host, port }) | Address::Tls(Endpoint { host, port }) => {
            Way::Tcp { addresses: addresses_of(host, *port).await, port: *port }
        }
        // Whatever carries it is on its own machine.
        Address::Ssh(_) => Way::Container(None),
        Address::Unix(path) => match engine.process().await {
            Some(process) => Way::Container(id_of_process(&process.to_string())),
            None => Way::Hidden(path.clone()),
        },
    };
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for container in discovery.containers().filter(|container| container.state.status.is_alive()) {
        if own.is_some_and(|own| own.id == container.id) {
            found.insert(container.id.clone(), OURS.to_owned());
        } else if is_proxy(container, discovery, &way, own) {
            found.insert(container.id.clone(), PROXY.to_owned());
        }
    }
    found
}

/// How the Engine is reached.
enum Way {
    /// These addresses, if the name could be resolved, and this port.
    Tcp { addresses: Vec<IpAddr>, port: u16 },
    /// A socket; this container's process listens there, or none's.
    Container(Option<String>),
    /// A socket of which cannot be seen from here who listens there.
    Hidden(PathBuf),
}

async fn addresses_of(host: &str, port: u16) -> Vec<IpAddr> {
    match tokio::net::lookup_host((host, port)).await {
        Ok(found) => found.map(|address| address.ip().to_canonical()).collect(),
        Err(_) => Vec::new(),
    }
}

/// The container that we run in. Each clue is only believed if there is such a container, and a surer one goes first.
fn own_container<'a>(discovery: &'a Discovery, clues: &Clues) -> Option<&'a Container> {
    let by_id = |id: &str| discovery.containers().find(|container| container.id == id);
    let by_root = clues.upper_dir.as_ref().and_then(|upper_dir| {
        discovery.containers().find(|container| {
            let raw = inspect(discovery, container);
            raw.pointer("/GraphDriver/Data/UpperDir").and_then(Value::as_str) == Some(upper_dir)
        })
    });
    let is_short_id = clues.hostname.len() == 12 && clues.hostname.bytes().all(|byte| byte.is_ascii_hexdigit());
    let by_name = || discovery.containers().find(|container| is_short_id && container.id.starts_with(&clues.hostname));
    by_root.or_else(|| by_id(clues.by_cgroup.as_deref()?)).or_else(|| by_id(clues.by_mounts.as_deref()?)).or_else(by_name)
}

/// Where a path that we see is on the Engine's machine, under each of its names, if we run in one of the Engine's containers: it
/// lies in what is mounted nearest above it. None where it is in the container's own layer.
pub fn outside(discovery: &Discovery, clues: &Clues, path: &Path) -> Vec<PathBuf> {
    own_container(discovery, clues).map_or_else(Vec::new, |container| outside_of(container, discovery, path))
}

fn outside_of(container: &Container, discovery: &Discovery, path: &Path) -> Vec<PathBuf> {
    let mounts = container.mounts.iter().filter(|mount| path.starts_with(&mount.destination));
    let Some(mount) = mounts.max_by_key(|mount| Path::new(&mount.destination).components().count()) else { return Vec::new() };
    let inside = path.strip_prefix(&mount.destination).unwrap_or(path);
    let volume = discovery.volumes().find(|volume| mount.kind == MountKind::Volume && Some(&volume.name) == mount.name.as_ref());
    let sources = std::iter::once(mount.source.as_str()).chain(volume.and_then(Volume::bound_folder));
    // Taken apart and put together again, it has no slash at its end where it is the mount itself.
    sources.filter(|source| source.starts_with('/')).map(|source| Path::new(source).join(inside).components().collect()).collect()
}

fn is_proxy(container: &Container, discovery: &Discovery, way: &Way, own: Option<&Container>) -> bool {
    match way {
        Way::Container(id) => id.as_ref() == Some(&container.id),
        Way::Tcp { addresses, port } => {
            let raw = inspect(discovery, container);
            // The Engine cannot listen at a port that a container of its own publishes, so whoever answers there is that one.
            publishes(&raw, *port) || addresses_in(&raw).iter().any(|address| addresses.contains(address))
        }
        Way::Hidden(socket) => own.is_some_and(|own| shares_socket(own, container, socket)),
    }
}

fn inspect(discovery: &Discovery, container: &Container) -> Value {
    discovery.raw_container(&container.id).and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or_default()
}

fn publishes(raw: &Value, port: u16) -> bool {
    let ports = raw.pointer("/NetworkSettings/Ports").and_then(Value::as_object);
    let bindings = ports.into_iter().flat_map(|ports| ports.values()).filter_map(Value::as_array).flatten();
    bindings.filter_map(|binding| binding.get("HostPort")?.as_str()?.parse::<u16>().ok()).any(|published| published == port)
}

fn addresses_in(raw: &Value) -> Vec<IpAddr> {
    let networks = raw.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let fields = networks.into_iter().flat_map(|networks| networks.values());
    let texts = fields.flat_map(|one| ["IPAddress", "GlobalIPv6Address"].map(|field| one.get(field).and_then(Value::as_str)));
    texts.flatten().filter_map(|text| text.parse().ok()).collect()
}

/// Whether a socket that we see in one of our mounts may be a container's that has the same mount. The Engine's own socket is
/// mounted as a file by itself.
fn shares_socket(own: &Container, other: &Container, socket: &Path) -> bool {
    let holder = own.mounts.iter().filter(|mount| socket.starts_with(&mount.destination) && socket != Path::new(&mount.destination));
    let Some(holder) = holder.max_by_key(|mount| mount.destination.len()) else { return false };
    other.mounts.iter().any(|mount| mount.source == holder.source && mount.name == holder.name && !mount.read_only)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;
    use crate::model::application::EngineIdentity;

    #[test]
    fn our_own_folders_are_found_outside_of_the_container_that_we_run_in() {
        let raw = json!({"Id": "0123456789abcdef", "Name": "/backup", "Mounts": [
            {"Type": "bind", "Source": "/srv/backup", "Destination": "/backup", "RW": true},
            {"Type": "volume", "Name": "state", "Source": "/var/lib/docker/volumes/state/_data", "Destination": "/backup/state", "RW": true},
        ]});
        let container = crate::docker::inspect::container(raw.to_string().as_bytes(), &std::collections::HashMap::new()).unwrap();
        let volume = json!({
            "name": "state", "driver": "local", "options": {"o": "bind", "device": "/srv/state"}, "mountpoint": "", "users": [],
        });
        let volumes = vec![serde_json::from_value(volume).unwrap()];
        let containers = crate::docker::inspect::resolve(vec![container]);
        let discovery = Discovery::of(EngineIdentity::default(), containers, volumes, Vec::new());
        let clues = Clues { hostname: "0123456789ab".to_owned(), ..Clues::default() };
        let found = |path: &str| outside(&discovery, &clues, Path::new(path));
        assert_eq!(found("/backup/repository"), [PathBuf::from("/srv/backup/repository")]);
        assert_eq!(found("/backup/state"), ["/var/lib/docker/volumes/state/_data", "/srv/state"].map(PathBuf::from));
        assert!(found("/root/.cache/bbackup").is_empty(), "it is in the container's own layer");
        assert!(outside(&discovery, &Clues::default(), Path::new("/backup")).is_empty());
    }

    #[test]
    fn ports_and_addresses_of_a_container_are_found() {
        let raw = json!({"NetworkSettings": {
            "Ports": {"80/tcp": null, "2375/tcp": [{"HostIp": "127.0.0.1", "HostPort": "12375"}, {"HostIp": "::1", "HostPort": "12376"}]},
            "Networks": {"a": {"IPAddress": "172.18.0.3", "GlobalIPv6Address": ""}, "b": {"IPAddress": "", "GlobalIPv6Address": "fd00::3"}},
        }});
        assert!(publishes(&raw, 12375) && publishes(&raw, 12376) && !publishes(&raw, 2375));
        let expected: Vec<IpAddr> = ["172.18.0.3", "fd00::3"].iter().filter_map(|text| text.parse().ok()).collect();
        assert_eq!(addresses_in(&raw), expected);
        assert!(!publishes(&Value::Null, 1) && addresses_in(&Value::Null).is_empty());
    }
}
