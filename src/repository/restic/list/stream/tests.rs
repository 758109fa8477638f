//! What is given of trees in which something is lost.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::model::progress::Silent;
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::reader::testing::{Builder, file, folder};

/// What a sink was given: path, mode and data of each entry, and the name that it is another name of.
#[derive(Default)]
struct Given {
    entries: Vec<(String, u32, Vec<u8>, Option<String>)>,
    sizes: Vec<u64>,
    finished: bool,
}

impl Sink for Given {
    fn begin(&mut self, path: &[u8], metadata: &Metadata, link_to: Option<&[u8]>) -> io::Result<()> {
        self.entries.push((printable(path), metadata.mode, Vec::new(), link_to.map(printable)));
        self.sizes.push(if metadata.is_file() && link_to.is_none() { metadata.size } else { 0 });
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.entries.last_mut().unwrap().2.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        assert_eq!(self.entries.last().unwrap().2.len() as u64, *self.sizes.last().unwrap(), "exactly what was promised");
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.finished = true;
        Ok(())
    }
}

impl Given {
    fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|(path, ..)| &**path).collect()
    }

    fn of(&self, name: &str) -> (u32, &[u8]) {
        let (_, mode, data, _) = self.entries.iter().find(|(path, ..)| path == name).unwrap();
        (mode & 0o777, data)
    }
}

fn give(builder: &Builder, tree: &Id) -> (Given, Vec<(String, String)>) {
    let mut given = Given::default();
    let snapshot = SnapshotId("0".repeat(64));
    let lost = stream(&builder.indexed(), &snapshot, tree, b"/", &mut given, &Control::new(), &Silent).unwrap();
    assert!(given.finished);
    assert_eq!(lost.problem_count, lost.problems.len() as u64);
    (given, lost.problems.into_iter().map(|problem| (problem.path, problem.message)).collect())
}

fn paths(told: &[(String, String)]) -> Vec<&str> {
    told.iter().map(|(path, _)| &**path).collect()
}

fn damage(builder: &Builder, pack: &Id, at: usize) {
    let path = builder.path(pack);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, bytes).unwrap();
}

