//! Who is not started: what a restore that died has left half of one and half of another content, and this one does not write, may be
//! destroyed by a program that starts on it.

use std::collections::BTreeSet;

use super::build::Draft;
use super::{is_path, place_of};
use crate::docker::discover::grounds::meet;
use crate::model::application::{Mount, MountKind, Volume};
use crate::model::text::printable;

/// Leaves the containers down that use what stays half restored.
pub(super) fn hold(draft: &mut Draft<'_>) {
    let filled: BTreeSet<&str> = draft.plan.steps.iter().filter_map(|planned| Some(planned.step.fills()?.0)).collect();
    let half: Vec<&String> =
        draft.options.half.iter().filter(|place| !filled.iter().any(|filled| draft.plan.is_written(place, filled))).collect();
    let mut held = Vec::new();
    for (index, chosen) in draft.containers.iter().enumerate().filter(|(_, chosen)| chosen.starts) {
        let uses = |place: &&&String| chosen.container.mounts.iter().any(|mount| reaches(draft, mount, place));
        held.extend(half.iter().find(uses).map(|place| (index, (*place).clone())));
    }
    for (index, place) in held {
        draft.containers[index].starts = false;
        let (container, shown) = (printable(draft.containers[index].container.name.as_bytes()), printable(place.as_bytes()));
        let what = if is_path(&place) { shown } else { format!("its volume {shown}") };
        draft.note(format!("container {container} is not started: {what} is half restored; start it once that is restored as a whole"));
    }
}

/// Whether what is mounted, under its name here, shares files with a place.
fn reaches(draft: &Draft<'_>, mount: &Mount, place: &str) -> bool {
    let grounds = &draft.host.grounds;
    let (is_it, mounted) = match (mount.kind, &mount.name) {
        (MountKind::Volume, Some(name)) => {
            let target = draft.names.volume(name);
            let mut mounted = grounds.volume(&target, "");
            mounted.extend(device_of(draft, name, &target).iter().flat_map(|device| grounds.path(device)));
            (target == place, mounted)
        }
        _ => (false, grounds.mount(mount)),
    };
    let places = if is_path(place) { grounds.path(place) } else { grounds.volume(place, "") };
    is_it || meet(&places, &mounted)
}

/// What a volume stands for: the one that is there, or else the one that is made.
fn device_of(draft: &Draft<'_>, name: &str, target: &str) -> Option<String> {
    let made = || draft.applications.iter().find_map(|stored| stored.document.application.volume(name)).and_then(Volume::device);
    match draft.host.volumes.get(target) {
        Some(there) if there.driver != "local" || there.options.get("type").is_some_and(|kind| kind == "tmpfs") => None,
        Some(there) => there.options.get("device").map(|device| place_of(device.trim_end_matches('/'))),
        None => made().map(place_of),
    }
}
