//! Stored sessions. Range: `keys::sessions`.

use hub_domain::id::TwinId;
use hub_domain::session::StoredSession;

use super::{TablePage, decode_row, page_of};
use crate::keys::RowKey;
use crate::records::session::{decode, encode};
use crate::txn::Txn;
use crate::{Key, KeyRange, PageLen, Store, StoreError};

fn key(id: &TwinId) -> Key {
    RowKey::Session(id.clone()).to_key()
}

/// The session of `id`.
pub async fn get(store: &dyn Store, id: &TwinId) -> Result<Option<StoredSession>, StoreError> {
    let key = key(id);
    Ok(decode_row(&key, store.get(&key).await?, decode)?.map(|(_, session)| session))
}

/// A page of sessions.
pub async fn page(
    store: &dyn Store,
    range: KeyRange,
    limit: PageLen,
) -> Result<TablePage<(TwinId, StoredSession)>, StoreError> {
    page_of(store, range, limit, decode).await
}

impl Txn {
    /// The session of `id`, expected unchanged at commit.
    pub async fn session(&mut self, id: &TwinId) -> Result<Option<StoredSession>, StoreError> {
        let key = key(id);
        Ok(decode_row(&key, self.get(key.clone()).await?, decode)?.map(|(_, session)| session))
    }

    /// Writes the session of `id`.
    pub fn put_session(&mut self, id: &TwinId, session: &StoredSession) {
        self.put(key(id), encode(session));
    }

    /// Removes the session of `id`.
    pub fn delete_session(&mut self, id: &TwinId) {
        self.delete(key(id));
    }
}
