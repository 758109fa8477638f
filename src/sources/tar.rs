//! The source over a tar stream, as the Docker Engine's archive API gives it.
//!
//! A stream is not trusted: it may be cut anywhere, be damaged, or name places outside its folder. It is complete only when its
//! two blocks of zeros were seen; anything else fails the whole source. Getting the stream is `docker/archive`'s business.
//!
//! Hard links: the stream says only at the second name that a file has two. So every regular file gets a made-up inode number,
//! the same in every backup as long as its path is the same, and `links` is 1; a further name comes as [`Content::HardLink`] with the
//! inode number of the first and `links` 2, its size zero. Whoever stores the entries takes size and data from the first and,
//! so that a restore links the two again, sets the `links` of the first to 2 as well. What a stream does not tell at all: `ctime` and
//! `atime` are `mtime` unless given, `device` is zero, `user` and `group` are empty unless given.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::Counts;
use crate::model::entry::{Content, Entry, EntryProblem, Kind, Metadata, Source, Step};
use crate::model::text::printable;

mod body;
mod header;
mod pax;
mod sparse;

use body::{Body, Stream};
use header::{BLOCK, Header};
use pax::Records;
use sparse::Map;

/// Extended headers and long names beyond this size are refused: they are read into memory.
const MOST_HEADER_BYTES: u64 = 8 << 20;

/// The source over a tar stream.
pub struct TarSource<R> {
    /// Shared with the body that was given last; bodies read, the source skips what they left.
    stream: Arc<Mutex<Stream<R>>>,
    /// The folder in the stream that becomes the root, as names have it, without slashes around it.
    top: Vec<u8>,
    global: Records,
    order: Order,
    /// Links, devices and so on that were given, by path: what a hard link to one of them is, its own header does not say.
    specials: HashMap<Vec<u8>, Kind>,
    waiting: VecDeque<Step>,
    counts: Arc<Counts>,
}

impl<R> std::fmt::Debug for TarSource<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarSource").field("top", &printable(&self.top)).field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// Checks that entries come in tree order.
#[derive(Debug, Default)]
struct Order {
    previous: Option<(Vec<u8>, bool)>,
}

impl Order {
    /// Takes the next path and whether it is a folder.
    fn step(&mut self, path: &[u8], is_dir: bool) -> Result<(), TarError> {
        if let Some((previous, previous_is_dir)) = &self.previous {
            let out_of_order = || TarError::Order { previous: printable(previous), path: printable(path) };
            // A slash ends a name, so it sorts before every byte of one.
            let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
            if !previous.iter().map(key).lt(path.iter().map(key)) {
                return Err(out_of_order());
            }
            // The folder it lies in was given: it is the previous entry or one of the folders above that.
            let above = parent(path);
            let known = if above == previous { *previous_is_dir } else { is_above(above, previous) };
            if !known {
                return Err(out_of_order());
            }
        }
        self.previous = Some((path.to_vec(), is_dir));
        Ok(())
    }
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

fn is_above(above: &[u8], path: &[u8]) -> bool {
    above.is_empty() && !path.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.starts_with(b"/"))
}

