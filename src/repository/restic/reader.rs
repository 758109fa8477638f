//! Trees read for the verbs: one tree, the entry at a path, a walk in tree order that reads ahead, and every tree once.
//!
//! What is done with what was found is the verbs' business.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::vec;

use serde_json::value::RawValue;

use super::codec::BlobKind;
use super::file::{damaged_json, offset_of};
use super::id::{BuildIdHasher, Id};
use super::state::Indexed;
use super::tree::{self, Node, Tree, TreeError};
use crate::model::entry::Kind;
use crate::model::text::printable;
use crate::repository::contract::{RepositoryError, SnapshotId};

/// Folders in folders that are followed. No file system makes deeper ones by paths; a tree that says so is made to hurt.
const MAX_DEPTH: usize = 4096;
/// Folders in folders that are saved: everything that is done with a snapshot follows as many.
pub(super) const SAVED_DEPTH: usize = 2048;

/// Bytes of trees that are read ahead and not yet asked for.
const READ_AHEAD_BYTES: usize = 32 << 20;

/// Cores, as far as this process may use them.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Reads one tree.
///
/// # Errors
/// As for [`Indexed::read_blob`], and [`RepositoryError::Damaged`] if what is there is no tree.
pub fn load_tree(repo: &Indexed, id: &Id) -> Result<Tree, RepositoryError> {
    load_sized(repo, id, &mut Vec::new())
}

fn load_sized(repo: &Indexed, id: &Id, buffer: &mut Vec<u8>) -> Result<Tree, RepositoryError> {
    repo.read_blob(BlobKind::Tree, id, buffer)?;
    tree::parse(buffer).map_err(|error| damaged_tree(id, buffer, &error))
}

/// The error for a tree of this JSON.
pub fn damaged_tree(id: &Id, json: &[u8], error: &TreeError) -> RepositoryError {
    let file = format!("tree {id}");
    match error {
        TreeError::Json { source } => damaged_json(file, json, "the JSON of a tree", source),
        TreeError::Name { .. } => RepositoryError::Damaged { file, offset: 0, expected: error.to_string() },
    }
}

/// The error for an entry of a tree, which begins at this byte of it.
pub fn damaged_entry(id: &Id, offset: u64, entry: &RawValue, error: &TreeError) -> RepositoryError {
    let (inside, why) = match error {
        TreeError::Json { source } => (offset_of(entry.get().as_bytes(), source), source.to_string()),
        TreeError::Name { .. } => (0, error.to_string()),
    };
    RepositoryError::Damaged { file: format!("tree {id}"), offset: offset + inside, expected: format!("the JSON of an entry ({why})") }
}

/// What a path in a snapshot leads to.
#[derive(Debug)]
pub enum Found {
    /// The root, of which only the tree is known.
    Root(Id),
    /// An entry.
    Node(Box<Node>),
}

/// Finds `path` (absolute; empty components do not count) in the snapshot whose root is `tree`.
///
/// # Errors
/// [`RepositoryError::NoPath`], [`RepositoryError::WrongKind`] if the way leads through a file, and what reading trees gives.
pub fn lookup(repo: &Indexed, snapshot: &SnapshotId, tree: &Id, path: &[u8]) -> Result<Found, RepositoryError> {
    let mut found = Found::Root(*tree);
    for (depth, name) in components(path).enumerate() {
        let folder = match &found {
            Found::Root(tree) => *tree,
            Found::Node(node) => node.subtree.ok_or_else(|| RepositoryError::WrongKind {
                snapshot: snapshot.clone(),
                path: printable(&join(components(path).take(depth))),
                found: kind_word(&node.metadata.kind),
            })?,
        };
        let node = load_tree(repo, &folder)?.nodes.into_iter().find(|node| node.name == name);
        let node = node.ok_or_else(|| RepositoryError::NoPath { snapshot: snapshot.clone(), path: printable(path) })?;
        found = Found::Node(Box::new(node));
    }
    Ok(found)
}

/// The names in a path.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
}

/// The absolute path of these names; `/` of none.
pub(super) fn join<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut path: Vec<u8> = names.flat_map(|name| [b"/", name].concat()).collect();
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// The word for a kind, for people.
pub(super) fn kind_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "folder",
        Kind::Symlink { .. } => "symbolic link",
        Kind::CharDevice { .. } => "character device",
        Kind::BlockDevice { .. } => "block device",
        Kind::Fifo => "named pipe",
        Kind::Socket => "socket",
    }
}

/// What a walk shows to whoever asked for it. The first error ends the walk.
pub(super) trait Visitor {
    /// Whether a folder may be of interest; only such are read ahead and entered.
    fn wants(&self, _node: &Node) -> bool {
        true
    }

    /// Comes to the next entry. For a folder with a tree, `true` enters it.
    fn entry(&mut self, node: Node) -> Result<bool, RepositoryError>;

