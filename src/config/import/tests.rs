//! What the Python program's files become, key by key.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use super::super::{Compression, Config, load};
use super::*;
use crate::model::retention::Count;
use crate::platform::directories::Directories;

/// Every key of the other program's own example file.
const THEIRS: &str = include_str!("../../../tests/fixtures/import/config.yaml");

fn read(yaml: &str) -> Config {
    let directories = Directories {
        config: "/home/u/.config/bbackup".into(),
        data: "/home/u/.local/share/bbackup".into(),
        state: "/home/u/.local/state/bbackup".into(),
        cache: "/home/u/.cache/bbackup".into(),
        home: Some("/home/u".into()),
    };
    load::parse(yaml, Path::new("/etc/bbackup/config.yaml"), &directories, "h").unwrap()
}

/// The keys of all values, as people write them.
fn keys(value: &serde_yaml::Value, path: &str, found: &mut Vec<String>) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        serde_yaml::Value::Mapping(entries) => {
            for (key, value) in entries {
                keys(value, &join(key.as_str().unwrap()), found);
            }
        }
        serde_yaml::Value::Sequence(items) if path.ends_with(".targets") => {
            for (index, item) in items.iter().enumerate() {
                keys(item, &format!("{path}[{index}]"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn every_value_is_taken_over_or_named_as_dropped() {
    let imported = import(THEIRS).unwrap();
    let mut all = Vec::new();
    keys(&serde_yaml::from_str(THEIRS).unwrap(), "", &mut all);
    assert!(all.len() > 75, "{}", all.len());
    for key in &all {
        let mapped = imported.mapped.iter().filter(|one| one.from == *key).count();
        let dropped = imported.dropped.iter().filter(|one| one.key == *key).count();
        assert_eq!(mapped + dropped, 1, "{key}: {mapped} times mapped, {dropped} times dropped");
    }
    assert!(imported.dropped.iter().all(|one| one.reason != keys::UNKNOWN), "{:#?}", imported.dropped);
    let logging: Vec<_> = imported.dropped.iter().filter(|one| one.key.starts_with("logging")).collect();
    assert!(!logging.is_empty() && logging.iter().all(|one| one.reason.contains("--log-file")), "{logging:#?}");
}

#[test]
fn what_is_taken_over_means_the_same() {
    let config = read(&import(THEIRS).unwrap().yaml);
    assert_eq!((config.docker.host.as_deref(), config.docker.timeout.as_secs()), (Some("unix:///run/docker.sock"), 300));
    let repository = config.default_repository().unwrap();
    assert_eq!(
        (repository.location.as_path(), repository.compression),
        (Path::new("/mnt/disk/backups/bbackup-repository"), Some(Compression::Auto))
    );
    let names: Vec<_> = config.sets.iter().map(|set| set.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["front", "media-files", "everything", "front-2"]);
    let front = config.set("front").unwrap();
    assert_eq!((front.selection.containers.as_slice(), front.enabled), (&["web".to_owned(), "cache[[]1[]]".to_owned()][..], true));
    let media = &config.set("media-files").unwrap().scope;
    assert!(media.volumes && media.binds && !media.configs && !media.logs && media.networks, "{media:?}");
    let everything = config.set("everything").unwrap();
    assert!(!everything.enabled && everything.scope.volumes && !everything.scope.networks);
    let files = config.set("front-2").unwrap();
    assert_eq!(files.selection.paths, [Path::new("/srv/www")]);
    assert_eq!(files.filter.exclude, ["/srv/www/**/*.tmp", "/srv/www/**/cache/*", "/srv/www/top"]);
}

#[test]
fn every_set_keeps_what_all_backups_kept() {
    let imported = import(THEIRS).unwrap();
    let config = read(&imported.yaml);
    for set in &config.sets {
        let retention = set.retention.as_ref().unwrap();
        let kept = [retention.keep_last, retention.keep_daily, retention.keep_weekly, retention.keep_monthly, retention.keep_yearly];
        assert_eq!(kept, [0, 7, 4, 12, 0].map(Count::Number), "{:?}", set.name);
    }
    let to = |key: &str| imported.mapped.iter().find(|one| one.from == key).map(|one| one.to.as_str());
    assert_eq!(to("retention.weekly"), Some("sets.*.retention.keep_weekly"));
    assert!(imported.yaml.contains("bbackup forget"), "{}", imported.yaml);

    // A rule that keeps nothing, or is none, must not become one; and without a set there is nothing that it could be about.
    let yaml = "retention: {daily: 0, weekly: many, monthly: 2}\nfilesystem: {f: {targets: [{path: /srv}]}}\n";
    let imported = import(yaml).unwrap();
    assert_eq!(imported.dropped.iter().filter(|one| one.key.starts_with("retention")).count(), 2, "{:#?}", imported.dropped);
    assert!(imported.yaml.contains("keep_monthly: 2") && !imported.yaml.contains("keep_daily"), "{}", imported.yaml);
    let imported = import("retention: {daily: 7}\n").unwrap();
    assert!(imported.mapped.is_empty() && imported.dropped.len() == 1, "{imported:#?}");
    assert!(!imported.yaml.contains("forget"), "{}", imported.yaml);
}

#[test]
fn what_is_something_else_is_refused() {
    for (text, expected) in
        [("", "empty"), ("- a\n", "keys with values"), ("version: '3'\nservices: {}\n", "none of its sections"), ("a: [", "no YAML")]
    {
        let problems = import(text).unwrap_err();
        assert!(problems[0].message.contains(expected), "{text}: {problems:?}");
    }
    // A file of one section is one of the other program's; strange values cost only themselves.
    let imported =
        import("docker: {timeout: soon, sockets: x}\nbackup: {backup_sets: {x: 5}, compression: {enabled: maybe}}\nremotes: 7\n").unwrap();
    assert!(read(&imported.yaml).sets.is_empty());
    assert_eq!(imported.dropped.len(), 5, "{:#?}", imported.dropped);
}
