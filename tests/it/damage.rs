//! Damaged repositories: what is broken is found and named, what is whole still comes back, and nothing wrong is ever restored.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::support::faults;
use crate::support::home::{Home, files_below};
use crate::support::manifest::Manifest;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::run::Outcome;
use crate::support::tree;

/// A repository with one snapshot, and the folder that is in it.
fn repository(by_restic: bool) -> (Home, PathBuf) {
    let home = if by_restic { Home::new() } else { Home::with_repository() };
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 4);
    // Enough for several packs.
    for number in 0..12 {
        tree::write(&folder.join(format!("noise-{number}")), &tree::noise(100 + number, 4_000_000));
    }
    if by_restic {
        let restic = Restic::new(&home);
        restic.init(2);
        restic.back_up(&folder);
    } else {
        let _ = home.back_up(&folder);
    }
    (home, folder)
}

/// The largest file of a kind: for packs one with data.
fn largest(home: &Home, kind: &str) -> PathBuf {
    files_below(&home.repository().join(kind)).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[track_caller]
fn calm(outcome: Outcome) -> Outcome {
    assert!(!outcome.errors().contains("panicked"), "{}", outcome.describe());
    assert!(outcome.code().is_some(), "{}", outcome.describe());
    outcome
}

/// Damages a file in several ways; for each, gives a fresh view and puts the file back.
fn each_damage(home: &Home, path: &std::path::Path, mut look: impl FnMut(&str)) {
    let whole = fs::read(path).unwrap();
    let length = whole.len() as u64;
    let _ = home;
    for (what, damage) in [
        ("a bit in the first quarter", &(|| faults::flip(path, length.cast_signed() / 4)) as &dyn Fn()),
        ("a bit at the end", &|| faults::flip(path, -1)),
        ("cut in half", &|| faults::truncate(path, length / 2)),
        ("empty", &|| faults::truncate(path, 0)),
        ("gone", &|| fs::remove_file(path).unwrap()),
    ] {
        damage();
        look(what);
        let _ = fs::remove_file(path);
        fs::write(path, &whole).unwrap();
    }
}

fn a_damaged_pack(by_restic: bool) {
    let (home, folder) = repository(by_restic);
    let good = Manifest::of(&folder);
    let pack = largest(&home, "data");
    let mut round = 0;
    each_damage(&home, &pack, |what| {
        round += 1;
        let check = calm(home.bbackup(["check", "--read-data"]).run());
        assert_eq!(check.code(), Some(1), "{what}: {}", check.describe());
        let _ = check.says(&name(&pack)[..8]);
        let target = home.path(format!("out-{round}"));
        let restore = calm(home.bbackup(["restore", "latest", "--to"]).arg(&target).run());
        assert!(matches!(restore.code(), Some(0 | 1 | 4)), "{what}: {}", restore.describe());
        assert!(restore.code() != Some(0) || what == "a bit at the end", "{what}: {}", restore.describe());
        if target.exists() {
            only_right_files(&good, &Manifest::of(&crate::support::home::find_restored(&target, &folder)), restore.code() == Some(0));
        }
    });
    let _ = home.bbackup(["check", "--read-data"]).run().success();
}

#[test]
fn an_archive_of_what_is_damaged_has_the_rest() {
    let (home, folder) = repository(false);
    let pack = largest(&home, "data");
    fs::remove_file(&pack).unwrap();
    let dumped = home.bbackup(["dump", "--tar", "latest"]).arg(&folder).run().exits(4).says(&name(&pack)).says("the archive has the rest");
    let (archive, target) = (home.path("all.tar"), home.make_folder("unpacked"));
    fs::write(&archive, &dumped.stdout).unwrap();
    assert!(Command::new("tar").arg("-xpf").arg(&archive).arg("-C").arg(&target).status().unwrap().success());
    let (good, found) = (Manifest::of(&folder), Manifest::of(&target.join("tree")));
    let files = good.lines.iter().filter(|(_, line)| line.kind == "file");
    let is_right = |name: &Vec<u8>, hash: &str| found.lines.get(name).is_some_and(|found| found.hash == hash);
    let (right, wrong): (Vec<_>, Vec<_>) = files.partition(|(name, line)| is_right(name, &line.hash));
    let told: Vec<String> = dumped.errors().lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned).collect();
    for (name, _) in &wrong {
        let line = found.lines.get(*name);
        assert!(
            told.iter().any(|line| line.contains(&format!("/{}", name.escape_ascii()))),
            "{} is {line:?} and not told",
            name.escape_ascii()
        );
    }
    assert!(!wrong.is_empty() && !right.is_empty(), "{told:?}");
    // Half a file does not look like one.
    let _ = home.bbackup(["dump", "latest"]).arg(folder.join(OsStr::from_bytes(wrong[0].0))).run().exits(1);
}

