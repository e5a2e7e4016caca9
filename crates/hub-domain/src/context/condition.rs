//! The gate over anything else: a condition in the query language.
//! Must never call a condition false that is undefined: something that it needs was never said.

use std::collections::BTreeSet;

use serde_json::Value;

use super::ContextError;
use super::facts::{FactPath, Findings, Scene};
use super::gates::Policy;
use super::members::Members;
use super::verdict::{Code, Gate, Reason};
use crate::json::Object;
use crate::query::{Condition, Path, QUERY_TEXT_CHARS_MAX, Source};

/// The gate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ConditionGate {
    text: String,
    condition: Condition,
    reads: Vec<FactPath>,
    policy: Policy,
}

impl ConditionGate {
    /// From `{"where": CONDITION}`.
    pub(super) fn parse(at: &str, value: &Value) -> Result<Self, ContextError> {
        let known: Vec<&str> = ["where"].into_iter().chain(Policy::MEMBERS).collect();
        let members = Members::of(at, value, &known)?;
        let text = members.text("where", QUERY_TEXT_CHARS_MAX)?;
        let text = members.required("where", text, "a condition such as tags.site = 'a'")?;
        let condition = Condition::parse(text).map_err(|error| members.wrong("where", error.to_string()))?;
        if let source @ (Source::DeviceJobs | Source::RetiredDevices) = condition.source() {
            let problem = format!("is over {source}; expected a condition over devices or devices.modules");
            return Err(members.wrong("where", problem));
        }
        let reads = condition.paths().into_iter().cloned().map(FactPath::new).collect();
        Ok(Self { text: text.to_owned(), condition, reads, policy: Policy::parse(&members)? })
    }

    pub(super) fn to_json(&self) -> Object {
        let mut object = Object::from_iter([("where".to_owned(), Value::from(self.text.as_str()))]);
        self.policy.print(&mut object);
        object
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(super) fn add_paths(&self, paths: &mut BTreeSet<Path>) {
        paths.extend(self.reads.iter().map(|read| read.path().clone()));
    }

    pub(super) fn judge(&self, scene: &Scene<'_>) -> Findings {
        let mut findings = Findings::default();
        let mut is_old = false;
        if scene.age_max.is_some() {
            for read in &self.reads {
                let found = scene.find_at(std::slice::from_ref(read), |_| Some(()));
                is_old |= found.value == Err(Code::TooOld);
                findings.changes(found.expires);
            }
        }
        let code = match is_old {
            true => Code::TooOld,
            false if self.condition.matches(scene.row) => return findings,
            false if self.condition.explain(scene.row).result.is_some() => Code::NotMet,
            false => Code::Missing,
        };
        let facts = self.reads.iter().map(|read| scene.seen_path(read)).collect();
        let wanted = self.text.as_str().into();
        let expires = findings.change;
        findings.push(Reason { gate: Gate::Condition, code, facts, wanted, next: None }, expires);
        findings
    }
}
