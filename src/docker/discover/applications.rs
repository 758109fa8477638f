//! Groups containers, volumes and networks into applications. Pure: the same things always give the same applications.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::binds;
use super::grounds::{Grounds, Visitors};
use super::links::Links;
use crate::docker::inspect::PROJECT_LABEL;
use crate::model::application::{Application, ApplicationKind, Compose, Container, MountKind, Network, SharedVolume, Volume, VolumeUser};

pub(super) const WORKING_DIR_LABEL: &str = "com.docker.compose.project.working_dir";
const CONFIG_FILES_LABEL: &str = "com.docker.compose.project.config_files";
/// The label in which `docker stack` names the stack.
const STACK_LABEL: &str = "com.docker.stack.namespace";
const ENVIRONMENT_FILE_LABEL: &str = "com.docker.compose.project.environment_file";

/// What an application is known by while they are built: no two kinds collide.
pub(super) type Key = (ApplicationKind, String);

/// Builds the applications, sorted by name.
pub(super) fn build(containers: Vec<Container>, volumes: Vec<Volume>, networks: Vec<Network>, links: Links) -> Vec<Application> {
    let mut built: BTreeMap<Key, Application> = BTreeMap::new();
    let mut home: HashMap<String, Key> = HashMap::new();
    for container in containers {
        let key = group(&container.labels)
            .or_else(|| {
                container.swarm_service().and_then(|service| Some((ApplicationKind::Service, folder_name(service.name)?.to_owned())))
            })
            .unwrap_or_else(|| (ApplicationKind::Container, container.name.clone()));
        home.insert(container.name.clone(), key.clone());
        entry(&mut built, &key).containers.push(container);
    }
    let grounds = Grounds::of(&volumes).with_links(links);
    let all = built.values().flat_map(|application| &application.containers);
    let mounted = all.flat_map(|container| {
        let places = container.mounts.iter().flat_map(|mount| grounds.mount(mount).into_iter().map(|place| (place, mount.read_only)));
        places.map(|(place, read_only)| (place, container.name.clone(), read_only))
    });
    let visitors = Visitors::of(mounted);
    place_volumes(&mut built, volumes, &grounds, &visitors);
    binds::place(&mut built, &grounds, &visitors);
    place_networks(&mut built, &home, networks);
    name(built)
}

pub(super) fn project(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(PROJECT_LABEL).and_then(|name| folder_name(name))
}

/// The name becomes a folder in the snapshot, so one that is no name is no project.
fn folder_name(name: &str) -> Option<&str> {
    Some(name).filter(|name| !name.is_empty() && !name.contains('/') && *name != "." && *name != "..")
}

/// The project or stack that made a container, volume or network.
fn group(labels: &BTreeMap<String, String>) -> Option<Key> {
    let stack = || Some((ApplicationKind::Stack, folder_name(labels.get(STACK_LABEL)?)?.to_owned()));
    project(labels).map(|project| (ApplicationKind::Project, project.to_owned())).or_else(stack)
}

fn entry<'a>(built: &'a mut BTreeMap<Key, Application>, key: &Key) -> &'a mut Application {
    built.entry(key.clone()).or_insert_with(|| Application {
        name: key.1.clone(),
        kind: key.0,
        compose: None,
        containers: Vec::new(),
        volumes: Vec::new(),
        shared_volumes: Vec::new(),
        binds: Vec::new(),
        shared_binds: Vec::new(),
        networks: Vec::new(),
    })
}

fn place_volumes(built: &mut BTreeMap<Key, Application>, volumes: Vec<Volume>, grounds: &Grounds, visitors: &Visitors<String>) {
    let mut users: HashMap<String, Vec<(Key, VolumeUser)>> = HashMap::new();
    for (key, application) in built.iter() {
        for container in &application.containers {
            // One container may mount a volume at several places.
            let mut mounted: BTreeMap<&str, bool> = BTreeMap::new();
            for mount in container.mounts.iter().filter(|mount| mount.kind == MountKind::Volume) {
                if let Some(name) = &mount.name {
                    *mounted.entry(name).or_insert(true) &= mount.read_only;
                }
            }
            for (name, read_only) in mounted {
                let user = VolumeUser { container: container.name.clone(), application: String::new(), read_only };
                users.entry(name.to_owned()).or_default().push((key.clone(), user));
            }
        }
    }
    for mut volume in volumes {
        let mut users = users.remove(&volume.name).unwrap_or_default();
        users.sort_by(|(_, a), (_, b)| a.container.cmp(&b.container));
        let applications: BTreeSet<Key> = users.iter().map(|(key, _)| key.clone()).collect();
        let owner = group(&volume.labels);
        let by_name = applications.iter().min_by(|a, b| (&a.1, a.0).cmp(&(&b.1, b.0))).cloned();
        let chosen = match (owner, by_name) {
            // Its project, if that uses it or nobody does.
            (Some(owner), by_name) if by_name.is_none() || applications.contains(&owner) => owner,
            (_, Some(first)) => first,
            (_, None) => (ApplicationKind::Volume, volume.name.clone()),
        };
        volume.users = users.into_iter().map(|(_, user)| user).collect();
        let mut others = visitors.at(&grounds.volume(&volume.name, ""));
        for user in volume.users.iter().filter(|user| !user.read_only) {
            others.remove(&user.container);
        }
        // One that mounts it read-only may reach it by another way on which it can write.
        others.retain(|name, read_only| !(*read_only && volume.users.iter().any(|user| user.container == *name)));
        volume.reached_by = users_of(others);
        for other in applications.iter().filter(|key| **key != chosen) {
            // The name of the application is filled in once all have theirs.
            entry(built, other).shared_volumes.push(SharedVolume { name: volume.name.clone(), stored_with: String::new() });
        }
        entry(built, &chosen).volumes.push(volume);
    }
}

