//! Turns on what tests share: many may have one at once, or one test has it alone.
//!
//! Unlike those of a lock, a test may take several, also while another one waits to be alone.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Who has turns.
#[derive(Debug, Default)]
struct State {
    shared: usize,
    alone: bool,
    /// How many wait to be alone: they come before those that have no turn yet.
    waiting: usize,
}

/// Something that is shared.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

thread_local! {
    /// Turns of this test.
    static OWN: Cell<usize> = const { Cell::new(0) };
}

/// A turn. It stays with its test's thread.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: &'static Turns,
    alone: bool,
    _thread: PhantomData<MutexGuard<'static, ()>>,
}

impl Turns {
    pub(crate) const fn new() -> Self {
        Self { state: Mutex::new(State { shared: 0, alone: false, waiting: 0 }), changed: Condvar::new() }
    }

    /// A turn with others, once nobody is alone.
    pub(crate) fn shared(&'static self) -> Turn {
        let has_one = OWN.get() > 0;
        let is_early = |state: &mut State| !has_one && (state.alone || state.waiting > 0);
        let mut state = self.changed.wait_while(self.lock(), is_early).unwrap_or_else(PoisonError::into_inner);
        state.shared += 1;
        OWN.set(OWN.get() + 1);
        Turn { turns: self, alone: false, _thread: PhantomData }
    }

    /// One with nobody else. The test must have no other.
    pub(crate) fn alone(&'static self) -> Turn {
        assert_eq!(OWN.get(), 0, "nobody is alone beside himself");
        let mut state = self.lock();
        state.waiting += 1;
        let is_early = |state: &mut State| state.alone || state.shared > 0;
        let mut state = self.changed.wait_while(state, is_early).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state.alone = true;
        OWN.set(1);
        Turn { turns: self, alone: true, _thread: PhantomData }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        if self.alone {
            state.alone = false;
        } else {
            state.shared -= 1;
        }
        OWN.set(OWN.get().saturating_sub(1));
        self.turns.changed.notify_all();
    }
}

#[test]
fn who_has_a_turn_gets_another_while_somebody_waits_to_be_alone() {
    static TURNS: Turns = Turns::new();
    let first = TURNS.shared();
    let other = std::thread::spawn(|| drop(TURNS.alone()));
    // Nobody can say when it waits; whenever that is, it is in nobody's way here.
    for _ in 0..50 {
        drop(TURNS.shared());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(!other.is_finished(), "it is not alone");
    drop(first);
    other.join().unwrap();
}
