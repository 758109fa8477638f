//! Repositories that the real restic 0.14 made, as files of this project: version 1, version 2, and one of version 1 that was
//! upgraded with two snapshots in it and has a third since. They are read, and damaged in a dozen ways, each with what check and
//! repair must say of it and what must be left afterwards.
//!
//! Each has three snapshots of `/srv/fixture/tree`; each backup made a pack of data, a pack of folders and an index file.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bbackup::model::entry::Kind;
use bbackup::platform::secret::Secret;
use bbackup::repository::backend::local::LocalBackend;
use bbackup::repository::contract::{Repository as _, Snapshot, SnapshotId};
use bbackup::repository::restic::archive::Options;
use bbackup::repository::restic::codec::BlobKind;
use bbackup::repository::restic::facade::{Locking, ResticRepository};
use bbackup::repository::restic::reader::{self, Found};
use bbackup::repository::restic::state::{Closed, Open};

use crate::support::faults;
use crate::support::home::{Home, PASSWORD, files_below, find_restored};
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};

const TREE: &str = "/srv/fixture/tree";

/// Contents by path.
type Files = BTreeMap<Vec<u8>, Vec<u8>>;

/// One of the repositories, unpacked into a home.
struct Fixture {
    home: Home,
    /// The snapshots, the oldest first, as they were before anything was damaged.
    snapshots: Vec<SnapshotId>,
    contents: Vec<Files>,
    /// For each snapshot the packs of data and of folders that its backup made.
    packs: Vec<[PathBuf; 2]>,
}

fn open(home: &Home) -> Open {
    Closed::new(Arc::new(LocalBackend::new(home.repository()))).open(&Secret::new(PASSWORD.to_owned())).unwrap()
}

/// All snapshots that are there with the contents of their files.
fn contents(home: &Home) -> Vec<(Snapshot, Files)> {
    let repository = ResticRepository::new(open(home), Options::default(), Locking::Retry(Duration::ZERO));
    let files = |id: &SnapshotId| {
        let mut paths = Vec::new();
        let mut visit = |listed: bbackup::repository::contract::Listed| {
            if listed.metadata.kind == Kind::File {
                paths.push(listed.path);
            }
            ControlFlow::Continue(())
        };
        repository.list(id, b"/", true, &mut visit).unwrap();
        let dump = |path: Vec<u8>| {
            let mut data = Vec::new();
            repository.dump(id, &path, &mut data).unwrap();
            (path, data)
        };
        paths.into_iter().map(dump).collect()
    };
    repository.snapshots().unwrap().into_iter().map(|snapshot| (snapshot.clone(), files(&snapshot.id))).collect()
}

impl Fixture {
    fn new(name: &str) -> Self {
        let home = Home::new();
        let archive = format!("{}/tests/fixtures/restic/{name}.tar.zst", env!("CARGO_MANIFEST_DIR"));
        let packed = zstd::stream::read::Decoder::new(File::open(archive).unwrap()).unwrap();
        tar::Archive::new(packed).unpack(home.repository()).unwrap();
        let (snapshots, contents) = contents(&home).into_iter().map(|(snapshot, files)| (snapshot.id, files)).unzip();
        let mut fixture = Self { home, snapshots, contents, packs: Vec::new() };
        fixture.packs = (0..3).map(|number| fixture.packs_of(number)).collect();
        fixture
    }

    fn packs_of(&self, number: usize) -> [PathBuf; 2] {
        let repo = open(&self.home).into_indexed().unwrap();
        let id = &self.snapshots[number];
        let tree = repo.snapshot(&id.0.parse().unwrap()).unwrap().tree;
        let own = ["first.txt", "deep/er/second.txt", "third.txt"][number];
        let found = reader::lookup(&repo, id, &tree, format!("{TREE}/{own}").as_bytes()).unwrap();
        let Found::Node(node) = found else { panic!("the root was found") };
        let data = repo.index().lookup(BlobKind::Data, &node.content[0]).unwrap().pack.to_string();
        let folders = repo.index().lookup(BlobKind::Tree, &tree).unwrap().pack.to_string();
        [data, folders].map(|name| self.home.repository().join("data").join(&name[..2]).join(name))
    }

