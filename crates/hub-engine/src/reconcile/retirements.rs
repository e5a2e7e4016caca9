//! Erases for good what is archived of retired devices whose time is over: events and records in jobs first, page by page
//! and counted in the device's record, the archive last, in the commit that ends it. A crash costs a second look at most.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hub_domain::actor::Actor;
use hub_domain::artifact::Digest;
use hub_domain::event::{LifecycleBody, LifecycleStep};
use hub_domain::id::{DeviceId, JobId, TwinId};
use hub_domain::retirement::Removed;
use hub_store::{PageLen, keys, tables};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::Hub;
use crate::config::{ERASE_BATCH_DEVICES, RETIRED_CLOCK_INTERVAL};
use crate::error::{Error, Result};
use crate::registry::lifecycle_event;
use crate::transact::Txn;

/// Pause after the store failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs by itself.
pub(crate) async fn run_retirements(hub: Arc<Hub>) {
    loop {
        match hub.erase_due().await {
            Ok(true) => {}
            Ok(false) => {
                let poked = hub.tombstones.poke.notified();
                let _ = tokio::time::timeout(RETIRED_CLOCK_INTERVAL, poked).await;
            }
            Err(error) => {
                tracing::warn!(%error, "could not erase what is left of retired devices; will try again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

impl Hub {
    /// Erases the next devices whose time is over. `false`: there are none.
    async fn erase_due(&self) -> Result<bool> {
        let due = self.tombstones.due(self.now(), ERASE_BATCH_DEVICES);
        for device in &due {
            match self.begin_erasure(&Actor::Hub, device).await {
                // Restored at the last moment.
                Ok(()) | Err(Error::RetirementNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let due: BTreeSet<DeviceId> = due.into_iter().collect();
        if due.is_empty() {
            return Ok(false);
        }
        self.erase_events(&due).await?;
        self.erase_job_records(&due).await?;
        for device in &due {
            self.finish_erasure(device).await?;
        }
        Ok(true)
    }

    /// Removes the events of these devices, in one pass over the log.
    async fn erase_events(&self, devices: &BTreeSet<DeviceId>) -> Result<()> {
        let mut rest = Some(keys::events());
        while let Some(range) = rest {
            let page = tables::events::page(&*self.store, range, PageLen::MAX).await?;
            let mut found: BTreeMap<DeviceId, Vec<_>> = BTreeMap::new();
            for ((position, event), _) in page.entries {
                if devices.contains(&event.id.device) {
                    found.entry(event.id.device).or_default().push(position);
                }
            }
            for (device, positions) in found {
                let count = Removed { events: positions.len() as u64, ..Removed::default() };
                let remove = |txn: &mut Txn<'_>| {
                    positions.iter().for_each(|position| txn.rows().delete_event(*position));
                };
                self.remove(&device, count, remove).await?;
            }
            rest = page.rest;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Removes the records of these devices in jobs that are over. Others go with their jobs, which still count them.
    async fn erase_job_records(&self, devices: &BTreeSet<DeviceId>) -> Result<()> {
        let mut rest = Some(keys::jobs());
        while let Some(range) = rest {
            let page = tables::jobs::page(&*self.store, range, PageLen::MAX).await?;
            rest = page.rest;
            for (spec, _) in page.entries {
                let state = tables::jobs::state(&*self.store, &spec.id).await?;
                if state.is_some_and(|state| state.is_over()) {
                    for device in devices {
                        self.erase_records_of(&spec.id, device).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn erase_records_of(&self, job: &JobId, device: &DeviceId) -> Result<()> {
        for range in keys::job_items_of(job, device) {
            // Modules of one device fit into a page.
            let page = tables::jobs::items(&*self.store, range, PageLen::MAX).await?;
            if page.entries.is_empty() {
                continue;
            }
            let count = Removed { job_records: page.entries.len() as u64, ..Removed::default() };
            let remove = |txn: &mut Txn<'_>| {
                page.entries.iter().for_each(|((_, item), _)| txn.rows().delete_job_item(job, &item.id));
            };
            self.remove(device, count, remove).await?;
        }
        Ok(())
    }

    /// Removes something of a device and counts it in its record, in one commit.
    async fn remove(
        &self,
        device: &DeviceId,
        count: Removed,
        remove: impl Fn(&mut Txn<'_>) + Sync,
    ) -> Result<()> {
        for mut txn in self.attempts() {
            let Some(mut retirement) = txn.rows().retirement(device).await? else { return Ok(()) };
            let Some(erasure) = retirement.erasing() else { return Ok(()) };
            erasure.removed.events += count.events;
            erasure.removed.job_records += count.job_records;
            remove(&mut txn);
            txn.put_retirement(&retirement);
            if txn.commit().await? {
                return Ok(());
            }
        }
        Err(Error::Contended(TwinId::device(device.clone())))
    }

    /// Removes the archive, and writes down what it was the digest of.
    async fn finish_erasure(&self, device: &DeviceId) -> Result<()> {
        let id = TwinId::device(device.clone());
        for mut txn in self.attempts() {
            let Some(mut retirement) = txn.rows().retirement(device).await? else { return Ok(()) };
            let archive = tables::retired::archive(&*self.store, device).await?;
            let mut sha = Sha256::new();
            for (identity, twin) in &archive {
                sha.update(retirement.document(identity, twin).to_string());
                sha.update(b"\n");
                txn.rows().delete_archived(&identity.id);
            }
            let digest = Digest::from_bytes(&sha.finalize().into());
            let now = txn.now();
            let Some(erasure) = retirement.erasing() else { return Ok(()) };
            erasure.removed.identities = archive.len() as u64;
            erasure.removed.twins = archive.len() as u64;
            erasure.ended = Some((now, digest.clone()));
            txn.rows().delete_predecessors(device);
            txn.put_retirement(&retirement);
            let body = json!({ "deviceId": device.as_str(), "sha256": digest.as_str() });
            lifecycle_event(&mut txn, &id, LifecycleStep::Erased, LifecycleBody::Document(body));
            if txn.commit().await? {
                return Ok(());
            }
        }
        Err(Error::Contended(id))
    }
}
