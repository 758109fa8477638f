//! Reads Rust sources just well enough for the rules: tokens with their lines, the paths that are named, attributes, and which
//! parts are tests.
//!
//! It is no parser: macros are seen as the tokens they are written with.

/// One word or sign of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// An identifier, `::`, or a single character.
    pub(crate) text: String,
    /// Line, from 1.
    pub(crate) line: usize,
}

/// A path that a source names: `crate::model::entry::Entry` or `tokio::spawn`, with relative beginnings resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPath {
    /// Its words; the first is `crate` or the name of a library (or of something local).
    pub(crate) words: Vec<String>,
    /// Line of the last word.
    pub(crate) line: usize,
    /// Whether it is in a `pub use` of any visibility.
    pub(crate) exported: bool,
}

/// An attribute, `#[…]` or `#![…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    /// What is between the brackets.
    pub(crate) tokens: Vec<String>,
    /// Line of its `#`.
    pub(crate) line: usize,
}

/// A source file, taken apart.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Path relative to the package, with `/`.
    pub(crate) path: String,
    /// The text itself.
    pub(crate) text: String,
    /// The module that the file is, without `crate`: `["repository", "restic"]`; empty for `lib.rs` and `main.rs`.
    pub(crate) module: Vec<String>,
    /// Paths outside tests.
    pub(crate) paths: Vec<NamedPath>,
    /// All attributes, tests included.
    pub(crate) attributes: Vec<Attribute>,
    /// First and last line of inline test modules.
    pub(crate) test_lines: Vec<(usize, usize)>,
    /// Modules of their own file that are declared under `#[cfg(test)]`, as full module paths.
    pub(crate) test_modules: Vec<Vec<String>>,
    /// Whether the whole file is tests.
    pub(crate) is_test: bool,
}

impl SourceFile {
    /// Takes a source apart.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let module = module_of(path);
        let tokens = tokens(text);
        let mut file = Self {
            path: path.to_owned(),
            text: text.to_owned(),
            module: module.clone(),
            paths: Vec::new(),
            attributes: Vec::new(),
            test_lines: Vec::new(),
            test_modules: Vec::new(),
            is_test: !path.starts_with("src/") || module.last().is_some_and(|name| name == "tests"),
        };
        Walk { tokens: &tokens, at: 0, modules: module, open: Vec::new(), depth: 0 }.run(&mut file);
        file
    }

    /// Lines that are not inline tests.
    pub(crate) fn lines_outside_tests(&self) -> usize {
        let tests: usize = self.test_lines.iter().map(|(first, last)| last - first + 1).sum();
        self.text.lines().count() - tests
    }
}

/// Marks files that another file declares with `#[cfg(test)] mod name;`, and the files below them.
pub(crate) fn mark_test_files(files: &mut [SourceFile]) {
    let tests: Vec<Vec<String>> = files.iter().flat_map(|file| file.test_modules.clone()).collect();
    for file in files {
        file.is_test |= tests.iter().any(|module| file.module.starts_with(module));
    }
}

fn module_of(path: &str) -> Vec<String> {
    let inner = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
    if inner == "lib" || inner == "main" { Vec::new() } else { inner.split('/').map(str::to_owned).collect() }
}

