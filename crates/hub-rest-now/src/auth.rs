//! Who asks: the Authorization header and the path become a principal. A handler that holds a [`Caller`] has a checked one.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use hub_engine::{Hub, Principal};
use percent_encoding::percent_decode_str;

use crate::status::ApiError;

/// A back end that proved who it is, for the path that it asks for.
#[derive(Clone, Debug)]
pub struct Caller(pub Principal);

impl FromRequestParts<Arc<Hub>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, ApiError> {
        if !parts.uri.path().starts_with("/api/") {
            check_api_version(parts.uri.query().unwrap_or_default())?;
        }
        let header =
            parts.headers.get(AUTHORIZATION).ok_or_else(|| unauthorized("Authorization header missing"))?;
        let token = header.to_str().map_err(|_| unauthorized("the Authorization header is not text"))?;
        let segments: Vec<String> = parts
            .uri
            .path()
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
            .collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        Ok(Self(hub.authenticate_service(token, &segments)?))
    }
}

fn unauthorized(text: &str) -> ApiError {
    ApiError::bad(401_003, "IotHubUnauthorized", text)
}

/// Any date will do, since the shapes have not changed; none at all is refused (S 1.5).
fn check_api_version(query: &str) -> Result<(), ApiError> {
    let version = query.split('&').find_map(|part| part.strip_prefix("api-version=")).unwrap_or_default();
    let date = version.strip_suffix("-preview").unwrap_or(version);
    let well_formed = date.len() == 10
        && date
            .bytes()
            .enumerate()
            .all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() });
    if well_formed {
        return Ok(());
    }
    let text =
        format!("api-version '{version}' is not valid: expected a date such as 2021-04-12 in the query");
    Err(ApiError::bad(400_001, "InvalidProtocolVersion", text))
}
