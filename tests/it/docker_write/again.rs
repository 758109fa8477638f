//! A container is made, looked at, removed, made again from what was seen, and looked at again: nothing that counts may differ.

use std::collections::BTreeSet;

use bbackup::docker::create::{ContainerBody, ContainerRequest, Names, container_body};
use bbackup::docker::{Engine, make, normalise};
use serde_json::{Value, json};

use super::{block_on, connect, inspect};
use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;

/// Makes the containers, starts them, and makes all of them again in reverse order of removal.
async fn round_trip(engine: &Engine, containers: Vec<(String, Value)>, started: bool) {
    let mut before = Vec::new();
    let mut names = Names::new();
    for (name, body) in &containers {
        let body = ContainerBody { name: name.clone(), body: body.clone(), ..ContainerBody::default() };
        make::container(engine, &body).await.unwrap();
        if started {
            make::start(engine, name).await.unwrap();
        }
    }
    for (name, _) in &containers {
        let seen = inspect(engine, name).await;
        names.learn_inspect(&seen);
        before.push(seen);
    }
    make_again(engine, &before, &names).await;
}

/// Removes what was seen, makes it again, and compares.
async fn make_again(engine: &Engine, before: &[Value], names: &Names) {
    for seen in before.iter().rev() {
        make::remove_container(engine, seen["Id"].as_str().unwrap()).await.unwrap();
    }
    let mut new_names = Names::new();
    let mut after = Vec::new();
    for seen in before {
        let request = ContainerRequest {
            inspect: seen,
            names,
            image: seen["Config"]["Image"].as_str().unwrap(),
            empty_volumes: &BTreeSet::new(),
            api: engine.api_version(),
        };
        let body = container_body(&request).unwrap();
        assert_eq!(body.notes, [""; 0]);
        make::container(engine, &body).await.unwrap_or_else(|error| panic!("{}: {error}\n{:#}", body.name, body.body));
        if seen["State"]["Running"] == true {
            make::start(engine, &body.name).await.unwrap();
        }
        let now = inspect(engine, &body.name).await;
        new_names.learn_inspect(&now);
        after.push(now);
    }
    for (old, new) in before.iter().zip(&after) {
        assert_ne!(old["Id"], new["Id"]);
        let differences = normalise::differences(&normalise::container(old, names), &normalise::container(new, &new_names));
        assert!(differences.is_empty(), "{}: {differences:#?}\nwas {old:#}\nis {new:#}", old["Name"]);
    }
}

