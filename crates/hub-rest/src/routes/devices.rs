//! Devices of the registry, and how many there are (S 2.1 to 2.3, 2.6).

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};
use hub_api::identity::{Device, IdentityWrite, RegistryStatistics, ServiceStatistics};
use hub_domain::limits::DEVICE_LIST_MAX;
use hub_domain::version::Precondition;
use serde::Deserialize;

use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::status::ApiError;
use crate::{from_wire, to_wire};

pub fn handlers() -> MethodRouter<Shared> {
    get(read).put(write).delete(remove)
}

#[derive(Deserialize)]
pub struct ListQuery {
    top: Option<String>,
}

pub async fn list(State(hub): State<Shared>, Caller(who): Caller, Query(query): Query<ListQuery>) -> Answer {
    let top = match query.top.as_deref() {
        None | Some("") => DEVICE_LIST_MAX,
        Some(text) => text.parse().ok().filter(|top| *top > 0).ok_or_else(|| {
            ApiError::bad(
                400_002,
                "DeviceInvalidResultCount",
                format!("top '{text}' is not a number from 1 to {DEVICE_LIST_MAX}"),
            )
        })?,
    };
    let devices: Vec<Device> = hub.device_list(&who, top)?.iter().map(to_wire::device).collect();
    Ok(json(StatusCode::OK, &devices, None))
}

async fn read(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    let view = hub.identity_get(&who, &from_wire::twin_id(&id, None)?)?;
    Ok(json(StatusCode::OK, &to_wire::device(&view), Some(view.identity.etag().as_str())))
}

async fn write(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let body: IdentityWrite = from_wire::json(&body)?;
    from_wire::same_id("deviceId", &id, body.device_id.as_deref())?;
    let (id, spec) = (from_wire::twin_id(&id, None)?, from_wire::device(body)?);
    let view = match from_wire::precondition(&headers)? {
        Precondition::None => hub.identity_create(&who, id, spec).await?,
        demand => hub.identity_update(&who, &id, spec, &demand).await?,
    };
    Ok(json(StatusCode::OK, &to_wire::device(&view), Some(view.identity.etag().as_str())))
}

async fn remove(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    hub.identity_delete(&who, &from_wire::twin_id(&id, None)?, &from_wire::precondition(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub async fn statistics(State(hub): State<Shared>, Caller(who): Caller) -> Answer {
    let statistics = hub.statistics(&who)?;
    let body = RegistryStatistics {
        total_device_count: statistics.devices,
        enabled_device_count: statistics.enabled,
        disabled_device_count: statistics.disabled,
    };
    Ok(json(StatusCode::OK, &body, None))
}

pub async fn connections(State(hub): State<Shared>, Caller(who): Caller) -> Answer {
    hub.statistics(&who)?;
    Ok(json(StatusCode::OK, &ServiceStatistics { connected_device_count: hub.connected_count() }, None))
}