/// Users of those containers; the names of their applications are filled in once all have theirs.
pub(super) fn users_of(containers: BTreeMap<String, bool>) -> Vec<VolumeUser> {
    let user = |(container, read_only)| VolumeUser { container, application: String::new(), read_only };
    containers.into_iter().map(user).collect()
}

fn place_networks(built: &mut BTreeMap<Key, Application>, home: &HashMap<String, Key>, networks: Vec<Network>) {
    let mut joined: HashMap<String, BTreeSet<String>> = HashMap::new();
    for container in built.values().flat_map(|application| &application.containers) {
        for network in &container.networks {
            joined.entry(network.clone()).or_default().insert(container.name.clone());
        }
    }
    for mut network in networks {
        let containers = joined.remove(&network.name).unwrap_or_default();
        let mut applications: BTreeSet<Key> = containers.iter().filter_map(|name| home.get(name).cloned()).collect();
        applications.extend(group(&network.labels));
        if applications.is_empty() {
            applications.insert((ApplicationKind::Network, network.name.clone()));
        }
        network.containers = containers.into_iter().collect();
        for key in applications {
            entry(built, &key).networks.push(network.clone());
        }
    }
}

/// Gives every application a name of its own, fills in the names that refer to others, and sorts everything.
fn name(built: BTreeMap<Key, Application>) -> Vec<Application> {
    // Kinds come in the order of their keys, so a project keeps its name and what collides with it gets its kind appended.
    let mut names: HashMap<Key, String> = HashMap::new();
    let mut taken: BTreeSet<String> = built.keys().filter(|key| key.0 == ApplicationKind::Project).map(|key| key.1.clone()).collect();
    for key in built.keys() {
        let mut name = key.1.clone();
        if key.0 != ApplicationKind::Project {
            while !taken.insert(name.clone()) {
                name.push_str(match key.0 {
                    ApplicationKind::Volume => ".volume",
                    ApplicationKind::Network => ".network",
                    ApplicationKind::Stack => ".stack",
                    ApplicationKind::Service => ".service",
                    ApplicationKind::Container | ApplicationKind::Project => ".container",
                });
            }
        }
        names.insert(key.clone(), name);
    }
    let of_container: HashMap<String, String> = (built.iter())
        .flat_map(|(key, application)| application.containers.iter().map(|container| (container.name.clone(), names[key].clone())))
        .collect();
    let of_volume: HashMap<String, String> = (built.iter())
        .flat_map(|(key, application)| application.volumes.iter().map(|volume| (volume.name.clone(), names[key].clone())))
        .collect();
    let of_bind: HashMap<String, String> = (built.iter())
        .flat_map(|(key, application)| application.binds.iter().map(|bind| (bind.path.clone(), names[key].clone())))
        .collect();
    let mut applications: Vec<Application> = built
        .into_iter()
        .map(|(key, mut application)| {
            application.name.clone_from(&names[&key]);
            application.compose = (key.0 == ApplicationKind::Project).then(|| compose(&key.1, &application.containers));
            let of_binds = application.binds.iter_mut().flat_map(|bind| &mut bind.users);
            let of_volumes = application.volumes.iter_mut().flat_map(|volume| volume.users.iter_mut().chain(&mut volume.reached_by));
            for user in of_volumes.chain(of_binds) {
                user.application = of_container.get(&user.container).cloned().unwrap_or_default();
            }
            for shared in &mut application.shared_volumes {
                shared.stored_with = of_volume.get(&shared.name).cloned().unwrap_or_default();
            }
            for shared in &mut application.shared_binds {
                shared.stored_with = of_bind.get(&shared.path).cloned().unwrap_or_default();
            }
            application.containers.sort_by(|a, b| a.name.cmp(&b.name));
            application.volumes.sort_by(|a, b| a.name.cmp(&b.name));
            application.shared_volumes.sort_by(|a, b| a.name.cmp(&b.name));
            application.networks.sort_by(|a, b| a.name.cmp(&b.name));
            application
        })
        .collect();
    applications.sort_by(|a, b| a.name.cmp(&b.name));
    applications
}

/// What compose's labels say. All containers of a project carry the same; where they differ, everything that any of them
/// names is taken, since each was made with its own.
fn compose(project: &str, containers: &[Container]) -> Compose {
    let mut compose = Compose { project: project.to_owned(), ..Compose::default() };
    let mut sorted: Vec<&Container> = containers.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    for container in sorted {
        let files =
            |label: &str| container.labels.get(label).map_or("", String::as_str).split(',').map(str::trim).filter(|file| !file.is_empty());
        if compose.working_dir.is_none() {
            compose.working_dir = container.labels.get(WORKING_DIR_LABEL).filter(|folder| !folder.is_empty()).cloned();
        }
        for (label, list) in [(CONFIG_FILES_LABEL, &mut compose.config_files), (ENVIRONMENT_FILE_LABEL, &mut compose.environment_files)] {
            for file in files(label) {
                if !list.iter().any(|known| known == file) {
                    list.push(file.to_owned());
                }
            }
        }
    }
    compose
}

#[cfg(test)]
mod tests;
