//! Shared access policies: names, rights, and their keys for the owner alone.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A policy. The list shows no keys.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// As tokens name it in `skn`.
    pub name: String,
    /// `RegistryRead`, `RegistryWrite`, `ServiceConnect`, `DeviceConnect`.
    pub rights: Vec<String>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_key: Option<String>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secondary_key: Option<String>,
}

/// Asks for new keys.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct RotateRequest {
    /// `primary`, `secondary` or `both`.
    pub key: Option<String>,
}
