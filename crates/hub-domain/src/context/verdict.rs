//! What the gates say of one device: open, or closed for these reasons, and when time alone could change that.
//! Must never hold more of a twin than a reason shows: long values are told by their size.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::json::Object;
use crate::query::EXPLAINED_VALUE_BYTES_MAX;
use crate::time::Timestamp;

/// A kind of gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// The maintenance window.
    Window,
    /// Battery, mains, charging.
    Power,
    /// Kind, metering and signal of the connection.
    Network,
    /// Somebody uses the device.
    InUse,
    /// Where the device is.
    Place,
    /// A condition in the query language.
    Condition,
}

impl Gate {
    /// The word in reasons.
    pub fn as_str(self) -> &'static str {
        match self {
            Gate::Window => "window",
            Gate::Power => "power",
            Gate::Network => "network",
            Gate::InUse => "inUse",
            Gate::Place => "place",
            Gate::Condition => "condition",
        }
    }
}

/// Why a gate is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Outside of the window.
    OutsideWindow,
    /// On a black-out date.
    Blackout,
    /// The window does not open any more.
    NeverOpens,
    /// The hub has no window or place of that name: unknown.
    NotDefined,
    /// The battery is lower than wanted.
    BatteryLow,
    /// Not on mains.
    NotOnMains,
    /// Another kind of network.
    NetworkKind,
    /// A metered network.
    Metered,
    /// The signal is weaker than wanted.
    SignalLow,
    /// In use.
    InUse,
    /// In none of the places where it should be.
    NotInside,
    /// In a place where it should not be.
    NotOutside,
    /// The condition is false.
    NotMet,
    /// The device never said: unknown.
    Missing,
    /// The device said it too long ago: unknown.
    TooOld,
    /// What the device said makes no sense: unknown.
    Unusable,
}

impl Code {
    /// The word in reasons.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::OutsideWindow => "outsideWindow",
            Code::Blackout => "blackout",
            Code::NeverOpens => "neverOpens",
            Code::NotDefined => "notDefined",
            Code::BatteryLow => "batteryLow",
            Code::NotOnMains => "notOnMains",
            Code::NetworkKind => "networkKind",
            Code::Metered => "metered",
            Code::SignalLow => "signalLow",
            Code::InUse => "inUse",
            Code::NotInside => "notInside",
            Code::NotOutside => "notOutside",
            Code::NotMet => "notMet",
            Code::Missing => "missing",
            Code::TooOld => "tooOld",
            Code::Unusable => "unusable",
        }
    }

    /// Whether the hub does not know: what that means is the gate's policy.
    pub fn is_unknown(self) -> bool {
        matches!(self, Code::NotDefined | Code::Missing | Code::TooOld | Code::Unusable)
    }
}

/// A value that decided.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenFact {
    /// Where it was looked for.
    pub path: String,
    /// What is there; `None` if nothing. Only told by its size if it is longer than [`EXPLAINED_VALUE_BYTES_MAX`].
    pub value: Option<Value>,
    /// How long ago it was reported, by the hub's time; `None` if it does not age.
    pub age: Option<Duration>,
}

/// One reason why a device waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// Which gate is closed.
    pub gate: Gate,
    /// Why.
    pub code: Code,
    /// What decided.
    pub facts: Vec<SeenFact>,
    /// What was wanted instead, as the gate has it.
    pub wanted: Value,
    /// The next moment at which time alone could remove this reason; `None` if only a change of the device can.
    pub next: Option<Timestamp>,
}

/// The answer of all gates for one device at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Why it waits, in the order of gates; empty if every gate is open.
    pub reasons: Vec<Reason>,
    /// Whether it may go in spite of the reasons.
    pub overridden: bool,
    /// Before this moment the verdict stays as it is, unless the device, the hub's context or the gates change. `None`
    /// is for ever.
    pub next_change: Option<Timestamp>,
}

impl SeenFact {
    pub(super) fn new(path: String, value: Option<Value>, age: Option<Duration>) -> Self {
        let shown = |value: Value| match value.to_string().len() {
            bytes if bytes > EXPLAINED_VALUE_BYTES_MAX => format!("({bytes} bytes)").into(),
            _ => value,
        };
        Self { path, value: value.map(shown), age }
    }
}

