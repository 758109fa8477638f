//! Random trees and histories through bbackup and the real restic in turn, over one repository: both must make the same of the
//! same input, and each must read what the other wrote.
//!
//! `BBACKUP_TEST_SEED` repeats a run; a run that fails says its seed. What the oracle (restic 0.14 in Debian 12) does not
//! restore itself, as link targets that are not UTF-8, is left to the tests with fixed trees.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bbackup::platform::secret::Secret;
use bbackup::repository::backend::local::LocalBackend;
use bbackup::repository::contract::SnapshotId;
use bbackup::repository::restic::id::Id;
use bbackup::repository::restic::reader::{self, Found};
use bbackup::repository::restic::state::Closed;
use rustix::fs::XattrFlags;

use crate::support::home::{Home, PASSWORD, Summary, find_restored};
use crate::support::manifest::Manifest;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::seed::Seed;
use crate::support::tree;

/// Rounds of change and backup by both, unless time is over before.
const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(20);

/// Bytes of new files in one round.
const ROUND_BYTES: usize = 24 << 20;

const NAMES: [&[u8]; 20] = [
    b"a",
    b"b c",
    b"\xff\xfe",
    b"new\nline",
    b"<&>",
    b"\"q\"",
    b"\\b",
    b"\x01\x7f",
    b"-x",
    b".h",
    b"\xc3",
    b"\xed\xa0\x80",
    b"'",
    b"%",
    b"*",
    "\u{2028}".as_bytes(),
    "ü".as_bytes(),
    "\u{200b}\u{feff}".as_bytes(),
    "😀".as_bytes(),
    &[b'z'; 200],
];

/// Around the least, the mean and the largest size of a chunk.
const BORDERS: [usize; 5] = [512 << 10, 1 << 20, 2 << 20, 8 << 20, 9 << 20];

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len())]
    }

    fn name(&mut self) -> Vec<u8> {
        let number = self.roll(40).to_string();
        [self.one(&NAMES), number.as_bytes()].concat()
    }

    fn size(&mut self, room: usize) -> usize {
        let size = match self.roll(4) {
            0 => self.roll(3),
            1 => self.roll(100_000),
            2 => 200_000 + self.roll(3_000_000),
            _ => BORDERS[self.roll(BORDERS.len())] + self.roll(3) - 1,
        };
        size.min(room)
    }
}

/// A tree that changes at random.
struct Garden {
    root: PathBuf,
    dice: Dice,
    room: usize,
}

impl Garden {
    /// Everything in the tree, the root first.
    fn all(&self) -> Vec<PathBuf> {
        let mut found = vec![self.root.clone()];
        let mut next = 0;
        while let Some(path) = found.get(next).cloned() {
            next += 1;
            if path.symlink_metadata().unwrap().is_dir() {
                let mut children: Vec<PathBuf> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
                // The order of a folder is not the same everywhere, and a seed must be.
                children.sort();
                found.extend(children);
            }
        }
        found
    }

    fn pick(&mut self, is_wanted: impl Fn(&Path) -> bool) -> Option<PathBuf> {
        let mut all = self.all();
        all.retain(|path| is_wanted(path));
        let count = all.len();
        (count > 0).then(|| all.swap_remove(self.dice.roll(count)))
    }

    fn file(&mut self) -> Option<PathBuf> {
        self.pick(|path| path.symlink_metadata().unwrap().is_file())
    }

    fn below_root(&mut self) -> Option<PathBuf> {
        let root = self.root.clone();
        self.pick(|path| *path != root)
    }

    /// A path that nothing has yet.
    fn new_path(&mut self) -> PathBuf {
        loop {
            let folder = self.pick(|path| path.symlink_metadata().unwrap().is_dir()).unwrap();
            let path = folder.join(OsStr::from_bytes(&self.dice.name()));
            if path.symlink_metadata().is_err() && path.as_os_str().len() < 2000 {
                return path;
            }
        }
    }

    fn write_new(&mut self) {
        let path = self.new_path();
        let size = self.dice.size(self.room);
        self.room -= size;
        let seed = self.dice.roll(12) as u64;
        match self.dice.roll(4) {
            // The same again, as far as it goes: dedup within the tree.
            0 => tree::write(&path, &tree::noise(seed, size)),
            1 => tree::write(&path, &tree::noise(u64::MAX / 2 + self.dice.roll(1 << 30) as u64, size)),
            2 => tree::write(&path, &tree::pages(seed, size)),
            _ => {
                // A hole between data.
                let file = File::create(&path).unwrap();
                file.set_len(size as u64).unwrap();
                if size > 100 {
                    file.write_all_at(b"at the begin", 0).unwrap();
                    file.write_all_at(b"and late", size as u64 * 3 / 4).unwrap();
                }
            }
        }
    }

