//! Whole files read to the end: what a good one means, and every problem of a bad one with its place.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use super::load::{self, ConfigError};
use super::password::PasswordSource;
use super::{Compression, Config, Consistency, Filter, PACK_SIZE, Scope, Selection, SwarmTasks, show};
use crate::model::hook::Hook;
use crate::model::retention::Count;
use crate::model::size::ByteSize;
use crate::platform::directories::Directories;

use super::STARTER;
const EXAMPLE: &str = include_str!("../../config.example.yaml");

fn directories() -> Directories {
    Directories {
        config: "/home/u/.config/bbackup".into(),
        data: "/home/u/.local/share/bbackup".into(),
        state: "/home/u/.local/state/bbackup".into(),
        cache: "/home/u/.cache/bbackup".into(),
        home: Some("/home/u".into()),
    }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    load::parse(text, Path::new("/etc/bbackup/config.yaml"), &directories(), "thishost")
}

/// The problems as `line:column message`.
fn problems(text: &str) -> Vec<String> {
    match parse(text).unwrap_err() {
        ConfigError::Wrong { problems, .. } => {
            problems.iter().map(|problem| format!("{}:{} {}", problem.at.line, problem.at.column, problem.message)).collect()
        }
        other => vec![other.to_string()],
    }
}

#[test]
fn the_example_shows_the_defaults() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.docker, super::Docker { host: Some("unix:///var/run/docker.sock".to_owned()), ..super::Docker::default() });
    let repository = config.default_repository().unwrap();
    assert_eq!(
        (repository.compression, repository.pack_size, repository.verify_before_write),
        (Some(Compression::default()), Some(PACK_SIZE), true)
    );
    let set = config.set("web").unwrap();
    assert_eq!((&set.scope, set.consistency, set.enabled), (&Scope::default(), Consistency::default(), true));
    assert_eq!(set.filter.one_file_system, Filter::default().one_file_system);
}

#[test]
fn the_example_shows_every_key() {
    let config = parse(EXAMPLE).unwrap();
    let shown = show::yaml(&config);
    for line in shown.lines() {
        let Some((key, _)) = line.split_once(':').filter(|_| !line.trim_start().starts_with('-')) else { continue };
        let key = key.trim();
        assert!(EXAMPLE.contains(&format!("{key}:")), "`{key}` is missing in config.example.yaml");
    }
}

#[test]
fn the_starter_is_good_with_and_without_its_comments() {
    let config = parse(STARTER).unwrap();
    assert!(config.default_repository().unwrap().embedded);
    assert_eq!(config.sets.len(), 1);
    let is_key = |line: &str| !line.starts_with(' ') && line.split_once(':').is_some_and(|(key, _)| !key.contains(' '));
    let commented_out = |line: &str| {
        let (indent, rest) = line.split_once('#').unwrap_or((line, ""));
        let inside = rest.starts_with("  ") && !rest.trim_start().contains(". ");
        (!rest.is_empty() && indent.trim().is_empty() && (is_key(rest) || inside)).then(|| format!("{indent}{rest}"))
    };
    let all: String = STARTER.lines().map(|line| commented_out(line).unwrap_or_else(|| line.to_owned()) + "\n").collect();
    let config = parse(&all).unwrap();
    assert_eq!(config.sets.len(), 2, "{all}");
    assert_eq!(config.host, "docker1");
    assert!(!config.default_repository().unwrap().embedded);
}

#[test]
fn what_show_writes_can_be_read_again() {
    let config = parse(EXAMPLE).unwrap();
    let again = parse(&show::yaml(&config)).unwrap();
    let without_commands = |config: &Config| {
        let mut sets = config.sets.clone();
        sets.iter_mut().flat_map(|set| &mut set.hooks.exec_pre).for_each(|hook| hook.hook.command.clear());
        sets
    };
    assert_eq!(config.sets[0].hooks.exec_pre.len(), 1);
    assert_eq!(without_commands(&again), without_commands(&config));
    assert_eq!(again.docker, config.docker);
    assert_eq!(show::yaml(&again), show::yaml(&config));
}

#[test]
fn show_has_no_secret() {
    let text = "docker: {host: \"tcp://me:hush@far:2375\"}\nrepositories:\n  a: {location: /r, password_command: echo hush}\nsets:\n  s: {containers: [a], hooks: {exec_pre: [{containers: [a], command: mysqldump -phush}]}}\n";
    let shown = show::yaml(&parse(text).unwrap());
    assert!(!shown.contains("hush"), "{shown}");
    assert!(shown.contains("tcp://…@far:2375"));
}

