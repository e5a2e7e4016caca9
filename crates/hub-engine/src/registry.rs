//! Identities of devices and modules: create, get, update, delete, list, keys, counts.

use std::sync::Arc;

use hub_domain::actor::Actor;
use hub_domain::event::{Event, EventKind, LifecycleBody, LifecycleStep};
use hub_domain::id::{DeviceId, ModuleId, TwinId};
use hub_domain::identity::{
    Authentication, AuthenticationSpec, Identity, IdentityError, IdentitySpec, Stamps, SymmetricKeys,
};
use hub_domain::limits::{DEVICE_LIST_MAX, MODULES_PER_DEVICE_MAX};
use hub_domain::link::CloseReason;
use hub_domain::rights::Rights;
use hub_domain::time::Timestamp;
use hub_domain::twin::{Connection, PackedTwin, Twin, TwinRecord, TwinUpdate, WriteMode};
use hub_domain::version::Precondition;
use hub_index::{Change, Entry, Source};

use crate::Hub;
use crate::access::Principal;
use crate::clock::{random_key, random_number_and_keys};
use crate::configurations::Touched;
use crate::error::{self, Error, Result};
use crate::transact::Txn;

/// The modules that every edge device has (S 2.1). The agent last: a deployment may have it ask for the others.
const EDGE_MODULES: [&str; 2] = ["$edgeHub", "$edgeAgent"];

/// An identity and what its session knows.
#[derive(Clone, Debug)]
pub struct IdentityView {
    /// The registry's entry.
    pub identity: Arc<Identity>,
    /// The live side.
    pub connection: Connection,
}

impl IdentityView {
    fn of(entry: &Entry) -> Self {
        Self { identity: entry.identity.clone(), connection: entry.live.connection() }
    }
}

/// Which of an identity's or policy's two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// The first.
    Primary,
    /// The second.
    Secondary,
    /// Both.
    Both,
}

impl KeyChoice {
    /// `keys` with the chosen ones new.
    pub(crate) fn renew(self, keys: &SymmetricKeys) -> SymmetricKeys {
        let mut renewed = keys.clone();
        if self != KeyChoice::Secondary {
            renewed.primary = random_key();
        }
        if self != KeyChoice::Primary {
            renewed.secondary = random_key();
        }
        renewed
    }
}

/// How many devices there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// All.
    pub devices: u64,
    /// Those that may use the hub.
    pub enabled: u64,
    /// Those that may not.
    pub disabled: u64,
}

impl From<IdentityError> for Error {
    fn from(error: IdentityError) -> Self {
        Error::Invalid(error.to_string())
    }
}

impl Hub {
    /// Registers a device or module, with an empty twin.
    pub async fn identity_create(
        &self,
        who: &Principal,
        id: TwinId,
        spec: IdentitySpec,
    ) -> Result<IdentityView> {
        who.must(Rights::REGISTRY_WRITE)?;
        self.create_with_twin(&who.actor(), &id, &spec, &TwinUpdate::default()).await
    }

    /// Registers a device or module with tags and desired properties, in one commit.
    pub(crate) async fn create_with_twin(
        &self,
        actor: &Actor,
        id: &TwinId,
        spec: &IdentitySpec,
        twin: &TwinUpdate,
    ) -> Result<IdentityView> {
        for mut txn in self.attempts_by(actor) {
            let identity = self.put_created(&mut txn, id, spec, twin, None)?;
            if txn.commit().await? {
                return Ok(IdentityView { identity, connection: Connection::NEVER });
            }
        }
        Err(Error::Contended(id.clone()))
    }

    /// Puts a new identity with its twin, and an edge device's modules.
    pub(crate) fn put_created(
        &self,
        txn: &mut Txn<'_>,
        id: &TwinId,
        spec: &IdentitySpec,
        twin: &TwinUpdate,
        record: Option<&TwinRecord>,
    ) -> Result<Arc<Identity>> {
        if self.index.get(id).is_some() {
            return Err(match id.is_module() {
                true => Error::ModuleExists(id.clone()),
                false => Error::DeviceExists(id.device.clone()),
            });
        }
        if id.is_module() {
            self.check_module_count(txn, &id.device)?;
        } else {
            txn.expect_free(&id.device)?;
        }
        let stamps = stamps(txn.now(), None);
        let identity = put_new(txn, id, spec, twin, record, &stamps)?;
        if identity.edge && !id.is_module() {
            self.put_edge_modules(txn, &id.device)?;
        }
        Ok(identity)
    }

