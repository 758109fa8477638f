//! Snapshots of parts of an application: what `latest` makes of them, and what a restore of them does and does not do.

use std::fs;

use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::run::Outcome;

/// A project of two containers with a volume each, on a network.
struct Project<'a> {
    stage: Stage<'a>,
    name: String,
}

const CONTAINERS: [&str; 2] = ["db", "web"];

impl<'a> Project<'a> {
    fn new(home: &'a Home, name: &str) -> Self {
        let stage = Stage::new(home, name);
        let project = Self { name: stage.name("project"), stage };
        project.stage.ok(["network", "create", "--label", &project.label(), &project.stage.name("net")]);
        for container in CONTAINERS {
            project.container(container, &[]);
        }
        project
    }

    fn label(&self) -> String {
        format!("com.docker.compose.project={}", self.name)
    }

    fn container(&self, name: &str, options: &[&str]) {
        let (container, network) = (self.stage.name(name), self.stage.name("net"));
        let mount = format!("{}:/data", self.volume(name));
        let label = self.label();
        let run = ["run", "-d", "--name", &container, "--label", &label, "--network", &network, "-v", &mount];
        self.stage.ok([&run[..], options, &[BUSYBOX, "sh", "-c", "trap exit TERM; while :; do sleep 1; done"]].concat());
    }

    fn volume(&self, container: &str) -> String {
        format!("{}-data", self.stage.name(container))
    }

    /// What the containers have in their volumes from now on.
    fn write(&self, text: &str) {
        for container in CONTAINERS {
            fs::write(self.stage.mountpoint(&self.volume(container)).join("state"), text).unwrap();
        }
    }

    fn read(&self, container: &str) -> Option<String> {
        fs::read_to_string(self.stage.mountpoint(&self.volume(container)).join("state")).ok()
    }

    /// Backs up and gives the id of the snapshot.
    fn back_up(&self, options: &[&str]) -> String {
        let outcome = self.stage.bbackup(["backup", "--json"]).args(options).run().success();
        let summaries = outcome.messages("summary");
        assert_eq!(summaries.len(), 1, "{}", outcome.describe());
        summaries[0]["snapshot_id"].as_str().unwrap().to_owned()
    }

    fn restore(&self, words: &[&str]) -> Outcome {
        self.stage.bbackup(["restore"]).args(words).run()
    }

    fn state(&self, container: &str) -> String {
        self.stage.ok(["inspect", "--format", "{{.State.Status}}", &self.stage.name(container)])
    }

    fn is_there(&self, container: &str) -> bool {
        self.stage.exists("container", &self.stage.name(container))
    }
}

#[test]
fn a_backup_without_networks_is_the_latest_all_the_same() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let project = Project::new(&home, "no-networks");
    project.write("old");
    let whole = project.back_up(&["--projects", &project.name]);
    project.write("new");
    let _ = project.back_up(&["--projects", &project.name, "--no-networks"]);
    project.stage.remove_everything();
    let network = project.stage.name("net");
    let _ = project.restore(&["latest", "--all"]).exits(1).says(&network);
    assert!(!project.is_there("db"), "something was done although something was in the way");
    let _ = project.restore(&[&whole, "--network", &network]).success();
    let _ = project.restore(&["latest", "--all"]).success();
    assert_eq!((project.read("db").as_deref(), project.read("web").as_deref()), (Some("new"), Some("new")));
    project.stage.wait_for_state(&project.stage.name("web"), "running");
}

#[test]
fn what_nobody_asked_for_is_in_nobodys_way() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let project = Project::new(&home, "parts");
    project.write("kept");
    // The command that the backup itself says.
    let told = |outcome: Outcome| -> Vec<String> {
        let text = outcome.errors();
        let line = text.lines().find(|line| line.contains("bbackup restore ")).unwrap_or_default();
        line.rsplit("bbackup restore ").next().unwrap().split(' ').map(str::to_owned).collect()
    };
    let volumes = told(project.stage.bbackup(["backup", "--volumes-only", "--projects", &project.name]).run().success());
    let one = told(project.stage.bbackup(["backup", "--containers", &project.stage.name("db")]).run().success());
    let words = |words: &'static [&'static str], told: &[String]| -> Vec<String> {
        told.iter().cloned().chain(words.iter().map(|&word| word.to_owned())).collect()
    };
    let restore = |told: Vec<String>| project.stage.bbackup(["restore"]).args(told).run();

    project.stage.remove_everything();
    let _ = restore(words(&[], &volumes)).success().says(&project.stage.name("web")).says("not in this snapshot");
    assert_eq!(project.read("web").as_deref(), Some("kept"));
    assert!(!project.is_there("web"));

    project.stage.remove_everything();
    let _ = restore(words(&[], &one)).success();
    project.stage.wait_for_state(&project.stage.name("db"), "running");
    assert_eq!(project.read("db").as_deref(), Some("kept"));
    assert!(!project.is_there("web"));
    // By its name it is asked for, and not there.
    let name = project.stage.name("web");
    let _ = project.stage.bbackup(["restore", &one[0], "--container", &name]).run().exits(1).says(&name);

    // There is no snapshot of everything: the newest with containers and data is better than nothing, and that is said.
    project.stage.remove_everything();
    let _ = project.restore(&["latest", "--all"]).exits(4).says("no snapshot of everything");
    project.stage.wait_for_state(&project.stage.name("db"), "running");
}

