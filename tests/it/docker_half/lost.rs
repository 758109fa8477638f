//! What a restore from a damaged repository could not bring back is not taken for all that there was, until somebody takes it as it is.

use std::fs;

use super::state;
use crate::docker_images::configuration;
use crate::support::engine::{BUSYBOX, Stage};
use crate::support::faults;
use crate::support::home::{Home, files_below};
use crate::support::parts::{Part, needs};
use crate::support::run::Outcome;
use crate::support::tree;

const SHORT: &str = "a restore could not bring back all of it";

/// Damages the largest file with data in the repository.
fn damage(home: &Home) {
    let packs = files_below(&home.repository().join("data"));
    let pack = packs.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    faults::flip(&pack, (fs::metadata(&pack).unwrap().len() / 2).cast_signed());
}

fn save_layer(stage: &Stage<'_>, config: &str) -> Outcome {
    stage.bbackup(["backup", "s", "--json", "--config", config]).run()
}

#[test]
fn a_layer_that_lost_entries_is_partial_until_its_container_was_started() {
    needs!(Part::Root, Part::Engine);
    for (word, is_all) in [("lostlayer", false), ("nolayer", true)] {
        let home = Home::with_repository();
        let stage = Stage::new(&home, word);
        let name = stage.name("app");
        stage.ok(["create", "--name", &name, BUSYBOX, "true"]);
        let folder = home.make_folder("layer");
        tree::write(&folder.join("noise"), &tree::noise(3, 300_000));
        if !is_all {
            tree::write(&folder.join("kept"), b"kept");
        }
        stage.ok(["cp", &format!("{}/.", folder.display()), &format!("{name}:/")]);
        let config = configuration(&home, &[&name], "{layers: true}");
        let _ = save_layer(&stage, &config).success();
        damage(&home);
        stage.remove_everything();
        let _ = stage.bbackup(["restore", "latest", "--all"]).run().exits(4).says("noise");
        assert_eq!(stage.ok(["diff", &name]), if is_all { "" } else { "A /kept" }, "something else came back");
        for _ in 0..2 {
            let _ = save_layer(&stage, &config).exits(4).says(SHORT);
        }
        // A start that puts right what others have left forgets nothing of it.
        let _ = stage.bbackup(["recover"]).run().success();
        let _ = save_layer(&stage, &config).exits(4).says(SHORT);
        stage.ok(["start", &name]);
        stage.wait_for_state(&name, "exited");
        let _ = save_layer(&stage, &config).success().says_nothing_of(SHORT);
    }
}

#[test]
fn a_layer_that_lost_entries_is_forgotten_with_its_container() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "layergone");
    let name = stage.name("app");
    let run = || stage.ok(["run", "--name", &name, BUSYBOX, "dd", "if=/dev/urandom", "of=/noise", "bs=1k", "count=3000"]);
    run();
    let config = configuration(&home, &[&name], "{layers: true}");
    let _ = save_layer(&stage, &config).success();
    damage(&home);
    stage.remove_everything();
    let _ = stage.bbackup(["restore", "latest", "--all"]).run().exits(4).says("noise");
    stage.ok(["rm", &name]);
    run();
    let _ = save_layer(&stage, &config).success().says_nothing_of(SHORT);
}

#[test]
fn a_short_job_takes_what_lost_entries_as_it_is() {
    needs!(Part::Root, Part::Engine);
    for (word, is_volume) in [("lostbind", false), ("lostvolume", true)] {
        let home = Home::with_repository();
        let stage = Stage::new(&home, word);
        let [app, old] = ["a-app", "b-old"].map(|name| stage.name(name));
        let folder = home.make_folder("data");
        let mount = if is_volume { stage.name("data") } else { folder.display().to_string() };
        let run =
            |name: &str, script: &str| stage.ok(["run", "--name", name, "-v", &format!("{mount}:/data"), BUSYBOX, "sh", "-c", script]);
        run(&app, "dd if=/dev/urandom of=/data/noise bs=1k count=3000; echo kept > /data/kept");
        // One that has used it before says nothing of what is there now.
        if !is_volume {
            run(&old, "true");
        }
        let save = || stage.bbackup(["backup", "--json", "--containers", &app]).run();
        let _ = save().success();
        damage(&home);
        stage.ok(["rm", &app]);
        if is_volume {
            stage.ok(["volume", "rm", &mount]);
        } else {
            fs::remove_dir_all(&folder).unwrap();
        }
        let _ = stage.bbackup(["restore", "latest", "--all"]).run().exits(4).says("noise");
        for _ in 0..2 {
            let _ = save().exits(4).says(SHORT);
        }
        if is_volume {
            run(&old, "true");
        } else {
            stage.ok(["start", &old]);
        }
        stage.wait_for_state(&old, "exited");
        let _ = save().success().says_nothing_of(SHORT);
        assert_eq!(state(&stage, &app), "created");
    }
}

/// Where no earlier snapshot says that something was in it: the restore remembers.
#[test]
fn a_volume_that_lost_everything_is_not_whole_for_being_empty() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "lostall");
    let [app, data] = ["app", "data"].map(|name| stage.name(name));
    let script = "dd if=/dev/urandom of=/data/noise bs=1k count=300";
    stage.ok(["run", "--name", &app, "-v", &format!("{data}:/data"), BUSYBOX, "sh", "-c", script]);
    let _ = stage.bbackup(["backup", "--containers", &app]).run().success();
    damage(&home);
    stage.remove_everything();
    let _ = stage.bbackup(["restore", "latest", "--all"]).run().exits(4).says("noise");
    let other = home.path("other");
    let _ = home.bbackup(["init", "--repo"]).arg(&other).run().success();
    let save = || stage.bbackup(["backup", "--containers", &app, "--repo"]).arg(&other).run();
    let _ = save().exits(4).says(SHORT);
    let _ = save().exits(4).says(SHORT);
    stage.ok(["start", &app]);
    stage.wait_for_state(&app, "exited");
    let _ = save().success().says_nothing_of(SHORT);
}
