//! `prune SCHEDULE`: the plan first, then the question to the controller.

use rstest::rstest;
use serde_json::{Value, json};

use crate::fixture::{Ran, Space, run, succeeded, until, vouchsafe};

const REQUESTED: &str = "vouchsafe.dev/prune-requested-at";

/// A schedule that keeps one of three Backups, of the runs 10, 11 and 12.
fn space(spec: &Value) -> Space {
    let space = Space::new("prune");
    space.schedule("shop");
    let patch = json!({"spec": spec}).to_string();
    let words = ["patch", "backupschedule.vouchsafe.dev/shop", "--namespace", &space.name, "--type=merge"];
    run(space.server.kubectl().args(words).args(["-p", &patch]));
    let uid = space.get("backupschedule/shop")["metadata"]["uid"].clone();
    for number in 10..13 {
        let name = format!("shop-{number}");
        let mut backup = space.backup_of_schedule(&name, "shop", &uid);
        backup["spec"]["collection"] = "shop".into();
        space.create(&backup);
        let mut status = succeeded();
        status["run"]["number"] = number.into();
        status["proof"]["sealedAt"] = format!("2026-11-{number}T10:00:00Z").into();
        space.set_status(&format!("backup/{name}"), &status);
    }
    space
}

fn keeping() -> Value {
    json!({"retention": {"keepLast": 1}, "fullSchedule": "Always"})
}

/// What the schedule is asked for.
fn requested(space: &Space) -> Option<String> {
    let annotation = &space.get("backupschedule/shop")["metadata"]["annotations"][REQUESTED];
    annotation.as_str().map(str::to_owned)
}

#[test]
fn the_plan_is_shown_and_nothing_is_asked_for_without_a_yes() {
    let space = space(&keeping());
    for words in [&["prune", "schedule/shop"][..], &["prune", "shop", "--dry-run"]] {
        let text = space.vouchsafe(words).ok();
        for part in [
            "to retire backup/shop-10, run 10, of 2026-11-10T10:00:00Z",
            "to retire backup/shop-11, run 11",
            "stays     backup/shop-12, run 12, of 2026-11-12T10:00:00Z: keepLast, minimum",
            "nothing was changed: add --yes",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(requested(&space), None);
    }
    let report = space.vouchsafe_json(&["prune", "shop"]).json();
    let retire: Vec<&Value> = report["retire"].as_array().unwrap().iter().map(|it| &it["run"]).collect();
    assert_eq!((retire, &report["requested"]), (vec![&json!(10), &json!(11)], &Value::Null));
}

#[test]
fn with_a_yes_the_schedule_is_asked_and_nothing_else_of_it_changes() {
    let space = space(&keeping());
    let before = space.get("backupschedule/shop");
    let report = space.vouchsafe_json(&["prune", "schedule/shop", "--yes"]);
    assert_eq!(report.code, Some(0), "{report:?}");
    let after = space.get("backupschedule/shop");
    assert_eq!(report.json()["requested"].as_str().map(str::to_owned), requested(&space));
    assert!(requested(&space).unwrap().starts_with("20"), "a moment");
    assert_eq!(before["spec"], after["spec"]);
    let managers = after["metadata"]["managedFields"].to_string();
    assert!(managers.contains("kubectl-vouchsafe"), "{managers}");
    assert_eq!(space.names("backup").len(), 3);
}

/// What a controller would write when the prune has ended.
fn answers(space: &Space, last: &Value) {
    let request = until(|| requested(space));
    let mut last = last.clone();
    last["time"] = "2026-11-22T10:00:00Z".into();
    space.set_status("backupschedule/shop", &json!({"lastPrune": last, "lastPruneRequest": request}));
}

#[rstest]
#[case::done(json!({"run": 13, "retired": 2, "deletedObjects": 5, "deletedBytes": 50, "waiting": 2}), 0, None)]
#[case::failed(
    json!({"failure": {"reason": "PruneOutdated", "message": "m", "hint": "h"}}), 1, Some("PruneOutdated")
)]
#[case::damaged(
    json!({"failure": {"reason": "ObjectMissing", "message": "m", "hint": "h"}}), 3, Some("ObjectMissing")
)]
fn who_waits_exits_as_the_prune_ended(#[case] last: Value, #[case] code: i32, #[case] reason: Option<&str>) {
    let space = space(&keeping());
    let words = ["prune", "shop", "--yes", "--wait", "--output", "json", "--namespace", &space.name];
    let mut command = vouchsafe(&space.kubeconfig(), &words);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn();
    answers(&space, &last);
    let ran = Ran::from(child.unwrap().wait_with_output().unwrap());
    assert_eq!(ran.code, Some(code), "{ran:?}");
    let report = ran.json();
    assert_eq!(report["reason"].as_str(), reason);
    assert_eq!(report["outcome"]["retired"], last.get("retired").cloned().unwrap_or(json!(0)));
    assert_eq!(report["requested"].as_str().map(str::to_owned), requested(&space));
}

