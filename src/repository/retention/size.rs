//! The limit on what the kept snapshots take: the oldest go until the rest fits.
//!
//! What a snapshot takes is measured by whoever has the repository.

use std::cmp::Reverse;

use super::{Decision, Plan, Reason};
use crate::model::size::ByteSize;
use crate::repository::contract::SnapshotId;

/// What the limit on the size came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct SizeOutcome {
    /// The limit.
    #[serde(serialize_with = "number")]
    pub limit: ByteSize,
    /// What all that is kept takes.
    #[serde(serialize_with = "number")]
    pub kept: ByteSize,
    /// Whether that is still more than the limit, as the rest must not go.
    pub exceeded: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn number<S: serde::Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(size.0)
}

impl Plan {
    /// Removes the oldest of what the rules keep until the rest takes no more than `limit`. What was pinned, has a tag to be
    /// kept, was overwritten by a restore, was made by a wrong clock or is needed for `min_keep` stays, and so does the newest of
    /// each group. What counts
    /// for no rule gets the room that is left, so that no other one goes for it.
    ///
    /// `measure` gets the ids that are kept in a certain order, and answers for each how many bytes it takes beyond all
    /// before it.
    ///
    /// # Errors
    /// Those of `measure`.
    pub fn limit_size<E>(&mut self, limit: ByteSize, measure: impl FnOnce(&[SnapshotId]) -> Result<Vec<u64>, E>) -> Result<SizeOutcome, E> {
        let mut order: Vec<Place> = Vec::new();
        for (group, decisions) in self.groups.iter().map(|group| &group.decisions).enumerate() {
            let newest = decisions.iter().position(Decision::counts).or_else(|| decisions.iter().position(|one| one.keep));
            for (at, decision) in decisions.iter().enumerate().filter(|(_, decision)| decision.keep) {
                let stays = Some(at) == newest || decision.reasons.iter().any(survives);
                order.push(Place { group, at, stays });
            }
        }
        // First what stays in any case; then the newest, so that what is only the old ones' comes last.
        order.sort_by_key(|place| {
            let decision = self.decision(place);
            (!decision.counts(), !place.stays, Reverse(decision.snapshot.time), decision.snapshot.id.clone())
        });
        let ids: Vec<SnapshotId> = order.iter().map(|place| self.decision(place).snapshot.id.clone()).collect();
        let mut kept = 0_u64;
        // Of those that count and of those that do not: whether one was too much, and so every older one is.
        let mut full = [false; 2];
        for (place, bytes) in order.iter().zip(measure(&ids)?) {
            let decision = &mut self.groups[place.group].decisions[place.at];
            let full = &mut full[usize::from(decision.counts())];
            *full |= !place.stays && kept.saturating_add(bytes) > limit.0;
            if *full && !place.stays {
                decision.keep = false;
                decision.reasons = vec![Reason::TooLarge(limit)];
            } else {
                kept = kept.saturating_add(bytes);
            }
        }
        self.keep_parents();
        Ok(SizeOutcome { limit, kept: ByteSize(kept), exceeded: kept > limit.0 })
    }

    fn decision(&self, place: &Place) -> &Decision {
        &self.groups[place.group].decisions[place.at]
    }
}

/// Where a decision stands.
struct Place {
    group: usize,
    at: usize,
    stays: bool,
}

/// Whether what is kept for this stays whatever it takes.
fn survives(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::Pinned
            | Reason::Tags(_)
            | Reason::MinKeep(_)
            | Reason::BeforeRestore
            | Reason::Future
            | Reason::BeforeParent(_)
            | Reason::ParentOf(_)
    )
}
