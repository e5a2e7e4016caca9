//! The body of a query (S 7.1). Page size, continuation and kind of rows travel in headers, named here.
//! The answer is a bare array: twins, or whatever the query selects.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Most rows in the answer.
pub const MAX_ITEM_COUNT: &str = "x-ms-max-item-count";
/// Where the next page begins.
pub const CONTINUATION: &str = "x-ms-continuation";
/// `Twin`, `DeviceJob` or `Raw`.
pub const ITEM_TYPE: &str = "x-ms-item-type";

/// A query: as a text, or as the JSON query of the first edition of device management (docs/compatibility.md), which
/// has the other members. In place of the object an array of tags asks for the devices that carry all of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct QueryRequest {
    /// At most 8,192 characters.
    pub query: Option<String>,
    /// Which devices: comparisons, and what joins them.
    #[schema(value_type = Option<Object>)]
    pub filter: Option<Value>,
    /// Which of their properties.
    #[schema(value_type = Option<Object>)]
    pub project: Option<Value>,
    /// Groups of devices, and what is counted of them.
    #[schema(value_type = Option<Object>)]
    pub aggregate: Option<Value>,
    /// In which order.
    #[schema(value_type = Option<Object>)]
    pub sort: Option<Value>,
}
