//! Snapshots written anew without some of their paths: folders on the way to what goes get new trees, everything else stays
//! as it is stored.
//!
//! What is kept of a folder is kept byte for byte, also what this program does not know. The data that nobody uses any more is
//! `prune`'s business.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use super::codec::{BlobKind, Encoder};
use super::file::{SnapshotFile, to_json};
use super::id::Id;
use super::lock::Lock;
use super::pack::PackedBlob;
use super::reader::{self, SAVED_DEPTH};
use super::state::Indexed;
use super::tree::{self, Entry, Node};
use super::writer::{IndexCollector, PackBuilder, packed_blobs};
use crate::model::compression::Compression;
use crate::model::progress::{Event, Progress};
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::repository::backend::FileKind;
use crate::repository::contract::rewrite::{RewriteRequest, RewriteSummary, RewrittenSnapshot};
use crate::repository::contract::{RepositoryError, SnapshotId, TAG_REWRITTEN};

/// The repository, and what has to hold before every step.
#[derive(Clone, Copy)]
pub struct Rewriting<'a> {
    /// Its index was loaded under `lock`.
    pub repo: &'a Indexed,
    /// None only in a dry run.
    pub lock: Option<&'a Lock>,
    /// Compression of new trees.
    pub compression: Compression,
    /// Size of new packs.
    pub pack_size: usize,
    /// Holds while paused.
    pub control: &'a Control,
}

/// Rewrites each snapshot that has something to leave out; without a lock it only says which these are. A snapshot goes only when
/// the new one is there, which is seen by reading its folders.
///
/// # Errors
/// A folder cannot be read, or could not be written without losing something; the repository cannot be written; or it was
/// cancelled. The snapshots that were dealt with before stay so.
pub fn rewrite(rewriting: Rewriting<'_>, request: &RewriteRequest<'_>, progress: &dyn Progress) -> Result<RewriteSummary, RepositoryError> {
    if !request.remove_all {
        refuse_emptied(rewriting, request)?;
    }
    let mut rewriter = Rewriter::new(rewriting, request)?;
    let mut summary = RewriteSummary::default();
    for snapshot in &request.snapshots {
        let id: Id = snapshot.0.parse().map_err(|_| RepositoryError::NoSnapshot { wanted: snapshot.0.clone() })?;
        progress.event(Event::Phase(&format!("snapshot {}", id.short())));
        let one = match rewriter.snapshot(&id, request.forget) {
            Err(RepositoryError::NoSnapshot { .. }) if !request.named => {
                summary.gone.push(snapshot.clone());
                continue;
            }
            one => one?,
        };
        summary.changed += u64::from(one.changed && !one.was_there);
        summary.were_there += u64::from(one.was_there);
        summary.snapshots.push(one);
    }
    Ok(summary)
}

/// Looks at all of them before anything is written.
fn refuse_emptied(rewriting: Rewriting<'_>, request: &RewriteRequest<'_>) -> Result<(), RepositoryError> {
    let mut looking = Rewriter::new(Rewriting { lock: None, ..rewriting }, request)?;
    let mut emptied = Vec::new();
    for snapshot in &request.snapshots {
        let id: Id = snapshot.0.parse().map_err(|_| RepositoryError::NoSnapshot { wanted: snapshot.0.clone() })?;
        let file = match rewriting.repo.snapshot(&id) {
            Err(RepositoryError::NoSnapshot { .. }) if !request.named => continue,
            file => file?,
        };
        match looking.folder(file.tree, &mut Vec::new(), 0) {
            Ok((tree, left)) if tree != file.tree && left.kept == 0 => emptied.push(snapshot.clone()),
            Err(error @ (RepositoryError::Cancelled | RepositoryError::Skipped)) => return Err(error),
            // What is damaged is told when its turn comes: by then it may have been written once more.
            _ => {}
        }
    }
    if emptied.is_empty() { Ok(()) } else { Err(RepositoryError::WouldEmpty { snapshots: emptied }) }
}

/// What is left out of something.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    files: u64,
    others: u64,
    bytes: u64,
    /// What stays in it, folders not counted.
    kept: u64,
}

impl Left {
    fn add(&mut self, other: Self) {
        self.files = self.files.saturating_add(other.files);
        self.others = self.others.saturating_add(other.others);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.kept = self.kept.saturating_add(other.kept);
    }
}

struct Rewriter<'a> {
    rewriting: Rewriting<'a>,
    /// The repository without a cache.
    beneath: Indexed,
    exclude: &'a (dyn Fn(&[u8]) -> bool + Sync),
    /// Folders that were dealt with, by tree and path: the new tree, and what was left out.
    known: HashMap<(Id, Vec<u8>), (Id, Left)>,
    /// What is in whole folders that were left out.
    sizes: HashMap<Id, Left>,
    /// The snapshots that were made of others, by the first of these.
    there: HashMap<Id, Vec<(Id, SnapshotFile)>>,
    /// New trees that are in the repository.
    stored: HashSet<Id>,
    encoder: Encoder,
    pack: PackBuilder,
    indexes: IndexCollector,
}

