//! Commands in containers before and after: by label and by set, their exit codes, time limits, users and secrets.

use std::fs;

use rustix::process::Signal;

use super::{POLITE, application, document, journals, start, state};
use crate::support::engine::Stage;
use crate::support::home::Home;
use crate::support::parts::{Part, needs};

#[test]
fn they_run_around_the_backup_and_are_told_without_secrets() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "hooks");
    let pre = "bbackup.exec-pre=id -un > /data/pre; echo $PASSWORD; echo starting";
    let options = ["-e", "PASSWORD=Pa55w0rd", "--label", pre, "--label", "bbackup.exec-pre.user=nobody", "--label"];
    let post = "bbackup.exec-post=[\"touch\", \"/data/post\"]";
    let folder = start(&stage, "app", 1, &[&options[..], &[post]].concat(), POLITE);
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let name = stage.name("app");
    let dry = stage.bbackup(["backup", "--dry-run", "--containers", &name]).run().success();
    let dry = dry.says(&format!("would run exec-pre in {name} (label bbackup.exec-pre)")).says(&format!("would stop {name}"));
    let _ = dry.says_nothing_of("id -un");
    assert!(!folder.join("pre").exists(), "a dry run ran a hook");

    let outcome = stage.bbackup(["backup", "--json", "--containers", &name]).run().success().says_nothing_of("Pa55w0rd");
    assert_eq!(fs::read_to_string(folder.join("pre")).unwrap(), "nobody\n", "it did not run as the user that was asked for");
    assert!(folder.join("post").exists());
    let result = application(&outcome);
    let hooks = document(&stage, &result)["hooks"].clone();
    assert_eq!(hooks, result["hooks"]);
    let told: Vec<_> = hooks.as_array().unwrap().iter().map(|hook| (hook["when"].clone(), hook["exit_code"].clone())).collect();
    assert_eq!(told, [("pre".into(), 0.into()), ("post".into(), 0.into())]);
    assert_eq!(hooks[0]["output"], "***\nstarting".replace('\n', "\\n"), "{hooks}");
    let stored = stage.bbackup(["ls", result["snapshot"].as_str().unwrap()]).run().success().text();
    assert!(stored.contains("app-data/pre") && !stored.contains("app-data/post"), "in the wrong order: {stored}");
    assert!(journals(&home).is_empty());
}

#[test]
fn one_that_fails_before_keeps_the_volumes_from_being_read() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "prefails");
    let pre = "bbackup.exec-pre=touch /data/pre; echo the database is locked >&2; exit 3";
    let folder = start(&stage, "app", 1, &["--label", pre, "--label", "bbackup.exec-post=touch /data/post"], POLITE);
    let before = stage.ok(["inspect", "--format", "{{.State.StartedAt}}", &stage.name("app")]);
    let outcome = stage.bbackup(["backup", "--json", "--containers", &stage.name("app")]).run().exits(4);
    let outcome = outcome.says("exec-pre of container").says("exit code 3").says("the database is locked");
    assert!(folder.join("pre").exists() && folder.join("post").exists(), "what comes afterwards runs in any case");
    assert_eq!(stage.ok(["inspect", "--format", "{{.State.StartedAt}}", &stage.name("app")]), before, "it was stopped for nothing");
    let result = application(&outcome);
    let document = document(&stage, &result);
    let volume = document["items"].as_array().unwrap().iter().find(|item| item["kind"] == "volume").unwrap();
    assert!(volume.to_string().contains("failed"), "{volume}");
    let snapshots = stage.bbackup(["snapshots", "--json"]).run().success();
    assert!(snapshots.json_lines().last().unwrap()["data"].to_string().contains("partial"));
    assert!(journals(&home).is_empty());

    // After: the data is there and whole, and somebody has to look at it all the same.
    let folder = start(&stage, "other", 1, &["--label", "bbackup.exec-post=exit 7"], POLITE);
    let outcome = stage.bbackup(["backup", "--json", "--containers", &stage.name("other")]).run().exits(4);
    let outcome = outcome.says("exec-post of container").says("exit code 7");
    assert!(application(&outcome)["items"].to_string().contains("complete"), "{}", folder.display());
    assert_eq!(state(&stage, "other"), "running");
}

