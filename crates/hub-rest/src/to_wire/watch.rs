//! What a standing query is told: pure, one direction.

use hub_api::watch::{CHANGE, ENTER, LEAVE, WatchedRow};
use hub_domain::id::TwinId;
use hub_engine::queries::watch::Step;
use serde_json::Value;

/// The name of an event.
pub fn step(step: Step) -> &'static str {
    match step {
        Step::Enter => ENTER,
        Step::Change => CHANGE,
        Step::Leave => LEAVE,
    }
}

/// Its data.
pub fn row(id: &TwinId, row: Option<Value>) -> WatchedRow {
    let module_id = id.module.as_ref().map(ToString::to_string);
    WatchedRow { device_id: id.device.to_string(), module_id, row }
}
