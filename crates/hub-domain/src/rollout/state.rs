//! How far a rollout came, and its transitions. Counts are changed only together, so that they always add up to the
//! targets; a transition that is refused changes nothing. What comes next is decided in `step`, when to stop in `stop`.

use std::fmt;

use super::forecast::Expected;
use super::policy::{Approval, OnStop, Rollout};
use super::stop::StopCause;
use super::{ROLLOUT_TEXT_CHARS_MAX, RolloutStep};
use crate::time::Timestamp;

/// How a device ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As wanted.
    Succeeded,
    /// It tried, and it went wrong.
    Failed,
    /// It never came back, or could never be reached.
    TimedOut,
    /// It said never, or another rollout had it.
    Rejected,
    /// Nothing was to be done any more: it is gone, or the rollout ended before its turn. Counts neither way.
    Skipped,
}

impl Outcome {
    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed-out",
            Outcome::Rejected => "rejected",
            Outcome::Skipped => "skipped",
        }
    }
}

/// Devices by how they ended, without those that were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// As wanted.
    pub succeeded: u64,
    /// Tried and failed.
    pub failed: u64,
    /// Never came back.
    pub timed_out: u64,
    /// Said never.
    pub rejected: u64,
}

impl Tally {
    /// All that did not succeed.
    pub fn bad(&self) -> u64 {
        self.failed + self.timed_out + self.rejected
    }

    /// This and the other.
    pub fn plus(self, other: Tally) -> Self {
        Self {
            succeeded: self.succeeded + other.succeeded,
            failed: self.failed + other.failed,
            timed_out: self.timed_out + other.timed_out,
            rejected: self.rejected + other.rejected,
        }
    }

    /// This without the other, which is a part of it.
    pub fn minus(self, other: Tally) -> Self {
        Self {
            succeeded: self.succeeded.saturating_sub(other.succeeded),
            failed: self.failed.saturating_sub(other.failed),
            timed_out: self.timed_out.saturating_sub(other.timed_out),
            rejected: self.rejected.saturating_sub(other.rejected),
        }
    }
}

/// Who let a wave open, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// One wave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaveState {
    /// Not turned to yet.
    pub pending: u64,
    /// Turned to; how it ends is not known.
    pub in_flight: u64,
    /// Turned to before, to be turned to again.
    pub retrying: u64,
    /// Settled.
    pub ended: Tally,
    /// Settled without being turned to any more.
    pub skipped: u64,
    /// What of `ended` was there when somebody resumed the rollout after a stop rule: the rules do not count it again.
    pub forgiven: Tally,
    /// When it opened.
    pub opened: Option<Timestamp>,
    /// When a device of it was settled last.
    pub settled: Option<Timestamp>,
    /// Who let it open, if somebody had to.
    pub approved: Option<Approved>,
}

impl WaveState {
    /// All devices of it; never changes.
    pub fn targets(&self) -> u64 {
        self.open() + self.ended.succeeded + self.ended.bad() + self.skipped
    }

    /// Those that are not settled.
    pub fn open(&self) -> u64 {
        self.pending + self.in_flight + self.retrying
    }

    /// What the rules count.
    pub fn judged(&self) -> Tally {
        self.ended.minus(self.forgiven)
    }
}

/// What a rollout is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Going through the open waves.
    Running,
    /// The last opened wave is good enough; nothing new is begun for the time that the policy asks for.
    Observing {
        /// Since when.
        since: Timestamp,
    },
    /// The next wave opens when somebody agrees.
    AwaitingApproval {
        /// Since when.
        since: Timestamp,
    },
    /// Somebody paused it.
    Paused {
        /// Who.
        by: String,
        /// In his words.
        reason: String,
    },
    /// A rule stopped it, and somebody has to decide.
    Stopped(StopCause),
    /// It ends: what is in flight is awaited, what is not is skipped.
    Aborting {
        /// By whom or what.
        by: String,
        /// Why.
        reason: String,
    },
    /// As aborting; then what was done is undone by a rollout of its own.
    RollingBack {
        /// By whom or what.
        by: String,
        /// Why.
        reason: String,
    },
    /// Every target was settled.
    Done,
}

/// How far a rollout came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutState {
    /// Who asked for it: the one who cannot be the second person.
    pub asked_by: String,
    /// What it is doing.
    pub phase: Phase,
    /// In their order; the opened ones come first.
    pub waves: Vec<WaveState>,
    /// The second of the clock, since 1970, in which devices were turned to last, and how many in it.
    pub dispatched: Option<(i64, u64)>,
    /// What was expected of it when it began, if that was worked out.
    pub expected: Option<Expected>,
    /// When nothing was left to do.
    pub ended: Option<Timestamp>,
}

/// Why a transition is not possible. The text says what would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub(super) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

