//! `status`, `list` and `show`, and the program as kubectl starts it.

use std::process::Command;

use serde_json::json;

use crate::fixture::{Ran, SHA256, Space, failed, resource, restore, run};

#[test]
fn status_shows_all_of_a_namespace_and_says_what_is_not_well() {
    let space = Space::new("overview");
    let empty = space.vouchsafe(&["status"]);
    assert_eq!((empty.code, empty.stdout.as_str()), (Some(0), ""));
    assert!(empty.stderr.contains(&format!("nothing of Vouchsafe in namespace {}", space.name)), "{empty:?}");

    let file = json!({"name": "here", "default": true, "file": {"claim": "backups", "path": "pg"}});
    space.create(&resource("BackupStore", "disk", json!({"destinations": [file]})));
    let unready = json!({"type": "Ready", "status": "False", "reason": "ProbeFailed", "message": "no such claim",
        "lastTransitionTime": "2026-11-20T10:00:00Z"});
    space.set_status(
        "backupstore/disk",
        &json!({"observedGeneration": 1, "conditions": [unready], "readyDestinations": "0/1"}),
    );
    space.schedule("shop");
    space.proven_backup("shop-1");
    space.backup("shop-2");
    let stuck = json!({"name": "worker-eu", "job": "j", "order": "o", "attempt": 2, "state": "Waiting",
        "failure": {"reason": "Unschedulable", "message": "0/3 nodes are available", "hint": "label a node"}});
    space.set_status(
        "backup/shop-2",
        &json!({"observedGeneration": 1, "phase": "Exporting", "progress": {"percent": 40}, "processes": [stuck]}),
    );
    space.create(&restore("back"));
    space.set_status("restore/back", &failed("RestoreDiffers"));

    let text = space.vouchsafe(&["status"]).ok();
    for part in ["disk", "0/1", "shop-1", "1,234,567", "40 %", "RestoreDiffers", "Not well:"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for line in [
        "store/disk failed: ProbeFailed: no such claim",
        "backup/shop-2 waits: Unschedulable: worker-eu, attempt 2: 0/3 nodes are available\n  hint: label a node",
        "restore/back failed: RestoreDiffers: public.orders is not as it was\n  hint: look at it",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }

    let report = space.vouchsafe_json(&["status"]).json();
    assert_eq!(report["backups"][0]["name"], "shop-1");
    assert_eq!(report["backups"][0]["proved"], "2026-11-20T10:00:00Z");
    assert_eq!(report["backups"][1]["percent"], 40);
    assert_eq!(report["restores"][0]["reason"], "RestoreDiffers");
    assert_eq!(report["stores"][0]["ready"], false);
    assert_eq!(report["problems"].as_array().unwrap().len(), 3, "{report}");

    let everywhere: Ran =
        crate::fixture::vouchsafe(&space.kubeconfig(), &["status", "-A"]).output().unwrap().into();
    let everywhere = everywhere.ok();
    assert!(everywhere.contains("NAMESPACE") && everywhere.contains(&space.name), "{everywhere}");
}

#[test]
fn status_of_one_object_tells_all_of_it_and_exits_1_if_it_failed() {
    let space = Space::new("one");
    space.proven_backup("shop-1");
    let text = space.vouchsafe(&["status", "backup/shop-1"]).ok();
    for part in ["Backup shop-1", "Succeeded", "run 12", "shop-1-verifier-x", SHA256, "1,234,567 rows"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let report = space.vouchsafe_json(&["status", "vbk/shop-1"]).json();
    assert_eq!((&report["over"], &report["status"]["proof"]["objectsRead"]), (&json!(true), &json!(7)));

    space.backup("shop-2");
    space.set_status("backup/shop-2", &failed("DamageFound"));
    // The name alone, as it is nobody else's.
    let ran = space.vouchsafe(&["status", "shop-2"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("Backup shop-2"), "{ran:?}");
    assert_eq!(
        ran.stderr, "error: public.orders is not as it was\nreason: DamageFound\nhint: look at it\n",
        "{ran:?}"
    );
    let ran = space.vouchsafe_json(&["status", "backup/shop-2"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.json()["problems"][0]["reason"], "DamageFound");
}

#[test]
fn list_and_show_without_a_store_are_of_the_cluster() {
    let space = Space::new("listed");
    let none = space.vouchsafe_json(&["list"]);
    assert_eq!((none.code, none.json()), (Some(0), json!({"backups": []})));
    assert!(none.stderr.contains("no Backup"), "{none:?}");

    space.proven_backup("shop-1");
    space.backup("shop-2");
    let label = ["label", "backups.vouchsafe.dev/shop-2", "vouchsafe.dev/schedule=shop", "--namespace"];
    run(space.server.kubectl().args(label).arg(&space.name));
    let text = space.vouchsafe(&["list"]).ok();
    assert!(text.contains("shop-1") && text.contains("shop-2") && text.contains("45.00 MB"), "{text}");
    let of_schedule = space.vouchsafe_json(&["list", "--schedule", "shop"]).json();
    assert_eq!(of_schedule["backups"].as_array().unwrap().len(), 1);
    assert_eq!(of_schedule["backups"][0]["name"], "shop-2");

    let text = space.vouchsafe(&["show", "shop-1"]).ok();
    for part in [
        "backup/shop-1 of database shop, run 12, sealed 2026-11-20T10:00:00Z",
        "destination eu: s3://shop-eu/pg/shop, region=eu-west1",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("--store"), "the store is not there, so nobody knows how to reach it: {text}");
    let bucket = |name: &str| json!({"bucket": name, "prefix": "pg", "region": "eu-west-1", "endpoint": "https://s3.example.com"});
    let destinations = json!([
        {"name": "eu", "locality": "region=eu-west1", "s3": bucket("shop-eu")},
        {"name": "us", "locality": "region=us-east1", "default": true, "s3": bucket("shop-us")},
    ]);
    space.create(&resource("BackupStore", "disk", json!({"destinations": destinations})));
    let text = space.vouchsafe(&["show", "shop-1"]).ok();
    let at =
        |bucket: &str| format!("s3://{bucket}/pg?region=eu-west-1&endpoint=https%3A%2F%2Fs3.example.com");
    let command = format!(
        "vouchsafe show 12 --store 'region=us-east1={}' --store 'region=eu-west1={}'",
        at("shop-us"),
        at("shop-eu")
    );
    assert!(text.contains(&command), "{command}: {text}");
    let report = space.vouchsafe_json(&["show", "backup/shop-1"]).json();
    assert_eq!((&report["run"], &report["manifestSha256"]), (&json!(12), &json!(SHA256)));

    let [reason, message, _] = space.vouchsafe_json(&["show", "shop-2"]).failure(1);
    assert_eq!(reason, "NotRestorable");
    assert!(message.contains("backup/shop-2 is Pending"), "{message}");

    let with_store = space.vouchsafe_json(&["list", "--store", "file:///x"]);
    assert_eq!(with_store.failure(2)[0], "Usage", "a collection is in no namespace");
}

#[test]
fn kubectl_starts_the_same_program_as_its_plugin() {
    let space = Space::new("plugin");
    space.proven_backup("shop-1");
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-vouchsafe");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vouchsafe"), &plugin).unwrap();
    let kubectl = |words: &[&str]| -> Ran {
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let mut command = Command::new(testbed::tool("kubectl/kubectl"));
        command.arg("vouchsafe").args(words).env("PATH", path).env("HOME", folder.path());
        command.env("KUBECONFIG", space.kubeconfig()).env("NO_PROXY", "*").output().unwrap().into()
    };
    let text = kubectl(&["status", "backup/shop-1", "-n", &space.name]).ok();
    assert!(text.contains("Backup shop-1"), "{text}");
    let help = kubectl(&["trigger", "--help"]).ok();
    assert!(help.contains("Usage: kubectl vouchsafe trigger"), "{help}");
    let wrong = kubectl(&["trigger", "--output", "json"]);
    let [_, _, hint] = wrong.failure(2);
    assert!(
        hint.contains("usage: kubectl vouchsafe trigger")
            && hint.contains("`kubectl vouchsafe trigger --help`")
    );
    // The namespace of the kubeconfig's context, if none is named.
    let context = ["config", "set-context", "--current", "--namespace", &space.name, "--kubeconfig"];
    let own = folder.path().join("config");
    std::fs::copy(space.kubeconfig(), &own).unwrap();
    run(Command::new(testbed::tool("kubectl/kubectl")).args(context).arg(&own));
    let text = kubectl(&["show", "shop-1", "--kubeconfig", own.to_str().unwrap()]).ok();
    assert!(text.contains("backup/shop-1"), "{text}");
}
