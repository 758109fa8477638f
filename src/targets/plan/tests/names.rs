//! New names that cannot be given: of compose projects, and one for two things.

use super::*;

fn labelled(project: &str) -> Value {
    json!({"Name": "lan", "Labels": {"com.docker.compose.project": project}})
}

#[test]
fn a_project_is_not_called_what_compose_does_not_take_or_what_another_is() {
    let found = |name: &str, host: &Host, in_place: bool| {
        let options = RestoreOptions { in_place, ..renaming("shop", name) };
        conflicts(&plan(&[shop()], &options, host).unwrap())
    };
    for name in ["Store", "st.ore", "0Store"] {
        let said = format!(
            "the compose project cannot be called `{name}`: lower-case letters, digits, `_` and `-` can be in it, the first a letter or digit"
        );
        assert_eq!(found(name, &host(), false), [said]);
    }
    for name in ["store", "0_st-ore", "shop"] {
        assert_eq!(found(name, &host(), false), [""; 0], "{name}");
    }
    let project = Some("store".to_owned());
    let mut with_container = host();
    with_container.containers.push(HostContainer { name: "x".to_owned(), project: project.clone(), ..HostContainer::default() });
    let mut with_volume = host();
    with_volume.volumes.insert("x".to_owned(), HostVolume { project: project.clone(), ..HostVolume::default() });
    let mut with_network = host();
    with_network.networks.insert("x".to_owned(), labelled("store"));
    for (kind, there) in [("container", &with_container), ("volume", &with_volume), ("network", &with_network)] {
        let said = format!("the compose project cannot be called `store`: {kind} x is of a project of that name already");
        assert_eq!(found("store", there, false), [said]);
        assert_eq!(found("store", there, true), [""; 0], "in its place");
    }
    let mut called_so = host();
    called_so.containers.push(HostContainer { name: "store".to_owned(), ..HostContainer::default() });
    assert_eq!(found("store", &called_so, false), ["the compose project cannot be called `store`: a container has that name"]);
    // What a restore that died has begun to fill is told as that, if at all.
    let mut begun = host();
    let volume = HostVolume { project, driver: "local".to_owned(), empty: Some(true), ..HostVolume::default() };
    begun.volumes.insert("store_data".to_owned(), volume);
    assert_eq!(found("store", &begun, false), [""; 0]);
    // All that is in the way is told at once.
    begun.volumes.insert("store_data".to_owned(), HostVolume { empty: Some(false), ..HostVolume::default() });
    begun.containers = with_container.containers.clone();
    assert_eq!(found("store", &begun, false).len(), 2);
}

#[test]
fn a_second_copy_is_no_part_of_the_first() {
    let mut host = host();
    let there =
        |name: &str, project: &str| HostContainer { name: name.to_owned(), project: Some(project.to_owned()), ..HostContainer::default() };
    host.containers = vec![there("web", "shop"), there("web-restored", "shop-restored")];
    let plan = planned(&RestoreOptions { as_new: true, ..RestoreOptions::default() }, &host);
    let labels = plan.steps.iter().find_map(|planned| match &planned.step {
        Step::CreateNetwork { network } => Some(network.body["Labels"].clone()),
        _ => None,
    });
    assert_eq!(labels, Some(json!({"com.docker.compose.project": "shop-restored-2"})));
}

#[test]
fn two_things_of_one_kind_do_not_become_one() {
    let mut stored = shop();
    let mut other = stored.document.application.volumes[0].clone();
    other.name = "shop_more".to_owned();
    stored.document.application.volumes.push(other);
    stored.document.items.push(item("shop_more", 1, 1));
    let mut back = stored.networks["shop_front"].clone();
    back["Name"] = json!("shop_back");
    back["IPAM"]["Config"] = json!([]);
    stored.networks.insert("shop_back".to_owned(), back);
    let rename = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let renames = vec![rename("shop_data", "one"), rename("shop_more", "one"), rename("shop_front", "lan"), rename("shop_back", "lan")];
    let mut network = stored.document.application.networks[0].clone();
    network.name = "shop_back".to_owned();
    stored.document.application.networks.push(network);
    let found = conflicts(&plan(&[stored], &RestoreOptions { renames, ..RestoreOptions::default() }, &host()).unwrap());
    assert_eq!(found, ["two of what is restored would be volume one", "two of what is restored would be network lan"]);
}
