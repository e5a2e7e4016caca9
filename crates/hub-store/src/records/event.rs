//! The rows of the event log. A message's body is kept as text where it is text, which is smaller and readable.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hub_domain::actor::Actor;
use hub_domain::event::{Event, EventKind, LifecycleStep, Position};
use hub_domain::id::{ConfigurationId, TwinId};
use hub_domain::message::Message;
use hub_domain::twin::{PathChange, PathChanges};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{encode as encode_record, field, format_of, name, parse, time, unknown_format};
use crate::keys::RowKey;
use crate::{Bytes, Key, StoreError};

#[derive(Serialize, Deserialize)]
struct V1 {
    time: i64,
    device: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    #[serde(flatten)]
    kind: KindV1,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
enum KindV1 {
    Telemetry {
        body: BodyV1,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        system: Vec<(String, String)>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        properties: Vec<(String, String)>,
    },
    Twin {
        replaced: bool,
        body: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        changes: Vec<ChangeV1>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        more: bool,
    },
    Lifecycle {
        created: bool,
        /// Any step but these two.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<String>,
        body: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor: Option<String>,
    },
    Connection {
        connected: bool,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum BodyV1 {
    Text(String),
    Base64(String),
}

/// A twin has no `null`, so a value that is missing is one that was not there.
#[derive(Serialize, Deserialize)]
struct ChangeV1 {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    configuration: Option<String>,
}

impl From<PathChange> for ChangeV1 {
    fn from(PathChange { path, before, after, configuration }: PathChange) -> Self {
        Self { path, before, after, configuration: configuration.map(|id| id.as_str().into()) }
    }
}

impl ChangeV1 {
    fn parse(self, key: &Key) -> Result<PathChange, StoreError> {
        let Self { path, before, after, configuration } = self;
        let parse = |id: String| field(key, "configuration", ConfigurationId::parse(&id).ok());
        Ok(PathChange { path, before, after, configuration: configuration.map(parse).transpose()? })
    }
}

/// The row of `event`.
pub fn encode(event: &Event) -> Bytes {
    let kind = match event.kind.clone() {
        EventKind::Telemetry(Message { body, system, properties }) => {
            let body = match String::from_utf8(body) {
                Ok(text) => BodyV1::Text(text),
                Err(error) => BodyV1::Base64(BASE64.encode(error.as_bytes())),
            };
            KindV1::Telemetry { body, system, properties }
        }
        EventKind::Twin { replaced, body, actor, changes: PathChanges { paths, more } } => {
            let changes = paths.into_iter().map(ChangeV1::from).collect();
            KindV1::Twin { replaced, body, actor: actor.map(|actor| actor.to_string()), changes, more }
        }
        EventKind::Lifecycle { step, body, actor } => {
            let created = step == LifecycleStep::Created;
            let step = (!created && step != LifecycleStep::Deleted).then(|| step.operation().into());
            KindV1::Lifecycle { created, step, body, actor: actor.map(|actor| actor.to_string()) }
        }
        EventKind::Connection { connected } => KindV1::Connection { connected },
    };
    let record = V1 {
        time: event.time.ticks(),
        device: event.id.device.as_str().to_owned(),
        module: event.id.module.as_ref().map(|module| module.as_str().to_owned()),
        kind,
    };
    encode_record(1, &record)
}

/// The event at `key`, and where it stands.
pub fn decode(key: &Key, row: &[u8]) -> Result<(Position, Event), StoreError> {
    let position = name(key, |key| match key {
        RowKey::Event(position) => Some(position),
        _ => None,
    })?;
    let record: V1 = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    let actor = |text: String| field(key, "actor", Actor::parse(&text));
    let kind = match record.kind {
        KindV1::Telemetry { body, system, properties } => {
            let body = match body {
                BodyV1::Text(text) => text.into_bytes(),
                BodyV1::Base64(text) => field(key, "body", BASE64.decode(text).ok())?,
            };
            EventKind::Telemetry(Message { body, system, properties })
        }
        KindV1::Twin { replaced, body, actor: by, changes, more } => {
            let paths = changes.into_iter().map(|change| change.parse(key)).collect::<Result<_, _>>()?;
            let changes = PathChanges { paths, more };
            EventKind::Twin { replaced, body, actor: by.map(actor).transpose()?, changes }
        }
        KindV1::Lifecycle { created, step, body, actor: by } => {
            let step = match step {
                Some(step) => field(key, "step", LifecycleStep::parse(&step))?,
                None if created => LifecycleStep::Created,
                None => LifecycleStep::Deleted,
            };
            EventKind::Lifecycle { step, body, actor: by.map(actor).transpose()? }
        }
        KindV1::Connection { connected } => EventKind::Connection { connected },
    };
    let id = field(key, "device", TwinId::parse(&record.device, record.module.as_deref()).ok())?;
    Ok((position, Event { time: time(record.time), id, kind }))
}
