//! The house rules of docs/design.md that a compiler doesn't check: which module may import what, which crates
//! may be built, how long a file may get, and what no tracked file may say. And docs/ must say what the code does. Needs no server.
//!
//! Every rule is also shown to catch a break of it, so that a scanner gone blind fails here.

mod crates;
mod documented;
mod imports;
mod monitored;
mod rust_source;
mod tracked;

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// The folder of the root package.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below `folder`, with their paths relative to the root.
fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = vec![];
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a file of UTF-8");
                let relative = path.strip_prefix(root()).expect("a path below the root").to_owned();
                files.push((relative, text));
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "no Rust file below {folder}: the scan looks in the wrong place");
    files
}

/// Fails with one line for each break of a rule.
fn assert_none<T: Display>(rule: &str, breaks: &[T]) {
    let lines: Vec<String> = breaks.iter().map(ToString::to_string).collect();
    assert!(breaks.is_empty(), "{rule}\n{}", lines.join("\n"));
}

/// A file of this many lines should have been two a hundred lines ago.
const LONGEST_FILE: usize = 500;

#[test]
fn files_stay_short() {
    let breaks: Vec<String> = ["src", "testbed", "e2e"]
        .into_iter()
        .flat_map(rust_files)
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert_none(
        &format!("A file has at most {LONGEST_FILE} lines (aim at 400): split these by subject."),
        &breaks,
    );
}
