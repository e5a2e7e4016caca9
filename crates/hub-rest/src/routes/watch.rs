//! A standing query as server-sent events: its rows, then those that enter, change and leave (ours).

use axum::Extension;
use axum::extract::State;
use axum::response::{Response, sse};
use futures_util::stream;
use hub_api::watch::{READY, WatchReady};
use hub_domain::event::Position;
use hub_engine::queries::watch::{Lagged, Line, QueryWatch};
use serde::Deserialize;

use super::Shared;
use super::events::{Held, end, respond};
use crate::auth::Caller;
use crate::extract::Query;
use crate::listener::Peer;
use crate::status::ApiError;
use crate::to_wire;

#[derive(Deserialize)]
pub struct WatchQuery {
    query: Option<String>,
}

pub async fn stream(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Query(query): Query<WatchQuery>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, ApiError> {
    let text = query.query.ok_or_else(|| {
        ApiError::bad(400_005, "ArgumentNull", "the URL has no parameter 'query': say what to watch")
    })?;
    let watch = hub.query_watch(&who, &text)?;
    let reached = hub.events_end();
    let reader = Reader { caller: Held { hub, who, stop: peer.stop }, watch, reached, ended: false };
    Ok(respond(stream::unfold(reader, |mut reader| async move { Some((reader.next().await?, reader)) })))
}

/// Takes a page at a time, and only when the client has taken the one before: of one that is too slow, little is kept, and
/// he is told.
struct Reader {
    caller: Held,
    watch: QueryWatch,
    reached: Position,
    ended: bool,
}

impl Reader {
    /// The next events, one at least; `None` after the last.
    async fn next(&mut self) -> Option<Vec<sse::Event>> {
        while !self.ended {
            if let Some(reason) = self.caller.is_over() {
                return Some(self.end(reason));
            }
            match self.watch.take().await {
                Ok(lines) if lines.is_empty() => self.caller.wait(self.watch.ready()).await,
                Ok(lines) => return Some(lines.into_iter().map(|line| self.event(line)).collect()),
                Err(Lagged) => {
                    return Some(
                        self.end("the reader is too slow for what happens: begin anew, or watch less"),
                    );
                }
            }
        }
        None
    }

    fn event(&mut self, line: Line) -> sse::Event {
        let (position, name, data) = match line {
            Line::Row { step, position, id, row } => {
                (position, to_wire::watch::step(step), to_wire::event_data(&to_wire::watch::row(&id, row)))
            }
            Line::Ready { position, rows } => (position, READY, to_wire::event_data(&WatchReady { rows })),
        };
        self.reached = position;
        sse::Event::default().id(position.to_string()).event(name).data(data)
    }

    fn end(&mut self, reason: &str) -> Vec<sse::Event> {
        self.ended = true;
        vec![end(reason, self.reached, None)]
    }
}
