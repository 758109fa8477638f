//! Pause, resume and skip of running work, by the handles that every face has on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bbackup::config::{BackupSet, RepositoryConfig, Selection, load};
use bbackup::jobs::request::{BackupRequest, JobContext, RestoreJob, RestoreSelection};
use bbackup::jobs::results::BackupResult;
use bbackup::jobs::{backup, open, restore};
use bbackup::model::outcome::{ItemOutcome, RunStatus};
use bbackup::model::progress::{Event, Progress};
use bbackup::platform::control::Control;
use bbackup::platform::directories::Directories;
use bbackup::platform::secret::Secret;

use crate::support::home::{Home, PASSWORD, files_below, find_restored};
use crate::support::manifest::Manifest;
use crate::support::tree;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

fn context(home: &Home) -> JobContext {
    let directories = Directories {
        config: home.path("config"),
        data: home.path("data"),
        state: home.path("state"),
        cache: home.path("cache"),
        home: Some(home.path("home")),
    };
    let config = RepositoryConfig::at(home.repository());
    let opened =
        open::open(&config, &Secret::new(PASSWORD.to_owned()), Some(Duration::ZERO), &(Arc::new(|_: &str| {}) as open::Notice)).unwrap();
    JobContext {
        config: Arc::new(load::embedded(&directories, "here")),
        directories,
        repository: Some(opened),
        repository_path: config.location,
    }
}

/// Does something with the control when so many files have passed, or one of a name begins.
struct Hand {
    control: Control,
    pause_after: u64,
    skip_at: Option<Vec<u8>>,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Hand {
    fn new(control: &Control, pause_after: u64, skip_at: Option<&Path>) -> Arc<Self> {
        let skip_at = skip_at.map(|path| path.as_os_str().as_encoded_bytes().to_vec());
        Arc::new(Self { control: control.clone(), pause_after, skip_at, files: AtomicU64::new(0), bytes: AtomicU64::new(0) })
    }

    fn seen(&self) -> (u64, u64) {
        (self.files.load(SeqCst), self.bytes.load(SeqCst))
    }
}

impl Progress for Hand {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::FileFinished { .. } if self.files.fetch_add(1, SeqCst) + 1 == self.pause_after => self.control.pause(),
            Event::Bytes(bytes) => _ = self.bytes.fetch_add(bytes, SeqCst),
            Event::FileStarted { path } if self.skip_at.as_ref().is_some_and(|wanted| path.starts_with(wanted)) => self.control.skip(),
            _ => {}
        }
    }
}

/// Runs work that pauses itself, sees that nothing happens then, and lets it go on.
fn paused<T: Send>(home: &Home, control: &Control, hand: &Hand, work: impl FnOnce() -> T + Send) -> T {
    /// A test that fails must not wait for what is paused.
    struct EndIt<'a>(&'a Control);
    impl Drop for EndIt<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.cancel();
            }
        }
    }
    std::thread::scope(|scope| {
        let _end = EndIt(control);
        let running = scope.spawn(work);
        let start = Instant::now();
        let wait = |milliseconds| std::thread::sleep(Duration::from_millis(milliseconds));
        while !control.is_paused() {
            assert!(!running.is_finished() && start.elapsed() < Duration::from_mins(1), "it was never paused");
            wait(5);
        }
        // What is under way comes to its next checkpoint.
        let mut seen = hand.seen();
        loop {
            wait(2_000);
            let now = hand.seen();
            if now == seen {
                break;
            }
            assert!(start.elapsed() < Duration::from_mins(1), "a pause does not hold");
            seen = now;
        }
        wait(1_000);
        assert!(!running.is_finished() && hand.seen() == seen, "it went on while it was paused");
        assert_eq!(home.locks().len(), 1, "what is paused still holds its lock");
        control.resume();
        running.join().unwrap()
    })
}

fn back_up(context: &JobContext, paths: &[&Path], control: &Control, hand: &Arc<Hand>) -> BackupResult {
    let selection = Selection { paths: paths.iter().map(PathBuf::from).collect(), ..Selection::default() };
    let request = BackupRequest {
        sets: vec![BackupSet { selection, ..BackupSet::default() }],
        tags: Vec::new(),
        full: false,
        dry_run: false,
        estimate: false,
        parallel: 1,
        before_restore: false,
    };
    block_on(backup::run(context, request, control, Arc::clone(hand) as Arc<dyn Progress>)).unwrap()
}

#[test]
fn a_backup_and_a_restore_are_paused_and_go_on() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 60);
    let context = context(&home);
    let control = Control::new();
    let hand = Hand::new(&control, 40, None);
    let result = paused(&home, &control, &hand, || back_up(&context, &[&folder], &control, &hand));
    assert!(matches!(result.status, RunStatus::Success), "{:?}", result.status);
    let snapshots = context.repository.as_ref().unwrap().snapshots().unwrap();
    assert_eq!(snapshots.len(), 1);

    let target = home.path("out");
    let job = RestoreJob {
        snapshots,
        warnings: Vec::new(),
        selection: RestoreSelection::default(),
        to: Some(target.clone()),
        renames: Vec::new(),
        as_new: false,
        in_place: false,
        save_first: false,
        no_start: false,
        dry_run: false,
    };
    let hand = Hand::new(&control, 40, None);
    let result = paused(&home, &control, &hand, || {
        block_on(async {
            let plan = restore::plan(&context, job, &control).await?;
            restore::execute(&context, plan, &control, Arc::clone(&hand) as Arc<dyn Progress>).await
        })
        .unwrap()
    });
    assert!(matches!(result.status, RunStatus::Success), "{:?}", result.status);
    Manifest::of(&folder).assert_equals(&Manifest::of(&find_restored(&target, &folder)));
    drop(context);
    assert!(files_below(&home.repository().join("locks")).is_empty());
}

#[test]
fn what_is_skipped_costs_only_itself() {
    let home = Home::with_repository();
    let (first, second, third) = (home.make_folder("a-first"), home.make_folder("b-second"), home.make_folder("c-third"));
    tree::many(&first, 20);
    tree::mixed(&second, 40);
    tree::many(&third, 20);
    let context = context(&home);
    let control = Control::new();
    let hand = Hand::new(&control, u64::MAX, Some(&second));
    let result = back_up(&context, &[&first, &second, &third], &control, &hand);
    let outcomes: Vec<&ItemOutcome> = result.applications[0].items.iter().map(|item| &item.outcome).collect();
    assert!(matches!(outcomes[..], [ItemOutcome::Complete { .. }, ItemOutcome::Skipped, ItemOutcome::Complete { .. }]), "{outcomes:?}");
    let snapshot = result.applications[0].snapshot.clone().unwrap();
    let listed = home.bbackup(["ls", &snapshot.0]).run().success().text();
    assert!(listed.contains("a-first/") && listed.contains("c-third/") && !listed.contains("b-second/"), "{listed}");
    let snapshots = home.bbackup(["snapshots", "--json"]).run().success().text();
    assert!(snapshots.contains("partial"), "{snapshots}");
}
