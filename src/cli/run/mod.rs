//! `vouchsafe run -f FILE`: one Backup or Restore of a YAML file, carried out in this process.

mod azure;
pub(super) mod file;
mod reach;
mod selection;
pub(super) mod stores;

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use self::file::Chosen;
pub(super) use self::file::Objects;
pub(super) use self::stores::url_of;
use super::options::ToolArguments;
use super::output::Work;
use super::report::{BackupReport, RestoreReport};
use super::restore::role_names;
use super::{Failure, OutputFormat, output, progress, signals};
use crate::api::{
    self, MissingRoles, Privileges, RestoreMode, ValidatedBackup, ValidatedBackupSpec, ValidatedBackupStore,
    ValidatedEndpoint, ValidatedFrom, ValidatedPostgres, ValidatedRestore, ValidatedTarget,
};
use crate::engine::crew::{Crew, InThisProcess};
use crate::engine::interrupt::{Deadline, Interrupt};
use crate::engine::job::{DEFAULT_SPAN_BYTES, listing_patience, owner_of};
use crate::engine::progress::Progress;
use crate::engine::restore::{RestoreJob, RestorePlace, RestorePolicy, restore};
use crate::engine::{BackupJob, Endpoint, EngineError, Placement, back_up};
use crate::plan::placement::{PlacementRule, Unplaced};
use crate::source::{TablePattern, Tools};

/// The database that a restore connects to while it makes another: every cluster of initdb's has it.
const MAINTENANCE_DATABASE: &str = "postgres";

#[derive(Args, Debug)]
pub(super) struct Run {
    /// The YAML file, with the resource, its BackupStore, and the Secrets and ConfigMaps that they name; - for
    /// standard input. A Secret that is not in it: PGUSER, PGPASSWORD or PGPASSFILE, and the cloud's own
    /// credentials
    #[arg(short = 'f', long = "file", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Which Backup or Restore, if there are several: its name, or Backup/NAME, Restore/NAME
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    tools: ToolArguments,
}

impl Run {
    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let objects = Objects::read(&self.file)?;
        let done = match objects.choose(self.name.as_deref())? {
            Chosen::Backup(backup) => self.back_up(&objects, backup, output).await,
            Chosen::Restore(restore) => self.restore(&objects, restore, output).await,
        };
        done.map_err(Failure::of_fields)
    }

    async fn back_up(
        &self,
        objects: &Objects,
        raw: &api::Backup,
        output: OutputFormat,
    ) -> Result<(), Failure> {
        let ValidatedBackup { identity, spec } = file::validated("Backup", raw.clone())?;
        let backup = ValidatedBackup { identity, spec };
        notice("Backup", &backup.without_effect_here());
        let identity = &backup.identity;
        let ValidatedBackupSpec { store, suspend, cancel, deadline, .. } = &backup.spec;
        may_run(*suspend, *cancel)?;
        let deadline = deadline.map(Deadline::within);
        let raw_store = objects.of(identity.namespace.as_deref()).store(store, "spec.storeRef")?;
        let owner = owner(identity, &raw.spec, &raw_store.spec)?;
        let means = Means {
            owner,
            crew: Arc::new(InThisProcess),
            tools: self.tools.tools(),
            deadline,
            interrupt: signals::interrupt()?,
            progress: progress::shown(output),
        };
        let job = backup_job(objects, &backup, means).await?;
        let sealed =
            back_up(&job).await.map_err(|error| Failure::of_work(error, Work::Backup, &job.interrupt))?;
        let report = BackupReport::of(&sealed);
        output::write(output, &report, || report.text())
    }

    async fn restore(
        &self,
        objects: &Objects,
        raw: &api::Restore,
        output: OutputFormat,
    ) -> Result<(), Failure> {
        let validated: ValidatedRestore = file::validated("Restore", raw.clone())?;
        notice("Restore", &validated.without_effect_here());
        may_run(validated.suspend, validated.cancel)?;
        let deadline = validated.deadline.map(Deadline::within);
        let (interrupt, stop) = signals::interrupt()?.of_part();
        let means = RestoreMeans { tools: self.tools.tools(), interrupt, progress: progress::shown(output) };
        let job = restore_job(objects, validated, means).await?;
        let restored = match deadline {
            None => restore(&job).await,
            Some(deadline) => deadline.over(stop, restore(&job)).await,
        };
        let restored = restored.map_err(|error| Failure::of_work(error, Work::Restore, &job.interrupt))?;
        output::warn_of_undecided(restored.newer_undecided);
        let report = RestoreReport::of(&restored);
        output::write(output, &report, || report.text())
    }
}

