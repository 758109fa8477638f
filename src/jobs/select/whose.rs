//! Whose snapshots `latest` looks at: those of this host before any other's, and those made by a clock that was right before
//! those of the future.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::newest::{are_of_the_same, name};
use super::{Chosen, Request, SelectError};
use crate::model::text::printable;
use crate::repository::contract::Snapshot;

/// How far two clocks may be apart before one of them is wrong.
const TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// Whether a snapshot was made by a clock that was ahead, or the clock of now is behind.
pub fn is_ahead(snapshot: &Snapshot, now: Timestamp) -> bool {
    snapshot.time.duration_since(now) > TOLERANCE
}

impl Request<'_> {
    /// Whether a snapshot is of this host.
    pub(super) fn is_own(&self, snapshot: &Snapshot) -> bool {
        snapshot.host == self.host || snapshot.application().is_none() && snapshot.host == self.machine
    }

    fn what(&self) -> String {
        match self.items {
            [] => "what is asked for".to_owned(),
            items => format!("the {}", items.iter().map(super::Item::label).collect::<Vec<_>>().join(", the ")),
        }
    }
}

/// Chooses among what a clock that was right has made, and says so where there is something of the future. That counts
/// only where there is nothing else.
pub(super) fn of_right_clocks<E>(
    left: Vec<&Snapshot>,
    now: Timestamp,
    choose: impl FnOnce(&[&Snapshot]) -> Result<Chosen, E>,
) -> Result<Chosen, E> {
    let (ahead, right): (Vec<&Snapshot>, Vec<&Snapshot>) = left.into_iter().partition(|one| is_ahead(one, now));
    let is_replaced = |one: &Snapshot| right.iter().any(|other| !other.is_partial() && are_of_the_same(one, other));
    let (passed_over, only): (Vec<&Snapshot>, Vec<&Snapshot>) = ahead.into_iter().partition(|one| is_replaced(one));
    let mut chosen = choose(&[right, only].concat())?;
    for one in &chosen.snapshots {
        let (name, id) = (name(one), one.id.short());
        if is_ahead(one, now) {
            chosen.warnings.push(format!("{name}: {id} is dated in the future, and there is no other: a clock was wrong, or is wrong now"));
        } else if let Some(other) = passed_over.iter().rev().find(|other| are_of_the_same(one, other)) {
            let ahead = other.id.short();
            chosen.warnings.push(format!(
                "{name}: {ahead} is dated in the future, so {id} is taken: a clock was wrong, or is wrong now. `{ahead}` instead of `latest` takes that one"
            ));
        }
    }
    Ok(chosen)
}

/// Chooses among the snapshots of this host. Where it has nothing of what is asked for, the only other host that has it is
/// taken, with a warning.
pub(super) fn first_of_this_host<E: From<SelectError>>(
    left: &[&Snapshot],
    request: &Request<'_>,
    mut choose: impl FnMut(&[&Snapshot]) -> Result<Result<Chosen, SelectError>, E>,
) -> Result<Chosen, E> {
    let (own, foreign): (Vec<&Snapshot>, Vec<&Snapshot>) = left.iter().partition(|one| request.is_own(one));
    let missing = match choose(&own)? {
        Ok(chosen) => return Ok(chosen),
        Err(error @ (SelectError::Empty { .. } | SelectError::NotHeld { partial: None, .. })) => error,
        Err(error) => return Err(error.into()),
    };
    let mut error = (!own.is_empty()).then_some(missing);
    let mut found: Vec<(&str, Chosen)> = Vec::new();
    for host in foreign.iter().map(|one| one.host.as_str()).collect::<BTreeSet<_>>() {
        let of_host: Vec<&Snapshot> = foreign.iter().filter(|one| one.host == host).copied().collect();
        match choose(&of_host)? {
            Ok(chosen) => found.push((host, chosen)),
            Err(other) => {
                error.get_or_insert(other);
            }
        }
    }
    if found.len() > 1 {
        let others = found.into_iter().map(|(host, _)| printable(host.as_bytes())).collect();
        return Err(SelectError::SeveralHosts { host: printable(request.host.as_bytes()), what: request.what(), others }.into());
    }
    let Some((host, mut chosen)) = found.pop() else { return Err(error.unwrap_or(SelectError::Empty { narrowed: true }).into()) };
    for snapshot in &chosen.snapshots {
        chosen.warnings.push(format!("{} is of the host {}", snapshot.id.short(), printable(host.as_bytes())));
    }
    Ok(chosen)
}
