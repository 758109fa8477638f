//! Blobs as they stand in packs: compressed where that helps, then encrypted (design document, sections "Pack Format" and
//! "Keys, Encryption and MAC").
//!
//! Which pack a blob goes to, and what its id is, is decided elsewhere.

use std::fmt;
use std::io::{self, Cursor};
use std::num::NonZeroU32;

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx};

use super::crypto::{CryptoError, MasterKey, OVERHEAD};
use crate::model::compression::Compression;
use crate::platform::control::Control;
use crate::repository::contract::RepositoryError;

/// What a blob is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobKind {
    /// A piece of a file.
    Data,
    /// A folder.
    Tree,
}

impl BlobKind {
    /// The word of the format.
    pub fn word(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Tree => "tree",
        }
    }
}

/// The level of zstd. Trees are compressed also where data is not.
fn level(compression: Compression) -> i32 {
    match compression {
        Compression::Off | Compression::Auto => 3,
        Compression::Fastest => 1,
        Compression::Better => 7,
        Compression::Max => 19,
        Compression::Level(level) => level,
    }
}

/// The level for data that looks incompressible: it finds long repetitions at several times the speed of level 3.
const HASTY: i32 = -5;

/// The largest blob but for trees of large folders, whose buffers are not kept and are as small as can be.
const USUAL: usize = 8 << 20;

/// The highest level at which a blob of usual size is done at once for whoever waits for a pause or a cancel.
const QUICK: i32 = 4;
/// Bytes that are compressed between two looks at whether to go on. Level 22 needs about 0.15 s for them.
const PIECE: usize = 256 << 10;

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes that were appended, encryption included.
    pub length: u32,
    /// Bytes before compression; none if the blob was stored as it is.
    pub uncompressed: Option<NonZeroU32>,
}

/// Makes blobs. It keeps the memory of its compressor, so every worker has one of its own and reuses it.
pub struct Encoder {
    compression: Compression,
    compresses: bool,
    verifier: Option<Verifier>,
    context: CCtx<'static>,
    /// The level that `context` is set to.
    level: Option<i32>,
    compressed: Vec<u8>,
    control: Option<Control>,
}

/// Reads back what was made, before anybody relies on it.
struct Verifier {
    decoder: Decoder,
    plain: Vec<u8>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("compression", &self.compression).finish_non_exhaustive()
    }
}

impl Encoder {
    /// For a repository of this version of the format: version 1 knows no compression. With `verify`, everything is
    /// decrypted, decompressed and compared before it is given out, as faulty memory would otherwise show only at restore.
    pub fn new(compression: Compression, version: u32, verify: bool) -> Self {
        Self {
            compression,
            compresses: version >= 2,
            verifier: verify.then(|| Verifier { decoder: Decoder::new(), plain: Vec::new() }),
            context: CCtx::create(),
            level: None,
            compressed: Vec::new(),
            control: None,
        }
    }

    /// Makes it wait and end as the control says, also inside a blob that takes long.
    #[must_use]
    pub fn under(self, control: &Control) -> Self {
        Self { control: Some(control.clone()), ..self }
    }

    /// Appends the blob to `out`.
    ///
    /// # Errors
    /// [`RepositoryError::Corrupted`] if it came out wrong; [`RepositoryError::Internal`] if it is too long for the format
    /// or there is no randomness; [`RepositoryError::Cancelled`]. Then `out` is as it was.
    pub fn encode(&mut self, key: &MasterKey, kind: BlobKind, plain: &[u8], out: &mut Vec<u8>) -> Result<Encoded, RepositoryError> {
        let start = out.len();
        let encoded = self.append(key, kind, plain, out);
        if encoded.is_err() {
            out.truncate(start);
        }
        self.compressed.clear();
        self.compressed.shrink_to(zstd_safe::compress_bound(USUAL));
        encoded
    }

