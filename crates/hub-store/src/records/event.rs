//! The rows of the event log. A message's body is kept as text where it is text, which is smaller and readable. What tells of
//! a whole twin has the second format: the record, and behind it the packed twin (`docs/decisions/0018`).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hub_domain::actor::Actor;
use hub_domain::event::{Event, EventKind, GatesOf, LifecycleBody, LifecycleStep, Position};
use hub_domain::id::{ConfigurationId, JobId, TwinId};
use hub_domain::message::Message;
use hub_domain::twin::{PackedTwin, PathChange, PathChanges};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::twin::sound;
use super::{field, format_of, name, parse, parse_first, time, unknown_format, write};
use crate::keys::RowKey;
use crate::{Bytes, Key, StoreError};

/// Written from references: events are the most frequent rows there are, and their bodies large.
#[derive(Serialize, Deserialize)]
struct V1<'e> {
    time: i64,
    device: Cow<'e, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    module: Option<Cow<'e, str>>,
    #[serde(flatten)]
    kind: KindV1<'e>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
enum KindV1<'e> {
    Telemetry {
        body: BodyV1<'e>,
        #[serde(default, skip_serializing_if = "is_empty")]
        system: Cow<'e, [(String, String)]>,
        #[serde(default, skip_serializing_if = "is_empty")]
        properties: Cow<'e, [(String, String)]>,
    },
    Twin {
        replaced: bool,
        body: Cow<'e, Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        changes: Vec<ChangeV1<'e>>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        more: bool,
    },
    Lifecycle {
        created: bool,
        /// Any step but these two.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<Cow<'e, str>>,
        /// Missing where a packed twin follows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<Cow<'e, Value>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor: Option<String>,
    },
    Connection {
        connected: bool,
    },
    Override {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<Cow<'e, str>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        configuration: Option<Cow<'e, str>>,
        reason: Cow<'e, str>,
        closed: Cow<'e, [String]>,
        actor: String,
    },
}

fn is_empty(pairs: &[(String, String)]) -> bool {
    pairs.is_empty()
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum BodyV1<'e> {
    Text(Cow<'e, str>),
    Base64(String),
}

/// A twin has no `null`, so a value that is missing is one that was not there.
#[derive(Serialize, Deserialize)]
struct ChangeV1<'e> {
    path: Cow<'e, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Cow<'e, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<Cow<'e, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    configuration: Option<Cow<'e, str>>,
}

impl<'e> From<&'e PathChange> for ChangeV1<'e> {
    fn from(PathChange { path, before, after, configuration }: &'e PathChange) -> Self {
        Self {
            path: path.into(),
            before: before.as_ref().map(Cow::Borrowed),
            after: after.as_ref().map(Cow::Borrowed),
            configuration: configuration.as_ref().map(|id| id.as_str().into()),
        }
    }
}

impl ChangeV1<'_> {
    fn parse(self, key: &Key) -> Result<PathChange, StoreError> {
        let Self { path, before, after, configuration } = self;
        let parse = |id: Cow<'_, str>| field(key, "configuration", ConfigurationId::parse(&id).ok());
        Ok(PathChange {
            path: path.into_owned(),
            before: before.map(Cow::into_owned),
            after: after.map(Cow::into_owned),
            configuration: configuration.map(parse).transpose()?,
        })
    }
}

