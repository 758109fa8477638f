//! Files of this machine: what a backup keeps, what it reads, what it leaves out, and what happens to files that change meanwhile.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::support::home::{Home, Summary, files_below};
use crate::support::manifest::Manifest;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs, skipped};
use crate::support::run::traced;
use crate::support::tree;

#[test]
fn everything_comes_back() {
    needs!(Part::Root);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::nasty(&folder);
    let summary = home.back_up(&folder);
    home.assert_restores(&summary.snapshot, &folder, "restored");
    let _ = home.bbackup(["check", "--read-data"]).run().success();
}

#[test]
fn names_of_one_pipe_socket_or_device_stay_one() {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    needs!(Part::Root, Part::Restic);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    fs::create_dir(folder.join("below")).unwrap();
    let kinds = [
        ("pipe", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
        ("null", FileType::CharacterDevice, makedev(1, 3)),
        ("disk", FileType::BlockDevice, makedev(259, 70_000)),
    ];
    for (name, kind, device) in kinds {
        mknodat(CWD, folder.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
        mknodat(CWD, folder.join(format!("single-{name}")), kind, Mode::from_raw_mode(0o600), device).unwrap();
        fs::hard_link(folder.join(name), folder.join(format!("below/other-{name}"))).unwrap();
    }
    std::os::unix::fs::symlink("nowhere", folder.join("link")).unwrap();
    fs::hard_link(folder.join("link"), folder.join("below/other-link")).unwrap();
    let before = Manifest::of(&folder);
    assert_eq!(before.lines.values().filter(|line| !line.link_group.is_empty()).count(), 10);
    let first = home.back_up(&folder);
    home.assert_restores(&first.snapshot, &folder, "restored");
    // Over what is there, where each name is a thing of its own, or of another.
    let target = home.path("restored");
    let restored = crate::support::home::find_restored(&target, &folder);
    fs::remove_file(restored.join("below/other-pipe")).unwrap();
    mknodat(CWD, restored.join("below/other-pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    fs::remove_file(restored.join("socket")).unwrap();
    fs::hard_link(restored.join("null"), restored.join("socket")).unwrap();
    let again = home.bbackup(["restore", &first.snapshot, "--path"]).arg(&folder).arg("--to").arg(&target);
    let _ = again.run().success();
    before.assert_equals(&Manifest::of(&restored));
    // Nothing has changed (but the folder of the test, since it has others in it), and restic reads it.
    let _ = home.back_up(&folder);
    assert_eq!(home.back_up(&folder).number("tree_blobs"), 0);
    let restic = Restic::new(&home);
    restic.check();
    restic.restore(&first.snapshot, &home.path("by-restic"));
    let by_restic = Manifest::of(&crate::support::home::find_restored(&home.path("by-restic"), &folder));
    before.kept_by_restic().assert_equals(&by_restic.kept_by_restic());
    // A third name is a change.
    fs::hard_link(folder.join("pipe"), folder.join("third")).unwrap();
    let third = home.back_up(&folder);
    home.assert_restores(&third.snapshot, &folder, "third-restored");
}

#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::MetadataExt as _;
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    let file = fs::File::create(folder.join("sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    drop(file);
    let summary = home.back_up(&folder);
    let restored = home.restore(&summary.snapshot, &folder, "restored");
    let blocks = fs::metadata(restored.join("sparse")).unwrap().blocks();
    assert!(blocks < 2048, "64 MiB of nothing take {blocks} blocks on disk");
}

#[test]
fn a_user_without_rights_keeps_what_is_theirs() {
    needs!(Part::Root, Part::Program("setpriv"));
    let home = Home::new();
    let folder = home.make_folder("tree");
    tree::sizes(&folder.join("sizes"));
    tree::names(&folder.join("names"));
    let _ = home.bbackup_as_nobody(["init"]).run().success();
    let outcome = home.bbackup_as_nobody(["backup", "--json", "--paths"]).arg(&folder).run().success();
    let summary = Summary::of(&outcome);
    let target = home.path("home/restored");
    let _ = home.bbackup_as_nobody(["restore", &summary.snapshot, "--to"]).arg(&target).run().success();
    let restored = Manifest::of(&crate::support::home::find_restored(&target, &folder));
    // Somebody who is not root gives no files away.
    let own = |line: &mut crate::support::manifest::Line| (line.uid, line.gid) = (65534, 65534);
    Manifest::of(&folder).map(own).assert_equals(&restored);
}

#[test]
fn the_second_backup_reads_no_file() {
    needs!(Part::Program("strace"));
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 8);
    let first = home.back_up(&folder);
    let files = files_below(&folder).len() as u64;
    assert_eq!(first.number("files_new"), files);

    let trace = home.path("trace");
    let strace = ["strace", "-ff", "-y", "-qq", "-e", "trace=open,openat,openat2", "-o", trace.to_str().unwrap()];
    let outcome = home.bbackup(["backup", "--json", "--paths"]).arg(&folder).under(strace).run().success();
    let second = Summary::of(&outcome);
    assert_eq!((second.number("files_unmodified"), second.number("files_new"), second.number("files_changed")), (files, 0, 0));
    assert_eq!(second.number("data_blobs"), 0);
    assert!(second.number("data_added") < 10_000, "only metadata is new: {}", second.message);
    let folder_text = folder.to_str().unwrap();
    let trace = traced(&trace);
    assert!(trace.contains(folder_text), "the trace shows nothing of the tree");
    let opened: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains(folder_text) && !line.contains("O_DIRECTORY") && !line.contains("O_PATH") && !line.contains(" = -1 "))
        .collect();
    assert!(opened.is_empty(), "unchanged files were opened:\n{}", opened.join("\n"));
}

#[test]
fn only_what_changed_is_read_again() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::many(&folder, 1200);
    let first = home.back_up(&folder);
    let before = Manifest::of(&folder);
    fs::write(folder.join("0000/file-7"), b"changed").unwrap();
    fs::write(folder.join("0001/file-new"), b"new").unwrap();
    fs::remove_file(folder.join("0002/file-1100")).unwrap();
    // The same size and time, but another file: only the inode and the change time tell.
    let (old, new) = (folder.join("0000/file-8"), folder.join("0000/.swap"));
    let mut content = fs::read(&old).unwrap();
    content[0] = b'#';
    fs::write(&new, content).unwrap();
    let metadata = fs::metadata(&old).unwrap();
    let (seconds, nanoseconds) = (std::os::unix::fs::MetadataExt::mtime(&metadata), std::os::unix::fs::MetadataExt::mtime_nsec(&metadata));
    fs::rename(&new, &old).unwrap();
    tree::set_mtime(&old, seconds, nanoseconds);

    let second = home.back_up(&folder);
    assert_eq!((second.number("files_new"), second.number("files_changed"), second.number("files_unmodified")), (1, 2, 1197));
    home.assert_restores(&second.snapshot, &folder, "second");
    let old = home.restore(&first.snapshot, &folder, "first");
    before.assert_equals(&Manifest::of(&old));
}

#[test]
fn a_single_file_comes_back_alone() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::many(&folder, 600);
    let summary = home.back_up(&folder);
    let file = folder.join("0001/file-555");
    let out = home.bbackup(["dump", &summary.snapshot]).arg(&file).run().success();
    assert_eq!(out.stdout, fs::read(&file).unwrap());
    let target = home.path("one");
    let _ = home.bbackup(["restore", &summary.snapshot, "--path"]).arg(&file).arg("--to").arg(&target).run().success();
    let restored = files_below(&target);
    assert_eq!(restored.len(), 1, "{restored:?}");
    assert_eq!(fs::read(&restored[0]).unwrap(), fs::read(&file).unwrap());
    let listed = home.bbackup(["ls", &summary.snapshot]).run().success();
    assert!(listed.text().contains("file-555"));
}

#[test]
fn files_that_match_are_left_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::many(&folder, 50);
    let summary = home.back_up(&folder);
    let restored = home.restore(&summary.snapshot, &folder, "restored");
    let inode = fs::metadata(restored.join("0000/file-1")).unwrap().ino();
    fs::write(restored.join("0000/file-2"), b"spoiled").unwrap();
    let _ = home.restore(&summary.snapshot, &folder, "restored");
    assert_eq!(fs::metadata(restored.join("0000/file-1")).unwrap().ino(), inode);
    Manifest::of(&folder).assert_equals(&Manifest::of(&restored));
}

