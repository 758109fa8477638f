//! Repositories made by the real restic, read by our engine through its library.
//!
//! Hostile and damaged repositories are made beside the code of the engine.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bbackup::model::entry::{Metadata, Sink};
use bbackup::model::progress::Silent;
use bbackup::platform::control::Control;
use bbackup::platform::secret::Secret;
use bbackup::repository::backend::local::LocalBackend;
use bbackup::repository::contract::{ReadData, Repository as _, RepositoryError, RestoreRequest, RestoreSummary, Snapshot, SnapshotId};
use bbackup::repository::restic::archive::Options;
use bbackup::repository::restic::facade::{Locking, ResticRepository};
use bbackup::repository::restic::file::SnapshotFile;
use bbackup::repository::restic::id::Id;
use bbackup::repository::restic::state::{Closed, Indexed};
use bbackup::repository::restic::{check, list, reader, restore, stats, tree};

use crate::support::faults;
use crate::support::home::{Home, PASSWORD, find_restored};
use crate::support::manifest::Manifest;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::tree as trees;

/// A tree, and a repository of restic's with a snapshot of it.
struct Made {
    home: Home,
    source: PathBuf,
}

impl Made {
    fn new(version: u32, make: impl FnOnce(&Path)) -> Self {
        let home = Home::new();
        let source = home.make_folder("source");
        make(&source);
        let restic = Restic::new(&home);
        restic.init(version);
        restic.back_up(&source);
        Self { home, source }
    }

    fn open(&self) -> Indexed {
        let closed = Closed::new(Arc::new(LocalBackend::new(self.home.repository())));
        closed.open(&Secret::new(PASSWORD.to_owned())).unwrap().into_indexed().unwrap()
    }

    /// The path of the source in the snapshot.
    fn path(&self) -> Vec<u8> {
        self.source.as_os_str().as_encoded_bytes().to_vec()
    }

    fn snapshot(repo: &Indexed) -> (SnapshotId, SnapshotFile) {
        let (id, snapshot) = repo.snapshots().unwrap().remove(0);
        (SnapshotId(id.to_string()), snapshot)
    }

    /// All snapshots, as the contract shows them.
    fn snapshots(&self) -> Vec<Snapshot> {
        let closed = Closed::new(Arc::new(LocalBackend::new(self.home.repository())));
        let open = closed.open(&Secret::new(PASSWORD.to_owned())).unwrap();
        ResticRepository::new(open, Options::default(), Locking::Never).snapshots().unwrap()
    }

    fn request(&self, repo: &Indexed, destination: &Path) -> RestoreRequest {
        RestoreRequest {
            snapshot: Self::snapshot(repo).0,
            path: self.path(),
            destination: destination.to_owned(),
            owners: true,
            delete_extra: false,
            include: Vec::new(),
            dry_run: false,
        }
    }

    fn restore(repo: &Indexed, request: &RestoreRequest) -> RestoreSummary {
        restore::restore(repo, &Self::snapshot(repo).1.tree, request, &Control::new(), &Silent).unwrap()
    }
}

#[test]
fn what_restic_was_given_relative_to_a_folder_is_found() {
    needs!(Part::Restic);
    let home = Home::new();
    let folder = home.make_folder("place/tree");
    trees::mixed(&folder, 2);
    let restic = Restic::new(&home);
    restic.init(2);
    let _ = restic.call(["backup", "tree"]).in_folder(folder.parent().unwrap()).run().success();
    let good = Manifest::of(&folder).kept_by_restic();
    let target = home.path("out");
    let _ = home.bbackup(["restore", "latest", "--to"]).arg(&target).run().success();
    good.assert_equals(&Manifest::of(&target.join("tree")).kept_by_restic());
    let target = home.path("one");
    let _ = home.bbackup(["restore", "latest", "--path", "/tree", "--to"]).arg(&target).run().success();
    good.assert_equals(&Manifest::of(&target.join("tree")).kept_by_restic());
    // The tree does not say where it was.
    fs::remove_dir_all(&folder).unwrap();
    for arguments in [&["restore", "latest"][..], &["restore", "latest", "--path", "/tree"]] {
        let _ = home.bbackup(arguments).run().exits(1).says("does not say where on the host this was: /tree").says("--to DIR");
        assert!(!folder.exists());
    }
}

