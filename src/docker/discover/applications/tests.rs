//! Tests of how things become applications: shared volumes, names that collide, labels of compose.

#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::model::application::{ContainerState, Health, Image, Mount, RestartPolicy, Status};

fn build(containers: Vec<Container>, volumes: Vec<Volume>, networks: Vec<Network>) -> Vec<Application> {
    super::build(containers, volumes, networks, Links::default())
}

fn container(name: &str, project: Option<&str>, volumes: &[(&str, bool)], networks: &[&str]) -> Container {
    let labels = project.map(|project| (PROJECT_LABEL.to_owned(), project.to_owned())).into_iter().collect();
    let mount = |(volume, read_only): &(&str, bool)| Mount {
        kind: MountKind::Volume,
        name: Some((*volume).to_owned()),
        source: String::new(),
        destination: format!("/{volume}"),
        read_only: *read_only,
    };
    Container {
        id: format!("{name}-id"),
        name: name.to_owned(),
        service: None,
        image: Image::default(),
        state: ContainerState {
            status: Status::Running,
            health: Health::None,
            exit_code: 0,
            started_at: String::new(),
            finished_at: String::new(),
        },
        labels,
        mounts: volumes.iter().map(mount).collect(),
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

fn volume(name: &str, project: Option<&str>) -> Volume {
    Volume {
        name: name.to_owned(),
        driver: "local".to_owned(),
        options: BTreeMap::new(),
        labels: project.map(|project| (PROJECT_LABEL.to_owned(), project.to_owned())).into_iter().collect(),
        mountpoint: String::new(),
        scope: String::new(),
        created_at: String::new(),
        users: Vec::new(),
        reached_by: Vec::new(),
    }
}

fn network(name: &str, project: Option<&str>) -> Network {
    Network {
        id: format!("{name}-id"),
        name: name.to_owned(),
        driver: "bridge".to_owned(),
        scope: String::new(),
        labels: project.map(|project| (PROJECT_LABEL.to_owned(), project.to_owned())).into_iter().collect(),
        subnets: Vec::new(),
        containers: Vec::new(),
    }
}

fn outline(applications: &[Application]) -> Vec<String> {
    let names = |list: Vec<&str>| list.join(",");
    applications
        .iter()
        .map(|one| {
            format!(
                "{} {:?} c={} v={} s={} n={}",
                one.name,
                one.kind,
                names(one.containers.iter().map(|container| container.name.as_str()).collect()),
                names(one.volumes.iter().map(|volume| volume.name.as_str()).collect()),
                one.shared_volumes.iter().map(|shared| format!("{}@{}", shared.name, shared.stored_with)).collect::<Vec<_>>().join(","),
                names(one.networks.iter().map(|network| network.name.as_str()).collect()),
            )
        })
        .collect()
}

#[test]
fn projects_containers_volumes_and_networks_become_applications() {
    let built = build(
        vec![
            container("shop-web-1", Some("shop"), &[("shop_files", false)], &["shop_default", "edge"]),
            container("shop-db-1", Some("shop"), &[("shop_db", false)], &["shop_default"]),
            container("proxy", None, &[], &["edge", "bridge"]),
        ],
        vec![volume("shop_db", Some("shop")), volume("shop_files", Some("shop")), volume("old", None), volume("down_data", Some("down"))],
        vec![network("shop_default", Some("shop")), network("edge", None), network("lonely", None)],
    );
    assert_eq!(
        outline(&built),
        [
            "down Project c= v=down_data s= n=",
            "lonely Network c= v= s= n=lonely",
            "old Volume c= v=old s= n=",
            "proxy Container c=proxy v= s= n=edge",
            "shop Project c=shop-db-1,shop-web-1 v=shop_db,shop_files s= n=edge,shop_default",
        ]
    );
    assert_eq!(built[3].networks[0].containers, ["proxy", "shop-web-1"]);
}

#[test]
fn a_shared_volume_is_stored_once_with_its_project_or_the_first_by_name() {
    let built = build(
        vec![
            container("alpha", None, &[("common", true), ("shop_db", false)], &[]),
            container("beta", None, &[("common", false)], &[]),
            container("shop-db-1", Some("shop"), &[("shop_db", false)], &[]),
        ],
        vec![volume("common", None), volume("shop_db", Some("shop"))],
        Vec::new(),
    );
    assert_eq!(
        outline(&built),
        [
            "alpha Container c=alpha v=common s=shop_db@shop n=",
            "beta Container c=beta v= s=common@alpha n=",
            "shop Project c=shop-db-1 v=shop_db s= n=",
        ]
    );
    let common = built[0].volume("common").unwrap();
    let users: Vec<_> = common.users.iter().map(|user| (user.container.as_str(), user.application.as_str(), user.read_only)).collect();
    assert_eq!(users, [("alpha", "alpha", true), ("beta", "beta", false)]);
    assert!(common.has_writers());
}

#[test]
fn a_project_label_on_a_volume_that_only_others_use_moves_nothing() {
    let built = build(
        vec![container("alpha", None, &[("v", false)], &[]), container("shop-web-1", Some("shop"), &[], &[])],
        vec![volume("v", Some("shop"))],
        Vec::new(),
    );
    assert_eq!(outline(&built), ["alpha Container c=alpha v=v s= n=", "shop Project c=shop-web-1 v= s= n="]);
}

#[test]
fn names_that_collide_stay_apart() {
    let built = build(
        vec![container("web", None, &[], &[]), container("web-1", Some("web"), &[], &[]), container("web.volume", None, &[], &[])],
        vec![volume("web", None)],
        vec![network("web", None)],
    );
    let names: Vec<_> = built.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["web", "web.container", "web.network", "web.volume", "web.volume.volume"]);
}

#[test]
fn a_project_name_that_is_no_folder_name_is_no_project() {
    for bad in ["", "..", "a/b"] {
        let built = build(vec![container("web", Some(bad), &[], &[])], Vec::new(), Vec::new());
        assert_eq!(outline(&built), ["web Container c=web v= s= n="], "{bad}");
    }
}

#[test]
fn tasks_of_a_swarm_are_of_their_service_whatever_they_are_called() {
    let task = |name: &str, service: &str, stack: Option<&str>, volumes: &[(&str, bool)]| {
        let mut task = container(name, None, volumes, &["mesh"]);
        task.swarm_task = true;
        let stack = stack.map(|stack| (STACK_LABEL.to_owned(), stack.to_owned()));
        task.labels.extend(stack);
        let labels = [("com.docker.swarm.service.id", format!("{service}-id")), ("com.docker.swarm.service.name", service.to_owned())];
        task.labels.extend(labels.map(|(key, value)| (key.to_owned(), value)));
        task
    };
    let mut kept = volume("shop_old", None);
    kept.labels.insert(STACK_LABEL.to_owned(), "shop".to_owned());
    let containers = vec![
        task("db.1.x7", "db", None, &[("data", false)]),
        task("db.2.k2", "db", None, &[("data", false)]),
        task("shop_web.1.a", "shop_web", Some("shop"), &[("shop_files", false)]),
        task("shop_db.1.b", "shop_db", Some("shop"), &[]),
        container("db", None, &[], &[]),
    ];
    let built = build(containers, vec![volume("data", None), volume("shop_files", None), kept], Vec::new());
    let expected = [
        "db Service c=db.1.x7,db.2.k2 v=data s= n=",
        "db.container Container c=db v= s= n=",
        "shop Stack c=shop_db.1.b,shop_web.1.a v=shop_files,shop_old s= n=",
    ];
    assert_eq!(outline(&built), expected);
    assert!(built.iter().all(|one| one.compose.is_none()));
}

#[test]
fn compose_files_come_from_the_labels() {
    let mut one = container("shop-web-1", Some("shop"), &[], &[]);
    one.labels.insert(WORKING_DIR_LABEL.to_owned(), "/srv/shop".to_owned());
    one.labels.insert(CONFIG_FILES_LABEL.to_owned(), "/srv/shop/compose.yaml,/srv/shop/override.yaml".to_owned());
    let mut two = container("shop-db-1", Some("shop"), &[], &[]);
    two.labels.insert(CONFIG_FILES_LABEL.to_owned(), "/srv/shop/compose.yaml".to_owned());
    let built = build(vec![one, two], Vec::new(), Vec::new());
    let compose = built[0].compose.as_ref().unwrap();
    assert_eq!(compose.working_dir.as_deref(), Some("/srv/shop"));
    assert_eq!(compose.config_files, ["/srv/shop/compose.yaml", "/srv/shop/override.yaml"]);
}

#[test]
fn a_bind_mount_is_stored_once_and_all_its_writers_are_known() {
    let bind = |path: &str, read_only| Mount {
        kind: MountKind::Bind,
        name: None,
        source: path.to_owned(),
        destination: "/x".to_owned(),
        read_only,
    };
    let mut web = container("shop-web-1", Some("shop"), &[], &[]);
    web.labels.insert(WORKING_DIR_LABEL.to_owned(), "/srv/shop".to_owned());
    web.mounts = vec![bind("/srv/shop/data", false), bind("/srv/common", true), bind("/usr", false)];
    let mut alpha = container("alpha", None, &[], &[]);
    alpha.mounts = vec![bind("/srv/shop/data/", true), bind("/srv/shop/data/in", false), bind("/srv/common", false)];
    let built = build(vec![web, alpha], Vec::new(), Vec::new());
    let paths = |application: &Application| application.binds.iter().map(|bind| bind.path.clone()).collect::<Vec<_>>();
    assert_eq!(
        (paths(&built[0]), paths(&built[1])),
        (vec!["/srv/common".to_owned(), "/srv/shop/data/in".to_owned()], vec!["/srv/shop/data".to_owned()])
    );
    let shared = &built[0].shared_binds[0];
    assert_eq!((shared.path.as_str(), shared.stored_with.as_str()), ("/srv/shop/data", "shop"));
    assert_eq!(built[1].shared_binds[0].stored_with, "alpha");
    // Who mounts a folder in it writes to it as well.
    let users: Vec<_> =
        built[1].binds[0].users.iter().map(|user| (user.container.as_str(), user.application.as_str(), user.read_only)).collect();
    assert_eq!(users, [("alpha", "alpha", false), ("shop-web-1", "shop", false)]);
}
