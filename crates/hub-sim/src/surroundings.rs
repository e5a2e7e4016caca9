//! What a simulated device finds around it: power, a network, a place, and people who use it. All of it is a pure function of
//! a seed, the device's name and the time since its fleet began, so that a fleet lives the same life every time. Must never
//! draw from anything else.

use std::f64::consts::TAU;
use std::time::Duration;

use serde_json::{Value, json};

/// A percent of charge is gained, and lost, in this time.
const CHARGE_STEP: Duration = Duration::from_secs(2);
const DRAIN_STEP: Duration = Duration::from_secs(4);
/// Where a battery is connected again, in percent.
const DRAINED_PERCENT: u64 = 10;
/// How long a network stays as it is.
const NETWORK_STEP: Duration = Duration::from_secs(10);
/// How often a device that moves knows where it is, and how long it takes for its round.
const PLACE_STEP: Duration = Duration::from_secs(10);
const ROUND: Duration = Duration::from_secs(600);
/// Towns that devices are in: longitude and latitude.
const TOWNS: [(f64, f64); 4] = [(13.40, 52.52), (139.69, 35.69), (-46.63, -23.55), (36.82, -1.29)];
/// The least and the most time from one use to the next, and which share of it a use takes, in percent.
const USE_PERIOD_SECONDS: (u64, u64) = (20, 60);
const USE_PERCENT: u64 = 30;

/// Something that surrounds a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Mains, or a battery that is drained and charged.
    Power,
    /// Ethernet, Wi-Fi or cellular, which is metered; with a signal that comes and goes.
    Network,
    /// A town; some devices drive around it, some have lost their position and do not report it again.
    Place,
    /// Somebody who uses it every now and then.
    Use,
}

impl Model {
    /// All of them.
    pub const ALL: [Model; 4] = [Model::Power, Model::Network, Model::Place, Model::Use];

    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Model::Power => "power",
            Model::Network => "network",
            Model::Place => "place",
            Model::Use => "use",
        }
    }

    /// From the word on the command line.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|model| model.as_str() == text)
    }
}

/// The surroundings of one device.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    seed: u64,
    models: Vec<Model>,
    battery: Option<u8>,
}

/// What a device finds at one moment; nothing where it has no such model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Power.
    pub power: Option<Power>,
    /// Network.
    pub network: Option<Network>,
    /// Longitude and latitude.
    pub place: Option<(f64, f64)>,
    /// Whether somebody uses it.
    pub in_use: Option<bool>,
}

/// How a device is powered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Power {
    /// The charge, if there is a battery.
    pub battery_percent: Option<u64>,
    /// Whether it is being charged.
    pub charging: bool,
}

/// How a device reaches its hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The word that it reports.
    pub kind: &'static str,
    /// Whether each byte costs.
    pub metered: bool,
    /// In percent.
    pub signal: u64,
}

impl Surroundings {
    /// Surroundings for a device of a fleet; `models` are what there is of them.
    pub fn new(seed: u64, device: &str, models: &[Model]) -> Self {
        let seed = device.bytes().fold(mix(seed), |seed, byte| mix(seed ^ u64::from(byte)));
        Self { seed, models: models.to_vec(), battery: None }
    }

    /// With a battery that has this charge at first, in percent, and is charged from then on.
    pub fn with_battery(self, percent: u8) -> Self {
        Self { battery: Some(percent), ..self }
    }

