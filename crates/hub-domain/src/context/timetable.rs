//! When the maintenance windows of devices open, without their other gates: for forecasts. Devices with the same window in
//! the same time zone share one timetable.

use jiff::tz::TimeZone;

use super::blackout::Blackouts;
use super::facts::Scene;
use super::gates::Gates;
use super::hub::HubContext;
use super::window::Window;
use crate::query::Row;
use crate::time::Timestamp;

/// Which timetable a device has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimetableKey {
    /// The name of a window of the hub, or none for the one that the gates themselves have.
    pub(super) window: Option<String>,
    /// The name of the time zone.
    pub(super) zone: String,
}

/// When a window is open in a time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Timetable {
    window: Window,
    zone: TimeZone,
    blackouts: Blackouts,
}

/// A window at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Open, until then at least.
    Open(Timestamp),
    /// Closed, and to be looked at then, if ever.
    Closed(Option<Timestamp>),
}

impl Timetable {
    /// The window at this time.
    pub fn at(&self, time: Timestamp) -> Opening {
        self.window.opening(&self.zone, &self.blackouts, time)
    }
}

impl Gates {
    /// The timetable of a device; `None` if no window holds it back, or nobody knows which.
    pub fn timetable_key(&self, row: &dyn Row, hub: &HubContext, now: Timestamp) -> Option<TimetableKey> {
        let window = self.window()?;
        let scene = Scene { row, paths: hub.facts(), now, age_max: window.policy().age_max() };
        window.timetable_key(&scene)
    }

    /// That timetable, if the hub has such a window and there is such a zone.
    pub fn timetable(&self, key: &TimetableKey, hub: &HubContext) -> Option<Timetable> {
        let window = match &key.window {
            Some(name) => hub.window(name),
            None => self.window()?.inline(),
        };
        let (window, zone) = (window?.clone(), TimeZone::get(&key.zone).ok()?);
        Some(Timetable { window, zone, blackouts: hub.blackouts().clone() })
    }
}
