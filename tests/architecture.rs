//! Checks the floor plan of `docs/architecture.md` from the sources: which module imports which, where each library is at home,
//! how long files are, and a few habits that hold everywhere. Every finding names its file and line.
//!
//! It reads text and compiles nothing; what the compiler and clippy check is not repeated here.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/scan.rs"]
mod scan;

use rules::Finding;
use scan::SourceFile;

/// Every Rust file of the package under `folders`, with its path relative to the package.
fn read_sources(folders: &[&str]) -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.push(SourceFile::new(&relative, &fs::read_to_string(&path).unwrap()));
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    assert!(!files.is_empty(), "no sources found under {folders:?}");
    scan::mark_test_files(&mut files);
    files
}

fn report(findings: &[Finding]) {
    if findings.is_empty() {
        return;
    }
    let mut text = String::new();
    for finding in findings {
        writeln!(text, "  {}:{}: {}", finding.path, finding.line, finding.message).unwrap();
    }
    panic!("{} finding(s):\n{text}", findings.len());
}

#[test]
fn modules_import_only_from_lower_floors() {
    report(&rules::floors(&read_sources(&["src"])));
}

#[test]
fn the_engine_stands_on_its_own() {
    report(&rules::engine(&read_sources(&["src"])));
}

#[test]
fn every_library_is_used_at_home_only() {
    report(&rules::homes(&read_sources(&["src"])));
}

#[test]
fn files_stay_short() {
    report(&rules::lengths(&read_sources(&["src"])));
}

#[test]
fn the_crate_root_re_exports_nothing() {
    report(&rules::no_root_exports(&read_sources(&["src"])));
}

#[test]
fn every_file_says_what_it_owns() {
    report(&rules::headers(&read_sources(&["src", "tests", "benches"])));
}

#[test]
fn lints_are_never_switched_off_silently() {
    report(&rules::lint_attributes(&read_sources(&["src", "tests", "benches"])));
}

/// The rules must be able to fail: each is given small made-up sources, good and bad.
mod self_test {
    use super::rules::{self, Finding};
    use super::scan::{self, SourceFile};

    fn sources(files: &[(&str, &str)]) -> Vec<SourceFile> {
        let mut files: Vec<SourceFile> = files.iter().map(|(path, text)| SourceFile::new(path, text)).collect();
        scan::mark_test_files(&mut files);
        files
    }

    /// Asserts that a rule finds exactly something on the given lines of the first file.
    fn assert_lines(findings: &[Finding], expected: &[usize]) {
        let mut lines: Vec<usize> = findings.iter().map(|finding| finding.line).collect();
        lines.dedup();
        let messages: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(lines, expected, "{messages:?}");
    }

    #[test]
    fn importing_upwards_or_sideways_is_found() {
        let text = "//! Text.\nuse crate::model::entry::Entry;\nuse crate::{config::Config, jobs};\nfn f() { crate::repository::contract::g(); }\n";
        let files =
            sources(&[("src/docker/connect.rs", text), ("src/jobs.rs", ""), ("src/repository/contract.rs", ""), ("src/config.rs", "")]);
        assert_lines(&rules::floors(&files), &[3, 4]);
    }

    #[test]
    fn relative_paths_are_followed() {
        let text = "use super::super::cli::Args;\nuse super::entry::Entry;\nmod inner { use super::super::entry::Kind; use super::super::super::cli::x; }\n";
        let files = sources(&[("src/model/size.rs", text), ("src/model/entry.rs", ""), ("src/cli.rs", "")]);
        assert_lines(&rules::floors(&files), &[1, 3]);
    }

    #[test]
    fn nested_groups_globs_and_renames_are_read() {
        let text = "use crate::{\n    model::{entry::*, size as bytes},\n    service::control::{self, Control as C},\n};\n";
        assert_lines(&rules::floors(&sources(&[("src/jobs/backup.rs", text), ("src/service.rs", "")])), &[3]);
    }

    #[test]
    fn comments_and_strings_are_no_imports() {
        let text = "// use crate::cli::x;\n/* crate::cli::x /* crate::cli */ crate::cli */\nconst A: &str = \"crate::cli::x\";\nconst B: &str = r#\"crate::cli\" crate::cli\"#;\nconst C: (char, u8) = ('\"', b'\"'); // crate::cli\nfn f<'a>(_: &'a str) { crate::cli::x() }\n";
        assert_lines(&rules::floors(&sources(&[("src/model/text.rs", text), ("src/cli.rs", "")])), &[6]);
    }

