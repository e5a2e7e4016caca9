//! Runs one job: asks [`JobState::next_step`] what comes next and does it, one batch at a time, until it is over.
//!
//! Everything that must survive is in rows; what is in here is only where to look next. A batch writes what was done,
//! the records of its targets and the job's counts together, so that a crash neither loses nor repeats anything.
//!
//! [`JobState::next_step`]: hub_domain::job::JobState::next_step

use std::sync::Arc;

use hub_domain::actor::Actor;
use hub_domain::id::TwinId;
use hub_domain::job::{Act, ItemError, ItemStatus, JobItem, JobSpec, JobState, JobStatus, Step, outcome};
use hub_domain::time::Timestamp;
use hub_domain::twin::WriteMode;
use hub_domain::version::Precondition;
use hub_store::{PageLen, keys, tables};
use tokio::sync::Notify;

use super::job_calls::{Calls, Outcome};
use super::job_turns::Turns;
use super::job_watch::Watch;
use super::parts::Parts;
use crate::Hub;
use crate::config::{JOB_BATCH_TARGETS, JOB_CLOCK_INTERVAL, JOB_FIND_TARGETS, JOB_PATIENCE};
use crate::error::{Error, Result};
use crate::retirement::Proof;

/// A job that is being run, by one task at a time.
pub(super) struct JobRun<'h> {
    pub(super) hub: &'h Hub,
    pub(super) spec: JobSpec,
    /// Told when somebody cancels the job or decides about its rollout.
    pub(super) wake: Arc<Notify>,
    pub(super) calls: Calls<'h>,
    pub(super) watch: Watch,
    pub(super) turns: Turns,
}

