//! Jobs: create, read, list, cancel. Who acts on the targets is `reconcile::jobs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub_domain::id::{JobId, TwinId};
use hub_domain::job::{JobError, JobRow, JobSpec, JobState, JobStatus, NewJob};
use hub_domain::query::{self as queries, Condition, Row as _};
use hub_domain::rights::Rights;
use hub_domain::time::Timestamp;
use hub_index::{Next, Source};
use hub_store::{PageLen, keys, tables};
use serde_json::Value;
use tokio::sync::{Notify, Semaphore};

use crate::Hub;
use crate::access::Principal;
use crate::clock::random_bytes;
use crate::config::{JOB_CALLS_IN_FLIGHT_MAX, JOB_FIND_TARGETS, JOB_LIST_ROWS_MAX, JOB_TURNS};
use crate::courtesy::Courtesy;
use crate::error::{Error, Result};
use crate::rollouts::contended;
use crate::transact::Txn;

/// A job as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What was asked.
    pub spec: JobSpec,
    /// Where it stands.
    pub state: JobState,
}

/// Which jobs a list shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobFilter<'a> {
    /// The word for the action, in any case.
    pub kind: Option<&'a str>,
    /// Where it stands.
    pub status: Option<JobStatus>,
}

/// One page of a list of jobs, in the order of their names.
#[derive(Clone, Debug, PartialEq)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Pass it back for the next page.
    pub continuation: Option<String>,
}

/// What this process knows of the jobs that are not over.
pub(crate) struct Jobs {
    state: Mutex<Pending>,
    /// Wakes the one that starts jobs.
    pub(crate) poke: Notify,
    /// Whose turn it is to write a batch of twins: first come, first served, so that jobs take turns.
    pub(crate) turns: Arc<Semaphore>,
    /// Calls of all jobs; likewise.
    pub(crate) calls: Arc<Semaphore>,
    /// For whom all jobs wait a moment.
    pub(crate) courtesy: Courtesy,
}

#[derive(Default)]
struct Pending {
    due: BTreeSet<(Timestamp, JobId)>,
    running: BTreeMap<JobId, Arc<Notify>>,
    /// Devices that a rollout is at work on, and which.
    held: HashMap<TwinId, JobId>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            poke: Notify::new(),
            turns: Arc::new(Semaphore::new(JOB_TURNS)),
            calls: Arc::new(Semaphore::new(JOB_CALLS_IN_FLIGHT_MAX)),
            courtesy: Courtesy::default(),
        }
    }
}

impl Jobs {
    fn state(&self) -> MutexGuard<'_, Pending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a job is to be started at `start`.
    pub(crate) fn expect(&self, id: JobId, start: Timestamp) {
        self.state().due.insert((start, id));
        self.poke.notify_one();
    }

    /// The next job whose time has come, with what wakes it, if no more than `running_max` run.
    pub(crate) fn take_due(&self, now: Timestamp, running_max: usize) -> Option<(JobId, Arc<Notify>)> {
        let mut state = self.state();
        if state.running.len() >= running_max || state.due.first().is_none_or(|(start, _)| *start > now) {
            return None;
        }
        let (_, id) = state.due.pop_first()?;
        let wake = Arc::new(Notify::new());
        state.running.insert(id.clone(), wake.clone());
        Some((id, wake))
    }

    /// Notes that nobody runs the job any more.
    pub(crate) fn over(&self, id: &JobId) {
        let mut state = self.state();
        state.running.remove(id);
        state.held.retain(|_, job| job != id);
        drop(state);
        self.poke.notify_one();
    }

    /// The jobs that run.
    pub(crate) fn running(&self) -> Vec<JobId> {
        self.state().running.keys().cloned().collect()
    }

    /// Takes a device for a rollout. `Some`: another one has it.
    pub(crate) fn claim(&self, id: &TwinId, job: &JobId) -> Option<JobId> {
        let mut state = self.state();
        let holder = state.held.entry(id.clone()).or_insert_with(|| job.clone());
        (holder != job).then(|| holder.clone())
    }

    /// Gives a device back, if this rollout has it.
    pub(crate) fn release(&self, id: &TwinId, job: &JobId) {
        let mut state = self.state();
        if state.held.get(id) == Some(job) {
            state.held.remove(id);
        }
    }

    /// Tells whoever runs the job to look again.
    pub(crate) fn wake(&self, id: &JobId) {
        if let Some(wake) = self.state().running.get(id) {
            wake.notify_one();
        }
    }
}

/// Among which twins the targets of a job with this condition are.
fn targets_among(condition: &Condition) -> Source {
    match condition.source() {
        queries::Source::DeviceModules => Source::Modules,
        queries::Source::Devices | queries::Source::DeviceJobs | queries::Source::RetiredDevices => {
            Source::Devices
        }
    }
}

impl From<JobError> for Error {
    fn from(error: JobError) -> Self {
        Error::Invalid(error.to_string())
    }
}

impl Hub {
    /// Creates a job. It is durable when this returns, and starts at its time even if the hub restarts before.
    pub async fn job_create(&self, who: &Principal, job: NewJob) -> Result<Job> {
        who.must(Rights::SERVICE_CONNECT)?;
        let Some(mut txn) = self.attempts().next() else { return Err(Error::JobExists(job.id)) };
        let spec = JobSpec::new(job, who.actor(), u64::from_le_bytes(random_bytes()), txn.now())?;
        who.must(spec.rights())?;
        let state = self.put_new_job(&mut txn, &spec);
        if !txn.commit().await? {
            return Err(Error::JobExists(spec.id));
        }
        self.jobs.expect(spec.id.clone(), spec.start);
        Ok(Job { spec, state })
    }

