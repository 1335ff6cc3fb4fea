use std::sync::Arc;

use testbed::{PgVersion, S3Kind, shared, shared_s3};
use vouchsafe::engine::interrupt::Interrupt;
use vouchsafe::engine::progress::Progress;
use vouchsafe::engine::restore::{RestoreJob, RestorePolicy, restore};
use vouchsafe::engine::{BackupJob, back_up};
use vouchsafe::plan::placement::{PlacementRule, Unplaced};
use vouchsafe::source::{Selection, TablePattern};

use super::setup;

pub(super) fn restore_job(job: &BackupJob, target: vouchsafe::source::EndpointConfig) -> RestoreJob {
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

/// Several spans, empty tables, a reference, a view and a large object.
pub(super) const SHOP: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE a(id int primary key, t text, m mood);
    INSERT INTO a SELECT i, repeat('x', i % 100), 'ok' FROM generate_series(1, 20000) i;
    CREATE TABLE empty(x int); CREATE TABLE nothing(); INSERT INTO nothing DEFAULT VALUES;
    CREATE TABLE refers(id serial, a int REFERENCES a); INSERT INTO refers(a) SELECT generate_series(1, 50);
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM a;
    SELECT lo_from_bytea(4711, decode(repeat('00ff', 5000), 'hex'));";

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
async fn the_source_is_loaded_and_the_sum_stays_constant() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("load");
    let setup_sql = "CREATE TABLE balance(id int primary key, amount bigint);
         INSERT INTO balance SELECT i, 1000 FROM generate_series(1, 5000) i;
         CREATE TABLE savings(id int primary key, amount bigint);
         INSERT INTO savings SELECT i, 1000 FROM generate_series(1, 5000) i";
    server.psql(&database, setup_sql).unwrap();
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (stop, name) = (ended.clone(), database.clone());
    let transfers = std::thread::spawn(move || {
        let mut rounds = 0_u32;
        // From one table to the other, between rows that lie apart: two snapshots would show another sum.
        let transfer = "WITH chosen AS (
                SELECT 1 + (random() * 4999)::int AS one, 1 + (random() * 4999)::int AS other, 1 + (random() * 99)::int AS sum
            ), taken AS (
                UPDATE balance SET amount = amount - chosen.sum FROM chosen WHERE id = chosen.one
            )
            UPDATE savings SET amount = amount + chosen.sum FROM chosen WHERE id = chosen.other;";
        let transfer = transfer.repeat(50);
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            server.psql(&name, &transfer).unwrap();
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
    assert!(sealed.manifest.tables.iter().all(|table| table.tickets > 1));
    let restored = format!("{database}_restored");
    restore(&restore_job(&job, setup::endpoint(server, &restored))).await.unwrap();
    let both = "SELECT count(*), sum(amount) FROM (TABLE balance UNION ALL TABLE savings) AS both_tables";
    assert_eq!(server.psql(&restored, both).unwrap().trim(), "10000|10000000");
    let apart = "SELECT sum(amount) = 5000000 FROM balance";
    assert_eq!(server.psql(&database, apart).unwrap().trim(), "f", "nothing was moved between the tables");
}
