//! What belongs to others, too: files that a volume stands for, containers that a backup keeps still or that live with a replaced one.

use super::*;

/// `shop`, of which the volume stands for something.
fn standing_for(options: &[(&str, &str)]) -> StoredApplication {
    let mut shop = shop();
    shop.document.application.volumes[0].options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    shop
}

const BOUND: &[(&str, &str)] = &[("type", "none"), ("o", "bind"), ("device", "/srv/data")];
const SHARE: &[(&str, &str)] = &[("type", "nfs"), ("o", "addr=10.0.0.9"), ("device", ":/export")];

fn planned(stored: &StoredApplication, options: &RestoreOptions, at: Option<PathState>) -> RestorePlan {
    let mut host = host();
    host.binds = at.into_iter().map(|state| ("/srv/data".to_owned(), state)).collect();
    plan(std::slice::from_ref(stored), options, &host).unwrap()
}

fn fills(plan: &RestorePlan) -> Vec<(&str, bool)> {
    plan.steps.iter().filter_map(|planned| planned.step.fills()).collect()
}

#[test]
fn files_that_a_volume_stands_for_are_not_overwritten_unasked() {
    let (bound, share) = (standing_for(BOUND), standing_for(SHARE));
    let default = RestoreOptions::default();
    for state in [PathState::Missing, PathState::Empty] {
        let plan = planned(&bound, &default, Some(state));
        assert_eq!((conflicts(&plan), fills(&plan)), (Vec::new(), vec![("/srv/data", false)]));
    }
    assert_eq!(
        conflicts(&planned(&bound, &default, Some(PathState::Holds))),
        ["volume shop_data exists already: it stands for /srv/data: there is something"]
    );
    let unseen = "volume shop_data exists already: it stands for :/export: whether there is something is not seen from here";
    assert_eq!(conflicts(&planned(&share, &default, None)), [unseen]);
    // Beside the original it would be the original.
    let as_new = RestoreOptions { as_new: true, ..default.clone() };
    let renamed = RestoreOptions { renames: vec![("shop_data".to_owned(), "other".to_owned())], ..default.clone() };
    for (stored, options) in [(&bound, &as_new), (&share, &as_new), (&bound, &renamed), (&share, &renamed)] {
        let plan = planned(stored, options, Some(PathState::Holds));
        assert_eq!((conflicts(&plan), fills(&plan)), (Vec::new(), Vec::new()), "{options:?}");
        assert!(plan.notes.iter().any(|note| note.contains("the files there are left as they are")), "{:?}", plan.notes);
        assert!(plan.steps.iter().any(|planned| matches!(planned.step, Step::CreateVolume { .. })));
    }
}

#[test]
fn files_that_a_volume_stands_for_are_saved_before_they_are_overwritten() {
    let (bound, share) = (standing_for(BOUND), standing_for(SHARE));
    let in_place = RestoreOptions { in_place: true, save_first: true, ..RestoreOptions::default() };
    let plan = planned(&bound, &in_place, Some(PathState::Holds));
    assert_eq!((conflicts(&plan), fills(&plan)), (Vec::new(), vec![("/srv/data", true)]));
    let saved = plan.steps.iter().find_map(|planned| match &planned.step {
        Step::SaveFirst { paths, .. } => Some(paths.clone()),
        _ => None,
    });
    assert_eq!(saved, Some(vec!["/srv/data".to_owned()]));
    assert!(plan.targets.iter().any(|target| target.overwrites("/srv/data")));
    let refused = conflicts(&planned(&share, &in_place, None));
    assert!(refused[0].contains("cannot be saved first"), "{refused:?}");
    let bold = planned(&share, &RestoreOptions { save_first: false, ..in_place }, None);
    assert_eq!((conflicts(&bold), fills(&bold)), (Vec::new(), vec![(":/export", true)]));
}

#[test]
fn who_is_kept_still_or_lives_with_one_that_is_replaced_stands_in_the_way() {
    let mut host = host();
    let there = |id: &str, name: &str| HostContainer {
        id: id.to_owned(),
        name: name.to_owned(),
        status: "exited".to_owned(),
        ..HostContainer::default()
    };
    host.containers = vec![there("1", "db"), there("2", "guest"), there("3", "user"), there("4", "other")];
    host.containers[1].guest_of = vec!["db".to_owned()];
    host.containers[2].volumes = vec!["shop_data".to_owned()];
    host.volumes.insert("shop_data".to_owned(), HostVolume { driver: "local".to_owned(), empty: Some(false), ..HostVolume::default() });
    let in_place = RestoreOptions { in_place: true, save_first: true, ..RestoreOptions::default() };
    let found = |options: &RestoreOptions, host: &Host| conflicts(&plan(&[shop()], options, host).unwrap());
    let orphan = "container db exists already (container guest lives in its network, memory or process space, and could not be started again: restore it too)";
    assert_eq!(found(&in_place, &host), [orphan]);
    host.containers[1].guest_of.clear();
    assert_eq!(found(&in_place, &host), [""; 0]);
    // As a backup has stopped it, it seems not to run.
    let kept = RestoreOptions { kept_still: ["1", "3", "4"].map(str::to_owned).into(), ..in_place };
    let still = |name: &str| format!("a backup keeps container {name} still just now, and starts it when it has read what it needs");
    assert_eq!(found(&kept, &host), [still("db"), still("user")]);
}