#[test]
fn a_dry_run_writes_nothing() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::many(&folder, 20);
    let empty = Manifest::of(&home.repository());
    let _ = home.bbackup(["backup", "--dry-run", "--paths"]).arg(&folder).run().success();
    let after = Manifest::of(&home.repository());
    let content = |manifest: Manifest| manifest.map(|line| line.mtime = (0, 0));
    content(empty).assert_equals(&content(after));
    let summary = home.back_up(&folder);
    let _ = home.bbackup(["restore", &summary.snapshot, "--dry-run", "--to"]).arg(home.path("out")).run().success();
    assert!(!home.path("out").exists(), "a dry run made {}", home.path("out").display());
}

#[test]
fn what_is_excluded_is_not_there() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    for file in ["keep.txt", "leave.tmp", "sub/leave.tmp", "sub/keep.txt", "cache/big", "target/x", "listed"] {
        fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
        fs::write(folder.join(file), file).unwrap();
    }
    fs::write(folder.join("cache/.nobackup"), b"").unwrap();
    let outcome = home
        .bbackup(["backup", "--json", "--exclude", "*.tmp", "--exclude"])
        .arg(folder.join("target"))
        .args(["--exclude", "listed", "--exclude-if-present", ".nobackup", "--paths"])
        .arg(&folder)
        .run()
        .success();
    let restored = home.restore(&Summary::of(&outcome).snapshot, &folder, "restored");
    let names: Vec<String> =
        files_below(&restored).iter().map(|path| path.strip_prefix(&restored).unwrap().to_str().unwrap().to_owned()).collect();
    for kept in ["keep.txt", "sub/keep.txt"] {
        assert!(names.iter().any(|name| name == kept), "{kept} is missing in {names:?}");
    }
    for gone in ["leave.tmp", "sub/leave.tmp", "cache/big", "target/x", "listed"] {
        assert!(!names.iter().any(|name| name == gone), "{gone} should not be in {names:?}");
    }
}

