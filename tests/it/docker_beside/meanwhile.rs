//! Backups and restores that meet: one began and ended while the other was at it, died before it, or had another snapshot.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::Bound;
use crate::docker_half::{Moment, guest_with_folder, state};
use crate::docker_in_place::Ground;
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::proxy::over_tcp;
use crate::support::run::Outcome;
use crate::support::tree;

#[track_caller]
fn works(outcome: &Outcome) {
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
}

#[test]
fn a_restore_that_begins_and_ends_while_a_backup_reads_is_seen() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "between", 44);
    let stage = &ground.stage;
    fs::write(ground.folder().join("large"), tree::noise(4, 60_000_000)).unwrap();
    // Nobody runs, so nobody is kept still, and nothing tells the restore of the backup.
    stage.ok(["stop", &ground.web, &ground.db, &ground.guest]);
    let latest = || stage.bbackup(["snapshots", "--json", "latest"]).run().success().text();
    let whole = latest();
    let mut running = stage.bbackup(["backup", "--json", "--projects", &ground.project]).spawn();
    running.hold_while_it_has_open(&ground.folder());
    works(&ground.restore(&["--in-place", "--volume", &ground.volume]).run());
    running.signal(Signal::CONT);
    let outcome = running.wait().exits(4).says("a restore wrote to it while it was read");
    assert_eq!(latest(), whole, "half of one and half of another content is what `latest` means\n{}", outcome.describe());
    // What ended before is of no concern.
    let _ = stage.bbackup(["backup", "--projects", &ground.project]).run().success();
}

#[test]
fn what_a_dead_backup_has_left_down_is_not_started_on_half_a_volume() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "deadboth", 45);
    let (stage, folder) = (&ground.stage, guest_with_folder(&home, &ground));
    fs::write(ground.folder().join("large"), tree::noise(4, 60_000_000)).unwrap();
    let mut running = stage.bbackup(["backup", "--json", "--projects", &ground.project]).spawn();
    running.hold_while_it_has_open(&ground.folder());
    running.signal(Signal::KILL);
    let _ = running.wait().killed_by(Signal::KILL);
    assert_eq!(state(stage, &ground.guest), "exited");
    // It cannot be started just now.
    let away = home.path("away");
    fs::rename(&folder, &away).unwrap();
    Moment::new(&home, stage, "overwriting", "/volumes/").kills(ground.restore(&["--in-place"]));
    fs::rename(&away, &folder).unwrap();
    for _ in 0..2 {
        let _ = stage.bbackup(["recover"]).run().exits(3).says("was being overwritten");
        assert_eq!(state(stage, &ground.guest), "exited", "it runs on half of its data");
    }
    works(&ground.restore(&["--in-place"]).run());
    ground.assert_all_run();
    let _ = stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn what_somebody_has_started_on_half_a_volume_is_started_again_after_a_backup() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "byhand", 46);
    let stage = &ground.stage;
    Moment::new(&home, stage, "overwriting", "/volumes/").kills(ground.restore(&["--in-place"]));
    let _ = stage.bbackup(["recover"]).run().exits(3);
    stage.ok(["start", &ground.guest]);
    let _ = stage.bbackup(["backup", "--json", "--projects", &ground.project, "--containers", &ground.guest]).run();
    stage.wait_for_state(&ground.guest, "running");
}

#[test]
fn a_backup_that_begins_after_the_plan_of_a_restore_is_not_disturbed() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "afterplan", 47);
    let (stage, ids) = (&ground.stage, ground.ids());
    fs::write(ground.folder().join("large"), tree::noise(4, 60_000_000)).unwrap();
    let moment = Moment::new(&home, stage, "plans", "/containers/");
    let mut restoring = ground.restore(&["--in-place"]).env("DOCKER_HOST", moment.proxy.host()).spawn();
    restoring.until("the moment", || moment.is_reached());
    let mut running = stage.bbackup(["backup", "--json", "--projects", &ground.project]).spawn();
    running.hold_while_it_has_open(&ground.folder());
    moment.end();
    let _ = restoring.wait().exits(1).says("keeps container").says("just now");
    running.signal(Signal::CONT);
    let _ = running.wait().success();
    ground.assert_state_before(&ids);
}

