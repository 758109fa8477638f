//! Locks, as restic and bbackup keep them for and against each other.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::home::{Home, Summary, files_below};
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::run::{Program, Running};
use crate::support::tree;

/// A restic that holds the repository's exclusive lock, frozen.
fn frozen_check(home: &Home) -> Running {
    for _ in 0..50 {
        let mut check = Restic::new(home).call(["check", "--read-data", "--no-cache"]).spawn();
        while check.is_running() {
            if !home.locks().is_empty() {
                check.signal(Signal::STOP);
                // It may have been on its way out: look again now that it stands still.
                thread::sleep(Duration::from_millis(20));
                if check.is_running() && !home.locks().is_empty() {
                    return check;
                }
                check.signal(Signal::CONT);
            }
        }
    }
    panic!("restic could not be caught with its lock");
}

fn locked_home() -> (Home, std::path::PathBuf) {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 40);
    let _ = home.back_up(&folder);
    (home, folder)
}

#[test]
fn a_living_restic_keeps_us_out() {
    needs!(Part::Restic);
    let (home, folder) = locked_home();
    let check = frozen_check(&home);
    let outcome = home.bbackup(["backup", "--paths"]).arg(&folder).run().exits(11).says("locked").says(&check.pid().to_string());
    assert!(!outcome.errors().contains("panicked"));
    assert_eq!(home.locks().len(), 1, "we left a lock behind");
    let _ = home.bbackup(["unlock"]).run();
    assert_eq!(home.locks().len(), 1, "the lock of a living process was removed");
    check.signal(Signal::CONT);
    let _ = check.wait().success();
    let _ = home.back_up(&folder);
}

#[test]
fn waiting_for_a_lock_helps() {
    needs!(Part::Restic);
    let (home, folder) = locked_home();
    let check = frozen_check(&home);
    let start = Instant::now();
    let _ = home.bbackup(["backup", "--retry-lock", "1s", "--paths"]).arg(&folder).run().exits(11);
    assert!(start.elapsed() >= Duration::from_secs(1), "it did not wait");
    let waiting = home.bbackup(["backup", "--retry-lock", "2m", "--paths"]).arg(&folder).spawn();
    thread::sleep(Duration::from_millis(500));
    check.signal(Signal::CONT);
    let _ = check.wait().success();
    let _ = waiting.wait().success();
}

#[test]
fn restic_sees_our_lock() {
    needs!(Part::Restic);
    let (home, folder) = locked_home();
    tree::write(&folder.join("new"), &tree::noise(77, 60_000_000));
    let mut backup = home.bbackup(["backup", "--json", "--paths"]).arg(&folder).spawn();
    backup.until("its lock", || !home.locks().is_empty());
    backup.signal(Signal::STOP);
    let check = Restic::new(&home).call(["check", "--no-cache"]).run().says("lock");
    assert_ne!(check.code(), Some(0), "{}", check.describe());
    // A shared lock lets other readers and writers in.
    let other = home.make_folder("other");
    tree::write(&other.join("file"), b"another backup");
    let _ = Restic::new(&home).call(["backup", "--quiet"]).arg(&other).run().success();
    backup.signal(Signal::CONT);
    let summary = Summary::of(&backup.wait().success());
    assert!(home.locks().is_empty(), "a lock was left behind");
    Restic::new(&home).check();
    home.assert_restores(&summary.snapshot, &folder, "restored");
}

#[test]
fn the_lock_of_a_dead_process_stands_in_nobodys_way() {
    needs!(Part::Restic);
    let (home, folder) = locked_home();
    let check = frozen_check(&home);
    check.signal(Signal::KILL);
    let _ = check.wait().killed_by(Signal::KILL);
    assert_eq!(home.locks().len(), 1);
    let _ = home.back_up(&folder);
    assert!(home.locks().is_empty(), "the stale lock is still there");
}

#[test]
fn unlock_removes_what_the_dead_left() {
    needs!(Part::Restic);
    let (home, _) = locked_home();
    let check = frozen_check(&home);
    check.signal(Signal::KILL);
    let _ = check.wait().killed_by(Signal::KILL);
    let _ = home.bbackup(["unlock"]).run().success();
    assert!(home.locks().is_empty());
    let _ = home.bbackup(["unlock"]).run().success();
}

#[test]
fn a_lock_of_another_host_is_honoured() {
    needs!(Part::Restic, Part::Root);
    let (home, folder) = locked_home();
    // restic takes the host's name from the kernel: a UTS namespace gives it another.
    let elsewhere = ["unshare", "-u", "sh", "-c", "hostname elsewhere; exec \"$@\"", "sh"];
    let mut found = false;
    for _ in 0..50 {
        let mut check = Restic::new(&home).call(["check", "--no-cache"]).under(elsewhere).spawn();
        while check.is_running() && home.locks().is_empty() {}
        check.signal(Signal::KILL);
        let _ = check.wait();
        if !home.locks().is_empty() {
            found = true;
            break;
        }
    }
    assert!(found, "restic left no lock");
    let _ = home.bbackup(["backup", "--paths"]).arg(&folder).run().exits(11).says("elsewhere");
    assert_eq!(home.locks().len(), 1, "nobody can know whether a process of another host is dead");
}

