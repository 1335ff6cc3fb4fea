//! config/: what is in it is generated from the chart, and both make the same objects.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use crate::chart::{rendered, template};
use crate::server::{at, objects, output, shared};

/// Which template of the chart is which file of config/.
const FILES: [(&str, &str); 10] = [
    ("rbac.yaml", "rbac/account.yaml"),
    ("rbac-people.yaml", "rbac/people.yaml"),
    ("deployment.yaml", "manager/deployment.yaml"),
    ("service.yaml", "manager/service.yaml"),
    ("poddisruptionbudget.yaml", "manager/poddisruptionbudget.yaml"),
    ("networkpolicy.yaml", "manager/networkpolicy.yaml"),
    ("admissionpolicy.yaml", "policy/references.yaml"),
    ("statuspolicy.yaml", "policy/statuses.yaml"),
    ("rbac-cluster.yaml", "cluster/rules.yaml"),
    ("rbac-namespaced.yaml", "namespaced/shop/rules.yaml"),
];

const ONE_NAMESPACE: &str = r#"watchNamespaces=["shop"]"#;

/// Labels that say that Helm made an object.
const OF_HELM: [&str; 2] = ["helm.sh/chart", "app.kubernetes.io/managed-by"];

const HEADER: &str = "# Generated from charts/vouchsafe by `VOUCHSAFE_BLESS=1 cargo test --test install files_are_what`; don't edit.\n";

/// What the chart renders of one template, without what is Helm's.
fn file(rendered: &str, template: &str) -> String {
    let marker = format!("# Source: vouchsafe/templates/{template}\n");
    let mut file = HEADER.to_owned();
    let documents = rendered.split("---\n").filter_map(|document| document.strip_prefix(&marker));
    for (number, document) in documents.enumerate() {
        if number > 0 {
            file.push_str("---\n");
        }
        let is_helms = |line: &&str| OF_HELM.iter().any(|label| line.trim_start().starts_with(label));
        let lines = document.trim_matches('\n').lines().filter(|line| !is_helms(line));
        lines.for_each(|line| {
            file.push_str(line.trim_end());
            file.push('\n');
        });
    }
    file
}

#[test]
fn files_are_what_the_chart_renders() {
    let (cluster, namespaced) =
        (rendered(&[]).expect("a chart"), rendered(&[ONE_NAMESPACE]).expect("a chart"));
    for (template, path) in FILES {
        let rendered = if path.starts_with("namespaced/") { &namespaced } else { &cluster };
        let wanted = file(rendered, template);
        assert!(wanted.contains("kind:"), "the chart renders nothing of {template}");
        let path = Path::new(&at("config")).join(path);
        if std::env::var_os("VOUCHSAFE_BLESS").is_some() {
            std::fs::write(&path, &wanted).expect("a file");
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == wanted,
            "{} is stale: run with VOUCHSAFE_BLESS=1 and look at the diff",
            path.display()
        );
    }
}

/// Objects by kind, namespace and name, without what is Helm's.
fn by_name(objects: Vec<Value>) -> BTreeMap<[String; 3], Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let key =
        |it: &Value| [text(&it["kind"]), text(&it["metadata"]["namespace"]), text(&it["metadata"]["name"])];
    objects
        .into_iter()
        .map(|mut it| {
            if let Some(labels) = it["metadata"].get_mut("labels").and_then(Value::as_object_mut) {
                OF_HELM.iter().for_each(|label| drop(labels.remove(*label)));
            }
            // Those of crds/ have neither labels nor annotations; and kustomize writes 1 where we write 1.0.
            if it["kind"] == "CustomResourceDefinition" {
                let read: CustomResourceDefinition =
                    serde_json::from_value(it.clone()).expect("a definition");
                it["spec"] = serde_json::to_value(read.spec).expect("JSON");
                it["metadata"] = serde_json::json!({"name": it["metadata"]["name"]});
            }
            (key(&it), it)
        })
        .collect()
}

fn built(folder: &str) -> Vec<Value> {
    let mut kubectl = shared().testbed.kubectl();
    objects(&output(kubectl.args(["kustomize", &at(folder)])).unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn both_make_the_same() {
    for (folder, values) in [("config/cluster", &[][..]), ("config/namespaced", &[ONE_NAMESPACE])] {
        let mut kustomized = by_name(built(folder));
        // Helm makes it by --create-namespace.
        kustomized.retain(|[kind, ..], _| kind != "Namespace");
        let mut helmed = by_name(template(values));
        // The pod of `helm test`.
        helmed.retain(|[kind, ..], _| kind != "Pod");
        let keys = |all: &BTreeMap<_, _>| all.keys().cloned().collect::<Vec<[String; 3]>>();
        assert_eq!(keys(&kustomized), keys(&helmed), "{folder}");
        for (key, object) in kustomized {
            assert_eq!(object, helmed[&key], "{folder}: {key:?}");
        }
    }
}

#[test]
fn the_api_server_takes_all_of_it() {
    let server = shared();
    for folder in ["config/cluster", "config/namespaced", "config/samples"] {
        for object in built(folder) {
            server.try_out(&object).unwrap_or_else(|error| panic!("{folder}: {error}\n{object}"));
        }
    }
}

#[test]
fn another_image_is_that_of_the_pods_too() {
    let folder = std::env::temp_dir().join(format!("vouchsafe-overlay-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    // kustomize takes relative paths only.
    for name in ["crd", "rbac", "manager", "policy", "cluster"] {
        output(std::process::Command::new("cp").arg("-r").arg(at(&format!("config/{name}"))).arg(&folder))
            .expect("a copy");
    }
    let file = folder.join("cluster/kustomization.yaml");
    let text = std::fs::read_to_string(&file).expect("a kustomization");
    std::fs::write(&file, text.replace("newName: vouchsafe", "newName: registry.example.com/vouchsafe"))
        .expect("a file");
    let mut kubectl = shared().testbed.kubectl();
    let built = output(kubectl.arg("kustomize").arg(folder.join("cluster"))).expect("a build");
    std::fs::remove_dir_all(&folder).expect("a folder");
    assert_eq!(built.matches("registry.example.com/vouchsafe:0.1.0").count(), 2, "{built}");
}
