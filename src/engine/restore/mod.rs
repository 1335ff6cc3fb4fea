//! The restorer: proves the backup again, builds a database under a name of its own, compares every table
//! with the manifest, and only then gives it the name that was asked for.

mod compare;
mod content;
mod load;

use std::path::PathBuf;
use std::sync::Arc;

use super::backups::{self, Backup};
use super::destinations::Destinations;
use super::error::EngineError;
use super::interrupt::Interrupt;
use super::progress::{Progress, Stage};
use super::register::Register;
use super::verifier::Depth;
use crate::format::{Fingerprint, QualifiedName, Sha256Digest};
use crate::kill_point;
use crate::source::target::{
    self, Archive, ArchiveOptions, DatabaseOptions, DatabaseProperties, Demands, Fence, NewDatabase,
    PageWriter, RestoreId, RestorePlan, analyze, create_extensions, large_objects, refresh_views,
    set_sequences,
};
use crate::source::{ClientEncoding, EndpointConfig, Selection, ServerFacts, Session, ToolVersion, Tools};

use content::Content;

/// A restore to be made.
#[derive(Clone, Debug)]
pub struct RestoreJob {
    /// Where the backup lies.
    pub destinations: Destinations,
    /// The register in the default destination.
    pub register: Register,
    /// The run; absent: the newest sealed one.
    pub run: Option<u32>,
    /// The manifest that the caller knows; any other is refused.
    pub expect_manifest: Option<Sha256Digest>,
    /// The server and the database to be made on it.
    pub target: EndpointConfig,
    /// An existing database of that server to connect to while the other is made.
    pub maintenance_database: String,
    /// Which tables.
    pub selection: Selection,
    /// No rows.
    pub schema_only: bool,
    /// Prove and plan, and touch nothing.
    pub dry_run: bool,
    /// Leave owners out: everything belongs to the role that restores.
    pub no_owner: bool,
    /// Leave privileges out.
    pub no_privileges: bool,
    /// Connections to the target.
    pub parallelism: usize,
    /// PostgreSQL's programs.
    pub tools: Tools,
    /// Where it is asked to stop.
    pub interrupt: Interrupt,
    /// Where it shows how far it is.
    pub progress: Progress,
}

/// One table of a finished restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredTable {
    /// Its name.
    pub name: QualifiedName,
    /// Rows and their hash: equal in the backup and in the restored database.
    pub fingerprint: Fingerprint,
}

/// A restore that was compared, or planned.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The run that was restored.
    pub run: u32,
    /// SHA-256 of its manifest.
    pub manifest_sha256: Sha256Digest,
    /// The database.
    pub database: String,
    /// Every table that was compared; those to be loaded, in a dry run.
    pub tables: Vec<RestoredTable>,
    /// What the selection leaves out.
    pub omissions: Vec<String>,
    /// Whether anything was done.
    pub dry_run: bool,
}

/// Makes one restore.
///
/// # Errors
/// Any [`EngineError`]. The database of the wanted name is there when this succeeds, and is not when it fails.
pub async fn restore(job: &RestoreJob) -> Result<Restored, EngineError> {
    job.interrupt.race(carry_out(job)).await
}

