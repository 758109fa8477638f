//! The cache before a store in memory that counts and is slow, and before whole repositories.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::AtomicUsize;

use tempfile::TempDir;

use super::*;
use crate::repository::backend::testing::{MemoryBackend, SlowBackend};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct World {
    memory: Arc<MemoryBackend>,
    slow: Arc<SlowBackend>,
    folder: TempDir,
    notices: Arc<AtomicUsize>,
}

impl World {
    fn new() -> Self {
        let memory = Arc::new(MemoryBackend::new());
        let slow = Arc::new(SlowBackend::new(memory.clone(), Duration::from_millis(1)));
        Self { memory, slow, folder: tempfile::tempdir().unwrap(), notices: Arc::default() }
    }

    fn cache(&self, limit: u64) -> Cache {
        let notices = Arc::clone(&self.notices);
        let notice: Notice = Arc::new(move |_| {
            notices.fetch_add(1, Ordering::SeqCst);
        });
        Cache::new(self.slow.clone(), ID, CacheOptions { folder: self.folder.path().join("c"), limit, notice }).unwrap()
    }

    /// Puts a file into the store; gives its name and content.
    fn file(&self, kind: FileKind, number: usize, size: usize) -> (String, Vec<u8>) {
        let data: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(size).collect();
        let name = name_of(&data);
        self.memory.write(kind, &name, &[&data]).unwrap();
        (name, data)
    }

    fn copies(&self) -> Vec<PathBuf> {
        let folder = self.folder.path().join("c/repositories").join(ID);
        KINDS.iter().flat_map(|(_, name)| files_in(&folder.join(name))).map(|(path, _)| path).collect()
    }

    fn bytes(&self) -> u64 {
        self.copies().iter().map(|path| fs::metadata(path).unwrap().len()).sum()
    }
}

fn name_of(data: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(data).iter().fold(String::new(), |mut name, byte| {
        write!(name, "{byte:02x}").unwrap();
        name
    })
}

const PLENTY: u64 = 1 << 30;

