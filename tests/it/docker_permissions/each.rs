//! Every call of the list is forbidden once, alone, and each time it is said which call it was and what it was needed for.

use std::sync::{Arc, Mutex};

use bbackup::docker::permissions::{Call, FEATURES};

use super::application;
use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};
use crate::support::registry::Registry;
use crate::support::run::Outcome;

/// What makes bbackup need a call.
enum Need {
    /// A look.
    Look,
    /// A backup of the application with these arguments.
    Backup(&'static [&'static str]),
    /// A backup of a volume that somebody removes just before the helper is made.
    Vanishing,
    /// A restore of everything that is gone.
    Restore,
    /// The same where another image has the name of the one that is loaded.
    Nameless,
    /// The same, and a container's second network fails, so that all is taken back.
    TakenBack,
    /// A restore in place.
    InPlace,
    /// Tested elsewhere: it needs a swarm.
    Swarm,
}

fn need(feature: &str, call: &Call) -> Need {
    match (feature, call.method, call.path) {
        ("scaling services of a swarm", ..) => Need::Swarm,
        ("saving images" | "what containers wrote outside their mounts" | "commands in containers", ..) => Need::Backup(&["some"]),
        ("pausing containers while they are read", ..) => Need::Backup(&["--consistency", "pause"]),
        ("looking at the Engine", _, "/volumes/*" | "/images/json" | "/images/*/json") => Need::Backup(&[]),
        ("looking at the Engine", ..) => Need::Look,
        ("reading volumes through a helper", "DELETE", "/volumes/*") => Need::Vanishing,
        ("restoring applications", "DELETE", _) => Need::TakenBack,
        ("restoring applications", _, "/containers/*/stop" | "/containers/*/update" | "/containers/*/rename") => Need::InPlace,
        ("restoring applications", "GET", "/images/*/json") => Need::Nameless,
        ("writing volumes through a helper" | "restoring applications", ..) => Need::Restore,
        _ => Need::Backup(&[]),
    }
}

/// What the proxy does.
#[derive(Default)]
struct Rule {
    denied: Option<Call>,
    /// Whether joining a second network fails.
    fails: bool,
    /// A volume that is removed when a helper is made.
    vanishes: Option<String>,
    /// Whether the denied call came.
    met: bool,
}

/// The application `p`, with something of everything to be restored, `place`, which can be restored in place, and `solo` to be saved.
struct World<'a> {
    stage: &'a Stage<'a>,
    home: &'a Home,
    rule: Arc<Mutex<Rule>>,
    proxy: Proxy,
    config: String,
    project: String,
    pulled: String,
    built: String,
}

impl<'a> World<'a> {
    fn new(stage: &'a Stage<'a>, home: &'a Home) -> Self {
        let rule = Arc::new(Mutex::new(Rule::default()));
        let (ruled, host) = (Arc::clone(&rule), stage.engine().host());
        let proxy = Proxy::start(&home.path("deny.sock"), &stage.engine().host(), move |line| {
            let mut rule = ruled.lock().unwrap();
            let (method, path) = line.trim_end_matches(" HTTP/1.1").split_once(' ').unwrap();
            if rule.denied.is_some_and(|call| call.is(method, path)) {
                rule.met = true;
                return Action::Deny;
            }
            if path.contains("/containers/create")
                && path.contains("bbackup-helper")
                && let Some(volume) = rule.vanishes.take()
            {
                let removed = std::process::Command::new("docker").args(["-H", &host, "volume", "rm", &volume]).output().unwrap();
                assert!(removed.status.success(), "{removed:?}");
            }
            // Other tests have made the empty image of helpers long ago.
            let is_helpers = method == "GET" && path.contains("/images/bbackup-helper");
            match rule.fails && method == "POST" && path.ends_with("/connect") {
                true => Action::Fail,
                false if is_helpers => Action::Missing,
                false => Action::Pass,
            }
        });
        let registry = Registry::start(stage.engine());
        registry.publish("app", &stage.name("published"));
        let (project, pulled, built) = (stage.name("p"), format!("{}:1", registry.name("app")), format!("{}:1", stage.name("built")));
        let config = home.path("bbackup.yaml");
        let (repository, password) = (home.repository().display().to_string(), home.password_file().display().to_string());
        let hooks = format!(", hooks: {{exec_pre: [{{containers: [\"{}\"], command: \"true\"}}]}}", stage.name("solo"));
        let some = format!("containers: [\"{}\"]", stage.name("solo"));
        let all = format!("projects: [\"{project}\"]");
        let sets = [("some", some, hooks.as_str()), ("all", all, "")]
            .map(|(name, chosen, hooks)| format!("  {name}: {{{chosen}, scope: {{images: local, layers: true}}{hooks}}}\n"));
        let text = format!("repositories:\n  default: {{location: {repository}, password_file: {password}}}\nsets:\n{}", sets.concat());
        std::fs::write(&config, text).unwrap();
        let world = Self { stage, home, rule, proxy, config: config.display().to_string(), project, pulled, built };
        world.make();
        world
    }

