//! What a loss of power must not take back: the order in which files are synced, renamed and removed, as the kernel saw it.
//!
//! What a killed process leaves is in `crashes`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::home::{Home, files_below};
use crate::support::parts::{Part, needs};

/// What was done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Sync,
    /// To this name, from that of `Event::path`.
    Rename,
    Remove,
}

#[derive(Debug)]
struct Event {
    deed: Deed,
    path: PathBuf,
    /// The new name of what was renamed; else the same.
    to: PathBuf,
    /// Lines of the trace in which it began and ended.
    began: usize,
    ended: usize,
}

/// Runs a command under strace; gives what it did in the repository, in the order in which it began.
fn traced(home: &Home, words: &[&str]) -> Vec<Event> {
    let trace = home.path("trace");
    let calls = "trace=fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat";
    let strace = ["strace", "-f", "-y", "-qq", "-s", "4096", "-e", calls, "-o", trace.to_str().unwrap()];
    let _ = home.bbackup(words).under(strace).run().success();
    let text = fs::read_to_string(&trace).unwrap();
    let mut begun: HashMap<&str, (usize, String)> = HashMap::new();
    let mut events = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix("<unfinished ...>") {
            begun.insert(thread, (number, start.trim_end().to_owned()));
            continue;
        }
        let resumed = call.strip_prefix("<... ").and_then(|rest| rest.split_once("resumed>"));
        let (began, call) = match resumed {
            Some((_, end)) => begun.remove(thread).map(|(began, start)| (began, start + end)).unwrap(),
            None => (number, call.to_owned()),
        };
        if call.ends_with(" = 0") {
            events.extend(event(&call, began, number));
        }
    }
    events.retain(|event| event.to.starts_with(home.repository()) && !event.to.starts_with(home.repository().join("locks")));
    events.sort_by_key(|event| event.began);
    events
}

fn event(call: &str, began: usize, ended: usize) -> Option<Event> {
    let quoted = || call.split('"').skip(1).step_by(2).map(PathBuf::from);
    let (deed, path, to) = match call.split('(').next()? {
        "fsync" | "fdatasync" => {
            let path = PathBuf::from(call.split_once('<')?.1.split_once('>')?.0);
            (Deed::Sync, path.clone(), path)
        }
        "unlink" | "unlinkat" => (Deed::Remove, quoted().next()?, quoted().next()?),
        _ => (Deed::Rename, quoted().next()?, quoted().nth(1)?),
    };
    Some(Event { deed, path, to, began, ended })
}

/// Where in the order it has to be done that a file is there, or gone.
fn rank(home: &Home, path: &Path) -> usize {
    let kinds = ["data", "index", "snapshots", "keys"];
    kinds.iter().position(|kind| path.starts_with(home.repository().join(kind))).unwrap_or_else(|| panic!("{}", path.display()))
}

/// The line in which the folder of a file was on disk after something was done to the file.
fn synced(events: &[Event], event: &Event) -> Option<usize> {
    let folder = event.to.parent().unwrap();
    let syncs = events.iter().filter(|sync| sync.deed == Deed::Sync && sync.path == folder && sync.began > event.ended);
    syncs.map(|sync| sync.ended).min()
}

/// Asserts that every file is on disk before it has its name, and its name before anything that counts on it: packs, then the
/// index, then the snapshot. Gives how many there are of each kind.
fn assert_written(home: &Home, events: &[Event]) -> [usize; 4] {
    let mut count = [0; 4];
    let renames = || events.iter().filter(|event| event.deed == Deed::Rename);
    for event in renames() {
        let is_on_disk = |sync: &Event| sync.deed == Deed::Sync && sync.path == event.path && sync.ended < event.began;
        assert!(events.iter().any(is_on_disk), "{event:?} was not synced before");
        let named = synced(events, event).unwrap_or_else(|| panic!("the folder was not synced after {event:?}"));
        let kind = rank(home, &event.to);
        count[kind] += 1;
        for later in renames().filter(|later| rank(home, &later.to) > kind && later.began > event.began) {
            assert!(named < later.began, "{later:?} came before {event:?} was on disk");
        }
    }
    count
}

/// Asserts that what names something is gone for good before that goes: snapshots, then indexes, then packs. Gives how many went.
fn assert_removed(home: &Home, events: &[Event]) -> [usize; 4] {
    let mut count = [0; 4];
    let removals = || events.iter().filter(|event| event.deed == Deed::Remove && !event.path.to_string_lossy().contains("-tmp-"));
    for event in removals() {
        let kind = rank(home, &event.to);
        count[kind] += 1;
        if kind == 0 {
            continue;
        }
        let gone = synced(events, event).unwrap_or_else(|| panic!("the folder was not synced after {event:?}"));
        for later in removals().filter(|later| rank(home, &later.to) < kind && later.began > event.began) {
            assert!(gone < later.began, "{later:?} went before {event:?} was on disk");
        }
    }
    count
}

#[test]
fn nothing_counts_on_what_is_not_on_disk() {
    needs!(Part::Program("strace"));
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    let folder_text = folder.to_str().unwrap().to_owned();
    fs::write(folder.join("stays"), "the first").unwrap();
    fs::write(folder.join("goes"), "the second").unwrap();
    let events = traced(&home, &["backup", "--paths", &folder_text]);
    let [packs, indexes, snapshots, _] = assert_written(&home, &events);
    assert!(packs > 1 && indexes > 0 && snapshots == 1, "{events:?}");
    let first = files_below(&home.repository().join("snapshots")).remove(0);
    let first = first.file_name().unwrap().to_str().unwrap()[..16].to_owned();
    fs::remove_file(folder.join("goes")).unwrap();
    let _ = home.back_up(&folder);

    let events = traced(&home, &["tag", "--add", "new", &first]);
    assert_eq!((assert_written(&home, &events)[2], assert_removed(&home, &events)[2]), (1, 1), "{events:?}");
    let (new, old) =
        (&events.iter().find(|event| event.deed == Deed::Rename).unwrap(), events.iter().find(|event| event.deed == Deed::Remove));
    assert!(synced(&events, new).unwrap() < old.unwrap().began, "the old form went before the new one was on disk: {events:?}");

    let events = traced(&home, &["forget", "--keep-last", "1"]);
    assert_eq!(assert_removed(&home, &events), [0, 0, 1, 0], "{events:?}");
    let events = traced(&home, &["prune", "--max-unused", "0"]);
    assert_written(&home, &events);
    let [packs, indexes, ..] = assert_removed(&home, &events);
    assert!(packs > 0 && indexes > 0, "{events:?}");

    // A key that is removed must stay so: somebody may know its password who must not.
    let other = home.path("other");
    fs::write(&other, "another").unwrap();
    let before = files_below(&home.repository().join("keys"));
    let events = traced(&home, &["key", "add", "--new-password-file", other.to_str().unwrap()]);
    assert_eq!(assert_written(&home, &events)[3], 1, "{events:?}");
    let new = files_below(&home.repository().join("keys")).into_iter().find(|path| !before.contains(path)).unwrap();
    let events = traced(&home, &["key", "remove", &new.file_name().unwrap().to_str().unwrap()[..16]]);
    assert_eq!(assert_removed(&home, &events)[3], 1, "{events:?}");
    let _ = home.bbackup(["check", "--read-data"]).run().success();
}
