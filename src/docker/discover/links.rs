//! What paths of the Engine's machine really are, where a link is on the way: `/data/a` and `/mnt/ssd/data/a` may be one folder.
//!
//! Asked of the file system only where the Engine's files are seen from here. What follows from it is `grounds`' business.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use super::binds::data_path;
use crate::docker::connect::Engine;
use crate::docker::mountpoint::same_root;
use crate::model::application::{Mount, Volume};

/// How long the file system may take to say it: a network file system whose server is gone takes for ever.
const LIMIT: Duration = Duration::from_secs(20);

/// The real paths of those that lead over links; the others are not in it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Links(HashMap<String, String>);

impl Links {
    /// Follows the links on the way to what containers and volumes name. Where they cannot be followed there are none.
    pub async fn find<'a>(
        engine: &Engine,
        mounts: impl IntoIterator<Item = &'a Mount>,
        volumes: impl IntoIterator<Item = &'a Volume>,
    ) -> Self {
        let of_volume = |volume: &'a Volume| std::iter::once(volume.mountpoint.as_str()).chain(volume.bound_folder());
        let named = mounts.into_iter().filter_map(data_path).chain(volumes.into_iter().flat_map(of_volume));
        let paths: BTreeSet<String> =
            named.map(|path| path.trim_end_matches('/')).filter(|path| path.starts_with('/')).map(str::to_owned).collect();
        if paths.is_empty() || !same_root(engine).await {
            return Self::default();
        }
        // A thread of its own: nobody waits for it if it hangs.
        let (send, receive) = tokio::sync::oneshot::channel();
        let follow = move || drop(send.send(Self::follow(paths)));
        if std::thread::Builder::new().name("follow links".to_owned()).spawn(follow).is_err() {
            return Self::default();
        }
        tokio::time::timeout(LIMIT, receive).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    fn follow(paths: BTreeSet<String>) -> Self {
        Self(paths.into_iter().filter_map(|path| real(&path).map(|real| (path, real))).collect())
    }

    /// Adds what others know.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Adds to places what they really are.
    pub fn with_real(&self, mut places: BTreeSet<String>) -> BTreeSet<String> {
        let real: Vec<String> = places.iter().filter_map(|place| self.0.get(place).cloned()).collect();
        places.extend(real);
        places
    }
}

/// What a path really is, if it is something else than it says. The end of it may not be there yet.
fn real(path: &str) -> Option<String> {
    let path = Path::new(path);
    let (there, known) = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)))?;
    let rest = path.strip_prefix(there).ok()?;
    let real = if rest.as_os_str().is_empty() { known } else { known.join(rest) };
    (real != path).then(|| real.into_os_string().into_string().ok())?
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn links_on_the_way_are_followed_also_to_what_is_not_there_yet() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("ssd/data/a")).unwrap();
        std::os::unix::fs::symlink("ssd/data", base.join("data")).unwrap();
        let path = |end: &str| base.join(end).to_str().unwrap().to_owned();
        let links = Links::follow(["data/a", "data/new/b", "ssd/data/a", "gone"].map(path).into());
        let real = |end: &str| links.with_real(BTreeSet::from([path(end)]));
        assert_eq!(real("data/a"), [path("data/a"), path("ssd/data/a")].into());
        assert_eq!(real("data/new/b"), [path("data/new/b"), path("ssd/data/new/b")].into());
        for same in ["ssd/data/a", "gone"] {
            assert_eq!(real(same), [path(same)].into());
        }
    }
}
