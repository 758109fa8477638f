//! From flags to what jobs are asked: sets with their overrides, items, renames, parts to check.
//!
//! It decides what words mean together; what exists on the host or in the repository is asked later.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::arguments::{Backup, Check, Narrow, Restore};
use super::text::safe;
use super::time;
use crate::config::{BackupSet, Config, DEFAULT_ENGINE, Images, Selection, suggest};
use crate::jobs::error::JobError;
use crate::jobs::request::{Rename, RestoreSelection};
use crate::jobs::select::{Item, Narrowing};
use crate::model::size::ByteSize;
use crate::platform::clock;
use crate::repository::contract::{ReadData, TAG_APPLICATION, TAG_BEFORE_RESTORE, TAG_PARTIAL, TAG_RUN, TAG_SET};

/// The sets that a backup is asked for, with what the flags say of them.
/// `engine` is the one that was asked for.
pub(super) fn sets(arguments: &Backup, config: &Config, engine: Option<&str>) -> Result<Vec<BackupSet>, JobError> {
    let mut sets = unnarrowed(arguments, config)?;
    if let Some(engine) = engine {
        on_engine(&mut sets, engine, !arguments.sets.is_empty())?;
    }
    for set in &mut sets {
        override_policy(set, arguments)?;
    }
    if arguments.config_only || arguments.volumes_only {
        // Paths of the host are neither.
        for set in &mut sets {
            set.selection.paths.clear();
        }
        sets.retain(|set| set.selection != Selection::default());
        if sets.is_empty() {
            let message = "of what was asked for nothing is left: --config-only and --volumes-only leave out paths of the host";
            return Err(JobError::request("nothing_left", message, "Take the flag away."));
        }
    }
    Ok(sets)
}

/// Takes what was put together on the command line from this Engine; of sets with names only those of it are left.
fn on_engine(sets: &mut Vec<BackupSet>, engine: &str, named: bool) -> Result<(), JobError> {
    let is_of = |set: &BackupSet| set.engine.as_deref().unwrap_or(DEFAULT_ENGINE) == engine;
    for set in sets.iter_mut().filter(|set| set.name.is_none()) {
        if engine != DEFAULT_ENGINE && !set.selection.paths.is_empty() {
            let message = "paths are of this machine, not of an Engine";
            return Err(JobError::request("paths_of_engine", message, "Take --engine or --paths away."));
        }
        set.engine = (engine != DEFAULT_ENGINE).then(|| engine.to_owned());
    }
    if let Some(other) = sets.iter().find(|set| named && !is_of(set)) {
        let message =
            format!("the backup set `{}` is not of the Engine `{}`", safe(other.name.as_deref().unwrap_or_default()), safe(engine));
        return Err(JobError::request("other_engine", message, "A set says itself which Engine it is of: take --engine away."));
    }
    sets.retain(is_of);
    if sets.is_empty() {
        let message = format!("the configuration has no enabled backup set of the Engine `{}`", safe(engine));
        return Err(JobError::request("no_set", message, "Name what to back up, or use --all for everything."));
    }
    Ok(())
}

fn unnarrowed(arguments: &Backup, config: &Config) -> Result<Vec<BackupSet>, JobError> {
    let chosen_here = arguments.all
        || !(arguments.containers.is_empty()
            && arguments.projects.is_empty()
            && arguments.volumes.is_empty()
            && arguments.paths.is_empty());
    Ok(if chosen_here {
        vec![chosen_on_the_command_line(arguments)?]
    } else if !arguments.sets.is_empty() {
        named(&arguments.sets, config)?
    } else if config.source.is_none() {
        vec![BackupSet { selection: Selection { everything: true, ..Selection::default() }, ..BackupSet::default() }]
    } else {
        let enabled: Vec<BackupSet> = config.sets.iter().filter(|set| set.enabled).cloned().collect();
        if enabled.is_empty() {
            let message = "the configuration has no enabled backup set";
            return Err(JobError::request("no_set", message, "Name what to back up, or use --all for everything."));
        }
        enabled
    })
}

