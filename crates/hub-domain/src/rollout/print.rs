//! The policy document as JSON: everything that is in force, defaults too. What is not set is left out.

use serde_json::{Value, json};

use super::parse::{ANSWER, APPROVALS, ON_STOP, WHEN_BUSY};
use super::policy::{Backoff, Rollout, Stop, Success, Threshold};
use super::share::Share;
use super::waves::{Growth, Size, Waves};
use crate::json::Object;

impl Rollout {
    /// The whole document. Parsing it gives an equal policy.
    pub fn to_json(&self) -> Value {
        let Self { limits, advance, retry, .. } = self;
        let per_tag = limits.per_tag.as_ref();
        let success = match &self.success {
            Success::Answer => json!(ANSWER),
            Success::Reported { text, .. } => json!({ "condition": text }),
        };
        object([
            ("waves", Some(waves(&self.waves))),
            ("seed", self.seed.map(Value::from)),
            ("stratifyBy", self.stratify_by.as_ref().map(|path| path.to_string().into())),
            ("jitterInSeconds", Some(self.jitter.as_secs().into())),
            (
                "limits",
                Some(object([
                    ("inFlight", limits.in_flight.map(Value::from)),
                    ("perSecond", limits.per_second.map(Value::from)),
                    (
                        "perTag",
                        per_tag.map(|cap| json!({ "path": cap.path.to_string(), "inFlight": cap.in_flight })),
                    ),
                ])),
            ),
            (
                "advance",
                Some(object([
                    ("successPercent", advance.success.map(percent)),
                    ("failurePercent", advance.failure.map(percent)),
                    ("minObservationInSeconds", Some(advance.min_observation.as_secs().into())),
                    ("approval", Some(word(APPROVALS, advance.approval))),
                ])),
            ),
            ("stop", Some(stop(&self.stop))),
            ("onStop", Some(word(ON_STOP, self.on_stop))),
            (
                "retry",
                Some(json!({
                    "rejected": backoff(&retry.rejected),
                    "failed": backoff(&retry.failed),
                    "deferred": backoff(&retry.deferred),
                    "offline": backoff(&retry.offline),
                    "timedOut": backoff(&retry.timed_out),
                })),
            ),
            ("deviceTimeoutInSeconds", Some(self.device_timeout.as_secs().into())),
            ("stepTimeoutInSeconds", self.step_timeout.map(|step| step.as_secs().into())),
            ("success", Some(success)),
            ("whenBusy", Some(word(WHEN_BUSY, self.when_busy))),
        ])
    }
}

/// The members that are there.
pub(super) fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(members.collect::<Object>())
}

/// The word for a value of a table.
pub(super) fn word<T: PartialEq>(words: &[(&'static str, T)], value: T) -> Value {
    words.iter().find(|(_, known)| *known == value).map_or(Value::Null, |(word, _)| (*word).into())
}

/// A number, without a point if it needs none.
fn number(number: f64) -> Value {
    if number.fract() == 0.0 { (number as u64).into() } else { number.into() }
}

fn percent(share: Share) -> Value {
    number(share.percent())
}

fn waves(waves: &Waves) -> Value {
    match waves {
        Waves::List { sizes, rest } => {
            let rest = rest.then(|| json!({ "rest": true }));
            sizes.iter().map(size).chain(rest).collect()
        }
        Waves::Rule { canary, growth } => {
            let growth = match growth {
                Growth::Constant(constant) => json!({ "constant": size(constant) }),
                Growth::Exponential(factor) => json!({ "exponential": number(factor.number()) }),
            };
            json!({ "canary": size(canary), "growth": growth })
        }
    }
}

fn size(size: &Size) -> Value {
    match size {
        Size::Devices(devices) => json!({ "devices": devices }),
        Size::Percent(share) => json!({ "percent": percent(*share) }),
    }
}

fn stop(stop: &Stop) -> Value {
    let threshold = |threshold: &Threshold| {
        let Threshold { count, share } = threshold;
        let is_set = count.is_some() || share.is_some();
        is_set.then(|| object([("count", count.map(Value::from)), ("percent", share.map(percent))]))
    };
    let sequential = stop.sequential.map(|rule| {
        json!({
            "allowedFailureRate": rule.allowed.fraction(),
            "alternativeFailureRate": rule.alternative.fraction(),
            "confidence": rule.confidence.fraction(),
        })
    });
    object([
        ("failures", threshold(&stop.failures)),
        ("timeouts", threshold(&stop.timeouts)),
        ("rejections", threshold(&stop.rejections)),
        ("sequential", sequential),
    ])
}

fn backoff(backoff: &Backoff) -> Value {
    json!({
        "maxRetries": backoff.max_retries,
        "initialInSeconds": backoff.initial.as_secs(),
        "factor": number(backoff.factor.number()),
        "maxInSeconds": backoff.max.as_secs(),
    })
}
