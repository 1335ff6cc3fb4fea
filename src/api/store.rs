//! BackupStore: where backups go. One bucket and prefix per locality, exactly one of them the default.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::condition::Condition;
use super::pod_template::PodTemplate;
use super::reference::{KeyRef, ObjectRef};
use super::run_status::ProcessStatus;
pub use crate::plan::locality::LocalityPolicy;

/// The most destinations of one store. CEL compares each with each, so the cost grows with the square.
pub const MAX_DESTINATIONS: usize = 32;

/// Where backups go. Absent: ReadWrite. Absent: Path with an endpoint, else Virtual. Absent: WhenSupported.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "vouchsafe.dev",
    version = "v1alpha1",
    kind = "BackupStore",
    plural = "backupstores",
    namespaced,
    status = "BackupStoreStatus",
    derive = "PartialEq",
    shortname = "vbks",
    category = "vouchsafe",
    doc = "Where backups of PostgreSQL go: one bucket and prefix per locality.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Destinations", type_ = "string", json_path = ".status.readyDestinations"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.destinations.filter(d, has(d.default) && d.default).size() == 1")
        .message("exactly one destination must be the default one (`default: true`)"),
    validation = Rule::new("self.destinations.all(d, has(d.locality) || (has(d.default) && d.default))")
        .message("a destination without a locality takes nothing unless it is the default one"),
    validation = Rule::new(
        "self.destinations.all(d, !has(d.locality) \
         || self.destinations.exists_one(e, has(e.locality) && e.locality == d.locality))"
    ).message("two destinations declare the same locality"),
    // One lies within the other if its path goes on from the other's at a slash.
    validation = Rule::new(
        "self.destinations.all(d, !has(d.s3) || self.destinations.all(e, !has(e.s3) || e.name == d.name \
         || e.s3.bucket != d.s3.bucket \
         || (has(e.s3.endpoint) ? e.s3.endpoint : '') != (has(d.s3.endpoint) ? d.s3.endpoint : '') \
         || !((has(d.s3.prefix) ? d.s3.prefix + '/' : '')\
         .startsWith(has(e.s3.prefix) ? e.s3.prefix + '/' : ''))))"
    ).message("one destination's prefix is within another's"),
    validation = Rule::new(
        "self.destinations.all(d, !has(d.azure) || self.destinations.all(e, !has(e.azure) || e.name == d.name \
         || e.azure.account != d.azure.account || e.azure.container != d.azure.container \
         || (has(e.azure.endpoint) ? e.azure.endpoint : '') != (has(d.azure.endpoint) ? d.azure.endpoint : '') \
         || !((has(d.azure.prefix) ? d.azure.prefix + '/' : '')\
         .startsWith(has(e.azure.prefix) ? e.azure.prefix + '/' : ''))))"
    ).message("one destination's part of a container is within another's"),
    validation = Rule::new(
        "self.destinations.all(d, !has(d.file) || self.destinations.all(e, !has(e.file) || e.name == d.name \
         || (has(e.file.claim) ? e.file.claim : '') != (has(d.file.claim) ? d.file.claim : '') \
         || !(d.file.path + '/').startsWith(e.file.path + '/')))"
    ).message("one destination's folder is within another's"),
)]
#[serde(rename_all = "camelCase")]
pub struct BackupStoreSpec {
    /// The destinations; exactly one is the default.
    #[schemars(
        length(min = 1, max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub destinations: Vec<Destination>,
    /// What may be done in this store. Absent: ReadWrite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_mode: Option<AccessMode>,
    /// How many runs may go at once; more wait as Queued. Absent: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent_runs: Option<u32>,
    /// What happens to a locality that no destination takes. Absent: Strict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality_policy: Option<LocalityPolicy>,
    /// The node label of each tier. Absent: `region` is topology.kubernetes.io/region, `zone` is
    /// topology.kubernetes.io/zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::locality_labels")]
    pub locality_labels: Option<BTreeMap<String, String>>,
    /// Encryption before anything leaves the process. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// A retention lock on every object. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
    /// The pods of probes and prunes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// What may be done in a store.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessMode {
    /// Everything.
    #[default]
    ReadWrite,
    /// Restores and verifications only.
    ReadOnly,
}

/// One bucket and prefix, for one locality.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new(
        "[has(self.s3), has(self.gcs), has(self.azure), has(self.file)].filter(x, x).size() == 1"
    ).message("a destination has exactly one of s3, gcs, azure and file"),
)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// The destination's name, unique in the store.
    #[schemars(schema_with = "bounds::item")]
    pub name: String,
    /// Whether this one takes what has no locality. Absent: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// The locality whose data it takes, with all localities that begin with its tiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::locality")]
    pub locality: Option<String>,
    /// A bucket that speaks S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// A bucket of Google Cloud Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<Gcs>,
    /// A container of Azure Blob Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
    /// A folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Folder>,
    /// The Secret that opens the bucket. For S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if
    /// temporary, AWS_SESSION_TOKEN. For Azure: AZURE_STORAGE_KEY, or AZURE_STORAGE_SAS_TOKEN, or
    /// AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET. For Google Cloud Storage: credentials.json, a
    /// service account's key. Absent: the identity of the run's ServiceAccount, or of the shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<ObjectRef>,
    /// The Secret that only prunes get. Absent while credentialsSecret is set: no prune.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_credentials_secret: Option<ObjectRef>,
}

