//! Snapshots without what is lost: trees that cannot be read become empty folders, files lose the pieces that no index knows.
//!
//! Trees are changed as JSON, node by node, so that everything that is not lost stays byte for byte what its writer wrote.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{KEPT, confirmed, is_damage};
use crate::model::compression::Compression;
use crate::model::progress::{Event, Progress};
use crate::model::text::printable;
use crate::repository::backend::FileKind;
use crate::repository::contract::repair::{DamagedSnapshot, RepairSnapshotsRequest, RepairSnapshotsSummary};
use crate::repository::contract::{Problem, RepositoryError, SnapshotId, TAG_PARTIAL, TAG_REPAIRED};
use crate::repository::restic::codec::{BlobKind, Encoder};
use crate::repository::restic::file::{self, SnapshotFile};
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::lock::Guard;
use crate::repository::restic::pack::PackedBlob;
use crate::repository::restic::state::Indexed;
use crate::repository::restic::writer::{IndexCollector, PackPair};

/// The tree of an empty folder.
const EMPTY: &[u8] = b"{\"nodes\":[]}\n";
/// Folders in folders that are followed, as in every walk.
const MAX_DEPTH: usize = 4096;

/// Writes successors of damaged snapshots. `repo` has its whole index, loaded under the lock of `guard`.
///
/// # Errors
/// [`RepositoryError::Refused`] if the index names packs that are not there, as then nobody knows what is lost;
/// [`RepositoryError::NoSnapshot`] and [`RepositoryError::AmbiguousSnapshot`]; the storage failed; what [`Guard`] says.
pub fn repair(
    repo: &Indexed,
    request: &RepairSnapshotsRequest,
    pack_size: usize,
    guard: Guard<'_>,
    progress: &dyn Progress,
) -> Result<RepairSnapshotsSummary, RepositoryError> {
    guard.check()?;
    refuse_without_packs(repo)?;
    progress.event(Event::Phase("looking at snapshots"));
    let all = repo.snapshot_files()?;
    let wanted = choose(&all, &request.snapshots)?;
    let mut repair = Repair {
        repo,
        guard,
        dry_run: request.dry_run,
        pack_size,
        encoder: Encoder::new(Compression::Auto, repo.version(), true),
        trees: HashMap::default(),
        packs: PackPair::default(),
        indexes: IndexCollector::new(request.dry_run),
        lost: Vec::new(),
        lost_count: 0,
        only_sizes: true,
        empty_written: false,
    };
    let mut summary = RepairSnapshotsSummary {
        dry_run: request.dry_run,
        snapshots: wanted.len() as u64,
        damaged: Vec::new(),
        empty_folder_written: false,
    };
    let mut successors: Vec<(usize, SnapshotFile)> = Vec::new();
    for (id, snapshot) in all.iter().filter(|(id, _)| wanted.contains(id)) {
        let again = if snapshot.is_err() { Some(confirmed(|| repo.snapshot(id))) } else { None };
        let snapshot = match again.as_ref().unwrap_or(snapshot) {
            Ok(snapshot) => snapshot,
            Err(error @ RepositoryError::Damaged { .. }) => {
                let lost = Problem { path: "/".to_owned(), message: error.with_causes() };
                summary.damaged.push(damaged(id, true, vec![lost], 1));
                continue;
            }
            Err(error) => {
                let message = error.with_causes();
                return Err(RepositoryError::Refused {
                    reason: format!("snapshot {} cannot be read", id.short()),
                    problems: vec![message],
                });
            }
        };
        let outcome = repair.walk(snapshot.tree)?;
        let (lost, count) = (std::mem::take(&mut repair.lost), std::mem::take(&mut repair.lost_count));
        match outcome {
            Outcome::Same => {}
            Outcome::Lost => summary.damaged.push(damaged(id, true, lost, count)),
            Outcome::New(tree) => {
                let mut entry = damaged(id, false, lost, count);
                let successor = successor(id, snapshot, tree, !repair.only_sizes);
                let before = all.iter().find(|(other, file)| other != id && file.as_ref().is_ok_and(|file| is_the_same(file, &successor)));
                entry.repaired = before.map(|(id, _)| SnapshotId(id.to_string()));
                entry.was_repaired = before.is_some();
                if before.is_none() {
                    successors.push((summary.damaged.len(), successor));
                }
                summary.damaged.push(entry);
            }
        }
    }
    summary.empty_folder_written = repair.empty_written;
    if request.dry_run {
        return Ok(summary);
    }
    repair.flush()?;
    for (number, snapshot) in successors {
        guard.confirm()?;
        let json = file::to_json(&snapshot).map_err(|error| RepositoryError::Internal(format!("a snapshot cannot be encoded: {error}")))?;
        summary.damaged[number].repaired = Some(SnapshotId(repo.write_unpacked(FileKind::Snapshot, &json)?.to_string()));
    }
    if request.forget {
        for entry in &mut summary.damaged {
            guard.confirm()?;
            if let Ok(id) = entry.id.0.parse() {
                repo.remove(FileKind::Snapshot, &id)?;
                entry.removed = true;
            }
        }
    }
    Ok(summary)
}

