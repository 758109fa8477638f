//! The locks of others: whether one excludes ours, and which are stale.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{LockTimes, sleep};
use crate::platform::clock;
use crate::platform::host::{self, Liveness};
use crate::repository::backend::FileKind;
use crate::repository::contract::{LockHolder, RepositoryError, StaleLock, StayingLock};
use crate::repository::restic::file::{LockFile, damaged_json};
use crate::repository::restic::id::Id;
use crate::repository::restic::state::{self, Open};

/// Programs that lock repositories.
pub(super) const PROGRAMS: &[&str] = &["bbackup", "restic"];

/// A lock that says to be from so long after now was written by a clock that was wrong: what it says is not believed, as it would
/// not be stale for as long.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// An unreadable lock is read so often before it counts as damaged.
const READS: u32 = 4;

/// Fails if somebody holds a lock that excludes ours. `own` is not looked at. Stale locks are removed.
pub(super) fn look_for_others(
    open: &Open,
    exclusive: bool,
    own: Option<&Id>,
    stop: &dyn Fn() -> bool,
    times: LockTimes,
) -> Result<(), RepositoryError> {
    let mut wait = times.reread;
    let mut tries = 0;
    loop {
        let unreadable = match read_others(open, own, times)? {
            Ok(locks) => return judge(open, exclusive, own, &locks, times),
            Err(error) => error,
        };
        // It may be about to be written, or be removed already. What stays unreadable must not be passed over.
        tries += 1;
        if tries >= READS {
            return Err(unreadable);
        }
        sleep(wait, stop)?;
        wait *= 2;
    }
}

/// All locks but `own`, or what was wrong with one that could not be read. A damaged one that is old for the store has no content: whoever
/// held it has not refreshed it.
type Others = Result<Vec<(Id, Option<LockFile>)>, RepositoryError>;

/// Reads all locks but `own`.
fn read_others(open: &Open, own: Option<&Id>, times: LockTimes) -> Result<Others, RepositoryError> {
    // Locks are refreshed by writing another and removing the first. Where one goes while we read, the other may not be
    // in our list yet, so the list is read anew; so many refreshes in a row do not happen.
    let mut rounds = 0;
    'list: loop {
        rounds += 1;
        let mut locks = Vec::new();
        for (id, size) in open.list_sizes(FileKind::Lock)? {
            // An empty file is one whose writing was cut off: its writer never held the lock.
            if Some(&id) == own || size == 0 {
                continue;
            }
            match read(open, &id) {
                Ok(lock) => locks.push((id, Some(lock))),
                Err(error) if rounds < 10 && state::is_gone(&error) => continue 'list,
                Err(RepositoryError::Damaged { .. }) if was_written_lately(open, &id, own, times)? == Some(false) => locks.push((id, None)),
                Err(error) => return Ok(Err(error)),
            }
        }
        return Ok(Ok(locks));
    }
}

pub(super) fn read(open: &Open, id: &Id) -> Result<LockFile, RepositoryError> {
    let json = open.read_unpacked(FileKind::Lock, id)?;
    serde_json::from_slice(&json).map_err(|error| damaged_json(format!("lock {id}"), &json, "a lock in JSON", &error))
}

/// As long as we have none of our own, stale locks are only passed over: what time it is for the store is not known yet.
fn judge(
    open: &Open,
    exclusive: bool,
    own: Option<&Id>,
    locks: &[(Id, Option<LockFile>)],
    times: LockTimes,
) -> Result<(), RepositoryError> {
    for (id, lock) in locks {
        if let Some(lock) = lock
            && !is_over(open, id, lock, own, own.is_some(), times)?
        {
            if exclusive || lock.exclusive {
                return Err(RepositoryError::Locked {
                    location: open.location(),
                    pid: u32::try_from(lock.pid).unwrap_or(0),
                    host: lock.hostname.clone(),
                    since: since(lock),
                    exclusive: lock.exclusive,
                });
            }
        } else if own.is_some() {
            open.remove(FileKind::Lock, id)?;
        }
    }
    Ok(())
}

