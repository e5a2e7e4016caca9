//! The document `gates` of an action, and the verdict over one device.
//! Must never leave a gate out: what was asked for is asked of every device, each time.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::condition::ConditionGate;
use super::device::{InUseGate, NetworkGate, PowerGate};
use super::facts::{Finding, Findings, Scene, earlier};
use super::hub::HubContext;
use super::members::Members;
use super::overriding;
use super::place::PlaceGate;
use super::verdict::Verdict;
use super::window::WindowGate;
use super::{CONTEXT_REASON_CHARS_MAX, ContextError, FACT_AGE_MAX};
use crate::json::Object;
use crate::query::{Path, Row};
use crate::time::Timestamp;

/// What it means that the hub does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// The device waits.
    Closed,
    /// The device may go.
    Open,
}

/// How a gate, or all of them, take facts that are old or missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Policy {
    age_max: Option<Duration>,
    unknown: Option<Unknown>,
}

impl Policy {
    pub(super) const MEMBERS: [&str; 2] = ["factMaxAgeInSeconds", "unknown"];

    pub(super) fn parse(members: &Members<'_>) -> Result<Self, ContextError> {
        let [age_max, unknown] = Self::MEMBERS;
        let found = members.text(unknown, CONTEXT_REASON_CHARS_MAX)?;
        let found = found.map(|word| match word {
            "closed" => Ok(Unknown::Closed),
            "open" => Ok(Unknown::Open),
            other => Err(members.wrong(unknown, format!("is '{other}'; expected closed or open"))),
        });
        let age_max = members.seconds(age_max, Duration::from_secs(1), FACT_AGE_MAX)?;
        Ok(Self { age_max, unknown: found.transpose()? })
    }

    pub(super) fn age_max(self) -> Option<Duration> {
        self.age_max
    }

    pub(super) fn print(self, object: &mut Object) {
        let [age_max, unknown] = Self::MEMBERS;
        object.extend(self.age_max.map(|age| (age_max.to_owned(), age.as_secs().into())));
        let word = |meaning| if meaning == Unknown::Open { "open" } else { "closed" };
        object.extend(self.unknown.map(|meaning| (unknown.to_owned(), word(meaning).into())));
    }
}

/// What an action asks of a device before it may act on it. Every gate that is there must be open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gates {
    window: Option<WindowGate>,
    power: Option<PowerGate>,
    network: Option<NetworkGate>,
    in_use: Option<InUseGate>,
    place: Option<PlaceGate>,
    condition: Option<ConditionGate>,
    policy: Policy,
    override_reason: Option<String>,
}

impl Gates {
    const MEMBERS: [&str; 7] = ["window", "power", "network", "notInUse", "place", "condition", "override"];

    /// From the document `gates`. Unknown members are refused.
    ///
    /// # Errors
    /// Says what is wrong, where, and what would be right.
    pub fn parse(value: &Value) -> Result<Self, ContextError> {
        let known: Vec<&str> = Self::MEMBERS.into_iter().chain(Policy::MEMBERS).collect();
        let members = Members::of("gates", value, &known)?;
        fn gate<T>(
            members: &Members<'_>,
            name: &str,
            parse: impl Fn(&str, &Value) -> Result<T, ContextError>,
        ) -> Result<Option<T>, ContextError> {
            members.get(name).map(|value| parse(&members.place(name), value)).transpose()
        }
        Ok(Self {
            window: gate(&members, "window", WindowGate::parse)?,
            power: gate(&members, "power", PowerGate::parse)?,
            network: gate(&members, "network", NetworkGate::parse)?,
            in_use: gate(&members, "notInUse", InUseGate::parse)?,
            place: gate(&members, "place", PlaceGate::parse)?,
            condition: gate(&members, "condition", ConditionGate::parse)?,
            policy: Policy::parse(&members)?,
            override_reason: gate(&members, "override", overriding::reason)?,
        })
    }

    /// The document, without what is not asked for. Parsing it again gives the same gates.
    pub fn to_json(&self) -> Value {
        let gates = [
            self.window.as_ref().map(WindowGate::to_json),
            self.power.as_ref().map(PowerGate::to_json),
            self.network.as_ref().map(NetworkGate::to_json),
            self.in_use.as_ref().map(InUseGate::to_json),
            self.place.as_ref().map(PlaceGate::to_json),
            self.condition.as_ref().map(ConditionGate::to_json),
            self.override_reason
                .as_ref()
                .map(|why| Object::from_iter([("reason".into(), why.as_str().into())])),
        ];
        let named = Self::MEMBERS.into_iter().zip(gates);
        let mut object: Object =
            named.filter_map(|(name, gate)| Some((name.to_owned(), Value::Object(gate?)))).collect();
        self.policy.print(&mut object);
        Value::Object(object)
    }

