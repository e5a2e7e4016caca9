//! What the stream of a standing query tells: server-sent events, whose `id` is a position in the event log. First `enter`
//! for each row, then `ready`, then what happens; if the hub ends it, an [`END`](crate::event::END).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A row is in the answer that was not, or is from the beginning.
pub const ENTER: &str = "enter";
/// What the query shows of a row in the answer is not as it was.
pub const CHANGE: &str = "change";
/// A row is in the answer no more.
pub const LEAVE: &str = "leave";
/// All rows were told, and together they are the answer.
pub const READY: &str = "ready";

/// The data of `enter`, `change` and `leave`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WatchedRow {
    /// Whose row.
    pub device_id: String,
    /// Of which module, if it is a module's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// What the query shows of it; not with `leave`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub row: Option<Value>,
}

/// The data of `ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct WatchReady {
    /// How many rows there are.
    pub rows: u64,
}
