//! A whole application saved, lost and brought back: through the file system and through the helper.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::support::engine::Stage;
use crate::support::home::{Home, Summary, files_below};
use crate::support::manifest::{Line, Manifest};
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::proxy::over_tcp;
use crate::support::run::traced;
use crate::support::shop::{Shop, Volumes};
use crate::support::tree;

/// The newest snapshot of an application, as restic lists it.
fn snapshot_of(home: &Home, application: &str) -> String {
    let tag = format!("app:{application}");
    let mut found = Restic::new(home).snapshots();
    found.retain(|snapshot| snapshot["tags"].as_array().is_some_and(|tags| tags.iter().any(|other| *other == *tag)));
    let newest = found.into_iter().max_by_key(|snapshot| snapshot["time"].as_str().unwrap().to_owned());
    newest.unwrap_or_else(|| panic!("no snapshot with tag {tag}"))["id"].as_str().unwrap().to_owned()
}

#[test]
fn an_application_is_lost_and_comes_back() {
    needs!(Part::Engine, Part::Restic, Part::Postgres);
    let home = Home::with_repository();
    let shop = Shop::open(&home, Stage::alone(&home, "plain"), Volumes::Plain);
    let rows = shop.rows();
    let before = shop.picture();

    let _ = shop.stage.bbackup(["backup", "--all"]).run().success();
    for name in ["db", "web"] {
        shop.stage.wait_for_state(&shop.name(name), "running");
    }
    shop.wait_for_database();
    assert_eq!(shop.rows(), rows, "the database is not what it was after its backup");

    // restic agrees with every byte, and brings the same files back.
    let restic = Restic::new(&home);
    restic.check();
    let snapshot = snapshot_of(&home, &shop.project());
    let target = home.path("by-restic");
    restic.restore(&snapshot, &target);
    for name in ["media", "web"] {
        let restored = target.join(shop.path_in_snapshot(name).strip_prefix("/").unwrap());
        let here = Manifest::of(&shop.files_of(&shop.name(name)));
        here.kept_by_restic().assert_equals(&Manifest::of(&restored).kept_by_restic());
    }
    let stopped = Manifest::of(&target.join(shop.path_in_snapshot("db").strip_prefix("/").unwrap()));
    assert!(stopped.lines.contains_key(b"pg/PG_VERSION".as_slice()));
    assert!(!stopped.lines.contains_key(b"pg/postmaster.pid".as_slice()), "the database ran while it was read");

    // Documents of the application, secrets of its `.env` among them.
    let listed = shop.stage.bbackup(["ls", &snapshot]).run().success().text();
    for part in ["application.json", "inspect.json", "logs.jsonl", "compose.yaml", ".env", "networks/"] {
        assert!(listed.contains(part), "{part} is not in the snapshot:\n{listed}");
    }
    fs::remove_dir_all(&target).unwrap();

    shop.burn_down();
    let _ = shop.stage.bbackup(["restore", "latest", "--all", "--json"]).run().success();
    shop.wait_for_database();
    assert_eq!(shop.rows(), rows);
    assert_eq!(shop.front_page(), "the shop is open\n");
    before.assert_equals(&shop.picture(), |manifest| manifest);
}

#[test]
fn the_second_backup_of_an_application_reads_no_unchanged_file() {
    needs!(Part::Engine, Part::Postgres, Part::Program("strace"));
    let home = Home::with_repository();
    let shop = Shop::open(&home, Stage::new(&home, "second"), Volumes::Plain);
    let project = shop.project();
    let _ = shop.stage.bbackup(["backup", "--projects", &project]).run().success();
    // Stopped, the database changes nothing between the two.
    shop.stage.ok(["stop", &shop.name("db")]);
    let _ = shop.stage.bbackup(["backup", "--projects", &project]).run().success();
    let trace = home.path("trace");
    let strace = ["strace", "-ff", "-y", "-qq", "-e", "trace=open,openat,openat2", "-o", trace.to_str().unwrap()];
    let outcome = shop.stage.bbackup(["backup", "--json", "--projects", &project]).under(strace).run().success();
    let summary = Summary::of(&outcome);
    // The application's own documents are written anew each time: two descriptions, two logs, a network, two of compose, the summary.
    let files: u64 = ["db", "media", "web"].iter().map(|name| files_below(&shop.files_of(&shop.name(name))).len() as u64).sum();
    let files = files - count_special(&shop.files_of(&shop.name("media")));
    assert_eq!(summary.number("files_unmodified"), files, "{}", summary.message);
    assert!(summary.number("files_new") + summary.number("files_changed") <= 8, "{}", summary.message);
    assert!(summary.number("data_added") < 300_000, "more than metadata was added: {}", summary.message);
    let trace = traced(&trace);
    let mut walked = false;
    for volume in ["db", "media", "web"] {
        let folder = shop.files_of(&shop.name(volume)).display().to_string();
        for line in trace.lines().filter(|line| line.contains(&folder) && !line.contains(" = -1 ")) {
            walked |= line.contains("O_DIRECTORY");
            assert!(line.contains("O_DIRECTORY") || line.contains("O_PATH"), "an unchanged file was opened: {line}");
        }
    }
    assert!(walked, "the trace shows nothing of the volumes");
}

