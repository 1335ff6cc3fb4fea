//! Arrows between modules point one way, and the pure ones reach for nothing outside.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::rust_source::{Found, paths};
use crate::{assert_none, rust_files};

/// Modules without client, SDK, runtime, clock or randomness: their callers pass those in, and tests of theirs
/// need none.
const PURE: [&str; 8] = ["api", "plan", "ledger", "format", "codec", "hint", "kill_point", "mutant"];

/// Which modules of the crate each module may import besides itself and the pure ones. A new module is put here
/// deliberately, or the scan names it. `cli` and `main` may import all.
const ARROWS: [(&str, &[&str]); 5] = [
    ("telemetry", &[]),
    // These two never know of each other: only the engine joins them.
    ("store", &["telemetry"]),
    ("source", &["telemetry"]),
    ("engine", &["store", "source", "telemetry"]),
    ("controller", &["telemetry"]),
];

/// What of kube is types and macros: nothing here can talk to a cluster.
const KUBE_TYPES: [&str; 4] = ["CustomResource", "CustomResourceExt", "KubeSchema", "core"];

/// Clouds' SDKs, runtimes, network clients and randomness, by how the crate's name begins.
const IMPURE_CRATES: [&str; 13] = [
    "aws_",
    "azure_",
    "google_cloud",
    "gcloud",
    "object_store",
    "tokio",
    "hyper",
    "reqwest",
    "postgres",
    "rand",
    "getrandom",
    "fastrand",
    "kube_",
];

/// Ways to ask what time it is; the two last segments, since types are most often imported.
const CLOCKS: [[&str; 2]; 4] =
    [["SystemTime", "now"], ["Instant", "now"], ["Timestamp", "now"], ["Zoned", "now"]];

/// One path that a rule forbids.
#[derive(Debug)]
struct Break {
    file: PathBuf,
    line: usize,
    path: String,
    why: String,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: `{}`: {}", self.file.display(), self.line, self.path, self.why)
    }
}

#[test]
fn imports_follow_the_arrows() {
    let breaks: Vec<Break> = rust_files("src").iter().flat_map(|(file, text)| breaks(file, text)).collect();
    assert_none("Imports break the house rules of docs/design.md:", &breaks);
}

/// The breaks in one file, `file` being its path from the root: src/store/s3/upload.rs.
fn breaks(file: &Path, text: &str) -> Vec<Break> {
    let module = module(file);
    paths(text, &module)
        .into_iter()
        .filter_map(|found| {
            let why = forbidden(module.first().map(String::as_str), &found)?;
            Some(Break { file: file.to_owned(), line: found.line, path: found.path.join("::"), why })
        })
        .collect()
}

/// `["store", "s3", "upload"]` for src/store/s3/upload.rs; empty for the crate's roots.
fn module(file: &Path) -> Vec<String> {
    let mut names: Vec<String> = file
        .with_extension("")
        .components()
        .skip(1)
        .map(|name| name.as_os_str().to_string_lossy().into())
        .collect();
    match names.last().map(String::as_str) {
        Some("mod") => drop(names.pop()),
        Some("lib") if names.len() == 1 => names.clear(),
        _ => {}
    }
    names
}

/// Why a file of the top-level module `from` (none: lib.rs) must not say `found`.
fn forbidden(from: Option<&str>, found: &Found) -> Option<String> {
    let segments: Vec<&str> = found.path.iter().map(String::as_str).collect();
    if let ["crate", to, ..] = segments[..] {
        return arrow(from, to);
    }
    if from.is_some_and(|from| PURE.contains(&from)) {
        return impure(from, &segments);
    }
    let talks_to_a_cluster = segments[0].starts_with("kube_") || is_kube_client(&segments);
    let may = matches!(from, Some("controller" | "cli" | "main"));
    (talks_to_a_cluster && !may).then(|| "only controller and cli talk to a cluster".to_owned())
}

/// Why `from` must not import the crate's module `to`.
fn arrow(from: Option<&str>, to: &str) -> Option<String> {
    let is_module = PURE.contains(&to) || to == "cli" || ARROWS.iter().any(|(name, _)| *name == to);
    match from {
        Some("main") => None,
        Some(from) if from == to => None,
        _ if to == "cli" => Some("only main.rs imports cli".to_owned()),
        Some("cli") | None => None,
        Some(from) if PURE.contains(&from) => (is_module && !PURE.contains(&to)).then(|| {
            format!("{from} is pure: it imports nothing of {to}, its callers pass in what it needs")
        }),
        Some(from) => {
            let Some((_, may)) = ARROWS.iter().find(|(name, _)| *name == from) else {
                return Some(format!(
                    "the module {from} is in no rule: put it into ARROWS of tests/house/imports.rs"
                ));
            };
            let fits = !is_module || PURE.contains(&to) || may.contains(&to);
            (!fits).then(|| format!("{from} must not import {to}: only engine joins store and source"))
        }
    }
}