#[test]
fn a_container_that_a_restore_replaces_is_not_saved_under_its_other_name() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "otherword", 49);
    let stage = &ground.stage;
    let latest = || stage.bbackup(["snapshots", "--json", "latest"]).run().success().text();
    let whole = latest();
    let moment = Moment::new(&home, stage, "aside", "/containers/create");
    let mut restoring = ground.restore(&["--in-place", "--container", &ground.db]).env("DOCKER_HOST", moment.proxy.host()).spawn();
    restoring.until("the moment", || moment.is_reached());
    let outcome = stage.bbackup(["backup", "--json", "--projects", &ground.project]).run().exits(4);
    let _ = outcome.says("-replaced").says("a restore replaces it just now");
    moment.end();
    works(&restoring.wait());
    assert_eq!(latest(), whole, "a container that is being replaced is what `latest` means");
}

#[test]
fn what_was_filled_in_part_is_not_completed_from_another_snapshot() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let bound = Bound::lay(&home, "twohalves");
    let older = bound.stage.bbackup(["snapshots", "--json", "latest"]).run().success().json_lines().pop().unwrap();
    let older = older["data"][0]["id"].as_str().unwrap_or_else(|| panic!("{older}")).to_owned();
    let _ = bound.backup().run().success();
    bound.stage.ok(["rm", "-f", &bound.name]);
    fs::remove_dir_all(&bound.folder).unwrap();
    let restore = |snapshot: &str| bound.stage.bbackup(["restore", snapshot, "--json", "--tag", &format!("app:{}", bound.name)]);
    Moment::new(&home, &bound.stage, "filling", "/containers/create").kills(restore(&older));
    let _ = restore("latest").run().exits(1).says(&format!("a restore of another snapshot {} has filled it in part", &older[..8]));
    assert_eq!((bound.read("kept").as_deref(), bound.read("new")), (Some("as saved"), None));
    // A pin gives it another id, and nothing else.
    let _ = bound.stage.bbackup(["pin", &older]).run().success();
    let all = bound.stage.bbackup(["snapshots", "--json"]).run().success().json_lines().pop().unwrap();
    let pinned = all["data"].as_array().unwrap().iter().find(|one| one["original"] == older.as_str()).unwrap();
    works(&restore(pinned["id"].as_str().unwrap()).run());
    assert_eq!((bound.read("kept").as_deref(), bound.read("new")), (Some("as saved"), None));
    assert_eq!(bound.policy(&bound.name), "always running");
}

#[test]
fn a_volume_of_another_machine_that_was_being_filled_is_not_forgotten() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "farfilled", 48);
    let stage = &ground.stage;
    ground.remove();
    let moment = Moment::new(&home, stage, "filling", "DELETE /");
    let mut running = ground.restore(&[]).env("DOCKER_HOST", over_tcp(&moment.proxy.host())).spawn();
    running.until("the moment", || moment.is_reached());
    // As what is written for longer than a second does.
    std::thread::sleep(Duration::from_millis(1100));
    ground.write("more", "of it");
    running.signal(Signal::KILL);
    let _ = running.wait().killed_by(Signal::KILL);
    moment.end();
    let far = over_tcp(&stage.engine().host());
    let recovered = stage.bbackup(["recover"]).env("DOCKER_HOST", &far).run();
    if stage.exists("volume", &ground.volume) {
        // An Engine whose word for a volume changes with what is in it, as 20.10's does: it may be another one.
        let _ = recovered.exits(3).says("may be another one by now");
        let outcome = stage.bbackup(["backup", "--json", "--volumes", &ground.volume]).env("DOCKER_HOST", &far).run();
        let _ = outcome.says("a restore fills it, or was interrupted");
        stage.ok(["volume", "rm", &ground.volume]);
        let _ = stage.bbackup(["recover"]).env("DOCKER_HOST", &far).run().success();
    } else {
        let _ = recovered.success();
    }
    works(&ground.restore(&[]).env("DOCKER_HOST", &far).run());
    let _ = stage.bbackup(["recover"]).env("DOCKER_HOST", &far).run().success().says("Nothing was left down");
}
