//! The Helm chart: what it renders is taken by the API server, whatever its switches.

use std::process::Command;

use rstest::rstest;
use serde_json::{Value, json};
use testbed::tool;

use crate::server::{CONTROLLERS, at, objects, output, shared};

/// The release's name; that of the kustomizations' objects, too.
const RELEASE: &str = "vouchsafe";

pub(crate) fn helm() -> Command {
    let mut helm = Command::new(tool("helm/helm"));
    // Nothing of the user's own configuration.
    for variable in ["HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"] {
        helm.env(variable, std::env::temp_dir().join("vouchsafe-no-helm"));
    }
    helm
}

/// What the chart renders, as text.
pub(crate) fn rendered(values: &[&str]) -> Result<String, String> {
    let mut helm = helm();
    helm.args(["template", RELEASE, &at("charts/vouchsafe"), "--namespace", CONTROLLERS]);
    // Helm built from its module thinks that it is of an old Kubernetes.
    helm.args(["--kube-version", "1.34.0"]);
    for value in values {
        helm.args(["--set-json", value]);
    }
    output(&mut helm)
}

pub(crate) fn template(values: &[&str]) -> Vec<Value> {
    objects(&rendered(values).unwrap_or_else(|error| panic!("{values:?}: {error}")))
}

/// The one object of `kind` whose name ends so.
pub(crate) fn the(objects: &[Value], kind: &str, name: &str) -> Value {
    let named = |it: &&Value| {
        it["kind"] == kind && it["metadata"]["name"].as_str().is_some_and(|it| it.ends_with(name))
    };
    let found: Vec<&Value> = objects.iter().filter(named).collect();
    assert_eq!(found.len(), 1, "{kind} …{name}");
    found[0].clone()
}

#[test]
fn nothing_is_to_be_said_against_it() {
    let chart = at("charts/vouchsafe");
    for values in ["watchNamespaces=[]", "watchNamespaces=[\"shop\",\"erp\"]"] {
        output(helm().args(["lint", "--strict", "--set-json", values, &chart])).expect("no complaint");
    }
}

#[rstest]
#[case::cluster(&[])]
#[case::namespaces(&[r#"watchNamespaces=["shop"]"#])]
#[case::everything(&[
    r#"metrics={"serviceMonitor":{"enabled":true,"labels":{"a":"b"}},"prometheusRule":{"enabled":true}}"#,
    r#"env=[{"name":"HTTPS_PROXY","value":"http://proxy:3128"}]"#,
    r#"telemetry={"otlp":{"endpoint":"http://collector:4318","headersSecret":{"name":"otlp"},"ratio":0.1,"resourceAttributes":{"a.b":"c"}}}"#,
    r#"image={"digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","pullSecrets":[{"name":"registry"}]}"#,
    r#"networkPolicy={"metricsFrom":[{"namespaceSelector":{}}],"extraEgress":[{"ports":[{"port":4317}]}]}"#,
    r#"podLabels={"team":"db"}"#, r#"podAnnotations={"a/b":"c"}"#, r#"priorityClassName="system-cluster-critical""#,
    r#"nodeSelector={"a":"b"}"#, r#"tolerations=[{"key":"a","operator":"Exists"}]"#, r#"affinity={"nodeAffinity":{}}"#,
    r#"serviceAccount={"name":"robot","annotations":{"a/b":"c"}}"#,
])]
#[case::nothing(&[
    "admissionPolicy.enabled=false", "crds.enabled=false", "networkPolicy.enabled=false", "rbac.aggregate=false",
    "podDisruptionBudget.enabled=false",
])]
fn the_api_server_takes_all_of_it(#[case] values: &[&str]) {
    let server = shared();
    // Those of prometheus-operator, as far as an object can be checked without them.
    for (kind, plural) in [("ServiceMonitor", "servicemonitors"), ("PrometheusRule", "prometheusrules")] {
        server.keep(&stand_in(kind, plural)).expect("a definition");
    }
    let robot = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "robot", "namespace": CONTROLLERS}});
    server.keep(&robot).expect("an account");
    server.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]);
    for object in template(values) {
        server.try_out(&object).unwrap_or_else(|error| panic!("{error}\n{object}"));
    }
}

