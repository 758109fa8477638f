//! Tests of locks: ours among each other, beside a live restic, stale, lost and damaged.
//!
//! What a stopped process does to a backup is tested from outside.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use super::super::state::testing::{closed, empty_repository, has_restic, password, restic, restic_command};
use super::super::state::{Closed, InitOptions};
use super::others::read;
use super::*;
use crate::platform::host::Liveness;
use crate::platform::secret::Secret;
use crate::repository::backend::Backend;
use crate::repository::backend::testing::MemoryBackend;

/// A thousand times as fast as it is.
const FAST: LockTimes = LockTimes {
    refresh: Duration::from_millis(100),
    lost: Duration::from_mins(1),
    stale: Duration::from_mins(30),
    settle: Duration::from_millis(20),
    reread: Duration::from_millis(10),
    retry: Duration::from_millis(20),
    retry_most: Duration::from_millis(50),
    tick: Duration::from_millis(10),
};

fn take(open: &Open, exclusive: bool) -> Result<Lock, RepositoryError> {
    Lock::acquire_with(open, exclusive, Duration::ZERO, &Control::new(), FAST)
}

fn files(open: &Open) -> Vec<Id> {
    open.list_ids(FileKind::Lock).unwrap()
}

fn is_locked(result: &Result<Lock, RepositoryError>) -> bool {
    matches!(result, Err(RepositoryError::Locked { .. }))
}

/// Writes the lock of somebody else.
fn foreign(open: &Open, change: impl FnOnce(&mut LockFile)) -> Id {
    let mut file = LockFile {
        time: Time::utc(clock::now()),
        exclusive: true,
        hostname: "elsewhere".into(),
        username: "somebody".into(),
        pid: 4711,
        uid: 1000,
        gid: 1000,
    };
    change(&mut file);
    open.write_unpacked(FileKind::Lock, &to_json(&file).unwrap()).unwrap()
}

/// Makes the store say that a lock was written so long ago.
fn written(folder: &Path, id: &Id, minutes: u64) {
    let file = fs::File::options().write(true).open(folder.join("locks").join(id.to_string())).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_mins(minutes)).unwrap();
}

fn minutes_ago(minutes: i64) -> Time {
    Time::utc(clock::now().checked_sub(jiff::SignedDuration::from_mins(minutes)).unwrap())
}

#[test]
fn only_shared_locks_stand_beside_each_other() {
    let (_folder, open) = empty_repository(2);
    let one = take(&open, false).unwrap();
    let two = take(&open, false).unwrap();
    assert_eq!(files(&open).len(), 2);
    assert!(is_locked(&take(&open, true)));
    assert_eq!(files(&open).len(), 2, "the refused one left nothing");
    drop((one, two));
    assert_eq!(files(&open), []);
    let alone = take(&open, true).unwrap();
    assert!(alone.is_exclusive());
    assert!(is_locked(&take(&open, false)));
    assert!(is_locked(&take(&open, true)));
    drop(alone);
    take(&open, true).unwrap();
}

#[test]
fn a_shared_lock_can_be_read_under_before_it_is_sure_but_not_written_under() {
    let (_folder, open) = empty_repository(2);
    let times = LockTimes { settle: Duration::from_millis(600), ..FAST };
    let shared = || Lock::acquire_with(&open, false, Duration::ZERO, &Control::new(), times).unwrap();
    let start = clock::monotonic();
    let lock = shared();
    lock.check().unwrap();
    assert!(start.elapsed() >= times.settle);
    drop(lock);
    let lock = shared();
    // Another program looked before our lock could be seen.
    foreign(&open, |_| {});
    let asked = || lock.check();
    assert!(matches!(asked(), Err(RepositoryError::Locked { pid: 4711, exclusive: true, .. })));
    assert!(matches!(asked(), Err(RepositoryError::Locked { pid: 4711, exclusive: true, .. })), "also when asked again");
    drop(lock);
    assert_eq!(files(&open).len(), 1);
    // Whoever waits for others anyway gets no lock that is not sure.
    unlock(&open, true).unwrap();
    let start = clock::monotonic();
    drop(Lock::acquire_with(&open, false, Duration::from_secs(1), &Control::new(), times).unwrap());
    assert!(start.elapsed() >= times.settle);
}

#[test]
fn of_many_at_once_at_most_one_is_alone() {
    let (_folder, open) = empty_repository(2);
    for _ in 0..3 {
        let locks: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| take(&open, true))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(locks.iter().filter(|lock| lock.is_ok()).count() <= 1);
        assert!(locks.iter().all(|lock| lock.is_ok() || is_locked(lock)), "{locks:?}");
        drop(locks);
        assert_eq!(files(&open), []);
    }
}