/// What a backup needs besides its resources.
pub(super) struct Means {
    pub(super) owner: String,
    pub(super) crew: Arc<dyn Crew>,
    pub(super) tools: Tools,
    pub(super) deadline: Option<Deadline>,
    pub(super) interrupt: Interrupt,
    pub(super) progress: Progress,
}

/// What a restore needs besides its resources.
pub(super) struct RestoreMeans {
    pub(super) tools: Tools,
    pub(super) interrupt: Interrupt,
    pub(super) progress: Progress,
}

/// A Restore with everything opened that it names.
pub(super) async fn restore_job(
    objects: &Objects,
    restore: ValidatedRestore,
    means: RestoreMeans,
) -> Result<RestoreJob, Failure> {
    let ValidatedRestore {
        identity,
        from,
        target: ValidatedTarget { server, database },
        mode,
        missing_roles,
        role_mappings,
        owner,
        privileges,
        selection,
        schema_only,
        dry_run,
        expect_manifest_sha256,
        execution_locality: _,
        parallelism,
        pod_template: _,
        deadline: _,
        suspend: _,
        cancel: _,
    } = restore;
    let scope = objects.of(identity.namespace.as_deref());
    let (store, collection, run) = match from {
        ValidatedFrom::Run { store, collection, run } => (store, collection, run),
        ValidatedFrom::Backup(name) => {
            let backup: ValidatedBackup = file::validated("Backup", scope.backup(&name)?.clone())?;
            (backup.spec.store, backup.spec.collection, None)
        }
    };
    let run = run.map(u32::try_from).transpose().map_err(|_| {
        Failure::usage("spec.from.run: there is no such run", "vouchsafe list shows a collection's runs")
    })?;
    let store = validated_store(scope.store(&store, "spec.from")?)?;
    let target = reach::endpoint(&server, "spec.target.postgres", &database, &scope)?;
    let selection = selection::converted(&selection);
    let expect_manifest = expect_manifest_sha256.map(|digest| digest.parse()).transpose();
    let expect_manifest = expect_manifest.map_err(|error| {
        Failure::usage(format!("spec.expectManifestSha256: {error}"), "vouchsafe show prints it")
    })?;
    let opened = stores::open(&store, collection.as_deref(), None, &scope).await?;
    let RestoreMeans { tools, interrupt, progress } = means;
    Ok(RestoreJob {
        destinations: opened.destinations,
        register: opened.register,
        run,
        expect_manifest,
        target,
        maintenance_database: MAINTENANCE_DATABASE.to_owned(),
        selection,
        schema_only,
        dry_run,
        no_owner: false,
        no_privileges: privileges == Privileges::Skip,
        policy: RestorePolicy {
            place: match mode {
                RestoreMode::CreateDatabase => RestorePlace::NewDatabase,
                RestoreMode::IntoEmptySchemas => RestorePlace::EmptySchemas,
            },
            owner,
            create_roles: missing_roles == MissingRoles::Create,
            role_names: role_names(&role_mappings)?,
        },
        parallelism: parallelism.get() as usize,
        tools,
        interrupt,
        progress,
    })
}

/// A Backup with everything opened that it names.
pub(super) async fn backup_job(
    objects: &Objects,
    backup: &ValidatedBackup,
    means: Means,
) -> Result<BackupJob, Failure> {
    let ValidatedBackupSpec {
        store,
        collection,
        // Both choices make a full layer until there are others.
        layer: _,
        source,
        execution_locality: _,
        parallelism,
        rate_limit,
        pod_template: _,
        deadline: _,
        suspend: _,
        cancel: _,
        deletes_data: _,
    } = &backup.spec;
    let scope = objects.of(backup.identity.namespace.as_deref());
    let store = validated_store(scope.store(store, "spec.storeRef")?)?;
    if store.access_mode == api::AccessMode::ReadOnly {
        let message = format!("spec.storeRef: BackupStore {} has accessMode ReadOnly", store.identity.name);
        return Err(Failure::usage(message, "a store that takes backups is ReadWrite"));
    }
    let selection = selection::converted(&source.selection);
    let (endpoints, placement) = (endpoints(source, &scope)?, placement(source)?);
    let opened = stores::open(&store, collection.as_deref(), *rate_limit, &scope).await?;
    let Means { owner, crew, tools, deadline, interrupt, progress } = means;
    Ok(BackupJob {
        owner,
        destinations: opened.destinations,
        register: opened.register,
        locality_policy: store.locality_policy,
        endpoints,
        placement,
        selection,
        parallelism: parallelism.get() as usize,
        span_bytes: NonZeroU64::MIN.saturating_add(DEFAULT_SPAN_BYTES - 1),
        crew,
        tools,
        listing_patience: listing_patience(),
        deadline,
        errors: opened.errors,
        interrupt,
        progress,
    })
}

