//! Lists one folder: its names, sorted by their bytes, in one piece of memory.
//!
//! What is done with the names is the walk's business.

use std::ffi::CStr;

use rustix::fd::BorrowedFd;
use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

/// So much of a folder is taken from the system in one call.
const BUFFER_SIZE: usize = 256 * 1024;
/// Lists are reused, so that a walk over many folders allocates few; so many are kept.
const SPARE_LISTS: usize = 16;

/// The names in a folder, without `.` and `..`. Folders of a million names are usual enough to count bytes here.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Each name with a NUL behind it.
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    /// With the NUL.
    length: u16,
    kind: FileType,
}

impl Names {
    /// The name at a place in the order, and what the folder says it is ([`FileType::Unknown`] on some file systems).
    pub(super) fn get(&self, index: usize) -> Option<(&CStr, FileType)> {
        let span = self.spans.get(index)?;
        let name = CStr::from_bytes_with_nul(self.with_nul(*span)).ok()?;
        Some((name, span.kind))
    }

    /// The place of a name.
    pub(super) fn find(&self, name: &[u8]) -> Option<usize> {
        self.spans.binary_search_by(|span| self.plain(*span).cmp(name)).ok()
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    fn with_nul(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..][..usize::from(span.length)]
    }

    fn plain(&self, span: Span) -> &[u8] {
        &self.with_nul(span)[..usize::from(span.length) - 1]
    }

    fn push(&mut self, name: &CStr, kind: FileType) -> Result<(), Errno> {
        let name = name.to_bytes_with_nul();
        let (Ok(start), Ok(length)) = (u32::try_from(self.bytes.len()), u16::try_from(name.len())) else {
            return Err(Errno::OVERFLOW);
        };
        self.bytes.extend_from_slice(name);
        self.spans.push(Span { start, length, kind });
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let name = |span: &Span| &bytes[span.start as usize..][..usize::from(span.length)];
        // With the NUL behind it a name still sorts before the names that it begins.
        self.spans.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        // A folder that changes while it is listed may show a name twice.
        self.spans.dedup_by(|a, b| name(a) == name(b));
    }
}

/// Lists folders with buffers that it keeps.
#[derive(Debug)]
pub(super) struct Lister {
    buffer: Vec<u8>,
    spare: Vec<Names>,
}

impl Default for Lister {
    fn default() -> Self {
        Self { buffer: Vec::with_capacity(BUFFER_SIZE), spare: Vec::new() }
    }
}

impl Lister {
    /// Lists an open folder from its beginning. With an error come the names that were found before it.
    pub(super) fn list(&mut self, folder: BorrowedFd<'_>) -> (Names, Option<Errno>) {
        let mut names = self.spare.pop().unwrap_or_default();
        let mut failed = None;
        let mut entries = RawDir::new(folder, self.buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let pushed = entry.and_then(|entry| match entry.file_name().to_bytes() {
                b"." | b".." => Ok(()),
                _ => names.push(entry.file_name(), entry.file_type()),
            });
            match pushed {
                Ok(()) | Err(Errno::INTR) => {}
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        names.sort();
        (names, failed)
    }

    /// Takes a list back when its folder is done.
    pub(super) fn reuse(&mut self, mut names: Names) {
        if self.spare.len() < SPARE_LISTS && names.bytes.capacity() <= BUFFER_SIZE {
            names.bytes.clear();
            names.spans.clear();
            self.spare.push(names);
        }
    }
}
