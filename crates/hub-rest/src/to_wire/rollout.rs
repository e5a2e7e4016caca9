//! What the engine says of rollouts to bodies: pure, one direction.

use std::collections::BTreeMap;

use hub_api::rollout as api;
use hub_domain::id::JobId;
use hub_engine::configurations::gated::GatesWaiting;
use hub_engine::context::Obstacle;
use hub_engine::rollouts::{DryRun, WaitingCount, WaitingDevices, WaitingFor};

/// Who waits at the gates of a configuration.
pub fn gates_waiting(waiting: &GatesWaiting) -> api::GatesWaiting {
    api::GatesWaiting { count: waiting.twins, reasons: counts(waiting.reasons.clone()) }
}

fn counts(counts: BTreeMap<String, WaitingCount>) -> BTreeMap<String, api::WaitingCount> {
    let count = |count: WaitingCount| api::WaitingCount {
        devices: count.devices,
        example: count.example.to_string(),
        next: count.next.map(|next| next.to_string()),
    };
    counts.into_iter().map(|(code, one)| (code, count(one))).collect()
}

/// Why the devices of a job are waiting.
pub fn waiting(id: &JobId, waiting: WaitingDevices) -> api::JobWaiting {
    api::JobWaiting {
        job_id: id.to_string(),
        job: waiting.job.as_ref().map(Obstacle::to_json),
        pending_count: waiting.pending,
        reasons: counts(waiting.reasons),
    }
}

/// A job that a device is waiting for.
pub fn waiting_for(waiting: WaitingFor) -> api::WaitingFor {
    let reasons = waiting.obstacles.iter().map(Obstacle::to_json).collect();
    api::WaitingFor { job_id: waiting.job.to_string(), reasons }
}

/// What a job would do.
pub fn dry_run(found: DryRun) -> api::DryRun {
    let forecast = found.forecast;
    let waves = forecast.as_ref().map(|forecast| {
        let wave = |wave: &hub_domain::rollout::ForecastWave| api::DryRunWave {
            device_count: wave.targets,
            reachable_count: wave.reachable,
            opens_time: wave.opens.to_string(),
            ends_time: wave.ends.to_string(),
        };
        forecast.waves.iter().map(wave).collect()
    });
    api::DryRun {
        device_count: found.targets,
        waves,
        expected_end_time: forecast.as_ref().and_then(|forecast| forecast.ends).map(|end| end.to_string()),
        deadline_time: forecast.as_ref().map(|forecast| forecast.deadline.to_string()),
        bytes: forecast.as_ref().map(|forecast| forecast.bytes),
        approvals: forecast.as_ref().map(|forecast| forecast.approvals),
        reasons: counts(found.reasons),
    }
}
