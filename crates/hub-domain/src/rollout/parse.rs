//! The policy document from JSON. Whatever gets past here can be carried out; what cannot is refused with advice.

use std::time::Duration;

use serde_json::Value;

use super::policy::{
    Advance, Approval, Backoff, Caps, OnStop, Retries, Rollout, Stop, Success, TagCap, Threshold, WhenBusy,
};
use super::reader::Reader;
use super::sequential::Sequential;
use super::share::Share;
use super::waves::{Growth, Size, Waves};
use super::{ROLLOUT_RETRIES_MAX, ROLLOUT_SEED_MAX, ROLLOUT_WAVES_MAX, RolloutError};
use crate::query::{Condition, Source};

pub(super) const APPROVALS: &[(&str, Approval)] =
    &[("none", Approval::None), ("anyone", Approval::Anyone), ("secondPerson", Approval::SecondPerson)];
pub(super) const ON_STOP: &[(&str, OnStop)] =
    &[("pause", OnStop::Pause), ("abort", OnStop::Abort), ("rollBack", OnStop::RollBack)];
pub(super) const WHEN_BUSY: &[(&str, WhenBusy)] = &[("wait", WhenBusy::Wait), ("refuse", WhenBusy::Refuse)];
pub(super) const ANSWER: &str = "answer";

const MEMBERS: &[&str] = &[
    "waves",
    "seed",
    "stratifyBy",
    "jitterInSeconds",
    "limits",
    "advance",
    "stop",
    "onStop",
    "retry",
    "deviceTimeoutInSeconds",
    "stepTimeoutInSeconds",
    "success",
    "whenBusy",
];

impl Rollout {
    /// From the document. Members that are not there have the values of [`Rollout::default`].
    pub fn parse(value: &Value) -> Result<Self, RolloutError> {
        let root = Reader::new("rollout", value, MEMBERS)?;
        let default = Self::default();
        let device_timeout = root.seconds("deviceTimeoutInSeconds", 1)?.unwrap_or(default.device_timeout);
        let step_timeout = root.seconds("stepTimeoutInSeconds", 1)?;
        if step_timeout.is_some_and(|step| step > device_timeout) {
            let whole = device_timeout.as_secs();
            let problem = format!("is longer than deviceTimeoutInSeconds ({whole}); make it shorter");
            return Err(root.error("stepTimeoutInSeconds", problem));
        }
        Ok(Self {
            waves: waves(&root)?.unwrap_or(default.waves),
            seed: root.whole("seed", 0..=ROLLOUT_SEED_MAX)?,
            stratify_by: root.tag("stratifyBy")?,
            jitter: root.seconds("jitterInSeconds", 0)?.unwrap_or(default.jitter),
            limits: limits(&root)?,
            advance: advance(&root)?,
            stop: stop(&root)?,
            on_stop: root.word("onStop", ON_STOP)?.unwrap_or_default(),
            retry: retries(&root)?,
            device_timeout,
            step_timeout,
            success: success(&root)?,
            when_busy: root.word("whenBusy", WHEN_BUSY)?.unwrap_or_default(),
        })
    }
}

fn waves(root: &Reader<'_>) -> Result<Option<Waves>, RolloutError> {
    let Some(value) = root.get("waves") else { return Ok(None) };
    match value.as_array() {
        Some(waves) => list(root, waves).map(Some),
        None => rule(&Reader::new(root.at("waves"), value, &["canary", "growth"])?).map(Some),
    }
}

fn list(root: &Reader<'_>, waves: &[Value]) -> Result<Waves, RolloutError> {
    let error = |problem: String| root.error("waves", problem);
    if waves.is_empty() || waves.len() > ROLLOUT_WAVES_MAX {
        return Err(error(format!("has {} waves; expected 1 to {ROLLOUT_WAVES_MAX}", waves.len())));
    }
    let (mut sizes, mut rest, mut all_shares) = (Vec::new(), false, true);
    for (index, wave) in waves.iter().enumerate() {
        let wave =
            Reader::new(format!("{}[{index}]", root.at("waves")), wave, &["devices", "percent", "rest"])?;
        rest = wave
            .with("rest", |rest| (rest == &Value::Bool(true)).then_some(true), || "true".into())?
            .is_some();
        match (size(&wave)?, rest) {
            (Some(_), true) => return Err(wave.error_here("has a size and rest; expected one of them")),
            (Some(size), false) => {
                all_shares &= matches!(size, Size::Percent(_));
                sizes.push(size);
            }
            (None, true) if index + 1 < waves.len() => {
                return Err(
                    wave.error("rest", "leaves nothing for the waves behind it; expected it in the last")
                );
            }
            (None, true) => {}
            (None, false) => return Err(wave.error_here("has no size; expected devices, percent or rest")),
        }
    }
    let share = |size: &Size| if let Size::Percent(share) = size { share.millionths() } else { 0 };
    let sum: u64 = sizes.iter().map(share).sum();
    let percent = sum as f64 / 10_000.0;
    let whole = Share::ALL.millionths();
    if sum > whole {
        Err(error(format!("add up to {percent} %; expected 100 at most")))
    } else if sum == whole && (rest || !all_shares) {
        let others = "the percentages add up to 100, so nothing is left for the other waves";
        Err(error(format!("ask for too much: {others}; lower one of them, or leave out the others")))
    } else if !rest && sum < whole {
        let found =
            if all_shares { format!("add up to {percent} %") } else { "need not be everything".into() };
        Err(error(format!("{found}; add {{\"rest\": true}} at the end")))
    } else {
        Ok(Waves::List { sizes, rest })
    }
}

