//! The order of restores, on archives made up for the purpose.

use proptest::prelude::*;

use super::super::toc::tests::{archive_bytes, entry};
use super::*;
use crate::format::relation::CopyFormat;
use crate::source::selection::TablePattern;

fn toc(entries: &[TocEntry]) -> Toc {
    let bytes = archive_bytes(16, entries);
    Toc::parse(&*bytes, bytes.len() as u64).unwrap()
}

/// A table's entry: the OID is the dump id, so that facts find it.
fn table(id: i32, name: &str, needs: &[i32]) -> TocEntry {
    TocEntry { oid: id.unsigned_abs(), ..entry(id, "TABLE", Section::PreData, name, needs) }
}

fn post(id: i32, kind: &str, tag: &str, needs: &[i32]) -> TocEntry {
    entry(id, kind, Section::PostData, tag, needs)
}

fn about(id: i32, kind: &str, tag: &str, needs: &[i32]) -> TocEntry {
    entry(id, kind, Section::None, tag, needs)
}

fn facts(oid: u32, name: &str) -> TableFacts {
    TableFacts {
        name: QualifiedName::new("public", name),
        oid,
        relfilenode: oid,
        columns: vec!["a".into()],
        format: CopyFormat::Binary,
        bytes: 0,
        blocks: 0,
        extension_condition: None,
        partition_root: None,
        load_through_root: false,
        load_after_indexes: false,
        unlogged: false,
    }
}

fn plan(entries: &[TocEntry], tables: &[TableFacts]) -> RestorePlan {
    RestorePlan::new(&toc(entries), tables, &Selection::default()).unwrap()
}

#[test]
fn each_thing_goes_where_it_belongs() {
    let mut schema = entry(1, "SCHEMA", Section::PreData, "public", &[]);
    schema.schema = None;
    let mut extension = entry(2, "EXTENSION", Section::PreData, "hstore", &[1]);
    extension.schema = None;
    let mut database = about(30, "COMMENT", "DATABASE zoo", &[]);
    database.schema = None;
    let plan = plan(
        &[
            schema,
            about(3, "COMMENT", "SCHEMA public", &[1]),
            extension,
            table(4, "t", &[1]),
            about(5, "ACL", "TABLE t", &[4]),
            entry(6, "MATERIALIZED VIEW", Section::PreData, "m2", &[4]),
            entry(7, "MATERIALIZED VIEW", Section::PreData, "m1", &[6]),
            table(8, "partitioned", &[1]),
            post(9, "INDEX", "t_i", &[4]),
            about(10, "COMMENT", "INDEX t_i", &[9]),
            post(11, "CONSTRAINT", "t t_pkey", &[4]),
            post(12, "INDEX", "partitioned_i", &[8]),
            post(13, "INDEX ATTACH", "t_i", &[9, 12]),
            post(14, "INDEX", "m_i", &[7]),
            about(15, "COMMENT", "INDEX m_i", &[14]),
            post(16, "RULE", "v _RETURN", &[11]),
            post(17, "RULE", "t r", &[4]),
            post(18, "FK CONSTRAINT", "t t_fk", &[4, 11]),
            post(19, "TRIGGER", "t tr", &[4]),
            post(20, "POLICY", "t p", &[4]),
            post(21, "ROW SECURITY", "t", &[4]),
            post(22, "EVENT TRIGGER", "e", &[]),
            about(23, "COMMENT", "EVENT TRIGGER e", &[22]),
            post(24, "PUBLICATION", "p", &[]),
            post(25, "SUBSCRIPTION", "s", &[]),
            post(26, "DEFAULT ACL", "DEFAULT PRIVILEGES FOR TABLES", &[1]),
            about(27, "COMMENT", "POLICY p ON t", &[20]),
            database,
        ],
        &[facts(4, "t")],
    );
    assert_eq!(plan.schemas, [1, 3]);
    assert_eq!(plan.extensions, [ExtensionEntry { dump_id: 2, name: "hstore".into() }]);
    assert_eq!(plan.definitions, [2, 4, 6, 7, 8]);
    assert_eq!(plan.groups.len(), 1);
    assert_eq!(plan.groups[0].entries, [9, 10, 11]);
    assert_eq!(plan.postponed, [12, 13, 16]);
    assert_eq!(plan.relations, [17, 18, 19, 24]);
    assert_eq!(plan.access, [5, 20, 21, 26, 27]);
    assert_eq!(
        plan.materialized_views.iter().map(|view| view.name.as_str()).collect::<Vec<_>>(),
        ["m2", "m1"]
    );
    assert_eq!(plan.views, [14, 15]);
    assert_eq!(plan.events, [22, 23]);
    assert_eq!(plan.omissions.len(), 1);
    assert!(plan.omissions[0].object.contains("SUBSCRIPTION"));
}

