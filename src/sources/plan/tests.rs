//! Tests of what a selection means: globs, what they take away, labels, scopes, names that are not there.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use super::*;
use crate::config::{Hooks, Selection, SetHook};
use crate::model::application::{ContainerState, EngineIdentity, Health, Image, Mount, RestartPolicy, Status};
use crate::model::hook::Hook;

const PROJECT: &str = "com.docker.compose.project";

fn words(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn container(name: &str, labels: &[(&str, &str)], volumes: &[&str], networks: &[&str]) -> Container {
    let mount = |kind, name: Option<String>, source: &str, destination: &str| Mount {
        kind,
        name,
        source: source.to_owned(),
        destination: destination.to_owned(),
        read_only: false,
    };
    let mut mounts: Vec<Mount> = Vec::new();
    for volume in volumes {
        mounts.push(if volume.starts_with('/') {
            mount(MountKind::Bind, None, volume, volume)
        } else {
            mount(MountKind::Volume, Some((*volume).to_owned()), "", "/data")
        });
    }
    Container {
        id: format!("{name}-id"),
        name: name.to_owned(),
        service: None,
        image: Image { digests: vec!["x@sha256:1".to_owned()], ..Image::default() },
        state: ContainerState {
            status: Status::Running,
            health: Health::None,
            exit_code: 0,
            started_at: String::new(),
            finished_at: String::new(),
        },
        labels: words(labels),
        mounts,
        networks: networks.iter().map(|network| (*network).to_owned()).collect(),
        network_mode: "bridge".to_owned(),
        depends_on: Vec::new(),
        auto_remove: false,
        restart_policy: RestartPolicy::default(),
        swarm_task: false,
        tty: false,
        log_driver: "json-file".to_owned(),
        stop_signal: None,
        stop_timeout_secs: None,
    }
}

/// A project of two containers, a container of its own with labels, one that wants to be left alone, and things that nobody uses.
fn host() -> Discovery {
    let shop: &[(&str, &str)] = &[(PROJECT, "shop")];
    let containers = vec![
        container("shop-db", shop, &["shop_db"], &["shop_net"]),
        container("shop-web", shop, &["shop_files", "/srv/www", "/run/docker.sock"], &["shop_net", "edge"]),
        container("proxy", &[("tier", "edge"), ("bbackup.set", "nightly"), ("bbackup.exclude", "*.log")], &["certs", "scratch"], &["edge"]),
        container("private", &[("bbackup.enable", "false")], &["secret"], &[]),
    ];
    let containers = containers.into_iter().map(|mut one| {
        if one.name == "proxy" {
            one.labels.extend(words(&[("bbackup.volumes.scratch.exclude", "true"), ("bbackup.database", "redis")]));
            one.image = Image { reference: "built:1".to_owned(), present: true, ..Image::default() };
        }
        one
    });
    let volume = |name: &str, project: Option<&str>| Volume {
        name: name.to_owned(),
        driver: "local".to_owned(),
        options: BTreeMap::new(),
        labels: project.map(|project| (PROJECT.to_owned(), project.to_owned())).into_iter().collect(),
        mountpoint: String::new(),
        scope: String::new(),
        created_at: String::new(),
        users: Vec::new(),
        reached_by: Vec::new(),
    };
    let network = |name: &str, labels: &[(&str, &str)]| Network {
        id: format!("{name}-id"),
        name: name.to_owned(),
        driver: "bridge".to_owned(),
        scope: String::new(),
        labels: words(labels),
        subnets: Vec::new(),
        containers: Vec::new(),
    };
    let volumes = ["certs", "scratch", "secret", "idle"].map(|name| volume(name, None));
    let volumes = volumes.into_iter().chain(["shop_db", "shop_files"].map(|name| volume(name, Some("shop")))).collect();
    let networks = vec![network("shop_net", &[(PROJECT, "shop")]), network("edge", &[]), network("lonely", &[])];
    Discovery::of(EngineIdentity::default(), containers.collect(), volumes, networks)
}

fn selection(containers: &[&str], projects: &[&str], volumes: &[&str], labels: &[&str]) -> Selection {
    let list = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
    Selection {
        everything: false,
        containers: list(containers),
        projects: list(projects),
        volumes: list(volumes),
        labels: list(labels),
        paths: Vec::new(),
    }
}

fn everything() -> Selection {
    Selection { everything: true, ..Selection::default() }
}

fn on_command_line(selection: Selection) -> Result<BackupPlan, PlanError> {
    plan(&host(), &BackupSet { selection, ..BackupSet::default() })
}

/// The plan as words: `application: container web, logs web`, with a star where all of it was chosen.
fn outline(plan: &BackupPlan) -> Vec<String> {
    let items = |one: &PlannedApplication| {
        one.items.iter().map(|item| format!("{} {}", item.kind.as_str(), item.name)).collect::<Vec<_>>().join(", ")
    };
    plan.applications.iter().map(|one| format!("{}{}: {}", one.application.name, if one.whole { "*" } else { "" }, items(one))).collect()
}

fn of(selection: Selection) -> Vec<String> {
    outline(&on_command_line(selection).unwrap())
}

#[test]
fn everything_is_everything_but_what_labels_leave_out() {
    let plan = on_command_line(everything()).unwrap();
    assert_eq!(
        outline(&plan),
        [
            "idle*: volume idle",
            "lonely*: network lonely",
            "proxy*: network edge, container proxy, logs proxy, volume certs",
            "shop*: network edge, network shop_net, container shop-db, container shop-web, logs shop-db, logs shop-web, \
             volume shop_db, volume shop_files, bind mount /srv/www",
        ]
    );
    let certs = &plan.applications[2].items[3];
    assert_eq!((certs.path.as_str(), certs.exclude.as_slice()), ("/docker/proxy/volumes/certs", &["*.log".to_owned()][..]));
    assert_eq!(plan.warnings, ["container proxy: label bbackup.database is not in this version and is ignored"]);
    assert_eq!(
        plan.notes,
        [
            "container proxy: its image built:1 is from no registry, a restore needs it on the Engine",
            "container private is left out: its label bbackup.enable is false",
            "volume scratch is left out: the label bbackup.volumes.scratch.exclude of container proxy is true",
            "volume certs: the label bbackup.exclude of container proxy leaves out *.log",
        ]
    );
}

#[test]
fn a_container_brings_its_volumes_and_networks_and_nothing_else() {
    assert_eq!(of(selection(&["shop-d*"], &[], &[], &[])), ["shop: network shop_net, container shop-db, logs shop-db, volume shop_db"]);
    assert_eq!(of(selection(&[], &[], &["shop_*", "!*_files"], &[])), ["shop: volume shop_db"]);
    assert_eq!(of(selection(&[], &[], &[], &["tier=e*"])), ["proxy*: network edge, container proxy, logs proxy, volume certs"]);
    assert_eq!(of(selection(&[], &[], &[], &["tier"])).len(), 1);
}

#[test]
fn labels_speak_only_for_chosen_containers_and_what_these_mount() {
    let mounts = |name: &str, labels: &[(&str, &str)], what: &[&str]| container(name, labels, what, &[]);
    let containers = vec![
        mounts("app", &[("bbackup.exclude", "*.tmp")], &["/srv/data", "shared"]),
        mounts("beside", &[("bbackup.exclude", "*.beside")], &["/srv/data", "shared"]),
        mounts("within", &[("bbackup.exclude", "*.within")], &["/srv/data/inner"]),
        mounts("around", &[("bbackup.exclude", "*.around")], &["/srv"]),
        mounts("refuses", &[("bbackup.volumes.shared.exclude", "true")], &["shared"]),
    ];
    let shared = Volume { name: "shared".to_owned(), users: Vec::new(), ..host().volumes().next().unwrap().clone() };
    let discovery = Discovery::of(EngineIdentity::default(), containers, vec![shared], Vec::new());
    let planned = |selection: Selection| plan(&discovery, &BackupSet { selection, ..BackupSet::default() }).unwrap();
    let excluded = |plan: &BackupPlan| {
        let items =
            plan.applications.iter().flat_map(|one| &one.items).filter(|item| matches!(item.kind, ItemKind::Volume | ItemKind::Bind));
        items.map(|item| format!("{}: {}", item.name, item.exclude.join(" "))).collect::<Vec<_>>()
    };
    let one = planned(selection(&["app"], &[], &[], &[]));
    assert_eq!(excluded(&one), ["shared: *.tmp", "/srv/data: *.tmp"]);
    assert_eq!(
        one.notes,
        [
            "volume shared: the label bbackup.exclude of container app leaves out *.tmp",
            "bind mount /srv/data: the label bbackup.exclude of container app leaves out *.tmp",
        ]
    );
    // Who lies around or within has a say in neither, also where it is chosen.
    assert_eq!(
        excluded(&planned(selection(&["app", "within"], &[], &[], &[]))),
        ["shared: *.tmp", "/srv/data: *.tmp", "/srv/data/inner: *.within"]
    );
    assert_eq!(excluded(&planned(selection(&["app", "beside"], &[], &[], &[])))[0], "shared: *.beside *.tmp");
    assert_eq!(excluded(&planned(selection(&["app", "refuses"], &[], &[], &[]))), ["/srv/data: *.tmp"]);
}

#[test]
fn patterns_take_away_again() {
    let less = of(selection(&["!shop-web"], &["shop"], &[], &[]));
    assert_eq!(less, ["shop: network shop_net, container shop-db, logs shop-db, volume shop_db"]);
    // Alone they take away from everything.
    let names = |plan: Vec<String>| plan.into_iter().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(of(selection(&[], &["!shop"], &[], &[]))), ["idle*", "lonely*", "proxy*"]);
    assert_eq!(names(of(selection(&[], &[], &["!idle"], &["!tier=edge"]))), ["lonely*", "shop*"]);
}

