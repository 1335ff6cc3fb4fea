//! What Kubernetes demands of a CRD, and what we promise of ours, held against every node of every schema.
//! The API server itself applies them in the operator's tests.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use vouchsafe::api::definition::{definition, schema};
use vouchsafe::api::{Kind, crds, crds_yaml};

/// Calls `visit(path, schema, is within a list)` for every node.
fn walk(path: &str, schema: &Value, in_list: bool, visit: &mut impl FnMut(&str, &Value, bool)) {
    visit(path, schema, in_list);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, in_list, visit);
    }
    if let Some(items) = schema.get("items") {
        walk(&format!("{path}[]"), items, true, visit);
    }
    if let Some(values) = schema.get("additionalProperties") {
        walk(&format!("{path}{{}}"), values, in_list, visit);
    }
}

fn every_node(mut visit: impl FnMut(&str, &Value, bool)) {
    for kind in Kind::ALL {
        for part in ["spec", "status"] {
            walk(&format!("{kind}.{part}"), &schema(kind)["properties"][part], false, &mut visit);
        }
    }
}

/// Where the definitions are kept: for those who apply files, and copies for Helm and for kustomize, neither of which
/// reads outside of its own folder.
const KEPT: [&str; 3] = ["crds", "charts/vouchsafe/files/crds", "config/crd"];

#[test]
fn the_committed_files_are_the_generated_ones() {
    let generated = crds_yaml().unwrap();
    for kept in KEPT {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(kept);
        if std::env::var_os("VOUCHSAFE_BLESS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            for (name, content) in &generated {
                std::fs::write(folder.join(name), content).unwrap();
            }
        }
        for (name, content) in &generated {
            let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert!(
                committed == *content,
                "{kept}/{name} is stale: run with VOUCHSAFE_BLESS=1 and look at the diff"
            );
        }
        let there: BTreeSet<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "kustomization.yaml")
            .collect();
        assert_eq!(there, generated.iter().map(|(name, _)| name.clone()).collect(), "{kept}");
    }
}

#[test]
fn generated_yaml_is_the_definition() {
    for ((_, yaml), kind) in crds_yaml().unwrap().iter().zip(Kind::ALL) {
        let read: Value = serde_saphyr::from_str(yaml).unwrap();
        assert_eq!(read, *definition(kind));
    }
}

#[test]
fn names_are_those_that_the_docs_tell_users_to_type() {
    let expected = [
        ("backupstores", "vbks", "BackupStore"),
        ("backupschedules", "vbsch", "BackupSchedule"),
        ("backups", "vbk", "Backup"),
        ("restores", "vrs", "Restore"),
    ];
    for (crd, (plural, short, kind)) in crds().into_iter().zip(expected) {
        let names = crd.spec.names;
        assert_eq!((names.plural.as_str(), names.kind.as_str()), (plural, kind));
        assert_eq!(names.short_names, Some(vec![short.to_owned()]));
        assert_eq!(names.categories, Some(vec!["vouchsafe".to_owned()]));
        assert_eq!(crd.spec.scope, "Namespaced");
        assert_eq!(crd.metadata.name.as_deref(), Some(format!("{plural}.vouchsafe.dev").as_str()));
    }
}

#[test]
fn strings_lists_and_maps_are_bounded() {
    every_node(|path, schema, _| {
        let bounded = |keyword: &str| assert!(schema[keyword].is_u64(), "{path} has no {keyword}");
        match schema["type"].as_str() {
            Some("string") if schema.get("enum").is_some() => {}
            Some("string") => bounded("maxLength"),
            None if schema["x-kubernetes-int-or-string"] == true => bounded("maxLength"),
            Some("array") => bounded("maxItems"),
            Some("object") if schema.get("additionalProperties").is_some() => bounded("maxProperties"),
            Some("object" | "boolean" | "integer") => {}
            other => panic!("{path} has type {other:?}"),
        }
    });
}

#[test]
fn lists_of_objects_are_maps_with_a_required_key() {
    every_node(|path, schema, _| {
        if schema["type"] != "array" || schema["items"]["type"] != "object" {
            return;
        }
        assert_eq!(schema["x-kubernetes-list-type"], "map", "{path}");
        let keys = schema["x-kubernetes-list-map-keys"].as_array().unwrap();
        assert!(!keys.is_empty(), "{path}");
        let required = schema["items"]["required"].as_array().unwrap();
        assert!(keys.iter().all(|key| required.contains(key)), "{path} has an optional key");
    });
}

#[test]
fn nothing_is_defaulted_but_the_status() {
    every_node(|path, schema, _| {
        let is_status = Kind::ALL.iter().any(|kind| path == format!("{kind}.status"));
        assert_eq!(schema.get("default").is_some(), is_status, "{path}");
    });
    for kind in Kind::ALL {
        let default = &schema(kind)["properties"]["status"]["default"];
        assert_eq!(*default, serde_json::json!({"observedGeneration": -1}));
    }
}

