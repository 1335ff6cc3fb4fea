//! Documents that are refused: each is an accepted one with one change, and names the field.

use proptest::prelude::*;
use rstest::rstest;
use vouchsafe::api::*;

use crate::accepted::{BACKUP, RESTORE, SCHEDULE, STORE};

/// Everything that is wrong with a file of one resource, whether reading or validating finds it.
fn refusals(yaml: &str) -> Refusals {
    let document = match parse_documents(yaml) {
        Ok(mut documents) => documents.remove(0),
        Err(DocumentError::Refused { refusals, .. }) => return refusals,
        Err(error) => panic!("{error}"),
    };
    let validated = match document {
        Document::BackupStore(o) => ValidatedBackupStore::try_from(*o).map(drop),
        Document::BackupSchedule(o) => ValidatedSchedule::try_from(*o).map(drop),
        Document::Backup(o) => ValidatedBackup::try_from(*o).map(drop),
        Document::Restore(o) => ValidatedRestore::try_from(*o).map(drop),
        Document::Secret(_) | Document::ConfigMap(_) => Ok(()),
    };
    validated.expect_err("was accepted")
}

fn changed(yaml: &str, from: &str, to: &str) -> String {
    assert_eq!(yaml.matches(from).count(), 1, "`{from}` must be there exactly once");
    yaml.replace(from, to)
}

/// Asserts that exactly one thing is wrong, with `field` and in the way `refused`.
fn refuses(yaml: &str, from: &str, to: &str, field: &str, refused: Refused) {
    let refusals = refusals(&changed(yaml, from, to));
    let found: Vec<_> = refusals.iter().map(|r| (r.field.as_str(), r.refused)).collect();
    assert_eq!(found, [(field, refused)], "{refusals}");
    let refusal = refusals.iter().next().expect("one was found above");
    assert!(!refusal.message.is_empty() && !refusal.hint.is_empty(), "{refusal}");
    crate::asked_too(&changed(yaml, from, to), refused);
}

use Refused::*;

