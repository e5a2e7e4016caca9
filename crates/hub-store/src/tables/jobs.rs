//! Jobs in three tables: what was asked, where each stands, and their targets. Ranges: `keys::jobs`, `keys::job_items`.

use hub_domain::id::{JobId, TwinId};
use hub_domain::job::{JobItem, JobSpec, JobState};

use super::{TablePage, decode_row, page_of};
use crate::keys::RowKey;
use crate::records::job::{decode_item, decode_spec, decode_state, encode_item, encode_spec, encode_state};
use crate::txn::Txn;
use crate::{Key, KeyRange, PageLen, Store, StoreError};

fn spec_key(id: &JobId) -> Key {
    RowKey::Job(id.clone()).to_key()
}

fn state_key(id: &JobId) -> Key {
    RowKey::JobState(id.clone()).to_key()
}

fn item_key(job: &JobId, id: &TwinId) -> Key {
    RowKey::JobItem(job.clone(), id.clone()).to_key()
}

/// What was asked of the job with this name.
pub async fn spec(store: &dyn Store, id: &JobId) -> Result<Option<JobSpec>, StoreError> {
    let key = spec_key(id);
    decode_row(&key, store.get(&key).await?, decode_spec)
}

/// Where the job with this name stands.
pub async fn state(store: &dyn Store, id: &JobId) -> Result<Option<JobState>, StoreError> {
    let key = state_key(id);
    Ok(decode_row(&key, store.get(&key).await?, decode_state)?.map(|(_, state)| state))
}

/// A target of a job.
pub async fn item(store: &dyn Store, job: &JobId, id: &TwinId) -> Result<Option<JobItem>, StoreError> {
    let key = item_key(job, id);
    Ok(decode_row(&key, store.get(&key).await?, decode_item)?.map(|(_, item)| item))
}

/// A page of jobs, in the order of their names.
pub async fn page(
    store: &dyn Store,
    range: KeyRange,
    limit: PageLen,
) -> Result<TablePage<JobSpec>, StoreError> {
    page_of(store, range, limit, decode_spec).await
}

/// A page of targets, in the order of their ids.
pub async fn items(
    store: &dyn Store,
    range: KeyRange,
    limit: PageLen,
) -> Result<TablePage<(JobId, JobItem)>, StoreError> {
    page_of(store, range, limit, decode_item).await
}

impl Txn {
    /// Expects that no job has this name at commit.
    pub fn expect_no_job(&mut self, id: &JobId) {
        self.expect(spec_key(id), None);
    }

    /// Where the job stands, expected unchanged at commit.
    pub async fn job_state(&mut self, id: &JobId) -> Result<Option<JobState>, StoreError> {
        let key = state_key(id);
        Ok(decode_row(&key, self.get(key.clone()).await?, decode_state)?.map(|(_, state)| state))
    }

    /// Writes what was asked.
    pub fn put_job_spec(&mut self, spec: &JobSpec) {
        self.put(spec_key(&spec.id), encode_spec(spec));
    }

    /// Writes where the job stands.
    pub fn put_job_state(&mut self, id: &JobId, state: &JobState) {
        self.put(state_key(id), encode_state(state));
    }

    /// Writes a target.
    pub fn put_job_item(&mut self, job: &JobId, item: &JobItem) {
        self.put(item_key(job, &item.id), encode_item(item));
    }

    /// Removes a target.
    pub fn delete_job_item(&mut self, job: &JobId, id: &TwinId) {
        self.delete(item_key(job, id));
    }

    /// Removes a job whose targets were removed.
    pub fn delete_job(&mut self, id: &JobId) {
        self.delete(spec_key(id));
        self.delete(state_key(id));
    }
}
