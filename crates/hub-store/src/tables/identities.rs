//! Registry entries of devices and modules. Ranges: `keys::devices`, `keys::modules`, `keys::modules_of`.

use hub_domain::id::TwinId;
use hub_domain::identity::Identity;

use super::{Decoded, StoredPage, decode_row};
use crate::keys::RowKey;
use crate::records::identity::{decode, encode};
use crate::txn::Txn;
use crate::{Commit, Key, Store, StoreError};

fn key(id: &TwinId) -> Key {
    RowKey::Identity(id.clone()).to_key()
}

/// The identity of `id`.
pub async fn get(store: &dyn Store, id: &TwinId) -> Result<Option<Identity>, StoreError> {
    let key = key(id);
    decode_row(&key, store.get(&key).await?, decode)
}

/// The identities of a page.
pub fn decoded(page: &StoredPage) -> impl Iterator<Item = Decoded<Identity>> {
    page.entries(decode)
}

impl Txn {
    /// The identity of `id`, expected unchanged at commit.
    pub async fn identity(&mut self, id: &TwinId) -> Result<Option<Identity>, StoreError> {
        let key = key(id);
        decode_row(&key, self.get(key.clone()).await?, decode)
    }

    /// Expects the identity of `id` unchanged at commit since this version, or still absent.
    pub fn expect_identity(&mut self, id: &TwinId, version: Option<Commit>) {
        self.expect(key(id), version);
    }

    /// Writes `identity`.
    pub fn put_identity(&mut self, identity: &Identity) {
        self.put(key(&identity.id), encode(identity));
    }

    /// Removes the identity of `id`.
    pub fn delete_identity(&mut self, id: &TwinId) {
        self.delete(key(id));
    }
}