    fn make(&self) {
        let Self { stage, project, pulled, built, .. } = self;
        let label = format!("com.docker.compose.project={project}");
        let labelled = ["--label", &label, "--stop-timeout", "0"];
        application(stage, self.home, &labelled);
        let (first, second) = (stage.name("net"), stage.name("second"));
        stage.ok(["network", "create", "--label", &label, &second]);
        stage.ok(["network", "connect", &second, &stage.name("app")]);
        stage.ok(["exec", &stage.name("app"), "sh", "-c", "echo outside > /written"]);
        let run = |name: &str, more: &[&str], image: &str| {
            let name = stage.name(name);
            stage.ok([&["run", "-d", "--name", &name][..], &labelled, more, &[image, "sleep", "1000"]].concat());
        };
        run("frozen", &[], BUSYBOX);
        stage.ok(["pause", &stage.name("frozen")]);
        // It has left the network that it was made in.
        run("left", &["--network", &first], BUSYBOX);
        stage.ok(["network", "connect", &second, &stage.name("left")]);
        stage.ok(["network", "disconnect", &first, &stage.name("left")]);
        stage.ok(["pull", pulled]);
        run("pulled", &[], pulled);
        stage.ok(["commit", &stage.name("app"), built]);
        run("built", &[], built);
        // For backups: one that stands alone, with a volume that only a helper can read.
        let (device, folder) = (stage.name("solo-data"), self.home.make_folder("solo"));
        std::fs::write(folder.join("file"), "x").unwrap();
        let options = ["--opt", "type=none", "--opt", "o=bind", "--opt", &format!("device={}", folder.display())];
        stage.ok([&["volume", "create"][..], &options, &[&device]].concat());
        let mount = format!("{device}:/data");
        let image = format!("{}:1", stage.name("solo"));
        let place = format!("{}:/data", stage.name("place-data"));
        stage.ok([
            "run",
            "-d",
            "--name",
            &stage.name("place"),
            "--restart",
            "always",
            "--stop-timeout",
            "0",
            "-v",
            &place,
            BUSYBOX,
            "sleep",
            "1000",
        ]);
        stage.ok(["exec", &stage.name("place"), "touch", "/data/file"]);
        stage.ok(["commit", &stage.name("place"), &image]);
        stage.ok(["run", "-d", "--name", &stage.name("solo"), "--stop-timeout", "0", "-v", &mount, &image, "sleep", "1000"]);
        stage.ok(["exec", &stage.name("solo"), "touch", "/written"]);
    }

    /// bbackup without this call.
    fn without(&self, call: &Call, words: &[&str]) -> Outcome {
        self.rule.lock().unwrap().denied = Some(*call);
        let outcome = self.stage.bbackup(["--config", &self.config]).args(words).env("DOCKER_HOST", self.proxy.host()).run();
        let rule = std::mem::take(&mut *self.rule.lock().unwrap());
        assert!(rule.met, "nobody called {} {}: {}", call.method, call.path, outcome.describe());
        outcome
    }

    /// Takes everything away that a restore of the application makes.
    fn lose(&self) {
        let Self { stage, project, pulled, built, .. } = self;
        let _ = stage.bbackup(["recover"]).run();
        let filter = format!("label=com.docker.compose.project={project}");
        let all = |words: &[&str]| stage.ok(words).lines().map(str::to_owned).collect::<Vec<_>>();
        let mut containers = all(&["ps", "-aq", "--filter", &filter]);
        // Helpers that could not be removed.
        containers.extend(all(&["ps", "-aq", "--filter", &format!("volume={}", stage.name("device"))]));
        containers.sort_unstable();
        containers.dedup();
        if !containers.is_empty() {
            let _ = stage.docker(["rm", "-f"]).args(containers).run().success();
        }
        let _ = stage.docker(["volume", "rm", "-f", &stage.name("plain"), &stage.name("device")]).run().success();
        super::empty(&self.home.path(stage.name("device")));
        let networks = all(&["network", "ls", "-q", "--filter", &format!("name={}", stage.name(""))]);
        if !networks.is_empty() {
            let _ = stage.docker(["network", "rm"]).args(networks).run().success();
        }
        let _ = stage.docker(["rmi", "-f", pulled, built]).run();
    }