/// A restore that has nothing to say, but for a subnet that the Engine has given to another test meanwhile.
#[track_caller]
fn as_it_was(outcome: Outcome) -> Outcome {
    let errors = outcome.errors();
    let odd: Vec<&str> = errors.lines().filter(|line| line.starts_with("warning: ") && !line.contains("gets other addresses")).collect();
    assert!(odd.is_empty() && matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    outcome
}

#[test]
fn what_is_left_out_for_good_does_not_make_a_part_of_the_rest() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let project = Project::new(&home, "left-out");
    project.container("scratch", &["--label", "bbackup.enable=false"]);
    let exclude = format!("bbackup.volumes.{}.exclude=true", project.volume("cached"));
    project.container("cached", &["--label", &exclude]);
    project.write("kept");
    let _ = project.back_up(&["--projects", &project.name]);
    project.stage.remove_everything();
    let _ = as_it_was(project.restore(&["latest", "--all"])).says(&project.stage.name("scratch"));
    assert_eq!(project.read("db").as_deref(), Some("kept"));
    assert!(!project.is_there("scratch"));
    // A cache begins anew: that is what leaving it out means.
    project.stage.wait_for_state(&project.stage.name("cached"), "running");
    assert_eq!(project.read("cached"), None);

    // A set that takes one away by name says the same.
    let path = home.path("bbackup.yaml");
    let set = format!("projects: [\"{}\"], containers: [\"!{}\"]", project.name, project.stage.name("web"));
    let repository = format!("{{location: {}, password_file: {}}}", home.repository().display(), home.password_file().display());
    fs::write(&path, format!("repositories:\n  default: {repository}\nsets:\n  shop: {{{set}}}\n")).unwrap();
    let config = path.to_str().unwrap();
    project.write("newer");
    let _ = project.back_up(&["--config", config, "shop"]);
    project.stage.remove_everything();
    let _ = as_it_was(project.restore(&["latest", "--all", "--config", config]));
    assert_eq!(project.read("db").as_deref(), Some("newer"));
    assert!(!project.is_there("web"));
}

#[test]
fn configurations_alone_start_nothing_and_touch_no_data() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let project = Project::new(&home, "configs");
    project.write("kept");
    let _ = project.back_up(&["--projects", &project.name]);
    let configs = project.back_up(&["--projects", &project.name, "--config-only"]);

    // In place of what is there: the data stays.
    let outcome = project.restore(&[&configs, "--in-place"]).says_nothing_of("stays empty");
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    project.stage.wait_for_state(&project.stage.name("db"), "running");
    assert_eq!(project.read("db").as_deref(), Some("kept"));

    project.stage.remove_everything();
    let _ = project.restore(&[&configs]).exits(4).says("is not started");
    assert_eq!((project.state("db"), project.read("db")), ("created".to_owned(), None), "a program was started without its data");

    // The newest of the application is still the one with its data.
    project.stage.remove_everything();
    let tag = format!("app:{}", project.name);
    let _ = project.restore(&["latest", "--tag", &tag]).exits(4).says(&configs[..8]);
    project.stage.wait_for_state(&project.stage.name("db"), "running");
    assert_eq!(project.read("db").as_deref(), Some("kept"));
}

#[test]
fn a_malformed_pattern_of_a_label_costs_nothing_and_is_told_before() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let project = Project::new(&home, "malformed");
    project.container("odd", &["--label", "bbackup.exclude=*.tmp,[a-"]);
    let folder = project.stage.mountpoint(&project.volume("odd"));
    for name in ["kept", "left.tmp"] {
        fs::write(folder.join(name), name).unwrap();
    }
    let name = project.stage.name("odd");
    let told = format!("container {name}: label bbackup.exclude: the exclude pattern `[a-` is malformed");
    for more in [&["--dry-run"][..], &[]] {
        let _ = project.stage.bbackup(["backup", "--containers", &name]).args(more).run().exits(4).says(&told);
    }
    let path = format!("/docker/{}/volumes/{}", project.name, project.volume("odd"));
    let saved = project.stage.bbackup(["ls", "latest", &path]).run().success();
    let _ = saved.says("kept").says_nothing_of("left.tmp");
}

