//! The part of a job that does what its rollout wants: gives targets their waves, turns to them, stops, undoes. What comes
//! next is never decided here, but in `hub_domain::rollout`.

use std::time::Duration;

use hub_domain::context::{GatesOverride, Reason};
use hub_domain::event::{Event, EventKind, GatesOf};
use hub_domain::job::{Act, JobItem, JobState, JobStatus};
use hub_domain::rollout::{
    Expected, ROLLOUT_ACTION_GUESS, ROLLOUT_PATCH_GUESS, Rollout, RolloutState, RolloutStep, plan,
};
use hub_domain::time::Timestamp;
use hub_index::Entry;
use hub_store::{PageLen, keys, tables};

use super::job_run::JobRun;
use super::parts::Parts;
use crate::config::{JOB_BATCH_TARGETS, JOB_CLOCK_INTERVAL, JOB_FIND_TARGETS, JOB_FORECAST_TARGETS};
use crate::error::Result;
use crate::rollouts::{DryRunGuess, Reach};

impl JobRun<'_> {
    /// Gives every target its wave. Can be done again: nothing is acted on before the plan is whole.
    pub(super) async fn plan(&mut self) -> Result<()> {
        let Some(policy) = self.spec.rollout.clone() else { return Ok(()) };
        let (mut targets, mut rest) = (Vec::new(), Some(keys::job_items(&self.spec.id)));
        while let Some(range) = rest {
            let page = tables::jobs::items(&*self.hub.store, range, PageLen::MAX).await?;
            rest = page.rest;
            for ((_, item), _) in page.entries {
                let stratum = policy.stratify_by.as_ref().and_then(|path| {
                    let entry = self.hub.index.get(&item.id)?;
                    Some(path.value(&entry.twin.tags).into_owned())
                });
                targets.push((item, stratum.unwrap_or_default()));
            }
        }
        let sizes = match policy.waves.sizes(targets.len() as u64) {
            Ok(sizes) => sizes,
            Err(error) => {
                let reason = error.to_string();
                return self
                    .change(move |state, _| {
                        (state.status, state.failure) = (JobStatus::Failed, Some(reason.clone()));
                    })
                    .await;
            }
        };
        let seed = policy.seed.unwrap_or_default();
        let waves = plan(&sizes, seed, targets.iter().map(|(item, stratum)| (&item.id, stratum)));
        for chunk in targets.iter().zip(&waves).collect::<Vec<_>>().chunks(JOB_FIND_TARGETS) {
            let Some(mut txn) = self.hub.attempts().next() else { return Ok(()) };
            if self.running_state(&mut txn).await?.is_none() {
                return Ok(());
            }
            for ((item, _), wave) in chunk {
                let item = JobItem { wave: Some(**wave), ..item.clone() };
                txn.rows().put_job_item(&self.spec.id, &item);
            }
            if !txn.commit().await? {
                return Ok(());
            }
        }
        let asked_by = self.spec.asked_by.to_string();
        let expected = self.expect(&policy, &targets).await;
        self.change(move |state, _| {
            state.rollout = Some(RolloutState { expected, ..RolloutState::new(&asked_by, &sizes) });
        })
        .await
    }

    /// What can be expected of the rollout as the fleet is now, by a look at some of its targets.
    async fn expect(&mut self, policy: &Rollout, targets: &[(JobItem, String)]) -> Option<Expected> {
        let now = self.hub.now();
        let state = JobState::new(self.spec.created, self.spec.start);
        let mut reach = Reach::default();
        let step = targets.len().div_ceil(JOB_FORECAST_TARGETS).max(1);
        for (item, _) in targets.iter().step_by(step) {
            let (obstacles, _) = self.hub.obstacles(&self.spec, &state, item, now);
            reach.see(self.hub, &self.spec, &item.id, &obstacles, now);
            tokio::task::consume_budget().await;
        }
        let per_device = if self.spec.action.is_patch() { ROLLOUT_PATCH_GUESS } else { ROLLOUT_ACTION_GUESS };
        let guess = DryRunGuess { per_device, bytes_per_device: 0 };
        let assumed = reach.assume(self.hub, &self.spec, targets.len() as u64, guess, now);
        policy.forecast(&assumed).ok()?.expected()
    }

    /// What is told of a device that is turned to although its gates are closed, because somebody said so.
    pub(super) fn overrides(&self, state: &JobState, entry: &Entry, now: Timestamp) -> Option<Event> {
        let gates = self.spec.gates.as_ref()?;
        let GatesOverride { by: actor, reason, .. } = state.gates_override(&self.spec)?;
        let verdict = gates.evaluate(&entry.document(), &self.hub.context.current(), now);
        let closed: Vec<_> = verdict.reasons.iter().map(Reason::key).collect();
        let gates_of = GatesOf::Job(self.spec.id.clone());
        let kind = EventKind::Override { gates_of, reason, closed, actor };
        (!verdict.reasons.is_empty()).then(|| Event { time: now, id: entry.id().clone(), kind })
    }

    /// Does the next step of the rollout.
    pub(super) async fn step_rollout(
        &mut self,
        state: &JobState,
        step: RolloutStep,
        act: &Act,
    ) -> Result<()> {
        if self.write_answers().await? || self.settle_reports().await? {
            return Ok(());
        }
        match step {
            RolloutStep::Dispatch { at_most, until, .. } => self.dispatch(state, at_most, until, act).await,
            RolloutStep::Wait { until, .. } => {
                self.pause(until).await;
                Ok(())
            }
            RolloutStep::Skip => self.settle_page(None).await,
            RolloutStep::RollBack => self.undo().await,
            RolloutStep::Over => self.change(|state, now| state.finish(now)).await,
            step => {
                if matches!(step, RolloutStep::OpenWave { .. }) {
                    self.look_at_all();
                }
                let Some(policy) = self.spec.rollout.clone() else { return Ok(()) };
                self.change(move |state, now| advance(state, &step, &policy, now)).await
            }
        }
    }

    /// Ends a rollout whose time is over.
    pub(super) async fn cut_short(&mut self) -> Result<()> {
        self.change(|state, _| {
            if let Some(rollout) = &mut state.rollout {
                // Refused if somebody ended it just now.
                let _ = rollout.abort("hub", "the time of the job was over");
            }
        })
        .await
    }

    /// Turns to targets whose turn it is, or waits until there are some.
    async fn dispatch(
        &mut self,
        state: &JobState,
        at_most: u64,
        until: Option<Timestamp>,
        act: &Act,
    ) -> Result<()> {
        let mut most = usize::try_from(at_most).unwrap_or(usize::MAX).min(JOB_BATCH_TARGETS);
        let mut permits = Vec::new();
        if act.call().is_some() {
            permits = self.call_permits(most);
            most = permits.len();
            if most == 0 {
                self.pause(until).await;
                return Ok(());
            }
        }
        let chosen = self.choose(state, most).await?;
        self.settle_pending(&chosen.never).await?;
        if chosen.go.is_empty() {
            if !chosen.looked {
                drop(permits);
                self.pause(until).await;
            }
            return Ok(());
        }
        let mut parts = Parts::new(chosen.go);
        while let Some(part) = parts.next() {
            match self.try_turn(&part.items, act, part.is_last_try()).await? {
                Some(called) => self.call(called, act, &mut permits),
                None => parts.refused(part),
            }
        }
        Ok(())
    }

    async fn pause(&mut self, until: Option<Timestamp>) {
        let now = self.hub.now();
        let next = [until, self.turns.next_wake()].into_iter().flatten().min();
        let pause = next.map_or(JOB_CLOCK_INTERVAL, |at| at.since(now).min(JOB_CLOCK_INTERVAL));
        // A moment that has come and was looked at in vain must not make a busy loop.
        self.wait(pause.max(Duration::from_millis(1))).await;
    }

    /// Notes the end, and with it the job that undoes what was done.
    async fn undo(&mut self) -> Result<()> {
        let Some(undo) = self.spec.undo(self.hub.now()) else {
            return self.change(|state, now| state.finish(now)).await;
        };
        for mut txn in self.hub.attempts() {
            let Some(mut state) = self.running_state(&mut txn).await? else { return Ok(()) };
            if let (Some(rollout), Some(policy)) = (&mut state.rollout, &self.spec.rollout) {
                rollout.apply(&RolloutStep::Finish, policy, txn.now());
            }
            state.finish(txn.now());
            txn.rows().put_job_state(&self.spec.id, &state);
            let is_new = tables::jobs::spec(&*self.hub.store, &undo.id).await?.is_none();
            if is_new {
                self.hub.put_new_job(&mut txn, &undo);
            }
            if txn.commit().await? {
                if is_new {
                    self.hub.jobs.expect(undo.id.clone(), undo.start);
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// The targets of a job that undoes another: those that were turned to.
    pub(super) async fn find_undone(&mut self, of: &hub_domain::id::JobId, state: &JobState) -> Result<()> {
        let range = state
            .found_up_to
            .as_ref()
            .map_or_else(|| keys::job_items(of), |last| keys::job_items_after(of, last));
        let len = PageLen::new(JOB_FIND_TARGETS).unwrap_or(PageLen::MAX);
        let page = tables::jobs::items(&*self.hub.store, range, len).await?;
        let last = page.entries.last().map(|((_, item), _)| item.id.clone());
        let items = page.entries.into_iter().map(|((_, item), _)| item);
        let targets = items.filter(|item| item.started.is_some()).map(|item| item.id).collect();
        self.note_targets(targets, last, page.rest.is_none()).await
    }
}

fn advance(state: &mut JobState, step: &RolloutStep, policy: &Rollout, now: Timestamp) {
    if let Some(rollout) = &mut state.rollout {
        rollout.apply(step, policy, now);
    }
    if *step == RolloutStep::Finish {
        state.finish(now);
    }
}
