//! What is on the way from a folder to something below it.

use std::fmt;
use std::fs::{self, FileType};
use std::io;

use crate::model::text::printable;

/// Why what is below a folder is not reached, or another thing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// A symbolic link is on the way, or there: it may lead anywhere.
    Link(String),
    /// A folder above it is not there.
    Gone(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(path) => write!(f, "{} is a symbolic link now, and what it leads to may be of others", printable(path.as_bytes())),
            Self::Gone(path) => write!(f, "the folder {} is gone", printable(path.as_bytes())),
        }
    }
}

/// What is in the way from a folder, which may be a link itself, to something below it.
pub fn on_the_way(folder: &str, below: &str) -> Option<Obstacle> {
    let mut path = folder.to_owned();
    let mut found = fs::metadata(folder).map(|found| found.file_type());
    for name in below.split('/').filter(|name| !name.is_empty()) {
        if is_no_folder(&found) {
            return Some(Obstacle::Gone(path));
        }
        path = format!("{path}/{name}");
        found = fs::symlink_metadata(&path).map(|found| found.file_type());
        if found.as_ref().is_ok_and(FileType::is_symlink) {
            return Some(Obstacle::Link(path));
        }
    }
    None
}

fn is_no_folder(found: &io::Result<FileType>) -> bool {
    match found {
        Ok(found) => !found.is_dir(),
        Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_below_a_folder_and_folders_that_are_gone_are_in_the_way() {
        let scene = tempfile::tempdir().unwrap();
        let at = |path: &str| format!("{}/{path}", scene.path().display());
        fs::create_dir_all(at("real/sub")).unwrap();
        fs::write(at("real/sub/file"), "x").unwrap();
        symlink(at("real"), at("item")).unwrap();
        symlink("/etc", at("real/link")).unwrap();
        symlink("nowhere", at("real/dangling")).unwrap();
        let found = |below: &str| on_the_way(&at("item"), below);
        for fine in ["", "/sub", "/sub/file", "/sub/new", "/new"] {
            assert_eq!(found(fine), None, "{fine}");
        }
        for link in ["link", "dangling"] {
            let expected = Some(Obstacle::Link(at(&format!("item/{link}"))));
            assert_eq!((found(&format!("/{link}")), found(&format!("/{link}/app/conf"))), (expected.clone(), expected));
        }
        assert_eq!(found("/new/a/b"), Some(Obstacle::Gone(at("item/new"))));
        assert_eq!(found("/sub/file/b"), Some(Obstacle::Gone(at("item/sub/file"))));
        assert_eq!(on_the_way(&at("none"), "/a"), Some(Obstacle::Gone(at("none"))));
        assert_eq!(on_the_way(&at("none"), ""), None);
    }
}
