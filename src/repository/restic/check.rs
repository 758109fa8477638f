//! Looks for damage: what the index says against the packs that are there, every tree that a snapshot needs, and if wanted
//! every byte.
//!
//! Nothing is repaired here. Damage never ends a check: it becomes a sentence that names the pack, blob, snapshot or path.

mod affected;
mod packs;

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashSet;

use super::codec::BlobKind;
use super::file::SnapshotFile;
use super::id::{BuildIdHasher, Id};
use super::index::places::{Bits, Places};
use super::reader;
use super::state::{Indexed, Read};
use super::tree::Tree;
use crate::model::progress::{Event, Progress};
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::repository::contract::{CheckSummary, ReadData, RepositoryError};

/// Sentences that are kept of each sort; beyond that only their number is told.
const KEPT: usize = 1000;

/// Looks for damage. `index_errors` are what could not be loaded of the index. The snapshots were listed before it was loaded: it
/// knows all that they need, also while others write more of both.
///
/// # Errors
/// [`RepositoryError::Cancelled`], and [`RepositoryError::Storage`] if packs or snapshots cannot be listed. Damage is in the
/// summary.
pub fn check(
    repo: &Indexed,
    index_errors: &[RepositoryError],
    snapshots: Vec<(Id, Read<SnapshotFile>)>,
    read_data: ReadData,
    control: &Control,
    progress: &dyn Progress,
) -> Result<CheckSummary, RepositoryError> {
    let places = Places::of(repo.index());
    let found = Findings { bad: Mutex::new(Bad::of(&places)), ..Findings::default() };
    for error in index_errors {
        found.error(sentence(error));
    }
    let check = Check { repo, places, control, progress, found: &found };
    check.go_on()?;
    progress.event(Event::Phase("checking packs"));
    let mut sizes = packs::compare_with_index(&check)?;
    progress.event(Event::Phase("checking snapshots"));
    let snapshots = check.readable(snapshots);
    let used = check.trees(snapshots.iter().map(|(_, snapshot)| snapshot.tree));
    packs::find_unused(&check, &used)?;
    let mut summary = CheckSummary {
        snapshots: snapshots.len() as u64,
        packs: sizes.len() as u64,
        blobs_used: used.len() as u64,
        ..CheckSummary::default()
    };
    drop(used);
    packs::choose(&mut sizes, read_data)?;
    if !sizes.is_empty() {
        progress.event(Event::Phase("reading packs"));
        (summary.packs_read, summary.bytes_read) = packs::read(&check, &sizes)?;
    }
    let bad = std::mem::take(&mut *locked(&found.bad));
    if bad.any {
        progress.event(Event::Phase("finding the files that are affected"));
        affected::name(&check, &snapshots, &bad)?;
    }
    (summary.errors, summary.hints) = found.into_lists();
    Ok(summary)
}

/// What the parts of a check share.
struct Check<'a> {
    repo: &'a Indexed,
    places: Places<'a>,
    control: &'a Control,
    progress: &'a dyn Progress,
    found: &'a Findings,
}

/// Blobs that the snapshots use, by the first eight bytes of their ids: enough to count them and to say what nobody uses.
type Used = HashSet<u64, BuildIdHasher>;

fn short(kind: BlobKind, id: &Id) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.0[..8]);
    // A tree and a piece of a file may have the same bytes.
    u64::from_le_bytes(first) ^ u64::from(kind == BlobKind::Tree)
}

