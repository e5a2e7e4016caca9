//! The rows of jobs: what was asked (never rewritten), where the job stands, and one row for each target.

use std::time::Duration;

use hub_domain::actor::Actor;
use hub_domain::context::{Gates, GatesOverride};
use hub_domain::id::{DeviceId, JobId, TwinId};
use hub_domain::job::{
    ItemError, ItemStatus, JobAction, JobCounts, JobItem, JobSpec, JobState, JobStatus, Management,
};
use hub_domain::json::Object;
use hub_domain::method::{MethodCall, MethodResult};
use hub_domain::query::Condition;
use hub_domain::retirement::RetireRequest;
use hub_domain::rollout::{Rollout, RolloutState};
use hub_domain::twin::{TwinPatch, TwinUpdate};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{encode as encode_record, field, format_of, name, parse, time, unknown_format};
use crate::keys::RowKey;
use crate::{Bytes, Key, StoreError};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecV1 {
    action: ActionV1,
    condition: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listed: Option<Vec<String>>,
    created: i64,
    start: i64,
    seconds_max: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollout: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gates: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    roll_back: Option<ActionV1>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undoes: Option<String>,
    /// The hub itself, in rows from before this was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked_by: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
enum ActionV1 {
    PatchTwin {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tags: Option<Object>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        desired: Option<Object>,
    },
    CallMethod {
        #[serde(flatten)]
        call: CallV1,
        #[serde(default)]
        wait_for_devices: bool,
    },
    Manage {
        r#type: String,
        parameters: Value,
        wait_for_devices: bool,
    },
    RestoreTwin,
    Retire {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        restorable_seconds: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        erase: Option<CallV1>,
        #[serde(default)]
        force: bool,
        #[serde(default)]
        wait_for_devices: bool,
    },
    RestoreDevice,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallV1 {
    name: String,
    payload: String,
    response_seconds: u64,
    connect_seconds: u64,
}

fn call_record(call: &MethodCall) -> CallV1 {
    CallV1 {
        name: call.name.clone(),
        payload: call.payload.clone(),
        response_seconds: call.response_timeout.as_secs(),
        connect_seconds: call.connect_timeout.as_secs(),
    }
}

fn call_of(key: &Key, record: CallV1) -> Result<MethodCall, StoreError> {
    let CallV1 { name, payload, response_seconds, connect_seconds } = record;
    let call = MethodCall::new(&name, Some(payload), Some(response_seconds), Some(connect_seconds));
    field(key, "action", call.ok())
}

fn action_record(action: &JobAction) -> ActionV1 {
    let section = |patch: &Option<TwinPatch>| patch.as_ref().map(|patch| patch.object().clone());
    match action {
        JobAction::PatchTwin(update) => {
            ActionV1::PatchTwin { tags: section(&update.tags), desired: section(&update.desired) }
        }
        JobAction::CallMethod { call, wait_for_devices } => {
            ActionV1::CallMethod { call: call_record(call), wait_for_devices: *wait_for_devices }
        }
        JobAction::Manage { management, wait_for_devices } => ActionV1::Manage {
            r#type: management.kind().to_owned(),
            parameters: management.parameters(),
            wait_for_devices: *wait_for_devices,
        },
        JobAction::RestoreTwin => ActionV1::RestoreTwin,
        JobAction::Retire { request, wait_for_devices } => ActionV1::Retire {
            reason: request.reason.clone(),
            restorable_seconds: request.restorable_for.map(|time| time.as_secs()),
            erase: request.erase.as_ref().map(call_record),
            force: request.force,
            wait_for_devices: *wait_for_devices,
        },
        JobAction::RestoreDevice => ActionV1::RestoreDevice,
    }
}

/// The row of `job`.
pub fn encode_spec(spec: &JobSpec) -> Bytes {
    let asked_by = Some(&spec.asked_by).filter(|actor| **actor != Actor::Hub);
    let record = SpecV1 {
        action: action_record(&spec.action),
        condition: spec.condition_text.clone(),
        listed: spec.listed.as_ref().map(|devices| devices.iter().map(ToString::to_string).collect()),
        created: spec.created.ticks(),
        start: spec.start.ticks(),
        seconds_max: spec.execution_max.as_secs(),
        device_seconds: spec.device_timeout.map(|timeout| timeout.as_secs()),
        rollout: spec.rollout.as_ref().map(Rollout::to_json),
        gates: spec.gates.as_ref().map(Gates::to_json),
        roll_back: spec.roll_back.as_ref().map(action_record),
        undoes: spec.undoes.as_ref().map(ToString::to_string),
        asked_by: asked_by.map(ToString::to_string),
    };
    encode_record(1, &record)
}

/// The job at `key`.
pub fn decode_spec(key: &Key, row: &[u8]) -> Result<JobSpec, StoreError> {
    let id = name(key, |key| match key {
        RowKey::Job(id) => Some(id),
        _ => None,
    })?;
    let record: SpecV1 = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    let undoes = record.undoes.map(|id| field(key, "undoes", JobId::parse(&id).ok()));
    let asked_by = record.asked_by.map(|actor| field(key, "askedBy", Actor::parse(&actor)));
    let listed = record.listed.map(|ids| ids.iter().map(|id| DeviceId::parse(id).ok()).collect());
    let rollout = record.rollout.map(|value| field(key, "rollout", Rollout::parse(&value).ok()));
    let gates = record.gates.map(|value| field(key, "gates", Gates::parse(&value).ok()));
    Ok(JobSpec {
        id,
        action: action_of(key, record.action)?,
        condition: field(key, "condition", Condition::parse(&record.condition).ok())?,
        condition_text: record.condition,
        listed: listed.map(|ids| field(key, "listed", ids)).transpose()?,
        created: time(record.created),
        start: time(record.start),
        execution_max: Duration::from_secs(record.seconds_max),
        device_timeout: record.device_seconds.map(Duration::from_secs),
        rollout: rollout.transpose()?,
        gates: gates.transpose()?,
        roll_back: record.roll_back.map(|action| action_of(key, action)).transpose()?,
        undoes: undoes.transpose()?,
        asked_by: asked_by.transpose()?.unwrap_or_default(),
    })
}

fn action_of(key: &Key, record: ActionV1) -> Result<JobAction, StoreError> {
    Ok(match record {
        ActionV1::PatchTwin { tags, desired } => {
            let section = |name, object: Option<Object>| {
                object.map(|object| field(key, name, TwinPatch::new(object).ok())).transpose()
            };
            JobAction::PatchTwin(TwinUpdate {
                tags: section("tags", tags)?,
                desired: section("desired", desired)?,
            })
        }
        ActionV1::CallMethod { call, wait_for_devices } => {
            JobAction::CallMethod { call: call_of(key, call)?, wait_for_devices }
        }
        ActionV1::Manage { r#type, parameters, wait_for_devices } => {
            let management = Management::parse(&r#type, &parameters).and_then(Result::ok);
            JobAction::Manage { management: field(key, "action", management)?, wait_for_devices }
        }
        ActionV1::RestoreTwin => JobAction::RestoreTwin,
        ActionV1::Retire { reason, restorable_seconds, erase, force, wait_for_devices } => {
            let erase = erase.map(|call| call_of(key, call)).transpose()?;
            let restorable_for = restorable_seconds.map(Duration::from_secs);
            let request = RetireRequest { reason, restorable_for, erase, force };
            JobAction::Retire { request, wait_for_devices }
        }
        ActionV1::RestoreDevice => JobAction::RestoreDevice,
    })
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StateV1 {
    status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    found_up_to: Option<(String, Option<String>)>,
    all_found: bool,
    /// Pending, running, succeeded, failed, cancelled.
    counts: [u64; 5],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollout: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gates_override: Option<Value>,
}

/// The row of `job-state`.
pub fn encode_state(state: &JobState) -> Bytes {
    let JobCounts { pending, running, succeeded, failed, cancelled } = state.counts;
    let record = StateV1 {
        status: state.status.as_str().to_owned(),
        failure: state.failure.clone(),
        started: state.started.map(|at| at.ticks()),
        ended: state.ended.map(|at| at.ticks()),
        found_up_to: state.found_up_to.as_ref().map(|id| {
            (id.device.as_str().to_owned(), id.module.as_ref().map(|module| module.as_str().to_owned()))
        }),
        all_found: state.all_found,
        counts: [pending, running, succeeded, failed, cancelled],
        rollout: state.rollout.as_ref().map(RolloutState::to_json),
        gates_override: state.gates_override.as_ref().map(GatesOverride::to_json),
    };
    encode_record(1, &record)
}

/// The state at `key`, and of which job.
pub fn decode_state(key: &Key, row: &[u8]) -> Result<(JobId, JobState), StoreError> {
    let id = name(key, |key| match key {
        RowKey::JobState(id) => Some(id),
        _ => None,
    })?;
    let record: StateV1 = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    let found_up_to = record
        .found_up_to
        .map(|(device, module)| field(key, "foundUpTo", TwinId::parse(&device, module.as_deref()).ok()));
    let [pending, running, succeeded, failed, cancelled] = record.counts;
    let rollout = record.rollout.map(|value| field(key, "rollout", RolloutState::from_json(&value).ok()));
    let gates_override =
        record.gates_override.map(|value| field(key, "gatesOverride", GatesOverride::from_json(&value)));
    let state = JobState {
        status: field(key, "status", JobStatus::parse(&record.status))?,
        failure: record.failure,
        started: record.started.map(time),
        ended: record.ended.map(time),
        found_up_to: found_up_to.transpose()?,
        all_found: record.all_found,
        counts: JobCounts { pending, running, succeeded, failed, cancelled },
        rollout: rollout.transpose()?,
        gates_override: gates_override.transpose()?,
    };
    Ok((id, state))
}

#[derive(Serialize, Deserialize)]
struct ItemV1 {
    status: String,
    created: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<(i32, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acted: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wave: Option<u32>,
    /// By class; none if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retries: Option<[u64; 5]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
}

/// The row of `job-item`.
pub fn encode_item(item: &JobItem) -> Bytes {
    let record = ItemV1 {
        status: item.status.as_str().to_owned(),
        created: item.created.ticks(),
        started: item.started.map(|at| at.ticks()),
        ended: item.ended.map(|at| at.ticks()),
        answer: item.answer.as_ref().map(|answer| (answer.status, answer.payload.clone())),
        error: item.error.as_ref().map(|error| (error.code.clone(), error.description.clone())),
        acted: item.acted.map(|at| at.ticks()),
        before: item.before.clone(),
        version: item.version,
        report: item.report.clone(),
        wave: item.wave,
        retries: Some(item.retries).filter(|retries| *retries != [0; 5]),
        not_before: item.not_before.map(|at| at.ticks()),
    };
    encode_record(1, &record)
}

/// The target at `key`, and of which job.
pub fn decode_item(key: &Key, row: &[u8]) -> Result<(JobId, JobItem), StoreError> {
    let (job, id) = name(key, |key| match key {
        RowKey::JobItem(job, id) => Some((job, id)),
        _ => None,
    })?;
    let record: ItemV1 = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    let item = JobItem {
        id,
        status: field(key, "status", ItemStatus::parse(&record.status))?,
        created: time(record.created),
        started: record.started.map(time),
        ended: record.ended.map(time),
        answer: record.answer.map(|(status, payload)| MethodResult { status, payload }),
        error: record.error.map(|(code, description)| ItemError { code, description }),
        acted: record.acted.map(time),
        before: record.before,
        version: record.version,
        report: record.report,
        wave: record.wave,
        retries: record.retries.unwrap_or_default(),
        not_before: record.not_before.map(time),
    };
    Ok((job, item))
}
