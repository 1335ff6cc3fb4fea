//! What the controller may do, as the API server reckons it, and what it may grant.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use serde_json::{Value, json};

use crate::chart::{template, the};
use crate::server::{CONTROLLERS, NAMESPACE, object, output, shared, until};

/// `group/resource: verbs (names)` of each rule, sorted.
fn lines(rules: &[Value]) -> String {
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let texts = rule[field].as_array().into_iter().flatten();
        texts.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut lines = BTreeSet::new();
    for rule in rules {
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                let group = if group.is_empty() { "core" } else { &group };
                let mut line = format!("{group}/{resource}: {}", texts(rule, "verbs").join(" "));
                let names = texts(rule, "resourceNames");
                if !names.is_empty() {
                    line.push_str(&format!(" ({})", names.join(", ")));
                }
                lines.insert(line);
            }
        }
    }
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

/// A new path for a file of this process.
fn scratch(stem: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("vouchsafe-{stem}-{}-{number}", std::process::id()))
}

/// Who the controller is.
fn controller() -> PathBuf {
    let user = format!("system:serviceaccount:{CONTROLLERS}:vouchsafe");
    shared().testbed.kubeconfig_as(&user, &["system:serviceaccounts", "system:authenticated"])
}

/// What the API server says that the controller may do in a namespace.
fn review(namespace: &str) -> String {
    rules_of(&controller(), namespace)
}

/// What the API server says that somebody may do in a namespace.
fn rules_of(kubeconfig: &Path, namespace: &str) -> String {
    let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.into()) };
    let review = SelfSubjectRulesReview { spec, ..Default::default() };
    let file = scratch("review");
    std::fs::write(&file, serde_json::to_string(&review).expect("JSON")).expect("a file");
    let mut kubectl = shared().testbed.kubectl_with(kubeconfig);
    let answer = output(kubectl.args(["create", "--validate=false", "-o", "yaml", "-f"]).arg(&file));
    let _ = std::fs::remove_file(&file);
    let answer = object(&answer.expect("a review"));
    lines(answer["status"]["resourceRules"].as_array().expect("rules"))
}

fn apply_rights() {
    let all = template(&[]);
    for kind in ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"] {
        for object in all.iter().filter(|it| it["kind"] == kind) {
            shared().keep(object).expect("a right");
        }
    }
    until("the controller's rights", || match review(CONTROLLERS) {
        rights if rights.contains("leases") && rights.contains("backups") => Ok(()),
        rights => Err(rights),
    });
}

