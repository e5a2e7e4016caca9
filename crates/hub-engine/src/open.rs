//! Opening the hub: fill the index from the store, then start what runs by itself. And closing it in order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hub_domain::id::TwinId;
use hub_domain::link::CloseReason;
use hub_domain::session::StoredSession;
use hub_domain::twin::Twin;
use hub_index::Index;
use hub_store::blobs::BlobFolder;
use hub_store::{KeyRange, PageLen, Store, keys, tables};

use crate::applier::Applier;
use crate::clock::Clock;
use crate::config::Config;
use crate::configurations::Configurations;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::jobs::Jobs;
use crate::policies::Policies;
use crate::retirement::Tombstones;
use crate::secret::Secret;
use crate::sessions::Sessions;
use crate::tasks::{TaskKind, Tasks};
use crate::{Hub, reconcile};

/// What the composition root brings.
pub struct Parts {
    /// Where rows are kept.
    pub store: Arc<dyn Store>,
    /// Where artifacts are kept.
    pub blobs: BlobFolder,
    /// The present.
    pub clock: Arc<dyn Clock>,
    /// Where tasks run.
    pub tasks: Tasks,
    /// The shared access policies.
    pub policies: Policies,
}

impl Hub {
    /// Opens the hub on what its store holds.
    pub async fn open(config: Config, parts: Parts) -> Result<Arc<Hub>> {
        let Parts { store, blobs, clock, tasks, policies } = parts;
        let secret = Secret::load(&store).await?;
        let index = Arc::new(Index::default());
        let dangling = fill(&index, &*store).await?;
        let started = clock.now();
        let sessions = Arc::new(Sessions::new(u64::try_from(started.ticks()).unwrap_or(0)));
        let last = store.stats()?.last_commit.0;
        let configurations = Arc::new(Configurations::load(&*store).await?);
        let tombstones = Arc::new(Tombstones::load(&*store).await?);
        let shown = (index.clone(), sessions.clone(), configurations.clone(), tombstones.clone());
        let applier = Arc::new(Applier::new(shown, last));
        let pruned = reconcile::pruned_position(&*store).await?;
        let context = Context::load(&*store).await?;
        let hub = Arc::new(Hub {
            config,
            clock,
            tasks,
            store,
            blobs,
            index,
            applier,
            sessions,
            pending: Arc::default(),
            jobs: Jobs::default(),
            transfers: Default::default(),
            context,
            configurations,
            tombstones,
            policies: Arc::new(policies),
            secret,
            counters: Default::default(),
            streams: Default::default(),
            started,
            failed: Arc::new(OnceLock::new()),
            pruned: Mutex::new(pruned),
        });
        hub.tasks.spawn(TaskKind::Reconciler, reconcile::run(hub.clone(), dangling));
        hub.tasks.spawn(TaskKind::Reconciler, reconcile::run_jobs(hub.clone()));
        hub.tasks.spawn(TaskKind::Reconciler, reconcile::run_configurations(hub.clone()));
        hub.tasks.spawn(TaskKind::Reconciler, reconcile::run_staged(hub.clone()));
        hub.tasks.spawn(TaskKind::Reconciler, reconcile::run_retirements(hub.clone()));
        Ok(hub)
    }

    /// Ends all sessions, finishes what is under way within `grace`, and closes the store. Says whether all ended in time.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.sessions.end_all(CloseReason::ShuttingDown);
        let ended = self.tasks.stop(grace).await;
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "could not close the store");
        }
        ended
    }
}

/// Sessions that were attached when the former process ended, with what was stored of them.
pub(crate) type Dangling = Vec<(TwinId, StoredSession)>;

async fn fill(index: &Index, store: &dyn Store) -> Result<Dangling> {
    let mut sessions = HashMap::new();
    let mut rest = Some(keys::sessions());
    while let Some(range) = rest {
        let page = tables::sessions::page(store, range, PageLen::MAX).await?;
        sessions.extend(page.entries.into_iter().map(|(entry, _)| entry));
        rest = page.rest;
    }
    fill_pairs(index, store, &sessions, keys::devices(), keys::device_twins()).await?;
    fill_pairs(index, store, &sessions, keys::modules(), keys::module_twins()).await?;
    Ok(sessions.into_iter().filter(|(_, session)| session.attached.is_some()).collect())
}

/// Walks identities and twins side by side: both tables are in the order of ids, and each identity has its twin.
async fn fill_pairs(
    index: &Index,
    store: &dyn Store,
    sessions: &HashMap<TwinId, StoredSession>,
    identities: KeyRange,
    twins: KeyRange,
) -> Result<()> {
    let mut twin_rest = Some(twins);
    let mut twin_page = Vec::<((TwinId, Twin), _)>::new().into_iter();
    let mut identity_rest = Some(identities);
    while let Some(range) = identity_rest {
        let page = tables::identities::page(store, range, PageLen::MAX).await?;
        identity_rest = page.rest;
        for (identity, identity_version) in page.entries {
            if twin_page.len() == 0
                && let Some(range) = twin_rest.take()
            {
                let page = tables::twins::page(store, range, PageLen::MAX).await?;
                (twin_page, twin_rest) = (page.entries.into_iter(), page.rest);
            }
            match twin_page.next() {
                Some(((id, twin), twin_version)) if id == identity.id => {
                    let session = sessions.get(&id);
                    index.load(identity, identity_version.0, twin, twin_version.0, session);
                }
                _ => {
                    return Err(Error::Internal(format!(
                        "the store has no twin for '{}': it is damaged",
                        identity.id
                    )));
                }
            }
        }
    }
    Ok(())
}
