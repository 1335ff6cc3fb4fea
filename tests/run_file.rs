//! `vouchsafe run -f FILE`: what it refuses, by the field's name and with exit code 2, and one backup and restore
//! that it carries out.

#![allow(clippy::unwrap_used, reason = "what helpers of tests unwrap fails the test")]

use std::path::Path;
use std::process::{Command, Output};

use rstest::rstest;
use testbed::{PASSWORD, PgVersion, shared};

const STORE: &str = "apiVersion: vouchsafe.dev/v1alpha1
kind: BackupStore
metadata: {name: disk}
spec:
  localityPolicy: Strict
  destinations:
  - {name: eu, default: true, locality: region=eu-west1, file: {path: /nowhere/eu}}
  - {name: us, locality: region=us-east1, file: {path: /nowhere/us}}
";

const BACKUP: &str = "apiVersion: vouchsafe.dev/v1alpha1
kind: Backup
metadata: {name: shop-1}
spec:
  storeRef: {name: disk}
  collection: shop
  source:
    postgres:
      database: shop
      endpoints:
      - {name: one, locality: region=eu-west1, host: 127.0.0.1, port: 5432, tls: {mode: Disable},
         credentialsSecret: {name: pg}}
      placement:
      - {name: us, tables: [\"*.*_us\"], locality: region=us-east1}
      unplaced: Default
";

const RESTORE: &str = "apiVersion: vouchsafe.dev/v1alpha1
kind: Restore
metadata: {name: back}
spec:
  from: {backup: shop-1}
  target:
    postgres: {host: 127.0.0.1, port: 5432, database: shop_back, tls: {mode: Disable},
               credentialsSecret: {name: pg}}
";

const SECRET: &str = "apiVersion: v1
kind: Secret
metadata: {name: pg}
stringData: {username: postgres, password: \"hunter2\"}
";

/// Runs the binary on a file of these documents, without anybody's credentials in the environment.
fn run(documents: &[&str], arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("run.yaml");
    std::fs::write(&file, documents.join("---\n")).expect("the file is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vouchsafe"));
    command.arg("run").arg("-f").arg(&file).args(arguments);
    command.env("HOME", folder.path());
    for variable in ["PGUSER", "PGPASSWORD", "PGPASSFILE"] {
        command.env_remove(variable);
    }
    command.output().expect("the binary starts")
}

/// It was refused as a usage error, naming `field`, without telling a secret.
#[track_caller]
fn refused(output: &Output, field: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(field), "{field} is not named: {said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[rstest]
#[case::unknown_field(&BACKUP.replace("collection:", "colection:"), "spec.colection")]
#[case::missing_store(&BACKUP.replace("{name: disk}", "{name: disc}"), "spec.storeRef: BackupStore disc")]
#[case::unbuilt_field(&BACKUP.replace("  collection:", "  revisionHistory: true\n  collection:"), "spec.revisionHistory")]
#[case::unbuilt_type(&BACKUP.replace("  collection:", "  type: Incremental\n  collection:"), "spec.type")]
#[case::suspended(&BACKUP.replace("  collection:", "  suspend: true\n  collection:"), "spec.suspend")]
#[case::cancelled(&BACKUP.replace("  collection:", "  cancel: true\n  collection:"), "spec.cancel")]
#[case::bad_pattern(&BACKUP.replace("*.*_us", "orders_us"), "placement[us].tables[0]")]
#[case::missing_login(&BACKUP.replace("{name: pg}", "{name: other}"), "endpoints[one].credentialsSecret")]
#[case::missing_key(&BACKUP.replace("{name: pg}", "{name: pg, passwordKey: word}"), "has no key word")]
#[case::missing_ca(&BACKUP.replace("{mode: Disable}", "{ca: {configMap: {name: ca, key: pem}}}"), "tls.ca: ConfigMap ca")]
#[case::no_such_folder(BACKUP, "/nowhere/eu")]
fn a_bad_backup_is_refused(#[case] backup: &str, #[case] field: &str) {
    let output = run(&[backup, STORE, SECRET], &[]);
    if field == "/nowhere/eu" {
        // Not a wrong file, but a store that is not there.
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(field));
        return;
    }
    refused(&output, field);
}

#[rstest]
#[case::claim(&STORE.replace("path: /nowhere/us", "claim: backups, path: us"), "spec.destinations[us].file.claim")]
#[case::read_only(&STORE.replace("localityPolicy: Strict", "accessMode: ReadOnly"), "accessMode ReadOnly")]
#[case::unbuilt(&STORE.replace("localityPolicy: Strict", "encryption: {recipients: [age1xyz]}"), "spec.encryption")]
#[case::no_default(&STORE.replace("default: true, ", ""), "spec.destinations")]
fn a_bad_store_is_refused(#[case] store: &str, #[case] field: &str) {
    // The first folder must be there for the second one to be looked at.
    let folder = tempfile::tempdir().unwrap();
    let store = store.replace("/nowhere/eu", &folder.path().display().to_string());
    refused(&run(&[BACKUP, &store, SECRET], &[]), field);
}

#[rstest]
#[case::mode(&RESTORE.replace("  target:", "  createDatabase: false\n  target:"), "spec.createDatabase")]
#[case::roles(&RESTORE.replace("  target:", "  roles: {map: [{from: a, to: b}, {from: a, to: c}]}\n  target:"), "spec.roles.map[a]")]
#[case::point_in_time(&RESTORE.replace("  target:", "  pointInTime: {lsn: 0/1}\n  target:"), "spec.pointInTime")]
#[case::no_backup(&RESTORE.replace("backup: shop-1", "backup: other"), "spec.from.backup: Backup other")]
fn a_bad_restore_is_refused(#[case] restore: &str, #[case] field: &str) {
    refused(&run(&[restore, BACKUP, STORE, SECRET], &["--name", "back"]), field);
}

#[test]
fn one_of_several_must_be_chosen() {
    let second = BACKUP.replace("shop-1", "shop-2");
    refused(&run(&[BACKUP, &second, STORE, SECRET], &[]), "Backup/shop-1, Backup/shop-2");
    refused(&run(&[BACKUP, STORE], &["--name", "Restore/shop-1"]), "Restore/shop-1");
    refused(&run(&[STORE], &[]), "no Backup or Restore");
    refused(&run(&["kind: [", STORE], &[]), "not YAML");
}

#[test]
fn everything_wrong_is_said_at_once() {
    let backup = BACKUP.replace("  collection: shop", "  type: Incremental\n  revisionHistory: true");
    let output = run(&[&backup, STORE, SECRET], &[]);
    refused(&output, "spec.type");
    refused(&output, "spec.revisionHistory");
}

#[test]
fn a_backup_and_its_restore_are_carried_out() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("run_file");
    server
        .psql(
            &database,
            "CREATE TABLE orders_eu AS SELECT i, repeat('x', i % 50) t FROM generate_series(1, 5000) i;
             CREATE TABLE orders_us AS SELECT i, md5(i::text) t FROM generate_series(1, 3000) i;",
        )
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let place = folder.path().join(name);
        std::fs::create_dir(&place).unwrap();
        place
    };
    let (eu, us) = (place("eu"), place("us"));
    let shown = |path: &Path| path.display().to_string();
    let store = STORE.replace("/nowhere/eu", &shown(&eu)).replace("/nowhere/us", &shown(&us));
    let there = |text: &str| text.replace("port: 5432", &format!("port: {}", server.port()));
    let backup = there(BACKUP)
        .replace("database: shop", &format!("database: {database}"))
        .replace("*.*_us", "*.orders_u?")
        .replace("  collection:", "  executionLocality: region=eu-west1\n  collection:");
    let copy = format!("{database}_back");
    let restore = there(RESTORE).replace("shop_back", &copy);
    let secret = SECRET.replace("hunter2", PASSWORD);
    let documents = [&*backup, &*restore, &*store, &*secret];
    let tools = shown(&server.client_bin_dir());
    let done = |name: &str| {
        let output = run(&documents, &["--name", name, "--tools", &tools, "--output", "json"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
        (serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), said)
    };
    let (report, said) = done("Backup/shop-1");
    assert_eq!((report["run"].as_u64(), report["rows"].as_u64()), (Some(1), Some(8000)));
    assert!(said.contains("spec.executionLocality has no effect"), "{said}");
    // What the rule does not place is its endpoint's, the collection lies below each folder.
    assert!(eu.join("shop/runs").is_dir() && us.join("shop/runs").is_dir());
    let (report, _) = done("back");
    assert_eq!(report["rowsCompared"].as_u64(), Some(8000));
    let sum = "SELECT sum(hashtext(t::text)) FROM (TABLE orders_eu UNION ALL TABLE orders_us) t";
    assert_eq!(server.psql(&copy, sum).unwrap(), server.psql(&database, sum).unwrap());
    // Into a database that is there, for another owner, who is missing and so not made: the backup has no such role.
    let there = server.fresh_database("run_file_there");
    let into = restore
        .replace(&copy, &there)
        .replace("  target:", "  createDatabase: false\n  onExisting: IntoEmptySchemas\n  roles: {missing: Create}\n  owner: run_file_owner\n  target:");
    let documents = [&*backup, &*into, &*store, &*secret];
    let attempt = || run(&documents, &["--name", "back", "--tools", &tools, "--output", "json"]);
    let refused = attempt();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(said.contains("role \\\"run_file_owner\\\" is missing"), "{said}");
    server.psql("postgres", "CREATE ROLE run_file_owner").unwrap();
    server.psql(&there, "GRANT CREATE ON SCHEMA public TO run_file_owner").unwrap();
    let done = attempt();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    assert_eq!(server.psql(&there, sum).unwrap(), server.psql(&database, sum).unwrap());
    let owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(server.psql(&there, owners).unwrap().trim(), "run_file_owner");
    // What it made is found by the command line, too.
    let mut verify = Command::new(env!("CARGO_BIN_EXE_vouchsafe"));
    verify.args(["verify", "--tools", &tools]);
    for (locality, place) in [("region=eu-west1", &eu), ("region=us-east1", &us)] {
        verify.arg("--store").arg(format!("{locality}=file://{}", shown(&place.join("shop"))));
    }
    let verified = verify.output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// `vouchsafe … | head` ends as if all had been read.
#[test]
fn a_reader_that_leaves_is_no_panic() {
    let missing = ["--output", "json", "list", "--store", "file:///there/is/no/such/folder"];
    for (arguments, code) in [(&["crds"][..], 0), (&["completions", "bash"][..], 0), (&missing[..], 1)] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vouchsafe"));
        command.args(arguments).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}
