//! Where in a snapshot is what somebody names by a path: one of the snapshot's tree, or the one that a bind mount or compose file of its
//! application, or something in it, has on the host.
//!
//! Where it then goes is `restore`'s business.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::error::JobError;
use super::select::{Item, is_below};
use super::snapshots::{document, holds};
use crate::model::application::{DOCKER_ROOT, ItemKind, segment};
use crate::model::text::printable;
use crate::repository::contract::{Repository, RepositoryError, Snapshot};

/// Snapshots that are asked for names: enough to have seen every application of a host, few enough to be quick.
const ASKED: usize = 100;
/// Names that are told of many.
const TOLD: usize = 10;

/// Where in a snapshot an item is; none if it is not in it.
///
/// # Errors
/// A path means two things in it, or it cannot be read.
pub(super) fn find(repository: &dyn Repository, snapshot: &Snapshot, item: &Item) -> Result<Option<Vec<u8>>, JobError> {
    let in_tree = match item.path_in(snapshot) {
        Some(path) if holds(repository, &snapshot.id, &path)? => Some(path),
        _ => None,
    };
    let Item::Place(path) = item else { return Ok(in_tree) };
    let on_host = match on_host(repository, snapshot, path) {
        // What one application has lost must not keep anything else from being found.
        Err(JobError::Repository(error)) if error.is_damage() => None,
        found => found?,
    };
    match (in_tree, on_host) {
        (Some(one), Some(other)) if one != other => Err(ambiguous(snapshot, path, &other)),
        (one, other) => Ok(one.or(other)),
    }
}

fn ambiguous(snapshot: &Snapshot, path: &[u8], other: &[u8]) -> JobError {
    let (path, other, id) = (printable(path), printable(other), snapshot.id.short());
    let message =
        format!("{path} is a place in snapshot {id}, and also one on the host, the files of which are at {other} in the snapshot");
    JobError::request(
        "ambiguous_path",
        message,
        format!("Write --path {other} for the one on the host, or name the item itself with --volume, --container or --network."),
    )
}

/// Makes sure that what is at a path of a host comes from one snapshot.
///
/// # Errors
/// Several have it: what they have may differ.
pub(super) fn unless_mixed(path: &[u8], found: &[(&Snapshot, Vec<u8>)]) -> Result<(), JobError> {
    if found.len() < 2 || found.iter().all(|(_, stored)| stored == path) {
        return Ok(());
    }
    let one = |(snapshot, stored): &(&Snapshot, Vec<u8>)| format!("{} ({})", snapshot.id.short(), printable(stored));
    let all = found.iter().map(one).collect::<Vec<_>>().join(", ");
    let message = format!("{} is in several of the chosen snapshots: {all}", printable(path));
    Err(JobError::request("two_snapshots", message, "Restore from one of them at a time, by its id."))
}

/// What was asked for is in none of the snapshots.
pub(super) fn nowhere(repository: &dyn Repository, snapshots: &[Snapshot], item: &Item) -> JobError {
    let meant = match item {
        Item::Place(path) => meant(repository, snapshots.iter(), path),
        _ => String::new(),
    };
    let message = format!("the {} is in none of the chosen snapshots{meant}", item.label());
    JobError::request("not_in_snapshot", message, "`bbackup ls SNAPSHOT` shows what is in it.")
}

/// Where in a snapshot is what its application has at a path of the host.
fn on_host(repository: &dyn Repository, snapshot: &Snapshot, path: &[u8]) -> Result<Option<Vec<u8>>, JobError> {
    let Some(application) = snapshot.application() else { return Ok(None) };
    if !may_have(repository, snapshot, application, path)? {
        return Ok(None);
    }
    let Some(document) = document(repository, &snapshot.id, application)? else { return Ok(None) };
    let named = |name: &str| is_below(path, name.as_bytes());
    let mut items: Vec<_> = document.items.iter().filter(|item| is_on_host(item.kind) && named(&item.name)).collect();
    // What lies in another one and has files of its own has them there.
    items.sort_by_key(|item| Reverse(item.name.len()));
    for item in items {
        let stored = [item.path.as_bytes(), &path[item.name.len()..]].concat();
        if holds(repository, &snapshot.id, &stored)? {
            return Ok(Some(stored));
        }
    }
    Ok(None)
}

/// Whether the name of an item is its path on the host.
fn is_on_host(kind: ItemKind) -> bool {
    matches!(kind, ItemKind::Bind | ItemKind::Compose)
}

/// Whether the tree may have it: its document need not be read for most.
fn may_have(repository: &dyn Repository, snapshot: &Snapshot, application: &str, path: &[u8]) -> Result<bool, JobError> {
    let root = format!("{DOCKER_ROOT}/{}", segment(application));
    if holds(repository, &snapshot.id, &[root.as_bytes(), b"/binds", path].concat())? {
        return Ok(true);
    }
    // Below the project's folder a compose file is under the end of its path, whatever that folder is, and one from elsewhere under all of it.
    let compose = format!("{root}/compose");
    let text = String::from_utf8_lossy(path);
    let names: BTreeSet<_> = text.split('/').map(segment).collect();
    let mut may = false;
    let listed = repository.list(&snapshot.id, compose.as_bytes(), false, &mut |entry| {
        let name = entry.path.strip_prefix(compose.as_bytes()).and_then(|name| std::str::from_utf8(name.strip_prefix(b"/")?).ok());
        may = name.is_some_and(|name| name == "absolute" || names.contains(name));
        if may { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match listed {
        Err(RepositoryError::NoPath { .. }) => Ok(false),
        other => Ok(other.map(|_| may)?),
    }
}

/// What a path that is nowhere may have meant in these snapshots, the newest last: the end of a sentence.
pub(super) fn meant<'a>(repository: &dyn Repository, snapshots: impl DoubleEndedIterator<Item = &'a Snapshot>, path: &[u8]) -> String {
    let (mut seen, mut paths, mut volumes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let recent = snapshots.rev().filter_map(|one| Some((one.application()?, one)));
    for (application, snapshot) in recent.filter(|(application, one)| seen.insert((one.host.clone(), *application))).take(ASKED) {
        // One that cannot be read has nothing to suggest.
        let Ok(Some(document)) = document(repository, &snapshot.id, application) else { continue };
        for item in document.items {
            match item.kind {
                kind if is_on_host(kind) => _ = paths.insert(item.name),
                ItemKind::Volume => _ = volumes.insert(item.name),
                _ => {}
            }
        }
    }
    let below: BTreeSet<String> = paths.iter().filter(|known| is_below(known.as_bytes(), path)).cloned().collect();
    let known = if below.is_empty() { paths } else { below };
    let names: Vec<String> = known.into_iter().chain(volumes.into_iter().map(|name| format!("volume {name}"))).collect();
    let told = names.iter().take(TOLD).map(|name| printable(name.as_bytes())).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => String::new(),
        count if count > TOLD => format!("; there are {told} and {} more", count - TOLD),
        _ => format!("; there are {told}"),
    }
}
