//! Trees compared with what restic and Go themselves write.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::model::entry::{Timestamp, Xattr};
use crate::repository::restic::state::testing::{corpus, documents};

/// The tree blob that restic 0.19.1 made in the zone Europe/Berlin of a folder with links, devices, a fifo, attributes, ACLs,
/// set-user-id, sticky, mode 0, holes, odd owners, and names and link targets with quotes, controls, HTML, Unicode and
/// bytes that are not UTF-8, and of times from 1901 to 2446.
const RESTIC: &[u8] = include_bytes!("tests/restic-0.19.json");

/// What Go 1.26 makes of strings (`text`: the bytes, `strconv.Quote`, `json.Marshal`) and of times (`time`: zone, seconds,
/// nanoseconds, JSON after restic's clamping).
const GO: &str = include_str!("tests/go.txt");

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn encoded(zone: &str, nodes: &[Node]) -> String {
    let mut out = Vec::new();
    Encoder::new(TimeZone::get(zone).unwrap()).encode(nodes, &mut out);
    String::from_utf8(out).unwrap()
}

fn plain(name: &[u8]) -> Node {
    Node { name: name.to_vec(), metadata: Metadata::virtual_file(0), content: Vec::new(), subtree: None }
}

#[test]
fn a_tree_of_restic_comes_out_byte_for_byte() {
    let tree = parse(RESTIC).unwrap();
    assert!(tree.unknown.is_empty());
    assert_eq!(encoded("Europe/Berlin", &tree.nodes), String::from_utf8_lossy(RESTIC));
}

#[test]
fn a_tree_of_restic_says_what_was_there() {
    let tree = parse(RESTIC).unwrap();
    let find = |name: &[u8]| tree.nodes.iter().find(|node| node.name == name).unwrap_or_else(|| panic!("{}", name.escape_ascii()));
    let old = &find(b"old").metadata;
    assert_eq!((old.uid, old.gid, old.size, old.links), (1234, 4321, 4, 1));
    assert_eq!(old.mtime, Timestamp { secs: -468_010_433, nanos: 123_456_789 });
    assert_eq!(find(b"almost").metadata.mtime, Timestamp { secs: -1, nanos: 500_000_000 });
    assert_eq!(find(b"rawlink").metadata.kind, Kind::Symlink { target: b"bad\xff\x01\x08\x0c\t<>&".to_vec() });
    assert_eq!(find(b"null").metadata.kind, Kind::CharDevice { rdev: 0x103 });
    assert_eq!(find(b"blk").metadata.kind, Kind::BlockDevice { rdev: 0x801 });
    assert_eq!(find(b"setuid").metadata.mode, 0o4755);
    assert_eq!(find(b"sticky").metadata.mode, 0o1777);
    assert_eq!(find(b"empty").metadata.mode, 0o2755);
    assert_eq!(find(b"mode0").metadata.mode, 0);
    assert_eq!(find(b"ctl\x01\x1f\x7f\x07\x08\x0c\x0b").metadata.size, 2);
    assert_eq!(find(b"name\xff\xfe").metadata.size, 2);
    assert_eq!(find(b"new\nline\t\"quote\\").metadata.size, 2);
    assert_eq!(find("uni\u{2028}\u{2029}é\u{ad}\u{200b}😀\u{e0001}".as_bytes()).metadata.size, 2);
    let (plain, hard) = (find(b"plain"), find(b"hard"));
    assert!(plain.is_linked());
    assert_eq!((plain.metadata.inode, plain.metadata.device), (hard.metadata.inode, hard.metadata.device));
    assert!(plain.metadata.xattrs.contains(&Xattr { name: b"user.bin".to_vec(), value: vec![0, 255, 1] }));
    assert!(plain.metadata.xattrs.contains(&Xattr { name: b"user.empty".to_vec(), value: Vec::new() }));
    assert!(find(b"sub").subtree.is_some());
    assert_eq!(find(b"sparse").content.len(), 20);
}

#[test]
fn strings_are_as_go_writes_them() {
    let mut count = 0;
    for line in GO.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let ["text", bytes, quoted, json] = words[..] else { continue };
        let (bytes, quoted) = (unhex(bytes), String::from_utf8(unhex(quoted)).unwrap());
        let mut ours = String::new();
        quote::quote(&bytes, &mut ours);
        assert_eq!(ours, quoted);
        assert_eq!(quote::unquote(&quoted).unwrap(), bytes);
        let mut ours = Vec::new();
        quote::json_string(&bytes, &mut ours);
        assert_eq!(String::from_utf8(ours).unwrap(), String::from_utf8(unhex(json)).unwrap());
        count += 1;
    }
    assert_eq!(count, 120);
}

