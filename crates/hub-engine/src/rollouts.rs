//! People and rollouts: pause, resume, approve, abort, roll back, and the answer to "why is it still waiting?".
//! What each of them changes is decided in `hub_domain::rollout`; whoever runs the job is woken and looks again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hub_domain::context::{GatesOverride, TimetableKey};
use hub_domain::id::{JobId, TwinId};
use hub_domain::job::{ItemStatus, JobItem, JobSpec, JobState, NewJob};
use hub_domain::rights::Rights;
use hub_domain::rollout::{Assumptions, Forecast, Rollout, RolloutState};
use hub_domain::time::Timestamp;
use hub_store::{PageLen, keys, tables};

use crate::Hub;
use crate::access::Principal;
use crate::config::FORECAST_WINDOWS_MAX;
use crate::context::Obstacle;
use crate::error::{Error, Result};
use crate::jobs::Job;

/// What somebody decides about a rollout. The texts are reasons, in his words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing new is begun until somebody resumes it.
    Pause(String),
    /// It goes on.
    Resume,
    /// The next wave may open.
    Approve,
    /// It ends after what is in flight.
    Abort(String),
    /// It ends, and what was done is undone by a job of its own.
    RollBack(String),
}

impl Decision {
    /// What follows from it, if that is possible.
    pub(crate) fn apply(
        &self,
        policy: &Rollout,
        rollout: &mut RolloutState,
        by: &str,
        now: Timestamp,
    ) -> Result<()> {
        match self {
            Decision::Pause(reason) => rollout.pause(by, reason),
            Decision::Resume => rollout.resume(policy, by),
            Decision::Approve => rollout.approve(policy, by, now),
            Decision::Abort(reason) => rollout.abort(by, reason),
            Decision::RollBack(reason) => rollout.roll_back(by, reason),
        }
        .map_err(|refusal| Error::Conflict(refusal.to_string()))
    }
}

/// Why a job's devices are waiting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WaitingDevices {
    /// What the whole job waits for.
    pub job: Option<Obstacle>,
    /// Targets that are pending.
    pub pending: u64,
    /// By [`Obstacle::code`]; a device with several obstacles is counted with each. `go` counts those without any.
    pub reasons: BTreeMap<String, WaitingCount>,
}

/// Devices with the same obstacle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingCount {
    /// How many.
    pub devices: u64,
    /// One of them.
    pub example: TwinId,
    /// The first moment at which time alone could let one of them go.
    pub next: Option<Timestamp>,
}

impl WaitingCount {
    /// Counts a device with what it waits for.
    pub(crate) fn add(
        reasons: &mut BTreeMap<String, WaitingCount>,
        code: String,
        id: &TwinId,
        next: Option<Timestamp>,
    ) {
        let entry = reasons.entry(code);
        let counted = entry.or_insert_with(|| WaitingCount { devices: 0, example: id.clone(), next });
        counted.devices += 1;
        counted.next = [counted.next, next].into_iter().flatten().min();
    }
}

/// A job that a device is waiting for.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingFor {
    /// Which.
    pub job: JobId,
    /// Why.
    pub obstacles: Vec<Obstacle>,
}

/// What nobody can know before, as the caller guesses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DryRunGuess {
    /// What one device needs.
    pub per_device: Duration,
    /// What is sent to it.
    pub bytes_per_device: u64,
}

/// What a job would do.
#[derive(Clone, Debug, PartialEq)]
pub struct DryRun {
    /// Devices that match.
    pub targets: u64,
    /// Waves and times, if there is a rollout.
    pub forecast: Option<Forecast>,
    /// What would stand in the way now, as [`WaitingDevices::reasons`].
    pub reasons: BTreeMap<String, WaitingCount>,
}

