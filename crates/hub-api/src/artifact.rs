//! Firmware images and other files that devices fetch. Known by the SHA-256 of their content, 64 hexadecimal digits.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A stored file.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Of its content.
    pub sha256: String,
    /// In the operator's words.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was added.
    pub added_at: String,
}

/// Asks for a link by which devices fetch the file without other credentials.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantRequest {
    /// How long it is good: more than 0, at most 30 days, an hour if missing.
    pub expires_in_seconds: Option<u64>,
}

/// The link.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Path and query, for `https://` and the hub's name before it.
    pub path: String,
    /// How long it is good.
    pub expires_at: String,
}
