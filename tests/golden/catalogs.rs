//! Catalogs, with the entries that a restore reads them as.

use serde::Serialize;
use serde::de::DeserializeOwned;
use vouchsafe::format::{CatalogDocument, CatalogKind, QualifiedName};
use vouchsafe::source::ServerFacts;
use vouchsafe::source::inventory::DatabaseEntry;
use vouchsafe::source::roles::{Membership, Role};
use vouchsafe::source::target::{
    DatabaseGrant, DatabaseProperties, DatabaseSetting, ExtensionVersion, LargeObject, LargeObjectGrant,
    SequenceValue,
};

use crate::check;
use crate::documents::plan_id;

fn catalog<T>(name: &str, what: CatalogKind, entries: &[T])
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let values = entries.iter().map(|entry| serde_json::to_value(entry).unwrap()).collect();
    let document = CatalogDocument { run: 7, plan: plan_id(), endpoint: 0, what, entries: values };
    check(name, &document);
    for (value, entry) in document.entries.into_iter().zip(entries) {
        assert_eq!(&serde_json::from_value::<T>(value).unwrap(), entry);
    }
}

pub(crate) fn check_all() {
    let role = |name: &str, full: bool| Role {
        name: name.into(),
        predefined: !full,
        superuser: full,
        inherit: full,
        create_role: full,
        create_database: full,
        login: full,
        replication: full,
        bypass_row_security: full,
        connection_limit: if full { 5 } else { -1 },
        valid_until: full.then(|| "infinity".into()),
        comment: full.then(|| "größe".into()),
        settings: if full { vec!["search_path=a, \"b c\"".into()] } else { Vec::new() },
        member_of: match full {
            true => vec![Membership { role: "pg_monitor".into(), admin: true, inherit: false, set: true }],
            false => Vec::new(),
        },
    };
    catalog("catalog-roles", CatalogKind::Roles, &[role("app", true), role("pg_monitor", false)]);
    let sequence = |last_value, is_called| SequenceValue {
        name: QualifiedName::new("shop", "s"),
        last_value,
        is_called,
    };
    let sequences = [sequence(i64::MIN, true), sequence(1, false)];
    catalog("catalog-sequences", CatalogKind::Sequences, &sequences);
    let grant = |grantee: Option<&str>| LargeObjectGrant {
        grantee: grantee.map(Into::into),
        privilege: "SELECT".into(),
        grantable: grantee.is_some(),
    };
    let objects = [
        LargeObject {
            oid: u32::MAX,
            owner: "app".into(),
            grants: Some(vec![grant(None), grant(Some("reader"))]),
            comment: Some("c".into()),
        },
        LargeObject { oid: 1, owner: "app".into(), grants: None, comment: None },
    ];
    catalog("catalog-large-objects", CatalogKind::LargeObjects, &objects);
    catalog("catalog-database", CatalogKind::Database, &database());
}

fn database() -> [DatabaseEntry; 4] {
    let setting = |role: Option<&str>| DatabaseSetting {
        role: role.map(Into::into),
        name: "work_mem".into(),
        value: "5MB".into(),
    };
    let grant = |grantee: Option<&str>| DatabaseGrant {
        grantee: grantee.map(Into::into),
        privilege: "CONNECT".into(),
        grantable: grantee.is_some(),
    };
    [
        DatabaseEntry::Properties(DatabaseProperties {
            owner: Some("app".into()),
            comment: Some("c".into()),
            settings: vec![setting(None), setting(Some("app"))],
            grants: vec![grant(None), grant(Some("app"))],
            connection_limit: -1,
        }),
        DatabaseEntry::Server(Box::new(ServerFacts {
            version_num: 150_018,
            version: "15.18 (Debian 15.18-0+deb12u1)".into(),
            system_identifier: u64::MAX,
            timeline: 1,
            database: "shop".into(),
            database_oid: 16_384,
            encoding: "UTF8".into(),
            collate: "en_US.UTF-8".into(),
            ctype: "C".into(),
            locale_provider: "i".into(),
            locale: Some("de-DE".into()),
            icu_rules: None,
            wal_level: "replica".into(),
            cluster_name: String::new(),
            block_size: 8192,
            is_superuser: true,
            bypasses_row_security: false,
        })),
        DatabaseEntry::Extension(ExtensionVersion {
            name: "hstore".into(),
            version: "1.8".into(),
            schema: "public".into(),
        }),
        DatabaseEntry::Tablespace("fast".into()),
    ]
}