impl<R: Read + Send + 'static> TarSource<R> {
    /// Reads a stream whose entries all lie in the folder `top` (`_data`, `volume`), which becomes the root; `top` may as well
    /// be a single file. With an empty `top` the names are relative to the root, which is made up if the stream has no `./`.
    pub fn new(reader: R, top: &[u8]) -> Self {
        Self {
            stream: Arc::new(Mutex::new(Stream::new(BufReader::with_capacity(128 * BLOCK, reader)))),
            top: top.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect::<Vec<_>>().join(&b'/'),
            global: Records::default(),
            order: Order::default(),
            specials: HashMap::new(),
            waiting: VecDeque::new(),
            counts: Arc::default(),
        }
    }

    /// The numbers of the source, which go on counting while it is read elsewhere.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    fn stream(&self) -> MutexGuard<'_, Stream<R>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads up to the next entry, or to the end.
    fn advance(&mut self) -> Result<Step, TarError> {
        self.stream().skip_body()?;
        let mut records = self.global.clone();
        let (mut long_name, mut long_link) = (None, None);
        let mut described = false;
        loop {
            let block = self.stream().header_block()?;
            if block.iter().all(|byte| *byte == 0) {
                if described {
                    return Err(TarError::ExtendedHeader);
                }
                return self.end();
            }
            let header = Header::parse(&block)?;
            match header.type_flag() {
                b'x' => records.add(&self.small_body(&header)?)?,
                b'g' => {
                    let data = self.small_body(&header)?;
                    self.global.add(&data)?;
                    records.add(&data)?;
                    continue;
                }
                b'L' => long_name = Some(header::text(&self.small_body(&header)?).to_vec()),
                b'K' => long_link = Some(header::text(&self.small_body(&header)?).to_vec()),
                _ => {
                    records.path = records.path.or(long_name);
                    records.link_path = records.link_path.or(long_link);
                    return self.entry(&header, records);
                }
            }
            described = true;
        }
    }

    /// The body of a header that describes another one.
    fn small_body(&self, header: &Header<'_>) -> Result<Vec<u8>, TarError> {
        let size = header.size()?;
        if size > MOST_HEADER_BYTES {
            return Err(TarError::ExtendedHeader);
        }
        let mut stream = self.stream();
        stream.begin_body(size);
        stream.small_body()
    }

    /// Takes the second block of zeros and what a program may have filled its last record with.
    fn end(&mut self) -> Result<Step, TarError> {
        let mut stream = self.stream();
        if stream.header_block()?.iter().any(|byte| *byte != 0) {
            return Err(TarError::LoneZeroBlock);
        }
        stream.take_padding()?;
        drop(stream);
        if self.counts.entries() == 0 {
            return Err(TarError::Empty);
        }
        self.counts.set_complete();
        Ok(Step::End)
    }

    /// Makes an entry of its header and what was said before it.
    fn entry(&mut self, header: &Header<'_>, mut records: Records) -> Result<Step, TarError> {
        let raw_name = match records.sparse.name.take().or(records.path.take()) {
            Some(name) => name,
            None => header.name(),
        };
        let path = self.relative(&raw_name)?;
        let stored = match records.size {
            Some(size) if i64::try_from(size).is_err() => return Err(TarError::Field { field: "size" }),
            Some(size) => size,
            None => header.size()?,
        };
        // Old programs mark a folder by nothing but the slash.
        let flag = match header.type_flag() {
            b'0' | b'7' | 0 if raw_name.ends_with(b"/") => b'5',
            flag => flag,
        };
        let link_target = records.link_path.take().unwrap_or_else(|| header.link_name());
        let mut linked_to = None;
        let kind = match flag {
            b'0' | b'7' | 0 | b'S' => Kind::File,
            b'1' => {
                let target = self.link_target(&link_target, &path)?;
                let kind = self.specials.get(&target).cloned().unwrap_or(Kind::File);
                linked_to = Some(target);
                kind
            }
            b'2' => Kind::Symlink { target: link_target },
            b'3' => Kind::CharDevice { rdev: header.rdev()? },
            b'4' => Kind::BlockDevice { rdev: header.rdev()? },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            flag => return Err(TarError::UnknownType { flag: flag.escape_ascii().to_string(), path: printable(&path) }),
        };
        let is_data = kind == Kind::File && linked_to.is_none();
        if matches!(&kind, Kind::Symlink { target } if target.is_empty() || target.contains(&0)) {
            return Err(TarError::Name { name: printable(&raw_name), reason: "it is a link to nothing" });
        }
        self.root_before(&path)?;
        self.order.step(&path, kind == Kind::Directory)?;
        self.stream().begin_entry(&path);
        let lost = std::mem::take(&mut records.lost);
        let sparse = std::mem::take(&mut records.sparse);
        let mut metadata = metadata(header, records, kind)?;
        let content = if is_data {
            let map = self.begin_data(header, flag, stored, sparse)?;
            metadata.size = map.as_ref().map_or(stored, |map| map.size);
            metadata.inode = made_up_inode(&path);
            if metadata.size == 0 {
                Content::Bytes(Vec::new())
            } else {
                let mut stream = self.stream();
                let number = stream.begin_file(map);
                drop(stream);
                Content::Stream(Box::new(Body::new(Arc::clone(&self.stream), number)))
            }
        } else if let Some(target) = linked_to {
            metadata.inode = made_up_inode(&target);
            metadata.links = 2;
            if metadata.is_file() { Content::HardLink(target) } else { Content::None }
        } else {
            if !metadata.is_dir() {
                metadata.inode = made_up_inode(&path);
                self.specials.insert(path.clone(), metadata.kind.clone());
            }
            Content::None
        };
        for what in lost {
            self.waiting.push_back(Step::Problem(EntryProblem {
                path: path.clone(),
                error: io::Error::new(io::ErrorKind::Unsupported, format!("the stream has {what}, which cannot be kept")),
            }));
        }
        self.counts.add_entry(metadata.size);
        let entry = Step::Entry(Entry { path, metadata, content });
        // A root that had to be made up goes before.
        if self.waiting.front().is_some_and(|step| matches!(step, Step::Entry(_))) {
            self.waiting.insert(1, entry);
            return Ok(self.waiting.pop_front().unwrap_or(Step::End));
        }
        Ok(entry)
    }

    /// Begins the body of a regular file, and gives the map of a sparse one.
    fn begin_data(&mut self, header: &Header<'_>, flag: u8, stored: u64, sparse: sparse::Records) -> Result<Option<Map>, TarError> {
        let mut stream = self.stream();
        if flag == b'S' {
            let map = Map::of_old_header(header.block(), || stream.header_block())?;
            stream.begin_body(stored);
            return if map.stored() == stored { Ok(Some(map)) } else { Err(TarError::Sparse) };
        }
        stream.begin_body(stored);
        let Some(map) = sparse.map(|| stream.body_block())? else { return Ok(None) };
        if stream.left() == map.stored() { Ok(Some(map)) } else { Err(TarError::Sparse) }
    }

    /// Gives a root to a stream that has none of its own; with a `top`, the stream must begin with it.
    fn root_before(&mut self, path: &[u8]) -> Result<(), TarError> {
        if self.order.previous.is_some() || path.is_empty() {
            return Ok(());
        }
        if !self.top.is_empty() {
            return Err(TarError::NoRoot { top: printable(&self.top) });
        }
        self.order.step(b"", true)?;
        self.counts.add_entry(0);
        self.waiting.push_back(Step::Entry(Entry { path: Vec::new(), metadata: Metadata::virtual_directory(), content: Content::None }));
        Ok(())
    }

    /// The path in the root that a name in the stream means.
    fn relative(&self, name: &[u8]) -> Result<Vec<u8>, TarError> {
        let refuse = |reason| TarError::Name { name: printable(name), reason };
        if name.starts_with(b"/") {
            return Err(refuse("it is absolute"));
        }
        if name.contains(&0) {
            return Err(refuse("it has a zero byte in it"));
        }
        if name.is_empty() {
            return Err(refuse("it is empty"));
        }
        let mut path = Vec::with_capacity(name.len());
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(refuse("it leads upwards")),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        if self.top.is_empty() {
            return Ok(path);
        }
        match path.strip_prefix(&self.top[..]) {
            Some([]) => Ok(Vec::new()),
            Some([b'/', rest @ ..]) => Ok(rest.to_vec()),
            _ => Err(refuse("it lies outside the folder that was asked for")),
        }
    }

    /// The earlier entry that a hard link names.
    fn link_target(&self, name: &[u8], path: &[u8]) -> Result<Vec<u8>, TarError> {
        let target = self.relative(name)?;
        let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        if target.iter().map(key).lt(path.iter().map(key)) && !is_above(&target, path) {
            Ok(target)
        } else {
            Err(TarError::Name { name: printable(path), reason: "it is a hard link to what is no earlier file" })
        }
    }
}

