//! Single values of the hub itself, each a text under a name of `a-z` and `-`.

use super::decode_row;
use crate::keys::RowKey;
use crate::records::meta::{decode, encode};
use crate::txn::Txn;
use crate::{Commit, Key, Store, StoreError};

fn key(name: &str) -> Key {
    RowKey::Meta(name.to_owned()).to_key()
}

/// The value with this name.
pub async fn get(store: &dyn Store, name: &str) -> Result<Option<String>, StoreError> {
    let key = key(name);
    decode_row(&key, store.get(&key).await?, decode)
}

/// The version of the row with this name: the last commit that wrote it.
pub async fn version(store: &dyn Store, name: &str) -> Result<Option<Commit>, StoreError> {
    Ok(store.get(&key(name)).await?.map(|row| row.version))
}

impl Txn {
    /// Expects the value with this name to be of this version at commit, or absent.
    pub fn expect_meta(&mut self, name: &str, version: Option<Commit>) {
        self.expect(key(name), version);
    }

    /// The value with this name, expected unchanged at commit.
    pub async fn meta(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        let key = key(name);
        decode_row(&key, self.get(key.clone()).await?, decode)
    }

    /// Writes the value with this name.
    pub fn put_meta(&mut self, name: &str, value: &str) {
        self.put(key(name), encode(value));
    }
}