/// Every file that a restore has left under its own name and in full size has the right content.
fn only_right_files(good: &Manifest, restored: &Manifest, all: bool) {
    let mut right = 0;
    for (name, line) in &restored.lines {
        let expected = &good.lines[name];
        if line.kind == "file" && line.size == expected.size && line.mtime == expected.mtime {
            assert_eq!(line.hash, expected.hash, "{} was restored wrongly", name.escape_ascii());
            right += 1;
        }
    }
    assert!(right > 0, "nothing at all was restored");
    if all {
        good.assert_equals(restored);
    }
}

#[test]
fn a_damaged_pack_costs_only_what_is_in_it() {
    a_damaged_pack(false);
}

#[test]
fn a_damaged_pack_of_restic_costs_only_what_is_in_it() {
    needs!(Part::Restic);
    a_damaged_pack(true);
}

#[test]
fn a_damaged_tree_pack_is_found() {
    let (home, _) = repository(false);
    let packs = files_below(&home.repository().join("data"));
    let smallest = packs.into_iter().min_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    each_damage(&home, &smallest, |what| {
        let check = calm(home.bbackup(["check", "--read-data"]).run());
        assert_eq!(check.code(), Some(1), "{what}: {}", check.describe());
        let listed = calm(home.bbackup(["ls", "latest"]).run());
        assert!(listed.code() != Some(0) || what == "a bit at the end", "{what}: {}", listed.describe());
        if what == "gone" {
            let _ = listed.exits(1).says(&format!("Pack {} is missing", name(&smallest))).says("repair index");
        }
    });
}

#[test]
fn a_damaged_index_is_found_and_nothing_is_written_over_it() {
    let (home, folder) = repository(false);
    let index = largest(&home, "index");
    each_damage(&home, &index, |what| {
        let check = calm(home.bbackup(["check"]).run());
        assert_eq!(check.code(), Some(1), "{what}: {}", check.describe());
        if what != "gone" {
            let _ = check.says(&name(&index)[..8]);
            let backup = calm(home.bbackup(["backup", "--paths"]).arg(&folder).run());
            assert_eq!(backup.code(), Some(1), "{what}: {}", backup.describe());
        }
        let _ = home.bbackup(["snapshots"]).run().success();
    });
    let _ = home.bbackup(["check", "--read-data"]).run().success();
}