#[test]
fn a_project_that_has_lost_its_containers_is_not_whole() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let project = Project::new(&home, "deserted");
    let desert = || project.stage.ok(["rm", "-f", &project.stage.name("db"), &project.stage.name("web")]);
    // Compose labels what it makes.
    project.stage.ok(["volume", "create", "--label", &project.label(), &project.stage.name("more")]);
    let whole = project.back_up(&["--projects", &project.name]);
    desert();
    let told = format!("no container of the compose project {} is there", project.name);
    let backup = |more: &[&str]| project.stage.bbackup(["backup", "--json", "--projects", &project.name]).args(more).run();
    for more in [&["--dry-run"][..], &[]] {
        let outcome = backup(more).exits(4).says(&told).says(&format!("in snapshot {} this one is", &whole[..8]));
        let items = outcome.json_lines().pop().unwrap()["data"]["runs"][0]["applications"][0]["items"].to_string();
        for container in CONTAINERS {
            assert!(items.contains(&format!("\"container {}\"", project.stage.name(container))), "{items}");
        }
    }
    // What `latest` brings back is still all of it.
    let taken = format!("is partial, so {} is taken", &whole[..8]);
    let _ = project.restore(&["latest", "--all", "--dry-run"]).exits(4).says(&taken).says(&project.stage.name("db"));
    let _ = project.restore(&["latest", "--container", &project.stage.name("db")]).exits(4).says("as it is there");
    project.stage.wait_for_state(&project.stage.name("db"), "running");

    // Who means it says so, once; a part of what is left is no more than that.
    project.stage.ok(["rm", "-f", &project.stage.name("db")]);
    let _ = backup(&["--full"]).exits(4).says(&told).says_nothing_of("is not saved:");
    let _ = backup(&[]).success().says(&told).says("as before");
    let more = project.stage.name("more");
    let part = project.back_up(&["--volumes", &more]);
    let listed = project.stage.bbackup(["snapshots", &part, "--json"]).run().success();
    assert!(listed.text().contains(&format!("/volumes/{more}")), "{}", listed.describe());
}

#[test]
fn a_project_gets_no_name_that_compose_does_not_take_or_another_has() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let project = Project::new(&home, "renamed");
    project.stage.ok(["volume", "create", "--label", &project.label(), &format!("{}_more", project.name)]);
    let _ = project.back_up(&["--projects", &project.name]);
    let taken = project.stage.name("taken");
    project.stage.ok(["network", "create", "--label", &format!("com.docker.compose.project={taken}"), &project.stage.name("other")]);
    // Other tests use the Engine, too.
    let volumes = || project.stage.ok(["volume", "ls", "-q", "--filter", &format!("name={}", project.stage.name(""))]);
    let before = volumes();
    assert!(before.contains(&project.volume("db")), "{before}");
    let volume = format!("volume {} exists already", project.volume("db"));
    for (name, why) in [("Shop", "lower-case letters"), ("sh.op", "lower-case letters"), (&taken, "is of a project of that name already")] {
        let rename = format!("{}:{name}", project.name);
        let said = format!("the compose project cannot be called `{name}`: ");
        // With everything else that is in the way.
        let _ = project.restore(&["latest", "--all", "--rename", &rename]).exits(1).says(&said).says(why).says(&volume);
    }
    let _ = project.restore(&["latest", "--all", "--rename", &format!("{}:", project.name)]).exits(1);
    let (one, other) = (project.volume("db"), project.volume("web"));
    let both = [format!("{one}:{}", project.stage.name("one")), format!("{other}:{}", project.stage.name("one"))];
    let said = format!("two of what is restored would be volume {}", project.stage.name("one"));
    let _ = project.restore(&["latest", "--all", "--rename", &both[0], "--rename", &both[1]]).exits(1).says(&said);
    assert_eq!(volumes(), before, "a restore that was refused has made something");
}

#[test]
fn volumes_of_a_project_that_was_never_there_as_a_whole_are_told() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let project = Project::new(&home, "left-over");
    project.stage.ok(["rm", "-f", &project.stage.name("db"), &project.stage.name("web")]);
    project.stage.ok(["volume", "create", "--label", &project.label(), &project.stage.name("more")]);
    let backup = || project.stage.bbackup(["backup", "--projects", &project.name]).run();
    let told = format!("no container of the compose project {} is there, only what they have left is saved", project.name);
    let _ = backup().exits(4).says(&format!("warning: {}: {told}", project.name));
    let _ = backup().success().says(&format!("note: {}: {told}, as before", project.name));
}
