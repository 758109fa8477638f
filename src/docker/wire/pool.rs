//! Connections that were used and wait for their next request, where making a new one takes long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Sender;
use crate::platform::clock;

/// After this time somebody on the way may have forgotten the connection without telling us.
const PATIENCE: Duration = Duration::from_mins(1);
/// As many as discovery opens at once.
const MOST: usize = 16;

/// The waiting connections. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Idle>>>);

#[derive(Debug)]
struct Idle {
    sender: Sender,
    since: Instant,
}

impl Pool {
    /// The connection that was used last, if it still lives.
    pub(super) fn take(&self) -> Option<Sender> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::monotonic();
        waiting.retain(|idle| !idle.sender.is_closed() && now.duration_since(idle.since) < PATIENCE);
        waiting.pop().map(|idle| idle.sender)
    }

    /// Takes a connection back as soon as its answer has been read to the end. One whose answer is dropped is closed.
    pub(super) fn put_back(&self, mut sender: Sender) {
        let waiting = Arc::clone(&self.0);
        // Ends with the answer: `ready` fails when the connection does.
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if waiting.len() < MOST {
                    waiting.push(Idle { sender, since: clock::monotonic() });
                }
            }
        });
    }
}