#[rstest]
#[case(
    "bucket: orders-eu",
    "buckett: orders-eu, bucket: orders-eu",
    "spec.destinations[eu].s3.buckett",
    UnknownField
)]
#[case("bucket: orders-us", "bucket: o", "spec.destinations[us].s3.bucket", Invalid)]
#[case("bucket: orders-us", "prefix: pg", "spec.destinations[us].s3.bucket", Missing)]
#[case("prefix: pg", "prefix: /pg", "spec.destinations[eu].s3.prefix", Invalid)]
#[case("prefix: pg", "prefix: pg/../x", "spec.destinations[eu].s3.prefix", Invalid)]
#[case(
    "https://s3.example:9000",
    "https://me:secret@s3.example",
    "spec.destinations[eu].s3.endpoint",
    Invalid
)]
#[case("default: true", "default: false", "spec.destinations", Conflict)]
#[case("- name: us\n", "- name: us\n    default: true\n", "spec.destinations", Conflict)]
#[case("default: true", "default: yes please", "spec.destinations[eu].default", WrongType)]
#[case(
    "locality: region=us-east1\n",
    "locality: region=eu-west1\n",
    "spec.destinations[us].locality",
    Conflict
)]
#[case("locality: region=us-east1\n", "locality: us-east1\n", "spec.destinations[us].locality", Invalid)]
#[case("    locality: region=us-east1\n", "", "spec.destinations[us].locality", Missing)]
#[case("s3: {bucket: orders-us}", "gcs: {bucket: Orders}", "spec.destinations[us].gcs.bucket", Invalid)]
#[case("s3: {bucket: orders-us}", "gcs: {prefix: pg}", "spec.destinations[us].gcs.bucket", Missing)]
#[case(
    "s3: {bucket: orders-us}",
    "gcs: {bucket: orders, prefix: /pg}",
    "spec.destinations[us].gcs.prefix",
    Invalid
)]
#[case(
    "s3: {bucket: orders-us}",
    "gcs: {bucket: orders, region: x}",
    "spec.destinations[us].gcs.region",
    UnknownField
)]
#[case(
    "s3: {bucket: orders-us}",
    "gcs: {bucket: orders, endpoint: 'https://me:secret@gcs.example'}",
    "spec.destinations[us].gcs.endpoint",
    Invalid
)]
#[case(
    "s3: {bucket: orders-us}",
    "s3: {bucket: abc}\n    gcs: {bucket: abc}",
    "spec.destinations[us]",
    Conflict
)]
#[case(
    "s3: {bucket: orders-us}",
    "azure: {account: Orders, container: abc}",
    "spec.destinations[us].azure.account",
    Invalid
)]
#[case(
    "s3: {bucket: orders-us}",
    "azure: {account: orders, container: a--b}",
    "spec.destinations[us].azure.container",
    Invalid
)]
#[case(
    "s3: {bucket: orders-us}",
    "azure: {account: orders}",
    "spec.destinations[us].azure.container",
    Missing
)]
#[case(
    "s3: {bucket: orders-us}",
    "azure: {account: orders, container: abc, endpoint: 'https://h/?sig=x'}",
    "spec.destinations[us].azure.endpoint",
    Invalid
)]
#[case(
    "s3: {bucket: orders-us}",
    "azure: {account: orders, container: abc, sas: x}",
    "spec.destinations[us].azure.sas",
    UnknownField
)]
#[case("    s3: {bucket: orders-us}\n", "", "spec.destinations[us]", Conflict)]
#[case(
    "s3: {bucket: orders-us}",
    "s3: {bucket: orders-us}\n    file: {path: /x}",
    "spec.destinations[us]",
    Conflict
)]
#[case("path: /srv/backups/us-b", "path: us-b", "spec.destinations[us-b].file.path", Conflict)]
#[case("path: /srv/backups/us-b", "claim: c, path: /us-b", "spec.destinations[us-b].file.path", Conflict)]
#[case("path: /srv/backups/us-b", "path: /srv/../etc", "spec.destinations[us-b].file.path", Invalid)]
#[case(
    "{name: orders-eu}",
    "{name: other/orders-eu}",
    "spec.destinations[eu].credentialsSecret.name",
    Invalid
)]
#[case(
    "{name: orders-eu}",
    "{name: orders-eu, namespace: x}",
    "spec.destinations[eu].credentialsSecret.namespace",
    UnknownField
)]
#[case("- name: us\n", "- name: eu\n", "spec.destinations[eu]", Conflict)]
#[case("accessMode: ReadWrite", "accessMode: WriteOnly", "spec.accessMode", Invalid)]
#[case("maxConcurrentRuns: 4", "maxConcurrentRuns: 0", "spec.maxConcurrentRuns", Invalid)]
#[case("maxConcurrentRuns: 4", "maxConcurrentRuns: 99999999999", "spec.maxConcurrentRuns", Invalid)]
#[case("zone: topology.kubernetes.io/zone", "zone: a/b/c", "spec.localityLabels[zone]", Invalid)]
#[case(
    "podTemplate: {}",
    "podTemplate: {}\n  encryption: {recipients: [age1x], identitySecret: {name: i}}",
    "spec.encryption",
    NotBuiltYet
)]
#[case(
    "podTemplate: {}",
    "podTemplate: {}\n  objectLock: {mode: Governance, retain: 30d}",
    "spec.objectLock",
    NotBuiltYet
)]
#[case("name: orders, namespace", "name: Orders, namespace", "metadata.name", Invalid)]
fn stores(#[case] from: &str, #[case] to: &str, #[case] field: &str, #[case] refused: Refused) {
    refuses(STORE, from, to, field, refused);
}

