//! The newest snapshots that hold the items that are asked for, each of which may be in another one.

use super::newest::{Held, are_of_the_same};
use super::{Chosen, Item, SelectError};
use crate::model::text::printable;
use crate::repository::contract::Snapshot;

/// The newest complete snapshots that hold the items, and why one may not be the last state of its item.
pub(super) fn latest<E>(
    snapshots: &[&Snapshot],
    items: &[Item],
    holds: &mut impl FnMut(&Snapshot, &Item) -> Result<bool, E>,
) -> Result<Result<Chosen, SelectError>, E> {
    let mut newest_first = snapshots.to_vec();
    newest_first.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.time));
    let mut chosen = Chosen::default();
    for item in items {
        let found = match find(&newest_first, item, holds)? {
            Ok((found, warnings)) => {
                chosen.warnings.extend(warnings);
                found
            }
            Err(error) => return Ok(Err(error)),
        };
        if chosen.snapshots.iter().any(|snapshot| snapshot.id == found.id) {
            continue;
        }
        if let Some(other) = chosen.snapshots.iter().find(|one| one.application().is_some() && one.application() == found.application()) {
            chosen.warnings.push(format!(
                "{} is put together from two snapshots: the {} comes from {}, what was named before from {}",
                printable(found.application().unwrap_or_default().as_bytes()),
                item.label(),
                found.id.short(),
                other.id.short()
            ));
        }
        chosen.snapshots.push(found.clone());
    }
    Ok(Ok(chosen))
}

/// One item's.
fn find<'a, E>(
    newest_first: &[&'a Snapshot],
    item: &Item,
    holds: &mut impl FnMut(&Snapshot, &Item) -> Result<bool, E>,
) -> Result<Result<(&'a Snapshot, Vec<String>), SelectError>, E> {
    let (mut found, mut poor) = (None, None);
    let (mut partial, mut torn, mut without): (Vec<&Snapshot>, Vec<&Snapshot>, Vec<&Snapshot>) = Default::default();
    for snapshot in newest_first {
        let is_held = holds(snapshot, item)?;
        if snapshot.is_partial() {
            torn.push(snapshot);
            partial.extend(is_held.then_some(snapshot));
        } else if !is_held {
            // Nothing follows from one of only some items.
            without.extend(snapshot.is_whole().then_some(snapshot));
        } else if matches!(item, Item::Container(_)) && !snapshot.is_whole() && Held::by(snapshot).is_without_data() {
            poor.get_or_insert(*snapshot);
        } else {
            found = Some(*snapshot);
            break;
        }
    }
    let label = item.label();
    let Some(taken) = found.or(poor) else {
        return Ok(Err(SelectError::NotHeld { item: label, partial: partial.first().map(|one| one.id.clone()), meant: String::new() }));
    };
    let mut warnings = Vec::new();
    let id = taken.id.short();
    if let (Some(poor), Some(_)) = (poor, found) {
        warnings.push(format!("{label}: the newer snapshot {} has no volumes, so {id} is taken", poor.id.short()));
    }
    let newer = |list: &[&Snapshot]| {
        list.iter().find(|one| one.time > taken.time && are_of_the_same(one, taken)).map(|one| one.id.short().to_owned())
    };
    if let Some(newer) = newer(&torn) {
        warnings.push(format!("{label}: the newer snapshot {newer} is partial, so {id} is taken"));
    }
    if let Some(newer) = newer(&without) {
        warnings.push(format!("{label}: it is not in the newer snapshot {newer}, so {id} is taken"));
    }
    Ok(Ok((taken, warnings)))
}
