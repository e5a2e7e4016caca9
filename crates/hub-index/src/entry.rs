//! One row of the index: an identity, its twin, the versions of their stored rows, and the live side.
//!
//! Entries are immutable and shared; only [`Live`] changes in place, because every message touches it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use hub_domain::id::TwinId;
use hub_domain::identity::Identity;
use hub_domain::session::StoredSession;
use hub_domain::time::Timestamp;
use hub_domain::twin::{Connection, Twin, TwinDocument};

/// One device or module.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The registry's entry.
    pub identity: Arc<Identity>,
    /// The version of its stored row.
    pub identity_version: u64,
    /// The twin.
    pub twin: Arc<Twin>,
    /// The version of its stored row.
    pub twin_version: u64,
    /// The live side; stays the same object as long as the identity exists.
    pub live: Arc<Live>,
}

impl Entry {
    /// Whose.
    pub fn id(&self) -> &TwinId {
        &self.identity.id
    }

    /// The document that back ends and queries see.
    pub fn document(&self) -> TwinDocument<'_> {
        TwinDocument { identity: &self.identity, twin: &self.twin, connection: self.live.connection() }
    }
}

/// Whether a device is attached, and when it was last heard of. Written by its session without any lock.
#[derive(Debug)]
pub struct Live {
    connected: AtomicBool,
    changed: AtomicI64,
    last_activity: AtomicI64,
}

impl Live {
    /// Not attached; times from the stored session, if there is one.
    pub fn new(session: Option<&StoredSession>) -> Self {
        Self {
            connected: AtomicBool::new(false),
            changed: AtomicI64::new(session.map_or(Timestamp::NEVER, |s| s.changed).ticks()),
            last_activity: AtomicI64::new(session.map_or(Timestamp::NEVER, |s| s.last_activity).ticks()),
        }
    }

    /// Notes that it attached or went. Only the index does, which keeps a column of it.
    pub(crate) fn set_connected(&self, connected: bool, now: Timestamp) {
        self.connected.store(connected, Ordering::Relaxed);
        self.changed.store(now.ticks(), Ordering::Relaxed);
    }

    /// Notes that it sent something.
    pub fn touch(&self, now: Timestamp) {
        self.last_activity.store(now.ticks(), Ordering::Relaxed);
    }

    /// As it is now.
    pub fn connection(&self) -> Connection {
        Connection {
            connected: self.connected.load(Ordering::Relaxed),
            changed: Timestamp::from_ticks(self.changed.load(Ordering::Relaxed)),
            last_activity: Timestamp::from_ticks(self.last_activity.load(Ordering::Relaxed)),
        }
    }
}
