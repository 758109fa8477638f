//! Snapshots, disks and folders mounted for the time of a test.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::home::Home;
use super::run::{Outcome, Running};

/// A mount that is taken away with the test, whatever becomes of it.
pub(crate) struct Mounted<'a> {
    home: &'a Home,
    /// Where it is.
    pub(crate) path: PathBuf,
    running: Option<Running>,
}

impl<'a> Mounted<'a> {
    /// Mounts the test's repository and waits until it is there.
    pub(crate) fn new(home: &'a Home, flags: &[&str]) -> Self {
        let path = home.make_folder("mount");
        let mut running = home.bbackup(["mount"]).arg(&path).args(flags).spawn();
        let ids = path.join("ids");
        running.until("the mount is there", || ids.exists());
        Self { home, path, running: Some(running) }
    }

    /// What a snapshot's folder is in the mount.
    pub(crate) fn of(&self, place: &str, folder: &Path) -> PathBuf {
        self.path.join(place).join(folder.strip_prefix("/").unwrap())
    }

    /// Waits for the end of the program that serves it.
    pub(crate) fn ends(mut self) -> Outcome {
        self.running.take().unwrap().wait()
    }

    /// Sends that program a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.running.as_ref().unwrap().signal(signal);
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = self.home.program("umount").arg("-l").arg(&self.path).run().code();
    }
}

/// Whether anything is mounted there.
pub(crate) fn is_mounted(path: &Path) -> bool {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

/// Something of this machine that is mounted until it is dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// A disk in memory.
    pub(crate) fn in_memory(point: &Path) -> Self {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", point, "tmpfs", flags, None::<&std::ffi::CStr>).unwrap();
        Self(point.to_owned())
    }

    /// What the kernel makes up.
    pub(crate) fn of_the_kernel(point: &Path) -> Self {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("proc", point, "proc", flags, None::<&std::ffi::CStr>).unwrap();
        Self(point.to_owned())
    }

    /// A folder that is somewhere else, too.
    pub(crate) fn another(folder: &Path, point: &Path) -> Self {
        rustix::mount::mount_bind(folder, point).unwrap();
        Self(point.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A file system that does not answer what is in it for a long time, like that of a server that is gone. (Who asks one that never
/// answers could not even be killed.)
pub(crate) struct Hung {
    path: PathBuf,
    _session: fuser::BackgroundSession,
}

impl Hung {
    /// Mounts it.
    pub(crate) fn new(path: &Path, silence: Duration) -> Self {
        let session = fuser::Session::new(Silent { silence, over: OnceLock::new() }, path, &fuser::Config::default()).unwrap();
        Self { path: path.to_owned(), _session: session.spawn().unwrap() }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Answers nothing for so long after it was asked first.
struct Silent {
    silence: Duration,
    over: OnceLock<Instant>,
}

impl fuser::Filesystem for Silent {
    fn lookup(&self, _request: &fuser::Request, _parent: fuser::INodeNo, _name: &OsStr, reply: fuser::ReplyEntry) {
        let over = self.over.get_or_init(|| Instant::now() + self.silence);
        thread::sleep(over.saturating_duration_since(Instant::now()));
        reply.error(fuser::Errno::EIO);
    }
}
