//! Documents that are taken.

use std::time::Duration;

use vouchsafe::api::*;
use vouchsafe::plan::locality::Because;

pub(crate) const STORE: &str = r#"
apiVersion: vouchsafe.dev/v1alpha1
kind: BackupStore
metadata: {name: orders, namespace: shop}
spec:
  destinations:
  - name: eu
    default: true
    locality: region=eu-west1
    s3: {bucket: orders-eu, prefix: pg, region: eu-west-1, endpoint: "https://s3.example:9000",
         addressingStyle: Path, checksums: WhenRequired, caSecret: {name: s3-ca, key: ca.crt}}
    credentialsSecret: {name: orders-eu}
    deleteCredentialsSecret: {name: orders-eu-prune}
  - name: us
    locality: region=us-east1
    s3: {bucket: orders-us}
  - name: us-b
    locality: region=us-east1,zone=b
    file: {path: /srv/backups/us-b}
  accessMode: ReadWrite
  maxConcurrentRuns: 4
  localityPolicy: Strict
  localityLabels: {region: topology.kubernetes.io/region, zone: topology.kubernetes.io/zone}
  podTemplate: {}
"#;

pub(crate) const BACKUP: &str = r#"
apiVersion: vouchsafe.dev/v1alpha1
kind: Backup
metadata: {name: orders-1, namespace: shop}
spec:
  storeRef: {name: orders}
  collection: shop
  type: Auto
  revisionHistory: false
  source:
    postgres:
      database: shop
      endpoints:
      - name: eu
        locality: region=eu-west1
        host: pg-eu.shop.svc
        port: 5432
        credentialsSecret: {name: pg-eu, usernameKey: username, passwordKey: password, hostKey: host}
        tls: {mode: VerifyFull, ca: {secret: {name: pg-ca, key: ca.crt}}}
        auth: {password: {}}
      placement:
      - {name: us, tables: ["*.*_us"], partitionsOf: [shop.orders_us], locality: region=us-east1}
      unplaced: Fail
      include: {schemas: [shop], tables: ["public.*"]}
      exclude: {tables: ["audit.*"]}
  executionLocality: region=eu-west1
  parallelism: 2
  rateLimit: 200Mi
  podTemplate:
    resources: {requests: {cpu: 1, memory: 256Mi}, limits: {memory: 1Gi}}
    tolerations: [{key: dedicated, operator: Equal, value: backup, effect: NoSchedule}]
    priorityClassName: low
    imagePullSecrets: [{name: registry}]
    serviceAccountName: backup
    labels: {team: orders}
    annotations: {example.com/note: "it's fine"}
  deadline: 6h
  suspend: false
  cancel: false
  deletionPolicy: Retain
"#;

pub(crate) const RESTORE: &str = r#"
apiVersion: vouchsafe.dev/v1alpha1
kind: Restore
metadata: {name: back}
spec:
  from: {storeRef: {name: orders}, collection: shop, run: 3}
  target:
    postgres: {host: pg-new, port: 5433, database: shop, credentialsSecret: {name: pg-new},
               tls: {mode: VerifyCa, ca: {configMap: {name: bundle, key: rds.pem}}}, auth: {password: {}}}
  roles: {missing: Create}
  owner: app
  privileges: Skip
  createDatabase: true
  onExisting: Refuse
  include: {schemas: [shop]}
  exclude: {tables: ["*.log"]}
  schemaOnly: false
  dryRun: true
  expectManifestSha256: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  parallelism: 8
  deadline: 90m
"#;

pub(crate) const SCHEDULE: &str = r#"
apiVersion: vouchsafe.dev/v1alpha1
kind: BackupSchedule
metadata: {name: orders}
spec:
  schedule: "0 * * * *"
  timeZone: Europe/Berlin
  fullSchedule: "@weekly"
  jitter: 5m
  startingDeadline: 30m
  concurrency: Skip
  recoveryPointObjective: 2h
  onFailure: Retry
  suspend: false
  retention: {keepLast: 3, keepDaily: 7, keepWeekly: 4, keepMonthly: 12, keepYearly: 2, minimum: 1}
  failedHistoryLimit: 3
  template:
    metadata: {labels: {team: orders}, annotations: {}}
    spec:
      storeRef: {name: orders}
      collection: shop
      source: {postgres: {database: shop, endpoints: [{name: one, host: pg}]}}
"#;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: pg-eu}
type: Opaque
data: {username: YXBw, password: "aHVudGVyMg=="}
stringData: {host: pg-eu.shop.svc}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: bundle, labels: {a: b}}
data: {rds.pem: "-----BEGIN CERTIFICATE-----\n"}
"#;

