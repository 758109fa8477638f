//! The tests of the plan: order, conflicts, names, images.

#![expect(clippy::unwrap_used, reason = "tests")]

mod names;
mod others;

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::docker::discover::grounds::Grounds;
use crate::model::application::{
    Application, ApplicationKind, Compose, Container, ContainerState, Dependency, DependencyCondition, DependencyReason, EngineIdentity,
    Health, Image, ItemKind, ItemRecord, Mount, MountKind, Network, RestartPolicy, SharedVolume, Status, Volume,
};
use crate::model::outcome::{EndMark, ItemOutcome, Proof, ReadMethod};
use crate::targets::preflight::{Disk, Host, HostContainer, HostImage, HostPort, HostVolume, Obstacle, PathState, Protocol};

const IMAGE: &str = "sha256:0123";

/// An application `shop`: `web` needs a healthy `db`, both on network `shop_front` where `web` has a fixed address.
fn shop() -> StoredApplication {
    let mut web = container("web", Status::Running);
    web.depends_on.push(Dependency {
        container: "db".to_owned(),
        condition: DependencyCondition::Healthy,
        reason: DependencyReason::DependsOn,
        restart: false,
    });
    let mut db = container("db", Status::Running);
    db.state.health = Health::Healthy;
    db.mounts.push(Mount {
        kind: MountKind::Volume,
        name: Some("shop_data".to_owned()),
        source: String::new(),
        destination: "/data".to_owned(),
        read_only: false,
    });
    let front = json!({"Name": "shop_front", "Id": "n1", "Driver": "bridge", "Scope": "local", "Labels": {"com.docker.compose.project": "shop"},
        "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.5.0.0/24", "Gateway": "10.5.0.1"}]}});
    let mut web_inspect = inspect("web", &"a".repeat(64));
    web_inspect["HostConfig"]["PortBindings"] = json!({"80/tcp": [{"HostIp": "", "HostPort": "8080"}]});
    web_inspect["NetworkSettings"]["Networks"]["shop_front"]["IPAMConfig"] = json!({"IPv4Address": "10.5.0.10"});
    let mut db_inspect = inspect("db", &"b".repeat(64));
    db_inspect["HostConfig"]["Binds"] = json!(["shop_data:/data"]);
    db_inspect["Mounts"] = json!([{"Type": "volume", "Name": "shop_data", "Destination": "/data", "RW": true}]);
    StoredApplication {
        document: ApplicationDocument {
            format_version: 1,
            program: String::new(),
            host: String::new(),
            run: String::new(),
            time: jiff::Timestamp::UNIX_EPOCH,
            engine: EngineIdentity { id: "ENGINE".to_owned(), ..EngineIdentity::default() },
            application: Application {
                name: "shop".to_owned(),
                kind: ApplicationKind::Project,
                compose: Some(Compose { project: "shop".to_owned(), ..Compose::default() }),
                containers: vec![db, web],
                volumes: vec![Volume {
                    name: "shop_data".to_owned(),
                    driver: "local".to_owned(),
                    options: BTreeMap::new(),
                    labels: BTreeMap::new(),
                    mountpoint: String::new(),
                    scope: String::new(),
                    created_at: String::new(),
                    users: Vec::new(),
                    reached_by: Vec::new(),
                }],
                shared_volumes: Vec::new(),
                binds: Vec::new(),
                shared_binds: Vec::new(),
                networks: vec![Network {
                    id: "n1".to_owned(),
                    name: "shop_front".to_owned(),
                    driver: "bridge".to_owned(),
                    scope: String::new(),
                    labels: BTreeMap::new(),
                    subnets: Vec::new(),
                    containers: Vec::new(),
                }],
            },
            items: vec![item("shop_data", 1000, 5)],
            gone: Vec::new(),
            quiesced: Vec::new(),
            hooks: Vec::new(),
            downtime_seconds: 0.0,
            stream_lost: Vec::new(),
            whole: true,
            left_out: crate::model::application::LeftOut::default(),
            warnings: Vec::new(),
        },
        containers: [("web".to_owned(), web_inspect), ("db".to_owned(), db_inspect)].into(),
        networks: [("shop_front".to_owned(), front)].into(),
    }
}

fn item(volume: &str, bytes: u64, entries: u64) -> ItemRecord {
    let proof = Proof { method: ReadMethod::Direct, end: EndMark::WalkFinished, mount: None, entries, bytes };
    ItemRecord {
        kind: ItemKind::Volume,
        name: volume.to_owned(),
        path: format!("/docker/shop/volumes/{volume}"),
        outcome: ItemOutcome::Complete { proof },
        helper_reason: None,
        mounted_at: None,
        mounted_inside: Vec::new(),
    }
}

fn container(name: &str, status: Status) -> Container {
    Container {
        id: if name == "web" { "a".repeat(64) } else { "b".repeat(64) },
        name: name.to_owned(),
        service: None,
        image: Image { reference: "busy:1".to_owned(), id: IMAGE.to_owned(), digests: Vec::new(), present: true, platform: String::new() },
        state: ContainerState { status, health: Health::None, exit_code: 0, started_at: String::new(), finished_at: String::new() },
        labels: BTreeMap::new(),
        mounts: Vec::new(),
        networks: vec!["shop_front".to_owned()],
        network_mode: "shop_front".to_owned(),
        depends_on: Vec::new(),
        auto_remove: false,
        restart_policy: RestartPolicy::default(),
        swarm_task: false,
        tty: false,
        log_driver: String::new(),
        stop_signal: None,
        stop_timeout_secs: None,
    }
}

fn inspect(name: &str, id: &str) -> Value {
    json!({"Id": id, "Name": format!("/{name}"), "Image": IMAGE, "Config": {"Image": "busy:1", "Labels": {"com.docker.compose.project": "shop"}},
        "HostConfig": {"NetworkMode": "shop_front", "Runtime": "runc"}, "State": {"Running": true},
        "NetworkSettings": {"Networks": {"shop_front": {"NetworkID": "n1", "Aliases": [name]}}}})
}

