//! Under which names things come back: what was asked for, and free names for what is in the way.

use std::collections::{BTreeMap, BTreeSet};

use super::{PlanError, RestoreOptions, StoredApplication};
use crate::docker::create::Renames;
use crate::model::application::Application;
use crate::targets::preflight::{Host, HostPort, Protocol};

/// The renames, and the projects whose labels change with them.
#[derive(Debug, Default)]
pub(super) struct Naming {
    pub(super) renames: Renames,
    /// Old names of compose projects to new ones.
    pub(super) projects: BTreeMap<String, String>,
}

/// Works out all renames.
pub(super) fn naming(applications: &[StoredApplication], options: &RestoreOptions, host: &Host) -> Result<Naming, PlanError> {
    let mut naming = Naming::default();
    for (from, to) in &options.renames {
        // Whatever has that name goes first: a container may be called 8080.
        let port = port_of(from).filter(|_| !is_known(applications, from));
        match port {
            Some((number, protocol)) => move_port(applications, (number, protocol), (from, to), &mut naming)?,
            None if !is_name(to) => return Err(PlanError::BadName { name: to.clone() }),
            None if rename(applications, from, to, &mut naming) => {}
            None => return Err(PlanError::NothingToRename { name: from.clone() }),
        }
    }
    if options.as_new {
        free_names(applications, options, host, &mut naming.renames);
    }
    for stored in applications {
        own_project(&stored.document.application, options, host, &mut naming);
    }
    Ok(naming)
}

/// What every Engine takes: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// `8080` and `53/udp`: a port, and its protocol if one is named.
fn port_of(word: &str) -> Option<(u16, Option<Protocol>)> {
    let (number, protocol) = match word.split_once('/') {
        Some((number, protocol)) if !protocol.is_empty() => (number, Some(Protocol::parse(protocol)?)),
        Some(_) => return None,
        None => (word, None),
    };
    // Not `+80`.
    let number = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok()).flatten();
    number.filter(|number| *number != 0).map(|number| (number, protocol))
}

fn is_known(applications: &[StoredApplication], name: &str) -> bool {
    applications.iter().any(|stored| {
        let application = &stored.document.application;
        application.container(name).is_some()
            || application.volume(name).is_some()
            || stored.networks.contains_key(name)
            || application.compose.as_ref().is_some_and(|compose| compose.project == name)
    })
}

/// Gives a host port another number. Without a protocol that is for every protocol in which it is asked for.
fn move_port(
    applications: &[StoredApplication],
    (number, protocol): (u16, Option<Protocol>),
    (from, to): (&str, &str),
    naming: &mut Naming,
) -> Result<(), PlanError> {
    let bad = || PlanError::BadPort { from: from.to_owned(), port: to.to_owned() };
    let (new, new_protocol) = port_of(to).ok_or_else(bad)?;
    if new_protocol.is_some() && new_protocol != protocol {
        return Err(bad());
    }
    let mut found = false;
    for port in applications.iter().flat_map(|stored| stored.containers.values()).flat_map(HostPort::requested) {
        if port.port == number && protocol.is_none_or(|protocol| protocol == port.protocol) {
            naming.renames.ports.insert((number, port.protocol.as_str().to_owned()), Some(new));
            found = true;
        }
    }
    if found { Ok(()) } else { Err(PlanError::NothingToRename { name: from.to_owned() }) }
}