#[rstest]
#[case(
    "bucket: orders-us",
    "bucket: orders-eu, endpoint: 'https://s3.example:9000'",
    "spec.destinations[us]"
)]
#[case(
    "bucket: orders-us",
    "bucket: orders-eu, endpoint: 'https://s3.example:9000', prefix: pg/us",
    "spec.destinations[us]"
)]
fn destinations_inside_one_another(#[case] from: &str, #[case] to: &str, #[case] field: &str) {
    refuses(STORE, from, to, field, Conflict);
    // A prefix that only begins with the same letters is another place.
    let apart = "bucket: orders-eu, endpoint: 'https://s3.example:9000', prefix: pgx";
    let Ok(documents) = parse_documents(&changed(STORE, "bucket: orders-us", apart)) else { panic!() };
    let Document::BackupStore(store) = documents[0].clone() else { panic!() };
    assert!(ValidatedBackupStore::try_from(*store).is_ok());
}

#[test]
fn parts_of_one_container_lie_apart() {
    let two = |first: &str, second: &str| {
        STORE
            .replace("s3: {bucket: orders-us}", &format!("azure: {{account: orders, container: abc{first}}}"))
            .replace(
                "file: {path: /srv/backups/us-b}",
                &format!("azure: {{account: orders, container: abc{second}}}"),
            )
    };
    for (first, second) in [("", ""), ("", ", prefix: pg"), (", prefix: pg/us", ", prefix: pg")] {
        let refusals = refusals(&two(first, second));
        let found: Vec<_> = refusals.iter().map(|r| (r.field.as_str(), r.refused)).collect();
        assert_eq!(found, [("spec.destinations[us-b]", Conflict)], "{refusals}");
    }
    for (first, second) in
        [(", prefix: pg", ", prefix: pgx"), ("", ", endpoint: 'https://elsewhere.example'")]
    {
        let Ok(documents) = parse_documents(&two(first, second)) else { panic!() };
        let Document::BackupStore(store) = documents[0].clone() else { panic!() };
        assert!(ValidatedBackupStore::try_from(*store).is_ok(), "{first} {second}");
    }
}

