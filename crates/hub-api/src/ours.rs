//! Bodies of our own routes under `/api/`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The state of the hub in numbers; counters begin with the process.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Of the software.
    pub version: String,
    /// The hub's name.
    pub hostname: String,
    /// When the process began.
    pub started_at: String,
    /// Now.
    pub now: String,
    /// Registered devices.
    pub devices: u64,
    /// Those that may use the hub.
    pub devices_enabled: u64,
    /// Registered modules.
    pub modules: u64,
    /// Attached devices and modules.
    pub connected: u64,
    /// Number of the newest commit.
    pub commits: u64,
    /// Where the event log ends.
    pub events_end: String,
    /// Size of the store on disk.
    pub store_bytes: u64,
    /// Messages taken from devices.
    pub telemetry_messages: u64,
    /// Reported patches taken from devices.
    pub reported_patches: u64,
    /// Direct methods begun.
    pub method_calls: u64,
    /// Method answers that came too late.
    pub method_answers_ignored: u64,
    /// Pages of queries answered.
    pub queries: u64,
}

/// Whether the hub can do its work.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` or `unavailable`.
    pub status: String,
}

/// One event, as the data of a server-sent event.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Event {
    /// Resume after it.
    pub position: String,
    /// When.
    pub time: String,
    /// `telemetry`, `twin`, `lifecycle` or `connection`.
    pub source: String,
    /// For example `updateTwin`; telemetry has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The device.
    pub device_id: String,
    /// The module, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// What happened; telemetry's body if it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub body: Option<Value>,
    /// Telemetry's body if it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Telemetry's system properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub system_properties: Option<Value>,
    /// Telemetry's application properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub properties: Option<Value>,
}

/// A stored file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Artifact {
    /// Of its content, 64 hexadecimal digits.
    pub sha256: String,
    /// In the operator's words.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was added.
    pub added_at: String,
}

/// Asks for a link to an artifact.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactGrantRequest {
    /// How long the link is good; an hour if missing.
    pub expires_in_seconds: Option<u64>,
}

/// A link to an artifact; whoever has it can fetch the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactGrant {
    /// To be put behind the hub's address.
    pub path: String,
    /// When it ends.
    pub expires_at: String,
}

/// A shared access policy.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub rights: Vec<String>,
}

/// A shared access policy with its keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyKeys {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub rights: Vec<String>,
    /// The first key.
    pub primary_key: String,
    /// The second key.
    pub secondary_key: String,
}

/// Asks for new keys of a policy.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PolicyRotateRequest {
    /// `primary`, `secondary` or `both`.
    pub key: String,
}
