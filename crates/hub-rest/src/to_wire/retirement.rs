//! Retired and replaced devices, and what is known about one, as answers.

use hub_api::event::Event as EventBody;
use hub_api::retirement as api;
use hub_domain::retirement::{Erasure, Predecessor, Receipt, RetireRequest, Retirement};
use hub_engine::registry::IdentityView;
use hub_engine::retirement::{Part, Replaced, RetiredView};
use hub_engine::twins::TwinView;
use serde_json::Value;

use super::{actor, device, event, method_request, module};
use crate::status::ApiError;

/// How a job retires devices, as it was asked to.
pub fn request(request: &RetireRequest) -> Result<Value, ApiError> {
    let body = api::RetireRequest {
        reason: request.reason.clone(),
        erase_method: request.erase.as_ref().map(method_request).transpose()?,
        restorable_for_seconds: request.restorable_for.map(|time| time.as_secs()),
        force: Some(request.force),
    };
    Ok(serde_json::to_value(body).unwrap_or_default())
}

/// The record of a retired device.
pub fn retirement(retired: Retirement) -> api::Retirement {
    let state = retired.state().as_str().into();
    let receipt = retired.receipt.map(|receipt| {
        let Receipt { erased_at, nonce, signature } = receipt;
        api::Receipt { erased_at, nonce, signature }
    });
    api::Retirement {
        device_id: retired.device.to_string(),
        generation_id: retired.generation,
        state,
        retired_time: retired.at.to_string(),
        retired_by: actor(&retired.by),
        reason: retired.reason,
        restorable_until: retired.restorable_until.to_string(),
        replaced_by: retired.replaced_by.map(|id| id.to_string()),
        last_activity_time: retired.last_activity.to_string(),
        module_count: retired.modules,
        receipt,
        unproven: retired.unproven,
        erasure: retired.erasure.map(erasure),
        released_time: retired.released.map(|at| at.to_string()),
        documents: None,
    }
}

fn erasure(erasure: Erasure) -> api::Erasure {
    let (ended_time, sha256) = erasure.ended.map(|(at, digest)| (at.to_string(), digest.to_string())).unzip();
    api::Erasure {
        begun_time: erasure.begun.to_string(),
        ended_time,
        by: actor(&erasure.by),
        removed: api::Removed {
            identities: erasure.removed.identities,
            twins: erasure.removed.twins,
            events: erasure.removed.events,
            job_records: erasure.removed.job_records,
        },
        sha256,
    }
}

/// Likewise, with its last documents.
pub fn retired(view: RetiredView) -> api::Retirement {
    let documents = Some(view.documents).filter(|documents| !documents.is_empty());
    api::Retirement { documents, ..retirement(view.retirement) }
}

fn predecessor(one: &Predecessor) -> api::Predecessor {
    api::Predecessor {
        device_id: one.device.to_string(),
        generation_id: one.generation.clone(),
        replaced_time: one.at.to_string(),
        replaced_by: actor(&one.by),
    }
}

/// What took the place of a device.
pub fn replaced(replaced: Replaced) -> api::Replaced {
    api::Replaced {
        device: device(&replaced.device),
        replaces: replaced.predecessors.iter().map(predecessor).collect(),
        retired: replaced.retirement.map(retirement),
    }
}

/// Something that is known about a device.
pub fn known_part(part: Part, keys: bool) -> api::KnownPart {
    match part {
        Part::Twin(view) => identity(&view, keys),
        Part::Retired(view) => api::KnownPart::Retirement { retirement: Box::new(retired(*view)) },
        Part::Predecessor(one) => api::KnownPart::Replaces { predecessor: predecessor(&one) },
        Part::Configuration(one) => api::KnownPart::Configuration { configuration: one.to_json() },
        Part::JobRecord(record) => api::KnownPart::JobRecord { record },
        Part::Event(position, one) => {
            let event: Box<EventBody> = Box::new(event(one));
            api::KnownPart::Event { position: position.to_string(), event }
        }
    }
}

fn identity(view: &TwinView, keys: bool) -> api::KnownPart {
    let of = IdentityView { identity: view.identity.clone(), connection: view.connection };
    let shown = match view.identity.id.is_module() {
        true => serde_json::to_value(module(&of)),
        false => serde_json::to_value(device(&of)),
    };
    let mut identity = shown.expect("bodies have text keys");
    if !keys {
        identity["authentication"]["symmetricKey"] = Value::Null;
    }
    api::KnownPart::Identity { identity, twin: view.document().to_json() }
}