/// Why a pure module must not name this path of another crate.
fn impure(from: Option<&str>, segments: &[&str]) -> Option<String> {
    let from = from.unwrap_or_default();
    if is_kube_client(segments) || (segments[0] == "kube" && from != "api") {
        return Some(format!("{from} has no kube client: of kube, api may use {}", KUBE_TYPES.join(", ")));
    }
    if IMPURE_CRATES.iter().any(|prefix| segments[0].starts_with(prefix)) {
        return Some(format!("{from} is pure: no SDK, runtime, network or randomness"));
    }
    segments
        .windows(2)
        .any(|pair| CLOCKS.iter().any(|clock| pair == clock))
        .then(|| format!("{from} is pure: the time is passed in"))
}

fn is_kube_client(segments: &[&str]) -> bool {
    segments[0] == "kube" && segments.get(1).is_some_and(|item| !KUBE_TYPES.contains(item))
}

/// Lines and paths of the breaks that `text` has as the file `file`.
fn caught(file: &str, text: &str) -> Vec<(usize, String)> {
    breaks(Path::new(file), text).into_iter().map(|found| (found.line, found.path)).collect()
}

#[test]
fn forbidden_imports_are_caught() {
    for (file, text, path) in [
        ("src/plan/spans.rs", "use tokio::sync::Mutex;", "tokio::sync::Mutex"),
        ("src/ledger/mod.rs", "use aws_sdk_s3::Client;", "aws_sdk_s3::Client"),
        ("src/format/key.rs", "fn f() { rand::random::<u8>(); }", "rand::random"),
        (
            "src/codec/rows.rs",
            "use std::{fs, time::{self, SystemTime}};\nfn f() { SystemTime::now(); }",
            "std::time::SystemTime::now",
        ),
        (
            "src/codec/rows.rs",
            "use std::time::Instant as Watch;\nfn f() { Watch::now(); }",
            "std::time::Instant::now",
        ),
        ("src/plan/mod.rs", "fn f() { jiff::Timestamp::now(); }", "jiff::Timestamp::now"),
        ("src/plan/mod.rs", "use jiff::*;\nfn f() { Zoned::now(); }", "Zoned::now"),
        ("src/api/backup.rs", "use kube::{CustomResource, Client};", "kube::Client"),
        ("src/api/backup.rs", "use kube::runtime::watcher;", "kube::runtime::watcher"),
        ("src/format/mod.rs", "use kube::CustomResource;", "kube::CustomResource"),
        ("src/api/backup.rs", "use kube as k;\nfn f(c: k::Client) {}", "kube::Client"),
        ("src/plan/mod.rs", "use crate::store::Key;", "crate::store::Key"),
        ("src/plan/spans/deep.rs", "use super::super::super::engine::Run;", "crate::engine::Run"),
        ("src/store/s3.rs", "use crate::{format::Key, source::{Table, span}};", "crate::source::Table"),
        ("src/source/copy.rs", "fn f() -> crate::store::Committed { todo!() }", "crate::store::Committed"),
        ("src/store/mod.rs", "mod tests { use super::super::engine::Run; }", "crate::engine::Run"),
        ("src/controller/mod.rs", "use crate::engine::Run;", "crate::engine::Run"),
        ("src/engine/mod.rs", "use crate::cli::Exit;", "crate::cli::Exit"),
        ("src/lib.rs", "pub use crate::cli::Exit;", "crate::cli::Exit"),
        ("src/engine/run.rs", "use kube::Api;", "kube::Api"),
        ("src/store/s3.rs", "fn f() { kube_runtime::watcher(); }", "kube_runtime::watcher"),
        ("src/newcomer/mod.rs", "use crate::store::Key;", "crate::store::Key"),
    ] {
        let caught = caught(file, text);
        assert!(caught.iter().any(|(_, found)| found == path), "{file}: {text}: caught only {caught:?}");
    }
}

#[test]
fn allowed_imports_are_not_caught() {
    for (file, text) in [
        ("src/api/backup.rs", "use kube::{CustomResource, KubeSchema};\nuse kube::core::ObjectMeta;"),
        (
            "src/plan/mod.rs",
            "use jiff::Timestamp;\nuse std::time::{Duration, SystemTime};\nuse crate::format::Key;",
        ),
        (
            "src/plan/mod.rs",
            "// use tokio::sync::Mutex;\n/* rand::random() /* crate::store */ */ const S: &str = \"tokio::spawn\";",
        ),
        (
            "src/plan/mod.rs",
            "const S: &str = r#\"a \" crate::store::Key\"#; const C: char = '\"'; fn f<'a>(x: &'a str) {}",
        ),
        ("src/store/mod.rs", "mod tests { use super::*; use crate::format::Key; }\nuse tokio::fs;"),
        ("src/engine/run.rs", "use crate::{source::Table, store::ObjectStore};\nuse std::time::Instant;"),
        ("src/cli/backup.rs", "use crate::engine::Run;\nuse crate::store::file;"),
        ("src/main.rs", "use vouchsafe::cli;\nfn main() { cli::run(); }"),
        ("src/telemetry/mod.rs", "use crate::format::Key;"),
    ] {
        assert_eq!(caught(file, text), [], "{file}: {text}");
    }
}

#[test]
fn a_break_is_reported_with_its_line() {
    let text =
        "//! A module.\n\nuse std::fmt;\nuse crate::{\n    format::Key,\n    store::ObjectStore,\n};\n";
    assert_eq!(caught("src/codec/mod.rs", text), [(6, "crate::store::ObjectStore".to_owned())]);
}
