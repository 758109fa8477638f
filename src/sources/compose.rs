//! Compose files and `.env`, found by the labels that compose puts on containers.
//!
//! Labels come with images too, so nothing that they name is trusted: only regular files of a moderate size are read, and
//! nothing is ever waited for. Files that compose files name in turn (`env_file`, `configs`, `secrets`) are read as well.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::document::Document;
use crate::config::compose_file::{self, NamedFile};
use crate::docker::Engine;
use crate::model::application::{Application, Compose, ItemKind, segment};
use crate::model::outcome::ReadMethod;
use crate::model::text::printable;

/// Largest file that is taken. Compose files are kilobytes.
const SIZE_LIMIT: u64 = 16 << 20;

/// Reads the compose files of `application`; the second part names, one sentence each, those that could not be had. Both are
/// empty for what is no project.
pub async fn files(engine: &Engine, application: &Application) -> (Vec<Document>, Vec<String>) {
    let Some(compose) = application.compose.clone().filter(|compose| !compose.config_files.is_empty()) else {
        return (Vec::new(), Vec::new());
    };
    if !engine.is_local() {
        let warning = format!("project {}: its compose files are not saved, the Docker Engine is not on this machine", compose.project);
        return (Vec::new(), vec![warning]);
    }
    let root = application.compose_path();
    let project = compose.project.clone();
    tokio::task::spawn_blocking(move || read_all(&compose, &root))
        .await
        .unwrap_or_else(|error| (Vec::new(), vec![format!("project {project}: its compose files could not be read: {error}")]))
}

fn read_all(compose: &Compose, root: &str) -> (Vec<Document>, Vec<String>) {
    let folder = compose.working_dir.as_deref().map(Path::new).filter(|folder| folder.is_absolute());
    let mut documents = Vec::new();
    let mut warnings = Vec::new();
    let named = compose.config_files.iter().chain(&compose.environment_files).map(|file| (file.as_str(), true));
    // `.env` is read by compose without being named, and need not exist.
    for (file, required) in named.chain([(".env", false)]) {
        let path = match (Path::new(file).is_absolute(), folder) {
            (true, _) => PathBuf::from(file),
            (false, Some(folder)) => folder.join(file),
            (false, None) => continue,
        };
        let place = format!("{root}/{}", place(&path, folder));
        if documents.iter().any(|known: &Document| known.path == place) {
            continue;
        }
        match read(&path) {
            Ok(bytes) => documents.push(Document {
                kind: ItemKind::Compose,
                name: path.display().to_string(),
                path: place,
                bytes,
                method: ReadMethod::Direct,
                warnings: Vec::new(),
            }),
            Err(reason) if required || reason != MISSING => {
                let path = printable(path.as_os_str().as_encoded_bytes());
                warnings.push(format!("project {}: compose file {path} is not saved: {reason}", compose.project));
            }
            Err(_) => {}
        }
    }
    read_named(compose, root, folder, &mut documents, &mut warnings);
    (documents, warnings)
}

/// Reads what the compose files among `documents` name.
fn read_named(compose: &Compose, root: &str, folder: Option<&Path>, documents: &mut Vec<Document>, warnings: &mut Vec<String>) {
    let project = &compose.project;
    let is_compose =
        |document: &&Document| compose.config_files.iter().any(|file| Path::new(&document.name).ends_with(file.trim_start_matches("./")));
    let texts: Vec<(String, String)> = documents
        .iter()
        .filter(is_compose)
        .map(|document| (document.name.clone(), String::from_utf8_lossy(&document.bytes).into_owned()))
        .collect();
    let mut variables = BTreeMap::new();
    for document in documents.iter().filter(|document| !texts.iter().any(|(name, _)| *name == document.name)) {
        variables.extend(compose_file::variables(&String::from_utf8_lossy(&document.bytes)));
    }
    for (name, text) in texts {
        let shown = printable(name.as_bytes());
        let named = match compose_file::named(&text) {
            Ok(named) => named,
            Err(reason) => {
                warnings.push(format!("project {project}: what the compose file {shown} names is not looked for: {reason}"));
                continue;
            }
        };
        for NamedFile { what, path: written, required } in named {
            let lost = |reason: &str| format!("project {project}: the {what} {} is not saved: {reason}", printable(written.as_bytes()));
            let Some(file) = compose_file::expand(&written, &variables) else {
                warnings.push(lost("its path has a variable that no .env file sets"));
                continue;
            };
            let path = match (Path::new(&file).is_absolute(), folder) {
                (true, _) => PathBuf::from(&file),
                (false, Some(folder)) => folder.join(&file),
                (false, None) => continue,
            };
            let path = lexical(&path);
            let place = format!("{root}/{}", place(&path, folder));
            if documents.iter().any(|known| known.path == place) {
                continue;
            }
            match read(&path) {
                Ok(bytes) => documents.push(Document {
                    kind: ItemKind::Compose,
                    name: path.display().to_string(),
                    path: place,
                    bytes,
                    method: ReadMethod::Direct,
                    warnings: Vec::new(),
                }),
                Err(reason) if required || reason != MISSING => warnings.push(lost(&reason)),
                Err(_) => {}
            }
        }
    }
}