    fn append(&mut self, key: &MasterKey, kind: BlobKind, plain: &[u8], out: &mut Vec<u8>) -> Result<Encoded, RepositoryError> {
        let length = u32::try_from(plain.len())
            .ok()
            .filter(|length| length.checked_add(OVERHEAD as u32).is_some())
            .ok_or_else(|| RepositoryError::Internal(format!("a {} blob of {} bytes", kind.word(), plain.len())))?;
        let compressed = match self.level_for(kind, plain) {
            Some(level) => self.compress(level, plain)?,
            None => false,
        };
        let start = out.len();
        let stored = if compressed { &self.compressed[..] } else { plain };
        key.seal(stored, out).map_err(|error| RepositoryError::Internal(error.to_string()))?;
        let encoded = Encoded { length: (out.len() - start) as u32, uncompressed: if compressed { NonZeroU32::new(length) } else { None } };
        if let Some(verifier) = &mut self.verifier {
            verifier.verify(key, &out[start..], stored, encoded.uncompressed, plain, kind)?;
        }
        Ok(encoded)
    }

    fn level_for(&self, kind: BlobKind, plain: &[u8]) -> Option<i32> {
        if !self.compresses || plain.is_empty() {
            return None;
        }
        match (self.compression, kind) {
            (Compression::Off, BlobKind::Data) => None,
            (Compression::Auto, BlobKind::Data) if looks_incompressible(plain) => Some(HASTY),
            (compression, _) => Some(level(compression)),
        }
    }

    /// Compresses into `self.compressed`. False if that does not make the blob smaller.
    fn compress(&mut self, level: i32, plain: &[u8]) -> Result<bool, RepositoryError> {
        if self.level != Some(level) {
            self.level = None;
            self.context.set_parameter(CParameter::CompressionLevel(level)).map_err(compressor_failed)?;
            self.level = Some(level);
        }
        self.compressed.clear();
        if plain.len() > USUAL {
            // A tree of a large folder becomes far smaller. Where it does not, there is need for more room.
            self.compressed.reserve_exact(plain.len() / 4);
            if let Ok(length) = self.context.compress2(&mut self.compressed, plain) {
                return Ok(length < plain.len());
            }
            self.context.reset(zstd_safe::ResetDirective::SessionOnly).map_err(compressor_failed)?;
            self.compressed.clear();
        }
        self.compressed.reserve(zstd_safe::compress_bound(plain.len()));
        if level > QUICK && plain.len() > PIECE && self.control.is_some() {
            return self.compress_in_pieces(plain);
        }
        // All input is given at once, so the compressor knows the length and states it in the frame.
        let length = self.context.compress2(&mut self.compressed, plain).map_err(compressor_failed)?;
        Ok(length < plain.len())
    }

    /// As all at once, but for what the control wants. There is room for the result.
    fn compress_in_pieces(&mut self, plain: &[u8]) -> Result<bool, RepositoryError> {
        use zstd_safe::zstd_sys::ZSTD_EndDirective::{ZSTD_e_continue, ZSTD_e_end};
        self.context.reset(zstd_safe::ResetDirective::SessionOnly).map_err(compressor_failed)?;
        self.context.set_pledged_src_size(Some(plain.len() as u64)).map_err(compressor_failed)?;
        let mut output = zstd_safe::OutBuffer::around(&mut self.compressed);
        let mut rest = plain;
        while !rest.is_empty() {
            if let Some(control) = &self.control {
                control.checkpoint()?;
            }
            let (piece, later) = rest.split_at(PIECE.min(rest.len()));
            let end = if later.is_empty() { ZSTD_e_end } else { ZSTD_e_continue };
            let mut input = zstd_safe::InBuffer::around(piece);
            loop {
                let left = self.context.compress_stream2(&mut output, &mut input, end).map_err(compressor_failed)?;
                if input.pos() == piece.len() && (left == 0 || !later.is_empty()) {
                    break;
                }
            }
            rest = later;
        }
        Ok(self.compressed.len() < plain.len())
    }
}

