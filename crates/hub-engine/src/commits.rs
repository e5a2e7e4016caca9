//! Carries all commits through: hands each batch to the store, and makes visible what became durable.
//!
//! One task does so for everybody: a caller who goes away cannot leave a commit half shown, and a group of batches that
//! became durable together wakes one task and not one for each. It must never wait for anybody but the store.

use std::sync::{Arc, OnceLock};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hub_store::txn::Txn as StoreTxn;
use hub_store::{CommitError, Store};
use tokio::sync::{mpsc, oneshot};

use crate::applier::{Applier, Effects};
use crate::config::{COMMITS_QUEUED_MAX, COMMITS_UNDER_WAY_MAX};
use crate::error::{Error, Result};
use crate::tasks::{Held, TaskKind, Tasks};

/// The way to the task.
pub(crate) struct Commits {
    orders: mpsc::Sender<Order>,
    tasks: Tasks,
}

/// A batch, and whom to tell. The hub does not end before it is carried out.
struct Order {
    rows: StoreTxn,
    effects: Effects,
    done: oneshot::Sender<Result<bool>>,
    _held: Held,
}

impl Commits {
    /// Starts the task; it ends when nobody can send it anything any more. `failed` is set once the store is in doubt.
    pub(crate) fn start(
        tasks: &Tasks,
        store: Arc<dyn Store>,
        applier: Arc<Applier>,
        failed: Arc<OnceLock<String>>,
    ) -> Self {
        let (orders, queue) = mpsc::channel(COMMITS_QUEUED_MAX);
        let carrier = Carrier { store, applier, failed };
        tasks.serve(TaskKind::Commit, async move { carrier.run(queue).await });
        Self { orders, tasks: tasks.clone() }
    }

    /// Makes a batch durable, then visible. `false`: somebody else was first, and what he did is visible.
    pub(crate) async fn carry_out(&self, rows: StoreTxn, effects: Effects) -> Result<bool> {
        let (done, answer) = oneshot::channel();
        let order = Order { rows, effects, done, _held: self.tasks.hold() };
        let ended = || Error::Internal("the task that carries commits through ended; restart the hub".into());
        self.orders.send(order).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

struct Carrier {
    store: Arc<dyn Store>,
    applier: Arc<Applier>,
    failed: Arc<OnceLock<String>>,
}

impl Carrier {
    async fn run(&self, mut queue: mpsc::Receiver<Order>) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = under_way.next() => {}
                order = queue.recv(), if under_way.len() < COMMITS_UNDER_WAY_MAX => match order {
                    Some(order) => under_way.push(self.carry(order)),
                    None => break,
                },
            }
        }
        while under_way.next().await.is_some() {}
    }

    async fn carry(&self, Order { rows, effects, done, _held }: Order) {
        // Whoever asked may be gone.
        let _ = done.send(self.commit(rows, effects).await);
    }

    async fn commit(&self, rows: StoreTxn, effects: Effects) -> Result<bool> {
        if let Some(reason) = self.failed.get() {
            return Err(Error::Unavailable(reason.clone()));
        }
        match rows.commit().await {
            Ok(commit) => {
                self.applier.apply(commit.0, effects).await;
                Ok(true)
            }
            Err(CommitError::Conflict { .. }) => {
                // Whoever was faster may be durable and not visible yet: without him the next try would lose as well.
                let last = self.store.stats()?.last_commit.0;
                let _ = self.applier.watch().wait_for(|newest| *newest >= last).await;
                Ok(false)
            }
            Err(error) => {
                if error.outcome_is_unknown() {
                    tracing::error!(%error, "a commit failed and nobody knows whether it is on disk; the hub takes no more writes");
                    let _ =
                        self.failed.set("the store failed; restart the hub to learn what was written".into());
                }
                Err(Error::from(error))
            }
        }
    }
}
