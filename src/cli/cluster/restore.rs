//! `kubectl vouchsafe restore --from BACKUP`: a Restore resource, made after its plan was shown.

use clap::Args;
use kube::ResourceExt;
use kube::api::PostParams;
use kube::core::ObjectMeta;

use super::confirm::confirm;
use super::object::{Object, Run, Wanted};
use super::restore_plan::RestorePlanReport;
use super::show::ClusterShowReport;
use super::{Asked, Cluster, ClusterArguments, ClusterReason, MANAGER, follow};
use crate::api::{
    Backup, CaSource, Exclude, Include, KeyRef, Kind, MissingRoles, OnExisting, PostgresSecret,
    PostgresTarget, Privileges, Restore, RestoreFrom, RestoreSpec, RestoreTarget, RoleMapping, Roles, Tls,
    TlsMode, ValidatedRestore,
};
use crate::cli::{Failure, OutputFormat, output, signals};

/// What only a restore in a cluster is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct RestoreArguments {
    /// In a cluster: backup/NAME, or schedule/NAME for its last proven one; makes a Restore resource
    #[arg(long, value_name = "KIND/NAME", help_heading = "Cluster")]
    from: Option<Wanted>,
    /// In a cluster: the Secret with username, password and (without --target-host) host of the target
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    target_secret: Option<String>,
    /// In a cluster: the target's host; absent: the Secret's key host
    #[arg(long, value_name = "HOST", help_heading = "Cluster")]
    target_host: Option<String>,
    /// In a cluster: the target's port; absent: 5432
    #[arg(long, value_name = "PORT", help_heading = "Cluster")]
    target_port: Option<u16>,
    /// In a cluster: the database to make, or with --into-empty-schemas to restore into
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    target_database: Option<String>,
    /// In a cluster: what is demanded of the target's certificate: verify-full (absent), verify-ca, require, disable
    #[arg(long, value_name = "MODE", value_parser = tls_mode, help_heading = "Cluster")]
    target_tls: Option<TlsMode>,
    /// In a cluster: the authorities of the target's certificate: secret/NAME/KEY or configmap/NAME/KEY
    #[arg(long, value_name = "KIND/NAME/KEY", value_parser = authority, help_heading = "Cluster")]
    target_ca: Option<CaSource>,
    /// In a cluster: the Restore's name; absent: the Backup's, with a random end
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    name: Option<String>,
    /// In a cluster: where its pod may run: region=eu-west1
    #[arg(long, value_name = "LOCALITY", help_heading = "Cluster")]
    execution_locality: Option<String>,
    /// In a cluster: how long it may take, such as 6h
    #[arg(long, value_name = "DURATION", help_heading = "Cluster")]
    deadline: Option<String>,
    /// In a cluster: make the Restore after its plan was shown, without a question
    #[arg(long, help_heading = "Cluster")]
    yes: bool,
    /// In a cluster: wait until the Restore has ended, and exit as it did
    #[arg(long, help_heading = "Cluster")]
    wait: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// What the options say that a restore has here as there.
#[derive(Debug, Default)]
pub(in crate::cli) struct RestoreWishes {
    pub(in crate::cli) include: Include,
    pub(in crate::cli) exclude: Exclude,
    pub(in crate::cli) schema_only: bool,
    pub(in crate::cli) dry_run: bool,
    pub(in crate::cli) owner: Option<String>,
    pub(in crate::cli) no_privileges: bool,
    pub(in crate::cli) create_roles: bool,
    pub(in crate::cli) role_mappings: Vec<RoleMapping>,
    pub(in crate::cli) into_empty_schemas: bool,
    pub(in crate::cli) parallelism: u32,
    pub(in crate::cli) expect_manifest_sha256: Option<String>,
}

/// A restore in a cluster, from a Backup that is named.
#[derive(Debug)]
pub(in crate::cli) struct ClusterRestore {
    from: Wanted,
    arguments: RestoreArguments,
    wishes: RestoreWishes,
}

