//! Snapshots mounted for the time of a test.

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