#[test]
fn a_folder_that_is_gone_is_not_an_empty_one() {
    let (home, folder) = repository(false);
    let path = |name: &str| home.repository().join(name);
    let aside = home.path("aside");
    let all = |name: &str| {
        let below = |of: &str| if of == name { Vec::new() } else { files_below(&path(of)) };
        [below("data"), below("index"), below("snapshots"), files_below(&aside)]
    };
    for name in ["snapshots", "index", "data"] {
        fs::rename(path(name), &aside).unwrap();
        let before = all(name);
        // Where nothing is to go, forget does not look at the index.
        let forget = if name == "snapshots" { &["forget", "--keep-last", "1", "--prune"][..] } else { &["ls", "latest"] };
        for words in [&["prune"][..], &["prune", "--dry-run"], &["check"], &["stats"], &["backup", "--paths"], forget] {
            let program = home.bbackup(words);
            let program = if words[0] == "backup" { program.arg(&folder) } else { program };
            let _ = calm(program.run()).exits(1).says(&format!("folder `{name}`")).says("is missing");
            assert!(!path(name).exists(), "{words:?} has made {name} anew");
        }
        let repaired = calm(home.bbackup(["repair", "index", "--dry-run"]).run());
        let _ = if name == "data" { repaired.exits(1).says("is missing") } else { repaired.success() };
        assert_eq!(all(name), before);
        fs::rename(&aside, path(name)).unwrap();
        let _ = home.bbackup(["check"]).run().success();
    }
    // What is lost for good.
    fs::remove_dir_all(path("index")).unwrap();
    let _ = home.bbackup(["repair", "index"]).run().success();
    fs::remove_dir_all(path("locks")).unwrap();
    let _ = home.bbackup(["check", "--read-data"]).run().success();
    home.assert_restores("latest", &folder, "restored");
}

#[test]
fn a_new_repository_may_lack_what_is_empty() {
    let home = Home::with_repository();
    for name in ["snapshots", "index", "data", "locks"] {
        fs::remove_dir_all(home.repository().join(name)).unwrap();
    }
    for words in ["check", "prune", "snapshots"] {
        let _ = home.bbackup([words]).run().success();
    }
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 1);
    // A first backup that is killed leaves no folder out: that would look like a loss.
    let mut first = home.bbackup(["backup", "--paths"]).arg(&folder).spawn();
    first.hold_while_it_has_open(&folder);
    first.signal(Signal::KILL);
    let _ = first.wait().killed_by(Signal::KILL);
    for name in ["snapshots", "index", "data"] {
        assert!(home.repository().join(name).is_dir(), "{name}");
    }
    let snapshot = home.back_up(&folder).snapshot;
    let _ = home.bbackup(["check", "--read-data"]).run().success();
    home.assert_restores(&snapshot, &folder, "restored");
}

#[test]
fn a_damaged_snapshot_is_named() {
    let (home, folder) = repository(false);
    fs::write(folder.join("more"), b"more").unwrap();
    let (good, first) = (Manifest::of(&folder), home.back_up(&folder));
    fs::write(folder.join("more"), b"and more").unwrap();
    let second = home.back_up(&folder);
    fs::write(folder.join("more"), b"more").unwrap();
    let snapshot = home.repository().join("snapshots").join(&second.snapshot);
    each_damage(&home, &snapshot, |what| {
        let check = calm(home.bbackup(["check"]).run());
        if what == "gone" {
            assert_eq!(check.code(), Some(0), "{}", check.describe());
        } else {
            assert_eq!(check.code(), Some(1), "{what}: {}", check.describe());
            let _ = check.says(&second.snapshot[..8]);
        }
        let restore = calm(home.bbackup(["restore", &second.snapshot, "--to"]).arg(home.path("never")).run());
        assert_eq!(restore.code(), Some(1), "{what}: {}", restore.describe());
        assert!(!home.path("never").exists());
        // The others are as good as ever, and so is the next backup.
        let code = if what == "gone" { 0 } else { 4 };
        let told = |outcome: Outcome| if what == "gone" { outcome } else { outcome.says(&second.snapshot[..8]).says("repair snapshots") };
        let target = home.path(format!("first after {what}"));
        let _ = told(calm(home.bbackup(["restore", &first.snapshot, "--to"]).arg(&target).run()).exits(code));
        good.assert_equals(&Manifest::of(&crate::support::home::find_restored(&target, &folder)));
        let _ = told(calm(home.bbackup(["snapshots"]).run()).exits(code)).says(&first.snapshot[..8]);
        let _ = told(calm(home.bbackup(["backup", "--paths"]).arg(&folder).run()).exits(code));
        // Nobody decides what is to go without knowing what is there.
        if what != "gone" {
            let before = files_below(&home.repository().join("snapshots"));
            let _ = calm(home.bbackup(["forget", "--keep-last", "1"]).run()).exits(1).says("repair snapshots");
            assert_eq!(files_below(&home.repository().join("snapshots")), before);
        }
    });
}

