//! Writes a volume's files: through the file system where that is safe, else through a helper's archive stream.
//!
//! Where the files come from is the repository's business; making the volume itself is a step of the plan.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::docker::archive::{ArchiveWriter, archive_put};
use crate::docker::discover::inspect_volume;
use crate::docker::helper::{Access, Helper, Owner};
use crate::docker::make::{self, Made};
use crate::docker::{DockerError, Engine, mountpoint};
use crate::model::entry::{Metadata, Sink};
use crate::model::text::printable;
use crate::platform::files;
use crate::targets::tar::{LeftOut, Missing, TarSink};

/// How a volume is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writing {
    /// Its root is this folder of this machine.
    Direct(PathBuf),
    /// Through a helper container, for this reason.
    Helper {
        /// For people.
        reason: String,
    },
}

/// Decides how a volume is written, from what it is now.
///
/// # Errors
/// There is no such volume, or the Engine does not say.
pub async fn writing_mode(engine: &Engine, name: &str) -> Result<Writing, DockerError> {
    let volume = inspect_volume(engine.wire(), name).await?;
    match mountpoint::agreed(engine, &volume).await {
        Ok(path) => Ok(Writing::Direct(path)),
        Err(reason) => Ok(Writing::Helper { reason }),
    }
}

/// Makes a volume; one that is there already is a conflict.
///
/// # Errors
/// The Engine refuses.
pub async fn create(engine: &Engine, body: &Value) -> Result<Made, DockerError> {
    make::volume(engine, body).await
}

/// Makes the folder of this machine that a volume stands for, as the Engine does not: what mounts the volume could not be started. Gives why
/// it cannot be made.
pub async fn make_folder(engine: &Engine, name: &str) -> Option<String> {
    let volume = inspect_volume(engine.wire(), name).await.ok()?;
    let folder = Path::new(volume.bound_folder()?);
    if !mountpoint::same_root(engine).await || std::fs::symlink_metadata(folder).is_ok() {
        return None;
    }
    let error = files::create_directories(folder, 0o755).err()?;
    let name = printable(name.as_bytes());
    Some(format!("{}, for which volume {name} stands, is not there and cannot be made: {error}", folder.display()))
}

/// Removes a volume that a failed restore has made.
///
/// # Errors
/// It is still there.
pub async fn remove(engine: &Engine, name: &str) -> Result<(), DockerError> {
    make::remove_volume(engine, name).await
}

/// A helper that mounts a volume to be written.
#[derive(Debug)]
pub struct HelperTarget {
    engine: Engine,
    helper: Helper,
}

impl HelperTarget {
    /// Makes the helper. It must be [closed](Self::close).
    ///
    /// # Errors
    /// There is no such volume, or no helper can be made.
    pub async fn open(engine: &Engine, volume: &str, owner: &Owner) -> Result<Self, DockerError> {
        let found = inspect_volume(engine.wire(), volume).await?;
        // On another machine nobody else makes it.
        if let Some(folder) = found.bound_folder()
            && !mountpoint::same_root(engine).await
        {
            return Self::for_folder(engine, folder, owner).await;
        }
        let helper = Helper::create(engine, volume, Access::Write, owner).await?;
        Ok(Self { engine: engine.clone(), helper })
    }

    /// Makes a helper that mounts a folder of the Engine's machine to be written, and the folder if there is none.
    ///
    /// # Errors
    /// No helper can be made.
    pub async fn for_folder(engine: &Engine, path: &str, owner: &Owner) -> Result<Self, DockerError> {
        Ok(Self { engine: engine.clone(), helper: Helper::for_folder(engine, path, owner).await? })
    }

    /// A sink for the volume's entries, its root first. To be called in a tokio runtime, and used on a thread that is not
    /// one of the runtime's. Dropped before it was finished, it breaks the request off; what was written stays written.
    ///
    /// `top` is where in the helper the root goes: [`crate::docker::helper::MOUNT`] for what it mounts.
    pub fn sink(&self, top: &[u8]) -> VolumeSink {
        // From the root, so that the volume's own owner and mode are taken from its entry: with the volume as the path the
        // entry `.` is passed over.
        let writer = archive_put(&self.engine, self.helper.id(), "/");
        VolumeSink::new(writer, top)
    }

    /// Removes the helper.
    ///
    /// # Errors
    /// It is still there; the next sweep removes it.
    pub async fn close(self) -> Result<(), DockerError> {
        self.helper.remove().await
    }
}

/// Takes the entries of a volume and gives them to a helper. Its `finish` returns only once the Engine has written them all.
#[derive(Debug)]
pub struct VolumeSink {
    /// None once it was finished.
    tar: Option<TarSink<ArchiveWriter>>,
    left_out: Vec<LeftOut>,
}

impl VolumeSink {
    /// Writes to a stream, the root as `top` in it.
    pub fn new(writer: ArchiveWriter, top: &[u8]) -> Self {
        Self { tar: Some(TarSink::new(writer, top)), left_out: Vec::new() }
    }

    /// What the stream could not hold, known after `finish`.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    fn tar(&mut self) -> io::Result<&mut TarSink<ArchiveWriter>> {
        self.tar.as_mut().ok_or_else(|| io::Error::other("the stream to the volume was finished already"))
    }
}

impl Sink for VolumeSink {
    fn begin(&mut self, path: &[u8], metadata: &Metadata, link_to: Option<&[u8]>) -> io::Result<()> {
        self.tar()?.begin(path, metadata, link_to)?;
        // An empty value takes a record of a tar archive away again, as the Engine reads it.
        let lost = metadata.xattrs.iter().filter(|xattr| xattr.value.is_empty() && link_to.is_none());
        self.left_out.extend(lost.map(|xattr| LeftOut { path: path.to_vec(), what: Missing::Xattr(xattr.name.clone()) }));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tar()?.data(bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        self.tar()?.end()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.tar()?.finish()?;
        let Some(tar) = self.tar.take() else { return Ok(()) };
        self.left_out.extend_from_slice(tar.left_out());
        tar.into_inner()?.finish()
    }
}
