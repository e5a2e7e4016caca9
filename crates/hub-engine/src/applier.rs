//! Makes commits visible, in the order of their numbers: first in the index, then to the sessions they concern.
//!
//! Every successful commit passes here exactly once, even one that changes nothing anybody sees.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hub_domain::configuration::Configuration;
use hub_domain::id::{ConfigurationId, DeviceId, TwinId};
use hub_domain::json::Object;
use hub_domain::link::{CloseReason, Downlink};
use hub_domain::retirement::Retirement;
use hub_index::{Change, Index};
use tokio::sync::{broadcast, oneshot, watch};

use crate::config::TWIN_CHANGES_MAX;
use crate::configurations::Configurations;
use crate::retirement::Tombstones;
use crate::sessions::Sessions;

/// What a commit changes for those who look.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// For the index.
    pub(crate) changes: Vec<Change>,
    /// Devices to tell of their new desired properties.
    pub(crate) desired: Vec<(TwinId, Arc<Object>, u64)>,
    /// A configuration that was written, or removed.
    pub(crate) configuration: Option<(ConfigurationId, Option<Arc<Configuration>>)>,
    /// Records of retired devices that were written, or removed.
    pub(crate) retirements: Vec<(DeviceId, Option<Retirement>)>,
    /// Sessions to end.
    pub(crate) ended: Vec<(TwinId, CloseReason)>,
}

/// See the module.
pub(crate) struct Applier {
    index: Arc<Index>,
    sessions: Arc<Sessions>,
    configurations: Arc<Configurations>,
    tombstones: Arc<Tombstones>,
    newest: watch::Sender<u64>,
    changed: broadcast::Sender<TwinId>,
    queue: Mutex<Queue>,
}

struct Queue {
    next: u64,
    waiting: BTreeMap<u64, (Effects, oneshot::Sender<()>)>,
}

impl Applier {
    /// `last` is the number of the last commit that the index holds already.
    pub(crate) fn new(
        (index, sessions, configurations, tombstones): (
            Arc<Index>,
            Arc<Sessions>,
            Arc<Configurations>,
            Arc<Tombstones>,
        ),
        last: u64,
    ) -> Self {
        // Says which commit the index is at.
        index.apply(last, &[]);
        let queue = Mutex::new(Queue { next: last + 1, waiting: BTreeMap::new() });
        let changed = broadcast::Sender::new(TWIN_CHANGES_MAX);
        let newest = watch::Sender::new(last);
        Self { index, sessions, configurations, tombstones, newest, changed, queue }
    }

    /// Returns once commit `number` and all before it are visible.
    pub(crate) async fn apply(&self, number: u64, effects: Effects) {
        let (done, wait) = oneshot::channel();
        self.enqueue(number, effects, done);
        // The sender is used by whichever commit closes the gap; it is never dropped unused.
        let _ = wait.await;
    }

    fn enqueue(&self, number: u64, effects: Effects, done: oneshot::Sender<()>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.insert(number, (effects, done));
        while let Some((number, (effects, done))) = queue
            .waiting
            .first_key_value()
            .is_some_and(|(n, _)| *n == queue.next)
            .then(|| queue.waiting.pop_first())
            .flatten()
        {
            queue.next = number + 1;
            // Held meanwhile on purpose: it is what keeps the order. Everything below is short and takes no lock back.
            self.show(number, effects);
            let _ = done.send(());
        }
        self.newest.send_replace(queue.next - 1);
    }

    fn show(&self, number: u64, effects: Effects) {
        // Before the index: an id is never free in between.
        for (device, retirement) in &effects.retirements {
            self.tombstones.show(number, device, retirement.as_ref());
        }
        self.index.apply(number, &effects.changes);
        if self.changed.receiver_count() > 0 {
            for change in &effects.changes {
                if let Change::Twin(id, ..) | Change::Deleted(id) = change {
                    let _ = self.changed.send(id.clone());
                }
            }
        }
        if let Some((id, configuration)) = effects.configuration {
            self.configurations.show(number, &id, configuration);
        }
        for (id, patch, version) in effects.desired {
            self.sessions.tell_desired(&id, Downlink::DesiredChanged { patch, version });
        }
        for (id, reason) in effects.ended {
            self.sessions.end(&id, reason);
            if reason == CloseReason::Deleted {
                // Jobs that wait for it look again, and find it gone.
                self.sessions.arrived(&id);
            }
        }
    }

    /// Twins that are written or deleted from now on, each once it is visible, for those who wait for many.
    pub(crate) fn changes(&self) -> broadcast::Receiver<TwinId> {
        self.changed.subscribe()
    }

    /// The number of the newest visible commit, and a way to wait for a later one.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}
