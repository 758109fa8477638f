//! Trees without what is lost, each looked at once: what was found in it is told again wherever it stands.
//!
//! What becomes of the snapshots is decided above.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::model::compression::Compression;
use crate::model::text::printable;
use crate::repository::contract::{Problem, RepositoryError};
use crate::repository::restic::codec::{BlobKind, Encoder};
use crate::repository::restic::file;
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::lock::Guard;
use crate::repository::restic::pack::PackedBlob;
use crate::repository::restic::reader;
use crate::repository::restic::repair::{KEPT, confirmed, is_damage};
use crate::repository::restic::state::Indexed;
use crate::repository::restic::tree::{self, EMPTY, Entry, Node};
use crate::repository::restic::writer::{IndexCollector, PackPair};

/// Folders in folders that are followed, as in every walk.
const MAX_DEPTH: usize = 4096;

/// What became of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing in it is lost.
    Same,
    /// What is not lost is in this one.
    New(Id),
    /// It cannot be read.
    Lost,
}

/// What is lost in a tree and all below it, with paths that begin at the tree.
#[derive(Debug, Clone, Default)]
pub(super) struct Losses {
    /// The first of them.
    pub(super) kept: Vec<Problem>,
    /// How many there are.
    pub(super) count: u64,
    /// Whether something is missing, and not only a size was wrong.
    pub(super) is_partial: bool,
}

impl Losses {
    fn one(path: String, message: String, is_partial: bool) -> Self {
        Self { kept: vec![Problem { path, message }], count: 1, is_partial }
    }

    /// Adds what is lost in the entry of this name.
    fn add_below(&mut self, name: &[u8], below: &Self) {
        let room = KEPT.saturating_sub(self.kept.len());
        if room > 0 {
            let name = printable(name);
            let here = |problem: &Problem| Problem { path: format!("/{name}{}", problem.path), message: problem.message.clone() };
            self.kept.extend(below.kept.iter().take(room).map(here));
        }
        self.count = self.count.saturating_add(below.count);
        self.is_partial |= below.is_partial;
    }
}

/// A tree that was looked at.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) outcome: Outcome,
    /// None where nothing is lost: there is one of these for each tree.
    pub(super) losses: Option<Rc<Losses>>,
}

impl Seen {
    const SAME: Self = Self { outcome: Outcome::Same, losses: None };
}

/// An entry as it is stored, or what takes its place; none once it is lost.
struct Stored {
    raw: Option<Box<RawValue>>,
    /// Where in the tree it begins.
    offset: u64,
}

/// A folder that is being looked at.
struct Frame {
    id: Id,
    nodes: Vec<Stored>,
    next: usize,
    is_changed: bool,
    losses: Losses,
}

/// What becomes of one entry.
enum Fate {
    Kept,
    Changed(Box<RawValue>),
    Gone,
    /// It is a folder that has to be looked at first.
    Enter(Id),
}

/// All trees that were looked at, and the packs of those that take their places.
pub(super) struct Trees<'a> {
    repo: &'a Indexed,
    guard: Guard<'a>,
    dry_run: bool,
    pack_size: usize,
    encoder: Encoder,
    seen: HashMap<Id, Seen, BuildIdHasher>,
    packs: PackPair,
    indexes: IndexCollector,
    /// Whether the folder without content, which all snapshots share, could not be read.
    pub(super) empty_written: bool,
}

impl<'a> Trees<'a> {
    pub(super) fn new(repo: &'a Indexed, guard: Guard<'a>, pack_size: usize, dry_run: bool) -> Self {
        Self {
            repo,
            guard,
            dry_run,
            pack_size,
            encoder: Encoder::new(Compression::Auto, repo.version(), true),
            seen: HashMap::default(),
            packs: PackPair::default(),
            indexes: IndexCollector::new(dry_run),
            empty_written: false,
        }
    }