impl RestoreArguments {
    /// Whether a cluster is meant.
    pub(in crate::cli) const fn is_given(&self) -> bool {
        self.from.is_some()
    }

    pub(in crate::cli) fn with(mut self, wishes: RestoreWishes) -> Result<ClusterRestore, Failure> {
        let Some(from) = self.from.take() else {
            return Err(Failure::usage("there is no --from", "write --from backup/NAME"));
        };
        Ok(ClusterRestore { from, arguments: self, wishes })
    }
}

impl ClusterRestore {
    pub(in crate::cli) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let interrupt = signals::interrupt()?;
        let cluster = self.arguments.cluster.connect().await?;
        let backup = self.chosen(&cluster).await?;
        let shown = ClusterShowReport::of(&backup)?;
        let restore = self.build(&backup, &shown)?;
        let mut report = RestorePlanReport::of(&restore, shown);
        if output == OutputFormat::Text {
            output::print(&report.text())?;
        }
        if !self.arguments.yes {
            confirm(&format!("Make {}?", restore.title()), "no Restore was made", output)?;
        }
        let asked = Asked::of::<Restore>("create", Some(&cluster.namespace));
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let created = cluster.api::<Restore>().create(&parameters, &restore).await;
        let mut restore = created.map_err(|error| asked.failed(error))?;
        let begun = format!("{} is made", restore.title());
        if self.arguments.wait {
            let say = |text: &str| {
                if output == OutputFormat::Text {
                    eprintln!("{text}");
                }
            };
            say(&begun);
            restore = follow::until_over(&cluster, &restore, &interrupt, say).await?;
        }
        report.restore = Some(restore.name_any());
        report.phase = Some(restore.phase());
        let failure = restore.ended_badly();
        if let Some(failure) = failure.clone() {
            report.reason = Some(failure.reason);
            report.message = Some(failure.message);
            report.hint = Some(failure.hint);
        }
        output::write(output, &report, || match self.arguments.wait {
            true => format!("{}: {}", restore.phase(), restore.title()),
            false => format!("{begun}; kubectl vouchsafe status {} shows how it goes", restore.title()),
        })?;
        failure.map_or(Ok(()), |failure| Err(Failure::of_outcome(failure)))
    }

    /// The Backup that is meant: of a schedule its last proven one, as it is now.
    async fn chosen(&self, cluster: &Cluster) -> Result<Backup, Failure> {
        let found = cluster.find(&self.from, &[Kind::Backup, Kind::BackupSchedule], "restored").await?;
        let name = match found {
            Object::Backup(backup) => return Ok(*backup),
            Object::Schedule(schedule) => {
                let last = schedule.status.as_ref().and_then(|status| status.last_success.clone());
                last.map(|last| last.name).ok_or_else(|| {
                    let message = format!("schedule/{} has no proven backup", schedule.name_any());
                    let hint = "kubectl vouchsafe trigger makes one; status says what became of the last";
                    Failure::of_cluster(ClusterReason::NotRestorable, message, hint)
                })?
            }
            Object::Store(_) | Object::Restore(_) => {
                return Err(Failure::internal("a Backup was looked for, and something else found"));
            }
        };
        cluster.get::<Backup>(&name).await?.ok_or_else(|| {
            let message = format!("backup/{name}, the last proven one of {}, is gone", self.from.name);
            let hint = "its data may be in the bucket still: a Restore's from.storeRef names it there";
            Failure::of_cluster(ClusterReason::ObjectNotFound, message, hint)
        })
    }

    /// The resource. Pinned to the manifest that the plan shows: what was agreed to is what is restored. Pure, but
    /// for the name's random end.
    fn build(&self, backup: &Backup, shown: &ClusterShowReport) -> Result<Restore, Failure> {
        let Self { from: _, arguments, wishes } = self;
        let Some(database) = arguments.target_database.clone() else {
            let hint = "name the database to make: --target-database shop_restored";
            return Err(Failure::usage("--target-database is missing", hint));
        };
        if arguments.target_secret.is_none() {
            let hint = "name the Secret with username, password and host of the target's server: --target-secret NAME";
            return Err(Failure::usage("--target-secret is missing", hint));
        }
        if let Some(expected) = &wishes.expect_manifest_sha256
            && *expected != shown.manifest_sha256
        {
            let message =
                format!("{} has the manifest {}, not {expected}", backup.title(), shown.manifest_sha256);
            let hint = "name another Backup, or find out who replaced this one";
            return Err(Failure::of_cluster(ClusterReason::NotRestorable, message, hint));
        }
        let tls = (arguments.target_tls.is_some() || arguments.target_ca.is_some())
            .then(|| Tls { mode: arguments.target_tls, ca: arguments.target_ca.clone() });
        let target = PostgresTarget {
            host: arguments.target_host.clone(),
            port: arguments.target_port,
            database,
            credentials_secret: arguments.target_secret.clone().map(|name| PostgresSecret {
                name,
                username_key: None,
                password_key: None,
                host_key: None,
            }),
            tls,
            auth: None,
        };
        let Include { schemas, tables } = &wishes.include;
        let spec = RestoreSpec {
            from: RestoreFrom { backup: Some(backup.name_any()), ..RestoreFrom::default() },
            point_in_time: None,
            target: RestoreTarget { postgres: Some(target), ephemeral: None },
            roles: (wishes.create_roles || !wishes.role_mappings.is_empty()).then(|| Roles {
                missing: wishes.create_roles.then_some(MissingRoles::Create),
                map: wishes.role_mappings.clone(),
            }),
            owner: wishes.owner.clone(),
            privileges: wishes.no_privileges.then_some(Privileges::Skip),
            create_database: wishes.into_empty_schemas.then_some(false),
            on_existing: wishes.into_empty_schemas.then_some(OnExisting::IntoEmptySchemas),
            include: (!schemas.is_empty() || !tables.is_empty()).then(|| wishes.include.clone()),
            exclude: (!wishes.exclude.tables.is_empty()).then(|| wishes.exclude.clone()),
            schema_only: wishes.schema_only.then_some(true),
            dry_run: wishes.dry_run.then_some(true),
            expect_manifest_sha256: Some(shown.manifest_sha256.clone()),
            execution_locality: arguments.execution_locality.clone(),
            parallelism: Some(wishes.parallelism),
            pod_template: None,
            deadline: arguments.deadline.clone(),
            suspend: None,
            cancel: None,
        };
        let name =
            arguments.name.clone().unwrap_or_else(|| super::trigger::named(&backup.name_any(), "restore"));
        let mut restore = Restore::new(&name, spec);
        restore.metadata = ObjectMeta { namespace: backup.namespace(), ..restore.metadata };
        // What the controller would refuse is told before anything is made.
        match ValidatedRestore::try_from(restore.clone()) {
            Ok(_) => Ok(restore),
            Err(refusals) => Err(Failure::usage(
                refusals.to_string(),
                "each is a field of the Restore, and one of the options; correct what is named",
            )),
        }
    }
}

fn tls_mode(text: &str) -> Result<TlsMode, String> {
    match text {
        "verify-full" => Ok(TlsMode::VerifyFull),
        "verify-ca" => Ok(TlsMode::VerifyCa),
        "require" => Ok(TlsMode::Require),
        "disable" => Ok(TlsMode::Disable),
        _ => Err("verify-full, verify-ca, require or disable".to_owned()),
    }
}

fn authority(text: &str) -> Result<CaSource, String> {
    let mut words = text.splitn(3, '/');
    let (Some(kind), Some(name), Some(key)) = (words.next(), words.next(), words.next()) else {
        return Err("write secret/NAME/KEY or configmap/NAME/KEY".to_owned());
    };
    let key = KeyRef { name: name.to_owned(), key: key.to_owned() };
    match kind {
        "secret" => Ok(CaSource { secret: Some(key), config_map: None }),
        "configmap" | "cm" => Ok(CaSource { secret: None, config_map: Some(key) }),
        _ => Err(format!("{kind:?}: write secret/NAME/KEY or configmap/NAME/KEY")),
    }
}
