//! Backups that die while they write into a bucket, also between the parts of an upload, and the same command again:
//! undisturbed, or met by a fault of the store.

use std::path::Path;
use std::process::{Command, Stdio};

use testbed::{FaultProxy, PASSWORD, S3Kind, S3Server, WireFault, WireRule};
use vouchsafe::engine::Register;
use vouchsafe::format::Decision;

use super::kill::{Left, killed_at};
use super::setup;
use super::shop::{Shop, run};

/// One span, whose object is stored in parts: some 10 MiB after compression, and the first part has 8.
const LARGE: &str = "
    CREATE TABLE large AS SELECT i, (SELECT string_agg(md5(random()::text || j || i), '') AS noise
        FROM generate_series(1, 128) j) FROM generate_series(1, 5000) i;
    CREATE SEQUENCE numbers START 7;";

const PLACES: [(&str, Left); 8] = [
    ("created run", Left::Run),
    ("created plan", Left::Run),
    ("completing rows", Left::Run),
    ("completed rows", Left::Run),
    ("created receipt", Left::Run),
    ("created census", Left::Plan),
    ("created manifest", Left::Plan),
    ("created outcome", Left::Backup),
];

/// A bucket of its own on a MinIO of its own: what lies in the folders of that one is this test's alone.
struct Bucket {
    shop: Shop,
    server: S3Server,
    proxy: FaultProxy,
    bucket: String,
}

impl Bucket {
    fn open(stem: &str) -> Self {
        let server = S3Server::start(S3Kind::Minio);
        let (bucket, proxy) = (server.fresh_bucket("kill"), FaultProxy::start(server.port()));
        Self { shop: Shop::with(stem, LARGE), server, proxy, bucket }
    }

    fn url(&self, endpoint: &str) -> String {
        format!("s3://{}/backups?region={}&endpoint={endpoint}", self.bucket, self.server.region())
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vouchsafe"));
        command.arg(subcommand).args(["--output", "json", "--heartbeat", "1s"]);
        command.args(["--store", &self.url(&self.proxy.endpoint())]);
        command.arg("--tools").arg(self.shop.server.client_bin_dir());
        command.env("AWS_ACCESS_KEY_ID", self.server.access_key());
        command.env("AWS_SECRET_ACCESS_KEY", self.server.secret_key());
        command.env("PGPASSWORD", PASSWORD).env("VOUCHSAFE_STRICT", "1");
        for name in ["VOUCHSAFE_MUTANT", "VOUCHSAFE_LOG", "VOUCHSAFE_KILL_AT", "VOUCHSAFE_STOP_AT"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn backup(&self) -> Command {
        let mut command = self.command("backup");
        command.args(["--source", &self.shop.url(&self.shop.database)]);
        command
    }

    async fn register(&self) -> Register {
        let store = setup::bucket_at(&self.server, &self.url(&self.server.endpoint())).await;
        Register::new(store, setup::HEARTBEAT)
    }

    /// Uploads that were begun and neither completed nor aborted: MinIO keeps a folder of each.
    fn unfinished(&self) -> usize {
        let folders = |path: &Path| -> Vec<_> {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
        };
        let of_objects = folders(&self.server.data_dir().join(".minio.sys/multipart"));
        of_objects.iter().map(|path| folders(path).len()).sum()
    }

    /// The run is sealed, every byte reads as it should, and what is restored is the source.
    async fn must_be_proven(&self, sealed: u32, place: &str) {
        let decided = self.register().await.outcome(sealed).await.unwrap();
        let decision = decided.map(|decided| decided.outcome.decision);
        assert!(matches!(decision, Some(Decision::Sealed { .. })), "{place}: {decision:?}");
        run(self.command("verify")).must_succeed();
        let database = format!("{}_restored", self.shop.database);
        let mut restore = self.command("restore");
        restore.args(["--target", &self.shop.url(&database)]);
        run(restore).must_succeed();
        let look = "SELECT count(*), md5(string_agg(l::text, ',' ORDER BY i)) FROM large l;
            SELECT last_value, is_called FROM numbers";
        assert_eq!(self.shop.server.psql(&database, look).unwrap(), self.shop.sql(look), "{place}");
        self.shop.server.psql("postgres", &format!("DROP DATABASE {database}")).unwrap();
    }
}

/// What was dead between the parts of an upload stays unfinished: the bucket's lifecycle rule removes it
/// (docs/retention.md). The repetition leaves nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_into_a_bucket_killed_anywhere_is_brought_to_its_seal_by_the_same_command() {
    let bucket = Bucket::open("kill_bucket");
    for (place, left) in PLACES {
        let (before, unfinished) = (bucket.register().await.newest().await.unwrap(), bucket.unfinished());
        killed_at(place, bucket.backup());
        let claimed = bucket.register().await.newest().await.unwrap();
        assert_eq!(claimed, before + 1, "{place}");
        let decided = bucket.register().await.outcome(claimed).await.unwrap().is_some();
        assert_eq!(decided, left == Left::Backup, "{place}");
        let abandoned = bucket.unfinished();
        if place == "completing rows" {
            assert!(abandoned > unfinished, "{place}: the upload was not in parts");
        }
        run(bucket.backup()).must_succeed();
        assert_eq!(bucket.unfinished(), abandoned, "{place}: the repetition has left an upload");
        let sealed = bucket.register().await.newest().await.unwrap();
        assert_eq!(sealed, claimed + u32::from(left == Left::Backup), "{place}");
        bucket.must_be_proven(sealed, place).await;
    }
}

/// The repetition is met by a fault where it takes up what the dead one had left.
#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_that_meets_a_fault_of_the_store_is_proven() {
    let bucket = Bucket::open("kill_fault");
    let faults = [
        ("completing rows", WireRule::at(0, WireFault::ResetInRequest).only("PUT ").only("partNumber=1")),
        (
            "created census",
            WireRule::at(0, WireFault::LostAcknowledgement).only("PUT ").only("/manifest.json"),
        ),
    ];
    for (place, rule) in faults {
        bucket.proxy.set(Vec::new());
        killed_at(place, bucket.backup());
        let claimed = bucket.register().await.newest().await.unwrap();
        bucket.proxy.set(vec![rule]);
        run(bucket.backup()).must_succeed();
        assert_eq!(bucket.proxy.fired().len(), 1, "{place}");
        assert_eq!(bucket.register().await.newest().await.unwrap(), claimed, "{place}: another run");
        bucket.must_be_proven(claimed, place).await;
    }
}
