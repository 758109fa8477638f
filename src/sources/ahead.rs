//! A source that another one reads ahead of: walking goes on in a thread of its own while its entries are worked off.
//!
//! Only for sources whose entries can wait: the body of a stream's member must be read before the next one is asked for.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::vec;

use super::walk::Walk;
use crate::model::entry::{Source, Step};

/// Steps that are handed over at once: to wake the other thread for each would cost more than the step.
const BATCH: usize = 64;
/// Batches that may wait. An entry with a path too long for the system holds an open file, so there must not be too many.
const WAITING: usize = 4;

/// A walk that goes on in a thread of its own. It begins when the first step is asked for.
#[derive(Debug)]
pub struct Ahead {
    state: State,
    batch: vec::IntoIter<io::Result<Step>>,
}

#[derive(Debug)]
enum State {
    Before(Box<Walk>),
    /// The thread ends after the last step, or when nobody receives any more.
    Walking(Receiver<Vec<io::Result<Step>>>, JoinHandle<()>),
    Over,
}

impl Ahead {
    /// Of this walk.
    pub fn of(walk: Walk) -> Self {
        Self { state: State::Before(Box::new(walk)), batch: Vec::new().into_iter() }
    }

    fn start(walk: Walk) -> io::Result<State> {
        let (sender, receiver) = sync_channel(WAITING);
        let thread = thread::Builder::new().name("walk".into()).spawn(move || run(walk, &sender))?;
        Ok(State::Walking(receiver, thread))
    }
}

/// Sends all steps; the last one is the end or the error that is one.
fn run(mut walk: Walk, sender: &SyncSender<Vec<io::Result<Step>>>) {
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        let mut over = false;
        while !over && batch.len() < BATCH {
            let step = walk.next_step();
            over = matches!(step, Ok(Step::End) | Err(_));
            batch.push(step);
        }
        if sender.send(batch).is_err() || over {
            return;
        }
    }
}

impl Source for Ahead {
    fn next_step(&mut self) -> io::Result<Step> {
        loop {
            if let Some(step) = self.batch.next() {
                return step;
            }
            self.state = match std::mem::replace(&mut self.state, State::Over) {
                State::Before(walk) => Self::start(*walk)?,
                State::Walking(receiver, thread) => match receiver.recv() {
                    Ok(batch) => {
                        self.batch = batch.into_iter();
                        State::Walking(receiver, thread)
                    }
                    Err(_) => return Err(io::Error::other("the walk ended before its end")),
                },
                State::Over => return Err(io::Error::other("asked for more than everything")),
            };
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let State::Walking(receiver, thread) = std::mem::replace(&mut self.state, State::Over) {
            drop(receiver);
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::sources::walk::WalkOptions;

    fn paths(source: &mut dyn Source) -> Vec<Vec<u8>> {
        let mut paths = Vec::new();
        while let Step::Entry(entry) = source.next_step().unwrap() {
            paths.push(entry.path);
        }
        paths
    }

    #[test]
    fn it_gives_what_the_walk_gives() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..BATCH * (WAITING + 3) {
            let below = folder.path().join(format!("{}", number % 7));
            std::fs::create_dir_all(&below).unwrap();
            std::fs::write(below.join(format!("{number}")), "").unwrap();
        }
        let walk = || Walk::new(folder.path(), WalkOptions::default()).unwrap();
        let (plain, ahead) = (walk(), walk());
        let counts = [plain.counts(), ahead.counts()];
        let expected = paths(&mut { plain });
        assert!(expected.len() > BATCH * (WAITING + 3));
        assert_eq!(paths(&mut Ahead::of(ahead)), expected);
        assert_eq!(counts[0].entries(), counts[1].entries());
        assert!(counts.iter().all(|counts| counts.is_complete()));
    }

    #[test]
    fn it_ends_when_it_is_dropped_in_between() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..BATCH * (WAITING + 3) {
            std::fs::write(folder.path().join(format!("{number}")), "").unwrap();
        }
        let walk = Walk::new(folder.path(), WalkOptions::default()).unwrap();
        let counts = walk.counts();
        let mut ahead = Ahead::of(walk);
        ahead.next_step().unwrap();
        drop(ahead);
        assert!(!counts.is_complete(), "it does not walk to the end for nobody");
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let walk = Walk::new(folder.path(), WalkOptions::default()).unwrap();
        drop(folder);
        let mut ahead = Ahead::of(walk);
        // An open handle can still be listed; what it gives is the walk's business, but it must come to an end.
        while !matches!(ahead.next_step(), Ok(Step::End) | Err(_)) {}
        assert!(ahead.next_step().is_err());
    }
}
