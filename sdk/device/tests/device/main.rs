//! The device SDK through its public face, against a small hub and a small file server that misbehave as they are told.
//!
//! The hub is not Fleetyard's: what is tested here is the device alone. Nothing waits for a time, only for what must happen.

mod agent;
mod connection;
mod download;
mod files;
mod hub;
mod machine;
mod readme;
mod update;

use std::future::Future;
use std::time::Duration;

/// Long enough for any machine; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(50);

/// Waits for what must happen.
async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, happens).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen: {what}"),
    }
}