/// Cuts a source into tokens; comments and literals are left out.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = literal(rest) {
            length
        } else if bytes[at].is_ascii_alphabetic() || bytes[at] == b'_' {
            let length = rest.find(|sign: char| !sign.is_alphanumeric() && sign != '_').unwrap_or(rest.len());
            found.push(Token { text: rest[..length].to_owned(), line });
            length
        } else if rest.starts_with("::") {
            found.push(Token { text: "::".to_owned(), line });
            2
        } else {
            let sign = rest.chars().next().unwrap_or(' ');
            if !sign.is_whitespace() {
                found.push(Token { text: sign.to_string(), line });
            }
            sign.len_utf8()
        };
        line += rest[..length].matches('\n').count();
        at += length;
    }
    found
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of the string, character or number that `rest` begins with, if it begins with one.
fn literal(rest: &str) -> Option<usize> {
    if rest.starts_with(|sign: char| sign.is_ascii_digit()) {
        return Some(rest.find(|sign: char| !sign.is_alphanumeric() && sign != '_').unwrap_or(rest.len()));
    }
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let body = rest.strip_prefix(prefix).unwrap_or("");
        let hashes = body.trim_start_matches('#');
        if prefix.ends_with('r') { hashes.starts_with('"') } else { body.starts_with('"') || (*prefix != "c" && body.starts_with('\'')) }
    })?;
    let body = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let inside = &body[hashes + 1..];
        return Some(prefix.len() + hashes + 1 + inside.find(&end).map_or(inside.len(), |at| at + end.len()));
    }
    if let Some(inside) = body.strip_prefix('\'') {
        // A character ends two or more characters later; everything else with a quote is a lifetime.
        let mut inside = inside.char_indices();
        let (_, first) = inside.next()?;
        if first != '\\' {
            return match inside.next() {
                Some((at, '\'')) => Some(prefix.len() + 1 + at + 1),
                _ => Some(prefix.len() + 1),
            };
        }
        inside.next();
        return inside.find(|(_, sign)| *sign == '\'').map(|(at, _)| prefix.len() + 1 + at + 1);
    }
    let mut escaped = false;
    for (at, sign) in body.char_indices().skip(1) {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(prefix.len() + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// Goes through the tokens of one file.
struct Walk<'a> {
    tokens: &'a [Token],
    at: usize,
    /// The module that the current token is in.
    modules: Vec<String>,
    /// Depths of braces at which inline modules began.
    open: Vec<usize>,
    depth: usize,
}

impl Walk<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    fn run(mut self, file: &mut SourceFile) {
        let mut test_attribute: Option<usize> = None;
        while self.at < self.tokens.len() {
            let line = self.tokens[self.at].line;
            match self.text(self.at) {
                "#" => {
                    let attribute = self.attribute(line);
                    if attribute.tokens == ["cfg", "(", "test", ")"] {
                        test_attribute.get_or_insert(line);
                    }
                    self.paths_in_attribute(&attribute, file);
                    file.attributes.push(attribute);
                    continue;
                }
                "pub" | "(" | ")" | "crate" | "super" if test_attribute.is_some() && self.is_visibility() => {}
                "mod" if self.text(self.at + 2) == "{" && test_attribute.is_some() => {
                    self.at += 2;
                    let last = self.skip_block(file);
                    file.test_lines.push((test_attribute.take().unwrap_or(line), last));
                    continue;
                }
                "mod" if self.text(self.at + 2) == "{" => {
                    self.modules.push(self.text(self.at + 1).to_owned());
                    self.open.push(self.depth);
                    self.at += 1;
                }
                "mod" if self.text(self.at + 2) == ";" => {
                    if test_attribute.take().is_some() {
                        let mut module = self.modules.clone();
                        module.push(self.text(self.at + 1).to_owned());
                        file.test_modules.push(module);
                    }
                    self.at += 1;
                }
                "use" => {
                    test_attribute = None;
                    self.use_tree(file);
                    continue;
                }
                "{" => self.depth += 1,
                "}" => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.open.last() == Some(&self.depth) {
                        self.open.pop();
                        self.modules.pop();
                    }
                }
                _ => {
                    test_attribute = None;
                    if self.text(self.at + 1) == "::" && self.text(self.at.wrapping_sub(1)) != "::" {
                        let (words, line) = self.words();
                        file.paths.push(NamedPath { words: self.resolve(words), line, exported: false });
                        continue;
                    }
                }
            }
            self.at += 1;
        }
    }

    /// Whether the token belongs to `pub`, `pub(crate)` or `pub(super)` before an item.
    fn is_visibility(&self) -> bool {
        self.text(self.at) == "pub"
            || self.text(self.at + 1) == ")"
            || self.text(self.at.wrapping_sub(1)) == "pub"
            || self.text(self.at) == ")"
    }

    /// Reads from `#` to the closing bracket.
    fn attribute(&mut self, line: usize) -> Attribute {
        self.at += 1;
        if self.text(self.at) == "!" {
            self.at += 1;
        }
        let mut tokens = Vec::new();
        if self.text(self.at) != "[" {
            return Attribute { tokens, line };
        }
        let mut depth = 0;
        while self.at < self.tokens.len() {
            match self.text(self.at) {
                "[" => depth += 1,
                "]" => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                break;
            }
            tokens.push(self.text(self.at - 1).to_owned());
        }
        if !tokens.is_empty() {
            tokens.remove(0);
        }
        Attribute { tokens, line }
    }

    fn paths_in_attribute(&self, attribute: &Attribute, file: &mut SourceFile) {
        for (at, pair) in attribute.tokens.windows(2).enumerate() {
            let begins = at == 0 || attribute.tokens[at - 1] != "::";
            if begins && pair[1] == "::" && pair[0].starts_with(|sign: char| sign.is_alphabetic()) {
                let rest = &attribute.tokens[at..];
                let words = rest.iter().enumerate().take_while(|(index, token)| index % 2 == 0 || *token == "::");
                let words: Vec<String> = words.filter(|(index, _)| index % 2 == 0).map(|(_, token)| token.clone()).collect();
                file.paths.push(NamedPath { words: self.resolve(words), line: attribute.line, exported: false });
            }
        }
    }

    /// Skips the block that the current `{` opens, still noting its attributes, and returns its last line.
    fn skip_block(&mut self, file: &mut SourceFile) -> usize {
        let mut depth = 0;
        let mut line = 0;
        while self.at < self.tokens.len() {
            line = self.tokens[self.at].line;
            match self.text(self.at) {
                "{" => depth += 1,
                "}" => depth -= 1,
                "#" => {
                    let attribute = self.attribute(line);
                    file.attributes.push(attribute);
                    continue;
                }
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
        line
    }

    /// Reads `a::b::c`, stopping before anything else.
    fn words(&mut self) -> (Vec<String>, usize) {
        let mut words = vec![self.text(self.at).to_owned()];
        let mut line = self.tokens[self.at].line;
        self.at += 1;
        while self.text(self.at) == "::" && self.text(self.at + 1).starts_with(|sign: char| sign.is_alphabetic() || sign == '_') {
            words.push(self.text(self.at + 1).to_owned());
            line = self.tokens[self.at + 1].line;
            self.at += 2;
        }
        (words, line)
    }

    fn use_tree(&mut self, file: &mut SourceFile) {
        let exported = matches!(self.text(self.at.wrapping_sub(1)), "pub" | ")");
        self.at += 1;
        let mut prefixes: Vec<Vec<String>> = vec![Vec::new()];
        let mut current: Vec<String> = Vec::new();
        let mut line = 0;
        let mut renaming = false;
        let mut named: Vec<NamedPath> = Vec::new();
        let mut take = |current: &mut Vec<String>, prefixes: &[Vec<String>], line: usize| {
            if !current.is_empty() {
                let mut words = prefixes.concat();
                words.append(current);
                if words.len() > 1 && words.last().is_some_and(|word| word == "self" || word == "*") {
                    words.pop();
                }
                named.push(NamedPath { words, line, exported });
            }
        };
        while self.at < self.tokens.len() {
            match self.text(self.at) {
                ";" => break,
                "{" => prefixes.push(std::mem::take(&mut current)),
                "}" => {
                    take(&mut current, &prefixes, line);
                    prefixes.pop();
                    renaming = false;
                }
                "," => {
                    take(&mut current, &prefixes, line);
                    renaming = false;
                }
                "as" => renaming = true,
                "::" => {}
                word if !renaming => {
                    line = self.tokens[self.at].line;
                    current.push(word.to_owned());
                }
                _ => {}
            }
            self.at += 1;
        }
        take(&mut current, &prefixes, line);
        for path in named {
            file.paths.push(NamedPath { words: self.resolve(path.words), ..path });
        }
    }

    /// Replaces `self` and `super` at the beginning by the module they mean.
    fn resolve(&self, words: Vec<String>) -> Vec<String> {
        let supers = words.iter().take_while(|word| *word == "super").count();
        let selves = usize::from(words.first().is_some_and(|word| word == "self"));
        if supers + selves == 0 {
            return words;
        }
        let mut resolved = vec!["crate".to_owned()];
        resolved.extend_from_slice(&self.modules[..self.modules.len().saturating_sub(supers)]);
        resolved.extend_from_slice(&words[supers + selves..]);
        resolved
    }
}
