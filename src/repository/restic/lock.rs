//! Locks, by which programs that use one repository at the same time keep out of each other's way (design document, section
//! "Locks"): written, refreshed, honoured and removed as restic does.
//!
//! Which work needs which lock is decided by the verbs and the facade.

mod others;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::file::{LockFile, Time, to_json};
use super::id::Id;
use super::state::Open;
use crate::platform::clock;
use crate::platform::control::Control;
use crate::platform::host;
use crate::repository::backend::FileKind;
use crate::repository::contract::RepositoryError;

use others::look_for_others;
pub use others::{plan_unlock, staying, unlock};

/// How long things take. Everything but the defaults is for tests: other programs count on them.
#[derive(Debug, Clone, Copy)]
pub struct LockTimes {
    /// How often a lock is refreshed.
    pub refresh: Duration,
    /// After so long without a refresh, the holder must stop. Less than `stale` by more than clocks differ.
    pub lost: Duration,
    /// After so long without a refresh, others may remove the lock.
    pub stale: Duration,
    /// Between writing a lock and looking whether somebody else wrote one at the same time.
    pub settle: Duration,
    /// Before an unreadable lock is read again; it doubles with every try.
    pub reread: Duration,
    /// The first wait before a locked repository is tried again; it doubles up to `retry_most`.
    pub retry: Duration,
    /// The longest wait before a locked repository is tried again.
    pub retry_most: Duration,
    /// How often the refreshing thread looks at the clock, which may have jumped while the machine slept.
    pub tick: Duration,
}

impl Default for LockTimes {
    fn default() -> Self {
        Self {
            refresh: Duration::from_mins(5),
            lost: Duration::from_secs(22 * 60 + 30),
            stale: Duration::from_mins(30),
            settle: Duration::from_millis(200),
            reread: Duration::from_secs(5),
            retry: Duration::from_secs(5),
            retry_most: Duration::from_mins(1),
            tick: Duration::from_secs(1),
        }
    }
}

/// A lock on a repository. It is refreshed by a thread of its own, also while the work is paused, and given back when dropped.
#[derive(Debug)]
pub struct Lock {
    shared: Arc<Shared>,
    refresher: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    open: Open,
    exclusive: bool,
    times: LockTimes,
    state: Mutex<State>,
    /// Signalled when the lock is to be given back.
    closing: Condvar,
    /// Signalled when `state.settled` changes.
    settled: Condvar,
}

/// Whether it is known that nobody wrote a lock at the same time as we did.
#[derive(Debug)]
enum Settled {
    /// The refreshing thread will look.
    Waiting,
    Yes,
    /// Somebody did, or it could not be found out.
    No(RepositoryError),
}

#[derive(Debug)]
struct State {
    /// The file that is our lock.
    file: Id,
    /// Files that were our lock before and could not be removed yet.
    old: Vec<Id>,
    /// When the lock was last refreshed, since the machine started.
    refreshed: Duration,
    /// Others may have removed it: it never counts again.
    lost: bool,
    settled: Settled,
    closing: bool,
}

impl Lock {
    /// Takes a lock, exclusive or shared with all others that are shared. If somebody holds one that excludes ours, it is
    /// tried again for `retry`. Stale locks are removed on the way.
    ///
    /// A shared lock that is not tried again is given out before the time is over in which somebody else's may come to light:
    /// what only reads need not wait for that. [`check`](Self::check), which every write asks, does.
    ///
    /// # Errors
    /// [`RepositoryError::Locked`]; [`RepositoryError::Damaged`] if there is a lock that cannot be read;
    /// [`RepositoryError::Storage`]; [`RepositoryError::Cancelled`].
    pub fn acquire(open: &Open, exclusive: bool, retry: Duration, control: &Control) -> Result<Self, RepositoryError> {
        Self::acquire_with(open, exclusive, retry, control, LockTimes::default())
    }

    /// As [`acquire`](Self::acquire), with other times.
    ///
    /// # Errors
    /// The same.
    pub fn acquire_with(
        open: &Open,
        exclusive: bool,
        retry: Duration,
        control: &Control,
        times: LockTimes,
    ) -> Result<Self, RepositoryError> {
        let start = clock::since_boot();
        let mut wait = times.retry;
        loop {
            let locked = match Self::try_acquire(open, exclusive, exclusive || !retry.is_zero(), control, times) {
                Err(error @ RepositoryError::Locked { .. }) => error,
                result => return result,
            };
            let left = retry.saturating_sub(clock::since_boot().saturating_sub(start));
            if left.is_zero() {
                return Err(locked);
            }
            sleep(wait.min(left), &|| control.is_cancelled())?;
            wait = (wait * 2).min(times.retry_most);
        }
    }

