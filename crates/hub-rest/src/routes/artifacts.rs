//! Artifacts: stored as they stream in, fetched whole or in ranges by whoever has a link (ours).

use std::io::{self, SeekFrom};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use futures_util::{Stream, StreamExt};
use hub_api::artifact::{Grant, GrantRequest};
use hub_domain::artifact::Digest;
use hub_domain::time::Timestamp;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::config::{GRANT_LIFETIME_DEFAULT, UPLOAD_SILENCE_MAX};
use crate::extract::{Path, Query};
use crate::status::ApiError;
use crate::{from_wire, to_wire};

/// Bytes of a file that are read at once.
const FILE_CHUNK_BYTES: usize = 64 * 1024;

pub fn handlers() -> MethodRouter<Shared> {
    get(list).post(add)
}

pub fn one_handlers() -> MethodRouter<Shared> {
    delete(remove)
}

pub fn grant_handlers() -> MethodRouter<Shared> {
    post(grant)
}

fn digest(text: &str) -> Result<Digest, ApiError> {
    Digest::parse(text).ok_or_else(|| {
        ApiError::invalid(format!("'{text}' is not a SHA-256: expected 64 hexadecimal digits"))
    })
}

async fn list(State(hub): State<Shared>, Caller(who): Caller) -> Answer {
    let artifacts: Vec<_> = hub.artifact_list(&who).await?.iter().map(to_wire::artifact).collect();
    Ok(json(StatusCode::OK, &artifacts, None))
}

#[derive(Deserialize)]
pub struct AddQuery {
    name: Option<String>,
}

async fn add(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Query(query): Query<AddQuery>,
    request: Request,
) -> Answer {
    let name = query
        .name
        .ok_or_else(|| ApiError::invalid("the query has no name: expected /api/artifacts?name=…"))?;
    let content = Box::pin(upload(request.into_body().into_data_stream()));
    let artifact = hub.artifact_add(&who, &name, content).await?;
    Ok(json(StatusCode::OK, &to_wire::artifact(&artifact), None))
}

/// An upload that falls silent is cut.
pub(super) fn upload(body: BodyDataStream) -> impl Stream<Item = io::Result<bytes::Bytes>> + Send {
    futures_util::stream::unfold(body, |mut body| async move {
        let chunk = match tokio::time::timeout(UPLOAD_SILENCE_MAX, body.next()).await {
            Ok(None) => return None,
            Ok(Some(chunk)) => chunk.map_err(io::Error::other),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        Some((chunk, body))
    })
}

async fn remove(State(hub): State<Shared>, Caller(who): Caller, Path(name): Path<String>) -> Answer {
    hub.artifact_remove(&who, &digest(&name)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn grant(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(name): Path<String>,
    Json(body): Json,
) -> Answer {
    let request: GrantRequest = from_wire::json(&body)?;
    let lifetime = request.expires_in_seconds.map_or(GRANT_LIFETIME_DEFAULT, Duration::from_secs);
    let digest = digest(&name)?;
    let grant = hub.artifact_grant(&who, &digest, lifetime).await?;
    let path = format!(
        "/api/artifacts/{digest}/content?expires={}&signature={}",
        grant.expires.seconds(),
        grant.signature
    );
    Ok(json(StatusCode::OK, &Grant { path, expires_at: grant.expires.to_string() }, None))
}

#[derive(Deserialize)]
pub struct Link {
    expires: i64,
    signature: String,
}

/// The only route whose credential is its link.
pub async fn content(
    State(hub): State<Shared>,
    Path(name): Path<String>,
    link: Result<Query<Link>, ApiError>,
    method: Method,
    headers: HeaderMap,
) -> Answer {
    let Query(link) = link
        .map_err(|_| ApiError::bad(401_003, "IotHubUnauthorized", "the link needs expires and signature"))?;
    let digest = digest(&name)?;
    let (artifact, mut file) =
        hub.artifact_open(&digest, Timestamp::from_seconds(link.expires), &link.signature).await?;
    let wanted = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let common = [
        (header::ACCEPT_RANGES, "bytes".to_string()),
        (header::ETAG, format!("\"{digest}\"")),
        (header::CONTENT_TYPE, "application/octet-stream".to_string()),
    ];
    let (status, first, length) = match wanted.map(|text| range(text, artifact.bytes)) {
        None | Some(Wanted::All) => (StatusCode::OK, 0, artifact.bytes),
        Some(Wanted::Part { first, length }) => (StatusCode::PARTIAL_CONTENT, first, length),
        Some(Wanted::Nothing) => {
            let whole = [(header::CONTENT_RANGE, format!("bytes */{}", artifact.bytes))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, whole).into_response());
        }
    };
    let failed =
        |error: io::Error| ApiError::bad(500_001, "ServerError", format!("the file cannot be read: {error}"));
    file.seek(SeekFrom::Start(first)).await.map_err(failed)?;
    let body = match method {
        Method::HEAD => Body::empty(),
        _ => Body::from_stream(ReaderStream::with_capacity(file.take(length), FILE_CHUNK_BYTES)),
    };
    let mut response: Response = (status, common, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {first}-{}/{}", first + length - 1, artifact.bytes);
        headers
            .extend(text.parse().ok().map(|value: axum::http::HeaderValue| (header::CONTENT_RANGE, value)));
    }
    Ok(response)
}

/// What a Range header asks of a file.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// Everything: also for what is not understood, as RFC 9110 allows.
    All,
    /// A part.
    Part { first: u64, length: u64 },
    /// A part that the file does not have.
    Nothing,
}

fn range(text: &str, bytes: u64) -> Wanted {
    let Some((first, last)) = text
        .trim()
        .strip_prefix("bytes=")
        .filter(|part| !part.contains(','))
        .and_then(|part| part.split_once('-'))
    else {
        return Wanted::All;
    };
    let (first, last) = match (first.trim().parse::<u64>(), last.trim()) {
        (Ok(first), "") => (first, bytes.saturating_sub(1)),
        (Ok(first), last) => match last.parse::<u64>() {
            Ok(last) if last >= first => (first, last.min(bytes.saturating_sub(1))),
            _ => return Wanted::All,
        },
        (Err(_), last) if first.trim().is_empty() => match last.parse::<u64>() {
            Ok(0) => return Wanted::Nothing,
            Ok(suffix) => (bytes.saturating_sub(suffix), bytes.saturating_sub(1)),
            Err(_) => return Wanted::All,
        },
        _ => return Wanted::All,
    };
    if first >= bytes { Wanted::Nothing } else { Wanted::Part { first, length: last - first + 1 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let part = |first, length| Wanted::Part { first, length };
        for (text, wanted) in [
            ("bytes=0-9", part(0, 10)),
            ("bytes=90-", part(90, 10)),
            ("bytes=90-1000", part(90, 10)),
            ("bytes=-10", part(90, 10)),
            ("bytes=-1000", part(0, 100)),
            ("bytes=99-99", part(99, 1)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=9-3", Wanted::All),
            ("bytes=0-1,5-6", Wanted::All),
            ("lines=0-1", Wanted::All),
            ("bytes=x-", Wanted::All),
            ("bytes=18446744073709551616-", Wanted::All),
        ] {
            assert_eq!(range(text, 100), wanted, "{text}");
        }
        assert_eq!(range("bytes=0-", 0), Wanted::Nothing);
    }
}
