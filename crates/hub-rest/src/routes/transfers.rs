//! Import and export jobs (S 3).

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};

use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::extract::Path;
use crate::{from_wire, to_wire};

pub fn create_handlers() -> MethodRouter<Shared> {
    post(create)
}

pub fn handlers() -> MethodRouter<Shared> {
    get(read).delete(cancel)
}

async fn create(State(hub): State<Shared>, Caller(who): Caller, Json(body): Json) -> Answer {
    let new = from_wire::transfer(from_wire::json(&body)?)?;
    let job = hub.transfer_create(&who, new).await?;
    Ok(json(StatusCode::OK, &to_wire::transfer(&job), None))
}

pub async fn list(State(hub): State<Shared>, Caller(who): Caller) -> Answer {
    let jobs = hub.transfer_list(&who).await?;
    Ok(json(StatusCode::OK, &jobs.iter().map(to_wire::transfer).collect::<Vec<_>>(), None))
}

async fn read(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    let job = hub.transfer_get(&who, &from_wire::job_id(&id)?).await?;
    Ok(json(StatusCode::OK, &to_wire::transfer(&job), None))
}

async fn cancel(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    hub.transfer_cancel(&who, &from_wire::job_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
