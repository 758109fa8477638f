//! Leaves entries out of a stream: by pattern, and what is never read. A walk leaves out by itself and does not need this.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::sync::Arc;

use super::filter::Filter;
use crate::model::entry::{Content, EntryProblem, Source, Step};

/// A source without what its filter excludes.
#[derive(Debug)]
pub struct Filtered<S> {
    inner: S,
    filter: Arc<Filter>,
    /// The absolute path under which the filter sees the root, without a slash at its end.
    seen_as: Vec<u8>,
    /// Paths relative to the root that are never given, nor what is in them.
    never: Vec<Vec<u8>>,
    /// The excluded folder that the stream is in.
    pruned: Option<Vec<u8>>,
    /// Excluded files, to which later entries may be hard links: eight bytes for each, as there may be millions.
    excluded: HashSet<u64>,
    hasher: RandomState,
}

impl<S: Source> Filtered<S> {
    /// Leaves out of `inner` what `filter` excludes, and the paths in `never` with what is in them. The root itself is always given.
    pub fn new(inner: S, filter: Arc<Filter>, mut seen_as: Vec<u8>, never: Vec<Vec<u8>>) -> Self {
        while seen_as.last() == Some(&b'/') {
            seen_as.pop();
        }
        Self { inner, filter, seen_as, never, pruned: None, excluded: HashSet::new(), hasher: RandomState::new() }
    }

    fn is_excluded(&mut self, path: &[u8], is_dir: bool) -> bool {
        if path.is_empty() {
            return false;
        }
        if let Some(pruned) = &self.pruned {
            if path.strip_prefix(&pruned[..]).is_some_and(|rest| rest.starts_with(b"/")) {
                return true;
            }
            self.pruned = None;
        }
        let is_in = |never: &Vec<u8>| path.strip_prefix(&never[..]).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
        if self.never.iter().any(is_in) {
            return true;
        }
        let excluded = self.filter.is_excluded(&[&self.seen_as[..], b"/", path].concat());
        if excluded && is_dir {
            self.pruned = Some(path.to_vec());
        }
        excluded
    }
}

impl<S: Source> Source for Filtered<S> {
    fn next_step(&mut self) -> io::Result<Step> {
        loop {
            match self.inner.next_step()? {
                Step::Entry(entry) => {
                    if self.is_excluded(&entry.path, entry.metadata.is_dir()) {
                        // Its data is skipped by the stream itself.
                        if entry.metadata.is_file() {
                            self.excluded.insert(self.hasher.hash_one(&entry.path));
                        }
                        continue;
                    }
                    if let Content::HardLink(target) = &entry.content
                        && self.excluded.contains(&self.hasher.hash_one(target))
                    {
                        let message = "it is a hard link to a file that is excluded, and the stream has its data only there";
                        return Ok(Step::Problem(EntryProblem { path: entry.path, error: io::Error::other(message) }));
                    }
                    return Ok(Step::Entry(entry));
                }
                Step::Problem(problem) => {
                    if !self.is_excluded(&problem.path, false) {
                        return Ok(Step::Problem(problem));
                    }
                }
                Step::End => return Ok(Step::End),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model::entry::{Entry, Metadata};
    use crate::sources::filter::Case;

    struct Steps(std::vec::IntoIter<Step>);

    impl Source for Steps {
        fn next_step(&mut self) -> io::Result<Step> {
            Ok(self.0.next().unwrap_or(Step::End))
        }
    }

    fn entry(path: &str, metadata: Metadata, content: Content) -> Step {
        Step::Entry(Entry { path: path.as_bytes().to_vec(), metadata, content })
    }

    #[test]
    fn folders_go_with_what_is_in_them_and_lost_links_are_told() {
        let folder = |path| entry(path, Metadata::virtual_directory(), Content::None);
        let file = |path| entry(path, Metadata::virtual_file(0), Content::Bytes(Vec::new()));
        let link = |path, to: &str| entry(path, Metadata::virtual_file(0), Content::HardLink(to.as_bytes().to_vec()));
        let steps = vec![
            folder(""),
            file("a.tmp"),
            folder("cache"),
            file("cache/x"),
            folder("cache.d"),
            link("cache.d/kept", "a.tmp"),
            link("cache.d/lost.tmp", "a.tmp"),
            file("d"),
            folder("lib"),
            folder("lib/docker"),
            file("lib/docker/x"),
            file("lib/docker.d"),
        ];
        let mut filter = Filter::new();
        filter.exclude(b"*.tmp", Case::Sensitive).unwrap();
        filter.exclude(b"/docker/a/volumes/v/cache", Case::Sensitive).unwrap();
        let mut source =
            Filtered::new(Steps(steps.into_iter()), Arc::new(filter), b"/docker/a/volumes/v".to_vec(), vec![b"lib/docker".to_vec()]);
        let mut found = Vec::new();
        loop {
            match source.next_step().unwrap() {
                Step::Entry(entry) => found.push(String::from_utf8(entry.path).unwrap()),
                Step::Problem(problem) => found.push(format!("! {}", String::from_utf8(problem.path).unwrap())),
                Step::End => break,
            }
        }
        assert_eq!(found, ["", "cache.d", "! cache.d/kept", "d", "lib", "lib/docker.d"]);
    }
}
