//! What of a snapshot has a place on a host: what the snapshot says was saved, and is in its tree under just that path.
//!
//! restic writes down where on the host things were, but stores what was named relative to a folder under the name that was given:
//! such a name says nothing about the host, and two of them may have become `name` and `name-1`.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::Path;

use crate::jobs::error::JobError;
use crate::jobs::select::is_below;
use crate::model::text::printable;
use crate::repository::contract::{Repository, Snapshot};

/// Names that are told of many.
const TOLD: usize = 3;

/// The entries of one snapshot, the topmost only.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// They were on the host where they are in the tree.
    known: Vec<Vec<u8>>,
    /// They are neither known nor above what is.
    unknown: Vec<Vec<u8>>,
    /// Paths that the snapshot names and that are not in its tree.
    missing: Vec<String>,
}

impl Places {
    /// Compares the tree of a snapshot with what the snapshot says of itself.
    pub(super) fn of(repository: &dyn Repository, snapshot: &Snapshot) -> Result<Self, JobError> {
        Self::among(snapshot, &mut |folder| {
            let mut entries = Vec::new();
            repository.list(&snapshot.id, folder, false, &mut |listed| {
                if listed.path != folder {
                    entries.push((listed.path, listed.metadata.is_dir()));
                }
                ControlFlow::Continue(())
            })?;
            Ok(entries)
        })
    }

    /// As [`Places::of`]; `entries` gives the paths in a folder, and whether they are folders.
    fn among(snapshot: &Snapshot, entries: &mut Entries<'_>) -> Result<Self, JobError> {
        let mut places = Self::default();
        if snapshot.paths.iter().any(|path| path == "/") {
            places.known.push(b"/".to_vec());
            return Ok(places);
        }
        let mut said: BTreeMap<&str, usize> = BTreeMap::new();
        for path in &snapshot.paths {
            *said.entry(path).or_default() += 1;
        }
        places.look(&said, b"", entries)?;
        // Names that are no text are written down with something else in place of what is none: several may look the same.
        let mut looks: BTreeMap<String, usize> = BTreeMap::new();
        for known in &places.known {
            *looks.entry(String::from_utf8_lossy(known).into_owned()).or_default() += 1;
        }
        let is_unclear = |path: &Vec<u8>| {
            let path = String::from_utf8_lossy(path);
            looks.get(&*path) > said.get(&*path)
        };
        let (unclear, known): (Vec<_>, Vec<_>) = std::mem::take(&mut places.known).into_iter().partition(is_unclear);
        let is_found = |path: &&str| Path::new(path).ancestors().filter_map(Path::to_str).any(|above| looks.contains_key(above));
        places.missing = said.keys().filter(|path| !is_found(path)).map(|path| (*path).to_owned()).collect();
        places.known = known;
        places.unknown.extend(unclear);
        if snapshot.is_ours() {
            // What bbackup makes is where it says; left over are folders above what could not be saved.
            places.unknown.clear();
        }
        Ok(places)
    }

    /// Sorts what is in a folder, and says whether anything known is in it.
    fn look(&mut self, said: &BTreeMap<&str, usize>, folder: &[u8], entries: &mut Entries<'_>) -> Result<bool, JobError> {
        let before = self.known.len();
        for (path, is_folder) in entries(if folder.is_empty() { b"/" } else { folder })? {
            let text = String::from_utf8_lossy(&path);
            if said.contains_key(&*text) {
                self.known.push(path);
                continue;
            }
            let inside = format!("{text}/");
            let is_above = is_folder
                && said
                    .range::<str, _>((Bound::Included(inside.as_str()), Bound::Unbounded))
                    .next()
                    .is_some_and(|(said, _)| said.starts_with(&inside));
            let others = self.unknown.len();
            if !is_above || !self.look(said, &path, entries)? {
                self.unknown.truncate(others);
                self.unknown.push(path);
            }
        }
        Ok(self.known.len() > before)
    }

    /// What is known.
    pub(super) fn known(&self) -> &[Vec<u8>] {
        &self.known
    }

    /// What of a path was saved as a whole: the path itself if it lies in what was, else what lies in it.
    pub(super) fn saved_in<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let inside: Vec<&[u8]> = self.known.iter().map(Vec::as_slice).filter(|known| is_below(known, path)).collect();
        let itself = inside.is_empty() && path != b"/";
        inside.into_iter().chain(itself.then_some(path))
    }

    /// What the snapshot names and has not.
    pub(super) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Whether the tree is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_empty()
    }

    /// What of a path has no place on the host, for people; none if all of it has one.
    pub(super) fn unplaced(&self, path: &[u8]) -> Option<String> {
        if self.known.iter().any(|known| is_below(path, known)) {
            return None;
        }
        let mut without: Vec<&[u8]> = self.unknown.iter().map(Vec::as_slice).filter(|unknown| is_below(unknown, path)).collect();
        if self.unknown.iter().any(|unknown| is_below(path, unknown)) {
            without = vec![path];
        }
        let names: Vec<String> = without.iter().take(TOLD).map(|path| printable(path)).collect();
        match without.len() {
            0 => None,
            count if count > TOLD => Some(format!("{} and {} more", names.join(", "), count - TOLD)),
            _ => Some(names.join(", ")),
        }
    }
}

/// Gives what is in a folder of a snapshot.
type Entries<'a> = dyn FnMut(&[u8]) -> Result<Vec<(Vec<u8>, bool)>, JobError> + 'a;

#[cfg(test)]
mod tests;
