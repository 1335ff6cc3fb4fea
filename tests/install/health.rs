//! What GitOps tools read in a status: Flux by the rules of kstatus, Argo CD by the Lua that config/argocd ships.

use std::process::Command;

use rstest::rstest;
use serde_json::{Value, json};

use crate::server::{at, objects, output, shared};

/// JSON as a literal of Lua.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".into(),
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("[{name:?}] = {}", lua(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// What the shipped script says of an object: status and message.
fn argo(script: &str, object: &Value) -> (String, String) {
    let program = format!(
        "obj = {}\nlocal health = dofile({:?})\nprint(health.status)\nprint(health.message)",
        lua(object),
        at(&format!("config/argocd/{script}"))
    );
    let said =
        output(Command::new("lua5.4").arg("-e").arg(program)).expect("Lua, which ./dev setup installs");
    let (status, message) = said.trim_end().split_once('\n').expect("two lines");
    (status.to_owned(), message.to_owned())
}

/// kstatus, as its documentation has it for any kind of object: an older observedGeneration is in progress, then
/// Reconciling and Stalled count if they are true, then Ready if it is there, and else the object is current.
fn kstatus(object: &Value) -> &'static str {
    let status = &object["status"];
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating";
    }
    let seen = status["observedGeneration"].as_i64();
    if seen.is_some_and(|seen| Some(seen) != object["metadata"]["generation"].as_i64()) {
        return "InProgress";
    }
    let condition = |kind: &str| {
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.find(|it| it["type"] == kind).and_then(|it| it["status"].as_str())
    };
    match (condition("Reconciling"), condition("Stalled"), condition("Ready")) {
        (Some("True"), ..) => "InProgress",
        (_, Some("True"), _) => "Failed",
        (_, _, Some("False" | "Unknown")) => "InProgress",
        _ => "Current",
    }
}

fn with(seen: i64, conditions: &[(&str, &str)], more: Value) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(
            |(kind, status)| json!({"type": kind, "status": status, "reason": "Because", "message": "of it"}),
        )
        .collect();
    let mut status = json!({"observedGeneration": seen, "conditions": conditions});
    for (field, value) in more.as_object().into_iter().flatten() {
        status[field] = value.clone();
    }
    json!({"metadata": {"generation": 2}, "spec": {}, "status": status})
}

#[rstest]
#[case::never_seen(with(-1, &[], json!({})), "InProgress", "Progressing")]
#[case::an_older_generation(with(1, &[("Complete", "True")], json!({})), "InProgress", "Progressing")]
#[case::at_work(with(2, &[("Complete", "False"), ("Failed", "False"), ("Reconciling", "True"), ("Stalled", "False")],
    json!({"phase": "Exporting"})), "InProgress", "Progressing")]
#[case::suspended(with(2, &[("Suspended", "True"), ("Reconciling", "True")], json!({})), "InProgress", "Suspended")]
#[case::done(with(2, &[("Complete", "True"), ("Failed", "False"), ("Reconciling", "False"), ("Stalled", "False")],
    json!({"phase": "Succeeded"})), "Current", "Healthy")]
#[case::failed(with(2, &[("Complete", "False"), ("Failed", "True"), ("Reconciling", "False"), ("Stalled", "True")],
    json!({"phase": "Failed"})), "Failed", "Degraded")]
#[case::history(with(2, &[("Stalled", "True")], json!({})), "Failed", "Degraded")]
fn of_a_run(#[case] object: Value, #[case] flux: &str, #[case] argo_says: &str) {
    assert_eq!(kstatus(&object), flux, "{object}");
    let (status, message) = argo("run.lua", &object);
    assert_eq!(status, argo_says, "{object}");
    assert!(!message.is_empty() && message != "nil", "{message}");
    if argo_says == "Degraded" {
        assert_eq!(message, "Because: of it");
    }
}

#[rstest]
#[case::never_seen(with(-1, &[], json!({})), "InProgress", "Progressing")]
#[case::an_older_generation(with(1, &[("Ready", "True")], json!({})), "InProgress", "Progressing")]
#[case::ready(with(2, &[("Ready", "True")], json!({})), "Current", "Healthy")]
#[case::not_known(with(2, &[("Ready", "Unknown"), ("Reconciling", "True")], json!({})), "InProgress", "Progressing")]
#[case::refused(with(2, &[("Ready", "False"), ("Stalled", "True")], json!({})), "Failed", "Degraded")]
#[case::out_of_order(with(2, &[("Ready", "False")], json!({})), "InProgress", "Degraded")]
fn of_a_store_or_schedule(#[case] object: Value, #[case] flux: &str, #[case] argo_says: &str) {
    assert_eq!(kstatus(&object), flux, "{object}");
    let (status, message) = argo("ready.lua", &object);
    assert_eq!(status, argo_says, "{object}");
    assert!(!message.is_empty() && message != "nil", "{message}");
}

#[test]
fn a_suspended_schedule_is_that() {
    let mut object = with(2, &[("Ready", "True")], json!({}));
    object["spec"] = json!({"suspend": true});
    assert_eq!(argo("ready.lua", &object).0, "Suspended");
    let because = json!({"suspendedBecause": {"reason": "TooManyFailures", "message": "three"}});
    let object = with(2, &[("Ready", "True")], because);
    assert_eq!(argo("ready.lua", &object), ("Suspended".into(), "TooManyFailures: three".into()));
}

#[test]
fn an_object_without_a_status_is_waited_for() {
    for script in ["run.lua", "ready.lua"] {
        assert_eq!(argo(script, &json!({"metadata": {"generation": 1}, "spec": {}})).0, "Progressing");
    }
}

#[test]
fn argo_cd_gets_them_by_its_own_config_map() {
    let mut kubectl = shared().testbed.kubectl();
    let built = output(kubectl.args(["kustomize", &at("config/argocd")])).expect("a build");
    let map = &objects(&built)[0];
    assert_eq!(map["metadata"]["name"], "argocd-cm");
    let data = map["data"].as_object().expect("data");
    for kind in vouchsafe::api::Kind::ALL {
        let script = &data[&format!("resource.customizations.health.vouchsafe.dev_{kind}")];
        assert!(script.as_str().is_some_and(|it| it.contains("return health")), "{kind}");
    }
}
