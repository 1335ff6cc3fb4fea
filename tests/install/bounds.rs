//! Every bound of every field: one step beyond it is refused by the API server, in words about that bound, and the
//! example that the step was made from is taken.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vouchsafe::api::Kind;
use vouchsafe::api::definition::schema;

use crate::examples;
use crate::server::shared;

/// One value that is beyond one bound, and a part of what the server says to it.
struct Beyond {
    keyword: &'static str,
    value: Value,
    says: &'static str,
}

/// What is beyond the bounds of `schema`, made from the value `good` that is within.
fn beyond(schema: &Value, good: &Value) -> Vec<Beyond> {
    let mut all = Vec::new();
    let mut add = |keyword, value, says| all.push(Beyond { keyword, value, says });
    let bound = |keyword: &str| schema[keyword].as_u64().and_then(|bound| usize::try_from(bound).ok());
    let integer = schema["x-kubernetes-int-or-string"] == true;
    if !integer {
        let wrong = if schema["type"] == "boolean" { json!("yes") } else { json!(true) };
        add("type", wrong, "must be of type");
    }
    if schema.get("enum").is_some() {
        add("enum", json!("Nonsense"), "Unsupported value");
    } else if let Some(longest) = bound("maxLength") {
        add("maxLength", json!("a".repeat(longest + 1)), "Too long");
    }
    if bound("minLength") == Some(1) {
        add("minLength", json!(""), "at least 1 chars long");
    }
    if schema.get("pattern").is_some() {
        // What no pattern takes: each leaves out one or the other.
        add("pattern", json!(" \u{0}"), "should match");
    }
    if let Some(least) = schema["minimum"].as_i64() {
        add("minimum", json!(least - 1), "greater than or equal to");
    }
    if let Some(most) = schema["maximum"].as_i64() {
        add("maximum", json!(most + 1), "less than or equal to");
    }
    if let Some(most) = bound("maxItems") {
        let items = good.as_array().expect("a list");
        let one = items.first().cloned().unwrap_or_else(|| json!("a.b"));
        let key = schema["x-kubernetes-list-map-keys"][0].as_str();
        let numbered = |number: usize| {
            let mut item = one.clone();
            if let Some(key) = key {
                item[key] = json!(format!("n{number}"));
            }
            item
        };
        add("maxItems", (0..=most).map(numbered).collect(), "must have at most");
        if key.is_some() {
            add("x-kubernetes-list-type", json!([one, one]), "Duplicate value");
        }
    }
    if bound("minItems") == Some(1) {
        add("minItems", json!([]), "at least 1 items");
    }
    if let Some(most) = bound("maxProperties") {
        let one = good.as_object().expect("a map").values().next().cloned().unwrap_or(json!("a"));
        let map = (0..=most).map(|number| (format!("k{number}"), one.clone())).collect();
        add("maxProperties", Value::Object(map), "must have at most");
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        let mut without = good.clone();
        without.as_object_mut().expect("an object").remove(required.as_str().expect("a name"));
        add("required", without, "Required value");
    }
    all
}

/// Calls `visit(pointer, path, schema, value)` for every value of an example.
fn walk<'a>(
    (pointer, path): (&str, &str),
    schema: &'a Value,
    value: &'a Value,
    visit: &mut impl FnMut(&str, &str, &'a Value, &'a Value),
) {
    visit(pointer, path, schema, value);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                let (schema, step) = match schema.get("additionalProperties") {
                    Some(schema) => (schema, "{}".to_owned()),
                    None => (&schema["properties"][name], format!(".{name}")),
                };
                walk((&format!("{pointer}/{escaped}"), &format!("{path}{step}")), schema, value, visit);
            }
        }
        Value::Array(items) => {
            for (number, value) in items.iter().enumerate() {
                let place = (format!("{pointer}/{number}"), format!("{path}[]"));
                walk((&place.0, &place.1), &schema["items"], value, visit);
            }
        }
        _ => {}
    }
}

/// Every path of a schema.
fn paths(path: &str, schema: &Value, all: &mut BTreeSet<String>) {
    all.insert(path.to_owned());
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        paths(&format!("{path}.{name}"), schema, all);
    }
    for (field, step) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(schema) = schema.get(field) {
            paths(&format!("{path}{step}"), schema, all);
        }
    }
}

fn every_bound(kind: Kind) {
    let server = shared();
    let spec = &schema(kind)["properties"]["spec"];
    let mut visited = BTreeSet::new();
    let mut tried = BTreeSet::new();
    let mut wrong = Vec::new();
    for example in examples::of(kind) {
        server.try_create(&example).unwrap_or_else(|error| panic!("the example is refused: {error}"));
        server.try_out(&example).unwrap_or_else(|error| panic!("the example is refused: {error}"));
        walk(("/spec", "spec"), spec, &example["spec"], &mut |pointer, path, schema, good| {
            visited.insert(path.to_owned());
            for Beyond { keyword, value, says } in beyond(schema, good) {
                if !tried.insert((path.to_owned(), keyword, value.to_string())) {
                    continue;
                }
                let mut bad = example.clone();
                *bad.pointer_mut(pointer).expect("a place in the example") = value;
                match server.try_create(&bad) {
                    Ok(()) => wrong.push(format!("{path}: nothing is said of {keyword}")),
                    Err(message) if message.contains(says) => {}
                    Err(message) => wrong.push(format!("{path}: of {keyword} it is said: {message}")),
                }
            }
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut all = BTreeSet::new();
    paths("spec", spec, &mut all);
    let missing: Vec<&String> = all.difference(&visited).collect();
    assert!(missing.is_empty(), "no example has {missing:?}");
    println!("{kind}: {} values beyond a bound", tried.len());
}

#[test]
fn every_bound_of_a_store() {
    every_bound(Kind::BackupStore);
}

#[test]
fn every_bound_of_a_schedule() {
    every_bound(Kind::BackupSchedule);
}

#[test]
fn every_bound_of_a_backup() {
    every_bound(Kind::Backup);
}

#[test]
fn every_bound_of_a_restore() {
    every_bound(Kind::Restore);
}
