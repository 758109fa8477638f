//! Every operation over one repository with a long history, made by bbackup and the real restic in turn, and with restic at work in
//! between. With `BBACKUP_TEST_FULL=1` it is 1 GB with 200 snapshots; otherwise smaller.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::home::{Home, files_below, find_restored, size_of};
use crate::support::manifest::Manifest;
use crate::support::mounted::{Mounted, is_mounted};
use crate::support::oracle::Restic;
use crate::support::parts::{self, Part, needs};
use crate::support::tree;

/// How large it is.
#[derive(Clone, Copy)]
struct Scale {
    /// Snapshots, half of them by each program.
    snapshots: usize,
    /// Bytes of files that are there from the beginning.
    base: usize,
    /// Bytes that each round adds.
    round: usize,
    /// Small files.
    small: usize,
    /// Every so many snapshots the tree is looked at, to be compared with what comes back.
    sample: usize,
    /// Bytes of all packs, at least.
    stored: u64,
}

impl Scale {
    fn of_this_run() -> Self {
        if env::var_os("BBACKUP_TEST_FULL").is_some_and(|value| value == "1") {
            Self { snapshots: 200, base: 400_000_000, round: 3_300_000, small: 20_000, sample: 20, stored: 1_000_000_000 }
        } else {
            Self { snapshots: 30, base: 24_000_000, round: 1_000_000, small: 500, sample: 6, stored: 50_000_000 }
        }
    }
}

/// The repository, and what is known of it.
struct Many<'a> {
    home: &'a Home,
    restic: Restic<'a>,
    folder: PathBuf,
    scale: Scale,
    /// What the folder was at the time of a snapshot, which stays the same whatever becomes of its id.
    trees: BTreeMap<String, Manifest>,
    started: Instant,
}

impl<'a> Many<'a> {
    fn new(home: &'a Home, scale: Scale) -> Self {
        let folder = home.make_folder("tree");
        for number in 0..8 {
            tree::write(&folder.join(format!("base-{number}")), &tree::noise(number, scale.base / 8));
        }
        tree::write(&folder.join("database"), &tree::pages(1, scale.base / 10));
        tree::many(&folder.join("small"), scale.small);
        fs::create_dir(folder.join("rounds")).unwrap();
        fs::create_dir(folder.join("secret")).unwrap();
        tree::odd(&home.make_folder("tree/odd"));
        // restic 0.14 does not save these as they are.
        for name in ["special/socket", "links/odd target", "links/dangling too"] {
            fs::remove_file(folder.join("odd").join(name)).unwrap();
        }
        Self { home, restic: Restic::new(home), folder, scale, trees: BTreeMap::new(), started: Instant::now() }
    }

    /// Says past the test harness's capture how long it took up to here: what is slow at full size is to be seen.
    fn said(&self, what: &str) {
        if self.scale.snapshots >= 200 {
            let _ = writeln!(io::stderr(), "many: {:7.1} s  {what}", self.started.elapsed().as_secs_f64());
        }
    }

    /// Something changes everywhere: new data, data within a file, a small file, a secret; something goes.
    fn change(&self, round: usize) {
        tree::write(&self.folder.join(format!("rounds/{round:03}")), &tree::noise(1000 + round as u64, self.scale.round));
        if round >= 7 && round.is_multiple_of(7) {
            fs::remove_file(self.folder.join(format!("rounds/{:03}", round - 7))).unwrap();
        }
        let database = OpenOptions::new().write(true).open(self.folder.join("database")).unwrap();
        let length = database.metadata().unwrap().len();
        database.write_all_at(format!("round {round}").as_bytes(), round as u64 * 7919 * 4096 % (length - 20)).unwrap();
        let small = round * 37 % self.scale.small;
        tree::write(&self.folder.join(format!("small/{:04}/file-{small}", small / 500)), format!("changed in round {round}").as_bytes());
        tree::write(&self.folder.join("secret/key"), format!("the secret of round {round}").as_bytes());
    }

