//! What happened, as the event stream tells it: the `data` of one server-sent event. Its `id` is the position, by which
//! a reader resumes (`after=`, or the header `Last-Event-ID`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The name of the last event of a stream that the hub ends; its data is a [`StreamEnd`].
pub const END: &str = "end";

/// One fact.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// `telemetry`, `twin`, `lifecycle`, `connection` or `job`.
    pub source: String,
    /// When.
    pub time: String,
    /// Of which device.
    pub device_id: String,
    /// Of which module, if it is a module's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// `updateTwin`, `replaceTwin`, `createDeviceIdentity`, `deleteDeviceIdentity`, ours `retireDeviceIdentity`,
    /// `restoreDeviceIdentity`, `eraseDeviceIdentity`, `releaseDeviceIdentity`, `replaceDeviceIdentity`; `deviceConnected`
    /// or `deviceDisconnected`; not with telemetry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Telemetry: what the device and the hub say of the message, such as `content-type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_properties: Option<BTreeMap<String, String>>,
    /// Telemetry: the application's properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, String>>,
    /// Telemetry: JSON if its content type says so, else text. Twin and lifecycle: the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub body: Option<Value>,
    /// Twin and lifecycle: by whom; not in events that an older hub wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// Twin: each value that is not as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<Change>>,
    /// Twin: whether there are more changes than `changes` tells.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_changes: bool,
    /// Telemetry that is not UTF-8, instead of `body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// Who or what changed something.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// `policy`, `device`, `job`, `configuration`, or `hub`, which also acts for several configurations at once.
    pub kind: String,
    /// Which one: the policy's name, `device` or `device/module`, or an id; the hub has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A value of a twin that is not as it was. Objects are told by what is in them; an empty one is a value.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Where, such as `tags.site` or `properties.desired.rate`.
    pub path: String,
    /// What was there; `null` is nothing.
    #[schema(value_type = Object)]
    pub before: Value,
    /// What is there; `null` is nothing.
    #[schema(value_type = Object)]
    pub after: Value,
    /// If configurations changed it: the one that wrote the value, or took it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
}

/// Why the hub ended the stream, and where a reader may go on.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamEnd {
    /// What happened.
    pub reason: String,
    /// The last position that the reader has got.
    pub position: String,
    /// If events after that are gone: the oldest position that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
}
