//! `vouchsafe pruner`, as the controller starts it: a mounted file of objects, mounted Secrets, a last word.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use testbed::{PASSWORD, PgVersion, Postgres, shared};
use vouchsafe::api::LastWord;

use super::shop::{Ended, run};

/// A schedule that keeps two backups of the collection `shop`, and its store.
fn objects(retention: &str, destination: &str) -> String {
    format!(
        "apiVersion: vouchsafe.dev/v1alpha1
kind: BackupSchedule
metadata: {{name: nightly, namespace: shop, uid: 4f9d1c52-5d0e-4c0e-9d0f-0d1c2b3a4f5e}}
spec:
  schedule: \"@daily\"
  timeZone: Europe/Berlin
  fullSchedule: Always
{retention}  template:
    spec:
      storeRef: {{name: disk}}
      collection: shop
      source: {{postgres: {{database: shop, endpoints: [{{name: one, host: pg}}]}}}}
---
apiVersion: vouchsafe.dev/v1alpha1
kind: BackupStore
metadata: {{name: disk, namespace: shop}}
spec:
  destinations:
  - {destination}
"
    )
}

const KEEP_TWO: &str = "  retention: {keepLast: 2}\n";

struct Pod {
    server: &'static Postgres,
    folder: TempDir,
}

impl Pod {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vouchsafe"));
        command.args(words).arg("--tools").arg(self.server.client_bin_dir());
        command.env("PGPASSWORD", PASSWORD).env("VOUCHSAFE_STRICT", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn prune(&self, objects: &str, options: &[&str]) -> (Ended, LastWord) {
        std::fs::write(self.path("objects.yaml"), objects).unwrap();
        let files = ["--objects", "--secrets", "--config-maps", "--last-word"];
        let paths = ["objects.yaml", "secrets", "config-maps", "last-word"].map(|name| self.path(name));
        let mut command = self.command(&["pruner", "--schedule", "nightly"]);
        command.args(files.iter().zip(&paths).flat_map(|(option, path)| [*option, path]));
        let ended = run({
            command.args(options);
            command
        });
        let word = std::fs::read_to_string(Path::new(&paths[3])).unwrap_or_else(|_| panic!("{ended:?}"));
        (ended, LastWord::parse(&word).unwrap_or_else(|| panic!("{word}")))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pruner_takes_what_is_proposed_and_not_kept_and_says_so() {
    let server = shared(PgVersion::V15);
    let pod = Pod { server, folder: TempDir::new().unwrap() };
    let database = server.fresh_database("prune_pod");
    server.psql(&database, "CREATE TABLE t AS SELECT i FROM generate_series(1, 50) i").unwrap();
    std::fs::create_dir_all(pod.folder.path().join("backups/shop")).unwrap();
    let store = format!("file://{}", pod.path("backups/shop"));
    let source = format!("postgres://postgres@127.0.0.1:{}/{database}", server.port());
    for _ in 0..4 {
        run(pod.command(&["backup", "--store", &store, "--source", &source])).must_succeed();
    }
    let here = format!("{{name: here, default: true, file: {{path: {}}}}}", pod.path("backups"));
    let pruned = |word: &LastWord| match word {
        LastWord::Pruned { run, retired, deleted_objects, waiting, failure: None, .. } => {
            (*run, *retired, *deleted_objects, *waiting)
        }
        word => panic!("{word:?}"),
    };
    let gone = |word: &LastWord| match word {
        LastWord::Pruned { gone, .. } => gone.clone(),
        word => panic!("{word:?}"),
    };
    // Nothing is proposed; or everything is, and nothing is to be kept apart.
    let (ended, word) = pod.prune(&objects(KEEP_TWO, &here), &[]);
    ended.must_succeed();
    assert_eq!(pruned(&word), (None, 0, 0, 0));
    let (_, word) = pod.prune(&objects("", &here), &["--run", "1", "--run", "2"]);
    assert_eq!(pruned(&word), (None, 0, 0, 0));
    // Of what is proposed, only what the retention doesn't keep: 3 and 4 are the last two. 9 is none.
    let (_, word) = pod.prune(&objects(KEEP_TWO, &here), &["--run", "1", "--run", "3", "--run", "9"]);
    assert_eq!((pruned(&word), gone(&word)), ((Some(5), 1, 0, 1), vec![1]));
    let outcome = std::fs::read_to_string(pod.path("backups/shop/runs/00000005/outcome.json")).unwrap();
    assert!(outcome.contains(r#"{"pruned":{"survivor":4,"retired":[{"run":1,"#), "{outcome}");
    // Its word was lost: another attempt finds it done, and says which ones are gone.
    let (_, word) = pod.prune(&objects(KEEP_TWO, &here), &["--run", "1", "--run", "3", "--run", "9"]);
    assert_eq!((pruned(&word), gone(&word)), ((None, 0, 0, 1), vec![1]));
}

/// With the writer's credentials alone there is no prune, and with a Secret that isn't mounted none either.
#[tokio::test(flavor = "multi_thread")]
async fn a_pruner_without_credentials_of_its_own_is_refused_by_name() {
    let pod = Pod { server: shared(PgVersion::V15), folder: TempDir::new().unwrap() };
    let bucket = "name: eu, default: true, s3: {bucket: backups, region: eu-west-1}, credentialsSecret: {name: writer}";
    let cases = [
        (format!("{{{bucket}}}"), "DeleteCredentialsMissing"),
        (format!("{{{bucket}, deleteCredentialsSecret: {{name: deleter}}}}"), "ReferenceMissing"),
    ];
    for (destination, wanted) in cases {
        let (ended, word) = pod.prune(&objects(KEEP_TWO, &destination), &["--run", "1"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let LastWord::Failed { failure, again: false } = word else { panic!("{word:?}") };
        assert_eq!(failure.reason, wanted, "{failure:?}");
        assert!(failure.message.contains("deleteCredentialsSecret"), "{failure:?}");
    }
}
