//! Pages as Prometheus reads them.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::api::marks::{SCHEDULE, SCHEDULE_NAME, SCHEDULE_UID};
use crate::api::{Backup, BackupSchedule, Failure};

const BEGAN: &str = "2026-11-20T10:00:00Z";

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(BTreeSet::from(["Unavailable", "DamageFound", "ProcessFailed"])))
}

fn backup(name: &str, schedule: Option<&str>, status: &Value) -> Backup {
    let mut value = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": BEGAN},
        "spec": {"storeRef": {"name": "orders"}, "source": {"postgres": {"database": "shop", "endpoints": []}}},
        "status": status,
    });
    if let Some(schedule) = schedule {
        // As of a name that is too long for a label.
        value["metadata"]["labels"] = json!({SCHEDULE: "0123456789abcdef"});
        value["metadata"]["annotations"] =
            json!({SCHEDULE_NAME: schedule, SCHEDULE_UID: format!("uid-of-{schedule}")});
    }
    serde_json::from_value(value).unwrap()
}

fn schedule(name: &str, status: &Value) -> BackupSchedule {
    let value = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}"), "creationTimestamp": BEGAN},
        "spec": {"schedule": "@hourly", "recoveryPointObjective": "2h", "suspend": true,
                 "template": {"spec": backup("x", None, &json!({})).spec}},
        "status": status,
    });
    serde_json::from_value(value).unwrap()
}

fn proven(at: &str, rows: u64) -> Value {
    json!({"phase": "Succeeded", "progress": {"bytesStored": 4096},
           "proof": {"sealedAt": at, "manifestSha256": "0".repeat(64), "rowsCounted": rows}})
}

fn failed(reason: &str, at: &str) -> Value {
    json!({"phase": "Failed", "failure": {"reason": reason, "message": "m", "hint": "h"},
           "conditions": [{"type": "Failed", "status": "True", "reason": reason, "message": "m",
                           "lastTransitionTime": at}]})
}

fn status(value: &Value) -> BackupStatus {
    serde_json::from_value(value.clone()).unwrap()
}

/// The value of one series.
#[track_caller]
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in:\n{page}")).parse().unwrap()
}

fn seconds(text: &str) -> f64 {
    text.parse::<jiff::Timestamp>().unwrap().as_duration().as_secs_f64()
}

/// Metrics of which each has a series.
fn all() -> Arc<Metrics> {
    let metrics = metrics();
    metrics.levels_from(|levels| {
        levels.schedule(&schedule(
            "hourly",
            &json!({"recoverableFrom": BEGAN, "recoverableTo": BEGAN, "missed": 1, "consecutiveFailures": 2}),
        ));
        levels.backup(&backup("one", Some("hourly"), &proven("2026-11-20T11:00:00Z", 7)));
        levels.backup(&backup("two", Some("hourly"), &failed("DamageFound", "2026-11-20T12:00:00Z")));
        levels.backup(&backup("three", Some("hourly"), &json!({"phase": "Exporting"})));
    });
    let process = |attempt| {
        json!({"phase": "Exporting", "errors": {"byReason": {"Unavailable": attempt}}, "processes": [
            {"name": "worker-eu", "job": "j", "order": "plan", "attempt": attempt, "state": "Waiting",
             "failure": {"reason": "ProcessFailed", "message": "m", "hint": "h"}}]})
    };
    let began = Instant::now();
    let steps =
        [json!({}), json!({"phase": "Pending"}), process(1), process(2), failed("DamageFound", BEGAN)];
    for (step, pair) in steps.windows(2).enumerate() {
        let (old, new) = (status(&pair[0]), status(&pair[1]));
        let now = began + Duration::from_secs(20 * step as u64);
        metrics.happened("u-1", &Transition::between(&old, &new), &new, now);
    }
    metrics.reconciling("Backup").ended(true);
    metrics.reconciling("Backup").ended(false);
    metrics.watch_failed("Backup");
    metrics.leads(true);
    metrics
}