fn damaged(id: &Id, is_lost: bool, lost: Vec<Problem>, lost_count: u64) -> DamagedSnapshot {
    DamagedSnapshot { id: SnapshotId(id.to_string()), repaired: None, was_repaired: false, is_lost, removed: false, lost, lost_count }
}

/// What the index says of packs must be true before anybody decides by it what is lost.
fn refuse_without_packs(repo: &Indexed) -> Result<(), RepositoryError> {
    let on_disk: HashMap<Id, u64, BuildIdHasher> = repo.list_sizes(FileKind::Pack)?.into_iter().collect();
    let wrong = |pack: &crate::repository::restic::index::PackSummary| on_disk.get(&pack.id) != Some(&pack.size);
    let problems: Vec<String> = repo.index().packs().filter(wrong).map(|pack| format!("pack {} is missing or cut off", pack.id)).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let reason = "the packs are not as the index says: `repair index` comes first".to_owned();
    Err(RepositoryError::Refused { reason, problems: problems.into_iter().take(100).collect() })
}

type Snapshots = [(Id, Result<SnapshotFile, RepositoryError>)];

/// The ids of the snapshots that are meant.
fn choose(all: &Snapshots, wanted: &[String]) -> Result<Vec<Id>, RepositoryError> {
    if wanted.is_empty() {
        return Ok(all.iter().map(|(id, _)| *id).collect());
    }
    let mut chosen = Vec::new();
    for prefix in wanted {
        let found: Vec<Id> = all.iter().map(|(id, _)| *id).filter(|id| id.to_string().starts_with(prefix.as_str())).collect();
        match found[..] {
            [id] => chosen.push(id),
            [] => return Err(RepositoryError::NoSnapshot { wanted: prefix.clone() }),
            _ => {
                let candidates = found.iter().map(|id| SnapshotId(id.to_string())).collect();
                return Err(RepositoryError::AmbiguousSnapshot { wanted: prefix.clone(), candidates });
            }
        }
    }
    Ok(chosen)
}

/// What takes the place of a snapshot.
fn successor(id: &Id, snapshot: &SnapshotFile, tree: Id, is_partial: bool) -> SnapshotFile {
    let mut next = snapshot.clone();
    next.tree = tree;
    next.original = snapshot.original.or(Some(*id));
    let tags = [(TAG_REPAIRED, true), (TAG_PARTIAL, is_partial)];
    for tag in tags.into_iter().filter(|(_, wanted)| *wanted).map(|(tag, _)| tag) {
        if !next.tags.iter().any(|other| other == tag) {
            next.tags.push(tag.to_owned());
        }
    }
    next
}

/// Whether an earlier repair has made this very snapshot.
fn is_the_same(one: &SnapshotFile, other: &SnapshotFile) -> bool {
    one.tree == other.tree && one.original == other.original && one.time == other.time && one.tags.iter().any(|tag| tag == TAG_REPAIRED)
}

/// What became of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nothing in it is lost.
    Same,
    /// What is not lost is in this one.
    New(Id),
    /// It cannot be read.
    Lost,
}

struct Repair<'a> {
    repo: &'a Indexed,
    guard: Guard<'a>,
    dry_run: bool,
    pack_size: usize,
    encoder: Encoder,
    /// Trees that were looked at.
    trees: HashMap<Id, Outcome, BuildIdHasher>,
    packs: PackPair,
    indexes: IndexCollector,
    lost: Vec<Problem>,
    lost_count: u64,
    /// Whether nothing was lost so far but true sizes.
    only_sizes: bool,
    /// Whether the folder without content, which all snapshots share, could not be read.
    empty_written: bool,
}

#[derive(Deserialize)]
struct RawTree {
    #[serde(default)]
    nodes: Option<Vec<Box<RawValue>>>,
}

/// What matters of a node.
#[derive(Deserialize)]
struct Looked {
    #[serde(default)]
    name: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    content: Option<Vec<Id>>,
    #[serde(default)]
    subtree: Option<Id>,
}

