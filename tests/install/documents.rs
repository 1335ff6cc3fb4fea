//! Every YAML that the documentation shows is one that an API server takes.

use std::path::Path;

use serde_json::{Value, json};

use crate::server::{NAMESPACE, at, objects, shared};

/// Kinds of tools that are not on this server; kustomizations are built where they are in config/.
const OF_TOOLS: [&str; 9] = [
    "kustomize.config.k8s.io",
    "kustomize.toolkit.fluxcd.io",
    "helm.toolkit.fluxcd.io",
    "source.toolkit.fluxcd.io",
    "argoproj.io",
    "postgresql.cnpg.io",
    "monitoring.coreos.com",
    "kind.x-k8s.io",
    "opentelemetry.io",
];

/// The blocks of YAML of a page, each with its line.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String, usize)> = None;
    for (number, line) in page.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match open.take() {
            None if line.trim_start() == "```yaml" => open = Some((number + 1, String::new(), indent)),
            None => {}
            Some((at, text, _)) if line.trim_start().starts_with("```") => blocks.push((at, text)),
            Some((at, mut text, indent)) => {
                text.push_str(line.get(indent..).unwrap_or_default());
                text.push('\n');
                open = Some((at, text, indent));
            }
        }
    }
    assert!(open.is_none(), "a block without an end");
    blocks
}

fn pages(folder: &Path, all: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            pages(&path, all);
        } else if path.extension().is_some_and(|it| it == "md") {
            all.push(path);
        }
    }
}

/// An object of a page, or what of it is not for this server.
fn check(object: &Value) -> Result<(), String> {
    let (Some(version), Some(kind)) = (object["apiVersion"].as_str(), object["kind"].as_str()) else {
        // Values of the chart, say: `helm` takes them, or not, in the tests of the chart.
        return Ok(());
    };
    if OF_TOOLS.iter().any(|group| version.starts_with(group)) {
        return Ok(());
    }
    let mut object = object.clone();
    if let Some(namespace) = object["metadata"]["namespace"].as_str() {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        shared().keep(&namespace).expect("a namespace");
    } else if kind != "Namespace" {
        object["metadata"]["namespace"] = json!(NAMESPACE);
    }
    shared().try_out(&object)
}

#[test]
fn every_yaml_of_the_documentation_is_taken() {
    let mut all = vec![Path::new(&at("README.md")).to_owned()];
    pages(Path::new(&at("docs")), &mut all);
    let (mut checked, mut wrong) = (0, Vec::new());
    for page in all {
        let text = std::fs::read_to_string(&page).expect("a page");
        for (line, yaml) in blocks(&text) {
            for object in objects(&yaml) {
                checked += 1;
                if let Err(said) = check(&object) {
                    wrong.push(format!("{}:{line}: {said}", page.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 5, "only {checked} objects were found");
}

#[test]
fn blocks_are_found() {
    let page = "a\n```yaml\nx: 1\n```\n- b\n  ```yaml\n  y: 2\n  ```\n```sh\nz\n```\n";
    assert_eq!(blocks(page), [(2, "x: 1\n".to_owned()), (6, "y: 2\n".to_owned())]);
}
