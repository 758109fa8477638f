//! Choosing among made-up snapshots: every meaning of the words, and what is never chosen.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

/// `id time host tags`, of the application that its tags name, else of `/srv`.
fn snapshot(id: &str, second: i64, host: &str, tags: &[&str]) -> Snapshot {
    let tags: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
    let application = tags.iter().find_map(|tag| tag.strip_prefix("app:"));
    Snapshot {
        id: SnapshotId(format!("{id:0<64}")),
        time: Timestamp::from_second(second).unwrap(),
        offset: jiff::tz::Offset::UTC,
        host: host.to_owned(),
        username: String::new(),
        paths: vec![application.map_or("/srv/www".to_owned(), |name| format!("/docker/{name}"))],
        tags,
        parent: None,
        original: None,
        program: String::new(),
        summary: None,
    }
}

fn some() -> Vec<Snapshot> {
    vec![
        snapshot("a1", 100, "h", &["app:shop", "run:01AA", "set:web"]),
        snapshot("a2", 101, "h", &["app:wiki", "run:01AA", "set:web"]),
        snapshot("b1", 200, "h", &["app:shop", "run:01AB", "set:web", "mine"]),
        snapshot("b2", 201, "h", &["app:wiki", "run:01AB", "set:web", "partial"]),
        snapshot("c1", 150, "other", &["app:mail", "run:02CC"]),
        snapshot("d1", 120, "h", &["run:03DD"]),
    ]
}

fn ids(chosen: &Chosen) -> Vec<&str> {
    chosen.snapshots.iter().map(|one| &one.id.0[..2]).collect()
}

fn pick(word: &str, narrowing: &Narrowing, all: bool, items: &[Item], held: &[(&str, &str)]) -> Result<Chosen, SelectError> {
    let request = Request { all, host: "h", items, ..Request::default() };
    choose(&some(), word, narrowing, &request, |snapshot, item| {
        let path = item.path_in(snapshot).unwrap_or_default();
        Ok(held.iter().any(|(id, item)| snapshot.id.0.starts_with(id) && item.as_bytes() == path))
    })
}

fn plainly(word: &str) -> Result<Chosen, SelectError> {
    pick(word, &Narrowing::default(), false, &[], &[])
}

#[test]
fn an_id_is_found_by_its_beginning() {
    assert_eq!(ids(&plainly("b2").unwrap()), ["b2"]);
    assert_eq!(ids(&plainly("B2").unwrap()), ["b2"]);
    let Err(SelectError::Ambiguous { candidates, .. }) = plainly("a") else { unreachable!() };
    assert_eq!(candidates.len(), 2);
    assert_eq!(plainly("zz"), Err(SelectError::NoMatch { wanted: "zz".to_owned() }));
    assert_eq!(plainly(""), Err(SelectError::NoMatch { wanted: String::new() }));
    assert!(matches!(plainly("\x1b[1m"), Err(SelectError::NoMatch { wanted }) if wanted == "\\x1b[1m"));
}

#[test]
fn a_run_is_a_whole_restore_point() {
    assert_eq!(ids(&plainly("run:01AB").unwrap()), ["b1", "b2"]);
    assert_eq!(ids(&plainly("run:02").unwrap()), ["c1"]);
    assert!(matches!(plainly("run:01A"), Err(SelectError::AmbiguousRun { candidates, .. }) if candidates.len() == 2));
    assert!(matches!(plainly("run:"), Err(SelectError::NoMatch { .. })));
}

