//! Removes events that are older than they are kept, and remembers up to where.

use std::sync::PoisonError;

use hub_domain::event::Position;
use hub_store::{PageLen, Store, keys, tables};

use crate::Hub;
use crate::error::{Error, Result};

/// The name of the stored position before which events are gone.
const PRUNED: &str = "events-pruned";

/// The stored position before which events are gone, if any are.
pub(crate) async fn pruned_position(store: &dyn Store) -> Result<Option<Position>> {
    let text = tables::meta::get(store, PRUNED).await?;
    let parse = |text: String| {
        Position::parse(&text).ok_or_else(|| Error::Internal(format!("'{text}' is no position")))
    };
    text.map(parse).transpose()
}

impl Hub {
    /// The oldest position that may still be read after, if older events were removed.
    pub(crate) fn events_pruned(&self) -> Option<Position> {
        *self.pruned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what is too old, page by page. A page is one commit, with the new mark in it.
    pub(crate) async fn prune_events(&self) -> Result<()> {
        loop {
            let newest = *self.applier.watch().borrow();
            let oldest_commit = newest.saturating_sub(self.config.event_commits_max);
            let now = self.clock.now();
            let page = tables::events::page(&*self.store, keys::events(), PageLen::MAX).await?;
            let old = page.entries.iter().map(|((position, event), _)| (*position, event.time));
            let old: Vec<Position> = old
                .take_while(|(position, time)| {
                    position.commit < oldest_commit || now.since(*time) > self.config.event_retention
                })
                .map(|(position, _)| position)
                .collect();
            let Some(last) = old.last().copied() else { return Ok(()) };
            if self.remove_events(&old, last).await? {
                *self.pruned.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
            }
            if page.rest.is_none() || old.len() < page.entries.len() {
                return Ok(());
            }
        }
    }

    async fn remove_events(&self, old: &[Position], last: Position) -> Result<bool> {
        let Some(mut txn) = self.attempts().next() else { return Ok(false) };
        for position in old {
            txn.rows().delete_event(*position);
        }
        txn.rows().put_meta(PRUNED, &last.to_string());
        txn.commit().await
    }
}
