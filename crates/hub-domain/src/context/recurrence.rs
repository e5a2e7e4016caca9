//! Recurrence rules (RFC 5545) as a sorted list of local dates and times, of which a span around the present is kept.
//!
//! Rules are expanded as if local time were UTC, so that neither they nor the kept list depend on a time zone: what a
//! local time is in a zone, with its gaps and folds, is the business of `window`. Must never work without a bound:
//! rules are at most hourly, and expanded over a span of known length that starts near the present.

use std::sync::{Arc, PoisonError, RwLock};

use chrono::TimeZone as _;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use rrule::{Frequency, RRule, RRuleSet, Tz};
use serde_json::Value;

use super::members::{Members, shown};
use super::{
    ContextError, RRULE_COUNT_MAX, RRULE_DAY_OCCURRENCES_MAX, RRULE_INTERVAL_MAX, RRULE_OCCURRENCES_MAX,
    RRULE_TEXT_CHARS_MAX, RRULE_YEAR_END, WINDOW_DURATION_MAX,
};

const DAY: i64 = 24 * 3600;
/// A span begins at a multiple of this and reaches over the next one, so that which span is looked at follows from the
/// time alone.
const BLOCK: i64 = 200 * DAY;
/// What a span reaches back: the longest window, and two days for time zones.
const BACK: i64 = WINDOW_DURATION_MAX.as_secs() as i64 + 2 * DAY;
/// A Monday that begins a year: a rule without a start counts from midnight then.
const DEFAULT_START: DateTime = DateTime::constant(1973, 1, 1, 0, 0, 0, 0);

/// A rule, and where it starts.
#[derive(Debug)]
pub(super) struct Recurrence {
    text: String,
    start: Option<DateTime>,
    until: Option<Until>,
    rule: RRule,
    first: i64,
    span: RwLock<Option<Arc<Span>>>,
}

/// Where a rule ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Until {
    /// In local time, in seconds as if it were UTC, inclusive.
    Local(i64),
    /// At a moment, in seconds since 1970, inclusive.
    Moment(i64),
}

/// Occurrences around some time.
#[derive(Debug)]
pub(super) struct Span {
    block: i64,
    /// Local times in order, each once, in seconds as if they were UTC.
    pub(super) occurrences: Vec<i64>,
    /// Whether the rule has none after these.
    pub(super) ended: bool,
}

impl Clone for Recurrence {
    fn clone(&self) -> Self {
        let span = self.span.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (text, rule) = (self.text.clone(), self.rule.clone());
        Self { text, start: self.start, until: self.until, rule, first: self.first, span: RwLock::new(span) }
    }
}

impl PartialEq for Recurrence {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.start) == (&other.text, other.start)
    }
}

impl Recurrence {
    /// From the members `rrule` and `start`.
    pub(super) fn parse(members: &Members<'_>) -> Result<Self, ContextError> {
        let text = members.text("rrule", RRULE_TEXT_CHARS_MAX)?;
        let text = members.required("rrule", text, "a rule such as FREQ=DAILY;BYHOUR=2")?;
        let start = members.get("start").map(|value| parse_start(members, value)).transpose()?;
        let wrong = |problem: String| members.wrong("rrule", problem);
        let (parts, until) = split(text).map_err(wrong)?;
        let rule: RRule<_> = parts.parse().map_err(|error| wrong(format!("is not a rule: {error}")))?;
        let first = civil_seconds(start.unwrap_or(DEFAULT_START));
        let rule = rule.validate(utc(first)).map_err(|error| wrong(format!("is not a rule: {error}")))?;
        check_bounds(&rule, start.is_some()).map_err(wrong)?;
        let text = text.to_owned();
        let found = Self { text, start, until, rule, first, span: RwLock::new(None) };
        // A local time is at most two days from the same time in UTC.
        let ends = until.map_or(i64::MAX, |until| match until {
            Until::Local(seconds) => seconds,
            Until::Moment(seconds) => seconds.saturating_add(2 * DAY),
        });
        if found.expand(found.first).occurrences.first().is_none_or(|first| *first > ends) {
            return Err(wrong("never opens: no date fits all of its parts".into()));
        }
        Ok(found)
    }

