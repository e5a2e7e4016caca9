//! What a job does next: the whole brain of whoever runs it, decided from the stored state and the time alone, so that it
//! is the same after a restart.

use super::{JobSpec, JobState, JobStatus};
use crate::time::Timestamp;

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            JobStatus::Running => settled(if late { Step::Expire } else { Step::Run }),
            JobStatus::Cancelled => settled(Step::Cancel),
            JobStatus::Completed | JobStatus::Failed => settled(Step::Expire),
        }
    }
}
