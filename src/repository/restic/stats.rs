//! Numbers about a repository: as a whole, for each application, and what each snapshot added.
//!
//! Only counting; looking for damage is `check`'s business.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::codec::BlobKind;
use super::id::{BuildIdHasher, Id};
use super::index::Index;
use super::index::places::Places;
use super::reader;
use super::state::Indexed;
use super::tree::Tree;
use crate::platform::control::Control;
use crate::repository::backend::FileKind;
use crate::repository::contract::stats::{GroupStats, RepositoryStats, SnapshotGrowth};
use crate::repository::contract::{Problem, RepositoryError, Snapshot, SnapshotId};

/// Problems that are kept.
const MAX_PROBLEMS: usize = 1000;

/// What one tree holds, without what its folders hold.
struct Own {
    files: u64,
    bytes: u64,
    folders: Vec<Id>,
}

type Ids<T> = HashMap<Id, T, BuildIdHasher>;

/// Counts. `snapshots` are those of the repository with their trees, oldest first. Every tree is read once for each group that has it, which is
/// nearly always one. What is in a tree that cannot be read is not counted, and told.
///
/// # Errors
/// Packs could not be listed, or it was cancelled.
pub fn stats(repo: &Indexed, snapshots: Vec<(Snapshot, Id)>, control: &Control) -> Result<RepositoryStats, RepositoryError> {
    let mut stats = RepositoryStats { snapshots: snapshots.len() as u64, ..RepositoryStats::default() };
    let list = repo.backend().list(FileKind::Pack);
    let packs = list.map_err(|source| RepositoryError::Storage { action: "list", file: "packs".to_owned(), source })?;
    stats.packs = packs.len() as u64;
    stats.stored_bytes = packs.iter().map(|(_, size)| size).sum();
    let index = repo.index();
    stats.blobs = index.len() as u64;
    // A blob that stands in several packs is still one blob.
    stats.raw_bytes = index
        .blobs()
        .filter(|(pack, blob)| is_first(index, blob.kind, &blob.id, pack, blob.offset))
        .map(|(_, blob)| u64::from(blob.plain_length()))
        .sum();

    let mut groups: BTreeMap<(String, Option<String>, Vec<String>), Vec<usize>> = BTreeMap::new();
    for (number, (snapshot, _)) in snapshots.iter().enumerate() {
        let application = snapshot.application().map(str::to_owned);
        let paths = if application.is_some() { Vec::new() } else { snapshot.paths.clone() };
        groups.entry((snapshot.host.clone(), application, paths)).or_default().push(number);
    }
    let places = Places::of(index);
    let uses = Uses { loaded: vec![Use::NONE; places.len()], added: Default::default() };
    let mut counter =
        Counter { repo, places, trees: Mutex::default(), totals: Ids::default(), uses: Mutex::new(uses), lost: Mutex::default() };
    for (number, ((host, application, paths), members)) in groups.into_iter().enumerate() {
        let mut group = GroupStats { application, host, paths, snapshots: members.len() as u64, ..GroupStats::default() };
        let seen = Mutex::new(HashSet::default());
        for member in members {
            control.checkpoint()?;
            let (snapshot, tree) = &snapshots[member];
            counter.walk(*tree, number as u32, (member as u32, &snapshot.id), &seen, &mut group, control)?;
            (group.latest_files, group.latest_bytes) = counter.total(tree);
            group.restore_bytes = group.restore_bytes.saturating_add(group.latest_bytes);
        }
        stats.groups.push(group);
    }
    counter.finish(&mut stats, snapshots);
    Ok(stats)
}

fn is_first(index: &Index, kind: BlobKind, id: &Id, pack: &Id, offset: u32) -> bool {
    index.lookup(kind, id).is_some_and(|first| first.pack == *pack && first.offset == offset)
}

/// Who uses a blob. There is one for each, so it is small.
#[derive(Clone, Copy)]
struct Use {
    /// Number of the oldest snapshot that does; [`UNUSED`] if none does.
    first: u32,
    /// The group that was last seen to do, and [`SHARED`] if others do, too.
    group: u32,
}

const UNUSED: u32 = u32::MAX;
const SHARED: u32 = 1 << 31;

