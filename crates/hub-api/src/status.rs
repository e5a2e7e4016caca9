//! What the hub says of itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The hub in numbers.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Of the software.
    pub version: String,
    /// The hub's own name.
    pub hostname: String,
    /// When the process began.
    pub started_at: String,
    /// Now, by the hub's clock.
    pub now: String,
    /// Whether it takes writes.
    pub ready: bool,
    /// Registered devices.
    pub devices: u64,
    /// Those that may use the hub.
    pub devices_enabled: u64,
    /// Registered modules.
    pub modules: u64,
    /// Attached devices and modules.
    pub connected: u64,
    /// The number of the newest commit.
    pub commits: u64,
    /// Where the event stream ends.
    pub events_end: String,
    /// The store's size on disk.
    pub store_bytes: u64,
    /// Messages taken from devices since the start.
    pub telemetry_messages: u64,
    /// Reported patches taken from devices since the start.
    pub reported_patches: u64,
    /// Method calls since the start.
    pub method_calls: u64,
    /// Method answers that came too late, since the start.
    pub method_answers_ignored: u64,
    /// Pages of queries answered since the start.
    pub queries: u64,
    /// What the index of all twins takes, for answering queries.
    pub index: Index,
    /// Configurations in force.
    pub configurations: u64,
    /// Times that the configurations of a twin did not fit into it, since the start.
    pub configurations_misfit: u64,
    /// Twins that were not as their configurations want, since the start; more than 0 is a bug.
    pub configuration_repairs: u64,
}

/// The columns of the index, and the twins themselves.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Bytes of memory.
    pub bytes: u64,
    /// Bytes of the twins beside the columns: of all but those that were written last, which are kept unpacked.
    pub twins_bytes: u64,
    /// Paths with columns.
    pub paths_indexed: u64,
    /// Paths that took too much and were given up; queries read them from the twins.
    pub paths_not_indexed: u64,
    /// Devices and modules with more paths than the index has room for; queries read their twins.
    pub twins_not_indexed: u64,
    /// Paths that were given up, then the largest ones.
    pub paths: Vec<IndexPath>,
}

/// A path of the index.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexPath {
    /// The path, as queries name it.
    pub path: String,
    /// Devices and modules that have it.
    pub twins: u64,
    /// Bytes of its columns.
    pub bytes: u64,
    /// Whether it has columns.
    pub is_indexed: bool,
}

/// Whether the hub works.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Health {
    /// `healthy`, or `unhealthy` with HTTP status 503.
    pub status: String,
}
