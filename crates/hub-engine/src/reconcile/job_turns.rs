//! The part of a job that finds whose turn it is within a rollout: targets whose wave is open, whose gates are open, and
//! whom no cap holds back. The others are looked at again when something happens that can change that, never by polling.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use hub_domain::context::HubContext;
use hub_domain::id::TwinId;
use hub_domain::job::{ItemError, ItemStatus, JobItem, JobSpec, JobState, outcome};
use hub_domain::rollout::{TagCaps, WhenBusy};
use hub_domain::time::Timestamp;
use hub_store::{KeyRange, PageLen, keys, tables};
use tokio::sync::watch;

use super::job_run::JobRun;
use crate::Hub;
use crate::config::{JOB_BUSY_PAUSE, JOB_FIND_TARGETS};
use crate::context::Obstacle;
use crate::error::Result;

/// Where to look, and for whom to wait.
pub(super) struct Turns {
    /// The targets that were not looked at since the run, or the last round over all targets, began.
    pub(super) unseen: Option<KeyRange>,
    /// To be looked at now.
    look: BTreeSet<TwinId>,
    /// To be looked at as soon as those are; found in the round over all targets.
    page: VecDeque<TwinId>,
    /// To be looked at then.
    sleeping: BTreeSet<(Timestamp, TwinId)>,
    /// To be looked at when their twins change.
    gated: HashSet<TwinId>,
    has_gates: bool,
    /// To be looked at when another of their tag's value ends.
    held: HashSet<TwinId>,
    caps: Option<TagCaps>,
    /// The value of the cap's tag of those in flight, as it was when they began.
    values: HashMap<TwinId, String>,
    context: watch::Receiver<Arc<HubContext>>,
}

/// Whose turn it is.
#[derive(Default)]
pub(super) struct Chosen {
    pub(super) go: Vec<JobItem>,
    pub(super) never: Vec<(JobItem, ItemError)>,
    /// Whether any target was looked at.
    pub(super) looked: bool,
}

impl Turns {
    pub(super) fn new(hub: &Hub, spec: &JobSpec) -> Self {
        let cap = spec.rollout.as_ref().and_then(|rollout| rollout.limits.per_tag.as_ref());
        Self {
            unseen: Some(keys::job_items(&spec.id)),
            look: BTreeSet::new(),
            page: VecDeque::new(),
            sleeping: BTreeSet::new(),
            gated: HashSet::new(),
            has_gates: spec.gates.is_some(),
            held: HashSet::new(),
            caps: cap.map(|cap| TagCaps::new(cap.in_flight, [])),
            values: HashMap::new(),
            context: hub.context.watch(),
        }
    }

    /// Looks at all targets again.
    pub(super) fn look_at_all(&mut self, spec: &JobSpec) {
        self.unseen = Some(keys::job_items(&spec.id));
    }

    pub(super) fn look_at(&mut self, id: TwinId) {
        self.look.insert(id);
    }

    /// Whether a change of this twin may open a gate. While a round goes on, it may be a target that nobody has looked at yet.
    pub(super) fn awaits(&self, id: &TwinId) -> bool {
        let in_a_round = self.unseen.is_some() || !self.page.is_empty();
        self.has_gates && (in_a_round || self.gated.contains(id))
    }

    /// The gates of this twin, which the job awaits, or of all may say something else.
    pub(super) fn touched(&mut self, id: Option<&TwinId>) {
        match id {
            Some(id) => {
                self.gated.remove(id);
                self.look.insert(id.clone());
            }
            None => self.look.extend(self.gated.drain()),
        }
    }

    /// When the next sleeper is to be looked at.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.sleeping.first().map(|(at, _)| *at)
    }

    /// A target is to be looked at then.
    pub(super) fn sleep_until(&mut self, at: Timestamp, id: TwinId) {
        self.sleeping.insert((at, id));
    }

    /// Those who slept until now, for a job that looks at nobody else here.
    pub(super) fn woken(&mut self, now: Timestamp) -> BTreeSet<TwinId> {
        self.wake(now);
        std::mem::take(&mut self.look)
    }

    fn wake(&mut self, now: Timestamp) {
        while self.sleeping.first().is_some_and(|(at, _)| *at <= now) {
            self.look.extend(self.sleeping.pop_first().map(|(_, id)| id));
        }
        if self.context.has_changed().unwrap_or(false) {
            self.context.mark_unchanged();
            self.touched(None);
        }
    }

    /// Whether the caps per tag let a target begin; if so, it counts until [`Turns::ended`].
    fn claim(&mut self, spec: &JobSpec, hub: &Hub, id: &TwinId) -> bool {
        let cap = spec.rollout.as_ref().and_then(|rollout| rollout.limits.per_tag.as_ref());
        let (Some(cap), Some(caps)) = (cap, &mut self.caps) else { return true };
        let value = hub.index.get(id).map(|entry| cap.path.value(&entry.twin.tags).into_owned());
        let value = value.unwrap_or_default();
        let free = caps.claim(&value);
        if free {
            self.values.insert(id.clone(), value);
        }
        free
    }

    /// A target is not in flight any more, or did not begin after all.
    pub(super) fn ended(&mut self, id: &TwinId) {
        if let (Some(value), Some(caps)) = (self.values.remove(id), &mut self.caps) {
            caps.release(&value);
            self.look.extend(self.held.drain());
        }
    }
}

