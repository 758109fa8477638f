//! The journals of restores that died, and what of them does not matter any more: volumes that are whole by now, or gone, or used as they are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::identity::{are_different, identity, is_empty};
use super::lost::{is_used, was_started};
use super::read::{Overwritten, Unfinished, is_blank, unfinished, unread};
use super::{FOLDER, LIMIT, Line, SUFFIX, write};
use crate::docker::Engine;
use crate::jobs::error::JobError;
use crate::platform::clock;
use crate::platform::journal_file::{self, LockedFile};
use crate::targets::plan::is_in;
use crate::targets::steps::Kind;

/// The journal of a restore that died; held locked.
pub(super) struct Dead {
    pub(super) file: LockedFile,
    pub(super) left: Unfinished,
}

impl Dead {
    /// Reads all that are on this Engine, the oldest first.
    pub(super) fn all(engine: &str, state: &Path) -> Result<Vec<Self>, JobError> {
        let folder = state.join(FOLDER);
        let read = |path: &PathBuf| {
            let path = path.clone();
            move |source| unread(&path, source)
        };
        let mut all = Vec::new();
        for path in journal_file::list(&folder, SUFFIX).map_err(read(&folder))? {
            let Some(mut file) = unheld(&path).map_err(read(&path))? else { continue };
            let bytes = file.read(LIMIT).map_err(read(&path))?;
            match unfinished(&bytes, engine) {
                Some(left) => all.push(Self { file, left }),
                None if is_blank(&bytes) => drop(file.remove()),
                None => {}
            }
        }
        all.sort_by(|one, other| one.file.path().cmp(other.file.path()));
        Ok(all)
    }

    /// A volume or path, and with it what lies in it, is whole, or gone, or used as it is.
    fn restored(&mut self, place: &str) -> Result<(), JobError> {
        let made = self.left.made.iter().filter(|(left, _)| left.kind == Kind::Volume).map(|(left, _)| &left.id);
        let lost = self.left.lost.iter().map(|(one, _)| &one.volume);
        let known = made.chain(lost).chain(self.left.not_whole().map(|(_, one)| &one.volume));
        for volume in known.filter(|known| is_in(known, place)).cloned().collect::<BTreeSet<_>>() {
            write(&mut self.file, &Line::Restored { volume: volume.clone() })?;
            self.left.overwritten.retain(|(_, one)| one.volume != volume);
            self.left.lost.retain(|(one, _)| one.volume != volume);
            self.left.made.retain(|(left, _)| (left.kind, &left.id) != (Kind::Volume, &volume));
        }
        Ok(())
    }

    /// A container of whose own layer entries were lost was started, or is gone.
    fn accepted(&mut self, container: String) -> Result<(), JobError> {
        self.left.lost_layers.retain(|id| *id != container);
        write(&mut self.file, &Line::Accepted { container })
    }
}

