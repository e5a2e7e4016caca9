//! What a rollout would do: waves, counts and the expected end, by arithmetic on assumptions. It is a forecast, not a
//! bound: devices are taken to need the same time, and people to agree at once. Maintenance windows are followed as they
//! open and close; of other gates nobody knows when they open, so who is behind one is not counted as reachable.

use std::time::Duration;

use super::RolloutError;
use super::policy::{Approval, Rollout};
use crate::context::{Opening, Timetable};
use crate::time::Timestamp;

/// How often a forecast looks at all windows.
const FORECAST_STEPS_MAX: usize = 10_000;

/// What is known, or taken for granted, before the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumptions {
    /// All targets.
    pub targets: u64,
    /// Those of them that can be reached and will succeed; the others are spread over the waves like these.
    pub reachable: u64,
    /// How many of those that can be reached have which maintenance window; the others have none.
    pub windows: Vec<(Timetable, u64)>,
    /// What one device needs from the moment at which it is turned to.
    pub per_device: Duration,
    /// What is sent to one device.
    pub bytes_per_device: u64,
    /// When the first wave opens.
    pub start: Timestamp,
    /// From then on no device is turned to.
    pub deadline: Timestamp,
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
    /// When everything is settled, if there is time enough for that; `None` if a wave does not pass.
    pub ends: Option<Timestamp>,
    /// From then on no device is turned to: what is left is not done.
    pub deadline: Timestamp,
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
        let mut fleet = Fleet::new(self, given);
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
            // Stragglers of a wave that is good enough go on with the next one.
            let wanted = self.advance.success.filter(|_| enough && !is_last);
            let spare = wanted.map_or(0, |share| here - share.of(targets).min(here));
            fleet.join(reachable_before - here, here);
            let last = fleet.turn_to_all_but(spare + if is_last { 0 } else { fleet.stragglers }, opens);
            let opened_ever = last.is_some();
            let mut time = match last {
                Some(last) if here > 0 => last.since(opens).max(self.jitter).saturating_add(given.per_device),
                _ => Duration::ZERO,
            };
            if waits {
                time = time.max(self.device_timeout);
            }
            if !is_last {
                time += self.advance.min_observation;
            }
            let ends = opens.plus(time);
            waves.push(ForecastWave {
                targets,
                reachable: here,
                opens,
                ends,
                passes: enough && few_bad && opened_ever,
            });
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
            deadline: given.deadline,
            waves,
            bytes: reachable.saturating_mul(given.bytes_per_device),
            approvals,
            decides_after: decides_after.filter(|devices| *devices <= given.targets),
        })
    }
}

/// The devices that can be reached and were not turned to, by their windows.
struct Fleet<'a> {
    policy: &'a Rollout,
    given: &'a Assumptions,
    /// As many as there are windows, and those without one.
    left: Vec<u64>,
    /// How many of former waves are left.
    stragglers: u64,
    steps: usize,
}

impl<'a> Fleet<'a> {
    fn new(policy: &'a Rollout, given: &'a Assumptions) -> Self {
        Self { policy, given, left: vec![0; given.windows.len() + 1], stragglers: 0, steps: 0 }
    }

    /// The next `count` devices that can be reached, after `before` others, belong to waves that are open. All windows are
    /// spread over the waves alike.
    fn join(&mut self, before: u64, count: u64) {
        self.stragglers = self.left.iter().sum();
        let all = self.given.reachable.min(self.given.targets);
        let (mut seen, mut given_out) = (0, 0);
        let counts = self.given.windows.iter().map(|(_, count)| *count).chain([u64::MAX]);
        for (left, devices) in self.left.iter_mut().zip(counts) {
            seen = devices.saturating_add(seen).min(all);
            // Cut so that all of them together are exactly `count`.
            let up_to = (part(before + count, seen, all) - part(before, seen, all)).max(given_out);
            *left += up_to - given_out;
            given_out = up_to;
        }
    }

    /// Turns to all that are left but so many; says when the last of them begins. `None`: never.
    fn turn_to_all_but(&mut self, spare: u64, from: Timestamp) -> Option<Timestamp> {
        let (mut time, mut last) = (from, from);
        loop {
            let need = self.left.iter().sum::<u64>().saturating_sub(spare);
            if need == 0 {
                return Some(last);
            }
            self.steps += 1;
            if self.steps > FORECAST_STEPS_MAX {
                return None;
            }
            let (open, change) = self.look(time);
            let there: u64 = open.iter().map(|group| self.left[*group]).sum();
            if there == 0 {
                time = change?;
                continue;
            }
            let wanted = there.min(need);
            let begun = time.plus(self.begin_last(wanted));
            let count = match change {
                Some(change) if begun >= change => self.begin_within(change.since(time)).min(wanted),
                _ => wanted,
            };
            last = time.plus(self.begin_last(count));
            time = if count < wanted { change.unwrap_or(last) } else { last };
            self.take(&open, count, there);
        }
    }

    /// The groups that may go, and when that changes.
    fn look(&self, time: Timestamp) -> (Vec<usize>, Option<Timestamp>) {
        let (mut open, mut change) = (vec![self.given.windows.len()], None);
        for (group, (timetable, _)) in self.given.windows.iter().enumerate() {
            if self.left[group] == 0 {
                continue;
            }
            let next = match timetable.at(time) {
                Opening::Open(until) => {
                    open.push(group);
                    Some(until)
                }
                Opening::Closed(opens) => opens,
            };
            // A moment that is not ahead must not be waited for again and again.
            change = [change, next.filter(|next| *next > time)].into_iter().flatten().min();
        }
        (open, change)
    }

    fn take(&mut self, groups: &[usize], count: u64, of: u64) {
        let (mut seen, mut taken) = (0, 0);
        for group in groups {
            seen += self.left[*group];
            let up_to = part(count, seen, of);
            self.left[*group] -= up_to - taken;
            taken = up_to;
        }
    }

    /// When the last of so many devices begins under the caps.
    fn begin_last(&self, devices: u64) -> Duration {
        let others = devices.saturating_sub(1);
        let limits = &self.policy.limits;
        let rounds = limits.in_flight.map_or(0, |at_once| others / at_once.max(1));
        let by_flight = self.given.per_device.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        by_flight.max(Duration::from_secs(limits.per_second.map_or(0, |rate| others / rate.max(1))))
    }

    /// How many begin within so long.
    fn begin_within(&self, time: Duration) -> u64 {
        let limits = &self.policy.limits;
        let rounds = time.as_millis().div_ceil(self.given.per_device.as_millis().max(1));
        let rounds = u64::try_from(rounds).unwrap_or(u64::MAX);
        let by_flight = limits.in_flight.map_or(u64::MAX, |at_once| at_once.max(1).saturating_mul(rounds));
        let seconds = time.as_millis().div_ceil(1000);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        by_flight.min(limits.per_second.map_or(u64::MAX, |rate| rate.max(1).saturating_mul(seconds)))
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
        let end = self.ends.map(|end| end.min(self.deadline));
        Some(Expected { start: self.waves.first()?.opens, end })
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
