//! What is asked of an Engine: the list of calls is the code's, what only looks only reads, and a call that is forbidden is named.

mod each;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bbackup::docker::permissions::{self, FEATURES};

use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::{Home, files_below};
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};
use crate::support::tree;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_documentation_has_the_list_of_the_program() {
    let path = here("docs/docker-permissions.md");
    let text = fs::read_to_string(&path).unwrap();
    let (head, _) = text.split_once("## ").unwrap();
    let expected = format!("{head}{}", permissions::markdown());
    if std::env::var_os("BBACKUP_TEST_UPDATE").is_some() {
        fs::write(&path, &expected).unwrap();
    } else {
        assert!(
            text == expected,
            "docs/docker-permissions.md is not what src/docker/permissions.rs says: BBACKUP_TEST_UPDATE=1 writes it anew"
        );
    }
}

/// The paths of calls in a source: texts that begin like a path of the Engine's API, up to the query, with `*` for what is filled in.
fn paths_in(source: &str) -> Vec<String> {
    const ROOTS: [&str; 20] = [
        "containers",
        "images",
        "networks",
        "volumes",
        "exec",
        "info",
        "version",
        "events",
        "commit",
        "system",
        "_ping",
        "build",
        "auth",
        "distribution",
        "plugins",
        "swarm",
        "services",
        "nodes",
        "tasks",
        "session",
    ];
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut paths = Vec::new();
    for line in source.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (at, _) in line.match_indices("\"/") {
            let text = &line[at + 1..];
            let text = &text[..text.find(['"', '?']).unwrap_or(text.len())];
            if !ROOTS.contains(&text.split('/').nth(1).unwrap_or_default()) {
                continue;
            }
            let mut path = String::new();
            let mut inside = false;
            for c in text.chars() {
                match c {
                    '{' => inside = true,
                    '}' => {
                        inside = false;
                        path.push('*');
                    }
                    c if !inside => path.push(c),
                    _ => {}
                }
            }
            // `{IMAGE}:{TAG}` is one name; `stop{seconds}` is `stop` with a query.
            let segments = path.split('/').map(|segment| if segment.starts_with('*') { "*" } else { segment.trim_end_matches('*') });
            paths.push(segments.collect::<Vec<_>>().join("/"));
        }
    }
    paths
}

#[test]
fn the_list_is_the_one_of_the_code() {
    let listed: BTreeSet<&str> = FEATURES.iter().flat_map(|feature| feature.calls).map(|call| call.path).collect();
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut words = String::new();
    for folder in ["src/docker", "src/sources", "src/targets", "src/jobs", "src/service"] {
        for path in files_below(&here(folder)) {
            let is_test = path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
            if is_test || path.ends_with("permissions.rs") || path.ends_with("address.rs") {
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            for called in paths_in(&source) {
                // One that fills in the verb is each of those that end in a word of the code.
                let is_listed = listed.contains(called.as_str()) || called.ends_with("/*/*");
                assert!(is_listed, "{} calls {called}: list it in src/docker/permissions.rs, with what it is for", path.display());
                found.insert(called);
            }
            words.push_str(&source);
        }
    }
    assert!(found.len() > 15, "the sources are not read: {found:?}");
    for path in listed {
        let verb = path.rsplit('/').next().unwrap();
        let is_called = found.contains(path) || (found.contains("/containers/*/*") && words.contains(&format!("\"{verb}\"")));
        assert!(is_called, "{path} is listed in src/docker/permissions.rs, and nothing calls it");
    }
}

/// A proxy that keeps the first line of every request.
fn recording(home: &Home, name: &str, engine: &str) -> (Proxy, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let proxy = Proxy::start(&home.path(name), engine, move |line| {
        record.lock().unwrap().push(line.trim_end_matches(" HTTP/1.1").to_owned());
        Action::Pass
    });
    (proxy, seen)
}

/// Removes the files in a folder.
fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

/// A container that runs, with a plain volume and one that only a helper can read.
fn application(stage: &Stage<'_>, home: &Home, more: &[&str]) {
    let (plain, device) = (stage.name("plain"), stage.name("device"));
    let folder = home.make_folder(&device);
    stage.ok(["volume", "create", &plain]);
    stage.ok(["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &format!("device={}", folder.display()), &device]);
    tree::write(&folder.join("file"), b"through a helper");
    tree::write(&stage.mountpoint(&plain).join("file"), b"directly");
    let (one, two) = (format!("{plain}:/plain"), format!("{device}:/device"));
    let label: Vec<&str> = more.iter().take(2).copied().collect();
    stage.ok([&["network", "create"][..], &label, &[&stage.name("net")]].concat());
    let sleep = "trap exit TERM; while :; do sleep 1; done";
    let name = stage.name("app");
    let place = ["--network", &stage.name("net"), "-v", &one, "-v", &two];
    stage.ok([&["run", "-d", "--name", &name][..], &place, more, &[BUSYBOX, "sh", "-c", sleep]].concat());
}

#[test]
fn what_only_looks_only_reads() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "looks");
    application(&stage, &home, &[]);
    let name = stage.name("app");
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    let (proxy, seen) = recording(&home, "recording.sock", &stage.engine().host());
    let bbackup = |words: &[&str]| stage.bbackup(words).env("DOCKER_HOST", proxy.host()).run();
    for command in ["list-containers", "list-volumes", "list-networks"] {
        let _ = bbackup(&[command]).success();
    }
    let _ = bbackup(&["coverage"]);
    // What only a helper could read is said.
    let _ = bbackup(&["backup", "--dry-run", "--containers", &name]).success().says("would be read through a helper");
    let _ = bbackup(&["restore", "latest", "--all", "--dry-run", "--as-new"]).exits(4).says("are left as they are");
    let seen = seen.lock().unwrap();
    assert!(seen.len() > 30, "nothing went through the proxy: {seen:?}");
    let writing: Vec<&String> = seen.iter().filter(|line| !line.starts_with("GET ") && !line.starts_with("HEAD ")).collect();
    assert!(writing.is_empty(), "{writing:?}");
    // A dry run counts what it would save, so it has to see the logs too; and it says what would not be saved.
    let looks = || FEATURES[..3].iter().flat_map(|feature| feature.calls);
    for line in seen.iter() {
        let (method, path) = line.split_once(' ').unwrap();
        assert!(looks().any(|call| call.is(method, path)), "{line} is a call of neither looking nor logs nor changes");
    }
}

#[test]
fn everything_that_is_called_is_listed() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "listed");
    application(&stage, &home, &[]);
    let name = stage.name("app");
    stage.ok(["exec", &name, "sh", "-c", "echo outside > /written"]);
    let (proxy, seen) = recording(&home, "recording.sock", &stage.engine().host());
    let bbackup = |words: &[&str]| stage.bbackup(words).env("DOCKER_HOST", proxy.host()).run();
    let _ = bbackup(&["backup", "--consistency", "pause", "--containers", &name]).success();
    // With everything that can be wanted.
    let (repository, password) = (home.repository().display().to_string(), home.password_file().display().to_string());
    let set = format!(
        "{{containers: [\"{name}\"], scope: {{images: local, layers: true}}, hooks: {{exec_pre: [{{containers: [\"*\"], command: \"true\"}}]}}}}"
    );
    let config = home.path("bbackup.yaml");
    let text = format!("repositories:\n  default: {{location: {repository}, password_file: {password}}}\nsets:\n  s: {set}\n");
    fs::write(&config, text).unwrap();
    let _ = bbackup(&["--config", config.to_str().unwrap(), "backup", "s"]).success();
    stage.remove_everything();
    empty(&home.path(stage.name("device")));
    let _ = bbackup(&["restore", "latest", "--all"]).success();
    stage.wait_for_state(&name, "running");
    let seen = seen.lock().unwrap();
    for line in seen.iter() {
        assert!(permissions::needed_for(line).is_some(), "{line} is in no feature of src/docker/permissions.rs");
    }
    // An Engine that is asked for it packs its streams, which costs more than it saves and hides where they end.
    for head in proxy.heads() {
        assert!(head.contains("\r\n"), "no headers in {head}");
        let asks = |line: &str| line.starts_with("accept-encoding:") && line != "accept-encoding: identity";
        assert!(!head.to_ascii_lowercase().lines().any(asks), "{head}");
    }
    // Most of the list was really seen: that it is compared at all.
    let calls: Vec<_> = FEATURES.iter().flat_map(|feature| feature.calls).collect();
    let made = calls.iter().filter(|call| seen.iter().any(|line| line.split_once(' ').is_some_and(|(method, path)| call.is(method, path))));
    let made = made.count();
    assert!(made * 3 > calls.len() * 2, "{made} of {}: {seen:?}", calls.len());
}

