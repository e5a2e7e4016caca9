//! Twins of devices and modules. Ranges: `keys::device_twins`, `keys::module_twins`.

use std::borrow::Cow;

use hub_domain::id::TwinId;
use hub_domain::twin::{PackedTwin, Twin};

use super::{Decoded, StoredPage, decode_row};
use crate::keys::RowKey;
use crate::records::twin::{decode, decode_packed, encode};
use crate::txn::Txn;
use crate::{Commit, Key, Store, StoreError};

fn key(id: &TwinId) -> Key {
    RowKey::Twin(id.clone()).to_key()
}

/// The twin of `id`.
pub async fn get(store: &dyn Store, id: &TwinId) -> Result<Option<Twin>, StoreError> {
    let key = key(id);
    Ok(decode_row(&key, store.get(&key).await?, decode)?.map(|(_, twin)| twin))
}

/// The twins of a page, as the bytes of packed ones that nobody looked at yet.
pub fn packed(page: &StoredPage) -> impl Iterator<Item = Decoded<(TwinId, Cow<'_, [u8]>)>> {
    page.entries(decode_packed)
}

impl Txn {
    /// The twin of `id`, expected unchanged at commit.
    pub async fn twin(&mut self, id: &TwinId) -> Result<Option<Twin>, StoreError> {
        let key = key(id);
        Ok(decode_row(&key, self.get(key.clone()).await?, decode)?.map(|(_, twin)| twin))
    }

    /// Expects the twin of `id` unchanged at commit since this version.
    pub fn expect_twin(&mut self, id: &TwinId, version: Commit) {
        self.expect(key(id), Some(version));
    }

    /// Writes the twin of `id`.
    pub fn put_twin(&mut self, id: &TwinId, twin: &PackedTwin) {
        self.put(key(id), encode(twin));
    }

    /// Removes the twin of `id`.
    pub fn delete_twin(&mut self, id: &TwinId) {
        self.delete(key(id));
    }
}