fn stand_in(kind: &str, plural: &str) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

#[rstest]
#[case(r#"watchNamespace=["shop"]"#, "watchNamespace")]
#[case(r#"watchNamespaces="shop""#, "watchNamespaces")]
#[case(r#"watchNamespaces=["Shop"]"#, "watchNamespaces")]
#[case(r#"replicas="2""#, "replicas")]
#[case(r#"image={"tag":"a b"}"#, "tag")]
#[case(r#"image={"digest":"sha256:abc"}"#, "digest")]
#[case(r#"image={"pullPolicy":"Sometimes"}"#, "pullPolicy")]
#[case(r#"networkPolicy={"apiServerPorts":[]}"#, "apiServerPorts")]
#[case(r#"admissionPolicy={"enable":true}"#, "enable")]
#[case(r#"metrics={"serviceMonitor":{"interval":"often"}}"#, "interval")]
fn values_that_mean_nothing_are_refused(#[case] value: &str, #[case] names: &str) {
    let said = rendered(&[value]).expect_err("a value that means nothing");
    assert!(said.contains("schema") && said.contains(names), "{said}");
}

#[test]
fn definitions_stay_when_the_chart_goes() {
    let all = template(&[]);
    let definitions: Vec<&Value> = all.iter().filter(|it| it["kind"] == "CustomResourceDefinition").collect();
    assert_eq!(definitions.len(), 4);
    for definition in definitions {
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        // In templates/, where they are upgraded, and otherwise what src/api says.
        let name = definition["metadata"]["name"].as_str().expect("a name");
        let ours = vouchsafe::api::crds().into_iter().find(|it| it.metadata.name.as_deref() == Some(name));
        let ours = serde_json::to_value(ours.expect("one of ours")).expect("JSON");
        assert_eq!(definition["spec"], ours["spec"], "{name}");
    }
}

/// Some of a container's arguments.
fn arguments(container: &Value, range: std::ops::Range<usize>) -> Vec<String> {
    let all = container["args"].as_array().expect("a list").iter();
    all.map(|it| it.as_str().expect("text").to_owned()).skip(range.start).take(range.len()).collect()
}

#[test]
fn one_image_for_all() {
    let deployment = |values: &[&str]| the(&template(values), "Deployment", RELEASE);
    let container = |it: &Value| it["spec"]["template"]["spec"]["containers"][0].clone();
    for (values, image) in [
        (&[][..], "vouchsafe:0.1.0"),
        (
            &[
                r#"image={"repository":"registry.example.com/db/vouchsafe","tag":"1.2.3","pullPolicy":"Always"}"#,
            ],
            "registry.example.com/db/vouchsafe:1.2.3",
        ),
    ] {
        let container = container(&deployment(values));
        assert_eq!(container["image"], image);
        assert_eq!(arguments(&container, 0..3), ["controller", "--image", image]);
        let policy = if values.is_empty() { "IfNotPresent" } else { "Always" };
        assert_eq!(container["imagePullPolicy"], policy);
        assert_eq!(arguments(&container, 3..5), ["--image-pull-policy", policy], "of the pods of runs too");
    }
    let named = container(&deployment(&[r#"watchNamespaces=["shop","erp"]"#]));
    assert_eq!(arguments(&named, 5..9), ["--namespace", "shop", "--namespace", "erp"]);
}

#[test]
fn a_selector_is_for_ever() {
    // A Deployment's can't be changed, and a NetworkPolicy of a user's may name these labels.
    let labels = json!({
        "app.kubernetes.io/name": "vouchsafe",
        "app.kubernetes.io/instance": "vouchsafe",
        "app.kubernetes.io/component": "controller",
    });
    let all = template(&[]);
    let deployment = the(&all, "Deployment", RELEASE);
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(deployment["spec"]["template"]["metadata"]["labels"], labels);
    for kind in ["PodDisruptionBudget", "NetworkPolicy"] {
        let spec = the(&all, kind, RELEASE)["spec"].clone();
        let selector = if kind == "NetworkPolicy" { "podSelector" } else { "selector" };
        assert_eq!(spec[selector]["matchLabels"], labels, "{kind}");
    }
}

#[test]
fn pods_meet_the_restricted_standard() {
    let server = shared();
    let strict = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "strict", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    server.keep(&strict).expect("a namespace");
    let all = template(&[]);
    for account in ["default", RELEASE] {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": "strict"}});
        server.keep(&account).expect("an account");
    }
    let controller = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "controller"},
        "spec": the(&all, "Deployment", RELEASE)["spec"]["template"]["spec"]});
    for mut pod in [controller, the(&all, "Pod", "test")] {
        pod["metadata"]["namespace"] = json!("strict");
        server.try_out(&pod).unwrap_or_else(|error| panic!("{error}"));
        // And the standard does look.
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
        server.try_out(&pod).expect_err("the standard");
    }
}