#[test]
fn one_that_does_not_end_is_ended_and_has_failed() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "slow");
    let labels = ["--label", "bbackup.exec-pre=[\"sleep\", \"600\"]", "--label", "bbackup.exec-pre.timeout=2s"];
    start(&stage, "app", 1, &labels, POLITE);
    let outcome = stage.bbackup(["backup", "--containers", &stage.name("app")]).run().exits(4);
    let _ = outcome.says("it did not end within 2 seconds and was killed");
    let processes = stage.ok(["top", &stage.name("app"), "-eo", "pid,args"]);
    assert!(!processes.contains("sleep 600"), "it still runs:\n{processes}");
    // What cannot be run at all has failed as well.
    stage.ok(["rm", "-f", &stage.name("app")]);
    start(&stage, "app", 1, &["--label", "bbackup.exec-pre=[\"no-such-program\"]"], POLITE);
    let _ = stage.bbackup(["backup", "--containers", &stage.name("app")]).run().exits(4).says("exec-pre of container");
}

#[test]
fn what_one_that_is_ended_has_started_is_ended_with_it() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "slowtree");
    let pre = "bbackup.exec-pre=setsid sh -c 'sleep 611 & env -i sleep 612' & sleep 613; true";
    start(&stage, "app", 1, &["--label", pre, "--label", "bbackup.exec-pre.timeout=3s"], &format!("sleep 614 & {POLITE}"));
    let outcome = stage.bbackup(["backup", "--containers", &stage.name("app")]).run().exits(4);
    let outcome = outcome.says("not read because exec-pre of container").says("it did not end within 3 seconds and was killed");
    let _ = outcome.says_nothing_of("could not be kept still");
    let processes = stage.ok(["top", &stage.name("app"), "-eo", "pid,args"]);
    for left in ["sleep 611", "sleep 612", "sleep 613"] {
        assert!(!processes.contains(left), "{left} still runs:\n{processes}");
    }
    assert!(processes.contains("sleep 614"), "what is the container's own was killed:\n{processes}");
}

#[test]
fn one_whose_container_does_not_run_is_told() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "notrun");
    for name in ["stopped", "paused"] {
        start(&stage, name, 1, &["--label", "bbackup.exec-pre=touch /data/dump"], POLITE);
    }
    stage.ok(["stop", "-t", "1", &stage.name("stopped")]);
    stage.ok(["pause", &stage.name("paused")]);
    for name in ["stopped", "paused"] {
        let container = stage.name(name);
        let config = format!(
            "sets:\n  s:\n    containers: [{container}]\n    hooks: {{exec_post: [{{containers: [{container}], command: sync}}]}}\n"
        );
        fs::write(home.path("config.yaml"), config).unwrap();
        for dry_run in [&["--dry-run"][..], &[]] {
            let outcome = stage.bbackup(["--config"]).arg(home.path("config.yaml")).args(["backup", "s"]).args(dry_run).run().exits(4);
            let outcome = outcome
                .says(&format!("exec-pre of container {container} (label bbackup.exec-pre) is not run: the container is {name}"))
                .says(&format!("exec-post of container {container} (sets.s.hooks.exec_post) is not run: the container is {name}"));
            let _ = outcome.says_nothing_of("would run");
        }
    }
    stage.ok(["unpause", &stage.name("paused")]);
}

