//! Archives a tar stream from its standard input, as a volume comes that is read through a helper, and says how much memory that
//! took. `tests/bench/memory` calls it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that measures fails loudly and says what it found")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bbackup::model::progress::Silent;
use bbackup::platform::clock;
use bbackup::platform::control::Control;
use bbackup::platform::secret::Secret;
use bbackup::repository::backend::local::LocalBackend;
use bbackup::repository::contract::{Repository, SnapshotRequest};
use bbackup::repository::restic::archive::Options;
use bbackup::repository::restic::facade::{Locking, ResticRepository};
use bbackup::repository::restic::state::{Closed, InitOptions};
use bbackup::sources::tar::TarSource;

fn main() {
    let arguments: Vec<PathBuf> = std::env::args().skip(1).filter(|argument| argument != "--bench").map(PathBuf::from).collect();
    let [repository, scratch] = &arguments[..] else {
        println!("usage: stream REPOSITORY SCRATCH < TAR (tests/bench/memory calls it)");
        return;
    };
    let backend = Arc::new(LocalBackend::new(repository));
    let open = Closed::new(backend).init(&Secret::new("benchmark".to_owned()), InitOptions::default()).unwrap();
    let options = Options { scratch: Some(scratch.clone()), ..Options::default() };
    let repository = ResticRepository::new(open.clone(), options, Locking::Retry(Duration::ZERO));
    let request = SnapshotRequest {
        time: clock::now(),
        host: "stream".into(),
        paths: vec!["/stream".into()],
        tags: Vec::new(),
        excludes: Vec::new(),
        ignore_parent: true,
        parent: None,
        with_atime: false,
        dry_run: false,
    };
    let mut writer = repository.write_snapshot(request, &Control::new(), Arc::new(Silent)).unwrap();
    let added = writer.add(b"/stream", Box::new(TarSource::new(std::io::stdin(), b""))).unwrap();
    let (id, _) = writer.finish(Vec::new()).unwrap();
    let tree = open.snapshot(&id.unwrap().0.parse().unwrap()).unwrap().tree;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak: u64 = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
    println!("{} MB at the peak, {} entries, {} not saved, tree {tree}", peak >> 10, added.entries, added.problem_count);
}
