//! Applies a resource's own schema, as the API server would: unknown fields, types, bounds, forms.
//!
//! One walker over the generated schema instead of checks by hand: a bound can't be forgotten here that
//! stands there, and every refusal names its path.

use serde_json::{Map, Value};

use super::bounds::{FORMS, Form};
use super::refusal::{Refusals, Refused};

/// Which of the schema's keywords are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Only what would keep the value from being read into its type: unknown fields, missing ones,
    /// types, words of an enum.
    Readable,
    /// All of it.
    Bounds,
}

/// The deepest nesting looked at. The schemas are no recursive types, and the deepest of them
/// (a schedule's template) nests 12 deep.
const MAX_DEPTH: usize = 32;

/// Checks `value` against `schema`; refusals name paths that begin with `path`.
pub(super) fn check(value: &Value, schema: &Value, path: &str, depth: Depth) -> Refusals {
    let mut walk = Walk { depth, refusals: Refusals::default() };
    walk.value(value, schema, path, 0);
    walk.refusals
}

struct Walk {
    depth: Depth,
    refusals: Refusals,
}

impl Walk {
    fn value(&mut self, value: &Value, schema: &Value, path: &str, nesting: usize) {
        if nesting > MAX_DEPTH {
            return self.refusals.invalid(path, "is nested too deeply", "check the indentation");
        }
        if schema["x-kubernetes-int-or-string"] == Value::Bool(true) {
            return match value {
                Value::String(text) => self.string(text, schema, path),
                Value::Number(number) if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {}
                _ => self.wrong_type(value, "a number or a string", path),
            };
        }
        match (schema["type"].as_str().unwrap_or("object"), value) {
            ("object", Value::Object(fields)) => self.object(fields, schema, path, nesting),
            ("array", Value::Array(items)) => self.array(items, schema, path, nesting),
            ("string", Value::String(text)) => self.string(text, schema, path),
            ("boolean", Value::Bool(_)) => {}
            ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => {
                self.integer(number, schema, path);
            }
            ("string", Value::Number(_) | Value::Bool(_)) => self.refusals.add(
                Refused::WrongType,
                path,
                "must be a string, and YAML reads this as something else",
                "put it in quotes",
            ),
            ("object", _) => self.wrong_type(value, "an object with fields", path),
            ("array", _) => self.wrong_type(value, "a list", path),
            ("string", _) => self.wrong_type(value, "a string", path),
            ("boolean", _) => self.wrong_type(value, "true or false", path),
            ("integer", _) => self.wrong_type(value, "a whole number", path),
            (other, _) => self.wrong_type(value, other, path),
        }
    }