/// Renames whatever has that name. A container, volume or network of exactly that name goes first; a project renames all
/// that compose named after it.
fn rename(applications: &[StoredApplication], from: &str, to: &str, naming: &mut Naming) -> bool {
    let mut found = false;
    let renames = &mut naming.renames;
    for application in applications.iter().map(|stored| &stored.document.application) {
        if application.containers.iter().any(|container| container.name == from) {
            renames.containers.insert(from.to_owned(), to.to_owned());
            found = true;
        }
        if application.volumes.iter().any(|volume| volume.name == from)
            || application.shared_volumes.iter().any(|volume| volume.name == from)
        {
            renames.volumes.insert(from.to_owned(), to.to_owned());
            found = true;
        }
        if application.networks.iter().any(|network| network.name == from) {
            renames.networks.insert(from.to_owned(), to.to_owned());
            found = true;
        }
    }
    if found {
        return true;
    }
    for application in applications.iter().map(|stored| &stored.document.application) {
        if application.compose.as_ref().is_none_or(|compose| compose.project != from) {
            continue;
        }
        found = true;
        naming.projects.insert(from.to_owned(), to.to_owned());
        let after = |name: &str| {
            let rest = name.strip_prefix(from)?;
            rest.starts_with(['-', '_']).then(|| format!("{to}{rest}"))
        };
        let learn = |map: &mut BTreeMap<String, String>, names: Vec<&String>| {
            for name in names {
                if let Some(new) = after(name) {
                    map.entry(name.clone()).or_insert(new);
                }
            }
        };
        learn(&mut naming.renames.containers, application.containers.iter().map(|container| &container.name).collect());
        learn(&mut naming.renames.volumes, application.volumes.iter().map(|volume| &volume.name).collect());
        learn(&mut naming.renames.networks, application.networks.iter().map(|network| &network.name).collect());
    }
    found
}

/// Gives everything whose name is taken a free one.
fn free_names(applications: &[StoredApplication], options: &RestoreOptions, host: &Host, renames: &mut Renames) {
    let items = &options.items;
    let mut containers: BTreeSet<&str> = host.containers.iter().map(|container| container.name.as_str()).collect();
    let mut volumes: BTreeSet<&str> = host.volumes.keys().map(String::as_str).collect();
    let mut networks: BTreeSet<&str> = host.networks.keys().map(String::as_str).collect();
    for application in applications.iter().map(|stored| &stored.document.application) {
        // One that is not restored is used as it is there.
        let restored = |name: &&str| items.is_everything() || items.containers.iter().any(|chosen| chosen == name);
        let names = application.containers.iter().map(|container| container.name.as_str()).filter(restored);
        free(names.collect(), &mut containers, &mut renames.containers);
        let names = application.volumes.iter().map(|volume| volume.name.as_str());
        free(names.collect(), &mut volumes, &mut renames.volumes);
        let names = application.networks.iter().map(|network| network.name.as_str());
        free(names.collect(), &mut networks, &mut renames.networks);
    }
}

/// What comes back beside its original is of a project of its own: else the next backup of the project would stop and save the
/// copy too, and compose would take it for one of its containers. Containers decide; without any, whatever is restored.
fn own_project(application: &Application, options: &RestoreOptions, host: &Host, naming: &mut Naming) {
    let Some(project) = application.compose.as_ref().map(|compose| &compose.project) else { return };
    let (items, renames) = (&options.items, &naming.renames);
    let restored = |name: &String| items.is_everything() || items.containers.contains(name);
    let mut containers = application.containers.iter().map(|one| &one.name).filter(|name| restored(name)).peekable();
    let is_copy = if containers.peek().is_some() {
        containers.any(|name| renames.containers.contains_key(name) && host.containers.iter().any(|there| there.name == *name))
    } else {
        application.volumes.iter().any(|one| renames.volumes.contains_key(&one.name) && host.volumes.contains_key(&one.name))
            || application.networks.iter().any(|one| renames.networks.contains_key(&one.name) && host.networks.contains_key(&one.name))
    };
    if is_copy && !naming.projects.contains_key(project) {
        // A copy that was made before is no part of this one either.
        let is_free = |name: &String| host.of_project(name).is_empty() && host.container(name).is_none();
        naming.projects.extend(candidates(project).find(is_free).map(|new| (project.clone(), new)));
    }
}

/// What a copy may be called.
fn candidates(name: &str) -> impl Iterator<Item = String> {
    std::iter::once(format!("{name}-restored")).chain((2..).map(move |number| format!("{name}-restored-{number}")))
}

fn free<'a>(names: Vec<&'a str>, taken: &mut BTreeSet<&'a str>, renames: &mut BTreeMap<String, String>) {
    for name in names {
        if renames.contains_key(name) || !taken.contains(name) {
            continue;
        }
        let given: BTreeSet<&String> = renames.values().collect();
        let new = candidates(name).find(|candidate| !taken.contains(candidate.as_str()) && !given.contains(candidate));
        drop(given);
        if let Some(new) = new {
            renames.insert(name.to_owned(), new);
        }
    }
}
