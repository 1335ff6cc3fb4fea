//! The admission policy: an author must be allowed to use what a resource names, and nobody else is in the way.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use kube::Client;
use serde_json::{Value, json};
use vouchsafe::api::Kind;

use crate::chart::{template, the};
use crate::examples;
use crate::server::{CONTROLLERS, NAMESPACE, Server, shared, until};

/// The group of those who may write our resources, and nothing more.
const EDITORS: &str = "editors";

/// Something that a resource names: what kind of thing, and which.
type Reference = (&'static str, String);

/// The server with the policy in force.
fn with_policy() -> &'static Server {
    static READY: OnceLock<&'static Server> = OnceLock::new();
    READY.get_or_init(|| {
        let server = shared();
        let all = template(&[]);
        for kind in ["ClusterRole", "ClusterRoleBinding", "ServiceAccount"] {
            for object in all.iter().filter(|it| it["kind"] == kind) {
                server.keep(object).expect("a right");
            }
        }
        bind(server, "ClusterRole", "vouchsafe-edit", "Group", EDITORS);
        server.keep(&the(&all, "ValidatingAdmissionPolicy", "references")).expect("a policy");
        server.keep(&the(&all, "ValidatingAdmissionPolicyBinding", "references")).expect("a binding");
        let nobody = editor(server, "nobody");
        until("the policy is in force", || {
            match server.try_out_as(&nobody, &examples::of(Kind::Backup)[0]) {
                Err(said) if said.contains("ValidatingAdmissionPolicy") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        server
    })
}

fn editor(server: &Server, name: &str) -> Client {
    server.client_as(name, &[EDITORS, "system:authenticated"])
}

fn bind(server: &Server, kind: &str, role: &str, subject: &str, name: &str) {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": format!("{role}-{name}"), "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": subject, "name": name}],
    });
    server.keep(&binding).expect("a binding");
}

/// An editor who may use those things, by their names.
fn author(server: &Server, name: &str, may_use: &[Reference]) -> Client {
    let rule = |(resource, object): &Reference| {
        let verb = if *resource == "serviceaccounts" { "impersonate" } else { "get" };
        json!({"apiGroups": [""], "resources": [resource], "resourceNames": [object], "verbs": [verb]})
    };
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "rules": may_use.iter().map(rule).collect::<Vec<_>>(),
    });
    server.keep(&role).expect("a role");
    bind(server, "Role", name, "User", name);
    editor(server, name)
}

/// What `value` names, found by the fields' names and not as the policy does it.
fn references(value: &Value, all: &mut BTreeSet<Reference>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = value["name"].as_str().map(str::to_owned);
                match (field.as_str(), name) {
                    ("imagePullSecrets", _) => {
                        let names =
                            value.as_array().into_iter().flatten().filter_map(|it| it["name"].as_str());
                        all.extend(names.map(|name| ("secrets", name.to_owned())));
                    }
                    (field, Some(name)) if field == "secret" || field.ends_with("Secret") => {
                        all.insert(("secrets", name));
                    }
                    ("configMap", Some(name)) => drop(all.insert(("configmaps", name))),
                    _ => references(value, all),
                }
                match (field.as_str(), value) {
                    ("claim", Value::String(name)) => {
                        all.insert(("persistentvolumeclaims", name.clone()));
                    }
                    ("serviceAccountName", Value::String(name)) => {
                        all.insert(("serviceaccounts", name.clone()));
                    }
                    _ => {}
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, all)),
        _ => {}
    }
}

fn of(example: &Value) -> Vec<Reference> {
    let mut all = BTreeSet::new();
    references(&example["spec"], &mut all);
    all.into_iter().collect()
}

#[test]
fn whoever_may_not_use_one_thing_is_told_which() {
    let server = with_policy();
    let mut kinds = BTreeSet::new();
    for kind in Kind::ALL {
        for (number, mut example) in examples::of(kind).into_iter().enumerate() {
            example["metadata"]["name"] = json!(format!("asked-{number}"));
            let all = of(&example);
            assert!(!all.is_empty(), "{example} names nothing");
            let user = format!("author-{}-{number}", kind.as_str().to_lowercase());
            let granted = author(server, &user, &all);
            until("an author who may use all of it", || server.try_out_as(&granted, &example));
            for (without, (resource, name)) in all.iter().enumerate() {
                kinds.insert(*resource);
                let mut others = all.clone();
                others.remove(without);
                let denied = author(server, &format!("{user}-{without}"), &others);
                until(name, || match server.try_out_as(&denied, &example) {
                    Err(said) if said.contains(&format!("\"{name}\" in \"{NAMESPACE}\"")) => Ok(()),
                    other => Err(format!("{kind} {resource} {name}: {other:?}")),
                });
            }
        }
    }
    assert_eq!(kinds.len(), 4, "{kinds:?}");
}

