//! References: a name in the resource's own namespace, never a namespace. A `namespace` field doesn't
//! exist, so it is refused by name here, and by kubectl's strict validation there.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::bounds;

/// Another object in the same namespace, by name; the field says of which kind.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// The object's name, in the same namespace.
    #[schemars(schema_with = "bounds::name")]
    pub name: String,
}

/// One key of a Secret or ConfigMap in the same namespace. Only that key is mounted.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// The object's name, in the same namespace.
    #[schemars(schema_with = "bounds::name")]
    pub name: String,
    /// The key in its data.
    #[schemars(schema_with = "bounds::data_key")]
    pub key: String,
}