impl Check<'_> {
    fn go_on(&self) -> Result<(), RepositoryError> {
        Ok(self.control.checkpoint()?)
    }

    /// The snapshots that can be read; the others are damage.
    fn readable(&self, snapshots: Vec<(Id, Read<SnapshotFile>)>) -> Vec<(Id, SnapshotFile)> {
        let mut good = Vec::new();
        for (id, snapshot) in snapshots {
            match snapshot {
                Ok(snapshot) => good.push((id, snapshot)),
                Err(error) => self.found.error(format!("snapshot {}: {}", id.short(), sentence(&error))),
            }
        }
        good
    }

    /// Looks at every tree and returns what they use.
    fn trees(&self, roots: impl Iterator<Item = Id>) -> Used {
        let used = Mutex::new(Used::default());
        reader::each_tree(self.repo, roots, |id, tree| {
            match tree {
                Ok(tree) => self.tree(id, tree, &used),
                // Which one it is, and why, is told where it is missed.
                Err(_) => locked(&self.found.bad).any = true,
            }
            self.control.checkpoint().is_ok()
        });
        used.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn tree(&self, id: &Id, tree: &Tree, used: &Mutex<Used>) {
        for node in &tree.nodes {
            let mut size = Some(0);
            for blob in &node.content {
                let location = self.repo.index().lookup(BlobKind::Data, blob);
                if location.is_none() {
                    locked(&self.found.bad).any = true;
                }
                size = size.zip(location).map(|(size, location)| size + u64::from(location.plain_length()));
            }
            if let Some(size) = size.filter(|size| node.metadata.is_file() && *size != node.metadata.size) {
                let (name, told) = (printable(&node.name), node.metadata.size);
                self.found.error(format!("tree {id}: `{name}` is said to have {told} bytes, but its pieces have {size}"));
            }
            if let Err(error) = node.check_name() {
                self.found.error(format!("tree {id}: {error}"));
            }
            if node.metadata.is_dir() && node.subtree.is_none() {
                self.found.error(format!("tree {id}: the folder `{}` has no content", printable(&node.name)));
            }
        }
        if !tree.nodes.is_sorted_by(|a, b| a.name < b.name) {
            self.found.error(format!("tree {id}: its entries are not in order, or one is there twice"));
        }
        for unknown in &tree.unknown {
            let (name, kind) = (printable(&unknown.name), printable(unknown.kind.as_bytes()));
            self.found.error(format!("tree {id}: `{name}` has the type `{kind}`, which is not known"));
        }
        let mut used = locked(used);
        used.insert(short(BlobKind::Tree, id));
        used.extend(tree.nodes.iter().flat_map(|node| &node.content).map(|blob| short(BlobKind::Data, blob)));
    }
}

/// What was found; filled from several threads.
#[derive(Default)]
struct Findings {
    errors: Mutex<Sentences>,
    hints: Mutex<Sentences>,
    /// Blobs that are lost, and why. Who needs them is found out at the end.
    bad: Mutex<Bad>,
}

/// What is lost. All of a large repository may be: of each blob a bit is kept, and the reason where it cannot be found again.
#[derive(Default)]
struct Bad {
    /// Whether anything is.
    any: bool,
    /// Data blobs that are in an index, by the number of their first place.
    data: Bits,
    /// What is wrong with packs of which much is lost.
    packs: HashMap<Id, &'static str, BuildIdHasher>,
    /// What is wrong with the first data blobs that were found damaged.
    told: HashMap<Id, String, BuildIdHasher>,
}

impl Bad {
    fn of(places: &Places<'_>) -> Self {
        Self { data: Bits::new(places.len()), ..Self::default() }
    }

    /// A blob cannot be read from anywhere.
    fn add(&mut self, places: &Places<'_>, kind: BlobKind, id: &Id) {
        self.any = true;
        let place = places.find(kind, id);
        if kind == BlobKind::Data && !place.is_empty() {
            self.data.set(place.start);
        }
    }

    /// Why a data blob is lost; none if it is not.
    fn reason(&self, check: &Check<'_>, id: &Id) -> Option<String> {
        let place = check.places.find(BlobKind::Data, id);
        let Some(first) = check.repo.index().lookup(BlobKind::Data, id).filter(|_| !place.is_empty()) else {
            return Some(format!("data blob {id} is in no index"));
        };
        if !self.data.get(place.start) {
            return None;
        }
        let told = || self.told.get(id).cloned();
        let of_pack = || self.packs.get(&first.pack).map(|what| format!("pack {} {what}", first.pack));
        Some(told().or_else(of_pack).unwrap_or_else(|| format!("data blob {id} is damaged in pack {}", first.pack)))
    }
}

#[derive(Default)]
struct Sentences {
    kept: Vec<String>,
    more: u64,
}

impl Sentences {
    fn add(&mut self, sentence: String) {
        if self.kept.len() < KEPT {
            self.kept.push(sentence);
        } else {
            self.more += 1;
        }
    }

    fn into_list(mut self) -> Vec<String> {
        self.kept.sort();
        if self.more > 0 {
            self.kept.push(format!("and {} more", self.more));
        }
        self.kept
    }
}

impl Findings {
    fn error(&self, sentence: String) {
        locked(&self.errors).add(sentence);
    }

    fn hint(&self, sentence: String) {
        locked(&self.hints).add(sentence);
    }

    fn into_lists(self) -> (Vec<String>, Vec<String>) {
        let list = |sentences: Mutex<Sentences>| sentences.into_inner().unwrap_or_else(PoisonError::into_inner).into_list();
        (list(self.errors), list(self.hints))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its causes on one line.
fn sentence(error: &RepositoryError) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence = format!("{sentence}: {error}");
        cause = error.source();
    }
    sentence
}

#[cfg(test)]
mod tests;
