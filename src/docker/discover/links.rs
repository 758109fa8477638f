//! What paths of the Engine's machine really are, where a link is on the way: `/data/a` and `/mnt/ssd/data/a` may be one folder.
//!
//! Asked of the file system only where the Engine's files are seen from here. What follows from it is `grounds`' business.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::binds::{above, data_path};
use crate::docker::connect::Engine;
use crate::docker::mountpoint::same_root;
use crate::model::application::{Mount, Volume};
use crate::model::text::printable;

/// How long the file systems may take to say it: a network file system whose server is gone takes for ever.
const LIMIT: Duration = Duration::from_secs(20);
/// After how long without an answer others go on with the rest.
const STALL: Duration = Duration::from_millis(500);
/// How many follow paths at the same time, and how many more come where these hang.
const WORKERS: usize = 16;

/// The real paths of those that lead over links.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Links {
    real: HashMap<String, String>,
    /// All that were asked for.
    asked: BTreeSet<String>,
    /// Those of which the file system does not say where they lead.
    unknown: BTreeSet<String>,
}

impl Links {
    /// Follows the links on the way to what containers and volumes name, as far as `known` does not have it.
    pub async fn find<'a>(
        engine: &Engine,
        known: &Self,
        mounts: impl IntoIterator<Item = &'a Mount>,
        volumes: impl IntoIterator<Item = &'a Volume>,
    ) -> Self {
        let of_volume = |volume: &'a Volume| std::iter::once(volume.mountpoint.as_str()).chain(volume.bound_folder());
        let named = mounts.into_iter().filter_map(data_path).chain(volumes.into_iter().flat_map(of_volume));
        let new = |path: &&str| path.starts_with('/') && !known.asked.contains(*path);
        let paths: BTreeSet<String> = named.map(|path| path.trim_end_matches('/')).filter(new).map(str::to_owned).collect();
        if paths.is_empty() || !same_root(engine).await {
            return Self::default();
        }
        Self::follow(paths, LIMIT, Arc::new(real)).await
    }

    /// The paths of this machine whose file system does not answer. Whoever touches one of these waits, it may be for ever.
    pub async fn silent(engine: &Engine, paths: BTreeSet<String>) -> BTreeSet<String> {
        if paths.is_empty() || !same_root(engine).await {
            return BTreeSet::new();
        }
        Self::follow(paths, LIMIT, Arc::new(real)).await.unknown
    }

    /// One that hangs keeps neither the others nor us for ever.
    async fn follow(paths: BTreeSet<String>, limit: Duration, follow: Arc<Follow>) -> Self {
        let deadline = tokio::time::Instant::now() + limit;
        let queue = Arc::new(Mutex::new(paths.iter().cloned().collect::<VecDeque<_>>()));
        let (send, mut receive) = mpsc::unbounded_channel();
        let mut found = Self { unknown: paths.clone(), asked: paths, ..Self::default() };
        work(&queue, &follow, &send);
        while !found.unknown.is_empty() {
            let stalled = tokio::time::Instant::now() + STALL;
            match timeout_at(stalled.min(deadline), receive.recv()).await {
                Ok(Some((path, real))) => {
                    found.unknown.remove(&path);
                    found.real.extend(Option::<String>::map(real, |real| (path, real)));
                }
                Err(_) if stalled < deadline => work(&queue, &follow, &send),
                _ => break,
            }
        }
        locked(&queue).clear();
        found
    }

    /// The paths of which the file system does not answer.
    pub fn unknown(&self) -> &BTreeSet<String> {
        &self.unknown
    }

    /// What could not be found out, as a sentence.
    pub fn told(&self) -> Option<String> {
        const SHOWN: usize = 10;
        let shown: Vec<String> = self.unknown.iter().take(SHOWN).map(|path| printable(path.as_bytes())).collect();
        let more = self.unknown.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let told = format!(
            "whether links lead from {}{more} to other files is not known, as their file system does not answer: containers that write there are \
             not kept still for what they may reach that way",
            shown.join(", ")
        );
        (!shown.is_empty()).then_some(told)
    }

    /// Adds what others know.
    pub fn extend(&mut self, more: Self) {
        self.real.extend(more.real);
        self.asked.extend(more.asked);
        self.unknown.extend(more.unknown);
    }

    /// Adds to places what they really are, or what they lie in.
    pub fn with_real(&self, mut places: BTreeSet<String>) -> BTreeSet<String> {
        let found = |place: &String| {
            let (outer, real) =
                std::iter::once(place.as_str()).chain(above(place)).find_map(|outer| Some((outer, self.real.get(outer)?)))?;
            Some(format!("{real}{}", &place[outer.len()..]))
        };
        let real: Vec<String> = places.iter().filter_map(found).collect();
        places.extend(real);
        places
    }
}

/// Gives what a path really is, if it is something else.
type Follow = dyn Fn(&str) -> Option<String> + Send + Sync;
/// A path, and what it really is. Each worker has an end; the receiver goes when nobody waits any more.
type Answers = mpsc::UnboundedSender<(String, Option<String>)>;

/// Starts threads that follow what nobody has begun with yet. Nobody waits for one that hangs.
fn work(queue: &Arc<Mutex<VecDeque<String>>>, follow: &Arc<Follow>, answers: &Answers) {
    for _ in 0..WORKERS.min(locked(queue).len()) {
        let (queue, follow, answers) = (Arc::clone(queue), Arc::clone(follow), answers.clone());
        let worker = move || {
            loop {
                let Some(path) = locked(&queue).pop_front() else { break };
                let real = follow(&path);
                if answers.send((path, real)).is_err() {
                    break;
                }
            }
        };
        // The others, or the next ones, do what it would have done.
        drop(std::thread::Builder::new().name("follow links".to_owned()).spawn(worker));
    }
}

fn locked(queue: &Mutex<VecDeque<String>>) -> std::sync::MutexGuard<'_, VecDeque<String>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test]
    async fn links_on_the_way_are_followed_also_to_what_is_not_there_yet() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("ssd/data/a")).unwrap();
        std::os::unix::fs::symlink("ssd/data", base.join("data")).unwrap();
        let path = |end: &str| base.join(end).to_str().unwrap().to_owned();
        let links = Links::follow(["data/a", "data/new/b", "ssd/data/a", "gone"].map(path).into(), LIMIT, Arc::new(real)).await;
        let real = |end: &str| links.with_real(BTreeSet::from([path(end)]));
        assert_eq!(real("data/a"), [path("data/a"), path("ssd/data/a")].into());
        assert_eq!(real("data/new/b"), [path("data/new/b"), path("ssd/data/new/b")].into());
        for same in ["ssd/data/a", "gone"] {
            assert_eq!(real(same), [path(same)].into());
        }
    }

    #[tokio::test]
    async fn paths_that_hang_do_not_keep_the_others() {
        let follow = |path: &str| {
            while path.starts_with("/dead") {
                std::thread::park();
            }
            path.strip_prefix("/link").map(|rest| format!("/real{rest}"))
        };
        let dead: BTreeSet<String> = (0..3 * WORKERS).map(|number| format!("/dead/{number}")).collect();
        let paths = dead.iter().cloned().chain(["/link/a".to_owned(), "/plain".to_owned()]).collect();
        let links = Links::follow(paths, 8 * STALL, Arc::new(follow)).await;
        assert_eq!(links.unknown, dead);
        assert_eq!(links.with_real(BTreeSet::from(["/link/a".to_owned()])), ["/link/a", "/real/a"].map(str::to_owned).into());
    }
}
