//! `diff`, `find`, `stats` and `dump`, compared with what restic says of the same repository.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::faults;
use crate::support::home::{Home, files_below};
use crate::support::manifest::Manifest;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::tree;

/// A repository with two snapshots of one folder that was changed in every way in between.
fn changed(home: &Home) -> (PathBuf, [String; 2]) {
    let folder = home.make_folder("tree");
    tree::nasty(&folder);
    tree::many(&folder.join("many"), 1200);
    fs::create_dir_all(folder.join("gone/deep/er")).unwrap();
    fs::write(folder.join("gone/deep/er/file"), tree::noise(1000, 3_000_000)).unwrap();
    for name in ["grows", "same size", "touched", "chmod", "becomes a folder"] {
        fs::write(folder.join(name), name).unwrap();
    }
    let first = home.back_up(&folder).snapshot;
    fs::remove_dir_all(folder.join("gone")).unwrap();
    fs::remove_file(folder.join("names").join("plain")).unwrap();
    fs::write(folder.join("grows"), tree::noise(1001, 2_000_000)).unwrap();
    fs::write(folder.join("same size"), "SAME SIZE").unwrap();
    tree::set_mtime(&folder.join("touched"), 1_000_000_001, 5);
    fs::set_permissions(folder.join("chmod"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(folder.join("becomes a folder")).unwrap();
    fs::create_dir(folder.join("becomes a folder")).unwrap();
    fs::write(folder.join("becomes a folder/with a file"), "x").unwrap();
    fs::create_dir_all(folder.join("new/a/b")).unwrap();
    fs::write(folder.join("new/a/b/file"), "new").unwrap();
    fs::write(folder.join("new/esc\x1b[2Jape\n"), "new").unwrap();
    let second = home.back_up(&folder).snapshot;
    (folder, [first, second])
}

/// The changes by path, and the statistics.
fn read_diff(lines: Vec<Value>) -> (BTreeMap<String, String>, Value) {
    let mut changes = BTreeMap::new();
    let mut statistics = Value::Null;
    for line in lines {
        match line["message_type"].as_str() {
            Some("change") => {
                let old = changes.insert(line["path"].as_str().unwrap().to_owned(), line["modifier"].as_str().unwrap().to_owned());
                assert_eq!(old, None, "told twice: {line}");
            }
            Some("statistics") => statistics = line,
            _ => {}
        }
    }
    (changes, statistics)
}

#[test]
fn a_diff_says_what_restic_says() {
    needs!(Part::Root, Part::Restic);
    let home = Home::with_repository();
    let (folder, [first, second]) = changed(&home);
    let ours = home.bbackup(["diff", "--json", &first, &second]).run().success();
    let theirs = Restic::new(&home).call(["diff", "--json", &first, &second]).run().success();
    let (our_changes, our_statistics) = read_diff(ours.json_lines());
    let (their_changes, their_statistics) = read_diff(theirs.json_lines());
    // restic itself prints what is below something that became a folder not at all.
    let below = format!("{}/becomes a folder/with a file", folder.display());
    let known: BTreeMap<_, _> = our_changes.clone().into_iter().filter(|(path, _)| *path != below).collect();
    assert_eq!(known, their_changes);
    assert_eq!(our_changes[&below], "+");
    assert!(our_changes.len() > 10);
    for field in ["source_snapshot", "target_snapshot", "changed_files", "removed"] {
        assert_eq!(our_statistics[field], their_statistics[field], "{field}\n{our_statistics}\n{their_statistics}");
    }
    for field in ["dirs", "others", "tree_blobs", "data_blobs", "bytes"] {
        let (our, their) = (our_statistics["added"][field].as_u64().unwrap(), their_statistics["added"][field].as_u64().unwrap());
        // What restic does not look into: a tree and a file of one byte.
        assert!(our == their || our - their <= 1, "{field}\n{our_statistics}\n{their_statistics}");
    }

    // With metadata: what both find worth telling of files.
    let ours = home.bbackup(["diff", "--json", "--metadata", &first, &second]).run().success();
    let theirs = Restic::new(&home).call(["diff", "--json", "--metadata", &first, &second]).run().success();
    let only_metadata = |lines| -> BTreeSet<String> {
        let (changes, _) = read_diff(lines);
        changes.into_iter().filter(|(path, modifier)| modifier == "U" && !path.ends_with('/')).map(|(path, _)| path).collect()
    };
    let (our, their) = (only_metadata(ours.json_lines()), only_metadata(theirs.json_lines()));
    assert!(our.is_subset(&their), "{our:?} {their:?}");
    let expected: BTreeSet<String> = ["touched", "chmod"].map(|name| format!("{}/{name}", folder.display())).into();
    assert_eq!(our, expected);

    // The other way round everything is the other way round.
    let back = home.bbackup(["diff", "--json", &second, &first]).run().success();
    let (changes, statistics) = read_diff(back.json_lines());
    let turned: BTreeMap<_, _> = changes
        .into_iter()
        .map(|(path, modifier)| {
            (
                path,
                match &*modifier {
                    "+" => "-".to_owned(),
                    "-" => "+".to_owned(),
                    _ => modifier,
                },
            )
        })
        .collect();
    let same_name = |changes: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        changes.iter().map(|(path, modifier)| (path.trim_end_matches('/').to_owned(), modifier.clone())).collect()
    };
    assert_eq!(same_name(&turned), same_name(&our_changes));
    assert_eq!((&statistics["added"], &statistics["removed"]), (&our_statistics["removed"], &our_statistics["added"]));
}

#[test]
fn a_diff_reads_only_what_differs_and_only_what_was_asked_for() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::many(&folder.join("many"), 5000);
    fs::create_dir_all(folder.join("a/b")).unwrap();
    fs::write(folder.join("a/b/file"), "one").unwrap();
    let first = home.back_up(&folder).snapshot;
    fs::write(folder.join("a/b/file"), "another").unwrap();
    fs::write(folder.join("top"), "x").unwrap();
    let second = home.back_up(&folder).snapshot;

    let outcome = home.bbackup(["diff", "--json", &first, &second]).run().success();
    let statistics = &outcome.messages("statistics")[0];
    // Twice: the way to the folder, and three folders in it.
    let depth = folder.components().count() as u64 - 1;
    assert_eq!(statistics["trees_read"], 2 * (depth + 3), "{statistics}");

    let inside = home.bbackup(["diff", "--json", &first, &second, "--path"]).arg(folder.join("a/b")).run().success();
    let (changes, _) = read_diff(inside.json_lines());
    assert_eq!(changes.into_iter().collect::<Vec<_>>(), [(folder.join("a/b/file").display().to_string(), "M".to_owned())]);
    let new = home.bbackup(["diff", &first, &second, "--path"]).arg(folder.join("top")).run().success();
    assert_eq!(new.text(), format!("+    {}/top  (1 B)\n", folder.display()));
    let _ = home.bbackup(["diff", &first, &second, "--path"]).arg(folder.join("nowhere")).run().exits(1).says("nowhere");

    // One snapshot alone is compared with the one before it.
    let alone = home.bbackup(["diff", "--json", "latest"]).run().success();
    assert_eq!(alone.messages("statistics")[0]["source_snapshot"], first);
    let _ = home.bbackup(["diff", &first]).run().exits(1).says("first");
    let same = home.bbackup(["diff", &first, &first]).run().success();
    assert_eq!(same.text(), "");
}

