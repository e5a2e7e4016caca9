//! The gates over what a device says of itself: power, network, and whether it is in use.
//! Must never let a value pass that makes no sense: a battery that is "full" is unknown, not charged.

use std::time::Duration;

use serde_json::{Value, json};

use super::facts::{Fact, Findings, Scene, flag, moment, number};
use super::gates::Policy;
use super::members::{Members, shown};
use super::verdict::{Code, Gate, Reason};
use super::{CONTEXT_NAME_CHARS_MAX, ContextError, LEASE_MAX, LEASE_PAST_MAX, NETWORK_KINDS_MAX};
use crate::json::Object;
use crate::time::Timestamp;

/// Whether there is enough power.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PowerGate {
    minimum: Option<f64>,
    mains: bool,
    charging: bool,
    policy: Policy,
}

impl PowerGate {
    pub(super) const FACTS: [Fact; 3] = [Fact::BatteryPercent, Fact::OnMains, Fact::Charging];
    const MEMBERS: [&str; 3] = ["minimumBatteryPercent", "mainsRequired", "chargingAccepted"];

    pub(super) fn parse(at: &str, value: &Value) -> Result<Self, ContextError> {
        let known: Vec<&str> = Self::MEMBERS.into_iter().chain(Policy::MEMBERS).collect();
        let members = Members::of(at, value, &known)?;
        let [minimum, mains, charging] = Self::MEMBERS;
        let found = Self {
            minimum: members.number(minimum, 0.0, 100.0)?,
            mains: members.flag(mains)?,
            charging: members.flag(charging)?,
            policy: Policy::parse(&members)?,
        };
        if found.charging && found.minimum.is_none() {
            return Err(
                members.wrong(charging, format!("needs {minimum}: it is what charging stands in for"))
            );
        }
        if found.minimum.is_none() && !found.mains {
            return Err(members.error(format!("asks for nothing; expected {minimum} or {mains}")));
        }
        Ok(found)
    }

    pub(super) fn to_json(&self) -> Object {
        let [minimum, mains, charging] = Self::MEMBERS;
        let mut object = Object::new();
        object.extend(self.minimum.map(|percent| (minimum.to_owned(), percent.into())));
        object.extend(self.mains.then(|| (mains.to_owned(), true.into())));
        object.extend(self.charging.then(|| (charging.to_owned(), true.into())));
        self.policy.print(&mut object);
        object
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(super) fn judge(&self, scene: &Scene<'_>) -> Findings {
        let mut findings = Findings::default();
        if self.mains {
            let found = scene.find(Fact::OnMains, flag);
            let wanted = || json!({ "mainsRequired": true });
            findings.check(scene, Gate::Power, &found, Code::NotOnMains, wanted, |on| *on);
        }
        let Some(minimum) = self.minimum else { return findings };
        if self.charging {
            for fact in [Fact::Charging, Fact::OnMains] {
                let found = scene.find(fact, flag);
                if found.value == Ok(true) {
                    findings.changes(found.expires);
                    return findings;
                }
            }
        }
        let found = scene.find(Fact::BatteryPercent, number(0.0, 100.0));
        let wanted = || {
            let charging = self.charging.then(|| ("chargingAccepted".to_owned(), true.into()));
            let least = ("minimumBatteryPercent".to_owned(), minimum.into());
            Value::Object([least].into_iter().chain(charging).collect())
        };
        findings.check(scene, Gate::Power, &found, Code::BatteryLow, wanted, |percent| *percent >= minimum);
        findings
    }
}

/// Whether the network will do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NetworkGate {
    kinds: Vec<String>,
    not_metered: bool,
    signal: Option<f64>,
    policy: Policy,
}

impl NetworkGate {
    pub(super) const FACTS: [Fact; 3] = [Fact::NetworkKind, Fact::NetworkMetered, Fact::NetworkSignal];
    const MEMBERS: [&str; 3] = ["kinds", "notMetered", "minimumSignal"];
    /// Signals may be in dBm, which are negative.
    const SIGNAL_MAX: f64 = 1000.0;

    pub(super) fn parse(at: &str, value: &Value) -> Result<Self, ContextError> {
        let known: Vec<&str> = Self::MEMBERS.into_iter().chain(Policy::MEMBERS).collect();
        let members = Members::of(at, value, &known)?;
        let kind = |(at, value): (String, &Value)| {
            let text =
                value.as_str().filter(|text| (1..=CONTEXT_NAME_CHARS_MAX).contains(&text.chars().count()));
            let wrong =
                || ContextError::new(at, format!("is {}; expected a kind such as \"wifi\"", shown(value)));
            text.map(str::to_owned).ok_or_else(wrong)
        };
        let kinds = members.list("kinds", NETWORK_KINDS_MAX)?.into_iter().flatten();
        let found = Self {
            kinds: kinds.map(kind).collect::<Result<_, _>>()?,
            not_metered: members.flag("notMetered")?,
            signal: members.number("minimumSignal", -Self::SIGNAL_MAX, Self::SIGNAL_MAX)?,
            policy: Policy::parse(&members)?,
        };
        if found.kinds.is_empty() && !found.not_metered && found.signal.is_none() {
            return Err(members.error("asks for nothing; expected kinds, notMetered or minimumSignal"));
        }
        Ok(found)
    }

