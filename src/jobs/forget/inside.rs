//! Paths of the machine that snapshots of applications have whole: bind mounts, compose files, and folders that volumes stand for.
//!
//! Asked only where a restore has overwritten paths: on a host that saves nothing but applications no other snapshot has them.

use std::collections::BTreeMap;

use crate::jobs::snapshots::document;
use crate::model::application::{ItemKind, ItemRecord};
use crate::platform::clock;
use crate::repository::contract::{Repository, Snapshot};
use crate::repository::retention::{Inside, is_much_newer};

/// What the newest complete snapshot of each application has of the machine, where that is much newer than what a restore has overwritten.
/// What cannot be read lets nothing go.
pub(super) fn inside(repository: &dyn Repository, all: &[Snapshot]) -> Inside {
    let overwritten: Vec<&Snapshot> = all.iter().filter(|one| one.is_aside(&[]) && one.application().is_none()).collect();
    let is_newer = |one: &Snapshot| overwritten.iter().any(|other| other.host == one.host && is_much_newer(one, other));
    let now = clock::now();
    let mut newest: BTreeMap<(&str, &str), &Snapshot> = BTreeMap::new();
    for snapshot in all.iter().filter(|one| one.time <= now && !one.is_partial() && !one.is_aside(&[]) && one.is_whole()) {
        if let Some(application) = snapshot.application().filter(|_| is_newer(snapshot)) {
            let newest = newest.entry((&snapshot.host, application)).or_insert(snapshot);
            *newest = std::cmp::max_by_key(*newest, snapshot, |one| one.time);
        }
    }
    let known = newest
        .into_iter()
        .filter_map(|((_, application), snapshot)| Some((snapshot.id.clone(), paths(repository, snapshot, application)?)));
    known.collect()
}

fn paths(repository: &dyn Repository, snapshot: &Snapshot, application: &str) -> Option<Vec<String>> {
    let document = document(repository, &snapshot.id, application).ok()??;
    let is_whole = |item: &&ItemRecord| item.outcome.is_complete() && item.mounted_inside.iter().all(|inner| inner.saved);
    let path = |item: &ItemRecord| match item.kind {
        ItemKind::Bind | ItemKind::Compose => Some(item.name.clone()),
        ItemKind::Volume => document.application.volume(&item.name)?.bound_folder().map(str::to_owned),
        _ => None,
    };
    Some(document.items.iter().filter(is_whole).filter_map(path).collect())
}