#[test]
fn the_file_says_who_holds_it() {
    let (_folder, open) = empty_repository(2);
    let _lock = take(&open, true).unwrap();
    let file = read(&open, &files(&open)[0]).unwrap();
    assert_eq!((&file.hostname, file.pid, file.exclusive), (&host::hostname(), i64::from(host::pid()), true));
    assert_eq!((&file.username, file.uid, file.gid), (&host::username(), host::uid(), host::gid()));
    assert!(clock::now().duration_since(file.time.instant).as_secs() < 5);
    let Err(RepositoryError::Locked { pid, host: name, exclusive, since, .. }) = take(&open, false) else { unreachable!() };
    assert_eq!((pid, name, exclusive), (host::pid(), host::hostname(), true));
    assert_eq!(since.len(), "2026-01-01 00:00:00".len());
}

#[test]
fn a_lock_is_refreshed_and_then_given_back() {
    let (_folder, open) = empty_repository(2);
    let lock = take(&open, false).unwrap();
    let first = files(&open);
    let first_time = read(&open, &first[0]).unwrap().time.instant;
    let start = clock::monotonic();
    while files(&open) == first || files(&open).len() != 1 {
        assert!(start.elapsed() < Duration::from_secs(10), "never refreshed");
        thread::sleep(Duration::from_millis(5));
    }
    assert!(read(&open, &files(&open)[0]).unwrap().time.instant > first_time);
    lock.check().unwrap();
    drop(lock);
    assert_eq!(files(&open), []);
}

#[test]
fn a_lock_is_refreshed_while_the_work_is_paused() {
    let (_folder, open) = empty_repository(2);
    let lock = take(&open, false).unwrap();
    let control = Control::new();
    control.pause();
    thread::scope(|scope| {
        let work = scope.spawn(|| Guard { lock: Some(&lock), control: &control }.check());
        let first = files(&open);
        let start = clock::monotonic();
        for refreshed in 0..3 {
            let before = files(&open);
            while files(&open) == before || files(&open).len() != 1 {
                assert!(start.elapsed() < Duration::from_secs(10), "refreshed only {refreshed} times");
                thread::sleep(Duration::from_millis(5));
            }
        }
        assert_ne!(files(&open), first);
        assert!(!work.is_finished(), "the pause did not hold");
        control.resume();
        work.join().unwrap().unwrap();
    });
}

#[test]
fn a_lock_that_cannot_be_refreshed_is_lost() {
    let (folder, open) = empty_repository(2);
    let times = LockTimes { lost: Duration::from_millis(1500), ..FAST };
    let lock = Lock::acquire_with(&open, false, Duration::ZERO, &Control::new(), times).unwrap();
    lock.check().unwrap();
    // New files cannot be written, not even by root.
    let (locks, away) = (folder.path().join("locks"), folder.path().join("away"));
    fs::rename(&locks, &away).unwrap();
    fs::write(&locks, "a file in the way").unwrap();
    lock.check().unwrap();
    let start = clock::monotonic();
    while lock.check().is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10), "never lost");
        thread::sleep(Duration::from_millis(5));
    }
    fs::remove_file(&locks).unwrap();
    fs::rename(&away, &locks).unwrap();
    thread::sleep(Duration::from_millis(150));
    assert!(matches!(lock.check(), Err(RepositoryError::LockLost { .. })), "once lost, always lost");
    assert_eq!(files(&open).len(), 1);
    drop(lock);
    assert_eq!(files(&open), []);
}

#[test]
fn a_lock_that_somebody_removed_is_lost() {
    let (_folder, open) = empty_repository(2);
    let lock = take(&open, false).unwrap();
    assert_eq!(unlock(&open, true).unwrap().len(), 1);
    let start = clock::monotonic();
    while lock.check().is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10), "never noticed");
        thread::sleep(Duration::from_millis(5));
    }
    drop(lock);
    assert_eq!(files(&open), []);
}

