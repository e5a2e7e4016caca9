//! The event log as back ends read it: from a position on, filtered, and a way to wait for more.

use hub_domain::event::{Event, EventSource, Position};
use hub_domain::id::DeviceId;
use hub_domain::rights::Rights;
use hub_store::{PageLen, keys, tables};
use tokio::sync::watch;

use crate::Hub;
use crate::access::Principal;
use crate::config::EVENT_SCAN_ROWS_MAX;
use crate::error::{Error, Result};

/// Which events a reader wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Streams; empty is all.
    pub sources: Vec<EventSource>,
    /// Only of this device and its modules.
    pub device: Option<DeviceId>,
}

impl EventFilter {
    fn wants(&self, event: &Event) -> bool {
        let source = self.sources.is_empty() || self.sources.contains(&event.kind.source());
        source && self.device.as_ref().is_none_or(|device| *device == event.id.device)
    }
}

/// One read of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPage {
    /// What matched, in order.
    pub events: Vec<(Position, Event)>,
    /// How far the log was read; the next read begins after it.
    pub reached: Position,
    /// Whether the log's end was reached; if not, there may be more at once.
    pub at_end: bool,
}

/// Waits for the log to grow.
#[derive(Clone, Debug)]
pub struct EventWatch(watch::Receiver<u64>);

impl EventWatch {
    /// Resolves when there may be events after `position`; at once if there may be now.
    pub async fn grown(&mut self, position: Position) {
        let _ = self.0.wait_for(|newest| *newest > position.commit).await;
    }
}

impl Hub {
    /// Reads events after a position, at most `limit` that match. `None` begins with the oldest kept.
    pub async fn events_read(
        &self,
        who: &Principal,
        filter: &EventFilter,
        after: Option<Position>,
        limit: usize,
    ) -> Result<EventPage> {
        who.must(Rights::SERVICE_CONNECT)?;
        let pruned = self.events_pruned();
        if let Some(oldest) = pruned.filter(|oldest| after.is_some_and(|after| after < *oldest)) {
            return Err(Error::PositionGone { oldest });
        }
        // Never past what is visible: the reader of an event must find its change in every query.
        let visible = *self.applier.watch().borrow();
        let mut page = EventPage { events: Vec::new(), reached: after.unwrap_or_default(), at_end: true };
        let len = PageLen::new(EVENT_SCAN_ROWS_MAX).expect("a page of the log is a valid page");
        let rows =
            tables::events::page(&*self.store, keys::events_after(after.unwrap_or_default()), len).await?;
        page.at_end = rows.rest.is_none();
        for ((position, event), _) in rows.entries {
            if position.commit > visible || page.events.len() >= limit {
                page.at_end = position.commit > visible;
                return Ok(page);
            }
            page.reached = position;
            if filter.wants(&event) {
                page.events.push((position, event));
            }
        }
        Ok(page)
    }

    /// The position after which everything is new.
    pub fn events_end(&self) -> Position {
        Position { commit: *self.applier.watch().borrow(), place: u32::MAX }
    }

    /// A way to wait for more events.
    pub fn events_watch(&self) -> EventWatch {
        EventWatch(self.applier.watch())
    }
}
