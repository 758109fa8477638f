//! Compose files and `.env`, found by the labels that compose puts on containers.
//!
//! Labels come with images too, so nothing that they name is trusted: only regular files of a moderate size are read, and
//! nothing is waited for without end. Files that compose files name in turn (`env_file`, `configs`, `secrets`) are read as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::document::Document;
use super::tar::TarSource;
use super::volume::chain;
use crate::config::compose_file::{self, NamedFile};
use crate::docker::archive::archive_get;
use crate::docker::discover::links::Links;
use crate::docker::helper::{Helper, MOUNT, Owner};
use crate::docker::mountpoint::{same_path, same_root};
use crate::docker::{DockerError, Engine};
use crate::model::application::{Application, Compose, ItemKind, segment};
use crate::model::entry::{Content, Source, Step};
use crate::model::outcome::ReadMethod;
use crate::model::text::printable;

/// Largest file that is taken. Compose files are kilobytes.
const SIZE_LIMIT: u64 = 16 << 20;

/// The compose files of an application.
#[derive(Debug, Default)]
pub struct Found {
    /// What could be read.
    pub files: Vec<Document>,
    /// What could not be had, one sentence each.
    pub warnings: Vec<String>,
    /// Files that only a helper could read, where none is made.
    pub not_tried: Vec<String>,
}

/// Reads the compose files of `application`; nothing is found for what is no project. Their paths are the Engine's: what this process
/// does not see there comes through a helper of `owner`. Without one such files are only named.
pub async fn files(engine: &Engine, application: &Application, owner: Option<&Owner>) -> Found {
    let compose = application.compose.as_ref().filter(|compose| !compose.config_files.is_empty());
    match compose {
        Some(compose) => read_all(compose, &application.compose_path(), &Way::Engine { engine, owner }).await,
        None => Found::default(),
    }
}

/// How files are read.
enum Way<'a> {
    /// As the Engine sees them.
    Engine { engine: &'a Engine, owner: Option<&'a Owner> },
    /// As this process sees them.
    #[cfg(test)]
    Here,
}

/// Why a file is not read.
enum NotRead {
    /// There is none.
    Missing,
    /// Only a helper could.
    NeedsHelper,
    /// The reason, for people.
    Because(String),
}

impl Way<'_> {
    /// Whether the file system of a path does not answer: whoever touches it waits, it may be for ever.
    async fn is_silent(&self, path: &Path) -> bool {
        match (self, path.to_str()) {
            (Self::Engine { engine, .. }, Some(path)) => !Links::silent(engine, BTreeSet::from([path.to_owned()])).await.is_empty(),
            _ => false,
        }
    }

    async fn read(&self, path: &Path) -> Result<(Vec<u8>, ReadMethod), NotRead> {
        let (engine, owner) = match self {
            Self::Engine { engine, owner } => (engine, owner),
            #[cfg(test)]
            Self::Here => return here(path).await,
        };
        match same_path(engine, path).await {
            Ok(place) => here(&place.path).await,
            // What is not there, or may not be read, is no other one over there.
            Err(_) if same_root(engine).await => here(path).await,
            Err(_) => through_helper(engine, path, owner.ok_or(NotRead::NeedsHelper)?).await,
        }
    }
}

async fn here(path: &Path) -> Result<(Vec<u8>, ReadMethod), NotRead> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read(&path)).await;
    Ok((read.unwrap_or_else(|error| Err(NotRead::Because(error.to_string())))?, ReadMethod::Direct))
}

async fn through_helper(engine: &Engine, path: &Path, owner: &Owner) -> Result<(Vec<u8>, ReadMethod), NotRead> {
    let because = |error: &dyn std::error::Error| NotRead::Because(chain(error));
    let Some(text) = path.to_str() else { return Err(NotRead::Because("its name is not UTF-8".to_owned())) };
    let helper = match Helper::for_path(engine, text, false, owner).await {
        Ok(helper) => helper,
        Err(DockerError::Api { message, .. }) if message.contains("bind source path does not exist") => return Err(NotRead::Missing),
        Err(error) => return Err(because(&error)),
    };
    let taken = match archive_get(engine, helper.id(), MOUNT).await {
        Ok(stream) => {
            let taken = tokio::task::spawn_blocking(move || only_file(TarSource::new(stream, MOUNT.trim_start_matches('/').as_bytes())));
            taken.await.unwrap_or_else(|error| Err(NotRead::Because(error.to_string())))
        }
        Err(error) => Err(because(&error)),
    };
    // One that stays is swept by the next run.
    let _ = helper.remove().await;
    taken.map(|bytes| (bytes, ReadMethod::Helper))
}

/// The file that a stream is of. What is a folder, or too large, is not read on.
fn only_file(mut source: impl Source) -> Result<Vec<u8>, NotRead> {
    let lost = |error: std::io::Error| NotRead::Because(error.to_string());
    let Step::Entry(entry) = source.next_step().map_err(lost)? else { return Err(NotRead::Because("it is not in the stream".to_owned())) };
    if !entry.metadata.is_file() {
        return Err(NotRead::Because(NOT_REGULAR.to_owned()));
    }
    if entry.metadata.size > SIZE_LIMIT {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    match entry.content {
        Content::Stream(mut body) => _ = body.read_to_end(&mut bytes).map_err(lost)?,
        Content::Bytes(whole) => bytes = whole,
        _ => {}
    }
    match source.next_step().map_err(lost)? {
        Step::End => Ok(bytes),
        _ => Err(NotRead::Because("it is more than one file".to_owned())),
    }
}

/// Files on their way into a snapshot.
struct Reading<'a> {
    way: &'a Way<'a>,
    root: &'a str,
    /// The project's folder.
    folder: Option<&'a Path>,
    /// Folders whose file system does not answer: that is found out once.
    silent: Vec<PathBuf>,
    found: Found,
}

