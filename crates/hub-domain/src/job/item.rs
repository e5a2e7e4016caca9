//! What becomes of a job on one target: the record that `devices.jobs` shows (S 6.2).

use serde_json::{Map, Value, json};

use super::{JobSpec, Reported};
use crate::id::TwinId;
use crate::method::MethodResult;
use crate::query::{Datum, Path, Row};
use crate::rollout::Class;
use crate::time::Timestamp;
use crate::twin::TwinDocument;

/// Where a target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemStatus {
    /// Nothing was done yet.
    Pending,
    /// The device was, or is about to be, called; its answer is not known.
    Running,
    /// Done; for a method, the device answered, whatever status it gave.
    Completed,
    /// Not done; the error says why.
    Failed,
    /// Not done, because the job was cancelled before its turn.
    Cancelled,
}

impl ItemStatus {
    /// All of them.
    pub const ALL: [ItemStatus; 5] = [
        ItemStatus::Pending,
        ItemStatus::Running,
        ItemStatus::Completed,
        ItemStatus::Failed,
        ItemStatus::Cancelled,
    ];

    /// The word in documents; `canceled` with one `l`, unlike that of jobs (S 6.2).
    pub fn as_str(self) -> &'static str {
        match self {
            ItemStatus::Pending => "pending",
            ItemStatus::Running => "running",
            ItemStatus::Completed => "completed",
            ItemStatus::Failed => "failed",
            ItemStatus::Cancelled => "canceled",
        }
    }

    /// From the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// Why a target failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemError {
    /// A number of the catalogue of errors, as text, or one of our own words.
    pub code: String,
    /// For people.
    pub description: String,
}

/// One target of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobItem {
    /// The device or module.
    pub id: TwinId,
    /// Where it stands.
    pub status: ItemStatus,
    /// When it became a target.
    pub created: Timestamp,
    /// When the job turned to it.
    pub started: Option<Timestamp>,
    /// When it was settled.
    pub ended: Option<Timestamp>,
    /// The device's answer.
    pub answer: Option<MethodResult>,
    /// Why it failed.
    pub error: Option<ItemError>,
    /// When the device took the action; from then on its report is waited for.
    pub acted: Option<Timestamp>,
    /// What its twin said before, see [`super::Management::before`].
    pub before: Option<Value>,
    /// The version of its desired section that was written.
    pub version: Option<u64>,
    /// What it reported in the end.
    pub report: Option<Value>,
    /// Its wave, from 0, once a rollout was planned.
    pub wave: Option<u32>,
    /// Retries by class of outcome, see [`JobItem::retries_of`].
    pub retries: [u64; 5],
    /// Not turned to before.
    pub not_before: Option<Timestamp>,
}

fn index_of(class: Class) -> usize {
    match class {
        Class::Rejected => 0,
        Class::Failed => 1,
        Class::Deferred => 2,
        Class::Offline => 3,
        Class::TimedOut => 4,
    }
}

impl JobItem {
    /// A new target.
    pub fn new(id: TwinId, now: Timestamp) -> Self {
        Self {
            id,
            status: ItemStatus::Pending,
            created: now,
            started: None,
            ended: None,
            answer: None,
            error: None,
            acted: None,
            before: None,
            version: None,
            report: None,
            wave: None,
            retries: [0; 5],
            not_before: None,
        }
    }

    /// How often it was tried again after an attempt of this class.
    pub fn retries_of(&self, class: Class) -> u64 {
        self.retries[index_of(class)]
    }

    /// It was turned to before, and is to be turned to again.
    pub fn is_retrying(&self) -> bool {
        self.status == ItemStatus::Pending && self.started.is_some()
    }

    /// An attempt failed with this error, and there will be another.
    #[must_use]
    pub fn put_back(mut self, at: Timestamp, class: Class, error: ItemError) -> Self {
        self.retries[index_of(class)] += 1;
        let (status, not_before) = (ItemStatus::Pending, Some(at));
        Self { status, not_before, error: Some(error), acted: None, answer: None, version: None, ..self }
    }

    /// The job turns to it.
    #[must_use]
    pub fn run(self, now: Timestamp) -> Self {
        let started = self.started.or(Some(now));
        Self { status: ItemStatus::Running, started, error: None, not_before: None, ..self }
    }

