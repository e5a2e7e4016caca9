//! The maintenance window: when it is open in the device's own time zone, and when that changes.
//!
//! A local time that a change to summer time skips is taken with the offset before the gap; one that occurs twice is the
//! first (RFC 5545, 3.3.5). Durations are elapsed time. Must never look at more than `WINDOW_STEPS_MAX` openings.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::blackout::{Blackout, Blackouts};
use super::facts::{Fact, FactPath, FactPaths, Findings, Found, Scene};
use super::gates::Policy;
use super::hub::HubContext;
use super::members::{Members, shown};
use super::recurrence::{Recurrence, Span, Until, civil, end};
use super::timetable::{Opening, TimetableKey};
use super::verdict::{Code, Gate, Reason, SeenFact};
use super::{
    CONTEXT_NAME_CHARS_MAX, ContextError, WINDOW_DURATION_MAX, WINDOW_DURATION_MIN, WINDOW_STEPS_MAX,
};
use crate::json::Object;
use crate::query::Path;
use crate::time::Timestamp;

/// The members of a window.
const MEMBERS: [&str; 4] = ["rrule", "start", "durationInSeconds", "blackouts"];
/// Local times further from a local time than this are before or after it in every zone: clocks change by up to a day.
const FAR: i64 = 25 * 3600;
/// How many windows that follow one another without a gap are looked at to tell when they close. Telling it too early
/// does no harm.
const ADJACENT_MAX: usize = 8;

/// A recurring span of time, less black-out dates.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    recurrence: Recurrence,
    duration: i64,
    blackouts: Blackouts,
}

/// Which window a gate waits for.
#[derive(Clone, Debug, PartialEq)]
enum Choice {
    Named(String),
    FromTag(FactPath),
    Inline(Box<Window>),
}

/// The gate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WindowGate {
    choice: Choice,
    policy: Policy,
}

/// A window in a zone at a time, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Open until then at least.
    Open(i64),
    Closed {
        opens: Option<i64>,
        /// When to look again: if it opens, or a black-out begins or ends; never if it opens no more.
        change: Option<i64>,
        blackout: Option<Blackout>,
    },
}

/// What decides over a window in one zone.
struct Calendar<'a> {
    zone: &'a TimeZone,
    span: Arc<Span>,
    duration: i64,
    until: i64,
    blackouts: [&'a Blackouts; 2],
}

impl Window {
    /// From `{"rrule", "start", "durationInSeconds", "blackouts"}`.
    pub(super) fn parse(at: &str, value: &Value) -> Result<Self, ContextError> {
        Self::of(&Members::of(at, value, &MEMBERS)?)
    }

    fn of(members: &Members<'_>) -> Result<Self, ContextError> {
        let recurrence = Recurrence::parse(members)?;
        let duration = members.seconds("durationInSeconds", WINDOW_DURATION_MIN, WINDOW_DURATION_MAX)?;
        let duration = members.required("durationInSeconds", duration, "how long it is open")?;
        let duration = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Ok(Self { recurrence, duration, blackouts: Blackouts::parse(members)? })
    }

    /// The document.
    pub(super) fn to_json(&self) -> Object {
        let duration = ("durationInSeconds".to_owned(), self.duration.into());
        self.recurrence.members().chain([duration]).chain(self.blackouts.member()).collect()
    }

    /// Whether it is open in a zone at a time, and until when that stays so.
    pub(super) fn opening(&self, zone: &TimeZone, blackouts: &Blackouts, time: Timestamp) -> Opening {
        match self.state(zone, blackouts, time.seconds().clamp(0, end())) {
            State::Open(until) => Opening::Open(Timestamp::from_seconds(until)),
            State::Closed { opens, change, .. } => {
                Opening::Closed(opens.or(change).map(Timestamp::from_seconds))
            }
        }
    }

    fn state(&self, zone: &TimeZone, blackouts: &Blackouts, now: i64) -> State {
        let until = match self.recurrence.until() {
            Some(Until::Moment(until)) => until,
            Some(Until::Local(_)) | None => i64::MAX,
        };
        let (span, duration) = (self.recurrence.around(now), self.duration);
        Calendar { zone, span, duration, until, blackouts: [&self.blackouts, blackouts] }.state(now)
    }
}

