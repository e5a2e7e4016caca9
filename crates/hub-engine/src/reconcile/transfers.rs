//! Starts import and export jobs, ends them, and removes those that are kept long enough. A job of a former process goes on:
//! an import after the lines that its notes say are settled, an export from its start.

use std::sync::Arc;
use std::time::Duration;

use hub_domain::id::JobId;
use hub_domain::job::JobStatus;
use hub_domain::transfer::{TransferKind, TransferSpec, TransferState};
use hub_store::{PageLen, keys, tables};
use tokio::time::Instant;

use super::transfer_export::export;
use super::transfer_import::import;
use crate::Hub;
use crate::config::{JOB_PRUNE_INTERVAL, TRANSFERS_KEPT_MAX, TRANSFERS_RUNNING_MAX};
use crate::error::{Error, Result};
use crate::line_format::LineFormat;
use crate::tasks::TaskKind;
use crate::transfers::Running;

/// Pause after the store failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Why a job goes no further.
pub(crate) enum Stop {
    /// It failed, and trying again would not help.
    Failed(String),
    /// The hub itself has trouble; it will be tried again.
    Later(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::Container(text) | Error::TooLarge(text) => Stop::Failed(text),
            other => Stop::Later(other),
        }
    }
}

impl From<hub_container::ContainerError> for Stop {
    fn from(error: hub_container::ContainerError) -> Self {
        Stop::Failed(error.to_string())
    }
}

/// Runs by itself.
pub(crate) async fn run_transfers(hub: Arc<Hub>, format: Arc<dyn LineFormat>) {
    while let Err(error) = take_up(&hub).await {
        tracing::warn!(%error, "could not take up the import and export jobs of before; will try again");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    let mut prune = Instant::now() + JOB_PRUNE_INTERVAL;
    loop {
        start(&hub, &format);
        if prune <= Instant::now() {
            if let Err(error) = hub.prune_transfers().await {
                tracing::warn!(%error, "could not remove old import and export jobs; will try again");
            }
            prune = Instant::now() + JOB_PRUNE_INTERVAL;
        }
        let _ = tokio::time::timeout(JOB_PRUNE_INTERVAL, hub.transfers.poke.notified()).await;
    }
}

/// Notes every job that a former process left, and removes what one that is over left behind.
async fn take_up(hub: &Hub) -> Result<()> {
    let mut rest = Some(keys::transfers());
    while let Some(range) = rest {
        let page = tables::transfers::page(&*hub.store, range, PageLen::MAX).await?;
        for ((spec, state), _) in page.entries {
            if state.is_over() {
                hub.remove_notes(&spec.id).await?;
            } else {
                hub.transfers.expect(spec.created, spec.id);
            }
        }
        rest = page.rest;
    }
    Ok(())
}

fn start(hub: &Arc<Hub>, format: &Arc<dyn LineFormat>) {
    while let Some((id, running)) = hub.transfers.take(TRANSFERS_RUNNING_MAX) {
        let (of_job, format) = (hub.clone(), format.clone());
        hub.tasks.run(TaskKind::Job, async move {
            run_to_its_end(&of_job, &id, &running, &format).await;
            of_job.transfers.over(&id);
        });
    }
}

async fn run_to_its_end(hub: &Arc<Hub>, id: &JobId, running: &Running, format: &Arc<dyn LineFormat>) {
    loop {
        match run(hub, id, running, format).await {
            Ok(()) => return,
            // Removed meanwhile: only a job that is over is.
            Err(Error::JobNotFound(_)) => return,
            Err(error) => {
                tracing::warn!(job = %id, %error, "an import or export job could not go on; will try again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

async fn run(hub: &Arc<Hub>, id: &JobId, running: &Running, format: &Arc<dyn LineFormat>) -> Result<()> {
    if let Some((spec, state)) = hub.begin_transfer(id).await? {
        let done = match spec.kind {
            TransferKind::Import => import(hub, &spec, &state, running, format).await,
            TransferKind::Export => export(hub, &spec, running, format).await,
        };
        let ended = match done {
            Ok(counts) => hub.end_transfer(id, JobStatus::Completed, |state| state.counts = counts).await,
            Err(Stop::Failed(text)) => {
                tracing::info!(job = %id, failure = text, "an import or export job failed");
                let failed = |state: &mut TransferState| state.failure = Some(text.clone());
                hub.end_transfer(id, JobStatus::Failed, failed).await
            }
            Err(Stop::Later(error)) => Err(error),
        };
        ended?;
    }
    hub.remove_notes(id).await
}

impl Hub {
    /// Notes that a job runs; `None` if it is over already.
    async fn begin_transfer(&self, id: &JobId) -> Result<Option<(TransferSpec, TransferState)>> {
        self.change_transfer(id, |state, now| state.begin(now)).await
    }

    /// Notes which version of its input an import reads.
    pub(super) async fn note_input(&self, id: &JobId, version: &str) -> Result<()> {
        self.change_transfer(id, |state, _| state.input_version = Some(version.to_owned())).await.map(drop)
    }

    async fn change_transfer(
        &self,
        id: &JobId,
        change: impl Fn(&mut TransferState, hub_domain::time::Timestamp),
    ) -> Result<Option<(TransferSpec, TransferState)>> {
        for mut txn in self.attempts() {
            let found = txn.rows().transfer(id).await?;
            let (spec, mut state) = found.ok_or_else(|| Error::JobNotFound(id.clone()))?;
            if state.is_over() {
                return Ok(None);
            }
            let now = txn.now();
            change(&mut state, now);
            txn.rows().put_transfer(&spec, &state);
            if txn.commit().await? {
                return Ok(Some((spec, state)));
            }
        }
        Err(Error::Throttled(format!("job '{id}' is being changed by many at once")))
    }

    async fn remove_notes(&self, id: &JobId) -> Result<()> {
        loop {
            let page = tables::transfers::notes(&*self.store, keys::transfer_notes(id), PageLen::MAX).await?;
            if page.entries.is_empty() {
                return Ok(());
            }
            let Some(mut txn) = self.attempts().next() else { return Ok(()) };
            for ((_, note), _) in &page.entries {
                txn.rows().delete_transfer_note(id, note);
            }
            txn.commit().await?;
        }
    }

    /// Removes jobs that ended longer ago than they are kept, and the oldest of too many.
    async fn prune_transfers(&self) -> Result<()> {
        let mut over = Vec::new();
        let mut rest = Some(keys::transfers());
        while let Some(range) = rest {
            let page = tables::transfers::page(&*self.store, range, PageLen::MAX).await?;
            over.extend(
                page.entries.into_iter().filter_map(|((spec, state), _)| Some((state.ended?, spec.id))),
            );
            rest = page.rest;
        }
        over.sort();
        let too_many = over.len().saturating_sub(TRANSFERS_KEPT_MAX);
        for (at, (ended, id)) in over.into_iter().enumerate() {
            if at < too_many || self.now().since(ended) > self.config.job_retention {
                self.remove_notes(&id).await?;
                let Some(mut txn) = self.attempts().next() else { return Ok(()) };
                txn.rows().delete_transfer(&id);
                txn.commit().await?;
            }
        }
        Ok(())
    }
}
