//! The event log. Ranges: `keys::events`, `keys::events_after`. Events are appended, read in order, and removed from the
//! old end; none is ever changed.

use hub_domain::event::{Event, Position};

use super::{TablePage, page_of};
use crate::keys::RowKey;
use crate::records::event::{decode, encode};
use crate::txn::Txn;
use crate::{KeyRange, PageLen, Store, StoreError};

/// A page of events, oldest first.
pub async fn page(
    store: &dyn Store,
    range: KeyRange,
    limit: PageLen,
) -> Result<TablePage<(Position, Event)>, StoreError> {
    page_of(store, range, limit, decode).await
}

impl Txn {
    /// Adds `event` to the log; its position is the commit's number and how many were added before it.
    pub fn append_event(&mut self, event: &Event) {
        self.append(encode(event));
    }

    /// Removes the event at `position`, when it is older than what is kept.
    pub fn delete_event(&mut self, position: Position) {
        self.delete(RowKey::Event(position).to_key());
    }
}
