//! Every CEL rule: an example that breaks it alone is refused in the rule's own words.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vouchsafe::api::Kind;
use vouchsafe::api::definition::schema;

use crate::examples;
use crate::server::shared;

/// How a rule's message begins, where the example is changed, and to what; null removes.
type Break = (&'static str, String, Value);

/// Breaks of what a Backup and a schedule's template say, below `spec`.
fn of_backups(spec: &str) -> Vec<Break> {
    let postgres = format!("{spec}/source/postgres");
    let at = |path: &str| format!("{postgres}/{path}");
    let two = |second: Value| json!([{"name": "a", "host": "a", "locality": "region=a"}, second]);
    let mut all = of_servers(&at("endpoints/0"));
    all.extend(of_pods(spec));
    all.extend([
        (
            "a rule names tables or partitionsOf",
            at("placement/0"),
            json!({"name": "us", "locality": "region=us"}),
        ),
        (
            "placement divides the tables of one server",
            at("endpoints"),
            two(json!({"name": "b", "host": "b", "locality": "region=b"})),
        ),
        ("a selection of nothing takes nothing", at("include"), json!({"schemas": []})),
        ("`runs` and `collection.json` are the names", format!("{spec}/collection"), json!("a/runs")),
        ("zero leaves nothing", format!("{spec}/deadline"), json!("0h0m")),
        ("zero leaves nothing", format!("{spec}/rateLimit"), json!("0Mi")),
        ("of several endpoints each must say", at("endpoints"), two(json!({"name": "b", "host": "b"}))),
        (
            "two endpoints hold the same locality",
            at("endpoints"),
            two(json!({"name": "b", "host": "b", "locality": "region=a"})),
        ),
    ]);
    all
}

/// Breaks of what reaches a server of PostgreSQL.
fn of_servers(server: &str) -> Vec<Break> {
    let at = |path: &str| format!("{server}/{path}");
    vec![
        ("exactly one of secret and configMap", at("tls/ca"), json!({})),
        ("a CA is only looked at by", at("tls/mode"), json!("Require")),
        ("exactly one of password and awsIam", at("auth"), json!({})),
    ]
}

/// A break of what labels and annotations are not called.
fn ours(pointer: String) -> Break {
    ("keys of vouchsafe.dev are the operator's own", pointer, json!({"vouchsafe.dev/x": "y"}))
}

fn of_pods(spec: &str) -> Vec<Break> {
    let exists = json!({"key": "k", "operator": "Exists", "value": "v"});
    vec![
        ("operator Exists takes no value", format!("{spec}/podTemplate/tolerations/0"), exists),
        ours(format!("{spec}/podTemplate/labels")),
    ]
}

fn breaks(kind: Kind) -> Vec<Break> {
    let at = |path: &str| format!("/spec/{path}");
    let plain = |(message, path, value): (&'static str, &str, Value)| (message, at(path), value);
    let mut all = match kind {
        Kind::Backup => of_backups("/spec"),
        Kind::BackupSchedule => of_backups("/spec/template/spec"),
        Kind::Restore => [of_servers("/spec/target/postgres"), of_pods("/spec")].concat(),
        Kind::BackupStore => of_pods("/spec"),
    };
    let endpoint = json!({"name": "eu", "locality": "region=eu"});
    let more = match kind {
        Kind::Backup => vec![("the host stands in host", "source/postgres/endpoints/0", endpoint)],
        Kind::BackupSchedule => vec![
            ("the host stands in host", "template/spec/source/postgres/endpoints/0", endpoint),
            ("a label by which a GitOps tool", "template/metadata/labels", json!({"vouchsafe.dev/x": "y"})),
            (
                "an annotation by which a GitOps tool",
                "template/metadata/annotations",
                json!({"argocd.argoproj.io/tracking-id": "y"}),
            ),
            ("zero leaves nothing", "startingDeadline", json!("0m")),
            ("zero leaves nothing", "recoveryPointObjective", json!("0s")),
            ("a retention keeps something", "retention", json!({"minimum": 1})),
            ("deletionPolicy Delete is refused", "template/spec/deletionPolicy", json!("Delete")),
            ("a schedule's backups name their collection", "template/spec/collection", Value::Null),
            ("suspend and cancel are for one Backup", "template/spec/suspend", json!(true)),
        ],
        Kind::BackupStore => vec![
            ("exactly one destination must be the default", "destinations/0/default", json!(false)),
            ("a destination without a locality takes nothing", "destinations/1/locality", Value::Null),
            ("two destinations declare the same", "destinations/1/locality", json!("region=eu-west1")),
            ("a destination has exactly one of", "destinations/1/file", json!({"path": "/a"})),
            ("with a claim the path is relative", "destinations/2/file/path", json!("relative")),
            (
                "one destination's prefix is within",
                "destinations/1/s3",
                json!({"bucket": "orders-eu",
                "endpoint": "https://s3.example:9000", "prefix": "pg/shop"}),
            ),
            (
                "one destination's part of a container is within",
                "destinations/1",
                json!({"name": "us", "locality": "region=us-east1", "azure": {
                    "account": "orders", "container": "backups", "prefix": "pg/us",
                    "endpoint": "https://orders.blob.core.usgovcloudapi.net"}}),
            ),
            (
                "one destination's folder is within",
                "destinations/5/file",
                json!({"path": "/srv/backups/us-b/x"}),
            ),
        ],
        Kind::Restore => vec![
            ("the host stands in host", "target/postgres", json!({"database": "d"})),
            ("a selection of nothing takes nothing", "include", json!({"tables": []})),
            ("zero leaves nothing", "deadline", json!("0s")),
            (
                "`runs` and `collection.json` are the names",
                "from",
                json!({"storeRef": {"name": "orders"}, "collection": "runs", "run": 1}),
            ),
            ("collection and run belong to storeRef", "from", json!({"backup": "b", "run": 1})),
            ("exactly one of backup, storeRef", "from", json!({})),
            ("exactly one of postgres and ephemeral", "target", json!({})),
            ("exactly one of time and lsn", "pointInTime", json!({})),
            ("onExisting IntoEmptySchemas restores into", "onExisting", json!("IntoEmptySchemas")),
            ("without createDatabase the database exists", "createDatabase", json!(false)),
        ],
    };
    all.extend(more.into_iter().map(plain));
    all
}

/// The messages of all rules below `schema`.
fn messages(schema: &Value, all: &mut BTreeSet<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        all.insert(rule["message"].as_str().expect("a message").to_owned());
    }
    for part in ["properties", "items", "additionalProperties"] {
        match (part, &schema[part]) {
            ("properties", Value::Object(properties)) => {
                properties.values().for_each(|schema| messages(schema, all));
            }
            (_, below @ Value::Object(_)) => messages(below, all),
            _ => {}
        }
    }
}

/// `object` with `value` at a pointer, whether something stands there or not; null removes.
fn changed(object: &Value, pointer: &str, value: &Value) -> Value {
    let mut object = object.clone();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer with a field");
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("the example has no {parent}"));
    match (parent, value) {
        (Value::Object(fields), Value::Null) => drop(fields.remove(field)),
        (Value::Array(items), value) => items[field.parse::<usize>().expect("a number")] = value.clone(),
        (parent, value) => parent[field] = value.clone(),
    }
    object
}