    fn try_without(&self, need: Need, call: &Call) -> Outcome {
        let restore = ["restore", "latest", "--tag", &format!("app:{}", self.project), "--json"];
        match need {
            Need::Swarm => unreachable!("tested in docker_swarm"),
            Need::Look => self.without(call, &["list-containers"]),
            Need::Backup(["some"]) => self.without(call, &["backup", "some"]),
            Need::Backup(more) => self.without(call, &[&["backup", "--containers", &self.stage.name("solo")], more].concat()),
            Need::Vanishing => {
                let (lone, folder) = (self.stage.name("lone"), self.home.make_folder("lone"));
                let device = format!("device={}", folder.display());
                self.stage.ok(["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, &lone]);
                self.rule.lock().unwrap().vanishes = Some(lone.clone());
                self.without(call, &["backup", "--volumes", &lone])
            }
            Need::Restore => {
                self.lose();
                self.without(call, &restore)
            }
            Need::Nameless => {
                self.lose();
                self.stage.ok(["tag", BUSYBOX, &self.built]);
                self.without(call, &restore)
            }
            Need::TakenBack => {
                self.lose();
                self.rule.lock().unwrap().fails = true;
                self.without(call, &restore)
            }
            Need::InPlace => {
                let tag = format!("app:{}", self.stage.name("place"));
                self.without(call, &["restore", "latest", "--tag", &tag, "--in-place"])
            }
        }
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        self.lose();
        self.stage.remove_everything();
        let _ = self.stage.docker(["rmi", "-f", &format!("{}:1", self.stage.name("solo"))]).run();
    }
}

/// Whether it is said that this call is not allowed and that it is needed for this.
fn is_named(outcome: &Outcome, feature: &str, call: &Call) -> bool {
    let all = outcome.text() + &outcome.errors();
    let said = |line: &str| {
        line.match_indices(" is not allowed, which is needed for ").any(|(at, words)| {
            let mut before = line[..at].rsplit([' ', '"', '(']);
            let (path, method) = (before.next().unwrap_or_default(), before.next().unwrap_or_default());
            call.is(method, path) && line[at + words.len()..].contains(feature)
        })
    };
    all.lines().any(said)
}

/// Tries each call for which `takes` holds; gives how many these were.
fn each(world: &World<'_>, takes: impl Fn(&Need) -> bool) -> usize {
    let mut silent = Vec::new();
    let mut tried = 0;
    for feature in FEATURES {
        for call in feature.calls.iter().filter(|call| takes(&need(feature.name, call))) {
            let outcome = world.try_without(need(feature.name, call), call);
            tried += 1;
            if !is_named(&outcome, feature.name, call) {
                silent.push(format!("{} {} for {}: {}", call.method, call.path, feature.name, outcome.describe()));
            }
            // What stayed down because of this comes back.
            if call.path.ends_with("/start") || call.path.ends_with("/unpause") {
                let _ = world.stage.bbackup(["recover"]).run().success();
            }
        }
    }
    assert!(silent.is_empty(), "{} of {tried}:\n{}", silent.len(), silent.join("\n"));
    tried
}

/// How many calls looking and saving need.
const SAVES: usize = 29;

/// Whether it is a need of looking or saving.
fn saves(need: &Need) -> bool {
    matches!(need, Need::Look | Need::Backup(_) | Need::Vanishing)
}

#[test]
fn every_call_that_is_forbidden_to_a_backup_is_named_with_its_feature() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "eachsaved");
    let world = World::new(&stage, &home);
    assert_eq!(each(&world, saves), SAVES);
}

#[test]
fn every_call_that_is_forbidden_to_a_restore_is_named_with_its_feature() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "eachrestored");
    let world = World::new(&stage, &home);
    let _ = stage.bbackup(["backup", "--containers", &stage.name("place")]).run().success();
    let _ = stage.bbackup(["backup", "all", "--config", &world.config]).run().success();
    // With those of a backup and of a swarm these are all that there are.
    let restores = each(&world, |need| !saves(need) && !matches!(need, Need::Swarm));
    let count = |feature: &bbackup::docker::permissions::Feature| feature.calls.len();
    assert_eq!(restores + SAVES + 5, FEATURES.iter().map(count).sum::<usize>());
}