#[rstest]
#[case("type: Auto", "type: Incremental", "spec.type", NotBuiltYet)]
#[case("type: Auto", "type: auto", "spec.type", Invalid)]
#[case("revisionHistory: false", "revisionHistory: true", "spec.revisionHistory", NotBuiltYet)]
#[case("deletionPolicy: Retain", "deletionPolicy: Keep", "spec.deletionPolicy", Invalid)]
#[case("deletionPolicy: Retain", "takeOver: a/b/c", "spec.takeOver", NotBuiltYet)]
#[case(
    "auth: {password: {}}",
    "auth: {awsIam: {username: u, region: r}}",
    "spec.source.postgres.endpoints[eu].auth.awsIam",
    NotBuiltYet
)]
#[case("auth: {password: {}}", "auth: {}", "spec.source.postgres.endpoints[eu].auth", Conflict)]
#[case(
    "auth: {password: {}}",
    "auth: {password: {value: x}}",
    "spec.source.postgres.endpoints[eu].auth.password.value",
    UnknownField
)]
#[case("mode: VerifyFull", "mode: Prefer", "spec.source.postgres.endpoints[eu].tls.mode", Invalid)]
#[case("mode: VerifyFull", "mode: Require", "spec.source.postgres.endpoints[eu].tls.ca", Conflict)]
#[case(
    "secret: {name: pg-ca, key: ca.crt}",
    "secret: {name: pg-ca, key: ca.crt}, configMap: {name: a, key: b}",
    "spec.source.postgres.endpoints[eu].tls.ca",
    Conflict
)]
#[case(
    "secret: {name: pg-ca, key: ca.crt}",
    "secret: {name: pg-ca}",
    "spec.source.postgres.endpoints[eu].tls.ca.secret.key",
    Missing
)]
#[case("port: 5432", "port: 0", "spec.source.postgres.endpoints[eu].port", Invalid)]
#[case("port: 5432", "port: 70000", "spec.source.postgres.endpoints[eu].port", Invalid)]
#[case("port: 5432", "port: '5432'", "spec.source.postgres.endpoints[eu].port", WrongType)]
#[case("host: pg-eu.shop.svc", "host: a b", "spec.source.postgres.endpoints[eu].host", Invalid)]
#[case("database: shop", "database: 12", "spec.source.postgres.database", WrongType)]
#[case("collection: shop", "collection: ../shop", "spec.collection", Invalid)]
#[case("collection: shop", "collection: runs", "spec.collection", Invalid)]
#[case("\"*.*_us\"", "orders_us", "spec.source.postgres.placement[us].tables[0]", Invalid)]
#[case("[shop.orders_us]", "[shop.*]", "spec.source.postgres.placement[us].partitionsOf[0]", Invalid)]
#[case(
    "tables: [\"*.*_us\"], partitionsOf: [shop.orders_us], ",
    "",
    "spec.source.postgres.placement[us]",
    Invalid
)]
#[case(
    "locality: region=us-east1}",
    "locality: region}",
    "spec.source.postgres.placement[us].locality",
    Invalid
)]
#[case("unplaced: Fail", "unplaced: Ignore", "spec.source.postgres.unplaced", Invalid)]
#[case(
    "include: {schemas: [shop], tables: [\"public.*\"]}",
    "include: {}",
    "spec.source.postgres.include",
    Invalid
)]
#[case("tables: [\"audit.*\"]", "tables: [audit]", "spec.source.postgres.exclude.tables[0]", Invalid)]
#[case("executionLocality: region=eu-west1", "executionLocality: ''", "spec.executionLocality", Invalid)]
#[case("parallelism: 2", "parallelism: 65", "spec.parallelism", Invalid)]
#[case("parallelism: 2", "parallelism: -1", "spec.parallelism", Invalid)]
#[case("parallelism: 2", "parallelism: 1.5", "spec.parallelism", WrongType)]
#[case("rateLimit: 200Mi", "rateLimit: 200 MB", "spec.rateLimit", Invalid)]
#[case("rateLimit: 200Mi", "rateLimit: 0Mi", "spec.rateLimit", Invalid)]
#[case("rateLimit: 200Mi", "rateLimit: 200", "spec.rateLimit", WrongType)]
#[case("deadline: 6h", "deadline: 6 hours", "spec.deadline", Invalid)]
#[case("deadline: 6h", "deadline: 0s", "spec.deadline", Invalid)]
#[case("deadline: 6h", "deadlin: 6h", "spec.deadlin", UnknownField)]
#[case("storeRef: {name: orders}", "storeRef: {}", "spec.storeRef.name", Missing)]
#[case("storeRef: {name: orders}", "storeRef: orders", "spec.storeRef", WrongType)]
#[case("storeRef: {name: orders}", "storeRef:", "spec.storeRef", WrongType)]
#[case(
    "labels: {team: orders}",
    "labels: {vouchsafe.dev/run: x}",
    "spec.podTemplate.labels[vouchsafe.dev/run]",
    Invalid
)]
#[case("labels: {team: orders}", "labels: {team: 'a b'}", "spec.podTemplate.labels[team]", Invalid)]
#[case("memory: 256Mi", "memory: lots", "spec.podTemplate.resources.requests[memory]", Invalid)]
#[case("key: dedicated", "key: ded icated", "spec.podTemplate.tolerations[ded icated].key", Invalid)]
#[case("serviceAccountName: backup", "nodeSelector: {a: b}", "spec.podTemplate.nodeSelector", UnknownField)]
#[case("  source:", "  sauce:", "spec.sauce", UnknownField)]
fn backups(#[case] from: &str, #[case] to: &str, #[case] field: &str, #[case] refused: Refused) {
    let all = refusals(&changed(BACKUP, from, to));
    // A misspelt field that was required is missing as well.
    if field == "spec.sauce" {
        let fields: Vec<_> = all.iter().map(|r| r.field.as_str()).collect();
        assert_eq!(fields, ["spec.sauce", "spec.source"]);
        return;
    }
    refuses(BACKUP, from, to, field, refused);
}

