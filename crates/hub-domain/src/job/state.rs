//! Where a job stands, and its transitions. Counts are changed only together, so that they always add up to the targets.

use std::fmt;

use super::{ItemStatus, JobError, JobItem, JobSpec};
use crate::context::GatesOverride;
use crate::id::TwinId;
use crate::rollout::{Phase, RolloutState, StopRule};
use crate::time::Timestamp;

/// The word for the whole job (S 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Its time has not come.
    Scheduled,
    /// Its time has come, and it will start at once.
    Queued,
    /// It acts on its targets.
    Running,
    /// Every target was settled, well or not.
    Completed,
    /// It could not run; what was not done before that was not done.
    Failed,
    /// Somebody cancelled it; what had not been sent was not sent.
    Cancelled,
}

impl JobStatus {
    /// All of them.
    pub const ALL: [JobStatus; 6] = [
        JobStatus::Scheduled,
        JobStatus::Queued,
        JobStatus::Running,
        JobStatus::Completed,
        JobStatus::Failed,
        JobStatus::Cancelled,
    ];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            JobStatus::Scheduled => "scheduled",
            JobStatus::Queued => "queued",
            JobStatus::Running => "running",
            JobStatus::Completed => "completed",
            JobStatus::Failed => "failed",
            JobStatus::Cancelled => "cancelled",
        }
    }

    /// From the word, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many targets stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Nothing done yet.
    pub pending: u64,
    /// Called, answer unknown.
    pub running: u64,
    /// Done.
    pub succeeded: u64,
    /// Not done, for a reason of their own.
    pub failed: u64,
    /// Not done, because the job was cancelled.
    pub cancelled: u64,
}

impl JobCounts {
    /// All targets found so far.
    pub fn targets(&self) -> u64 {
        self.pending + self.running + self.succeeded + self.failed + self.cancelled
    }

    fn of(&mut self, item: &JobItem) -> &mut u64 {
        match item.status {
            ItemStatus::Pending => &mut self.pending,
            ItemStatus::Running => &mut self.running,
            ItemStatus::Completed => &mut self.succeeded,
            ItemStatus::Failed => &mut self.failed,
            ItemStatus::Cancelled => &mut self.cancelled,
        }
    }
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq)]
pub struct JobState {
    /// The word for it.
    pub status: JobStatus,
    /// Why it failed.
    pub failure: Option<String>,
    /// When it began to look for targets.
    pub started: Option<Timestamp>,
    /// When everything was settled.
    pub ended: Option<Timestamp>,
    /// The last target found: the search goes on after it.
    pub found_up_to: Option<TwinId>,
    /// Whether all targets were found. From then on the set is fixed.
    pub all_found: bool,
    /// How many targets stand where.
    pub counts: JobCounts,
    /// How far its rollout came, once it was planned.
    pub rollout: Option<RolloutState>,
    /// Who overrode its gates since it was created.
    pub gates_override: Option<GatesOverride>,
}

impl JobState {
    /// A job that was just created.
    pub fn new(created: Timestamp, start: Timestamp) -> Self {
        let status = if start > created { JobStatus::Scheduled } else { JobStatus::Queued };
        Self {
            status,
            failure: None,
            started: None,
            ended: None,
            found_up_to: None,
            all_found: false,
            counts: JobCounts::default(),
            rollout: None,
            gates_override: None,
        }
    }

    /// Whether nothing will change any more.
    pub fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// It starts.
    pub fn begin(&mut self, now: Timestamp) {
        self.status = JobStatus::Running;
        self.started = Some(now);
    }

    /// `count` more targets were found, the last of them `last`; `all` if there are no more.
    pub fn found(&mut self, count: u64, last: Option<TwinId>, all: bool) {
        self.counts.pending += count;
        self.found_up_to = last.or(self.found_up_to.take());
        self.all_found = all;
    }

    /// A target went from where it was to where it is. The only way in which counts change once targets were found.
    pub fn moved(&mut self, from: &JobItem, to: &JobItem, now: Timestamp) {
        *self.counts.of(from) -= 1;
        *self.counts.of(to) += 1;
        if let (Some(rollout), Some(wave)) = (&mut self.rollout, from.wave) {
            let wave = wave as usize;
            let was_running = from.status == ItemStatus::Running;
            // Refused only if the counts did not fit the rows, and then the counts of the rollout stay as they are.
            let _ = match to.outcome() {
                Some(outcome) if was_running => rollout.settle(wave, outcome, 1, now),
                Some(outcome) if from.is_retrying() => rollout.settle_retrying(wave, outcome, 1, now),
                Some(outcome) => rollout.settle_pending(wave, outcome, 1, now),
                None if was_running && to.status == ItemStatus::Pending => rollout.put_back(wave, 1),
                None => Ok(()),
            };
        }
    }

    /// Somebody cancels it. `false` if it is too late.
    pub fn cancel(&mut self, now: Timestamp) -> bool {
        match self.status {
            JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled => return false,
            JobStatus::Scheduled | JobStatus::Queued => self.ended = Some(now),
            JobStatus::Running => {}
        }
        self.status = JobStatus::Cancelled;
        if let Some(rollout) = &mut self.rollout {
            // Refused if it is ending already.
            let _ = rollout.abort("somebody", "the job was cancelled");
        }
        true
    }

    /// Who had the gates of this job overridden, if anybody had: when it was created, or since.
    pub fn gates_override(&self, spec: &JobSpec) -> Option<GatesOverride> {
        let created = || {
            let reason = spec.gates.as_ref()?.override_reason()?.to_owned();
            Some(GatesOverride { by: spec.asked_by.clone(), reason, at: spec.created })
        };
        self.gates_override.clone().or_else(created)
    }

    /// Somebody overrides the gates of a job that has not turned to all of its targets.
    pub fn override_gates(&mut self, spec: &JobSpec, by: GatesOverride) -> Result<(), JobError> {
        let id = &spec.id;
        let is_ending = self.rollout.as_ref().is_some_and(RolloutState::is_ending);
        let refusal = match self.gates_override(spec) {
            _ if spec.gates.is_none() => format!("job '{id}' has no gates: there is nothing to override"),
            _ if self.is_over() => format!("job '{id}' is over"),
            _ if is_ending || self.status == JobStatus::Cancelled => {
                format!("job '{id}' is ending: it turns to no more devices")
            }
            Some(former) => format!(
                "the gates of job '{id}' were overridden already, by {} at {}: {}",
                former.by, former.at, former.reason
            ),
            None => {
                self.gates_override = Some(by);
                return Ok(());
            }
        };
        Err(JobError(refusal))
    }

    /// It cannot run.
    pub fn fail(&mut self, reason: String, now: Timestamp) {
        self.status = JobStatus::Failed;
        self.failure = Some(reason);
        self.ended = Some(now);
    }

    /// Every target is settled.
    pub fn finish(&mut self, now: Timestamp) {
        if self.status == JobStatus::Running {
            self.status = JobStatus::Completed;
            if let Some(Phase::Aborting { by, reason } | Phase::RollingBack { by, reason }) =
                self.rollout.as_ref().map(|rollout| &rollout.phase)
            {
                let by_rule = StopRule::parse(by).is_some();
                self.status = if by_rule { JobStatus::Failed } else { JobStatus::Cancelled };
                self.failure = Some(reason.clone());
            }
        }
        self.ended = Some(now);
    }
}
