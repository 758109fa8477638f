//! What a container wrote into its own layer: of the stream of all its files only those that changed.
//!
//! Which paths changed is known to `docker/layer`. The stream has nothing that is mounted in the container.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use super::Counts;
use super::tar::TarSource;
use super::volume::{OpenVolume, Receipt};
use crate::docker::archive::export;
use crate::docker::layer::{Change, ChangeKind, changes};
use crate::docker::{DockerError, Engine};
use crate::model::application::Container;
use crate::model::entry::{Content, EntryProblem, Source, Step};

/// A container's own layer.
#[derive(Debug)]
pub struct OpenLayer {
    /// Its changed files; none if nothing but deletions is in it.
    pub files: Option<OpenVolume>,
    /// Paths that the image has and the container does not: they come back with the image.
    pub deleted: Vec<String>,
}

/// Opens the layer of a container for reading.
///
/// # Errors
/// [`DockerError::NotFound`] if the container is gone.
pub async fn open(engine: &Engine, container: &Container) -> Result<OpenLayer, DockerError> {
    let changes = changes(engine, container).await?;
    let (deleted, changed): (Vec<Change>, Vec<Change>) = changes.into_iter().partition(|change| change.kind == ChangeKind::Deleted);
    let deleted = deleted.into_iter().map(|change| change.path).collect();
    if changed.is_empty() {
        return Ok(OpenLayer { files: None, deleted });
    }
    let wanted = wanted(&changed);
    let inner = TarSource::new(export(engine, &container.id).await?, b"");
    let counts = Arc::new(Counts::default());
    let receipt = Receipt::streamed(Arc::clone(&counts));
    Ok(OpenLayer { files: Some(OpenVolume { source: Box::new(Changed { inner, wanted, counts }), receipt }), deleted })
}

/// The changed paths and the folders above them, relative to the root.
fn wanted(changes: &[Change]) -> HashSet<Vec<u8>> {
    let mut wanted = HashSet::from([Vec::new()]);
    for path in changes.iter().map(|change| change.path.trim_matches('/')) {
        let ends = path.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| at).chain([path.len()]);
        wanted.extend(ends.map(|end| path.as_bytes()[..end].to_vec()));
    }
    wanted
}

/// Gives only what is wanted of a stream.
struct Changed<S> {
    inner: S,
    wanted: HashSet<Vec<u8>>,
    /// Of what is given, not of all that goes by.
    counts: Arc<Counts>,
}

impl<S: Source> Source for Changed<S> {
    fn next_step(&mut self) -> io::Result<Step> {
        loop {
            match self.inner.next_step()? {
                Step::Entry(entry) if !self.wanted.contains(&entry.path) => {}
                Step::Entry(entry) => {
                    if let Content::HardLink(target) = &entry.content
                        && !self.wanted.contains(target)
                    {
                        self.counts.add_problem();
                        let message = "it is a hard link to a file of the image, and the stream has its data only there";
                        return Ok(Step::Problem(EntryProblem { path: entry.path, error: io::Error::other(message) }));
                    }
                    self.counts.add_entry(entry.metadata.size);
                    return Ok(Step::Entry(entry));
                }
                Step::Problem(problem) if !self.wanted.contains(&problem.path) => {}
                other => {
                    match &other {
                        Step::End => self.counts.set_complete(),
                        _ => self.counts.add_problem(),
                    }
                    return Ok(other);
                }
            }
        }
    }
}
