//! Which ids are retired, in memory, so that creating a device asks no store; and whose time is over.
//! Changed by the applier alone, in the order of commits.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use hub_domain::id::DeviceId;
use hub_domain::retirement::{Retirement, RetirementState};
use hub_domain::time::Timestamp;
use hub_store::{Commit, PageLen, Store, keys, tables};
use tokio::sync::Notify;

use crate::error::{Error, Result};

/// What is known of a retired device without reading its record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tombstone {
    at: Timestamp,
    restorable_until: Timestamp,
    pub(crate) state: RetirementState,
    /// Of the record's row.
    pub(crate) version: Commit,
}

impl Tombstone {
    fn of(retirement: &Retirement, version: Commit) -> Self {
        let Retirement { at, restorable_until, .. } = *retirement;
        Self { at, restorable_until, state: retirement.state(), version }
    }

    /// Whether the id may not be used.
    pub(crate) fn is_in_force(&self) -> bool {
        self.state != RetirementState::Released
    }

    fn is_to_be_erased(&self) -> bool {
        matches!(self.state, RetirementState::Restorable | RetirementState::Erasing)
    }

    /// For whoever wants to use the id.
    pub(crate) fn error(&self, device: &DeviceId) -> Error {
        Error::Retired {
            device: device.clone(),
            since: self.at,
            restorable_until: Some(self.restorable_until)
                .filter(|_| self.state == RetirementState::Restorable),
        }
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Tombstones {
    state: RwLock<State>,
    /// Tells whoever erases that there is something to do before its time.
    pub(crate) poke: Notify,
}

#[derive(Default)]
struct State {
    all: HashMap<DeviceId, Tombstone>,
    /// Those that are to be erased, by the time from which on.
    waiting: BTreeSet<(Timestamp, DeviceId)>,
}

impl State {
    fn insert(&mut self, device: &DeviceId, tombstone: Tombstone) {
        self.remove(device);
        if tombstone.is_to_be_erased() {
            self.waiting.insert((tombstone.restorable_until, device.clone()));
        }
        self.all.insert(device.clone(), tombstone);
    }

    fn remove(&mut self, device: &DeviceId) {
        if let Some(former) = self.all.remove(device) {
            self.waiting.remove(&(former.restorable_until, device.clone()));
        }
    }
}

impl Tombstones {
    /// As the store has them.
    pub(crate) async fn load(store: &dyn Store) -> Result<Self> {
        let mut state = State::default();
        let mut rest = Some(keys::retired());
        while let Some(range) = rest {
            let page = tables::retired::page(store, range, PageLen::MAX).await?;
            for (retirement, version) in page.entries {
                state.insert(&retirement.device, Tombstone::of(&retirement, version));
            }
            rest = page.rest;
        }
        Ok(Self { state: RwLock::new(state), poke: Notify::new() })
    }

    /// What is known of `device`, if it is or was retired.
    pub(crate) fn get(&self, device: &DeviceId) -> Option<Tombstone> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).all.get(device).copied()
    }

    /// Up to `most` devices that are to be erased by now.
    pub(crate) fn due(&self, now: Timestamp, most: usize) -> Vec<DeviceId> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let due = state.waiting.iter().take_while(|(at, _)| *at <= now).take(most);
        due.map(|(_, device)| device.clone()).collect()
    }

    /// Takes over what the commit with this number wrote.
    pub(crate) fn show(&self, number: u64, device: &DeviceId, retirement: Option<&Retirement>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match retirement {
            Some(retirement) => state.insert(device, Tombstone::of(retirement, Commit(number))),
            None => state.remove(device),
        }
    }
}