    /// With `surely` it is waited for the time in which somebody else's lock may come to light.
    fn try_acquire(open: &Open, exclusive: bool, surely: bool, control: &Control, times: LockTimes) -> Result<Self, RepositoryError> {
        let stop = || control.is_cancelled();
        look_for_others(open, exclusive, None, &stop, times)?;
        let refreshed = clock::since_boot();
        let file = write(open, exclusive)?;
        let state = State { file, old: Vec::new(), refreshed, lost: false, settled: Settled::Waiting, closing: false };
        let shared =
            Shared { open: open.clone(), exclusive, times, state: Mutex::new(state), closing: Condvar::new(), settled: Condvar::new() };
        // From here on the file is removed whatever happens.
        let mut lock = Self { shared: Arc::new(shared), refresher: None };
        if surely {
            sleep(times.settle, &stop)?;
        }
        // Where a file can be seen as soon as it is written, this decides: of two who write and then look, one sees the other.
        look_for_others(open, exclusive, Some(&file), &stop, times)?;
        if surely {
            lock.shared.state().settled = Settled::Yes;
        }
        let shared = Arc::clone(&lock.shared);
        let refresher = thread::Builder::new().name("lock".into()).spawn(move || {
            shared.settle();
            shared.keep_fresh();
        });
        lock.refresher = Some(refresher.map_err(|error| RepositoryError::Internal(format!("no thread for the lock: {error}")))?);
        Ok(lock)
    }

    /// Whether the lock is still ours. To be asked before every write to the repository. Soon after the lock was taken it
    /// waits until nobody else's can come to light any more.
    ///
    /// # Errors
    /// [`RepositoryError::Locked`] if one did; [`RepositoryError::LockLost`] from the time on when others may have removed ours.
    pub fn check(&self) -> Result<(), RepositoryError> {
        let mut state = self.shared.state();
        loop {
            match &state.settled {
                Settled::Yes => break,
                Settled::No(error) => return Err(again(error)),
                // It has panicked.
                Settled::Waiting if self.refresher.as_ref().is_none_or(JoinHandle::is_finished) => state.lost = true,
                Settled::Waiting => {}
            }
            if state.lost {
                break;
            }
            state = self.shared.settled.wait_timeout(state, self.shared.times.tick).unwrap_or_else(PoisonError::into_inner).0;
        }
        if self.shared.is_lost(&mut state) {
            return Err(RepositoryError::LockLost { location: self.shared.open.location() });
        }
        Ok(())
    }

    /// As [`check`](Self::check), and looks whether the lock file is still there: somebody whose clock is wrong may have taken it
    /// for stale. To be asked before what counts on nobody having removed or added anything.
    ///
    /// # Errors
    /// As for [`check`](Self::check); [`RepositoryError::Storage`] if that cannot be found out.
    pub fn confirm(&self) -> Result<(), RepositoryError> {
        loop {
            self.check()?;
            let file = self.shared.state().file;
            if self.shared.open.list_ids(FileKind::Lock)?.contains(&file) {
                return Ok(());
            }
            let mut state = self.shared.state();
            // Else it was refreshed in between.
            if state.file == file {
                state.lost = true;
            }
        }
    }

    /// Writes a snapshot or an index. It counts on data that only the lock keeps from being removed: so the lock must be there
    /// when the file is. Whoever takes it away later finds the file.
    ///
    /// # Errors
    /// As for [`confirm`](Self::confirm). Then there is no such file.
    pub fn write(&self, kind: FileKind, json: &[u8]) -> Result<Id, RepositoryError> {
        self.confirm()?;
        let id = self.shared.open.write_unpacked(kind, json)?;
        // A storage that does not answer once says nothing.
        let confirmed =
            self.confirm().or_else(|error| if matches!(error, RepositoryError::Storage { .. }) { self.confirm() } else { Err(error) });
        if let Err(error) = confirmed {
            // What it counts on may be gone.
            self.shared.open.remove(kind, &id)?;
            return Err(error);
        }
        Ok(id)
    }

    /// Whether nobody else holds a lock.
    pub fn is_exclusive(&self) -> bool {
        self.shared.exclusive
    }
}

/// What has to hold before every step of long work: the lock is still ours, and nobody cancelled.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'a> {
    /// None only where nothing is written.
    pub lock: Option<&'a Lock>,
    /// Holds while paused.
    pub control: &'a Control,
}

