//! One command, one batch: load, decide, put, commit. If somebody else changed the same thing meanwhile, look again.
//!
//! Identities and twins are read from the index, which holds them as the newest commit left them; their versions
//! become the batch's expectations. Nothing is sent or shown to anybody before the commit is durable.

use std::sync::Arc;

use hub_domain::actor::Actor;
use hub_domain::configuration::Configuration;
use hub_domain::event::Event;
use hub_domain::id::{ConfigurationId, DeviceId, TwinId};
use hub_domain::identity::Identity;
use hub_domain::json::Object;
use hub_domain::link::CloseReason;
use hub_domain::retirement::Retirement;
use hub_domain::session::StoredSession;
use hub_domain::time::Timestamp;
use hub_domain::twin::{Connection, PackedTwin, Twin};
use hub_index::{Change, Entry};
use hub_store::Commit;
use hub_store::txn::Txn as StoreTxn;

use crate::applier::Effects;
use crate::config::COMMIT_ATTEMPTS_MAX;
use crate::configurations::{CONFIGURATIONS_EPOCH, ConfigurationSet};
use crate::error::Result;
use crate::{Hub, error};

/// One try at a command's batch.
pub(crate) struct Txn<'h> {
    pub(crate) hub: &'h Hub,
    now: Timestamp,
    actor: Actor,
    rows: StoreTxn,
    effects: Effects,
    configurations: Option<Arc<ConfigurationSet>>,
    /// The live side of the one twin of which it changes with this commit.
    pub(crate) connection: Option<(TwinId, Connection)>,
}

impl Hub {
    /// Bounded tries by the hub itself, each with a clean transaction. A command that runs out of them answers
    /// [`Error::Contended`].
    pub(crate) fn attempts(&self) -> impl Iterator<Item = Txn<'_>> {
        self.attempts_by(&Actor::Hub)
    }

    /// The same by somebody, whom the events name.
    pub(crate) fn attempts_by(&self, actor: &Actor) -> impl Iterator<Item = Txn<'_>> {
        (0..COMMIT_ATTEMPTS_MAX).map(|_| Txn {
            hub: self,
            now: self.clock.now(),
            actor: actor.clone(),
            rows: StoreTxn::new(self.store.clone()),
            effects: Effects::default(),
            configurations: None,
            connection: None,
        })
    }
}

impl Txn<'_> {
    /// The one present of this try.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Who makes this try.
    pub(crate) fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Direct access to rows that have no command of their own here.
    pub(crate) fn rows(&mut self) -> &mut StoreTxn {
        &mut self.rows
    }

    /// The entry of `id` as it is now. The commit fails if its identity changes before.
    pub(crate) fn identity_entry(&mut self, id: &TwinId) -> Result<Arc<Entry>> {
        let entry = self.hub.index.get(id).ok_or_else(|| error::not_found(id))?;
        self.rows.expect_identity(id, Some(Commit(entry.identity_version)));
        Ok(entry)
    }

    /// The entry of `id` as it is now. The commit fails if its twin changes before.
    pub(crate) fn twin_entry(&mut self, id: &TwinId) -> Result<Arc<Entry>> {
        let entry = self.hub.index.get(id).ok_or_else(|| error::not_found(id))?;
        self.rows.expect_twin(id, Commit(entry.twin_version));
        Ok(entry)
    }

    /// Writes the record of a retired device.
    pub(crate) fn put_retirement(&mut self, retirement: &Retirement) {
        self.rows.put_retirement(retirement);
        self.effects.retirements.push((retirement.device.clone(), Some(retirement.clone())));
    }

    /// Removes the record of a device that is retired no more.
    pub(crate) fn delete_retirement(&mut self, device: &DeviceId) {
        self.rows.delete_retirement(device);
        self.effects.retirements.push((device.clone(), None));
    }

    /// The identity of `id` as this try has it, if it writes it.
    pub(crate) fn put_so_far(&self, id: &TwinId) -> Option<Arc<Identity>> {
        self.effects.changes.iter().rev().find_map(|change| match change {
            Change::Identity(identity) if identity.id == *id => Some(identity.clone()),
            _ => None,
        })
    }

    /// Makes the commit fail if `id` exists.
    pub(crate) fn expect_absent(&mut self, id: &TwinId) {
        self.rows.expect_identity(id, None);
    }

    /// Writes an identity.
    pub(crate) fn put_identity(&mut self, identity: Identity) -> Arc<Identity> {
        self.rows.put_identity(&identity);
        let identity = Arc::new(identity);
        self.effects.changes.push(Change::Identity(identity.clone()));
        identity
    }

    /// The configurations by which this try decides. The commit fails if any is written before.
    pub(crate) fn configurations(&mut self) -> Arc<ConfigurationSet> {
        if let Some(set) = &self.configurations {
            return set.clone();
        }
        let set = self.hub.configurations.current();
        self.rows.expect_meta(CONFIGURATIONS_EPOCH, Some(set.epoch).filter(|epoch| *epoch > 0).map(Commit));
        self.configurations.insert(set).clone()
    }

    /// Writes a configuration, or removes it if there is none.
    pub(crate) fn put_configuration(
        &mut self,
        id: &ConfigurationId,
        configuration: Option<Arc<Configuration>>,
    ) {
        self.configurations();
        match &configuration {
            Some(configuration) => self.rows.put_configuration(configuration),
            None => self.rows.delete_configuration(id),
        }
        self.rows.put_meta(CONFIGURATIONS_EPOCH, "");
        self.effects.configuration = Some((id.clone(), configuration));
    }

    /// What this try changes so far.
    pub(crate) fn changes(&self) -> &[Change] {
        &self.effects.changes
    }

    /// Writes a twin as it is, which is also given packed; [`Txn::put_twin`] is for everybody else.
    pub(crate) fn put_settled_twin(&mut self, id: &TwinId, twin: Twin, packed: PackedTwin) -> Arc<Twin> {
        let twin = Arc::new(twin);
        self.rows.put_twin(id, &packed);
        self.effects.changes.push(Change::Twin(id.clone(), twin.clone(), packed));
        twin
    }

    /// Takes away an identity with everything that is its own.
    pub(crate) fn delete(&mut self, id: &TwinId) {
        self.rows.delete_identity(id);
        self.rows.delete_twin(id);
        self.rows.delete_session(id);
        self.effects.changes.push(Change::Deleted(id.clone()));
        self.end_session(id, CloseReason::Deleted);
    }

    /// The stored session of `id`; the commit fails if it changes before.
    pub(crate) async fn session(&mut self, id: &TwinId) -> Result<Option<StoredSession>> {
        Ok(self.rows.session(id).await?)
    }

    /// Writes a session.
    pub(crate) fn put_session(&mut self, id: &TwinId, session: &StoredSession) {
        self.rows.put_session(id, session);
    }

    /// Notes a fact that becomes true with this commit.
    pub(crate) fn event(&mut self, event: &Event) {
        self.rows.append_event(event);
    }

    /// After the commit, tells the device that its desired properties changed.
    pub(crate) fn tell_desired(&mut self, id: &TwinId, patch: Arc<Object>, version: u64) {
        self.effects.desired.push((id.clone(), patch, version));
    }

    /// After the commit, ends the session of `id`, if there is one.
    pub(crate) fn end_session(&mut self, id: &TwinId, reason: CloseReason) {
        self.effects.ended.push((id.clone(), reason));
    }

    /// Makes it durable, then visible. `false`: somebody else was first, look again.
    pub(crate) async fn commit(self) -> Result<bool> {
        let Txn { hub, rows, effects, .. } = self;
        hub.commits.carry_out(rows, effects).await
    }
}
