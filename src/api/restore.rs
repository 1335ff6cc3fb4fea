//! Restore: a backup brought into a database, and compared there.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::pod_template::PodTemplate;
use super::reference::ObjectRef;
use super::restore_status::RestoreStatus;
use super::source::{Auth, Exclude, Include, PostgresSecret, Tls};

/// A backup brought into a database. Immutability stands on the root of the kind, in `definition`. Absent: Refuse. Absent: Keep. Absent: Refuse.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "vouchsafe.dev",
    version = "v1alpha1",
    kind = "Restore",
    plural = "restores",
    namespaced,
    status = "RestoreStatus",
    derive = "PartialEq",
    shortname = "vrs",
    category = "vouchsafe",
    doc = "A backup brought into a PostgreSQL database. It says Succeeded only after every table was compared.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Progress", type_ = "integer", json_path = ".status.progress.percent"),
    printcolumn(name = "From", type_ = "string", json_path = ".status.from"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.postgres.database"),
    printcolumn(name = "Verified", type_ = "boolean", json_path = ".status.proof.fingerprintsEqual"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.failure.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new(
        "!has(self.onExisting) || self.onExisting != 'IntoEmptySchemas' \
         || (has(self.createDatabase) && !self.createDatabase)"
    ).message("onExisting IntoEmptySchemas restores into a database that exists: set createDatabase to false"),
    validation = Rule::new(
        "!has(self.createDatabase) || self.createDatabase \
         || (has(self.onExisting) && self.onExisting == 'IntoEmptySchemas')"
    ).message("without createDatabase the database exists: set onExisting to IntoEmptySchemas"),
)]
#[serde(rename_all = "camelCase")]
pub struct RestoreSpec {
    /// The backup.
    pub from: RestoreFrom,
    /// The moment to restore to. Absent: the layer's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_in_time: Option<PointInTime>,
    /// Where it goes.
    pub target: RestoreTarget,
    /// What happens to roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Roles>,
    /// The role that owns everything restored. Absent: as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::identifier")]
    pub owner: Option<String>,
    /// What happens to privileges. Absent: Keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileges: Option<Privileges>,
    /// Whether the database is made, under a name of its own until it is verified. Absent: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_database: Option<bool>,
    /// What happens if the target exists. Absent: Refuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_existing: Option<OnExisting>,
    /// What to restore. Absent: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<Include>,
    /// What to leave out of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Exclude>,
    /// Whether rows are left out. Absent: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_only: Option<bool>,
    /// Whether only what can be checked beforehand is checked. Absent: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// The digest of the only manifest that may be restored. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::sha256")]
    pub expect_manifest_sha256: Option<String>,
    /// Where the restorer may run. Absent: anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::locality")]
    pub execution_locality: Option<String>,
    /// Connections to the target. Absent: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub parallelism: Option<u32>,
    /// The restore's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// How long it may take, waiting for the target included. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::positive_duration")]
    pub deadline: Option<String>,
    /// Whether its pod goes for now. Absent: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Whether it ends now. Absent: false; can't be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
}

/// Which backup: exactly one of backup, storeRef and schedule.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("[has(self.backup), has(self.storeRef), has(self.schedule)].filter(x, x).size() == 1")
        .message("exactly one of backup, storeRef (with collection and run) and schedule"),
    validation = Rule::new("has(self.storeRef) || (!has(self.collection) && !has(self.run))")
        .message("collection and run belong to storeRef"),
)]
#[serde(rename_all = "camelCase")]
pub struct RestoreFrom {
    /// A Backup, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::name")]
    pub backup: Option<String>,
    /// A BackupStore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_ref: Option<ObjectRef>,
    /// The collection in that store. Absent: the store's prefix itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::collection")]
    pub collection: Option<String>,
    /// The run's number in that collection. Absent: the last sealed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub run: Option<i64>,
    /// A BackupSchedule, by name: its latest backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::name")]
    pub schedule: Option<String>,
}

/// A moment: exactly one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("has(self.time) != has(self.lsn)").message("exactly one of time and lsn"),
)]
#[serde(rename_all = "camelCase")]
pub struct PointInTime {
    /// A time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::time")]
    pub time: Option<String>,
    /// A WAL position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::lsn")]
    pub lsn: Option<String>,
}

/// Where a restore goes: exactly one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.postgres) != has(self.ephemeral)")
        .message("exactly one of postgres and ephemeral"),
)]
#[serde(rename_all = "camelCase")]
pub struct RestoreTarget {
    /// A server that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresTarget>,
    /// A server that is made for this and goes afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<EphemeralTarget>,
}

/// A database on a server that exists.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("has(self.host) || has(self.credentialsSecret)")
        .message("the host stands in host, or in the Secret under hostKey"),
)]
#[serde(rename_all = "camelCase")]
pub struct PostgresTarget {
    /// Host name, address, or on a command line the folder of a Unix socket. Absent: the Secret's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::host")]
    pub host: Option<String>,
    /// The port. Absent: 5432.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// The database to make, or that exists.
    #[schemars(schema_with = "bounds::identifier")]
    pub database: String,
    /// Who logs in, and with which password. Absent, on a command line: the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<PostgresSecret>,
    /// How the connection is protected. Absent: VerifyFull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How to prove who logs in. Absent: by password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
}

/// A server that is made for one restore and goes afterwards.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EphemeralTarget {
    /// The server's image.
    #[schemars(schema_with = "bounds::image")]
    pub image: String,
    /// How much it may hold.
    #[schemars(schema_with = "bounds::size")]
    pub storage: String,
    /// The StorageClass. Absent: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::name")]
    pub storage_class_name: Option<String>,
    /// Requests and limits of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<super::pod_template::Resources>,
}

/// What happens to roles.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Roles {
    /// Roles that have another name in the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["from"])
    )]
    pub map: Vec<RoleMapping>,
    /// What happens to a role that the target doesn't have. Absent: Refuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<MissingRoles>,
}

/// A role that has another name in the target.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RoleMapping {
    /// Its name in the backup.
    #[schemars(schema_with = "bounds::identifier")]
    pub from: String,
    /// Its name in the target.
    #[schemars(schema_with = "bounds::identifier")]
    pub to: String,
}

/// What happens to a role that the target doesn't have.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingRoles {
    /// The restore is refused, and names it.
    #[default]
    Refuse,
    /// It is created, without a password.
    Create,
}

/// What happens to privileges.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privileges {
    /// They are restored.
    #[default]
    Keep,
    /// They are left out.
    Skip,
}

/// What happens if the target exists. Nothing ever overwrites.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExisting {
    /// The restore is refused.
    #[default]
    Refuse,
    /// It goes into the existing database, into schemas that hold nothing.
    IntoEmptySchemas,
}
