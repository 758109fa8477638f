//! The tests of what counts as equal, on captured inspect answers of API 1.41.

#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/docker/api-1.41/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn changed(name: &str, change: impl FnOnce(&mut Value)) -> Vec<String> {
    let before = fixture(name);
    let mut after = before.clone();
    change(&mut after);
    let names = Names::new();
    let fields = differences(&container(&before, &names), &container(&after, &names));
    fields.into_iter().map(|difference| difference.field).collect()
}

#[test]
fn what_every_container_has_of_its_own_does_not_count() {
    let found = changed("rich", |inspect| {
        let id = "f".repeat(64);
        inspect["Id"] = json!(id);
        inspect["Created"] = json!("2030-01-01T00:00:00Z");
        inspect["State"]["Pid"] = json!(7);
        inspect["GraphDriver"] = json!({});
        inspect["LogPath"] = json!("/elsewhere");
        inspect["Config"]["Hostname"] = json!("ffffffffffff");
        for (_, endpoint) in inspect["NetworkSettings"]["Networks"].as_object_mut().unwrap() {
            endpoint["EndpointID"] = json!("x");
            endpoint["IPAddress"] = json!("10.9.9.9");
            let aliases = endpoint["Aliases"].as_array_mut().unwrap();
            *aliases.last_mut().unwrap() = json!("ffffffffffff");
        }
        inspect["NetworkSettings"]["Ports"]["53/udp"] = json!([{"HostIp": "0.0.0.0", "HostPort": "40000"}]);
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn every_field_that_somebody_set_counts() {
    let config = ["Env", "Cmd", "Entrypoint", "User", "WorkingDir", "Healthcheck", "Labels", "StopSignal", "StopTimeout", "ExposedPorts"];
    for field in config {
        let found = changed("rich", |inspect| drop(inspect["Config"].as_object_mut().unwrap().shift_remove(field)));
        assert_eq!(found, [format!("Config.{field}")]);
    }
    let before = fixture("rich");
    let elsewhere = ["Binds", "Mounts", "Tmpfs"];
    let set =
        before["HostConfig"].as_object().unwrap().iter().filter(|(name, value)| !is_default(value) && !elsewhere.contains(&name.as_str()));
    for (field, _) in set {
        if !matches!(field.as_str(), "ConsoleSize") {
            let found = changed("rich", |inspect| inspect["HostConfig"][field] = Value::Null);
            assert_eq!(found, [format!("HostConfig.{field}")]);
        }
    }
    assert_eq!(changed("rich", |inspect| inspect["HostConfig"]["SomethingNew"] = json!({"a": 1})), ["HostConfig.SomethingNew"]);
    assert_eq!(changed("rich", |inspect| inspect["Image"] = json!("sha256:other")), ["Image"]);
    assert_eq!(changed("rich", |inspect| inspect["State"]["Running"] = json!(false)), ["State"]);
    assert_eq!(changed("mac", |inspect| inspect["Config"]["MacAddress"] = json!("02:42:00:00:00:01")), ["Networks"]);
    assert_eq!(changed("rich", |inspect| inspect["NetworkSettings"]["Networks"]["statnet"]["IPAMConfig"] = Value::Null), ["Networks"]);
    assert_eq!(changed("rich", |inspect| inspect["Mounts"][4]["RW"] = json!(false)), ["Mounts"]);
    assert_eq!(changed("rich", |inspect| inspect["HostConfig"]["Mounts"][1]["BindOptions"] = json!({"Propagation": "shared"})), ["Mounts"]);
}

#[test]
fn two_ways_of_saying_one_thing_are_one() {
    let found = changed("rich", |inspect| {
        inspect["HostConfig"]["CapAdd"] = json!(["net_admin"]);
        inspect["HostConfig"]["PortBindings"]["53/udp"] = json!([{"HostIp": "", "HostPort": "0"}]);
        inspect["HostConfig"]["DeviceRequests"] = json!([]);
        inspect["HostConfig"]["OomKillDisable"] = Value::Null;
        inspect["HostConfig"]["MaskedPaths"].as_array_mut().unwrap().reverse();
    });
    assert_eq!(found, [""; 0]);
    assert_eq!(changed("linked", |inspect| inspect["HostConfig"]["NetworkMode"] = json!("bridge")), [""; 0]);
    assert_eq!(changed("linked", |inspect| inspect["HostConfig"]["Links"] = json!(["leg:al"])), [""; 0]);
}

#[test]
fn a_mounted_image_counts_by_its_name() {
    let with = |image: &str, folder: &str, subpath: &str| {
        let spec = json!({"Type": "image", "Source": image, "Target": "/i", "ImageOptions": {"Subpath": subpath}});
        let mount = json!({"Type": "image", "Source": folder, "Destination": "/i", "RW": false});
        container(&json!({"Id": "1", "HostConfig": {"Mounts": [spec]}, "Mounts": [mount]}), &Names::new())
    };
    let before = with("tools:1", "/docker/overlay2/1/merged", "bin");
    assert_eq!(differences(&before, &with("tools:1", "/docker/overlay2/2/merged", "bin")), []);
    assert_eq!(differences(&before, &with("tools:2", "/docker/overlay2/1/merged", "bin")).len(), 1);
    assert_eq!(differences(&before, &with("tools:1", "/docker/overlay2/1/merged", "etc")).len(), 1);
}

#[test]
fn an_anonymous_volume_counts_the_same_once_it_is_attached_by_name() {
    let found = changed("rich", |inspect| {
        let volume = inspect["Mounts"].as_array().unwrap().iter().find(|mount| mount["Destination"] == "/anon").unwrap()["Name"].clone();
        let bind = format!("{}:/anon", volume.as_str().unwrap());
        inspect["HostConfig"]["Binds"].as_array_mut().unwrap().push(json!(bind));
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_mode_that_names_a_container_counts_by_its_name() {
    let before = fixture("joined-namespaces");
    let mut after = before.clone();
    let id = before["HostConfig"]["NetworkMode"].as_str().unwrap().trim_start_matches("container:").to_owned();
    let other = "e".repeat(64);
    after["HostConfig"]["NetworkMode"] = json!(format!("container:{other}"));
    let (mut old, mut new) = (Names::new(), Names::new());
    old.learn(&id, "/leg");
    new.learn(&other, "/leg");
    assert_eq!(differences(&container(&before, &old), &container(&after, &new)), []);
    new.learn(&other, "/another");
    assert_eq!(differences(&container(&before, &old), &container(&after, &new)).len(), 1);
}

#[test]
fn networks_count_without_who_is_on_them() {
    let before = fixture("net-statnet");
    let names = Names::new();
    let mut after = before.clone();
    after["Id"] = json!("x");
    after["Containers"] = json!({"a": {}});
    after["IPAM"]["Config"][0].as_object_mut().unwrap().shift_remove("Gateway");
    assert_eq!(differences(&network(&before, &names, true), &network(&after, &names, true)), []);
    after["IPAM"]["Config"][0]["Subnet"] = json!("10.0.0.0/8");
    after["Internal"] = json!(true);
    let found: Vec<_> =
        differences(&network(&before, &names, true), &network(&after, &names, true)).into_iter().map(|found| found.field).collect();
    assert_eq!(found, ["IPAM.Config", "Internal"]);
}