#[rstest]
#[case::suspended(json!({"retention": {"keepLast": 1}, "fullSchedule": "Always", "suspend": true}), "is suspended")]
#[case::stopped_by_failures(json!({"retention": {"keepLast": 1}, "fullSchedule": "Always"}), "since a run failed")]
fn what_holds_a_prune_is_said_and_nothing_is_asked(#[case] spec: Value, #[case] why: &str) {
    let space = space(&spec);
    let because = json!({"reason": "RunFailed", "message": "m", "hint": "h"});
    let generation = space.get("backupschedule/shop")["metadata"]["generation"].clone();
    let status = json!({"observedGeneration": generation, "suspendedBecause": because});
    space.set_status("backupschedule/shop", &status);
    let [reason, message, _] = space.vouchsafe_json(&["prune", "shop", "--yes"]).failure(1);
    assert_eq!(reason, "PruneHeld");
    assert!(message.contains(why), "{message}");
    let text = space.vouchsafe(&["prune", "shop"]).ok();
    assert!(text.contains("held ") && text.contains("to retire backup/shop-10"), "{text}");
    assert_eq!(requested(&space), None);
}

#[test]
fn where_nothing_goes_nothing_is_asked() {
    let space = space(&json!({"fullSchedule": "Always"}));
    let text = space.vouchsafe(&["prune", "shop", "--yes"]).ok();
    assert!(text.contains("has no retention") && text.contains("there is nothing to prune"), "{text}");
    assert!(text.contains("shop-10, run 10, of 2026-11-10T10:00:00Z: no rule was given"), "{text}");
    assert_eq!(requested(&space), None);
}

#[rstest]
#[case::a_backup(&["prune", "backup/shop-12"], "a Backup can't be pruned by itself")]
#[case::both(&["prune", "shop", "--store", "file:///x"], "--store")]
#[case::rules(&["prune", "shop", "--keep-last", "2"], "--keep-last")]
#[case::run(&["prune", "shop", "--run", "2"], "--run")]
#[case::yes_and_no(&["prune", "shop", "--yes", "--dry-run"], "--dry-run")]
#[case::wait(&["prune", "--store", "file:///x", "--wait"], "--wait")]
#[case::neither(&["prune"], "--store")]
fn what_can_not_be_asked_so_is_refused_with_exit_code_2(#[case] words: &[&str], #[case] names: &str) {
    let space = Space::new("prune");
    let [reason, message, _] = match words.contains(&"--store") || words.len() == 1 {
        // Without the namespace that the fixture adds, which would be refused first.
        true => {
            let mut all = words.to_vec();
            all.extend(["--output", "json"]);
            Ran::from(vouchsafe(&space.kubeconfig(), &all).output().unwrap()).failure(2)
        }
        false => space.vouchsafe_json(words).failure(2),
    };
    assert_eq!(reason, "Usage");
    assert!(message.contains(names), "{message}");
}
