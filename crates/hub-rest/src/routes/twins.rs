//! Twins of devices and modules: read, merge, replace (S 4.2).

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{MethodRouter, get};
use hub_domain::id::TwinId;
use hub_domain::twin::WriteMode;
use hub_engine::Principal;
use hub_engine::twins::TwinView;

use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::extract::Path;
use crate::from_wire;

type ModulePath = Path<(String, String)>;

pub fn device_handlers() -> MethodRouter<Shared> {
    get(|State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>| async move {
        Ok::<_, crate::status::ApiError>(answer(&hub.twin_get(&who, &from_wire::twin_id(&id, None)?)?))
    })
    .patch(
        |State(hub): State<Shared>,
         Caller(who): Caller,
         Path(id): Path<String>,
         headers: HeaderMap,
         Json(body): Json| async move {
            write(hub, who, from_wire::twin_id(&id, None)?, &headers, &body, WriteMode::Patch).await
        },
    )
    .put(
        |State(hub): State<Shared>,
         Caller(who): Caller,
         Path(id): Path<String>,
         headers: HeaderMap,
         Json(body): Json| async move {
            write(hub, who, from_wire::twin_id(&id, None)?, &headers, &body, WriteMode::Replace).await
        },
    )
}

pub fn module_handlers() -> MethodRouter<Shared> {
    get(|State(hub): State<Shared>, Caller(who): Caller, Path((id, mid)): ModulePath| async move {
        Ok::<_, crate::status::ApiError>(answer(&hub.twin_get(&who, &from_wire::twin_id(&id, Some(&mid))?)?))
    })
    .patch(
        |State(hub): State<Shared>,
         Caller(who): Caller,
         Path((id, mid)): ModulePath,
         headers: HeaderMap,
         Json(body): Json| async move {
            write(hub, who, from_wire::twin_id(&id, Some(&mid))?, &headers, &body, WriteMode::Patch).await
        },
    )
    .put(
        |State(hub): State<Shared>,
         Caller(who): Caller,
         Path((id, mid)): ModulePath,
         headers: HeaderMap,
         Json(body): Json| async move {
            write(hub, who, from_wire::twin_id(&id, Some(&mid))?, &headers, &body, WriteMode::Replace).await
        },
    )
}

fn answer(view: &TwinView) -> axum::response::Response {
    json(StatusCode::OK, &view.document().to_json(), Some(view.twin.etag().as_str()))
}

async fn write(
    hub: Shared,
    who: Principal,
    id: TwinId,
    headers: &HeaderMap,
    body: &[u8],
    mode: WriteMode,
) -> Answer {
    let update = from_wire::twin_update(from_wire::json(body)?)?;
    let demand = from_wire::precondition(headers)?;
    Ok(answer(&hub.twin_update(&who, &id, &update, mode, &demand).await?))
}
