//! Starts jobs when their time comes, and removes those that are kept long enough. It acts on no device itself.

use std::sync::Arc;
use std::time::Duration;

use hub_domain::id::JobId;
use hub_store::{PageLen, keys, tables};
use tokio::time::Instant;

use super::job_run::JobRun;
use crate::Hub;
use crate::config::{JOB_CLOCK_INTERVAL, JOB_PRUNE_INTERVAL, JOBS_RUNNING_MAX};
use crate::error::Result;
use crate::tasks::TaskKind;

/// Pause after the store failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs by itself.
pub(crate) async fn run_jobs(hub: Arc<Hub>) {
    while let Err(error) = take_up(&hub).await {
        tracing::warn!(%error, "could not take up the jobs of before; will try again");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    let mut prune = Instant::now();
    loop {
        start_due(&hub);
        if prune <= Instant::now() {
            if let Err(error) = hub.prune_jobs().await {
                tracing::warn!(%error, "could not remove old jobs; will try again");
            }
            prune = Instant::now() + JOB_PRUNE_INTERVAL;
        }
        let _ = tokio::time::timeout(JOB_CLOCK_INTERVAL, hub.jobs.poke.notified()).await;
    }
}

/// Notes every job that a former process left.
async fn take_up(hub: &Hub) -> Result<()> {
    let mut rest = Some(keys::jobs());
    while let Some(range) = rest {
        let page = tables::jobs::page(&*hub.store, range, PageLen::MAX).await?;
        for (spec, _) in page.entries {
            if tables::jobs::state(&*hub.store, &spec.id).await?.is_some_and(|state| !state.is_over()) {
                hub.jobs.expect(spec.id, spec.start);
            }
        }
        rest = page.rest;
    }
    Ok(())
}

fn start_due(hub: &Arc<Hub>) {
    while let Some((id, wake)) = hub.jobs.take_due(hub.now(), JOBS_RUNNING_MAX) {
        let of_job = hub.clone();
        hub.tasks.run(TaskKind::Job, async move {
            run_to_its_end(&of_job, &id, wake).await;
            of_job.jobs.over(&id);
        });
    }
}

async fn run_to_its_end(hub: &Arc<Hub>, id: &JobId, wake: Arc<tokio::sync::Notify>) {
    loop {
        let run = async {
            let job = hub.job(id).await?;
            JobRun::new(hub, job.spec, wake.clone()).run().await
        };
        match run.await {
            Ok(()) => return,
            // Removed meanwhile: only a job that is over is.
            Err(crate::Error::JobNotFound(_)) => return,
            Err(error) => {
                tracing::warn!(job = %id, %error, "a job could not go on; will try again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

impl Hub {
    /// Removes jobs that ended longer ago than they are kept, their targets first, page by page.
    async fn prune_jobs(&self) -> Result<()> {
        let mut rest = Some(keys::jobs());
        while let Some(range) = rest {
            let page = tables::jobs::page(&*self.store, range, PageLen::MAX).await?;
            for (spec, _) in page.entries {
                let state = tables::jobs::state(&*self.store, &spec.id).await?;
                let ended = state.and_then(|state| state.ended);
                if ended.is_some_and(|ended| self.now().since(ended) > self.config.job_retention) {
                    self.remove_job(&spec.id).await?;
                }
            }
            rest = page.rest;
        }
        Ok(())
    }

    async fn remove_job(&self, id: &JobId) -> Result<()> {
        loop {
            let page = tables::jobs::items(&*self.store, keys::job_items(id), PageLen::MAX).await?;
            let Some(mut txn) = self.attempts().next() else { return Ok(()) };
            for ((_, item), _) in &page.entries {
                txn.rows().delete_job_item(id, &item.id);
            }
            if page.rest.is_none() {
                txn.rows().delete_job(id);
            }
            txn.commit().await?;
            if page.rest.is_none() {
                return Ok(());
            }
        }
    }
}
