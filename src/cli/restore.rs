//! `vouchsafe restore`: here; with `--from` in a cluster.

use std::collections::BTreeSet;

use clap::Args;

use super::backup::selection;
use super::cluster::{ClusterRestore, RestoreArguments, RestoreWishes};
use super::options::{self, StoreArguments, ToolArguments};
use super::output::Work;
use super::report::RestoreReport;
use super::{Failure, OutputFormat, output, progress, signals};
use crate::api::{Exclude, Include, RoleMapping};
use crate::engine::restore::{RestoreJob, RestorePlace, RestorePolicy, restore};
use crate::format::Sha256Digest;
use crate::source::target::RoleNames;

#[derive(Args, Debug)]
pub(super) struct Restore {
    #[command(flatten)]
    stores: StoreArguments,
    /// The number of the run, as list shows it; absent: the newest sealed one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    run: Option<u32>,
    /// The server, and the database to be made on it, or with --into-empty-schemas to restore into:
    /// `postgres://role@host:port/database?sslmode=verify-full&sslrootcert=FILE`
    #[arg(long, value_name = "URL", required_unless_present = "from")]
    target: Option<String>,
    /// A database of that server to connect to meanwhile
    #[arg(long, value_name = "NAME", default_value = "postgres")]
    maintenance_database: String,
    /// Refuse any other manifest than the one of this SHA-256: backup and show print it
    #[arg(long, value_name = "DIGEST")]
    expect_manifest_sha256: Option<Sha256Digest>,
    /// Only these schemas; `*` stands for any text; may be repeated
    #[arg(long, value_name = "SCHEMA")]
    include_schema: Vec<String>,
    /// Only (or also) these tables: `schema.table`; may be repeated
    #[arg(long, value_name = "TABLES")]
    include_table: Vec<String>,
    /// Leave these tables out: `schema.table`; may be repeated, and wins over both
    #[arg(long, value_name = "TABLES")]
    exclude_table: Vec<String>,
    /// Definitions without rows, and so without a comparison
    #[arg(long)]
    schema_only: bool,
    /// Prove the backup and plan the restore, and touch nothing
    #[arg(long)]
    dry_run: bool,
    /// Everything belongs to the role that restores
    #[arg(long)]
    no_owner: bool,
    /// Everything belongs to this role
    #[arg(long, value_name = "ROLE", conflicts_with = "no_owner")]
    owner: Option<String>,
    /// Leave privileges out
    #[arg(long)]
    no_privileges: bool,
    /// Make the roles that the target lacks, without passwords
    #[arg(long)]
    create_roles: bool,
    /// A role that has another name in the target: `name in the backup=name there`; may be repeated
    #[arg(long = "map-role", value_name = "FROM=TO", value_parser = role_mapping)]
    role_mappings: Vec<RoleMapping>,
    /// Restore into a database that is there, whose schemas of the same names must be absent or empty
    #[arg(long)]
    into_empty_schemas: bool,
    /// Connections to the target: 1 to 64
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallelism: u16,
    #[command(flatten)]
    tools: ToolArguments,
    #[command(flatten)]
    cluster: RestoreArguments,
}

/// At the last equals sign: the name in the target is the one that can be chosen.
fn role_mapping(text: &str) -> Result<RoleMapping, String> {
    match text.rsplit_once('=') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => {
            Ok(RoleMapping { from: from.to_owned(), to: to.to_owned() })
        }
        _ => Err("write FROM=TO".to_owned()),
    }
}

/// The same for the engine, which asks no questions.
pub(super) fn role_names(mappings: &[RoleMapping]) -> Result<RoleNames, Failure> {
    let mut known = BTreeSet::new();
    if let Some(twice) = mappings.iter().find(|it| !known.insert(&it.from)) {
        return Err(Failure::usage(
            format!("role {:?} is mapped twice", twice.from),
            "give each role one name in the target",
        ));
    }
    Ok(mappings.iter().map(|it| (it.from.clone(), it.to.clone())).collect())
}

/// An option of a restore here, or of one in a cluster, by what `--from` decides.
pub(super) fn of_mode(argument: clap::Arg) -> clap::Arg {
    match argument.get_id().as_str() {
        "stores" => argument.required(false).required_unless_present("from").conflicts_with("from"),
        "heartbeat"
        | "store_attempts"
        | "store_ca"
        | "run"
        | "target"
        | "maintenance_database"
        | "no_owner"
        | "folders" => argument.conflicts_with("from"),
        "target_secret" | "target_host" | "target_port" | "target_database" | "target_tls" | "target_ca"
        | "name" | "execution_locality" | "deadline" | "yes" | "wait" | "kubeconfig" | "context"
        | "namespace" => argument.requires("from"),
        _ => argument,
    }
}

impl Restore {
    /// Whether it is carried out in a cluster, by others.
    pub(super) const fn is_in_a_cluster(&self) -> bool {
        self.cluster.is_given()
    }

    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        if self.cluster.is_given() {
            return self.in_a_cluster()?.execute(output).await;
        }
        let interrupt = signals::interrupt()?;
        let target = options::endpoint("--target", self.target.as_deref().unwrap_or_default())?;
        let selection = selection(&self.include_schema, &self.include_table, &self.exclude_table)?;
        let opened = self.stores.open(None).await?;
        let job = RestoreJob {
            destinations: opened.destinations,
            register: opened.register,
            run: self.run,
            expect_manifest: self.expect_manifest_sha256,
            target,
            maintenance_database: self.maintenance_database,
            selection,
            schema_only: self.schema_only,
            dry_run: self.dry_run,
            no_owner: self.no_owner,
            no_privileges: self.no_privileges,
            policy: RestorePolicy {
                place: match self.into_empty_schemas {
                    true => RestorePlace::EmptySchemas,
                    false => RestorePlace::NewDatabase,
                },
                owner: self.owner,
                create_roles: self.create_roles,
                role_names: role_names(&self.role_mappings)?,
            },
            parallelism: usize::from(self.parallelism),
            tools: self.tools.tools(),
            interrupt,
            progress: progress::shown(output),
        };
        let restored =
            restore(&job).await.map_err(|error| Failure::of_work(error, Work::Restore, &job.interrupt))?;
        output::warn_of_undecided(restored.newer_undecided);
        let report = RestoreReport::of(&restored);
        output::write(output, &report, || report.text())
    }

    /// The same wishes, for a Restore resource.
    fn in_a_cluster(self) -> Result<ClusterRestore, Failure> {
        self.cluster.with(RestoreWishes {
            include: Include { schemas: self.include_schema, tables: self.include_table },
            exclude: Exclude { tables: self.exclude_table },
            schema_only: self.schema_only,
            dry_run: self.dry_run,
            owner: self.owner,
            no_privileges: self.no_privileges,
            create_roles: self.create_roles,
            role_mappings: self.role_mappings,
            into_empty_schemas: self.into_empty_schemas,
            parallelism: self.parallelism.into(),
            expect_manifest_sha256: self.expect_manifest_sha256.map(|digest| digest.to_string()),
        })
    }
}