#[test]
fn hostile_names_do_not_reach_the_terminal() {
    needs!(Part::Root);
    let home = Home::with_repository();
    let (_, [first, second]) = changed(&home);
    for arguments in [&["diff", &first, &second][..], &["find", "*"], &["find", "-l", "*"]] {
        let outcome = home.bbackup(arguments).run().success();
        for output in [&outcome.stdout, &outcome.stderr] {
            assert!(!output.contains(&0x1b) && !output.contains(&0x07), "{arguments:?}");
        }
    }
    let _ = home.bbackup(["find", "nothing\x1b[2J["]).run().exits(1).says("\\x1b");
}

/// The paths that restic finds, by snapshot.
fn found_by_restic(home: &Home, arguments: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let outcome = Restic::new(home).call(["find", "--json"]).args(arguments).run().success();
    let found: Vec<Value> = serde_json::from_slice(&outcome.stdout).unwrap();
    let paths = |one: &Value| one["matches"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect();
    found.iter().map(|one| (one["snapshot"].as_str().unwrap().to_owned(), paths(one))).collect()
}

fn found_by_us(home: &Home, arguments: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let outcome = home.bbackup(["find", "--json"]).args(arguments).run().success();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in outcome.messages("match") {
        let new = found.entry(line["snapshot"].as_str().unwrap().to_owned()).or_default().insert(line["path"].as_str().unwrap().to_owned());
        assert!(new, "told twice: {line}");
    }
    found
}

#[test]
fn find_finds_what_restic_finds() {
    needs!(Part::Root, Part::Restic);
    let home = Home::with_repository();
    let (_, [first, _]) = changed(&home);
    for arguments in [
        &["grows"][..],
        &["file-11*"],
        &["-i", "GROWS"],
        &["with a file", "touched"],
        &["file-3?"],
        &["no such name"],
        &["-O", "2023-01-01 00:00:00", "file-1*"],
        &["-N", "2023-01-01 00:00:00", "touched"],
        &["-s", &first, "grows"],
    ] {
        assert_eq!(found_by_us(&home, arguments), found_by_restic(&home, arguments), "{arguments:?}");
    }
}

#[test]
fn find_misses_nothing_and_reads_every_folder_once() {
    needs!(Part::Root);
    let home = Home::with_repository();
    let (folder, snapshots) = changed(&home);
    let expected: BTreeMap<String, BTreeSet<String>> = snapshots
        .iter()
        .map(|snapshot| {
            let listed = home.bbackup(["ls", "--json", snapshot]).run().success();
            let nodes = listed.messages("node").into_iter().filter(|node| node["path"] != "/");
            (snapshot.clone(), nodes.map(|node| node["path"].as_str().unwrap().to_owned()).collect())
        })
        .collect();
    // The names are shown in the same way everywhere, so two that are not UTF-8 may look alike.
    assert_eq!(found_by_us(&home, &["*"]), expected);
    assert_eq!(found_by_us(&home, &["/**"]), expected);
    let sums = |arguments: &[&str]| {
        let outcome = home.bbackup(["find", "--json"]).args(arguments).run().success();
        outcome.json_lines().pop().unwrap()["data"].clone()
    };
    let none = sums(&["no such name"]);
    let one = sums(&["-s", &snapshots[0], "no such name"]);
    let (all_trees, one_trees) = (none["trees_read"].as_u64().unwrap(), one["trees_read"].as_u64().unwrap());
    // What changed: the way to the folder, the folder itself, names, and what is new.
    let depth = folder.components().count() as u64 - 1;
    assert!(all_trees - one_trees <= depth + 6, "{all_trees} {one_trees}");
    assert_eq!(sums(&["*"])["trees_read"], all_trees);
    assert_eq!(sums(&["--larger", "2M", "--type", "file"])["matches"], {
        let large = |node: &&Value| node["type"] == "file" && node["size"].as_u64().unwrap() >= 2 << 20;
        snapshots
            .iter()
            .map(|snapshot| home.bbackup(["ls", "--json", snapshot]).run().success().messages("node").iter().filter(large).count())
            .sum::<usize>()
    });
    let _ = home.bbackup(["find"]).run().exits(1).says("look for");
    let _ = home.bbackup(["find", "--larger", "many"]).run().exits(1).says("many");
}

#[test]
fn a_folder_that_is_lost_costs_only_what_is_in_it() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    for name in ["a", "b"] {
        fs::create_dir_all(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("file"), name).unwrap();
    }
    let first = home.back_up(&folder).snapshot;
    let before: BTreeSet<PathBuf> = files_below(&home.repository().join("data")).into_iter().collect();
    fs::write(folder.join("a/file"), "changed").unwrap();
    let second = home.back_up(&folder).snapshot;
    // The second snapshot's own trees are in a pack that the first does not need.
    let new = files_below(&home.repository().join("data")).into_iter().filter(|path| !before.contains(path));
    new.for_each(|path| faults::flip(&path, 40));
    let diff = home.bbackup(["diff", &first, &second]).run();
    assert_eq!(diff.code(), Some(4), "{}", diff.describe());
    let find = home.bbackup(["find", "file"]).run().exits(4).says("could not be read");
    // Which folder was hit: that of the file, or one above it.
    let found = find.text().lines().filter(|line| line.ends_with("/file")).count();
    assert!((2..=3).contains(&found), "{}", find.describe());
    // What is left is counted and listed all the same.
    let stats = home.bbackup(["stats", "--json"]).run().exits(4).says("could not be read and not be counted");
    let counted = &stats.json_lines().pop().unwrap()["data"]["stats"];
    assert_eq!((counted["snapshots"].as_u64(), counted["problem_count"].as_u64()), (Some(2), Some(1)), "{counted}");
    assert!((2..=3).contains(&counted["files"].as_u64().unwrap()), "{counted}");
    let ls = home.bbackup(["ls", &second]).run();
    if found == 3 {
        // Not the root: the folder beside the lost one is listed.
        let ls = ls.exits(4).says("could not be read and not be listed");
        assert_eq!(ls.text().lines().filter(|line| line.ends_with("/file")).count(), 1, "{}", ls.describe());
    } else {
        assert!(matches!(ls.code(), Some(1 | 4)), "{}", ls.describe());
    }
}

