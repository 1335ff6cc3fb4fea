//! A subset of a backup, with all that it needs and nothing else.

use testbed::{PgVersion, shared};
use vouchsafe::source::target::{RestorePlan, TargetError};
use vouchsafe::source::{SchemaPattern, Selection, TablePattern};

use crate::compare::{Side, rows};
use crate::copy::{Backup, Restore};
use crate::zoo::zoo;

fn tables(patterns: &[&str]) -> Selection {
    let include_tables = patterns.iter().map(|pattern| TablePattern::parse(pattern).unwrap()).collect();
    Selection { include_tables, ..Selection::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_brings_its_types_indexes_and_triggers() {
    let server = shared(PgVersion::V15);
    let database = zoo(server, "subset", false);
    let backup = Backup::take(server, &database).await;
    let original = rows(Side { server, database: &database });

    for (patterns, expected) in [
        (&["zoo.own_types"][..], &["zoo.numbers", "zoo.own_types"][..]),
        (&["zoo.by_enum"], &["zoo.by_enum"]),
        (&["zoo.child", "zoo.serials"], &["zoo.child", "zoo.serials"]),
        (&["zoo.puppy"], &["zoo.animal", "zoo.dog", "zoo.extra", "zoo.puppy"]),
        (&["zoo.triggered"], &["zoo.triggered"]),
    ] {
        let name = format!("subset_{}", patterns[0].replace("zoo.", ""));
        let mut restore = Restore::new(&backup, server, &name);
        restore.selection = tables(patterns);
        let plan = restore.run().await.unwrap_or_else(|error| panic!("{patterns:?}: {error} {error:?}"));
        let restored = rows(Side { server, database: &name });
        assert_eq!(restored.keys().map(String::as_str).collect::<Vec<_>>(), expected, "{patterns:?}");
        for (table, hash) in &restored {
            assert_eq!(original.get(table), Some(hash), "{table}");
        }
        match patterns[0] {
            "zoo.own_types" => {
                assert_eq!(
                    plan.brought_along.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    ["zoo.numbers"]
                );
                assert_eq!(
                    server
                        .psql(&name, "SELECT count(*) FROM pg_indexes WHERE tablename = 'own_types'")
                        .unwrap()
                        .trim(),
                    "2"
                );
            }
            "zoo.child" => {
                let named =
                    plan.omissions.iter().any(|omission| omission.object.contains("child_parent_id_fkey"));
                assert!(named, "{:?}", plan.omissions);
                // A reference to itself has both ends here.
                assert_eq!(
                    server
                        .psql(&name, "SELECT count(*) FROM pg_constraint WHERE contype = 'f'")
                        .unwrap()
                        .trim(),
                    "1"
                );
                assert_eq!(
                    server.psql(&name, "SELECT pg_get_serial_sequence('zoo.serials', 'id')").unwrap().trim(),
                    "zoo.serials_id_seq"
                );
            }
            "zoo.by_enum" => {
                assert_eq!(server.psql(&name, "SELECT count(*) FROM pg_inherits").unwrap().trim(), "4");
            }
            "zoo.triggered" => {
                assert_eq!(
                    server
                        .psql(&name, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal")
                        .unwrap()
                        .trim(),
                    "7"
                );
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_comes_whole_and_unknown_names_are_refused() {
    let server = shared(PgVersion::V15);
    let database = zoo(server, "schemas", false);
    let backup = Backup::take(server, &database).await;
    let mut restore = Restore::new(&backup, server, "schema_zoo");
    // Values of this one name an object of another schema.
    let exclude_tables = vec![TablePattern::parse("zoo.regs").unwrap()];
    restore.selection = Selection {
        include_schemas: vec![SchemaPattern::parse("zoo").unwrap()],
        exclude_tables,
        ..Selection::default()
    };
    restore.run().await.unwrap_or_else(|error| panic!("{error} {error:?}"));
    let mut original = rows(Side { server, database: &database });
    original.retain(|table, _| table.starts_with("zoo.") && table != "zoo.regs");
    assert_eq!(rows(Side { server, database: "schema_zoo" }), original);

    let archive = restore.archive().await;
    for selection in [
        tables(&["zoo.nowhere"]),
        Selection { include_schemas: vec![SchemaPattern::parse("nowhere").unwrap()], ..Selection::default() },
    ] {
        let error = RestorePlan::new(archive.toc(), &backup.tables, &selection).unwrap_err();
        assert!(
            matches!(&error, TargetError::SelectionUnknown { what } if what.contains("nowhere")),
            "{error}"
        );
    }
}
