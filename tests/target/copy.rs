//! A backup held in memory, and a restore of it in the order that the plan gives: what the engine does, without
//! a store in between.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use testbed::Postgres;
use vouchsafe::format::relation::{QualifiedName, SpanRange, TableFacts};
use vouchsafe::source::target::{
    Archive, ArchiveOptions, DatabaseOptions, DatabaseProperties, ExtensionVersion, LargeObject,
    LargeObjectGrant, LoadMode, Loader, NewDatabase, PageWriter, Rereader, RestoreId, RestorePlan,
    SequenceValue, TargetError, analyze, create_extensions, large_objects, refresh_views, set_sequences,
};
use vouchsafe::source::{
    ClientEncoding, EndpointConfig, Held, LockLimits, PasswordSources, Reader, Secret, Selection,
    ServerFacts, Session, Tools, schema,
};

/// The endpoint of a database of a test's server.
pub(crate) fn endpoint(server: &Postgres, database: &str) -> EndpointConfig {
    let passwords =
        PasswordSources { password: Some(Secret::new(testbed::PASSWORD)), file: None, default_file: None };
    let text = format!("postgres://postgres@127.0.0.1:{}/{database}", server.port());
    EndpointConfig::parse(&text, &passwords).unwrap()
}

pub(crate) fn tools(server: &Postgres) -> Tools {
    Tools::only(&[server.client_bin_dir()])
}

/// All that a backup of a database holds.
pub(crate) struct Backup {
    pub(crate) server: ServerFacts,
    pub(crate) tables: Vec<TableFacts>,
    pub(crate) rows: HashMap<QualifiedName, Vec<Bytes>>,
    pub(crate) archive: tempfile::NamedTempFile,
    pub(crate) extensions: Vec<ExtensionVersion>,
    pub(crate) sequences: Vec<SequenceValue>,
    pub(crate) populated: HashSet<QualifiedName>,
    pub(crate) objects: Vec<LargeObject>,
    pub(crate) pages: Vec<Bytes>,
    pub(crate) properties: DatabaseProperties,
}

impl Backup {
    pub(crate) async fn take(server: &Postgres, database: &str) -> Self {
        let endpoint = endpoint(server, database);
        let held = Held::take(&endpoint, &Selection::default(), LockLimits::default()).await.unwrap();
        let id = held.snapshot.snapshot().id.clone();
        let dump = schema::dump(&endpoint, held.server.version_num, &id, &tools(server)).await.unwrap();
        let archive = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(archive.path(), &dump.bytes).unwrap();
        let reader = Reader::open(&endpoint, &id).await.unwrap();
        let tables: Vec<TableFacts> = held.catalog.tables.iter().map(|table| table.facts.clone()).collect();
        let mut rows = HashMap::new();
        for table in &tables {
            let bytes: Vec<Bytes> =
                reader.copy_out(table, &SpanRange::Whole).await.unwrap().try_collect().await.unwrap();
            rows.insert(table.name.clone(), bytes);
        }
        reader.close().await.unwrap();
        let session = held.snapshot.session();
        let backup = Self {
            server: held.server.clone(),
            tables,
            rows,
            archive,
            extensions: extensions(session).await,
            sequences: sequences(session).await,
            populated: names(session, "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'm' AND relispopulated").await.into_iter().collect(),
            objects: objects(session).await,
            pages: session
                .client()
                .copy_out("COPY (SELECT loid, pageno, data FROM pg_largeobject ORDER BY 1, 2) TO STDOUT (FORMAT binary)")
                .await
                .unwrap()
                .try_collect()
                .await
                .unwrap(),
            properties: DatabaseProperties::read(session).await.unwrap(),
        };
        held.release().await.unwrap();
        backup
    }
}

async fn names(session: &Session, sql: &str) -> Vec<QualifiedName> {
    let rows = session.client().query(sql, &[]).await.unwrap();
    rows.iter().map(|row| QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect()
}

async fn extensions(session: &Session) -> Vec<ExtensionVersion> {
    let sql = "SELECT extname::text, extversion, nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace";
    let rows = session.client().query(sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| ExtensionVersion { name: row.get(0), version: row.get(1), schema: row.get(2) })
        .collect()
}

async fn sequences(session: &Session) -> Vec<SequenceValue> {
    let sql = "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'S'";
    let mut values = Vec::new();
    for name in names(session, sql).await {
        let row = session
            .client()
            .query_one(&format!("SELECT last_value, is_called FROM {}", name.quoted()), &[])
            .await
            .unwrap();
        values.push(SequenceValue { name, last_value: row.get(0), is_called: row.get(1) });
    }
    values
}

async fn objects(session: &Session) -> Vec<LargeObject> {
    let sql = "SELECT m.oid, pg_get_userbyid(lomowner)::text, lomacl IS NULL, obj_description(m.oid, 'pg_largeobject'),
        CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text END, a.privilege_type, a.is_grantable
        FROM pg_largeobject_metadata m LEFT JOIN aclexplode(lomacl) a ON true ORDER BY m.oid";
    let mut objects: Vec<LargeObject> = Vec::new();
    for row in session.client().query(sql, &[]).await.unwrap() {
        let oid: u32 = row.get(0);
        if objects.last().is_none_or(|object| object.oid != oid) {
            let grants = if row.get(2) { None } else { Some(Vec::new()) };
            objects.push(LargeObject { oid, owner: row.get(1), grants, comment: row.get(3) });
        }
        if let (Some(grants), Some(privilege)) =
            (objects.last_mut().and_then(|object| object.grants.as_mut()), row.get::<_, Option<String>>(5))
        {
            grants.push(LargeObjectGrant { grantee: row.get(4), privilege, grantable: row.get(6) });
        }
    }
    objects
}

/// How far a restore goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    Definitions,
    Rows,
    End,
}

