//! What the hub says of itself: for operators with a right to ask, and as bare numbers for monitoring.

use std::sync::atomic::{AtomicU64, Ordering};

use hub_domain::event::Position;
use hub_domain::rights::Rights;
use hub_domain::time::Timestamp;
use hub_index::Memory;

use crate::Hub;
use crate::access::Principal;
use crate::config::STATUS_PATHS_MAX;
use crate::error::Result;

/// Things counted since the start of the process.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) telemetry_messages: AtomicU64,
    pub(crate) reported_patches: AtomicU64,
    pub(crate) method_calls: AtomicU64,
    pub(crate) method_answers_ignored: AtomicU64,
    pub(crate) queries: AtomicU64,
    pub(crate) configurations_misfit: AtomicU64,
    pub(crate) configuration_repairs: AtomicU64,
}

/// The state of the hub in numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct HubStatus {
    /// Of the software.
    pub version: &'static str,
    /// The hub's own name.
    pub hostname: String,
    /// When the process began.
    pub started: Timestamp,
    /// Now.
    pub now: Timestamp,
    /// Registered devices.
    pub devices: u64,
    /// Those that may use the hub.
    pub devices_enabled: u64,
    /// Registered modules.
    pub modules: u64,
    /// Attached devices and modules.
    pub connected: u64,
    /// The number of the newest commit.
    pub commits: u64,
    /// Where the event log ends.
    pub events_end: Position,
    /// The store's size on disk.
    pub store_bytes: u64,
    /// Messages taken from devices.
    pub telemetry_messages: u64,
    /// Reported patches taken from devices.
    pub reported_patches: u64,
    /// Method calls begun.
    pub method_calls: u64,
    /// Method answers that came too late or from the wrong device.
    pub method_answers_ignored: u64,
    /// Pages of queries answered.
    pub queries: u64,
    /// What the columns of the index take.
    pub index: Memory,
    /// Configurations in force.
    pub configurations: u64,
    /// Times that the configurations of a twin did not fit into it.
    pub configurations_misfit: u64,
    /// Twins that the regular proof found otherwise than their configurations want; more than 0 is a bug.
    pub configuration_repairs: u64,
}

impl Hub {
    /// The state of the hub, for back ends.
    pub fn status(&self, who: &Principal) -> Result<HubStatus> {
        who.must(Rights::SERVICE_CONNECT).or_else(|_| who.must(Rights::REGISTRY_READ))?;
        Ok(self.numbers())
    }

    /// The same numbers for the monitoring port, which asks for no credential and is local by default.
    pub fn numbers(&self) -> HubStatus {
        let counts = self.index.counts();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HubStatus {
            version: env!("CARGO_PKG_VERSION"),
            hostname: self.hostname().into(),
            started: self.started,
            now: self.clock.now(),
            devices: counts.devices,
            devices_enabled: counts.enabled,
            modules: counts.modules,
            connected: self.connected_count(),
            commits: *self.applier.watch().borrow(),
            events_end: self.events_end(),
            store_bytes: self.store.stats().map(|stats| stats.disk_bytes).unwrap_or(0),
            telemetry_messages: count(&self.counters.telemetry_messages),
            reported_patches: count(&self.counters.reported_patches),
            method_calls: count(&self.counters.method_calls),
            method_answers_ignored: count(&self.counters.method_answers_ignored),
            queries: count(&self.counters.queries),
            index: self.index.memory(STATUS_PATHS_MAX),
            configurations: self.configurations.current().len() as u64,
            configurations_misfit: count(&self.counters.configurations_misfit),
            configuration_repairs: count(&self.counters.configuration_repairs),
        }
    }

    /// Whether the hub can do its work: it holds its store and takes writes.
    pub fn is_ready(&self) -> bool {
        self.failed.get().is_none() && !self.tasks.stopping().is_cancelled()
    }
}
