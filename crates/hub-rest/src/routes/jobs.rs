//! Jobs over many devices (S 6).

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{MethodRouter, get, post};
use hub_api::job::JobTarget;
use hub_api::query::{CONTINUATION, MAX_ITEM_COUNT};
use hub_domain::job::{ItemStatus, JobStatus};
use hub_domain::query::ItemType;
use hub_engine::access::Principal;
use hub_engine::jobs::JobFilter;
use hub_engine::{Error, Hub};
use serde::Deserialize;

use super::queries::{self, page_rows};
use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::status::ApiError;
use crate::{from_wire, to_wire};

pub fn handlers() -> MethodRouter<Shared> {
    get(read).put(create)
}

pub fn cancel_handlers() -> MethodRouter<Shared> {
    post(cancel)
}

async fn create(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Json(body): Json,
) -> Answer {
    let job = from_wire::job(&id, from_wire::json(&body)?)?;
    let job = hub.job_create(&who, job).await?;
    Ok(json(StatusCode::OK, &to_wire::job(&job)?, None))
}

async fn read(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    let id = from_wire::job_id(&id)?;
    match hub.job_get(&who, &id).await {
        // Clients that know only one kind of jobs at first ask here for the other.
        Err(Error::JobNotFound(_)) if let Ok(job) = hub.transfer_get(&who, &id).await => {
            Ok(json(StatusCode::OK, &to_wire::transfer_stub(&job), None))
        }
        job => Ok(json(StatusCode::OK, &to_wire::job(&job?)?, None)),
    }
}

async fn cancel(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    let job = hub.job_cancel(&who, &from_wire::job_id(&id)?).await?;
    Ok(json(StatusCode::OK, &to_wire::job(&job)?, None))
}

/// Which targets of a job.
#[derive(Deserialize)]
pub struct TargetsQuery {
    status: Option<String>,
}

/// The targets of a job: its children.
pub async fn targets(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(query): Query<TargetsQuery>,
    headers: HeaderMap,
) -> Answer {
    let status = query.status.filter(|text| !text.is_empty()).map(|text| {
        let known = ItemStatus::ALL.map(ItemStatus::as_str).join(", ");
        let parsed = ItemStatus::parse(&text.to_ascii_lowercase());
        parsed.ok_or_else(|| ApiError::invalid(format!("status '{text}' is not known; there are {known}")))
    });
    let rows = page_rows(queries::header(&headers, MAX_ITEM_COUNT)?)?;
    let token = queries::header(&headers, CONTINUATION)?;
    let page = hub.job_targets(&who, &from_wire::job_id(&id)?, status.transpose()?, rows, token).await?;
    Ok(queries::printed(&page))
}

/// A device as a target of a job, with the job: a child and its parent.
pub async fn target(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path((id, device)): Path<(String, String)>,
) -> Answer {
    one_target(&hub, &who, &id, &device, None).await
}

/// Likewise for a module.
pub async fn module_target(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path((id, device, module)): Path<(String, String, String)>,
) -> Answer {
    one_target(&hub, &who, &id, &device, Some(&module)).await
}

async fn one_target(hub: &Hub, who: &Principal, id: &str, device: &str, module: Option<&str>) -> Answer {
    let (job, target) = (from_wire::job_id(id)?, from_wire::twin_id(device, module)?);
    let (record, parent) = hub.job_target(who, &job, &target).await?;
    let body = JobTarget { target: record, parent: to_wire::job(&parent)? };
    Ok(json(StatusCode::OK, &body, None))
}

/// Filters and, as an alternative to the headers, the page.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListQuery {
    job_type: Option<String>,
    job_status: Option<String>,
    page_size: Option<String>,
    continuation_token: Option<String>,
}

pub async fn list(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Answer {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let status = given(query.job_status).map(|text| {
        let known = JobStatus::ALL.map(JobStatus::as_str).join(", ");
        let parsed = JobStatus::parse(&text);
        parsed.ok_or_else(|| ApiError::invalid(format!("jobStatus '{text}' is not known; there are {known}")))
    });
    let kind = given(query.job_type);
    let filter = JobFilter { kind: kind.as_deref(), status: status.transpose()? };
    let (page_size, token) = (given(query.page_size), given(query.continuation_token));
    let rows = page_rows(queries::header(&headers, MAX_ITEM_COUNT)?.or(page_size.as_deref()))?;
    let token = queries::header(&headers, CONTINUATION)?.or(token.as_deref());
    let page = hub.job_list(&who, filter, rows, token).await?;
    let jobs = page.jobs.iter().map(to_wire::job).collect::<Result<Vec<_>, _>>()?;
    Ok(queries::page(&jobs, ItemType::JobResponse, page.continuation))
}
