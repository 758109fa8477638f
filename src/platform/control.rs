//! The handle through which running work is paused, resumed, skipped and cancelled.
//!
//! Faces hold one end (`pause`, `skip`, `cancel`), workers the other (`checkpoint`). Both are clones of one handle.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Why work does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The whole operation was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The current item was skipped.
    #[error("skipped")]
    Skipped,
}

/// A handle on running work; clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    cancelled: AtomicBool,
    paused: AtomicBool,
    /// Counts the calls of `skip`: an item that began at another count is to be skipped.
    skips: AtomicU64,
    /// Held only while waiting or waking; `wake` is signalled whenever a flag changes.
    gate: Mutex<()>,
    wake: Condvar,
}

impl Control {
    /// A handle on work that runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the work at its next checkpoint, also while it is paused.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Holds the work at its next checkpoint.
    pub fn pause(&self) {
        self.0.paused.store(true, Ordering::SeqCst);
    }

    /// Lets paused work go on.
    pub fn resume(&self) {
        self.0.paused.store(false, Ordering::SeqCst);
        self.wake();
    }

    /// Skips the items that are being worked on now; later ones are not affected.
    pub fn skip(&self) {
        self.0.skips.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    /// Whether `cancel` was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Whether the work is held.
    pub fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::SeqCst)
    }

    /// Waits while paused.
    ///
    /// # Errors
    /// [`Stop::Cancelled`] once `cancel` was called.
    pub fn checkpoint(&self) -> Result<(), Stop> {
        self.hold(|| false)
    }

    /// Marks the start of an item, so that a later `skip` reaches it and an earlier one does not.
    pub fn begin_item(&self) -> ItemControl {
        ItemControl { control: self.clone(), began_at: self.0.skips.load(Ordering::SeqCst) }
    }

    fn hold(&self, skipped: impl Fn() -> bool) -> Result<(), Stop> {
        // The flags are read without the lock on the way that is taken a thousand times a second.
        loop {
            if self.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            if skipped() {
                return Err(Stop::Skipped);
            }
            if !self.is_paused() {
                return Ok(());
            }
            let guard = self.0.gate.lock().unwrap_or_else(PoisonError::into_inner);
            if self.is_paused() && !self.is_cancelled() && !skipped() {
                // The time limit only bounds what a lost wake-up could cost.
                drop(self.0.wake.wait_timeout(guard, Duration::from_millis(100)));
            }
        }
    }

    fn wake(&self) {
        let _guard = self.0.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.wake.notify_all();
    }
}

/// A handle on one item of running work.
#[derive(Debug, Clone)]
pub struct ItemControl {
    control: Control,
    began_at: u64,
}

impl ItemControl {
    /// Waits while paused.
    ///
    /// # Errors
    /// [`Stop::Cancelled`] once the whole work was cancelled, [`Stop::Skipped`] once this item was skipped.
    pub fn checkpoint(&self) -> Result<(), Stop> {
        self.control.hold(|| self.is_skipped())
    }

    /// Whether this item was skipped.
    pub fn is_skipped(&self) -> bool {
        self.control.0.skips.load(Ordering::SeqCst) != self.began_at
    }

    /// The handle on the whole work.
    pub fn control(&self) -> &Control {
        &self.control
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_reaches_only_what_is_under_way() {
        let control = Control::new();
        let first = control.begin_item();
        control.skip();
        let second = control.begin_item();
        assert_eq!(first.checkpoint(), Err(Stop::Skipped));
        assert_eq!(second.checkpoint(), Ok(()));
        assert_eq!(control.checkpoint(), Ok(()));
    }

    #[test]
    fn cancel_frees_paused_work() {
        let control = Control::new();
        control.pause();
        let worker = std::thread::spawn({
            let control = control.clone();
            move || control.checkpoint()
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!worker.is_finished());
        control.cancel();
        assert!(matches!(worker.join(), Ok(Err(Stop::Cancelled))));
    }
}
