//! Which packs stay, which are written anew and which go.
//!
//! Nothing is read here but the list of packs.

use std::collections::HashMap;

use super::Plan;
use super::used::Problems;
use crate::repository::backend::FileKind;
use crate::repository::contract::RepositoryError;
use crate::repository::contract::prune::{MaxUnused, PruneRequest};
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::lock::Guard;
use crate::repository::restic::pack;

/// Small packs are left alone unless there are at least so many.
const FEW: usize = 10;
/// Entries of the index that are counted between two looks at whether to go on: some milliseconds' worth.
const BETWEEN_LOOKS: usize = 1 << 16;

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Fate {
    /// It stays as it is.
    #[default]
    Keep,
    /// What is used of it goes into a new pack.
    Repack,
    /// Nothing of it is used.
    Remove,
}

/// What is known of a pack, and what becomes of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PackPlan {
    /// Bytes on disk; zero if it is missing.
    pub(super) size: u64,
    /// Bytes by the index.
    expected: u64,
    /// Bytes of blobs that are kept.
    used: u64,
    /// Number of blobs that are kept.
    pub(super) used_blobs: u32,
    /// Number of all blobs in it.
    pub(super) blobs: u32,
    has_data: bool,
    has_trees: bool,
    pub(super) fate: Fate,
}

impl PackPlan {
    /// What goes if it is written anew.
    fn unused(&self) -> u64 {
        if self.used_blobs == self.blobs { 0 } else { self.size.saturating_sub(self.used) }
    }

    fn is_mixed(&self) -> bool {
        self.has_data && self.has_trees
    }
}

/// Fills in the plan.
///
/// # Errors
/// [`RepositoryError::Refused`] if packs that are needed are missing or have another size, and if packs cannot be listed; what
/// [`Guard`] says.
pub(super) fn choose(plan: &mut Plan<'_>, request: &PruneRequest, pack_size: usize, guard: Guard<'_>) -> Result<(), RepositoryError> {
    count(plan, guard)?;
    compare_with_disk(plan)?;
    decide(plan, request, pack_size as u64);
    sum_up(plan);
    Ok(())
}

/// Counts what is used of each pack. Of a blob with several places one is chosen, and only its bit stays set.
fn count(plan: &mut Plan<'_>, guard: Guard<'_>) -> Result<(), RepositoryError> {
    let sizes = sizes_on_disk(plan)?;
    let empty = pack::pack_size([]);
    let start = |id: &Id| PackPlan { size: sizes.get(id).copied().unwrap_or(0), expected: empty, ..PackPlan::default() };
    let mut packs: Vec<PackPlan> = plan.places.packs().iter().map(start).collect();
    // Used blobs with several places: where their numbers begin, and the packs.
    let mut several: Vec<(usize, Vec<u32>, u32)> = Vec::new();
    let mut places = plan.places.iter().peekable();
    let mut looked_at = 0;
    while let Some(first) = places.next() {
        if first.number >= looked_at {
            guard.check()?;
            looked_at = first.number + BETWEEN_LOOKS;
        }
        let mut copies = Vec::new();
        let mut count_place = |pack: u32, blob: &pack::PackedBlob| {
            let Some(pack) = packs.get_mut(pack as usize) else { return };
            pack.expected += pack::pack_size([blob]) - empty;
            pack.blobs += 1;
            pack.has_data |= blob.kind == BlobKind::Data;
            pack.has_trees |= blob.kind == BlobKind::Tree;
        };
        count_place(first.pack, &first.blob);
        while let Some(copy) = places.next_if(|next| next.blob.id == first.blob.id && next.blob.kind == first.blob.kind) {
            count_place(copy.pack, &copy.blob);
            copies.push(copy.pack);
        }
        let used = plan.kept.get(first.number);
        let copies_count = copies.len() as u64;
        if !used {
            plan.summary.blobs_unused += 1 + copies_count;
        } else if copies.is_empty() {
            let pack = &mut packs[first.pack as usize];
            pack.used += u64::from(first.blob.length);
            pack.used_blobs += 1;
        } else {
            plan.summary.blobs_duplicate += copies_count;
            copies.insert(0, first.pack);
            several.push((first.number, copies, first.blob.length));
        }
    }
    drop(places);
    // Where most is used anyway, and among equals where least is unused, the copy is least likely to be moved.
    let mut extra: Vec<(u32, u32)> = Vec::with_capacity(several.len());
    for (number, copies, length) in several {
        let rank = |pack: u32| {
            let pack = &packs[pack as usize];
            (pack.size == pack.expected, pack.used, std::cmp::Reverse(pack.expected))
        };
        let best = (0..copies.len()).max_by_key(|copy| rank(copies[*copy])).unwrap_or(0);
        plan.kept.clear(number);
        plan.kept.set(number + best);
        plan.chosen.push(number + best);
        extra.push((copies[best], length));
    }
    for (pack, length) in extra {
        packs[pack as usize].used += u64::from(length);
        packs[pack as usize].used_blobs += 1;
    }
    plan.packs = packs;
    Ok(())
}