#[rstest]
#[case("from: {storeRef: {name: orders}, collection: shop, run: 3}", "from: {}", "spec.from", Conflict)]
#[case("run: 3}", "run: 3, backup: b}", "spec.from", Conflict)]
#[case("run: 3}", "run: -1}", "spec.from.run", Invalid)]
#[case(
    "{storeRef: {name: orders}, collection: shop, run: 3}",
    "{backup: b, run: 3}",
    "spec.from.run",
    Conflict
)]
#[case(
    "{storeRef: {name: orders}, collection: shop, run: 3}",
    "{schedule: s}",
    "spec.from.schedule",
    NotBuiltYet
)]
#[case(
    "dryRun: true",
    "dryRun: true\n  pointInTime: {time: '2026-11-20T10:00:00Z'}",
    "spec.pointInTime",
    NotBuiltYet
)]
#[case(
    "roles: {missing: Create}",
    "roles: {map: [{from: a, to: b}, {from: a, to: c}]}",
    "spec.roles.map[a]",
    Conflict
)]
#[case("roles: {missing: Create}", "roles: {missing: Drop}", "spec.roles.missing", Invalid)]
#[case("onExisting: Refuse", "onExisting: IntoEmptySchemas", "spec.onExisting", Conflict)]
#[case("onExisting: Refuse", "onExisting: Overwrite", "spec.onExisting", Invalid)]
#[case("createDatabase: true", "createDatabase: false", "spec.createDatabase", Conflict)]
#[case("expectManifestSha256: \"0", "expectManifestSha256: \"", "spec.expectManifestSha256", Invalid)]
#[case("deadline: 90m", "deletionPolicy: Delete", "spec.deletionPolicy", UnknownField)]
#[case("host: pg-new, ", "hots: pg-new, ", "spec.target.postgres.hots", UnknownField)]
#[case("{configMap: {name: bundle, key: rds.pem}}", "{}", "spec.target.postgres.tls.ca", Conflict)]
fn restores(#[case] from: &str, #[case] to: &str, #[case] field: &str, #[case] refused: Refused) {
    refuses(RESTORE, from, to, field, refused);
}

#[test]
fn an_ephemeral_target() {
    let yaml = "apiVersion: vouchsafe.dev/v1alpha1\nkind: Restore\nmetadata: {name: r}\nspec: {from: {backup: b}, \
                target: {ephemeral: {image: 'postgres:18', storage: 50Gi}}}";
    let refusals = refusals(yaml);
    let found: Vec<_> = refusals.iter().map(|r| (r.field.as_str(), r.refused)).collect();
    assert_eq!(found, [("spec.target.ephemeral", NotBuiltYet)]);
}

#[rstest]
#[case("schedule: \"0 * * * *\"", "schedule: hourly", "spec.schedule", Invalid)]
#[case("timeZone: Europe/Berlin", "timeZone: 'Europe / Berlin'", "spec.timeZone", Invalid)]
#[case("fullSchedule: \"@weekly\"", "fullSchedule: never", "spec.fullSchedule", Invalid)]
#[case("jitter: 5m", "jitter: soon", "spec.jitter", Invalid)]
#[case(
    "keepLast: 3, keepDaily: 7, keepWeekly: 4, keepMonthly: 12, keepYearly: 2, ",
    "",
    "spec.retention",
    Conflict
)]
#[case("keepLast: 3", "keepLast: 0", "spec.retention.keepLast", Invalid)]
#[case(
    "labels: {team: orders}",
    "labels: {app.kubernetes.io/instance: x}",
    "spec.template.metadata.labels[app.kubernetes.io/instance]",
    Conflict
)]
#[case(
    "annotations: {}",
    "annotations: {argocd.argoproj.io/tracking-id: x}",
    "spec.template.metadata.annotations[argocd.argoproj.io/tracking-id]",
    Conflict
)]
#[case(
    "metadata: {labels: {team: orders}",
    "metadata: {name: x, labels: {team: orders}",
    "spec.template.metadata.name",
    UnknownField
)]
#[case("      collection: shop\n", "", "spec.template.spec.collection", Missing)]
#[case(
    "      collection: shop\n",
    "      collection: shop\n      cancel: true\n",
    "spec.template.spec.cancel",
    Conflict
)]
#[case(
    "failedHistoryLimit: 3",
    "restoreTest: {schedule: '0 6 * * 1', target: {ephemeral: {image: p, storage: 1Gi}}}",
    "spec.restoreTest",
    NotBuiltYet
)]
#[case(
    "host: pg}",
    "host: pg, hist: pg}",
    "spec.template.spec.source.postgres.endpoints[one].hist",
    UnknownField
)]
fn schedules(#[case] from: &str, #[case] to: &str, #[case] field: &str, #[case] refused: Refused) {
    refuses(SCHEDULE, from, to, field, refused);
}

