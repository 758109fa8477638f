//! Names between bytes and the text that trees hold: Go's `strconv.Quote` without the outer quotes, and Go's JSON strings.
//!
//! Only strings; the JSON of a node is `encode`'s and `parse`'s.

use std::fmt::Write as _;

use super::printable::is_printable;

/// Appends `name` as `strconv.Quote` writes it, without the quotes around it.
pub(super) fn quote(name: &[u8], out: &mut String) {
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            quote_character(character, out);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

fn quote_character(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        _ if is_printable(character) => out.push(character),
        _ => {
            let code = u32::from(character);
            let _ = match code {
                0..0x20 | 0x7f => write!(out, "\\x{code:02x}"),
                0x80..0x1_0000 => write!(out, "\\u{code:04x}"),
                _ => write!(out, "\\U{code:08x}"),
            };
        }
    }
}

/// The bytes of a quoted name, or `None` if it is not as [`quote`] or Go could have written it.
pub(super) fn unquote(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        return Some(bytes.to_vec());
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = match *first {
            b'"' | b'\n' => return None,
            b'\\' => unquote_escape(tail, &mut out)?,
            byte => {
                out.push(byte);
                tail
            }
        };
    }
    Some(out)
}

/// Takes what follows a backslash and returns what is left.
fn unquote_escape<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&kind, rest) = text.split_first()?;
    let simple = match kind {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' => kind,
        b'x' => {
            let (value, rest) = number(rest, 2, 16)?;
            out.push(value as u8);
            return Some(rest);
        }
        b'u' | b'U' => {
            let (value, rest) = number(rest, if kind == b'u' { 4 } else { 8 }, 16)?;
            let character = char::from_u32(value)?;
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        b'0'..=b'7' => {
            let (value, rest) = number(text, 3, 8)?;
            out.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        _ => return None,
    };
    out.push(simple);
    Some(rest)
}

/// Reads exactly `digits` digits.
fn number(text: &[u8], digits: usize, radix: u32) -> Option<(u32, &[u8])> {
    let (head, rest) = text.split_at_checked(digits)?;
    let value = head.iter().try_fold(0_u32, |value, &digit| value.checked_mul(radix)?.checked_add(char::from(digit).to_digit(radix)?))?;
    Some((value, rest))
}

/// Appends a JSON string as Go's `encoding/json` writes it: safe inside HTML, bytes that are not UTF-8 replaced.
pub(super) fn json_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        json_text(chunk.valid(), out);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn json_text(text: &str, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    // Everything before `done` is written.
    let mut done = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            0x08 => b"\\b",
            0x0c => b"\\f",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 | b'<' | b'>' | b'&' => &[b'\\', b'u', b'0', b'0', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]],
            // U+2028 and U+2029 end lines in JavaScript.
            0xe2 if bytes[at..].starts_with(b"\xe2\x80\xa8") => b"\\u2028",
            0xe2 if bytes[at..].starts_with(b"\xe2\x80\xa9") => b"\\u2029",
            _ => continue,
        };
        out.extend_from_slice(&bytes[done..at]);
        out.extend_from_slice(escape);
        done = at + if byte == 0xe2 { 3 } else { 1 };
    }
    out.extend_from_slice(&bytes[done..]);
}
