//! Whether the folders of a repository are there: an empty list of a folder that is gone would mean that nothing is needed any
//! more, and a prune would remove everything.
//!
//! What is in the files is not looked at.

use super::{Open, folder, storage};
use crate::repository::backend::FileKind;
use crate::repository::contract::RepositoryError;

/// The kinds of files without which a repository is new, each with the name of its folder.
const FOLDERS: [(FileKind, &str); 3] = [(FileKind::Snapshot, "snapshots"), (FileKind::Index, "index"), (FileKind::Pack, "data")];

impl Open {
    /// Makes sure that the folder of these files is there. Of a repository that is new it need not be: programs that copy
    /// repositories leave out what is empty.
    ///
    /// # Errors
    /// [`RepositoryError::FolderMissing`]; [`RepositoryError::Storage`] if it cannot be found out.
    pub(in crate::repository::restic) fn require_folder(&self, kind: FileKind) -> Result<(), RepositoryError> {
        let backend = self.backend();
        if backend.has_folder(kind).map_err(|source| storage("look at", folder(kind), source))? {
            return Ok(());
        }
        for (other, _) in FOLDERS.iter().filter(|(other, _)| *other != kind) {
            if !self.list_sizes(*other)?.is_empty() {
                let name = FOLDERS.iter().find(|(own, _)| *own == kind).map_or("", |(_, name)| name);
                return Err(RepositoryError::FolderMissing { location: self.location(), folder: name });
            }
        }
        Ok(())
    }

    /// Makes the folders of a new repository that was copied without them, before anything is in one of them: a first backup that is
    /// killed must not look like a loss.
    ///
    /// # Errors
    /// As for [`Self::require_folder`], or they cannot be made.
    pub(in crate::repository::restic) fn complete_folders(&self) -> Result<(), RepositoryError> {
        for (kind, _) in FOLDERS {
            if !self.backend().has_folder(kind).map_err(|source| storage("look at", folder(kind), source))? {
                self.require_folder(kind)?;
                return self.backend().create().map_err(|source| storage("make", folder(kind), source));
            }
        }
        Ok(())
    }
}
