//! What a job does next: the whole brain of whoever runs it, decided from the stored state and the time alone, so that it
//! is the same after a restart.

use super::{JobSpec, JobState, JobStatus};
use crate::rollout::RolloutStep;
use crate::time::Timestamp;

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before this time.
    WaitUntil(Timestamp),
    /// Start looking for targets.
    Begin,
    /// Its window passed before it could start: no target is looked for.
    Miss,
    /// Note the next page of targets.
    Find,
    /// Act on pending targets.
    Run,
    /// Give each target its wave.
    Plan,
    /// What the rollout wants.
    Rollout(RolloutStep),
    /// The time of a rollout is over: end it.
    CutShort,
    /// Settle what is pending: its time is over.
    Expire,
    /// Settle what is pending: it was cancelled.
    Cancel,
    /// Only answers are missing.
    Await,
    /// All is settled: note the end.
    Finish,
    /// The end was noted.
    Over,
}

impl JobState {
    /// What comes next at `now`.
    pub fn next_step(&self, spec: &JobSpec, now: Timestamp) -> Step {
        if self.is_over() {
            return Step::Over;
        }
        let settled = |pending: Step| match (self.counts.pending, self.counts.running) {
            (0, 0) => Step::Finish,
            (0, _) => Step::Await,
            _ => pending,
        };
        let late = now >= spec.deadline();
        match self.status {
            JobStatus::Scheduled | JobStatus::Queued if now < spec.start => Step::WaitUntil(spec.start),
            JobStatus::Scheduled | JobStatus::Queued if late => Step::Miss,
            JobStatus::Scheduled | JobStatus::Queued => Step::Begin,
            // Also when it is late: who asks later must see every target that was not reached.
            JobStatus::Running if !self.all_found => Step::Find,
            JobStatus::Running if spec.rollout.is_some() => self.rollout_step(spec, late, now),
            JobStatus::Running => settled(if late { Step::Expire } else { Step::Run }),
            JobStatus::Cancelled => settled(Step::Cancel),
            JobStatus::Completed | JobStatus::Failed => settled(Step::Expire),
        }
    }

    fn rollout_step(&self, spec: &JobSpec, late: bool, now: Timestamp) -> Step {
        match (&spec.rollout, &self.rollout) {
            _ if self.counts.targets() == 0 => Step::Finish,
            (_, None) if late => Step::Expire,
            (Some(_), None) => Step::Plan,
            (Some(_), Some(rollout)) if late && !rollout.is_ending() && !rollout.is_over() => Step::CutShort,
            (Some(policy), Some(rollout)) => Step::Rollout(rollout.next_step(policy, now)),
            (None, _) => Step::Run,
        }
    }
}
