//! Tests of what is read from journals.

#![expect(clippy::unwrap_used, reason = "tests")]
use super::identity::are_different;
use super::read::*;
use super::*;

#[test]
fn the_unit_at_boot_looks_for_journals() {
    let unit = include_str!("../../../../assets/bbackup-recover.service");
    let condition = format!("\nConditionPathExistsGlob=|/var/lib/bbackup/state/{FOLDER}/*{SUFFIX}\n");
    assert!(unit.contains(&condition), "{condition} is not in the unit");
}

#[test]
fn only_unfinished_things_of_this_engine_are_found() {
    let left = |application: &str, name: &str| Left {
        application: application.to_owned(),
        kind: Kind::Volume,
        name: name.to_owned(),
        id: name.to_owned(),
    };
    let lines = [
        Line::Engine { id: "e".to_owned() },
        Line::Made { left: left("a", "a1"), created: "t".to_owned() },
        Line::Made { left: left("b", "b1"), created: "t".to_owned() },
        Line::Made { left: left("c", "c1"), created: "t".to_owned() },
        Line::Complete { application: "a".to_owned(), owed: Vec::new(), lost: Lost::default() },
        Line::Done { application: "a".to_owned() },
        Line::Complete { application: "c".to_owned(), owed: Vec::new(), lost: Lost::default() },
    ];
    let making = Line::Making { application: "d".to_owned(), name: "d1".to_owned() };
    let mut bytes = Vec::new();
    for line in lines.iter().chain([&making]) {
        bytes.extend(serde_json::to_vec(line).unwrap_or_default());
        bytes.push(b'\n');
    }
    assert_eq!(unfinished(&bytes, "e").unwrap().making, [("d".to_owned(), "d1".to_owned())]);
    bytes.extend(serde_json::to_vec(&Line::Made { left: left("d", "d1"), created: "t".to_owned() }).unwrap());
    bytes.extend_from_slice(b"\n{\"event\":\"made\",\"le");
    let found = unfinished(&bytes, "e").unwrap();
    assert_eq!(found.made, [("b", "b1"), ("d", "d1")].map(|(application, name)| (left(application, name), "t".to_owned())));
    assert_eq!(found.making, []);
    assert_eq!(found.not_started.into_keys().collect::<Vec<_>>(), ["c"]);
    assert_eq!(unfinished(&bytes, "other"), None);

    // What was complete, or done, and is being undone is not complete any more; what has its content again is not half restored.
    let application = || "c".to_owned();
    let overwriting =
        |volume: &str| Line::Overwriting { application: application(), volume: volume.to_owned(), saved: None, created: String::new() };
    let more = [
        overwriting("c2"),
        overwriting("c3"),
        overwriting("c4"),
        Line::Complete { application: application(), owed: Vec::new(), lost: Lost::default() },
        Line::Done { application: application() },
        Line::Undoing { application: application() },
        Line::Refilled { application: application(), volume: "c2".to_owned() },
        Line::Restored { volume: "c3".to_owned() },
    ];
    for line in &more {
        bytes.push(b'\n');
        bytes.extend(serde_json::to_vec(line).unwrap());
    }
    let found = unfinished(&bytes, "e").unwrap();
    assert_eq!(found.half().map(|(_, one)| one.volume.as_str()).collect::<Vec<_>>(), ["c4"]);
    assert!(found.not_started.is_empty() && found.made.iter().any(|(left, _)| left.name == "c1"));
}

fn volume(application: &str, name: &str) -> Left {
    Left { application: application.to_owned(), kind: Kind::Volume, name: name.to_owned(), id: name.to_owned() }
}

fn done(application: &str) -> Line {
    Line::Done { application: application.to_owned() }
}

fn read(lines: &[Line]) -> Unfinished {
    let lines: Vec<String> = lines.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
    unfinished(lines.join("\n").as_bytes(), "e").unwrap()
}

#[test]
fn what_was_handed_over_is_the_other_applications_alone() {
    let made = |application| Line::Made { left: volume(application, "shared"), created: "t".to_owned() };
    let handed_over = |more| read(&[Line::Engine { id: "e".to_owned() }, made("a"), made("b"), more]);
    // It is never removed for the first one, as the second one is complete with it.
    assert_eq!(handed_over(done("b")).made, []);
    assert_eq!(handed_over(done("a")).made, [(volume("b", "shared"), "t".to_owned())]);
}

#[test]
fn half_a_line_does_not_spoil_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = LockedFile::create(&folder.path().join(format!("run{SUFFIX}"))).unwrap();
    write(&mut file, &Line::Engine { id: "e".to_owned() }).unwrap();
    write(&mut file, &Line::Made { left: volume("a", "a1"), created: "t".to_owned() }).unwrap();
    // The disk was full in the middle of it.
    file.append(br#"{"event":"complete","applica"#).unwrap();
    write(&mut file, &done("a")).unwrap();
    let found = unfinished(&file.read(LIMIT).unwrap(), "e").unwrap();
    assert_eq!(found, Unfinished::default(), "the line behind the half one is lost");
}

#[test]
fn a_folder_and_a_word_of_the_engine_tell_nothing_of_each_other() {
    let (folder, other, word, later) = ("12:1700000000000000000", "13:1", "2026-11-22T10:00:00Z", "2026-11-22T11:00:00+01:00");
    assert!(are_different(folder, other) && are_different("12", folder));
    // The word of Engine 20.10 changes with what is written.
    assert!(!are_different(word, later) && !are_different(folder, word) && !are_different(word, "12"));
}

#[test]
fn a_volume_that_lost_entries_is_not_whole() {
    let overwriting =
        |volume: &str| Line::Overwriting { application: "a".to_owned(), volume: volume.to_owned(), saved: None, created: String::new() };
    let complete =
        Line::Complete { application: "a".to_owned(), owed: Vec::new(), lost: Lost { places: vec!["torn".to_owned()], ..Lost::default() } };
    let found = read(&[Line::Engine { id: "e".to_owned() }, overwriting("torn"), overwriting("good"), complete]);
    assert_eq!(found.whole(), ["good"], "an older restore's half of it would be forgotten");
}

#[test]
fn a_journal_in_which_nothing_stands_is_told_from_one_of_another_engine() {
    assert!(is_blank(b"") && is_blank(b"\n\n{\"event\":\"engi"));
    assert!(!is_blank(b"\n{\"event\":\"engine\",\"id\":\"other\"}\n") && !is_blank(b"{\"event\":\"of a later version\"}"));
}
