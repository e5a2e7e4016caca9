//! The registry: devices and modules, as they are read and as they are written (S 2.1, 2.4, 2.6).
//! What a caller may not write is missing from the `…Write` types and so ignored.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A device as the registry knows it.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Case-sensitive, 1 to 128 characters.
    pub device_id: String,
    /// New at every creation of the id.
    pub generation_id: String,
    /// Changes with every write of the identity.
    pub etag: String,
    /// `Connected` or `Disconnected`.
    pub connection_state: String,
    /// `enabled` or `disabled`.
    pub status: String,
    /// Why, in the operator's words.
    pub status_reason: Option<String>,
    /// When the connection state changed last.
    pub connection_state_updated_time: String,
    /// When the status changed last.
    pub status_updated_time: String,
    /// When the device last sent something.
    pub last_activity_time: String,
    /// Always 0: there are no cloud-to-device messages yet.
    pub cloud_to_device_message_count: u64,
    /// How it proves who it is.
    pub authentication: Authentication,
    /// What kind of device it is.
    pub capabilities: Capabilities,
    /// The edge scope it defines or belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_scope: Option<String>,
    /// Scopes above it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_scopes: Vec<String>,
}

/// A module as the registry knows it.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Module {
    /// Same characters as a device id.
    pub module_id: String,
    /// Who looks after it.
    pub managed_by: Option<String>,
    /// The device it is on.
    pub device_id: String,
    /// New at every creation of the id.
    pub generation_id: String,
    /// Changes with every write of the identity.
    pub etag: String,
    /// `Connected` or `Disconnected`.
    pub connection_state: String,
    /// When the connection state changed last.
    pub connection_state_updated_time: String,
    /// When the module last sent something.
    pub last_activity_time: String,
    /// Always 0: there are no cloud-to-device messages yet.
    pub cloud_to_device_message_count: u64,
    /// How it proves who it is.
    pub authentication: Authentication,
}

/// How a device or module proves who it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// Keys, with type `sas`.
    pub symmetric_key: Option<SymmetricKey>,
    /// Thumbprints, with type `selfSigned`.
    pub x509_thumbprint: Option<X509Thumbprint>,
    /// `sas`, `selfSigned`, `certificateAuthority` or `none`.
    pub r#type: Option<String>,
}

/// Two keys, base64 of 16 to 64 bytes; either of them is good.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SymmetricKey {
    /// The first key.
    pub primary_key: Option<String>,
    /// The second key.
    pub secondary_key: Option<String>,
}

/// Two thumbprints, SHA-1 or SHA-256 in hexadecimal digits; either of them is good.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct X509Thumbprint {
    /// Of the first certificate.
    pub primary_thumbprint: Option<String>,
    /// Of the second certificate.
    pub secondary_thumbprint: Option<String>,
}

/// What kind of device it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// Whether it is an edge gateway.
    #[serde(default)]
    pub iot_edge: bool,
}

/// What a caller may write of a device or a module.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityWrite {
    /// If given, the same as in the path.
    pub device_id: Option<String>,
    /// If given, the same as in the path.
    pub module_id: Option<String>,
    /// `enabled` (if missing) or `disabled`; devices only.
    pub status: Option<String>,
    /// At most 128 characters; devices only.
    pub status_reason: Option<String>,
    /// Missing: two new random keys.
    pub authentication: Option<Authentication>,
    /// Devices only.
    pub capabilities: Option<Capabilities>,
    /// Devices only.
    pub device_scope: Option<String>,
    /// Devices only.
    pub parent_scopes: Option<Vec<String>>,
    /// Modules only.
    pub managed_by: Option<String>,
}

/// How many devices there are.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatistics {
    /// All.
    pub total_device_count: u64,
    /// Those that may use the hub.
    pub enabled_device_count: u64,
    /// Those that may not.
    pub disabled_device_count: u64,
}

/// How many devices are connected.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatistics {
    /// Attached devices and modules.
    pub connected_device_count: u64,
}