#[test]
fn every_rule_of_a_spec_refuses_what_breaks_it() {
    let server = shared();
    for kind in Kind::ALL {
        let examples = examples::of(kind);
        let mut all = BTreeSet::new();
        messages(&schema(kind)["properties"]["spec"], &mut all);
        for (message, pointer, value) in breaks(kind) {
            let broken = changed(&examples[0], &pointer, &value);
            let said = server.try_out(&broken).expect_err(message);
            assert!(said.contains(message), "{kind}: {pointer}: expected `{message}`: {said}");
            all.retain(|rule| !rule.starts_with(message));
        }
        assert!(all.is_empty(), "{kind}: no example breaks {all:?}");
    }
}

#[test]
fn specs_of_runs_stay_what_they_are() {
    let server = shared();
    for kind in [Kind::Backup, Kind::Restore] {
        let mut example = examples::of(kind)[0].clone();
        example["metadata"]["name"] = json!("immutable");
        server.keep(&example).expect("an example");
        for rule in schema(kind)["x-kubernetes-validations"].as_array().expect("rules") {
            let field = rule["fieldPath"].as_str().expect("a field").trim_start_matches(".spec.");
            if field == "cancel" {
                continue;
            }
            let other =
                match field {
                    "storeRef" => json!({"name": "other"}),
                    "source" => changed(&example, "/spec/source/postgres/database", &json!("other"))["spec"]
                        ["source"]
                        .clone(),
                    "from" => json!({"storeRef": {"name": "orders"}, "collection": "shop", "run": 4}),
                    "target" => changed(&example, "/spec/target/postgres/database", &json!("other"))["spec"]
                        ["target"]
                        .clone(),
                    _ => Value::Null,
                };
            let pointer = format!("/spec/{field}");
            assert!(example.pointer(&pointer).is_some(), "the example has no {field}");
            let said = server.try_out(&changed(&example, &pointer, &other)).expect_err(field);
            let message = rule["message"].as_str().expect("a message");
            assert!(said.contains(message), "{field}: {said}");
        }
        let suspended = changed(&example, "/spec/suspend", &json!(true));
        server.try_out(&suspended).expect("suspend may change");
        let canceled = changed(&example, "/spec/cancel", &json!(true));
        server.keep(&canceled).expect("cancel may be set");
        let said = server.try_out(&example).expect_err("cancel can't be taken back");
        assert!(said.contains("a cancel can't be taken back"), "{said}");
    }
}

