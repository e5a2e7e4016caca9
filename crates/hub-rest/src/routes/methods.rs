//! Direct methods (S 5). Their errors have a shape of their own.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, post};
use hub_api::method::MethodResponse;
use hub_domain::id::TwinId;
use hub_engine::Principal;
use serde_json::value::RawValue;

use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::extract::Path;
use crate::from_wire;
use crate::status::ApiError;

pub fn device_handlers() -> MethodRouter<Shared> {
    post(
        |State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>, Json(body): Json| async move {
            call(hub, who, from_wire::twin_id(&id, None), &body).await.map_err(ApiError::nested)
        },
    )
}

pub fn module_handlers() -> MethodRouter<Shared> {
    post(
        |State(hub): State<Shared>,
         Caller(who): Caller,
         Path((id, mid)): Path<(String, String)>,
         Json(body): Json| async move {
            call(hub, who, from_wire::twin_id(&id, Some(&mid)), &body).await.map_err(ApiError::nested)
        },
    )
}

async fn call(hub: Shared, who: Principal, id: Result<TwinId, ApiError>, body: &[u8]) -> Answer {
    let id = id?;
    let call = from_wire::method(from_wire::json(body)?)?;
    let result = hub.method_call(&who, &id, call).await?;
    let payload = RawValue::from_string(result.payload).map_err(|error| {
        ApiError::bad(502_000, "GenericBadGateway", format!("the device's answer is not JSON: {error}"))
    })?;
    Ok(json(StatusCode::OK, &MethodResponse { status: result.status, payload }, None))
}
