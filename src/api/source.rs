//! Where data comes from: PostgreSQL servers, which of their data belongs to which locality, and how to
//! reach them. A Restore's target is reached in the same way.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::reference::KeyRef;

/// What is backed up: exactly one of its fields, of which there is one so far. Absent: VerifyFull. Absent: Fail.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// A PostgreSQL database.
    pub postgres: PostgresSource,
}

/// One PostgreSQL database, on one server or on one per locality.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("self.endpoints.size() == 1 || self.endpoints.all(e, has(e.locality))")
        .message("of several endpoints each must say which locality's data it holds"),
    validation = Rule::new(
        "self.endpoints.all(e, !has(e.locality) \
         || self.endpoints.exists_one(f, has(f.locality) && f.locality == e.locality))"
    ).message("two endpoints hold the same locality"),
    validation = Rule::new("!has(self.placement) || self.placement.size() == 0 || self.endpoints.size() == 1")
        .message("placement divides the tables of one server; with several endpoints each holds its locality's"),
)]
#[serde(rename_all = "camelCase")]
pub struct PostgresSource {
    /// The database.
    #[schemars(schema_with = "bounds::identifier")]
    pub database: String,
    /// The servers: one, or one per locality that holds that locality's data.
    #[schemars(
        length(min = 1, max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub endpoints: Vec<Endpoint>,
    /// Which of one server's tables belong to which locality; the first match wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub placement: Vec<PlacementRule>,
    /// What happens to a table that no rule matches, large objects included, when there is more than
    /// one locality. Absent: Fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unplaced: Option<Unplaced>,
    /// What to take. Absent: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<Include>,
    /// What to leave out of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Exclude>,
}

/// One PostgreSQL server that holds the data of a locality.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("has(self.host) || has(self.credentialsSecret)")
        .message("the host stands in host, or in the Secret under hostKey"),
)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The endpoint's name, unique in the source.
    #[schemars(schema_with = "bounds::item")]
    pub name: String,
    /// The locality whose data it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::locality")]
    pub locality: Option<String>,
    /// Host name, address, or on a command line the folder of a Unix socket. Absent: the Secret's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::host")]
    pub host: Option<String>,
    /// The port. Absent: 5432.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
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

/// A Secret that says how to log in. The keys of other operators' own Secrets can be named.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PostgresSecret {
    /// The Secret's name, in the same namespace.
    #[schemars(schema_with = "bounds::name")]
    pub name: String,
    /// The key that holds the user. Absent: `username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::data_key")]
    pub username_key: Option<String>,
    /// The key that holds the password. Absent: `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::data_key")]
    pub password_key: Option<String>,
    /// The key that holds the host, read if `host` is absent. Absent: `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::data_key")]
    pub host_key: Option<String>,
}

/// How a connection is protected.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("!has(self.ca) || !has(self.mode) || self.mode in ['VerifyFull', 'VerifyCa']")
        .message("a CA is only looked at by VerifyFull and VerifyCa"),
)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// What is demanded of the server. Absent: VerifyFull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<TlsMode>,
    /// The CAs that may have signed its certificate, in PEM. Absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
}

/// What is demanded of a server's certificate. libpq's `prefer` is no mode: who can drop packets could
/// read the password.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// It is signed by a CA, and for this host.
    #[default]
    VerifyFull,
    /// It is signed by a CA.
    VerifyCa,
    /// There is one.
    Require,
    /// Nothing: no TLS.
    Disable,
}

/// Where CAs stand: exactly one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("has(self.secret) != has(self.configMap)")
        .message("exactly one of secret and configMap"),
)]
#[serde(rename_all = "camelCase")]
pub struct CaSource {
    /// In a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeyRef>,
    /// In a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyRef>,
}

/// How to prove who logs in: exactly one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("has(self.password) != has(self.awsIam)")
        .message("exactly one of password and awsIam"),
)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// By the Secret's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordAuth>,
    /// By a token of AWS IAM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_iam: Option<AwsIamAuth>,
}

/// Login by password; there is nothing to say about it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct PasswordAuth {}

/// Login by a token of AWS IAM.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AwsIamAuth {
    /// The role that logs in.
    #[schemars(schema_with = "bounds::identifier")]
    pub username: String,
    /// The region of the server.
    #[schemars(schema_with = "bounds::word")]
    pub region: String,
}

/// Tables that belong to a locality.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new(
        "(has(self.tables) && self.tables.size() > 0) || (has(self.partitionsOf) && self.partitionsOf.size() > 0)"
    ).message("a rule names tables or partitionsOf, otherwise it matches nothing"),
)]
#[serde(rename_all = "camelCase")]
pub struct PlacementRule {
    /// The rule's name, unique in the source.
    #[schemars(schema_with = "bounds::item")]
    pub name: String,
    /// Patterns `schema.table`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounds::table_patterns")]
    pub tables: Vec<String>,
    /// Partitioned tables, all of whose partitions, at any depth, match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounds::table_names")]
    pub partitions_of: Vec<String>,
    /// The locality that they belong to.
    #[schemars(schema_with = "bounds::locality")]
    pub locality: String,
}

/// What happens to a table that no placement rule matches.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unplaced {
    /// The backup fails, and names it.
    #[default]
    Fail,
    /// It goes where the endpoint's own locality goes.
    Default,
}

/// What to take: a table that any of these matches.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new(
        "(has(self.schemas) && self.schemas.size() > 0) || (has(self.tables) && self.tables.size() > 0)"
    ).message("a selection of nothing takes nothing: name schemas or tables, or leave it out"),
)]
#[serde(rename_all = "camelCase")]
pub struct Include {
    /// Patterns for whole schemas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounds::schema_patterns")]
    pub schemas: Vec<String>,
    /// Patterns `schema.table`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounds::table_patterns")]
    pub tables: Vec<String>,
}

/// What to leave out.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Exclude {
    /// Patterns `schema.table`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounds::table_patterns")]
    pub tables: Vec<String>,
}
