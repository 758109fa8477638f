//! The sources of `backup --paths`: which of the given paths are walked, under which name, and the folders above them.
//!
//! Reading a path is `walk`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::metadata::{Owners, XattrReader, XattrsOf, from_stat, identity};
use super::walk::{Walk, WalkOptions};
use super::{Counts, SourceError};
use crate::model::entry::Metadata;
use crate::model::pattern::clean;
use crate::model::text::printable;

/// What `backup --paths` reads.
#[derive(Debug)]
pub struct HostPaths {
    /// The paths that are read, sorted, none within another.
    pub paths: Vec<HostPath>,
    /// Paths that are missing or cannot be read, and why.
    pub failed: Vec<(PathBuf, SourceError)>,
    /// The folders above them with their metadata, sorted: what the snapshot says of these although it does not hold all
    /// that is in them.
    pub folders_above: Vec<(Vec<u8>, Metadata)>,
    /// What a person should know: paths that were given twice, or within another.
    pub notes: Vec<String>,
}

/// One path that is read.
#[derive(Debug)]
pub struct HostPath {
    /// Absolute path, which is also its path in the snapshot.
    pub path: PathBuf,
    /// Its entries.
    pub source: Walk,
    /// The numbers of the walk.
    pub counts: Arc<Counts>,
}

impl HostPaths {
    /// Opens a walk for each path. Relative paths are taken from `current_folder` (absolute); `.` and `..` are taken out by the
    /// text of the path alone, as the shell's `cd` does. The filter sees each path as it is here.
    ///
    /// # Errors
    /// No path was given; none of them exists and can be opened; one is never read, or is excluded by a pattern; one lies within
    /// another but would not be reached from there.
    pub fn open(paths: &[PathBuf], current_folder: &Path, options: &WalkOptions) -> Result<Self, SourceError> {
        let mut cleaned: Vec<PathBuf> = paths.iter().map(|path| absolute(path, current_folder)).collect();
        if cleaned.is_empty() {
            return Err(SourceError::NoPath);
        }
        // By components, so that what lies in a folder comes directly behind it.
        cleaned.sort();
        let (mut notes, mut failed) = (Vec::new(), Vec::new());
        let mut kept: Vec<(PathBuf, WalkOptions)> = Vec::new();
        for path in cleaned {
            match kept.last_mut() {
                Some((outer, _)) if *outer == path => notes.push(format!("{} was given more than once", shown(&path))),
                Some((outer, outer_options)) if path.starts_with(&*outer) => match check_reached(outer, &path, outer_options) {
                    Ok(()) => notes.push(format!("{} lies in {} and is saved with it", shown(&path), shown(outer))),
                    Err(error) => failed.push((path, left_out(error)?)),
                },
                _ => kept.push((path, WalkOptions { seen_as: None, ..options.clone() })),
            }
        }
        let mut above = Above::default();
        let mut paths = Vec::new();
        for (path, options) in kept {
            match above.add(&path).and_then(|()| Walk::new(&path, options)) {
                Ok(source) => paths.push(HostPath { counts: source.counts(), path, source }),
                Err(error) => failed.push((path, left_out(error)?)),
            }
        }
        if paths.is_empty() {
            // A source that is not there is no empty one.
            return Err(failed.into_iter().next().map_or(SourceError::NoPath, |(_, error)| error));
        }
        let folders_above = above.of(&paths);
        Ok(Self { paths, failed, folders_above, notes })
    }
}

fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

fn absolute(path: &Path, current_folder: &Path) -> PathBuf {
    let whole = current_folder.join(path);
    PathBuf::from(OsStr::from_bytes(&clean(whole.as_os_str().as_bytes())))
}

/// Makes sure that walking `outer` gives `inner` too: then it need not be read again. Where only a mount stands between, the walk
/// of `outer` is told to go into it.
pub(super) fn check_reached(outer: &Path, inner: &Path, options: &mut WalkOptions) -> Result<(), SourceError> {
    let lost = |reason| SourceError::Overlap { inner: inner.to_owned(), outer: outer.to_owned(), reason };
    let stat = |path: &Path| rustix::fs::lstat(path).map_err(|error| unreadable(path, error));
    let mut device = stat(outer)?.st_dev;
    let mut path = outer.to_owned();
    let Ok(between) = inner.strip_prefix(outer) else { return Ok(()) };
    for component in between.components() {
        match rustix::fs::FileType::from_raw_mode(stat(&path)?.st_mode) {
            rustix::fs::FileType::Directory => {}
            rustix::fs::FileType::Symlink => return Err(lost("a symbolic link leads there, which is saved as a link")),
            _ => return Err(SourceError::Missing { path: inner.to_owned() }),
        }
        path.push(component);
        let found = stat(&path)?;
        if options.never_read.contains(identity(&found)) {
            return Err(SourceError::NeverRead { path });
        }
        if let Some(pattern) = options.filter.as_deref().and_then(|filter| filter.excluding(path.as_os_str().as_bytes())) {
            return Err(SourceError::Excluded { path: inner.to_owned(), pattern: pattern.to_owned() });
        }
        if options.one_file_system && found.st_dev != device {
            if path != inner {
                return Err(lost("another file system stands between, which is not read"));
            }
            options.also.push(identity(&found));
        }
        device = found.st_dev;
    }
    Ok(())
}

