//! The bind mounts of a restore: files of the host are written where nothing is, and over what is there only if that was asked for.
//!
//! How they are written is the business of `jobs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::build::Draft;
use super::{Conflict, RestoreOptions, Step, StoredApplication};
use crate::docker::discover::binds::data_path;
use crate::model::application::ItemKind;
use crate::model::outcome::ItemOutcome;
use crate::model::text::printable;
use crate::targets::preflight::PathState;

/// The paths of which some application has the files.
pub(super) fn stored(applications: &[StoredApplication]) -> BTreeSet<String> {
    let items = applications.iter().flat_map(|stored| &stored.document.items);
    items.filter(|item| item.kind == ItemKind::Bind).map(|item| item.name.clone()).collect()
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
    let mut filled = BTreeSet::new();
    for stored in draft.applications {
        let application = &stored.document.application.name;
        for item in stored.document.items.iter().filter(|item| item.kind == ItemKind::Bind) {
            // A path that lies in another one was saved with that.
            let Some(container) = mounted.iter().find(|(path, _)| Path::new(path).starts_with(&item.name)).map(|(_, name)| name) else {
                continue;
            };
            let path = printable(item.name.as_bytes());
            let bytes = match &item.outcome {
                ItemOutcome::Complete { proof } => proof.bytes,
                ItemOutcome::Partial { proof, reasons } => {
                    draft.note(format!("{path} was saved in part only: {}", printable(reasons.join("; ").as_bytes())));
                    proof.bytes
                }
                ItemOutcome::Failed { reason } => {
                    draft.note(format!("{path} is not restored, saving it failed: {}", printable(reason.as_bytes())));
                    continue;
                }
                ItemOutcome::Skipped => continue,
            };
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
                draft.step(application, Step::FillPath { path: item.name.clone(), from: item.path.clone(), bytes, overwrites });
            }
        }
    }
    filled
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
    match draft.host.binds.get(path) {
        // That it does not answer is in the way, and told as that.
        _ if draft.host.silent.contains(path) => Fate::Write,
        _ if options.half_filled.contains(path) => Fate::Write,
        state if options.half_of_others.contains_key(path) && is_refused(state, options) => {
            let from = options.half_of_others.get(path).map_or("", String::as_str);
            Fate::Refuse(format!("a restore of another snapshot{from} has filled it in part: restore that one, or remove what is there"))
        }
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
