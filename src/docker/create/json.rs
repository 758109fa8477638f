//! Short ways through raw JSON of the Engine.
//!
//! What comes from a snapshot may be anything: a field of another type than expected counts as absent.

use serde_json::{Map, Value};

/// The text at a JSON pointer, if it is text and not empty.
pub fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

/// The truth at a JSON pointer; anything else counts as false.
pub fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// The object at a JSON pointer.
pub fn object<'a>(value: &'a Value, pointer: &str) -> Option<&'a Map<String, Value>> {
    value.pointer(pointer)?.as_object()
}

/// The elements of an array at a JSON pointer; none for anything else.
pub fn array<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts in an array at a JSON pointer.
pub fn texts<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    array(value, pointer).iter().filter_map(Value::as_str)
}

/// Whether a value says nothing: null, empty text, empty array, empty object.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether a value is what the Engine writes for a field that nobody set: empty, false or zero.
pub fn is_default(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        other => is_empty(other),
    }
}

/// A path in a container without doubled and trailing slashes, so that two spellings of one mount point are equal.
pub fn clean_path(path: &str) -> String {
    let mut clean = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        clean.push('/');
        clean.push_str(part);
    }
    if clean.is_empty() { "/".to_owned() } else { clean }
}
