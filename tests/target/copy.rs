//! A backup held in memory, and a restore of it in the order that the plan gives: what the engine does, without
//! a store in between.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use testbed::Postgres;
use vouchsafe::format::Sha256Digest;
use vouchsafe::format::relation::{QualifiedName, SpanRange, TableFacts};
use vouchsafe::source::target::{
    Archive, ArchiveOptions, DatabaseOptions, DatabaseProperties, ExtensionVersion, LargeObject, Loader,
    NewDatabase, PageWriter, Rereader, RestoreId, RestorePlan, SequenceValue, TableLoad, TargetError,
    analyze, create_extensions, large_objects, refresh_views, set_sequences,
};
use vouchsafe::source::{
    ClientEncoding, EndpointConfig, Held, LockLimits, PasswordSources, Reader, Secret, Selection,
    ServerFacts, Session, Tools, inventory, roles, schema, sequences, views,
};

/// The endpoint of a database of a test's server, as its superuser.
pub(crate) fn endpoint(server: &Postgres, database: &str) -> EndpointConfig {
    endpoint_as(server, "postgres", testbed::PASSWORD, database)
}

pub(crate) fn endpoint_as(server: &Postgres, role: &str, password: &str, database: &str) -> EndpointConfig {
    let passwords = PasswordSources { password: Some(Secret::new(password)), file: None, default_file: None };
    let text = format!("postgres://{role}@127.0.0.1:{}/postgres", server.port());
    EndpointConfig::parse(&text, &passwords).unwrap().with_database(database)
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
    pub(crate) roles: Vec<String>,
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
            extensions: inventory::extensions(session).await.unwrap(),
            sequences: sequences::read(session).await.unwrap(),
            roles: roles::read(session).await.unwrap().into_iter().map(|role| role.name).collect(),
            populated: views::populated(session).await.unwrap().into_iter().collect(),
            objects: vouchsafe::source::large_objects::list(session).await.unwrap(),
            pages: session
                .client()
                .copy_out(
                    "COPY (SELECT loid, pageno, data FROM pg_largeobject ORDER BY 1, 2) TO STDOUT (FORMAT binary)",
                )
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

/// How far a restore goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    Definitions,
    Rows,
    End,
}

/// A restore to be made.
#[derive(Clone)]
pub(crate) struct Restore<'a> {
    pub(crate) backup: &'a Backup,
    pub(crate) target: &'a Postgres,
    pub(crate) maintenance: EndpointConfig,
    pub(crate) name: &'a str,
    pub(crate) id: RestoreId,
    pub(crate) until: Until,
    pub(crate) selection: Selection,
    pub(crate) database: DatabaseOptions,
    pub(crate) options: ArchiveOptions,
}

impl<'a> Restore<'a> {
    /// Of everything, into database `name` of `target`, as its superuser.
    pub(crate) fn new(backup: &'a Backup, target: &'a Postgres, name: &'a str) -> Self {
        Self {
            backup,
            target,
            maintenance: endpoint(target, "postgres"),
            name,
            id: id(name),
            until: Until::End,
            selection: Selection::default(),
            database: DatabaseOptions::default(),
            options: ArchiveOptions::default(),
        }
    }

    pub(crate) fn until(self, until: Until) -> Self {
        Self { until, ..self }
    }

    pub(crate) async fn archive(&self) -> Archive {
        let pg_restore = self.target.client_bin_dir().join("pg_restore");
        Archive::open(self.backup.archive.path(), &pg_restore, self.options).await.unwrap()
    }

    pub(crate) async fn run(&self) -> Result<RestorePlan, TargetError> {
        restore(self).await
    }
}

/// An identity for tests, from a database's name.
pub(crate) fn id(name: &str) -> RestoreId {
    RestoreId::new(&Sha256Digest::of(name.as_bytes()).to_string()).unwrap()
}

async fn restore(job: &Restore<'_>) -> Result<RestorePlan, TargetError> {
    let Restore { backup, until, .. } = *job;
    let archive = job.archive().await;
    let plan = RestorePlan::new(archive.toc(), &backup.tables, &job.selection)?;
    let whole = job.selection == Selection::default();
    let tables: Vec<&TableFacts> =
        backup.tables.iter().filter(|table| plan.tables.contains(&table.name)).collect();
    let database =
        NewDatabase::create(&job.maintenance, job.name, &job.id, &backup.server, &job.database).await?;
    let inside = database.endpoint();
    let session = Session::connect(&inside, "restore", &ClientEncoding::Utf8).await?;
    archive.restore(&inside, "schemas", &plan.schemas, 1).await?;
    create_extensions(&session, &plan.extensions, &backup.extensions).await?;
    archive.restore(&inside, "definitions", &plan.definitions, 1).await?;
    if until == Until::Definitions {
        return Ok(plan);
    }

    // Two at a time, each table's indexes while other tables load.
    let late: HashSet<&QualifiedName> =
        plan.groups.iter().filter(|group| group.rows_after_indexes).flat_map(|group| &group.tables).collect();
    let alone: HashMap<&QualifiedName, &[i32]> = plan
        .groups
        .iter()
        .filter(|group| group.tables.len() == 1)
        .map(|group| (&group.tables[0], &*group.entries))
        .collect();
    let work = tables.iter().filter(|table| !late.contains(&table.name)).map(|table| {
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
    for table in tables.iter().filter(|table| late.contains(&table.name)) {
        load(backup, &inside, table).await?;
    }
    if until == Until::Rows {
        return Ok(plan);
    }

    if whole {
        set_sequences(&session, &backup.sequences).await?;
        large_objects::create(&session, &backup.objects).await?;
        let mut writer = PageWriter::new(&session, backup.server.block_size);
        for bytes in &backup.pages {
            writer.write(bytes).await?;
        }
        writer.finish().await?;
        large_objects::set_access_with(&session, &backup.objects, job.options).await?;
    }
    archive.restore(&inside, "relations", &plan.relations, 2).await?;
    reread(backup, &tables, &inside).await?;
    archive.restore(&inside, "access", &plan.access, 1).await?;
    refresh_views(&session, &plan.materialized_views, &backup.populated).await?;
    archive.restore(&inside, "views", &plan.views, 2).await?;
    analyze(&session).await?;
    archive.restore(&inside, "event triggers", &plan.events, 1).await?;
    session.close().await?;
    database.rename_into_place(&backup.properties.clone().reduced(job.options)).await?;
    Ok(plan)
}

async fn load(backup: &Backup, inside: &EndpointConfig, table: &TableFacts) -> Result<(), TargetError> {
    let mut loader = Loader::connect(inside, &backup.server.encoding).await?;
    loader.clear_extension_rows(table).await?;
    if Loader::fits_whole(table) {
        let mut all = loader.begin_whole(table).await?;
        send(backup, table, all.begin().await?).await?;
        all.commit().await?;
    } else {
        send(backup, table, loader.begin(table).await?).await?;
    }
    loader.close().await
}

async fn send(backup: &Backup, table: &TableFacts, mut rows: TableLoad<'_>) -> Result<(), TargetError> {
    for bytes in &backup.rows[&table.name] {
        rows.write(bytes.clone()).await?;
    }
    rows.finish().await?;
    Ok(())
}

/// What was restored, read again, must be what was backed up, in any order of rows.
async fn reread(backup: &Backup, tables: &[&TableFacts], inside: &EndpointConfig) -> Result<(), TargetError> {
    let mut reader = Rereader::connect(inside, &backup.server.encoding).await?;
    for table in tables.iter().filter(|table| !table.load_through_root) {
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
