//! Context gates: whether a device can bear an action now, why not, and when time alone could change that.
//!
//! [`Gates`] is what an action asks for, [`HubContext`] what the hub knows for all of them (where devices report facts,
//! named windows and places, black-out dates), [`Verdict`] the answer for one device. Must never look at a clock, and
//! never do unbounded work, whatever a rule or a twin holds. For users: `docs/context.md`.
//!
//! Read in this order: `gates`, `verdict`, `facts`, `hub`, then each gate: `window` (over `recurrence`, `blackout`),
//! `device` (power, network, in use), `place` (over `shape`), `condition`; `timetable` is windows alone; `overriding` is what people say of them, `deferral`
//! what the device itself answers.

mod blackout;
mod condition;
mod deferral;
mod device;
mod facts;
mod gates;
mod hub;
mod members;
mod overriding;
mod place;
mod recurrence;
mod shape;
#[cfg(test)]
mod tests;
mod timetable;
mod verdict;
mod window;

use std::fmt;
use std::time::Duration;

pub use deferral::Deferral;
pub use facts::FactPaths;
pub use gates::Gates;
pub use hub::HubContext;
pub use overriding::GatesOverride;
pub use timetable::{Opening, Timetable, TimetableKey};
pub use verdict::{Code, Gate, Reason, SeenFact, Verdict};

/// Longest recurrence rule, in characters.
pub const RRULE_TEXT_CHARS_MAX: usize = 512;
/// Most occurrences of a rule on one day: once an hour.
pub const RRULE_DAY_OCCURRENCES_MAX: usize = 24;
/// Largest INTERVAL of a rule.
pub const RRULE_INTERVAL_MAX: u16 = 1000;
/// Largest COUNT of a rule; such a rule is always counted from its start.
pub const RRULE_COUNT_MAX: u32 = 1000;
/// Occurrences kept of one rule at a time; the span that is looked at has fewer.
pub const RRULE_OCCURRENCES_MAX: usize = 20_000;
/// From this year on no rule has occurrences.
pub const RRULE_YEAR_END: i16 = 2200;
/// Shortest window.
pub const WINDOW_DURATION_MIN: Duration = Duration::from_secs(60);
/// Longest window.
pub const WINDOW_DURATION_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
/// Openings and black-outs looked at for one window in one evaluation.
pub const WINDOW_STEPS_MAX: usize = 64;
/// Named windows of a hub.
pub const WINDOWS_MAX: usize = 1000;
/// Ranges in one list of black-out dates.
pub const BLACKOUTS_MAX: usize = 1000;
/// Named places of a hub.
pub const PLACES_MAX: usize = 1000;
/// Shapes in one list of a place gate.
pub const PLACE_SHAPES_MAX: usize = 100;
/// Points of one polygon, all rings together.
pub const POLYGON_POINTS_MAX: usize = 1000;
/// Radius of a circle, in metres: a quarter of the way around the Earth.
pub const CIRCLE_RADIUS_METRES_MAX: f64 = 10_000_000.0;
/// Name of a window or place, in characters.
pub const CONTEXT_NAME_CHARS_MAX: usize = 128;
/// Reason of an override or deferral, in characters.
pub const CONTEXT_REASON_CHARS_MAX: usize = 512;
/// Network kinds in one gate.
pub const NETWORK_KINDS_MAX: usize = 32;
/// Paths that one fact is looked for at.
pub const FACT_PATHS_MAX: usize = 8;
/// Longest age that a fact may be given.
pub const FACT_AGE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// How far ahead of its report a lease may end; a later end is a clock that is off, and unknown.
pub const LEASE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far before its report a lease may have ended; an earlier end is a clock that is off, and unknown.
pub const LEASE_PAST_MAX: Duration = Duration::from_secs(24 * 3600);
/// How far ahead a device may put an action off.
pub const DEFERRAL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shortest deferral, so that a device that always says "now" is not asked without end.
pub const DEFERRAL_MIN: Duration = Duration::from_secs(1);
/// Deferral of a device that does not say until when.
pub const DEFERRAL_DEFAULT: Duration = Duration::from_secs(60);

/// Why a document is no context or no gates: where, what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextError {
    /// The member, such as `gates.window.rrule`.
    pub path: String,
    /// What is wrong there, and what would be right.
    pub problem: String,
}

impl ContextError {
    fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl std::error::Error for ContextError {}
