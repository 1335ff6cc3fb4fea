//! What others rely on when they watch: metrics, their table, the alerts on them, and a page for each alert.

use std::collections::BTreeSet;

use serde_json::Value;
use vouchsafe::cli::reasons;
use vouchsafe::telemetry::metrics::names;
use vouchsafe::telemetry::transition::FINDINGS;

use crate::root;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

/// The first column of the table below a heading, without its back quotes.
fn first_column(page: &str, heading: &str) -> Vec<String> {
    let chapter = page.split(&format!("\n### {heading}\n")).nth(1).expect("the heading");
    let chapter = chapter.split("\n#").next().unwrap_or_default();
    let rows = chapter.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(first, _)| first.to_owned()).collect()
}

/// Names of our metrics in a query; what histograms append is taken off.
fn metrics_in(query: &str) -> BTreeSet<String> {
    let words = query.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    let ours = words.filter(|word| word.starts_with("vouchsafe_"));
    let of_histogram = |word: &str| {
        let known = names();
        let base = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| word.strip_suffix(end));
        base.filter(|base| known.contains(base)).unwrap_or(word).to_owned()
    };
    ours.map(of_histogram).collect()
}

/// Each alert with its query and its runbook.
fn alerts() -> Vec<(String, String, String)> {
    let rules: Value = serde_saphyr::from_str(&read("charts/vouchsafe/files/alerts.yaml")).expect("YAML");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let groups = rules["groups"].as_array().expect("groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
    rules
        .map(|rule| (text(&rule["alert"]), text(&rule["expr"]), text(&rule["annotations"]["runbook_url"])))
        .collect()
}

#[test]
fn every_metric_is_in_its_table_and_no_other() {
    let told = first_column(&read("docs/monitoring.md"), "Metrics");
    let distinct: BTreeSet<&str> = told.iter().map(String::as_str).collect();
    assert_eq!(distinct, names(), "left what docs/monitoring.md has, right what is shown");
    assert_eq!(distinct.len(), told.len(), "a metric is told twice");
}

#[test]
fn every_alert_is_on_metrics_that_are_shown_and_has_its_page() {
    let alerts = alerts();
    let listed = first_column(&read("docs/monitoring.md"), "Alerts");
    let named: Vec<&str> = alerts.iter().map(|(alert, ..)| alert.as_str()).collect();
    assert_eq!(named, listed, "left the rules, right docs/monitoring.md");
    for (alert, query, runbook) in &alerts {
        let used = metrics_in(query);
        assert!(!used.is_empty(), "{alert} is about nothing of ours");
        let unknown: Vec<_> = used.iter().filter(|it| !names().contains(it.as_str())).collect();
        assert!(unknown.is_empty(), "{alert}: no such metric: {unknown:?}");
        assert!(runbook.ends_with(&format!("docs/runbook/{alert}.md")), "{alert}: {runbook}");
        let page = read(&format!("docs/runbook/{alert}.md"));
        assert!(page.starts_with(&format!("# {alert}\n")) && page.len() > 500, "{alert}: a page of its own");
    }
    let pages = std::fs::read_dir(root().join("docs/runbook")).expect("the runbook");
    for page in pages {
        let name = page.expect("a page").file_name().into_string().expect("UTF-8");
        let known = name == "cluster-lost.md" || named.iter().any(|alert| name == format!("{alert}.md"));
        assert!(known, "docs/runbook/{name}: no alert sends anybody there");
    }
}

#[test]
fn what_counts_as_damage_is_among_the_reasons() {
    let reasons = reasons();
    let unknown: Vec<_> = FINDINGS.into_iter().filter(|it| !reasons.contains(it)).collect();
    assert!(unknown.is_empty(), "no such reason: {unknown:?}");
}

#[test]
fn names_are_found_in_queries_and_tables() {
    let query = "rate(vouchsafe_reconcile_duration_seconds_bucket{a=\"b\"}[5m]) / vouchsafe_made_up > other";
    let found = metrics_in(query);
    let expected = ["vouchsafe_made_up", "vouchsafe_reconcile_duration_seconds"];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let page = "\n### A\n\n| a | |\n| --- | --- |\n| `x` | `y` |\n\n### B\n\n| `z` | |\n";
    assert_eq!(first_column(page, "A"), ["x"]);
}
