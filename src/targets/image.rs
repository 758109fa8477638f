//! An image on its way back to an Engine: pulled from where it can be had, or its archive with the names taken out, where another image
//! has them.
//!
//! Which image gets which name is decided in `plan`.

use std::io;

use serde_json::Value;

use crate::docker::{DockerError, Engine, make};
use crate::model::entry::{Metadata, Sink};
use crate::model::text::printable;

/// The files of an image's archive that give it names: that of `docker save`, and that of the OCI layout.
const NAMING: [&[u8]; 2] = [b"manifest.json", b"index.json"];
/// The annotations that are names.
const ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
/// Far more than such a file has; it is kept in memory.
const LIMIT: u64 = 16 << 20;

/// Has the Engine pull an image by one of its digests, and gives it its name. A registry that has none of them any more is asked
/// for the name; then somebody should know, and gets a sentence.
///
/// # Errors
/// Nobody has it; the first refusal is the one that is told.
pub async fn pull(engine: &Engine, digest: &str, others: &[String], tag: Option<&str>) -> Result<Option<String>, DockerError> {
    let mut refusals = Vec::new();
    for digest in std::iter::once(digest).chain(others.iter().map(String::as_str)) {
        match make::pull(engine, digest).await {
            Ok(()) => {
                if let Some(tag) = tag {
                    make::tag(engine, digest, tag).await?;
                }
                return Ok(None);
            }
            Err(error @ (DockerError::Api { .. } | DockerError::NotFound { .. })) => refusals.push(error),
            Err(error) => return Err(error),
        }
    }
    // Engines say of a digest that is gone now 404, now 500, by the words of the registry. One that does not answer has no names either.
    if let Some(name) = tag
        && make::pull(engine, name).await.is_ok()
    {
        let (name, digest) = (printable(name.as_bytes()), printable(digest.as_bytes()));
        return Ok(Some(format!("no registry has {digest} any more: {name} was pulled by its name, and may be another build")));
    }
    let call = || DockerError::Api { call: "POST /images/create".to_owned(), status: 404, message: "no registry has it".to_owned() };
    Err(refusals.into_iter().next().unwrap_or_else(call))
}

/// Passes the archive of an image on without the names that it would give: an Engine that loads it takes no name from another
/// image.
#[derive(Debug)]
pub struct Nameless<S> {
    inner: S,
    /// The file that is being gathered.
    held: Option<(Vec<u8>, Metadata, Vec<u8>)>,
}

impl<S: Sink> Nameless<S> {
    /// Passes on to `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, held: None }
    }
}

impl<S: Sink> Sink for Nameless<S> {
    fn begin(&mut self, path: &[u8], metadata: &Metadata, link_to: Option<&[u8]>) -> io::Result<()> {
        if !NAMING.contains(&path) || !metadata.is_file() || link_to.is_some() {
            return self.inner.begin(path, metadata, link_to);
        }
        if metadata.size > LIMIT {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the list of what is in the image is too long"));
        }
        self.held = Some((path.to_vec(), metadata.clone(), Vec::new()));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.held {
            Some((_, _, content)) => {
                content.extend_from_slice(bytes);
                Ok(())
            }
            None => self.inner.data(bytes),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        if let Some((path, mut metadata, content)) = self.held.take() {
            let content = without_names(&content)?;
            metadata.size = content.len() as u64;
            self.inner.begin(&path, &metadata, None)?;
            self.inner.data(&content)?;
        }
        self.inner.end()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.inner.finish()
    }
}

fn without_names(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(content)?;
    for image in value.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        image.insert("RepoTags".to_owned(), Value::Null);
    }
    let manifests = value.get_mut("manifests").and_then(Value::as_array_mut);
    for annotations in manifests.into_iter().flatten().filter_map(|one| one.get_mut("annotations")?.as_object_mut()) {
        for name in ANNOTATIONS {
            annotations.remove(name);
        }
    }
    Ok(serde_json::to_vec(&value)?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_are_taken_out_and_nothing_else() {
        let manifest = br#"[{"Config":"c.json","RepoTags":["a:1","b:2"],"Layers":["l/layer.tar"]}]"#;
        let expected = serde_json::json!([{"Config": "c.json", "RepoTags": null, "Layers": ["l/layer.tar"]}]);
        assert_eq!(serde_json::from_slice::<Value>(&without_names(manifest).unwrap()).unwrap(), expected);
        let index = br#"{"schemaVersion":2,"manifests":[{"digest":"sha256:1","annotations":{"io.containerd.image.name":"a:1",
            "org.opencontainers.image.ref.name":"1","other":"stays"}},{"digest":"sha256:2"}]}"#;
        let expected = serde_json::json!({"schemaVersion": 2,
            "manifests": [{"digest": "sha256:1", "annotations": {"other": "stays"}}, {"digest": "sha256:2"}]});
        assert_eq!(serde_json::from_slice::<Value>(&without_names(index).unwrap()).unwrap(), expected);
        assert!(without_names(b"no json").is_err());
    }
}