    #[test]
    fn test_modules_may_look_anywhere() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::cli::x;\n}\nuse crate::cli::y;\n";
        assert_lines(&rules::floors(&sources(&[("src/model/text.rs", text), ("src/cli.rs", "")])), &[6]);
        let files = sources(&[
            ("src/model/text.rs", "#[cfg(test)]\nmod tests;\n"),
            ("src/model/text/tests.rs", "use crate::cli::x;"),
            ("src/cli.rs", ""),
        ]);
        assert_lines(&rules::floors(&files), &[]);
    }

    #[test]
    fn an_unknown_module_needs_a_floor() {
        assert_lines(&rules::floors(&sources(&[("src/utilities.rs", "//! Everything.\n")])), &[1]);
    }

    #[test]
    fn the_command_line_sees_no_insides() {
        let text = "use crate::repository::contract::Snapshot;\nuse crate::repository::restic::id::Id;\nuse crate::docker::connect::Engine;\nuse crate::docker::DockerError;\n";
        let files = sources(&[
            ("src/cli/list.rs", text),
            ("src/docker.rs", ""),
            ("src/docker/connect.rs", ""),
            ("src/repository/contract.rs", ""),
            ("src/repository/restic/id.rs", ""),
        ]);
        assert_lines(&rules::floors(&files), &[2, 3]);
    }

    #[test]
    fn verbs_of_the_engine_know_nothing_of_each_other() {
        let text = "use super::tree::Node;\nuse super::list::walk;\nuse crate::repository::restic::archive::Archive;\nuse tokio::runtime::Runtime;\nuse crate::config::Config;\nuse crate::repository::backend::Backend;\n";
        let files = sources(&[
            ("src/repository/restic/restore/write.rs", "use super::super::check::x;\n"),
            ("src/repository/restic/restore.rs", text),
            ("src/repository/restic/tree.rs", "use super::list::walk;\n"),
            ("src/repository/restic/list.rs", ""),
            ("src/repository/restic/check.rs", ""),
            ("src/repository/restic/archive.rs", ""),
            ("src/repository/restic/facade.rs", "use super::archive::Archive;\nuse super::list::walk;\n"),
            ("src/repository/backend.rs", ""),
            ("src/config.rs", ""),
        ]);
        let mut found: Vec<String> = rules::engine(&files).iter().map(|finding| format!("{}:{}", finding.path, finding.line)).collect();
        found.sort();
        let expected = ["restore.rs:2", "restore.rs:3", "restore.rs:4", "restore.rs:5", "restore/write.rs:1", "tree.rs:1"];
        assert_eq!(found, expected.map(|place| format!("src/repository/restic/{place}")));
    }

    #[test]
    fn libraries_away_from_home_are_found() {
        let text =
            "use clap::Parser;\n#[derive(serde::Serialize, clap::Args)]\nstruct A;\nfn f() { bollard::x(); crate::docker::hyper::y(); }\n";
        assert_lines(&rules::homes(&sources(&[("src/jobs/backup.rs", text)])), &[1, 2, 4]);
        assert_lines(&rules::homes(&sources(&[("src/cli/args.rs", "use clap::Parser;\n")])), &[]);
    }

    #[test]
    fn long_files_are_found() {
        let long = "//! Long.\n".to_owned() + &"fn f() {}\n".repeat(800);
        assert_lines(&rules::lengths(&sources(&[("src/jobs.rs", &long)])), &[801]);
        let tested = "//! Short.\n#[cfg(test)]\nmod tests {\n".to_owned() + &"fn f() {}\n".repeat(800) + "}\n";
        let findings = rules::lengths(&sources(&[("src/jobs.rs", &tested)]));
        assert_lines(&findings, &[2]);
        assert!(findings[0].message.contains("tests.rs"), "{}", findings[0].message);
        assert_lines(&rules::lengths(&sources(&[("src/main.rs", &"\n".repeat(41))])), &[41]);
        assert_lines(&rules::lengths(&sources(&[("src/jobs/tests.rs", &"\n".repeat(2000))])), &[]);
    }

    #[test]
    fn re_exports_at_the_root_are_found() {
        let text = "//! Root.\npub mod cli;\npub use cli::Args;\npub(crate) use cli::Other;\n";
        assert_lines(&rules::no_root_exports(&sources(&[("src/lib.rs", text)])), &[3, 4]);
    }

    #[test]
    fn missing_headers_and_mod_rs_are_found() {
        assert_lines(&rules::headers(&sources(&[("src/jobs.rs", "use std::fs;\n")])), &[1]);
        assert_lines(&rules::headers(&sources(&[("src/jobs/mod.rs", "//! Jobs.\n")])), &[1]);
        assert_lines(&rules::headers(&sources(&[("src/jobs.rs", "//! Jobs.\n")])), &[]);
    }

    #[test]
    fn switched_off_lints_are_found() {
        let text = "//! Jobs.\n#![allow(dead_code)]\n#[cfg_attr(test, allow(unused))]\n#[expect(dead_code, reason = \"used by the next part\")]\n#[expect(dead_code)]\n#[expect(clippy::disallowed_methods, reason = \"no\")]\nfn f() { let allow = 1; allow(2) }\n";
        assert_lines(&rules::lint_attributes(&sources(&[("src/jobs.rs", text)])), &[2, 3, 5, 6]);
        let door = "//! Clock.\n#![expect(clippy::disallowed_methods, reason = \"the only place that reads the clock\")]\n";
        assert_lines(&rules::lint_attributes(&sources(&[("src/platform/clock.rs", door)])), &[]);
    }
}