impl<R: Read + Send + 'static> Source for TarSource<R> {
    fn next_step(&mut self) -> io::Result<Step> {
        let step = match self.waiting.pop_front() {
            Some(step) => step,
            None => self.advance().map_err(|error| self.stream().failure(error))?,
        };
        if matches!(step, Step::Problem(_)) {
            self.counts.add_problem();
        }
        Ok(step)
    }
}

fn metadata(header: &Header<'_>, records: Records, kind: Kind) -> Result<Metadata, TarError> {
    let owner = |given: Option<Vec<u8>>, plain: &[u8]| String::from_utf8(given.unwrap_or_else(|| plain.to_vec())).unwrap_or_default();
    let mtime = match records.mtime {
        Some(mtime) => mtime,
        None => header.mtime()?,
    };
    let mut xattrs = records.xattrs;
    xattrs.sort_unstable();
    Ok(Metadata {
        kind,
        mode: header.mode()?,
        uid: records.uid.map_or_else(|| header.uid(), Ok)?,
        gid: records.gid.map_or_else(|| header.gid(), Ok)?,
        user: owner(records.user, header.user()),
        group: owner(records.group, header.group()),
        size: 0,
        mtime,
        atime: records.atime.unwrap_or(mtime),
        ctime: records.ctime.unwrap_or(mtime),
        inode: 0,
        device: 0,
        links: 1,
        xattrs,
    })
}