    /// Registers the modules that each edge device has (S 2.1), as far as they are not there.
    fn put_edge_modules(&self, txn: &mut Txn<'_>, device: &DeviceId) -> Result<()> {
        for name in EDGE_MODULES {
            let module = ModuleId::parse(name).expect("the name of an edge module is valid");
            let id = TwinId::module(device.clone(), module);
            if self.index.get(&id).is_none() {
                self.check_module_room(txn, device)?;
                put_edge_module(txn, &id, &TwinUpdate::default())?;
            }
        }
        Ok(())
    }

    fn check_module_count(&self, txn: &mut Txn<'_>, device: &DeviceId) -> Result<()> {
        // Tied to the device's identity, so that it cannot be deleted under a new module.
        txn.identity_entry(&TwinId::device(device.clone()))?;
        self.check_module_room(txn, device)
    }

    /// Errs if one more module would be too many.
    pub(crate) fn check_module_room(&self, txn: &Txn<'_>, device: &DeviceId) -> Result<()> {
        // Those of the same commit count, too; none of them is in the index, or it would not have been created.
        let created = txn.changes().iter().filter(|change| match change {
            Change::Identity(identity) => {
                identity.id.is_module()
                    && identity.id.device == *device
                    && self.index.get(&identity.id).is_none()
            }
            _ => false,
        });
        let gone = txn
            .changes()
            .iter()
            .filter(|change| matches!(change, Change::Deleted(id) if id.is_module() && id.device == *device));
        match (self.index.modules_of(device).len() + created.count()).saturating_sub(gone.count()) {
            count if count >= MODULES_PER_DEVICE_MAX => Err(Error::TooManyModules(device.clone())),
            _ => Ok(()),
        }
    }

    /// Replaces what a caller may write of an identity. It must exist, and be at the version that he demands.
    pub async fn identity_update(
        &self,
        who: &Principal,
        id: &TwinId,
        spec: IdentitySpec,
        precondition: &Precondition,
    ) -> Result<IdentityView> {
        who.must(Rights::REGISTRY_WRITE)?;
        self.update_with_twin(&who.actor(), id, &spec, precondition, None).await
    }

    /// Replaces an identity and, if given, tags and desired properties of its twin, in one commit.
    pub(crate) async fn update_with_twin(
        &self,
        actor: &Actor,
        id: &TwinId,
        spec: &IdentitySpec,
        precondition: &Precondition,
        twin: Option<(&TwinUpdate, &Precondition)>,
    ) -> Result<IdentityView> {
        for mut txn in self.attempts_by(actor) {
            let (entry, identity) = self.put_updated(&mut txn, id, spec, precondition, twin)?;
            if txn.commit().await? {
                return Ok(IdentityView { identity, connection: entry.live.connection() });
            }
        }
        Err(Error::Contended(id.clone()))
    }

    /// Puts an identity's replacement and, if given, tags and desired properties of its twin.
    pub(crate) fn put_updated(
        &self,
        txn: &mut Txn<'_>,
        id: &TwinId,
        spec: &IdentitySpec,
        precondition: &Precondition,
        twin: Option<(&TwinUpdate, &Precondition)>,
    ) -> Result<(Arc<Entry>, Arc<Identity>)> {
        let entry = txn.identity_entry(id)?;
        if !precondition.holds(&entry.identity.etag()) {
            return Err(Error::PreconditionFailed);
        }
        let identity = spec.update(&entry.identity, &stamps(txn.now(), Some(entry.identity.etag_counter)))?;
        if let Some((update, demand)) = twin {
            self.put_twin_update(txn, id, update, WriteMode::Replace, demand)?;
        }
        let identity = self.put_changed(txn, &entry, identity);
        if identity.edge && !entry.identity.edge {
            self.put_edge_modules(txn, &id.device)?;
        }
        Ok((entry, identity))
    }

