//! Putting right what can be put right: an index that agrees with the packs, and snapshots without what is lost.
//!
//! Data that is gone stays gone: nothing here makes it up. What is written comes before what is removed, so that a repair may
//! be ended at any call and be run again.

mod headers;
pub mod index;
pub mod snapshots;

use std::io;

use crate::repository::contract::RepositoryError;

/// Sentences and problems that are kept.
const KEPT: usize = 1000;

/// Reads again what seems to be damaged: of what is lost only by a bad connection or a bad moment, nothing may be given up.
fn confirmed<T>(mut read: impl FnMut() -> Result<T, RepositoryError>) -> Result<T, RepositoryError> {
    match read() {
        Err(error) if is_damage(&error) => read(),
        result => result,
    }
}

/// Whether a file is damaged, and not only out of reach.
fn is_damage(error: &RepositoryError) -> bool {
    match error {
        RepositoryError::Damaged { .. } => true,
        RepositoryError::Storage { source, .. } => is_lost(source),
        _ => false,
    }
}

/// Whether what was to be read is not there, or the disk cannot give it any more.
fn is_lost(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(EIO)
}

#[cfg(test)]
mod tests;
