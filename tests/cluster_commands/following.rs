//! `trigger` and `logs`: what goes on while they wait.

use std::io::Read;
use std::process::{Child, Stdio};

use rstest::rstest;
use serde_json::{Value, json};

use crate::fixture::{Ran, SHA256, Space, failed, run, succeeded, until, vouchsafe};

#[test]
fn a_trigger_makes_a_backup_of_the_template_that_nobody_owns() {
    let space = Space::new("trigger");
    space.schedule("shop");
    let schedule = space.get("backupschedule/shop");
    let report = space.vouchsafe_json(&["trigger", "shop"]).json();
    let name = report["backup"].as_str().unwrap();
    assert!(name.starts_with("shop-manual-") && name.len() == "shop-manual-".len() + 5, "{name}");
    assert_eq!((&report["phase"], &report["schedule"]), (&json!("Pending"), &json!("shop")));
    let backup = space.get(&format!("backup/{name}"));
    assert_eq!(backup["spec"], schedule["spec"]["template"]["spec"]);
    assert_eq!(
        backup["metadata"]["labels"],
        json!({"team": "orders", "vouchsafe.dev/schedule": "shop"}),
        "{backup}"
    );
    let annotations = &backup["metadata"]["annotations"];
    assert_eq!(annotations["vouchsafe.dev/schedule-uid"], schedule["metadata"]["uid"]);
    assert_eq!(annotations["vouchsafe.dev/triggered"], "manual");
    assert!(backup["metadata"].get("ownerReferences").is_none());
    space.vouchsafe(&["trigger", "schedule/shop"]).ok();
    assert_eq!(space.names("backup").len(), 2);
}

fn waiting(space: &Space, words: &[&str]) -> Child {
    let mut all = words.to_vec();
    all.extend(["--namespace", &space.name]);
    let mut command = vouchsafe(&space.kubeconfig(), &all);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[rstest]
#[case::proven(succeeded(), 0, None)]
#[case::failed(failed("PodRefused"), 1, Some("PodRefused"))]
#[case::damaged(failed("DamageFound"), 3, Some("DamageFound"))]
#[case::canceled(json!({"observedGeneration": 1, "phase": "Canceled"}), 1, Some("Canceled"))]
fn a_trigger_that_waits_exits_as_its_backup_ended(
    #[case] end: Value,
    #[case] code: i32,
    #[case] reason: Option<&str>,
) {
    let space = Space::new("wait");
    space.schedule("shop");
    let child = waiting(&space, &["trigger", "shop", "--wait", "--output", "json"]);
    let name = until(|| space.names("backup").pop());
    let object = format!("backup/{name}");
    space.set_status(
        &object,
        &json!({"observedGeneration": 1, "phase": "Exporting", "progress": {"percent": 10}}),
    );
    space.set_status(&object, &end);
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(code), "{ran:?}");
    let report = ran.json();
    assert_eq!((&report["phase"], &report["reason"]), (&end["phase"], &json!(reason)), "{report}");
    if code == 0 {
        assert_eq!((&report["manifestSha256"], &report["run"]), (&json!(SHA256), &json!(12)));
    }
}

#[test]
fn a_trigger_that_waits_tells_how_it_goes_and_ctrl_c_ends_the_waiting_alone() {
    let space = Space::new("wait");
    space.schedule("shop");
    let mut child = waiting(&space, &["trigger", "shop", "--wait"]);
    let name = until(|| space.names("backup").pop());
    space.set_status(&format!("backup/{name}"), &json!({"observedGeneration": 1, "phase": "Exporting"}));
    let mut said = String::new();
    let mut stderr = child.stderr.take().unwrap();
    while !said.contains("Exporting") {
        let mut bytes = [0; 256];
        let read = stderr.read(&mut bytes).unwrap();
        assert!(read > 0, "it ended: {said}");
        said.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    run(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]));
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains("reason: Canceled") && said.contains("it goes on"), "{said}");
    assert!(space.get(&format!("backup/{name}"))["spec"].get("cancel").is_none());
}

#[test]
fn a_deleted_backup_is_waited_for_no_longer() {
    let space = Space::new("wait");
    space.schedule("shop");
    let child = waiting(&space, &["trigger", "shop", "--wait", "--output", "json"]);
    let name = until(|| space.names("backup").pop());
    let object = format!("backups.vouchsafe.dev/{name}");
    run(space.server.kubectl().args(["delete", &object, "--namespace", &space.name]));
    let [reason, message, _] = Ran::from(child.wait_with_output().unwrap()).failure(1);
    assert_eq!(reason, "ObjectGone");
    assert!(message.contains(&name), "{message}");
}

/// A pod as the controller labels it, that claims to run; there is no kubelet that could tell its log.
fn pod(space: &Space, backup: &str, role: &str) {
    let uid = space.get(&format!("backup/{backup}"))["metadata"]["uid"].clone();
    let name = format!("{backup}-{role}");
    let container = json!({"name": "vouchsafe", "image": "i"});
    space.create(&json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"vouchsafe.dev/uid": uid, "app.kubernetes.io/component": role}},
        "spec": {"nodeName": "gone", "containers": [container], "automountServiceAccountToken": false}}));
    let status = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "vouchsafe", "image": "i",
        "imageID": "i", "ready": true, "restartCount": 0, "state": {"running": {}}}]}});
    run((space.server.kubectl())
        .args(["patch", "pod", &name, "--namespace", &space.name, "--subresource=status", "--type=merge"])
        .args(["-p", &status.to_string()]));
}

#[test]
fn logs_name_what_there_is_of_none_and_what_could_not_be_read() {
    let space = Space::new("logs");
    // A namespace's account is made by a controller that isn't there.
    space.create(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}));
    space.backup("shop-1");
    let [reason, message, hint] = space.vouchsafe_json(&["logs", "shop-1"]).failure(1);
    assert_eq!(reason, "NoLogs");
    assert!(
        message.contains("no pod of backup/shop-1") && hint.contains("--follow waits"),
        "{message} {hint}"
    );

    pod(&space, "shop-1", "worker");
    let [reason, message, hint] =
        space.vouchsafe_json(&["logs", "shop-1", "--process", "verifier-eu"]).failure(1);
    assert_eq!(reason, "NoLogs");
    assert!(message.contains("process verifier-eu") && hint.contains("worker"), "{message} {hint}");

    let [reason, message, _] =
        space.vouchsafe_json(&["logs", "backup/shop-1", "--process", "worker"]).failure(1);
    assert_eq!(reason, "LogsIncomplete");
    assert!(message.contains("[worker]"), "{message}");
}

#[test]
fn following_logs_ends_with_the_run() {
    let space = Space::new("logs");
    space.backup("shop-1");
    // Nobody else watches the pods of one namespace: there are no controllers.
    let watches = || -> u64 {
        let metrics = run(space.server.kubectl().args(["get", "--raw", "/metrics"]));
        let of_pods = metrics.lines().filter(|line| {
            let wanted = ["resource=\"pods\"", "scope=\"namespace\"", "verb=\"WATCH\""];
            line.starts_with("apiserver_longrunning_requests{") && wanted.iter().all(|it| line.contains(it))
        });
        of_pods.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    };
    let before = watches();
    let mut child = waiting(&space, &["logs", "backup/shop-1", "--follow"]);
    until(|| (watches() > before).then_some(()));
    assert_eq!(child.try_wait().unwrap(), None, "it waits for pods");
    space.set_status("backup/shop-1", &succeeded());
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (Some(0), "", ""));
}