/// A folder that is being looked at.
struct Frame {
    id: Id,
    nodes: Vec<Box<RawValue>>,
    next: usize,
    is_changed: bool,
    /// Bytes of the path above its entries.
    path: usize,
}

impl Repair<'_> {
    /// Looks at a tree and all below it, the folders in it first.
    fn walk(&mut self, root: Id) -> Result<Outcome, RepositoryError> {
        let mut path = String::new();
        let mut stack = Vec::new();
        self.enter(root, &mut stack, &path)?;
        while let Some(frame) = stack.last_mut() {
            path.truncate(frame.path);
            let Some(raw) = frame.nodes.get(frame.next) else {
                let Some(frame) = stack.pop() else { break };
                let outcome = if frame.is_changed { Outcome::New(self.store(&frame.nodes)?) } else { Outcome::Same };
                self.trees.insert(frame.id, if outcome == Outcome::New(frame.id) { Outcome::Same } else { outcome });
                continue;
            };
            let Ok(node) = serde_json::from_str::<Looked>(raw.get()) else {
                frame.next += 1;
                continue;
            };
            path.push('/');
            path.push_str(&node.name);
            let changed = match node.kind.as_str() {
                "dir" => match node.subtree.map(|tree| (tree, self.trees.get(&tree).copied())) {
                    Some((tree, None)) => {
                        self.enter(tree, &mut stack, &path)?;
                        continue;
                    }
                    Some((_, Some(Outcome::Same))) => None,
                    Some((_, Some(Outcome::New(tree)))) => Some(change(raw, |map| set_tree(map, tree))?),
                    Some((_, Some(Outcome::Lost))) | None => {
                        if node.subtree.is_none() {
                            self.lose(&path, "the folder has no content".to_owned());
                        }
                        let empty = self.store_tree(EMPTY)?;
                        Some(change(raw, |map| set_tree(map, empty))?)
                    }
                },
                "file" => self.file(raw, &node, &path)?,
                _ => None,
            };
            if let (Some(changed), Some(frame)) = (changed, stack.last_mut()) {
                frame.nodes[frame.next] = changed;
                frame.is_changed = true;
            }
            if let Some(frame) = stack.last_mut() {
                frame.next += 1;
            }
        }
        Ok(self.trees.get(&root).copied().unwrap_or(Outcome::Lost))
    }

    /// Reads a tree; one that cannot be read is lost with everything in it.
    fn enter(&mut self, id: Id, stack: &mut Vec<Frame>, path: &str) -> Result<(), RepositoryError> {
        self.guard.check()?;
        if self.trees.contains_key(&id) {
            return Ok(());
        }
        let mut json = Vec::new();
        let read = match confirmed(|| self.repo.read_blob(BlobKind::Tree, &id, &mut json)) {
            Err(error) if is_damage(&error) || matches!(error, RepositoryError::BlobMissing { .. }) => Err(error.with_causes()),
            // It is out of reach, which says nothing about whether it is there.
            Err(error) => return Err(error),
            Ok(()) => Ok(()),
        };
        let read = read.and_then(|()| {
            let tree: RawTree = serde_json::from_slice(&json).map_err(|error| format!("tree {id} is no JSON of a tree ({error})"))?;
            if stack.len() >= MAX_DEPTH { Err(format!("more than {MAX_DEPTH} folders in each other")) } else { Ok(tree) }
        });
        match read {
            // What is in it is known without reading it: written once more, nothing is lost.
            Err(_) if id == Id::of(EMPTY) => {
                self.trees.insert(id, Outcome::Lost);
                self.store_tree(EMPTY)?;
                self.trees.insert(id, Outcome::Same);
                self.empty_written = true;
            }
            Ok(tree) => stack.push(Frame { id, nodes: tree.nodes.unwrap_or_default(), next: 0, is_changed: false, path: path.len() }),
            Err(message) => {
                self.lose(if path.is_empty() { "/" } else { path }, format!("everything in it is lost: {message}"));
                self.trees.insert(id, Outcome::Lost);
            }
        }
        Ok(())
    }

    /// The node of a file without the pieces that are lost, if there are any.
    fn file(&mut self, raw: &RawValue, node: &Looked, path: &str) -> Result<Option<Box<RawValue>>, RepositoryError> {
        let content = node.content.as_deref().unwrap_or_default();
        let lengths = content.iter().map(|id| self.repo.index().lookup(BlobKind::Data, id).map(|place| place.plain_length()));
        let kept: Vec<(Id, u32)> = content.iter().zip(lengths).filter_map(|(id, length)| Some((*id, length?))).collect();
        let size: u64 = kept.iter().map(|(_, length)| u64::from(*length)).sum();
        if kept.len() == content.len() {
            if size == node.size {
                return Ok(None);
            }
            // Not a loss: what is restored is the pieces, whatever size is told.
            self.lost_count += 1;
            if self.lost.len() < KEPT {
                let message = format!("the size was given as {} bytes, but is {size}", node.size);
                self.lost.push(Problem { path: printable(path.as_bytes()), message });
            }
        } else {
            let missing = content.len() - kept.len();
            self.lose(path, format!("{missing} of {} pieces are lost; {size} of {} bytes are left", content.len(), node.size));
        }
        change(raw, |map| {
            map.insert("content".to_owned(), kept.iter().map(|(id, _)| Value::from(id.to_string())).collect());
            if size == 0 { _ = map.shift_remove("size") } else { _ = map.insert("size".to_owned(), size.into()) }
        })
        .map(Some)
    }

    fn lose(&mut self, path: &str, message: String) {
        self.only_sizes = false;
        self.lost_count += 1;
        if self.lost.len() < KEPT {
            self.lost.push(Problem { path: printable(path.as_bytes()), message });
        }
    }

    fn store(&mut self, nodes: &[Box<RawValue>]) -> Result<Id, RepositoryError> {
        let mut json = b"{\"nodes\":[".to_vec();
        for (number, node) in nodes.iter().enumerate() {
            if number > 0 {
                json.push(b',');
            }
            json.extend_from_slice(node.get().as_bytes());
        }
        json.extend_from_slice(b"]}\n");
        self.store_tree(&json)
    }

    /// Whether a tree can be read, from where it is or from where it was put just now.
    fn is_there(&self, id: &Id) -> Result<bool, RepositoryError> {
        match self.trees.get(id) {
            Some(outcome) => Ok(*outcome != Outcome::Lost),
            None if !self.repo.index().contains(BlobKind::Tree, id) => Ok(false),
            None => match confirmed(|| self.repo.read_blob(BlobKind::Tree, id, &mut Vec::new())) {
                Err(error) if is_damage(&error) || matches!(error, RepositoryError::BlobMissing { .. }) => Ok(false),
                read => read.map(|()| true),
            },
        }
    }

    /// Puts a tree into a pack unless it is in one that can be read.
    fn store_tree(&mut self, json: &[u8]) -> Result<Id, RepositoryError> {
        let id = Id::of(json);
        if self.dry_run || self.is_there(&id)? {
            return Ok(id);
        }
        let mut sealed = Vec::new();
        let encoded = self.encoder.encode(self.repo.key(), BlobKind::Tree, json, &mut sealed)?;
        let blob = PackedBlob { id, kind: BlobKind::Tree, offset: 0, length: encoded.length, uncompressed: encoded.uncompressed };
        self.packs.of(BlobKind::Tree).push(&blob, &sealed);
        self.trees.insert(id, Outcome::Same);
        if self.packs.of(BlobKind::Tree).is_full(self.pack_size) { self.write() } else { Ok(()) }?;
        Ok(id)
    }

    fn write(&mut self) -> Result<(), RepositoryError> {
        self.guard.check()?;
        let (entry, _) = self.packs.of(BlobKind::Tree).write(self.repo.open())?;
        self.indexes.add(self.repo.open(), self.guard.lock, entry)
    }

    fn flush(&mut self) -> Result<(), RepositoryError> {
        if !self.packs.of(BlobKind::Tree).is_empty() {
            self.write()?;
        }
        self.guard.check()?;
        self.indexes.flush(self.repo.open(), self.guard.lock)
    }
}

fn set_tree(map: &mut Map<String, Value>, tree: Id) {
    map.insert("subtree".to_owned(), tree.to_string().into());
}

/// The node with something else in it, and everything else as it was.
fn change(raw: &RawValue, change: impl FnOnce(&mut Map<String, Value>)) -> Result<Box<RawValue>, RepositoryError> {
    let internal = |error: serde_json::Error| RepositoryError::Internal(format!("a node cannot be changed: {error}"));
    let mut map: Map<String, Value> = serde_json::from_str(raw.get()).map_err(internal)?;
    change(&mut map);
    let json = file::to_json(&map).map_err(internal)?;
    String::from_utf8(json)
        .map_err(|error| RepositoryError::Internal(error.to_string()))
        .and_then(|json| RawValue::from_string(json).map_err(internal))
}