/// A path without `.` and `..`, as compose makes it from the text alone.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = clean.pop(),
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

const MISSING: &str = "it does not exist";

/// Where a file goes below the compose folder: its path in the project's folder, or `absolute/…` for what lies elsewhere.
fn place(path: &Path, folder: Option<&Path>) -> String {
    let (prefix, rest) = match folder.and_then(|folder| path.strip_prefix(folder).ok()) {
        Some(rest) if !rest.components().any(|part| part == Component::ParentDir) => ("", rest),
        _ => ("absolute/", path),
    };
    let parts = rest.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir | Component::Prefix(_)));
    let parts: Vec<String> = parts.map(|part| segment(&part.as_os_str().to_string_lossy()).into_owned()).collect();
    format!("{prefix}{}", parts.join("/"))
}

/// Reads a file. Opening never waits (a pipe has no writer, a terminal no carrier), and only a regular file is read.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(handle) => File::from(handle),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Err(MISSING.to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > SIZE_LIMIT {
        return Err(format!("it is larger than {}", crate::model::size::ByteSize(SIZE_LIMIT)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn files_go_below_the_folder_whatever_they_are_called() {
        let folder = Some(Path::new("/srv/shop"));
        for (path, expected) in [
            ("/srv/shop/compose.yaml", "compose.yaml"),
            ("/srv/shop/env/./a.env", "env/a.env"),
            ("/srv/other/x.yaml", "absolute/srv/other/x.yaml"),
            ("/srv/shop/../../etc/x", "absolute/srv/shop/%2E%2E/%2E%2E/etc/x"),
        ] {
            assert_eq!(place(Path::new(path), folder), expected);
        }
    }

    #[test]
    fn what_is_named_is_read_and_what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("compose.yaml"), "services: {}").unwrap();
        std::fs::write(path(".env"), "A=1").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        let compose = Compose {
            project: "shop".to_owned(),
            working_dir: Some(folder.path().display().to_string()),
            config_files: vec![path("compose.yaml"), path("gone.yaml"), path("pipe"), "/dev/zero".to_owned()],
            environment_files: vec![path(".env")],
        };
        let (documents, warnings) = read_all(&compose, "/docker/shop/compose");
        let found: Vec<_> = documents.iter().map(|one| (one.path.as_str(), one.bytes.as_slice())).collect();
        assert_eq!(found, [("/docker/shop/compose/compose.yaml", &b"services: {}"[..]), ("/docker/shop/compose/.env", b"A=1")]);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].contains("gone.yaml") && warnings[0].ends_with(MISSING), "{}", warnings[0]);
        assert!(warnings[1].contains("pipe") && warnings[2].contains("/dev/zero"), "{warnings:?}");
    }

    #[test]
    fn what_compose_files_name_is_read_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("shop/env")).unwrap();
        let text = "services:\n  web: {env_file: [./env/web.env, {path: gone.env, required: false}]}\n  db: {env_file: '${WHERE}/db.env'}\n\
            configs: {a: {file: ../outside.conf}, b: {external: true}}\nsecrets: {p: {file: ./missing.txt}, q: {file: $NOWHERE/x}}\n";
        for (file, content) in [
            ("shop/compose.yaml", text),
            ("shop/.env", "WHERE=env\n"),
            ("shop/env/web.env", "A=1"),
            ("shop/env/db.env", "B=2"),
            ("outside.conf", "c"),
        ] {
            std::fs::write(path(file), content).unwrap();
        }
        let compose = Compose {
            project: "shop".to_owned(),
            working_dir: Some(path("shop").display().to_string()),
            config_files: vec![path("shop/compose.yaml").display().to_string()],
            environment_files: Vec::new(),
        };
        let (documents, warnings) = read_all(&compose, "/c");
        let places: Vec<&str> = documents.iter().map(|one| one.path.as_str()).collect();
        let outside = format!("/c/absolute{}", path("outside.conf").display());
        assert_eq!(places, ["/c/compose.yaml", "/c/.env", "/c/env/web.env", "/c/env/db.env", &outside]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("secret ./missing.txt") && warnings[0].ends_with(MISSING), "{}", warnings[0]);
        assert!(warnings[1].contains("$NOWHERE/x") && warnings[1].contains("variable"), "{}", warnings[1]);
    }
}
