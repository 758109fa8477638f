//! Flags parsed by clap itself, and what they mean.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use clap::Parser as _;

use super::super::arguments::{Arguments, Command};
use super::*;
use crate::config::load;
use crate::model::application::Consistency;
use crate::platform::directories::Directories;

fn directories() -> Directories {
    Directories { config: "/c".into(), data: "/d".into(), state: "/s".into(), cache: "/k".into(), home: None }
}

fn config() -> Config {
    let text = "sets:\n  web: {projects: [shop], exclude: [a]}\n  off: {enabled: false, paths: [/x]}\n";
    load::parse(text, Path::new("/c/config.yaml"), &directories(), "h").unwrap()
}

fn backup(line: &str) -> Backup {
    match Arguments::try_parse_from(std::iter::once("bbackup").chain(line.split(' '))).unwrap().command {
        Command::Backup(backup) => backup,
        other => panic!("{other:?}"),
    }
}

fn sets_of(line: &str) -> Result<Vec<BackupSet>, JobError> {
    sets(&backup(line), &config(), None)
}

#[test]
fn the_command_tree_is_sound() {
    use clap::CommandFactory as _;
    Arguments::command().debug_assert();
}

#[test]
fn sets_come_from_the_configuration_or_the_flags() {
    let names = |line| sets_of(line).unwrap().into_iter().map(|set| set.name.unwrap_or_default()).collect::<Vec<_>>();
    assert_eq!(names("backup"), ["web"]);
    assert_eq!(names("create off web off"), ["off", "web"]);
    let everything = sets(&backup("backup"), &load::embedded(&directories(), "h"), None).unwrap();
    assert!(everything[0].selection.everything);
    let chosen = &sets_of("backup -C web-1,web-2 db --projects shop -p /srv /etc/./x").unwrap()[0];
    assert_eq!(chosen.selection.containers, ["web-1", "web-2", "db"]);
    assert_eq!(chosen.selection.paths, [PathBuf::from("/srv"), PathBuf::from("/etc/x")]);
    assert!(chosen.name.is_none() && !chosen.selection.everything);
    assert!(sets_of("backup --all").unwrap()[0].selection.everything);
    assert!(Arguments::try_parse_from(["bbackup", "backup", "web", "--all"]).is_err());
}

#[test]
fn an_unknown_set_is_suggested() {
    let JobError::Request { code, message, hint } = sets_of("backup wbe").unwrap_err() else { unreachable!() };
    assert_eq!(
        (code, message.as_str(), hint.as_str()),
        ("unknown_set", "there is no backup set `wbe`; did you mean `web`?", "There are: web, off.")
    );
    let empty = load::parse("host: a\n", Path::new("/c/config.yaml"), &directories(), "h").unwrap();
    assert!(matches!(sets(&backup("backup"), &empty, None), Err(JobError::Request { code: "no_set", .. })));
}

#[test]
fn flags_change_the_policy_of_every_set() {
    let set = &sets_of("backup web -e b --exclude-if-present .nobackup -x --no-networks --no-logs --consistency pause").unwrap()[0];
    assert_eq!(set.filter.exclude, ["a", "b"]);
    assert!(set.filter.one_file_system && !set.scope.networks && !set.scope.logs && set.scope.volumes);
    assert_eq!(set.consistency, Consistency::Pause);
    let config_only = &sets_of("backup --all --config-only").unwrap()[0].scope;
    assert!(config_only.configs && config_only.networks && config_only.compose && !config_only.volumes && !config_only.logs);
    assert!(sets_of("backup --containers a --paths /srv --config-only").unwrap()[0].selection.paths.is_empty());
    assert!(matches!(sets_of("backup --paths /srv --config-only"), Err(JobError::Request { code: "nothing_left", .. })));
    let volumes_only = &sets_of("backup --all --volumes-only").unwrap()[0].scope;
    assert!(!volumes_only.configs && !volumes_only.networks && !volumes_only.compose && volumes_only.volumes && !volumes_only.logs);
}

#[test]
fn tags_that_are_ours_are_refused() {
    assert!(tags(&["weekly".to_owned(), "a b".to_owned()]).is_ok());
    for tag in ["app:x", "set:x", "run:x", "partial", "", " ", "a\nb"] {
        assert!(tags(&[tag.to_owned()]).is_err(), "{tag:?}");
    }
    assert_eq!(backup("backup --tag a,b --tag c").tag, ["a", "b", "c"]);
}

#[test]
fn renames_are_pairs_of_names() {
    let parse = |words: &[&str]| renames(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
    assert_eq!(parse(&["web:web2"]).unwrap(), [Rename { from: "web".to_owned(), to: "web2".to_owned() }]);
    for words in [["web"].as_slice(), &["web:"], &[":x"], &["a:-x"], &["a:b c"], &["a:../b"], &["a:b", "a:c"]] {
        assert!(parse(words).is_err(), "{words:?}");
    }
}

#[test]
fn parts_of_a_repository_are_read() {
    let part = |text: &str| read_data(&Check { read_data: false, read_data_subset: Some(text.to_owned()) });
    assert_eq!(part("2/5").unwrap(), ReadData::Group(2, 5));
    assert_eq!(part("2.5%").unwrap(), ReadData::Percent(2.5));
    assert_eq!(part("500M").unwrap(), ReadData::Bytes(500 << 20));
    for text in ["0/5", "6/5", "0/0", "1/", "/", "0%", "101%", "nan%", "inf%", "-1%", "0", "x", ""] {
        assert!(part(text).is_err(), "{text}");
    }
    assert_eq!(read_data(&Check { read_data: true, read_data_subset: None }).unwrap(), ReadData::All);
}

#[test]
fn paths_become_absolute() {
    assert_eq!(in_snapshot(Path::new("/srv//a/./b/../c/")).unwrap(), b"/srv/a/c");
    assert_eq!(in_snapshot(Path::new("/../..")).unwrap(), b"/");
    assert_eq!(absolute(Path::new("/srv//a/.")).unwrap(), Path::new("/srv/a"));
    assert!(absolute(Path::new("/no/such/../x")).is_err());
    assert!(absolute(Path::new("")).is_err());
}

#[test]
fn an_engine_narrows_what_is_chosen() {
    let text = "docker: {engines: {nas: {host: \"ssh://nas\"}}}\nsets:\n  a: {containers: [x]}\n  b: {containers: [x], engine: nas}\n";
    let config = load::parse(text, Path::new("/c/config.yaml"), &directories(), "h").unwrap();
    let chosen = |line: &str, engine| sets(&backup(line), &config, engine);
    let names = |line: &str, engine| chosen(line, engine).unwrap().into_iter().filter_map(|set| set.name).collect::<Vec<_>>();
    assert_eq!(names("backup", None), ["a", "b"]);
    assert_eq!(names("backup", Some("nas")), ["b"]);
    assert_eq!(names("backup", Some("default")), ["a"]);
    assert_eq!(chosen("backup --all", Some("nas")).unwrap()[0].engine.as_deref(), Some("nas"));
    assert!(matches!(chosen("backup a", Some("nas")), Err(JobError::Request { code: "other_engine", .. })));
    assert!(matches!(chosen("backup -p /x", Some("nas")), Err(JobError::Request { code: "paths_of_engine", .. })));
}
