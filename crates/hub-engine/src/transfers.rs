//! Import and export jobs (S 3): create, read, list, cancel. Who carries them out is `reconcile::transfers`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hub_container::{BlobName, ContainerError};
use hub_domain::id::JobId;
use hub_domain::job::JobStatus;
use hub_domain::rights::Rights;
use hub_domain::time::Timestamp;
use hub_domain::transfer::{TransferKind, TransferSpec, TransferState};
use hub_store::{PageLen, keys, tables};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Hub;
use crate::access::Principal;
use crate::clock::random_bytes;
use crate::config::{CONTAINER_CHECK_TIMEOUT, TRANSFERS_UNFINISHED_MAX};
use crate::error::{Error, Result};
use crate::line_format::LineFormat;
use crate::rollouts::contended;
use crate::tasks::TaskKind;

/// An import or export job as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Transfer {
    /// What was asked.
    pub spec: TransferSpec,
    /// Where it stands.
    pub state: TransferState,
    /// How much is done, 0 to 100.
    pub percent: u8,
}

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTransfer {
    /// Which way.
    pub kind: TransferKind,
    /// The container that an import reads.
    pub input: Option<String>,
    /// The blob of identities in it.
    pub input_blob: String,
    /// The container that is written.
    pub output: String,
    /// The blob of identities in it.
    pub output_blob: String,
    /// Whether an export leaves the keys out.
    pub exclude_keys: bool,
    /// The blob of configurations, if they go with them.
    pub configurations: Option<String>,
}

/// What this process knows of the jobs that are not over.
#[derive(Default)]
pub(crate) struct Transfers {
    state: Mutex<Unfinished>,
    /// Wakes the one that starts them.
    pub(crate) poke: Notify,
    format: OnceLock<Arc<dyn LineFormat>>,
}

#[derive(Default)]
struct Unfinished {
    /// In the order in which they were created.
    waiting: BTreeSet<(Timestamp, JobId)>,
    running: BTreeMap<JobId, Arc<Running>>,
}

/// One that runs.
#[derive(Debug, Default)]
pub(crate) struct Running {
    /// Tells it to stop.
    pub(crate) cancelled: CancellationToken,
    done: AtomicU64,
    all: AtomicU64,
}

impl Running {
    /// Notes how much is done of how much.
    pub(crate) fn progress(&self, done: u64, all: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.all.store(all, Ordering::Relaxed);
    }

    fn percent(&self) -> u8 {
        let (done, all) = (self.done.load(Ordering::Relaxed), self.all.load(Ordering::Relaxed));
        // 100 is for what is over.
        u8::try_from(done.saturating_mul(100) / all.max(1)).unwrap_or(99).min(99)
    }
}

impl Transfers {
    fn state(&self) -> MutexGuard<'_, Unfinished> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes one that is to be carried out.
    pub(crate) fn expect(&self, created: Timestamp, id: JobId) {
        self.state().waiting.insert((created, id));
        self.poke.notify_one();
    }

    /// The next one, if fewer than `running_max` run.
    pub(crate) fn take(&self, running_max: usize) -> Option<(JobId, Arc<Running>)> {
        let mut state = self.state();
        if state.running.len() >= running_max {
            return None;
        }
        let (_, id) = state.waiting.pop_first()?;
        let running = Arc::new(Running::default());
        state.running.insert(id.clone(), running.clone());
        Some((id, running))
    }

    /// Notes that nobody carries it out any more.
    pub(crate) fn over(&self, id: &JobId) {
        self.state().running.remove(id);
        self.poke.notify_one();
    }

    fn unfinished(&self) -> usize {
        let state = self.state();
        state.waiting.len() + state.running.len()
    }

    fn percent(&self, id: &JobId) -> u8 {
        self.state().running.get(id).map_or(0, |running| running.percent())
    }

    fn cancel(&self, created: Timestamp, id: &JobId) {
        let mut state = self.state();
        state.waiting.remove(&(created, id.clone()));
        if let Some(running) = state.running.get(id) {
            running.cancelled.cancel();
        }
    }
}

impl From<ContainerError> for Error {
    fn from(error: ContainerError) -> Self {
        Error::Container(error.to_string())
    }
}

impl Hub {
    /// Begins to carry out import and export jobs, those of a former process first, with lines in this format.
    /// Later calls change nothing.
    pub fn run_transfers(self: &Arc<Self>, format: Arc<dyn LineFormat>) {
        if self.transfers.format.set(format.clone()).is_ok() {
            let work = crate::reconcile::run_transfers(self.clone(), format);
            self.tasks.run(TaskKind::Reconciler, work);
        }
    }