#[test]
fn times_are_as_go_writes_them() {
    let mut count = 0;
    for line in GO.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let ["time", zone, secs, nanos, json] = words[..] else { continue };
        let mut node = plain(b"t");
        node.metadata.mtime = Timestamp { secs: secs.parse().unwrap(), nanos: nanos.parse().unwrap() };
        let text = encoded(zone, &[node]);
        assert!(text.contains(&format!("\"mtime\":{json},")), "{line}: {text}");
        count += 1;
    }
    assert!(count > 200);
}

#[test]
fn quoted_names_that_nobody_wrote_are_refused() {
    for bad in ["a\"b", "a\nb", "\\", "\\q", "\\x1", "\\xg0", "\\u12", "\\ud800", "\\U00110000", "\\400", "\\18", "\\'"] {
        assert_eq!(quote::unquote(bad), None, "{bad}");
    }
    assert_eq!(quote::unquote("\\101\\x42\\u0043"), Some(b"ABC".to_vec()));
}

#[test]
fn what_is_no_tree_is_refused() {
    let node = |fields: &str| format!("{{\"nodes\":[{{\"name\":\"a\",\"type\":\"file\"{fields}}}]}}");
    assert_eq!(parse(node("").as_bytes()).unwrap().nodes[0].name, b"a");
    let nested = format!("{{\"x\":{}", "[".repeat(100_000));
    for bad in [
        "",
        "{}",
        "[]",
        "{\"nodes\":1}",
        "{\"nodes\":[{}]}",
        "{\"nodes\":[]",
        "{\"nodes\":[]}x",
        &nested,
        &node(",\"mtime\":\"2020-13-01T00:00:00Z\""),
        &node(",\"mtime\":\"2020-01-01T00:00:00\""),
        &node(",\"mtime\":\"2020-01-01T00:00:00+1:00\""),
        &node(",\"mtime\":\"é\""),
        &node(",\"size\":-1"),
        &node(",\"content\":[\"12\"]"),
        &node(",\"extended_attributes\":[{\"name\":\"a\",\"value\":\"*\"}]"),
        &node("").replace("\"a\"", "\"\\\\x\""),
    ] {
        assert!(parse(bad.as_bytes()).is_err(), "{}", &bad[..bad.len().min(100)]);
    }
}

#[test]
fn null_is_no_nodes() {
    // So `restic repair snapshots` wrote a folder that was lost.
    assert_eq!(parse(b"{\"nodes\":null}\n").unwrap(), Tree::default());
    assert!(parse_raw(b"{\"nodes\":null}\n").unwrap().nodes.is_empty());
}

/// A tree is one if its shell is one and each of its entries is one.
fn is_the_same_node_by_node(json: &[u8]) {
    let entries = parse_raw(json).and_then(|raw| raw.nodes.into_iter().map(parse_entry).collect::<Result<Vec<_>, _>>());
    let whole = parse(json);
    assert_eq!(entries.is_ok(), whole.is_ok(), "{entries:?} {whole:?}");
    let (Ok(entries), Ok(whole)) = (entries, whole) else { return };
    let mut tree = Tree::default();
    for entry in entries {
        match entry {
            Entry::Known(node) => tree.nodes.push(node),
            Entry::Unknown(unknown) => tree.unknown.push(unknown),
        }
    }
    assert_eq!(tree, whole);
}

/// What is read is written so that it is read again as the same.
fn read_or_refused(json: &[u8]) {
    is_the_same_node_by_node(json);
    let Ok(tree) = parse(json) else { return };
    let mut again = Vec::new();
    Encoder::new(TimeZone::UTC).encode(&tree.nodes, &mut again);
    let mut once = Vec::new();
    Encoder::new(TimeZone::UTC).encode(&parse(&again).unwrap().nodes, &mut once);
    assert_eq!(String::from_utf8(once), String::from_utf8(again));
}

#[test]
fn the_corpus_is_read() {
    for json in corpus("tree") {
        read_or_refused(&json);
    }
}

#[test]
fn unknown_fields_and_types_do_not_hide_the_rest() {
    let tree = parse(
        br#"{"v":{"a":[1]},"nodes":[{"name":"x","type":"irregular","content":null},
        {"name":"y","type":"dir","new":{"b":null},"content":null,"subtree":null}],"more":0}"#,
    )
    .unwrap();
    assert_eq!(tree.unknown, [UnknownNode { name: b"x".to_vec(), kind: "irregular".into() }]);
    assert_eq!(tree.nodes[0].name, b"y");
}

#[test]
fn names_that_leave_their_folder_are_named() {
    for bad in [&b""[..], b".", b"..", b"/", b"a/b", b"../x", b"/abs", b"a\0b"] {
        let error = plain(bad).check_name().unwrap_err();
        assert_eq!(error.to_string(), format!("`{}` is no name of an entry", crate::model::text::printable(bad)));
    }
    for good in [&b"..."[..], b".a", b"a\nb", b"\xff", b"a\\b"] {
        plain(good).check_name().unwrap();
    }
}

