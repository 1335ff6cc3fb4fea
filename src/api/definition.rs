//! The CustomResourceDefinitions: what the derived schemas say, made structural and strict.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{Backup, BackupSchedule, BackupStore, GROUP, Kind, Restore};

/// Fields of an otherwise immutable spec that may change.
const MUTABLE: [&str; 3] = ["suspend", "cancel", "deletionPolicy"];

/// Formats that the API server knows. It warns about any other on every apply.
const FORMATS: [&str; 4] = ["int32", "int64", "double", "date-time"];

/// What every generated file begins with.
const HEADER: &str = "# Generated from src/api by `VOUCHSAFE_BLESS=1 cargo test --test api`; don't edit.\n";

/// The four CustomResourceDefinitions, in the order of [`Kind::ALL`].
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let from_json = |kind| {
        serde_json::from_value(definition(kind).clone())
            .expect("was serialized from this type, and only keywords of its schema were changed")
    };
    Kind::ALL.map(from_json).into()
}

/// Each definition as a YAML file: `(file name, content)`, for `crds/` and `vouchsafe crds`.
///
/// # Errors
/// Only if the YAML library refuses a JSON value, which would be its fault or ours.
pub fn crds_yaml() -> Result<Vec<(String, String)>, serde_saphyr::SerializeError> {
    let file = |kind: &Kind| {
        let definition = definition(*kind);
        let plural = definition["spec"]["names"]["plural"].as_str().unwrap_or_default();
        let yaml = serde_saphyr::to_string(definition)?;
        Ok((format!("{GROUP}_{plural}.yaml"), format!("{HEADER}{yaml}")))
    };
    Kind::ALL.iter().map(file).collect()
}

/// The definition of one kind as JSON.
#[must_use]
pub fn definition(kind: Kind) -> &'static Value {
    static DEFINITIONS: LazyLock<[Value; 4]> = LazyLock::new(|| Kind::ALL.map(define));
    match kind {
        Kind::BackupStore => &DEFINITIONS[0],
        Kind::BackupSchedule => &DEFINITIONS[1],
        Kind::Backup => &DEFINITIONS[2],
        Kind::Restore => &DEFINITIONS[3],
    }
}

/// The schema of a whole object of one kind: `spec` and `status` are among its properties.
#[must_use]
pub fn schema(kind: Kind) -> &'static Value {
    &definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// Fails a test whose status of `kind` the API server would refuse: each write of it would be, for ever.
#[cfg(test)]
pub(crate) fn must_take(kind: Kind, status: &impl serde::Serialize) {
    let value = serde_json::to_value(status).expect("a status is JSON");
    let schema = &schema(kind)["properties"]["status"];
    let refusals = super::structure::check(&value, schema, "status", super::structure::Depth::Bounds);
    assert!(refusals.is_empty(), "the API server would refuse it:\n{refusals}\n{value:#}");
}

fn define(kind: Kind) -> Value {
    let derived = match kind {
        Kind::BackupStore => BackupStore::crd(),
        Kind::BackupSchedule => BackupSchedule::crd(),
        Kind::Backup => Backup::crd(),
        Kind::Restore => Restore::crd(),
    };
    let mut definition =
        serde_json::to_value(derived).expect("a plain struct with string keys is always JSON");
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    tidy(schema);
    schema["required"] = json!(["spec"]);
    // The API server adds these by itself; written out, `kubectl explain` and our own walker know them.
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    schema["properties"]["metadata"] = json!({"type": "object"});
    // A fresh object must not look "Current" to kstatus before a controller has seen it.
    schema["properties"]["status"]["default"] = json!({"observedGeneration": -1});
    if matches!(kind, Kind::Backup | Kind::Restore) {
        let rules = immutability(kind, &schema["properties"]["spec"]);
        schema["x-kubernetes-validations"] = rules.into();
    }
    definition
}

/// Takes out of a derived schema what Kubernetes refuses, warns about, or acts upon against the
/// convention that the stored spec equals the applied one.
fn tidy(schema: &mut Value) {
    let Value::Object(keywords) = schema else { return };
    // Rust's absent fields are absent, never null; CEL's `has` would be true of a null.
    keywords.remove("nullable");
    keywords.remove("default");
    keywords.remove("title");
    if keywords.get("format").and_then(Value::as_str).is_some_and(|f| !FORMATS.contains(&f)) {
        keywords.remove("format");
    }
    if keywords.get("additionalProperties") == Some(&Value::Bool(false)) {
        keywords.remove("additionalProperties");
    }
    // A description wrapped in the source is one paragraph to `kubectl explain`.
    if let Some(Value::String(text)) = keywords.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if let Some(Value::Object(properties)) = keywords.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(schema) = keywords.get_mut(nested) {
            tidy(schema);
        }
    }
}

/// A rule for each field of the spec that may not change, made from the schema so that a new field is
/// immutable until somebody says otherwise. They stand on the root of the kind: the spec's own type is
/// also a schedule's template, which may change.
fn immutability(kind: Kind, spec: &Value) -> Vec<Value> {
    let required: Vec<&str> =
        spec["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let no_fields = Map::new();
    let fields = spec["properties"].as_object().unwrap_or(&no_fields);
    let mut rules = Vec::new();
    for field in fields.keys().map(String::as_str) {
        let rule = if field == "cancel" {
            // Its pods may be gone already.
            "!has(oldSelf.spec.cancel) || !oldSelf.spec.cancel || (has(self.spec.cancel) && self.spec.cancel)"
                .to_owned()
        } else if MUTABLE.contains(&field) {
            continue;
        } else if required.contains(&field) {
            format!("self.spec.{field} == oldSelf.spec.{field}")
        } else {
            format!(
                "has(self.spec.{field}) == has(oldSelf.spec.{field}) \
                 && (!has(self.spec.{field}) || self.spec.{field} == oldSelf.spec.{field})"
            )
        };
        let message = if field == "cancel" {
            format!("a cancel can't be taken back; make a new {kind}")
        } else {
            format!("spec.{field} can't be changed; make a new {kind}")
        };
        rules.push(json!({"rule": rule, "message": message, "fieldPath": format!(".spec.{field}")}));
    }
    rules
}