#[test]
fn a_damaged_index_costs_only_what_it_alone_names() {
    let (home, folder) = repository(false);
    let (good, first) = (Manifest::of(&folder), name(&largest(&home, "snapshots")));
    let before = files_below(&home.repository().join("index"));
    tree::write(&folder.join("more"), &tree::noise(7, 2_000_000));
    let second = home.back_up(&folder);
    let index = files_below(&home.repository().join("index")).into_iter().find(|path| !before.contains(path)).unwrap();
    each_damage(&home, &index, |what| {
        let target = home.path(format!("first after {what}"));
        let restore = calm(home.bbackup(["restore", &first, "--to"]).arg(&target).run());
        let _ = if what == "gone" { restore.exits(0) } else { restore.exits(4).says(&name(&index)).says("repair index") };
        good.assert_equals(&Manifest::of(&crate::support::home::find_restored(&target, &folder)));
        let restore = calm(home.bbackup(["restore", &second.snapshot, "--to"]).arg(home.path(format!("second after {what}"))).run());
        assert!(matches!(restore.code(), Some(1 | 4)), "{what}: {}", restore.describe());
        // What is kept must be readable before anything goes.
        let _ = calm(home.bbackup(["forget", "--keep-last", "1"]).run()).exits(1).says("index").says("repair index");
        assert_eq!(files_below(&home.repository().join("snapshots")).len(), 2, "{what}");
    });
    let _ = home.bbackup(["forget", "--keep-last", "1"]).run().success();
    let _ = home.bbackup(["check", "--read-data"]).run().success();
}

#[test]
fn a_repository_of_another_program_is_named() {
    let home = Home::new();
    fs::create_dir_all(home.repository().join("data")).unwrap();
    fs::write(home.repository().join("config"), "[repository]\nversion = 1\nsegments_per_dir = 1000\n").unwrap();
    let _ = home.bbackup(["snapshots"]).run().exits(1).says("is a Borg repository");
}

#[test]
fn a_damaged_key_opens_nothing() {
    let (home, _) = repository(false);
    let key = largest(&home, "keys");
    each_damage(&home, &key, |what| {
        let outcome = calm(home.bbackup(["snapshots"]).run());
        let _ = outcome.exits(1).says(if what == "gone" { "has no key" } else { "damaged" }).says("from a copy");
    });
    let _ = home.bbackup(["snapshots"]).run().success();
}

#[test]
fn a_wrong_password_is_one_beside_a_damaged_key_too() {
    let (home, _) = repository(false);
    let first = largest(&home, "keys");
    let other = home.path("other");
    fs::write(&other, "a second one\n").unwrap();
    let _ = home.bbackup(["key", "add", "--new-password-file"]).arg(&other).run().success();
    let keys = files_below(&home.repository().join("keys"));
    let second = keys.iter().find(|path| **path != first).unwrap();
    let with = |password: &str| home.bbackup(["snapshots", "--password-command"]).arg(format!("echo {password}")).run();
    each_damage(&home, second, |what| {
        let _ = home.bbackup(["snapshots"]).run().success();
        for password in ["wrong", "a second one"] {
            let outcome = calm(with(password)).exits(12).says("does not open");
            let _ = if what == "gone" { outcome.says_nothing_of(&name(second)) } else { outcome.says(&name(second)).says("from a copy") };
        }
    });
    let _ = with("a second one").success();
    // With all of them damaged nobody knows whether a password is right.
    faults::flip(&first, 20);
    faults::flip(second, 20);
    let _ = calm(with("a second one")).exits(1).says("Every key").says(&name(&first)).says(&name(second)).says("from a copy");
}