    /// Puts a changed identity; its commit ends the sessions that the change shuts out.
    pub(crate) fn put_changed(&self, txn: &mut Txn<'_>, entry: &Entry, identity: Identity) -> Arc<Identity> {
        let id = identity.id.clone();
        let reason = if identity.status != entry.identity.status {
            Some(CloseReason::Disabled).filter(|_| identity.status == hub_domain::identity::Status::Disabled)
        } else {
            Some(CloseReason::CredentialsChanged)
                .filter(|_| identity.authentication != entry.identity.authentication)
        };
        if let Some(reason) = reason {
            txn.end_session(&id, reason);
        }
        if reason == Some(CloseReason::Disabled) && !id.is_module() {
            for module in self.index.modules_of(&id.device) {
                txn.end_session(module.id(), CloseReason::Disabled);
            }
        }
        let identity = txn.put_identity(identity);
        txn.settle_owner(&id, Touched::Identity, None);
        identity
    }

    /// Reads an identity.
    pub fn identity_get(&self, who: &Principal, id: &TwinId) -> Result<IdentityView> {
        who.must(Rights::REGISTRY_READ)?;
        self.require_device(id)?;
        self.index.get(id).map(|entry| IdentityView::of(&entry)).ok_or_else(|| error::not_found(id))
    }

    /// Errs if `id` is a module of a device that does not exist.
    pub(crate) fn require_device(&self, id: &TwinId) -> Result<()> {
        let device = TwinId::device(id.device.clone());
        if id.is_module() && self.index.get(&device).is_none() {
            return Err(error::not_found(&device));
        }
        Ok(())
    }

    /// Deletes an identity with its twin, its session and, for a device, its modules. Ends its connections.
    pub async fn identity_delete(
        &self,
        who: &Principal,
        id: &TwinId,
        precondition: &Precondition,
    ) -> Result<()> {
        who.must(Rights::REGISTRY_WRITE)?;
        self.delete(&who.actor(), id, precondition).await
    }

    pub(crate) async fn delete(&self, actor: &Actor, id: &TwinId, precondition: &Precondition) -> Result<()> {
        self.require_device(id)?;
        for mut txn in self.attempts_by(actor) {
            self.put_deleted(&mut txn, id, precondition)?;
            if txn.commit().await? {
                return Ok(());
            }
        }
        Err(Error::Contended(id.clone()))
    }

    /// Takes away an identity and, for a device, its modules.
    pub(crate) fn put_deleted(
        &self,
        txn: &mut Txn<'_>,
        id: &TwinId,
        precondition: &Precondition,
    ) -> Result<()> {
        let entry = txn.identity_entry(id)?;
        if !precondition.holds(&entry.identity.etag()) {
            return Err(Error::PreconditionFailed);
        }
        let modules = if id.is_module() { Vec::new() } else { self.index.modules_of(&id.device) };
        for module in &modules {
            txn.identity_entry(module.id())?;
        }
        for gone in modules.iter().chain([&entry]) {
            let body = LifecycleBody::Twin(gone.packed.clone());
            lifecycle_event(txn, gone.id(), LifecycleStep::Deleted, body);
            txn.delete(gone.id());
        }
        Ok(())
    }

    /// Devices in the order of their ids, at most `limit` and at most a thousand.
    pub fn device_list(&self, who: &Principal, limit: usize) -> Result<Vec<IdentityView>> {
        who.must(Rights::REGISTRY_READ)?;
        let entries = self.index.scan(Source::Devices, None, limit.min(DEVICE_LIST_MAX));
        Ok(entries.iter().map(|entry| IdentityView::of(entry)).collect())
    }

    /// The modules of a device.
    pub fn module_list(&self, who: &Principal, device: &DeviceId) -> Result<Vec<IdentityView>> {
        who.must(Rights::REGISTRY_READ)?;
        let id = TwinId::device(device.clone());
        self.index.get(&id).ok_or_else(|| error::not_found(&id))?;
        Ok(self.index.modules_of(device).iter().map(|entry| IdentityView::of(entry)).collect())
    }