/// Restores a backup into database `name` of `target`.
pub(crate) async fn restore(
    backup: &Backup,
    target: &Postgres,
    name: &str,
    id: &RestoreId,
    until: Until,
) -> Result<(), TargetError> {
    restore_as(backup, target, &endpoint(target, "postgres"), name, id, until).await
}

/// Likewise, as the role of `maintenance`.
pub(crate) async fn restore_as(
    backup: &Backup,
    target: &Postgres,
    maintenance: &EndpointConfig,
    name: &str,
    id: &RestoreId,
    until: Until,
) -> Result<(), TargetError> {
    let pg_restore = target.client_bin_dir().join("pg_restore");
    let archive = Archive::open(backup.archive.path(), &pg_restore, ArchiveOptions::default()).await?;
    let plan = RestorePlan::new(archive.toc(), &backup.tables, &Selection::default())?;
    let database =
        NewDatabase::create(maintenance, name, id, &backup.server, &DatabaseOptions::default()).await?;
    let inside = database.endpoint();
    let session = Session::connect(&inside, "restore", &ClientEncoding::Utf8).await?;
    archive.restore(&inside, "schemas", &plan.schemas, 1).await?;
    create_extensions(&session, &plan.extensions, &backup.extensions).await?;
    archive.restore(&inside, "definitions", &plan.definitions, 1).await?;
    if until == Until::Definitions {
        return Ok(());
    }

    // Two at a time, each table's indexes while other tables load.
    let late: HashSet<&QualifiedName> = plan
        .groups
        .iter()
        .filter(|group| group.rows_after_indexes)
        .flat_map(|group| &group.tables)
        .chain(backup.tables.iter().filter(|table| table.load_after_indexes).map(|table| &table.name))
        .collect();
    let alone: HashMap<&QualifiedName, &[i32]> = plan
        .groups
        .iter()
        .filter(|group| group.tables.len() == 1)
        .map(|group| (&group.tables[0], &*group.entries))
        .collect();
    let work = backup.tables.iter().filter(|table| !late.contains(&table.name)).map(|table| {
        let (inside, archive, alone) = (&inside, &archive, &alone);
        async move {
            load(backup, inside, table).await?;
            let entries = alone.get(&table.name).copied().unwrap_or_default();
            archive.restore(inside, &format!("indexes of {}", table.name), entries, 2).await
        }
    });
    futures::stream::iter(work).buffer_unordered(2).try_collect::<Vec<()>>().await?;
    for group in plan.groups.iter().filter(|group| group.rows_after_indexes || group.tables.len() > 1) {
        archive.restore(&inside, "indexes", &group.entries, 2).await?;
    }
    archive.restore(&inside, "postponed", &plan.postponed, 2).await?;
    for table in backup.tables.iter().filter(|table| late.contains(&table.name)) {
        load(backup, &inside, table).await?;
    }
    if until == Until::Rows {
        return Ok(());
    }

    set_sequences(&session, &backup.sequences).await?;
    large_objects::create(&session, &backup.objects).await?;
    let mut writer = PageWriter::new(&session, backup.server.block_size);
    for bytes in &backup.pages {
        writer.write(bytes).await?;
    }
    writer.finish().await?;
    large_objects::set_access(&session, &backup.objects).await?;
    archive.restore(&inside, "relations", &plan.relations, 2).await?;
    reread(backup, &inside).await?;
    archive.restore(&inside, "access", &plan.access, 1).await?;
    refresh_views(&session, &plan.materialized_views, &backup.populated).await?;
    archive.restore(&inside, "views", &plan.views, 2).await?;
    analyze(&session).await?;
    archive.restore(&inside, "event triggers", &plan.events, 1).await?;
    session.close().await?;
    database.rename_into_place(&backup.properties).await
}

async fn load(backup: &Backup, inside: &EndpointConfig, table: &TableFacts) -> Result<(), TargetError> {
    let mut loader = Loader::connect(inside, &backup.server.encoding).await?;
    loader.clear_extension_rows(table).await?;
    let mut rows = loader.begin(table, LoadMode::Whole).await?;
    for bytes in &backup.rows[&table.name] {
        rows.write(bytes.clone()).await?;
    }
    rows.finish().await?;
    loader.close().await
}

/// What was restored, read again, must be what was backed up, in any order of rows.
async fn reread(backup: &Backup, inside: &EndpointConfig) -> Result<(), TargetError> {
    let mut reader = Rereader::connect(inside, &backup.server.encoding).await?;
    for table in backup.tables.iter().filter(|table| !table.load_through_root) {
        let mut bytes = Vec::new();
        let mut rows = reader.begin(table, &SpanRange::Whole).await?;
        while let Some(more) = rows.next().await? {
            bytes.push(more);
        }
        let fingerprint = |bytes: &[Bytes]| {
            let mut hasher = vouchsafe::codec::RowHasher::new(table.format, table.columns.len());
            for piece in bytes {
                hasher.push(piece).unwrap();
            }
            hasher.finish().unwrap().fingerprint
        };
        assert_eq!(fingerprint(&bytes), fingerprint(&backup.rows[&table.name]), "{}", table.name);
    }
    reader.close().await
}
