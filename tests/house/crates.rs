//! Crates that must not be built into Vouchsafe.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::root;

/// One TLS stack and one crypto library: rustls on aws-lc-rs. And Azure's SDK of 2024 is abandoned; its
/// successor's name differs by one letter.
const BANNED: [&str; 4] = ["ring", "openssl-sys", "native-tls", "azure_storage_blobs"];

/// Those that may be listed in Cargo.lock nevertheless, with the crates that may be why.
///
/// Cargo.lock lists what *some* choice of features could need. rustls-webpki's feature `alloc` says
/// `ring?/alloc`: "if ring is used, with its alloc". The lock file's resolver counts such a weak mention as a
/// use (and `cargo metadata` repeats what the lock file says), but nothing turns ring on, and the resolver of
/// features, which decides what is compiled and is what `cargo tree` shows, leaves it out. quinn-proto is HTTP/3 of
/// reqwest's, mentioned as weakly by its TLS.
const LISTED_ONLY: [(&str, &[&str]); 1] = [("ring", &["quinn-proto", "rustls", "rustls-webpki"])];

/// The packages of a lock file by name, with the names of their dependencies.
fn locked(lock: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut packages: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let name = package.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        let dependencies = package
            .lines()
            .filter_map(|line| line.strip_prefix(" \"")?.strip_suffix("\","))
            // Where two versions are locked, the version follows the name.
            .filter_map(|entry| entry.split(' ').next());
        packages.entry(name.expect("a package has a name")).or_default().extend(dependencies);
    }
    packages
}

/// Banned crates that a lock file lists for no reason that is known to be harmless.
fn banned_in(lock: &str) -> Vec<String> {
    let packages = locked(lock);
    let listed = BANNED.iter().filter(|banned| packages.contains_key(**banned));
    listed
        .flat_map(|banned| {
            let harmless =
                LISTED_ONLY.iter().find(|(name, _)| name == banned).map_or(&[][..], |(_, reasons)| *reasons);
            let users: Vec<&str> =
                packages.iter().filter(|(_, uses)| uses.contains(banned)).map(|(name, _)| *name).collect();
            users
                .into_iter()
                .filter(|user| !harmless.contains(user))
                .map(|user| format!("{user} uses {banned}"))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_lock_file_lists_no_banned_crate() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    assert!(locked(&lock).contains_key("aws-lc-rs"), "Cargo.lock isn't read rightly: it must list aws-lc-rs");
    assert_eq!(banned_in(&lock), Vec::<String>::new());
}

#[test]
fn a_banned_crate_in_the_lock_file_is_caught() {
    let lock = |user: &str, used: &str| {
        format!(
            "[[package]]\nname = \"{user}\"\nversion = \"1.0.0\"\ndependencies = [\n \"{used} 0.1.0\",\n]\n\n\
             [[package]]\nname = \"{used}\"\nversion = \"0.1.0\"\n"
        )
    };
    assert_eq!(banned_in(&lock("reqwest", "native-tls")), ["reqwest uses native-tls"]);
    assert_eq!(banned_in(&lock("quinn", "ring")), ["quinn uses ring"]);
    assert_eq!(banned_in(&lock("rustls-webpki", "ring")), Vec::<String>::new());
}

/// Names of the crates that a build of the workspace compiles, tests included, on any platform.
fn built() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["tree", "--locked", "--workspace", "--target", "all", "--edges", "normal,build,dev"])
        .args(["--prefix", "none", "--format", "{p}"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn no_banned_crate_is_built() {
    let built = built();
    for known in ["vouchsafe", "rustls", "rustls-webpki", "aws-lc-rs", "tokio-postgres"] {
        assert!(built.contains(known), "cargo tree isn't read rightly: it must show {known}");
    }
    let banned: Vec<&str> = BANNED.into_iter().filter(|banned| built.contains(*banned)).collect();
    assert!(
        banned.is_empty(),
        "{banned:?} would be built: see `cargo tree --target all -i {}`",
        banned.join(" ")
    );
}
