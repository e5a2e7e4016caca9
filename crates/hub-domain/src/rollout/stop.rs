//! When a rollout stops by itself, and with which numbers. Rules are looked at in one order, so that the same counts always
//! give the same cause. A threshold is met when it is reached, not only when it is passed.

use std::fmt;

use super::policy::{Rollout, Threshold};
use super::share::Share;
use super::state::{RolloutState, Tally, WaveState};

/// Which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopRule {
    /// `stop.failures`.
    Failures,
    /// `stop.timeouts`.
    Timeouts,
    /// `stop.rejections`.
    Rejections,
    /// `advance.failurePercent`.
    WaveFailures,
    /// `advance.successPercent` can no longer be reached.
    WaveSuccesses,
    /// `stop.sequential`.
    Sequential,
}

impl StopRule {
    const ALL: [StopRule; 6] = [
        StopRule::Failures,
        StopRule::Timeouts,
        StopRule::Rejections,
        StopRule::WaveFailures,
        StopRule::WaveSuccesses,
        StopRule::Sequential,
    ];

    /// The member of the policy.
    pub fn as_str(self) -> &'static str {
        match self {
            StopRule::Failures => "stop.failures",
            StopRule::Timeouts => "stop.timeouts",
            StopRule::Rejections => "stop.rejections",
            StopRule::WaveFailures => "advance.failurePercent",
            StopRule::WaveSuccesses => "advance.successPercent",
            StopRule::Sequential => "stop.sequential",
        }
    }

    /// From the member.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == text)
    }
}

/// A rule that was met, and with which numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopCause {
    /// Which.
    pub rule: StopRule,
    /// The wave from 0: that of the rule if it is one of a wave, else the last that was opened.
    pub wave: usize,
    /// Devices that count against it: bad ones, or bad ones of the kind.
    pub devices: u64,
    /// Of how many.
    pub of: u64,
    /// How many are the limit.
    pub limit: u64,
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, wave, devices, of, limit } = self;
        let what = match rule {
            StopRule::Failures => "failed",
            StopRule::Timeouts => "timed out",
            StopRule::Rejections => "rejected it",
            StopRule::WaveFailures | StopRule::WaveSuccesses | StopRule::Sequential => "did not succeed",
        };
        write!(f, "{}: {devices} of {of} devices {what}, {limit} stop it (wave {wave})", rule.as_str())
    }
}

impl RolloutState {
    /// The rule that is met now, if any.
    pub fn broken_rule(&self, policy: &Rollout) -> Option<StopCause> {
        let opened = self.opened();
        let last = opened.len().checked_sub(1)?;
        let total = opened.iter().map(WaveState::judged).fold(Tally::default(), Tally::plus);
        let targets: u64 = opened.iter().map(WaveState::targets).sum();
        let (stop, advance) = (&policy.stop, &policy.advance);
        let overall = |rule, threshold: Threshold, devices| {
            let share = threshold.share.map(|share| share.of(targets));
            let limit = threshold.count.into_iter().chain(share).min()?;
            cause(rule, last, devices, targets, limit)
        };
        let failures = |(wave, entry): (usize, &WaveState)| {
            let of = counted(entry);
            cause(StopRule::WaveFailures, wave, entry.judged().bad(), of, advance.failure?.of(of))
        };
        let successes = |share: Share| {
            let entry = &opened[last];
            let of = counted(entry);
            let limit = of - share.of(of) + 1;
            cause(StopRule::WaveSuccesses, last, entry.judged().bad(), of, limit)
        };
        overall(StopRule::Failures, stop.failures, total.failed)
            .or_else(|| overall(StopRule::Timeouts, stop.timeouts, total.timed_out))
            .or_else(|| overall(StopRule::Rejections, stop.rejections, total.rejected))
            .or_else(|| opened.iter().enumerate().find_map(failures))
            .or_else(|| advance.success.and_then(successes))
            .or_else(|| self.sequential(policy, last, total))
    }

    /// Devices whose end is not known count as good, so that it does not matter if bad ones show themselves sooner.
    fn sequential(&self, policy: &Rollout, last: usize, total: Tally) -> Option<StopCause> {
        let rule = policy.stop.sequential?;
        let turned_to = total.succeeded + total.bad() + self.sum(|wave| wave.in_flight + wave.retrying);
        cause(StopRule::Sequential, last, total.bad(), turned_to, rule.stops_at(turned_to))
    }

    /// The evidence of the sequential rule, and that at which it stops.
    pub fn evidence(&self, policy: &Rollout) -> Option<(f64, f64)> {
        let rule = policy.stop.sequential?;
        let total = self.waves.iter().map(WaveState::judged).fold(Tally::default(), Tally::plus);
        let good = total.succeeded + self.sum(|wave| wave.in_flight + wave.retrying);
        Some((rule.evidence(good, total.bad()), rule.limit()))
    }
}

/// The devices of a wave that count for its thresholds.
pub(super) fn counted(wave: &WaveState) -> u64 {
    wave.targets() - wave.skipped - wave.forgiven.bad()
}

fn cause(rule: StopRule, wave: usize, devices: u64, of: u64, limit: u64) -> Option<StopCause> {
    (devices > 0 && devices >= limit).then_some(StopCause { rule, wave, devices, of, limit })
}
