//! The type zoo through the engine: backed up, verified, and restored into the same major version and the next
//! one, compared by SQL and pg_dump that share no code with us.

use std::path::{Path, PathBuf};

use testbed::{PgVersion, Postgres, shared};
use vouchsafe::engine::progress::Progress;
use vouchsafe::engine::restore::restore;
use vouchsafe::engine::{back_up, backups};
use vouchsafe::source::Tools;

use super::compare::{Side, definitions, differences, values};
use super::round::{SHOP, restore_job};
use super::{setup, shop};

/// The builds of 16 and 18 that tests use have neither libxml nor contrib.
fn has_libraries(version: PgVersion) -> bool {
    !matches!(version, PgVersion::V16 | PgVersion::V18)
}

fn zoo(server: &Postgres, libraries: bool) -> String {
    server.psql("postgres", include_str!("../fixtures/zoo_roles.sql")).unwrap();
    let database = server.fresh_database("zoo");
    let of_version = [
        (13, include_str!("../fixtures/zoo.sql")),
        (14, include_str!("../fixtures/zoo_14.sql")),
        (15, include_str!("../fixtures/zoo_15.sql")),
        (17, include_str!("../fixtures/zoo_17.sql")),
        (18, include_str!("../fixtures/zoo_18.sql")),
    ];
    let mut files: Vec<&str> = of_version
        .into_iter()
        .filter_map(|(since, file)| (server.version().major() >= since).then_some(file))
        .collect();
    if libraries {
        files.extend([include_str!("../fixtures/zoo_xml.sql"), include_str!("../fixtures/zoo_contrib.sql")]);
    }
    // Larger tables, of several spans.
    let shop = format!("CREATE SCHEMA round; SET search_path = round; {SHOP}");
    files.push(&shop);
    for file in files {
        server.psql(&database, file).unwrap_or_else(|error| panic!("{error:?}"));
    }
    database
}

/// What `pg_restore` alone makes of the backup's archive: a newer server writes the same definitions in other
/// words.
fn reference(target: &Postgres, folder: &Path) -> String {
    let archives: Vec<PathBuf> = (shop::objects_of(folder, false).into_iter())
        .filter(|path| path.extension().is_some_and(|extension| extension == "dump"))
        .collect();
    assert_eq!(archives.len(), 1, "{archives:?}");
    let database = target.fresh_database("reference");
    let mut command = target.client("pg_restore");
    let output = command.args(["--exit-on-error", "--dbname", &database]).arg(&archives[0]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let refresh = "DO $$ DECLARE v record; BEGIN
        FOR v IN SELECT oid::regclass AS name FROM pg_class WHERE relkind = 'm' AND relname <> 'unpopulated' ORDER BY oid
        LOOP EXECUTE format('REFRESH MATERIALIZED VIEW %s', v.name); END LOOP; END $$";
    target.psql(&database, refresh).unwrap();
    database
}

async fn round_trips(from: PgVersion, newer: Option<PgVersion>) {
    let source = shared(from);
    let database = zoo(source, has_libraries(from) && newer.is_none_or(has_libraries));
    let folder = tempfile::tempdir().unwrap();
    let destinations = setup::destinations(vec![("default", setup::folder(&folder).await)]);
    let mut job = setup::job(source, &database, destinations.clone());
    let sealed = back_up(&job).await.unwrap();
    let spans = sealed.manifest.tables.iter().map(|table| table.tickets).max();
    assert!(from.major() < 14 || spans > Some(3), "{spans:?}");
    let progress = Progress::silent();
    let verified =
        backups::verify(&destinations, &job.register, None, &job.tools, 2, &progress).await.unwrap();
    assert!(verified.damages.is_empty(), "{:?}", verified.damages);
    // Pages of large objects are no rows.
    assert_eq!(verified.rows, sealed.manifest.rows);
    for to in std::iter::once(from).chain(newer) {
        let target = shared(to);
        target.psql("postgres", include_str!("../fixtures/zoo_roles.sql")).unwrap();
        job.tools = Tools::only(&[target.client_bin_dir()]);
        let name = format!("zoo_{from}_{to}");
        let restored = restore(&restore_job(&job, setup::endpoint(target, &name)))
            .await
            .unwrap_or_else(|error| panic!("{from} to {to}: {error} {error:?}"));
        let rows: u64 = restored.tables.iter().map(|table| table.fingerprint.rows).sum();
        assert_eq!(rows, sealed.manifest.rows);
        let original = Side { server: source, database: &database };
        let copy = Side { server: target, database: &name };
        let found = if from == to {
            differences(original, copy)
        } else {
            let reference = reference(target, folder.path());
            let mut found = values(original, copy);
            found.extend(definitions(Side { server: target, database: &reference }, copy, &[]));
            found
        };
        assert!(found.is_empty(), "{from} to {to}:\n{}", found.join("\n"));
        let again = restore(&restore_job(&job, setup::endpoint(target, &name))).await.unwrap_err();
        assert!(again.to_string().contains(&name), "{again}");
    }
}

macro_rules! round_trips {
    ($($name:ident: $from:ident $(to $newer:ident)?;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let newer = [$(PgVersion::$newer)?];
            round_trips(PgVersion::$from, newer.first().copied()).await;
        })*
    };
}