    /// Whether there is nothing to find.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty() && self.battery.is_none()
    }

    fn has(&self, model: Model) -> bool {
        self.models.contains(&model)
    }

    /// A number below `range`, the same whenever it is drawn for the same thing.
    fn draw(&self, what: u64, range: u64) -> u64 {
        mix(self.seed ^ mix(what)) % range.max(1)
    }

    /// What the device finds so long after its fleet began.
    pub fn at(&self, since: Duration) -> Found {
        Found {
            power: self.power(since),
            network: self.has(Model::Network).then(|| self.network(since)),
            place: self.has(Model::Place).then(|| self.place(since)),
            in_use: self.has(Model::Use).then(|| self.in_use_for(since).is_some()),
        }
    }

    fn power(&self, since: Duration) -> Option<Power> {
        if let Some(first) = self.battery {
            let percent = u64::from(first).saturating_add(steps(since, CHARGE_STEP)).min(100);
            return Some(Power { battery_percent: Some(percent), charging: percent < 100 });
        }
        if !self.has(Model::Power) {
            return None;
        }
        if self.draw(1, 3) == 0 {
            return Some(Power { battery_percent: None, charging: false });
        }
        // From full to drained and back.
        let span = 100 - DRAINED_PERCENT;
        let (draining, charging) = (span * DRAIN_STEP.as_secs(), span * CHARGE_STEP.as_secs());
        let at = since.as_secs().wrapping_add(self.draw(2, draining + charging)) % (draining + charging);
        let (percent, charging) = match at.checked_sub(draining) {
            None => (100 - at / DRAIN_STEP.as_secs(), false),
            Some(at) => (DRAINED_PERCENT + at / CHARGE_STEP.as_secs(), true),
        };
        Some(Power { battery_percent: Some(percent), charging })
    }

    fn network(&self, since: Duration) -> Network {
        let step = steps(since, NETWORK_STEP);
        let now = |what: u64, range| mix(self.draw(what, u64::MAX) ^ mix(step)) % range;
        let kind = match self.draw(3, 10) {
            0..3 => "ethernet",
            // Leaves the house every now and then.
            3..7 if now(4, 5) > 0 => "wifi",
            _ => "cellular",
        };
        let signal = match (kind, now(5, 5)) {
            ("ethernet", _) => 100,
            (_, 0) => 10 + now(6, 20),
            _ => 50 + now(6, 45),
        };
        Network { kind, metered: kind == "cellular", signal }
    }

    fn place(&self, since: Duration) -> (f64, f64) {
        let town = TOWNS[self.draw(7, TOWNS.len() as u64) as usize % TOWNS.len()];
        let degrees = |what| self.draw(what, 1000) as f64 / 10_000.0 - 0.05;
        let (longitude, latitude) = (town.0 + degrees(8), town.1 + degrees(9));
        if self.draw(10, 4) > 0 || self.has_lost_its_place() {
            return (longitude, latitude);
        }
        let moved = PLACE_STEP.as_secs_f64() * steps(since, PLACE_STEP) as f64;
        let angle = TAU * (moved / ROUND.as_secs_f64() + self.draw(11, 100) as f64 / 100.0);
        (longitude + 0.1 * angle.cos(), latitude + 0.1 * angle.sin())
    }

    /// Whether it says where it is once and never again, so that what the hub knows grows old.
    pub fn has_lost_its_place(&self) -> bool {
        self.has(Model::Place) && self.draw(12, 10) == 0
    }

    /// How long somebody will go on using the device; `None` if nobody does.
    pub fn in_use_for(&self, since: Duration) -> Option<Duration> {
        let (least, most) = USE_PERIOD_SECONDS;
        let period = Duration::from_secs(least + self.draw(13, most - least + 1));
        let at = (since.as_millis() as u64).wrapping_add(self.draw(14, period.as_millis() as u64));
        let at = Duration::from_millis(at % (period.as_millis() as u64));
        let used = period * USE_PERCENT as u32 / 100;
        used.checked_sub(at).filter(|left| self.has(Model::Use) && !left.is_zero())
    }

    /// What the device reports of what it found, where the project's `docs/context.md` says.
    pub fn document(&self, found: &Found, since: Duration, is_first: bool) -> Value {
        let mut context = json!({});
        if let Some(Power { battery_percent, charging }) = found.power {
            let on_mains = battery_percent.is_none() || charging;
            context["power"] =
                json!({ "batteryPercent": battery_percent, "charging": charging, "onMains": on_mains });
        }
        if let Some(Network { kind, metered, signal }) = found.network {
            context["network"] = json!({ "kind": kind, "metered": metered, "signal": signal });
        }
        if let Some((longitude, latitude)) = found.place.filter(|_| is_first || !self.has_lost_its_place()) {
            context["place"] = json!({ "longitude": longitude, "latitude": latitude });
        }
        if let Some(in_use) = found.in_use {
            context["inUse"] = in_use.into();
            context["inUseSeconds"] = self.in_use_for(since).map(|left| left.as_secs().max(1)).into();
        }
        json!({ "context": context })
    }
}

fn steps(since: Duration, step: Duration) -> u64 {
    since.as_secs() / step.as_secs().max(1)
}

