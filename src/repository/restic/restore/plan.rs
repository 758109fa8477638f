//! The walk over the snapshot: folders are made, files collected into batches, and each batch worked off.
//!
//! How one file or link is restored is `prepare`'s, `data`'s and `files`' business.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use crate::model::progress::Event;
use crate::model::text::printable;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::reader::{self, Visitor};
use crate::repository::restic::tree::{Node, Tree};

use super::attributes::{Attributes, Place};
use super::data;
use super::files::{FileJob, OpenFiles};
use super::prepare::{self, FirstName, LinkJob, OtherJob, Want};
use super::run::{Halted, Run};
use super::target::{Folder, Target, look, names, type_of};

/// Entries after which a batch is worked off. In tests a few, so that every restore has many batches.
const BATCH_ENTRIES: usize = if cfg!(test) { 5 } else { 100_000 };
/// Pieces of files after which a batch is worked off.
const BATCH_PIECES: usize = 200_000;

/// How a folder or entry stands to what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Included {
    /// It is asked for, and everything in it.
    Whole,
    /// Something in it is asked for.
    Way,
    /// Nothing of it is.
    No,
}

/// A folder that the walk is in.
struct Level {
    folder: Arc<Folder>,
    /// What it gets at the end; none for the root of a snapshot, which has no metadata.
    attributes: Option<Attributes>,
    included: Included,
    /// The names seen, if the tree is not sorted and so may have one twice.
    seen: Option<HashSet<Vec<u8>>>,
}

/// What is to be done together.
#[derive(Default)]
struct Batch {
    files: Vec<FileJob>,
    others: Vec<OtherJob>,
    links: Vec<LinkJob>,
    /// Folders that are complete when the batch is, the deepest first.
    left: Vec<(Arc<Folder>, Attributes)>,
    pieces: usize,
}

/// Walks, collects and works off.
pub(super) struct Planner<'r, 'a> {
    run: &'r Run<'a>,
    levels: Vec<Level>,
    /// The folder that `entry` said is to be entered.
    next: Option<Level>,
    /// The wanted paths, and which of them were found.
    include: Vec<(Vec<u8>, bool)>,
    batch: Batch,
    /// First names of files with several, by device and inode.
    linked: HashMap<(u64, u64), Arc<FirstName>>,
    expected: (u64, u64),
}

impl<'r, 'a> Planner<'r, 'a> {
    pub(super) fn new(run: &'r Run<'a>, root: Arc<Folder>, attributes: Option<Attributes>) -> Self {
        let include: Vec<_> = run.request.include.iter().map(|path| (reader::join(reader::components(path)), false)).collect();
        let included = if include.is_empty() || include.iter().any(|(path, _)| path == b"/") { Included::Whole } else { Included::Way };
        if attributes.is_some() {
            Run::count(&run.counters.entries, 1);
        }
        Self {
            run,
            levels: Vec::new(),
            next: Some(Level { folder: root, attributes, included, seen: None }),
            include: if included == Included::Whole { Vec::new() } else { include },
            batch: Batch::default(),
            linked: HashMap::new(),
            expected: (0, 0),
        }
    }

    /// Restores one entry that is no folder, into the root.
    pub(super) fn single(&mut self, node: Node) -> Result<(), RepositoryError> {
        self.levels.extend(self.next.take());
        self.entry(node).map(|_| ())
    }

    /// Works off what is left. To be called after the walk.
    pub(super) fn finish(mut self) -> Result<(), RepositoryError> {
        self.work_off().map_err(|halted| self.run.why(halted))?;
        for (path, found) in &self.include {
            if !found {
                self.run.problem(path, "not in the snapshot".to_owned());
            }
        }
        Ok(())
    }

    /// Whether an entry of the current folder was asked for.
    fn included(&self, name: &[u8]) -> Included {
        let Some(level) = self.levels.last() else { return Included::No };
        if level.included == Included::Whole {
            return Included::Whole;
        }
        let path = self.relative(level, name);
        let mut best = Included::No;
        for (wanted, _) in &self.include {
            if *wanted == path {
                return Included::Whole;
            }
            if wanted.strip_prefix(&path[..]).is_some_and(|rest| rest.starts_with(b"/")) {
                best = Included::Way;
            }
        }
        best
    }

    /// The path of an entry below the root of the restore.
    fn relative(&self, level: &Level, name: &[u8]) -> Vec<u8> {
        let root = self.levels.first().map_or(0, |root| root.folder.path.len());
        level.folder.path_of(name).split_off(root)
    }

    fn expect(&mut self, bytes: u64) {
        self.expected = (self.expected.0 + 1, self.expected.1 + bytes);
        if self.expected.0 >= 1024 {
            self.tell_expected();
        }
    }

