//! One row of the index: an identity, its twin, the versions of their stored rows, and the live side.
//!
//! Entries are immutable and shared; only [`Live`] changes in place, because every message touches it. A row that nobody
//! wrote lately is kept packed, and an entry is made of it for whoever asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use hub_domain::id::TwinId;
use hub_domain::identity::Identity;
use hub_domain::session::StoredSession;
use hub_domain::time::Timestamp;
use hub_domain::twin::{Connection, PackedTwin, Twin, TwinDocument};

/// One device or module.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The registry's entry.
    pub identity: Arc<Identity>,
    /// The version of its stored row.
    pub identity_version: u64,
    /// The twin.
    pub twin: Arc<Twin>,
    /// The same packed.
    pub packed: PackedTwin,
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

/// A row as the index keeps it. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Slot {
    /// One of those that were written last.
    Open(Arc<Entry>),
    /// Any other.
    Packed(Arc<PackedEntry>),
}

/// An entry whose twin is packed.
#[derive(Debug)]
pub struct PackedEntry {
    pub(crate) identity: Arc<Identity>,
    pub(crate) identity_version: u64,
    pub(crate) twin: PackedTwin,
    pub(crate) twin_version: u64,
    pub(crate) live: Arc<Live>,
}

impl Slot {
    /// In few bytes.
    pub fn packed(entry: &Entry) -> Self {
        let Entry { identity, identity_version, twin: _, packed, twin_version, live } = entry;
        Slot::Packed(Arc::new(PackedEntry {
            identity: identity.clone(),
            identity_version: *identity_version,
            twin: packed.clone(),
            twin_version: *twin_version,
            live: live.clone(),
        }))
    }

    /// Whose.
    pub fn id(&self) -> &TwinId {
        match self {
            Slot::Open(entry) => &entry.identity.id,
            Slot::Packed(entry) => &entry.identity.id,
        }
    }

    /// The text of its [document](Entry::document), made without opening it.
    pub fn print(&self) -> String {
        match self {
            Slot::Open(entry) => entry.packed.print(&entry.identity, entry.live.connection()),
            Slot::Packed(packed) => packed.twin.print(&packed.identity, packed.live.connection()),
        }
    }

    /// The live side.
    pub fn live(&self) -> &Arc<Live> {
        match self {
            Slot::Open(entry) => &entry.live,
            Slot::Packed(entry) => &entry.live,
        }
    }

    /// The entry itself.
    pub fn open(&self) -> Arc<Entry> {
        match self {
            Slot::Open(entry) => entry.clone(),
            Slot::Packed(packed) => Arc::new(Entry {
                identity: packed.identity.clone(),
                identity_version: packed.identity_version,
                twin: Arc::new(packed.twin.open()),
                packed: packed.twin.clone(),
                twin_version: packed.twin_version,
                live: packed.live.clone(),
            }),
        }
    }

    /// Bytes that the twin takes, if it is packed.
    pub fn packed_bytes(&self) -> usize {
        match self {
            Slot::Open(_) => 0,
            Slot::Packed(packed) => packed.twin.bytes(),
        }
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