#[test]
fn the_label_of_a_container_beats_what_its_set_says() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "sethooks");
    let label = ["--label", "bbackup.exec-pre=touch /data/by-label"];
    let labelled = start(&stage, "labelled", 1, &label, POLITE);
    let alias = start(&stage, "alias", 1, &["--label", "docker-volume-backup.archive-pre=touch '/data/by alias'"], POLITE);
    let plain = start(&stage, "plain", 1, &[], POLITE);
    let left = start(&stage, "left", 1, &[], POLITE);
    let prefix = stage.name("");
    let config = format!(
        "sets:
  s:
    containers: [\"{prefix}*\"]
    hooks:
      exec_pre:
      - {{containers: [\"{prefix}*\", \"!{prefix}left\"], command: [touch, /data/by-set]}}
      exec_post:
      - {{containers: [\"{prefix}plain\"], command: \"id -u > /data/user\", user: \"65534\", timeout: 1m}}
"
    );
    fs::set_permissions(&plain, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    fs::write(home.path("config.yaml"), config).unwrap();
    let _ = stage.bbackup(["--config"]).arg(home.path("config.yaml")).args(["backup", "s"]).run().success();
    let has = |folder: &std::path::Path, name: &str| folder.join(name).exists();
    assert!(has(&labelled, "by-label") && !has(&labelled, "by-set"));
    assert!(has(&alias, "by alias") && !has(&alias, "by-set"));
    assert!(has(&plain, "by-set") && !has(&left, "by-set"));
    assert_eq!(fs::read_to_string(plain.join("user")).unwrap(), "65534\n");

    // A hook for somebody who is not in the set is not run, and somebody should hear of it.
    let other = format!(
        "sets:\n  s:\n    containers: [\"{prefix}left\"]\n    hooks: {{exec_pre: [{{containers: [\"{prefix}lefd\"], command: sync}}]}}\n"
    );
    fs::write(home.path("config.yaml"), other).unwrap();
    let backup = || stage.bbackup(["--config"]).arg(home.path("config.yaml")).arg("backup");
    let _ = backup()
        .arg("s")
        .run()
        .exits(4)
        .says(&format!("sets.s.hooks.exec_pre: in what the set chooses no container is called `{prefix}lefd`"));
    let _ = backup().args(["--containers", &stage.name("plain")]).run().success();
}

#[test]
fn what_comes_afterwards_is_owed_after_a_crash_and_after_an_interrupt() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "owed");
    // Without the folder that it mounts it cannot be started.
    let (mounted, away) = (home.make_folder("mounted"), home.path("away"));
    let mount = format!("type=bind,src={},dst=/bound", mounted.display());
    let labels = ["--mount", &mount, "--label", "bbackup.exec-pre=touch /on", "--label", "bbackup.exec-post=rm /on"];
    let folder = start(&stage, "app", 50, &labels, POLITE);
    let is_on = || stage.docker(["exec", &stage.name("app"), "test", "-e", "/on"]).run().code() == Some(0);
    for signal in [Signal::TERM, Signal::KILL] {
        let mut running = stage.bbackup(["backup", "--full", "--containers", &stage.name("app")]).spawn();
        running.hold_while_it_has_open(&folder);
        running.signal(signal);
        running.signal(Signal::CONT);
        if signal == Signal::KILL {
            let _ = running.wait().killed_by(Signal::KILL);
            assert_eq!((state(&stage, "app").as_str(), journals(&home).len()), ("exited", 1));
            fs::rename(&mounted, &away).unwrap();
            let _ = stage.bbackup(["recover"]).run().exits(3).says("cannot be started").says("is run once the container runs again");
            assert_eq!((state(&stage, "app").as_str(), journals(&home).len()), ("exited", 1), "what is owed is forgotten");
            fs::rename(&away, &mounted).unwrap();
            let _ = stage.bbackup(["recover"]).run().success().says("runs again").says("exec-post of container").says("was run");
        } else {
            let _ = running.wait().exits(130);
        }
        assert_eq!(state(&stage, "app"), "running");
        assert!(!is_on(), "after {signal:?} it stays as the first hook had left it");
        assert!(journals(&home).is_empty());
    }
    let _ = stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}
