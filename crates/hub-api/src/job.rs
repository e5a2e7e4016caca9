//! Jobs over many devices (S 6). Times are ISO 8601; what is null counts as missing, since some SDKs send both.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::method::MethodRequest;
use crate::twin::TwinWrite;

/// What shall be done, to which devices, and when.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobRequest {
    /// That of the path, if it is given.
    pub job_id: Option<String>,
    /// `scheduleDeviceMethod` or `scheduleUpdateTwin`; ours: `rebootDevice`, `factoryResetDevice`, `firmwareUpdate`,
    /// `updateDeviceConfiguration`, `readDeviceProperties`, `writeDeviceProperties` or `retireDevice`.
    pub r#type: Option<String>,
    /// The call, for `scheduleDeviceMethod`.
    pub cloud_to_device_method: Option<MethodRequest>,
    /// The patch, for `scheduleUpdateTwin`.
    pub update_twin: Option<JobTwin>,
    /// Ours: the parameters of the types of device management; of `retireDevice` those of `POST /api/devices/{id}/retire`.
    pub parameters: Option<Value>,
    /// The body of a WHERE over devices, `*` for all, or `FROM devices.modules WHERE …`.
    pub query_condition: Option<String>,
    /// Ours, instead of `queryCondition`: the ids of the devices, at most 10,000.
    pub devices: Option<Vec<String>>,
    /// When; now if it is missing or past.
    pub start_time: Option<String>,
    /// How long the job may act on devices: 1 to 2,592,000 seconds, 3,600 if missing.
    pub max_execution_time_in_seconds: Option<i64>,
    /// Ours: calls devices that are offline when they come, as long as the job runs.
    pub wait_for_devices: Option<bool>,
    /// Ours: how long a device may take to report that it did what it was told; as long as the job runs if missing.
    pub device_timeout_in_seconds: Option<i64>,
    /// Ours: how the job goes through its targets, and when it stops by itself (docs/rollouts.md).
    #[schema(value_type = Option<Object>)]
    pub rollout: Option<Value>,
    /// Ours: what a device must bear to be acted on (docs/context.md).
    #[schema(value_type = Option<Object>)]
    pub gates: Option<Value>,
    /// Ours: how the job is undone, if it does not patch twins: a `type` with its members.
    #[schema(no_recursion)]
    pub roll_back: Option<Box<JobRequest>>,
}

/// A twin's patch as jobs take it.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct JobTwin {
    /// Must be `*`.
    pub etag: Option<String>,
    /// The sections.
    #[serde(flatten)]
    pub twin: TwinWrite,
}

/// A job as it is now.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobResponse {
    /// Its name.
    pub job_id: String,
    /// What it does, see the request.
    pub r#type: String,
    /// `scheduled`, `queued`, `running`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// Which devices.
    pub query_condition: String,
    /// Ours: how many devices the request named one by one; only those are meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listed_count: Option<u64>,
    /// When it was created.
    pub created_time: String,
    /// When it starts, or started.
    pub start_time: String,
    /// When every target was settled.
    pub end_time: Option<String>,
    /// How long it may act on devices.
    pub max_execution_time_in_seconds: u64,
    /// The call, of `scheduleDeviceMethod`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_to_device_method: Option<MethodRequest>,
    /// The patch, of `scheduleUpdateTwin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_twin: Option<JobTwin>,
    /// Ours, of the types of device management that have some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// Ours, of jobs that call devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_for_devices: Option<bool>,
    /// Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_timeout_in_seconds: Option<u64>,
    /// Ours: its policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub rollout: Option<Value>,
    /// Ours: how far its rollout came, once it was planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub rollout_state: Option<Value>,
    /// Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub gates: Option<Value>,
    /// Ours: who had its gates overridden, if anybody had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gates_override: Option<JobOverride>,
    /// Ours: the job that this one undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undoes_job_id: Option<String>,
    /// Ours: who created it.
    #[serde(default)]
    pub asked_by: String,
    /// Why it could not run.
    pub failure_reason: Option<String>,
    /// Always null; the SDKs expect it.
    pub status_message: Option<String>,
    /// How many targets stand where.
    pub device_job_statistics: JobStatistics,
}

/// A target of a job, and the job.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct JobTarget {
    /// Its record, as `SELECT * FROM devices.jobs` has it.
    #[schema(value_type = Object)]
    pub target: Value,
    /// The job.
    pub parent: JobResponse,
}

/// Who had the gates of a job or a configuration overridden, and why.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct JobOverride {
    /// Who.
    pub by: String,
    /// Why, in his words.
    pub reason: String,
    /// When.
    pub time: String,
}

/// How many targets stand where; the other counts add up to the first.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatistics {
    /// All targets found so far.
    pub device_count: u64,
    /// Not done, for a reason of their own.
    pub failed_count: u64,
    /// Done.
    pub succeeded_count: u64,
    /// Called, answer unknown.
    pub running_count: u64,
    /// Nothing done yet.
    pub pending_count: u64,
    /// Ours: not done, because the job was cancelled.
    #[serde(default)]
    pub cancelled_count: u64,
}
