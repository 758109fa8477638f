//! Images that no registry has, and what containers wrote into their own layers: saved, lost, and brought back.

use std::fs;

use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::registry::Registry;

/// A configuration with one set for these containers.
pub(crate) fn configuration(home: &Home, containers: &[&str], scope: &str) -> String {
    let names = containers.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let path = home.path("bbackup.yaml");
    let (repository, password) = (home.repository().display().to_string(), home.password_file().display().to_string());
    let repository = format!("repositories:\n  default: {{location: {repository}, password_file: {password}}}\n");
    fs::write(&path, format!("{repository}sets:\n  s:\n    containers: [{names}]\n    scope: {scope}\n")).unwrap();
    path.display().to_string()
}

/// Makes an image of its own by committing a container: a layer above the one that all tests share.
fn build(stage: &Stage<'_>, image: &str, content: &str) -> String {
    let name = stage.name("builder");
    let script = format!("echo {content} > /built; dd if=/dev/urandom of=/noise bs=1k count=3000 2>/dev/null; busybox chown 12:13 /built");
    stage.ok(["run", "--name", &name, BUSYBOX, "sh", "-c", &script]);
    stage.ok(["commit", &name, image]);
    stage.ok(["rm", "-f", &name]);
    stage.ok(["inspect", "--type", "image", "--format", "{{.Id}}", image])
}

#[test]
fn an_image_that_no_registry_has_is_saved_once_and_loaded_again() {
    needs!(Part::Root, Part::Engine, Part::Restic);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "image");
    let image = "bbackup-test/local-only:7";
    let id = build(&stage, image, "first");
    let [one, two] = ["one", "two"].map(|name| stage.name(name));
    stage.ok(["run", "-d", "--name", &one, image, "sleep", "1000"]);
    // Without the setting somebody is told before it is too late.
    let _ = stage.bbackup(["backup", "--dry-run", "--containers", &one]).run().success().says("is from no registry");
    let config = configuration(&home, &[&one], "{images: local}");
    let outcome = stage.bbackup(["backup", "s", "--json", "--config", &config]).run().success();
    let summary = outcome.messages("summary").pop().unwrap();
    let _ = outcome.says_nothing_of("is from no registry");
    let document = stage.bbackup(["dump", "latest", &format!("/docker/{one}/application.json")]).run().success().text();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["application"]["containers"][0]["image"]["id"], id);
    assert!(summary["data_added"].as_u64().unwrap() > 3_000_000, "{summary}");
    // The layers are files, so a second image with them costs nothing but its own layer.
    stage.ok(["run", "-d", "--name", &two, image, "sleep", "1000"]);
    let config = configuration(&home, &[&two], "{images: local}");
    let second = stage.bbackup(["backup", "s", "--json", "--config", &config]).run().success().messages("summary").pop().unwrap();
    assert!(second["data_added"].as_u64().unwrap() < 300_000, "the layers were stored again: {second}");
    Restic::new(&home).check();

    stage.remove_everything();
    stage.ok(["rmi", "-f", image]);
    let _ = stage.bbackup(["restore", "latest", "--container", &one, "--dry-run"]).run().success().says("load image");
    assert_eq!(stage.docker(["inspect", "--type", "image", image]).run().code(), Some(1), "a dry run loaded the image");
    let _ = stage.bbackup(["restore", "latest", "--container", &one]).run().success();
    stage.wait_for_state(&one, "running");
    assert_eq!(stage.ok(["inspect", "--type", "image", "--format", "{{.Id}}", image]), id);
    assert_eq!(stage.ok(["exec", &one, "cat", "/built"]), "first");
    assert_eq!(stage.inspect("container", &one)["Config"]["Image"], image);
    stage.remove_everything();
    stage.ok(["rmi", "-f", image]);
}

