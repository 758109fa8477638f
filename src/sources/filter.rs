//! Which paths are left out of a backup: exclude patterns, files of patterns, and folders that carry a tag file.
//!
//! The rules are restic's, so that its users can bring their exclude files. Walking the folders is `walk`'s.
//!
//! A pattern is a sequence of components. One that begins with `/` must match from the root on, any other may match
//! anywhere in the path; either way what is in a matched folder is matched too. Within a component `*` stands for any
//! bytes, `?` for one character, `[a-z]` and `[^a-z]` for one of a class, and `\` takes the next character as it is. A
//! component `**` stands for any number of components. A pattern that begins with `!` takes back what those before it excluded,
//! but cannot reach into a folder that is itself excluded, because that one is not read.

use std::io;
use std::path::{Path, PathBuf};

mod text;

use crate::model::pattern::{Pattern, lower_case, tag_file};
use crate::model::text::printable;

/// A tag file by the name and signature of <https://bford.info/cachedir/>: programs put it into folders that hold only
/// what can be made again.
pub const CACHE_TAG: &str = "CACHEDIR.TAG:Signature: 8a477f597d28d172789f06886806bc55";

/// Whether the case of letters counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Case {
    /// `A` is not `a`.
    #[default]
    Sensitive,
    /// `A` is `a`.
    Insensitive,
}

/// A file whose presence excludes everything else in its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: Vec<u8>,
    /// What it must begin with; empty when its presence is enough.
    pub header: Vec<u8>,
}

/// Rules for leaving paths out.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    sensitive: Patterns,
    insensitive: Patterns,
    tags: Vec<Tag>,
}

/// Patterns that are tried in order.
#[derive(Debug, Clone, Default)]
struct Patterns {
    list: Vec<Pattern>,
    any_negated: bool,
}

impl Patterns {
    /// The pattern that decided that an absolute path is excluded.
    fn excluding<'a>(&'a self, path: &[u8]) -> Option<&'a Pattern> {
        if self.list.is_empty() {
            return None;
        }
        let mut components = Vec::with_capacity(16);
        components.extend(path.split(|byte| *byte == b'/').filter(|component| !component.is_empty()));
        let mut excluding = None;
        for pattern in &self.list {
            // A pattern that could not change anything need not be looked at.
            if excluding.is_some() != pattern.is_negated() || !pattern.matches(&components) {
                continue;
            }
            excluding = (!pattern.is_negated()).then_some(pattern);
            if excluding.is_some() && !self.any_negated {
                break;
            }
        }
        excluding
    }
}

impl Filter {
    /// A filter that excludes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one pattern behind those that are there. An empty one says nothing.
    ///
    /// # Errors
    /// The pattern is malformed.
    pub fn exclude(&mut self, pattern: &[u8], case: Case) -> Result<(), FilterError> {
        self.add(pattern, case, None)
    }

    /// Adds the patterns of a file, one a line. Blank lines and lines that begin with `#` say nothing, white space around a
    /// pattern is not part of it, `$NAME` and `${NAME}` are replaced by what `lookup` gives, and `$$` is a dollar sign.
    ///
    /// # Errors
    /// The file cannot be read, a pattern is malformed, or a variable is not set: restic would take it as empty, which makes
    /// `$CACHE/*` exclude far more than was meant.
    pub fn exclude_file(&mut self, path: &Path, case: Case, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(), FilterError> {
        let bytes = std::fs::read(path).map_err(|source| FilterError::Unreadable { path: path.to_owned(), source })?;
        let bytes = text::to_utf8(bytes);
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            let place = Place { file: path.to_owned(), line: index + 1 };
            let pattern = text::expand(line, lookup).map_err(|reason| FilterError::Variable {
                pattern: printable(line),
                place: place.clone(),
                reason,
            })?;
            self.add(&pattern, case, Some(place))?;
        }
        Ok(())
    }

    /// Adds a tag file, `NAME` or `NAME:HEADER`: a folder that has such a file (which begins with the header) is kept,
    /// and so is the tag file, but nothing else in it.
    ///
    /// # Errors
    /// The name is empty, or could never be a file's name.
    pub fn exclude_if_present(&mut self, tag: &[u8]) -> Result<(), FilterError> {
        let (name, header) = tag_file(tag).ok_or_else(|| FilterError::TagName { tag: printable(tag) })?;
        self.tags.push(Tag { name: name.to_vec(), header: header.to_vec() });
        Ok(())
    }

    /// The tag files.
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// Whether no rule was added.
    pub fn is_empty(&self) -> bool {
        self.sensitive.list.is_empty() && self.insensitive.list.is_empty() && self.tags.is_empty()
    }

    /// Whether an absolute path is excluded by a pattern (not: by a tag file).
    pub fn is_excluded(&self, path: &[u8]) -> bool {
        self.excluding(path).is_some()
    }

    /// The pattern that excludes an absolute path, as it was written.
    pub fn excluding(&self, path: &[u8]) -> Option<&str> {
        let excluding = self
            .sensitive
            .excluding(path)
            .or_else(|| if self.insensitive.list.is_empty() { None } else { self.insensitive.excluding(&lower_case(path)) });
        excluding.map(Pattern::original)
    }

    fn add(&mut self, pattern: &[u8], case: Case, place: Option<Place>) -> Result<(), FilterError> {
        if pattern.is_empty() {
            return Ok(());
        }
        let original = printable(pattern);
        let parsed = match case {
            Case::Sensitive => Pattern::parse(pattern, original.clone()),
            Case::Insensitive => Pattern::parse(&lower_case(pattern), original.clone()),
        };
        let parsed = parsed.map_err(|reason| match place {
            None => FilterError::Pattern { pattern: original.clone(), reason },
            Some(place) => FilterError::PatternInFile { pattern: original.clone(), place, reason },
        })?;
        let patterns = if case == Case::Sensitive { &mut self.sensitive } else { &mut self.insensitive };
        patterns.any_negated |= parsed.is_negated();
        patterns.list.push(parsed);
        Ok(())
    }
}

/// A line of a file of patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, line {}", self.file.display(), self.line)
    }
}

/// What is wrong with an exclude rule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// A pattern from the command line or the configuration is malformed.
    #[error("the exclude pattern `{pattern}` is malformed: {reason}")]
    Pattern {
        /// The pattern, made printable.
        pattern: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A pattern in a file is malformed.
    #[error("{place}: the exclude pattern `{pattern}` is malformed: {reason}")]
    PatternInFile {
        /// The pattern, made printable.
        pattern: String,
        /// Where it stands.
        place: Place,
        /// What is wrong.
        reason: &'static str,
    },
    /// A variable in a pattern cannot be replaced.
    #[error("{place}: the exclude pattern `{pattern}` cannot be expanded: {reason}")]
    Variable {
        /// The pattern, made printable.
        pattern: String,
        /// Where it stands.
        place: Place,
        /// What is wrong.
        reason: String,
    },
    /// A file of patterns cannot be read.
    #[error("cannot read the exclude patterns in {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A tag file's name is no name of a file.
    #[error("`{tag}` does not name a tag file: `NAME` or `NAME:HEADER` is needed")]
    TagName {
        /// The rule, made printable.
        tag: String,
    },
}

impl FilterError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