/// Two folders of one name become `other` and `other-1`, and `.` what is in the folder.
#[test]
fn all_that_restic_was_given_comes_back_below_a_folder() {
    needs!(Part::Restic);
    let home = Home::new();
    let (rel, top) = (home.make_folder("rel"), home.make_folder("rel/top"));
    for name in ["other", "top/other"] {
        fs::create_dir(rel.join(name)).unwrap();
        fs::write(rel.join(name).join("which"), name).unwrap();
    }
    let restic = Restic::new(&home);
    restic.init(2);
    let read = |path: PathBuf| fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let both = home.path("both");
    let _ = restic.call(["backup", "other", "../other"]).in_folder(&top).run().success();
    let _ = home.bbackup(["restore", "latest", "--to"]).arg(&both).run().success();
    let mut found = [read(both.join("other/which")), read(both.join("other-1/which"))];
    found.sort();
    assert_eq!(found, ["other", "top/other"]);

    let here = home.path("here");
    let _ = restic.call(["backup", "."]).arg(rel.join("other")).in_folder(&rel).run().success();
    let _ = home.bbackup(["restore", "latest", "--to"]).arg(&here).run().success();
    assert_eq!((read(here.join("other/which")), read(here.join("top/other/which"))), ("other".to_owned(), "top/other".to_owned()));
    let nested = find_restored(&here, &rel.join("other"));
    assert_eq!(read(nested.join("which")), "other");
    // In place nothing is guessed; what has a place goes there.
    fs::write(rel.join("other/which"), "new").unwrap();
    let _ = home.bbackup(["restore", "latest", "--in-place"]).run().exits(1).says("/other, /top");
    assert_eq!((read(rel.join("other/which")), read(rel.join("top/other/which"))), ("new".to_owned(), "top/other".to_owned()));
    let _ = home.bbackup(["restore", "latest", "--in-place", "--path"]).arg(rel.join("other")).run().success();
    assert_eq!(read(rel.join("other/which")), "other");
}

#[test]
fn what_restic_backed_up_is_restored_exactly() {
    for version in [1, 2] {
        let made = Made::new(version, |root| {
            trees::nasty(root);
            fs::create_dir(root.join("mixed")).unwrap();
            trees::mixed(&root.join("mixed"), 8);
        });
        let expected = Manifest::of(&made.source).kept_by_restic();
        let repo = made.open();
        let target = made.home.path("restored");
        let mut request = made.request(&repo, &target);
        let summary = Made::restore(&repo, &request);
        assert_eq!(summary.problems, []);
        Manifest::of(&target).kept_by_restic().assert_equals(&expected);
        assert_eq!(summary.entries, Manifest::of(&target).lines.len() as u64);

        // Once more: nothing is written.
        let again = Made::restore(&repo, &request);
        assert_eq!((again.files_restored, again.bytes_restored), (0, 0), "{again:?}");
        assert_eq!(again.files_unchanged, summary.files_restored);
        Manifest::of(&target).kept_by_restic().assert_equals(&expected);

        // What was changed meanwhile comes back, what is new stays or goes.
        fs::write(target.join("new"), "x").unwrap();
        let big = target.join("mixed");
        let victim = fs::read_dir(&big).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_file()).unwrap();
        let mut content = fs::read(&victim).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        content.truncate(content.len() - 1);
        fs::write(&victim, content).unwrap();
        request.dry_run = true;
        request.delete_extra = true;
        let planned = Made::restore(&repo, &request);
        assert_eq!((planned.files_restored, planned.files_deleted), (1, 1));
        assert!(target.join("new").exists());
        request.dry_run = false;
        let done = Made::restore(&repo, &request);
        assert_eq!((done.files_restored, done.files_deleted), (1, 1));
        assert_eq!(done.problems, []);
        Manifest::of(&target).kept_by_restic().assert_equals(&expected);
    }
}

