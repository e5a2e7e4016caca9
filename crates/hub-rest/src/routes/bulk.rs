//! Many identities in one request, and new keys for many (S 2.5, 2.9).

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::routing::{MethodRouter, post};
use hub_api::bulk::{
    BulkError, BulkResult, ImportItem, KeysRegenerate, KeysRegenerated, RotatedKeys, RotationError,
};
use hub_domain::id::TwinId;
use hub_domain::limits::BULK_DEVICES_MAX;
use hub_engine::Error;
use hub_engine::registry::KeyChoice;

use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::status::ApiError;
use crate::{from_wire, to_wire};

fn failed((device_id, module_id): (String, String), error: ApiError) -> BulkError {
    let (error_code, error_status) = (error.name().into(), error.message().into());
    BulkError { device_id, module_id, error_code, error_status, operation: String::new() }
}

fn result(errors: Vec<BulkError>) -> BulkResult {
    BulkResult { is_successful: errors.is_empty(), errors, warnings: Vec::new() }
}

/// Every item stands for itself; the answer has the same shape whether or not all were carried out.
pub async fn devices(State(hub): State<Shared>, Caller(who): Caller, Json(body): Json) -> Answer {
    let items: Vec<ImportItem> = from_wire::json_list(&body)?;
    if items.len() > BULK_DEVICES_MAX {
        return Err(Error::TooManyDevices(items.len()).into());
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = items.iter().map(from_wire::bulk_name).find(|name| !seen.insert(name.clone())) {
        return Err(ApiError::bad(
            400_011,
            "DeviceDefinedMultipleTimes",
            format!("'{}' is in the request twice", twice.0),
        ));
    }
    let (mut names, mut wanted, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        let name = from_wire::bulk_name(&item);
        match from_wire::bulk_item(item) {
            Ok(item) => {
                names.push(name);
                wanted.push(item);
            }
            Err(error) => errors.push(failed(name, error)),
        }
    }
    let results = hub.device_bulk(&who, wanted).await?;
    let refused = names.into_iter().zip(results);
    errors.extend(refused.filter_map(|(name, result)| Some(failed(name, result.err()?.into()))));
    if errors.is_empty() {
        return Ok(json(StatusCode::OK, &result(Vec::new()), None));
    }
    let mut response = json(StatusCode::BAD_REQUEST, &result(errors), None);
    // C# looks at the first of these headers to know that the body is a result and not an error (S 1.5).
    for header in ["iothuberrorcode", "iothub-errorcode"] {
        let value = HeaderValue::from_static("BulkRegistryOperationFailure");
        response.headers_mut().insert(HeaderName::from_static(header), value);
    }
    Ok(response)
}

pub fn keys_handlers() -> MethodRouter<Shared> {
    post(regenerate)
}

async fn regenerate(State(hub): State<Shared>, Caller(who): Caller, Json(body): Json) -> Answer {
    let request: KeysRegenerate = from_wire::json(&body)?;
    let policy_key = request.policy_key.unwrap_or_default();
    let choice = match policy_key.as_str() {
        "primaryKey" => KeyChoice::Primary,
        "secondaryKey" => KeyChoice::Secondary,
        "both" => KeyChoice::Both,
        other => {
            let text = format!("policyKey '{other}' is not known; expected primaryKey, secondaryKey or both");
            return Err(ApiError::invalid(text));
        }
    };
    let ids = request.devices.iter().flatten().map(|id| from_wire::twin_id(&id.id, id.module_id.as_deref()));
    let results = hub.keys_regenerate(&who, ids.collect::<Result<Vec<TwinId>, _>>()?, choice).await?;
    let mut answer = KeysRegenerated { policy_key, rotated_keys: Vec::new(), errors: Vec::new() };
    for (id, result) in results {
        let (device, module_id) = (id.device.to_string(), id.module.map(|module| module.to_string()));
        match result {
            Ok(view) => {
                let keys = view.identity.authentication.keys().map(to_wire::keys).unwrap_or_default();
                let (primary_key, secondary_key) =
                    (keys.primary_key.unwrap_or_default(), keys.secondary_key.unwrap_or_default());
                answer.rotated_keys.push(RotatedKeys { id: device, module_id, primary_key, secondary_key });
            }
            Err(error) => {
                let error_status = error.to_string();
                let error_code = ApiError::from(error).name().into();
                answer.errors.push(RotationError { id: device, module_id, error_code, error_status });
            }
        }
    }
    let status = match (answer.errors.is_empty(), answer.rotated_keys.is_empty()) {
        (true, _) => StatusCode::OK,
        (false, false) => StatusCode::MULTI_STATUS,
        (false, true) => StatusCode::BAD_REQUEST,
    };
    Ok(json(status, &answer, None))
}