    fn data(&self, number: usize) -> &PathBuf {
        &self.packs[number][0]
    }

    fn folders(&self, number: usize) -> &PathBuf {
        &self.packs[number][1]
    }

    fn snapshot(&self, number: usize) -> PathBuf {
        self.home.repository().join("snapshots").join(&self.snapshots[number].0)
    }

    fn indexes(&self) -> Vec<PathBuf> {
        files_below(&self.home.repository().join("index"))
    }
}

#[test]
fn what_restic_made_is_read_and_restored() {
    needs!(Part::Restic);
    for name in ["v1", "v2", "upgraded"] {
        let fixture = Fixture::new(name);
        let home = &fixture.home;
        let text = |number: usize, file: &str| {
            let path = format!("{TREE}/{file}").into_bytes();
            fixture.contents[number].get(&path).map(|data| String::from_utf8(data.clone()).unwrap())
        };
        let numbers = (1..=400).fold(String::new(), |text, number| text + &format!("{number}\n"));
        for number in 0..3 {
            assert_eq!(text(number, "numbers.txt").unwrap(), numbers, "{name}");
            assert_eq!(text(number, "empty").unwrap(), "", "{name}");
            assert_eq!(text(number, "deep/one").unwrap().len(), 3000, "{name}");
        }
        assert_eq!(text(0, "first.txt").unwrap(), "first\n", "{name}");
        assert_eq!(text(1, "deep/er/second.txt").unwrap(), "second\n", "{name}");
        assert_eq!(text(1, "deep/two").unwrap(), "two\n".repeat(1250), "{name}");
        assert_eq!((text(2, "first.txt"), text(2, "third.txt").unwrap().as_str()), (None, "third\n"), "{name}");
        assert_eq!(open(home).version(), if name == "v1" { 1 } else { 2 });
        let _ = home.bbackup(["check", "--read-data"]).run().success();
        // 4: it is of another host, which is said.
        let _ = home.bbackup(["restore", "latest", "--to"]).arg(home.path("out")).run().exits(4).says("of the host fixture");
        let restored = find_restored(&home.path("out"), TREE.as_ref());
        assert_eq!(fs::read_to_string(restored.join("third.txt")).unwrap(), "third\n");
        assert_eq!(fs::read_link(restored.join("link")).unwrap(), PathBuf::from("numbers.txt"));
        // Another backup, by us: the version stays, and restic finds nothing wrong.
        let folder = home.make_folder("tree");
        fs::write(folder.join("numbers.txt"), numbers).unwrap();
        assert_eq!(home.back_up(&folder).number("data_blobs"), 0, "{name}: what restic had stored was stored again");
        Restic::new(home).check();
    }
}

