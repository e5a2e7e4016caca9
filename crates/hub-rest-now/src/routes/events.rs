//! Events as server-sent events: from a position on, filtered, for as long as the reader stays (ours).

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use hub_api::event::{END, StreamEnd};
use hub_domain::event::{EventSource, Position};
use hub_engine::events::EventFilter;
use hub_engine::{Hub, Principal};
use serde::Deserialize;

use super::Shared;
use crate::auth::Caller;
use crate::config::{EVENT_KEEP_ALIVE, EVENT_PAGE_MAX};
use crate::status::ApiError;
use crate::{from_wire, to_wire};

#[derive(Deserialize)]
pub struct EventQuery {
    source: Option<String>,
    device: Option<String>,
    after: Option<String>,
}

pub async fn stream(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Query(query): Query<EventQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let filter = EventFilter {
        sources: sources(query.source.as_deref())?,
        device: query.device.as_deref().map(from_wire::device_id).transpose()?,
    };
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let after = match last.or(query.after.as_deref()) {
        None => hub.events_end(),
        Some(text) => Position::parse(text).ok_or_else(|| {
            ApiError::invalid(format!(
                "position '{text}' is not valid: expected the id of an event, such as 12.0"
            ))
        })?,
    };
    // Once here, so that a wrong right or a position that is gone is an error and not an empty stream.
    hub.events_read(&who, &filter, Some(after), 1).await?;
    let keep_alive = KeepAlive::new().interval(EVENT_KEEP_ALIVE);
    Ok(Sse::new(events(hub, who, filter, after)).keep_alive(keep_alive).into_response())
}

fn sources(text: Option<&str>) -> Result<Vec<EventSource>, ApiError> {
    let words = text.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty());
    let parse = |word: &str| {
        let known = EventSource::parse(word);
        known.ok_or_else(|| {
            ApiError::invalid(format!(
                "source '{word}' is not known; expected telemetry, twin, lifecycle or connection"
            ))
        })
    };
    words.map(parse).collect()
}

/// Reads a page at a time, and only when the reader has taken the one before: a slow reader costs nobody else, and one
/// that is too slow for the log is told from where it can go on.
fn events(
    hub: Arc<Hub>,
    who: Principal,
    filter: EventFilter,
    after: Position,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let watch = hub.events_watch();
    stream::unfold(Some((after, watch)), move |state| {
        let (hub, who, filter) = (hub.clone(), who.clone(), filter.clone());
        async move {
            let (mut reached, mut watch) = state?;
            loop {
                match hub.events_read(&who, &filter, Some(reached), EVENT_PAGE_MAX).await {
                    Ok(page) => {
                        reached = page.reached.max(reached);
                        if !page.events.is_empty() {
                            let events: Vec<_> =
                                page.events.into_iter().map(|(at, event)| Ok(to_sse(at, event))).collect();
                            return Some((stream::iter(events), Some((reached, watch))));
                        }
                        if page.at_end {
                            watch.grown(reached).await;
                        }
                    }
                    Err(error) => {
                        let oldest = match &error {
                            hub_engine::Error::PositionGone { oldest } => Some(oldest.to_string()),
                            _ => None,
                        };
                        let end =
                            StreamEnd { reason: error.to_string(), position: reached.to_string(), oldest };
                        let data = serde_json::to_string(&end).expect("it has text keys and goes to memory");
                        let last = sse::Event::default().event(END).data(data);
                        return Some((stream::iter(vec![Ok(last)]), None));
                    }
                }
            }
        }
    })
    .flatten()
}

fn to_sse(position: Position, event: hub_domain::event::Event) -> sse::Event {
    let body = to_wire::event(event);
    let data = serde_json::to_string(&body).expect("events have text keys and go to memory");
    sse::Event::default().id(position.to_string()).event(body.source).data(data)
}
