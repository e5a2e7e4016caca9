//! Rollouts of jobs and the context of devices: ours.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get};
use hub_domain::context::HubContext;

use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::extract::Path;
use crate::from_wire::rollout::Asked;
use crate::status::ApiError;
use crate::{from_wire, to_wire};

pub fn context_handlers() -> MethodRouter<Shared> {
    get(context).put(replace_context)
}

async fn context(State(hub): State<Shared>, Caller(who): Caller) -> Answer {
    Ok(json(StatusCode::OK, &hub.context_get(&who)?.to_json(), None))
}

async fn replace_context(State(hub): State<Shared>, Caller(who): Caller, Json(body): Json) -> Answer {
    let document = from_wire::json(&body)?;
    let context = HubContext::parse(&document).map_err(|error| ApiError::invalid(error.to_string()))?;
    Ok(json(StatusCode::OK, &hub.context_replace(&who, context).await?.to_json(), None))
}

pub async fn preview(State(hub): State<Shared>, Caller(who): Caller, Json(body): Json) -> Answer {
    let (job, guess) = from_wire::rollout::dry_run(from_wire::json(&body)?)?;
    let found = hub.job_dry_run(&who, job, guess).await?;
    Ok(json(StatusCode::OK, &to_wire::rollout::dry_run(found), None))
}

pub async fn waiting(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    let id = from_wire::job_id(&id)?;
    let waiting = hub.job_waiting(&who, &id).await?;
    Ok(json(StatusCode::OK, &to_wire::rollout::waiting(&id, waiting), None))
}

pub fn handlers() -> MethodRouter<Shared> {
    get(progress).post(decide)
}

async fn progress(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    let job = hub.job_get(&who, &from_wire::job_id(&id)?).await?;
    match &job.state.rollout {
        Some(rollout) => Ok(json(StatusCode::OK, &rollout.to_json(), None)),
        None => {
            let text = format!("job '{id}' has no rollout, or has not begun it");
            Err(ApiError::bad(404_000, "GenericNotFound", text))
        }
    }
}

async fn decide(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Json(body): Json,
) -> Answer {
    let id = from_wire::job_id(&id)?;
    let job = match from_wire::rollout::asked(from_wire::json(&body)?)? {
        Asked::Decision(decision) => hub.job_decide(&who, &id, &decision).await?,
        Asked::OverrideGates(reason) => hub.job_override_gates(&who, &id, &reason).await?,
    };
    Ok(json(StatusCode::OK, &to_wire::job(&job)?, None))
}