fn chosen_on_the_command_line(arguments: &Backup) -> Result<BackupSet, JobError> {
    let paths = arguments.paths.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?;
    Ok(BackupSet {
        selection: Selection {
            everything: arguments.all,
            containers: arguments.containers.clone(),
            projects: arguments.projects.clone(),
            volumes: arguments.volumes.clone(),
            labels: Vec::new(),
            paths,
        },
        ..BackupSet::default()
    })
}

fn named(names: &[String], config: &Config) -> Result<Vec<BackupSet>, JobError> {
    let mut sets: Vec<BackupSet> = Vec::new();
    for name in names {
        let Some(set) = config.set(name) else {
            let known: Vec<&str> = config.sets.iter().filter_map(|set| set.name.as_deref()).collect();
            let meant = suggest::sentence(name, known.iter().copied());
            let hint = match known.as_slice() {
                [] => "The configuration has no backup sets.".to_owned(),
                known => format!("There are: {}.", known.join(", ")),
            };
            return Err(JobError::request("unknown_set", format!("there is no backup set `{}`{meant}", safe(name)), hint));
        };
        if !sets.contains(set) {
            sets.push(set.clone());
        }
    }
    Ok(sets)
}

fn override_policy(set: &mut BackupSet, arguments: &Backup) -> Result<(), JobError> {
    set.filter.exclude.extend(arguments.exclude.iter().cloned());
    for file in &arguments.exclude_file {
        set.filter.exclude_files.push(absolute(file)?);
    }
    set.filter.exclude_if_present.extend(arguments.exclude_if_present.iter().cloned());
    set.filter.one_file_system |= arguments.one_file_system;
    let scope = &mut set.scope;
    if arguments.config_only {
        (scope.volumes, scope.binds, scope.logs, scope.layers, scope.images) = (false, false, false, false, Images::None);
    }
    if arguments.volumes_only {
        (scope.configs, scope.logs, scope.networks, scope.compose) = (false, false, false, false);
        (scope.binds, scope.layers, scope.images) = (false, false, Images::None);
    }
    scope.networks &= !arguments.no_networks;
    scope.logs &= !arguments.no_logs;
    if let Some(consistency) = arguments.consistency {
        set.consistency = consistency.into();
    }
    Ok(())
}

/// The user's own tags, checked.
pub(super) fn tags(tags: &[String]) -> Result<Vec<String>, JobError> {
    for tag in tags {
        let reserved = tag == TAG_PARTIAL
            || tag == TAG_BEFORE_RESTORE
            || [TAG_APPLICATION, TAG_SET, TAG_RUN].iter().any(|prefix| tag.starts_with(prefix));
        if reserved {
            let message = format!("the tag `{}` is one that bbackup sets itself", safe(tag));
            return Err(JobError::request("reserved_tag", message, "Choose another word."));
        }
        if tag.trim().is_empty() || tag.chars().any(char::is_control) {
            return Err(JobError::request("bad_tag", format!("`{}` cannot be a tag", safe(tag)), "A tag is a word or some words."));
        }
    }
    Ok(tags.to_vec())
}

/// Which snapshots are looked at.
pub(super) fn narrowing(narrow: &Narrow) -> Result<Narrowing, JobError> {
    let before = match &narrow.before {
        None => None,
        Some(text) => {
            let time = time::parse(text, clock::now(), &clock::local_zone());
            Some(time.map_err(|message| JobError::request("bad_time", message, ""))?)
        }
    };
    Ok(Narrowing { set: narrow.set.clone(), hosts: narrow.host.iter().cloned().collect(), tags: narrow.tag.clone(), before })
}

/// What of the snapshots is restored.
pub(super) fn restore_selection(arguments: &Restore) -> Result<RestoreSelection, JobError> {
    Ok(RestoreSelection {
        containers: arguments.container.clone(),
        volumes: arguments.volume.clone(),
        networks: arguments.network.clone(),
        paths: arguments.path.iter().map(|path| in_snapshot(path)).collect::<Result<_, _>>()?,
    })
}