fn refuse<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(text.into()))
}

/// A name or a reason, bounded.
fn words(text: &str) -> String {
    text.chars().take(ROLLOUT_TEXT_CHARS_MAX).collect()
}

impl RolloutState {
    /// One that was just planned. `sizes` are those of [`Waves::sizes`](super::Waves::sizes); `asked_by` is a name for the
    /// person, however the caller names people: equal names are one person.
    pub fn new(asked_by: &str, sizes: &[u64]) -> Self {
        let wave = |size: &u64| WaveState { pending: *size, ..WaveState::default() };
        Self {
            asked_by: words(asked_by),
            phase: Phase::Running,
            waves: sizes.iter().map(wave).collect(),
            dispatched: None,
            expected: None,
            ended: None,
        }
    }

    /// How wrong the forecast was, in parts of the time that it took; only of one that is over.
    pub fn forecast_error(&self) -> Option<f64> {
        self.expected?.error(self.ended?)
    }

    /// Whether nothing will change any more.
    pub fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// The waves that were opened.
    pub fn opened(&self) -> &[WaveState] {
        let count = self.waves.iter().take_while(|wave| wave.opened.is_some()).count();
        &self.waves[..count]
    }

    /// A sum over all waves.
    pub fn sum(&self, part: impl Fn(&WaveState) -> u64) -> u64 {
        self.waves.iter().map(part).sum()
    }

    /// `fresh` pending and `again` retrying devices of a wave are turned to. The caller commits this before it acts.
    pub fn dispatch(
        &mut self,
        policy: &Rollout,
        wave: usize,
        fresh: u64,
        again: u64,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let count = fresh + again;
        let RolloutStep::Dispatch { up_to_wave, at_most, .. } = self.next_step(policy, now) else {
            return refuse("no device may be turned to now; ask for the next step");
        };
        if wave > up_to_wave || count > at_most {
            let refused = format!("{count} devices of wave {wave} are too many");
            return refuse(format!(
                "{refused}; at most {at_most} of the waves up to {up_to_wave} may go now"
            ));
        }
        let entry = &mut self.waves[wave];
        if entry.pending < fresh || entry.retrying < again {
            let there = format!("{} pending and {} retrying", entry.pending, entry.retrying);
            return refuse(format!("wave {wave} has {there} devices, fewer than {fresh} and {again}"));
        }
        entry.pending -= fresh;
        entry.retrying -= again;
        entry.in_flight += count;
        self.dispatched = Some((now.seconds(), self.dispatched_in(now.seconds()) + count));
        Ok(())
    }

    /// How many devices were turned to in this second of the clock.
    pub(super) fn dispatched_in(&self, second: i64) -> u64 {
        self.dispatched.filter(|(last, _)| *last == second).map_or(0, |(_, count)| count)
    }

    /// `count` devices of a wave that were in flight will be tried again.
    pub fn put_back(&mut self, wave: usize, count: u64) -> Result<(), Refusal> {
        match self.waves.get_mut(wave) {
            Some(entry) if entry.in_flight >= count => {
                entry.in_flight -= count;
                entry.retrying += count;
                Ok(())
            }
            _ => refuse(format!("wave {wave} does not have {count} devices in flight")),
        }
    }

    /// `count` devices of a wave that were in flight are settled: also while it is paused or stopped, and when it ends.
    pub fn settle(
        &mut self,
        wave: usize,
        outcome: Outcome,
        count: u64,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.settle_from(wave, outcome, count, now, "in flight", |entry| &mut entry.in_flight)
    }

    /// `count` devices of a wave that were not turned to yet are settled: they are gone, or refused, or skipped.
    pub fn settle_pending(
        &mut self,
        wave: usize,
        outcome: Outcome,
        count: u64,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.settle_from(wave, outcome, count, now, "pending", |entry| &mut entry.pending)
    }

    /// `count` devices of a wave that were to be tried again are settled.
    pub fn settle_retrying(
        &mut self,
        wave: usize,
        outcome: Outcome,
        count: u64,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.settle_from(wave, outcome, count, now, "retrying", |entry| &mut entry.retrying)
    }

    fn settle_from(
        &mut self,
        wave: usize,
        outcome: Outcome,
        count: u64,
        now: Timestamp,
        name: &str,
        from: impl Fn(&mut WaveState) -> &mut u64,
    ) -> Result<(), Refusal> {
        let Some(entry) = self.waves.get_mut(wave) else { return refuse(format!("there is no wave {wave}")) };
        let there = from(entry);
        if *there < count {
            return refuse(format!("wave {wave} has {there} devices {name}, not {count}"));
        }
        *there -= count;
        *match outcome {
            Outcome::Succeeded => &mut entry.ended.succeeded,
            Outcome::Failed => &mut entry.ended.failed,
            Outcome::TimedOut => &mut entry.ended.timed_out,
            Outcome::Rejected => &mut entry.ended.rejected,
            Outcome::Skipped => &mut entry.skipped,
        } += count;
        entry.settled = Some(now);
        Ok(())
    }

