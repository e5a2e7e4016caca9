//! The dry run of configurations.

use axum::extract::State;
use axum::http::StatusCode;

use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::{from_wire, to_wire};

pub async fn preview(State(hub): State<Shared>, Caller(who): Caller, Json(body): Json) -> Answer {
    let request = from_wire::preview(from_wire::json(&body)?)?;
    let preview = hub.configurations_preview(&who, request).await?;
    Ok(json(StatusCode::OK, &to_wire::preview(&preview), None))
}
