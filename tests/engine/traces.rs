//! What a run tells of itself over OTLP, and that nobody need listen.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;

use super::receiver::{Receiver, Seen};
use super::shop::{Ended, Shop, run};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ABOVE: &str = "b7ad6b7169203331";

/// What must not leave: it is in a row, in a header, and in the environment.
const OF_A_ROW: &str = "canary-of-a-row";
const OF_A_HEADER: &str = "canary-of-a-header";

/// The command with an environment that says where traces go.
fn traced(mut command: Command, endpoint: &str) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    command.env("OTEL_EXPORTER_OTLP_HEADERS", format!("x-token={OF_A_HEADER}"));
    command.env("TRACEPARENT", format!("00-{TRACE}-{ABOVE}-01"));
    command
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names from a span to the top.
fn path(of: &Seen, all: &BTreeMap<Vec<u8>, Seen>) -> String {
    let mut names = vec![of.span.name.clone()];
    let mut above = &of.span.parent_span_id;
    while let Some(parent) = all.get(above) {
        names.push(parent.span.name.clone());
        above = &parent.span.parent_span_id;
    }
    assert_eq!(hex(above), ABOVE, "{names:?}");
    names.reverse();
    names.join(" ")
}

#[test]
fn one_trace_tells_of_a_run_from_its_claim_to_its_restore() {
    let shop = Shop::open("traces");
    shop.sql(&format!("INSERT INTO events VALUES (1000, '{OF_A_ROW}')"));
    let receiver = Receiver::listen(false);
    run(traced(shop.backup(), &receiver.endpoint)).must_succeed();
    let mut verify = traced(shop.verify(), &receiver.endpoint);
    verify.env("OTEL_SERVICE_NAME", "of-the-environment");
    run(verify).must_succeed();
    let restored = format!("{}_restored", shop.database);
    run(traced(shop.restore(&restored), &receiver.endpoint)).must_succeed();
    shop.server.psql("postgres", &format!("DROP DATABASE {restored}")).unwrap();

    let all: BTreeMap<Vec<u8>, Seen> =
        receiver.spans().into_iter().map(|seen| (seen.span.span_id.clone(), seen)).collect();
    let mut paths: BTreeMap<String, Vec<&Seen>> = BTreeMap::new();
    for seen in all.values() {
        assert_eq!(hex(&seen.span.trace_id), TRACE, "{seen:?}");
        assert!(seen.span.events.is_empty(), "log lines are no part of it: {seen:?}");
        assert!(seen.span.status.as_ref().is_none_or(|status| status.code != 2), "{seen:?}");
        paths.entry(path(seen, &all)).or_default().push(seen);
    }
    for (part, count, service) in [
        ("backup", 1, "vouchsafe-backup"),
        ("backup open", 1, "vouchsafe-backup"),
        ("backup claim", 1, "vouchsafe-backup"),
        ("backup run", 1, "vouchsafe-backup"),
        ("backup run hold", 1, "vouchsafe-backup"),
        ("backup run plan", 1, "vouchsafe-backup"),
        ("backup run export catalogs", 1, "vouchsafe-backup"),
        ("backup run export worker", 2, "vouchsafe-backup"),
        ("backup run count", 1, "vouchsafe-backup"),
        ("backup run write", 1, "vouchsafe-backup"),
        ("backup run verify verifier", 2, "vouchsafe-backup"),
        ("backup run compare", 1, "vouchsafe-backup"),
        ("backup run seal", 1, "vouchsafe-backup"),
        ("verify", 1, "of-the-environment"),
        ("restore prepare prove", 1, "vouchsafe-restore"),
        ("restore make definitions", 1, "vouchsafe-restore"),
        ("restore make load table", 3, "vouchsafe-restore"),
        ("restore make compare", 1, "vouchsafe-restore"),
        ("restore make finish", 1, "vouchsafe-restore"),
    ] {
        let found = paths.get(part).unwrap_or_else(|| panic!("no {part}: {:?}", paths.keys()));
        assert_eq!(found.len(), count, "{part}");
        assert!(found.iter().all(|seen| seen.service == service), "{part}: {found:?}");
    }
    let runs: Vec<Option<String>> = paths["backup run"].iter().map(|seen| seen.field("run")).collect();
    assert_eq!(runs, [Some("1".to_owned())]);
    assert_eq!(paths["restore make"][0].field("run").as_deref(), Some("1"));

    // Every ticket and every object by itself, with what came of it.
    let tickets = &paths["backup run export worker ticket"];
    let of_orders = tickets.iter().filter(|seen| seen.field("table").as_deref() == Some("public.orders"));
    assert_eq!(of_orders.count(), 8);
    let uploads = &paths["backup run export worker ticket upload"];
    assert_eq!(uploads.len(), tickets.len());
    let sum = |name: &str| uploads.iter().filter_map(|it| it.field(name)?.parse::<u64>().ok()).sum::<u64>();
    assert_eq!(
        sum("rows").to_string(),
        shop.sql("SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM events)")
    );
    assert!(sum("bytes") > 0);
    let reads = &paths["backup run verify verifier read"];
    assert!(reads.len() >= tickets.len() && reads.iter().any(|seen| seen.field("table").is_some()));
    assert_eq!(paths["verify read"].len(), reads.len());

    assert!(receiver.was_sent(&format!("x-token: {OF_A_HEADER}")), "where it belongs");
    for seen in all.values() {
        let text = format!("{seen:?}");
        for canary in [OF_A_ROW, OF_A_HEADER, testbed::PASSWORD, &shop.database, "127.0.0.1"] {
            assert!(!text.contains(canary), "{canary} is in {text}");
        }
    }
    assert!(!receiver.was_sent(OF_A_ROW) && !receiver.was_sent(testbed::PASSWORD));
}