#[test]
fn a_name_that_has_moved_on_brings_back_the_image_that_the_container_had() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "moved");
    let image = "bbackup-test/moving:1";
    let old = build(&stage, image, "old");
    let name = stage.name("app");
    stage.ok(["run", "-d", "--name", &name, image, "sleep", "1000"]);
    let new = build(&stage, image, "new");
    assert_ne!(old, new);
    let config = configuration(&home, &[&name], "{images: local}");
    let _ = stage.bbackup(["backup", "s", "--config", &config]).run().success();
    stage.remove_everything();
    stage.ok(["rmi", "-f", &old, image]);
    let _ = stage.bbackup(["restore", "latest", "--all"]).run().success();
    assert_eq!(stage.ok(["exec", &name, "cat", "/built"]), "old");
    assert_eq!(stage.ok(["inspect", "--type", "image", "--format", "{{.Id}}", image]), old);
    stage.remove_everything();
    stage.ok(["rmi", "-f", image]);
}

#[test]
fn two_builds_of_one_name_come_back_each_to_its_container() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "builds");
    let image = "bbackup-test/twice:1";
    let project = stage.name("p");
    let label = format!("com.docker.compose.project={project}");
    let [one, two] = ["one", "two"].map(|name| format!("{project}-{name}"));
    let run = |name: &str| stage.ok(["run", "-d", "--label", &label, "--stop-timeout", "0", "--name", name, image, "sleep", "1000"]);
    let old = build(&stage, image, "old");
    run(&one);
    let new = build(&stage, image, "new");
    run(&two);
    let config = configuration(&home, &[&one, &two], "{images: local}");
    let _ = stage.bbackup(["backup", "s", "--config", &config]).run().success();
    let lose = || {
        stage.ok(["rm", "-f", &one, &two]);
        stage.ok(["rmi", "-f", &old, &new]);
        for id in [&old, &new] {
            assert!(!stage.exists("image", id), "{id} is still there");
        }
    };
    let restore = || {
        let _ = stage.bbackup(["restore", "latest", "--all"]).run().success();
        for (name, id, content) in [(&one, &old, "old"), (&two, &new, "new")] {
            assert_eq!(stage.inspect("container", name)["Image"], id.as_str(), "{name}");
            assert_eq!(stage.ok(["exec", name, "cat", "/built"]), content);
        }
        stage.ok(["inspect", "--type", "image", "--format", "{{.Id}}", image])
    };
    lose();
    assert_eq!(restore(), new, "the name means the build that it meant");
    // A third build has the name now: it keeps it, and no container gets that one.
    lose();
    let third = build(&stage, image, "third");
    assert_eq!(restore(), third, "the name was taken from the image that is there");
    lose();
    stage.ok(["rmi", "-f", image]);
}

#[test]
fn an_image_that_its_registry_has_no_more_comes_from_another_or_by_its_name() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "registry");
    let registry = Registry::start(stage.engine());
    let digest = registry.publish("app", "old");
    assert_eq!(registry.publish("mirror", "old"), digest);
    let [image, mirror] = ["app", "mirror"].map(|name| format!("{}:1", registry.name(name)));
    stage.ok(["pull", &image]);
    stage.ok(["pull", &mirror]);
    let old = stage.ok(["inspect", "--type", "image", "--format", "{{.Id}}", &image]);
    let name = stage.name("app");
    stage.ok(["run", "-d", "--name", &name, &image]);
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    let restore = || {
        stage.ok(["rm", "-f", &name]);
        let there = stage.ok(["inspect", "--type", "image", "--format", "{{.Id}}", &image]);
        stage.ok(["rmi", "-f", &there]);
        let outcome = stage.bbackup(["restore", "latest", "--all"]).run();
        assert!(stage.exists("container", &name), "{}", outcome.describe());
        stage.wait_for_state(&name, "running");
        let found = stage.inspect("container", &name);
        assert_eq!(found["Config"]["Image"], image.as_str(), "{}", outcome.describe());
        (outcome, found["Image"].as_str().unwrap().to_owned(), stage.ok(["exec", &name, "cat", "/built"]))
    };
    registry.publish("app", "new");
    registry.forget("app", &digest);
    let (outcome, id, built) = restore();
    assert_eq!((id.as_str(), built.as_str()), (old.as_str(), "old"), "{}", outcome.describe());
    let _ = outcome.says_nothing_of("may be another build");
    registry.forget("mirror", &digest);
    let (outcome, _, built) = restore();
    assert_eq!(built, "new");
    let _ = outcome.exits(4).says("was pulled by its name, and may be another build");
    stage.ok(["rm", "-f", &name]);
    stage.ok(["rmi", "-f", &image]);
}

