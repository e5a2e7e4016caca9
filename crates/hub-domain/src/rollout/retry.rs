//! Whether a device is tried again, and when. Back-off is spread by what is drawn for the device and the attempt, so that
//! devices that failed together do not come back together.

use std::time::Duration;

use super::plan::{below, draw_for, split_mix};
use super::policy::{Backoff, Rollout};
use super::state::Outcome;
use crate::id::TwinId;
use crate::time::Timestamp;

/// What came of one attempt that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The device said never.
    Rejected,
    /// The device tried, and it went wrong.
    Failed,
    /// The device said later.
    Deferred,
    /// The device was not there.
    Offline,
    /// The device did not answer, or made no progress.
    TimedOut,
}

impl Class {
    /// What a device's answer means; `None` for success (200 to 299). 429 and 503 are "later", other 4xx "never".
    pub fn of_status(status: i32) -> Option<Self> {
        match status {
            200..=299 => None,
            429 | 503 => Some(Class::Deferred),
            400..=499 => Some(Class::Rejected),
            _ => Some(Class::Failed),
        }
    }

    /// How a device ends that is not tried again.
    pub fn outcome(self) -> Outcome {
        match self {
            Class::Rejected => Outcome::Rejected,
            Class::Failed => Outcome::Failed,
            // A device that says later for ever, or never comes, did not come back.
            Class::Deferred | Class::Offline | Class::TimedOut => Outcome::TimedOut,
        }
    }
}

/// An attempt that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What came of it.
    pub class: Class,
    /// Retries for this class before it, on this device.
    pub retries: u64,
    /// When the device was turned to for the first time.
    pub first: Timestamp,
    /// Not before this, said the device.
    pub again_at: Option<Timestamp>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Put it back, and turn to it again from then on.
    At(Timestamp),
    /// Settle it as [`Class::outcome`].
    Never,
}

impl Rollout {
    /// Whether and when a device is tried again after `attempt`, which ended at `now`. `random` is
    /// [`Rollout::spread`] of the device. Never at or after the device's own deadline.
    pub fn retry(&self, attempt: &Attempt, random: u64, now: Timestamp) -> Retry {
        let backoff = match attempt.class {
            Class::Rejected => &self.retry.rejected,
            Class::Failed => &self.retry.failed,
            Class::Deferred => &self.retry.deferred,
            Class::Offline => &self.retry.offline,
            Class::TimedOut => &self.retry.timed_out,
        };
        if attempt.retries >= backoff.max_retries {
            return Retry::Never;
        }
        let wait = spread(delay(backoff, attempt.retries), split_mix(random ^ attempt.retries));
        let at = now.plus(wait);
        let at = attempt.again_at.map_or(at, |again_at| at.max(again_at));
        if at < attempt.first.plus(self.device_timeout) { Retry::At(at) } else { Retry::Never }
    }

    /// What is drawn for one device: the same whenever asked.
    pub fn spread(&self, id: &TwinId) -> u64 {
        draw_for(self.seed.unwrap_or(0), "retry", id)
    }

    /// How long after its wave opened a device may be turned to first.
    pub fn start_jitter(&self, id: &TwinId) -> Duration {
        let millis = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(below(draw_for(self.seed.unwrap_or(0), "jitter", id), millis))
    }
}

/// The time before the retry of this number, from 0.
fn delay(backoff: &Backoff, retries: u64) -> Duration {
    let mut seconds = backoff.initial.as_secs_f64();
    for _ in 0..retries {
        if seconds >= backoff.max.as_secs_f64() || backoff.factor.is_one() {
            break;
        }
        seconds *= backoff.factor.number();
    }
    Duration::from_secs_f64(seconds.min(backoff.max.as_secs_f64()))
}

/// Between half of it and all of it.
fn spread(wait: Duration, random: u64) -> Duration {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis - below(random, millis / 2 + 1))
}
