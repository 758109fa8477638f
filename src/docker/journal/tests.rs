//! The tests of journals: who holds them, and what is left of them after a crash.

#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;

fn journals() -> (tempfile::TempDir, Journals) {
    let folder = tempfile::tempdir().unwrap();
    let journals = Journals::new(folder.path());
    (folder, journals)
}

const SOON: Duration = Duration::from_millis(150);

fn intent(container: &str, name: &str, action: Action) -> Intent {
    Intent {
        container: container.to_owned(),
        name: name.to_owned(),
        before: Status::Running,
        action,
        service: None,
        started_at: String::new(),
        settled: Timestamp::UNIX_EPOCH,
    }
}

fn names<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<&'a str> {
    entries.map(|entry| entry.name.as_str()).collect()
}

#[tokio::test]
async fn a_living_run_keeps_its_journal_and_a_dead_one_gives_it_up() {
    let (_folder, journals) = journals();
    assert!(!journals.any().unwrap());
    let gate = journals.gate(SOON).await.unwrap();
    let mut journal = journals.start(&gate, "engine", "RUN").unwrap();
    journal.hold(intent("c1", "db", Action::Stop)).unwrap();
    journal.hold(intent("c2", "web", Action::Pause)).unwrap();
    journal.released(0).unwrap();
    assert!(journals.dead(&gate, "engine").unwrap().is_empty());
    assert!(journals.any().unwrap() && !journals.any_dead(&gate).unwrap(), "it lives");
    let held = journals.held_by_others(&gate, None, "engine").unwrap();
    assert_eq!((held.len(), held[0].living, held[0].recovering, held[0].entry.name.as_str()), (1, true, false, "web"));
    assert!(journals.held_by_others(&gate, Some(&journal), "engine").unwrap().is_empty());
    assert!(journals.held_by_others(&gate, None, "other").unwrap().is_empty());

    drop(journal);
    assert!(journals.any_dead(&gate).unwrap());
    assert!(!journals.held_by_others(&gate, None, "engine").unwrap()[0].living);
    assert!(journals.dead(&gate, "other").unwrap().is_empty(), "another Engine's");
    let mut dead = journals.dead(&gate, "engine").unwrap();
    let held = |own: Option<&Journal>| journals.held_by_others(&gate, own, "engine").unwrap();
    assert!(held(None)[0].living && held(None)[0].recovering, "another that looks must not take us for the run");
    drop(dead);
    assert!(!held(None)[0].living && !held(None)[0].recovering);
    dead = journals.dead(&gate, "engine").unwrap();
    let journal = dead.first_mut().unwrap();
    assert_eq!((journal.run(), names(journal.open_entries())), ("RUN", vec!["web"]));
    journal.released(1).unwrap();
    drop(dead);
    assert!(!journals.any().unwrap(), "a journal with nothing to do goes");
}

#[tokio::test]
async fn what_was_started_again_is_kept_still_by_nobody_and_looked_at_by_the_next() {
    let (_folder, journals) = journals();
    let gate = journals.gate(SOON).await.unwrap();
    let mut journal = journals.start(&gate, "engine", "RUN").unwrap();
    journal.hold(intent("c1", "db", Action::Stop)).unwrap();
    journal.started(0).unwrap();
    assert!(journals.held_by_others(&gate, None, "engine").unwrap().is_empty());
    assert_eq!(names(journal.open_entries()), ["db"]);
    drop(journal);
    // If it did not stay it was left down, as what was never started.
    assert_eq!(journals.held_by_others(&gate, None, "engine").unwrap().len(), 1);
    let mut dead = journals.dead(&gate, "engine").unwrap();
    assert_eq!(names(dead[0].open_entries()), ["db"]);
    dead[0].released(0).unwrap();
    drop(dead);
    assert!(!journals.any().unwrap());
}

#[tokio::test]
async fn what_was_done_last_is_undone_first() {
    let (_folder, journals) = journals();
    let gate = journals.gate(SOON).await.unwrap();
    let mut journal = journals.start(&gate, "e", "R").unwrap();
    for name in ["web", "app", "db"] {
        journal.hold(intent(name, name, Action::Stop)).unwrap();
    }
    assert_eq!(names(journal.open_entries()), ["db", "app", "web"]);
}

