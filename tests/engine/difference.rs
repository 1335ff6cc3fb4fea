//! What differs between a backup and a database, or another backup.

use testbed::{PgVersion, shared};
use vouchsafe::engine::diff::{TableDifference, with_backup, with_database};
use vouchsafe::engine::progress::Progress;
use vouchsafe::engine::{BackupJob, back_up, backups};

use super::setup;

/// The hash of an enum's value is another one in another database, so rows of `tree` lie in other leaves there.
const TABLES: &str = "CREATE TABLE a (id int primary key, t text);
    INSERT INTO a SELECT i, 'row ' || i FROM generate_series(1, 500) i;
    CREATE TABLE empty (x int); CREATE TABLE same (x int); INSERT INTO same VALUES (1);
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'well', 'glad', 'proud', 'calm', 'shy', 'bold');
    CREATE TABLE tree (m mood, n int) PARTITION BY HASH (m);
    CREATE TABLE leaf_0 PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE leaf_1 PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO tree SELECT m, n FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 20) n;";

fn names(differences: &[TableDifference]) -> Vec<(String, Option<u64>, Option<u64>)> {
    differences.iter().map(|it| (it.name.to_string(), it.left, it.right)).collect()
}

async fn opened(job: &BackupJob) -> backups::Backup {
    let run = back_up(job).await.unwrap().run;
    backups::open(&job.destinations, &job.register, run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn differing_tables_are_named_and_no_others() {
    let server = shared(PgVersion::V15);
    let [ours, theirs] = ["differs", "differs_from"].map(|stem| {
        let database = server.fresh_database(stem);
        server.psql(&database, TABLES).unwrap();
        database
    });
    let leaves = "SELECT count(*) FROM leaf_0";
    // Databases of this cluster differ in the enum's oids; in which leaf a value lies may still be the same.
    let moved = server.psql(&ours, leaves).unwrap() != server.psql(&theirs, leaves).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let destinations = setup::destinations(vec![("default", setup::folder(&folder).await)]);
    let job = setup::job(server, &ours, destinations);
    let first = opened(&job).await;
    let plan = first.plan(&job.register).await.unwrap();
    let endpoint = setup::endpoint(server, &theirs);
    let progress = Progress::silent();
    let compare = async || with_database(&first, &plan, &endpoint, 2, &progress).await.unwrap();
    assert_eq!(names(&compare().await), [], "rows in other leaves: {moved}");

    let change =
        "UPDATE a SET t = 'another' WHERE id = 77; DROP TABLE empty; INSERT INTO tree VALUES ('shy', 21)";
    server.psql(&theirs, change).unwrap();
    let found = [
        ("public.a".to_owned(), Some(500), Some(500)),
        ("public.empty".to_owned(), Some(0), None),
        ("public.tree".to_owned(), Some(160), Some(161)),
    ];
    assert_eq!(names(&compare().await), found);

    server.psql(&ours, "UPDATE a SET t = 'another' WHERE id = 77; DROP TABLE empty").unwrap();
    let second = opened(&job).await;
    assert_eq!(names(&with_backup(&first, &first)), []);
    assert_eq!(names(&with_backup(&first, &second)), found[..2]);
}