impl Calendar<'_> {
    fn state(&self, now: i64) -> State {
        let blackout = self.blackout(now);
        let begins = self.blackouts.iter().filter_map(|dates| dates.next(self.zone, now));
        let begins = begins.map(|next| next.from).filter(|from| *from > now).min();
        let (before, _) = self.starts(now);
        let Some(mut closes) =
            before.map(|start| start + self.duration).filter(|closes| blackout.is_none() && *closes > now)
        else {
            let (opens, look_again) = self.opening(blackout.map_or(now, |blackout| blackout.to));
            let turns = blackout.map(|blackout| blackout.to).or(begins);
            let change = opens.or(look_again).map(|at| turns.map_or(at, |turns| turns.min(at)));
            return State::Closed { opens, change, blackout };
        };
        for _ in 0..ADJACENT_MAX {
            let next = self.starts(closes).0.map_or(closes, |start| start + self.duration);
            if next <= closes {
                break;
            }
            closes = next;
        }
        State::Open(begins.map_or(closes, |begins| begins.min(closes)))
    }

    /// The first moment from `time` on at which it is open; or else the moment before which it surely is not.
    fn opening(&self, mut time: i64) -> (Option<i64>, Option<i64>) {
        for _ in 0..WINDOW_STEPS_MAX {
            let (before, after) = self.starts(time);
            let covered = before.is_some_and(|start| start + self.duration > time);
            let Some(candidate) = covered.then_some(time).or(after) else {
                return (None, (!self.is_over()).then_some(time));
            };
            match self.blackout(candidate) {
                Some(blackout) => time = blackout.to,
                None => return (Some(candidate), None),
            }
        }
        (None, Some(time))
    }

    /// Whether there are no starts but those of the span.
    fn is_over(&self) -> bool {
        let last = self.span.occurrences.last().map(|at| moment(self.zone, civil(*at)));
        self.span.ended || last.is_some_and(|last| last > self.until)
    }

    /// The black-out that `time` is in; of several the one that ends last.
    fn blackout(&self, time: i64) -> Option<Blackout> {
        let next = self.blackouts.iter().filter_map(|dates| dates.next(self.zone, time));
        next.filter(|blackout| blackout.from <= time).max_by_key(|blackout| blackout.to)
    }

    /// The last start until `time`, and the first after it.
    fn starts(&self, time: i64) -> (Option<i64>, Option<i64>) {
        if time > self.until {
            return (self.starts(self.until).0, None);
        }
        let all = &self.span.occurrences;
        let ahead = offset(self.zone, time);
        let local = time + ahead;
        let near = all.partition_point(|at| *at < local - FAR);
        let far = all.partition_point(|at| *at <= local + FAR);
        let exact = |at: &i64| moment(self.zone, civil(*at));
        // Most days have no change of the clock near them, and then subtracting does.
        let is_calm = [time - 2 * FAR, time + 2 * FAR].iter().all(|then| offset(self.zone, *then) == ahead);
        let moment = |at: &i64| if is_calm { *at - ahead } else { exact(at) };
        let (mut before, mut after) = (None, None);
        for start in all[near..far].iter().map(moment).filter(|start| *start <= self.until) {
            match start <= time {
                true => before = before.max(Some(start)),
                false => after = Some(after.map_or(start, |found: i64| found.min(start))),
            }
        }
        let before = before.or_else(|| all[..near].last().map(exact));
        let after = after.or_else(|| all[far..].first().map(exact));
        (before, after.filter(|start| *start <= self.until))
    }
}

/// The moment of a local time, in seconds since 1970.
pub(super) fn moment(zone: &TimeZone, local: DateTime) -> i64 {
    // Only years that nobody plans for have no moment.
    zone.to_timestamp(local).map_or(i64::MAX / 4, |moment| moment.as_second())
}

/// What local time is ahead of UTC at a moment, in seconds.
fn offset(zone: &TimeZone, seconds: i64) -> i64 {
    jiff::Timestamp::from_second(seconds).map_or(0, |moment| zone.to_offset(moment).seconds().into())
}

impl WindowGate {
    pub(super) fn parse(at: &str, value: &Value) -> Result<Self, ContextError> {
        let choices = ["named", "fromTag"];
        let known: Vec<&str> = choices.into_iter().chain(MEMBERS).chain(Policy::MEMBERS).collect();
        let members = Members::of(at, value, &known)?;
        let policy = Policy::parse(&members)?;
        let inline = MEMBERS.iter().any(|name| members.get(name).is_some());
        let choice = match (members.get("named"), members.get("fromTag"), inline) {
            (Some(_), None, false) => {
                let name = members.text("named", CONTEXT_NAME_CHARS_MAX)?.unwrap_or_default();
                Choice::Named(name.to_owned())
            }
            (None, Some(path), false) => {
                let place = members.place("fromTag");
                let text = path.as_str().ok_or_else(|| {
                    ContextError::new(
                        place.as_str(),
                        format!("is {}; expected a path such as tags.window", shown(path)),
                    )
                })?;
                Choice::FromTag(FactPath::parse(&place, text)?)
            }
            (None, None, true) => Choice::Inline(Box::new(Window::of(&members)?)),
            _ => {
                let problem = "needs exactly one of named, fromTag, or rrule with durationInSeconds";
                return Err(members.error(problem));
            }
        };
        Ok(Self { choice, policy })
    }