#[test]
fn latest_is_the_newest_complete_one() {
    assert_eq!(ids(&plainly("latest").unwrap()), ["b1"]);
    let narrowed = |narrowing| pick("latest", &narrowing, false, &[], &[]);
    let before = Narrowing { before: Some(Timestamp::from_second(150).unwrap()), ..Narrowing::default() };
    assert_eq!(ids(&narrowed(before).unwrap()), ["d1"]);
    let host = Narrowing { hosts: vec!["other".to_owned()], ..Narrowing::default() };
    assert_eq!(ids(&narrowed(host).unwrap()), ["c1"]);
    let partial = Narrowing { tags: vec!["partial".to_owned()], ..Narrowing::default() };
    assert!(matches!(narrowed(partial), Err(SelectError::OnlyPartial { newest }) if newest.0.starts_with("b2")));
    let set = Narrowing { set: Some("web".to_owned()), tags: vec!["mine".to_owned()], ..Narrowing::default() };
    assert_eq!(ids(&narrowed(set).unwrap()), ["b1"]);
    let none = Narrowing { set: Some("no".to_owned()), ..Narrowing::default() };
    assert_eq!(narrowed(none), Err(SelectError::Empty { narrowed: true }));
    let empty = choose(&[], "latest", &Narrowing::default(), &Request::default(), |_, _| Ok::<_, SelectError>(true));
    assert_eq!(empty, Err(SelectError::Empty { narrowed: false }));
}

#[test]
fn all_is_the_newest_of_every_application_of_this_host() {
    let chosen = pick("latest", &Narrowing::default(), true, &[], &[]).unwrap();
    assert_eq!(ids(&chosen), ["a2", "b1"]);
    let ([paths], [partial]) = (chosen.notes.as_slice(), chosen.warnings.as_slice()) else { unreachable!("{chosen:?}") };
    assert!(paths.contains("/srv/www") && paths.contains("--path"), "{paths}");
    assert!(partial.contains("wiki") && partial.contains("partial"), "{partial}");
    let host = Narrowing { hosts: vec!["other".to_owned()], ..Narrowing::default() };
    assert_eq!(ids(&pick("latest", &host, true, &[], &[]).unwrap()), ["c1"]);
    let request = Request { all: true, host: "new-name", ..Request::default() };
    let error = choose(&some(), "latest", &Narrowing::default(), &request, |_, _| Ok::<_, SelectError>(true)).unwrap_err();
    assert_eq!(error, SelectError::NoneOfHost { host: "new-name".to_owned(), others: vec!["h".to_owned(), "other".to_owned()] });
}

#[test]
fn items_are_looked_for_from_the_newest_on() {
    let volume = [Item::Volume("db".to_owned())];
    let held = [("a1", "/docker/shop/volumes/db"), ("b1", "/docker/shop/volumes/db")];
    assert_eq!(ids(&pick("latest", &Narrowing::default(), false, &volume, &held).unwrap()), ["b1"]);
    assert_eq!(ids(&pick("latest", &Narrowing::default(), false, &volume, &held[..1]).unwrap()), ["a1"]);
    let path = [Item::Path(b"/srv".to_vec())];
    assert_eq!(ids(&pick("latest", &Narrowing::default(), false, &path, &[("d1", "/srv")]).unwrap()), ["d1"]);
    let partial = [("b2", "/docker/wiki/networks/net.json")];
    let network = [Item::Network("net".to_owned())];
    let error = pick("latest", &Narrowing::default(), false, &network, &partial).unwrap_err();
    assert!(matches!(error, SelectError::NotHeld { item, partial: Some(_), .. } if item == "network net"));
}

#[test]
fn parts_of_different_snapshots_are_never_joined_in_silence() {
    let items = [Item::Volume("db".to_owned()), Item::Container("web".to_owned())];
    let held = [("a1", "/docker/shop/volumes/db"), ("b1", "/docker/shop/containers/web")];
    let chosen = pick("latest", &Narrowing::default(), false, &items, &held).unwrap();
    assert_eq!(ids(&chosen), ["a1", "b1"]);
    assert!(chosen.warnings.iter().any(|said| said.contains("two snapshots")), "{:?}", chosen.warnings);
}

#[test]
fn another_hosts_snapshot_is_said() {
    let items = [Item::Volume("mail".to_owned())];
    let chosen = pick("latest", &Narrowing::default(), false, &items, &[("c1", "/docker/mail/volumes/mail")]).unwrap();
    assert!(chosen.warnings[0].ends_with("is of the host other"), "{:?}", chosen.warnings);
}

/// A snapshot of these items of the shop.
fn part(id: &str, second: i64, items: &[&str]) -> Snapshot {
    let paths = items.iter().map(|item| format!("/docker/shop/{item}")).collect();
    Snapshot { paths, ..snapshot(id, second, "h", &["app:shop"]) }
}