async fn carry_out(job: &RestoreJob) -> Result<Restored, EngineError> {
    let backup = prove(job).await?;
    let content = Content::read(job, &backup).await?;
    kill_point::passed("proven", "backup");
    let folder =
        tempfile::tempdir().map_err(|source| EngineError::io("a folder for the schema archive", source))?;
    let path: PathBuf = folder.path().join("schema.dump");
    tokio::fs::write(&path, &content.archive)
        .await
        .map_err(|source| EngineError::io("writing the schema archive", source))?;
    let maintenance = job.target.with_database(&job.maintenance_database);
    let session = Session::connect(&maintenance, "preflight", &ClientEncoding::Utf8).await?;
    let target = ServerFacts::read(&session).await?;
    check_major(&target, &content)?;
    let tool = job.tools.pg_restore_for(content.archive_version(), target.major()).await?;
    let options =
        ArchiveOptions { no_owner: job.no_owner, no_privileges: job.no_privileges, no_tablespaces: false };
    let archive = Archive::open(&path, &tool.path, options).await?;
    let facts: Vec<_> = content.tables_of(0).map(|table| table.facts.clone()).collect();
    let plan = RestorePlan::new(archive.toc(), &facts, &job.selection)?;
    check_target(job, &session, &content, &archive, &plan).await?;
    session.close().await?;
    let database = job.target.database.clone();
    kill_point::passed("planned", "restore");
    let mut omissions: Vec<String> =
        plan.omissions.iter().map(|it| format!("{}: {}", it.object, it.why)).collect();
    if job.selection != Selection::default() && !content.large_objects.is_empty() {
        let count = content.large_objects.len();
        omissions.push(format!("{count} large objects: a selection takes tables only"));
    }
    let restored = |tables: Vec<RestoredTable>| Restored {
        run: backup.run,
        manifest_sha256: backup.manifest_sha256,
        database: database.clone(),
        tables,
        omissions: omissions.clone(),
        dry_run: job.dry_run,
    };
    if job.dry_run {
        return Ok(restored(content.expected(&plan.tables)));
    }
    let fence = Fence::acquire(&maintenance, &database, Fence::DEFAULT_PATIENCE).await?;
    kill_point::passed("fenced", "target");
    let id = identity(job, &backup)?;
    let made =
        NewDatabase::create(&maintenance, &database, &id, &content.server, &DatabaseOptions::default())
            .await?;
    let tables = build(job, &backup, &content, &archive, &plan, &made).await?;
    kill_point::passed("built", "database");
    fence.check().await?;
    let properties = content.properties.clone().unwrap_or_else(DatabaseProperties::server_defaults);
    made.rename_into_place(&properties.reduced(reduced(job))).await?;
    kill_point::passed("renamed", "database");
    // Whatever became of the session that held the lock: the database has its name, and a failure now would be
    // one of a restore that is done.
    super::best_effort("the database has its name: nothing is left to be fenced", fence.release().await);
    Ok(restored(tables))
}

/// Everything that binds the backup, and every stored byte, before the target is touched.
async fn prove(job: &RestoreJob) -> Result<Backup, EngineError> {
    job.progress.begin(Stage::Resolve, 0, 0);
    let run = backups::choose(&job.register, job.run).await?;
    let backup = backups::open(&job.destinations, &job.register, run).await?;
    if let Some(expected) = job.expect_manifest
        && expected != backup.manifest_sha256
    {
        return Err(EngineError::ManifestUnexpected { run, found: backup.manifest_sha256, expected });
    }
    let depth = (Depth::Bytes, job.parallelism);
    let verified = backup.examine(&job.destinations, &job.tools, depth, &job.progress).await?;
    match verified.damages.first() {
        None => Ok(backup),
        Some((destination, damage)) => {
            let more = match verified.damages.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more objects"),
            };
            let table = damage.table.as_ref().map_or_else(String::new, |table| format!(" (table {table})"));
            Err(EngineError::Damaged(format!(
                "run {run}, destination {destination}: {}{table}: {}{more}; the target was not touched",
                damage.object, damage.finding
            )))
        }
    }
}

/// What of the archive's owners and privileges is left out, everywhere alike.
const fn reduced(job: &RestoreJob) -> ArchiveOptions {
    ArchiveOptions { no_owner: job.no_owner, no_privileges: job.no_privileges, no_tablespaces: false }
}

/// Before the archive is even looked at: pg_restore itself depends on the target's version.
fn check_major(target: &ServerFacts, content: &Content) -> Result<(), EngineError> {
    if target.major() >= content.server.major() {
        return Ok(());
    }
    Err(EngineError::usage(
        format!(
            "the target is PostgreSQL {}, and the backup is of PostgreSQL {}",
            target.version, content.server.version
        ),
        "restore into the same major version or a newer one",
    ))
}

