//! The part of a job that calls methods: claims targets whose devices are there, calls them, and writes their answers.
//!
//! A target is claimed, durably, before its device is called, so that no restart calls it twice. Devices that are not
//! there cost nothing while the job waits for them: they stay pending rows, and their arrival is what is looked at.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hub_domain::id::TwinId;
use hub_domain::job::{ItemError, ItemStatus, JobItem, Settled};
use hub_domain::method::{MethodCall, MethodResult};
use hub_domain::time::Timestamp;
use hub_store::{keys, tables};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::job_run::{JobRun, item_error};
use crate::Hub;
use crate::config::{JOB_BATCH_TARGETS, JOB_CLOCK_INTERVAL};
use crate::error::{Error, Result};

/// A target with what became of its call.
pub(super) type Outcome = (JobItem, std::result::Result<Option<MethodResult>, ItemError>);

/// The calls of one job that wait for an answer, and the arrivals that it has not looked at.
pub(super) struct Calls<'h> {
    waiting: FuturesUnordered<Pin<Box<dyn Future<Output = Outcome> + Send + 'h>>>,
    answered: Vec<Outcome>,
    arrivals: Receiver<TwinId>,
    arrived: Vec<TwinId>,
    /// When every target had been looked at once: from then on the job waits for those that were not there.
    looked_at_all: Option<Timestamp>,
}

impl<'h> Calls<'h> {
    pub(super) fn new(hub: &'h Hub) -> Self {
        Self {
            waiting: FuturesUnordered::new(),
            answered: Vec::new(),
            // Before the first look at any target, so that nobody arrives unseen in between.
            arrivals: hub.sessions.arrivals(),
            arrived: Vec::new(),
            looked_at_all: None,
        }
    }

    /// Takes the answers that are there.
    fn collect(&mut self) {
        while self.answered.len() < JOB_BATCH_TARGETS
            && let Some(Some(outcome)) = self.waiting.next().now_or_never()
        {
            self.answered.push(outcome);
        }
    }

