//! Finds what stands in the way of a restore: names, ports, addresses, images, plugins, space.
//!
//! Pure; the steps themselves are put together in `build`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use super::build::{ChosenContainer, Draft};
use super::{Conflict, Items, PlanError, StoredApplication};
use crate::docker::create::Names;
use crate::docker::create::json::{array, flag, object, text, texts};
use crate::docker::normalise;
use crate::model::text::printable;
use crate::targets::preflight::{Host, HostPort};

/// Makes sure that every item that was asked for is there.
pub(super) fn known_items(applications: &[StoredApplication], items: &Items) -> Result<(), PlanError> {
    let all = || applications.iter().map(|stored| &stored.document.application);
    let containers: Vec<String> = all().flat_map(|application| &application.containers).map(|container| container.name.clone()).collect();
    let volumes: Vec<String> = all().flat_map(|application| &application.volumes).map(|volume| volume.name.clone()).collect();
    let networks: Vec<String> = applications.iter().flat_map(|stored| stored.networks.keys().cloned()).collect();
    for (kind, asked, known) in
        [("container", &items.containers, containers), ("volume", &items.volumes, volumes), ("network", &items.networks, networks)]
    {
        if let Some(name) = asked.iter().find(|name| !known.contains(name)) {
            return Err(PlanError::NoSuchItem { kind, name: name.clone(), known });
        }
    }
    Ok(())
}

/// How a network that is there compares with the one that is restored.
pub(super) enum Checked {
    Same,
    /// Names of the fields that are not equal.
    Differs(Vec<String>),
}

pub(super) fn same_network(stored: &Value, there: &Value, names: &Names, addresses: bool) -> Checked {
    // What is there is compared under its own name, so it is renamed by nothing.
    let before = normalise::network(stored, names, addresses);
    let after = normalise::network(there, &Names::new(), addresses);
    let differences = normalise::differences(&before, &after);
    // Networks that differ only in addresses that nobody asked for are equal for every use that is made of them here.
    let fields: Vec<String> =
        differences.into_iter().map(|difference| difference.field).filter(|field| addresses || field != "IPAM.Config").collect();
    if fields.is_empty() { Checked::Same } else { Checked::Differs(fields) }
}

/// The first subnet of a network that overlaps with one of another network: the subnet and that network's name.
pub(super) fn overlapping<'a>(inspect: &Value, others: impl Iterator<Item = (&'a String, &'a Value)>) -> Option<(String, String)> {
    let ours: Vec<(&str, Subnet)> = subnets(inspect).collect();
    for (name, other) in others {
        for (_, theirs) in subnets(other) {
            if let Some((text, _)) = ours.iter().find(|(_, ours)| ours.overlaps(&theirs)) {
                return Some(((*text).to_owned(), name.clone()));
            }
        }
    }
    None
}

fn subnets(inspect: &Value) -> impl Iterator<Item = (&str, Subnet)> {
    array(inspect, "/IPAM/Config").iter().filter_map(|pool| {
        let subnet = text(pool, "/Subnet")?;
        Some((subnet, Subnet::parse(subnet)?))
    })
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subnet {
    is_v4: bool,
    first: u128,
    last: u128,
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let length: u32 = length.parse().ok()?;
        let (is_v4, bits, value): (bool, u32, u128) = match address.parse().ok()? {
            IpAddr::V4(address) => (true, 32, u128::from(u32::from(address))),
            IpAddr::V6(address) => (false, 128, u128::from(address)),
        };
        let host = bits.checked_sub(length)?;
        let mask = if host == 128 { u128::MAX } else { (1 << host) - 1 };
        Some(Self { is_v4, first: value & !mask, last: value | mask })
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.is_v4 == other.is_v4 && self.first <= other.last && other.first <= self.last
    }
}

/// Why a volume that is there cannot be filled; none if it is empty and at rest.
pub(super) fn volume_in_the_way(name: &str, host: &Host) -> Option<String> {
    let user = host.containers.iter().find(|container| container.is_alive() && container.volumes.iter().any(|volume| volume == name));
    if let Some(user) = user {
        return Some(format!("container {} uses it", user.name));
    }
    match host.volumes.get(name).and_then(|volume| volume.empty) {
        Some(true) => None,
        Some(false) => Some("it holds files".to_owned()),
        None => Some("whether it holds files is not seen from here".to_owned()),
    }
}

/// The conflict with an Engine that does not know something.
pub(super) fn too_old(what: String, uses: &str, needs: (u64, u64), has: (u64, u64)) -> Conflict {
    let version = |(major, minor): (u64, u64)| format!("{major}.{minor}");
    Conflict::EngineTooOld { what, uses: uses.to_owned(), needs: version(needs), has: version(has) }
}

/// Whether an Engine has a volume driver. An Engine that does not say which it has is believed to have it.
pub(super) fn has_driver(driver: &str, drivers: &BTreeSet<String>) -> bool {
    let plain = driver.strip_suffix(":latest").unwrap_or(driver);
    drivers.is_empty() || drivers.iter().any(|there| there.strip_suffix(":latest").unwrap_or(there) == plain)
}