/// Sets one status after the other; each goes on from the one before.
fn life(kind: Kind, name: &str, steps: &[(Value, Option<&str>)]) {
    let server = shared();
    let mut object = examples::of(kind)[0].clone();
    object["metadata"]["name"] = json!(name);
    let made = server.keep(&object).expect("an example");
    assert_eq!(made["status"], json!({"observedGeneration": -1}), "not current before anybody has seen it");
    for (status, refused) in steps {
        match (server.set_status(&object, status), refused) {
            (Ok(_), None) => {}
            (Err(said), Some(message)) => assert!(said.contains(message), "{status}: {said}"),
            (Ok(_), Some(message)) => panic!("{status} was taken, against `{message}`"),
            (Err(said), None) => panic!("{status} was refused: {said}"),
        }
    }
}

#[test]
fn the_status_of_a_backup_only_goes_forward() {
    let digest = |digit: &str| digit.repeat(64);
    let witness = json!({"destination": "eu", "pod": "verifier", "nonce": "a".repeat(32), "verdictSha256": digest("a")});
    let proof = |digit: &str| {
        json!({"phase": "Succeeded", "proof": {
            "manifestSha256": digest(digit), "sealedAt": "2026-11-20T10:00:00Z", "witnesses": [witness],
        }})
    };
    let mut unwitnessed = proof("a");
    unwitnessed["proof"]["witnesses"] = json!([]);
    let mut unsaid = proof("a");
    unsaid["proof"].as_object_mut().expect("a proof").remove("witnesses");
    let needs = Some("Succeeded needs a proof");
    life(
        Kind::Backup,
        "life",
        &[
            (json!({"phase": "Pending"}), None),
            (json!({"phase": "Exporting"}), None),
            (json!({"phase": "Resolving"}), Some("a phase never goes back")),
            (json!({}), Some("a phase never goes back")),
            (json!({"phase": "Succeeded"}), needs),
            (unwitnessed, needs),
            (unsaid, needs),
            (proof("a"), None),
            (json!({"phase": "Failed"}), Some("a terminal phase is final")),
            (json!({}), Some("a terminal phase is final")),
            (proof("b"), Some("the proof of a succeeded backup is final")),
            (proof("a"), None),
        ],
    );
}

#[test]
fn the_status_of_a_restore_only_goes_forward() {
    life(
        Kind::Restore,
        "life",
        &[
            (json!({"phase": "PostData"}), None),
            (json!({"phase": "PreData"}), Some("a phase never goes back")),
            (json!({"phase": "Failed"}), None),
            (json!({"phase": "Succeeded"}), Some("a terminal phase is final")),
            (json!({}), Some("a terminal phase is final")),
            (json!({"phase": "Failed", "observedGeneration": 2}), None),
        ],
    );
}

#[test]
fn every_rule_of_a_status_is_in_a_life() {
    let known = [
        "a phase never goes back",
        "a terminal phase is final",
        "Succeeded needs a proof: a manifest, its seal, and witnesses",
        "the proof of a succeeded backup is final",
    ];
    let mut all = BTreeSet::new();
    for kind in Kind::ALL {
        messages(&schema(kind)["properties"]["status"], &mut all);
    }
    let known: BTreeSet<String> = known.map(str::to_owned).into();
    assert_eq!(all, known, "a rule without a step in a life above");
}
