//! What is typed and what is said: first steps with an empty home, wrong input, exit codes, JSON, configuration files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::home::{Home, PASSWORD, Summary, files_below, find_restored, size_of};
use crate::support::manifest::Manifest;
use crate::support::tree;

#[test]
fn a_new_user_needs_one_command() {
    let home = Home::new();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 4);
    let first = home.bare(["backup", "--paths"]).arg(&folder).run().success();
    let key = files_below(&home.path("config")).into_iter().find(|path| path.ends_with("bbackup/repository.key")).unwrap();
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let _ = first.says("repository.key").says_nothing_of(fs::read_to_string(&key).unwrap().trim());
    assert!(home.path("data/bbackup/repository/config").exists());
    let _ = home.bare(["snapshots"]).run().success().says(folder.to_str().unwrap());
    let _ = home.bare(["check", "--read-data"]).run().success();
    let _ = home.bare(["restore", "latest", "--to"]).arg(home.path("out")).run().success();
    Manifest::of(&folder).assert_equals(&Manifest::of(&find_restored(&home.path("out"), &folder)));
    // Nothing was written anywhere else.
    assert!(files_below(&home.path("home")).is_empty());
}

#[test]
fn help_and_version_cost_nothing() {
    let home = Home::new();
    let _ = home.bare(["--version"]).run().success().says(env!("CARGO_PKG_VERSION"));
    for command in ["--help", "backup --help", "restore --help", "check --help", "config --help"] {
        let outcome = home.bare(command.split(' ')).run().success();
        assert!(outcome.text().contains("Usage"), "{}", outcome.describe());
    }
    assert!(files_below(&home.path("data")).is_empty() && files_below(&home.path("config")).is_empty());
}

#[test]
fn a_wrong_password_is_12() {
    let home = Home::with_repository();
    fs::write(home.password_file(), "wrong\n").unwrap();
    for command in ["snapshots", "check", "unlock"] {
        let _ = home.bbackup([command]).run().exits(12).says("password").says_nothing_of(PASSWORD);
    }
}

#[test]
fn no_repository_is_10() {
    let home = Home::new();
    let folder = home.make_folder("tree");
    for command in ["snapshots", "check", "unlock", "ls latest", "restore latest --to x"] {
        let _ = home.bbackup(command.split(' ')).run().exits(10).says(home.repository().to_str().unwrap());
    }
    let _ = home.bbackup(["backup", "--paths"]).arg(&folder).run().exits(10);
    assert!(!home.repository().exists(), "a repository was made that nobody asked for");
    // A folder with other things in it is no repository either.
    fs::create_dir(home.repository()).unwrap();
    fs::write(home.repository().join("holiday.jpg"), b"photo").unwrap();
    let _ = home.bbackup(["snapshots"]).run().exits(10);
}

#[test]
fn init_never_touches_what_is_there() {
    let home = Home::with_repository();
    let before = Manifest::of(&home.repository());
    let outcome = home.bbackup(["init"]).run();
    assert_eq!(outcome.code(), Some(1), "{}", outcome.describe());
    before.assert_equals(&Manifest::of(&home.repository()));
}

#[test]
fn a_password_comes_from_file_environment_or_command() {
    let home = Home::with_repository();
    let bare = || home.bare(["snapshots", "--repo"]).arg(home.repository());
    let _ = bare().arg("--password-file").arg(home.password_file()).run().success();
    let _ = bare().env("RESTIC_PASSWORD", PASSWORD).run().success();
    let command = format!("cat {}", home.password_file().display());
    let _ = bare().env("RESTIC_PASSWORD_COMMAND", command).run().success();
    let outcome = bare().run();
    assert!(!matches!(outcome.code(), Some(0)), "no password at all: {}", outcome.describe());
}

