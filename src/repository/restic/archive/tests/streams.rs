//! Streams of which the folders do not all wait in memory.

use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::*;
use crate::platform::files::Space;
use crate::repository::restic::state::Open;

/// Does something before the end of the source, with the size and the handle of what is aside.
struct AtEnd<F>(Box<dyn Source>, PathBuf, Option<F>);

impl<F: FnOnce(Option<fs::File>) + Send> Source for AtEnd<F> {
    fn next_step(&mut self) -> io::Result<Step> {
        let step = self.0.next_step()?;
        if let Step::End = step
            && let Some(at_end) = self.2.take()
        {
            at_end(aside(&self.1));
        }
        Ok(step)
    }
}

/// The file without a name in this folder that this process has open.
fn aside(scratch: &Path) -> Option<fs::File> {
    let handles = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let mut found = handles.filter(|handle| fs::read_link(handle).is_ok_and(|file| file.starts_with(scratch) && file != scratch));
    let file = found.next().map(|handle| fs::OpenOptions::new().read(true).write(true).open(handle).unwrap());
    assert!(fs::read_dir(scratch).map_or(0, Iterator::count) == 0, "what is aside has no name");
    file
}

struct Streams {
    bench: Bench,
    open: Open,
    scratch: tempfile::TempDir,
}

/// All that a snapshot says and that was said of it.
type Outcome = (Id, String, [u64; 8], Vec<(String, u64)>);

/// Remembers which files were done.
#[derive(Default)]
struct Done(std::sync::Mutex<Vec<(String, u64)>>);

impl Progress for Done {
    fn event(&self, event: Event<'_>) {
        if let Event::FileFinished { path, size, .. } = event {
            self.0.lock().unwrap().push((String::from_utf8_lossy(path).into_owned(), size));
        }
    }
}

impl Streams {
    fn new() -> Self {
        let bench = Bench::new();
        let open = bench.repository().open().clone();
        Self { bench, open, scratch: tempfile::tempdir().unwrap() }
    }

    fn try_archive(&self, source: Box<dyn Source>, options: Options, ignore_parent: bool) -> Result<Outcome, RepositoryError> {
        let request = SnapshotRequest { ignore_parent, ..Bench::request() };
        let indexed = Arc::new(self.open.clone().into_indexed().unwrap());
        let done = Arc::new(Done::default());
        let snapshots = self.open.snapshots().unwrap();
        let mut archive = Archive::start(indexed, request, snapshots, options, &self.bench.control, done.clone(), None)?;
        let added = archive.add(b"/x", source)?;
        let (id, summary) = Box::new(archive).finish(Vec::new())?;
        let tree = self.open.snapshot(&id.unwrap().0.parse().unwrap()).unwrap().tree;
        let counts = [
            summary.files_new,
            summary.files_changed,
            summary.files_unmodified,
            summary.dirs_new,
            summary.dirs_changed,
            summary.dirs_unmodified,
            summary.total_files_processed,
            summary.total_bytes_processed,
        ];
        let done = std::mem::take(&mut *done.0.lock().unwrap());
        // What is new in the repository depends on what was there before.
        Ok((tree, format!("{:?}", AddSummary { bytes_added: 0, ..added }), counts, done))
    }

    fn in_memory(&self, source: Box<dyn Source>, ignore_parent: bool) -> Outcome {
        self.try_archive(source, Options::default(), ignore_parent).unwrap()
    }

    fn small(&self) -> Options {
        Options { held: 1, scratch: Some(self.scratch.path().to_owned()), ..Options::default() }
    }

    /// With everything aside that can be. Gives also how long the file was.
    fn on_disk(&self, source: Box<dyn Source>, ignore_parent: bool) -> (Outcome, u64) {
        let length = Arc::new(AtomicUsize::new(0));
        let found = Arc::clone(&length);
        let at_end = move |file: Option<fs::File>| {
            let file = file.unwrap().metadata().unwrap();
            assert_eq!(file.mode() & 0o777, 0o600);
            found.store(file.len() as usize, Ordering::SeqCst);
        };
        let source = Box::new(AtEnd(source, self.scratch.path().to_owned(), Some(at_end)));
        let outcome = self.try_archive(source, self.small(), ignore_parent).unwrap();
        assert!(aside(self.scratch.path()).is_none(), "the file is gone with the stream");
        (outcome, length.load(Ordering::SeqCst) as u64)
    }
}

fn link(path: &str, target: &str) -> Entry {
    let mut link = entry(path, Kind::File, 0, Content::HardLink(target.into()));
    link.metadata.mode = 0o600;
    link
}