/// restic asks whether the process of a lock lives by sending it a hang-up.
#[test]
fn a_backup_outlives_the_question_whether_it_lives() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 120);
    let data = home.repository().join("data");
    let mut running = home.bbackup(["backup", "--json", "--paths"]).arg(&folder).spawn();
    running.until("the first pack", || !files_below(&data).is_empty());
    running.signal(Signal::STOP);
    let _ = Restic::new(&home).call(["unlock"]).run().success();
    assert_eq!(home.locks().len(), 1, "restic took the lock of a living process");
    running.signal(Signal::CONT);
    let summary = Summary::of(&running.wait().success());
    home.assert_restores(&summary.snapshot, &folder, "restored");
}

/// A `forget` of this snapshot that holds the exclusive lock, frozen before it has removed it.
fn frozen_forget(home: &Home, snapshot: &str) -> Running {
    let mut forget = home.bbackup(["forget", "--unsafe-allow-remove-all", snapshot]).spawn();
    // It then waits whether somebody else's comes to light, before it removes anything.
    forget.until("its lock", || !home.locks().is_empty());
    forget.signal(Signal::STOP);
    assert!(home.repository().join("snapshots").join(snapshot).exists(), "it was too fast");
    forget
}

/// Waits until a program does nothing any more: it waits for a lock.
fn until_idle(running: &mut Running) {
    let ticks = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<u64> = stat.rsplit(')').next().unwrap().split(' ').filter_map(|field| field.parse().ok()).collect();
        // After the state: the parent and so on; the times in user and kernel mode are the eleventh and twelfth number.
        fields[10] + fields[11]
    };
    let pid = running.pid();
    let mut before = (ticks(pid), Instant::now());
    running.until("it is idle", || {
        let now = ticks(pid);
        if now > before.0 + 1 {
            before = (now, Instant::now());
        }
        now > 0 && before.1.elapsed() > Duration::from_millis(700)
    });
}

/// What others forget between the list of snapshots and the work on them is no error: it is only not there any more.
#[test]
fn what_is_forgotten_while_somebody_waits_is_passed_over() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 1);
    let mut snapshots = Vec::new();
    for round in 0..4 {
        tree::write(&folder.join("changes"), &tree::noise(round, 1000));
        snapshots.push(home.back_up(&folder).snapshot);
    }
    let (target, mountpoint) = (home.path("other"), home.make_folder("mounted"));
    let _ = home.bbackup(["init", "--repo"]).arg(&target).run().success();
    let patient = |words: &[&str]| home.bbackup(["--retry-lock", "1m", "--json"]).args(words);
    let copy = |words: &[&str]| patient(&["copy"]).args(words).arg("--to").arg(&target);
    let rewrite = |words: &[&str]| patient(&["rewrite", "--exclude", "changes"]).args(words);
    let rounds: [Vec<Program>; 3] = [
        vec![
            copy(&[]),
            patient(&["stats"]),
            patient(&["find", "changes"]),
            copy(&[&snapshots[0]]),
            patient(&["find", "changes", "--snapshot", &snapshots[0]]),
        ],
        vec![rewrite(&[]), rewrite(&[&snapshots[1]]), patient(&["mount"]).arg(&mountpoint)],
        vec![home.bbackup(["rewrite", "--forget", "--exclude", "changes", "--retry-lock", "1m"])],
    ];
    for (round, programs) in rounds.into_iter().enumerate() {
        let forget = frozen_forget(&home, &snapshots[round]);
        let mut waiting: Vec<Running> = programs.into_iter().map(Program::spawn).collect();
        waiting.iter_mut().for_each(until_idle);
        forget.signal(Signal::CONT);
        let _ = forget.wait().success();
        for (number, mut program) in waiting.into_iter().enumerate() {
            // Who asked for just this one is told.
            if number == 3 || number == 4 || round == 1 && number == 1 {
                let _ = program.wait().exits(1).says("No snapshot matches");
                continue;
            }
            if round == 1 && number == 2 {
                program.until("it is mounted", || mountpoint.join("ids").exists());
                let ids = std::fs::read_dir(mountpoint.join("ids")).unwrap().count();
                assert!(ids > 0 && !mountpoint.join("ids").join(&snapshots[round][..8]).exists(), "{ids}");
                program.signal(Signal::INT);
            }
            let outcome = program.wait().success();
            if round == 2 {
                let _ = outcome.says(&format!("{} was forgotten meanwhile", &snapshots[2][..8]));
                continue;
            }
            let data = outcome.json_lines().pop().unwrap()["data"].clone();
            let has_list = number == 0;
            assert_eq!(data["summary"].get("gone"), has_list.then_some(&serde_json::json!([snapshots[round]])), "{}", outcome.describe());
        }
    }
    let _ = home.bbackup(["check", "--read-data"]).run().success();
    let _ = home.bbackup(["check", "--read-data", "--repo"]).arg(&target).run().success();
}

#[test]
fn unlock_says_which_locks_stay_and_how_long() {
    needs!(Part::Root);
    let (home, folder) = locked_home();
    std::fs::write(home.repository().join("locks").join("ab".repeat(32)), b"torn").unwrap();
    let refused = home.bbackup(["forget", "--keep-last", "1"]).run().exits(11);
    let _ = refused.says("unlock --remove-all");
    let _ = home.bbackup(["unlock"]).run().success().says("abababab").says("stays").says("not stale before").says("0 locks removed");
    let json = home.bbackup(["unlock", "--json"]).run().success().json_lines().pop().unwrap();
    assert_eq!(json["data"]["staying"][0]["id"], "ab".repeat(32));
    let json = home.bbackup(["unlock", "--remove-all", "--json"]).run().success().json_lines().pop().unwrap();
    assert_eq!(json["data"]["staying"], serde_json::json!([]));
    let _ = home.back_up(&folder);
}