    /// The device took it: it answered, or has a new desired section. What it reports is waited for.
    #[must_use]
    pub fn act(self, answer: Option<MethodResult>, version: Option<u64>, now: Timestamp) -> Self {
        let started = self.started.or(Some(now));
        Self { status: ItemStatus::Running, started, acted: Some(now), answer, version, ..self }
    }

    /// Its report is all that is missing.
    pub fn awaits_report(&self) -> bool {
        self.status == ItemStatus::Running && self.acted.is_some()
    }

    /// It is settled by what the device reported, or by its silence.
    #[must_use]
    pub fn conclude(self, outcome: Result<Value, ItemError>, now: Timestamp) -> Self {
        let (status, report, error) = match outcome {
            Ok(report) => (ItemStatus::Completed, Some(report), None),
            Err(error) => (ItemStatus::Failed, None, Some(error)),
        };
        Self { status, ended: Some(now), report, error, ..self }
    }

    /// It is settled.
    #[must_use]
    pub fn settle(self, outcome: Result<Option<MethodResult>, ItemError>, now: Timestamp) -> Self {
        let started = self.started.or(Some(now));
        let (status, answer, error) = match outcome {
            Ok(answer) => (ItemStatus::Completed, answer, None),
            Err(error) => (ItemStatus::Failed, None, Some(error)),
        };
        Self { status, started, ended: Some(now), answer, error, not_before: None, ..self }
    }

    /// Its turn will not come.
    #[must_use]
    pub fn cancel(self, now: Timestamp) -> Self {
        Self { status: ItemStatus::Cancelled, ended: Some(now), ..self }
    }
}

/// A target with what its job says of all of them: one row of `devices.jobs`.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRow {
    document: Value,
}

impl JobRow {
    /// The record in the shape of S 6.2; `twin` is the target's, for the step that it reports.
    pub fn new(spec: &JobSpec, item: &JobItem, twin: Option<&TwinDocument<'_>>) -> Self {
        let mut row = Map::new();
        let mut put = |key: &str, value: Value| {
            row.insert(key.into(), value);
        };
        put("deviceId", item.id.device.as_str().into());
        if let Some(module) = &item.id.module {
            put("moduleId", module.as_str().into());
        }
        put("jobId", spec.id.as_str().into());
        put("jobType", spec.action.kind().into());
        put("status", item.status.as_str().into());
        if let Some(started) = item.started {
            put("startTimeUtc", started.to_string().into());
        }
        if let Some(ended) = item.ended {
            put("endTimeUtc", ended.to_string().into());
        }
        put("createdDateTimeUtc", item.created.to_string().into());
        let updated = item.ended.or(item.acted).or(item.started).unwrap_or(item.created);
        put("lastUpdatedDateTimeUtc", updated.to_string().into());
        if item.status == ItemStatus::Completed {
            let answer = item.answer.as_ref().map(|answer| {
                // A payload is JSON when it comes in; what is not shows as the text that it is.
                let payload = serde_json::from_str(&answer.payload)
                    .unwrap_or_else(|_| Value::String(answer.payload.clone()));
                json!({ "status": answer.status, "payload": payload })
            });
            let mut outcome = json!({ "deviceMethodResponse": answer });
            if let Some(report) = &item.report {
                outcome["reported"] = report.clone();
            }
            put("outcome", outcome);
        }
        if item.awaits_report()
            && let Some(Reported::Underway(Some(progress))) = twin.map(|twin| spec.reported(item, twin))
        {
            put("progress", progress);
        }
        if let Some(wave) = item.wave {
            put("wave", wave.into());
        }
        if let Some(error) = &item.error {
            let name = if item.status == ItemStatus::Failed { "error" } else { "lastError" };
            put(name, json!({ "code": error.code, "description": error.description }));
        }
        if let Some(at) = item.not_before {
            put("notBeforeTimeUtc", at.to_string().into());
        }
        Self { document: Value::Object(row) }
    }
}

impl Row for JobRow {
    fn get<'a>(&'a self, path: &Path) -> Datum<'a> {
        Datum::in_document(&self.document, path)
    }

    fn document(&self) -> Value {
        self.document.clone()
    }
}