/// Everything that a stream may hold, and a link to whatever of it.
fn everything(change: u8) -> Vec<Entry> {
    let odd = |path: &str| {
        let mut odd = stream(path, b"odd");
        odd.path.push(0xff);
        odd.metadata.mtime = Timestamp { secs: -3_000_000_001, nanos: 7 };
        odd.metadata.xattrs = vec![Xattr { name: b"user.\xfe".to_vec(), value: vec![change, 0, 255] }];
        (odd.metadata.user, odd.metadata.mode) = ("u\"ser".into(), 0o6755);
        odd
    };
    vec![
        dir(""),
        bytes("0-empty", b""),
        dir("a"),
        bytes("a/empty", b""),
        stream("a/first", &noise(900_000, 3)),
        entry("a/link", Kind::Symlink { target: b"\xff/first".to_vec() }, 0, Content::None),
        odd("a/odd"),
        dir("a/sub"),
        stream("a/sub/deep", b"deep"),
        link("a/sub/empty", "a/empty"),
        dir("a/sub/without"),
        entry("a/zero", Kind::CharDevice { rdev: 0x105 }, 0, Content::None),
        dir("b"),
        link("b/1-first", "a/first"),
        link("b/2-to-a-link", "b/1-first"),
        link("b/3-lost", "a/nothing"),
        link("b/4-lost-too", "nowhere/nothing"),
        link("b/5-first", "a/first"),
        stream("b/6-own", &[change; 10]),
        link("b/7-own", "b/6-own"),
        link("b/8-to-a-folder", "a/sub"),
        link("b/9-to-a-symbolic-link", "a/link"),
        dir("c"),
        dir("c/same"),
        entry("c/same/fifo", Kind::Fifo, 0, Content::None),
        link("d", "a/sub/deep"),
        link("e", "0-empty"),
        link("f", ""),
        stream("g", b"last"),
    ]
}

#[test]
fn what_was_aside_is_the_same_snapshot() {
    let streams = Streams::new();
    let source = || script(everything(1));
    let before = streams.in_memory(source(), true);
    let found = streams.bench.contents();
    assert_eq!(found["/x/b/1-first"], found["/x/a/first"]);
    assert_eq!(found["/x/a/first"].1.links, 3);
    assert_eq!((found["/x/d"].0.as_slice(), found["/x/e"].1.links, found["/x/a/empty"].1.links), (&b"deep"[..], 2, 2));
    for lost in ["/x/b/2-to-a-link", "/x/b/3-lost", "/x/b/4-lost-too", "/x/b/8-to-a-folder", "/x/b/9-to-a-symbolic-link", "/x/f"] {
        assert!(!found.contains_key(lost), "{lost}");
    }
    assert!(before.1.contains("problem_count: 6"), "{}", before.1);
    let (after, length) = streams.on_disk(source(), true);
    assert_eq!(after, before);
    assert!(length > 500, "{length} bytes were aside");
    assert_eq!(streams.bench.contents(), found);
    // Beside a parent that has the same, and one that has not.
    let (same, _) = streams.on_disk(source(), false);
    assert_eq!((same.0, same.2[5], same.2[4]), (before.0, 7, 0), "all folders are unmodified");
    for change in [2, 1] {
        let changed = || script(everything(change));
        let in_memory = streams.in_memory(changed(), false);
        assert_eq!((in_memory.2[4], in_memory.2[5]), (3, 4), "{change}: the root, `a` and `b` have changed");
        streams.in_memory(script(everything(3 - change)), false);
        assert_eq!(streams.on_disk(changed(), false).0, in_memory);
    }
}

/// Folders with files of which some are links: for each folder and name, nothing, a file, or a link to some other place.
type Plan = [[Option<Option<(u8, u8)>>; 4]; 5];

fn planned(plan: &Plan) -> Vec<Entry> {
    const FOLDERS: [&str; 5] = ["", "b", "b/b", "b/b/b", "c"];
    // In a folder, what is before the folder `b` in it, and what is after.
    const NAMES: [&str; 4] = ["a", "a.", "x", "y"];
    let join = |folder: &str, name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    let mut entries: Vec<Entry> = FOLDERS.map(dir).into();
    for (folder, names) in FOLDERS.into_iter().zip(plan) {
        for (name, what) in NAMES.into_iter().zip(names) {
            let path = join(folder, name);
            entries.extend(what.map(|target| match target {
                None => stream(&path, path.as_bytes()),
                Some((folder, name)) => link(&path, &join(FOLDERS[usize::from(folder % 5)], NAMES[usize::from(name % 4)])),
            }));
        }
    }
    entries.sort_by_key(|entry| entry.path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect::<Vec<u8>>());
    entries
}

#[test]
fn links_go_anywhere_as_if_all_were_in_memory() {
    let streams = Streams::new();
    let config = proptest::prelude::ProptestConfig::with_cases(24);
    proptest::proptest!(config, |(plan: Plan, limit in 0_usize..8000)| {
        let source = || script(planned(&plan));
        let options = Options { held: limit, ..streams.small() };
        let aside = streams.try_archive(source(), options, true).unwrap();
        proptest::prop_assert_eq!(aside, streams.in_memory(source(), true));
    });
}

