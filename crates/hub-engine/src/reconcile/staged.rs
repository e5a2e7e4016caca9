//! Looks whether the waves of configurations go on. What it finds is counted anew each time, so a crash loses nothing; it
//! writes no twin itself.

use std::sync::Arc;

use hub_domain::configuration::Stages;
use tokio::time::Instant;

use crate::Hub;
use crate::config::{CONFIGURATION_WAVES_INTERVAL, CONFIGURATION_WAVES_REST};

/// Runs by itself.
pub(crate) async fn run_staged(hub: Arc<Hub>) {
    loop {
        let begun = Instant::now();
        look_at_all(&hub).await;
        // Counting a large fleet must not keep the hub busy.
        let rest = begun.elapsed() * CONFIGURATION_WAVES_REST;
        tokio::time::sleep(rest.max(CONFIGURATION_WAVES_INTERVAL)).await;
    }
}

async fn look_at_all(hub: &Hub) {
    let set = hub.configurations.current();
    let open = |stages: &Stages| !stages.state().is_over();
    for configuration in set.all().filter(|one| one.stages().is_some_and(open)) {
        let id = &configuration.spec().id;
        if let Err(error) = hub.configuration_advance(id).await {
            tracing::warn!(%id, %error, "the rollout of a configuration could not go on; will try again");
        }
    }
}