/// The journal of a restore that died. One that somebody only looks at for a moment is no one that lives.
fn unheld(path: &Path) -> std::io::Result<Option<LockedFile>> {
    for _ in 0..3 {
        if let Some(file) = LockedFile::open_unheld(path)? {
            return Ok(Some(file));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    LockedFile::open_unheld(path)
}

/// Records that these volumes are whole: a restore has written all of them. Journals that somebody is just putting right are waited for. Gives
/// the volumes of which a journal that is held longer says that they are half restored.
pub(in super::super) async fn restored(engine: &str, state: &Path, volumes: Vec<&str>, limit: Duration) -> Result<Vec<String>, JobError> {
    if volumes.is_empty() {
        return Ok(Vec::new());
    }
    let deadline = clock::monotonic() + limit;
    loop {
        let mut dead = Dead::all(engine, state)?;
        for volume in &volumes {
            dead.iter_mut().try_for_each(|one| one.restored(volume))?;
        }
        drop(dead);
        let half = super::read::all(state, engine)?;
        let is_half = |volume: &&str| half.iter().any(|left| left.half().any(|(_, one)| is_in(&one.volume, volume)));
        let held: Vec<String> = volumes.iter().copied().filter(is_half).map(str::to_owned).collect();
        if held.is_empty() || clock::monotonic() >= deadline {
            return Ok(held);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Forgets of volumes that were half restored and are whole by now, or gone.
pub(super) async fn forget_whole(engine: &Engine, dead: &mut [Dead]) -> Result<(), JobError> {
    for number in 0..dead.len() {
        for volume in dead[number].left.whole() {
            dead[..number].iter_mut().try_for_each(|older| older.restored(&volume))?;
        }
        let lost = dead[number].left.lost.clone();
        for (one, at) in &lost {
            if is_used(engine, &one.volume, *at).await? {
                dead[number].restored(&one.volume)?;
            }
        }
        for container in dead[number].left.lost_layers.clone() {
            if was_started(engine, &container).await? {
                dead[number].accepted(container)?;
            }
        }
        // One that lost everything is empty, too, and not as it was.
        let lost = lost.into_iter().map(|(one, _)| (one, true));
        let half: Vec<(Overwritten, bool)> = dead[number].left.half().map(|(_, one)| (one.clone(), false)).chain(lost).collect();
        for (one, has_lost) in half {
            if one.fresh && !has_lost && is_empty(engine, &one.volume, &one.created).await {
                dead[number].restored(&one.volume)?;
                continue;
            }
            match identity(engine, &one.volume).await {
                // Nothing is at the path, as before.
                Ok(found) if found == one.created && found.ends_with('/') => dead[number].restored(&one.volume)?,
                Ok(found) if !are_different(&found, &one.created) => {}
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => dead[number].restored(&one.volume)?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn journal(state: &Path, run: &str, lines: &[Line]) -> LockedFile {
        let folder = state.join(FOLDER);
        std::fs::create_dir_all(&folder).unwrap();
        let mut file = LockedFile::create(&folder.join(format!("{run}{SUFFIX}"))).unwrap();
        for line in lines {
            write(&mut file, line).unwrap();
        }
        file
    }

    fn half() -> [Line; 2] {
        let overwriting = Line::Overwriting { application: "a".to_owned(), volume: "v".to_owned(), saved: None, created: String::new() };
        [Line::Engine { id: "e".to_owned() }, overwriting]
    }

    #[tokio::test]
    async fn a_journal_that_is_held_is_waited_for() {
        let state = tempfile::tempdir().unwrap();
        let held = journal(state.path(), "one", &half());
        let limit = Duration::from_millis(300);
        assert_eq!(restored("e", state.path(), vec!["v"], limit).await.unwrap(), ["v"], "nobody is told that it counts as half");
        let other = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            drop(held);
        });
        assert_eq!(restored("e", state.path(), vec!["v"], Duration::from_mins(1)).await.unwrap(), [""; 0]);
        assert!(super::super::half_restored(state.path(), "e").unwrap().is_empty());
        other.await.unwrap();
    }

    #[test]
    fn a_journal_in_which_nothing_stands_does_not_stay() {
        let state = tempfile::tempdir().unwrap();
        let mut cut = journal(state.path(), "cut", &[]);
        cut.append(b"\n{\"event\":\"engi").unwrap();
        drop((journal(state.path(), "blank", &[]), cut, journal(state.path(), "other", &half())));
        let living = journal(state.path(), "living", &[]);
        assert!(Dead::all("another engine", state.path()).unwrap().is_empty());
        let mut left: Vec<_> = journal_file::list(&state.path().join(FOLDER), SUFFIX).unwrap();
        left.sort();
        let names: Vec<_> = left.iter().map(|path| path.file_name().unwrap().to_str().unwrap().trim_end_matches(SUFFIX)).collect();
        assert_eq!(names, ["living", "other"]);
        drop(living);
    }
}
