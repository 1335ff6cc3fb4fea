//! What a Prometheus makes of the alerts: each fires where it should, and is silent beside it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::chart::{template, the};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn yaml(path: &str) -> Value {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|cause| panic!("{path}: {cause}"));
    serde_saphyr::from_str(&text).expect("YAML")
}

#[test]
fn each_alert_fires_where_it_should_and_is_silent_beside_it() {
    let cases = "tests/install/alerts/cases.yaml";
    let promtool = testbed::tool("promtool/promtool");
    let output = Command::new(promtool).args(["test", "rules", cases]).current_dir(root()).output();
    let output = output.expect("promtool runs");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    // A rule without a case would pass.
    let rules = &yaml("charts/vouchsafe/files/alerts.yaml")["groups"][0]["rules"];
    let alerts: BTreeSet<&str> =
        rules.as_array().expect("rules").iter().filter_map(|rule| rule["alert"].as_str()).collect();
    let cases = yaml(cases);
    let asked = cases["tests"].as_array().expect("tests").iter();
    let asked = asked.flat_map(|test| test["alert_rule_test"].as_array().expect("questions"));
    let of = |fires: bool| -> BTreeSet<&str> {
        let those =
            asked.clone().filter(|it| it["exp_alerts"].as_array().expect("alerts").is_empty() != fires);
        those.filter_map(|it| it["alertname"].as_str()).collect()
    };
    assert_eq!(of(true), alerts, "left those that are seen to fire");
    assert_eq!(of(false), alerts, "left those that are seen to be silent");
}

#[test]
fn pages_of_the_runbook_are_where_the_values_say() {
    let urls = |values: &[&str]| -> Vec<String> {
        let rule = the(&template(values), "PrometheusRule", "vouchsafe");
        let rules = rule["spec"]["groups"][0]["rules"].as_array().expect("rules").clone();
        rules.iter().map(|it| it["annotations"]["runbook_url"].as_str().expect("a text").to_owned()).collect()
    };
    let on = "metrics.prometheusRule.enabled=true";
    let here = urls(&[on]);
    assert!(here.iter().all(|url| url.starts_with("docs/runbook/Vouchsafe")), "{here:?}");
    let there = urls(&[on, r#"metrics.prometheusRule.runbookUrl="https://wiki.example.com/vouchsafe""#]);
    let expected: Vec<String> =
        here.iter().map(|url| url.replace("docs/runbook/", "https://wiki.example.com/vouchsafe/")).collect();
    assert_eq!(there, expected);
}