#[test]
fn every_setting_comes_back() {
    let home = Home::new();
    let stage = Stage::new(&home, "again");
    let (front, back, auto) = (stage.name("front"), stage.name("back"), stage.name("auto"));
    stage.ok(["network", "create", "--subnet", "10.201.1.0/24", &front]);
    stage.ok(["network", "create", "--ipv6", "--subnet", "10.201.2.0/24", "--subnet", "fd01:201::/64", &back]);
    stage.ok(["network", "create", &auto]);
    let volume = stage.name("named");
    stage.ok(["volume", "create", &volume]);
    let folder = home.make_folder("bound");
    let folder = folder.to_str().unwrap();
    let web = stage.name("web");
    let mut host = json!({
            "NetworkMode": front,
            "Binds": [format!("{volume}:/data"), format!("{folder}:/bound:ro"), format!("{volume}:/again:ro,nocopy")],
            "Mounts": [
                {"Type": "volume", "Target": "/made", "VolumeOptions": {"NoCopy": true, "Labels": {"l": "v"}}},
                {"Type": "volume", "Source": volume, "Target": "/read", "ReadOnly": true},
                {"Type": "bind", "Source": folder, "Target": "/mounted", "BindOptions": {"Propagation": "rprivate"}},
                {"Type": "tmpfs", "Target": "/ram", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 0o1770}},
            ],
            "Tmpfs": {"/run": "rw,noexec,size=65536k"},
            "PortBindings": {
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}, {"HostIp": "", "HostPort": "18081"}],
                "53/udp": [{"HostIp": "", "HostPort": ""}],
                "5000/tcp": [{"HostIp": "", "HostPort": "18100-18110"}],
            },
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
    });
    let limits = json!({
    "CapAdd": ["NET_ADMIN", "CAP_SYS_TIME"], "CapDrop": ["MKNOD"],
    "Dns": ["10.0.0.53"], "DnsOptions": ["ndots:2"], "DnsSearch": ["example.test"], "ExtraHosts": ["other:10.0.0.9"],
    "GroupAdd": ["7"], "IpcMode": "shareable", "OomScoreAdj": 100, "ReadonlyRootfs": true, "Init": true,
    "SecurityOpt": ["no-new-privileges"], "ShmSize": 1_048_576, "Sysctls": {"net.ipv4.ip_forward": "1"},
    "Memory": 67_108_864, "MemoryReservation": 33_554_432, "MemorySwap": 134_217_728, "NanoCpus": 500_000_000, "CpuShares": 512,
    "CpusetCpus": "0", "PidsLimit": 50, "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
    "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "rw"}],
    "DeviceCgroupRules": ["c 1:3 rwm"],
    "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
    "MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": ["/proc/sys"],
    });
    host.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    let mut body = json!({
        "Image": BUSYBOX,
        "Hostname": "shop", "Domainname": "example.test", "User": "65534:5", "WorkingDir": "/tmp", "Tty": true, "OpenStdin": true,
        "Env": ["A=1", "B=x y", "EMPTY=", "UML=\u{fc}"],
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["exec sleep 1000", "x"],
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "5000/tcp": {}},
        "Labels": {"com.example/a": "b", "empty": ""},
        "StopSignal": "SIGINT", "StopTimeout": 7,
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 3_600_000_000_000_i64, "Timeout": 2_000_000_000, "StartPeriod": 1_000_000_000, "Retries": 4},
        "Volumes": {"/anonymous": {}},
        "NetworkingConfig": {"EndpointsConfig": {
            front.clone(): {"IPAMConfig": {"IPv4Address": "10.201.1.10"}, "Aliases": ["www", "shop"]},
        }},
    });
    body["HostConfig"] = host;
    block_on(async {
        let engine = connect(&stage).await;
        let made = ContainerBody { name: web.clone(), body, ..ContainerBody::default() };
        make::container(&engine, &made).await.unwrap();
        stage.ok(["network", "connect", "--ip", "10.201.2.20", "--ip6", "fd01:201::20", "--alias", "api", &back, &web]);
        stage.ok(["network", "connect", &auto, &web]);
        for started in [false, true] {
            if started {
                make::start(&engine, &web).await.unwrap();
            }
            let before = inspect(&engine, &web).await;
            let mut names = Names::new();
            names.learn_inspect(&before);
            make_again(&engine, &[before], &names).await;
        }
        let volumes = make::get(&engine, "/volumes").await.unwrap();
        let anonymous = volumes["Volumes"].as_array().unwrap().iter().filter(|volume| volume["Name"].as_str().unwrap().len() == 64).count();
        let mounted = inspect(&engine, &web).await["Mounts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|mount| mount["Name"].as_str().is_some_and(|name| name.len() == 64))
            .count();
        assert_eq!(mounted, 2);
        assert!(anonymous >= mounted);
    });
}

