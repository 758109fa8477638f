//! What of applications is restored alone by its path: bind mounts, compose files, volumes, and what lies in them.
//!
//! Where a path is in a snapshot is `jobs/stored`'s business; how it is written, `targets/plan`'s.

use std::ops::ControlFlow;

use crate::jobs::error::JobError;
use crate::jobs::request::RestoreJob;
use crate::jobs::select::Item;
use crate::jobs::stored;
use crate::model::application::{ItemKind, ItemRecord};
use crate::model::outcome::ItemOutcome;
use crate::model::text::printable;
use crate::repository::contract::{Repository, Snapshot, SnapshotId};
use crate::targets::plan::{Items, Part, StoredApplication, is_in};

/// A path in the snapshot of an application.
pub(super) struct Alone {
    pub(super) snapshot: SnapshotId,
    path: Vec<u8>,
}

/// What is meant by paths in the snapshots of applications; the other snapshots may have them, too.
pub(super) fn chosen(
    repository: &dyn Repository,
    applications: &[Snapshot],
    others: &[Snapshot],
    paths: &[Vec<u8>],
) -> Result<Vec<Alone>, JobError> {
    let mut chosen = Vec::new();
    for named in paths.iter().filter(|_| !applications.is_empty()) {
        let (item, mut found) = (Item::Place(named.clone()), Vec::new());
        for snapshot in applications.iter().chain(others) {
            found.extend(stored::find(repository, snapshot, &item)?.map(|path| (snapshot, path)));
        }
        stored::unless_mixed(named, &found)?;
        if found.is_empty() {
            return Err(stored::nowhere(repository, &[applications, others].concat(), &item));
        }
        let of_application = found.into_iter().filter(|(snapshot, _)| snapshot.application().is_some());
        chosen.extend(of_application.map(|(snapshot, path)| Alone { snapshot: snapshot.id.clone(), path }));
    }
    Ok(chosen)
}

/// Adds what is at a path of an application's snapshot to what is restored.
pub(super) fn add(
    repository: &dyn Repository,
    application: &StoredApplication,
    Alone { snapshot, path }: &Alone,
    items: &mut Items,
) -> Result<(), JobError> {
    let shown = printable(path);
    let refused = |message: String| {
        let hint = "Write it to a folder with --to DIR, or bring the item itself back with --volume, --container or --network.";
        Err(JobError::request("not_on_host", message, hint))
    };
    let Ok(from) = std::str::from_utf8(path) else {
        return refused(format!("{shown} cannot be restored alone: its name is no text"));
    };
    let item = application.item_at(from);
    let Some((item, (volume, folder))) = item.and_then(|item| Some((item, place(application, item)?))) else {
        return refused(format!("{shown} is a place in the snapshot of an application, not one on this host"));
    };
    let below = from.strip_prefix(&item.path).unwrap_or_default();
    if item.kind == ItemKind::Volume && below.is_empty() {
        items.volumes.extend((!items.volumes.contains(&item.name)).then(|| item.name.clone()));
        return Ok(());
    }
    let path = format!("{folder}{below}");
    let name = &application.document.application.name;
    let meets = |other: &&Part| other.volume == volume && (is_in(&path, &other.path) || is_in(&other.path, &path));
    if let Some(other) = items.parts.iter().filter(meets).find(|other| other.application != *name) {
        let (one, other) = (printable(other.from.as_bytes()), shown);
        let message = format!("{one} and {other} go to the same place on this host, and are in snapshots of two applications");
        return Err(JobError::request("two_snapshots", message, "Restore from one of them at a time, by its id."));
    }
    let is_mine = |other: &&Part| other.volume == volume;
    if items.volumes.contains(&item.name) && volume.is_some() || items.parts.iter().filter(is_mine).any(|other| is_in(&path, &other.path)) {
        return Ok(());
    }
    items.parts.retain(|other| other.volume != volume || !is_in(&other.path, &path));
    let bytes = match &item.outcome {
        ItemOutcome::Complete { proof } if below.is_empty() => proof.bytes,
        _ => bytes(repository, snapshot, from)?,
    };
    let (application, root) = (name.clone(), folder.to_owned());
    items.parts.push(Part { application, volume, path, root, from: from.to_owned(), bytes });
    Ok(())
}

/// What is restored alone goes to its own place, whatever else gets another name.
///
/// # Errors
/// Other names were asked for with it.
pub(super) fn unless_beside(items: &Items, job: &RestoreJob) -> Result<(), JobError> {
    match items.parts.first() {
        Some(part) if job.as_new || !job.renames.is_empty() => {
            let message = format!("{} has no other name to be restored under", printable(part.from.as_bytes()));
            Err(JobError::request(
                "no_other_name",
                message,
                "Restore it without --rename and --as-new, or write it to a folder with --to DIR.",
            ))
        }
        _ => Ok(()),
    }
}

/// The volume in which an item is, or where on the host. A compose file may have been named as nobody should be followed.
fn place<'a>(application: &'a StoredApplication, item: &'a ItemRecord) -> Option<(Option<String>, &'a str)> {
    let folder = match item.kind {
        ItemKind::Volume => match application.document.application.volume(&item.name)?.bound_folder() {
            Some(folder) => folder,
            None => return Some((Some(item.name.clone()), "")),
        },
        ItemKind::Bind | ItemKind::Compose => &item.name,
        _ => return None,
    };
    let is_clean = folder.starts_with('/') && folder.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    is_clean.then_some((None, folder))
}

/// How many bytes of files are at a path of a snapshot.
fn bytes(repository: &dyn Repository, snapshot: &SnapshotId, path: &str) -> Result<u64, JobError> {
    let mut bytes = 0;
    repository.list(snapshot, path.as_bytes(), true, &mut |entry| {
        bytes += if entry.metadata.is_file() { entry.metadata.size } else { 0 };
        ControlFlow::Continue(())
    })?;
    Ok(bytes)
}