#[test]
fn wrong_usage_is_1_and_says_what_was_meant() {
    let home = Home::with_repository();
    let _ = home.bbackup(["--no-such-flag"]).run().exits(1);
    let _ = home.bbackup(["bakup"]).run().exits(1).says("backup");
    let usage = home.bbackup(["--json", "archives", "--no-such-flag"]).run().exits(1).json_lines().pop().unwrap();
    assert_eq!(usage["command"], "snapshots");
    let _ = home.bbackup(["restore"]).run().exits(1);
    let _ = home.bbackup(["restore", "latest", "--to"]).arg(home.path("out")).run().exits(1);
    let _ = home.bbackup(["restore", "ffffffff", "--to"]).arg(home.path("out")).run().exits(1).says("ffffffff");
    let _ = home.bbackup(["ls", "not-an-id"]).run().exits(1);
    let _ = home.bbackup(["backup", "no-such-set"]).run().exits(1).says("no-such-set");
    let _ = home.bbackup(["check", "--read-data-subset", "5/3"]).run().exits(1);
    let _ = home.bbackup(["check", "--read-data-subset", "0/0"]).run().exits(1);
    assert!(!home.path("out").exists());
}

#[test]
fn other_names_of_commands_do_the_same() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::many(&folder, 5);
    let _ = home.bbackup(["create", "--paths"]).arg(&folder).run().success();
    for alias in ["list-backups", "archives"] {
        let _ = home.bbackup([alias]).run().success().says(folder.to_str().unwrap());
    }
    let _ = home.bbackup(["info"]).run().success().says("snapshots");
    let _ = home.bbackup(["extract", "latest", "--to"]).arg(home.path("out")).run().success();
    Manifest::of(&folder).assert_equals(&Manifest::of(&find_restored(&home.path("out"), &folder)));
    let _ = home.bbackup(["break-lock"]).run().success();
}

#[test]
fn a_first_backup_that_is_refused_makes_nothing() {
    let home = Home::new();
    let _ = home.bare(["backup", "--all"]).run().exits(3);
    let _ = home.bare(["backup"]).run().exits(3);
    let _ = home.bare(["backup", "--paths"]).arg(home.path("nowhere")).run().exits(1).says("nowhere");
    assert!(files_below(&home.path("data")).is_empty() && files_below(&home.path("config")).is_empty());
}

#[test]
fn restics_environment_means_what_it_means_to_restic() {
    let home = Home::new();
    // A bare word is a folder, not a name of the configuration.
    let restic = |arguments: &[&str]| home.bare(arguments).env("RESTIC_REPOSITORY", "word").env("RESTIC_PASSWORD", PASSWORD).run();
    let _ = restic(&["init"]).success();
    let _ = restic(&["snapshots"]).success();
}

#[test]
fn the_environment_is_read_or_refused_never_ignored() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    fs::write(folder.join("zeros"), vec![7; 4 << 20]).unwrap();
    // Empty is how a variable is taken away for one command.
    let _ = home.bbackup(["snapshots"]).env("BBACKUP_CONFIG", "").env("BBACKUP_OUTPUT", "").run().success();
    let _ = home.bbackup(["snapshots"]).env("BBACKUP_CONFIG", home.path("none.yaml")).run().exits(2).says("none.yaml");
    for (name, value) in [("BBACKUP_OUTPUT", "xml"), ("RESTIC_COMPRESSION", "hard"), ("RESTIC_PACK_SIZE", "1000")] {
        let _ = home.bbackup(["snapshots"]).env(name, value).run().exits(1).says(name).says(value);
    }
    // A file says where the repository is; both ways at once are refused as restic does.
    let place = home.path("place");
    fs::write(&place, format!("{}\n", home.repository().display())).unwrap();
    let by_file = || home.bare(["snapshots"]).env("RESTIC_REPOSITORY_FILE", &place).env("RESTIC_PASSWORD_FILE", home.password_file());
    let _ = by_file().run().success();
    let _ = by_file().env("RESTIC_REPOSITORY", home.repository()).run().exits(1).says("RESTIC_REPOSITORY_FILE");
    fs::write(&place, "\n").unwrap();
    let _ = by_file().run().exits(1).says("RESTIC_REPOSITORY_FILE");
    // The host's name, for new snapshots and for `latest`.
    let _ = home.bbackup(["backup", "--paths"]).arg(&folder).env("RESTIC_HOST", "elsewhere").run().success();
    let _ = home.bbackup(["ls", "latest", "--host", "elsewhere"]).run().success().says("zeros");
    let _ = home.bbackup(["ls", "latest"]).env("RESTIC_HOST", "elsewhere").run().success().says("zeros").says_nothing_of("elsewhere");
    // What the configuration says wins over the variable, which wins over the default.
    let size = |name: &str, compression: &str, variable: &str| {
        let repository = home.path(name);
        let config = home.path(format!("{name}.yaml"));
        let said = format!(
            "repositories: {{default: {{location: {}, password_file: {}{compression}}}}}\n",
            repository.display(),
            home.password_file().display()
        );
        fs::write(&config, said).unwrap();
        let run = |words: &[&str]| {
            home.bare(words).env("BBACKUP_CONFIG", &config).env("RESTIC_COMPRESSION", variable).env("RESTIC_PACK_SIZE", "4")
        };
        let _ = run(&["init"]).run().success();
        let _ = run(&["backup", "--paths"]).arg(&folder).run().success();
        size_of(&repository)
    };
    assert!(size("by-default", "", "") < 1 << 20);
    assert!(size("by-variable", "", "off") > 3 << 20);
    assert!(size("by-configuration", ", compression: max", "off") < 1 << 20);
}

