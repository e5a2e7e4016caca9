//! The part of a job that waits for what devices report of an action that they took. A device is looked at when its twin
//! changed, and when its time is over; nobody is polled. It never decides what a report means: the domain does.

use std::collections::{BTreeSet, HashSet};

use hub_domain::id::TwinId;
use hub_domain::job::{ItemError, ItemStatus, JobItem, JobSpec, Reported, outcome};
use hub_domain::time::Timestamp;
use hub_store::tables;
use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::job_run::{JobRun, item_error};
use super::job_turns::Turns;
use crate::Hub;
use crate::config::JOB_BATCH_TARGETS;
use crate::error::{self, Result};

/// The devices whose reports are missing.
pub(super) struct Watch {
    /// Twins that changed; none if the job waits for no reports.
    changes: Option<Receiver<TwinId>>,
    awaited: HashSet<TwinId>,
    timeouts: BTreeSet<(Timestamp, TwinId)>,
    /// Those to look at.
    touched: BTreeSet<TwinId>,
}

impl Watch {
    pub(super) fn new(hub: &Hub, spec: &JobSpec) -> Self {
        Self {
            // Before the first action, so that no report comes unseen in between.
            changes: (spec.awaits_reports() || spec.gates.is_some()).then(|| hub.applier.changes()),
            awaited: HashSet::new(),
            timeouts: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Notes that the report of `id` is awaited. It may have come already; if not, the first look notes its time.
    pub(super) fn expect(&mut self, id: &TwinId) {
        self.touched.insert(id.clone());
        self.awaited.insert(id.clone());
    }

    /// Waits for a change of a twin whose report is awaited, or whose gates are closed.
    pub(super) async fn changed(&mut self, turns: &mut Turns) {
        loop {
            let Some(changes) = &mut self.changes else { return std::future::pending().await };
            let change = match changes.recv().await {
                Ok(id) => Some(id),
                Err(RecvError::Lagged(_)) => None,
                Err(RecvError::Closed) => return std::future::pending().await,
            };
            if self.note(change, turns) {
                return;
            }
        }
    }

    /// Notes that a twin changed, or that some did and nobody knows which. `false` if nobody waits for it.
    fn note(&mut self, change: Option<TwinId>, turns: &mut Turns) -> bool {
        let Some(id) = change else {
            self.touched.extend(self.awaited.iter().cloned());
            turns.touched(None);
            return true;
        };
        let (is_awaited, is_gated) = (self.awaited.contains(&id), turns.awaits(&id));
        if is_gated {
            turns.touched(Some(&id));
        }
        if is_awaited {
            self.touched.insert(id);
        }
        is_awaited || is_gated
    }

    /// The next devices to look at.
    fn next(&mut self, turns: &mut Turns, now: Timestamp) -> Vec<TwinId> {
        while let Some(changes) = &mut self.changes {
            let change = match changes.try_recv() {
                Ok(id) => Some(id),
                Err(TryRecvError::Lagged(_)) => None,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            };
            self.note(change, turns);
        }
        while self.timeouts.first().is_some_and(|(until, _)| *until <= now) {
            self.touched.extend(self.timeouts.pop_first().map(|(_, id)| id));
        }
        let count = self.touched.len().min(JOB_BATCH_TARGETS);
        std::iter::from_fn(|| self.touched.pop_first()).take(count).collect()
    }
}

impl JobRun<'_> {
    /// Writes what devices reported since, and that the time of others is over. `false` if there is nothing to write.
    pub(super) async fn settle_reports(&mut self) -> Result<bool> {
        let now = self.hub.now();
        let mut looked_at = Vec::new();
        for id in self.watch.next(&mut self.turns, now) {
            let item = tables::jobs::item(&*self.hub.store, &self.spec.id, &id).await?;
            if let Some(item) = item.filter(JobItem::awaits_report)
                && let Some(outcome) = self.conclusion(&item, now)
            {
                looked_at.push((item, outcome));
            }
        }
        if looked_at.is_empty() {
            return Ok(false);
        }
        let mut written = Vec::new();
        loop {
            let Some(mut txn) = self.hub.attempts().next() else { return Ok(false) };
            let Some(mut state) = txn.rows().job_state(&self.spec.id).await? else { return Ok(false) };
            written.clear();
            for (item, outcome) in &looked_at {
                let after = self.spec.concluded(item.clone(), outcome.clone(), txn.now());
                state.moved(item, &after, txn.now());
                txn.rows().put_job_item(&self.spec.id, &after);
                written.push(after);
            }
            txn.rows().put_job_state(&self.spec.id, &state);
            // Only somebody who decides about the job can be in between, and that is rare.
            if txn.commit().await? {
                break;
            }
        }
        for item in written {
            self.watch.awaited.remove(&item.id);
            self.noted(&item);
        }
        Ok(true)
    }

    /// What a target comes to; `None`: its report is still awaited.
    fn conclusion(
        &mut self,
        item: &JobItem,
        now: Timestamp,
    ) -> Option<std::result::Result<Value, ItemError>> {
        debug_assert_eq!(item.status, ItemStatus::Running);
        let Some(entry) = self.hub.index.get(&item.id) else {
            let gone = self.hub.retired_or(&item.id.device, error::not_found(&item.id));
            return Some(Err(item_error(&gone)));
        };
        let step = match self.spec.reported(item, &entry.document()) {
            Reported::Done(report) => return Some(Ok(report)),
            Reported::Failed(error) => return Some(Err(error)),
            Reported::Underway(step) => step,
        };
        let heard = entry.twin.reported.metadata.stamp.at;
        let deadline = self.spec.report_deadline(item, heard);
        if now < deadline {
            // It may have been heard of since its time was noted.
            self.watch.timeouts.insert((deadline, item.id.clone()));
        }
        (now >= deadline).then(|| {
            let step = step.map_or("nothing of it".to_owned(), |step| step.to_string());
            let description =
                format!("The device took the action and did not report its end in time; it reports {step}");
            Err(ItemError { code: outcome::NOT_REPORTED.into(), description })
        })
    }
}