fn size(wave: &Reader<'_>) -> Result<Option<Size>, RolloutError> {
    match (wave.devices("devices")?, wave.percent("percent")?) {
        (Some(_), Some(_)) => Err(wave.error_here("has devices and percent; expected one of them")),
        (Some(devices), None) => Ok(Some(Size::Devices(devices))),
        (None, Some(percent)) => Ok(Some(Size::Percent(percent))),
        (None, None) => Ok(None),
    }
}

fn rule(waves: &Reader<'_>) -> Result<Waves, RolloutError> {
    let object = |name: &str| -> Result<Size, RolloutError> {
        let object = waves.object(name, &["devices", "percent"])?;
        let object = waves.needed(name, object, "{\"devices\": …} or {\"percent\": …}")?;
        size(&object)?.ok_or_else(|| object.error_here("has no size; expected devices or percent"))
    };
    let canary = object("canary")?;
    let growth = waves.object("growth", &["constant", "exponential"])?;
    let growth = waves.needed("growth", growth, "constant or exponential")?;
    let constant = growth.object("constant", &["devices", "percent"])?;
    let growth = match (constant, growth.factor("exponential")?) {
        (Some(constant), None) => {
            let size = size(&constant)?;
            let size = size.ok_or_else(|| constant.error_here("has no size; expected devices or percent"))?;
            if let Size::Percent(share) = size
                && Share::ALL.millionths().div_ceil(share.millionths()) > ROLLOUT_WAVES_MAX as u64
            {
                let problem = format!("is more than {ROLLOUT_WAVES_MAX} waves; make it larger");
                return Err(constant.error("percent", problem));
            }
            Growth::Constant(size)
        }
        (None, Some(factor)) if factor.is_one() => {
            let problem = "is 1, so that no wave grows; expected a factor above 1, or constant";
            return Err(growth.error("exponential", problem));
        }
        (None, Some(factor)) => Growth::Exponential(factor),
        _ => return Err(growth.error_here("must be either constant or exponential")),
    };
    Ok(Waves::Rule { canary, growth })
}

fn limits(root: &Reader<'_>) -> Result<Caps, RolloutError> {
    let Some(limits) = root.object("limits", &["inFlight", "perSecond", "perTag"])? else {
        return Ok(Caps::default());
    };
    let per_tag = match limits.object("perTag", &["path", "inFlight"])? {
        None => None,
        Some(cap) => Some(TagCap {
            path: cap.needed("path", cap.tag("path")?, "the path of a tag, such as tags.site")?,
            in_flight: cap.needed("inFlight", cap.devices("inFlight")?, "a number of devices")?,
        }),
    };
    Ok(Caps { in_flight: limits.devices("inFlight")?, per_second: limits.devices("perSecond")?, per_tag })
}

fn advance(root: &Reader<'_>) -> Result<Advance, RolloutError> {
    let known = ["successPercent", "failurePercent", "minObservationInSeconds", "approval"];
    let Some(advance) = root.object("advance", &known)? else { return Ok(Advance::default()) };
    Ok(Advance {
        success: advance.percent("successPercent")?,
        failure: share_to_stop(&advance, "failurePercent")?,
        min_observation: advance.seconds("minObservationInSeconds", 0)?.unwrap_or_default(),
        approval: advance.word("approval", APPROVALS)?.unwrap_or_default(),
    })
}

fn stop(root: &Reader<'_>) -> Result<Stop, RolloutError> {
    let known = ["failures", "timeouts", "rejections", "sequential"];
    let Some(stop) = root.object("stop", &known)? else { return Ok(Stop::default()) };
    Ok(Stop {
        failures: threshold(&stop, "failures")?,
        timeouts: threshold(&stop, "timeouts")?,
        rejections: threshold(&stop, "rejections")?,
        sequential: sequential(&stop)?,
    })
}

const ZERO_IS: &str =
    "is 0, which stops before anything was tried; expected 1 to stop at the first, or no threshold";

fn threshold(stop: &Reader<'_>, name: &str) -> Result<Threshold, RolloutError> {
    let Some(threshold) = stop.object(name, &["count", "percent"])? else { return Ok(Threshold::default()) };
    if threshold.get("count").and_then(Value::as_f64) == Some(0.0) {
        return Err(threshold.error("count", ZERO_IS));
    }
    let count = threshold.devices("count")?;
    let share = share_to_stop(&threshold, "percent")?;
    if count.is_none() && share.is_none() {
        return Err(threshold.error_here("has no threshold; expected count, percent or both"));
    }
    Ok(Threshold { count, share })
}

