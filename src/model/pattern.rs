//! One exclude pattern: parsing and matching, on bytes; and what names a tag file.
//!
//! Where patterns come from and in which order they count is `sources/filter`'s.

/// A pattern, ready to be matched.
#[derive(Debug, Clone)]
pub struct Pattern {
    original: String,
    negated: bool,
    anchored: bool,
    parts: Vec<Part>,
}

/// What one component of a pattern demands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`: any number of components.
    Components,
    /// This very name.
    Name(Vec<u8>),
    /// A name of this shape.
    Shape(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`: one character, or one byte that belongs to none.
    Character,
    /// `*`: any bytes.
    Any,
    /// `[…]`: one character in (or, negated, not in) one of these ranges.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// Parses a pattern that is not empty. `original` is what people are shown.
    ///
    /// # Errors
    /// It is malformed: what is wrong with it.
    pub fn parse(pattern: &[u8], original: String) -> Result<Self, &'static str> {
        let (negated, pattern) = match pattern.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let pattern = clean(pattern);
        let anchored = pattern.starts_with(b"/");
        let mut parts = Vec::new();
        for component in pattern.split(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
            let part = parse_component(component)?;
            // Two in a row say no more than one.
            if part != Part::Components || parts.last() != Some(&Part::Components) {
                parts.push(part);
            }
        }
        Ok(Self { original, negated, anchored, parts })
    }

    /// As it was written.
    pub fn original(&self) -> &str {
        &self.original
    }

    /// Whether it takes back what those before it excluded.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// Whether the path with these components, or a folder above it, is matched.
    pub fn matches(&self, path: &[&[u8]]) -> bool {
        if self.anchored {
            return matches_start(&self.parts, path);
        }
        // From the end on: a name is more often what excludes a path than a folder above, which was excluded before.
        (0..path.len()).rev().any(|start| matches_start(&self.parts, &path[start..]))
    }
}

/// Whether the parts match the path or its beginning. Only the last `**` met is ever taken back: if a way to match exists,
/// one exists with the earlier ones as short as they were.
fn matches_start(parts: &[Part], path: &[&[u8]]) -> bool {
    let (mut part, mut component) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while part < parts.len() {
        let fits = match &parts[part] {
            Part::Components => {
                retry = Some((part + 1, component));
                part += 1;
                continue;
            }
            Part::Name(name) => path.get(component).is_some_and(|found| found == name),
            Part::Shape(tokens) => path.get(component).is_some_and(|found| matches_name(tokens, found)),
        };
        if fits {
            part += 1;
            component += 1;
        } else {
            match retry {
                Some((after, taken)) if taken < path.len() => {
                    retry = Some((after, taken + 1));
                    part = after;
                    component = taken + 1;
                }
                _ => return false,
            }
        }
    }
    true
}

/// Whether a whole name has the shape; only the last `*` met is ever taken back.
fn matches_name(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let fits = match tokens.get(token) {
            None if at == name.len() => return true,
            Some(Token::Any) => {
                retry = Some((token + 1, at));
                token += 1;
                continue;
            }
            Some(Token::Byte(byte)) => (name.get(at) == Some(byte)).then_some(1),
            Some(Token::Character) => first_character(&name[at..]).map(|(_, width)| width),
            Some(Token::Class { negated, ranges }) => first_character(&name[at..]).and_then(|(character, width)| {
                let within = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                (within != *negated).then_some(width)
            }),
            None => None,
        };
        match (fits, retry) {
            (Some(width), _) => {
                token += 1;
                at += width;
            }
            (None, Some((after, taken))) if taken < name.len() => {
                retry = Some((after, taken + 1));
                token = after;
                at = taken + 1;
            }
            _ => return false,
        }
    }
}

/// The first character and its length in bytes; a byte that begins none counts as one replacement character.
fn first_character(bytes: &[u8]) -> Option<(char, usize)> {
    let start = &bytes[..bytes.len().min(4)];
    let chunk = start.utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(character) => Some((character, character.len_utf8())),
        None => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

fn parse_component(component: &[u8]) -> Result<Part, &'static str> {
    if component == b"**" {
        return Ok(Part::Components);
    }
    if !component.iter().any(|byte| matches!(byte, b'\\' | b'[' | b']' | b'*' | b'?')) {
        return Ok(Part::Name(component.to_vec()));
    }
    let mut tokens = Vec::new();
    let mut rest = component;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'*' => {
                if tokens.last() != Some(&Token::Any) {
                    tokens.push(Token::Any);
                }
            }
            b'?' => tokens.push(Token::Character),
            b'[' => tokens.push(parse_class(&mut rest)?),
            b'\\' => {
                let (escaped, after) = rest.split_first().ok_or("a `\\` with nothing behind it")?;
                tokens.push(Token::Byte(*escaped));
                rest = after;
            }
            byte => tokens.push(Token::Byte(*byte)),
        }
    }
    Ok(Part::Shape(tokens))
}

/// Parses a class whose `[` has been taken from `rest`.
fn parse_class(rest: &mut &[u8]) -> Result<Token, &'static str> {
    let negated = rest.first() == Some(&b'^');
    if negated {
        *rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    loop {
        if rest.first() == Some(&b']') && !ranges.is_empty() {
            *rest = &rest[1..];
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_character(rest)?;
        let high = if rest.first() == Some(&b'-') {
            *rest = &rest[1..];
            class_character(rest)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn class_character(rest: &mut &[u8]) -> Result<char, &'static str> {
    const UNCLOSED: &str = "a `[` without its `]`";
    match rest.first() {
        None => return Err(UNCLOSED),
        Some(b']') => return Err("a `[]` with nothing in it, or a range without an end"),
        Some(b'-') => return Err("a `-` in `[]` that is no range (write `\\-`)"),
        Some(b'\\') => *rest = &rest[1..],
        Some(_) => {}
    }
    let (character, width) = first_character(rest).ok_or(UNCLOSED)?;
    if width == 1 && character == char::REPLACEMENT_CHARACTER {
        return Err("a byte in `[]` that is not UTF-8");
    }
    *rest = &rest[width..];
    Ok(character)
}

/// Takes `.`, `..`, empty components and a trailing slash out of a path by its text alone; nothing left is `.`.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let absolute = path.starts_with(b"/");
    let mut kept: Vec<&[u8]> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => match kept.last() {
                Some(last) if *last != b".." => {
                    kept.pop();
                }
                // Above the root is the root.
                _ if absolute => {}
                _ => kept.push(component),
            },
            _ => kept.push(component),
        }
    }
    let joined = kept.join(&b'/');
    match (absolute, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// Lower case, character by character; bytes that are not UTF-8 stay.
pub fn lower_case(bytes: &[u8]) -> Vec<u8> {
    let mut lower = Vec::with_capacity(bytes.len());
    let mut buffer = [0; 4];
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            for low in character.to_lowercase() {
                lower.extend_from_slice(low.encode_utf8(&mut buffer).as_bytes());
            }
        }
        lower.extend_from_slice(chunk.invalid());
    }
    lower
}

/// The name of a tag file and what it must begin with, from `NAME` or `NAME:HEADER`; none if that could never be a file's name.
pub fn tag_file(tag: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = tag.iter().position(|byte| *byte == b':').unwrap_or(tag.len());
    let (name, header) = (&tag[..colon], tag.get(colon + 1..).unwrap_or_default());
    let is_name = !(name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0)));
    is_name.then_some((name, header))
}