impl Use {
    const NONE: Self = Self { first: UNUSED, group: 0 };

    /// Notes a use; true if it is the group's first.
    fn note(&mut self, group: u32, snapshot: u32) -> bool {
        let is_new = self.first == UNUSED;
        let is_new_here = is_new || self.group & !SHARED != group;
        let shared = if is_new { 0 } else { (self.group & SHARED) | if is_new_here { SHARED } else { 0 } };
        *self = Self { first: self.first.min(snapshot), group: group | shared };
        is_new_here
    }
}

/// Who uses each blob.
#[derive(Default)]
struct Uses {
    /// By the number of a blob's first place in the index that was loaded.
    loaded: Vec<Use>,
    /// Of what was added to the index since; data blobs, then trees.
    added: [Ids<Use>; 2],
}

struct Counter<'a> {
    repo: &'a Indexed,
    places: Places<'a>,
    trees: Mutex<Ids<Own>>,
    /// Files and bytes in a tree and all below it.
    totals: Ids<(u64, u64)>,
    uses: Mutex<Uses>,
    lost: Mutex<Lost>,
}

/// Trees that could not be counted, or not wholly.
#[derive(Default)]
struct Lost {
    trees: HashSet<Id, BuildIdHasher>,
    problems: Vec<Problem>,
}

impl Lost {
    fn add(&mut self, tree: &Id, snapshot: &SnapshotId, error: &RepositoryError) {
        // Each group that has it comes to it.
        if self.trees.insert(*tree) && self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { path: format!("snapshot {}", snapshot.short()), message: error.to_string() });
        }
    }
}

fn lengths(repo: &Indexed, kind: BlobKind, id: &Id) -> Result<(u64, u64), RepositoryError> {
    let location = repo.index().lookup(kind, id);
    let location = location.ok_or_else(|| RepositoryError::BlobMissing { kind: kind.word(), id: id.to_string() })?;
    Ok((u64::from(location.plain_length()), u64::from(location.length)))
}

