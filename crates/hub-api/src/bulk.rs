//! Many identities in one request (S 2.5), and new keys for many (S 2.9).
//! Mind the spelling: `id`, `eTag` and `twinETag` here, `deviceId` and `etag` elsewhere.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::identity::{Authentication, Capabilities};
use crate::twin::TwinProperties;

/// One item of a bulk request.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportItem {
    /// The device. The registry's own lists call it `deviceId`.
    #[serde(default, alias = "deviceId")]
    pub id: String,
    /// The module, if it is one.
    pub module_id: Option<String>,
    /// The identity's, for the modes `…IfMatchETag`.
    #[serde(rename = "eTag")]
    pub etag: Option<String>,
    /// `create`, `update`, `updateIfMatchETag`, `createOrUpdate` (if missing), `createOrUpdateIfMatchETag`, `delete`,
    /// `deleteIfMatchETag`, `updateTwin` or `updateTwinIfMatchETag`; case does not matter.
    pub import_mode: Option<String>,
    /// `enabled` or `disabled`.
    pub status: Option<String>,
    /// At most 128 characters.
    pub status_reason: Option<String>,
    /// Missing: two new random keys.
    pub authentication: Option<Authentication>,
    /// The twin's, for the modes `…IfMatchETag`.
    #[serde(rename = "twinETag")]
    pub twin_etag: Option<String>,
    /// Of the twin.
    #[schema(value_type = Option<Object>)]
    pub tags: Option<Value>,
    /// Of the twin. A stream of lines may also bring `reported`, `$version` and `$metadata` for twins that it creates.
    pub properties: Option<ImportProperties>,
    /// Devices only.
    pub capabilities: Option<Capabilities>,
    /// Devices only.
    pub device_scope: Option<String>,
    /// Devices only.
    pub parent_scopes: Option<Vec<String>>,
    /// Modules only.
    pub managed_by: Option<String>,
}

/// Sections of an imported twin.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct ImportProperties {
    /// What the device shall be.
    #[schema(value_type = Option<Object>)]
    pub desired: Option<Value>,
    /// What the device said that it is.
    #[schema(value_type = Option<Object>)]
    pub reported: Option<Value>,
}

/// One line of an export (S 3), which imports as it is.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportItem {
    /// The device.
    pub id: String,
    /// The module, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// The identity's.
    #[serde(rename = "eTag")]
    pub etag: String,
    /// Devices only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Why, if somebody said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// Keys are null for those who did not ask for them.
    pub authentication: Authentication,
    /// The twin's.
    #[serde(rename = "twinETag")]
    pub twin_etag: String,
    /// Missing if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub tags: Option<Value>,
    /// Desired and reported properties.
    pub properties: TwinProperties,
    /// Devices only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Devices only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_scope: Option<String>,
    /// Devices only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parent_scopes: Vec<String>,
    /// Modules only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
}

/// How a stream of lines was imported.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportResult {
    /// All lines.
    pub lines: u64,
    /// Those that were carried out.
    pub done: u64,
    /// Those that were not.
    pub failed: u64,
    /// Blank ones and those that do not begin with `{`.
    pub skipped: u64,
    /// The first of those that failed, in the order of the lines.
    pub errors: Vec<ImportError>,
}

/// A line that was not carried out.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportError {
    /// Its number; the first is 1.
    pub line: u64,
    /// The device, if the line could be read so far.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device_id: String,
    /// The module, if it is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub module_id: String,
    /// The name of the error, such as `DeviceAlreadyExists`.
    pub error_code: String,
    /// What was wrong.
    pub error_status: String,
}

/// How a bulk request ended.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkResult {
    /// Whether every item was carried out.
    pub is_successful: bool,
    /// Those that were not.
    pub errors: Vec<BulkError>,
    /// Always empty.
    pub warnings: Vec<BulkWarning>,
}

/// An item that was not carried out.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkError {
    /// As the item names it.
    pub device_id: String,
    /// As the item names it; empty for a device.
    pub module_id: String,
    /// The name of the error, such as `DeviceAlreadyExists`.
    pub error_code: String,
    /// What was wrong.
    pub error_status: String,
    /// Always empty.
    pub operation: String,
}

/// An item that was carried out in part.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkWarning {
    /// As the item names it.
    pub device_id: String,
    /// The name of the warning.
    pub warning_code: String,
    /// What was left out.
    pub warning_status: String,
}

/// Asks for new keys for up to a hundred identities.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeysRegenerate {
    /// `primaryKey`, `secondaryKey` or `both`.
    pub policy_key: Option<String>,
    /// Whose.
    pub devices: Option<Vec<KeysOf>>,
}

/// A device or module.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeysOf {
    /// The device.
    pub id: String,
    /// The module, if it is one.
    pub module_id: Option<String>,
}

/// The new keys, and who got none.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeysRegenerated {
    /// As asked for.
    pub policy_key: String,
    /// Both keys of each, the new and the old.
    pub rotated_keys: Vec<RotatedKeys>,
    /// Those that have no new keys.
    pub errors: Vec<RotationError>,
}

/// The keys of one identity after the renewal.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotatedKeys {
    /// The device.
    pub id: String,
    /// The module, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// Base64.
    pub primary_key: String,
    /// Base64.
    pub secondary_key: String,
}

/// An identity whose keys are as before.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationError {
    /// The device.
    pub id: String,
    /// The module, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// The name of the error, such as `DeviceNotFound`.
    pub error_code: String,
    /// What was wrong.
    pub error_status: String,
}
