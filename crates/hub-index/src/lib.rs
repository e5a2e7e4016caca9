//! All twins in memory, with what the registry and the sessions know of them: what queries look at.
//!
//! A data structure: it applies changes and answers scans. It never knows the store, a clock or a task.
//! This first version keeps whole twins and is scanned twin by twin; columns come behind the same interface.
//! Its one lock is held for map operations only, never while a query is evaluated.

mod entry;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hub_domain::id::{ConfigurationId, DeviceId, TwinId};
use hub_domain::identity::{Identity, Status};
use hub_domain::session::StoredSession;
use hub_domain::twin::{ConfigurationStatus, Twin};

pub use entry::{Entry, Live};

/// One step of the index, made by one commit.
#[derive(Clone, Debug)]
pub enum Change {
    /// An identity was created or changed; a created one comes with its twin in the same commit.
    Identity(Arc<Identity>),
    /// A twin was created or changed.
    Twin(TwinId, Arc<Twin>),
    /// An identity is gone, and its twin with it.
    Deleted(TwinId),
}

/// How many identities there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Devices.
    pub devices: u64,
    /// Devices that are enabled.
    pub enabled: u64,
    /// Modules.
    pub modules: u64,
}

/// Which rows a scan goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `devices`.
    Devices,
    /// `devices.modules`.
    Modules,
}

/// The index. Shared by reference; every method is short.
#[derive(Debug, Default)]
pub struct Index {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    devices: BTreeMap<TwinId, Arc<Entry>>,
    modules: BTreeMap<TwinId, Arc<Entry>>,
    counts: Counts,
    /// How the configurations fare that any twin lists.
    fares: HashMap<ConfigurationId, Fares>,
}

/// Twins by how a configuration fares there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fares {
    /// All of its settings lost.
    pub targeted: u64,
    /// Some of its settings are in force.
    pub applied: u64,
}

impl State {
    fn map(&mut self, id: &TwinId) -> &mut BTreeMap<TwinId, Arc<Entry>> {
        if id.is_module() { &mut self.modules } else { &mut self.devices }
    }

    fn count(&mut self, entry: &Entry, by: i64) {
        let add = |counter: &mut u64| *counter = counter.wrapping_add_signed(by);
        for (id, status) in &entry.twin.configurations {
            let fares = self.fares.entry(id.clone()).or_default();
            match status {
                ConfigurationStatus::Targeted => add(&mut fares.targeted),
                ConfigurationStatus::Applied => add(&mut fares.applied),
            }
            if *fares == Fares::default() {
                self.fares.remove(id);
            }
        }
        if entry.id().is_module() {
            add(&mut self.counts.modules);
            return;
        }
        add(&mut self.counts.devices);
        if entry.identity.status == Status::Enabled {
            add(&mut self.counts.enabled);
        }
    }

    fn insert(&mut self, entry: Entry) {
        self.count(&entry, 1);
        if let Some(former) = self.map(entry.id()).insert(entry.id().clone(), Arc::new(entry)) {
            self.count(&former, -1);
        }
    }
}

impl Index {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in what the store held at start: one identity with its twin and, if there is one, its session.
    pub fn load(
        &self,
        identity: Identity,
        identity_version: u64,
        twin: Twin,
        twin_version: u64,
        session: Option<&StoredSession>,
    ) {
        let live = Arc::new(Live::new(session));
        self.write().insert(Entry {
            identity: Arc::new(identity),
            identity_version,
            twin: Arc::new(twin),
            twin_version,
            live,
        });
    }

    /// Applies the changes of one commit, whose number is `version`. The caller keeps the order of commits.
    pub fn apply(&self, version: u64, changes: &[Change]) {
        let mut state = self.write();
        let mut created: Option<Arc<Identity>> = None;
        for change in changes {
            match change {
                Change::Identity(identity) => match state.map(&identity.id).get(&identity.id).cloned() {
                    Some(entry) => {
                        state.insert(Entry {
                            identity: identity.clone(),
                            identity_version: version,
                            ..Entry::clone(&entry)
                        });
                    }
                    None => created = Some(identity.clone()),
                },
                Change::Twin(id, twin) => {
                    let known = state.map(id).get(id).cloned();
                    let entry = match (known, created.take()) {
                        (Some(entry), _) => {
                            Entry { twin: twin.clone(), twin_version: version, ..Entry::clone(&entry) }
                        }
                        (None, Some(identity)) => Entry {
                            identity,
                            identity_version: version,
                            twin: twin.clone(),
                            twin_version: version,
                            live: Arc::new(Live::new(None)),
                        },
                        (None, None) => continue,
                    };
                    state.insert(entry);
                }
                Change::Deleted(id) => {
                    if let Some(former) = state.map(id).remove(id) {
                        state.count(&former, -1);
                    }
                }
            }
        }
    }

    /// The entry of `id`.
    pub fn get(&self, id: &TwinId) -> Option<Arc<Entry>> {
        let state = self.read();
        let map = if id.is_module() { &state.modules } else { &state.devices };
        map.get(id).cloned()
    }

    /// Up to `limit` entries in the order of their ids, after `after`.
    pub fn scan(&self, source: Source, after: Option<&TwinId>, limit: usize) -> Vec<Arc<Entry>> {
        let state = self.read();
        let map = match source {
            Source::Devices => &state.devices,
            Source::Modules => &state.modules,
        };
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        map.range::<TwinId, _>((start, Bound::Unbounded))
            .take(limit)
            .map(|(_, entry)| entry.clone())
            .collect()
    }

    /// The modules of a device, in the order of their ids.
    pub fn modules_of(&self, device: &DeviceId) -> Vec<Arc<Entry>> {
        let state = self.read();
        let first = TwinId::device(device.clone());
        state
            .modules
            .range(first..)
            .take_while(|(id, _)| id.device == *device)
            .map(|(_, entry)| entry.clone())
            .collect()
    }

    /// How a configuration fares, over all twins.
    pub fn configuration_counts(&self, id: &ConfigurationId) -> Fares {
        self.read().fares.get(id).copied().unwrap_or_default()
    }

    /// How many identities there are.
    pub fn counts(&self) -> Counts {
        self.read().counts
    }
}

#[cfg(test)]
mod tests;
