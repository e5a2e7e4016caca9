//! The body of a query (S 7.1). Page size, continuation and kind of rows travel in headers, named here.
//! The answer is a bare array: twins, or whatever the query selects.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Most rows in the answer.
pub const MAX_ITEM_COUNT: &str = "x-ms-max-item-count";
/// Where the next page begins.
pub const CONTINUATION: &str = "x-ms-continuation";
/// `Twin`, `DeviceJob` or `Raw`.
pub const ITEM_TYPE: &str = "x-ms-item-type";

/// A query.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct QueryRequest {
    /// At most 8,192 characters.
    pub query: Option<String>,
}
