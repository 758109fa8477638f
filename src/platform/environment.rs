//! The environment of this process, for floors that may not read it themselves.

#![expect(clippy::disallowed_methods, reason = "this is the door to the environment")]

use std::io;
use std::path::PathBuf;

/// The value of a variable; none if it is not set or no text.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The current folder, from which relative paths are taken.
///
/// # Errors
/// It was removed, or may not be passed through.
pub fn current_directory() -> io::Result<PathBuf> {
    std::env::current_dir()
}
