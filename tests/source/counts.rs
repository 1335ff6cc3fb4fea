//! How long the catalogs are, counted by the server: the same as the listings find, and not by the same queries.

use rstest::rstest;
use testbed::PgVersion;
use vouchsafe::format::{CatalogCounts, CatalogKind};
use vouchsafe::source::{Reader, inventory};

use crate::bench::{database, endpoint, take};

/// Sequences of each kind, memberships of memberships, and large objects with a page and without.
const BELONGINGS: &str = "
    CREATE SCHEMA counted AUTHORIZATION {owner};
    CREATE TABLE counted.t(id serial, j int GENERATED ALWAYS AS IDENTITY); CREATE SEQUENCE counted.free;
    GRANT SELECT ON counted.t TO {grantee}; GRANT {upper} TO {group}; GRANT {group} TO {owner};
    SELECT lo_create(0), lo_create(0), lo_from_bytea(0, '\\x00');";

#[rstest]
#[case(PgVersion::V13)]
#[case(PgVersion::V15)]
#[case(PgVersion::V16)]
#[case(PgVersion::V18)]
#[tokio::test]
async fn catalogs_are_as_long_as_the_server_counts(#[case] version: PgVersion) {
    let server = testbed::shared(version);
    let name = database(server, "counts", "SELECT");
    let mut sql = BELONGINGS.to_owned();
    for role in ["owner", "grantee", "upper", "group", "unused"] {
        let of_this = format!("{name}_{role}");
        server.psql("postgres", &format!("CREATE ROLE {of_this}")).unwrap();
        sql = sql.replace(&format!("{{{role}}}"), &of_this);
    }
    server.psql(&name, &sql).unwrap();
    let endpoint = endpoint(server, &name);
    let passing = crate::bench::other(&endpoint).await;
    passing.run("", "CREATE TEMP SEQUENCE passing").await.unwrap();
    let held = take(&endpoint).await;
    let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
    // After the snapshot: neither sees it.
    server.psql(&name, "SELECT lo_create(0); CREATE SEQUENCE counted.later").unwrap();
    let counted = reader.count_catalogs().await.unwrap();
    // The role that made the cluster and owns the database, and four of the five.
    assert_eq!((counted.roles, counted.sequences, counted.large_objects), (5, 3, 3), "{counted:?}");
    let mut listed = [0; 4];
    for (length, kind) in listed.iter_mut().zip(CatalogKind::ALL) {
        *length = inventory::entries(held.snapshot.session(), kind).await.unwrap().len() as u64;
    }
    let [roles, sequences, large_objects, database] = listed;
    assert_eq!(counted, CatalogCounts { roles, sequences, large_objects, database });
    held.release().await.unwrap();
}