#[test]
fn stats_add_up() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    fs::create_dir_all(folder.join("one")).unwrap();
    fs::create_dir_all(folder.join("two")).unwrap();
    fs::write(folder.join("one/noise"), tree::noise(1, 3_000_000)).unwrap();
    fs::write(folder.join("one/zeros"), vec![0; 9_000_000]).unwrap();
    let back_up = |name: &str, tag: &str| {
        let _ = Restic::new(&home).call(["backup", "--quiet", "--tag", tag]).arg(folder.join(name)).run().success();
    };
    back_up("one", "app:one");
    back_up("one", "app:one");
    // The same data in another application, and some of its own.
    fs::write(folder.join("two/noise"), tree::noise(1, 3_000_000)).unwrap();
    fs::write(folder.join("two/other"), tree::noise(2, 5_000_000)).unwrap();
    back_up("two", "app:two");
    fs::write(folder.join("two/more"), tree::noise(3, 1_000_000)).unwrap();
    back_up("two", "app:two");

    let outcome = home.bbackup(["stats", "--json"]).run().success();
    let data = outcome.json_lines().pop().unwrap()["data"].clone();
    let stats = &data["stats"];
    let number = |value: &Value| value.as_u64().unwrap();
    let restic = |mode: &str| -> Value {
        serde_json::from_slice(&Restic::new(&home).call(["stats", "--json", "--mode", mode]).run().success().stdout).unwrap()
    };
    assert_eq!(stats["restore_bytes"], restic("restore-size")["total_size"]);
    let raw = restic("raw-data");
    assert_eq!(stats["used_stored_bytes"], raw["total_size"], "{stats}\n{raw}");
    if let Some(uncompressed) = raw["total_uncompressed_size"].as_u64() {
        assert_eq!(number(&stats["used_raw_bytes"]), uncompressed);
    }
    let groups = stats["groups"].as_array().unwrap();
    assert_eq!(groups.iter().map(|group| group["application"].as_str().unwrap()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(number(&groups[0]["restore_bytes"]), 24_000_000);
    assert_eq!(number(&groups[1]["latest_bytes"]), 9_000_000);
    // What both have is nobody's own.
    let own = |group: &Value| number(&group["own_stored_bytes"]);
    assert!(own(&groups[0]) < 1_000_000 && own(&groups[1]) > 6_000_000 && own(&groups[1]) < 6_200_000, "{groups:?}");
    assert!(number(&groups[0]["stored_bytes"]) > 3_000_000);
    let growth = stats["growth"].as_array().unwrap();
    let added: Vec<u64> = growth.iter().map(|one| number(&one["stored_added"])).collect();
    assert_eq!(added.iter().sum::<u64>(), number(&stats["used_stored_bytes"]));
    assert!(added[0] > 3_000_000 && added[1] < 10_000 && added[2] > 5_000_000 && added[2] < 5_100_000, "{added:?}");
    assert_eq!(growth[3]["stored_total"], stats["used_stored_bytes"]);
    assert!(data["dedup_ratio"].as_f64().unwrap() > 2.0 && data["compression_ratio"].as_f64().unwrap() > 1.05, "{data}");
    let _ = home.bbackup(["stats", "--growth"]).run().success().says("one").says("stored in all").says("only its own");
}

/// Unpacks what a dump wrote.
fn unpack(home: &Home, archive: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let target = home.make_folder(name);
    let flags = ["--xattrs", "--xattrs-include=*", "--acls", "--same-owner", "-p"].iter().chain(flags);
    let _ = home.program("tar").args(["-x", "-C"]).arg(&target).args(flags).arg("-f").arg(archive).run().success();
    target
}

#[test]
fn a_tar_archive_holds_a_folder_as_it_was_compressed_or_not() {
    needs!(Part::Root, Part::Program("tar"), Part::Program("zstd"));
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::nasty(&folder);
    let snapshot = home.back_up(&folder).snapshot;
    let expected = Manifest::of(&folder).without(|_, line| line.kind == "socket");
    for (flag, extension, flags) in [("--tar", "tar", &[][..]), ("--zstd", "tar.zst", &["--zstd"])] {
        let archive = home.path(format!("tree.{extension}"));
        fs::write(&archive, home.bbackup(["dump", flag, &snapshot]).arg(&folder).run().success().stdout).unwrap();
        let target = unpack(&home, &archive, extension, flags).join(std::ffi::OsStr::from_bytes(b"tree"));
        expected.assert_equals(&Manifest::of(&target));
    }
}
