//! What runs by itself: each step looks at the stored state, takes no other input, and can be done again after a crash.

mod configurations;
mod events;
mod gated;
mod job_calls;
mod job_rollout;
mod job_run;
mod job_turns;
mod job_watch;
mod jobs;
mod parts;
mod retirements;
mod staged;
mod transfer_export;
mod transfer_import;
mod transfers;

use std::sync::Arc;
use std::time::Duration;

use crate::Hub;
use crate::config::EVENT_PRUNE_INTERVAL;
use crate::open::Dangling;

pub(crate) use configurations::{Chunks, run_configurations};
pub(crate) use events::pruned_position;
pub(crate) use gated::run_gated;
pub(crate) use job_run::item_error;
pub(crate) use jobs::run_jobs;
pub(crate) use retirements::run_retirements;
pub(crate) use staged::run_staged;
pub(crate) use transfers::run_transfers;

/// Sessions of the former process that are closed at once, before others get a turn.
const DANGLING_CHUNK: usize = 256;

/// Runs by itself.
pub(crate) async fn run(hub: Arc<Hub>, dangling: Dangling) {
    close_dangling(&hub, dangling).await;
    loop {
        if let Err(error) = hub.prune_events().await {
            tracing::warn!(%error, "could not remove old events; will try again");
        }
        tokio::time::sleep(EVENT_PRUNE_INTERVAL).await;
    }
}

/// A former process that was killed could not write down that its devices went.
async fn close_dangling(hub: &Arc<Hub>, dangling: Dangling) {
    for chunk in dangling.chunks(DANGLING_CHUNK) {
        let each = chunk.iter().filter_map(|(id, session)| {
            let number = session.attached?;
            Some(async move {
                while let Err(error) = hub.write_gone(id, number, session.last_activity).await {
                    tracing::warn!(%id, %error, "could not write down that a device went; will try again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            })
        });
        futures_util::future::join_all(each).await;
    }
}