#[test]
fn two_first_backups_at_once_share_what_is_made() {
    let home = Home::new();
    let folder = home.make_folder("tree");
    tree::many(&folder, 5);
    let start = || home.bare(["backup", "--paths"]).arg(&folder).arg(&folder).spawn();
    let running: Vec<_> = (0..4).map(|_| start()).collect();
    for one in running {
        // A path that is given twice is no problem either.
        let _ = one.wait().success().says("more than once");
    }
    let listed = home.bare(["snapshots", "--json"]).run().success().json_lines().pop().unwrap()["data"].to_string();
    assert_eq!(listed.matches("\"run:").count(), 4, "{listed}");
    let _ = home.bare(["check"]).run().success();
    assert_eq!(files_below(&home.path("data/bbackup/repository/keys")).len(), 1);
}

#[test]
fn an_address_with_a_password_is_shown_without_it() {
    let home = Home::new();
    let address = "rest:https://user:s3cret@host/";
    for words in [vec!["snapshots", "--repo", address], vec!["snapshots", address], vec!["copy", "--to", address], vec![address]] {
        for json in [&[][..], &["--json"]] {
            let outcome = home.bare(words.iter().chain(json)).run();
            assert_ne!(outcome.code(), Some(0), "{}", outcome.describe());
            let _ = outcome.says_nothing_of("s3cret");
        }
    }
    let _ = home.bare(["snapshots"]).env("RESTIC_REPOSITORY", address).run().exits(1).says("user:…@host").says_nothing_of("s3cret");
    let config = home.path("a.yaml");
    fs::write(&config, "repositories: {a: {location: \"https://user:s3cret@host/x\"}}\n").unwrap();
    for command in ["config check", "config show", "snapshots --json", "snapshots --log-file log"] {
        let outcome = home.bare(command.split(' ')).arg("--config").arg(&config).run();
        assert_eq!(outcome.code(), Some(2), "{}", outcome.describe());
        let _ = outcome.says("host/x").says_nothing_of("s3cret");
    }
}

#[test]
fn an_ambiguous_prefix_lists_what_it_could_mean() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    let mut seen: Vec<String> = Vec::new();
    // Among seventeen ids two begin with the same digit.
    let (one, other) = loop {
        fs::write(folder.join("file"), seen.len().to_string()).unwrap();
        let new = home.back_up(&folder).snapshot;
        if let Some(twin) = seen.iter().find(|old| old[..1] == new[..1]) {
            break (twin.clone(), new);
        }
        seen.push(new);
    };
    let _ = home.bbackup(["ls", &one[..1]]).run().exits(1).says(&one[..8]).says(&other[..8]);
    let _ = home.bbackup(["ls", &one[..12]]).run().success();
}

#[test]
fn without_docker_it_is_3_but_paths_still_work() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    fs::write(folder.join("file"), b"file").unwrap();
    let _ = home.bbackup(["backup", "--all"]).run().exits(3).says("no-docker.sock");
    let _ = home.bbackup(["list-containers"]).run().exits(3);
    let _ = home.back_up(&folder);
}

