//! The engine through its public commands, on the memory store with a manual clock. One binary, one module per resource.

mod access;
mod artifacts;
mod clock;
mod configuration_gates;
mod configuration_rollouts;
mod configurations;
mod crash_configurations;
mod crash_simulation;
mod deployments;
mod events;
mod explain;
mod feed;
mod jobs;
mod management;
mod methods;
mod open;
mod queries;
mod registry;
mod replacement;
mod retirement;
mod retirement_jobs;
mod rollouts;
mod sessions;
mod streams;
mod twins;
mod watch;

use hub_domain::id::TwinId;
use hub_domain::twin::{TwinPatch, TwinUpdate};
use serde_json::Value;

fn id(device: &str) -> TwinId {
    TwinId::parse(device, None).expect("a valid id")
}

fn patch(value: Value) -> TwinPatch {
    TwinPatch::from_value(value).expect("a valid patch")
}

fn tags(value: Value) -> TwinUpdate {
    TwinUpdate { tags: Some(patch(value)), desired: None }
}

fn desired(value: Value) -> TwinUpdate {
    TwinUpdate { tags: None, desired: Some(patch(value)) }
}
