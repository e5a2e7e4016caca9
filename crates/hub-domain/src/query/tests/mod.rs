//! Tests of the query language: what parses and what does not, what it means, and what holds for every query.
//! Must never test through the engine: all of this is pure.

mod errors;
mod examples;
mod explain;
mod first_edition;
mod properties;
mod semantics;
mod standing;

use serde_json::{Value, json};

use super::{Condition, Document, Query};

/// A device twin with something of everything.
fn pump() -> Value {
    json!({
        "deviceId": "pump-17", "etag": "AAAAAAAAABY=", "deviceEtag": "NTY3", "status": "enabled",
        "statusReason": null, "connectionState": "Disconnected",
        "lastActivityTime": "2025-10-02T10:00:00.0000000Z", "cloudToDeviceMessageCount": 0,
        "authenticationType": "sas", "modelId": "", "version": 24,
        "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": "AB"},
        "tags": {"site": "a", "Site": "A", "group": {"name": "x"}, "my key": 1, "location": {"region": "US"}},
        "properties": {
            "desired": {"rate": 5, "$version": 21, "$metadata": {"$lastUpdated": "2025-11-20T09:12:44.1234567Z"}},
            "reported": {
                "rate": 7, "batt": 80, "temp": 21.5, "on": true, "connectivity": "wifi", "list": ["a", 1, {"k": [1.0]}],
                "cfg": {"status": "ok", "freq": 60}, "text": "Grüße 👋", "numeral": "12.5",
                "lastDesiredVersion": 21,
                "$version": 2, "$metadata": {"$lastUpdated": "2025-11-20T09:00:00.0000000Z"}
            }
        },
        "configurations": {"cfg-a": {"status": "Applied"}},
        "capabilities": {"iotEdge": false},
        "deviceScope": "ms-azure-iot-edge://gw-1", "parentScopes": ["ms-azure-iot-edge://gw-1"]
    })
}

/// Whether `condition` is exactly true for the pump.
fn matches(condition: &str) -> bool {
    match Condition::parse(condition) {
        Ok(parsed) => parsed.matches(&Document(&pump())),
        Err(error) => panic!("{condition}: {error}"),
    }
}

fn query(text: &str) -> Query {
    Query::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}
