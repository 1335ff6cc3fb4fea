//! A Restore, checked.

use std::num::NonZeroU32;
use std::time::Duration;

use super::super::refusal::Refusals;
use super::super::{
    Kind, MissingRoles, ObjectRef, OnExisting, PointInTime, PostgresTarget, Privileges, Restore, RestoreFrom,
    RestoreSpec, RestoreTarget, RoleMapping, Roles,
};
use super::backup::{DEFAULT_PARALLELISM, checked_collection};
use super::pod_template::ValidatedPodTemplate;
use super::selection::Selection;
use super::server::{Reach, ValidatedServer};
use super::{Identity, LOCALITY_HINT, bounds, optional, positive_duration};
use crate::plan::locality::Locality;

/// A Restore that makes sense and that this version can carry out.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedRestore {
    /// Which object.
    pub identity: Identity,
    /// Which backup.
    pub from: ValidatedFrom,
    /// Where it goes.
    pub target: ValidatedTarget,
    /// Into what.
    pub mode: RestoreMode,
    /// What happens to a role that the target doesn't have.
    pub missing_roles: MissingRoles,
    /// Roles that have another name in the target; each is there once.
    pub role_mappings: Vec<RoleMapping>,
    /// The role that owns everything restored; `None`: as it was.
    pub owner: Option<String>,
    /// What happens to privileges.
    pub privileges: Privileges,
    /// Which tables are restored.
    pub selection: Selection,
    /// Whether rows are left out.
    pub schema_only: bool,
    /// Whether only what can be checked beforehand is checked.
    pub dry_run: bool,
    /// The digest of the only manifest that may be restored, 64 lowercase hexadecimal digits.
    pub expect_manifest_sha256: Option<String>,
    /// Where the restorer may run; no effect without Kubernetes.
    pub execution_locality: Option<Locality>,
    /// Connections to the target, 1 to 64.
    pub parallelism: NonZeroU32,
    /// The restore's pod; no effect without Kubernetes.
    pub pod_template: Option<ValidatedPodTemplate>,
    /// How long it may take; `None`: no limit.
    pub deadline: Option<Duration>,
    /// Whether nothing is to be done for now.
    pub suspend: bool,
    /// Whether it is to end now.
    pub cancel: bool,
}

/// Which backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValidatedFrom {
    /// A Backup by name, in the same namespace. Without Kubernetes: one of the same file, whose store and
    /// collection say where, and whose last sealed run is meant.
    Backup(String),
    /// A run in a store.
    Run {
        /// The BackupStore's name, in the same namespace.
        store: String,
        /// The collection; `None`: the store's prefix itself.
        collection: Option<String>,
        /// The run's number; `None`: the last sealed one.
        run: Option<u64>,
    },
}

/// A database on a server that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedTarget {
    /// How to reach the server.
    pub server: ValidatedServer,
    /// The database, 1 to 63 bytes.
    pub database: String,
}

/// Into what a restore goes. Nothing ever overwrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreMode {
    /// Into a database made for it, under a name of its own until it is verified; refused if the
    /// target's name is taken.
    CreateDatabase,
    /// Into schemas, of a database that exists, that hold nothing.
    IntoEmptySchemas,
}

impl TryFrom<Restore> for ValidatedRestore {
    type Error = Refusals;

    fn try_from(restore: Restore) -> Result<Self, Refusals> {
        let Restore { metadata, spec, status: _ } = restore;
        let bounds = bounds(Kind::Restore, &spec);
        let mut refusals = Refusals::default();
        let restore = parse(&mut refusals, Identity::of(metadata), spec);
        refusals.absorb(bounds);
        refusals.into_result(restore)
    }
}

impl ValidatedRestore {
    /// The fields that are set and have no effect without Kubernetes, for a notice to the user.
    #[must_use]
    pub fn without_effect_here(&self) -> Vec<&'static str> {
        let locality = self.execution_locality.is_some().then_some("spec.executionLocality");
        locality.into_iter().chain(self.pod_template.is_some().then_some("spec.podTemplate")).collect()
    }
}

