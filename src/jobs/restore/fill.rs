//! Fills what a restore has made: volumes, host paths, images and layers get their files from the repository.
//!
//! Directly where that is possible, otherwise through the Engine; which, is decided in `targets::volume`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::real;
use crate::docker::archive::{archive_put, image_load};
use crate::docker::helper::{MOUNT, Owner};
use crate::docker::mountpoint::same_root;
use crate::docker::wire::encode;
use crate::docker::{Engine, make};
use crate::jobs::backup::sentence;
use crate::jobs::results::RestoredApplication;
use crate::model::entry::{Metadata, Sink};
use crate::model::progress::Progress;
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::repository::contract::{Problem, Repository, RestoreRequest, SnapshotId};
use crate::targets::image::Nameless;
use crate::targets::tar::Missing;
use crate::targets::volume::{HelperTarget, VolumeSink, Writing, make_folder, writing_mode};

/// So many ids of a host belong to containers.
const MAPPED: u32 = 65_536;

/// The ids of the host that root of a container is, where an Engine maps them (`userns-remap`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    user: u32,
    group: u32,
}

impl Ids {
    /// From the name of such an Engine's folder (`100000.100000`).
    pub(super) fn of(user_namespace: Option<&str>) -> Option<Self> {
        let (user, group) = user_namespace?.split_once('.')?;
        Some(Self { user: user.parse().ok()?, group: group.parse().ok()? })
    }

    /// The same with owners as containers see them, which is how an Engine takes them in an archive.
    fn seen_inside(self, metadata: &Metadata) -> Metadata {
        let inside = |id: u32, root: u32| id.checked_sub(root).filter(|id| *id < MAPPED).unwrap_or(id);
        Metadata { uid: inside(metadata.uid, self.user), gid: inside(metadata.gid, self.group), ..metadata.clone() }
    }
}

/// One volume to be filled.
pub(super) struct Fill<'a> {
    pub(super) repository: &'a dyn Repository,
    pub(super) engine: &'a Engine,
    pub(super) snapshot: &'a SnapshotId,
    /// Where its files are in the snapshot.
    pub(super) path: &'a str,
    /// Its name on the Engine.
    pub(super) name: &'a str,
    /// Whether what is in it and not in the snapshot is removed.
    pub(super) replace: bool,
    /// The ids of the host that root of a container had where it was saved.
    pub(super) ids: Option<Ids>,
    pub(super) owner: &'a Owner,
    pub(super) control: &'a Control,
    pub(super) progress: &'a Arc<dyn Progress>,
}

