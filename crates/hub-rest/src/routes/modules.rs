//! Modules of the registry (S 2.4).

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};
use hub_api::identity::{IdentityWrite, Module};
use hub_domain::version::Precondition;

use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::extract::Path;
use crate::{from_wire, to_wire};

pub fn handlers() -> MethodRouter<Shared> {
    get(read).put(write).delete(remove)
}

pub async fn list(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    let modules = hub.module_list(&who, &from_wire::device_id(&id)?)?;
    let modules: Vec<Module> = modules.iter().map(to_wire::module).collect();
    Ok(json(StatusCode::OK, &modules, None))
}

async fn read(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path((id, mid)): Path<(String, String)>,
) -> Answer {
    let view = hub.identity_get(&who, &from_wire::twin_id(&id, Some(&mid))?)?;
    Ok(json(StatusCode::OK, &to_wire::module(&view), Some(view.identity.etag().as_str())))
}

async fn write(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path((id, mid)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let body: IdentityWrite = from_wire::json(&body)?;
    from_wire::same_id("deviceId", &id, body.device_id.as_deref())?;
    from_wire::same_id("moduleId", &mid, body.module_id.as_deref())?;
    let (id, spec) = (from_wire::twin_id(&id, Some(&mid))?, from_wire::module(body));
    let (status, view) = match from_wire::precondition(&headers)? {
        Precondition::None => (StatusCode::CREATED, hub.identity_create(&who, id, spec).await?),
        demand => (StatusCode::OK, hub.identity_update(&who, &id, spec, &demand).await?),
    };
    Ok(json(status, &to_wire::module(&view), Some(view.identity.etag().as_str())))
}

async fn remove(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path((id, mid)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    hub.identity_delete(&who, &from_wire::twin_id(&id, Some(&mid))?, &from_wire::precondition(&headers)?)
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
