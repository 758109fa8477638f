//! What runs without anybody watching is given and leaves behind: credentials of the service manager, log files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::home::{Home, PASSWORD};
use crate::support::run::Outcome;
use crate::support::tree;

/// A folder as systemd makes one for a service.
fn credentials(home: &Home, name: &str, password: &str) -> std::path::PathBuf {
    let folder = home.make_folder("credentials");
    fs::write(folder.join(name), format!("{password}\n")).unwrap();
    folder
}

fn snapshots(home: &Home, configuration: &str, folder: &std::path::Path) -> Outcome {
    let path = home.path("bbackup.yaml");
    fs::write(&path, configuration).unwrap();
    home.bare(["snapshots", "--config"]).arg(path).env("CREDENTIALS_DIRECTORY", folder).run()
}

#[test]
fn a_credential_of_the_service_is_the_password() {
    let home = Home::with_repository();
    let folder = credentials(&home, "bbackup.password", PASSWORD);
    let at = home.repository();
    let bare = || home.bare(["snapshots", "--repo"]).arg(&at).env("CREDENTIALS_DIRECTORY", &folder);
    let _ = bare().run().success();
    // It is about this service alone, the other variable perhaps about the whole machine.
    let _ = bare().env("RESTIC_PASSWORD", "wrong").run().success();
    // What is said goes before it.
    let wrong = home.path("wrong");
    fs::write(&wrong, "wrong").unwrap();
    let _ = bare().arg("--password-file").arg(&wrong).run().exits(12);
    let configured = format!("repositories:\n  main: {{location: {}, password_file: {}}}\n", at.display(), wrong.display());
    let _ = snapshots(&home, &configured, &folder).exits(12);
    // An empty one is an error, not a reason to look elsewhere.
    fs::write(folder.join("bbackup.password"), "\n").unwrap();
    let _ = bare().env("RESTIC_PASSWORD", PASSWORD).run().exits(2).says("empty").says("bbackup.password");
}

#[test]
fn each_repository_may_have_its_own_credential() {
    let home = Home::with_repository();
    let configuration = format!("repositories:\n  main: {{location: {}}}\n", home.repository().display());
    let folder = credentials(&home, "bbackup.password", "wrong");
    let _ = snapshots(&home, &configuration, &folder).exits(12);
    fs::write(folder.join("bbackup.password.main"), PASSWORD).unwrap();
    let _ = snapshots(&home, &configuration, &folder).success();
    fs::remove_file(folder.join("bbackup.password")).unwrap();
    let _ = snapshots(&home, &configuration, &folder).success();
    fs::rename(folder.join("bbackup.password.main"), folder.join("bbackup.password.other")).unwrap();
    let _ = snapshots(&home, &configuration, &folder).exits(1).says("password");
}

#[test]
fn the_embedded_repository_takes_a_given_password_and_keeps_the_key_it_has() {
    let home = Home::new();
    let tree = home.make_folder("tree");
    tree::many(&tree, 3);
    let folder = credentials(&home, "bbackup.password", PASSWORD);
    let key = home.path("config/bbackup/repository.key");
    let backup = || home.bare(["backup", "--paths"]).arg(&tree);
    let _ = backup().env("CREDENTIALS_DIRECTORY", &folder).run().success().says_nothing_of("repository.key");
    assert!(!key.exists(), "a key was made although there was a password");
    let _ = backup().env("RESTIC_PASSWORD", PASSWORD).run().success();
    // Without it nothing is made up for a repository that is there.
    let _ = backup().run().exits(1);
    assert!(!key.exists());

    let other = Home::new();
    let backup = || other.bare(["backup", "--paths"]).arg(&tree);
    let _ = backup().run().success().says("repository.key");
    let _ = backup().env("RESTIC_PASSWORD", "meant for another one").run().success();
}