impl<'a> Rewriter<'a> {
    fn new(rewriting: Rewriting<'a>, request: &RewriteRequest<'a>) -> Result<Self, RepositoryError> {
        let encoder = Encoder::new(rewriting.compression, rewriting.repo.version(), true);
        let (pack, indexes) = (PackBuilder::default(), IndexCollector::default());
        let (known, sizes, there) = (HashMap::new(), HashMap::new(), rewritten_before(rewriting.repo)?);
        let (exclude, stored, beneath) = (request.exclude, HashSet::new(), rewriting.repo.uncached());
        Ok(Self { rewriting, beneath, exclude, known, sizes, there, stored, encoder, pack, indexes })
    }

    fn snapshot(&mut self, id: &Id, forget: bool) -> Result<RewrittenSnapshot, RepositoryError> {
        let file = self.rewriting.repo.snapshot(id)?;
        let (tree, left) = self.folder(file.tree, &mut Vec::new(), 0)?;
        let Left { files, others, bytes, .. } = left;
        let changed = tree != file.tree;
        let source = SnapshotId(id.to_string());
        let mut one = RewrittenSnapshot { source, target: None, was_there: false, changed, forgotten: false, files, others, bytes };
        if !changed {
            return Ok(one);
        }
        let new = changed_file(id, file, tree, left, forget);
        let there = self.there.get(&new.original.unwrap_or(*id)).into_iter().flatten().find(|(_, other)| is_same(&new, other));
        if let Some((there, _)) = there {
            (one.target, one.was_there) = (Some(SnapshotId(there.to_string())), true);
        }
        let Some(lock) = self.rewriting.lock else { return Ok(one) };
        self.flush()?;
        self.rewriting.control.checkpoint()?;
        if one.target.is_none() {
            let json = to_json(&new).map_err(|error| RepositoryError::Internal(format!("a snapshot cannot be encoded: {error}")))?;
            let written = lock.write(FileKind::Snapshot, &json)?;
            one.target = Some(SnapshotId(written.to_string()));
            // An earlier form of the same may become just this, too.
            self.there.entry(new.original.unwrap_or(*id)).or_default().push((written, new));
        }
        if forget {
            lock.confirm()?;
            self.rewriting.repo.remove(FileKind::Snapshot, id)?;
            one.forgotten = true;
        }
        Ok(one)
    }

    /// Gives the tree of a folder without what is excluded in it, stored unless it is the same, and what was left out.
    fn folder(&mut self, tree: Id, path: &mut Vec<u8>, depth: usize) -> Result<(Id, Left), RepositoryError> {
        self.rewriting.control.checkpoint()?;
        let key = (tree, path.clone());
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        if depth > SAVED_DEPTH {
            return Err(damaged(&tree, 0, format!("at most {SAVED_DEPTH} folders in each other")));
        }
        let mut json = Vec::new();
        self.rewriting.repo.read_blob(BlobKind::Tree, &tree, &mut json)?;
        let stored = tree::parse_raw(&json).map_err(|error| reader::damaged_tree(&tree, &json, &error))?;
        if stored.has_more {
            return Err(damaged(&tree, 0, "entries and nothing else: what else it says would be lost".to_owned()));
        }
        let mut left = Left::default();
        let mut kept: Vec<std::borrow::Cow<'_, str>> = Vec::with_capacity(stored.nodes.len());
        let mut is_new = false;
        for &raw in &stored.nodes {
            let at = stored.offset(raw);
            let (name, node) = match tree::parse_entry(raw).map_err(|error| reader::damaged_entry(&tree, at, raw, &error))? {
                Entry::Known(node) => (node.name.clone(), Some(node)),
                Entry::Unknown(unknown) => (unknown.name, None),
            };
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(&name);
            if (self.exclude)(path) {
                left.add(self.whole(node.as_ref(), depth)?);
                is_new = true;
            } else if let Some(below) = node.and_then(|node| node.subtree) {
                let (new, inside) = self.folder(below, path, depth + 1)?;
                left.add(inside);
                is_new |= new != below;
                kept.push(if new == below { raw.get().into() } else { with_subtree(&tree, at, raw, &below, &new)?.into() });
            } else {
                left.kept += 1;
                kept.push(raw.get().into());
            }
            path.truncate(length);
        }
        let new = if is_new { self.store(format!("{{\"nodes\":[{}]}}\n", kept.join(",")).as_bytes())? } else { tree };
        self.known.insert(key, (new, left));
        Ok((new, left))
    }

    /// Counts an entry that goes, and what is in it.
    fn whole(&mut self, node: Option<&Node>, depth: usize) -> Result<Left, RepositoryError> {
        let Some(node) = node.filter(|node| node.metadata.is_file() || node.subtree.is_some()) else {
            return Ok(Left { others: 1, ..Left::default() });
        };
        let Some(tree) = node.subtree else { return Ok(Left { files: 1, bytes: node.metadata.size, ..Left::default() }) };
        let mut left = self.inside(tree, depth + 1)?;
        left.add(Left { others: 1, ..Left::default() });
        Ok(left)
    }

