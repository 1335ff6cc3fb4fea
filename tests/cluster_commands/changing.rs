//! `suspend`, `resume` and `cancel`: what they change, what they say, and what they refuse.

use rstest::rstest;
use serde_json::{Value, json};

use crate::fixture::{Space, failed, restore};

#[test]
fn a_run_is_suspended_resumed_and_canceled() {
    let space = Space::new("switch");
    space.backup("shop-1");
    space.set_status("backup/shop-1", &json!({"observedGeneration": 1, "phase": "Exporting"}));
    let text = space.vouchsafe(&["suspend", "backup/shop-1"]).ok();
    assert!(text.starts_with("backup/shop-1 is suspended: its pods go"), "{text}");
    let object = space.get("backup/shop-1");
    assert_eq!(object["spec"]["suspend"], true);
    let managers: Vec<&Value> =
        object["metadata"]["managedFields"].as_array().unwrap().iter().map(|it| &it["manager"]).collect();
    assert!(managers.contains(&&json!("kubectl-vouchsafe")), "{managers:?}");

    let again = space.vouchsafe_json(&["suspend", "shop-1"]);
    assert_eq!((again.code, &again.json()["changed"]), (Some(0), &json!(false)));
    assert_eq!(
        space.get("backup/shop-1")["metadata"]["resourceVersion"],
        object["metadata"]["resourceVersion"]
    );

    space.vouchsafe(&["resume", "backup/shop-1"]).ok();
    assert_eq!(space.get("backup/shop-1")["spec"]["suspend"], false);

    let text = space.vouchsafe(&["cancel", "backup/shop-1"]).ok();
    assert!(text.contains("is canceled: ends, and its run is void"), "{text}");
    assert_eq!(space.get("backup/shop-1")["spec"]["cancel"], true);
    let [reason, message, _] = space.vouchsafe_json(&["suspend", "backup/shop-1"]).failure(1);
    assert_eq!(reason, "ObjectOver");
    assert!(message.contains("can't be taken back"), "{message}");
}

#[test]
fn a_schedule_is_suspended_and_resumed_and_not_canceled() {
    let space = Space::new("switch");
    space.schedule("shop");
    let report = space.vouchsafe_json(&["suspend", "schedule/shop"]).json();
    assert_eq!((&report["kind"], &report["changed"]), (&json!("BackupSchedule"), &json!(true)));
    assert!(report["effect"].as_str().unwrap().contains("starts no more Backups"), "{report}");
    assert_eq!(space.get("backupschedule/shop")["spec"]["suspend"], true);
    space.vouchsafe(&["resume", "shop"]).ok();
    assert_eq!(space.get("backupschedule/shop")["spec"]["suspend"], false);

    // One that stopped by itself waits for a changed spec, whichever way it says that it isn't suspended.
    let because = json!({"suspendedBecause": {"reason": "RunFailed", "message": "m", "hint": "h"}});
    space.set_status("backupschedule/shop", &because);
    for _ in 0..2 {
        let before = space.get("backupschedule/shop")["metadata"]["generation"].clone();
        let text = space.vouchsafe(&["resume", "schedule/shop"]).ok();
        assert!(text.contains("had stopped by itself after a failure"), "{text}");
        let after = space.get("backupschedule/shop");
        assert_ne!(after["metadata"]["generation"], before);
        assert_ne!(after["spec"]["suspend"], true);
    }

    let [reason, message, hint] = space.vouchsafe_json(&["cancel", "schedule/shop"]).failure(2);
    assert_eq!(reason, "Usage");
    assert!(
        message.contains("a BackupSchedule can't be canceled") && hint.contains("backup/NAME"),
        "{message}"
    );
}

#[rstest]
fn what_is_over_says_so(#[values("suspend", "resume", "cancel")] command: &str) {
    let space = Space::new("over");
    space.create(&restore("back"));
    space.set_status("restore/back", &failed("RestoreDiffers"));
    let [reason, message, hint] = space.vouchsafe_json(&[command, "restore/back"]).failure(1);
    assert_eq!(reason, "ObjectOver");
    assert!(message.starts_with("restore/back is over: it is Failed"), "{message}");
    assert!(hint.contains("another Restore"), "{hint}");
    assert!(space.get("restore/back")["spec"].get(command).is_none());
}
