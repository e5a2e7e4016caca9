//! What becomes of a target after it was turned to: done, to be waited for, to be tried again, or failed, and how a
//! rollout counts that. One place for the codes of errors, since both retries and stop rules go by them.

use serde_json::{Map, Value, json};

use super::{ItemError, ItemStatus, JobAction, JobItem, JobSpec, Reported, Taken};
use crate::context::Deferral;
use crate::id::JobId;
use crate::json::Object;
use crate::limits::ID_CHARS_MAX;
use crate::method::MethodResult;
use crate::rollout::{Attempt, Class, Outcome, Retry, Rollout, Success};
use crate::time::Timestamp;
use crate::twin::{Twin, TwinDocument, TwinPatch, TwinUpdate};

/// The device said no.
pub const DEVICE_REJECTED: &str = "DeviceRejected";
/// The device said "not now" more often than the policy bears.
pub const DEVICE_DEFERRED: &str = "DeviceDeferred";
/// The device answered that it went wrong.
pub const DEVICE_FAILED: &str = "DeviceFailed";
/// The device took the action and did not report its end in time.
pub const NOT_REPORTED: &str = "NotReported";
/// Another rollout has the device.
pub const DEVICE_BUSY: &str = "DeviceBusy";
/// The device was retired.
pub const DEVICE_RETIRED: &str = "DeviceRetired";
/// The device did not prove that it erased itself.
pub const NO_RECEIPT: &str = "NoReceipt";
/// The time of the whole job was over.
pub const JOB_TIME_OVER: &str = "JobTimeOver";
/// The hub stopped while it waited for an answer.
pub const OUTCOME_UNKNOWN: &str = "OutcomeUnknown";

/// Ends the name of a job that undoes another.
const UNDO_SUFFIX: &str = "-rollback";

/// What an error says of an attempt; `None`: nothing would change if it were tried again.
fn class_of(code: &str) -> Option<Class> {
    match code {
        "404103" | "404104" => Some(Class::Offline),
        "504101" | NOT_REPORTED => Some(Class::TimedOut),
        "403800" | "429001" | "503005" | DEVICE_DEFERRED => Some(Class::Deferred),
        "404001" | "404010" | DEVICE_RETIRED | "400004" | JOB_TIME_OVER | OUTCOME_UNKNOWN | DEVICE_BUSY => {
            None
        }
        DEVICE_REJECTED => Some(Class::Rejected),
        _ => Some(Class::Failed),
    }
}

impl JobItem {
    /// How a rollout counts a target that is settled.
    pub fn outcome(&self) -> Option<Outcome> {
        let code = self.error.as_ref().map_or("", |error| error.code.as_str());
        match (self.status, code) {
            (ItemStatus::Pending | ItemStatus::Running, _) => None,
            (ItemStatus::Completed, _) => Some(Outcome::Succeeded),
            (ItemStatus::Cancelled, _) => Some(Outcome::Skipped),
            // It is gone.
            (ItemStatus::Failed, "404001" | "404010" | DEVICE_RETIRED) => Some(Outcome::Skipped),
            (ItemStatus::Failed, DEVICE_BUSY) => Some(Outcome::Rejected),
            (ItemStatus::Failed, JOB_TIME_OVER) => Some(Outcome::TimedOut),
            (ItemStatus::Failed, code) => Some(class_of(code).map_or(Outcome::Failed, Class::outcome)),
        }
    }
}

impl JobSpec {
    /// A target whose device is about to be called or patched.
    pub fn begin(&self, item: JobItem, twin: &Twin, now: Timestamp) -> JobItem {
        let before = match &self.action {
            JobAction::Manage { management, .. } => management.before(twin),
            _ => None,
        };
        let before = before.or_else(|| self.rollout.is_some().then(|| self.former(twin)).flatten());
        // What is undone is what was there before the first attempt.
        let before =
            if item.started.is_some() && self.action.is_patch() { item.before.clone() } else { before };
        JobItem { before, ..item.run(now) }
    }