#[test]
fn a_part_that_fails_says_so_by_its_word_alone() {
    let shop = Shop::open("traces");
    let receiver = Receiver::listen(false);
    let ended = run(traced(shop.backup_as("SkipATicket"), &receiver.endpoint));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let failed: Vec<Seen> = (receiver.spans().into_iter())
        .filter(|seen| seen.span.status.as_ref().is_some_and(|status| status.code == 2))
        .collect();
    let names: Vec<&str> = failed.iter().map(|seen| &*seen.span.name).collect();
    assert!(names.contains(&"run") && names.contains(&"backup"), "{names:?}");
    for seen in &failed {
        assert_eq!(seen.field("error.type"), Some(ended.reason()), "{seen:?}");
        assert!(seen.span.status.as_ref().unwrap().message.is_empty(), "{seen:?}");
    }
}

/// How often standard error says something.
fn said(ended: &Ended, what: &str) -> usize {
    ended.stderr.matches(what).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nobody_there_a_run_ends_the_same_and_says_it_once() {
    let shop = Shop::open("traces");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut backup = traced(shop.backup(), &format!("http://127.0.0.1:{port}"));
    // A batch each 50 ms, so that there are many tries.
    backup.env("OTEL_BSP_SCHEDULE_DELAY", "50").env("OTEL_EXPORTER_OTLP_TIMEOUT", "100");
    let ended = run(backup);
    ended.must_succeed();
    assert_eq!(said(&ended, "traces are not delivered"), 1, "{ended:?}");
    assert_eq!(said(&ended, "spans were not delivered"), 1, "{ended:?}");
    assert!(said(&ended, "lost=") == 1 && !ended.stderr.contains(OF_A_HEADER), "{ended:?}");
    shop.must_be_proven(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_holds_nobody_up() {
    let shop = Shop::open("traces");
    let receiver = Receiver::listen(true);
    let mut backup = traced(shop.backup(), &receiver.endpoint);
    // Who waited for an answer, or sent without a bound of its own, would be here longer than the test's patience.
    backup.env("OTEL_BSP_SCHEDULE_DELAY", "50").env("OTEL_EXPORTER_OTLP_TIMEOUT", "600000");
    let ended = run(backup);
    ended.must_succeed();
    assert!(receiver.was_asked(), "it was there");
    assert_eq!(said(&ended, "spans were not delivered"), 1, "{ended:?}");
    shop.must_be_proven(1).await;
}

#[test]
fn what_is_not_asked_for_is_not_told() {
    let shop = Shop::open("traces");
    let receiver = Receiver::listen(false);
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
    ] {
        let mut backup = traced(shop.backup(), &receiver.endpoint);
        backup.env(name, value);
        let ended = run(backup);
        ended.must_succeed();
        assert_eq!(said(&ended, "delivered"), 0, "{name}: {ended:?}");
        assert!(!receiver.was_asked(), "{name}");
    }
    let mut malformed = traced(shop.backup(), "not a url");
    malformed.env("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url");
    let ended = run(malformed);
    ended.must_succeed();
    assert_eq!(said(&ended, "nothing is traced"), 1, "{ended:?}");
}