#[test]
fn an_index_that_leans_on_another_tables_index_waits_for_it() {
    let entries = [
        table(1, "a", &[]),
        table(2, "b", &[]),
        post(3, "CONSTRAINT", "a a_pkey", &[1]),
        post(4, "FUNCTION", "f()", &[3]),
        post(5, "INDEX", "b_f", &[2, 4]),
        post(6, "INDEX", "b_other", &[2, 3]),
        post(7, "INDEX", "a_own", &[1, 3]),
    ];
    let plan = plan(&entries, &[facts(1, "a"), facts(2, "b")]);
    assert_eq!(plan.groups.len(), 1);
    assert_eq!(plan.groups[0].entries, [3, 7]);
    assert_eq!(plan.postponed, [4, 5, 6]);
}

#[test]
fn partitions_that_load_through_their_root_are_finished_together() {
    let leaf = |oid, name: &str, root: &str, through| TableFacts {
        partition_root: Some(QualifiedName::new("public", root)),
        load_through_root: through,
        ..facts(oid, name)
    };
    let entries = [
        table(1, "a1", &[]),
        table(2, "a2", &[]),
        table(3, "b1", &[]),
        table(4, "b2", &[]),
        post(5, "INDEX", "a1_i", &[1]),
        post(6, "INDEX", "a2_i", &[2]),
        post(7, "INDEX", "b1_i", &[3]),
        post(8, "INDEX", "b2_i", &[4]),
    ];
    let tables = [
        leaf(1, "a1", "a", true),
        leaf(2, "a2", "a", true),
        leaf(3, "b1", "b", false),
        leaf(4, "b2", "b", false),
    ];
    let plan = plan(&entries, &tables);
    let groups: Vec<_> =
        plan.groups.iter().map(|group| (group.tables.len(), group.entries.clone())).collect();
    assert_eq!(groups, [(2, vec![5, 6]), (1, vec![7]), (1, vec![8])]);
}

#[test]
fn a_table_that_waits_for_indexes_says_so_also_without_any() {
    let late = TableFacts { load_after_indexes: true, ..facts(1, "late") };
    let plan = plan(&[table(1, "late", &[]), table(2, "other", &[])], &[late, facts(2, "other")]);
    assert_eq!(plan.groups.len(), 1);
    assert!(plan.groups[0].rows_after_indexes && plan.groups[0].entries.is_empty());
    assert_eq!(plan.groups[0].tables, [QualifiedName::new("public", "late")]);
}

#[test]
fn a_table_that_the_archive_lacks_is_refused_and_an_extensions_is_not() {
    let archive = toc(&[table(1, "a", &[])]);
    let all = Selection::default();
    let error = RestorePlan::new(&archive, &[facts(1, "a"), facts(9, "b")], &all).unwrap_err();
    assert!(matches!(&error, TargetError::ArchiveLacks { table } if table.name == "b"), "{error}");
    let configuration = TableFacts { extension_condition: Some(String::new()), ..facts(9, "b") };
    let tables = [facts(1, "a"), configuration];
    assert_eq!(RestorePlan::new(&archive, &tables, &all).unwrap().tables.len(), 2);
    let some =
        Selection { include_tables: vec![TablePattern::parse("public.a").unwrap()], ..Selection::default() };
    let plan = RestorePlan::new(&archive, &tables, &some).unwrap();
    assert_eq!(plan.tables.len(), 1);
    assert!(
        plan.omissions.iter().any(|omission| omission.object.contains("public.b")),
        "{:?}",
        plan.omissions
    );
}

#[test]
fn an_existing_database_keeps_what_is_its_own() {
    let mut publication = post(2, "PUBLICATION", "p", &[]);
    publication.schema = None;
    let mut defaults = post(6, "DEFAULT ACL", "DEFAULT PRIVILEGES FOR TABLES", &[]);
    defaults.schema = None;
    let entries = [
        table(1, "a", &[]),
        publication,
        about(3, "COMMENT", "PUBLICATION p", &[2]),
        post(4, "PUBLICATION TABLE", "p a", &[1, 2]),
        post(5, "EVENT TRIGGER", "e", &[]),
        defaults,
        post(7, "TRIGGER", "a tr", &[1]),
    ];
    let archive = toc(&entries);
    let plan = plan(&entries, &[facts(1, "a")]).for_existing_database(&archive, &[], &BTreeSet::new());
    assert_eq!((&*plan.relations, &*plan.access, &*plan.events), (&[7][..], &[][..], &[][..]));
    assert_eq!(plan.omissions.len(), 5);
}

