//! Facts about a device: in which paths of its twin they are, what they are now, and how old.
//! Must never trust the device's clock: the age of a fact is counted from the hub's stamp on the property.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::members::{Members, shown};
use super::verdict::{Code, Gate, Reason, SeenFact};
use super::{ContextError, FACT_PATHS_MAX};
use crate::json::Object;
use crate::query::{Datum, Path, Root, Row};
use crate::time::Timestamp;

/// What gates look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// IANA name of the time zone: `"Europe/Berlin"`.
    TimeZone,
    /// Charge of the battery: 0 to 100.
    BatteryPercent,
    /// Whether it is on mains.
    OnMains,
    /// Whether the battery is being charged.
    Charging,
    /// `"ethernet"`, `"wifi"`, `"cellular"`, …
    NetworkKind,
    /// Whether traffic costs.
    NetworkMetered,
    /// Strength of the signal, in percent unless the hub's devices agree on another unit.
    NetworkSignal,
    /// Whether somebody uses it.
    InUse,
    /// A lease: in use until this moment, by the device's clock.
    InUseUntil,
    /// A lease: in use for so many seconds from the report on.
    InUseSeconds,
    /// Degrees east: -180 to 180.
    Longitude,
    /// Degrees north: -90 to 90.
    Latitude,
}

impl Fact {
    /// All of them, with name and default paths.
    const ALL: [(Fact, &'static str, &'static [&'static str]); 12] = [
        (Fact::TimeZone, "timeZone", &["properties.reported.context.timeZone", "tags.timeZone"]),
        (Fact::BatteryPercent, "batteryPercent", &["properties.reported.context.power.batteryPercent"]),
        (Fact::OnMains, "onMains", &["properties.reported.context.power.onMains"]),
        (Fact::Charging, "charging", &["properties.reported.context.power.charging"]),
        (Fact::NetworkKind, "networkKind", &["properties.reported.context.network.kind"]),
        (Fact::NetworkMetered, "networkMetered", &["properties.reported.context.network.metered"]),
        (Fact::NetworkSignal, "networkSignal", &["properties.reported.context.network.signal"]),
        (Fact::InUse, "inUse", &["properties.reported.context.inUse"]),
        (Fact::InUseUntil, "inUseUntil", &["properties.reported.context.inUseUntil"]),
        (Fact::InUseSeconds, "inUseSeconds", &["properties.reported.context.inUseSeconds"]),
        (Fact::Longitude, "longitude", &["properties.reported.context.place.longitude"]),
        (Fact::Latitude, "latitude", &["properties.reported.context.place.latitude"]),
    ];
}

/// Where the facts are: for each, the paths that are tried in order; the first that is there counts.
#[derive(Clone, Debug, PartialEq)]
pub struct FactPaths([Vec<FactPath>; Fact::ALL.len()]);

/// A path in a twin, and where the hub's stamp on it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FactPath {
    path: Path,
    stamp: Option<Path>,
}

impl Default for FactPaths {
    fn default() -> Self {
        let path = |text: &&str| FactPath::parse("facts", text).expect("the default paths are paths");
        Self(Fact::ALL.map(|(_, _, defaults)| defaults.iter().map(path).collect()))
    }
}

impl FactPaths {
    /// From an object with a path or a list of paths for each fact: `{"batteryPercent": "properties.reported.soc"}`.
    /// Facts that are not named stay where they are by default.
    pub(super) fn parse(at: &str, value: &Value) -> Result<Self, ContextError> {
        let members = Members::of(at, value, &Fact::ALL.map(|(_, name, _)| name))?;
        let mut found = Self::default();
        for (paths, (_, name, _)) in found.0.iter_mut().zip(Fact::ALL) {
            let text = |at: &str, value: &Value| match value.as_str() {
                Some(text) => FactPath::parse(at, text),
                None => Err(ContextError::new(at, format!("is {}; expected a path", shown(value)))),
            };
            match members.get(name) {
                None => {}
                Some(value) if value.is_array() => {
                    let list = members.list(name, FACT_PATHS_MAX)?.into_iter().flatten();
                    *paths = list.map(|(at, value)| text(&at, value)).collect::<Result<_, _>>()?;
                }
                Some(value) => *paths = vec![text(&members.place(name), value)?],
            }
        }
        Ok(found)
    }

    /// Every fact with its list of paths.
    pub fn to_json(&self) -> Value {
        let list = |paths: &Vec<FactPath>| paths.iter().map(|path| path.path.to_string()).collect();
        let members =
            self.0.iter().zip(Fact::ALL).map(|(paths, (_, name, _))| (name.to_owned(), list(paths)));
        Value::Object(members.collect::<Object>())
    }

    fn of(&self, fact: Fact) -> &[FactPath] {
        &self.0[fact as usize]
    }

    /// Adds the paths of these facts.
    pub(super) fn add_paths(&self, facts: &[Fact], paths: &mut BTreeSet<Path>) {
        paths.extend(facts.iter().flat_map(|fact| self.of(*fact)).map(|path| path.path.clone()));
    }
}

impl FactPath {
    /// A path into tags or reported properties.
    pub(super) fn parse(at: &str, text: &str) -> Result<Self, ContextError> {
        let wrong =
            |problem: String| ContextError::new(at, format!("'{text}' is no path of a fact: {problem}"));
        let path = Path::parse(text).map_err(|error| wrong(error.to_string()))?;
        let system = path.segments().first().is_none_or(|first| first.starts_with('$'));
        if system || !matches!(path.root(), Root::Tags | Root::Reported) {
            return Err(wrong("expected tags.NAME or properties.reported.NAME".into()));
        }
        Ok(Self::new(path))
    }

