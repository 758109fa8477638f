//! The newest snapshot of one application, or of one set of paths: partial ones are never it, and one of only some items is it
//! only if there is no other.

use super::SelectError;
use crate::model::application::DOCKER_ROOT;
use crate::model::text::printable;
use crate::repository::contract::Snapshot;

/// The newest one, and what a person must know who thinks of it as the last state, one sentence each.
pub(super) struct Newest<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) warnings: Vec<String>,
}

/// The newest of snapshots that are of the same thing.
///
/// # Errors
/// All of them are partial, or there is none.
pub(super) fn newest<'a>(group: &[&'a Snapshot]) -> Result<Newest<'a>, SelectError> {
    let latest = |good: &dyn Fn(&Snapshot) -> bool| group.iter().copied().filter(|one| good(one)).max_by_key(|one| one.time);
    let Some(complete) = latest(&|one| !one.is_partial()) else {
        return Err(match latest(&|_| true) {
            Some(partial) => SelectError::OnlyPartial { newest: partial.id.clone() },
            None => SelectError::Empty { narrowed: true },
        });
    };
    let name = name(complete);
    let mut warnings = Vec::new();
    let snapshot = if let Some(whole) = latest(&|one| !one.is_partial() && one.is_whole()) {
        // What one run made is one restore point.
        let newer = complete.time > whole.time && (complete.run().is_none() || complete.run() != whole.run());
        if newer {
            let newer = complete.id.short();
            warnings.push(format!(
                    "{name}: {} is the newest snapshot of everything; the newer one {newer} is only of {}. `bbackup restore {newer}` takes that",
                    whole.id.short(),
                    Held::by(complete).words()
                ));
        }
        whole
    } else {
        // Containers without their data, or data without containers, are the poorer choice.
        let chosen = latest(&|one| !one.is_partial() && Held::by(one).is_both()).unwrap_or(complete);
        let held = Held::by(chosen).words();
        warnings.push(format!("{name}: there is no snapshot of everything; {} is taken, which is only of {held}", chosen.id.short()));
        chosen
    };
    if let Some(partial) = latest(&|one| one.is_partial()).filter(|partial| partial.time > snapshot.time) {
        warnings.push(format!("{name}: the newer snapshot {} is partial, so {} is taken", partial.id.short(), snapshot.id.short()));
    }
    Ok(Newest { snapshot, warnings })
}

/// Whether two snapshots are of the same thing: of one application, or else of the same paths, of one host.
pub(super) fn are_of_the_same(one: &Snapshot, other: &Snapshot) -> bool {
    let paths = || one.application().is_some() || one.paths == other.paths;
    one.host == other.host && one.application() == other.application() && paths()
}

/// What snapshots are of, for people.
pub(super) fn name(snapshot: &Snapshot) -> String {
    let name = snapshot.application().map_or_else(|| snapshot.paths.join(", "), str::to_owned);
    printable(name.as_bytes())
}

/// How many things of each kind a snapshot of some items is of.
#[derive(Default)]
pub(super) struct Held {
    containers: usize,
    volumes: usize,
    networks: usize,
    binds: usize,
}

impl Held {
    pub(super) fn by(snapshot: &Snapshot) -> Self {
        let mut held = Self::default();
        for path in &snapshot.paths {
            let inside = path.strip_prefix(DOCKER_ROOT).and_then(|path| path.strip_prefix('/')).unwrap_or_default();
            let parts: Vec<&str> = inside.split('/').skip(1).collect();
            match parts.as_slice() {
                ["containers", _, "inspect.json"] => held.containers += 1,
                ["volumes", _] => held.volumes += 1,
                ["networks", _] => held.networks += 1,
                ["binds", ..] => held.binds += 1,
                _ => {}
            }
        }
        held
    }

    fn is_both(&self) -> bool {
        self.containers > 0 && self.volumes + self.binds > 0
    }

    /// Whether there are containers, and no data of any.
    pub(super) fn is_without_data(&self) -> bool {
        self.containers > 0 && self.volumes + self.binds == 0
    }

    fn words(&self) -> String {
        let kinds = [(self.containers, "container"), (self.volumes, "volume"), (self.binds, "bind mount"), (self.networks, "network")];
        let words: Vec<String> = kinds
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}{}", if *count == 1 { "" } else { "s" }))
            .collect();
        if words.is_empty() { "other items".to_owned() } else { words.join(", ") }
    }
}