impl Guard<'_> {
    /// Waits while paused.
    ///
    /// # Errors
    /// [`RepositoryError::Cancelled`] and [`RepositoryError::LockLost`].
    pub fn check(self) -> Result<(), RepositoryError> {
        self.control.checkpoint()?;
        self.lock.map_or(Ok(()), Lock::check)
    }

    /// The same before things are removed that others may have begun to use, should our lock be gone.
    ///
    /// # Errors
    /// The same; [`RepositoryError::Storage`].
    pub fn confirm(self) -> Result<(), RepositoryError> {
        self.control.checkpoint()?;
        self.lock.map_or(Ok(()), Lock::confirm)
    }

    /// As [`Lock::write`]. There is no lock only in tests.
    ///
    /// # Errors
    /// The same.
    pub fn write(self, open: &Open, kind: FileKind, json: &[u8]) -> Result<Id, RepositoryError> {
        self.lock.map_or_else(|| open.write_unpacked(kind, json), |lock| lock.write(kind, json))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.shared.state().closing = true;
        self.shared.closing.notify_all();
        if let Some(refresher) = self.refresher.take() {
            drop(refresher.join());
        }
        let state = self.shared.state();
        for file in state.old.iter().chain([&state.file]) {
            // What cannot be removed now is removed by others once it is stale.
            drop(self.shared.open.remove(FileKind::Lock, file));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_lost(&self, state: &mut State) -> bool {
        state.lost |= clock::since_boot().saturating_sub(state.refreshed) > self.times.lost;
        state.lost
    }

    /// Waits for the time in which somebody else's lock may come to light, and looks.
    fn settle(&self) {
        let file = {
            let state = self.state();
            if matches!(state.settled, Settled::Yes) {
                return;
            }
            let waits = |state: &mut State| !state.closing;
            let waited = self.closing.wait_timeout_while(state, self.times.settle, waits);
            let state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.closing {
                return;
            }
            state.file
        };
        let looked = look_for_others(&self.open, self.exclusive, Some(&file), &|| self.state().closing, self.times);
        self.state().settled = looked.map_or_else(Settled::No, |()| Settled::Yes);
        self.settled.notify_all();
    }

    /// Runs in a thread of its own until the lock is given back or lost.
    fn keep_fresh(&self) {
        let mut tried = self.state().refreshed;
        // After a failure it is tried again sooner.
        let mut due = self.times.refresh;
        loop {
            let mut state = self.state();
            if !state.closing {
                state = self.closing.wait_timeout(state, self.times.tick).unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.closing || self.is_lost(&mut state) {
                return;
            }
            drop(state);
            let now = clock::since_boot();
            if now.saturating_sub(tried) >= due {
                tried = now;
                due = if self.refresh(now).is_ok() { self.times.refresh } else { self.times.refresh / 10 };
            }
        }
    }

    /// Writes a new lock file and removes the one before. Nothing is locked meanwhile, as this may take long.
    fn refresh(&self, now: Duration) -> Result<(), RepositoryError> {
        let file = self.state().file;
        if !self.open.list_ids(FileKind::Lock)?.contains(&file) {
            // Somebody removed it and may rely on that: writing another would not help.
            self.state().lost = true;
            return Ok(());
        }
        let new = write(&self.open, self.exclusive)?;
        let old = {
            let mut state = self.state();
            // It took so long that others may have given it up: what was written is removed with the rest.
            if self.is_lost(&mut state) {
                state.old.push(new);
                return Ok(());
            }
            state.refreshed = now;
            let before = std::mem::replace(&mut state.file, new);
            state.old.push(before);
            state.old.clone()
        };
        for file in old {
            if self.open.remove(FileKind::Lock, &file).is_ok() {
                self.state().old.retain(|other| *other != file);
            }
        }
        Ok(())
    }
}

/// The same error once more, for whoever asks next.
fn again(error: &RepositoryError) -> RepositoryError {
    match error {
        RepositoryError::Locked { location, pid, host, since, exclusive } => RepositoryError::Locked {
            location: location.clone(),
            pid: *pid,
            host: host.clone(),
            since: since.clone(),
            exclusive: *exclusive,
        },
        RepositoryError::Damaged { file, offset, expected } => {
            RepositoryError::Damaged { file: file.clone(), offset: *offset, expected: expected.clone() }
        }
        RepositoryError::Storage { action, file, source } => {
            RepositoryError::Storage { action, file: file.clone(), source: io::Error::new(source.kind(), source.to_string()) }
        }
        other => RepositoryError::Internal(other.to_string()),
    }
}

/// Waits until `stop`. Not held up by a pause: who waits for a lock holds nothing.
fn sleep(time: Duration, stop: &dyn Fn() -> bool) -> Result<(), RepositoryError> {
    let start = clock::monotonic();
    loop {
        if stop() {
            return Err(RepositoryError::Cancelled);
        }
        let left = time.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// Writes a lock file of ours.
fn write(open: &Open, exclusive: bool) -> Result<Id, RepositoryError> {
    let file = LockFile {
        time: Time::in_zone(clock::now(), &clock::local_zone()),
        exclusive,
        hostname: host::hostname(),
        username: host::username(),
        pid: host::pid().into(),
        uid: host::uid(),
        gid: host::gid(),
    };
    let json = to_json(&file).map_err(|error| RepositoryError::Internal(error.to_string()))?;
    open.write_unpacked(FileKind::Lock, &json)
}

#[cfg(test)]
mod tests;