#[test]
fn a_call_that_is_forbidden_is_named_with_what_it_is_for() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "forbidden");
    application(&stage, &home, &[]);
    let name = stage.name("app");
    let denied = Arc::new(Mutex::new(("", "")));
    let rule = Arc::clone(&denied);
    let proxy = Proxy::start(&home.path("deny.sock"), &stage.engine().host(), move |line| {
        let (method, part) = *rule.lock().unwrap();
        if !part.is_empty() && line.starts_with(method) && line.contains(part) { Action::Deny } else { Action::Pass }
    });
    let with = |method: &'static str, part: &'static str, words: &[&str]| {
        *denied.lock().unwrap() = (method, part);
        stage.bbackup(words).env("DOCKER_HOST", proxy.host()).run()
    };
    let backup = ["backup", "--containers", &name];
    let _ = with("GET", "/version", &backup).exits(3).says("GET /version is not allowed, which is needed for looking at the Engine");
    let _ = with("GET", "/containers/json", &backup).exits(3).says("GET /containers/json is not allowed").says("docker-permissions.md");
    let digests = with("GET", "/images/json", &backup).exits(4);
    let _ = digests.says("image digests are not recorded").says("GET /images/json is not allowed");
    let logs = with("GET", "/logs", &backup).exits(4);
    let _ = logs.says("is not allowed, which is needed for saving logs");
    let stop = with("POST", "/stop", &backup);
    assert!(matches!(stop.code(), Some(1 | 3 | 4)), "{}", stop.describe());
    let _ = stop.says("/stop is not allowed, which is needed for stopping containers while they are read");
    stage.wait_for_state(&name, "running");
    let helper = with("GET", "/archive", &backup).exits(4).says(&stage.name("device"));
    let _ = helper.says("which is needed for reading volumes through a helper");
    stage.wait_for_state(&name, "running");
    // With everything allowed it works, and then the restore says what it lacks and leaves nothing behind.
    let _ = with("", "", &backup).success();
    stage.remove_everything();
    empty(&home.path(stage.name("device")));
    let create = with("POST", "/networks/create", &["restore", "latest", "--all"]);
    assert!(matches!(create.code(), Some(1 | 3 | 4)), "{}", create.describe());
    let _ = create.says("POST /networks/create is not allowed, which is needed for restoring applications");
    assert!(!stage.exists("container", &name) && !stage.exists("volume", &stage.name("plain")), "something was left behind");
}