    fn tell_expected(&mut self) {
        let (entries, bytes) = std::mem::take(&mut self.expected);
        if entries > 0 {
            self.run.progress.event(Event::Expected { entries, bytes });
        }
    }

    fn folder(&mut self, parent: &Arc<Folder>, node: &Node, included: Included) -> bool {
        let folder = match make_folder(self.run, parent, &node.name) {
            Ok(folder) => folder,
            Err((action, error)) => {
                self.run.failed(&parent.path_of(&node.name), action, error);
                return false;
            }
        };
        let attributes = Attributes::from(&node.metadata);
        if node.subtree.is_none() {
            self.run.problem(&folder.path, "its content is not in the snapshot".to_owned());
            self.batch.left.push((folder, attributes));
            return false;
        }
        self.next = Some(Level { folder, attributes: Some(attributes), included, seen: None });
        true
    }

    /// Notes an entry that is no folder for the batch.
    fn leaf(&mut self, folder: Arc<Folder>, node: Node) {
        let attributes = Attributes::from(&node.metadata);
        let mut links = 0;
        if node.is_linked() {
            links = node.metadata.links;
            let name = || node.name.clone().into_boxed_slice();
            if let Some(first) = self.linked.get(&(node.metadata.device, node.metadata.inode)) {
                self.batch.links.push(LinkJob { folder, name: name(), first: Arc::clone(first) });
                return;
            }
            let first = FirstName { folder: Arc::clone(&folder), name: name() };
            self.linked.insert((node.metadata.device, node.metadata.inode), Arc::new(first));
        }
        if node.metadata.is_file() {
            Run::count(&self.run.counters.total_bytes, node.metadata.size);
            self.batch.pieces += node.content.len();
            self.batch.files.push(FileJob::new(folder, node.name, node.metadata.size, links, node.content, attributes));
        } else {
            self.batch.others.push(OtherJob { folder, name: node.name.into(), kind: node.metadata.kind, attributes });
        }
    }

    /// Restores everything that was collected.
    fn work_off(&mut self) -> Result<(), Halted> {
        self.tell_expected();
        let run = self.run;
        let batch = std::mem::take(&mut self.batch);
        run.go_on()?;
        let files = OpenFiles::new(&batch.files);
        let threads = reader::cores();
        data::in_parallel(run, threads, batch.others.len(), || (), |(), number| prepare::other(run, &batch.others[number]));
        run.go_on()?;
        let wants = data::in_parallel(run, threads, batch.files.len(), <(Vec<u8>, Vec<Want>)>::default, |(buffer, wants), number| {
            prepare::file(run, &files, number as u32, &batch.files[number], buffer, wants);
        });
        run.go_on()?;
        let mut wants: Vec<Want> = wants.into_iter().flat_map(|(_, wants)| wants).collect();
        wants.sort_unstable_by_key(|want| (want.file, want.at));
        data::restore(run, &batch.files, &files, wants);
        run.go_on()?;
        for link in &batch.links {
            run.go_on()?;
            prepare::link(run, link);
        }
        for (folder, attributes) in &batch.left {
            run.go_on()?;
            finish_folder(run, folder, attributes);
        }
        run.go_on()
    }
}