#[test]
fn a_partitions_root_takes_its_partitions_and_a_foreign_key_its_other_end_or_none() {
    let entries = [
        table(1, "root", &[]),
        table(2, "leaf", &[]),
        table(3, "other", &[]),
        entry(4, "TABLE ATTACH", Section::PreData, "leaf", &[2, 1]),
        post(5, "FK CONSTRAINT", "root fk", &[1, 3]),
        post(6, "INDEX", "leaf_i", &[2]),
    ];
    let tables = [facts(2, "leaf"), facts(3, "other")];
    let archive = toc(&entries);
    let take = |names: &[&str]| {
        let include_tables = names.iter().map(|name| TablePattern::parse(name).unwrap()).collect();
        RestorePlan::new(&archive, &tables, &Selection { include_tables, ..Selection::default() }).unwrap()
    };
    let root = take(&["public.root"]);
    assert_eq!(root.entries().collect::<BTreeSet<_>>(), BTreeSet::from([1, 2, 4, 6]));
    assert!(root.omissions.iter().any(|omission| omission.object == "FK CONSTRAINT root fk"));
    assert!(root.brought_along.is_empty());
    let both = take(&["public.root", "public.other"]);
    assert_eq!(both.entries().collect::<BTreeSet<_>>(), BTreeSet::from([1, 2, 3, 4, 5, 6]));
}

const KINDS: [(&str, Section); 12] = [
    ("SCHEMA", Section::PreData),
    ("TABLE", Section::PreData),
    ("MATERIALIZED VIEW", Section::PreData),
    ("COMMENT", Section::None),
    ("ACL", Section::None),
    ("INDEX", Section::PostData),
    ("CONSTRAINT", Section::PostData),
    ("FK CONSTRAINT", Section::PostData),
    ("VIEW", Section::PostData),
    ("TRIGGER", Section::PostData),
    ("POLICY", Section::PostData),
    ("EVENT TRIGGER", Section::PostData),
];

proptest! {
    /// Whatever depends on whatever: everything is restored once, and nothing before what it needs.
    #[test]
    fn nothing_comes_before_what_it_needs(
        shape in prop::collection::vec((0..KINDS.len(), prop::collection::vec(any::<prop::sample::Index>(), 0..4)), 1..60),
        loaded in any::<u64>(),
    ) {
        let mut entries: Vec<TocEntry> = Vec::new();
        let mut tables = Vec::new();
        for (position, (kind, needs)) in shape.iter().enumerate() {
            let id = i32::try_from(position).unwrap() + 1;
            let (kind, section) = KINDS[*kind];
            // Definitions depend on definitions alone: pg_dump moves the others behind the rows.
            let earlier: Vec<i32> = entries
                .iter()
                .filter(|needed| section != Section::PreData || needed.section == Section::PreData && (kind != "SCHEMA" || needed.kind == "SCHEMA"))
                .map(|needed| needed.dump_id)
                .collect();
            let mut needs: Vec<i32> =
                if earlier.is_empty() { Vec::new() } else { needs.iter().map(|index| earlier[index.index(earlier.len())]).collect() };
            needs.sort_unstable();
            needs.dedup();
            let made = TocEntry { oid: id.unsigned_abs(), ..entry(id, kind, section, &format!("n{id}"), &needs) };
            if kind == "TABLE" && loaded >> (position % 64) & 1 == 1 {
                tables.push(facts(id.unsigned_abs(), &format!("n{id}")));
            }
            entries.push(made);
        }
        let plan = plan(&entries, &tables);
        let order: Vec<i32> = plan.entries().collect();
        prop_assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), order.len());
        prop_assert_eq!(order.len(), entries.len());
        // Groups run side by side, in any order: what needs another group's entry may not be in one.
        let group_of = |id: i32| plan.groups.iter().position(|group| group.entries.contains(&id));
        for made in &entries {
            let at = order.iter().position(|id| *id == made.dump_id);
            for needed in &made.dependencies {
                prop_assert!(order.iter().position(|id| id == needed) < at, "{} before {needed}", made.dump_id);
                if let (Some(one), Some(other)) = (group_of(made.dump_id), group_of(*needed)) {
                    prop_assert_eq!(one, other);
                }
            }
        }
    }
}