#[test]
fn a_small_stream_is_never_on_disk() {
    let streams = Streams::new();
    let path = streams.scratch.path().to_owned();
    let none = |file: Option<fs::File>| assert!(file.is_none());
    let source = Box::new(AtEnd(script(everything(1)), path.clone(), Some(none)));
    streams.try_archive(source, Options { scratch: Some(path), ..Options::default() }, true).unwrap();
}

#[test]
fn without_a_place_everything_stays_in_memory() {
    let streams = Streams::new();
    let before = streams.in_memory(script(everything(1)), true);
    for scratch in [None, Some(streams.scratch.path().join("is-not-there"))] {
        let options = Options { scratch, ..streams.small() };
        assert_eq!(streams.try_archive(script(everything(1)), options, true).unwrap(), before);
    }
}

#[test]
fn what_cannot_be_read_again_is_lost_and_told() {
    let damages: [fn(&fs::File); 2] = [
        |file| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, 30).unwrap();
            file.write_all_at(&[byte[0] ^ 1], 30).unwrap();
        },
        |file| file.set_len(10).unwrap(),
    ];
    for damage in damages {
        let streams = Streams::new();
        let path = streams.scratch.path().to_owned();
        let source = Box::new(AtEnd(script(everything(1)), path.clone(), Some(move |file: Option<fs::File>| damage(&file.unwrap()))));
        let lost = streams.try_archive(source, streams.small(), true).unwrap_err();
        assert!(matches!(lost, RepositoryError::Source { .. }), "{lost}");
        let text = lost.with_causes();
        assert!(text.contains(path.to_str().unwrap()) && text.contains("cannot be read again"), "{text}");
        assert_eq!(streams.bench.snapshots(), 0);
    }
}

/// A folder with one file whose name has so many letters.
fn folder(streams: &Streams, number: usize) -> Arc<build::Dir> {
    let item = Arc::new(Item::new(b"/x".to_vec(), streams.bench.control.begin_item()));
    let dir = build::Dir::new(None, item, None);
    dir.push(Node { name: vec![b'a'; number], metadata: Metadata::virtual_file(1), content: Vec::new(), subtree: None });
    dir
}

/// On a disk that becomes full, what is there is used and the rest stays in memory; once there is room again, it goes there.
#[test]
fn a_full_disk_stops_what_is_put_aside_and_nothing_else() {
    use aside::Writer;
    use held::Held;
    let streams = Streams::new();
    let indexed = Arc::new(streams.open.clone().into_indexed().unwrap());
    let scratch = streams.scratch.path();
    let writer = || Writer::new(scratch, Arc::clone(&indexed), true).unwrap();
    let on_the_full_one = || {
        let full = fs::OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        Writer::over(full, scratch, Arc::clone(&indexed), true).on_a_disk_with(|_| None)
    };
    // A disk of 10 GiB with a twentieth of it free: others need that. And a small one, of which a twentieth would be too little.
    let nearly_full = || writer().on_a_disk_with(|_| Some(Space { free: 512 << 20, size: 10 << 30 }));
    let small = || writer().on_a_disk_with(|_| Some(Space { free: 64 << 20, size: 65 << 20 }));
    let makers: [&dyn Fn() -> Writer; 3] = [&on_the_full_one, &nearly_full, &small];
    for full in makers {
        let mut held = Held::new(Room { folder: Some(scratch.to_owned()), limit: 0, most: usize::MAX, verify: true });
        for number in 1..8 {
            match number {
                3 => held.replace(full()),
                6 => held.replace(writer().on_a_disk_with(|_| Some(Space { free: 2 << 30, size: 100 << 30 }))),
                _ => {}
            }
            held.push(folder(&streams, number), vec![b'a'; number]);
            assert!(held.is_too_large());
            held.put_aside(&indexed).unwrap();
            if number == 5 {
                assert_eq!(held.in_memory(), 3);
            }
        }
        assert_eq!(held.in_memory(), 0);
        for (number, dir) in (1..).zip(held.into_dirs()) {
            assert_eq!(dir.take_nodes().unwrap()[0].name.len(), number);
        }
    }
}

#[test]
fn what_fits_nowhere_ends_the_stream() {
    let streams = Streams::new();
    for scratch in [streams.scratch.path().join("is-not-there"), "/dev/null".into()] {
        let options = Options { scratch: Some(scratch.clone()), held_most: 10, ..streams.small() };
        let error = streams.try_archive(script(everything(1)), options, true).unwrap_err();
        assert!(matches!(&error, RepositoryError::NoRoomAside { folder, .. } if *folder == scratch.display().to_string()), "{error}");
        assert_eq!(streams.bench.snapshots(), 0);
    }
    // Where there is no such place, nothing is said of one.
    let options = Options { scratch: None, held_most: 10, ..streams.small() };
    streams.try_archive(script(everything(1)), options, true).unwrap();
}
