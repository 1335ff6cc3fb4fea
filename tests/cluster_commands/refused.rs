//! Bad input: no cluster, another one, no such object, no right to it.

use std::net::TcpListener;

use rstest::rstest;
use serde_json::json;

use crate::fixture::{Ran, Space, restore, server, vouchsafe};

#[test]
fn a_cluster_without_our_resources_says_how_to_install_them() {
    let [reason, message, hint] = server().1.failure(1);
    assert_eq!(reason, "NotInstalled");
    assert!(message.contains("no backupstores.vouchsafe.dev"), "{message}");
    assert!(hint.contains("vouchsafe crds | kubectl apply"), "{hint}");
}

#[test]
fn no_kubeconfig_no_context_and_nobody_there_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let ask = |words: &[&str]| -> Ran {
        let mut all = vec!["status", "--output", "json"];
        all.extend(words);
        vouchsafe(&absent, &all).env("HOME", folder.path()).output().unwrap().into()
    };
    let [reason, _, hint] = ask(&[]).failure(1);
    assert_eq!(reason, "KubeconfigUnusable");
    assert!(hint.contains("--kubeconfig") && hint.contains("--store"), "{hint}");
    let kubeconfig = server().0.kubeconfig();
    let [reason, message, _] =
        ask(&["--kubeconfig", kubeconfig.to_str().unwrap(), "--context", "nobody"]).failure(1);
    assert_eq!(reason, "KubeconfigUnusable");
    assert!(message.contains("nobody"), "{message}");

    // A port that nobody listens on.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let closed = folder.path().join("closed");
    std::fs::write(&closed, text.replace(&server().0.port().to_string(), &port.to_string())).unwrap();
    let [reason, message, _] = ask(&["--kubeconfig", closed.to_str().unwrap()]).failure(1);
    assert_eq!(reason, "ClusterUnreachable");
    assert!(message.to_lowercase().contains("refused"), "{message}");
}

#[test]
fn near_names_are_told_where_there_is_none() {
    let space = Space::new("near");
    space.backup("shop-1");
    let [reason, message, hint] = space.vouchsafe_json(&["status", "backup/shop1"]).failure(1);
    assert_eq!(reason, "ObjectNotFound");
    assert!(message.contains("no Backup shop1") && message.contains(&space.name), "{message}");
    assert!(hint.contains("backup/shop-1"), "{hint}");
    let [_, _, hint] = space.vouchsafe_json(&["cancel", "zzz"]).failure(1);
    assert!(!hint.contains("shop-1"), "{hint}");
}

#[test]
fn a_name_of_several_objects_is_asked_for_with_its_kind() {
    let space = Space::new("twice");
    space.backup("shop");
    space.create(&restore("shop"));
    space.schedule("shop");
    let [reason, message, hint] = space.vouchsafe_json(&["suspend", "shop"]).failure(2);
    assert_eq!(reason, "NameAmbiguous");
    assert!(message.contains("schedule/shop") && hint.contains("restore/shop"), "{message} {hint}");
    assert!(space.get("backup/shop")["spec"].get("suspend").is_none());
    // Of schedules there is one.
    space.vouchsafe(&["trigger", "shop"]).ok();
}

#[rstest]
#[case::status(&["status"], "list backupstores.vouchsafe.dev")]
#[case::one(&["status", "backup/shop-1"], "get backups.vouchsafe.dev")]
#[case::list(&["list"], "list backups.vouchsafe.dev")]
#[case::cancel(&["cancel", "backup/shop-1"], "get backups.vouchsafe.dev")]
#[case::trigger(&["trigger", "shop"], "get backupschedules.vouchsafe.dev")]
fn who_may_not_is_told_what(#[case] words: &[&str], #[case] what: &str) {
    let space = Space::new("forbidden");
    space.backup("shop-1");
    let ann = space.server.kubeconfig_as("ann", &[]);
    let mut all = words.to_vec();
    all.extend(["--namespace", &space.name, "--output", "json"]);
    let [reason, message, hint] = Ran::from(vouchsafe(&ann, &all).output().unwrap()).failure(1);
    assert_eq!(reason, "Forbidden");
    assert!(message.contains(&format!("you may not {what} in namespace {}", space.name)), "{message}");
    assert!(hint.contains(&format!("kubectl auth can-i {what} -n {}", space.name)), "{hint}");
}

#[test]
fn who_may_read_and_not_write_is_told_so() {
    let space = Space::new("reader");
    space.backup("shop-1");
    let rule = json!({"apiGroups": ["vouchsafe.dev"], "resources": ["*"], "verbs": ["get", "list", "watch"]});
    let group = "rbac.authorization.k8s.io";
    space.create(&json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "r"},
        "rules": [rule]}));
    space.create(
        &json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "r"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "ann"}]}),
    );
    let ann = space.server.kubeconfig_as("ann", &[]);
    let words = ["suspend", "backup/shop-1", "--namespace", &space.name, "--output", "json"];
    // RBAC's cache takes the role in within moments.
    let failure = crate::fixture::until(|| {
        let [reason, message, _] = Ran::from(vouchsafe(&ann, &words).output().unwrap()).failure(1);
        assert_eq!(reason, "Forbidden");
        message.contains("you may not patch").then_some(message)
    });
    assert!(failure.contains("backups.vouchsafe.dev"), "{failure}");
    assert!(space.get("backup/shop-1")["spec"].get("suspend").is_none());
}

#[rstest]
#[case::kind(&["status", "pod/x"], "\"pod\" is no kind")]
#[case::empty(&["cancel", "backup/"], "KIND/NAME")]
#[case::all_and_one(&["status", "-A", "-n", "x"], "--namespace")]
fn what_is_no_object_is_a_usage_error(#[case] words: &[&str], #[case] names: &str) {
    let mut all = words.to_vec();
    all.extend(["--output", "json"]);
    let [reason, message, _] =
        Ran::from(vouchsafe(&server().0.kubeconfig(), &all).output().unwrap()).failure(2);
    assert_eq!(reason, "Usage");
    assert!(message.contains(names), "{message}");
}
