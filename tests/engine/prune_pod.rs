//! `vouchsafe pruner` and `vouchsafe deleter`, as the controller starts it: a mounted file of objects, mounted Secrets, a last word.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use testbed::{PASSWORD, PgVersion, Postgres, shared};
use vouchsafe::api::LastWord;

use super::shop::{Ended, objects_of, run};

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
        let (ended, word) = self.process(&["pruner", "--schedule", "nightly"], objects, options, &[]);
        let word = word.unwrap_or_else(|| panic!("{ended:?}"));
        (ended, word)
    }

    fn process(
        &self,
        process: &[&str],
        objects: &str,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> (Ended, Option<LastWord>) {
        std::fs::write(self.path("objects.yaml"), objects).unwrap();
        let files = ["--objects", "--secrets", "--config-maps", "--last-word"];
        let paths = ["objects.yaml", "secrets", "config-maps", "last-word"].map(|name| self.path(name));
        let _ = std::fs::remove_file(&paths[3]);
        let mut command = self.command(process);
        command.envs(environment.iter().copied());
        command.args(files.iter().zip(&paths).flat_map(|(option, path)| [*option, path]));
        let ended = run({
            command.args(options);
            command
        });
        let word = std::fs::read_to_string(Path::new(&paths[3])).ok();
        (ended, word.map(|word| LastWord::parse(&word).unwrap_or_else(|| panic!("{word}"))))
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

/// A Backup whose UID is `uid`, and the store of [`objects`].
fn backup(uid: &str, policy: &str, destination: &str) -> String {
    let store = objects("", destination);
    let (_, store) = store.split_once("---").unwrap();
    format!(
        "apiVersion: vouchsafe.dev/v1alpha1
kind: Backup
metadata: {{name: first, namespace: shop, uid: {uid}}}
spec:
  storeRef: {{name: disk}}
  collection: shop
  deletionPolicy: {policy}
  source: {{postgres: {{database: shop, endpoints: [{{name: one, host: pg}}]}}}}
---{store}"
    )
}

/// Killed wherever it has a name, and begun again, as the controller does it: what its UID has claimed goes, and what
/// another has stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleter_takes_what_the_buckets_own_documents_say_is_the_backups() {
    let server = shared(PgVersion::V15);
    let pod = Pod { server, folder: TempDir::new().unwrap() };
    let database = server.fresh_database("delete_pod");
    server
        .psql(&database, "CREATE TABLE t AS SELECT i FROM generate_series(1, 50) i; CREATE TABLE u (i int)")
        .unwrap();
    std::fs::create_dir_all(pod.folder.path().join("backups/shop")).unwrap();
    let store = format!("file://{}", pod.path("backups/shop"));
    let source = format!("postgres://postgres@127.0.0.1:{}/{database}", server.port());
    // Another command is another owner.
    for more in [&[][..], &["--exclude-table", "public.u"], &[]] {
        let mut command = pod.command(&["backup", "--store", &store, "--source", &source]);
        command.args(more);
        run(command).must_succeed();
    }
    let owner = |number: u32| -> String {
        let text = std::fs::read(pod.path(&format!("backups/shop/runs/{number:08}/run.json"))).unwrap();
        let claim: serde_json::Value = serde_json::from_slice(&text).unwrap();
        claim["body"]["owner"].as_str().unwrap().to_owned()
    };
    assert_eq!((owner(1) == owner(3), owner(1) == owner(2)), (true, false));
    // Objects that hold data: of a run's history nothing ever goes.
    let data = |number: u32| {
        let all = objects_of(&pod.folder.path().join(format!("backups/shop/runs/{number:08}")), false);
        all.iter().filter(|path| path.to_string_lossy().ends_with(".zst")).count()
    };
    let others = data(2);
    assert!(data(1) > 0 && others > 0 && data(3) > 0);
    let here = format!("{{name: here, default: true, file: {{path: {}}}}}", pod.path("backups"));
    let delete = |policy: &str, environment: &[(&str, &str)]| {
        let objects = backup(&owner(1), policy, &here);
        pod.process(&["deleter", "--backup", "first"], &objects, &[], environment)
    };
    let (_, word) = delete("Retain", &[]);
    assert!(matches!(word, Some(LastWord::Failed { again: false, .. })), "{word:?}");
    for place in ["planned prune", "sealed prune", "deleted object"] {
        let (ended, word) = delete("Delete", &[("VOUCHSAFE_KILL_AT", place)]);
        assert_eq!((ended.signal.is_some(), &word), (true, &None), "it was not killed at {place}: {ended:?}");
        assert_eq!(data(2), others, "{place}");
    }
    let (ended, word) = delete("Delete", &[]);
    ended.must_succeed();
    let Some(LastWord::Pruned { deleted_objects, refused_objects: 0, waiting: 0, failure: None, .. }) = word
    else {
        panic!("{word:?}")
    };
    assert!(deleted_objects > 0);
    assert_eq!((data(1), data(2), data(3)), (0, others, 0));
    let mut verify = pod.command(&["verify", "--store", &store]);
    verify.args(["--output", "json"]);
    let verified = run(verify);
    verified.must_succeed();
    assert!(
        verified.stdout.contains(r#""run":2"#) || verified.stdout.contains(r#""run": 2"#),
        "{verified:?}"
    );
    let (_, word) = delete("Delete", &[]);
    let Some(LastWord::Pruned { run: None, deleted_objects: 0, failure: None, .. }) = word else {
        panic!("{word:?}")
    };
}