#[test]
fn our_own_repository_is_never_swept_up() {
    let home = Home::with_repository();
    fs::write(home.path("beside"), b"beside the repository").unwrap();
    let outcome = home.bbackup(["backup", "--json", "--paths"]).arg(home.path("")).run().success();
    let listed = home.bbackup(["ls", &Summary::of(&outcome).snapshot]).run().success().text();
    assert!(listed.contains("beside"));
    assert!(!listed.contains("repository/config") && !listed.contains("repository/data"), "{listed}");
}

#[test]
fn what_lies_in_our_own_folders_is_refused() {
    let home = Home::with_repository();
    let _ = home.back_up(&home.make_folder("tree"));
    let before = home.bbackup(["snapshots"]).run().success().text();
    std::os::unix::fs::symlink(home.repository().join("data"), home.path("link")).unwrap();
    let own =
        [home.repository(), home.repository().join("data"), home.path("state/bbackup"), home.path("cache/bbackup"), home.path("link")];
    for path in own.iter().filter(|path| path.file_name().unwrap() != "link") {
        assert!(path.exists(), "{}", path.display());
        let _ = home.bbackup(["backup", "--paths"]).arg(path).run().exits(1).says("bbackup's own");
    }
    // A link is saved as a link, not what it leads to.
    assert_eq!(before, home.bbackup(["snapshots"]).run().success().text());
    let _ = home.bbackup(["backup", "--paths"]).arg(&own[4]).run().success();
    // It costs no other set.
    let config = home.path("bbackup.yaml");
    let sets = format!("sets: {{own: {{paths: [{}]}}, tree: {{paths: [{}]}}}}\n", own[0].display(), home.path("tree").display());
    fs::write(&config, sets).unwrap();
    let run = |words: &[&str]| home.bbackup(["--config"]).arg(&config).args(words).run();
    let _ = run(&["backup", "own", "tree"]).exits(4).says("bbackup's own").says("snapshot");
    let _ = run(&["backup", "own"]).exits(1).says("bbackup's own");
    assert_eq!(
        run(&["snapshots", "--tag", "set:tree", "--json"]).success().json_lines().pop().unwrap()["data"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn an_unreadable_file_is_named_and_costs_only_itself() {
    needs!(Part::Root, Part::Program("setpriv"));
    let home = Home::new();
    let folder = home.make_folder("tree");
    tree::many(&folder, 20);
    fs::write(folder.join("secret"), b"not for you").unwrap();
    fs::set_permissions(folder.join("secret"), Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(folder.join("locked")).unwrap();
    fs::set_permissions(folder.join("locked"), Permissions::from_mode(0o700)).unwrap();
    let _ = home.bbackup_as_nobody(["init"]).run().success();
    let outcome =
        home.bbackup_as_nobody(["backup", "--json", "--paths"]).arg(&folder).run().exits(4).says("tree/secret").says("tree/locked");
    let summary = Summary::of(&outcome);
    let listed = home.bbackup_as_nobody(["ls", &summary.snapshot]).run().success().text();
    assert!(listed.contains("file-19"));
    let snapshots = home.bbackup_as_nobody(["snapshots", "--json"]).run().success().text();
    assert!(snapshots.contains("partial"), "{snapshots}");
    // What is not whole is no `latest`.
    let _ = home.bbackup_as_nobody(["restore", "latest", "--to"]).arg(home.path("home/out")).run().exits(1);
}

#[test]
fn a_source_that_is_not_there_is_an_error() {
    let home = Home::with_repository();
    let missing = home.path("nowhere");
    let outcome = home.bbackup(["backup", "--paths"]).arg(&missing).run().says(missing.to_str().unwrap());
    assert_ne!(outcome.code(), Some(0), "{}", outcome.describe());
    assert!(!outcome.errors().contains("panicked"), "{}", outcome.describe());
    assert!(files_below(&home.repository().join("snapshots")).is_empty());
}

#[test]
fn one_path_that_is_missing_or_locked_costs_no_other() {
    needs!(Part::Root, Part::Program("setpriv"));
    let home = Home::new();
    let (folder, locked) = (home.make_folder("tree"), home.make_folder("locked"));
    tree::many(&folder, 20);
    fs::set_permissions(&locked, Permissions::from_mode(0o700)).unwrap();
    let missing = home.path("nowhere");
    let _ = home.bbackup_as_nobody(["init"]).run().success();
    let backup = || home.bbackup_as_nobody(["backup", "--json", "--paths"]).arg(&folder).arg(&missing).arg(&locked);
    let outcome = backup().run().exits(4).says("nowhere is not saved").says("locked is not saved");
    let summary = Summary::of(&outcome);
    assert!(home.bbackup_as_nobody(["ls", &summary.snapshot]).run().success().text().contains("file-19"));
    let snapshots = home.bbackup_as_nobody(["snapshots", "--json"]).run().success().text();
    assert!(snapshots.contains("partial"), "{snapshots}");
    // The next one of the same paths reads nothing again, and what is there again is in it.
    fs::create_dir(&missing).unwrap();
    fs::write(missing.join("again"), b"here").unwrap();
    let next = Summary::of(&backup().run().exits(4));
    assert_eq!((next.number("files_new"), next.number("files_unmodified")), (1, 20));
    // Where none is there, nothing is written.
    let before = files_below(&home.repository().join("snapshots"));
    let _ = home.bbackup_as_nobody(["backup", "--paths"]).arg(home.path("none")).arg(home.path("neither")).run().exits(1);
    assert_eq!(files_below(&home.repository().join("snapshots")), before);
}

#[test]
fn without_docker_what_needs_none_is_saved() {
    let home = Home::new();
    let folder = home.make_folder("tree");
    tree::many(&folder, 5);
    let config = home.path("bbackup.yaml");
    let sets =
        format!("sets: {{apps: {{projects: ['*']}}, files: {{paths: [{}]}}, gone: {{paths: [/nowhere/at/all]}}}}\n", folder.display());
    fs::write(&config, sets).unwrap();
    // The first backup makes the repository for what can be saved.
    let run = |words: &[&str]| home.bare(words).env("BBACKUP_CONFIG", &config).run();
    let _ = run(&["backup", "apps"]).exits(3);
    let _ = run(&["backup"]).exits(4).says("set apps").says("no-docker.sock").says("/nowhere/at/all").says("repository.key");
    let _ = run(&["ls", "latest"]).success().says("file-4");
    let _ = run(&["backup", "apps"]).exits(3).says("no-docker.sock");
    let _ = run(&["backup", "--all"]).exits(3);
}

#[test]
fn status_messages_know_what_is_to_come() {
    // Nothing on disk, but seconds of reading.
    const SIZE: u64 = 5 << 30;
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    fs::File::create(folder.join("zeros")).unwrap().set_len(SIZE).unwrap();
    let outcome = home.bbackup(["backup", "--json", "--paths"]).arg(&folder).run().success();
    let statuses = outcome.messages("status");
    let knows = |status: &serde_json::Value| status["total_bytes"] == SIZE && status["percent_done"].as_f64() > Some(0.0);
    assert!(statuses.iter().any(knows), "{}", outcome.describe());
}

#[test]
fn files_may_grow_shrink_and_vanish_while_they_are_read() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    for part in ["a", "b", "c", "d"] {
        fs::create_dir(folder.join(part)).unwrap();
        fs::write(folder.join(part).join("large"), tree::noise(1, 12_000_000)).unwrap();
    }
    let stop = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                disturb(&folder, round);
                round += 1;
            }
        });
        let outcome = home.bbackup(["backup", "--json", "--paths"]).arg(&folder).run();
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    assert!(!outcome.errors().contains("panicked"), "{}", outcome.describe());
    let summary = Summary::of(&outcome);
    let restored = home.restore(&summary.snapshot, &folder, "restored");
    assert!(restored.join("a/large").exists());
    let _ = home.bbackup(["check", "--read-data"]).run().success();
    let quiet = home.back_up(&folder);
    home.assert_restores(&quiet.snapshot, &folder, "quiet");
}