#[test]
fn schemas_are_structural_and_plain() {
    every_node(|path, schema, _| {
        for keyword in ["$ref", "oneOf", "allOf", "not", "nullable", "title", "definitions", "const"] {
            assert!(schema.get(keyword).is_none(), "{path} has {keyword}");
        }
        let int_or_string = schema["x-kubernetes-int-or-string"] == true;
        assert_eq!(schema.get("anyOf").is_some(), int_or_string, "{path}");
        let both = schema.get("properties").is_some() && schema.get("additionalProperties").is_some();
        assert!(!both, "{path} has properties and additionalProperties");
        if let Some(format) = schema["format"].as_str() {
            assert!(["int32", "int64"].contains(&format), "{path} has format {format}");
        }
    });
}

#[test]
fn every_rule_has_a_message() {
    let mut rules = 0;
    let mut look = |path: &str, schema: &Value| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            rules += 1;
            let says = |field: &str| rule[field].as_str().is_some_and(|text| !text.trim().is_empty());
            assert!(says("rule") && says("message"), "{path}: {rule}");
            let text = rule["rule"].as_str().unwrap();
            assert_eq!(text.matches('(').count(), text.matches(')').count(), "{path}: {text}");
            assert!(!text.contains("  "), "{path}: a line was joined badly in {text}");
        }
    };
    every_node(|path, schema, _| look(path, schema));
    for kind in Kind::ALL {
        look(kind.as_str(), schema(kind));
    }
    assert!(rules > 40, "only {rules} rules: they were lost on the way");
}

#[test]
fn transition_rules_stand_where_the_api_server_can_compare() {
    // Below an atomic list oldSelf doesn't exist, and the API server refuses the definition.
    every_node(|path, schema, in_list| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let compares = rule["rule"].as_str().unwrap().contains("oldSelf");
            assert!(!(compares && in_list), "{path}");
        }
    });
}

#[test]
fn specs_are_immutable_but_for_what_the_api_says() {
    for kind in [Kind::Backup, Kind::Restore] {
        let rules: Vec<&str> = schema(kind)["x-kubernetes-validations"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| !rule["rule"].as_str().unwrap().starts_with("!has(oldSelf.spec.cancel)"))
            .map(|rule| rule["fieldPath"].as_str().unwrap().trim_start_matches(".spec."))
            .collect();
        let fields = schema(kind)["properties"]["spec"]["properties"].as_object().unwrap().keys();
        let mutable = ["suspend", "cancel", "deletionPolicy"];
        let expected: Vec<&str> = fields.map(String::as_str).filter(|f| !mutable.contains(f)).collect();
        assert_eq!(rules, expected);
    }
    // The template shares Backup's spec and has to be changeable.
    let template = &schema(Kind::BackupSchedule)["properties"]["spec"]["properties"]["template"];
    assert!(!template.to_string().contains("oldSelf"));
}

#[test]
fn columns_are_those_of_the_api() {
    let columns = |kind: Kind, wide: bool| -> Vec<String> {
        let columns = definition(kind)["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
        let shown = columns.iter().filter(|c| (c["priority"] == 1) == wide);
        shown.map(|c| c["name"].as_str().unwrap().to_uppercase()).collect()
    };
    assert_eq!(columns(Kind::Backup, false), ["TYPE", "PHASE", "PROGRESS", "ROWS", "SIZE", "PROVED", "AGE"]);
    assert_eq!(columns(Kind::Backup, true), ["STORE", "CHAIN", "RECOVERABLE-TO", "REASON"]);
    assert_eq!(
        columns(Kind::BackupSchedule, false),
        ["READY", "SUSPENDED", "LAST-PROVEN", "RECOVERABLE-TO", "NEXT", "FAILURES", "AGE"]
    );
    assert_eq!(columns(Kind::BackupSchedule, true), ["REASON"]);
    assert_eq!(
        columns(Kind::Restore, false),
        ["PHASE", "PROGRESS", "FROM", "TARGET", "VERIFIED", "REASON", "AGE"]
    );
    assert_eq!(columns(Kind::BackupStore, false), ["READY", "DESTINATIONS", "MESSAGE", "AGE"]);
}

#[test]
fn every_column_points_at_a_field() {
    for kind in Kind::ALL {
        for column in definition(kind)["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap()
        {
            let path = column["jsonPath"].as_str().unwrap();
            let mut at = schema(kind);
            if path.starts_with(".metadata.") {
                continue;
            }
            let plain = path.replace("[?(@.type==\"Ready\")]", "[*]");
            for step in plain.trim_start_matches('.').split('.') {
                let name = step.trim_end_matches("[*]");
                at = &at["properties"][name];
                if step.ends_with("[*]") {
                    at = &at["items"];
                }
                assert!(at.is_object(), "{kind}: {path} has no {name}");
            }
        }
    }
}
