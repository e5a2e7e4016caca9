//! Facts that the hub tells back ends: telemetry, twin changes, lifecycle and connections (S 10), overridden gates.
//!
//! An event is written in the same batch as the change it tells of, so one exists exactly when the other does.

use std::fmt;

use serde_json::Value;

use crate::actor::Actor;
use crate::id::{ConfigurationId, JobId, TwinId};
use crate::message::Message;
use crate::time::Timestamp;
use crate::twin::{PackedTwin, PathChanges};

/// Where an event stands in the log: commit, then place within the commit. Printed `commit.place`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The commit's number.
    pub commit: u64,
    /// Which event of that commit.
    pub place: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.commit, self.place)
    }
}

impl Position {
    /// From the printed form.
    pub fn parse(text: &str) -> Option<Self> {
        let (commit, place) = text.split_once('.')?;
        Some(Self { commit: commit.parse().ok()?, place: place.parse().ok()? })
    }
}

/// Which stream an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventSource {
    /// What devices send.
    Telemetry,
    /// Changes of twins.
    Twin,
    /// Identities created and deleted.
    Lifecycle,
    /// Devices that came and went.
    Connection,
    /// What jobs do that somebody must be able to answer for.
    Job,
}

impl EventSource {
    /// All of them.
    pub const ALL: [EventSource; 5] = [
        EventSource::Telemetry,
        EventSource::Twin,
        EventSource::Lifecycle,
        EventSource::Connection,
        EventSource::Job,
    ];

    /// `telemetry`, `twin`, `lifecycle`, `connection`, `job`: the filter's words.
    pub fn as_str(self) -> &'static str {
        match self {
            EventSource::Telemetry => "telemetry",
            EventSource::Twin => "twin",
            EventSource::Lifecycle => "lifecycle",
            EventSource::Connection => "connection",
            EventSource::Job => "job",
        }
    }

    /// From the filter's word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == text)
    }

    /// The value of `iothub-message-source` (S 10.2); that of jobs is ours.
    pub fn message_source(self) -> &'static str {
        match self {
            EventSource::Telemetry => "Telemetry",
            EventSource::Twin => "twinChangeEvents",
            EventSource::Lifecycle => "deviceLifecycleEvents",
            EventSource::Connection => "deviceConnectionStateEvents",
            EventSource::Job => "deviceJobEvents",
        }
    }
}

/// A step in the life of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleStep {
    /// It was registered.
    Created,
    /// It was deleted.
    Deleted,
    /// The device was retired with its modules.
    Retired,
    /// The retired device came back.
    Restored,
    /// What was archived of the retired device is gone for good.
    Erased,
    /// The id of the erased device may be used again.
    Released,
    /// The device took over from another one, or other hardware took over its id.
    Replaced,
}

impl LifecycleStep {
    const ALL: [LifecycleStep; 7] = [
        LifecycleStep::Created,
        LifecycleStep::Deleted,
        LifecycleStep::Retired,
        LifecycleStep::Restored,
        LifecycleStep::Erased,
        LifecycleStep::Released,
        LifecycleStep::Replaced,
    ];

    /// The value of `opType`; those but the first two are ours.
    pub fn operation(self) -> &'static str {
        match self {
            LifecycleStep::Created => "createDeviceIdentity",
            LifecycleStep::Deleted => "deleteDeviceIdentity",
            LifecycleStep::Retired => "retireDeviceIdentity",
            LifecycleStep::Restored => "restoreDeviceIdentity",
            LifecycleStep::Erased => "eraseDeviceIdentity",
            LifecycleStep::Released => "releaseDeviceIdentity",
            LifecycleStep::Replaced => "replaceDeviceIdentity",
        }
    }

    /// From the value of `opType`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.operation() == text)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// A device sent a message.
    Telemetry(Message),
    /// A twin was merged into or replaced; the body is that of S 10.4.
    Twin {
        /// Whether it was replaced.
        replaced: bool,
        /// The changed sections.
        body: Value,
        /// By whom; `None` only in events that an older hub wrote.
        actor: Option<Actor>,
        /// The values before and after.
        changes: PathChanges,
    },
    /// An identity came or went.
    Lifecycle {
        /// How.
        step: LifecycleStep,
        /// What is told of it.
        body: LifecycleBody,
        /// By whom; `None` only in events that an older hub wrote.
        actor: Option<Actor>,
    },
    /// A device attached or went.
    Connection {
        /// Attached, or else gone.
        connected: bool,
    },
    /// A job turned to a device, or a configuration wrote to it, although its gates were closed, because somebody said so.
    Override {
        /// Whose gates.
        gates_of: GatesOf,
        /// Why, in his words.
        reason: String,
        /// The gates that were closed, as devices that wait are counted: `power.batteryLow`.
        closed: Vec<String>,
        /// Who said so.
        actor: Actor,
    },
}

/// What a step in the life of an identity tells of it: the body of S 10.3.
#[derive(Clone, Debug, PartialEq)]
pub enum LifecycleBody {
    /// Its twin in short. Most of these are never read, so the text is only made for who does.
    Twin(PackedTwin),
    /// Anything else.
    Document(Value),
}

impl LifecycleBody {
    /// As it is told; `id` is that of the event.
    pub fn document(self, id: &TwinId) -> Value {
        match self {
            LifecycleBody::Twin(twin) => twin.open().short_document(id),
            LifecycleBody::Document(document) => document,
        }
    }
}

/// What has gates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatesOf {
    /// A job.
    Job(JobId),
    /// A configuration.
    Configuration(ConfigurationId),
}

impl EventKind {
    /// The stream it belongs to.
    pub fn source(&self) -> EventSource {
        match self {
            EventKind::Telemetry(_) => EventSource::Telemetry,
            EventKind::Twin { .. } => EventSource::Twin,
            EventKind::Lifecycle { .. } => EventSource::Lifecycle,
            EventKind::Connection { .. } => EventSource::Connection,
            EventKind::Override { .. } => EventSource::Job,
        }
    }

    /// The value of `opType` (S 10.3 to 10.5); telemetry has none.
    pub fn operation(&self) -> Option<&'static str> {
        match self {
            EventKind::Telemetry(_) => None,
            EventKind::Twin { replaced: false, .. } => Some("updateTwin"),
            EventKind::Twin { replaced: true, .. } => Some("replaceTwin"),
            EventKind::Lifecycle { step, .. } => Some(step.operation()),
            EventKind::Connection { connected: true } => Some("deviceConnected"),
            EventKind::Connection { connected: false } => Some("deviceDisconnected"),
            EventKind::Override { .. } => Some("overrideGates"),
        }
    }
}

/// One fact.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// Of which device or module.
    pub id: TwinId,
    /// What.
    pub kind: EventKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_sources_round_trip() {
        let position = Position { commit: 12, place: 3 };
        assert_eq!(Position::parse(&position.to_string()), Some(position));
        for bad in ["", "1", "1.", "a.1", "1.1.1", "-1.0"] {
            assert_eq!(Position::parse(bad), None, "{bad}");
        }
        for source in EventSource::ALL {
            assert_eq!(EventSource::parse(source.as_str()), Some(source));
        }
    }
}
