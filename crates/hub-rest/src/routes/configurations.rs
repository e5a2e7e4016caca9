//! Automatic configurations (S 8).

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use hub_api::configuration::QueriesTest;
use hub_domain::limits::CONFIGURATIONS_MAX;
use hub_domain::version::Precondition;
use hub_engine::configurations::ConfigurationView;
use serde::Deserialize;
use serde_json::Value;

use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::from_wire::rollout::Asked;
use crate::status::ApiError;
use crate::{from_wire, to_wire};

pub fn handlers() -> MethodRouter<Shared> {
    get(read).put(write).delete(remove)
}

pub fn test_handlers() -> MethodRouter<Shared> {
    post(test_queries)
}

pub fn apply_handlers() -> MethodRouter<Shared> {
    post(apply_content)
}

#[derive(Deserialize)]
pub struct ListQuery {
    top: Option<String>,
}

pub async fn list(State(hub): State<Shared>, Caller(who): Caller, Query(query): Query<ListQuery>) -> Answer {
    let top = match query.top.as_deref() {
        None | Some("") => CONFIGURATIONS_MAX,
        // More than there can be counts as all of them.
        Some(text) => text
            .parse()
            .ok()
            .filter(|top| *top > 0)
            .ok_or_else(|| ApiError::invalid(format!("top '{text}' is not a whole number above 0")))?,
    };
    let views = hub.configuration_list(&who, top).await?;
    let configurations: Vec<Value> = views.iter().map(to_wire::configuration).collect();
    Ok(json(StatusCode::OK, &configurations, None))
}

async fn read(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    Ok(answer(&hub.configuration_get(&who, &from_wire::configuration_id(&id)?).await?))
}

async fn write(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let spec = from_wire::configuration(&id, &from_wire::json(&body)?)?;
    Ok(answer(&match from_wire::precondition(&headers)? {
        Precondition::None => hub.configuration_create(&who, spec).await?,
        demand => hub.configuration_update(&who, spec, &demand).await?,
    }))
}

async fn remove(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let (id, demand) = (from_wire::configuration_id(&id)?, from_wire::precondition(&headers)?);
    hub.configuration_delete(&who, &id, &demand).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub async fn decide(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Json(body): Json,
) -> Answer {
    let id = from_wire::configuration_id(&id)?;
    let view = match from_wire::rollout::asked(from_wire::json(&body)?)? {
        Asked::Decision(decision) => hub.configuration_decide(&who, &id, &decision).await?,
        Asked::OverrideGates(reason) => hub.configuration_override_gates(&who, &id, &reason).await?,
    };
    Ok(answer(&view))
}

/// What is wrong with queries is the answer, not an error.
async fn test_queries(State(hub): State<Shared>, Caller(who): Caller, Json(body): Json) -> Answer {
    let test: QueriesTest = from_wire::json(&body)?;
    let metrics = test.custom_metric_queries.unwrap_or_default();
    let found = hub.configuration_test_queries(&who, test.target_condition.as_deref(), &metrics)?;
    Ok(json(StatusCode::OK, &to_wire::query_findings(found), None))
}

async fn apply_content(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Json(body): Json,
) -> Answer {
    let (id, content) =
        (from_wire::device_id(&id)?, from_wire::configuration_content(&from_wire::json(&body)?)?);
    hub.configuration_content_apply(&who, &id, &content).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn answer(view: &ConfigurationView) -> Response {
    let etag = view.configuration.etag();
    json(StatusCode::OK, &to_wire::configuration(view), Some(etag.as_str()))
}