    /// Snapshots of both programs in turn: restic's one a day in the past, bbackup's now.
    fn live(&mut self) {
        let first = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * (self.scale.snapshots as i64 / 2 + 1));
        for round in 0..self.scale.snapshots {
            self.change(round);
            let id = if round.is_multiple_of(2) {
                let day = first + jiff::SignedDuration::from_hours(12 * round as i64);
                let time = day.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string();
                let outcome = self.restic.call(["backup", "--json", "--time", &time]).arg(&self.folder).run().success();
                outcome.messages("summary").pop().unwrap()["snapshot_id"].as_str().unwrap().to_owned()
            } else {
                self.home.back_up(&self.folder).snapshot
            };
            if round.is_multiple_of(self.scale.sample) || round % self.scale.sample == 1 {
                let tree = Manifest::of(&self.folder);
                self.trees.insert(self.time_of(&id), tree);
            }
        }
        assert!(size_of(&self.home.repository().join("data")) >= self.scale.stored, "{}", size_of(&self.home.repository().join("data")));
        let (theirs, ours) = (self.restic.snapshots(), self.data(&["snapshots"]));
        assert_eq!((theirs.len(), ours.as_array().unwrap().len()), (self.scale.snapshots, self.scale.snapshots));
        self.said("the history is made");
    }

    fn time_of(&self, id: &str) -> String {
        let all = self.restic.snapshots();
        let found = all.iter().find(|snapshot| snapshot["id"].as_str().unwrap().starts_with(id));
        found.unwrap()["time"].as_str().unwrap().to_owned()
    }

    /// The ids by time, the oldest first.
    fn ids(&self) -> BTreeMap<String, String> {
        let text = |snapshot: &Value, name: &str| snapshot[name].as_str().unwrap().to_owned();
        self.restic.snapshots().iter().map(|snapshot| (text(snapshot, "time"), text(snapshot, "id"))).collect()
    }

    /// The ids of those whose tree is known, with it.
    fn samples(&self) -> Vec<(String, &Manifest)> {
        let ids = self.ids();
        self.trees.iter().filter_map(|(time, tree)| Some((ids.get(time)?.clone(), tree))).collect()
    }

    /// The envelope's data of a command that must succeed.
    #[track_caller]
    fn data(&self, words: &[&str]) -> Value {
        let outcome = self.home.bbackup(words).arg("--json").run().success();
        outcome.json_lines().pop().unwrap()["data"].clone()
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) {
        let _ = self.home.bbackup(words).run().success();
    }

    /// restic does something that changes the repository.
    #[track_caller]
    fn restic_does(&self, words: &[&str]) {
        let _ = self.restic.call(words).run().success();
    }

    /// Whatever is there comes back, by both programs.
    fn assert_restores(&self, what: &str) {
        let samples = self.samples();
        assert!(samples.len() >= 3, "{what}: only {} of the known snapshots are left", samples.len());
        let last = samples.len() - 1;
        for (number, (id, tree)) in [&samples[0], &samples[last / 2], &samples[last]].into_iter().enumerate() {
            let target = self.home.path("restored");
            if number == 1 {
                self.restic.restore(id, &target);
                (*tree).clone().kept_by_restic().assert_equals(&Manifest::of(&find_restored(&target, &self.folder)).kept_by_restic());
            } else {
                let _ = self.home.bbackup(["restore", id, "--to"]).arg(&target).run().success();
                tree.assert_equals(&Manifest::of(&find_restored(&target, &self.folder)));
            }
            fs::remove_dir_all(target).unwrap();
        }
    }

    fn looks(&self) {
        let ids: Vec<String> = self.ids().into_values().collect();
        let stats = self.data(&["stats"]);
        assert_eq!(stats["stats"]["snapshots"], ids.len(), "{stats}");

        // Two of restic's, one round of its own between them.
        let (older, newer) = (&ids[3], &ids[4]);
        let diff = self.home.bbackup(["diff", "--json", older, newer]).run().success();
        let added = self.folder.join("rounds/008");
        let is_added = |line: &Value| line["path"] == added.to_str().unwrap() && line["modifier"] == "+";
        assert!(diff.messages("change").iter().any(is_added), "{}", diff.describe());
        let found = self.home.bbackup(["find", "--json", "008"]).run().success();
        let theirs = self.restic.call(["find", "--json", added.to_str().unwrap()]).run().success();
        let theirs: Value = serde_json::from_slice(&theirs.stdout).unwrap();
        assert_eq!(found.messages("match").len(), theirs.as_array().unwrap().len());

        let (id, tree) = &self.samples()[2];
        let listed = self.home.bbackup(["ls", "--json", id]).arg(&self.folder).run().success();
        assert_eq!(listed.messages("node").len(), tree.lines.len());
        let dumped = self.home.bbackup(["dump", id]).arg(self.folder.join("base-3")).run().success();
        assert!(dumped.stdout == fs::read(self.folder.join("base-3")).unwrap());
        self.unpack(id, tree);
        self.said("snapshots, stats, diff, find, ls, dump");
    }

    /// `dump --tar` of a whole snapshot, as tar unpacks it.
    fn unpack(&self, id: &str, tree: &Manifest) {
        let (archive, target) = (self.home.path("dump.tar"), self.home.make_folder("unpacked"));
        let outcome = self.home.bbackup(["dump", "--tar", id]).arg(&self.folder).run().success();
        fs::write(&archive, &outcome.stdout).unwrap();
        drop(outcome);
        let flags = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-xpf"];
        let _ = self.home.program("tar").args(flags).arg(&archive).arg("-C").arg(&target).run().success();
        // Sockets have no place in an archive.
        let unpacked = Manifest::of(&target);
        let file = |manifest: &Manifest| {
            let name = |name: &[u8]| name.ends_with(b"/key") || name.ends_with(b"base-3") || name.ends_with(b"database");
            let mut hashes: Vec<String> = manifest.lines.iter().filter(|(own, _)| name(own)).map(|(_, line)| line.hash.clone()).collect();
            hashes.sort();
            hashes
        };
        assert_eq!(file(&unpacked), file(tree));
        let files = |manifest: &Manifest| manifest.lines.values().filter(|line| line.kind == "file").count();
        assert_eq!(files(&unpacked), files(tree));
        fs::remove_dir_all(target).unwrap();
        fs::remove_file(archive).unwrap();
    }

    fn tags_and_pins(&self) {
        let ids: Vec<String> = self.ids().into_values().collect();
        self.restic_does(&["tag", "--add", "theirs", &ids[1], &ids[2]]);
        assert_eq!(self.data(&["tag", "--add", "ours", "--tag", "theirs"])["changed_snapshots"], 2);
        let ids: Vec<String> = self.ids().into_values().collect();
        self.ok(&["pin", &ids[0], &ids[5]]);
        let pinned: Vec<String> = self.ids().into_values().collect();
        assert_eq!(self.data(&["unpin", &pinned[5]])["changed_snapshots"], 1);
        let of = |tag: &str| {
            let all = self.restic.snapshots();
            all.iter().filter(|one| one["tags"].as_array().is_some_and(|tags| tags.iter().any(|other| other == tag))).count()
        };
        assert_eq!((of("theirs"), of("ours"), of("pinned")), (2, 2, 1));
        assert_eq!(self.ids().len(), self.scale.snapshots);
        self.said("tag, pin, unpin");
    }

    fn keys(&self) {
        let other = self.home.path("other-password");
        fs::write(&other, "another password\n").unwrap();
        let id = self.data(&["key", "add", "--new-password-file", other.to_str().unwrap()])["id"].as_str().unwrap().to_owned();
        let _ = self.restic.call(["snapshots"]).env("RESTIC_PASSWORD_FILE", &other).run().success();
        fs::write(&other, "the third\n").unwrap();
        let words = ["key", "passwd", "--password-command", "echo another password", "--new-password-file"];
        let _ = self.home.bare(words).arg(&other).arg("--repo").arg(self.home.repository()).run().success();
        let _ = self.restic.call(["snapshots"]).env("RESTIC_PASSWORD_FILE", &other).run().success();
        let keys = self.data(&["key", "list"]);
        let keys = keys.as_array().unwrap();
        assert!(keys.len() == 2 && keys.iter().all(|key| key["id"] != *id), "{keys:?}");
        let spare = keys.iter().find(|key| key["current"] == false).unwrap()["id"].as_str().unwrap();
        self.ok(&["key", "remove", spare]);
        assert_eq!(self.data(&["key", "list"]).as_array().unwrap().len(), 1);
        self.said("key add, passwd, list, remove");
    }

    fn copies(&self) {
        let target = self.home.path("copies");
        let _ = self.home.bbackup(["init", "--repo"]).arg(&target).run().success();
        let restic = Restic::at(self.home, &target);
        let ids: Vec<String> = self.ids().into_values().collect();
        // First restic, then bbackup all that is missing, then nothing is left for restic.
        let by_restic = |ids: &[String]| {
            let call = restic.call(["copy", "--from-repo"]).arg(self.home.repository()).arg("--from-password-file");
            let _ = call.arg(self.home.password_file()).args(ids).run().success();
        };
        by_restic(&ids[..3]);
        let summary = self.data(&["copy", "--to", target.to_str().unwrap()])["summary"].clone();
        let expected = (Value::from(ids.len() - 3), Value::from(3));
        assert_eq!((&summary["copied"], &summary["were_there"]), (&expected.0, &expected.1));
        by_restic(&[]);
        assert_eq!(restic.snapshots().len(), ids.len());
        restic.check();
        let (_, newest) = self.samples().pop().unwrap();
        let time = self.trees.iter().find(|(_, tree)| *tree == newest).unwrap().0;
        let copy = restic.snapshots().into_iter().find(|one| one["time"] == **time).unwrap()["id"].as_str().unwrap().to_owned();
        let restored = self.home.path("restored");
        let _ = self.home.bbackup(["restore", &copy, "--repo"]).arg(&target).arg("--to").arg(&restored).run().success();
        newest.assert_equals(&Manifest::of(&find_restored(&restored, &self.folder)));
        fs::remove_dir_all(restored).unwrap();
        fs::remove_dir_all(target).unwrap();
        self.said("copy");
    }

    /// The secret goes from every snapshot; restic takes something else from some first, if it can.
    fn rewrites(&mut self) {
        let ids: Vec<String> = self.ids().into_values().collect();
        let odd = self.folder.join("odd/names");
        let by_restic = if self.restic.version() >= (0, 15) { &ids[6..9] } else { &[] };
        if !by_restic.is_empty() {
            let _ = self.restic.call(["rewrite", "--forget", "--exclude"]).arg(&odd).args(by_restic).run().success();
        }
        let times: Vec<String> = self.ids().into_keys().collect();
        let secret = self.folder.join("secret");
        let words = ["rewrite", "--forget", "--exclude", secret.to_str().unwrap()];
        let summary = self.data(&words)["summary"].clone();
        assert_eq!(summary["changed"], self.scale.snapshots, "{summary}");
        assert_eq!(self.data(&words)["summary"]["changed"], 0);
        assert!(self.ids().keys().eq(times.iter()));
        for (time, tree) in &mut self.trees {
            let without_names = !by_restic.is_empty() && times[6..9].contains(time);
            *tree = tree.clone().without(|name, _| {
                let below = |folder: &[u8]| name == folder || (name.starts_with(folder) && name.get(folder.len()) == Some(&b'/'));
                below(b"secret") || (without_names && below(b"odd/names"))
            });
        }
        self.said("rewrite");
    }

    /// Rules and names, by both programs in turn, and the room that comes back.
    fn forgets_and_prunes(&self) {
        let ids: Vec<String> = self.ids().into_values().collect();
        let before = size_of(&self.home.repository().join("data"));
        self.restic_does(&["forget", &ids[7], &ids[9]]);
        let all = self.scale.snapshots - 2;
        let (last, days) = (self.scale.snapshots / 4, self.scale.snapshots / 4);
        let (last, days) = (last.to_string(), days.to_string());
        let rules = ["forget", "--keep-last", &last, "--keep-daily", &days, "--keep-tag", "ours"];
        let planned = self.home.bbackup(rules).args(["--dry-run", "--json"]).run().success();
        assert_eq!(self.ids().len(), all, "{}", planned.describe());
        self.ok(&rules);
        let left = self.ids().len();
        // The newest, a day each, two with the tag, one with the pin; a midnight may lie between bbackup's own.
        let expected = self.scale.snapshots / 2 + 2;
        assert!(left.abs_diff(expected) <= 1, "{left} are left instead of {expected}");
        assert!(
            self.restic.snapshots().iter().any(|one| one["tags"].as_array().is_some_and(|tags| tags.iter().any(|tag| tag == "pinned")))
        );
        self.said("forget");

        self.ok(&["prune", "--max-repack-size", "20M"]);
        self.restic.back_up(&self.folder);
        self.restic_does(&["prune"]);
        let newest = self.restic.snapshots().len();
        let _ = self.home.back_up(&self.folder);
        assert_eq!(self.restic.snapshots().len(), newest + 1);
        self.ok(&["prune", "--max-unused", "0"]);
        self.ok(&["check"]);
        let after = size_of(&self.home.repository().join("data"));
        assert!(after < before, "{before} → {after}");
        self.said("prune, by both in turn");
    }

    /// Index files that are lost come back; what is lost for good is lost alone.
    fn repairs(&self) {
        for (number, file) in files_below(&self.home.repository().join("index")).iter().enumerate() {
            if number.is_multiple_of(2) {
                fs::remove_file(file).unwrap();
            }
        }
        let _ = self.home.bbackup(["check"]).run().exits(1);
        self.ok(&["repair", "index"]);
        self.ok(&["check"]);

        let doomed = self.home.make_folder("doomed");
        tree::write(&doomed.join("lost"), &tree::noise(99_999, 3_000_000));
        tree::write(&doomed.join("kept"), b"small");
        let before = files_below(&self.home.repository().join("data"));
        let _ = self.home.back_up(&doomed);
        let new = files_below(&self.home.repository().join("data")).into_iter().filter(|file| !before.contains(file));
        let pack = new.max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap();
        fs::remove_file(pack).unwrap();
        let _ = self.home.bbackup(["prune"]).run().exits(1);
        let _ = self.home.bbackup(["repair", "index"]).run().exits(4);
        let repaired = self.home.bbackup(["repair", "snapshots", "--forget"]).run();
        assert!(matches!(repaired.code(), Some(0 | 4)), "{}", repaired.describe());
        let partial = self.restic.snapshots().into_iter().filter(|one| one["paths"][0] == doomed.to_str().unwrap());
        let partial: Vec<Value> = partial.collect();
        assert!(partial.len() == 1 && partial[0]["tags"].to_string().contains("partial"), "{partial:?}");
        // Both work on with what was repaired.
        self.restic.back_up(&self.folder);
        let _ = self.home.back_up(&self.folder);
        self.said("repair index, repair snapshots");
    }

    fn mounts(&self) {
        if parts::program("fusermount3", "").is_none() {
            return;
        }
        let mounted = Mounted::new(self.home, &[]);
        let shown = fs::read_dir(mounted.path.join("ids")).unwrap().count();
        assert_eq!(shown, self.ids().len());
        let (id, tree) = self.samples().remove(1);
        tree.assert_equals(&Manifest::of(&mounted.of(&format!("ids/{}", &id[..8]), &self.folder)));
        // restic adds meanwhile.
        self.restic.back_up(&self.folder.join("small"));
        let path = mounted.path.clone();
        mounted.signal(Signal::INT);
        let _ = mounted.ends().success();
        assert!(!is_mounted(&path));
        self.said("mount");
    }

    fn is_whole(&self) {
        self.ok(&["check", "--read-data"]);
        self.said("check --read-data");
        self.restic.check();
        self.said("restic check --read-data");
        let ours = self.data(&["snapshots"]);
        let mut ours: Vec<&str> = ours.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        let mut theirs: Vec<String> = self.ids().into_values().collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
    }
}

#[test]
fn every_operation_on_a_long_history_of_both_programs() {
    needs!(Part::Root, Part::Restic);
    let home = Home::with_repository();
    let mut many = Many::new(&home, Scale::of_this_run());
    many.live();
    many.looks();
    many.tags_and_pins();
    many.keys();
    many.copies();
    many.assert_restores("after all that changes no data");
    many.rewrites();
    many.assert_restores("after rewrite");
    many.forgets_and_prunes();
    many.assert_restores("after prune");
    many.repairs();
    many.mounts();
    many.assert_restores("at the end");
    many.is_whole();
    assert!(home.locks().is_empty());
}