#[test]
fn the_scope_says_which_items() {
    let scope = Scope { logs: false, networks: false, volumes: false, binds: false, ..Scope::default() };
    let set = BackupSet { selection: selection(&[], &["shop"], &[], &[]), scope, ..BackupSet::default() };
    let without = plan(&host(), &set).unwrap();
    assert_eq!(outline(&without), ["shop*: container shop-db, container shop-web"]);
    assert_eq!(without.notes, ["container shop-web: the bind mount /srv/www is not saved with it"]);
    let scope = Scope { configs: false, logs: false, binds: false, networks: false, compose: false, ..Scope::default() };
    let set = BackupSet { selection: everything(), scope, ..BackupSet::default() };
    assert_eq!(
        outline(&plan(&host(), &set).unwrap()),
        ["idle*: volume idle", "proxy*: volume certs", "shop*: volume shop_db, volume shop_files"]
    );
}

#[test]
fn a_label_joins_a_set() {
    let set = |name: &str, selection| BackupSet { name: Some(name.to_owned()), selection, ..BackupSet::default() };
    let joined = plan(&host(), &set("nightly", selection(&["shop-db"], &[], &[], &[]))).unwrap();
    assert_eq!(joined.applications.iter().map(|one| one.application.name.as_str()).collect::<Vec<_>>(), ["proxy", "shop"]);
    let other = plan(&host(), &set("weekly", selection(&["shop-db"], &[], &[], &[]))).unwrap();
    assert_eq!(other.applications.len(), 1);
}

