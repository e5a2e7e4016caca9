//! The part of a job that waits for what devices report of an action that they took. A device is looked at when its twin
//! changed, and when its time is over; nobody is polled. It never decides what a report means: the domain does.

use std::collections::{BTreeSet, HashSet};

use hub_domain::id::TwinId;
use hub_domain::job::{ItemError, ItemStatus, JobItem, JobSpec, Reported, Settled};
use hub_domain::time::Timestamp;
use hub_store::tables;
use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::job_run::{JobRun, item_error};
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
            changes: spec.awaits_reports().then(|| hub.applier.changes()),
            awaited: HashSet::new(),
            timeouts: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Notes that the report of `item` is awaited; it may have come already.
    pub(super) fn expect(&mut self, spec: &JobSpec, item: &JobItem) {
        let acted = item.acted.unwrap_or(item.created);
        let until =
            spec.device_timeout.map_or(spec.deadline(), |timeout| acted.plus(timeout).min(spec.deadline()));
        self.timeouts.insert((until, item.id.clone()));
        self.touched.insert(item.id.clone());
        self.awaited.insert(item.id.clone());
    }

    /// Waits for a change of a twin whose report is awaited.
    pub(super) async fn changed(&mut self) {
        let Some(changes) = &mut self.changes else { return std::future::pending().await };
        loop {
            match changes.recv().await {
                Ok(id) if self.awaited.contains(&id) => {
                    self.touched.insert(id);
                    return;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return self.touched.extend(self.awaited.iter().cloned()),
                Err(RecvError::Closed) => return std::future::pending().await,
            }
        }
    }

    /// The next devices to look at.
    fn next(&mut self, now: Timestamp) -> Vec<TwinId> {
        while let Some(changes) = &mut self.changes {
            match changes.try_recv() {
                Ok(id) if self.awaited.contains(&id) => drop(self.touched.insert(id)),
                Ok(_) => {}
                Err(TryRecvError::Lagged(_)) => self.touched.extend(self.awaited.iter().cloned()),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
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
        for id in self.watch.next(now) {
            let item = tables::jobs::item(&*self.hub.store, &self.spec.id, &id).await?;
            if let Some(item) = item.filter(JobItem::awaits_report)
                && let Some(outcome) = self.concluded(&item, now)
            {
                looked_at.push((item, outcome));
            }
        }
        if looked_at.is_empty() {
            return Ok(false);
        }
        loop {
            let Some(mut txn) = self.hub.attempts().next() else { return Ok(false) };
            let Some(mut state) = txn.rows().job_state(&self.spec.id).await? else { return Ok(false) };
            let mut settled = Settled::default();
            for (item, outcome) in &looked_at {
                settled.count(outcome.is_ok());
                let item = item.clone().conclude(outcome.clone(), txn.now());
                txn.rows().put_job_item(&self.spec.id, &item);
            }
            state.settle_running(settled);
            txn.rows().put_job_state(&self.spec.id, &state);
            // Only somebody who cancels the job can be in between, and that happens once.
            if txn.commit().await? {
                break;
            }
        }
        for (item, _) in looked_at {
            self.watch.awaited.remove(&item.id);
        }
        Ok(true)
    }

    /// What a target comes to; `None`: its report is still awaited.
    fn concluded(&self, item: &JobItem, now: Timestamp) -> Option<std::result::Result<Value, ItemError>> {
        debug_assert_eq!(item.status, ItemStatus::Running);
        let Some(entry) = self.hub.index.get(&item.id) else {
            let gone = self.hub.retired_or(&item.id.device, error::not_found(&item.id));
            return Some(Err(item_error(&gone)));
        };
        let step = match self.spec.reported(item, &entry.twin) {
            Reported::Done(report) => return Some(Ok(report)),
            Reported::Failed(error) => return Some(Err(error)),
            Reported::Underway(step) => step,
        };
        let acted = item.acted.unwrap_or(item.created);
        let is_late = self.spec.device_timeout.is_some_and(|timeout| now >= acted.plus(timeout));
        (is_late || now >= self.spec.deadline()).then(|| {
            let step = step.map_or("nothing of it".to_owned(), |step| step.to_string());
            let description =
                format!("The device took the action and did not report its end in time; it reports {step}");
            Err(ItemError { code: "NotReported".into(), description })
        })
    }
}
