//! The tests of the bodies, on captured inspect answers of API 1.41.

#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::model::application::AddressPool;

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/docker/api-1.41/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn body_of(inspect: &Value, names: &Names, api: (u64, u64)) -> ContainerBody {
    container_body(&ContainerRequest { inspect, names, image: "busy:1", empty_volumes: &BTreeSet::new(), api }).unwrap()
}

#[test]
fn what_was_set_is_sent_and_what_was_made_up_is_not() {
    let inspect = fixture("rich");
    let made = body_of(&inspect, &Names::new(), (1, 41));
    assert_eq!(made.name, "rich");
    let body = &made.body;
    assert_eq!(body.get("Hostname"), None, "the short id");
    for field in
        ["Env", "Cmd", "Entrypoint", "User", "WorkingDir", "Healthcheck", "StopSignal", "StopTimeout", "Labels", "ExposedPorts", "Volumes"]
    {
        assert_eq!(body[field], inspect["Config"][field], "{field}");
    }
    let replaced = ["Binds", "Mounts", "VolumesFrom", "Links", "ContainerIDFile"];
    for (field, value) in inspect["HostConfig"].as_object().unwrap() {
        if !replaced.contains(&field.as_str()) && !value.is_null() {
            assert_eq!(&body["HostConfig"][field], value, "{field}");
        }
    }
}