/// Checks the names of the restored containers, the containers they refer to, their runtimes and the paths they mount; `filled`
/// are paths that are restored before.
pub(super) fn containers(draft: &mut Draft<'_>, filled: &BTreeSet<String>) {
    let mut seen = BTreeSet::new();
    let mut conflicts = Vec::new();
    let mut notes = Vec::new();
    let restored: BTreeSet<String> = draft.containers.iter().map(|chosen| draft.names.container(&chosen.container.name)).collect();
    for chosen in &draft.containers {
        let name = draft.names.container(&chosen.container.name);
        if let Some(there) = draft.host.container(&name).filter(|_| !draft.options.in_place) {
            conflicts.push(Conflict::ContainerExists { name: name.clone(), status: there.status.clone() });
        }
        if !seen.insert(name.clone()) {
            conflicts.push(Conflict::ContainerExists { name: name.clone(), status: "restored twice".to_owned() });
        }
        if let Some(runtime) = text(chosen.inspect, "/HostConfig/Runtime")
            && !draft.host.runtimes.is_empty()
            && !draft.host.runtimes.contains(runtime)
        {
            conflicts.push(Conflict::Unsupported { what: format!("container {name}"), lacks: format!("runtime {runtime}") });
        }
        for (reference, reason) in references(chosen.inspect) {
            let target = draft.names.container(reference);
            let there = restored.contains(&target)
                || draft.host.container(&target).is_some()
                || draft.host.containers.iter().any(|other| other.id == target);
            if !there {
                let needs = format!("container {target}");
                conflicts.push(Conflict::Missing {
                    container: name.clone(),
                    needs,
                    reason: format!("{reason}, and it is neither restored nor there"),
                });
            }
        }
        let missing = |path: &str| {
            let restored = filled.iter().any(|outer| std::path::Path::new(path).starts_with(outer));
            draft.host.missing_paths.contains(path) && !restored
        };
        // Older Engines do not know that a mount may make its folder.
        let makes = |mount: &Value| draft.host.api >= (1, 42) && flag(mount, "/BindOptions/CreateMountpoint");
        paths(chosen, &name, missing, makes, &mut conflicts, &mut notes);
    }
    for conflict in conflicts {
        draft.conflict(conflict);
    }
    for note in notes {
        draft.note(note);
    }
}

/// The containers that a container cannot be made without, and for what.
fn references(inspect: &Value) -> Vec<(&str, &'static str)> {
    let mut found = Vec::new();
    let modes = [
        ("/HostConfig/NetworkMode", "it shares its network"),
        ("/HostConfig/IpcMode", "it shares its memory"),
        ("/HostConfig/PidMode", "it shares its processes"),
    ];
    for (pointer, reason) in modes {
        found.extend(text(inspect, pointer).and_then(|mode| mode.strip_prefix("container:")).map(|reference| (reference, reason)));
    }
    for entry in texts(inspect, "/HostConfig/VolumesFrom") {
        found.push((entry.split(':').next().unwrap_or(entry), "it mounts its volumes"));
    }
    for entry in texts(inspect, "/HostConfig/Links") {
        found.push((entry.split(':').next().unwrap_or(entry), "it is linked to it"));
    }
    found
}

/// Paths of the host that are not there: a mount of one fails unless it says otherwise, a bind makes an empty folder.
fn paths(
    chosen: &ChosenContainer<'_>,
    name: &str,
    is_missing: impl Fn(&str) -> bool,
    makes_it: impl Fn(&Value) -> bool,
    conflicts: &mut Vec<Conflict>,
    notes: &mut Vec<String>,
) {
    let note = |path: &str| {
        let (name, path) = (printable(name.as_bytes()), printable(path.as_bytes()));
        format!("container {name} mounts {path}, which is not there: the Engine makes an empty folder")
    };
    for mount in array(chosen.inspect, "/HostConfig/Mounts").iter().filter(|mount| text(mount, "/Type") == Some("bind")) {
        if let Some(path) = text(mount, "/Source").filter(|path| is_missing(path)) {
            if makes_it(mount) {
                notes.push(note(path));
                continue;
            }
            let needs = format!("path {path}");
            conflicts.push(Conflict::Missing {
                container: name.to_owned(),
                needs,
                reason: "there is no such path on this machine".to_owned(),
            });
        }
    }
    for bind in texts(chosen.inspect, "/HostConfig/Binds") {
        if let Some(path) = bound_path(bind).filter(|path| is_missing(path)) {
            notes.push(note(path));
        }
    }
}

/// The path of the host in a bind. A bind of one part only (`/data`) is an anonymous volume at that place.
fn bound_path(bind: &str) -> Option<&str> {
    bind.split_once(':').map(|(source, _)| source).filter(|source| source.starts_with('/'))
}