fn compressor_failed(code: usize) -> RepositoryError {
    RepositoryError::Internal(format!("zstd: {}", zstd_safe::get_error_name(code)))
}

impl Verifier {
    /// That `sealed` decrypts to what was stored, and that this is `plain` or decompresses to it.
    fn verify(
        &mut self,
        key: &MasterKey,
        sealed: &[u8],
        stored: &[u8],
        uncompressed: Option<NonZeroU32>,
        plain: &[u8],
        kind: BlobKind,
    ) -> Result<(), RepositoryError> {
        let same = key.seals(sealed, stored)
            && match uncompressed {
                // The very same bytes, unless a caller has copied them.
                None => std::ptr::eq(stored, plain) || stored == plain,
                // In pieces, as there may be no room for it a second time.
                Some(_) if plain.len() > USUAL => self.decoder.decompresses_to(stored, plain),
                Some(length) => {
                    self.plain.clear();
                    match self.decoder.decompress(stored, length.get() as usize, &mut self.plain) {
                        // Too little memory says nothing of the data, nor of the machine.
                        Err(DecodeError::Memory) => {
                            let file = format!("a {} blob of {length} bytes", kind.word());
                            return Err(RepositoryError::Storage { action: "verify", file, source: io::ErrorKind::OutOfMemory.into() });
                        }
                        decompressed => decompressed.is_ok() && self.plain == plain,
                    }
                }
            };
        if same { Ok(()) } else { Err(RepositoryError::Corrupted { what: format!("{} blob", kind.word()) }) }
    }
}

/// Looks at a few samples of `plain`: whether all byte values are about equally frequent, as in data that is compressed or
/// encrypted already. Repetitions over long distances escape it, which is why such data still goes through a hasty compressor.
fn looks_incompressible(plain: &[u8]) -> bool {
    const SAMPLES: usize = 64;
    const SAMPLE: usize = 128;
    const TOTAL: usize = SAMPLES * SAMPLE;
    if plain.len() < 4 * TOTAL {
        return false;
    }
    let mut counts = [0_u32; 256];
    let stride = (plain.len() - SAMPLE) / (SAMPLES - 1);
    for sample in 0..SAMPLES {
        for byte in &plain[sample * stride..][..SAMPLE] {
            counts[usize::from(*byte)] += 1;
        }
    }
    // The sum of squares is TOTAL²/256 + TOTAL for perfect noise, with a deviation of about 5 % of the first term's 32 per
    // value; text has more than ten times as much.
    let squares: u64 = counts.iter().map(|count| u64::from(*count).pow(2)).sum();
    let noise = (TOTAL * TOTAL / 256 + TOTAL) as u64;
    squares < noise + noise / 16
}

/// What can be wrong with a stored blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It cannot be decrypted.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// It was announced with another length than it has.
    #[error("wrong length")]
    Length,
    /// It is not what a compressor makes.
    #[error("not compressed by zstd")]
    Compression,
    /// There is not enough memory for it.
    #[error("too long for the memory of this machine")]
    Memory,
}

impl DecodeError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(self) -> bool {
        self == Self::Memory
    }

    /// What should have been there, for [`RepositoryError::Damaged`].
    pub fn expected(self) -> &'static str {
        match self {
            Self::Crypto(CryptoError::TooShort) => "at least 32 bytes",
            Self::Crypto(_) => "data that this repository's key authenticates",
            Self::Length => "data of the announced length",
            Self::Compression => "data compressed by zstd",
            Self::Memory => "data that fits the memory of this machine",
        }
    }

    /// The error for damage in `file` (`pack 12ab…`) at `offset`.
    pub fn in_file(self, file: String, offset: u64) -> RepositoryError {
        RepositoryError::Damaged { file, offset, expected: self.expected().into() }
    }
}

/// Reads blobs. It keeps the memory of its decompressor, so every worker has one of its own and reuses it.
pub struct Decoder {
    context: DCtx<'static>,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder for any repository.
    pub fn new() -> Self {
        Self { context: DCtx::create() }
    }