impl<'h> JobRun<'h> {
    pub(super) fn new(hub: &'h Hub, spec: JobSpec, wake: Arc<Notify>) -> Self {
        let (calls, watch, turns) = (Calls::new(hub), Watch::new(hub, &spec), Turns::new(hub, &spec));
        Self { hub, spec, wake, calls, watch, turns }
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
                Step::Plan => self.plan().await?,
                Step::Rollout(step) => self.step_rollout(&state, step, &act).await?,
                Step::CutShort => self.cut_short().await?,
                Step::Run if act.call().is_some() => self.step_calls(&act).await?,
                Step::Run => self.write_more(&act).await?,
                Step::Expire => self.expire(&state).await?,
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
    pub(super) async fn change(
        &mut self,
        change: impl Fn(&mut JobState, hub_domain::time::Timestamp),
    ) -> Result<()> {
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
        if let Some(of) = self.spec.undoes.clone() {
            return self.find_undone(&of, state).await;
        }
        let (targets, all) = self.hub.targets_after(&self.spec, state.found_up_to.as_ref()).await;
        let last = targets.last().cloned().or_else(|| state.found_up_to.clone());
        self.note_targets(targets, last, all).await
    }

    pub(super) async fn note_targets(
        &mut self,
        targets: Vec<TwinId>,
        last: Option<TwinId>,
        all: bool,
    ) -> Result<()> {
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
        let Some(range) = self.turns.unseen.take() else { return Ok(None) };
        let len = PageLen::new(most.max(1)).unwrap_or(PageLen::MAX);
        let page = tables::jobs::items(&*self.hub.store, range, len).await?;
        self.turns.unseen = page.rest;
        let items = page.entries.into_iter().map(|((_, item), _)| item);
        Ok(Some(items.filter(|item| item.status == ItemStatus::Pending).collect()))
    }

    /// Writes the next targets.
    async fn write_more(&mut self, act: &Act) -> Result<()> {
        self.settle_reports().await?;
        let Some(items) = self.next_pending(JOB_BATCH_TARGETS).await? else {
            self.look_at_all();
            return Ok(());
        };
        let mut parts = Parts::new(items);
        while let Some(part) = parts.next() {
            if self.try_turn(&part.items, act, part.is_last_try()).await?.is_none() {
                parts.refused(part);
            }
        }
        Ok(())
    }

    /// Turns to these targets, in one batch: does what is asked, or notes that they are about to be called and returns
    /// them. `None`: they did not fit together, or somebody else changed one of them meanwhile. `give_up` notes that as
    /// their failure instead.
    pub(super) async fn try_turn(
        &mut self,
        items: &[JobItem],
        act: &Act,
        give_up: bool,
    ) -> Result<Option<Vec<JobItem>>> {
        let hub = self.hub;
        let _turn = match act.call() {
            Some(_) => None,
            None => hub.jobs.turns.acquire().await.ok(),
        };
        let actor = Actor::Job(self.spec.id.clone());
        let Some(mut txn) = hub.attempts_by(&actor).next() else { return Ok(None) };
        let Some(mut state) = self.running_state(&mut txn).await? else { return Ok(Some(Vec::new())) };
        let now = txn.now();
        let (mut written, mut not_yet) = (Vec::new(), Vec::new());
        let mut patience = JOB_PATIENCE;
        for item in items {
            // Whoever calls a single device must not wait for the whole batch to be worked out.
            hub.jobs.courtesy.give_way(&mut patience).await;
            if !may_begin(&self.spec, &mut state, item, now) {
                not_yet.push(item.id.clone());
                continue;
            }
            let begun = match hub.index.get(&item.id) {
                Some(entry) => {
                    if let Some(event) = self.overrides(&state, &entry, now) {
                        txn.event(&event);
                    }
                    self.spec.begin(item.clone(), &entry.twin, now)
                }
                None => item.clone().run(now),
            };
            state.moved(item, &begun, now);
            let after = match act.call() {
                Some(_) => begun,
                None => {
                    let taken = match give_up {
                        true => Err(Error::Contended(item.id.clone())),
                        false => write_target(hub, &self.spec, &mut txn, item, act).await?,
                    };
                    let taken = taken
                        .map(|version| (None, version))
                        .map_err(|error| item_error(&hub.retired_or(&item.id.device, error)));
                    let after = self.spec.taken(begun.clone(), taken, now);
                    state.moved(&begun, &after, now);
                    after
                }
            };
            txn.rows().put_job_item(&self.spec.id, &after);
            written.push(after);
        }
        txn.rows().put_job_state(&self.spec.id, &state);
        match txn.commit().await {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(Error::TooLarge(_)) if items.len() > 1 => return Ok(None),
            Err(error) => return Err(error),
        }
        not_yet.into_iter().for_each(|id| {
            self.turns.ended(&id);
            hub.jobs.release(&id, &self.spec.id);
            self.turns.look_at(id);
        });
        written.iter().for_each(|item| self.noted(item));
        Ok(Some(written))
    }

    /// The job's time is over, or it cannot run.
    async fn expire(&mut self, state: &JobState) -> Result<()> {
        let error = match (self.spec.action.wait(), &state.failure) {
            (_, Some(reason)) => ItemError { code: "JobFailed".into(), description: reason.clone() },
            (Some(wait), _) if wait.is_zero() => ItemError {
                code: outcome::JOB_TIME_OVER.into(),
                description: "The job's time was over before it came to this device.".into(),
            },
            _ => item_error(&Error::DeviceOffline { waited: self.spec.execution_max }),
        };
        self.settle_page(Some(error)).await
    }

    /// Settles the next pending targets: they failed, or were cancelled if there is no error.
    pub(super) async fn settle_page(&mut self, error: Option<ItemError>) -> Result<()> {
        let Some(items) = self.next_pending(JOB_FIND_TARGETS).await? else {
            self.look_at_all();
            return Ok(());
        };
        let own = |item: &JobItem| item.error.clone().filter(|_| item.is_retrying());
        let settled =
            items.into_iter().map(|item| (error.clone().map(|error| own(&item).unwrap_or(error)), item));
        self.settle(settled.map(|(error, item)| (item, error)).collect()).await
    }

    /// Settles pending targets that cannot have their turn.
    pub(super) async fn settle_pending(&mut self, failed: &[(JobItem, ItemError)]) -> Result<()> {
        self.settle(failed.iter().cloned().map(|(item, error)| (item, Some(error))).collect()).await
    }

    async fn settle(&mut self, items: Vec<(JobItem, Option<ItemError>)>) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        for mut txn in self.hub.attempts() {
            let Some(mut state) = txn.rows().job_state(&self.spec.id).await? else { return Ok(()) };
            let now = txn.now();
            for (item, error) in &items {
                let after = match error {
                    Some(error) => item.clone().settle(Err(error.clone()), now),
                    None => item.clone().cancel(now),
                };
                state.moved(item, &after, now);
                txn.rows().put_job_item(&self.spec.id, &after);
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
            code: outcome::OUTCOME_UNKNOWN.into(),
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
            awaiting.iter().for_each(|item| {
                self.still_in_flight(item);
                self.watch.expect(&item.id);
            });
            let unknown = unknown.into_iter();
            let outcomes: Vec<_> =
                unknown.map(|item| Outcome { item, answer: Err(error.clone()), receipt: None }).collect();
            self.settle_running(&outcomes).await?;
        }
        Ok(())
    }
}

/// Does what is asked with a target, within a batch; gives the version of its desired section if that was patched.
async fn write_target(
    hub: &Hub,
    spec: &JobSpec,
    txn: &mut crate::transact::Txn<'_>,
    item: &JobItem,
    act: &Act,
) -> Result<Result<Option<u64>>> {
    let device = &item.id.device;
    let update = match (act, &spec.undoes) {
        (Act::Retire(request), _) => {
            let retired = hub.put_retired(txn, device, request, &Proof::default(), None);
            return Ok(retired.map(|_| None));
        }
        (Act::RestoreDevice, Some(of)) => {
            let by = Actor::Job(of.clone());
            let is_ours = tables::retired::get(&*hub.store, device).await?.is_some_and(|it| it.by == by);
            return Ok(match is_ours {
                true => hub.put_restored(txn, device, false).await.map(|_| None),
                false => Ok(None),
            });
        }
        (Act::Patch(update), _) => Some(update.clone()),
        (_, Some(of)) => {
            let undone = tables::jobs::item(&*hub.store, of, &item.id).await?;
            undone.as_ref().and_then(JobSpec::restoring)
        }
        _ => None,
    };
    let Some(update) = update else { return Ok(Ok(None)) };
    let written = hub.put_twin_update(txn, &item.id, &update, WriteMode::Patch, &Precondition::None);
    Ok(written.map(|(_, twin)| Some(twin.desired.version)))
}

/// Whether the rollout lets a target begin now; if so, that is noted.
fn may_begin(spec: &JobSpec, state: &mut JobState, item: &JobItem, now: Timestamp) -> bool {
    let (Some(policy), Some(rollout), Some(wave)) = (&spec.rollout, &mut state.rollout, item.wave) else {
        return true;
    };
    let again = u64::from(item.is_retrying());
    rollout.dispatch(policy, wave as usize, 1 - again, again, now).is_ok()
}

/// An error as the record of a target shows it: with the code that a single call would have met.
pub(crate) fn item_error(error: &Error) -> ItemError {
    let code = match error {
        Error::DeviceNotFound(_) => "404001",
        Error::ModuleNotFound(_) => "404010",
        Error::Retired { .. } => outcome::DEVICE_RETIRED,
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
