//! Queries, page by page, with the headers that carry kind and continuation (S 7.1).

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use hub_api::query::{CONTINUATION, ITEM_TYPE, MAX_ITEM_COUNT, QueryRequest};
use hub_domain::query::ItemType;

use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::from_wire;
use crate::status::ApiError;

pub fn handlers() -> MethodRouter<Shared> {
    post(query)
}

async fn query(
    State(hub): State<Shared>,
    Caller(who): Caller,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let request: QueryRequest = from_wire::json(&body)?;
    let text = request
        .query
        .ok_or_else(|| ApiError::bad(400_005, "ArgumentNull", "the body has no member 'query'"))?;
    let rows = page_rows(header(&headers, MAX_ITEM_COUNT)?)?;
    let page_of = hub.query(&who, &text, rows, header(&headers, CONTINUATION)?).await?;
    Ok(page(&page_of.rows, page_of.item_type, page_of.continuation))
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

/// An answer of rows with what kind they are and where the next page begins.
pub fn page<T: serde::Serialize>(rows: &[T], kind: ItemType, continuation: Option<String>) -> Response {
    let mut response = json(StatusCode::OK, &rows, None);
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(ITEM_TYPE), HeaderValue::from_static(kind.name()));
    if let Some(Ok(token)) = continuation.map(|token| HeaderValue::from_str(&token)) {
        headers.insert(HeaderName::from_static(CONTINUATION), token);
    }
    response
}