/// The same as items that a snapshot must hold.
pub(super) fn items(selection: &RestoreSelection) -> Vec<Item> {
    let containers = selection.containers.iter().cloned().map(Item::Container);
    let volumes = selection.volumes.iter().cloned().map(Item::Volume);
    let networks = selection.networks.iter().cloned().map(Item::Network);
    let paths = selection.paths.iter().cloned().map(Item::Place);
    containers.chain(volumes).chain(networks).chain(paths).collect()
}

/// `old:new` pairs.
pub(super) fn renames(words: &[String]) -> Result<Vec<Rename>, JobError> {
    let mut renames: Vec<Rename> = Vec::new();
    for word in words {
        let bad = |message: String| JobError::request("bad_rename", message, "Write --rename old:new.");
        let (from, to) = word.split_once(':').ok_or_else(|| bad(format!("`{}` does not say a new name", safe(word))))?;
        // A port may name its protocol (53/udp); that it is one of both is for the plan to see, which knows what has which name.
        let is_port = from.starts_with(|c: char| c.is_ascii_digit());
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') || (is_port && c == '/');
        if from.is_empty() || !to.starts_with(|c: char| c.is_ascii_alphanumeric()) || !to.chars().all(good) {
            return Err(bad(format!("`{}` cannot be a name on a Docker Engine", safe(to))));
        }
        if renames.iter().any(|rename| rename.from == from) {
            return Err(bad(format!("`{}` gets two new names", safe(from))));
        }
        renames.push(Rename { from: from.to_owned(), to: to.to_owned() });
    }
    Ok(renames)
}

/// How much a check reads.
pub(super) fn read_data(arguments: &Check) -> Result<ReadData, JobError> {
    let Some(text) = &arguments.read_data_subset else {
        return Ok(if arguments.read_data { ReadData::All } else { ReadData::None });
    };
    let bad = || {
        let message = format!("`{}` is not a part of a repository", safe(text));
        JobError::request("bad_subset", message, "Write 2/5 (the second of five parts), 10%, or a size such as 500M.")
    };
    if let Some((group, groups)) = text.split_once('/') {
        let (group, groups) = (group.trim().parse().map_err(|_| bad())?, groups.trim().parse().map_err(|_| bad())?);
        return if group >= 1 && group <= groups { Ok(ReadData::Group(group, groups)) } else { Err(bad()) };
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().map_err(|_| bad())?;
        return if percent > 0.0 && percent <= 100.0 { Ok(ReadData::Percent(percent)) } else { Err(bad()) };
    }
    match text.parse() {
        Ok(ByteSize(bytes)) if bytes > 0 => Ok(ReadData::Bytes(bytes)),
        _ => Err(bad()),
    }
}

/// A path of this machine made absolute, without `.` and `..`.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, JobError> {
    let action = || format!("find {}", safe(&path.to_string_lossy()));
    if path.as_os_str().is_empty() {
        return Err(JobError::request("empty_path", "a path is empty", ""));
    }
    if path.components().any(|component| component == Component::ParentDir) {
        // What `..` means behind a symbolic link only the file system knows.
        return std::fs::canonicalize(path).map_err(|source| JobError::Own { action: action(), source });
    }
    std::path::absolute(path).map(|path| path.components().collect()).map_err(|source| JobError::Own { action: action(), source })
}

/// A path in a snapshot: absolute, without `.` and `..`. A relative one starts at the working folder, as at the backup.
pub(super) fn in_snapshot(path: &Path) -> Result<Vec<u8>, JobError> {
    let whole = std::path::absolute(path).map_err(|source| JobError::Own { action: format!("find {}", path.display()), source })?;
    let mut clean = PathBuf::new();
    for component in whole.components() {
        match component {
            Component::ParentDir => _ = clean.pop(),
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    Ok(clean.as_os_str().as_bytes().to_vec())
}

#[cfg(test)]
mod tests;