fn host() -> Host {
    Host {
        identity: EngineIdentity { id: "ENGINE".to_owned(), ..EngineIdentity::default() },
        api: (1, 41),
        images: vec![HostImage { id: IMAGE.to_owned(), tags: vec!["busy:1".to_owned()], digests: Vec::new() }],
        volume_drivers: ["local".to_owned()].into(),
        runtimes: ["runc".to_owned()].into(),
        networks: [("bridge".to_owned(), json!({"Name": "bridge", "IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}}))].into(),
        ..Host::default()
    }
}

fn planned(options: &RestoreOptions, host: &Host) -> RestorePlan {
    plan(&[shop()], options, host).unwrap()
}

fn lines(plan: &RestorePlan) -> Vec<String> {
    plan.steps.iter().map(|step| step.step.to_string()).collect()
}

fn conflicts(plan: &RestorePlan) -> Vec<String> {
    plan.conflicts.iter().map(ToString::to_string).collect()
}

#[test]
fn everything_comes_back_in_the_order_in_which_it_is_needed() {
    let plan = planned(&RestoreOptions::default(), &host());
    assert_eq!(conflicts(&plan), [""; 0]);
    assert_eq!(plan.notes, [""; 0]);
    assert_eq!(
        lines(&plan),
        [
            "create network shop_front",
            "create volume shop_data",
            "restore the files of volume shop_data (1000 B)".replace("1000 B", &ByteSize(1000).to_string()).as_str(),
            "create container db",
            "create container web",
            "start container db",
            "wait until container db is healthy",
            "start container web",
        ]
    );
    let quiet = planned(&RestoreOptions { no_start: true, ..RestoreOptions::default() }, &host());
    assert_eq!(lines(&quiet).len(), 5);
}

#[test]
fn nothing_secret_is_in_what_is_shown() {
    let mut stored = shop();
    stored.containers.get_mut("web").unwrap()["Config"]["Env"] = json!(["PASSWORD=hunter2"]);
    let plan = plan(&[stored], &RestoreOptions::default(), &host()).unwrap();
    let shown = serde_json::to_string(&plan).unwrap();
    assert!(!shown.contains("hunter2"));
    assert!(shown.contains(r#"{"application":"shop","step":"create_container","name":"web"}"#), "{shown}");
}

#[test]
fn every_conflict_is_told_at_once() {
    let mut host = host();
    host.containers = vec![
        HostContainer { name: "web".to_owned(), status: "exited".to_owned(), ..HostContainer::default() },
        HostContainer {
            name: "other".to_owned(),
            status: "running".to_owned(),
            ports: vec![HostPort { address: Some("127.0.0.1".parse().unwrap()), port: 8080, protocol: Protocol::Tcp }],
            ..HostContainer::default()
        },
    ];
    host.volumes.insert("shop_data".to_owned(), HostVolume { empty: Some(false), ..HostVolume::default() });
    host.networks.insert("lan".to_owned(), json!({"Name": "lan", "IPAM": {"Config": [{"Subnet": "10.5.0.0/16"}]}}));
    host.images.clear();
    host.runtimes = ["crun".to_owned()].into();
    host.disk = Some(Disk { device: 1, free: 999 });
    let mut found = conflicts(&planned(&RestoreOptions::default(), &host));
    found.sort();
    assert_eq!(
        found,
        [
            "container db needs image busy:1, which is not on this Engine and came from no registry",
            "container db needs runtime runc, which this Engine does not have",
            "container web exists already (exited)",
            "container web needs image busy:1, which is not on this Engine and came from no registry",
            "container web needs port 8080/tcp, which container other has",
            "container web needs runtime runc, which this Engine does not have",
            "network shop_front needs 10.5.0.0/24, which overlaps with network lan",
            "volume shop_data exists already: it holds files",
            &format!("what is restored needs {} on the Engine's disk, and only {} are free", ByteSize(1000), ByteSize(999)),
        ]
    );
}

#[test]
fn what_the_engine_lacks_or_is_otherwise_is_said() {
    let mut stored = shop();
    stored.networks.get_mut("shop_front").unwrap()["Driver"] = json!("weave:latest");
    let web = stored.containers.get_mut("web").unwrap();
    web["HostConfig"]["LogConfig"] = json!({"Type": "loki", "Config": {}});
    let mount = |image: &str| json!({"Type": "image", "Source": image, "Target": "/i"});
    web["HostConfig"]["Mounts"] = json!([mount("busy:1"), mount("tools"), mount("gone")]);
    stored.containers.get_mut("db").unwrap()["HostConfig"]["LogConfig"] = json!({"Type": "none", "Config": {}});
    stored.document.engine.user_namespace = Some("100000.100000".to_owned());
    stored.document.engine.platform = "linux/arm64".to_owned();
    let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<BTreeSet<_>>();
    let mut host = Host { network_drivers: words(&["bridge", "macvlan"]), log_drivers: words(&["json-file"]), api: (1, 48), ..host() };
    host.images.push(HostImage { id: "sha256:t".to_owned(), tags: vec!["tools:latest".to_owned()], ..HostImage::default() });
    host.identity.platform = "linux/amd64".to_owned();
    let planned = |host: &Host| plan(std::slice::from_ref(&stored), &RestoreOptions::default(), host).unwrap();
    let lacking = planned(&host);
    let mut found = conflicts(&lacking);
    found.sort();
    assert_eq!(
        found,
        [
            "container web needs image gone: it mounts it, and images that are only mounted are not saved",
            "container web needs log driver loki, which this Engine does not have",
            "network shop_front needs network driver weave:latest, which this Engine does not have",
        ]
    );
    let said = |plan: &RestorePlan, words: &str| plan.notes.iter().any(|note| note.contains(words));
    let ids = "the Engine that was saved has 100000.100000 for root of a container, this one does not map user ids";
    let platform = "shop was saved on linux/arm64, and this Engine is linux/amd64";
    assert!(said(&lacking, ids) && said(&lacking, platform), "{:?}", lacking.notes);

    host.network_drivers = words(&["weave"]);
    host.log_drivers.insert("loki".to_owned());
    host.images.push(HostImage { id: "sha256:g".to_owned(), tags: vec!["gone:latest".to_owned()], ..HostImage::default() });
    host.identity.user_namespace = Some("100000.100000".to_owned());
    host.identity.platform = "linux/arm64".to_owned();
    let fits = planned(&host);
    assert!(conflicts(&fits).is_empty(), "{:?}", fits.conflicts);
    assert!(!said(&fits, "userns") && !said(&fits, "was saved on"), "{:?}", fits.notes);
    // What each image is made for is better than what the Engine was.
    let mut known = stored.clone();
    for container in &mut known.document.application.containers {
        container.image.platform = "linux/arm64/v8".to_owned();
    }
    let planned_known = |host: &Host| plan(std::slice::from_ref(&known), &RestoreOptions::default(), host).unwrap();
    assert!(!said(&planned_known(&host), "made for"), "{:?}", planned_known(&host).notes);
    host.identity.platform = "linux/amd64".to_owned();
    let other = planned_known(&host);
    assert!(
        said(&other, "image busy:1 was made for linux/arm64/v8, and this Engine is linux/amd64: it does not run unless"),
        "{:?}",
        other.notes
    );
    assert_eq!(other.notes.iter().filter(|note| note.contains("was made for")).count(), 1);
    // One that does not say what it has is believed to have it.
    let silent = Host { network_drivers: BTreeSet::new(), log_drivers: BTreeSet::new(), ..host };
    assert!(conflicts(&planned(&silent)).is_empty());
}

/// `shop` with a bind mount of `/mnt/disk/app` in `web`, and a volume that stands for a folder of the same disk.
fn on_a_disk() -> StoredApplication {
    let mut shop = two_builds();
    let mount =
        Mount { kind: MountKind::Bind, name: None, source: "/mnt/disk/app".to_owned(), destination: "/app".to_owned(), read_only: false };
    shop.document.application.containers[1].mounts.push(mount);
    shop.document.application.volumes[0].options =
        [("type", "none"), ("o", "bind"), ("device", "/mnt/disk/data")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let lay_there = |item: ItemRecord| ItemRecord { mounted_at: Some("/mnt/disk".to_owned()), ..item };
    shop.document.items[0] = lay_there(shop.document.items[0].clone());
    let path = "/docker/shop/binds/mnt/disk/app".to_owned();
    shop.document.items.push(lay_there(ItemRecord { kind: ItemKind::Bind, name: "/mnt/disk/app".to_owned(), path, ..item("", 500, 2) }));
    shop
}

#[test]
fn room_is_needed_on_the_disk_that_is_written_to() {
    let conflicts = |free: [u64; 2]| {
        let [engine, other] = free.map(|free| Disk { device: free, free });
        let disks = ["/mnt/disk/app", "/mnt/disk/data"].map(|path| (path.to_owned(), other)).into();
        let binds = ["/mnt/disk/app", "/mnt/disk/data"].map(|path| (path.to_owned(), PathState::Missing)).into();
        let host = Host { images: Vec::new(), disk: Some(engine), disks, binds, ..host() };
        let wanted = wanted(&[on_a_disk()], &RestoreOptions::default());
        assert_eq!((wanted.folders.len(), wanted.mount_points.len(), wanted.binds.len()), (1, 1, 2));
        conflicts(&plan(&[on_a_disk()], &RestoreOptions::default(), &host).unwrap())
    };
    // Two images of ten bytes may share everything.
    assert_eq!(conflicts([10, 1500]), [""; 0]);
    let missing =
        |disk: &str, needed, free| format!("what is restored needs {} on {disk}, and only {} are free", ByteSize(needed), ByteSize(free));
    assert_eq!(conflicts([9, 1500]), [missing("the Engine's disk", 10, 9)]);
    assert_eq!(conflicts([10, 1499]), [missing("the disk of /mnt/disk/data", 1500, 1499)]);
    assert_eq!(conflicts([1509, 1509]), [missing("the Engine's disk", 1510, 1509)], "all is on one disk");
}

#[test]
fn nothing_is_written_below_a_mount_point_without_its_mount() {
    let planned = |engine: &str, state: Option<PathState>| {
        let mut host = host();
        host.images = two_builds()
            .document
            .application
            .containers
            .iter()
            .map(|one| HostImage { id: one.image.id.clone(), ..HostImage::default() })
            .collect();
        host.identity.id = engine.to_owned();
        host.binds = ["/mnt/disk/app", "/mnt/disk/data"].map(|path| (path.to_owned(), PathState::Missing)).into();
        host.unmounted = state.into_iter().map(|state| ("/mnt/disk".to_owned(), state)).collect();
        let plan = plan(&[on_a_disk()], &RestoreOptions::default(), &host).unwrap();
        (conflicts(&plan), plan.notes.iter().filter(|note| note.contains("is mounted")).count())
    };
    let said = ["volume shop_data", "/mnt/disk/app"]
        .map(|what| format!("nothing is mounted at /mnt/disk, below which {what} lay when it was saved"));
    for state in [PathState::Missing, PathState::Empty] {
        assert_eq!(planned("ENGINE", Some(state)), (said.to_vec(), 0));
        assert_eq!(planned("ANOTHER", Some(state)), (Vec::new(), 1), "another machine has other disks");
    }
    assert_eq!(planned("ENGINE", Some(PathState::Holds)), (Vec::new(), 1), "somebody has put something there");
    assert_eq!(planned("ENGINE", None), (Vec::new(), 0));
}

#[test]
fn a_network_that_is_there_and_equal_is_used() {
    let mut host = host();
    let mut there = shop().networks["shop_front"].clone();
    there["Id"] = json!("another");
    there["Containers"] = json!({"x": {"Name": "guest", "IPv4Address": "10.5.0.10/24"}});
    host.networks.insert("shop_front".to_owned(), there.clone());
    let plan = planned(&RestoreOptions::default(), &host);
    assert_eq!(lines(&plan)[0], "use network shop_front, which is there and equal");
    assert_eq!(conflicts(&plan), ["container web needs 10.5.0.10 on network shop_front, which container guest has"]);
    there["Internal"] = json!(true);
    there["IPAM"]["Config"][0]["Subnet"] = json!("10.6.0.0/24");
    host.networks.insert("shop_front".to_owned(), there);
    assert_eq!(
        conflicts(&planned(&RestoreOptions::default(), &host)),
        ["network shop_front exists already and differs in IPAM.Config, Internal"]
    );
}

#[test]
fn automatic_addresses_give_way_and_fixed_ones_do_not() {
    let mut stored = shop();
    stored.containers.get_mut("web").unwrap()["NetworkSettings"]["Networks"]["shop_front"]["IPAMConfig"] = Value::Null;
    stored.networks.get_mut("shop_front").unwrap()["IPAM"]["Config"][0] = json!({"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"});
    let subnet = |stored: &StoredApplication, host: &Host| {
        let plan = plan(std::slice::from_ref(stored), &RestoreOptions::default(), host).unwrap();
        assert_eq!(conflicts(&plan), [""; 0]);
        let Step::CreateNetwork { network } = &plan.steps[0].step else { unreachable!() };
        (network.body["IPAM"]["Config"][0]["Subnet"].clone(), plan.notes.len())
    };
    assert_eq!(subnet(&stored, &host()), (json!("172.18.0.0/16"), 0), "free on the same Engine");
    let mut elsewhere = host();
    elsewhere.identity.id = "OTHER".to_owned();
    assert_eq!(subnet(&stored, &elsewhere), (Value::Null, 0), "another machine may have another net there");
    let mut full = host();
    full.networks.insert("x".to_owned(), json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "172.18.0.0/16"}]}}));
    assert_eq!(subnet(&stored, &full), (Value::Null, 1));
    stored.containers.get_mut("web").unwrap()["NetworkSettings"]["Networks"]["shop_front"]["IPAMConfig"] =
        json!({"IPv4Address": "172.18.0.9"});
    let plan = plan(&[stored], &RestoreOptions::default(), &full).unwrap();
    assert_eq!(conflicts(&plan), ["network shop_front needs 172.18.0.0/16, which overlaps with network x"]);
}

#[test]
fn one_container_brings_what_it_needs_and_is_not_there() {
    let options = RestoreOptions { items: Items { containers: vec!["db".to_owned()], ..Items::default() }, ..RestoreOptions::default() };
    let plan = planned(&options, &host());
    let expected = ["create network shop_front", "create volume shop_data"];
    assert_eq!(lines(&plan)[..2], expected);
    assert!(!lines(&plan).contains(&"create container web".to_owned()));
    let mut there = host();
    there.volumes.insert("shop_data".to_owned(), HostVolume { empty: Some(false), ..HostVolume::default() });
    let plan = planned(&options, &there);
    assert_eq!(conflicts(&plan), [""; 0]);
    assert_eq!(lines(&plan)[0], "use volume shop_data as it is");
    assert!(!lines(&plan).iter().any(|line| line.contains("restore the files")), "what is there is not touched");
}

#[test]
fn one_volume_comes_alone() {
    let options =
        RestoreOptions { items: Items { volumes: vec!["shop_data".to_owned()], ..Items::default() }, ..RestoreOptions::default() };
    assert_eq!(lines(&planned(&options, &host())).len(), 2);
    let mut empty = host();
    let mut volume = HostVolume { empty: Some(true), driver: "local".to_owned(), ..HostVolume::default() };
    empty.volumes.insert("shop_data".to_owned(), volume.clone());
    let plan = planned(&options, &empty);
    assert_eq!((lines(&plan)[0].as_str(), plan.conflicts.len()), ("use volume shop_data as it is", 0));
    volume.options.insert("type".to_owned(), "nfs".to_owned());
    let other = Host { volumes: [("shop_data".to_owned(), volume)].into(), ..host() };
    let expected = "volume shop_data exists already: its driver or its options are others than they were; remove it first";
    assert_eq!(conflicts(&planned(&options, &other)), [expected]);
    empty.containers = vec![HostContainer {
        name: "u".to_owned(),
        status: "running".to_owned(),
        volumes: vec!["shop_data".to_owned()],
        ..HostContainer::default()
    }];
    assert_eq!(conflicts(&planned(&options, &empty)), ["volume shop_data exists already: container u uses it"]);
    let unknown = RestoreOptions { items: Items { volumes: vec!["nope".to_owned()], ..Items::default() }, ..RestoreOptions::default() };
    assert!(matches!(plan_error(&unknown), PlanError::NoSuchItem { kind: "volume", known, .. } if known == ["shop_data"]));
}

fn plan_error(options: &RestoreOptions) -> PlanError {
    plan(&[shop()], options, &host()).unwrap_err()
}

fn renaming(from: &str, to: &str) -> RestoreOptions {
    RestoreOptions { renames: vec![(from.to_owned(), to.to_owned())], ..RestoreOptions::default() }
}

#[test]
fn things_come_back_under_other_names() {
    let plan = planned(&renaming("shop_data", "copy"), &host());
    let db = plan.steps.iter().find_map(|step| match &step.step {
        Step::CreateContainer { container } if container.name == "db" => Some(container.body["HostConfig"]["Binds"].clone()),
        _ => None,
    });
    assert_eq!(db, Some(json!(["copy:/data"])));
    let fill = plan.steps.iter().find_map(|step| match &step.step {
        Step::FillVolume { name, path, .. } => Some((name.as_str(), path.as_str())),
        _ => None,
    });
    assert_eq!(fill, Some(("copy", "/docker/shop/volumes/shop_data")), "it is still called so in the snapshot");

    let project = planned(&renaming("shop", "store"), &host());
    let Step::CreateNetwork { network } = &project.steps[0].step else { unreachable!() };
    assert_eq!((network.name.as_str(), &network.body["Labels"]["com.docker.compose.project"]), ("store_front", &json!("store")));
    assert!(lines(&project).contains(&"create volume store_data".to_owned()));

    assert!(matches!(plan_error(&renaming("nothing", "x")), PlanError::NothingToRename { .. }));
    for bad in ["", "../x", "a b", "-a", "a/b", "\u{fc}"] {
        assert!(matches!(plan_error(&renaming("web", bad)), PlanError::BadName { .. }), "{bad}");
    }
}

#[test]
fn as_new_finds_free_names() {
    let mut host = host();
    for name in ["web", "web-restored"] {
        host.containers.push(HostContainer { name: name.to_owned(), ..HostContainer::default() });
    }
    host.volumes.insert("shop_data".to_owned(), HostVolume { empty: Some(false), ..HostVolume::default() });
    let plan = planned(&RestoreOptions { as_new: true, ..RestoreOptions::default() }, &host);
    assert_eq!(conflicts(&plan), [""; 0]);
    let lines = lines(&plan);
    for expected in
        ["create container web-restored-2", "create volume shop_data-restored", "create container db", "start container web-restored-2"]
    {
        assert!(lines.contains(&expected.to_owned()), "{expected}: {lines:?}");
    }
}

#[test]
fn a_copy_is_of_a_project_of_its_own() {
    let project = |options: &RestoreOptions, host: &Host| {
        let plan = planned(options, host);
        let labels = plan.steps.iter().filter_map(|planned| {
            let body = match &planned.step {
                Step::CreateNetwork { network } => &network.body,
                Step::CreateContainer { container } => &container.body,
                _ => return None,
            };
            body.pointer("/Labels/com.docker.compose.project").and_then(Value::as_str).map(str::to_owned)
        });
        labels.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let as_new = RestoreOptions { as_new: true, ..RestoreOptions::default() };
    assert_eq!(project(&as_new, &host()), ["shop"], "what is not there comes back as it was");
    let mut taken = host();
    taken.containers.push(HostContainer { name: "web".to_owned(), ..HostContainer::default() });
    assert_eq!(project(&as_new, &taken), ["shop-restored"]);
    let renamed = |from: &str, to: &str| RestoreOptions { renames: vec![(from.to_owned(), to.to_owned())], ..RestoreOptions::default() };
    assert_eq!(project(&renamed("web", "web2"), &taken), ["shop-restored"]);
    assert_eq!(project(&renamed("web", "web2"), &host()), ["shop"], "one that only gets another name is no copy");
}

#[test]
fn the_image_is_the_same_one_where_that_can_be_had() {
    let reference = |stored: StoredApplication, host: &Host| {
        let plan = plan(&[stored], &RestoreOptions::default(), host).unwrap();
        let image = plan.steps.iter().find_map(|step| match &step.step {
            Step::CreateContainer { container } => container.body["Image"].as_str().map(str::to_owned),
            _ => None,
        });
        (image.unwrap(), plan)
    };
    let mut moved = host();
    moved.images = vec![
        HostImage { id: IMAGE.to_owned(), ..HostImage::default() },
        HostImage { id: "sha256:new".to_owned(), tags: vec!["busy:1".to_owned()], digests: Vec::new() },
    ];
    assert_eq!(reference(shop(), &moved).0, IMAGE, "the tag has moved on");
    moved.images.remove(0);
    let (image, plan) = reference(shop(), &moved);
    assert_eq!((image.as_str(), plan.notes.len()), ("busy:1", 2), "said of both containers");
    let mut pulled = shop();
    for container in &mut pulled.document.application.containers {
        container.image.digests = vec!["busy@sha256:77".to_owned()];
    }
    let (image, plan) = reference(pulled, &Host { images: Vec::new(), ..host() });
    assert_eq!((image.as_str(), lines(&plan)[0].as_str()), ("busy:1", "pull image busy@sha256:77"));
    assert_eq!((plan.notes.len(), lines(&plan).iter().filter(|line| line.starts_with("pull")).count()), (1, 1));
}

/// `shop` with `db` made from an old build of the image and `web` from a newer one, both saved.
fn two_builds() -> StoredApplication {
    let mut shop = shop();
    for (container, (id, created)) in shop
        .document
        .application
        .containers
        .iter_mut()
        .zip([("sha256:old", "2026-01-01T00:00:00Z"), ("sha256:new", "2026-02-01T00:00:00Z")])
    {
        container.image.id = id.to_owned();
        let inspect = shop.containers.get_mut(&container.name).unwrap();
        inspect["Image"] = json!(id);
        inspect["Created"] = json!(created);
        let exact = format!("busy:1@{}", id.strip_prefix("sha256:").unwrap());
        let path = format!("/docker/shop/images/{exact}");
        shop.document.items.push(ItemRecord { kind: ItemKind::Image, name: exact, path, ..item("", 10, 3) });
    }
    shop
}

fn images_used(plan: &RestorePlan) -> Vec<(String, String)> {
    let used = plan.steps.iter().filter_map(|step| match &step.step {
        Step::CreateContainer { container } => Some((container.name.clone(), container.body["Image"].as_str().unwrap().to_owned())),
        _ => None,
    });
    used.collect()
}

#[test]
fn each_container_gets_its_own_build_of_one_name() {
    let used = |stored: StoredApplication, host: &Host| {
        let plan = plan(&[stored], &RestoreOptions::default(), host).unwrap();
        assert_eq!(conflicts(&plan), [""; 0]);
        let loads: Vec<_> = plan
            .steps
            .iter()
            .filter_map(|step| match &step.step {
                Step::LoadImage { id, nameless, .. } => Some(format!("load {id} {nameless}")),
                Step::PullImage { reference, tag, .. } => Some(format!("pull {reference} {tag:?}")),
                _ => None,
            })
            .collect();
        let images: Vec<String> = images_used(&plan).into_iter().map(|(name, image)| format!("{name} {image}")).collect();
        (loads, images)
    };
    let bare = Host { images: Vec::new(), ..host() };
    // The name goes to the build that it meant last.
    let (loads, images) = used(two_builds(), &bare);
    assert_eq!(loads, ["load sha256:old true", "load sha256:new false"]);
    assert_eq!(images, ["db sha256:old", "web busy:1"]);
    // The name is there and means yet another build: nobody takes it away, and nobody uses that one.
    let third = HostImage { id: "sha256:third".to_owned(), tags: vec!["busy:1".to_owned()], digests: Vec::new() };
    let (loads, images) = used(two_builds(), &Host { images: vec![third.clone()], ..host() });
    assert_eq!(loads, ["load sha256:old true", "load sha256:new true"]);
    assert_eq!(images, ["db sha256:old", "web sha256:new"]);
    // The same with a registry.
    let mut pulled = two_builds();
    for (container, digest) in pulled.document.application.containers.iter_mut().zip(["busy@sha256:01", "busy@sha256:02"]) {
        container.image.digests = vec![digest.to_owned()];
    }
    let (pulls, images) = used(pulled.clone(), &bare);
    assert_eq!(pulls, ["pull busy@sha256:01 None", "pull busy@sha256:02 Some(\"busy:1\")"]);
    assert_eq!(images, ["db busy@sha256:01", "web busy:1"]);
    // The registry that the name is of is asked first, the others if that one has it no more.
    let mut mirrored = shop();
    for container in &mut mirrored.document.application.containers {
        container.image.digests = vec!["mirror.example:5000/busy@sha256:07".to_owned(), "busy@sha256:07".to_owned()];
    }
    let plan = plan(&[mirrored], &RestoreOptions::default(), &bare).unwrap();
    let pull = Step::PullImage {
        reference: "busy@sha256:07".to_owned(),
        tag: Some("busy:1".to_owned()),
        others: vec!["mirror.example:5000/busy@sha256:07".to_owned()],
    };
    assert_eq!(plan.steps[0].step, pull);
    // An image that is there by its digest only is not taken for the one that has the name.
    let there = HostImage { id: "sha256:other".to_owned(), tags: Vec::new(), digests: vec!["busy@sha256:01".to_owned()] };
    let mut one = pulled;
    one.document.application.containers[1].image.digests = vec!["busy@sha256:01".to_owned()];
    let (pulls, images) = used(one, &Host { images: vec![third, there], ..host() });
    assert_eq!(pulls, [""; 0]);
    assert_eq!(images, ["db busy@sha256:01", "web busy@sha256:01"]);
}

#[test]
fn what_is_needed_and_nowhere_is_a_conflict() {
    let mut stored = shop();
    let web = stored.containers.get_mut("web").unwrap();
    web["HostConfig"]["NetworkMode"] = json!("container:gone");
    web["HostConfig"]["PortBindings"] = Value::Null;
    web["HostConfig"]["VolumesFrom"] = json!(["db:ro", "lost"]);
    web["HostConfig"]["Mounts"] = json!([{"Type": "bind", "Source": "/srv/a", "Target": "/a"}]);
    web["HostConfig"]["Binds"] = json!(["/srv/b:/b"]);
    stored.document.application.volumes.clear();
    stored.document.application.shared_volumes = vec![SharedVolume { name: "shop_data".to_owned(), stored_with: "base".to_owned() }];
    let host = Host { missing_paths: ["/srv/a".to_owned(), "/srv/b".to_owned()].into(), ..host() };
    assert_eq!(checks::host_paths(std::slice::from_ref(&stored)), BTreeSet::from(["/srv/a".to_owned(), "/srv/b".to_owned()]));
    let plan = plan(&[stored], &RestoreOptions::default(), &host).unwrap();
    let mut found = conflicts(&plan);
    found.sort();
    assert_eq!(
        found,
        [
            "container db needs volume shop_data: it is stored with application base: restore that as well",
            "container web needs container gone: it shares its network, and it is neither restored nor there",
            "container web needs container lost: it mounts its volumes, and it is neither restored nor there",
            "container web needs path /srv/a: there is no such path on this machine",
        ]
    );
    assert_eq!(plan.notes, ["container web mounts /srv/b, which is not there: the Engine makes an empty folder"]);
}

#[test]
fn a_mount_that_makes_its_folder_needs_none_where_the_engine_knows_how() {
    let mut stored = shop();
    stored.containers.get_mut("web").unwrap()["HostConfig"]["Mounts"] =
        json!([{"Type": "bind", "Source": "/srv/new", "Target": "/a", "BindOptions": {"CreateMountpoint": true}}]);
    let on = |api| {
        let host = Host { missing_paths: ["/srv/new".to_owned()].into(), api, ..host() };
        plan(std::slice::from_ref(&stored), &RestoreOptions::default(), &host).unwrap()
    };
    assert_eq!(conflicts(&on((1, 41))), ["container web needs path /srv/new: there is no such path on this machine"]);
    let knows = on((1, 42));
    assert_eq!(conflicts(&knows), [""; 0]);
    assert!(knows.notes.contains(&"container web mounts /srv/new, which is not there: the Engine makes an empty folder".to_owned()));
}

#[test]
fn what_was_not_saved_is_said() {
    let mut stored = shop();
    stored.document.items[0].outcome = ItemOutcome::Failed { reason: "cut off".to_owned() };
    stored.containers.remove("web");
    let plan = plan(&[stored], &RestoreOptions::default(), &host()).unwrap();
    assert_eq!(
        plan.notes,
        [
            "container db is not started: its volume shop_data was not saved, and it would begin anew",
            "volume shop_data stays empty, saving it failed: cut off",
        ]
    );
    assert!(!lines(&plan).iter().any(|line| line.starts_with("start container db")), "{:?}", lines(&plan));
    // Nobody asked for it when the snapshot was made: that is told, and is in nobody's way.
    assert!(plan.asked[0].contains("not in this snapshot") && plan.asked[0].contains("container web"), "{:?}", plan.asked);
    assert!(conflicts(&plan).is_empty());
}

#[test]
fn a_container_that_could_not_be_saved_is_in_the_way_and_so_is_one_that_is_named_and_not_there() {
    let mut stored = shop();
    stored.containers.remove("web");
    let named = RestoreOptions { items: Items { containers: vec!["web".to_owned()], ..Items::default() }, ..RestoreOptions::default() };
    let missing = plan(&[stored.clone()], &named, &host()).unwrap();
    assert_eq!(conflicts(&missing), ["container web is not in the snapshot: its configuration was not saved"]);
    stored.document.items.push(ItemRecord {
        kind: ItemKind::Configuration,
        name: "web".to_owned(),
        path: String::new(),
        outcome: ItemOutcome::Failed { reason: "it was removed".to_owned() },
        helper_reason: None,
        mounted_at: None,
        mounted_inside: Vec::new(),
    });
    let failed = plan(&[stored], &RestoreOptions::default(), &host()).unwrap();
    assert_eq!(conflicts(&failed), ["container web is not in the snapshot: it was removed"]);
}

#[test]
fn what_would_begin_anew_is_not_started_but_what_is_meant_to_is() {
    let mut stored = shop();
    stored.document.items.retain(|item| item.kind != ItemKind::Volume);
    let anew = plan(&[stored.clone()], &RestoreOptions::default(), &host()).unwrap();
    assert!(anew.notes[0].contains("container db is not started"), "{:?}", anew.notes);
    assert!(!lines(&anew).iter().any(|line| line.starts_with("start container db")), "{:?}", lines(&anew));
    stored.document.left_out.volumes.push("shop_data".to_owned());
    let meant = plan(&[stored], &RestoreOptions::default(), &host()).unwrap();
    assert!(lines(&meant).iter().any(|line| line.starts_with("start container db")), "{:?}", lines(&meant));
    assert!(meant.notes.is_empty() && meant.asked.iter().any(|note| note.contains("begins empty")), "{meant:?}");
}

#[test]
fn states_come_back_as_they_were() {
    let mut stored = shop();
    stored.document.application.containers[0].state.status = Status::Paused;
    stored.document.application.containers[1].state.status = Status::Exited;
    let plan = plan(&[stored], &RestoreOptions::default(), &host()).unwrap();
    assert_eq!(lines(&plan)[5..], ["start container db", "pause container db"]);
}

#[test]
fn documents_of_a_snapshot_may_be_anything() {
    let none = std::iter::empty::<(String, Vec<u8>)>;
    let document = shop().document.to_json().unwrap();
    let parsed = StoredApplication::parse(&document, [("web".to_owned(), b"{}".to_vec())], none()).unwrap();
    let plan = plan(&[parsed], &RestoreOptions::default(), &host());
    assert!(matches!(plan, Err(PlanError::Create(_))), "{plan:?}");
    for (document, container) in
        [(b"".as_slice(), b"{}".as_slice()), (b"[]", b"{}"), (&document, b""), (&document, b"[1]"), (&document, b"\xff")]
    {
        assert!(StoredApplication::parse(document, [("web".to_owned(), container.to_vec())], none()).is_err());
    }
}

#[test]
fn a_bind_without_a_source_is_no_path_of_the_host() {
    let mut stored = shop();
    stored.containers.get_mut("web").unwrap()["HostConfig"]["Binds"] = json!(["/cache", "/srv/www:/www:ro", "shop_data:/data"]);
    assert_eq!(wanted(&[stored], &RestoreOptions::default()).paths.into_iter().collect::<Vec<_>>(), ["/srv/www"]);
}

#[test]
fn an_engine_that_is_too_old_is_a_conflict_or_a_warning() {
    let mut stored = shop();
    let web = stored.containers.get_mut("web").unwrap();
    web["HostConfig"]["Annotations"] = json!({"a": "b"});
    web["HostConfig"]["Mounts"] = json!([{"Type": "volume", "Source": "shop_data", "Target": "/part", "VolumeOptions": {"Subpath": "x"}}]);
    stored.networks.get_mut("shop_front").unwrap()["EnableIPv4"] = json!(false);
    let plan = |api| plan(std::slice::from_ref(&stored), &RestoreOptions::default(), &Host { api, ..host() }).unwrap();
    assert_eq!(
        conflicts(&plan((1, 41))),
        [
            "network shop_front uses no IPv4 addresses, which needs an Engine with API 1.48; this one has 1.41",
            "container web uses a mount of a part of a volume, which needs an Engine with API 1.45; this one has 1.41",
        ]
    );
    assert_eq!(plan((1, 41)).notes, ["container web: annotations: lost, as it needs an Engine with API 1.43 or later"]);
    assert_eq!((conflicts(&plan((1, 51))).len(), plan((1, 51)).notes.len()), (0, 0));
}

fn bindings(plan: &RestorePlan, name: &str) -> Value {
    let found = plan.steps.iter().find_map(|step| match &step.step {
        Step::CreateContainer { container } if container.name == name => Some(container.body["HostConfig"]["PortBindings"].clone()),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn ports_come_back_under_other_numbers() {
    let mut stored = shop();
    stored.containers.get_mut("web").unwrap()["HostConfig"]["PortBindings"] = json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "53/udp": [{"HostPort": "8080"}], "99/tcp": [{"HostPort": "9000-9010"}]});
    let planned = |renames: &[(&str, &str)]| {
        let renames = renames.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        plan(std::slice::from_ref(&stored), &RestoreOptions { renames, ..RestoreOptions::default() }, &host())
    };
    assert_eq!(
        bindings(&planned(&[("8080", "18080")]).unwrap(), "web"),
        json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}], "53/udp": [{"HostPort": "18080"}], "99/tcp": [{"HostPort": "9000-9010"}]})
    );
    let udp = bindings(&planned(&[("8080/udp", "5353")]).unwrap(), "web");
    assert_eq!((&udp["80/tcp"][0]["HostPort"], &udp["53/udp"][0]["HostPort"]), (&json!("8080"), &json!("5353")));
    for (from, to) in [("8080", "0"), ("8080", "70000"), ("8080", "web2"), ("8080/tcp", "53/udp"), ("8080", "80/tcp")] {
        assert!(matches!(planned(&[(from, to)]), Err(PlanError::BadPort { .. })), "{from}:{to}");
    }
    assert!(matches!(planned(&[("81", "82")]), Err(PlanError::NothingToRename { .. })));
    let mut taken = host();
    let port = HostPort { address: None, port: 18080, protocol: Protocol::Tcp };
    taken.containers =
        vec![HostContainer { name: "other".to_owned(), status: "running".to_owned(), ports: vec![port], ..HostContainer::default() }];
    let renames = vec![("8080".to_owned(), "18080".to_owned())];
    for as_new in [false, true] {
        let plan =
            plan(std::slice::from_ref(&stored), &RestoreOptions { renames: renames.clone(), as_new, ..RestoreOptions::default() }, &taken)
                .unwrap();
        assert_eq!(
            conflicts(&plan),
            ["container web needs port 127.0.0.1:18080/tcp, which container other has"],
            "what was asked for is not changed again"
        );
    }
}

