//! A writer that was stopped (SIGSTOP, a suspended machine) for so long that others may have taken its lock for stale.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::super::state::InitOptions;
use super::super::state::testing::{closed, password};
use super::*;

/// Where the child works; tells it that it is one.
const FOLDER: &str = "BBACKUP_TEST_STOPPED_WRITER";

/// A minute of the real times is about 100 ms.
const SHORT: LockTimes = LockTimes {
    refresh: Duration::from_millis(300),
    lost: Duration::from_secs(2),
    stale: Duration::from_millis(2600),
    tick: Duration::from_millis(50),
    ..TIMES
};

/// Tells the child to refresh its lock as seldom as in real life.
const SELDOM: &str = "BBACKUP_TEST_SELDOM_REFRESHED";

fn open(folder: &Path) -> ResticRepository {
    let open = closed(&folder.join("repository")).open(&password()).unwrap();
    let times = if std::env::var_os(SELDOM).is_some() { TIMES } else { SHORT };
    ResticRepository::new(open, OPTIONS, Locking::Retry(Duration::ZERO)).with_lock_times(times)
}

fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_mins(2), "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Not a test: the writer, in a process of its own so that it can be stopped.
#[test]
#[ignore = "run by the other test as a process of its own"]
fn the_writer() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let repository = open(&folder);
    let request = SnapshotRequest {
        time: jiff::Timestamp::from_second(1_700_000_000).unwrap(),
        host: "host".into(),
        paths: vec!["/data".into()],
        tags: Vec::new(),
        excludes: Vec::new(),
        ignore_parent: false,
        parent: None,
        with_atime: false,
        dry_run: false,
    };
    let mut writer = repository.write_snapshot(request, &Control::new(), Arc::new(Silent)).unwrap();
    let files: Files = (0..20).map(|number| (format!("{number}"), content(number))).collect();
    writer.add(b"/data", script(&files)).unwrap();
    fs::write(folder.join("ready"), "").unwrap();
    until("the word to go on", || folder.join("go").exists());
    let ended = match writer.finish(Vec::new()) {
        Ok(_) => "saved".to_owned(),
        Err(RepositoryError::LockLost { .. }) => "lock lost".to_owned(),
        Err(error) => error.with_causes(),
    };
    fs::write(folder.join("ended"), ended).unwrap();
}

struct Writer {
    folder: tempfile::TempDir,
    child: Child,
}

impl Writer {
    fn start(seldom: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        closed(&folder.path().join("repository")).init(&password(), InitOptions::default()).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "repository::restic::tests::stopped::the_writer", "--ignored"])
            .env(FOLDER, folder.path())
            .envs(seldom.then_some((SELDOM, "1")))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let writer = Self { folder, child };
        until("the writer", || writer.folder.path().join("ready").exists());
        writer
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), signal).unwrap();
    }

    fn go_on(mut self) -> (String, tempfile::TempDir) {
        fs::write(self.folder.path().join("go"), "").unwrap();
        assert!(self.child.wait().unwrap().success());
        (fs::read_to_string(self.folder.path().join("ended")).unwrap(), self.folder)
    }

    /// Lets it go on; it must notice that its lock is lost, and leave no snapshot and no damage.
    #[track_caller]
    fn saves_nothing(self) {
        let (ended, folder) = self.go_on();
        assert_eq!(ended, "lock lost");
        let others = open(folder.path());
        assert_eq!(others.snapshots().unwrap(), []);
        let summary = others.check(ReadData::All, &Control::new(), Arc::new(Silent)).unwrap();
        assert_eq!(summary.errors, Vec::<String>::new());
    }
}

#[test]
fn it_stops_by_itself_and_what_was_pruned_meanwhile_is_not_missed() {
    let writer = Writer::start(false);
    let others = open(writer.folder.path());
    // While it lives, nobody prunes beside it, however often it is tried.
    for _ in 0..3 {
        assert!(matches!(prune(&others, &full_prune()), Err(RepositoryError::Locked { .. })));
        thread::sleep(Duration::from_millis(400));
    }
    writer.signal(Signal::STOP);
    assert!(matches!(prune(&others, &full_prune()), Err(RepositoryError::Locked { .. })), "it was stopped only now");
    until("the lock to be stale", || prune(&others, &full_prune()).is_ok());
    writer.signal(Signal::CONT);
    writer.saves_nothing();
}

#[test]
fn whose_lock_was_taken_away_saves_nothing() {
    // As by a machine whose clock is far ahead, or by `unlock --remove-all`.
    let writer = Writer::start(true);
    let others = open(writer.folder.path());
    assert_eq!(lock::unlock(others.open(), true).unwrap().len(), 1);
    prune(&others, &full_prune()).unwrap();
    writer.saves_nothing();
}

#[test]
fn it_goes_on_after_a_short_stop() {
    let writer = Writer::start(false);
    writer.signal(Signal::STOP);
    thread::sleep(Duration::from_millis(700));
    writer.signal(Signal::CONT);
    let (ended, folder) = writer.go_on();
    assert_eq!(ended, "saved");
    assert_eq!(open(folder.path()).snapshots().unwrap().len(), 1);
}
