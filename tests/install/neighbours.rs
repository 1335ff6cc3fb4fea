//! CloudNativePG's and Velero's definitions beside ours: what the docs tell users to type means ours.

use std::path::Path;

use serde_json::{Value, json};
use vouchsafe::api::Kind;

use crate::examples;
use crate::server::{at, output, shared};

/// Plural, kind and short name of a kind.
type Names = (&'static str, &'static str, &'static str);

/// Group, version and kinds, as their own definitions have them.
const NEIGHBOURS: [(&str, &str, &[Names]); 2] = [
    (
        "postgresql.cnpg.io",
        "v1",
        &[
            ("backups", "Backup", ""),
            ("clusterimagecatalogs", "ClusterImageCatalog", ""),
            ("clusters", "Cluster", ""),
            ("databases", "Database", ""),
            ("imagecatalogs", "ImageCatalog", ""),
            ("poolers", "Pooler", ""),
            ("publications", "Publication", ""),
            ("scheduledbackups", "ScheduledBackup", ""),
            ("subscriptions", "Subscription", ""),
        ],
    ),
    (
        "velero.io",
        "v1",
        &[
            ("backuprepositories", "BackupRepository", ""),
            ("backups", "Backup", ""),
            ("backupstoragelocations", "BackupStorageLocation", "bsl"),
            ("deletebackuprequests", "DeleteBackupRequest", ""),
            ("downloadrequests", "DownloadRequest", ""),
            ("podvolumebackups", "PodVolumeBackup", ""),
            ("podvolumerestores", "PodVolumeRestore", ""),
            ("restores", "Restore", ""),
            ("schedules", "Schedule", ""),
            ("serverstatusrequests", "ServerStatusRequest", "ssr"),
            ("volumesnapshotlocations", "VolumeSnapshotLocation", "vsl"),
        ],
    ),
];

fn definition(group: &str, version: &str, (plural, kind, short): Names) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut names = json!({"plural": plural, "singular": kind.to_lowercase(), "kind": kind});
    if !short.is_empty() {
        names["shortNames"] = json!([short]);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "names": names,
            "scope": if plural.starts_with("clusterimage") { "Cluster" } else { "Namespaced" },
            "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

#[test]
fn what_users_type_means_ours() {
    let server = shared();
    let mut theirs = Vec::new();
    for (group, version, kinds) in NEIGHBOURS {
        for kind in kinds {
            server.keep(&definition(group, version, *kind)).expect("a definition");
            theirs.push(format!("crd/{}.{group}", kind.0));
        }
    }
    let mut wait = vec!["wait", "--for=condition=NamesAccepted", "--timeout=60s"];
    wait.extend(theirs.iter().map(String::as_str));
    server.kubectl(&wait);
    server.kubectl(&["wait", "--for=condition=NamesAccepted", "--timeout=60s", "-f", &at("crds")]);
    server.kubectl(&["create", "namespace", "neighbours"]);
    for kind in Kind::ALL {
        let mut example = examples::of(kind)[0].clone();
        example["metadata"] = json!({"name": "ours", "namespace": "neighbours"});
        server.keep(&example).expect("an example");
    }
    for (short, plural) in
        [("vbk", "backups"), ("vbks", "backupstores"), ("vbsch", "backupschedules"), ("vrs", "restores")]
    {
        let ours = format!("{}.vouchsafe.dev/ours", plural.trim_end_matches('s'));
        for typed in [short.to_owned(), format!("{plural}.vouchsafe.dev")] {
            let named = server.kubectl(&["get", &typed, "-n", "neighbours", "-o", "name"]);
            assert_eq!(named.trim(), ours, "{typed}");
        }
    }
    let all = server.kubectl(&["get", "vouchsafe", "-n", "neighbours", "-o", "name"]);
    assert_eq!(all.lines().count(), 4, "{all}");
    // And theirs still mean theirs.
    for typed in ["backups.velero.io", "backups.postgresql.cnpg.io", "bsl", "schedules", "clusters"] {
        output(server.testbed.kubectl().args(["get", typed, "-n", "neighbours"])).expect(typed);
    }
}

/// Words of a kubectl command that mean somebody else's kind as soon as there is one.
fn ambiguous(line: &str) -> bool {
    let names = ["backup", "backups", "restore", "restores"];
    let Some((_, command)) = line.split_once("kubectl ") else { return false };
    let verbs = ["get", "describe", "delete", "wait", "edit", "patch", "annotate", "label", "explain"];
    let words = command.split_whitespace().map(|word| word.trim_end_matches(['`', '.', ',', ';']));
    let mut after = words.skip_while(|word| !verbs.contains(word)).skip(1);
    after.any(|word| word.split(',').any(|word| names.contains(&word.split('/').next().unwrap_or_default())))
}

#[test]
fn no_page_tells_users_to_type_what_may_be_somebody_elses() {
    let mut pages = vec![at("README.md"), at("charts/vouchsafe/templates/NOTES.txt")];
    for entry in std::fs::read_dir(Path::new(&at("docs"))).expect("docs") {
        pages.push(entry.expect("an entry").path().display().to_string());
    }
    for page in pages.iter().filter(|page| Path::new(page).is_file()) {
        let text = std::fs::read_to_string(page).expect("a page");
        let wrong: Vec<&str> = text.lines().filter(|line| ambiguous(line)).collect();
        assert!(wrong.is_empty(), "{page}: write backups.vouchsafe.dev or vbk: {wrong:#?}");
    }
    assert!(ambiguous("kubectl get backups -A") && ambiguous("run `kubectl -n x delete backup/a`"));
    assert!(!ambiguous("kubectl get backups.vouchsafe.dev") && !ambiguous("kubectl get vbk"));
    assert!(!ambiguous("kubectl vouchsafe restore backup"));
}
