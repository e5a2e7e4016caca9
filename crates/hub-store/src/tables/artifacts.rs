//! What is known of artifacts. Range: `keys::artifacts`. Their content is in `blobs`.

use hub_domain::artifact::{Artifact, Digest};

use super::{TablePage, decode_row, page_of};
use crate::keys::RowKey;
use crate::records::artifact::{decode, encode};
use crate::txn::Txn;
use crate::{Key, KeyRange, PageLen, Store, StoreError};

fn key(digest: &Digest) -> Key {
    RowKey::Artifact(digest.clone()).to_key()
}

/// The artifact with this digest.
pub async fn get(store: &dyn Store, digest: &Digest) -> Result<Option<Artifact>, StoreError> {
    let key = key(digest);
    decode_row(&key, store.get(&key).await?, decode)
}

/// A page of artifacts.
pub async fn page(
    store: &dyn Store,
    range: KeyRange,
    limit: PageLen,
) -> Result<TablePage<Artifact>, StoreError> {
    page_of(store, range, limit, decode).await
}

impl Txn {
    /// The artifact with this digest, expected unchanged at commit.
    pub async fn artifact(&mut self, digest: &Digest) -> Result<Option<Artifact>, StoreError> {
        let key = key(digest);
        decode_row(&key, self.get(key.clone()).await?, decode)
    }

    /// Writes `artifact`.
    pub fn put_artifact(&mut self, artifact: &Artifact) {
        self.put(key(&artifact.digest), encode(artifact));
    }

    /// Removes the artifact with this digest.
    pub fn delete_artifact(&mut self, digest: &Digest) {
        self.delete(key(digest));
    }
}
