//! The rules of the floor plan, each as a function from sources to findings.
//!
//! How sources are read is `scan`'s business.

use super::scan::{NamedPath, SourceFile};

/// One line that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// File, relative to the package.
    pub(crate) path: String,
    /// Line, from 1.
    pub(crate) line: usize,
    /// What is wrong, and what is allowed.
    pub(crate) message: String,
}

/// What each module may import besides itself. A module that is not named here has no floor.
const FLOORS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("platform", &["model"]),
    ("config", &["model", "platform"]),
    ("docker", &["model", "platform", "config"]),
    ("repository", &["model", "platform", "config"]),
    ("history", &["model", "platform", "config"]),
    ("notify", &["model", "platform", "config"]),
    ("sources", &["model", "platform", "config", "docker"]),
    ("targets", &["model", "platform", "config", "docker"]),
    ("jobs", &["model", "platform", "config", "docker", "repository", "history", "notify", "sources", "targets"]),
    ("service", &["model", "platform", "config", "docker", "repository", "history", "notify", "sources", "targets", "jobs"]),
    ("api", &["model", "platform", "config", "service"]),
    ("tui", &["model", "platform", "service"]),
    (
        "cli",
        &[
            "model",
            "platform",
            "config",
            "docker",
            "repository",
            "history",
            "notify",
            "sources",
            "targets",
            "jobs",
            "service",
            "api",
            "tui",
        ],
    ),
];

/// Longer rules for some edges: from, into, and the only modules that may be named there (empty: only what stands in the module's own file).
const DOORS: &[(&str, &str, &[&str])] =
    &[("cli", "repository", &["contract"]), ("cli", "docker", &[]), ("tui", "service", &["control", "view"])];

/// The parts of `repository/restic`, bottom up: a part imports only from earlier rows, and parts of one row never import each other.
const ENGINE: &[&[&str]] = &[
    &["id"],
    &["crypto"],
    &["chunker"],
    &["codec"],
    &["file"],
    &["pack", "key"],
    &["index", "tree"],
    &["state"],
    &["lock", "reader"],
    &["writer"],
    &[
        "archive",
        "restore",
        "check",
        "list",
        "stats",
        "prune",
        "copy",
        "diff",
        "find",
        "mount",
        "repair",
        "forget",
        "retag",
        "keyring",
        "footprint",
        "rewrite",
    ],
    &["facade"],
];

/// Libraries and the folders that they are at home in. The name is the one that sources use.
const HOMES: &[(&str, &[&str])] = &[
    ("bollard", &["docker"]),
    ("bollard_stubs", &["docker"]),
    ("hyper", &["docker"]),
    ("hyper_util", &["docker"]),
    ("http_body_util", &["docker"]),
    ("tokio_rustls", &["docker"]),
    ("rustls_native_certs", &["docker"]),
    ("rusqlite", &["history"]),
    ("ssh2", &["repository/backend"]),
    ("opendal", &["repository/backend"]),
    ("serde_yaml", &["config"]),
    ("saphyr_parser", &["config"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("indicatif", &["cli"]),
    ("rpassword", &["cli"]),
    ("directories", &["platform"]),
    ("aes", &["repository/restic"]),
    ("ctr", &["repository/restic"]),
    ("poly1305", &["repository/restic"]),
    ("scrypt", &["repository/restic"]),
    ("zstd", &["repository/restic", "targets/compressed"]),
    ("fuser", &["repository/restic/mount"]),
    ("ratatui", &["tui"]),
    ("crossterm", &["tui"]),
    ("axum", &["api"]),
    ("notify_rust", &["notify"]),
    ("lettre", &["notify"]),
    ("croner", &["config", "service"]),
];

/// Folders that may do what `.clippy.toml` forbids everywhere else: speak to the operating system, or write files.
const OPEN_DOORS: &[&str] =
    &["platform", "cli", "repository/backend/local", "repository/backend/cache", "repository/restic/restore", "targets"];

const MAX_LINES: usize = 800;
const MAX_MAIN_LINES: usize = 40;
const MAX_INLINE_TEST_LINES: usize = 150;

/// Modules import only from lower floors, and through the doors.
pub(crate) fn floors(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !file.is_test) {
        let Some(from) = file.module.first() else { continue };
        let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| name == from) else {
            findings.push(finding(file, 1, format!("module `{from}` has no floor in docs/architecture.md")));
            continue;
        };
        for (path, target) in inner_paths(file) {
            let Some(into) = target.first().filter(|into| *into != from) else { continue };
            if !allowed.contains(&into.as_str()) {
                let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
                findings.push(finding(file, path.line, format!("`{from}` imports `{}`; it may import {allowed}", path.words.join("::"))));
            } else if let Some((_, _, parts)) = DOORS.iter().find(|(begin, end, _)| begin == from && end == into)
                && let Some(part) = target.get(1)
                && !parts.contains(&part.as_str())
                && files.iter().any(|other| other.module.starts_with(&target[..2]))
            {
                findings.push(finding(file, path.line, format!("`{from}` reaches into `{into}::{part}`; it may see {parts:?} only")));
            }
        }
    }
    findings
}

/// `repository` keeps its parts apart, and the engine inside it could be a crate of its own.
pub(crate) fn engine(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !file.is_test && file.module.first().is_some_and(|name| name == "repository")) {
        match file.module.get(1).map(String::as_str) {
            Some("restic") => engine_file(file, &mut findings),
            Some(part @ ("contract" | "backend" | "borg" | "retention")) => {
                for (path, target) in inner_paths(file).filter(|(_, target)| target.first().is_some_and(|name| name == "repository")) {
                    let other = target.get(1).map_or("", String::as_str);
                    let allowed: &[&str] = match part {
                        "borg" | "retention" => &["contract"],
                        _ => &[],
                    };
                    if other != part && !allowed.contains(&other) {
                        findings.push(finding(file, path.line, format!("`repository::{part}` imports `{}`", path.words.join("::"))));
                    }
                }
            }
            _ => {}
        }
    }
    findings
}