/// The row of `event`.
pub fn encode(event: &Event) -> Bytes {
    let signed = |actor: &Option<Actor>| actor.as_ref().map(Actor::to_string);
    let mut packed = None;
    let kind = match &event.kind {
        EventKind::Telemetry(Message { body, system, properties }) => {
            let body = match std::str::from_utf8(body) {
                Ok(text) => BodyV1::Text(text.into()),
                Err(_) => BodyV1::Base64(BASE64.encode(body)),
            };
            KindV1::Telemetry { body, system: system.into(), properties: properties.into() }
        }
        EventKind::Twin { replaced, body, actor, changes: PathChanges { paths, more } } => KindV1::Twin {
            replaced: *replaced,
            body: Cow::Borrowed(body),
            actor: signed(actor),
            changes: paths.iter().map(ChangeV1::from).collect(),
            more: *more,
        },
        EventKind::Lifecycle { step, body, actor } => {
            let created = *step == LifecycleStep::Created;
            let step = (!created && *step != LifecycleStep::Deleted).then(|| step.operation().into());
            let body = match body {
                LifecycleBody::Twin(twin) => {
                    packed = Some(twin);
                    None
                }
                LifecycleBody::Document(document) => Some(Cow::Borrowed(document)),
            };
            KindV1::Lifecycle { created, step, body, actor: signed(actor) }
        }
        EventKind::Connection { connected } => KindV1::Connection { connected: *connected },
        EventKind::Override { gates_of, reason, closed, actor } => KindV1::Override {
            job: match gates_of {
                GatesOf::Job(job) => Some(job.as_str().into()),
                GatesOf::Configuration(_) => None,
            },
            configuration: match gates_of {
                GatesOf::Job(_) => None,
                GatesOf::Configuration(id) => Some(id.as_str().into()),
            },
            reason: reason.into(),
            closed: closed.into(),
            actor: actor.to_string(),
        },
    };
    let record = V1 {
        time: event.time.ticks(),
        device: event.id.device.as_str().into(),
        module: event.id.module.as_ref().map(|module| module.as_str().into()),
        kind,
    };
    let mut row = vec![if packed.is_some() { 2 } else { 1 }];
    write(&mut row, &record);
    row.extend_from_slice(packed.map_or(&[], PackedTwin::as_bytes));
    row.into()
}

/// The event at `key`, and where it stands.
pub fn decode(key: &Key, row: &[u8]) -> Result<(Position, Event), StoreError> {
    let position = name(key, |key| match key {
        RowKey::Event(position) => Some(position),
        _ => None,
    })?;
    let (record, packed): (V1<'_>, _) = match format_of(key, row)? {
        (1, json) => (parse(key, json)?, None),
        (2, bytes) => {
            let (record, twin) = parse_first(key, bytes)?;
            (record, Some(sound(key, PackedTwin::from_bytes(twin))?))
        }
        (other, _) => return Err(unknown_format(key, other, 2)),
    };
    if packed.is_some() && !matches!(record.kind, KindV1::Lifecycle { body: None, .. }) {
        return Err(StoreError::corrupt(key, "a twin follows an event that tells of no twin"));
    }
    let actor = |text: String| field(key, "actor", Actor::parse(&text));
    let kind = match record.kind {
        KindV1::Telemetry { body, system, properties } => {
            let body = match body {
                BodyV1::Text(text) => text.into_owned().into_bytes(),
                BodyV1::Base64(text) => field(key, "body", BASE64.decode(text).ok())?,
            };
            let (system, properties) = (system.into_owned(), properties.into_owned());
            EventKind::Telemetry(Message { body, system, properties })
        }
        KindV1::Twin { replaced, body, actor: by, changes, more } => {
            let paths = changes.into_iter().map(|change| change.parse(key)).collect::<Result<_, _>>()?;
            let (body, changes) = (body.into_owned(), PathChanges { paths, more });
            EventKind::Twin { replaced, body, actor: by.map(actor).transpose()?, changes }
        }
        KindV1::Lifecycle { created, step, body, actor: by } => {
            let step = match step {
                Some(step) => field(key, "step", LifecycleStep::parse(&step))?,
                None if created => LifecycleStep::Created,
                None => LifecycleStep::Deleted,
            };
            let document = body.map(|body| LifecycleBody::Document(body.into_owned()));
            let body = field(key, "body", packed.map(LifecycleBody::Twin).or(document))?;
            EventKind::Lifecycle { step, body, actor: by.map(actor).transpose()? }
        }
        KindV1::Connection { connected } => EventKind::Connection { connected },
        KindV1::Override { job, configuration, reason, closed, actor: by } => {
            let job = job.and_then(|id| JobId::parse(&id).ok()).map(GatesOf::Job);
            let configuration = configuration.and_then(|id| ConfigurationId::parse(&id).ok());
            let gates_of = field(key, "job", job.or(configuration.map(GatesOf::Configuration)))?;
            let (reason, closed) = (reason.into_owned(), closed.into_owned());
            EventKind::Override { gates_of, reason, closed, actor: actor(by)? }
        }
    };
    let id = field(key, "device", TwinId::parse(&record.device, record.module.as_deref()).ok())?;
    Ok((position, Event { time: time(record.time), id, kind }))
}