#[test]
fn whoever_may_use_everything_is_asked_once() {
    let server = with_policy();
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "reader", "namespace": NAMESPACE},
        "rules": [{"apiGroups": [""], "resources": ["secrets", "configmaps", "persistentvolumeclaims"],
                   "verbs": ["get"]}],
    });
    server.keep(&role).expect("a role");
    bind(server, "Role", "reader", "User", "reader");
    let reader = editor(server, "reader");
    // More than can be looked at one by one.
    let store = store_of_many(32, 8);
    until("every Secret may be read", || server.try_out_as(&reader, &store));
    // Reading is not being.
    let mut robot = store.clone();
    robot["spec"]["podTemplate"] = json!({"serviceAccountName": "robot"});
    let said = server.try_out_as(&reader, &robot).expect_err("impersonation");
    assert!(said.contains("may not impersonate the ServiceAccount \"robot\""), "{said}");
}

/// A store of 32 destinations that name `secrets` Secrets and `claims` claims, as often as they can.
fn store_of_many(secrets: usize, claims: usize) -> Value {
    let secret = |number: usize| json!({"name": format!("secret-{}", number % secrets)});
    let destination = |number: usize| {
        let mut destination = json!({
            "name": format!("d{number}"), "locality": format!("region=r{number}"), "default": number == 0,
            "credentialsSecret": secret(number * 2), "deleteCredentialsSecret": secret(number * 2 + 1),
        });
        if number < 2 * claims {
            let claim = format!("claim-{}", number % claims);
            destination["file"] = json!({"claim": claim, "path": format!("p{number}")});
        } else {
            let ca = json!({"name": secret(number)["name"], "key": "ca.crt"});
            destination["s3"] = json!({"bucket": format!("bucket-{number}"), "caSecret": ca});
        }
        destination
    };
    json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupStore",
        "metadata": {"name": "many", "namespace": NAMESPACE},
        "spec": {"destinations": (0..32).map(destination).collect::<Vec<_>>()},
    })
}