#[test]
fn the_page_has_what_the_list_of_names_has() {
    let page = all().page();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let shown: BTreeSet<String> = types
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect();
    let listed: BTreeSet<String> = names().into_iter().map(str::to_owned).collect();
    assert_eq!(shown, listed);
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn levels_are_those_of_the_resources() {
    let page = all().page();
    let of =
        |name: &str| value(&page, &format!("vouchsafe_{name}{{namespace=\"shop\",schedule=\"hourly\"}}"));
    assert_eq!(of("backup_last_proven_timestamp_seconds"), seconds("2026-11-20T11:00:00Z"));
    assert_eq!(of("backup_last_failed_timestamp_seconds"), seconds("2026-11-20T12:00:00Z"));
    assert_eq!(of("backup_last_damaged_timestamp_seconds"), seconds("2026-11-20T12:00:00Z"));
    assert_eq!(of("backup_started_timestamp_seconds"), seconds(BEGAN));
    assert_eq!((of("backup_stored_bytes"), of("backup_rows")), (4096.0, 7.0));
    assert_eq!(of("schedule_recovery_point_objective_seconds"), SignedDuration::from_hours(2).as_secs_f64());
    assert_eq!((of("schedule_suspended"), of("schedule_missed_runs")), (1.0, 1.0));
    assert_eq!(value(&page, "vouchsafe_backups{phase=\"Failed\"}"), 1.0);
}

#[test]
fn an_older_backup_changes_nothing_and_a_lost_one_is_known_by_its_schedule() {
    let metrics = metrics();
    metrics.levels_from(|levels| {
        levels.backup(&backup("new", Some("hourly"), &proven("2026-11-20T12:00:00Z", 2)));
        levels.backup(&backup("old", Some("hourly"), &proven("2026-11-20T11:00:00Z", 1)));
        levels.schedule(&schedule("hourly", &json!({})));
        let success = json!({"lastSuccess": {"name": "gone", "time": "2026-11-20T13:00:00Z"}});
        levels.schedule(&schedule("daily", &success));
    });
    let page = metrics.page();
    let labels = "{namespace=\"shop\",schedule=\"hourly\"}";
    assert_eq!(value(&page, &format!("vouchsafe_backup_rows{labels}")), 2.0);
    let daily = "vouchsafe_backup_last_proven_timestamp_seconds{namespace=\"shop\",schedule=\"daily\"}";
    assert_eq!(value(&page, daily), seconds("2026-11-20T13:00:00Z"));
}

#[test]
fn a_deleted_schedule_has_no_series_and_backups_by_hand_have_one() {
    let metrics = metrics();
    metrics.levels_from(|levels| {
        levels.backup(&backup("left", Some("deleted"), &proven(BEGAN, 1)));
        levels.backup(&backup("by-hand", None, &proven(BEGAN, 1)));
    });
    let page = metrics.page();
    assert!(!page.contains("deleted"), "{page}");
    value(&page, "vouchsafe_backup_last_proven_timestamp_seconds{namespace=\"shop\",schedule=\"\"}");
    metrics.forget_levels();
    assert!(!metrics.page().contains("last_proven"), "a deposed controller says nothing");
}

#[test]
fn what_happened_is_counted_once_with_known_words_only() {
    let metrics = all();
    let page = metrics.page();
    assert_eq!(
        value(&page, "vouchsafe_backups_finished_total{result=\"Failed\",reason=\"DamageFound\"}"),
        1.0
    );
    assert_eq!(value(&page, "vouchsafe_verification_findings_total{reason=\"DamageFound\"}"), 1.0);
    let restarted = "vouchsafe_attempts_restarted_total{process=\"worker\",reason=\"ProcessFailed\"}";
    assert_eq!(value(&page, restarted), 1.0);
    assert_eq!(value(&page, "vouchsafe_errors_retried_total{reason=\"Unavailable\"}"), 2.0);
    assert_eq!(value(&page, "vouchsafe_backup_phase_duration_seconds_sum{phase=\"Pending\"}"), 20.0);
    assert_eq!(value(&page, "vouchsafe_backup_phase_duration_seconds_sum{phase=\"Exporting\"}"), 40.0);
    // The same status again: nothing happened.
    let end = status(&failed("DamageFound", BEGAN));
    metrics.happened("u-1", &Transition::between(&end, &end), &end, Instant::now());
    assert_eq!(metrics.page(), page);
    let forged = status(&failed("Made-up by somebody", BEGAN));
    metrics.happened("u-2", &Transition::between(&status(&json!({})), &forged), &forged, Instant::now());
    let page = metrics.page();
    assert_eq!(value(&page, "vouchsafe_backups_finished_total{result=\"Failed\",reason=\"Other\"}"), 1.0);
    assert!(!page.contains("Made-up"));
}

#[test]
fn a_phase_whose_beginning_was_not_seen_has_no_duration() {
    let metrics = metrics();
    let (old, new) = (status(&json!({"phase": "Exporting"})), status(&json!({"phase": "Verifying"})));
    metrics.happened("u-1", &Transition::between(&old, &new), &new, Instant::now());
    assert!(!metrics.page().contains("phase_duration_seconds_count"));
}

#[test]
fn timings_of_backups_that_vanished_make_room() {
    let metrics = metrics();
    let (old, new) = (status(&json!({})), status(&json!({"phase": "Pending"})));
    let began = Instant::now();
    for number in 0..=TIMED as u64 {
        let now = began + Duration::from_millis(number);
        metrics.happened(&number.to_string(), &Transition::between(&old, &new), &new, now);
    }
    let known = metrics.began.lock().unwrap();
    assert_eq!(known.len(), TIMED);
    assert!(!known.contains_key("0") && known.contains_key("1"));
}

#[test]
fn a_failed_run_is_told_also_when_its_backup_is_gone() {
    let metrics = metrics();
    let run = json!({"name": "orders-1", "tick": BEGAN, "attempt": 1, "decidedAt": BEGAN, "state": "Failed",
                     "endedAt": "2026-11-20T11:00:00Z",
                     "failure": {"reason": "DamageFound", "message": "m", "hint": "h"}});
    let orders = schedule("orders", &json!({"lastRun": run}));
    metrics.levels_from(move |levels| levels.schedule(&orders));
    let page = metrics.page();
    let ended = seconds("2026-11-20T11:00:00Z");
    for name in ["failed", "damaged"] {
        let series = format!(
            "vouchsafe_backup_last_{name}_timestamp_seconds{{namespace=\"shop\",schedule=\"orders\"}}"
        );
        assert_eq!(value(&page, &series), ended);
    }
}

#[test]
fn backups_of_a_schedule_that_was_made_anew_and_history_count_for_nothing() {
    let metrics = metrics();
    let mut old = backup("old", Some("orders"), &proven("2026-11-20T10:30:00Z", 1));
    old.metadata.annotations.as_mut().unwrap().insert(SCHEDULE_UID.to_owned(), "another".to_owned());
    let stalled = json!({"phase": "Pending", "conditions": [{"type": "Stalled", "status": "True",
                         "reason": "HistoryLost", "message": "m", "lastTransitionTime": BEGAN}]});
    let history = backup("history", Some("orders"), &stalled);
    let orders = schedule("orders", &json!({}));
    metrics.levels_from(move |levels| {
        levels.schedule(&orders);
        levels.backup(&old);
        levels.backup(&history);
    });
    let page = metrics.page();
    assert!(page.contains("vouchsafe_schedule_created_timestamp_seconds{"), "{page}");
    assert!(
        !page.contains("vouchsafe_backup_last_proven") && !page.contains("vouchsafe_backup_started"),
        "{page}"
    );
}

#[test]
fn a_reconciliation_that_is_dropped_is_counted_too() {
    let metrics = metrics();
    let running = "vouchsafe_reconcile_running{kind=\"Backup\"}";
    let under_way = metrics.reconciling("Backup");
    assert_eq!(value(&metrics.page(), running), 1.0);
    drop(under_way);
    let page = metrics.page();
    assert_eq!(value(&page, running), 0.0);
    assert_eq!(value(&page, "vouchsafe_reconcile_total{kind=\"Backup\",result=\"canceled\"}"), 1.0);
}

#[test]
fn failures_that_are_damage_are_named_so() {
    let failure =
        |reason: &str| Failure { reason: reason.into(), message: String::new(), hint: String::new() };
    assert!(is_finding(&failure("DamageFound")) && !is_finding(&failure("Unavailable")));
}
