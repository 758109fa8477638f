//! Snapshots, disks and folders mounted for the time of a test.

use std::fs;
use std::path::{Path, PathBuf};

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
