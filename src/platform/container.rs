//! What the kernel tells of the container that a process runs in, if it runs in one.
//!
//! Which of an Engine's containers that is, is found out in `docker/ourselves`.

use std::fs;
use std::io;

/// What may tell which container this process runs in, the surest first. Nothing of it is sure by itself: it has to be
/// compared with the containers that there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clues {
    /// Where the storage driver keeps what is written to the root folder; no other container has the same.
    pub upper_dir: Option<String>,
    /// The container's id, by the name of its control group.
    pub by_cgroup: Option<String>,
    /// The id of the container that the network is set up for: it may be another one, which lends its own.
    pub by_mounts: Option<String>,
    /// The host name, which is the beginning of the container's id unless somebody gave another.
    pub hostname: String,
}

/// The clues about this process.
pub fn clues() -> Clues {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    Clues {
        upper_dir: upper_dir_in(&mounts),
        by_cgroup: id_of_process("self"),
        by_mounts: id_in_mounts(&mounts),
        hostname: super::host::hostname(),
    }
}

/// Whether this process runs in a container of an Engine.
pub fn is_inside() -> bool {
    let clues = clues();
    clues.by_cgroup.is_some() || clues.by_mounts.is_some()
}

/// The id of the container that a process runs in, by its control group. `process` is its number as this process sees it.
pub fn id_of_process(process: &str) -> Option<String> {
    id_in_cgroups(&fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?)
}

/// What a command in a container has started.
#[derive(Debug, Default)]
pub struct Started {
    /// Their numbers as this process sees them.
    pub processes: Vec<i32>,
    /// Whether there are processes in that container of which this cannot be seen.
    pub some_hidden: bool,
}

/// The processes of a container that have `mark` (`NAME=value`) in the environment that they were started with, the process
/// `first`, and all that descend from any of these.
pub fn started_by(container: &str, first: Option<i32>, mark: &str) -> Started {
    let mut parents: Vec<(i32, i32)> = Vec::new();
    let mut started = Started { processes: first.into_iter().collect(), some_hidden: false };
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if id_of_process(&process.to_string()).is_none_or(|id| id != container) {
            continue;
        }
        let Some(parent) = parent_of(process) else { continue };
        parents.push((process, parent));
        match fs::read(format!("/proc/{process}/environ")) {
            Ok(environment) if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) => {
                started.processes.push(process);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => started.some_hidden = true,
            // One that has just ended has none.
            _ => {}
        }
    }
    let mut next = 0;
    while let Some(parent) = started.processes.get(next).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child);
        let children: Vec<i32> = children.filter(|child| !started.processes.contains(child)).collect();
        started.processes.extend(children);
        next += 1;
    }
    started
}

/// The parent of a process that has not ended.
fn parent_of(process: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The program's name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" { None } else { fields.next()?.parse().ok() }
}

/// Control groups are called `/docker/<id>`, `/system.slice/docker-<id>.scope`, `/…/libpod-<id>.scope/container`. The last
/// id in such a path is the innermost container.
fn id_in_cgroups(cgroups: &str) -> Option<String> {
    let mut paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.find_map(|path| path.split('/').rev().find_map(id_in_name))
}

fn id_in_name(name: &str) -> Option<String> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    // Only Docker's and Podman's own names: a control group of any other kind may end in anything.
    let id = name.strip_prefix("docker-").or_else(|| name.strip_prefix("libpod-")).unwrap_or(name);
    is_id(id).then(|| id.to_owned())
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The Engine mounts a container's `hostname`, `hosts` and `resolv.conf` from a folder that is named after it.
fn id_in_mounts(mounts: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        if !matches!(point, "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf") {
            return None;
        }
        root.split('/').find(|part| is_id(part)).map(str::to_owned)
    })
}

fn upper_dir_in(mounts: &str) -> Option<String> {
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/"))?;
    let (_, options) = root.split_once(" - overlay ")?;
    options.split([' ', ',']).find_map(|option| option.strip_prefix("upperdir=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_engine_mounts_into_a_container_tells() {
        let id = "0123456789abcdef".repeat(4);
        let inside = format!("701 690 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw");
        assert_eq!(id_in_mounts(&inside), Some(id.clone()));
        let podman = format!("1 2 0:50 /containers/overlay-containers/{id}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw");
        assert_eq!(id_in_mounts(&podman), Some(id.clone()));
        let host = format!("90 25 0:50 / /var/lib/docker/containers/{id}/mounts/shm rw - tmpfs shm rw\n1 0 8:1 / / rw - ext4 /dev/sda1 rw");
        assert_eq!(id_in_mounts(&host), None);
        assert_eq!(id_in_mounts("garbage\n\n1 2"), None);
    }

    #[test]
    fn the_root_folder_tells_where_it_is_written() {
        let mounts = "690 620 0:77 / / rw,relatime - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/var/lib/docker/overlay2/77/diff,workdir=/w\n1 2 0:3 / /proc rw - proc proc rw";
        assert_eq!(upper_dir_in(mounts).as_deref(), Some("/var/lib/docker/overlay2/77/diff"));
        assert_eq!(upper_dir_in("1 0 8:1 / / rw - ext4 /dev/sda1 rw"), None);
        assert_eq!(upper_dir_in(""), None);
    }

    #[test]
    fn control_groups_of_both_versions_tell() {
        let id = "0123456789abcdef".repeat(4);
        for cgroups in [
            format!("12:cpuset:/docker/{id}\n1:name=systemd:/docker/{id}\n0::/system.slice/containerd.service"),
            format!("0::/system.slice/docker-{id}.scope"),
            format!("0::/machine.slice/libpod-{id}.scope/container"),
            format!("0::/docker/{}/docker/{id}", "f".repeat(64)),
        ] {
            assert_eq!(id_in_cgroups(&cgroups), Some(id.clone()), "{cgroups}");
        }
        for cgroups in ["0::/", "0::/user.slice/user-0.slice/session-1.scope", "", "nonsense"] {
            assert_eq!(id_in_cgroups(cgroups), None, "{cgroups}");
        }
    }
}
