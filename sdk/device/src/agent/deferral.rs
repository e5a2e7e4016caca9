//! "Not now": what a machine says of an action that it cannot bear at the moment, and how it is put off. Must never put
//! anything off for ever: nobody would learn why.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::report::now;
use super::{Agent, Failure, Machine, Step};
use crate::Error;

/// Longest that a step of an update is put off; then the update fails.
pub const DEFERRED_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Shortest and longest pause before a machine is asked again about a step.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// What a device is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Restart, as it was told.
    Reboot,
    /// Go back to what left the factory.
    FactoryReset,
    /// A step of a firmware update: [`Step::Downloading`] before the update is taken at all, then [`Step::Applying`] and
    /// [`Step::Rebooting`], since a download may take hours. The other steps are not put off.
    Update(Step),
}

/// Why not now, and when to ask again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// Ask again after this time. A device that does not know gives its best guess.
    pub after: Duration,
    /// For people.
    pub reason: String,
}

impl Deferral {
    /// A deferral with its reason.
    pub fn new(after: Duration, reason: impl Into<String>) -> Self {
        Self { after, reason: reason.into() }
    }

    /// The answer to a method, as hubs understand it.
    pub(super) fn answer(&self) -> Value {
        json!({ "deferred": { "afterSeconds": self.after.as_secs_f64(), "reason": self.reason } })
    }
}

impl<M: Machine> Agent<M> {
    /// Waits until the machine can bear a step of an update, and reports what it waits for.
    pub(super) async fn until_bearable(&self, step: Step) -> Result<Result<(), Failure>, Error> {
        if !matches!(step, Step::Applying | Step::Rebooting) {
            return Ok(Ok(()));
        }
        let (begun, mut told) = (Instant::now(), None);
        while let Some(Deferral { after, reason }) = self.machine.not_now(Action::Update(step)) {
            if begun.elapsed() >= DEFERRED_MAX {
                let days = DEFERRED_MAX.as_secs() / 86_400;
                return Ok(Err(Failure::new("deferredTooLong", format!("for {days} days: {reason}"))));
            }
            let pause = after.clamp(PAUSE_MIN, PAUSE_MAX);
            if told.as_ref() != Some(&reason) {
                let until = now() + pause.as_secs();
                let deferred = json!({ "step": step.as_str(), "reason": reason, "until": until });
                self.report(json!({ "firmware": { "update": { "deferred": deferred } } })).await?;
                told = Some(reason);
            }
            tokio::time::sleep(pause).await;
        }
        if told.is_some() {
            self.report(json!({ "firmware": { "update": { "deferred": null } } })).await?;
        }
        Ok(Ok(()))
    }
}
