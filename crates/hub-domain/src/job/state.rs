//! Where a job stands, and its transitions. Counts are changed only together, so that they always add up to the targets.

use std::fmt;

use crate::id::TwinId;
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
}

/// How targets of one batch were settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Done.
    pub succeeded: u64,
    /// Not done.
    pub failed: u64,
}

impl Settled {
    /// One more, well or not.
    pub fn count(&mut self, well: bool) {
        *(if well { &mut self.succeeded } else { &mut self.failed }) += 1;
    }
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

    /// The job turns to `count` pending targets.
    pub fn run(&mut self, count: u64) {
        self.counts.pending -= count;
        self.counts.running += count;
    }

    /// Running targets were settled.
    pub fn settle_running(&mut self, settled: Settled) {
        self.counts.running -= settled.succeeded + settled.failed;
        self.add(settled);
    }

    /// Pending targets were settled.
    pub fn settle_pending(&mut self, settled: Settled) {
        self.counts.pending -= settled.succeeded + settled.failed;
        self.add(settled);
    }

    fn add(&mut self, settled: Settled) {
        self.counts.succeeded += settled.succeeded;
        self.counts.failed += settled.failed;
    }

    /// Somebody cancels it. `false` if it is too late.
    pub fn cancel(&mut self, now: Timestamp) -> bool {
        match self.status {
            JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled => return false,
            JobStatus::Scheduled | JobStatus::Queued => self.ended = Some(now),
            JobStatus::Running => {}
        }
        self.status = JobStatus::Cancelled;
        true
    }

    /// `count` pending targets will not have their turn.
    pub fn cancelled(&mut self, count: u64) {
        self.counts.pending -= count;
        self.counts.cancelled += count;
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
        }
        self.ended = Some(now);
    }
}