/// Whether walking `outer` gives `inner`, which is what others take for its content, so it must be no link. Where only a mount stands
/// between, that depends on whether `inner` was asked for by its name. What is not there yet is given once it is.
pub fn reaches(outer: &Path, inner: &Path, options: &WalkOptions, by_name: bool) -> bool {
    let is_excluded = |path: &Path| options.filter.as_deref().is_some_and(|filter| filter.is_excluded(path.as_os_str().as_bytes()));
    if !inner.starts_with(outer) || is_excluded(outer) || outer.canonicalize().is_ok_and(|real| options.never_read.above(&real).is_some()) {
        return false;
    }
    let mut walked = WalkOptions { also: Vec::new(), ..options.clone() };
    match check_reached(outer, inner, &mut walked) {
        Ok(()) => (by_name || walked.also.is_empty()) && !(inner != outer && inner.is_symlink()),
        Err(SourceError::Missing { .. }) => !is_excluded(inner),
        Err(_) => false,
    }
}

/// What leaves out only the path that it is about: it is missing or cannot be read. Everything else was asked for wrongly.
fn left_out(error: SourceError) -> Result<SourceError, SourceError> {
    if matches!(error, SourceError::Missing { .. } | SourceError::Unreadable { .. }) { Ok(error) } else { Err(error) }
}

/// The folders above the paths, each once. Links among them are followed: in the snapshot they are folders.
struct Above {
    found: BTreeMap<Vec<u8>, Metadata>,
    owners: Owners,
    xattrs: XattrReader,
}

impl Default for Above {
    fn default() -> Self {
        Self { found: BTreeMap::new(), owners: Owners::of_this_machine(), xattrs: XattrReader::default() }
    }
}