#[tokio::test]
async fn a_line_that_a_crash_cut_off_was_never_acted_on() {
    let (folder, journals) = journals();
    let gate = journals.gate(SOON).await.unwrap();
    let mut journal = journals.start(&gate, "e", "R").unwrap();
    journal.hold(intent("c1", "db", Action::Stop)).unwrap();
    drop(journal);
    let path = folder.path().join(FOLDER).join("R-0.journal");
    let whole = std::fs::read(&path).unwrap();
    let mut cut = whole.clone();
    cut.extend_from_slice(&whole[..whole.len() / 2]);
    std::fs::write(&path, &cut).unwrap();
    let mut dead = journals.dead(&gate, "e").unwrap();
    assert_eq!(dead[0].open_entries().count(), 1);
    dead[0].released(0).unwrap();
    assert!(Open::read(&std::fs::read(&path).unwrap()).is_empty(), "the new line stands on its own");
}

#[test]
fn the_unit_at_boot_looks_for_journals() {
    let unit = include_str!("../../../assets/bbackup-recover.service");
    let condition = format!("\nConditionPathExistsGlob=|/var/lib/bbackup/state/{FOLDER}/*{SUFFIX}\n");
    assert!(unit.contains(&condition), "{condition} is not in the unit");
}

#[tokio::test]
async fn the_gate_lets_one_in() {
    let (_folder, journals) = journals();
    let gate = journals.gate(SOON).await.unwrap();
    assert!(matches!(journals.gate(SOON).await, Err(JournalError::GateHeld { .. })));
    drop(gate);
    assert!(journals.gate(SOON).await.is_ok());
}

#[tokio::test]
async fn guards_of_one_run_have_journals_of_their_own() {
    let (_folder, journals) = journals();
    let gate = journals.gate(SOON).await.unwrap();
    let mut first = journals.start(&gate, "e", "R/../x").unwrap();
    let mut second = journals.start(&gate, "e", "R/../x").unwrap();
    first.hold(intent("a", "a", Action::Stop)).unwrap();
    second.hold(intent("b", "b", Action::Stop)).unwrap();
    assert_eq!(journals.held_by_others(&gate, Some(&first), "e").unwrap()[0].entry.name, "b");
}

#[tokio::test]
async fn no_journal_no_action() {
    let journals = Journals::new(Path::new("/proc/nowhere"));
    assert!(matches!(journals.gate(SOON).await, Err(JournalError::Storage { .. })));
    assert!(!journals.any().unwrap());
}

#[tokio::test]
async fn a_command_that_is_owed_outlives_its_run() {
    let (_folder, journals) = journals();
    let gate = journals.gate(SOON).await.unwrap();
    let mut journal = journals.start(&gate, "engine", "RUN").unwrap();
    let owing = |line| Owing { container: "c1".to_owned(), name: "db".to_owned(), hook: Hook::of_line(line, "label x") };
    let first = journal.owe(owing("true")).unwrap();
    journal.hold(intent("c1", "db", Action::Stop)).unwrap();
    let second =
        journal.owe(Owing { hook: Hook { user: Some("u".to_owned()), timeout: Duration::MAX, ..owing("false").hook }, ..owing("") });
    let second = second.unwrap();
    journal.released(1).unwrap();
    assert_eq!((first.order, second.order), (0, 2));
    drop(journal);
    assert!(journals.any_dead(&gate).unwrap());
    assert_eq!(journals.dead(&gate, "other").unwrap().len(), 0);
    assert!(journals.held_by_others(&gate, None, "engine").unwrap().is_empty(), "no container is held any more");
    let mut dead = journals.dead(&gate, "engine").unwrap();
    let journal = dead.first_mut().unwrap();
    assert_eq!(journal.open_hooks().cloned().collect::<Vec<_>>(), [second, first]);
    assert_eq!(journal.run(), "RUN");
    journal.released(0).unwrap();
    journal.released(2).unwrap();
    drop(dead);
    assert!(!journals.any().unwrap());
}