/// The paths of the host that the containers of these applications mount.
pub(super) fn host_paths(applications: &[StoredApplication]) -> BTreeSet<String> {
    applications.iter().flat_map(|stored| stored.containers.values()).flat_map(mounted_paths).map(str::to_owned).collect()
}

/// The paths of the host that a container mounts.
pub(super) fn mounted_paths(inspect: &Value) -> impl Iterator<Item = &str> {
    let mounts = array(inspect, "/HostConfig/Mounts").iter().filter(|mount| text(mount, "/Type") == Some("bind"));
    mounts.filter_map(|mount| text(mount, "/Source")).chain(texts(inspect, "/HostConfig/Binds").filter_map(bound_path))
}

/// A fixed address of a restored container.
pub(super) struct Fixed {
    pub(super) container: String,
    pub(super) network: String,
    pub(super) address: IpAddr,
}

/// Checks fixed addresses against who is on the networks that are used, and against each other.
pub(super) fn addresses(draft: &mut Draft<'_>, reused: &BTreeSet<String>) {
    let mut taken: BTreeMap<(String, IpAddr), String> = BTreeMap::new();
    let replaced = draft.replaced();
    for container in draft.host.containers.iter().filter(|container| !replaced.contains(&container.name)) {
        for (network, address) in &container.addresses {
            taken.insert((network.clone(), *address), format!("container {}", container.name));
        }
    }
    for (name, network) in draft.host.networks.iter().filter(|(name, _)| reused.contains(*name)) {
        let guests = object(network, "/Containers").into_iter().flatten();
        for (_, guest) in guests.filter(|(_, guest)| text(guest, "/Name").is_none_or(|name| !replaced.contains(name))) {
            for field in ["/IPv4Address", "/IPv6Address"] {
                let address = text(guest, field).and_then(|address| address.split('/').next()?.parse().ok());
                if let Some(address) = address {
                    taken.insert((name.clone(), address), format!("container {}", text(guest, "/Name").unwrap_or("?")));
                }
            }
        }
    }
    for Fixed { container, network, address } in draft.fixed_addresses() {
        let key = (network.clone(), address);
        match taken.get(&key) {
            Some(by) => {
                let by = by.clone();
                draft.conflict(Conflict::AddressTaken { container, network, address: address.to_string(), by });
            }
            None => drop(taken.insert(key, format!("container {container}"))),
        }
    }
}

/// Checks the host ports of the containers that will be started against containers that run, programs that listen, and each
/// other.
pub(super) fn ports(draft: &mut Draft<'_>) {
    let mut taken: Vec<(HostPort, String)> = Vec::new();
    let replaced = draft.replaced();
    let (gone, others): (Vec<_>, Vec<_>) =
        draft.host.containers.iter().filter(|container| container.is_alive()).partition(|container| replaced.contains(&container.name));
    for container in others {
        taken.extend(container.ports.iter().map(|port| (*port, format!("container {}", container.name))));
    }
    // What listens for a container that is replaced goes with it.
    let freed = |port: &&HostPort| gone.iter().any(|container| container.ports.iter().any(|own| own.collides(port)));
    for port in draft.host.listening.iter().flatten().filter(|port| !freed(port)) {
        taken.push((*port, "a program on this machine".to_owned()));
    }
    let mut conflicts = Vec::new();
    let mut freed = Vec::new();
    for chosen in draft.containers.iter().filter(|chosen| chosen.starts || draft.options.as_new) {
        let container = draft.names.container(&chosen.container.name);
        let mut own = Vec::new();
        for asked in HostPort::requested(chosen.inspect) {
            let protocol = asked.protocol.as_str();
            let Ok(number) = draft.names.host_port(&asked.port.to_string(), protocol).parse() else { continue };
            let port = HostPort { port: number, ..asked };
            match taken.iter().find(|(other, _)| other.collides(&port)) {
                // A port that was asked for by number is not taken away again.
                Some((_, by)) if draft.options.as_new && number == asked.port && is_there(by, &draft.containers, &draft.names) => {
                    let container = printable(container.as_bytes());
                    freed.push((
                        (number, protocol.to_owned()),
                        format!("container {container} gets a free port for {port}, which {by} has"),
                    ));
                    continue;
                }
                Some((_, by)) => {
                    conflicts.push(Conflict::PortTaken { container: container.clone(), port: port.to_string(), by: by.clone() });
                }
                None => {}
            }
            own.push((port, format!("container {container}")));
        }
        taken.extend(own);
    }
    for conflict in conflicts {
        draft.conflict(conflict);
    }
    for (port, note) in freed {
        draft.names.renames_mut().ports.insert(port, None);
        draft.asked(note);
    }
}

/// Whether who has a port is no restored container: those have their ports from each other.
fn is_there(by: &str, restored: &[ChosenContainer<'_>], names: &Names) -> bool {
    !restored.iter().any(|chosen| by == format!("container {}", names.container(&chosen.container.name)))
}