#[test]
fn anonymous_volumes_are_attached_instead_of_made_anew() {
    let inspect = fixture("rich");
    let anonymous = |destination: &str| {
        let mounts = inspect["Mounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["Destination"] == destination).unwrap()["Name"].as_str().unwrap().to_owned()
    };
    let mut renames = Renames::default();
    renames.volumes.insert("named1".into(), "other".into());
    let names = Names::new().with_renames(renames);
    let empty = BTreeSet::from([anonymous("/anon")]);
    let request = ContainerRequest { inspect: &inspect, names: &names, image: "busy:1", empty_volumes: &empty, api: (1, 41) };
    let host = container_body(&request).unwrap().body["HostConfig"].take();
    assert_eq!(
        host["Binds"],
        json!(["other:/data", "/etc/hostname:/hn:ro", format!("{}:/anon:nocopy", anonymous("/anon"))]),
        "the empty one is not filled from the image"
    );
    assert_eq!(host["Mounts"][0]["Source"], json!(anonymous("/mv")));
    assert_eq!(host["Mounts"][0]["VolumeOptions"]["NoCopy"], json!(true));
    assert_eq!(host["Mounts"][1], inspect["HostConfig"]["Mounts"][1], "a bind mount stays");
    assert_eq!(host["Mounts"][2], inspect["HostConfig"]["Mounts"][2], "memory stays");
}

#[test]
fn one_network_at_create_and_the_others_afterwards() {
    let made = body_of(&fixture("rich"), &Names::new(), (1, 41));
    assert_eq!(made.body["HostConfig"]["NetworkMode"], "autonet");
    assert_eq!(made.body["NetworkingConfig"], json!({"EndpointsConfig": {"autonet": {"Aliases": ["web"], "Links": ["db:thedb"]}}}));
    let connect: Vec<_> = made.connect.iter().map(|connection| (connection.network.as_str(), connection.endpoint.clone())).collect();
    assert_eq!(connect, [("statnet", json!({"IPAMConfig": {"IPv4Address": "172.30.0.10"}, "Aliases": ["web2"]})), ("v6net", json!({}))]);
    assert!(made.disconnect.is_empty());
}

#[test]
fn the_mac_address_stands_where_the_api_version_wants_it() {
    let inspect = fixture("mac");
    let old = body_of(&inspect, &Names::new(), (1, 41));
    assert_eq!(old.body["MacAddress"], "02:42:ac:1e:00:99");
    assert_eq!(old.body["NetworkingConfig"]["EndpointsConfig"]["statnet"].get("MacAddress"), None);
    let new = body_of(&inspect, &Names::new(), (1, 51));
    assert_eq!(new.body.get("MacAddress"), None);
    assert_eq!(
        new.body["NetworkingConfig"]["EndpointsConfig"]["statnet"],
        json!({"IPAMConfig": {"IPv4Address": "172.30.0.77"}, "Aliases": ["m1"], "Links": ["db:x"], "MacAddress": "02:42:ac:1e:00:99"})
    );
}

#[test]
fn the_default_bridge_takes_neither_addresses_nor_aliases() {
    let mut inspect = fixture("linked");
    inspect["NetworkSettings"]["Networks"]["bridge"]["Aliases"] = json!(["x"]);
    inspect["NetworkSettings"]["Networks"]["bridge"]["IPAMConfig"] = json!({"IPv4Address": "172.17.0.9"});
    let made = body_of(&inspect, &Names::new(), (1, 41));
    assert_eq!(made.body.get("NetworkingConfig"), None);
    assert_eq!(made.body["HostConfig"]["Links"], json!(["leg:al"]));
    assert_eq!(made.body["HostConfig"]["VolumesFrom"], json!(["leg0:ro"]));
    assert_eq!(made.body["HostConfig"]["Binds"], json!([]), "what comes through VolumesFrom is not attached twice");
}

#[test]
fn other_containers_are_named_and_not_numbered() {
    let inspect = fixture("joined-namespaces");
    let mode = |field: &str| inspect["HostConfig"][field].as_str().unwrap().trim_start_matches("container:").to_owned();
    let mut renames = Renames::default();
    renames.containers.insert("sharer".into(), "sharer-2".into());
    let mut names = Names::new().with_renames(renames);
    names.learn(&mode("NetworkMode"), "/leg");
    names.learn(&mode("IpcMode"), "/sharer");
    names.learn(&mode("PidMode"), "/linked");
    let made = body_of(&inspect, &names, (1, 41));
    let host = &made.body["HostConfig"];
    assert_eq!(
        (&host["NetworkMode"], &host["IpcMode"], &host["PidMode"]),
        (&json!("container:leg"), &json!("container:sharer-2"), &json!("container:linked"))
    );
    for refused in ["Hostname", "ExposedPorts", "NetworkingConfig"] {
        assert_eq!(made.body.get(refused), None, "{refused}");
    }
}

#[test]
fn a_missing_entry_point_takes_the_one_of_the_image_away() {
    let made = body_of(&fixture("mac"), &Names::new(), (1, 41));
    assert_eq!(made.body["Entrypoint"], json!([""]));
}

#[test]
fn a_network_that_was_left_is_left_again() {
    let mut inspect = fixture("rich");
    inspect["NetworkSettings"]["Networks"].as_object_mut().unwrap().shift_remove("autonet");
    let made = body_of(&inspect, &Names::new(), (1, 41));
    assert_eq!(made.disconnect, ["autonet"]);
    assert_eq!(made.connect.len(), 2);
}

#[test]
fn nonsense_is_an_error_and_no_panic() {
    let names = Names::new();
    for inspect in
        [json!(null), json!([]), json!({"Name": 5}), json!({"Name": "/x"}), json!({"Name": "/x", "Config": []}), json!({"Name": "/"})]
    {
        let request = ContainerRequest { inspect: &inspect, names: &names, image: "i", empty_volumes: &BTreeSet::new(), api: (1, 41) };
        assert!(container_body(&request).is_err(), "{inspect}");
        assert!(volume_body(&json!({"Name": {}}), &names).is_err());
    }
    let odd = json!({"Name": "/x", "Config": {"Env": 5, "Volumes": []}, "HostConfig": {"Binds": [5, ""], "Mounts": ["x", {"Type": "volume"}], "NetworkMode": 7}, "Mounts": 5,
        "NetworkSettings": {"Networks": {"": {"Aliases": {}}}}});
    let request = ContainerRequest { inspect: &odd, names: &names, image: "i", empty_volumes: &BTreeSet::new(), api: (1, 41) };
    assert!(container_body(&request).is_ok());
}

#[test]
fn networks_keep_what_was_configured() {
    let names = Names::new();
    let fixed = fixture("net-statnet");
    assert!(!looks_automatic(&fixed, &[]));
    let body = network_body(&fixed, &names, true).unwrap().body;
    assert_eq!(body["IPAM"], json!({"Driver": "default", "Config": [{"Subnet": "172.30.0.0/24", "Gateway": "172.30.0.1"}]}));
    assert_eq!((&body["Labels"], &body["CheckDuplicate"]), (&json!({"a": "b"}), &json!(true)));

    let automatic = fixture("net-autonet");
    assert!(looks_automatic(&automatic, &[]));
    assert_eq!(network_body(&automatic, &names, false).unwrap().body["IPAM"], json!({"Driver": "default"}));

    let v6 = fixture("net-v6net");
    assert!(!looks_automatic(&v6, &[]), "its IPv6 subnet has no gateway");
    let body = network_body(&v6, &names, true).unwrap().body;
    assert_eq!((&body["EnableIPv6"], &body["Internal"], &body["Attachable"]), (&json!(true), &json!(true), &json!(true)));
    assert_eq!(body["Options"], json!({"com.docker.network.bridge.name": "brx"}));
}

#[test]
fn a_network_with_a_configuration_network_says_nothing_twice() {
    let inspect = json!({"Name": "n", "Driver": "macvlan", "ConfigFrom": {"Network": "c"}, "Options": {"parent": "eth0"}, "Labels": {"a": "b"},
        "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.0.0.0/8"}]}});
    let body = network_body(&inspect, &Names::new(), true).unwrap().body;
    assert_eq!(body, json!({"Name": "n", "CheckDuplicate": true, "Driver": "macvlan", "ConfigFrom": {"Network": "c"}}));
}

