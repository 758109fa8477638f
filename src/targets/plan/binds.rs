//! The bind mounts of a restore: files of the host are written where nothing is, and over what is there only if that was asked for.
//!
//! How they are written is the business of `jobs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::build::Draft;
use super::in_place::why_not_overwritten;
use super::{Conflict, Items, Part, RestoreOptions, Step, StoredApplication, is_in};
use crate::docker::discover::binds::data_path;
use crate::model::application::{ItemKind, ItemRecord};
use crate::model::outcome::ItemOutcome;
use crate::model::text::printable;
use crate::targets::preflight::{Host, Obstacle, PathState};

/// The paths of which some application has the files, and those that are restored alone.
pub(super) fn stored(applications: &[StoredApplication], items: &Items) -> BTreeSet<String> {
    let alone = items.parts.iter().filter(|part| part.volume.is_none()).map(|part| &part.path);
    let items = applications.iter().flat_map(|stored| &stored.document.items);
    items.filter(|item| item.kind == ItemKind::Bind).map(|item| &item.name).chain(alone).cloned().collect()
}

/// What becomes of one path.
pub(super) enum Fate {
    Write,
    Overwrite,
    Keep,
    Refuse(String),
}

/// Plans the files of the bind mounts of the restored containers; gives the paths that are written.
pub(super) fn plan(draft: &mut Draft<'_>) -> BTreeSet<String> {
    let mut mounted: BTreeMap<String, String> = BTreeMap::new();
    for chosen in &draft.containers {
        for path in chosen.container.mounts.iter().filter_map(data_path) {
            mounted.entry(path.to_owned()).or_insert_with(|| chosen.container.name.clone());
        }
    }
    for stored in draft.applications {
        for shared in &stored.document.application.shared_binds {
            let elsewhere = !draft.applications.iter().any(|other| other.document.application.name == shared.stored_with);
            if elsewhere && mounted.contains_key(&shared.path) && draft.host.missing_paths.contains(&shared.path) {
                let (path, with) = (printable(shared.path.as_bytes()), printable(shared.stored_with.as_bytes()));
                draft.note(format!("{path} is stored with application {with}: restore that as well"));
            }
        }
    }
    let alone = alone(draft);
    let mut filled = alone.clone();
    for stored in draft.applications {
        let application = &stored.document.application.name;
        for item in stored.document.items.iter().filter(|item| item.kind == ItemKind::Bind && !alone.contains(&item.name)) {
            // A path that lies in another one was saved with that.
            let Some(container) = mounted.iter().find(|(path, _)| Path::new(path).starts_with(&item.name)).map(|(_, name)| name) else {
                continue;
            };
            let path = printable(item.name.as_bytes());
            tell_outcome(draft, item);
            let (ItemOutcome::Complete { proof } | ItemOutcome::Partial { proof, .. }) = &item.outcome else { continue };
            let bytes = proof.bytes;
            // Beside the original, or one item of many: what is there belongs to somebody else.
            let beside = is_beside(draft) || !draft.options.items.is_everything();
            let fate = fate(draft, &item.name, beside);
            let overwrites = matches!(fate, Fate::Overwrite);
            match fate {
                Fate::Keep => {
                    let container = printable(container.as_bytes());
                    draft.note(format!("container {container} uses {path} as it is there"));
                    continue;
                }
                Fate::Refuse(reason) => draft.conflict(Conflict::PathExists { path: item.name.clone(), reason }),
                Fate::Overwrite => draft.note(format!("{path}: {OVERWRITTEN}")),
                Fate::Write => {}
            }
            if filled.insert(item.name.clone()) {
                draft.step(
                    application,
                    Step::FillPath { path: item.name.clone(), from: item.path.clone(), bytes, overwrites, inside: None },
                );
            }
        }
    }
    filled
}

/// Plans the files that are restored alone; gives their paths.
fn alone(draft: &mut Draft<'_>) -> BTreeSet<String> {
    let mut filled = BTreeSet::new();
    for part in &draft.options.items.parts {
        let (application, from) = (&part.application, &part.from);
        let stored = draft.applications.iter().find(|stored| stored.document.application.name == *application);
        if let Some(item) = stored.and_then(|stored| stored.item_at(from)) {
            if let Some(conflict) = not_saved(item) {
                draft.conflict(conflict);
                continue;
            }
            tell_outcome(draft, item);
        }
        let (path, inside) = match place(draft.host, stored, part) {
            Ok(place) => place,
            Err(conflict) => {
                draft.conflict(conflict);
                continue;
            }
        };
        if let Some(obstacle) = draft.host.obstacles.get(&path) {
            draft.conflict(Conflict::PathExists { path: path.clone(), reason: why_not_reached(obstacle, &path, part) });
            continue;
        }
        let fate = fate(draft, &path, false);
        let overwrites = matches!(fate, Fate::Overwrite);
        match fate {
            Fate::Refuse(reason) => draft.conflict(Conflict::PathExists { path: path.clone(), reason }),
            Fate::Overwrite => draft.asked(format!("{}: {OVERWRITTEN}", printable(path.as_bytes()))),
            Fate::Write | Fate::Keep => {}
        }
        filled.insert(path.clone());
        let folder = part.volume.as_ref().and_then(|volume| Some((volume.clone(), draft.host.volumes.get(volume)?.mountpoint.clone())));
        let root = folder.as_ref().map_or_else(|| part.root.clone(), |(_, folder)| folder.clone());
        draft.plan.roots.insert(path.clone(), root);
        draft.plan.folders.extend(folder);
        draft.step(application, Step::FillPath { path, from: from.clone(), bytes: part.bytes, overwrites, inside });
    }
    filled
}