    /// Creates a job. It is durable when this returns, and begins as soon as not too many run.
    pub async fn transfer_create(&self, who: &Principal, new: NewTransfer) -> Result<Transfer> {
        // An export without keys writes, too: into a container.
        who.must(Rights::REGISTRY_WRITE)?;
        self.check_containers(&new).await?;
        if self.transfers.unfinished() >= TRANSFERS_UNFINISHED_MAX {
            return Err(Error::TooManyTransfers);
        }
        let id: String = random_bytes::<16>().iter().map(|byte| format!("{byte:02x}")).collect();
        let id = JobId::parse(&id).map_err(|error| Error::Internal(error.to_string()))?;
        let NewTransfer { kind, input, input_blob, output, output_blob, exclude_keys, configurations } = new;
        for mut txn in self.attempts() {
            let spec = TransferSpec {
                id: id.clone(),
                kind,
                created: txn.now(),
                actor: who.actor(),
                input: input.clone(),
                input_blob: input_blob.clone(),
                output: output.clone(),
                output_blob: output_blob.clone(),
                exclude_keys,
                configurations: configurations.clone(),
            };
            let state = TransferState::default();
            txn.rows().put_transfer(&spec, &state);
            if txn.commit().await? {
                self.transfers.expect(spec.created, spec.id.clone());
                return Ok(Transfer { spec, state, percent: 0 });
            }
        }
        Err(Error::Throttled("jobs are being created by many at once; try again".into()))
    }

    /// Whether the settings allow the containers, and the blob that an import reads is there. Whatever else is wrong with a
    /// container the job will tell.
    async fn check_containers(&self, new: &NewTransfer) -> Result<()> {
        let policy = &self.config.containers;
        let output = BlobName::parse(&new.output_blob)?;
        let configurations = new.configurations.as_deref().map(BlobName::parse).transpose()?;
        if new.kind == TransferKind::Export && configurations.is_some_and(|name| name == output) {
            let text = format!("identities and configurations cannot both go into the blob '{output}'");
            return Err(Error::Invalid(text));
        }
        policy.open(&new.output)?;
        let Some(input) = &new.input else { return Ok(()) };
        let name = BlobName::parse(&new.input_blob)?;
        let input = policy.open(input)?;
        match tokio::time::timeout(CONTAINER_CHECK_TIMEOUT, input.info(&name)).await {
            Ok(Err(ContainerError::NotFound(text))) => {
                Err(Error::Container(format!("Failed to read devices blob from the input container: {text}")))
            }
            _ => Ok(()),
        }
    }

    /// Reads a job.
    pub async fn transfer_get(&self, who: &Principal, id: &JobId) -> Result<Transfer> {
        who.must(Rights::REGISTRY_READ)?;
        let (spec, state) = self.transfer(id).await?;
        Ok(self.transfer_view(spec, state))
    }

    pub(crate) async fn transfer(&self, id: &JobId) -> Result<(TransferSpec, TransferState)> {
        let found = tables::transfers::get(&*self.store, id).await?;
        found.ok_or_else(|| Error::JobNotFound(id.clone()))
    }

    fn transfer_view(&self, spec: TransferSpec, state: TransferState) -> Transfer {
        let percent = match state.status {
            JobStatus::Completed => 100,
            _ => self.transfers.percent(&spec.id),
        };
        Transfer { spec, state, percent }
    }

    /// All jobs that are kept, the newest first.
    pub async fn transfer_list(&self, who: &Principal) -> Result<Vec<Transfer>> {
        who.must(Rights::REGISTRY_READ)?;
        let mut all = Vec::new();
        let mut rest = Some(keys::transfers());
        while let Some(range) = rest {
            let page = tables::transfers::page(&*self.store, range, PageLen::MAX).await?;
            all.extend(page.entries.into_iter().map(|((spec, state), _)| self.transfer_view(spec, state)));
            rest = page.rest;
        }
        all.sort_by_key(|job| std::cmp::Reverse(job.spec.created));
        Ok(all)
    }

    /// Cancels a job that waits or runs. What an import carried out before stays.
    pub async fn transfer_cancel(&self, who: &Principal, id: &JobId) -> Result<()> {
        who.must(Rights::REGISTRY_WRITE)?;
        let Some(spec) = self.end_transfer(id, JobStatus::Cancelled, |_| {}).await? else {
            let (_, state) = self.transfer(id).await?;
            return Err(Error::JobOver { id: id.clone(), status: state.status });
        };
        self.transfers.cancel(spec.created, id);
        Ok(())
    }

    /// Ends a job, unless it is over already; `None` says that it was.
    pub(crate) async fn end_transfer(
        &self,
        id: &JobId,
        status: JobStatus,
        settle: impl Fn(&mut TransferState),
    ) -> Result<Option<TransferSpec>> {
        for mut txn in self.attempts() {
            let found = txn.rows().transfer(id).await?;
            let (mut spec, mut state) = found.ok_or_else(|| Error::JobNotFound(id.clone()))?;
            if !state.end(status, None, txn.now()) {
                return Ok(None);
            }
            settle(&mut state);
            spec.forget_signatures();
            txn.rows().put_transfer(&spec, &state);
            if txn.commit().await? {
                return Ok(Some(spec));
            }
        }
        Err(contended(id))
    }
}