#[test]
fn what_a_container_wrote_into_its_layer_is_told_or_saved_and_put_back() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "layer");
    let [name, volume] = ["app", "data"].map(|name| stage.name(name));
    stage.ok(["volume", "create", &volume]);
    let idle = "trap exit TERM; while :; do sleep 1; done";
    stage.ok(["run", "-d", "--name", &name, "-v", &format!("{volume}:/data"), BUSYBOX, "sh", "-c", idle]);
    let script = "mkdir -p /opt/app/deep; echo kept > /opt/app/deep/file; echo changed >> /etc/group; rm /bin/nc; echo in > /data/volume-file; \
                  echo gone > /tmp/fleeting; busybox ln -s deep/file /opt/app/link; busybox ln /opt/app/deep/file /opt/app/hard; \
                  touch -d '2001-02-03 04:05:06' /opt/app/deep/file";
    stage.ok(["exec", &name, "sh", "-c", script]);
    let outcome = stage.bbackup(["backup", "--json", "--containers", &name]).run().success();
    let text = outcome.text();
    assert!(text.contains("what it wrote outside its mounts is not saved") && text.contains("/opt/app/deep/file"), "{text}");
    assert!(!text.contains("fleeting") && !text.contains("volume-file"), "{text}");
    // So many that nobody would read their names: they are not taken in.
    let many = "mkdir /opt/many; cd /opt/many; i=0; l=$(printf %0200d 0); while [ $i -lt 6000 ]; do : > $l$i; i=$((i+1)); done";
    stage.ok(["exec", &name, "sh", "-c", many]);
    let _ =
        stage.bbackup(["backup", "--containers", &name]).run().success().says("too many paths to list").says_nothing_of("/opt/app/deep");
    stage.ok(["exec", &name, "rm", "-r", "/opt/many"]);

    let config = configuration(&home, &[&name], "{layers: true}");
    let outcome = stage.bbackup(["backup", "s", "--json", "--config", &config]).run().success();
    let text = outcome.text();
    assert!(text.contains("come back with a restore: /bin/nc") && !text.contains("is not saved"), "{text}");
    stage.wait_for_state(&name, "running");
    let listed = stage.bbackup(["ls", "latest"]).run().success().text();
    let layer = format!("/docker/{name}/containers/{name}/layer");
    assert!(listed.contains(&format!("{layer}/opt/app/deep/file")) && listed.contains(&format!("{layer}/etc/group")), "{listed}");
    for never in ["layer/bin/busybox", "layer/data/volume-file", "layer/etc/passwd"] {
        assert!(!listed.contains(never), "{never} is in the layer:\n{listed}");
    }
    stage.remove_everything();
    let _ = stage.bbackup(["restore", "latest", "--all", "--no-start"]).run().success();
    let read = |path: &str| {
        let out = home.path("copied");
        let _ = fs::remove_file(&out);
        stage.ok(["cp", &format!("{name}:{path}"), out.to_str().unwrap()]);
        out
    };
    assert_eq!(fs::read_to_string(read("/opt/app/deep/file")).unwrap(), "kept\n");
    let modified = fs::metadata(read("/opt/app/deep/file")).unwrap().modified().unwrap();
    assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 981_173_106);
    assert!(fs::read_to_string(read("/etc/group")).unwrap().ends_with("changed\n"));
    assert_eq!(fs::read_link(read("/opt/app/link")).unwrap(), std::path::Path::new("deep/file"));
    stage.ok(["start", &name]);
    assert_eq!(stage.ok(["exec", &name, "cat", "/opt/app/hard", "/data/volume-file"]), "kept\nin");
}