#[test]
fn what_is_not_there_is_named_with_what_comes_closest() {
    let wrong = selection(&["proxi", "proxy"], &["shopp"], &["zzz"], &["nope"]);
    let Err(error @ PlanError::NoMatch { .. }) = on_command_line(wrong.clone()) else { unreachable!("names that are not there") };
    assert_eq!(
        error.to_string(),
        "no container is called `proxi`; the closest is `proxy`; no project is called `shopp`; the closest is `shop`; \
         no volume is called `zzz`; no container has the label `nope`"
    );
    // A set that is configured goes on with what is there.
    let set = BackupSet { name: Some("nightly".to_owned()), selection: wrong, ..BackupSet::default() };
    let plan = plan(&host(), &set).unwrap();
    assert_eq!((plan.applications.len(), plan.warnings.len()), (1, 5));
    assert!(matches!(on_command_line(selection(&["a[b"], &[], &[], &[])), Err(PlanError::Pattern { pattern, .. }) if pattern == "a[b"));
}

#[test]
fn a_hook_that_matches_no_container_of_its_set_is_told() {
    let hook = |containers: &[&str]| SetHook {
        containers: containers.iter().map(|name| (*name).to_owned()).collect(),
        hook: Hook::of_line("pg_dump", "sets.nightly.hooks.exec_pre".to_owned()),
    };
    let warnings = |selection: Selection, scope: Scope, containers: &[&str]| {
        let hooks = Hooks { exec_pre: vec![hook(containers)], exec_post: Vec::new() };
        let set = BackupSet { name: Some("nightly".to_owned()), selection, scope, hooks, ..BackupSet::default() };
        let mut warnings = plan(&host(), &set).unwrap().warnings;
        warnings.retain(|warning| warning.contains("hooks"));
        warnings
    };
    let shop = || selection(&[], &["shop"], &[], &[]);
    let told = |miss: &str| {
        vec![format!("sets.nightly.hooks.exec_pre: in what the set chooses no container is called {miss}: the command is not run for it")]
    };
    assert_eq!(warnings(shop(), Scope::default(), &["shop-bd"]), told("`shop-bd`; the closest is `shop-db`"));
    assert_eq!(warnings(shop(), Scope::default(), &["shop-*", "mysql*"]), told("`mysql*`"));
    // It is there, but not in this set.
    assert_eq!(warnings(shop(), Scope::default(), &["private"]), told("`private`"));
    for fine in [&["shop-db"][..], &["shop-*", "!shop-web"], &["*"], &["proxy"]] {
        assert_eq!(warnings(shop(), Scope::default(), fine), Vec::<String>::new(), "{fine:?}");
    }
    // Of a project also those that were not chosen by themselves; and a scope that leaves nothing of somebody is no mistake.
    assert_eq!(warnings(selection(&["shop-web"], &[], &[], &[]), Scope::default(), &["shop-db"]), Vec::<String>::new());
    let only_binds = Scope { configs: false, logs: false, volumes: false, networks: false, compose: false, ..Scope::default() };
    assert_eq!(warnings(shop(), only_binds, &["proxy"]), Vec::<String>::new());
}

