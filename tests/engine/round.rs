use testbed::{PgVersion, shared};
use vouchsafe::engine::progress::Progress;
use vouchsafe::engine::{back_up, backups};

use super::setup;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_sealed_and_verifies() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("round");
    server
        .psql(
            &database,
            "CREATE TABLE a(id int primary key, t text);
             INSERT INTO a SELECT i, repeat('x', i % 100) FROM generate_series(1, 20000) i;
             CREATE TABLE empty(x int); CREATE TABLE nothing(); INSERT INTO nothing DEFAULT VALUES;",
        )
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let destinations = setup::destinations(vec![("default", setup::folder(&folder).await)]);
    let job = setup::job(server, &database, destinations.clone());
    let sealed = back_up(&job).await.unwrap();
    assert_eq!(sealed.run, 1);
    assert_eq!(sealed.manifest.rows, 20_001);
    assert!(sealed.manifest.tables.iter().any(|table| table.tickets > 3), "{:?}", sealed.manifest.tables);
    let progress = Progress::silent();
    let verified =
        backups::verify(&destinations, &job.register, None, &job.tools, 2, &progress).await.unwrap();
    assert!(verified.damages.is_empty(), "{:?}", verified.damages);
    assert_eq!(verified.rows, 20_001);
}