impl Counter<'_> {
    /// Reads the trees of a snapshot (its number and its name) that none of its group had before.
    fn walk(
        &mut self,
        root: Id,
        group: u32,
        (number, snapshot): (u32, &SnapshotId),
        seen: &Mutex<HashSet<Id, BuildIdHasher>>,
        stats: &mut GroupStats,
        control: &Control,
    ) -> Result<(), RepositoryError> {
        let failed: Mutex<Option<RepositoryError>> = Mutex::default();
        let sums = Mutex::new((0_u64, 0_u64));
        let lost = |id: &Id, error: &RepositoryError| self.lost.lock().unwrap_or_else(PoisonError::into_inner).add(id, snapshot, error);
        let visit = |id: &Id, tree: &Tree| -> Result<(), RepositoryError> {
            control.checkpoint()?;
            let (raw, stored, missing) = self.count(id, tree, group, number);
            if let Some(error) = missing {
                lost(id, &error);
            }
            let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
            *sums = (sums.0 + raw, sums.1 + stored);
            Ok(())
        };
        let claim = |id: &Id| seen.lock().unwrap_or_else(PoisonError::into_inner).insert(*id);
        reader::each_claimed_tree(self.repo, [root], claim, |id, tree| {
            let counted = match tree {
                Ok(tree) => visit(id, tree),
                Err(error) => {
                    lost(id, &error);
                    control.checkpoint().map_err(RepositoryError::from)
                }
            };
            let go_on = counted.is_ok();
            if let Err(error) = counted {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
            go_on
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let (raw, stored) = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        stats.raw_bytes += raw;
        stats.stored_bytes += stored;
        Ok(())
    }

    /// Counts one tree and its files' blobs; gives the bytes, raw and stored, that are new to the group, and the first blob that is
    /// missing.
    fn count(&self, id: &Id, tree: &Tree, group: u32, snapshot: u32) -> (u64, u64, Option<RepositoryError>) {
        let files = || tree.nodes.iter().filter(|node| node.metadata.is_file());
        let own = Own {
            files: files().count() as u64,
            bytes: files().map(|node| node.metadata.size).fold(0, u64::saturating_add),
            folders: tree.nodes.iter().filter_map(|node| node.subtree).collect(),
        };
        self.trees.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, own);
        let mut sums = (0, 0, None);
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let blobs = files().flat_map(|file| &file.content).map(|blob| (BlobKind::Data, blob)).chain([(BlobKind::Tree, id)]);
        for (kind, blob) in blobs {
            let place = self.places.find(kind, blob);
            let known = match uses.loaded.get_mut(place.start).filter(|_| !place.is_empty()) {
                Some(known) => known,
                None => uses.added[usize::from(kind == BlobKind::Tree)].entry(*blob).or_insert(Use::NONE),
            };
            let is_new_here = known.note(group, snapshot);
            if is_new_here {
                match lengths(self.repo, kind, blob) {
                    Ok((raw, stored)) => sums = (sums.0 + raw, sums.1 + stored, sums.2),
                    Err(error) => sums.2 = sums.2.or(Some(error)),
                }
            }
        }
        sums
    }

    /// Files and bytes in a tree and all below it. The folders of a tree are counted before the tree itself.
    fn total(&mut self, root: &Id) -> (u64, u64) {
        let trees = self.trees.get_mut().unwrap_or_else(PoisonError::into_inner);
        let totals = &mut self.totals;
        let mut stack = vec![(*root, false)];
        while let Some((id, folders_done)) = stack.pop() {
            if totals.contains_key(&id) {
                continue;
            }
            let Some(own) = trees.get(&id) else { continue };
            if folders_done {
                let folders = own.folders.iter().filter_map(|folder| totals.get(folder));
                let add = |sum: (u64, u64), folder: &(u64, u64)| (sum.0.saturating_add(folder.0), sum.1.saturating_add(folder.1));
                let sum = folders.fold((own.files, own.bytes), add);
                totals.insert(id, sum);
            } else {
                stack.push((id, true));
                stack.extend(own.folders.iter().map(|folder| (*folder, false)));
            }
        }
        totals.get(root).copied().unwrap_or_default()
    }

    /// Fills in what is known only when all groups were counted.
    fn finish(mut self, stats: &mut RepositoryStats, snapshots: Vec<(Snapshot, Id)>) {
        let mut added = vec![(0_u64, 0_u64); snapshots.len()];
        let uses = std::mem::take(self.uses.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut count = |used: Use, (raw, stored): (u64, u64)| {
            stats.used_raw_bytes += raw;
            stats.used_stored_bytes += stored;
            if let Some(added) = added.get_mut(used.first as usize) {
                *added = (added.0 + raw, added.1 + stored);
            }
            if let Some(group) = stats.groups.get_mut(used.group as usize).filter(|_| used.group & SHARED == 0) {
                group.own_stored_bytes += stored;
            }
        };
        for (place, used) in self.places.iter().zip(uses.loaded).filter(|(_, used)| used.first != UNUSED) {
            count(used, (u64::from(place.blob.plain_length()), u64::from(place.blob.length)));
        }
        for (kind, uses) in [BlobKind::Data, BlobKind::Tree].into_iter().zip(uses.added) {
            for (id, used) in uses {
                // One that is missing was told where it was missed.
                if let Ok(lengths) = lengths(self.repo, kind, &id) {
                    count(used, lengths);
                }
            }
        }
        let lost = std::mem::take(self.lost.get_mut().unwrap_or_else(PoisonError::into_inner));
        (stats.problem_count, stats.problems) = (lost.trees.len() as u64, lost.problems);
        let mut stored_total = 0;
        for ((snapshot, tree), (raw_added, stored_added)) in snapshots.into_iter().zip(added) {
            let (files, restore_bytes) = self.total(&tree);
            stored_total += stored_added;
            stats.files = stats.files.saturating_add(files);
            stats.restore_bytes = stats.restore_bytes.saturating_add(restore_bytes);
            let application = snapshot.application().map(str::to_owned);
            let (id, time) = (snapshot.id, snapshot.time);
            stats.growth.push(SnapshotGrowth { id, time, application, files, restore_bytes, raw_added, stored_added, stored_total });
        }
    }
}