impl Reason {
    /// Gate and code, to count devices by: `power.batteryLow`.
    pub fn key(&self) -> String {
        format!("{}.{}", self.gate.as_str(), self.code.as_str())
    }

    /// For programs: `{"gate", "code", "unknown", "facts": [{"path", "value", "ageInSeconds"}], "wanted", "next", "text"}`.
    pub fn to_json(&self) -> Value {
        let fact = |fact: &SeenFact| {
            let age = fact.age.map(|age| age.as_secs());
            json!({ "path": fact.path, "value": fact.value, "ageInSeconds": age })
        };
        json!({
            "gate": self.gate.as_str(),
            "code": self.code.as_str(),
            "unknown": self.code.is_unknown(),
            "facts": self.facts.iter().map(fact).collect::<Vec<_>>(),
            "wanted": self.wanted,
            "next": self.next.map(|next| next.to_string()),
            "text": self.to_string(),
        })
    }
}

impl Verdict {
    /// Whether the device may go now.
    pub fn is_open(&self) -> bool {
        self.overridden || self.reasons.is_empty()
    }

    /// The next moment at which time alone could let a closed device go: not before each reason could be gone. `None` if
    /// it may go now, or if only a change of the device can help.
    pub fn next_open(&self) -> Option<Timestamp> {
        let nexts: Option<Vec<Timestamp>> = self.reasons.iter().map(|reason| reason.next).collect();
        nexts.filter(|_| !self.is_open())?.into_iter().max()
    }

    /// For programs: `{"open", "overridden", "reasons": […], "nextOpen", "nextChange"}`.
    pub fn to_json(&self) -> Value {
        let mut object = Object::new();
        object.insert("open".into(), self.is_open().into());
        object.insert("overridden".into(), self.overridden.into());
        object.insert("reasons".into(), self.reasons.iter().map(Reason::to_json).collect());
        object.insert("nextOpen".into(), self.next_open().map(|at| at.to_string()).into());
        object.insert("nextChange".into(), self.next_change.map(|at| at.to_string()).into());
        Value::Object(object)
    }
}

/// For people: `power: the battery is low (properties.reported.… is 12, 3 min old); wanted {"minimumBatteryPercent":40}`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.gate.as_str(), words(self.code))?;
        for (index, fact) in self.facts.iter().enumerate() {
            let (before, path) = (if index == 0 { " (" } else { ", " }, &fact.path);
            match &fact.value {
                Some(value) => write!(f, "{before}{path} is {value}")?,
                None => write!(f, "{before}{path} is not there")?,
            }
            if let Some(age) = fact.age {
                write!(f, ", {} old", Ago(age))?;
            }
        }
        if !self.facts.is_empty() {
            f.write_str(")")?;
        }
        if !self.wanted.is_null() {
            write!(f, "; wanted {}", self.wanted)?;
        }
        match self.next {
            Some(next) => write!(f, "; not before {next}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.overridden, self.reasons.is_empty()) {
            (_, true) => "open",
            (true, false) => "open by override, in spite of",
            (false, false) => "closed",
        };
        f.write_str(state)?;
        self.reasons.iter().try_for_each(|reason| write!(f, "\n  {reason}"))
    }
}

fn words(code: Code) -> &'static str {
    match code {
        Code::OutsideWindow => "outside of the maintenance window",
        Code::Blackout => "a black-out date",
        Code::NeverOpens => "the maintenance window does not open any more",
        Code::NotDefined => "the hub has nothing of that name",
        Code::BatteryLow => "the battery is low",
        Code::NotOnMains => "not on mains",
        Code::NetworkKind => "another kind of network",
        Code::Metered => "a metered network",
        Code::SignalLow => "the signal is weak",
        Code::InUse => "in use",
        Code::NotInside => "outside of the wanted places",
        Code::NotOutside => "inside of an unwanted place",
        Code::NotMet => "the condition is not met",
        Code::Missing => "never reported",
        Code::TooOld => "reported too long ago",
        Code::Unusable => "what is reported makes no sense",
    }
}

/// A duration in its largest whole unit.
struct Ago(Duration);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..120 => write!(f, "{seconds} s"),
            seconds @ 120..7200 => write!(f, "{} min", seconds / 60),
            seconds @ 7200..172_800 => write!(f, "{} h", seconds / 3600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}
