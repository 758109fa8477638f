//! Finds what stands in the way of new names: of compose projects, and of two things that would have the same.
//!
//! Which new names there are is found out in `naming`; names that are taken by containers, volumes and networks in `checks`.

use std::collections::BTreeSet;

use super::Conflict;
use super::build::Draft;

/// Checks the new names of projects, volumes and networks.
pub(super) fn check(draft: &mut Draft<'_>) {
    for (kind, names) in [
        ("volume", draft.volumes.keys().map(|name| draft.names.volume(name)).collect::<Vec<_>>()),
        ("network", draft.networks.keys().map(|name| draft.names.network(name)).collect()),
    ] {
        let mut seen = BTreeSet::new();
        for name in names.iter().filter(|name| !seen.insert(*name)) {
            draft.conflict(Conflict::Twice { what: format!("{kind} {name}") });
        }
    }
    // Those that nobody asked for were chosen to be free.
    let is_asked =
        |(old, new): &(&String, &String)| old != new && draft.options.renames.iter().any(|(from, to)| (from, to) == (*old, *new));
    let asked: Vec<String> = draft.naming.projects.iter().filter(is_asked).map(|(_, new)| new.clone()).collect();
    for name in asked {
        if let Some(reason) = why_not(draft, &name) {
            draft.conflict(Conflict::ProjectName { name, reason });
        }
    }
}

/// Why a project cannot be called so.
fn why_not(draft: &Draft<'_>, name: &str) -> Option<String> {
    if !is_project_name(name) {
        return Some("lower-case letters, digits, `_` and `-` can be in it, the first a letter or digit".to_owned());
    }
    if draft.options.in_place {
        return None;
    }
    // What has the name of something that is restored is told as that.
    let containers: BTreeSet<String> = draft.containers.iter().map(|chosen| draft.names.container(&chosen.container.name)).collect();
    let volumes: BTreeSet<String> = draft.volumes.keys().map(|name| draft.names.volume(name)).collect();
    let networks: BTreeSet<String> = draft.networks.keys().map(|name| draft.names.network(name)).collect();
    let is_restored = |(kind, name): &(&str, &str)| match *kind {
        "container" => containers.contains(*name),
        "volume" => volumes.contains(*name),
        _ => networks.contains(*name),
    };
    let other = draft.host.of_project(name).into_iter().find(|one| !is_restored(one));
    let of_project = other.map(|(kind, name)| format!("{kind} {name} is of a project of that name already"));
    // Else that container would be another application from then on, and its next backup another's.
    let is_called_so =
        || draft.host.container(name).filter(|there| there.project.is_none()).map(|_| "a container has that name".to_owned());
    of_project.or_else(is_called_so)
}

/// What compose takes as the name of a project: `[a-z0-9][a-z0-9_-]*`.
fn is_project_name(name: &str) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.as_bytes().first().is_some_and(is_plain) && name.bytes().all(|byte| is_plain(&byte) || b"_-".contains(&byte))
}
