//! The restorer: proves the backup again, builds a database under a name of its own, compares every table
//! with the manifest, and only then gives it the name that was asked for.

mod build;
mod compare;
mod content;
mod fitness;
mod large_objects;
mod load;
mod proving;
mod site;

use std::path::PathBuf;

use super::backups::Backup;
use super::destinations::Destinations;
use super::error::EngineError;
use super::interrupt::Interrupt;
use super::progress::Progress;
use super::register::Register;
use crate::format::{Fingerprint, QualifiedName, Sha256Digest};
use crate::kill_point;
use crate::source::target::{
    Archive, ArchiveOptions, ClaimedSchemas, DatabaseOptions, DatabaseProperties, Fence, Leftovers,
    NewDatabase, RestoreId, RestorePlan, create_roles, existing_schemas, missing_roles,
};
use crate::source::{ClientEncoding, EndpointConfig, Selection, ServerFacts, Session, Tools};

use build::Material;
use content::Content;
use fitness::Intention;
use site::Site;

/// Into what a restore goes. Nothing is ever overwritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestorePlace {
    /// A database that is made for it.
    #[default]
    NewDatabase,
    /// Schemas, absent or empty, of the database that the target names.
    EmptySchemas,
}

/// What a restore makes of its target besides the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestorePolicy {
    /// Into what it goes.
    pub place: RestorePlace,
    /// The role that everything is to belong to; `None`: as it was, or with [`RestoreJob::no_owner`] to the role
    /// that restores.
    pub owner: Option<String>,
    /// Make the roles that the target lacks.
    pub create_roles: bool,
}

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
    /// The server, and the database to be made on it, or to restore into.
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
    /// Into what it goes, and whose it is to be.
    pub policy: RestorePolicy,
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
    /// A newer one that is not decided, if this one was chosen as the newest sealed.
    pub newer_undecided: Option<u32>,
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
/// Any [`EngineError`]. The database of the wanted name is there when this succeeds, and is not when it fails; of a
/// database that was there, the record of what was made in it is gone when this succeeds.
pub async fn restore(job: &RestoreJob) -> Result<Restored, EngineError> {
    job.interrupt.race(carry_out(job)).await
}

/// Where a temporary file was to be made, for a message.
fn in_temporary(doing: &str) -> String {
    format!("{doing} in {}", std::env::temp_dir().display())
}

async fn carry_out(job: &RestoreJob) -> Result<Restored, EngineError> {
    let (backup, newer_undecided) = proving::prove(job).await?;
    let content = Content::read(job, &backup).await?;
    kill_point::passed("proven", "backup");
    let folder =
        tempfile::tempdir().map_err(|source| EngineError::io(in_temporary("making a folder"), source))?;
    let path: PathBuf = folder.path().join("schema.dump");
    tokio::fs::write(&path, &content.archive)
        .await
        .map_err(|source| EngineError::io(format!("writing {}", path.display()), source))?;
    let (into_new, database) = (job.policy.place == RestorePlace::NewDatabase, &job.target.database);
    let entrance = match into_new {
        true => job.target.with_database(&job.maintenance_database),
        false => job.target.clone(),
    };
    let session = Session::connect(&entrance, "preflight", &ClientEncoding::Utf8).await?;
    let target = ServerFacts::read(&session).await?;
    fitness::check_major(&target, &content)?;
    let tool = job.tools.pg_restore_for(content.archive_version(), target.major()).await?;
    let mut archive = Archive::open(&path, &tool.path, options(job)).await?;
    if let Some(owner) = &job.policy.owner {
        archive = archive.executed_as(owner);
    }
    // Before anything is looked for: another restore may be making it.
    let fence = match job.dry_run {
        true => None,
        false => Some(Fence::acquire(&entrance, database, Fence::DEFAULT_PATIENCE).await?),
    };
    kill_point::passed("fenced", "target");
    let id = identity(job, &backup)?;
    let leftovers = if into_new { None } else { Some(Leftovers::read(&session, &id).await?) };
    let plan = ordered(job, &content, &archive, &session, leftovers.as_ref()).await?;
    let made_roles = match job.policy.create_roles {
        true => missing_roles(&session, &content.roles).await?,
        false => Vec::new(),
    };
    let intention = Intention {
        job,
        content: &content,
        archive: &archive,
        plan: &plan,
        made_roles: &made_roles,
        leftovers: leftovers.as_ref(),
    };
    intention.check(&session).await?;
    kill_point::passed("planned", "restore");
    let restored = |tables: Vec<RestoredTable>| Restored {
        run: backup.run,
        newer_undecided,
        manifest_sha256: backup.manifest_sha256,
        database: database.clone(),
        tables,
        omissions: omissions(job, &content, &plan),
        dry_run: job.dry_run,
    };
    let Some(fence) = fence else { return Ok(restored(content.expected(&plan.tables))) };
    create_roles(&session, &made_roles, target.is_superuser).await?;
    session.close().await?;
    let site = open_site(job, &content, &archive, &plan, &id).await?;
    let material = Material {
        job,
        backup: &backup,
        content: &content,
        archive: &archive,
        plan: &plan,
        block_size: target.block_size,
    };
    let tables = material.build(&site).await?;
    kill_point::passed("built", "database");
    site.finish(fence).await?;
    Ok(restored(tables))
}

