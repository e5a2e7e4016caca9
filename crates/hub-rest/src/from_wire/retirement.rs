//! Requests about the end of a device's life, to domain values: pure.

use std::time::Duration;

use hub_api::retirement::{ReplaceRequest, RetireRequest};
use hub_domain::retirement::{RetireRequest as Retire, RetirementError};
use hub_engine::retirement::Replacement;
use serde_json::Value;

use super::{authentication, device_id, method};
use crate::status::ApiError;

impl From<RetirementError> for ApiError {
    fn from(error: RetirementError) -> Self {
        hub_engine::Error::from(error).into()
    }
}

/// How a device is to be retired.
pub fn retire(body: RetireRequest) -> Result<Retire, ApiError> {
    let request = Retire {
        reason: body.reason.filter(|reason| !reason.is_empty()),
        restorable_for: body.restorable_for_seconds.map(Duration::from_secs),
        erase: body.erase_method.map(method).transpose()?,
        force: body.force.unwrap_or(false),
    };
    request.check()?;
    Ok(request)
}

/// The same as a job has it, where a misspelt member must not retire devices otherwise than they were meant to be.
pub fn parameters(given: Option<Value>) -> Result<Retire, ApiError> {
    const MEMBERS: [&str; 4] = ["reason", "restorableForSeconds", "eraseMethod", "force"];
    let Some(given) = given.filter(|given| !given.is_null()) else { return Ok(Retire::default()) };
    let unknown =
        given.as_object().and_then(|object| object.keys().find(|name| !MEMBERS.contains(&name.as_str())));
    if let Some(name) = unknown {
        let known = MEMBERS.join(", ");
        return Err(ApiError::invalid(format!("parameters.{name} is not known; there are {known}")));
    }
    let body = serde_json::from_value(given);
    retire(body.map_err(|error| ApiError::invalid(format!("parameters: {error}")))?)
}

/// What is to take the place of a device.
pub fn replacement(body: ReplaceRequest) -> Result<Replacement, ApiError> {
    let keep_id = body.keep_id.unwrap_or(false);
    let retires = body.reason.is_some() || body.restorable_for_seconds.is_some();
    match body.new {
        Some(new) if !keep_id => {
            if body.keep_reported.is_some() || body.authentication.is_some() {
                return Err(ApiError::invalid(
                    "keepReported and authentication are for keepId; with new, the new device has its own",
                ));
            }
            let retire = retire(RetireRequest {
                reason: body.reason,
                restorable_for_seconds: body.restorable_for_seconds,
                ..RetireRequest::default()
            })?;
            let overwrite = body.overwrite.unwrap_or(false);
            Ok(Replacement::Device { new: device_id(&new)?, overwrite, retire })
        }
        None if keep_id => {
            if body.overwrite.is_some() || retires {
                return Err(ApiError::invalid(
                    "overwrite, reason and restorableForSeconds are for new; with keepId no device is retired",
                ));
            }
            let authentication = authentication(body.authentication);
            Ok(Replacement::Hardware { authentication, keep_reported: body.keep_reported.unwrap_or(false) })
        }
        Some(_) => Err(ApiError::invalid(
            "new and keepId exclude each other: other hardware under the same id has no new id",
        )),
        None => Err(ApiError::bad(
            400_005,
            "ArgumentNull",
            "new is missing: the device that takes over; or keepId true, for other hardware under the same id",
        )),
    }
}