/// How many entries below a folder are neither files nor folders.
fn count_special(folder: &Path) -> u64 {
    files_below(folder).iter().filter(|path| !fs::symlink_metadata(path).unwrap().is_file()).count() as u64
}

/// What docs/docker.md says that the Engine's archive stream does not keep: attributes but `security.capability`, parts of a second, sockets,
/// and when it is written, times before 1970 (those of links newer Engines lose, older ones keep).
pub(crate) fn as_streamed(manifest: Manifest) -> Manifest {
    let kept = manifest.without(|_, line| line.kind == "socket");
    kept.map(|line: &mut Line| {
        line.mtime.1 = 0;
        line.mtime.0 = line.mtime.0.max(0);
        line.xattrs.retain(|name, _| name == b"security.capability");
        if line.kind != "file" {
            line.link_group.clear();
        }
    })
}

#[test]
fn an_application_comes_back_through_the_helper() {
    needs!(Part::Engine, Part::Restic, Part::Postgres);
    let home = Home::with_repository();
    let shop = Shop::open(&home, Stage::new(&home, "helper"), Volumes::WithOptions);
    let rows = shop.rows();
    let before = shop.picture();
    let project = shop.project();
    let lonely = shop.name("lonely");
    let outcome = shop
        .stage
        .bbackup(["backup", "--json", "--projects", &project, "--containers", &lonely, "--volumes", &shop.name("lonely-volume")])
        .run()
        .success();
    assert!(outcome.text().contains("helper"), "nothing says that a helper was used\n{}", outcome.describe());
    Restic::new(&home).check();
    // Other tests have helpers of their own on this Engine.
    let mine = ["db", "media", "web", "lonely-volume"].map(|name| format!("volume={}", shop.name(name)));
    let filters = mine.iter().flat_map(|filter| ["--filter", filter]);
    let helpers = shop.stage.ok(["ps", "-aq", "--filter", "label=bbackup.helper"].into_iter().chain(filters));
    assert!(helpers.is_empty(), "a helper was left behind: {helpers}");

    // Networks that belong to no application are not in these snapshots.
    let spare = shop.stage.inspect("network", &shop.name("lonely-net"));
    shop.burn_down();
    // These volumes stand for folders of the host, in which nothing is.
    let _ = shop.stage.bbackup(["restore", "latest", "--all", "--json"]).run().success();
    shop.wait_for_database();
    assert_eq!(shop.rows(), rows);
    assert_eq!(shop.front_page(), "the shop is open\n");
    if !shop.stage.exists("network", &shop.name("lonely-net")) {
        assert!(spare["Name"].is_string());
        shop.stage.ok(["network", "create", &shop.name("lonely-net")]);
    }
    before.assert_equals(&shop.picture(), as_streamed);
}

/// What docs/docker.md says that writing through the Engine does not keep: sockets, attributes without a value, and times before 1970 (those of links newer Engines lose,
/// older ones keep).
fn as_put(manifest: Manifest) -> Manifest {
    let kept = manifest.without(|_, line| line.kind == "socket");
    kept.map(|line: &mut Line| {
        line.xattrs.retain(|_, value| !value.is_empty());
        if line.mtime.0 < 0 {
            line.mtime = (0, 0);
        }
    })
}

/// Bytes of a file in which nothing was written.
const HOLE: u64 = 8 << 20;

#[test]
fn what_was_read_as_files_comes_back_whole_through_the_helper() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "put");
    let volume = stage.name("data");
    stage.ok(["volume", "create", &volume]);
    tree::odd(&stage.mountpoint(&volume));
    let holes = || stage.mountpoint(&volume).join("nothing-written");
    fs::File::create(holes()).unwrap().set_len(HOLE).unwrap();
    let before = Manifest::of(&stage.mountpoint(&volume));
    let has = |found: &dyn Fn(&Line) -> bool| before.lines.values().any(found);
    assert!(has(&|line| line.xattrs.contains_key(b"user.binary".as_slice())) && has(&|line| line.mtime.1 != 0), "the tree is too plain");
    assert!(has(&|line| line.xattrs.contains_key(b"system.posix_acl_access".as_slice())), "the tree has no access lists");
    let _ = stage.bbackup(["backup", "--volumes", &volume]).run().success().says_nothing_of("helper");
    stage.ok(["volume", "rm", &volume]);
    // The same Engine, and none of its folders seen from here.
    let host = over_tcp(&stage.engine().host());
    let outcome = stage.bbackup(["restore", "latest", "--all", "--json"]).env("DOCKER_HOST", &host).run().exits(4);
    let _ = outcome.says("a socket cannot be restored").says("the extended attribute user.empty cannot be restored");
    as_put(before).assert_equals(&as_put(Manifest::of(&stage.mountpoint(&volume))));
    // An Engine writes out what nobody had written, as docs/docker.md says; written as files the holes are there again.
    let taken = || fs::metadata(holes()).unwrap().blocks() * 512;
    assert!(taken() >= HOLE, "the Engine keeps holes: docs/docker.md says that it does not");
    stage.ok(["volume", "rm", &volume]);
    let _ = stage.bbackup(["restore", "latest", "--all"]).run();
    assert!(fs::metadata(holes()).unwrap().len() == HOLE && taken() < HOLE / 2, "{} bytes are taken", taken());
}