#[test]
fn the_most_that_can_be_named_is_within_the_servers_budget() {
    let server = with_policy();
    let mut store = store_of_many(16, 4);
    store["spec"]["podTemplate"] = json!({"serviceAccountName": "robot"});
    let may_use = of(&store);
    assert_eq!(may_use.len(), 16 + 4 + 1);
    let named = author(server, "named", &may_use);
    until("sixteen Secrets by name", || server.try_out_as(&named, &store));
    let more = store_of_many(17, 4);
    let may_use = of(&more);
    let more_named = author(server, "named-more", &may_use);
    until("one too many", || match server.try_out_as(&more_named, &more) {
        Err(said) if said.contains("names at most 16 of them") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn what_changes_no_reference_is_not_asked_about() {
    let server = with_policy();
    let nobody = editor(server, "nobody");
    for (kind, harmless, harmful) in [
        (
            Kind::BackupSchedule,
            ("/spec/schedule", json!("5 5 * * *")),
            ("/spec/template/spec/source/postgres/endpoints/0/host", json!("elsewhere.example.com")),
        ),
        (
            Kind::BackupStore,
            ("/metadata/labels", json!({"a": "b"})),
            ("/spec/destinations/0/s3/endpoint", json!("https://elsewhere.example.com")),
        ),
        (Kind::Backup, ("/spec/suspend", json!(true)), ("/metadata/name", json!("another"))),
        (Kind::Restore, ("/spec/cancel", json!(true)), ("/metadata/name", json!("another"))),
    ] {
        let mut kept = examples::of(kind)[0].clone();
        kept["metadata"]["name"] = json!("unasked");
        server.keep(&kept).expect("the administrator may");
        let with = |(pointer, value): (&str, Value)| {
            let mut object = kept.clone();
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
            object.pointer_mut(parent).expect("a place")[field] = value;
            object
        };
        server.try_out_as(&nobody, &with(harmless)).unwrap_or_else(|said| panic!("{kind}: {said}"));
        let said = server.try_out_as(&nobody, &with(harmful)).expect_err("a known Secret, sent elsewhere");
        assert!(said.contains("may not get the Secret"), "{kind}: {said}");
    }
}

#[test]
fn the_controller_makes_what_a_schedules_author_was_asked_about() {
    let server = with_policy();
    let of_account = |account: &str| {
        let user = format!("system:serviceaccount:{CONTROLLERS}:{account}");
        server.client_as(&user, &["system:serviceaccounts", "system:authenticated"])
    };
    let mut backup = examples::of(Kind::Backup)[0].clone();
    backup["metadata"]["name"] = json!("of-a-schedule");
    let controller = of_account("vouchsafe");
    until("the controller", || server.try_out_as(&controller, &backup));
    // And not because it may read Secrets, nor because of its namespace.
    bind(
        server,
        "ClusterRole",
        "vouchsafe-controller",
        "User",
        "system:serviceaccount:vouchsafe-system:other",
    );
    let other = of_account("other");
    until("another account of that namespace", || match server.try_out_as(&other, &backup) {
        Err(said) if said.contains("may not get the Secret") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn for_named_namespaces_it_looks_at_those_alone() {
    let binding = |values: &[&str]| the(&template(values), "ValidatingAdmissionPolicyBinding", "references");
    assert_eq!(binding(&[])["spec"].get("matchResources"), None);
    let expected = json!({"namespaceSelector": {"matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["shop", "erp"]}]}});
    assert_eq!(binding(&[r#"watchNamespaces=["shop","erp"]"#])["spec"]["matchResources"], expected);
}

/// A field that is new in a status is the controller's, too.
#[test]
fn every_field_of_a_status_is_the_controllers_but_what_a_pod_publishes() {
    let policy = the(&template(&[]), "ValidatingAdmissionPolicy", "statuses");
    let rules = policy["spec"]["validations"].as_array().expect("rules");
    let field = |rule: &Value| {
        let message = rule["message"].as_str().expect("a message");
        message.strip_prefix("status.").and_then(|rest| rest.split(' ').next()).expect("a field").to_owned()
    };
    let guarded: BTreeSet<String> = rules.iter().map(field).collect();
    let of_statuses = Kind::ALL.into_iter().flat_map(|kind| {
        let schema = vouchsafe::api::definition::schema(kind);
        let fields = schema["properties"]["status"]["properties"].as_object().expect("fields").clone();
        fields.into_iter().map(|(name, _)| name)
    });
    let published = ["run", "progress"];
    let expected: BTreeSet<String> = of_statuses.filter(|it| !published.contains(&&**it)).collect();
    assert_eq!(guarded, expected);
}

/// A run's pod may patch its resource's status, and forges what only the controller finds.
#[test]
fn a_runs_account_changes_what_it_publishes_and_nothing_else_of_a_status() {
    let server = with_policy();
    let all = template(&[]);
    server.keep(&the(&all, "ValidatingAdmissionPolicy", "statuses")).expect("a policy");
    server.keep(&the(&all, "ValidatingAdmissionPolicyBinding", "statuses")).expect("a binding");
    let mut backup = examples::of(Kind::Backup)[0].clone();
    backup["metadata"]["name"] = json!("forged");
    server.keep(&backup).expect("a Backup");
    let account = format!("system:serviceaccount:{NAMESPACE}:run");
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "run", "namespace": NAMESPACE},
        "rules": [{"apiGroups": [vouchsafe::api::GROUP], "resources": ["backups/status"], "verbs": ["patch"]}],
    });
    server.keep(&role).expect("a role");
    bind(server, "Role", "run", "User", &account);
    let run = server.client_as(&account, &["system:serviceaccounts", "system:authenticated"]);
    let sha256 = "0".repeat(64);
    let witness = json!({"destination": "eu", "pod": "p", "nonce": "n", "verdictSha256": sha256});
    let proof = json!({
        "manifestSha256": sha256, "sealedAt": "2026-11-22T00:00:00Z", "witnesses": [witness],
    });
    let forged =
        [("phase", json!({"phase": "Succeeded", "proof": proof})), ("proof", json!({"proof": proof}))];
    // Of another Backup: what goes through before the policy is in force stays there. Another text each time: the
    // same would be no change.
    let mut asked = backup.clone();
    asked["metadata"]["name"] = json!("asked");
    server.keep(&asked).expect("a Backup");
    let tries = std::cell::Cell::new(0);
    until("the policy is in force", || {
        tries.set(tries.get() + 1);
        let failure = json!({"reason": "Nothing", "message": format!("try {}", tries.get()), "hint": "none"});
        match server.set_status_as(&run, &asked, &json!({"failure": failure})) {
            Err(said) if said.contains("status.failure is written by the controller alone") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    for (field, status) in forged {
        let said = server.set_status_as(&run, &backup, &status).expect_err(field);
        assert!(said.contains(&format!("status.{field} is written by the controller alone")), "{said}");
    }
    let published = json!({"run": {"number": 1, "step": "Exporting"}, "progress": {"percent": 10}});
    server.set_status_as(&run, &backup, &published).expect("what a coordinator publishes");
    let controllers = format!("system:serviceaccount:{CONTROLLERS}:vouchsafe");
    let controller = server.client_as(&controllers, &["system:serviceaccounts", "system:authenticated"]);
    let found = json!({"phase": "Exporting"});
    server.set_status_as(&controller, &backup, &found).expect("what the controller finds");
    let again = json!({"phase": "Exporting", "run": {"number": 1, "step": "Counting"}});
    let after = server.set_status_as(&run, &backup, &again).expect("what a coordinator publishes again");
    assert_eq!(after["status"]["phase"], "Exporting");
}