#[test]
fn traces_go_where_the_values_say_and_no_credential_is_in_the_open() {
    let otlp =
        |more: &str| format!(r#"telemetry={{"otlp":{{"endpoint":"https://collector.example.com"{more}}}}}"#);
    let more =
        r#","headersSecret":{"name":"otlp","key":"h"},"ratio":0.25,"resourceAttributes":{"b":"2","a":"1"}"#;
    let objects = template(&[&otlp(more)]);
    let container = the(&objects, "Deployment", "")["spec"]["template"]["spec"]["containers"][0].clone();
    let variable = |name: &str| {
        let all = container["env"].as_array().expect("variables");
        all.iter().find(|it| it["name"] == name).cloned().unwrap_or_else(|| panic!("no {name}: {all:?}"))
    };
    assert_eq!(variable("OTEL_EXPORTER_OTLP_ENDPOINT")["value"], "https://collector.example.com");
    let from = json!({"secretKeyRef": {"name": "otlp", "key": "h"}});
    assert_eq!(variable("OTEL_EXPORTER_OTLP_HEADERS")["valueFrom"], from);
    assert_eq!(variable("OTEL_TRACES_SAMPLER")["value"], "parentbased_traceidratio");
    assert_eq!(variable("OTEL_TRACES_SAMPLER_ARG")["value"], "0.25");
    assert_eq!(variable("OTEL_RESOURCE_ATTRIBUTES")["value"], "a=1,b=2");
    let arguments = container["args"].to_string();
    assert!(arguments.contains(r#""--otlp-headers-secret","otlp/h""#), "{arguments}");
    let policy = the(&objects, "NetworkPolicy", "");
    let ports = |policy: &Value| policy["spec"]["egress"].to_string();
    assert!(ports(&policy).contains(r#"{"port":443,"protocol":"TCP"}]}]"#), "{policy}");
    let named = template(&[r#"telemetry={"otlp":{"endpoint":"http://collector.monitoring.svc:4318"}}"#]);
    let policy = the(&named, "NetworkPolicy", "");
    assert!(ports(&policy).contains(r#""port":4318"#), "{policy}");
    let nothing = the(&template(&[]), "Deployment", "").to_string();
    assert!(!nothing.contains("OTEL_") && !nothing.contains("otlp"), "{nothing}");
    for wrong in [
        r#"telemetry={"otlp":{"endpoint":"http://user:password@collector"}}"#,
        r#"telemetry={"otlp":{"ratio":2}}"#,
    ] {
        assert!(rendered(&[wrong]).is_err(), "{wrong}");
    }
}
