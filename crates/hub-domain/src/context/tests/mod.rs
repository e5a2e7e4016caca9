//! The gates against tables of cases: documents, windows over changes of the clock, facts, places, and random fleets.

mod deferrals;
mod documents;
mod facts;
mod places;
mod properties;
mod windows;

use serde_json::{Value, json};

use super::{Gates, HubContext, Verdict};
use crate::json::Object;
use crate::query::Document;
use crate::time::Timestamp;
use crate::twin::{Metadata, Stamp};

fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).expect(text)
}

fn gates(document: Value) -> Gates {
    Gates::parse(&document).unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn hub(document: Value) -> HubContext {
    HubContext::parse(&document).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// A twin that reported `context`, all of it at `at`.
fn twin(context: Value, at: &str) -> Value {
    let reported = Object::from_iter([("context".to_owned(), context)]);
    let metadata = Metadata::of(&reported, &Stamp::reported(time(at))).to_json();
    let mut reported = Value::Object(reported);
    reported["$metadata"] = Value::Object(metadata);
    json!({ "deviceId": "a", "tags": { "window": "night", "site": "x" }, "properties": { "reported": reported } })
}

fn verdict(gates: &Gates, twin: &Value, hub: &HubContext, now: Timestamp) -> Verdict {
    gates.evaluate(&Document(twin), hub, now)
}

/// The keys of the reasons, in order.
fn keys(verdict: &Verdict) -> Vec<String> {
    verdict.reasons.iter().map(super::Reason::key).collect()
}