    /// What a patch of `twin` would take away: the patch that brings it back.
    fn former(&self, twin: &Twin) -> Option<Value> {
        let super::Act::Patch(update) = self.action.act() else { return None };
        let tags = update.tags.map(|patch| inverse(patch.object(), &twin.tags));
        let desired = update.desired.map(|patch| inverse(patch.object(), &twin.desired.values));
        Some(json!({ "tags": tags, "desired": desired }))
    }

    /// A target that was called, or patched to `version` of its desired section, as it stands then.
    pub fn taken(&self, item: JobItem, outcome: Taken, now: Timestamp) -> JobItem {
        let (answer, version) = match outcome {
            Err(error) => return self.attempt_failed(item, error, None, now),
            Ok(taken) => taken,
        };
        if let Some(answer) = &answer
            && let Err((error, again_at)) = self.takes(answer, now)
        {
            let item = self.attempt_failed(item, error, again_at, now);
            // Of an attempt that is not the last only the error is kept.
            let answer = (item.status == ItemStatus::Failed).then(|| answer.clone());
            return JobItem { answer, ..item };
        }
        if self.awaits_reports() { item.act(answer, version, now) } else { item.settle(Ok(answer), now) }
    }

    /// Whether a device that says "not now" is asked again. Clients of the service, which know no such thing, get its answer
    /// as the outcome of a plain method (S 6.2).
    fn honours_deferral(&self) -> bool {
        self.rollout.is_some()
            || !matches!(self.action, JobAction::CallMethod { wait_for_devices: false, .. })
    }

    /// Whether an answer says that the device took the action; if not, why, and when it wants to be asked again.
    fn takes(&self, answer: &MethodResult, now: Timestamp) -> Result<(), (ItemError, Option<Timestamp>)> {
        let manages = match &self.action {
            JobAction::Manage { management, .. } => management.takes(answer),
            JobAction::Retire { .. } if !answer.is_success() => Err(super::management::rejection(answer)),
            _ if self.rollout.is_none() => Ok(()),
            _ if Class::of_status(answer.status).is_none() => Ok(()),
            _ => Err(super::management::rejection(answer)),
        };
        if !self.honours_deferral() {
            return manages.map_err(|error| (error, None));
        }
        if let Some(deferral) = Deferral::from_answer(answer, now) {
            let reason = deferral.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let description = format!("the device said not now{reason}");
            return Err((ItemError { code: DEVICE_DEFERRED.into(), description }, Some(deferral.until)));
        }
        manages.map_err(|error| {
            if self.rollout.is_none() {
                return (error, None);
            }
            let failed = Class::of_status(answer.status) == Some(Class::Failed);
            let code = if failed { DEVICE_FAILED.into() } else { error.code };
            (ItemError { code, ..error }, None)
        })
    }

    /// A target that is settled by what its device reported, or by its silence; or is tried again.
    pub fn concluded(&self, item: JobItem, outcome: Result<Value, ItemError>, now: Timestamp) -> JobItem {
        match outcome {
            Ok(report) => item.conclude(Ok(report), now),
            Err(error) => self.attempt_failed(item, error, None, now),
        }
    }

    /// A target that was asked to erase itself before it is retired: why there is no proof of that, if it is to be retired
    /// all the same; or else how it stands.
    pub fn unproven(
        &self,
        item: JobItem,
        outcome: Taken,
        force: bool,
        now: Timestamp,
    ) -> Result<Option<String>, Box<JobItem>> {
        let after = self.taken(item, outcome, now);
        match &after.error {
            None => Ok(None),
            // A device that wants to be asked again later is, as long as the policy bears it.
            Some(error) if force && (after.status == ItemStatus::Failed || error.code != DEVICE_DEFERRED) => {
                Ok(Some(error.description.clone()))
            }
            Some(_) => Err(Box::new(after)),
        }
    }

    fn attempt_failed(
        &self,
        item: JobItem,
        error: ItemError,
        again_at: Option<Timestamp>,
        now: Timestamp,
    ) -> JobItem {
        match self.again_at(&item, &error, again_at, now) {
            Some((at, class)) => item.put_back(at, class, error),
            None => item.conclude(Err(error), now),
        }
    }