    /// Looks at a tree and all below it, the folders in it first.
    pub(super) fn walk(&mut self, root: Id) -> Result<Seen, RepositoryError> {
        let mut stack = Vec::new();
        self.enter(root, &mut stack)?;
        while let Some(frame) = stack.last_mut() {
            let Some(stored) = frame.nodes.get(frame.next) else {
                let Some(frame) = stack.pop() else { break };
                self.leave(frame)?;
                continue;
            };
            let Some(raw) = &stored.raw else {
                frame.next += 1;
                continue;
            };
            let fate = match tree::parse_entry(raw) {
                Ok(Entry::Unknown(_)) => Fate::Kept,
                Ok(Entry::Known(node)) => self.node(raw, node, &mut frame.losses)?,
                Err(error) => {
                    let error = reader::damaged_entry(&frame.id, stored.offset, raw, &error).with_causes();
                    let lost = Losses::one(String::new(), format!("the entry is lost: {error}"), true);
                    frame.losses.add_below(&name_of(raw), &lost);
                    Fate::Gone
                }
            };
            match fate {
                Fate::Enter(tree) => {
                    self.enter(tree, &mut stack)?;
                    continue;
                }
                Fate::Kept => {}
                Fate::Changed(raw) => (frame.nodes[frame.next].raw, frame.is_changed) = (Some(raw), true),
                Fate::Gone => (frame.nodes[frame.next].raw, frame.is_changed) = (None, true),
            }
            frame.next += 1;
        }
        Ok(self.seen.get(&root).cloned().unwrap_or(Seen { outcome: Outcome::Lost, losses: None }))
    }