#[test]
fn trees_of_restic_are_written_byte_for_byte() {
    let made = Made::new(2, trees::nasty);
    let repo = made.open();
    let encoder = tree::Encoder::new(jiff::tz::TimeZone::UTC);
    let mut stack = vec![Made::snapshot(&repo).1.tree];
    let mut count = 0;
    while let Some(id) = stack.pop() {
        let parsed = reader::load_tree(&repo, &id).unwrap();
        assert!(parsed.unknown.is_empty());
        // restic before 0.17 kept no link targets that are not UTF-8 and wrote two control characters in another way.
        let old = |node: &tree::Node| matches!(&node.metadata.kind, bbackup::model::entry::Kind::Symlink { target } if String::from_utf8_lossy(target).contains(['\u{8}', '\u{c}', '\u{fffd}']));
        if !parsed.nodes.iter().any(old) {
            let mut json = Vec::new();
            encoder.encode(&parsed.nodes, &mut json);
            assert_eq!(Id::of(&json), id, "{}", String::from_utf8_lossy(&json));
            count += 1;
        }
        stack.extend(parsed.nodes.iter().filter_map(|node| node.subtree));
    }
    assert!(count > 5, "{count}");
}

#[test]
fn parts_are_restored_where_they_are_wanted() {
    let made = Made::new(2, |root| {
        trees::many(&root.join("many"), 50);
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::write(root.join("a/b/c/file"), "deep").unwrap();
        fs::write(root.join("a/b/other"), "other").unwrap();
    });
    let repo = made.open();
    let mut request = made.request(&repo, &made.home.path("part"));
    request.include = vec![b"a/b/c".to_vec(), b"/no/such".to_vec()];
    let summary = Made::restore(&repo, &request);
    assert_eq!(summary.problems.iter().map(|problem| &*problem.path).collect::<Vec<_>>(), ["/no/such"]);
    let names: Vec<_> = Manifest::of(&request.destination).lines.into_keys().map(|name| String::from_utf8(name).unwrap()).collect();
    assert_eq!(names, ["", "a", "a/b", "a/b/c", "a/b/c/file"]);

    let mut request = made.request(&repo, &made.home.path("single/renamed"));
    request.path = [&made.path()[..], b"/a/b/c/file"].concat();
    Made::restore(&repo, &request);
    assert_eq!(fs::read(made.home.path("single/renamed")).unwrap(), b"deep");

    request.path = b"/no/such/path".to_vec();
    let error = restore::restore(&repo, &Made::snapshot(&repo).1.tree, &request, &Control::new(), &Silent).unwrap_err();
    assert!(matches!(error, RepositoryError::NoPath { .. }), "{error}");
}

/// Cancels after the first megabytes.
struct Cancels(Control);

impl bbackup::model::progress::Progress for Cancels {
    fn event(&self, event: bbackup::model::progress::Event<'_>) {
        if matches!(event, bbackup::model::progress::Event::Bytes(_)) {
            self.0.cancel();
        }
    }
}

#[test]
fn a_cancelled_restore_says_so_and_is_completed_by_the_next() {
    let made = Made::new(2, |root| trees::mixed(root, 24));
    let repo = made.open();
    let request = made.request(&repo, &made.home.path("restored"));
    let tree = Made::snapshot(&repo).1.tree;
    let control = Control::new();
    let error = restore::restore(&repo, &tree, &request, &control, &Cancels(control.clone())).unwrap_err();
    assert!(matches!(error, RepositoryError::Cancelled), "{error}");
    let summary = Made::restore(&repo, &request);
    assert!(summary.files_restored > 0);
    Manifest::of(&request.destination).assert_equals(&Manifest::of(&made.source));
}

/// Counts what it is told of problems.
#[derive(Default)]
struct Problems(std::sync::atomic::AtomicUsize);