    pub(super) fn to_json(&self) -> Object {
        let mut object = Object::new();
        object.extend((!self.kinds.is_empty()).then(|| ("kinds".to_owned(), self.kinds.clone().into())));
        object.extend(self.not_metered.then(|| ("notMetered".to_owned(), true.into())));
        object.extend(self.signal.map(|signal| ("minimumSignal".to_owned(), signal.into())));
        self.policy.print(&mut object);
        object
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(super) fn judge(&self, scene: &Scene<'_>) -> Findings {
        let mut findings = Findings::default();
        if !self.kinds.is_empty() {
            let found = scene.find(Fact::NetworkKind, |value| value.as_str().map(str::to_owned));
            let wanted = || json!({ "kinds": self.kinds });
            findings.check(scene, Gate::Network, &found, Code::NetworkKind, wanted, |kind| {
                self.kinds.iter().any(|wanted| wanted.eq_ignore_ascii_case(kind))
            });
        }
        if self.not_metered {
            let found = scene.find(Fact::NetworkMetered, flag);
            let wanted = || json!({ "notMetered": true });
            findings.check(scene, Gate::Network, &found, Code::Metered, wanted, |metered| !metered);
        }
        if let Some(least) = self.signal {
            let found = scene.find(Fact::NetworkSignal, number(-Self::SIGNAL_MAX, Self::SIGNAL_MAX));
            let wanted = || json!({ "minimumSignal": least });
            findings.check(scene, Gate::Network, &found, Code::SignalLow, wanted, |signal| *signal >= least);
        }
        findings
    }
}

/// Whether nobody uses it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InUseGate {
    policy: Policy,
}

impl InUseGate {
    pub(super) const FACTS: [Fact; 3] = [Fact::InUse, Fact::InUseUntil, Fact::InUseSeconds];

    pub(super) fn parse(at: &str, value: &Value) -> Result<Self, ContextError> {
        Ok(Self { policy: Policy::parse(&Members::of(at, value, &Policy::MEMBERS)?)? })
    }

    pub(super) fn to_json(&self) -> Object {
        let mut object = Object::new();
        self.policy.print(&mut object);
        object
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    /// A fresh "no" opens. Otherwise a lease decides, until its end; after it, and without a lease, the flag does.
    pub(super) fn judge(&self, scene: &Scene<'_>) -> Findings {
        let mut findings = Findings::default();
        let used = scene.find(Fact::InUse, flag);
        if used.value == Ok(false) {
            findings.changes(used.expires);
            return findings;
        }
        // A lease says itself how long it is good for.
        let ageless = Scene { age_max: None, ..*scene };
        let seconds = ageless.find(Fact::InUseSeconds, number(0.0, LEASE_MAX.as_secs_f64()));
        let until = ageless.find(Fact::InUseUntil, moment);
        let end = match seconds.value {
            Err(Code::Missing) => until.value.and_then(|end| plausible(end, ageless.reported(&until))),
            Ok(lease) => {
                let end = ageless.reported(&seconds).map(|from| from.plus(Duration::from_secs_f64(lease)));
                end.ok_or(Code::Unusable)
            }
            Err(code) => Err(code),
        };
        let reason = |code, next| {
            let is_span = seconds.value != Err(Code::Missing);
            let fact = if is_span { ageless.seen(&seconds) } else { ageless.seen(&until) };
            Reason { gate: Gate::InUse, code, facts: vec![fact], wanted: json!({ "inUse": false }), next }
        };
        match end {
            Ok(end) if end > scene.now => {
                findings.changes(Some(end));
                findings.push(reason(Code::InUse, Some(end)), None);
            }
            // What was said before the lease was over says nothing of the time after it.
            Ok(end) if scene.reported(&used).is_none_or(|said| said < end) => {}
            Ok(_) | Err(Code::Missing) => {
                let wanted = || json!({ "inUse": false });
                findings.check(scene, Gate::InUse, &used, Code::InUse, wanted, |used| !used);
            }
            Err(code) => findings.push(reason(code, None), None),
        }
        findings
    }
}

/// A lease's end by the device's clock, unless that is off.
fn plausible(end: Timestamp, reported: Option<Timestamp>) -> Result<Timestamp, Code> {
    let Some(reported) = reported else { return Ok(end) };
    let is_off = end.since(reported) > LEASE_MAX || reported.since(end) > LEASE_PAST_MAX;
    if is_off { Err(Code::Unusable) } else { Ok(end) }
}
