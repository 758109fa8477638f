//! What no backup set saves, and the configuration of the other program of this name.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::mounted::Disk;
use crate::support::parts::{Part, needs};

#[test]
fn what_no_enabled_set_saves_is_said() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    // Nobody else's containers may be on the Engine: they would not be saved either.
    let stage = Stage::alone(&home, "coverage");
    let (safe, lost, folder) = (stage.name("safe"), stage.name("lost"), home.make_folder("bind"));
    for name in [&safe, &lost] {
        let (volume, bind) = (format!("{name}-data:/data"), format!("{}/{name}:/bind", folder.display()));
        stage.ok(["run", "-d", "--name", name, "-v", &volume, "-v", &bind, BUSYBOX, "sleep", "1000"]);
    }
    stage.ok(["volume", "create", &stage.name("nobodys")]);
    let coverage = |sets: &str| {
        fs::write(home.path("config.yaml"), format!("sets:\n{sets}")).unwrap();
        let outcome = stage.bbackup(["coverage", "--json", "--config"]).arg(home.path("config.yaml")).run();
        let data: Value = outcome.json_lines().pop().unwrap()["data"]["engines"][0].clone();
        let named = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
        let unprotected: Vec<String> = data["unprotected"].as_array().unwrap().iter().map(named).collect();
        let disabled = data["unprotected"].as_array().unwrap().iter().any(|one| one["disabled_sets"] == serde_json::json!(["off"]));
        (outcome.code(), unprotected, disabled)
    };
    let bind = format!("{}/{lost}", folder.display());
    let everything_lost = vec![bind.clone(), lost.clone(), format!("{lost}-data"), stage.name("nobodys")];
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let (code, names, disabled) = coverage(&format!("  a: {{containers: [{safe}]}}\n  off: {{containers: [{lost}], enabled: false}}\n"));
    assert_eq!((code, sorted(names), disabled), (Some(4), sorted(everything_lost), true));

    // Paths of a set save bind mounts; volumes need their own line, or `scope`.
    let all = format!("  a: {{containers: [\"*\"], volumes: [\"*\"], scope: {{binds: false}}}}\n  b: {{paths: [{}]}}\n", folder.display());
    assert_eq!(coverage(&all), (Some(0), Vec::new(), false));
    let (code, names, _) = coverage("  a: {containers: [\"*\"], volumes: [\"*\"], scope: {volumes: false}}\n");
    assert_eq!((code, sorted(names)), (Some(4), sorted(vec![format!("{safe}-data"), format!("{lost}-data"), stage.name("nobodys")])));
    // What lies in a bind mount that is saved is saved with it, and one whose name only begins alike is not.
    for (name, path) in [("inner", format!("{safe}/inner")), ("alike", format!("{safe}-alike"))] {
        let bind = format!("{}/{path}:/bind", folder.display());
        stage.ok(["create", "--name", &stage.name(name), "-v", &bind, BUSYBOX, "true"]);
    }
    let sets = format!("  a: {{containers: [\"*\"], volumes: [\"*\"], scope: {{binds: false}}}}\n  b: {{containers: [{safe}, {lost}]}}\n");
    assert_eq!(coverage(&sets), (Some(4), vec![format!("{}/{safe}-alike", folder.display())], false));
    stage.ok(["rm", &stage.name("inner"), &stage.name("alike")]);
    // What a set names and leaves out again is not saved.
    let but = |more: &str| format!("  a: {{containers: [\"*\"], volumes: [\"*\"], {more}}}\n");
    let lost_path = format!("{}/{lost}", folder.display());
    assert_eq!(coverage(&but(&format!("exclude: [\"{lost_path}\"]"))), (Some(4), vec![lost_path.clone()], false));
    assert_eq!(coverage(&but(&format!("exclude: [\"{lost}-data\"]"))).1, [format!("{lost}-data")]);
    let by_path = |more: &str| format!("{}  b: {{paths: [{}], {more}}}\n", but("scope: {binds: false}"), folder.display());
    assert_eq!(coverage(&by_path(&format!("exclude: [{lost}]"))), (Some(4), vec![lost_path.clone()], false));
    let disk = Disk::in_memory(Path::new(&lost_path));
    assert_eq!(coverage(&by_path("one_file_system: true")), (Some(4), vec![lost_path], false));
    assert_eq!(coverage(&by_path("one_file_system: false")), (Some(0), Vec::new(), false));
    drop(disk);
    // Nor is what belongs to bbackup itself.
    let own = home.make_folder("state/bbackup").canonicalize().unwrap().display().to_string();
    stage.ok(["create", "--name", &stage.name("own"), "-v", &format!("{own}:/own"), BUSYBOX, "true"]);
    assert_eq!(coverage(&but("enabled: true")).1, [own]);
    stage.ok(["rm", &stage.name("own")]);
    // A set that finds nothing is worth a word, and nobody's success.
    let (code, names, _) = coverage("  a: {containers: [\"*\"], volumes: [\"*\"]}\n  b: {containers: [gone]}\n");
    assert_eq!((code, names), (Some(4), Vec::new()));
    // Without a configuration a backup takes everything.
    let _ = stage.bbackup(["coverage"]).run().success().says("saves everything");
}