/// What `docker save` gives of an image, made for another processor.
fn for_another_processor(stage: &Stage<'_>, home: &Home, image: &str) -> std::path::PathBuf {
    let (before, after) = (home.path("saved.tar"), home.path("foreign.tar"));
    stage.ok(["save", "-o", before.to_str().unwrap(), image]);
    let (mut saved, mut foreign) =
        (tar::Archive::new(fs::File::open(&before).unwrap()), tar::Builder::new(fs::File::create(&after).unwrap()));
    let mut list = Vec::new();
    for entry in saved.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        if entry.header().entry_type().is_file() {
            list.push((path, content));
        }
    }
    let manifest: serde_json::Value =
        serde_json::from_slice(&list.iter().find(|(path, _)| path.ends_with("manifest.json")).unwrap().1).unwrap();
    let config = manifest[0]["Config"].as_str().unwrap();
    for (path, mut content) in list {
        if path.to_str() == Some(config) {
            let mut changed: serde_json::Value = serde_json::from_slice(&content).unwrap();
            changed["architecture"] = "s390x".into();
            content = serde_json::to_vec(&changed).unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        foreign.append_data(&mut header, path, content.as_slice()).unwrap();
    }
    foreign.into_inner().unwrap();
    after
}

#[test]
fn an_image_for_another_processor_is_known_and_told() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "foreign");
    let (image, own) = ("bbackup-test/foreign:1", stage.name("own"));
    build(&stage, image, "foreign");
    let archive = for_another_processor(&stage, &home, image);
    stage.ok(["rmi", "-f", image]);
    stage.ok(["load", "-i", archive.to_str().unwrap()]);
    assert_eq!(stage.ok(["inspect", "--type", "image", "--format", "{{.Architecture}}", image]), "s390x");
    let name = stage.name("app");
    stage.ok(["create", "--name", &name, image, "true"]);
    stage.ok(["create", "--name", &own, BUSYBOX, "true"]);
    let config = configuration(&home, &[&name, &own], "{images: local}");
    let _ = stage.bbackup(["backup", "s", "--config", &config]).run().success();
    let recorded = |name: &str| -> (serde_json::Value, String) {
        let tag = format!("app:{name}");
        let document = stage.bbackup(["dump", "latest", "--tag", &tag, &format!("/docker/{name}/application.json")]).run().success().text();
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        (document["application"]["containers"][0]["image"]["platform"].clone(), document["engine"]["platform"].as_str().unwrap().to_owned())
    };
    let (platform, engine) = recorded(&own);
    assert!(platform.as_str().unwrap().starts_with(&engine), "{platform}");
    assert_eq!(recorded(&name).0, "linux/s390x");
    stage.ok(["rm", &name, &own]);
    // As it is loaded from the snapshot, and as it is there.
    let said = format!("image {image} was made for linux/s390x, and this Engine is {engine}: it does not run unless");
    for removed in [true, false] {
        if removed {
            stage.ok(["rmi", "-f", image]);
        }
        let _ = stage.bbackup(["restore", "latest", "--container", &name, "--dry-run"]).run().exits(4).says(&said);
        let _ = stage.bbackup(["restore", "latest", "--container", &name]).run().exits(4).says(&said);
        stage.ok(["rm", &name]);
    }
    let _ = stage.bbackup(["restore", "latest", "--container", &own]).run().success().says_nothing_of("made for");
    stage.ok(["rmi", "-f", image]);
}
