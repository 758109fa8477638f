//! A YAML file as a tree in which every key and value knows its line and column, and the problems found in it.
//!
//! It knows nothing of what a configuration may hold; that is `schema`'s.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

/// A place in a file, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Position {
    /// The first character of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl From<&Marker> for Position {
    fn from(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// Something wrong at a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub at: Position,
    /// What, in one sentence without a full stop.
    pub message: String,
}

/// One value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing behind the colon, `null` or `~`.
    Null,
    /// Text, a number or a boolean: which, decides whoever reads it.
    Scalar {
        text: String,
        /// Written in quotes, so it is text whatever it looks like.
        quoted: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// Keys with their values, in the order of the file; a key may occur twice.
    Map(Vec<(Key, Node)>),
}

/// A key with its place.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) at: Position,
    pub(super) text: String,
}

impl Node {
    /// The value of the key at the end of this path of keys.
    pub(super) fn find(&self, path: &[&str]) -> Option<(&Key, &Node)> {
        let (first, rest) = path.split_first()?;
        let Value::Map(entries) = &self.value else { return None };
        let (key, node) = entries.iter().find(|(key, _)| key.text == *first)?;
        if rest.is_empty() { Some((key, node)) } else { node.find(rest) }
    }

    /// The place of the deepest part of this path that is there.
    pub(super) fn position(&self, path: &[&str]) -> Position {
        (1..=path.len()).rev().find_map(|length| self.find(&path[..length])).map_or(self.at, |(key, _)| key.at)
    }
}

/// A tree may have so many nodes: aliases that refer to aliases would otherwise grow without bound.
const NODE_LIMIT: usize = 100_000;

/// Reads a file. `None` if there is nothing in it.
///
/// # Errors
/// It is no YAML, or uses what a configuration has no use for.
pub(super) fn parse(text: &str) -> Result<Option<Node>, Vec<Problem>> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let tabs = tab_problems(text);
                let problem = Problem { at: error.marker().into(), message: format!("this is no YAML: {}", error.info()) };
                return Err(if tabs.is_empty() { vec![problem] } else { tabs });
            }
        };
        builder.take(event, (&span.start).into()).map_err(|problem| vec![problem])?;
    }
    Ok(builder.root.filter(|root| !matches!(root.value, Value::Null)))
}

/// Lines that are indented by tabs, which YAML forbids. Only asked for when a parser has refused the file: in a block of
/// text a tab is content.
pub(super) fn tab_problems(text: &str) -> Vec<Problem> {
    let place = |(line, content): (usize, &str)| {
        let blanks = content.find(|c| c != ' ' && c != '\t').unwrap_or(content.len());
        let column = content[..blanks].find('\t')?;
        let message = "a tab where only spaces may stand: indent with spaces".to_owned();
        Some(Problem { at: Position { line: line + 1, column: column + 1 }, message })
    };
    text.lines().enumerate().filter_map(place).collect()
}

/// A container that is still open.
enum Open {
    List(Vec<Node>),
    Map(Vec<(Key, Node)>, Option<Key>),
}

#[derive(Default)]
struct Builder {
    open: Vec<(Position, usize, Open)>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    documents: usize,
    root: Option<Node>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<(), Problem> {
        let problem = |message: &str| Err(Problem { at, message: message.to_owned() });
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return problem("a second document starts here: a configuration is one document");
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(tag) = tag {
                    let message = format!("`{tag}` is a YAML tag here: put a value that begins with `!` in quotes");
                    return Err(Problem { at, message });
                }
                let quoted = style != ScalarStyle::Plain;
                let null = !quoted && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Scalar { text: text.into_owned(), quoted } };
                self.push(Node { at, value }, anchor)?;
            }
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) if tag.is_some() => {
                let _ = anchor;
                return problem("YAML tags have no meaning in a configuration");
            }
            Event::SequenceStart(anchor, _) => self.open.push((at, anchor, Open::List(Vec::new()))),
            Event::MappingStart(anchor, _) => self.open.push((at, anchor, Open::Map(Vec::new(), None))),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((at, anchor, open)) = self.open.pop() {
                    let value = match open {
                        Open::List(nodes) => Value::List(nodes),
                        Open::Map(entries, _) => Value::Map(entries),
                    };
                    self.push(Node { at, value }, anchor)?;
                }
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    self.nodes += count(&node);
                    self.push(Node { at, ..node }, 0)?;
                }
                None => return problem("this refers to itself"),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn push(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        self.nodes += 1;
        if self.nodes > NODE_LIMIT {
            return Err(Problem { at: node.at, message: format!("more than {NODE_LIMIT} values") });
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((_, _, Open::List(nodes))) => nodes.push(node),
            Some((_, _, Open::Map(entries, waiting))) => match waiting.take() {
                Some(key) => entries.push((key, node)),
                None => match node.value {
                    Value::Scalar { text, .. } => *waiting = Some(Key { at: node.at, text }),
                    _ => return Err(Problem { at: node.at, message: "a key must be one word".to_owned() }),
                },
            },
        }
        Ok(())
    }
}

fn count(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Scalar { .. } => 1,
        Value::List(nodes) => 1 + nodes.iter().map(count).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, node)| count(node)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_key_knows_its_place() {
        let root = parse("# top\nsets:\n  web:\n    paths: [/a, /b]\n").unwrap().unwrap();
        assert_eq!(root.position(&["sets", "web", "paths"]), Position { line: 4, column: 5 });
        assert_eq!(root.position(&["sets", "web", "missing"]), Position { line: 3, column: 3 });
        let (_, node) = root.find(&["sets", "web", "paths"]).unwrap();
        let Value::List(paths) = &node.value else { unreachable!() };
        assert_eq!(paths[1].at, Position { line: 4, column: 17 });
    }

    #[test]
    fn tabs_are_named_one_by_one() {
        let problems = parse("sets:\n\tweb:\n\t\tpaths: [/a]\n").unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.at.line).collect::<Vec<_>>(), [2, 3]);
        assert_eq!((problems[0].at.column, problems[0].message.starts_with("a tab")), (1, true));
    }

    #[test]
    fn aliases_cannot_grow_without_bound() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            use std::fmt::Write as _;
            let list = vec![format!("*a{}", level - 1); 10].join(", ");
            writeln!(text, "a{level}: &a{level} [{list}]").unwrap();
        }
        assert!(parse(&text).unwrap_err()[0].message.contains("more than"));
        assert!(parse("a: &a [*a]").is_err());
    }

    #[test]
    fn nothing_else_is_let_through() {
        assert!(parse("").unwrap().is_none());
        assert!(parse("# only a comment\n").unwrap().is_none());
        assert!(parse("---\n").unwrap().is_none());
        assert!(parse("a: !cache\n").unwrap_err()[0].message.contains("quotes"));
        assert!(parse("a: 1\n---\nb: 2\n").unwrap_err()[0].message.contains("second document"));
        assert!(parse("[1]: 2\n").unwrap_err()[0].message.contains("one word"));
        assert!(parse("a: [1\n").is_err());
        let deep = "[".repeat(100_000);
        assert!(parse(&deep).is_err());
    }
}