    /// Makes new keys for many identities; each stands for itself.
    pub async fn keys_regenerate(
        &self,
        who: &Principal,
        ids: Vec<TwinId>,
        choice: KeyChoice,
    ) -> Result<Vec<(TwinId, Result<IdentityView>)>> {
        who.must(Rights::REGISTRY_WRITE)?;
        if ids.len() > hub_domain::limits::BULK_DEVICES_MAX {
            return Err(Error::TooManyDevices(ids.len()));
        }
        let actor = &who.actor();
        let each = ids.into_iter().map(|id| async move {
            let renewed = self.renew_keys(actor, &id, choice).await;
            (id, renewed)
        });
        Ok(futures_util::future::join_all(each).await)
    }

    async fn renew_keys(&self, actor: &Actor, id: &TwinId, choice: KeyChoice) -> Result<IdentityView> {
        self.require_device(id)?;
        for mut txn in self.attempts_by(actor) {
            let entry = txn.identity_entry(id)?;
            let keys =
                entry.identity.authentication.keys().ok_or_else(|| {
                    Error::Invalid(format!("'{id}' does not authenticate with symmetric keys"))
                })?;
            let stamps = stamps(txn.now(), Some(entry.identity.etag_counter));
            let identity = Identity {
                authentication: Authentication::Sas(choice.renew(keys)),
                etag_counter: stamps.etag_counter,
                ..Identity::clone(&entry.identity)
            };
            let identity = self.put_changed(&mut txn, &entry, identity);
            if txn.commit().await? {
                return Ok(IdentityView { identity, connection: entry.live.connection() });
            }
        }
        Err(Error::Contended(id.clone()))
    }

    /// How many devices there are; does not depend on how many.
    pub fn statistics(&self, who: &Principal) -> Result<Statistics> {
        who.must(Rights::REGISTRY_READ)?;
        let counts = self.index.counts();
        Ok(Statistics {
            devices: counts.devices,
            enabled: counts.enabled,
            disabled: counts.devices - counts.enabled,
        })
    }
}

/// What the hub adds to a written identity. The number in the etag differs from the present one.
pub(crate) fn stamps(now: Timestamp, current: Option<u64>) -> Stamps {
    let (random, fresh_keys) = random_number_and_keys();
    let random = u64::from(random);
    let etag_counter = if Some(random) == current { random + 1 } else { random };
    Stamps { now, etag_counter, fresh_keys }
}

fn put_new(
    txn: &mut Txn<'_>,
    id: &TwinId,
    spec: &IdentitySpec,
    update: &TwinUpdate,
    record: Option<&TwinRecord>,
    stamps: &Stamps,
) -> Result<Arc<Identity>> {
    let identity = spec.create(id.clone(), stamps)?;
    let mut twin = Twin::new(stamps.now);
    if *update != TwinUpdate::default() {
        twin = twin.updated(update, WriteMode::Replace, stamps.now)?;
    }
    if let Some(record) = record {
        twin = twin.recorded(record)?;
    }
    if update.desired.is_some() {
        twin = twin.written_by(txn.actor().clone());
    }
    txn.expect_absent(id);
    // Once for its row, the event and the index.
    let packed = PackedTwin::new(&twin);
    lifecycle_event(txn, id, LifecycleStep::Created, LifecycleBody::Twin(packed.clone()));
    let identity = txn.put_identity(identity);
    txn.put_packed_twin(id, twin, packed, Touched::All);
    Ok(identity)
}

/// Who looks after the modules that come with an edge deployment (S 2.1).
pub(crate) const EDGE_RUNTIME: &str = "iotEdge";

/// Registers a module that the edge runtime looks after: it also gives it its credentials (S 2.1).
pub(crate) fn put_edge_module(txn: &mut Txn<'_>, id: &TwinId, update: &TwinUpdate) -> Result<()> {
    let spec = IdentitySpec {
        managed_by: Some(EDGE_RUNTIME.into()),
        authentication: AuthenticationSpec { kind: Some("none".into()), ..AuthenticationSpec::default() },
        ..IdentitySpec::default()
    };
    let stamps = stamps(txn.now(), None);
    put_new(txn, id, &spec, update, None, &stamps).map(drop)
}

/// Tells of a step in the life of an identity.
pub(crate) fn lifecycle_event(txn: &mut Txn<'_>, id: &TwinId, step: LifecycleStep, body: LifecycleBody) {
    let kind = EventKind::Lifecycle { step, body, actor: Some(txn.actor().clone()) };
    let event = Event { time: txn.now(), id: id.clone(), kind };
    txn.event(&event);
}
