//! What a search looks for: names and globs, sizes, times and kinds, made ready for matching.
//!
//! Where it looks is the repository's business.

use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;

use super::error::JobError;
use crate::model::entry::{Kind, Metadata};
use crate::model::text::printable;
use crate::repository::contract::find::Matcher;

/// A kind of entry that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundKind {
    /// Regular files.
    File,
    /// Folders.
    Folder,
    /// Symbolic links.
    Link,
}

/// What is looked for; everything that is said must be true.
#[derive(Debug, Clone, Default)]
pub struct Criteria {
    /// Names or globs, of which one must fit. One without `/` is about the name alone; one with `/` about the end of the path,
    /// and one that begins with `/` about the whole path. None means all names.
    pub patterns: Vec<String>,
    /// `A` is `a`.
    pub ignore_case: bool,
    /// Changed at or after this time.
    pub newer: Option<Timestamp>,
    /// Changed at or before this time.
    pub older: Option<Timestamp>,
    /// Files of at least so many bytes.
    pub larger: Option<u64>,
    /// Files of at most so many bytes.
    pub smaller: Option<u64>,
    /// Only of this kind.
    pub kind: Option<FoundKind>,
}

/// [`Criteria`] made ready.
#[derive(Debug)]
pub struct Search {
    criteria: Criteria,
    names: Vec<GlobMatcher>,
    paths: Vec<GlobMatcher>,
}

impl Search {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// A pattern is malformed.
    pub fn new(criteria: Criteria) -> Result<Self, JobError> {
        let (mut names, mut paths) = (Vec::new(), Vec::new());
        for pattern in &criteria.patterns {
            let bad = |message: String| JobError::request("bad_pattern", message, "Write a name, or a glob such as '*.conf'.");
            if pattern.is_empty() {
                return Err(bad("a pattern is empty".to_owned()));
            }
            let cased = if criteria.ignore_case { pattern.to_lowercase() } else { pattern.clone() };
            // A folder may be named with a slash at its end.
            let trimmed = cased.trim_end_matches('/');
            let by_path = trimmed.contains('/');
            let whole = match (by_path, trimmed.starts_with('/')) {
                (true, false) => format!("**/{trimmed}"),
                _ => trimmed.to_owned(),
            };
            let glob = GlobBuilder::new(&whole).literal_separator(true).backslash_escape(true).build();
            let glob = glob.map_err(|error| bad(format!("`{}` is no pattern: {}", printable(pattern.as_bytes()), error.kind())))?;
            (if by_path { &mut paths } else { &mut names }).push(glob.compile_matcher());
        }
        Ok(Self { criteria, names, paths })
    }

    fn fits_name(&self, path: &[u8]) -> bool {
        if self.names.is_empty() && self.paths.is_empty() {
            return true;
        }
        let folded = if self.criteria.ignore_case { std::str::from_utf8(path).ok().map(str::to_lowercase) } else { None };
        let path = folded.as_ref().map_or(path, String::as_bytes);
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        self.names.iter().any(|glob| glob.is_match(os(name))) || self.paths.iter().any(|glob| glob.is_match(os(path)))
    }
}

fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// Seconds and nanoseconds, to compare times that the calendar does not have.
fn instant(time: Timestamp) -> (i64, u32) {
    let nanos = time.subsec_nanosecond();
    if nanos < 0 { (time.as_second() - 1, (nanos + 1_000_000_000).cast_unsigned()) } else { (time.as_second(), nanos.cast_unsigned()) }
}

impl Matcher for Search {
    fn matches(&self, path: &[u8], metadata: &Metadata) -> bool {
        let criteria = &self.criteria;
        let kind = match criteria.kind {
            None => true,
            Some(FoundKind::File) => metadata.is_file(),
            Some(FoundKind::Folder) => metadata.is_dir(),
            Some(FoundKind::Link) => matches!(metadata.kind, Kind::Symlink { .. }),
        };
        let sized = criteria.larger.is_none() && criteria.smaller.is_none() || metadata.is_file();
        let time = (metadata.mtime.secs, metadata.mtime.nanos);
        kind && sized
            && criteria.larger.is_none_or(|least| metadata.size >= least)
            && criteria.smaller.is_none_or(|most| metadata.size <= most)
            && criteria.newer.is_none_or(|first| time >= instant(first))
            && criteria.older.is_none_or(|last| time <= instant(last))
            && self.fits_name(path)
    }

    fn looks_at_folders(&self) -> bool {
        !self.paths.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model::entry;

    fn search(patterns: &[&str], ignore_case: bool) -> Search {
        let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Search::new(Criteria { patterns, ignore_case, ..Criteria::default() }).unwrap()
    }

    #[test]
    fn names_and_paths_are_told_apart() {
        let file = Metadata::virtual_file(1);
        for (pattern, path, fits) in [
            ("*.conf", &b"/etc/app/x.conf"[..], true),
            ("*.conf", b"/etc/app.conf/x", false),
            ("app", b"/etc/app", true),
            ("app/", b"/etc/app", true),
            ("app/x", b"/etc/app/x", true),
            ("app/x", b"/etc/app/y/x", false),
            ("app/**/x", b"/etc/app/y/x", true),
            ("/etc/*", b"/etc/app/x", false),
            ("/etc/**", b"/etc/app/x", true),
            ("etc/app", b"/etc/app/x", false),
            ("a?c", b"/a\xffc", true),
            ("new*", b"/new\nline", true),
            ("[ab]x", b"/ax", true),
            ("\\*", b"/*", true),
            ("\\*", b"/x", false),
        ] {
            assert_eq!(search(&[pattern], false).matches(path, &file), fits, "{pattern} {}", path.escape_ascii());
        }
        assert!(search(&["\u{dc}BER*"], true).matches("/\u{fc}ber alles".as_bytes(), &file));
        assert!(!search(&["\u{dc}BER*"], false).matches("/\u{fc}ber alles".as_bytes(), &file));
        assert!(search(&[], false).matches(b"/x", &file));
        assert!(!search(&["a"], false).looks_at_folders() && search(&["a", "b/c"], false).looks_at_folders());
        for bad in ["", "[", "a{"] {
            assert!(Search::new(Criteria { patterns: vec![bad.to_owned()], ..Criteria::default() }).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_times_have_their_borders_in() {
        let mut file = Metadata::virtual_file(100);
        file.mtime = entry::Timestamp { secs: -1, nanos: 500_000_000 };
        let at = Timestamp::new(-1, 0).unwrap();
        let check = |criteria: Criteria| Search::new(criteria).unwrap().matches(b"/x", &file);
        assert!(check(Criteria { larger: Some(100), smaller: Some(100), ..Criteria::default() }));
        assert!(!check(Criteria { larger: Some(101), ..Criteria::default() }));
        assert!(!check(Criteria { smaller: Some(99), ..Criteria::default() }));
        assert!(check(Criteria { newer: Some(at), ..Criteria::default() }));
        assert!(!check(Criteria { older: Some(at), ..Criteria::default() }));
        let exact = Timestamp::from_nanosecond(-500_000_000).unwrap();
        assert!(check(Criteria { newer: Some(exact), older: Some(exact), ..Criteria::default() }));
        assert!(!check(Criteria { kind: Some(FoundKind::Folder), ..Criteria::default() }));
        let folder = Metadata::virtual_directory();
        assert!(!Search::new(Criteria { smaller: Some(9), ..Criteria::default() }).unwrap().matches(b"/x", &folder));
    }
}