    /// Takes the arrivals that are there. `false`: some were missed.
    fn collect_arrivals(&mut self) -> bool {
        while self.arrived.len() < JOB_BATCH_TARGETS {
            match self.arrivals.try_recv() {
                Ok(id) => self.arrived.push(id),
                Err(TryRecvError::Lagged(_)) => return false,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        true
    }
}

impl JobRun<'_> {
    /// One step of a method job: write the answers that came, or call more devices, or wait for something to happen.
    pub(super) async fn step_calls(&mut self, call: &MethodCall) -> Result<()> {
        if self.write_answers().await? || self.settle_reports().await? {
            return Ok(());
        }
        if !self.calls.collect_arrivals() {
            self.unseen = Some(keys::job_items(&self.spec.id));
        }
        if self.unseen.is_some() || !self.calls.arrived.is_empty() {
            return self.call_more(call).await;
        }
        let now = self.hub.now();
        let looked_at_all = *self.calls.looked_at_all.get_or_insert(now);
        let waits_until = self.spec.action.wait().map(|wait| looked_at_all.plus(wait));
        if waits_until.is_some_and(|until| until <= now) {
            let waited = self.spec.action.wait().unwrap_or_default();
            self.unseen = Some(keys::job_items(&self.spec.id));
            while self.unseen.is_some() {
                self.settle_page(Some(item_error(&Error::DeviceOffline { waited }))).await?;
                self.write_answers().await?;
                if self.unseen.is_none() {
                    return Ok(());
                }
            }
            return Ok(());
        }
        let until = waits_until.map_or(self.spec.deadline(), |until| until.min(self.spec.deadline()));
        self.wait(until.since(now).min(JOB_CLOCK_INTERVAL)).await;
        Ok(())
    }

    /// Only answers and reports are missing.
    pub(super) async fn await_answers(&mut self) -> Result<()> {
        if self.write_answers().await? || self.settle_reports().await? {
            return Ok(());
        }
        self.wait(JOB_CLOCK_INTERVAL).await;
        Ok(())
    }

    /// Waits for an answer, a report, an arrival or a cancellation, at most so long.
    async fn wait(&mut self, most: Duration) {
        let Self { calls, watch, wake, unseen, spec, .. } = self;
        tokio::select! {
            biased;
            Some(outcome) = calls.waiting.next(), if !calls.waiting.is_empty() => calls.answered.push(outcome),
            () = watch.changed() => {}
            arrival = calls.arrivals.recv() => match arrival {
                Ok(id) => calls.arrived.push(id),
                Err(RecvError::Lagged(_)) => *unseen = Some(keys::job_items(&spec.id)),
                Err(RecvError::Closed) => tokio::time::sleep(most).await,
            },
            () = wake.notified() => {}
            () = tokio::time::sleep(most) => {}
        }
    }

    /// Writes the answers that came. `false` if there are none.
    async fn write_answers(&mut self) -> Result<bool> {
        self.calls.collect();
        let answered = std::mem::take(&mut self.calls.answered);
        if answered.is_empty() {
            return Ok(false);
        }
        self.settle_running(&answered).await?;
        Ok(true)
    }

    /// Writes what became of running targets, with the counts.
    pub(super) async fn settle_running(&mut self, outcomes: &[Outcome]) -> Result<()> {
        if outcomes.is_empty() {
            return Ok(());
        }
        loop {
            let Some(mut txn) = self.hub.attempts().next() else { return Ok(()) };
            let Some(mut state) = txn.rows().job_state(&self.spec.id).await? else { return Ok(()) };
            let now = txn.now();
            let (mut settled, mut awaiting) = (Settled::default(), Vec::new());
            for (item, outcome) in outcomes {
                let taken = outcome.clone().map(|answer| (answer, None));
                let item = self.spec.taken(item.clone(), taken, now);
                txn.rows().put_job_item(&self.spec.id, &item);
                match item.awaits_report() {
                    true => awaiting.push(item),
                    false => settled.count(item.status == ItemStatus::Completed),
                }
            }
            state.settle_running(settled);
            txn.rows().put_job_state(&self.spec.id, &state);
            // Only somebody who cancels the job can be in between, and that happens once.
            if txn.commit().await? {
                awaiting.iter().for_each(|item| self.watch.expect(&self.spec, item));
                return Ok(());
            }
        }
    }

    /// Claims targets whose devices are there, and calls them. Those that are not there, and are not waited for, fail.
    async fn call_more(&mut self, call: &MethodCall) -> Result<()> {
        let calls_of_all = self.hub.jobs.calls.clone();
        let wake = self.wake.clone();
        let calls = &mut self.calls;
        let first = tokio::select! {
            biased;
            Some(outcome) = calls.waiting.next(), if !calls.waiting.is_empty() => {
                calls.answered.push(outcome);
                return Ok(());
            }
            () = wake.notified() => return Ok(()),
            permit = calls_of_all.clone().acquire_owned() => permit,
        };
        let mut permits: Vec<_> = first.into_iter().collect();
        while permits.len() < JOB_BATCH_TARGETS
            && let Ok(permit) = calls_of_all.clone().try_acquire_owned()
        {
            permits.push(permit);
        }
        let pending = self.targets(permits.len()).await?;
        let waits = self.spec.action.wait() != Some(Duration::ZERO);
        let (mut claimed, mut failed) = (Vec::new(), Vec::new());
        for item in pending {
            match self.hub.reach(&item.id) {
                Ok(()) => claimed.push(item),
                Err(Error::DeviceOffline { .. }) if waits => {}
                Err(error) => {
                    let error = item_error(&self.hub.retired_or(&item.id.device, error));
                    failed.push((item, error));
                }
            }
        }
        if claimed.is_empty() && failed.is_empty() {
            return Ok(());
        }
        if self.claim(&mut claimed, &failed).await? {
            for (item, permit) in claimed.into_iter().zip(permits) {
                let called = called(self.hub, item, call.clone(), permit);
                self.calls.waiting.push(Box::pin(called));
            }
        }
        Ok(())
    }

    /// The next targets to look at: of devices that arrived, or else of the round over all.
    async fn targets(&mut self, most: usize) -> Result<Vec<JobItem>> {
        if self.calls.arrived.is_empty() {
            return Ok(self.next_pending(most).await?.unwrap_or_default());
        }
        let arrived = &mut self.calls.arrived;
        let some = arrived.split_off(arrived.len().saturating_sub(most));
        let mut pending: Vec<JobItem> = Vec::new();
        for id in some {
            let item = tables::jobs::item(&*self.hub.store, &self.spec.id, &id).await?;
            let item = item.filter(|item| item.status == ItemStatus::Pending);
            pending.extend(item.filter(|item| pending.iter().all(|known| known.id != item.id)));
        }
        Ok(pending)
    }

    /// Notes, durably, that these targets are about to be called and that those failed. `false` if the job was cancelled.
    async fn claim(&mut self, claimed: &mut [JobItem], failed: &[(JobItem, ItemError)]) -> Result<bool> {
        for mut txn in self.hub.attempts() {
            let Some(mut state) = self.running_state(&mut txn).await? else { return Ok(false) };
            let now = txn.now();
            state.run(claimed.len() as u64);
            state.settle_pending(Settled { succeeded: 0, failed: failed.len() as u64 });
            for item in claimed.iter_mut() {
                let twin = self.hub.index.get(&item.id).map(|entry| entry.twin.clone());
                *item = match twin {
                    Some(twin) => self.spec.begin(item.clone(), &twin, now),
                    None => item.clone().run(now),
                };
                txn.rows().put_job_item(&self.spec.id, item);
            }
            for (item, error) in failed {
                txn.rows().put_job_item(&self.spec.id, &item.clone().settle(Err(error.clone()), now));
            }
            txn.rows().put_job_state(&self.spec.id, &state);
            if txn.commit().await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

async fn called(hub: &Hub, item: JobItem, call: MethodCall, permit: OwnedSemaphorePermit) -> Outcome {
    let outcome = hub.call(&item.id, &call, Duration::ZERO).await;
    drop(permit);
    let reason = |error| item_error(&hub.retired_or(&item.id.device, error));
    let outcome = outcome.map(Some).map_err(reason);
    (item, outcome)
}