/// An inode number that depends on nothing but the path, so that a backup of the same files gives the same trees.
fn made_up_inode(path: &[u8]) -> u64 {
    let hash = Sha256::digest(path);
    let first = hash.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte));
    // Never zero, which means unknown, and never negative for those who read it with a sign.
    (first >> 1).max(1)
}

/// Whether reading failed because the stream broke off. Another one of the same files may be whole. One that stalled is not
/// asked for again: that took minutes, while somebody is kept still.
pub fn is_cut(error: &io::Error) -> bool {
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref::<TarFailure>()).map(|failure| &failure.error) {
        Some(TarError::Truncated { .. }) => true,
        Some(TarError::Read(error)) => error.kind() != io::ErrorKind::TimedOut,
        _ => false,
    }
}

/// Why a stream is no whole and well-formed archive, and how far it got.
#[derive(Debug, thiserror::Error)]
#[error("the archive stream failed at byte {offset}, {}", self.place())]
pub struct TarFailure {
    /// Where: the byte of the stream at which it ended or broke off, or at which the header begins that is wrong or whose data is.
    pub offset: u64,
    /// Entries that have begun before.
    pub entries: u64,
    /// The last of them, made printable.
    pub last: Option<String>,
    /// Cause.
    #[source]
    pub error: TarError,
}

impl TarFailure {
    fn place(&self) -> String {
        let Some(last) = &self.last else { return "before its first entry".to_owned() };
        let entries = if self.entries == 1 { "entry" } else { "entries" };
        format!("after {} {entries}, the last of them `{}`", self.entries, if last.is_empty() { "." } else { last })
    }
}

/// What is wrong with a tar stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The stream ended before its end marker.
    #[error("the stream ended without its end marker, {place}")]
    Truncated {
        /// Where it ended.
        place: &'static str,
    },
    /// Reading failed.
    #[error("the stream broke off")]
    Read(#[source] io::Error),
    /// A header's checksum is wrong.
    #[error("a header has a wrong checksum")]
    Checksum,
    /// A number in a header is none, or too large.
    #[error("a header has no valid {field}")]
    Field {
        /// Which one.
        field: &'static str,
    },
    /// An extended header is malformed, too long, or describes nothing.
    #[error("an extended header is malformed")]
    ExtendedHeader,
    /// The map of a sparse file is malformed.
    #[error("the map of a sparse file is malformed")]
    Sparse,
    /// A name that is not allowed.
    #[error("the entry `{name}` is refused: {reason}")]
    Name {
        /// The name, made printable.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// A kind of entry that is not known.
    #[error("the entry `{path}` has the unknown type `{flag}`")]
    UnknownType {
        /// The type flag.
        flag: String,
        /// The entry, made printable.
        path: String,
    },
    /// Entries are not in tree order, come twice, or lie in no folder.
    #[error("the entry `{path}` is out of order after `{previous}`")]
    Order {
        /// The entry before, made printable.
        previous: String,
        /// The entry, made printable.
        path: String,
    },
    /// The folder that was asked for does not come first.
    #[error("the stream does not begin with `{top}`")]
    NoRoot {
        /// What was asked for, made printable.
        top: String,
    },
    /// There is an end marker but nothing before it.
    #[error("the stream holds no entry")]
    Empty,
    /// One block of zeros where the end marker has two.
    #[error("a single block of zeros stands in the middle of the stream")]
    LoneZeroBlock,
    /// Something stands behind the end marker.
    #[error("there is data behind the end marker")]
    DataBehindEnd,
}

impl TarError {
    /// Whether the same stream, asked for again, may be whole.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Truncated { .. } | Self::Read(_))
    }

    /// Whether it is what a header, or what belongs to one, says that is wrong.
    fn is_of_header(&self) -> bool {
        !matches!(self, Self::Truncated { .. } | Self::Read(_) | Self::DataBehindEnd)
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            Self::Read(error) => error.kind(),
            _ => io::ErrorKind::InvalidData,
        }
    }
}

#[cfg(test)]
mod tests;