    /// Reads a tree; one that cannot be read is lost with everything in it.
    fn enter(&mut self, id: Id, stack: &mut Vec<Frame>) -> Result<(), RepositoryError> {
        self.guard.check()?;
        if self.seen.contains_key(&id) {
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
            let tree = tree::parse_raw(&json).map_err(|error| reader::damaged_tree(&id, &json, &error).with_causes())?;
            if stack.len() >= MAX_DEPTH { Err(format!("more than {MAX_DEPTH} folders in each other")) } else { Ok(tree) }
        });
        match read {
            // What is in it is known without reading it: written once more, nothing is lost.
            Err(_) if id == Id::of(EMPTY) => {
                self.seen.insert(id, Seen { outcome: Outcome::Lost, losses: None });
                self.store_tree(EMPTY)?;
                self.seen.insert(id, Seen::SAME);
                self.empty_written = true;
            }
            Ok(tree) => {
                let stored = |node: &&RawValue| Stored { raw: Some((*node).to_owned()), offset: tree.offset(node) };
                let nodes = tree.nodes.iter().map(stored).collect();
                stack.push(Frame { id, nodes, next: 0, is_changed: false, losses: Losses::default() });
            }
            Err(message) => {
                let lost = Losses::one(String::new(), format!("everything in it is lost: {message}"), true);
                self.seen.insert(id, Seen { outcome: Outcome::Lost, losses: Some(Rc::new(lost)) });
            }
        }
        Ok(())
    }

    /// Everything in a folder was looked at.
    fn leave(&mut self, frame: Frame) -> Result<(), RepositoryError> {
        let seen = if frame.is_changed {
            let losses = (frame.losses.count > 0).then(|| Rc::new(frame.losses));
            let new = self.store(&frame.nodes)?;
            if new == frame.id { Seen::SAME } else { Seen { outcome: Outcome::New(new), losses } }
        } else {
            Seen::SAME
        };
        self.seen.insert(frame.id, seen);
        Ok(())
    }

    fn node(&mut self, raw: &RawValue, node: Node, losses: &mut Losses) -> Result<Fate, RepositoryError> {
        let changed = if node.metadata.is_file() {
            let Some((content, size, lost)) = self.file(&node) else { return Ok(Fate::Kept) };
            losses.add_below(&node.name, &lost);
            change(raw, |map| {
                map.insert("content".to_owned(), content.iter().map(|id| Value::from(id.to_string())).collect());
                if size == 0 { _ = map.shift_remove("size") } else { _ = map.insert("size".to_owned(), size.into()) }
            })
        } else if node.metadata.is_dir() {
            let tree = match node.subtree {
                None => {
                    losses.add_below(&node.name, &Losses::one(String::new(), "the folder has no content".to_owned(), true));
                    self.store_tree(EMPTY)?
                }
                Some(tree) => {
                    let Some(Seen { outcome, losses: below }) = self.seen.get(&tree).cloned() else { return Ok(Fate::Enter(tree)) };
                    if let Some(below) = below {
                        losses.add_below(&node.name, &below);
                    }
                    match outcome {
                        Outcome::Same => return Ok(Fate::Kept),
                        Outcome::New(tree) => tree,
                        Outcome::Lost => self.store_tree(EMPTY)?,
                    }
                }
            };
            change(raw, |map| _ = map.insert("subtree".to_owned(), tree.to_string().into()))
        } else {
            return Ok(Fate::Kept);
        };
        Ok(match changed {
            Ok(changed) => Fate::Changed(changed),
            // It says more than is understood, and what that is cannot be kept.
            Err(error) => {
                let message = format!("the entry is lost: it cannot be changed ({error})");
                losses.add_below(&node.name, &Losses::one(String::new(), message, true));
                Fate::Gone
            }
        })
    }

    /// The pieces of a file that are there, their size, and what is lost with the others; none if it is whole.
    fn file(&self, node: &Node) -> Option<(Vec<Id>, u64, Losses)> {
        let told = node.metadata.size;
        let lengths = node.content.iter().map(|id| self.repo.index().lookup(BlobKind::Data, id).map(|place| place.plain_length()));
        let kept: Vec<(Id, u32)> = node.content.iter().zip(lengths).filter_map(|(id, length)| Some((*id, length?))).collect();
        let size: u64 = kept.iter().map(|(_, length)| u64::from(*length)).sum();
        let missing = node.content.len() - kept.len();
        let (message, is_partial) = match missing {
            0 if size == told => return None,
            // Not a loss: what is restored is the pieces, whatever size is told.
            0 => (format!("the size was given as {told} bytes, but is {size}"), false),
            _ => (format!("{missing} of {} pieces are lost; {size} of {told} bytes are left", node.content.len()), true),
        };
        Some((kept.into_iter().map(|(id, _)| id).collect(), size, Losses::one(String::new(), message, is_partial)))
    }

    fn store(&mut self, nodes: &[Stored]) -> Result<Id, RepositoryError> {
        let mut json = b"{\"nodes\":[".to_vec();
        for (number, node) in nodes.iter().filter_map(|node| node.raw.as_ref()).enumerate() {
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
        match self.seen.get(id) {
            Some(seen) => Ok(seen.outcome != Outcome::Lost),
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
        self.seen.insert(id, Seen::SAME);
        if self.packs.of(BlobKind::Tree).is_full(self.pack_size) { self.write() } else { Ok(()) }?;
        Ok(id)
    }

    fn write(&mut self) -> Result<(), RepositoryError> {
        self.guard.check()?;
        let (entry, _) = self.packs.of(BlobKind::Tree).write(self.repo.open())?;
        self.indexes.add(self.repo.open(), self.guard.lock, entry)
    }

    /// Everything that was stored is on disk and named by an index.
    pub(super) fn flush(&mut self) -> Result<(), RepositoryError> {
        if !self.packs.of(BlobKind::Tree).is_empty() {
            self.write()?;
        }
        self.guard.check()?;
        self.indexes.flush(self.repo.open(), self.guard.lock)
    }
}

/// The name of an entry of which not everything is understood.
fn name_of(raw: &RawValue) -> Vec<u8> {
    let map: Option<Map<String, Value>> = serde_json::from_str(raw.get()).ok();
    let name = map.as_ref().and_then(|map| map.get("name")).and_then(Value::as_str);
    name.map_or_else(|| b"?".to_vec(), |name| name.as_bytes().to_vec())
}

/// The node with something else in it, and everything else as it was.
fn change(raw: &RawValue, change: impl FnOnce(&mut Map<String, Value>)) -> Result<Box<RawValue>, serde_json::Error> {
    let mut map: Map<String, Value> = serde_json::from_str(raw.get())?;
    change(&mut map);
    RawValue::from_string(String::from_utf8_lossy(&file::to_json(&map)?).into_owned())
}
