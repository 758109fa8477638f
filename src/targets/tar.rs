//! The sink that writes a tar stream, as `PUT archive` of the Docker Engine takes it and any tar reads it.
//!
//! Written after POSIX.1 `pax`: plain headers, and extended ones only for what does not fit. Where the entries come from is
//! the repository's business; sending the stream, `docker/archive`'s. The same entries always give the same bytes.

use std::io::{self, BufWriter, Write};

use super::acl;
use crate::model::entry::{Kind, Metadata, Sink, Timestamp};
use crate::model::text::printable;

const BLOCK: usize = 512;
/// Headers and small files are gathered up to this size before they are written.
const GATHERED: usize = 256 * 1024;

/// Writes the entries that it is given as a tar stream. Without [`finish`](Sink::finish) the stream has no end marker.
///
/// Owners are numbers only: a name would mean somebody else on another machine.
pub struct TarSink<W: Write> {
    writer: BufWriter<W>,
    /// The folder in the stream that stands for the root, without slashes around it.
    top: Vec<u8>,
    current: Option<Current>,
    left_out: Vec<LeftOut>,
    finished: bool,
}

/// The entry between `begin` and `end`.
struct Current {
    path: Vec<u8>,
    /// Bytes that are still to come.
    left: u64,
    /// Bytes that fill up the last block.
    padding: usize,
}

/// Something that a tar stream cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The entry, by its path relative to the root.
    pub path: Vec<u8>,
    /// What of it is missing.
    pub what: Missing,
}

/// What a tar stream cannot hold of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// All of it: tar knows no sockets, which are worth nothing without the program that listens at them.
    Socket,
    /// An extended attribute of this name, which would not be read back as it is.
    Xattr(Vec<u8>),
}

impl<W: Write> std::fmt::Debug for TarSink<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarSink").field("top", &printable(&self.top)).field("finished", &self.finished).finish_non_exhaustive()
    }
}

