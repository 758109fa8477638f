//! Whether a volume's folder may be used as files: only if the Engine and this process mean the same folder by its path.
//!
//! What is read or written there is the business of `sources/volume` and `targets/volume`.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::connect::Engine;
use crate::model::application::Volume;
use crate::model::text::printable;

/// The folder of a volume, if the Engine's process sees the very same folder (device and inode) there as this one does; or
/// why it may not be used.
///
/// A volume with options is mounted only while a container uses it: without, its folder is there and is the wrong one.
///
/// # Errors
/// The reason, for people.
pub async fn agreed(engine: &Engine, volume: &Volume) -> Result<PathBuf, String> {
    let path = candidate(engine, volume)?;
    let Some(process) = engine.process().await else {
        return Err("the Docker Engine's process is not seen from here".to_owned());
    };
    same_folder(&path, process)?;
    Ok(path)
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

fn candidate(engine: &Engine, volume: &Volume) -> Result<PathBuf, String> {
    if !engine.is_local() {
        return Err("the Docker Engine is not on this machine".to_owned());
    }
    if volume.driver != "local" {
        return Err(format!("its driver is `{}`", printable(volume.driver.as_bytes())));
    }
    if !volume.options.is_empty() {
        return Err("it has mount options".to_owned());
    }
    let expected = engine.data_root().join("volumes").join(&volume.name).join("_data");
    if !expected.is_absolute() || volume.name.contains('/') || Path::new(&volume.mountpoint) != expected {
        return Err(format!("its mountpoint {} is not in the Docker Engine's data folder", printable(volume.mountpoint.as_bytes())));
    }
    Ok(expected)
}

fn same_folder(path: &Path, process: i32) -> Result<(), String> {
    let ours = rustix::fs::lstat(path).map_err(|error| format!("its folder is not seen from here: {error}"))?;
    if FileType::from_raw_mode(ours.st_mode) != FileType::Directory {
        return Err("its mountpoint is not a folder".to_owned());
    }
    let mut theirs = PathBuf::from(format!("/proc/{process}/root"));
    theirs.push(path.strip_prefix("/").unwrap_or(path));
    let theirs =
        rustix::fs::lstat(&theirs).map_err(|error| format!("the Docker Engine's view of its folder is not seen from here: {error}"))?;
    let identity = |stat: &Stat| (stat.st_dev, stat.st_ino);
    if identity(&ours) == identity(&theirs) { Ok(()) } else { Err("its folder is not the one that the Docker Engine sees".to_owned()) }
}