fn sizes_on_disk(plan: &mut Plan<'_>) -> Result<HashMap<Id, u64, BuildIdHasher>, RepositoryError> {
    let sizes: HashMap<Id, u64, BuildIdHasher> = plan.repo.list_sizes(FileKind::Pack)?.into_iter().collect();
    plan.summary.packs_before = sizes.len() as u64;
    plan.summary.bytes_before = sizes.values().sum();
    let mut unindexed = sizes.clone();
    for id in plan.places.packs() {
        unindexed.remove(id);
    }
    plan.summary.packs_unindexed = unindexed.len() as u64;
    plan.summary.bytes_unused = unindexed.values().sum();
    plan.unindexed = unindexed.into_keys().collect();
    plan.unindexed.sort_unstable();
    Ok(sizes)
}

/// A pack of which something is used must be there, and whole.
fn compare_with_disk(plan: &Plan<'_>) -> Result<(), RepositoryError> {
    let problems = Problems::default();
    for (pack, id) in plan.packs.iter().zip(plan.places.packs()) {
        if pack.used_blobs == 0 || pack.size == pack.expected {
            continue;
        }
        problems.add(match pack.size {
            0 => format!("pack {id} is missing: {} of its blobs are used", pack.used_blobs),
            size => format!("pack {id} has {size} bytes, but {} by the index", pack.expected),
        });
    }
    problems.refuse("the packs are not as the index says, so nothing is removed")
}

fn decide(plan: &mut Plan<'_>, request: &PruneRequest, pack_size: u64) {
    let mut candidates: Vec<usize> = Vec::new();
    let mut small: Vec<usize> = Vec::new();
    let mut unused: u64 = 0;
    for (number, pack) in plan.packs.iter_mut().enumerate() {
        if pack.used_blobs == 0 {
            pack.fate = Fate::Remove;
            continue;
        }
        unused += pack.unused();
        if request.repack_cacheable_only && !pack.has_trees {
            continue;
        }
        if pack.used_blobs < pack.blobs || pack.is_mixed() {
            candidates.push(number);
        } else if request.repack_small && pack.size < pack_size {
            small.push(number);
        }
    }
    // One small pack alone would be written anew for nothing; and each run leaves one.
    if small.len() >= FEW {
        candidates.append(&mut small);
    }
    let packs = &mut plan.packs;
    // Folders first: they are read often, and a cache holds whole packs. Then where most is gained for what is written.
    let gain = |pack: &PackPlan| pack.unused() as f64 / pack.size.max(1) as f64;
    candidates.sort_by(|a, b| {
        let (a, b) = (&packs[*a], &packs[*b]);
        b.has_trees.cmp(&a.has_trees).then_with(|| gain(b).total_cmp(&gain(a)))
    });
    let used: u64 = packs.iter().map(|pack| pack.used).sum();
    let allowed = allowed(request.max_unused, used);
    let most = request.max_repack_bytes.unwrap_or(u64::MAX);
    let mut read: u64 = 0;
    for number in candidates {
        let pack = &mut packs[number];
        let too_much = read.saturating_add(pack.size) > most;
        let enough = unused <= allowed && !pack.has_trees && !(request.repack_small && pack.size < pack_size);
        if too_much || enough {
            continue;
        }
        read += pack.size;
        unused -= pack.unused();
        pack.fate = Fate::Repack;
    }
}

/// Bytes that may stay unused.
fn allowed(most: MaxUnused, used: u64) -> u64 {
    match most {
        MaxUnused::Unlimited => u64::MAX,
        MaxUnused::Bytes(bytes) => bytes,
        // Per cent of what is there afterwards, used and unused together.
        MaxUnused::Percent(percent) if percent >= 100.0 => u64::MAX,
        MaxUnused::Percent(percent) => (used as f64 * percent / (100.0 - percent)) as u64,
    }
}

fn sum_up(plan: &mut Plan<'_>) {
    let summary = &mut plan.summary;
    for pack in &plan.packs {
        summary.bytes_used += pack.size.saturating_sub(pack.unused()).min(if pack.used_blobs == 0 { 0 } else { u64::MAX });
        summary.bytes_unused += if pack.used_blobs == 0 { pack.size } else { pack.unused() };
        match pack.fate {
            Fate::Keep => {
                summary.packs_kept += 1;
                summary.bytes_after += pack.size;
                summary.bytes_unused_after += pack.unused();
            }
            Fate::Repack => {
                summary.packs_repacked += 1;
                summary.bytes_repacked += pack.size;
                summary.bytes_after += pack.size - pack.unused();
                summary.blobs_repacked += u64::from(pack.used_blobs);
            }
            Fate::Remove => summary.packs_unused += 1,
        }
    }
    summary.bytes_freed = summary.bytes_before.saturating_sub(summary.bytes_after);
}