impl<W: Write> TarSink<W> {
    /// Writes to `writer`, in pieces of up to 256 KiB or more. In the stream the root is the folder `top` and everything lies in it, so that
    /// the root's own owner and mode are in the stream too; with an empty `top` it is `./`, which some programs pass over.
    pub fn new(writer: W, top: &[u8]) -> Self {
        let top = top.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b'/');
        Self { writer: BufWriter::with_capacity(GATHERED, writer), top, current: None, left_out: Vec::new(), finished: false }
    }

    /// What was given and is not in the stream.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Gives the writer back.
    ///
    /// # Errors
    /// The stream was not finished.
    pub fn into_inner(self) -> io::Result<W> {
        if !self.finished {
            return Err(io::Error::other("the archive stream was not finished"));
        }
        self.writer.into_inner().map_err(io::IntoInnerError::into_error)
    }

    /// The name in the stream of a path relative to the root.
    fn name(&self, path: &[u8], is_dir: bool) -> io::Result<Vec<u8>> {
        let unsafe_name = |component: &[u8]| matches!(component, b"" | b"." | b"..") || component.contains(&0);
        if !path.is_empty() && path.split(|byte| *byte == b'/').any(unsafe_name) {
            let text = format!("the name {} is none that an archive may hold", printable(path));
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut name = match (self.top.is_empty(), path.is_empty()) {
            (true, true) => b".".to_vec(),
            (true, false) => path.to_vec(),
            (false, true) => self.top.clone(),
            (false, false) => [&self.top, path].join(&b'/'),
        };
        if is_dir {
            name.push(b'/');
        }
        Ok(name)
    }

    fn write_header(&mut self, path: &[u8], metadata: &Metadata, link_to: Option<&[u8]>) -> io::Result<()> {
        let name = self.name(path, metadata.is_dir() && link_to.is_none())?;
        let link_target = link_to.map(|target| self.name(target, false)).transpose()?;
        let (flag, target, rdev) = match (&metadata.kind, &link_target) {
            (_, Some(target)) => (b'1', &target[..], None),
            (Kind::File, None) => (b'0', &b""[..], None),
            (Kind::Symlink { target }, None) => (b'2', &target[..], None),
            (Kind::CharDevice { rdev }, None) => (b'3', &b""[..], Some(*rdev)),
            (Kind::BlockDevice { rdev }, None) => (b'4', &b""[..], Some(*rdev)),
            (Kind::Directory, None) => (b'5', &b""[..], None),
            (Kind::Fifo | Kind::Socket, None) => (b'6', &b""[..], None),
        };
        let size = if flag == b'0' { metadata.size } else { 0 };
        let mut extended = Vec::new();
        let mut header = Header::new(flag);
        header.text(0..100, &name, b"path", &mut extended);
        header.number(100..108, u64::from(metadata.mode & 0o7777), b"mode", &mut extended);
        header.number(108..116, u64::from(metadata.uid), b"uid", &mut extended);
        header.number(116..124, u64::from(metadata.gid), b"gid", &mut extended);
        header.number(124..136, size, b"size", &mut extended);
        header.time(metadata.mtime, &mut extended);
        header.text(157..257, target, b"linkpath", &mut extended);
        if let Some(rdev) = rdev {
            header.device(rdev)?;
        }
        for xattr in &metadata.xattrs {
            // An equals sign ends a record's key, and of its escaped forms every program thinks differently.
            if xattr.name.contains(&b'=') || xattr.name.windows(3).any(|part| matches!(part, b"%3D" | b"%25")) {
                self.left_out.push(LeftOut { path: path.to_vec(), what: Missing::Xattr(xattr.name.clone()) });
            } else {
                record(&mut extended, &[b"SCHILY.xattr.", &xattr.name[..]].concat(), &xattr.value);
                // Where tar looks for ACLs (`tar --acls`).
                if let Some((key, text)) = acl::record(&xattr.name, &xattr.value) {
                    record(&mut extended, key, &text);
                }
            }
        }
        if !extended.is_empty() {
            self.write_extended(&name, &extended)?;
        }
        self.writer.write_all(&header.finish())
    }

    fn write_extended(&mut self, name: &[u8], records: &[u8]) -> io::Result<()> {
        let mut header = Header::new(b'x');
        // Only a program that knows no extended headers shows this name; it takes the header for a file.
        let mut shown = [b"PaxHeaders/", name.strip_suffix(b"/").unwrap_or(name)].concat();
        shown.truncate(100);
        let mut none = Vec::new();
        header.text(0..100, &shown, b"path", &mut none);
        header.number(100..108, 0o644, b"mode", &mut none);
        header.number(108..116, 0, b"uid", &mut none);
        header.number(116..124, 0, b"gid", &mut none);
        header.number(124..136, records.len() as u64, b"size", &mut none);
        header.time(Timestamp::default(), &mut none);
        self.writer.write_all(&header.finish())?;
        self.writer.write_all(records)?;
        self.write_zeros(padding(records.len() as u64))
    }

    fn write_zeros(&mut self, count: usize) -> io::Result<()> {
        self.writer.write_all(&[0; 2 * BLOCK][..count])
    }
}

