//! A stream compressed by zstd on its way out: `.tar.zst`.
//!
//! What is in the stream is the business of whoever writes it.

use std::io::{self, Write};

/// Compresses what is written to it. Without [`finish`](Self::finish) the stream has no end, and every reader notices.
pub struct Zstd<W: Write>(zstd::stream::write::Encoder<'static, W>);

impl<W: Write> std::fmt::Debug for Zstd<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zstd").finish_non_exhaustive()
    }
}

impl<W: Write> Zstd<W> {
    /// Compresses at zstd's usual level, with a checksum.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(out: W) -> io::Result<Self> {
        let mut encoder = zstd::stream::write::Encoder::new(out, 3)?;
        encoder.include_checksum(true)?;
        Ok(Self(encoder))
    }

    /// Writes the end of the stream and gives the writer back.
    ///
    /// # Errors
    /// It could not be written.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for Zstd<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_was_written_comes_back_and_a_missing_end_is_noticed() {
        let plain: Vec<u8> = (0..200_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let mut out = Zstd::new(Vec::new()).unwrap();
        out.write_all(&plain).unwrap();
        let whole = out.finish().unwrap();
        assert!(whole.len() < plain.len() / 2);
        assert_eq!(zstd::stream::decode_all(&whole[..]).unwrap(), plain);
        assert!(zstd::stream::decode_all(&whole[..whole.len() - 5]).is_err());
    }
}