fn latest(snapshots: &[Snapshot], all: bool) -> Chosen {
    let request = Request { all, host: "h", ..Request::default() };
    choose::<SelectError>(snapshots, "latest", &Narrowing::default(), &request, |_, _| Ok(false)).unwrap()
}

#[test]
fn a_snapshot_of_some_items_is_no_latest_of_its_application_and_that_is_said() {
    let mut snapshots = some();
    snapshots.push(part("e1", 300, &["containers/web/inspect.json", "volumes/web"]));
    for all in [true, false] {
        let chosen = latest(&snapshots, all);
        assert!(ids(&chosen).contains(&"b1") && !ids(&chosen).contains(&"e1"));
        let said = &chosen.warnings[0];
        assert!(said.contains("shop") && said.contains("e1") && said.contains("1 container, 1 volume"), "{said}");
    }
}

#[test]
fn without_a_snapshot_of_everything_the_newest_with_data_is_taken() {
    let both = ["containers/web/inspect.json", "volumes/web"];
    let snapshots = [
        part("a0", 100, &both),
        part("b0", 200, &both),
        part("c0", 300, &["containers/web/inspect.json", "networks/n.json"]),
        part("d0", 400, &["volumes/web"]),
    ];
    for all in [true, false] {
        let chosen = latest(&snapshots, all);
        assert_eq!(ids(&chosen), ["b0"]);
        assert!(chosen.warnings[0].contains("no snapshot of everything") && chosen.warnings.len() == 1, "{:?}", chosen.warnings);
        assert_eq!(ids(&latest(&snapshots[2..], all)), ["d0"], "with neither, the newest");
    }
}

#[test]
fn a_container_without_its_data_is_the_poorer_choice() {
    let snapshots = [part("a0", 100, &["containers/web/inspect.json", "volumes/web"]), part("b0", 200, &["containers/web/inspect.json"])];
    let items = [Item::Container("web".to_owned())];
    let request = Request { host: "h", items: &items, ..Request::default() };
    let pick =
        |snapshots: &[Snapshot]| choose::<SelectError>(snapshots, "latest", &Narrowing::default(), &request, |_, _| Ok(true)).unwrap();
    let chosen = pick(&snapshots);
    assert_eq!(ids(&chosen), ["a0"]);
    assert!(chosen.warnings[0].contains("b0") && chosen.warnings[0].contains("no volumes"), "{:?}", chosen.warnings);
    assert_eq!(ids(&pick(&snapshots[1..])), ["b0"]);
}

#[test]
fn a_path_that_a_snapshot_of_restic_says_nothing_of_may_be_in_it() {
    let asked = Item::Path(b"/tree/a".to_vec());
    let mut of_restic = snapshot("a1", 1, "h", &[]);
    assert_eq!(asked.path_in(&of_restic).as_deref(), Some(&b"/tree/a"[..]));
    // What bbackup makes is where it says, also if it is no text.
    of_restic.program = "bbackup 0.1.0".to_owned();
    assert_eq!(asked.path_in(&of_restic), None);
    of_restic.paths = vec!["/srv/nu\u{fffd}".to_owned()];
    let raw = Item::Path(b"/srv/nu\xff/a".to_vec());
    assert_eq!(raw.path_in(&of_restic).as_deref(), Some(&b"/srv/nu\xff/a"[..]));
}

