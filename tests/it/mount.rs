//! `mount` and `umount`: what programs read through the mount is what was backed up, and the mount goes however it ends.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::faults;
use crate::support::home::{Home, files_below};
use crate::support::manifest::Manifest;
use crate::support::mounted::{Mounted, is_mounted};
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::tree;

fn names(path: &Path) -> BTreeSet<String> {
    fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_is_mounted_is_what_was_backed_up() {
    needs!(Part::Root, Part::Program("fusermount3"), Part::Program("rsync"));
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::nasty(&folder);
    tree::many(&folder.join("many"), 1500);
    let first = home.back_up(&folder).snapshot;
    let then = Manifest::of(&folder);
    fs::write(folder.join("new"), "new").unwrap();
    fs::remove_dir_all(folder.join("many/0001")).unwrap();
    let second = home.back_up(&folder).snapshot;
    let now = Manifest::of(&folder);

    let mounted = Mounted::new(&home, &[]);
    assert_eq!(names(&mounted.path), ["applications", "hosts", "ids", "snapshots", "tags"].map(str::to_owned).into());
    assert_eq!(names(&mounted.path.join("ids")), [first[..8].to_owned(), second[..8].to_owned()].into());
    assert_eq!(names(&mounted.path.join("snapshots")).len(), 3);

    // Read in place, entry by entry: owners, modes, times, links, attributes, devices, data.
    let latest = mounted.of("snapshots/latest", &folder);
    now.assert_equals(&Manifest::of(&latest));
    then.assert_equals(&Manifest::of(&mounted.of(&format!("ids/{}", &first[..8]), &folder)));
    // Names of one file are one file.
    let inode = |name: &str| fs::metadata(latest.join("links").join(name)).unwrap().ino();
    assert_eq!(inode("first"), inode("other/third"));

    // As people take things out of it.
    let copied = home.path("copied");
    let _ = home.program("cp").arg("-a").arg(&latest).arg(&copied).run().success();
    now.assert_equals(&Manifest::of(&copied));
    let synced = home.path("synced");
    let mut source = latest.as_os_str().to_owned();
    source.push("/");
    let _ = home.program("rsync").arg("-aHAX").arg(&source).arg(&synced).run().success();
    now.assert_equals(&Manifest::of(&synced));
    let listed = home.program("ls").arg("-lR").arg(&mounted.path).run().success();
    assert_eq!(listed.errors(), "");
    assert!(listed.text().contains("new"));
    // Nothing can be written.
    let error = fs::write(latest.join("x"), "x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);

    assert_eq!(home.locks().len(), 1);
    let _ = home.bbackup(["umount"]).arg(&mounted.path).run().success();
    let path = mounted.path.clone();
    let _ = mounted.ends().success();
    assert!(!is_mounted(&path) && home.locks().is_empty());
    let _ = home.bbackup(["umount"]).arg(&path).run().exits(1).says("othing is mounted");
}

#[test]
fn several_readers_read_what_restic_wrote() {
    needs!(Part::Root, Part::Restic, Part::Program("fusermount3"));
    let home = Home::new();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 40);
    let restic = Restic::new(&home);
    restic.init(2);
    restic.back_up(&folder);
    let mounted = Mounted::new(&home, &[]);
    let latest = mounted.of("snapshots/latest", &folder);
    let expected = Manifest::of(&folder);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| expected.assert_equals(&Manifest::of(&latest)));
        }
        scope.spawn(|| {
            // Backwards and across blobs.
            use std::os::unix::fs::FileExt as _;
            let whole = fs::read(folder.join("pages")).unwrap();
            let file = File::open(latest.join("pages")).unwrap();
            let mut piece = vec![0; 100_003];
            for start in (0..whole.len() - piece.len()).step_by(777_777).rev() {
                file.read_exact_at(&mut piece, start as u64).unwrap();
                assert!(piece == whole[start..start + piece.len()]);
            }
            assert_eq!(file.read_at(&mut piece, whole.len() as u64).unwrap(), 0);
        });
    });
    mounted.signal(Signal::TERM);
    let path = mounted.path.clone();
    let _ = mounted.ends().success();
    assert!(!is_mounted(&path));
}

