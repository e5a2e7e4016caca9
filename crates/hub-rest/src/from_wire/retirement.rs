//! Requests about the end of a device's life, to domain values: pure.

use std::time::Duration;

use hub_api::retirement::{ReplaceRequest, RetireRequest};
use hub_domain::retirement::{RetireRequest as Retire, RetirementError};
use hub_engine::retirement::Replacement;

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
