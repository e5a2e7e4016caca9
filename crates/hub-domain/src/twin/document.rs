//! A twin together with what the registry and the sessions know of its owner: the document that back
//! ends read and queries look at (S 4.1).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ownership::configurations;
use super::{ConfigurationStatus, Twin};
use crate::id::{ConfigurationId, TwinId};
use crate::identity::{Authentication, Identity};
use crate::json::Object;
use crate::time::Timestamp;
use crate::version::Etag;

/// What the live side knows of a device or module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Whether it is attached now.
    pub connected: bool,
    /// When that changed last.
    pub changed: Timestamp,
    /// When it last sent something.
    pub last_activity: Timestamp,
}

impl Connection {
    /// Not attached, and never was.
    pub const NEVER: Connection =
        Connection { connected: false, changed: Timestamp::NEVER, last_activity: Timestamp::NEVER };

    /// `Connected` or `Disconnected`.
    pub fn state(&self) -> &'static str {
        if self.connected { "Connected" } else { "Disconnected" }
    }
}

/// One row of `devices` or `devices.modules`.
#[derive(Clone, Copy, Debug)]
pub struct TwinDocument<'a> {
    /// The registry's entry.
    pub identity: &'a Identity,
    /// The twin.
    pub twin: &'a Twin,
    /// The live side.
    pub connection: Connection,
}

impl TwinDocument<'_> {
    /// The whole document in the shape of S 4.1.
    pub fn to_json(&self) -> Value {
        let Self { identity, twin, connection } = *self;
        let mut object = head(&Head {
            identity,
            etag_counter: twin.etag_counter,
            version: twin.version(),
            model_id: twin.model_id.as_deref(),
            configurations: &twin.configurations,
            connection,
        });
        if !twin.tags.is_empty() {
            object.insert("tags".into(), Value::Object(twin.tags.clone()));
        }
        let properties =
            json!({ "desired": twin.desired.to_service_json(), "reported": twin.reported.to_service_json() });
        object.insert("properties".into(), properties);
        Value::Object(object)
    }
}

impl Twin {
    /// In short, as it is told of an identity that comes or goes (S 10.3).
    pub fn short_document(&self, id: &TwinId) -> Value {
        // Not with `json!`, which would copy what it is given.
        let mut properties = Object::new();
        properties.insert("desired".into(), self.desired.to_service_json().into());
        properties.insert("reported".into(), self.reported.to_service_json().into());
        let mut document = Object::new();
        document.insert("deviceId".into(), id.device.as_str().into());
        if let Some(module) = &id.module {
            document.insert("moduleId".into(), module.as_str().into());
        }
        document.insert("etag".into(), self.etag().as_str().into());
        document.insert("version".into(), self.version().into());
        document.insert("properties".into(), properties.into());
        document.into()
    }
}

/// All of a document but tags and properties.
pub(super) struct Head<'a> {
    pub identity: &'a Identity,
    pub etag_counter: u64,
    pub version: u64,
    pub model_id: Option<&'a str>,
    pub configurations: &'a BTreeMap<ConfigurationId, ConfigurationStatus>,
    pub connection: Connection,
}

pub(super) fn head(head: &Head<'_>) -> Object {
    let Head { identity, connection, .. } = head;
    let mut object = Object::new();
    let mut put = |key: &str, value: Value| {
        object.insert(key.into(), value);
    };
    put("deviceId", identity.id.device.as_str().into());
    if let Some(module) = &identity.id.module {
        put("moduleId", module.as_str().into());
    }
    put("etag", Etag::of_twin(head.etag_counter).as_str().into());
    put("deviceEtag", identity.etag().as_str().into());
    put("status", identity.status.as_str().into());
    if let Some(reason) = &identity.status_reason {
        put("statusReason", reason.as_str().into());
    }
    put("statusUpdateTime", identity.status_updated.to_string().into());
    put("connectionState", connection.state().into());
    put("lastActivityTime", connection.last_activity.to_string().into());
    put("cloudToDeviceMessageCount", 0.into());
    put("authenticationType", identity.authentication.kind().into());
    put("x509Thumbprint", thumbprints(&identity.authentication));
    put("modelId", head.model_id.unwrap_or_default().into());
    put("version", head.version.into());
    if let Some(configurations) = configurations(head.configurations) {
        put("configurations", configurations);
    }
    if !identity.id.is_module() {
        put("capabilities", json!({ "iotEdge": identity.edge }));
    }
    if let Some(scope) = &identity.device_scope {
        put("deviceScope", scope.as_str().into());
    }
    if !identity.parent_scopes.is_empty() {
        put("parentScopes", identity.parent_scopes.clone().into());
    }
    object
}

/// `{"primaryThumbprint": …, "secondaryThumbprint": …}` with nulls for what is not there.
pub(super) fn thumbprints(authentication: &Authentication) -> Value {
    let (primary, secondary) = match authentication {
        Authentication::SelfSigned { primary, secondary } => (primary.as_ref(), secondary.as_ref()),
        _ => (None, None),
    };
    json!({
        "primaryThumbprint": primary.map(|print| print.as_str()),
        "secondaryThumbprint": secondary.map(|print| print.as_str()),
    })
}