fn disturb(folder: &Path, round: u64) {
    for part in ["a", "b", "c", "d"] {
        let grows = folder.join(part).join("grows");
        OpenOptions::new().append(true).create(true).open(&grows).unwrap().write_all(&[b'g'; 10_000]).unwrap();
        let shrinks = folder.join(part).join("shrinks");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&shrinks).unwrap();
        file.set_len(if round.is_multiple_of(2) { 3_000_000 } else { 10 }).unwrap();
        let vanishes = folder.join(part).join(format!("vanishes-{}", round % 3));
        if fs::remove_file(&vanishes).is_err() {
            fs::write(&vanishes, tree::noise(round, 100_000)).unwrap();
        }
        let place = folder.join(part).join("folder");
        if fs::remove_dir_all(&place).is_err() {
            fs::create_dir_all(place.join("below")).unwrap();
            fs::write(place.join("below/file"), b"x").unwrap();
        }
    }
}

#[test]
fn a_folder_that_became_a_file_and_back_is_restored_as_it_was() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    fs::create_dir(folder.join("thing")).unwrap();
    fs::write(folder.join("thing/inside"), b"inside").unwrap();
    let first = home.back_up(&folder);
    let before = Manifest::of(&folder);
    fs::remove_dir_all(folder.join("thing")).unwrap();
    fs::write(folder.join("thing"), b"a file").unwrap();
    let second = home.back_up(&folder);
    home.assert_restores(&second.snapshot, &folder, "second");
    before.assert_equals(&Manifest::of(&home.restore(&first.snapshot, &folder, "first")));
}