impl Hub {
    /// Decides about a rollout, as whoever asks.
    pub async fn job_decide(&self, who: &Principal, id: &JobId, decision: &Decision) -> Result<Job> {
        who.must(Rights::SERVICE_CONNECT)?;
        let by = who.actor().to_string();
        let Job { spec, .. } = self.job(id).await?;
        // Whoever may work with jobs may stop one; to let it act takes what it took to ask for it.
        if !matches!(decision, Decision::Pause(_) | Decision::Abort(_)) {
            who.must(spec.rights())?;
        }
        for mut txn in self.attempts() {
            let state = txn.rows().job_state(id).await?;
            let mut state = state.ok_or_else(|| Error::JobNotFound(id.clone()))?;
            if state.is_over() && matches!(decision, Decision::RollBack(_)) {
                return self.undo_after_the_end(txn, spec, state).await;
            }
            let (Some(policy), Some(rollout)) = (&spec.rollout, &mut state.rollout) else {
                return Err(Error::Conflict(match &spec.rollout {
                    None => format!("job '{id}' has no rollout: it can only be cancelled"),
                    Some(_) => {
                        format!("job '{id}' has not begun its rollout; cancel it, or wait for its start")
                    }
                }));
            };
            let now = txn.now();
            if matches!(decision, Decision::RollBack(_)) && !spec.can_be_undone() {
                return Err(Error::Conflict(cannot_be_undone(id)));
            }
            decision.apply(policy, rollout, &by, now)?;
            txn.rows().put_job_state(id, &state);
            if txn.commit().await? {
                self.jobs.wake(id);
                return Ok(Job { spec, state });
            }
        }
        Err(contended(id))
    }

    /// Lets every device of a job go whatever its gates say, and records who said so and why.
    pub async fn job_override_gates(&self, who: &Principal, id: &JobId, reason: &str) -> Result<Job> {
        who.must(Rights::SERVICE_CONNECT)?;
        let Job { spec, .. } = self.job(id).await?;
        who.must(spec.rights())?;
        for mut txn in self.attempts() {
            let state = txn.rows().job_state(id).await?;
            let mut state = state.ok_or_else(|| Error::JobNotFound(id.clone()))?;
            let by = GatesOverride::new(who.actor(), reason, txn.now());
            let by = by.map_err(|error| Error::Invalid(error.to_string()))?;
            state.override_gates(&spec, by).map_err(|refusal| Error::Conflict(refusal.to_string()))?;
            txn.rows().put_job_state(id, &state);
            if txn.commit().await? {
                self.jobs.wake(id);
                return Ok(Job { spec, state });
            }
        }
        Err(contended(id))
    }

    async fn undo_after_the_end(
        &self,
        mut txn: crate::transact::Txn<'_>,
        spec: JobSpec,
        state: JobState,
    ) -> Result<Job> {
        let undo = spec.undo(txn.now()).ok_or_else(|| Error::Conflict(cannot_be_undone(&spec.id)))?;
        self.put_new_job(&mut txn, &undo);
        if !txn.commit().await? {
            return Err(Error::JobExists(undo.id));
        }
        self.jobs.expect(undo.id.clone(), undo.start);
        Ok(Job { spec, state })
    }

    /// Counts the devices of a job that are waiting, by what they wait for.
    pub async fn job_waiting(&self, who: &Principal, id: &JobId) -> Result<WaitingDevices> {
        who.must(Rights::SERVICE_CONNECT)?;
        let Job { spec, state } = self.job(id).await?;
        let now = self.now();
        let mut waiting =
            WaitingDevices { job: self.job_waits_for(&spec, &state, now), ..WaitingDevices::default() };
        let mut rest = (!state.is_over()).then(|| keys::job_items(id));
        while let Some(range) = rest {
            let page = tables::jobs::items(&*self.store, range, PageLen::MAX).await?;
            rest = page.rest;
            for ((_, item), _) in page.entries {
                if item.status == ItemStatus::Pending {
                    waiting.pending += 1;
                    count(&mut waiting.reasons, &item.id, &self.obstacles(&spec, &state, &item, now).0);
                    tokio::task::consume_budget().await;
                }
            }
        }
        Ok(waiting)
    }

    /// The jobs that a device is waiting for, and why.
    pub(crate) async fn waiting_for(&self, id: &TwinId) -> Result<Vec<WaitingFor>> {
        let mut found = Vec::new();
        for job in self.jobs.running() {
            let Some(item) = tables::jobs::item(&*self.store, &job, id).await? else { continue };
            if item.status != ItemStatus::Pending {
                continue;
            }
            let Ok(Job { spec, state }) = self.job(&job).await else { continue };
            let now = self.now();
            let mut obstacles = Vec::from_iter(self.job_waits_for(&spec, &state, now));
            obstacles.extend(self.obstacles(&spec, &state, &item, now).0);
            found.push(WaitingFor { job, obstacles });
        }
        Ok(found)
    }