/// A percentage at which something stops.
fn share_to_stop(object: &Reader<'_>, name: &str) -> Result<Option<Share>, RolloutError> {
    if object.get(name).and_then(Value::as_f64) == Some(0.0) {
        let problem = "is 0, which stops before anything was tried; expected more than 0, or stop.failures.count 1 \
                       to stop at the first";
        return Err(object.error(name, problem));
    }
    object.percent(name)
}

fn sequential(stop: &Reader<'_>) -> Result<Option<Sequential>, RolloutError> {
    let known = ["allowedFailureRate", "alternativeFailureRate", "margin", "confidence"];
    let Some(rule) = stop.object("sequential", &known)? else { return Ok(None) };
    if rule.get("allowedFailureRate").and_then(Value::as_f64) == Some(0.0) {
        let problem = "is 0; to stop at the first failure use stop.failures.count 1";
        return Err(rule.error("allowedFailureRate", problem));
    }
    let allowed = rule.fraction("allowedFailureRate")?;
    let allowed = rule.needed("allowedFailureRate", allowed, "a rate such as 0.01")?;
    let (name, alternative) = match (rule.fraction("alternativeFailureRate")?, rule.fraction("margin")?) {
        (Some(alternative), None) => ("alternativeFailureRate", Some(alternative)),
        (None, Some(margin)) => {
            ("margin", Share::from_millionths(allowed.millionths() + margin.millionths()))
        }
        _ => return Err(rule.error_here("must have either alternativeFailureRate or margin")),
    };
    let Some(alternative) = alternative.filter(|rate| *rate < Share::ALL && *rate > allowed) else {
        let allowed = allowed.fraction();
        let problem = format!("must lead to a rate above allowedFailureRate ({allowed}) and below 1");
        return Err(rule.error(name, problem));
    };
    let confidence = match rule.fraction("confidence")? {
        None => Sequential::CONFIDENCE_DEFAULT,
        Some(confidence) if confidence.fraction() < 0.5 => {
            return Err(rule.error("confidence", "is below 0.5; expected a number such as 0.95"));
        }
        Some(confidence) => confidence,
    };
    Ok(Some(Sequential { allowed, alternative, confidence }))
}

fn retries(root: &Reader<'_>) -> Result<Retries, RolloutError> {
    let default = Retries::default();
    let known = ["rejected", "failed", "deferred", "offline", "timedOut"];
    let Some(retry) = root.object("retry", &known)? else { return Ok(default) };
    Ok(Retries {
        rejected: backoff(&retry, "rejected", default.rejected)?,
        failed: backoff(&retry, "failed", default.failed)?,
        deferred: backoff(&retry, "deferred", default.deferred)?,
        offline: backoff(&retry, "offline", default.offline)?,
        timed_out: backoff(&retry, "timedOut", default.timed_out)?,
    })
}

fn backoff(retry: &Reader<'_>, name: &str, default: Backoff) -> Result<Backoff, RolloutError> {
    let known = ["maxRetries", "initialInSeconds", "factor", "maxInSeconds"];
    let Some(backoff) = retry.object(name, &known)? else { return Ok(default) };
    let initial = backoff.seconds("initialInSeconds", 1)?.unwrap_or(default.initial);
    let max = backoff.seconds("maxInSeconds", 1)?;
    if let Some(max) = max.filter(|max| *max < initial) {
        let problem = format!("is {}, less than initialInSeconds ({})", max.as_secs(), initial.as_secs());
        return Err(backoff.error("maxInSeconds", problem));
    }
    Ok(Backoff {
        max_retries: backoff.whole("maxRetries", 0..=ROLLOUT_RETRIES_MAX)?.unwrap_or(default.max_retries),
        initial,
        factor: backoff.factor("factor")?.unwrap_or(default.factor),
        max: max.unwrap_or_else(|| Duration::max(default.max, initial)),
    })
}

fn success(root: &Reader<'_>) -> Result<Success, RolloutError> {
    match root.get("success") {
        None => return Ok(Success::Answer),
        Some(Value::String(word)) if word == ANSWER => return Ok(Success::Answer),
        Some(value) if !value.is_object() => {
            let problem = format!("is {value}; expected \"{ANSWER}\" or {{\"condition\": \"…\"}}");
            return Err(root.error("success", problem));
        }
        Some(_) => {}
    }
    let object = root.object("success", &["condition"])?;
    let object = root.needed("success", object, "a condition")?;
    let expected = || "a condition such as properties.reported.firmware.version = '2.0'".to_owned();
    let text = object.with("condition", Value::as_str, expected)?;
    let text = object.needed("condition", text, &expected())?;
    let condition =
        Condition::parse(text).map_err(|error| object.error("condition", format!("is invalid: {error}")))?;
    let is_of_others = matches!(condition.source(), Source::DeviceJobs | Source::RetiredDevices);
    if is_of_others || condition.is_nothing() || condition.is_everything() {
        let problem =
            format!("is '{text}', which tells no good device from a bad one; expected {}", expected());
        return Err(object.error("condition", problem));
    }
    Ok(Success::Reported { text: text.to_owned(), condition })
}
