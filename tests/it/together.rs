//! Both programs over one repository at the same time, as on hosts that share it: writers, checkers, and those that remove.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::home::Home;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::run::Program;
use crate::support::tree;

/// How long new work is begun; what runs then ends by itself.
const TIME: Duration = Duration::from_secs(10);

/// Longer than everybody else's work together can take.
const PATIENCE: &str = "3m";

#[test]
fn writers_checkers_and_pruners_of_both_programs() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let folders: Vec<_> = (0..3).map(|number| home.make_folder(&format!("tree-{number}"))).collect();
    for (number, folder) in folders.iter().enumerate() {
        for file in 0..6 {
            tree::write(&folder.join(format!("f{file}")), &tree::noise((number * 10 + file) as u64, 300_000));
        }
    }
    let ours = |words: &[&str]| home.bbackup(["--retry-lock", PATIENCE]).args(words);
    let patient = Restic::new(&home).knows_retry_lock();
    let restic = Restic::new(&home);
    let theirs = |words: &[&str]| {
        let program = restic.call(words).arg("--no-cache");
        if patient { program.args(["--retry-lock", PATIENCE]) } else { program }
    };
    // Who may find the repository locked and has no patience: restic before 0.16.
    let work: Vec<(&str, Program, bool)> = vec![
        ("backup 0", ours(&["backup", "--paths"]).arg(&folders[0]), true),
        ("backup 1", ours(&["backup", "--paths"]).arg(&folders[1]), true),
        ("restic backup", theirs(&["backup", "--quiet"]).arg(&folders[2]), patient),
        ("prune", ours(&["prune", "--max-unused", "0"]), true),
        ("forget", ours(&["forget", "--keep-last", "3"]), true),
        ("restic forget", theirs(&["forget", "--keep-last", "3", "--prune", "--quiet"]), patient),
        ("check", ours(&["check", "--read-data"]), true),
        ("restic check", theirs(&["check"]), patient),
    ];
    let (start, failed) = (Instant::now(), AtomicBool::new(false));
    let done: Vec<AtomicUsize> = work.iter().map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for ((name, program, must), done) in work.iter().zip(&done) {
            let (folders, failed) = (&folders, &failed);
            scope.spawn(move || {
                let mut round = 0;
                while start.elapsed() < TIME && !failed.load(Ordering::SeqCst) {
                    round += 1;
                    if name.contains("backup") {
                        let number = usize::from(*name != "backup 0") + usize::from(name.starts_with("restic"));
                        tree::write(&folders[number].join(format!("f{}", round % 6)), &tree::noise(1000 * number as u64 + round, 300_000));
                    }
                    let outcome = program.clone().run();
                    let locked = !must && outcome.errors().contains("already locked");
                    if outcome.code() == Some(0) {
                        done.fetch_add(1, Ordering::SeqCst);
                    } else if !locked {
                        failed.store(true, Ordering::SeqCst);
                        panic!("{name}: {}", outcome.describe());
                    }
                }
            });
        }
    });
    for ((name, _, must), done) in work.iter().zip(&done) {
        assert!(done.load(Ordering::SeqCst) > 0 || !must, "{name} was never done");
    }
    assert_eq!(home.locks(), Vec::<std::path::PathBuf>::new());
    restic.check();
    let _ = home.bbackup(["check", "--read-data"]).run().success();
    // And each of the folders comes back as it is.
    for (number, folder) in folders.iter().enumerate() {
        let last = home.back_up(folder);
        home.assert_restores(&last.snapshot, folder, &format!("restored-{number}"));
    }
    assert!(fs::read_dir(home.path("tmp")).unwrap().next().is_none(), "temporary files are left");
}
