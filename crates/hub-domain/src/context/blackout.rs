//! Black-out dates: whole local days on which no window opens.
//! Must never compare dates where moments are meant: a local day begins and ends when the device's zone says so.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::members::{Members, shown};
use super::window::moment;
use super::{BLACKOUTS_MAX, ContextError};

/// Ranges of dates, both ends inclusive, in order and apart from one another.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Blackouts(Vec<(Date, Date)>);

/// One range in a time zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Blackout {
    /// The first and the last date.
    pub(super) dates: (Date, Date),
    /// When it begins, in seconds since 1970.
    pub(super) from: i64,
    /// When it is over.
    pub(super) to: i64,
}

impl Blackouts {
    /// From the member `blackouts`: a list of dates (`"2026-12-24"`) and ranges (`{"from": …, "to": …}`).
    pub(super) fn parse(members: &Members<'_>) -> Result<Self, ContextError> {
        let mut ranges = Vec::new();
        for (at, value) in members.list("blackouts", BLACKOUTS_MAX)?.into_iter().flatten() {
            if value.is_string() {
                let date = date(&at, value)?;
                ranges.push((date, date));
                continue;
            }
            let range = Members::of(at, value, &["from", "to"])?;
            let end = |name: &str| {
                let value = range.required(name, range.get(name), "a date such as 2026-12-24")?;
                date(&range.place(name), value)
            };
            let (from, to) = (end("from")?, end("to")?);
            if from > to {
                return Err(range.error(format!("ends on {to} before it begins on {from}; swap them")));
            }
            ranges.push((from, to));
        }
        ranges.sort_unstable();
        let mut apart: Vec<(Date, Date)> = Vec::new();
        for (from, to) in ranges {
            match apart.last_mut() {
                Some((_, last)) if last.tomorrow().is_ok_and(|next| from <= next) => *last = to.max(*last),
                _ => apart.push((from, to)),
            }
        }
        Ok(Self(apart))
    }

    /// The member `blackouts`, unless there are none.
    pub(super) fn member(&self) -> Option<(String, Value)> {
        let range = |(from, to): &(Date, Date)| match from == to {
            true => Value::from(from.to_string()),
            false => json!({ "from": from.to_string(), "to": to.to_string() }),
        };
        (!self.0.is_empty()).then(|| ("blackouts".into(), self.0.iter().map(range).collect()))
    }

    /// The first one in this zone that is not over at `seconds`.
    pub(super) fn next(&self, zone: &TimeZone, seconds: i64) -> Option<Blackout> {
        if self.0.is_empty() {
            return None;
        }
        // Two days before cover every zone; what is over by then is over everywhere.
        let safe = super::recurrence::civil(seconds.saturating_sub(2 * 24 * 3600)).date();
        let near = self.0.partition_point(|(_, to)| *to < safe);
        self.0[near..].iter().map(|range| Blackout::new(*range, zone)).find(|range| range.to > seconds)
    }
}

impl Blackout {
    fn new((first, last): (Date, Date), zone: &TimeZone) -> Self {
        let begin = |date: Date| moment(zone, date.at(0, 0, 0, 0));
        let to = last.tomorrow().map_or(i64::MAX, begin);
        Self { dates: (first, last), from: begin(first), to }
    }
}

fn date(at: &str, value: &Value) -> Result<Date, ContextError> {
    let text = value.as_str().filter(|text| text.len() == 10);
    let date = text.and_then(|text| text.parse::<Date>().ok()).filter(|date| date.year() >= 1970);
    date.ok_or_else(|| {
        let problem = format!("is {}; expected a date such as \"2026-12-24\", or from and to", shown(value));
        ContextError::new(at, problem)
    })
}