    fn again_at(
        &self,
        item: &JobItem,
        error: &ItemError,
        again_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<(Timestamp, Class)> {
        let class = class_of(&error.code)?;
        let Some(rollout) = &self.rollout else {
            return again_at.filter(|at| *at < self.deadline()).map(|at| (at, class));
        };
        let first = item.started.unwrap_or(now);
        let attempt = Attempt { class, retries: item.retries_of(class), first, again_at };
        match rollout.retry(&attempt, rollout.spread(&item.id), now) {
            Retry::At(at) if at < self.deadline() => Some((at, class)),
            _ => None,
        }
    }

    /// What the twin in `document` says of a target that [awaits a report](JobItem::awaits_report).
    pub fn reported(&self, item: &JobItem, document: &TwinDocument<'_>) -> Reported {
        let managed = match &self.action {
            JobAction::Manage { management, .. } => management.reported(item, document.twin),
            _ => Reported::Done(Value::Null),
        };
        match self.rollout.as_ref().map(|rollout| &rollout.success) {
            Some(Success::Reported { text, condition }) if !matches!(managed, Reported::Failed(_)) => {
                match (condition.matches(document), managed) {
                    (true, Reported::Done(report)) if !report.is_null() => Reported::Done(report),
                    (true, _) => Reported::Done(json!({ "matches": text })),
                    (false, Reported::Underway(step)) => Reported::Underway(step),
                    (false, _) => Reported::Underway(None),
                }
            }
            _ => managed,
        }
    }

    /// When a target whose report is awaited is given up. `heard`: when its device last reported anything.
    pub fn report_deadline(&self, item: &JobItem, heard: Timestamp) -> Timestamp {
        let acted = item.acted.unwrap_or(item.created);
        let own = self.device_timeout.map(|timeout| acted.plus(timeout));
        let of_rollout = self.rollout.as_ref().map(|rollout| {
            let first = item.started.unwrap_or(acted);
            rollout.deadline(first, heard.max(acted))
        });
        [own, of_rollout].into_iter().flatten().fold(self.deadline(), Timestamp::min)
    }

    /// Whether what it does can be undone: a patch by itself, anything else if its creator said how.
    pub fn can_be_undone(&self) -> bool {
        self.rollout.is_some()
            && self.undoes.is_none()
            && (self.roll_back.is_some() || self.action.inverse().is_some())
    }

    /// The job that undoes this one, beginning at `now`, with the same gates and caps; `None` if it cannot be undone.
    pub fn undo(&self, now: Timestamp) -> Option<JobSpec> {
        if !self.can_be_undone() {
            return None;
        }
        let mut name = self.id.as_str().to_owned();
        name.truncate(ID_CHARS_MAX.saturating_sub(UNDO_SUFFIX.len()));
        let rollout = self.rollout.as_ref().map(|rollout| Rollout {
            seed: rollout.seed,
            limits: rollout.limits.clone(),
            retry: rollout.retry,
            device_timeout: rollout.device_timeout,
            ..Rollout::default()
        });
        Some(JobSpec {
            id: JobId::parse(&(name + UNDO_SUFFIX)).ok()?,
            action: self.roll_back.clone().or_else(|| self.action.inverse())?,
            created: now,
            start: now,
            rollout,
            roll_back: None,
            undoes: Some(self.id.clone()),
            ..self.clone()
        })
    }

    /// The patch that brings back what a target's patch took away; `None` if it was never patched.
    pub fn restoring(item: &JobItem) -> Option<TwinUpdate> {
        let section = |name: &str| {
            let object = item.before.as_ref()?.get(name)?.as_object()?;
            TwinPatch::new(object.clone()).ok()
        };
        let update = TwinUpdate { tags: section("tags"), desired: section("desired") };
        (update != TwinUpdate::default()).then_some(update)
    }
}

/// The patch that undoes `patch` of `former`.
fn inverse(patch: &Object, former: &Object) -> Object {
    let undo = |(name, value): (&String, &Value)| {
        let former = match (value, former.get(name)) {
            (Value::Object(patch), Some(Value::Object(former))) => Value::Object(inverse(patch, former)),
            (_, Some(former)) => former.clone(),
            (_, None) => Value::Null,
        };
        (name.clone(), former)
    };
    Map::from_iter(patch.iter().map(undo))
}