#[test]
fn a_damaged_config_is_no_repository_that_we_write_to() {
    let (home, folder) = repository(false);
    let before = files_below(&home.repository()).len();
    let config = home.repository().join("config");
    each_damage(&home, &config, |what| {
        let outcome = calm(home.bbackup(["backup", "--paths"]).arg(&folder).run());
        let expected: &[i32] = if what == "gone" { &[10] } else { &[1, 10] };
        assert!(outcome.code().is_some_and(|code| expected.contains(&code)), "{what}: {}", outcome.describe());
    });
    assert_eq!(files_below(&home.repository()).len(), before);
    let _ = home.bbackup(["check", "--read-data"]).run().success();
}

#[test]
fn strangers_in_the_folders_of_a_repository_do_no_harm() {
    let (home, folder) = repository(false);
    for stranger in ["data/00/notes.txt", "snapshots/README", "index/.hidden", "locks/zzz", "keys/old.bak", "lost+found/x"] {
        let path = home.repository().join(stranger);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"a stranger").unwrap();
    }
    let summary = home.back_up(&folder);
    home.assert_restores(&summary.snapshot, &folder, "restored");
}

#[test]
fn what_lost_packs_held_is_stored_once_more() {
    for (is_cut, flags) in [(true, &["--full"][..]), (false, &[])] {
        let home = Home::with_repository();
        let folder = home.make_folder("tree");
        tree::write(&folder.join("noise"), &tree::noise(1, 3_000_000));
        let _ = home.back_up(&folder);
        let pack = largest(&home, "data");
        if is_cut {
            faults::truncate(&pack, 1_000_000);
        } else {
            fs::remove_file(&pack).unwrap();
        }
        let told = home.bbackup(["backup", "--paths"]).arg(&folder).args(flags).run().exits(4).says(&name(&pack));
        let _ = told.says("missing or cut off").says("repair index");
        home.assert_restores("latest", &folder, "restored");
    }
}

#[test]
fn what_a_user_may_not_read_is_not_called_damaged() {
    needs!(Part::Root);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::write(&folder.join("file"), b"x");
    let _ = home.back_up(&folder);
    tree::write(&folder.join("noise"), &tree::noise(1, 1_000_000));
    let newest = home.back_up(&folder).snapshot;
    let (snapshot, pack) = (home.repository().join("snapshots").join(&newest), largest(&home, "data"));
    let owned = |path: &std::path::Path, owner| std::os::unix::fs::chown(path, Some(owner), Some(owner)).unwrap();
    for path in
        Command::new("find").arg(home.repository()).output().unwrap().stdout.split(|byte| *byte == b'\n').filter(|path| !path.is_empty())
    {
        owned(std::path::Path::new(OsStr::from_bytes(path)), 65534);
    }
    let closed = |path: &std::path::Path| {
        owned(path, 0);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        fs::set_permissions(path, mode).unwrap();
    };
    closed(&snapshot);
    let told = home.bbackup_as_nobody(["snapshots"]).run().exits(4).says("Permission denied").says("as the owner of the repository");
    assert!(!told.errors().contains("repair"), "{}", told.describe());
    let told = home.bbackup_as_nobody(["repair", "snapshots", "--forget"]).run().exits(3).says("Permission denied");
    assert!(!told.errors().contains("`bbackup repair"), "{}", told.describe());
    assert!(snapshot.exists());
    owned(&snapshot, 65534);
    closed(&pack);
    let checked = home.bbackup_as_nobody(["check", "--read-data", "--json"]).run().exits(1);
    let data = checked.json_lines().pop().unwrap()["data"].clone();
    assert_eq!(data["packs_read"].as_u64().unwrap() + 1, data["packs"].as_u64().unwrap(), "{data}");
}
