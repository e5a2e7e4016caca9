//! Rollouts: how anything that acts on many devices goes through them in waves, and when it stops by itself.
//!
//! A [`Rollout`] is the policy document, which never changes; [`RolloutState`] says how far it came. What comes next is
//! decided by [`RolloutState::next_step`] alone, from stored state and time, so that it is the same after a restart.
//! Nothing here acts on a device, knows what the action is, or draws a number: seeds and the time are arguments.
//!
//! Read in this order: `policy` the document (`parse`, `print`), `waves` and `plan` who goes when, `state` and `step` how
//! it goes on, `stop` and `sequential` when it does not, `retry`, `forecast`. For users: `docs/rollouts.md`.

mod forecast;
mod parse;
mod plan;
mod policy;
mod print;
mod reader;
mod retry;
mod sequential;
mod share;
mod state;
mod step;
mod stop;
mod stored;
mod tag;
#[cfg(test)]
mod tests;
mod waves;

use std::fmt;
use std::time::Duration;

pub use forecast::{Assumptions, Expected, Forecast, ForecastWave};
pub use plan::{draw, plan};
pub use policy::{
    Advance, Approval, Backoff, Caps, OnStop, Retries, Rollout, Stop, Success, TagCap, Threshold, WhenBusy,
};
pub use retry::{Attempt, Class, Retry};
pub use sequential::Sequential;
pub use share::{Factor, Share};
pub use state::{Approved, Outcome, Phase, Refusal, RolloutState, Tally, WaveState};
pub use step::{RolloutStep, Waiting};
pub use stop::{StopCause, StopRule};
pub use tag::{TagCaps, TagPath};
pub use waves::{Growth, Size, Waves};

/// Most waves of one rollout.
pub const ROLLOUT_WAVES_MAX: usize = 200;
/// The largest seed: integers up to it are exact in every JSON reader.
pub const ROLLOUT_SEED_MAX: u64 = (1 << 53) - 1;
/// Most devices that a document may name as a number.
pub const ROLLOUT_DEVICES_MAX: u64 = 1_000_000_000;
/// Longest time in a document.
pub const ROLLOUT_TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Most retries of one device for one class of outcome.
pub const ROLLOUT_RETRIES_MAX: u64 = 10_000;
/// Names in a tag path.
pub const ROLLOUT_TAG_NAMES_MAX: usize = 10;
/// A person's name, or a reason in a person's words, in characters.
pub const ROLLOUT_TEXT_CHARS_MAX: usize = 512;
/// How long a device is taken to need for an action, and for a patch, which is done when it is written.
pub const ROLLOUT_ACTION_GUESS: Duration = Duration::from_secs(60);
/// See [`ROLLOUT_ACTION_GUESS`].
pub const ROLLOUT_PATCH_GUESS: Duration = Duration::from_secs(1);
/// How long a device may take if the policy names no time.
pub const ROLLOUT_DEVICE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(24 * 3600);

/// Why something is not a rollout: which member, what was wrong and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutError {
    /// The member, such as `rollout.waves[1].percent`.
    pub path: String,
    /// What was wrong and what would be right; reads on after the path.
    pub problem: String,
}

impl RolloutError {
    pub(self) fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

impl fmt::Display for RolloutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.problem)
    }
}

impl std::error::Error for RolloutError {}