#[test]
fn a_log_file_has_what_was_said_and_how_it_ended() {
    let home = Home::with_repository();
    let tree = home.make_folder("tree");
    tree::many(&tree, 20);
    let log = home.path("bbackup.log");
    let backup = |flags: &[&str]| home.bbackup(["backup", "--paths"]).arg(&tree).arg("--log-file").arg(&log).args(flags).run();
    let _ = backup(&[]).success();
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    let first = fs::read_to_string(&log).unwrap();
    for line in first.lines() {
        let mut words = line.split(' ');
        let time: Result<jiff::Timestamp, _> = words.next().unwrap().parse();
        assert!(time.is_ok(), "{line}");
        let (process, level) = (words.next().unwrap(), words.next().unwrap());
        assert!(process.starts_with('[') && process.ends_with(']') && level.ends_with(':'), "{line}");
    }
    assert!(first.lines().next().unwrap().ends_with("backup: started"), "{first}");
    assert!(first.lines().last().unwrap().contains("backup: ended with exit code 0 after"), "{first}");
    let shown = tree.to_str().unwrap();
    assert!(first.lines().any(|line| line.contains(shown) && line.contains("20")), "no summary: {first}");

    // The next one adds to it; what is not said to people is there all the same.
    let quiet = backup(&["--quiet"]).success();
    assert!(!quiet.errors().contains("Saved"), "{}", quiet.describe());
    let second = fs::read_to_string(&log).unwrap();
    let _ = backup(&["--json"]).success();
    let third = fs::read_to_string(&log).unwrap();
    for (before, after) in [(&first, &second), (&second, &third)] {
        let added = after.strip_prefix(before.as_str()).unwrap();
        assert!(added.lines().any(|line| line.contains(shown) && line.contains("20")), "no summary: {added}");
    }

    // Warnings, errors with cause and hint, and the exit code.
    let _ = home.bbackup(["snapshots", "--repo", "/nowhere/at/all", "--log-file"]).arg(&log).run().exits(10);
    let last = fs::read_to_string(&log).unwrap();
    let last = last.strip_prefix(&third).unwrap();
    assert!(last.contains("] error: ") && last.contains("/nowhere/at/all") && last.contains("exit code 10"), "{last}");
    assert!(!last.contains(PASSWORD));
}

#[test]
fn what_a_command_lists_stays_out_of_the_log() {
    let home = Home::with_repository();
    let tree = home.make_folder("tree");
    fs::write(tree.join("a\nb.txt"), "x").unwrap();
    let _ = home.back_up(&tree);
    let log = home.path("log");
    let _ = home.bbackup(["ls", "latest", "--log-file"]).arg(&log).run().success().says("b.txt");
    assert!(!fs::read_to_string(&log).unwrap().contains("b.txt"));
    // With -v each new file is a line of its own, whatever its name is.
    fs::write(tree.join("a\nb.txt"), "changed").unwrap();
    let _ = home.bbackup(["backup", "-v", "--log-file"]).arg(&log).arg("--paths").arg(&tree).run().success();
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.lines().any(|line| line.contains("a\\nb.txt")) && text.lines().all(|line| line.starts_with("20")), "{text}");
}

#[test]
fn a_log_file_that_cannot_be_written_is_told() {
    let home = Home::with_repository();
    let tree = home.make_folder("tree");
    let backup = |log: &str| home.bbackup(["backup", "--log-file", log, "--paths"]).arg(&tree).run();
    let missing = home.path("no/such/folder/log");
    let _ = backup(missing.to_str().unwrap()).exits(3).says(missing.to_str().unwrap());
    let _ = backup(home.path("").to_str().unwrap()).exits(3);
    assert!(home.bbackup(["snapshots", "--json"]).run().success().json_lines().last().unwrap()["data"].as_array().unwrap().is_empty());
    // A full disk does not cost the backup, but nobody is told that all is well.
    let full = home.bbackup(["backup", "--json", "--log-file", "/dev/full", "--paths"]).arg(&tree).run().exits(4).says("/dev/full");
    let envelope = full.json_lines().pop().unwrap();
    assert_eq!(envelope["errors"][0]["message"].as_str().map(|text| text.contains("/dev/full")), Some(true), "{envelope}");
    let _ = home.bbackup(["snapshots"]).run().success().says("1 snapshot");
}
