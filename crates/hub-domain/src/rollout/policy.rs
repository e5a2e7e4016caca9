//! The policy document as values. `parse` and `print` are inverse; every value here has been checked.

use std::time::Duration;

use super::sequential::Sequential;
use super::share::{Factor, Share};
use super::tag::TagPath;
use super::waves::Waves;
use super::{ROLLOUT_DEVICE_TIMEOUT_DEFAULT, ROLLOUT_SEED_MAX};
use crate::query::Condition;
use crate::time::Timestamp;

/// How to go through many devices. Members are those of the document, see `docs/rollouts.md`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// How many devices in which wave.
    pub waves: Waves,
    /// From which membership and jitter follow. Whoever stores a rollout without one draws one, see
    /// [`Rollout::with_seed`].
    pub seed: Option<u64>,
    /// Each value of this tag is spread evenly over the waves.
    pub stratify_by: Option<TagPath>,
    /// Devices start at random times within this after their wave opened.
    pub jitter: Duration,
    /// How many devices at once.
    pub limits: Caps,
    /// When a wave is good enough for the next.
    pub advance: Advance,
    /// When to stop.
    pub stop: Stop,
    /// What stopping does.
    pub on_stop: OnStop,
    /// What is tried again, and when.
    pub retry: Retries,
    /// How long a device may take from its first attempt on, all retries included.
    pub device_timeout: Duration,
    /// How long a device may stay without progress, if that is limited.
    pub step_timeout: Option<Duration>,
    /// Which devices count as good.
    pub success: Success,
    /// What happens if another rollout has a device.
    pub when_busy: WhenBusy,
}

/// Bounds on what is done at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Devices in flight.
    pub in_flight: Option<u64>,
    /// Devices that are turned to within one second of the clock.
    pub per_second: Option<u64>,
    /// Devices in flight of each value of a tag.
    pub per_tag: Option<TagCap>,
}

/// A bound for each value of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagCap {
    /// Which tag.
    pub path: TagPath,
    /// Devices in flight of each of its values.
    pub in_flight: u64,
}

/// When the next wave may open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advance {
    /// As soon as this part of the wave succeeded; without it, when all of the wave is settled.
    pub success: Option<Share>,
    /// Never when this part of a wave did not succeed: the rollout stops.
    pub failure: Option<Share>,
    /// How long nothing new is begun after a wave was good enough.
    pub min_observation: Duration,
    /// Who must agree.
    pub approval: Approval,
}

/// Who must agree before the next wave opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approval {
    /// Nobody.
    #[default]
    None,
    /// Somebody.
    Anyone,
    /// Somebody who did not ask for the rollout.
    SecondPerson,
}

/// When the whole rollout stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// Devices that tried and failed.
    pub failures: Threshold,
    /// Devices that never came back.
    pub timeouts: Threshold,
    /// Devices that said never.
    pub rejections: Threshold,
    /// The statistical rule.
    pub sequential: Option<Sequential>,
}

/// Reached by this many devices, or by this part of the waves that were opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Threshold {
    /// A number of devices.
    pub count: Option<u64>,
    /// A part of the devices of all waves that were opened.
    pub share: Option<Share>,
}

/// What happens when a stop rule is met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStop {
    /// Nothing new is begun until somebody decides.
    #[default]
    Pause,
    /// It is over.
    Abort,
    /// It is over, and what was done is undone by a rollout of its own.
    RollBack,
}

/// When devices are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// The device said never.
    pub rejected: Backoff,
    /// The device tried, and it went wrong.
    pub failed: Backoff,
    /// The device said later.
    pub deferred: Backoff,
    /// The device was not there.
    pub offline: Backoff,
    /// The device did not answer, or made no progress.
    pub timed_out: Backoff,
}

/// How often, and after how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Retries; none is zero.
    pub max_retries: u64,
    /// Before the first.
    pub initial: Duration,
    /// By how much longer before each further one.
    pub factor: Factor,
    /// Never longer than this.
    pub max: Duration,
}

/// Which devices count as good.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Success {
    /// Those that answered with a status of 200 to 299.
    #[default]
    Answer,
    /// Those whose twin matches, whatever they answered: for firmware, that the reported version is the wanted one.
    Reported {
        /// As it was given.
        text: String,
        /// As it was understood.
        condition: Condition,
    },
}

/// What happens to a rollout on a device that another one has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenBusy {
    /// It waits for the other.
    #[default]
    Wait,
    /// The device is rejected.
    Refuse,
}

impl Default for Retries {
    fn default() -> Self {
        let backoff = |max_retries, initial, max| Backoff {
            max_retries,
            initial: Duration::from_secs(initial),
            factor: Factor::from_thousandths(2000).expect("2 is a factor"),
            max: Duration::from_secs(max),
        };
        Self {
            rejected: backoff(0, 60, 3600),
            failed: backoff(0, 60, 3600),
            deferred: backoff(100, 300, 3600),
            offline: backoff(100, 60, 3600),
            timed_out: backoff(1, 60, 3600),
        }
    }
}

impl Default for Rollout {
    /// Everything at once, with nothing that stops it: what an empty document says.
    fn default() -> Self {
        Self {
            waves: Waves::List { sizes: Vec::new(), rest: true },
            seed: None,
            stratify_by: None,
            jitter: Duration::ZERO,
            limits: Caps::default(),
            advance: Advance::default(),
            stop: Stop::default(),
            on_stop: OnStop::default(),
            retry: Retries::default(),
            device_timeout: ROLLOUT_DEVICE_TIMEOUT_DEFAULT,
            step_timeout: None,
            success: Success::default(),
            when_busy: WhenBusy::default(),
        }
    }
}

impl Rollout {
    /// This policy with a seed: its own, or else `drawn` cut to what a document can hold.
    #[must_use]
    pub fn with_seed(self, drawn: u64) -> Self {
        Self { seed: Some(self.seed.unwrap_or(drawn & ROLLOUT_SEED_MAX)), ..self }
    }

    /// When a device is given up that was first turned to, and last made progress, at these times. From then on it is
    /// timed out, and not tried again if the first of the two limits passed.
    pub fn deadline(&self, first_attempt: Timestamp, last_progress: Timestamp) -> Timestamp {
        let whole = first_attempt.plus(self.device_timeout);
        self.step_timeout.map_or(whole, |step| whole.min(last_progress.plus(step)))
    }
}