#[test]
fn the_latest_is_of_this_host_also_where_another_host_has_a_newer_one() {
    let mut snapshots = some();
    snapshots.push(snapshot("e1", 400, "other", &["app:shop"]));
    snapshots.push(snapshot("e2", 500, "other", &[]));
    let items = [Item::Volume("db".to_owned())];
    let pick = |items: &[Item], tags: &[&str]| {
        let narrowing = Narrowing { tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..Narrowing::default() };
        let request = Request { host: "h", items, ..Request::default() };
        choose::<SelectError>(&snapshots, "latest", &narrowing, &request, |one, _| Ok(one.application() == Some("shop"))).unwrap()
    };
    assert_eq!(ids(&pick(&items, &[])), ["b1"]);
    assert_eq!(ids(&pick(&[], &["app:shop"])), ["b1"]);
    let foreign = pick(&[], &["app:mail"]);
    assert_eq!(ids(&foreign), ["c1"], "nobody else has it");
    assert!(foreign.warnings[0].ends_with("is of the host other"), "{:?}", foreign.warnings);
    // Folders of this machine are filed under its own name where the Engine is on another.
    let request = Request { host: "nas", machine: "h", ..Request::default() };
    let path = choose::<SelectError>(&snapshots[5..], "latest", &Narrowing::default(), &request, |_, _| Ok(true)).unwrap();
    assert_eq!(ids(&path), ["d1"]);
    assert_eq!(path.warnings, [] as [&str; 0]);
}

#[test]
fn nobody_guesses_which_of_several_other_hosts_is_meant() {
    let request = Request { host: "new", ..Request::default() };
    let refused = choose::<SelectError>(&some(), "latest", &Narrowing::default(), &request, |_, _| Ok(true));
    assert!(matches!(refused, Err(SelectError::SeveralHosts { ref others, .. }) if others[..] == ["h", "other"]), "{refused:?}");
    let one = Narrowing { hosts: vec!["other".to_owned()], ..Narrowing::default() };
    assert_eq!(ids(&choose::<SelectError>(&some(), "latest", &one, &request, |_, _| Ok(true)).unwrap()), ["c1"]);
}

#[test]
fn what_is_dated_in_the_future_is_the_latest_only_where_there_is_nothing_else() {
    let far = 32_000_000_000;
    let mut snapshots = some();
    snapshots.push(snapshot("e1", far, "h", &["app:shop"]));
    for all in [true, false] {
        let narrowing = Narrowing { tags: vec!["app:shop".to_owned()], ..Narrowing::default() };
        let request = Request { all, host: "h", ..Request::default() };
        let chosen = choose::<SelectError>(&snapshots, "latest", &narrowing, &request, |_, _| Ok(true)).unwrap();
        assert_eq!(ids(&chosen), ["b1"]);
        assert!(chosen.warnings[0].contains("e1") && chosen.warnings[0].contains("future"), "{:?}", chosen.warnings);
    }
    let only = [snapshot("e1", far, "h", &["app:shop"])];
    let chosen = latest(&only, true);
    assert_eq!(ids(&chosen), ["e1"]);
    assert!(chosen.warnings[0].contains("no other"), "{:?}", chosen.warnings);
}

#[test]
fn an_older_snapshot_is_not_taken_for_a_path_without_a_word() {
    let path = |id, second, tags: &[&str]| snapshot(id, second, "h", tags);
    let snapshots = [path("a1", 1, &[]), path("b1", 2, &[]), path("c1", 3, &["partial"])];
    let items = [Item::Path(b"/srv/www/f".to_vec())];
    let request = Request { host: "h", items: &items, ..Request::default() };
    let pick = |holders: &[&str]| {
        let holds = |one: &Snapshot, _: &Item| Ok(holders.iter().any(|id| one.id.0.starts_with(id)));
        choose::<SelectError>(&snapshots, "latest", &Narrowing::default(), &request, holds).unwrap()
    };
    let gone = pick(&["a1"]);
    assert_eq!(ids(&gone), ["a1"]);
    assert!(gone.warnings.iter().any(|said| said.contains("not in the newer snapshot b1")), "{:?}", gone.warnings);
    let torn = pick(&["a1", "b1", "c1"]);
    assert_eq!(ids(&torn), ["b1"]);
    assert!(torn.warnings[0].contains("c1") && torn.warnings[0].contains("partial"), "{:?}", torn.warnings);
    let request = Request { host: "h", ..Request::default() };
    let anything = choose::<SelectError>(&snapshots, "latest", &Narrowing::default(), &request, |_, _| Ok(true)).unwrap();
    assert_eq!(ids(&anything), ["b1"]);
    assert!(anything.warnings[0].contains("c1"), "{:?}", anything.warnings);
}