    pub(crate) fn put_new_job(&self, txn: &mut Txn<'_>, spec: &JobSpec) -> JobState {
        let state = JobState::new(spec.created, spec.start);
        txn.rows().expect_no_job(&spec.id);
        txn.rows().put_job_spec(spec);
        txn.rows().put_job_state(&spec.id, &state);
        state
    }

    /// Targets of a job that are behind `after`, at most [`JOB_FIND_TARGETS`]; `true`: there are no more.
    pub(crate) async fn targets_after(&self, spec: &JobSpec, after: Option<&TwinId>) -> (Vec<TwinId>, bool) {
        if let Some(listed) = &spec.listed {
            let done = after.map_or(0, |after| listed.partition_point(|device| *device <= after.device));
            let some = listed.iter().skip(done).take(JOB_FIND_TARGETS).cloned().map(TwinId::device);
            let some = Vec::from_iter(some);
            let all = done + some.len() == listed.len();
            return (some, all);
        }
        let source = targets_among(&spec.condition);
        let mut selection = self.index.select(source, &spec.condition, [], after);
        let mut targets = Vec::new();
        while targets.len() < JOB_FIND_TARGETS {
            match selection.next() {
                Next::Found(row) => targets.push(row.id().clone()),
                Next::Pause => tokio::task::yield_now().await,
                Next::End => return (targets, true),
            }
        }
        (targets, false)
    }

    /// Reads a job.
    pub async fn job_get(&self, who: &Principal, id: &JobId) -> Result<Job> {
        who.must(Rights::SERVICE_CONNECT)?;
        self.job(id).await
    }

    /// Reads the record of one target of a job, and the job.
    pub async fn job_target(&self, who: &Principal, job: &JobId, id: &TwinId) -> Result<(Value, Job)> {
        let parent = self.job_get(who, job).await?;
        let item = tables::jobs::item(&*self.store, job, id).await?;
        let item = item.ok_or_else(|| Error::JobTargetNotFound { job: job.clone(), id: id.clone() })?;
        let entry = self.index.get(id);
        let document = entry.as_ref().map(|entry| entry.document());
        Ok((JobRow::new(&parent.spec, &item, document.as_ref()).document(), parent))
    }

    pub(crate) async fn job(&self, id: &JobId) -> Result<Job> {
        let spec = tables::jobs::spec(&*self.store, id).await?;
        let state = tables::jobs::state(&*self.store, id).await?;
        match (spec, state) {
            (Some(spec), Some(state)) => Ok(Job { spec, state }),
            _ => Err(Error::JobNotFound(id.clone())),
        }
    }

    /// Lists jobs that are kept, over and not over.
    pub async fn job_list(
        &self,
        who: &Principal,
        filter: JobFilter<'_>,
        page_rows: Option<usize>,
        continuation: Option<&str>,
    ) -> Result<JobPage> {
        who.must(Rights::SERVICE_CONNECT)?;
        let scope =
            format!("jobs {} {}", filter.kind.unwrap_or("*"), filter.status.map_or("*", JobStatus::as_str));
        let rows_max = page_rows.unwrap_or(JOB_LIST_ROWS_MAX).clamp(1, JOB_LIST_ROWS_MAX);
        let after = continuation.map(|token| self.open_token(&scope, token)).transpose()?;
        let after = after.and_then(|place| place.last).map(|id| JobId::parse(&id));
        let after = after.transpose().map_err(|_| Error::InvalidContinuation)?;
        let mut rest = Some(after.map_or_else(keys::jobs, |id| keys::jobs_after(&id)));
        let mut page = JobPage { jobs: Vec::new(), continuation: None };
        while let Some(range) = rest {
            let specs = tables::jobs::page(&*self.store, range, PageLen::MAX).await?;
            rest = specs.rest;
            for (spec, _) in specs.entries {
                if filter.kind.is_some_and(|kind| !kind.eq_ignore_ascii_case(spec.action.kind())) {
                    continue;
                }
                // Removed just now, if it is not there.
                let Some(state) = tables::jobs::state(&*self.store, &spec.id).await? else { continue };
                if filter.status.is_some_and(|status| status != state.status) {
                    continue;
                }
                // One more than fits, because a token must never be followed by an empty page (S 7.1).
                if page.jobs.len() == rows_max {
                    let last = page.jobs.last().map(|job| job.spec.id.to_string());
                    page.continuation = Some(self.make_token(&scope, 0, last.as_deref()));
                    return Ok(page);
                }
                page.jobs.push(Job { spec, state });
            }
        }
        Ok(page)
    }

    /// Cancels a job that waits or runs. What was not sent to a device is not sent; what was, is waited for.
    pub async fn job_cancel(&self, who: &Principal, id: &JobId) -> Result<Job> {
        who.must(Rights::SERVICE_CONNECT)?;
        let Job { spec, .. } = self.job(id).await?;
        for mut txn in self.attempts() {
            let state = txn.rows().job_state(id).await?;
            let mut state = state.ok_or_else(|| Error::JobNotFound(id.clone()))?;
            if !state.cancel(txn.now()) {
                return Err(Error::JobOver { id: id.clone(), status: state.status });
            }
            txn.rows().put_job_state(id, &state);
            if txn.commit().await? {
                self.jobs.wake(id);
                return Ok(Job { spec, state });
            }
        }
        Err(contended(id))
    }
}