fn parse(refusals: &mut Refusals, identity: Identity, spec: RestoreSpec) -> Option<ValidatedRestore> {
    let RestoreSpec {
        from,
        point_in_time,
        target,
        roles,
        owner,
        privileges,
        create_database,
        on_existing,
        include,
        exclude,
        schema_only,
        dry_run,
        expect_manifest_sha256,
        execution_locality,
        parallelism,
        pod_template,
        deadline,
        suspend,
        cancel,
    } = spec;
    if let Some(PointInTime { time: _, lsn: _ }) = point_in_time {
        let hint = "leave it out; a backup is restored to its layer's end";
        refusals.not_built_yet(true, "spec.pointInTime", hint);
    }
    let Roles { map, missing } = roles.unwrap_or_default();
    let from = origin(refusals, from);
    let target = destination(refusals, target);
    let mode = mode(refusals, create_database, on_existing);
    let selection = Selection::parse(refusals, "spec", include, exclude);
    let execution_locality =
        optional(refusals, "spec.executionLocality", execution_locality, str::parse, LOCALITY_HINT);
    let pod_template = match pod_template {
        None => Some(None),
        Some(template) => ValidatedPodTemplate::parse(refusals, "spec.podTemplate", template).map(Some),
    };
    let deadline = positive_duration(refusals, "spec.deadline", deadline);
    Some(ValidatedRestore {
        identity,
        from: from?,
        target: target?,
        mode: mode?,
        missing_roles: missing.unwrap_or_default(),
        role_mappings: map,
        owner,
        privileges: privileges.unwrap_or_default(),
        selection: selection?,
        schema_only: schema_only.unwrap_or(false),
        dry_run: dry_run.unwrap_or(false),
        expect_manifest_sha256,
        execution_locality: execution_locality?,
        parallelism: parallelism.and_then(NonZeroU32::new).unwrap_or(DEFAULT_PARALLELISM),
        pod_template: pod_template?,
        deadline: deadline?,
        suspend: suspend.unwrap_or(false),
        cancel: cancel.unwrap_or(false),
    })
}

fn origin(refusals: &mut Refusals, from: RestoreFrom) -> Option<ValidatedFrom> {
    let RestoreFrom { backup, store_ref, collection, run, schedule } = from;
    let members =
        usize::from(backup.is_some()) + usize::from(store_ref.is_some()) + usize::from(schedule.is_some());
    if members != 1 {
        let message = "has not exactly one of backup, storeRef and schedule";
        refusals.conflict("spec.from", message, "name a backup, or a storeRef with collection and run");
        return None;
    }
    if store_ref.is_none() {
        for (field, present) in [("collection", collection.is_some()), ("run", run.is_some())] {
            if present {
                refusals.conflict(format!("spec.from.{field}"), "belongs to storeRef", "leave it out");
            }
        }
    }
    let hint = "name the backup, or its storeRef, collection and run";
    refusals.not_built_yet(schedule.is_some(), "spec.from.schedule", hint);
    let collection = checked_collection(refusals, "spec.from.collection", collection);
    let run = match run.map(u64::try_from) {
        None => Some(None),
        Some(Ok(run)) => Some(Some(run)),
        // The bounds say so.
        Some(Err(_)) => None,
    };
    match (backup, store_ref) {
        (Some(backup), _) => Some(ValidatedFrom::Backup(backup)),
        (None, Some(ObjectRef { name: store })) => {
            Some(ValidatedFrom::Run { store, collection: collection?, run: run? })
        }
        (None, None) => None,
    }
}

fn destination(refusals: &mut Refusals, target: RestoreTarget) -> Option<ValidatedTarget> {
    let RestoreTarget { postgres, ephemeral } = target;
    let hint = "restore into a server of yours: target.postgres";
    refusals.not_built_yet(ephemeral.is_some(), "spec.target.ephemeral", hint);
    match (postgres, ephemeral) {
        (Some(postgres), None) => {
            let PostgresTarget { host, port, database, credentials_secret, tls, auth } = postgres;
            let reach = Reach { host, port, credentials_secret, tls, auth };
            let server = ValidatedServer::parse(refusals, "spec.target.postgres", reach)?;
            Some(ValidatedTarget { server, database })
        }
        (None, Some(_)) => None,
        (Some(_), Some(_)) => {
            refusals.conflict("spec.target", "has both postgres and ephemeral", "keep postgres");
            None
        }
        (None, None) => {
            refusals.conflict("spec.target", "has neither postgres nor ephemeral", "set target.postgres");
            None
        }
    }
}

/// createDatabase and onExisting have to say the same.
fn mode(
    refusals: &mut Refusals,
    create_database: Option<bool>,
    on_existing: Option<OnExisting>,
) -> Option<RestoreMode> {
    match (create_database.unwrap_or(true), on_existing.unwrap_or_default()) {
        (true, OnExisting::Refuse) => Some(RestoreMode::CreateDatabase),
        (false, OnExisting::IntoEmptySchemas) => Some(RestoreMode::IntoEmptySchemas),
        (true, OnExisting::IntoEmptySchemas) => {
            let message = "IntoEmptySchemas restores into a database that exists";
            refusals.conflict("spec.onExisting", message, "set createDatabase to false");
            None
        }
        (false, OnExisting::Refuse) => {
            let message = "without it the database exists, and onExisting refuses that";
            refusals.conflict("spec.createDatabase", message, "set onExisting to IntoEmptySchemas");
            None
        }
    }
}
