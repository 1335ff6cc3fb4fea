//! Restores into real servers, compared by SQL and pg_dump that share no code with what is tested.

#[path = "target/compare.rs"]
mod compare;
#[path = "target/copy.rs"]
mod copy;

use compare::{Side, differences};
use copy::{Backup, Until, restore};
use testbed::{PgVersion, Postgres, shared};
use vouchsafe::source::target::RestoreId;

/// The zoo for a server's version, in a new database.
fn zoo(server: &Postgres, stem: &str) -> String {
    server.psql("postgres", include_str!("fixtures/zoo_roles.sql")).unwrap();
    let database = server.fresh_database(stem);
    let major = server.version().major();
    let mut files = vec![include_str!("fixtures/zoo.sql")];
    for (since, file) in [
        (14, include_str!("fixtures/zoo_14.sql")),
        (15, include_str!("fixtures/zoo_15.sql")),
        (17, include_str!("fixtures/zoo_17.sql")),
        (18, include_str!("fixtures/zoo_18.sql")),
    ] {
        if major >= since {
            files.push(file);
        }
    }
    // These builds have neither libxml nor contrib.
    if !matches!(major, 16 | 18) {
        files.extend([include_str!("fixtures/zoo_xml.sql"), include_str!("fixtures/zoo_contrib.sql")]);
    }
    for file in files {
        server.psql(&database, file).unwrap_or_else(|error| panic!("{error:?}"));
    }
    database
}

fn id(text: &str) -> RestoreId {
    RestoreId::new(&format!("{:0<16}", text)).unwrap()
}

async fn round_trip(from: PgVersion, to: PgVersion) {
    let (source, target) = (shared(from), shared(to));
    target.psql("postgres", include_str!("fixtures/zoo_roles.sql")).unwrap();
    let database = zoo(source, "zoo");
    let backup = Backup::take(source, &database).await;
    let name = format!("restored_{from}_{to}");
    restore(&backup, target, &name, &id("abcdef01"), Until::End)
        .await
        .unwrap_or_else(|error| panic!("{error} {error:?}"));
    let found =
        differences(Side { server: source, database: &database }, Side { server: target, database: &name });
    assert!(found.is_empty(), "{from} to {to}:\n{}", found.join("\n"));
    assert_eq!(
        target
            .psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE '%vouchsafe%'")
            .unwrap()
            .trim(),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_zoo_survives_within_each_version() {
    for version in PgVersion::ALL {
        round_trip(version, version).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_zoo_moves_to_newer_versions() {
    use PgVersion::{V13, V14, V15, V16, V17, V18};
    for (from, to) in [(V13, V15), (V13, V17), (V14, V15), (V15, V16), (V15, V17), (V16, V18), (V17, V18)] {
        // Builds without libxml and contrib can't take what needs these.
        if matches!(to, V16 | V18) && !matches!(from, V16 | V18) {
            continue;
        }
        round_trip(from, to).await;
    }
}