/// A resource says for whom it waits; here nobody else would do it.
fn may_run(suspend: bool, cancel: bool) -> Result<(), Failure> {
    if cancel {
        return Err(Failure::usage("spec.cancel: the resource is cancelled", "take cancel out to run it"));
    }
    if suspend {
        return Err(Failure::usage(
            "spec.suspend: the resource is suspended",
            "take suspend out, or set it to false, to run it",
        ));
    }
    Ok(())
}

/// Says which fields are set and have no effect here.
fn notice(kind: &str, fields: &[&'static str]) {
    for field in fields {
        eprintln!("{kind}: {field} has no effect without Kubernetes");
    }
}

pub(super) fn validated_store(raw: &api::BackupStore) -> Result<ValidatedBackupStore, Failure> {
    let store: ValidatedBackupStore = file::validated("BackupStore", raw.clone())?;
    notice("BackupStore", store.without_effect_here());
    Ok(store)
}

/// The same resource, run again, is the owner of the run that it left open. What may change in a resource's
/// life (`suspend` and the like) is no part of it.
fn owner(
    identity: &api::Identity,
    spec: &api::BackupSpec,
    store: &api::BackupStoreSpec,
) -> Result<String, Failure> {
    let spec = api::BackupSpec { suspend: None, cancel: None, deletion_policy: None, ..spec.clone() };
    let namespace = identity.namespace.clone().unwrap_or_default();
    Ok(owner_of(&["run".into(), namespace, identity.name.clone(), json(&spec)?, json(store)?]))
}

/// Fields in the order of their types, so equal specs are equal texts.
fn json(spec: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(spec).map_err(|error| Failure::internal(format!("a spec is no JSON: {error}")))
}

fn endpoints(source: &ValidatedPostgres, scope: &file::Scope<'_>) -> Result<Vec<Endpoint>, Failure> {
    source.endpoints.iter().map(|it| endpoint(it, &source.database, scope)).collect()
}

/// One of a Backup's servers.
pub(super) fn endpoint(
    endpoint: &ValidatedEndpoint,
    database: &str,
    scope: &file::Scope<'_>,
) -> Result<Endpoint, Failure> {
    let path = format!("spec.source.postgres.endpoints[{}]", endpoint.name);
    Ok(Endpoint {
        name: endpoint.name.clone(),
        locality: endpoint.locality.clone(),
        config: reach::endpoint(&endpoint.server, &path, database, scope)?,
    })
}

fn placement(source: &ValidatedPostgres) -> Result<Placement, Failure> {
    let rules = source.placement.iter().map(|rule| {
        Ok(PlacementRule {
            name: rule.name.clone(),
            tables: selection::tables(&rule.tables),
            partitions_of: rule
                .partitions_of
                .iter()
                .map(|name| crate::format::QualifiedName::new(&*name.schema, &*name.table))
                .collect(),
            locality: rule.locality.clone(),
        })
    });
    let mut rules = rules.collect::<Result<Vec<_>, Failure>>()?;
    // The API's Default is the endpoint's own locality, and so is the only locality there is; the engine's is
    // the default destination.
    let own = source.endpoints.first().and_then(|endpoint| endpoint.locality.clone());
    let rest = source.unplaced == api::Unplaced::Default || source.localities().len() == 1;
    if let Some(locality) = own.filter(|_| rest && !rules.is_empty()) {
        let all = TablePattern::parse("*.*").map_err(EngineError::from)?;
        let name = "unplaced: Default".to_owned();
        rules.push(PlacementRule { name, tables: vec![all], partitions_of: Vec::new(), locality });
    }
    let unplaced = match source.unplaced {
        api::Unplaced::Fail => Unplaced::Fail,
        api::Unplaced::Default => Unplaced::Default,
    };
    Ok(Placement { rules, unplaced })
}