    pub(super) fn to_json(&self) -> Object {
        let mut object = self.choice();
        self.policy.print(&mut object);
        object
    }

    fn choice(&self) -> Object {
        let one = |name: &str, value: String| Object::from_iter([(name.to_owned(), Value::from(value))]);
        match &self.choice {
            Choice::Named(name) => one("named", name.clone()),
            Choice::FromTag(path) => one("fromTag", path.path().to_string()),
            Choice::Inline(window) => window.to_json(),
        }
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    /// The window that is the gate's own.
    pub(super) fn inline(&self) -> Option<&Window> {
        match &self.choice {
            Choice::Inline(window) => Some(window),
            Choice::Named(_) | Choice::FromTag(_) => None,
        }
    }

    /// Which window a device has in which zone, if that is known.
    pub(super) fn timetable_key(&self, scene: &Scene<'_>) -> Option<TimetableKey> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let window = match &self.choice {
            Choice::Inline(_) => None,
            Choice::Named(name) => Some(name.clone()),
            Choice::FromTag(path) => Some(scene.find_at(std::slice::from_ref(path), text).value.ok()?),
        };
        Some(TimetableKey { window, zone: scene.find(Fact::TimeZone, text).value.ok()? })
    }

    pub(super) fn add_paths(&self, facts: &FactPaths, paths: &mut BTreeSet<Path>) {
        facts.add_paths(&[Fact::TimeZone], paths);
        if let Choice::FromTag(path) = &self.choice {
            paths.insert(path.path().clone());
        }
    }

    pub(super) fn judge(&self, scene: &Scene<'_>, hub: &HubContext) -> Findings {
        let mut findings = Findings::default();
        let wanted = || Value::Object(self.choice());
        let unknown = |code, facts| Reason { gate: Gate::Window, code, facts, wanted: wanted(), next: None };
        let mut facts: Vec<SeenFact> = Vec::new();
        let (mut chosen, mut expires) = (None, None);
        let window = match &self.choice {
            Choice::Inline(window) => Some(&**window),
            Choice::Named(name) => hub.window(name),
            Choice::FromTag(path) => {
                let found =
                    scene.find_at(std::slice::from_ref(path), |value| value.as_str().map(str::to_owned));
                findings.changes(found.expires);
                expires = found.expires;
                if let Err(code) = found.value {
                    findings.push(unknown(code, vec![scene.seen(&found)]), found.expires);
                    return findings;
                }
                let window = found.value.as_ref().ok().and_then(|name| hub.window(name));
                chosen = Some(found);
                window
            }
        };
        let show_choice =
            |facts: &mut Vec<SeenFact>| facts.extend(chosen.iter().map(|found| scene.seen(found)));
        let Some(window) = window else {
            show_choice(&mut facts);
            findings.push(unknown(Code::NotDefined, facts), expires);
            return findings;
        };
        let found: Found<'_, TimeZone> = scene.find(Fact::TimeZone, zone);
        findings.changes(found.expires);
        let expires = super::facts::earlier(expires, found.expires);
        let state = match &found.value {
            Ok(zone) => window.state(zone, hub.blackouts(), scene.now.seconds().clamp(0, end())),
            Err(code) => {
                findings.push(unknown(*code, vec![scene.seen(&found)]), expires);
                return findings;
            }
        };
        match state {
            State::Open(until) => findings.changes(Some(Timestamp::from_seconds(until))),
            State::Closed { opens, change, blackout } => {
                let next = opens.map(Timestamp::from_seconds);
                findings.changes(change.map(Timestamp::from_seconds));
                facts.push(scene.seen(&found));
                show_choice(&mut facts);
                let code = match (blackout, change) {
                    (_, None) => Code::NeverOpens,
                    (Some(_), _) => Code::Blackout,
                    (None, _) => Code::OutsideWindow,
                };
                if let Some(Blackout { dates: (from, to), .. }) = blackout {
                    let dates = json!({ "from": from.to_string(), "to": to.to_string() });
                    facts.push(SeenFact::new("blackouts".into(), Some(dates), None));
                }
                findings.push(Reason { gate: Gate::Window, code, facts, wanted: wanted(), next }, expires);
            }
        }
        findings
    }
}

/// The zone of that name in the database that is part of the program.
fn zone(value: &Value) -> Option<TimeZone> {
    TimeZone::get(value.as_str()?).ok().filter(|zone| !zone.is_unknown())
}
