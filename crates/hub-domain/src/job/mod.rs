//! Jobs: one action over the devices that a condition selects, at a time, within a limit (S 6).
//!
//! A job is its [`JobSpec`], which never changes, its [`JobState`], and a [`JobItem`] for every target. What comes next
//! is decided by [`JobState::next_step`] alone. Nothing here acts on a device or knows who runs the job.

mod item;
mod management;
pub mod outcome;
mod state;
mod step;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use item::{ItemError, ItemStatus, JobItem, JobRow};
pub use management::{Act, Firmware, Management, ParameterError, Reported};
pub use state::{JobCounts, JobState, JobStatus};
pub use step::Step;

use crate::actor::Actor;
use crate::context::Gates;
use crate::id::{DeviceId, JobId};
use crate::limits::{JOB_AHEAD_MAX, JOB_EXECUTION_DEFAULT, JOB_EXECUTION_MAX, JOB_LISTED_DEVICES_MAX};
use crate::method::{MethodCall, MethodResult};
use crate::query::{Condition, Source};
use crate::retirement::RetireRequest;
use crate::rights::Rights;
use crate::rollout::{OnStop, Rollout, Success};
use crate::time::Timestamp;
use crate::twin::TwinUpdate;

/// The word of the job type that retires devices.
pub const RETIRE: &str = "retireDevice";

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
    /// One of the types of device management: done when the device has reported so.
    Manage {
        /// Which.
        management: Management,
        /// Waits for devices that are offline as long as the job runs.
        wait_for_devices: bool,
    },
    /// Brings back what the job that is undone took away from the target's twin.
    RestoreTwin,
    /// Takes devices out of the registry, as if somebody retired each of them.
    Retire {
        /// How.
        request: RetireRequest,
        /// Waits for devices that are offline and must sign for their erasure as long as the job runs.
        wait_for_devices: bool,
    },
    /// Brings back the devices that the job that is undone retired.
    RestoreDevice,
}

impl JobAction {
    /// The word in requests, answers and queries.
    pub fn kind(&self) -> &'static str {
        match self {
            JobAction::PatchTwin(_) => "scheduleUpdateTwin",
            JobAction::CallMethod { .. } => "scheduleDeviceMethod",
            JobAction::Manage { management, .. } => management.kind(),
            JobAction::RestoreTwin => "scheduleUpdateTwin",
            JobAction::Retire { .. } => RETIRE,
            JobAction::RestoreDevice => "restoreDevice",
        }
    }

    /// How long the job waits for a device that is offline; `None` is as long as it runs.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            _ if !self.needs_connection() => Some(Duration::ZERO),
            JobAction::CallMethod { wait_for_devices: true, .. }
            | JobAction::Manage { wait_for_devices: true, .. }
            | JobAction::Retire { wait_for_devices: true, .. } => None,
            JobAction::CallMethod { call, .. } => Some(call.connect_timeout),
            JobAction::Retire { request, .. } => request.erase.as_ref().map(|call| call.connect_timeout),
            _ => Some(Duration::ZERO),
        }
    }

    /// How each target is reached.
    pub fn act(&self) -> Act {
        match self {
            JobAction::PatchTwin(update) => Act::Patch(update.clone()),
            JobAction::CallMethod { call, .. } => Act::Call(call.clone()),
            JobAction::Manage { management, .. } => management.act(),
            JobAction::RestoreTwin => Act::Restore,
            JobAction::Retire { request, .. } => Act::Retire(request.clone()),
            JobAction::RestoreDevice => Act::RestoreDevice,
        }
    }

    /// Whether twins of targets are patched.
    pub fn is_patch(&self) -> bool {
        match self {
            JobAction::PatchTwin(_) | JobAction::RestoreTwin => true,
            JobAction::Manage { management, .. } => management.is_patch(),
            JobAction::CallMethod { .. } | JobAction::Retire { .. } | JobAction::RestoreDevice => false,
        }
    }

    /// Whether a target must be connected for its turn.
    pub fn needs_connection(&self) -> bool {
        match self {
            JobAction::CallMethod { .. } => true,
            JobAction::Manage { management, .. } => !management.is_patch(),
            // With force it is retired whether it can be asked or not.
            JobAction::Retire { request, .. } => request.erase.is_some() && !request.force,
            JobAction::PatchTwin(_) | JobAction::RestoreTwin | JobAction::RestoreDevice => false,
        }
    }

    /// Whether it takes devices out of the registry.
    pub fn is_retirement(&self) -> bool {
        matches!(self, JobAction::Retire { .. })
    }

    /// What undoes it, if that follows from what it did.
    fn inverse(&self) -> Option<JobAction> {
        match self {
            JobAction::Retire { .. } => Some(JobAction::RestoreDevice),
            _ => self.is_patch().then_some(JobAction::RestoreTwin),
        }
    }

    /// What it takes to let it act.
    fn rights(&self) -> Rights {
        match self {
            JobAction::Retire { .. } | JobAction::RestoreDevice => {
                Rights::SERVICE_CONNECT.with(Rights::REGISTRY_WRITE)
            }
            _ => Rights::SERVICE_CONNECT,
        }
    }
}

/// What its creator asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// Its name.
    pub id: JobId,
    /// What is done to each target.
    pub action: JobAction,
    /// Which devices: the body of a WHERE, or `*`.
    pub condition: String,
    /// These devices instead, at most [`JOB_LISTED_DEVICES_MAX`]; the condition is `*` then.
    pub listed: Option<Vec<DeviceId>>,
    /// When; now if there is none or it is past.
    pub start: Option<Timestamp>,
    /// How long it may act on devices; [`JOB_EXECUTION_DEFAULT`] if there is none.
    pub execution_max: Option<Duration>,
    /// How long a device that took the action may be silent before it counts as failed; as long as the job runs if there
    /// is none.
    pub device_timeout: Option<Duration>,
    /// How it goes through its targets, and when it stops by itself; all at once if there is none.
    pub rollout: Option<Rollout>,
    /// What a device must bear to be acted on.
    pub gates: Option<Gates>,
    /// How it is undone, if what it does is no patch of twins: those are brought back to what they were.
    pub roll_back: Option<JobAction>,
}