#[test]
fn a_mac_address_and_links_come_back() {
    let home = Home::new();
    let stage = Stage::new(&home, "mac");
    let network = stage.name("net");
    stage.ok(["network", "create", "--subnet", "10.202.1.0/24", &network]);
    let (db, web) = (stage.name("db"), stage.name("web"));
    let endpoint = |mut endpoint: Value, engine: &Engine| {
        if engine.api_version() >= (1, 44) {
            endpoint["MacAddress"] = json!("02:42:0a:ca:01:63");
        }
        json!({"EndpointsConfig": {network.clone(): endpoint}})
    };
    block_on(async {
        let engine = connect(&stage).await;
        let sleeps = json!({"Image": BUSYBOX, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": network}});
        let mut linked = sleeps.clone();
        linked["NetworkingConfig"] = endpoint(json!({"Links": [format!("{db}:database")]}), &engine);
        if engine.api_version() < (1, 44) {
            linked["MacAddress"] = json!("02:42:0a:ca:01:63");
        }
        round_trip(&engine, vec![(db.clone(), sleeps), (web.clone(), linked)], true).await;
        let seen = inspect(&engine, &web).await;
        assert_eq!(seen["NetworkSettings"]["Networks"][&network]["MacAddress"], "02:42:0a:ca:01:63");
    });
}

#[test]
fn containers_that_refer_to_others_find_the_new_ones() {
    let home = Home::new();
    let stage = Stage::new(&home, "refer");
    let (base, guest, linked, host, none) =
        (stage.name("base"), stage.name("guest"), stage.name("linked"), stage.name("host"), stage.name("none"));
    let sleeps = |host: Value| json!({"Image": BUSYBOX, "Cmd": ["sleep", "1000"], "HostConfig": host});
    block_on(async {
        let engine = connect(&stage).await;
        let mut first = sleeps(json!({"IpcMode": "shareable"}));
        first["Volumes"] = json!({"/shared": {}});
        first["ExposedPorts"] = json!({"80/tcp": {}});
        let containers = vec![
            (base.clone(), first),
            (
                guest,
                sleeps(
                    json!({"NetworkMode": format!("container:{base}"), "IpcMode": format!("container:{base}"), "PidMode": format!("container:{base}")}),
                ),
            ),
            (linked.clone(), sleeps(json!({"Links": [format!("{base}:thebase")], "VolumesFrom": [format!("{base}:ro")]}))),
            (host, sleeps(json!({"NetworkMode": "host", "PidMode": "host", "UTSMode": "host"}))),
            (none, sleeps(json!({"NetworkMode": "none", "CapDrop": ["ALL"]}))),
        ];
        round_trip(&engine, containers, true).await;
        let (one, two) = (inspect(&engine, &base).await, inspect(&engine, &linked).await);
        assert_eq!(one["Mounts"][0]["Name"], two["Mounts"][0]["Name"], "still one volume");
        assert_eq!(stage.ok(["exec", &linked, "cat", "/etc/hosts"]).matches("thebase").count(), 1);
    });
}

#[test]
fn what_the_image_says_and_was_taken_away_stays_away() {
    let home = Home::new();
    let stage = Stage::new(&home, "image");
    let image = stage.name("image:1");
    let maker = stage.name("maker");
    stage.ok(["create", "--name", &maker, BUSYBOX, "true"]);
    stage.ok([
        "commit",
        "--change",
        r#"ENTRYPOINT ["/bin/false"]"#,
        "--change",
        r#"CMD ["never"]"#,
        "--change",
        "VOLUME /filled",
        "--change",
        "EXPOSE 99",
        "--change",
        "ENV FROM_IMAGE=1",
        "--change",
        "LABEL image=yes",
        &maker,
        &image,
    ]);
    stage.ok(["rm", &maker]);
    block_on(async {
        let engine = connect(&stage).await;
        let containers = vec![
            (stage.name("a"), json!({"Image": image, "HostConfig": {}, "Entrypoint": [""], "Cmd": ["sleep", "1000"]})),
            (stage.name("b"), json!({"Image": image, "HostConfig": {}, "Entrypoint": ["sleep"], "Cmd": ["1000"]})),
            (stage.name("c"), json!({"Image": image, "HostConfig": {}, "Entrypoint": ["/bin/sh"], "OpenStdin": true})),
            (stage.name("d"), json!({"Image": image, "HostConfig": {}})),
            (stage.name("e"), json!({"Image": image, "HostConfig": {"NetworkMode": format!("container:{}", stage.name("a"))}})),
        ];
        round_trip(&engine, containers, false).await;
    });
    stage.remove_everything();
    stage.ok(["rmi", &image]);
}