#[test]
fn json_is_one_value_per_line_and_ends_with_an_envelope() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 4);
    for (arguments, code) in [
        (vec!["backup", "--json", "--paths", folder.to_str().unwrap()], 0),
        (vec!["snapshots", "--json"], 0),
        (vec!["ls", "latest", "--json"], 0),
        (vec!["check", "--json"], 0),
        (vec!["stats", "--json"], 0),
        (vec!["ls", "ffffffff", "--json"], 1),
        (vec!["list-backup-sets", "--json"], 0),
    ] {
        let outcome = home.bbackup(&arguments).run().exits(code);
        let lines = outcome.json_lines();
        let envelope = lines.last().unwrap_or_else(|| panic!("{}", outcome.describe()));
        assert_eq!(envelope["schema_version"], 1, "{}", outcome.describe());
        assert_eq!(envelope["success"], code == 0, "{}", outcome.describe());
        assert_eq!(envelope["command"], arguments[0], "{}", outcome.describe());
        assert!(envelope["errors"].is_array(), "{}", outcome.describe());
        assert_eq!(envelope["errors"].as_array().unwrap().is_empty(), code == 0, "{}", outcome.describe());
    }
    let by_environment = home.bbackup(["snapshots"]).env("BBACKUP_OUTPUT", "json").run().success();
    assert!(!by_environment.json_lines().is_empty());
}

#[test]
fn names_from_a_backup_never_reach_the_terminal_raw() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::names(&folder.join("names"));
    let summary = home.back_up(&folder);
    let listed = home.bbackup(["ls", &summary.snapshot]).run().success();
    assert!(!listed.stdout.contains(&0x1b), "an escape sequence from a file name was printed");
    assert!(!listed.stdout.contains(&0x07), "a control character from a file name was printed");
    let lines = listed.text().lines().filter(|line| line.contains("new")).count();
    assert_eq!(lines, 1, "a line end in a name makes two lines of it:\n{}", listed.text());
    // Nor do those from arguments and configurations, also not in errors.
    let missing = home.bbackup(["backup", "--paths", "/no\x1b[2J\nwhere"]).run().exits(1).says("/no\\x1b[2J\\nwhere");
    assert!(!missing.stderr.contains(&0x1b), "{}", missing.describe());
    let wrong = config(&home, "\"ho\\e[2Jst\": 1\n", &["config", "check"]).exits(2).says("ho\\x1b[2Jst");
    assert!(!wrong.stderr.contains(&0x1b), "{}", wrong.describe());
}

#[test]
fn tags_and_hosts_choose_snapshots() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    fs::write(folder.join("file"), b"one").unwrap();
    let first = Summary::of(&home.bbackup(["backup", "--json", "--tag", "weekly", "--paths"]).arg(&folder).run().success());
    fs::write(folder.join("file"), b"two").unwrap();
    let second = home.back_up(&folder);
    let listed = home.bbackup(["snapshots", "--tag", "weekly"]).run().success();
    assert!(listed.text().contains(&first.snapshot[..8]) && !listed.text().contains(&second.snapshot[..8]), "{}", listed.text());
    let file = folder.join("file");
    let dumped = home.bbackup(["dump", "latest", "--tag", "weekly"]).arg(&file).run().success();
    assert_eq!(dumped.stdout, b"one");
    let dumped = home.bbackup(["dump", "latest"]).arg(&file).run().success();
    assert_eq!(dumped.stdout, b"two");
}

#[test]
fn completions_are_made() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let outcome = home.bare(["completions", shell]).run().success();
        assert!(outcome.text().contains("list-backup-sets"), "{shell}");
    }
}

/// Writes a configuration and returns the outcome of looking at it.
fn config(home: &Home, text: &str, arguments: &[&str]) -> crate::support::run::Outcome {
    let path = home.path("bbackup.yaml");
    fs::write(&path, text).unwrap();
    home.bare(arguments).env("BBACKUP_CONFIG", path).run()
}

#[test]
fn a_bad_configuration_is_2_with_every_problem_at_once() {
    let home = Home::new();
    let outcome = config(
        &home,
        "repositories:\n  default:\n    location: /tmp/x\n    pasword_file: /tmp/y\n    pack_size: many\nsets:\n  web:\n    path: [/srv]\n    enabled: perhaps\n",
        &["config", "check"],
    );
    let outcome =
        outcome.exits(2).says("bbackup.yaml").says("pasword_file").says("password_file").says("4:5").says("5:").says("8:5").says("9:");
    assert!(!outcome.errors().contains("panicked"));
}