/// The order of the restore, without what the place or the owner can't have.
async fn ordered(
    job: &RestoreJob,
    content: &Content,
    archive: &Archive,
    session: &Session,
    leftovers: Option<&Leftovers>,
) -> Result<RestorePlan, EngineError> {
    let facts: Vec<_> = content.tables_of(0).map(|table| table.facts.clone()).collect();
    let mut plan = RestorePlan::new(archive.toc(), &facts, &job.selection)?;
    if let Some(leftovers) = leftovers {
        let mut existing = existing_schemas(session, &plan.schema_names).await?;
        existing.retain(|schema| !leftovers.created.contains(schema));
        plan = plan.for_existing_database(archive.toc(), &facts, &existing);
    }
    if job.policy.owner.is_some() {
        plan = plan.for_one_owner(archive.toc());
    }
    Ok(plan)
}

/// Everything that isn't restored, with why.
fn omissions(job: &RestoreJob, content: &Content, plan: &RestorePlan) -> Vec<String> {
    let mut omissions: Vec<String> =
        plan.omissions.iter().map(|it| format!("{}: {}", it.object, it.why)).collect();
    if job.selection != Selection::default() && !content.large_objects.is_empty() {
        let count = content.large_objects.len();
        omissions.push(format!("{count} large objects: a selection takes tables only"));
    }
    if job.policy.place == RestorePlace::EmptySchemas {
        omissions.push("the database's owner, settings, privileges and comment: it has its own".into());
    }
    omissions
}

/// Makes the database, or claims the schemas.
async fn open_site(
    job: &RestoreJob,
    content: &Content,
    archive: &Archive,
    plan: &RestorePlan,
    id: &RestoreId,
) -> Result<Site, EngineError> {
    if job.policy.place == RestorePlace::EmptySchemas {
        let session = Session::connect(&job.target, "restore", &ClientEncoding::Utf8).await?;
        let owner_of = |schema: &str| match &job.policy.owner {
            Some(owner) => Some(owner.clone()),
            None if job.no_owner => None,
            None => archive.toc().owner_of_schema(schema).map(str::to_owned),
        };
        let claimed = ClaimedSchemas::claim(&session, &plan.schema_names, id, owner_of).await?;
        session.close().await?;
        return Ok(Site::Existing { claimed, endpoint: job.target.clone() });
    }
    let maintenance = job.target.with_database(&job.maintenance_database);
    let options_of_database = DatabaseOptions { tablespace: None, owner: job.policy.owner.clone() };
    let (wanted, source) = (&job.target.database, &content.server);
    let made = NewDatabase::create(&maintenance, wanted, id, source, &options_of_database).await?;
    let properties = content.properties.clone().unwrap_or_else(DatabaseProperties::server_defaults);
    let mut properties = properties.reduced(options(job));
    properties.owner = job.policy.owner.clone().or(properties.owner);
    Ok(Site::New { made, properties })
}

/// What of the archive's owners and privileges is left out, everywhere alike.
const fn options(job: &RestoreJob) -> ArchiveOptions {
    let no_owner = job.no_owner || job.policy.owner.is_some();
    ArchiveOptions { no_owner, no_privileges: job.no_privileges, no_tablespaces: false }
}

/// The same restore, run again, has the same identity, and takes up what it had left.
fn identity(job: &RestoreJob, backup: &Backup) -> Result<RestoreId, EngineError> {
    let mut text = format!("{} {} {}", backup.manifest_sha256, job.target, job.schema_only);
    if job.policy.place == RestorePlace::EmptySchemas {
        text.push_str(&format!(" {:?}", job.selection));
    }
    Ok(RestoreId::new(&Sha256Digest::of(text.as_bytes()).to_string())?)
}
