//! What a container changed outside everything that is mounted in it: its own, writable layer.
//!
//! Reading and keeping it is the business of `sources/layer`.

use std::path::Path;

use serde::Deserialize;

use super::connect::Engine;
use super::error::DockerError;
use super::wire::encode;
use crate::model::application::Container;

/// Longest list of changes that is taken only to say that they are not saved: some ten thousand paths.
const FEW: usize = 1 << 20;
/// Folders that the Engine fills anew at each start.
const SYSTEM: [&str; 3] = ["/dev", "/proc", "/sys"];
/// Folders of which nobody expects that they last.
const FLEETING: [&str; 5] = ["/tmp", "/run", "/var/run", "/var/tmp", "/var/cache"];

/// What the Engine puts into a container that is started with `--init`, and mounts its own program over.
const INIT: [&str; 2] = ["/sbin/docker-init", "/usr/sbin/docker-init"];

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is not as in the image, or something in it is not.
    Modified,
    /// The image does not have it.
    Added,
    /// Only the image has it.
    Deleted,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute path in the container.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawChange {
    path: String,
    kind: u8,
}

/// The changes in a container's own layer, sorted by path, without what is mounted in it and what is made anew at each start.
///
/// # Errors
/// [`DockerError::NotFound`] if the container is gone, or the Engine does not say.
pub async fn changes(engine: &Engine, container: &Container) -> Result<Vec<Change>, DockerError> {
    let call = call(container);
    let bytes = engine.wire().get_bytes(&call).await.map_err(|error| error.about("container", &container.name))?;
    parsed(&bytes, call, container)
}

/// The same where they are few, else none: what somebody is only told of need not be held in memory.
///
/// # Errors
/// As for [`changes`].
pub async fn changes_if_few(engine: &Engine, container: &Container) -> Result<Option<Vec<Change>>, DockerError> {
    let call = call(container);
    let whole = engine.wire().get_bytes_up_to(&call, FEW).await.map_err(|error| error.about("container", &container.name))?;
    whole.map(|bytes| parsed(&bytes, call, container)).transpose()
}

fn call(container: &Container) -> String {
    format!("/containers/{}/changes", encode(&container.id))
}

fn parsed(bytes: &[u8], call: String, container: &Container) -> Result<Vec<Change>, DockerError> {
    // Nothing at all is `null`.
    let raw: Option<Vec<RawChange>> =
        serde_json::from_slice(bytes).map_err(|error| DockerError::Malformed { call, source: error.into() })?;
    Ok(own(raw.unwrap_or_default(), container))
}

fn own(raw: Vec<RawChange>, container: &Container) -> Vec<Change> {
    let init = INIT.into_iter().filter(|path| raw.iter().any(|change| change.path == *path));
    let mounted: Vec<String> = container.mounts.iter().map(|mount| mount.destination.clone()).chain(init.map(str::to_owned)).collect();
    let is_mounted = |path: &str| mounted.iter().any(|place| Path::new(path).starts_with(place));
    let is_system = |path: &str| SYSTEM.iter().any(|folder| Path::new(path).starts_with(folder));
    let kept = raw.into_iter().filter(|change| !is_mounted(&change.path) && !is_system(&change.path));
    let mut changes: Vec<Change> = kept
        .map(|change| Change {
            path: change.path,
            kind: match change.kind {
                0 => ChangeKind::Modified,
                1 => ChangeKind::Added,
                _ => ChangeKind::Deleted,
            },
        })
        .collect();
    changes.sort_by(|a, b| Path::new(&a.path).cmp(Path::new(&b.path)));
    // A folder that is there only because a mount is somewhere in it, or in which only something mounted changed, is no change. From the
    // innermost outwards, so that such a folder does not make the one around it look changed.
    let mut told: Vec<Change> = Vec::new();
    for change in changes.into_iter().rev() {
        let above_mount = mounted.iter().any(|place| Path::new(place).starts_with(&change.path));
        let has_more = told.last().is_some_and(|inner| Path::new(&inner.path).starts_with(&change.path));
        if change.kind == ChangeKind::Deleted || has_more || !above_mount {
            told.push(change);
        }
    }
    told.reverse();
    told
}

