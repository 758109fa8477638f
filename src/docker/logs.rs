//! The last log lines of a container: takes the Engine's two stream formats apart into lines.
//!
//! How lines are stored is `sources/logs`' business.

use std::collections::VecDeque;

use super::connect::Engine;
use super::error::DockerError;
use super::wire::encode;
use crate::model::application::Container;

/// Most bytes of lines that are kept, however many lines were asked for; older ones make room.
const BYTES_KEPT: usize = 16 << 20;
/// Longest line that is kept whole.
const LINE_LIMIT: usize = 1 << 20;

/// One line of a container's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written, as the Engine writes it (RFC 3339 with nanoseconds).
    pub time: String,
    /// `stdout` or `stderr`; a container with a terminal has only `stdout`.
    pub stream: &'static str,
    /// Its bytes without the line end.
    pub line: Vec<u8>,
}

/// What the log API gave.
#[derive(Debug, Default)]
pub struct Logs {
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
    /// Lines that were asked for and dropped because all together are too big.
    pub dropped: u64,
    /// Lines that were cut because each of them is too long.
    pub shortened: u64,
}

/// The last `count` lines of a container's log; none if its log driver does not give any back.
///
/// # Errors
/// [`DockerError::NotFound`] if the container is gone; a stream that breaks or makes no sense.
pub async fn last_lines(engine: &Engine, container: &Container, count: u32) -> Result<Option<Logs>, DockerError> {
    let path = format!("/containers/{}/logs?stdout=1&stderr=1&timestamps=1&tail={count}", encode(&container.id));
    let mut download = match engine.wire().download(&path).await {
        Ok(download) => download,
        Err(error) if is_unreadable(&error) => return Ok(None),
        Err(error) => return Err(error.about("container", &container.name)),
    };
    let mut demux = Demux::new(container.tty);
    while let Some(piece) = download.next().await? {
        demux
            .take(&piece)
            .map_err(|reason| DockerError::Malformed { call: format!("logs of {}", container.name), source: reason.into() })?;
    }
    demux.finish().map(Some).map_err(|reason| DockerError::Malformed { call: format!("logs of {}", container.name), source: reason.into() })
}

/// Engines answer 500 or 501 with this sentence, whatever their version.
fn is_unreadable(error: &DockerError) -> bool {
    matches!(error, DockerError::Api { status: 500 | 501, message, .. } if message.contains("does not support reading"))
}

/// Takes a log stream apart, piece by piece.
struct Demux {
    tty: bool,
    /// Bytes that are not a whole frame (or, with a terminal, a whole line) yet.
    rest: Vec<u8>,
    /// Lines whose end has not come yet: of standard output and of standard error.
    open: [Option<LogLine>; 2],
    lines: VecDeque<LogLine>,
    bytes: usize,
    dropped: u64,
    shortened: u64,
}

const STREAMS: [&str; 2] = ["stdout", "stderr"];
const FRAME_HEADER: usize = 8;