#[test]
fn of_the_controller_in_a_users_namespace() {
    apply_rights();
    insta::assert_snapshot!(review(NAMESPACE), @r"
    authentication.k8s.io/selfsubjectreviews: create
    authorization.k8s.io/selfsubjectaccessreviews: create
    authorization.k8s.io/selfsubjectrulesreviews: create
    batch/jobs: get list watch create delete
    core/configmaps: get create
    core/pods: get list watch
    core/serviceaccounts: get create
    events.k8s.io/events: create patch list
    rbac.authorization.k8s.io/rolebindings: get create
    rbac.authorization.k8s.io/roles: get create
    vouchsafe.dev/backups/finalizers: update
    vouchsafe.dev/backups/status: patch
    vouchsafe.dev/backups: get list watch create patch delete
    vouchsafe.dev/backupschedules/finalizers: update
    vouchsafe.dev/backupschedules/status: patch
    vouchsafe.dev/backupschedules: get list watch patch
    vouchsafe.dev/backupstores/finalizers: update
    vouchsafe.dev/backupstores/status: patch
    vouchsafe.dev/backupstores: get list watch patch
    vouchsafe.dev/restores/finalizers: update
    vouchsafe.dev/restores/status: patch
    vouchsafe.dev/restores: get list watch patch
    ");
}

#[test]
fn of_the_controller_in_its_own_namespace() {
    apply_rights();
    let everywhere = review(NAMESPACE);
    let here = review(CONTROLLERS);
    let more: Vec<&str> = here.lines().filter(|line| !everywhere.contains(line)).collect();
    insta::assert_snapshot!(more.join("\n"), @"coordination.k8s.io/leases: get create update");
}

#[test]
fn for_named_namespaces_are_the_same_there_and_none_elsewhere() {
    let (cluster, named) = (template(&[]), template(&[r#"watchNamespaces=["shop","erp"]"#]));
    let rules = the(&cluster, "ClusterRole", "-controller")["rules"].clone();
    let roles: Vec<&Value> = named
        .iter()
        .filter(|it| it["kind"] == "Role" && it["metadata"]["name"] == "vouchsafe-controller")
        .collect();
    let namespaces: Vec<&str> = roles.iter().filter_map(|it| it["metadata"]["namespace"].as_str()).collect();
    assert_eq!(namespaces, ["shop", "erp"]);
    for role in roles {
        assert_eq!(role["rules"], rules);
    }
    assert!(!named.iter().any(|it| it["kind"] == "ClusterRoleBinding"));
}

#[test]
fn no_role_reads_secrets_or_takes_more_rights() {
    for role in template(&[]).iter().filter(|it| it["kind"] == "ClusterRole" || it["kind"] == "Role") {
        let text = lines(role["rules"].as_array().expect("rules"));
        for word in ["secrets", "*", "escalate", "bind ", "impersonate", "pods/exec", "nodes"] {
            assert!(!text.contains(word), "{}: {word}: {text}", role["metadata"]["name"]);
        }
    }
}

#[test]
fn people_see_and_write_resources_but_no_status() {
    let all = template(&[]);
    let of = |name: &str| the(&all, "ClusterRole", name);
    insta::assert_snapshot!(lines(of("-view")["rules"].as_array().expect("rules")), @r"
    vouchsafe.dev/backups: get list watch
    vouchsafe.dev/backupschedules: get list watch
    vouchsafe.dev/backupstores: get list watch
    vouchsafe.dev/restores: get list watch
    ");
    insta::assert_snapshot!(lines(of("-edit")["rules"].as_array().expect("rules")), @r"
    vouchsafe.dev/backups: create update patch delete deletecollection
    vouchsafe.dev/backupschedules: create update patch delete deletecollection
    vouchsafe.dev/backupstores: create update patch delete deletecollection
    vouchsafe.dev/restores: create update patch delete deletecollection
    ");
    let aggregated = |name: &str| -> Vec<String> {
        let labels = of(name)["metadata"]["labels"].as_object().cloned().expect("labels");
        let prefix = "rbac.authorization.k8s.io/aggregate-to-";
        labels.keys().filter_map(|label| label.strip_prefix(prefix)).map(str::to_owned).collect()
    };
    assert_eq!(aggregated("-view"), ["admin", "edit", "view"]);
    assert_eq!(aggregated("-edit"), ["admin", "edit"]);
}

/// Creates an object as the controller.
fn create_as_controller(object: &Value) -> Result<String, String> {
    let file = scratch("object");
    std::fs::write(&file, object.to_string()).expect("a file");
    let mut kubectl = shared().testbed.kubectl_with(&controller());
    let created = output(kubectl.args(["create", "--validate=false", "-f"]).arg(&file));
    let _ = std::fs::remove_file(&file);
    created
}

/// The objects that give a run's pod its rights, as src/controller makes them.
fn of_run(name: &str, rules: &Value) -> [Value; 3] {
    let metadata = json!({"name": name, "namespace": NAMESPACE});
    let rbac = "rbac.authorization.k8s.io";
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": rules}),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
        }),
    ]
}

#[test]
fn the_controller_grants_what_a_run_needs_and_no_more() {
    apply_rights();
    for (kind, status) in [("backups", "backups/status"), ("restores", "restores/status")] {
        let name = format!("run-of-{kind}");
        let rules = json!([
            {"apiGroups": ["vouchsafe.dev"], "resources": [kind], "resourceNames": ["one"],
             "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["vouchsafe.dev"], "resources": [status], "resourceNames": ["one"], "verbs": ["patch"]},
        ]);
        for object in of_run(&name, &rules) {
            create_as_controller(&object).unwrap_or_else(|error| panic!("{error}"));
        }
        // With a token of its own, as the pod has it.
        let run = shared().testbed.kubeconfig_of_account(NAMESPACE, &name);
        until("the run's rights", || match rules_of(&run, NAMESPACE) {
            rights if rights.contains("vouchsafe.dev") => Ok(()),
            rights => Err(rights),
        });
        let rights = rules_of(&run, NAMESPACE);
        let ours: Vec<&str> = rights.lines().filter(|line| !line.contains("/selfsubject")).collect();
        assert_eq!(
            ours,
            [
                format!("vouchsafe.dev/{status}: patch (one)"),
                format!("vouchsafe.dev/{kind}: get list watch (one)")
            ]
        );
    }
    let secrets = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    let [_, role, _] = of_run("more", &secrets);
    let said = create_as_controller(&role).expect_err("more than it has");
    assert!(said.contains("attempting to grant RBAC permissions not currently held"), "{said}");
    // Nor by a role that is there already.
    let [_, _, mut binding] = of_run("admin", &json!([]));
    binding["roleRef"] =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    let said = create_as_controller(&binding).expect_err("more than it has");
    assert!(said.contains("attempting to grant RBAC permissions not currently held"), "{said}");
}
