//! Runs one job: asks [`JobState::next_step`] what comes next and does it, one batch at a time, until it is over.
//!
//! Everything that must survive is in rows; what is in here is only where to look next. A batch writes what was done,
//! the records of its targets and the job's counts together, so that a crash neither loses nor repeats anything.
//!
//! [`JobState::next_step`]: hub_domain::job::JobState::next_step

use std::sync::Arc;

use hub_domain::actor::Actor;
use hub_domain::job::{Act, ItemError, ItemStatus, JobItem, JobSpec, JobState, JobStatus, Settled, Step};
use hub_domain::query::Source as From;
use hub_domain::twin::{TwinUpdate, WriteMode};
use hub_domain::version::Precondition;
use hub_index::{Next, Source};
use hub_store::{KeyRange, PageLen, keys, tables};
use tokio::sync::Notify;

use super::job_calls::Calls;
use super::job_watch::Watch;
use super::parts::Parts;
use crate::Hub;
use crate::config::{JOB_BATCH_TARGETS, JOB_CLOCK_INTERVAL, JOB_FIND_TARGETS};
use crate::error::{Error, Result};

/// A job that is being run, by one task at a time.
pub(super) struct JobRun<'h> {
    pub(super) hub: &'h Hub,
    pub(super) spec: JobSpec,
    /// Told when somebody cancels the job.
    pub(super) wake: Arc<Notify>,
    /// The targets that were not looked at since the run, or the last round over all targets, began.
    pub(super) unseen: Option<KeyRange>,
    pub(super) calls: Calls<'h>,
    pub(super) watch: Watch,
}

impl<'h> JobRun<'h> {
    pub(super) fn new(hub: &'h Hub, spec: JobSpec, wake: Arc<Notify>) -> Self {
        let unseen = Some(keys::job_items(&spec.id));
        let (calls, watch) = (Calls::new(hub), Watch::new(hub, &spec));
        Self { hub, spec, wake, unseen, calls, watch }
    }

    /// Goes on from wherever the job stands to its end.
    pub(super) async fn run(mut self) -> Result<()> {
        self.take_up().await?;
        let act = self.spec.action.act();
        loop {
            let state = tables::jobs::state(&*self.hub.store, &self.spec.id).await?;
            let state = state.ok_or_else(|| Error::JobNotFound(self.spec.id.clone()))?;
            let now = self.hub.now();
            match state.next_step(&self.spec, now) {
                Step::WaitUntil(at) => {
                    let pause = at.since(now).min(JOB_CLOCK_INTERVAL);
                    let _ = tokio::time::timeout(pause, self.wake.notified()).await;
                }
                Step::Begin => {
                    self.change(|state, now| state.begin(now)).await?;
                }
                Step::Miss => {
                    let reason = "its time was over before it could start: the hub did not run".to_owned();
                    self.change(|state, now| state.fail(reason.clone(), now)).await?;
                }
                Step::Find => self.find(&state).await?,
                Step::Run => match &act {
                    Act::Patch(update) => self.patch(update).await?,
                    Act::Call(call) => self.step_calls(call).await?,
                },
                Step::Expire => self.expire().await?,
                Step::Cancel => self.settle_page(None).await?,
                Step::Await => self.await_answers().await?,
                Step::Finish => {
                    self.change(|state, now| state.finish(now)).await?;
                }
                Step::Over => return Ok(()),
            }
        }
    }