impl<W: Write> Sink for TarSink<W> {
    fn begin(&mut self, path: &[u8], metadata: &Metadata, link_to: Option<&[u8]>) -> io::Result<()> {
        if self.current.is_some() || self.finished {
            return Err(io::Error::other("an entry begins before the one before it has ended"));
        }
        let mut current = Current { path: path.to_vec(), left: 0, padding: 0 };
        if metadata.kind == Kind::Socket {
            self.left_out.push(LeftOut { path: path.to_vec(), what: Missing::Socket });
        } else {
            self.write_header(path, metadata, link_to)?;
            if metadata.is_file() && link_to.is_none() {
                current.left = metadata.size;
                current.padding = padding(metadata.size);
            }
        }
        self.current = Some(current);
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let current = self.current.as_mut().ok_or_else(|| io::Error::other("data outside of an entry"))?;
        current.left = current.left.checked_sub(bytes.len() as u64).ok_or_else(|| wrong_size(&current.path, "more"))?;
        self.writer.write_all(bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        let current = self.current.take().ok_or_else(|| io::Error::other("an entry ends that has not begun"))?;
        if current.left > 0 {
            return Err(wrong_size(&current.path, "less"));
        }
        self.write_zeros(current.padding)
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.current.is_some() || self.finished {
            return Err(io::Error::other("the archive ends in the middle of an entry, or twice"));
        }
        self.write_zeros(2 * BLOCK)?;
        self.writer.flush()?;
        self.finished = true;
        Ok(())
    }
}

fn wrong_size(path: &[u8], more_or_less: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} has {more_or_less} data than its size says", printable(path)))
}

/// Bytes that fill up the last block.
fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// A header block being filled in. What does not fit a field goes to the extended header's records.
struct Header([u8; BLOCK]);

impl Header {
    fn new(flag: u8) -> Self {
        let mut block = [0; BLOCK];
        block[156] = flag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let mut header = Self(block);
        header.octal(329..337, 0);
        header.octal(337..345, 0);
        header
    }

    fn text(&mut self, field: std::ops::Range<usize>, text: &[u8], key: &[u8], extended: &mut Vec<u8>) {
        let fits = text.len().min(field.len());
        self.0[field.start..][..fits].copy_from_slice(&text[..fits]);
        if fits < text.len() {
            record(extended, key, text);
        }
    }

    fn number(&mut self, field: std::ops::Range<usize>, value: u64, key: &[u8], extended: &mut Vec<u8>) {
        if !self.octal(field, value) {
            record(extended, key, value.to_string().as_bytes());
        }
    }

    fn time(&mut self, time: Timestamp, extended: &mut Vec<u8>) {
        let fits = u64::try_from(time.secs).is_ok_and(|secs| self.octal(136..148, secs));
        if !fits {
            self.octal(136..148, 0);
        }
        if !fits || time.nanos != 0 {
            record(extended, b"mtime", format_time(time).as_bytes());
        }
    }

    fn device(&mut self, rdev: u64) -> io::Result<()> {
        let (major, minor) = (rustix::fs::major(rdev), rustix::fs::minor(rdev));
        if self.octal(329..337, u64::from(major)) && self.octal(337..345, u64::from(minor)) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("the device {major}:{minor} has numbers too large for an archive")))
    }

    /// Writes digits and a NUL; if they do not fit, zeros, and says so.
    fn octal(&mut self, field: std::ops::Range<usize>, value: u64) -> bool {
        let digits = field.len() - 1;
        let fits = value < 1 << (3 * digits);
        let mut rest = if fits { value } else { 0 };
        for place in self.0[field.start..][..digits].iter_mut().rev() {
            *place = b'0' + (rest & 7) as u8;
            rest >>= 3;
        }
        fits
    }

    fn finish(mut self) -> [u8; BLOCK] {
        self.0[148..156].copy_from_slice(b"        ");
        let sum = self.0.iter().map(|byte| u64::from(*byte)).sum();
        // Six digits, a NUL and a space are the usual form.
        self.octal(148..155, sum);
        self.0[155] = b' ';
        self.0
    }
}

/// Appends `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Seconds with as many digits behind the point as are needed. The number is counted from zero in both directions, so before 1970
/// the fraction is turned round.
fn format_time(time: Timestamp) -> String {
    let (sign, secs, nanos) = match (time.secs < 0, time.nanos) {
        (false, nanos) => ("", time.secs.unsigned_abs(), nanos),
        (true, 0) => ("-", time.secs.unsigned_abs(), 0),
        (true, nanos) => ("-", time.secs.unsigned_abs() - 1, 1_000_000_000 - nanos),
    };
    let text = format!("{sign}{secs}.{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