/// The path of the machine to which a part is restored, and the volume that it then lies in, with its path there.
fn place(host: &Host, stored: Option<&StoredApplication>, part: &Part) -> Result<(String, Option<(String, String)>), Conflict> {
    let Some(name) = &part.volume else { return Ok((part.path.clone(), None)) };
    let Some(there) = host.volumes.get(name) else { return Err(Conflict::NoVolume { name: name.clone() }) };
    let volume = stored.and_then(|stored| stored.document.application.volume(name));
    match volume.and_then(|volume| why_not_overwritten(volume, name, host)) {
        Some(reason) => Err(Conflict::VolumeExists { name: name.clone(), reason }),
        None => Ok((format!("{}{}", there.mountpoint, part.path), Some((name.clone(), part.path.clone())))),
    }
}

/// That an item is not in the snapshot, so that no part of it is.
fn not_saved(item: &ItemRecord) -> Option<Conflict> {
    let reason = match &item.outcome {
        ItemOutcome::Failed { reason } => format!("saving it failed: {reason}"),
        ItemOutcome::Skipped => "it was skipped".to_owned(),
        ItemOutcome::Complete { .. } | ItemOutcome::Partial { .. } => return None,
    };
    let what = if item.kind == ItemKind::Volume { format!("volume {}", item.name) } else { item.name.clone() };
    Some(Conflict::NotSaved { what, reason })
}

/// What is in the way to a part, and what can be done about it.
fn why_not_reached(obstacle: &Obstacle, path: &str, part: &Part) -> String {
    match obstacle {
        Obstacle::Link(_) => format!("{obstacle}: remove the link first"),
        Obstacle::Gone(folder) => {
            let below = path.strip_prefix(folder).unwrap_or_default();
            format!("{obstacle}; restore all of that: --path {}", part.from.strip_suffix(below).unwrap_or(&part.from))
        }
    }
}

/// Tells what of an item is not in the snapshot.
fn tell_outcome(draft: &mut Draft<'_>, item: &ItemRecord) {
    let name = printable(item.name.as_bytes());
    match &item.outcome {
        ItemOutcome::Partial { reasons, .. } => {
            draft.note(format!("{name} was saved in part only: {}", printable(reasons.join("; ").as_bytes())));
        }
        ItemOutcome::Failed { reason } => {
            draft.note(format!("{name} is not restored, saving it failed: {}", printable(reason.as_bytes())));
        }
        ItemOutcome::Complete { .. } | ItemOutcome::Skipped => {}
    }
}

/// What is told of files that are overwritten where others may lie beside them.
pub(super) const OVERWRITTEN: &str = "the files there are overwritten, and those that the snapshot does not have stay";

/// Whether what is restored is to stand beside what is there.
pub(super) fn is_beside(draft: &Draft<'_>) -> bool {
    draft.options.as_new || !draft.options.renames.is_empty()
}

/// Whether what another restore has filled in part is not overwritten: something is there, or may be. Where that is not seen, and nothing is to be
/// saved first, whoever asks for it in place knows.
fn is_refused(state: Option<&PathState>, options: &RestoreOptions) -> bool {
    match state {
        Some(PathState::Holds) => true,
        Some(_) => false,
        None => !options.in_place || options.save_first,
    }
}

/// What becomes of files that are restored to a path; `beside` if what is there may belong to somebody else.
pub(super) fn fate(draft: &Draft<'_>, path: &str, beside: bool) -> Fate {
    let options = draft.options;
    let refuse = |reason: &str| Fate::Refuse(reason.to_owned());
    let half = options.half_of_others.iter().find(|(half, _)| is_in(path, half) || is_in(half, path));
    let state = draft.host.binds.get(path);
    // That it does not answer is in the way, and told as that.
    if draft.host.silent.contains(path) || options.half_filled.contains(path) {
        return Fate::Write;
    }
    if let Some((_, from)) = half
        && is_refused(state, options)
    {
        return Fate::Refuse(format!(
            "a restore of another snapshot{from} has filled it in part: restore that one, or remove what is there"
        ));
    }
    match state {
        Some(PathState::Missing | PathState::Empty) => Fate::Write,
        None if options.in_place && options.save_first => {
            refuse("what is there cannot be saved first, as it is not seen from here; --no-save-first goes without")
        }
        _ if options.in_place => Fate::Overwrite,
        _ if beside => Fate::Keep,
        Some(PathState::Holds) => refuse("there is something"),
        None => refuse("whether there is something is not seen from here"),
    }
}
