//! That somebody overrode gates: who, why and when. Whoever does so must say why.

use serde_json::{Value, json};

use super::members::Members;
use super::{CONTEXT_REASON_CHARS_MAX, ContextError};
use crate::actor::Actor;
use crate::time::Timestamp;

/// The gates of one job or configuration do not count any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatesOverride {
    /// Who said so.
    pub by: Actor,
    /// Why, in his words.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl GatesOverride {
    /// Somebody says so.
    ///
    /// # Errors
    /// If the reason is empty or too long.
    pub fn new(by: Actor, why: &str, at: Timestamp) -> Result<Self, ContextError> {
        Ok(Self { by, reason: reason("overrideGates", &json!({ "reason": why }))?, at })
    }

    /// For the store.
    pub fn to_json(&self) -> Value {
        json!({ "by": self.by.to_string(), "reason": self.reason, "at": self.at.ticks() })
    }

    /// As the store has it.
    pub fn from_json(value: &Value) -> Option<Self> {
        let by = Actor::parse(value["by"].as_str()?)?;
        let at = Timestamp::from_ticks(value["at"].as_i64()?);
        Some(Self { by, reason: value["reason"].as_str()?.to_owned(), at })
    }
}

/// The reason in a document that has nothing else.
pub(super) fn reason(place: &str, document: &Value) -> Result<String, ContextError> {
    let members = Members::of(place, document, &["reason"])?;
    let reason = members.text("reason", CONTEXT_REASON_CHARS_MAX)?;
    members.required("reason", reason, "why the gates are overridden").map(str::to_owned)
}