    pub(super) fn window(&self) -> Option<&WindowGate> {
        self.window.as_ref().filter(|_| self.override_reason.is_none())
    }

    /// Why the gates are overridden, if they are. By whom is the caller's to record.
    pub fn override_reason(&self) -> Option<&str> {
        self.override_reason.as_deref()
    }

    /// Whether nothing is asked for, so that every device may always go.
    pub fn is_empty(&self) -> bool {
        let Self { window, power, network, in_use, place, condition, .. } = self;
        let twin = power.is_none() && network.is_none() && in_use.is_none() && place.is_none();
        twin && window.is_none() && condition.is_none()
    }

    /// The paths of a twin that the verdict depends on: a change elsewhere in the twin cannot change it. A change of the
    /// hub's context can.
    pub fn paths(&self, hub: &HubContext) -> BTreeSet<Path> {
        let mut paths = BTreeSet::new();
        let facts = hub.facts();
        let mut add = |there: bool, wanted: &[_]| {
            if there {
                facts.add_paths(wanted, &mut paths);
            }
        };
        add(self.power.is_some(), &PowerGate::FACTS);
        add(self.network.is_some(), &NetworkGate::FACTS);
        add(self.in_use.is_some(), &InUseGate::FACTS);
        add(self.place.is_some(), &PlaceGate::FACTS);
        self.window.iter().for_each(|gate| gate.add_paths(facts, &mut paths));
        self.condition.iter().for_each(|gate| gate.add_paths(&mut paths));
        paths
    }

    /// The verdict over one device or module, whose twin is `row`, at `now` by the hub's clock.
    pub fn evaluate(&self, row: &dyn Row, hub: &HubContext, now: Timestamp) -> Verdict {
        let mut verdict = Verdict::default();
        let scene = |age_max| Scene { row, paths: hub.facts(), now, age_max };
        // What changes rarely is reported rarely, such as a time zone or a version: only a gate's own age counts there.
        let own = |policy: Policy| scene(policy.age_max);
        let any = |policy: Policy| scene(policy.age_max.or(self.policy.age_max));
        let mut settle = |policy: Policy, findings| {
            let unknown = policy.unknown.or(self.policy.unknown).unwrap_or(Unknown::Closed);
            settle(&mut verdict, findings, unknown, now);
        };
        if let Some(gate) = &self.window {
            settle(gate.policy(), gate.judge(&own(gate.policy()), hub));
        }
        if let Some(gate) = &self.power {
            settle(gate.policy(), gate.judge(&any(gate.policy())));
        }
        if let Some(gate) = &self.network {
            settle(gate.policy(), gate.judge(&any(gate.policy())));
        }
        if let Some(gate) = &self.in_use {
            settle(gate.policy(), gate.judge(&any(gate.policy())));
        }
        if let Some(gate) = &self.place {
            settle(gate.policy(), gate.judge(&any(gate.policy()), hub));
        }
        if let Some(gate) = &self.condition {
            settle(gate.policy(), gate.judge(&own(gate.policy())));
        }
        if self.override_reason.is_some() {
            verdict.overridden = true;
            verdict.next_change = None;
        }
        verdict
    }
}

/// Adds what one gate says to the verdict.
fn settle(verdict: &mut Verdict, findings: Findings, unknown: Unknown, now: Timestamp) {
    verdict.next_change = earlier(verdict.next_change, findings.change.filter(|at| *at > now));
    for Finding { mut reason, expires } in findings.reasons {
        let next = reason.next.filter(|next| *next > now);
        reason.next = match unknown {
            Unknown::Open if reason.code.is_unknown() => continue,
            // A fact that gets too old opens the gate.
            Unknown::Open => earlier(next, expires),
            // A fact that gets too old keeps the gate closed, whatever the time would bring later.
            Unknown::Closed => next.filter(|next| expires.is_none_or(|expires| *next < expires)),
        };
        verdict.reasons.push(reason);
    }
}