#[test]
fn one_by_one_is_the_same_as_all_at_once() {
    let nodes = parse(RESTIC).unwrap().nodes;
    let encoder = Encoder::new(TimeZone::get("Europe/Berlin").unwrap());
    let mut out = Vec::new();
    encoder.begin(&mut out);
    for node in &nodes {
        encoder.add(node, &mut out);
    }
    encoder.end(&mut out);
    assert_eq!(out, RESTIC);
    let mut empty = Vec::new();
    encoder.encode(&[], &mut empty);
    assert_eq!(empty, b"{\"nodes\":[]}\n");
    assert_eq!(parse(&empty).unwrap(), Tree::default());
}

prop_compose! {
    fn some_node()(
        name in proptest::collection::vec(any::<u8>(), 0..40),
        target in proptest::collection::vec(any::<u8>(), 1..20),
        kind in 0..7,
        mode in 0..0o10000_u32,
        secs in -62_000_000_000_i64..250_000_000_000,
        nanos in 0..1_000_000_000_u32,
        numbers in any::<(u32, u32, u64, u64, u64)>(),
        user in ".*",
        value in proptest::collection::vec(any::<u8>(), 0..20),
        blobs in proptest::collection::vec(any::<[u8; 32]>(), 0..3),
    ) -> Node {
        let mut node = plain(&name);
        let meta = &mut node.metadata;
        meta.kind = match kind {
            0 => Kind::File,
            1 => Kind::Directory,
            2 => Kind::Symlink { target },
            3 => Kind::CharDevice { rdev: numbers.2 },
            4 => Kind::BlockDevice { rdev: numbers.2 },
            5 => Kind::Fifo,
            _ => Kind::Socket,
        };
        let counted = match meta.kind {
            Kind::Directory => false,
            Kind::Fifo | Kind::Socket => numbers.2 > 1,
            _ => true,
        };
        meta.mode = mode;
        (meta.uid, meta.gid, meta.inode, meta.device) = (numbers.0, numbers.1, numbers.3, numbers.4);
        meta.links = if counted { numbers.2 } else { 0 };
        meta.size = if meta.is_file() { numbers.3 } else { 0 };
        (meta.mtime, meta.atime, meta.ctime) = (Timestamp { secs, nanos }, Timestamp { secs: nanos.into(), nanos: 0 }, Timestamp { secs: 0, nanos });
        meta.user = user;
        meta.xattrs = vec![Xattr { name: b"user.x".to_vec(), value }];
        if meta.is_file() {
            node.content = blobs.into_iter().map(Id).collect();
        } else if meta.is_dir() {
            node.subtree = blobs.into_iter().map(Id).next();
        }
        node
    }
}

proptest! {
    #[test]
    fn nodes_survive_the_way_there_and_back(nodes in proptest::collection::vec(some_node(), 0..5)) {
        let json = encoded("Etc/GMT+5", &nodes);
        prop_assert_eq!(parse(json.as_bytes()).unwrap().nodes, nodes);
    }

    #[test]
    fn nodes_described_alike_are_those_whose_json_is_alike(one in some_node(), mut two in some_node(), taken in any::<u16>()) {
        // Mostly the same node, so that both answers come up.
        let same = |bit: u32| taken & 1 << bit == 0 || bit > 5 && taken % 3 > 0;
        if same(0) { two.name.clone_from(&one.name); }
        if same(1) { two.metadata.kind = one.metadata.kind.clone(); }
        if same(2) { two.metadata.mode = one.metadata.mode; }
        if same(3) { two.metadata.xattrs.clone_from(&one.metadata.xattrs); }
        if same(4) { two.metadata.user.clone_from(&one.metadata.user); }
        if same(5) { two.metadata.mtime = one.metadata.mtime; }
        if same(6) { (two.metadata.atime, two.metadata.ctime) = (one.metadata.atime, one.metadata.ctime); }
        if same(7) { (two.metadata.uid, two.metadata.gid) = (one.metadata.uid, one.metadata.gid); }
        if same(8) { (two.metadata.inode, two.metadata.device) = (one.metadata.inode, one.metadata.device); }
        if same(9) { two.metadata.links = one.metadata.links; }
        if same(10) { two.metadata.size = one.metadata.size; }
        let alike = one.is_described_as(&two);
        (two.content, two.subtree) = (one.content.clone(), one.subtree);
        prop_assert_eq!(alike, encoded("UTC", &[one]) == encoded("UTC", &[two]));
    }

    #[test]
    fn a_tree_is_read_or_refused(json in documents("tree")) {
        read_or_refused(&json);
    }

    #[test]
    fn damaged_trees_never_panic(at in 0..RESTIC.len(), byte in any::<u8>(), end in 0..RESTIC.len()) {
        let mut json = RESTIC.to_vec();
        json[at] = byte;
        let _ = parse(&json);
        let _ = parse(&json[..end]);
    }
}
