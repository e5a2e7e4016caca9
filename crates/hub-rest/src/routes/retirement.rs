//! The end of a device's life (ours): retire, restore, erase, release, replace, and everything known about one device.

use std::io;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use bytes::Bytes;
use futures_util::stream;
use hub_api::query::{CONTINUATION, MAX_ITEM_COUNT};
use hub_api::retirement::KnownPart;
use hub_domain::query::ItemType;
use hub_domain::retirement::RetirementState;
use hub_engine::retirement::Everything;
use serde::Deserialize;

use super::{Answer, Json, Shared, json, queries};
use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::from_wire::{self, retirement as request};
use crate::to_wire::retirement as to_wire;

pub fn retire_handlers() -> MethodRouter<Shared> {
    post(retire)
}

pub fn replace_handlers() -> MethodRouter<Shared> {
    post(replace)
}

pub fn one_handlers() -> MethodRouter<Shared> {
    get(read).delete(erase)
}

pub fn restore_handlers() -> MethodRouter<Shared> {
    post(restore)
}

async fn retire(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Json(body): Json,
) -> Answer {
    let device = from_wire::device_id(&id)?;
    let request = request::retire(from_wire::json_or_none(&body)?)?;
    let retired = hub.device_retire(&who, &device, &request).await?;
    Ok(json(StatusCode::OK, &to_wire::retirement(retired), None))
}

async fn replace(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Json(body): Json,
) -> Answer {
    let device = from_wire::device_id(&id)?;
    let request = request::replacement(from_wire::json(&body)?)?;
    let replaced = hub.device_replace(&who, &device, &request).await?;
    Ok(json(StatusCode::OK, &to_wire::replaced(replaced), None))
}

pub async fn list(State(hub): State<Shared>, Caller(who): Caller, headers: HeaderMap) -> Answer {
    let rows = queries::page_rows(queries::header(&headers, MAX_ITEM_COUNT)?)?;
    let page = hub.retired_list(&who, rows, queries::header(&headers, CONTINUATION)?).await?;
    let retired: Vec<_> = page.retired.into_iter().map(to_wire::retirement).collect();
    Ok(queries::page(&retired, ItemType::Raw, page.continuation))
}

async fn read(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    let view = hub.retired_get(&who, &from_wire::device_id(&id)?).await?;
    Ok(json(StatusCode::OK, &to_wire::retired(view), None))
}

/// 202 if the erasure takes longer: it goes on by itself.
async fn erase(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    let retired = hub.retired_erase(&who, &from_wire::device_id(&id)?).await?;
    let status = match retired.state() {
        RetirementState::Restorable | RetirementState::Erasing => StatusCode::ACCEPTED,
        RetirementState::Erased | RetirementState::Released => StatusCode::OK,
    };
    Ok(json(status, &to_wire::retirement(retired), None))
}

async fn restore(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Json(body): Json,
) -> Answer {
    let device = from_wire::device_id(&id)?;
    let request: hub_api::retirement::RestoreRequest = from_wire::json_or_none(&body)?;
    let view = hub.retired_restore(&who, &device, request.new_keys.unwrap_or(false)).await?;
    Ok(json(StatusCode::OK, &crate::to_wire::device(&view), Some(view.identity.etag().as_str())))
}

pub async fn release(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    let retired = hub.retired_release(&who, &from_wire::device_id(&id)?).await?;
    Ok(json(StatusCode::OK, &to_wire::retirement(retired), None))
}

#[derive(Deserialize)]
pub struct EverythingQuery {
    keys: Option<bool>,
}

/// A line for each thing that is known, and one that says that this was all.
pub async fn everything(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(query): Query<EverythingQuery>,
) -> Answer {
    let keys = query.keys.unwrap_or(false);
    let everything = hub.everything(&who, &from_wire::device_id(&id)?, keys).await?;
    let pages = stream::unfold(Some(everything), move |everything| async move {
        let mut everything = everything?;
        Some(match lines(&mut everything, keys).await {
            Ok(Some(lines)) => (Ok(lines), Some(everything)),
            Ok(None) => (Ok(line(&KnownPart::End {})), None),
            Err(error) => (Err(io::Error::other(error.to_string())), None),
        })
    });
    let mut response: Response = axum::body::Body::from_stream(pages).into_response();
    let kind = HeaderValue::from_static("application/x-ndjson; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn lines(everything: &mut Everything, keys: bool) -> hub_engine::Result<Option<Bytes>> {
    let Some(parts) = everything.page().await? else { return Ok(None) };
    let lines = parts.into_iter().map(|part| line(&to_wire::known_part(part, keys)));
    Ok(Some(lines.collect::<Vec<_>>().concat().into()))
}

fn line(part: &KnownPart) -> Bytes {
    let mut text = serde_json::to_vec(part).expect("lines have text keys and go to memory");
    text.push(b'\n');
    text.into()
}
