//! Jobs: one action over the devices that a condition selects, at a time, within a limit (S 6).
//!
//! A job is its [`JobSpec`], which never changes, its [`JobState`], and a [`JobItem`] for every target. What comes next
//! is decided by [`JobState::next_step`] alone. Nothing here acts on a device or knows who runs the job.

mod item;
mod state;
mod step;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use item::{ItemError, ItemStatus, JobItem, JobRow};
pub use state::{JobCounts, JobState, JobStatus, Settled};
pub use step::Step;

use crate::id::JobId;
use crate::limits::{JOB_AHEAD_MAX, JOB_EXECUTION_DEFAULT, JOB_EXECUTION_MAX};
use crate::method::MethodCall;
use crate::query::{Condition, Source};
use crate::time::Timestamp;
use crate::twin::TwinUpdate;

/// What is done to each target.
#[derive(Clone, Debug, PartialEq)]
pub enum JobAction {
    /// Merges into tags and desired properties.
    PatchTwin(TwinUpdate),
    /// Calls a direct method. The call's connect timeout is how long the job waits for a device that is offline.
    CallMethod {
        /// The call.
        call: MethodCall,
        /// Waits for devices that are offline as long as the job runs, instead of for the connect timeout.
        wait_for_devices: bool,
    },
}

impl JobAction {
    /// The word in requests, answers and queries.
    pub fn kind(&self) -> &'static str {
        match self {
            JobAction::PatchTwin(_) => "scheduleUpdateTwin",
            JobAction::CallMethod { .. } => "scheduleDeviceMethod",
        }
    }

    /// How long the job waits for a device that is offline; `None` is as long as it runs.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            JobAction::PatchTwin(_) => Some(Duration::ZERO),
            JobAction::CallMethod { wait_for_devices: true, .. } => None,
            JobAction::CallMethod { call, .. } => Some(call.connect_timeout),
        }
    }
}

/// What its creator asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    /// Its name.
    pub id: JobId,
    /// What is done to each target.
    pub action: JobAction,
    /// The condition as it was given.
    pub condition_text: String,
    /// The same, parsed.
    pub condition: Condition,
    /// When it was created.
    pub created: Timestamp,
    /// When it shall start: never before `created`.
    pub start: Timestamp,
    /// How long after its start it may act on devices.
    pub execution_max: Duration,
}

/// Why something is not a job. The text says what was wrong and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobError(String);

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for JobError {}

impl JobSpec {
    /// Checks a request. No start, or one in the past, is now; no time is [`JOB_EXECUTION_DEFAULT`].
    pub fn new(
        id: JobId,
        action: JobAction,
        condition: &str,
        start: Option<Timestamp>,
        execution_max: Option<Duration>,
        now: Timestamp,
    ) -> Result<Self, JobError> {
        let parsed = Condition::parse(condition)
            .map_err(|error| JobError(format!("queryCondition is invalid: {error}")))?;
        if parsed.source() == Source::DeviceJobs {
            return Err(JobError(
                "queryCondition is over devices or devices.modules, not devices.jobs".into(),
            ));
        }
        if parsed.is_nothing() {
            return Err(JobError("queryCondition is empty; '*' selects every device".into()));
        }
        let execution_max = execution_max.unwrap_or(JOB_EXECUTION_DEFAULT);
        if execution_max.is_zero() || execution_max > JOB_EXECUTION_MAX {
            return Err(JobError(format!(
                "maxExecutionTimeInSeconds is {}, it must be within [1; {}]",
                execution_max.as_secs(),
                JOB_EXECUTION_MAX.as_secs()
            )));
        }
        let start = start.map_or(now, |start| start.max(now));
        if start.since(now) > JOB_AHEAD_MAX {
            return Err(JobError(format!(
                "startTime is {start}, it may be at most {} days ahead",
                JOB_AHEAD_MAX.as_secs() / 86_400
            )));
        }
        let condition_text = condition.to_owned();
        Ok(Self { id, action, condition_text, condition: parsed, created: now, start, execution_max })
    }

    /// From here on it acts on no device. Counted from the time it was set for, so that a hub that was down does not
    /// act outside of the window that its operator chose.
    pub fn deadline(&self) -> Timestamp {
        self.start.plus(self.execution_max)
    }
}
