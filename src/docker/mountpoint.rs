//! Whether a volume's folder may be used as files: only if the Engine and this process mean the same folder by its path.
//!
//! What is read or written there is the business of `sources/volume` and `targets/volume`.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::connect::Engine;
use crate::model::application::Volume;
use crate::model::text::printable;
use crate::platform::mounts;

/// The folder of a volume, if the Engine's process sees the very same folder (device and inode) there as this one does; or
/// why it may not be used.
///
/// A volume with options is mounted only while a container uses it: without, its folder is there and is the wrong one.
///
/// # Errors
/// The reason, for people.
pub async fn agreed(engine: &Engine, volume: &Volume) -> Result<PathBuf, String> {
    Ok(identified(engine, volume).await?.path)
}

/// A folder that the Engine and this process agree on, and which one it was when they did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mountpoint {
    /// Its path, for both.
    pub path: PathBuf,
    /// `st_dev` of it.
    pub device: u64,
    /// `st_ino` of it.
    pub inode: u64,
}

/// As [`agreed`], with the folder's identity, so that a folder put in its place afterwards is noticed.
///
/// # Errors
/// The reason, for people.
pub async fn identified(engine: &Engine, volume: &Volume) -> Result<Mountpoint, String> {
    let path = candidate(engine, volume)?;
    let Some(process) = engine.process().await else {
        return Err("the Docker Engine's process is not seen from here".to_owned());
    };
    let stat = same_folder(&path, process)?;
    Ok(Mountpoint { path, device: stat.st_dev, inode: stat.st_ino })
}

/// Whether paths of the Engine's machine are paths of this process: both have the same root folder.
pub async fn same_root(engine: &Engine) -> bool {
    match engine.process().await {
        Some(process) => match (rustix::fs::stat("/"), rustix::fs::stat(format!("/proc/{process}/root/."))) {
            (Ok(ours), Ok(theirs)) => (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino),
            _ => false,
        },
        None => false,
    }
}

/// The mount point that a path of the Engine's machine lies below; none if that is the root folder, or is not seen from here.
pub async fn mounted_at(engine: &Engine, path: &Path) -> Option<PathBuf> {
    if !same_root(engine).await {
        return None;
    }
    mounts::point_of(path, &mounts::points().ok()?)
}

/// A file or folder of this machine by its path, if the Engine's process sees the very same one there; links are followed.
///
/// # Errors
/// The reason why it may not be used, for people.
pub async fn same_path(engine: &Engine, path: &Path) -> Result<Mountpoint, String> {
    if !engine.is_local() {
        return Err("the Docker Engine is not on this machine".to_owned());
    }
    let Some(process) = engine.process().await else {
        return Err("the Docker Engine's process is not seen from here".to_owned());
    };
    let unseen = |error: std::io::Error| format!("it is not seen from here: {error}");
    let ours = path.canonicalize().map_err(unseen)?;
    let stat = rustix::fs::stat(&ours).map_err(|error| unseen(error.into()))?;
    let mut theirs = PathBuf::from(format!("/proc/{process}/root"));
    theirs.push(ours.strip_prefix("/").unwrap_or(&ours));
    let theirs = rustix::fs::stat(&theirs).map_err(|error| format!("the Docker Engine's view of it is not seen from here: {error}"))?;
    if (stat.st_dev, stat.st_ino) != (theirs.st_dev, theirs.st_ino) {
        return Err("it is not what the Docker Engine sees there".to_owned());
    }
    Ok(Mountpoint { path: ours, device: stat.st_dev, inode: stat.st_ino })
}

fn candidate(engine: &Engine, volume: &Volume) -> Result<PathBuf, String> {
    if !engine.is_local() {
        return Err("the Docker Engine is not on this machine".to_owned());
    }
    if volume.driver != "local" {
        return Err(format!("its driver is `{}`", printable(volume.driver.as_bytes())));
    }
    if !volume.options.is_empty() {
        // Their values may hold passwords; the type does not.
        let kind = volume.options.get("type").map_or(String::new(), |kind| format!(", type `{}`", printable(kind.as_bytes())));
        return Err(format!("it has mount options{kind}"));
    }
    let expected = engine.data_root().join("volumes").join(&volume.name).join("_data");
    if !expected.is_absolute() || volume.name.contains('/') || Path::new(&volume.mountpoint) != expected {
        return Err(format!("its mountpoint {} is not in the Docker Engine's data folder", printable(volume.mountpoint.as_bytes())));
    }
    Ok(expected)
}

fn same_folder(path: &Path, process: i32) -> Result<Stat, String> {
    let ours = rustix::fs::lstat(path).map_err(|error| format!("its folder is not seen from here: {error}"))?;
    if FileType::from_raw_mode(ours.st_mode) != FileType::Directory {
        return Err("its mountpoint is not a folder".to_owned());
    }
    let mut theirs = PathBuf::from(format!("/proc/{process}/root"));
    theirs.push(path.strip_prefix("/").unwrap_or(path));
    let theirs =
        rustix::fs::lstat(&theirs).map_err(|error| format!("the Docker Engine's view of its folder is not seen from here: {error}"))?;
    let identity = |stat: &Stat| (stat.st_dev, stat.st_ino);
    if identity(&ours) == identity(&theirs) { Ok(ours) } else { Err("its folder is not the one that the Docker Engine sees".to_owned()) }
}