/// Makes a folder, or takes the one that is there. What stands in its way is replaced.
fn make_folder(run: &Run<'_>, parent: &Arc<Folder>, name: &[u8]) -> Result<Arc<Folder>, (&'static str, std::io::Error)> {
    if run.request.dry_run {
        let there = if parent.is_new() {
            None
        } else {
            let above = run.target.open(parent).map_err(|error| ("open the folder above", error))?;
            look(above.as_fd(), name).map_err(|error| ("look at what is there", error))?
        };
        let is_new = there.is_none_or(|stat| type_of(&stat) != FileType::Directory);
        return Ok(run.target.folder(parent, name, is_new));
    }
    let above = run.target.open(parent).map_err(|error| ("open the folder above", error))?;
    let make = || rustix::fs::mkdirat(&*above, name, Mode::RWXU);
    let failed = |error: Errno| ("make the folder", error.into());
    match make() {
        Ok(()) => return Ok(run.target.folder(parent, name, true)),
        Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    let there = look(above.as_fd(), name).map_err(|error| ("look at what is there", error))?;
    if there.is_some_and(|stat| type_of(&stat) == FileType::Directory) {
        return Ok(run.target.folder(parent, name, false));
    }
    Target::remove(above.as_fd(), name, false, &|| true).map_err(|error| ("remove what is in the way", error))?;
    make().map_err(failed)?;
    Ok(run.target.folder(parent, name, true))
}

fn finish_folder(run: &Run<'_>, folder: &Folder, attributes: &Attributes) {
    if run.request.dry_run {
        return;
    }
    match run.target.open(folder) {
        Ok(handle) => run.failures(&folder.path, attributes.apply(Place::Folder(handle.as_fd()), run.request.owners)),
        Err(error) => run.failed(&folder.path, "open the folder", error),
    }
    run.target.close(folder);
}

/// Removes what is in a folder and not in its tree.
fn remove_extra(run: &Run<'_>, folder: &Arc<Folder>, tree: &Tree) -> Result<(), Halted> {
    let open = run.target.open(folder).and_then(|handle| names(handle.as_fd()).map(|names| (handle, names)));
    let (handle, names) = match open {
        Ok(open) => open,
        Err(error) => {
            run.failed(&folder.path, "list the folder", error);
            return Ok(());
        }
    };
    let known = tree.nodes.iter().map(|node| &node.name).chain(tree.unknown.iter().map(|node| &node.name));
    let known: HashSet<&[u8]> = known.map(|name| &name[..]).collect();
    for name in names.iter().filter(|name| !known.contains(&name[..])) {
        run.go_on()?;
        let removed = if run.request.dry_run { Ok(1) } else { Target::remove(handle.as_fd(), name, true, &|| run.go_on().is_ok()) };
        match removed {
            Ok(removed) => Run::count(&run.counters.files_deleted, removed),
            // The first check above says why the restore ends.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                run.keep(&folder.path_of(name), format!("it is not in the snapshot and stays: {error}"));
            }
            Err(error) => run.failed(&folder.path_of(name), "remove what is not in the snapshot", error),
        }
    }
    Ok(())
}

impl Visitor for Planner<'_, '_> {
    fn wants(&self, node: &Node) -> bool {
        self.included(&node.name) != Included::No
    }

    fn entry(&mut self, node: Node) -> Result<bool, RepositoryError> {
        self.run.go_on().map_err(|halted| self.run.why(halted))?;
        let included = self.included(&node.name);
        if included == Included::No || (included == Included::Way && !node.metadata.is_dir()) {
            return Ok(false);
        }
        let Some(level) = self.levels.last() else { return Ok(false) };
        let folder = Arc::clone(&level.folder);
        if !self.include.is_empty() {
            let path = self.relative(level, &node.name);
            for (wanted, found) in &mut self.include {
                *found |= *wanted == path;
            }
        }
        Run::count(&self.run.counters.entries, 1);
        if let Err(error) = node.check_name() {
            self.run.problem(&folder.path_of(&node.name), format!("not restored: {error}"));
            return Ok(false);
        }
        if let Some(seen) = self.levels.last_mut().and_then(|level| level.seen.as_mut())
            && !seen.insert(node.name.clone())
        {
            self.run.problem(&folder.path_of(&node.name), "not restored: the folder has this name twice".to_owned());
            return Ok(false);
        }
        self.expect(node.metadata.size);
        if node.metadata.is_dir() {
            return Ok(self.folder(&folder, &node, included));
        }
        self.leaf(folder, node);
        let batch = &self.batch;
        if batch.pieces >= BATCH_PIECES || batch.files.len() + batch.others.len() + batch.links.len() >= BATCH_ENTRIES {
            self.work_off().map_err(|halted| self.run.why(halted))?;
        }
        Ok(false)
    }

    fn entered(&mut self, tree: &Tree) -> Result<(), RepositoryError> {
        let Some(mut level) = self.next.take() else { return Ok(()) };
        for unknown in &tree.unknown {
            let path = level.folder.path_of(&unknown.name);
            self.run.problem(&path, format!("not restored: entries of type `{}` are not known", printable(unknown.kind.as_bytes())));
        }
        if !tree.nodes.is_sorted_by(|a, b| a.name < b.name) {
            level.seen = Some(HashSet::new());
        }
        if self.run.request.delete_extra && level.included == Included::Whole && !level.folder.is_new() {
            remove_extra(self.run, &level.folder, tree).map_err(|halted| self.run.why(halted))?;
        }
        self.levels.push(level);
        Ok(())
    }

    fn unreadable(&mut self, error: RepositoryError) -> Result<(), RepositoryError> {
        if let Some(level) = self.next.take() {
            self.run.problem(&level.folder.path, format!("its content is lost: {error}"));
            self.levels.push(level);
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), RepositoryError> {
        if let Some(level) = self.levels.pop()
            && let Some(attributes) = level.attributes
        {
            self.batch.left.push((level.folder, attributes));
        }
        Ok(())
    }
}