impl Demux {
    fn new(tty: bool) -> Self {
        Self { tty, rest: Vec::new(), open: [None, None], lines: VecDeque::new(), bytes: 0, dropped: 0, shortened: 0 }
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), &'static str> {
        self.rest.extend_from_slice(piece);
        let mut rest = std::mem::take(&mut self.rest);
        let used = if self.tty { self.take_lines(&rest) } else { self.take_frames(&rest)? };
        rest.drain(..used);
        self.rest = rest;
        Ok(())
    }

    /// A terminal's stream is plain lines.
    fn take_lines(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(length) = bytes[used..].iter().position(|byte| *byte == b'\n') {
            self.message(0, &bytes[used..=used + length]);
            used += length + 1;
        }
        if bytes.len() - used > LINE_LIMIT {
            self.message(0, &bytes[used..]);
            used = bytes.len();
        }
        used
    }

    /// Otherwise every message is a frame: stream (1 byte), three zeros, length (4 bytes, big endian), the message.
    fn take_frames(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut used = 0;
        while let Some(header) = bytes.get(used..used + FRAME_HEADER) {
            let stream = match header[0] {
                0 | 1 => 0,
                2 => 1,
                _ => return Err("a frame of an unknown stream"),
            };
            if header[1..4] != [0, 0, 0] {
                return Err("a frame without a header");
            }
            let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
            if length > BYTES_KEPT {
                return Err("a frame that is too long");
            }
            let Some(message) = bytes.get(used + FRAME_HEADER..used + FRAME_HEADER + length) else { break };
            self.message(stream, message);
            used += FRAME_HEADER + length;
        }
        Ok(used)
    }

    /// One message: a time, a blank, and a line or (without a line end) the next part of one.
    fn message(&mut self, stream: usize, message: &[u8]) {
        let blank = message.iter().take(64).position(|byte| *byte == b' ');
        let (time, text) = match blank.and_then(|at| Some((std::str::from_utf8(&message[..at]).ok()?, &message[at + 1..]))) {
            Some((time, text)) if looks_like_time(time) => (time, text),
            _ => ("", message),
        };
        let line = self.open[stream].get_or_insert_with(|| LogLine { time: time.to_owned(), stream: STREAMS[stream], line: Vec::new() });
        let (text, ended) = match text.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let room = LINE_LIMIT.saturating_sub(line.line.len());
        if text.len() > room && room > 0 {
            self.shortened += 1;
        }
        line.line.extend_from_slice(&text[..text.len().min(room)]);
        if ended {
            self.close(stream);
        }
    }

    fn close(&mut self, stream: usize) {
        let Some(mut line) = self.open[stream].take() else { return };
        if self.tty && line.line.last() == Some(&b'\r') {
            line.line.pop();
        }
        self.bytes += line.line.len();
        self.lines.push_back(line);
        while self.bytes > BYTES_KEPT {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.line.len();
            self.dropped += 1;
        }
    }

    fn finish(mut self) -> Result<Logs, &'static str> {
        let rest = std::mem::take(&mut self.rest);
        if self.tty && !rest.is_empty() {
            self.message(0, &rest);
        } else if !rest.is_empty() {
            return Err("the last frame is cut off");
        }
        self.close(0);
        self.close(1);
        Ok(Logs { lines: self.lines.into(), dropped: self.dropped, shortened: self.shortened })
    }
}

fn looks_like_time(text: &str) -> bool {
    text.len() >= 20 && text.as_bytes()[4] == b'-' && text.contains('T')
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const TIME: &str = "2026-05-04T03:02:01.123456789Z";

    fn frame(stream: u8, message: &str) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
        frame.extend_from_slice(message.as_bytes());
        frame
    }

    fn lines(tty: bool, bytes: &[u8], step: usize) -> Result<Vec<(String, &'static str, String)>, &'static str> {
        let mut demux = Demux::new(tty);
        for piece in bytes.chunks(step) {
            demux.take(piece)?;
        }
        Ok(demux.finish()?.lines.into_iter().map(|line| (line.time, line.stream, String::from_utf8(line.line).unwrap())).collect())
    }

    #[test]
    fn frames_become_lines_however_they_are_cut() {
        let mut bytes = frame(1, &format!("{TIME} first\n"));
        bytes.extend(frame(2, &format!("{TIME} half of ")));
        bytes.extend(frame(1, &format!("{TIME} \n")));
        bytes.extend(frame(2, &format!("{TIME} an error\n")));
        bytes.extend(frame(1, &format!("{TIME} no line end")));
        let expected = [("first", "stdout"), ("", "stdout"), ("half of an error", "stderr"), ("no line end", "stdout")];
        for step in [1, 7, 1000] {
            let found = lines(false, &bytes, step).unwrap();
            assert_eq!(found.iter().map(|(_, stream, line)| (line.as_str(), *stream)).collect::<Vec<_>>(), expected);
            assert!(found.iter().all(|(time, ..)| time == TIME));
        }
        for cut in [bytes.len() - 1, bytes.len() - 20, 3] {
            assert!(lines(false, &bytes[..cut], 1000).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_terminal_has_plain_lines() {
        let bytes = format!("{TIME} one\r\n{TIME} two words\r\nwithout time");
        let found = lines(true, bytes.as_bytes(), 5).unwrap();
        let line = |time: &str, line: &str| (time.to_owned(), "stdout", line.to_owned());
        assert_eq!(found, [line(TIME, "one"), line(TIME, "two words"), line("", "without time")]);
    }

    #[test]
    fn nonsense_is_refused_and_memory_bounded() {
        assert!(lines(false, b"plain text of a terminal\n", 1000).is_err());
        assert!(lines(false, &[1, 0, 0, 0, 255, 255, 255, 255], 8).is_err());
        let mut demux = Demux::new(false);
        let big = frame(1, &format!("{TIME} {}\n", "x".repeat(3 << 20)));
        for _ in 0..20 {
            demux.take(&big).unwrap();
        }
        let logs = demux.finish().unwrap();
        assert_eq!(logs.shortened, 20);
        assert_eq!(logs.dropped, 4);
        assert!(logs.lines.iter().map(|line| line.line.len()).sum::<usize>() <= BYTES_KEPT);
    }
}
