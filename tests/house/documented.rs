//! What docs/ promises of failures and of JSON, held against the code: every reason has one entry, every field one
//! place in a table, and none of them is there without the other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use vouchsafe::cli::{documents, reasons};

use crate::root;

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).expect("a page of docs/")
}

/// What follows `mark` at the beginning of lines.
fn headings<'a>(text: &'a str, mark: &'a str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(mark)).map(str::trim).collect()
}

/// What is wrong with the entries of a page of reasons.
fn wrong_entries(page: &str, reasons: &BTreeSet<&str>) -> Vec<String> {
    let entries = headings(page, "### ");
    let known = |entry: &&str| reasons.contains(*entry);
    let unknown =
        entries.iter().filter(|entry| !known(entry)).map(|entry| format!("{entry}: no such reason"));
    let counted = reasons.iter().filter_map(|reason| {
        let count = entries.iter().filter(|entry| *entry == reason).count();
        (count != 1).then(|| format!("{reason}: {count} entries"))
    });
    let empty = entries.iter().filter(|entry| {
        let text = page.split(&format!("### {entry}\n")).nth(1).unwrap_or_default();
        text.trim_start().is_empty() || text.trim_start().starts_with('#')
    });
    unknown.chain(counted).chain(empty.map(|entry| format!("{entry}: nothing is said"))).collect()
}

#[test]
fn every_reason_has_one_entry_in_troubleshooting() {
    let reasons = reasons();
    assert!(reasons.len() > 90, "only {} reasons: the list is not that of the code", reasons.len());
    let wrong = wrong_entries(&page("troubleshooting.md"), &reasons);
    assert!(wrong.is_empty(), "docs/troubleshooting.md: {wrong:#?}");
}

#[test]
fn entries_that_are_missing_doubled_unknown_or_empty_are_caught() {
    let reasons = BTreeSet::from(["A", "B", "C"]);
    let page = "### A\ntext\n\n### B\ntext\n\n### B\ntext\n\n### D\n";
    assert_eq!(
        wrong_entries(page, &reasons),
        ["D: no such reason", "B: 2 entries", "C: 0 entries", "D: nothing is said"]
    );
}

/// Paths of all fields that a schema has: `runs[].run`, `failure.hint`, `omissions[]`.
fn fields(schema: &Value, all: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
        return fields(&all["$defs"][name], all, path, found);
    }
    // One that may be null.
    if let Some(other) = schema["anyOf"].as_array().and_then(|any| any.iter().find(|it| it["type"] != "null"))
    {
        return fields(other, all, path, found);
    }
    if let Some(properties) = schema["properties"].as_object() {
        let dot = if path.is_empty() { "" } else { "." };
        for (name, property) in properties {
            fields(property, all, &format!("{path}{dot}{name}"), found);
        }
    } else if schema.get("items").is_some_and(Value::is_object) {
        fields(&schema["items"], all, &format!("{path}[]"), found);
    } else {
        found.insert(path.to_owned());
    }
}

/// The chapters of a page, by name.
fn chapters(page: &str) -> BTreeMap<&str, &str> {
    page.split("\n## ").skip(1).filter_map(|chapter| chapter.split_once('\n')).collect()
}

/// Paths in the first columns of a chapter's tables, in order.
fn told(chapters: &BTreeMap<&str, &str>, name: &str) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for line in chapters.get(name).copied().unwrap_or_default().lines() {
        let Some((first, rest)) = line.strip_prefix("| ").and_then(|line| line.split_once(" |")) else {
            continue;
        };
        for field in first.split('`').skip(1).step_by(2) {
            let path = match (field.strip_prefix('.'), told.last()) {
                (Some(neighbour), Some(last)) => {
                    let parent = last.rsplit_once('.').map_or("", |(parent, _)| parent);
                    format!("{parent}.{neighbour}")
                }
                _ => field.to_owned(),
            };
            match rest.split_once("the document of [").and_then(|(_, rest)| rest.split_once(']')) {
                Some((other, _)) => {
                    let other = self::told(chapters, other);
                    told.extend(other.iter().map(|of_other| format!("{path}.{of_other}")));
                }
                None => told.push(path),
            }
        }
    }
    told
}

#[test]
fn every_field_of_the_json_is_in_its_table_and_no_other() {
    let page = page("json.md");
    let chapters = chapters(&page);
    let documents = documents();
    let names: Vec<&str> = chapters.keys().copied().collect();
    assert_eq!(names, documents.keys().copied().collect::<Vec<_>>(), "chapters of docs/json.md");
    for (name, schema) in documents {
        let schema = schema.to_value();
        let mut written = BTreeSet::new();
        fields(&schema, &schema, "", &mut written);
        let told = told(&chapters, name);
        let distinct: BTreeSet<String> = told.iter().cloned().collect();
        assert_eq!(distinct, written, "fields of {name}: left what docs/json.md has, right what is written");
        assert_eq!(distinct.len(), told.len(), "a field of {name} is told twice: {told:?}");
    }
}

#[test]
fn tables_are_read_with_neighbours_and_references() {
    let page = "# Page\n\n## a\n\n| field | |\n| --- | --- |\n| `x[].y`, `.z` | `no` |\n| `w` | |\n\n## b\n\n\
                | `it` | the document of [a](#a) |\n";
    let chapters = chapters(page);
    assert_eq!(told(&chapters, "a"), ["x[].y", "x[].z", "w"]);
    assert_eq!(told(&chapters, "b"), ["it.x[].y", "it.x[].z", "it.w"]);
}
