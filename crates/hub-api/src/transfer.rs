//! Import and export jobs (S 3), called `JobProperties` by the service. What is null counts as missing.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An import or export job: as it is asked for, and as it is now.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobProperties {
    /// The hub's name for it.
    pub job_id: Option<String>,
    /// When it began.
    pub start_time_utc: Option<String>,
    /// When it was over.
    pub end_time_utc: Option<String>,
    /// `import` or `export`.
    pub r#type: Option<String>,
    /// `enqueued`, `running`, `completed`, `failed` or `cancelled`.
    pub status: Option<String>,
    /// 0 to 100.
    pub progress: Option<u8>,
    /// The container that an import reads: `file:`, `https:` with an access signature, or `s3:`. In answers without the
    /// signature.
    pub input_blob_container_uri: Option<String>,
    /// The blob of identities in it; `devices.txt` if it is missing.
    pub input_blob_name: Option<String>,
    /// The container of an export, or of `importErrors.log`. In answers without the signature.
    pub output_blob_container_uri: Option<String>,
    /// The blob of identities of an export; `devices.txt` if it is missing.
    pub output_blob_name: Option<String>,
    /// Whether an export has null instead of keys.
    pub exclude_keys_in_export: Option<bool>,
    /// `keyBased`, which is all that there is.
    pub storage_authentication_type: Option<String>,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// Whether configurations are imported or exported, too.
    pub include_configurations: Option<bool>,
    /// Their blob; `configurations.txt` if it is missing.
    pub configurations_blob_name: Option<String>,
    /// Ours: lines or identities that were carried out, once it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_count: Option<u64>,
    /// Ours: lines that were not; `importErrors.log` names them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_count: Option<u64>,
}

/// A line of `importErrors.log`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportErrorLine {
    /// Ours: its number in the blob; the first is 1.
    pub line: u64,
    /// The device, as far as the line could be read; missing for configurations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The module, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// The configuration, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration_id: Option<String>,
    /// The number of the error, such as 404001.
    pub error_code: u32,
    /// What was wrong.
    pub error_status: String,
}
