//! Status, health and policies (ours).

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, post};
use hub_api::policy::{Policy, RotateRequest};
use hub_api::status::Health;
use hub_engine::registry::KeyChoice;

use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::extract::Path;
use crate::status::ApiError;
use crate::{from_wire, to_wire};

pub async fn status(State(hub): State<Shared>, Caller(who): Caller) -> Answer {
    Ok(json(StatusCode::OK, &to_wire::status(hub.status(&who)?, hub.is_ready()), None))
}

pub async fn health(State(hub): State<Shared>) -> Answer {
    Ok(match hub.is_ready() {
        true => json(StatusCode::OK, &Health { status: "ok".into() }, None),
        false => json(StatusCode::SERVICE_UNAVAILABLE, &Health { status: "unavailable".into() }, None),
    })
}

fn without_keys(policy: &hub_engine::policies::Policy) -> Policy {
    let rights = policy.rights.names().into_iter().map(String::from).collect();
    Policy { name: policy.name.clone(), rights, primary_key: None, secondary_key: None }
}

fn with_keys(policy: &hub_engine::policies::Policy) -> Policy {
    Policy {
        primary_key: Some(policy.primary.to_base64()),
        secondary_key: Some(policy.secondary.to_base64()),
        ..without_keys(policy)
    }
}

pub async fn policies(State(hub): State<Shared>, Caller(who): Caller) -> Answer {
    let policies = hub.policy_list(&who)?;
    let policies: Vec<_> = policies.iter().map(without_keys).collect();
    Ok(json(StatusCode::OK, &policies, None))
}

pub async fn policy(State(hub): State<Shared>, Caller(who): Caller, Path(name): Path<String>) -> Answer {
    Ok(json(StatusCode::OK, &with_keys(&hub.policy_get(&who, &name)?), None))
}

pub fn rotate_handlers() -> MethodRouter<Shared> {
    post(rotate)
}

async fn rotate(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(name): Path<String>,
    Json(body): Json,
) -> Answer {
    let request: RotateRequest = from_wire::json(&body)?;
    let choice = match request.key.as_deref().unwrap_or_default() {
        "primary" => KeyChoice::Primary,
        "secondary" => KeyChoice::Secondary,
        "both" => KeyChoice::Both,
        other => {
            return Err(ApiError::invalid(format!(
                "key '{other}' is not known; expected primary, secondary or both"
            )));
        }
    };
    Ok(json(StatusCode::OK, &with_keys(&hub.policy_rotate(&who, &name, choice).await?), None))
}
