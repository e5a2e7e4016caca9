//! Retired devices: their records, what is archived of them, and who stood in whose place.
//! Ranges: `keys::retired`, `keys::retired_identities_of`, `keys::retired_twins_of`.

use hub_domain::id::{DeviceId, TwinId};
use hub_domain::identity::Identity;
use hub_domain::retirement::{Predecessor, Retirement};
use hub_domain::twin::{PackedTwin, Twin};

use super::{TablePage, decode_row, page_of};
use crate::keys::{self, RowKey};
use crate::records::retirement::{decode, decode_predecessors, encode, encode_predecessors};
use crate::records::{identity, twin};
use crate::txn::Txn;
use crate::{Commit, Key, KeyRange, PageLen, Store, StoreError};

fn key(device: &DeviceId) -> Key {
    RowKey::Retired(device.clone()).to_key()
}

fn predecessors_key(device: &DeviceId) -> Key {
    RowKey::Predecessors(device.clone()).to_key()
}

/// The record of a retired device.
pub async fn get(store: &dyn Store, device: &DeviceId) -> Result<Option<Retirement>, StoreError> {
    let key = key(device);
    decode_row(&key, store.get(&key).await?, decode)
}

/// A page of records, in the order of the devices' ids.
pub async fn page(
    store: &dyn Store,
    range: KeyRange,
    limit: PageLen,
) -> Result<TablePage<Retirement>, StoreError> {
    page_of(store, range, limit, decode).await
}

/// What is archived of a device: its own identity and twin, then those of its modules.
pub async fn archive(store: &dyn Store, device: &DeviceId) -> Result<Vec<(Identity, Twin)>, StoreError> {
    let (mut identities, mut twins) = (Vec::new(), Vec::new());
    for range in keys::retired_identities_of(device) {
        let mut rest = Some(range);
        while let Some(range) = rest {
            let page = page_of(store, range, PageLen::MAX, identity::decode).await?;
            identities.extend(page.entries.into_iter().map(|(identity, _)| identity));
            rest = page.rest;
        }
    }
    for range in keys::retired_twins_of(device) {
        let mut rest = Some(range);
        while let Some(range) = rest {
            let page = page_of(store, range, PageLen::MAX, twin::decode).await?;
            twins.extend(page.entries.into_iter().map(|(entry, _)| entry));
            rest = page.rest;
        }
    }
    let complete = identities.len() == twins.len()
        && identities.iter().zip(&twins).all(|(identity, (id, _))| identity.id == *id);
    if !complete {
        return Err(StoreError::corrupt(&key(device), "identities and twins in its archive do not match"));
    }
    Ok(identities.into_iter().zip(twins.into_iter().map(|(_, twin)| twin)).collect())
}

/// What is archived of a device without its modules; `None` once that is erased.
pub async fn own_archive(
    store: &dyn Store,
    device: &DeviceId,
) -> Result<Option<(Identity, Twin)>, StoreError> {
    let id = TwinId::device(device.clone());
    let (identity_key, twin_key) =
        (RowKey::RetiredIdentity(id.clone()).to_key(), RowKey::RetiredTwin(id).to_key());
    let identity = decode_row(&identity_key, store.get(&identity_key).await?, identity::decode)?;
    let twin = decode_row(&twin_key, store.get(&twin_key).await?, twin::decode)?;
    Ok(identity.zip(twin).map(|(identity, (_, twin))| (identity, twin)))
}

/// The devices in whose place this one came, the newest first.
pub async fn predecessors(store: &dyn Store, device: &DeviceId) -> Result<Vec<Predecessor>, StoreError> {
    let key = predecessors_key(device);
    Ok(decode_row(&key, store.get(&key).await?, decode_predecessors)?.unwrap_or_default())
}

impl Txn {
    /// The record of a retired device, expected unchanged at commit.
    pub async fn retirement(&mut self, device: &DeviceId) -> Result<Option<Retirement>, StoreError> {
        let key = key(device);
        decode_row(&key, self.get(key.clone()).await?, decode)
    }

    /// Expects the record of this version at commit, or none.
    pub fn expect_retirement(&mut self, device: &DeviceId, version: Option<Commit>) {
        self.expect(key(device), version);
    }

    /// Writes the record.
    pub fn put_retirement(&mut self, retirement: &Retirement) {
        self.put(key(&retirement.device), encode(retirement));
    }

    /// Removes the record.
    pub fn delete_retirement(&mut self, device: &DeviceId) {
        self.delete(key(device));
    }

    /// Archives an identity with its twin.
    pub fn put_archived(&mut self, identity: &Identity, twin: &PackedTwin) {
        let id = &identity.id;
        self.put(RowKey::RetiredIdentity(id.clone()).to_key(), identity::encode(identity));
        self.put(RowKey::RetiredTwin(id.clone()).to_key(), twin::encode(twin));
    }

    /// Removes an archived identity with its twin.
    pub fn delete_archived(&mut self, id: &TwinId) {
        self.delete(RowKey::RetiredIdentity(id.clone()).to_key());
        self.delete(RowKey::RetiredTwin(id.clone()).to_key());
    }

    /// The predecessors of a device, expected unchanged at commit.
    pub async fn predecessors(&mut self, device: &DeviceId) -> Result<Vec<Predecessor>, StoreError> {
        let key = predecessors_key(device);
        Ok(decode_row(&key, self.get(key.clone()).await?, decode_predecessors)?.unwrap_or_default())
    }

    /// Writes the predecessors of a device.
    pub fn put_predecessors(&mut self, device: &DeviceId, predecessors: &[Predecessor]) {
        self.put(predecessors_key(device), encode_predecessors(predecessors));
    }

    /// Removes the predecessors of a device.
    pub fn delete_predecessors(&mut self, device: &DeviceId) {
        self.delete(predecessors_key(device));
    }
}