#[test]
fn the_other_programs_configuration_is_translated() {
    let home = Home::new();
    let theirs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import/config.yaml");
    // It lies where our own is looked for, and cannot be read as ours.
    fs::create_dir_all(home.path("config/bbackup")).unwrap();
    fs::copy(&theirs, home.path("config/bbackup/config.yaml")).unwrap();
    let _ = home.bare(["config", "check"]).run().exits(2);
    let import = |words: &[&str]| home.bare(["config", "import"]).arg(home.path("config/bbackup/config.yaml")).args(words).run();
    let outcome = import(&[]).success().says("retention.max_storage_gb").says("remotes.disk.path");
    fs::write(home.path("printed.yaml"), outcome.text()).unwrap();
    let _ = home.bare(["config", "check", "--config"]).arg(home.path("printed.yaml")).run().success().says("4 backup sets");
    let data = import(&["--json"]).success().json_lines().pop().unwrap()["data"].clone();
    assert!(data["mapped"].as_array().unwrap().len() > 10 && data["dropped"].as_array().unwrap().len() > 40, "{data}");

    // A file that is there is never replaced unasked, least of all the one that is read.
    let target = home.path("config/bbackup/config.yaml");
    let before = fs::read(&target).unwrap();
    let to = ["--output", target.to_str().unwrap()];
    let _ = import(&to).exits(1).says("is there already");
    assert_eq!(fs::read(&target).unwrap(), before);
    let _ = import(&[to[0], to[1], "--force"]).success();
    let _ = home.bare(["config", "check"]).run().success();

    fs::write(home.path("compose.yaml"), "services: {}\n").unwrap();
    let _ = home.bare(["config", "import"]).arg(home.path("compose.yaml")).run().exits(2).says("none of its sections");
    let _ = home.bare(["config", "import", "/nonexistent.yaml"]).run().exits(2).says("no configuration file");
}

#[test]
fn an_engine_that_does_not_answer_costs_the_others_nothing() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "coverone");
    let config = home.path("config.yaml");
    let text = "docker: {engines: {nas: {host: \"unix:///nowhere/docker.sock\"}}}\nsets: {a: {containers: [\"*\"], volumes: [\"*\"]}}\n";
    fs::write(&config, text).unwrap();
    let coverage = |flags: &[&str]| stage.bbackup(["coverage", "--config"]).arg(&config).args(flags).run();
    let last = coverage(&["--json"]).exits(4).json_lines().pop().unwrap();
    assert_eq!(last["data"]["engines"].as_array().unwrap().len(), 1, "{last}");
    assert!(last["errors"].as_array().unwrap().iter().any(|error| error.to_string().contains("Engine `nas`")), "{last}");
    let _ = coverage(&[]).exits(4).says("Engine `nas`: There is no Docker socket");
    let _ = coverage(&["--engine", "nas"]).exits(3);
}