#[test]
fn it_is_unmounted_however_it_ends() {
    needs!(Part::Root, Part::Program("fusermount3"));
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    fs::write(folder.join("file"), tree::noise(1, 3_000_000)).unwrap();
    let _ = home.back_up(&folder);
    for signal in [Signal::INT, Signal::TERM, Signal::QUIT] {
        let mounted = Mounted::new(&home, &[]);
        mounted.signal(signal);
        let path = mounted.path.clone();
        let _ = mounted.ends().success();
        assert!(!is_mounted(&path), "{signal:?}");
        assert!(names(&path).is_empty() && home.locks().is_empty());
    }
    // It outlives its terminal; `restic unlock` sends the same to see whether it lives.
    let mounted = Mounted::new(&home, &[]);
    mounted.signal(Signal::HUP);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(fs::read(mounted.of("snapshots/latest", &folder).join("file")).unwrap(), tree::noise(1, 3_000_000));
    mounted.signal(Signal::TERM);
    let _ = mounted.ends().success();
    assert!(home.locks().is_empty());
    // While somebody reads.
    let mounted = Mounted::new(&home, &[]);
    let mut open = File::open(mounted.of("snapshots/latest", &folder).join("file")).unwrap();
    let mut start = [0; 1000];
    open.read_exact(&mut start).unwrap();
    let _ = home.bbackup(["umount"]).arg(&mounted.path).run().exits(1).says("open");
    assert!(is_mounted(&mounted.path));
    mounted.signal(Signal::TERM);
    let path = mounted.path.clone();
    let _ = mounted.ends().success().says("still open");
    assert!(!is_mounted(&path) && home.locks().is_empty());
    drop(open);

    // While another mount namespace shows it, too.
    let mounted = Mounted::new(&home, &[]);
    let mut other = Command::new("unshare").args(["-m", "--propagation", "private", "sleep", "600"]).spawn().unwrap();
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    while fs::read_link(format!("/proc/{}/ns/mnt", other.id())).unwrap() == own {
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(200));
    mounted.signal(Signal::TERM);
    let path = mounted.path.clone();
    let _ = mounted.ends().success();
    assert!(!is_mounted(&path) && home.locks().is_empty());
    other.kill().unwrap();
    let _ = other.wait().unwrap();

    // Killed: the dead mount can be told and taken away.
    let mounted = Mounted::new(&home, &[]);
    mounted.signal(Signal::KILL);
    let path = mounted.path.clone();
    thread::sleep(Duration::from_millis(200));
    assert!(is_mounted(&path));
    let _ = home.bbackup(["mount"]).arg(&path).run().exits(3);
    let _ = home.bbackup(["umount"]).arg(&path).run().success();
    assert!(!is_mounted(&path));
}

#[test]
fn only_the_snapshots_that_were_asked_for_are_shown() {
    needs!(Part::Root, Part::Program("fusermount3"));
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    fs::write(folder.join("file"), "one").unwrap();
    let first = home.back_up(&folder).snapshot;
    fs::write(folder.join("file"), "two").unwrap();
    let _ = home.back_up(&folder);
    let mounted = Mounted::new(&home, &[&first]);
    assert_eq!(names(&mounted.path.join("ids")), [first[..8].to_owned()].into());
    assert_eq!(fs::read(mounted.of("snapshots/latest", &folder).join("file")).unwrap(), b"one");
    drop(mounted);
    let _ = home.bbackup(["mount"]).arg(home.path("nowhere")).run().exits(3).says("nowhere");
    let _ = home.bbackup(["mount"]).arg(home.path("password")).run().exits(3).says("password");
}

#[test]
fn damaged_data_is_an_error_and_never_wrong_data() {
    needs!(Part::Root, Part::Program("fusermount3"));
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    fs::write(folder.join("good"), tree::noise(1, 2_000_000)).unwrap();
    let _ = home.back_up(&folder);
    let before: BTreeSet<PathBuf> = files_below(&home.repository().join("data")).into_iter().collect();
    fs::write(folder.join("bad"), tree::noise(2, 6_000_000)).unwrap();
    let _ = home.back_up(&folder);
    let new = files_below(&home.repository().join("data")).into_iter().filter(|path| !before.contains(path));
    let largest = new.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    faults::flip(&largest, 1000);
    let mounted = Mounted::new(&home, &[]);
    let latest = mounted.of("snapshots/latest", &folder);
    assert!(fs::read(latest.join("good")).unwrap() == fs::read(folder.join("good")).unwrap());
    let error = fs::read(latest.join("bad")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{error}");
    mounted.signal(Signal::INT);
    let _ = mounted.ends().says("bad").says("damaged");
}