#[test]
fn stopping_the_process_for_a_while_changes_nothing() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 60);
    let mut running = home.bbackup(["backup", "--json", "--paths"]).arg(&folder).spawn();
    let data = home.repository().join("data");
    running.until("the first pack", || !files_below(&data).is_empty());
    running.signal(Signal::STOP);
    thread::sleep(std::time::Duration::from_millis(300));
    running.signal(Signal::CONT);
    let summary = Summary::of(&running.wait().success());
    home.assert_restores(&summary.snapshot, &folder, "restored");
}

#[test]
fn what_a_restore_in_place_overwrites_is_saved_first() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::write(&folder.join("kept"), b"as saved");
    let saved = home.back_up(&folder).snapshot;
    tree::write(&folder.join("kept"), b"changed since");
    let _ = home.bbackup(["restore", &saved]).run().exits(1).says("--in-place");
    let plan = home.bbackup(["restore", &saved, "--in-place", "--dry-run", "--json"]).run().success();
    assert!(plan.text().contains("save first") && fs::read(folder.join("kept")).unwrap() == b"changed since");
    let _ = home.bbackup(["restore", &saved, "--in-place"]).run().success();
    assert_eq!(fs::read(folder.join("kept")).unwrap(), b"as saved");
    let before = home.bbackup(["snapshots", "--tag", "before-restore", "--json"]).run().success().json_lines().pop().unwrap();
    let text = before["data"].to_string();
    assert_eq!(text.matches("\"before-restore\"").count(), 1, "{before}");
    let path = folder.join("kept");
    let dumped = home.bbackup(["dump", "latest", path.to_str().unwrap(), "--tag", "before-restore"]).run().success();
    assert_eq!(dumped.stdout, b"changed since");
    // No rule takes it for the last good state.
    let _ = home.bbackup(["forget", "--keep-last", "1", "--keep-daily", "1"]).run().success().says("nothing complete is 30 days newer");
    let dumped = home.bbackup(["dump", "latest", path.to_str().unwrap()]).run().success();
    assert_eq!(dumped.stdout, b"as saved");
    // What is not to be saved is not, and where nothing is there is nothing to save.
    tree::write(&folder.join("kept"), b"again");
    let _ = home.bbackup(["restore", &saved, "--in-place", "--no-save-first"]).run().success();
    fs::remove_dir_all(&folder).unwrap();
    let _ = home.bbackup(["restore", &saved, "--in-place"]).run().success();
    let after = home.bbackup(["snapshots", "--tag", "before-restore", "--json"]).run().success().json_lines().pop().unwrap();
    assert_eq!(after["data"], before["data"]);
}

