//! The hub's own path of a reported patch, from its text to the durable commit, in this process: no sockets, no TLS, no packets.
//! What is missing here from the rate over MQTT is what the connection costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use hub_domain::id::TwinId;
use hub_domain::twin::TwinPatch;
use hub_testkit::TestHub;

use crate::fleet::name;
use crate::measure::Times;
use crate::population::report_text;

/// A hub with devices, whose store is a file.
pub struct Engine {
    test: TestHub,
    writers: usize,
}

impl Engine {
    /// With so many devices, each of which will report.
    pub async fn start(writers: usize) -> Self {
        let test = TestHub::start_on_disk().await;
        for device in 0..writers {
            test.register(&name(device)).await;
        }
        Self { test, writers }
    }

    /// Each device reports one patch after the other for `seconds`; returns patches per second and their times.
    pub async fn report_for(&self, seconds: u64) -> Result<(f64, Times)> {
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let tasks: Vec<_> =
            (0..self.writers).map(|device| tokio::spawn(self.report_on(device, stop.clone()))).collect();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        stop.store(true, Ordering::Relaxed);
        let mut times = Times::default();
        for task in tasks {
            times.extend(task.await??);
        }
        Ok((times.len() as f64 / begun.elapsed().as_secs_f64(), times))
    }

    fn report_on(
        &self,
        device: usize,
        stop: Arc<AtomicBool>,
    ) -> impl Future<Output = Result<Times>> + Send + use<> {
        let (hub, owner, id) = (self.test.hub.clone(), self.test.owner(), TwinId::parse(&name(device), None));
        async move {
            let id = id?;
            let (mut times, mut number) = (Times::default(), 0u64);
            while !stop.load(Ordering::Relaxed) {
                let text = report_text(number);
                let begun = Instant::now();
                let patch = TwinPatch::from_value(serde_json::from_str(&text)?)?;
                hub.twin_patch_reported(&owner, &id, &patch, None).await?;
                times.push(begun.elapsed());
                number += 1;
            }
            Ok(times)
        }
    }
}
