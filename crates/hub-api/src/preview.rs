//! The dry run of configurations: ours, under `/api/`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::rollout::GatesWaiting;

/// What would be written and removed.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct PreviewRequest {
    /// Configurations as they would be written, each with its `id`.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub configurations: Vec<Value>,
    /// Ids of configurations that would be removed.
    #[serde(default)]
    pub remove: Vec<String>,
    /// How many twins are shown at most: 0 to 1,000, 100 if missing. All are counted.
    pub top: Option<usize>,
}

/// What would change.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Twins that were looked at.
    pub looked_at: u64,
    /// Twins of which anything would change.
    pub touched: u64,
    /// Twins whose desired properties would change.
    pub changed: u64,
    /// Twins that could not take it.
    pub misfit: u64,
    /// How each configuration of the request would fare, by id.
    pub configurations: BTreeMap<String, PreviewFares>,
    /// The first of the twins that would change.
    pub twins: Vec<TwinPreview>,
}

/// How a configuration would fare, in twins.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviewFares {
    /// That it would target and does not now.
    pub enter: u64,
    /// That it targets now and would not.
    pub leave: u64,
    /// That it would target.
    pub targeted: u64,
    /// Where another configuration would win one of its paths.
    pub conflicts: u64,
    /// In which waves, if it is new and has a rollout.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<u64>,
    /// Who would wait at its gates now, if it has gates; the changes are shown as they are when these open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates_waiting: Option<GatesWaiting>,
}

/// What would change of one twin.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TwinPreview {
    /// The device.
    pub device_id: String,
    /// The module, if it is a module's twin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// Configurations that would come to it.
    pub enters: Vec<String>,
    /// Configurations that would leave it.
    pub leaves: Vec<String>,
    /// Desired properties that would change.
    pub changes: Vec<PathPreview>,
    /// Settings that would lose.
    pub conflicts: Vec<Conflict>,
    /// Why it could not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What would become of a path.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct PathPreview {
    /// Such as `properties.desired.rate`.
    pub path: String,
    /// What is there now; missing if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub from: Option<Value>,
    /// What would be; missing if nothing would.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub to: Option<Value>,
    /// The configuration that would own it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A setting that loses against another configuration's.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Conflict {
    /// Such as `properties.desired.rate`.
    pub path: String,
    /// What it would have been.
    #[schema(value_type = Object)]
    pub value: Value,
    /// Whose it is.
    pub configuration: String,
    /// Who wins; missing for a layer without a deployment below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub winner: Option<String>,
}