    fn inside(&mut self, tree: Id, depth: usize) -> Result<Left, RepositoryError> {
        if let Some(known) = self.sizes.get(&tree) {
            return Ok(*known);
        }
        self.rewriting.control.checkpoint()?;
        let mut left = Left::default();
        // A folder that cannot be read, or that is too deep, can go all the same; only the count is short of it.
        if depth <= SAVED_DEPTH
            && let Ok(read) = reader::load_tree(self.rewriting.repo, &tree)
        {
            left.others += read.unknown.len() as u64;
            for node in &read.nodes {
                left.add(self.whole(Some(node), depth)?);
            }
        }
        self.sizes.insert(tree, left);
        Ok(left)
    }

    /// Whether the repository has a tree. That an index names it is not enough: the old snapshot may go for it.
    fn is_there(&self, id: &Id) -> bool {
        self.beneath.index().contains(BlobKind::Tree, id) && self.beneath.read_blob(BlobKind::Tree, id, &mut Vec::new()).is_ok()
    }

    /// Puts a tree into the pack that is being filled, unless the repository has it.
    fn store(&mut self, json: &[u8]) -> Result<Id, RepositoryError> {
        let id = Id::of(json);
        let repo = self.rewriting.repo;
        if self.rewriting.lock.is_none() || !self.stored.insert(id) || self.is_there(&id) {
            return Ok(id);
        }
        let mut sealed = Vec::new();
        let encoded = self.encoder.encode(repo.key(), BlobKind::Tree, json, &mut sealed)?;
        let blob = PackedBlob { id, kind: BlobKind::Tree, offset: 0, length: encoded.length, uncompressed: encoded.uncompressed };
        self.pack.push(&blob, &sealed);
        if self.pack.is_full(self.rewriting.pack_size) {
            self.write()?;
        }
        Ok(id)
    }

    fn write(&mut self) -> Result<(), RepositoryError> {
        let repo = self.rewriting.repo;
        self.rewriting.lock.map_or(Ok(()), Lock::check)?;
        let (entry, _) = self.pack.write(repo.open())?;
        // The snapshot that was there may be looked at next.
        repo.index().publish(entry.id, &packed_blobs(&entry));
        self.indexes.add(repo.open(), self.rewriting.lock, entry)
    }

    /// Everything that was stored is on disk and named by an index.
    fn flush(&mut self) -> Result<(), RepositoryError> {
        if !self.pack.is_empty() {
            self.write()?;
        }
        self.indexes.flush(self.rewriting.repo.open(), self.rewriting.lock)
    }
}

/// What earlier rewrites, or anybody, made of others. What cannot be read is nobody's second form.
fn rewritten_before(repo: &Indexed) -> Result<HashMap<Id, Vec<(Id, SnapshotFile)>>, RepositoryError> {
    let mut there: HashMap<Id, Vec<(Id, SnapshotFile)>> = HashMap::new();
    for (id, file) in repo.snapshot_files()? {
        if let Ok(file) = file
            && let Some(original) = file.original
        {
            there.entry(original).or_default().push((id, file));
        }
    }
    Ok(there)
}

/// Whether two snapshots say the same, but for the tag which says that one stood beside its old form.
fn is_same(one: &SnapshotFile, other: &SnapshotFile) -> bool {
    let bare = |file: &SnapshotFile| {
        let mut file = file.clone();
        file.tags.retain(|tag| tag != TAG_REWRITTEN);
        file
    };
    one.tree == other.tree && bare(one) == bare(other)
}

/// What the new snapshot says.
fn changed_file(id: &Id, mut file: SnapshotFile, tree: Id, left: Left, forget: bool) -> SnapshotFile {
    file.tree = tree;
    file.original = file.original.or(Some(*id));
    if !forget && !file.tags.iter().any(|tag| tag == TAG_REWRITTEN) {
        file.tags.push(TAG_REWRITTEN.to_owned());
    }
    if let Some(summary) = &mut file.summary {
        summary.total_files_processed = summary.total_files_processed.saturating_sub(left.files);
        summary.total_bytes_processed = summary.total_bytes_processed.saturating_sub(left.bytes);
    }
    file
}

fn damaged(tree: &Id, offset: u64, expected: String) -> RepositoryError {
    RepositoryError::Damaged { file: format!("tree {tree}"), offset, expected }
}

/// The same entry with another tree. In a name or another text such a field cannot stand, as quotes are escaped there.
fn with_subtree(tree: &Id, at: u64, raw: &RawValue, old: &Id, new: &Id) -> Result<String, RepositoryError> {
    let parts: Vec<&str> = raw.get().split("\"subtree\"").collect();
    let field = match parts.as_slice() {
        [before, after] => {
            let value = after.trim_start().strip_prefix(':').map(str::trim_start);
            let rest = value.and_then(|value| value.strip_prefix(&format!("\"{old}\"")));
            rest.map(|rest| format!("{before}\"subtree\":\"{new}\"{rest}"))
        }
        _ => None,
    };
    field.ok_or_else(|| {
        let start: String = raw.get().chars().take(80).collect();
        damaged(tree, at, format!("one subtree in the entry {}", printable(start.as_bytes())))
    })
}

#[cfg(test)]
mod tests;