#[test]
fn locks_are_stale_when_old_or_when_their_process_is_gone() {
    let here = host::hostname();
    let judged_when_written = |minutes: u64, change: &dyn Fn(&mut LockFile)| {
        let (folder, open) = empty_repository(2);
        let id = foreign(&open, |file| change(file));
        written(folder.path(), &id, minutes);
        let lock = take(&open, true);
        assert_eq!(is_locked(&lock), files(&open).contains(&id));
        lock.is_ok()
    };
    let judged = |change: &dyn Fn(&mut LockFile)| judged_when_written(0, change);
    assert!(judged_when_written(31, &|file| file.time = minutes_ago(31)));
    assert!(!judged_when_written(29, &|file| file.time = minutes_ago(31)), "its holder's clock, or ours, is wrong");
    assert!(!judged(&|file| file.time = minutes_ago(60 * 24)), "as far as it may be");
    assert!(!judged_when_written(31, &|file| file.time = minutes_ago(29)));
    assert!(!judged(&|file| file.time = minutes_ago(29)));
    assert!(!judged(&|file| file.time = minutes_ago(-60)), "from the future");
    let years = 60 * 24 * 365 * 3;
    assert!(!judged(&|file| file.time = minutes_ago(-years)), "its clock is wrong, but it lives");
    assert!(!judged_when_written(29, &|file| file.time = minutes_ago(-years)));
    assert!(judged_when_written(31, &|file| file.time = minutes_ago(-years)), "its clock was wrong: else it were honoured for years");
    assert!(!judged_when_written(31, &|file| file.time = minutes_ago(-50)), "clocks differ by as much");
    assert!(!judged(&|file| file.hostname = here.clone()) || host::liveness(4711, clock::now(), others::PROGRAMS) == Liveness::Gone);
    let gone = i64::from(i32::MAX);
    let told = host::liveness(gone, clock::now(), others::PROGRAMS) == Liveness::Gone;
    assert_eq!(judged(&|file| (file.hostname, file.pid) = (here.clone(), gone)), told);
    assert!(!judged(&|file| file.pid = gone), "of another machine");
    let ours = |file: &mut LockFile| (file.hostname, file.pid, file.time) = (here.clone(), host::pid().into(), minutes_ago(60 * 24 * 400));
    assert!(judged_when_written(60 * 24 * 400, &ours), "a dead one had our number, as in a container");
    let program = tempfile::tempdir().unwrap();
    let program = program.path().join("restic");
    std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
    let mut other = std::process::Command::new(&program).arg("600").spawn().unwrap();
    while !host::another_runs(other.id().into(), &["restic"]) {
        thread::sleep(Duration::from_millis(1));
    }
    let pid = i64::from(other.id());
    let living = |file: &mut LockFile| (file.hostname, file.pid, file.time) = (here.clone(), pid, minutes_ago(60 * 24 * 400));
    assert!(!judged_when_written(60 * 24 * 400, &living), "the clock was set: it runs");
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(judged_when_written(60 * 24 * 400, &living));
    assert!(!judged(&|file| (file.hostname, file.pid) = (here.clone(), host::pid().into())));
    assert!(!judged(&|file| (file.hostname, file.pid) = (String::new(), gone)));
}

#[test]
fn unlock_takes_what_is_stale_or_all() {
    let (folder, open) = empty_repository(2);
    written(folder.path(), &foreign(&open, |file| file.time = minutes_ago(40)), 40);
    written(folder.path(), &foreign(&open, |file| file.time = minutes_ago(-60 * 24 * 365)), 40);
    foreign(&open, |_| {});
    foreign(&open, |file| file.time = minutes_ago(-60 * 24 * 365));
    fs::write(folder.path().join("locks").join(Id::of(b"empty").to_string()), "").unwrap();
    fs::write(folder.path().join("locks").join(Id::of(b"bad").to_string()), "unreadable").unwrap();
    for (name, content) in [(&b"old and empty"[..], ""), (b"old and bad", "unreadable")] {
        fs::write(folder.path().join("locks").join(Id::of(name).to_string()), content).unwrap();
        written(folder.path(), &Id::of(name), 40);
    }
    let removed = unlock(&open, false).unwrap();
    assert_eq!((removed.len(), removed.iter().filter(|lock| lock.holder.is_none()).count()), (4, 2));
    assert_eq!(files(&open).len(), 4);
    assert_eq!(unlock(&open, true).unwrap().len(), 4);
    assert_eq!(files(&open), []);
}

#[test]
fn an_unreadable_lock_is_not_passed_over_but_an_empty_one_is() {
    let (folder, open) = empty_repository(2);
    let locks = folder.path().join("locks");
    fs::write(locks.join(Id::of(b"empty").to_string()), "").unwrap();
    take(&open, true).unwrap();
    let bad = Id::of(b"bad");
    fs::write(locks.join(bad.to_string()), "unreadable").unwrap();
    let result = take(&open, false);
    assert!(matches!(&result, Err(RepositoryError::Damaged { file, .. }) if *file == format!("lock {bad}")), "{result:?}");
    assert_eq!(files(&open).len(), 2);
    // Whoever held it would have written another since.
    written(folder.path(), &bad, 29);
    assert!(take(&open, true).is_err());
    written(folder.path(), &bad, 31);
    drop(take(&open, true).unwrap());
    assert_eq!(files(&open).len(), 1, "it is gone, as a stale one");
}

#[test]
fn a_locked_repository_is_tried_again() {
    let (_folder, open) = empty_repository(2);
    let held = take(&open, true).unwrap();
    let retry = |time: Duration, control: &Control| Lock::acquire_with(&open, false, time, control, FAST);
    let start = clock::monotonic();
    assert!(is_locked(&retry(Duration::from_millis(300), &Control::new())));
    assert!(start.elapsed() >= Duration::from_millis(300));
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            drop(held);
        });
        let got = retry(Duration::from_secs(20), &Control::new()).unwrap();
        got.check().unwrap();
    });
    let _held = take(&open, true).unwrap();
    let control = Control::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(100));
            control.cancel();
        });
        assert!(matches!(retry(Duration::from_mins(5), &control), Err(RepositoryError::Cancelled)));
    });
}