impl Fill<'_> {
    /// Fills it, and gives the number of entries that could not be restored.
    pub(super) async fn volume(&self, result: &mut RestoredApplication) -> Result<u64, String> {
        if let Some(reason) = make_folder(self.engine, self.name).await {
            return Err(reason);
        }
        match writing_mode(self.engine, self.name).await.map_err(|error| sentence(&error))? {
            Writing::Direct(folder) => self.write(folder, result),
            Writing::Helper { reason } if self.replace => Err(format!("what is in volume {} cannot be replaced: {reason}", self.name)),
            Writing::Helper { .. } => {
                let target = HelperTarget::open(self.engine, self.name, self.owner).await.map_err(|error| sentence(&error))?;
                self.through(target, target_name(None), result).await
            }
        }
    }

    /// Fills a path of the Engine's machine, and gives the number of entries that could not be restored.
    pub(super) async fn host_path(&self, result: &mut RestoredApplication) -> Result<u64, String> {
        if same_root(self.engine).await {
            // Folders above it may be gone too.
            self.write(real(Path::new(self.name)), result)
        } else {
            self.host_path_through(result).await
        }
    }

    async fn host_path_through(&self, result: &mut RestoredApplication) -> Result<u64, String> {
        let mut is_folder = true;
        let looked = self.repository.list(self.snapshot, self.path.as_bytes(), false, &mut |entry| {
            is_folder = entry.metadata.is_dir();
            ControlFlow::Break(())
        });
        looked.map_err(|error| sentence(&error))?;
        // A file is written through the folder that it lies in: mounted itself it could not be replaced.
        let (folder, file) = match self.name.rsplit_once('/') {
            Some((folder, file)) if !is_folder && !folder.is_empty() => (folder, Some(file)),
            _ => (self.name, None),
        };
        let target = HelperTarget::for_folder(self.engine, folder, self.owner).await.map_err(|error| sentence(&error))?;
        self.through(target, target_name(file), result).await
    }

    fn write(&self, destination: PathBuf, result: &mut RestoredApplication) -> Result<u64, String> {
        let request = RestoreRequest {
            snapshot: self.snapshot.clone(),
            path: self.path.as_bytes().to_vec(),
            destination,
            owners: crate::platform::host::uid() == 0,
            delete_extra: self.replace,
            include: Vec::new(),
            dry_run: false,
        };
        let restored = tokio::task::block_in_place(|| self.repository.restore(&request, self.control, Arc::clone(self.progress)));
        let summary = restored.map_err(|error| sentence(&error))?;
        result.files_restored += summary.files_restored;
        result.files_unchanged += summary.files_unchanged;
        result.bytes_restored += summary.bytes_restored;
        result.problems.extend(summary.problems);
        Ok(summary.entries_lost)
    }

    async fn through(&self, target: HelperTarget, top: Vec<u8>, result: &mut RestoredApplication) -> Result<u64, String> {
        let streamed = self.stream(target.sink(&top), self.ids, result);
        if let Err(error) = target.close().await {
            result.warnings.push(format!("the helper container of {} stays until the next run: {}", self.name, sentence(&error)));
        }
        streamed
    }

    /// Has the Engine load an image, and makes sure that it has its name, or takes none.
    pub(super) async fn image(&self, id: &str, nameless: bool, result: &mut RestoredApplication) -> Result<(), String> {
        let sink = VolumeSink::new(image_load(self.engine), b"");
        if nameless {
            let mut sink = Nameless::new(sink);
            whole(self.give(&mut sink, None, result)?)?;
            return match make::get(self.engine, &format!("/images/{}/json", encode(id))).await {
                Ok(_) => Ok(()),
                Err(error) if error.is_not_found() => Err(format!(
                    "this Engine gave image {} another id than {}, and its name belongs to another image",
                    printable(self.name.as_bytes()),
                    printable(id.as_bytes())
                )),
                Err(error) => Err(sentence(&error)),
            };
        }
        whole(self.stream(sink, None, result)?)?;
        if !id.contains(self.name) {
            // An image that was saved by its id brings no name; an Engine that gives images other ids has the name from the archive.
            match make::tag(self.engine, id, self.name).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(sentence(&error)),
            }
        }
        Ok(())
    }

    /// Puts what a container had written outside its mounts into its layer.
    pub(super) fn layer(&self, result: &mut RestoredApplication) -> Result<u64, String> {
        self.stream(VolumeSink::new(archive_put(self.engine, self.name, "/"), b""), self.ids, result)
    }

    /// Gives the number of entries that the repository has lost.
    fn stream(&self, mut sink: VolumeSink, ids: Option<Ids>, result: &mut RestoredApplication) -> Result<u64, String> {
        let lost = self.give(&mut sink, ids, result)?;
        for left_out in sink.left_out() {
            let path = format!("{}/{}", self.path, printable(&left_out.path));
            result.problems.push(Problem { path, message: missing(&left_out.what) });
        }
        Ok(lost)
    }

    fn give(&self, sink: &mut dyn Sink, ids: Option<Ids>, result: &mut RestoredApplication) -> Result<u64, String> {
        let mut sink = Counted { sink, ids, files: 0, bytes: 0 };
        let streamed = tokio::task::block_in_place(|| {
            self.repository.stream(self.snapshot, self.path.as_bytes(), &mut sink, self.control, Arc::clone(self.progress))
        });
        let lost = streamed.map_err(|error| sentence(&error))?;
        result.files_restored += sink.files;
        result.bytes_restored += sink.bytes;
        result.problems.extend(lost.problems);
        Ok(lost.problem_count)
    }
}

/// Where in a helper the root of what is restored goes: to what it mounts, or to a file in that.
fn target_name(file: Option<&str>) -> Vec<u8> {
    match file {
        Some(file) => [MOUNT.as_bytes(), b"/", file.as_bytes()].concat(),
        None => MOUNT.as_bytes().to_vec(),
    }
}

/// An image of which something is lost is none.
fn whole(lost: u64) -> Result<(), String> {
    if lost == 0 { Ok(()) } else { Err("part of it is lost, so the Engine cannot have taken it".to_owned()) }
}

/// What a stream to the Engine cannot hold, for people.
fn missing(what: &Missing) -> String {
    match what {
        Missing::Socket => "a socket cannot be restored through a helper container".to_owned(),
        Missing::Xattr(name) => format!("the extended attribute {} cannot be restored through a helper container", printable(name)),
    }
}

/// Counts what goes by, and gives owners as who takes it understands them.
struct Counted<'a> {
    sink: &'a mut dyn Sink,
    /// Owners are given as containers see them.
    ids: Option<Ids>,
    files: u64,
    bytes: u64,
}

impl Sink for Counted<'_> {
    fn begin(&mut self, path: &[u8], metadata: &Metadata, link_to: Option<&[u8]>) -> std::io::Result<()> {
        self.files += u64::from(metadata.is_file() && link_to.is_none());
        match self.ids {
            Some(ids) => self.sink.begin(path, &ids.seen_inside(metadata), link_to),
            None => self.sink.begin(path, metadata, link_to),
        }
    }

    fn data(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.sink.data(bytes)
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.sink.end()
    }

    fn finish(&mut self) -> std::io::Result<()> {
        self.sink.finish()
    }
}
