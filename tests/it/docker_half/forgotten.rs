//! Nothing of a restore that ended badly is forgotten: who stays stopped, what is half restored, and what could not be written down.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::{Moment, guest_with_folder, journals, kill_while_overwriting, state};
use crate::docker_in_place::Ground;
use crate::support::engine::BUSYBOX;
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};
use crate::support::run::Outcome;
use crate::support::tree;

fn folder(home: &Home) -> PathBuf {
    home.path("state").join("bbackup/restores")
}

#[track_caller]
fn done(outcome: Outcome) -> Outcome {
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    outcome
}

#[test]
fn a_container_on_two_half_volumes_waits_for_both() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let grounds = [Ground::lay(&home, "bothone", 61), Ground::lay(&home, "bothtwo", 62)];
    let stage = &grounds[0].stage;
    let guest = &grounds[0].guest;
    stage.ok(["rm", "-f", guest, &grounds[1].guest]);
    let mounts = grounds.each_ref().map(|ground| format!("{}:/{}", ground.volume, ground.project));
    stage.ok(["run", "-d", "--name", guest, "--stop-timeout", "0", "-v", &mounts[0], "-v", &mounts[1], BUSYBOX, "sleep", "1000"]);
    let restore = |ground: &Ground<'_>| ground.restore(&["--in-place", "--volume", &ground.volume]);
    for ground in &grounds {
        Moment::new(&home, stage, "overwriting", "/volumes/").kills(restore(ground));
    }
    let both = stage.bbackup(["recover"]).run().exits(3);
    let _ = both.says(&format!("volume {} was being", grounds[0].volume)).says(&format!("volume {} was being", grounds[1].volume));
    for (ground, then) in [(&grounds[0], "exited"), (&grounds[1], "running")] {
        let outcome = done(restore(ground).run());
        assert_eq!(ground.read("kept").as_deref(), Some("as saved"));
        assert_eq!(state(stage, guest), then, "{}", outcome.describe());
        if then == "exited" {
            // Neither does the next start bring it up.
            let _ = stage.bbackup(["recover"]).run().exits(3).says(&format!("volume {} was being", grounds[1].volume));
            assert_eq!(state(stage, guest), "exited");
        }
    }
    let _ = stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn who_cannot_be_started_again_is_not_forgotten() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "startagain", 63);
    let mounted = guest_with_folder(&home, &ground);
    let (name, gone) = (format!("/containers/create?name={}", ground.db), mounted.clone());
    let proxy = Proxy::start(&home.path("gone.sock"), &ground.stage.engine().host(), move |line| {
        if line.contains(&name) {
            fs::remove_dir(&gone).unwrap();
        }
        Action::Pass
    });
    let outcome = ground.restore(&["--in-place"]).env("DOCKER_HOST", proxy.host()).run();
    assert_ne!(outcome.code(), Some(0), "{}", outcome.describe());
    let _ = outcome.says(&ground.guest);
    assert_eq!(ground.read("kept").as_deref(), Some("as saved"));
    let _ = ground.stage.bbackup(["recover"]).run().exits(3).says(&format!("container {} is down", ground.guest));
    fs::create_dir(&mounted).unwrap();
    let _ = ground.stage.bbackup(["recover"]).run().success();
    ground.assert_all_run();
    let _ = ground.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn a_line_that_cannot_be_written_at_the_end_costs_nothing() {
    needs!(Part::Engine, Part::Program("env"));
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "lastline", 64);
    let ids = ground.ids();
    // From when the last one is started no file of the program grows any more.
    let (folder, last) = (folder(&home), format!("/containers/{}/start", ids[2]));
    let number = Arc::new(std::sync::atomic::AtomicI32::new(0));
    let (pid, at) = (Arc::clone(&number), Arc::new(AtomicBool::new(false)));
    let reached = Arc::clone(&at);
    let proxy = Proxy::start(&home.path("last.sock"), &ground.stage.engine().host(), move |line| {
        if line.contains(&last) && journals(&folder).contains("\"event\":\"complete\"") {
            let size = journals(&folder).len() as u64;
            let limit = Rlimit { current: Some(size), maximum: Some(size) };
            prlimit(Pid::from_raw(pid.load(Ordering::SeqCst)), Resource::Fsize, limit).unwrap();
            reached.store(true, Ordering::SeqCst);
        }
        Action::Pass
    });
    let tag = format!("app:{}", ground.project);
    let restore = ground.stage.bbackup(["restore", "latest", "--tag", &tag, "--in-place"]).env("DOCKER_HOST", proxy.host());
    let running = restore.under(["env", "--ignore-signal=XFSZ"]).spawn();
    number.store(running.pid().cast_signed(), Ordering::SeqCst);
    let outcome = running.wait();
    assert!(at.load(Ordering::SeqCst), "{}", outcome.describe());
    ground.assert_saved_state();
    assert_eq!(ground.ids()[2], ids[2]);
    // What is not written down is looked at once more.
    assert!(journals(&self::folder(&home)).contains("\"event\":\"complete\""), "{}", outcome.describe());
    let _ = outcome.exits(4).says("write the journal");
    let _ = ground.stage.bbackup(["recover"]).run().success();
    ground.assert_saved_state();
    let _ = ground.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn a_backup_sees_what_a_restore_does_meanwhile() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "meanwhile", 65);
    let backup =
        |more: &[&str]| ground.stage.bbackup(["backup", "--json", "--consistency", "none", "--projects", &ground.project]).args(more);
    // It has begun, and has not come to the volumes, when the restore begins.
    let (reached, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (at, end) = (Arc::clone(&reached), Arc::clone(&over));
    let proxy = Proxy::start(&home.path("logs.sock"), &ground.stage.engine().host(), move |line| {
        if line.contains("/logs") {
            at.store(true, Ordering::SeqCst);
            while !end.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        Action::Pass
    });
    let mut running = backup(&[]).env("DOCKER_HOST", proxy.host()).spawn();
    running.until("the backup to have begun", || reached.load(Ordering::SeqCst));
    kill_while_overwriting(&home, &ground);
    over.store(true, Ordering::SeqCst);
    let _ = running.wait().exits(4).says("a restore overwrites it, or was interrupted").says("is not saved");
    let _ = done(ground.restore(&["--in-place"]).run());

    // It reads the volume when the restore begins.
    tree::many(&ground.folder(), 50);
    ground.write("noise", &"x".repeat(50_000_000));
    let mut running = backup(&["--full"]).spawn();
    running.hold_while_it_has_open(&ground.folder());
    kill_while_overwriting(&home, &ground);
    running.signal(Signal::CONT);
    let outcome = running.wait().exits(4).says("a restore overwrites it, or was interrupted");
    assert!(outcome.text().contains("\"partial\""), "{}", outcome.describe());
}

#[test]
fn a_volume_is_another_one_only_if_the_same_word_says_so() {
    needs!(Part::Engine, Part::Root);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "identity", 66);
    kill_while_overwriting(&home, &ground);
    let mut files = fs::read_dir(folder(&home)).unwrap().map(|entry| entry.unwrap().path());
    let path = files.find(|path| path.extension().is_some_and(|end| end == "jsonl")).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let (before, created) = text.split_once("\"event\":\"overwriting\"").unwrap();
    let (middle, rest) = created.split_once("\"created\":\"").unwrap();
    let (word, after) = rest.split_once('"').unwrap();
    assert!(word.contains(':') && !word.contains('T'), "{word} is no folder");
    let with = |word: &str| fs::write(&path, format!("{before}\"event\":\"overwriting\"{middle}\"created\":\"{word}\"{after}")).unwrap();
    // As it would stand there if the folder had not been seen then.
    with("2020-01-01T00:00:00Z");
    let _ = ground.stage.bbackup(["recover"]).run().exits(3).says("was being overwritten");
    assert_eq!(state(&ground.stage, &ground.guest), "exited");
    // Another folder is another volume: nothing of that is half.
    with("1:1");
    let _ = ground.stage.bbackup(["recover"]).run().success().says_nothing_of("was being overwritten");
    ground.stage.wait_for_state(&ground.guest, "running");
}