/// A bucket that speaks S3.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// The bucket.
    #[schemars(schema_with = "bounds::bucket")]
    pub bucket: String,
    /// What every key begins with, without a slash at either end. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::key_path")]
    pub prefix: Option<String>,
    /// The region. Absent: the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::word")]
    pub region: Option<String>,
    /// The server's URL, for anything but AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::url")]
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the host name or in the path. Absent: Path with an endpoint, else
    /// Virtual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addressing_style: Option<AddressingStyle>,
    /// When the SDK sends and checks checksums of its own accord. Absent: WhenSupported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksums: Option<Checksums>,
    /// The CA that signed the server's certificate, in PEM. Absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<KeyRef>,
}

/// Where the bucket stands in a request.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressingStyle {
    /// In the host name.
    Virtual,
    /// In the path.
    Path,
}

/// When the SDK adds and checks checksums that no operation requires.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// Wherever the operation knows them.
    #[default]
    WhenSupported,
    /// Only where the operation requires them: for servers that answer a ranged read with the whole
    /// object's checksum.
    WhenRequired,
}

/// A bucket of Google Cloud Storage.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Gcs {
    /// The bucket.
    #[schemars(schema_with = "bounds::gcs_bucket")]
    pub bucket: String,
    /// What every name begins with, without a slash at either end. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::key_path")]
    pub prefix: Option<String>,
    /// The URL at which the service is asked: of a region or a private network. Absent: https://storage.googleapis.com.
    /// Over http:// nobody's credentials are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::url")]
    pub endpoint: Option<String>,
}

/// A container of Azure Blob Storage.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Azure {
    /// The storage account.
    #[schemars(schema_with = "bounds::account")]
    pub account: String,
    /// The container.
    #[schemars(schema_with = "bounds::container")]
    pub container: String,
    /// What every name begins with, without a slash at either end. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::key_path")]
    pub prefix: Option<String>,
    /// The account's Blob endpoint, for another cloud than the public one, or a server of one's own. Absent:
    /// https://ACCOUNT.blob.core.windows.net.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::url")]
    pub endpoint: Option<String>,
    /// The CA that signed the server's certificate, in PEM. Absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<KeyRef>,
}

/// A folder: in a claim, or on a command line of this machine.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("has(self.claim) ? !self.path.startsWith('/') : self.path.startsWith('/')")
        .message("with a claim the path is relative to it; without one it begins with a slash"),
)]
#[serde(rename_all = "camelCase")]
pub struct Folder {
    /// The PersistentVolumeClaim. Absent: a folder of this machine, on a command line only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::name")]
    pub claim: Option<String>,
    /// The folder: relative to the claim, or absolute without one.
    #[schemars(schema_with = "bounds::folder")]
    pub path: String,
}

/// Encryption on the client, in the age format.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Encryption {
    /// The public keys of those who can read.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 128)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub recipients: Vec<String>,
    /// The identity with which verifiers and restores read.
    pub identity_secret: ObjectRef,
}

/// A retention lock on every object.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectLock {
    /// Who may lift it.
    pub mode: ObjectLockMode,
    /// How long it holds, from the seal.
    #[schemars(schema_with = "bounds::duration")]
    pub retain: String,
}

/// Who may lift a retention lock.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectLockMode {
    /// Those with a special permission.
    Governance,
    /// Nobody.
    Compliance,
}

/// What was seen of a store.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackupStoreStatus {
    /// The generation that this status is about; -1 before any was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// How many destinations are ready, of how many: `2/3`. A printer column shows one value only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub ready_destinations: Option<String>,
    /// Its probes, as the controller sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub processes: Vec<ProcessStatus>,
    /// What was found at each destination.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub destinations: Vec<DestinationStatus>,
}

/// What a probe found at one destination.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DestinationStatus {
    /// The destination's name.
    #[schemars(schema_with = "bounds::item")]
    pub name: String,
    /// Where it is, without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub url: Option<String>,
    /// When it was probed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::time")]
    pub last_probe_time: Option<String>,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// What the probe proved that it can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// What a person should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
}

/// What a probe proved that a destination can do.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// It refuses to create what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditional_create: Option<bool>,
    /// The checksum that it validates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub checksum: Option<String>,
    /// It holds retention locks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<bool>,
}
