//! Tests of labels: what they mean, what beats what, and what is said of those that make no sense.

#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;

fn parse(labels: &[(&str, &str)]) -> (Policy, Vec<String>) {
    Policy::parse("web", &labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

/// A policy of labels that are all in order.
fn good(labels: &[(&str, &str)]) -> Policy {
    let (policy, warnings) = parse(labels);
    assert_eq!(warnings, Vec::<String>::new(), "{labels:?}");
    policy
}

fn words(hook: Option<&Hook>) -> Vec<&str> {
    hook.unwrap().command.iter().map(String::as_str).collect()
}

#[test]
fn good_labels_become_a_policy() {
    let policy = good(&[
        ("bbackup.enable", "Yes"),
        ("bbackup.set", "nightly, weekly,"),
        ("bbackup.pause", "true"),
        ("bbackup.stop-timeout", "90s"),
        ("bbackup.priority", "-3"),
        ("bbackup.exclude", "*.tmp,cache/**"),
        ("bbackup.volumes.shop_db.data.exclude", "true"),
        ("bbackup.volumes.logs.exclude", "*.gz"),
        ("bbackup.exec-pre", "sync && echo done"),
        ("bbackup.exec-pre.user", "postgres"),
        ("bbackup.exec-pre.timeout", "5m"),
        ("bbackup.exec-post", "[\"/bin/after\", \"a b\"]"),
        ("com.example", "x"),
    ]);
    assert_eq!(policy.enable, Some(true));
    assert_eq!(policy.sets, ["nightly", "weekly"]);
    assert_eq!(policy.consistency, Some(Consistency::Pause));
    assert_eq!((policy.stop_timeout, policy.priority), (Some(Duration::from_secs(90)), Some(-3)));
    assert_eq!(policy.exclude, ["*.tmp", "cache/**"]);
    assert_eq!(policy.leaves_out("shop_db.data").unwrap(), "bbackup.volumes.shop_db.data.exclude");
    assert_eq!(policy.leaves_out("logs"), None);
    assert_eq!(policy.volumes["logs"], VolumeExclude::Patterns(vec!["*.gz".to_owned()]));
    assert_eq!(words(policy.exec_pre.as_ref()), ["sh", "-c", "sync && echo done"]);
    let pre = policy.exec_pre.as_ref().unwrap();
    assert_eq!(
        (pre.user.as_deref(), pre.timeout, pre.asked_by.as_str()),
        (Some("postgres"), Duration::from_mins(5), "label bbackup.exec-pre")
    );
    assert_eq!(words(policy.exec_post.as_ref()), ["/bin/after", "a b"]);
    assert!(policy.unsupported("web").is_empty());
    assert_eq!(
        good(&[("bbackup.database", "postgres")]).unsupported("web"),
        ["container web: label bbackup.database is not in this version and is ignored"]
    );
}

#[test]
fn bad_labels_are_warnings_that_name_container_and_label() {
    for (key, value) in [
        ("bbackup.enable", "maybe"),
        ("bbackup.stop", ""),
        ("bbackup.stop-timeout", "soon"),
        ("bbackup.priority", "high"),
        ("bbackup.exclude", "true"),
        ("bbackup.stpo", "true"),
        ("bbackup.volumes..exclude", "x"),
        ("bbackup.exec-pre", " "),
        ("bbackup.exec-pre", "[1, 2]"),
        ("bbackup.exec-post", "[\"\"]"),
        ("docker-volume-backup.stop-during-backup", ""),
        ("docker-volume-backup.archive-pre", "sh -c 'never closed"),
        ("stack-back.volumes", "some"),
        ("stack-back.volumes.stop-during-backup", "perhaps"),
        ("stack-back.postgres", "maybe"),
        ("nautical-backup.enable", "2"),
        ("nautical-backup.stop-before-backup", "x"),
        ("nautical-backup.stop-timeout", "x"),
        ("nautical-backup.group.a.priority", "first"),
    ] {
        let (policy, warnings) = parse(&[(key, value)]);
        let policy = Policy { enable_label: None, ..policy };
        assert_eq!(policy, Policy::default(), "{key}");
        assert_eq!(warnings.len(), 1, "{key}: {warnings:?}");
        assert!(warnings[0].starts_with(&format!("container web: label {key}: ")), "{}", warnings[0]);
    }
    let (policy, warnings) = parse(&[("bbackup.exec-pre.user", "root")]);
    assert_eq!((policy, warnings.len()), (Policy::default(), 1), "{warnings:?}");
    // A command may hold a password.
    assert!(!parse(&[("bbackup.exec-pre", "[\"mysqldump\", \"-pPa55w0rd\"")]).1[0].contains("Pa55w0rd"));
}

#[test]
fn a_malformed_pattern_leaves_nothing_out_and_is_told() {
    let (policy, warnings) = parse(&[("bbackup.exclude", "*.tmp,[a-"), ("bbackup.volumes.logs.exclude", "ok,[]")]);
    assert_eq!(policy.exclude, ["*.tmp"]);
    assert_eq!(policy.volumes["logs"], VolumeExclude::Patterns(vec!["ok".to_owned()]));
    let told = |label: &str, pattern: &str| format!("container web: label {label}: the exclude pattern `{pattern}` is malformed: ");
    for (warning, told) in warnings.iter().zip([told("bbackup.exclude", "[a-"), told("bbackup.volumes.logs.exclude", "[]")]) {
        assert!(warning.starts_with(&told), "{warning}");
    }
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn stop_beats_pause_and_false_means_neither() {
    assert_eq!(good(&[("bbackup.stop", "false")]).consistency, Some(Consistency::None));
    assert_eq!(good(&[("bbackup.stop", "false"), ("bbackup.pause", "true")]).consistency, Some(Consistency::Pause));
    let (policy, warnings) = parse(&[("bbackup.stop", "true"), ("bbackup.pause", "true")]);
    assert_eq!((policy.consistency, warnings.len()), (Some(Consistency::Stop), 1));
}

#[test]
fn labels_of_offen_are_understood() {
    let stop = |value| good(&[("docker-volume-backup.stop-during-backup", value)]).consistency;
    assert_eq!((stop("true"), stop("false"), stop("nightly")), (Some(Consistency::Stop), Some(Consistency::None), Some(Consistency::Stop)));
    let policy = good(&[
        ("docker-volume-backup.archive-pre", "/bin/sh -c 'mysqldump --all > /b/dump.sql'"),
        ("docker-volume-backup.archive-pre.user", "git"),
        ("docker-volume-backup.exec-post", "rm -rf /b"),
        ("docker-volume-backup.exec-label", "database"),
        ("docker-volume-backup.copy-post", "upload"),
    ]);
    assert_eq!(words(policy.exec_pre.as_ref()), ["/bin/sh", "-c", "mysqldump --all > /b/dump.sql"]);
    assert_eq!(policy.exec_pre.as_ref().unwrap().user.as_deref(), Some("git"));
    assert_eq!(words(policy.exec_post.as_ref()), ["rm", "-rf", "/b"]);
    assert_eq!(policy.unsupported("web").len(), 1, "{:?}", policy.unsupported("web"));
    let both = good(&[("docker-volume-backup.exec-pre", "old"), ("docker-volume-backup.archive-pre", "new")]);
    assert_eq!(words(both.exec_pre.as_ref()), ["new"]);
    let no_restart = good(&[("docker-volume-backup.stop-during-backup-no-restart", "true")]);
    assert_eq!((no_restart.consistency, no_restart.unsupported("web").len()), (Some(Consistency::Stop), 1));
}

#[test]
fn labels_of_stack_back_are_understood() {
    assert_eq!(good(&[("stack-back.volumes.stop-during-backup", "True")]).consistency, Some(Consistency::Stop));
    assert_eq!(good(&[("stack-back.volumes", "True")]).does_not_choose("any"), None);
    assert_eq!(good(&[("stack-back.volumes", "False")]).does_not_choose("any"), Some("stack-back.volumes"));
    let include = good(&[("stack-back.volumes.include", "media, files"), ("stack-back.volumes.exclude", "media")]);
    assert_eq!((include.does_not_choose("shop_media"), include.does_not_choose("shop_db")), (None, Some("stack-back.volumes.include")));
    let exclude = good(&[("stack-back.volumes.exclude", "cache")]);
    assert_eq!((exclude.does_not_choose("shop_cache"), exclude.does_not_choose("shop_db")), (Some("stack-back.volumes.exclude"), None));
    assert_eq!(good(&[("stack-back.postgres", "true")]).unsupported("web").len(), 1);
    assert_eq!(good(&[("stack-back.postgres", "false"), ("stack-back.process-shop", "True")]), Policy::default());
}

#[test]
fn labels_of_nautical_are_understood() {
    let policy = good(&[
        ("nautical-backup.enable", "false"),
        ("nautical-backup.stop-before-backup", "false"),
        ("nautical-backup.stop-timeout", "25"),
        ("nautical-backup.group", "paperless,authentic"),
        ("nautical-backup.group.paperless.priority", "90"),
        ("nautical-backup.group.authentic.priority", "105"),
        ("nautical-backup.lifecycle.before", "/bin/sh ./script.sh"),
        ("nautical-backup.lifecycle.before.timeout", "1m"),
        ("nautical-backup.lifecycle.after", "echo 'well done'"),
        ("nautical-backup.lifecycle.after.timeout", "0"),
        ("nautical-backup.rsync-custom-args", "--exclude=x"),
    ]);
    assert_eq!((policy.enable, policy.enable_label()), (Some(false), "nautical-backup.enable"));
    assert_eq!(policy.consistency, Some(Consistency::None));
    assert_eq!((policy.stop_timeout, policy.priority), (Some(Duration::from_secs(25)), Some(105)));
    assert_eq!(words(policy.exec_pre.as_ref()), ["/bin/sh", "./script.sh"]);
    assert_eq!(policy.exec_pre.as_ref().unwrap().timeout, Duration::from_mins(1));
    assert_eq!(words(policy.exec_post.as_ref()), ["echo", "well done"]);
    assert_eq!(policy.exec_post.as_ref().unwrap().timeout, Duration::MAX, "0 turns the limit off");
    assert!(policy.unsupported("web").is_empty());
    assert_eq!(good(&[("nautical-backup.exec.before", "curl x")]).unsupported("web").len(), 1);
}

#[test]
fn our_own_label_beats_an_alias() {
    let aliases: &[(&str, &str)] = &[
        ("docker-volume-backup.stop-during-backup", "true"),
        ("docker-volume-backup.archive-pre", "theirs"),
        ("nautical-backup.enable", "false"),
        ("nautical-backup.stop-timeout", "5"),
        ("nautical-backup.group.a.priority", "1"),
        ("nautical-backup.lifecycle.after", "theirs"),
    ];
    let own: &[(&str, &str)] = &[
        ("bbackup.pause", "true"),
        ("bbackup.exec-pre", "ours"),
        ("bbackup.enable", "true"),
        ("bbackup.stop-timeout", "7"),
        ("bbackup.priority", "2"),
    ];
    let policy = good(&[aliases, own].concat());
    assert_eq!(policy.consistency, Some(Consistency::Pause));
    assert_eq!(words(policy.exec_pre.as_ref()), ["sh", "-c", "ours"]);
    assert_eq!((policy.enable, policy.enable_label()), (Some(true), "bbackup.enable"));
    assert_eq!((policy.stop_timeout, policy.priority), (Some(Duration::from_secs(7)), Some(2)));
    assert_eq!(words(policy.exec_post.as_ref()), ["theirs"], "where we say nothing, theirs counts");
    // A label of ours that makes no sense does not silence theirs.
    let (policy, warnings) = parse(&[("bbackup.stop", "?"), ("docker-volume-backup.stop-during-backup", "true")]);
    assert_eq!((policy.consistency, warnings.len()), (Some(Consistency::Stop), 1));
}

#[test]
fn tools_that_contradict_each_other_stop() {
    let (policy, warnings) = parse(&[("nautical-backup.stop-before-backup", "false"), ("stack-back.volumes.stop-during-backup", "true")]);
    assert_eq!((policy.consistency, warnings.len()), (Some(Consistency::Stop), 1));
    let agreed = good(&[("nautical-backup.stop-before-backup", "true"), ("docker-volume-backup.stop-during-backup", "true")]);
    assert_eq!(agreed.consistency, Some(Consistency::Stop));
}

#[test]
fn a_service_says_for_itself_whether_it_is_scaled() {
    let of = |list: &[(&str, &str)]| {
        let labels = list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (policy, warnings) = Policy::of_service("web", &labels);
        (policy.swarm, policy.consistency, warnings)
    };
    let (scale, pause) = (Some(SwarmTasks::Scale), Some(SwarmTasks::Pause));
    let offen = "docker-volume-backup.stop-during-backup";
    assert_eq!(of(&[]), (None, None, Vec::new()));
    assert_eq!(of(&[("bbackup.swarm", " Scale ")]), (scale, None, Vec::new()));
    assert_eq!(of(&[(offen, "nightly")]), (scale, Some(Consistency::Stop), Vec::new()));
    assert_eq!(of(&[(offen, "false")]), (None, None, Vec::new()));
    assert_eq!(of(&[(offen, "true"), ("bbackup.swarm", "pause")]), (pause, Some(Consistency::Stop), Vec::new()));
    let wrong = vec!["service web: label bbackup.swarm: `drain` is neither pause nor scale; the label is ignored".to_owned()];
    assert_eq!(of(&[("bbackup.swarm", "drain")]), (None, None, wrong));
    let labels = [("bbackup.swarm".to_owned(), "scale".to_owned())].into();
    assert_eq!(Policy::parse("web.1", &labels).0.swarm, scale, "and so do its containers");
}
