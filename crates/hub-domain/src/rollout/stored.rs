//! The state of a rollout as JSON, for people and for a row alike: nothing is lost on the way, and reading checks what the
//! transitions take for granted.

use serde_json::{Value, json};

use super::RolloutError;
use super::forecast::Expected;
use super::print::object;
use super::reader::Reader;
use super::state::{Approved, Phase, RolloutState, Tally, WaveState};
use super::stop::{StopCause, StopRule};
use crate::time::Timestamp;

const WAVE: &[&str] = &[
    "targets",
    "pending",
    "inFlight",
    "retrying",
    "succeeded",
    "failed",
    "timedOut",
    "rejected",
    "skipped",
    "forgiven",
    "openedTime",
    "settledTime",
    "approvedBy",
    "approvedTime",
];

impl Phase {
    /// The word in documents.
    pub fn as_str(&self) -> &'static str {
        match self {
            Phase::Running => "running",
            Phase::Observing { .. } => "observing",
            Phase::AwaitingApproval { .. } => "awaitingApproval",
            Phase::Paused { .. } => "paused",
            Phase::Stopped(_) => "stopped",
            Phase::Aborting { .. } => "aborted",
            Phase::RollingBack { .. } => "rollingBack",
            Phase::Done => "done",
        }
    }
}

impl RolloutState {
    /// The whole state.
    pub fn to_json(&self) -> Value {
        let (mut since, mut by, mut reason, mut cause) = (None, None, None, None);
        match &self.phase {
            Phase::Observing { since: at } | Phase::AwaitingApproval { since: at } => since = Some(*at),
            Phase::Paused { by: who, reason: why }
            | Phase::Aborting { by: who, reason: why }
            | Phase::RollingBack { by: who, reason: why } => (by, reason) = (Some(who), Some(why)),
            Phase::Stopped(stop) => cause = Some(stop),
            Phase::Running | Phase::Done => {}
        }
        object([
            ("phase", Some(self.phase.as_str().into())),
            ("since", since.map(time)),
            ("by", by.map(|by| by.as_str().into())),
            ("reason", reason.map(|reason| reason.as_str().into())),
            ("stop", cause.map(stop)),
            ("askedBy", Some(self.asked_by.as_str().into())),
            ("waves", Some(self.waves.iter().map(wave).collect())),
            (
                "dispatched",
                self.dispatched.map(|(second, devices)| json!({ "second": second, "devices": devices })),
            ),
            ("forecast", self.expected.map(|expected| forecast(expected, self.forecast_error()))),
            ("endedTime", self.ended.map(time)),
        ])
    }

    /// From [`RolloutState::to_json`].
    pub fn from_json(value: &Value) -> Result<Self, RolloutError> {
        let known = [
            "phase",
            "since",
            "by",
            "reason",
            "stop",
            "askedBy",
            "waves",
            "dispatched",
            "forecast",
            "endedTime",
        ];
        let state = Reader::new("state", value, &known)?;
        let list = state.with("waves", Value::as_array, || "an array".into())?;
        let list = state.needed("waves", list, "an array")?;
        let waves = list.iter().enumerate().map(|(index, value)| read_wave(index, value));
        let dispatched = match state.object("dispatched", &["second", "devices"])? {
            None => None,
            Some(last) => {
                let second = last.with("second", Value::as_i64, || "a whole number".into())?;
                Some((last.needed("second", second, "a whole number")?, count(&last, "devices")?))
            }
        };
        let expected = match state.object("forecast", &["startTime", "expectedEndTime", "error"])? {
            None => None,
            Some(forecast) => Some(Expected {
                start: needed_time(&forecast, "startTime")?,
                end: optional_time(&forecast, "expectedEndTime")?,
            }),
        };
        let this = Self {
            asked_by: text(&state, "askedBy")?,
            phase: phase(&state)?,
            waves: waves.collect::<Result<_, _>>()?,
            dispatched,
            expected,
            ended: optional_time(&state, "endedTime")?,
        };
        let opened = this.opened().len();
        if this.waves[opened..].iter().any(|wave| wave.opened.is_some()) {
            return Err(state.error("waves", "were opened out of their order"));
        }
        Ok(this)
    }
}

fn time(at: Timestamp) -> Value {
    at.to_string().into()
}

/// The error follows from the others, and is there for people.
fn forecast(Expected { start, end }: Expected, error: Option<f64>) -> Value {
    let error = error.map(|error| (error * 1000.0).round() / 1000.0);
    object([
        ("startTime", Some(time(start))),
        ("expectedEndTime", end.map(time)),
        ("error", error.map(Value::from)),
    ])
}

fn stop(cause: &StopCause) -> Value {
    let StopCause { rule, wave, devices, of, limit } = cause;
    json!({ "rule": rule.as_str(), "wave": wave, "devices": devices, "of": of, "limit": limit })
}

fn tally(tally: &Tally) -> Value {
    let Tally { succeeded, failed, timed_out, rejected } = tally;
    json!({ "succeeded": succeeded, "failed": failed, "timedOut": timed_out, "rejected": rejected })
}