#[test]
fn nobody_is_started_on_what_stays_half_restored() {
    let mut host = host();
    host.volumes.insert("shop_data".to_owned(), HostVolume { empty: Some(false), driver: "local".to_owned(), ..HostVolume::default() });
    let starts = |half: &str, in_place: bool| {
        let items = Items { containers: if in_place { Vec::new() } else { vec!["db".to_owned()] }, ..Items::default() };
        let half = [half.to_owned()].into();
        let plan = super::planned(&RestoreOptions { items, in_place, half, ..RestoreOptions::default() }, &host);
        let starts = lines(&plan).contains(&"start container db".to_owned());
        assert_eq!(starts, !plan.notes.iter().any(|note| note.contains("half restored")), "{:?}", plan.notes);
        starts
    };
    assert!(!starts("shop_data", false), "its volume is used as it is");
    assert!(starts("shop_data", true), "all of it is written");
    assert!(starts("other_data", false) && starts("/srv", false));
    host.volumes.get_mut("shop_data").unwrap().options = [("device".to_owned(), "/srv/data/".to_owned())].into();
    let alone = RestoreOptions {
        half: ["/srv".to_owned()].into(),
        items: Items { containers: vec!["db".to_owned()], ..Items::default() },
        ..RestoreOptions::default()
    };
    assert!(!lines(&super::planned(&alone, &host)).contains(&"start container db".to_owned()), "it stands for what lies in it");
}

#[test]
fn what_is_restored_alone_is_in_the_snapshot_and_nobody_runs_on_it_meanwhile() {
    let mut shop = shop();
    let bind = |outcome: ItemOutcome| ItemRecord {
        kind: ItemKind::Bind,
        name: "/srv/data".to_owned(),
        path: "/docker/shop/binds/srv/data".to_owned(),
        outcome,
        ..item("", 1, 1)
    };
    shop.document.items.push(bind(item("", 1, 1).outcome));
    let part = Part {
        application: "shop".to_owned(),
        volume: None,
        path: "/srv/data/conf/app".to_owned(),
        root: "/srv/data".to_owned(),
        from: "/docker/shop/binds/srv/data/conf/app".to_owned(),
        bytes: 1,
    };
    let items = Items { parts: vec![part], ..Items::default() };
    let options = RestoreOptions { items, in_place: true, save_first: true, ..RestoreOptions::default() };
    let below = wanted(std::slice::from_ref(&shop), &options).below;
    assert_eq!(below, [("/srv/data".to_owned(), "/conf/app".to_owned())].into());
    let mut host = host();
    host.binds = [("/srv/data/conf/app".to_owned(), PathState::Holds)].into();
    let mount =
        Mount { kind: MountKind::Bind, name: None, source: "/srv/data".to_owned(), destination: "/data".to_owned(), read_only: false };
    host.containers = vec![HostContainer {
        id: "1".to_owned(),
        name: "db".to_owned(),
        status: "running".to_owned(),
        mounts: vec![mount],
        left_running: true,
        ..HostContainer::default()
    }];
    let planned = |shop: &StoredApplication, host: &Host| plan(std::slice::from_ref(shop), &options, host).unwrap();
    let fine = planned(&shop, &host);
    assert_eq!((conflicts(&fine), lines(&fine)[0].as_str()), (Vec::new(), "stop container db"));
    let mut ours = host.clone();
    ours.containers[0].fixed = Some("bbackup runs in it".to_owned());
    assert_eq!(
        conflicts(&planned(&shop, &ours)),
        ["/srv/data/conf/app cannot be restored: container db uses it and cannot be stopped: bbackup runs in it"]
    );

    let gone = Obstacle::Gone("/srv/data/conf".to_owned());
    let link = Obstacle::Link("/srv/data/conf".to_owned());
    for (obstacle, said) in
        [(gone, "is gone; restore all of that: --path /docker/shop/binds/srv/data/conf"), (link, "is a symbolic link now")]
    {
        let mut host = host.clone();
        host.obstacles = [("/srv/data/conf/app".to_owned(), obstacle)].into();
        let plan = planned(&shop, &host);
        assert!(conflicts(&plan)[0].contains(said) && lines(&plan).is_empty(), "{:?} {:?}", conflicts(&plan), lines(&plan));
    }
    for (outcome, said) in
        [(ItemOutcome::Failed { reason: "no room".to_owned() }, "saving it failed: no room"), (ItemOutcome::Skipped, "it was skipped")]
    {
        *shop.document.items.last_mut().unwrap() = bind(outcome);
        let plan = planned(&shop, &host);
        assert_eq!((conflicts(&plan), lines(&plan)), (vec![format!("/srv/data is not in the snapshot: {said}")], Vec::new()));
    }
}