#[test]
fn lost_folders_and_strange_entries_cost_only_themselves() {
    let mut builder = Builder::new();
    let odd = builder.blob(BlobKind::Tree, br#"{"nodes":[{"name":"odd","type":"irregular","content":null}]}"#);
    let text = builder.blob(BlobKind::Data, b"text");
    let inner = builder.tree(&[file("text", &[text], 4)]);
    let mut none = folder("none", odd);
    none.subtree = None;
    let nodes =
        [folder("a", inner), folder("lost", Id::of(b"lost")), none, folder("odd", odd), file("..", &[text], 4), file("z", &[text], 4)];
    let tree = builder.tree(&nodes);
    builder.pack();
    let (given, told) = give(&builder, &tree);
    assert_eq!(given.names(), ["", "a", "a/text", "lost", "none", "odd", "z"]);
    assert_eq!(given.of("z").1, b"text");
    assert_eq!(paths(&told), ["/lost", "/none", "/odd/odd", "/.."], "{told:?}");
}

#[test]
fn data_that_no_index_knows_costs_the_rest_of_no_file() {
    let mut builder = Builder::new();
    let [one, two, three] = [&b"the first"[..], b"the second", b"the third"].map(|data| builder.blob(BlobKind::Data, data));
    let lost = Id::of(b"never stored");
    let nodes = [
        file("all-lost", &[lost], 5),
        file("end", &[one, two, lost], 29),
        file("middle", &[one, lost, three], 28),
        file("no-size", &[one, lost, two], 12),
        file("far-too-large", &[one, lost], u64::MAX),
        file("start", &[lost, two, three], 29),
        file("whole", &[one, two], 19),
    ];
    let tree = builder.tree(&nodes);
    builder.pack();
    let (given, told) = give(&builder, &tree);
    assert_eq!(given.names(), ["", "end", "middle", "start", "whole"]);
    assert_eq!(given.of("end"), (0o600, &b"the firstthe second\0\0\0\0\0\0\0\0\0\0"[..]));
    assert_eq!(given.of("middle"), (0o600, &b"the first\0\0\0\0\0\0\0\0\0\0the third"[..]));
    assert_eq!(given.of("start"), (0o600, &b"\0\0\0\0\0\0\0\0\0\0the secondthe third"[..]));
    assert_eq!(given.of("whole").1, b"the firstthe second");
    assert_eq!(paths(&told), ["/all-lost", "/end", "/middle", "/no-size", "/far-too-large", "/start"]);
    assert!(told.iter().all(|(_, message)| message.contains(&lost.to_string())), "{told:?}");
}

#[test]
fn damaged_data_is_told_and_a_file_without_any_is_left_out() {
    let mut builder = Builder::new();
    let good = builder.blob(BlobKind::Data, b"good");
    builder.pack();
    let bad = builder.blob(BlobKind::Data, b"damaged");
    let pack = builder.pack();
    let named = |name: &str, content: &[Id], size, inode| {
        let mut node = file(name, content, size);
        (node.metadata.links, node.metadata.inode) = (2, inode);
        node
    };
    let nodes = [
        file("a", &[bad], 7),
        file("b", &[bad, good], 11),
        file("c", &[good, bad, good, bad], 22),
        named("d", &[bad], 7, 7),
        named("e", &[bad], 7, 7),
        named("f", &[good], 4, 8),
        named("g", &[good], 4, 8),
    ];
    let tree = builder.tree(&nodes);
    builder.pack();
    damage(&builder, &pack, 20);
    for missing in [false, true] {
        if missing {
            fs::remove_file(builder.path(&pack)).unwrap();
        }
        let (given, told) = give(&builder, &tree);
        assert_eq!(given.names(), ["", "b", "c", "f", "g"]);
        assert_eq!(given.of("b"), (0o600, &b"\0\0\0\0\0\0\0good"[..]));
        assert_eq!(given.of("c").1, b"good\0\0\0\0\0\0\0good\0\0\0\0\0\0\0");
        assert_eq!(given.entries.last().unwrap().3.as_deref(), Some("f"));
        assert_eq!(paths(&told), ["/a", "/b", "/c", "/d", "/e"]);
        assert!(told[0].1.contains(&pack.to_string()), "{told:?}");
    }
}

/// What an index says of one blob and is true of another must not move what is whole to a wrong place.
#[test]
fn what_a_wrong_index_says_costs_only_what_it_names_wrongly() {
    let texts = ["the first", "another second", "3", "at the end"];
    for also_right in [false, true] {
        let mut builder = Builder::new();
        let content = texts.map(|text| builder.blob(BlobKind::Data, text.as_bytes()));
        let (pack, right) = builder.pack_without_index();
        let mut wrong = right.clone();
        let three = wrong[2];
        (wrong[1].offset, wrong[1].length, wrong[1].uncompressed) = (three.offset, three.length, three.uncompressed);
        builder.index(pack, &wrong);
        if also_right {
            builder.index(pack, &right);
        }
        let [one, two, three, four] = content;
        let nodes =
            [file("all", &content, 34), file("back", &[two, two], 28), file("start", &[two, one], 23), file("whole", &[three, four], 11)];
        let tree = builder.tree(&nodes);
        builder.pack();
        let (given, told) = give(&builder, &tree);
        assert_eq!(given.of("whole").1, b"3at the end");
        let dumped = |path: &str, size: usize| {
            let mut out = Vec::new();
            let snapshot = SnapshotId("0".repeat(64));
            let outcome = crate::repository::restic::list::dump(&builder.indexed(), &snapshot, &tree, path.as_bytes(), &mut out);
            outcome.map(|()| assert_eq!(out.len(), size))
        };
        dumped("/whole", 11).unwrap();
        if also_right {
            assert_eq!(told, []);
            assert_eq!(given.of("all").1, texts.concat().as_bytes());
            assert_eq!(given.of("start").1, b"another secondthe first");
            dumped("/all", 34).unwrap();
            continue;
        }
        assert_eq!(given.names(), ["", "all", "start", "whole"]);
        assert_eq!(given.of("all"), (0o600, &b"the first\0\0\0\0\0\0\0\0\0\0\0\0\0\x003at the end"[..]));
        assert_eq!(given.of("start"), (0o600, &b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0the first"[..]));
        assert_eq!(paths(&told), ["/all", "/back", "/start"]);
        assert!(told.iter().all(|(_, message)| message.contains(&two.to_string()) && message.contains("whole")), "{told:?}");
        dumped("/all", 0).unwrap_err();
    }
}

#[test]
fn a_file_of_another_size_than_its_data_is_dumped_with_an_error() {
    let mut builder = Builder::new();
    let text = builder.blob(BlobKind::Data, b"six by");
    let tree = builder.tree(&[file("long", &[text], 100), file("none", &[], 3), file("right", &[text], 6), file("short", &[text], 5)]);
    builder.pack();
    for (path, size) in [("/long", 6), ("/none", 0), ("/right", 6), ("/short", 6)] {
        let mut out = Vec::new();
        let snapshot = SnapshotId("0".repeat(64));
        let outcome = crate::repository::restic::list::dump(&builder.indexed(), &snapshot, &tree, path.as_bytes(), &mut out);
        assert_eq!((out.len(), outcome.is_ok()), (size, path == "/right"), "{outcome:?}");
    }
}
