//! What a rollout would do: waves, counts and the expected end, by arithmetic on assumptions. It is a forecast, not a
//! bound: devices are taken to need the same time, and people to agree at once.

use std::time::Duration;

use super::RolloutError;
use super::policy::{Approval, Rollout};
use crate::time::Timestamp;

/// What is known, or taken for granted, before the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumptions {
    /// All targets.
    pub targets: u64,
    /// Those of them that can be reached and will succeed; the others are spread over the waves like these.
    pub reachable: u64,
    /// What one device needs from the moment at which it is turned to.
    pub per_device: Duration,
    /// What is sent to one device.
    pub bytes_per_device: u64,
    /// When the first wave opens.
    pub start: Timestamp,
}

/// One wave of a forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForecastWave {
    /// Devices in it.
    pub targets: u64,
    /// Those that can be reached.
    pub reachable: u64,
    /// When it opens.
    pub opens: Timestamp,
    /// When the next may open.
    pub ends: Timestamp,
    /// Whether it is good enough for the next, by `advance.successPercent` and `advance.failurePercent`.
    pub passes: bool,
}

/// What a rollout would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// All waves; those behind one that does not pass would not open.
    pub waves: Vec<ForecastWave>,
    /// When everything is settled; `None` if a wave does not pass.
    pub ends: Option<Timestamp>,
    /// Bytes to send in all.
    pub bytes: u64,
    /// How often somebody must agree.
    pub approvals: u64,
    /// After how many settled devices the sequential rule has stopped an alternative rate with its confidence; `None`
    /// without such a rule, or if so many devices are not there.
    pub decides_after: Option<u64>,
}

impl Rollout {
    /// The forecast. Errs if the waves do not fit the targets.
    pub fn forecast(&self, given: &Assumptions) -> Result<Forecast, RolloutError> {
        let sizes = self.waves.sizes(given.targets)?;
        let reachable = given.reachable.min(given.targets);
        let mut opens = given.start;
        let (mut targets_before, mut reachable_before) = (0, 0);
        let mut waves = Vec::with_capacity(sizes.len());
        for (index, targets) in sizes.iter().copied().enumerate() {
            targets_before += targets;
            let up_to_here = part(reachable, targets_before, given.targets);
            let here = up_to_here - reachable_before;
            reachable_before = up_to_here;
            let missing = targets - here;
            let enough = self.advance.success.is_none_or(|share| here >= share.of(targets));
            let few_bad =
                self.advance.failure.is_none_or(|share| missing == 0 || missing < share.of(targets));
            // Who is not there is awaited, unless the wave is good enough without him.
            let is_last = index + 1 == sizes.len();
            let waits = missing > 0 && (is_last || self.advance.success.is_none() || !enough);
            let mut time = self.busy(here, given.per_device);
            if waits {
                time = time.max(self.device_timeout);
            }
            if !is_last {
                time += self.advance.min_observation;
            }
            let ends = opens.plus(time);
            waves.push(ForecastWave { targets, reachable: here, opens, ends, passes: enough && few_bad });
            opens = ends;
        }
        let passes = waves.iter().all(|wave| wave.passes);
        let approvals = match self.advance.approval {
            Approval::None => 0,
            Approval::Anyone | Approval::SecondPerson => waves.len().saturating_sub(1) as u64,
        };
        let decides_after = self.stop.sequential.and_then(|rule| rule.decides_after());
        Ok(Forecast {
            ends: passes.then_some(opens),
            waves,
            bytes: reachable.saturating_mul(given.bytes_per_device),
            approvals,
            decides_after: decides_after.filter(|devices| *devices <= given.targets),
        })
    }

    /// How long a wave of so many devices takes under the caps, its start jitter included.
    fn busy(&self, devices: u64, per_device: Duration) -> Duration {
        let Some(others) = devices.checked_sub(1) else { return Duration::ZERO };
        let at_once = self.limits.in_flight.unwrap_or(devices).max(1);
        let rounds = u32::try_from(others / at_once).unwrap_or(u32::MAX);
        let by_flight = per_device.saturating_mul(rounds);
        let by_rate = Duration::from_secs(self.limits.per_second.map_or(0, |rate| others / rate.max(1)));
        by_flight.max(by_rate).max(self.jitter).saturating_add(per_device)
    }
}

impl Forecast {
    /// How wrong the forecast was, in parts of the time that it took: 0.5 if it took twice as long as was expected, -1 if
    /// half as long. `None` if it gave no end.
    pub fn error(&self, ended: Timestamp) -> Option<f64> {
        self.expected()?.error(ended)
    }

    /// What of it is kept with the rollout.
    pub fn expected(&self) -> Option<Expected> {
        Some(Expected { start: self.waves.first()?.opens, end: self.ends })
    }
}

/// What was expected of a rollout when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// When it began.
    pub start: Timestamp,
    /// When everything would be settled; `None` if it was expected to stop before.
    pub end: Option<Timestamp>,
}

impl Expected {
    /// As [`Forecast::error`].
    pub fn error(&self, ended: Timestamp) -> Option<f64> {
        let expected = self.end?.since(self.start).as_secs_f64();
        let took = ended.since(self.start).as_secs_f64();
        (took > 0.0).then(|| (took - expected) / took)
    }
}

/// `count` times `numerator / denominator`, rounded down.
fn part(count: u64, numerator: u64, denominator: u64) -> u64 {
    let product = u128::from(count) * u128::from(numerator) / u128::from(denominator.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}
