//! Goes over the twins when a configuration changed, and now and then to prove that nothing was missed.
//!
//! A configuration that changed is in rows before this begins, and what was gone over is noted after it ended: a crash in
//! between only means to look again. It writes twins through the same door as everybody else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hub_domain::configuration::{ContentKind, edge_agent};
use hub_domain::id::{ConfigurationId, TwinId};
use hub_domain::twin::Twin;
use hub_index::{Entry, Source};
use tokio::time::Instant;

use super::parts::Parts;
use crate::Hub;
use crate::config::{CONFIGURATIONS_PROOF_INTERVAL, CONFIGURE_BATCH_TWINS, QUERY_CHUNK_ENTRIES};
use crate::configurations::{CONFIGURATIONS_SWEPT, Touched, Unswept};
use crate::error::Result;

/// Pause after the store failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs by itself.
pub(crate) async fn run_configurations(hub: Arc<Hub>) {
    let mut proof = Instant::now() + CONFIGURATIONS_PROOF_INTERVAL;
    loop {
        if let Err(error) = hub.sweep_configurations().await {
            tracing::warn!(%error, "could not bring all twins up to their configurations; will try again");
            tokio::time::sleep(RETRY_PAUSE).await;
            continue;
        }
        if proof <= Instant::now() {
            if let Err(error) = hub.prove_configurations().await {
                tracing::warn!(%error, "could not compare all twins with their configurations; will try again");
            }
            proof = Instant::now() + CONFIGURATIONS_PROOF_INTERVAL;
        }
        let _ = tokio::time::timeout_at(proof, hub.configurations.poke.notified()).await;
    }
}

impl Hub {
    /// Brings all twins up to the configurations that changed.
    async fn sweep_configurations(&self) -> Result<()> {
        while let Some(unswept) = self.configurations.unswept() {
            let mut chunks = Chunks::default();
            while let Some(entries) = chunks.next(self).await {
                let touched = entries.iter().filter(|entry| is_touched(self, &unswept, entry));
                let ids = touched.map(|entry| entry.id().clone()).collect();
                self.settle_all(ids, Touched::Configurations(&unswept.changed)).await?;
            }
            self.write_swept(&unswept).await?;
            self.configurations.note_swept(&unswept);
        }
        Ok(())
    }

    async fn write_swept(&self, unswept: &Unswept) -> Result<()> {
        for mut txn in self.attempts() {
            txn.rows().put_meta(CONFIGURATIONS_SWEPT, &unswept.set.epoch.to_string());
            if txn.commit().await? {
                break;
            }
        }
        Ok(())
    }

    /// Compares every twin with what its configurations want, by evaluating every condition anew. Returns how many were
    /// otherwise and were repaired; that is never more than 0 unless the hub has a bug.
    pub async fn prove_configurations(&self) -> Result<u64> {
        let mut repaired = 0;
        if self.configurations.current().is_empty() {
            return Ok(0);
        }
        let mut chunks = Chunks::default();
        while let Some(entries) = chunks.next(self).await {
            let ids = entries.iter().map(|entry| entry.id().clone()).collect();
            repaired += self.settle_all(ids, Touched::Unknown).await?;
        }
        if repaired > 0 {
            tracing::error!(repaired, "twins were not as their configurations want them; please report this");
            self.counters.configuration_repairs.fetch_add(repaired, Ordering::Relaxed);
        }
        Ok(repaired)
    }

    /// Settles these twins, in batches; says how many were written.
    pub(super) async fn settle_all(&self, ids: Vec<TwinId>, touched: Touched<'_>) -> Result<u64> {
        let mut written = 0;
        for part in ids.chunks(CONFIGURE_BATCH_TWINS) {
            let mut parts = Parts::new(part.to_vec());
            while let Some(part) = parts.next() {
                match self.try_settle(&part.items, touched).await? {
                    Some(count) => written += count,
                    None => parts.refused(part),
                }
            }
        }
        Ok(written)
    }

    /// `None`: somebody else changed one of these twins meanwhile.
    async fn try_settle(&self, ids: &[TwinId], touched: Touched<'_>) -> Result<Option<u64>> {
        let Some(mut txn) = self.attempts().next() else { return Ok(None) };
        let set = txn.configurations();
        for id in ids {
            // Gone meanwhile, if it is not there.
            if txn.twin_entry(id).is_ok() {
                txn.settle(&set, id, touched);
            }
        }
        let count = txn.changes().len() as u64;
        Ok(if count == 0 || txn.commit().await? { Some(count) } else { None })
    }
}

/// Walks over all twins, devices first, and lets other tasks run in between.
#[derive(Default)]
pub(crate) struct Chunks {
    last: Option<TwinId>,
    is_at_modules: bool,
}

impl Chunks {
    pub(crate) async fn next(&mut self, hub: &Hub) -> Option<Vec<Arc<Entry>>> {
        tokio::task::yield_now().await;
        loop {
            let source = if self.is_at_modules { Source::Modules } else { Source::Devices };
            let chunk = hub.index.scan(source, self.last.as_ref(), QUERY_CHUNK_ENTRIES);
            if let Some(end) = chunk.last() {
                self.last = Some(end.id().clone());
                return Some(chunk);
            }
            if self.is_at_modules {
                return None;
            }
            *self = Self { last: None, is_at_modules: true };
        }
    }
}

/// Whether a change of these configurations can concern a twin: it lists one, or one targets it now.
fn is_touched(hub: &Hub, unswept: &Unswept, entry: &Entry) -> bool {
    let concerns = |id: &ConfigurationId| unswept.set.get(id).is_none() || unswept.changed.contains(id);
    let lists = |twin: &Twin| twin.configurations.keys().chain(twin.let_in.keys()).any(concerns);
    if lists(&entry.twin) {
        return true;
    }
    let targeted = |kind, entry: &Entry| {
        let mut changed = unswept.set.changed(kind, &unswept.changed);
        changed.any(|configuration| configuration.targets(&entry.document()))
    };
    if entry.id().is_module() {
        return targeted(ContentKind::Module, entry);
    }
    // A device brings its modules up to deployments, all at once. Which ones they have is in its edge agent's twin.
    let is_deployed = || {
        let agent = hub.index.get(&edge_agent(entry.id().device.clone()));
        targeted(ContentKind::Edge, entry) || agent.is_some_and(|agent| lists(&agent.twin))
    };
    targeted(ContentKind::Device, entry) || (entry.identity.edge && is_deployed())
}
