//! Opening the hub: fill the index from the store, then start what runs by itself. And closing it in order.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hub_domain::id::TwinId;
use hub_domain::link::CloseReason;
use hub_domain::session::StoredSession;
use hub_domain::twin::Malformed;
use hub_index::{CHUNK_ROWS_MAX, Index, Loaded, Source, StoredRow};
use hub_store::blobs::BlobFolder;
use hub_store::tables::StoredPage;
use hub_store::{KeyRange, PAGE_ROWS_MAX, PageLen, Store, keys, tables};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::applier::Applier;
use crate::clock::Clock;
use crate::commits::Commits;
use crate::config::{Config, OPEN_PAGES_AHEAD};
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
        let dangling = fill(&index, &store, &tasks).await?;
        let started = clock.now();
        let sessions = Arc::new(Sessions::new(u64::try_from(started.ticks()).unwrap_or(0)));
        let last = store.stats()?.last_commit.0;
        let configurations = Arc::new(Configurations::load(&*store).await?);
        let tombstones = Arc::new(Tombstones::load(&*store).await?);
        let shown = (index.clone(), sessions.clone(), configurations.clone(), tombstones.clone());
        let applier = Arc::new(Applier::new(shown, last));
        let pruned = reconcile::pruned_position(&*store).await?;
        let context = Context::load(&*store).await?;
        let failed = Arc::new(OnceLock::new());
        let commits = Commits::start(&tasks, store.clone(), applier.clone(), failed.clone());
        let hub = Arc::new(Hub {
            config,
            clock,
            tasks,
            store,
            blobs,
            index,
            applier,
            commits,
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
            failed,
            pruned: Mutex::new(pruned),
        });
        hub.tasks.run(TaskKind::Reconciler, reconcile::run(hub.clone(), dangling));
        hub.tasks.run(TaskKind::Reconciler, reconcile::run_jobs(hub.clone()));
        hub.tasks.run(TaskKind::Reconciler, reconcile::run_configurations(hub.clone()));
        hub.tasks.run(TaskKind::Reconciler, reconcile::run_staged(hub.clone()));
        hub.tasks.run(TaskKind::Reconciler, reconcile::run_gated(hub.clone()));
        hub.tasks.run(TaskKind::Reconciler, reconcile::run_retirements(hub.clone()));
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

async fn fill(index: &Arc<Index>, store: &Arc<dyn Store>, tasks: &Tasks) -> Result<Dangling> {
    let mut sessions = HashMap::new();
    let mut rest = Some(keys::sessions());
    while let Some(range) = rest {
        let page = tables::sessions::page(&**store, range, PageLen::MAX).await?;
        sessions.extend(page.entries.into_iter().map(|(entry, _)| entry));
        rest = page.rest;
    }
    let shared = Arc::new(Shared { index: index.clone(), store: store.clone(), sessions });
    let mut loading = Loading { shared, tasks, loaded: VecDeque::new() };
    loading.pairs(Source::Devices, keys::devices(), keys::device_twins()).await?;
    loading.pairs(Source::Modules, keys::modules(), keys::module_twins()).await?;
    let sessions = loading.shared.sessions.iter().filter(|(_, session)| session.attached.is_some());
    Ok(sessions.map(|(id, session)| (id.clone(), *session)).collect())
}

/// Fills the index: tasks read some pages each, one after the other, and make them ready by all processors; they are put in in
/// their order.
struct Loading<'l> {
    shared: Arc<Shared>,
    tasks: &'l Tasks,
    /// In the order of their rows.
    loaded: VecDeque<JoinHandle<Result<Loaded>>>,
}

/// What the tasks work on.
struct Shared {
    index: Arc<Index>,
    store: Arc<dyn Store>,
    sessions: HashMap<TwinId, StoredSession>,
}

/// Pages whose twins fill a chunk of the index: they are made ready together.
const CHUNK_PAGES: usize = CHUNK_ROWS_MAX / PAGE_ROWS_MAX as usize;

/// Identities, and their twins.
type Pages = (StoredPage, StoredPage);
type Ranges = (KeyRange, KeyRange);

impl Loading<'_> {
    /// Walks identities and twins side by side: both tables are in the order of ids, and each identity has its twin.
    async fn pairs(&mut self, source: Source, identities: KeyRange, twins: KeyRange) -> Result<()> {
        let mut rest = Some((identities, twins));
        while let Some(ranges) = rest {
            let (then, told) = oneshot::channel();
            let some = load_some(self.shared.clone(), source, ranges, then);
            self.loaded.push_back(self.tasks.spawn(TaskKind::Loading, some));
            // If it failed before it could tell, putting it in says why.
            rest = told.await.unwrap_or(None);
            self.put_in(OPEN_PAGES_AHEAD / CHUNK_PAGES).await?;
        }
        self.put_in(0).await
    }

    /// Puts rows into the index until only so many tasks are left.
    async fn put_in(&mut self, left: usize) -> Result<()> {
        while self.loaded.len() > left
            && let Some(loaded) = self.loaded.pop_front()
        {
            let ended_early = |error| Error::Internal(format!("loading ended early: {error}"));
            self.shared.index.load(loaded.await.map_err(ended_early)??);
        }
        Ok(())
    }
}

/// Makes the first pages of the ranges ready, and tells before what `then` is to be read: who reads rows frees them, too, so that
/// their memory is there for the next ones.
async fn load_some(
    shared: Arc<Shared>,
    source: Source,
    ranges: Ranges,
    then: oneshot::Sender<Option<Ranges>>,
) -> Result<Loaded> {
    let mut rest = Some(ranges);
    let mut pages: Vec<Pages> = Vec::with_capacity(CHUNK_PAGES);
    while pages.len() < CHUNK_PAGES
        && let Some(ranges) = rest
    {
        let (read, behind) = read_pages(&*shared.store, ranges).await?;
        pages.push(read);
        rest = behind;
    }
    // Nobody listens if another task failed.
    let _ = then.send(rest);
    decode(&shared, source, pages)
}

async fn read_pages(store: &dyn Store, (identities, twins): Ranges) -> Result<(Pages, Option<Ranges>)> {
    let mut twins = StoredPage::read(store, twins, PageLen::MAX).await?;
    // Pages are bounded in bytes, too, so one of the two may be the shorter.
    let len = PageLen::new(twins.len()).unwrap_or(PageLen::MAX);
    let identities = StoredPage::read(store, identities, len).await?;
    twins.cut(identities.len());
    let rest = match (identities.rest(), twins.rest()) {
        (Some(_), None) => {
            return Err(Error::Internal("the store has fewer twins than identities: it is damaged".into()));
        }
        (identities, twins) => identities.cloned().zip(twins.cloned()),
    };
    Ok(((identities, twins), rest))
}

fn decode(shared: &Shared, source: Source, pages: Vec<Pages>) -> Result<Loaded> {
    let damaged =
        |id: &TwinId| Error::Internal(format!("the store has no sound twin for '{id}': it is damaged"));
    let mut loading = shared.index.prepare(source);
    for (identities, twins) in pages {
        let mut twins = tables::twins::packed(&twins);
        for identity in tables::identities::decoded(&identities) {
            let (identity, version) = identity?;
            let ((id, twin), twin_version) = match twins.next().transpose()? {
                Some(twin) if twin.0.0 == identity.id => twin,
                _ => return Err(damaged(&identity.id)),
            };
            let row = StoredRow {
                identity: (identity, version.0),
                twin: (&twin, twin_version.0),
                session: shared.sessions.get(&id).copied(),
            };
            loading.push(row).map_err(|Malformed| damaged(&id))?;
        }
    }
    Ok(loading.finish())
}