/// When the lock was made, in our time zone.
fn since(lock: &LockFile) -> String {
    lock.time.instant.to_zoned(clock::local_zone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Whether nobody can hold this lock any more: it was not refreshed for long, or its process on this machine is gone. If the
/// latter cannot be told, it is not over. One that is old and whose program is seen to run here is not over either: the clock was
/// set, and it has not yet come to refreshing. (One that is suspended gives up by itself.) Unless it must be told `surely`, what is
/// written in an old lock is believed. `own` was written just now.
fn is_over(open: &Open, id: &Id, lock: &LockFile, own: Option<&Id>, surely: bool, times: LockTimes) -> Result<bool, RepositoryError> {
    if is_dead(lock) {
        return Ok(true);
    }
    let (now, then) = (clock::now(), lock.time.instant);
    let is_ahead = then.duration_since(now) > AHEAD;
    if !(is_ahead || is_older(now, then, times.stale)) || (is_here(lock) && host::another_runs(lock.pid, PROGRAMS)) {
        return Ok(false);
    }
    if !(surely || is_ahead) {
        return Ok(true);
    }
    Ok(match was_written_lately(open, id, own, times)? {
        Some(lately) => !lately,
        // Nobody knows, and by what is written in it, it is old, or not.
        None => !is_ahead,
    })
}

fn is_here(lock: &LockFile) -> bool {
    !lock.hostname.is_empty() && lock.hostname == host::hostname()
}

fn is_older(now: Timestamp, then: Timestamp, limit: Duration) -> bool {
    now.duration_since(then) > SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX)
}

/// Whether its process was one of this machine and is gone.
fn is_dead(lock: &LockFile) -> bool {
    is_here(lock) && host::liveness(lock.pid, lock.time.instant, PROGRAMS) == Liveness::Gone
}

/// Whether a lock was written lately by the clock of the store, which nobody's own clock disturbs; none where it does not say.
/// Then the clock of its holder, or ours, is wrong, and its holder lives. `own` was written just now.
fn was_written_lately(open: &Open, id: &Id, own: Option<&Id>, times: LockTimes) -> Result<Option<bool>, RepositoryError> {
    let now = match own {
        Some(own) => open.modified(FileKind::Lock, own)?,
        None => Some(clock::now()),
    };
    let written = open.modified(FileKind::Lock, id)?;
    Ok(now.zip(written).map(|(now, written)| !is_older(now, written, times.stale)))
}

/// Finds the locks that are stale, or all of them.
///
/// # Errors
/// [`RepositoryError::Storage`].
pub fn plan_unlock(open: &Open, all: bool) -> Result<Vec<StaleLock>, RepositoryError> {
    let mut found = Vec::new();
    for (id, size) in open.list_sizes(FileKind::Lock)? {
        let times = LockTimes::default();
        let read = if size > 0 { read(open, &id) } else { Err(RepositoryError::Internal("an empty file".to_owned())) };
        let is_over = match &read {
            _ if all => true,
            Ok(lock) => is_over(open, &id, lock, None, true, times)?,
            // What cannot be reached may be anybody's; it only goes with all the others.
            Err(RepositoryError::Storage { .. }) => false,
            // Also one that was cut off while it was written.
            Err(_) => was_written_lately(open, &id, None, times)? == Some(false),
        };
        let lock = read.ok();
        if is_over {
            found.push(StaleLock { id: id.to_string(), holder: lock.map(holder) });
        }
    }
    Ok(found)
}

/// The locks that are there, with what is known of when they become stale.
///
/// # Errors
/// [`RepositoryError::Storage`].
pub fn staying(open: &Open) -> Result<Vec<StayingLock>, RepositoryError> {
    let times = LockTimes::default();
    let mut staying = Vec::new();
    for id in open.list_ids(FileKind::Lock)? {
        let lock = match read(open, &id) {
            // It was given back just now.
            Err(error) if state::is_gone(&error) => continue,
            lock => lock.ok(),
        };
        let written = open.modified(FileKind::Lock, &id)?.max(lock.as_ref().map(|lock| lock.time.instant.min(clock::now())));
        let stale_at = written.and_then(|written| written.checked_add(times.stale).ok());
        staying.push(StayingLock { id: id.to_string(), holder: lock.map(holder), stale_at });
    }
    Ok(staying)
}

fn holder(lock: LockFile) -> LockHolder {
    let LockFile { time, exclusive, hostname, username, pid, .. } = lock;
    LockHolder { host: hostname, user: username, pid: u64::try_from(pid).unwrap_or(0), since: time.instant, exclusive }
}

/// Removes the locks that are stale, or all of them, and says which they were.
///
/// # Warning
/// Removing all takes locks from programs that still run: another may then remove the data that they rely on.
///
/// # Errors
/// [`RepositoryError::Storage`].
pub fn unlock(open: &Open, all: bool) -> Result<Vec<StaleLock>, RepositoryError> {
    let found = plan_unlock(open, all)?;
    for lock in &found {
        if let Ok(id) = lock.id.parse() {
            open.remove(FileKind::Lock, &id)?;
        }
    }
    Ok(found)
}