    /// Has entered a folder (first of all the root), whose entries follow.
    fn entered(&mut self, _tree: &Tree) -> Result<(), RepositoryError> {
        Ok(())
    }

    /// Could not read the tree of the folder just entered: it is left again at once.
    fn unreadable(&mut self, error: RepositoryError) -> Result<(), RepositoryError> {
        Err(error)
    }

    /// Has seen all entries of the folder (at last the root).
    fn leave(&mut self) -> Result<(), RepositoryError> {
        Ok(())
    }
}

/// Walks below `root` in tree order: each folder before what is in it. The next folders are read ahead by other threads.
pub(super) fn walk(repo: &Indexed, root: &Id, visitor: &mut dyn Visitor) -> Result<(), RepositoryError> {
    let ahead = Ahead::default();
    std::thread::scope(|scope| {
        let _close = Close(&ahead);
        for _ in 0..cores().min(4) {
            scope.spawn(|| ahead.serve(repo));
        }
        walk_with(repo, &ahead, root, visitor)
    })
}

/// A folder that is being walked: its entries and the tickets of those that are folders.
struct Frame {
    nodes: vec::IntoIter<Node>,
    tickets: vec::IntoIter<Option<Ticket>>,
}

fn walk_with(repo: &Indexed, ahead: &Ahead, root: &Id, visitor: &mut dyn Visitor) -> Result<(), RepositoryError> {
    let mut stack: Vec<Frame> = Vec::new();
    let enter = |tree: Result<Tree, RepositoryError>, visitor: &mut dyn Visitor, stack: &mut Vec<Frame>| match tree {
        Err(error) => {
            visitor.unreadable(error)?;
            visitor.leave()
        }
        Ok(tree) => {
            visitor.entered(&tree)?;
            let ticket = |node: &Node| node.subtree.filter(|_| visitor.wants(node)).map(|id| Arc::new(Request::new(id)));
            let requests: Vec<_> = tree.nodes.iter().map(ticket).collect();
            ahead.want(requests.iter().rev().flatten());
            let tickets: Vec<_> =
                requests.into_iter().map(|request| request.map(|request| Ticket { request, ahead: ahead.clone() })).collect();
            stack.push(Frame { nodes: tree.nodes.into_iter(), tickets: tickets.into_iter() });
            Ok(())
        }
    };
    enter(load_tree(repo, root), visitor, &mut stack)?;
    while let Some(frame) = stack.last_mut() {
        let (Some(node), Some(ticket)) = (frame.nodes.next(), frame.tickets.next()) else {
            stack.pop();
            visitor.leave()?;
            continue;
        };
        if !visitor.entry(node)? {
            continue;
        }
        let Some(ticket) = ticket else { continue };
        let tree = if stack.len() < MAX_DEPTH {
            ticket.take(repo)
        } else {
            Err(RepositoryError::Damaged {
                file: format!("tree {}", ticket.request.id),
                offset: 0,
                expected: format!("at most {MAX_DEPTH} folders in each other"),
            })
        };
        enter(tree, visitor, &mut stack)?;
    }
    Ok(())
}

/// Trees that will be asked for, the next one on top, and the threads' common state.
///
/// The walk pushes requests and takes what became of them; the threads of [`Ahead::serve`] work from the top until the walk
/// is over. `wake` is signalled when there is work or room, `done` when a request is fulfilled.
#[derive(Clone, Default)]
struct Ahead(Arc<AheadShared>);

#[derive(Default)]
struct AheadShared {
    state: Mutex<AheadState>,
    wake: Condvar,
}

#[derive(Default)]
struct AheadState {
    wanted: Vec<Arc<Request>>,
    /// Bytes of trees that were read and not taken.
    held: usize,
    closed: bool,
}

/// One tree that will be asked for.
struct Request {
    id: Id,
    state: Mutex<RequestState>,
    done: Condvar,
}

enum RequestState {
    Waiting,
    Reading,
    Done {
        tree: Result<Tree, RepositoryError>,
        bytes: usize,
    },
    /// The walk has it, has read it itself, or does not want it.
    Over,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Request {
    fn new(id: Id) -> Self {
        Self { id, state: Mutex::new(RequestState::Waiting), done: Condvar::new() }
    }
}

impl Ahead {
    fn want<'a>(&self, requests: impl Iterator<Item = &'a Arc<Request>>) {
        let mut state = locked(&self.0.state);
        state.wanted.extend(requests.cloned());
        drop(state);
        self.0.wake.notify_all();
    }

