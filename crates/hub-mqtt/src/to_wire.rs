//! Domain values to packets: pure, one direction.

use bytes::Bytes;
use hub_domain::link::Downlink;
use hub_domain::twin::Twin;
use serde_json::{Value, json};

use crate::codec::{Outgoing, Publish};
use crate::topics;

fn publish(topic: String, payload: impl Into<Bytes>) -> Outgoing {
    Outgoing::Publish(Publish { topic, payload: payload.into(), ..Publish::default() })
}

/// A downlink as the device receives it.
pub fn downlink(downlink: Downlink) -> Outgoing {
    match downlink {
        Downlink::DesiredChanged { patch, version } => {
            let mut body = (*patch).clone();
            body.insert("$version".into(), version.into());
            publish(topics::desired_changed(version), Value::Object(body).to_string())
        }
        Downlink::Call { call, name, payload } => {
            publish(topics::method_call(&name, call), payload.as_bytes().to_vec())
        }
    }
}

/// The twin as its device sees it: both sections with their versions (D 4.1).
pub fn twin(rid: &str, twin: &Twin) -> Outgoing {
    let body =
        json!({ "desired": twin.desired.to_device_json(), "reported": twin.reported.to_device_json() });
    publish(topics::twin_answer(200, rid, None), body.to_string())
}

/// The answer to a patch that was taken.
pub fn patched(rid: &str, version: u64) -> Outgoing {
    publish(topics::twin_answer(204, rid, Some(version)), Bytes::new())
}

/// The answer to a request that failed; Node reads the body, others the status (D 4.2).
pub fn failed(rid: &str, code: u32, message: &str, tracking: &str, now: &str) -> Outgoing {
    let body = json!({ "errorCode": code, "trackingId": tracking, "message": message, "timestampUtc": now });
    publish(topics::twin_answer((code / 1000) as u16, rid, None), body.to_string())
}
