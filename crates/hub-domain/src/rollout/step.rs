//! What a rollout does next: decided from the policy, the stored state and the time alone, so that it is the same after a
//! restart and after any jump of the clock: one backwards can only make it wait longer.

use super::policy::{Approval, Rollout};
use super::state::{Phase, RolloutState};
use super::stop::{StopCause, counted};
use crate::time::Timestamp;

/// The next thing to do. Steps up to `Finish` that are marked so are carried out by [`RolloutState::apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutStep {
    /// Open this wave (apply).
    OpenWave {
        /// From 0.
        wave: usize,
    },
    /// The wave is good enough: note since when (apply).
    Observe,
    /// Somebody must agree: note since when (apply).
    AskApproval,
    /// A rule is met: note it (apply).
    Stop(StopCause),
    /// Turn to devices that are pending or retrying, as far as the caller finds some that may go: gates, jitter, back-off
    /// and caps per tag are his. If there are none, wait for that, at most until the time given.
    Dispatch {
        /// Of all waves up to this one.
        up_to_wave: usize,
        /// No more than this many, at least one.
        at_most: u64,
        /// The next step may be another from then on.
        until: Option<Timestamp>,
    },
    /// Wait for something to be settled or decided, at most until the time given.
    Wait {
        /// For what.
        reason: Waiting,
        /// The next step may be another from then on.
        until: Option<Timestamp>,
    },
    /// Settle all that is pending as skipped, and what is retrying as it was: it is ending.
    Skip,
    /// Everything is settled: begin the rollout that undoes what was done, and note the end (apply `Finish`).
    RollBack,
    /// Everything is settled: note the end (apply).
    Finish,
    /// The end was noted.
    Over,
}

/// For what a rollout waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Devices in flight.
    Answers,
    /// The cap per second.
    Rate,
    /// The time of observation.
    Observation,
    /// Somebody who approves the next wave.
    Approval,
    /// Somebody who resumes, aborts or rolls back.
    Decision,
}

impl Waiting {
    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Waiting::Answers => "answers",
            Waiting::Rate => "rate",
            Waiting::Observation => "observation",
            Waiting::Approval => "approval",
            Waiting::Decision => "decision",
        }
    }
}

impl RolloutState {
    /// What comes next at `now`.
    pub fn next_step(&self, policy: &Rollout, now: Timestamp) -> RolloutStep {
        if self.is_over() {
            return RolloutStep::Over;
        }
        match &self.phase {
            Phase::Aborting { .. } => self.wind_up(RolloutStep::Finish),
            Phase::RollingBack { .. } => self.wind_up(RolloutStep::RollBack),
            Phase::Done => RolloutStep::Finish,
            Phase::Paused { .. } | Phase::Stopped(_) => {
                RolloutStep::Wait { reason: Waiting::Decision, until: None }
            }
            Phase::Running => self.go_on(policy, None, now),
            Phase::Observing { since } => self.go_on(policy, Some(*since), now),
            // Stragglers of the opened waves go on meanwhile.
            Phase::AwaitingApproval { .. } => match self.broken_rule(policy) {
                Some(cause) => RolloutStep::Stop(cause),
                None => self.dispatch_step(policy, Waiting::Approval, None, now),
            },
        }
    }

    fn wind_up(&self, last: RolloutStep) -> RolloutStep {
        if self.sum(|wave| wave.pending + wave.retrying) > 0 {
            RolloutStep::Skip
        } else if self.sum(|wave| wave.in_flight) > 0 {
            RolloutStep::Wait { reason: Waiting::Answers, until: None }
        } else {
            last
        }
    }

    fn go_on(&self, policy: &Rollout, observed_since: Option<Timestamp>, now: Timestamp) -> RolloutStep {
        let next = self.opened().len();
        let Some(current) = next.checked_sub(1) else {
            let nothing = self.waves.is_empty();
            return if nothing { RolloutStep::Finish } else { RolloutStep::OpenWave { wave: 0 } };
        };
        if let Some(cause) = self.broken_rule(policy) {
            return RolloutStep::Stop(cause);
        }
        let Some(wave) = self.waves.get(next) else {
            return match self.sum(|wave| wave.open()) {
                0 => RolloutStep::Finish,
                _ => self.dispatch_step(policy, Waiting::Answers, None, now),
            };
        };
        if !self.is_good_enough(policy, current) {
            return self.dispatch_step(policy, Waiting::Answers, None, now);
        }
        if wave.approved.is_some() {
            return RolloutStep::OpenWave { wave: next };
        }
        let observation = policy.advance.min_observation;
        match observed_since.map(|since| since.plus(observation)) {
            None if !observation.is_zero() => RolloutStep::Observe,
            Some(end) if now < end => self.dispatch_step(policy, Waiting::Observation, Some(end), now),
            _ if policy.advance.approval != Approval::None => RolloutStep::AskApproval,
            _ => RolloutStep::OpenWave { wave: next },
        }
    }

    fn is_good_enough(&self, policy: &Rollout, wave: usize) -> bool {
        let wave = &self.waves[wave];
        match policy.advance.success {
            Some(share) => wave.judged().succeeded + wave.forgiven.succeeded >= share.of(counted(wave)),
            None => wave.open() == 0,
        }
    }

    /// Turns to what is left in the open waves, if the caps let it, or waits.
    fn dispatch_step(
        &self,
        policy: &Rollout,
        otherwise: Waiting,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> RolloutStep {
        let opened = self.opened();
        let left: u64 = opened.iter().map(|wave| wave.pending + wave.retrying).sum();
        let in_flight = self.sum(|wave| wave.in_flight);
        let free = policy.limits.in_flight.map_or(u64::MAX, |cap| cap.saturating_sub(in_flight));
        if left == 0 {
            return RolloutStep::Wait { reason: otherwise, until };
        }
        if free == 0 {
            return RolloutStep::Wait { reason: Waiting::Answers, until };
        }
        let used = self.dispatched_in(now.seconds());
        let rate = policy.limits.per_second.map_or(u64::MAX, |cap| cap.saturating_sub(used));
        if rate == 0 {
            let next_second = Timestamp::from_seconds(now.seconds().saturating_add(1));
            let until = until.map_or(next_second, |until| until.min(next_second));
            return RolloutStep::Wait { reason: Waiting::Rate, until: Some(until) };
        }
        RolloutStep::Dispatch { up_to_wave: opened.len() - 1, at_most: left.min(free).min(rate), until }
    }
}
