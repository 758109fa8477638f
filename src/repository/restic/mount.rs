//! Snapshots as a file system that can only be read (FUSE): by application, host, tag, time and id.
//!
//! `layout` decides the folders above the snapshots, `inodes` numbers what is in them, `blobs` keeps data for a while, `serve`
//! answers the kernel. What is shown is never written, so the kernel may keep whatever it was told.

mod blobs;
mod inodes;
mod layout;
mod serve;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use fuser::{Config, MountOption, Session, SessionACL};

use self::serve::Server;
use super::id::Id;
use super::lock::Lock;
use super::state::Indexed;
use crate::model::progress::{Event, Progress};
use crate::platform::control::Control;
use crate::platform::{clock, host, mounts};
use crate::repository::contract::mount::{MountEnd, MountRequest};
use crate::repository::contract::{RepositoryError, Snapshot};

/// Between two looks at whether it is over.
const TICK: Duration = Duration::from_millis(50);
/// How long to wait for the end of what is gone from its folder. Where another mount namespace shows it, that may never come.
const LINGER: Duration = Duration::from_secs(2);
/// Threads that answer the kernel, at least: some of them wait for the disk.
const LEAST_THREADS: usize = 4;

/// Mounts and serves until somebody unmounts it or the work is cancelled. `trees` are the roots of the snapshots of the request.
/// `mounted` is called as soon as the folder shows them. Once `lock` is lost, that is told, and what is shown goes on to be.
///
/// # Errors
/// It cannot be mounted; then nothing is.
pub fn mount(
    repo: &Arc<Indexed>,
    request: &MountRequest,
    trees: &[Id],
    control: &Control,
    progress: Arc<dyn Progress>,
    lock: Option<&Lock>,
    mounted: &mut dyn FnMut(),
) -> Result<MountEnd, RepositoryError> {
    let failed = |source: io::Error| RepositoryError::Mount { path: request.mountpoint.display().to_string(), source };
    control.checkpoint()?;
    let snapshots: Vec<(&Snapshot, Id)> = request.snapshots.iter().zip(trees.iter().copied()).collect();
    let root = layout::build(&snapshots, &clock::local_zone());
    let path = request.mountpoint.canonicalize().map_err(failed)?;
    if !path.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    // Who mounts as root sees everything anyway; others would be kept from what they hold the password of.
    let by_owner = request.allow_other || host::uid() == 0;
    let server = Server::new(Arc::clone(repo), root, by_owner, Arc::clone(&progress));
    let mut watch = Watch { lock, path: &request.mountpoint, progress: &*progress };
    let session = Session::new(server, &path, &config(request, by_owner)).map_err(failed)?;
    let session = session.spawn().map_err(failed)?;
    mounts::read_further_ahead(&path);
    mounted();
    loop {
        if session.guard.is_finished() {
            return join(session, &path).map(|()| MountEnd::Unmounted).map_err(failed);
        }
        if control.is_cancelled() {
            return end(session, &path).map_err(failed);
        }
        watch.look();
        thread::sleep(TICK);
    }
}

/// Looks whether others may remove what is shown.
struct Watch<'a> {
    /// None once it was told that it is lost.
    lock: Option<&'a Lock>,
    path: &'a Path,
    progress: &'a dyn Progress,
}

impl Watch<'_> {
    fn look(&mut self) {
        let Some(Err(error)) = self.lock.map(Lock::check) else { return };
        self.lock = None;
        let message = format!("{}; others may now remove what is shown here: mount it anew", error.with_causes());
        self.progress.event(Event::Problem { path: self.path.as_os_str().as_encoded_bytes(), message: &message });
    }
}

fn config(request: &MountRequest, by_owner: bool) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName(mounts::SOURCE.to_owned()), MountOption::RO, MountOption::NoDev, MountOption::NoSuid];
    if by_owner {
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    if request.allow_other {
        config.acl = SessionACL::All;
    }
    config.n_threads = Some(thread::available_parallelism().map_or(1, NonZeroUsize::get).max(LEAST_THREADS));
    config
}

/// Unmounts. Who still has files open loses them: a process that ends cannot serve them.
fn end(session: fuser::BackgroundSession, path: &Path) -> io::Result<MountEnd> {
    match mounts::unmount(path) {
        Ok(()) => {
            let limit = clock::monotonic() + LINGER;
            while !session.guard.is_finished() {
                if clock::monotonic() >= limit {
                    std::mem::forget(session);
                    return Ok(MountEnd::Cancelled);
                }
                thread::sleep(TICK);
            }
            join(session, path).map(|()| MountEnd::Cancelled)
        }
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            mounts::detach(path)?;
            // The threads serve until the last file is closed, which nobody waits for; what holds the mount is gone already.
            std::mem::forget(session);
            Ok(MountEnd::CancelledWhileBusy)
        }
        Err(error) => Err(error),
    }
}

/// Waits for the threads of a mount that is gone. Once it is gone, how its threads ended says nothing any more.
fn join(session: fuser::BackgroundSession, path: &Path) -> io::Result<()> {
    match session.join() {
        Err(error) if mounts::own().is_ok_and(|mounts| mounts.iter().any(|mount| mount == path)) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Mutex;

    use super::*;
    use crate::repository::restic::lock::{LockTimes, unlock};
    use crate::repository::restic::state::testing::empty_repository;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Progress for Told {
        fn event(&self, event: Event<'_>) {
            if let Event::Problem { message, .. } = event {
                self.0.lock().unwrap().push(message.to_owned());
            }
        }
    }

    #[test]
    fn a_lock_that_is_lost_is_told_once() {
        let (_folder, open) = empty_repository(2);
        let times = LockTimes {
            refresh: Duration::from_millis(20),
            settle: Duration::ZERO,
            tick: Duration::from_millis(5),
            ..LockTimes::default()
        };
        let lock = Lock::acquire_with(&open, false, Duration::ZERO, &Control::new(), times).unwrap();
        let told = Told::default();
        let mut watch = Watch { lock: Some(&lock), path: Path::new("/mnt"), progress: &told };
        watch.look();
        assert_eq!(told.0.lock().unwrap().len(), 0);
        // One that is just being refreshed may be missed.
        while lock.check().is_ok() {
            unlock(&open, true).unwrap();
            thread::sleep(Duration::from_millis(5));
        }
        (0..3).for_each(|_| watch.look());
        let told = told.0.lock().unwrap();
        assert!(told.len() == 1 && told[0].contains("others may now remove"), "{told:?}");
    }
}