#[test]
fn broken_yaml_is_2_with_its_place() {
    let home = Home::new();
    for (text, place) in [
        ("sets:\n\tweb: {}\n", "2:"),
        ("host: a\nhost: b\n", "2:"),
        ("sets: [\n", ":"),
        ("just text\n", "1:"),
        ("sets:\n  web:\n    paths: /srv\n", "3:"),
        ("repositories: {default: {location: 5}}\n", "1:"),
        ("sets:\n  web:\n    paths: [/srv]\n    exclude: [\"[\"]\n", "4:"),
        ("\u{0}", ":"),
    ] {
        for command in [["config", "check"].as_slice(), &["snapshots"], &["backup"]] {
            let outcome = config(&home, text, command).exits(2);
            assert!(
                outcome.errors().contains(&format!("bbackup.yaml:{}", place.trim_start_matches(':'))),
                "{text:?}\n{}",
                outcome.describe()
            );
            assert!(!outcome.errors().contains("panicked"), "{}", outcome.describe());
        }
    }
}

#[test]
fn what_fails_of_several_sets_is_named() {
    let home = Home::new();
    let folder = home.make_folder("data");
    let engines = "nas: {host: \"unix:///nowhere/docker.sock\"}, box: {host: \"unix:///gone.sock\"}";
    let text = format!(
        "docker: {{host: \"unix:///none.sock\", engines: {{{engines}}}}}\nsets:\n  big: {{containers: [\"*\"], engine: nas}}\n  \
         large: {{containers: [\"*\"], engine: nas}}\n  other: {{containers: [\"*\"], engine: box}}\n  here: {{projects: [x]}}\n  \
         small: {{paths: [{}]}}\n  lost: {{paths: [/nowhere/at/all]}}\n",
        folder.display()
    );
    let outcome = config(&home, &text, &["backup"]).exits(4).says("sets `big`, `large` of the Engine `nas`: ");
    let errors = outcome.errors();
    let (_, end) = errors.split_once("Nothing was saved of ").unwrap();
    let closing: Vec<&str> = std::iter::once(end.lines().next().unwrap())
        .chain(end.lines().skip(1).map(|line| line.strip_prefix("Nothing was saved of ").unwrap()))
        .collect();
    let expected = [
        ("set `big` of the Engine `nas`: ", "/nowhere/docker.sock"),
        ("set `large` of the Engine `nas`: ", "/nowhere/docker.sock"),
        ("set `other` of the Engine `box`: ", "/gone.sock"),
        ("set `here`: ", "/none.sock"),
        ("set `lost`: ", "/nowhere/at does not exist"),
    ];
    for (what, why) in expected {
        assert!(closing.iter().any(|line| line.starts_with(what) && line.contains(why)), "{what}{why}\n{}", outcome.describe());
    }
    assert_eq!(closing.len(), expected.len(), "{}", outcome.describe());
    let envelope = config(&home, &text, &["backup", "--json"]).exits(4).json_lines().pop().unwrap();
    assert_eq!(envelope["data"]["not_saved"].as_array().unwrap().len(), expected.len(), "{envelope}");
    let _ = config(&home, &text, &["backup", "--json", "big"]).exits(3).says_nothing_of("set `big`");
}

