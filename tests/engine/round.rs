use std::sync::Arc;

use testbed::{PgVersion, S3Kind, shared, shared_s3};
use vouchsafe::engine::interrupt::Interrupt;
use vouchsafe::engine::progress::Progress;
use vouchsafe::engine::restore::{RestoreJob, RestorePolicy, restore};
use vouchsafe::engine::{BackupJob, back_up, backups};
use vouchsafe::plan::placement::{PlacementRule, Unplaced};
use vouchsafe::source::{Selection, TablePattern};

use super::setup;

fn restore_job(job: &BackupJob, target: vouchsafe::source::EndpointConfig) -> RestoreJob {
    let (interrupt, _) = Interrupt::new();
    RestoreJob {
        destinations: job.destinations.clone(),
        register: job.register.clone(),
        run: None,
        expect_manifest: None,
        target,
        maintenance_database: "postgres".into(),
        selection: Selection::default(),
        schema_only: false,
        dry_run: false,
        no_owner: false,
        no_privileges: false,
        policy: RestorePolicy::default(),
        parallelism: 2,
        tools: job.tools.clone(),
        interrupt,
        progress: Progress::silent(),
    }
}

const SHOP: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE a(id int primary key, t text, m mood);
    INSERT INTO a SELECT i, repeat('x', i % 100), 'ok' FROM generate_series(1, 20000) i;
    CREATE TABLE empty(x int); CREATE TABLE nothing(); INSERT INTO nothing DEFAULT VALUES;
    CREATE TABLE refers(id serial, a int REFERENCES a); INSERT INTO refers(a) SELECT generate_series(1, 50);
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM a;
    SELECT lo_from_bytea(4711, decode(repeat('00ff', 5000), 'hex'));";

/// Backed up, verified, restored and compared by SQL that shares no code with us, on every version.
async fn round_trip(version: PgVersion) {
    let server = shared(version);
    let database = server.fresh_database("round");
    server.psql(&database, SHOP).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let destinations = setup::destinations(vec![("default", setup::folder(&folder).await)]);
    let job = setup::job(server, &database, destinations.clone());
    let sealed = back_up(&job).await.unwrap();
    assert_eq!((sealed.run, sealed.manifest.rows), (1, 20_051));
    let spans = sealed.manifest.tables.iter().map(|table| table.tickets).max();
    assert!(version.major() < 14 || spans > Some(3), "{spans:?}");
    let progress = Progress::silent();
    let verified =
        backups::verify(&destinations, &job.register, None, &job.tools, 2, &progress).await.unwrap();
    assert!(verified.damages.is_empty(), "{:?}", verified.damages);
    let restored = format!("{database}_restored");
    let outcome = restore(&restore_job(&job, setup::endpoint(server, &restored))).await.unwrap();
    assert_eq!(outcome.tables.iter().map(|table| table.fingerprint.rows).sum::<u64>(), 20_051);
    let look = "SELECT count(*), sum(hashtext(a::text)) FROM a; SELECT * FROM counted;
        SELECT count(*), max(a) FROM refers; SELECT nextval('refers_id_seq');
        SELECT md5(lo_get(4711)); SELECT count(*) FROM pg_constraint WHERE conrelid = 'refers'::regclass;";
    assert_eq!(server.psql(&restored, look).unwrap(), server.psql(&database, look).unwrap());
    let again = restore(&restore_job(&job, setup::endpoint(server, &restored))).await.unwrap_err();
    assert!(again.to_string().contains(&restored), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_13_is_proven_and_restored() {
    round_trip(PgVersion::V13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_14_is_proven_and_restored() {
    round_trip(PgVersion::V14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_15_is_proven_and_restored() {
    round_trip(PgVersion::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_16_is_proven_and_restored() {
    round_trip(PgVersion::V16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_17_is_proven_and_restored() {
    round_trip(PgVersion::V17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_18_is_proven_and_restored() {
    round_trip(PgVersion::V18).await;
}

/// Two destinations on two kinds of servers, each table in its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_into_buckets_is_proven_and_restored() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("buckets");
    server.psql(&database, SHOP).unwrap();
    let (minio, seaweed) = (shared_s3(S3Kind::Minio), shared_s3(S3Kind::SeaweedFs));
    let destinations = setup::destinations(vec![
        ("region=eu", setup::bucket(minio).await),
        ("region=us", setup::bucket(seaweed).await),
    ]);
    let mut job = setup::job(server, &database, destinations.clone());
    let rule = |table: &str, region: &str| PlacementRule {
        name: table.into(),
        tables: vec![TablePattern::parse(table).unwrap()],
        partitions_of: Vec::new(),
        locality: region.parse().unwrap(),
    };
    job.placement.rules = vec![rule("public.a", "region=us"), rule("*.*", "region=eu")];
    job.placement.unplaced = Unplaced::Default;
    let sealed = back_up(&job).await.unwrap();
    assert!(
        sealed.manifest.destinations.iter().all(|it| it.objects > 2),
        "{:?}",
        sealed.manifest.destinations
    );
    let restored = format!("{database}_restored");
    restore(&restore_job(&job, setup::endpoint(server, &restored))).await.unwrap();
    let look = "SELECT count(*), sum(hashtext(a::text)) FROM a; SELECT md5(lo_get(4711))";
    assert_eq!(server.psql(&restored, look).unwrap(), server.psql(&database, look).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_into_a_newer_server() {
    let (source, target) = (shared(PgVersion::V15), shared(PgVersion::V16));
    let database = source.fresh_database("upgrade");
    source.psql(&database, SHOP).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let destinations = setup::destinations(vec![("default", setup::folder(&folder).await)]);
    let mut job = setup::job(source, &database, destinations);
    back_up(&job).await.unwrap();
    job.tools = vouchsafe::source::Tools::only(&[target.client_bin_dir()]);
    let outcome = restore(&restore_job(&job, setup::endpoint(target, &database))).await.unwrap();
    assert_eq!(outcome.run, 1);
    let look = "SELECT count(*), sum(hashtext(a::text)) FROM a";
    assert_eq!(target.psql(&database, look).unwrap(), source.psql(&database, look).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_is_loaded_and_the_sum_stays_constant() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("load");
    let setup_sql = "CREATE TABLE balance(id int primary key, amount bigint);
         INSERT INTO balance SELECT i, 1000 FROM generate_series(1, 5000) i";
    server.psql(&database, setup_sql).unwrap();
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (stop, name) = (ended.clone(), database.clone());
    let transfers = std::thread::spawn(move || {
        let mut rounds = 0_u32;
        let transfer = "UPDATE balance SET amount = amount + CASE WHEN id % 2 = 0 THEN 7 ELSE -7 END
              WHERE id BETWEEN 1 AND 5000;";
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            server.psql(&name, transfer).unwrap();
            rounds += 1;
        }
        rounds
    });
    let folder = tempfile::tempdir().unwrap();
    let destinations = setup::destinations(vec![("default", setup::folder(&folder).await)]);
    let job = setup::job(server, &database, destinations);
    let sealed = back_up(&job).await.unwrap();
    ended.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(transfers.join().unwrap() > 0, "no transfer happened meanwhile");
    assert!(sealed.manifest.tables[0].tickets > 1);
    let restored = format!("{database}_restored");
    restore(&restore_job(&job, setup::endpoint(server, &restored))).await.unwrap();
    let sum = server.psql(&restored, "SELECT count(*), sum(amount) FROM balance").unwrap();
    assert_eq!(sum.trim(), "5000|5000000");
}