#[test]
fn paths_start_at_the_file_and_the_home() {
    let text =
        "repositories:\n  a: {location: repo, password_file: ~/key, compression: 19, pack_size: 64M}\nsets:\n  s: {paths: [~/data]}\n";
    let config = parse(text).unwrap();
    let repository = config.repository("a").unwrap();
    assert_eq!(repository.location, Path::new("/etc/bbackup/repo"));
    assert!(matches!(&repository.password, Some(PasswordSource::File(path)) if path == Path::new("/home/u/key")));
    assert_eq!((repository.compression, repository.pack_size), (Some(Compression::Level(19)), Some(ByteSize(64 << 20))));
    assert_eq!(config.set("s").unwrap().selection, Selection { paths: vec!["/home/u/data".into()], ..Selection::default() });
    assert_eq!(config.host, "thishost");
}

#[test]
fn hooks_say_what_runs_where() {
    let text = "sets:
  s:
    projects: [shop]
    hooks:
      exec_pre:
      - {containers: [\"shop-*\", \"!shop-web\"], command: sync && true}
      exec_post:
      - {containers: [shop-db], command: [/bin/after, --now], user: \"70\", timeout: 5m}
";
    let config = parse(text).unwrap();
    let hooks = &config.set("s").unwrap().hooks;
    assert_eq!(hooks.exec_pre[0].hook, Hook::of_line("sync && true", "sets.s.hooks.exec_pre"));
    let applies = |name: &str| hooks.exec_pre[0].applies_to(name);
    assert_eq!((applies("shop-db"), applies("shop-web"), applies("other")), (true, false, false));
    let after = &hooks.exec_post[0].hook;
    assert_eq!(
        (after.command.join(" "), after.user.as_deref(), after.timeout),
        ("/bin/after --now".into(), Some("70"), Duration::from_mins(5))
    );

    let hook = |text: &str| format!("sets: {{s: {{projects: [shop], hooks: {{exec_pre: [{text}]}}}}}}\n");
    for (text, expected) in [
        ("{containers: [a]}", "a hook needs a `command`"),
        ("{containers: [a], command: []}", "a hook needs a `command`"),
        ("{command: sync}", "a hook needs `containers`"),
        ("{containers: [\"!a\"], command: sync}", "a hook needs `containers`"),
        ("{containers: [a], comand: sync}", "unknown key `comand` in `sets.s.hooks.exec_pre[0]`"),
        ("{containers: [a], command: 5}", "must be text"),
        ("{containers: [a], command: {x: y}}", "must be text or a list of words"),
        ("{containers: [a], command: sync, timeout: soon}", "is not a duration"),
        ("{containers: [\"[\"], command: sync}", "is no pattern"),
        ("sync", "must be keys with values"),
    ] {
        let problems = format!("{:?}", parse(&hook(text)).unwrap_err());
        assert!(problems.contains(expected), "{text}: {problems}");
    }
}

#[test]
fn without_repositories_there_is_the_embedded_one() {
    let config = parse("docker: {timeout: 90}\n").unwrap();
    let repository = config.default_repository().unwrap();
    assert!(repository.embedded);
    assert_eq!(repository.location, Path::new("/home/u/.local/share/bbackup/repository"));
    assert_eq!(config.docker.timeout, Duration::from_secs(90));
}

#[test]
fn all_problems_come_at_once_with_their_places() {
    let text = "\
hots: x
docker:
  timeout: soon
  timeout: 5m
repositories:
  main:
    engine: borg
    pack_size: 1M
    pasword_file: /k
sets:
  web:
    contianers: [a]
    enabled: yes
    paths: /srv
    retention: {keep_last: -3, keep_within: 7 days, keep_dayly: 1, keep_tags: x, max_size: big}
    notify: {}
    scope: {log_lines: -1, databases: true}
    consistency: stopp
";
    let found = problems(text);
    assert_eq!(
        found,
        [
            "1:1 unknown key `hots`; did you mean `host`?",
            "3:12 `docker.timeout`: `soon` is not a duration: write a number with a unit, for example 90s, 5m or 1h30m",
            "4:3 `timeout` stands here a second time; the first is on line 3",
            "7:13 `repositories.main.engine: borg` is not in this version",
            "8:16 `repositories.main.pack_size` must be a size from 4.0 MiB to 128 MiB, not `1M`",
            "9:5 unknown key `pasword_file` in `repositories.main`; did you mean `password_file`?",
            "12:5 unknown key `contianers` in `sets.web`; did you mean `containers`?",
            "13:14 `sets.web.enabled` must be true or false, not `yes`",
            "14:12 `sets.web.paths` must be a list, not text: write `- …` on lines of their own",
            "15:28 `sets.web.retention.keep_last`: `-3` is not a count: write a whole number, or unlimited",
            "15:45 `sets.web.retention.keep_within`: `7 days` is not a span: write years, months, weeks, days and hours, for example 7d, 2w, 6m or 1y5m7d2h",
            "15:53 unknown key `keep_dayly` in `sets.web.retention`; did you mean `keep_daily`?",
            "15:79 `sets.web.retention.keep_tags` must be a list, not text: write `- …` on lines of their own",
            "15:92 `sets.web.retention.max_size`: `big` is not a size: write a number and one of B, K, M, G, T (powers of 1024), for example 500M or 1.5GiB",
            "16:5 `sets.web.notify` is not in this version",
            "17:24 `sets.web.scope.log_lines` must be a number from 0 to 1000000, not `-1`",
            "17:28 `sets.web.scope.databases` is not in this version",
            "18:18 `sets.web.consistency` must be stop or pause or none, not `stopp`; did you mean `stop`?",
        ]
    );
}

#[test]
fn contradictions_have_their_places_too() {
    let text = "\
repositories:
  a: {location: /a, password_file: /k, password_env: P}
  b: {location: \"sftp:host:/b\"}
  c: {}
sets:
  one: {containers: [x], repository: aa}
  two: {paths: [srv]}
  three: {paths: [/a], repository: a, retention: {min_keep: 3}}
  four: {paths: [/a], repository: a, retention: {keep_last: 0, keep_tags: [\",\"]}}
";
    let found = problems(text);
    for expected in [
        "2:40 a repository has one password",
        "3:7 `sftp:host:/b` is not a folder",
        "4:3 the repository `c` needs a `location`",
        "6:26 there is no repository `aa`; did you mean `a`?",
        "7:17 `srv` must be an absolute path",
        "7:3 the set `two` must say which `repository`",
        "8:39 the retention of `three` cannot be meant: min_keep alone",
        "9:76 `,` names no tag",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected} is not in {found:#?}");
    }
}

#[test]
fn retention_is_read_as_it_is_meant() {
    let of = |text: &str| parse(&format!("sets: {{s: {{paths: [/a], retention: {text}}}}}\n")).unwrap().sets.remove(0).retention;
    assert_eq!(of(""), None);
    assert_eq!(of("{}"), None);
    let expected = super::Retention {
        keep_last: Count::Number(3),
        keep_yearly: Count::Unlimited,
        keep_within: "2w".parse().unwrap(),
        keep_tags: vec![vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]],
        min_keep: 2,
        max_size: Some(ByteSize(1000)),
        ..super::Retention::default()
    };
    let text = "{keep_last: 3, keep_yearly: unlimited, keep_within: 2w, keep_tags: [\"a,b\", c], min_keep: 2, max_size: 1000}";
    assert_eq!(of(text), Some(expected));
    let zero = problems("sets: {s: {paths: [/a], retention: {keep_last: 0}}}\n");
    assert_eq!(
        zero,
        ["1:25 the retention of `s` cannot be meant: they keep nothing: give at least one keep rule that is not 0, or max_size"]
    );
}

#[test]
fn a_wrong_type_hides_nothing_else() {
    let text = "repositories: {default: {location: /r, pack_size: [], password_env: A, password_file: /b}}\nsets:\n  a: {enabled: \"yes\", paths: [not/absolute, 7], repositry: x}\n  b: {projects: [p], repository: nowhere}\n";
    let found = problems(text);
    for part in ["pack_size", "a.enabled", "not/absolute", "repositry", "nowhere", "password", "`7` is a number"] {
        assert!(found.iter().any(|problem| problem.contains(part)), "{part}: {found:#?}");
    }
    assert!(!found.iter().any(|problem| problem.contains("missing") || problem.contains("selects nothing")), "{found:#?}");
}

#[test]
fn wrong_types_are_named() {
    for (text, expected) in [
        ("", "1:1 the file is empty"),
        ("# nothing\n", "1:1 the file is empty"),
        ("- a\n", "1:1 a configuration must be keys with values, not a list"),
        ("just text\n", "1:1 a configuration must be keys with values, not text"),
        ("sets: [a]\n", "1:7 `sets` must be keys with values, not a list"),
        ("host: 42\n", "1:7 `host` must be text, and `42` is a number: put it in quotes"),
        ("host: {a: b}\n", "1:7 `host` must be text, not keys with values"),
        ("sets:\n  \"\\n\": {paths: [/a]}\n", "2:3 `\\n` cannot be a name in `sets`"),
        ("sets:\n  s:\n    paths: [[/a]]\n", "3:13 `sets.s.paths` must be a list of texts, and this is a list"),
        ("sets:\n  s: {}\n", "2:3 the set `s` chooses nothing"),
        ("sets:\n  s: {containers: [\"!x\"]}\n", "2:3 the set `s` chooses nothing"),
        ("sets:\n  s: {containers: [\"[\"]}\n", "2:20 `[` is no pattern"),
        ("sets:\n  s: {paths: [/a], exclude: [ok, \"[\"]}\n", "2:34 the exclude pattern `[` is malformed: a `[` without its `]`"),
        ("sets:\n  s: {paths: [/a], exclude_if_present: [a/b]}\n", "2:41 `a/b` does not name a tag file"),
        (
            "sets:\n  s:\n    paths: [/a]\n    hooks: {exec_post: [{containers: [x], command: y}]}\n",
            "4:5 the hooks of `s` would never run: they run inside of containers, and the set chooses only paths",
        ),
        ("remotes: {}\n", "1:1 `remotes` is not in this version"),
        ("sets:\n\ts: {}\n", "2:1 a tab where only spaces may stand"),
        ("sets: {a: [}\n", "1:12 this is no YAML"),
    ] {
        let found = problems(text);
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{text:?}: {expected} is not in {found:#?}");
    }
    assert!(parse("host: \"42\"\n").is_ok());
    assert!(parse("\u{feff}host: a\n").is_ok());
    assert!(parse("sets:\n").is_ok());
}

#[test]
fn files_are_found_or_missed() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no.yaml");
    assert!(matches!(load::load(Some(&missing), &directories(), "h"), Err(ConfigError::Missing { .. })));
    assert!(matches!(load::load(Some(folder.path()), &directories(), "h"), Err(ConfigError::Unreadable { .. })));
    let path = folder.path().join("yes.yaml");
    std::fs::write(&path, "host: a\n").unwrap();
    assert_eq!(load::load(Some(&path), &directories(), "h").unwrap().host, "a");
    std::fs::write(&path, b"host: \xff\n").unwrap();
    assert!(matches!(load::load(Some(&path), &directories(), "h"), Err(ConfigError::Unreadable { .. })));
}

mod any_input {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_panics(text in "[ a-z:\\-\\[\\]{}\"'&*!#|>\n\t]{0,80}") {
            let _ = super::parse(&text);
        }
    }
}

#[test]
fn every_engine_is_a_host_of_its_own() {
    let text = "\
host: here
docker:
  timeout: 90
  engines:
    nas: {host: \"ssh://nas\", stop_timeout: 5s, swarm: scale}
    lab: {context: lab, hostname: laboratory}
    far: {host: \"tcp://far:2376\", cert_path: tls}
sets:
  a: {containers: [x], engine: nas}
  b: {containers: [x], engine: default}
";
    let config = parse(text).unwrap();
    let of = |name: &str| config.for_engine(Some(name)).map(|config| (config.host, config.docker));
    let (host, docker) = of("nas").unwrap();
    assert_eq!((host.as_str(), docker.host.as_deref()), ("nas", Some("ssh://nas")));
    assert_eq!((docker.timeout, docker.stop_timeout), (Duration::from_secs(90), Some(Duration::from_secs(5))));
    assert_eq!(docker.swarm, SwarmTasks::Scale);
    assert_eq!(of("lab").map(|(host, docker)| (host, docker.context)), Some(("laboratory".to_owned(), Some("lab".to_owned()))));
    assert_eq!(of("far").unwrap().1.cert_path.as_deref(), Some(Path::new("/etc/bbackup/tls")));
    assert_eq!(of("default").unwrap().0, "here");
    assert_eq!(config.for_engine(None).unwrap().docker, config.docker);
    assert!(config.for_engine(Some("nsa")).is_none());
    let again = parse(&show::yaml(&config)).unwrap();
    assert_eq!((again.engines, again.sets), (config.engines, config.sets));
}

#[test]
fn engines_that_contradict_themselves_are_refused() {
    let text = "\
docker:
  host: unix:///x
  context: nas
  engines:
    default: {host: \"ssh://a\"}
    bare: {timeout: 5s}
    twin: {host: \"ssh://b\", hostname: thishost}
    own: {context: c, cert_path: /c, engines: {}}
sets:
  a: {containers: [x], engine: bear}
  b: {paths: [/x], engine: twin}
";
    let found = problems(text);
    for expected in
        ["3:3 give either `host` or `context`", "5:5 `default` is the Engine that `docker` itself describes", "8:38 unknown key `engines`"]
    {
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected}: {found:#?}");
    }
    let found = problems(&text.replace(", engines: {}", ""));
    for expected in [
        "6:5 the Engine `bare` needs a `host` or a `context`",
        "7:5 the Engine `twin` needs a `hostname` of its own: `thishost` is taken",
        "there is no Engine `bear` in `docker.engines`",
        "paths are of this machine",
        "a context has its own certificates: take `cert_path` away",
    ] {
        assert!(found.iter().any(|problem| problem.contains(expected)), "{expected}: {found:#?}");
    }
}
