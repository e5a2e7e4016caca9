//! Requests about rollouts to what the engine takes: pure, one direction.

use std::time::Duration;

use hub_api::rollout::{DryRunRequest, RolloutDecision};
use hub_domain::context::Gates;
use hub_domain::job::NewJob;
use hub_domain::rollout::{ROLLOUT_ACTION_GUESS, Rollout};
use hub_engine::rollouts::{Decision, DryRunGuess};
use serde_json::Value;

use crate::status::ApiError;

/// Longest guess of what one device needs.
const SECONDS_PER_DEVICE_MAX: u64 = 30 * 24 * 3600;

/// The policy of a job.
pub fn policy(value: Option<Value>) -> Result<Option<Rollout>, ApiError> {
    let parsed = value.filter(|value| !value.is_null()).map(|value| Rollout::parse(&value));
    parsed.transpose().map_err(|error| ApiError::invalid(error.to_string()))
}

/// Its gates.
pub fn gates(value: Option<Value>) -> Result<Option<Gates>, ApiError> {
    let parsed = value.filter(|value| !value.is_null()).map(|value| Gates::parse(&value));
    parsed.transpose().map_err(|error| ApiError::invalid(error.to_string()))
}

/// What somebody asks of something that runs.
pub enum Asked {
    /// What he decides about its rollout.
    Decision(Decision),
    /// That its gates do not count, for this reason.
    OverrideGates(String),
}

/// What somebody asks for.
pub fn asked(body: RolloutDecision) -> Result<Asked, ApiError> {
    let reason = || body.reason.clone().unwrap_or_default();
    Ok(Asked::Decision(match body.action.as_str() {
        "pause" => Decision::Pause(reason()),
        "resume" => Decision::Resume,
        "approve" => Decision::Approve,
        "abort" => Decision::Abort(reason()),
        "rollBack" => Decision::RollBack(reason()),
        "overrideGates" => return Ok(Asked::OverrideGates(reason())),
        other => {
            return Err(ApiError::invalid(format!(
                "action '{other}' is not known; there are pause, resume, approve, abort, rollBack and overrideGates"
            )));
        }
    }))
}

/// A job that is only to be thought through.
pub fn dry_run(body: DryRunRequest) -> Result<(NewJob, DryRunGuess), ApiError> {
    let seconds = body.seconds_per_device.unwrap_or(ROLLOUT_ACTION_GUESS.as_secs());
    if seconds > SECONDS_PER_DEVICE_MAX {
        let text = format!("secondsPerDevice is {seconds}, at most {SECONDS_PER_DEVICE_MAX} are allowed");
        return Err(ApiError::invalid(text));
    }
    let id = body.job.job_id.clone().unwrap_or_else(|| "dry-run".into());
    let job = super::job(&id, body.job)?;
    let (per_device, bytes_per_device) = (Duration::from_secs(seconds), body.bytes_per_device.unwrap_or(0));
    Ok((job, DryRunGuess { per_device, bytes_per_device }))
}
