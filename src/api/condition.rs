//! Conditions and failures, as every status carries them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;

/// One observation about an object. The fields are those of Kubernetes' own Condition, which has no
/// bounds that CEL could be costed with.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about, in CamelCase.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, as a stable CamelCase word.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// Why, for a person.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// Since when it has this status.
    #[schemars(schema_with = "bounds::time")]
    pub last_transition_time: String,
    /// The generation that it was observed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Whether a condition holds.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It doesn't.
    False,
    /// It can't be told.
    Unknown,
}

/// Why something ended otherwise than hoped.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// A stable CamelCase word.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// What happened, with the names involved.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// What the reader can do.
    #[schemars(length(max = 4096))]
    pub hint: String,
}
