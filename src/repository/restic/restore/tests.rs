//! Restores that somebody made difficult: hostile trees, things in the way, damage.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::model::entry::Kind;
use crate::model::progress::{Event, Silent};
use crate::repository::contract::SnapshotId;
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::reader::testing::{Builder, file, folder, link, node};
use crate::repository::restic::tree::Node;

/// A repository, a folder that is restored into, and one beside it that must stay as it is.
struct Scene {
    builder: Builder,
    folder: TempDir,
    request: RestoreRequest,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/file"), "untouched").unwrap();
        let request = RestoreRequest {
            snapshot: SnapshotId("0".repeat(64)),
            path: b"/".to_vec(),
            destination: folder.path().join("target"),
            owners: rustix::process::geteuid().is_root(),
            delete_extra: false,
            include: Vec::new(),
            dry_run: false,
        };
        Self { builder: Builder::new(), folder, request }
    }

    fn target(&self, name: &str) -> PathBuf {
        self.request.destination.join(name)
    }

    fn outside(&self) -> PathBuf {
        self.folder.path().join("outside")
    }

    fn text(&mut self, name: &str, text: &str) -> Node {
        let id = self.builder.blob(BlobKind::Data, text.as_bytes());
        file(name, &[id], text.len() as u64)
    }

    /// Stores the nodes as a snapshot and restores it.
    fn restore(&mut self, nodes: &[Node]) -> RestoreSummary {
        let tree = self.builder.tree(nodes);
        self.builder.pack();
        self.again(&tree)
    }

    fn again(&self, tree: &Id) -> RestoreSummary {
        restore(&self.builder.indexed(), tree, &self.request, &Control::new(), &Silent).unwrap()
    }

    fn assert_nothing_outside(&self) {
        let mut names: Vec<_> = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["outside", "target"]);
        let inside: Vec<_> = fs::read_dir(self.outside()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(inside, ["file"]);
        assert_eq!(fs::read(self.outside().join("file")).unwrap(), b"untouched");
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn paths(summary: &RestoreSummary) -> Vec<&str> {
    let mut paths: Vec<_> = summary.problems.iter().map(|problem| &*problem.path).collect();
    paths.sort_unstable();
    paths
}

#[test]
fn hostile_names_lead_nowhere() {
    let mut scene = Scene::new();
    let hostile = ["../outside/new", "..", ".", "", "/tmp/absolute-name-of-a-test", "a/b", "nul\0nul"];
    let mut nodes = Vec::new();
    for name in hostile {
        nodes.push(scene.text(name, "evil"));
        let below = scene.text("below", "evil");
        let tree = scene.builder.tree(&[below]);
        nodes.push(folder(name, tree));
        nodes.push(link(name, "/etc"));
        nodes.push(node(name, Kind::Fifo));
    }
    nodes.push(scene.text("good", "good"));
    let summary = scene.restore(&nodes);
    assert_eq!(summary.problems.len(), 4 * hostile.len());
    assert!(summary.problems.iter().any(|problem| problem.path == "/../outside/new"), "{:?}", summary.problems);
    assert_eq!(read(scene.target("good")), "good");
    assert_eq!(fs::read_dir(&scene.request.destination).unwrap().count(), 1);
    assert!(!Path::new("/tmp/absolute-name-of-a-test").exists());
    scene.assert_nothing_outside();
}

#[test]
fn a_name_that_is_there_twice_is_no_way_out() {
    let mut scene = Scene::new();
    let inner = scene.text("file", "evil");
    let tree = scene.builder.tree(&[inner]);
    let outside = scene.outside();
    let way_out = link("a", outside.as_os_str().as_encoded_bytes());
    let again = scene.text("b", "second");
    let nodes = [way_out.clone(), folder("a", tree), link("b", outside.join("file").as_os_str().as_encoded_bytes()), again];
    let summary = scene.restore(&nodes);
    assert_eq!(paths(&summary), ["/a", "/b"]);
    scene.assert_nothing_outside();
    // The other way round the folder is there, and the link is refused.
    fs::remove_dir_all(&scene.request.destination).unwrap();
    let summary = scene.restore(&[folder("a", tree), way_out]);
    assert_eq!(paths(&summary), ["/a"]);
    assert_eq!(read(scene.target("a/file")), "evil");
    scene.assert_nothing_outside();
}

#[test]
fn links_that_stand_in_the_destination_are_replaced_and_not_followed() {
    let mut scene = Scene::new();
    let inner = scene.text("file", "restored");
    let tree = scene.builder.tree(&[inner]);
    fs::create_dir_all(scene.target("deep")).unwrap();
    symlink(scene.outside(), scene.target("folder")).unwrap();
    symlink(scene.outside(), scene.target("deep/folder")).unwrap();
    symlink(scene.outside().join("file"), scene.target("text")).unwrap();
    symlink(scene.outside().join("none"), scene.target("pipe")).unwrap();
    let deep = scene.builder.tree(&[folder("folder", tree)]);
    let nodes = [folder("deep", deep), folder("folder", tree), node("pipe", Kind::Fifo), scene.text("text", "restored too")];
    let summary = scene.restore(&nodes);
    assert_eq!(summary.problems, []);
    assert_eq!(read(scene.target("folder/file")), "restored");
    assert_eq!(read(scene.target("deep/folder/file")), "restored");
    assert_eq!(read(scene.target("text")), "restored too");
    assert!(fs::symlink_metadata(scene.target("folder")).unwrap().is_dir());
    scene.assert_nothing_outside();
}

#[test]
fn a_file_that_is_linked_elsewhere_is_replaced() {
    let mut scene = Scene::new();
    fs::create_dir(&scene.request.destination).unwrap();
    fs::hard_link(scene.outside().join("file"), scene.target("file")).unwrap();
    let before = fs::metadata(scene.outside().join("file")).unwrap();
    let mut text = scene.text("file", "restored");
    text.metadata.mode = 0o4777;
    assert_eq!(scene.restore(&[text]).problems, []);
    assert_eq!(read(scene.target("file")), "restored");
    let after = fs::metadata(scene.outside().join("file")).unwrap();
    assert_eq!((before.mode(), before.mtime(), before.ino()), (after.mode(), after.mtime(), after.ino()));
    scene.assert_nothing_outside();
}

#[test]
fn what_is_in_the_way_goes_unless_it_is_a_folder_with_something_in_it() {
    let mut scene = Scene::new();
    for name in ["empty", "full", "other full"] {
        fs::create_dir_all(scene.target(name)).unwrap();
    }
    fs::write(scene.target("full/precious"), "mine").unwrap();
    symlink(scene.outside(), scene.target("full/way out")).unwrap();
    fs::create_dir(scene.target("other full/sub")).unwrap();
    fs::write(scene.target("folder"), "a file").unwrap();
    fs::write(scene.target("kept"), "extra").unwrap();
    let tree = scene.builder.tree(&[]);
    let nodes = [scene.text("empty", "text"), folder("folder", tree), scene.text("full", "text"), link("other full", "somewhere")];
    scene.request.dry_run = true;
    assert_eq!(paths(&scene.restore(&nodes)), ["/full", "/other full"]);
    assert!(!scene.target("folder").is_dir() && scene.target("empty").is_dir());
    scene.request.dry_run = false;
    let summary = scene.restore(&nodes);
    assert_eq!(paths(&summary), ["/full", "/other full"]);
    assert_eq!(read(scene.target("full/precious")), "mine");
    assert_eq!(read(scene.target("empty")), "text");
    assert!(scene.target("folder").is_dir());

    let tree = scene.builder.tree(&nodes);
    scene.builder.pack();
    scene.request.delete_extra = true;
    let summary = scene.again(&tree);
    assert_eq!(summary.problems, []);
    assert_eq!(summary.files_deleted, 1);
    assert_eq!(read(scene.target("full")), "text");
    assert_eq!(fs::read_link(scene.target("other full")).unwrap(), Path::new("somewhere"));
    assert!(!scene.target("kept").exists());
    scene.assert_nothing_outside();
}

#[test]
fn what_is_extra_goes_without_following_links() {
    let mut scene = Scene::new();
    fs::create_dir_all(scene.target("a/b/c/d")).unwrap();
    fs::write(scene.target("a/b/c/file"), "x").unwrap();
    symlink(scene.outside(), scene.target("a/b/link")).unwrap();
    symlink(scene.outside(), scene.target("link")).unwrap();
    fs::create_dir(scene.target("kept")).unwrap();
    fs::write(scene.target("kept/extra"), "x").unwrap();
    scene.request.delete_extra = true;
    let tree = scene.builder.tree(&[]);
    let nodes = [folder("kept", tree)];
    scene.request.dry_run = true;
    assert_eq!(scene.restore(&nodes).files_deleted, 3);
    assert!(scene.target("kept/extra").exists());
    scene.request.dry_run = false;
    let summary = scene.restore(&nodes);
    assert_eq!((summary.files_deleted, summary.problems.len()), (8, 0));
    assert_eq!(fs::read_dir(scene.target("kept")).unwrap().count(), 0);
    scene.assert_nothing_outside();

    // Only what was asked for is cleared.
    fs::write(scene.target("beside"), "x").unwrap();
    fs::write(scene.target("kept/extra"), "x").unwrap();
    scene.request.include = vec![b"kept".to_vec()];
    assert_eq!(scene.restore(&nodes).files_deleted, 1);
    assert!(scene.target("beside").exists());
}

#[test]
fn damage_costs_only_the_files_that_have_it() {
    let mut scene = Scene::new();
    let (first, second, copied) = (scene.text("first", "the first"), scene.text("second", "the second"), scene.text("third", "the third"));
    let both = [first.content[0], second.content[0]];
    let nodes = [file("both", &both, 19), first, file("lost", &[Id::of(b"never stored")], 5), second, copied];
    let data = scene.builder.pack();
    // Another copy of the third.
    scene.text("third", "the third");
    let tree = scene.builder.tree(&nodes);
    scene.builder.pack();
    let path = scene.builder.path(&data);
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    let third = scene.builder.indexed().index().lookup_all(BlobKind::Data, &nodes[4].content[0]);
    let third = third.iter().find(|location| location.pack == data).unwrap();
    bytes[third.offset as usize + 20] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, &bytes).unwrap();
    let summary = scene.again(&tree);
    assert_eq!(paths(&summary), ["/both", "/first", "/lost"]);
    assert_eq!(summary.entries_lost, 3);
    let message = &summary.problems.iter().find(|problem| problem.path == "/first").unwrap().message;
    assert!(message.contains(&nodes[1].content[0].to_string()) && message.contains(&data.to_string()), "{message}");
    assert_eq!(read(scene.target("second")), "the second");
    assert_eq!(read(scene.target("third")), "the third");
    assert!(!scene.target("first").exists() && !scene.target("lost").exists());
    assert_eq!(fs::metadata(scene.target("both")).unwrap().mode() & 0o777, 0o600, "a damaged file must not look whole");
    assert_eq!(summary.files_restored, 2);

    // Cut off in the middle: what is before the cut is restored.
    bytes[20] ^= 1;
    bytes.truncate(third.offset as usize);
    fs::write(&path, &bytes).unwrap();
    let summary = scene.again(&tree);
    assert_eq!(paths(&summary), ["/lost"]);
    assert_eq!(read(scene.target("both")), "the firstthe second");
    fs::remove_file(&path).unwrap();
    fs::remove_dir_all(&scene.request.destination).unwrap();
    assert_eq!(paths(&scene.again(&tree)), ["/both", "/first", "/lost", "/second"]);
}

