//! Queries, page by page, with the headers that carry kind and continuation (S 7.1).

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use hub_api::query::{CONTINUATION, ITEM_TYPE, MAX_ITEM_COUNT};
use hub_domain::query::ItemType;
use hub_engine::queries::QueryPage;
use serde::Deserialize;

use super::{Answer, Json, Shared, json, json_text};
use crate::auth::Caller;
use crate::extract::Query;
use crate::from_wire::{self, Asked};
use crate::status::ApiError;

pub fn handlers() -> MethodRouter<Shared> {
    post(query)
}

/// Tags and a number of rows, as clients of the first edition send them in place of a body.
#[derive(Deserialize)]
struct TagsQuery {
    tags: Option<String>,
    top: Option<String>,
}

async fn query(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Query(in_url): Query<TagsQuery>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let asked = from_wire::query(&body, in_url.tags.as_deref())?;
    let rows = page_rows(header(&headers, MAX_ITEM_COUNT)?.or(in_url.top.as_deref()))?;
    let token = header(&headers, CONTINUATION)?;
    let page = match asked {
        Asked::Text(text) => hub.query(&who, &text, rows, token).await?,
        Asked::Document(document) => hub.query_document(&who, &document, rows, token).await?,
    };
    Ok(printed(&page))
}

/// A header that is not empty.
pub fn header<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, ApiError> {
    Ok(from_wire::header(headers, name)?.filter(|text| !text.is_empty()))
}

/// How many rows a page shall have.
pub fn page_rows(text: Option<&str>) -> Result<Option<usize>, ApiError> {
    let parse = |text: &str| {
        let rows = text.parse::<usize>().ok().filter(|rows| *rows > 0);
        rows.ok_or_else(|| {
            ApiError::invalid(format!("{MAX_ITEM_COUNT} '{text}' is not a whole number above 0"))
        })
    };
    text.map(parse).transpose()
}

/// An answer of the rows of a query.
pub fn printed(page: &QueryPage) -> Response {
    // Written once: a page of whole twins is some hundred kilobytes.
    let bytes: usize = page.rows.iter().map(|row| row.len() + ",".len()).sum();
    let mut text = String::with_capacity(bytes + "[]".len());
    for row in &page.rows {
        text.push(if text.is_empty() { '[' } else { ',' });
        text.push_str(row);
    }
    text.push_str(if text.is_empty() { "[]" } else { "]" });
    with_kind(json_text(StatusCode::OK, text), page.item_type, page.continuation.as_deref())
}

/// An answer of rows with what kind they are and where the next page begins.
pub fn page<T: serde::Serialize>(rows: &[T], kind: ItemType, continuation: Option<String>) -> Response {
    with_kind(json(StatusCode::OK, &rows, None), kind, continuation.as_deref())
}

fn with_kind(mut response: Response, kind: ItemType, continuation: Option<&str>) -> Response {
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(ITEM_TYPE), HeaderValue::from_static(kind.name()));
    if let Some(Ok(token)) = continuation.map(HeaderValue::from_str) {
        headers.insert(HeaderName::from_static(CONTINUATION), token);
    }
    response
}