    /// Carries out a step that changes nothing but this state: opening a wave, observing, asking for approval, stopping,
    /// ending. `false`, and no change, for the others, which are the caller's to carry out.
    pub fn apply(&mut self, step: &RolloutStep, policy: &Rollout, now: Timestamp) -> bool {
        match step {
            RolloutStep::OpenWave { wave } => {
                self.waves[*wave].opened = Some(now);
                self.phase = Phase::Running;
            }
            RolloutStep::Observe => self.phase = Phase::Observing { since: now },
            RolloutStep::AskApproval => self.phase = Phase::AwaitingApproval { since: now },
            RolloutStep::Stop(cause) => {
                let (by, reason) = (cause.rule.as_str().to_owned(), cause.to_string());
                self.phase = match policy.on_stop {
                    OnStop::Pause => Phase::Stopped(cause.clone()),
                    OnStop::Abort => Phase::Aborting { by, reason },
                    OnStop::RollBack => Phase::RollingBack { by, reason },
                };
            }
            RolloutStep::Finish => {
                if !self.is_ending() {
                    self.phase = Phase::Done;
                }
                self.ended = Some(now);
            }
            _ => return false,
        }
        true
    }

    /// Whether nothing new will be begun any more.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Aborting { .. } | Phase::RollingBack { .. } | Phase::Done)
    }

    fn live(&self) -> Result<(), Refusal> {
        match &self.phase {
            _ if self.is_over() => refuse("the rollout is over"),
            Phase::Aborting { .. } => refuse("the rollout is being aborted"),
            Phase::RollingBack { .. } => refuse("the rollout is being rolled back"),
            _ => Ok(()),
        }
    }

    /// Nothing new is begun until somebody resumes it. Devices in flight go on.
    pub fn pause(&mut self, by: &str, reason: &str) -> Result<(), Refusal> {
        self.live()?;
        match &self.phase {
            Phase::Paused { by, .. } => refuse(format!("the rollout is paused already, by {by}")),
            Phase::Stopped(_) => refuse("a rule stopped the rollout already; resume, abort or roll it back"),
            _ => {
                self.phase = Phase::Paused { by: words(by), reason: words(reason) };
                Ok(())
            }
        }
    }

    /// It goes on. After a stop rule whoever resumes takes the responsibility: what went wrong so far is not counted by
    /// the rules again, and whom the policy does not let approve cannot resume. A pause begins the observation anew.
    pub fn resume(&mut self, policy: &Rollout, by: &str) -> Result<(), Refusal> {
        self.live()?;
        match &self.phase {
            Phase::Paused { .. } => {}
            Phase::Stopped(_) => {
                self.may_approve(policy, by)?;
                for wave in &mut self.waves {
                    wave.forgiven = wave.ended;
                }
            }
            _ => return refuse("the rollout is neither paused nor stopped"),
        }
        self.phase = Phase::Running;
        Ok(())
    }

    /// The next wave may open.
    pub fn approve(&mut self, policy: &Rollout, by: &str, now: Timestamp) -> Result<(), Refusal> {
        self.live()?;
        if !matches!(self.phase, Phase::AwaitingApproval { .. }) {
            return refuse("the rollout does not wait for approval");
        }
        self.may_approve(policy, by)?;
        let next = self.opened().len();
        if let Some(wave) = self.waves.get_mut(next) {
            wave.approved = Some(Approved { by: words(by), at: now });
        }
        self.phase = Phase::Running;
        Ok(())
    }

    fn may_approve(&self, policy: &Rollout, by: &str) -> Result<(), Refusal> {
        let by = words(by);
        let asked = by.trim().eq_ignore_ascii_case(self.asked_by.trim());
        match policy.advance.approval {
            _ if by.trim().is_empty() => refuse("it must be said who approves"),
            Approval::SecondPerson if asked => {
                refuse(format!("{by} asked for this rollout; a second person must approve it"))
            }
            _ => Ok(()),
        }
    }

    /// It ends after what is in flight.
    pub fn abort(&mut self, by: &str, reason: &str) -> Result<(), Refusal> {
        self.live()?;
        self.phase = Phase::Aborting { by: words(by), reason: words(reason) };
        Ok(())
    }

    /// It ends after what is in flight, and then what was done is undone.
    pub fn roll_back(&mut self, by: &str, reason: &str) -> Result<(), Refusal> {
        self.live()?;
        self.phase = Phase::RollingBack { by: words(by), reason: words(reason) };
        Ok(())
    }
}
