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
use hub_domain::job::{Act, ItemError, ItemStatus, JobAction, JobItem, outcome};
use hub_domain::method::{MethodCall, MethodResult};
use hub_domain::retirement::Receipt;
use hub_domain::time::Timestamp;
use hub_store::tables;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::job_run::{JobRun, item_error};
use crate::Hub;
use crate::config::{JOB_BATCH_TARGETS, JOB_CLOCK_INTERVAL, JOB_FIND_TARGETS};
use crate::error::{Error, Result};
use crate::retirement::Proof;
use crate::transact::Txn;

/// What became of the call of a target.
pub(super) struct Outcome {
    pub(super) item: JobItem,
    pub(super) answer: std::result::Result<Option<MethodResult>, ItemError>,
    /// That it erased itself, if it was called for that.
    pub(super) receipt: Option<Receipt>,
}

/// The calls of one job that wait for an answer, and the arrivals that it has not looked at.
pub(super) struct Calls<'h> {
    waiting: FuturesUnordered<Pin<Box<dyn Future<Output = Outcome> + Send + 'h>>>,
    answered: Vec<Outcome>,
    arrivals: Receiver<TwinId>,
    pub(super) arrived: Vec<TwinId>,
    /// When every target had been looked at once: from then on the job waits for those that were not there.
    looked_at_all: Option<Timestamp>,
    /// Whether those that were not there in time were given up.
    gave_up: bool,
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
            gave_up: false,
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
    pub(super) async fn step_calls(&mut self, act: &Act) -> Result<()> {
        if self.write_answers().await? || self.settle_reports().await? {
            return Ok(());
        }
        if !self.calls.collect_arrivals() {
            self.look_at_all();
        }
        let now = self.hub.now();
        self.calls.arrived.extend(self.turns.woken(now));
        if self.turns.unseen.is_some() || !self.calls.arrived.is_empty() {
            return self.call_more(act).await;
        }
        let looked_at_all = *self.calls.looked_at_all.get_or_insert(now);
        let wait = self.spec.action.wait().filter(|_| !self.calls.gave_up);
        let waits_until = wait.map(|wait| looked_at_all.plus(wait));
        if waits_until.is_some_and(|until| until <= now) {
            return self
                .give_up(&item_error(&Error::DeviceOffline { waited: wait.unwrap_or_default() }))
                .await;
        }
        let next = [waits_until, self.turns.next_wake()].into_iter().flatten();
        let until = next.fold(self.spec.deadline(), Timestamp::min);
        self.wait(until.since(now).min(JOB_CLOCK_INTERVAL)).await;
        Ok(())
    }

    /// Settles the targets that were not there in time. One that said "not now" was there, and is waited for.
    async fn give_up(&mut self, error: &ItemError) -> Result<()> {
        self.look_at_all();
        while let Some(mut items) = self.next_pending(JOB_FIND_TARGETS).await? {
            items.retain(|item| !item.is_retrying());
            let failed: Vec<_> = items.into_iter().map(|item| (item, error.clone())).collect();
            self.settle_pending(&failed).await?;
            self.write_answers().await?;
        }
        self.calls.gave_up = true;
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
    pub(super) async fn wait(&mut self, most: Duration) {
        let Self { calls, watch, turns, wake, spec, .. } = self;
        tokio::select! {
            biased;
            Some(outcome) = calls.waiting.next(), if !calls.waiting.is_empty() => calls.answered.push(outcome),
            () = watch.changed(turns) => {}
            arrival = calls.arrivals.recv() => match arrival {
                Ok(id) => calls.arrived.push(id),
                Err(RecvError::Lagged(_)) => turns.look_at_all(spec),
                Err(RecvError::Closed) => tokio::time::sleep(most).await,
            },
            () = wake.notified() => {}
            () = tokio::time::sleep(most) => {}
        }
    }

    /// Writes the answers that came. `false` if there are none.
    pub(super) async fn write_answers(&mut self) -> Result<bool> {
        self.calls.collect();
        let answered = std::mem::take(&mut self.calls.answered);
        if answered.is_empty() {
            return Ok(false);
        }
        // A device that is retired is written with its modules, of which there can be many.
        let at_once = if self.spec.action.is_retirement() { 1 } else { answered.len() };
        for some in answered.chunks(at_once) {
            self.settle_running(some).await?;
        }
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
            let mut written = Vec::new();
            for outcome in outcomes {
                let (item, after) = (&outcome.item, self.answered(&mut txn, outcome));
                state.moved(item, &after, now);
                txn.rows().put_job_item(&self.spec.id, &after);
                written.push(after);
            }
            txn.rows().put_job_state(&self.spec.id, &state);
            // Only somebody who decides about the job can be in between, and that is rare.
            if txn.commit().await? {
                written.iter().for_each(|item| self.noted(item));
                return Ok(());
            }
        }
    }

    /// How a target stands that was called; if it was asked to erase itself, it is retired in the same batch.
    fn answered(&self, txn: &mut Txn<'_>, outcome: &Outcome) -> JobItem {
        let Outcome { item, answer, receipt } = outcome;
        let (taken, now) = (answer.clone().map(|answer| (answer, None)), txn.now());
        let JobAction::Retire { request, .. } = &self.spec.action else {
            return self.spec.taken(item.clone(), taken, now);
        };
        let proof = match self.spec.unproven(item.clone(), taken, request.force, now) {
            Ok(unproven) => Proof { receipt: receipt.clone(), unproven },
            Err(after) => return *after,
        };
        let retired = self.hub.put_retired(txn, &item.id.device, request, &proof, None);
        item.clone()
            .settle(retired.map(|_| answer.clone().ok().flatten()).map_err(|error| item_error(&error)), now)
    }

    /// Claims targets whose devices are there, and calls them. Those that are not there, and are not waited for, fail.
    async fn call_more(&mut self, act: &Act) -> Result<()> {
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
            permit = calls_of_all.acquire_owned() => permit,
        };
        let mut permits: Vec<_> = first.into_iter().collect();
        permits.extend(self.call_permits(JOB_BATCH_TARGETS - permits.len()));
        let pending = self.targets(permits.len()).await?;
        let waits = self.spec.action.wait() != Some(Duration::ZERO);
        let (mut there, mut failed) = (Vec::new(), Vec::new());
        let now = self.hub.now();
        for item in pending {
            if let Some(at) = item.not_before.filter(|at| *at > now) {
                self.turns.sleep_until(at, item.id);
                continue;
            }
            match self.hub.reachable(&self.spec, &item.id) {
                Ok(()) => there.push(item),
                Err(Error::DeviceOffline { .. }) if waits || item.is_retrying() => {}
                Err(error) => {
                    let error = item_error(&self.hub.retired_or(&item.id.device, error));
                    failed.push((item, error));
                }
            }
        }
        self.settle_pending(&failed).await?;
        if !there.is_empty() {
            // Not claimed: the job was changed meanwhile, and its next round finds them again.
            let claimed = self.try_turn(&there, act, false).await?.unwrap_or_default();
            self.call(claimed, act, &mut permits);
        }
        Ok(())
    }

    /// As many of the calls that all jobs may make as are free now.
    pub(super) fn call_permits(&self, most: usize) -> Vec<OwnedSemaphorePermit> {
        let calls = &self.hub.jobs.calls;
        std::iter::from_fn(|| calls.clone().try_acquire_owned().ok()).take(most).collect()
    }

    /// Calls targets that were claimed.
    pub(super) fn call(&mut self, claimed: Vec<JobItem>, act: &Act, permits: &mut Vec<OwnedSemaphorePermit>) {
        let Some(call) = act.call() else { return };
        let is_retirement = self.spec.action.is_retirement();
        for item in claimed.into_iter().filter(|item| item.status == ItemStatus::Running) {
            let (hub, permit) = (self.hub, permits.pop());
            self.calls.waiting.push(match is_retirement {
                true => Box::pin(erased(hub, item, call.clone(), permit)),
                false => Box::pin(called(hub, item, call.clone(), permit)),
            });
        }
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
}

async fn called(hub: &Hub, item: JobItem, call: MethodCall, permit: Option<OwnedSemaphorePermit>) -> Outcome {
    let outcome = hub.call(&item.id, &call, Duration::ZERO).await;
    drop(permit);
    let reason = |error| item_error(&hub.retired_or(&item.id.device, error));
    let answer = outcome.map(Some).map_err(reason);
    Outcome { item, answer, receipt: None }
}

async fn erased(hub: &Hub, item: JobItem, call: MethodCall, permit: Option<OwnedSemaphorePermit>) -> Outcome {
    let asked = hub.ask_to_erase(&item.id, &call, Duration::ZERO).await;
    drop(permit);
    let (answer, receipt) = match asked {
        // What it answered instead decides whether it is asked again.
        Ok((answer, Err(_))) if !answer.is_success() => (Ok(Some(answer)), None),
        Ok((_, Err(error))) => {
            (Err(ItemError { code: outcome::NO_RECEIPT.into(), description: error.to_string() }), None)
        }
        Ok((answer, Ok(receipt))) => (Ok(Some(answer)), Some(receipt)),
        Err(error) => (Err(item_error(&hub.retired_or(&item.id.device, error))), None),
    };
    Outcome { item, answer, receipt }
}