impl Reading<'_> {
    /// Takes one file, unless it is there already; a sentence is made by `lost` if it has to be there and is not.
    async fn take(&mut self, path: &Path, required: bool, lost: impl Fn(&str) -> String) {
        let place = format!("{}/{}", self.root, place(path, self.folder));
        if self.found.files.iter().any(|known| known.path == place) {
            return;
        }
        let above = path.parent().unwrap_or(path);
        if self.silent.iter().any(|silent| above.starts_with(silent)) || self.way.is_silent(path).await {
            self.silent.push(above.to_owned());
            self.found.warnings.push(lost(SILENT));
            return;
        }
        match self.way.read(path).await {
            Ok((bytes, method)) => self.found.files.push(Document {
                kind: ItemKind::Compose,
                name: path.display().to_string(),
                path: place,
                bytes,
                method,
                warnings: Vec::new(),
                notes: Vec::new(),
            }),
            Err(NotRead::Missing) if !required => {}
            Err(NotRead::Missing) => self.found.warnings.push(lost(MISSING)),
            Err(NotRead::NeedsHelper) => self.found.not_tried.push(path.display().to_string()),
            Err(NotRead::Because(reason)) => self.found.warnings.push(lost(&reason)),
        }
    }
}

async fn read_all(compose: &Compose, root: &str, way: &Way<'_>) -> Found {
    let folder = compose.working_dir.as_deref().map(Path::new).filter(|folder| folder.is_absolute());
    let mut reading = Reading { way, root, folder, silent: Vec::new(), found: Found::default() };
    let named = compose.config_files.iter().chain(&compose.environment_files).map(|file| (file.as_str(), true));
    // `.env` is read by compose without being named, and need not exist.
    for (file, required) in named.chain([(".env", false)]) {
        let path = match (Path::new(file).is_absolute(), folder) {
            (true, _) => PathBuf::from(file),
            (false, Some(folder)) => folder.join(file),
            (false, None) => continue,
        };
        let shown = printable(path.as_os_str().as_encoded_bytes());
        let lost = |reason: &str| format!("project {}: compose file {shown} is not saved: {reason}", compose.project);
        reading.take(&path, required, lost).await;
    }
    read_named(compose, &mut reading).await;
    reading.found
}

/// Reads what the compose files among those that were read name.
async fn read_named(compose: &Compose, reading: &mut Reading<'_>) {
    let (documents, folder) = (&reading.found.files, reading.folder);
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
                reading.found.warnings.push(format!("project {project}: what the compose file {shown} names is not looked for: {reason}"));
                continue;
            }
        };
        for NamedFile { what, path: written, required } in named {
            let lost = |reason: &str| format!("project {project}: the {what} {} is not saved: {reason}", printable(written.as_bytes()));
            let Some(file) = compose_file::expand(&written, &variables) else {
                reading.found.warnings.push(lost("its path has a variable that no .env file sets"));
                continue;
            };
            let path = match (Path::new(&file).is_absolute(), folder) {
                (true, _) => PathBuf::from(&file),
                (false, Some(folder)) => folder.join(&file),
                (false, None) => continue,
            };
            let path = lexical(&path);
            reading.take(&path, required, lost).await;
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
const SILENT: &str = "its file system does not answer; if it is on the network, its server may be gone";
const NOT_REGULAR: &str = "it is not a regular file";

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
fn read(path: &Path) -> Result<Vec<u8>, NotRead> {
    let because = |error: std::io::Error| NotRead::Because(error.to_string());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(handle) => File::from(handle),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Err(NotRead::Missing),
        Err(error) => return Err(because(error.into())),
    };
    let metadata = file.metadata().map_err(because)?;
    if !metadata.is_file() {
        return Err(NotRead::Because(NOT_REGULAR.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes).map_err(because)?;
    if bytes.len() as u64 > SIZE_LIMIT {
        return Err(too_large());
    }
    Ok(bytes)
}

fn too_large() -> NotRead {
    NotRead::Because(format!("it is larger than {}", crate::model::size::ByteSize(SIZE_LIMIT)))
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

    #[tokio::test]
    async fn what_is_named_is_read_and_what_is_missing_is_named() {
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
        let Found { files: documents, warnings, .. } = read_all(&compose, "/docker/shop/compose", &Way::Here).await;
        let found: Vec<_> = documents.iter().map(|one| (one.path.as_str(), one.bytes.as_slice())).collect();
        assert_eq!(found, [("/docker/shop/compose/compose.yaml", &b"services: {}"[..]), ("/docker/shop/compose/.env", b"A=1")]);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].contains("gone.yaml") && warnings[0].ends_with(MISSING), "{}", warnings[0]);
        assert!(warnings[1].contains("pipe") && warnings[2].contains("/dev/zero"), "{warnings:?}");
    }

    #[tokio::test]
    async fn what_compose_files_name_is_read_too() {
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
        let Found { files: documents, warnings, .. } = read_all(&compose, "/c", &Way::Here).await;
        let places: Vec<&str> = documents.iter().map(|one| one.path.as_str()).collect();
        let outside = format!("/c/absolute{}", path("outside.conf").display());
        assert_eq!(places, ["/c/compose.yaml", "/c/.env", "/c/env/web.env", "/c/env/db.env", &outside]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("secret ./missing.txt") && warnings[0].ends_with(MISSING), "{}", warnings[0]);
        assert!(warnings[1].contains("$NOWHERE/x") && warnings[1].contains("variable"), "{}", warnings[1]);
    }
}