#[test]
fn lost_folders_and_unknown_types_are_named() {
    let mut scene = Scene::new();
    let json = br#"{"nodes":[{"name":"odd","type":"irregular","content":null}]}"#;
    let odd = scene.builder.blob(BlobKind::Tree, json);
    let broken = scene.builder.blob(BlobKind::Tree, b"[]");
    let mut none = folder("none", odd);
    none.subtree = None;
    let nodes = [folder("broken", broken), folder("lost", Id::of(b"lost")), none, folder("odd", odd), scene.text("text", "text")];
    let summary = scene.restore(&nodes);
    assert_eq!(paths(&summary), ["/broken", "/lost", "/none", "/odd/odd"]);
    assert_eq!(read(scene.target("text")), "text");
    assert_eq!(fs::metadata(scene.target("lost")).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn zeros_become_holes_and_holes_become_zeros() {
    const MIB: usize = 1 << 20;
    let mut scene = Scene::new();
    let zeros = scene.builder.blob(BlobKind::Data, &vec![0; MIB]);
    let mut half = vec![7; MIB];
    half[MIB / 4..].fill(0);
    let half_id = scene.builder.blob(BlobKind::Data, &half);
    let sparse = file("sparse", &[zeros, half_id, zeros, zeros], 4 * MIB as u64);
    let tree = scene.builder.tree(&[sparse, file("zeros", &[zeros], MIB as u64)]);
    scene.builder.pack();
    let expected = [vec![0; MIB], half, vec![0; 2 * MIB]].concat();
    assert_eq!(scene.again(&tree).problems, []);
    assert!(fs::read(scene.target("sparse")).unwrap() == expected);
    let blocks = fs::metadata(scene.target("sparse")).unwrap().blocks() * 512;
    assert!(blocks <= MIB as u64 / 2, "{blocks} bytes");
    assert_eq!(fs::metadata(scene.target("zeros")).unwrap().blocks(), 0);
    assert_eq!(fs::metadata(scene.target("zeros")).unwrap().len(), MIB as u64);
    // Into a file that has something else there.
    for length in [4 * MIB, 5 * MIB, 3 * MIB + 5] {
        fs::write(scene.target("sparse"), vec![9; length]).unwrap();
        let summary = scene.again(&tree);
        assert_eq!((summary.problems.len(), summary.files_restored, summary.files_unchanged), (0, 1, 1));
        assert!(fs::read(scene.target("sparse")).unwrap() == expected, "{length}");
    }
}

#[test]
fn without_owners_nobody_elses_rights_are_lent() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut scene = Scene::new();
    let mut nodes = [scene.text("mine", "x"), scene.text("theirs", "x")];
    nodes[0].metadata.mode = 0o6755;
    nodes[1].metadata.mode = 0o6755;
    nodes[1].metadata.uid = 1234;
    nodes[1].metadata.gid = 1234;
    scene.request.owners = false;
    assert_eq!(scene.restore(&nodes).problems, []);
    let mode = |name| fs::metadata(scene.target(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("mine"), mode("theirs")), (0o6755, 0o755));
    scene.request.owners = true;
    assert_eq!(scene.restore(&nodes).problems, []);
    let theirs = fs::metadata(scene.target("theirs")).unwrap();
    assert_eq!((theirs.uid(), theirs.gid(), theirs.mode() & 0o7777), (1234, 1234, 0o6755));
}

#[test]
fn what_is_lost_with_the_root_is_told_of_the_root() {
    let scene = Scene::new();
    let summary = scene.again(&Id::of(b"nowhere"));
    assert_eq!(paths(&summary), ["/"], "{:?}", summary.problems);
}

#[test]
fn groups_of_hard_links_are_sorted_out() {
    let mut scene = Scene::new();
    let (one, two) = (scene.text("a", "one"), scene.text("x", "two"));
    let linked = |from: &Node, name: &str, inode| {
        let mut node = from.clone();
        node.name = name.into();
        (node.metadata.inode, node.metadata.device, node.metadata.links) = (inode, 1, 2);
        node
    };
    let nodes = [linked(&one, "a", 1), linked(&one, "b", 1), linked(&two, "x", 2), linked(&two, "y", 2)];
    // What is there is linked crosswise.
    fs::create_dir(&scene.request.destination).unwrap();
    for (first, second) in [("a", "x"), ("b", "y")] {
        fs::write(scene.target(first), "old").unwrap();
        fs::hard_link(scene.target(first), scene.target(second)).unwrap();
    }
    let summary = scene.restore(&nodes);
    assert_eq!(summary.problems, []);
    let inode = |name| fs::metadata(scene.target(name)).unwrap().ino();
    assert_eq!((inode("a"), inode("x")), (inode("b"), inode("y")));
    assert_ne!(inode("a"), inode("x"));
    assert_eq!((read(scene.target("b")), read(scene.target("y"))), ("one".into(), "two".into()));
    // Once more: nothing to do.
    let summary = scene.restore(&nodes);
    assert_eq!((summary.files_restored, summary.files_unchanged), (0, 2));
}

#[test]
fn folders_without_end_come_to_an_end() {
    let mut scene = Scene::new();
    let mut tree = scene.builder.tree(&[]);
    for _ in 0..4200 {
        tree = scene.builder.tree(&[folder("d", tree)]);
    }
    scene.builder.pack();
    let summary = scene.again(&tree);
    assert_eq!(summary.problems.len(), 1, "{:?}", summary.problems);
    assert!(summary.problems[0].message.contains("4096"), "{:?}", summary.problems);
    // The standard library removes such a folder only where paths are long enough.
    let target = Target::new(Some(scene.folder.path())).unwrap();
    Target::remove(std::os::fd::AsFd::as_fd(&*target.open(&Target::root(b"", false)).unwrap()), b"target", true, &|| true).unwrap();
    assert!(!scene.request.destination.exists());
}

#[test]
fn a_destination_that_cannot_be_is_an_error() {
    let mut scene = Scene::new();
    let node = scene.text("file", "x");
    let tree = scene.builder.tree(&[node]);
    scene.builder.pack();
    for destination in [scene.outside().join("file"), scene.outside().join("file/below"), PathBuf::from("/proc/self/nothing/here")] {
        scene.request.destination = destination.clone();
        let error = restore(&scene.builder.indexed(), &tree, &scene.request, &Control::new(), &Silent).unwrap_err();
        assert!(matches!(error, RepositoryError::Target { .. }), "{}: {error}", destination.display());
    }
    scene.request.destination = scene.folder.path().join("not/there/yet");
    scene.request.dry_run = true;
    assert_eq!(scene.again(&tree).files_restored, 1);
    assert!(!scene.folder.path().join("not").exists());
}

/// A piece that no index knows costs itself: what is before it and after it has its place.
#[test]
fn what_is_left_of_a_file_is_restored() {
    let mut scene = Scene::new();
    let [one, two, three] = ["the first", "the second", "the third"].map(|text| scene.text("x", text).content[0]);
    let lost = Id::of(b"never stored");
    let nodes = [
        file("all-lost", &[lost], 5),
        file("end", &[one, two, lost], 29),
        file("middle", &[one, lost, three], 28),
        file("more", &[one, lost, two, lost, three], 48),
        file("start", &[lost, two, three], 29),
        file("wrong-size", &[one, lost, two], 12),
    ];
    let tree = scene.builder.tree(&nodes);
    scene.builder.pack();
    for _ in 0..2 {
        let summary = scene.again(&tree);
        assert_eq!(paths(&summary), ["/all-lost", "/end", "/middle", "/more", "/start", "/wrong-size"]);
        assert!(summary.problems.iter().all(|problem| problem.message.contains(&lost.to_string())), "{:?}", summary.problems);
        assert_eq!((summary.files_restored, summary.files_unchanged), (0, 0));
        assert_eq!(read(scene.target("end")), format!("the firstthe second{}", "\0".repeat(10)));
        assert_eq!(read(scene.target("middle")), format!("the first{}the third", "\0".repeat(10)));
        assert_eq!(read(scene.target("more")), format!("the first{}the third", "\0".repeat(30)));
        assert_eq!(read(scene.target("start")), format!("{}the secondthe third", "\0".repeat(10)));
        assert_eq!(read(scene.target("wrong-size")), format!("the first{}", "\0".repeat(3)));
        assert!(!scene.target("all-lost").exists());
        for name in ["end", "middle", "more", "start"] {
            assert_eq!(fs::metadata(scene.target(name)).unwrap().mode() & 0o777, 0o600, "it must not look whole");
        }
    }
    // What is on disk in the place of the lost piece is all that there is of it.
    fs::write(scene.target("middle"), "the first0123456789the third").unwrap();
    scene.again(&tree);
    assert_eq!(read(scene.target("middle")), "the first0123456789the third");
}

/// What was not compared because somebody cancelled is not taken for right.
#[test]
fn a_cancelled_comparison_gives_no_file_its_metadata() {
    let mut scene = Scene::new();
    let node = scene.text("file", "as it was");
    let tree = scene.builder.tree(&[node]);
    scene.builder.pack();
    fs::create_dir(&scene.request.destination).unwrap();
    fs::write(scene.target("file"), "otherwise").unwrap();
    fs::set_permissions(scene.target("file"), fs::Permissions::from_mode(0o640)).unwrap();
    let run_files = |control: &Control| restore(&scene.builder.indexed(), &tree, &scene.request, control, &Cancels(control.clone()));
    let control = Control::new();
    assert!(run_files(&control).is_err());
    assert_eq!(read(scene.target("file")), "otherwise");
    assert_eq!(fs::metadata(scene.target("file")).unwrap().mode() & 0o777, 0o640);
}

/// Cancels as soon as anything is told.
struct Cancels(Control);

impl Progress for Cancels {
    fn event(&self, _: Event<'_>) {
        self.0.cancel();
    }
}

/// An index that names each blob at another one's place is no reason to write other bytes, or the right ones to a wrong place.
#[test]
fn what_blobs_hold_counts_and_not_what_an_index_says() {
    let mut scene = Scene::new();
    let texts = ["the first", "another second", "3"];
    let content = texts.map(|text| scene.text("x", text).content[0]);
    let [one, two, three] = content;
    let nodes = [file("all", &content, 24), file("back", &[three, two, one], 24), file("two", &[two, three], 15)];
    let (pack, mut blobs) = scene.builder.pack_without_index();
    let ids: Vec<Id> = blobs.iter().map(|blob| blob.id).collect();
    let right = blobs.clone();
    for (blob, id) in blobs.iter_mut().zip(ids.iter().cycle().skip(1)) {
        blob.id = *id;
    }
    for indexes in [[&right, &blobs], [&blobs, &right]] {
        for index in indexes {
            scene.builder.index(pack, index);
        }
        let summary = scene.restore(&nodes);
        assert_eq!(summary.problems, []);
        assert_eq!(read(scene.target("all")), "the firstanother second3");
        assert_eq!(read(scene.target("back")), "3another secondthe first");
        assert_eq!(read(scene.target("two")), "another second3");
        fs::remove_dir_all(&scene.request.destination).unwrap();
    }
}

#[test]
fn a_file_of_another_size_than_its_data_is_told() {
    let mut scene = Scene::new();
    let content = scene.text("x", "six by").content;
    let nodes = [file("long", &content, 100), file("none", &[], 1 << 50), file("right", &content, 6), file("short", &content, 5)];
    let summary = scene.restore(&nodes);
    assert_eq!(paths(&summary), ["/long", "/none", "/short"]);
    assert_eq!((summary.entries_lost, summary.files_restored), (3, 1));
    assert!(!scene.target("none").exists());
    for name in ["long", "short"] {
        assert_eq!(read(scene.target(name)), "six by");
        assert_eq!(fs::metadata(scene.target(name)).unwrap().mode() & 0o777, 0o600, "it must not look whole");
    }
}
