//! The type zoo, into the same version and over several; the engine's own tests have each version and the next.

use testbed::{PgVersion, Postgres, shared};

use crate::compare::{Side, definitions, differences, values};
use crate::copy::{Backup, Restore};

/// The zoo for a server's version, in a new database; `libraries`: also what needs libxml and contrib.
pub(crate) fn zoo(server: &Postgres, stem: &str, libraries: bool) -> String {
    server.psql("postgres", include_str!("../fixtures/zoo_roles.sql")).unwrap();
    let database = server.fresh_database(stem);
    let major = server.version().major();
    let mut files = vec![include_str!("../fixtures/zoo.sql")];
    for (since, file) in [
        (14, include_str!("../fixtures/zoo_14.sql")),
        (15, include_str!("../fixtures/zoo_15.sql")),
        (17, include_str!("../fixtures/zoo_17.sql")),
        (18, include_str!("../fixtures/zoo_18.sql")),
    ] {
        if major >= since {
            files.push(file);
        }
    }
    if libraries {
        files.extend([include_str!("../fixtures/zoo_xml.sql"), include_str!("../fixtures/zoo_contrib.sql")]);
    }
    for file in files {
        server.psql(&database, file).unwrap_or_else(|error| panic!("{error:?}"));
    }
    database
}

/// The builds of 16 and 18 that tests use have neither libxml nor contrib.
fn has_libraries(version: PgVersion) -> bool {
    !matches!(version, PgVersion::V16 | PgVersion::V18)
}

async fn round_trip(from: PgVersion, to: PgVersion) {
    let (source, target) = (shared(from), shared(to));
    target.psql("postgres", include_str!("../fixtures/zoo_roles.sql")).unwrap();
    let database = zoo(source, "zoo", has_libraries(from) && has_libraries(to));
    let backup = Backup::take(source, &database).await;
    let name = format!("restored_{from}_{to}");
    Restore::new(&backup, target, &name)
        .run()
        .await
        .unwrap_or_else(|error| panic!("{from} to {to}: {error} {error:?}"));
    let (original, restored) =
        (Side { server: source, database: &database }, Side { server: target, database: &name });
    let found = if from == to {
        differences(original, restored)
    } else {
        // A newer server writes the same definitions in other words: what pg_restore alone makes of the archive
        // is compared with instead.
        let reference = target.fresh_database("reference");
        let output = target
            .client("pg_restore")
            .args(["--exit-on-error", "--dbname", &reference])
            .arg(backup.archive.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        target.psql(&reference, "DO $$ DECLARE v record; BEGIN FOR v IN SELECT oid::regclass AS name FROM pg_class WHERE relkind = 'm' AND relname <> 'unpopulated' ORDER BY oid LOOP EXECUTE format('REFRESH MATERIALIZED VIEW %s', v.name); END LOOP; END $$").unwrap();
        let mut found = values(original, restored);
        found.extend(definitions(Side { server: target, database: &reference }, restored, &[]));
        found
    };
    assert!(found.is_empty(), "{from} to {to}:\n{}", found.join("\n"));
    let left =
        target.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'restored%vouchsafe%'");
    assert_eq!(left.unwrap().trim(), "");
}

macro_rules! round_trips {
    ($($name:ident: $from:ident to $to:ident;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            round_trip(PgVersion::$from, PgVersion::$to).await;
        })*
    };
}

round_trips! {
    the_zoo_of_15_survives: V15 to V15;
    the_zoo_of_13_moves_to_17: V13 to V17;
    the_zoo_of_15_moves_to_18: V15 to V18;
}
