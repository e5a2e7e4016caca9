//! Queries that stand: first their rows, then what each change does to them, in the order of commits. What happens is found
//! from the change by the index; nothing here asks again.
//!
//! A reader who is slower than the changes is cut off and can begin anew: what waits for him is bounded, for each and for
//! all together.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub_domain::event::Position;
use hub_domain::id::TwinId;
use hub_domain::query::Query;
use hub_domain::rights::Rights;
use hub_index::{Follow, Moment, Next, Sink, Told};
use serde_json::Value;
use tokio::sync::{Notify, OwnedSemaphorePermit};

pub use hub_index::Step;

use crate::Hub;
use crate::access::Principal;
use crate::config::{
    WATCH_BACKLOG_STEPS_MAX, WATCH_PAGE_ROWS, WATCH_QUEUE_STEPS_MAX, WATCH_QUEUE_STEPS_SHARE, WATCHES_MAX,
};
use crate::error::{Error, Result};

/// What a reader of a standing query is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// What a row does.
    Row {
        /// It is there from the beginning, or enters, changes or leaves.
        step: Step,
        /// Every change up to here is told, as far as this row is concerned.
        position: Position,
        /// Whose.
        id: TwinId,
        /// What the query shows of it; nothing of one that leaves.
        row: Option<Value>,
    },
    /// All rows were told, and together they are the answer as of here.
    Ready {
        /// Where.
        position: Position,
        /// How many rows there are.
        rows: u64,
    },
}

/// More happened than the reader took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged;

/// A query that stands as long as this is kept.
pub struct QueryWatch {
    hub: Arc<Hub>,
    query: Arc<Query>,
    number: usize,
    queue: Arc<Queue>,
    follow: Follow,
    rows: u64,
    _permit: OwnedSemaphorePermit,
}

/// Steps that wait for one reader.
struct Queue {
    state: Mutex<Waiting>,
    grown: Notify,
    /// Steps of all readers beyond the share of each.
    backlog: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Waiting {
    steps: VecDeque<Told>,
    is_cut: bool,
}

impl Waiting {
    fn beyond_share(&self) -> usize {
        self.steps.len().saturating_sub(WATCH_QUEUE_STEPS_SHARE)
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may wait.
    fn has_room(&self, length: usize) -> bool {
        let more = |backlog| (backlog < WATCH_BACKLOG_STEPS_MAX).then_some(backlog + 1);
        length < WATCH_QUEUE_STEPS_SHARE
            || (length < WATCH_QUEUE_STEPS_MAX
                && self.backlog.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok())
    }

    /// Takes out steps up to a moment, or as many.
    fn take(&self, until: Option<Moment>, steps_max: usize) -> Result<Vec<Told>, Lagged> {
        let mut state = self.state();
        if state.is_cut {
            return Err(Lagged);
        }
        let before = state.beyond_share();
        let mut taken = Vec::new();
        while taken.len() < steps_max
            && let Some(told) =
                state.steps.pop_front_if(|told| until.is_none_or(|until| told.moment <= until))
        {
            taken.push(told);
        }
        self.backlog.fetch_sub(before - state.beyond_share(), Ordering::Relaxed);
        Ok(taken)
    }

    /// Gives back all that waits.
    fn clear(&self, state: &mut Waiting) {
        self.backlog.fetch_sub(state.beyond_share(), Ordering::Relaxed);
        state.steps = VecDeque::new();
    }
}

impl Sink for Queue {
    fn tell(&self, told: Told) {
        let mut state = self.state();
        if state.is_cut {
            return;
        }
        if self.has_room(state.steps.len()) {
            state.steps.push_back(told);
        } else {
            self.clear(&mut state);
            state.is_cut = true;
        }
        self.grown.notify_one();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut state = std::mem::take(&mut *self.state());
        self.clear(&mut state);
    }
}

impl Hub {
    /// Lets a query stand. Its rows are those of [`Hub::query`].
    pub fn query_watch(self: &Arc<Self>, who: &Principal, text: &str) -> Result<QueryWatch> {
        who.must(Rights::SERVICE_CONNECT)?;
        let query =
            Query::parse(text).map_err(|error| Error::Invalid(format!("The query is invalid: {error}")))?;
        query.check_live().map_err(Error::Invalid)?;
        let permit = self.streams.watches.clone().try_acquire_owned().map_err(|_| {
            Error::Throttled(format!(
                "{WATCHES_MAX} queries are watched, no more at once are allowed; end one, or ask from time to time"
            ))
        })?;
        let query = Arc::new(query);
        let backlog = self.streams.watch_backlog.clone();
        let queue = Arc::new(Queue { state: Mutex::default(), grown: Notify::new(), backlog });
        let number = self.index.watch(query.clone(), queue.clone());
        let (hub, follow) = (self.clone(), Follow::default());
        Ok(QueryWatch { hub, query, number, queue, follow, rows: 0, _permit: permit })
    }
}

impl QueryWatch {
    /// Resolves when there is something to take. May be dropped and asked again.
    pub async fn ready(&self) {
        loop {
            let is_ready = !self.follow.is_whole() || {
                let state = self.queue.state();
                state.is_cut || !state.steps.is_empty()
            };
            if is_ready {
                return;
            }
            self.queue.grown.notified().await;
        }
    }

    /// Takes what there is, but no more than a page; often nothing. Not to be dropped before it is done.
    pub async fn take(&mut self) -> Result<Vec<Line>, Lagged> {
        if self.follow.is_whole() {
            let steps = self.queue.take(None, WATCH_PAGE_ROWS)?;
            return Ok(steps.iter().map(|told| self.line(told)).collect());
        }
        let query = self.query.clone();
        let (moment, mut selection) = self.follow.page(&self.hub.index, &query);
        let mut lines = Vec::new();
        for told in self.queue.take(Some(moment), usize::MAX)? {
            if self.follow.wants(&told) {
                lines.push(self.line(&told));
            }
        }
        let position = position(moment);
        let mut last = None;
        let mut found = 0;
        while found < WATCH_PAGE_ROWS {
            match selection.next() {
                Next::Found(row) => {
                    let id = row.id().clone();
                    let row = Some(query.project(&row.open().document()));
                    last = Some(id.clone());
                    found += 1;
                    lines.push(Line::Row { step: Step::Enter, position, id, row });
                }
                Next::Pause => tokio::task::yield_now().await,
                Next::End => {
                    last = None;
                    break;
                }
            }
        }
        self.rows += found as u64;
        self.follow.reached(last);
        if self.follow.is_whole() {
            lines.push(Line::Ready { position, rows: self.rows });
        }
        Ok(lines)
    }

    fn line(&mut self, told: &Told) -> Line {
        match told.step {
            Step::Enter => self.rows += 1,
            Step::Leave => self.rows = self.rows.saturating_sub(1),
            Step::Change => {}
        }
        let row = (told.step != Step::Leave).then(|| self.query.project(&told.document()));
        Line::Row { step: told.step, position: position(told.moment), id: told.entry.id().clone(), row }
    }
}

impl Drop for QueryWatch {
    fn drop(&mut self) {
        self.hub.index.unwatch(self.number);
    }
}

/// Behind all events of the commit.
fn position(moment: Moment) -> Position {
    Position { commit: moment.version, place: u32::MAX }
}
