//! Secrets in memory: never printed, wiped when dropped; and how they are read from files, programs and the environment.

use std::io;
use std::path::Path;

use base64::Engine as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::files;
use super::process::{ProcessError, Run};

/// No password is longer; what is longer is the wrong file.
const LIMIT: u64 = 64 * 1024;

/// A value that neither `Debug` nor any error shows and that is overwritten when it is dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value into custody.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// Gives the value itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> std::fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Reads a secret from a file. As in restic, blanks and newlines around it do not belong to it.
///
/// # Errors
/// The file cannot be read or is no short text; nothing of its content is in the error.
pub fn from_file(path: &Path) -> io::Result<Secret<String>> {
    let text = Zeroizing::new(files::read_text(path, LIMIT)?);
    Ok(trimmed(&text))
}

/// Reads a secret from what a program writes, trimmed like that of a file.
///
/// # Errors
/// The program fails, or what it writes is not UTF-8 (`None`).
pub fn from_command(line: &str) -> Result<Option<Secret<String>>, ProcessError> {
    let output = Run::command_line(line)?.output_limit(LIMIT as usize).output()?;
    Ok(std::str::from_utf8(&output).ok().map(trimmed))
}

/// Reads a secret from the environment, as it is. `None` if there is no such variable, or it is not UTF-8.
pub fn from_environment(name: &str) -> Option<Secret<String>> {
    std::env::var(name).ok().map(Secret::new)
}

/// Makes up a password of 256 random bits, as text.
///
/// # Errors
/// The machine gives no random bytes.
pub fn generate() -> io::Result<Secret<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(io::Error::other)?;
    Ok(Secret::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*bytes)))
}

fn trimmed(text: &str) -> Secret<String> {
    // Editors of another system put a byte order mark at the start.
    Secret::new(text.trim_start_matches('\u{feff}').trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn newlines_around_a_secret_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "\u{feff}a b\r\n").unwrap();
        assert_eq!(from_file(&path).unwrap().expose(), "a b");
        assert_eq!(from_command("printf ' c d\n'").unwrap().unwrap().expose(), "c d");
        let (one, two) = (generate().unwrap(), generate().unwrap());
        assert!(one.expose().len() >= 43 && one.expose() != two.expose());
        assert!(!format!("{:?}", from_file(&path).unwrap()).contains("a b"));
    }
}