#[test]
fn a_template_that_deletes() {
    let yaml = changed(SCHEDULE, "collection: shop", "collection: shop\n      deletionPolicy: Delete");
    let all = refusals(&yaml);
    assert!(
        all.iter().any(|r| r.refused == Conflict && r.field == "spec.template.spec.deletionPolicy"),
        "{all}"
    );
}

#[test]
fn several_endpoints() {
    let with = |endpoints: &str| {
        refusals(&changed(BACKUP, "      placement:", &format!("{endpoints}\n      placement:")))
            .iter()
            .map(|r| r.field.trim_start_matches("spec.source.postgres.").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(with("      - {name: us, host: us}"), ["endpoints[us].locality", "placement"]);
    assert_eq!(with("      - {name: us, host: us, locality: region=us}"), ["placement"]);
    let twice = "      - {name: us, host: PG-EU.shop.svc, locality: region=eu-west1}";
    assert_eq!(with(twice), ["endpoints[us].host", "endpoints[us].locality", "placement"]);
    assert_eq!(with("      - {name: us, locality: region=us}"), ["endpoints[us].host", "placement"]);
}

#[test]
fn everything_is_said_at_once() {
    let yaml = BACKUP
        .replace("type: Auto", "type: Incremental")
        .replace("deadline: 6h", "deadline: soon")
        .replace("parallelism: 2", "parallelism: 0")
        .replace("mode: VerifyFull", "mode: Disable")
        .replace("unplaced: Fail", "unplaced: Default");
    let fields: Vec<_> = refusals(&yaml).iter().map(|r| r.field.clone()).collect();
    let tls = "spec.source.postgres.endpoints[eu].tls.ca";
    assert_eq!(fields, ["spec.deadline", "spec.parallelism", tls, "spec.type"]);
}

#[test]
fn hints_are_of_use() {
    let hint = |from: &str, to: &str| {
        let all = refusals(&changed(BACKUP, from, to));
        format!("{all}")
    };
    assert!(hint("parallelism: 2", "paralelism: 2").contains("did you mean `parallelism`?"));
    assert!(hint("type: Auto", "type: full").contains("did you mean `Full`?"));
    assert!(hint("mode: VerifyFull", "mode: Prefer").contains("Require or Disable"));
    assert!(hint("rateLimit: 200Mi", "rateLimit: 200").contains("quotes"));
}

#[rstest]
#[case("", "no document")]
#[case("---\n---\n", "no document")]
#[case("just text", "no Kubernetes object")]
#[case("kind: Backup", "`apiVersion` is missing")]
#[case("apiVersion: v1", "`kind` is missing")]
#[case("apiVersion: v1\nkind: Pod\nmetadata: {name: p}", "kind `Pod`; taken are Backup")]
#[case("apiVersion: velero.io/v1\nkind: Backup\nmetadata: {name: p}", "must have `vouchsafe.dev/v1alpha1`")]
#[case("apiVersion: vouchsafe.dev/v1\nkind: Backup", "must have `vouchsafe.dev/v1alpha1`")]
#[case("apiVersion: v2\nkind: Secret", "must have `v1`")]
#[case("a: b: c", "line 1")]
#[case("a: [1, 2", "not YAML")]
#[case("a: 1\na: 2", "not YAML")]
fn files(#[case] yaml: &str, #[case] expected: &str) {
    let message = parse_documents(yaml).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn duplicates() {
    let message = parse_documents(&format!("{STORE}---{STORE}")).unwrap_err().to_string();
    assert!(message.contains("documents 1 and 2 are both BackupStore `orders`"), "{message}");
    // Another namespace is another object.
    let elsewhere = STORE.replace("namespace: shop", "namespace: other");
    assert_eq!(parse_documents(&format!("{STORE}---{elsewhere}")).unwrap().len(), 2);
}

#[test]
fn a_secrets_values_are_in_no_message() {
    for yaml in [
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {password: hunter2!}",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {password: [hunter2]}",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: hunter2",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  password: \"hunter2\n x: \"y",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  password: hunter2: x",
    ] {
        let error = parse_documents(yaml).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn hostile_files_cost_little() {
    let nested = format!("a: {}", "[".repeat(100_000));
    assert!(parse_documents(&nested).is_err());
    // Nine levels of ten aliases each: a billion items.
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let before = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    assert!(parse_documents(&laughs).is_err());
    assert!(parse_documents(&"x".repeat(17 << 20)).is_err());
}

/// Every accepted document, each scalar or line of which a test may spoil.
fn accepted() -> impl Strategy<Value = String> {
    prop::sample::select(vec![STORE, BACKUP, RESTORE, SCHEDULE]).prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), yamlish in "[a-z:{}\\[\\]\\-#&*!|>'\"%@, \n]{0,80}") {
        let _ = (parse_documents(&text), parse_documents(&yamlish));
    }

    #[test]
    fn no_spoilt_document_makes_it_panic(yaml in accepted(), at in any::<prop::sample::Index>(),
                                         cut in 0usize..40, with in "\\PC{0,12}") {
        let characters: Vec<char> = yaml.chars().collect();
        let at = at.index(characters.len());
        let mut spoilt: String = characters[..at].iter().collect();
        spoilt.push_str(&with);
        spoilt.extend(characters.iter().skip(at + cut));
        for document in parse_documents(&spoilt).into_iter().flatten() {
            match document {
                Document::BackupStore(o) => drop(ValidatedBackupStore::try_from(*o)),
                Document::BackupSchedule(o) => drop(ValidatedSchedule::try_from(*o)),
                Document::Backup(o) => drop(ValidatedBackup::try_from(*o)),
                Document::Restore(o) => drop(ValidatedRestore::try_from(*o)),
                Document::Secret(_) | Document::ConfigMap(_) => {}
            }
        }
    }
}

#[test]
fn buckets_of_google_inside_one_another() {
    let with = |second: &str| {
        let one = changed(STORE, "path: /srv/backups/us-b", "path: /x");
        let one = one.replace("file: {path: /x}", "gcs: {bucket: orders, prefix: pg}");
        let text = one.replace("s3: {bucket: orders-us}", second);
        let Ok(documents) = parse_documents(&text) else { panic!("{text}") };
        let Document::BackupStore(store) = documents[0].clone() else { panic!() };
        ValidatedBackupStore::try_from(*store)
    };
    // By whatever way it is asked, it is the same bucket.
    for second in ["{bucket: orders}", "{bucket: orders, prefix: pg/x, endpoint: 'https://gcs.example'}"] {
        assert!(with(&format!("gcs: {second}")).is_err(), "{second}");
    }
    for second in ["gcs: {bucket: orders, prefix: pgx}", "gcs: {bucket: other}", "s3: {bucket: orders}"] {
        assert!(with(second).is_ok(), "{second}");
    }
}
