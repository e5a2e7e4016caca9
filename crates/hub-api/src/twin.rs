//! Twins as back ends read and write them (S 4), and the digital twin's patch (S 13).
//! Sections are free-form JSON; their rules are the hub's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::configuration::ConfigurationFares;
use crate::identity::{Capabilities, X509Thumbprint};

/// The twin of a device or module.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Twin {
    /// The device.
    pub device_id: String,
    /// The module, if it is a module's.
    pub module_id: Option<String>,
    /// Changes with every write of tags or desired properties.
    pub etag: String,
    /// The identity's etag.
    pub device_etag: String,
    /// `enabled` or `disabled`.
    pub status: String,
    /// Why, in the operator's words.
    pub status_reason: Option<String>,
    /// When the status changed last.
    pub status_update_time: String,
    /// `Connected` or `Disconnected`.
    pub connection_state: String,
    /// When the device last sent something.
    pub last_activity_time: String,
    /// Always 0: there are no cloud-to-device messages yet.
    pub cloud_to_device_message_count: u64,
    /// `sas`, `selfSigned`, `certificateAuthority` or `none`.
    pub authentication_type: String,
    /// With authentication type `selfSigned`.
    pub x509_thumbprint: X509Thumbprint,
    /// The DTDL model that the device announced, or empty.
    pub model_id: String,
    /// Grows with every write to any section.
    pub version: u64,
    /// What the operator notes of the device; missing if empty.
    #[schema(value_type = Option<Object>)]
    pub tags: Option<Value>,
    /// Desired and reported properties.
    pub properties: TwinProperties,
    /// Those that target it, by id; missing if there are none.
    pub configurations: Option<BTreeMap<String, ConfigurationFares>>,
    /// Devices only.
    pub capabilities: Option<Capabilities>,
    /// The edge scope it defines or belongs to.
    pub device_scope: Option<String>,
    /// Scopes above it.
    pub parent_scopes: Option<Vec<String>>,
}

/// Both sections, each with `$metadata` and `$version`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct TwinProperties {
    /// What the device shall be.
    #[schema(value_type = Object)]
    pub desired: Value,
    /// What the device says it is.
    #[schema(value_type = Object)]
    pub reported: Value,
}

/// What a back end may write of a twin. A section that is missing stays as it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct TwinWrite {
    /// Merged with PATCH (`null` deletes a key), replaced with PUT.
    #[schema(value_type = Option<Object>)]
    pub tags: Option<Value>,
    /// Only `desired` is looked at.
    pub properties: Option<TwinPropertiesWrite>,
}

/// The section of the properties that a back end may write.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct TwinPropertiesWrite {
    /// Merged with PATCH (`null` deletes a key), replaced with PUT.
    #[schema(value_type = Option<Object>)]
    pub desired: Option<Value>,
}

/// One step of a JSON Patch for a digital twin.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct PatchStep {
    /// `add`, `replace` or `remove`.
    pub op: Option<String>,
    /// `/property`, `/component` or `/component/property`.
    pub path: Option<String>,
    /// Not with `remove`.
    #[schema(value_type = Option<Object>)]
    pub value: Option<Value>,
}
