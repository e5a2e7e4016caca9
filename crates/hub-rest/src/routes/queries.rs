//! Queries, page by page, with the headers that carry kind and continuation (S 7.1).

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::routing::{MethodRouter, post};
use hub_api::query::{CONTINUATION, ITEM_TYPE, MAX_ITEM_COUNT, QueryRequest};

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
    let header =
        |name: &str| from_wire::header(&headers, name).map(|text| text.filter(|text| !text.is_empty()));
    let count = header(MAX_ITEM_COUNT)?.map(|text| {
        let count = text.parse::<usize>().ok().filter(|count| *count > 0);
        count.ok_or_else(|| {
            ApiError::invalid(format!("{MAX_ITEM_COUNT} '{text}' is not a whole number above 0"))
        })
    });
    let page = hub.query(&who, &text, count.transpose()?, header(CONTINUATION)?).await?;
    let mut response = json(StatusCode::OK, &page.rows, None);
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(ITEM_TYPE), HeaderValue::from_static(page.item_type.name()));
    if let Some(Ok(token)) = page.continuation.map(|token| HeaderValue::from_str(&token)) {
        headers.insert(HeaderName::from_static(CONTINUATION), token);
    }
    Ok(response)
}