#[test]
fn an_empty_configuration_is_a_mistake() {
    let home = Home::new();
    for text in ["", "# nothing\n", "---\n"] {
        let _ = config(&home, text, &["config", "check"]).exits(2).says("empty").says("init-config");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_2() {
    let home = Home::new();
    let _ = home.bare(["snapshots", "--config"]).arg(home.path("none.yaml")).run().exits(2).says("none.yaml");
}

#[test]
fn what_is_not_in_this_version_is_refused_by_name() {
    let home = Home::new();
    let _ = config(&home, "schedules:\n  night: {cron: '0 3 * * *'}\n", &["config", "check"])
        .exits(2)
        .says("schedules")
        .says("not in this version");
    for (line, named) in [
        ("backup --all --remote nas", "`--remote`"),
        ("backup --remote=nas", "`--remote`"),
        ("backup -r nas", "`-r`"),
        ("backup --detach", "`--detach`"),
        ("--standalone backup", "`--standalone`"),
        ("restore latest --force", "`--force`"),
        ("--plain", "`--plain`"),
        ("scheduler", "`bbackup scheduler`"),
        ("jobs list", "`bbackup jobs`"),
    ] {
        let _ = home.bare(line.split(' ')).run().exits(1).says(named).says("not in this version");
        let outcome = home.bare(line.split(' ')).env("BBACKUP_OUTPUT", "json").run().exits(1);
        assert_eq!(outcome.json_lines().pop().unwrap()["errors"][0]["code"], "not_in_this_version", "{line}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let home = Home::new();
    let text = "docker: {host: \"tcp://me:TopSecret@far:2375\"}\nrepositories:\n  default:\n    location: /tmp/x\n    password_command: echo TopSecret\n";
    for command in [&["config", "show"][..], &["config", "show", "--json"], &["config", "check", "--json"]] {
        let _ = config(&home, text, command).success().says_nothing_of("TopSecret");
    }
    let _ = config(&home, text, &["config", "show"]).says("password_command").says("far:2375");
    let path = home.path("bbackup.yaml");
    fs::write(&path, "repositories:\n  default:\n    location: /tmp/none\n    password_env: MY_SECRET\n").unwrap();
    let outcome = home.bare(["config", "show"]).env("BBACKUP_CONFIG", &path).env("MY_SECRET", "TopSecret").run().success();
    let _ = outcome.says("MY_SECRET").says_nothing_of("TopSecret");
}

#[test]
fn a_set_of_the_configuration_is_backed_up() {
    let home = Home::new();
    let folder = home.make_folder("tree");
    tree::many(&folder, 30);
    fs::write(folder.join("a.tmp"), b"left out").unwrap();
    let path = home.path("bbackup.yaml");
    let text = format!(
        "host: somewhere\nrepositories:\n  default:\n    location: {}\n    password_file: {}\nsets:\n  files:\n    paths: [{}]\n    exclude: ['*.tmp']\n  off:\n    enabled: false\n    paths: [/nowhere]\n",
        home.repository().display(),
        home.password_file().display(),
        folder.display()
    );
    fs::write(&path, text).unwrap();
    let run = |arguments: &[&str]| home.bare(arguments).env("BBACKUP_CONFIG", &path).run();
    let _ = run(&["init"]).success();
    let _ = run(&["list-backup-sets"]).success().says("files").says("off");
    let summary = Summary::of(&run(&["backup", "--json"]).success());
    let snapshots = run(&["snapshots", "--json"]).success().text();
    assert!(snapshots.contains("set:files") && snapshots.contains("somewhere"), "{snapshots}");
    let listed = run(&["ls", &summary.snapshot]).success().text();
    assert!(listed.contains("file-29") && !listed.contains("a.tmp"), "{listed}");
    let _ = run(&["backup", "flies"]).says("files");
}

#[test]
fn the_command_that_brings_it_back_can_be_typed_as_it_is() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::many(&folder, 3);
    let path = home.path("it's mine.yaml");
    let repository = format!("{{location: {}, password_file: {}}}", home.repository().display(), home.password_file().display());
    fs::write(&path, format!("repositories:\n  main: {repository}\nsets:\n  web: {{paths: [{}]}}\n", folder.display())).unwrap();
    let told = home.bare(["backup", "web", "--config"]).arg(&path).run().success().errors();
    let line = told.lines().find_map(|line| line.strip_prefix("To bring it back:")).unwrap().trim();
    let line = format!("{} --to {}", line.replacen("bbackup", env!("CARGO_BIN_EXE_bbackup"), 1), home.path("out").display());
    let _ = home.program("sh").args(["-c", &line]).run().success();
    Manifest::of(&folder).assert_equals(&Manifest::of(&find_restored(&home.path("out"), &folder)));
}

#[test]
fn init_config_writes_a_file_that_is_valid() {
    let home = Home::new();
    let path = home.path("config/bbackup/config.yaml");
    let _ = home.bare(["init-config"]).run().success();
    assert!(path.exists(), "{:?}", files_below(&home.path("")));
    let _ = home.bare(["config", "check"]).run().success();
    let before = fs::read(&path).unwrap();
    let outcome = home.bare(["init-config"]).run();
    assert_ne!(outcome.code(), Some(0), "a second one writes over the first: {}", outcome.describe());
    assert_eq!(fs::read(&path).unwrap(), before);
}