    /// What a job would do, as the fleet is now, without doing it.
    pub async fn job_dry_run(&self, who: &Principal, job: NewJob, guess: DryRunGuess) -> Result<DryRun> {
        who.must(Rights::SERVICE_CONNECT)?;
        let spec = &JobSpec::new(job, who.actor(), 0, self.now())?;
        who.must(spec.rights())?;
        let (mut targets, mut reasons, mut reach) = (0, BTreeMap::new(), Reach::default());
        let (now, state) = (self.now(), JobState::new(spec.created, spec.start));
        let (mut last, mut all) = (None, false);
        while !all {
            let found = self.targets_after(spec, last.as_ref()).await;
            (last, all) = (found.0.last().cloned(), found.1);
            for id in found.0 {
                targets += 1;
                let item = JobItem::new(id, now);
                let (obstacles, _) = self.obstacles(spec, &state, &item, now);
                reach.see(self, spec, &item.id, &obstacles, now);
                count(&mut reasons, &item.id, &obstacles);
                tokio::task::consume_budget().await;
            }
        }
        let assumed = reach.assume(self, spec, targets, guess, spec.start);
        let forecast = spec.rollout.as_ref().map(|rollout| rollout.forecast(&assumed));
        let forecast = forecast.transpose().map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(DryRun { targets, forecast, reasons })
    }
}

/// What a look at some targets tells of the reach of a job.
#[derive(Default)]
pub(crate) struct Reach {
    seen: u64,
    can_go: u64,
    windows: HashMap<TimetableKey, u64>,
}

impl Reach {
    /// Looks at a target, in whose way this is now. It can be reached if time alone takes that away.
    pub(crate) fn see(
        &mut self,
        hub: &Hub,
        spec: &JobSpec,
        id: &TwinId,
        obstacles: &[Obstacle],
        now: Timestamp,
    ) {
        self.seen += 1;
        if obstacles.iter().any(|one| one.next().is_none()) {
            return;
        }
        self.can_go += 1;
        let Some((gates, entry)) = spec.gates.as_ref().zip(hub.index.get(id)) else { return };
        let key = gates.timetable_key(&entry.document(), &hub.context.current(), now);
        if let Some(key) = key
            && (self.windows.len() < FORECAST_WINDOWS_MAX || self.windows.contains_key(&key))
        {
            *self.windows.entry(key).or_default() += 1;
        }
    }

    /// What follows for all targets.
    pub(crate) fn assume(
        self,
        hub: &Hub,
        spec: &JobSpec,
        targets: u64,
        guess: DryRunGuess,
        start: Timestamp,
    ) -> Assumptions {
        let of_all = |count: u64| targets * count / u64::max(self.seen, 1);
        let context = hub.context.current();
        let window = |(key, count): (&TimetableKey, &u64)| {
            Some((spec.gates.as_ref()?.timetable(key, &context)?, of_all(*count)))
        };
        Assumptions {
            targets,
            reachable: of_all(self.can_go),
            windows: self.windows.iter().filter_map(window).collect(),
            per_device: guess.per_device,
            bytes_per_device: guess.bytes_per_device,
            start,
            deadline: spec.deadline(),
        }
    }
}

/// Others were faster each time that a job was to be changed.
pub(crate) fn contended(id: &JobId) -> Error {
    Error::Throttled(format!("job '{id}' is being changed by many at once; try again"))
}

fn cannot_be_undone(id: &JobId) -> String {
    format!(
        "nobody said how to undo job '{id}': give rollBack with a type and its parameters when it is created"
    )
}

fn count(reasons: &mut BTreeMap<String, WaitingCount>, id: &TwinId, obstacles: &[Obstacle]) {
    let codes = obstacles.iter().map(|obstacle| (obstacle.code(), obstacle.next()));
    let none = obstacles.is_empty().then(|| ("go".to_owned(), None));
    for (code, next) in codes.chain(none) {
        WaitingCount::add(reasons, code, id, next);
    }
}