    fn serve(&self, repo: &Indexed) {
        let mut buffer = Vec::new();
        loop {
            let mut state = locked(&self.0.state);
            let request = loop {
                if state.closed {
                    return;
                }
                if state.held < READ_AHEAD_BYTES
                    && let Some(request) = state.wanted.pop()
                {
                    break request;
                }
                state = self.0.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            {
                let mut state = locked(&request.state);
                if !matches!(*state, RequestState::Waiting) {
                    continue;
                }
                *state = RequestState::Reading;
            }
            let reading = Reading(&request);
            let tree = load_sized(repo, &request.id, &mut buffer);
            let bytes = buffer.len();
            let mut state = locked(&request.state);
            if matches!(*state, RequestState::Reading) {
                *state = RequestState::Done { tree, bytes };
                locked(&self.0.state).held += bytes;
            }
            drop(state);
            drop(reading);
        }
    }

    fn release(&self, bytes: usize) {
        locked(&self.0.state).held -= bytes;
        self.0.wake.notify_all();
    }
}

/// Wakes the walk when a request is done; one that was given up by a panic is the walk's own again.
struct Reading<'a>(&'a Request);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.0.state);
        if matches!(*state, RequestState::Reading) {
            *state = RequestState::Waiting;
        }
        drop(state);
        self.0.done.notify_all();
    }
}

/// Ends the threads that read ahead, also when the walk ends by a panic.
struct Close<'a>(&'a Ahead);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        locked(&self.0.0.state).closed = true;
        self.0.0.wake.notify_all();
    }
}

/// The walk's end of a request.
struct Ticket {
    request: Arc<Request>,
    ahead: Ahead,
}

impl Ticket {
    fn take(self, repo: &Indexed) -> Result<Tree, RepositoryError> {
        let mut state = locked(&self.request.state);
        loop {
            match std::mem::replace(&mut *state, RequestState::Over) {
                RequestState::Done { tree, bytes } => {
                    drop(state);
                    self.ahead.release(bytes);
                    return tree;
                }
                RequestState::Reading => {
                    *state = RequestState::Reading;
                    state = self.request.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                RequestState::Waiting | RequestState::Over => {
                    drop(state);
                    return load_tree(repo, &self.request.id);
                }
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut *locked(&self.request.state), RequestState::Over);
        if let RequestState::Done { bytes, .. } = state {
            self.ahead.release(bytes);
        }
    }
}

/// Visits each tree that can be reached from `roots` once, in no order, from several threads.
///
/// `visit` gets the tree or why it cannot be read, and says whether to go on.
pub(super) fn each_tree(
    repo: &Indexed,
    roots: impl IntoIterator<Item = Id>,
    visit: impl Fn(&Id, Result<&Tree, RepositoryError>) -> bool + Sync,
) {
    let seen = Mutex::new(HashSet::with_hasher(BuildIdHasher::default()));
    each_claimed_tree(repo, roots, |id| locked(&seen).insert(*id), visit);
}

/// As [`each_tree`], for who keeps account himself: a tree is visited if `claim` says so, which must do so once.
pub(super) fn each_claimed_tree(
    repo: &Indexed,
    roots: impl IntoIterator<Item = Id>,
    claim: impl Fn(&Id) -> bool + Sync,
    visit: impl Fn(&Id, Result<&Tree, RepositoryError>) -> bool + Sync,
) {
    let waiting = roots.into_iter().filter(&claim).collect();
    let shared = (Mutex::new(Queue { waiting, busy: 0, stopped: false }), Condvar::new());
    std::thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| each_tree_worker(repo, &shared, &claim, &visit));
        }
    });
}

struct Queue {
    waiting: Vec<Id>,
    /// Workers that may still add to the queue.
    busy: usize,
    stopped: bool,
}

/// Marks a worker as busy; also one that panics must not be waited for.
struct Busy<'a>(&'a (Mutex<Queue>, Condvar));

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        locked(&self.0.0).busy -= 1;
        self.0.1.notify_all();
    }
}

fn each_tree_worker(
    repo: &Indexed,
    shared: &(Mutex<Queue>, Condvar),
    claim: &(impl Fn(&Id) -> bool + Sync),
    visit: &(impl Fn(&Id, Result<&Tree, RepositoryError>) -> bool + Sync),
) {
    let mut buffer = Vec::new();
    loop {
        let mut state = locked(&shared.0);
        let id = loop {
            if state.stopped || (state.waiting.is_empty() && state.busy == 0) {
                return;
            }
            if let Some(id) = state.waiting.pop() {
                break id;
            }
            state = shared.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.busy += 1;
        drop(state);
        let _busy = Busy(shared);
        let (go_on, children): (bool, Vec<Id>) = match load_sized(repo, &id, &mut buffer) {
            Ok(tree) => (visit(&id, Ok(&tree)), tree.nodes.iter().filter_map(|node| node.subtree).filter(claim).collect()),
            Err(error) => (visit(&id, Err(error)), Vec::new()),
        };
        let mut state = locked(&shared.0);
        state.stopped |= !go_on;
        state.waiting.extend(children);
    }
}

#[cfg(test)]
pub(crate) mod testing;
