//! `restore --from`: the plan first, then the resource.

use rstest::rstest;
use serde_json::json;

use crate::fixture::{SHA256, Space};

const TARGET: [&str; 4] = ["--target-secret", "pg-eu", "--target-database", "shop_back"];

fn words<'a>(from: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    ["restore", "--from", from].into_iter().chain(TARGET).chain(more.iter().copied()).collect()
}

#[test]
fn nothing_is_made_before_a_yes_and_then_what_the_plan_showed() {
    let space = Space::new("restore");
    space.proven_backup("shop-1");
    let ran = space.vouchsafe(&words("backup/shop-1", &[]));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for part in [
        "from backup/shop-1 of database shop, run 12",
        "to database shop_back on the host that Secret pg-eu names, as the role of Secret pg-eu",
        "the data of region=eu-west1 and region=us-east1 to one place",
        "a role that the target lacks is refused",
        SHA256,
    ] {
        assert!(ran.stdout.contains(part), "{part}: {ran:?}");
    }
    assert!(ran.stderr.contains("reason: NotConfirmed") && ran.stderr.contains("--yes"), "{ran:?}");
    assert!(space.names("restore").is_empty());

    let more = ["--yes", "--create-roles", "--owner", "shop", "--exclude-table", "audit.*"];
    let report = space.vouchsafe_json(&words("backup/shop-1", &more)).json();
    let name = report["restore"].as_str().unwrap();
    assert!(name.starts_with("shop-1-restore-"), "{name}");
    assert_eq!((&report["phase"], &report["backup"]["run"]), (&json!("Pending"), &json!(12)));
    let restore = space.get(&format!("restore/{name}"));
    let target = json!({"database": "shop_back", "credentialsSecret": {"name": "pg-eu"}});
    assert_eq!(
        restore["spec"],
        json!({
            "from": {"backup": "shop-1"}, "target": {"postgres": target}, "roles": {"missing": "Create"},
            "owner": "shop", "exclude": {"tables": ["audit.*"]}, "expectManifestSha256": SHA256, "parallelism": 2,
        })
    );
}

#[test]
fn of_a_schedule_its_last_proven_backup_is_restored() {
    let space = Space::new("restore");
    space.schedule("shop");
    let [reason, message, _] = space.vouchsafe_json(&words("schedule/shop", &["--yes"])).failure(1);
    assert_eq!(reason, "NotRestorable");
    assert!(message.contains("schedule/shop has no proven backup"), "{message}");
    space.proven_backup("shop-1");
    let last = json!({"name": "shop-1", "time": "2026-11-20T10:00:00Z"});
    space.set_status("backupschedule/shop", &json!({"observedGeneration": 1, "lastSuccess": last}));
    let name = ["--yes", "--name", "back"];
    space.vouchsafe(&words("schedule/shop", &name)).ok();
    assert_eq!(space.get("restore/back")["spec"]["from"], json!({"backup": "shop-1"}));
    // The name is taken now.
    let [reason, message, _] = space.vouchsafe_json(&words("schedule/shop", &name)).failure(1);
    assert_eq!(reason, "RefusedByServer");
    assert!(message.contains("already exists"), "{message}");
}

#[test]
fn what_is_not_proven_is_not_restored() {
    let space = Space::new("restore");
    space.backup("shop-1");
    let [reason, message, hint] = space.vouchsafe_json(&words("shop-1", &["--yes"])).failure(1);
    assert_eq!(reason, "NotRestorable");
    assert!(message.contains("is Pending") && hint.contains("wait"), "{message} {hint}");
    space.proven_backup("shop-2");
    let other = "0000000000000000000000000000000000000000000000000000000000000000";
    let expect = ["--yes", "--expect-manifest-sha256", other];
    let [reason, message, _] = space.vouchsafe_json(&words("shop-2", &expect)).failure(1);
    assert_eq!(reason, "NotRestorable");
    assert!(message.contains(SHA256), "{message}");
    assert!(space.names("restore").is_empty());
}

#[rstest]
#[case::no_target(&["restore", "--from", "shop-1", "--target-secret", "s"], "--target-database")]
#[case::no_secret(&["restore", "--from", "shop-1", "--target-database", "d"], "--target-secret")]
#[case::both(&["restore", "--from", "shop-1", "--store", "file:///x"], "--store")]
#[case::local_target(&["restore", "--from", "shop-1", "--target", "postgres://x/y"], "--target")]
#[case::no_owner(&["restore", "--from", "shop-1", "--no-owner"], "--no-owner")]
#[case::neither(&["restore", "--target-secret", "s"], "--from")]
#[case::kind(&["restore", "--from", "store/disk"], "BackupStore can't be restored")]
#[case::locality(
    &["restore", "--from", "shop-1", "--target-secret", "s", "--target-database", "d", "--yes",
      "--execution-locality", "nowhere"],
    "spec.executionLocality"
)]
#[case::authority(&["restore", "--from", "shop-1", "--target-ca", "pod/x/y"], "secret/NAME/KEY")]
fn what_can_not_be_asked_so_is_refused_with_exit_code_2(#[case] words: &[&str], #[case] names: &str) {
    let space = Space::new("restore");
    space.proven_backup("shop-1");
    let ran = space.vouchsafe_json(words);
    let [reason, message, _] = ran.failure(2);
    assert_eq!(reason, "Usage");
    assert!(message.contains(names), "{message}");
    assert!(space.names("restore").is_empty());
}
