//! Brings twins up to their configurations whose gates opened by time alone, or because the hub's context changed. Nobody is
//! polled: a twin that waits is known with the moment at which its gates could say something else. Who waits is in the twins,
//! so a crash loses nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use hub_domain::context::HubContext;
use hub_domain::id::TwinId;
use hub_domain::time::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::Chunks;
use crate::Hub;
use crate::config::{GATES_CLOCK_INTERVAL, GATES_PAUSE_MIN};
use crate::configurations::Touched;
use crate::error::Result;

/// Who waits.
struct Gated {
    changes: Receiver<TwinId>,
    context: watch::Receiver<Arc<HubContext>>,
    /// The configurations as of which the moments are.
    epoch: u64,
    waiting: HashMap<TwinId, Option<Timestamp>>,
    moments: BTreeSet<(Timestamp, TwinId)>,
}

/// Runs by itself.
pub(crate) async fn run_gated(hub: Arc<Hub>) {
    loop {
        if hub.configurations.current().any_gated() {
            Gated::new(&hub).run(&hub).await;
        }
        tokio::time::sleep(GATES_CLOCK_INTERVAL).await;
    }
}

impl Gated {
    fn new(hub: &Hub) -> Self {
        Self {
            // Before the first look at any twin, so that none changes unseen in between.
            changes: hub.applier.changes(),
            context: hub.context.watch(),
            epoch: 0,
            waiting: HashMap::new(),
            moments: BTreeSet::new(),
        }
    }

    /// Until no configuration has gates any more.
    async fn run(mut self, hub: &Hub) {
        self.look_at_all(hub).await;
        loop {
            let set = hub.configurations.current();
            if !set.any_gated() {
                return;
            }
            if set.epoch != self.epoch || self.context.has_changed().unwrap_or(false) {
                self.context.mark_unchanged();
                self.epoch = set.epoch;
                let waiting: Vec<_> = self.waiting.keys().cloned().collect();
                for id in waiting {
                    self.look_at(hub, id);
                    tokio::task::consume_budget().await;
                }
            }
            if let Err(error) = self.let_in(hub).await {
                tracing::warn!(%error, "could not bring twins up to configurations whose gates opened; will try again");
            }
            self.wait(hub).await;
        }
    }

    /// Waits for a twin or the context to change, or for the clock.
    async fn wait(&mut self, hub: &Hub) {
        let now = hub.now();
        let next = self.moments.first().map_or(GATES_CLOCK_INTERVAL, |(at, _)| at.since(now));
        // What was looked at in vain must not make a busy loop.
        let tick = tokio::time::sleep(next.clamp(GATES_PAUSE_MIN, GATES_CLOCK_INTERVAL));
        tokio::pin!(tick);
        loop {
            tokio::select! {
                biased;
                () = &mut tick => return,
                change = self.changes.recv() => match change {
                    Ok(id) => self.look_at(hub, id),
                    Err(RecvError::Lagged(_)) => self.look_at_all(hub).await,
                    Err(RecvError::Closed) => std::future::pending().await,
                },
                changed = self.context.changed() => match changed {
                    Ok(()) => {
                        self.context.mark_changed();
                        return;
                    }
                    Err(_) => std::future::pending().await,
                },
            }
        }
    }

    /// Looks at every twin, since nobody knows which ones changed.
    async fn look_at_all(&mut self, hub: &Hub) {
        let mut chunks = Chunks::default();
        while let Some(entries) = chunks.next(hub).await {
            for entry in entries.iter().filter(|entry| !entry.twin.let_in.is_empty()) {
                self.look_at(hub, entry.id().clone());
            }
        }
    }

    /// Notes when a twin is to be looked at again, if it waits.
    fn look_at(&mut self, hub: &Hub, id: TwinId) {
        let next = hub.index.get(&id).and_then(|entry| hub.gates_next(&entry, hub.now()));
        let former = match next {
            Some(next) => self.waiting.insert(id.clone(), next),
            None => self.waiting.remove(&id),
        };
        if let Some(Some(former)) = former {
            self.moments.remove(&(former, id.clone()));
        }
        if let Some(Some(next)) = next {
            self.moments.insert((next, id));
        }
    }

    /// Brings those up to their configurations whose moment has come.
    async fn let_in(&mut self, hub: &Hub) -> Result<()> {
        let now = hub.now();
        let mut due = Vec::new();
        while let Some((at, id)) = self.moments.pop_first() {
            if at > now {
                self.moments.insert((at, id));
                break;
            }
            due.push(id);
        }
        let settled = hub.settle_all(due.clone(), Touched::Gates).await;
        for id in due {
            self.look_at(hub, id);
        }
        settled.map(drop)
    }
}