    fn wrong_type(&mut self, value: &Value, wanted: &str, path: &str) {
        let found = match value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object with fields",
        };
        let hint =
            if value.is_null() { "leave the field out, or give it a value" } else { "see API reference" };
        self.refusals.add(Refused::WrongType, path, format!("must be {wanted}, and is {found}"), hint);
    }

    fn object(&mut self, fields: &Map<String, Value>, schema: &Value, path: &str, nesting: usize) {
        if let Some(values) = schema.get("additionalProperties") {
            if self.depth == Depth::Bounds {
                self.at_most(fields.len(), schema, "maxProperties", "entries", path);
            }
            for (key, value) in fields {
                self.value(value, values, &format!("{path}[{}]", cut(key)), nesting + 1);
            }
            return;
        }
        let none = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&none);
        for (name, value) in fields {
            match known.get(name) {
                Some(schema) => self.value(value, schema, &join(path, name), nesting + 1),
                // metadata is the API server's own, and has no properties in a schema.
                None if known.is_empty() && path == "metadata" => {}
                None => self.unknown(name, known, path),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                let says =
                    known.get(name).and_then(|s| s["description"].as_str()).unwrap_or("see API reference");
                self.refusals.add(Refused::Missing, join(path, name), "is required", says);
            }
        }
    }

    fn unknown(&mut self, name: &str, known: &Map<String, Value>, path: &str) {
        let hint = match nearest(name, known.keys()) {
            _ if name == "namespace" => "a reference is a name in the same namespace".to_owned(),
            Some(meant) => format!("did you mean `{meant}`?"),
            None if known.is_empty() => "there are no fields here".to_owned(),
            None => {
                format!("there are: {}", known.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
            }
        };
        self.refusals.add(Refused::UnknownField, join(path, &cut(name)), "is no field of the API", hint);
    }

    fn array(&mut self, items: &[Value], schema: &Value, path: &str, nesting: usize) {
        if self.depth == Depth::Bounds {
            self.at_most(items.len(), schema, "maxItems", "items", path);
            if items.len() < limit(schema, "minItems").unwrap_or(0) {
                self.refusals.invalid(path, "is empty", "list at least one item");
            }
        }
        let key = schema["x-kubernetes-list-map-keys"][0].as_str();
        let mut seen: Vec<&str> = Vec::new();
        // Far beyond every bound the rest can only repeat what was said.
        for (i, item) in items.iter().take(1024).enumerate() {
            let name = key.and_then(|key| item.get(key)).and_then(Value::as_str);
            let at = match name {
                Some(name) => format!("{path}[{}]", cut(name)),
                None => format!("{path}[{i}]"),
            };
            match (name, key) {
                (Some(name), Some(key)) if seen.contains(&name) => {
                    self.refusals.conflict(
                        at.clone(),
                        format!("is listed twice; `{key}` must be unique"),
                        "rename one",
                    );
                }
                (Some(name), _) => seen.push(name),
                _ => {}
            }
            self.value(item, &schema["items"], &at, nesting + 1);
        }
    }

    fn string(&mut self, text: &str, schema: &Value, path: &str) {
        if let Some(words) = schema["enum"].as_array() {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            if !words.contains(&text) {
                let message = format!("`{}` is none of {}", cut(text), words.join(", "));
                let hint = match nearest(text, words) {
                    _ if text.eq_ignore_ascii_case("prefer") => {
                        "who can drop packets could make a client that prefers TLS go without; \
                         take Require or Disable if that is meant"
                            .to_owned()
                    }
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "use one of these words".to_owned(),
                };
                self.refusals.invalid(path, message, hint);
            }
            return;
        }
        if self.depth == Depth::Readable {
            return;
        }
        let characters = text.chars().count();
        if characters < limit(schema, "minLength").unwrap_or(0) {
            return self.refusals.invalid(path, "is empty", "leave the field out, or give it a value");
        }
        let form: Option<&&Form> =
            schema["pattern"].as_str().and_then(|p| FORMS.iter().find(|form| form.pattern == p));
        let says = form.map_or("", |form| form.says);
        match limit(schema, "maxLength") {
            Some(max) if characters > max => {
                let message = format!("is {characters} characters long, at most {max} are taken");
                self.refusals.invalid(path, message, if says.is_empty() { "shorten it" } else { says });
            }
            _ => {
                if let Some(form) = form.filter(|form| !(form.check)(text)) {
                    let message = format!("`{}` is not of the form that is taken here", cut(text));
                    self.refusals.invalid(path, message, format!("give {}", form.says));
                }
            }
        }
    }

    fn integer(&mut self, number: &serde_json::Number, schema: &Value, path: &str) {
        // What fits every integer type of the API can be read, and waits until all bounds are looked at.
        let narrow = number.as_u64().is_some_and(|n| n <= u64::from(u16::MAX));
        if self.depth == Depth::Readable && narrow {
            return;
        }
        let bound = |keyword: &str| schema[keyword].as_f64();
        let (low, high) = (bound("minimum"), bound("maximum"));
        let number = number.as_f64().unwrap_or(f64::INFINITY);
        if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
            let (low, high) = (low.map(|n| n.to_string()), high.map(|n| n.to_string()));
            let hint = match (low, high) {
                (Some(low), Some(high)) => format!("give a number from {low} to {high}"),
                (Some(low), None) => format!("give a number from {low} on"),
                (None, high) => format!("give a number up to {}", high.unwrap_or_default()),
            };
            self.refusals.invalid(path, format!("{number} is out of range"), hint);
        }
    }

    fn at_most(&mut self, found: usize, schema: &Value, keyword: &str, what: &str, path: &str) {
        if let Some(max) = limit(schema, keyword).filter(|max| found > *max) {
            let message = format!("has {found} {what}, at most {max} are taken");
            self.refusals.invalid(path, message, "leave some out");
        }
    }
}

fn limit(schema: &Value, keyword: &str) -> Option<usize> {
    schema[keyword].as_u64().and_then(|n| usize::try_from(n).ok())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Keeps a hostile name from filling a terminal.
fn cut(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The word that was probably meant: the same but for case, or one edit or exchange away.
pub(super) fn nearest<'a, S: AsRef<str> + ?Sized + 'a>(
    name: &str,
    words: impl IntoIterator<Item = &'a S>,
) -> Option<&'a str> {
    let distant = |word: &str| {
        let (a, b) = (name.to_lowercase(), word.to_lowercase());
        if a == b { 0 } else { edits(&a, &b) }
    };
    // Long names can't be near ours, and the distance costs their product.
    if name.len() > 64 {
        return None;
    }
    let near = words.into_iter().map(AsRef::as_ref).map(|word| (distant(word), word));
    near.filter(|(distance, word)| *distance * 3 <= word.len()).min().map(|(_, word)| word)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