/// One round of SplitMix64: a number that looks like any other.
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: u64 = 1000;

    fn fleet(seed: u64, models: &[Model]) -> Vec<Surroundings> {
        (0..FLEET).map(|number| Surroundings::new(seed, &format!("sim-{number:04}"), models)).collect()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The share of the fleet for which something is so, in percent.
    fn percent(fleet: &[Surroundings], is_so: impl Fn(&Surroundings) -> bool) -> u64 {
        fleet.iter().filter(|one| is_so(one)).count() as u64 * 100 / FLEET
    }

    #[test]
    fn a_seed_is_a_life() {
        let at = |seed, since| -> Vec<Found> {
            fleet(seed, &Model::ALL).iter().map(|one| one.at(seconds(since))).collect()
        };
        assert_eq!(at(7, 100), at(7, 100));
        assert_ne!(at(7, 100), at(8, 100));
        assert_ne!(at(7, 100), at(7, 160));
        let nothing = Surroundings::new(7, "a", &[]);
        assert!(nothing.is_empty());
        assert_eq!(nothing.at(seconds(5)), Found::default());
        assert_eq!(nothing.document(&Found::default(), seconds(5), true), json!({ "context": {} }));
    }

    #[test]
    fn fleets_are_mixed_at_any_time() {
        let fleet = fleet(1, &Model::ALL);
        for since in [0, 61, 3600, 86_400 * 400] {
            let since = seconds(since);
            let share = |is_so: &dyn Fn(Found) -> bool| percent(&fleet, |one| is_so(one.at(since)));
            let between = |what: &str, share: u64, low: u64, high: u64| {
                assert!((low..=high).contains(&share), "{what} {since:?}: {share} %");
            };
            between("in use", share(&|found| found.in_use == Some(true)), 20, 40);
            let kind = |kind| share(&move |found: Found| found.network.is_some_and(|it| it.kind == kind));
            between("ethernet", kind("ethernet"), 20, 40);
            between("wifi", kind("wifi"), 20, 45);
            between("cellular", kind("cellular"), 25, 50);
            let weak = share(&|found| found.network.is_some_and(|network| network.signal < 30));
            between("weak", weak, 5, 25);
            let mains = |power: Power| power.battery_percent.is_none();
            between("mains", share(&|found| found.power.is_some_and(mains)), 25, 42);
            let low =
                share(&|found| found.power.is_some_and(|it| it.battery_percent.is_some_and(|it| it < 50)));
            between("low", low, 15, 45);
            for found in fleet.iter().map(|one| one.at(since)) {
                let (longitude, latitude) = found.place.expect("a place");
                assert!((-180.0..=180.0).contains(&longitude) && (-90.0..=90.0).contains(&latitude));
                let charge = found.power.and_then(|power| power.battery_percent).unwrap_or(100);
                assert!((DRAINED_PERCENT..=100).contains(&charge));
                assert!(found.network.is_some_and(|network| network.signal <= 100));
            }
        }
        between_moves(&fleet);
    }

    fn between_moves(fleet: &[Surroundings]) {
        let moves = percent(fleet, |one| one.at(seconds(0)).place != one.at(seconds(300)).place);
        assert!((15..=35).contains(&moves), "{moves} %");
        let lost = percent(fleet, Surroundings::has_lost_its_place);
        assert!((5..=15).contains(&lost), "{lost} %");
    }

    /// Nobody waits for ever: each device is unused, well connected and charged at the same time before long.
    #[test]
    fn each_device_can_bear_an_action_sometimes() {
        for one in fleet(3, &[Model::Network, Model::Use]) {
            let good = |since: &u64| {
                let found = one.at(seconds(*since));
                found.in_use == Some(false) && found.network.is_some_and(|network| network.signal >= 30)
            };
            assert!((0..120).any(|since| good(&since)), "{one:?}");
        }
    }

    #[test]
    fn a_use_ends_when_it_says() {
        let one = Surroundings::new(5, "sim-0001", &[Model::Use]);
        let begun = (0..120).map(seconds).find(|since| one.in_use_for(*since).is_some()).expect("a use");
        let left = one.in_use_for(begun).expect("in use");
        assert!(one.in_use_for(begun + left / 2).is_some());
        assert_eq!(one.in_use_for(begun + left), None);
    }

    #[test]
    fn a_battery_that_is_given_is_charged() {
        let one = Surroundings::new(1, "a", &[]).with_battery(90);
        let charge = |since| one.at(seconds(since)).power.expect("power");
        assert_eq!(charge(0), Power { battery_percent: Some(90), charging: true });
        assert_eq!(charge(4), Power { battery_percent: Some(92), charging: true });
        assert_eq!(charge(9999), Power { battery_percent: Some(100), charging: false });
    }

    #[test]
    fn reports_stand_where_gates_look() {
        let all = Surroundings::new(2, "sim-0001", &Model::ALL).with_battery(50);
        let found = Found {
            power: Some(Power { battery_percent: Some(50), charging: true }),
            network: Some(Network { kind: "cellular", metered: true, signal: 40 }),
            place: Some((13.4, 52.5)),
            in_use: Some(false),
        };
        let since = (0..).map(seconds).find(|since| all.in_use_for(*since).is_none()).expect("unused");
        let expected = json!({ "context": {
            "power": { "batteryPercent": 50, "charging": true, "onMains": true },
            "network": { "kind": "cellular", "metered": true, "signal": 40 },
            "place": { "longitude": 13.4, "latitude": 52.5 },
            "inUse": false, "inUseSeconds": null,
        } });
        assert_eq!(all.document(&found, since, true), expected);
        let lost = fleet(1, &Model::ALL).into_iter().find(Surroundings::has_lost_its_place).expect("one");
        let context = |is_first| lost.document(&lost.at(seconds(0)), seconds(0), is_first)["context"].clone();
        assert!(context(true).get("place").is_some());
        assert!(context(false).get("place").is_none());
    }
}
