//! Events as server-sent events: from a position on, filtered, for as long as the reader stays (ours).

use std::convert::Infallible;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use hub_api::event::{END, StreamEnd};
use hub_domain::event::{EventSource, Position};
use hub_engine::events::{EventFilter, EventWatch};
use hub_engine::{Error, Principal};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::auth::Caller;
use crate::config::{EVENT_KEEP_ALIVE, EVENT_PAGE_MAX};
use crate::extract::Query;
use crate::listener::Peer;
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
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let filter = EventFilter {
        sources: sources(query.source.as_deref())?,
        device: query.device.as_deref().map(from_wire::device_id).transpose()?,
    };
    let last = from_wire::header(&headers, "last-event-id")?;
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
    let watch = hub.events_watch();
    let caller = Held { hub, who, stop: peer.stop };
    let reader = Reader { caller, filter, reached: after, watch, ended: false };
    let pages = stream::unfold(reader, |mut reader| async move { Some((reader.next().await?, reader)) });
    Ok(respond(pages))
}

/// Pages of events as an answer that shows now and then that it lives.
pub(super) fn respond(pages: impl Stream<Item = Vec<sse::Event>> + Send + 'static) -> Response {
    let events = pages.flat_map(|page| stream::iter(page.into_iter().map(Ok::<_, Infallible>)));
    let keep_alive = KeepAlive::new().interval(EVENT_KEEP_ALIVE);
    Sse::new(events).keep_alive(keep_alive).into_response()
}

/// Who reads a stream, for as long as he may.
pub(super) struct Held {
    pub(super) hub: Shared,
    pub(super) who: Principal,
    pub(super) stop: CancellationToken,
}

impl Held {
    /// Why the stream ends, if it does.
    pub(super) fn is_over(&self) -> Option<&'static str> {
        let is_expired = self.who.expires().is_some_and(|expires| expires < self.hub.now());
        match self.stop.is_cancelled() {
            true => Some("the hub shuts down"),
            false => is_expired.then_some("the token expired"),
        }
    }

    /// Waits for news; also returns to have it looked whether the stream is over.
    pub(super) async fn wait(&self, news: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = news => {}
            // Only to look whether the token has expired.
            () = tokio::time::sleep(EVENT_KEEP_ALIVE) => {}
        }
    }
}

/// The last event of a stream.
pub(super) fn end(reason: &str, reached: Position, oldest: Option<Position>) -> sse::Event {
    let oldest = oldest.map(|oldest| oldest.to_string());
    let end = StreamEnd { reason: reason.into(), position: reached.to_string(), oldest };
    sse::Event::default().event(END).data(to_wire::event_data(&end))
}

fn sources(text: Option<&str>) -> Result<Vec<EventSource>, ApiError> {
    let words = text.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty());
    let parse = |word: &str| {
        let known = EventSource::parse(word);
        known.ok_or_else(|| {
            ApiError::invalid(format!(
                "source '{word}' is not known; expected telemetry, twin, lifecycle, connection or job"
            ))
        })
    };
    words.map(parse).collect()
}

/// Reads a page at a time, and only when the client has taken the one before: a slow one costs nobody else, and one
/// that is too slow for the log is told from where it can go on.
struct Reader {
    caller: Held,
    filter: EventFilter,
    reached: Position,
    watch: EventWatch,
    ended: bool,
}

impl Reader {
    /// The next events, one at least; `None` after the last.
    async fn next(&mut self) -> Option<Vec<sse::Event>> {
        while !self.ended {
            if let Some(reason) = self.caller.is_over() {
                return Some(self.end(reason, None));
            }
            let Held { hub, who, .. } = &self.caller;
            // Taken before the read: whatever is visible by then is in a read that reaches the end. Without it, a commit
            // that tells nothing would look like more to read for ever.
            let end = hub.events_end();
            let page = match hub.events_read(who, &self.filter, Some(self.reached), EVENT_PAGE_MAX).await {
                Ok(page) => page,
                Err(error) => {
                    let oldest = match &error {
                        Error::PositionGone { oldest } => Some(*oldest),
                        _ => None,
                    };
                    return Some(self.end(&error.to_string(), oldest));
                }
            };
            self.reached = if page.at_end { page.reached.max(end) } else { page.reached };
            if !page.events.is_empty() {
                return Some(page.events.into_iter().map(|(at, event)| to_sse(at, event)).collect());
            }
            if page.at_end {
                self.caller.wait(self.watch.grown(self.reached)).await;
            }
        }
        None
    }

    fn end(&mut self, reason: &str, oldest: Option<Position>) -> Vec<sse::Event> {
        self.ended = true;
        vec![end(reason, self.reached, oldest)]
    }
}

fn to_sse(position: Position, event: hub_domain::event::Event) -> sse::Event {
    let body = to_wire::event(event);
    let data = to_wire::event_data(&body);
    sse::Event::default().id(position.to_string()).event(body.source).data(data)
}