impl JobRun<'_> {
    /// A target's row was written: notes what is to be waited for.
    pub(super) fn noted(&mut self, item: &JobItem) {
        if item.awaits_report() {
            self.watch.expect(&item.id);
        }
        if item.status != ItemStatus::Running && self.spec.rollout.is_some() {
            self.turns.ended(&item.id);
            self.hub.jobs.release(&item.id, &self.spec.id);
        }
        if item.status == ItemStatus::Pending {
            self.turns.sleep_until(item.not_before.unwrap_or(item.created), item.id.clone());
        }
    }

    /// A target that a former process left in flight counts against the caps.
    pub(super) fn still_in_flight(&mut self, item: &JobItem) {
        if self.spec.rollout.is_some() {
            // Beyond the cap, too, if the tags changed meanwhile.
            self.turns.claim(&self.spec, self.hub, &item.id);
            self.hub.jobs.claim(&item.id, &self.spec.id);
        }
    }

    /// Up to `most` targets whose turn it is.
    pub(super) async fn choose(&mut self, state: &JobState, most: usize) -> Result<Chosen> {
        let now = self.hub.now();
        let arrived = std::mem::take(&mut self.calls.arrived);
        self.turns.look.extend(arrived);
        self.turns.wake(now);
        if state.gates_override.is_some() {
            self.turns.touched(None);
        }
        let (mut chosen, mut looked) = (Chosen::default(), 0);
        while chosen.go.len() + chosen.never.len() < most && looked < JOB_FIND_TARGETS {
            let Some(item) = self.next_candidate().await? else { break };
            looked += 1;
            if chosen.go.iter().chain(chosen.never.iter().map(|(item, _)| item)).any(|it| it.id == item.id) {
                continue;
            }
            self.judge(state, item, now, &mut chosen);
            tokio::task::consume_budget().await;
        }
        chosen.looked = looked > 0;
        Ok(chosen)
    }

    fn judge(&mut self, state: &JobState, item: JobItem, now: Timestamp, chosen: &mut Chosen) {
        let (obstacles, next_change) = self.hub.obstacles(&self.spec, state, &item, now);
        let mut clear = true;
        for obstacle in obstacles {
            clear = false;
            match obstacle {
                Obstacle::Never(error) => {
                    chosen.never.push((item, error));
                    return;
                }
                // All targets are looked at again when a wave opens; whoever arrives is looked at by himself.
                Obstacle::Job(..) | Obstacle::Wave(_) | Obstacle::Offline => {}
                Obstacle::Jitter(at) | Obstacle::Again(at, _) => {
                    self.turns.sleep_until(at, item.id.clone());
                }
                Obstacle::Gate(_) => {
                    self.turns.gated.insert(item.id.clone());
                }
            }
        }
        if let Some(at) = next_change {
            self.turns.sleep_until(at, item.id.clone());
        }
        if !clear {
            return;
        }
        if let Some(other) = self.hub.jobs.claim(&item.id, &self.spec.id) {
            if self.spec.rollout.as_ref().is_some_and(|rollout| rollout.when_busy == WhenBusy::Refuse) {
                let description = format!("job '{other}' is at work on the device");
                chosen.never.push((item, ItemError { code: outcome::DEVICE_BUSY.into(), description }));
            } else {
                self.turns.sleep_until(now.plus(JOB_BUSY_PAUSE), item.id);
            }
        } else if self.turns.claim(&self.spec, self.hub, &item.id) {
            chosen.go.push(item);
        } else {
            self.hub.jobs.release(&item.id, &self.spec.id);
            self.turns.held.insert(item.id);
        }
    }

    /// The next pending target to look at, read anew: what was found a moment ago may have begun since.
    async fn next_candidate(&mut self) -> Result<Option<JobItem>> {
        loop {
            if let Some(id) = self.turns.look.pop_first().or_else(|| self.turns.page.pop_front()) {
                let item = tables::jobs::item(&*self.hub.store, &self.spec.id, &id).await?;
                if let Some(item) = item.filter(|item| item.status == ItemStatus::Pending) {
                    return Ok(Some(item));
                }
                continue;
            }
            let Some(range) = self.turns.unseen.take() else { return Ok(None) };
            let len = PageLen::new(JOB_FIND_TARGETS).unwrap_or(PageLen::MAX);
            let page = tables::jobs::items(&*self.hub.store, range, len).await?;
            self.turns.unseen = page.rest;
            let items = page.entries.into_iter().map(|((_, item), _)| item);
            let pending = items.filter(|item| item.status == ItemStatus::Pending);
            self.turns.page.extend(pending.map(|item| item.id));
        }
    }

    /// Looks at all targets again.
    pub(super) fn look_at_all(&mut self) {
        self.turns.look_at_all(&self.spec);
    }
}
