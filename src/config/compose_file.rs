//! What a compose file names: environment files, configurations and secrets that lie in files of their own. Pure.
//!
//! Reading them is the business of `sources/compose`.

use std::collections::BTreeMap;

use super::tree::{Node, Value, parse};

/// A file that a compose file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// `env_file`, `config`, `secret`.
    pub what: &'static str,
    /// Its path as it is written.
    pub path: String,
    /// Whether compose would not start without it.
    pub required: bool,
}

/// The files that a compose file names, in its order.
///
/// # Errors
/// It is no YAML, or uses what is not understood here: the reason.
pub fn named(text: &str) -> Result<Vec<NamedFile>, String> {
    let root = match parse(text) {
        Ok(Some(root)) => root,
        Ok(None) => return Ok(Vec::new()),
        Err(problems) => return Err(problems.into_iter().next().map_or_else(String::new, |problem| problem.message)),
    };
    let mut found = Vec::new();
    for service in children(root.find(&["services"])) {
        environment_files(service, &mut found);
    }
    for (section, what) in [("configs", "config"), ("secrets", "secret")] {
        for one in children(root.find(&[section])) {
            if let Some(path) = one.find(&["file"]).and_then(|(_, node)| text_of(node)) {
                found.push(NamedFile { what, path: path.to_owned(), required: true });
            }
        }
    }
    Ok(found)
}

fn children<K>(section: Option<(K, &Node)>) -> impl Iterator<Item = &Node> {
    let entries = match section.map(|(_, node)| &node.value) {
        Some(Value::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().map(|(_, node)| node)
}

fn text_of(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// The `env_file` of a service: a path, or a list of paths and of `{path, required}`.
fn environment_files(service: &Node, found: &mut Vec<NamedFile>) {
    let mut add = |node: &Node| {
        let path = text_of(node).or_else(|| node.find(&["path"]).and_then(|(_, path)| text_of(path)));
        let required = node.find(&["required"]).and_then(|(_, required)| text_of(required)).is_none_or(|required| required != "false");
        found.extend(path.map(|path| NamedFile { what: "env_file", path: path.to_owned(), required }));
    };
    // A service may take what it has in common with others from an anchor.
    let merged = service.find(&["<<"]).and_then(|(_, merged)| merged.find(&["env_file"]));
    if let Some((_, node)) = service.find(&["env_file"]).or(merged) {
        match &node.value {
            Value::List(nodes) => nodes.iter().for_each(&mut add),
            _ => add(node),
        }
    }
}

/// The variables of a `.env` file. What its quotes and escapes may mean beyond plain words is left alone.
pub fn variables(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let (name, value) = line.trim().strip_prefix("export ").unwrap_or(line.trim()).split_once('=')?;
        let value = value.trim();
        let bare = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value);
        (!name.starts_with('#')).then(|| (name.trim().to_owned(), bare.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// A path with its variables (`$NAME`, `${NAME}`, `${NAME:-default}`) replaced; none if one of them is not known.
pub fn expand(path: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, default, left) = if let Some(inner) = after.strip_prefix('{') {
            let (inner, left) = inner.split_once('}')?;
            let with_default = inner.split_once(":-").or_else(|| inner.split_once('-'));
            let (name, default) = with_default.map_or((inner, None), |(name, default)| (name, Some(default)));
            (name, default, left)
        } else {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            (&after[..end], None, &after[end..])
        };
        let value = variables.get(name).map(String::as_str).filter(|value| !value.is_empty() || default.is_none()).or(default)?;
        out.push_str(value);
        rest = left;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_way_to_name_a_file_is_understood() {
        let text = "x-common: &common {env_file: common.env}\nservices:\n  a: {env_file: a.env}\n  b:\n    env_file:\n      - b.env\n      \
                    - path: c.env\n        required: false\n  c: {<<: *common}\n  d: {image: x}\n\
                    configs: {one: {file: ./one.conf}, two: {content: x}}\nsecrets:\n  p:\n    file: p.txt\n  q: {external: true}\n";
        let found: Vec<String> =
            named(text).unwrap().into_iter().map(|file| format!("{} {} {}", file.what, file.path, file.required)).collect();
        assert_eq!(
            found,
            [
                "env_file a.env true",
                "env_file b.env true",
                "env_file c.env false",
                "env_file common.env true",
                "config ./one.conf true",
                "secret p.txt true"
            ]
        );
        assert_eq!(named("").unwrap(), []);
        assert_eq!(named("services: [1, 2]\nconfigs: x\n").unwrap(), []);
        assert!(named("a: [1\n").is_err());
    }

    #[test]
    fn variables_are_replaced_or_the_path_is_not_known() {
        let known = variables("# no=comment\nDIR=/srv\nexport QUOTED=\"a b\"\nEMPTY=\nnonsense\n");
        assert_eq!(known.len(), 3, "{known:?}");
        for (path, expected) in [
            ("plain/x.env", Some("plain/x.env")),
            ("$DIR/x", Some("/srv/x")),
            ("${DIR}/${QUOTED}", Some("/srv/a b")),
            ("${NONE:-./here}/x", Some("./here/x")),
            ("${EMPTY:-e}", Some("e")),
            ("$$x", Some("$x")),
            ("$NONE/x", None),
            ("${DIR", None),
        ] {
            assert_eq!(expand(path, &known).as_deref(), expected, "{path}");
        }
    }
}