pub(crate) fn one(yaml: &str) -> Document {
    let mut documents = parse_documents(yaml).unwrap_or_else(|error| panic!("{error}: {error:?}"));
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

fn backup(yaml: &str) -> ValidatedBackup {
    let Document::Backup(backup) = one(yaml) else { panic!("no Backup") };
    (*backup).try_into().unwrap_or_else(|refusals| panic!("{refusals}"))
}

fn store(yaml: &str) -> ValidatedBackupStore {
    let Document::BackupStore(store) = one(yaml) else { panic!("no BackupStore") };
    (*store).try_into().unwrap_or_else(|refusals| panic!("{refusals}"))
}

#[test]
fn a_store() {
    let store = store(STORE);
    assert_eq!((store.identity.name.as_str(), store.identity.namespace.as_deref()), ("orders", Some("shop")));
    let chosen = |text: &str| {
        let (destination, because) = store.destination_for(Some(&text.parse().unwrap())).unwrap();
        (destination.name.as_str(), because)
    };
    assert_eq!(chosen("region=us-east1,zone=a"), ("us", Because::LongestPrefix));
    assert_eq!(chosen("region=us-east1,zone=b"), ("us-b", Because::LongestPrefix));
    assert!(store.destination_for(Some(&"region=ap".parse().unwrap())).is_err());
    assert_eq!(store.default_destination().unwrap().name, "eu");
    let Place::S3(s3) = &store.destinations[0].place else { panic!("no bucket") };
    assert_eq!((s3.bucket.as_str(), s3.addressing_style), ("orders-eu", AddressingStyle::Path));
    assert_eq!(store.destinations[0].place.to_string(), "s3://orders-eu/pg");
    assert_eq!(store.destinations[2].place, Place::Folder(FolderPlace::Here("/srv/backups/us-b".into())));
    let silent = ["spec.maxConcurrentRuns", "spec.localityLabels", "spec.podTemplate"];
    assert_eq!(store.without_effect_here()[..3], silent);
}

#[test]
fn a_container_of_azure() {
    let azure = "azure: {account: ordersus, container: back-ups, prefix: pg, \
                 endpoint: 'https://ordersus.blob.core.usgovcloudapi.net', caSecret: {name: ca, key: ca.crt}}";
    let store = store(&STORE.replace("s3: {bucket: orders-us}", azure));
    let Place::Azure(place) = &store.destinations[1].place else { panic!("no container") };
    assert_eq!((place.account.as_str(), place.container.as_str()), ("ordersus", "back-ups"));
    assert_eq!(place.endpoint.as_deref(), Some("https://ordersus.blob.core.usgovcloudapi.net"));
    assert_eq!(place.ca, Some(KeyRef { name: "ca".into(), key: "ca.crt".into() }));
    let place = &store.destinations[1].place;
    assert_eq!([place.url(), place.to_string()], ["azblob://ordersus/back-ups/pg"; 2]);
}

#[test]
fn a_bucket_of_google() {
    for (given, expected) in [
        ("{bucket: orders-us}", ("orders-us", None, None)),
        (
            "{bucket: my.orders_us, prefix: pg/a, endpoint: 'https://storage.europe-west1.rep.googleapis.com'}",
            ("my.orders_us", Some("pg/a"), Some("https://storage.europe-west1.rep.googleapis.com")),
        ),
    ] {
        let store = store(&STORE.replace("s3: {bucket: orders-us}", &format!("gcs: {given}")));
        let Place::Gcs(place) = &store.destinations[1].place else { panic!("no bucket") };
        assert_eq!((place.bucket.as_str(), place.prefix.as_deref(), place.endpoint.as_deref()), expected);
        let prefix = place.prefix.as_ref().map(|it| format!("/{it}")).unwrap_or_default();
        assert_eq!(store.destinations[1].place.to_string(), format!("gs://{}{prefix}", place.bucket));
        assert_eq!(store.destinations[1].place.url(), store.destinations[1].place.to_string());
    }
}

#[test]
fn a_backup() {
    let backup = backup(BACKUP);
    assert_eq!(backup.without_effect_here(), ["spec.executionLocality", "spec.podTemplate"]);
    let spec = backup.spec;
    assert_eq!((spec.store.as_str(), spec.collection.as_deref()), ("orders", Some("shop")));
    assert_eq!(spec.rate_limit.unwrap().get(), 200 << 20);
    assert_eq!(spec.deadline, Some(Duration::from_secs(6 * 3600)));
    assert_eq!(spec.parallelism.get(), 2);
    let postgres = spec.source;
    assert_eq!(postgres.localities().len(), 2);
    assert_eq!(postgres.endpoints[0].server.tls.mode, TlsMode::VerifyFull);
    let credentials = postgres.endpoints[0].server.credentials.as_ref().unwrap();
    assert_eq!((credentials.secret.as_str(), credentials.password_key.as_str()), ("pg-eu", "password"));
    assert!(postgres.placement[0].tables[0].matches("shop", "orders_us"));
    assert_eq!(postgres.placement[0].partitions_of[0].table, "orders_us");
    assert!(postgres.selection.takes("shop", "x") && postgres.selection.takes("public", "x"));
    assert!(!postgres.selection.takes("audit", "x") && !postgres.selection.takes("other", "x"));
}

#[test]
fn the_least_backup_has_the_documented_defaults() {
    let spec = backup(
        "apiVersion: vouchsafe.dev/v1alpha1\nkind: Backup\nmetadata: {name: b}\nspec:\n  storeRef: {name: s}\n  \
         source: {postgres: {database: d, endpoints: [{name: one, host: localhost}]}}\n",
    )
    .spec;
    assert_eq!((spec.layer, spec.parallelism.get()), (LayerChoice::Auto, 2));
    assert_eq!((spec.collection, spec.rate_limit, spec.deadline), (None, None, None));
    let server = &spec.source.endpoints[0].server;
    assert_eq!((server.port, server.tls.mode, server.tls.ca.is_none()), (5432, TlsMode::VerifyFull, true));
    assert!(server.credentials.is_none() && spec.source.selection.is_everything());
    assert_eq!(spec.source.unplaced, Unplaced::Fail);
}

#[test]
fn a_restore() {
    let Document::Restore(restore) = one(RESTORE) else { panic!("no Restore") };
    let restore = ValidatedRestore::try_from(*restore).unwrap_or_else(|refusals| panic!("{refusals}"));
    let from = ValidatedFrom::Run { store: "orders".into(), collection: Some("shop".into()), run: Some(3) };
    assert_eq!(restore.from, from);
    assert_eq!(restore.mode, RestoreMode::CreateDatabase);
    assert_eq!(restore.target.server.port, 5433);
    let bundle = KeyRef { name: "bundle".into(), key: "rds.pem".into() };
    assert_eq!(restore.target.server.tls.ca, Some(CaRef::ConfigMap(bundle)));
    assert_eq!((restore.missing_roles, restore.privileges), (MissingRoles::Create, Privileges::Skip));
    assert!(restore.dry_run && !restore.schema_only);
}

#[test]
fn a_schedule() {
    let Document::BackupSchedule(schedule) = one(SCHEDULE) else { panic!("no BackupSchedule") };
    let schedule = ValidatedSchedule::try_from(*schedule).unwrap_or_else(|refusals| panic!("{refusals}"));
    assert_eq!(schedule.full, FullSchedule::At("@weekly".into()));
    assert_eq!(schedule.jitter, Some(Duration::from_secs(300)));
    assert_eq!(schedule.retention.unwrap().keep_monthly, Some(12));
    assert_eq!(schedule.template.collection.as_deref(), Some("shop"));
}

#[test]
fn secrets_and_config_maps() {
    let documents = parse_documents(OBJECTS).unwrap();
    let Document::Secret(secret) = &documents[0] else { panic!("no Secret") };
    assert_eq!(secret.get("password"), Some(b"hunter2".as_slice()));
    assert_eq!(secret.get("host"), Some(b"pg-eu.shop.svc".as_slice()));
    assert!(!format!("{documents:?}").contains("hunter2"));
    let Document::ConfigMap(bundle) = &documents[1] else { panic!("no ConfigMap") };
    assert_eq!(bundle.keys().collect::<Vec<_>>(), ["rds.pem"]);
}

#[test]
fn several_documents_with_empty_ones_between() {
    let documents = parse_documents(&format!("---{STORE}---\n---{BACKUP}---{OBJECTS}")).unwrap();
    let kinds: Vec<_> = documents.iter().map(Document::kind).collect();
    assert_eq!(kinds, ["BackupStore", "Backup", "Secret", "ConfigMap"]);
}

#[test]
fn what_an_api_server_gives_back_is_taken_again() {
    // `kubectl get -o yaml` adds metadata and a status.
    let yaml = BACKUP.replace(
        "metadata: {name: orders-1, namespace: shop}",
        "metadata: {name: orders-1, namespace: shop, uid: abc, generation: 1, managedFields: [{manager: x}], \
         creationTimestamp: 2026-11-20T10:00:00Z}\nstatus: {observedGeneration: -1}",
    );
    assert_eq!(backup(&yaml).identity.uid.as_deref(), Some("abc"));
}