    fn change(&mut self) {
        match self.dice.roll(14) {
            0..4 => self.write_new(),
            4 => fs::create_dir(self.new_path()).unwrap(),
            5 => {
                let target = [self.dice.one(&["", "../", "/"]).as_bytes(), self.dice.one(&["x", "<&>", "ü"]).as_bytes()].concat();
                std::os::unix::fs::symlink(OsStr::from_bytes(&target), self.new_path()).unwrap();
            }
            6 => {
                if let Some(file) = self.file() {
                    fs::hard_link(file, self.new_path()).unwrap();
                }
            }
            7 => {
                let path = self.new_path();
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
            }
            8 => {
                let value: Vec<u8> = (0..self.dice.roll(200)).map(|_| self.dice.roll(256) as u8).collect();
                let name = self.dice.one(&["user.a", "user.b", "user.c d"]);
                if let Some(path) = self.pick(|path| !path.is_symlink() && (path.is_file() || path.is_dir())) {
                    rustix::fs::lsetxattr(&path, name, &value, XattrFlags::empty()).unwrap();
                }
            }
            9 => {
                if let Some(path) = self.below_root() {
                    tree::set_mtime(&path, self.dice.roll(2_000_000_000) as i64 - 500_000_000, self.dice.roll(1_000_000_000) as i64);
                }
            }
            10 => {
                if let Some(path) = self.pick(|path| !path.is_symlink()) {
                    let (uid, gid) = (self.dice.roll(3) as u32 * 70_000, self.dice.roll(3) as u32 * 5);
                    std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).unwrap();
                    let mode = [0o4755, 0o2750, 0o1777, 0, 0o600, 0o7777][self.dice.roll(6)];
                    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
                }
            }
            11 => {
                if let Some(path) = self.below_root() {
                    if path.symlink_metadata().unwrap().is_dir() {
                        fs::remove_dir_all(path).unwrap();
                    } else {
                        fs::remove_file(path).unwrap();
                    }
                }
            }
            12 => {
                // Into itself a folder cannot go.
                if let Some(from) = self.below_root() {
                    let to = self.new_path();
                    if !to.starts_with(&from) {
                        fs::rename(from, to).unwrap();
                    }
                }
            }
            _ => {
                if let Some(path) = self.file() {
                    let length = path.metadata().unwrap().len();
                    let file = OpenOptions::new().write(true).open(path).unwrap();
                    match self.dice.roll(3) {
                        0 => file.set_len(length / 2).unwrap(),
                        1 => file.write_all_at(b"appended", length).unwrap(),
                        _ => file.write_all_at(b"XX", self.dice.roll(length as usize + 1) as u64).unwrap(),
                    }
                }
            }
        }
    }
}

/// The tree id of `folder` in a snapshot.
fn tree_of(home: &Home, snapshot: &str, folder: &Path) -> Id {
    let closed = Closed::new(Arc::new(LocalBackend::new(home.repository())));
    let repo = closed.open(&Secret::new(PASSWORD.to_owned())).unwrap().into_indexed().unwrap();
    // restic 0.14 says no more than the first digits.
    let (_, file) = repo.snapshots().unwrap().into_iter().find(|(id, _)| id.to_string().starts_with(snapshot)).unwrap();
    let found = reader::lookup(&repo, &SnapshotId(snapshot.to_owned()), &file.tree, folder.as_os_str().as_bytes()).unwrap();
    let Found::Node(node) = found else { panic!("the root was found") };
    node.subtree.unwrap()
}

fn by_restic(home: &Home, folder: &Path, force: bool) -> Summary {
    let program = Restic::new(home).call(["backup", "--json", "--no-cache"]).args(force.then_some("--force"));
    Summary::of(&program.arg(folder).run().success())
}

fn by_bbackup(home: &Home, folder: &Path, full: bool) -> Summary {
    Summary::of(&home.bbackup(["backup", "--json"]).args(full.then_some("--full")).arg("--paths").arg(folder).run().success())
}

#[test]
fn random_trees_are_the_same_for_both_programs() {
    needs!(Part::Root, Part::Restic);
    let said = Seed::of_this_run();
    let seed = said.0;
    let start = Instant::now();
    let home = Home::new();
    let restic = Restic::new(&home);
    let root = home.make_folder("tree");
    let mut garden = Garden { root: root.clone(), dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), room: 0 };
    if garden.dice.roll(2) == 0 {
        restic.init(2);
    } else {
        let _ = home.bbackup(["init"]).run().success();
    }
    for round in 0..ROUNDS {
        if round > 1 && start.elapsed() > TIME {
            break;
        }
        garden.room = ROUND_BYTES;
        for _ in 0..10 + garden.dice.roll(30) {
            garden.change();
        }
        let (ours_first, anew) = (garden.dice.roll(2) == 0, garden.dice.roll(2) == 0);
        let (first, second) = if ours_first {
            let first = by_bbackup(&home, &root, anew);
            (first, by_restic(&home, &root, !anew))
        } else {
            let first = by_restic(&home, &root, anew);
            (first, by_bbackup(&home, &root, !anew))
        };
        let when = format!("seed {seed}, round {round}, {} first", if ours_first { "bbackup" } else { "restic" });
        assert_eq!(second.number("data_blobs"), 0, "{when}: what is there was stored again: {}", second.message);
        assert_eq!(
            tree_of(&home, &first.snapshot, &root),
            tree_of(&home, &second.snapshot, &root),
            "{when}: other trees of the same input"
        );
        let good = Manifest::of(&root);
        let ours = garden.dice.roll(2) == 0;
        let snapshot = if garden.dice.roll(2) == 0 { &first.snapshot } else { &second.snapshot };
        let target = home.path("restored");
        if ours {
            let _ = home.bbackup(["restore", snapshot, "--to"]).arg(&target).run().success();
            good.assert_equals(&Manifest::of(&find_restored(&target, &root)));
        } else {
            restic.restore(snapshot, &target);
            good.kept_by_restic().assert_equals(&Manifest::of(&find_restored(&target, &root)).kept_by_restic());
        }
        fs::remove_dir_all(target).unwrap();
        match garden.dice.roll(5) {
            0 => _ = home.bbackup(["forget", "--keep-last", "3"]).run().success(),
            1 => _ = restic.call(["forget", "--keep-last", "3", "--no-cache"]).run().success(),
            _ => {}
        }
        match garden.dice.roll(5) {
            0 => _ = home.bbackup(["prune", "--max-unused", "0"]).run().success(),
            1 => _ = restic.call(["prune", "--max-unused", "0", "--no-cache"]).run().success(),
            _ => {}
        }
    }
    restic.check();
    let _ = home.bbackup(["check", "--read-data"]).run().success();
}
