//! The disks of a restore: whether what is written has room there, whether it is the disk that it was on, and whether it answers.

use std::collections::{BTreeMap, BTreeSet};

use super::build::Draft;
use super::{Conflict, Step, StoredApplication, checks, is_in};
use crate::model::application::{ItemKind, ItemRecord};
use crate::model::text::printable;
use crate::targets::preflight::{Disk, PathState};

/// The folders that volumes stand for.
pub(super) fn folders(applications: &[StoredApplication]) -> BTreeSet<String> {
    let volumes = applications.iter().flat_map(|stored| &stored.document.application.volumes);
    volumes.filter_map(|volume| volume.bound_folder()).map(str::to_owned).collect()
}

/// The mount points that something lay below, or had in it, when it was saved.
pub(super) fn mount_points(applications: &[StoredApplication]) -> BTreeSet<String> {
    let items = applications.iter().flat_map(|stored| &stored.document.items);
    items.flat_map(|item| item.mounted_at.iter().chain(saved_inside(item))).cloned().collect()
}

/// The mount points inside of an item of which it has the files.
fn saved_inside(item: &ItemRecord) -> impl Iterator<Item = &String> {
    item.mounted_inside.iter().filter(|inner| inner.saved).map(|inner| &inner.path)
}

/// Makes sure that nothing is written below a mount point for want of its mount: on the machine that was saved that is a
/// conflict, unless somebody has put something there since; on another one the disks may be others.
pub(super) fn mounted(draft: &mut Draft<'_>) {
    let mut conflicts = Vec::new();
    let mut notes = Vec::new();
    for planned in &draft.plan.steps {
        let (Step::FillPath { from, .. } | Step::FillVolume { path: from, .. }) = &planned.step else { continue };
        let stored = draft.applications.iter().find(|stored| stored.document.application.name == planned.application);
        let Some(item) = stored.and_then(|stored| stored.item_at(from)) else { continue };
        // What is not on the way to a part of it, nor in it, does not matter.
        let concerns = |point: &&String| match &planned.step {
            Step::FillPath { path, .. } => is_in(point, path) || is_in(path, point),
            _ => true,
        };
        let missing = |point: &String| draft.host.unmounted.get_key_value(point);
        let what = if item.kind == ItemKind::Volume { format!("volume {}", item.name) } else { item.name.clone() };
        // In a volume that is made now nothing can be mounted yet.
        let is_new = matches!(&planned.step, Step::FillVolume { name, .. } if is_made(draft, name));
        for (point, state) in item.mounted_at.iter().chain(saved_inside(item)).filter(concerns).filter_map(missing) {
            let is_inside = item.mounted_at.as_ref() != Some(point);
            if draft.same_engine(&planned.application) && *state != PathState::Holds && !(is_inside && is_new) {
                conflicts.push(Conflict::NotMounted {
                    path: point.clone(),
                    what: if is_inside { format!("files of {what}") } else { what.clone() },
                });
            } else {
                let point = printable(point.as_bytes());
                notes.push(format!("nothing is mounted at {point} here: what lay there is written to the disk that the folder is on"));
            }
        }
        for inner in item.mounted_inside.iter().filter(|inner| !inner.saved && concerns(&&inner.path)) {
            let (what, point) = (printable(what.as_bytes()), printable(inner.path.as_bytes()));
            notes.push(format!("{what}: what was mounted at {point} is not in the snapshot"));
        }
    }
    for conflict in conflicts {
        draft.conflict(conflict);
    }
    for note in notes {
        draft.note(note);
    }
}

/// Whoever touches a file system whose server is gone waits, it may be for ever: we, the Engine, and the container that is started.
pub(super) fn silent(draft: &mut Draft<'_>) {
    let is_silent = |path: &str| draft.host.silent.contains(path);
    let mut conflicts = Vec::new();
    for chosen in &draft.containers {
        let what = format!("container {}", draft.names.container(&chosen.container.name));
        let paths = checks::mounted_paths(chosen.inspect).filter(|path| is_silent(path));
        conflicts.extend(paths.map(|path| Conflict::Silent { path: path.to_owned(), what: what.clone() }));
    }
    for (name, (_, volume)) in &draft.volumes {
        let folder = volume.bound_folder().filter(|folder| is_silent(folder));
        let what = || format!("volume {}", draft.names.volume(name));
        conflicts.extend(folder.map(|folder| Conflict::Silent { path: folder.to_owned(), what: what() }));
    }
    let alone = draft.options.items.parts.iter().map(|part| &part.path).filter(|path| is_silent(path));
    conflicts.extend(alone.map(|path| Conflict::Silent { path: path.clone(), what: "what is restored".to_owned() }));
    for conflict in conflicts {
        draft.conflict(conflict);
    }
}

fn is_made(draft: &Draft<'_>, volume: &str) -> bool {
    draft.plan.steps.iter().any(|planned| matches!(&planned.step, Step::CreateVolume { name, .. } if name == volume))
}

/// Checks whether what is written has room on the disks that are seen from here.
pub(super) fn space(draft: &mut Draft<'_>) {
    let host = draft.host;
    let folders: BTreeMap<String, Option<&str>> = draft
        .volumes
        .values()
        .filter(|(_, volume)| volume.driver == "local" && (volume.options.is_empty() || volume.bound_folder().is_some()))
        .map(|(_, volume)| (draft.names.volume(&volume.name), volume.bound_folder()))
        .collect();
    let of_engine = host.disk.map(|disk| (disk, "the Engine's disk".to_owned()));
    let of_folder = |path: &str| Some((*host.disks.get(path)?, format!("the disk of {path}")));
    let mut needs: Vec<(Disk, String, u64)> = Vec::new();
    let mut image = 0;
    for planned in &draft.plan.steps {
        let (found, bytes) = match &planned.step {
            // What is overwritten makes room as it goes. What a volume of another kind stands for is not known.
            Step::FillVolume { name, bytes, replace: false, over: false, .. } => match folders.get(name) {
                Some(Some(folder)) => (of_folder(folder), *bytes),
                Some(None) => (of_engine.clone(), *bytes),
                None => continue,
            },
            Step::FillPath { path, bytes, inside, .. } if host.binds.get(path) != Some(&PathState::Holds) => {
                (if inside.is_some() { of_engine.clone() } else { of_folder(path) }, *bytes)
            }
            Step::FillLayer { bytes, .. } => (of_engine.clone(), *bytes),
            // Images may share their layers, so only the largest is sure to need what it has.
            Step::LoadImage { bytes, .. } => {
                let more = bytes.saturating_sub(image);
                image += more;
                (of_engine.clone(), more)
            }
            _ => continue,
        };
        let Some((disk, name)) = found else { continue };
        match needs.iter_mut().find(|(other, ..)| other.device == disk.device) {
            Some((_, _, needed)) => *needed = needed.saturating_add(bytes),
            None => needs.push((disk, name, bytes)),
        }
    }
    for (disk, name, needed) in needs {
        if disk.free < needed {
            draft.conflict(Conflict::NoSpace { disk: name, needed, free: disk.free });
        }
    }
}