#[test]
fn nothing_is_made_where_a_repository_cannot_be() {
    let home = Home::new();
    fs::create_dir(home.repository()).unwrap();
    fs::write(home.repository().join("data"), b"somebody's").unwrap();
    let _ = home.bbackup(["init"]).run().exits(3).says("repository/data").says("no folder");
    assert_eq!(files_below(&home.repository()).len(), 1);
    assert_eq!(fs::read_dir(home.repository()).unwrap().count(), 1, "folders were left behind");
    // A file of that name makes no repository.
    fs::remove_file(home.repository().join("data")).unwrap();
    fs::write(home.repository().join("config"), b"of another program").unwrap();
    let _ = home.bbackup(["snapshots"]).run().exits(1).says("has no key");
}

/// The kernel takes paths of 4095 bytes. What is restored has a longer path than what was saved, and may not be longer than that here.
#[test]
fn paths_may_be_as_long_as_they_can_be() {
    let home = Home::with_repository();
    let folder = home.make_folder("long");
    let room = 4095 - folder.as_os_str().len() - home.path("restored").as_os_str().len() - 10;
    let mut deep = folder.clone();
    let mut left = room;
    while left > 200 {
        deep.push("d".repeat(150));
        left -= 151;
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f".repeat(left)), "at the end").unwrap();
    let summary = home.back_up(&folder);
    home.assert_restores(&summary.snapshot, &folder, "restored");
    let _ = home.bbackup(["find", &format!("{}*", "f".repeat(left))]).run().success().says("fff");
    let _ = home.bbackup(["check", "--read-data"]).run().success();
    if !skipped(&[Part::Restic]) {
        Restic::new(&home).check();
    }
}

/// A snapshot writes its paths down as text.
#[test]
fn a_path_whose_name_is_no_text_comes_back() {
    use std::os::unix::ffi::OsStrExt as _;
    let home = Home::with_repository();
    let folder = home.path(std::ffi::OsStr::from_bytes(b"nu\xff"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a"), "first").unwrap();
    let _ = home.bbackup(["backup", "--paths"]).arg(&folder).run().success();
    let (all, one) = (home.path("all"), home.path("one"));
    let _ = home.bbackup(["restore", "latest", "--to"]).arg(&all).run().success();
    let _ = home.bbackup(["restore", "latest", "--to"]).arg(&one).arg("--path").arg(folder.join("a")).run().success();
    for target in [&all, &one] {
        let inside = target.join(folder.strip_prefix("/").unwrap());
        assert_eq!(fs::read_to_string(inside.join("a")).unwrap(), "first");
    }
    // In place, too, with what it overwrites saved first.
    fs::write(folder.join("a"), "second").unwrap();
    let _ = home.bbackup(["restore", "latest", "--in-place"]).run().success();
    assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), "first");
    let undo = ["restore", "latest", "--tag", "before-restore", "--in-place", "--no-save-first"];
    let _ = home.bbackup(undo).run().success();
    assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), "second");
}

#[test]
fn a_path_that_was_full_and_is_empty_now_is_not_saved_as_whole() {
    let home = Home::with_repository();
    let folder = home.make_folder("disk");
    let other = home.make_folder("other");
    tree::write(&other.join("file"), b"y");
    // Folders are this machine's, wherever the Engine is.
    let bbackup = |words: &[&str]| home.bbackup(words).env("DOCKER_HOST", "tcp://nas.invalid:2375");
    let back_up = |flags: &[&str]| bbackup(&["backup", "--paths"]).arg(&folder).arg("--paths").arg(&other).args(flags).run();
    // Empty from the beginning, it is as it should be.
    let _ = back_up(&[]).success();
    tree::write(&folder.join("file"), b"x");
    let _ = back_up(&[]).success();
    fs::remove_file(folder.join("file")).unwrap();
    for _ in 0..2 {
        let _ = back_up(&[]).exits(4).says("it is empty, and in snapshot").says("--full");
    }
    let _ = bbackup(&["dump", "latest"]).arg(folder.join("file")).run().exits(4).says("is partial").says_nothing_of("of the host");
    let _ = back_up(&["--full"]).success();
    let _ = back_up(&[]).success();
}