/// A restic that holds a shared lock, as it waits for the data to back up.
struct LiveRestic(Child);

impl LiveRestic {
    fn start(repository: &Path) -> Self {
        let mut command = restic_command(repository, &["backup", "--stdin"]);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn finish(mut self) {
        self.0.stdin.take().unwrap().write_all(b"the end").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

#[test]
fn restic_and_we_honour_each_other() {
    if !has_restic() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let open = closed(folder.path()).init(&password(), InitOptions::default()).unwrap();
    // Not `restic unlock`: it tries whether we are alive by a SIGHUP, which ends a test.
    let lock = take(&open, false).unwrap();
    let refused = restic_command(folder.path(), &["check"]).output().unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && message.contains("already locked"), "{message}");
    assert!(message.contains(&format!("PID {}", host::pid())), "{message}");
    lock.check().unwrap();
    restic(folder.path(), &["snapshots"]);
    drop(lock);
    restic(folder.path(), &["check"]);

    let live = LiveRestic::start(folder.path());
    let start = clock::monotonic();
    while files(&open).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(30), "restic did not lock");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(is_locked(&take(&open, true)));
    drop(take(&open, false).unwrap());
    assert_eq!(unlock(&open, false).unwrap().len(), 0, "restic lives");
    live.finish();
    take(&open, true).unwrap();
}

#[test]
fn the_lock_of_a_killed_restic_goes() {
    if !has_restic() || host::liveness(i64::from(i32::MAX), clock::now(), others::PROGRAMS) != Liveness::Gone {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let open = closed(folder.path()).init(&password(), InitOptions::default()).unwrap();
    let mut live = LiveRestic::start(folder.path());
    while files(&open).is_empty() {
        thread::sleep(Duration::from_millis(20));
    }
    live.0.kill().unwrap();
    live.0.wait().unwrap();
    assert_eq!(files(&open).len(), 1);
    take(&open, true).unwrap();
    assert_eq!(files(&open), []);
}

/// A store from which all locks are removed while a snapshot is being written.
struct Robbed(MemoryBackend);

impl Backend for Robbed {
    fn location(&self) -> String {
        self.0.location()
    }

    fn create(&self) -> io::Result<()> {
        self.0.create()
    }

    fn list(&self, kind: FileKind) -> io::Result<Vec<(String, u64)>> {
        self.0.list(kind)
    }

    fn read(&self, kind: FileKind, name: &str) -> io::Result<Vec<u8>> {
        self.0.read(kind, name)
    }

    fn read_at(&self, kind: FileKind, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(kind, name, offset, buffer)
    }

    fn write(&self, kind: FileKind, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        if kind == FileKind::Snapshot {
            for (lock, _) in self.0.list(FileKind::Lock)? {
                self.0.remove(FileKind::Lock, &lock)?;
            }
        }
        self.0.write(kind, name, parts)
    }

    fn remove(&self, kind: FileKind, name: &str) -> io::Result<()> {
        self.0.remove(kind, name)
    }

    fn connections(&self) -> usize {
        1
    }

    fn is_local(&self) -> bool {
        true
    }
}

#[test]
fn no_snapshot_counts_on_a_lock_that_somebody_removed() {
    // The file is looked for, and not only when it is refreshed.
    let times = LockTimes { settle: Duration::ZERO, ..LockTimes::default() };
    let lock = |open: &Open| Lock::acquire_with(open, false, Duration::ZERO, &Control::new(), times).unwrap();
    let (_folder, open) = empty_repository(2);
    let held = lock(&open);
    held.confirm().unwrap();
    held.write(FileKind::Snapshot, b"{}").unwrap();
    assert_eq!(unlock(&open, true).unwrap().len(), 1);
    held.check().unwrap();
    assert!(matches!(held.write(FileKind::Snapshot, b"{ }"), Err(RepositoryError::LockLost { .. })));
    assert!(matches!(held.check(), Err(RepositoryError::LockLost { .. })), "once lost, always lost");
    assert_eq!(open.list_ids(FileKind::Snapshot).unwrap().len(), 1);

    let robbed = Closed::new(Arc::new(Robbed(MemoryBackend::new()))).init(&Secret::new("p".into()), InitOptions::default()).unwrap();
    let held = lock(&robbed);
    assert!(matches!(held.write(FileKind::Snapshot, b"{}"), Err(RepositoryError::LockLost { .. })));
    assert_eq!(robbed.list_ids(FileKind::Snapshot).unwrap(), []);
}