#[test]
fn volumes_keep_driver_options_and_labels() {
    let inspect = json!({"Name": "v", "Driver": "local", "Options": {"type": "tmpfs", "device": "tmpfs"}, "Labels": {"a": ""}, "Mountpoint": "/x", "Scope": "local"});
    let body = volume_body(&inspect, &Names::new()).unwrap();
    assert_eq!(body, json!({"Name": "v", "Driver": "local", "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}, "Labels": {"a": ""}}));
    assert_eq!(volume_body(&json!({"Name": "v", "Options": null, "Labels": null}), &Names::new()).unwrap(), json!({"Name": "v"}));
}

#[test]
fn subnets_are_automatic_that_an_engine_cuts_from_its_pools() {
    let pool = |base: &str, size| AddressPool { base: base.to_owned(), size };
    let own = [pool("10.77.0.0/16", 24), pool("fd77::/48", 64), pool("nonsense", 24), pool("0.0.0.0/0", 30)];
    for (subnet, gateway, by_default, configured) in [
        ("172.18.0.0/16", "172.18.0.1", true, true),
        ("192.168.32.0/20", "192.168.32.1", true, true),
        ("192.168.33.0/24", "192.168.33.1", false, false),
        ("172.16.0.0/16", "172.16.0.1", false, false),
        ("172.18.0.0/24", "172.18.0.1", false, false),
        ("10.77.3.0/24", "10.77.3.1", false, true),
        ("10.77.3.0/24", "10.77.3.254", false, false),
        ("10.78.3.0/24", "10.78.3.1", false, false),
        ("10.77.0.0/16", "10.77.0.1", false, false),
        ("9.9.9.8/30", "9.9.9.9", false, true),
        ("fdab:1:2:3::/64", "fdab:1:2:3::1/64", true, true),
        ("fd77:0:0:9::/64", "fd77:0:0:9::1", true, true),
        ("2001:db8::/64", "2001:db8::1", false, false),
        ("10.77.3.0/24", "fd77::1", false, false),
    ] {
        let network = json!({"IPAM": {"Driver": "default", "Config": [{"Subnet": subnet, "Gateway": gateway}]}});
        assert_eq!(looks_automatic(&network, &[]), by_default, "{subnet}");
        assert_eq!(looks_automatic(&network, &own), configured, "{subnet} of own pools");
        let mut ranged = network.clone();
        ranged["IPAM"]["Config"][0]["IPRange"] = json!(subnet);
        assert!(!looks_automatic(&ranged, &own), "{subnet} with a range");
    }
}

#[test]
fn a_network_of_a_network_card_is_made_as_it_was() {
    // As Engine 20.10 describes one that `docker network create -d ipvlan` has made.
    for (driver, mode) in [("ipvlan", "ipvlan_mode"), ("macvlan", "macvlan_mode")] {
        let inspect = json!({"Name": "lan", "Id": "1f", "Created": "2026-01-01T00:00:00Z", "Scope": "local", "Driver": driver, "EnableIPv6": false,
            "IPAM": {"Driver": "default", "Options": {}, "Config": [{"Subnet": "10.9.0.0/24", "IPRange": "10.9.0.128/25", "Gateway": "10.9.0.1",
                "AuxiliaryAddresses": {"router": "10.9.0.2"}}]},
            "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false, "Containers": {},
            "Options": {"parent": "eth0.10", mode: "l3"}, "Labels": {"a": "b"}});
        let expected = json!({"Name": "lan", "CheckDuplicate": true, "Driver": driver, "Options": {"parent": "eth0.10", mode: "l3"},
            "Internal": false, "Attachable": false, "Ingress": false, "EnableIPv6": false, "Labels": {"a": "b"}, "IPAM": {"Driver": "default", "Config": inspect["IPAM"]["Config"]}});
        assert!(!looks_automatic(&inspect, &[]));
        assert_eq!(network_body(&inspect, &Names::new(), true).unwrap().body, expected, "{driver}");
    }
}