impl bbackup::model::progress::Progress for Problems {
    fn event(&self, event: bbackup::model::progress::Event<'_>) {
        if matches!(event, bbackup::model::progress::Event::Problem { .. }) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
}

#[test]
fn a_full_disk_ends_a_restore_once_and_the_next_completes_it() {
    let made = Made::new(2, |root| trees::mixed(root, 24));
    let repo = made.open();
    let tree = Made::snapshot(&repo).1.tree;
    let mount = made.home.path("small");
    let request = made.request(&repo, &mount.join("restored"));
    let full = faults::Mount::small(&mount, 8);
    let problems = Problems::default();
    let error = restore::restore(&repo, &tree, &request, &Control::new(), &problems).unwrap_err();
    match &error {
        RepositoryError::Target { path, source } => {
            assert_eq!((&**path, source.kind()), (&*request.destination.to_string_lossy(), io::ErrorKind::StorageFull));
        }
        error => panic!("{error}"),
    }
    assert_eq!(problems.0.into_inner(), 0);
    let grown = std::process::Command::new("mount").args(["-o", "remount,size=200m"]).arg(&mount).status().unwrap();
    assert!(grown.success());
    assert_eq!(Made::restore(&repo, &request).problems, []);
    Manifest::of(&request.destination).assert_equals(&Manifest::of(&made.source));
    drop(full);

    let read_only = faults::Mount::read_only(&made.home.make_folder("read-only"));
    let request = made.request(&repo, &made.home.path("read-only"));
    let error = restore::restore(&repo, &tree, &request, &Control::new(), &Silent).unwrap_err();
    assert!(matches!(error, RepositoryError::Target { .. }), "{error}");
    drop(read_only);
}

/// An entry with what came with it.
struct Given {
    path: Vec<u8>,
    metadata: Metadata,
    link_to: Option<Vec<u8>>,
    data: Vec<u8>,
}

/// Keeps everything that it is given.
#[derive(Default)]
struct Collected {
    entries: Vec<Given>,
    open: bool,
    finished: bool,
}

impl Sink for Collected {
    fn begin(&mut self, path: &[u8], metadata: &Metadata, link_to: Option<&[u8]>) -> io::Result<()> {
        assert!(!std::mem::replace(&mut self.open, true));
        self.entries.push(Given {
            path: path.to_vec(),
            metadata: metadata.clone(),
            link_to: link_to.map(<[u8]>::to_vec),
            data: Vec::new(),
        });
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.entries.last_mut().unwrap().data.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        assert!(std::mem::take(&mut self.open));
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.finished = true;
        Ok(())
    }
}

/// Takes entries but no data.
struct Full;

impl Sink for Full {
    fn begin(&mut self, _: &[u8], _: &Metadata, _: Option<&[u8]>) -> io::Result<()> {
        Ok(())
    }
    fn data(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn finish(&mut self) -> io::Result<()> {
        unreachable!()
    }
}

#[test]
fn streams_lists_and_dumps_give_what_is_there() {
    let made = Made::new(2, |root| {
        trees::nasty(root);
        fs::create_dir(root.join("mixed")).unwrap();
        trees::mixed(&root.join("mixed"), 40);
    });
    let repo = made.open();
    let (id, snapshot) = Made::snapshot(&repo);
    let mut sink = Collected::default();
    list::stream(&repo, &id, &snapshot.tree, &made.path(), &mut sink, &Control::new(), &Silent).unwrap();
    assert!(sink.finished);
    let expected = Manifest::of(&made.source).kept_by_restic();
    let streamed: Vec<_> = sink.entries.iter().map(|entry| entry.path.clone()).collect();
    let mut listed = Vec::new();
    list::list(&repo, &id, &snapshot.tree, &made.path(), true, &mut |entry| {
        listed.push(entry.path[made.path().len()..].strip_prefix(b"/").unwrap_or_default().to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(listed, streamed);
    let mut sorted = streamed.clone();
    sorted.sort();
    assert_eq!(
        sorted.into_iter().filter(|name| expected.lines.contains_key(name)).collect::<Vec<_>>(),
        expected.lines.keys().cloned().collect::<Vec<_>>()
    );
    let mut links = 0;
    let mut dumps = 0;
    for Given { path, metadata, link_to, data } in &sink.entries {
        let Some(line) = expected.lines.get(path) else { continue };
        assert_eq!(metadata.mode, line.mode & 0o7777);
        if let Some(first) = link_to {
            links += 1;
            assert!(data.is_empty());
            assert!(streamed.iter().position(|name| name == first).unwrap() < streamed.iter().position(|name| name == path).unwrap());
        } else if metadata.is_file() {
            assert_eq!(data.len() as u64, metadata.size);
            assert_eq!(Id::of(data).to_string(), line.hash, "{}", path.escape_ascii());
            // Each small file is like the others.
            dumps += 1;
            if data.len() < 100_000 && dumps % 50 != 0 {
                continue;
            }
            let mut dumped = Vec::new();
            list::dump(&repo, &id, &snapshot.tree, &[&made.path(), &b"/"[..], path].concat(), &mut dumped).unwrap();
            assert!(dumped == *data);
        }
    }
    assert!(links > 0);
    let error = list::dump(&repo, &id, &snapshot.tree, &made.path(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, RepositoryError::WrongKind { .. }), "{error}");

    // A listing that has seen enough stops.
    let mut count = 0;
    list::list(&repo, &id, &snapshot.tree, b"/", true, &mut |_| {
        count += 1;
        if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(count, 3);

    // A sink that fails ends the stream with its own error.
    let error = list::stream(&repo, &id, &snapshot.tree, &made.path(), &mut Full, &Control::new(), &Silent).unwrap_err();
    assert!(matches!(error, RepositoryError::Target { .. }), "{error}");
}

#[test]
fn a_sound_repository_is_found_sound_and_counted() {
    for version in [1, 2] {
        let made = Made::new(version, |root| trees::mixed(root, 24));
        fs::write(made.source.join("more"), "more").unwrap();
        Restic::new(&made.home).back_up(&made.source);
        let repo = made.open();
        let summary = check::check(&repo, &[], repo.snapshot_files().unwrap(), ReadData::All, &Control::new(), &Silent).unwrap();
        assert_eq!((summary.errors, summary.hints), (Vec::new(), Vec::new()));
        assert_eq!((summary.snapshots, summary.packs), (2, summary.packs_read));
        assert!(summary.bytes_read > 0 && summary.blobs_used > 0);
        let groups: Vec<_> = (1..=3)
            .map(|group| {
                check::check(&repo, &[], repo.snapshot_files().unwrap(), ReadData::Group(group, 3), &Control::new(), &Silent).unwrap()
            })
            .collect();
        assert_eq!(groups.iter().map(|group| group.packs_read).sum::<u64>(), summary.packs);
        assert_eq!(groups.iter().map(|group| group.bytes_read).sum::<u64>(), summary.bytes_read);
        for some in [ReadData::Percent(30.0), ReadData::Bytes(1)] {
            let part = check::check(&repo, &[], repo.snapshot_files().unwrap(), some, &Control::new(), &Silent).unwrap();
            assert!(part.packs_read >= 1 && part.packs_read < summary.packs, "{some:?} {}", part.packs_read);
        }

        let with_tree = |one: Snapshot| {
            let tree = repo.snapshot(&one.id.0.parse().unwrap()).unwrap().tree;
            (one, tree)
        };
        let stats = stats::stats(&repo, made.snapshots().into_iter().map(with_tree).collect(), &Control::new()).unwrap();
        let lines = Manifest::of(&made.source).lines;
        let files: Vec<_> = lines.values().filter(|line| line.kind == "file").collect();
        assert_eq!(stats.snapshots, 2);
        assert_eq!(stats.files, 2 * files.len() as u64 - 1);
        assert_eq!(stats.restore_bytes, 2 * files.iter().map(|line| line.size).sum::<u64>() - 4);
        assert_eq!(stats.blobs, summary.blobs_used);
        assert_eq!(stats.packs, summary.packs);
        assert_eq!(stats.stored_bytes, summary.bytes_read);
        let restic = Restic::new(&made.home).call(["stats", "--mode", "raw-data", "--json"]).run().success().text();
        let restic: serde_json::Value = serde_json::from_str(&restic).unwrap();
        assert_eq!(restic["total_blob_count"], stats.blobs);
    }
}