    /// The members `rrule` and `start`.
    pub(super) fn members(&self) -> impl Iterator<Item = (String, Value)> {
        let start = self.start.map(|start| ("start".to_owned(), start.to_string().into()));
        [("rrule".to_owned(), self.text.as_str().into())].into_iter().chain(start)
    }

    /// Where it ends.
    pub(super) fn until(&self) -> Option<Until> {
        self.until
    }

    /// The occurrences from [`BACK`] before `seconds` until a good while after it, and at least one after that if there
    /// is any. The same for the same time, whatever was asked for before.
    pub(super) fn around(&self, seconds: i64) -> Arc<Span> {
        let block = seconds.div_euclid(BLOCK);
        let kept = self.span.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(span) = kept.filter(|span| span.block == block) {
            return span;
        }
        let span = Arc::new(self.expand(seconds));
        *self.span.write().unwrap_or_else(PoisonError::into_inner) = Some(span.clone());
        span
    }

    fn expand(&self, seconds: i64) -> Span {
        let block = seconds.div_euclid(BLOCK);
        let from = block.saturating_mul(BLOCK).saturating_sub(BACK);
        let to = block.saturating_add(2).saturating_mul(BLOCK);
        let end = end();
        let mut span = Span { block, occurrences: Vec::new(), ended: true };
        let set = RRuleSet::new(utc(self.start_before(from.min(end)))).rrule(self.rule.clone()).limit();
        for at in &set {
            let at = at.timestamp();
            if at < from.max(self.first) {
                continue;
            }
            if at >= end || matches!(self.until, Some(Until::Local(until)) if at > until) {
                break;
            }
            if span.occurrences.last().is_none_or(|last| *last < at) {
                span.occurrences.push(at);
            }
            if at >= to || span.occurrences.len() >= RRULE_OCCURRENCES_MAX {
                span.ended = false;
                break;
            }
        }
        span
    }

    /// A start before `seconds` from which the rule counts the same: whole intervals after its own. A rule with COUNT
    /// is always counted from its own.
    fn start_before(&self, seconds: i64) -> i64 {
        let interval = i64::from(self.rule.get_interval());
        let whole = |unit: i64| {
            let step = unit * interval;
            self.first + (seconds - self.first).max(0) / step * step
        };
        let months = |length: i64| {
            let (first, wanted) = (civil(self.first).date(), civil(seconds.max(self.first)).date());
            let apart = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month()) - 1;
            let step = length * interval;
            let moved = (apart(wanted) - apart(first)) / step * step;
            if moved == 0 {
                return self.first;
            }
            let month = apart(first) + moved;
            let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
            let date = i16::try_from(year).ok().zip(i8::try_from(month).ok());
            let date = date.and_then(|(year, month)| Date::new(year, month, 1).ok());
            // The parts that the rule left to its start were filled in from it, so that the day does not matter.
            date.map_or(self.first, |date| civil_seconds(date.at(0, 0, 0, 0)))
        };
        match self.rule.get_freq() {
            _ if self.rule.get_count().is_some() => self.first,
            Frequency::Yearly => months(12),
            Frequency::Monthly => months(1),
            Frequency::Weekly => whole(7 * DAY),
            Frequency::Daily => whole(DAY),
            Frequency::Hourly | Frequency::Minutely | Frequency::Secondly => whole(3600),
        }
    }
}

