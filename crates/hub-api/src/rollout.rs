//! Rollouts and the context of devices, ours: `POST /api/jobs/preview`, `GET /api/jobs/{id}/waiting`,
//! `POST /api/jobs/{id}/rollout`. The documents `rollout`, `gates` and the hub's context are described in docs/rollouts.md
//! and docs/context.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::job::JobRequest;

/// What somebody decides about the rollout or the gates of a job or a configuration.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct RolloutDecision {
    /// `pause`, `resume`, `approve`, `abort`, `rollBack` or `overrideGates`.
    pub action: String,
    /// Why, for pause, abort and rollBack; for overrideGates it must be said.
    pub reason: Option<String>,
}

/// Why the devices of a job are waiting.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobWaiting {
    /// The job.
    pub job_id: String,
    /// What the whole job waits for, if it does: `code`, `text` and `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub job: Option<Value>,
    /// Targets that are pending.
    pub pending_count: u64,
    /// Devices by what they wait for; one with several reasons is counted with each, and those without any are `go`.
    pub reasons: BTreeMap<String, WaitingCount>,
}

/// Devices that wait for the same thing.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingCount {
    /// How many.
    pub devices: u64,
    /// One of them.
    pub example: String,
    /// The first moment at which time alone could let one of them go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Twins that wait at the gates of a configuration.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct GatesWaiting {
    /// How many.
    pub count: u64,
    /// By gate and code; one with several closed gates is counted with each.
    pub reasons: BTreeMap<String, WaitingCount>,
}

/// A job that a device is waiting for.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingFor {
    /// Which.
    pub job_id: String,
    /// Why: `code`, `text`, `next`, and the values that decided in `detail`. Empty if it goes at once.
    #[schema(value_type = Vec<Object>)]
    pub reasons: Vec<Value>,
}

/// A job that is only to be thought through.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRunRequest {
    /// The job, as it would be created.
    pub job: JobRequest,
    /// A guess of what one device needs; 60 if missing.
    pub seconds_per_device: Option<u64>,
    /// A guess of what is sent to it; 0 if missing.
    pub bytes_per_device: Option<u64>,
}

/// What a job would do, as the fleet is now.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// Devices that match.
    pub device_count: u64,
    /// The waves, if there is a rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waves: Option<Vec<DryRunWave>>,
    /// When everything would be settled; missing if a wave would not be good enough for the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_end_time: Option<String>,
    /// When the job's time is over: what was not begun by then is not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_time: Option<String>,
    /// Bytes to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How often somebody must agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvals: Option<u64>,
    /// What would stand in the way now.
    pub reasons: BTreeMap<String, WaitingCount>,
}

/// A wave of a dry run.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRunWave {
    /// Devices in it.
    pub device_count: u64,
    /// Those that can be reached.
    pub reachable_count: u64,
    /// When it opens.
    pub opens_time: String,
    /// When the next may open.
    pub ends_time: String,
}
