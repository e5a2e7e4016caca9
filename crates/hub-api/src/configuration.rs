//! Automatic configurations (S 8). What is null counts as missing, since the SDKs send both; members of requests that are
//! the hub's own are ignored, since they send back what they got.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::job::JobOverride;
use crate::rollout::GatesWaiting;

/// Desired properties that the hub keeps in every twin that a condition matches.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Its name: lower-case, at most 128 characters.
    pub id: String,
    /// Echoed.
    pub schema_version: Option<String>,
    /// Echoed.
    pub content_type: Option<String>,
    /// In the operator's words.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it writes.
    pub content: ConfigurationContent,
    /// The body of a WHERE over devices, `*` for all, nothing for none, or `FROM devices.modules WHERE …`.
    #[serde(default)]
    pub target_condition: String,
    /// When it was created.
    pub created_time_utc: String,
    /// When it was written last.
    pub last_updated_time_utc: String,
    /// The configuration with the higher number wins a property; among equals the newer.
    #[serde(default)]
    pub priority: u32,
    /// What the hub counts.
    #[serde(default)]
    pub system_metrics: ConfigurationMetrics,
    /// What the operator has counted.
    #[serde(default)]
    pub metrics: ConfigurationMetrics,
    /// Changes with every write.
    pub etag: String,
    /// Ours: how it comes into force wave by wave (docs/rollouts.md).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub rollout: Option<Value>,
    /// Ours: how far it came, and how the devices of each wave fare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub rollout_state: Option<Value>,
    /// Ours: what a twin must bear to be written to (docs/context.md).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub gates: Option<Value>,
    /// Ours: who overrode them, if anybody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates_override: Option<JobOverride>,
    /// Ours: who waits at them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates_waiting: Option<GatesWaiting>,
}

/// What a caller may say of a configuration.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationWrite {
    /// That of the path, if it is given.
    pub id: Option<String>,
    /// Echoed.
    pub schema_version: Option<String>,
    /// Echoed.
    pub content_type: Option<String>,
    /// At most 8 KiB.
    pub labels: Option<BTreeMap<String, String>>,
    /// Must not change later, unless the operator's settings let it.
    pub content: ConfigurationContent,
    /// Nothing at all matches no device.
    pub target_condition: Option<String>,
    /// 0 if it is missing.
    pub priority: Option<u32>,
    /// `queries` only, at most 5.
    pub metrics: Option<ConfigurationMetrics>,
    /// Ours: how it comes into force wave by wave; at once, or as before, if it is missing.
    #[schema(value_type = Option<Object>)]
    pub rollout: Option<Value>,
    /// Ours: what a twin must bear to be written to; as before if it is missing, nothing if it is empty.
    #[schema(value_type = Option<Object>)]
    pub gates: Option<Value>,
}

/// Exactly one of the three. Keys are `properties.desired` or `properties.desired.a.b`; `null` deletes what is there.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationContent {
    /// Into device twins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub device_content: Option<Value>,
    /// Into module twins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub module_content: Option<Value>,
    /// By module, into the module twins of edge devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub modules_content: Option<Value>,
}

/// Queries by name, with how many rows each has.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
pub struct ConfigurationMetrics {
    /// Counted by the hub when it is asked.
    pub results: BTreeMap<String, u64>,
    /// In the query language.
    pub queries: BTreeMap<String, String>,
}

/// How a configuration fares in one twin.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ConfigurationFares {
    /// `Targeted` or `Applied`.
    pub status: String,
}

/// Queries to be looked at.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueriesTest {
    /// As in a configuration.
    pub target_condition: Option<String>,
    /// Queries by name.
    pub custom_metric_queries: Option<BTreeMap<String, String>>,
}

/// What is wrong with queries; nothing is there for those that are fine.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueriesTested {
    /// With the condition.
    pub target_condition_error: Option<String>,
    /// With queries, by name.
    pub custom_metric_query_errors: BTreeMap<String, String>,
}
