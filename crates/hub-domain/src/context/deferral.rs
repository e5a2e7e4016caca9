//! What a device answers that cannot act now: "not now, again at". Documented in `docs/context.md`.
//! Must never let a device put an action off for ever, nor have it asked without end.

use std::time::Duration;

use serde_json::Value;

use super::facts::moment;
use super::{CONTEXT_REASON_CHARS_MAX, DEFERRAL_DEFAULT, DEFERRAL_MAX, DEFERRAL_MIN};
use crate::method::MethodResult;
use crate::time::Timestamp;

/// Statuses that defer whatever the payload is: too many requests, and service unavailable.
const STATUSES: [i32; 2] = [429, 503];

/// A device's wish to be asked again later.
#[derive(Clone, Debug, PartialEq)]
pub struct Deferral {
    /// When to ask again: after `now`, and at most [`DEFERRAL_MAX`] ahead.
    pub until: Timestamp,
    /// Why, in the device's words.
    pub reason: Option<String>,
    /// Whether the device wanted longer than it may.
    pub is_shortened: bool,
}

impl Deferral {
    /// From a method's answer: a payload `{"deferred": {"afterSeconds", "untilUtc", "reason"}}` with any status, or the
    /// status 429 or 503. `None` if the answer is none of these. A time that makes no sense, or none at all, is
    /// [`DEFERRAL_DEFAULT`]; `afterSeconds` goes before `untilUtc`, since it needs no clock.
    pub fn from_answer(answer: &MethodResult, now: Timestamp) -> Option<Self> {
        let payload: Value = serde_json::from_str(&answer.payload).unwrap_or(Value::Null);
        let deferred = payload.get("deferred").filter(|deferred| deferred.is_object() || **deferred == true);
        if deferred.is_none() && !STATUSES.contains(&answer.status) {
            return None;
        }
        let deferred = deferred.unwrap_or(&Value::Null);
        let after = deferred["afterSeconds"].as_f64().filter(|seconds| *seconds >= 0.0);
        let after = after.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        let wanted = after.or_else(|| moment(&deferred["untilUtc"]).map(|until| until.since(now)));
        let wanted = wanted.filter(|wait| after.is_some() || !wait.is_zero()).unwrap_or(DEFERRAL_DEFAULT);
        let reason = deferred["reason"].as_str().filter(|text| !text.is_empty());
        Some(Self {
            until: now.plus(wanted.clamp(DEFERRAL_MIN, DEFERRAL_MAX)),
            reason: reason.map(|text| text.chars().take(CONTEXT_REASON_CHARS_MAX).collect()),
            is_shortened: wanted > DEFERRAL_MAX,
        })
    }
}