fn engine_file(file: &SourceFile, findings: &mut Vec<Finding>) {
    let row_of = |part: &str| ENGINE.iter().position(|row| row.contains(&part));
    let part = file.module.get(2).map_or("", String::as_str);
    let row = row_of(part);
    if !part.is_empty() && row.is_none() {
        findings.push(finding(
            file,
            1,
            format!("`repository::restic::{part}` has no place in the engine's order (tests/architecture/rules.rs)"),
        ));
    }
    for path in file.paths.iter().filter(|path| path.words[0] == "tokio") {
        findings.push(finding(file, path.line, "the engine uses threads, not tokio".to_owned()));
    }
    for (path, target) in inner_paths(file) {
        let name = path.words.join("::");
        match target.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["model" | "platform", ..] | ["repository", "contract" | "backend", ..] | ["repository", "restic"] => {}
            ["repository", "restic", other, ..] => {
                if let (Some(row), Some(below)) = (row, row_of(other))
                    && *other != part
                    && below >= row
                {
                    findings.push(finding(
                        file,
                        path.line,
                        format!("`{part}` imports `{name}`, which is beside or above it in the engine"),
                    ));
                }
            }
            _ => findings.push(finding(
                file,
                path.line,
                format!("the engine imports `{name}`; it may import model, platform, repository::contract and repository::backend"),
            )),
        }
    }
}

/// Each library is named in its home only.
pub(crate) fn homes(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !file.is_test) {
        for path in &file.paths {
            if let Some((library, homes)) = HOMES.iter().find(|(library, _)| *library == path.words[0])
                && !homes.iter().any(|home| is_within(file, home))
            {
                findings.push(finding(file, path.line, format!("`{library}` is at home in {} only", homes.join(", "))));
            }
        }
    }
    findings
}

/// No long files, no long tests inside them, and a short `main.rs`.
pub(crate) fn lengths(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !file.is_test) {
        let lines = file.lines_outside_tests();
        let limit = if file.path == "src/main.rs" { MAX_MAIN_LINES } else { MAX_LINES };
        if lines > limit {
            findings.push(finding(file, limit + 1, format!("{lines} lines outside tests; the limit is {limit}")));
        }
        for (first, last) in &file.test_lines {
            if last - first + 1 > MAX_INLINE_TEST_LINES {
                let message = format!("{} lines of inline tests; over {MAX_INLINE_TEST_LINES} they move to a tests.rs", last - first + 1);
                findings.push(finding(file, *first, message));
            }
        }
    }
    findings
}

/// `lib.rs` declares modules and re-exports nothing.
pub(crate) fn no_root_exports(files: &[SourceFile]) -> Vec<Finding> {
    let root = files.iter().filter(|file| file.path == "src/lib.rs");
    root.flat_map(|file| {
        let exports = file.paths.iter().filter(|path| path.exported);
        exports.map(|path| finding(file, path.line, format!("the crate root re-exports `{}`", path.words.join("::"))))
    })
    .collect()
}

/// Every file opens with `//!`, and none is called `mod.rs`.
pub(crate) fn headers(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        if !file.text.starts_with("//! ") {
            findings.push(finding(file, 1, "the file does not open with `//!`: say what it owns".to_owned()));
        }
        if file.path.ends_with("/mod.rs") {
            findings.push(finding(file, 1, "write `name.rs` beside `name/`, not `mod.rs`".to_owned()));
        }
    }
    findings
}

/// No `allow`, a reason for every `expect`, and the doors to the operating system only where they belong.
pub(crate) fn lint_attributes(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        for attribute in &file.attributes {
            let calls = |name: &str| attribute.tokens.windows(2).any(|pair| pair[0] == name && pair[1] == "(");
            let names = |name: &str| attribute.tokens.iter().any(|token| token == name);
            if calls("allow") {
                findings.push(finding(file, attribute.line, "use `#[expect(…, reason = \"…\")]` instead of `allow`".to_owned()));
            }
            if calls("expect") && !names("reason") {
                findings.push(finding(file, attribute.line, "`expect` without a reason".to_owned()));
            }
            if calls("expect") && names("disallowed_methods") && !file.is_test && !OPEN_DOORS.iter().any(|door| is_within(file, door)) {
                let message = format!("processes, clock, environment and file writes belong to {} only", OPEN_DOORS.join(", "));
                findings.push(finding(file, attribute.line, message));
            }
        }
    }
    findings
}

/// The paths of a file that lead into this crate, each with what follows `crate`.
fn inner_paths(file: &SourceFile) -> impl Iterator<Item = (&NamedPath, &[String])> {
    file.paths.iter().filter(|path| path.words[0] == "crate").map(|path| (path, &path.words[1..]))
}

/// Whether the file is in a folder of `src`, or is the module of that name.
fn is_within(file: &SourceFile, folder: &str) -> bool {
    let folder: Vec<&str> = folder.split('/').collect();
    file.module.len() >= folder.len() && file.module.iter().zip(&folder).all(|(have, want)| have == want)
}

fn finding(file: &SourceFile, line: usize, message: String) -> Finding {
    Finding { path: file.path.clone(), line, message }
}