impl Above {
    /// Looks at the folders above `path`.
    fn add(&mut self, path: &Path) -> Result<(), SourceError> {
        for folder in folders_above(path) {
            let key = folder.as_os_str().as_bytes().to_vec();
            if self.found.contains_key(&key) {
                break;
            }
            let stat = rustix::fs::stat(folder).map_err(|error| unreadable(folder, error))?;
            let read = |source| SourceError::Unreadable { path: folder.to_owned(), source };
            let mut metadata = from_stat(&stat, &self.owners, || Ok(Vec::new())).map_err(read)?;
            if !metadata.is_dir() {
                return Err(SourceError::Missing { path: path.to_owned() });
            }
            // A folder that we may pass but not read keeps what `stat` says of it.
            if let Ok(handle) =
                rustix::fs::open(folder, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
            {
                metadata.xattrs = self.xattrs.read(XattrsOf::Handle(rustix::fd::AsFd::as_fd(&handle)), |_| {});
            }
            self.found.insert(key, metadata);
        }
        Ok(())
    }

    /// Those above the paths that are read, sorted.
    fn of(mut self, paths: &[HostPath]) -> Vec<(Vec<u8>, Metadata)> {
        let needed: BTreeSet<&[u8]> =
            paths.iter().flat_map(|path| folders_above(&path.path)).map(|folder| folder.as_os_str().as_bytes()).collect();
        self.found.retain(|folder, _| needed.contains(folder.as_slice()));
        self.found.into_iter().collect()
    }
}

fn folders_above(path: &Path) -> impl Iterator<Item = &Path> {
    path.ancestors().skip(1).filter(|folder| *folder != Path::new("/"))
}

fn unreadable(path: &Path, error: rustix::io::Errno) -> SourceError {
    match error {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => SourceError::Missing { path: path.to_owned() },
        error => SourceError::Unreadable { path: path.to_owned(), source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::model::entry::{Source, Step};

    fn entries(source: &mut Walk) -> Vec<String> {
        let mut paths = Vec::new();
        loop {
            match source.next_step().unwrap() {
                Step::Entry(entry) => paths.push(String::from_utf8(entry.path).unwrap()),
                Step::Problem(problem) => panic!("{problem:?}"),
                Step::End => return paths,
            }
        }
    }

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for file in ["a/b/c/deep", "a/top", "ab/other", "single"] {
            std::fs::create_dir_all(tree.path().join(file).parent().unwrap()).unwrap();
            std::fs::write(tree.path().join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("a/b", tree.path().join("link")).unwrap();
        tree
    }

    #[test]
    fn nested_and_repeated_paths_are_read_once() {
        let tree = tree();
        let paths = ["a/b/c", "ab", "a/", "./a/../a", "single", "link"].map(PathBuf::from);
        let mut plan = HostPaths::open(&paths, tree.path(), &WalkOptions::default()).unwrap();
        let kept: Vec<_> = plan.paths.iter().map(|path| path.path.strip_prefix(tree.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(kept, ["a", "ab", "link", "single"]);
        assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
        assert_eq!(entries(&mut plan.paths[0].source), ["", "b", "b/c", "b/c/deep", "top"]);
        assert_eq!(entries(&mut plan.paths[2].source), [""]);
        assert!(plan.paths[0].counts.is_complete());
        let above: Vec<_> = plan.folders_above.iter().map(|(path, _)| path.as_slice()).collect();
        assert_eq!(*above.last().unwrap(), tree.path().as_os_str().as_bytes());
        assert!(plan.folders_above.iter().all(|(_, metadata)| metadata.is_dir() && metadata.inode != 0));
    }

    #[test]
    fn what_a_walk_gives_is_known_before() {
        let tree = tree();
        let path = |end: &str| tree.path().join(end);
        let mut filter = super::super::filter::Filter::new();
        filter.exclude(b"c", super::super::filter::Case::Sensitive).unwrap();
        let never = super::super::NeverRead::of([path("ab")]).unwrap();
        let options = WalkOptions { filter: Some(Arc::new(filter)), never_read: Arc::new(never), ..WalkOptions::default() };
        for (outer, inner, expected) in [
            ("a", "a/b", true),
            ("a", "a", true),
            ("a", "a/b/c", false),
            ("a", "a/b/c/deep", false),
            ("a/b/c", "a/b/c", false),
            ("a", "a/new/one", true),
            ("a", "a/new/c", false),
            ("a", "single", false),
            ("ab", "ab/other", false),
            (".", "./ab/other", false),
            (".", "./link", false),
            ("link", "link", true),
            (".", "./link/top", false),
        ] {
            assert_eq!(reaches(&path(outer), &path(inner), &options, false), expected, "{inner} in {outer}");
        }
        // On this machine it is another file system.
        let options = WalkOptions { one_file_system: true, ..WalkOptions::default() };
        let reached = |inner: &str, by_name| reaches(Path::new("/"), Path::new(inner), &options, by_name);
        assert!(!reached("/proc", false) && reached("/proc", true) && !reached("/proc/self/status", true));
    }

    #[test]
    fn a_missing_path_costs_no_other() {
        let tree = tree();
        let paths = ["single", "gone/below/deep", "a", "a/missing", "single/below", "nowhere"].map(PathBuf::from);
        let plan = HostPaths::open(&paths, tree.path(), &WalkOptions::default()).unwrap();
        let short = |path: &Path| path.strip_prefix(tree.path()).unwrap().to_str().unwrap().to_owned();
        assert_eq!(plan.paths.iter().map(|path| short(&path.path)).collect::<Vec<_>>(), ["a", "single"]);
        let mut failed: Vec<_> = plan.failed.iter().map(|(path, _)| short(path)).collect();
        failed.sort();
        assert_eq!(failed, ["a/missing", "gone/below/deep", "nowhere", "single/below"]);
        assert!(plan.failed.iter().all(|(_, error)| matches!(error, SourceError::Missing { .. })), "{:?}", plan.failed);
        assert_eq!(plan.folders_above.last().unwrap().0, tree.path().as_os_str().as_bytes(), "nothing of what is not read");
    }

    #[test]
    fn a_path_that_would_be_lost_is_an_error() {
        let tree = tree();
        let open = |paths: &[&str], options: &WalkOptions| {
            HostPaths::open(&paths.iter().map(PathBuf::from).collect::<Vec<_>>(), tree.path(), options).map(|_| ())
        };
        let plain = WalkOptions::default();
        assert!(matches!(open(&[], &plain), Err(SourceError::NoPath)));
        assert!(matches!(open(&["missing", "single/below"], &plain), Err(SourceError::Missing { .. })));
        assert!(matches!(open(&["single/below"], &plain), Err(SourceError::Missing { .. })));
        assert!(matches!(open(&[".", "link/c"], &plain), Err(SourceError::Overlap { .. })));
        let mut filter = super::super::filter::Filter::new();
        filter.exclude(b"b", super::super::filter::Case::Sensitive).unwrap();
        let filtered = WalkOptions { filter: Some(Arc::new(filter)), ..WalkOptions::default() };
        assert!(matches!(open(&["a/b"], &filtered), Err(SourceError::Excluded { .. })));
        assert!(matches!(open(&["a", "a/b/c"], &filtered), Err(SourceError::Excluded { .. })));
        assert!(open(&["a"], &filtered).is_ok());
        let never = super::super::NeverRead::of([tree.path().join("link")]).unwrap();
        let never = WalkOptions { never_read: Arc::new(never), ..WalkOptions::default() };
        assert!(matches!(open(&["a/b"], &never), Err(SourceError::NeverRead { .. })), "known by identity, not by name");
    }
}