/// The rule without UNTIL, which has a meaning of its own here, and what UNTIL says.
fn split(text: &str) -> Result<(String, Option<Until>), String> {
    let bare = text.strip_prefix("RRULE:").unwrap_or(text);
    let (mut parts, mut until): (Vec<&str>, _) = (Vec::new(), None);
    for part in bare.split(';') {
        let Some((name, value)) = part.split_once('=') else {
            return Err(format!("has the part '{part}'; expected NAME=VALUE, as in FREQ=DAILY;BYHOUR=2"));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || ",+-".contains(c);
        if let Some(other) = name.chars().chain(value.chars()).find(|c| !plain(*c)) {
            return Err(format!("has {other:?} in it; expected one rule such as FREQ=DAILY;BYHOUR=2"));
        }
        match name.eq_ignore_ascii_case("UNTIL") {
            true if until.is_some() => return Err("has UNTIL twice".into()),
            true => until = Some(parse_until(value)?),
            false => parts.push(part),
        }
    }
    Ok((parts.join(";"), until))
}

fn parse_until(value: &str) -> Result<Until, String> {
    let at = value.strip_suffix(['Z', 'z']).unwrap_or(value);
    let local = match (at.len(), at.parse::<Date>(), at.parse::<DateTime>()) {
        (8, Ok(date), _) => Some(date.at(23, 59, 59, 0)),
        (15, _, Ok(at)) => Some(at),
        _ => None,
    };
    let local = local.ok_or_else(|| {
        format!("has UNTIL={value}; expected a date (20261231), a local time (20261231T235959) or one in UTC with Z")
    })?;
    let seconds = civil_seconds(local);
    Ok(if at.len() < value.len() { Until::Moment(seconds) } else { Until::Local(seconds) })
}

fn parse_start(members: &Members<'_>, value: &Value) -> Result<DateTime, ContextError> {
    let start = value.as_str().filter(|text| !text.ends_with(['Z', 'z']) && !text.contains('['));
    let start = start.and_then(|text| text.parse::<DateTime>().ok());
    let within = |start: &DateTime| (1970..=2100).contains(&start.year()) && start.subsec_nanosecond() == 0;
    start.filter(within).ok_or_else(|| {
        let expected = "a local time without a zone from 1970 to 2100, such as 2026-01-05T02:00:00";
        members.wrong("start", format!("is {}; expected {expected}", shown(value)))
    })
}

fn check_bounds(rule: &RRule, has_start: bool) -> Result<(), String> {
    let (interval, count) = (rule.get_interval(), rule.get_count());
    if matches!(rule.get_freq(), Frequency::Minutely | Frequency::Secondly) {
        return Err("is more than hourly; expected FREQ=HOURLY, DAILY, WEEKLY, MONTHLY or YEARLY".into());
    }
    if !(1..=RRULE_INTERVAL_MAX).contains(&interval) {
        return Err(format!("has INTERVAL={interval}; expected 1 to {RRULE_INTERVAL_MAX}"));
    }
    if let Some(count) = count.filter(|count| !(1..=RRULE_COUNT_MAX).contains(count)) {
        return Err(format!("has COUNT={count}; expected 1 to {RRULE_COUNT_MAX}"));
    }
    if !has_start && (interval > 1 || count.is_some()) {
        return Err("has INTERVAL or COUNT, which count from a start; expected a member 'start' too".into());
    }
    let hours = match rule.get_by_hour() {
        [] => 24,
        hours => hours.len(),
    };
    let each = |parts: &[u8]| parts.len().max(1);
    let a_day = hours * each(rule.get_by_minute()) * each(rule.get_by_second());
    if a_day > RRULE_DAY_OCCURRENCES_MAX {
        let problem =
            format!("has {a_day} occurrences on a day, at most {RRULE_DAY_OCCURRENCES_MAX} are allowed");
        return Err(format!("{problem}; a longer duration needs fewer"));
    }
    Ok(())
}

fn utc(seconds: i64) -> chrono::DateTime<Tz> {
    Tz::UTC.timestamp_opt(seconds, 0).single().expect("starts are checked, and spans end with RRULE_YEAR_END")
}

/// No rule has occurrences from here on, in seconds since 1970.
pub(super) fn end() -> i64 {
    civil_seconds(DateTime::constant(RRULE_YEAR_END, 1, 1, 0, 0, 0, 0))
}

/// A local time as if it were UTC.
pub(super) fn civil(seconds: i64) -> DateTime {
    let moment = jiff::Timestamp::from_second(seconds);
    let bound = if seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    Offset::UTC.to_datetime(moment.unwrap_or(bound))
}

fn civil_seconds(local: DateTime) -> i64 {
    Offset::UTC.to_timestamp(local).map_or(i64::MAX / 4, |moment| moment.as_second())
}
