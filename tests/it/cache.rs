//! The cache by the real program: who has it needs no folder of the repository twice, and who has none, or one that is broken, sees
//! the same.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::home::{Home, files_below};
use crate::support::parts::{Part, needs};
use crate::support::run::Program;
use crate::support::{faults, tree};

fn configured(home: &Home, cache: &str) {
    let (location, password) = (home.repository(), home.password_file());
    let (location, password) = (location.display(), password.display());
    let text = format!("repositories:\n  default:\n    location: {location}\n    password_file: {password}\n    cache: {cache}\n");
    fs::create_dir_all(home.path("config/bbackup")).unwrap();
    fs::write(home.path("config/bbackup/config.yaml"), text).unwrap();
}

fn ls(home: &Home) -> Program {
    home.bare(["ls", "latest"])
}

#[test]
fn folders_that_were_read_once_are_not_read_again() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 2);
    configured(&home, "always");
    let _ = home.bare(["backup", "--paths"]).arg(&folder).run().success();
    let listed = ls(&home).run().success().text();
    assert!(listed.contains("incompressible"), "{listed}");
    let kept = files_below(&home.path("cache/bbackup"));
    assert!(kept.len() >= 4, "{kept:?}");
    assert!(home.path("cache/bbackup/CACHEDIR.TAG").is_file());
    let mode = fs::metadata(home.path("cache/bbackup/repositories")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    // Without its packs the repository is of no use, but for who has the folders already.
    let (data, away) = (home.repository().join("data"), home.path("away"));
    let move_packs = |from: &Path, to: &Path| {
        for folder in fs::read_dir(from).unwrap() {
            let folder = folder.unwrap();
            fs::rename(folder.path(), to.join(folder.file_name())).unwrap();
        }
    };
    fs::create_dir(&away).unwrap();
    move_packs(&data, &away);
    assert_eq!(ls(&home).run().success().text(), listed);
    let _ = ls(&home).arg("--no-cache").run().exits(1).says("is missing");
    // What is damaged is told nevertheless.
    let _ = home.bare(["check"]).run().exits(1);
    move_packs(&away, &data);

    // Copies that are damaged are read anew.
    let kept = files_below(&home.path("cache/bbackup/repositories"));
    for path in &kept {
        faults::flip(path, 50);
    }
    assert_eq!(ls(&home).run().success().text(), listed);
    for path in &kept {
        faults::truncate(path, 20);
    }
    assert_eq!(ls(&home).run().success().text(), listed);
    let _ = home.bare(["check", "--read-data"]).run().success();

    // A second backup of the same by somebody who has it all, and a restore.
    let _ = home.bare(["backup", "--paths"]).arg(&folder).run().success();
    home.assert_restores("latest", &folder, "restored");
}

#[test]
fn a_folder_of_this_machine_gets_no_cache_by_itself() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::write(&folder.join("file"), b"x");
    for cache in ["auto", "never"] {
        configured(&home, cache);
        let _ = home.bare(["backup", "--paths"]).arg(&folder).run().success();
        let _ = ls(&home).run().success();
        assert!(!home.path("cache/bbackup/repositories").exists(), "{cache}");
    }
    configured(&home, "sometimes");
    let _ = ls(&home).run().exits(2).says("auto or always or never");
}

#[test]
fn a_cache_that_cannot_be_written_is_told_and_costs_nothing_else() {
    needs!(Part::Root);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::write(&folder.join("file"), b"x");
    configured(&home, "always");
    let _ = home.bare(["backup", "--no-cache", "--paths"]).arg(&folder).run().success();
    let read_only = faults::Mount::read_only(&home.path("cache"));
    let listed = ls(&home).run().success().says("tree/file");
    assert_eq!(listed.errors().matches("the cache in").count(), 1, "{}", listed.describe());
    drop(read_only);
    let _ = ls(&home).run().success().says_nothing_of("the cache in");
    assert!(!files_below(&home.path("cache/bbackup")).is_empty());
}

#[test]
fn processes_share_a_cache() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 8);
    configured(&home, "always");
    let first = home.back_up(&folder).snapshot;
    let listed = home.bare(["ls", &first]).run().success().text();
    for round in 0..3 {
        tree::write(&folder.join(format!("new-{round}")), &tree::noise(round + 70, 2_000_000));
        // All of them find nothing, or what is just being put there by another.
        let _ = fs::remove_dir_all(home.path("cache/bbackup/repositories"));
        let listers: Vec<_> = (0..3).map(|_| home.bare(["ls", &first]).spawn()).collect();
        let checker = home.bare(["check"]).spawn();
        let writer = home.bare(["backup", "--paths"]).arg(&folder).spawn();
        for lister in listers {
            assert_eq!(lister.wait().success().text(), listed);
        }
        let _ = checker.wait().success();
        let _ = writer.wait().success();
    }
    let _ = home.bare(["check", "--read-data"]).run().success();
    home.assert_restores("latest", &folder, "restored");
}

#[test]
fn folders_that_only_the_cache_has_are_not_there() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    fs::create_dir(folder.join("sub")).unwrap();
    configured(&home, "always");
    for number in 0..3 {
        tree::write(&folder.join("sub/file"), format!("{number}").as_bytes());
        let _ = home.bare(["backup", "--paths"]).arg(&folder).run().success();
    }
    let _ = ls(&home).run().success();
    let kept: Vec<_> = files_below(&home.path("cache/bbackup/repositories"))
        .into_iter()
        .filter(|path| path.to_str().unwrap().contains("/trees/"))
        .collect();
    assert!(!kept.is_empty());
    for copy in kept {
        let name = copy.file_name().unwrap().to_str().unwrap();
        fs::remove_file(home.repository().join("data").join(&name[..2]).join(name)).unwrap();
    }
    let snapshots = || files_below(&home.repository().join("snapshots")).len();
    for flags in [&["--dry-run"][..], &[]] {
        let _ = home.bare(["forget", "--keep-last", "1"]).args(flags).run().exits(1).says("no snapshot is removed");
        assert_eq!(snapshots(), 3);
    }
    let _ = home.bare(["backup", "--paths"]).arg(&folder).run().exits(4).says("stored once more");
    let _ = home.bare(["ls", "latest", "--no-cache"]).run().success();
    home.assert_restores("latest", &folder, "restored");
}
