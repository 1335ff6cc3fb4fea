//! What no tracked file may hold.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rust_source::ignored_tests;
use crate::{assert_none, root};

/// Paths of one machine, taken apart so that this file passes its own rule.
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tm", "p/h/")];

/// Documents that are not part of the project: it speaks of itself alone. Taken apart likewise.
const DOCUMENTS_ELSEWHERE: [&str; 7] = [
    concat!("DES", "IGN.md"),
    concat!("AP", "I.md"),
    concat!("STY", "LE.md"),
    concat!("POST", "GRES.md"),
    concat!("DEPEND", "ENCIES.md"),
    concat!("FAU", "LTS.md"),
    concat!("CLUS", "TER.md"),
];

/// The files that git tracks, with their contents.
fn tracked() -> Vec<(PathBuf, Vec<u8>)> {
    let output = Command::new("git")
        // A build in a container may run as another user than the one that owns the folder.
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("names in UTF-8");
    let files: Vec<_> = names
        .split_terminator('\0')
        // A file deleted but not yet committed is listed and not there.
        .filter_map(|name| Some((PathBuf::from(name), std::fs::read(root().join(name)).ok()?)))
        .collect();
    assert!(files.iter().any(|(path, _)| path == Path::new("Cargo.toml")), "git lists no Cargo.toml");
    files
}

/// Lines of `text` that name a path of one machine.
fn machine_paths(text: &str) -> Vec<usize> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| MACHINE_PATHS.iter().any(|path| line.contains(path)))
        .map(|(at, _)| at + 1)
        .collect()
}

#[test]
fn no_tracked_file_names_a_path_of_one_machine() {
    let breaks: Vec<String> = tracked()
        .iter()
        .flat_map(|(path, content)| {
            let lines = machine_paths(&String::from_utf8_lossy(content));
            lines.into_iter().map(|line| format!("{}:{line}", path.display())).collect::<Vec<_>>()
        })
        .collect();
    assert_none("Paths that exist on one machine only:", &breaks);
    let [first, ..] = MACHINE_PATHS;
    assert_eq!(machine_paths(&format!("fine\ncd {first}main\n")), [2]);
}

#[test]
fn no_tracked_file_names_a_document_that_is_not_here() {
    let breaks: Vec<String> = tracked()
        .iter()
        .filter_map(|(path, content)| {
            let text = String::from_utf8_lossy(content);
            let named = DOCUMENTS_ELSEWHERE.iter().find(|name| text.contains(**name))?;
            Some(format!("{}: {named}", path.display()))
        })
        .collect();
    assert_none("Documents that are named and not here:", &breaks);
}

#[test]
fn no_test_is_ignored() {
    let breaks: Vec<String> = tracked()
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"))
        .flat_map(|(path, content)| {
            let lines = ignored_tests(&String::from_utf8_lossy(content));
            lines.into_iter().map(|line| format!("{}:{line}", path.display())).collect::<Vec<_>>()
        })
        .collect();
    assert_none("Ignored tests; a test that is not run proves nothing:", &breaks);
}

#[test]
fn an_ignored_test_is_caught() {
    assert_eq!(ignored_tests("#[test]\n#[ignore]\nfn f() {}"), [2]);
    assert_eq!(ignored_tests("#[ignore = \"slow\"]\nfn f() {}"), [1]);
    assert_eq!(ignored_tests("#[cfg_attr(unix, ignore)]\nfn f() {}"), [1]);
    assert_eq!(ignored_tests("// #[ignore]\n#[derive(Debug)]\nfn ignore(a: [u8; 2]) { ignore(a); }"), [0; 0]);
}