#[test]
fn as_new_nothing_is_in_the_way_of_a_copy() {
    // The original runs on this very Engine.
    let mut host = host();
    let original = |name: &str| HostContainer {
        id: name.to_owned(),
        name: name.to_owned(),
        status: "running".to_owned(),
        ports: vec![HostPort { address: None, port: 8080, protocol: Protocol::Tcp }],
        addresses: vec![("shop_front".to_owned(), "10.5.0.10".parse().unwrap())],
        volumes: vec!["shop_data".to_owned()],
        ..HostContainer::default()
    };
    host.containers = vec![original("web"), original("db")];
    host.volumes.insert("shop_data".to_owned(), HostVolume { empty: Some(false), ..HostVolume::default() });
    host.networks.insert("shop_front".to_owned(), shop().networks["shop_front"].clone());
    let plan = planned(&RestoreOptions { as_new: true, ..RestoreOptions::default() }, &host);
    assert_eq!(conflicts(&plan), [""; 0]);
    assert_eq!(plan.notes, [""; 0], "what was asked for is no warning");
    assert_eq!(
        plan.asked,
        [
            "network shop_front-restored and what is on it get other addresses: network shop_front has 10.5.0.0/24",
            "container web-restored gets a free port for 8080/tcp, which container web has",
        ]
    );
    assert_eq!(bindings(&plan, "web-restored").pointer("/80~1tcp/0/HostPort"), Some(&json!("")));
    for step in &plan.steps {
        match &step.step {
            Step::CreateNetwork { network } => assert_eq!(network.body["IPAM"], json!({"Driver": "default"})),
            Step::CreateContainer { container } => assert!(!container.body.to_string().contains("IPAMConfig"), "{}", container.body),
            _ => {}
        }
    }
}

