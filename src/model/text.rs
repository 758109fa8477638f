//! Names of any bytes made safe to show: escape sequences, newlines and bytes that are not UTF-8 come out as escapes.

use std::fmt::Write as _;

/// Shows a name or path of any bytes on one line: printable characters as they are, control characters and bytes that are
/// not UTF-8 as `\n`, `\x1b`, `\xff`.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                // Bidirectional overrides reorder what stands around them, so they are shown and not obeyed.
                c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                    let _ = if c.is_ascii() { write!(out, "\\x{:02x}", c as u32) } else { write!(out, "\\u{{{:x}}}", c as u32) };
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_raw() {
        assert_eq!(printable(b"plain name"), "plain name");
        assert_eq!(printable("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
        assert_eq!(printable(b"a\x1b[31m\nb\xff\x7f"), "a\\x1b[31m\\nb\\xff\\x7f");
        assert_eq!(printable("a\u{202e}b\u{9b}".as_bytes()), "a\\u{202e}b\\u{9b}");
    }
}
