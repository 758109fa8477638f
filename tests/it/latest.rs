//! What `latest` is: of this host before any other's, by a clock that was right, and never an older state without a word.

use std::fs;

use crate::support::home::Home;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};

#[test]
fn it_is_of_this_host_and_of_another_one_only_if_there_is_just_one() {
    let home = Home::new();
    let _ = home.bbackup(["init"]).run().success();
    let folder = home.make_folder("tree");
    let file = folder.join("who");
    for host in ["one", "two"] {
        fs::write(&file, host).unwrap();
        let _ = home.bbackup(["backup", "--paths"]).arg(&folder).env("RESTIC_HOST", host).run().success();
    }
    let dump = |host: &str, more: &[&str]| home.bbackup(["dump", "latest"]).arg(&file).args(more).env("RESTIC_HOST", host).run();
    assert_eq!(dump("one", &[]).success().text(), "one");
    assert_eq!(dump("two", &[]).success().text(), "two");
    assert_eq!(dump("one", &["--host", "two"]).success().text(), "two");
    let _ = dump("three", &[]).exits(1).says("This host, `three`, has no snapshot").says("There are snapshots of one, two: add --host");
    let target = home.path("target");
    let restore = |host: &str| home.bbackup(["restore", "latest", "--to"]).arg(&target).env("RESTIC_HOST", host).run();
    let _ = restore("three").exits(1).says("--host");
    assert!(!target.exists());
    let _ = restore("one").success();
    // A machine that is new has its predecessor's, and is told so.
    let _ = home.bbackup(["forget", "--host", "two", "latest", "--unsafe-allow-remove-all"]).run().success();
    let foreign = dump("three", &[]).exits(4).says("is of the host one");
    assert_eq!(foreign.text(), "one");
}

#[test]
fn an_older_state_of_a_path_is_never_given_without_a_word() {
    let home = Home::new();
    let _ = home.bbackup(["init"]).run().success();
    let folder = home.make_folder("tree");
    let (gone, kept) = (folder.join("gone"), folder.join("kept"));
    fs::write(&gone, "old").unwrap();
    fs::write(&kept, "1").unwrap();
    let _ = home.back_up(&folder);
    fs::remove_file(&gone).unwrap();
    let newer = home.back_up(&folder).snapshot;
    let said = format!("it is not in the newer snapshot {}", &newer[..8]);
    let dumped = home.bbackup(["dump", "latest"]).arg(&gone).run().exits(4).says(&said);
    assert_eq!(dumped.text(), "old");
    let _ = home.bbackup(["dump", "latest"]).arg(&kept).run().success().says_nothing_of("newer");
    let _ = home.bbackup(["restore", "latest", "--to"]).arg(home.path("target")).arg("--path").arg(&gone).run().exits(4).says(&said);
}

#[test]
fn what_a_wrong_clock_has_dated_in_the_future_is_passed_over_and_told() {
    needs!(Part::Restic);
    let home = Home::new();
    let folder = home.make_folder("tree");
    let file = folder.join("file");
    fs::write(&file, "old").unwrap();
    let restic = Restic::new(&home);
    restic.init(2);
    let _ = restic.call(["backup", "--quiet", "--time", "2099-01-01 00:00:00"]).arg(&folder).run().success();
    let alone = home.bbackup(["dump", "latest"]).arg(&file).run().exits(4).says("dated in the future");
    assert_eq!(alone.text(), "old");
    fs::write(&file, "newer").unwrap();
    // Every backup says so, until somebody has looked after it.
    let _ = home.bbackup(["backup", "--paths"]).arg(&folder).run().exits(4).says("dated in the future").says("bbackup forget");
    let dumped = home.bbackup(["dump", "latest"]).arg(&file).run().exits(4).says("dated in the future");
    assert_eq!(dumped.text(), "newer");
}
