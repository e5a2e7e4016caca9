//! Packets to domain values: pure, one direction.

use hub_domain::message::Message;
use hub_domain::method::MethodResult;
use hub_domain::twin::TwinPatch;

use crate::codec::Publish;

/// System properties by their short key (D 2.2) and their routing name.
const SYSTEM: [(&str, &str); 13] = [
    ("$.mid", "message-id"),
    ("$.cid", "correlation-id"),
    ("$.uid", "user-id"),
    ("$.to", "to"),
    ("$.ct", "content-type"),
    ("$.ce", "content-encoding"),
    ("$.exp", "absolute-expiry-time"),
    ("$.ctime", "iothub-creation-time-utc"),
    ("$.on", "iothub-outputname"),
    ("$.sub", "dt-subject"),
    ("$.ifid", "iothub-interface-id"),
    ("$.schema", "iothub-message-schema"),
    ("$.diagid", "diagnostic-id"),
];

/// A telemetry message from a publish and its property bag.
pub fn message(publish: &Publish, bag: Vec<(String, Option<String>)>) -> Message {
    let mut message = Message { body: publish.payload.to_vec(), ..Message::default() };
    for (key, value) in bag {
        let value = value.unwrap_or_default();
        match SYSTEM.iter().find(|(short, _)| *short == key) {
            Some((_, name)) => message.system.push(((*name).into(), value)),
            None if key.starts_with('$') => {}
            None => message.properties.push((key, value)),
        }
    }
    if publish.retain {
        message.properties.push(("mqtt-retain".into(), "true".into()));
    }
    message
}

/// A reported patch, or what is wrong with it.
pub fn patch(payload: &[u8]) -> Result<TwinPatch, String> {
    let value =
        serde_json::from_slice(payload).map_err(|error| format!("the patch is not valid JSON: {error}"))?;
    TwinPatch::from_value(value).map_err(|error| format!("the patch breaks a rule: {error}"))
}

/// A device's answer to a method; an answer that is not JSON is passed on as a JSON string.
pub fn method_result(status: i32, payload: &[u8]) -> MethodResult {
    let text = String::from_utf8_lossy(payload);
    let payload = match text.trim() {
        "" => "null".to_string(),
        _ if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() => text.into_owned(),
        _ => serde_json::Value::from(text.into_owned()).to_string(),
    };
    MethodResult { status, payload }
}
