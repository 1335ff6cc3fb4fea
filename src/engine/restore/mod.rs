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
mod unfinished;

use std::path::PathBuf;

use super::backups::Backup;
use super::destinations::Destinations;
use super::error::EngineError;
use super::interrupt::Interrupt;
use super::progress::Progress;
use super::register::Register;
use super::told;
use crate::format::{Fingerprint, QualifiedName, Sha256Digest};
use crate::kill_point;
use crate::source::roles::Role;
use crate::source::target::{
    Archive, ArchiveOptions, ClaimedSchemas, DatabaseOptions, DatabaseProperties, Fence, Leftovers,
    NewDatabase, RestoreId, RestorePlan, RoleNames, create_roles, existing_schemas, missing_roles,
};
use crate::source::{ClientEncoding, EndpointConfig, Selection, ServerFacts, Session, Tools};
use crate::telemetry::spans::part;

use build::Material;
use content::Content;
use fitness::Intention;
use site::Site;
use unfinished::Made;

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
    /// Roles that have another name in the target.
    pub role_names: RoleNames,
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
/// Any [`EngineError`]. The database of the wanted name is there when this succeeds, and is not when it fails: what
/// was made until then is dropped, or named by [`EngineError::RestoreGivenUp`]. Of a database that was there, the
/// record of what was made in it is gone when this succeeds.
pub async fn restore(job: &RestoreJob) -> Result<Restored, EngineError> {
    let (mut ready, session) = told(part!("prepare"), job.interrupt.race(Ready::new(job))).await?;
    let Some(fence) = ready.fence.take() else {
        let tables = ready.content.expected(&ready.plan.tables);
        return Ok(ready.restored(job, tables));
    };
    let part = part!("make", run = ready.backup.run);
    let tables = match told(part, ready.make(job, session, &fence)).await {
        Ok(tables) => tables,
        Err(error) => return Err(unfinished::given_up(job, (&ready.id, &ready.made), fence, error).await),
    };
    // Whatever became of the session that held the lock: the restore is done, and a failure now would say that it
    // is not.
    super::best_effort("what was restored has its name: nothing is left to be fenced", fence.release().await);
    Ok(ready.restored(job, tables))
}

/// Where a temporary file was to be made, for a message.
fn in_temporary(doing: &str) -> String {
    format!("{doing} in {}", std::env::temp_dir().display())
}

/// A restore that was proven, planned and fenced, and of which nothing is made yet.
struct Ready {
    backup: Backup,
    newer_undecided: Option<u32>,
    content: Content,
    archive: Archive,
    /// Holds the archive.
    _folder: tempfile::TempDir,
    /// Absent in a dry run.
    fence: Option<Fence>,
    id: RestoreId,
    plan: RestorePlan,
    made_roles: Vec<Role>,
    target: ServerFacts,
    made: Made,
}

impl Ready {
    /// With the session that has looked at the target.
    async fn new(job: &RestoreJob) -> Result<(Self, Session), EngineError> {
        let (backup, newer_undecided) = told(part!("prove"), proving::prove(job)).await?;
        let content = Content::read(job, &backup).await?.renamed(&job.policy.role_names)?;
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
            true => missing_roles(&session, &content.roles).await?.into_iter().cloned().collect(),
            false => Vec::<Role>::new(),
        };
        let to_be_made: Vec<&Role> = made_roles.iter().collect();
        let intention = Intention {
            job,
            content: &content,
            archive: &archive,
            plan: &plan,
            made_roles: &to_be_made,
            leftovers: leftovers.as_ref(),
        };
        intention.check(&session).await?;
        kill_point::passed("planned", "restore");
        let ready = Self {
            backup,
            newer_undecided,
            content,
            archive,
            _folder: folder,
            fence,
            id,
            plan,
            made_roles,
            target,
            made: Made::default(),
        };
        Ok((ready, session))
    }

    /// Makes everything; what was made until an error stays for [`unfinished::given_up`].
    async fn make(
        &self,
        job: &RestoreJob,
        session: Session,
        fence: &Fence,
    ) -> Result<Vec<RestoredTable>, EngineError> {
        let roles = async {
            let made: Vec<&Role> = self.made_roles.iter().collect();
            create_roles(&session, &made, self.target.is_superuser).await?;
            Ok(session.close().await?)
        };
        job.interrupt.race(roles).await?;
        let site = open_site(job, &self.content, &self.archive, &self.plan, &self.id).await?;
        if let Some(oid) = site.database() {
            self.made.database.get_or_init(|| oid);
        }
        let material = Material {
            job,
            backup: &self.backup,
            content: &self.content,
            archive: &self.archive,
            plan: &self.plan,
            block_size: self.target.block_size,
        };
        let tables = job.interrupt.race(material.build(&site)).await?;
        self.made.compared.get_or_init(|| ());
        kill_point::passed("built", "database");
        // Not raced: given up in the middle of a commit, nobody would know whether the name was given.
        told(part!("finish"), site.finish(fence)).await?;
        Ok(tables)
    }

    fn restored(&self, job: &RestoreJob, tables: Vec<RestoredTable>) -> Restored {
        Restored {
            run: self.backup.run,
            newer_undecided: self.newer_undecided,
            manifest_sha256: self.backup.manifest_sha256,
            database: job.target.database.clone(),
            tables,
            omissions: omissions(job, &self.content, &self.plan),
            dry_run: job.dry_run,
        }
    }
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
        let claim = async { Ok(ClaimedSchemas::claim(&session, &plan.schema_names, id, owner_of).await?) };
        let claimed = job.interrupt.race(claim).await?;
        session.close().await?;
        return Ok(Site::Existing { claimed, endpoint: job.target.clone() });
    }
    let maintenance = job.target.with_database(&job.maintenance_database);
    let options_of_database = DatabaseOptions { tablespace: None, owner: job.policy.owner.clone() };
    let (wanted, source) = (&job.target.database, &content.server);
    // Not raced: given up while the server is at it, the database would come into being after it was looked for.
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
