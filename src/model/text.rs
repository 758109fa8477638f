//! Names of any bytes made safe to show: escape sequences, newlines and bytes that are not UTF-8 come out as escapes, and
//! passwords within addresses as dots.

use std::borrow::Cow;
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

/// The same text without the passwords of the addresses in it: `rest:https://me:secret@host/` becomes `rest:https://me:…@host/`.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    const HERE: &str = "://";
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(HERE).map(|at| at + HERE.len()) {
        let (before, address) = rest.split_at(start);
        let end = address.find(|c: char| c.is_whitespace() || matches!(c, '`' | '"' | '\'' | '<' | '>')).unwrap_or(address.len());
        out.push_str(before);
        rest = address;
        if let Some((colon, at)) = password(&address[..end]) {
            out.push_str(&address[..=colon]);
            out.push('…');
            rest = &address[at..];
        }
    }
    if out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Where the password stands in `user:password@host/path`: its colon, and the `@` behind it.
fn password(address: &str) -> Option<(usize, usize)> {
    let authority = address.find(['/', '?', '#']).unwrap_or(address.len());
    let colon = address[..authority].find(':')?;
    // A password that should have been escaped may have any of these in it, too; but a number there is a port.
    let is_port = !address[..authority].contains('@') && address[colon + 1..authority].bytes().all(|byte| byte.is_ascii_digit());
    // The last one: rather a part of a path is not shown than a part of a password is.
    let at = address.rfind('@').filter(|at| colon < *at && !is_port)?;
    Some((colon, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_passwords() {
        let cases = [
            ("`rest:https://user:s3cret@host/x` is no folder", "`rest:https://user:…@host/x` is no folder"),
            ("s3:http://key:a@b/c@h:9000/b, sftp://u:p@[::1]:22/", "s3:http://key:…@h:9000/b, sftp://u:…@[::1]:22/"),
            ("https://u:s3/cret@host/x", "https://u:…@host/x"),
            ("http://:only@h http://u:@h", "http://:…@h http://u:…@h"),
            (
                "https://host:8080/a@b https://me@host tcp://1.2.3.4:2375 a://b c:d@e",
                "https://host:8080/a@b https://me@host tcp://1.2.3.4:2375 a://b c:d@e",
            ),
            ("no address: a@b", "no address: a@b"),
            ("", ""),
        ];
        for (text, shown) in cases {
            assert_eq!(without_passwords(text), shown);
            assert_eq!(without_passwords(shown), shown, "what was masked stays as it is");
        }
    }

    #[test]
    fn nothing_reaches_the_terminal_raw() {
        assert_eq!(printable(b"plain name"), "plain name");
        assert_eq!(printable("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
        assert_eq!(printable(b"a\x1b[31m\nb\xff\x7f"), "a\\x1b[31m\\nb\\xff\\x7f");
        assert_eq!(printable("a\u{202e}b\u{9b}".as_bytes()), "a\\u{202e}b\\u{9b}");
    }
}