    pub(super) fn new(path: Path) -> Self {
        Self { stamp: path.last_updated(), path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// When it was reported; tags do not say.
    fn reported(&self, row: &dyn Row) -> Option<Timestamp> {
        match row.get(self.stamp.as_ref()?).into_value()? {
            Value::String(text) => Timestamp::parse(&text),
            _ => None,
        }
    }
}

/// What a gate sees: a twin at a time, with an age from which on facts count as unknown.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) row: &'a dyn Row,
    pub(super) paths: &'a FactPaths,
    pub(super) now: Timestamp,
    pub(super) age_max: Option<Duration>,
}

/// A fact as it is found: a value, or why there is none.
pub(super) struct Found<'a, T> {
    pub(super) value: Result<T, Code>,
    path: Option<&'a FactPath>,
    raw: Option<Value>,
    /// When it was reported, as far as that was looked at.
    pub(super) reported: Option<Timestamp>,
    /// When it will be too old.
    pub(super) expires: Option<Timestamp>,
}

impl<'a> Scene<'a> {
    /// A fact; `convert` refuses what makes no sense.
    pub(super) fn find<T>(&self, fact: Fact, convert: impl Fn(&Value) -> Option<T>) -> Found<'a, T> {
        self.find_at(self.paths.of(fact), convert)
    }

    /// The same at the first of `paths` where something is.
    pub(super) fn find_at<T>(
        &self,
        paths: &'a [FactPath],
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Found<'a, T> {
        let there = paths.iter().find_map(|path| match self.row.get(&path.path) {
            Datum::Undefined | Datum::Null => None,
            datum => datum.into_value().filter(|value| !value.is_null()).map(|value| (path, value)),
        });
        let Some((path, raw)) = there else {
            let (value, path) = (Err(Code::Missing), paths.first());
            return Found { value, path, raw: None, reported: None, expires: None };
        };
        let reported = self.age_max.and_then(|_| path.reported(self.row));
        let end = reported.zip(self.age_max).map(|(at, max)| at.plus(max));
        let (value, expires) = match end {
            Some(end) if end <= self.now => (Err(Code::TooOld), None),
            end => (convert(&raw).ok_or(Code::Unusable), end),
        };
        Found { value, path: Some(path), raw: Some(raw), reported, expires }
    }

    /// When a fact that was found was reported, even if its age does not matter.
    pub(super) fn reported<T>(&self, found: &Found<'a, T>) -> Option<Timestamp> {
        found.reported.or_else(|| found.path?.reported(self.row))
    }

    /// A fact as a reason shows it.
    pub(super) fn seen<T>(&self, found: &Found<'a, T>) -> SeenFact {
        let path = found.path.map(|path| path.path.to_string()).unwrap_or_default();
        let age = self.reported(found).map(|at| self.now.since(at));
        SeenFact::new(path, found.raw.clone(), age)
    }

    /// The path at a fact's place as a reason shows it, whatever is there.
    pub(super) fn seen_path(&self, path: &'a FactPath) -> SeenFact {
        let age = path.reported(self.row).map(|at| self.now.since(at));
        SeenFact::new(path.path.to_string(), self.row.get(&path.path).into_value(), age)
    }
}

/// What one gate says: reasons to wait, and when that changes by time alone at the earliest.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) reasons: Vec<Finding>,
    pub(super) change: Option<Timestamp>,
}

/// A reason, and when a fact that it stands on will be too old.
pub(super) struct Finding {
    pub(super) reason: Reason,
    pub(super) expires: Option<Timestamp>,
}

impl Findings {
    /// The verdict may change then.
    pub(super) fn changes(&mut self, at: Option<Timestamp>) {
        self.change = earlier(self.change, at);
    }

    /// A reason that stands on one fact, which is known or not. `ok` says whether a known value will do.
    pub(super) fn check<'a, T>(
        &mut self,
        scene: &Scene<'a>,
        gate: Gate,
        found: &Found<'a, T>,
        code: Code,
        wanted: impl FnOnce() -> Value,
        ok: impl FnOnce(&T) -> bool,
    ) {
        self.changes(found.expires);
        let code = match &found.value {
            Ok(value) if ok(value) => return,
            Ok(_) => code,
            Err(unknown) => *unknown,
        };
        let facts = vec![scene.seen(found)];
        self.push(Reason { gate, code, facts, wanted: wanted(), next: None }, found.expires);
    }

    pub(super) fn push(&mut self, reason: Reason, expires: Option<Timestamp>) {
        self.reasons.push(Finding { reason, expires });
    }
}

/// The earlier of two moments, of which either may never come.
pub(super) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// A moment as RFC 3339, or as whole seconds since 1970, which the documents of the device patterns use.
pub(super) fn moment(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => Timestamp::parse(text),
        value => value.as_i64().map(Timestamp::from_seconds),
    }
}

pub(super) fn flag(value: &Value) -> Option<bool> {
    value.as_bool()
}

/// A number within bounds.
pub(super) fn number(min: f64, max: f64) -> impl Fn(&Value) -> Option<f64> {
    move |value| value.as_f64().filter(|number| (min..=max).contains(number))
}