/// A kind of damage, and what must come of it.
struct Damage {
    name: &'static str,
    hurt: fn(&Fixture),
    /// What check names.
    named: fn(&Fixture) -> PathBuf,
    /// Words of `check`, `repair index` and `repair snapshots`.
    says: [&'static str; 3],
    /// Exit code of `repair index --read-data`, and of `repair snapshots --forget` after it.
    repairs: [i32; 2],
    /// The snapshots that are whole afterwards, under the ids that they had.
    whole: &'static [usize],
    /// How many others there are then, without what was lost.
    partial: usize,
}

fn flip_in(path: &std::path::Path) {
    faults::flip(path, 60);
}

fn remove(path: &std::path::Path) {
    fs::remove_file(path).unwrap();
}

const DAMAGES: [Damage; 12] = [
    Damage {
        name: "data is gone",
        hurt: |f| remove(f.data(2)),
        named: |f| f.data(2).clone(),
        says: [
            "is missing: 2 blobs are lost with it",
            "is missing: 2 blobs are lost with it",
            "1 of 1 pieces are lost; 0 of 700 bytes are left",
        ],
        repairs: [4, 0],
        whole: &[0, 1],
        partial: 1,
    },
    Damage {
        name: "data of all is gone",
        hurt: |f| remove(f.data(0)),
        named: |f| f.data(0).clone(),
        says: [
            "is missing: 3 blobs are lost with it",
            "is missing: 3 blobs are lost with it",
            "1 of 1 pieces are lost; 0 of 3000 bytes are left",
        ],
        repairs: [4, 0],
        whole: &[],
        partial: 3,
    },
    Damage {
        name: "data is rotten",
        hurt: |f| flip_in(f.data(2)),
        named: |f| f.data(2).clone(),
        says: ["its content has changed", "1 of 2 blobs in it are whole", "1 of 1 pieces are lost; 0 of"],
        repairs: [4, 0],
        whole: &[0, 1],
        partial: 1,
    },
    Damage {
        name: "data is cut off",
        hurt: |f| faults::truncate(f.data(1), 40),
        named: |f| f.data(1).clone(),
        says: ["has 40 bytes, but", "0 of 2 blobs in it are whole", "1 of 1 pieces are lost; 0 of 5000 bytes are left"],
        repairs: [4, 0],
        whole: &[0],
        partial: 2,
    },
    Damage {
        name: "data has something after it",
        hurt: |f| {
            fs::set_permissions(f.data(2), Permissions::from_mode(0o600)).unwrap();
            File::options().append(true).open(f.data(2)).unwrap().write_all(b"more").unwrap();
        },
        named: |f| f.data(2).clone(),
        says: ["its content has changed", "2 of 2 blobs in it are whole", "Nothing is missing in 3 snapshots"],
        repairs: [4, 0],
        whole: &[0, 1, 2],
        partial: 0,
    },
    Damage {
        name: "folders are gone",
        hurt: |f| remove(f.folders(2)),
        named: |f| f.folders(2).clone(),
        says: ["is missing: 5 blobs are lost with it", "is missing: 5 blobs are lost with it", "nothing of it was left; removed"],
        repairs: [4, 0],
        whole: &[0, 1],
        partial: 0,
    },
    Damage {
        name: "folders are rotten",
        hurt: |f| flip_in(f.folders(0)),
        named: |f| f.folders(0).clone(),
        says: [
            "everything in /srv/fixture/tree/deep is lost",
            "5 of 6 blobs in it are whole",
            "/srv/fixture/tree/deep: everything in it is lost",
        ],
        repairs: [4, 0],
        whole: &[1, 2],
        partial: 1,
    },
    Damage {
        name: "an index file is gone",
        hurt: |f| remove(&f.indexes()[0]),
        named: |f| f.folders(2).clone(),
        says: ["is in no index: nothing uses it", "2 index files replaced by 1", "Nothing is missing in 3 snapshots"],
        repairs: [0, 0],
        whole: &[0, 1, 2],
        partial: 0,
    },
    Damage {
        name: "all index files are gone",
        hurt: |f| f.indexes().iter().for_each(|path| remove(path)),
        named: |f| f.folders(2).clone(),
        says: ["The repository is damaged: 3 errors", "0 index files replaced by 1", "Nothing is missing in 3 snapshots"],
        repairs: [0, 0],
        whole: &[0, 1, 2],
        partial: 0,
    },
    Damage {
        name: "an index file is rotten",
        hurt: |f| flip_in(&f.indexes()[0]),
        named: |f| f.indexes()[0].clone(),
        says: [
            "expected content whose SHA-256 is its name",
            "expected content whose SHA-256 is its name",
            "Nothing is missing in 3 snapshots",
        ],
        repairs: [0, 0],
        whole: &[0, 1, 2],
        partial: 0,
    },
    Damage {
        name: "a snapshot is rotten",
        hurt: |f| flip_in(&f.snapshot(0)),
        named: |f| f.snapshot(0),
        says: [
            "expected content whose SHA-256 is its name",
            "6 packs looked into, 3 index files replaced by 1",
            "nothing of it was left; removed",
        ],
        repairs: [0, 0],
        whole: &[1, 2],
        partial: 0,
    },
    Damage {
        name: "a snapshot is empty",
        hurt: |f| faults::truncate(&f.snapshot(2), 0),
        named: |f| f.snapshot(2),
        says: [
            "expected content whose SHA-256 is its name",
            "6 packs looked into, 3 index files replaced by 1",
            "nothing of it was left; removed",
        ],
        repairs: [0, 0],
        whole: &[0, 1],
        partial: 0,
    },
];

fn damaged(version: &str, damage: &Damage) {
    let fixture = Fixture::new(version);
    let home = &fixture.home;
    let what = format!("{version}: {}", damage.name);
    let named = (damage.named)(&fixture).file_name().unwrap().to_str().unwrap()[..8].to_owned();
    (damage.hurt)(&fixture);
    let run = |words: &[&str], code: i32, says: &str| {
        let outcome = home.bbackup(words).run();
        assert!(outcome.code() == Some(code) && !outcome.errors().contains("panicked"), "{what}: {}", outcome.describe());
        let said = outcome.text() + &outcome.errors();
        assert!(said.contains(says), "{what}: `{says}` is missing\n{}", outcome.describe());
        said
    };
    let said = run(&["check", "--read-data"], 1, damage.says[0]);
    assert!(said.contains(&named), "{what}: {named} is missing\n{said}");
    // What is restored of it before any repair is right, or it is said that it is not.
    let out = home.path("before");
    let restored = home.bbackup(["restore", &fixture.snapshots[1].0, "--to"]).arg(&out).run();
    let is_damaged = !damage.whole.contains(&1);
    assert!(!(is_damaged && restored.code() == Some(0)), "{what}: {}", restored.describe());
    for path in files_below(&find_restored(&out, TREE.as_ref())).iter().filter(|path| restored.code() == Some(0) && !path.is_symlink()) {
        let name = path.strip_prefix(&out).unwrap().to_str().unwrap();
        let expected = fixture.contents[1].iter().find(|(path, _)| path.ends_with(name.as_bytes()));
        assert_eq!(Some(&fs::read(path).unwrap()), expected.map(|(_, data)| data), "{what}: {name}");
    }

    let _ = run(&["repair", "index", "--read-data"], damage.repairs[0], damage.says[1]);
    let _ = run(&["repair", "snapshots", "--forget"], damage.repairs[1], damage.says[2]);
    let _ = run(&["prune", "--max-unused", "0"], 0, "");
    let _ = run(&["check", "--read-data"], 0, "No errors were found");
    Restic::new(home).check();
    let left = contents(home);
    for number in damage.whole {
        let found = left.iter().find(|(snapshot, _)| snapshot.id == fixture.snapshots[*number]);
        assert!(found.is_some_and(|(_, files)| *files == fixture.contents[*number]), "{what}: snapshot {number} is lost");
    }
    let partial: Vec<_> = left.iter().filter(|(snapshot, _)| snapshot.tags.iter().any(|tag| tag == "partial")).collect();
    assert_eq!((left.len(), partial.len()), (damage.whole.len() + damage.partial, damage.partial), "{what}: {left:?}");
    for (snapshot, files) in partial {
        let number = fixture.snapshots.iter().position(|id| Some(id) == snapshot.original.as_ref()).unwrap();
        let whole = &fixture.contents[number];
        // A file that is not whole has lost pieces, and no byte of it is made up.
        assert!(files.iter().all(|(path, data)| whole[path] == *data || data.len() < whole[path].len()), "{what}: {files:?}");
        assert!(files != whole, "{what}");
    }
}

#[test]
fn damaged_in_a_dozen_ways() {
    needs!(Part::Restic);
    // The end of that pack holds other blobs in the upgraded one, so that other snapshots lose something.
    let is_meant = |version: &str, damage: &Damage| version != "upgraded" || damage.name != "data is cut off";
    let all = ["v2", "v1", "upgraded"].into_iter().flat_map(|version| DAMAGES.iter().map(move |damage| (version, damage)));
    let work: Vec<_> = all.filter(|(version, damage)| is_meant(version, damage)).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((version, damage)) = work.get(next.fetch_add(1, Ordering::SeqCst)) {
                    damaged(version, damage);
                }
            });
        }
    });
}