/// Everything that the target lacks, at once and by name.
async fn check_target(
    job: &RestoreJob,
    session: &Session,
    content: &Content,
    archive: &Archive,
    plan: &RestorePlan,
) -> Result<(), EngineError> {
    let properties = content.properties.clone().map(|properties| properties.reduced(reduced(job)));
    let demands = Demands {
        toc: archive.toc(),
        plan,
        source: &content.server,
        extensions: &content.extensions,
        roles: if job.no_owner && job.no_privileges { &[] } else { &content.roles },
        properties: properties.as_ref(),
        no_owner: job.no_owner,
        no_tablespaces: false,
    };
    let destination = target::Destination::NewDatabase(&job.target.database);
    let findings = target::preflight(session, &demands, destination).await?;
    let (blocking, notes): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| finding.severity == target::Severity::Blocks);
    for note in notes {
        job.progress.note(format!("note: {note}"));
    }
    let Some(first) = blocking.first() else { return Ok(()) };
    let lines: Vec<String> = blocking.iter().map(ToString::to_string).collect();
    Err(EngineError::TargetUnfit { reason: first.reason.clone(), findings: lines.join("; ") })
}

/// The same restore, run again, has the same identity, and takes up what it had left.
fn identity(job: &RestoreJob, backup: &Backup) -> Result<RestoreId, EngineError> {
    let text = format!("{} {} {}", backup.manifest_sha256, job.target, job.schema_only);
    Ok(RestoreId::new(&Sha256Digest::of(text.as_bytes()).to_string())?)
}

async fn build(
    job: &RestoreJob,
    backup: &Backup,
    content: &Content,
    archive: &Archive,
    plan: &RestorePlan,
    made: &NewDatabase,
) -> Result<Vec<RestoredTable>, EngineError> {
    let endpoint = made.endpoint();
    let jobs = job.parallelism.max(1);
    job.progress.begin(Stage::Schema, 0, 0);
    let session = Session::connect(&endpoint, "restore", &ClientEncoding::Utf8).await?;
    archive.restore(&endpoint, "schemas", &plan.schemas, 1).await?;
    kill_point::passed("restored", "schemas");
    create_extensions(&session, &plan.extensions, &content.extensions).await?;
    archive.restore(&endpoint, "definitions", &plan.definitions, 1).await?;
    kill_point::passed("restored", "definitions");
    let loader =
        load::Loading { job, backup, content: Arc::new(content.clone()), archive, plan, endpoint: &endpoint };
    loader.tables().await?;
    kill_point::passed("loaded", "tables");
    job.progress.begin(Stage::Finish, 0, 0);
    archive.restore(&endpoint, "postponed", &plan.postponed, jobs).await?;
    kill_point::passed("restored", "postponed");
    loader.tables_after_indexes().await?;
    if !job.schema_only {
        set_sequences(&session, &content.sequences_in(&session).await?).await?;
        kill_point::passed("restored", "sequences");
        // Large objects belong to no table: a selection of tables leaves them out, and says so.
        if job.selection == Selection::default() {
            large_objects::create(&session, &content.large_objects).await?;
            kill_point::passed("created", "large-objects");
            loader.large_objects(PageWriter::new(&session, content.server.block_size)).await?;
            large_objects::set_access_with(&session, &content.large_objects, reduced(job)).await?;
            kill_point::passed("restored", "large-objects");
        }
    }
    archive.restore(&endpoint, "relations", &plan.relations, jobs).await?;
    kill_point::passed("restored", "relations");
    let tables =
        if job.schema_only { Vec::new() } else { compare::compare(job, content, plan, &endpoint).await? };
    kill_point::passed("compared", "tables");
    job.progress.begin(Stage::Finish, 0, 0);
    archive.restore(&endpoint, "access", &plan.access, 1).await?;
    kill_point::passed("restored", "access");
    if !job.schema_only {
        refresh_views(&session, &plan.materialized_views, &content.populated_views).await?;
    }
    archive.restore(&endpoint, "views", &plan.views, jobs).await?;
    analyze(&session).await?;
    kill_point::passed("analyzed", "database");
    archive.restore(&endpoint, "event triggers", &plan.events, 1).await?;
    session.close().await?;
    Ok(tables)
}

/// Parses `15.18` as plans record it.
fn tool_version(text: &str, server: u32) -> ToolVersion {
    let parsed = text.split_once('.').and_then(|(major, minor)| {
        Some(ToolVersion { major: major.parse().ok()?, minor: minor.parse().ok()? })
    });
    parsed.unwrap_or_else(|| ToolVersion::of_server(server))
}