fn wave(wave: &WaveState) -> Value {
    let WaveState { pending, in_flight, retrying, ended, skipped, forgiven, opened, settled, approved } =
        wave;
    let number = |count: u64| Some(Value::from(count));
    object([
        ("targets", number(wave.targets())),
        ("pending", number(*pending)),
        ("inFlight", number(*in_flight)),
        ("retrying", number(*retrying)),
        ("succeeded", number(ended.succeeded)),
        ("failed", number(ended.failed)),
        ("timedOut", number(ended.timed_out)),
        ("rejected", number(ended.rejected)),
        ("skipped", number(*skipped)),
        ("forgiven", (*forgiven != Tally::default()).then(|| tally(forgiven))),
        ("openedTime", opened.map(time)),
        ("settledTime", settled.map(time)),
        ("approvedBy", approved.as_ref().map(|approved| approved.by.as_str().into())),
        ("approvedTime", approved.as_ref().map(|approved| time(approved.at))),
    ])
}

fn count(reader: &Reader<'_>, name: &str) -> Result<u64, RolloutError> {
    // Sums of a state's counts cannot overflow.
    let count = reader.whole(name, 0..=u64::from(u32::MAX))?;
    reader.needed(name, count, "a whole number")
}

fn text(reader: &Reader<'_>, name: &str) -> Result<String, RolloutError> {
    let text = reader.with(name, Value::as_str, || "a text".into())?;
    reader.needed(name, text, "a text").map(str::to_owned)
}

fn optional_time(reader: &Reader<'_>, name: &str) -> Result<Option<Timestamp>, RolloutError> {
    let read = |value: &Value| Timestamp::parse(value.as_str()?);
    reader.with(name, read, || "a time".into())
}

fn needed_time(reader: &Reader<'_>, name: &str) -> Result<Timestamp, RolloutError> {
    let time = optional_time(reader, name)?;
    reader.needed(name, time, "a time")
}

fn read_tally(reader: &Reader<'_>) -> Result<Tally, RolloutError> {
    Ok(Tally {
        succeeded: count(reader, "succeeded")?,
        failed: count(reader, "failed")?,
        timed_out: count(reader, "timedOut")?,
        rejected: count(reader, "rejected")?,
    })
}

fn read_wave(index: usize, value: &Value) -> Result<WaveState, RolloutError> {
    let reader = Reader::new(format!("state.waves[{index}]"), value, WAVE)?;
    let forgiven = reader.object("forgiven", &["succeeded", "failed", "timedOut", "rejected"])?;
    let approved = match reader.get("approvedBy") {
        None => None,
        Some(_) => {
            Some(Approved { by: text(&reader, "approvedBy")?, at: needed_time(&reader, "approvedTime")? })
        }
    };
    let wave = WaveState {
        pending: count(&reader, "pending")?,
        in_flight: count(&reader, "inFlight")?,
        retrying: count(&reader, "retrying")?,
        ended: read_tally(&reader)?,
        skipped: count(&reader, "skipped")?,
        forgiven: forgiven.as_ref().map(read_tally).transpose()?.unwrap_or_default(),
        opened: optional_time(&reader, "openedTime")?,
        settled: optional_time(&reader, "settledTime")?,
        approved,
    };
    if wave.ended.minus(wave.forgiven).plus(wave.forgiven) != wave.ended {
        return Err(reader.error("forgiven", "is more than was settled"));
    }
    if count(&reader, "targets")? != wave.targets() {
        return Err(reader.error("targets", format!("is not the sum of the others, {}", wave.targets())));
    }
    Ok(wave)
}

fn phase(state: &Reader<'_>) -> Result<Phase, RolloutError> {
    let by = || text(state, "by");
    let reason = || text(state, "reason");
    let name = text(state, "phase")?;
    Ok(match name.as_str() {
        "running" => Phase::Running,
        "observing" => Phase::Observing { since: needed_time(state, "since")? },
        "awaitingApproval" => Phase::AwaitingApproval { since: needed_time(state, "since")? },
        "paused" => Phase::Paused { by: by()?, reason: reason()? },
        "stopped" => {
            let cause = state.object("stop", &["rule", "wave", "devices", "of", "limit"])?;
            let cause = state.needed("stop", cause, "a rule and its numbers")?;
            let rule = cause.with("rule", |rule| StopRule::parse(rule.as_str()?), || "a rule".into())?;
            Phase::Stopped(StopCause {
                rule: cause.needed("rule", rule, "a rule")?,
                wave: count(&cause, "wave")? as usize,
                devices: count(&cause, "devices")?,
                of: count(&cause, "of")?,
                limit: count(&cause, "limit")?,
            })
        }
        "aborted" => Phase::Aborting { by: by()?, reason: reason()? },
        "rollingBack" => Phase::RollingBack { by: by()?, reason: reason()? },
        "done" => Phase::Done,
        _ => return Err(state.error("phase", format!("is '{name}'; expected the word for a phase"))),
    })
}
