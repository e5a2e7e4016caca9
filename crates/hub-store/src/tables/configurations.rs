//! Automatic configurations. Range: `keys::configurations`.

use hub_domain::configuration::Configuration;
use hub_domain::id::ConfigurationId;

use super::{TablePage, decode_row, page_of};
use crate::keys::RowKey;
use crate::records::configuration::{decode, encode};
use crate::txn::Txn;
use crate::{Key, KeyRange, PageLen, Store, StoreError};

fn key(id: &ConfigurationId) -> Key {
    RowKey::Configuration(id.clone()).to_key()
}

/// The configuration with this name.
pub async fn get(store: &dyn Store, id: &ConfigurationId) -> Result<Option<Configuration>, StoreError> {
    let key = key(id);
    decode_row(&key, store.get(&key).await?, decode)
}

/// A page of configurations, in the order of their names.
pub async fn page(
    store: &dyn Store,
    range: KeyRange,
    limit: PageLen,
) -> Result<TablePage<Configuration>, StoreError> {
    page_of(store, range, limit, decode).await
}

impl Txn {
    /// The configuration with this name, expected unchanged at commit.
    pub async fn configuration(&mut self, id: &ConfigurationId) -> Result<Option<Configuration>, StoreError> {
        let key = key(id);
        decode_row(&key, self.get(key.clone()).await?, decode)
    }

    /// Writes `configuration`.
    pub fn put_configuration(&mut self, configuration: &Configuration) {
        self.put(key(&configuration.spec().id), encode(configuration));
    }

    /// Removes the configuration with this name.
    pub fn delete_configuration(&mut self, id: &ConfigurationId) {
        self.delete(key(id));
    }
}
