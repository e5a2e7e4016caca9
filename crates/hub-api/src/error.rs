//! The bodies of errors, in the two shapes that the SDKs parse (S 1.6), and the headers that go with them.
//! Shape A has `ErrorCode:<Name>;<text>` for its message; in shape B the message is itself JSON: an [`ErrorDetail`].

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The name of the error.
pub const ERROR_CODE: &str = "iothub-errorcode";
/// Says of a 400 that its body is a [`crate::bulk::BulkResult`].
pub const BULK_ERROR_CODE: &str = "IotHubErrorCode";
/// New for every request.
pub const REQUEST_ID: &str = "x-ms-request-id";

/// An error.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ErrorBody {
    /// Shape A: `ErrorCode:<Name>;<text>`. Shape B: an `ErrorDetail` as JSON text.
    pub message: String,
    /// Shape A: `Tracking ID:<hex>-TimeStamp:<time>`. Shape B: empty.
    pub exception_message: String,
}

/// What the message of shape B says.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorDetail {
    /// The HTTP status times 1000, and more: `404103`.
    pub error_code: u32,
    /// By which logs can be searched.
    pub tracking_id: String,
    /// What was wrong.
    pub message: String,
    /// When.
    pub timestamp_utc: String,
}
