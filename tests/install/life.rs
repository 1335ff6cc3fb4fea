//! A release's life by Helm: installed, upgraded, uninstalled, installed again; what users made stays.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testbed::ApiServer;
use vouchsafe::api::Kind;

use crate::chart::helm;
use crate::examples;
use crate::server::{CONTROLLERS, NAMESPACE, at, object, output, shared};

/// One API server's administrator.
struct Cluster<'a>(&'a ApiServer);

impl Cluster<'_> {
    fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        let mut helm = helm();
        helm.arg("--kubeconfig").arg(self.0.kubeconfig()).args(["--namespace", CONTROLLERS]).args(arguments);
        output(&mut helm)
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        output(self.0.kubectl().args(arguments))
    }

    fn get(&self, arguments: &[&str]) -> Value {
        let arguments = [&["get", "-o", "yaml"], arguments].concat();
        object(&self.kubectl(&arguments).unwrap_or_else(|error| panic!("{error}")))
    }

    fn established(&self) {
        let wait = ["wait", "--for=condition=Established", "--timeout=60s", "-f", &at("crds")];
        self.kubectl(&wait).expect("definitions");
    }
}

/// A copy of the chart as the next release might be: another version, and definitions with one column more.
fn next_release(folder: &Path) {
    output(Command::new("cp").arg("-r").arg(at("charts/vouchsafe")).arg(folder)).expect("a copy");
    let changed = |path: &str, from: &str, to: &str| {
        let path = folder.join(path);
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(text.contains(from), "{} has no {from}", path.display());
        std::fs::write(&path, text.replace(from, to)).expect("a file");
    };
    changed("Chart.yaml", "appVersion: 0.1.0", "appVersion: 0.2.0");
    let columns = "additionalPrinterColumns:\n";
    let more = "additionalPrinterColumns:\n    - {name: Newer, type: string, jsonPath: .metadata.name}\n";
    changed("files/crds/vouchsafe.dev_backups.yaml", columns, more);
}

#[test]
fn what_users_made_outlives_the_release() {
    // One of its own: a release is of the whole cluster.
    let server = ApiServer::start();
    let cluster = Cluster(&server);
    let chart = at("charts/vouchsafe");
    cluster.helm(&["install", "vouchsafe", &chart, "--create-namespace"]).expect("an installation");
    cluster.established();
    cluster.kubectl(&["create", "namespace", NAMESPACE]).expect("a namespace");
    let mut backup = examples::of(Kind::Backup)[0].clone();
    backup["metadata"] = json!({"name": "kept", "namespace": NAMESPACE});
    let folder = std::env::temp_dir().join(format!("vouchsafe-next-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("backup.json");
    std::fs::write(&file, backup.to_string()).expect("a file");
    cluster.kubectl(&["apply", "--server-side", "-f", &file.display().to_string()]).expect("a Backup");

    // An upgrade brings the definitions along, which Helm's own folder for them would not.
    let next = folder.join("chart");
    next_release(&next);
    cluster.helm(&["upgrade", "vouchsafe", &next.display().to_string()]).expect("an upgrade");
    let definition = cluster.get(&["crd", "backups.vouchsafe.dev"]);
    let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array().expect("columns");
    assert!(columns.iter().any(|column| column["name"] == "Newer"));
    let deployment = cluster.get(&["deployment", "vouchsafe", "-n", CONTROLLERS]);
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], "vouchsafe:0.2.0");

    let kept = || cluster.get(&["vbk", "kept", "-n", NAMESPACE])["spec"].clone();
    let before = kept();
    cluster.helm(&["uninstall", "vouchsafe"]).expect("an uninstallation");
    cluster.kubectl(&["get", "deployment", "vouchsafe", "-n", CONTROLLERS]).expect_err("it is gone");
    let policies = cluster.get(&["validatingadmissionpolicies", "-A"]);
    assert_eq!(policies["items"], json!([]), "what belongs to the cluster goes, too");
    assert_eq!(kept(), before);

    cluster.helm(&["install", "vouchsafe", &chart]).expect("an installation over what stayed");
    assert_eq!(kept(), before);
    // Another release, of another namespace, has no definitions of its own.
    let second = ["install", "second", &chart, "--set", "crds.enabled=false,watchNamespaces={shop}"];
    cluster.helm(&second).expect("a second release");
    std::fs::remove_dir_all(&folder).expect("a folder");
}

#[test]
fn nothing_differs_after_an_apply() {
    let cluster = Cluster(shared().testbed);
    let samples = at("config/samples");
    // As people do, and as Argo CD does unless it is told otherwise; then as Flux does.
    for (apply, namespace) in [(&["apply"][..], "by-client"), (&["apply", "--server-side"], "by-server")] {
        cluster.kubectl(&["create", "namespace", namespace]).expect("a namespace");
        for file in ["store", "schedule", "backup", "restore"] {
            let file = format!("{samples}/{file}.yaml");
            let on_file = ["-n", namespace, "-f", &file];
            cluster.kubectl(&[apply, &on_file].concat()).expect("an apply");
            let diff = [&["diff"], &apply[1..], &on_file].concat();
            cluster.kubectl(&diff).unwrap_or_else(|diff| panic!("{file}: {diff}"));
            let again = cluster.kubectl(&[apply, &on_file].concat()).expect("an apply");
            assert!(again.contains("unchanged") || again.contains("serverside-applied"), "{again}");
            let stored = cluster.get(&on_file);
            assert_eq!(stored["metadata"]["generation"], 1, "{file}");
            let applied = object(&std::fs::read_to_string(&file).expect("a sample"));
            assert_eq!(stored["spec"], applied["spec"], "{file}");
        }
    }
}
