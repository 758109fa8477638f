//! Threads that look at the files of one folder ahead of the walk, where looking is what takes the time: on storage that makes
//! everybody wait, and where there are processors enough.
//!
//! They look at files only, by the handle of their folder. Folders are opened by the walk itself, one after the other, so that
//! few are open at once; and the order of all entries is the walk's.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::vec;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::FileType;

use super::listing::Names;
use super::look::{Looked, Looker};
use crate::platform::clock;

/// Names that one thread looks at before it gives them back.
const RANGE: usize = 32;
/// In smaller folders the walk looks by itself.
const LEAST_NAMES: usize = 2 * RANGE;
/// The most threads.
const THREADS: usize = 8;
/// Threads where storage is slow, however few processors there are.
const THREADS_THAT_WAIT: usize = 4;
/// Storage is slow if looking at most files takes so long: with what the system has in memory it is a few microseconds.
const SLOW: Duration = Duration::from_micros(40);
/// Files that are looked at before that is judged. One look that others kept from a processor says nothing.
const SAMPLE: u32 = 64;

/// How many threads look at files.
#[derive(Debug)]
pub(super) enum Crew {
    /// Nobody yet; how many of the walk's own looks took long.
    Undecided { slow: u32, looks: u32, processors: usize },
    /// They have work.
    At(Threads),
}

/// What became of a name.
#[derive(Debug)]
pub(super) enum Found {
    /// The filter leaves it out.
    Excluded,
    /// What was found.
    Looked(io::Result<Box<Looked>>),
    /// It is for the walk itself to look at.
    Left,
}

/// What is known of one folder ahead of the walk.
#[derive(Debug, Default)]
pub(super) struct Lead {
    /// Names up to here were given out.
    given: usize,
    /// What was given out and not yet taken, in order: how many names each time.
    awaited: VecDeque<(usize, Receiver<Vec<Found>>)>,
    /// What the walk takes from now.
    taken: vec::IntoIter<Found>,
}

/// The folder of a range.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) handle: Arc<OwnedFd>,
    pub(super) names: Arc<Names>,
    pub(super) device: u64,
    /// Its path, as the filter sees it.
    pub(super) path: Arc<[u8]>,
    /// The filter's tags that are in it.
    pub(super) tags: Arc<[usize]>,
}

struct Task {
    place: Place,
    range: Range<usize>,
    answer: Sender<Vec<Found>>,
}

/// Threads at work. They end when nobody can give them work any more.
#[derive(Debug)]
pub(super) struct Threads {
    tasks: Option<Sender<Task>>,
    handles: Vec<JoinHandle<()>>,
}

impl Default for Crew {
    fn default() -> Self {
        // To ask for their number takes longer than a look.
        Self::Undecided { slow: 0, looks: 0, processors: thread::available_parallelism().map_or(1, usize::from) }
    }
}

impl Crew {
    /// Runs one look of the walk itself, and keeps in mind how long it took.
    pub(super) fn timed<T>(&mut self, look: impl FnOnce() -> T) -> T {
        let Self::Undecided { slow, looks, .. } = self else { return look() };
        let start = clock::monotonic();
        let looked = look();
        *slow += u32::from(start.elapsed() >= SLOW);
        *looks += 1;
        if *looks >= 2 * SAMPLE {
            // What was long ago says little.
            (*slow, *looks) = (*slow / 2, *looks / 2);
        }
        looked
    }

    /// What was found ahead of the walk at one of the `count` names of a folder; none where nobody looks ahead in it. To be called
    /// for each name in turn.
    pub(super) fn next(
        &mut self,
        lead: &mut Lead,
        number: usize,
        count: usize,
        looker: &Looker,
        place: impl FnOnce() -> Option<Place>,
    ) -> Option<Found> {
        if let Some(found) = lead.taken.next() {
            return Some(found);
        }
        if lead.awaited.is_empty() {
            // The walk has looked by itself until now.
            lead.given = lead.given.max(number);
            if count - lead.given < LEAST_NAMES {
                return None;
            }
        }
        let threads = self.threads(looker)?;
        let most = 2 * threads.handles.len();
        if lead.given < count && lead.awaited.len() < most {
            let place = place()?;
            while lead.given < count && lead.awaited.len() < most {
                let range = lead.given..count.min(lead.given + RANGE);
                let Some(answer) = threads.give(place.clone(), range.clone()) else { break };
                lead.given = range.end;
                lead.awaited.push_back((range.len(), answer));
            }
        }
        let (length, answer) = lead.awaited.pop_front()?;
        // A thread that has panicked answers nothing: then the walk looks by itself, and finds out why.
        let mut found = answer.recv().unwrap_or_default();
        found.resize_with(length, || Found::Left);
        lead.taken = found.into_iter();
        lead.taken.next()
    }

    /// The threads, once they are worth their while.
    fn threads(&mut self, looker: &Looker) -> Option<&Threads> {
        if let Self::Undecided { slow, looks, processors } = self {
            let count = looker.crew().unwrap_or_else(|| {
                let is_slow = *looks >= SAMPLE && 2 * *slow >= *looks;
                let spare = *processors / 2;
                // The walk itself and those who store are at work, too.
                let spare = if spare > 1 { spare.min(THREADS) } else { 0 };
                if is_slow { spare.max(THREADS_THAT_WAIT) } else { spare }
            });
            if count == 0 {
                return None;
            }
            *self = Self::At(Threads::start(count, looker)?);
        }
        match self {
            Self::At(threads) => Some(threads),
            Self::Undecided { .. } => None,
        }
    }
}

impl Threads {
    /// Starts them; none if the system does not give any.
    fn start(count: usize, looker: &Looker) -> Option<Self> {
        let (tasks, receiver) = unbounded();
        let start = |number| {
            let (mut looker, tasks) = (looker.twin(), Receiver::clone(&receiver));
            thread::Builder::new().name(format!("look-{number}")).spawn(move || work(&mut looker, &tasks)).ok()
        };
        let handles: Vec<_> = (0..count).map_while(start).collect();
        (!handles.is_empty()).then_some(Self { tasks: Some(tasks), handles })
    }

    fn give(&self, place: Place, range: Range<usize>) -> Option<Receiver<Vec<Found>>> {
        let (answer, receiver) = bounded(1);
        self.tasks.as_ref()?.send(Task { place, range, answer }).ok()?;
        Some(receiver)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // No handle of a folder is left open behind the walk: somebody may want to unmount it.
        self.tasks = None;
        for handle in self.handles.drain(..) {
            drop(handle.join());
        }
    }
}

fn work(looker: &mut Looker, tasks: &Receiver<Task>) {
    for Task { place, range, answer } in tasks {
        let found = range.map_while(|number| {
            let (name, kind) = place.names.get(number)?;
            looker.be_at(&place.path);
            looker.step_to(place.path.len(), name);
            Some(if looker.is_excluded(&place.tags, name) {
                Found::Excluded
            } else if matches!(kind, FileType::Directory | FileType::Unknown) || looker.needs_handle() {
                Found::Left
            } else {
                match looker.look(place.handle.as_fd(), place.device, name, kind) {
                    // It was replaced by a folder since its own was listed.
                    Ok(Looked { below: Some(_), .. }) => Found::Left,
                    looked => Found::Looked(looked.map(Box::new)),
                }
            })
        });
        // Nobody waits for it when the walk was ended in between.
        let _ = answer.send(found.collect());
    }
}

#[cfg(test)]
mod tests;