#[test]
fn what_was_read_is_not_asked_for_again() {
    let world = World::new();
    let (snapshot, content) = world.file(FileKind::Snapshot, 1, 300);
    let (pack, data) = world.file(FileKind::Pack, 2, 90_000);
    for round in 0..2 {
        // The second round is another process.
        let cache = world.cache(PLENTY);
        for _ in 0..3 {
            assert_eq!(cache.read(FileKind::Snapshot, &snapshot).unwrap(), content);
            let mut part = vec![0; 500];
            cache.read_folder_at(&pack, 4000, &mut part).unwrap();
            assert_eq!(part, data[4000..4500]);
        }
        assert_eq!(world.slow.take(), if round == 0 { (2, 90_300) } else { (0, 0) });
        // Past the end there is nothing.
        assert_eq!(cache.read_folder_at(&pack, 89_999, &mut [0; 2]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
    assert_eq!(world.copies().len(), 2);
    assert!(
        fs::read_to_string(world.folder.path().join("c/CACHEDIR.TAG")).unwrap().starts_with("Signature: 8a477f597d28d172789f06886806bc55")
    );
    for path in ["c", "c/repositories"] {
        let mode = fs::metadata(world.folder.path().join(path)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700, "{path}");
    }
    assert!(world.copies().iter().all(|path| fs::metadata(path).unwrap().mode() & 0o777 == 0o600));
}

#[test]
fn what_is_not_read_again_or_must_be_true_now_is_not_kept() {
    let world = World::new();
    let cache = world.cache(PLENTY);
    for kind in [FileKind::Key, FileKind::Lock] {
        let (name, data) = world.file(kind, 3, 100);
        assert_eq!(cache.read(kind, &name).unwrap(), data);
    }
    let (pack, data) = world.file(FileKind::Pack, 4, 1000);
    assert_eq!(cache.read(FileKind::Pack, &pack).unwrap(), data);
    cache.read_at(FileKind::Pack, &pack, 10, &mut [0; 20]).unwrap();
    // Written and read back: that must come from the store.
    let content = b"a new snapshot".to_vec();
    let name = name_of(&content);
    cache.write(FileKind::Snapshot, &name, &[&content]).unwrap();
    world.slow.take();
    assert_eq!(cache.read(FileKind::Snapshot, &name).unwrap(), content);
    assert_eq!(world.slow.take().0, 1);
    assert_eq!(world.copies().len(), 1);
    // What does not hash to its name is passed on for the engine to complain of, and never kept.
    world.memory.damage(FileKind::Pack, &pack, |data| data[5] ^= 1);
    let wrong = name_of(b"other");
    world.memory.write(FileKind::Index, &wrong, &[b"not other"]).unwrap();
    assert_eq!(cache.read(FileKind::Index, &wrong).unwrap(), b"not other");
    let mut part = [0; 3];
    cache.read_folder_at(&pack, 4, &mut part).unwrap();
    assert_eq!(part, [data[4], data[5] ^ 1, data[6]]);
    assert_eq!(world.copies().len(), 1);
    assert_eq!(cache.read(FileKind::Index, ID).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn packs_of_folders_are_kept_when_they_are_written() {
    let world = World::new();
    let data = vec![7; 5000];
    let name = name_of(&data);
    world.cache(PLENTY).write_folders(&name, &[&data[..100], &data[100..]]).unwrap();
    let mut part = [0; 10];
    world.cache(PLENTY).read_folder_at(&name, 95, &mut part).unwrap();
    assert_eq!((part, world.slow.take()), ([7; 10], (0, 0)));
    assert_eq!(world.memory.names(FileKind::Pack), [name]);
}

#[test]
fn a_damaged_copy_is_never_believed() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("another byte", |path| {
            let mut data = fs::read(path).unwrap();
            data[150] ^= 1;
            fs::write(path, data).unwrap();
        }),
        ("torn", |path| OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap()),
        ("longer", |path| OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap()),
        ("empty", |path| fs::write(path, b"").unwrap()),
        ("a link", |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let world = World::new();
        let (index, content) = world.file(FileKind::Index, 1, 300);
        let (pack, data) = world.file(FileKind::Pack, 2, 3000);
        let cache = world.cache(PLENTY);
        let read = |cache: &Cache| {
            assert_eq!(cache.read(FileKind::Index, &index).unwrap(), content, "{what}");
            let mut part = [0; 100];
            cache.read_folder_at(&pack, 100, &mut part).unwrap();
            assert_eq!(part, data[100..200], "{what}");
        };
        read(&cache);
        read(&cache);
        assert_eq!(world.slow.take().0, 2, "{what}");
        // Also one that this process has seen whole.
        for copy in world.copies() {
            damage(&copy);
        }
        read(&cache);
        read(&cache);
        assert!(world.slow.take().0 >= 1, "{what}");
        read(&world.cache(PLENTY));
        assert!(fs::read_to_string("/etc/passwd").unwrap().contains("root"));
    }
}

#[test]
fn it_stays_within_its_bound() {
    let world = World::new();
    let limit = 100_000;
    let files: Vec<_> = (0..60).map(|number| world.file(FileKind::Pack, number, 8000)).collect();
    let cache = world.cache(limit);
    let mut byte = [0; 1];
    for (number, (name, _)) in files.iter().enumerate() {
        cache.read_folder_at(name, 0, &mut byte).unwrap();
        // The first one is used all the time, so it stays.
        std::thread::sleep(Duration::from_millis(2));
        drop(touch(&open(&cache.path(FileKind::Pack, &files[0].0).unwrap()).unwrap()));
        assert!(world.bytes() <= limit, "{number}: {} bytes", world.bytes());
    }
    assert!(world.bytes() > limit / 2, "{} bytes", world.bytes());
    let last = &files[59].0;
    assert!(cache.path(FileKind::Pack, last).unwrap().exists());
    // One that is nearly as large as all of it is not kept, and asked for by its parts.
    let (large, data) = world.file(FileKind::Pack, 99, 30_000);
    world.slow.take();
    for offset in [0, 500, 600] {
        let mut part = [0; 10];
        cache.read_folder_at(&large, offset, &mut part).unwrap();
        assert_eq!(part, data[offset as usize..][..10]);
    }
    assert_eq!(world.slow.take(), (3, 30_020));
    // A smaller bound counts at once.
    drop(world.cache(20_000));
    assert!(world.bytes() <= 20_000);
    // What dead processes left goes after a day, and the cache of a repository that is not used any more after a month.
    let all = world.folder.path().join("c/repositories");
    let left = all.join(ID).join("tmp-1-1");
    let abandoned = all.join("f".repeat(64));
    fs::write(&left, b"x").unwrap();
    fs::create_dir_all(abandoned.join("trees")).unwrap();
    fs::create_dir_all(all.join("notes")).unwrap();
    drop(world.cache(limit));
    assert!(left.exists() && abandoned.exists());
    for path in [&left, &abandoned, &all.join("notes")] {
        File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    drop(world.cache(limit));
    assert!(!left.exists() && !abandoned.exists() && all.join("notes").exists());
}

#[test]
fn what_the_store_has_not_goes() {
    let world = World::new();
    let cache = world.cache(PLENTY);
    let names: Vec<String> = (0..3).map(|number| world.file(FileKind::Snapshot, number, 100).0).collect();
    for name in &names {
        let _ = cache.read(FileKind::Snapshot, name).unwrap();
    }
    let (pack, _) = world.file(FileKind::Pack, 9, 100);
    cache.read_folder_at(&pack, 0, &mut [0; 1]).unwrap();
    assert_eq!(world.copies().len(), 4);
    // By us, and by somebody else.
    cache.remove(FileKind::Snapshot, &names[0]).unwrap();
    world.memory.remove(FileKind::Snapshot, &names[1]).unwrap();
    world.memory.remove(FileKind::Pack, &pack).unwrap();
    assert_eq!(world.copies().len(), 3);
    assert_eq!(cache.read(FileKind::Snapshot, &names[0]).unwrap_err().kind(), io::ErrorKind::NotFound);
    let _ = (cache.list(FileKind::Snapshot).unwrap(), cache.list(FileKind::Pack).unwrap());
    assert_eq!(world.copies().len(), 1);
    assert_eq!(cache.read(FileKind::Snapshot, &names[2]).unwrap().len(), 100);
}

#[test]
fn a_folder_that_cannot_be_written_is_said_once_and_costs_only_speed() {
    let world = World::new();
    // Also root cannot make a folder in a file.
    fs::write(world.folder.path().join("c"), b"").unwrap();
    let cache = world.cache(PLENTY);
    let (name, data) = world.file(FileKind::Index, 1, 50);
    let (pack, content) = world.file(FileKind::Pack, 2, 5000);
    for _ in 0..3 {
        assert_eq!(cache.read(FileKind::Index, &name).unwrap(), data);
        let mut part = [0; 8];
        cache.read_folder_at(&pack, 64, &mut part).unwrap();
        assert_eq!(part, content[64..72]);
    }
    // Folders are then not worth whole packs.
    assert_eq!(world.slow.take(), (6, 3 * 58));
    assert_eq!(world.notices.load(Ordering::SeqCst), 1);
    // One that somebody empties while it is in use is made again.
    let world = World::new();
    let cache = world.cache(PLENTY);
    let (name, _) = world.file(FileKind::Index, 1, 50);
    fs::remove_dir_all(world.folder.path().join("c")).unwrap();
    for _ in 0..3 {
        let _ = cache.read(FileKind::Index, &name).unwrap();
    }
    assert_eq!((world.slow.take().0, world.copies().len(), world.notices.load(Ordering::SeqCst)), (1, 1, 0));
    // An id that is none leads nowhere.
    let options = CacheOptions { folder: world.folder.path().join("d"), limit: 1, notice: Arc::new(|_| {}) };
    assert!(Cache::new(world.slow.clone(), "../../etc", options).is_none());
}

#[test]
fn several_at_once_fetch_a_pack_once_and_read_what_is_there() {
    let world = World::new();
    let files: Vec<_> = (0..6).map(|number| world.file(FileKind::Pack, number, 20_000)).collect();
    let work = |cache: &Cache, seed: usize| {
        for round in 0..200 {
            let (name, data) = &files[(round * 7 + seed) % files.len()];
            let mut part = [0; 64];
            cache.read_folder_at(name, round as u64, &mut part).unwrap();
            assert_eq!(part, data[round..round + 64]);
        }
    };
    let cache = world.cache(PLENTY);
    std::thread::scope(|scope| {
        for seed in 0..6 {
            let (cache, work) = (&cache, &work);
            scope.spawn(move || work(cache, seed));
        }
    });
    assert_eq!(world.slow.take(), (6, 120_000));
    // Several caches over one folder, as of several processes, whose bound makes them throw out each other's files.
    let caches: Vec<Cache> = (0..4).map(|_| world.cache(90_000)).collect();
    std::thread::scope(|scope| {
        for (seed, cache) in caches.iter().enumerate() {
            let work = &work;
            scope.spawn(move || work(cache, seed));
        }
    });
    assert!(world.bytes() <= 90_000 + 4 * (90_000 / 8 + 20_000), "{} bytes", world.bytes());
    assert_eq!(world.notices.load(Ordering::SeqCst), 0);
    let left = files_in(&world.folder.path().join("c/repositories").join(ID));
    assert!(left.is_empty(), "{left:?}");
}
