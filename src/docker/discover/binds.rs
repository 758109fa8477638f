//! Bind mounts: which files and folders of the Engine's machine belong to applications, and which to the machine itself. Pure.
//!
//! Whether and how they are read is decided in `sources`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::applications::{Key, WORKING_DIR_LABEL, project, users_of};
use super::grounds::{Grounds, Visitors};
use crate::model::application::{Application, ApplicationKind, Bind, Mount, MountKind, SharedBind};

/// Folders of the kernel and of what runs at the moment: never data.
const SYSTEM: [&str; 5] = ["/dev", "/proc", "/sys", "/run", "/var/run"];
/// Folders that come with the operating system, and files that describe this very machine: on another one they would be wrong.
const MACHINE: [&str; 19] = [
    "/boot",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/os-release",
    "/etc/machine-id",
    "/etc/ssl/certs",
    "/etc/ca-certificates",
];
/// What people install there is theirs.
const THEIRS: &str = "/usr/local";

/// What a path that a container mounts is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belongs {
    /// To an application: its data or configuration.
    Data,
    /// To the machine: the operating system, or all of it.
    Machine,
    /// To the kernel, or to what runs now: devices, sockets.
    Running,
}

/// What a path is, by its name alone.
pub fn belongs(path: &str) -> Belongs {
    let path = Path::new(path);
    if SYSTEM.iter().any(|folder| path.starts_with(folder)) || path.extension().is_some_and(|extension| extension == "sock") {
        Belongs::Running
    } else if path == Path::new("/") || (MACHINE.iter().any(|folder| path.starts_with(folder)) && !path.starts_with(THEIRS)) {
        Belongs::Machine
    } else {
        Belongs::Data
    }
}

/// The path of a mount that is a bind mount of something that may be saved, without a slash at its end.
pub fn data_path(mount: &Mount) -> Option<&str> {
    let path = mount.source.trim_end_matches('/');
    let clean = path.starts_with('/') && path.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0');
    (mount.kind == MountKind::Bind && clean && belongs(path) == Belongs::Data).then_some(path)
}

/// The folders above a path, the nearest first; the root is none.
pub(super) fn above(path: &str) -> impl Iterator<Item = &str> {
    path.char_indices().rev().filter(|(at, c)| *c == '/' && *at > 0).map(|(at, _)| &path[..at])
}

/// Gives each path to one application: to the project whose folder it lies in, else to the first by name of those that mount it.
pub(super) fn place(built: &mut BTreeMap<Key, Application>, grounds: &Grounds, visitors: &Visitors<String>) {
    let mut mounts: BTreeMap<String, BTreeSet<Key>> = BTreeMap::new();
    for (key, application) in built.iter() {
        for container in &application.containers {
            for mount in &container.mounts {
                if let Some(path) = data_path(mount) {
                    mounts.entry(path.to_owned()).or_default().insert(key.clone());
                }
            }
        }
    }
    let mut placed = Vec::new();
    for (path, applications) in &mounts {
        let own = applications.iter().find(|key| built.get(*key).is_some_and(|application| lies_in_project(path, application)));
        let first = applications.iter().min_by_key(|key| (&key.1, key.0));
        let Some(chosen) = own.or(first).cloned() else { continue };
        // Who mounts a folder writes to what lies in it, and the other way round.
        let all = visitors.at(&grounds.path(path));
        let others: Vec<Key> = applications.iter().filter(|key| **key != chosen).cloned().collect();
        placed.push((Bind { path: path.clone(), users: users_of(all) }, chosen, others));
    }
    for (bind, chosen, others) in placed {
        for other in others {
            if let Some(application) = built.get_mut(&other) {
                application.shared_binds.push(SharedBind { path: bind.path.clone(), stored_with: String::new() });
            }
        }
        if let Some(application) = built.get_mut(&chosen) {
            application.binds.push(bind);
        }
    }
}

fn lies_in_project(path: &str, application: &Application) -> bool {
    application.kind == ApplicationKind::Project
        && application.containers.iter().any(|container| {
            let folder = project(&container.labels).and_then(|_| container.labels.get(WORKING_DIR_LABEL));
            folder.is_some_and(|folder| folder.len() > 1 && Path::new(path).starts_with(folder))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_the_machine_is_told_from_data() {
        for (path, expected) in [
            ("/srv/www", Belongs::Data),
            ("/devices", Belongs::Data),
            ("/usr/local/share/app", Belongs::Data),
            ("/var/lib/app", Belongs::Data),
            ("/etc/nginx/nginx.conf", Belongs::Data),
            ("/dev/ttyUSB0", Belongs::Running),
            ("/proc", Belongs::Running),
            ("/var/run/docker.sock", Belongs::Running),
            ("/srv/app/app.sock", Belongs::Running),
            ("/", Belongs::Machine),
            ("/usr", Belongs::Machine),
            ("/usr/share/zoneinfo/UTC", Belongs::Machine),
            ("/etc/localtime", Belongs::Machine),
        ] {
            assert_eq!(belongs(path), expected, "{path}");
        }
    }

    #[test]
    fn only_clean_paths_are_followed() {
        let mount = |source: &str| Mount {
            kind: MountKind::Bind,
            name: None,
            source: source.to_owned(),
            destination: "/x".to_owned(),
            read_only: false,
        };
        assert_eq!(data_path(&mount("/srv/a/")), Some("/srv/a"));
        for bad in ["relative", "/srv/../etc", "/srv//a", "C:\\data", "", "/"] {
            assert_eq!(data_path(&mount(bad)), None, "{bad}");
        }
        assert_eq!(above("/a/b/c").collect::<Vec<_>>(), ["/a/b", "/a"]);
    }
}
