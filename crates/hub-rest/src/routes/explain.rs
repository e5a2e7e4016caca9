//! Why a twin is as it is (ours).

use axum::extract::State;
use axum::http::StatusCode;

use super::{Answer, Shared, json};
use crate::auth::Caller;
use crate::extract::Path;
use crate::{from_wire, to_wire};

pub async fn device(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    let explained = hub.explain(&who, &from_wire::twin_id(&id, None)?).await?;
    Ok(json(StatusCode::OK, &to_wire::explain::explained(explained), None))
}

pub async fn module(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path((id, mid)): Path<(String, String)>,
) -> Answer {
    let explained = hub.explain(&who, &from_wire::twin_id(&id, Some(&mid))?).await?;
    Ok(json(StatusCode::OK, &to_wire::explain::explained(explained), None))
}