/// The same, checked.
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
    /// The only devices that are targets, in their order and each once.
    pub listed: Option<Vec<DeviceId>>,
    /// When it was created.
    pub created: Timestamp,
    /// When it shall start: never before `created`.
    pub start: Timestamp,
    /// How long after its start it may act on devices.
    pub execution_max: Duration,
    /// How long a device that took the action may be silent.
    pub device_timeout: Option<Duration>,
    /// How it goes through its targets; with gates there always is one.
    pub rollout: Option<Rollout>,
    /// What a device must bear to be acted on.
    pub gates: Option<Gates>,
    /// How it is undone.
    pub roll_back: Option<JobAction>,
    /// The job that this one undoes; its targets are those of that job which were turned to.
    pub undoes: Option<JobId>,
    /// Who asked for it.
    pub asked_by: Actor,
}

/// What came of a call or a patch: the device's answer and the version of its desired section, where there are any.
pub type Taken = Result<(Option<MethodResult>, Option<u64>), ItemError>;

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
    /// Checks a request. `drawn` is a random number, for a rollout without a seed of its own.
    pub fn new(new: NewJob, asked_by: Actor, drawn: u64, now: Timestamp) -> Result<Self, JobError> {
        let NewJob { id, action, condition: condition_text, start, execution_max, .. } = new;
        let (device_timeout, roll_back) = (new.device_timeout, new.roll_back);
        let listed = new.listed.map(listed).transpose()?;
        let gates = new.gates.filter(|gates| !gates.is_empty());
        let rollout = new.rollout.or_else(|| gates.is_some().then(Rollout::default));
        let rollout = rollout.map(|rollout| rollout.with_seed(drawn));
        let parsed = Condition::parse(&condition_text)
            .map_err(|error| JobError(format!("queryCondition is invalid: {error}")))?;
        if let source @ (Source::DeviceJobs | Source::RetiredDevices) = parsed.source() {
            let text = format!("queryCondition is over devices or devices.modules, not {source}");
            return Err(JobError(text));
        }
        if parsed.is_nothing() {
            return Err(JobError("queryCondition is empty; '*' selects every device".into()));
        }
        if let JobAction::Retire { request, .. } = &action {
            check_retirement(request, &parsed, rollout.as_ref())?;
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
        if device_timeout.is_some_and(|timeout| timeout.is_zero() || timeout > execution_max) {
            return Err(JobError(format!(
                "deviceTimeoutInSeconds must be within [1; {}], the time that the job has",
                execution_max.as_secs()
            )));
        }
        let stops_by_rolling_back =
            rollout.as_ref().is_some_and(|rollout| rollout.on_stop == OnStop::RollBack);
        if stops_by_rolling_back && roll_back.is_none() && action.inverse().is_none() {
            return Err(JobError(
                "rollout.onStop is rollBack, which needs to know how: give rollBack with a type and its parameters".into(),
            ));
        }
        let created = now;
        let undoes = None;
        Ok(Self {
            rollout,
            gates,
            roll_back,
            undoes,
            asked_by,
            id,
            action,
            condition_text,
            condition: parsed,
            listed,
            created,
            start,
            execution_max,
            device_timeout,
        })
    }

    /// From here on it acts on no device. Counted from the time it was set for, so that a hub that was down does not
    /// act outside of the window that its operator chose.
    pub fn deadline(&self) -> Timestamp {
        self.start.plus(self.execution_max)
    }

    /// What it takes to let it act, and to undo it.
    pub fn rights(&self) -> Rights {
        let undo = self.roll_back.as_ref().map_or(Rights::NONE, JobAction::rights);
        self.action.rights().with(undo)
    }

    /// Whether a device is done only when it has reported so.
    pub fn awaits_reports(&self) -> bool {
        let by_rollout = |rollout: &Rollout| matches!(rollout.success, Success::Reported { .. });
        matches!(self.action, JobAction::Manage { .. }) || self.rollout.as_ref().is_some_and(by_rollout)
    }
}

/// A list of targets, in order and each once.
fn listed(mut devices: Vec<DeviceId>) -> Result<Vec<DeviceId>, JobError> {
    devices.sort_unstable();
    devices.dedup();
    match devices.len() {
        0 => Err(JobError("devices is empty: there is nothing to act on".into())),
        count if count > JOB_LISTED_DEVICES_MAX => Err(JobError(format!(
            "devices has {count} ids, at most {JOB_LISTED_DEVICES_MAX} are allowed; select more by a condition over a tag"
        ))),
        _ => Ok(devices),
    }
}

fn check_retirement(
    request: &RetireRequest,
    condition: &Condition,
    rollout: Option<&Rollout>,
) -> Result<(), JobError> {
    request.check().map_err(|error| JobError(format!("parameters: {error}")))?;
    if condition.source() != Source::Devices {
        let text = "queryCondition is over devices.modules; devices are retired, and their modules with them";
        return Err(JobError(text.into()));
    }
    if rollout.is_some_and(|rollout| matches!(rollout.success, Success::Reported { .. })) {
        let text =
            "rollout.success is a condition, but a device that is retired reports nothing; leave it out";
        return Err(JobError(text.into()));
    }
    Ok(())
}