#[test]
fn in_place_what_is_there_makes_room_and_comes_back_in_the_end() {
    let mut host = host();
    let there = |id: &str, name: &str, volumes: &[&str]| HostContainer {
        id: id.to_owned(),
        name: name.to_owned(),
        status: "running".to_owned(),
        ports: if name == "web" { vec![HostPort { address: None, port: 8080, protocol: Protocol::Tcp }] } else { Vec::new() },
        addresses: if name == "web" { vec![("shop_front".to_owned(), "10.5.0.10".parse().unwrap())] } else { Vec::new() },
        volumes: volumes.iter().map(|name| (*name).to_owned()).collect(),
        ..HostContainer::default()
    };
    host.containers =
        vec![there("1", "web", &[]), there("2", "db", &["shop_data"]), there("3", "guest", &["shop_data"]), there("4", "other", &[])];
    host.containers.push(HostContainer { name: "db-replaced".to_owned(), status: "exited".to_owned(), ..HostContainer::default() });
    host.listening = Some(vec![HostPort { address: None, port: 8080, protocol: Protocol::Tcp }]);
    let volume = HostVolume { empty: Some(false), driver: "local".to_owned(), ..HostVolume::default() };
    host.volumes.insert("shop_data".to_owned(), volume.clone());
    host.networks.insert("shop_front".to_owned(), shop().networks["shop_front"].clone());
    host.disk = Some(Disk { device: 1, free: 10 });
    let in_place = RestoreOptions { in_place: true, save_first: true, ..RestoreOptions::default() };
    let plan = planned(&in_place, &host);
    assert_eq!(conflicts(&plan), [""; 0]);
    assert_eq!(
        lines(&plan).into_iter().filter(|line| !line.starts_with("restore the files")).collect::<Vec<_>>(),
        [
            "stop container guest",
            "stop container web",
            "stop container db",
            "save what will be overwritten",
            "rename container db to db-replaced-2",
            "rename container web to web-replaced",
            "use network shop_front, which is there and equal",
            "create container db",
            "create container web",
            "start container db",
            "wait until container db is healthy",
            "start container web",
            "remove container db-replaced-2, which was replaced",
            "remove container web-replaced, which was replaced",
            "start container guest again",
        ]
    );
    let mut bare = host.clone();
    bare.images.clear();
    let loading = lines(&super::plan(&[two_builds()], &in_place, &bare).unwrap());
    assert!(loading[0].starts_with("load") && loading[1].starts_with("load"), "everything runs while images are loaded: {loading:?}");
    assert_eq!(loading[2], "stop container guest");
    let quick = planned(&RestoreOptions { save_first: false, ..in_place.clone() }, &host);
    assert!(!lines(&quick).iter().any(|line| line.starts_with("save")));

    // What the snapshot does not have is not overwritten, and nobody is stopped for it but who is replaced.
    let mut unsaved = shop();
    unsaved.document.items[0].outcome = ItemOutcome::Failed { reason: "cut off".to_owned() };
    let unsaved = super::plan(&[unsaved], &in_place, &host).unwrap();
    assert!(
        unsaved.notes.contains(&"volume shop_data keeps what is in it now, saving it failed: cut off".to_owned()),
        "{:?}",
        unsaved.notes
    );
    assert!(!lines(&unsaved).iter().any(|line| line.contains("guest") || line.contains("files of volume")), "{:?}", lines(&unsaved));

    let mut held = host.clone();
    held.containers[2].status = "exited".to_owned();
    assert!(!lines(&planned(&in_place, &held)).contains(&"start container guest again".to_owned()), "it did not run");
    let held_down = RestoreOptions { held_down: ["3".to_owned()].into(), ..in_place.clone() };
    assert!(lines(&planned(&held_down, &held)).contains(&"start container guest again".to_owned()), "a dead restore had stopped it");

    // By another name: the volume's own folder, or another volume that stands for it.
    let mount = |source: &str, read_only| Mount {
        kind: MountKind::Bind,
        name: None,
        source: source.to_owned(),
        destination: "/x".to_owned(),
        read_only,
    };
    let at = "/var/lib/docker/volumes/shop_data/_data";
    let mut data = shop().document.application.volumes[0].clone();
    (data.name, data.mountpoint) = ("shop_data".to_owned(), at.to_owned());
    let stops = |mounts: Vec<Mount>, left_running| {
        let mut host = host.clone();
        host.grounds = Grounds::of([&data]);
        (host.containers[3].mounts, host.containers[3].left_running) = (mounts, left_running);
        let planned = lines(&planned(&in_place, &host));
        (planned.contains(&"stop container other".to_owned()), planned.contains(&"start container other again".to_owned()))
    };
    for place in [at, "/var/lib/docker/volumes", "/var/lib/docker/volumes/shop_data/_data/inner"] {
        assert_eq!(stops(vec![mount(place, false)], false), (true, true), "{place}");
        assert_eq!(stops(vec![mount(place, true)], false), (false, false), "{place}, read-only");
        assert_eq!(stops(vec![mount(place, false)], true), (false, false), "{place}, left running");
    }
    assert_eq!(stops(vec![mount("/var/lib/docker/volumes/other", false)], false), (false, false));

    let conflict = |change: &dyn Fn(&mut Host)| {
        let mut host = host.clone();
        change(&mut host);
        conflicts(&planned(&in_place, &host))
    };
    assert_eq!(
        conflict(&|host| host.containers[0].fixed = Some("bbackup runs in it".to_owned())),
        ["container web exists already (bbackup runs in it)"]
    );
    assert_eq!(
        conflict(&|host| host.containers[2].fixed = Some("it was started with --rm".to_owned())),
        ["volume shop_data exists already: container guest uses it and cannot be stopped: it was started with --rm"]
    );
    assert_eq!(
        conflict(&|host| host.containers[3].network_of = Some("2".to_owned())),
        ["container db exists already (container other runs in its network, and would lose it)"]
    );
    assert_eq!(
        conflict(&|host| {
            host.grounds = Grounds::of([&data]);
            host.containers[3].mounts = vec![mount(at, false)];
            host.containers[3].fixed = Some("it was started with --rm".to_owned());
        }),
        ["volume shop_data exists already: container other can write to its files and cannot be stopped: it was started with --rm"]
    );
    assert_eq!(
        conflict(&|host| host.containers[3].network_of = Some("3".to_owned())),
        [
            "volume shop_data exists already: container guest uses it and cannot be stopped: container other runs in its network, and would lose it"
        ]
    );
    assert_eq!(conflict(&|host| drop(host.volumes.insert("shop_data".to_owned(), HostVolume { empty: None, ..volume.clone() }))).len(), 1);
    assert_eq!(
        conflict(&|host| drop(host.volumes.insert("shop_data".to_owned(), HostVolume { driver: "nfs".to_owned(), ..volume.clone() })))
            .len(),
        1
    );
    assert_eq!(conflict(&|host| host.containers[3].ports = vec![HostPort { address: None, port: 8080, protocol: Protocol::Tcp }]).len(), 1);
}