#[test]
fn who_is_named_and_left_out_all_the_same_is_warned_of() {
    let plan = on_command_line(selection(&["private", "shop-db"], &[], &[], &[])).unwrap();
    assert_eq!(plan.warnings, ["container private is left out: its label bbackup.enable is false"]);
    assert_eq!(plan.applications.len(), 1);
}

#[test]
fn only_writers_of_what_is_saved_have_to_rest() {
    let plan = on_command_line(everything()).unwrap();
    assert_eq!(plan.applications[3].writers().into_iter().collect::<Vec<_>>(), ["shop-db", "shop-web"]);
    assert!(plan.applications[1].writers().is_empty());
}

#[test]
fn what_is_true_of_the_whole_engine_is_said_once() {
    use crate::config::{Images, Scope};
    let mut host = host();
    let said = |host: &Discovery, images: Images| {
        let set = BackupSet { selection: everything(), scope: Scope { images, ..Scope::default() }, ..BackupSet::default() };
        let plan = plan(host, &set).unwrap();
        let of = |list: &[String], word: &str| list.iter().filter(|line| line.contains(word)).count();
        [of(&plan.notes, "userns-remap"), of(&plan.notes, "containerd"), of(&plan.warnings, "containerd")]
    };
    assert_eq!(said(&host, Images::None), [0, 0, 0]);
    host.engine = EngineIdentity { user_namespace: Some("100000.100000".to_owned()), containerd_images: true, ..EngineIdentity::default() };
    assert_eq!(said(&host, Images::None), [1, 1, 0]);
    assert_eq!(said(&host, Images::Local), [1, 0, 1]);
}

#[test]
fn an_image_that_is_only_mounted_is_named() {
    let mut host = host();
    let mount = Mount { kind: MountKind::Image, name: None, source: String::new(), destination: "/models".to_owned(), read_only: true };
    let shop = host.applications.iter_mut().find(|one| one.name == "shop").unwrap();
    shop.containers.iter_mut().find(|one| one.name == "shop-web").unwrap().mounts.push(mount);
    let note = "container shop-web: the image that it mounts at /models is not saved, a restore needs it on the Engine".to_owned();
    let notes = |scope: Scope| plan(&host, &BackupSet { selection: everything(), scope, ..BackupSet::default() }).unwrap().notes;
    assert!(notes(Scope::default()).contains(&note));
    assert!(!notes(Scope { configs: false, ..Scope::default() }).contains(&note), "no container comes back from this one");
}