    /// Decrypts `sealed` in place and puts the blob into `out` (what was there is gone). `uncompressed` is the announced
    /// length of a compressed blob; never more than that is written. The blob's hash is not looked at.
    ///
    /// # Errors
    /// `sealed` and `out` may be anything then.
    pub fn decode(
        &mut self,
        key: &MasterKey,
        sealed: &mut [u8],
        uncompressed: Option<NonZeroU32>,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        out.clear();
        let stored = key.open(sealed)?;
        match uncompressed {
            None => {
                out.try_reserve(stored.len()).map_err(|_| DecodeError::Memory)?;
                out.extend_from_slice(stored);
                Ok(())
            }
            Some(length) => self.decompress(stored, length.get() as usize, out),
        }
    }

    fn decompress(&mut self, stored: &[u8], length: usize, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        // A frame that states another length is wrong before memory is taken for it.
        if let Ok(Some(stated)) = zstd_safe::get_frame_content_size(stored)
            && stated > length as u64
        {
            return Err(DecodeError::Length);
        }
        out.try_reserve(length).map_err(|_| DecodeError::Memory)?;
        match self.context.decompress(out, stored) {
            Ok(found) if found == length => Ok(()),
            Ok(_) => Err(DecodeError::Length),
            Err(_) => Err(DecodeError::Compression),
        }
    }

    /// Whether `stored` decompresses to `plain`.
    fn decompresses_to(&mut self, stored: &[u8], plain: &[u8]) -> bool {
        if self.context.reset(zstd_safe::ResetDirective::SessionOnly).is_err() {
            return false;
        }
        let mut input = zstd_safe::InBuffer::around(stored);
        let mut piece = Vec::with_capacity(DCtx::out_size());
        let mut rest = plain;
        loop {
            piece.clear();
            let hint = self.context.decompress_stream(&mut zstd_safe::OutBuffer::around(&mut piece), &mut input);
            let (Ok(hint), Some(later)) = (hint, rest.strip_prefix(&piece[..])) else { return false };
            rest = later;
            if hint == 0 {
                return rest.is_empty() && input.pos() == stored.len();
            }
            if piece.is_empty() && input.pos() == stored.len() {
                return false;
            }
        }
    }

    /// Decompresses a document whose length nobody announced (design document, section "Unpacked Data Format").
    pub(super) fn decompress_document(&mut self, stored: &[u8]) -> Result<Vec<u8>, DecodeError> {
        /// restic keeps index files below 8 MiB; a snapshot file holds a list of paths. Far more than that is an attack.
        const LONGEST: u64 = 1 << 30;
        let stated = zstd_safe::get_frame_content_size(stored).map_err(|_| DecodeError::Compression)?;
        let mut out = Vec::new();
        if let Some(length) = stated {
            if length > LONGEST {
                return Err(DecodeError::Length);
            }
            self.decompress(stored, length as usize, &mut out)?;
            return Ok(out);
        }
        self.context.reset(zstd_safe::ResetDirective::SessionOnly).map_err(|_| DecodeError::Compression)?;
        let mut input = zstd_safe::InBuffer::around(stored);
        loop {
            let length = out.len();
            if length as u64 > LONGEST {
                return Err(DecodeError::Length);
            }
            out.try_reserve(DCtx::out_size()).map_err(|_| DecodeError::Memory)?;
            let mut cursor = Cursor::new(out);
            cursor.set_position(length as u64);
            let hint = self.context.decompress_stream(&mut zstd_safe::OutBuffer::around(&mut cursor), &mut input);
            out = cursor.into_inner();
            match hint {
                Ok(0) if input.pos() == stored.len() => return Ok(out),
                Err(_) => return Err(DecodeError::Compression),
                Ok(_) if input.pos() == stored.len() && out.len() == length => return Err(DecodeError::Length),
                Ok(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