round_trips! {
    a_zoo_of_13_comes_back_in_13_and_14: V13 to V14;
    a_zoo_of_14_comes_back_in_14_and_15: V14 to V15;
    a_zoo_of_15_comes_back_in_15_and_16: V15 to V16;
    a_zoo_of_16_comes_back_in_16_and_17: V16 to V17;
    a_zoo_of_17_comes_back_in_17_and_18: V17 to V18;
    a_zoo_of_18_comes_back: V18;
}

/// From 17 on, and nobody's `pg_restore` can: named by the backup and by the restore, all else comes back.
#[tokio::test(flavor = "multi_thread")]
async fn exclusion_constraints_of_partitioned_tables_are_named_and_left_to_the_partitions() {
    let server = shared(PgVersion::V18);
    let database = server.fresh_database("exclusion");
    let sql = "CREATE TABLE rooms (k int, t int, EXCLUDE USING btree (k WITH =, t WITH =)) PARTITION BY LIST (k);
         CREATE TABLE rooms_1 PARTITION OF rooms FOR VALUES IN (1);
         CREATE TABLE spans (k int4range, d daterange, PRIMARY KEY (k, d WITHOUT OVERLAPS)) PARTITION BY LIST (k);
         CREATE TABLE spans_1 PARTITION OF spans FOR VALUES IN ('[1,2)');
         INSERT INTO rooms VALUES (1, 1), (1, 2); INSERT INTO spans VALUES ('[1,2)', '[2020-01-01,2021-01-01)')";
    server.psql(&database, sql).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let destinations = setup::destinations(vec![("default", setup::folder(&folder).await)]);
    let job = setup::job(server, &database, destinations);
    let sealed = back_up(&job).await.unwrap();
    let named: Vec<_> =
        sealed.manifest.omissions.iter().map(|it| (it.kind.as_str(), it.object.as_str())).collect();
    let kind = "PartitionedExclusion";
    assert_eq!(
        named,
        [(kind, "public.rooms constraint rooms_k_t_excl"), (kind, "public.spans constraint spans_pkey")]
    );
    let restored = restore(&restore_job(&job, setup::endpoint(server, "exclusion_back"))).await.unwrap();
    let left_out =
        |name: &str| restored.omissions.iter().any(|it| it.starts_with(&format!("INDEX ATTACH {name}:")));
    assert!(left_out("rooms_1_k_t_excl") && left_out("spans_1_pkey"), "{:?}", restored.omissions);
    assert_eq!(restored.omissions.len(), 2, "{:?}", restored.omissions);
    let look = "SELECT count(*) FROM rooms; SELECT count(*) FROM spans";
    assert_eq!(server.psql("exclusion_back", look).unwrap(), server.psql(&database, look).unwrap());
    let taken = server.psql("exclusion_back", "INSERT INTO rooms VALUES (1, 1)").unwrap_err();
    assert!(format!("{taken:?}").contains("rooms_1_k_t_excl"), "{taken:?}");
}