    /// Writes the job's state, changed.
    async fn change(&mut self, change: impl Fn(&mut JobState, hub_domain::time::Timestamp)) -> Result<()> {
        for mut txn in self.hub.attempts() {
            let Some(mut state) = txn.rows().job_state(&self.spec.id).await? else {
                return Err(Error::JobNotFound(self.spec.id.clone()));
            };
            let now = txn.now();
            // Cancelled meanwhile: the next step decides anew.
            if state.status == JobStatus::Cancelled && state.next_step(&self.spec, now) != Step::Finish {
                return Ok(());
            }
            change(&mut state, now);
            txn.rows().put_job_state(&self.spec.id, &state);
            if txn.commit().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Notes the next targets.
    async fn find(&mut self, state: &JobState) -> Result<()> {
        let source = match self.spec.condition.source() {
            From::DeviceModules => Source::Modules,
            From::Devices | From::DeviceJobs | From::RetiredDevices => Source::Devices,
        };
        let (mut targets, mut all) = (Vec::new(), false);
        let after = state.found_up_to.as_ref();
        let mut selection = self.hub.index.select(source, &self.spec.condition, [], after);
        while targets.len() < JOB_FIND_TARGETS && !all {
            match selection.next() {
                Next::Found(entry) => targets.push(entry.id().clone()),
                Next::Pause => tokio::task::yield_now().await,
                Next::End => all = true,
            }
        }
        let last = targets.last().cloned().or_else(|| state.found_up_to.clone());
        drop(selection);
        let Some(mut txn) = self.hub.attempts().next() else { return Ok(()) };
        let Some(mut state) = self.running_state(&mut txn).await? else { return Ok(()) };
        let now = txn.now();
        state.found(targets.len() as u64, last, all);
        for id in targets {
            txn.rows().put_job_item(&self.spec.id, &JobItem::new(id, now));
        }
        txn.rows().put_job_state(&self.spec.id, &state);
        // Not committed: it was cancelled meanwhile, which the next step sees.
        txn.commit().await?;
        Ok(())
    }

    /// The job's state if it still runs; the commit fails if that changes before.
    pub(super) async fn running_state(
        &mut self,
        txn: &mut crate::transact::Txn<'_>,
    ) -> Result<Option<JobState>> {
        let state = txn.rows().job_state(&self.spec.id).await?;
        Ok(state.filter(|state| state.status == JobStatus::Running))
    }

    /// The next pending targets of this round; `None` once all were looked at.
    pub(super) async fn next_pending(&mut self, most: usize) -> Result<Option<Vec<JobItem>>> {
        let Some(range) = self.unseen.take() else { return Ok(None) };
        let len = PageLen::new(most.max(1)).unwrap_or(PageLen::MAX);
        let page = tables::jobs::items(&*self.hub.store, range, len).await?;
        self.unseen = page.rest;
        let items = page.entries.into_iter().map(|((_, item), _)| item);
        Ok(Some(items.filter(|item| item.status == ItemStatus::Pending).collect()))
    }

    /// Patches the next targets.
    async fn patch(&mut self, update: &TwinUpdate) -> Result<()> {
        self.settle_reports().await?;
        let Some(items) = self.next_pending(JOB_BATCH_TARGETS).await? else {
            self.unseen = Some(keys::job_items(&self.spec.id));
            return Ok(());
        };
        let mut parts = Parts::new(items);
        while let Some(part) = parts.next() {
            if !self.try_patch(&part.items, update, part.is_last_try()).await? {
                parts.refused(part);
            }
        }
        Ok(())
    }

    /// `false`: somebody else changed one of these twins meanwhile. `give_up` notes that as their failure instead.
    async fn try_patch(&mut self, items: &[JobItem], update: &TwinUpdate, give_up: bool) -> Result<bool> {
        let _turn = self.hub.jobs.turns.acquire().await;
        let actor = Actor::Job(self.spec.id.clone());
        let Some(mut txn) = self.hub.attempts_by(&actor).next() else { return Ok(false) };
        let Some(mut state) = self.running_state(&mut txn).await? else { return Ok(true) };
        let now = txn.now();
        let (mut settled, mut awaiting) = (Settled::default(), Vec::new());
        for item in items {
            let written = if give_up {
                Err(Error::Contended(item.id.clone()))
            } else {
                self.hub.put_twin_update(&mut txn, &item.id, update, WriteMode::Patch, &Precondition::None)
            };
            let item = match written {
                Ok((entry, twin)) => {
                    let item = self.spec.begin(item.clone(), &entry.twin, now);
                    self.spec.taken(item, Ok((None, Some(twin.desired.version))), now)
                }
                Err(error) => {
                    let error = item_error(&self.hub.retired_or(&item.id.device, error));
                    self.spec.taken(item.clone(), Err(error), now)
                }
            };
            txn.rows().put_job_item(&self.spec.id, &item);
            match item.awaits_report() {
                true => awaiting.push(item),
                false => settled.count(item.status == ItemStatus::Completed),
            }
        }
        state.run(awaiting.len() as u64);
        state.settle_pending(settled);
        txn.rows().put_job_state(&self.spec.id, &state);
        let committed = txn.commit().await?;
        if committed {
            awaiting.iter().for_each(|item| self.watch.expect(&self.spec, item));
        }
        Ok(committed)
    }

    /// The job's time is over.
    async fn expire(&mut self) -> Result<()> {
        let error = match self.spec.action.wait() {
            Some(wait) if wait.is_zero() => ItemError {
                code: "JobTimeOver".into(),
                description: "The job's time was over before it came to this device.".into(),
            },
            _ => item_error(&Error::DeviceOffline { waited: self.spec.execution_max }),
        };
        self.settle_page(Some(error)).await
    }

    /// Settles the next pending targets: they failed, or were cancelled if there is no error.
    pub(super) async fn settle_page(&mut self, error: Option<ItemError>) -> Result<()> {
        let Some(items) = self.next_pending(JOB_FIND_TARGETS).await? else {
            self.unseen = Some(keys::job_items(&self.spec.id));
            return Ok(());
        };
        if items.is_empty() {
            return Ok(());
        }
        for mut txn in self.hub.attempts() {
            let Some(mut state) = txn.rows().job_state(&self.spec.id).await? else { return Ok(()) };
            let now = txn.now();
            let count = items.len() as u64;
            match &error {
                Some(_) => state.settle_pending(Settled { succeeded: 0, failed: count }),
                None => state.cancelled(count),
            }
            for item in &items {
                let item = match &error {
                    Some(error) => item.clone().settle(Err(error.clone()), now),
                    None => item.clone().cancel(now),
                };
                txn.rows().put_job_item(&self.spec.id, &item);
            }
            txn.rows().put_job_state(&self.spec.id, &state);
            if txn.commit().await? {
                return Ok(());
            }
        }
        // Tried in vain because others change the job: those targets are found again in the next round.
        Ok(())
    }

    /// What a former process left: reports that are awaited still, and calls of which nobody knows whether the devices
    /// acted on them, so they are never made again.
    async fn take_up(&mut self) -> Result<()> {
        let state = tables::jobs::state(&*self.hub.store, &self.spec.id).await?;
        if state.is_none_or(|state| state.counts.running == 0) {
            return Ok(());
        }
        let error = ItemError {
            code: "OutcomeUnknown".into(),
            description:
                "The hub stopped while it waited for the device's answer; the device may have acted.".into(),
        };
        let mut rest = Some(keys::job_items(&self.spec.id));
        while let Some(range) = rest {
            let page = tables::jobs::items(&*self.hub.store, range, PageLen::MAX).await?;
            rest = page.rest;
            let items = page.entries.into_iter().map(|((_, item), _)| item);
            let running = items.filter(|item| item.status == ItemStatus::Running);
            let (awaiting, unknown): (Vec<_>, Vec<_>) = running.partition(JobItem::awaits_report);
            awaiting.iter().for_each(|item| self.watch.expect(&self.spec, item));
            let outcomes: Vec<_> = unknown.into_iter().map(|item| (item, Err(error.clone()))).collect();
            self.settle_running(&outcomes).await?;
        }
        Ok(())
    }
}

/// An error as the record of a target shows it: with the code that a single call would have met.
pub(super) fn item_error(error: &Error) -> ItemError {
    let code = match error {
        Error::DeviceNotFound(_) => "404001",
        Error::ModuleNotFound(_) => "404010",
        Error::Retired { .. } => "DeviceRetired",
        Error::DeviceOffline { .. } => "404103",
        Error::DeviceGone => "404104",
        Error::TimedOut { .. } => "504101",
        Error::TooManyCalls(_) => "403800",
        Error::Throttled(_) => "429001",
        Error::Invalid(_) => "400004",
        Error::Contended(_) => "503005",
        _ => "500001",
    };
    // Without the id, which is in the record already, so that failures can be grouped by their reason.
    let description = match error {
        Error::DeviceNotFound(_) => "The device is not registered or is disabled.".into(),
        Error::ModuleNotFound(_) => "The module is not registered.".into(),
        Error::Retired { .. } => "The device was retired.".into(),
        other => other.to_string(),
    };
    ItemError { code: code.into(), description }
}