/// The paths that somebody could miss: neither folders on the way to others nor what nobody expects to last.
pub fn missed(changes: &[Change]) -> Vec<&Change> {
    let is_way = |index: usize| changes.get(index + 1).is_some_and(|next| Path::new(&next.path).starts_with(&changes[index].path));
    let is_fleeting = |path: &str| FLEETING.iter().any(|folder| Path::new(path).starts_with(folder));
    let kept = |(index, change): &(usize, &Change)| {
        // Of a folder with changes in it, the changes are told.
        let only_the_way = change.kind != ChangeKind::Deleted && is_way(*index);
        !(only_the_way || is_fleeting(&change.path))
    };
    changes.iter().enumerate().filter(kept).map(|(_, change)| change).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn container(destinations: &[&str]) -> Container {
        let mounts: Vec<_> =
            destinations.iter().map(|path| serde_json::json!({"kind": "volume", "destination": path, "read_only": false})).collect();
        serde_json::from_value(serde_json::json!({
            "id": "1", "name": "a", "image": {"reference": "i", "id": "i", "present": true},
            "state": {"status": "exited", "health": "none", "exit_code": 0}, "labels": {}, "mounts": mounts, "networks": [],
            "network_mode": "none", "auto_remove": false, "restart_policy": {"name": "no", "maximum_retries": 0},
            "swarm_task": false, "tty": false, "log_driver": "none",
        }))
        .unwrap()
    }

    #[test]
    fn what_is_mounted_or_fleeting_is_no_change() {
        let raw = |path: &str, kind| RawChange { path: path.to_owned(), kind };
        let list = vec![
            raw("/etc", 0),
            raw("/etc/new", 1),
            raw("/srv", 1),
            raw("/srv/data", 1),
            raw("/srv/data/x", 1),
            raw("/dev", 0),
            raw("/dev/x", 1),
            raw("/bin", 0),
            raw("/bin/ls", 2),
            raw("/tmp", 0),
            raw("/tmp/y", 1),
            raw("/etc.d", 1),
        ];
        let found = own(list, &container(&["/srv/data"]));
        let paths = |list: &[&Change]| list.iter().map(|change| change.path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&found.iter().collect::<Vec<_>>()), ["/bin", "/bin/ls", "/etc", "/etc/new", "/etc.d", "/tmp", "/tmp/y"]);
        assert_eq!(paths(&missed(&found)), ["/bin/ls", "/etc/new", "/etc.d"]);
    }
    #[test]
    fn what_the_engine_made_to_mount_something_is_no_change() {
        let raw = |path: &str, kind| RawChange { path: path.to_owned(), kind };
        let list = vec![
            raw("/var", 0),
            raw("/var/run", 1),
            raw("/var/run/app", 1),
            raw("/var/run/app/docker.sock", 1),
            raw("/sbin", 0),
            raw("/sbin/docker-init", 1),
            raw("/usr", 0),
            raw("/usr/sbin", 0),
        ];
        let mounts = container(&["/var/run/app/docker.sock"]);
        let paths = |list: &[Change]| list.iter().map(|change| change.path.clone()).collect::<Vec<_>>();
        // Without the file at the end of the way, a changed folder is a changed folder.
        assert_eq!(paths(&own(list, &mounts)), ["/usr", "/usr/sbin"]);
        let list = vec![raw("/var", 0), raw("/var/run", 1), raw("/var/run/own", 1), raw("/sbin", 0), raw("/sbin/tool", 1)];
        assert_eq!(paths(&own(list, &mounts)), ["/sbin", "/sbin/tool", "/var", "/var/run", "/var/run/own"]);
    }
}
